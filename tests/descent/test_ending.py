"""Where a descent by a method ends to which no tolerance was given: at the minimum, soon, and honestly."""

import numpy as np
import pytest
import scipy.optimize
from tests.methods.cases import EVERY
from tests.oracles.nist import regression

import descend
from descend import Reason

QUICK = ["lbfgs", "bfgs"]
LINE = np.array([1.309, 1.471, 1.490, 1.565, 1.611, 1.680]), np.array([2.138, 3.421, 3.597, 4.340, 4.882, 5.660])


def power(scale):
    """NIST's DanWood, in other units of the loss."""
    x, y = LINE

    def fun(b):
        r = b[0] * x ** b[1] - y
        return scale * float(r @ r), 2 * scale * np.array([x ** b[1], b[0] * np.log(x) * x ** b[1]]) @ r

    return fun


@pytest.mark.parametrize("method", QUICK)
@pytest.mark.parametrize("name", ["DanWood", "Misra1a", "Eckerle4", "Kirby2"])
def test_nists_answers_are_found_from_both_starts(method, name):
    """To 7 digits of the certified values, with success, and no evaluations to speak of afterwards."""
    problem = regression(name)
    for start in problem.starts:
        losses = []

        def fun(b, losses=losses, problem=problem):
            losses.append(problem.loss(b))
            return problem.loss_and_gradient(b)

        result = descend.minimize(fun, start, jac=True, method=method)
        assert result.reason is Reason.RESOLUTION
        assert problem.digits(result.x) >= 7
        assert len(losses) - int(np.argmin(losses)) < 40
        assert result.nfev == len(losses) < 200


@pytest.mark.parametrize("method", QUICK)
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e4, 1e12])
def test_the_units_of_the_loss_do_not_matter(method, scale):
    """The same answer, to what SciPy's least squares finds, with about as many evaluations."""
    x, y = LINE
    wanted = scipy.optimize.least_squares(
        lambda b: b[0] * x ** b[1] - y, [0.7, 4.0], xtol=1e-15, ftol=1e-15, gtol=1e-15
    )
    result = descend.minimize(power(scale), np.array([0.7, 4.0]), jac=True, method=method)
    assert result.success
    assert result.x == pytest.approx(wanted.x, rel=1e-7)
    assert result.nfev < 80


@EVERY
@pytest.mark.parametrize(
    "options", [{}, {"gtol": 0.0}, {"gtol": 1e-12}, {"max_steps": 9_000}, {"max_seconds": 60.0}, {"target": -1.0}],
    ids=lambda options: next(iter(options), "none"),
)  # fmt: skip
def test_no_two_points_are_visited_for_ever(method, options):
    """A loss of 1e12, whose gradient rounding keeps from 1e-12: within some tens of evaluations of the lowest loss."""
    losses = []

    def fun(x):
        losses.append(1e12 + float(np.sum((x - 1) ** 2 * [1.0, 4.0])))
        return losses[-1], 2 * (x - 1) * [1.0, 4.0]

    result = descend.minimize(fun, np.array([3.0, -2.0]), jac=True, method=method, **options)
    assert len(losses) < 700
    asked = {"gtol", "target"} & options.keys()
    assert result.success == (
        not asked or (result.reason is Reason.GRADIENT and abs(result.jac).max() <= options["gtol"])
    )


@EVERY
@pytest.mark.parametrize("bounds", [None, (-5.0, 0.5)])
def test_a_kink_at_the_minimum_ends_it(method, bounds):
    """Σ|x − c| + 3, whose gradient never vanishes: near the minimum, and never called converged by the gradient."""
    if bounds is not None and not method.takes_bounds:
        pytest.skip("the method keeps to no bounds")
    result = descend.minimize(
        lambda x: float(np.sum(np.abs(x - [0.3, -0.7]))) + 3, np.array([1.0, 2.0]), bounds=bounds, method=method,
        jac=lambda x: np.sign(x - [0.3, -0.7]),
    )  # fmt: skip
    assert result.nfev < 3_000
    assert result.reason is not Reason.GRADIENT


