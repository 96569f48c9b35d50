// Tables sort by their headers, and hide the rows that a filter does not name.
const NUMBER = /^[<>~]?\s*([+\-\u2212]?(?:\d[\d,]*\.?\d*|\.\d+)(?:e[+-]?\d+)?)/i;
const ABSENT = new Set(["", "-", "\u2013", "\u2014", "infeasible", "nan", "none"]);

// The number that a cell begins with, NaN if none does: "45.1% [44.0, 46.2]" is 45.1, "1.25e+10" is 1.25e10.
function numberOf(text) {
  const found = NUMBER.exec(text);
  return found ? Number(found[1].replaceAll(",", "").replace("\u2212", "-")) : NaN;
}

function cellText(row, column) {
  return row.cells[column].textContent.trim();
}

function isNumeric(rows, column) {
  const texts = rows.map((row) => cellText(row, column)).filter((text) => !ABSENT.has(text.toLowerCase()));
  return texts.length > 0 && texts.every((text) => !Number.isNaN(numberOf(text)));
}

// What is absent comes last, whichever way the rest goes.
function compareBy(column, numeric, direction) {
  return (left, right) => {
    const [a, b] = [cellText(left, column), cellText(right, column)];
    const [noA, noB] = [ABSENT.has(a.toLowerCase()), ABSENT.has(b.toLowerCase())];
    if (noA || noB) return noA - noB;
    const order = numeric ? numberOf(a) - numberOf(b) : 0;
    return direction * (order || a.localeCompare(b, "en", { numeric: true }));
  };
}

function sortBy(table, headers, column, numeric) {
  const direction = headers[column].getAttribute("aria-sort") === "ascending" ? -1 : 1;
  headers.forEach((header) => header.setAttribute("aria-sort", "none"));
  headers[column].setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
  const body = table.tBodies[0];
  body.append(...[...body.rows].sort(compareBy(column, numeric, direction)));
}

function filterRows(rows, words, arm) {
  const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const row of rows) {
    const text = row.textContent.toLowerCase();
    const fits = !arm || !arm.value || cellText(row, Number(arm.dataset.column)) === arm.value.trim();
    row.hidden = !(fits && wanted.every((word) => text.includes(word)));
    shown += row.hidden ? 0 : 1;
  }
  return shown;
}

function setUpTable(block) {
  const [table, words, arm, told] = ["table", "input", "select", "output"].map((tag) => block.querySelector(tag));
  const [headers, rows] = [[...table.tHead.rows[0].cells], [...table.tBodies[0].rows]];
  headers.forEach((header, column) => {
    const numeric = isNumeric(rows, column);
    if (numeric) rows.forEach((row) => row.cells[column].classList.add("number"));
    header.querySelector("button").addEventListener("click", () => sortBy(table, headers, column, numeric));
  });
  const filter = () => {
    const shown = filterRows(rows, words, arm);
    told.textContent = shown === rows.length ? `${count(shown)} rows` : `${count(shown)} of ${count(rows.length)} rows`;
  };
  words.addEventListener("input", filter);
  if (arm) arm.addEventListener("change", filter);
  filter(); // a browser may have kept what was typed
}

document.querySelectorAll("div.table").forEach(setUpTable);
