"""A module's parameters in the memory of a descent: the module computes with what the descent steps."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch

from descend.engines.torch.memory import extent, sharing
from descend.errors import ObjectiveError, ProblemError
from descend.parameters.memory import Array, Memory

__all__ = ["Binding", "same_memory", "trained", "untrained"]


def trained(module: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """The parameters of a module that a descent steps: those that require a gradient, and hold a number at least."""
    return {name: p for name, p in module.named_parameters() if p.requires_grad and p.numel()}


def untrained(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The buffers of a module, persistent or not, and its parameters that no descent steps."""
    fixed = {name: p for name, p in module.named_parameters() if not (p.requires_grad and p.numel())}
    return {**dict(module.named_buffers()), **fixed}


def same_memory(tensors: Mapping[str, torch.Tensor], others: Mapping[str, torch.Tensor]) -> list[tuple[str, str]]:
    """The pairs of names, one of each, whose tensors share memory."""
    sides = [(extent(t), name, side) for side, named in enumerate((tensors, others)) for name, t in named.items()]
    reach: list[tuple[int, str]] = [(0, ""), (0, "")]
    """Up to where the memory seen so far goes, of either side, and whose it is."""
    found = []
    for place, name, side in sorted((place, name, side) for place, name, side in sides if place is not None):
        end, other = reach[1 - side]
        if place[0] < end:
            found.append((name, other) if side == 0 else (other, name))
        reach[side] = max(reach[side], (place[1], name))
    return found


