"""Models that declare several ends of text: any of them ends what is said, and the tokenizer's is the one that is scored."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from causal import causal, saved, theirs
from lm_eval_support import asking
from safetensors.torch import load_file, save_file
from test_export_pretrained import gpt2_in
from test_pretrained import ROWS, tokenizer_in
from transformers import AutoModelForCausalLM

from harness import make_spec, records
from harness.alphabet import make_alphabet
from harness.asked_model import load
from harness.export import export_run
from harness.jsonl import lines_of
from harness.learners import learner_alphabet
from harness.lm_eval_bridge import ThinkingLM
from harness.own_alphabet import OwnAlphabet, own_alphabet
from harness.problem import END, Piece, Special, Tokens
from harness.recheck import recheck
from harness.runs import run
from harness.search_wants import Beam
from harness.session import Job, Session
from harness.wants import Generate, Score, Start

PROMPTS = ("12 + 34 =", "the answer is", "user", "4", "and the end of it is")
CAP = 12


def declared(folder: Path, ends: Any, *, config: Any = None) -> str:
    """A llama whose tokenizer ends texts with token 0, and whose generation_config.json, and config.json, say something else."""
    tokenizer_in(folder)
    path = saved(folder, rows=ROWS, eos_token_id=config)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
    return path


def unended(path: str, prompt: str) -> list[int]:
    """What the library's own greedy decoding says if nothing ends it."""
    model: Any = AutoModelForCausalLM.from_pretrained(path)
    ids = torch.tensor([own_alphabet(path).encode(prompt).tolist()])
    found = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=CAP, do_sample=False, eos_token_id=None, pad_token_id=0
    )
    return list(found[0, ids.shape[1] :].tolist())


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, set[int]]:
    """A model that says specials in the middle of what it says, which two files declare as ends: <|im_start|> and <|im_end|>."""
    folder = tmp_path_factory.mktemp("many")
    path = declared(folder, [2, ROWS - 1], config=1)
    first, second = unended(path, PROMPTS[0])[4], unended(path, PROMPTS[1])[3]
    assert len({first, second, 0, 1, 2}) == 5
    state = load_file(folder / "model.safetensors")
    state["lm_head.weight"][[first, 2, second, 1]] = state["lm_head.weight"][[2, first, 1, second]]
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    return path, {0, 1, 2, ROWS - 1}


def test_ends_are_those_of_all_three_files(many: tuple[str, set[int]]) -> None:
    path, ends = many
    alphabet = own_alphabet(path)
    assert alphabet.end_ids == ends and alphabet.end_id == alphabet.prefix_id == alphabet.id_of(END) == 0
    assert alphabet.pieces([*alphabet.encode("12").tolist(), max(ends)]) == ("12", END)


@pytest.mark.parametrize(
    ("said", "ends"), [(None, {0}), (2, {0, 2}), ([0], {0}), ([2, 0, 1], {0, 1, 2}), ([1, ROWS, -1], {0, 1}), ([], {0})]
)
def test_forms_that_an_end_may_have(said: Any, ends: set[int], tmp_path: Path) -> None:
    assert own_alphabet(declared(tmp_path, said)).end_ids == ends


def test_a_model_without_the_file_has_the_configs(tmp_path: Path) -> None:
    path = declared(tmp_path, 2, config=[1, 0])
    (tmp_path / "generation_config.json").unlink()
    assert own_alphabet(path).end_ids == {0, 1}


@pytest.mark.parametrize("text", ['{"eos_token_id": "</s>"}', '{"eos_token_id": [true]}', "[]", "{"])
def test_a_file_that_says_no_ids_is_refused_in_a_line(text: str, tmp_path: Path) -> None:
    path = declared(tmp_path, 2)
    (tmp_path / "generation_config.json").write_text(text)
    with pytest.raises(ValueError, match=r"^model\.path: cannot load [^\n]*$") as told:
        own_alphabet(path)
    assert path in str(told.value)


def solved(path: str, prompt: str, want: Any) -> Any:
    """What came of one want behind a prompt."""
    alphabet = own_alphabet(path)

    def solver() -> Any:
        row = yield Start((Piece(Tokens(tuple(alphabet.encode(prompt).tolist())), "prompt"),))
        return (yield want(row))

    return next(iter(Session(causal(path, alphabet=alphabet)).run([Job("one", solver)]))).value


def cut(ids: list[int], ends: set[int]) -> tuple[int, ...]:
    """Ids up to the first end, which is among them."""
    return tuple(ids[: next((at for at, i in enumerate(ids) if i in ends), len(ids)) + 1])


