"""Roles of the numbers in a container: free, fixed at a value, or tied to others by a function of them."""

from __future__ import annotations

import dataclasses
import numbers
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from descend.checks import is_whole
from descend.errors import OptionError, described, did_you_mean
from descend.parameters.memory import Array, Memory
from descend.parameters.names import container_order, flat_places, leaf_names, names_of

__all__ = ["Roles", "Tie", "in_order"]


@dataclasses.dataclass(frozen=True)
class Tie:
    """A function of the whole container that some of its numbers follow; `label` is what the user calls them."""

    label: str
    function: Callable[[Any], Any]
    numbers: Array
    """Which numbers follow it, in the order of the vectors, one after the other."""


class Roles:
    """Which numbers of a memory are free, which are fixed and at what, and which are tied and how.

    Parameters
    ----------
    memory
        Holds the whole container.
    fixed
        What is held: names, or indices of an array; a mask built like an array; or a dict of either → the value, where
        True stands for the value at the start.
    tied
        A dict of name or index → ``function(container)``, whose value the parameter has.
    names
        Names of the numbers of an array, by which they may be called.

    Raises `OptionError` for a name or index that is not there, for what is both fixed and tied, where nothing is left
    free, and where ties go in a circle.
    """

    def __init__(self, memory: Memory, fixed: Any = None, tied: Any = None, names: Sequence[str] | None = None) -> None:
        self.names, self.given_names = names_of(memory, names), None if names is None else list(names)
        self._memory_names = dict(zip(leaf_names(memory), flat_places(memory), strict=True))
        self._in_order = container_order(memory)
        self._by_index = memory.spec.is_leaf() or memory.spec.type in (list, tuple)
        self.fixed = np.zeros(memory.size, dtype=bool)
        """Which numbers are held at a value."""
        self.tied = np.zeros(memory.size, dtype=bool)
        """Which numbers follow others."""
        self.values = np.concatenate(memory.vectors).astype(float)
        """The value of each number that is fixed; for others, where they start."""
        if fixed is not None:
            self._fix(fixed)
        self.ties = [] if tied is None else self._tie(tied)
        if not self.free.any():
            raise OptionError("every parameter is fixed or tied, and none is left to change: leave one out of them")

    @property
    def free(self) -> Array:
        """Which numbers a descent changes."""
        return ~(self.fixed | self.tied)

    @property
    def held(self) -> dict[str, float] | None:
        """What is fixed, as a dict of name → value; None if nothing is."""
        found = {name: float(v) for name, v, fixed in zip(self.names, self.values, self.fixed, strict=True) if fixed}
        return found or None

    def chosen(self, key: Any, what: str) -> Array:
        """The numbers that a name or an index stands for; raises `OptionError` where there are none."""
        if isinstance(key, str):
            found = [i for i, name in enumerate(self.names) if name == key]
            if not found and key in self._memory_names:
                return np.arange(len(self.names))[self._memory_names[key]]
            found = found or [i for i, name in enumerate(self.names) if name.startswith((f"{key}.", f"{key}["))]
            if found:
                return np.array(found)
            known = dict.fromkeys([*self._memory_names, *self.names])
            raise OptionError(f"{what} names {key!r}, which is no parameter; {did_you_mean(key, known)}")
        if not is_whole(key):
            raise OptionError(f"{what} holds {key!r}: the name of a parameter is needed, or the index in an array")
        if not self._by_index:
            raise OptionError(f"{what} holds {key!r}: these parameters have names; {did_you_mean('', self.names)}")
        if not -len(self.names) <= key < len(self.names):
            raise OptionError(f"{what} holds {key}, and there are {len(self.names)} parameters, from 0 on")
        return self._in_order[[int(key)]]

    def hold(self, memory: Memory) -> None:
        """Write the values of what is fixed into a memory."""
        for vector, fixed, values in zip(
            memory.vectors, self.split(self.fixed, memory), self.split(self.values, memory), strict=True
        ):
            np.copyto(vector, values.astype(vector.dtype), where=fixed)

    @staticmethod
    def split(flat: Array, memory: Memory) -> list[Array]:
        """One number for each of a memory's as vectors that are laid out as its own."""
        return np.split(flat, np.cumsum([v.size for v in memory.vectors])[:-1])

    # ---- what is given ----------------------------------------------------------------------------------------------

    def _fix(self, fixed: Any) -> None:
        if isinstance(fixed, Mapping):
            for key, value in fixed.items():
                self._fix_at(self.chosen(key, "fixed"), value, f"fixed[{key!r}]")
            return
        mask = _as_mask(fixed)
        if mask is not None:
            if mask.size != len(self.names):
                raise OptionError(f"fixed is a mask of shape {mask.shape} for {len(self.names)} parameters")
            self.fixed[self._in_order] = mask.reshape(-1)
            return
        for key in _listed(fixed):
            self.fixed[self.chosen(key, "fixed")] = True

    def _fix_at(self, at: Array, value: Any, what: str) -> None:
        """Fix numbers at values or, by a mask, where they start."""
        mask = _as_mask(value)
        try:
            if mask is not None:
                self.fixed[at] = np.broadcast_to(mask, at.shape) if mask.ndim == 0 else mask.reshape(at.shape)
                return
            array = np.asarray(value)
            if array.dtype.kind not in "fiu" or not np.all(np.isfinite(array)):
                raise ValueError
            self.values[at] = array if array.ndim == 0 else array.reshape(at.shape)
        except (TypeError, ValueError):
            raise OptionError(
                f"{what}={value!r}: a finite number is needed for each of {at.size} parameters, or True to hold "
                "them where they start"
            ) from None
        self.fixed[at] = True

    def _tie(self, tied: Any) -> list[Tie]:
        if not isinstance(tied, Mapping):
            raise OptionError(f"tied={tied!r}: a dict is needed, such as {{'b': lambda p: 2 * p['a']}}")
        found = []
        for key, function in tied.items():
            if not callable(function):
                raise OptionError(
                    f"tied[{key!r}]={function!r}: a function of the whole container is needed, such as "
                    "lambda p: 2 * p['a']; a constant is for `fixed`"
                )
            at = self.chosen(key, "tied")
            for which, words in ((self.fixed, "is fixed as well"), (self.tied, "is tied twice")):
                if which[at].any():
                    raise OptionError(f"{self.names[at[which[at]][0]]} is tied and {words}: leave one of them out")
            self.tied[at] = True
            found.append(Tie(str(key) if isinstance(key, str) else self.names[at[0]], function, at))
        return found


