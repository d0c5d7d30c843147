"""Loss and gradient by automatic differentiation: PyTorch's and JAX's."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np

from descend.checks import shown
from descend.errors import ObjectiveError, described
from descend.objectives.calls import advice_of, call

if TYPE_CHECKING:
    from descend.objectives.objective import Objective
    from descend.parameters.memory import Array, Memory

__all__ = ["AUTODIFF", "by_jax", "by_torch", "check_differentiable", "precision", "scalar_of"]


def by_torch(objective: Objective, args: tuple[Any, ...], grad: list[Array]) -> Any:
    """The loss at the memory's point; its gradient, by PyTorch, goes into `grad`."""
    import torch

    # Fresh tensors on the same memory (or a copy): nothing of the user's graph outlives the call.
    arrays = objective.memory.leaves if objective.live else [leaf.copy() for leaf in objective.memory.leaves]
    leaves = [torch.from_numpy(array).requires_grad_() for array in arrays]
    name = objective.fun_name
    objective.nfev += 1
    objective.njev += 1
    with torch.enable_grad():
        loss = call(objective.fun, name, objective.memory.unflatten(leaves), args)
        check_differentiable(loss, name, "its argument")
        try:
            slopes = torch.autograd.grad(loss.reshape(()), leaves, allow_unused=True)
        except Exception as error:
            raise ObjectiveError(f"{name}: its gradient raised {described(error)}") from error
    for view, slope in zip(objective.memory.views(grad), slopes, strict=True):
        view[...] = 0.0 if slope is None else slope.numpy()
    return loss.item()


def check_differentiable(loss: Any, name: str, source: str) -> None:
    """Refuse what is no scalar tensor that a backward pass can begin at; it was to be computed from the `source`."""
    import torch

    if isinstance(loss, torch.Tensor):
        if loss.numel() == 1 and loss.requires_grad and not loss.is_complex():
            return
        found = repr(loss) if loss.numel() == 1 else f"a tensor of shape {list(loss.shape)}"
    else:
        found = repr(loss)
    raise ObjectiveError(
        f"{name} returned {found}: a real scalar tensor computed from {source} is needed, "
        f"without .item(), .detach() or .numpy() on the way{advice_of(loss)}"
    )


def by_jax(objective: Objective, args: tuple[Any, ...], grad: list[Array]) -> Any:
    """The same by JAX."""
    import jax

    name = objective.fun_name
    objective.nfev += 1
    objective.njev += 1
    with precision(objective.memory):
        leaves = [jax.numpy.asarray(leaf.copy()) for leaf in objective.memory.leaves]

        def of_leaves(leaves: Any, *args: Any) -> Any:
            return scalar_of(objective.fun(objective.memory.unflatten(leaves), *args), name)

        loss, slopes = call(jax.value_and_grad(of_leaves), name, leaves, args)
        for view, slope in zip(objective.memory.views(grad), slopes, strict=True):
            view[...] = slope
        return float(loss)


def scalar_of(loss: Any, name: str) -> Any:
    """A loss that JAX has computed, as a scalar if it is an array of one number; raises `ObjectiveError` for a pair."""
    if isinstance(loss, (tuple, list)):
        raise ObjectiveError(f"{name} returned {shown(loss)}: it must return one number{advice_of(loss)}")
    return loss.reshape(()) if getattr(loss, "size", 0) == 1 else loss


def precision(memory: Memory) -> contextlib.AbstractContextManager[Any]:
    """JAX in float64 for float64 parameters, which it would round to float32 by default."""
    import jax

    wide = any(v.dtype == np.float64 for v in memory.vectors)
    return jax.enable_x64(wide)  # type: ignore[no-any-return]


AUTODIFF = {"torch": by_torch, "jax": by_jax}
"""The libraries that `jac` may name, which are those whose arrays parameters may be."""
