// A capture's fields that can be pressed, and its file to be saved. Stands behind player.js.
//
//   frame.file = { name, words, url }      a data: URL: the bytes are in the page already

function renderCapture({ model, el }) {
  const close = render({ model, el });
  const root = el.querySelector(".vl");
  const stage = root.querySelector(".vl-stage");
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

  stage.addEventListener("click", (event) => {
    const field = event.target.closest("[data-row]");
    if (!field) return;
    stage.focus();
    for (const each of stage.querySelectorAll("[data-row]")) each.classList.toggle("cursor", each === field);
  });

  model.on("change:frame", draw);
  draw();
  return () => {
    model.off("change:frame", draw);
    close();
  };
}

export default { render: renderCapture };
