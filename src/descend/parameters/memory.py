"""Parameters in any nested container, and the same numbers as a few flat vectors.

Users hold parameters as they like: an array, a number, a dict of arrays, lists of dicts. A descent wants few long
runs of memory. `Memory` holds one flat vector per dtype and hands out the container again, its leaves being views
into those vectors.

Containers are `optree <https://optree.readthedocs.io>`_'s: dict, list, tuple, named tuple, and registered types.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import optree

from descend.errors import ObjectiveError, ParameterError

__all__ = ["Array", "Bounds", "Memory", "Rows"]

Array = np.ndarray[Any, np.dtype[Any]]
Kind = Literal["numpy", "torch", "jax"]


class Memory:
    """A copy of the parameters in `tree`, as one flat vector per dtype.

    `kind` says what the leaves were: ``"torch"`` or ``"jax"`` when any leaf is one of theirs, else ``"numpy"``.
    Raises `ParameterError` for an empty container and for leaves that are not finite floating-point numbers.
    """

    def __init__(self, tree: Any, what: str = "x0") -> None:
        leaves, self.spec = optree.tree_flatten(tree, none_is_leaf=True)
        self.names = [a.codify(what) for a in self.spec.accessors()]
        if not leaves:
            raise ParameterError(f"{what}={tree!r} holds no parameter: give at least one number")
        self._kinds = [_kind(leaf) for leaf in leaves]
        self._types = [type(leaf) for leaf in leaves]
        self.kind: Kind = next((k for k in self._kinds if k != "numpy"), "numpy")
        arrays = [_as_array(leaf, name) for leaf, name in zip(leaves, self.names, strict=True)]
        self.shapes = [a.shape for a in arrays]
        dtypes = list({a.dtype for a in arrays})
        if len(dtypes) > 1:
            dtypes.sort(key=str)
        self.vectors: list[Array] = [np.empty(sum(a.size for a in arrays if a.dtype == d), d) for d in dtypes]
        self._places: list[tuple[int, int, int]] = []
        ends = [0] * len(dtypes)
        for array in arrays:
            which = dtypes.index(array.dtype)
            self._places.append((which, ends[which], ends[which] + array.size))
            ends[which] += array.size
        self._gathered: tuple[Sequence[Array], list[Array]] | None = None
        self._bare = self._types == [np.ndarray] and self.spec.is_leaf()
        """Whether the container is one array, which saves taking it apart and putting it together."""
        self.leaves = self.views(self.vectors)
        for leaf, array in zip(self.leaves, arrays, strict=True):
            leaf[...] = array

    @property
    def layout(self) -> list[str]:
        """Dtype and shape of each leaf, for messages."""
        return [f"{leaf.dtype}{list(leaf.shape)}" for leaf in self.leaves]

    @property
    def size(self) -> int:
        """How many numbers there are in all."""
        return sum(v.size for v in self.vectors)

    def views(self, vectors: Sequence[Array]) -> list[Array]:
        """The leaves, in order, as views into `vectors`, which are laid out as this memory's own."""
        return [
            vectors[which][start:stop].reshape(shape)
            for (which, start, stop), shape in zip(self._places, self.shapes, strict=True)
        ]

    def move(self, vectors: Sequence[Array]) -> None:
        """Go on in other vectors, which are laid out as these and hold the same numbers."""
        self.vectors = list(vectors)
        self._gathered = None
        self.leaves = self.views(self.vectors)

    def like(self) -> list[Array]:
        """Fresh vectors of zeros, laid out as this memory's own."""
        return [np.zeros_like(v) for v in self.vectors]

    def snapshot(self) -> list[Array]:
        """A copy of the vectors."""
        return [v.copy() for v in self.vectors]

    def tree(self, vectors: Sequence[Array] | None = None, *, copy: bool = True, kind: Kind | None = None) -> Any:
        """The container again, for the user's function, from `vectors` (its own by default).

        With `copy` its leaves share no memory with the vectors; without, they follow what is written there. `kind`
        hands out every leaf as that library's array; by default each leaf is what it was. Numbers are NumPy's: they
        overflow to infinity where Python's raise.
        """
        leaves = self.leaves if vectors is None else self.views(vectors)
        if self._bare and kind is None:
            return leaves[0].copy() if copy else leaves[0]
        return self.spec.unflatten(
            [_as_leaf(leaf, kind or own, copy) for leaf, own in zip(leaves, self._kinds, strict=True)]
        )

    def result(self, vectors: Sequence[Array] | None = None) -> Any:
        """The container again, as the user gave it: a copy, each leaf what it was, Python floats too."""
        leaves = self.leaves if vectors is None else self.views(vectors)
        return self.spec.unflatten(
            [
                float(leaf) if was is float else leaf.copy() if was is np.ndarray else _as_leaf(leaf, own, True)
                for leaf, own, was in zip(leaves, self._kinds, self._types, strict=True)
            ]
        )

    def gather(self, tree: Any, out: Sequence[Array], what: str) -> None:
        """Copy a container of gradients, shaped like the parameters, into the vectors `out`.

        Raises `ObjectiveError` naming the leaf that is missing or of the wrong shape or type.
        """
        if self._gathered is None or self._gathered[0] is not out:
            self._gathered = out, self.views(out)
        if self._bare and type(tree) is np.ndarray:
            view = self._gathered[1][0]
            if tree.dtype == view.dtype and tree.shape == view.shape:
                np.copyto(view, tree)
                return
        for leaf, view, name in zip(self._match(tree, what), self._gathered[1], self.names, strict=True):
            if type(leaf) is np.ndarray and leaf.dtype == view.dtype and leaf.shape == view.shape:
                view[...] = leaf
                continue
            try:
                array = _plain(leaf)
            except (TypeError, ValueError):
                array = np.asarray(None)
            if array.dtype.kind not in "fiu":
                raise ObjectiveError(f"{what} gave {leaf!r} for {name}: real numbers of shape {view.shape} are needed")
            if array.shape != view.shape and not (array.size == view.size == 1):
                raise ObjectiveError(
                    f"{what} gave shape {array.shape} for {name}, which has shape {view.shape}: "
                    "a gradient has the shape of its parameter"
                )
            view[...] = array.reshape(view.shape)

    def _match(self, tree: Any, what: str) -> list[Any]:
        try:
            matched: list[Any] = self.spec.flatten_up_to(tree)
        except (ValueError, TypeError) as error:
            raise ObjectiveError(
                f"{what} gave {type(tree).__name__}, which is not built like the parameters ({self.spec}): {error}"
            ) from None
        return matched

    def locate(self, vector: int, index: int) -> str:
        """The name of one number, for messages: ``x0['w'][3, 1]``."""
        for name, (which, start, stop), shape in zip(self.names, self._places, self.shapes, strict=True):
            if which == vector and start <= index < stop:
                at = ", ".join(str(int(i)) for i in np.unravel_index(index - start, shape)) if shape else ""
                return f"{name}[{at}]" if at else name
        raise IndexError(f"vector {vector} has no entry {index}")

    def first_non_finite(self, vectors: Sequence[Array]) -> tuple[str, float] | None:
        """Name and value of the first number in `vectors` that is NaN or infinite, if any."""
        for which, vector in enumerate(vectors):
            bad = np.flatnonzero(~np.isfinite(vector))
            if bad.size:
                return self.locate(which, int(bad[0])), float(vector[bad[0]])
        return None


