// Keys that work everywhere, the data set beside the paper, and the first drawing.

const help = byId("help");
byId("help-open").addEventListener("click", () => help.showModal());

function onEscape() {
  const filtering = byId("filters").contains(document.activeElement);
  if (filtering) {
    clearFilter();
    document.activeElement.blur();
  } else show({ held: false });
}

const keys = {
  "/": () => { byId("filter").focus(); byId("filter").select(); },
  "?": () => help.showModal(),
  j: () => step(1), k: () => step(-1),
  x: () => byId("swap").click(), p: () => byId("sharp").click(),
  "+": () => zoomBy(1), "=": () => zoomBy(1), "-": () => zoomBy(-1),
};

document.addEventListener("keydown", (event) => {
  if (help.open || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") return onEscape();
  if (event.target.matches("input, select")) return;
  const digit = /^Digit([1-9])$/.exec(event.code);
  const view = digit && report.views[digit[1] - 1];
  const action = view ? () => show({ [event.shiftKey ? "left" : "right"]: view.name }) : keys[event.key.toLowerCase()];
  if (!action) return;
  event.preventDefault();
  action();
});

const dataset = byId("dataset");
dataset?.addEventListener("change", () => {
  for (const table of document.querySelectorAll("[data-dataset]")) table.hidden = table.dataset.dataset !== dataset.value;
});

window.addEventListener("hashchange", () => show(recall()));

makeTiles();
drawLegends();
startClasses();
Object.assign(state, { right: "sr0" }, recall());
[state.x, state.y] = imageNow().spot;
startList();
drawers.forEach((draw) => draw(new Set(Object.keys(state))));
