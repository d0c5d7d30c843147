"""Methods: their directions and step lengths, against their papers as plain loops."""

import itertools
import math

import numpy as np
import pytest
import scipy.optimize
from tests.methods.cases import EVERY, inverse_of, path
from tests.objectives.functions import ROSEN, bowl, valley

import descend
from descend import Armijo, Reason, Wolfe


@EVERY
def test_minima_are_found(method):
    """A quadratic whose minimum is known, to what gtol promises; the loss never rises where a search forbids it."""
    result = descend.minimize(bowl, np.array([3.0, -2.0, 0.0, 5.0]), jac=True, method=method, gtol=1e-8)
    assert result.success
    assert result.reason is Reason.GRADIENT
    assert np.max(np.abs(result.jac)) <= 1e-8
    assert result.x == pytest.approx(1.0, abs=1e-8)
    assert result.method == method
    if not isinstance(method, (descend.BarzilaiBorwein, descend.AcceleratedGradient, descend.AdaptiveGradient)):
        losses = result.history.loss
        assert np.all(np.diff(losses) <= 1e-12 * losses[:-1])


@EVERY
def test_a_curved_valley(method):
    """Rosenbrock's, whose gradient is small far from the minimum: SciPy's default stops early, these do not."""
    result = descend.minimize(**ROSEN, x0=[-1.2, 1.0], method=method, gtol=1e-6, max_evals=60_000)
    assert result.success
    assert result.x == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("memory", [1, 2, 5, 30])
def test_lbfgs_goes_where_its_pairs_say(memory):
    """Each step is along −Hg, with H made as a matrix from the last pairs."""
    points = path(descend.LBFGS(memory=memory), valley, (-1.2, 1.0, 0.3), max_steps=25)
    steps = [b[0] - a[0] for a, b in itertools.pairwise(points)]
    changes = [b[2] - a[2] for a, b in itertools.pairwise(points)]
    for k in range(1, len(steps)):
        s, y = steps[:k][-memory:], changes[:k][-memory:]
        direction = -inverse_of(s, y, (s[-1] @ y[-1]) / (y[-1] @ y[-1])) @ points[k][2]
        cosine = direction @ steps[k] / np.linalg.norm(direction) / np.linalg.norm(steps[k])
        assert cosine == pytest.approx(1.0, abs=1e-7)


def test_bfgs_goes_where_its_matrix_says():
    """The same with all pairs; the first matrix has the scale of what the pairs before the last have not told of."""
    points = path(descend.BFGS(), valley, (-1.2, 1.0, 0.3), max_steps=25)
    steps = [b[0] - a[0] for a, b in itertools.pairwise(points)]
    changes = [b[2] - a[2] for a, b in itertools.pairwise(points)]
    for k in range(1, len(steps)):
        s, y = steps[k - 1], changes[k - 1]
        # What is left of the identity: the inverse that grows with its scale, as the pairs' own part does not.
        two, one = (inverse_of(steps[: k - 1], changes[: k - 1], scale, n=3) for scale in (2.0, 1.0))
        left = two - one
        scale = min(s @ y / (y @ left @ y), s @ s / (s @ y))
        direction = -inverse_of(steps[:k], changes[:k], scale) @ points[k][2]
        cosine = direction @ steps[k] / np.linalg.norm(direction) / np.linalg.norm(steps[k])
        assert cosine == pytest.approx(1.0, abs=1e-7)


@pytest.mark.parametrize("beta", ["hager-zhang", "polak-ribiere"])
def test_conjugate_gradients_remember_their_direction(beta):
    """Directions by the papers' formulas from the points alone; a quadratic of four dimensions takes few steps."""
    points = path(descend.ConjugateGradient(beta), valley, (-1.2, 1.0, 0.3), max_steps=15)
    d = -points[0][2]
    for (x, _, g), (x1, _, g1) in itertools.pairwise(points):
        went = x1 - x
        assert went @ d / np.linalg.norm(went) / np.linalg.norm(d) == pytest.approx(1.0, abs=1e-9)
        y = g1 - g
        if beta == "polak-ribiere":
            kept = max(0.0, g1 @ y / (g @ g))
        else:
            kept = (y - 2 * d * (y @ y) / (d @ y)) @ g1 / (d @ y)
            kept = max(kept, -1 / (np.linalg.norm(d) * min(0.01, np.linalg.norm(g))))
        d = -g1 + kept * d
        if d @ g1 >= 0:
            d = -g1
    quadratic = descend.minimize(bowl, np.full(4, 5.0), jac=True, method=descend.ConjugateGradient(beta), gtol=1e-8)
    assert quadratic.nit <= 12


def test_barzilai_and_borwein_go_as_far_as_the_last_step_says():
    """Where the search lets them: s·s / s·y along the gradient, from the points alone."""
    points = path(descend.BarzilaiBorwein(Armijo(window=100)), max_steps=20)
    for (x0, _, g0), (x1, _, g1), (x2, _, _) in zip(points, points[1:], points[2:], strict=False):
        s, y = x1 - x0, g1 - g0
        assert x2 - x1 == pytest.approx(-(s @ s) / (s @ y) * g1, rel=1e-9, abs=1e-12)


def test_the_adaptive_gradient_is_its_algorithm():
    """Malitsky and Mishchenko's algorithm 1 as a loop, to the last bits."""
    points = path(descend.AdaptiveGradient(), max_steps=30)
    x, g = points[0][0], points[0][2]
    length, grown = 1e-6 * max(1.0, np.linalg.norm(x)) / np.linalg.norm(g), math.inf
    for x1, _, _ in points[1:]:
        new = x - length * g
        assert x1 == pytest.approx(new, rel=1e-12)
        new_g = bowl(new)[1]
        after = min(
            math.sqrt(1 + grown) * length if grown < math.inf else math.inf,
            np.linalg.norm(new - x) / (2 * np.linalg.norm(new_g - g)),
        )
        length, grown, x, g = after, after / length, new, new_g