class Bounds:
    """Where parameters may lie, as vectors that are laid out as a memory's.

    Parameters
    ----------
    memory
        Whose parameters.
    bounds
        ``(lower, upper)``, each None for no bound, a number for all parameters, or a container like that of the
        parameters, in which an infinity or None stands for no bound; a `scipy.optimize.Bounds`; or SciPy's list of a
        ``(low, high)`` pair for each parameter.

    Raises `ParameterError` where they do not fit the parameters, or a lower one is above the upper one.
    """

    def __init__(self, memory: Memory, bounds: Any) -> None:
        low, high = _ends(memory, bounds)
        exact = self._vectors(memory, low, -np.inf, "lower"), self._vectors(memory, high, np.inf, "upper")
        self.lower: list[Array] = []
        self.upper: list[Array] = []
        for which, (lower, upper) in enumerate(zip(*exact, strict=True)):
            crossed = np.flatnonzero(~((lower <= upper) & (lower < np.inf) & (upper > -np.inf)))
            if crossed.size:
                at = int(crossed[0])
                raise ParameterError(
                    f"bounds of {memory.locate(which, at)}: {lower[at]:g} is not at most {upper[at]:g}, or leaves "
                    "nothing finite; give (low, high)"
                )
            dtype = memory.vectors[which].dtype
            ends = _inward(lower, dtype, np.inf), _inward(upper, dtype, -np.inf)
            narrow = ends[0] > ends[1]  # no float lies between: the nearest one
            self.lower.append(np.where(narrow, lower.astype(dtype), ends[0]))
            self.upper.append(np.where(narrow, lower.astype(dtype), ends[1]))

    @staticmethod
    def _vectors(memory: Memory, ends: Any, missing: float, which: str) -> list[Array]:
        vectors = [np.full(v.shape, missing) for v in memory.vectors]
        if ends is None:
            return vectors
        views = memory.views(vectors)
        if isinstance(ends, _Each):
            if len(ends.numbers) != memory.size:
                raise ParameterError(
                    f"there are {len(ends.numbers)} {which} bounds for {memory.size} parameters: give one for each"
                )
            found: list[Any] = []
            start = 0
            for view in views:
                part = np.empty(view.size, dtype=object)
                for i, end in enumerate(ends.numbers[start : start + view.size]):
                    part[i] = end
                found.append(part.reshape(view.shape))
                start += view.size
        elif np.ndim(ends) == 0 and not isinstance(ends, dict):
            found = [ends] * len(views)
        elif memory.spec.num_leaves == 1 and memory.spec.type is None:
            found = [ends]
        else:
            try:
                found = memory.spec.flatten_up_to(ends)
            except (ValueError, TypeError) as error:
                raise ParameterError(f"the {which} bounds are not built like x0: {error}") from None
        for view, end, name in zip(views, found, memory.names, strict=True):
            try:
                array = np.asarray(end, dtype=object)
                numbers = [missing if e is None else _real(e) for e in array.flat]
                view[...] = np.array(numbers).reshape(array.shape)
            except (TypeError, ValueError) as error:
                raise ParameterError(
                    f"the {which} bound of {name} is {end!r}, for shape {view.shape}: {error}"
                ) from None
        return vectors

    @functools.cached_property
    def ends(self) -> tuple[Array, Array]:
        """Lower and upper bounds as one vector each."""
        return np.concatenate(self.lower), np.concatenate(self.upper)

    def apply(self, vectors: Sequence[Array]) -> None:
        """Move a point into the bounds."""
        for vector, lower, upper in zip(vectors, self.lower, self.upper, strict=True):
            np.clip(vector, lower, upper, out=vector)

    def residual(self, vectors: Sequence[Array], grads: Sequence[Array], sign: float) -> list[Array]:
        """How far a step down, or for a negative sign up the gradients, would lead within the bounds."""
        return [
            np.clip(-sign * g, lower - x, upper - x)
            for x, g, lower, upper in zip(vectors, grads, self.lower, self.upper, strict=True)
        ]


