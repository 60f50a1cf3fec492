"use strict";
// The table of cells can be sorted, searched and filtered; without this script it is all there, as it stands.
(() => {
  const table = document.getElementById("cell-table");
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  const search = document.getElementById("search");
  const filters = Array.from(document.querySelectorAll("select[data-column]"));
  const count = document.getElementById("count");

  const text = (row, column) => row.cells[column].textContent.trim();

  function show() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const all = row.textContent.toLowerCase();
      const fits = words.every((word) => all.includes(word))
        && filters.every((filter) => !filter.value || text(row, Number(filter.dataset.column)) === filter.value);
      row.hidden = !fits;
      shown += fits ? 1 : 0;
    }
    count.textContent = `${shown} of ${rows.length} cells`;
  }

  function sort(header, column) {
    const down = header.getAttribute("aria-sort") === "ascending";
    for (const other of header.parentElement.cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", down ? "descending" : "ascending");
    const order = new Intl.Collator("en", { numeric: true });
    const sign = down ? -1 : 1;
    rows.sort((a, b) => {
      const [x, y] = [text(a, column), text(b, column)];
      if (!x || !y) return (x ? 0 : 1) - (y ? 0 : 1); // what is empty comes last, whichever way
      const numbers = [Number(x), Number(y)];
      return sign * (numbers.some(Number.isNaN) ? order.compare(x, y) : numbers[0] - numbers[1]);
    });
    body.append(...rows);
  }

  Array.from(table.tHead.rows[0].cells).forEach((header, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = header.textContent;
    button.addEventListener("click", () => sort(header, column));
    header.replaceChildren(button);
  });
  search.addEventListener("input", show);
  filters.forEach((filter) => filter.addEventListener("change", show));
  document.getElementById("reset").addEventListener("click", () => {
    search.value = "";
    filters.forEach((filter) => { filter.value = ""; });
    show();
  });
  document.querySelector(".tools").hidden = false;
  show();

  const folded = document.getElementsByTagName("details");
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = Array.from(folded).filter((item) => !item.open);
    opened.forEach((item) => { item.open = true; });
  });
  addEventListener("afterprint", () => opened.forEach((item) => { item.open = false; }));
})();
