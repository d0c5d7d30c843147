"""Methods of `minimize`: directions and searches against plain loops, what ends them, going on, bounds, SciPy."""

import itertools
import math
import pickle
import time
import warnings

import numpy as np
import pytest
import scipy.optimize

import descend
from descend import Armijo, Reason, Wolfe, methods
from descend.errors import MethodError, ObjectiveError, OptionError, ParameterError, StateError

ROSEN = dict(fun=scipy.optimize.rosen, jac=scipy.optimize.rosen_der)
METHODS = {
    "lbfgs": descend.LBFGS(),
    "lbfgs, memory 3, strong": descend.LBFGS(memory=3, search=Wolfe(strong=True)),
    "bfgs": descend.BFGS(),
    "hager-zhang": descend.ConjugateGradient(),
    "polak-ribiere": descend.ConjugateGradient("polak-ribiere"),
    "barzilai-borwein": descend.BarzilaiBorwein(),
    "steepest, armijo": descend.SteepestDescent(),
    "steepest, wolfe": descend.SteepestDescent(Wolfe(c2=0.1, strong=True)),
    "accelerated": descend.AcceleratedGradient(),
    "adaptive": descend.AdaptiveGradient(),
}
EVERY = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
SCALES = np.array([1.0, 3.0, 10.0, 30.0])


def bowl(x):
    """A quadratic with a minimum at 1, and its gradient."""
    return 0.5 * float(SCALES @ (x - 1) ** 2), SCALES * (x - 1)


def path(method, fun=bowl, x0=(3.0, -2.0, 0.0, 5.0), **options):
    """The points of a descent, with loss and gradient."""
    points = []
    descend.minimize(fun, np.array(x0), jac=True, method=method, callback=points.append, **options)
    return [(p.x, p.fun, p.jac) for p in points]


def valley(x):
    return scipy.optimize.rosen(x), scipy.optimize.rosen_der(x)


# ---- each method, against its papers as plain loops -------------------------------------------------------------


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


def inverse_of(steps, changes, scale):
    """BFGS's inverse from its pairs, by the product form (Nocedal and Wright 2006, equation 6.17), entry by entry."""
    n = len(steps[0])
    H = scale * np.eye(n)
    for s, y in zip(steps, changes, strict=True):
        rho = 1 / (s @ y)
        left = np.eye(n) - rho * np.outer(s, y)
        H = left @ H @ left.T + rho * np.outer(s, s)
    return H


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
    """The same with all pairs, from the scale of the first; after as many steps as dimensions it is the inverse."""
    points = path(descend.BFGS(), valley, (-1.2, 1.0, 0.3), max_steps=25)
    steps = [b[0] - a[0] for a, b in itertools.pairwise(points)]
    changes = [b[2] - a[2] for a, b in itertools.pairwise(points)]
    scale = (steps[0] @ changes[0]) / (changes[0] @ changes[0])
    for k in range(1, len(steps)):
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


# ---- what ends them ---------------------------------------------------------------------------------------------


