"""Parameters in any nested container, and the same numbers as a few flat vectors.

Users hold parameters as they like: an array, a number, a dict of arrays, lists of dicts. A descent wants few long
runs of memory. `Memory` holds one flat vector per dtype and hands out the container again, its leaves being views
into those vectors.

Containers are `optree <https://optree.readthedocs.io>`_'s: dict, list, tuple, named tuple, and registered types.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import optree

from descend.checks import shown
from descend.errors import ObjectiveError, ParameterError
from descend.parameters.reals import as_reals

__all__ = ["Array", "Kind", "Memory", "as_leaf", "kind_of", "plain"]

Array = np.ndarray[Any, np.dtype[Any]]
Kind = Literal["numpy", "torch", "jax"]


FLOATS = {"numpy": "np.asarray({name}, dtype=float)", "torch": "{name}.double()", "jax": "{name}.astype(float)"}
"""How to have floats of an array of another type."""


class Memory:
    """A copy of the parameters in `tree`, as one flat vector per dtype.

    `kind` says what the leaves were: ``"torch"`` or ``"jax"`` when any leaf is one of theirs, else ``"numpy"``; `kinds`
    says it of each leaf. `names` and `shapes` are those of the leaves, `types` their Python types, and `places` tells
    for each in which vector it lies, from where to where. `vectors` are the flat vectors, `leaves` the views into them.
    Raises `ParameterError` for an empty container and for leaves that are not finite floating-point numbers.
    """

    def __init__(self, tree: Any, what: str = "x0") -> None:
        leaves, self.spec = optree.tree_flatten(tree, none_is_leaf=True)
        self.names = [a.codify(what) for a in self.spec.accessors()]
        if not leaves:
            raise ParameterError(f"{what}={tree!r} holds no parameter: give at least one number")
        self.kinds = [kind_of(leaf) for leaf in leaves]
        self.types = [type(leaf) for leaf in leaves]
        self.kind: Kind = next((k for k in self.kinds if k != "numpy"), "numpy")
        arrays = [_as_array(leaf, name) for leaf, name in zip(leaves, self.names, strict=True)]
        self.shapes = [a.shape for a in arrays]
        dtypes = list({a.dtype for a in arrays})
        if len(dtypes) > 1:
            dtypes.sort(key=str)
        self.vectors: list[Array] = [np.empty(sum(a.size for a in arrays if a.dtype == d), d) for d in dtypes]
        self.places: list[tuple[int, int, int]] = []
        ends = [0] * len(dtypes)
        for array in arrays:
            which = dtypes.index(array.dtype)
            self.places.append((which, ends[which], ends[which] + array.size))
            ends[which] += array.size
        self._gathered: tuple[Sequence[Array], list[Array]] | None = None
        # One bare array is usual, and need not be taken apart and put together at each evaluation.
        self.is_one_array = self.types == [np.ndarray] and self.spec.is_leaf()
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
            for (which, start, stop), shape in zip(self.places, self.shapes, strict=True)
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
        if self.is_one_array and kind is None:
            return leaves[0].copy() if copy else leaves[0]
        return self.spec.unflatten(
            [as_leaf(leaf, kind or own, copy) for leaf, own in zip(leaves, self.kinds, strict=True)]
        )

    def result(self, vectors: Sequence[Array] | None = None) -> Any:
        """The container again, as the user gave it: a copy, each leaf what it was, Python floats too."""
        leaves = self.leaves if vectors is None else self.views(vectors)
        return self.spec.unflatten(
            [
                float(leaf) if was is float else leaf.copy() if was is np.ndarray else as_leaf(leaf, own, True)
                for leaf, own, was in zip(leaves, self.kinds, self.types, strict=True)
            ]
        )

    def unflatten(self, leaves: Sequence[Any]) -> Any:
        """The container as the user's function takes it, of leaves that any library may follow."""
        return self.spec.unflatten(leaves)

    # ---- where some numbers are held: see `descend.parameters.free` -------------------------------------------------

    @property
    def whole(self) -> Memory:
        """The memory of all numbers of the container: this one, unless some are fixed or tied."""
        return self

    @property
    def held(self) -> Array | None:
        """The value of each number that is fixed, NaN for others; None where none is held."""
        return None

    def restrict(self, vectors: Sequence[Array]) -> list[Array]:
        """What `vectors`, laid out as those of the whole, have for the free numbers."""
        return list(vectors)

    def of_free(self, given: Any) -> Any:
        """What is given as one number for each of the whole as one for each free number; anything else as it is."""
        return given

    def check_bounds(self, lower: Sequence[Array], upper: Sequence[Array]) -> None:
        """Raise `ParameterError` where bounds of the whole do not fit what is held."""

    def contract(self, matrix: Array) -> Array:
        """The derivatives by the free numbers, from those by each number of the whole (in the last axis)."""
        return matrix

    def gradient(self, vectors: Sequence[Array]) -> Any:
        """A gradient as the user's container, zero for what is held."""
        return self.result(vectors)

    # ---- gradients --------------------------------------------------------------------------------------------------

    def gather(self, tree: Any, out: Sequence[Array], what: str) -> None:
        """Copy a container of gradients, shaped like the parameters, into the vectors `out`.

        Raises `ObjectiveError` naming the leaf that is missing or of the wrong shape or type.
        """
        if self._gathered is None or self._gathered[0] is not out:
            self._gathered = out, self.views(out)
        if self.is_one_array and type(tree) is np.ndarray:
            view = self._gathered[1][0]
            if tree.dtype == view.dtype and tree.shape == view.shape:
                np.copyto(view, tree)
                return
        for leaf, view, name in zip(self._match(tree, what), self._gathered[1], self.names, strict=True):
            if type(leaf) is np.ndarray and leaf.dtype == view.dtype and leaf.shape == view.shape:
                view[...] = leaf
                continue
            view[...] = _shaped(leaf, view.shape, name, what)

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
        for name, (which, start, stop), shape in zip(self.names, self.places, self.shapes, strict=True):
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


