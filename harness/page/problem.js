// One problem of one run: question, key, answer, ledgers, trace and tree.
function isRight(problem) {
  return problem.score >= 1;
}

function markOf(problem) {
  if (problem.question === null) return make("span", { class: "mark" }, `${count(problem.score)} nats a token`);
  if (isRight(problem)) return make("span", { class: "mark right" }, "\u2713 right");
  const words = problem.score > 0 ? `\u2717 wrong (score ${count(problem.score)})` : "\u2717 wrong";
  return make("span", { class: "mark wrong" }, words);
}

function factList(facts) {
  const list = make("dl", { class: "facts" });
  for (const [name, value] of facts) list.append(make("dt", {}, name), make("dd", {}, value));
  return list;
}

function answersOf(problem) {
  if (problem.question === null) {
    return factList([["document", said(problem.id)], ["mean", markOf(problem)], ["predicted", `${count(problem.targets)} tokens`]]);
  }
  const facts = [["question", said(problem.question)], ["key", said(problem.key)], ["answer", said(problem.answer, "none was given")],
    ["", markOf(problem)]];
  if (problem.completion !== problem.answer) facts.push(["said in full", said(problem.completion, "no single completion")]);
  if (problem.nats !== null) facts.push(["key's likelihood", `${count(problem.nats)} nats over ${count(problem.targets)} tokens`]);
  return factList([...facts, ["ended by", seen(problem.stop)], ["told by", seen(problem.access)], ["difficulty", count(problem.difficulty)]]);
}

function ledger(problem) {
  const total = Object.values(problem.flops).reduce((sum, flops) => sum + flops, 0);
  const rows = [
    ...Object.entries(problem.flops).map(([name, flops]) => [`FLOPs: ${name}`, flops]), ["FLOPs: all", total],
    ["serial passes", problem.serial_passes], ["text tokens", problem.text_tokens], ["woven tokens", problem.woven_tokens],
    ["bytes of keys and values, at most", problem.kv_bytes],
  ];
  const table = make("table", { class: "ledger" }, make("caption", {}, "What it cost"), make("tbody"));
  for (const [name, value] of rows) {
    table.tBodies[0].append(make("tr", {}, make("th", { scope: "row" }, seen(name)), make("td", {}, count(value))));
  }
  return table;
}

function panel(entry, run, problem) {
  const box = make("article", { class: "panel" }, make("h3", {}, said(entry.label)), make("p", { class: "from" }, said(entry.folder)));
  if (!run) {
    box.append(make("p", {}, "This run could not be loaded: the folder page/ beside this page lacks it. Write the report again."));
  } else if (!problem) {
    box.append(make("p", {}, `This run does not show this problem. It shows the first ${count(run.problems.length)} of its ${count(run.count)}.`));
  } else {
    box.append(make("div", { class: "twin" }, answersOf(problem), ledger(problem)), traceBlock(run, problem.trace));
    if (problem.tree) box.append(treeBlock(run, problem.tree));
    box.append(make("details", {}, make("summary", {}, "How this run was made"), make("pre", { dir: "ltr", tabindex: "0" }, seen(run.command))));
  }
  return box;
}
