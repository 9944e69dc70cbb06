// The lesson player: question, stage, slider, transport, text twin, panels. Plain DOM and SVG, nothing to build.
//
//   kernel --- frame (trait) ---> draw()          a frame is one moment; the page holds nothing of what comes after it
//   kernel <-- {do, ...} (message) --- wish()     one wish is under way at a time, so that keys never overtake the model
//
// The kernel draws the picture (vilab/view/*.py); this module moves the playhead, keeps the focus and hears the keys.

const SPEEDS = [[0.5, 1800], [1, 900], [2, 450], [4, 220]];   // times, milliseconds a step
const PATIENCE = 400;                                         // milliseconds until waiting is worth a word
const ICONS = {
  back: "M9 1v10L2 6zM0 1h2v10H0z", step: "M3 1v10l7-5zM10 1h2v10h-2z", play: "M2 0v12l10-6z", pause: "M1 1h4v10H1zM7 1h4v10H7z",
};
const icon = (name) => `<svg viewBox="0 0 12 12" aria-hidden="true"><path d="${ICONS[name]}"/></svg>`;

const SKELETON = `
<h2></h2>
<form class="vl-form" hidden>
  <label class="vl-field"><span>x86, one instruction a line</span><textarea spellcheck="false" autocomplete="off" autocapitalize="off" aria-describedby=""></textarea></label>
  <div class="vl-run"><label class="vl-field"><span>engine</span><select></select></label><button class="vl-btn" type="submit">Run</button></div>
  <p class="vl-wrong" role="alert"></p>
</form>
<figure class="vl-stage" tabindex="-1">
  <svg role="img"><g class="vl-under"></g><g class="vl-ph"><path class="playhead"/></g><g class="vl-over"></g></svg>
  <div class="vl-table"></div>
</figure>
<div class="vl-slider" role="slider" tabindex="0" aria-label="Time" aria-valuemin="0">
  <svg viewBox="0 0 912 36" aria-hidden="true"><g class="vl-line"></g><path class="done"/><g class="vl-ph"><circle class="knob" cy="24" r="9"/></g></svg>
</div>
<div class="vl-transport">
  <div class="vl-deck">
    <div class="vl-btns" role="toolbar" aria-label="Transport">
      <button class="vl-btn" data-do="back" aria-label="Back (left arrow)">${icon("back")}</button>
      <button class="vl-btn primary" data-do="step"></button>
      <button class="vl-btn play" data-do="play"></button>
      <button class="vl-btn speed" data-do="speed"></button>
    </div>
    <div class="vl-when"></div>
  </div>
  <div class="vl-words">
    <div class="vl-wait" role="status" hidden><b></b><span></span><progress></progress><span class="soft"></span><button class="vl-btn" data-do="stop">Stop</button></div>
    <p class="vl-say"></p><div class="vl-slot"></div>
  </div>
</div>
<div class="vl-panels"></div>
<div class="vl-sr" aria-live="polite"></div>
<span class="vl-end" tabindex="-1"></span>`;

