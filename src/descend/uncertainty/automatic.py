"""Hessians by automatic differentiation: PyTorch's and JAX's, of an objective at its memory's point."""

from __future__ import annotations

from typing import Any

import numpy as np

from descend.objectives.autodiff import precision
from descend.objectives.objective import Objective
from descend.parameters.memory import Array

__all__ = ["AUTOMATIC", "by_jax", "by_torch"]


def by_torch(objective: Objective, args: tuple[Any, ...]) -> Array:
    """The Hessian by PyTorch, shape (n, n): a backward pass through a backward pass, one for each parameter."""
    import torch

    memory = objective.memory
    leaves = [torch.from_numpy(leaf.copy()).requires_grad_() for leaf in memory.leaves]
    with torch.enable_grad():
        loss = objective.fun(memory.unflatten(leaves), *args)
        slopes = torch.autograd.grad(loss.reshape(()), leaves, create_graph=True, materialize_grads=True)
        rows = []
        for slope in slopes:
            for entry in slope.reshape(-1):
                if entry.requires_grad:
                    row = torch.autograd.grad(entry, leaves, retain_graph=True, materialize_grads=True)
                else:  # it does not depend on the parameters
                    row = tuple(torch.zeros_like(leaf) for leaf in leaves)
                rows.append([one.detach().numpy() for one in row])
    return _in_order(objective, rows)


def by_jax(objective: Objective, args: tuple[Any, ...]) -> Array:
    """The same by JAX."""
    import jax

    memory = objective.memory
    with precision(memory):
        leaves = [jax.numpy.asarray(leaf.copy()) for leaf in memory.leaves]
        blocks = jax.hessian(lambda leaves: objective.fun(memory.unflatten(leaves), *args))(leaves)
        rows = [
            [np.asarray(block).reshape(leaf.size, *other.shape)[i] for block, other in zip(of, leaves, strict=True)]
            for of, leaf in zip(blocks, leaves, strict=True)
            for i in range(leaf.size)
        ]
    return _in_order(objective, rows)


def _in_order(objective: Objective, rows: list[list[Any]]) -> Array:
    """Rows by leaves as a matrix whose rows and columns are in the order of the memory's vectors."""
    memory = objective.memory

    def flat(leaves: list[Any]) -> Array:
        vectors = [v.astype(float) for v in memory.like()]
        for view, leaf in zip(memory.views(vectors), leaves, strict=True):
            view[...] = leaf
        return np.concatenate(vectors)

    columns = np.stack([flat(row) for row in rows])  # columns in order, rows in the order of the leaves
    numbers = iter(np.arange(len(rows), dtype=float))
    places = [np.array([next(numbers) for _ in range(leaf.size)]).reshape(leaf.shape) for leaf in memory.leaves]
    found: Array = columns[flat(places).astype(int)]
    return found


AUTOMATIC = {"torch": by_torch, "jax": by_jax}
"""What computes a Hessian, by the source of the gradient."""
