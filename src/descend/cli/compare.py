"""The command `descend compare`."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from time import perf_counter as now
from typing import Any

import click

from descend.cli import values
from descend.cli.completion import complete_problem, complete_rules
from descend.cli.console import default_folder, make_console
from descend.cli.live import Live
from descend.cli.parameters import Argument, Command, json_option, out_option
from descend.cli.streams import answer_kept_clean
from descend.cli.terminated import Terminated, terminable
from descend.comparison import Comparison, Suite, compare, compare_all
from descend.comparison.options import EFFORTS, CompareOptions
from descend.comparison.planning.entries import BATCH_SIZE, DEFAULT_ENTRIES
from descend.comparison.planning.make_plan import EPOCHS
from descend.comparison.planning.plan import FROM_REFERENCE
from descend.comparison.planning.spaces import LEARNING_RATES
from descend.comparison.reporting.exports import exportable
from descend.comparison.reporting.files import REPORT, SUITE_TABLE, TABLE
from descend.comparison.reporting.wording import duration
from descend.comparison.running.dask import on_dask
from descend.errors import DescendError, OptionError
from descend.printable import say

__all__ = ["compare_command"]

DEFAULT, QUICK, THOROUGH = (EFFORTS[name] for name in (CompareOptions.effort, "quick", "thorough"))
TARGET = {FROM_REFERENCE: "found by reference runs"}[str(CompareOptions.target)]
SEVERAL = Path("descend-comparisons")
"""The folder for comparisons on several problems, unless one is named."""


@click.command("compare", cls=Command, short_help="Compare optimizers on a problem, or on several.")
@click.argument(
    "problems",
    cls=Argument,
    metavar="PROBLEM...",
    nargs=-1,
    required=True,
    shell_complete=complete_problem,
    about="A built-in name (see: descend problems) or a Python file; or several of them.",
)
@click.option(
    "--rules",
    metavar="NAMES",
    shell_complete=complete_rules,
    help=f"Rules to compare, by name: adam,momentum. Default: the {len(DEFAULT_ENTRIES)} usual techniques.",
)
@click.option(
    "--lr",
    metavar="NUMBERS",
    help=f"Learning rates to try: 0.001,0.01,0.1. Default: points from {LEARNING_RATES.low:g} to "
    f"{LEARNING_RATES.high:g}.",
)
@click.option(
    "--tune",
    metavar="NAME=SPACE",
    multiple=True,
    help="Search for another hyperparameter, too: momentum=0.5..0.99, weight_decay=1e-6..0.1:log, "
    "batch_size=16,32,64. May be repeated.",
)
@click.option("--trials", type=int, help=f"Points that each rule tries. Default: {DEFAULT.trials}.")
@click.option("--batch-size", metavar="SIZE", help=f'Examples a step: a number, or "full". Default: {BATCH_SIZE}.')
@click.option("--budget", type=int, help=f"Gradient evaluations a run. Default: {EPOCHS} passes over the data.")
@click.option(
    "--target",
    metavar="VALUE",
    help=f'The validation metric that is good enough, or "none". Default: {TARGET}.',
)
@click.option("--tuning-seeds", type=int, help=f"Seeds that each trial runs from. Default: {DEFAULT.tuning_seeds}.")
@click.option("--final-seeds", type=int, help=f"Fresh seeds that judge the best trial. Default: {DEFAULT.final_seeds}.")
@click.option(
    "--studies",
    type=int,
    help=f"How often the tuning is done over, each judged on its own seeds. Default: {DEFAULT.studies}.",
)
@click.option("--quick", is_flag=True, help=f"A first idea: {QUICK.trials} trials, tuning seeds: {QUICK.tuning_seeds}.")
@click.option("--thorough", is_flag=True, help=f"More certain: {THOROUGH.studies} studies.")
@click.option("--no-untuned", is_flag=True, help="Do not run each rule with its own learning rate besides.")
@click.option("--time", is_flag=True, help="At the end, time each rule's runs with no other beside them.")
@click.option("--jobs", type=int, help="Processes. Default: one a core.")
@click.option("--dask", metavar="ADDRESS", help="Make the runs on the Dask cluster of this scheduler instead.")
@click.option(
    "--max-run-seconds",
    type=float,
    metavar="SECONDS",
    help="End a run that takes longer, and count a miss. Default: what the pilot leaves no doubt about.",
)
@out_option("Folder for the report and the runs. Default: descend-PROBLEM, with its settings.")
@click.option("--fresh", is_flag=True, help="Run everything again, even what is finished.")
@click.option(
    "--export",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Write every run to a file, too: .csv, .json or .parquet.",
)
@json_option
def compare_command(problems: tuple[str, ...], **given: Any) -> None:
    """Compare optimizers on PROBLEM: equal tuning, equal cost, fresh seeds, intervals.

    Writes a report to open in a browser. A comparison that was stopped goes on where it stopped when the same command
    is given again. Several problems make a comparison each, and performance profiles of all.
    """
    as_json, export = given["as_json"], given["export"]
    several = len(problems) > 1
    folder = given["out"] or (SEVERAL if several else default_folder(problems[0]))
    options = _options(**given) | {"out": folder}
    if export is not None:
        exportable(export, coming=folder)
    began = now()
    with (
        terminable(),
        Live(make_console(to_stderr=True)) as live,
        answer_kept_clean(),
        contextlib.nullcontext() if given["dask"] is None else on_dask(given["dask"]) as executor,
    ):
        options |= {"executor": executor, "announce": live.announce, "progress": live.progress, "leaders": live.leaders}
        try:
            found = compare_all(problems, **options) if several else compare(problems[0], **options)
        except KeyboardInterrupt as error:
            live.close()
            how = "terminated" if isinstance(error, Terminated) else "interrupted"
            words = f"{how}; {live.done} finished runs are kept in {folder}: the same command goes on from there"
            raise type(error)(words) from None
    lost = None if export is None else _export(found, export)
    console = make_console(to_stderr=as_json)
    found.show(console)
    took = duration(now() - began) if isinstance(found, Suite) else found.took
    say(console, f"\n{took}. Report: {folder / REPORT}")
    if as_json:
        whole = found.to_dict() if isinstance(found, Suite) else found.to_dict(runs=False)
        table = folder / (SUITE_TABLE if several else TABLE)
        click.echo(json.dumps({**whole, "report": str(folder / REPORT), "table": str(table)}))
    if lost is not None:  # told last: a disk that is full by now takes no answer away
        raise lost


def _export(found: Comparison | Suite, path: Path) -> DescendError | None:
    """Write every run to a file; what went wrong, if that failed."""
    try:
        found.export(path)
    except DescendError as error:
        return error
    return None


def _options(
    *,
    rules: str | None,
    lr: str | None,
    tune: tuple[str, ...],
    batch_size: str | None,
    target: str | None,
    quick: bool,
    thorough: bool,
    no_untuned: bool,
    time: bool,
    dask: str | None,
    **given: Any,
) -> dict[str, Any]:
    """The options of `descend.compare` that were given on the command line; the others keep their defaults."""
    if quick and thorough:
        raise OptionError("--quick and --thorough: leave one of them out")
    if lr is not None and given["trials"] is not None:
        raise OptionError(f"--trials {given['trials']} and --lr {lr}: each learning rate is a trial; leave one out")
    space = values.spaces(tune)
    if lr is not None and "lr" in (space or {}):
        raise OptionError(f"--lr {lr} and --tune lr=…: both say what is tried; leave one of them out")
    if dask is not None and given["jobs"] is not None:
        raise OptionError(f"--jobs {given['jobs']} and --dask {dask}: a cluster has its own workers; leave one out")
    if dask is not None and given["max_run_seconds"] is not None:
        raise OptionError("--max-run-seconds and --dask: a run cannot be ended on a cluster; leave one out")
    options = {name: given[name] for name in ("trials", "budget", "tuning_seeds", "final_seeds", "studies", "jobs")}
    options["max_run_seconds"] = given["max_run_seconds"]
    options |= {
        "rules": None if rules is None else values.names(rules),
        "learning_rates": None if lr is None else values.floats("--lr", lr),
        "space": space,
        "batch_size": None if batch_size is None else values.batch_size(batch_size),
        "target": None if target is None else values.target(target),
        "effort": "quick" if quick else "thorough" if thorough else None,
        "untuned": False if no_untuned else None,
        "timed": time or None,
        "fresh": given["fresh"] or None,
    }
    return {name: value for name, value in options.items() if value is not None}
