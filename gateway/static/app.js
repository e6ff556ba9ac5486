// The page: newest results as they are committed, filters that stand in the URL, uploads.

import * as detail from "./detail.js";
import { best, picture } from "./overlay.js";
import { upload } from "./uploads.js";

const SHOWN = 200, PAGE = 60, AT_ONCE = 30, TICK_MS = 500;
const $ = (selector) => document.querySelector(selector);
const grid = $("#grid"), filters = $("#filters"), connection = $("#connection");
const state = { results: [], cursor: null, paused: false, held: [], seen: 0, leftOut: 0, open: null, stream: null };

// ---- filters

function wanted() {
  const form = new FormData(filters), found = {};
  for (const [name, value] of form) if (value && !(name === "min_score" && Number(value) === 0)) found[name] = value;
  return found;
}

function minScore() {
  return Number(filters.elements.min_score.value);
}

function fits(result) {
  const { module, label, status, key_prefix: prefix } = wanted(), score = minScore();
  if (module && result.module.name !== module) return false;
  if (status && result.status !== status) return false;
  if (prefix && !result.image.key.startsWith(prefix)) return false;
  if (!label && !score) return true;
  return result.detections.some((one) => {
    const found = best(one);
    return found && (!label || found.label === label) && found.score >= score;
  });
}

function readUrl() {
  const given = new URLSearchParams(location.search);
  for (const element of filters.elements) if (element.name) element.value = given.get(element.name) ?? (element.type === "range" ? 0 : "");
  $("#score").value = minScore().toFixed(2);
}

function writeUrl() {
  const query = new URLSearchParams(wanted()).toString();
  history.replaceState(null, "", query ? `?${query}` : location.pathname);
}

let soon = 0;
filters.addEventListener("input", (event) => {
  $("#score").value = minScore().toFixed(2);
  writeUrl();
  if (event.target.name === "min_score") draw();
  clearTimeout(soon);
  soon = setTimeout(load, 250);
});
filters.addEventListener("submit", (event) => event.preventDefault());
filters.addEventListener("reset", () => setTimeout(() => { readScore(); writeUrl(); load(); }));

function readScore() {
  $("#score").value = minScore().toFixed(2);
}

// ---- the list

async function load(more = false) {
  const query = new URLSearchParams({ ...wanted(), limit: PAGE });
  if (more && state.cursor) query.set("cursor", state.cursor);
  try {
    const answer = await fetch(`/api/v1/results?${query}`);
    const found = await answer.json();
    if (!answer.ok) throw new Error(found.detail);
    state.results = more ? [...state.results, ...found.results] : found.results;
    state.cursor = found.next;
    draw();
  } catch (error) {
    say(`The results cannot be read: ${error.message}`);
  }
}

function say(text) {
  const empty = $("#empty");
  empty.hidden = !text;
  empty.textContent = text;
}

function draw() {
  const shown = state.results.filter(fits);
  grid.replaceChildren(...shown.map((result) => card(result)));
  $("#more").hidden = !state.cursor;
  $("#labels").replaceChildren(...[...labels()].sort().map((label) => new Option(label)));
  say(shown.length ? "" : Object.keys(wanted()).length ? "Nothing fits these filters." : "Nothing was analyzed yet: drop an image above.");
  tell();
}

function labels() {
  return new Set(state.results.flatMap((result) => result.detections.map((one) => best(one)?.label).filter(Boolean)));
}

function tell() {
  const parts = [`${grid.children.length} shown`, `${state.seen} came live`];
  if (state.held.length) parts.push(`${state.held.length} new`);
  if (state.leftOut) parts.push(`${state.leftOut} left out, too many at once`);
  $("#count").textContent = parts.join(", ");
}

function card(result, isNew = false) {
  const made = $("#card").content.firstElementChild.cloneNode(true);
  const preview = `/api/v1/images/${encodeURIComponent(result.request_id)}/preview?size=480`;
  const frame = made.querySelector(".picture");
  if (result.image.width_px) frame.append(picture(result, preview, minScore()));
  else frame.textContent = "no picture";
  made.querySelector("b").textContent = nameOf(result);
  made.querySelector(".words span").textContent = result.error ? result.error.code : summary(result);
  const at = made.querySelector("time"), when = new Date(result.analyzed_at);
  at.dateTime = result.analyzed_at;
  at.textContent = when.toLocaleTimeString();
  made.classList.toggle("failed", Boolean(result.error));
  made.classList.toggle("new", isNew);
  made.querySelector("button").addEventListener("click", () => open(result));
  return made;
}

