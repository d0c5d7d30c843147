"""The fused engine on NumPy arrays: a step of all parameters in one call of machine code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from descend.containers import Array
from descend.engines.fused.formats import Layout
from descend.engines.fused.kernels import Kernel, kernel
from descend.engines.fused.launching import Launch
from descend.engines.reference import Reference
from descend.rules import Rule

__all__ = ["Fused"]


class Fused(Reference):
    """Runs a rule over NumPy arrays, in place, in machine code made from the rule.

    Takes what `Reference` takes and gives the same numbers, bit for bit, but that numbers below the normal range (1e-38
    in float32, 1e-308 in float64) are flushed to zero. Arrays that are not contiguous are stepped as copies.

    Raises `kernels.Unavailable` where no kernel can be had: see `descend.engines.engine`.

    Examples
    --------
    >>> import numpy as np, descend
    >>> w = np.array([1.0, 2.0])
    >>> engine = descend.engines.Fused(descend.GD(lr=0.5), [w])
    >>> engine.step([np.array([2.0, -2.0])])
    >>> w
    array([0., 3.])
    """

    def __init__(self, rule: Rule, params: Sequence[Array]) -> None:
        super().__init__(rule, params)
        self._launches = [
            _Launch(rule, [i for i, p in enumerate(self.params) if p.dtype == dtype], self.params, self.state)
            for dtype in dict.fromkeys(p.dtype for p in self.params)
        ]

    def _step(self, grads: Sequence[Array], row: Any) -> None:
        for launch in self._launches:
            launch(grads, row)


class _Launch:
    """The parameters of one dtype."""

    def __init__(self, rule: Rule, which: list[int], params: list[Array], state: list[dict[str, Array]]) -> None:
        self.which = which
        self.params = [params[i] for i in which]
        self.state = [[state[i][name] for name in rule.kept_state()] for i in which]
        name = self.params[0].dtype.name
        layout = Layout(name, name, (name,) * len(rule.kept_state()))
        counting = kernel(rule, layout, counting=True) if rule.cautious else None
        self.kernel: Kernel = kernel(rule, layout)
        self.launch = Launch(self.kernel, [p.size for p in self.params], [0] * len(which), counting=counting)
        self.apart = [not p.flags.c_contiguous for p in self.params]
        self._point(0, self.params)
        for k in range(len(rule.kept_state())):
            self._point(2 + k, [s[k] for s in self.state])

    def _point(self, array: int, arrays: Sequence[Array]) -> None:
        self.launch.point(array, [a.ctypes.data for a in arrays])

    def __call__(self, grads: Sequence[Array], row: Any) -> None:
        given = [np.ascontiguousarray(grads[i], p.dtype) for i, p in zip(self.which, self.params, strict=True)]
        self.launch.scalars[0] = [getattr(row, name) for name in self.kernel.numbers]
        self._point(1, given)
        if not any(self.apart):
            self.launch()
            return
        packed = [[np.ascontiguousarray(a) for a in (p, *s)] for p, s in zip(self.params, self.state, strict=True)]
        for k, array in enumerate((0, *range(2, 2 + len(packed[0]) - 1))):
            self._point(array, [arrays[k] for arrays in packed])
        self.launch()
        for p, s, arrays in zip(self.params, self.state, packed, strict=True):
            for old, new in zip((p, *s), arrays, strict=True):
                if old is not new:
                    old[...] = new
