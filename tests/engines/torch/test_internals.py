"""What is known of PyTorch's insides, and what is said where it is not."""

import warnings

import pytest

torch = pytest.importorskip("torch")

from descend.engines.native import availability  # noqa: E402
from descend.engines.torch import internals  # noqa: E402


@pytest.mark.machine_code
@pytest.mark.parametrize(
    ("name", "value", "function"),
    [("_DLPACK", 99, "view_tensor"), ("_HIDING", ("NoSuchKey",), "keys_place"), ("_TENSOR_BYTES", 8, "keys_place")],
)
def test_another_pytorch_is_looked_at_in_python_and_said_once(monkeypatch, name, value, function):
    """A later version of DLPack, keys of other names, a tensor of another layout: nothing is assumed of them."""
    monkeypatch.setattr(internals, name, value)
    monkeypatch.setattr(availability, "_SAID", set())
    look = getattr(internals, function).__wrapped__
    with pytest.warns(
        RuntimeWarning, match=f"in Python, which takes longer: PyTorch {torch.__version__.split('+')[0]}"
    ):
        assert look() is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert look() is None


@pytest.mark.machine_code
def test_this_pytorch_is_known():
    """Without a warning, in Python with its lock."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if internals.view_tensor.__wrapped__() is None:
            pytest.skip("Python without its lock")
        assert internals.keys_place.__wrapped__() == internals.keys_place()
