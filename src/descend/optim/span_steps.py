"""The part of a step plan that machine code carries out: tensors as spans, in a launch for each kernel."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from descend.engines.memory import Intervals
from descend.engines.native.availability import Unavailable, why_not
from descend.engines.native.formats import FORMATS, Layout
from descend.engines.native.launch import Launch, lay_out
from descend.engines.native.layout import GRAD, PARAM, STATE
from descend.engines.native.scalars import Scalars
from descend.engines.torch.memory import alike, dense, extent
from descend.engines.torch.openmp import openmp_threads
from descend.optim.group_rules import GroupScalars
from descend.optim.planning import Member
from descend.optim.state import is_wide

__all__ = ["PlannedSpan", "SpanChoice", "SpanSteps"]

Decline = Callable[[Member, str, bool], None]
_FORMATS = {getattr(torch, name): name for name in FORMATS}


@dataclasses.dataclass(slots=True, eq=False)
class PlannedSpan:
    """A tensor that a kernel steps."""

    member: Member
    staged: torch.Tensor | None
    """Where its gradient is copied to before each step, if a kernel cannot read it where it is."""
    launch: Launch | None = None
    """What steps it."""
    place: int = 0
    """Which span of its launch it is."""


class SpanChoice(NamedTuple):
    """What of the spans is stepped where certain members have a gradient."""

    there: Any
    """Of each span, 1 if it is, else 0."""
    masks: list[Any]
    """The same for each launch."""
    stepped: list[torch.Tensor]
    """The parameters that a step moves."""
    copied: list[tuple[int, PlannedSpan]]
    """The spans whose gradients are copied first, and which they are."""
    carried: list[tuple[int, GroupScalars, str]]
    """The counters of what rules carry: which, whose scalars, and the name."""


class SpanSteps:
    """Steps tensors in machine code.

    Parameters
    ----------
    members
        All that a step may move, in order.
    decline
        Called with each member that no kernel can step, the reason, and whether that is unusual.
    entangled
        Whether a gradient may lie where its own parameter or state is written.

    The first launch looks after the counters of all tensors: it steps nothing if one of them is not what it should be.
    """

    def __init__(self, members: Sequence[Member], decline: Decline, *, entangled: bool) -> None:
        grouped: dict[Any, list[PlannedSpan]] = {}
        for member in members:
            why = _obstacle(member)
            if why is None:
                grouped.setdefault(_key(member), []).append(PlannedSpan(member, _staging(member, entangled)))
            else:
                decline(member, why, False)
        self.launches: list[Launch] = []
        self._targets: dict[tuple[GroupScalars, Launch], Scalars] = {}
        self.spans: list[PlannedSpan] = []
        for key, spans in grouped.items():
            layout = Layout(_FORMATS[key[1]], _FORMATS[key[2]], tuple(_FORMATS[dtype] for dtype in key[3:]))
            why = why_not(layout)
            try:
                if why is not None:
                    raise Unavailable(why)
                launch = self._launch(layout, spans)
            except Unavailable as error:
                for span in spans:
                    decline(span.member, str(error), True)
                continue
            self.launches.append(launch)
            self.spans += spans
        self.params = [span.member.param for span in self.spans]
        places = {member: i for i, member in enumerate(members)}
        self._places = [places[span.member] for span in self.spans]
        self._staged = [(i, span) for i, span in enumerate(self.spans) if span.staged is not None]
        alone = len(self.launches) == 1 and self.launches[0].quick and not self._staged
        self.quick = self.launches[0] if alone else None
        """The one launch, if guards may call it at once."""
        self.copied: list[tuple[int, PlannedSpan]] = []
        self.carried: list[tuple[int, GroupScalars, str]] = []
        self._watch()

    def _launch(self, layout: Layout, spans: list[PlannedSpan]) -> Launch:
        """The launch of spans that one kernel steps; raises `Unavailable`."""
        members = [span.member for span in spans]
        rows = list(dict.fromkeys(member.scalars for member in members))
        launch, targets = lay_out(
            [scalars.rule for scalars in rows],
            layout,
            [member.param.numel() for member in members],
            [rows.index(member.scalars) for member in members],
            openmp_threads,
        )
        for scalars, target in zip(rows, targets, strict=True):
            self._targets[scalars, launch] = target
            scalars.targets.append(target)
        launch.point(PARAM, [member.param.data_ptr() for member in members])
        for k, name in enumerate(launch.kernel.kept):
            launch.point(STATE + k, [member.state[name].data_ptr() for member in members])
        for place, span in enumerate(spans):
            span.launch, span.place = launch, place
        return launch

    def targets(self) -> list[int]:
        """For each span the address of the word in which guards note where its gradient is."""
        found: list[int] = []
        for launch in self.launches:
            column = launch.column(GRAD)
            first, apart = column.ctypes.data, column.strides[0]
            found += range(first, first + apart * len(column), apart)
        return found

    def _watch(self) -> None:
        """Let the first launch look after every tensor's own count of its steps, and what else it carries."""
        if self.launches:
            members = [span.member for span in self.spans]
            counters = [*zip(*(member.counters() for member in members), strict=True)]
            now = [number for numbers in zip(*(member.counts for member in members), strict=True) for number in numbers]
            addresses = [counter.data_ptr() for column in counters for counter in column]
            wide = [is_wide(counter) for column in counters for counter in column]
            self.launches[0].watch(addresses, now, now, [0.0] * len(now), wide)
            records = self.launches[0].counters
            self._now, self._next, self._all_growth = (records[name] for name in ("now", "next", "growth"))
            self._growth = self._all_growth[: len(self.spans)]  # of the counts of steps, which come first

    def choice(self, present: Sequence[int]) -> SpanChoice:
        """What is stepped where those members have a gradient for which `present` is 1."""
        there = [present[i] for i in self._places]
        mask = np.array(there, np.int64)
        masks, first = [], 0
        for launch in self.launches:
            masks.append(mask[first : first + len(launch.sizes)])
            first += len(launch.sizes)
        rule = self.spans[0].member.rule if self.spans else None
        return SpanChoice(
            mask,
            masks,
            [*itertools.compress(self.params, there)],
            [(i, span) for i, span in self._staged if there[i]],
            [
                (len(there) * k + i, span.member.scalars, name)
                for k, name in enumerate(rule.carried if rule else (), start=1)
                for i, span in enumerate(self.spans)
                if there[i]
            ],
        )

    def take(self, choice: SpanChoice) -> None:
        """Step from now on what was chosen, and leave the other spans as they are."""
        self.copied, self.carried = choice.copied, choice.carried
        for launch, mask in zip(self.launches, choice.masks, strict=True):
            launch.select(mask)
        if self.launches:
            self._growth[:] = choice.there
            np.add(self._now, self._all_growth, out=self._next)

    def carry(self) -> None:
        """Let the first launch write what each tensor carries after this step."""
        first = self.launches[0]
        for counter, scalars, name in self.carried:
            first.expect(counter, scalars.after[name])

    def split(self, scalars: GroupScalars, others: GroupScalars) -> None:
        """Let those members that have got other scalars read them from rows of their own."""
        for launch in self.launches:
            its = [span for span in self.spans if span.launch is launch]
            places = [span.place for span in its if span.member.scalars is others]
            if not places:
                continue
            if any(span.member.scalars is scalars for span in its):
                target = Scalars(others.rule, launch.new_row(places), launch.kernel.numbers)
            else:  # nobody else reads that row
                target = self._targets.pop((scalars, launch))
                scalars.targets.remove(target)
            self._targets[others, launch] = target
            others.targets.append(target)

    def run(self, grads: Sequence[torch.Tensor]) -> bool:
        """Step along these gradients, one for each span; False, and nothing done, if a count of steps is wrong."""
        for i, span in self.copied:
            assert span.staged is not None
            assert span.launch is not None
            span.staged.copy_(grads[i])
            span.launch.column(GRAD)[span.place] = span.staged.data_ptr()
        return all(launch() for launch in self.launches)  # after the first, which has the counters, none refuses


