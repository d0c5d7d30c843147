"""`least_squares`: the answers of SciPy's, whatever the source of the Jacobian, the loss and the bounds."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
import torch
from scipy.sparse.linalg import aslinearoperator
from tests.oracles.nist import regression
from tests.regression.fits import Decay, random_fit

import descend
from descend import Reason

TIGHT = {"xtol": 1e-15, "ftol": 1e-15, "gtol": 1e-13}
ANSWER = scipy.optimize.least_squares(Decay.residuals, Decay.start, Decay.jacobian, **TIGHT).x


# ---- regressions with certified values ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Misra1a", "Thurber", "MGH09", "BoxBOD", "Eckerle4", "Rat43", "Lanczos2"])
@pytest.mark.parametrize("start", [0, 1])
@pytest.mark.parametrize("exact", [True, False])
def test_certified_values_are_found(name, start, exact):
    """NIST's parameters to six digits, from both starts, by exact Jacobians and by differences."""
    fit = regression(name)
    with np.errstate(all="ignore"):
        result = descend.least_squares(fit.residuals, fit.starts[start], fit.jacobian if exact else None)
    assert result.success
    assert fit.digits(result.x) > 6
    np.testing.assert_allclose(2 * result.cost, fit.sum_of_squares, rtol=1e-9)


# ---- sources of the Jacobian ----------------------------------------------------------------------------------------


def of_dict(p):
    """The residuals of a dict."""
    return Decay.residuals([*p["first"], p["c"], p["d"]])


SOURCES = {
    "given": {"jac": Decay.jacobian},
    "sparse": {"jac": lambda x: scipy.sparse.coo_array(Decay.jacobian(x))},
    "operator": {"jac": lambda x: aslinearoperator(Decay.jacobian(x))},
    "2-point": {},
    "3-point": {"jac": "3-point"},
    "cs": {"jac": "cs"},
    "sparsity": {"jac_sparsity": np.ones((40, 4))},
    "x_scale": {"jac": Decay.jacobian, "x_scale": [1.0, 0.1, 1.0, 1.0]},
    "no mixing": {"jac": Decay.jacobian, "method": descend.LevenbergMarquardt(mixing=0)},
}


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_finds_the_answer(source):
    """Given Jacobians, dense, sparse or by products, and differences: one answer."""
    result = descend.least_squares(Decay.residuals, Decay.start, **SOURCES[source])
    assert result.reason is Reason.RESOLUTION
    np.testing.assert_allclose(result.x, ANSWER, rtol=1e-7)


@pytest.mark.parametrize(("library", "arrays"), [("torch", torch), ("jax", jnp)])
def test_automatic_jacobians_are_exact(library, arrays):
    """PyTorch and JAX give the Jacobian in as many evaluations as one that is given, in float64."""
    t, y = (torch.as_tensor(Decay.t), torch.as_tensor(Decay.y)) if library == "torch" else (Decay.t, Decay.y)
    result = descend.least_squares(lambda x: Decay.model(t, *x, arrays) - y, Decay.start, jac=library)
    given = descend.least_squares(Decay.residuals, Decay.start, Decay.jacobian)
    np.testing.assert_allclose(result.x, given.x, rtol=1e-12)
    assert (result.nfev, result.njev) == (given.nfev, given.njev)


def test_jacobians_of_a_container_have_its_build():
    """A Jacobian may be built as the parameters; the columns of the result follow their leaves."""
    start = {"first": Decay.start[:2], "c": 1.0, "d": np.float64(3.0)}
    both = Decay.jacobian

    def jacobian(p):
        matrix = both([*p["first"], p["c"], p["d"]])
        return {"first": matrix[:, :2], "c": matrix[:, 2], "d": matrix[:, 3]}

    result = descend.least_squares(of_dict, start, jacobian)
    np.testing.assert_allclose(result.x["first"], ANSWER[:2], rtol=1e-8)
    np.testing.assert_allclose(result.jac, both(ANSWER)[:, [2, 3, 0, 1]], rtol=1e-6, atol=1e-12)


def test_float32_parameters_stay_so():
    """Points that are evaluated are float32, and the end is where they can be told apart."""
    seen = set()

    def residuals(x):
        seen.add(x.dtype)
        return Decay.residuals(x)

    result = descend.least_squares(residuals, Decay.start.astype(np.float32))
    assert result.success
    assert (seen, result.x.dtype) == ({np.dtype(np.float32)}, np.float32)
    np.testing.assert_allclose(result.x, ANSWER, rtol=1e-4)


