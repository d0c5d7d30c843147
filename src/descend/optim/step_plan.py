"""What an optimizer's step does, worked out once, and checked each time in a few microseconds.

A step of a small network takes less time in machine code than Python needs to look at its tensors. So whatever
cannot change unseen is kept from step to step: which tensors there are, where they lie, which kernel steps them, which
numbers the kernel expects. Each step compares all that with what is there now, in bulk, and makes a new plan if
anything differs: a gradient that came or went, state that was loaded or moved, a group that was edited.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from descend.engines.native.formats import FORMATS, Layout
from descend.engines.native.kernels import Kernel, Unavailable, kernel
from descend.engines.native.launch import Launch, Scalars, best_kernel
from descend.engines.torch.compiled import LARGE, compiled_step
from descend.engines.torch.foreach import foreach_step
from descend.engines.torch.guards import snapshot
from descend.engines.torch.openmp import team
from descend.engines.torch.sparse import sparse_step
from descend.engines.torch.tensors import differentiable_row, tensor_step
from descend.errors import ParameterError, RuleError
from descend.rules import Rule

if TYPE_CHECKING:
    from descend.optim.optimizer import Optimizer

__all__ = ["Plan", "plain"]

_GRAD = torch.Tensor.grad.__get__
_NUMBERS = (float, int, bool, np.float64)
_FORMATS = {getattr(torch, name): name for name in FORMATS}


class Row:
    """The scalars of the tensors of one group that are at the same step."""

    def __init__(self, optimizer: Optimizer, group: dict[str, Any], t: int, carried: dict[str, float]) -> None:
        self.optimizer = optimizer
        self.group = group
        self.done = t
        self.carried = carried
        self.rule: Rule = optimizer._rule_of(group)
        self.flags = _flags(self.rule)
        self.scalars: list[Scalars] = []
        self.after: Mapping[str, float] = carried
        given = optimizer._asked(group)
        self._note(given, plain(given))

    def _note(self, given: tuple[Any, ...], asked: tuple[Any, ...]) -> None:
        self.asked = asked
        self.fixed = type(self.group) is dict and all(map(_fixed, given))
        """Whether the group's hyperparameters stay the same as long as the objects in it do."""
        self.settled = False
        """Whether no step changes its scalars any more, if the group stays as it is."""

    def fill(self) -> bool:
        """Write the scalars of the next step; False if the group now asks for another kernel."""
        if not self.fixed and not self.follow():
            return False
        settled = self.fixed
        for scalars in self.scalars:
            self.after = scalars.fill(self.done + 1, self.carried)
            settled = settled and scalars.constant
        self.settled = settled
        return True

    def follow(self) -> bool:
        """Take the hyperparameters that the group has now; False if it asks for another kernel."""
        given = self.optimizer._asked(self.group)
        asked = plain(given)
        if asked != self.asked:
            many = len(self.optimizer._names)
            if asked[many:] != self.asked[many:]:
                return False
            self.rule = self.optimizer._rule_with(asked[:many])
            if _flags(self.rule) != self.flags:
                return False
            for scalars in self.scalars:
                scalars.change(self.rule)
        self._note(given, asked)
        return True

    def row(self) -> Any:
        """The scalars of the next step as `Rule.row` has them; with autograd on, tensors of which it follows."""
        row, self.after = self.rule.advance(self.done + 1, self.carried)
        if torch.is_grad_enabled():
            values = dict(zip(self.optimizer._names, self.optimizer._asked(self.group), strict=False))
            row = differentiable_row(self.rule, row, values, self.done + 1, self.carried)
        return row


@dataclasses.dataclass
class _Span:
    """A tensor that a kernel steps."""

    param: torch.Tensor
    row: Row
    state: dict[str, Any]
    staged: torch.Tensor | None
    """Where its gradient is copied to, if it is not laid out as the parameter is."""


@dataclasses.dataclass
class _Other:
    """A tensor that no kernel steps."""

    param: torch.Tensor
    row: Row
    state: dict[str, Any]

    def __post_init__(self) -> None:
        self.way = _way(self)
        self.seen = self._look()

    def _look(self) -> list[Any]:
        """What of its tensors decides how it is stepped."""
        tensors = (self.param, self.param.grad, *(self.state[name] for name in self.row.rule.kept_state()))
        return [(type(t), t.device, t.dtype, t.layout, t.layout is torch.strided and t.stride()) for t in tensors]

    def fits(self) -> bool:
        """Whether it is still as it was planned."""
        p, row, state = self.param, self.row, self.state
        g = p.grad
        try:
            return (
                g is not None
                and g.shape == p.shape
                and state["step"].item() == row.done
                and all(state[name].item() == value for name, value in row.carried.items())
                and all(state[name].shape == p.shape for name in row.rule.kept_state())
                and self._look() == self.seen
            )
        except (KeyError, AttributeError):
            return False


