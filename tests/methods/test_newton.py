"""The truncated Newton method: against Steihaug's algorithm as a loop, closed forms, and SciPy's."""

import itertools

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
from scipy.sparse.linalg import aslinearoperator
from tests.methods.cases import path

import descend
from descend import Reason
from descend.methods.newton import to_border

ROSEN = {"fun": scipy.optimize.rosen, "jac": scipy.optimize.rosen_der}


def steihaug(H, g, radius, goal):
    """The step of Nocedal and Wright's algorithm 7.2."""
    z, r, d = np.zeros_like(g), g.copy(), -g
    while True:
        bend = d @ H @ d
        roots = np.roots([d @ d, 2 * z @ d, z @ z - radius**2])
        alpha = r @ r / bend
        if bend <= 0 or np.linalg.norm(z + alpha * d) >= radius:
            return z + max(roots.real) * d
        z, before = z + alpha * d, r @ r
        r = r + alpha * H @ d
        if np.linalg.norm(r) < goal:
            return z
        d = -r + r @ r / before * d


@pytest.mark.parametrize("x0", [(-1.2, 1.0), (-1.2, 1.0, 0.3, 2.0), (0.1, -3.0, 2.0)])
def test_steps_lead_where_steihaugs_algorithm_does(x0):
    """Each step is along it for some radius: the one that the step itself has, where that is on the border."""
    method = descend.TruncatedNewton(search=descend.Wolfe(c2=0.999))
    points = path(
        method, lambda x: (scipy.optimize.rosen(x), scipy.optimize.rosen_der(x)), x0, max_steps=30,
        hessp=scipy.optimize.rosen_hess_prod,
    )  # fmt: skip
    assert len(points) > 8
    first = np.linalg.norm(points[0][2])
    radius, seen = np.linalg.norm(x0), set()
    for (x, f, g), (x1, f1, _) in itertools.pairwise(points):
        H, norm = scipy.optimize.rosen_hess(x), np.linalg.norm(g)
        step = steihaug(H, g, radius, norm * min(0.5, np.sqrt(norm / first)))
        went = x1 - x
        alpha = (went @ step) / (step @ step)
        assert went == pytest.approx(alpha * step, rel=1e-6, abs=1e-9 * np.linalg.norm(step) + 1e-14)
        share = (f - f1) / -(g @ step + 0.5 * step @ H @ step)
        if alpha != pytest.approx(1.0, abs=1e-9):
            radius = np.linalg.norm(went)
        elif share < 0.25:
            radius = 0.25 * np.linalg.norm(went)
        elif share > 0.75:
            radius = max(radius, 2 * np.linalg.norm(went))
        seen.add(np.linalg.norm(step) < 0.999 * radius)
    assert seen == {True, False}


def test_a_quadratic_is_solved_in_a_step_once_the_region_holds_its_minimum():
    """By as many products as there are different eigenvalues, where the residual must be small."""
    values = np.repeat([1.0, 10.0, 1e4], 5)

    def fun(x):
        return 0.5 * float(values @ (x - 1) ** 2), values * (x - 1)

    result = descend.minimize(
        fun, np.full(15, 3.0), jac=True, hessp=lambda _, p: values * p, gtol=1e-8,
        method=descend.TruncatedNewton(forcing=1e-12),
    )  # fmt: skip
    assert result.success
    assert result.x == pytest.approx(1.0, abs=1e-8)
    assert result.nit == 1
    assert 3 <= result.nhev <= 4


def test_an_ill_conditioned_quadratic_on_which_lbfgs_crawls():
    """A condition of 1e6 in 300 dimensions."""
    values = np.logspace(0, 6, 300)
    goal = np.random.default_rng(0).normal(size=300)

    def fun(x):
        return 0.5 * float(values @ (x * x)) - float(goal @ x), values * x - goal

    options = {"jac": True, "gtol": 1e-5, "max_evals": 12_000}
    newton = descend.minimize(fun, np.zeros(300), hessp=lambda _, p: values * p, **options)
    assert newton.success
    assert newton.x == pytest.approx(goal / values, abs=1e-4)
    assert newton.nfev < 40
    assert not descend.minimize(fun, np.zeros(300), method="lbfgs", jac=True, gtol=1e-5, max_evals=2_000).success


