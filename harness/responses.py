"""What a model has answered to requests, kept so that an evaluation that was cut off goes on from there.

A file for each model *as it is asked*: weights, strategy, settings; its key is the hash of all of them, so that another model
never meets these answers. Lines are appended as answers come. Knows files and keys; knows no model, and not what a request means.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from harness import jsonl, shapes, storage
from harness.reading import check_readable, parsed
from harness.spec import canonical

Response = dict[str, Any]


def request_key(kind: str, *facts: Any) -> str:
    """A request's key: its kind and all that its answer depends on beside the model; JSON values."""
    return hashlib.sha256(canonical([kind, *facts]).encode("utf-8", "surrogatepass")).hexdigest()


def arguments_key(*arguments: Any) -> str:
    """The key of what was asked, whoever asked it and however often: a request's arguments alone."""
    return request_key("arguments", *arguments)


def by_arguments(path: Path) -> dict[str, list[Response]]:
    """The responses in a file by the keys of the arguments that they answer; several where tokens were drawn."""
    found: dict[str, list[Response]] = {}
    for _, response in _whole(jsonl.whole_lines_of(path)[1:]):
        del response["request"]
        for key in response.pop("arguments"):
            found.setdefault(key, []).append(response)
    return found


def _whole(lines: Iterable[bytes]) -> Iterator[tuple[bytes, Response]]:
    """The lines that hold a response, as they stand and read; damaged ones are passed over."""
    for raw in lines:
        try:
            response: Response = parsed(raw, "a response", numbers_only=False)
            shapes.check(response, shapes.Response)
        except ValueError:
            continue
        yield raw, response


class Responses:
    """The answers of one model. path None: they are kept in memory alone.

    Opening a file cuts off a torn last line, and takes out damaged ones, whose requests are asked again; damaged: how many. One
    process at a time may hold it open for writing.
    """

    def __init__(self, path: Path | None, *, facts: Mapping[str, Any]) -> None:
        self.path, self.damaged = path, 0
        self._known: dict[str, Response] = {}
        if path is not None:
            storage.make_folder(path.parent)
            self._read(path, dict(facts))

    def _read(self, path: Path, facts: dict[str, Any]) -> None:
        check_readable(path)
        header, lines = _line({"asked": facts}).encode(), jsonl.whole_lines_of(path)
        if lines and not _is_of(lines[0], json.loads(header)):
            raise ValueError(f"{path} holds the answers of another model; move it away")
        whole = list(_whole(lines[1:]))
        self._known = {response["request"]: response for _, response in whole}
        self.damaged = max(len(lines) - 1, 0) - len(whole)
        content = b"".join((header, *(raw + b"\n" for raw, _ in whole)))
        if not path.exists():
            storage.append(path, header.decode())
        elif path.read_bytes() != content:
            storage.replace_file(path, content)

    def __contains__(self, key: str) -> bool:
        return key in self._known

    def __getitem__(self, key: str) -> Response:
        return self._known[key]

    def put(self, key: str, response: Response) -> None:
        """Keep an answer."""
        self._known[key] = response | {"request": key}
        if self.path is not None:
            storage.append(self.path, _line(self._known[key]))


def _is_of(line: bytes, header: Mapping[str, Any]) -> bool:
    """Whether a first line is the header; a damaged one is taken for it, since the file's name is the hash of the facts."""
    try:
        found = parsed(line, "a header", numbers_only=False)
    except ValueError:
        return True
    return bool(found == header) or not (isinstance(found, dict) and "asked" in found)


def _line(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=True, separators=(",", ":")) + "\n"