class Plan:
    """How to step every tensor that has a gradient; see the module.

    A tensor that stands several times in its group is stepped as often, as in `torch.optim`: the first time in round 0,
    and then in one round each. `rounds` is how many there are.
    """

    def __init__(self, optimizer: Optimizer, number: int = 0) -> None:
        self.optimizer = optimizer
        self.rounds = 1
        self.rows: list[Row] = []
        self.idle: list[torch.Tensor] = []
        self.others: list[_Other] = []
        spans: dict[Any, list[_Span]] = {}
        for group in optimizer.param_groups:
            rows: dict[Any, Row] = {}
            times: dict[torch.Tensor, int] = {}
            for p in group["params"]:
                turn = times.get(p, 0)
                times[p] = turn + 1
                self.rounds = max(self.rounds, turn + 1)
                if turn != number:
                    continue
                if p.grad is None:
                    self.idle.append(p)
                    continue
                if p.grad.shape != p.shape:
                    raise ParameterError(
                        f"the gradient of {optimizer._name(p)} has shape {tuple(p.grad.shape)}, the parameter "
                        f"{tuple(p.shape)}: its data were replaced after the gradient was taken"
                    )
                state = optimizer._state_of(p, group)
                carried = {name: state[name].item() for name in optimizer.rule.carried}
                t = int(state["step"])
                row = rows.get((t, *carried.values()))
                if row is None:
                    row = rows[t, *carried.values()] = Row(optimizer, group, t, carried)
                    self.rows.append(row)
                why = self._obstacle(p, group)
                if why is None:
                    spans.setdefault(self._key(p, row, state), []).append(_Span(p, row, state, None))
                else:
                    self._without_kernel(p, row, state, why)
        self.launches: list[Launch] = []
        for key, members in list(spans.items()):
            machine = self._kernel(key, members)
            if machine is None:
                del spans[key]
            else:
                self.launches.append(self._launch(key, members, machine))
        self.batches: dict[Any, list[_Other]] = {}
        for other in self.others:
            self.batches.setdefault(other.way, []).append(other)
        self.spans = [span for members in spans.values() for span in members]
        self.params = [span.param for span in self.spans]
        self._note(list(spans.values()))
        self.look = self.seen.look
        self.revised, self.unsettled = False, self.rows

    # ---- making it ----------------------------------------------------------------------------------------------

    def _obstacle(self, p: torch.Tensor, group: dict[str, Any]) -> str | None:
        """Why no kernel can step this tensor; None if one can."""
        g = p.grad
        assert g is not None
        if group["fused"] is False or group["foreach"] or group["differentiable"]:
            return "another way was asked for"
        if type(p) not in (torch.Tensor, torch.nn.Parameter) or type(g) is not torch.Tensor:
            return f"it is a {type(p).__name__} with a gradient of type {type(g).__name__}"
        if p.device.type != "cpu":
            return f"a parameter is on {p.device}, and kernels run on the CPU"
        if p.dtype not in _FORMATS or g.dtype not in _FORMATS:
            return f"a parameter has dtype {p.dtype} and a gradient of {g.dtype}"
        if g.layout is not torch.strided or p.layout is not torch.strided:
            return f"a gradient has layout {g.layout}"
        if not _dense(p):
            return f"a parameter of strides {p.stride()} leaves gaps or overlaps"
        if p.is_neg() or g.is_neg() or g._is_zerotensor() or (p.numel() and not (p.data_ptr() and g.data_ptr())):
            return "a parameter or its gradient is not what its memory holds"
        return None

    def _key(self, p: torch.Tensor, row: Row, state: dict[str, Any]) -> Any:
        """What tensors that can be stepped in one call have in common."""
        assert p.grad is not None
        return row.flags, p.dtype, p.grad.dtype, *(state[name].dtype for name in row.rule.kept_state())

    def _without_kernel(self, p: torch.Tensor, row: Row, state: dict[str, Any], why: str) -> None:
        """Step a tensor in another way, if that is allowed."""
        if row.group["fused"]:
            raise RuntimeError(f"fused=True, but {why}; leave fused out to step it in another way")
        self.others.append(_Other(p, row, state))

    def _kernel(self, key: Any, members: list[_Span]) -> Kernel | None:
        """The kernel for the spans with this key; without one, they are stepped in another way."""
        if any(dtype not in _FORMATS for dtype in key[1:]):
            why = f"state has dtype {', '.join(str(d) for d in key[3:] if d not in _FORMATS)}"
        else:
            try:
                return best_kernel(members[0].row.rule, _layout(key), sum(span.param.numel() for span in members))
            except Unavailable as error:
                why = str(error)
                if not all(span.row.group["fused"] for span in members):
                    self.optimizer._say_once(f"steps without machine code: {error}")
        for span in members:
            self._without_kernel(span.param, span.row, span.state, why)
        return None

    def _launch(self, key: Any, spans: list[_Span], machine: Kernel) -> Launch:
        rule = spans[0].row.rule
        rows = list(dict.fromkeys(span.row for span in spans))
        launch = Launch(
            machine,
            [span.param.numel() for span in spans],
            [rows.index(span.row) for span in spans],
            counting=kernel(rule, machine.layout, counting=True) if rule.cautious else None,
            helpers=team,
        )
        for i, row in enumerate(rows):
            row.scalars.append(Scalars(row.rule, memoryview(launch.scalars[i]), machine.numbers))
        launch.point(0, [span.param.data_ptr() for span in spans])
        for k, name in enumerate(machine.kept):
            launch.point(2 + k, [span.state[name].data_ptr() for span in spans])
        return launch

    def _note(self, launched: list[list[_Span]]) -> None:
        """Note what the next steps are compared with."""
        grads = [p.grad for p in self.params]
        for span, g in zip(self.spans, grads, strict=True):
            assert g is not None
            if not _alike(g, span.param):
                span.staged = torch.empty_strided(g.shape, span.param.stride(), dtype=g.dtype)
        targets: list[int] = []
        self.staged: list[tuple[torch.Tensor, torch.Tensor, Any]] = []
        for launch, members in zip(self.launches, launched, strict=True):
            column = launch.column(1)
            for k, span in enumerate(members):
                if span.staged is not None:
                    self.staged.append((span.param, span.staged, column[k : k + 1]))
                targets.append(column[k:].ctypes.data)
        # What a kernel reads and writes. The tensors are held, so that their memory cannot become another tensor's.
        tensors = {id(p) for p in self.params}
        for span in self.spans:
            names = ("step", *self.optimizer.rule.carried, *span.row.rule.kept_state())
            tensors |= {id(span.state[name]) for name in names}
        alone = len(self.launches) == 1 and self.launches[0].quick and not self.staged
        self.quick = self.launches[0] if alone else None
        self._count()
        optimizer, groups = self.optimizer, self.optimizer.param_groups
        attributes = [(optimizer, "param_groups"), (optimizer, "state"), *((p, "grad") for p in self.idle)]
        states = [span.state for span in self.spans]
        containers = [*groups, groups, *(group["params"] for group in groups), optimizer.state, *states]
        self.groups = len(groups)
        self.seen = snapshot(attributes, containers, tensors, self.params, targets, self.quick)
        self.anchors = _anchors(states, tensors)

    def _count(self) -> None:
        """Let the first launch look after every tensor's own count of its steps, and what else it carries."""
        self.carried: list[tuple[int, Row, str]] = []
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
        for row in self.unsettled:
            if not row.fill():
                return False
            if row.settled:
                self.revised = True
        if self.others and not all(map(_Other.fits, self.others)):
            return False
        if self.carried:
            self._carry()
        try:
            if self.look() >= 0 and not self._look_again():
                return False
        except (RuntimeError, SystemError):  # a tensor has no memory of the usual kind
            return False
        if self.quick is None:
            for p, copy, target in self.staged:
                copy.copy_(_GRAD(p))
                target[0] = copy.data_ptr()
            for launch in self.launches:
                if not launch():  # only the first has counters, and says no before anything is done
                    return False
        if self.params:
            torch.autograd.graph.increment_version(self.params)
        if self.batches:
            for (row, way, *_), members in self.batches.items():
                self._step_others(row, way, members)
        for row in self.rows:
            row.done += 1
            if row.carried:
                row.carried = {name: _float32(value) for name, value in row.after.items()}
        if self.revised:
            self.revised, self.unsettled = False, [row for row in self.rows if not row.settled]
        return True

    def _look_again(self) -> bool:
        """Look anew after something was not as it was: with the hyperparameters that the groups have now."""
        for row in self.rows:
            if not (row.follow() and row.fill()):
                return False
        self.revised = True
        if self.carried:
            self._carry()
        return self.seen.renew(self.groups) and self.look() < 0

    def _carry(self) -> None:
        """Let the first launch write what each tensor carries after this step."""
        counts = self.launches[0].counts
        for place, row, name in self.carried:
            counts[place, 1] = row.after[name]

    def _step_others(self, row: Row, way: Any, members: list[_Other]) -> None:
        """Step tensors by the rule on tensors."""
        optimizer = self.optimizer
        with torch.set_grad_enabled(bool(row.group["differentiable"])):
            scalars = row.row()
            if way is not tensor_step and not self._together(row, scalars, way, members):
                way = tensor_step
            if way is tensor_step:
                for other in members:
                    p, g = other.param, other.param.grad
                    assert g is not None
                    if g.layout is not torch.strided:
                        sparse_step(row.rule, scalars, p, g, other.state, lambda p=p: optimizer._name(p))
                    else:
                        tensor_step(row.rule, scalars, p, g, other.state)
        with torch.no_grad():
            for other in members:
                other.state["step"] += 1
                for name in optimizer.rule.carried:
                    other.state[name].fill_(row.after[name])

    def _together(self, row: Row, scalars: Any, way: Any, members: list[_Other]) -> bool:
        """Step tensors in the faster ways; False, and nothing done, if none of them can."""
        optimizer, rule = self.optimizer, row.rule
        if way in optimizer._failed:
            return False
        params = [other.param for other in members]
        states = [other.state for other in members]
        try:
            if way is foreach_step:
                foreach_step(rule, scalars, params, list(map(_GRAD, params)), states)
            else:
                for p, state in zip(params, states, strict=True):
                    compiled_step(rule, scalars, p, _GRAD(p), state)
        except Exception as error:  # no compiler, not enough memory, a formula that asks for one tensor
            optimizer._failed.add(way)
            first = next(iter(str(error).strip().splitlines()), "")
            optimizer._say_once(f"steps one tensor after the other: {type(error).__name__}: {first}")
            return False
        return True