function render({ model, el }) {
  const root = document.createElement("section");
  root.className = "vl";
  root.setAttribute("role", "region");
  root.setAttribute("data-lm-suppress-shortcuts", "true");
  root.tabIndex = -1;
  root.innerHTML = SKELETON;
  el.append(root);
  const $ = (selector) => root.querySelector(selector);
  const [stage, picture, under, over, table] = [".vl-stage", ".vl-stage > svg", ".vl-under", ".vl-over", ".vl-table"].map($);
  const [slider, say, slot, panels, live, wait] = [".vl-slider", ".vl-say", ".vl-slot", ".vl-panels", "[aria-live]", ".vl-wait"].map($);
  const [backButton, stepButton, playButton, speedButton] = ["back", "step", "play", "speed"].map((what) => $(`[data-do=${what}]`));
  const deck = $(".vl-btns");
  const put = (node, html) => { if (node.__html !== html) { node.innerHTML = node.__html = html; return true; } return false; };
  const heads = root.querySelectorAll(".vl-ph");

  // A picture that the page draws itself (memory_grid.js), where that module stands above this one.
  const grid = typeof memoryGrid === "function" ? memoryGrid({ root, stage, wish: (message) => wish(message), announce: (words) => announce(words), leave: () => slider.focus() }) : null;

  let frame = model.get("frame");
  let shown = null;        // the frame on the page
  let choice = -1;         // of the card that is open
  let cursor = 0;          // row of the stage's cursor
  let speed = 1;
  let playing = 0;         // a timer, 0 while paused
  let underWay = null;     // the wish that the kernel works on
  let wishes = [];
  let count = 0;
  let patience = 0;
  let dragging = false;

  // --- the form, where something is typed -----------------------------------------------------------------------

  const form = $(".vl-form");
  const [typed, engine, wrong] = ["textarea", "select", ".vl-wrong"].map((selector) => form.querySelector(selector));
  wrong.id = `vl-wrong-${Math.random().toString(36).slice(2)}`;
  typed.setAttribute("aria-describedby", wrong.id);

  function fill() {
    const now = model.get("form");
    form.hidden = !now;
    if (!now) return;
    if (document.activeElement !== typed) typed.value = now.text;
    put(engine, now.engines.map(([key, name]) => `<option value="${key}">${name}</option>`).join(""));
    engine.value = now.engine;
    put(wrong, now.error);
    typed.setAttribute("aria-invalid", Boolean(now.error));
    typed.rows = Math.max(2, Math.min(8, typed.value.split("\n").length));
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    wish({ do: "assemble", text: typed.value, engine: engine.value });
  });
  typed.addEventListener("input", () => { typed.rows = Math.max(2, Math.min(8, typed.value.split("\n").length)); });
  typed.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
    else if (event.key === "Escape") slider.focus();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  engine.addEventListener("change", () => form.requestSubmit());

  // --- wishes -------------------------------------------------------------------------------------------------

  function wish(message) {
    const last = wishes[wishes.length - 1];
    if (message.do === "seek" && last && last.do === "seek") wishes.pop();
    if (wishes.length < 16) wishes.push(message);
    next();
  }

  function next() {
    if (underWay !== null || wishes.length === 0) return;
    const message = wishes.shift();
    underWay = ++count;
    model.send({ ...message, id: underWay });
    clearTimeout(patience);
    patience = setTimeout(() => underWay !== null && waiting({ what: "The kernel is at work" }), PATIENCE);
  }

  function heard(message) {
    if ("progress" in message) { if (message.progress) waiting(message.progress); else ready(); return; }
    if (message.done !== underWay) return;
    underWay = null;
    clearTimeout(patience);
    ready();
    next();
  }

  function waiting({ what, done, total, unit, left }) {
    const [title, far, bar, rest, stop] = wait.children;
    wait.hidden = false;
    say.classList.add("vl-away");
    title.textContent = what;
    far.textContent = total ? `${done.toLocaleString("en")} of ${total.toLocaleString("en")} ${unit}` : "";
    bar.hidden = stop.hidden = !total;
    if (total) { bar.max = total; bar.value = done; }
    rest.textContent = left ? `about ${left} s left` : "";
  }

  function ready() {
    wait.hidden = true;
    say.classList.remove("vl-away");
  }

  // --- drawing ------------------------------------------------------------------------------------------------

  function draw() {
    frame = model.get("frame");
    const { stage: s, line } = frame;
    const jump = shown === null || dragging;
    root.classList.toggle("vl-jump", jump);
    put($("h2"), model.get("heading"));
    root.setAttribute("aria-label", model.get("question"));

    picture.toggleAttribute("hidden", Boolean(s.table));
    table.hidden = !s.table;
    const refocus = keepFocus();
    if (s.table) put(table, s.table);
    else {
      const height = lecture() && s.lecture ? s.lecture : s.height;
      picture.setAttribute("viewBox", `0 0 912 ${height}`);
      picture.setAttribute("aria-label", s.label);
      put(under, s.under);
      put(over, s.over);
      heads[0].toggleAttribute("hidden", s.playhead === null);
      heads[0].style.display = s.playhead === null ? "none" : "";
      heads[0].style.transform = `translateX(${s.playhead}px)`;
      heads[0].firstElementChild.setAttribute("d", `M0 -6V${s.tall}`);
      if (shown && !jump) slide((s.origin - shown.stage.origin) * s.unit, s.unit);
    }
    if (s.rows) showCursor(false);
    grid?.draw(s);

    const unit = (line.right - line.left) / Math.max(frame.total, 1);
    const x = line.left + unit * frame.n;
    put($(".vl-line"), line.svg);
    $(".done").setAttribute("d", `M${line.left} 24H${x}`);
    heads[1].style.transform = `translateX(${x}px)`;
    slider.setAttribute("aria-valuemax", frame.total);
    slider.setAttribute("aria-valuenow", frame.n);
    slider.setAttribute("aria-valuetext", frame.value);

    put($(".vl-when"), `<b>${frame.n.toLocaleString("en")}</b> of ${frame.total.toLocaleString("en")}<span class="soft">${frame.when}</span>`);
    put(say, frame.say);
    say.classList.toggle("fault", frame.fault);
    card();
    if (put(panels, frame.panels)) {
      panels.dataset.count = panels.children.length;
      for (const log of panels.querySelectorAll("[data-kind=log] .vl-scroll")) log.scrollTop = log.scrollHeight;
    }
    refocus();
    if (!playing && shown && (shown.n !== frame.n || shown.twin !== frame.twin)) announce();
    shown = frame;
    buttons();
  }

  function slide(by, unit) {
    if (!by || Math.abs(by) > 3 * unit) return;
    root.classList.remove("vl-moving");
    const parts = root.querySelectorAll(".vl-slide");
    for (const part of parts) part.style.transform = `translateX(${by}px)`;
    void root.getBoundingClientRect();
    root.classList.add("vl-moving");
    for (const part of parts) part.style.transform = "translateX(0)";
  }

  function card() {
    const asking = frame.card !== null;
    const hadFocus = document.activeElement === stepButton || slot.contains(document.activeElement);
    const html = frame.notice ?? frame.card ?? "";
    if (slot.__html !== html) {
      if (slot.contains(stepButton)) deck.insertBefore(stepButton, playButton);
      put(slot, html);
      if (!frame.revealed) choice = -1;
    }
    say.hidden = asking || frame.notice !== null;
    panels.hidden = asking || frame.notice !== null || frame.panels === "";
    const here = slot.querySelector(".vl-here");
    if (here && stepButton.parentNode !== here) here.append(stepButton);
    if (hadFocus) stepButton.focus({ preventScroll: true });
    if (asking && !playing) {
      const first = slot.querySelector("[role=radio]");
      if (root.contains(document.activeElement) && first && !frame.revealed && shown && shown.card === null) announce(slot.innerText);
    }
  }

  const closed = () => frame.card !== null && !frame.revealed;
  const atEnd = () => frame.n >= frame.total && frame.card === null;

  function buttons() {
    const reveal = closed();
    put(stepButton, `${icon("step")} ${reveal ? "Reveal" : "Step"}`);
    stepButton.setAttribute("aria-label", reveal ? "Reveal (right arrow)" : "Step (right arrow)");
    stepButton.setAttribute("aria-disabled", reveal ? choice < 0 : atEnd());
    backButton.setAttribute("aria-disabled", frame.n === 0);
    put(playButton, playing ? `${icon("pause")} Pause` : `${icon("play")} Play`);
    playButton.setAttribute("aria-label", playing ? "Pause (space)" : "Play (space)");
    playButton.setAttribute("aria-disabled", !playing && atEnd());
    put(speedButton, `${SPEEDS[speed][0]}×`);
    speedButton.setAttribute("aria-label", `Speed ${SPEEDS[speed][0]} times (brackets)`);
  }

  function keepFocus() {
    const focused = document.activeElement;
    const key = root.contains(focused) && focused.dataset ? focused.dataset.key : undefined;
    return () => {
      if (key === undefined) return;
      const again = root.querySelector(`[data-key="${key}"]`);
      if (again && again !== document.activeElement) again.focus({ preventScroll: true });
    };
  }

  function announce(words = frame.twin) {
    live.textContent = "";
    requestAnimationFrame(() => { live.textContent = words; });
  }

  // --- what a person does -------------------------------------------------------------------------------------

  function step() {
    if (closed()) {
      if (choice >= 0) wish({ do: "reveal", choice });
    } else if (!atEnd()) wish({ do: "step" });
  }

  function choose(index) {
    if (!closed()) return;
    const options = slot.querySelectorAll("[role=radio]");
    if (index < 0 || index >= options.length) return;
    const hadFocus = [...options].includes(document.activeElement);
    choice = index;
    options.forEach((option, at) => {
      option.setAttribute("aria-checked", at === index);
      option.tabIndex = at === index ? 0 : -1;
    });
    if (hadFocus) options[index].focus({ preventScroll: true });
    buttons();
  }

  function play() {
    if (playing) { pause(); return; }
    if (atEnd() || closed()) return;
    const beat = () => {
      if (atEnd() || closed()) { pause(); return; }
      if (underWay === null) step();
      playing = setTimeout(beat, SPEEDS[speed][1]);
    };
    playing = setTimeout(beat, 0);
    buttons();
  }

  function pause() {
    clearTimeout(playing);
    playing = 0;
    buttons();
    announce();
  }

  function faster(by) {
    speed = Math.max(0, Math.min(SPEEDS.length - 1, speed + by));
    buttons();
  }

  const lecture = () => root.dataset.vlMode === "lecture";
  function setLecture(on) {
    if (on) root.dataset.vlMode = "lecture"; else delete root.dataset.vlMode;
    delete root.dataset.vlPanels;
    rescale();
    if (shown) { const s = frame.stage; picture.setAttribute("viewBox", `0 0 912 ${on && s.lecture ? s.lecture : s.height}`); }
  }

  // HTML grows by the same factor as the stage does with its column: at most 1.5, where the column is 1,440 px.
  function rescale() {
    root.style.removeProperty("--vl-scale");
    if (!lecture()) return;
    const full = parseFloat(getComputedStyle(root).getPropertyValue("--vl-scale"));
    const column = el.getBoundingClientRect().width;
    if (column) root.style.setProperty("--vl-scale", Math.max(1, Math.min(full, column / 960)));
  }

  function seekTo(event) {
    const box = slider.getBoundingClientRect();
    const { left, right } = frame.line;
    const at = ((event.clientX - box.left) / box.width) * 912;
    const stops = slider.querySelector("[data-stops]")?.dataset.stops.split(" ").map(Number);  // where steps are not even
    const even = Math.round(((at - left) / (right - left)) * frame.total);
    const nearest = stops?.reduce((best, x, n) => (Math.abs(x - at) < Math.abs(stops[best] - at) ? n : best), 0);
    const to = Math.max(0, Math.min(frame.total, nearest ?? even));
    if (to !== frame.n || underWay !== null) wish({ do: "seek", to });
  }

  // --- the stage's cursor, for pictures that have rows -------------------------------------------------------------

  const rows = () => [...stage.querySelectorAll("[data-row]")];
  const onRows = () => stage.contains(document.activeElement) && !document.activeElement.closest(".vl-grid");

  function showCursor(speak) {
    const all = rows();
    const ids = [...new Set(all.map((row) => row.dataset.row))];
    if (!ids.length) return;
    cursor = Math.max(0, Math.min(ids.length - 1, cursor));
    const inside = onRows();
    for (const row of all) row.classList.toggle("cursor", inside && row.dataset.row === ids[cursor]);
    const row = all.find((one) => one.dataset.row === ids[cursor]);
    if (speak) announce(row.getAttribute("aria-label") || row.textContent);
  }

  function onStage(event) {
    if (!frame.stage.rows || !onRows()) return false;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      cursor += event.key === "ArrowDown" ? 1 : -1;
      showCursor(true);
      return true;
    }
    if (event.key === "Enter") {
      const ids = [...new Set(rows().map((row) => row.dataset.row))];
      wish({ do: "open", row: Number(ids[cursor]) });
      return true;
    }
    return false;
  }

  // Tab goes slider, transport, stage, panels, although the stage is read first.
  function onTab(event) {
    const here = document.activeElement;
    const order = (nodes) => nodes.filter((node) => node && node.offsetParent !== null);
    const inPanels = order([...panels.querySelectorAll("[tabindex='0']"), ...slot.querySelectorAll("button, [role=radio][tabindex='0']")]);
    const inDeck = order([...deck.querySelectorAll("button")]);
    if (!frame.stage.rows) return;
    if (!event.shiftKey && here === inDeck[inDeck.length - 1]) stage.focus();
    else if (!event.shiftKey && here === stage) {
      if (inPanels.length) inPanels[0].focus(); else { $(".vl-end").focus(); return; }
    } else if (event.shiftKey && here === stage) inDeck[inDeck.length - 1].focus();
    else if (event.shiftKey && here === inPanels[0]) stage.focus();
    else return;
    event.preventDefault();
  }

  // --- keys ---------------------------------------------------------------------------------------------------

  function key(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const target = event.target;
    if (target.matches("input, textarea, select")) return;
    if (event.key === "Tab") { onTab(event); return; }
    const radio = target.closest("[role=radio]");
    let mine = true;
    if (onStage(event)) { /* done */ }
    else if (radio && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
      const all = slot.querySelectorAll("[role=radio]").length;
      const from = choice < 0 ? (event.key === "ArrowDown" ? -1 : 0) : choice;
      choose((from + (event.key === "ArrowDown" ? 1 : all - 1)) % all);
    }
    else if (radio && (event.key === " " || event.key === "Enter")) choose(Number(radio.dataset.choice));
    else if (event.key === "Enter") {
      const row = target.closest("[data-goto]");
      if (row) wish({ do: "seek", to: Number(row.dataset.goto) }); else mine = false;
    }
    else if (event.key === "ArrowRight" && event.shiftKey) wish({ do: "jump", by: 1 });
    else if (event.key === "ArrowLeft" && event.shiftKey) wish({ do: "jump", by: -1 });
    else if (event.key === "ArrowRight" || event.key === ".") step();
    else if (event.key === "ArrowLeft" || event.key === ",") wish({ do: "back" });
    else if (event.key === "Home") wish({ do: "seek", to: 0 });
    else if (event.key === "End") wish({ do: "seek", to: frame.total });
    else if (event.key === " ") { if (target.closest("button")) mine = false; else play(); }
    else if (event.key === "[") faster(-1);
    else if (event.key === "]") faster(1);
    else if (/^[1-9]$/.test(event.key)) choose(Number(event.key) - 1);
    else if (event.key === "l" || event.key === "L") { model.set("lecture", !lecture()); model.save_changes(); setLecture(model.get("lecture")); }
    else if (event.key === "t" || event.key === "T") announce(frame.card !== null ? slot.innerText : frame.twin);
    else if (event.key === "Escape") {
      if (stage.contains(document.activeElement)) slider.focus();
      else if (frame.card !== null || frame.notice !== null) wish({ do: "skip" });
    }
    else mine = false;
    if (mine) { event.preventDefault(); event.stopPropagation(); }
  }

  function press(event) {
    const button = event.target.closest("button");
    if (button && button.dataset.copy) { navigator.clipboard?.writeText(button.dataset.copy); return; }
    if (button && button.getAttribute("aria-disabled") !== "true") {
      const what = button.dataset.do;
      if (what === "step") step();
      else if (what === "back") wish({ do: "back" });
      else if (what === "play") play();
      else if (what === "speed") { speed = (speed + 1) % SPEEDS.length; buttons(); }
      else if (what === "stop") model.send({ do: "stop" });
      return;
    }
    const option = event.target.closest("[data-choice]");
    if (option) { choose(Number(option.dataset.choice)); return; }
    const row = event.target.closest("[data-goto]");
    if (row) { wish({ do: "seek", to: Number(row.dataset.goto) }); return; }
    const bar = event.target.closest("[data-row]");
    if (bar && bar.dataset.pick) { cursor = Number(bar.dataset.row); stage.focus(); showCursor(true); return; }
    if (bar && grid) { cursor = Number(bar.dataset.row); showCursor(false); wish({ do: "open", row: cursor }); }
  }

  root.addEventListener("keydown", key);
  root.addEventListener("click", press);
  stage.addEventListener("focusin", () => frame.stage.rows && showCursor(true));
  stage.addEventListener("focusout", () => frame.stage.rows && requestAnimationFrame(() => showCursor(false)));
  slider.addEventListener("pointerdown", (event) => { dragging = true; slider.setPointerCapture(event.pointerId); seekTo(event); });
  slider.addEventListener("pointermove", (event) => dragging && seekTo(event));
  for (const end of ["pointerup", "pointercancel"]) slider.addEventListener(end, () => { dragging = false; });
  root.addEventListener("wheel", (event) => { if (lecture() && event.deltaY > 0) root.dataset.vlPanels = "shown"; }, { passive: true });
  const watcher = new ResizeObserver(rescale);
  watcher.observe(el);

  const relecture = () => setLecture(model.get("lecture"));
  model.on("change:frame", draw);
  model.on("change:heading", draw);
  model.on("change:form", fill);
  model.on("change:lecture", relecture);
  model.on("msg:custom", heard);
  relecture();
  fill();
  draw();
  return () => {
    clearTimeout(playing);
    clearTimeout(patience);
    grid?.close();
    watcher.disconnect();
    model.off("change:frame", draw);
    model.off("change:heading", draw);
    model.off("change:form", fill);
    model.off("change:lecture", relecture);
    model.off("msg:custom", heard);
  };
}

export default { render };
