// Keeps the page current: fetches it again every few seconds and exchanges the parts that have changed.

const EVERY_MS = 4000;
const FOCUSABLE = "a[href], button, input, select, summary, [tabindex]";
const shown = new Map([...document.querySelectorAll("[data-live]")].map((part) => [part.id, part.innerHTML]));
let said = saying(document);

// What a person would hear of a page: its stage, errors and notices.
function saying(page) {
  return [...page.querySelectorAll("[data-say]")].map((e) => e.dataset.say + e.textContent.trim().replace(/\.$/, "")).join(". ");
}

function given(field) {
  if (field.tagName !== "SELECT") return field.defaultValue;
  return ([...field.options].find((option) => option.defaultSelected) ?? field.options[0])?.value;
}

// A link or button without an id is the same one if its text and address are.
const nameOf = (element) => element.id || `${element.tagName} ${element.getAttribute("href")} ${element.textContent.trim()}`;

// Whoever chooses or types is left alone: the part is exchanged once the field is left.
const inUse = (part) => part.contains(document.activeElement) && document.activeElement.matches("input, select");

function exchange(part, fresh) {
  const open = [...part.querySelectorAll("details[open]")].map((details) => details.id);
  const fields = [...part.querySelectorAll("input[id], select[id]")].filter((field) => field.value !== given(field));
  const focused = part.contains(document.activeElement) ? nameOf(document.activeElement) : "";
  part.innerHTML = fresh.innerHTML;
  for (const id of open) document.getElementById(id)?.setAttribute("open", "");
  for (const { id, value } of fields) {
    const field = document.getElementById(id);
    if (field === null) continue;
    field.value = value;
    if (field.value !== value) field.value = given(field); // it cannot be chosen any more
  }
  if (focused) [...part.querySelectorAll(FOCUSABLE)].find((e) => nameOf(e) === focused)?.focus({ preventScroll: true });
}

function follow(page) {
  for (const fresh of page.querySelectorAll("[data-hides]")) {
    const part = document.getElementById(fresh.id);
    if (part !== null) part.hidden = fresh.hidden;
  }
  for (const fresh of page.querySelectorAll("[data-live]")) {
    const part = document.getElementById(fresh.id);
    if (part === null || shown.get(fresh.id) === fresh.innerHTML || inUse(part)) continue;
    shown.set(fresh.id, fresh.innerHTML);
    exchange(part, fresh);
  }
  const news = saying(page);
  if (news !== said) document.getElementById("said").textContent = said = news;
  const version = page.getElementById("status")?.dataset.version;
  const status = document.getElementById("status");
  if (status && version !== status.dataset.version) {
    status.dataset.version = version;
    document.dispatchEvent(new Event("figures-changed"));
  }
}

async function refresh() {
  if (document.hidden) return;
  const offline = document.getElementById("offline");
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" }, cache: "no-cache" });
    if (!answer.ok) throw new Error(answer.statusText);
    follow(new DOMParser().parseFromString(await answer.text(), "text/html"));
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
