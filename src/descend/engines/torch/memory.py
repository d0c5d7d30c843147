"""Where tensors lie in memory: from which address to which, whether without gaps, and whether alike."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import torch

__all__ = ["alike", "dense", "extent", "sharing", "span"]


def extent(t: torch.Tensor | None) -> tuple[int, int] | None:
    """The first address of a tensor's numbers, and the one after the last; None if it has no memory of the usual kind.

    On a device of its own a tensor has addresses of its own, which are moved out of the way of all others.
    """
    if t is None or t.layout is not torch.strided or not t.numel():
        return None
    try:
        start = t.data_ptr()
    except RuntimeError:  # a tensor that stands for others, and has no memory
        return None
    if not start:
        return None
    if t.device.type != "cpu":
        start += (1 + (t.device.index or 0)) << 56
    return start, start + span(t)


def sharing(tensors: Iterable[torch.Tensor]) -> tuple[int, int] | None:
    """The places of two tensors that may share memory, in the order of their addresses; None if there are none.

    Tensors may lie in one storage, one after the other.
    """
    extents = sorted((*found, i) for i, t in enumerate(tensors) if (found := extent(t)) is not None)
    return next(((i, j) for (_, end, i), (start, _, j) in itertools.pairwise(extents) if start < end), None)


def span(t: torch.Tensor) -> int:
    """How many bytes there are from a tensor's first number up to the end of its last."""
    if t.is_contiguous() or not t.numel():
        return int(t.nbytes)
    return int((1 + sum((n - 1) * s for n, s in zip(t.shape, t.stride(), strict=True))) * t.element_size())


def dense(t: torch.Tensor) -> bool:
    """Whether a tensor's numbers fill one run of memory, each once, in whatever order."""
    if t.is_contiguous():
        return True
    expected = 1
    for stride, size in sorted((s, n) for s, n in zip(t.stride(), t.shape, strict=True) if n != 1):
        if stride != expected:
            return False
        expected *= size
    return True


def alike(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two tensors of one shape lie in memory alike; where there is one number, its stride does not matter."""
    if a.stride() == b.stride():
        return True
    return all(n == 1 or s == t for n, s, t in zip(a.shape, a.stride(), b.stride(), strict=True))
