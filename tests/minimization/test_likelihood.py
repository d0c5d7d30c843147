"""Errors of answers of `minimize`: likelihoods with closed forms, by every source of the gradient, by name."""

import math
import pickle

import numpy as np
import pytest
import scipy.optimize

import descend
from descend.errors import OptionError, UncertaintyError

Y = np.random.default_rng(0).normal(3.0, 2.0, size=200)
START = {"mu": 0.0, "log_sigma": 0.0}
RIGHT = {"mu": Y.std() / math.sqrt(200), "log_sigma": 1 / math.sqrt(400)}
Z = 1.959963984540054


def normal(p, lib=np, y=Y):
    """The negative log-likelihood of normal data, but for a constant."""
    return lib.sum(((y - p["mu"]) / lib.exp(p["log_sigma"])) ** 2 / 2 + p["log_sigma"])


def slope(p):
    """Its gradient."""
    z = (Y - p["mu"]) / np.exp(p["log_sigma"])
    return {"mu": -np.sum(z) / np.exp(p["log_sigma"]), "log_sigma": np.sum(1 - z * z)}


def fitted(**options):
    """The maximum-likelihood estimates."""
    return descend.minimize(normal, START, **{"jac": slope, "gtol": 1e-7} | options)


@pytest.mark.parametrize("jac", [slope, "cs", "3-point", None, "torch", "jax"])
def test_standard_errors_are_those_of_the_information(jac):
    """Of a normal sample σ/√n and 1/√(2n), with no correlation, wherever the gradient comes from."""
    fun = normal
    if isinstance(jac, str) and jac in ("torch", "jax"):
        lib = pytest.importorskip({"torch": "torch", "jax": "jax.numpy"}[jac])
        y = Y if jac == "jax" else lib.tensor(Y)
        fun = lambda p: normal(p, lib, y)  # noqa: E731
    digits = 1e-10 if jac in (slope, "cs", "torch", "jax") else 1e-6
    gtol = 1e-9 if digits == 1e-10 else 1e-4 if jac is None else 1e-7  # an error of it is one of the answer
    result = descend.minimize(fun, START, jac=jac, gtol=gtol)
    assert result.standard_errors == pytest.approx(RIGHT, rel=digits)
    assert abs(result.correlations["mu", "log_sigma"]) < 1e-6
    assert result.covariance().names == ("mu", "log_sigma")


def hessian(p):
    """The Hessian of the normal likelihood, in the order of its names."""
    s = np.exp(p["log_sigma"])
    z = (Y - p["mu"]) / s
    both = 2 * np.sum(z) / s
    return np.array([[2 * np.sum(z * z), both], [both, len(Y) / s**2]])


@pytest.mark.parametrize("given", ["hess", "hessp"])
def test_a_hessian_that_is_given_is_taken(given):
    """Whole or as products with directions; with a parameter fixed it is the rest of it."""

    def product(p, along):
        found = hessian(p) @ [along["log_sigma"], along["mu"]]
        return {"log_sigma": found[0], "mu": found[1]}

    options = {given: hessian if given == "hess" else product, "jac": slope, "gtol": 1e-7}
    assert descend.minimize(normal, START, **options).standard_errors == pytest.approx(RIGHT, rel=1e-9)
    held = descend.minimize(normal, START, fixed={"log_sigma": 0.0}, **options)
    assert held.standard_errors == pytest.approx({"mu": 1 / math.sqrt(200), "log_sigma": 0.0}, rel=1e-12)


def test_a_wrong_hessian_is_not_taken():
    """Differences of the gradient stand in for it, as for an operation of PyTorch that is differentiable only once."""
    wrong = descend.minimize(normal, START, jac=slope, hess=lambda p: np.eye(2), gtol=1e-7)
    assert wrong.standard_errors == pytest.approx(RIGHT, rel=1e-8)
    torch = pytest.importorskip("torch")

    class Square(torch.autograd.Function):
        """x², whose slope knows nothing of how it was made."""

        @staticmethod
        def forward(ctx, x):
            """The square."""
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, g):
            """Its slope."""
            return 2 * ctx.saved_tensors[0] * g

    start = torch.zeros(2, dtype=torch.float64)
    found = descend.minimize(lambda x: 2 * Square.apply(x - 1).sum(), start).standard_errors
    np.testing.assert_allclose(found.numpy(), 0.5, rtol=1e-8)


def test_the_gradient_of_a_climb_counts_too():
    """A rule that climbs a log-likelihood has the same errors and profiles as one that descends its negative."""
    top = descend.minimize(
        lambda p: -normal(p), {"mu": 3.0, "log_sigma": 0.65}, method=descend.Adam(lr=0.01, maximize=True), gtol=1e-4
    )
    assert top.standard_errors == pytest.approx(RIGHT, rel=1e-5)
    ours, theirs = (found.profile_intervals(names="log_sigma")["log_sigma"] for found in (top, fitted()))
    assert ours == pytest.approx(theirs, rel=1e-6)


def test_profile_intervals_are_the_roots_of_the_profile():
    """With σ following µ, the profile is n/2 log of the mean square about µ; with µ following, that of σ alone."""
    result = fitted()
    mean, variance = Y.mean(), Y.var()
    of_mu = math.sqrt(variance * (math.exp(Z**2 / 200) - 1))

    def of_sigma(d):
        return 200 * (math.exp(-2 * d) - 1 + 2 * d) - Z**2

    ends = [scipy.optimize.brentq(of_sigma, *between, xtol=1e-14) for between in ((-1, 0), (0, 1))]
    middle = math.log(variance) / 2
    found = result.profile_intervals()
    assert found["mu"] == pytest.approx((mean - of_mu, mean + of_mu), abs=1e-6)
    assert found["log_sigma"] == pytest.approx([middle + end for end in ends], abs=1e-6)
    low, high = result.intervals(0.6826894921370859)["mu"]
    assert (high - low) / 2 == pytest.approx(RIGHT["mu"])


