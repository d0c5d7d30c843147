"""The vector work of an iteration as machine code: one pass where NumPy would make many."""

from __future__ import annotations

from numba import njit

__all__ = ["dot", "learn", "move", "two_loops"]

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
def two_loops(g, steps, changes, curvatures, newest, count, scratch, d):  # type: ignore[no-untyped-def]
    """Write −H·g into `d`, H being what `count` pairs of steps and changes say (Nocedal 1980); returns d·g.

    The pairs are the rows of a ring whose newest one is row `newest`; `curvatures` has step · change of each.
    """
    rows, n = steps.shape
    for i in range(n):
        d[i] = -g[i]
    for back in range(count):
        row = (newest - back) % rows
        a = dot(steps[row], d) / curvatures[row]
        scratch[row] = a
        y = changes[row]
        for i in range(n):
            d[i] -= a * y[i]
    if count:
        scale = curvatures[newest] / dot(changes[newest], changes[newest])
        for i in range(n):
            d[i] *= scale
    for back in range(count - 1, -1, -1):
        row = (newest - back) % rows
        b = scratch[row] - dot(changes[row], d) / curvatures[row]
        s = steps[row]
        for i in range(n):
            d[i] += b * s[i]
    return dot(d, g)


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


@njit(cache=True, nogil=True)
def move(base, direction, alpha, out):  # type: ignore[no-untyped-def]
    """Write base + alpha · direction."""
    for i in range(base.size):
        out[i] = base[i] + alpha * direction[i]
