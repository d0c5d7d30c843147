"""The command line: parse, call, print.

Exit status: 0 done, 1 the work failed (a reason in one line), 2 wrong usage, 130 interrupted. With ``--json`` the
result goes to standard output for machines, and everything for people to standard error.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import sys
from pathlib import Path
from time import perf_counter as now
from typing import TYPE_CHECKING, Annotated, Any

import typer

from descend import __version__
from descend.errors import DescendError, OptionError, ProblemError, RuleError
from descend.training.options import RangeTestOptions

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["app", "main"]

INTERRUPTED = 130

app = typer.Typer(
    name="descend",
    help="Gradient descent: compare optimizers on a problem, and look up rules and problems.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]


def main() -> None:
    """Run the command line; the entry point of the `descend` command."""
    for stream in (sys.stdout, sys.stderr):  # a terminal without Greek letters gets '?' for them, not a traceback
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        if app(prog_name="descend", standalone_mode=False) == INTERRUPTED:  # so it says that Ctrl-C came early
            _fail("interrupted", INTERRUPTED)
        sys.stdout.flush()
    except typer.TyperException as error:  # wrong usage, in the command line's own words
        words = error.format_message() if hasattr(error, "format_message") else str(error)
        _fail(f"{words} See: descend --help", 2) if words else sys.exit(2)
    except (OptionError, ProblemError, RuleError) as error:
        _fail(str(error), 2)
    except DescendError as error:
        _fail(str(error), 1)
    except KeyboardInterrupt:
        _fail("interrupted", INTERRUPTED)
    except BrokenPipeError:  # the reader of our output has gone: not our failure
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nor Python's, when it flushes at the end
        raise SystemExit(0) from None
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _fail(f"cannot write the output: {error.strerror or error}", 1)


def _fail(reason: str, status: int) -> None:
    print(f"descend: {' '.join(reason.split())}", file=sys.stderr)
    raise SystemExit(status)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"descend {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def compare(
    problems: Annotated[
        list[str],
        typer.Argument(
            metavar="PROBLEM...", help="A built-in name (see: descend problems) or a Python file; or several of them."
        ),
    ],
    rules: Annotated[
        str | None, typer.Option(help="Rules to compare, by name: adam,momentum. Default: the seven usual techniques.")
    ] = None,
    lr: Annotated[
        str | None, typer.Option(help="Learning rates to try: 0.001,0.01,0.1. Default: points from 1e-4 to 10.")
    ] = None,
    tune: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=SPACE",
            help="Search for another hyperparameter, too: momentum=0.5..0.99, weight_decay=1e-6..0.1:log, "
            "batch_size=16,32,64. May be repeated.",
        ),
    ] = None,
    trials: Annotated[int | None, typer.Option(help="Points that each rule tries. Default: 16.")] = None,
    batch_size: Annotated[str | None, typer.Option(help='Examples a step: a number, or "full". Default: 32.')] = None,
    budget: Annotated[
        int | None, typer.Option(help="Gradient evaluations a run. Default: 20 passes over the data.")
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(help='The validation metric that is good enough, or "none". Default: found by reference runs.'),
    ] = None,
    tuning_seeds: Annotated[int | None, typer.Option(help="Seeds that each trial runs from. Default: 3.")] = None,
    final_seeds: Annotated[int | None, typer.Option(help="Fresh seeds that judge the best trial. Default: 10.")] = None,
    studies: Annotated[
        int | None, typer.Option(help="How often the tuning is done over, each judged on its own seeds. Default: 1.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A first idea: 8 trials from one seed.")] = False,
    thorough: Annotated[bool, typer.Option("--thorough", help="Three studies.")] = False,
    no_untuned: Annotated[
        bool, typer.Option("--no-untuned", help="Do not run each rule with its own learning rate besides.")
    ] = False,
    time: Annotated[
        bool, typer.Option("--time", help="At the end, time each rule's runs with no other beside them.")
    ] = False,
    jobs: Annotated[int | None, typer.Option(help="Processes. Default: one a core.")] = None,
    dask: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Make the runs on the Dask cluster of this scheduler instead.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the report and the runs. Default: descend-PROBLEM.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Run everything again, even what is finished.")] = False,
    export: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write every run to a file, too: .csv, .json or .parquet.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare optimizers on PROBLEM: equal tuning, equal cost, fresh seeds, intervals.

    Writes a report to open in a browser. A comparison that was stopped goes on where it stopped when the same
    command is given again. Several problems make a comparison each, and performance profiles of all.
    """
    import descend
    from descend.comparison.experiment import REPORT, TABLE
    from descend.comparison.reporting.comparison import duration, exportable
    from descend.comparison.running.workers import on_dask
    from descend.comparison.suite import TABLE as TABLES

    console = _console(as_json)
    several = len(problems) > 1
    folder = out or (Path("descend-comparisons") if several else _folder(problems[0]))
    if export is not None:
        exportable(export)
    if quick and thorough:
        raise OptionError("--quick and --thorough: leave one of them out")
    if lr is not None and trials is not None:
        raise OptionError(f"--trials {trials} and --lr {lr}: each learning rate is a trial; leave one of them out")
    space = _space(tune)
    if lr is not None and "lr" in (space or {}):
        raise OptionError(f"--lr {lr} and --tune lr=…: both say what is tried; leave one of them out")
    if dask is not None and jobs is not None:
        raise OptionError(f"--jobs {jobs} and --dask {dask}: a cluster has its own workers; leave one of them out")
    began = now()
    with (
        _Live(console) as live,
        contextlib.redirect_stdout(sys.stderr if as_json else sys.stdout),
        contextlib.nullcontext() if dask is None else on_dask(dask) as executor,
    ):
        options: dict[str, Any] = {
            "rules": None if rules is None else _names(rules),
            "learning_rates": None if lr is None else _floats("--lr", lr),
            "space": space,
            "trials": trials,
            "batch_size": None if batch_size is None else _batch_size(batch_size),
            "budget": budget,
            "target": _target(target),
            "tuning_seeds": tuning_seeds,
            "final_seeds": final_seeds,
            "studies": studies,
            "effort": "quick" if quick else "thorough" if thorough else "default",
            "untuned": not no_untuned,
            "timed": time,
            "jobs": jobs,
            "executor": executor,
            "out": folder,
            "fresh": fresh,
            "announce": live.announce,
            "progress": live.progress,
            "leaders": live.leaders,
        }
        try:
            found = descend.compare_all(problems, **options) if several else descend.compare(problems[0], **options)
        except KeyboardInterrupt:
            live.close()
            _fail(
                f"interrupted; {live.done} finished runs are kept in {folder}: the same command goes on from there",
                INTERRUPTED,
            )
    if export is not None:
        found.export(export)
    found.show(console)
    console.print()
    took = f"{duration(now() - began)}" if isinstance(found, descend.Suite) else found.took
    console.print(f"{took}. Report: {folder / REPORT}", highlight=False, markup=False, soft_wrap=True)
    if as_json:
        whole = found.to_dict() if isinstance(found, descend.Suite) else found.to_dict(runs=False)
        table = folder / (TABLES if several else TABLE)
        print(json.dumps({**whole, "report": str(folder / REPORT), "table": str(table)}))