def _obstacle(member: Member) -> str | None:
    """Why no kernel can step a tensor; None if one can."""
    p, g, group = member.param, member.param.grad, member.group
    if group.get("fused") is False or group.get("foreach") or group.get("differentiable"):
        return "another way was asked for"
    if type(p) not in (torch.Tensor, torch.nn.Parameter) or type(g) not in (torch.Tensor, type(None)):
        return f"it is a {type(p).__name__} with a gradient of type {type(g).__name__}"
    if p.device.type != "cpu":
        return f"a parameter is on {p.device}, and kernels run on the CPU"
    arrays = member.arrays()
    for what, t in (("a parameter", p), ("a gradient", g), *(("state", a) for a in arrays)):
        if t is not None and t.dtype not in _FORMATS:
            return f"{what} has dtype {t.dtype}"
        if t is not None and t.layout is not torch.strided:
            return f"{what} has layout {t.layout}"
    if not dense(p):
        return f"a parameter of strides {p.stride()} leaves gaps or overlaps"
    if not all(type(a) is torch.Tensor and alike(a, p) for a in arrays):
        return "state is not laid out as its parameter"
    if not all(map(_is_its_memory, (p, *arrays))) or not (g is None or _has_memory(g)):
        return "a parameter, its gradient or its state is not what its memory holds"
    return None


def _has_memory(t: torch.Tensor) -> bool:
    try:
        return bool(t.data_ptr()) or not t.numel()
    except RuntimeError:  # PyTorch's, for tensors that stand for others
        return False


def _is_its_memory(t: torch.Tensor) -> bool:
    """Whether a tensor's numbers are those in its memory: PyTorch negates some later, and has zeros without memory."""
    return _has_memory(t) and not (t.is_neg() or t._is_zerotensor())


def _staging(member: Member, entangled: bool) -> torch.Tensor | None:
    """Memory for a copy of a gradient that a kernel cannot read where it is, laid out as the parameter; else None."""
    p, g = member.param, member.param.grad
    if g is None:
        return None
    if alike(g, p) and _is_its_memory(g) and not (entangled and _lies_within(g, (p, *member.arrays()))):
        return None
    return torch.empty_strided(g.shape, p.stride(), dtype=g.dtype, device=g.device)  # whatever the default device is


def _lies_within(g: torch.Tensor, others: Sequence[torch.Tensor]) -> bool:
    lies = extent(g)
    return lies is not None and Intervals(found for t in others if (found := extent(t))).meets(*lies)


def _key(member: Member) -> tuple[Any, ...]:
    """What tensors that can be stepped in one call have in common."""
    p = member.param
    grad = p.dtype if p.grad is None else p.grad.dtype
    return member.scalars.kind, p.dtype, grad, *(a.dtype for a in member.arrays())
