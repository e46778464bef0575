// The page: images in, boxes or classes out. model.js does the work.

import { drawnPixels, openModel, pixelsOf } from "./model.js";

const PALETTE = ["#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#FFFFFF"];
const LISTED = 12; // rows of the result
const RUNS = 20;
const KEPT = 0.01; // boxes below are not kept for the slider, whose least value it is
const ACCELERATOR = "accelerator"; // in the page's address
const REFUSED = "refused"; // why the GPU did not run the model, for the page that is loaded next

const part = Object.fromEntries([...document.querySelectorAll("[id]")].map((one) => [one.id, one]));
const state = { model: null, image: null, name: "", found: null, pointed: null, stream: null, asked: 0 };

const wanted = new URLSearchParams(location.search).get(ACCELERATOR) === "webgpu" ? "webgpu" : "wasm";
// For scripts, and the console: `(await effkeras).predict(...)`.
globalThis.effkeras = start();

async function start() {
  try {
    state.model = await openModel({ accelerator: wanted });
  } catch (error) {
    if (wanted === "webgpu") return backToCpu(error);
    part.status.textContent = `The model cannot be loaded: ${error.message}`;
    throw error;
  }
  describe(state.model.about);
  listen();
  part.status.hidden = true;
  part.main.hidden = false;
  part.frame.classList.add("waiting");
  const refused = sessionStorage.getItem(REFUSED);
  if (refused) warn(`The GPU does not run this model here (${refused}), so the CPU does.`);
  sessionStorage.removeItem(REFUSED);
  return state.model;
}

/** Loads the page again, as LiteRT.js loads only once in a page. */
function backToCpu(error) {
  sessionStorage.setItem(REFUSED, error.message);
  location.search = "";
  return new Promise(() => {});
}

function describe(about) {
  const [height, width] = about.input.size;
  const classes = about.labels.length || about.classes;
  const facts = [
    about.kind,
    about.recipe,
    `${width} × ${height} pixels`,
    `${classes} ${classes === 1 ? "class" : "classes"}`,
    bytes(about.bytes),
  ];
  part.facts.replaceChildren(...facts.filter(Boolean).map((text) => element("span", { textContent: text })));
  part.about.textContent =
    `${about.name}, exported by effkeras ${about.version}; run by LiteRT.js ${about.runtime.version} ` +
    `(${about.runtime.licence}).`;
  part["threshold-part"].hidden = !state.model.detects;
  setThreshold(about.min_score);
  part["threshold-note"].textContent = about.threshold
    ? `${score(about.threshold.score)} has the best F1 on ${about.threshold.images} images of ${about.threshold.split}.`
    : "Boxes with a lower score are left out.";
  part.threads.textContent = threadsNote();
  offerGpu();
  showSamples(about.samples);
}

function threadsNote() {
  const { threads } = state.model;
  if (threads === 0) return "";
  if (threads > 1) return `${threads} threads.`;
  if (self.crossOriginIsolated) return "1 thread.";
  return (
    "1 thread: the server does not send the headers Cross-Origin-Opener-Policy and Cross-Origin-Embedder-Policy, " +
    "without which browsers refuse more."
  );
}

async function offerGpu() {
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  if (adapter || wanted === "webgpu") part.accelerator.append(new Option("GPU (WebGPU)", "webgpu"));
  part.accelerator.value = wanted;
}

function showSamples(samples) {
  part["samples-part"].hidden = !samples.length;
  const buttons = samples.map((path, i) => {
    const image = element("img", { src: path, alt: `Sample ${i + 1}`, loading: "lazy" });
    const button = element("button", { type: "button" }, image);
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", async () => {
      const answer = await fetch(path);
      await open(await answer.blob(), path.split("/").pop());
      mark(button);
    });
    return element("li", {}, button);
  });
  part.samples.replaceChildren(...buttons);
}

function mark(button) {
  for (const one of part.samples.querySelectorAll("button")) {
    one.setAttribute("aria-pressed", String(one === button));
  }
}

// Images