def _elsewhere(p: torch.Tensor) -> bool:
    """Whether a tensor is on a device of its own, where a call takes longer than a small tensor's arithmetic."""
    return bool(p.device.type != "cpu")


def _way(other: _Other) -> Any:
    """How a tensor is stepped that no kernel steps: tensors with the same answer may be stepped together.

    The row; the function, which is `tensor_step` for one tensor, `foreach_step` for many or `compiled_step`; and what
    the tensors have in common.
    """
    p, row, state = other.param, other.row, other.state
    g, group = p.grad, row.group
    assert g is not None
    plain = type(p) in (torch.Tensor, torch.nn.Parameter) and type(g) is torch.Tensor
    elsewhere = _elsewhere(p)
    together = group["foreach"] or (group["foreach"] is None and elsewhere)
    if not together or not plain or g.layout is not torch.strided or group["differentiable"]:
        return row, tensor_step, id(p)
    if elsewhere and p.numel() >= LARGE and p.device.type != "meta" and not (p.is_complex() or row.rule.cautious):
        arrays = [g, *(state[name] for name in row.rule.kept_state())]
        if _dense(p) and not p.is_neg() and not g.is_neg() and all(_alike(t, p) for t in arrays):
            return row, compiled_step, id(p)
    return row, foreach_step, p.device, p.dtype, g.dtype


