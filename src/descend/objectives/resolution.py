"""How finely the values of a loss tell points apart: by the floats it is computed in, and by its noise."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["LossResolution"]

EPS32 = 2.0**-23
DISTINCT = 6
"""Losses that differ, of which each is a float32, tell that the loss is computed in them: by chance 1 in 2²⁹ is one."""

_as_float32 = struct.Struct("f")


class LossResolution:
    """What is known of the errors of a loss: `eps`, relative to its value, and `noise`, whatever its value.

    Parameters
    ----------
    eps
        The spacing of the coarsest floats among the parameters, relative to their size.

    Attributes
    ----------
    eps
        The spacing of the coarsest floats on the way from the parameters to the loss, as far as that is known: that of
        float32 as long as every loss is one, once some have been seen.
    noise
        The error that was measured of the loss; 0 where none was.
    ceiling
        Above this loss a trial of a search is given up whatever its gradient, which need not be had then.
    watching
        Whether the next loss can tell more: until one is no float32. It need not be given to `see` otherwise.
    """

    def __init__(self, eps: float) -> None:
        self.eps = self._given = eps
        self.noise = 0.0
        self.watching = eps < EPS32
        self.ceiling = math.inf
        self._distinct: set[float] = set()

    def error(self, loss: float) -> float:
        """The error of one value of the loss."""
        return max(self.eps * abs(loss), self.noise)

    def state(self) -> dict[str, Any]:
        """What was seen, as arrays and numbers."""
        return {
            "eps": self.eps,
            "noise": self.noise,
            "watching": self.watching,
            "distinct": np.array(sorted(self._distinct), dtype=np.float64),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Have seen what `state` says; nothing where it is empty. Raises `KeyError`, `TypeError` or `ValueError`."""
        if state:
            self.eps, self.noise = float(state["eps"]), float(state["noise"])
            self.watching = bool(state["watching"])
            self._distinct = {float(loss) for loss in np.asarray(state["distinct"], dtype=np.float64).reshape(-1)}
            if not (self._given <= self.eps < 1.0 and 0.0 <= self.noise < np.inf):
                raise ValueError(f"eps={self.eps!r} and noise={self.noise!r} are no errors of a loss")

    def coarsen(self, eps: float) -> None:
        """Take note of floats on the way to the loss that have this spacing."""
        self._given = max(eps, self._given)
        self.eps = max(self.eps, self._given)

    def see(self, loss: float) -> None:
        """Look at a loss, whether a float32 can hold it."""
        try:
            single = _as_float32.unpack(_as_float32.pack(loss))[0]
        except OverflowError:
            single = None
        if single != loss:
            if loss - loss == 0.0:  # NaN and infinities say nothing
                self.watching, self.eps = False, self._given
                self._distinct.clear()
            return
        if len(self._distinct) < DISTINCT:
            self._distinct.add(loss)
        else:
            self.eps = max(self.eps, EPS32)
