"""The check of a gradient against finite differences."""

import numpy as np
import pytest
from tests.objectives.functions import ROSEN, square

import descend
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
