"""lm-eval's own command line, with our model and our tasks known to it; and raw traces beside what it logs.

`python -m harness lm-eval run --model thinking --model_args pretrained=RUN_DIR --tasks thinking_arithmetic`. Arguments go on as
they are. Knows lm-eval's command line (0.4.13) and its files of samples; answers no request itself.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness import jsonl, storage
from harness.arguments import check_model_arguments
from harness.model_size import check_fits
from harness.pretrained import check_there
from harness.reading import read_json
from harness.refusal import is_refusal
from harness.responses import Response, arguments_key, by_arguments
from harness.spec import ModelSpec
from harness.visible import to_stderr

OWN_OPTIONS = ("device", "batch_size", "max_batch_size")
TASKS = Path(__file__).resolve().parent.parent / "tasks" / "yaml"


def run_lm_eval(arguments: Sequence[str]) -> None:
    """Run lm-eval's command line; ValueError for what is wrong in our model's arguments, SystemExit as argparse has it."""
    given = model_arguments_in(arguments)
    if given:
        _check_names(given)
    if (named := given.get("pretrained")) is not None and not (Path(named) / "run.json").is_file():
        check_there(named, key="pretrained")  # before lm-eval is imported, which takes seconds
        check_fits(ModelSpec(path=named), taught=False, key="pretrained")
    from lm_eval._cli import HarnessCLI
    from lm_eval.utils import setup_logging

    import harness.lm_eval_bridge  # noqa: F401  (registers the model)

    setup_logging()
    with _as_typed(arguments):
        command_line = HarnessCLI()
        chosen = command_line.parse_args()
    if hasattr(chosen, "include_path"):
        theirs = getattr(chosen, "include_path", None)
        chosen.include_path = [str(TASKS), *([str(_folder(theirs))] if theirs else [])]
    output = getattr(chosen, "output_path", None)
    before = set(_samples(output))
    with _refusals_of_lm_eval():
        command_line.execute(chosen)
    add_traces(sorted(set(_samples(output)) - before))


def _check_names(given: Mapping[str, str]) -> None:
    """ValueError for a model argument that is unknown, or that lm-eval hands over from an option of its own."""
    check_model_arguments(given)
    for name in OWN_OPTIONS:
        if name in given:
            raise ValueError(f"model_args: {name} is an option of lm-eval itself; give it as --{name}")


def model_arguments_in(arguments: Sequence[str]) -> dict[str, str]:
    """The model arguments for `thinking` as they are typed, by name; none where another model is named, or in another form."""
    given: dict[str, list[str]] = {}
    words: list[str] = []
    for word in arguments:
        option, equals, value = word.partition("=")
        if option.startswith("-"):
            words = given.setdefault(option, [])
            words += [value] if equals else []
        else:
            words.append(word)
    if "thinking" not in given.get("--model", given.get("-M", [])):
        return {}
    pairs = [pair.strip() for word in given.get("--model_args", given.get("-a", [])) for pair in word.split(",")]
    typed = [pair.partition("=") for pair in pairs if pair and not pair.startswith("{")]
    return {name: value for name, equals, value in typed if equals}


@contextmanager
def _refusals_of_lm_eval() -> Iterator[None]:
    """What lm-eval refuses, as our own refusal: its arguments go to it as they are typed."""
    try:
        yield
    except ValueError as error:
        import lm_eval

        if not is_refusal(error, also=(lm_eval.__name__,)):
            raise
        raise ValueError(str(error)) from None


@contextmanager
def _as_typed(arguments: Sequence[str]) -> Iterator[None]:
    """lm-eval reads sys.argv."""
    typed, sys.argv = sys.argv, ["lm-eval", *arguments]
    try:
        yield
    finally:
        sys.argv = typed


def _folder(path: str) -> Path:
    """A folder that is there: lm-eval says nothing of one that is not."""
    if not Path(path).is_dir():
        raise ValueError(f"--include_path: no folder {path!r}; name one with YAML files of tasks")
    return Path(path)


def _samples(output: str | None) -> list[Path]:
    """The files of samples below an output path."""
    if output is None:
        return []
    root = Path(output)
    return sorted((root.parent if root.suffix == ".json" else root).rglob("samples_*.jsonl"))


def add_traces(paths: Sequence[Path]) -> None:
    """Put what was said in full, and what it cost, beside each sample's responses: key ``thinking``, an entry a request.

    They come from the kept responses that the results beside a file name; without such the file stays as it is.
    """
    known: dict[Path, dict[str, list[Response]]] = {}  # of many tasks the responses lie in one file
    for path in paths:
        file = _responses_beside(path)
        if file is not None:
            kept = known[file] if file in known else known.setdefault(file, by_arguments(file))
            try:
                _add_traces(path, kept)
            except (LookupError, TypeError, AttributeError, ValueError, RecursionError) as error:
                to_stderr(f"left out: {path} has no samples as lm-eval writes them ({error}); it stays as it is")


def _add_traces(path: Path, kept: Mapping[str, list[Response]]) -> None:
    lines = [json.loads(line) for line in jsonl.lines_of(path)]
    for line in lines:
        line["thinking"] = [kept.get(arguments_key(*(each[name] for name in sorted(each))), []) for each in _asked(line)]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    storage.replace_file(path, text.encode("utf-8", "surrogatepass"))


def _asked(sample: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A sample's requests: their arguments by name, arg_0, arg_1."""
    every = sample["arguments"]
    return [every[name] for name in sorted(every, key=lambda name: int(name.rpartition("_")[2]))]


def _responses_beside(path: Path) -> Path | None:
    """The file of kept responses of the evaluation that a file of samples belongs to."""
    stamp = path.stem.rpartition("_")[2]
    for results in path.parent.glob(f"*{stamp}.json"):
        try:
            kept = read_json(results)["config"]["responses"]
        except (OSError, ValueError, LookupError, TypeError):  # results of another model, or no results
            continue
        if isinstance(kept, str) and Path(kept).is_file():
            return Path(kept)
    return None
