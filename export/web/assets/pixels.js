// Places an image in the network's input: the same arithmetic as effkeras/data/preprocess.py, so that this page and
// `effkeras predict` give the network the same pixels. Resizing is bilinear with half-pixel centres in float32; a
// canvas would scale by a method of each browser's own.

const float = Math.fround;

/** The RGBA pixels of an image file, turned as its Exif data say and on white where it is transparent. */
export async function pixelsOf(blob) {
  const plain = { colorSpaceConversion: "none", premultiplyAlpha: "none", imageOrientation: "from-image" };
  // Browsers that do not know one of these words take none of them.
  const bitmap = await createImageBitmap(blob, plain).catch(() => createImageBitmap(blob));
  try {
    return drawnPixels(bitmap, bitmap.width, bitmap.height);
  } finally {
    bitmap.close();
  }
}

/** The RGBA pixels of anything that a canvas draws, such as a frame of a video. */
export function drawnPixels(source, width, height) {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, width, height);
  pen.drawImage(source, 0, 0, width, height);
  return pen.getImageData(0, 0, width, height);
}

/**
 * An image in the network's input.
 * @param {ImageData} image  RGBA pixels
 * @param {{size, mean, resize, crop}} input  as in model.json; sizes are [height, width]
 * @returns {{pixels: Float32Array, placement: {scale, offset, size}}}  pixels (H, W, 3), 0..255; scale is input pixels
 *   per image pixel and offset the image's corner in the input, both (y, x)
 */
export function place(image, input) {
  const [height, width] = input.size;
  const size = [image.height, image.width];
  const { part, inner } = input.resize === "letterbox" ? letterbox(size, input.size) : centralPart(size, input);
  const pixels = new Float32Array(height * width * 3);
  if (inner[0] < height || inner[1] < width) {
    for (let i = 0; i < pixels.length; i++) pixels[i] = input.mean[i % 3];
  }
  resizeInto(pixels, width, image, part, inner);
  const scale = [inner[0] / part.height, inner[1] / part.width];
  return { pixels, placement: { scale, offset: [-part.top * scale[0], -part.left * scale[1]], size } };
}

/** A box (ymin, xmin, ymax, xmax) of the input in pixels of the image, clipped to it. */
export function toImage(box, { scale, offset, size }) {
  return box.map((value, i) => Math.min(Math.max((value - offset[i % 2]) / scale[i % 2], 0), size[i % 2]));
}

function letterbox([height, width], [most, widest]) {
  const inner =
    most * width <= widest * height
      ? [most, Math.max(1, Math.floor((most * width) / height))]
      : [Math.max(1, Math.floor((widest * height) / width)), widest];
  return { part: { top: 0, left: 0, height, width }, inner };
}

function centralPart([height, width], input) {
  const ratio = Math.min(height / input.size[0], width / input.size[1]) * input.crop;
  const [high, wide] = input.size.map((side) => Math.max(1, evenRound(side * ratio)));
  const part = {
    top: Math.floor((height - high) / 2),
    left: Math.floor((width - wide) / 2),
    height: high,
    width: wide,
  };
  return { part, inner: input.size };
}

function resizeInto(target, stride, image, part, [height, width]) {
  const rows = neighbours(part.height, height);
  const columns = neighbours(part.width, width);
  const { data } = image;
  for (let y = 0; y < height; y++) {
    const down = rows.shares[y];
    const up = float(1 - down);
    const top = (part.top + rows.first[y]) * image.width + part.left;
    const bottom = (part.top + rows.last[y]) * image.width + part.left;
    for (let x = 0; x < width; x++) {
      const across = columns.shares[x];
      const back = float(1 - across);
      const first = columns.first[x];
      const last = columns.last[x];
      for (let c = 0; c < 3; c++) {
        const left = float(float(data[(top + first) * 4 + c] * up) + float(data[(bottom + first) * 4 + c] * down));
        const right = float(float(data[(top + last) * 4 + c] * up) + float(data[(bottom + last) * 4 + c] * down));
        target[(y * stride + x) * 3 + c] = evenRound(float(float(left * back) + float(right * across)));
      }
    }
  }
}

/** The two pixels around each target pixel, and its distance from the first. */
function neighbours(source, target) {
  const first = new Int32Array(target);
  const last = new Int32Array(target);
  const shares = new Float32Array(target);
  const step = source / target;
  for (let i = 0; i < target; i++) {
    const position = Math.min(Math.max((i + 0.5) * step - 0.5, 0), source - 1);
    first[i] = Math.floor(position);
    last[i] = Math.min(first[i] + 1, source - 1);
    shares[i] = position - first[i];
  }
  return { first, last, shares };
}

/** Rounds halves to the even neighbour, as Python and numpy do. */
function evenRound(value) {
  const whole = Math.floor(value);
  const rest = value - whole;
  if (rest !== 0.5) return rest < 0.5 ? whole : whole + 1;
  return whole % 2 ? whole + 1 : whole;
}
