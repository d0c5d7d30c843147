"""The plan of a comparison: everything that decides its outcome, fixed before the first run."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from descend.code_hash import of_rule, spelled_rule
from descend.comparison.phrases import counted
from descend.comparison.planning.entries import Entry
from descend.comparison.planning.spaces import LEARNING_RATES, points
from descend.comparison.planning.stretches import ROUNDS, Stretch, further_trials
from descend.comparison.planning.task import Chosen, Task
from descend.training.batches import Batches

__all__ = ["FROM_REFERENCE", "NO_TARGET", "Plan"]

REFERENCE_SEEDS = 500
"""Where the seeds of reference runs begin, between those of tuning runs and those of final runs."""
REFERENCE_TRIALS, REFERENCE_RUNS, REFERENCE_BUDGET = 8, 5, 2
"""The reference pool: trials of each of its rules, runs of the best one, and how many budgets each of them has."""
TIMED_SEEDS = 3
FROM_REFERENCE, NO_TARGET = "reference", "none"


@dataclasses.dataclass(frozen=True, repr=False)
class Plan:
    """What is compared, on which problem, at what cost. `budget` and `evaluate_every` count examples seen.

    `target` is a value of the validation metric, ``"reference"`` (what a pool of reference runs finds) or ``"none"``.
    The seeds are those of all studies, one study's after the other's. `stretches` are what the tuning runs add to it:
    for each time that learning rates were searched for beyond the usual range, whose and where.
    """

    problem: str
    metric: str
    higher_is_better: bool
    examples: int | None
    entries: tuple[Entry, ...]
    reference: tuple[Entry, ...]
    target: float | str
    learning_rates: tuple[float, ...] | None
    trials: int
    studies: int
    budget: int
    evaluate_every: int
    tuning_seeds: tuple[int, ...]
    final_seeds: tuple[int, ...]
    untuned: bool
    timed: bool
    fingerprint: str
    """A hash of the problem's code, of the package's, and of the versions of what runs them."""
    least_batch: int = 1
    """The smallest batch that the problem takes, if one of an entry's would have a single example; else 1."""
    stretches: tuple[tuple[Stretch, ...], ...] = ()

    @property
    def all_entries(self) -> tuple[Entry, ...]:
        """The entries, and then the reference pool's rules: a task's or a run's `entry` is an index of these."""
        return *self.entries, *self.reference

    def entry(self, task: Task) -> Entry:
        """The entry of a task, with the hyperparameters of the task."""
        return self.all_entries[task.entry].at(dict(task.hyperparameters))

    def cost(self, metric: float | None) -> float:
        """A value of the metric as something to be minimised; a miss, which has none, is infinite."""
        if metric is None:
            return math.inf
        return -metric if self.higher_is_better else metric

    def metric_of(self, cost: float) -> float:
        """The value of the metric that has this cost."""
        return 0.0 - cost if self.higher_is_better else cost

    def budget_of(self, task: Task) -> int:
        """The gradient evaluations that a run may spend."""
        return self.budget * (REFERENCE_BUDGET if task.phase == "reference" else 1)

    def points(self, entry: Entry, study: int) -> list[dict[str, Any]]:
        """The trials of an entry in a study: as many for every entry, though one that comes twice is made once.

        Whoever has no stretch of its own in a round gets the next points of its range instead.
        """
        own = [s for added in self.stretches for s in added if (s.entry, s.study) == (entry.label, study)]
        found = self._points_of_range(entry, study, len(self.stretches) - len(own))
        for stretch in own:
            found += self._points_of_stretch(entry, stretch)
        return [point for i, point in enumerate(found) if point not in found[:i]]

    def _points_of_range(self, entry: Entry, study: int, rounds: int) -> list[dict[str, Any]]:
        """The points of an entry's own space, with the further ones of so many rounds."""
        space = dict(entry.space or {})
        if self.learning_rates is None or space.get("lr") != LEARNING_RATES:
            return points(space, self.trials + rounds * further_trials(self.trials), study)
        del space["lr"]
        found = points(space, self.trials, study)
        return [{"lr": rate, **point} for rate, point in zip(self.learning_rates, found, strict=True)]

    def _points_of_stretch(self, entry: Entry, stretch: Stretch) -> list[dict[str, Any]]:
        return points({**(entry.space or {}), "lr": stretch.lr}, further_trials(self.trials), stretch.study)

    @property
    def all_trials(self) -> int:
        """The trials of each entry in a study, with those that the stretches added."""
        return self.trials + len(self.stretches) * further_trials(self.trials)

    def extendable(self, entry: Entry) -> bool:
        """Whether an entry may get a stretch: its learning rates have the usual range, which nobody has set."""
        return self.learning_rates is None and (entry.space or {}).get("lr") == LEARNING_RATES

    def seeds_of(self, seeds: Sequence[int], study: int) -> Sequence[int]:
        """A study's share of the seeds."""
        each = len(seeds) // self.studies
        return seeds[study * each : (study + 1) * each]

    def pool(self) -> Iterator[Task]:
        """The reference pool's trials; none if the target is known, or not wanted."""
        if self.target == FROM_REFERENCE:
            for i, entry in enumerate(self.reference, len(self.entries)):
                for point in points(entry.space or {}, REFERENCE_TRIALS, 0):
                    yield Task(i, _pairs(point), REFERENCE_SEEDS, "reference")

    def pool_finals(self, best: Task) -> Iterator[Task]:
        """The reference pool's best trial, from seeds of its own."""
        for seed in range(REFERENCE_SEEDS + 1, REFERENCE_SEEDS + 1 + REFERENCE_RUNS):
            yield dataclasses.replace(best, seed=seed)

    def tuning(self) -> Iterator[Task]:
        """Every tuning run: as many trials, from the same seeds, for each entry."""
        for study in range(self.studies):
            for i, entry in enumerate(self.entries):
                for point in self.points(entry, study):
                    for seed in self.seeds_of(self.tuning_seeds, study):
                        yield Task(i, _pairs(point), seed, "tuning", study)

    def finals(self, chosen: Sequence[Sequence[Chosen]]) -> Iterator[Task]:
        """The runs of what each study chose for each entry, on fresh seeds; none for an entry without any."""
        for i, by_study in enumerate(chosen):
            for study, point in enumerate(by_study):
                if point is not None:
                    yield from self._finals_of(i, study, point)

    def _finals_of(self, entry: int, study: int, point: Mapping[str, Any]) -> Iterator[Task]:
        for seed in self.seeds_of(self.final_seeds, study):
            yield Task(entry, _pairs(point), seed, "final", study)

    def defaults(self) -> Iterator[Task]:
        """The runs of each entry with its own hyperparameters, untuned, on the same fresh seeds."""
        for i in range(len(self.entries) if self.untuned else 0):
            for study in range(self.studies):
                for seed in self.seeds_of(self.final_seeds, study):
                    yield Task(i, (("lr", self.entries[i].rule.lr),), seed, "untuned", study)

    def timings(self, chosen: Sequence[Sequence[Chosen]]) -> Iterator[Task]:
        """A few final runs of each entry again, in turns, to be made one at a time."""
        finals = [task for task in self.finals(chosen) if task.study == 0] if self.timed else []
        for seed in self.final_seeds[:TIMED_SEEDS]:
            for task in finals:
                if task.seed == seed:
                    yield dataclasses.replace(task, phase="timing")

    def possible(self) -> Iterator[Task]:
        """Every task that the plan may lead to, whatever the outcome of its runs."""
        for trial in self.pool():
            yield trial
            yield from self.pool_finals(trial)
        yield from self.defaults()
        for i, entry in enumerate(self.entries):
            for study in range(self.studies):
                for point in self._possible_points(entry, study):
                    for seed in self.seeds_of(self.tuning_seeds, study):
                        yield Task(i, _pairs(point), seed, "tuning", study)
                    for task in self._finals_of(i, study, point):
                        yield task
                        yield dataclasses.replace(task, phase="timing")

    def _possible_points(self, entry: Entry, study: int) -> list[dict[str, Any]]:
        """Every point that an entry may be tried at, whoever gets which stretch."""
        extended = any(map(self.extendable, self.entries))
        found = self._points_of_range(entry, study, ROUNDS if extended else 0)
        for number in range(1, ROUNDS + 1) if self.extendable(entry) else ():
            for up in (False, True):
                found += self._points_of_stretch(entry, Stretch(entry.label, study, up, number))
        return found

    @property
    def runs(self) -> int:
        """How many runs there are in all, at most."""
        tuning = sum(1 for _ in self.tuning())
        final = len(self.entries) * len(self.final_seeds) * (1 + self.untuned)
        pool = len(self.reference) * REFERENCE_TRIALS + REFERENCE_RUNS if self.target == FROM_REFERENCE else 0
        timed = len(self.entries) * min(TIMED_SEEDS, len(self.final_seeds)) if self.timed else 0
        return tuning + final + pool + timed

    def settings(self) -> dict[str, Any]:
        """The plan as JSON holds it."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        values |= {name: [e.settings() for e in values[name]] for name in ("entries", "reference")}
        return values | {"stretches": [[s.settings() for s in added] for added in self.stretches]}

    @property
    def hash(self) -> str:
        """Sixteen hexadecimal digits that change when anything in the plan does, but for what its own runs add."""
        return _hashed(self.settings() | {"stretches": []})

    def key(self, task: Task) -> str:
        """The key of a run in the store: a hash of everything that decides its outcome, and of nothing else.

        Another plan that has the same run among its own finds it there.
        """
        entry = self.entry(task)
        return _hashed(
            [
                [self.fingerprint, of_rule(entry.rule), spelled_rule(entry.rule), entry.batch_size],
                [self.budget_of(task), self.evaluate_every, task.seed, task.reads_test, task.phase == "timing"],
            ]
        )

    def steps(self, entry: Entry, examples: int) -> int:
        """The steps of an entry that a number of gradient evaluations pays for."""
        return examples if self.examples is None else self._batches(entry, self.examples).steps(examples)

    def next_step(self, entry: Entry, examples: float | None) -> float:
        """The gradient evaluations of an entry one step after it has spent `examples`; 0 for None, before the start."""
        if examples is None or self.examples is None:
            return 0.0 if examples is None else examples + 1
        batches = self._batches(entry, self.examples)
        return batches.examples(batches.steps(int(examples)) + 1)

    def _batches(self, entry: Entry, size: int) -> Batches:
        assert entry.batch_size is not None  # an entry of a plan has one
        return Batches(size, entry.batch_size, 0, self.least_batch)

    def fitting(self, entry: Entry) -> dict[str, Any]:
        """The options of `descend.fit` for an entry, beside its rule, seed and budget."""
        return {
            "batch_size": None if self.examples is None else entry.batch_size,
            "evaluate_every_examples": self.evaluate_every,
            "keep_best": True,
        }

    def __repr__(self) -> str:
        return f"<Plan of a comparison on {self.problem}: {self.describe()}>"

    def describe(self) -> str:
        """The plan in one sentence."""
        again = f" ({self.studies} times over)" * (self.studies > 1)
        pool = "a reference pool sets the target; " * (self.target == FROM_REFERENCE)
        seeds = len(self.tuning_seeds) // self.studies
        return (
            f"{pool}{counted(len(self.entries), 'technique')} × {counted(self.trials, 'trial')} × "
            f"{counted(seeds, 'seed')}{again}, then each at its best{', and untuned,' * self.untuned} on "
            f"{counted(len(self.final_seeds), 'fresh seed')}: "
            f"{self.runs} runs{' at most' * self.untuned} of {self.budget:,} gradient evaluations"
        )


def _pairs(point: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(point.items())


def _hashed(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=repr).encode()).hexdigest()[:16]