@EVERY
@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"gtol": 1e-5}, "gradient"),
        ({"ftol": 1e-9}, "value"),
        ({"xtol": 1e-7}, "step"),
        ({"target": 0.5}, "target"),
        ({"max_steps": 3}, "max_steps"),
        ({"max_evals": 5}, "max_evals"),
        ({"max_seconds": 0.02}, "max_seconds"),
        ({"callback": lambda point: point.nit == 2}, "callback"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_criterion_ends_each_method(method, options, reason):
    """By its name; success only where a criterion was asked for; the best point that was seen comes back."""
    seen = []

    def fun(x):
        seen.append(bowl(x))
        if "max_seconds" in options:
            time.sleep(0.008)
        return seen[-1]

    result = descend.minimize(fun, np.array([3.0, -2.0, 0.0, 5.0]), jac=True, method=method, **options)
    assert str(result.reason) == reason
    assert result.success == (reason in ("gradient", "value", "step", "target"))
    assert result.nfev == len(seen)
    assert result.nfev <= options.get("max_evals", math.inf)
    if not result.success:
        assert result.fun == min(f for f, _ in seen)
    assert bowl(result.x)[0] == result.fun
    assert np.array_equal(bowl(result.x)[1], result.jac)


@EVERY
@pytest.mark.parametrize("most", range(1, 40, 3))
def test_max_evals_is_never_exceeded(method, most):
    """Not within a search either; what was best so far is returned."""
    calls = []
    result = descend.minimize(
        lambda x: (calls.append(1), valley(x))[1], np.array([-1.2, 1.0]), jac=True, method=method, max_evals=most
    )
    assert len(calls) == result.nfev <= most
    assert result.fun <= valley(np.array([-1.2, 1.0]))[0]


@EVERY
def test_a_region_that_is_not_finite_is_kept_out_of(method):
    """Σx − log x from [8, 9]: beyond 0 lies NaN, where SciPy's L-BFGS-B, BFGS and CG fail."""

    def fun(x):
        with np.errstate(invalid="ignore", divide="ignore"):
            return float(np.sum(x - np.log(x))), 1 - 1 / x

    result = descend.minimize(fun, np.array([8.0, 9.0]), jac=True, method=method, gtol=1e-6, max_steps=5_000)
    assert result.success
    assert result.x == pytest.approx(1.0, abs=1e-4)


@EVERY
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_when_everything_ahead_is_not_finite_it_says_so(method, bad):
    """Finite at the start alone."""
    start = np.array([1.0, 2.0])

    def fun(x):
        return (float(x @ x) if np.array_equal(x, start) else bad), 2 * x

    result = descend.minimize(fun, start, jac=True, method=method)
    assert result.reason is Reason.NON_FINITE
    assert "not finite at any point tried" in result.message
    assert np.array_equal(result.x, start)
    assert not result.success


@EVERY
def test_a_gradient_that_lies_ends_with_a_reason(method):
    """The gradient points uphill: no lower point is found, the start comes back, and the message says what to check."""
    start = np.array([1.0, 2.0])
    result = descend.minimize(lambda x: (float(x @ x), -2 * x), start, jac=True, method=method, max_steps=200)
    if isinstance(method, descend.AdaptiveGradient):  # it does not look at losses
        assert result.reason in (Reason.DIVERGED, Reason.MAX_STEPS, Reason.NON_FINITE)
    else:
        assert result.reason is Reason.LINE_SEARCH
        assert "check_gradient=True" in result.message
    assert np.array_equal(result.x, start)
    assert not result.success


@EVERY
def test_a_function_that_raises_loses_nothing(method):
    """The error has the descent so far, its best point among it."""
    calls = []

    def fun(x):
        calls.append(bowl(x)[0])
        if len(calls) == 5:
            raise ZeroDivisionError("no more")
        return bowl(x)

    with pytest.raises(ObjectiveError, match="ZeroDivisionError: no more") as caught:
        descend.minimize(fun, np.array([3.0, -2.0, 0.0, 5.0]), jac=True, method=method)
    assert caught.value.result.reason is Reason.FUNCTION_RAISED
    assert caught.value.result.fun == min(calls[:4])


@EVERY
def test_a_start_that_is_the_minimum_is_converged(method):
    """A gradient of zero: success where something was asked for that a step of nothing meets, and else not."""
    for options, reason in (
        ({"gtol": 0.0}, "gradient"), ({"ftol": 1e-9}, "value"), ({"xtol": 1e-9}, "step"),
        ({"max_steps": 10}, "line_search"),
    ):  # fmt: skip
        result = descend.minimize(bowl, np.ones(4), jac=True, method=method, **options)
        assert str(result.reason) == reason
        assert result.success == (reason != "line_search")
        assert result.nit == 0
        assert ("zero" in result.message) == ("gtol" not in options)
    maximum = descend.minimize(
        lambda x: (float(np.sum(x**4 - x**2)), 4 * x**3 - 2 * x), np.zeros(2), jac=True, method=method, target=-0.3
    )
    assert not maximum.success


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


def test_no_silent_stop_on_small_progress():
    """SciPy's L-BFGS-B reports success on Rosenbrock with a gradient of 5e-5; here the gradient decides."""
    x0 = np.array([1.3, 0.7, 0.8, 1.9, 1.2])
    scipys = scipy.optimize.minimize(**ROSEN, x0=x0, method="L-BFGS-B")
    ours = descend.minimize(**ROSEN, x0=x0)
    assert scipys.success
    assert np.max(np.abs(scipys.jac)) > 1e-5
    assert ours.success
    assert np.max(np.abs(ours.jac)) <= 1e-5


# ---- going on ---------------------------------------------------------------------------------------------------

RULES = {"adam": descend.Adam(lr=0.1), "momentum": descend.Momentum(lr=0.01), "nadam": descend.NAdam(lr=0.05)}


@pytest.mark.parametrize("method", [*METHODS.values(), *RULES.values()], ids=[*METHODS, *RULES])
@pytest.mark.parametrize("at", [0, 1, 4, 11])
def test_stopped_and_continued_is_as_if_it_had_not(method, at, tmp_path):
    """After so many steps, through a file without pickle: the same points to the last bit, the same counts."""
    options = {"jac": True, "method": method, "xtol": 0.0}
    start = np.array([3.0, -2.0, 0.5, 1.9])
    whole = descend.minimize(valley, start, max_steps=25, history="path", **options)
    first = descend.minimize(valley, start, max_steps=at, history="path", **options)
    np.savez(tmp_path / "state.npz", **first.state)
    with np.load(tmp_path / "state.npz", allow_pickle=False) as state:
        rest = descend.minimize(valley, start, max_steps=25, history="path", state=dict(state), **options)
    assert np.array_equal(whole.x, rest.x)
    assert (whole.fun, whole.nit, whole.nfev, whole.njev) == (rest.fun, rest.nit, rest.nfev, rest.njev)
    points = [*first.history.path, *rest.history.path]
    assert all(np.array_equal(a, b) for a, b in zip(points, whole.history.path, strict=True))


@EVERY
@pytest.mark.parametrize("most", [3, 7, 16, 29])
def test_stopped_within_a_search_it_begins_that_search_again(method, most):
    """A budget of evaluations that ends between two points: the points are the same, if not their evaluations."""
    options = {"jac": True, "method": method}
    start = np.array([-1.2, 1.0])
    whole = descend.minimize(valley, start, max_steps=15, **options)
    first = descend.minimize(valley, start, max_steps=15, max_evals=most, **options)
    rest = descend.minimize(valley, start, max_steps=15, state=first.state, **options)
    assert np.array_equal(whole.x, rest.x)
    assert whole.nit == rest.nit


@EVERY
def test_ctrl_c_within_a_search_loses_nothing(method):
    """The function is interrupted at a trial: the descent ends where it stood, and goes on from there to the bit."""
    calls = []

    def fun(x):
        calls.append(1)
        if len(calls) == 7:
            raise KeyboardInterrupt
        return valley(x)

    start = np.array([-1.2, 1.0])
    first = pickle.loads(pickle.dumps(descend.minimize(fun, start, jac=True, method=method, max_steps=12)))
    assert first.reason is Reason.INTERRUPTED
    rest = descend.minimize(valley, start, jac=True, method=method, max_steps=12, state=first.state)
    whole = descend.minimize(valley, start, jac=True, method=method, max_steps=12)
    assert np.array_equal(whole.x, rest.x)


def test_a_state_goes_on_with_its_own_method_alone():
    """Another method, another size, another container: an error that says so."""
    state = descend.minimize(bowl, np.zeros(4), jac=True, max_steps=2).state
    with pytest.raises(StateError, match=r"it was taken of LBFGS\(memory=30"):
        descend.minimize(bowl, np.zeros(4), jac=True, method="bfgs", state=state)
    with pytest.raises(StateError, match=r"x.0 has shape \(4,\), \(3,\) is needed"):
        descend.minimize(bowl, np.zeros(3), jac=True, state=state)
    with pytest.raises(StateError, match="KeyError"):
        descend.minimize(bowl, np.zeros(4), jac=True, state={})


# ---- containers, types, bounds, starts --------------------------------------------------------------------------


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


def corner(x):
    """A function whose minimum within [0, 1] lies in a corner and on an edge."""
    return float(np.sum((x - np.array([2.0, 0.5, -1.0])) ** 2)), 2 * (x - np.array([2.0, 0.5, -1.0]))


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


@pytest.mark.parametrize(
    ("bounds", "match"),
    [
        ((1.0, 0.0), r"bounds of x0\[0\]: 1 is not at most 0"),
        (3.0, r"bounds=3.0: \(lower, upper\) is needed"),
        ((0.0, [1.0, 2.0]), "upper bound of x0 is"),
        ((math.nan, 1.0), "nan is not at most 1"),
    ],
)
def test_bounds_that_are_none_are_refused(bounds, match):
    with pytest.raises(ParameterError, match=match):
        descend.minimize(corner, np.zeros(3), jac=True, bounds=bounds)


def test_methods_that_keep_no_bounds_say_so():
    with pytest.raises(MethodError, match="BFGS cannot keep to bounds; use a rule, or 'acceleratedgradient'"):
        descend.minimize(corner, np.zeros(3), jac=True, method="bfgs", bounds=(0.0, 1.0))


def test_the_best_of_several_starts():
    """All results are there; one whose function raises loses no other."""

    def fun(x):
        if x[0] > 50:
            raise ValueError("too far")
        return float(np.sum(x**2 + 10 * np.cos(2 * x))), 2 * x - 20 * np.sin(2 * x)

    starts = [np.array([60.0]), np.array([1.4]), np.array([-4.0])]
    result = descend.minimize(fun, np.array([5.0]), jac=True, starts=starts)
    assert [str(run.reason) for run in result.runs] == ["gradient", "function_raised", "gradient", "gradient"]
    assert result.fun == min(run.fun for run in result.runs if run.success)
    assert result.runs[2].fun == result.fun
    with pytest.raises(ObjectiveError, match="too far"):
        descend.minimize(fun, np.array([70.0]), jac=True, starts=[np.array([60.0])])
    with pytest.raises(ParameterError, match=r"starts\[0\] has float64\[2\] \(numpy\), x0 has float64\[1\]"):
        descend.minimize(fun, np.array([5.0]), jac=True, starts=[np.zeros(2)])
    with pytest.raises(OptionError, match="starts=3: a list of starts is needed"):
        descend.minimize(fun, np.array([5.0]), jac=True, starts=3)


# ---- what a review has found -----------------------------------------------------------------------------------


def test_climbing_within_bounds():
    """The gradient's sign turns with the rule's, also where gtol is about bounds."""
    climb = descend.GD(lr=0.1, maximize=True)
    for x0 in (0.0, 1.0):
        result = descend.minimize(lambda x: x, x0, jac=lambda x: 1.0, bounds=(0.0, 1.0), method=climb, gtol=1e-6)
        assert result.success
        assert result.x == pytest.approx(1.0)


@EVERY
def test_a_mirror_image_is_no_progress(method):
    """x² from 0.5 and |x|: a step to the other side is as high, and no step."""
    result = descend.minimize(lambda x: x**2, 0.5, jac=lambda x: 2 * x, method=method, gtol=1e-8, max_steps=1_000)
    assert result.success
    assert abs(result.x) < 1e-7
    bounded = descend.minimize(lambda x: x**2, 0.5, jac=lambda x: 2 * x, bounds=(-1.0, 1.0), ftol=1e-9)
    assert abs(bounded.x) < 1e-3


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


@EVERY
@pytest.mark.parametrize("tolerance", ["ftol", "xtol"])
def test_no_convergence_is_claimed_where_no_step_was_made(method, tolerance):
    """Stopped within a search, and gone on with: the point that is found again is not a step of nothing."""
    for most in (4, 6, 9):
        first = descend.minimize(valley, np.array([-1.2, 1.0]), jac=True, method=method, max_evals=most, xtol=1e-12)
        rest = descend.minimize(
            valley, np.array([-1.2, 1.0]), jac=True, method=method, state=first.state, max_steps=first.nit + 1,
            **{tolerance: 1e-9},
        )  # fmt: skip
        assert not rest.success


def test_finite_differences_keep_to_bounds():
    """Also at a bound, where one step would lead out, and where a parameter has no room at all."""

    def fun(x):
        assert np.all((x >= 0) & (x <= 1))
        assert x[1] == 0.5
        return float(np.sum((x - 3) ** 2))

    for jac in ("2-point", "3-point"):
        result = descend.minimize(fun, np.array([1.0, 0.5, 0.0]), jac=jac, bounds=[(0, 1), (0.5, 0.5), (0, 1)])
        assert result.x == pytest.approx([1.0, 0.5, 1.0])
        assert result.success


@pytest.mark.parametrize("offset", [0.0, 1e6, 1e8, 1e10, 1e12])
def test_accelerated_gradients_do_not_mind_a_large_loss(offset):
    """Where rounding hides what the loss does, gradients say how long a step may be."""
    scales, looks = np.array([1.0, 10.0]), []

    def fun(x):
        looks.append(1)
        return offset + 0.5 * float(scales @ (x - 3) ** 2), scales * (x - 3)

    assert descend.minimize(fun, np.array([0.0, 1.0]), jac=True, method="acceleratedgradient").success
    assert len(looks) <= 200


def test_bounds_are_rounded_inwards():
    """What float32 cannot hold is not looked beyond; where it holds nothing in between, the nearest is taken."""
    looks = []

    def fun(x):
        looks.append(x.copy())
        return float(np.sum((x - 5) ** 2)), 2 * (x - 5)

    result = descend.minimize(fun, np.zeros(2, np.float32), jac=True, bounds=(None, 0.1))
    assert all(np.all(x.astype(float) <= 0.1) for x in looks)
    assert result.x == pytest.approx(0.1)
    assert descend.minimize(fun, np.zeros(2, np.float32), jac=True, bounds=(0.1, 0.1)).x == pytest.approx(0.1)
    tiny = descend.minimize(lambda x: (float(x[0]), np.ones(1)), np.ones(1, np.float32), jac=True, bounds=(1e-50, None))
    assert tiny.x[0] > 0


@pytest.mark.parametrize(
    ("bounds", "match"),
    [
        ((math.inf, None), "bounds of .*inf is not at most inf, or leaves nothing finite"),
        (scipy.optimize.Bounds([0, 0.5, 7], [1, 1, 9]), "3 lower bounds for 2 parameters: give one for each"),
        ([("a", 1), (0, 1)], "lower bound of x0"),
        ([([1], 1), (0, 1)], "lower bound of x0"),
        ([({}, 1), (0, 1)], "lower bound of x0"),
        ([(1j, 1), (0, 1)], "a real number is needed"),
    ],
)
def test_bounds_that_make_no_sense_are_refused(bounds, match):
    with pytest.raises(ParameterError, match=match):
        descend.minimize(lambda x: float(x @ x), np.zeros(2), bounds=bounds)


def test_scipys_arrays_of_bounds_are_pairs():
    """Of two parameters, too, where (lower, upper) looks the same."""
    box = np.array([[0.1, 1], [0.2, 1]])
    options = dict(x0=np.array([0.5, 0.5]), jac=lambda x: 2 * x, bounds=box)
    ours, scipys = (
        scipy.optimize.minimize(lambda x: float(x @ x), method=method, **options)
        for method in (descend.LBFGS(), "L-BFGS-B")
    )
    assert ours.x == pytest.approx(scipys.x)
    assert ours.x == pytest.approx([0.1, 0.2])


@pytest.mark.parametrize("bounds", [None, (-9.0, None)])
def test_gradients_whose_square_overflows_are_no_end(bounds):
    result = descend.minimize(
        lambda x: (1e160 * float(x @ x), 2e160 * x), np.ones(2), jac=True, bounds=bounds, gtol=1e150
    )
    assert result.success


def test_bounds_do_not_round_a_gradient_away():
    """A parameter of 1e20 and a gradient of 2."""
    result = descend.minimize(
        lambda x: 1e20 * float(np.sum((x / 1e20 - 2) ** 2)), np.array([1e20]), jac=lambda x: 2 * (x / 1e20 - 2),
        bounds=(0, None), max_steps=200, gtol=1e-9, method="bb",
    )  # fmt: skip
    assert not result.success


def test_a_state_keeps_its_bounds():
    """It goes on within the bounds that it had, and not within others."""
    for method in ("bb", "lbfgs", descend.GD(lr=0.1)):
        free = descend.minimize(corner, np.zeros(3), jac=True, method=method, max_steps=5)
        with pytest.raises(StateError, match="its bounds were others"):
            descend.minimize(corner, np.zeros(3), jac=True, method=method, bounds=(0.0, 1.0), state=free.state)
        kept = descend.minimize(corner, np.zeros(3), jac=True, method=method, bounds=(0.0, 1.0), max_steps=2)
        rest = descend.minimize(
            corner, np.zeros(3), jac=True, method=method, bounds=(0.0, 1.0), state=kept.state, gtol=1e-6
        )
        assert rest.x == pytest.approx([1.0, 0.5, 0.0], abs=1e-5)


@pytest.mark.parametrize("at", [1, 4, 9])
@pytest.mark.parametrize("method", ["lbfgs", "bb", "acceleratedgradient", "adaptivegradient"])
def test_stopped_and_continued_within_bounds_is_as_if_it_had_not(method, at):
    options = dict(jac=True, method=method, bounds=([-0.3, -0.4, 0.0], [1.0, 0.5, 1.7]), history=False)
    whole = descend.minimize(valley, np.array([0.6, 0.2, 1.5]), max_steps=20, **options)
    begun = descend.minimize(valley, np.array([0.6, 0.2, 1.5]), max_steps=at, **options)
    rest = descend.minimize(valley, np.array([0.6, 0.2, 1.5]), max_steps=20, state=begun.state, **options)
    assert rest.nit == whole.nit > at
    assert rest.nfev == whole.nfev
    assert np.array_equal(rest.x_last, whole.x_last)
    assert np.array_equal(rest.x, whole.x)


def test_a_corner_of_the_bounds_is_a_minimum():
    """With ftol alone: no direction leads down, and that is what is said."""
    result = descend.minimize(
        lambda x: float(np.sum((x - 3) ** 2)), np.zeros(2), jac=lambda x: 2 * (x - 3), bounds=(0.0, 1.0), ftol=1e-9
    )
    assert result.success
    assert result.x.tolist() == [1.0, 1.0]


def test_the_first_step_is_not_taken_for_the_last():
    """From 1e6 a first step of length 1 changes next to nothing."""
    for options in ({"method": "bfgs"}, {"bounds": (0.0, None)}, {}):
        result = descend.minimize(
            lambda x: float(np.sum((x - 3) ** 2)), np.array([1e6]), jac=lambda x: 2 * (x - 3), ftol=1e-5, **options
        )
        assert result.x == pytest.approx(3.0, abs=1e-2)


def test_a_start_that_falls_without_end_is_not_the_best():
    def fun(x):
        with np.errstate(over="ignore"):
            return (float(-np.exp(x[0] ** 4)), -4 * x**3 * np.exp(x[0] ** 4)) if x[0] > 2 else bowl4(x)

    def bowl4(x):
        return float(np.sum((x - 1) ** 2)), 2 * (x - 1)

    with np.errstate(all="ignore"):
        result = descend.minimize(fun, np.array([0.0]), jac=True, starts=[np.array([9.0])], max_steps=50)
    assert result.x == pytest.approx(1.0)


def test_bounds_by_pairs_for_any_container():
    """A pair for each number, in the order of the leaves; SciPy's Bounds with one number each."""

    def fun(p):
        return float(np.sum((p["a"] - 3) ** 2) + (p["b"] - 3) ** 2)

    x0 = {"a": np.zeros((2, 2)), "b": 0.0}
    pairs = [(0, 1), (0, None), (None, 2), (0, 4), (0, 0.5)]
    result = descend.minimize(fun, x0, bounds=pairs)
    assert result.x["a"].ravel() == pytest.approx([1.0, 3.0, 2.0, 3.0], abs=1e-5)
    assert result.x["b"] == pytest.approx(0.5)
    one = descend.minimize(fun, x0, bounds=scipy.optimize.Bounds(0, 1))
    assert one.x["a"] == pytest.approx(1.0)


# ---- names ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("L-BFGS", descend.LBFGS),
        ("lbfgs", descend.LBFGS),
        ("bfgs", descend.BFGS),
        ("CG", descend.ConjugateGradient),
        ("barzilai-borwein", descend.BarzilaiBorwein),
        ("BB", descend.BarzilaiBorwein),
        ("steepest_descent", descend.SteepestDescent),
        ("adam", descend.Adam),
    ],
)
def test_methods_by_name(name, made):
    result = descend.minimize(bowl, np.zeros(4), jac=True, method=name, max_steps=1)
    assert type(result.method) is made
    assert type(descend.minimize(bowl, np.zeros(4), jac=True, method=made, max_steps=1).method) is made


