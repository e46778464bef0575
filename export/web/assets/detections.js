// From a network's outputs to detections or classes: what effkeras/detection/nms.py and effkeras/inference/tasks do.

const MOST_CANDIDATES = 5000; // anchors of an image, as in the reference
const BEST = 5; // classes shown

/** The likeliest classes of a classifier: [{class, score}], best first. */
export function classesOf(outputs) {
  const [scores] = Object.values(outputs);
  const order = Array.from(scores, (_, i) => i).sort((a, b) => scores[b] - scores[a] || a - b);
  return order.slice(0, BEST).map((i) => ({ class: i, score: scores[i] }));
}

/**
 * The detections of one image: [{class, score, box}] by falling score; boxes are ymin, xmin, ymax, xmax in pixels of
 * the network's input, clipped to it.
 * @param outputs  float arrays by what they hold: class_logits and box_deltas, or those of an artifact with NMS
 * @param model  the content of model.json, with `anchors` as a Float32Array (N, 4)
 * @param {number} floor  the least score that is asked for. Suppression takes boxes by falling score, so those below
 *   it would lower none of the others.
 */
export function detectionsOf(outputs, model, floor) {
  const all = "detection_boxes" in outputs ? suppressed(outputs, model.input.size) : detect(outputs, model, floor);
  const found = all.filter((one) => one.score >= floor);
  const [height, width] = model.input.size;
  for (const one of found) {
    one.box = one.box.map((value, i) => Math.min(Math.max(value, 0), i % 2 ? width : height));
  }
  return found;
}

function suppressed(outputs, [height, width]) {
  const { detection_boxes: boxes, detection_scores: scores, detection_classes: classes } = outputs;
  return Array.from({ length: Math.trunc(outputs.num_detections[0]) }, (_, i) => ({
    class: Math.trunc(classes[i]),
    score: scores[i],
    box: Array.from(boxes.subarray(4 * i, 4 * i + 4), (value, k) => value * (k % 2 ? width : height)),
  }));
}

function detect(outputs, { anchors, nms }, floor) {
  const logits = outputs.class_logits;
  const classes = logits.length / (anchors.length / 4);
  const least = floor > 0 ? Math.log(floor / (1 - floor)) - 1e-3 : -Infinity; // a little below, for rounding
  const { anchor, kind } = candidates(logits, classes, nms, least);
  const scores = Float32Array.from(anchor, (a, i) => sigmoid(logits[a * classes + kind[i]]));
  const boxes = new Float32Array(anchor.length * 4);
  anchor.forEach((a, i) => boxes.set(decoded(outputs.box_deltas, anchors, a * 4), i * 4));
  return suppress(boxes, scores, nms, floor).map(({ index, score }) => ({
    class: kind[index],
    score,
    box: Array.from(boxes.subarray(4 * index, 4 * index + 4)),
  }));
}

/**
 * Pairs of anchor and class with a logit of at least `least`: each anchor's best class, or, with max_inputs, the
 * strongest pairs of all.
 */
function candidates(logits, classes, nms, least) {
  let chosen = [];
  if (nms.max_inputs) {
    for (let i = 0; i < logits.length; i++) if (logits[i] >= least) chosen.push(i);
    chosen = strongest(logits, chosen, nms.max_inputs);
  } else {
    for (let start = 0; start < logits.length; start += classes) {
      let best = start;
      for (let i = start + 1; i < start + classes; i++) if (logits[i] > logits[best]) best = i;
      if (logits[best] >= least) chosen.push(best);
    }
    chosen = strongest(logits, chosen, MOST_CANDIDATES);
  }
  return { anchor: chosen.map((i) => Math.floor(i / classes)), kind: chosen.map((i) => i % classes) };
}

/** Those of the places, which rise, with the `count` highest values. */
function strongest(values, places, count) {
  if (places.length <= count) return places;
  const least = Float32Array.from(places, (i) => values[i]).sort()[places.length - count];
  let ties = count - places.filter((i) => values[i] > least).length;
  return places.filter((i) => values[i] > least || (values[i] === least && ties-- > 0));
}

function sigmoid(x) {
  return x >= 0 ? 1 / (1 + Math.exp(-x)) : Math.exp(x) / (1 + Math.exp(x));
}

/** ty, tx, th, tw relative to an anchor, as a box. */
function decoded(deltas, anchors, at) {
  const half = [0, 1].map((i) => (Math.exp(deltas[at + 2 + i]) * (anchors[at + 2 + i] - anchors[at + i])) / 2);
  const center = [0, 1].map(
    (i) => deltas[at + i] * (anchors[at + 2 + i] - anchors[at + i]) + (anchors[at + i] + anchors[at + 2 + i]) / 2,
  );
  return [center[0] - half[0], center[1] - half[1], center[0] + half[0], center[1] + half[1]];
}

/** Non-maximum suppression regardless of class; the soft, Gaussian kind lowers scores. */
function suppress(boxes, scores, nms, floor) {
  const soft = nms.method === "gaussian";
  const lives = (i) => scores[i] >= floor && (!soft || scores[i] > nms.score_threshold);
  let alive = Array.from(scores, (_, i) => i).filter(lives);
  const kept = [];
  while (kept.length < nms.max_detections && alive.length) {
    let best = alive[0];
    for (const i of alive) if (scores[i] > scores[best]) best = i;
    kept.push({ index: best, score: scores[best] });
    const left = [];
    for (const i of alive) {
      if (i === best) continue;
      const overlap = iou(boxes, best * 4, i * 4);
      if (soft) scores[i] *= Math.exp((-overlap * overlap) / nms.sigma);
      else if (overlap > nms.iou_threshold) continue;
      if (lives(i)) left.push(i);
    }
    alive = left;
  }
  return kept;
}

function iou(boxes, a, b) {
  const height = Math.min(boxes[a + 2], boxes[b + 2]) - Math.max(boxes[a], boxes[b]);
  const width = Math.min(boxes[a + 3], boxes[b + 3]) - Math.max(boxes[a + 1], boxes[b + 1]);
  if (height <= 0 || width <= 0) return 0;
  const overlap = height * width;
  const union = area(boxes, a) + area(boxes, b) - overlap;
  return union > 0 ? overlap / union : 0;
}

function area(boxes, at) {
  return Math.max(boxes[at + 2] - boxes[at], 0) * Math.max(boxes[at + 3] - boxes[at + 1], 0);
}