def in_order(ties: Sequence[Tie], values: Callable[[Tie], Array], take: Callable[[Tie, Array], None]) -> list[Tie]:
    """The ties, each after those whose numbers it reads.

    Numbers that are not known yet are NaN: a tie whose value is not NaN has read none of them. `values` computes a tie
    from what is known, `take` makes its value known. Raises `OptionError` where no order is found.
    """
    ordered: list[Tie] = []
    waiting = list(ties)
    while waiting:
        raised: dict[str, str] = {}
        for tie in waiting:
            try:
                found = values(tie)
            except Exception as error:  # it may be for the NaN
                raised[tie.label] = described(error)
                continue
            if not np.any(np.isnan(found)):
                take(tie, found)
                ordered.append(tie)
        left = [tie for tie in waiting if tie not in ordered]
        if len(left) == len(waiting):
            names = ", ".join(tie.label for tie in left)
            why = "; ".join(f"{label}: {text}" for label, text in raised.items())
            raise OptionError(
                f"tied: no value is found for {names} at the start: they follow each other in a circle, or their "
                f"functions give NaN{f' ({why})' if why else ''}"
            )
        waiting = left
    return ordered


def _as_mask(value: Any) -> Array | None:
    """An array of bools, if it is one."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):
        return None
    return array if array.dtype == bool and array.size else None


def _listed(fixed: Any) -> Iterable[Any]:
    """Names or indices, one by one."""
    if isinstance(fixed, (str, numbers.Integral)):
        return [fixed]
    try:
        return [key.item() if isinstance(key, np.generic) else key for key in fixed]
    except TypeError:
        raise OptionError(
            f"fixed={fixed!r}: names of parameters are needed, indices, a mask, or a dict of name → value"
        ) from None
