// Files on their way in: several at once, each with its progress and what became of it.

const AT_ONCE = 3;
const waiting = [];
let running = 0;

/** Sends files, and shows each as a line of `list`. */
export function upload(files, list) {
  for (const file of files) {
    const line = document.createElement("li");
    const name = document.createElement("span"), bar = document.createElement("progress");
    const state = document.createElement("span");
    name.textContent = file.name || "pasted image";
    bar.max = 1;
    bar.value = 0;
    bar.setAttribute("aria-label", `Upload of ${name.textContent}`);
    state.textContent = "waiting";
    line.append(name, bar, state);
    list.prepend(line);
    waiting.push({ file, line, bar, state, key: crypto.randomUUID?.() ?? String(Math.random()) });
  }
  begin();
}

function begin() {
  while (running < AT_ONCE && waiting.length) {
    running += 1;
    send(waiting.shift()).finally(() => { running -= 1; begin(); });
  }
}

function send(one) {
  return new Promise((done) => {
    const form = new FormData(), request = new XMLHttpRequest();
    form.append("file", one.file, one.file.name || "pasted.png");
    // fetch() tells nothing of an upload's progress.
    request.open("POST", "/api/v1/images");
    request.setRequestHeader("Idempotency-Key", one.key);
    request.upload.onprogress = (event) => {
      one.bar.value = event.total ? event.loaded / event.total : 0;
      one.state.textContent = "sending";
    };
    request.onload = () => { finished(one, request); done(); };
    request.onerror = () => { failed(one, "the gateway does not answer"); done(); };
    request.send(form);
  });
}

function finished(one, request) {
  if (request.status >= 300) {
    let detail = `answered with ${request.status}`;
    try { detail = JSON.parse(request.responseText).detail ?? detail; } catch { /* no problem document */ }
    failed(one, detail);
    return;
  }
  one.bar.value = 1;
  one.state.textContent = "accepted";
  setTimeout(() => one.line.remove(), 4000);
}

function failed(one, why) {
  one.line.classList.add("failed");
  one.state.textContent = why;
}
