"""Jacobians of residuals: what a user's function gives, as a matrix, and those by automatic differentiation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from descend.checks import shown
from descend.errors import ObjectiveError, OptionError, described
from descend.objectives.autodiff import precision
from descend.objectives.calls import call
from descend.parameters.free import FreeMemory
from descend.parameters.memory import plain

if TYPE_CHECKING:
    from descend.objectives.residuals import ResidualObjective
    from descend.parameters.memory import Array, Memory

__all__ = ["as_matrix", "by_jax", "by_torch", "columns_of", "is_operator", "is_sparse", "of_structure", "scale_rows"]


def is_sparse(matrix: Any) -> bool:
    """Whether it is one of SciPy's sparse matrices or arrays."""
    from scipy.sparse import issparse

    return bool(issparse(matrix))


def is_operator(matrix: Any) -> bool:
    """Whether it offers products alone, as `scipy.sparse.linalg.LinearOperator` does."""
    return not isinstance(matrix, np.ndarray) and hasattr(matrix, "matvec") and hasattr(matrix, "rmatvec")


def columns_of(memory: Memory) -> Array:
    """For each number of the container, in the order of its leaves, where it stands in the memory's long vector."""
    starts = np.concatenate([[0], np.cumsum([v.size for v in memory.vectors])])
    return np.concatenate([np.arange(starts[which] + a, starts[which] + b) for which, a, b in memory.places])


def as_matrix(value: Any, memory: Memory, shape: tuple[int, ...], name: str) -> Any:
    """A Jacobian that a function returned as a matrix with a column for each number of the memory's long vector.

    `shape` is that of the residuals. A dense one comes as float64, a sparse one by rows; a LinearOperator stays one. Of
    parameters that are fixed or tied, columns are taken away. Raises `ObjectiveError` where the Jacobian has another
    shape, or is not made of real numbers.
    """
    whole = _of_whole(value, memory.whole, shape, name)
    if not isinstance(memory, FreeMemory):
        return whole
    if isinstance(whole, np.ndarray):
        return memory.contract(whole)
    from scipy.sparse import csr_array
    from scipy.sparse.linalg import aslinearoperator

    expansion = csr_array(memory.expand())
    return (whole @ expansion).tocsr() if is_sparse(whole) else whole @ aslinearoperator(expansion)


def _of_whole(value: Any, memory: Memory, shape: tuple[int, ...], name: str) -> Any:
    """The same with a column for each number of the container, in the order of its memory's long vector."""
    rows, size = int(np.prod(shape)), memory.size
    if is_sparse(value) or is_operator(value):
        if tuple(value.shape) != (rows, size):
            raise _misshapen(tuple(value.shape), rows, size, name)
        order = np.argsort(columns_of(memory))
        in_order = np.array_equal(order, np.arange(size))
        if is_sparse(value):
            matrix = value.tocsr().astype(np.float64)
            return matrix if in_order else matrix[:, order]
        if not in_order:
            raise ObjectiveError(f"{name} returned a LinearOperator: give x0 one dtype, or return a sparse matrix")
        return value
    leaves = None if memory.spec.is_leaf() else _leaves(value, memory)
    if leaves is None:
        found = _dense(value, (rows, size), (*shape, *memory.shapes[0]) if memory.spec.is_leaf() else None, name)
        return found[:, np.argsort(columns_of(memory))]
    parts = [
        _dense(leaf, (rows, int(np.prod(part))), (*shape, *part), f"{name} for {where}")
        for leaf, part, where in zip(leaves, memory.shapes, memory.names, strict=True)
    ]
    return np.concatenate(parts, axis=1)[:, np.argsort(columns_of(memory))]


def _leaves(value: Any, memory: Memory) -> list[Any] | None:
    """The leaves of a Jacobian that is built like the parameters; None for one matrix of all."""
    try:
        leaves: list[Any] = memory.spec.flatten_up_to(value)
    except (ValueError, TypeError):
        return None
    return leaves if type(value) is not np.ndarray else None