def test_auto_takes_no_more_memory_than_it_may(monkeypatch):
    """The pairs of L-BFGS fit into a budget, or something is taken that keeps none; each says so."""
    start, box = np.zeros(4), (-9.0, 9.0)
    for room, bounds, made, why in [
        (30 * 4 * 16, None, descend.LBFGS(), "LBFGS, as 4 parameters"),
        (
            30 * 4 * 16,
            box,
            descend.LBFGS(memory=15),
            r"LBFGS(memory=15), as 30 pairs of 4 parameters would take 0.0 GiB",
        ),
        (12 * 4 * 16, None, descend.LBFGS(memory=12), "LBFGS(memory=12), as 30 pairs"),
        (4 * 4 * 16, None, descend.ConjugateGradient(), "ConjugateGradient, which keeps no pairs, as 30 pairs"),
        (4 * 4 * 16, box, descend.BarzilaiBorwein(), "BarzilaiBorwein, which keeps no pairs"),
    ]:
        monkeypatch.setattr("descend.minimization.choice.PAIRS_BYTES", room)
        result = descend.minimize(bowl, start, jac=True, bounds=bounds)
        assert result.success
        assert result.method == made
        assert result.why.startswith(why)


def test_auto_says_what_it_took_and_why():
    result = descend.minimize(bowl, np.zeros(4), jac=True)
    assert result.method == descend.LBFGS()
    assert result.why == "LBFGS, as 4 parameters have a whole gradient"
    assert result.why in str(result)