def test_a_saddle_is_left():
    """The loss curves downwards at the start, whose gradient points to the saddle."""

    def fun(x):
        return float(x[0] ** 2 + (x[1] ** 2 - 1) ** 2), np.array([2 * x[0], 4 * x[1] * (x[1] ** 2 - 1)])

    def hess(x):
        return np.diag([2.0, 12 * x[1] ** 2 - 4])

    result = descend.minimize(fun, np.array([1.0, 1e-3]), jac=True, hess=hess)
    assert result.success
    assert result.x[0] == pytest.approx(0.0, abs=1e-5)
    assert abs(result.x[1]) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize(
    "given",
    [
        {"hessp": scipy.optimize.rosen_hess_prod},
        {"hess": scipy.optimize.rosen_hess},
        {"hess": lambda x: scipy.sparse.csr_array(scipy.optimize.rosen_hess(x))},
        {"hess": lambda x: aslinearoperator(scipy.optimize.rosen_hess(x))},
        {"hess": "2-point"},
        {},
    ],
    ids=["hessp", "hess", "sparse", "operator", "2-point", "gradients"],
)
def test_products_from_any_source(given):
    """All lead to the minimum that SciPy's trust-ncg finds, with about as many evaluations."""
    x0 = np.array([1.3, 0.7, 0.8, 1.9, 1.2])
    theirs = scipy.optimize.minimize(**ROSEN, x0=x0, method="trust-ncg", hessp=scipy.optimize.rosen_hess_prod)
    result = descend.minimize(**ROSEN, x0=x0, method="trust-ncg", **given)
    assert isinstance(result.method, descend.TruncatedNewton)
    assert result.success
    assert result.x == pytest.approx(theirs.x, abs=1e-4)
    assert result.nit <= 1.3 * theirs.nit
    assert result.nhev > 0
    by_gradients = not given or given == {"hess": "2-point"}
    assert (result.nfev > result.nhev + result.nit) is by_gradients


def test_containers_and_arguments_reach_the_product():
    """A direction is built as the parameters, number for number, and further arguments come after it."""
    seen = []

    def fun(p, scale):
        return scale * float(np.sum((p["w"] - 2) ** 2) + (p["b"] + 1) ** 4)

    def jac(p, scale):
        return {"w": 2 * scale * (p["w"] - 2), "b": 4 * scale * (p["b"] + 1) ** 3}

    def hessp(p, along, scale):
        seen.append((along["w"].dtype, along["w"].shape, type(along["b"])))
        return {"w": 2 * scale * along["w"], "b": 12 * scale * (p["b"] + 1) ** 2 * along["b"]}

    x0 = {"w": np.zeros((2, 2), dtype=np.float32), "b": 0.5}
    result = descend.minimize(fun, x0, (3.0,), jac=jac, hessp=hessp)
    assert result.success
    assert result.x["w"] == pytest.approx(np.full((2, 2), 2.0), abs=1e-3)
    assert set(seen) == {(np.dtype(np.float32), (2, 2), float)}


def test_the_minimum_of_free_numbers_with_what_is_fixed():
    """A matrix or a product of the whole is that of the free ones."""
    x0 = np.array([-1.2, 1.0, 0.5])
    expected = scipy.optimize.minimize(lambda x: scipy.optimize.rosen([x[0], 1.0, x[1]]), x0[[0, 2]], tol=1e-10).x
    for given in ({"hess": scipy.optimize.rosen_hess}, {"hessp": scipy.optimize.rosen_hess_prod}):
        result = descend.minimize(**ROSEN, x0=x0, fixed=[1], **given)
        assert result.success
        assert result.x == pytest.approx([expected[0], 1.0, expected[1]], abs=1e-5)


def test_going_on_from_a_state_gives_the_same_bits():
    """Whether a step or the evaluations were the end of the first part."""
    x0 = np.tile([-1.2, 1.0], 3)
    options = dict(**ROSEN, hessp=scipy.optimize.rosen_hess_prod, gtol=1e-8)
    whole = descend.minimize(x0=x0, **options)
    for part in ({"max_steps": 7}, {"max_evals": 40}):
        first = descend.minimize(x0=x0, **options, **part)
        assert not first.success
        result = descend.minimize(x0=x0, state=first.state, **options)
        assert result.x.tobytes() == whole.x.tobytes()
        assert result.nit == whole.nit
        if "max_steps" in part:
            assert (result.nfev, result.nhev) == (whole.nfev, whole.nhev)


def test_products_count_in_the_budget_of_evaluations():
    """One each; differences of gradients count as the evaluations that they are."""
    for given in ({"hessp": scipy.optimize.rosen_hess_prod}, {"hess": "2-point"}):
        result = descend.minimize(
            **ROSEN, x0=np.tile([-1.2, 1.0], 10), max_evals=50, gtol=1e-8, method="truncatednewton", **given
        )
        assert result.reason is Reason.MAX_EVALS
        assert result.nfev + (result.nhev if "hessp" in given else 0) == 50


@pytest.mark.parametrize(
    ("point", "direction", "radius"),
    [((0.0, 0.0), (1.0, 0.0), 2.0), ((0.3, -0.4), (-2.0, 5.0), 1.0), ((3, 4), (3, 4), 5)],
)
def test_the_border_of_the_region(point, direction, radius):
    point, direction = np.array(point, float), np.array(direction, float)
    t = to_border(point, direction, radius)
    assert t >= 0
    assert np.linalg.norm(point + t * direction) == pytest.approx(radius)
