"""The plan of a comparison: everything that decides its outcome, fixed before the first run."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import math
import numbers
import platform
import uuid
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from descend.batches import Batches, BatchSize
from descend.errors import OptionError, ProblemError, RuleError
from descend.problems import Problem
from descend.rules import GD, Adagrad, Adam, Momentum, RMSprop, Rule, resolve
from descend.stopping import count

__all__ = ["DEFAULT_ENTRIES", "EFFORTS", "Entry", "Plan", "Task", "counted", "entries_for", "make_plan", "versions"]

LEARNING_RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0, 10.0)
"""The learning rates tried for every rule: two a decade, wide enough for all of them."""


@dataclasses.dataclass(frozen=True)
class Effort:
    """How much a comparison does where it is not told otherwise."""

    learning_rates: tuple[float, ...]
    tuning_seeds: int
    final_seeds: int


EFFORTS = {
    "quick": Effort(LEARNING_RATES[::2], 1, 10),
    "default": Effort(LEARNING_RATES, 3, 10),
    "thorough": Effort(tuple(float(f"{10 ** (i / 4 - 4):.2g}") for i in range(21)), 5, 20),
}
"""Quick has one learning rate a decade, thorough has four."""
BATCH_SIZE = 32
EPOCHS = 20
STEPS = 500
"""Gradient evaluations on a problem without data."""
LOOKS = 50
"""How often a run on a problem without data is looked at; on data it is once an epoch."""
FIRST_FINAL_SEED = 1000
"""Final runs start from seeds that no tuning run has seen."""


SHOWING = ("cli.py", "plots/", "progress.py", "comparison/outcome.py", "comparison/report.py")
"""Files that show figures and cannot change them: finished runs outlive a change of these."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """One contender: a rule with a batch size, under a label. Its learning rate is what is tuned.

    The rule may be given as its class or its name, too.

    >>> import descend
    >>> descend.Entry("Adam, long memory", descend.Adam(betas=(0.99, 0.999)), batch_size=16).rule.betas
    (0.99, 0.999)
    """

    label: str
    rule: Rule
    batch_size: BatchSize = BATCH_SIZE

    def __post_init__(self) -> None:
        if not isinstance(self.label, str) or not self.label.strip():
            raise OptionError(f"Entry(label={self.label!r}): a name is needed, such as 'Adam, small batches'")
        object.__setattr__(self, "rule", resolve(self.rule))
        if isinstance(self.batch_size, numbers.Integral):
            object.__setattr__(self, "batch_size", int(self.batch_size))


DEFAULT_ENTRIES = (
    Entry("Batch GD", GD(), "full"),
    Entry("SGD", GD(), 1),
    Entry("Mini-batch", GD()),
    Entry("Momentum", Momentum()),
    Entry("Adagrad", Adagrad()),
    Entry("RMSprop", RMSprop()),
    Entry("Adam", Adam()),
)
"""The seven techniques that every introduction to gradient descent teaches."""


@dataclasses.dataclass(frozen=True)
class Task:
    """One run to make: a descent of one entry, with one learning rate, from one seed."""

    entry: int
    learning_rate: float
    seed: int
    phase: str
    """``tuning``, ``final``, or ``untuned``: with the entry's own learning rate, on the seeds of the final runs."""

    @property
    def key(self) -> str:
        """What the store knows this run by, within its plan."""
        return f"{self.phase}/{self.entry}/{self.learning_rate!r}/{self.seed}"


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is compared, on what, at what cost. `budget` and `evaluate_every` count examples seen."""

    problem: str
    metric: str
    higher_is_better: bool
    entries: tuple[Entry, ...]
    learning_rates: tuple[float, ...]
    budget: int
    evaluate_every: int
    tuning_seeds: tuple[int, ...]
    final_seeds: tuple[int, ...]
    untuned: bool
    fingerprint: str
    """What the problem's and the rules' code hash to, with the versions of what runs them."""

    def tuning(self) -> Iterator[Task]:
        """Every tuning run: the same learning rates and seeds for each entry."""
        for i in range(len(self.entries)):
            for rate in self.learning_rates:
                for seed in self.tuning_seeds:
                    yield Task(i, rate, seed, "tuning")

    def finals(self, chosen: Sequence[float | None]) -> Iterator[Task]:
        """The runs of each entry's chosen learning rate on fresh seeds; none for an entry without one."""
        for i, rate in enumerate(chosen):
            if rate is not None:
                for seed in self.final_seeds:
                    yield Task(i, rate, seed, "final")

    def defaults(self, chosen: Sequence[float | None]) -> Iterator[Task]:
        """The runs of each entry's own learning rate, which nobody tuned, on the same fresh seeds.

        There is none for an entry whose own learning rate was chosen: its final runs are these runs.
        """
        for i, rate in enumerate(chosen):
            own = self.entries[i].rule.lr
            if self.untuned and own != rate:
                for seed in self.final_seeds:
                    yield Task(i, own, seed, "untuned")

    @property
    def runs(self) -> int:
        """How many runs there are in all, at most."""
        each = len(self.learning_rates) * len(self.tuning_seeds) + len(self.final_seeds) * (1 + self.untuned)
        return len(self.entries) * each

    def settings(self) -> dict[str, Any]:
        """The plan as JSON holds it."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        values["entries"] = [
            {"label": e.label, "rule": _without_lr(e.rule), "learning_rate": e.rule.lr, "batch_size": e.batch_size}
            for e in self.entries
        ]
        return values

    @property
    def hash(self) -> str:
        """Sixteen hexadecimal digits that change when anything in the plan does."""
        return hashlib.sha256(json.dumps(self.settings(), sort_keys=True).encode()).hexdigest()[:16]

    def steps(self, entry: Entry, problem: Problem) -> int:
        """How many steps the budget pays for."""
        return self.budget if problem.size is None else Batches(problem.size, entry.batch_size, 0).steps(self.budget)

    def describe(self) -> str:
        """The plan in one sentence."""
        return (
            f"{counted(len(self.entries), 'technique')} × {counted(len(self.learning_rates), 'learning rate')} × "
            f"{counted(len(self.tuning_seeds), 'seed')}, then each at its best{', and untuned,' * self.untuned} on "
            f"{counted(len(self.final_seeds), 'fresh seed')}: "
            f"{self.runs} runs{' at most' * self.untuned} of {self.budget:,} gradient evaluations"
        )


def counted(number: int, noun: str) -> str:
    """A number and its noun, in the singular for one."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def make_plan(
    problem: Problem,
    rules: Iterable[Any] | None,
    learning_rates: Sequence[float] | None,
    batch_size: BatchSize | None,
    budget: int | None,
    tuning_seeds: int | None,
    final_seeds: int | None,
    effort: str,
    untuned: bool,
    source: Path | str | None,
) -> Plan:
    """Check what was asked for and settle the plan; raises `OptionError` or `ProblemError`."""
    if problem.train is not None and (problem.validation is None or problem.test is None):
        missing = "validation" if problem.validation is None else "test"
        raise ProblemError(
            f"{problem.name} has no {missing} data: learning rates are chosen on validation data and judged on test "
            f"data; give data= to be split, or {missing}="
        )
    entries = entries_for(problem, rules, batch_size)
    if budget is None:
        budget = STEPS if problem.size is None else EPOCHS * problem.size
    count("budget", budget)
    every = max(1, budget // LOOKS)
    if problem.size is not None:
        every = problem.size
        for entry in entries:
            if Batches(problem.size, entry.batch_size, 0).steps(budget) == 0:
                raise OptionError(
                    f"budget={budget} does not pay for one step of {entry.label}, which sees "
                    f"{problem.size if entry.batch_size == 'full' else entry.batch_size} examples; raise it"
                )
    if effort not in EFFORTS:
        raise OptionError(f"effort={effort!r}: one of {', '.join(map(repr, EFFORTS))} is needed")
    usual = EFFORTS[effort]
    tuning_seeds = usual.tuning_seeds if tuning_seeds is None else tuning_seeds
    final_seeds = usual.final_seeds if final_seeds is None else final_seeds
    for name, value in (("tuning_seeds", tuning_seeds), ("final_seeds", final_seeds)):
        count(name, value)
    if not isinstance(untuned, bool):
        raise OptionError(f"untuned={untuned!r}: True or False is needed")
    rates = usual.learning_rates if learning_rates is None else _rates(learning_rates)
    for entry in entries:
        for rate in rates:  # a rule may allow less than all of them: say so before the first run
            try:
                dataclasses.replace(entry.rule, lr=rate)
            except RuleError as error:
                raise OptionError(f"{entry.label} cannot take every learning rate: {error}") from None
    if tuning_seeds > FIRST_FINAL_SEED:
        raise OptionError(f"tuning_seeds={tuning_seeds}: at most {FIRST_FINAL_SEED}, so that final seeds stay fresh")
    return Plan(
        problem=problem.name,
        metric=problem.metric_name,
        higher_is_better=problem.higher_is_better,
        entries=entries,
        learning_rates=rates,
        budget=int(budget),
        evaluate_every=every,
        tuning_seeds=tuple(range(tuning_seeds)),
        final_seeds=tuple(range(FIRST_FINAL_SEED, FIRST_FINAL_SEED + final_seeds)),
        untuned=untuned,
        fingerprint=_fingerprint(source, entries),
    )


def entries_for(problem: Problem, rules: Iterable[Any] | None, batch_size: BatchSize | None) -> tuple[Entry, ...]:
    """The entries for what the user named: rules, classes, names or entries; the seven techniques by default."""
    if rules is None:
        entries = [e if e.batch_size != BATCH_SIZE else _rebatched(e, problem, batch_size) for e in DEFAULT_ENTRIES]
        if problem.size is None:
            # Without examples to sample, the first three are one and the same.
            entries = [Entry("GD", GD(), "full"), *(dataclasses.replace(e, batch_size="full") for e in entries[3:])]
        return tuple(entries)
    if isinstance(rules, (str, Rule, type, Entry)):
        rules = [rules]
    if not isinstance(rules, Iterable):
        raise OptionError(f"rules={rules!r}: give rules, their classes or names, such as ['adam', descend.Momentum()]")
    entries = []
    for item in rules:
        rule = item.rule if isinstance(item, Entry) else resolve(item)
        entry = item if isinstance(item, Entry) else _rebatched(Entry(_label(rule), rule), problem, batch_size)
        if callable(rule.lr):
            raise OptionError(f"{entry.label}: lr={rule.lr!r} is a schedule, but lr is what is tuned; give a number")
        entries.append(dataclasses.replace(entry, batch_size="full") if problem.size is None else entry)
    if not entries:
        raise OptionError("rules=[] names nothing to compare; leave it out for the seven usual techniques")
    labels = [e.label for e in entries]
    for label in labels:
        if labels.count(label) > 1:
            raise OptionError(f"two entries are called {label!r}; name them: Entry('another name', rule)")
    return tuple(entries)


def _rebatched(entry: Entry, problem: Problem, batch_size: BatchSize | None) -> Entry:
    if problem.size is None:
        return dataclasses.replace(entry, batch_size="full")
    return dataclasses.replace(entry, batch_size=min(BATCH_SIZE, problem.size) if batch_size is None else batch_size)


def _label(rule: Rule) -> str:
    """The class name, and every hyperparameter that is not at its default."""
    changed = [
        f"{f.name}={getattr(rule, f.name)!r}"
        for f in dataclasses.fields(rule)
        if f.name != "lr" and getattr(rule, f.name) != f.default
    ]
    return type(rule).__name__ + (f"({', '.join(changed)})" if changed else "")


def _without_lr(rule: Rule) -> str:
    parts = [f"{f.name}={_spelled(getattr(rule, f.name))}" for f in dataclasses.fields(rule) if f.name != "lr"]
    return f"{type(rule).__name__}({', '.join(parts)})"


def _spelled(value: Any) -> str:
    """A hyperparameter; a function among them by its name and source, as its address changes from run to run."""
    if isinstance(value, tuple):
        return f"({', '.join(map(_spelled, value))})"
    if not inspect.isfunction(value):
        return repr(value)
    try:
        source = hashlib.sha256(inspect.getsource(value).encode()).hexdigest()[:8]
    except (OSError, TypeError):
        source = uuid.uuid4().hex[:8]
    return f"<{value.__qualname__} {source}>"


def _rates(rates: Sequence[float]) -> tuple[float, ...]:
    if isinstance(rates, numbers.Real):
        rates = [float(rates)]
    if isinstance(rates, str) or not isinstance(rates, Iterable):
        raise OptionError(f"learning_rates={rates!r}: numbers are needed, such as [0.001, 0.01, 0.1]")
    rates = list(rates)
    if len(rates) == 0:
        raise OptionError("learning_rates is empty; give at least one, or leave it out")
    for rate in rates:
        if isinstance(rate, bool) or not isinstance(rate, numbers.Real) or not (math.isfinite(rate) and rate > 0):
            raise OptionError(f"learning_rates: {rate!r} is not a number > 0; try 0.001,0.01,0.1")
    return tuple(sorted({float(r) for r in rates}))


def _fingerprint(source: Path | str | None, entries: Iterable[Entry]) -> str:
    """Hash the code that decides the outcome; what cannot be read never matches again."""
    root = Path(__file__).parents[1]
    package = sorted(f for f in root.rglob("*.py") if not f.relative_to(root).as_posix().startswith(SHOWING))
    files = [*package, source] if isinstance(source, Path) else package
    made = (kind for e in entries for kind in type(e.rule).__mro__)
    rules = {kind for kind in made if kind.__module__.partition(".")[0] not in ("descend", "builtins")}
    parts = [
        str(sorted(versions().items())),
        uuid.uuid4().hex if source is None else str(source),
        *(hashlib.sha256(file.read_bytes()).hexdigest() for file in files),
        *sorted(_source(rule) for rule in rules),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _source(made: type) -> str:
    """The file that defines a class, or else its own source."""
    try:
        return Path(inspect.getfile(made)).read_text(encoding="utf-8")
    except (OSError, TypeError, ValueError):
        try:
            return inspect.getsource(made)
        except (OSError, TypeError):
            return uuid.uuid4().hex


def versions() -> dict[str, str]:
    """The versions of what a comparison's figures depend on."""
    found = {"python": platform.python_version()}
    for package in ("descend", "numpy", "scipy", "scikit-learn", "torch", "jax"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