def test_noise_ends_it_too():
    """A gradient and a loss that are computed in float32: the answer to what these resolve, and soon."""

    def fun(x):
        x = x.astype(np.float32)
        r = np.float32(3) * (x - np.float32(0.7)) ** 2 + np.float32(5)
        return float(r.sum()), (6 * (x - np.float32(0.7))).astype(float)

    result = descend.minimize(fun, np.array([2.0, -1.0, 0.3]), jac=True)
    assert result.x == pytest.approx(0.7, abs=1e-3)
    assert result.nfev < 200


def test_what_the_curvature_says_is_what_counts():
    """At a saddle and at a maximum the gradient is zero, and no success; in a flat valley and at a minimum it is."""
    for signs, success in (([1.0, -1.0], False), ([-1.0, -1.0], False), ([1.0, 0.0], True), ([1.0, 2.0], True)):
        bend = np.array(signs)
        result = descend.minimize(lambda x, b=bend: (float(b @ x**2), 2 * b * x), np.zeros(2), jac=True)
        assert result.success == success, signs
        assert (result.reason is Reason.RESOLUTION) == success


def test_a_valley_that_the_model_is_blind_to_is_walked():
    """NIST's Bennett5: L-BFGS's own model promises nothing after 34 evaluations, with no digit right."""
    problem = regression("Bennett5")
    result = descend.minimize(problem.loss_and_gradient, problem.starts[0], jac=True, method="lbfgs")
    assert result.success
    assert problem.digits(result.x) > 7


@pytest.mark.parametrize("method", ["lbfgs", "bfgs", "cg", "bb", "steepestdescent"])
@pytest.mark.parametrize(
    ("fun", "slope"),
    [
        (lambda x: -float(np.sum(x)), lambda x: -np.ones_like(x)),
        (lambda x: -1e-6 * float(np.sum(x)), lambda x: -1e-6 * np.ones_like(x)),
        (lambda x: -float(x @ x), lambda x: -2 * x),
        (lambda x: float(x[0] ** 2 - x[1] ** 2), lambda x: np.array([2 * x[0], -2 * x[1]])),
        (lambda x: -float(np.sum(np.exp(x))), lambda x: -np.exp(x)),
        (lambda x: -float(np.sum(np.sqrt(np.abs(x)))), lambda x: -0.5 * np.sign(x) / np.sqrt(np.abs(x))),
    ],
    ids=["linear", "hardly", "quadratic", "saddle", "exponential", "root"],
)
def test_a_loss_without_a_lower_bound_is_said_to_be_one(method, fun, slope):
    with np.errstate(all="ignore"):
        result = descend.minimize(fun, np.array([1.0, 0.5]), jac=slope, method=method)
    assert result.reason is Reason.UNBOUNDED
    assert result.nfev < 300


def test_a_deep_minimum_is_not_taken_for_none():
    """From 0 to −1e20, or to 1e12 from 0: large falls and large parameters alone are no falls without end."""
    deep = descend.minimize(lambda x: (1e20 * ((x - 1) ** 2 - 1), 2e20 * (x - 1)), 0.0, jac=True)
    far = descend.minimize(lambda x: (((x - 1e12) / 1e12) ** 2, 2 * (x - 1e12) / 1e24), 0.0, jac=True)
    assert deep.success
    assert far.success
    assert far.x == pytest.approx(1e12)


@pytest.mark.parametrize("most", [20, 25, 29, 33])
def test_an_ending_that_a_budget_breaks_off_is_made_again(most):
    """Stopped wherever, gone on with from its state: the same end, to the bit."""
    problem = regression("Misra1a")
    whole = descend.minimize(problem.loss_and_gradient, problem.starts[1], jac=True, method="bfgs")
    first = descend.minimize(problem.loss_and_gradient, problem.starts[1], jac=True, method="bfgs", max_evals=most)
    rest = descend.minimize(problem.loss_and_gradient, problem.starts[1], jac=True, method="bfgs", state=first.state)
    assert (rest.reason, rest.nit) == (whole.reason, whole.nit)
    assert np.array_equal(rest.x, whole.x)


def test_advice_fits_the_case():
    """No learning rate for methods; no check of a gradient that nobody wrote."""
    rng = np.random.default_rng(0)
    noisy = descend.minimize(lambda x: float(x @ x) + 1e-3 * rng.normal(), np.ones(3), method="bfgs", gtol=1e-9)
    assert not noisy.success
    assert "check_gradient" not in noisy.message
    outside = descend.minimize(lambda x: (float("nan"), x), np.ones(2), jac=True)
    assert outside.reason is Reason.NON_FINITE
    assert "learning rate" not in outside.message


