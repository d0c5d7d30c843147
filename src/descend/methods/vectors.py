"""The vector work of an iteration as machine code: one pass where NumPy would make many."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

__all__ = ["aligned", "dot", "hold", "learn", "move", "to_bounds", "two_loops", "within"]

LINE = 8
"""Numbers in a line of the cache, which has 64 bytes."""

FAST = {"reassoc", "contract", "nsz"}
"""Sums may be taken in any order, which lets the processor add several numbers at once; NaN stays NaN."""


@njit(cache=True, nogil=True, fastmath=FAST)
def dot(a, b):  # type: ignore[no-untyped-def]
    """The product of two vectors."""
    total = 0.0
    for i in range(a.size):
        total += a[i] * b[i]
    return total


@njit(cache=True, nogil=True, fastmath=FAST)
def add_and_dot(d, a, other, then):  # type: ignore[no-untyped-def]
    """Add a · other to `d`; returns the product of that with `then`, in the same pass."""
    total = 0.0
    for i in range(d.size):
        moved = d[i] + a * other[i]
        d[i] = moved
        total += moved * then[i]
    return total


@njit(cache=True, nogil=True, fastmath=FAST)
def two_loops(g, steps, changes, curvatures, newest, count, shares, d):  # type: ignore[no-untyped-def]
    """Write −H·g into `d`, H being what `count` pairs of steps and changes say (Nocedal 1980); returns d·g.

    The pairs are the rows of a ring whose newest one is row `newest`; `curvatures` has step · change of each, `shares`
    room for a number of each. What is added for one pair and the product that the next one asks for are one pass.
    """
    rows = steps.shape[0]
    for i in range(d.size):
        d[i] = -g[i]
    if not count:
        return dot(d, g)
    row = newest
    product = dot(steps[row], d)
    for back in range(1, count):
        shares[row] = product / curvatures[row]
        older = (newest - back) % rows
        product = add_and_dot(d, -shares[row], changes[row], steps[older])
        row = older
    shares[row] = product / curvatures[row]
    scale = curvatures[newest] / dot(changes[newest], changes[newest])
    product = 0.0
    for i in range(d.size):
        d[i] = scale * (d[i] - shares[row] * changes[row, i])
        product += d[i] * changes[row, i]
    for back in range(count - 2, -1, -1):
        newer = (newest - back) % rows
        product = add_and_dot(d, shares[row] - product / curvatures[row], steps[row], changes[newer])
        row = newer
    return add_and_dot(d, shares[row] - product / curvatures[row], steps[row], g)


@njit(cache=True, nogil=True, fastmath=FAST)
def learn(x, g, base, base_g, step, change):  # type: ignore[no-untyped-def]
    """Write what x and g have moved since `base` into `step` and `change`, and move the base there.

    Returns the product of step and change, and of each with itself.
    """
    sy, ss, yy = 0.0, 0.0, 0.0
    for i in range(x.size):
        s = x[i] - base[i]
        y = g[i] - base_g[i]
        step[i] = s
        change[i] = y
        base[i] = x[i]
        base_g[i] = g[i]
        sy += s * y
        ss += s * s
        yy += y * y
    return sy, ss, yy


@njit(cache=True, nogil=True, fastmath=FAST)
def hold(x, lower, upper, g, most, free):  # type: ignore[no-untyped-def]
    """Write which parameters are `free`, and count the others: those that the gradient presses against a bound nearby.

    Nearby is within `most`, or the largest move of a step along the gradient that ends at the bounds, if that is less:
    the set of Bertsekas 1982.
    """
    far = 0.0
    for i in range(x.size):
        far = max(far, abs(min(max(-g[i], lower[i] - x[i]), upper[i] - x[i])))
    near = min(most, far)
    held = 0
    for i in range(x.size):
        free[i] = not ((g[i] > 0.0 and x[i] - lower[i] <= near) or (g[i] < 0.0 and upper[i] - x[i] <= near))
        held += not free[i]
    return held


@njit(cache=True, nogil=True, fastmath=FAST)
def within(g, steps, changes, newest, count, curved, free, free_g, free_steps, free_changes, curvatures):  # type: ignore[no-untyped-def]  # fmt: skip
    """Copy the gradient and the pairs, oldest first, with zeros for what is not free.

    A pair is left out if what remains of it has less curvature than a share `curved` of what parallel vectors would
    have. Returns how many are left.
    """
    for i in range(g.size):
        free_g[i] = g[i] if free[i] else 0.0
    kept = 0
    for back in range(count - 1, -1, -1):
        row = (newest - back) % steps.shape[0]
        sy, ss, yy = 0.0, 0.0, 0.0
        for i in range(g.size):
            s = steps[row, i] if free[i] else 0.0
            y = changes[row, i] if free[i] else 0.0
            free_steps[kept, i] = s
            free_changes[kept, i] = y
            sy += s * y
            ss += s * s
            yy += y * y
        if sy > curved * math.sqrt(ss) * math.sqrt(yy):
            curvatures[kept] = sy
            kept += 1
    return kept


@njit(cache=True, nogil=True, fastmath=FAST)
def to_bounds(x, lower, upper, g, free, d):  # type: ignore[no-untyped-def]
    """Point what is not free to the bound that it is pressed against; returns d·g of these."""
    slope = 0.0
    for i in range(x.size):
        if not free[i]:
            d[i] = (lower[i] if g[i] > 0.0 else upper[i]) - x[i]
            slope += d[i] * g[i]
    return slope


@njit(cache=True, nogil=True)
def move(base, direction, alpha, out):  # type: ignore[no-untyped-def]
    """Write base + alpha · direction."""
    for i in range(base.size):
        out[i] = base[i] + alpha * direction[i]


def aligned(*shapes: tuple[int, ...]) -> list[np.ndarray[Any, np.dtype[np.float64]]]:
    """Arrays of zeros that each begin where a line of the cache does, so that loops load fewer lines twice."""
    sizes = [math.prod(shape) for shape in shapes]
    room = np.zeros(sum(sizes) + (len(sizes) + 1) * LINE)
    start = -room.__array_interface__["data"][0] % (8 * LINE) // 8
    made = []
    for shape, size in zip(shapes, sizes, strict=True):
        made.append(room[start : start + size].reshape(shape))
        start += -(-size // LINE) * LINE
    return made
