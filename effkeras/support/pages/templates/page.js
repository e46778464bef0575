// Without this script the page shows the same, in the order and colours that it opens with.

const KEY = "effkeras-theme";
const SIZES = { kB: 1e3, MB: 1e6, GB: 1e9 };
const bar = document.querySelector(".bar");

function kept() {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null; // some browsers give pages from disk no storage
  }
}

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function startTheme(button) {
  const show = () => button.setAttribute("aria-pressed", String(isDark()));
  const before = kept();
  if (before) document.documentElement.dataset.theme = before;
  button.addEventListener("click", () => {
    const next = isDark() ? "light" : "dark";
    document.documentElement.dataset.theme = next;
    try {
      localStorage.setItem(KEY, next);
    } catch {
      // it holds until the page is closed
    }
    show();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
  show();
}

/** The leading number of a cell, of sizes in bytes; null for words. */
function numberOf(text) {
  const found = /^([-+]?[\d,]*\.?\d+)(?:x|\s*(kB|MB|GB)?)/.exec(text.trim());
  return found ? Number(found[1].replaceAll(",", "")) * (SIZES[found[2]] ?? 1) : null;
}

/** Cells without a number come last, whatever the direction. */
function compared(one, other, direction) {
  const [a, b] = [numberOf(one), numberOf(other)];
  if (a !== null && b !== null) return (a - b) * direction;
  if ((a === null) !== (b === null)) return a === null ? 1 : -1;
  return one.localeCompare(other, "en", { numeric: true }) * direction;
}

function sort(table, column) {
  const heads = [...table.tHead.rows[0].cells];
  const direction = heads[column].getAttribute("aria-sort") === "ascending" ? -1 : 1;
  heads.forEach((head) => head.removeAttribute("aria-sort"));
  heads[column].setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
  const text = (row) => row.cells[column].textContent;
  const rows = [...table.tBodies[0].rows].sort((one, other) => compared(text(one), text(other), direction));
  table.tBodies[0].append(...rows);
}

function makeSortable(table) {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    if (!head.textContent) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.addEventListener("click", () => sort(table, column));
    head.append(button);
  });
}

function startFilter(input, said, tables) {
  const rows = tables.flatMap((table) => [...table.tBodies[0].rows]);
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
    const shown = rows.filter((row) => !row.hidden).length;
    said.textContent = words.length ? `${shown} of ${rows.length} rows` : "";
  });
}

const tables = [...document.querySelectorAll("table.figures")].filter((one) => one.tBodies[0].rows.length > 1);
tables.forEach(makeSortable);
startTheme(bar.querySelector("button"));
startFilter(bar.querySelector("input"), bar.querySelector("output"), tables);
bar.hidden = false;
