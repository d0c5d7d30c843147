"""The data of a problem: arrays with one row an example, in parts for training, validation and test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from descend.checks import is_real
from descend.errors import ProblemError, described
from descend.parameters.memory import Array

__all__ = ["ROLES", "Split", "as_array", "parts_of"]

Split = tuple[Any, ...]
"""Arrays with the same number of rows, such as (X, y)."""

ROLES = ("train", "validation", "test")

FEW_CLASSES = 20
"""Whole numbers among floats that are classes; more are figures that happen to be whole."""
MISSING_ROWS = ("bsr", "coo", "dia")
"""SciPy's sparse formats in which ``array[rows]`` fails or is slow."""


def parts_of(
    name: str,
    data: Sequence[Any] | None,
    given: Sequence[Sequence[Any] | None],
    shares: Sequence[float],
    stratify: bool = True,
) -> tuple[Split | None, Split | None, Split | None]:
    """Train, validation and test data of the problem `name`: `data` split by `shares`, or the three that are given.

    Class labels keep their shares in each part if `stratify`. Raises `ProblemError` for data that are no examples, or
    not finite.
    """
    train, validation, test = given
    if data is not None:
        if any(part is not None for part in given):
            raise ProblemError(f"{name}: give data= to be split, or train=, validation= and test=; not both")
        train, validation, test = _divided(data, shares, name, stratify)
    elif train is None and (validation is not None or test is not None):
        raise ProblemError(f"{name}: there is validation or test data but no train data; give train= too")
    checked = [
        None if part is None else _checked(part, f"{name}: {role}")
        for role, part in zip(ROLES, (train, validation, test), strict=True)
    ]
    return checked[0], checked[1], checked[2]


def _checked(part: Sequence[Any], what: str) -> Split:
    """A split as a tuple of arrays of equal length, which select rows; raises `ProblemError`."""
    what = f"{what.removesuffix(' data')} data"
    if not isinstance(part, (tuple, list)):
        part = (part,)
    arrays = tuple(_with_rows(p, what) for p in part)
    if any(len(a.shape) == 0 for a in arrays) or not arrays:
        raise ProblemError(f"{what} must be arrays with one row an example, such as (X, y)")
    lengths = [a.shape[0] for a in arrays]
    if len(set(lengths)) > 1:
        raise ProblemError(
            f"{what} have different lengths: {', '.join(map(str, lengths))}; each example needs a row in all"
        )
    if lengths[0] == 0:
        raise ProblemError(f"{what} are empty: at least one example is needed")
    for i, array in enumerate(arrays):
        found = _first_non_finite(array)
        if found is not None:
            raise ProblemError(f"{what}: array {i} has {found[1]} in row {found[0]}; remove or fill such rows")
    return arrays


def _with_rows(part: Any, what: str) -> Any:
    """Something whose ``part[rows]`` selects rows."""
    if getattr(part, "format", None) in MISSING_ROWS and type(part).__module__.startswith("scipy."):
        return part.tocsr()
    return part if _has_rows(part) else as_array(part, what)


def as_array(part: Any, what: str) -> Array:
    """Lists, data frames and the like as an array; raises `ProblemError`.

    What has items but is neither an array nor a sequence is not read: it may compute an item for any number (a dataset
    that draws examples at random, say), and would be read for ever.
    """
    if not (isinstance(part, Sequence) or np.isscalar(part) or _is_array(part)):
        raise ProblemError(
            f"{what}: {type(part).__name__} is no array: give arrays with one row an example, such as (X, y); "
            "of a dataset, stack the examples that it has (np.stack([x for x, _ in examples]))"
        )
    if isinstance(part, Sequence) and not isinstance(part, (list, tuple, str, bytes)):
        part = [part[i] for i in range(len(part))]
    try:
        return np.asarray(part)
    except (TypeError, ValueError) as error:  # rows of different lengths, say
        raise ProblemError(f"{what} cannot be made an array: {described(error)}; give arrays") from error


def _is_array(part: Any) -> bool:
    """Whether something says by itself how it is an array: through NumPy's protocols, or as a buffer."""
    if any(hasattr(part, name) for name in ("__array__", "__array_interface__", "__array_struct__")):
        return True
    try:
        memoryview(part).release()
    except TypeError:
        return False
    return True


