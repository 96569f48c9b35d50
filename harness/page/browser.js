// Choosing a run and a problem. A run's problems are loaded when it is chosen, by a script tag, since file:// forbids fetch.
const data = JSON.parse(one("data").textContent);
const KEPT_RUNS = 6;
const loaded = new Map();
const ui = Object.fromEntries(
  ["comparison", "budget", "seed", "first", "second", "previous", "number", "next", "outcome", "difficulty", "status", "panels"]
    .map((id) => [id, one(id)]));
const state = { runs: [], named: new Map(), shown: [], at: 0, wanted: null, turn: 0, first: null, second: null };

window.harnessRun = (run) => loaded.set(run.folder, run);

// A run, or null if its file is not there.
function load(entry) {
  const known = loaded.get(entry.folder);
  if (known) return Promise.resolve(known);
  return new Promise((done) => {
    const script = make("script", { charset: "utf-8", src: "page/" + encodeURIComponent(data.runs[entry.folder].file) });
    script.onload = () => done(loaded.get(entry.folder) ?? null);
    script.onerror = () => done(null);
    document.head.append(script);
    script.addEventListener("load", () => script.remove());
  });
}

function forget(kept) {
  for (const folder of loaded.keys()) if (loaded.size > KEPT_RUNS && !kept.includes(folder)) loaded.delete(folder);
}

function short(flops) {
  return flops ? Number(flops.toPrecision(3)).toExponential().replace("e+", "e") : "none";
}

function distinct(values) {
  return [...new Set(values)].sort((a, b) => a - b);
}

function labelled(run) {
  return { ...run, label: run.point && run.point !== run.arm ? `${run.arm} \u00b7 ${run.point}` : run.arm };
}

function chooseComparison() {
  const found = data.comparisons[Number(ui.comparison.value)];
  state.runs = found ? found.runs.map(labelled) : [];
  choices(ui.budget, distinct(state.runs.map((run) => run.train_flops)).map((flops) => [String(flops), short(flops)]));
  chooseBudget();
}

function chooseBudget() {
  const here = state.runs.filter((run) => String(run.train_flops) === ui.budget.value);
  choices(ui.seed, distinct(here.map((run) => run.seed)).map((seed) => [String(seed), String(seed)]));
  chooseSeed();
}

// Runs by what they are called, so that the same arm stays chosen when the seed changes.
function chooseSeed() {
  state.named = new Map();
  for (const run of state.runs) {
    if (String(run.train_flops) !== ui.budget.value || String(run.seed) !== ui.seed.value) continue;
    state.named.set(state.named.has(run.label) ? `${run.label} \u00b7 ${run.folder}` : run.label, run);
  }
  const names = [...state.named.keys()].map((name) => [name, name]);
  choices(ui.first, names);
  choices(ui.second, [["", "no other run"], ...names]);
  return chooseRuns();
}

async function chooseRuns() {
  const turn = ++state.turn;
  const entries = [ui.first, ui.second].map((select) => state.named.get(select.value) ?? null);
  if (!entries[0]) return showNothing("There is no run to look at here.");
  ui.status.textContent = "Loading \u2026";
  const runs = await Promise.all(entries.map((entry) => entry && load(entry)));
  if (turn !== state.turn) return undefined; // another was chosen meanwhile
  forget(entries.map((entry) => entry && entry.folder));
  [state.first, state.second] = entries.map((entry, at) => entry && { entry, run: runs[at] });
  return filterProblems();
}

function showNothing(words) {
  ui.panels.replaceChildren();
  ui.status.textContent = words;
  [ui.previous, ui.next, ui.number, ui.outcome, ui.difficulty].forEach((control) => { control.disabled = true; });
}

function filterProblems() {
  const { run, entry } = state.first;
  if (!run || !run.problems.length) {
    showNothing(run ? "This run asked no problems." : "");
    if (!run) ui.panels.replaceChildren(panel(entry, run, null));
    return;
  }
  const levels = distinct(run.problems.map((problem) => problem.difficulty));
  choices(ui.difficulty, [["", "all"], ...levels.map((level) => [String(level), String(level)])]);
  ui.outcome.disabled = run.problems[0].question === null;
  if (ui.outcome.disabled) ui.outcome.value = "all";
  state.shown = run.problems.filter((problem) =>
    (ui.outcome.value === "all" || isRight(problem) === (ui.outcome.value === "right")) &&
    (!ui.difficulty.value || String(problem.difficulty) === ui.difficulty.value));
  const same = state.shown.findIndex((problem) => problem.id === state.wanted);
  goTo(Math.max(same, 0));
}

function goTo(at) {
  const { run } = state.first;
  const [shown, held] = [state.shown.length, run.problems.length];
  state.at = Math.min(Math.max(at, 0), Math.max(shown - 1, 0));
  const fit = shown === held ? "" : " that fit";
  const more = held < run.count ? `The run asked ${count(run.count)}; the first ${count(held)} are here.` : "";
  ui.number.max = shown;
  ui.number.value = shown ? state.at + 1 : "";
  ui.number.disabled = !shown;
  ui.previous.disabled = state.at <= 0;
  ui.next.disabled = state.at >= shown - 1;
  ui.panels.replaceChildren();
  ui.status.textContent = shown ? `Problem ${count(state.at + 1)} of ${count(shown)}${fit}. ${more}` : `No problem fits. ${more}`;
  if (shown) showProblem(state.shown[state.at]);
}

function showProblem(problem) {
  state.wanted = problem.id;
  const { first, second } = state;
  ui.panels.classList.toggle("two", Boolean(second));
  ui.panels.append(panel(first.entry, first.run, problem));
  if (!second) return;
  const same = second.run ? second.run.problems.find((other) => other.id === problem.id) : null;
  ui.panels.append(panel(second.entry, second.run, same));
}

// Arrow keys are left to what uses them itself: fields, and boxes that scroll sideways.
function onKey(event) {
  if (event.ctrlKey || event.altKey || event.metaKey || event.target.closest("input, select, textarea")) return;
  if (event.key.startsWith("Arrow") && event.target.closest(".scroll, .drawing, .trace, pre")) return;
  if ((event.key === "n" || event.key === "ArrowRight") && !ui.next.disabled) goTo(state.at + 1);
  if ((event.key === "p" || event.key === "ArrowLeft") && !ui.previous.disabled) goTo(state.at - 1);
}

ui.comparison.addEventListener("change", chooseComparison);
ui.budget.addEventListener("change", chooseBudget);
ui.seed.addEventListener("change", chooseSeed);
ui.first.addEventListener("change", chooseRuns);
ui.second.addEventListener("change", chooseRuns);
ui.outcome.addEventListener("change", filterProblems);
ui.difficulty.addEventListener("change", filterProblems);
ui.previous.addEventListener("click", () => goTo(state.at - 1));
ui.next.addEventListener("click", () => goTo(state.at + 1));
ui.number.addEventListener("change", () => goTo((parseInt(ui.number.value, 10) || 1) - 1));
document.addEventListener("keydown", onKey);
choices(ui.comparison, data.comparisons.map((found, at) => [String(at), found.name]));
chooseComparison();
