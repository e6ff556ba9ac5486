// The views beside the results: numbers, and dead letters.

import { colour } from "./overlay.js";

const $ = (selector) => document.querySelector(selector);
const NUMBERS_MS = 2000, KEPT = 150;

async function ask(path, options) {
  const answer = await fetch(path, options);
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.detail ?? answer.statusText);
  return found;
}

function make(name, text, properties = {}) {
  return Object.assign(document.createElement(name), { textContent: text, ...properties });
}

// ---- which view

function choose() {
  const wanted = location.hash.slice(1);
  const views = [...document.querySelectorAll(".view")];
  const shown = views.find((view) => view.id === wanted) ?? views[0];
  for (const view of views) view.hidden = view !== shown;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${shown.id}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (shown.id === "numbers") numbers();
  if (shown.id === "dead-letters") letters();
}
addEventListener("hashchange", choose);

// ---- numbers

const rates = [];
let asking = false;

async function numbers() {
  if (asking || document.hidden) return;
  asking = true;
  try {
    const [five, one] = await Promise.all([ask("/api/v1/stats?minutes=5"), ask("/api/v1/stats?minutes=1")]);
    rates.push(one.modules.reduce((sum, module) => sum + module.per_second, 0));
    if (rates.length > KEPT) rates.shift();
    $("#modules tbody").replaceChildren(...five.modules.map(row));
    $("#numbers-empty").textContent = five.modules.length ? "" : "Nothing was asked for in this time.";
    $("#label-counts").replaceChildren(...bars(five.labels));
    drawRates();
  } catch (error) {
    $("#numbers-empty").textContent = `The numbers cannot be read: ${error.message}`;
  } finally {
    asking = false;
  }
}
setInterval(() => { if (!$("#numbers").hidden) numbers(); }, NUMBERS_MS);

function row(module) {
  const ms = (value) => (value == null ? "–" : `${value.toFixed(0)} ms`);
  const failures = Object.entries(module.errors).map(([code, count]) => `${count} ${code}`).join(", ");
  const { p50, p95, p99 } = module.total_ms;
  const cells = [module.module, module.per_second.toFixed(1), module.ok, module.failed, module.lag ?? "?", ms(p50), ms(p95), ms(p99), failures];
  const line = document.createElement("tr");
  line.append(...cells.map((text) => make("td", text)));
  return line;
}

function bars(counts) {
  const most = Math.max(1, ...Object.values(counts));
  return Object.entries(counts).slice(0, 20).map(([label, count]) => {
    const line = document.createElement("li"), link = make("a", label), bar = document.createElement("i");
    link.href = `/?${new URLSearchParams({ label })}`;
    bar.style.width = `${(count / most) * 100}%`;
    bar.style.background = colour(label);
    const track = document.createElement("span");
    track.append(bar);
    line.append(link, track, make("b", count));
    return line;
  });
}

function drawRates() {
  const most = Math.max(1, ...rates), chart = $("#rates");
  const points = rates.map((rate, index) => `${(index / (KEPT - 1)) * 600},${118 - (rate / most) * 110}`).join(" ");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
  line.setAttribute("points", points);
  chart.replaceChildren(line);
  chart.setAttribute("aria-label", `Results a second: now ${rates.at(-1).toFixed(1)}, at most ${most.toFixed(1)}`);
}

// ---- dead letters

async function letters() {
  const note = $("#letters-note");
  note.textContent = "reading …";
  try {
    const found = await ask(`/api/v1/dead-letters?state=${$("#letter-state").value}`);
    const counts = Object.entries(found.counts).map(([code, count]) => `${count} ${code}`).join(", ");
    note.textContent = counts || "There are none.";
    $("#letters").replaceChildren(...found.dead_letters.map(letter));
  } catch (error) {
    note.textContent = `Dead letters cannot be read: ${error.message}`;
  }
}
$("#letter-state").addEventListener("change", letters);

function letter(one) {
  const line = document.createElement("li"), words = document.createElement("div");
  words.append(make("b", one.code ?? "?"), make("p", one.message ?? ""));
  words.append(make("small", `${one.topic ?? "?"}[${one.partition}]@${one.offset}, ${new Date(one.failed_at).toLocaleString()}`));
  line.append(words);
  if (one.state !== "replayed") {
    const button = make("button", "Publish again", { type: "button" });
    button.addEventListener("click", () => again(one));
    line.append(button);
  }
  return line;
}

function again(one) {
  const dialog = $("#confirm");
  $("#confirm-what").textContent = `${one.id}: ${one.code}. Its answer takes the place of the failed one.`;
  dialog.returnValue = "no";
  dialog.showModal();
  dialog.addEventListener("close", async () => {
    if (dialog.returnValue !== "yes") return;
    try {
      await ask(`/api/v1/dead-letters/${encodeURIComponent(one.id)}/replay`, { method: "POST" });
    } catch (error) {
      $("#letters-note").textContent = `${one.id} cannot be published again: ${error.message}`;
      return;
    }
    letters();
  }, { once: true });
}

choose();
