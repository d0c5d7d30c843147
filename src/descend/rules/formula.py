"""A rule's formula as engines run it: over the state that is kept, reduced first where it must be, flags apart.

`Formula` runs a whole step of one array, whatever the array's library: an engine adds how it counts and how it writes.
`Form` is for engines that compile: flags are their constants, numbers their arguments.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Self

from descend.errors import ParameterError, RuleError
from descend.rules.rule import Rule
from descend.rules.step import cautious_mask, cautious_scale, number_names, step
from descend.rules.tracing import can_be_split

__all__ = ["Form", "Formula", "Part", "check_state", "looks_at_arrays", "scale_of", "starting_state"]

Part = tuple[Any, Any, Sequence[Any]]
"""A parameter, its gradient and its kept state; or the same run of each."""


@dataclasses.dataclass(frozen=True)
class Formula:
    """Runs a rule's formula on the state that its settings keep.

    `update` takes every state that the rule has, with None for what its settings do not need. Engines hold the kept
    state alone, in the order of `kept`, and so do the arguments and results here.
    """

    rule: type[Rule]
    kept: tuple[str, ...]
    # Where things are is worked out once: a step of a few numbers takes as long as a few lookups by name.
    _places: tuple[int, ...] = dataclasses.field(init=False, repr=False, compare=False)
    """For each state of the rule its place among what is kept; the place after them all if it is not."""
    _results: tuple[int, ...] = dataclasses.field(init=False, repr=False, compare=False)
    """The places of the parameter and what is kept among all that `update` returns."""
    _drops: bool = dataclasses.field(init=False, repr=False, compare=False)
    """Whether there is state that is not kept."""

    def __post_init__(self) -> None:
        state, kept = self.rule.state, self.kept
        places = tuple(kept.index(name) if name in kept else len(kept) for name in state)
        object.__setattr__(self, "_places", places)
        object.__setattr__(self, "_results", (0, *(1 + state.index(name) for name in kept)))
        object.__setattr__(self, "_drops", len(kept) != len(state))

    @classmethod
    def of(cls, rule: Rule) -> Formula:
        """The formula of a rule with its settings."""
        kind: Any = type(rule)  # which can be hashed, though its objects may not
        return _formula(kind, rule.kept_state())

    def reduced(self, row: Any, parts: Iterable[Part], scale: Callable[[Iterator[Any]], Any]) -> Any:
        """The row with what a step needs to know of a whole array, whose `parts` may be stepped one by one after it.

        That is what a cautious step multiplies its moves by: `scale` makes it of the masks of all parts (`scale_of`).
        """
        if not row.cautious:
            return row
        masks = (cautious_mask(self.rule, p, g, self._arguments(kept), row) for p, g, kept in parts)
        return row._replace(cautious_scale=scale(masks))

    def step(
        self, p: Any, g: Any, kept: Sequence[Any], row: Any, *, copy: Callable[[Any], Any] | None = None
    ) -> tuple[Any, ...]:
        """The new parameter, followed by the new kept state. What is passed in is not changed.

        Whoever writes the results where the arguments are gives `copy`: a result that is an argument is copied by it,
        or a NumPy view that may be of one. A rule that remembers two gradients returns ``g`` and the last one; without
        a copy the second is written when the first has taken its place, and both are ``g``.
        """
        new = step(self.rule, p, g, self._arguments(kept), row)
        if len(new) != 1 + len(self.rule.state):
            raise RuleError(
                f"{self.rule.__name__}.update returns {len(new) - 1} arrays of state, and takes "
                f"{', '.join(self.rule.state) or 'none'}: return the new p, then the new state in that order"
            )
        if self._drops:
            new = tuple([new[i] for i in self._results])
        if copy is None:
            return new
        old = (p, *kept)
        known = {id(g), *map(id, old)}
        return tuple(
            [
                n if n is o or not (id(n) in known or getattr(n, "base", None) is not None) else copy(n)
                for n, o in zip(new, old, strict=True)
            ]
        )

    def _arguments(self, kept: Sequence[Any]) -> tuple[Any, ...]:
        """All state in the order in which `update` takes it."""
        if not self._drops:
            return tuple(kept)
        given = (*kept, None)
        return tuple([given[i] for i in self._places])


@functools.lru_cache(maxsize=512)
def _formula(rule: Any, kept: tuple[str, ...]) -> Formula:
    return Formula(rule, kept)


def scale_of(moving: Any, size: int) -> Any:
    """What a cautious step of an array multiplies by, from how many entries move, of how many."""
    return cautious_scale(moving / size) if size else 1.0


def check_state(rule: Rule, names: Iterable[str]) -> None:
    """Raise `ParameterError` unless the state of an engine, of these names, is what a rule would go on with."""
    if {*names} != {*rule.kept_state()}:
        raise ParameterError(
            f"{rule} keeps the state {rule.kept_state()}, and this engine {(*names,)}: make another engine"
        )


def looks_at_arrays(rule: Rule) -> bool:
    """Whether a step of several arrays is another one than that of all their numbers in one: whoever packs must not.

    So it is with cautious steps, and with a formula that is not known to be elementwise.
    """
    return rule.cautious or not can_be_split(rule)


def starting_state(rule: Rule) -> dict[str, float]:
    """The number that each kept state starts from; a schedule has its number of the first step."""
    first = rule if type(rule).initial is Rule.initial else rule.at(1)  # a schedule is not asked for nothing
    return {name: first.initial(name) for name in rule.kept_state()}


@dataclasses.dataclass(frozen=True)
class Form:
    """Says what a step is compiled for, beside shapes and number formats: a formula and its flags, and no numbers.

    Rules with equal forms can share what is compiled.
    """

    formula: Formula
    row_type: Any
    """The named tuple that holds the scalars."""
    flags: tuple[tuple[str, bool], ...]

    @classmethod
    def of(cls, rule: Rule, row: Any) -> Self:
        """The form of the step of a rule that has this row of scalars."""
        flags = tuple((name, value) for name, value in row._asdict().items() if isinstance(value, bool))
        return cls(Formula.of(rule), type(row), flags)

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """The names of the scalars that are numbers, in order."""
        return number_names(self.row_type, dict(self.flags))

    def numbers(self, row: Any) -> list[float]:
        """The numbers of a row."""
        return [float(getattr(row, name)) for name in self.names]

    def row(self, numbers: Sequence[Any]) -> Any:
        """A row with these numbers, which may be a compiler's."""
        return self.row_type(**dict(self.flags), **dict(zip(self.names, numbers, strict=True)))
