"""PyTorch's defaults for new tensors, its device and its dtype, which are no matter to a step."""

import contextlib

import pytest

torch = pytest.importorskip("torch")
from tests.optim.training import NAMES  # noqa: E402

from descend import optim  # noqa: E402


@contextlib.contextmanager
def default_device():
    torch.set_default_device("meta")
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextlib.contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


DEFAULTS = {
    "set_default_device": default_device,
    "with torch.device": lambda: torch.device("meta"),
    "float64": lambda: default_dtype(torch.float64),
    "bfloat16": lambda: default_dtype(torch.bfloat16),
}
WAYS = {
    "usual": {},
    "fused=False": {"fused": False},
    "foreach": {"foreach": True},
    "state_dtype": {"state_dtype": torch.bfloat16},
    "cautious": {"cautious": True},
}


def stepped(kind, **options):
    """A parameter and its state after some steps, along gradients that lie in memory as it does and otherwise."""
    p = torch.nn.Parameter(torch.linspace(-1.0, 1.0, 6, dtype=torch.float32, device="cpu").reshape(2, 3))
    optimizer = kind([p], **options)
    for i in range(4):
        g = 0.3 * p.detach()
        p.grad = g.t().contiguous().t() if i % 2 else g
        optimizer.step()
        if i == 1:
            other = kind([p], **options)
            other.load_state_dict(optimizer.state_dict())
            optimizer = other
    return [p.detach(), *optimizer.state[p].values()]


@pytest.mark.filterwarnings("ignore:state_dtype")
@pytest.mark.parametrize("default", DEFAULTS)
@pytest.mark.parametrize("way", WAYS)
def test_steps_are_made_where_the_parameters_are(way, default):
    """Counts are on the CPU in their own dtype, state lies with its parameter, and all numbers are the same."""
    for name in NAMES if way == "usual" and default == "set_default_device" else ("NAdam", "SGD"):
        kind = getattr(optim, name)
        expected = stepped(kind, **WAYS[way])
        with DEFAULTS[default]():
            found = stepped(kind, **WAYS[way])
        for one, other in zip(found, expected, strict=True):
            assert (one.dtype, one.device) == (other.dtype, other.device)
            assert torch.equal(one, other), name
