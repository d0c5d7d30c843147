"""Objects whose fields are read as attributes and as items, as SciPy's results are."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self

import numpy as np

from descend.errors import did_you_mean

__all__ = ["Fields", "same"]


class Fields(Mapping[str, Any]):
    """A mixin of dataclasses: a mapping of their public fields, of `derived` properties, and of what was added later.

    Fields can be set as attributes or as items, and further ones may be added, as with `scipy.optimize.OptimizeResult`.
    Two are equal if they are of one type and all their fields are, arrays entry by entry.
    """

    derived: ClassVar[tuple[str, ...]] = ()
    """Properties that count as fields."""

    elsewhere: ClassVar[dict[str, str]] = {}
    """Fields of SciPy's results that are not there, and where to look instead."""

    def _own(self) -> list[str]:
        fields = [field.name for field in dataclasses.fields(self)]  # type: ignore[arg-type]
        return [name for name in dict.fromkeys([*fields, *vars(self)]) if not name.startswith("_")]

    def __iter__(self) -> Iterator[str]:
        return iter([*self._own(), *self.derived])

    def __len__(self) -> int:
        return len(self._own()) + len(self.derived)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (name in self.derived or name in self._own())

    def __getitem__(self, name: str) -> Any:
        if name not in self:
            raise KeyError(name)
        return getattr(self, name)

    def __setitem__(self, name: str, value: Any) -> None:
        setattr(self, name, value)

    def __getattr__(self, name: str) -> Any:
        kind = type(self)
        missing = f"{kind.__name__!r} object has no attribute {name!r}"
        if name.startswith("_"):
            raise AttributeError(missing)
        if name in kind.elsewhere:
            raise AttributeError(f"{missing}: {kind.elsewhere[name]}")
        names = [known for known in dir(kind) if not known.startswith("_")]
        fields = [field.name for field in dataclasses.fields(kind) if not field.name.startswith("_")]  # type: ignore[arg-type]
        raise AttributeError(f"{missing}; {did_you_mean(name, {*names, *fields} - {'derived', 'elsewhere'})}")

    def __eq__(self, other: object) -> bool:
        if self is other or not isinstance(other, Fields):
            return self is other
        names = self._own()
        return type(self) is type(other) and names == other._own() and all(same(self[n], other[n]) for n in names)

    __hash__ = None  # type: ignore[assignment]

    def copy(self) -> Self:
        """Another with the same fields, which are not copied."""
        made = object.__new__(type(self))
        vars(made).update(vars(self))
        return made


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal: arrays entry by entry, containers item by item, NaN to itself."""
    if one is other:
        return True
    if isinstance(one, float) and isinstance(other, float):
        return one == other or (math.isnan(one) and math.isnan(other))
    if hasattr(one, "shape") and hasattr(other, "shape"):
        one, other = np.asarray(one), np.asarray(other)
        return one.shape == other.shape and bool(np.all((one == other) | (_is_nan(one) & _is_nan(other))))
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)


def _is_nan(array: Any) -> Any:
    return np.isnan(array) if array.dtype.kind in "fc" else np.zeros(array.shape, dtype=bool)