function listen() {
  part.file.addEventListener("change", () => {
    if (part.file.files[0]) open(part.file.files[0]);
    part.file.value = "";
  });
  addEventListener("paste", (event) => takeFrom(event, event.clipboardData));
  addEventListener("drop", (event) => takeFrom(event, event.dataTransfer));
  addEventListener("dragover", (event) => {
    event.preventDefault();
    part.frame.classList.add("over");
  });
  addEventListener("dragleave", (event) => event.relatedTarget || part.frame.classList.remove("over"));
  part.camera.addEventListener("click", () => (state.stream ? stopCamera() : startCamera()));
  part.save.addEventListener("click", save);
  part.measure.addEventListener("click", measure);
  part.accelerator.addEventListener("change", () => {
    location.search = part.accelerator.value === "webgpu" ? `?${ACCELERATOR}=webgpu` : "";
  });
  part.threshold.addEventListener("input", () => {
    showThreshold();
    show();
  });
  part["threshold-reset"].addEventListener("click", () => {
    setThreshold(state.model.about.min_score);
    part.threshold.focus();
    show();
  });
  new ResizeObserver(fit).observe(part.frame);
}

function takeFrom(event, from) {
  const file = [...(from?.files ?? [])].find((one) => one.type.startsWith("image/"));
  part.frame.classList.remove("over");
  if (event.type === "drop") event.preventDefault();
  if (file) open(file);
  else if (event.type === "drop") warn("That is not an image file.");
}

async function open(blob, name = blob.name ?? "image") {
  stopCamera();
  mark(null);
  const asked = ++state.asked;
  try {
    const image = await pixelsOf(blob);
    const found = await state.model.predict(image, KEPT);
    if (asked === state.asked) take(image, found, name);
  } catch (error) {
    warn(`${name}: the browser cannot read it as an image, or the model failed on it (${error.message}).`);
  }
}

function take(image, found, name) {
  warn("");
  Object.assign(state, { image, found, name, pointed: null });
  Object.assign(part.image, { width: image.width, height: image.height });
  part.image.getContext("2d").putImageData(image, 0, 0);
  part.empty.hidden = true;
  part.view.hidden = false;
  part.frame.classList.remove("waiting");
  part.save.disabled = part.measure.disabled = false; // a measurement of the image before ends now
  fit();
  show();
  showTimes(found.milliseconds);
}

async function startCamera() {
  if (!navigator.mediaDevices) {
    warn("Browsers give the camera only to pages from localhost or over https.");
    return;
  }
  try {
    const video = { facingMode: "environment", width: { ideal: 1280 }, height: { ideal: 720 } };
    state.stream = await navigator.mediaDevices.getUserMedia({ video });
  } catch (error) {
    warn(`The camera cannot be used (${error.message}).`);
    return;
  }
  mark(null);
  state.asked++; // an image that is still being read comes too late
  setCamera(true);
  const film = Object.assign(document.createElement("video"), { srcObject: state.stream, muted: true });
  film.playsInline = true;
  await film.play();
  watch(film, state.stream);
}

async function watch(film, stream) {
  while (state.stream === stream) {
    if (film.videoWidth) {
      const image = drawnPixels(film, film.videoWidth, film.videoHeight);
      const found = await state.model.predict(image, KEPT);
      if (state.stream !== stream) return;
      take(image, found, "camera");
    }
    await new Promise(requestAnimationFrame);
  }
}

function stopCamera() {
  state.stream?.getTracks().forEach((track) => track.stop());
  state.stream = null;
  setCamera(false);
}

function setCamera(runs) {
  part.camera.setAttribute("aria-pressed", String(runs));
  part.camera.textContent = runs ? "Stop the camera" : "Use the camera";
  // Every frame would be read aloud.
  part.summary.setAttribute("aria-live", runs ? "off" : "polite");
}

// Results

function threshold() {
  return state.exact ?? Number(part.threshold.value);
}

/** Sets the slider; the stored threshold counts with all its digits until the slider is moved. */
function setThreshold(value) {
  part.threshold.value = value;
  showThreshold();
  state.exact = value;
}

