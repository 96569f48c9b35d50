"""Trees of thoughts on scripted models: what they find, in which order, what it costs, and how they are recorded."""

from __future__ import annotations

import dataclasses
import math

import pytest
from scripted import alphabet, follows
from support import ask, seen, strategy, tiny

from harness.examination import oracle_of, referee_of
from harness.lines import candidates_json, question_line, trace_line, tree_json
from harness.meter import gpt2_price, head_flops
from harness.problem import END, SEP, Key, Problem, Question
from harness.session import Job
from harness.task import Task

WIDTH, LAYERS = 16, 2
PROMPT = "7+8="
PROBLEM = Problem(Question("one", PROMPT, 4, 12), Key("5", ("2", "5")))
TREE = {  # two lines, then <sep> and the last line's number again as the answer
    "": {"1": 0.6, "2": 0.3, "3": 0.1}, "1": {";": 1.0}, "2": {";": 1.0}, "3": {";": 1.0},
    "1;": {"4": 0.4, "6": 0.35, "7": 0.25}, "2;": {"5": 0.95, "8": 0.05}, "3;": {"9": 1.0},
}  # fmt: skip
BEST = 0.3 * 0.95  # of "2;5", which greedy choice ("1;4", 0.24) misses


def script(text):
    if text in TREE:
        return TREE[text]
    if SEP.name not in text:
        return {SEP: 1.0}
    answer = text.partition(SEP.name)[2]
    return {END: 1.0} if answer else {text.partition(SEP.name)[0][-1]: 1.0}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Numbers(Task):
    """A task whose answers can be checked, and whose lines lead on where they are the key's."""

    source = "tests"

    def offers(self):
        return frozenset({"prompt", "worked_lines", "checker"})

    def solves(self, question, answer):
        return answer == PROBLEM.key.answer


@pytest.fixture
def base(monkeypatch):
    return follows(strategy("chain_of_thought"), script, monkeypatch)


def solved(how, problem=PROBLEM, *, limit=math.inf, seed=0, company=0):
    task = Numbers()
    told = {"oracle": oracle_of(task, problem), "referee": referee_of(task, problem.question)}
    rows = how.holding(problem.question).rows
    jobs = [
        Job(str(i), lambda: how.solve(problem.question), seed=seed + i, limit_flops=limit, rows=rows, **told)
        for i in range(1 + company)
    ]
    return ask(tiny(how.learner(), width=WIDTH, layers=LAYERS, alphabet=alphabet()), jobs)["0"]


def tree(base, **fields):
    return strategy("tree_of_thoughts", base=base, **fields)


def said(outcome):
    """Every state by all that was said up to it."""
    nodes = outcome.value.tree.nodes
    texts = [""]
    for node in nodes[1:]:
        texts.append(texts[node.parent] + node.said)
    return dict(zip(texts, nodes, strict=False))


@pytest.mark.parametrize("fields", [{"search": "bfs", "breadth": 2}, {"search": "dfs"}, {"search": "bfs", "breadth": 9}], ids=str)
@pytest.mark.parametrize("proposals", [{"propose": "beam", "branching": 3}, {"branching": 24}], ids=str)
def test_it_finds_the_best_answer_that_greedy_choice_misses(base, fields, proposals):
    greedy = solved(base)
    assert greedy.value.text == "4"
    outcome = solved(tree(base, **fields, **proposals))
    assert outcome.value.text == "5"
    assert outcome.value.completion.text == f"2;5{SEP.name}5"
    assert outcome.value.completion.logprob_nats == pytest.approx(math.log(BEST), abs=1e-5)


def test_breadth_first_and_depth_first_agree_where_all_is_tried(base):
    trees = [
        said(solved(tree(base, search=how, propose="beam", branching=3, breadth=9, expansions=99))) for how in ("bfs", "dfs")
    ]
    assert trees[0].keys() == trees[1].keys()
    for text, node in trees[0].items():
        other = trees[1][text]
        assert (node.nats, node.value, node.final, node.answer, node.fate, node.flops) == (
            other.nats, other.value, other.final, other.answer, other.fate, other.flops,
        )  # fmt: skip


