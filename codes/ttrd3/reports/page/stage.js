// The stage: two images over each other, the divider between them, the place of the loupe.

const stage = byId("stage"), divider = byId("divider"), spot = byId("spot");
const sides = { left: byId("left-canvas"), right: byId("right-canvas") };
const STARTS_AT = 4; // px that a press must move before it drags the divider

function groupedOptions(select, entries) {
  const groups = new Map();
  for (const { value, label, group } of entries) {
    if (!groups.has(group)) groups.set(group, group ? element("optgroup", { label: group }) : select);
    groups.get(group).append(element("option", { value, textContent: label }));
  }
  groups.forEach((group) => group !== select && select.append(group));
}

async function drawSide(side) {
  const [index, name] = [state.index, state[side]];
  const shown = await picture(index, name);
  if (index !== state.index || name !== state[side]) return; // overtaken by a later choice
  const canvas = sides[side];
  const [width, height] = shown ? [shown.width, shown.height] : imageNow().size;
  [canvas.width, canvas.height] = [width, height]; // also clears it
  if (shown) canvas.getContext("2d").drawImage(shown, 0, 0);
  canvas.classList.toggle("pixels", state.sharp || name === "lr" || isMap(name));
  const absent = shown ? "" : " (none)";
  canvas.setAttribute("aria-label", `${viewOf(name).label}${absent} of ${imageNow().name}`);
  byId(`${side}-caption`).textContent = captionOf(name, shown);
  canvas.dataset.drawn = `${index} ${name}`;
}

function drawDivider() {
  stage.style.setProperty("--split", `${state.split}%`);
  divider.setAttribute("aria-valuenow", Math.round(state.split));
  const [left, right] = [state.left, state.right].map((name) => viewOf(name).label);
  divider.setAttribute("aria-valuetext", `${Math.round(state.split)} % ${left}, the rest ${right}`);
}

function drawSpot() {
  const [width, height] = imageNow().size;
  const { w, h } = windowSize();
  spot.style.cssText = `left: ${((state.x - w / 2) / width) * 100}%; top: ${((state.y - h / 2) / height) * 100}%;
    width: ${(w / width) * 100}%; height: ${(h / height) * 100}%`;
  spot.classList.toggle("held", state.held);
  spot.setAttribute("aria-valuemax", width - 1);
  spot.setAttribute("aria-valuenow", state.x);
  spot.setAttribute("aria-valuetext", `column ${state.x}, row ${state.y}`);
}

// What a side's number or name is: "psnr 26.93 dB (+2.13)", the reference's name, a map's mean.
function captionOf(name, shown) {
  const image = imageNow(), kind = name.replace(/\d+$/, ""), run = Number(/\d*$/.exec(name)[0]);
  if (!shown) return "none for this image";
  if (shown.levels) return `mean ${(shown.levels.reduce((a, b) => a + b, 0) / shown.levels.length).toFixed(2)} of 255`;
  if (kind === "reference") return image.references[run];
  if (kind !== "up" && kind !== "sr") return `${shown.width} \u00d7 ${shown.height} pixels`;
  return report.measures.slice(0, 2).map((metric) => {
    const [own, base] = [valueOf(image, kind === "up" ? "bicubic" : run, metric), valueOf(image, "bicubic", metric)];
    const gain = kind === "up" || !known(own) || !known(base) ? "" : ` (${signed(own - base, metric)})`;
    return `${metric.name} ${fixed(own, metric)}${metric.unit && `\u00a0${metric.unit}`}${gain}`;
  }).join("  \u00b7  ");
}

function setSpot(event, held) {
  const box = stage.getBoundingClientRect(), [width, height] = imageNow().size;
  const place = (at, start, length, size) => Math.min(size - 1, Math.max(0, Math.floor(((at - start) / length) * size)));
  show({ x: place(event.clientX, box.left, box.width, width), y: place(event.clientY, box.top, box.height, height), held });
}

function setSplit(event) {
  const box = stage.getBoundingClientRect();
  show({ split: Math.min(100, Math.max(0, ((event.clientX - box.left) / box.width) * 100)) });
}

let press = null;
stage.addEventListener("pointerdown", (event) => {
  if (event.button !== 0 || !event.isPrimary) return;
  press = { x: event.clientX, dragging: event.target === divider || divider.contains(event.target), moved: false };
  stage.setPointerCapture(event.pointerId);
});
stage.addEventListener("pointermove", (event) => {
  if (!press) {
    if (event.pointerType === "mouse" && !state.held) setSpot(event, false);
    return;
  }
  press.moved ||= Math.abs(event.clientX - press.x) > STARTS_AT;
  if (press.moved) setSplit(event);
});
stage.addEventListener("pointerup", (event) => {
  if (press && !press.moved && !press.dragging) setSpot(event, true);
  press = null;
});
stage.addEventListener("pointercancel", () => { press = null; });

divider.addEventListener("keydown", (event) => {
  const step = event.shiftKey ? 10 : 1;
  const places = {
    ArrowLeft: state.split - step, ArrowDown: state.split - step, ArrowRight: state.split + step,
    ArrowUp: state.split + step, PageDown: state.split - 10, PageUp: state.split + 10, Home: 0, End: 100,
  };
  if (!(event.key in places)) return;
  event.preventDefault();
  show({ split: Math.min(100, Math.max(0, places[event.key])) });
});
spot.addEventListener("keydown", (event) => {
  const step = event.shiftKey ? 16 : 1, [width, height] = imageNow().size;
  const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
  if (!(event.key in moves)) return;
  event.preventDefault();
  const within = (value, size) => Math.min(size - 1, Math.max(0, value));
  const [dx, dy] = moves[event.key];
  show({ x: within(state.x + dx, width), y: within(state.y + dy, height), held: true });
});

for (const side of ["left", "right"]) {
  const select = byId(`${side}-view`);
  groupedOptions(select, report.views.map((view) => ({ value: view.name, label: view.label, group: view.group })));
  select.addEventListener("change", () => show({ [side]: select.value }));
}
byId("swap").addEventListener("click", () => show({ left: state.right, right: state.left }));
byId("sharp").addEventListener("click", () => show({ sharp: !state.sharp }));

drawers.push((changed) => {
  if (changed.has("index")) {
    const image = imageNow();
    Object.assign(byId("image-name"), { textContent: shortName(image), title: image.name });
    document.documentElement.style.setProperty("--ratio", image.size[0] / image.size[1]);
  }
  for (const side of ["left", "right"]) {
    if (changed.has("index") || changed.has(side) || changed.has("sharp")) drawSide(side);
    if (changed.has(side)) byId(`${side}-view`).value = state[side];
  }
  if (changed.has("split") || changed.has("left") || changed.has("right")) drawDivider();
  if (["index", "x", "y", "held", "zoom"].some((key) => changed.has(key))) drawSpot();
  if (changed.has("sharp")) byId("sharp").setAttribute("aria-pressed", state.sharp);
});