def _first_non_finite(array: Any) -> tuple[int, float] | None:
    """Row and value of the first NaN or infinity in an array or a dense tensor of floats, if any."""
    if isinstance(array, np.ndarray):
        if array.dtype.kind != "f":
            return None
        finite = np.ma.filled(np.isfinite(array), True)  # what is masked may be anything
    elif type(array).__module__.partition(".")[0] == "torch":
        if not array.is_floating_point() or str(array.layout) != "torch.strided":
            return None
        finite = array.isfinite().cpu().numpy()
    else:
        return None
    if finite.all():
        return None
    place = tuple(int(i) for i in np.unravel_index(int(np.argmin(finite)), finite.shape))
    return place[0], float(array[place])


def _has_rows(part: Any) -> bool:
    """Whether ``part[rows]`` selects rows already: arrays, tensors, sparse matrices; not a data frame."""
    return hasattr(part, "shape") and type(part).__module__.partition(".")[0] in ("numpy", "torch", "jax", "scipy")


def _divided(
    data: Sequence[Any], shares: Sequence[float], name: str, stratify: bool
) -> tuple[Split, Split | None, Split | None]:
    """Train, validation and test data, drawn at random from all of `data`, always in the same way."""
    whole = _checked(data, f"{name}: data")
    try:
        given = tuple(shares)
    except TypeError:
        given = ()
    numeric = len(given) == 3 and all(is_real(s) and 0 <= s <= 1 for s in given)
    if not numeric or abs(sum(given) - 1) > 1e-9 or given[0] == 0:
        raise ProblemError(
            f"{name}: split={shares!r} must be three shares (train > 0) that sum to 1; try (0.6, 0.2, 0.2)"
        )
    shares = given
    n = whole[0].shape[0]
    order = np.random.default_rng(0).permutation(n)
    labels = _labels(whole[-1]) if stratify and len(whole) > 1 else None
    first, second = round(n * shares[0]), round(n * (shares[0] + shares[1]))
    if first == 0:
        raise ProblemError(f"{name}: {n} examples leave none for training; give more data or a larger share")
    place = np.argsort(_quantiles(labels, order), kind="stable") if labels is not None else np.arange(n)
    parts = [order[np.sort(places)] for places in (place[:first], place[first:second], place[second:])]
    train, validation, test = (tuple(a[rows] for a in whole) if len(rows) else None for rows in parts)
    assert train is not None
    return train, validation, test


def _labels(array: Any) -> Array | None:
    """The class of each example, as numbers from 0, if that is what an array has; else None.

    Classes are whole numbers, flags or texts, one an example, that come twice or more on average; whole numbers among
    floats if there are few, as the 0 and 1 of a binary loss.
    """
    if len(array.shape) == 0 or any(size != 1 for size in array.shape[1:]):
        return None
    try:
        values = np.ravel(array.detach().cpu().numpy() if hasattr(array, "detach") else np.asarray(array))
        distinct, labels = np.unique(values, return_inverse=True)
    except (TypeError, ValueError):  # objects without an order, or what NumPy does not know
        return None
    if values.size != array.shape[0] or not 1 < len(distinct) <= values.size // 2:
        return None
    if values.dtype.kind == "f" and (len(distinct) > FEW_CLASSES or np.any(distinct != np.round(distinct))):
        return None
    return labels if values.dtype.kind in "biufUSO" else None


def _quantiles(labels: Array, order: Array) -> Array:
    """For each example in `order`, how far along it is among those of its class, from 0 to 1.

    Sorted by that, any first part has each class at its share, to one example. Where in its first step a class begins
    is drawn: else classes of few examples would all be in the same part.
    """
    own = labels[order]
    sizes = np.bincount(own)
    begin = np.random.default_rng(1).random(len(sizes))
    by_class, first = np.argsort(own, kind="stable"), np.cumsum(sizes) - sizes
    rank = np.empty(len(own))
    rank[by_class] = np.arange(len(own)) - first[own[by_class]]
    return np.asarray((rank + begin[own]) / sizes[own])