function nameOf(result) {
  return result.attributes.file ?? result.image.key.split("/").at(-1);
}

function summary(result) {
  const counts = new Map();
  for (const one of result.detections) {
    const label = best(one)?.label ?? "?";
    counts.set(label, (counts.get(label) ?? 0) + 1);
  }
  return [...counts].map(([label, count]) => (count > 1 ? `${count} ${label}` : label)).join(", ") || "nothing found";
}

// ---- live

let queue = [];
function come(result) {
  state.seen += 1;
  if (!fits(result)) return tell();
  const list = state.paused ? state.held : queue;
  list.push(result);
  // A tab that nobody looks at must not keep everything.
  if (list.length > SHOWN) { list.shift(); state.leftOut += 1; }
  tell();
}

// However many come, the page draws a few times a second, and only the newest of them.
setInterval(() => {
  if (!queue.length || document.hidden) return;
  const newest = queue.slice(-AT_ONCE);
  state.leftOut += queue.length - newest.length;
  queue = [];
  for (const result of newest) {
    if (state.results.some((one) => same(one, result))) continue;
    state.results.unshift(result);
    grid.prepend(card(result, true));
  }
  state.results.length = Math.min(state.results.length, SHOWN);
  while (grid.children.length > SHOWN) grid.lastElementChild.remove();
  say("");
  tell();
}, TICK_MS);

function listen() {
  const stream = state.stream = new EventSource("/api/v1/stream");
  stream.addEventListener("open", () => mark("live", "live"));
  stream.addEventListener("result", (event) => come(JSON.parse(event.data)));
  stream.addEventListener("error", () => {
    mark("away", "the gateway does not answer; trying again");
    // It does not try again by itself, and has forgotten where it was.
    if (stream.readyState === EventSource.CLOSED) setTimeout(() => { listen(); load(); }, 2000);
  });
}

function mark(name, text) {
  connection.dataset.state = name;
  connection.textContent = text;
}

function pause() {
  state.paused = !state.paused;
  $("#pause").setAttribute("aria-pressed", state.paused);
  $("#pause").textContent = state.paused ? "Go on" : "Pause";
  if (!state.paused) queue.push(...state.held.splice(0));
  tell();
}
$("#pause").addEventListener("click", pause);

// ---- one result

function open(result) {
  state.open = result;
  detail.show(result, minScore());
}

function turn(step) {
  const shown = state.results.filter(fits);
  const next = shown[shown.findIndex((one) => same(one, state.open)) + step];
  if (next) open(next);
}

function same(one, other) {
  return one.request_id === other.request_id && one.module.name === other.module.name && one.source.offset === other.source.offset;
}

$("#previous").addEventListener("click", () => turn(-1));
$("#next").addEventListener("click", () => turn(1));
$("#close").addEventListener("click", () => $("#detail").close());
$("#help").addEventListener("click", () => $("#keys").showModal());

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
  const isOpen = $("#detail").open;
  const keys = {
    h: () => document.body.classList.toggle("no-boxes"),
    l: () => document.body.classList.toggle("no-labels"),
    "?": () => $("#keys").showModal(),
  };
  if (isOpen) Object.assign(keys, { ArrowLeft: () => turn(-1), ArrowRight: () => turn(1), "+": () => detail.zoom(1.3), "-": () => detail.zoom(1 / 1.3), 0: detail.whole });
  else if (event.target === document.body) keys[" "] = pause;
  if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
});

// ---- uploads

const drop = $("#drop");
const take = (files) => upload([...files].filter((file) => file.type.startsWith("image/")), $("#uploads"));
$("#files").addEventListener("change", (event) => { take(event.target.files); event.target.value = ""; });
for (const name of ["dragover", "dragleave", "drop"]) addEventListener(name, (event) => {
  event.preventDefault();
  drop.classList.toggle("over", name === "dragover");
  if (name === "drop") take(event.dataTransfer.files);
});
addEventListener("paste", (event) => take(event.clipboardData.files));

$("#more").addEventListener("click", () => load(true));
readUrl();
load();
listen();