# ---- losses, weights and bounds -------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["linear", "huber", "soft_l1", "cauchy", "arctan"])
def test_robust_losses_are_scipys(loss):
    """The least of each loss, with its definition of cost, f_scale and all."""
    options = {"loss": loss, "f_scale": 0.05}
    outlying = np.where(np.arange(40) % 9 == 4, 1.0, 0.0)
    call = (lambda x: Decay.residuals(x) - outlying, Decay.near, Decay.jacobian)
    theirs = scipy.optimize.least_squares(*call, **TIGHT, **options)
    ours = descend.least_squares(*call, **options)
    assert ours.success
    np.testing.assert_allclose(ours.cost, theirs.cost, rtol=1e-10)
    np.testing.assert_allclose(ours.x, theirs.x, rtol=1e-5)


def test_weights_multiply_the_squares():
    """A weight of 4 is twice the residual; a weight of 0 leaves it out, whatever it is."""
    weights = np.linspace(0.0, 4.0, 40)
    residuals = lambda x: np.where(weights > 0.0, Decay.residuals(x), np.nan)  # noqa: E731
    ours = descend.least_squares(residuals, Decay.start, weights=weights)
    theirs = scipy.optimize.least_squares(lambda x: np.sqrt(weights) * Decay.residuals(x), Decay.start, **TIGHT)
    np.testing.assert_allclose(ours.x, theirs.x, rtol=1e-6)
    np.testing.assert_allclose(ours.cost, theirs.cost, rtol=1e-12)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("sparse", [False, True])
def test_bounded_optima_are_those_of_the_reflective_method(seed, sparse):
    """Random problems in boxes that cut the unbounded answer off."""
    residuals, jacobian, start = random_fit(seed)
    bounds = -0.2 * np.ones(4), 0.3 * np.ones(4)
    jac = (lambda x: scipy.sparse.csr_array(jacobian(x))) if sparse else jacobian
    ours = descend.least_squares(residuals, start, jac, bounds=bounds)
    inside = np.clip(start, -0.19, 0.29)
    theirs = scipy.optimize.least_squares(residuals, inside, jacobian, bounds=bounds, **TIGHT)
    assert ours.success
    assert np.all((bounds[0] <= ours.x) & (ours.x <= bounds[1]))
    np.testing.assert_allclose(ours.cost, theirs.cost, rtol=1e-9)
    np.testing.assert_array_equal(ours.active_mask, theirs.active_mask)


@pytest.mark.parametrize(
    "bounds",
    [
        ((-2.0, -1.0), (0.5, 3.0)),
        [(-2.0, -1.0), (0.5, 3.0)],
        [[-2.0, -1.0], [0.5, 3.0]],
        np.array([[-2.0, -1.0], [0.5, 3.0]]),
        scipy.optimize.Bounds([-2.0, -1.0], [0.5, 3.0]),
    ],
    ids=["tuples", "list of tuples", "lists", "array", "Bounds"],
)
def test_two_bounds_of_two_parameters_are_lower_and_upper(bounds):
    """As in SciPy's least_squares, and in curve_fit; minimize would read some of these as pairs, as SciPy's does."""
    valley = lambda x: np.array([10 * (x[1] - x[0] ** 2), 1 - x[0]])  # noqa: E731
    ours = descend.least_squares(valley, [0.0, 0.0], bounds=bounds)
    theirs = scipy.optimize.least_squares(valley, [0.0, 0.0], bounds=bounds, **TIGHT)
    np.testing.assert_allclose(ours.x, theirs.x, rtol=1e-6)
    x = np.arange(8.0)
    line = lambda x, a, b: a + b * x  # noqa: E731
    y = 0.25 + 2.0 * x + 0.01 * np.sin(9.0 * x)
    popt, _ = descend.curve_fit(line, x, y, p0=[0.0, 0.0], bounds=bounds)
    np.testing.assert_allclose(popt[::-1], np.polyfit(x, y, 1), rtol=1e-6)


def test_bounds_are_never_left():
    """Differences, too, evaluate points within the bounds alone."""
    seen = []

    def residuals(x):
        seen.append(x.copy())
        return Decay.residuals(x)

    bounds = np.array([0.0, 0.0, 0.0, 2.8]), np.array([2.5, 2.0, 10.0, 10.0])
    result = descend.least_squares(residuals, [2.5, 0.5, 1.0, 2.8], bounds=bounds)
    assert result.success
    assert np.all((bounds[0] <= seen) & (seen <= bounds[1]))
    np.testing.assert_array_equal(result.active_mask, [1, 0, 0, -1])


