// Draws the figures when they come into view, and again when their numbers or the colour scheme change.

/* global Plotly */
const CONFIG = { displayModeBar: false, responsive: true };
const places = [...document.querySelectorAll("[data-figure]")];
const seen = new Set();

// Figures name colours by CSS variable, so that one figure serves light and dark.
function themed(value, style) {
  if (typeof value === "string" && value.startsWith("var(")) return style.getPropertyValue(value.slice(4, -1)).trim();
  if (Array.isArray(value)) return value.map((item) => themed(item, style));
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, themed(item, style)]));
}

function dressed(layout) {
  const axis = { gridcolor: "var(--line)", zerolinecolor: "var(--line)", linecolor: "var(--line)" };
  const hover = { bgcolor: "var(--card)", bordercolor: "var(--line)", font: { color: "var(--ink)" } };
  return {
    font: { family: "system-ui, sans-serif", size: 13, color: "var(--ink)" },
    paper_bgcolor: "transparent",
    plot_bgcolor: "transparent",
    margin: { l: 48, r: 8, t: 8, b: 44 },
    hoverlabel: hover,
    dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
    ...layout,
    xaxis: { ...axis, ...layout.xaxis },
    yaxis: { ...axis, ...layout.yaxis },
  };
}

async function draw(place) {
  const answer = await fetch(place.dataset.figure, { cache: "no-cache" });
  if (!answer.ok) return;
  const figure = await answer.json();
  if (figure.waiting) {
    const text = document.createElement("p");
    text.className = "waiting";
    text.textContent = figure.waiting;
    place.replaceChildren(text);
    place.classList.add("empty");
    return;
  }
  place.querySelector(".waiting")?.remove();
  place.classList.remove("empty");
  place.figure = figure;
  await paint(place);
}

async function paint(place) {
  const style = getComputedStyle(document.documentElement);
  const first = !place.classList.contains("js-plotly-plot");
  await Plotly.react(place, themed(place.figure.data, style), themed(dressed(place.figure.layout), style), CONFIG);
  if (first && place.closest("#figure-map")) peekable(place);
}

// The map: a point's image beside the pointer, its task on a click.
function peekable(place) {
  const project = location.pathname.replace(/\/$/, "");
  const studio = document.querySelector(".title .primary").href.split("?")[0];
  const peek = document.createElement("div");
  const image = document.createElement("img");
  const text = document.createElement("span");
  image.alt = "";
  peek.className = "peek";
  peek.hidden = true;
  peek.append(image, text);
  place.parentElement.append(peek);
  place.on("plotly_hover", ({ points: [point], event }) => {
    const [index, , caption] = point.customdata;
    const box = place.parentElement.getBoundingClientRect();
    image.src = `${project}/images/${index}.png?small`;
    text.textContent = caption;
    peek.hidden = false;
    const left = event.clientX - box.left;
    peek.style.left = `${left > box.width / 2 ? left - peek.offsetWidth - 14 : left + 14}px`;
    peek.style.top = `${Math.max(event.clientY - box.top - 80, 0)}px`;
  });
  place.on("plotly_unhover", () => { peek.hidden = true; });
  place.on("plotly_click", ({ points: [point] }) => {
    if (point.customdata[1] !== null) open(`${studio}?task=${point.customdata[1]}`, "_blank", "noopener");
  });
}

const watcher = new IntersectionObserver((entries) => {
  for (const { target } of entries.filter((entry) => entry.isIntersecting)) {
    watcher.unobserve(target);
    seen.add(target);
    draw(target);
  }
}, { rootMargin: "300px" });

for (const place of places) watcher.observe(place);
document.addEventListener("figures-changed", () => seen.forEach(draw));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const place of seen) if (place.figure) paint(place);
});
