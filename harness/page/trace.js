// A trace: every cell that was fed, row by row, shaded by the attention that it gets.
const MOST_CELLS = 2000;
const SHADES = 10000;

// What is written for a cell. Line ends and tabs get a mark, and a line end still ends the line.
function face(kind, word) {
  if (kind === "thought") return "\u25cb";
  return seen(word).replaceAll("\t", "\u21e5").replaceAll("\n", "\u21b5\n") || "\u2205";
}

// The cells of a packed trace, one after another.
function cellsOf(run, trace) {
  const [words, looks] = [[...trace.t], [...trace.look]];
  const cells = [];
  for (const [window, row, index, size] of trace.parts) {
    for (let i = 0; i < size; i++) {
      const at = cells.length;
      const [kind, role, charge, read] = run.looks[looks[at]];
      const got = trace.got ? trace.got[at] : null;
      cells.push({ window, row, index: i ? null : index, at: index + i, kind, role, charge, read, got, word: run.words[words[at]] });
    }
  }
  return cells;
}

function factsOf(cell) {
  const what = cell.kind === "thought" ? "a thought" : `${cell.kind} ${JSON.stringify(cell.word)}`;
  const got = cell.got === null ? "attention not told" : `later text gives it ${(cell.got / SHADES).toFixed(4)} of its attention`;
  const read = cell.read === "1" ? "; the next token was predicted here" : "";
  return seen(`${what}; cell ${cell.at} of row ${cell.row}; role ${cell.role}, class ${cell.charge}; ${got}${read}`);
}

function cellElement(cell, most) {
  const element = make("span", { class: `cell ${cell.kind}`, title: factsOf(cell) }, face(cell.kind, cell.word));
  if (cell.got !== null && most > 0) element.style.setProperty("--a", Math.sqrt(cell.got / most).toFixed(3));
  return element;
}

// Where a row begins: its window, if there are several, and its number, if there are several.
function whereOf(cell, parts) {
  const words = [];
  if (parts.some(([window]) => window > 0)) words.push(`window ${cell.window + 1}`);
  if (parts.some(([, row]) => row > 0)) words.push(`row ${cell.row}`);
  if (cell.index) words.push(`from cell ${cell.index}`);
  return words.join(", ");
}

// Neighbours of one role and class are a group, which says both to who cannot see its line.
function appendCells(box, cells, most, parts) {
  let group = null;
  let before = null;
  for (const cell of cells) {
    const starts = cell.index !== null;
    if (starts) {
      if (before) box.append("\n");
      if (parts.length > 1) box.append(make("span", { class: "row" }, whereOf(cell, parts)));
    }
    if (starts || before.role !== cell.role || before.charge !== cell.charge) {
      group = make("span", { class: `group ${cell.charge}` });
      group.append(make("span", { class: "hidden" }, ` ${cell.role}, ${cell.charge}: `));
      box.append(group);
    }
    group.append(cellElement(cell, most));
    before = cell;
  }
}

function pickable(box, told) {
  box.addEventListener("click", (event) => {
    const cell = event.target.closest(".cell");
    box.querySelectorAll(".picked").forEach((other) => other.classList.remove("picked"));
    if (!cell) return;
    cell.classList.add("picked");
    told.textContent = cell.title;
  });
}

function traceBlock(run, trace) {
  const block = make("div", {}, make("h4", {}, "Trace"));
  if (!trace) {
    block.append(make("p", {}, "The record holds no trace of this problem."));
    return block;
  }
  const cells = cellsOf(run, trace);
  const most = cells.reduce((high, cell) => Math.max(high, cell.got ?? 0), 0);
  const box = make("div", { class: "trace", tabindex: "0", role: "region", "aria-label": "Trace" });
  const several = trace.parts.some(([, row]) => row > 0);
  const why = several ? "No shade: attention is not measured over several rows." : "No shade: the record holds no attention to this trace.";
  const told = make("p", { class: "told", role: "status" }, trace.got ? "" : why);
  appendCells(box, cells.slice(0, MOST_CELLS), most, trace.parts);
  pickable(box, told);
  block.append(box, told);
  if (cells.length > MOST_CELLS) {
    const more = make("button", { type: "button" }, `Show all ${count(cells.length)} cells`);
    more.addEventListener("click", () => {
      box.replaceChildren();
      appendCells(box, cells, most, trace.parts);
      more.remove();
      box.focus();
    });
    block.append(more);
  }
  return block;
}
