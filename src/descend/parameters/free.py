"""A memory of the free numbers of a container, which hands out the whole container, what is fixed and tied included.

So a descent changes the free numbers alone, and the user's functions see what they always see.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from descend.errors import ObjectiveError, OptionError, ParameterError, described, did_you_mean
from descend.parameters.memory import Array, Kind, Memory, as_leaf, kind_of, plain
from descend.parameters.names import flat_places, names_of
from descend.parameters.roles import Roles, Tie, in_order

__all__ = ["FreeMemory", "memory_of"]


def memory_of(
    x0: Any, what: str = "x0", *, fixed: Any = None, tied: Any = None, names: Sequence[str] | None = None
) -> Memory:
    """The memory of a start: a plain one, or that of its free numbers if some are fixed or tied.

    Arguments are those of `Roles`. Raises `ParameterError` and `OptionError` as `Memory` and `Roles` do.
    """
    whole = Memory(x0, what)
    if names is not None:
        names_of(whole, names)  # which raises where they do not fit
    if fixed is None and tied is None:
        return whole
    roles = Roles(whole, fixed, tied, names)
    return FreeMemory(whole, roles) if roles.ties or roles.fixed.any() else whole


class FreeMemory(Memory):
    """The memory of those numbers of `whole` that are free by their `roles`.

    Its vectors, leaves and structure are those of the free numbers: a vector for each leaf that has some. Its
    containers (`tree`, `result`, `gradient`, `unflatten`) are the user's, and so is what it gathers.
    """

    def __init__(self, whole: Memory, roles: Roles) -> None:
        self._whole, self.roles = whole, roles
        roles.hold(whole)
        self._free = np.flatnonzero(roles.free)
        places = flat_places(whole)
        within = [np.flatnonzero(roles.free[place]) for place in places]
        self._owners = [(i, at) for i, at in enumerate(within) if at.size]
        super().__init__([whole.leaves[i].reshape(-1)[at] for i, at in self._owners])
        self.names = [whole.names[i] for i, _ in self._owners]
        self.kinds, self.kind = [whole.kinds[i] for i, _ in self._owners], whole.kind
        self.is_one_array = False
        self._spots = {id(tie): _spots(tie, places) for tie in roles.ties}
        self._order_ties()

    def _order_ties(self) -> None:
        """Put the ties in an order in which each finds what it reads, and have the whole follow them at the start."""
        parts = [leaf.copy() for leaf in self._whole.leaves]
        for tie in self.roles.ties:
            self._write(parts, tie, np.full(tie.numbers.size, np.nan))
        self.roles.ties = in_order(
            self.roles.ties,
            lambda tie: self._value(tie, self._containers(parts), raises=False),
            lambda tie, values: self._write(parts, tie, values),
        )
        for tie in self.roles.ties:
            value = self._value(tie, self._containers(parts))
            if not np.all(np.isfinite(value)):
                raise OptionError(f"tied[{tie.label!r}] gives {value} at the start: a finite number is needed")

    # ---- the user's containers --------------------------------------------------------------------------------------

    @property
    def whole(self) -> Memory:
        """The memory of all numbers, whose layout the user's container has."""
        return self._whole

    def tree(self, vectors: Sequence[Array] | None = None, *, copy: bool = True, kind: Kind | None = None) -> Any:
        """The whole container for the user's function, as `Memory.tree` has it."""
        return self._containers(self._parts(self.vectors if vectors is None else vectors), kind)

    def result(self, vectors: Sequence[Array] | None = None) -> Any:
        """The whole container as the user gave it, as `Memory.result` has it."""
        return self._whole.result(self.all_of(vectors))

    def all_of(self, vectors: Sequence[Array] | None = None) -> list[Array]:
        """The numbers of the whole as vectors, what is fixed and tied included."""
        filled = self._whole.like()
        for view, part in zip(self._whole.views(filled), self._parts(vectors or self.vectors), strict=True):
            view[...] = part
        return filled

    def gradient(self, vectors: Sequence[Array]) -> Any:
        """A gradient by the free numbers as the user's container; zero for what is fixed or tied."""
        filled = self._whole.like()
        self._fill([view.reshape(-1) for view in self._whole.views(filled)], vectors)
        return self._whole.result(filled)

    def unflatten(self, leaves: Sequence[Any]) -> Any:
        """The whole container from the free leaves, by operations that their library can differentiate."""
        kind = kind_of(leaves[0])
        if kind == "numpy":
            return self.spec_of_whole([part[()] for part in self._parts_of_leaves(leaves)])
        parts = [as_leaf(leaf, kind, True) for leaf in self._whole.leaves]
        for (i, at), leaf in zip(self._owners, leaves, strict=True):
            parts[i] = _put(parts[i], at, leaf, kind)
        for tie in self.roles.ties:
            value = self._call(tie, self.spec_of_whole(parts))
            self._put_tied(parts, tie, value, kind)
        return self.spec_of_whole(parts)

    def spec_of_whole(self, parts: Sequence[Any]) -> Any:
        """The user's container of these leaves."""
        return self._whole.spec.unflatten(parts)

    # ---- gradients --------------------------------------------------------------------------------------------------

    @property
    def held(self) -> Array | None:
        """The value of each number that is fixed, NaN for others."""
        return np.where(self.roles.fixed, self.roles.values, np.nan)

    def restrict(self, vectors: Sequence[Array]) -> list[Array]:
        """What `vectors`, laid out as those of the whole, have for the free numbers."""
        kept = np.concatenate(vectors)[self._free]
        return np.split(kept, np.cumsum([v.size for v in self.vectors])[:-1])

    def of_free(self, given: Any) -> Any:
        """What is given as one number for each of the whole as one for each free number; anything else as it is."""
        try:
            numbers = np.asarray(given)
        except (TypeError, ValueError):
            return given
        return numbers.reshape(-1)[self._free] if numbers.ndim and numbers.size == self._whole.size else given

    def check_bounds(self, lower: Sequence[Array], upper: Sequence[Array]) -> None:
        """Raise `ParameterError` for a bound of what is tied, and where what is fixed lies outside its bounds."""
        low, high, names = np.concatenate(lower), np.concatenate(upper), self.roles.names
        bounded = np.flatnonzero(self.roles.tied & (np.isfinite(low) | np.isfinite(high)))
        if bounded.size:
            at = int(bounded[0])
            raise ParameterError(
                f"bounds of {names[at]}, ({low[at]:g}, {high[at]:g}): it is tied, and goes where its function says; "
                "give it None, and bound what it follows"
            )
        values = self.roles.values
        outside = np.flatnonzero(self.roles.fixed & ~((low <= values) & (values <= high)))
        if outside.size:
            at = int(outside[0])
            raise ParameterError(
                f"{names[at]} is fixed at {values[at]:g}, outside its bounds ({low[at]:g}, {high[at]:g}): mend either"
            )

    def gather(self, tree: Any, out: Sequence[Array], what: str) -> None:
        """A gradient by all numbers of the whole as one by the free ones: what is tied counts by the chain rule."""
        filled = self._whole.like()
        self._whole.gather(tree, filled, what)
        slopes = self.contract(np.concatenate(filled))
        for vector, part in zip(out, np.split(slopes, np.cumsum([v.size for v in out])[:-1]), strict=True):
            vector[...] = part

    def contract(self, matrix: Array) -> Array:
        """The derivatives by the free numbers, from those by each number of the whole (in the last axis)."""
        free: Array = matrix[..., self._free]
        if not self.roles.ties:
            return free
        total: Array = free + matrix[..., self.roles.tied] @ self.tie_slopes().astype(matrix.dtype)
        return total

    def expand(self) -> Array:
        """The derivatives of all numbers of the whole by the free ones: shape (whole, free)."""
        found = np.zeros((self._whole.size, self.size))
        found[self._free, np.arange(self.size)] = 1.0
        if self.roles.ties:
            found[self.roles.tied] = self.tie_slopes()
        return found

    def tie_slopes(self) -> Array:
        """The derivatives of what is tied by what is free, at the memory's point: shape (tied, free).

        They are those of a complex step where central differences confirm it, else the differences themselves.
        """
        x = np.concatenate(self.vectors).astype(float)
        return np.stack([self._tie_slope(x, i) for i in range(x.size)], axis=1)

    def _tie_slope(self, x: Array, i: int) -> Array:
        size = abs(x[i]) or 1.0
        central = np.full(int(self.roles.tied.sum()), np.nan)
        for exponent in (-9, -18, -26):  # the first within the functions' domain
            wide, narrow = (self._central(x, i, size * 2.0**e) for e in (exponent, exponent - 1))
            central = np.where(np.isfinite(central), central, (4 * narrow - wide) / 3)
        shifted = x.astype(complex)
        shifted[i] += 1e-30j * size
        exact = self._tied_at(shifted).imag / (1e-30 * size)
        agrees = np.abs(exact - central) <= 1e-4 * np.maximum(np.abs(exact), np.abs(central))
        return np.where(agrees | ~np.isfinite(central), exact, central)

    def _central(self, x: Array, i: int, step: float) -> Array:
        ahead, behind = x.copy(), x.copy()
        ahead[i] += step
        behind[i] -= step
        found: Array = (self._tied_at(ahead) - self._tied_at(behind)) / (ahead[i] - behind[i])
        return found

    def _tied_at(self, x: Array) -> Array:
        """The numbers that are tied, where the free ones are `x`; NaN where their functions take no such numbers."""
        vectors = np.split(x, np.cumsum([v.size for v in self.vectors])[:-1])
        flat = np.full(self._whole.size, np.nan, dtype=x.dtype)
        try:
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of what a function drops of a complex number
                parts = self._parts(vectors, dtype=x.dtype)
        except (ObjectiveError, OptionError, TypeError, ValueError):
            return flat[self.roles.tied] + (np.nan * 1j if np.iscomplexobj(x) else 0.0)
        for place, part in zip(flat_places(self._whole), parts, strict=True):
            flat[place] = part.reshape(-1)
        return flat[self.roles.tied]

    # ---- names ------------------------------------------------------------------------------------------------------

    def locate(self, vector: int, index: int) -> str:
        """The name of one free number, for messages."""
        flat = int(self._free[sum(v.size for v in self.vectors[:vector]) + index])
        for which, held in enumerate(self._whole.vectors):
            if flat < held.size:
                return self._whole.locate(which, flat)
            flat -= held.size
        raise IndexError(f"vector {vector} has no entry {index}")

    # ---- leaves of the whole ----------------------------------------------------------------------------------------

    def _parts(self, vectors: Sequence[Array], dtype: Any = None) -> list[Array]:
        """The leaves of the whole as NumPy arrays, of the free numbers in `vectors`."""
        return self._parts_of_leaves(self.views(vectors), dtype)

    def _parts_of_leaves(self, leaves: Sequence[Array], dtype: Any = None) -> list[Array]:
        if dtype is None and any(np.iscomplexobj(leaf) for leaf in leaves):
            dtype = complex
        parts = [np.array(leaf, dtype=dtype) for leaf in self._whole.leaves]
        for (i, at), leaf in zip(self._owners, leaves, strict=True):
            parts[i].reshape(-1)[at] = leaf
        for tie in self.roles.ties:
            self._write(parts, tie, self._value(tie, self._containers(parts)))
        return parts

    def _fill(self, flat_leaves: Sequence[Array], vectors: Sequence[Array]) -> None:
        for (i, at), leaf in zip(self._owners, self.views(vectors), strict=True):
            flat_leaves[i][at] = leaf

    def _containers(self, parts: Sequence[Array], kind: Kind | None = None) -> Any:
        kinds = self._whole.kinds
        return self.spec_of_whole([as_leaf(part, kind or own, True) for part, own in zip(parts, kinds, strict=True)])

    # ---- ties -------------------------------------------------------------------------------------------------------

    def _call(self, tie: Tie, container: Any) -> Any:
        try:
            return tie.function(self._named(container))
        except Exception as error:
            raise ObjectiveError(f"tied[{tie.label!r}] raised {described(error)}") from error

    def _named(self, container: Any) -> Any:
        """The container for a tie: an array whose numbers were given names may be asked for them."""
        names = self.roles.given_names
        return container if names is None or not self._whole.spec.is_leaf() else Named(container, names)

    def _value(self, tie: Tie, container: Any, *, raises: bool = True) -> Array:
        """The numbers that a tie gives, as a vector."""
        value = self._call(tie, container) if raises else tie.function(self._named(container))
        try:
            array = plain(value)
            if array.dtype.kind not in "fiuc":
                raise ValueError
            return np.broadcast_to(array, tie.numbers.shape) if array.size == 1 else array.reshape(tie.numbers.shape)
        except (TypeError, ValueError):
            raise OptionError(
                f"tied[{tie.label!r}] returned {value!r}: real numbers for {tie.numbers.size} parameters are needed"
            ) from None

    def _write(self, parts: Sequence[Array], tie: Tie, values: Array) -> None:
        for leaf, at, which in self._spots[id(tie)]:
            parts[leaf].reshape(-1)[at] = values[which]

    def _put_tied(self, parts: list[Any], tie: Tie, value: Any, kind: Kind) -> None:
        for leaf, at, which in self._spots[id(tie)]:
            one = getattr(value, "ndim", 0) == 0 or tie.numbers.size == 1
            parts[leaf] = _put(parts[leaf], at, value if one else value.reshape(-1)[which], kind)


