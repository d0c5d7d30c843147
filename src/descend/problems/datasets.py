"""Real data as arrays: three small sets that are shipped with the package, and their split into three parts.

Where each set comes from, its licence and its citation stand in ``data/README.md`` beside this module.
"""

from __future__ import annotations

import importlib.resources
import math

import numpy as np

from descend.errors import ProblemError, did_you_mean
from descend.parameters.memory import Array
from descend.problems.splits import Split

__all__ = ["DATA_SETS", "load_arrays", "split_in_three"]

DATA_SETS = ("digits", "breast-cancer", "diabetes")
"""What `load_arrays` can read."""

REST, TEST_OF_REST = 0.4, 0.5
"""Shares of the split: 40 % of all examples are not for training, and half of these are test data."""


def load_arrays(name: str) -> tuple[Array, Array]:
    """Read one of the data sets that are shipped: inputs and targets, as they are, unscaled and not split.

    Parameters
    ----------
    name
        ``"digits"``, ``"breast-cancer"`` or ``"diabetes"``.

    Returns
    -------
    X, y
        Inputs in float64, one row an example; targets, which are class numbers in int64 or, of ``"diabetes"``, float64.

    Raises
    ------
    ProblemError
        There is no such data set.

    Examples
    --------
    >>> from descend.problems import load_arrays
    >>> X, y = load_arrays("digits")
    >>> X.shape, y.shape, float(X.max())
    ((1797, 64), (1797,), 16.0)
    """
    if name not in DATA_SETS:
        raise ProblemError(f"unknown data set {name!r}: {did_you_mean(str(name), DATA_SETS)}")
    path = importlib.resources.files("descend.problems") / "data" / f"{name.replace('-', '_')}.npz"
    with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        X, y = stored["X"], stored["y"]
    return X.astype(np.float64), y if y.dtype == np.float64 else y.astype(np.int64)


def split_in_three(X: Array, y: Array, *, stratify: bool) -> list[Split]:
    """Split data into 60 % train, 20 % validation and 20 % test; with every class at its share if `stratify`.

    The split is always the same. Its random draws are those of scikit-learn's ``train_test_split`` with
    ``random_state=0``, called for the rest and then for the test part of it, so that results can be compared with
    others on the same parts.
    """
    divide = _divide_by_class if stratify else _divide
    train, rest = divide(y, REST)
    validation, test = (rest[rows] for rows in divide(y[rest], TEST_OF_REST))
    return [(X[rows], y[rows]) for rows in (train, validation, test)]


def _divide(y: Array, share: float) -> tuple[Array, Array]:
    """Row numbers of two parts, drawn at random; the second part has that share, rounded up."""
    second = math.ceil(share * len(y))
    order = _generator().permutation(len(y))
    return order[second:], order[:second]


def _divide_by_class(y: Array, share: float) -> tuple[Array, Array]:
    """Row numbers of two parts, in each of which every class has the share that it has in `y`."""
    rng = _generator()
    of_class = [np.flatnonzero(y == label) for label in np.unique(y)]
    sizes = np.array([len(rows) for rows in of_class])
    second = math.ceil(share * len(y))
    firsts = _apportion(sizes, len(y) - second, rng)
    seconds = _apportion(sizes - firsts, second, rng)
    parts: tuple[list[Array], list[Array]] = ([], [])
    for rows, first, after in zip(of_class, firsts, firsts + seconds, strict=True):
        shuffled = rows[rng.permutation(len(rows))]
        parts[0].append(shuffled[:first])
        parts[1].append(shuffled[first:after])
    one, other = (rng.permutation(np.concatenate(part)) for part in parts)
    return one, other


def _apportion(sizes: Array, total: int, rng: np.random.RandomState) -> Array:
    """Distribute `total` places over classes in proportion to their sizes, by largest remainders.

    Classes with equal remainders draw lots.
    """
    exact = sizes / sizes.sum() * total
    places = np.floor(exact)
    remainders = exact - places
    left = int(total - places.sum())
    for remainder in np.unique(remainders)[::-1]:
        if left == 0:
            break
        tied = np.flatnonzero(remainders == remainder)
        # The lots are drawn where all of the tied classes win, too: each draw moves the generator on.
        winners = rng.choice(tied, size=min(len(tied), left), replace=False)
        places[winners] += 1
        left -= len(winners)
    return np.asarray(places, dtype=np.int64)


def _generator() -> np.random.RandomState:
    """NumPy's generator whose stream is frozen for ever: the recorded split must not change with NumPy."""
    return np.random.RandomState(0)
