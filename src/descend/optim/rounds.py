"""Rounds of a step: tensors over the same memory are stepped one after the other, in rounds; all others at once.

`torch.optim` steps one tensor after the other. A plan steps many at once, in threads and in another order, which comes
to the same as long as nothing that one tensor's step writes is read or written by another's. Parameters that are tied
through ``.data`` break that, and so does a gradient that is another parameter. Such tensors are put into rounds: those
of one round have nothing to do with each other, and the rounds are stepped in order.

Only addresses tell. A tensor counts for all from its first number to its last, whatever gaps are in between: two
parameters that interleave are stepped in two rounds, which is slower than need be, and right.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import torch

from descend.engines.memory import Intervals
from descend.engines.torch.memory import extent

__all__ = ["Access", "rounds"]


@dataclasses.dataclass(frozen=True, slots=True)
class Access:
    """The memory that one tensor's step touches: what it writes (parameter and state), and its gradient, if any."""

    written: tuple[torch.Tensor, ...]
    grad: torch.Tensor | None


def rounds(accesses: Sequence[Access]) -> tuple[list[int], Intervals, bool]:
    """In which round each of these tensors is stepped; what all of them write; whether some gradient lies in that.

    >>> w = torch.zeros(4)
    >>> rounds([Access((w,), None), Access((torch.zeros(2),), None), Access((w[2:],), None)])[0]
    [0, 0, 1]
    """
    found = [(a, b, i, True) for i, access in enumerate(accesses) for a, b in _extents(access.written)]
    written = Intervals((a, b) for a, b, *_ in found)
    grads = [(a, b, i, False) for i, access in enumerate(accesses) for a, b in _extents((access.grad,))]
    within = [grad for grad in grads if written.meets(grad[0], grad[1])]
    numbers = [0] * len(accesses)
    if within or len(written.starts) < len(found):
        for i, earlier in _conflicts([*found, *within]).items():
            numbers[i] = 1 + max(numbers[k] for k in earlier)
    return numbers, written, bool(within)


def _extents(tensors: Iterable[torch.Tensor | None]) -> list[tuple[int, int]]:
    return [found for t in tensors if (found := extent(t)) is not None]


def _conflicts(extents: list[tuple[int, int, int, bool]]) -> dict[int, set[int]]:
    """For each tensor that must wait, in order, the earlier ones that it waits for."""
    waits: dict[int, set[int]] = {}
    extents.sort()
    for k, (_, end, i, writes) in enumerate(extents):
        for later in range(k + 1, len(extents)):
            start, _, j, also = extents[later]
            if start >= end:
                break
            if i != j and (writes or also):
                waits.setdefault(max(i, j), set()).add(min(i, j))
    return dict(sorted(waits.items()))