@app.command("find-lr")
def find_lr(
    problem: Annotated[str, typer.Argument(help="A built-in name (see: descend problems) or a Python file.")],
    rule: Annotated[str, typer.Option(help="The rule, by name.")] = "adam",
    batch_size: Annotated[str | None, typer.Option(help='Examples a step: a number, or "full". Default: 32.')] = None,
    low: Annotated[float, typer.Option(help="Where the sweep begins.")] = RangeTestOptions.low,
    high: Annotated[float, typer.Option(help="Where the sweep ends at the latest.")] = RangeTestOptions.high,
    steps: Annotated[int, typer.Option(help="Steps of a sweep.")] = RangeTestOptions.steps,
    trial_steps: Annotated[
        int, typer.Option(help="Steps for which a rate has to be stable.")
    ] = RangeTestOptions.trial_steps,
    seeds: Annotated[
        int, typer.Option(help="How many seeds; below 6 there are no intervals.")
    ] = RangeTestOptions.seeds,
    out: Annotated[Path | None, typer.Option(help="Folder for picture and JSON. Default: descend-PROBLEM.")] = None,
    as_json: Json = False,
) -> None:
    """Find where to look for a learning rate: the steepest of a range test, and the largest that is stable.

    Writes a picture to open in a browser, and every figure as JSON.
    """
    import descend
    from descend.comparison.experiment import writable
    from descend.plots.styles import text

    console = _console(as_json)
    folder = writable(out or _folder(problem))
    with contextlib.redirect_stdout(sys.stderr if as_json else sys.stdout):
        found = descend.find_lr(
            problem,
            rule,
            batch_size=None if batch_size is None else _batch_size(batch_size),
            low=low,
            high=high,
            steps=steps,
            trial_steps=trial_steps,
            seeds=seeds,
        )
    picture, table = (folder / f"find-lr-{found.rule.lower()}.{ending}" for ending in ("html", "json"))
    whole = found.to_dict()
    table.write_text(json.dumps(whole, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    figure = descend.plots.range_test(found)
    figure.update_layout(title={"text": text(found.answer, 80), "font_size": 15}, margin_t=80)
    figure.write_html(picture, include_plotlyjs=True, config={"displaylogo": False})
    for line in str(found).splitlines():
        console.print(line, highlight=False, markup=False)
    console.print(f"{found.seconds:.0f} s. Picture: {picture}", highlight=False, markup=False, soft_wrap=True)
    if as_json:
        print(json.dumps({**whole, "picture": str(picture), "table": str(table)}))


@app.command()
def rules(
    name: Annotated[str | None, typer.Argument(help="A rule, to see its formula, state and paper.")] = None,
    as_json: Json = False,
) -> None:
    """List the update rules, or describe one."""
    from rich.table import Table

    from descend import rules as known

    console = _console(False)
    if name is None:
        listed = [known.describe(rule) for rule in known.all().values()]
        if as_json:
            print(json.dumps([{"name": d.name, "summary": d.summary, "paper": d.paper} for d in listed]))
            return
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        table.add_column("rule", no_wrap=True)
        table.add_column("what it does")
        for d in listed:
            table.add_row(d.name, d.summary)
        console.print(table)
        return
    found = known.describe(known.get(name))
    if as_json:
        print(json.dumps(dataclasses.asdict(found)))
        return
    _print_rule(found, console)


def _print_rule(found: Any, console: Console) -> None:
    from rich.table import Table

    def plain(text: str) -> None:
        console.print(text, highlight=False, markup=False)

    plain(found.summary)
    console.print("\n[bold]Formula[/bold]")
    plain(found.formula)
    console.print("\n[bold]Hyperparameters[/bold]")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column()
    for h in found.hyperparameters:
        table.add_row(h.name, repr(h.default), f"{h.doc} ({h.allowed})")
    console.print(table, highlight=False)
    console.print("\n[bold]State[/bold]")
    plain(", ".join(found.state) or "none")
    if found.notes:
        console.print("\n[bold]Notes[/bold]")
        plain(" ".join(found.notes.split()))
    console.print("\n[bold]Paper[/bold]")
    plain(found.paper or "none given")


@app.command()
def problems(
    name: Annotated[str | None, typer.Argument(help="A problem, to see its data, metric and settings.")] = None,
    as_json: Json = False,
) -> None:
    """List the built-in problems, or describe one."""
    from rich.table import Table

    from descend import problems as known

    console = _console(False)
    if name is None:
        listed = {key: known.describe(key)[0] for key in known.BUILT_IN}
        if as_json:
            print(json.dumps([{"name": key, "summary": text} for key, text in listed.items()]))
            return
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        table.add_column("problem", no_wrap=True)
        table.add_column("what it is")
        for key, text in listed.items():
            table.add_row(key, text)
        console.print(table, highlight=False)
        return
    with contextlib.redirect_stdout(sys.stderr):  # what a problem file prints is no part of the answer
        found = known.load(name)
    settings = known.describe(name.partition(":")[0])[1] if name.partition(":")[0] in known.BUILT_IN else {}
    facts = {
        "name": found.name,
        "summary": found.summary,
        "metric": found.metric_name,
        "higher_is_better": found.higher_is_better,
        "optimum": found.optimum,
        "examples": found.examples,
        "settings": settings,
    }
    if as_json:
        print(json.dumps(facts))
        return
    better = "higher" if found.higher_is_better else "lower"
    lines = [f"{found.name}: {found.summary}", f"metric: {found.metric_name} ({better} is better)"]
    if found.size:
        lines.append("examples: " + ", ".join(f"{count} {role}" for role, count in found.examples.items()))
    if found.optimum is not None:
        lines.append(f"lowest training loss: {found.optimum:.6g}")
    if settings:
        values = ",".join(f"{k}={v:g}" for k, v in settings.items())
        lines.append(f"settings: {name.partition(':')[0]}:{values}")
    for line in lines:
        console.print(line, highlight=False, markup=False)


# ---- what people see while it works -----------------------------------------------------------------------------


_PHASES = {
    "reference": "setting the target",
    "tuning": "tuning",
    "final": "judging on fresh seeds",
    "timing": "timing, one at a time",
}


class _Live:
    """The plan, then a bar and who leads on a terminal, or a line a phase elsewhere."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.done = 0
        self._before = 0
        self._phase = ""
        self._bar: Any = None
        self._shown: Any = None
        self._board: Any = None
        self._task: Any = None

    def __enter__(self) -> _Live:
        return self

    def announce(self, text: str) -> None:
        """Say what is going to be done; what was shown of another problem is taken away."""
        self.close()
        self.console.print(text, highlight=False, markup=False)

    def progress(self, phase: str, done: int, total: int) -> None:
        """Show how far a phase has got."""
        new = phase != self._phase
        if new and self._phase:
            self._before = self.done
        self._phase, self.done = phase, self._before + done
        words = _PHASES.get(phase, phase)
        if not sys.stderr.isatty():
            if new:
                kept = f" ({done} are finished already)" if done else ""
                print(f"{words}: {total} runs{kept}", file=sys.stderr, flush=True)
            return
        if self._bar is None:
            self._open()
        if new:
            self._board = None
            self._shown.update(self._picture())
            self._task = self._bar.add_task(words, total=total)
        self._bar.update(self._task, completed=done)

    def leaders(self, plan: Any, runs: Any) -> None:
        """Show who leads: each entry's best median so far."""
        if self._shown is not None:
            from descend.comparison.reporting.comparison import leaderboard

            self._board = leaderboard(plan, runs)
            self._shown.update(self._picture())

    def _picture(self) -> Any:
        from rich.console import Group

        return self._bar if self._board is None else Group(self._bar, self._board)

    def _open(self) -> None:
        from rich.console import Console
        from rich.live import Live
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("{task.description:<24}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("runs, left"),
            TimeRemainingColumn(),
        )
        self._shown = Live(self._picture(), console=Console(stderr=True), transient=True, refresh_per_second=4)
        self._shown.start()

    def close(self) -> None:
        """Take the bar away."""
        if self._shown is not None:
            self._shown.stop()
            self._shown = self._bar = self._board = None

    def __exit__(self, *error: object) -> None:
        self.close()


def _console(to_stderr: bool) -> Console:
    from rich.console import Console

    return Console(stderr=to_stderr)


def _folder(problem: str) -> Path:
    """Where what is found about a problem is written, unless a folder is named."""
    return Path(f"descend-{Path(problem).stem.partition(':')[0]}")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _floats(option: str, text: str) -> list[float]:
    values = []
    for part in _names(text):
        try:
            values.append(float(part))
        except ValueError:
            raise OptionError(f"{option} {text}: {part!r} is not a number; try {option} 0.001,0.01,0.1") from None
    return values


def _space(tune: list[str] | None) -> dict[str, Any] | None:
    """The search spaces of ``--tune``; None without any."""
    if not tune:
        return None
    from descend.comparison.planning.spaces import Choice, parsed

    found: dict[str, Any] = {}
    for part in tune:
        name, _, text = (word.strip() for word in part.partition("="))
        if not name or not text.strip(", "):
            raise OptionError(f"--tune {part}: give a name and where to search, such as --tune momentum=0.5..0.99")
        if name in found:
            raise OptionError(f"--tune {part}: {name} is searched for once; leave one of the two out")
        try:
            found[name] = parsed(text)
        except OptionError as error:
            words = str(error)
            raise OptionError(words if words.startswith("--tune") else f"--tune {part}: {words}") from None
        if name == "batch_size" and not isinstance(found[name], Choice):
            raise OptionError(f"--tune {part}: batch sizes are listed, such as --tune batch_size=16,32,64")
    return found


def _target(text: str | None) -> Any:
    """The target as `descend.compare` takes it."""
    from descend.comparison.planning.plan import FROM_REFERENCE

    if text is None:
        return FROM_REFERENCE
    try:
        return float(text)
    except ValueError:
        return text


def _batch_size(text: str) -> Any:
    if text == "full":
        return "full"
    try:
        return int(text)
    except ValueError:
        raise OptionError(f"--batch-size {text}: a whole number, or full, is needed; try 32") from None


if __name__ == "__main__":
    main()
