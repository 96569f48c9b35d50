"""Prompts on any causal LM: what is fed, where the model is cut off, what counts as its answer, and what never gets in."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from support import ask, scripted, strategy, tiny

from harness.alphabet import make_alphabet
from harness.checks import context
from harness.checks.runner import Bench
from harness.examination import oracle_of
from harness.meter import CLASSES
from harness.problem import Completion, Key, Problem, Question
from harness.session import Job
from harness.task import Task
from harness.trace import FACTS

BYTES = make_alphabet("bytes")
STYLES = ["standard", "few_shot", "one_go", "zero_shot", "dialogue", "recall", "staged"]


@dataclass(frozen=True, kw_only=True)
class Riddles(Task):
    """A few sums in words; the test's keys hold a phrase that nothing else holds."""

    def offers(self):
        return frozenset({"prompt", "worked_lines"})

    def problems(self, split, *, seed, start, count, lines=True):
        return [
            Problem(
                Question(f"{split}-{i}", f"Ann has {i} pears and {{two}} figs, {split}?", 8, 40),
                Key("ZEBRA" if split == "test" else str(i + 2), (f"{i}+2={i + 2}",)),
            )
            for i in range(start, start + count)
        ]


TASK = Riddles()
TEST = TASK.problems("test", seed=0, start=0, count=3)


def asked(style, replies, **fields):
    """One riddle; "~" in the replies stands for a read that nothing is made of."""
    script = [part for reply in replies.split("~") for part in (reply, None)][:-1]
    how = scripted(strategy("chain_of_thought", style=style, **fields), *script, alphabet=BYTES)
    backbone = tiny(how, context=2048, alphabet=BYTES)

    def examples(want):
        return tuple(TASK.problems("train", seed=0, start=want.start, count=want.count))

    job = Job("0", lambda: how.solve(TEST[1].question), oracle=oracle_of(TASK, TEST[1]), examples=examples)
    return ask(backbone, [job])["0"]


def fed(outcome, *classes):
    """The text of the cells charged to these classes (all by default)."""
    cells = [dict(zip(FACTS, cell, strict=True)) for cell in outcome.trace.cells]
    ids = [c["embed"] for c in cells if not classes or CLASSES[c["charge"]] in classes]
    return bytes(i for i in ids if i < 256).decode()


QUESTION = TEST[1].question.text


def test_standard_prompting_shows_answers_alone_and_thinks_nothing():
    one = asked("standard", " 3.\n", shots=2)
    shown = "".join(f"Q: Ann has {i} pears and {{two}} figs, train?\nA: The answer is {i + 2}.\n\n" for i in range(2))
    assert fed(one, "prefill") == f"{shown}Q: {QUESTION}\nA: The answer is"
    assert fed(one, "think") == "" and one.value.text == "3"
    assert asked("standard", "3" * 40).value.completion.stop == "cap"  # none of worked lines' tokens are given to answers
    assert strategy("chain_of_thought", style="standard").needs() == {"prompt"}  # tasks without worked lines will do


def test_few_shot_shows_worked_examples_of_the_train_split():
    one = asked("few_shot", "1+2=3. The answer is 3\n~", shots=2)
    example = "Q: Ann has 0 pears and {two} figs, train?\nA: 0+2=2. The answer is 2.\n\n"
    assert fed(one, "prefill").startswith(example)
    assert fed(one, "prefill").endswith(f"\n\nQ: {QUESTION}\nA:") and fed(one, "prefill").count("Q:") == 3
    assert fed(one, "think") == "1+2=3. The answer is"
    assert one.value.text == "3" and not one.used_key


def test_the_words_before_the_answer_are_given_where_the_model_did_not_say_them():
    one = asked("few_shot", "hm.\nQ:~ 7.\n~", shots=0)
    assert fed(one, "think") == "hm.\nQ: The answer is"
    assert one.value.text == "7"
    assert one.value.completion.pieces[0] == "hm."


def test_zero_shot_reasons_then_extracts():
    one = asked("zero_shot", " 1 and 2\n\n~ 3\n~")
    assert fed(one, "prefill") == f"Q: {QUESTION}\nA: Let's think step by step."
    assert fed(one, "think") == " 1 and 2\n\n\nTherefore, the answer is"
    assert one.value.text == "3"


def test_dialogue_has_an_inner_and_an_outer_voice():
    one = asked("dialogue", " hm\nOuter voice:~ 3\n~")
    assert fed(one, "think").endswith(" hm\nOuter voice: The answer is") and fed(one, "think").count("Outer voice") == 1
    assert one.value.text == "3"


@pytest.mark.parametrize("memory_tokens", [0, 60, 130, 1500])
def test_recall_fetches_by_the_cue_within_its_memory(memory_tokens):
    one = asked("recall", " 17 pears\n~ 19\n~", memory_tokens=memory_tokens)
    example = "Question: Ann has 17 pears and {two} figs, train?\nAnswer: 19\n\n"
    second = fed(one, "think").partition("17 pears\n")[2]
    assert second.endswith(f"Question: {QUESTION}\nAnswer:")
    memory = second.removesuffix(f"Question: {QUESTION}\nAnswer:")
    assert len(memory.encode()) <= memory_tokens
    assert (memory == "") == (memory_tokens < len(example))
    if memory:
        assert memory.endswith(example)  # what fits the cue best stands next to the question
    assert one.value.text == "19"


def test_staged_counts_listed_items_that_the_question_does_not_hold():
    one = asked("staged", " pears, figs, Tom, 1\n~ all\n~ 3\n~", between=3)
    assert one.trace.notes["listed_not_held"] == [0.25]
    assert fed(one, "think").count(" . . .\n") == 2
    assert one.value.text == "3"
    assert asked("staged", " a\n~ b\n~ Unknown\n~").value.text is None  # it may abstain


