"""Several comparisons side by side: the same entries on one problem after the other."""

from __future__ import annotations

import dataclasses
import io
import math
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from descend.comparison.experiment import Experiment
from descend.comparison.judging.profiles import ENOUGH, Profile, profiles
from descend.comparison.judging.standings import NO_VERDICT
from descend.comparison.options import CompareOptions
from descend.comparison.phrases import counted, listed
from descend.comparison.reporting.comparison import Comparison
from descend.comparison.reporting.exports import exportable, exported
from descend.comparison.reporting.files import REPORT, SUITE_TABLE, folder_in, save, writable
from descend.comparison.reporting.frames import frame, rows_of
from descend.comparison.reporting.tables import print_rows
from descend.comparison.reporting.wording import evaluations, level, number
from descend.errors import ComparisonError, OptionError
from descend.jsonable import jsonable
from descend.printable import preformatted, say
from descend.problems import Problem
from descend.problems.registry import named

__all__ = ["Suite", "compare_all"]

SCHEMA = 1


@dataclasses.dataclass(frozen=True, repr=False)
class Suite:
    """Finished comparisons of the same entries on several problems. Printed, it is its table; a notebook shows it.

    `comparisons` are in the order in which the problems were given; `failures` has the problems that could not be
    compared, each with the reason.
    """

    comparisons: tuple[Comparison, ...]
    failures: tuple[tuple[str, str], ...] = ()

    @property
    def with_target(self) -> list[Comparison]:
        """The comparisons that have a target."""
        return [c for c in self.comparisons if c.target is not None]

    @property
    def profiles(self) -> list[Profile]:
        """Performance profiles of the entries that took part in all, best first, over the problems with a target."""
        return profiles([_costs(c) for c in self.with_target])

    @property
    def enough(self) -> bool:
        """Whether there are enough problems with a target for profiles to say which entry is fastest overall."""
        return len(self.with_target) >= ENOUGH

    @property
    def answer(self) -> str:
        """The outcome in a sentence or two."""
        found = self.profiles
        raced = len(self.with_target)
        if not raced:
            return (
                f"Techniques were compared on {counted(len(self.comparisons), 'problem')} without a target: who came "
                "out best on each is in the table."
            )
        if not self.enough:
            firsts = [f"{_first(c)} on {c.plan.problem}" for c in self.with_target]
            return (
                f"First to the target: {'; '.join(firsts)}. {counted(raced, 'problem')} "
                f"{'is' if raced == 1 else 'are'} too few to say who is fastest overall: {ENOUGH} are enough."
            )
        where = f"on {counted(raced, 'problem')}"
        if not found:
            return f"No technique took part in the comparisons {where}, so that none is the fastest overall."
        best = found[0]
        if not best.solved:
            return f"No technique reached the target in half of its runs {where}, so that none is the fastest overall."
        near = round(best.within(2.0) * raced)
        return (
            f"Of {counted(len(found), 'technique')} compared {where}, {best.label} was fastest overall: its median run "
            f"reached the target on {_of(round(best.solved * raced), raced)}, at no more than twice the cost of the "
            f"fastest one on {_of(near, raced)}."
        )

    @property
    def notes(self) -> list[str]:
        """What a reader should know before believing the table."""
        found = [f"{name} could not be compared: {reason}" for name, reason in self.failures]
        for comparison in self.comparisons:
            unjudged = [row.label for row in comparison.rows if row.verdict == NO_VERDICT]
            if unjudged:
                found.append(
                    f"There is no verdict on {listed(unjudged)} on {comparison.plan.problem}, whose learning rates do "
                    "not reach far enough there; a profile counts what was reached all the same."
                )
        raced = self.with_target
        if not raced:
            return found
        labels = {row.label for c in raced for row in c.rows}
        apart = sorted(labels - {p.label for p in self.profiles})
        if apart and self.enough:
            has = "has" if len(apart) == 1 else "have"
            found.append(f"{listed(apart)} did not take part in every problem, and {has} no profile.")
        unsolved = [c.plan.problem for c in raced if not c.ranked_by_target]
        if unsolved:
            found.append(f"Nobody reached the target in half of the runs on {listed(unsolved)}: it counts against all.")
        return found

    def to_dict(self) -> dict[str, Any]:
        """Everything but the runs as JSON holds it; a miss is null."""
        return {
            "schema": SCHEMA,
            "answer": self.answer,
            "notes": self.notes,
            "failures": [list(failure) for failure in self.failures],
            "profiles": [jsonable(p) | {"solved": p.solved} for p in self.profiles],
            "comparisons": [c.to_dict(runs=False) for c in self.comparisons],
        }

    def frame(self, what: str = "runs") -> Any:
        """The frames of all comparisons, one below the other, with the problem as first column; as in `Comparison`."""
        return frame(self._rows(what))

    def _rows(self, what: str) -> list[dict[str, Any]]:
        return [{"problem": c.plan.problem, **row} for c in self.comparisons for row in rows_of(c, what)]

    def export(self, path: str | Path, what: str = "runs") -> Path:
        """Write what `frame` has to a file whose name ends in ``.csv``, ``.json`` or ``.parquet``; returns its path.

        In a CSV file, a text that a spreadsheet would take for a formula begins with an apostrophe.
        """
        return exported(self._rows(what), exportable(path))

    def save_report(self, path: str | Path) -> Path:
        """Write a report as one HTML file that needs nothing else; returns its path."""
        from descend.comparison.reporting.html import write_suite

        return write_suite(self, Path(path))

    def save(self, folder: Path) -> None:
        """Write report and JSON beside the comparisons' folders; raises `ComparisonError` if that fails."""
        from descend.comparison.reporting.html import write_suite

        links = [f"{_folder(c.plan.problem)}/{REPORT}" for c in self.comparisons]
        kept = "the comparisons are kept in its folders"
        save(folder, SUITE_TABLE, self.to_dict(), lambda path: write_suite(self, path, links), kept)

    def __str__(self) -> str:
        from rich.console import Console

        out = io.StringIO()
        self.show(Console(file=out, width=80, color_system=None))
        return out.getvalue().rstrip()

    def __repr__(self) -> str:
        return f"<Suite of {counted(len(self.comparisons), 'comparison')}: {self.answer}>"

    def _repr_html_(self) -> str:
        return preformatted(str(self))

    def show(self, console: Any) -> None:
        """Print the answer, each problem's outcome and the profiles on a rich console."""
        say(console, f"{self.answer}\n")
        head = ["problem", "evaluations", "first to the target", "best in the end"]
        print_rows(console, head, [_in_a_row(c) for c in self.comparisons], numbers=[1])
        if self.profiles and self.enough:
            say(console, "")
            head = ["technique", "first", "within 2×", "within 5×", "target reached", "median ratio"]
            print_rows(console, head, [_profile_in_a_row(p) for p in self.profiles], numbers=range(1, 6))
        for note in self.notes:
            say(console, f"\nNote: {note}")


