"""What an optimizer keeps of each parameter: made at its first step, and laid out as the parameter is.

The state of a parameter is a dict, as in `torch.optim`: under ``step`` the number of its steps, and a rule's carried
numbers, as tensors of float32 that hold one number; and the arrays that the rule keeps, under the rule's names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from descend.checks import is_finite, shown
from descend.errors import StateError
from descend.optim.state_dtype import made_dtype
from descend.rules import Rule

__all__ = [
    "NARROW_STEPS",
    "Counts",
    "absent",
    "complete",
    "counts",
    "fault",
    "is_wide",
    "lay_out",
    "missing_for_good",
]

NARROW_STEPS, MOST_STEPS = 2**24, 2**53
"""Up to where float32 and float64 hold every whole number. A count that gets to the first goes on in float64, which
PyTorch reads as well."""

Counts = tuple[float, ...]
"""How many steps a tensor has made, and the numbers that its rule carries, in the order of `Rule.carried`."""


# ---- what state may be ------------------------------------------------------------------------------------------


def absent(value: Any) -> bool:
    """Whether an entry says that there is nothing: None, or the empty dict that PyTorch puts for what was not saved."""
    return value is None or (isinstance(value, Mapping) and not value)


def needs_count(rule: Rule) -> bool:
    """Whether a step depends on how many there were before, beyond whether it is the first; schedules aside."""
    steady = type(rule)() if rule.is_scheduled else rule
    return bool(rule.carried) or steady.constant_from() > 2.0


def fault(name: str, value: Any, p: torch.Tensor, rule: Rule | type[Rule]) -> str | None:
    """What is wrong with an entry of a parameter's state, as the rest of a sentence; None if nothing is."""
    if name == "step":
        steps = _number(value)
        if steps is None or not 0 <= steps <= MOST_STEPS or steps != int(steps):
            return f"is {shown(value)}: a whole number from 0 to 2**53 is needed"
    elif name in rule.carried:
        number = _number(value)
        if number is None or number < 0.0:
            return f"is {shown(value)}: a finite number ≥ 0 is needed"
    elif not isinstance(value, torch.Tensor):
        return f"is {shown(value)}: a tensor is needed"
    elif value.shape != p.shape:
        return f"has shape {tuple(value.shape)}, the parameter {tuple(p.shape)}"
    elif value.is_complex() != p.is_complex() or not (value.is_complex() or value.is_floating_point()):
        kind = "complex" if p.is_complex() else "floating-point"
        return f"has dtype {value.dtype}: a {kind} one is needed, as the parameter has {p.dtype}"
    elif value.layout is not torch.strided:
        return f"has layout {value.layout}: torch.strided is needed"
    elif value.is_meta and not p.is_meta:
        return "is on the device meta, where no numbers are"
    return None


def _number(value: Any) -> float | None:
    """One finite real number as a float; None if the value is none."""
    if isinstance(value, torch.Tensor):
        if value.numel() != 1 or value.is_meta or value.dtype is torch.bool or value.layout is not torch.strided:
            return None
        value = value.item()
    return float(value) if is_finite(value) else None


# ---- making it --------------------------------------------------------------------------------------------------


