"""Many runs stepped together, each by its own rule: by the reference engine, or in one call of machine code."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from descend.engines.native.formats import Layout
from descend.engines.native.kernels import kernel
from descend.engines.native.launch import Launch, best_kernel
from descend.engines.native.layout import GRAD, PARAM, STATE
from descend.engines.native.scalars import Scalars
from descend.engines.reference import Reference
from descend.parameters.memory import Array
from descend.rules import Rule

__all__ = ["FusedStack", "Stack", "difference"]


def difference(rules: Sequence[Rule]) -> str | None:
    """Why these rules cannot step in one stack: kind, flags or state differ; None if they can."""
    for first, rule in itertools.pairwise(rules):
        if type(rule) is not type(first):
            return f"the rules differ in kind: {type(first).__name__} and {type(rule).__name__}"
        for (name, one), (_, other) in zip(first.flags, rule.flags, strict=True):
            if one != other:
                return f"the rules differ in {name.replace('_', ' ')}: {one} and {other}"
        if rule.kept_state() != first.kept_state():
            kept = [", ".join(r.kept_state()) or "none" for r in (first, rule)]
            return f"the rules differ in the state that they keep: {kept[0]} and {kept[1]}"
    return None


class Stack:
    """Runs that step together, in place: row r of every array by ``rules[r]``.

    Parameters
    ----------
    rules
        One rule for each run, between which there is no `difference`.
    params
        Arrays of shape ``(runs, …)``, of float32 or float64, each row contiguous; they are updated by `step`.
    grads
        Arrays of the same shapes and types, in which each step finds the gradients.

    Examples
    --------
    >>> import numpy as np, descend
    >>> from descend.engines.stacked import Stack
    >>> w, g = np.array([[1.0, 2.0], [1.0, 2.0]]), np.ones((2, 2))
    >>> Stack([descend.GD(lr=0.5), descend.GD(lr=1.0)], [w], [g]).step()
    >>> w
    array([[0.5, 1.5],
           [0. , 1. ]])
    """

    def __init__(self, rules: Sequence[Rule], params: Sequence[Array], grads: Sequence[Array]) -> None:
        self.runs = [Reference(rule, [p[r : r + 1] for p in params]) for r, rule in enumerate(rules)]
        self._find(grads)

    def keep(self, rows: Sequence[int], params: Sequence[Array], grads: Sequence[Array]) -> None:
        """Go on with these runs alone, whose parameters and gradients are the rows of other arrays now."""
        self.runs = [self.runs[row] for row in rows]
        for r, run in enumerate(self.runs):
            run.params = [p[r : r + 1] for p in params]
        self._find(grads)

    def step(self) -> None:
        """One step of every run along its gradient."""
        for run, grads in zip(self.runs, self.grads, strict=True):
            run.step(grads)

    def _find(self, grads: Sequence[Array]) -> None:
        """Take note of where each run's gradients are."""
        self.grads = [[g[r : r + 1] for g in grads] for r in range(len(self.runs))]


class FusedStack(Stack):
    """A `Stack` whose runs step in one call of machine code made from the rule; raises `Unavailable` without.

    Gives the same numbers, bit for bit, but that numbers below the normal range are flushed to zero.
    """

    def __init__(self, rules: Sequence[Rule], params: Sequence[Array], grads: Sequence[Array]) -> None:
        self.steps = 0
        self.carried: list[Mapping[str, float]] = []
        super().__init__(rules, params, grads)

    def step(self) -> None:
        """One step of every run along its gradient."""
        self.steps += 1
        before = self.carried
        for rows in self._scalars:
            self.carried = [row.fill(self.steps, carried) for row, carried in zip(rows, before, strict=True)]
        for launch in self._launches:
            launch()

    def _find(self, grads: Sequence[Array]) -> None:
        super()._find(grads)
        # Runs that differ in their seed alone share a row of scalars.
        rules: list[Rule] = []
        carried: list[Mapping[str, float]] = []
        rows = []
        for run in self.runs:
            if run.rule not in rules:
                rules.append(run.rule)
                carried.append(run.carried)
            rows.append(rules.index(run.rule))
        self._rows = rows
        self._launches = []
        self._scalars = []
        for dtype in dict.fromkeys(p.dtype for p in self.runs[0].params):
            which = [i for i, p in enumerate(self.runs[0].params) if p.dtype == dtype]
            launch = self._launch(which, rows)
            self._launches.append(launch)
            numbers = launch.kernel.numbers
            self._scalars.append(
                [Scalars(rule, memoryview(launch.scalars[i]), numbers) for i, rule in enumerate(rules)]
            )
        self.carried = carried

    def keep(self, rows: Sequence[int], params: Sequence[Array], grads: Sequence[Array]) -> None:
        """Go on with these runs alone, whose parameters and gradients are the rows of other arrays now."""
        for run, row in zip(self.runs, self._rows, strict=True):
            run.carried = dict(self.carried[row])
        super().keep(rows, params, grads)

    def _launch(self, which: Sequence[int], rows: Sequence[int]) -> Launch:
        """The spans of some parameters of every run."""
        rule = self.runs[0].rule
        kept = rule.kept_state()
        spans = [(r, i) for r in range(len(self.runs)) for i in which]
        sizes = [self.runs[r].params[i].size for r, i in spans]
        name = self.runs[0].params[which[0]].dtype.name
        layout = Layout(name, name, (name,) * len(kept))
        counting = kernel(rule, layout, counting=True) if rule.cautious else None
        launch = Launch(best_kernel(rule, layout, sum(sizes)), sizes, [rows[r] for r, _ in spans], counting=counting)
        launch.point(PARAM, [self.runs[r].params[i].ctypes.data for r, i in spans])
        launch.point(GRAD, [self.grads[r][i].ctypes.data for r, i in spans])
        for k, state in enumerate(kept):
            launch.point(STATE + k, [self.runs[r].state[i][state].ctypes.data for r, i in spans])
        return launch
