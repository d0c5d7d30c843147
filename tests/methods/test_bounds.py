"""Methods within bounds: against SciPy and their papers; no point outside is evaluated."""

import itertools
import math

import numpy as np
import pytest
import scipy.optimize
from tests.methods.cases import inverse_of, path
from tests.objectives.functions import ROSEN, corner, valley

import descend
from descend.errors import MethodError


@pytest.mark.parametrize(
    "bounds",
    [
        (0.0, 1.0),
        ([0.0, 0.0, 0.0], [1.0, 1.0, 1.0]),
        [(0.0, 1.0), (None, None), (0.0, None)],
        scipy.optimize.Bounds([0, -np.inf, 0], [1, np.inf, 5]),
    ],
    ids=["numbers", "arrays", "pairs", "scipy"],
)
@pytest.mark.parametrize(
    "method",
    ["auto", "bb", "acceleratedgradient", "adaptivegradient", descend.GD(lr=0.1), descend.Adam(lr=0.05)],
    ids=str,
)
def test_bounds_are_kept(bounds, method):
    """As SciPy has them and as two ends: the minimum within them, of which gtol is said; no look outside."""
    looks = []
    result = descend.minimize(
        lambda x: (looks.append(x.copy()), corner(x))[1], np.array([0.5, 3.0, 0.5]), jac=True, method=method,
        bounds=bounds, gtol=1e-6, max_steps=5_000,
    )  # fmt: skip
    assert result.success
    assert result.x == pytest.approx([1.0, 0.5, 0.0], abs=1e-5)
    assert "Within the bounds, its largest entry is" in result.message
    assert all(x[0] <= 1.0 and x[2] >= 0.0 for x in looks)


@pytest.mark.parametrize("method", ["auto", "bb", "acceleratedgradient", "adaptivegradient"])
def test_bounded_minima_agree_with_scipy(method):
    """Rosenbrock's function in a box that leaves its minimum out."""
    bounds = [(-2.0, 0.8), (None, 0.5), (0.1, 0.3)]
    x0 = np.array([0.5, 0.4, 0.2])
    ours = descend.minimize(**ROSEN, x0=x0, bounds=bounds, gtol=1e-7, method=method)
    scipys = scipy.optimize.minimize(
        **ROSEN, x0=x0, bounds=bounds, method="L-BFGS-B", options={"ftol": 0, "gtol": 1e-9}
    )
    assert ours.success
    assert ours.x == pytest.approx(scipys.x, abs=1e-6)
    assert ours.why == ("LBFGS, as 3 parameters have a whole gradient" if method == "auto" else "")


@pytest.mark.parametrize("above", [1e-6, 1e-10, 0.0])
@pytest.mark.parametrize("seed", range(6))
def test_a_start_just_above_its_bounds(seed, above):
    """Correlated quadratics that press most parameters against bounds that they do not quite touch."""
    rng = np.random.default_rng(seed)
    L = rng.normal(size=(12, 3))
    A, b = L @ L.T + 1e-3 * np.eye(12), rng.normal(size=12)
    x0 = np.where(rng.random(12) < 0.7, above, 1.0)
    result = descend.minimize(lambda x: (0.5 * x @ A @ x - b @ x, A @ x - b), x0, jac=True, bounds=(0.0, None))
    assert result.success
    assert result.nfev < 200
    exact = scipy.optimize.nnls(np.linalg.cholesky(A).T, np.linalg.solve(np.linalg.cholesky(A), b))[0]
    assert 0.5 * result.x @ A @ result.x - b @ result.x <= 0.5 * exact @ A @ exact - b @ exact + 1e-6


@pytest.mark.parametrize("seed", range(20))
def test_random_boxes_agree_with_scipy(seed):
    """Quadratics with a condition of 1e4 in random boxes: one minimum each, with some parameters at their bounds."""
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(25, 25)))[0]
    A, b = turn @ np.diag(np.logspace(-2, 2, 25)) @ turn.T, rng.normal(size=25)
    lower = np.where(rng.random(25) < 0.2, -np.inf, rng.normal(size=25) - 1)
    upper = np.where(rng.random(25) < 0.2, np.inf, np.maximum(lower, rng.normal(size=25)) + 1.0)
    upper[0] = lower[0] = 0.3
    fun = lambda x: (0.5 * x @ A @ x - b @ x, A @ x - b)  # noqa: E731
    looks = []
    seen = lambda x: (looks.append(x.copy()), fun(x))[1]  # noqa: E731
    ours = descend.minimize(seen, np.clip(np.zeros(25), lower, upper), jac=True, bounds=(lower, upper), gtol=1e-9)
    options = {"ftol": 0, "gtol": 1e-10, "maxiter": 10**5, "maxfun": 10**5}
    box = scipy.optimize.Bounds(lower, upper)
    scipys = scipy.optimize.minimize(fun, np.zeros(25), jac=True, bounds=box, method="L-BFGS-B", options=options)
    assert ours.success
    assert np.max(np.abs(np.clip(ours.x - fun(ours.x)[1], lower, upper) - ours.x)) <= 1e-9  # SciPy's are up to 1e-8
    assert ours.x == pytest.approx(scipys.x, abs=1e-5)
    assert ours.fun <= scipys.fun + 1e-12 * abs(scipys.fun)
    assert np.sum((ours.x == lower) | (ours.x == upper)) >= 3
    assert all(np.all((x >= lower) & (x <= upper)) for x in looks)


