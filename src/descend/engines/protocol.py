"""What an engine is, and what it can: the one interface of all that run a rule over memory.

An engine has a rule, parameters, the state that the rule keeps for each of them, the numbers that it carries from step
to step, and a count of steps; `Engine.step` makes one step along gradients. It says in `Capabilities` what it takes and
what its numbers are worth. What all of them share stands once: the formula over kept state, the order "reduce first,
then step", and flags apart from numbers in `descend.rules.formula`; spans of memory in
`descend.engines.native.launch`; NumPy's arrays in `descend.engines.arrays`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from descend.rules import Rule

__all__ = ["Capabilities", "Engine"]


@dataclasses.dataclass(frozen=True)
class Capabilities:
    """Says what an engine takes, and what its numbers are worth."""

    library: str
    """Whose arrays it takes: NumPy, JAX or PyTorch."""
    dtypes: tuple[str, ...]
    """Of which types the parameters may be; narrower ones than float32 are computed in float32, and rounded."""
    devices: str = "the CPU"
    layouts: str = "any"
    in_place: bool = True
    """Whether the arrays that it was given are updated; else it has new ones after each step."""
    compiled: bool = False
    """Whether the formula is compiled, and so must not depend on more than `descend.rules.formula.Form` says."""
    cautious: bool = True
    """Whether it makes cautious steps, which look at each whole array first."""
    exact: bool = True
    """Whether its numbers are the reference engine's bits, but that numbers below the normal range may be flushed to
    zero; else they agree to rounding."""


@runtime_checkable
class Engine(Protocol):
    """Runs a rule over memory, step by step.

    An error leaves all as it was, so that the step can be made again: a gradient that does not fit, a schedule or
    scalars that raise.
    """

    @property
    def can(self) -> Capabilities:
        """What the engine takes, and what its numbers are worth."""

    rule: Rule
    """The rule; another one of the same class with the same flags may take its place between steps where an engine says
    so."""
    params: Any
    """The parameters now."""
    state: Any
    """The kept state now."""
    carried: Mapping[str, float]
    """The rule's carried numbers after the last step."""
    steps: int
    """How many steps were done."""

    def step(self, grads: Any, /) -> None:
        """One step of every parameter along its gradient."""
