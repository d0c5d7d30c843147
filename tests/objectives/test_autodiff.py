"""Gradients by PyTorch and JAX, and what they say where they cannot be had."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

import descend
from descend.errors import ObjectiveError


def test_gradient_of_a_jax_function():
    """Autodiff by JAX, in float64 for a float64 start, in the container of x0."""
    import jax.numpy as jnp

    result = descend.minimize(
        lambda p: jnp.sum((p["a"] - 3.0) ** 2) + p["b"] ** 2,
        {"a": np.zeros(2), "b": 1.0},
        jac="jax",
        method=descend.GD(lr=0.1),
        max_steps=100,
    )
    assert result.x["a"].tolist() == [2.9999999993888893] * 2


def test_a_jax_start_needs_no_jac():
    """x0 of JAX arrays: autodiff, and JAX arrays back."""
    import jax
    import jax.numpy as jnp

    result = descend.minimize(lambda x: jnp.sum((x - 3.0) ** 2), jnp.zeros(2), method=descend.GD(lr=0.1), max_steps=60)
    assert isinstance(result.x, jax.Array)
    assert np.allclose(np.asarray(result.x), 3.0, atol=1e-4)


def test_torch_autodiff_of_a_numpy_start():
    """jac='torch' with a dict of arrays: the function is given tensors; unused parameters have gradient zero."""
    result = descend.minimize(
        lambda p: ((p["a"] - 3.0) ** 2).sum(),
        {"a": np.zeros(2), "unused": 5.0},
        jac="torch",
        method=descend.GD(lr=0.1),
        max_steps=100,
    )
    assert result.x["a"].tolist() == [2.9999999993888893] * 2
    assert result.x["unused"] == 5.0


def test_an_error_in_torchs_backward_keeps_the_descent():
    """A function whose gradient cannot be taken: one line, with the result so far."""

    def broken(x):
        y = torch.sqrt(x)
        z = y * y
        y.zero_()
        return z.sum()

    with pytest.raises(ObjectiveError, match="its gradient raised RuntimeError") as caught:
        descend.minimize(broken, torch.ones(2))
    assert caught.value.result is not None


def test_torch_loss_that_left_the_graph_is_explained():
    """A loss turned into a plain number has no gradient."""
    with pytest.raises(ObjectiveError, match=r"without \.item\(\)"):
        descend.minimize(lambda t: ((t - 3) ** 2).item(), torch.tensor(0.0))


def test_torch_missing_is_said_in_one_line():
    """jac='torch' where torch is not installed names the extra to install."""
    script = (
        "import sys; sys.modules['torch'] = None\n"
        "import descend\n"
        "try: descend.minimize(lambda x: x, 0.0, jac='torch')\n"
        "except descend.errors.MissingExtra as e: print(e)"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=os.environ)
    assert out.stdout == "jac='torch' needs torch, which is not installed: pip install 'descend[torch]'\n"
