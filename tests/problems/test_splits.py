"""The split of a problem's data: class labels keep their shares, other targets are split as they come."""

import numpy as np
import pytest
import torch
from tests.problems.lines import line

import descend
from descend.errors import ProblemError

RNG = np.random.default_rng(3)
N = 200
NUMBERS = np.arange(N)
"""The first array tells which examples a part has."""
RARE = (RNG.permutation(N) < 10).astype(int)
"""A class of 5 % of the examples."""
TEN = np.repeat(np.arange(10), 20)[RNG.permutation(N)]


def parts(y, **options):
    """The numbers of the examples in the three parts."""
    problem = line(data=(NUMBERS, y), **options)
    return [np.asarray(part[0]) for part in (problem.train, problem.validation, problem.test)]


@pytest.mark.parametrize(
    "y",
    [
        RARE, RARE.astype(bool), RARE.astype(float), RARE.astype(np.float32), RARE[:, None], RARE.tolist(),
        np.where(RARE, "yes", "no"), np.where(RARE, "yes", "no").astype(object),
        torch.from_numpy(RARE), torch.from_numpy(RARE).float(),
    ],
    ids=range(10),
)  # fmt: skip
def test_classes_keep_their_shares(y):
    """Of ten rare examples 6, 2 and 2 are in the parts: numbers, flags, floats, columns, lists, texts, tensors."""
    found = parts(y)
    assert [len(part) for part in found] == [120, 40, 40]
    assert sorted(np.concatenate(found)) == list(range(N))
    assert [int(RARE[part].sum()) for part in found] == [6, 2, 2]


@pytest.mark.parametrize("split", [(0.6, 0.2, 0.2), (0.5, 0.3, 0.2), (0.34, 0.33, 0.33), (0.9, 0.1, 0.0)])
def test_every_class_is_at_its_share_to_one_example(split):
    """Whatever the shares of the parts; their sizes are what they would be otherwise."""
    problem = line(data=(NUMBERS, TEN), split=split)
    plain = line(data=(NUMBERS, TEN), split=split, stratify=False)
    for part, other, share in zip(
        (problem.train, problem.validation, problem.test),
        (plain.train, plain.validation, plain.test),
        split,
        strict=True,
    ):
        if share:
            assert len(part[0]) == len(other[0])
            assert np.all(np.abs(np.bincount(part[1], minlength=10) - 20 * share) < 2)


def test_the_split_is_the_same_each_time_and_in_no_order():
    """Parts are drawn at random, once for all; examples of a class are not next to each other."""
    first, again = parts(TEN), parts(TEN)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(np.sort(first[0]), first[0])
    assert np.mean(np.diff(TEN[first[0]]) == 0) < 0.25


FIGURES = {
    "figures": RNG.normal(size=N),
    "whole floats of many values": RNG.integers(0, 60, size=N).astype(float),
    "numbers of which each is another": RNG.permutation(N),
    "one class": np.zeros(N, int),
    "several outputs": RNG.integers(0, 2, size=(N, 3)),
}


@pytest.mark.parametrize("what", FIGURES)
def test_what_is_no_class_is_split_as_it_comes(what):
    """And classes, too, where that is asked for; nothing but the last of several arrays is looked at."""
    expected = parts(FIGURES["figures"], stratify=False)
    for found in (parts(FIGURES[what]), parts(RARE, stratify=False)):
        assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
    alone = line(data=(RARE,), loss=lambda w, y: 0.0, jac=lambda w, y: 0 * w)
    assert np.array_equal(alone.train[0], RARE[expected[0]])


def test_classes_of_few_examples_are_in_every_part():
    """Pairs are not all put into one part: where a class begins is drawn."""
    found = parts(np.repeat(np.arange(N // 2), 2))
    assert [len(part) for part in found] == [120, 40, 40]
    assert all(len(set(part // 2)) > 0.55 * len(part) for part in found)


def test_a_split_of_classes_is_quick():
    """A hundred thousand classes of two."""
    n = 200_000
    problem = line(data=(np.arange(n), np.arange(n) // 2))
    assert problem.size == 120_000


def test_stratify_is_a_flag():
    """Named with its value, and taken by a problem in PyTorch as well."""
    with pytest.raises(ProblemError, match="line: stratify='yes' must be True or False"):
        line(stratify="yes")
    problem = descend.TorchProblem(
        lambda: torch.nn.Linear(1, 2),
        torch.nn.functional.cross_entropy,
        data=(NUMBERS[:, None] / N, RARE),
        stratify=False,
    )
    assert [int(part[1].sum()) for part in (problem.train, problem.validation, problem.test)] != [6, 2, 2]
