// One result, large: zoom and pan, its detections, its timings, and everything as JSON.

import { best, colour, picture, words } from "./overlay.js";

const STAGES = { queued: "#5b6470", fetch: "#1d55c0", decode: "#7048b6", infer: "#b3470f" };
const dialog = document.querySelector("#detail"), stage = document.querySelector("#stage");
let view = null;

/** Shows a result; `minScore` as in the list. */
export function show(result, minScore) {
  const id = encodeURIComponent(result.request_id);
  document.querySelector("#detail-name").textContent = result.attributes.file ?? result.image.key;
  const drawing = picture(result, `/api/v1/images/${id}`, minScore);
  stage.replaceChildren(drawing);
  view = { drawing, full: box(drawing), now: box(drawing) };
  listDetections(result, drawing);
  listFacts(result);
  showTimings(result.timings_ms);
  document.querySelector("#json").textContent = JSON.stringify(result, null, 2);
  document.querySelector("#original").href = `/api/v1/images/${id}`;
  document.querySelector("#annotated").href = `/api/v1/images/${id}/annotated?format=png&min_score=${minScore}`;
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
}

/** Zooms by a factor around the middle, or around a point of the image. */
export function zoom(factor, around) {
  if (!view) return;
  const { full, now } = view;
  const width = Math.min(full.width, now.width / factor), height = Math.min(full.height, now.height / factor);
  const at = around ?? { x: now.x + now.width / 2, y: now.y + now.height / 2 };
  const share = { x: (at.x - now.x) / now.width, y: (at.y - now.y) / now.height };
  look({ x: at.x - share.x * width, y: at.y - share.y * height, width, height });
}

/** Shows the whole image again. */
export function whole() {
  if (view) look({ ...view.full });
}

function look(now) {
  const { full } = view;
  now.x = Math.max(full.x, Math.min(now.x, full.x + full.width - now.width));
  now.y = Math.max(full.y, Math.min(now.y, full.y + full.height - now.height));
  view.now = now;
  view.drawing.setAttribute("viewBox", `${now.x} ${now.y} ${now.width} ${now.height}`);
}

function box(drawing) {
  const { x, y, width, height } = drawing.viewBox.baseVal;
  return { x, y, width, height };
}

function point(event) {
  const matrix = view.drawing.getScreenCTM().inverse();
  return new DOMPoint(event.clientX, event.clientY).matrixTransform(matrix);
}

stage.addEventListener("wheel", (event) => {
  event.preventDefault();
  zoom(event.deltaY < 0 ? 1.2 : 1 / 1.2, point(event));
}, { passive: false });

stage.addEventListener("pointerdown", (event) => {
  const from = point(event);
  stage.setPointerCapture(event.pointerId);
  const move = (moved) => {
    const to = point(moved);
    look({ ...view.now, x: view.now.x - (to.x - from.x), y: view.now.y - (to.y - from.y) });
  };
  stage.addEventListener("pointermove", move);
  stage.addEventListener("pointerup", () => stage.removeEventListener("pointermove", move), { once: true });
});

function listDetections(result, drawing) {
  const list = document.querySelector("#detections");
  const lines = [...result.detections.entries()].map(([number, detection]) => {
    const line = document.createElement("li"), button = document.createElement("button");
    const mark = document.createElement("i"), score = document.createElement("span");
    const found = best(detection);
    mark.style.background = colour(found?.label ?? "");
    score.textContent = found ? found.score.toFixed(3) : "";
    button.append(mark, found?.label ?? "?", score);
    button.type = "button";
    const group = drawing.querySelector(`g.found[data-number="${number}"]`);
    for (const name of ["mouseenter", "focus"]) button.addEventListener(name, () => group?.classList.add("lit"));
    for (const name of ["mouseleave", "blur"]) button.addEventListener(name, () => group?.classList.remove("lit"));
    button.title = words(detection);
    line.append(button);
    return line;
  });
  list.replaceChildren(...lines);
}

function listFacts(result) {
  const image = result.image;
  const facts = {
    ...result.attributes,
    status: result.error ? `failed: ${result.error.message} (${result.error.code})` : "ok",
    module: `${result.module.name} ${result.module.version}`,
    size: image.width_px ? `${image.width_px} × ${image.height_px}, ${image.format}` : "not read",
    stored: `s3://${image.bucket}/${image.key}`,
    request: result.request_id,
    analyzed: new Date(result.analyzed_at).toLocaleString(),
    source: `${result.source.topic}[${result.source.partition}]@${result.source.offset}`,
  };
  const parts = Object.entries(facts).flatMap(([name, value]) => {
    const term = document.createElement("dt"), text = document.createElement("dd");
    term.textContent = name;
    text.textContent = value;
    return [term, text];
  });
  document.querySelector("#facts").replaceChildren(...parts);
}

function showTimings(timings) {
  const bar = document.querySelector("#timings");
  const known = Object.entries(STAGES).filter(([name]) => timings[name] != null);
  bar.setAttribute("aria-label", known.map(([name]) => `${name} ${timings[name].toFixed(0)} ms`).join(", "));
  bar.replaceChildren(...known.map(([name, fill]) => {
    const part = document.createElement("span");
    part.style.flexGrow = Math.max(timings[name], 0.5);
    part.style.background = fill;
    part.textContent = `${name} ${timings[name].toFixed(0)} ms`;
    part.title = part.textContent;
    return part;
  }));
}
