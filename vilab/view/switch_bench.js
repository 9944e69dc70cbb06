// Controls of a virtual switch under the question of a player. Stands behind player.js, which draws everything else.
//
//   frame.bench = { machines, vlans, uplinks, cables, policies, team, detection, failback, send, ... }   kernel --> page
//   { do: "bench", what, name, to } or { do: "bench", what: "send", who, how, whom }                     page --> kernel
//
// A port or an uplink in the picture can be pressed, too: it gets the next of its settings.

function renderBench({ model, el }) {
  const close = render({ model, el });
  const root = el.querySelector(".vl");
  const box = document.createElement("div");
  box.className = "sw-bench";
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", "Wiring and policies");
  root.querySelector(".vl-stage").before(box);
  let underWay = 0, count = 0, playNext = false;

  function wish(message) {
    if (underWay) return;
    underWay = `bench${++count}`;
    model.send({ do: "bench", ...message, id: underWay });
  }

  function heard(message) {
    if (message.done !== underWay) return;
    underWay = 0;
    draw();
    if (playNext) { playNext = false; root.querySelector("[data-do=play]").click(); }
  }

  const option = ([key, words], now) => `<option value="${key}"${key === now ? " selected" : ""}>${words}</option>`;
  const select = (what, name, choices, now, label) =>
    `<label class="sw-field"><span class="soft">${label}</span><select data-what="${what}" data-name="${name}">${choices.map((one) => option(one, now)).join("")}</select></label>`;

  function draw() {
    const b = model.get("frame").bench;
    if (!b || underWay) return;
    const focus = document.activeElement && box.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    const same = (names) => names.map((name) => [name, name]);
    const alone = b.alone.includes(b.send.how);
    const html =
      `<div class="sw-row sw-machines" style="grid-template-columns:repeat(${b.machines.length},minmax(0,1fr))">` +
      b.machines.map(([name, vlan]) => select("vlan", name, b.vlans, vlan, `${name}: VLAN`)).join("") + "</div>" +
      `<div class="sw-row sw-teams" style="grid-template-columns:repeat(${b.uplinks.length + 3},minmax(0,1fr))">` +
      b.uplinks.map(([name, cable]) => select("cable", name, b.cables, cable, name)).join("") +
      select("team", "", b.teams, b.team, "load balancing") + select("detection", "", b.detections, b.detection, "failure seen by") +
      select("failback", "", [["yes", "yes"], ["no", "no"]], b.failback, "failback") + "</div>" +
      `<div class="sw-row sw-policies"><span class="soft">The switch accepts</span>` +
      b.policies.map(([name, words, on]) => `<label class="sw-check"><input type="checkbox" data-what="policy" data-name="${name}"${on ? " checked" : ""}>${words}</label>`).join("") + "</div>" +
      `<form class="sw-row sw-send"><select data-send="who" aria-label="Who">${same(b.who).map((one) => option(one, b.send.who)).join("")}</select>` +
      `<select data-send="how" aria-label="does what">${b.verbs.map((one) => option(one, b.send.how)).join("")}</select>` +
      `<select data-send="whom" aria-label="whom"${alone ? " disabled" : ""}>${same(b.who).map((one) => option(one, b.send.whom)).join("")}</select>` +
      `<button class="vl-btn" type="submit">Send</button></form>`;
    if (box.__html !== html) {
      box.innerHTML = box.__html = html;
      box.querySelectorAll("select, input, button").forEach((node, at) => { node.dataset.key = `sw${at}`; });
      if (focus) box.querySelector(`[data-key="${focus}"]`)?.focus({ preventScroll: true });
    }
  }

  box.addEventListener("change", (event) => {
    const node = event.target;
    if (node.dataset.send) {
      if (node.dataset.send === "how") box.querySelector("[data-send=whom]").disabled = model.get("frame").bench.alone.includes(node.value);
      return;
    }
    const to = node.type === "checkbox" ? (node.checked ? "accept" : "reject") : node.value;
    wish({ what: node.dataset.what, name: node.dataset.name, to });
  });
  box.addEventListener("submit", (event) => {
    event.preventDefault();
    const value = (name) => box.querySelector(`[data-send=${name}]`).value;
    playNext = !["mac", "listen"].includes(value("how"));
    wish({ what: "send", who: value("who"), how: value("how"), whom: value("whom") });
  });
  // Keys belong to the control that has the focus; Escape leaves it.
  box.addEventListener("keydown", (event) => {
    if (event.key === "Escape") root.querySelector(".vl-slider").focus();
    if (event.key !== "Tab") event.stopPropagation();
  });
  root.querySelector(".vl-stage").addEventListener("click", (event) => {
    const part = event.target.closest("[data-act]");
    if (part) wish({ what: "next", kind: part.dataset.act, name: part.dataset.name });
  });

  model.on("change:frame", draw);
  model.on("msg:custom", heard);
  draw();
  return () => {
    model.off("change:frame", draw);
    model.off("msg:custom", heard);
    close();
  };
}

export default { render: renderBench };