# ---- results --------------------------------------------------------------------------------------------------------


def test_results_have_scipys_fields():
    """The fields of SciPy's result, with its meanings."""
    call = (Decay.residuals, Decay.start, Decay.jacobian)
    theirs = scipy.optimize.least_squares(*call, **TIGHT)
    ours = descend.least_squares(*call)
    assert set(theirs) - {"status"} <= set(ours)
    np.testing.assert_allclose(ours.fun, theirs.fun, rtol=1e-6, atol=1e-10)
    np.testing.assert_allclose(ours.jac, theirs.jac, rtol=1e-6, atol=1e-10)
    np.testing.assert_allclose(ours.grad, ours.jac.T @ ours.fun, atol=1e-12)
    assert ours.optimality == np.max(np.abs(ours.grad))
    assert (ours.success, ours.status) == (True, 0)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"ftol": 1e-3}, Reason.VALUE),
        ({"xtol": 1e-3}, Reason.STEP),
        ({"gtol": 1e-2}, Reason.GRADIENT),
        ({"target": 1.0}, Reason.TARGET),
        ({"ftol": 0.0, "xtol": 0.0, "gtol": 0.0}, Reason.RESOLUTION),
        ({"max_steps": 2}, Reason.MAX_STEPS),
        ({"max_nfev": 4}, Reason.MAX_EVALS),
        ({"callback": lambda x: x.nit == 1}, Reason.CALLBACK),
    ],
)
def test_reasons_to_stop(options, reason):
    """Tolerances stop where SciPy's do, budgets and callbacks as in `minimize`."""
    assert descend.least_squares(Decay.residuals, Decay.start, Decay.jacobian, **options).reason is reason


def test_an_exact_answer_at_the_start_is_the_end():
    """Residuals that are zero need no step."""
    result = descend.least_squares(lambda x: x - 1.0, np.ones(2))
    assert (result.success, result.nit, result.cost) == (True, 0, 0.0)


def test_fewer_residuals_than_parameters():
    """One of the points that solve the equations is found."""
    result = descend.least_squares(lambda x: [x[0] * x[1] - 2.0, x[2] - 1.0], [1.0, 1.0, 0.0])
    assert result.success
    np.testing.assert_allclose(result.fun, 0.0, atol=1e-12)


def test_a_wrong_jacobian_is_no_success():
    """Where no step lowers a loss that the model says is far from least, that is said."""
    result = descend.least_squares(Decay.residuals, Decay.start, lambda x: -Decay.jacobian(x))
    assert (result.success, result.reason) == (False, Reason.STALLED)
    assert "Jacobian does not fit" in result.message


def test_parameters_that_change_nothing_are_no_success():
    """A Jacobian of zeros says nothing of where to go."""
    result = descend.least_squares(lambda x: np.round(x) - 0.4, [0.2, 0.3])
    assert not result.success
    assert "No parameter changes any residual" in result.message


def test_residuals_with_noise_end_soon():
    """What is computed to eight digits alone is minimised to as many, and said to be."""
    rng = np.random.default_rng(0)
    result = descend.least_squares(
        lambda x: Decay.residuals(x) * (1 + 1e-9 * rng.normal(size=40)), Decay.start, Decay.jacobian
    )
    assert result.success
    assert result.nfev < 100
    np.testing.assert_allclose(result.x, ANSWER, rtol=1e-3)


@pytest.mark.parametrize("verbose", [0, 1, 2])
def test_what_is_printed(verbose, capsys):
    """Nothing, how the descent ended, and each step before that; the callback is called as without."""
    seen = []

    def note(intermediate_result):
        seen.append(intermediate_result.fun)

    result = descend.least_squares(lambda x: [x[0] - 1, x[1] ** 2 - 2], [0.5, 1.0], verbose=verbose, callback=note)
    lines = capsys.readouterr().out.splitlines()
    assert len(seen) == result.nit + 1
    assert len(lines) == (0, 1, result.nit + 3)[verbose]
    if verbose:
        assert lines[-1].startswith(result.message)
        assert f"evaluations {result.nfev}" in lines[-1]
    if verbose == 2:
        assert [line.split()[0] for line in lines[:-1]] == ["step", *map(str, range(result.nit + 1))]
        np.testing.assert_allclose([float(line.split()[2]) for line in lines[1:-1]], seen, rtol=1e-4)
