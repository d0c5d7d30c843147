"""Whether losses and gradients of many points at once are those of each point alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from descend.parameters.memory import Array

__all__ = ["disagreement"]

AGREE = {np.dtype(np.float32): 1e-4, np.dtype(np.float64): 1e-10}
"""How far a gradient of many points at once may be from each point's own, relative to its largest entry."""


def disagreement(
    losses: Array, grads: Sequence[Array], single_losses: Sequence[float], single_grads: Sequence[Sequence[Array]]
) -> str | None:
    """How losses and gradients of many points at once differ from those of each alone; None if they do not."""
    tolerance = max(AGREE[vector.dtype] for vector in grads)
    expected = [np.stack(vectors) for vectors in zip(*single_grads, strict=True)]
    pairs = [
        ("loss", losses, np.array(single_losses)),
        *(("gradient", g, e) for g, e in zip(grads, expected, strict=True)),
    ]
    for what, together, alone in pairs:
        known = np.isfinite(alone)
        if not np.array_equal(together[~known], alone[~known], equal_nan=True):
            return f"the stacked {what} is not that of each alone: one is not finite where the other is"
        # Each row by its own scale; near zero, by 1 or, where all are small, by that of the largest row.
        size = np.max(np.abs(np.where(known, alone, 0.0)).reshape(len(alone), -1), axis=1)
        scale = np.maximum(size, max(min(1.0, float(np.max(size))), float(np.finfo(alone.dtype).tiny)))
        gap = np.abs(np.where(known, together, 0.0) - np.where(known, alone, 0.0)).reshape(len(alone), -1)
        apart = float(np.max(gap / scale[:, None]))
        if not apart <= tolerance:
            return f"the stacked {what} is not that of each alone: they differ by {apart:.2g} of its largest entry"
    return None
