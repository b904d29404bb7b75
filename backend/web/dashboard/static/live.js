// Keeps the page current: fetches it again every few seconds and exchanges the parts that have changed.

const EVERY_MS = 4000;
const shown = new Map([...document.querySelectorAll("[data-live]")].map((part) => [part.id, part.innerHTML]));

function exchange(part, fresh) {
  const open = new Set([...part.querySelectorAll("details[open]")].map((details) => details.id));
  const focused = part.contains(document.activeElement) ? document.activeElement.id : "";
  part.innerHTML = fresh.innerHTML;
  for (const id of open) document.getElementById(id)?.setAttribute("open", "");
  if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
}

async function refresh() {
  if (document.hidden) return;
  const offline = document.getElementById("offline");
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" }, cache: "no-cache" });
    if (!answer.ok) throw new Error(answer.statusText);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const fresh of page.querySelectorAll("[data-live]")) {
      const part = document.getElementById(fresh.id);
      if (part === null || shown.get(fresh.id) === fresh.innerHTML) continue;
      shown.set(fresh.id, fresh.innerHTML);
      exchange(part, fresh);
    }
    const version = page.getElementById("status")?.dataset.version;
    const status = document.getElementById("status");
    if (status && version !== status.dataset.version) {
      status.dataset.version = version;
      document.dispatchEvent(new Event("figures-changed"));
    }
    offline.hidden = true;
  } catch {
    offline.hidden = false;
  }
}

async function loop() {
  await refresh();
  setTimeout(loop, EVERY_MS);
}

setTimeout(loop, EVERY_MS);
document.addEventListener("visibilitychange", refresh);
