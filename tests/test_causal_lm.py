"""Models of the transformers library, asked as they are: our session says what their own whole forwards say, and counts it."""

from __future__ import annotations

import itertools
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from causal import GROUPED, KINDS, REFUSED, causal, saved, theirs
from hypothesis import given
from hypothesis import strategies as st
from support import Pages, strategy
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM

from harness import as_it_is, causal_lm, make_spec, records
from harness.bounds import CPU
from harness.decoder import Decoder
from harness.documents import rolling_windows
from harness.inspect import ask_run, load_run, verify_run
from harness.learners import Silent
from harness.problem import THOUGHTS, Piece, Tokens
from harness.recheck import recheck
from harness.rows import Feed
from harness.runs import plan, run
from harness.session import Job, Session
from harness.spec import ModelSpec
from harness.wants import Fork, Generate, Mark, Peek, Rewind, Score, Start
from harness.weights import weights_hash

LENGTHS = (9, 4, 30, 17)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A tiny model of each kind."""
    root = tmp_path_factory.mktemp("models")
    return {kind: saved(root / str(number), kind) for number, kind in enumerate(KINDS)}


@pytest.fixture(scope="module")
def llama(folders: dict[str, str]) -> str:
    return folders["llama"]


def random_rows(lengths: tuple[int, ...] = LENGTHS, seed: int = 0) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 13, n).tolist() for n in lengths]


def feed(row: int, ids: list[int], start: int = 0) -> Feed:
    return Feed(row, ids, [0] * len(ids), list(range(start, start + len(ids))), every=True)


def assert_close(ours: Any, reference: Any) -> None:
    assert ours.shape == reference.shape
    assert float((ours - reference).abs().max()) <= 2e-6 * max(1.0, float(reference.abs().max()))


def decoding(path: str, count: int, **fields: Any) -> tuple[Decoder, list[int]]:
    decoder = Decoder(causal(path, **fields), reference_layers=2)
    account = decoder.accounts.open(math.inf)
    return decoder, [decoder.new_row(account) for _ in range(count)]


# The numbers


@pytest.mark.parametrize("kind", KINDS)
def test_whole_texts_of_unequal_lengths(kind: str, folders: dict[str, str]) -> None:
    decoder, rows = decoding(folders[kind], len(LENGTHS))
    texts = random_rows()
    every, _ = decoder.feed([feed(row, ids) for row, ids in zip(rows, texts, strict=True)])
    for row, ids in zip(rows, texts, strict=True):
        assert_close(every[row], theirs(folders[kind], ids))


def costs(monkeypatch: pytest.MonkeyPatch, *, call_cells: int, flops_a_byte: float) -> None:
    """What one more call of the library's forward is taken to cost, and copying a row's keys and values."""
    monkeypatch.setattr(causal_lm, "bounds_of", lambda device: replace(CPU, call_cells=call_cells))
    monkeypatch.setattr(causal_lm, "FLOPS_A_BYTE", flops_a_byte)


@pytest.mark.parametrize(
    ("call_cells", "flops_a_byte"),
    [(0, 1e-9), (0, 1e9), (1000, 1e-9), (1000, 1e9)],
    ids=["apart, copied", "apart, where they lie", "in one, copied", "in one, where they lie"],
)
@pytest.mark.parametrize("kind", KINDS)
def test_chunks_over_slots(
    kind: str, call_cells: int, flops_a_byte: float, folders: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows advance by chunks of their own, some by one token, some not at all, in whatever way they are put together."""
    costs(monkeypatch, call_cells=call_cells, flops_a_byte=flops_a_byte)
    decoder, rows = decoding(folders[kind], len(LENGTHS))
    texts, rng = random_rows(seed=1), np.random.default_rng(2)
    done, found = [0] * len(rows), [[] for _ in rows]
    while any(at < len(ids) for at, ids in zip(done, texts, strict=True)):
        feeds = []
        for number, (row, ids) in enumerate(zip(rows, texts, strict=True)):
            some = ids[done[number] : done[number] + int(rng.integers(0, 5))]
            if some:
                feeds.append(feed(row, some, done[number]))
                done[number] += len(some)
        every, _ = decoder.feed(feeds) if feeds else ({}, set())
        for number, row in enumerate(rows):
            found[number] += [every[row]] if row in every else []
    for parts, ids in zip(found, texts, strict=True):
        assert_close(torch.cat(parts), theirs(folders[kind], ids))


