"""Models whose own tokenizer puts a begin of text before every text (Llama, Gemma, Mistral, ...): asked as they were taught."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from causal import causal, saved, theirs
from lm_eval_support import asking, rolled, said, scored
from support import Pages
from test_pretrained import ROWS, tokenizer_in
from tokenizers import processors
from transformers import PreTrainedTokenizerFast

from harness import make_spec, records
from harness.alphabet import make_alphabet
from harness.documents import rolling_windows
from harness.examination import gold_text, sizes_of
from harness.foreseen import costs_of
from harness.jsonl import lines_of
from harness.learners import learner_alphabet
from harness.lm_eval_bridge import ThinkingLM
from harness.own_alphabet import own_alphabet
from harness.problem import Piece
from harness.recheck import recheck
from harness.requests import Asker
from harness.runs import run
from harness.session import Job, Session
from harness.stream import opened
from harness.wants import Generate, Start

BOS, BOS_ID = "<|im_start|>", 1  # the end of text is token 0
LONG = "the answer is " * 30 + "12 + 34 = 46"
PAIRS = [
    ("12 + 34 =", " 46"),
    ("", "the"),
    ("the answer is ", "46, the end"),
    (f"{BOS}user", " 12"),
    (LONG, " 46"),
    ("  ", "the"),
]


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A llama whose tokenizer puts BOS before texts."""
    folder = tmp_path_factory.mktemp("begun")
    tokenizer = tokenizer_in(folder)
    backend = tokenizer.backend_tokenizer
    backend.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, BOS_ID)]
    )
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|endoftext|>", bos_token=BOS).save_pretrained(folder)
    return saved(folder, rows=ROWS)


def spec_of(path: str, strategy: str = "direct", task: str = "support:Toy", **more: Any) -> Any:
    settings = {"model.path": path, "train.flops": 0, "infer.problems": 4, "train.problems_per_update": 2, **more}
    return make_spec(strategy=strategy, task=task, settings=settings)


def test_the_alphabet_knows_what_the_tokenizer_puts_before_texts(begun: str) -> None:
    alphabet, tokenizer = own_alphabet(begun), PreTrainedTokenizerFast.from_pretrained(begun)
    assert tokenizer("12")["input_ids"] == [BOS_ID, *alphabet.encode("12")]
    assert (alphabet.bos_ids, alphabet.prefix_id, alphabet.end_id) == ((BOS_ID,), BOS_ID, 0)
    again = make_alphabet(alphabet.spec, tokenizer_json=alphabet.kept_json())
    assert (again.bos_ids, again.prefix_id, again.end_id) == ((BOS_ID,), BOS_ID, 0)


def test_one_that_is_only_known_is_put_before_nothing_but_an_empty_context(begun: str, tmp_path: Path) -> None:
    """As of Qwen, or of GPT-NeoX: the library's word on what belongs before a text is what counts."""
    PreTrainedTokenizerFast.from_pretrained(tokenizer_in(tmp_path).name_or_path or str(tmp_path), bos_token=BOS).save_pretrained(
        tmp_path
    )
    alphabet = own_alphabet(saved(tmp_path, rows=ROWS))
    assert (alphabet.bos_ids, alphabet.prefix_id) == ((), BOS_ID)


def test_what_was_kept_before_goes_on_as_it_was(begun: str) -> None:
    kept = {k: v for k, v in json.loads(own_alphabet(begun).kept_json()).items() if k in ("end_id", "rows", "tokenizer")}
    alphabet = make_alphabet(f"pretrained:{begun}", tokenizer_json=json.dumps(kept))
    assert (alphabet.bos_ids, alphabet.prefix_id) == ((), 0)


def test_a_text_begins_once(begun: str) -> None:
    alphabet = own_alphabet(begun)
    plain, spelt = (Piece("12", "prompt"),), (Piece(f"{BOS}12", "prompt"),)
    assert len(opened(plain, alphabet)) == 2 and opened(opened(plain, alphabet), alphabet) == opened(plain, alphabet)
    assert opened(spelt, alphabet) == spelt and opened((), alphabet) != ()
    assert opened(plain, make_alphabet("bytes")) == plain


def test_a_crop_may_cost_it(begun: str) -> None:
    """As in lm-eval: the last tokens are kept, whatever they are."""
    alphabet = own_alphabet(begun)

    def solver(most: int) -> Any:
        row = yield Start((Piece("12 + 34", "prompt"),))
        return (yield Generate(row, 1))

    whole = [BOS_ID, *alphabet.encode("12 + 34").tolist()]
    backbone = causal(begun, alphabet=alphabet)
    for most in (len(whole), len(whole) - 1, 1):
        jobs = [Job("it", lambda most=most: solver(most), crop_tokens=most)]  # type: ignore[misc]
        (outcome,) = Session(backbone).run(jobs)
        assert [cell[0] for cell in outcome.trace.cells] == whole[-most:]


# As lm-eval's own model of the library has it


@pytest.fixture(scope="module")
def both(begun: str) -> tuple[ThinkingLM, Any]:
    from lm_eval.models.huggingface import HFLM

    # one by one: stock looks at a batch's first text to see whether all of them begin with BOS already
    return ThinkingLM(begun, responses=False), HFLM(pretrained=begun, logits_cache=False, batch_size=1, device="cpu")