function showThreshold() {
  state.exact = null;
  part["threshold-value"].textContent = score(Number(part.threshold.value));
  const stored = Math.round(state.model.about.min_score * 100) / 100;
  part["threshold-reset"].hidden = Math.abs(Number(part.threshold.value) - stored) < 0.005;
}

function shown() {
  const { detections, classes } = state.found ?? {};
  return detections ? detections.filter((one) => one.score >= threshold()) : (classes ?? []);
}

function show() {
  if (!state.found) return;
  const rows = shown();
  part.summary.textContent = summary(rows);
  part.image.setAttribute("aria-label", `${state.name}: ${part.summary.textContent}`);
  part.counts.textContent = counted(rows);
  part.found.replaceChildren(...rows.slice(0, LISTED).map(row));
  part.more.hidden = rows.length <= LISTED;
  part.more.textContent = `and ${rows.length - LISTED} more`;
  draw(rows);
}

function summary(rows) {
  if (!state.model.detects) return rows[0].label;
  if (!rows.length) return "Nothing from this score on";
  return `${rows.length} ${rows.length === 1 ? "object" : "objects"}`;
}

/** How many objects of each class there are; empty where the list says as much. */
function counted(rows) {
  const counts = new Map();
  for (const { label } of rows) counts.set(label, (counts.get(label) ?? 0) + 1);
  if (!state.model.detects || counts.size === rows.length) return "";
  return [...counts]
    .sort((a, b) => b[1] - a[1])
    .map(([label, count]) => `${count} × ${label}`)
    .join(", ");
}

function row(one) {
  const swatch = element("span", { className: "swatch" });
  swatch.style.background = one.box ? colour(one.class) : "var(--accent)";
  const meter = element("meter", { min: 0, max: 1, value: one.score });
  meter.setAttribute("aria-hidden", "true");
  const line = element(
    "li",
    {},
    swatch,
    element("span", { className: "label", textContent: one.label, title: one.label }),
    meter,
    element("span", { className: "score", textContent: score(one.score) }),
  );
  line.addEventListener("pointerenter", () => point(one));
  line.addEventListener("pointerleave", () => point(null));
  return line;
}

function point(one) {
  state.pointed = one;
  draw(shown());
}

/** Gives the image the largest size that fits the frame, small ones up to four times their own. */
function fit() {
  if (!state.image) return;
  const { width, height } = state.image;
  const room = [part.frame.clientWidth, Math.max(innerHeight * 0.68, 260)];
  const factor = Math.min(room[0] / width, room[1] / height, 4);
  part.view.style.setProperty("--width", `${width * factor}px`);
  part.view.style.setProperty("--height", `${height * factor}px`);
  const density = devicePixelRatio;
  Object.assign(part.overlay, {
    width: Math.round(width * factor * density),
    height: Math.round(height * factor * density),
  });
  draw(shown());
}

function draw(rows) {
  const pen = part.overlay.getContext("2d");
  pen.setTransform(1, 0, 0, 1, 0, 0);
  pen.clearRect(0, 0, part.overlay.width, part.overlay.height);
  drawBoxes(pen, rows, part.overlay.width / state.image.width, devicePixelRatio);
}

/** Draws boxes; `scale` is canvas pixels per image pixel, `unit` canvas pixels per pixel on screen. */
function drawBoxes(pen, rows, scale, unit) {
  const boxes = rows.filter((one) => one.box).map((one) => ({ ...one, at: one.box.map((value) => value * scale), one }));
  const line = (one) => (state.pointed === one ? 4 : 2.25) * unit;
  for (const { at, one } of boxes.slice().reverse()) {
    const [top, left, bottom, right] = at;
    pen.globalAlpha = state.pointed && state.pointed !== one ? 0.3 : 1;
    pen.lineWidth = line(one);
    pen.strokeStyle = colour(one.class);
    pen.strokeRect(left, top, right - left, bottom - top);
  }
  pen.font = `600 ${12.5 * unit}px system-ui, sans-serif`;
  pen.textBaseline = "middle";
  const taken = [];
  // The label of a box that is pointed at comes before all others, then the surest.
  for (const { at, one } of boxes.slice().sort((a, b) => (b.one === state.pointed) - (a.one === state.pointed))) {
    const text = `${one.label} ${score(one.score)}`;
    const size = [pen.measureText(text).width + 8 * unit, 17 * unit];
    const place = freePlace(at, size, line(one) / 2, pen.canvas.width, taken);
    if (!place) continue; // the colour still says the class, and the list the score
    taken.push(place);
    pen.globalAlpha = state.pointed && state.pointed !== one ? 0.3 : 1;
    pen.fillStyle = colour(one.class);
    pen.fillRect(...place);
    pen.fillStyle = isDark(colour(one.class)) ? "#fff" : "#000";
    pen.fillText(text, place[0] + 4 * unit, place[1] + place[3] / 2);
  }
  pen.globalAlpha = 1;
}