def lay_out(
    state: dict[str, Any],
    p: torch.Tensor,
    rule: Rule,
    dtype: torch.dtype | None,
    called: Callable[[], str],
    *,
    followed: bool = False,
) -> tuple[str, ...]:
    """Make the parameter's state whole, in place: what is missing is made, what lies otherwise than `p` is copied.

    Arrays that are made have this `dtype`; None stands for the parameter's, or float32 in place of 16 bits. Where
    others cannot go on without what is missing, since one count of steps corrects them all, the whole state begins
    anew. Returns the names of those arrays that begin after the parameter's first step, and whose first step is another
    one than those after it. If autograd follows the step (`followed`), carried numbers that need a gradient stay the
    tensors that they are. Raises `StateError` for entries that cannot be used; `called` names the parameter in the
    message.
    """
    if state:
        _tidy(state, p, rule, called)
    missing = [name for name in rule.kept_state() if name not in state]
    begun = any(name in state for name in rule.state)
    for name, value in {"step": float(begun), **rule.starting()}.items():  # torch's SGD does not count its steps
        there = state.get(name, value)
        if not (_is_count(there) or (followed and isinstance(there, torch.Tensor) and there.requires_grad)):
            number = _number(there) or 0.0
            wide = name == "step" and number >= NARROW_STEPS
            state[name] = torch.full((), number, dtype=torch.float64 if wide else torch.float32, device="cpu")
    for name in rule.kept_state():
        array = state.get(name)
        if array is None:
            state[name] = _made(p, rule.initial(name), dtype)
        elif array.stride() != p.stride() or array.device != p.device:
            laid_out = torch.empty_like(p.detach(), dtype=array.dtype, memory_format=torch.preserve_format)
            if laid_out.stride() != array.stride() or array.device != p.device:
                state[name] = laid_out.copy_(array)
    begins = tuple(name for name in missing if name in rule.first_step)
    return begins if begins and state["step"].item() > 0.0 else ()


def _tidy(state: dict[str, Any], p: torch.Tensor, rule: Rule, called: Callable[[], str]) -> None:
    """Leave in a parameter's state what can be used, in place; raises `StateError` for entries that cannot be."""
    for name in [n for n, v in state.items() if absent(v)]:
        del state[name]
    for name in ("step", *rule.carried, *rule.kept_state()):
        wrong = fault(name, state[name], p, rule) if name in state else None
        if wrong is not None:
            raise StateError(f"state {name!r} of {called()} {wrong}")
    if missing_for_good(state, rule):
        for name in ("step", *rule.carried, *rule.state):
            state.pop(name, None)


def missing_for_good(state: Mapping[str, Any], rule: Rule) -> list[str]:
    """What a parameter's state lacks without which its next step would be a wrong one; nothing if it has not begun."""
    whole = [name for name in rule.state if name not in rule.state_if and name not in rule.first_step]
    lost = [name for name in (*whole, "step", *rule.carried) if absent(state.get(name))]
    if not lost or not needs_count(rule):
        return []
    begun = any(not absent(state.get(name)) for name in rule.state) or (_number(state.get("step")) or 0.0) > 0.0
    return lost if begun else []


def complete(state: dict[str, Any] | None, p: torch.Tensor, rule: Rule) -> bool:
    """Whether `lay_out` would leave a parameter's state as it is."""
    if state is None or any(value is None for value in state.values()):
        return False
    if not all(_is_count(state.get(name)) for name in ("step", *rule.carried)):
        return False
    arrays = [state.get(name) for name in rule.kept_state()]
    return all(
        isinstance(a, torch.Tensor) and a.shape == p.shape and a.stride() == p.stride() and a.device == p.device
        for a in arrays
    )


def counts(state: dict[str, Any], rule: type[Rule]) -> Counts:
    """The numbers that a parameter's state counts, each read once: another process may count the same steps."""
    return tuple(state[name].item() for name in ("step", *rule.carried))


def is_wide(count: torch.Tensor) -> bool:
    """Whether a count of steps has outgrown float32."""
    return count.dtype is torch.float64


def _is_count(value: Any) -> bool:
    if not isinstance(value, torch.Tensor) or value.device.type != "cpu":
        return False
    return value.dtype in (torch.float32, torch.float64) and is_wide(value) == (value.item() >= NARROW_STEPS)


def _made(p: torch.Tensor, initial: float, dtype: torch.dtype | None) -> torch.Tensor:
    """An array of state, laid out as the parameter is, that holds one number everywhere."""
    dtype = made_dtype(p, dtype)
    if not initial and dtype is p.dtype:
        return torch.zeros_like(p.detach())  # the usual case, which is made in a third of the time
    fill = complex(initial, initial) if p.is_complex() else initial
    return torch.full_like(p.detach(), fill, dtype=dtype, memory_format=torch.preserve_format)
