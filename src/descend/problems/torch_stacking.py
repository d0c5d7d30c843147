"""Many PyTorch modules of one kind as one program, by `torch.func.vmap`; or why they cannot be."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.func import functional_call, grad_and_value, vmap

from descend.objectives.objective import Objective
from descend.parameters.memory import Array, Memory
from descend.parameters.rows import Rows
from descend.problems.splits import Split
from descend.problems.torch_binding import trained, untrained
from descend.problems.torch_instance import TorchInstance

if TYPE_CHECKING:
    from descend.problems.torch_problem import TorchProblem

__all__ = ["stacked", "unstackable"]

DEPTH = 4
"""How deep containers within a module's attributes are looked through."""


def unstackable(problem: TorchProblem, batch: Split) -> str | None:
    """Why descents of a problem cannot be one program, as far as its module and two steps tell; None if they can.

    In one program the module is called once for all, by ``functional_call`` with their parameters. That is the same as
    one call for each only where the module is a function of its parameters and its input, and of nothing else.
    """
    instance = problem.instance(0)
    return _held(instance.module) or _changed(instance, batch) or _in_the_graph(instance, batch)


def stacked(problem: TorchProblem, instances: Sequence[TorchInstance], memory: Rows, shared: bool) -> Objective:
    """Losses and gradients of many instances, whose parameters are the rows of `memory`, by `torch.func.vmap`."""
    module, lossfn = instances[0].module, problem.loss
    assert lossfn is not None
    assert problem.train is not None
    own = [untrained(one.module) for one in instances]
    fixed = {name: torch.stack([tensors[name].detach() for tensors in own]) for name in own[0]}

    def loss(params: Any, fixed: Any, *batch: torch.Tensor) -> torch.Tensor:
        return lossfn(functional_call(module, {**params, **fixed}, (batch[0],)), *batch[1:])

    over_batch = [None if shared else 0] * len(problem.train)
    slopes_and_losses = vmap(grad_and_value(loss), in_dims=(0, 0, *over_batch))

    def loss_and_grad(params: Any, *batch: torch.Tensor) -> tuple[Any, Any]:
        instances[0].mode(training=True)
        slopes, losses = slopes_and_losses(params, fixed, *batch)
        return losses, slopes

    return Objective(loss_and_grad, True, memory, live=True)


# ---- what stands in the way -----------------------------------------------------------------------------------------


def _held(module: torch.nn.Module) -> str | None:
    """What a module holds beside parameters and buffers that one call for all runs would not treat as a call for each.

    The modules of PyTorch itself are known; of them only hooks are asked for.
    """
    everywhere = {name.strip("_") for name, hooks in vars(torch.nn.modules.module).items() if _are_hooks(name, hooks)}
    if everywhere:
        return f"there are hooks on all modules ({min(everywhere)})"
    for name, parameter in trained(module).items():
        if parameter._backward_hooks or parameter._post_accumulate_grad_hooks:
            return f"the module's parameter {name} has a hook"
    known = {id(t) for t in (*module.parameters(), *module.buffers())}
    for path, part in module.named_modules():
        where = path or type(part).__name__
        if any(_are_hooks(name, hooks) for name, hooks in vars(part).items()):
            return f"the module's part {where} has a hook"
        if type(part).__module__.startswith("torch.nn."):
            continue
        for name, value in _attributes(part).items():
            for held in _contents(value):
                if isinstance(held, torch.nn.Module):
                    return f"{where}.{name} holds a module outside of the module's own"
                if isinstance(held, torch.Tensor):
                    kind = "one of its parameters by another reference" if id(held) in known else "a tensor"
                    return f"{where}.{name} holds {kind}, outside of the module's parameters and buffers"
    return None


