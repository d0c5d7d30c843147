"""State of parameters of 16 bits is of float32, whatever brings it; who asks for 16 bits gets them, and a warning."""

import copy
import pickle
import warnings

import pytest
import torch

from descend import optim
from descend.engines import Torch
from descend.rules import Adam

SHORT = [torch.float16, torch.bfloat16]
NAMES = ("exp_avg", "exp_avg_sq")


def stepped(make, dtype, steps=3, gradient=1e-2, **chosen):
    """A parameter and its optimizer after some steps."""
    p = torch.nn.Parameter(torch.ones(3, dtype=dtype))
    optimizer = make([p], **chosen)
    for _ in range(steps):
        p.grad = torch.full((3,), gradient, dtype=dtype)
        optimizer.step()
    return p, optimizer


def dtypes(optimizer):
    return {state[name].dtype for state in optimizer.state.values() for name in NAMES}


@pytest.mark.parametrize("way", [{}, {"fused": False}, {"foreach": True}], ids=str)
@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
        (torch.complex64, torch.complex64),
    ],
    ids=str,
)
def test_the_dtype_of_state(dtype, expected, way):
    _, optimizer = stepped(optim.Adam, dtype, **way)
    assert dtypes(optimizer) == {expected}


@pytest.mark.parametrize("dtype", SHORT, ids=str)
@pytest.mark.parametrize("way", [{}, {"fused": False}, {"foreach": True}], ids=str)
def test_steps_are_as_long_as_with_float32(dtype, way):
    """Gradients of 1e-4, whose squares vanish in float16; Adam's steps are of about lr."""
    p, _ = stepped(optim.Adam, dtype, steps=200, gradient=1e-4, lr=1e-3, **way)
    moved = 1 - p.float()
    q, _ = stepped(torch.optim.Adam, torch.float32, steps=200, gradient=1e-4, lr=1e-3)
    # Steps of 1e-3 are rounded to the distance of numbers just below 1: 2⁻¹¹ and 2⁻⁸.
    assert (moved < 1.05 * (1 - q)).all() if dtype is torch.float16 else not moved.any()


@pytest.mark.parametrize("dtype", SHORT, ids=str)
def test_whoever_asks_for_16_bits_is_warned_once(dtype):
    text = rf"^state_dtype={dtype}: .* up to 9 times too long, or 5 times too short; leave state_dtype out"
    with pytest.warns(RuntimeWarning, match=text) as caught:
        _, optimizer = stepped(optim.Adam, torch.float32, state_dtype=dtype)
    assert [warning.filename for warning in caught] == [__file__]
    assert dtypes(optimizer) == {dtype}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for its in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
            assert its.state_dtype is dtype
            assert dtypes(its) == {dtype}
        for other in (None, torch.float32, torch.float64):
            stepped(optim.Adam, torch.float32, state_dtype=other)


@pytest.mark.parametrize("dtype", SHORT, ids=str)
def test_checkpoints_of_torch_with_state_of_16_bits(dtype):
    """They become float32, the numbers as they are; and training goes on."""
    p, theirs = stepped(torch.optim.Adam, dtype)
    saved = theirs.state_dict()
    assert {saved["state"][0][name].dtype for name in NAMES} == {dtype}
    mine = optim.Adam([p])
    mine.load_state_dict(saved)
    assert dtypes(mine) == {torch.float32}
    for name in NAMES:
        assert torch.equal(mine.state[p][name], saved["state"][0][name].float())
    mine.step()
    assert mine.state[p]["step"] == 4
    with pytest.warns(RuntimeWarning, match="state_dtype"):
        asked = optim.Adam([p], state_dtype=dtype)
    asked.load_state_dict(saved)
    assert dtypes(asked) == {dtype}


@pytest.mark.parametrize("dtype", SHORT, ids=str)
def test_checkpoints_of_descend_in_torch(dtype):
    p, mine = stepped(optim.Adam, dtype)
    theirs = torch.optim.Adam([p])
    theirs.load_state_dict(mine.state_dict())
    theirs.step()
    assert dtypes(theirs) == {dtype}
    again = optim.Adam([p])
    again.load_state_dict(mine.state_dict())
    assert dtypes(again) == {torch.float32}
    assert torch.equal(again.state[p]["exp_avg_sq"], mine.state[p]["exp_avg_sq"])


def test_loaded_state_of_16_bits_becomes_what_would_be_made():
    with pytest.warns(RuntimeWarning, match="state_dtype"):
        p, short = stepped(optim.Adam, torch.float64, state_dtype=torch.bfloat16)
    for asked, expected in ((None, torch.float64), (torch.float32, torch.float32)):
        its = optim.Adam([p], state_dtype=asked)
        its.load_state_dict(short.state_dict())
        assert dtypes(its) == {expected}


@pytest.mark.parametrize("way", ["tensor", "foreach", "compiled"])
def test_the_tensor_engine_has_state_of_float32(way):
    engine = Torch(Adam(), [torch.ones(3, dtype=torch.bfloat16), torch.ones(3, dtype=torch.float64)], way)
    assert [state["exp_avg"].dtype for state in engine.state] == [torch.float32, torch.float64]
