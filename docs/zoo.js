// Sorts the tables of a page by a click on a column's name, and filters their rows by a word.
document.addEventListener("DOMContentLoaded", () => {
  const place = document.getElementById("zoo-filter");
  if (!place) return;
  const tables = [...document.querySelectorAll("article table, main table")];
  const value = (row, column) => row.cells[column].textContent.trim();
  const number = (text) => parseFloat(text.replace(/,/g, ""));
  const compare = (one, other) => {
    const [first, second] = [number(one), number(other)];
    if (isNaN(first) || isNaN(second)) return isNaN(first) - isNaN(second) || one.localeCompare(other);
    return first - second;
  };
  const sort = (table, column, down) => {
    const body = table.tBodies[0];
    const rows = [...body.rows].sort((a, b) => compare(value(a, column), value(b, column)));
    body.append(...(down ? rows.reverse() : rows));
  };
  for (const table of tables) {
    [...table.tHead.rows[0].cells].forEach((cell, column) => {
      const button = document.createElement("button");
      button.textContent = cell.textContent;
      button.style.cssText = "font: inherit; color: inherit; text-align: inherit; cursor: pointer";
      cell.replaceChildren(button);
      button.addEventListener("click", () => {
        const down = cell.getAttribute("aria-sort") === "ascending";
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        cell.setAttribute("aria-sort", down ? "descending" : "ascending");
        sort(table, column, down);
      });
    });
  }
  const label = document.createElement("label");
  label.textContent = "Filter: ";
  const field = document.createElement("input");
  field.type = "search";
  field.style.cssText = "font: inherit; border: 1px solid currentColor; padding: .2em .4em";
  field.addEventListener("input", () => {
    for (const row of tables.flatMap((table) => [...table.tBodies[0].rows]))
      row.hidden = !row.textContent.toLowerCase().includes(field.value.toLowerCase());
  });
  label.append(field);
  place.append(label);
});