def test_a_binomial_proportion():
    """3 of 20: the errors are those of √(p(1-p)/n), and the profile ends where the likelihood's ratio does."""

    def loss(p):
        return -3 * np.log(p["p"]) - 17 * np.log1p(-p["p"])

    result = descend.minimize(loss, {"p": 0.5}, bounds=(1e-12, 1 - 1e-12), gtol=1e-6)
    assert result.standard_errors["p"] == pytest.approx(math.sqrt(0.15 * 0.85 / 20), rel=1e-5)

    def excess(p):
        return 2 * (loss({"p": p}) - loss({"p": 0.15})) - Z**2

    right = [scipy.optimize.brentq(excess, *ends, xtol=1e-14) for ends in ((1e-6, 0.15), (0.15, 0.9))]
    assert result.profile_intervals()["p"] == pytest.approx(right, abs=1e-7)


def test_what_is_fixed_has_no_error_and_what_is_tied_follows():
    """σ = exp(log σ) has the error of the delta method; with µ held there is one of it alone."""
    start = {**START, "sigma": 1.0}
    result = descend.minimize(
        normal, start, fixed={"mu": 3.0}, tied={"sigma": lambda p: np.exp(p["log_sigma"])}, gtol=1e-5
    )
    errors = result.standard_errors
    assert errors["mu"] == 0.0
    assert errors["log_sigma"] == pytest.approx(RIGHT["log_sigma"], rel=1e-6)
    assert errors["sigma"] == pytest.approx(result.x["sigma"] * RIGHT["log_sigma"], rel=1e-6)
    assert result.correlations["log_sigma", "sigma"] == pytest.approx(1.0)
    assert list(result.profile_intervals()) == ["log_sigma"]
    with pytest.raises(OptionError, match="'mu', which is no free parameter"):
        result.profile_intervals(names=["mu"])


def test_a_parameter_at_its_bound_is_taken_as_fixed_there():
    """It has no error of its own, which a warning says by name; the others have theirs beside it."""
    result = fitted(bounds=({"mu": None, "log_sigma": 1.0}, None))
    with pytest.warns(RuntimeWarning, match="log_sigma at a bound"):
        errors = result.standard_errors
    assert math.isnan(errors["log_sigma"])
    assert errors["mu"] == pytest.approx(math.e / math.sqrt(200))


def test_a_lower_minimum_on_the_way_is_told():
    """Of a double well, the profile from the upper minimum comes by the lower one, and a warning gives its point."""
    result = descend.minimize(lambda p: (p["x"] ** 2 - 1) ** 2 / 2 + 0.3 * p["x"], {"x": 1.0}, gtol=1e-8)
    with pytest.warns(RuntimeWarning, match=r"a lower minimum was found on the way along x: .* go on from \{'x': -"):
        low, high = result.profile_intervals()["x"]
    assert low < -1 < 0.8 < high


def test_no_errors_beside_the_minimum():
    """An answer that its gradient says is no minimum is refused, with how far it is."""
    with pytest.raises(UncertaintyError, match="standard errors away"):
        descend.minimize(normal, {"mu": 2.7, "log_sigma": 0.65}, jac=slope, max_steps=1, target=1e9).covariance()


def test_a_pickled_result_asks_for_the_function():
    """It has lost it, and takes it again."""
    kept = pickle.loads(pickle.dumps(fitted()))
    with pytest.raises(UncertaintyError, match=r"result.covariance\(fun\)"):
        kept.covariance()
    assert kept.covariance(normal, slope).standard_errors == pytest.approx(list(RIGHT.values()))


def test_names_of_an_array():
    """They may be given; by default a number is called by its place."""
    result = descend.minimize(lambda x: np.sum((x - 1) ** 2) / 2, np.zeros(2), names=["a", "b"], fixed=["b"])
    assert result.standard_errors == pytest.approx([1.0, 0.0], rel=1e-6)
    assert result.intervals()["a"] == pytest.approx((1 - Z, 1 + Z))
    assert list(descend.minimize(lambda x: np.sum((x - 1) ** 2) / 2, np.zeros(2)).intervals()) == ["x[0]", "x[1]"]


def test_the_summary_is_a_table():
    """Names, values, errors, starts and roles stand in it, in 80 columns."""
    text = descend.minimize(normal, {**START, "sigma": 1.0}, jac=lambda p: {**slope(p), "sigma": 0.0}, fixed=["sigma"])
    lines = text.summary().splitlines()
    assert max(map(len, lines)) <= 80
    (row,) = [line.split() for line in lines if line.startswith("mu ")]
    assert row[:4] == ["mu", "3.0305263", "0.1359", "4.49"]
    assert any(line.split() == ["sigma", "1", "-", "-", "1", "fixed"] for line in lines)
    assert "correlations are all below 0.1" in lines


def test_a_result_of_fit_has_none():
    """Mini-batches leave no likelihood: the errors say where they can be had."""
    run = descend.fit(descend.problems.load("booth"), descend.GD(lr=0.01), steps=3)
    with pytest.raises(UncertaintyError, match=r"descend\.minimize"):
        run.covariance()
