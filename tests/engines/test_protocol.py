"""What an engine is and can: all have the interface, and say of themselves what is true and documented."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import torch

import descend
from descend.engines import Engine, Fused, FusedStack, Jax, Reference, Stack, Torch
from descend.engines.torch.engine import WAYS
from descend.errors import OptionError, ParameterError

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "engines.md"
CAN = {
    **{f"`{kind.__name__}`": kind.can for kind in (Reference, Fused, Stack, FusedStack, Jax)},
    **{f"`Torch` ({way})": can for way, (_, can) in WAYS.items()},
}


def test_the_page_says_what_engines_say_of_themselves():
    """The table of the reference is what `Capabilities` hold, engine by engine."""
    rows = []
    for name, can in CAN.items():
        yes = ["yes" if flag else "no" for flag in (can.in_place, can.compiled, can.cautious)]
        worth = "the reference" if name == "`Reference`" else "the same bits" if can.exact else "to rounding"
        rows.append([name, can.library, ", ".join(can.dtypes), can.devices, can.layouts, *yes, worth])
    table = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    assert [[cell.strip() for cell in line.strip("|").split("|")] for line in table] == rows


@pytest.mark.parametrize(
    "engine",
    [
        pytest.param(lambda: Reference(descend.Adam(), [np.ones(2)]), id="reference"),
        pytest.param(lambda: Fused(descend.Adam(), [np.ones(2)]), id="fused", marks=pytest.mark.machine_code),
        pytest.param(lambda: Jax(descend.Adam(), [jnp.ones(2)]), id="jax"),
        pytest.param(lambda: Torch(descend.Adam(), [torch.ones(2)]), id="torch"),
    ],
)
def test_engines_have_the_interface(engine):
    """Rule, parameters, state, carried numbers, the count of steps, what it can, and a step."""
    assert isinstance(engine(), Engine)
    assert not isinstance(object(), Engine)


@pytest.mark.parametrize(
    "kind",
    [Reference, Stack, *(pytest.param(kind, marks=pytest.mark.machine_code) for kind in (Fused, FusedStack))],
)
def test_types_of_numpy(kind):
    """Those that an engine says it takes it steps; others it refuses."""

    def made(dtype):
        p = np.ones((1, 2), dtype)
        return kind([descend.GD()], [p], [p.copy()]) if issubclass(kind, Stack) else kind(descend.GD(), [p])

    for dtype in ("float16", "float32", "float64", "complex64", "int64"):
        if dtype in kind.can.dtypes:
            made(dtype)
        else:
            with pytest.raises(ParameterError, match="float32 or float64 is needed"):
                made(dtype)


@pytest.mark.parametrize("way", WAYS)
def test_types_and_layouts_of_torch(way):
    """Those that a way says it takes; others it refuses, by a sentence."""
    can = CAN[f"`Torch` ({way})"]
    for dtype in ("float16", "bfloat16", "float32", "float64", "complex64", "complex128", "int64"):
        p = torch.ones(3, dtype=getattr(torch, dtype))
        if dtype in can.dtypes:
            assert Torch(descend.GD(), [p], way=way).can is can
        else:
            with pytest.raises(ParameterError, match=r"^params\[0\] is .*a tensor of float16"):
                Torch(descend.GD(), [p], way=way)
    gaps = [torch.ones(6)[::2]]
    if can.layouts == "any":
        Torch(descend.GD(), gaps, way=way).step([torch.ones(3)])
    else:
        with pytest.raises(ParameterError, match=r"params\[0\] has strides"):
            Torch(descend.GD(), gaps, way=way)
    cautious = Torch(descend.GD(lr=1.0, cautious=True), [p := torch.ones(3)], way=way)
    if can.cautious:
        cautious.step([torch.ones(3)])
        assert p.tolist() == [0.0] * 3
    else:
        with pytest.raises(ParameterError, match="is cautious, which this way cannot be"):
            cautious.step([torch.ones(3)])
        assert p.tolist() == [1.0] * 3


@pytest.mark.parametrize("way", ["tensor", "foreach"])
def test_memory_that_tensors_share(way):
    """Gradients are read as they are before the step; parameters that share memory are refused."""
    base = torch.arange(8.0)
    p, q = base[:4], base[4:]
    Torch(descend.GD(lr=1.0), [p, q], way=way).step([q, p])
    assert base.tolist() == [-4.0] * 4 + [4.0] * 4
    engine = Torch(descend.GD(lr=0.5), [p], way=way)
    engine.step([p])
    assert p.tolist() == [-2.0] * 4
    with pytest.raises(ParameterError, match=r"^params\[0\] and params\[1\] share memory"):
        Torch(descend.GD(), [base[:5], base[4:]], way=way)


def test_another_way():
    """It is named, and so are those that there are."""
    with pytest.raises(OptionError, match=r"way='fused'.*tensor, foreach, compiled"):
        Torch(descend.GD(), [torch.ones(1)], way="fused")