def test_any_of_them_ends_what_is_said(many: tuple[str, set[int]]) -> None:
    path, ends = many
    stopped = 0
    for prompt in PROMPTS:
        found, wanted = solved(path, prompt, lambda row: Generate(row, CAP)), cut(unended(path, prompt), ends)
        assert found.ids == wanted
        if wanted[-1] in ends:
            stopped += 1
            assert (found.stop, found.stopped_by) == ("end", END) and not any(isinstance(p, Special) for p in found.pieces)
            assert found.text == own_alphabet(path).codec.decode(wanted[:-1])
    assert stopped >= 2


def test_any_of_them_ends_a_beam(many: tuple[str, set[int]]) -> None:
    path, ends = many
    said = [one.completion for prompt in PROMPTS for one in solved(path, prompt, lambda row: Beam(row, CAP, width=3, count=3))[0]]
    assert any(one.ids[-1] in ends - {0} for one in said)
    assert all(not ends & set(one.ids[:-1]) and (one.stopped_by == END) == (one.ids[-1] in ends) for one in said)


def test_the_end_that_is_scored_stays_the_tokenizers(many: tuple[str, set[int]]) -> None:
    path, _ = many
    (found,) = solved(path, PROMPTS[0], lambda row: Score(row, ((Piece(END, "answer"),),)))
    ids = own_alphabet(path).encode(PROMPTS[0]).tolist()
    assert found.nats == pytest.approx(-float(torch.log_softmax(theirs(path, ids)[-1], -1)[0]), abs=1e-5)


def test_answers_are_stock_hfs(many: tuple[str, set[int]], tmp_path: Path) -> None:
    """Where generation_config.json names all of them: stock looks into config.json only if there is no such file."""
    from lm_eval.models.huggingface import HFLM

    path = str(shutil.copytree(many[0], tmp_path / "copy"))
    (tmp_path / "copy" / "generation_config.json").write_text('{"eos_token_id": [1, 2]}')
    ours, stock = ThinkingLM(path, responses=False), HFLM(pretrained=path, logits_cache=False, batch_size=1, device="cpu")
    asked = [asking("generate_until", prompt, {"until": ["\n\n"], "max_gen_toks": CAP}) for prompt in PROMPTS]
    assert ours.generate_until(asked) == stock.generate_until(asked, disable_tqdm=True)
    assert ours.eot_token_id == stock.eot_token_id == 0


def test_runs_end_so_too_and_are_recounted(many: tuple[str, set[int]], tmp_path: Path) -> None:
    path, ends = many
    settings = {"model.path": path, "train.flops": 0, "infer.problems": 20, "train.problems_per_update": 2, "task.digits": 3}
    spec = make_spec(strategy="direct", task="support:Toy", settings=settings)
    run(spec, results=tmp_path)
    folder = records.run_folder(tmp_path, spec)
    asked = {problem.question.id: problem.question for problem in spec.task.problems("test", seed=0, start=0, count=20)}
    for line in lines_of(folder / "problems.jsonl"):
        question = asked[json.loads(line)["id"]]
        told = cut(unended(path, str(question.text))[: question.answer_cap_tokens], ends)
        assert json.loads(line)["stop"] == ("end" if told[-1] in ends else "cap")
    assert recheck(folder).problems == ()
    kept = learner_alphabet(spec, records.weights_folder(tmp_path, spec))
    assert isinstance(kept, OwnAlphabet) and kept.end_ids == ends


def test_what_is_kept_holds_them_and_older_files_are_read(many: tuple[str, set[int]], tmp_path: Path) -> None:
    path, ends = many
    alphabet = own_alphabet(path)
    assert make_alphabet(alphabet.spec, tokenizer_json=alphabet.kept_json()).end_ids == ends
    older = {k: v for k, v in json.loads(alphabet.kept_json()).items() if k != "other_ends"}
    assert make_alphabet(alphabet.spec, tokenizer_json=json.dumps(older)).end_ids == {0}
    assert "other_ends" not in own_alphabet(declared(tmp_path, 0)).kept_json()


def test_answers_are_kept_apart_by_them(many: tuple[str, set[int]], tmp_path: Path) -> None:
    assert load(many[0], settings={}, device="cpu").facts()["end_ids"] == sorted(many[1])
    assert "end_ids" not in load(declared(tmp_path, 0), settings={}, device="cpu").facts()


def test_an_exported_model_declares_them(tmp_path: Path) -> None:
    path = gpt2_in(tmp_path / "model", eos="<|endoftext|>")
    (tmp_path / "model" / "generation_config.json").write_text('{"eos_token_id": [0, 2]}')
    settings = {"model.path": path, "train.flops": 2e7, "train.problems_per_update": 2, "infer.problems": 2}
    record = run(make_spec(strategy="direct", task="support:Toy", settings=settings), results=tmp_path)
    export_run(record["fingerprint"], tmp_path / "out", results=tmp_path)
    assert own_alphabet(str(tmp_path / "out")).end_ids == {0, 2}
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").generation_config.eos_token_id == [0, 2]
