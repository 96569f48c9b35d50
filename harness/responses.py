"""What a model has answered to requests, kept so that an evaluation that was cut off goes on from there.

A file for each model *as it is asked*: weights, strategy, settings; its key is the hash of all of them, so that another model
never meets these answers. Lines are appended as answers come. Knows files and keys; knows no model, and not what a request means.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from harness import jsonl, storage
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
    for line in islice(jsonl.lines_of(path), 1, None):
        response = json.loads(line)
        del response["request"]
        for key in response.pop("arguments"):
            found.setdefault(key, []).append(response)
    return found


class Responses:
    """The answers of one model. path None: they are kept in memory alone.

    Opening a file cuts off a torn last line. One process at a time may hold it open for writing.
    """

    def __init__(self, path: Path | None, *, facts: Mapping[str, Any]) -> None:
        self.path = path
        self._known: dict[str, Response] = {}
        if path is not None:
            storage.make_folder(path.parent)
            self._read(path, dict(facts))

    def _read(self, path: Path, facts: dict[str, Any]) -> None:
        kept, lines = 0, []
        for raw in jsonl.whole_lines_of(path):
            try:
                lines.append(json.loads(raw))
            except ValueError:
                break
            kept += len(raw) + 1
        if path.exists() and kept != path.stat().st_size:
            storage.truncate(path, kept)
        if not lines:
            storage.append(path, _line({"asked": facts}))
        elif lines[0].get("asked") != json.loads(json.dumps(facts)):
            raise ValueError(f"{path} holds the answers of another model; move it away")
        self._known = {line["request"]: line for line in lines[1:]}

    def __contains__(self, key: str) -> bool:
        return key in self._known

    def __getitem__(self, key: str) -> Response:
        return self._known[key]

    def put(self, key: str, response: Response) -> None:
        """Keep an answer."""
        self._known[key] = response | {"request": key}
        if self.path is not None:
            storage.append(self.path, _line(self._known[key]))


def _line(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=True, separators=(",", ":")) + "\n"