def _real(end: Any) -> float:
    """One bound as a number; raises `TypeError` or `ValueError`."""
    if isinstance(end, complex):
        raise TypeError("a real number is needed")
    return float(end)


def _inward(ends: Array, dtype: np.dtype[Any], inside: float) -> Array:
    """Bounds as floats of a dtype, each the nearest that lies within."""
    with np.errstate(over="ignore", under="ignore"):
        found = ends.astype(dtype)
    outside = found < ends if inside > 0 else found > ends
    return np.where(outside, np.nextafter(found, dtype.type(inside)), found)


class _Each:
    """A number for each parameter, in the order of a memory's leaves; None for no bound."""

    def __init__(self, numbers: Any) -> None:
        self.numbers = list(numbers)


def _ends(memory: Memory, bounds: Any) -> tuple[Any, Any]:
    """Lower and upper bounds, from any of the forms they come in."""
    if hasattr(bounds, "lb") and hasattr(bounds, "ub"):
        low, high = np.ravel(bounds.lb), np.ravel(bounds.ub)
        return (low[0] if low.size == 1 else _Each(low), high[0] if high.size == 1 else _Each(high))
    parts = list(bounds) if isinstance(bounds, (list, tuple, np.ndarray)) else []
    pairs = len(parts) == memory.size and all(isinstance(p, (list, tuple, np.ndarray)) and len(p) == 2 for p in parts)
    # Two pairs for two parameters may be two ends as well: SciPy's form is a list, or has tuples.
    if pairs and (len(parts) != 2 or isinstance(bounds, list) or all(isinstance(p, tuple) for p in parts)):
        return _Each([low for low, _ in parts]), _Each([high for _, high in parts])
    if len(parts) == 2:
        return parts[0], parts[1]
    raise ParameterError(
        f"bounds={bounds!r}: (lower, upper) is needed, each a number, None or a container like x0; or a (low, high) "
        f"pair for each of the {memory.size} parameters"
    )


