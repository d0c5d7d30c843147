"""Results are read, changed and compared as SciPy's `OptimizeResult`s are."""

import copy
import pickle

import numpy as np
import pytest
import scipy.optimize
from tests.objectives.functions import ROSEN, bowl, square

import descend

FIELDS = {"x", "fun", "jac", "nit", "nfev", "njev", "success", "status", "message"}


def minimized(**options):
    return descend.minimize(**ROSEN, x0=np.array([-1.2, 1.0]), **options)


def test_a_result_is_a_mapping_of_its_fields():
    """What can be done with an OptimizeResult to read it, with the same answers."""
    ours = minimized()
    theirs = scipy.optimize.OptimizeResult({name: ours[name] for name in ours})
    for of in (len, list, set, lambda r: sorted(r.keys()), lambda r: "x" in r, lambda r: "hess_inv" in r,
               lambda r: r.get("hess_inv") is None, lambda r: r.get("hess_inv", 3), lambda r: r["x"].tolist(),
               lambda r: {**r}.keys(), lambda r: dict(r)["nfev"], lambda r: dict(**r)["fun"], bool,
               lambda r: [name for name, _ in r.items()], lambda r: len(list(r.values())), lambda r: 3 in r,
               lambda r: r.keys() >= FIELDS, lambda r: r.get("fun"), lambda r: r.success):  # fmt: skip
        assert of(ours) == of(theirs)
    assert ours.keys() >= FIELDS


def test_a_result_can_be_changed_as_scipys():
    """Fields are set and others added, by either way of reading."""
    result = minimized()
    result["nfev"] += 10
    result.label = "first"
    result["seed"] = 3
    assert result.nfev == result["nfev"]
    assert (result["label"], result.seed, "label" in result) == ("first", 3, True)
    again = result.copy()
    again.label = "second"
    assert (result.label, again.label, again.x is result.x) == ("first", "second", True)


@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda r: pickle.loads(pickle.dumps(r)), lambda r: r.copy()]
)
def test_a_copy_is_equal(again):
    """Fields and their arrays are compared, NaN is equal to itself; what differs is not equal, and nothing raises."""
    result = descend.minimize(bowl, np.zeros(4), jac=True, max_steps=3, history="path")
    result.note = {"nan": float("nan"), "arrays": [np.array([1.0, np.nan])]}
    other = again(result)
    assert result == other
    assert type(other) is type(result)
    assert other.state.keys() == result.state.keys()
    other.note = 4
    assert result != other
    assert result != minimized()
    assert result != dict(result)
    with pytest.raises(TypeError, match="unhashable"):
        hash(result)


def test_what_is_not_there_is_named():
    """An attribute by AttributeError with the nearest name, an item by KeyError; hasattr is False."""
    result = descend.minimize(square, 0.0)
    with pytest.raises(AttributeError, match="'Result' object has no attribute 'nfevs'; did you mean 'nfev'"):
        _ = result.nfevs
    with pytest.raises(AttributeError, match=r"'allvecs': pass history='path', and read history\.path"):
        _ = result.allvecs
    with pytest.raises(AttributeError, match=r"'hess_inv': covariance\(\) computes the inverse of the Hessian"):
        _ = result.hess_inv
    with pytest.raises(KeyError, match="hess_inv"):
        result["hess_inv"]
    assert not hasattr(result, "hess_inv")
    assert getattr(result, "hess_inv", None) is None
    assert {"x", "fun", "keys", "state"} <= set(dir(result))


def test_fields_may_not_be_made_up():
    """`success` follows from the reason: it is read, not set."""
    with pytest.raises(AttributeError, match="success"):
        descend.minimize(square, 0.0).success = True
