"""Products with the Hessian, from whatever source: against matrices in closed form; what cannot be one is refused."""

import numpy as np
import pytest
import scipy.optimize

import descend
from descend.errors import DescendError, MethodError, ObjectiveError, OptionError
from descend.objectives import Objective
from descend.objectives.products import HessianProducts
from descend.parameters.memory import Memory

ROSEN = {"fun": scipy.optimize.rosen, "jac": scipy.optimize.rosen_der}
X = np.array([0.3, -1.2, 2.0])


def products_at(x0, fun, jac, args=(), **given):
    """The products of a function at its start, and the matrix that they are."""
    memory = Memory(x0)
    objective = Objective(fun, jac, memory)
    grad = memory.like()
    objective(grad, args)
    found = HessianProducts(objective, args, given.get("hess"), given.get("hessp"))
    flat, at = np.concatenate(grad).astype(float), memory.snapshot()

    def along(direction):
        def beside(distance):
            memory.vectors[0][...] = at[0] + distance * direction
            slopes = memory.like()
            objective(slopes, args)
            memory.vectors[0][...] = at[0]
            return slopes[0]

        return found(direction, flat, beside)

    return found, np.array([along(p) for p in np.eye(memory.size)])


def test_differences_of_gradients_are_the_matrix_to_half_its_digits():
    for scale in (1.0, 1e-6, 1e5):
        found, matrix = products_at(
            X * scale,
            lambda x, scale: scipy.optimize.rosen(x / scale),
            lambda x, scale: scipy.optimize.rosen_der(x / scale) / scale,
            (scale,),
        )
        assert matrix * scale**2 == pytest.approx(scipy.optimize.rosen_hess(X), rel=1e-5, abs=1e-3)
        assert (found.source, found.nhev, found.charged, found.objective.nfev) == ("gradients", 3, 0, 4)


@pytest.mark.parametrize("library", ["torch", "jax"])
def test_automatic_differentiation_is_exact(library):
    """In a container, with one call of the function for all products at a point, parameters without curvature too."""
    xp = pytest.importorskip(library if library == "torch" else "jax.numpy")
    calls = []

    def fun(p):
        calls.append(1)
        return xp.sum(p["a"] ** 3) * p["b"] + 2 * p["c"]

    x0 = {"a": np.array([1.0, -2.0]), "b": np.array(3.0), "c": np.array(5.0)}
    found, matrix = products_at(x0, fun, library)
    assert matrix == pytest.approx(np.array([[18, 0, 3, 0], [0, -36, 12, 0], [3, 12, 0, 0], [0, 0, 0, 0.0]]), rel=1e-12)
    assert (found.source, found.nhev, len(calls)) == (library, 4, 2)


def test_a_matrix_is_asked_for_once_at_each_point():
    asked = []

    def hess(x):
        asked.append(x)
        return scipy.optimize.rosen_hess(x)

    found, matrix = products_at(X, **ROSEN, hess=hess)
    assert np.array_equal(matrix, scipy.optimize.rosen_hess(X))
    assert (len(asked), found.nhev) == (1, 1)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"hess": lambda x: np.ones(3)}, r"hess returned shape \(3,\): a matrix of 3 × 3"),
        ({"hess": lambda x: "no"}, "hess returned 'no': a matrix is needed"),
        ({"hess": lambda x: 1 / 0}, "hess raised ZeroDivisionError"),
        ({"hessp": lambda x, p: p[:2]}, r"hessp gave shape \(2,\)"),
        ({"hessp": lambda x: x}, "hessp raised TypeError"),
    ],
)
def test_what_is_no_product_is_an_error(given, says):
    with pytest.raises(ObjectiveError, match=says):
        descend.minimize(**ROSEN, x0=X, **given)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"hess": 3}, "hess=3: a function"),
        ({"hess": scipy.optimize.BFGS()}, "method='bfgs'"),
        ({"hessp": np.eye(2)}, "hessp="),
        ({"method": "truncatednewton", "jac": None}, "needs products with the Hessian"),
        ({"method": "newton-cg", "bounds": (0, 1)}, "TruncatedNewton cannot keep to bounds"),
        ({"hessp": scipy.optimize.rosen_hess_prod, "tied": {2: lambda x: x[0]}}, "tied"),
        ({"method": descend.TruncatedNewton, "jac": "3-point"}, "needs products with the Hessian"),
    ],
)
def test_what_makes_no_products_is_refused(given, says):
    with pytest.raises((OptionError, MethodError), match=says):
        descend.minimize(**(ROSEN | {"x0": X} | given))


def test_bad_constants_are_refused():
    for bad in ({"forcing": 1.0}, {"forcing": 0.0}, {"products": 0}, {"search": descend.Armijo()}):
        with pytest.raises(DescendError, match="TruncatedNewton"):
            descend.TruncatedNewton(**bad)


def test_a_method_that_uses_no_hessian_says_so():
    """And is right all the same; with bounds there is none that does."""
    for options in ({"method": "lbfgs"}, {"bounds": (None, 3.0)}):
        with pytest.warns(RuntimeWarning, match=r"LBFGS does not use the Hessian \(hess\)"):
            result = descend.minimize(**ROSEN, x0=X, hess=scipy.optimize.rosen_hess, **options)
        assert result.success


def test_a_hessian_is_used_where_it_is_given():
    result = descend.minimize(**ROSEN, x0=X, hess=scipy.optimize.rosen_hess)
    assert result.why == "TruncatedNewton, as products with the Hessian are given"
    assert 0 < result.nhev <= result.nit


def test_many_starts_have_products_of_their_own():
    result = descend.minimize(**ROSEN, x0=X, hessp=scipy.optimize.rosen_hess_prod, starts=[X + 1, -X])
    assert len(result.runs) == 3
    assert all(run.success and run.nhev > 0 for run in result.runs)