def _changed(instance: TorchInstance, batch: Split) -> str | None:
    """What training changes in a module beside its parameters, or takes from elsewhere."""
    module, memory = instance.module, Memory(instance.params, "params")
    objective, grad, again = instance.objective(memory), memory.like(), memory.like()
    vectors, fixed, random = memory.snapshot(), instance.snapshot(), instance.random_state.clone()
    state = _state(module)
    loss = objective(grad, batch)
    if any(name not in fixed or not torch.equal(t, fixed[name]) for name, t in instance.snapshot().items()):
        return "the module's buffers change in training, as batch normalisation's running statistics do"
    if not torch.equal(random, instance.random_state):
        return "the module draws random numbers in training, as dropout does"
    if not all(map(np.array_equal, vectors, memory.vectors)):
        return "the module writes to its parameters in training"
    if instance.writes.get(True):
        return "the module or the loss writes to the examples it is given"
    if instance.without_gradient:
        return f"the module's parameter {min(instance.without_gradient)} has no gradient"
    sparse = [name for name, g in instance.binding.gradients().items() if g is not None and g.layout != torch.strided]
    if sparse:
        return f"the module's parameter {sparse[0]} has a sparse gradient"
    changed = state.items() ^ _state(module).items()
    if changed:
        return f"the module's {min(name for name, _ in changed)} changes in training"
    if not _close(loss, objective(again, batch), grad, again):
        return "the module's loss or gradient is another one when it is called again"
    return None


def _in_the_graph(instance: TorchInstance, batch: Split) -> str | None:
    """A function of the user's own between the parameters and the loss, whose backward pass may read anything."""
    lossfn = instance.problem.loss
    assert lossfn is not None
    with torch.enable_grad():
        loss = lossfn(instance.module(batch[0]), *batch[1:])
    for node in _nodes(loss.grad_fn):
        if isinstance(node, torch.autograd.function.BackwardCFunction):
            name = type(node).__name__.removesuffix("Backward")
            return f"the loss passes through {name}, an autograd function that is not one of PyTorch's operations"
    return None


def _nodes(last: Any) -> Iterator[Any]:
    """The nodes of the graph that a backward pass goes through."""
    seen, waiting = set(), [last]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            yield node
            waiting += [before for before, _ in node.next_functions]


def _close(loss: float, other: float, grad: Sequence[Array], again: Sequence[Array]) -> bool:
    """Whether two evaluations agree to rounding, which may depend on how threads share a sum."""
    pairs = [(np.array([loss]), np.array([other]), 1e-5), *((g, a, 1e-5) for g, a in zip(grad, again, strict=True))]
    return all(
        np.allclose(one, two, rtol=rtol, atol=rtol * float(np.max(np.abs(one))), equal_nan=True)
        for one, two, rtol in pairs
    )


# ---- a module's own attributes --------------------------------------------------------------------------------------


def _are_hooks(name: str, held: Any) -> bool:
    """Whether an attribute of that name holds hooks that a call or a backward pass runs."""
    return name.endswith("_hooks") and "state_dict" not in name and isinstance(held, Mapping) and bool(held)


def _attributes(part: torch.nn.Module) -> dict[str, Any]:
    """What a module's class or its user has set on it: neither PyTorch's own bookkeeping nor parts nor tensors."""
    usual = vars(torch.nn.Module())
    return {name: value for name, value in vars(part).items() if name not in usual}


def _contents(value: Any, depth: int = DEPTH) -> Iterable[Any]:
    """What a value holds, itself included, through containers and weak references."""
    yield value
    if isinstance(value, weakref.ref):
        value = (value(),)
    if isinstance(value, Mapping):
        value = value.values()
    elif not isinstance(value, (list, tuple, set, frozenset)):
        return
    for held in value if depth else ():
        yield from _contents(held, depth - 1)


def _state(module: torch.nn.Module) -> dict[str, str]:
    """The plain attributes of a module and of its parts by name, spelled so that two looks can be compared."""
    return {
        f"{path or type(part).__name__}.{name}": _spelled(value)
        for path, part in module.named_modules()
        for name, value in _attributes(part).items()
        if not type(part).__module__.startswith("torch.nn.")
    }


def _spelled(value: Any, depth: int = DEPTH) -> str:
    if isinstance(value, (bool, int, float, complex, str, bytes, type(None))):
        return repr(value)
    if depth and isinstance(value, Mapping):
        return f"{{{', '.join(f'{key!r}: {_spelled(held, depth - 1)}' for key, held in value.items())}}}"
    if depth and isinstance(value, (list, tuple)):
        return f"[{', '.join(_spelled(held, depth - 1) for held in value)}]"
    return f"{type(value).__name__} at {id(value)}"
