"""Functions of many points at once: as the user gives them, or made from a function of one by ``vmap``."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import optree

from descend.errors import ObjectiveError, OptionError
from descend.minimization.run import Minimization
from descend.objectives.agreement import disagreement
from descend.objectives.autodiff import precision, scalar_of
from descend.objectives.batch import Batch
from descend.objectives.objective import Jac, Objective
from descend.objectives.steps import step_sizes
from descend.parameters.memory import Memory
from descend.parameters.rows import Rows

__all__ = ["Misshapen", "Together", "agree_on_losses", "of_one", "together_of"]

Together = tuple[Callable[..., Any], Jac]
"""A function and a gradient that take many points at once, as `Objective.many` asks for them."""


def together_of(
    many: Together,
    one: Together,
    source: str,
    minimizations: Sequence[Minimization],
    memories: Sequence[Memory],
    *,
    vectorized: bool,
) -> Together | None:
    """The function of many points at once, if that of the first two starts is what each of them gives alone.

    If it is not, that is an error where the user has said that it takes rows, and else there is none.
    """
    made = {"torch": _by_torch, "jax": _by_jax}.get(source)
    together: Together = many if made is None else (made(many[0], memories[0], stacked=vectorized), True)
    args, tried = minimizations[0].args, memories[:2]
    for memory, minimization in zip(tried, minimizations, strict=False):
        for vector, within in zip(memory.vectors, minimization.memory.vectors, strict=True):
            vector[...] = within  # the bounds
    slopes = [memory.like() for memory in tried]
    try:
        losses = [Objective(*one, memory)(grad, args) for memory, grad in zip(tried, slopes, strict=True)]
    except Misshapen:
        raise
    except ObjectiveError:  # of a start, which says nothing of the function of many
        return together if vectorized else None
    rows = Rows(tried)
    grad = rows.like()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*performance drop")  # vmap goes on one point after the other
            why = disagreement(Objective(*together, rows).many(grad, args), grad, losses, slopes)
    except ObjectiveError as error:
        why = str(error)
    if why is None:
        return together
    if vectorized:
        raise OptionError(f"vectorized=True, but {why}; give a row for each start, or leave it out")
    return None


def agree_on_losses(batch: Batch, minimizations: Sequence[Minimization]) -> None:
    """Raise `OptionError` if losses at the first two starts, together, are not those of each alone.

    Of one start, a point next to it is the second.
    """
    args, objective = minimizations[0].args, minimizations[0].objective
    tried = [np.concatenate(minimization.memory.vectors) for minimization in minimizations[:2]]
    if len(tried) == 1:
        near = tried[0] + step_sizes(tried[0])
        tried.append(near if objective.bounds is None else np.clip(near, *objective.bounds))
    points = np.stack(tried).astype(float)
    try:
        alone = [float(batch(point[None], args)[0]) for point in points]
    except ObjectiveError:  # which is raised again when it is that start's turn
        return
    none = np.zeros((2, 1), minimizations[0].memory.vectors[0].dtype)  # there are no gradients to compare
    try:
        why = disagreement(batch(points, args), [none], alone, [[row] for row in none])
    except ObjectiveError as error:
        why = str(error)
    if why is not None:
        raise OptionError(f"vectorized=True, but {why}; give a number for each row, or leave it out")


class Misshapen(ObjectiveError):
    """A function that is said to take many points does not return a row for each."""


def of_one(fun: Callable[..., Any], jac: Jac, source: str, memory: Memory) -> Together:
    """A function and a gradient of many points as those of one; raises `OptionError` for complex steps."""
    if source == "cs":
        raise OptionError(
            "vectorized=True with jac='cs': complex points are evaluated one by one; use jac='differences', or give a "
            "jac that returns a row for each start"
        )

    gradient: Any = jac

    def many(x: Any) -> Any:
        return optree.tree_map(lambda leaf: leaf[None], x)

    def first(rows: Any, what: str) -> Any:
        rows = rows if hasattr(rows, "shape") else np.asarray(rows)
        if rows.shape[:1] != (1,):
            raise Misshapen(
                f"{what} returned shape {tuple(rows.shape)} for 1 start: with vectorized=True it returns a row for "
                "each start"
            )
        return rows[0]

    def slope_of(tree: Any, what: str) -> Any:
        try:
            leaves = memory.spec.flatten_up_to(tree)
        except (ValueError, TypeError) as error:
            raise Misshapen(f"{what} gave a gradient that is not built like x0: {error}") from None
        return memory.spec.unflatten([first(leaf, what) for leaf in leaves])

    @functools.wraps(fun)
    def value(x: Any, *args: Any) -> Any:
        found = fun(many(x), *args)
        if source != "together" or not (isinstance(found, (tuple, list)) and len(found) == 2):
            return first(found, "fun")
        return first(found[0], "fun"), slope_of(found[1], "fun")

    @functools.wraps(gradient)
    def slope(x: Any, *args: Any) -> Any:
        return slope_of(gradient(many(x), *args), "jac")

    return value, slope if callable(jac) else True if source == "together" else source


def _by_autodiff(fun: Callable[..., Any], memory: Memory, evaluate: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    """Losses and gradients of many points, by what evaluates a function of leaves at rows of them."""
    spec = memory.spec

    @functools.wraps(fun)
    def both(x: Any, *args: Any) -> Any:
        losses, slopes = evaluate(
            lambda leaves: fun(memory.unflatten(leaves), *args), optree.tree_leaves(x, none_is_leaf=True)
        )
        return losses, spec.unflatten(slopes)

    return both


def _by_torch(fun: Callable[..., Any], memory: Memory, *, stacked: bool) -> Callable[..., Any]:
    """Losses and gradients of many points by PyTorch, of a function of many points or, mapped, of one."""
    import torch

    def evaluate(loss: Callable[[Any], Any], rows: Any) -> Any:
        leaves = [torch.as_tensor(leaf) for leaf in rows]
        if not stacked:
            slopes, losses = torch.func.vmap(torch.func.grad_and_value(lambda one: loss(one).reshape(())))(leaves)
        else:
            leaves = [leaf.requires_grad_() for leaf in leaves]
            with torch.enable_grad():
                losses = loss(leaves)
                found = torch.autograd.grad(losses.sum(), leaves, allow_unused=True)
            slopes = [torch.zeros_like(leaf) if g is None else g for leaf, g in zip(leaves, found, strict=True)]
        return losses.detach().numpy(), [slope.detach().numpy() for slope in slopes]

    return _by_autodiff(fun, memory, evaluate)


def _by_jax(fun: Callable[..., Any], memory: Memory, *, stacked: bool) -> Callable[..., Any]:
    """The same by JAX."""
    import jax

    def evaluate(loss: Callable[[Any], Any], rows: Any) -> Any:
        def total(leaves: Any) -> Any:
            losses = loss(leaves)
            return losses.sum(), losses

        with precision(memory):
            leaves = [jax.numpy.asarray(leaf) for leaf in rows]
            if stacked:
                (_, losses), slopes = jax.value_and_grad(total, has_aux=True)(leaves)
            else:
                losses, slopes = jax.vmap(jax.value_and_grad(lambda one: scalar_of(loss(one), "fun")))(leaves)
            return np.asarray(losses), [np.asarray(slope) for slope in slopes]

    return _by_autodiff(fun, memory, evaluate)
