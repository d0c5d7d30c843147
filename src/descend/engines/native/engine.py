"""The fused engine on NumPy arrays: a step of all parameters in one call of machine code."""

from __future__ import annotations

from collections.abc import Sequence
from operator import is_

import numpy as np

from descend.engines.native.formats import Layout
from descend.engines.native.kernels import kernel
from descend.engines.native.launch import Launch, best_kernel
from descend.engines.native.layout import GRAD, PARAM, STATE
from descend.engines.native.scalars import Scalars
from descend.engines.reference import Reference
from descend.parameters.memory import Array
from descend.rules import Rule

__all__ = ["Fused"]


class Fused(Reference):
    """Runs a rule over NumPy arrays, in place, in machine code made from the rule.

    Takes what `Reference` takes and gives the same numbers, bit for bit, but that numbers below the normal range (1e-38
    in float32, 1e-308 in float64) are flushed to zero. Arrays that are not contiguous are stepped as copies.

    Raises `Unavailable` where no machine code can be had; `descend.engines.engine` falls back then.

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
        self._parts = [
            _Part(rule, [i for i, p in enumerate(self.params) if p.dtype == dtype], self.params, self.state)
            for dtype in dict.fromkeys(p.dtype for p in self.params)
        ]
        self._grads: list[Array] = []

    def step(self, grads: Sequence[Array]) -> None:
        """One step of every parameter along its gradient, in place; all of them or, on a bad gradient, none."""
        if len(grads) != len(self._grads) or not all(map(is_, grads, self._grads)):
            self._check(grads)
            for part in self._parts:
                part.look(grads)
            self._grads = [*grads]
        carried = self.carried
        for part in self._parts:
            self.carried = dict(part.scalars.fill(self.steps + 1, carried))
        self.steps += 1
        for part in self._parts:
            part()


class _Part:
    """The parameters of one dtype."""

    def __init__(self, rule: Rule, which: list[int], params: list[Array], state: list[dict[str, Array]]) -> None:
        self.which = which
        self.params = [params[i] for i in which]
        self.kept = [[state[i][name] for name in rule.kept_state()] for i in which]
        name = self.params[0].dtype.name
        layout = Layout(name, name, (name,) * len(rule.kept_state()))
        counting = kernel(rule, layout, counting=True) if rule.cautious else None
        sizes = [p.size for p in self.params]
        self.launch = Launch(best_kernel(rule, layout, sum(sizes)), sizes, [0] * len(which), counting=counting)
        self.scalars = Scalars(rule, memoryview(self.launch.scalars[0]), self.launch.kernel.numbers)
        self.apart = not all(a.flags.c_contiguous for p, s in zip(self.params, self.kept, strict=True) for a in (p, *s))
        self.grads: list[Array] = []
        self._point(self.params, self.kept)

    def look(self, grads: Sequence[Array]) -> None:
        """Take note of the gradients that the next steps will find; what they hold may change."""
        self.grads = [grads[i] for i in self.which]
        self.ready = all(
            g.dtype == p.dtype and g.flags.c_contiguous and g.flags.aligned
            for g, p in zip(self.grads, self.params, strict=True)
        )
        if self.ready:
            self.launch.point(GRAD, [g.ctypes.data for g in self.grads])

    def __call__(self) -> None:
        if not self.ready:
            packed = [np.ascontiguousarray(g, p.dtype) for g, p in zip(self.grads, self.params, strict=True)]
            self.launch.point(GRAD, [g.ctypes.data for g in packed])
        if not self.apart:
            self.launch()
            return
        copies = [
            (p.copy(order="C"), [s.copy(order="C") for s in kept])
            for p, kept in zip(self.params, self.kept, strict=True)
        ]
        self._point([p for p, _ in copies], [kept for _, kept in copies])
        self.launch()
        for p, kept, (new_p, new_kept) in zip(self.params, self.kept, copies, strict=True):
            for old, new in zip((p, *kept), (new_p, *new_kept), strict=True):
                old[...] = new

    def _point(self, params: Sequence[Array], kept: Sequence[Sequence[Array]]) -> None:
        self.launch.point(PARAM, [p.ctypes.data for p in params])
        for k, arrays in enumerate(zip(*kept, strict=True)):
            self.launch.point(STATE + k, [a.ctypes.data for a in arrays])