def test_lbfgs_within_bounds_goes_where_its_pairs_say():
    """Each step leads to the projection of a point along −Hg, H being made of what the free parameters did."""
    lower, upper = np.array([-0.3, -0.4, 0.0]), np.array([1.0, 0.5, 1.7])
    points = path(descend.LBFGS(), valley, (0.6, 0.2, 1.5), max_steps=8, bounds=(lower, upper))
    steps = [b[0] - a[0] for a, b in itertools.pairwise(points)]
    changes = [b[2] - a[2] for a, b in itertools.pairwise(points)]
    bent = held = 0
    for k in range(1, len(steps)):
        x, _, g = points[k]
        free = ~(((x <= lower) & (g > 0)) | ((x >= upper) & (g < 0)))
        pairs = [(s * free, y * free) for s, y in zip(steps[:k], changes[:k], strict=True)]
        s, y = zip(*[(s, y) for s, y in pairs if s @ y > 1e-8 * np.linalg.norm(s) * np.linalg.norm(y)], strict=True)
        direction = free * -(inverse_of(s, y, (s[-1] @ y[-1]) / (y[-1] @ y[-1])) @ (g * free))
        end = points[k + 1][0]
        inside = free & (end > lower) & (end < upper)
        assert inside.any()
        alpha = (end - x)[inside] / direction[inside]
        assert alpha == pytest.approx(alpha[0], rel=1e-6)
        assert np.clip(x + alpha[0] * direction, lower, upper) == pytest.approx(end, abs=1e-8)
        bent += bool((free & ~inside).any())
        held += bool((~free).any())
    assert bent
    assert held


def test_the_projected_adaptive_gradient_is_its_algorithm():
    """Malitsky and Mishchenko 2024, algorithm 3, as a loop from its second step on, to the last bits."""
    ends = np.array([0.2, -1.0, -9.0, 0.0]), np.array([9.0, 0.5, 9.0, 4.0])
    points = path(descend.AdaptiveGradient(), bounds=ends, max_steps=60)
    (x0, _, g0), (x, _, g) = points[:2]
    length, grown = math.sqrt(0.5) * np.linalg.norm(x - x0) / np.linalg.norm(g - g0), 1.0
    for k, (new, _, new_g) in enumerate(points[2:]):
        if k:
            over = 2 * (length * np.linalg.norm(g - g0) / np.linalg.norm(x - x0)) ** 2 - 1
            after = min(math.sqrt(2 / 3 + grown) * length, length / math.sqrt(over) if over > 0 else math.inf)
            length, grown = after, after / length
        assert new == pytest.approx(np.clip(x - length * g, *ends), rel=1e-12)
        x0, g0, x, g = x, g, new, new_g
    assert x[1] == 0.5  # at its bound


def test_methods_that_keep_no_bounds_say_so():
    with pytest.raises(MethodError, match="BFGS cannot keep to bounds; use a rule, or 'acceleratedgradient'"):
        descend.minimize(corner, np.zeros(3), jac=True, method="bfgs", bounds=(0.0, 1.0))


def test_climbing_within_bounds():
    """The gradient's sign turns with the rule's, also where gtol is about bounds."""
    climb = descend.GD(lr=0.1, maximize=True)
    for x0 in (0.0, 1.0):
        result = descend.minimize(lambda x: x, x0, jac=lambda x: 1.0, bounds=(0.0, 1.0), method=climb, gtol=1e-6)
        assert result.success
        assert result.x == pytest.approx(1.0)


def test_bounds_do_not_round_a_gradient_away():
    """A parameter of 1e20 and a gradient of 2."""
    result = descend.minimize(
        lambda x: 1e20 * float(np.sum((x / 1e20 - 2) ** 2)), np.array([1e20]), jac=lambda x: 2 * (x / 1e20 - 2),
        bounds=(0, None), max_steps=200, gtol=1e-9, method="bb",
    )  # fmt: skip
    assert not result.success


def test_a_corner_of_the_bounds_is_a_minimum():
    """With ftol alone: no direction leads down, and that is what is said."""
    result = descend.minimize(
        lambda x: float(np.sum((x - 3) ** 2)), np.zeros(2), jac=lambda x: 2 * (x - 3), bounds=(0.0, 1.0), ftol=1e-9
    )
    assert result.success
    assert result.x.tolist() == [1.0, 1.0]
