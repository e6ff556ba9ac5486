// An image with its detections as one SVG: it scales with its frame, and its lines stay sharp.

const SVG = "http://www.w3.org/2000/svg";

/** A label's colour: always the same, and dark enough for white text. */
export function colour(label) {
  let hash = 2166136261;
  for (const letter of label) hash = Math.imul(hash ^ letter.codePointAt(0), 16777619);
  return `hsl(${(hash >>> 0) % 360} 75% 34%)`;
}

/** The surest label of a detection; null where it has none. */
export function best(detection) {
  return detection.labels.reduce((found, one) => (found && found.score >= one.score ? found : one), null);
}

/** `label 0.87`, as it stands at a box. */
export function words(detection) {
  const found = best(detection);
  return found ? `${found.label} ${found.score.toFixed(2)}` : "?";
}

/** An `<svg>` of a result: the image from `href`, and over it every detection of at least this score. */
export function picture(result, href, minScore) {
  const width = result.image.width_px || 640, height = result.image.height_px || 480;
  const root = make("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": described(result) });
  root.append(make("image", { href, width, height }));
  const shown = [...result.detections.entries()].filter(([, one]) => (best(one)?.score ?? 0) >= minScore);
  // The surest come last, and lie above the others.
  shown.sort(([, one], [, other]) => (best(one)?.score ?? 0) - (best(other)?.score ?? 0));
  for (const [number, one] of shown) root.append(box(number, one, width, height));
  return root;
}

function box(number, detection, width, height) {
  const { x, y, w, h } = detection.box, label = best(detection)?.label ?? "";
  const group = make("g", { class: "found", "data-number": number });
  const title = make("title", {});
  title.textContent = words(detection);
  group.append(title, make("rect", { class: "box", x, y, width: w, height: h, stroke: colour(label) }));
  group.append(tag(detection, x, y, width, height, colour(label)));
  return group;
}

function tag(detection, x, y, width, height, fill) {
  const text = words(detection), size = Math.max(width, height) / 36;
  const long = text.length * size * 0.58 + size * 0.5, high = size * 1.4;
  const left = Math.max(0, Math.min(x, width - long)), top = y >= high ? y - high : Math.min(y, height - high);
  const group = make("g", { class: "tag" });
  group.append(make("rect", { x: left, y: top, width: long, height: high, fill }));
  const line = make("text", { x: left + size * 0.25, y: top + size * 1.05, "font-size": size });
  line.textContent = text;
  line.style.fontSize = `${size}px`;
  group.append(line);
  return group;
}

function described(result) {
  const count = result.detections.length;
  return `${result.image.key}: ${count === 1 ? "one detection" : `${count} detections`}`;
}

function make(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}
