"""The advice of a message: it fits the method, and where the gradient comes from."""

import numpy as np
import pytest

import descend
from descend import Reason
from descend.minimization.advice import advice_for


@pytest.mark.parametrize("source", ["differences", "2-point", "3-point", "cs", "torch", "jax"])
def test_a_gradient_that_was_not_given_is_not_to_be_checked(source):
    for reason in Reason:
        assert "check_gradient" not in advice_for(reason, descend.LBFGS(), source)
    assert "check_gradient" in advice_for(Reason.LINE_SEARCH, descend.LBFGS(), "given")


def test_methods_have_no_learning_rate():
    for reason in Reason:
        assert "learning rate" not in advice_for(reason, descend.LBFGS(), "given")
    assert "learning rate" in advice_for(Reason.DIVERGED, descend.GD(lr=1.0), "given")


def test_a_message_has_the_advice():
    """Of a descent that leaves the domain of its function."""
    result = descend.minimize(lambda x: np.nan if x[0] > 1.0 else -x[0], np.array([1.0]), method=descend.LBFGS())
    assert not result.success
    assert "learning rate" not in result.message
    assert "check_gradient" not in result.message
