"""The steps of finite differences: from the size of each parameter, and as SciPy's users give them."""

import numpy as np
import pytest
from scipy.optimize._numdiff import approx_derivative

from descend.errors import OptionError
from descend.objectives.steps import given_steps, step_sizes, typical_sizes

POINT = np.array([5e-4, -1e-9, 3e7, 0.0])


def test_a_step_is_a_share_of_its_parameter():
    """√eps of each parameter, ∛eps for central differences; exact in the parameters' floats."""
    for dtype in (np.float64, np.float32):
        x, eps = POINT.astype(dtype), np.finfo(dtype).eps
        for scheme, power in (("2-point", 1 / 2), ("3-point", 1 / 3)):
            steps = step_sizes(x, scheme=scheme)
            assert steps[:3] == pytest.approx(eps**power * np.abs(x[:3]), rel=0.01)
            assert np.array_equal((x + steps.astype(dtype)) - x, steps)
    assert step_sizes(POINT, eps=1e-8)[0] == pytest.approx(1e-4 * 5e-4)


def test_a_zero_has_the_size_of_the_others():
    """No more than 1, nor than a tenth of the room between its bounds."""
    assert typical_sizes(np.zeros(3)).tolist() == [1.0, 1.0, 1.0]
    assert typical_sizes(np.array([0.0, 1e-9])).tolist() == [1e-9, 1e-9]
    assert typical_sizes(np.array([0.0, 1e9])).tolist() == [1.0, 1e9]
    room = np.array([-1e-3, -np.inf]), np.array([1e-3, np.inf])
    assert typical_sizes(np.zeros(2), room) == pytest.approx([2e-4, 1.0])


@pytest.mark.parametrize("scheme", ["2-point", "3-point"])
def test_given_steps_are_scipys(scheme):
    """The same derivatives as SciPy's, to the bit, for relative and absolute steps, at zero too."""
    for options in ({"rel_step": 1e-4}, {"rel_step": [1e-4, 1e-3, 1e-5, 1e-4]}, {"abs_step": 1e-6}):
        seen = []

        def fun(x, seen=seen):
            seen.append(x - POINT)
            return np.sum(x**2)

        approx_derivative(fun, POINT, method=scheme, f0=0.0, **options)
        steps = given_steps(POINT, scheme, options.get("rel_step"), options.get("abs_step"))
        theirs = np.array([np.max(np.abs([s[i] for s in seen])) for i in range(4)])
        assert np.abs((POINT + steps) - POINT) == pytest.approx(theirs, rel=1e-12)


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf, "small", [1e-3, 1e-3], [1e-3, 0.0, 1e-3, 1e-3]])
def test_steps_that_lead_nowhere_are_refused(bad):
    with pytest.raises(OptionError, match=r"finite_diff_rel_step=.* a number other than 0 is needed, or one for each"):
        given_steps(POINT, "2-point", bad)
    with pytest.raises(OptionError, match="eps="):
        given_steps(POINT, "2-point", absolute=bad)
