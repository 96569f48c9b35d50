"""Options and checks that several commands share. Knows words, and where results lie."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

URL = "harness.url"  # in a context's meta: where results lie, if elsewhere
OWN_SYNC = ("run", "compare", "sweep")  # commands that take and give each run by itself
OF_MAKING = ("track", "parts", "shard", "checkpoint_s", "max_kv_bytes", "results", "device")  # no part of a run's spec
NEED_WEIGHTS = ("ask", "verify", "export")


class Number(click.FloatRange):
    """A finite number within a range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number; what is none of the range, NaN among them, is refused."""
        found = super().convert(value, param, ctx)
        if not math.isfinite(found):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return found


class _Results(click.ParamType[Path]):
    """A folder, or a URL whose complete runs are taken into a scratch folder first and given back at the end."""

    name = "folder or URL"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """The folder in which the command works."""
        if value == "":
            raise ValueError("--results: expected a folder or a URL, got nothing (an unset variable of the shell, say)")
        if ctx is None or isinstance(value, Path) or "://" not in value:  # what opens URLs takes a while to load
            return Path(value)
        from harness.remote import Remote

        remote, command = Remote(value.rstrip("/")), ctx.info_name
        if command == "gc":
            raise ValueError("--results: gc clears up a folder of this machine, not a URL")
        ctx.meta[URL] = remote.url
        if command not in OWN_SYNC:
            remote.take_all(("runs", "weights", "values") if command in NEED_WEIGHTS else ("runs",))
        if command != "run":
            ctx.call_on_close(remote.give_all)
        return remote.local


RESULTS = click.option(
    "--results", type=_Results(), default=Path("results"), show_default=True, help="Results folder, or a URL (s3://, gs://, ..)."
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout; all else goes to stderr.")
MAX_KV_BYTES = click.option(
    "--max-kv-bytes",
    type=click.IntRange(1),
    help="Most bytes of keys and values when asking; problems wait.  [default: none]",
)
TRUST_PLUGINS = click.option(
    "--trust-plugins", is_flag=True, help="Run the code that records name: files, classes, settings that point to code."
)
DEVICE = click.option("--device", default="cpu", show_default=True, help="cpu, cuda or cuda:N.")
PROBLEMS = click.option("--problems", help="Test problems.  [default: 2000]")
CHECKPOINT_S = click.option(
    "--checkpoint-s", type=Number(min=0), default=30.0, show_default=True, help="Seconds between checkpoints."
)
SEEDS = click.option("--seeds", default=None, help="Such as 0-4 or 0,3,7-9.  [default: 0-2]")
BUDGETS = click.option("--train-flops", help="Training budgets, separated by commas.  [default: the task's]")
WORKERS = click.option("--workers", type=click.IntRange(1, 1024), help="Processes, one thread each.  [default: one a core]")
ENGINE = click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Who makes the runs: processes of this machine, or a Ray cluster.",
)
ADDRESS = click.option("--address", help="Of the Ray cluster (auto, HOST:PORT).  [default: one of this machine alone]")
GPUS = click.option(
    "--gpus", type=Number(min=0.01), default=1.0, show_default=True, help="Of each run under --engine ray, e.g. 0.25."
)
PARTS = click.option(
    "--parts",
    type=click.IntRange(1, 1024),
    default=1,
    show_default=True,
    help="Take each update in so many parts, one after another (gradient accumulation): less memory, the same update.",
)
TRACK = click.option(
    "--track", type=click.Choice(["tensorboard", "trackio"]), help="Keep curves for it in RESULTS/tracking.  [default: nothing]"
)
SHARD = click.option("--shard", is_flag=True, help="Launched several times over: split the weights among the processes (FSDP).")
RUN_THREADS = click.option("--threads", type=int, default=1, show_default=True, help="Compute threads of each run.")
PLAN = click.option("--dry-run", is_flag=True, help="Print the plan (runs, FLOPs, minutes, disk) and stop.")


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """KEY=VALUE words."""
    parsed = {}
    for word in settings:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise ValueError(f"--set: expected KEY=VALUE, for example strategy.per_token=2, got {word!r}")
        parsed[key] = value
    return parsed


def repeated_options() -> list[str]:
    """Options of the command under way that say how and where a run is made, as the user gave them, quoted for a shell."""
    from harness.spec_text import setting_text

    context = click.get_current_context()
    words: list[str] = []
    for param in context.command.params:
        if param.name in OF_MAKING and context.get_parameter_source(param.name) is not ParameterSource.DEFAULT:
            value = context.params[param.name]
            if param.name == "results":
                value = results_url() or value
            words += [param.opts[0]] if value is True else [param.opts[0], shlex.quote(setting_text(value))]
    return words


def results_url() -> str | None:
    """Where results lie, if elsewhere than in the folder that the command was given."""
    url: str | None = click.get_current_context().meta.get(URL)
    return url
