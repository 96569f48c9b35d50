"""The command that hands over to lm-eval's own command line. Imports what it needs when it is called."""

from __future__ import annotations

import click

from harness.visible import say


@click.command("lm-eval", context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.option("--tasks-path", is_flag=True, help="Print the folder of our tasks in YAML, for lm-eval's --include_path, and stop.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def lm_eval(tasks_path: bool, arguments: tuple[str, ...]) -> None:
    """lm-eval's own command line, with our model (`--model thinking`) and our tasks (`thinking_..`) known to it.

    ARGUMENTS go to lm-eval as they are: run, ls, validate; `lm-eval --help` and `lm-eval run --help` are its own.
    """
    from harness.lm_eval_door import TASKS, run_lm_eval

    if tasks_path:
        say(str(TASKS))
        return
    run_lm_eval(arguments)