def _costs(comparison: Comparison) -> dict[str, float]:
    """The median cost of each entry to the target, as a multiple of what lies between two evaluations, at least one.

    Nothing is known more exactly than from one evaluation to the next.
    """
    between = float(comparison.plan.evaluate_every)
    medians = {row.label: math.inf if row.to_target is None else row.to_target.median for row in comparison.rows}
    return {
        label: max(took // between, 1.0) * between if math.isfinite(took) else took for label, took in medians.items()
    }


def _first(comparison: Comparison) -> str:
    """The entries that reached the target first, with those that show no clear difference to them."""
    if not comparison.ranked_by_target:
        return "nobody"
    return level(comparison.rows, lambda row: row.to_target.verdict if row.to_target is not None else "")


def _of(some: int, all_: int) -> str:
    """A number of all, in words."""
    return f"all {all_}" if some == all_ > 1 else f"{some} of {all_}"


def _folder(name: str) -> str:
    """The name of a problem's folder."""
    return re.sub(r"[^\w.-]+", "-", name).strip(".-") or "problem"


def _in_a_row(comparison: Comparison) -> list[str]:
    """What came out on one problem, as a table shows it."""
    first = comparison.rows[0].to_target
    return [
        comparison.plan.problem,
        "–" if first is None else evaluations(first.median),
        "–" if first is None else _first(comparison),
        level(comparison.by_test, lambda r: r.test.verdict),
    ]


def _profile_in_a_row(profile: Profile) -> list[str]:
    """A performance profile, as a table shows it."""
    n = len(profile.ratios)
    shares = [f"{round(share * n)}/{n}" for share in (*map(profile.within, (1.0, 2.0, 5.0)), profile.solved)]
    return [profile.label, *shares, number(sorted(profile.ratios)[n // 2], 2)]


def compare_all(
    problems: Sequence[Problem | str | Path],
    rules: Iterable[Any] | None = None,
    *,
    out: str | Path | None = None,
    announce: Callable[[str], Any] | None = None,
    **options: Any,
) -> Suite:
    """Compare optimizers on several problems, with the same options, and see them side by side.

    A problem on which every run fails is told, and does not end the others.

    Parameters
    ----------
    problems
        What `compare` takes, several of them. From five on, performance profiles say something.
    rules, options
        As in `compare`.
    out
        A folder for ``report.html`` and ``comparisons.json``, and for a folder of each comparison's own. What was
        stopped goes on from there. Default: nothing is written.
    announce
        Called with each problem's name before its plan, and as in `compare`.

    Returns
    -------
    Suite
        The comparisons, and performance profiles of the entries that took part in all (Dolan and Moré 2002).

    Raises
    ------
    OptionError, ProblemError, RuleError, ComparisonError
        As in `compare`; no problem, or two of the same name; no comparison could be made at all.

    Examples
    --------
    >>> import descend
    >>> suite = descend.compare_all(["booth", "beale"], ["gd", "adam"], learning_rates=[0.01, 0.1], budget=100,
    ...                             tuning_seeds=1, final_seeds=6, jobs=1)
    >>> [comparison.plan.problem for comparison in suite.comparisons]
    ['booth', 'beale']
    """
    settings = CompareOptions.of({**options, "out": out, "announce": announce})
    experiments = _experiments(problems, rules, settings)
    folder = None if settings.out is None else writable(Path(settings.out))
    for experiment in experiments:
        experiment.try_out()
    finished, failures = [], []
    for i, experiment in enumerate(experiments, 1):
        name = experiment.plan.problem
        place = None if folder is None else folder_in(folder, _folder(name))
        tell = None if announce is None else _announcing(f"{name} ({i} of {len(experiments)})", announce)
        try:
            finished.append(experiment.run(place, tell))
        except ComparisonError as error:
            failures.append((name, str(error)))
            if len(failures) == len(experiments):
                raise
    suite = Suite(tuple(finished), tuple(failures))
    if folder is not None:
        suite.save(folder)
    return suite


def _experiments(
    problems: Sequence[Problem | str | Path], rules: Iterable[Any] | None, options: CompareOptions
) -> list[Experiment]:
    """An experiment for each problem; raises `OptionError` for problems that would be mixed up."""
    if isinstance(problems, (str, Path, Problem)) or not problems:
        raise OptionError(f"problems={problems!r}: a list of problems is needed, such as ['digits', 'diabetes']")
    loaded = [(problem, named(problem).name) for problem in problems]
    names = [name for _, name in loaded]
    folders = [_folder(name) for name in names]
    for name, place in zip(names, folders, strict=True):
        if names.count(name) > 1:
            raise OptionError(f"two problems are called {name!r}; leave one out, or give it another name")
        if folders.count(place) > 1:
            raise OptionError(f"two problems would be written to {place!r}, one of them {name!r}; give it another name")
    several = isinstance(rules, Iterable) and not isinstance(rules, (str, type))
    entries = [*rules] if several and rules is not None else rules
    return [Experiment(problem, entries, options) for problem in problems]


def _announcing(title: str, announce: Callable[[str], Any]) -> Callable[[str], Any]:
    """`announce`, with a title before the first text: nothing is said of a problem that is refused."""
    titles = [title]

    def tell(text: str) -> Any:
        while titles:
            announce(titles.pop())
        return announce(text)

    return tell
