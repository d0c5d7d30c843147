"""The fused engine on NumPy arrays: a step of all parameters in one call of machine code."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from descend.engines.arrays import Gradients
from descend.engines.native.formats import Layout
from descend.engines.native.launch import lay_out
from descend.engines.native.layout import GRAD, PARAM, STATE
from descend.engines.protocol import Capabilities
from descend.engines.reference import Reference
from descend.errors import ParameterError
from descend.parameters.memory import Array
from descend.rules import Rule

__all__ = ["ArraySpans", "Fused"]


class Fused(Reference):
    """Runs a rule over NumPy arrays, in place, in machine code made from the rule.

    Takes what `Reference` takes and gives the same numbers, bit for bit, but that numbers below the normal range (1e-38
    in float32, 1e-308 in float64) are flushed to zero where that is too little to be seen: where nothing is divided, or
    an `eps` of 1e-10 or more (in float64 1e-130) is added to what divides. Arrays that are not contiguous are stepped
    as copies. The rule may be replaced by one with other numbers, and not by one with other flags.

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

    can: ClassVar[Capabilities] = Capabilities("NumPy", ("float32", "float64"), compiled=True)

    def __init__(self, rule: Rule, params: Sequence[Array]) -> None:
        super().__init__(rule, params)
        self._flags = rule.flags
        self._lay_out()

    def _lay_out(self) -> None:
        arrays = self._arrays
        names = self._formula.kept
        self._groups = [[i for i, p in enumerate(arrays) if p.dtype == dtype] for dtype in _dtypes(arrays)]
        self._spans = [
            ArraySpans(
                [self.rule],
                [0] * len(group),
                [arrays[i] for i in group],
                [[self.state[i][name] for i in group] for name in names],
            )
            for group in self._groups
        ]
        self._scalars = [scalars for spans in self._spans for scalars in spans.scalars]
        self._runs = [spans.run for spans in self._spans]
        self._read: list[Array] = []

    def _adopt(self, rule: Rule) -> None:
        if rule.flags != self._flags:
            changed = ", ".join(
                name for (name, one), (_, two) in zip(rule.flags, self._flags, strict=True) if one != two
            )
            raise ParameterError(f"{rule!r} has another {changed} than this engine was made for: make another engine")
        super()._adopt(rule)
        for spans in self._spans:
            spans.change([rule])

    def _reader(self) -> Gradients:
        return Gradients(self._arrays, self._written(), packed=True)

    def step(self, grads: Sequence[Array]) -> None:
        """One step of every parameter along its gradient, in place; all of them or, on an error, none."""
        ready = self._gradients(grads)
        if ready is not self._read:
            for spans, group in zip(self._spans, self._groups, strict=True):
                spans.point(GRAD, [ready[i] for i in group])
            self._read = ready
        after: Mapping[str, float] = self.carried
        for scalars in self._scalars:
            after = scalars.fill(self.steps + 1, self.carried)
        for run in self._runs:
            run()
        self.steps += 1
        if after is not self.carried:
            self.carried = dict(after)

    def move(self, params: Sequence[Array]) -> None:
        """Go on with other arrays of the same shapes and types, which hold the parameters now."""
        super().move(params)
        self._lay_out()


def _dtypes(arrays: Sequence[Array]) -> list[Any]:
    return list(dict.fromkeys(array.dtype for array in arrays))


class ArraySpans:
    """Steps NumPy arrays of one dtype in one call of machine code.

    Parameters
    ----------
    rules
        A rule for each row of scalars; all have the same flags and keep the same state.
    rows
        For each parameter, which row is its own.
    params
        The parameters.
    kept
        For each state that the rules keep, in order, the array of each parameter.

    Raises `Unavailable` where no machine code can be had. `point` says where the gradients are, before the first step;
    they are contiguous.
    """

    def __init__(
        self, rules: Sequence[Rule], rows: Sequence[int], params: Sequence[Array], kept: Sequence[Sequence[Array]]
    ) -> None:
        name = params[0].dtype.name
        layout = Layout(name, name, (name,) * len(kept))
        self.launch, self.scalars = lay_out(rules, layout, [p.size for p in params], rows)
        self._columns = {PARAM: params, **{STATE + k: arrays for k, arrays in enumerate(kept)}}
        # What is not contiguous is stepped as a copy, and copied back.
        self._copied = [
            (column, i)
            for column, arrays in self._columns.items()
            for i, array in enumerate(arrays)
            if not (array.flags.c_contiguous and array.flags.aligned)
        ]
        self._held: dict[int, Sequence[Array]] = {}
        for column, arrays in self._columns.items():
            self.point(column, arrays)

    def point(self, column: int, arrays: Sequence[Array]) -> None:
        """Say where arrays are: of `PARAM`, `GRAD`, or a state that is kept."""
        self.launch.point(column, [array.ctypes.data for array in arrays])
        self._held[column] = arrays

    def change(self, rules: Sequence[Rule]) -> None:
        """Go on with rules that have other numbers."""
        for scalars, rule in zip(self.scalars, rules, strict=True):
            scalars.change(rule)

    def fill(self, t: int, carried: Sequence[Mapping[str, float]]) -> list[Mapping[str, float]]:
        """Write the scalars of step `t`, from what each row carries before it; what each carries after it."""
        return [scalars.fill(t, before) for scalars, before in zip(self.scalars, carried, strict=True)]

    @property
    def run(self) -> Callable[[], object]:
        """Steps all of them along the gradients, by the scalars that were written last."""
        return self._run_copies if self._copied else self.launch

    def _run_copies(self) -> None:
        columns = {column: [*arrays] for column, arrays in self._columns.items()}
        for column, i in self._copied:
            columns[column][i] = self._columns[column][i].copy(order="C")
        for column, arrays in columns.items():
            self.point(column, arrays)
        self.launch()
        for column, i in self._copied:
            self._columns[column][i][...] = columns[column][i]
