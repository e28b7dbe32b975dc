// The loupe: the same place of every view, magnified without smoothing; and the metrics of the image.

const tiles = new Map();
const TILE = 140; // px wide at which a magnification holds; a tile that is wider shows it larger

// What a tile shows, in pixels of HR: whole LR pixels.
function windowSize() {
  const first = tiles.values().next().value;
  const aspect = first && first.canvas.clientHeight ? first.canvas.clientWidth / first.canvas.clientHeight : 1.32;
  const w = Math.max(SCALE, Math.round(TILE / state.zoom));
  return { w, h: w / aspect };
}

function makeTiles() {
  for (const view of report.views) {
    const canvas = element("canvas");
    const label = element("span", { className: "label", textContent: view.label });
    const value = element("span", { className: "value" });
    const button = element("button", { className: "tile", type: "button" }, canvas, element("span", {}, label, value));
    button.title = `${view.label}: show on the right, with Shift on the left`;
    button.setAttribute("aria-label", `${view.label}: show on the right`);
    button.addEventListener("click", (event) => show({ [event.shiftKey ? "left" : "right"]: view.name }));
    tiles.set(view.name, { button, canvas, value });
    byId("loupe").append(button);
  }
}

async function drawTile(name) {
  const { index, x, y, zoom } = state, { canvas, value } = tiles.get(name);
  const shown = await picture(index, name);
  if (index !== state.index || x !== state.x || y !== state.y || zoom !== state.zoom) return;
  const density = window.devicePixelRatio || 1;
  canvas.width = Math.round(canvas.clientWidth * density);
  canvas.height = Math.round(canvas.clientHeight * density);
  if (!shown) {
    value.textContent = "none";
    return;
  }
  const share = shown.width / imageNow().size[0]; // 1/4 for LR
  const { w, h } = windowSize(), context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.drawImage(shown, (x + 0.5 - w / 2) * share, (y + 0.5 - h / 2) * share, w * share, h * share, 0, 0, canvas.width, canvas.height);
  value.textContent = reading(shown, Math.floor(x * share), Math.floor(y * share));
}

// "121 98 87" or a map's grey levels under the middle of the loupe.
function reading(shown, x, y) {
  if (shown.levels) return String(shown.levels[y * shown.width + x]);
  const rgb = shown.getContext("2d", { willReadFrequently: true }).getImageData(x, y, 1, 1).data;
  return [...rgb.slice(0, 3)].join(" ");
}

function drawLegends() {
  const texts = { error: ["Error", "|SR \u2212 HR|"], use: ["Reference use", "|SR \u2212 SR without|"] };
  const shown = report.views.some((view) => view.name.startsWith("use")) ? ["error", "use"] : ["error"];
  byId("legends").replaceChildren(...shown.map((kind) => {
    const bar = element("i");
    bar.style.background = gradient;
    const [name, meaning] = texts[kind];
    const node = element("div", { className: "legend", title: `${meaning}, mean of R, G, B, in grey levels of 255` },
      element("span", { textContent: `${name} 0` }), bar, element("span", { textContent: `\u2265 ${report.scales[kind]}` }));
    node.dataset.kind = kind;
    return node;
  }));
}

function drawMetrics() {
  const image = imageNow(), [head, body] = [byId("image-metrics").tHead, byId("image-metrics").tBodies[0]];
  const cells = (method) => report.measures.map((metric) =>
    element("td", { textContent: fixed(valueOf(image, method, metric), metric) }));
  head.replaceChildren(element("tr", {}, element("th", { textContent: "This image" }), ...report.measures.map((metric) =>
    element("th", { scope: "col", textContent: metric.name + arrow(metric), title: metric.unit }))));
  body.replaceChildren(...["bicubic", ...report.runs.keys()].map((method) => {
    const name = method === "bicubic" ? "bicubic" : report.runs[method];
    return element("tr", {}, element("th", { scope: "row", textContent: name, title: name }), ...cells(method));
  }));
}

function arrow(metric) {
  return metric.higher === null ? "" : metric.higher ? " \u2191" : " \u2193";
}

byId("zoom-in").addEventListener("click", () => zoomBy(1));
byId("zoom-out").addEventListener("click", () => zoomBy(-1));

function zoomBy(step) {
  const place = zooms.indexOf(state.zoom) + step;
  if (place in zooms) show({ zoom: zooms[place] });
}

let waiting = false;

// Once a frame is enough, however often the pointer reports.
function drawTiles() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    report.views.forEach((view) => drawTile(view.name));
  });
}

drawers.push((changed) => {
  if (["index", "x", "y", "zoom"].some((key) => changed.has(key))) drawTiles();
  if (changed.has("index")) drawMetrics();
  if (["x", "y", "held"].some((key) => changed.has(key))) {
    byId("place").textContent = `x ${state.x}, y ${state.y}${state.held ? ", held" : ""}`;
  }
  if (changed.has("zoom")) byId("zoom").textContent = `${state.zoom}\u00d7`;
  if (changed.has("left") || changed.has("right")) {
    tiles.forEach(({ button }, name) => button.setAttribute("aria-pressed", name === state.left || name === state.right));
  }
});
window.addEventListener("resize", () => drawers.forEach((draw) => draw(new Set(["x", "zoom"]))));
