"""Bundles: runs of a comparison that are made together, as one stacked program."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from descend.comparison.planning.plan import Plan
from descend.comparison.planning.task import Task
from descend.problems import Problem
from descend.training.fit_many import stackable

__all__ = ["Bundle", "Bundler"]

MOST = 16
"""Runs in a bundle: enough for a step to cost little more than one run's, few enough for a stop to lose little."""


@dataclasses.dataclass(frozen=True)
class Bundle:
    """Tasks that are made together: as one program, or a single one by itself."""

    tasks: tuple[Task, ...]
    stacked: bool

    def each(self) -> list[Bundle]:
        """A bundle for each task, made in the same way."""
        return [Bundle((task,), self.stacked) for task in self.tasks]


class Bundler:
    """Puts tasks into bundles: runs of one kind of rule, with one batch size and budget, if they can be stacked.

    Which runs are in a bundle follows from the list of tasks alone, and not from which of them are finished already or
    how many processes there are: a stacked PyTorch run may differ in its last digit with what is beside it, and what
    goes on after a stop has to end as if there had been none.
    """

    def __init__(self, problem: Problem, plan: Plan) -> None:
        self.problem, self.plan = problem, plan
        self.reasons: dict[str, str] = {}
        """Why an entry's runs are made one at a time, by its label."""
        self._known: dict[Any, str | None] = {}

    def bundles(self, tasks: Iterable[Task], *, alone: bool = False) -> list[Bundle]:
        """The bundles of some tasks; each task for itself if it cannot be stacked, or has to be `alone`."""
        groups: dict[Any, list[Task]] = {}
        for task in tasks:
            kind = None if alone else self._kind(task)
            groups.setdefault(task if kind is None else kind, []).append(task)
        return [Bundle(part, kind not in group) for kind, group in groups.items() for part in _parts(group)]

    def _kind(self, task: Task) -> Any:
        """What tasks of one bundle have in common; None if it cannot be stacked."""
        entry = self.plan.entry(task)
        rule = entry.rule
        kind = (type(rule), repr(rule.flags), rule.kept_state(), entry.batch_size)
        if kind not in self._known:
            self._known[kind] = stackable(self.problem, [rule, rule], self.plan.fitting(entry)["batch_size"])
        why = self._known[kind]
        if why is None:
            return kind, task.phase, task.study
        self.reasons.setdefault(entry.label, why)
        return None


def _parts(group: Sequence[Task]) -> list[tuple[Task, ...]]:
    """Parts of about the same size; runs from one seed are in one part where possible, as they share their batches."""
    ordered = sorted(group, key=lambda task: task.seed)
    n = -(-len(ordered) // MOST)
    return [tuple(ordered[len(ordered) * i // n : len(ordered) * (i + 1) // n]) for i in range(n)]
