// Machine memory on a canvas, inside a player's stage. player.js calls memoryGrid() where this text stands above its own.
//
//   stage.grid = { squares, columns, rows, pitch, height, pages | stacks, open, key, cursor, only, short }
//
//   all squares: each shows its 16 x 16 pages (pages), or a stack of its kinds (stacks)
//   one square:  16 x 16 cells with a pattern each, and a sentence for each
//
// Keys while the grid has the focus: arrows move the cursor, Enter opens a square, Esc closes it, 1 to 6 filter a kind.

const GRID_OTHER = 8, GRID_SIDE = 16, GRID_PAGES = 256, GRID_UNITS = 408;
const GRID_KINDS = [
  // name of the colour, of the outline, pattern
  { fill: null, edge: "text-strong" },                               // free: hollow
  { fill: "guest-fill" },                                            // private
  { fill: "shared-fill", pattern: "diagonal" },                      // shared
  { fill: "shared-wash", edge: "shared-ink", pattern: "zero" },      // shared, all zeros
  { fill: "host-fill" },                                             // monitors
  { fill: "host-ink" },                                              // vmkernel
];
const GRID_STACK = [5, 4, 1, 2, 3, 6];   // from below; 6: of another machine

function gridBytes(value) {
  if (value === null || value === undefined) return null;
  if (typeof value === "string") return Uint8Array.from(atob(value), (letter) => letter.charCodeAt(0));
  return new Uint8Array(value.buffer ?? value, value.byteOffset ?? 0, value.byteLength);
}