def test_one_go_says_lines_and_answer_in_one():
    one = asked("one_go", "1+2=3. The answer is 3.\n", shots=1)
    assert fed(one, "prefill").endswith(f"\n\nQ: {QUESTION}\nA:")
    assert fed(one, "answer") == "1+2=3. The answer is 3."  # nothing is read behind the line's end
    assert one.value.text == "3"
    assert asked("one_go", "1+2=3. So, 3.\n").value.text is None


def searched(said, name, style="one_go", **fields):
    """One riddle, by a search over a style without examples, whose model says this."""
    base = scripted(strategy("chain_of_thought", style=style, shots=0), said, alphabet=BYTES)
    how = strategy(name, base=base, **fields)
    job = Job("0", lambda: how.solve(TEST[1].question), oracle=oracle_of(TASK, TEST[1]), examples=lambda want: ())
    return ask(tiny(base, context=2048, alphabet=BYTES), [job])["0"].value


def test_a_tree_grows_through_the_lines_of_one_go():
    """A state a sentence: two worked lines, the one with the answer, and the line's end."""
    answer = searched("1+1=2. 2+1=3. The answer is 3.\n", "tree_of_thoughts", branching=1, breadth=1, temperature=0.0)
    assert [node.said for node in answer.tree.nodes] == ["", "1+1=2.", " 2+1=3.", " The answer is 3.", ""]
    assert answer.text == "3" and answer.tree.nodes[-1].fate == "chosen"


def test_a_beam_ends_where_one_go_ends():
    answer = searched("1+2=3. The answer is 3.\n", "beam_search", width=1)
    assert answer.text == "3" and answer.completion.pieces == ("1+2=3. The answer is 3.",)
    answer = searched(" 3.\n", "beam_search", "standard", width=1)
    assert answer.text == "3" and answer.completion.pieces == (" 3.",)


@pytest.mark.parametrize("name", ["beam_search", "tree_of_thoughts", "dvts"])
def test_a_search_that_branches_suits_what_is_said_in_one_go(name):
    one_go = {"one_go", "standard"}
    for style in one_go:
        strategy(name, base=strategy("chain_of_thought", style=style)).suits(TASK)
    for style in set(STYLES) - one_go:
        with pytest.raises(ValueError, match="said in several goes and cannot be split"):
            strategy(name, base=strategy("chain_of_thought", style=style)).suits(TASK)


def test_an_answer_that_is_cut_off_is_none():
    one = asked("zero_shot", " so\n\n~ " + "3" * 100)
    assert one.value.completion.stop == "cap" and one.value.text is None
    how = strategy("chain_of_thought", style="zero_shot")
    assert how.read(Completion(("  ",), (), 0.0, "end")) is None


@pytest.mark.parametrize("style", STYLES)
def test_no_prompt_holds_the_key_or_another_test_problem(style):
    one = asked(style, "a, b\n\n" * 60, between=2)
    text = fed(one)
    assert "ZEBRA" not in text and not one.used_key
    others = [p.question.text for p in TEST if p.question.text != QUESTION]
    assert QUESTION in text and not any(other in text for other in others)


@pytest.mark.parametrize("style", STYLES)
def test_its_words_are_known_before_it_runs(style):
    words = strategy("chain_of_thought", style=style).wording()
    assert words and all("{" not in w for w in words)
    with pytest.raises(ValueError, match="no such characters"):
        make_alphabet("chars:0123456789+=").encode_many(list(words))
    make_alphabet("bytes").encode_many(list(words))


@pytest.mark.parametrize("style", ["zero_shot", "recall"])
def test_a_local_checkpoint_is_prompted_without_training(style, tmp_path):
    """A checkpoint as stock transformers saves it, asked as it is: nothing is trained, nothing spent on training."""
    from transformers import GPT2Config, GPT2LMHeadModel

    from harness import make_spec, run

    torch.manual_seed(0)
    GPT2LMHeadModel(GPT2Config(vocab_size=257, n_positions=512, n_embd=16, n_layer=1, n_head=2)).save_pretrained(
        tmp_path / "gpt2"
    )
    settings = {
        "strategy.style": style, "model.path": str(tmp_path / "gpt2"), "model.alphabet": "bytes", "train.flops": 0,
        "infer.problems": 3,
    }  # fmt: skip
    spec = make_spec(strategy="chain_of_thought", task="arithmetic", settings=settings)
    record = run(spec, results=tmp_path / "results")
    assert record["train"]["spent_flops"] == record["train"]["updates"] == 0
    assert record["infer"]["flops_per_problem"]["think"] > 0 and record["timing"]["bit_stable"] is not None
    again = run(spec, results=tmp_path / "results")
    assert again["metrics"] == record["metrics"]


@pytest.mark.slow
@pytest.mark.parametrize("style", STYLES)
def test_every_check_passes_on_prompts(style, tmp_path, monkeypatch):
    """In bytes, which can spell the prompts, and with room for them."""
    monkeypatch.setattr(context, "CONTEXT_TOKENS", 1024)
    bench = Bench(tmp_path, [], ["cloze"])
    results = list(bench.of_strategy("chain_of_thought", strategy("chain_of_thought", style=style), bench.tasks, 0))
    assert [r.message for r in results if r.status == "failed"] == []
    assert {"cached_is_whole", "company_changes_nothing", "never_above_budget"} <= {
        r.check for r in results if r.status == "passed"
    }
