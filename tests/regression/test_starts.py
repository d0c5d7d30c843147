"""Least squares from several starts: each as alone, side by side where JAX or PyTorch evaluates many at once."""

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