class Binding:
    """The parameters of a module that are trained, and the memory that they lie in.

    The module is called as it is, so whatever reaches its parameters finds those that are stepped: hooks, checkpoints
    that compute again in the backward pass, other references. Where nothing else shares a parameter's own memory, its
    data become a view of the descent's, and no number is copied. Elsewhere (a view or a detached tensor that the
    module keeps, say) the parameter stays where it is, and is copied before and after each gradient.

    Raises `ProblemError` for parameters that no descent can step.
    """

    def __init__(self, module: torch.nn.Module, problem: str) -> None:
        self.module = module
        self.parameters = dict(sorted(trained(module).items()))
        """By name, in the order in which a memory has the leaves of a dict."""
        self._bound: list[tuple[torch.nn.Parameter, int]] = []
        """The parameters that are views of the memory, each with its address."""
        self._copied: list[tuple[torch.nn.Parameter, torch.Tensor]] = []
        """The parameters that are copied, each with the view of the memory that it is copied from."""
        self._leaves: list[Array] | None = None
        """The leaves of the memory that the parameters are bound to."""
        self._check(problem)

    def attach(self, memory: Memory) -> None:
        """Have the module compute with the numbers of the memory, without gradients as yet."""
        with torch.no_grad():
            if self._leaves is not memory.leaves:
                self._bind(memory)
            for parameter, view in self._copied:
                parameter.copy_(view)
        # The descent has written to them since; autograd must know, as it does of torch.optim's steps.
        for parameter, _ in self._bound:
            torch.autograd.graph.increment_version(parameter)
        for parameter in self.parameters.values():
            parameter.grad = None

    def write_back(self) -> None:
        """Take over into the memory what the module, or a hook, has written to its parameters."""
        moved = [parameter for parameter, address in self._bound if parameter.data_ptr() != address]
        if moved:  # by an assignment to .data
            self._copy_from_now_on(moved)
        with torch.no_grad():
            for parameter, view in self._copied:
                view.copy_(parameter)

    @contextlib.contextmanager
    def showing(self, tensors: Mapping[str, Any]) -> Iterator[None]:
        """Have the module compute with these numbers, and leave them as they are, whatever it writes to parameters."""
        with torch.no_grad():
            self._show(tensors)
            kept = [(parameter, parameter.data, parameter.clone()) for parameter in self.parameters.values()]
        try:
            yield
        finally:
            with torch.no_grad():
                for parameter, data, numbers in kept:
                    if parameter.data_ptr() != data.data_ptr():
                        parameter.data = data
                    if not torch.equal(parameter, numbers):
                        parameter.copy_(numbers)

    def _show(self, tensors: Mapping[str, Any]) -> None:
        """Copy numbers into the parameters, or have these be views of them."""
        bound = {id(parameter) for parameter, _ in self._bound}
        for name, parameter in self.parameters.items():
            tensor = torch.as_tensor(tensors[name])
            if id(parameter) not in bound:
                parameter.copy_(tensor)
            elif tensor.data_ptr() != parameter.data_ptr():
                parameter.data = tensor.detach()
                self._leaves = None

    def gradients(self) -> dict[str, torch.Tensor | None]:
        """What the last backward pass has left as gradients; None where it has not come by."""
        return {name: parameter.grad for name, parameter in self.parameters.items()}

    def _bind(self, memory: Memory) -> None:
        self._bound, self._copied = [], []
        for parameter, leaf in zip(self.parameters.values(), memory.leaves, strict=True):
            view = torch.from_numpy(leaf)
            if _is_alone(parameter):
                parameter.data = view
                self._bound.append((parameter, parameter.data_ptr()))
            else:
                self._copied.append((parameter, view))
        self._leaves = memory.leaves

    def _copy_from_now_on(self, moved: Iterable[torch.nn.Parameter]) -> None:
        assert self._leaves is not None
        ids = {id(parameter) for parameter in moved}
        for (name, parameter), leaf in zip(self.parameters.items(), self._leaves, strict=True):
            if id(parameter) in ids:
                if parameter.shape != leaf.shape:
                    raise ObjectiveError(
                        f"the module gave its parameter {name} the shape {list(parameter.shape)} in place of "
                        f"{list(leaf.shape)}: a parameter keeps its shape in training"
                    )
                self._copied.append((parameter, torch.from_numpy(leaf)))
        self._bound = [(parameter, address) for parameter, address in self._bound if id(parameter) not in ids]

    def _check(self, problem: str) -> None:
        if not self.parameters:
            raise ProblemError(f"{problem}: the module has no parameter that requires a gradient")
        for name, parameter in self.parameters.items():
            if parameter.dtype not in (torch.float32, torch.float64):
                remedy = (
                    "train its real and imaginary parts as two parameters (torch.view_as_real)"
                    if parameter.is_complex()
                    else "call .float() on the module, and on floats among the data"
                )
                raise ProblemError(
                    f"{problem}: the parameter {name} has the type {str(parameter.dtype).removeprefix('torch.')}; "
                    f"float32 and float64 are trained; {remedy}, or train with descend.optim in a loop of your own"
                )
            if parameter.device.type != "cpu" or parameter.layout is not torch.strided:
                raise ProblemError(
                    f"{problem}: the parameter {name} is {parameter.layout} on {parameter.device}; dense parameters on "
                    "the CPU are trained; move the module there, or train with descend.optim in a loop of your own"
                )
        if (pair := sharing(self.parameters.values())) is not None:
            one, other = (list(self.parameters)[i] for i in pair)
            raise ProblemError(
                f"{problem}: the parameters {one} and {other} lie in the same memory; "
                "to tie them, assign the Parameter itself, not its .data"
            )


def _is_alone(parameter: torch.nn.Parameter) -> bool:
    """Whether a parameter is a plain one whose memory no other tensor shares."""
    return type(parameter) is torch.nn.Parameter and parameter.is_contiguous() and _users(parameter) <= ALONE


def _users(tensor: torch.Tensor) -> float:
    """How many hold the memory that a tensor is a part of; infinitely many where PyTorch does not tell."""
    count = getattr(torch._C, "_storage_Use_Count", None)
    return float("inf") if count is None else count(tensor.untyped_storage()._cdata)


ALONE = _users(torch.empty(1))
"""How many hold the memory of a tensor that nothing shares."""