def _layout(key: Any) -> Layout:
    """The layout of the tensors that have this key in common."""
    param, grad, *state = (_FORMATS[dtype] for dtype in key[1:])
    return Layout(param, grad, tuple(state))


def _alike(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two tensors of one shape lie in memory alike; where there is one number, its stride does not matter."""
    return all(n == 1 or s == t for n, s, t in zip(a.shape, a.stride(), b.stride(), strict=True))


def _flags(rule: Rule) -> tuple[Any, ...]:
    """What of a rule decides which kernel steps it."""
    return rule.kept_state(), rule.flags


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
    if value is None or type(value) in _NUMBERS:
        return value
    if isinstance(value, torch.Tensor):
        if value.numel() != 1:
            raise RuleError(f"a hyperparameter is a tensor of shape {tuple(value.shape)}: one number is needed")
        return value.item()
    return tuple(map(plain, value)) if isinstance(value, (tuple, list)) else value


def _anchors(states: list[dict[str, Any]], known: set[int]) -> list[Any]:
    """What makes it quick to look at the state, as long as it is held.

    Where nothing of PyTorch's own refers to a tensor but its Python object, each look at it from C counts references
    twice, which takes longer than the look. A capsule of DLPack does refer to it. Parameters get none: they may be in a
    cycle of references, which Python's collector cannot free where one of them is not Python's.
    """
    kept = [thing for state in states for thing in state.values() if id(thing) in known]
    return [torch.utils.dlpack.to_dlpack(tensor) for tensor in kept if not tensor.requires_grad]


def _fixed(value: Any) -> bool:
    """Whether a hyperparameter's number cannot change while it is the same object."""
    return value is None or type(value) in _NUMBERS or (type(value) is tuple and all(map(_fixed, value)))


def _float32(value: float) -> float:
    return float(np.float32(value))
