"""What a function and its gradient may return, and what is said of the rest."""

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
import torch
from tests.objectives.functions import slope, square

import descend
from descend import Reason
from descend.errors import ObjectiveError, OptionError

pytestmark = pytest.mark.filterwarnings("ignore:the matrix subclass")


def test_value_and_gradient_together():
    """jac=True: fun returns both, and is called once a point."""
    result = descend.minimize(lambda x: (square(x), slope(x)), 0.0, jac=True, method=descend.GD(lr=0.1), max_steps=100)
    assert result.x == 2.9999999993888893
    assert result.nfev == 101


@pytest.mark.parametrize(
    ("value", "match"),
    [
        (None, "returned None: .*return"),
        (np.ones(3), r"array of shape \(3,\).*sum or mean"),
        ("nine", "'nine'"),
        (1j, "1j"),
        ([1.0, 2.0], r"shape \(2,\)"),
        (True, "True"),
        ((1.0, 2.0), "if it returns value and gradient, pass jac=True"),
        ((1.0, np.ones(3)), "if it returns value and gradient, pass jac=True"),
        (np.ma.masked, "masked"),
        ([np.nan, 1.0, 2.0], r"shape \(3,\)"),
    ],
    ids=["None", "array", "string", "complex", "list", "bool", "two numbers", "with gradient", "masked", "three"],
)
def test_a_function_that_returns_no_number_is_told_so(value, match):
    """What it returned, and what is needed."""
    with pytest.raises(ObjectiveError, match=match) as caught:
        descend.minimize(lambda x: value, 0.0, jac=slope, max_steps=3)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        *(np.array([4.0]), np.array([[4.0]]), np.matrix(4.0), np.array(4.0), np.array([4.0], dtype=object)),
        *(np.float32(4), np.float16(4), np.longdouble(4), torch.tensor(4.0), torch.tensor(4.0, requires_grad=True)),
        *(4, Decimal(4), Fraction(4), [4.0], np.ma.array([4.0]), scipy.sparse.csr_matrix([[4.0]])),
    ],
    ids=lambda value: f"{type(value).__name__}{list(np.shape(value))}",
)
def test_numbers_of_any_kind_are_accepted(value):
    """Arrays of one number, scalars of any precision and library, integers, Python's exact numbers."""
    assert descend.minimize(lambda x: value, 0.0, jac=lambda x: 0.0, max_steps=1).fun == 4.0


def test_a_function_that_raises_loses_nothing():
    """Raising in step 57: the history of the 57 steps, the best point and the cause are on the exception."""
    calls = []

    def fun(x):
        calls.append(1)
        if len(calls) == 58:
            raise ZeroDivisionError("boom")
        return square(x)

    with pytest.raises(ObjectiveError, match=r"ZeroDivisionError: boom \(at step 57\)") as caught:
        descend.minimize(fun, 0.0, jac=slope, method=descend.GD(lr=0.01), max_steps=100)
    result = caught.value.result
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert result.reason is Reason.FUNCTION_RAISED
    assert len(result.history.loss) == result.nit == 57
    assert result.fun == result.history.loss[-1]
    assert result.x == pytest.approx(3 - 3 * 0.98**56)


@pytest.mark.parametrize(
    ("jac", "match"),
    [
        (lambda x: np.ones(3), r"jac gave shape \(3,\) for x0, which has shape \(2,\)"),
        (lambda x: np.ones((2, 2)), r"shape \(2, 2\)"),
        (lambda x: np.ma.array(x, mask=[0, 1]), "jac gave .* for x0: real .*some of it is masked"),
        (lambda x: x + 0j, "jac gave .* for x0: real .*it is complex"),
        (lambda x: x > 0, "jac gave .* for x0: real .*it is boolean"),
        (lambda x: [1.0, None], r"jac gave \[1.0, None\] for x0: real .*None is not a real number"),
        (lambda x: [1.0, [2.0, 3.0]], "jac gave .* for x0: real .*an entry of it has 2 numbers"),
        (lambda x: None, "jac gave None for x0"),
        (lambda x: "up", "jac gave 'up'"),
        (lambda x: {"w": x}, "jac gave"),
        (lambda x: 1 / 0, "jac raised ZeroDivisionError"),
    ],
    ids=[
        "longer",
        "square",
        "masked",
        "complex",
        "boolean",
        "None within",
        "ragged",
        "None",
        "string",
        "dict",
        "raises",
    ],
)
def test_a_bad_gradient_is_refused_by_name(jac, match):
    """Shape, type, structure: what was given and what is needed."""
    with pytest.raises(ObjectiveError, match=match):
        descend.minimize(lambda x: float(x @ x), np.ones(2), jac=jac, max_steps=3)


def test_a_gradient_of_another_structure_is_refused():
    """A missing key in a container."""
    with pytest.raises(ObjectiveError, match="not built like the parameters"):
        descend.minimize(lambda p: 0.0, {"w": 1.0, "b": 1.0}, jac=lambda p: {"w": 1.0}, max_steps=3)


def test_jac_true_needs_a_pair():
    """jac=True with a function that returns a number alone."""
    with pytest.raises(ObjectiveError, match=r"must return \(value, gradient\)"):
        descend.minimize(square, 0.0, jac=True)