def test_likelihoods_are_stock_hfs(both: tuple[ThinkingLM, Any]) -> None:
    ours, stock = both
    found, wanted = scored(ours, *PAIRS), stock.loglikelihood([asking("loglikelihood", *p) for p in PAIRS], disable_tqdm=True)
    assert [greedy for _, greedy in found] == [greedy for _, greedy in wanted]
    assert [nats for nats, _ in found] == pytest.approx([nats for nats, _ in wanted], abs=1e-4)
    assert ours.prefix_token_id == stock.prefix_token_id == BOS_ID


def test_answers_are_stock_hfs(both: tuple[ThinkingLM, Any]) -> None:
    ours, stock = both
    contexts, given = ["12 + 34 =", "the answer", f"{BOS}user 12", LONG], {"until": ["zz"], "max_gen_toks": 12}
    wanted = stock.generate_until([asking("generate_until", text, given) for text in contexts], disable_tqdm=True)
    assert said(ours, *contexts, **given) == wanted


def test_whole_texts_are_scored_without_it(both: tuple[ThinkingLM, Any]) -> None:
    """Stock `hf` scores BOS itself behind BOS, unless it is told to add none; our sums hold the text alone."""
    from lm_eval.models.huggingface import HFLM

    ours, stock = both
    bare = HFLM(pretrained=ours.asked.spec.model.path, logits_cache=False, batch_size=4, device="cpu", add_bos_token=False)
    texts = ("12 + 34", LONG)
    asked = [asking("loglikelihood_rolling", text) for text in texts]
    assert rolled(ours, *texts) == pytest.approx(bare.loglikelihood_rolling(asked, disable_tqdm=True), abs=1e-3)
    assert rolled(ours, *texts) != pytest.approx(stock.loglikelihood_rolling(asked, disable_tqdm=True), abs=1e-1)


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("chain_of_thought", {"strategy.style": "zero_shot"}),
        ("pause_tokens", {"strategy.embed": "text", "strategy.where": "before"}),
    ],
)
def test_what_a_strategy_puts_first_stands_behind_it(name: str, more: dict[str, Any], begun: str) -> None:
    spec = spec_of(begun, name, task="harness.asked_model:Elsewhere", **more)
    backbone = causal(begun, alphabet=own_alphabet(begun))
    jobs, _ = Asker(spec, backbone, thought_tokens=4).likelihoods("it", "12 + 34 =", [" 46"])
    (outcome,) = Session(backbone).run(jobs)
    assert [cell[0] for cell in outcome.trace.cells if cell[0] == BOS_ID or cell[6] == 0] == [BOS_ID]
    assert len(outcome.trace.cells) > len(backbone.alphabet.encode("12 + 34 = 46"))


# In the harness


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("direct", {}),
        ("chain_of_thought", {"strategy.style": "zero_shot", "strategy.cap_tokens": 4}),
        ("self_consistency", {"strategy.base": "direct", "strategy.samples": 2}),
    ],
)
def test_runs_begin_with_it(name: str, more: dict[str, Any], begun: str, tmp_path: Path) -> None:
    spec = spec_of(begun, name, **more)
    run(spec, results=tmp_path)
    folder = records.run_folder(tmp_path, spec)
    assert recheck(folder).problems == ()
    traces = [json.loads(line) for line in lines_of(folder / "traces.jsonl")]
    for trace in traces:
        first = [t for t, index in zip(trace["t"], trace["index"], strict=True) if index == 0]
        assert set(first) == {BOS_ID} and trace["t"].count(BOS_ID) == len(first)


def test_what_is_foreseen_is_booked(begun: str, tmp_path: Path) -> None:
    """Cells of a prompt, read once: the formula's x1 and the meter have the same."""
    spec = spec_of(begun, **{"task.digits": 1})
    alphabet = learner_alphabet(spec, None)
    run(spec, results=tmp_path)
    traces = list(lines_of(records.run_folder(tmp_path, spec) / "traces.jsonl"))
    problems = spec.task.problems("test", seed=0, start=0, count=4)
    prompts = [1 + len(alphabet.encode(str(p.question.text))) for p in problems]
    assert [json.loads(trace)["role"].count("p") for trace in traces] == prompts
    keys = [len(alphabet.encode(str(p.key.answer))) for p in problems]
    assert costs_of(spec, alphabet).cells == pytest.approx(sum(p + k for p, k in zip(prompts, keys, strict=True)) / 4)


def test_memory_is_foreseen_with_it(begun: str) -> None:
    alphabet, without = own_alphabet(begun), own_alphabet(begun)
    without.bos_ids = ()
    problem = spec_of(begun).task.problems("test", seed=0, start=0, count=1)[0]
    asked = [causal(begun, alphabet=one) for one in (alphabet, without)]
    held, bare = (sizes_of(b, bounded=True)(b.strategy, problem.question, gold_text(problem)) for b in asked)
    assert held == (bare[0], bare[1] + 1)


def test_documents_begin_with_it_and_go_on_without(begun: str, tmp_path: Path) -> None:
    spec = spec_of(begun, task="support:Pages", **{"task.window": 20})
    run(spec, results=tmp_path)
    alphabet, nats = own_alphabet(begun), 0.0
    for document in Pages(window=20).documents("test")[:4]:
        ids = alphabet.encode(document.text).tolist()
        for before, window in rolling_windows(ids, prefix_id=BOS_ID, window_tokens=20):
            logp = torch.log_softmax(theirs(begun, [*before, *window[:-1]]), -1)[len(before) - 1 :]
            nats -= float(logp.gather(1, torch.tensor(window)[:, None]).sum())
    lines = records.read_lines(records.run_folder(tmp_path, spec))
    assert sum(line["nats"] for line in lines) == pytest.approx(nats, rel=1e-6)