def test_accelerated_gradients_beat_the_plain_ones():
    """On an ill-conditioned quadratic the number of steps grows with the root of the condition; restarts keep it so."""
    scales = np.logspace(0, 4, 50)

    def fun(x):
        return 0.5 * float(scales @ x**2), scales * x

    steps = {}
    for method in (descend.AcceleratedGradient(), descend.SteepestDescent()):
        result = descend.minimize(fun, np.ones(50), jac=True, method=method, gtol=1e-6, max_steps=20_000)
        steps[type(method).__name__] = result.nit
        assert result.success or isinstance(method, descend.SteepestDescent)
    assert steps["AcceleratedGradient"] < 3_000
    assert steps["SteepestDescent"] > 3 * steps["AcceleratedGradient"]


@pytest.mark.parametrize(
    "search", [Wolfe(), Wolfe(c1=0.1, c2=0.2), Wolfe(c2=0.1, strong=True), Wolfe(c2=0.5, strong=True)]
)
@pytest.mark.parametrize("make", [descend.LBFGS, descend.BFGS, descend.ConjugateGradient, descend.SteepestDescent])
def test_wolfes_conditions_hold_at_each_step(make, search):
    """Both, from the points alone, on a function with hills."""

    def hills(x):
        return float(np.sum(x**2 + 3 * np.cos(3 * x))), 2 * x - 9 * np.sin(3 * x)

    for fun, x0 in ((valley, (-1.2, 1.0, 0.3)), (hills, (4.0, -3.0, 2.5))):
        points = path(make(search=search), fun, x0, max_steps=25, gtol=1e-5)
        assert len(points) > 3
        for (x, f, g), (x1, f1, g1) in itertools.pairwise(points):
            along = x1 - x
            slope = g @ along
            assert slope < 0
            if f - f1 > 1e-11 * abs(f):  # else slopes decide alone
                assert f1 <= f + search.c1 * slope * (1 - 1e-9)
            assert g1 @ along >= search.c2 * slope * (1 + 1e-9)
            if search.strong:
                assert abs(g1 @ along) <= search.c2 * abs(slope) * (1 + 1e-9)


def test_cosines_do_not_hold_it():
    """Σ cos(x² − y/2), the CUTEst problem COSINE: a long first step may land among waves that floats cannot resolve."""

    def fun(x):
        inner = x[:-1] ** 2 - 0.5 * x[1:]
        slope = np.zeros_like(x)
        slope[:-1] -= 2 * x[:-1] * np.sin(inner)
        slope[1:] += 0.5 * np.sin(inner)
        return float(np.sum(np.cos(inner))), slope

    for n in (10, 100):
        result = descend.minimize(fun, np.ones(n), jac=True, gtol=1e-5, max_evals=2_000)
        assert result.success
        assert result.fun == pytest.approx(-(n - 1))


@EVERY
def test_any_container_and_dtype(method):
    """A dict of float32 and float64 comes back as it was; float32 has a tolerance that it can reach."""

    def fun(p):
        return float(np.sum((p["w"] - 2) ** 2)) + (p["b"] + 1) ** 2 + float(np.sum(p["deep"][0] ** 2))

    def jac(p):
        return {"w": 2 * (p["w"] - 2), "b": 2 * (p["b"] + 1), "deep": [2 * p["deep"][0]]}

    x0 = {"w": np.zeros(3, dtype=np.float32), "b": 0.5, "deep": [np.ones((2, 2))]}
    result = descend.minimize(fun, x0, jac=jac, method=method)
    assert result.success
    assert result.x["w"].dtype == np.float32
    assert isinstance(result.x["b"], float)
    assert result.x["w"] == pytest.approx(2.0, abs=1e-3)
    assert result.x["b"] == pytest.approx(-1.0, abs=1e-3)
    assert result.x["deep"][0].shape == (2, 2)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6, 1e8])
@pytest.mark.parametrize("factor", [1e-12, 1.0, 1e13])
@pytest.mark.parametrize("method", [descend.LBFGS(), descend.BFGS()], ids=["lbfgs", "bfgs"])
def test_what_is_learned_does_not_depend_on_units(scale, factor, method):
    """Rosenbrock's function in other units of its parameters and of its loss takes about as many evaluations."""

    def fun(x):
        return factor * scipy.optimize.rosen(x * scale), factor * scale * scipy.optimize.rosen_der(x * scale)

    x0 = np.array([-1.2, 1.0]) / scale
    result = descend.minimize(fun, x0, jac=True, method=method, gtol=1e-6 * factor * scale, max_evals=200)
    assert result.success
    assert result.x * scale == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("offset", [0.0, 1e6, 1e8, 1e10, 1e12])
def test_accelerated_gradients_do_not_mind_a_large_loss(offset):
    """Where rounding hides what the loss does, gradients say how long a step may be."""
    scales, looks = np.array([1.0, 10.0]), []

    def fun(x):
        looks.append(1)
        return offset + 0.5 * float(scales @ (x - 3) ** 2), scales * (x - 3)

    assert descend.minimize(fun, np.array([0.0, 1.0]), jac=True, method="acceleratedgradient").success
    assert len(looks) <= 200


@pytest.mark.parametrize("bounds", [None, (-9.0, None)])
def test_gradients_whose_square_overflows_are_no_end(bounds):
    result = descend.minimize(
        lambda x: (1e160 * float(x @ x), 2e160 * x), np.ones(2), jac=True, bounds=bounds, gtol=1e150
    )
    assert result.success
