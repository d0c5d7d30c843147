"""The check of a gradient against finite differences."""

import numpy as np
import pytest
import torch
from scipy.optimize import rosen, rosen_der
from tests.objectives.functions import ROSEN, square

import descend
from descend import objectives
from descend.errors import GradientError, OptionError


def test_a_right_gradient_passes_the_check():
    """check_gradient=True on Rosenbrock's true gradient descends as without it."""
    options = dict(**ROSEN, x0=np.array([-1.2, 1.0]), method=descend.GD(lr=1e-3), max_steps=5)
    checked, unchecked = descend.minimize(**options, check_gradient=True), descend.minimize(**options)
    assert checked.x.tolist() == unchecked.x.tolist()
    assert checked.nfev == unchecked.nfev


def test_a_wrong_gradient_is_named_by_its_worst_entry():
    """The check names the entry, what was given and what finite differences say."""

    def jac(p):
        return {"w": 2 * p["w"] + np.array([0.0, 0.5, 0.0]), "b": 2 * p["b"]}

    with pytest.raises(GradientError, match=r"x0\['w'\]\[1\], given 2\.5, finite differences 2"):
        descend.minimize(
            lambda p: float(p["w"] @ p["w"] + p["b"] ** 2), {"b": 1.0, "w": np.ones(3)}, jac=jac, check_gradient=True
        )


def test_a_check_without_a_gradient_is_refused():
    """There is nothing to compare finite differences with but themselves."""
    with pytest.raises(OptionError, match="no gradient to check"):
        descend.minimize(square, 0.0, check_gradient=True)


START, SMALL = np.array([-1.2, 1.0]), 1e-6
RIGHT = {
    "usual": (rosen, START, rosen_der),
    "at a minimum": (rosen, np.ones(3), rosen_der),
    "small parameters": (lambda x: rosen(x / SMALL), START * SMALL, lambda x: rosen_der(x / SMALL) / SMALL),
    "one of 1e-9, one of 1e6": (
        lambda x: 1e18 * (x[0] - 3e-9) ** 2 + 1e-12 * (x[1] - 3e6) ** 2,
        np.array([1e-9, 1e6]),
        lambda x: np.array([2e18 * (x[0] - 3e-9), 2e-12 * (x[1] - 3e6)]),
    ),
    "1e9 + f": (lambda x: 1e9 + rosen(x), START, rosen_der),
    "1e12 + f": (lambda x: 1e12 + rosen(x), START, rosen_der),
    "1e200 f": (lambda x: 1e200 * rosen(x), START, lambda x: 1e200 * rosen_der(x)),
    "six decimals": (lambda x: round(rosen(x), 6), START, rosen_der),
    "in float32": (lambda x: float(np.float32(rosen(x))), START, rosen_der),
    "wild": (lambda x: np.sin(1e3 * x).sum(), np.array([0.3, 2.0]), lambda x: 1e3 * np.cos(1e3 * x)),
    "an unused parameter": (lambda x: x[0] ** 2, np.ones(2), lambda x: np.array([2 * x[0], 0.0])),
    "flat to third order": (lambda x: np.sum(x**4), np.zeros(2), lambda x: 4 * x**3),
}
WRONG = {
    "sign": lambda g: -g,
    "factor": lambda g: 1.01 * g,
    "one entry": lambda g: g + np.eye(len(g))[0] * (0.05 * abs(g[0]) + 0.01 * np.max(abs(g))),
    "in another order": lambda g: g[::-1],
    "zero": lambda g: 0 * g,
}


@pytest.mark.parametrize("name", RIGHT)
def test_the_check_allows_for_its_differences_error_alone(name):
    """Right gradients pass, whatever the scale of parameters and loss; wrong ones are refused by the same check."""
    fun, x, jac = RIGHT[name]
    assert objectives.check(fun, x, jac).ok
    for spoil in WRONG.values():
        if not np.allclose(spoil(jac(x)), jac(x)):
            assert not objectives.check(fun, x, lambda x, spoil=spoil: spoil(jac(x))).ok


@pytest.mark.parametrize("jac", ["torch", "jax"])
def test_autodiff_of_numpy_starts_is_checked_in_their_precision(jac):
    """The function is given what it is given for its gradient, in float64."""
    exp = torch.exp if jac == "torch" else pytest.importorskip("jax").numpy.exp
    found = objectives.check(lambda p: exp(p["a"]).sum() + (p["b"] ** 4).sum(), {"a": np.ones(2), "b": np.ones(1)}, jac)
    assert found.ok
    assert found.error < 1e-8
