"""The history of a descent, bounded by thinning."""

import numpy as np
from tests.objectives.functions import slope, square

import descend


def test_history_is_bounded_by_thinning():
    """25,000 steps: at most 10,000 records, evenly spaced, with the right losses; the first is kept."""
    result = descend.minimize(lambda x: x, 0.0, jac=lambda x: 1.0, method=descend.GD(lr=1e-3), max_steps=25_000)
    history = result.history
    assert 5_000 <= len(history) <= 10_000
    assert history.stride == 4
    assert history.step.tolist() == list(range(0, 25_000, 4))
    assert np.allclose(history.loss, -1e-3 * history.step)


def test_history_can_be_switched_off_or_keep_the_path():
    """False keeps nothing; "path" keeps the parameters of each record, as x0 was built."""
    off = descend.minimize(square, 0.0, jac=slope, max_steps=3, history=False)
    assert off.history is None
    on = descend.minimize(square, 0.0, jac=slope, method=descend.GD(lr=0.5), max_steps=2, history="path")
    assert on.history.path == [0.0, 3.0]