@pytest.mark.parametrize("method", QUICK)
def test_a_loss_that_vanishes_at_infinity_ends_soon(method):
    """Σ exp(−x), and the likelihood of classes that a line separates."""
    rows, sides = np.array([[1, -2.0], [1, -1], [1, 1], [1, 3]]), np.array([-1, -1, 1, 1.0])
    vanishing = descend.minimize(
        lambda x: (float(np.sum(np.exp(-x))), -np.exp(-x)), np.zeros(2), jac=True, method=method
    )
    separable = descend.minimize(
        lambda b: float(np.sum(np.log1p(np.exp(-sides * (rows @ b))))), np.zeros(2), method=method,
        jac=lambda b: -rows.T @ (sides / (1 + np.exp(sides * (rows @ b)))),
    )  # fmt: skip
    assert max(vanishing.nfev, separable.nfev) < 200
    assert max(vanishing.fun, separable.fun) < 1e-30


@pytest.mark.parametrize("jac", [scipy.optimize.rosen_der, None])
def test_a_start_at_a_minimum_of_zero_is_told_to_be_one(jac):
    """Rosenbrock's function from (1, 1): by differences, too, whose gradient is not zero there."""
    result = descend.minimize(scipy.optimize.rosen, np.ones(2), jac=jac)
    assert result.success
    assert result.nfev < 100


def test_a_scale_that_differences_do_not_see_is_no_success():
    """A floor, a ceiling, a dose of 2e-7 at half and an exponent: where the answer is not found, that is said."""
    dose = np.repeat(np.logspace(-9, -5, 12), 3)
    y = 5 + 90 / (1 + (2e-7 / dose) ** 1.3) + 2 * np.random.default_rng(12).normal(size=36)

    def fun(b):
        with np.errstate(all="ignore"):
            r = b[0] + (b[1] - b[0]) / (1 + (b[2] / dose) ** b[3]) - y
            return float(r @ r)

    for half in (1e-5, 1e-6, 1e-7, 5e-8):
        result = descend.minimize(fun, np.array([0.0, 100.0, half, 1.0]))
        assert not result.success or result.fun == pytest.approx(96.538909, rel=1e-6)


@pytest.mark.parametrize(("unit", "exact"), [(1e5, True), (1e-5, True), (1e3, False), (1e-3, False)])
def test_units_of_the_parameters_make_no_other_point_a_minimum(unit, exact):
    """A logistic regression from zero: parameters in large units have hardly moved when losses no longer fall."""
    rng = np.random.default_rng(0)
    rows = np.column_stack([np.ones(200), rng.normal(size=(200, 3))])
    sides = np.where(rows @ [0.5, -1.0, 2.0, 0.0] + rng.logistic(size=200) > 0, 1.0, -1.0)
    units = np.array([unit, 1 / unit, unit, 1 / unit])

    def both(z):
        margin = sides * (rows @ (units * z))
        pull = sides / (1.0 + np.exp(np.minimum(margin, 700.0)))
        return float(np.sum(np.logaddexp(0.0, -margin))), -units * (rows.T @ pull)

    natural = scipy.optimize.minimize(lambda b: both(b / units)[0], np.zeros(4), tol=1e-10)
    found = descend.minimize(both if exact else lambda z: both(z)[0], np.zeros(4), jac=exact or None)
    assert found.success
    assert found.fun == pytest.approx(natural.fun, rel=1e-9)
    assert found.nfev < (150 if exact else 600)


@pytest.mark.parametrize("jac", [True, None])
@pytest.mark.parametrize("size", [200, 201])
def test_very_many_parameters_end_as_few_do(size, jac):
    """Beyond those of which a matrix is made: by a search along the gradient, with differences as well."""
    bend = np.linspace(1.0, 30.0, size)

    def both(x):
        return float(bend @ (x - 1) ** 2), 2 * bend * (x - 1)

    found = descend.minimize(both if jac else lambda x: both(x)[0], np.zeros(size), jac=jac)
    assert found.success
    assert found.x == pytest.approx(np.ones(size), abs=1e-4)