@pytest.mark.parametrize("proposals", [{"propose": "beam"}, {"temperature": 0.0}], ids=str)
def test_one_state_and_one_line_are_greedy_choice(base, proposals):
    """Answer, log-probability to the last bit, cells, ledger, passes, bytes."""
    ours, theirs = solved(tree(base, breadth=1, branching=1, **proposals)), solved(base)
    assert dataclasses.replace(ours.value, tree=None) == theirs.value
    assert seen(ours)[1:] == seen(theirs)[1:]


def cell(count):
    return int(gpt2_price(layers=LAYERS, width=WIDTH).blocks(count))


HEAD = head_flops(width=WIDTH, outputs=len(alphabet().head_ids((SEP,))))


def fed(first, count):
    """Cells ``first`` .. of a row, each of them read."""
    return sum(cell(first + i) + HEAD for i in range(count))


def test_the_ledger_by_hand(base):
    """Greedy drawing, so that all lines are the same ones: duplicates are paid for; then an oracle keeps the right line."""
    prompt = sum(cell(i + 1) for i in range(4)) + HEAD
    outcome = solved(tree(base, branching=3, temperature=0.0, breadth=2))
    nodes = outcome.value.tree.nodes
    line, rest = fed(5, 2), fed(7, 3)  # "1;" and "4<sep>4", behind whose END nothing is read
    assert [node.flops for node in nodes] == [prompt, line, line, line, rest, rest, rest]
    assert [node.fate for node in nodes] == ["open", "open", "duplicate", "duplicate", "chosen", "duplicate", "duplicate"]
    assert outcome.ledger.total_flops == prompt + 3 * line + 3 * rest
    assert outcome.ledger.by_class() == {
        "prefill": prompt, "think": 3 * (line + fed(7, 2)), "answer": 3 * fed(9, 1), "score": 0, "verify": 0,
    }  # fmt: skip
    assert outcome.ledger.serial_passes == 1 + 2 + 3


def test_pruned_states_are_paid_for_and_told(base):
    outcome = solved(tree(base, propose="beam", branching=3, breadth=1))
    nodes = said(outcome)
    assert (nodes["1;"].fate, nodes["2;"].fate, nodes["3;"].fate) == ("open", "pruned", "pruned")
    assert nodes["2;"].flops > 0 and nodes["1;"].visits == 1 and nodes["2;"].visits == 0
    assert outcome.value.text == "4" and nodes["1;4<sep>4<end>" if "1;4<sep>4<end>" in nodes else "1;4<sep>4"].fate == "chosen"
    assert sum(node.flops for node in outcome.value.tree.nodes) == outcome.ledger.total_flops


@pytest.mark.parametrize("how", ["bfs", "dfs"])
def test_a_checker_stops_at_the_first_right_answer(base, how):
    fields = {"search": how, "propose": "beam", "branching": 3, "breadth": 9, "expansions": 99}
    outcome, whole = (solved(tree(base, evaluator=e, **fields)) for e in ("checker", "logprob"))
    assert (outcome.value.text, outcome.access, whole.access) == ("5", "checker", "none")
    assert outcome.ledger.total_flops <= whole.ledger.total_flops
    if how == "dfs":
        assert len(outcome.value.tree.nodes) < len(whole.value.tree.nodes)


@pytest.mark.slow
def test_an_oracle_that_is_right_half_the_time_is_worse(base):
    """Over many questions, with one state kept: the truer the oracle, the more right answers; wrong states are gone on from."""

    def right(accuracy):
        how = tree(base, propose="beam", branching=3, breadth=1, evaluator="noisy_oracle", accuracy=accuracy)
        problems = [dataclasses.replace(PROBLEM, question=dataclasses.replace(PROBLEM.question, id=str(i))) for i in range(40)]
        outcomes = [solved(how, p) for p in problems]
        assert {o.access for o in outcomes} == {"oracle"}
        return sum(o.value.text == "5" for o in outcomes)

    none, half, all_ = right(0.0), right(0.5), right(1.0)
    assert none == 0 < half < all_ == 40


