"""Each step of every rule against torch.optim, in every format, on its own and over a training."""

import functools

import pytest

torch = pytest.importorskip("torch")

from tests.optim.training import (  # noqa: E402
    FULLEST,
    FUSED,
    TWINS,
    alike,
    close,
    loss_of,
    network,
    per_setting,
    per_twin,
    same,
    settings,
    train,
)

from descend import optim  # noqa: E402


def shadow(name, kwargs, p, before, g, dtype):
    """Parameter and state after one step of torch's optimizer from there, in another format."""
    q = torch.nn.Parameter(p.detach().to(dtype, copy=True))
    q.grad = g.to(dtype, copy=True)
    twin = getattr(torch.optim, name)([q], **kwargs, foreach=False)
    state = {n: v.to(dtype if v.dim() or n in twin_numbers(name) else v.dtype, copy=True) for n, v in before.items()}
    if name == "SGD":  # where a buffer that is there is not the first
        state = {} if state["step"] == 0 else {n: v for n, v in state.items() if n != "step"}
    twin.state[q].update(state)
    twin.step()
    return {"param": q.detach(), **{n: v for n, v in twin.state[q].items() if v is not None and n != "step"}}


def twin_numbers(name):
    return getattr(optim, name).rule.carried


FEW, MANY = (0, 1, 2, 5, 15, 40), tuple(range(0, 200, 20))
"""Steps that are compared: by default, and in the slow suite."""
in_length = pytest.mark.parametrize("compared", [FEW, pytest.param(MANY, marks=pytest.mark.slow)], ids=["few", "many"])


def steps_are_torchs(name, kwargs, dtype, compared, **ways):
    """Compare these steps of a training with torch's, in float64 from the same point, with the same state and gradient.

    The bound, for each tensor: half a unit in the last place for what is stored, and the rounding of the step itself,
    for which torch's own step in float32 is the measure, eight times over; for float64 that is scaled by 2⁻²⁹.
    """
    scale = 2.0**-29 if dtype is torch.float64 else 1.0
    stored = torch.finfo(dtype).eps / 2
    tiny = torch.finfo(dtype).smallest_normal if dtype is torch.float16 else 2.0**-126
    model = network(dtype)
    optimizer = getattr(optim, name)(model.parameters(), **kwargs, **ways)
    for i in range(max(compared) + 1):
        if i not in compared:
            train(model, optimizer, 1)
            continue
        optimizer.zero_grad()
        loss_of(model, optimizer.param_groups[0]["maximize"])
        optimizer.init_state()
        params = list(model.parameters())
        old = [(p.detach().clone(), {n: v.clone() for n, v in optimizer.state[p].items()}) for p in params]
        optimizer.step()
        for p, (start, before) in zip(params, old, strict=True):
            exact, rounded = (shadow(name, kwargs, start, before, p.grad, d) for d in (torch.float64, torch.float32))
            now = {"param": p.detach(), **optimizer.state[p]}
            assert now.pop("step") == before["step"] + 1
            assert set(now) >= set(exact)
            for entry, value in exact.items():
                size = max(v.abs().max() for v in (value, before.get(entry, start)))
                off = (rounded[entry].double() - value).abs().max()
                bound = stored * value.abs() + scale * (8 * off + 8 * 2.0**-24 * size) + tiny
                if entry in twin_numbers(name):  # kept in float32
                    bound = 2.0**-23 * value.abs() + 2.0**-149
                assert ((now[entry].double() - value).abs() <= bound).all(), entry


@in_length
@per_setting
def test_each_step_in_float32_is_torchs(name, kwargs, compared):
    """Machine code does what torch's formulas do, with every flag."""
    steps_are_torchs(name, kwargs, torch.float32, compared, **FUSED)


@in_length
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(("name", "kwargs"), FULLEST, ids=lambda v: v if isinstance(v, str) else "")
def test_each_step_in_other_formats_is_torchs(name, kwargs, dtype, compared):
    """So it does in the other formats; those of 16 bits are computed with 32."""
    steps_are_torchs(name, kwargs, dtype, compared, **FUSED)


@in_length
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("name", "kwargs"), FULLEST, ids=lambda v: v if isinstance(v, str) else "")
def test_each_step_on_tensors_is_torchs(name, kwargs, dtype, compared):
    """The tensor engine does the same."""
    steps_are_torchs(name, kwargs, dtype, compared, fused=False)


def curve(library, name, settings, dtype=torch.float64, nudge=0.0):
    """The losses of 200 steps, from a start that is moved by so much of itself."""
    model = network(torch.float64)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(1 + nudge)
    model.to(dtype)
    optimizer = getattr(library, name)(model.parameters(), **{"lr": 3e-3, **dict(settings)})
    return torch.tensor(train(model, optimizer, 200), dtype=torch.float64)


torchs = functools.cache(functools.partial(curve, torch.optim))


FORMATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
SHORT = {("SGD", torch.float64), ("Adam", torch.float64), ("AdamW", torch.float32), ("RMSprop", torch.bfloat16)}
"""Trainings that are made by default; the slow suite makes all."""


@pytest.mark.parametrize(
    ("name", "kwargs", "dtype"),
    [
        pytest.param(*case, marks=[] if (case[0], case[2]) in SHORT and case[1] else pytest.mark.slow)
        for case in [(name, next(settings(name)), torch.float64) for name in TWINS]
        + [(*case, dtype) for case in FULLEST for dtype in FORMATS]
    ],
    ids=lambda v: v if isinstance(v, str) else str(v) if isinstance(v, torch.dtype) else "-".join(v),
)
def test_curves_are_torchs(name, kwargs, dtype):
    """200 steps lead no further from torch's curve in float64 than rounding does.

    How far that is, torch's own curves tell: from starts a unit or two in the last place away, and in the same format.
    Eight times that is the bound, since such a figure is chance; and where torch's curve ends in NaN, 32 units.
    """
    eps, case = torch.finfo(dtype).eps, (name, tuple(kwargs.items()))
    exact = torchs(*case)
    others = [*(torchs(*case, nudge=n * 2.0**-52) for n in (1, -1, 2)), torchs(*case, dtype)]
    reach = max(float((other - exact).abs().max()) for other in others if not other.isnan().any())
    bound = 8 * reach + (8 if not others[-1].isnan().any() else 32) * eps * exact.abs().max()
    if getattr(optim, name).rule.carried:
        bound += 2.0**-20
    assert (curve(optim, *case, dtype) - exact).abs().max() <= bound


@per_twin
def test_complex_parameters(name):
    """A complex parameter is stepped as two real ones, as in torch."""

    def model():
        made = torch.nn.Module()
        made.w = torch.nn.Parameter(torch.tensor([1 + 2j, -0.5 + 0.3j, 2j], dtype=torch.complex128))
        return made

    def use(model, optimizer):
        for _ in range(30):
            optimizer.zero_grad()
            ((model.w - 1).abs() ** 2 * torch.tensor([1.0, 2.0, 0.5])).sum().backward()
            optimizer.step()

    ours, theirs = alike(name, use, model=model)
    for a, b in zip(ours.state.values(), theirs.state.values(), strict=bool(theirs.state)):
        for entry in set(b) - {"step"}:
            if b[entry] is not None:
                same(a[entry].to(b[entry].dtype), b[entry], close(name))