def kind_of(leaf: Any) -> Kind:
    """Whose array a leaf is: PyTorch's, JAX's, or NumPy's, as numbers are."""
    owner = type(leaf).__module__.partition(".")[0]
    if owner == "torch":
        return "torch"
    return "jax" if owner in ("jax", "jaxlib") else "numpy"


def _shaped(leaf: Any, shape: tuple[int, ...], name: str, what: str) -> Array:
    """A gradient in the shape of its parameter, from which it may differ by axes of length 1, as a row or a column."""
    try:
        array = as_reals(leaf)
    except TypeError as error:
        raise ObjectiveError(
            f"{what} gave {shown(leaf)} for {name}: real numbers of shape {shape} are needed ({error})"
        ) from None
    if array.shape == shape:
        return array
    if [n for n in array.shape if n != 1] != [n for n in shape if n != 1]:
        hint = f"; if its entries are in order, return it by .reshape{shape}" if array.size == math.prod(shape) else ""
        raise ObjectiveError(
            f"{what} gave shape {array.shape} for {name}, which has shape {shape}: "
            f"a gradient has the shape of its parameter{hint}"
        )
    return array.reshape(shape)


def plain(leaf: Any) -> Array:
    """The leaf as a NumPy array, without a copy where possible."""
    if kind_of(leaf) == "torch":
        return np.asarray(leaf.detach().cpu().numpy())
    return np.asarray(leaf)


def _as_array(leaf: Any, name: str) -> Array:
    """A leaf of the start as a finite float32 or float64 array; raises `ParameterError`."""
    if kind_of(leaf) == "torch" and leaf.device.type != "cpu":
        raise ParameterError(f"{name} is a tensor on {leaf.device}: descents run on the CPU; pass {name}.cpu()")
    if isinstance(leaf, (str, bytes)) or leaf is None:
        raise ParameterError(f"{name}={leaf!r} is not a number: pass floats, or arrays of them")
    try:
        array = plain(leaf)
    except (TypeError, ValueError) as error:
        raise ParameterError(f"{name} is {leaf!r}: not an array of numbers ({error})") from None
    if isinstance(leaf, np.ma.MaskedArray):
        raise ParameterError(
            f"{name} is a masked array, whose mask would be lost: pass {name}.filled(0.0), or only what is not masked "
            f"by {name}.compressed()"
        )
    if array.dtype.kind in "iub":
        raise ParameterError(
            f"{name}={leaf!r} has the integer type {array.dtype}: steps are fractions; pass floats, such as "
            + FLOATS[kind_of(leaf)].format(name=name)
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


def as_leaf(view: Array, kind: Kind, copy: bool) -> Any:
    """A NumPy array as the leaf of a container for a user's function."""
    if kind == "torch":
        return sys.modules["torch"].from_numpy(view.copy() if copy else view)
    if kind == "jax":
        return sys.modules["jax.numpy"].asarray(view.copy() if copy else view)
    if not copy:
        return view
    return view[()] if view.shape == () else view.copy()
