"""Which engine makes a descent: it follows from sizes and steps, and does not show in the numbers."""

import warnings

import numpy as np
import pytest

import descend
from descend.engines import Fused, Reference, Stack, engine, stack
from descend.engines import select as choice
from descend.engines.native import availability


@pytest.mark.machine_code
def test_the_choice_depends_on_size_and_steps_alone():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert type(engine(descend.GD(), [np.ones(2)], steps=100)) is Reference
        assert type(engine(descend.GD(), [np.ones(2)], steps=10**6)) is Fused
        assert type(engine(descend.GD(), [np.ones(10**6)], steps=1000)) is Fused
        assert type(engine(descend.GD(), [np.ones(2)])) is Reference
        assert choice.UNKNOWN * choice.STEP < choice.PAYS


def test_minimize_and_fit_give_the_same_bits_by_either_engine(monkeypatch):
    """A descent that is long enough for machine code, and the same one by NumPy."""
    problem = descend.problems.load("digits")
    ends = []
    for pays in (0.0, float("inf")):
        monkeypatch.setattr(choice, "PAYS", pays)
        fitted = descend.fit(problem, descend.Adam(lr=0.01, cautious=True), epochs=2, progress=False)
        found = descend.minimize(
            lambda x: float(np.sum((x - 3) ** 2)),
            np.zeros(5),
            jac=lambda x: 2 * (x - 3),
            method=descend.NAdam(lr=0.1),
            max_steps=200,
        )
        ends.append(
            [*(np.asarray(v).tobytes() for v in fitted.x.values()), found.x.tobytes(), found.history.loss.tobytes()]
        )
    assert ends[0] == ends[1]


def test_without_machine_code_numpy_steps(monkeypatch):
    """Who has switched machine code off knows it, and is not warned; who cannot have it is, once for each reason."""
    rule, params = descend.GD(), [np.ones(10**6)]
    arrays = [np.ones((1, 10**6))], [np.ones((1, 10**6))]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        monkeypatch.setenv("DESCEND_MACHINE_CODE", "0")
        assert type(engine(rule, params, steps=1000)) is Reference
        assert type(stack([rule], *arrays, steps=1000)) is Stack
        monkeypatch.delenv("DESCEND_MACHINE_CODE")
        monkeypatch.setattr(choice, "why_not", lambda: "there is none here")
        monkeypatch.setattr(availability, "_SAID", set())
        with pytest.warns(RuntimeWarning, match=r"^GD steps by NumPy: there is none here$"):
            assert type(engine(rule, params, steps=1000)) is Reference
        assert type(stack([rule], *arrays, steps=1000)) is Stack