function memoryGrid({ root, stage, wish, announce, leave }) {
  const box = document.createElement("div");
  box.className = "vl-grid";
  box.innerHTML = `<canvas tabindex="0" role="grid" aria-roledescription="memory"></canvas><div class="vl-grid-key" role="group" aria-label="Show one kind only"></div><p class="vl-grid-words"></p>`;
  stage.append(box);
  const [canvas, key, words] = [box.children[0], box.children[1], box.children[2]];
  const pen = canvas.getContext("2d");
  let now = null;        // the grid that is shown
  let pages = null, stacks = null, open = null;
  let cursor = 0, kind = -1, said = "";
  let colours = {}, waiting = 0;

  function readColours() {
    const style = getComputedStyle(root);
    const value = (name) => style.getPropertyValue(`--vl-${name}`).trim();
    for (const name of ["guest-fill", "guest-wash", "shared-fill", "shared-wash", "shared-ink", "host-fill", "host-wash", "host-ink", "text-strong", "line-strong", "line", "surface", "focus"]) colours[name] = value(name);
  }

  const pixel = (() => {
    const probe = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    return (colour) => {
      probe.clearRect(0, 0, 1, 1);
      probe.fillStyle = colour;
      probe.fillRect(0, 0, 1, 1);
      return new Uint32Array(probe.getImageData(0, 0, 1, 1).data.buffer)[0];
    };
  })();

  const hidden = (code) => code >= GRID_OTHER || (kind >= 0 && code !== kind);
  const wash = (code) => (code % GRID_OTHER ? colours["host-wash"] : null);
  const count = () => (open ? GRID_PAGES : now.squares);
  const columns = () => (open ? GRID_SIDE : now.columns);

  // Device pixels: squares begin and end on whole ones, or pages would blur.
  function layout() {
    const scale = canvas.width / GRID_UNITS;
    if (open) {
      const pitch = Math.floor((canvas.height - 2) / GRID_SIDE);
      return { pitch, gap: Math.max(1, Math.round(scale)), left: 1, top: 1 };
    }
    const pitch = Math.max(2, Math.min(Math.floor(canvas.width / now.columns), Math.floor(now.pitch * scale)));
    if (!pages) return { pitch, gap: pitch > 8 * scale ? Math.max(1, Math.round(2 * scale)) : 1, left: 0, top: 0 };
    const page = Math.max(1, Math.floor((pitch - 1) / GRID_SIDE));
    return { pitch, gap: pitch - page * GRID_SIDE, page, left: 1, top: 1 };
  }

  function paint() {
    waiting = 0;
    if (!now || !box.clientWidth) return;   // not laid out yet: the observer will ask again
    const began = performance.now();
    const ratio = window.devicePixelRatio || 1;
    const wide = Math.max(1, Math.round(box.clientWidth * ratio));
    const high = Math.round(wide * now.height / GRID_UNITS);
    if (canvas.width !== wide || canvas.height !== high) { canvas.width = wide; canvas.height = high; }
    canvas.style.height = `${high / ratio}px`;
    pen.clearRect(0, 0, wide, high);
    const at = layout();
    if (open) paintOpen(at);
    else if (pages) paintPages(at);
    else paintStacks(at);
    paintCursor(at);
    canvas.dataset.sum = sum();
    canvas.paintMs = performance.now() - began;   // for measurements
  }

  // Tests and screen captures compare this instead of pixels.
  function sum() {
    let hash = 2166136261;
    for (const part of [pages, stacks, open && open.kinds]) if (part) for (let i = 0; i < part.length; i++) hash = Math.imul(hash ^ part[i], 16777619);
    return (hash >>> 0).toString(16) + (open ? `-${open.square}` : "");
  }

  function hollow(x, y, side, loud) {
    const width = Math.max(1, Math.round((loud ? 1.5 : 1) * canvas.width / GRID_UNITS));
    if (side < 3 * width) { pen.fillStyle = colours["line-strong"]; pen.fillRect(x, y, 1, 1); return; }
    pen.strokeStyle = colours[loud ? "text-strong" : "line-strong"];
    pen.lineWidth = width;
    pen.strokeRect(x + width / 2, y + width / 2, side - width, side - width);
  }

  function paintPages({ pitch, page, left, top }) {
    const image = pen.createImageData(canvas.width, canvas.height);
    const dots = new Uint32Array(image.data.buffer);
    const palette = new Uint32Array(16);
    for (let code = 0; code < 16; code++) {
      const fill = hidden(code) ? wash(code) : GRID_KINDS[code % GRID_OTHER]?.fill && colours[GRID_KINDS[code % GRID_OTHER].fill];
      palette[code] = fill ? pixel(fill) : 0;
    }
    const free = [];
    for (let square = 0; square < now.squares; square++) {
      const x0 = left + (square % now.columns) * pitch, y0 = top + Math.floor(square / now.columns) * pitch;
      let used = 0;
      for (let index = 0; index < GRID_PAGES; index++) {
        const code = pages[square * GRID_PAGES + index];
        if (code % GRID_OTHER === 0 || code === undefined) continue;
        used++;
        const colour = palette[code];
        const x = x0 + (index % GRID_SIDE) * page, y = y0 + (index >> 4) * page;
        for (let row = y; row < y + page; row++) dots.fill(colour, row * canvas.width + x, row * canvas.width + x + page);
      }
      if (used < GRID_PAGES) free.push([x0, y0, used]);
    }
    pen.putImageData(image, 0, 0);
    // Around a square that has pages the line runs outside, in the gap: it hides none of them.
    const side = page * GRID_SIDE;
    for (const [x, y, used] of free) {
      if (used) { pen.strokeStyle = colours["line-strong"]; pen.lineWidth = 1; pen.strokeRect(x - .5, y - .5, side + 1, side + 1); }
      else hollow(x, y, side, kind === 0 || now.short);
    }
  }

  function paintStacks({ pitch, gap }) {
    const side = Math.max(1, pitch - gap);
    for (let square = 0; square < now.squares; square++) {
      const x = (square % now.columns) * pitch, y = Math.floor(square / now.columns) * pitch;
      const row = square * 7;
      if (!stacks[row + 1] && !stacks[row + 2] && !stacks[row + 3] && !stacks[row + 4] && !stacks[row + 5] && !stacks[row + 6]) { hollow(x, y, side, kind === 0 || now.short); continue; }
      let filled = 0;
      for (const code of GRID_STACK) {
        const pagesOfIt = stacks[row + code];
        if (!pagesOfIt) continue;
        const from = Math.round(side * filled / GRID_PAGES);
        filled += pagesOfIt;
        const to = Math.round(side * filled / GRID_PAGES);
        if (to === from) continue;
        pen.fillStyle = code === 6 || hidden(code) ? colours["host-wash"] : colours[GRID_KINDS[code].fill];
        pen.fillRect(x, y + side - to, side, to - from);
      }
      if (filled < GRID_PAGES && side > 8) hollow(x, y, side, false);
    }
  }

  function cell(context, x, y, side, code, plain) {
    if (side < 1) return;
    const unit = side / 16;
    const style = GRID_KINDS[code % GRID_OTHER];
    if (plain) {
      context.fillStyle = colours["host-wash"];
      if (code % GRID_OTHER) context.fillRect(x, y, side, side);
      else { context.strokeStyle = colours["line"]; context.lineWidth = 1; context.strokeRect(x + .5, y + .5, side - 1, side - 1); }
      return;
    }
    if (style.fill) { context.fillStyle = colours[style.fill]; context.fillRect(x, y, side, side); }
    context.save();
    context.beginPath();
    context.rect(x, y, side, side);
    context.clip();
    if (style.pattern === "diagonal") {
      context.strokeStyle = colours["surface"];
      context.globalAlpha = .75;
      context.lineWidth = Math.max(1, 1.5 * unit);
      context.beginPath();
      for (let d = -side; d < 2 * side; d += side / 2) { context.moveTo(x + d, y + side); context.lineTo(x + d + side, y); }
      context.stroke();
    }
    context.restore();
    if (style.edge) {
      const width = Math.max(1, Math.round(1.5 * unit));
      context.strokeStyle = colours[style.edge];
      context.lineWidth = width;
      context.strokeRect(x + width / 2, y + width / 2, side - width, side - width);
    }
    if (style.pattern === "zero") {
      context.strokeStyle = colours["shared-ink"];
      context.lineWidth = Math.max(1, 1.3 * unit);
      context.beginPath();
      context.ellipse(x + side / 2, y + side / 2, side * .15, side * .24, 0, 0, 7);
      context.stroke();
    }
  }

  function paintOpen({ pitch, gap, left, top }) {
    for (let index = 0; index < open.kinds.length; index++) {
      const code = open.kinds[index];
      cell(pen, left + (index % GRID_SIDE) * pitch, top + (index >> 4) * pitch, pitch - gap, code, hidden(code));
    }
  }

  function paintCursor({ pitch, gap, left, top, page }) {
    if (document.activeElement !== canvas && !open) return;
    const side = page ? page * GRID_SIDE : pitch - gap;
    const x = left + (cursor % columns()) * pitch, y = top + Math.floor(cursor / columns()) * pitch;
    const width = Math.max(2, Math.round(2.5 * canvas.width / GRID_UNITS));
    pen.lineWidth = width;
    for (const [colour, by] of [["surface", width * 1.5], ["text-strong", width / 2]]) {
      pen.strokeStyle = colours[colour];
      pen.strokeRect(x - by + width / 2, y - by + width / 2, side + 2 * by - width, side + 2 * by - width);
    }
  }

  // --- words ------------------------------------------------------------------------------------------------------

  const names = () => Object.fromEntries(now.key.map(([code, name]) => [code, name]));

  function sentence(at) {
    if (open) return open.words[at] ?? "";
    const counts = new Array(7).fill(0);
    if (pages) for (let index = at * GRID_PAGES; index < (at + 1) * GRID_PAGES; index++) { const code = pages[index]; if (code !== undefined) counts[code >= GRID_OTHER ? 6 : code]++; }
    else for (let code = 0; code < 7; code++) counts[code] = stacks[at * 7 + code];
    const called = { ...names(), 6: `not ${now.only}’s` };
    const parts = [1, 2, 3, 4, 5, 6, 0].filter((code) => counts[code]).map((code) => `${counts[code]} ${called[code]}`);
    return `Square ${at + 1} of ${now.squares}: ${parts.join(", ")}.`;
  }

  function tell(at, aloud) {
    const focused = document.activeElement === canvas;
    const text = at < 0 ? (open ? sentence(cursor) : "") : sentence(at);
    const hint = open ? "Esc: all of the memory." : "Click or Enter: its pages.";
    said = text || "Point at a square, or press Tab and the arrow keys.";
    words.innerHTML = "";
    words.append(said, " ");
    const rest = document.createElement("span");
    rest.className = "soft";
    rest.textContent = text ? hint : "";
    words.append(rest);
    canvas.setAttribute("aria-label", said);
    if (aloud && focused) announce(said);
  }

  function drawKey() {
    key.replaceChildren(...now.key.map(([code, name, amount], index) => {
      const button = document.createElement("button");
      button.type = "button";
      button.dataset.kind = code;
      button.setAttribute("aria-pressed", kind === code);
      button.setAttribute("aria-label", `${name} ${amount}: show alone (key ${index + 1} in the grid)`);
      const swatch = document.createElement("canvas");
      swatch.width = swatch.height = 24;
      cell(swatch.getContext("2d"), 0, 0, 24, code, false);
      button.append(swatch, `${name} ${amount}`);
      return button;
    }));
  }

  function filter(code) {
    kind = kind === code ? -1 : code;
    for (const button of key.children) button.setAttribute("aria-pressed", Number(button.dataset.kind) === kind);
    soon();
  }

  // --- what a person does -----------------------------------------------------------------------------------------

  function under(event) {
    const area = canvas.getBoundingClientRect();
    const { pitch, left, top } = layout();
    const x = ((event.clientX - area.left) / area.width) * canvas.width - left;
    const y = ((event.clientY - area.top) / area.height) * canvas.height - top;
    const column = Math.floor(x / pitch), row = Math.floor(y / pitch);
    const at = row * columns() + column;
    return column >= 0 && column < columns() && row >= 0 && at < count() ? at : -1;
  }

  const enter = (square) => wish({ do: "zoom", square, cursor: 0 });
  const close = () => wish({ do: "zoom", square: -1 });

  function press(event) {
    if (event.ctrlKey || event.altKey || event.metaKey || event.shiftKey) return;
    const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns(), ArrowDown: columns() }[event.key];
    if (by !== undefined) {
      if (cursor + by >= 0 && cursor + by < count()) cursor += by;
      tell(cursor, true);
      soon();
    } else if (event.key === "Enter") { if (!open) enter(cursor); }
    else if (event.key === "Escape") { if (open) close(); else leave(); }
    else if (/^[1-6]$/.test(event.key)) { const entry = now.key[Number(event.key) - 1]; if (entry) filter(entry[0]); }
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  const soon = () => { if (!waiting) waiting = requestAnimationFrame(paint); };
  canvas.addEventListener("keydown", press);
  canvas.addEventListener("pointermove", (event) => tell(under(event), false));
  canvas.addEventListener("pointerleave", () => tell(document.activeElement === canvas ? cursor : -1, false));
  canvas.addEventListener("click", (event) => {
    const at = under(event);
    if (at < 0) return;
    cursor = at;
    if (open) { tell(at, true); soon(); } else enter(at);
  });
  canvas.addEventListener("focus", () => { tell(cursor, true); soon(); });
  canvas.addEventListener("blur", soon);
  key.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) filter(Number(button.dataset.kind));
    event.stopPropagation();
  });
  const sizes = new ResizeObserver(soon);
  sizes.observe(box);
  const themes = new MutationObserver(() => { readColours(); if (now) { drawKey(); soon(); } });
  themes.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light"] });

  return {
    draw(picture) {
      const grid = picture.grid;
      box.hidden = !grid;
      if (!grid) return;
      const was = now && open ? open.square : -1;
      now = grid;
      pages = gridBytes(grid.pages);
      const raw = gridBytes(grid.stacks);
      stacks = raw && new Uint16Array(raw.slice().buffer);
      open = grid.open && { ...grid.open, kinds: gridBytes(grid.open.kinds) };
      if ((open ? open.square : -1) !== was) cursor = grid.cursor;
      cursor = Math.max(0, Math.min(cursor, count() - 1));
      box.style.top = `calc(100% * 46 / ${picture.height})`;
      readColours();
      drawKey();
      tell(document.activeElement === canvas || open ? cursor : -1, false);
      paint();
    },
    close() {
      cancelAnimationFrame(waiting);
      sizes.disconnect();
      themes.disconnect();
    },
  };
}
