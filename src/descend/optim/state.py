"""What an optimizer keeps of each parameter: made at its first step, and laid out as the parameter is.

The state of a parameter is a dict, as in `torch.optim`: under ``step`` the number of its steps, and a rule's carried
numbers, as tensors of float32 that hold one number; and the arrays that the rule keeps, under the rule's names.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from descend.errors import StateError
from descend.optim.state_dtype import made_dtype
from descend.rules import Rule

__all__ = ["Counts", "complete", "counts", "lay_out"]

Counts = tuple[float, ...]
"""How many steps a tensor has made, and the numbers that its rule carries, in the order of `Rule.carried`."""


def lay_out(
    state: dict[str, Any], p: torch.Tensor, rule: Rule, dtype: torch.dtype | None, called: Callable[[], str]
) -> None:
    """Make the parameter's state whole, in place: what is missing is made, what lies otherwise than `p` is copied.

    Arrays that are made have this `dtype`; None stands for the parameter's, or float32 in place of 16 bits. Raises
    `StateError` for an array of another shape; `called` names the parameter in the message.
    """
    begun = any(state.get(name) is not None for name in rule.state)
    for name in [n for n, v in state.items() if v is None]:
        del state[name]
    for name, value in {"step": float(begun), **rule.starting()}.items():  # torch's SGD does not count its steps
        if not _is_count(state.get(name)):
            state[name] = torch.full((), float(state.get(name, value)), dtype=torch.float32, device="cpu")
    for name in rule.kept_state():
        array = state.get(name)
        if array is None:
            state[name] = _made(p, rule.initial(name), dtype)
        elif array.shape != p.shape:
            raise StateError(
                f"state {name!r} of {called()} has shape {tuple(array.shape)}, the parameter {tuple(p.shape)}"
            )
        elif array.stride() != p.stride() or array.device != p.device:
            laid_out = torch.empty_like(p.detach(), dtype=array.dtype, memory_format=torch.preserve_format)
            if laid_out.stride() != array.stride() or array.device != p.device:
                state[name] = laid_out.copy_(array)


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


def _is_count(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.dtype == torch.float32 and value.device.type == "cpu"


def _made(p: torch.Tensor, initial: float, dtype: torch.dtype | None) -> torch.Tensor:
    """An array of state, laid out as the parameter is, that holds one number everywhere."""
    dtype = made_dtype(p, dtype)
    if not initial and dtype is p.dtype:
        return torch.zeros_like(p.detach())  # the usual case, which is made in a third of the time
    fill = complex(initial, initial) if p.is_complex() else initial
    return torch.full_like(p.detach(), fill, dtype=dtype, memory_format=torch.preserve_format)
