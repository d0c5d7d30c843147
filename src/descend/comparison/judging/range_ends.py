"""Where a range of learning rates ended too early for an entry, and what is done about it."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence

from descend.comparison.planning.entries import can_take
from descend.comparison.planning.plan import Plan
from descend.comparison.planning.stretches import ROUNDS, Stretch
from descend.comparison.planning.task import Chosen
from descend.comparison.running.runs import Run
from descend.errors import OptionError

__all__ = ["edge", "extended", "range_ended"]


def edge(plan: Plan, entry: int, study: int, point: Chosen) -> str:
    """At which edge of the learning rates that were tried the chosen one lies: "low" or "high"; empty for neither."""
    rates = {trial["lr"] for trial in plan.points(plan.entries[entry], study)}
    if point is None or len(rates) < 2:
        return ""
    return {min(rates): "low", max(rates): "high"}.get(point["lr"], "")


def range_ended(plan: Plan, entry: int, chosen: Sequence[Chosen]) -> bool:
    """Whether an entry has not been searched far enough for a verdict against it.

    In one of the studies its best learning rate lies at the edge of what was tried, or every trial failed in a range
    that was given. One that failed in all stretches beyond the usual range has been searched far enough.
    """
    far = plan.extendable(plan.entries[entry])
    return any((not far) if point is None else edge(plan, entry, study, point) for study, point in enumerate(chosen))


def extended(plan: Plan, chosen: Sequence[Sequence[Chosen]], tuning: Sequence[Run]) -> Plan | None:
    """The plan with a stretch for each entry whose range ended too early, and as many trials for the others.

    None where no entry needs one, or none is left: where every trial failed, learning rates are lowered, unless no run
    came as far as a step, which no learning rate mends.
    """
    if len(plan.stretches) == ROUNDS:
        return None
    stepped = {(run.entry, run.study) for run in tuning if run.examples > 0}
    before = collections.Counter((s.entry, s.study, s.up) for added in plan.stretches for s in added)
    found = []
    for i, entry in enumerate(plan.entries):
        for study, point in enumerate(chosen[i]):
            end = edge(plan, i, study, point) if point is not None else "low" * ((i, study) in stepped)
            if end and plan.extendable(entry):
                up = end == "high"
                found.append(Stretch(entry.label, study, up, before[entry.label, study, up] + 1))
    wider = dataclasses.replace(plan, stretches=(*plan.stretches, tuple(found)))
    return wider if found and _can_be_tried(wider) else None


def _can_be_tried(plan: Plan) -> bool:
    """Whether all rules take all points; one may know a highest learning rate."""
    try:
        for entry in plan.entries:
            for study in range(plan.studies):
                for point in plan.points(entry, study):
                    can_take(entry, point)
    except OptionError:
        return False
    return True
