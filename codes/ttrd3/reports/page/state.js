// What is shown now; every change goes through `show`, which draws and keeps the address of the view in the URL.

const byId = (id) => document.getElementById(id);
const zooms = [2, 4, 8, 16, 32];
const state = { index: 0, left: "up", right: "sr0", split: 50, x: 0, y: 0, held: false, zoom: 8, sharp: false };
const drawers = []; // functions called with the names of what changed

const viewOf = (name) => report.views.find((view) => view.name === name);
const imageNow = () => report.images[state.index];
// CLASS/NAME without its class, which stands beside it anyway.
const shortName = (image) => (image.name.startsWith(`${image.class}/`) ? image.name.slice(image.class.length + 1) : image.name);
const isMap = (name) => viewOf(name).group !== "Images";

function show(changes) {
  const changed = Object.keys(changes).filter((key) => state[key] !== changes[key]);
  if (!changed.length) return;
  Object.assign(state, changes);
  if (changed.includes("index") && !("x" in changes)) {
    [state.x, state.y] = imageNow().spot;
    state.held = false;
    changed.push("x", "y", "held");
  }
  drawers.forEach((draw) => draw(new Set(changed)));
  if (["index", "left", "right"].some((key) => changed.includes(key))) remember();
}

function remember() {
  const words = new URLSearchParams({ image: imageNow().name, left: state.left, right: state.right });
  history.replaceState(null, "", `#${words}`);
}

function recall() {
  const words = new URLSearchParams(location.hash.slice(1));
  const index = report.images.findIndex((image) => image.name === words.get("image"));
  const found = {};
  if (index >= 0) found.index = index;
  for (const side of ["left", "right"]) if (viewOf(words.get(side))) found[side] = words.get(side);
  return found;
}

// --- numbers as text ---

function valueOf(image, method, metric) {
  return (method === "bicubic" ? image.bicubic : image.runs[method])[metric.name];
}

const known = (value) => value !== undefined && !Number.isNaN(value);
const fixed = (value, metric) => (value === undefined ? "\u2013" : value.toFixed(metric.decimals));

function signed(value, metric) {
  if (!known(value)) return "\u2013";
  const text = Math.abs(value).toFixed(metric.decimals);
  return (Number(text) === 0 ? "\u00b1" : value > 0 ? "+" : "\u2212") + text;
}

function element(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}