def test_wrong_names_and_constants_are_refused():
    for name, meant in {"adamm": "adam", "L-BGFS": "lbfgs", "gradientdescent": "steepestdescent"}.items():
        with pytest.raises(MethodError, match=rf"unknown .* {name!r}: did you mean '{meant}'\? Known: acceleratedgra"):
            descend.minimize(bowl, np.zeros(4), method=name)
    for make, match in [
        (lambda: descend.LBFGS(memory=0), r"LBFGS\(memory=0\): a whole number ≥ 1"),
        (lambda: descend.LBFGS(search=Armijo()), r"LBFGS\(search=Armijo\(.*\)\): Wolfe\(…\) is needed"),
        (lambda: descend.ConjugateGradient("fr"), r"ConjugateGradient\(beta='fr'\): one of 'hager-zhang'"),
        (lambda: Wolfe(c1=0.9), r"Wolfe\(c1=0.9\): a number between 0 and 0.5"),
        (lambda: Wolfe(c1=0.4, c2=0.3), "c2 must be larger than c1"),
        (lambda: Armijo(window=0), r"Armijo\(window=0\): a whole number of losses ≥ 1"),
        (lambda: Wolfe(most=0), r"Wolfe\(most=0\): a whole number of trials ≥ 1"),
    ]:
        with pytest.raises(MethodError, match=match):
            make()