class Named:
    """An array or tensor whose numbers have names: ``p["rate"]`` beside ``p[1]``; anything else is the array's own."""

    def __init__(self, array: Any, names: Sequence[str]) -> None:
        self.array, self.names = array, {name: i for i, name in enumerate(names)}

    def __getitem__(self, key: Any) -> Any:
        if not isinstance(key, str):
            return self.array[key]
        if key not in self.names:
            raise OptionError(f"there is no parameter {key!r}; {did_you_mean(key, self.names)}")
        return self.array.reshape(-1)[self.names[key]]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.array, name)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.array(self.array, dtype=dtype) if copy or dtype is not None else np.asarray(self.array)

    def __len__(self) -> int:
        return len(self.array)


def _spots(tie: Tie, places: Sequence[slice]) -> list[tuple[int, Array, Array]]:
    """Where a tie's numbers are: a leaf, the places in it, and which of the tie's numbers go there."""
    found = []
    for leaf, place in enumerate(places):
        which = np.flatnonzero((tie.numbers >= place.start) & (tie.numbers < place.stop))
        if which.size:
            found.append((leaf, tie.numbers[which] - place.start, which))
    return found


def _put(array: Any, at: Array, values: Any, kind: Kind) -> Any:
    """A tensor or JAX array with other values at some places of its flat form; no memory is shared."""
    if kind == "jax":
        jnp = sys.modules["jax.numpy"]
        flat = array.reshape(-1)
        return flat.at[at].set(jnp.asarray(values, dtype=flat.dtype).reshape(-1)).reshape(array.shape)
    torch = sys.modules["torch"]
    flat = array.reshape(-1)
    new = torch.as_tensor(values, dtype=flat.dtype).reshape(-1).expand(len(at))
    return flat.index_put((torch.from_numpy(at),), new).reshape(array.shape)
