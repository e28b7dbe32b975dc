// Pixels: stored pictures are decoded, bicubic and the maps are computed, each as one canvas.

const report = JSON.parse(document.getElementById("report-data").textContent);
const SCALE = 4;
const CACHED = 6 * report.views.length; // canvases of the newest images

// Dark to light through red, so that more is lighter in print and to most colour-blind eyes too; sRGB, evenly spaced.
const RAMP = [[4, 4, 12], [40, 14, 74], [104, 26, 110], [170, 42, 98], [224, 74, 64], [250, 135, 38], [252, 201, 84], [252, 253, 191]];

function rampColour(share) {
  const place = Math.min(Math.max(share, 0), 1) * (RAMP.length - 1);
  const low = Math.min(Math.floor(place), RAMP.length - 2);
  return RAMP[low].map((value, channel) => Math.round(value + (RAMP[low + 1][channel] - value) * (place - low)));
}

const gradient = `linear-gradient(90deg, ${RAMP.map((rgb) => `rgb(${rgb})`).join(", ")})`;

function blank(width, height) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, height];
  return canvas;
}

function pixelsOf(canvas) {
  return canvas.getContext("2d", { willReadFrequently: true }).getImageData(0, 0, canvas.width, canvas.height);
}

function painted(width, height, data) {
  const canvas = blank(width, height);
  canvas.getContext("2d", { willReadFrequently: true }).putImageData(new ImageData(data, width, height), 0, 0);
  return canvas;
}

function source(index, name) {
  const element = document.getElementById(`picture-${index}-${name}`);
  return element && element.textContent;
}

async function decoded(index, name) {
  const uri = source(index, name);
  if (!uri) return null;
  const image = new Image();
  image.src = uri;
  await image.decode();
  const canvas = blank(image.naturalWidth, image.naturalHeight);
  canvas.getContext("2d", { willReadFrequently: true }).drawImage(image, 0, 0);
  return canvas;
}

// --- bicubic, to the last bit what Pillow makes of the LR: integer weights of 22 bits, one direction after the other ---

function bicubicWeights(size) {
  const cubic = (x) => {
    const a = -0.5, d = Math.abs(x);
    if (d < 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
    return d < 2 ? (((d - 5) * d + 8) * d - 4) * a : 0;
  };
  return Array.from({ length: size * SCALE }, (_, place) => {
    const centre = (place + 0.5) / SCALE;
    const first = Math.max(0, Math.floor(centre - 2 + 0.5));
    const count = Math.min(size, Math.floor(centre + 2 + 0.5)) - first;
    const raw = Array.from({ length: count }, (_, k) => cubic(k + first - centre + 0.5));
    const sum = raw.reduce((a, b) => a + b, 0);
    return { first, weights: raw.map((w) => Math.trunc((w / sum) * 2 ** 22 + (w < 0 ? -0.5 : 0.5))) };
  });
}

function enlargedLine(from, offset, step, size, to, target, targetStep, table) {
  for (let place = 0; place < size * SCALE; place++) {
    const { first, weights } = table[place];
    for (let channel = 0; channel < 3; channel++) {
      let sum = 2 ** 21;
      for (let k = 0; k < weights.length; k++) sum += weights[k] * from[offset + (first + k) * step + channel];
      to[target + place * targetStep + channel] = Math.floor(sum / 2 ** 22); // clamped to 0..255 by the array
    }
    to[target + place * targetStep + 3] = 255;
  }
}

function bicubic(lr) {
  const { width, height, data } = pixelsOf(lr);
  const [wide, high] = [width * SCALE, height * SCALE];
  const rows = new Uint8ClampedArray(wide * height * 4);
  const columns = bicubicWeights(width);
  for (let y = 0; y < height; y++) enlargedLine(data, y * width * 4, 4, width, rows, y * wide * 4, 4, columns);
  const result = new Uint8ClampedArray(wide * high * 4);
  const lines = bicubicWeights(height);
  for (let x = 0; x < wide; x++) enlargedLine(rows, x * 4, wide * 4, height, result, x * 4, wide * 4, lines);
  return painted(wide, high, result);
}

// --- maps: grey levels first, colours after ---

function errorLevels(shown, hr) {
  const [a, b] = [pixelsOf(shown).data, pixelsOf(hr).data];
  const levels = new Uint8Array(a.length / 4);
  for (let i = 0; i < levels.length; i++) {
    const p = 4 * i;
    const sum = Math.abs(a[p] - b[p]) + Math.abs(a[p + 1] - b[p + 1]) + Math.abs(a[p + 2] - b[p + 2]);
    levels[i] = Math.floor((2 * sum + 3) / 6); // the mean, rounded half up
  }
  return levels;
}

function coloured(levels, width, height, top) {
  const table = Array.from({ length: 256 }, (_, level) => rampColour(level / top));
  const data = new Uint8ClampedArray(levels.length * 4);
  for (let i = 0; i < levels.length; i++) {
    const [r, g, b] = table[levels[i]];
    data.set([r, g, b, 255], 4 * i);
  }
  const canvas = painted(width, height, data);
  canvas.levels = levels;
  return canvas;
}

async function made(index, name) {
  if (name === "up") {
    const lr = await picture(index, "lr");
    return lr && bicubic(lr);
  }
  if (name.startsWith("error-")) {
    const [shown, hr] = await Promise.all([picture(index, name.slice(6)), picture(index, "hr")]);
    return coloured(errorLevels(shown, hr), hr.width, hr.height, report.scales.error);
  }
  const canvas = await decoded(index, name);
  if (!canvas || !name.startsWith("use")) return canvas;
  const levels = pixelsOf(canvas).data.filter((_, i) => i % 4 === 0);
  return coloured(levels, canvas.width, canvas.height, report.scales.use);
}

const kept = new Map(); // "index name" -> promise of a canvas, oldest use first

function picture(index, name) {
  const key = `${index} ${name}`;
  const found = kept.get(key) ?? made(index, name);
  kept.delete(key);
  kept.set(key, found);
  if (kept.size > CACHED) kept.delete(kept.keys().next().value);
  return found;
}
