// The list of images: filtered by words, class and a range of the sorted number; sorted by name or metric.

const list = byId("images"), sortSelect = byId("sort"), direction = byId("direction");
let order = []; // numbers of the images that the list shows
let rising = true;

const sorts = [{ value: "name", label: "Name", group: "", of: null, metric: report.measures[0] }];
for (const metric of report.measures) {
  report.runs.forEach((name, run) => {
    sorts.push({ value: `${metric.name} ${run}`, label: `${metric.name}: ${name}`, group: metric.name, metric,
      of: (image) => valueOf(image, run, metric) });
    sorts.push({ value: `${metric.name} ${run} gain`, label: `${metric.name}: ${name} over bicubic`, group: metric.name, metric,
      signed: true, of: (image) => valueOf(image, run, metric) - valueOf(image, "bicubic", metric) });
    if (run > 0) sorts.push({ value: `${metric.name} ${run} first`, label: `${metric.name}: ${name} over ${report.runs[0]}`,
      group: metric.name, metric, signed: true, of: (image) => valueOf(image, run, metric) - valueOf(image, 0, metric) });
  });
}
const sortNow = () => sorts.find((sort) => sort.value === sortSelect.value);

function matching() {
  const words = byId("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const wanted = byId("class").value, { of } = sortNow();
  const limit = (id, none) => (byId(id).value.trim() === "" ? none : Number(byId(id).value));
  const [least, most] = of ? [limit("least", -Infinity), limit("most", Infinity)] : [-Infinity, Infinity];
  return [...report.images.keys()].filter((index) => {
    const image = report.images[index], text = `${image.name} ${image.class}`.toLowerCase();
    const value = of ? of(image) : 0;
    const inside = least === -Infinity && most === Infinity ? true : known(value) && value >= least && value <= most;
    return inside && words.every((word) => text.includes(word)) && (wanted === "" || image.class === wanted.slice(1));
  });
}

function compareImages(a, b) {
  const { of } = sortNow(), turn = rising ? 1 : -1;
  const byName = report.images[a].name.localeCompare(report.images[b].name, undefined, { numeric: true });
  if (!of) return turn * byName;
  const [x, y] = [of(report.images[a]), of(report.images[b])];
  if (!known(x) || !known(y)) return known(y) - known(x) || byName; // what has no number comes last
  return turn * (x - y) || byName;
}

function item(index) {
  const image = report.images[index], sort = sortNow(), metric = sort.metric;
  const node = element("button", { className: "item", type: "button" });
  node.dataset.index = index;
  const thumbnail = element("img", { src: source(index, "lr"), alt: "", loading: "lazy", decoding: "async" });
  const name = element("span", { className: "name", textContent: shortName(image), title: image.name });
  if (image.class) name.append(element("small", { textContent: image.class }));
  node.append(thumbnail, name);
  if (metric) {
    const value = sort.of ? sort.of(image) : valueOf(image, 0, metric);
    const text = sort.signed ? signed(value, metric) : fixed(value, metric);
    node.append(element("span", { className: "number", textContent: text }));
  }
  return element("li", {}, node);
}

function drawList() {
  order = matching().sort(compareImages);
  list.replaceChildren(...order.map(item));
  const total = report.images.length;
  byId("count").textContent = order.length ? `${order.length === total ? total : `${order.length} of ${total}`} images`
    : "No image matches. Esc in the filter shows all again.";
  direction.textContent = rising ? "\u2191" : "\u2193";
  direction.setAttribute("aria-label", `Order: ${rising ? "rising" : "falling"}`);
  direction.title = direction.getAttribute("aria-label");
  byId("range").hidden = !sortNow().of;
  markCurrent(false);
}

function markCurrent(scroll) {
  for (const node of list.querySelectorAll(".item")) {
    const current = Number(node.dataset.index) === state.index;
    node.setAttribute("aria-current", current);
    if (!current || !scroll) continue;
    const [box, around] = [node.getBoundingClientRect(), list.getBoundingClientRect()]; // the list alone, not the page
    if (box.top < around.top || box.bottom > around.bottom) list.scrollTop += box.top - around.top - around.height / 2;
    if (box.left < around.left || box.right > around.right) list.scrollLeft += box.left - around.left - around.width / 2;
  }
}

function step(by) {
  if (!order.length) return;
  const place = order.indexOf(state.index);
  show({ index: order[place < 0 ? 0 : (place + by + order.length) % order.length] });
}

function clearFilter() {
  for (const id of ["filter", "least", "most"]) byId(id).value = "";
  byId("class").value = "";
  drawList();
}

function startList() {
  groupedOptions(sortSelect, sorts);
  const classes = [...new Set(report.images.map((image) => image.class))].sort();
  const named = (name) => name || "(no class)";
  groupedOptions(byId("class"), [{ value: "", label: "All classes", group: "" },
    ...classes.map((name) => ({ value: `=${name}`, label: named(name), group: "" }))]);
  byId("class-label").hidden = classes.length < 2;
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  for (const id of ["filter", "least", "most"]) byId(id).addEventListener("input", drawList);
  byId("class").addEventListener("change", drawList);
  sortSelect.addEventListener("change", () => {
    byId("least").value = byId("most").value = "";
    drawList();
  });
  direction.addEventListener("click", () => { rising = !rising; drawList(); });
  list.addEventListener("click", (event) => {
    const node = event.target.closest(".item");
    if (node) show({ index: Number(node.dataset.index) });
  });
  list.addEventListener("keydown", (event) => {
    const by = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
    const nodes = [...list.querySelectorAll(".item")], at = nodes.indexOf(document.activeElement);
    if (!by || at < 0) return;
    event.preventDefault();
    nodes[at + by]?.focus();
  });
  byId("previous").addEventListener("click", () => step(-1));
  byId("next").addEventListener("click", () => step(1));
  drawers.push((changed) => { if (changed.has("index")) markCurrent(true); });
  drawList();
}

// --- the table of classes, on all images of the validation ---

function drawClasses() {
  const metric = report.classes.metrics[Number(byId("class-metric").value)];
  const table = byId("classes"), heads = ["Class", "Images", "bicubic", ...report.runs];
  table.tHead.replaceChildren(element("tr", {}, ...heads.map((text) => element("th", { scope: "col", textContent: text }))));
  table.tBodies[0].replaceChildren(...report.classes.rows.map((row) => {
    const choose = element("button", { type: "button", textContent: row.name || "(no class)" });
    choose.title = "Show this class alone";
    const cells = row.means.map((means, column) => {
      const value = means[metric.name] ?? undefined, base = row.means[0][metric.name] ?? undefined;
      const cell = element("td", { textContent: fixed(value, metric) });
      if (column && known(value) && known(base)) cell.append(" ", element("small", { textContent: signed(value - base, metric) }));
      return cell;
    });
    const line = element("tr", {}, element("th", { scope: "row" }, choose), element("td", { textContent: row.images }), ...cells);
    line.addEventListener("click", () => {
      byId("class").value = `=${row.name}`;
      drawList();
      byId("viewer").scrollIntoView();
    });
    return line;
  }));
}

function startClasses() {
  if (report.classes.rows.length < 2 || !report.classes.metrics.length) {
    byId("classes-block").hidden = true;
    return;
  }
  groupedOptions(byId("class-metric"), report.classes.metrics.map((metric, index) => ({ value: index, label: metric.name, group: "" })));
  byId("class-metric").addEventListener("change", drawClasses);
  drawClasses();
}
