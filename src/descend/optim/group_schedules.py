"""Schedules in an optimizer's groups: they are kept here, and their numbers for the next step stand in the groups.

So whatever reads a group finds numbers: loggers, PyTorch's schedulers, checkpoints. A schedule is followed as long as
the number that it gave is in its group, that very object; where another number is assigned, that is used. When the
schedule's own number is put back, as PyTorch's distributed checkpoints do with `lr`, the schedule is followed again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from descend.rules import Rule

__all__ = ["GroupSchedules", "has_schedule"]


def has_schedule(value: Any) -> bool:
    """Whether a hyperparameter follows a schedule, or a part of it does."""
    return callable(value) or (isinstance(value, (tuple, list)) and any(map(callable, value)))


class GroupSchedules:
    """The schedules of one group, by hyperparameter.

    `done` is the number of steps after which the numbers in the group were given: that of the parameters that have made
    most. Each parameter is stepped by the number for its own count of steps, whatever stands in the group.
    """

    def __init__(self, group: dict[str, Any]) -> None:
        self.group = group
        self.done = 0
        self._given: dict[str, Any] = {}
        """What was assigned: a schedule, or a tuple with some in it."""
        self._shown: dict[str, Any] = {}
        """What was put into the group in its place."""

    def take(self, names: Sequence[str]) -> bool:
        """Keep the schedules that stand in the group under these names; whether there are any.

        Their numbers are missing until `show` is called.
        """
        found = [name for name in names if has_schedule(self.group.get(name))]
        for name, value in self.followed().items():
            if name in found:
                self.group[name] = value
        for name in found:
            value = self.group[name]
            self._given[name] = self._shown[name] = self.group[name] = tuple(value) if _many(value) else value
        return bool(found)

    def followed(self) -> dict[str, Any]:
        """The hyperparameters that follow schedules now, as they were assigned."""
        values = {n: _followed(given, self._shown[n], self.group.get(n)) for n, given in self._given.items()}
        return {name: value for name, value in values.items() if has_schedule(value)}

    def replaced(self) -> Mapping[str, Any]:
        """The schedules in whose place something else was assigned, by hyperparameter."""
        followed = self.followed()
        return {n: given for n, given in self._given.items() if len(_all(followed.get(n))) < len(_all(given))}

    def show(self, rule: Rule, done: int) -> None:
        """Put the numbers of the step after so many into the group; `rule` has the schedules that are followed.

        A schedule may end: where it has no number for that step, the one before stays, and the step itself raises.
        """
        followed = self.followed()
        try:
            numbers = rule.scheduled_numbers(done + 1)
        except Exception:  # whatever a user's function raises
            missing = any(has_schedule(self.group[name]) for name in followed)
            if missing and not done:
                raise
            if not missing:
                return
            numbers = rule.scheduled_numbers(done)
        self.done = done
        for name, value in followed.items():
            number, before = numbers[name], self._shown[name]
            if isinstance(value, tuple):
                new = tuple(_own(n) if callable(v) else v for v, n in zip(value, number, strict=True))
                self._shown[name] = tuple(n if callable(v) else b for v, n, b in zip(value, new, before, strict=True))
                self.group[name] = new
            else:
                self._shown[name] = self.group[name] = _own(number)

    def put_back(self) -> None:
        """Put the schedules that are followed into the group again, where whoever gets the group finds them."""
        self.group.update(self.followed())


def _followed(given: Any, shown: Any, now: Any) -> Any:
    """What a hyperparameter follows, where `given` was assigned, `shown` put in its place, and there is this `now`."""
    if now is shown:
        return given
    if isinstance(given, tuple) and _many(now) and len(now) == len(given):
        return tuple(g if n is s else n for g, s, n in zip(given, shown, now, strict=True))
    return now


def _many(value: Any) -> bool:
    return isinstance(value, (tuple, list))


def _all(value: Any) -> list[Any]:
    """The schedules in a hyperparameter."""
    return [part for part in (value if _many(value) else [value]) if callable(part)]


def _own(number: float) -> float:
    """The number as an object of its own: a schedule may give one that the user assigns, too."""
    return number * 1.0