def test_a_threshold_prunes_and_a_budget_of_states_ends(base):
    fields = {"search": "dfs", "propose": "beam", "branching": 3}
    low = said(solved(tree(base, threshold=math.log(0.5), **fields)))
    assert {t for t, n in low.items() if n.fate == "pruned"} == {"2;", "3;"}
    few = solved(tree(base, expansions=2, **fields))
    assert sum(node.visits for node in few.value.tree.nodes) == 2 and few.value.text == "4"


def test_without_lines_a_thought_is_the_whole_answer(monkeypatch):
    plain = follows(strategy("direct"), lambda text: {"3": 0.6, "5": 0.4} if not text else {END: 1.0}, monkeypatch)
    outcome = solved(tree(plain, propose="beam", branching=2))
    assert outcome.value.text == "3"
    assert {n.answer for n in outcome.value.tree.nodes if n.final} == {"3", "5"}
    assert solved(tree(plain, propose="beam", branching=2, evaluator="checker")).value.text == "5"


def test_what_a_cap_cuts_off_is_no_answer(monkeypatch):
    endless = follows(strategy("chain_of_thought"), lambda text: {"1": 0.7, ";": 0.3}, monkeypatch)
    outcome = solved(tree(endless, branching=2))
    assert outcome.value.text is None
    assert {n.fate for n in outcome.value.tree.nodes} <= {"open", "cut", "duplicate", "pruned", "chosen"}


def test_drawn_trees_do_not_depend_on_company(base):
    for fields in ({"breadth": 2, "branching": 4}, {"search": "dfs", "branching": 3}):
        alone, beside = (solved(tree(base, temperature=1.0, **fields), company=c) for c in (0, 6))
        assert seen(alone) == seen(beside)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8, 1.0])
def test_at_the_end_of_the_budget_the_best_final_state_counts(base, share):
    how = tree(base, propose="beam", branching=3, breadth=3)
    full = solved(how).ledger.total_flops
    outcome = solved(how, limit=share * full)
    assert outcome.ledger.total_flops <= share * full
    assert sum(node.flops for node in outcome.value.tree.nodes) == outcome.ledger.total_flops
    assert outcome.value.text == "5" if share == 1.0 else outcome.value.completion is not None


def test_subtrees_know_nothing_of_each_other(base):
    how = strategy("dvts", base=base, subtrees=3, branching=3, propose="beam")
    outcome = solved(how)
    assert outcome.value.text == "4"  # each goes on from "1;" alone
    drawn = solved(strategy("dvts", base=base, subtrees=24, branching=1))
    assert drawn.value.text == "5"
    assert sum(n.flops for n in drawn.value.tree.nodes) == drawn.ledger.total_flops


def test_the_record_holds_the_whole_tree(base):
    outcome = solved(tree(base, propose="beam", branching=3, breadth=2))
    recorded, ended = tree_json(outcome.value.tree), candidates_json(Numbers(), PROBLEM, outcome.value.tree)
    nodes = outcome.value.tree.nodes
    assert recorded["parent"] == [n.parent for n in nodes] and recorded["flops"] == [n.flops for n in nodes]
    assert set(ended["scores"].values()) == {0.0, 1.0} and ended["pool"] == "none" and ended["nodes"] == len(nodes)
    assert ended["nats"] == {at: recorded["nats"][int(at)] for at in ended["answers"]}
    assert ended["value"] == {at: recorded["value"][int(at)] for at in ended["answers"]}
    scored = dataclasses.replace(outcome, value=[type("L", (), {"nats": 1.0, "tokens": 2})()])
    line = question_line(Numbers(), PROBLEM, outcome, scored)
    assert trace_line("0", [outcome])["tree"] == recorded and line["candidates"] == ended
    assert line["access"] == "none" and line["score"] == 1.0