def _dense(value: Any, flat: tuple[int, int], full: tuple[int, ...] | None, name: str) -> Array:
    """An array of float64 of the flat shape."""
    try:
        array = plain(value)
    except (TypeError, ValueError):
        array = np.asarray(None)
    if array.dtype.kind not in "fiu":
        raise ObjectiveError(f"{name} returned {shown(value)}: a Jacobian of real numbers is needed, of shape {flat}")
    fits = array.shape in (flat, full) or (1 in flat and array.ndim <= 2 and array.size == flat[0] * flat[1])
    if not fits:
        raise _misshapen(array.shape, *flat, name)
    return np.ascontiguousarray(array.reshape(flat), dtype=np.float64)


def _misshapen(found: tuple[int, ...], rows: int, size: int, name: str) -> ObjectiveError:
    turned = "; it looks transposed" if found == (size, rows) else ""
    return ObjectiveError(
        f"{name} returned shape {found}: a Jacobian has a row for each of {rows} residuals and a column for each of "
        f"{size} parameters, shape ({rows}, {size}){turned}"
    )


def of_structure(structure: Any, memory: Memory, rows: int) -> Any:
    """Where a Jacobian may have entries, as a sparse matrix for the numbers of the memory's long vector."""
    from scipy.sparse import csr_array

    size = memory.whole.size
    try:
        found = csr_array(structure) != 0
        shape = tuple(found.shape)
    except (TypeError, ValueError):
        shape = ()
    if shape != (rows, size):
        raise OptionError(
            f"jac_sparsity={shown(structure)}: an array or sparse matrix of shape ({rows}, {size}) is needed, with a "
            "row for each residual, a column for each parameter, and no zero where the Jacobian may have an entry"
        )
    found = found.astype(np.float64)[:, np.argsort(columns_of(memory.whole))]
    return found if not isinstance(memory, FreeMemory) else found @ csr_array(np.abs(memory.expand()))


def scale_rows(matrix: Any, rows: Array | None) -> Any:
    """A Jacobian whose rows are multiplied; None stands for ones."""
    if rows is None:
        return matrix
    if is_sparse(matrix):
        from scipy.sparse import diags_array

        return (diags_array(rows) @ matrix).tocsr()
    if is_operator(matrix):
        from scipy.sparse.linalg import LinearOperator

        return LinearOperator(
            matrix.shape,
            matvec=lambda v: rows * np.ravel(matrix.matvec(v)),
            rmatvec=lambda u: matrix.rmatvec(rows * np.ravel(u)),
            dtype=np.float64,
        )
    return matrix * rows[:, None]


# ---- automatic differentiation ----------------------------------------------------------------------------------


def by_torch(objective: ResidualObjective) -> Any:
    """The Jacobian at the memory's point by PyTorch, as a matrix."""
    import torch

    memory, name = objective.memory, objective.fun_name
    leaves = [torch.from_numpy(leaf.copy()) for leaf in memory.leaves]

    def residuals(parts: Any) -> Any:
        found = call(objective.fun, name, memory.unflatten(parts), objective.args)
        return torch.as_tensor(found).reshape(-1)

    # Forwards is a pass for each parameter, backwards one for each residual; not every operation has the former.
    ways = [torch.func.jacfwd, torch.func.jacrev]
    if objective.rows < memory.size:
        ways.reverse()
    errors: list[Exception] = []
    for way in ways:
        try:
            return _joined([part.detach().numpy() for part in way(residuals)(leaves)], objective)
        except Exception as error:
            errors.append(error)
    raise ObjectiveError(f"{name}: its Jacobian by torch raised {described(errors[0])}; give jac") from errors[0]


def by_jax(objective: ResidualObjective) -> Any:
    """The same by JAX."""
    import jax

    memory, name = objective.memory, objective.fun_name

    def residuals(parts: Any) -> Any:
        found = call(objective.fun, name, memory.unflatten(parts), objective.args)
        return jax.numpy.asarray(found).reshape(-1)

    way = jax.jacrev if objective.rows < memory.size else jax.jacfwd
    with precision(memory):
        leaves = [jax.numpy.asarray(leaf.copy()) for leaf in memory.leaves]
        return _joined([np.asarray(part) for part in way(residuals)(leaves)], objective)


def _joined(parts: list[Array], objective: ResidualObjective) -> Array:
    """The derivatives by each leaf as one matrix."""
    columns = [np.reshape(part, (objective.rows, -1)) for part in parts]
    matrix = np.concatenate(columns, axis=1)[:, np.argsort(columns_of(objective.memory))]
    return np.ascontiguousarray(matrix, dtype=np.float64)