/** Where a label covers no other: [x, y, width, height] above the box, inside it, or below; null without room. */
function freePlace([top, left, bottom], [width, height], edge, widest, taken) {
  const x = Math.max(0, Math.min(left - edge, widest - width));
  const rows = [top - height, top, bottom].filter((y) => y >= 0);
  const isFree = (y) => !taken.some(([u, v, w, h]) => x < u + w && u < x + width && y < v + h && v < y + height);
  const y = rows.find(isFree);
  return y === undefined ? null : [x, y, width, height];
}

function save() {
  const { width, height } = state.image;
  const factor = Math.max(1, Math.min(4, 640 / Math.max(width, height)));
  const canvas = Object.assign(document.createElement("canvas"), {
    width: Math.round(width * factor),
    height: Math.round(height * factor),
  });
  const pen = canvas.getContext("2d");
  pen.drawImage(part.image, 0, 0, canvas.width, canvas.height);
  const unit = Math.max(1, Math.max(canvas.width, canvas.height) / 900);
  // The likeliest class stands in the corner.
  const rows = shown().map((one) => (one.box ? one : { ...one, box: [0, 0, 0, 0] }));
  drawBoxes(pen, state.model.detects ? rows : rows.slice(0, 1), canvas.width / width, unit);
  canvas.toBlob((blob) => {
    const link = element("a", { href: URL.createObjectURL(blob) });
    link.download = `${state.name.replace(/\.[^.]*$/, "")}-result.png`;
    link.click();
    URL.revokeObjectURL(link.href);
  });
}

// Speed

/** Runs the model many times; another image that is opened meanwhile ends it. */
async function measure() {
  const { image } = state;
  const times = [];
  part.measure.disabled = true;
  try {
    for (let i = 0; i < RUNS + 3; i++) {
      const { milliseconds } = await state.model.predict(image, KEPT);
      if (state.image !== image) return;
      if (i >= 3) times.push(milliseconds);
      part["network-unit"].textContent = `ms, run ${Math.max(i - 2, 0)} of ${RUNS}`;
      await new Promise(requestAnimationFrame);
    }
    const middle = (key) => times.map((one) => one[key]).sort((a, b) => a - b)[RUNS / 2];
    showTimes(
      { network: middle("network"), prepare: middle("prepare"), read: middle("read") },
      `ms, median of ${RUNS} runs`,
    );
  } finally {
    part.measure.disabled = false;
  }
}

function showTimes({ network, prepare, read }, unit = "ms for the network") {
  part.network.textContent = figure(network);
  part["network-unit"].textContent = unit;
  const after = state.model.detects ? "finding boxes" : "sorting classes";
  part.others.textContent = `Preparing the image ${figure(prepare)} ms, ${after} ${figure(read)} ms.`;
}

// Small things

function element(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function warn(text) {
  part.alert.textContent = text;
  part.alert.hidden = !text;
}

function colour(index) {
  return PALETTE[index % PALETTE.length];
}

function isDark(hex) {
  const [red, green, blue] = [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
  return 0.299 * red + 0.587 * green + 0.114 * blue < 120;
}

function score(value) {
  return value.toFixed(2);
}

function figure(milliseconds) {
  return milliseconds < 10 ? milliseconds.toFixed(1) : Math.round(milliseconds).toString();
}

function bytes(count) {
  return count < 1e6 ? `${Math.round(count / 1e3)} kB` : `${(count / 1e6).toFixed(1)} MB`;
}
