"use strict";
// Filters, sorting and full-size pictures. Without this script the page shows all claims.
const form = document.getElementById("filters");
const count = document.getElementById("count");
const body = document.querySelector("#table tbody");
const rows = [...body.rows];
const words = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
const CHOICES = ["paper", "verdict", "origin", "figure"];
const FIELDS = ["text", ...CHOICES];
const RANK = ["failed", "error", "undecided", "held", "not judged"];

function asked() {
  const values = FIELDS.map((name) => [name, form.elements[name].value.trim()]);
  return new URLSearchParams(values.filter(([, value]) => value));
}

function fits(row, query) {
  const wanted = (query.get("text") || "").toLowerCase().split(/\s+/);
  const chosen = CHOICES.every((name) => {
    const value = query.get(name);
    if (!value) return true;
    const own = row.dataset[name];
    return name === "figure" ? own.split(" ").includes(value) : own === value;
  });
  return chosen && wanted.every((word) => words.get(row).includes(word));
}

function show() {
  const query = asked();
  let shown = 0;
  for (const row of rows) {
    row.hidden = !fits(row, query);
    shown += !row.hidden;
  }
  const all = rows.length;
  count.textContent = shown === all ? `${all} claims` : `${shown} of ${all} claims`;
}

// The address keeps the filters (#claims?verdict=failed), so a view can be linked to.
function remember() {
  const query = asked().toString();
  history.replaceState(null, "", query ? `#claims?${query}` : "#claims");
}

function follow() {
  const hash = decodeURI(location.hash);
  if (hash.startsWith("#claims?")) {
    const query = new URLSearchParams(location.hash.slice("#claims?".length));
    for (const name of FIELDS) form.elements[name].value = query.get(name) || "";
    show();
    const title = document.getElementById("claims");
    title.focus({ preventScroll: true });
    title.scrollIntoView();
  } else if (hash.startsWith("#claim-")) {
    const row = document.getElementById(hash.slice(1));
    if (!row) return;
    if (row.hidden) {
      form.reset();
      show();
    }
    row.querySelector("details").open = true;
    row.scrollIntoView();
  }
}

function key(row, name) {
  if (name === "order") return Number(row.dataset.order);
  return name === "verdict" ? RANK.indexOf(row.dataset.verdict) : row.dataset.name;
}

function sort(heading) {
  const down = heading.getAttribute("aria-sort") === "ascending";
  for (const other of document.querySelectorAll("[aria-sort]"))
    other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", down ? "descending" : "ascending");
  const name = heading.dataset.sort;
  const sign = down ? -1 : 1;
  const sorted = [...rows].sort((a, b) => {
    const [x, y] = [key(a, name), key(b, name)];
    if (x === y) return Number(a.dataset.order) - Number(b.dataset.order);
    return x < y ? -sign : sign;
  });
  body.append(...sorted);
}

for (const heading of document.querySelectorAll("[data-sort]")) {
  const button = heading.querySelector("button");
  button.disabled = false;
  button.addEventListener("click", () => sort(heading));
}
document.querySelector("[data-sort=order]").setAttribute("aria-sort", "ascending");

form.hidden = false;
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("input", () => {
  show();
  remember();
});
form.addEventListener("reset", () =>
  setTimeout(() => {
    show();
    remember();
  }),
);

const dialog = document.querySelector("dialog");
const large = dialog.querySelector("img");
for (const button of document.querySelectorAll(".picture")) {
  button.disabled = false;
  button.addEventListener("click", () => {
    const image = button.querySelector("img");
    large.src = image.src;
    large.alt = image.alt;
    dialog.showModal();
  });
}
dialog.addEventListener("click", (event) => {
  if (event.target === dialog) dialog.close();
});

addEventListener("hashchange", follow);
show();
follow();
