// A model that effkeras exported, run by LiteRT.js in the browser.
//
//   import { openModel, pixelsOf } from "./model.js";
//   const model = await openModel();
//   const { detections } = await model.predict(await pixelsOf(file), 0.3);

import { classesOf, detectionsOf } from "./detections.js";
import { drawnPixels, pixelsOf, place, toImage } from "./pixels.js";

export { drawnPixels, pixelsOf };

/**
 * Loads the runtime and the model of this folder.
 * @param {{accelerator?: "wasm" | "webgpu", threads?: number}} options  threads: by default all that the page may use,
 *   which is one unless the server sends the two headers of isolation
 */
export async function openModel({ accelerator = "wasm", threads } = {}) {
  const about = await json("model.json");
  const litert = await import(located(about.runtime.module));
  const several = accelerator === "wasm" && self.crossOriginIsolated && threads !== 1;
  await loaded(litert, located(about.runtime.wasm), several);
  const most = several ? litert.getGlobalLiteRt().liteRtWasm.getThreadCount() : 1;
  const used = Math.min(threads ?? most, most);
  const compiled = await litert.loadAndCompile(located(about.file), {
    accelerator,
    cpuOptions: { numThreads: used },
  });
  // What a GPU leaves over would need another build of the runtime, and be slower than the CPU alone.
  if (accelerator === "webgpu" && !compiled.isFullyAccelerated) throw new Error("it does not take the whole network");
  if (about.anchors) about.anchors = new Float32Array(await (await fetched(about.anchors)).arrayBuffer());
  return new Model(about, litert, compiled, accelerator === "wasm" ? used : 0);
}

/** Threads need two headers, and WebAssembly's relaxed SIMD too, which not all browsers have. */
async function loaded(litert, folder, several) {
  if (several && (await litert.supportsFeature("threads")) && (await litert.supportsFeature("relaxedSimd"))) {
    return litert.loadLiteRt(folder, { threads: true });
  }
  return litert.loadLiteRt(folder, {});
}

export class Model {
  /** `threads` is 0 on a GPU. */
  constructor(about, litert, compiled, threads) {
    Object.assign(this, { about, litert, compiled, threads });
  }

  /** Whether it finds boxes; otherwise it names classes. */
  get detects() {
    return this.about.kind === "detector";
  }

  /**
   * What `effkeras predict` finds, for RGBA pixels: `detections` with label, class, score and box (ymin, xmin, ymax,
   * xmax in pixels of the image) from `minScore` on, or the five likeliest `classes`. `milliseconds` has what
   * preparing the image, the network and reading its outputs took.
   */
  async predict(image, minScore = this.about.min_score) {
    const begun = performance.now();
    const { pixels, placement } = place(image, this.about.input);
    const placed = performance.now();
    const outputs = await this.run(pixels);
    const ran = performance.now();
    const found = this.detects
      ? { detections: this.#inImage(detectionsOf(outputs, this.about, minScore), placement) }
      : { classes: classesOf(outputs).map((one) => this.#labelled(one)) };
    const milliseconds = { prepare: placed - begun, network: ran - placed, read: performance.now() - ran };
    return { ...found, milliseconds };
  }

  /** The outputs by what they hold, as real numbers, for pixels 0..255 of the input's size. */
  async run(pixels) {
    const { name, dtype, size } = this.about.input;
    const values = dtype === "uint8" ? Uint8Array.from(pixels) : pixels;
    const tensor = new this.litert.Tensor(values, [1, ...size, 3]);
    try {
      const made = await this.compiled.run({ [name]: tensor });
      const pairs = this.about.outputs.map(async (one) => [one.holds, real(await taken(made[one.name]), one)]);
      return Object.fromEntries(await Promise.all(pairs));
    } finally {
      tensor.delete();
    }
  }

  #inImage(found, placement) {
    return found.map((one) => ({ ...this.#labelled(one), box: toImage(one.box, placement) }));
  }

  #labelled(one) {
    return { label: this.about.labels[one.class] ?? String(one.class), ...one };
  }
}

async function taken(tensor) {
  try {
    return await tensor.data();
  } finally {
    tensor.delete();
  }
}

function real(values, { scale, zero_point: zero }) {
  return scale ? Float32Array.from(values, (value) => (value - zero) * Math.fround(scale)) : values;
}

function located(path) {
  return new URL(path, import.meta.url).href;
}

async function fetched(path) {
  const answer = await fetch(located(path));
  if (!answer.ok) throw new Error(`${path}: the server says ${answer.status}`);
  return answer;
}

async function json(path) {
  return (await fetched(path)).json();
}
