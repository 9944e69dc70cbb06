// A capture as a file to be saved. Stands behind player.js.
//
//   frame.file = { name, words, url }      a data: URL: the bytes are in the page already

function renderCapture({ model, el }) {
  const close = render({ model, el });
  const root = el.querySelector(".vl");
  const save = document.createElement("p");
  save.className = "cap-save";
  save.innerHTML = `<a></a> <span class="soft">opens in Wireshark and tcpdump</span>`;
  root.querySelector(".vl-panels").after(save);

  function draw() {
    const file = model.get("frame").file;
    save.hidden = !file;
    if (!file) return;
    const link = save.firstElementChild;
    if (link.download !== file.name || link.textContent !== `Save ${file.words}`) {
      link.href = file.url;
      link.download = file.name;
      link.textContent = `Save ${file.words}`;
    }
  }

  model.on("change:frame", draw);
  draw();
  return () => {
    model.off("change:frame", draw);
    close();
  };
}

export default { render: renderCapture };