def test_one_token_a_row_is_one_query(llama: str, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder, rows = decoding(llama, 3)
    decoder.feed([feed(row, [1, 2, 3]) for row in rows])
    shapes = []
    own = causal_lm.CausalBackbone._forward

    def forward(self: Any, states: Any, part: Any, cache: Any) -> Any:
        shapes.append((part.shape, part.keys))
        return own(self, states, part, cache)

    monkeypatch.setattr(causal_lm.CausalBackbone, "_forward", forward)
    costs(monkeypatch, call_cells=3, flops_a_byte=1e-9)
    decoder.feed([feed(row, [4], 3) for row in (rows[0], rows[2])])  # the row between them waits
    assert shapes == [((2, 1), 4)]
    shapes.clear()
    costs(monkeypatch, call_cells=3, flops_a_byte=1e9)
    three = decoder.feed([feed(rows[0], [5], 4), feed(rows[1], [5, 6, 7, 8, 9], 3), feed(rows[2], [5], 4)])[0]
    assert sorted(shapes) == [((1, 5), 8), ((3, 1), 5)]  # no row of one token is padded to five; that between them is looked over
    assert_close(three[rows[1]], theirs(llama, [1, 2, 3, 5, 6, 7, 8, 9])[3:])
    assert_close(three[rows[2]], theirs(llama, [1, 2, 3, 4, 5])[4:])


@given(st.lists(st.integers(0, 9), max_size=9), st.integers(0, 12))
def test_rows_go_apart_where_that_pads_least(counts: list[int], call_cells: int) -> None:
    """Against every way to cut the numbers of queries into ranges."""
    sizes = sorted({n for n in counts if n})

    def padded(ranges: Any) -> int:
        return sum(call_cells + most * sum(low <= n <= most for n in counts) for low, most in ranges)

    ways = [
        [(part[0], part[-1]) for part in np.split(sizes, cuts)]
        for count in range(len(sizes))
        for cuts in itertools.combinations(range(1, len(sizes)), count)
    ]
    found = causal_lm._alike(np.array(counts, dtype=np.int64), call_cells)
    assert [n for low, most in sorted(found) for n in sizes if low <= n <= most] == sizes
    assert padded(found) == min(map(padded, ways), default=0)


@pytest.mark.parametrize("kind", ["llama", "gptj, eager only"])
def test_a_long_masked_pass_goes_by_parts(kind: str, folders: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(causal_lm, "MASKED_QUERIES", 4)
    monkeypatch.setattr(causal_lm, "CAUSAL_SHARE", 0.0)
    decoder, rows = decoding(folders[kind], 3)
    texts = random_rows((23, 8, 15), seed=3)
    first, _ = decoder.feed([feed(row, ids[:2]) for row, ids in zip(rows, texts, strict=True)])
    rest, _ = decoder.feed([feed(row, ids[2:], 2) for row, ids in zip(rows, texts, strict=True)])
    for row, ids in zip(rows, texts, strict=True):
        assert_close(torch.cat([first[row], rest[row]]), theirs(folders[kind], ids))


@pytest.mark.parametrize("kind", ["llama", "opt", "gptj, eager only"])
def test_a_long_text_behind_short_ones_needs_no_mask(kind: str, folders: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Columns are places then, with padding where a row holds cells already: one, two or none of them here."""
    decoder, rows = decoding(folders[kind], 4)
    texts, held = random_rows((31, 12, 30, 29), seed=8), (1, 2, 0, 1)
    for row, ids, count in zip(rows, texts, held, strict=True):
        if count:
            decoder.feed([feed(row, ids[:count])])
    masks = []
    own = causal_lm._Part.mask
    monkeypatch.setattr(causal_lm._Part, "mask", lambda self, **given: masks.append(own(self, **given)) or masks[-1])
    every, _ = decoder.feed([feed(row, ids[n:], n) for row, ids, n in zip(rows, texts, held, strict=True)])
    assert masks == [None] and all(every[row].shape[0] == len(ids) - n for row, ids, n in zip(rows, texts, held, strict=True))
    for row, ids, count in zip(rows, texts, held, strict=True):
        assert_close(every[row], theirs(folders[kind], ids)[count:])
        more, _ = decoder.feed([feed(row, [5], len(ids))])  # and what is kept in slots is theirs too
        assert_close(more[row], theirs(folders[kind], [*ids, 5])[-1:])


def test_forks_rewinds_and_drops(llama: str) -> None:
    """Rows of one problem part, go back and go on; each says what the text that it holds says."""
    prompt, branches = [1, 2, 11, 3], ([4, 5], [6], [7, 8, 9])

    def solver() -> Any:
        row = yield Start((Piece(Tokens(tuple(prompt)), "prompt"),))
        mark = yield Mark(row)
        rows = yield Fork(row, 3)
        for branch, said in zip(rows, branches, strict=True):
            yield extend(branch, said)
        yield Rewind(rows[0], mark)
        yield extend(rows[0], [10])
        found = []
        for branch in rows:
            found.append((yield Peek(branch, 13)))
        return found

    def extend(row: Any, ids: list[int]) -> Any:
        from harness.wants import Extend

        return Extend(row, (Piece(Tokens(tuple(ids)), "answer"),))

    (outcome,) = Session(causal(llama)).run([Job("one", solver)])
    for found, said in zip(outcome.value, ([10], *branches[1:]), strict=True):
        reference = torch.log_softmax(theirs(llama, prompt + said)[-1], -1)
        assert all(abs(nats - float(reference[token])) < 1e-5 for token, nats in found)


def test_compaction_moves_rows_whole(llama: str) -> None:
    decoder, rows = decoding(llama, 40)
    texts = random_rows(tuple(range(3, 43)), seed=4)
    decoder.feed([feed(row, ids) for row, ids in zip(rows, texts, strict=True)])
    for row in rows[:-2]:
        decoder.drop(row)
    moved = decoder.compact()
    for old, ids in zip(rows[-2:], texts[-2:], strict=True):
        every, _ = decoder.feed([feed(moved[old], [5], len(ids))])
        assert_close(every[moved[old]], theirs(llama, [*ids, 5])[-1:])


def test_scores_and_answers_in_any_company(llama: str) -> None:
    """To 1e-5 nats, alone, side by side and by a bounded number of rows; and what `generate` says."""
    backbone, texts = causal(llama), random_rows((12, 7, 25, 16), seed=5)

    def scoring(ids: list[int]) -> Any:
        def solver() -> Any:
            row = yield Start((Piece(Tokens(tuple(ids[:3])), "prompt"),))
            return (yield Score(row, ((Piece(Tokens(tuple(ids[3:])), "answer"),),)))

        return solver

    jobs = [Job(str(i), scoring(ids)) for i, ids in enumerate(texts)]
    together = {o.job.name: o.value[0].nats for o in Session(backbone).run(jobs)}
    alone = {o.job.name: o.value[0].nats for job in jobs for o in Session(backbone, rows=1).run([job])}
    for i, ids in enumerate(texts):
        logp = torch.log_softmax(theirs(llama, ids), -1)
        nats = -float(logp[2:-1].gather(1, torch.tensor(ids[3:])[:, None]).sum())
        assert together[str(i)] == pytest.approx(nats, abs=1e-5) and alone[str(i)] == pytest.approx(nats, abs=1e-5)


def test_greedy_answers_are_those_of_generate(llama: str) -> None:
    texts = random_rows((5, 9, 3), seed=6)

    def saying(ids: list[int]) -> Any:
        def solver() -> Any:
            row = yield Start((Piece(Tokens(tuple(ids)), "prompt"),))
            return (yield Generate(row, 12, stops=()))

        return solver

    said = {o.job.name: o.value.ids for o in Session(causal(llama)).run(Job(str(i), saying(t)) for i, t in enumerate(texts))}
    model: Any = AutoModelForCausalLM.from_pretrained(llama)
    for i, ids in enumerate(texts):
        given = torch.tensor([ids])
        wanted = model.generate(
            given, attention_mask=torch.ones_like(given), max_new_tokens=12, do_sample=False, eos_token_id=None, pad_token_id=0
        )
        assert list(said[str(i)]) == wanted[0, len(ids) :].tolist()


# What it costs


@pytest.mark.parametrize("kind", ["llama", "qwen3, wide heads", "opt"])
def test_the_meter_is_torchs_counter(kind: str, folders: dict[str, str]) -> None:
    """Plain matmuls, one cell at a time: all that is multiplied is booked."""
    decoder, (row,) = decoding(folders[kind], 1)
    decoder.backbone.model.set_attn_implementation("eager")
    for place in range(20):
        before = decoder.accounts.flops.sum()
        with FlopCounterMode(display=False) as counter:
            decoder.feed([feed(row, [place % 13], place)])
        assert counter.get_total_flops() == decoder.accounts.flops.sum() - before


def test_the_price_is_counted_by_hand(folders: dict[str, str]) -> None:
    """Llama: queries and outputs 32 x 32, keys and values 32 x 16, three matrices of 32 x 48; OPT's ends are projected once."""
    price = causal(folders["llama"]).price
    assert price.cell_flops == 2 * 2 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 48)
    assert (price.layers, price.width, price.key_flops) == (2, 32, 2 * 4 * 32)
    assert causal(folders["qwen3, wide heads"]).price.key_flops == 2 * 4 * 4 * 12
    opt = causal(folders["opt"]).price
    assert opt.cell_flops == 2 * (2 * (4 * 32 * 32 + 2 * 32 * 48) + 2 * 16 * 32) and opt.width == 16


def test_a_budget_foresees_what_is_booked(llama: str) -> None:
    decoder, (row,) = decoding(llama, 1)
    decoder.feed([feed(row, [1, 2, 3, 4, 5])])
    foreseen = decoder.backbone.asked_flops(np.arange(1, 6), np.ones(5, dtype=np.int64))
    assert decoder.accounts.flops.sum() == foreseen.sum()


# What is refused


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_followed_is_refused(what: str, tmp_path: Path) -> None:
    path = saved(tmp_path, what)
    with pytest.raises(ValueError, match=r"^model\.path: .*") as told:
        causal(path, context_tokens=64)
    assert REFUSED[what][2] in str(told.value) and "\n" not in str(told.value)


def test_an_encoder_is_refused(tmp_path: Path) -> None:
    from transformers import T5Config, T5ForConditionalGeneration

    T5ForConditionalGeneration(T5Config(vocab_size=13, d_model=16, d_ff=16, num_layers=1, num_heads=2)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"^model\.path: cannot load .*, a t5: .*[^\n]*$"):
        causal(str(tmp_path))


def test_missing_weights_are_refused(llama: str, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(llama, tmp_path / "copy")
    state = load_file(tmp_path / "copy" / "model.safetensors")
    state.pop("model.layers.1.mlp.up_proj.weight")
    save_file(state, tmp_path / "copy" / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks weights: model\.layers\.1\.mlp\.up_proj\.weight"):
        causal(str(tmp_path / "copy"))


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("reasoning_tokens", "weave"), ("looped_depth", "forward"), ("chain_of_thought", "sayable"), ("myopic", "sight"),
        ("multi_token", "parts"), ("filler", "weave"),
    ],
)  # fmt: skip
def test_strategies_that_change_the_model_are_refused(name: str, method: str, llama: str) -> None:
    with pytest.raises(
        ValueError, match=rf"^strategy: {name} .*{method}.*sight and shields.* are refused there; legal: "
    ) as told:
        causal(llama, how=strategy(name))
    assert "\n" not in str(told.value)


def test_a_special_that_the_model_does_not_have_is_an_error(llama: str) -> None:
    def solver() -> Any:
        return (yield Start((Piece("1+", "prompt"), Piece(THOUGHTS[0], "thought"))))

    with pytest.raises(ValueError, match=r"^model\.path: '<t1>' is no token of this model"):
        list(Session(causal(llama)).run([Job("one", solver)]))


def test_the_context_is_what_the_model_sees_at_once(tmp_path: Path, llama: str) -> None:
    assert causal(llama).context_tokens == 96 and causal(llama, context_tokens=20).context_tokens == 20
    from transformers import MistralConfig

    config = MistralConfig(vocab_size=13, sliding_window=11, **GROUPED, pad_token_id=None, eos_token_id=12)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    decoder, (row,) = decoding(str(tmp_path), 1)
    assert decoder.backbone.context_tokens == 11
    (ids,) = random_rows((11,))
    every = [decoder.feed([feed(row, ids[a:b], a)])[0][row] for a, b in ((0, 4), (4, 10), (10, 11))]
    assert_close(torch.cat(every), theirs(str(tmp_path), ids))


WINDOWS: dict[str, tuple[str, dict[str, Any], int]] = {
    "a window of all layers": ("MistralConfig", {"sliding_window": 11}, 11),
    "of some layers": ("Gemma3TextConfig", {"sliding_window": 11}, 11),
    "by another name": ("GPTNeoConfig", {"window_size": 11}, 11),
    "on both sides": ("ModernBertDecoderConfig", {"local_attention": 11}, 5),
    "by a name of nobody's": ("LlamaConfig", {"local_attention_window_len": 11}, 11),
    "chunks": ("Llama4TextConfig", {"attention_chunk_size": 11}, 11),
    "none": ("Qwen2Config", {"sliding_window": 11, "use_sliding_window": False, "max_window_layers": 3}, 96),
}


@pytest.mark.parametrize("kind", WINDOWS)
def test_windows_of_attention_bound_the_context(kind: str) -> None:
    import transformers

    name, fields, most = WINDOWS[kind]
    config = getattr(transformers, name)(max_position_embeddings=96, **fields)
    assert as_it_is.context_tokens_of(ModelSpec(), config) == most


ROTARY: dict[str, tuple[int, dict[str, Any]]] = {
    "dynamic": (20, {"factor": 4.0, "original_max_position_embeddings": 20}),
    "longrope": (20, {"short_factor": [1.0] * 4, "long_factor": [3.0] * 4, "original_max_position_embeddings": 20}),
    "yarn": (96, {"factor": 4.0, "original_max_position_embeddings": 24}),
    "llama3": (
        96, {"factor": 4.0, "original_max_position_embeddings": 24, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    ),
    "linear": (96, {"factor": 4.0}),
}  # fmt: skip


@pytest.mark.parametrize("kind", ROTARY)
def test_rotary_angles_do_not_change_within_the_context(kind: str, tmp_path: Path) -> None:
    """Where angles depend on how long a text is, cached keys would be stale beyond the length at which they change."""
    most, fields = ROTARY[kind]
    path = saved(tmp_path, rope_parameters={"rope_type": kind, "rope_theta": 100.0, **fields})
    decoder, (row,) = decoding(path, 1)
    assert decoder.backbone.context_tokens == most
    (ids,) = random_rows((most,))
    every = [decoder.feed([feed(row, ids[a:b], a)])[0][row] for a, b in ((0, 7), (7, most - 1), (most - 1, most))]
    assert_close(torch.cat(every), theirs(path, ids))


def test_what_happens_behind_the_head_is_seen_on_small_logits(llama: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cap that bends the logits of the test by less than a millionth of themselves."""
    from transformers import LlamaForCausalLM

    own = LlamaForCausalLM.forward

    def capped(self: Any, *given: Any, **named: Any) -> Any:
        found = own(self, *given, **named)
        found.logits = 500 * torch.tanh(found.logits / 500)
        return found

    ids = torch.tensor(random_rows((13,)))
    before = LlamaForCausalLM.from_pretrained(llama)(input_ids=ids).logits
    monkeypatch.setattr(LlamaForCausalLM, "forward", capped)
    after = LlamaForCausalLM.from_pretrained(llama)(input_ids=ids).logits
    assert 0 < float((before - after).detach().abs().max()) < 1e-3
    with pytest.raises(ValueError, match=r"its logits differ by .* from what its head says"):
        causal(llama)


def test_small_logits_are_held_as_strictly(tmp_path: Path) -> None:
    """Logits below 1e-3 that are divided behind the head."""
    path = saved(tmp_path, "scaled logits", scale=0.002)
    assert float(theirs(path, [1, 2, 3]).abs().max()) < 1e-3
    with pytest.raises(ValueError, match="logits differ by"):
        causal(path)


# Runs

SETTINGS: dict[str, Any] = {"train.flops": 0, "train.problems_per_update": 2, "infer.problems": 6, "infer.traces": 4}


def spec_of(path: str, name: str = "direct", task: str = "support:Toy", **more: Any) -> Any:
    return make_spec(strategy=name, task=task, settings=SETTINGS | {"model.path": path} | more)


@pytest.mark.parametrize(
    ("flops", "more", "named"),
    [
        (3e6, {}, r"^train\.flops: .* is a llama, .* legal for it: train\.flops=0"),
        (
            0,
            {"pretraining.task": "support:Toy", "pretraining.train.flops": 1e6},
            r"^pretraining: .* legal for it: no pretraining",
        ),
    ],
)
def test_nothing_is_taught(flops: float, more: dict[str, Any], named: str, llama: str, tmp_path: Path) -> None:
    spec = spec_of(llama, **({"train.flops": flops} | more))
    for make in (lambda: run(spec, results=tmp_path / "r"), lambda: plan(spec)):
        with pytest.raises(ValueError, match=named):
            make()
    assert not (tmp_path / "r").exists()


@pytest.fixture(scope="module")
def asked(llama: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A results folder with one run on questions."""
    results = tmp_path_factory.mktemp("results")
    return results, run(spec_of(llama), results=results)


def test_a_run_is_recorded_and_recounted(asked: tuple[Path, Any], llama: str) -> None:
    results, record = asked
    folder = records.run_folder(results, spec_of(llama))
    assert record["train"]["spent_flops"] == 0 and record["model"]["price"]["layers"] == 2
    assert not (folder / "attention.jsonl").exists() and "attention.jsonl" not in record["files"]
    found = recheck(folder)
    assert found.problems == () and found.left_out == () and found.traced == 4
    unit = record["infer"]["unit_flops"]
    assert unit > record["model"]["price"]["cell_flops"]


def test_no_copy_of_the_weights_is_kept(asked: tuple[Path, Any], llama: str) -> None:
    results, record = asked
    folder = records.weights_folder(results, spec_of(llama))
    assert sorted(p.name for p in folder.iterdir()) == ["learner.json", "timing.json", "train.jsonl"]
    learner = json.loads((folder / "learner.json").read_text())
    assert learner["weights_sha256"] == record["model"]["weights_sha256"] == weights_hash(causal(llama))
    assert learner["spec"]["model"]["path"] == llama


def test_a_run_is_loaded_asked_and_verified(asked: tuple[Path, Any], llama: str) -> None:
    results, _ = asked
    name = records.run_folder(results, spec_of(llama)).name
    _, backbone, _ = load_run(name, results=results, device="cpu")
    assert backbone.as_it_is
    found = verify_run(name, results=results, device="cpu", reporter=Silent())
    assert found["equal"] == found["problems"] == 6
    assert ask_run(name, "1+2=", results=results, device="cpu")["trace"]


def test_other_weights_at_the_path_are_an_error(llama: str, tmp_path: Path) -> None:
    """Also where the head alone has changed, which is not tied here."""
    from safetensors.torch import load_file, save_file

    path = str(shutil.copytree(llama, tmp_path / "model"))
    run(spec_of(path), results=tmp_path / "r")
    state = load_file(f"{path}/model.safetensors")
    state["lm_head.weight"] += 1.0
    save_file(state, f"{path}/model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"^model\.path: the weights of .* are not those that .*learner\.json names"):
        load_run(records.run_folder(tmp_path / "r", spec_of(path)).name, results=tmp_path / "r", device="cpu")
    assert run(spec_of(path), results=tmp_path / "r", again=True)["complete"]


def test_documents_are_scored_as_the_library_scores_them(llama: str, tmp_path: Path) -> None:
    spec = spec_of(llama, task="support:Pages", **{"task.window": 20})
    record = run(spec, results=tmp_path)
    alphabet, nats = causal(llama).alphabet, 0.0
    for document in Pages(window=20).documents("test"):
        ids = alphabet.encode(document.text).tolist()
        for before, window in rolling_windows(ids, prefix_id=alphabet.end_id, window_tokens=20):
            logp = torch.log_softmax(theirs(llama, [*before, *window[:-1]]), -1)[len(before) - 1 :]
            nats -= float(logp.gather(1, torch.tensor(window)[:, None]).sum())
    lines = records.read_lines(records.run_folder(tmp_path, spec))
    assert record["metrics"] and sum(line["nats"] for line in lines) == pytest.approx(nats, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("self_consistency", {"strategy.base": "direct", "strategy.samples": 3}),
        ("beam_search", {"strategy.base": "direct", "strategy.width": 3}),
        ("best_of_n", {"strategy.base": "direct", "strategy.samples": 2, "strategy.select": "logprob"}),
    ],
)
def test_searches_run_on_such_a_model(name: str, more: dict[str, Any], llama: str, tmp_path: Path) -> None:
    spec = spec_of(llama, name, **more)
    assert run(spec, results=tmp_path)["search"] is not None
    assert recheck(records.run_folder(tmp_path, spec)).problems == ()


def test_a_plan_says_what_asking_costs(llama: str) -> None:
    found = plan(spec_of(llama))
    assert found.updates == 0 and found.training_flops == 0 and found.asked_flops > 0
