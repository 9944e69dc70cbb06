// Sliders under the question of a player. Stands behind player.js, whose render() draws everything else.
//
//   frame.knobs = [{ name, label, least, most, step, value, words, waits }]      kernel --> page
//   { do: "turn", knob, to }                                                    page --> kernel
//
// A knob that waits is sent when it is let go; the others at every move, but one at a time.

function renderWithKnobs({ model, el }) {
  const close = render({ model, el });
  const root = el.querySelector(".vl");
  const box = document.createElement("div");
  box.className = "vl-knobs";
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", "Sliders");
  root.querySelector(".vl-stage").before(box);
  let names = "", turning = null, next = null, held = false;

  function send(knob, to) {
    if (turning) { next = [knob, to]; return; }
    turning = knob;
    model.send({ do: "turn", knob, to, id: "turn" });
  }

  function heard(message) {
    if (message.done !== "turn") return;
    turning = null;
    if (next) { const [knob, to] = next; next = null; send(knob, to); } else draw();
  }

  function build(knobs) {
    box.replaceChildren(...knobs.map((knob, at) => {
      const label = document.createElement("label");
      label.className = "vl-knob";
      label.innerHTML = `<span class="soft"></span><input type="range"><output></output>`;
      const [name, input, words] = label.children;
      input.min = knob.least; input.max = knob.most; input.step = knob.step;
      name.textContent = knob.label;
      input.addEventListener("input", () => { held = true; if (!knob.waits) send(knob.name, Number(input.value)); else words.textContent = input.value; });
      input.addEventListener("change", () => { held = false; send(knob.name, Number(input.value)); });
      input.addEventListener("blur", () => { held = false; });
      // Arrows turn this knob; they step the player only elsewhere.
      input.addEventListener("keydown", (event) => {
        if (event.key === "Escape") root.querySelector(".vl-slider").focus();
        else if (!/^(Arrow|Home|End|Page)/.test(event.key)) return;
        event.stopPropagation();
      });
      input.dataset.at = at;
      return label;
    }));
  }

  function draw() {
    const knobs = model.get("frame").knobs ?? [];
    box.hidden = knobs.length === 0;
    const now = JSON.stringify(knobs.map((knob) => [knob.name, knob.label, knob.least, knob.most, knob.step, knob.waits]));
    if (now !== names) { build(knobs); names = now; held = false; }
    knobs.forEach((knob, at) => {
      const [, input, words] = box.children[at].children;
      const here = document.activeElement === input && (held || turning !== null || next !== null);
      if (!here) input.value = knob.value;
      if (!(here && knob.waits)) words.textContent = knob.words;
      input.setAttribute("aria-valuetext", knob.words);
    });
  }

  model.on("change:frame", draw);
  model.on("msg:custom", heard);
  draw();
  return () => {
    model.off("change:frame", draw);
    model.off("msg:custom", heard);
    close();
  };
}

export default { render: renderWithKnobs };
