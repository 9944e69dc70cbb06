// The console of a guest that runs in the kernel of this notebook. The page sends what is typed; the rest comes as text.

function render({ model, el }) {
  const root = document.createElement("section");
  root.className = "vl vl-live";
  root.setAttribute("role", "region");
  root.setAttribute("aria-label", model.get("question"));
  root.setAttribute("data-lm-suppress-shortcuts", "true");
  root.tabIndex = -1;
  root.innerHTML = `<h2></h2><p class="vl-note"></p>
    <div class="vl-bar"><label>under <select aria-label="Engine"></select></label>
      <button class="vl-btn primary" data-do="start">Switch on</button>
      <button class="vl-btn" data-do="stop">Pause</button><span class="vl-when" aria-live="off"></span></div>
    <pre class="vl-screen" role="log" aria-label="Serial console" aria-live="off" tabindex="0"></pre>
    <label class="vl-type"><span class="soft">type</span><input type="text" aria-label="A line for the guest"
      autocomplete="off" autocapitalize="off" spellcheck="false"></label>
    <p class="vl-say"></p><div class="vl-sr" aria-live="polite"></div>
    <div class="vl-figures vl-panels" data-count="2"></div>`;
  el.append(root);
  const $ = (what) => root.querySelector(what);
  const [screen, input, engine, start, stop] = [$(".vl-screen"), $("input"), $("select"), $("[data-do=start]"), $("[data-do=stop]")];
  const put = (node, html) => { if (node.vlLast !== html) { node.vlLast = html; node.innerHTML = html; } };
  let spoken = "", lastEngine = "";

  for (const [value, name] of model.get("engines")) engine.add(new Option(name, value));

  function draw() {
    const frame = model.get("frame");
    put($("h2"), model.get("heading"));
    put($(".vl-note"), frame.note);
    const atEnd = screen.scrollTop + screen.clientHeight >= screen.scrollHeight - 4;
    if (screen.textContent !== frame.screen) {
      screen.textContent = frame.screen;
      if (atEnd || frame.fresh) screen.scrollTop = screen.scrollHeight;
    }
    put($(".vl-when"), frame.when);
    put($(".vl-say"), frame.say);
    put($(".vl-figures"), frame.figures);
    $(".vl-figures").hidden = !frame.figures;
    if (frame.engine !== lastEngine || frame.state === "running") engine.value = lastEngine = frame.engine;
    engine.disabled = frame.state === "running";
    const anew = frame.state !== "off" && engine.value !== frame.engine;
    start.textContent = anew ? "Switch on anew" : frame.button;
    start.disabled = (frame.state === "running" || frame.state === "waiting") && engine.value === frame.engine;
    stop.disabled = frame.state !== "running";
    for (const button of [start, stop]) button.setAttribute("aria-disabled", button.disabled);
    input.disabled = frame.state === "off" || frame.state === "ended";
    root.dataset.state = frame.state;
    if (frame.state !== "running" && frame.twin !== spoken) {
      spoken = frame.twin;
      $("[aria-live=polite]").textContent = frame.twin;
    }
  }

  engine.addEventListener("change", draw);
  start.addEventListener("click", () => model.send({ do: "start", engine: engine.value }));
  stop.addEventListener("click", () => model.send({ do: "stop" }));
  input.addEventListener("keydown", (event) => {
    event.stopPropagation();
    if (event.key !== "Enter") return;
    event.preventDefault();
    model.send({ do: "type", line: input.value });
    input.value = "";
  });
  root.addEventListener("keydown", (event) => {
    if ((event.key !== "l" && event.key !== "L") || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("select")) return;
    event.stopPropagation();
    event.preventDefault();
    root.dataset.vlMode = root.dataset.vlMode === "lecture" ? "" : "lecture";
  });
  model.on("change:frame", draw);
  draw();
}

export default { render };