def test_fun_must_be_callable():
    """A value in place of the function."""
    with pytest.raises(OptionError, match=r"fun=9\.0 is not a function"):
        descend.minimize(9.0, 0.0)


@pytest.mark.parametrize(
    "form",
    [
        lambda g: g[None], lambda g: g[:, None], lambda g: g[None, :, None], np.matrix, lambda g: np.matrix(g).T,
        lambda g: g.astype(object), lambda g: [np.array([v]) for v in g], list, tuple, lambda g: [g[0], g[1:]],
        lambda g: [Fraction(float(v)) for v in g], scipy.sparse.csr_matrix, lambda g: scipy.sparse.csc_matrix(g).T,
        lambda g: g.astype(">f8"), lambda g: g.astype(np.longdouble), np.ma.array, torch.tensor,
        lambda g: [torch.tensor(v, requires_grad=True) for v in g],
    ],
    ids=[
        "row", "column", "cube", "matrix", "matrix column", "objects", "list of arrays", "list", "tuple", "mixed list",
        "fractions", "sparse row", "sparse column", "big-endian", "longdouble", "masked", "torch", "list of tensors",
    ],
)  # fmt: skip
def test_a_gradient_in_any_form_is_that_gradient(form):
    """Where it can mean one thing only, whatever holds the numbers: the same descent, to the bit."""
    plain = descend.minimize(scipy.optimize.rosen, [-1.2, 1.0], jac=scipy.optimize.rosen_der)
    found = descend.minimize(scipy.optimize.rosen, [-1.2, 1.0], jac=lambda x: form(scipy.optimize.rosen_der(x)))
    assert found.success
    assert np.array_equal(found.x, plain.x)
    assert found.jac.shape == (2,)


@pytest.mark.parametrize("form", [float, lambda g: np.array([g]), lambda g: [[g]], np.matrix], ids=range(4))
def test_the_gradient_of_one_number_in_any_form(form):
    for x0 in (0.0, np.array([0.0]), {"a": 0.0}):
        leaf = (lambda x: x["a"]) if isinstance(x0, dict) else (lambda x: x)
        built = (lambda g: {"a": g}) if isinstance(x0, dict) else (lambda g: g)
        found = descend.minimize(
            lambda x: square(leaf(x)),  # noqa: B023
            x0,
            jac=lambda x: built(form(float(slope(np.sum(leaf(x)))))),  # noqa: B023
        )
        assert np.ravel(leaf(found.x)) == pytest.approx(3.0)


def test_entries_that_would_be_read_in_two_orders_are_refused():
    """A transposed or flattened gradient of a matrix: the error says how to give it."""
    for form in (np.transpose, np.ravel):
        with pytest.raises(ObjectiveError, match=r"if its entries are in order, return it by .reshape\(2, 3\)"):
            descend.minimize(lambda x: float(np.sum(x**2)), np.ones((2, 3)), jac=lambda x: form(2 * x))  # noqa: B023


def test_value_and_gradient_in_any_pair():
    """A tuple, a list, an array of two; three things are refused."""
    for pair in (tuple, list, np.array):
        found = descend.minimize(lambda x: pair([square(x), slope(x)]), 0.0, jac=True)  # noqa: B023
        assert found.x == pytest.approx(3.0)
    with pytest.raises(
        ObjectiveError, match=r"fun returned 3 things: with jac=True it must return \(value, gradient\)"
    ):
        descend.minimize(lambda x: (square(x), slope(x), 2.0), 0.0, jac=True)
    with pytest.raises(ObjectiveError, match=r"returned .*9.0.*: with jac=True"):
        descend.minimize(square, 0.0, jac=True)


def test_an_index_into_one_number_is_told_how_to_have_an_array():
    """SciPy makes an array of a start that is a number; here the function is given a number."""
    with pytest.raises(ObjectiveError, match=r"IndexError.*pass x0 as \[x0\] for an array of one"):
        descend.minimize(lambda x: x[0] ** 2, 3.0)
    assert descend.minimize(lambda x: x[0] ** 2, [3.0]).x == pytest.approx([0.0], abs=1e-6)


@pytest.mark.parametrize("jac", ["torch", "jax", "3-point", "cs", None])
@pytest.mark.parametrize("shape", [(1,), (1, 1)])
def test_a_loss_of_one_entry_is_one_number_wherever_the_gradient_comes_from(jac, shape):
    found = descend.minimize(
        lambda x: ((x - 1) ** 2).sum().reshape(shape), np.zeros(2), jac=jac, starts=[np.full(2, 3.0)]
    )
    assert found.x == pytest.approx([1.0, 1.0], abs=1e-6)
    assert isinstance(found.fun, float)


@pytest.mark.parametrize("jac", ["torch", "jax", "2-point", None])
def test_value_and_gradient_without_jac_is_told_what_to_pass(jac):
    with pytest.raises(ObjectiveError, match="if it returns value and gradient, pass jac=True"):
        descend.minimize(lambda x: ((x**2).sum(), 2 * x), np.ones(3), jac=jac)
    assert descend.minimize(lambda x: (float(x @ x), 2 * x), np.ones(3), jac=np.True_).fun == pytest.approx(0.0)
