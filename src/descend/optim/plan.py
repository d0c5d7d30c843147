"""What an optimizer's step does, worked out once, and checked each time in a few microseconds.

A step of a small network takes less time in machine code than Python needs to look at its tensors. So whatever
cannot change unseen is kept from step to step: which tensors there are, where they lie, which kernel steps them, which
numbers the kernel expects. Each step compares all that with what is there now, in bulk, and makes a new plan if
anything differs: a gradient that came or went, state that was loaded or moved, a group that was edited.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from itertools import chain
from operator import is_, itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from descend.engines.fused.formats import FORMATS, Layout
from descend.engines.fused.kernels import Unavailable, kernel
from descend.engines.fused.launching import Launch
from descend.engines.tensors import tensor_step
from descend.rules import Rule

if TYPE_CHECKING:
    from descend.optim.optimizer import Optimizer

__all__ = ["Plan", "plain"]

_PARAMS = itemgetter("params")
_ADDRESS = torch.Tensor.data_ptr
_CONTIGUOUS = torch.Tensor.is_contiguous
_BYTES = torch.Tensor.nbytes.__get__
_DTYPE = torch.Tensor.dtype.__get__
_GRAD = torch.Tensor.grad.__get__
_FORMATS = {getattr(torch, name): name for name in FORMATS}


class Row:
    """The scalars of the tensors of one group that are at the same step."""

    def __init__(self, optimizer: Optimizer, group: dict[str, Any], t: int, carried: dict[str, float]) -> None:
        self.optimizer = optimizer
        self.group = group
        self.done = t
        self.carried = carried
        self.values = plain(optimizer._hyperparameters(group))
        self.rule: Rule = optimizer._rule(self.values)
        self.flags = _flags(self.rule)
        self.target: Any = None
        self.places: list[int] = []

    def fill(self) -> bool:
        """Write the scalars of the next step; False if the group now asks for another kernel."""
        values = self.optimizer._hyperparameters(self.group)
        if values != self.values:
            self.values = plain(values)
            self.rule = self.optimizer._rule(self.values)
            if _flags(self.rule) != self.flags:
                return False
            if self.target is not None:
                self._write_all()
        if self.target is None:
            return True
        if self.rule.is_scheduled:
            self._write_all()
        else:
            extra, self.after = self.rule.carry(self.done + 1, self.carried)
            target = self.target
            for place, value in zip(self.places, extra.values(), strict=True):
                target[place] = value
        return True

    def aim(self, target: Any, numbers: Sequence[str]) -> None:
        """Let `fill` write to `target`, a row of a launch whose kernel reads `numbers`."""
        self.target, self.numbers = target, numbers
        self._write_all()
        extra, _ = self.rule.at(self.done + 1).carry(self.done + 1, self.carried)
        self.places = [numbers.index(name) for name in extra]

    def row(self) -> Any:
        """The scalars of the next step as `Rule.row` has them."""
        row, self.after = self.rule.advance(self.done + 1, self.carried)
        return row

    def _write_all(self) -> None:
        row = self.row()
        for place, name in enumerate(self.numbers):
            self.target[place] = getattr(row, name)

    def advance(self) -> None:
        """The step is done."""
        self.done += 1
        if self.carried:
            self.carried = {name: _float32(value) for name, value in self.after.items()}


@dataclasses.dataclass
class _Span:
    """A tensor that a kernel steps."""

    param: torch.Tensor
    row: Row
    state: dict[str, Any]
    staged: torch.Tensor | None
    """Where its gradient is copied to, if it is not laid out as the parameter is."""


class Plan:
    """How to step every tensor that has a gradient; see the module."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        self.groups = [(group["params"], [*group["params"]]) for group in optimizer.param_groups]
        self.rows: list[Row] = []
        self.idle: list[torch.Tensor] = []
        self.others: list[tuple[torch.Tensor, Row, dict[str, Any]]] = []
        spans: dict[Any, list[_Span]] = {}
        for group in optimizer.param_groups:
            rows: dict[Any, Row] = {}
            for p in group["params"]:
                if p.grad is None:
                    self.idle.append(p)
                    continue
                state = optimizer._state_of(p, group)
                carried = {name: state[name].item() for name in optimizer.rule.carried}
                t = int(state["step"])
                row = rows.get((t, *carried.values()))
                if row is None:
                    row = rows[t, *carried.values()] = Row(optimizer, group, t, carried)
                    self.rows.append(row)
                why = self._obstacle(p, group)
                key = None if why else self._key(p, row, state)
                if key is None:
                    if why and group.get("fused"):
                        raise RuntimeError(f"fused=True, but {why}; leave fused out to step it in another way")
                    self.others.append((p, row, state))
                else:
                    spans.setdefault(key, []).append(_Span(p, row, state, None))
        self.launches = [self._launch(key, members) for key, members in spans.items()]
        self.spans = [span for members in spans.values() for span in members]
        self.params = [span.param for span in self.spans]
        self._note()

    # ---- making it ----------------------------------------------------------------------------------------------

    def _obstacle(self, p: torch.Tensor, group: dict[str, Any]) -> str | None:
        """Why no kernel can step this tensor; None if one can."""
        g = p.grad
        assert g is not None
        if group.get("fused") is False or group.get("foreach") or group.get("differentiable"):
            return "another way was asked for"
        if type(p) not in (torch.Tensor, torch.nn.Parameter, torch.nn.Buffer) or type(g) is not torch.Tensor:
            return f"it is a {type(p).__name__} with a gradient of type {type(g).__name__}"
        if p.device.type != "cpu":
            return f"a parameter is on {p.device}, and kernels run on the CPU"
        if p.dtype not in _FORMATS or g.dtype not in _FORMATS:
            return f"a parameter has dtype {p.dtype} and a gradient of {g.dtype}"
        if g.layout is not torch.strided or p.layout is not torch.strided:
            return f"a gradient has layout {g.layout}"
        if not _dense(p):
            return f"a parameter of strides {p.stride()} leaves gaps or overlaps"
        return None

    def _key(self, p: torch.Tensor, row: Row, state: dict[str, Any]) -> Any:
        """What tensors that can be stepped in one call have in common; None where no kernel can be had."""
        kept = row.rule.kept_state()
        if any(state[name].dtype not in _FORMATS for name in kept):
            return None
        assert p.grad is not None
        layout = Layout(_FORMATS[p.dtype], _FORMATS[p.grad.dtype], tuple(_FORMATS[state[n].dtype] for n in kept))
        try:
            kernel(row.rule, layout)
        except Unavailable as error:
            self.optimizer._say_once(str(error))
            return None
        return row.flags, layout

    def _launch(self, key: Any, spans: list[_Span]) -> Launch:
        rule = spans[0].row.rule
        layout: Layout = key[1]
        machine = kernel(rule, layout)
        rows = list(dict.fromkeys(span.row for span in spans))
        launch = Launch(
            machine,
            [span.param.numel() for span in spans],
            [rows.index(span.row) for span in spans],
            counting=kernel(rule, layout, counting=True) if rule.cautious else None,
        )
        for i, row in enumerate(rows):
            row.aim(memoryview(launch.scalars[i]), machine.numbers)
        launch.point(0, [span.param.data_ptr() for span in spans])
        for k, name in enumerate(machine.kept):
            launch.point(2 + k, [span.state[name].data_ptr() for span in spans])
        return launch

    def _note(self) -> None:
        """Note what the next steps are compared with."""
        grads = [p.grad for p in self.params]
        for span, g in zip(self.spans, grads, strict=True):
            assert g is not None
            if g.stride() != span.param.stride():
                span.staged = torch.empty_strided(g.shape, span.param.stride(), dtype=g.dtype)
        self.staged = [(i, span.staged) for i, span in enumerate(self.spans) if span.staged is not None]
        self.plain = not self.staged and all(p.is_contiguous() for p in self.params)
        self.strides = [g.stride() for g in grads if g is not None]
        self.bytes = [*map(_BYTES, grads)]
        # Where 16 bits are not 16 bits; all other dtypes of a kernel differ in size.
        self.dtypes = [*map(_DTYPE, grads)] if any(_DTYPE(g).itemsize == 2 for g in grads) else None
        self.every_state = [*self.optimizer.state.values()]
        self.states = [span.state for span in self.spans]
        self.addresses = self._addresses()
        ends = [0]
        for launch in self.launches:
            ends.append(ends[-1] + len(launch.sizes))
        self.parts = list(zip(self.launches, ends, ends[1:], strict=False))
        self._count()

    def _addresses(self) -> list[int]:
        values = chain.from_iterable(map(dict.values, self.states))
        return [*map(_ADDRESS, chain(self.params, values))]

    def _count(self) -> None:
        """Let the first launch look after every tensor's own count of its steps, and what else it carries."""
        if not self.launches:
            return
        for launch in self.launches:
            launch.job[7] = 0
        names = ("step", *self.optimizer.rule.carried)
        entries = [
            (span.state[name].data_ptr(), span.state[name].item(), span.row, name)
            for name in names
            for span in self.spans
        ]
        self.launches[0].count([e[0] for e in entries], [e[1] for e in entries], [e[1] for e in entries], 0.0)
        counts = self.launches[0].counts
        steps = len(self.spans)
        counts[:steps, 1] += 1
        counts[:steps, 2] = 1
        self.carried = [
            (steps * (1 + k) + i, span.row, name)
            for k, name in enumerate(self.optimizer.rule.carried)
            for i, span in enumerate(self.spans)
        ]

    # ---- doing it -----------------------------------------------------------------------------------------------

    def run(self) -> bool:
        """Step everything; or nothing, if the plan no longer fits."""
        optimizer = self.optimizer
        groups, state = optimizer.param_groups, optimizer.state
        if len(groups) != len(self.groups) or len(state) != len(self.every_state):
            return False
        for group, (params, members) in zip(groups, self.groups, strict=True):
            now = group["params"]
            if now is not params or len(now) != len(members) or not all(map(is_, now, members)):
                return False
        if not all(map(is_, state.values(), self.every_state)):
            return False
        for p in self.idle:
            if p.grad is not None:
                return False
        grads = [*map(_GRAD, self.params)]
        try:
            at = [*map(_ADDRESS, grads)]
            fits = (
                self.addresses == self._addresses()
                and self.bytes == [*map(_BYTES, grads)]
                and (all(map(_CONTIGUOUS, grads)) if self.plain else self.strides == [g.stride() for g in grads])
                and (self.dtypes is None or self.dtypes == [*map(_DTYPE, grads)])
            )
        except (TypeError, RuntimeError):  # a gradient is None, or has no memory of the usual kind
            return False
        if not fits:
            return False
        for p, _, _ in self.others:
            if p.grad is None:
                return False
        for row in self.rows:
            if not row.fill():
                return False
        if self.staged:
            for i, staged in self.staged:
                staged.copy_(grads[i])
                at[i] = staged.data_ptr()
        if self.carried:
            counts = self.launches[0].counts
            for place, row, name in self.carried:
                counts[place, 1] = row.after[name]
        for launch, start, stop in self.parts:
            launch.point(1, at[start:stop])
            if not launch():  # only the first has counters, and says no before anything is done
                return False
        if self.params:
            torch.autograd.graph.increment_version(self.params)
        for p, row, own in self.others:
            self._step_other(p, row, own)
        for row in self.rows:
            row.advance()
        return True

    def _step_other(self, p: torch.Tensor, row: Row, state: dict[str, Any]) -> None:
        """Step a tensor by the rule on tensors."""
        g = p.grad
        assert g is not None
        scalars = row.row()
        differentiable = bool(row.group.get("differentiable"))
        with torch.set_grad_enabled(differentiable and torch.is_grad_enabled()):
            if g.layout is not torch.strided:
                self.optimizer._step_sparse(row.rule, scalars, p, g, state)
            else:
                tensor_step(row.rule, scalars, p, g, state)
        with torch.no_grad():
            state["step"] += 1
            for name in self.optimizer.rule.carried:
                state[name].fill_(row.after[name])


def _flags(rule: Rule) -> tuple[Any, ...]:
    """What of a rule is compiled into its kernel."""
    row = rule._constants | rule._decay
    return (rule.kept_state(), *(v for v in row.values() if isinstance(v, bool)))


def _dense(t: torch.Tensor) -> bool:
    """Whether the tensor's numbers fill one run of memory, each once, in whatever order."""
    if t.is_contiguous():
        return True
    expected = 1
    for stride, size in sorted((s, n) for s, n in zip(t.stride(), t.shape, strict=True) if n != 1):
        if stride != expected:
            return False
        expected *= size
    return True


def plain(value: Any) -> Any:
    """Hyperparameters as Python's own: tensors as numbers, lists as tuples."""
    if isinstance(value, torch.Tensor):
        return value.item()
    return tuple(map(plain, value)) if isinstance(value, (tuple, list)) else value


def _float32(value: float) -> float:
    return float(np.float32(value))