class Rows(Memory):
    """Many memories of one layout as the rows of one matrix per dtype; their own vectors become its rows.

    Its container has the leaves of theirs with a leading axis of as many. Raises `ParameterError` if their layouts
    differ.
    """

    def __init__(self, memories: Sequence[Memory]) -> None:
        first = memories[0]
        for memory in memories[1:]:
            if (memory.spec, memory.shapes, memory._places) != (first.spec, first.shapes, first._places):
                raise ParameterError(
                    f"the starts differ: {_layout(first)} and {_layout(memory)}; runs that are stacked must begin with "
                    "the same container of the same shapes and types"
                )
        self.memories = list(memories)
        self.spec, self.names, self.kind = first.spec, first.names, first.kind
        self._bare = False
        self.shapes, self._places, self._kinds, self._types = first.shapes, first._places, first._kinds, first._types
        self.keep(range(len(memories)))

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows alone; the others' memories are on their own again."""
        for memory in self.memories:
            memory.move(memory.snapshot())
        self.memories = [self.memories[row] for row in rows]
        self.move([np.stack(vectors) for vectors in zip(*(m.vectors for m in self.memories), strict=True)])
        for memory, *vectors in zip(self.memories, *self.vectors, strict=True):
            memory.move(vectors)

    def views(self, vectors: Sequence[Array]) -> list[Array]:
        """The leaves, in order, as views into `vectors`, which are laid out as this memory's own."""
        return [
            vectors[which][:, start:stop].reshape(-1, *shape)
            for (which, start, stop), shape in zip(self._places, self.shapes, strict=True)
        ]


def _layout(memory: Memory) -> str:
    return ", ".join(f"{leaf} at {name}" for leaf, name in zip(memory.layout, memory.names, strict=True))


def _kind(leaf: Any) -> Kind:
    owner = type(leaf).__module__.partition(".")[0]
    if owner == "torch":
        return "torch"
    return "jax" if owner in ("jax", "jaxlib") else "numpy"


def _plain(leaf: Any) -> Array:
    """The leaf as a NumPy array, without a copy where possible."""
    if _kind(leaf) == "torch":
        return np.asarray(leaf.detach().cpu().numpy())
    return np.asarray(leaf)


def _as_array(leaf: Any, name: str) -> Array:
    """A leaf of the start as a finite float32 or float64 array; raises `ParameterError`."""
    if _kind(leaf) == "torch" and leaf.device.type != "cpu":
        raise ParameterError(f"{name} is a tensor on {leaf.device}: descents run on the CPU; pass {name}.cpu()")
    if isinstance(leaf, (str, bytes)) or leaf is None:
        raise ParameterError(f"{name}={leaf!r} is not a number: pass floats, or arrays of them")
    try:
        array = _plain(leaf)
    except (TypeError, ValueError) as error:
        raise ParameterError(f"{name} is {leaf!r}: not an array of numbers ({error})") from None
    if isinstance(leaf, np.ma.MaskedArray):
        raise ParameterError(f"{name} is a masked array, whose mask would be lost: pass {name}.filled(0.0)")
    if array.dtype.kind in "iub":
        raise ParameterError(
            f"{name}={leaf!r} has the integer type {array.dtype}: steps are fractions; pass floats, such as "
            + (f"{float(array)!r}" if array.ndim == 0 else "np.asarray(..., dtype=float)")
        )
    if array.dtype.kind == "c":
        raise ParameterError(f"{name}={leaf!r} is complex: pass its real and imaginary parts as two arrays")
    if array.dtype not in (np.float32, np.float64):
        raise ParameterError(
            f"{name}={leaf!r} has type {array.dtype}: float32 and float64 are supported; convert it to one of them"
        )
    if array.size == 0:
        raise ParameterError(f"{name} is empty (shape {array.shape}): give at least one number")
    bad = np.flatnonzero(~np.isfinite(array))
    if bad.size:
        where = "".join(f"[{int(i)}]" for i in np.unravel_index(bad[0], array.shape))
        raise ParameterError(f"{name}{where} is {array.reshape(-1)[bad[0]]}: a start must be finite")
    return array


def _as_leaf(view: Array, kind: Kind, copy: bool) -> Any:
    if kind == "torch":
        return sys.modules["torch"].from_numpy(view.copy() if copy else view)
    if kind == "jax":
        return sys.modules["jax.numpy"].asarray(view.copy() if copy else view)
    if not copy:
        return view
    return view[()] if view.shape == () else view.copy()
