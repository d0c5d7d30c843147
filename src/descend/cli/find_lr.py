"""The command `descend find-lr`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from descend.cli import values
from descend.cli.completion import complete_rule
from descend.cli.console import default_folder, make_console
from descend.cli.parameters import Command, json_option, out_option, problem_argument
from descend.cli.streams import answer_kept_clean
from descend.comparison.planning.entries import BATCH_SIZE
from descend.comparison.reporting.files import writable
from descend.comparison.running.written import replaced
from descend.printable import say
from descend.training.lr_range_test import RangeTest, find_lr
from descend.training.options import RangeTestOptions as Defaults

__all__ = ["find_lr_command"]


@click.command("find-lr", cls=Command, short_help="Find where to look for a learning rate.")
@problem_argument
@click.option(
    "--rule", metavar="NAME", default="adam", shell_complete=complete_rule, help="The rule, by name. Default: adam."
)
@click.option("--batch-size", metavar="SIZE", help=f'Examples a step: a number, or "full". Default: {BATCH_SIZE}.')
@click.option("--low", default=Defaults.low, help=f"Where the sweep begins. Default: {Defaults.low:g}.")
@click.option("--high", default=Defaults.high, help=f"Where the sweep ends at the latest. Default: {Defaults.high:g}.")
@click.option("--steps", default=Defaults.steps, help=f"Steps of a sweep. Default: {Defaults.steps}.")
@click.option(
    "--trial-steps",
    default=Defaults.trial_steps,
    help=f"Steps for which a rate has to be stable. Default: {Defaults.trial_steps}.",
)
@click.option(
    "--seeds",
    default=Defaults.seeds,
    help=f"How many seeds; below 6 there are no intervals. Default: {Defaults.seeds}.",
)
@click.option("--budget", type=int, help="Gradient evaluations at most, of all seeds. Default: what they take.")
@click.option("--jobs", type=int, help="Processes. Default: one a core if the work is long.")
@out_option("Folder for picture and JSON. Default: descend-PROBLEM.")
@json_option
def find_lr_command(
    problem: str, rule: str, batch_size: str | None, out: Path | None, as_json: bool, **numbers: Any
) -> None:
    """Find where to look for a learning rate: the steepest of a range test, and the largest that is stable.

    Writes a picture to open in a browser, and every figure as JSON.
    """
    size = None if batch_size is None else values.batch_size(batch_size)
    folder = writable(out or default_folder(problem))
    people = make_console(to_stderr=True)
    with answer_kept_clean():
        found = find_lr(problem, rule, batch_size=size, announce=lambda text: say(people, text), **numbers)
    picture, table = _write(found, folder)
    console = make_console(to_stderr=as_json)
    say(console, f"{found}\n{found.seconds:.0f} s. Picture: {picture}")
    if as_json:
        click.echo(json.dumps({**found.to_dict(), "picture": str(picture), "table": str(table)}))


def _write(found: RangeTest, folder: Path) -> tuple[Path, Path]:
    """Write a picture and every figure of a range test; returns both paths."""
    from descend import plots
    from descend.plots.styles import text

    picture, table = (folder / f"find-lr-{found.rule.lower()}.{ending}" for ending in ("html", "json"))
    with replaced(table) as place:
        place.write_text(json.dumps(found.to_dict(), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    figure = plots.range_test(found)
    figure.update_layout(title={"text": text(found.answer, 80), "font_size": 15}, margin_t=80)
    with replaced(picture) as place:
        figure.write_html(place, include_plotlyjs=True, config={"displaylogo": False})
    return picture, table
