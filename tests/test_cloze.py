"""Cloze: questions stand in documents of their split, worked lines are what they say. Finds the words anew."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from harness.problem import Problem
from harness.settings import build
from harness.task import SPLITS, Split
from tasks._next_words import gaps
from tasks._split_corpus import split_corpus
from tasks.cloze import Cloze
from tasks.language_model import LanguageModel


def posed(task: Cloze, split: Split = "train", count: int = 2000, lines: bool = True) -> list[Problem]:
    return list(task.problems(split, seed=0, start=0, count=count, lines=lines))


def text(problem: Problem) -> str:
    assert isinstance(problem.question.text, str)
    return problem.question.text


def running(task: Cloze, split: Split) -> list[str]:
    return [" ".join(d.text.split()) for d in LanguageModel(corpus=task.corpus).documents(split)]


@pytest.mark.parametrize("settings", [{}, {"characters": 60, "frequent": 0}])
def test_words_stand_behind_their_contexts_in_documents_of_the_split(settings: dict[str, Any]) -> None:
    task = build(Cloze, settings, prefix="task")
    words = Counter(w for d in running(task, "train") for w in free_words(d, task.characters))
    frequent = sorted(words, key=lambda w: (-words[w], w))[: task.frequent or None]
    for split in SPLITS:
        documents = "\n".join(["", *running(task, split), ""])
        for problem in posed(task, split, 700):
            question, word = text(problem), str(problem.key.answer)
            places = occurrences("\n" + question + word, documents) + occurrences(" " + question + word, documents)
            before = documents[: places[0] - len(question + word)].rpartition(" ")[0].rpartition(" ")[2].rpartition("\n")[2]
            assert len(places) > 1 or len(before) + 1 + len(question) > task.characters  # no more words would have gone in
            assert any(re.match(r"[.,;:!?)\"']*\s", documents[place : place + 9]) for place in places)
            assert question.endswith(" ") and 0 < len(question) <= task.characters and task.parse(question) == question
            assert split != "train" or word in frequent
            assert not task.frequent or word in frequent
            assert problem.difficulty == len(str(frequent.index(word) + 1 if word in frequent else len(frequent) + 1))
    every = [p for split in SPLITS for p in posed(task, split, 20_000)]
    assert max(len(str(p.key.answer)) for p in every) + 1 == every[0].question.answer_cap_tokens
    assert max(len(";".join(p.key.lines)) for p in every) + 1 == every[0].question.lines_cap_tokens


def occurrences(sought: str, documents: str) -> list[int]:
    """Where it ends, each time."""
    found, place = [], documents.find(sought)
    while place >= 0:
        found.append(place + len(sought))
        place = documents.find(sought, place + 1)
    return found


def free_words(document: str, characters: int) -> list[str]:
    """Words between blanks, but for punctuation behind them, from a place on."""
    found, place = [], 0
    for token in document.split(" "):
        bare = token.rstrip(".,;:!?)\"'")
        if place >= characters and re.fullmatch(r"[A-Za-z]+(['-][A-Za-z]+)*", bare):
            found.append(bare)
        place += len(token) + 1
    return found


def test_contexts_are_in_one_split_and_epochs_are_permutations() -> None:
    task = Cloze(characters=12)
    sizes = task.provenance()["questions"]
    asked = {split: [text(p) for p in posed(task, split, sizes[split], lines=False)] for split in SPLITS}
    every = [q for split in SPLITS for q in asked[split]]
    assert len(set(every)) == len(every) > 8000
    again = [text(p) for p in task.problems("train", seed=0, start=sizes["train"], count=sizes["train"], lines=False)]
    assert again != asked["train"] and sorted(again) == sorted(asked["train"])
    assert not task.problems("test", seed=0, start=sizes["test"], count=5)


def test_worked_lines_of_cloze() -> None:
    def first(lines: str, split: Split = "test") -> list[Problem]:
        return posed(build(Cloze, {"lines": lines}, prefix="task"), split, 13_000)

    for problem in first("hints")[:500]:
        word = str(problem.key.answer)
        assert problem.key.lines == (word[0], str(len(word)), word)
    for problem in first("spelling")[:500]:
        word = str(problem.key.answer)
        assert problem.key.lines == tuple(word[: n + 1] for n in range(len(word)))
    after: dict[str, Counter[str]] = {}
    train = {text(p): p for p in first("followers", "train")}
    assert len(train) == 13_000 < Cloze().provenance()["questions"]["train"] < 14_500
    everything = posed(Cloze(), "train", Cloze().provenance()["questions"]["train"], lines=False)
    for problem in everything:
        after.setdefault(text(problem).split()[-1], Counter())[str(problem.key.answer)] += 1
    for problem in [*first("followers"), *list(train.values())[:3000]]:
        last, word = text(problem).split()[-1], str(problem.key.answer)
        counts = Counter(after.get(last, {}))
        if text(problem) in train:
            counts -= Counter([word])  # a train question does not tell its own answer
        likely = sorted(counts, key=lambda w: (-counts[w], w))[:3]
        assert problem.key.lines == (f"{last}>{','.join(likely)}", word)


def test_a_local_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    tale = [f"Once more in part {i} of {i * i} we tell the tale of number {i} to the people of town {i * 7}." for i in range(300)]
    path.write_text("\n\n".join(tale))
    task = Cloze(corpus=str(path), characters=20)
    before = posed(task, "test", 50)
    path.write_text("\n\n".join(line.replace("people", "merchants") for line in tale))
    after = posed(task, "test", 50)
    assert before != after and max(p.question.answer_cap_tokens for p in after) > before[0].question.answer_cap_tokens


def test_gaps_of_a_text_by_hand(tmp_path: Path) -> None:
    tale = "Ab cd\n ef_g hi, don't  (jk) lm-no: x2 pq. aaaaaaaaaaaa bb"
    other = [f"{'xyz'[i % 3]}{i} and {i} or {i} " + f"{i} " * 900 for i in range(40)]
    (tmp_path / "book.txt").write_text("\n\n".join([*other, tale]))
    corpus = split_corpus(str(tmp_path / "book.txt"), "text")
    found = gaps(corpus, 8, 0).by_split
    mine = {gap for split in SPLITS for gap in found[split] if not re.match(r"\d|[xyz]\d+ and|and|or", gap[0])}
    assert mine == {("cd ef_g ", "hi"), ("hi, ", "don't"), ("(jk) ", "lm-no"), ("x2 ", "pq"), ("x2 pq. ", "aaaaaaaaaaaa")}


def test_errors_name_what_is_legal(tmp_path: Path) -> None:
    (tmp_path / "digits.txt").write_text("\n\n".join(f"{i} {i * i} {i**3}" * 9 for i in range(200)))
    with pytest.raises(ValueError, match=r"task\.corpus.*no question"):
        posed(Cloze(corpus=str(tmp_path / "digits.txt")))
    with pytest.raises(ValueError, match=r"task\.corpus.*did you mean"):
        posed(Cloze(corpus="pidoc"))
    with pytest.raises(ValueError, match="legal"):
        Cloze().parse("  ")
    assert Cloze(characters=12).parse("the value of\nthe next") == "of the next "
    assert Cloze(characters=12).parse("internationalization") == "onalization "
