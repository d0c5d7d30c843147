"""Least squares from several starts: each as alone, side by side where JAX or PyTorch evaluates many at once."""

import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from tests.regression.fits import Decay

import descend

STARTS = [Decay.start * factor for factor in (1.0, 0.8, 1.3, 0.6)]


@pytest.mark.parametrize("library", ["jax", "torch", None])
def test_each_start_is_as_alone(library):
    """The same answer, evaluations and reason for each; one call is for all of them with JAX and PyTorch."""
    arrays = {"jax": jnp, "torch": torch, None: np}[library]
    t, y = (torch.as_tensor(Decay.t), torch.as_tensor(Decay.y)) if library == "torch" else (Decay.t, Decay.y)
    calls = []

    def residuals(x):
        calls.append(1)
        return Decay.model(t, *x, arrays) - y

    alone = [descend.least_squares(residuals, start, library, weights=2.0) for start in STARTS]
    in_turn, calls[:] = len(calls), []
    together = descend.least_squares(residuals, STARTS[0], library, starts=STARTS[1:], weights=2.0)
    assert library is None or len(calls) < in_turn / 2
    assert together.cost == min(run.cost for run in together.runs)
    for one, run in zip(alone, together.runs, strict=True):
        np.testing.assert_allclose(run.x, one.x, rtol=1e-7)
        assert (run.nfev, run.njev, run.reason) == (one.nfev, one.njev, one.reason)


def test_a_start_outside_the_domain_fails_alone():
    """Residuals that are not finite from one start are the end of that one."""
    residuals = lambda x: jnp.log(x) - jnp.arange(1.0, 4.0)  # noqa: E731
    result = descend.least_squares(residuals, np.ones(3), "jax", starts=[-np.ones(3), 2 * np.ones(3)])
    assert result.success
    np.testing.assert_allclose(result.x, np.exp(np.arange(1.0, 4.0)))
    assert len(result.runs) == 2


@pytest.fixture
def compiled(monkeypatch):
    """How often JAX has compiled a program of many starts."""
    found = []
    lowered = jax.stages.Lowered
    compile = lowered.compile
    monkeypatch.setattr(lowered, "compile", lambda self, *args: found.append(1) or compile(self, *args))
    return found


@pytest.mark.parametrize("jit", [lambda f: f, jax.jit])
def test_a_program_is_compiled_once_and_goes_with_its_function(jit, compiled):
    """A second call compiles nothing and gives the same bits; nothing keeps the function alive."""
    residuals = jit(lambda x: Decay.model(Decay.t, *x, jnp) - Decay.y)
    first, second = (descend.least_squares(residuals, STARTS[0], "jax", starts=STARTS[1:]) for _ in range(2))
    assert len(compiled) == 1
    assert [run.x.tobytes() for run in first.runs] == [run.x.tobytes() for run in second.runs]
    seen = weakref.ref(residuals)
    del residuals, first, second
    gc.collect()
    assert seen() is None


def test_data_that_have_changed_are_seen(compiled):
    """A function whose data are others by the next call is compiled anew, however little they changed."""
    y = np.array(Decay.y)

    def residuals(x):
        return Decay.model(Decay.t, *x, jnp) - y

    for count in (1, 2):
        together = descend.least_squares(residuals, STARTS[0], "jax", starts=STARTS[1:])
        for start, run in zip(STARTS, together.runs, strict=True):
            alone = descend.least_squares(residuals, start, "jax")
            np.testing.assert_allclose(run.x, alone.x, rtol=1e-12)
        assert len(compiled) == count
        y[3] = np.nextafter(y[3], np.inf)