def test_every_method_is_in_the_registry():
    assert {type(m) for m in METHODS.values()} == set(methods.registry().values())


# ---- SciPy's door -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [*METHODS.values(), *RULES.values()], ids=[*METHODS, *RULES])
def test_scipy_takes_each_method_and_rule(method):
    """scipy.optimize.minimize(…, method=…) ends where descend.minimize does, with SciPy's fields."""
    options = {"gtol": 1e-6, "maxiter": 3_000}
    through = scipy.optimize.minimize(bowl, np.array([3.0, -2.0, 0.0, 5.0]), jac=True, method=method, options=options)
    ours = descend.minimize(bowl, np.array([3.0, -2.0, 0.0, 5.0]), jac=True, method=method, gtol=1e-6, max_steps=3_000)
    assert isinstance(through, scipy.optimize.OptimizeResult)
    assert np.array_equal(through.x, ours.x)
    assert (through.success, through.nit, through.status) == (ours.success, ours.nit, ours.status)


def test_scipys_options_callbacks_and_bounds():
    """args, tol, both kinds of callbacks, bounds, disp; what is not known is named."""
    points, results = [], []
    scipy.optimize.minimize(
        lambda x, a: float(np.sum((x - a) ** 2)), [0.0, 3.0], args=(2.0,), jac=lambda x, a: 2 * (x - a),
        method=descend.LBFGS(), callback=points.append, tol=1e-8,
    )  # fmt: skip
    assert points[-1] == pytest.approx(2.0)

    def whole(intermediate_result):
        results.append(intermediate_result)
        if intermediate_result.nit == 2:
            raise StopIteration

    stopped = scipy.optimize.minimize(**ROSEN, x0=[-1.2, 1.0], method=descend.BFGS(), callback=whole)
    assert (stopped.nit, str(stopped.reason), len(results)) == (2, "callback", 2)
    bounded = scipy.optimize.minimize(
        corner, np.zeros(3), jac=True, method=descend.BarzilaiBorwein(), bounds=[(0, 1)] * 3
    )
    assert bounded.x == pytest.approx([1.0, 0.5, 0.0], abs=1e-5)
    with pytest.raises(OptionError, match="option 'maxcor' is not known"):
        scipy.optimize.minimize(**ROSEN, x0=[0.0, 0.0], method=descend.LBFGS(), options={"maxcor": 5})
    with pytest.raises(MethodError, match="LBFGS knows no constraints"):
        scipy.optimize.minimize(
            **ROSEN, x0=[0.0, 0.0], method=descend.LBFGS(), constraints={"type": "eq", "fun": lambda x: x[0]}
        )


def test_scipys_budgets_do_not_end_tolerances():
    """As SciPy's own methods, ours stop where they have converged within a budget that is given alone."""
    for bounds in (None, [(0, 0.5)] * 4):
        options = dict(x0=np.zeros(4), bounds=bounds, options={"maxiter": 500})
        found = scipy.optimize.minimize(**ROSEN, method=descend.LBFGS(), **options)
        assert found.success
        assert found.nit < 100


def test_disp_prints_the_message(capsys):
    scipy.optimize.minimize(**ROSEN, x0=[0.0, 0.0], method=descend.LBFGS(), options={"disp": True})
    assert "Converged: the gradient is within gtol" in capsys.readouterr().out


def test_no_warning_escapes():
    """Trials that overflow are judged, not warned of."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for method in METHODS.values():
            descend.minimize(
                lambda x: (float(np.sum(x**4)), 4 * x**3), np.array([1e60, 1.0]), jac=True, method=method, max_steps=30
            )
