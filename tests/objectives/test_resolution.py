"""How finely a loss tells points apart: losses that are computed in float32 are recognised."""

import numpy as np
import pytest
import scipy.optimize

import descend
from descend.objectives.objective import Objective
from descend.objectives.resolution import LossResolution
from descend.parameters.memory import Memory

EPS32, EPS64 = float(np.finfo(np.float32).eps), float(np.finfo(np.float64).eps)


def losses(count):
    return np.random.default_rng(0).standard_normal(count)


def test_losses_that_are_all_float32_are_recognised():
    """After some that differ; a single one that is none says that they are not."""
    resolution = LossResolution(EPS64)
    for loss in losses(5).astype(np.float32).tolist() * 3:
        resolution.see(loss)
    assert resolution.eps == EPS64  # few
    for loss in losses(20).astype(np.float32).tolist():
        resolution.see(loss)
    assert resolution.eps == EPS32
    assert resolution.error(-4.0) == 4 * EPS32
    for loss in (np.nan, np.inf):
        resolution.see(loss)
    assert resolution.eps == EPS32
    resolution.see(0.1)
    assert resolution.eps == EPS64
    assert not resolution.watching


def test_losses_of_float64_are_watched_no_longer():
    resolution = LossResolution(EPS64)
    resolution.see(1e300)
    assert not resolution.watching
    assert not LossResolution(EPS32).watching


@pytest.mark.parametrize("jac", [scipy.optimize.rosen_der, None], ids=["given", "differences"])
def test_an_objective_in_float32_is_recognised_with_any_gradient(jac):
    """Handed over as Python's floats, beside gradients in float64 or without any."""
    memory = Memory(np.array([-1.2, 1.0]))
    for fun, eps in (
        (lambda x: float(np.float32(scipy.optimize.rosen(x))), EPS32),
        (lambda x: np.float32(scipy.optimize.rosen(x)), EPS32),
        (scipy.optimize.rosen, EPS64),
    ):
        objective = Objective(fun, jac, memory)
        for x in np.random.default_rng(1).standard_normal((10, 2)):
            memory.vectors[0][:] = x
            objective(memory.like())
        assert objective.resolution.eps == eps


def test_what_was_seen_goes_on():
    """In a state of a descent; one that is of no loss is refused."""
    ones = LossResolution(EPS64)
    for loss in losses(5).astype(np.float32).tolist():
        ones.see(loss)
    ones.noise = 0.25
    other = LossResolution(EPS64)
    other.restore(ones.state())
    for loss in losses(9).astype(np.float32).tolist():
        other.see(loss)
    assert (other.eps, other.noise) == (EPS32, 0.25)
    with pytest.raises(ValueError, match="no errors of a loss"):
        other.restore(ones.state() | {"noise": np.array(np.nan)})
    state = descend.minimize(lambda x: (x - 3) ** 2, 0.0, max_steps=1).state
    with pytest.raises(descend.errors.StateError):
        descend.minimize(lambda x: (x - 3) ** 2, 0.0, state=dict(state) | {"resolution.eps": np.array(-1.0)})
