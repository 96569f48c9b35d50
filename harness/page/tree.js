// A search's tree, drawn from left to right. States that have one successor and no other fate than it are drawn as one.
const MOST_BOXES = 400;
const BOX = { width: 190, height: 34, gapX: 36, gapY: 8, letters: 23 };
const FATE_WORDS = {
  open: "open: not gone on from", pruned: "pruned", duplicate: "duplicate", cut: "cut by a cap or the budget", ended: "ended",
  chosen: "the chosen answer",
};

function statesOf(run, tree) {
  return tree.parent.map((parent, at) => ({
    at, parent, children: [], said: tree.said[at], nats: tree.nats[at], tokens: tree.tokens[at], value: tree.value ? tree.value[at] : null,
    visits: tree.visits[at], fate: run.fates[tree.fate[at]], flops: tree.flops[at], final: String(at) in tree.answers,
    answer: tree.answers[at], score: tree.scores[at],
  }));
}

function linked(states) {
  const roots = [];
  for (const state of states) (state.parent === null ? roots : states[state.parent].children).push(state);
  return roots;
}

function chosenWay(states) {
  const way = new Set();
  for (let at = states.find((state) => state.fate === "chosen"); at; at = at.parent === null ? null : states[at.parent]) way.add(at.at);
  return way;
}

// Boxes in drawing order, without recursion: a tree may be thousands deep. Those on the chosen way are drawn in any case.
function boxesOf(roots, way) {
  const boxes = [];
  let left = 0;
  const waiting = roots.map((state) => [state, null]).reverse();
  while (waiting.length) {
    const [first, above] = waiting.pop();
    const box = { states: [first], above, level: above ? above.level + 1 : 0, onWay: way.has(first.at), below: [] };
    let last = first;
    while (last.children.length === 1 && !last.final && last.parent !== null) box.states.push((last = last.children[0]));
    box.last = last;
    if (boxes.length >= MOST_BOXES && !box.onWay) {
      left += box.states.length + last.children.length;
      continue;
    }
    boxes.push(box);
    if (above) above.below.push(box);
    waiting.push(...last.children.map((child) => [child, box]).reverse());
  }
  return [boxes, left];
}

function place(boxes) {
  let leaves = 0;
  for (const box of boxes) if (!box.below.length) box.y = leaves++ * (BOX.height + BOX.gapY);
  for (const box of [...boxes].reverse()) {
    if (box.below.length) box.y = (box.below[0].y + box.below[box.below.length - 1].y) / 2;
    box.x = box.level * (BOX.width + BOX.gapX);
  }
  const depth = boxes.reduce((most, box) => Math.max(most, box.level), 0);
  return [(depth + 1) * (BOX.width + BOX.gapX) - BOX.gapX + 8, Math.max(leaves, 1) * (BOX.height + BOX.gapY) + 8];
}

function cutTo(text, letters) {
  const all = [...seen(text).replaceAll("\n", "\u21b5")];
  return all.length > letters ? all.slice(0, letters - 1).join("") + "\u2026" : all.join("");
}

function judged(state) {
  if (!state.final) return "";
  return state.score === undefined || state.answer === null ? "no answer" : state.score >= 1 ? "\u2713 right" : "\u2717 wrong";
}

function boxFacts(box) {
  const { last } = box;
  const facts = [last.value === null ? `${last.nats.toFixed(2)} nats` : `value ${last.value.toFixed(3)}`];
  if (last.fate !== "open" && last.fate !== "ended") facts.unshift(last.fate === "chosen" ? "\u2605 chosen" : last.fate);
  if (last.final) facts.unshift(judged(last));
  return facts.join(", ");
}

function boxTitle(box) {
  const { last, states } = box;
  const which = states.length > 1 ? `states ${states[0].at} to ${last.at} (${states.length})` : `state ${last.at}`;
  const text = states.map((state) => state.said).join("");
  const answer = last.final ? `\nanswer: ${last.answer ?? "none"} (${judged(last)})` : "";
  return seen(`${which}: ${text}\n${FATE_WORDS[last.fate]}; ${last.nats.toFixed(3)} nats; ${count(last.tokens)} tokens` +
    `${last.value === null ? "" : `; value ${last.value}`}${answer}`);
}

function drawBox(box) {
  const text = box.states.map((state) => state.said).join("") || (box.states[0].parent === null ? "(question)" : "");
  const group = draw("g", { class: box.last.fate, transform: `translate(${box.x + 4} ${box.y + 4})` });
  group.append(
    draw("title", {}, boxTitle(box)),
    draw("rect", { width: BOX.width, height: BOX.height, rx: 5 }),
    draw("text", { x: 7, y: 14, direction: "ltr", "unicode-bidi": "isolate" }, cutTo(text, BOX.letters)),
    draw("text", { x: 7, y: 28, class: "small" }, cutTo(boxFacts(box), 30)),
  );
  return group;
}

function drawLink(box) {
  const [x1, y1] = [box.above.x + BOX.width + 4, box.above.y + BOX.height / 2 + 4];
  const [x2, y2] = [box.x + 4, box.y + BOX.height / 2 + 4];
  const middle = (x1 + x2) / 2;
  const attributes = { d: `M${x1} ${y1}C${middle} ${y1} ${middle} ${y2} ${x2} ${y2}` };
  if (box.onWay) attributes.class = "way";
  return draw("path", attributes);
}

function stateTable(states) {
  const heads = ["state", "parent", "fate", "said", "nats", "tokens", "value", "visits", "FLOPs", "answer", ""];
  const head = make("tr", {}, ...heads.map((text) => make("th", { scope: "col" }, text)));
  const rows = states.map((s) => make("tr", {}, ...[
    s.at, s.parent ?? "-", FATE_WORDS[s.fate], said(s.said), s.nats.toFixed(3), count(s.tokens), s.value ?? "-", count(s.visits),
    count(s.flops), s.final ? said(s.answer, "none") : "-", judged(s),
  ].map((cell) => make("td", {}, typeof cell === "object" ? cell : String(cell)))));
  return make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows));
}

function treeBlock(run, tree) {
  const states = statesOf(run, tree);
  const [boxes, left] = boxesOf(linked(states), chosenWay(states));
  const [width, height] = place(boxes);
  const finals = states.filter((state) => state.final);
  const right = finals.filter((state) => state.score >= 1).length;
  const words = `${count(states.length)} states, ${count(finals.length)} whole attempts, ${count(right)} of them right`;
  const svg = draw("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Search tree: ${words}` });
  svg.append(...boxes.filter((box) => box.above).map(drawLink), ...boxes.map(drawBox));
  const drawing = make("div", { class: "drawing", tabindex: "0", role: "region", "aria-label": "Search tree" }, svg);
  requestAnimationFrame(() => { drawing.scrollTop = boxes[0].y + BOX.height / 2 - drawing.clientHeight / 2; }); // to where it begins
  const table = make("details", {}, make("summary", {}, "All states as a table"));
  table.addEventListener("toggle", () => {
    if (table.open && !table.querySelector("table")) {
      table.append(make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "All states" }, stateTable(states)));
    }
  });
  const more = left ? `; ${count(left)} or more are in the table alone` : "";
  return make("div", {}, make("h4", {}, "Search tree"),
    make("p", { class: "told" }, `${words}${more}. Thick border and line: the chosen answer. Dashed: pruned; dotted: a duplicate.`),
    drawing, table);
}
