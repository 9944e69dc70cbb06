// Questions on their own. The kernel holds the answer; the page sends a choice and gets the card back.

function render({ model, el }) {
  const root = document.createElement("section");
  root.className = "vl vl-quiz";
  root.setAttribute("role", "region");
  root.setAttribute("aria-label", "Question");
  root.setAttribute("data-lm-suppress-shortcuts", "true");
  root.tabIndex = -1;
  root.innerHTML = `<div class="vl-slot"></div><div class="vl-sr" aria-live="polite"></div>`;
  el.append(root);
  const slot = root.querySelector(".vl-slot");
  const live = root.querySelector("[aria-live]");
  const button = document.createElement("button");
  button.className = "vl-btn primary";
  let choice = -1;

  const options = () => [...slot.querySelectorAll("[role=radio]")];
  const revealed = () => model.get("frame").revealed;

  function draw() {
    const frame = model.get("frame");
    const hadFocus = slot.contains(document.activeElement);
    slot.innerHTML = frame.card;
    if (!frame.revealed) choice = -1;
    const where = document.createElement("span");
    where.className = "soft";
    where.textContent = frame.where;
    slot.querySelector(".vl-here").append(where, button);
    label();
    if (hadFocus) button.focus({ preventScroll: true });
    if (frame.revealed) live.textContent = slot.innerText;
  }

  function label() {
    const frame = model.get("frame");
    button.textContent = frame.button;
    button.setAttribute("aria-disabled", !frame.revealed && choice < 0);
  }

  function choose(index) {
    if (revealed() || index < 0 || index >= options().length) return;
    const hadFocus = options().includes(document.activeElement);
    choice = index;
    options().forEach((option, at) => {
      option.setAttribute("aria-checked", at === index);
      option.tabIndex = at === index ? 0 : -1;
    });
    if (hadFocus) options()[index].focus({ preventScroll: true });
    label();
  }

  function go() {
    if (revealed()) model.send({ do: "next" });
    else if (choice >= 0) model.send({ do: "reveal", choice });
  }

  root.addEventListener("click", (event) => {
    const option = event.target.closest("[data-choice]");
    if (option) choose(Number(option.dataset.choice));
    else if (event.target === button) go();
    else root.focus({ preventScroll: true });
  });
  root.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const radio = event.target.closest("[role=radio]");
    const count = options().length;
    if (/^[1-9]$/.test(event.key)) choose(Number(event.key) - 1);
    else if (event.key === "ArrowRight" || event.key === ".") go();
    else if (radio && event.key === "ArrowDown") choose((choice + 1) % count);
    else if (radio && event.key === "ArrowUp") choose((Math.max(choice, 0) + count - 1) % count);
    else if (radio && (event.key === " " || event.key === "Enter")) choose(Number(radio.dataset.choice));
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  model.on("change:frame", draw);
  draw();
  return () => model.off("change:frame", draw);
}

export default { render };
