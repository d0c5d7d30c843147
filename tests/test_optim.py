"""`descend.optim` in the hands of a user of `torch.optim`, whose classes are the oracle.

Where both compute in float64 they differ by rounding alone, 1e-16 a step, which 30 steps of training amplify to well
below 1e-9. Two rules carry a number from step to step in float32, as `torch.optim` does, but round it at another place:
there it is 6e-8 and 1e-6. Other formats have bounds of their own, at their tests.
"""

import contextlib
import copy
import dataclasses
import functools
import gc
import inspect
import io
import os
import pickle
import subprocess
import sys
import textwrap
import tracemalloc
import warnings
import weakref

import pytest
from sklearn.datasets import load_iris

import descend
from descend import optim, schedules
from descend.errors import OptionError, ParameterError, RuleError, StateError
from descend.optim.step_plan import StepPlan as Plan

torch = pytest.importorskip("torch")
from torch.optim import lr_scheduler  # noqa: E402
from torch.optim import optimizer as torch_optimizer  # noqa: E402

TWINS = sorted(n for n in optim.__all__ if n in optim._NAMES and hasattr(torch.optim, n))
"""The rules that `torch.optim` has."""
SETTINGS = {
    "ASGD": [{"lr": 0.02, "lambd": 0.01, "t0": 20.0}],
    "Adadelta": [{"rho": 0.95, "eps": 1e-5}],
    "Adagrad": [{"lr": 0.02, "lr_decay": 0.01, "initial_accumulator_value": 0.1}],
    "Adam": [
        {"betas": (0.8, 0.95), "eps": 1e-6, "amsgrad": True},
        {"weight_decay": 0.1, "decoupled_weight_decay": True},
    ],
    "AdamW": [{"amsgrad": True}],
    "Adamax": [{"betas": (0.8, 0.95)}],
    "NAdam": [{"momentum_decay": 0.01}, {"weight_decay": 0.1, "decoupled_weight_decay": True}],
    "RAdam": [{"betas": (0.8, 0.95)}, {"weight_decay": 0.1, "decoupled_weight_decay": True}],
    "RMSprop": [{"alpha": 0.9}, {"momentum": 0.5}, {"centered": True}, {"momentum": 0.5, "centered": True}],
    "Rprop": [{"lr": 1e-3, "etas": (0.4, 1.1), "step_sizes": (1e-5, 0.1)}],
    "SGD": [
        {"lr": 0.02, "momentum": 0.9},
        {"lr": 0.02, "momentum": 0.9, "dampening": 0.1},
        {"lr": 0.02, "momentum": 0.9, "nesterov": True},
    ],
}
X, Y = load_iris(return_X_y=True)
X = (X - X.mean(0)) / X.std(0)


def settings(name):
    """Settings of the class of that name: the defaults, each flag, and last the fullest that torch has."""
    known = inspect.signature(getattr(torch.optim, name)).parameters
    own = SETTINGS.get(name, [])
    # Rprop's longest step, 50, throws the network to where gradients are too small for float32.
    usual = {"step_sizes": (1e-6, 0.1)} if name == "Rprop" else {}
    yield usual
    yield from own
    yield {"maximize": True, **usual}
    if "weight_decay" in known:
        yield {"weight_decay": 0.1}
        yield {"maximize": True, "weight_decay": 0.1, **(own[-1] if own else {})}


EVERY = [(name, s) for name in TWINS for s in settings(name)]
FULLEST = [(name, list(settings(name))[-1]) for name in TWINS]
per_setting = pytest.mark.parametrize(("name", "kwargs"), EVERY, ids=lambda v: v if isinstance(v, str) else "-".join(v))
per_twin = pytest.mark.parametrize("name", TWINS)


@pytest.fixture(autouse=True)
def one_thread():
    """Threads that wait for each other cost more than networks of this size, and most where other work goes on."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def network(dtype=torch.float64, seed=0):
    """A classifier of iris flowers: weights, biases, and the gains and shifts of a normalisation."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = (torch.nn.Linear(4, 8), torch.nn.LayerNorm(8), torch.nn.Tanh(), torch.nn.Linear(8, 3))
        return torch.nn.Sequential(*layers).to(dtype)


@functools.cache
def flowers(dtype):
    return torch.tensor(X, dtype=dtype), torch.tensor(Y)


def loss_of(model, maximize=False):
    """The loss over all flowers, after a backward pass."""
    x, y = flowers(next(model.parameters()).dtype)
    loss = torch.nn.functional.cross_entropy(model(x), y)
    (-loss if maximize else loss).backward()
    return loss.item()


def train(model, optimizer, steps=30, each=None):
    """The losses of so many steps; `each` is called after every one."""
    losses = []
    maximize = optimizer.param_groups[0]["maximize"]
    for _ in range(steps):
        optimizer.zero_grad()
        losses.append(loss_of(model, maximize))
        optimizer.step()
        if each is not None:
            each()
    return losses


def close(name):
    return 1e-6 if getattr(optim, name).rule.carried else 1e-9


def same(one, other, tolerance=1e-9):
    """Assert that two models, lists or tensors hold the same numbers, but for rounding."""
    values = [list(v.parameters()) if isinstance(v, torch.nn.Module) else v for v in (one, other)]
    torch.testing.assert_close(*values, rtol=tolerance, atol=tolerance)


def both(name, *args, model=network, **kwargs):
    """Twice a model and an optimizer over it: ours and torch's."""
    for library in (optim, torch.optim):
        made = model()
        yield made, getattr(library, name)(made.parameters(), *args, **kwargs)


def alike(name, use, *args, tolerance=None, **kwargs):
    """Assert that what `use(model, optimizer)` does comes out as with torch's optimizer; returns both optimizers."""
    (mine, ours), (its, theirs) = both(name, *args, **kwargs)
    found, expected = use(mine, ours), use(its, theirs)
    tolerance = tolerance or close(name)
    same(mine, its, tolerance)
    if found is not None:
        same(found, expected, tolerance)
    return ours, theirs


# ---- the formulas -----------------------------------------------------------------------------------------------


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


def steps_are_torchs(name, kwargs, dtype, steps=200, **ways):
    """Compare every twentieth step with torch's, in float64 from the same point with the same state and gradient.

    The bound, for each tensor: half a unit in the last place for what is stored, and the rounding of the step itself,
    for which torch's own step in float32 is the measure, eight times over; for float64 that is scaled by 2⁻²⁹.
    """
    scale = 2.0**-29 if dtype is torch.float64 else 1.0
    stored = torch.finfo(dtype).eps / 2
    tiny = torch.finfo(dtype).smallest_normal if dtype is torch.float16 else 2.0**-126
    model = network(dtype)
    optimizer = getattr(optim, name)(model.parameters(), **kwargs, **ways)
    for i in range(steps):
        if i % 20:
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


@per_setting
def test_each_step_in_float32_is_torchs(name, kwargs):
    """Machine code does what torch's formulas do, with every flag."""
    steps_are_torchs(name, kwargs, torch.float32, fused=True)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(("name", "kwargs"), FULLEST, ids=lambda v: v if isinstance(v, str) else "")
def test_each_step_in_other_formats_is_torchs(name, kwargs, dtype):
    """So it does in the other formats; those of 16 bits are computed with 32."""
    steps_are_torchs(name, kwargs, dtype, fused=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("name", "kwargs"), FULLEST, ids=lambda v: v if isinstance(v, str) else "")
def test_each_step_on_tensors_is_torchs(name, kwargs, dtype):
    """The tensor engine does the same."""
    steps_are_torchs(name, kwargs, dtype, steps=81, fused=False)


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


@pytest.mark.parametrize(
    ("name", "kwargs", "dtype"),
    [(name, next(settings(name)), torch.float64) for name in TWINS]
    + [(*case, dtype) for case in FULLEST for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16)],
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


# ---- constructors -----------------------------------------------------------------------------------------------


@per_twin
def test_constructor_is_torchs(name):
    """Arguments stand where torch has them, with torch's defaults; what only we have comes after, by keyword."""
    kinds = []
    for library in (optim, torch.optim):
        given = inspect.signature(getattr(library, name)).parameters.values()
        kinds.append({p.name: (p.kind, p.default) for p in given})
    ours, theirs = kinds
    positional = [n for n, (kind, _) in ours.items() if kind is not inspect.Parameter.KEYWORD_ONLY]
    assert positional == [n for n, (kind, _) in theirs.items() if kind is not inspect.Parameter.KEYWORD_ONLY]
    assert {n: kind for n, (kind, _) in ours.items() if n in theirs} == {n: kind for n, (kind, _) in theirs.items()}
    (_, ours), (_, theirs) = both(name)
    for group in (ours.defaults, ours.param_groups[0]):
        assert {k: v for k, v in group.items() if k in theirs.defaults and k != "params"} == theirs.defaults


@per_twin
def test_positional_arguments(name):
    """Every positional argument of torch's arrives where torch has it."""
    theirs = inspect.signature(getattr(torch.optim, name)).parameters.values()
    given = [p.default for p in theirs if p.name != "params" and p.kind is not inspect.Parameter.KEYWORD_ONLY]
    ours, theirs = (o for _, o in both(name, *given))
    assert {k: ours.defaults[k] for k in theirs.defaults} == theirs.defaults


def test_what_torch_refuses_is_refused():
    """Torch's own checks of `params` are kept."""
    p, q = (torch.nn.Parameter(torch.zeros(1)) for _ in range(2))
    for params, error, text in [
        (p, TypeError, "params argument given to the optimizer should be"),
        ([], ValueError, "empty parameter list"),
        ({p}, None, ""),
        ([{"params": {p}}], TypeError, "ordered collections"),
        ([{"params": p}, {"params": p}], ValueError, "more than one parameter group"),
        ([("weight", p), q], ValueError, "Some param names are missing"),
        ([{"params": [p]}, {"params": [("weight", q)]}], ValueError, "with/without names"),
        ([p * 2], ValueError, "non-leaf"),
        (["weight"], TypeError, "can only optimize Tensors"),
    ]:
        with contextlib.nullcontext() if error is None else pytest.raises(error, match=text):
            optim.Adam(params)


@per_twin
def test_wrong_hyperparameters(name):
    """The message is that of the rule; it is said when the optimizer is made, and for a group that is added."""
    kind = getattr(optim, name)
    for wrong in ({"lr": -1.0}, {"lr": "fast"}, {"weight_decay": -0.5}, {"maximize": 2}, {"betas": (0.9, 1.0)}):
        if set(wrong) <= {field.name for field in dataclasses.fields(kind.rule)}:
            with pytest.raises(RuleError) as expected:
                kind.rule(**wrong)
            p, q = (torch.nn.Parameter(torch.zeros(1)) for _ in range(2))
            with pytest.raises(RuleError) as found:
                kind([p], **wrong)
            assert str(found.value) == str(expected.value)
            optimizer = kind([p])
            with pytest.raises(RuleError) as found:
                optimizer.add_param_group({"params": [q], **wrong})
            assert str(found.value) == str(expected.value)
            assert len(optimizer.param_groups) == 1


def test_wrong_options():
    """Options that are unknown, contradict each other or cannot be had are named, with what is allowed."""
    p = torch.nn.Parameter(torch.zeros(1))
    with pytest.raises(TypeError, match=r"Adam: .*'learning_rate'; it takes params, lr, betas"):
        optim.Adam([p], learning_rate=0.1)
    with pytest.raises(TypeError, match="too many positional"):
        optim.SGD([p], *range(20))
    for wrong, text in [
        ({"foreach": True, "fused": True}, "foreach=True and fused=True"),
        ({"differentiable": True, "fused": True}, "cannot be differentiated"),
        ({"capturable": True}, "CUDA graph"),
        ({"state_dtype": torch.int8}, "state_dtype=torch.int8"),
        ({"lr": torch.tensor([0.1, 0.1])}, r"shape \(2,\)"),
    ]:
        with pytest.raises(ValueError, match=text):
            optim.Adam([p], **wrong)
    with pytest.raises(TypeError, match="has no rule"):
        optim.Optimizer([p])
    with pytest.raises(AttributeError, match="it has ADOPT"):
        optim.Adammm  # noqa: B018


def test_integer_parameters_are_refused_by_name():
    """What cannot be stepped is refused when it is given."""
    with pytest.raises(ParameterError, match=r"parameter 1 of the group has dtype torch.int64"):
        optim.SGD([torch.zeros(1), torch.zeros(1, dtype=torch.int64)])
    with pytest.raises(ParameterError, match="counts has dtype"):
        optim.SGD([("counts", torch.zeros(1, dtype=torch.int64))])


# ---- stepping ---------------------------------------------------------------------------------------------------


@per_twin
@pytest.mark.parametrize("way", [{"foreach": True}, {"foreach": False}, {"fused": False}, {"differentiable": True}])
def test_every_way_of_a_step_is_the_same_step(name, way):
    """How a step is run does not change what it does."""
    results = []
    for ways in ({}, way):
        model = network()
        with torch.no_grad() if way.get("differentiable") else contextlib.nullcontext():
            optimizer = getattr(optim, name)(model.parameters(), **ways)
        if way.get("differentiable"):
            for _ in range(5):  # leaves cannot be followed; with requires_grad off they are plain numbers
                optimizer.zero_grad()
                loss_of(model)
                model.requires_grad_(False)
                optimizer.step()
                model.requires_grad_(True)
        else:
            train(model, optimizer, 5)
        results.append(model)
    same(*results)


@per_twin
def test_closure(name):
    """The closure is called once, with gradients on, before the step; its value is returned."""

    def use(model, optimizer):
        def closure():
            assert torch.is_grad_enabled()
            optimizer.zero_grad()
            return loss_of(model)

        with torch.no_grad():
            return [optimizer.step(closure) for _ in range(5)]

    alike(name, use)


@per_twin
def test_missing_gradients(name):
    """A parameter counts its own steps: those at which it had a gradient. Without one it stays, and has no state."""

    def use(model, optimizer):
        first, *_, last = model.parameters()
        for i in range(12):
            optimizer.zero_grad()
            loss_of(model)
            if i < 3:
                last.grad = None
            if i % 4 == 3:
                first.grad = None
            optimizer.step()
            if isinstance(optimizer, optim.Optimizer):
                assert (last in optimizer.state) == (i >= 3)

    ours, _ = alike(name, use)
    steps = [int(s["step"]) for s in ours.state.values()]
    assert sorted(steps) == [9, 9, 12, 12, 12, 12]


def test_step_without_any_gradient():
    """Nothing happens, at the first step and later."""
    model = network()
    optimizer = optim.Adam(model.parameters())
    optimizer.step()
    assert not optimizer.state
    train(model, optimizer, 2)
    optimizer.zero_grad()
    before = [p.clone() for p in model.parameters()]
    optimizer.step()
    same(list(model.parameters()), before)
    assert {int(s["step"]) for s in optimizer.state.values()} == {2}


@per_twin
def test_groups(name):
    """Each group has its own hyperparameters, those it does not name from the constructor; groups can be added."""

    def groups(model):
        first, norm, _, last = model
        return [
            {"params": first.parameters()},
            {"params": [norm.weight], "lr": 0.05, "maximize": True},
            {"params": norm.bias, "lr": 0.0},
        ], {"params": last.parameters(), "lr": 0.003}

    made = []
    for library in (optim, torch.optim):
        model = network()
        start, later = groups(model)
        optimizer = getattr(library, name)(start, lr=0.02)
        train(model, optimizer, 5)
        optimizer.add_param_group(later)
        train(model, optimizer, 10)
        made.append(model)
    same(*made, close(name))


EDITS = {
    "lr": {"lr": 0.005},
    "weight_decay": {"weight_decay": 0.3},
    "no weight_decay": {"weight_decay": 0.0},
    "betas": {"betas": (0.7, 0.8)},
    "list": {"betas": [0.7, 0.8]},
    "eps": {"eps": 0.01},
    "maximize": {"maximize": True},
    "momentum": {"momentum": 0.5},
    "nesterov": {"momentum": 0.5, "nesterov": True},
    "amsgrad": {"amsgrad": False},
}


def editable(name, edit):
    """Whether torch's class of that name can be edited so; its RMSprop fails when momentum comes later."""
    known = inspect.signature(getattr(torch.optim, name)).parameters
    return set(EDITS[edit]) <= set(known) and not (name == "RMSprop" and "momentum" in EDITS[edit])


@pytest.mark.parametrize(("name", "edit"), [(n, e) for n in TWINS for e in EDITS if editable(n, e)])
def test_groups_edited_in_place(name, edit):
    """What is written into a group acts from the next step on."""
    change = EDITS[edit]
    start = {"weight_decay": 0.01} if name != "Rprop" else {}
    if edit == "amsgrad":
        start["amsgrad"] = True

    def use(model, optimizer):
        train(model, optimizer, 5)
        optimizer.param_groups[0].update(change)
        return train(model, optimizer, 5)

    alike(name, use, **start)


def test_groups_edited_after_the_scalars_have_settled():
    """Nothing is written any more before a step, until the group says otherwise."""

    def use(model, optimizer):
        losses = train(model, optimizer, 80)
        if isinstance(optimizer, optim.Optimizer):
            assert optimizer.stepper.plan.changing == []
        for edit in ({"lr": 0.01}, {"betas": (0.6, 0.7)}, {"weight_decay": 0.1}, {"lr": 0.001, "eps": 1e-3}):
            for group in optimizer.param_groups:
                group.update(edit)
            losses += train(model, optimizer, 10)
        return losses

    alike("Adam", use, betas=(0.5, 0.5))


def test_a_rate_that_never_settles_of_a_subclass():
    """Whose scalars are its own, though its formula is inherited."""

    class Warmed(descend.SGD, register=False):
        def scalars(self, t):
            return {"inflow": min(1.0, t / 8)}

    weight = torch.nn.Parameter(torch.zeros((), dtype=torch.float64))
    optimizer = optim.from_rule(Warmed)([weight], lr=1.0, momentum=0.5)
    expected = velocity = 0.0
    for t in range(1, 20):
        weight.grad = torch.ones_like(weight)
        optimizer.step()
        velocity = 0.5 * velocity + min(1.0, t / 8)
        expected -= velocity
        assert weight.item() == pytest.approx(expected, rel=1e-12)


def test_groups_edited_by_replacement():
    """A group may be another dict, its list another list, and a parameter may come or go in the list."""

    def use(model, optimizer):
        losses = train(model, optimizer, 3)
        optimizer.param_groups[0] = {**optimizer.param_groups[0], "lr": 0.3}
        losses += train(model, optimizer, 3)
        last = optimizer.param_groups[0]["params"].pop()
        losses += train(model, optimizer, 3)
        optimizer.param_groups[0]["params"].append(last)
        losses += train(model, optimizer, 3)
        optimizer.param_groups[0]["params"] = optimizer.param_groups[0]["params"][:3]
        losses += train(model, optimizer, 3)
        optimizer.param_groups = [{**optimizer.param_groups[0], "lr": 0.02}]
        return losses + train(model, optimizer, 3)

    alike("Adam", use)


def test_parameter_replaced_in_a_group():
    """Another parameter in the place of one is stepped from there on, and the one before is not."""

    def use(model, optimizer):
        train(model, optimizer, 3)
        old = model[3].bias
        model[3].bias = torch.nn.Parameter(old.detach() + 0.5)
        optimizer.param_groups[0]["params"][-1] = model[3].bias
        train(model, optimizer, 3)
        old.grad = None
        return [old.detach()]

    alike("Adam", use)


def test_a_way_edited_in_place():
    """A group that is told to step in another way does so: its step can be differentiated, or must be machine code."""
    model = network()
    optimizer = optim.Adam(model.parameters())
    train(model, optimizer, 2)
    assert optimizer.stepper.plan.spans.launches
    optimizer.param_groups[0]["fused"] = False
    train(model, optimizer, 1)
    assert not optimizer.stepper.plan.spans.launches
    optimizer.param_groups[0]["fused"] = True
    train(model, optimizer, 1)
    assert optimizer.stepper.plan.spans.launches


def test_wrong_edit_is_an_error_at_each_step():
    """A hyperparameter out of range is refused as often as it is met, and nothing moves; a right one mends it."""
    model = network()
    optimizer = optim.Adam(model.parameters(), lr=0.1)
    train(model, optimizer, 2)
    before = [p.clone() for p in model.parameters()]
    optimizer.param_groups[0]["lr"] = -1.0
    for _ in range(3):
        with pytest.raises(RuleError, match=r"Adam\(lr=-1.0\)"):
            optimizer.step()
    same(list(model.parameters()), before)
    optimizer.param_groups[0]["lr"] = 0.2
    optimizer.step()
    assert optimizer.state[before and next(model.parameters())]["step"] == 3


@per_twin
def test_remove_param_group(name):
    """A group that is removed rests, and its state is forgotten; the others go on as before."""
    (mine, ours), (its, theirs) = both(name)
    made = []
    for model, optimizer in ((mine, ours), (its, theirs)):
        first, _, _, last = model
        kind = type(optimizer)
        its = kind([{"params": first.parameters()}, {"params": last.parameters(), "lr": 0.005}])
        train(model, its, 3)
        if kind.__module__.startswith("descend"):
            gone = its.remove_param_group(0)
            assert gone["params"] == list(first.parameters())
            assert set(its.state) == set(last.parameters())
        else:
            first.requires_grad_(False)
            its.zero_grad()
        train(model, its, 3)
        made.append(model)
    same(*made, close(name))


@pytest.mark.parametrize("name", ["Adam", "AdamW", "SGD", "Adagrad", "RMSprop", "NAdam"])
def test_learning_rate_as_tensor(name):
    """`lr` may be a tensor; what is written into it acts at once."""
    for shape in ((), (1,)):

        def use(model, optimizer, shape=shape):
            lr = torch.full(shape, 0.02, dtype=torch.float64)
            optimizer.param_groups[0]["lr"] = lr
            losses = train(model, optimizer, 5)
            lr.fill_(0.005)
            losses += train(model, optimizer, 5)
            lr.mul_(3)
            return losses + train(model, optimizer, 5)

        alike(name, use, lr=torch.tensor(0.02), tolerance=1e-6)


@pytest.mark.parametrize("set_to_none", [True, False])
def test_zero_grad(set_to_none):
    """Gradients become None, or zero; a zero gradient is one, and moves what has momentum."""

    def use(model, optimizer):
        train(model, optimizer, 3)
        optimizer.zero_grad(set_to_none=set_to_none)
        for p in model.parameters():
            assert (p.grad is None) if set_to_none else not p.grad.any()
        optimizer.step()

    alike("Adam", use)


def test_hooks():
    """Hooks are called as torch calls them: global ones too, with torch's arguments, in torch's order."""

    def use(model, optimizer):
        calls = []
        note = lambda what: lambda o, *a: calls.append((what, o is optimizer, *(len(x) for x in a)))  # noqa: E731
        loss_of(model)
        handles = [
            torch_optimizer.register_optimizer_step_pre_hook(note("global before")),
            torch_optimizer.register_optimizer_step_post_hook(note("global after")),
            optimizer.register_step_pre_hook(note("before")),
            optimizer.register_step_post_hook(note("after")),
        ]
        optimizer.step()
        optimizer.step(lambda: calls.append("closure"))
        for handle in handles:
            handle.remove()
        optimizer.step()
        return calls

    (mine, ours), (its, theirs) = both("SGD")
    assert use(mine, ours) == use(its, theirs)
    same(mine, its)


def test_hook_changes_the_arguments():
    """A hook before the step may give other arguments for it."""
    model = network()
    optimizer = optim.SGD(model.parameters())
    optimizer.register_step_pre_hook(lambda o, args, kwargs: ((args[0], lambda: 7.0), kwargs))
    assert optimizer.step() == 7.0


def test_hooks_of_the_state_dict():
    """Hooks before and after saving and loading are called, and may change what is saved or loaded."""
    for library in (optim, torch.optim):
        model = network()
        optimizer = library.Adam(model.parameters())
        train(model, optimizer, 1)
        calls = []
        optimizer.register_state_dict_pre_hook(lambda o, c=calls: c.append("before saving"))
        optimizer.register_state_dict_post_hook(lambda o, d: {**d, "note": "mine"})
        optimizer.register_load_state_dict_pre_hook(
            lambda o, d: {**d, "param_groups": [{**d["param_groups"][0], "lr": 0.5}]}
        )
        optimizer.register_load_state_dict_post_hook(lambda o, c=calls: c.append(o.param_groups[0]["lr"]))
        saved = optimizer.state_dict()
        assert saved["note"] == "mine"
        optimizer.load_state_dict(saved)
        assert calls == ["before saving", 0.5]


def test_profiler_sees_the_step():
    """A profile has the step under torch's name, and zero_grad too."""
    model = network()
    optimizer = optim.Adam(model.parameters())
    train(model, optimizer, 1)
    with torch.profiler.profile() as profile:
        train(model, optimizer, 2)
    counts = {event.key: event.count for event in profile.key_averages()}
    assert counts["Optimizer.step#Adam.step"] == 2
    assert counts["Optimizer.zero_grad#Adam.zero_grad"] == 2


def test_repr_is_torchs():
    """An optimizer prints as in torch, with what only we have in addition."""
    ours, theirs = (repr(o).splitlines() for _, o in both("Adam"))
    assert {line.replace("weight_decay: 0", "weight_decay: 0.0") for line in theirs} < set(ours)
    assert ours[:2] == ["Adam (", "Parameter Group 0"]
    assert "lr: Cosine(value=0.1, steps=9, final=0.0)" in repr(optim.SGD([torch.zeros(1)], schedules.Cosine(0.1, 9)))


@per_twin
def test_copies_go_on(name):
    """A deep copy, or a pickle, of model and optimizer mid-training takes the same path as the original."""
    model = network()
    optimizer = getattr(optim, name)(model.parameters())
    train(model, optimizer, 5)
    copies = [copy.deepcopy((model, optimizer)), pickle.loads(pickle.dumps((model, optimizer)))]
    losses = train(model, optimizer, 5)
    for other, its in copies:
        assert type(its) is type(optimizer)
        assert its.param_groups[0]["params"][0] is next(other.parameters())
        same(train(other, its, 5), losses)
        same(other, model)


class Slow(optim.Adam):
    """A user's subclass."""

    def __init__(self, params):
        super().__init__(params, lr=0.01)

    def step(self, closure=None):
        self.slept = True
        return super().step(closure)


def test_subclass_of_a_user():
    """A subclass with a constructor and a step of its own works, and stays what it is when it is copied or pickled."""
    model = network()
    optimizer = Slow(model.parameters())
    train(model, optimizer, 3)
    assert optimizer.slept
    for other, its in (copy.deepcopy((model, optimizer)), pickle.loads(pickle.dumps((model, optimizer)))):
        assert type(its) is Slow
        train(other, its, 1)


# ---- with the rest of torch -------------------------------------------------------------------------------------

SCHEDULERS = {
    "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, lambda i: 0.9**i),
    "MultiplicativeLR": lambda o: lr_scheduler.MultiplicativeLR(o, lambda i: 0.9),
    "StepLR": lambda o: lr_scheduler.StepLR(o, 3),
    "MultiStepLR": lambda o: lr_scheduler.MultiStepLR(o, [2, 7]),
    "ConstantLR": lr_scheduler.ConstantLR,
    "LinearLR": lr_scheduler.LinearLR,
    "ExponentialLR": lambda o: lr_scheduler.ExponentialLR(o, 0.8),
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.LinearLR(o), lr_scheduler.ExponentialLR(o, 0.8)], [4]
    ),
    "PolynomialLR": lr_scheduler.PolynomialLR,
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, 10),
    "ChainedScheduler": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.ConstantLR(o), lr_scheduler.ExponentialLR(o, 0.8)]
    ),
    "ReduceLROnPlateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=1),
    "CyclicLR": lambda o: lr_scheduler.CyclicLR(o, 0.001, 0.1, 4),
    "CosineAnnealingWarmRestarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 4),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, 0.1, 20),
    "SWALR": lambda o: torch.optim.swa_utils.SWALR(o, 0.05),
}


@pytest.mark.parametrize("lr", [0.02, torch.tensor(0.02, dtype=torch.float64)], ids=["number", "tensor"])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_schedulers_of_torch(scheduler, lr):
    """Every scheduler of torch drives our optimizers as its own, the momenta that some of them change included."""

    def use(model, optimizer):
        optimizer.param_groups[0]["lr"] = copy.deepcopy(lr)
        made = SCHEDULERS[scheduler](optimizer)
        step = (lambda: made.step(1.0)) if scheduler == "ReduceLROnPlateau" else made.step
        losses = train(model, optimizer, 15, each=step)
        return [*losses, float(optimizer.param_groups[0]["lr"])]

    alike("Adam", use)


def test_every_scheduler_is_tried():
    """A scheduler that a later torch adds is missed here."""
    known = set(lr_scheduler.__all__) - {"LRScheduler"}
    assert known <= set(SCHEDULERS)


def test_averaged_model():
    """Stochastic weight averaging averages what our optimizers find."""
    averages = []
    for library in (optim, torch.optim):
        model = network()
        optimizer = library.SGD(model.parameters(), 0.05, 0.9)
        average = torch.optim.swa_utils.AveragedModel(model)
        train(model, optimizer, 10, each=lambda a=average, m=model: a.update_parameters(m))
        averages.append(average)
    same(*averages)


def test_grad_scaler():
    """A GradScaler unscales gradients before the step, and leaves the step out if they overflowed."""
    results = []
    for library in (optim, torch.optim):
        model = network(torch.float32)
        optimizer = library.Adam(model.parameters(), lr=0.01)
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=3)
        for i in range(10):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16):
                out = model(torch.tensor(X, dtype=torch.float32))
                loss = torch.nn.functional.cross_entropy(out, torch.tensor(Y))
            scaler.scale(loss * (float("inf") if i == 4 else 1.0)).backward()
            scaler.step(optimizer)
            scaler.update()
        steps = {int(s["step"]) for s in optimizer.state.values()}
        results.append((model, steps, scaler.get_scale()))
    same(results[0][0], results[1][0], 1e-5)  # bfloat16 rounds the gradients of all but equal parameters
    assert results[0][1:] == results[1][1:] == ({9}, results[0][2])


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_model(backend):
    """A compiled model, and a compiled function that steps, train as any other."""
    x, y = torch.tensor(X), torch.tensor(Y)

    def whole(model, optimizer):
        def one():
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()

        compiled = torch.compile(one, backend=backend)
        losses = []
        for _ in range(4):
            losses.append(torch.nn.functional.cross_entropy(model(x), y).item())
            compiled()
        return losses

    def model_alone(model, optimizer):
        return train(torch.compile(model, backend=backend), optimizer, 4)

    def step_alone(model, optimizer):
        step = torch.compile(optimizer.step, backend=backend)
        losses = []
        for _ in range(4):
            optimizer.zero_grad()
            losses.append(loss_of(model))
            step()
        return losses

    for use in (whole, model_alone, step_alone):
        torch._dynamo.reset()
        expected_model, expected = next(both("Adam", lr=0.01))
        mine, ours = next(both("Adam", lr=0.01))
        same(use(mine, ours), train(expected_model, expected, 4))
        same(mine, expected_model)
    torch._dynamo.reset()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad], ids=lambda m: m.__name__)
def test_step_in_every_mode_of_autograd(mode):
    """Which a step needs nothing of."""

    def use(model, optimizer):
        train(model, optimizer, 1)
        losses = []
        for _ in range(3):
            optimizer.zero_grad()
            losses.append(loss_of(model))
            if hasattr(optimizer, "stepper"):
                optimizer.stepper.plan = None
            with mode():
                optimizer.step()
        return losses

    alike("Adam", use, lr=0.01)


def test_step_inside_backward():
    """An optimizer for each parameter, stepped as soon as its gradient is there, trains as one for all."""
    model, plain = network(), network()
    each = {p: optim.Adam([p], foreach=False) for p in model.parameters()}

    def hook(p):
        each[p].step()
        each[p].zero_grad()

    for p in model.parameters():
        p.register_post_accumulate_grad_hook(hook)
    for _ in range(5):
        loss_of(model)
    train(plain, optim.Adam(plain.parameters()), 5)
    same(model, plain)


def test_changed_parameter_is_noticed_by_autograd():
    """A step between forward and backward is an error, as every change of what backward needs."""
    model = network()
    optimizer = optim.Adam(model.parameters())
    train(model, optimizer, 2)
    loss = (model(torch.tensor(X)) ** 2).sum()
    loss.backward(retain_graph=True)
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


# ---- what users do to parameters, gradients and state -----------------------------------------------------------


@per_twin
def test_parameters_that_move(name):
    """Parameters whose data are replaced keep their state and go on from the new data."""

    def use(model, optimizer):
        losses = train(model, optimizer, 3)
        for p in model.parameters():
            p.data = p.data.clone() * 0.9
        losses += train(model, optimizer, 3)
        with torch.no_grad():
            for p in model.parameters():
                p.mul_(0.9)
        return losses + train(model, optimizer, 3)

    alike(name, use)


def test_other_format_after_the_first_step():
    """A model may change its format mid-training; state keeps the one that it has."""
    model = network(torch.float32)
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    losses = train(model, optimizer, 5)
    model.to(torch.float64)
    losses += train(model, optimizer, 5)
    assert next(iter(optimizer.state.values()))["exp_avg"].dtype == torch.float32
    model.to(torch.bfloat16)
    train(model, optimizer, 1)
    exact = network()
    same(losses, train(exact, optim.Adam(exact.parameters(), lr=0.01), 10), 1e-4)


@per_twin
def test_state_in_the_hands_of_users(name):
    """State that is replaced, changed in place, cleared, or given another step is what the next step starts from."""

    def use(model, optimizer):
        losses = train(model, optimizer, 3)
        for state in optimizer.state.values():
            for entry, value in list(state.items()):
                if entry != "step" and value is not None:
                    state[entry] = value * 0.5
        losses += train(model, optimizer, 3)
        for state in optimizer.state.values():
            for entry, value in state.items():
                if value is not None:
                    value.add_(2) if entry == "step" else value.mul_(1.5)
        losses += train(model, optimizer, 3)
        for state in optimizer.state.values():
            if "step" in state:
                state["step"] = torch.tensor(1.0)
        losses += train(model, optimizer, 3)
        optimizer.state.clear()
        losses += train(model, optimizer, 3)
        optimizer.state.pop(next(model.parameters()), None)
        return losses + train(model, optimizer, 3)

    tolerance = 1e-6 if getattr(optim, name).rule.carried else None
    for way in ({}, {"fused": False}):
        (mine, ours), (its, theirs) = both(name)
        for group in ours.param_groups:
            group.update(way)
        same(use(mine, ours), use(its, theirs), tolerance or 1e-9)
        same(mine, its, tolerance or 1e-9)


def test_foreign_entries_of_the_state():
    """What users keep in the state beside ours is let alone, and no entry that is missing stops a step."""
    model = network()
    optimizer = optim.Adam(model.parameters())
    train(model, optimizer, 2)
    p, q, *_ = model.parameters()
    optimizer.state[p]["note"] = "mine"
    optimizer.state["whole"] = {"anything": 1}
    train(model, optimizer, 2)
    assert (optimizer.state[p]["note"], optimizer.state["whole"]) == ("mine", {"anything": 1})
    optimizer.state[q].clear()
    train(model, optimizer, 2)
    assert [int(optimizer.state[x]["step"]) for x in (p, q)] == [6, 2]
    del optimizer.state[q]["exp_avg_sq"]
    train(model, optimizer, 1)
    assert optimizer.state[q]["exp_avg_sq"].any()


def test_state_of_another_shape_is_named():
    """State that does not fit its parameter is an error, and not another's memory."""
    model = network()
    optimizer = optim.Adam(model.named_parameters())
    train(model, optimizer, 1)
    optimizer.state[model[0].weight]["exp_avg"] = torch.zeros(3)
    with pytest.raises(StateError, match=r"'exp_avg' of '0.weight' has shape \(3,\), the parameter \(8, 4\)"):
        optimizer.step()


def test_gradient_of_another_shape_is_named():
    """Data that no longer fit their gradient are an error, and not another's memory."""
    for way in (None, False):
        p = torch.nn.Parameter(torch.ones(3))
        optimizer = optim.Adam([("w", p)], fused=way)
        p.grad = torch.ones(3)
        optimizer.step()
        p.data = torch.ones(1000)
        with pytest.raises(ParameterError, match=r"gradient of 'w' has shape \(3,\), the parameter \(1000,\)"):
            optimizer.step()


def test_data_that_shrink_in_place():
    """A parameter that becomes the beginning of itself no longer fits its state: an error."""
    p = torch.nn.Parameter(torch.ones(1000))
    optimizer = optim.Adam([("w", p)])
    p.grad = torch.ones(1000)
    optimizer.step()
    p.data = p.data[:3]
    p.grad = torch.ones(3)
    with pytest.raises(StateError, match=r"'exp_avg' of 'w' has shape \(1000,\), the parameter \(3,\)"):
        optimizer.step()


def test_planned_as_often_as_it_takes(monkeypatch):
    """Memory that another process steps meanwhile is looked at again, not an error."""
    run, refusals = Plan.run, iter([False] * 7)
    monkeypatch.setattr(Plan, "run", lambda self: next(refusals, True) and run(self))
    p = torch.nn.Parameter(torch.ones(2))
    p.grad = torch.ones(2)
    optim.SGD([p], lr=1.0).step()
    assert p.tolist() == [0.0, 0.0]
    monkeypatch.setattr(Plan, "run", lambda self: False)
    with pytest.raises(RuntimeError, match="change while they are stepped"):
        optim.SGD([p], lr=1.0).step()


LAYOUTS = {
    "transposed": lambda t: t.t().contiguous().t(),
    "with gaps": lambda t: torch.stack([t, t], -1)[..., 0],
    "reversed": lambda t: t.flip(0).as_strided(t.shape, t.stride()).clone().flip(0),
    "expanded": lambda t: t[:1].expand(t.shape),
    "overlapping": lambda t: torch.arange(t.numel(), dtype=t.dtype).as_strided(t.shape, (1, 2)) / 7,
    "a view": lambda t: torch.cat([t.flatten(), t.flatten()])[t.numel() :].view(t.shape),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["Adam", "SGD"])
def test_layouts_of_gradients(name, layout):
    """Gradients may lie in memory in any way, and in another at each step."""
    made = []
    for library in (optim, torch.optim):
        p = torch.nn.Parameter(torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(3, 4))
        optimizer = getattr(library, name)([p], lr=0.1, **({"momentum": 0.9} if name == "SGD" else {}))
        for i in range(9):
            g = (p.detach() - 0.3) * torch.arange(1, 5)
            p.grad = g if i % 3 == 0 else LAYOUTS[layout](g)
            optimizer.step()
        made.append(p)
    same(*made)


@pytest.mark.parametrize("layout", ["transposed", "with gaps", "a view"])
@pytest.mark.parametrize("name", TWINS)
def test_layouts_of_parameters(name, layout):
    """So may parameters; state is laid out as they are, and what lies in the gaps is not touched."""
    made = []
    for library in (optim, torch.optim):
        base = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(3, 4)
        p = LAYOUTS[layout](base).requires_grad_()
        assert p.is_leaf
        optimizer = getattr(library, name)([p])
        for _ in range(9):
            optimizer.zero_grad()
            ((p - 0.3) ** 2 * torch.arange(1, 5)).sum().backward()
            optimizer.step()
        if layout == "with gaps":
            assert torch.equal(p.detach().as_strided((12,), (2,), 1), base.flatten())
        made.append(p)
    same(*made, close(name))


def test_memory_formats():
    """Convolutions in channels_last train as in the usual format."""
    made = []
    for library, memory in ((optim, torch.channels_last), (torch.optim, torch.contiguous_format)):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Conv2d(4, 5, 1)).double()
        model = model.to(memory_format=memory)
        optimizer = library.Adam(model.parameters())
        x = torch.linspace(-1, 1, 2 * 3 * 36, dtype=torch.float64).reshape(2, 3, 6, 6).contiguous(memory_format=memory)
        for _ in range(5):
            optimizer.zero_grad()
            (model(x) ** 2).mean().backward()
            optimizer.step()
        made.append(model)
    same(*made)


def test_parameter_that_overlaps_itself():
    """An expanded parameter cannot be written to: torch's own error says so."""
    p = torch.zeros(1).expand(3).detach().requires_grad_()
    p.grad = torch.ones(3)
    for library in (optim, torch.optim):
        with pytest.raises(RuntimeError, match=r"[Uu]nsupported operation|more than one element"):
            library.SGD([p]).step()


@per_twin
def test_numbers_and_nothing(name):
    """A parameter may be a single number, or hold none."""

    def model():
        made = torch.nn.Module()
        made.a = torch.nn.Parameter(torch.tensor(2.0, dtype=torch.float64))
        made.b = torch.nn.Parameter(torch.zeros(0, 3, dtype=torch.float64))
        made.c = torch.nn.Parameter(torch.zeros(1, 1, 1, dtype=torch.float64))
        return made

    def use(model, optimizer):
        for _ in range(5):
            optimizer.zero_grad()
            ((model.a - 1) ** 2 + (model.c - 2).sum() ** 2 + model.b.sum()).backward()
            optimizer.step()

    alike(name, use, model=model)


def test_gradients_of_another_format():
    """A gradient may have fewer bits than its parameter, where torch allows that."""
    p = torch.nn.Parameter(torch.ones(5))
    if not hasattr(p, "grad_dtype"):
        pytest.skip("torch has gradients of the parameter's format alone")
    p.grad_dtype = None  # whatever comes
    q = torch.nn.Parameter(torch.ones(5))
    ours, its = optim.Adam([p], fused=True), optim.Adam([q])
    for dtype in (torch.bfloat16, torch.float32, torch.float16, torch.bfloat16):
        p.grad = torch.linspace(-1, 1, 5).to(dtype)
        q.grad = p.grad.float()
        ours.step()
        its.step()
        assert torch.equal(p, q)


@pytest.mark.parametrize("kwargs", [{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}, {"maximize": True}])
def test_sparse_gradients_of_sgd(kwargs):
    """SGD takes the sparse gradients of an embedding, with momentum too."""
    _sparse("SGD", lr=0.5, **kwargs)


@pytest.mark.parametrize("kwargs", [{}, {"lr_decay": 0.1, "initial_accumulator_value": 0.2}])
def test_sparse_gradients_of_adagrad(kwargs):
    """So does Adagrad."""
    _sparse("Adagrad", lr=0.5, **kwargs)


def _sparse(name, **kwargs):
    made = []
    for library, sparse in ((optim, True), (torch.optim, False)):
        torch.manual_seed(0)
        table = torch.nn.Embedding(6, 3, sparse=sparse).double()
        optimizer = getattr(library, name)(table.parameters(), **kwargs)
        for rows in ([1, 2, 2], [0], [5, 1, 1, 0]):
            optimizer.zero_grad()
            (table(torch.tensor(rows)) ** 2).sum().backward()
            assert table.weight.grad.is_sparse == sparse
            optimizer.step()
        made.append(table)
    same(*made)


@pytest.mark.parametrize("name", [n for n in TWINS if n not in ("SGD", "Adagrad")])
def test_sparse_gradients_of_others(name):
    """Other rules move entries whose gradient is zero: an error that says what to do; dense ones are stepped after."""
    table = torch.nn.Embedding(6, 3, sparse=True)
    line = torch.nn.Linear(3, 1)
    optimizer = getattr(optim, name)([*line.parameters(), *table.parameters()])
    line(table(torch.tensor([1, 2]))).sum().backward()
    for _ in range(2):
        with pytest.raises(
            RuntimeError, match=r"does not support the sparse gradient of parameter 2 of group 0.*dense"
        ):
            optimizer.step()
    table.weight.grad = table.weight.grad.to_dense()
    optimizer.step()
    assert optimizer.state[table.weight]["step"] == 1


def test_sparse_gradients_and_weight_decay():
    """Weight decay would move the entries that a sparse gradient does not have."""
    table = torch.nn.Embedding(6, 3, sparse=True)
    optimizer = optim.SGD(table.parameters(), weight_decay=0.1)
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="weight_decay cannot be used with the sparse gradient"):
        optimizer.step()


@pytest.mark.parametrize("way", [{}, {"foreach": True}], ids=["machine code", "tensors"])
def test_errors_of_a_step_leave_it_whole(way):
    """A step that fails half way has stepped what it reached; the next goes on from there, as torch's does."""
    made = []
    for library in (optim, torch.optim):
        torch.manual_seed(0)
        table, line = torch.nn.Embedding(6, 3, sparse=True).double(), torch.nn.Linear(3, 1).double()
        optimizer = library.Adam([{"params": line.parameters()}, {"params": table.parameters(), **way}], lr=0.1)
        for i in range(6):
            optimizer.zero_grad()
            (line(table(torch.tensor([1, 2]))) ** 2).sum().backward()
            if i != 2:
                table.weight.grad = table.weight.grad.to_dense()
            with contextlib.suppress(RuntimeError):
                optimizer.step()
        made.append([*line.parameters(), table.weight, *(s["step"] for s in optimizer.state.values())])
    same(*made)


def test_meta_tensors():
    """Tensors without memory step without effect, as in torch; machine code cannot be had for them."""
    with torch.device("meta"):
        model = torch.nn.Linear(3, 1)
    model(torch.zeros(1, 3, device="meta")).sum().backward()
    optimizer = optim.Adam(model.parameters())
    optimizer.step()
    assert optimizer.state[model.weight]["exp_avg"].is_meta
    with pytest.raises(RuntimeError, match="fused=True, but a parameter is on meta"):
        optim.Adam(model.parameters(), fused=True).step()


def test_fused_or_an_error():
    """With fused=True what no machine code can step is an error that says why."""
    for p, text in [
        (torch.zeros(3, dtype=torch.complex64), "complex64"),
        (torch.zeros(6)[::2], r"strides \(2,\)"),
        (torch.nn.Parameter(torch.zeros(3).as_subclass(type("Mine", (torch.Tensor,), {}))), "Mine"),
    ]:
        leaf = p.detach().requires_grad_()
        leaf.grad = torch.ones_like(leaf)
        with pytest.raises(RuntimeError, match=f"fused=True, but .*{text}"):
            optim.SGD([leaf], fused=True).step()
        optim.SGD([leaf]).step()


def test_fused_without_machine_code(monkeypatch):
    """Where no machine code can be had, fused=True is an error; otherwise a warning, once, and the step is made."""
    from descend.engines.native import kernels

    monkeypatch.setattr(kernels, "_KNOWN", {})
    monkeypatch.setattr(kernels, "why_not", lambda layout: "there is no compiler")
    p = torch.nn.Parameter(torch.ones(2))
    p.grad = torch.ones(2)
    with pytest.raises(RuntimeError, match="fused=True, but there is no compiler"):
        optim.SGD([p], fused=True).step()
    optimizer = optim.SGD([p], lr=0.5)
    with pytest.warns(RuntimeWarning, match="without machine code: there is no compiler"):
        optimizer.step()
    optimizer.zero_grad()
    optimizer.step()
    p.grad = torch.ones(2)
    optimizer.step()
    assert p.tolist() == [0.0, 0.0]


# ---- differentiable ---------------------------------------------------------------------------------------------


def _followed(name, lr, p, g, start, kwargs):
    p = p.clone()
    p.grad = g
    kind = getattr(optim, name)
    optimizer = kind([p], lr=lr, differentiable=True, **kwargs)
    optimizer.init_state()
    for entry in kind.rule(**kwargs).kept_state():
        optimizer.state[p][entry] = start + (
            3.0 if entry == "square_avg" else 0.0
        )  # more than the square of an average
    optimizer.state[p]["step"].fill_(7)
    optimizer.step()
    return p, *(optimizer.state[p][entry] for entry in kind.rule(**kwargs).kept_state())


@pytest.mark.parametrize(("name", "kwargs"), FULLEST, ids=lambda v: v if isinstance(v, str) else "")
def test_differentiable(name, kwargs):
    """Autograd follows a step to parameter, gradient, state and learning rate, exactly."""
    kwargs = {k: v for k, v in kwargs.items() if k != "lr"}
    torch.manual_seed(0)
    p, g, start = (torch.rand(4, dtype=torch.float64).add(0.5).requires_grad_() for _ in range(3))
    lr = torch.tensor(0.1, dtype=torch.float64, requires_grad=name not in ("ASGD", "Rprop"))
    torch.autograd.gradcheck(lambda *a: _followed(name, *a, kwargs), (lr, p, g, start))


def test_differentiable_over_steps():
    """A loss after several steps has the gradient in learning rate, weight decay and start of the formula itself."""

    def numbers():
        return [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in ([1.0, -2.0, 0.5], 0.1, 0.01)]

    def gradient(p):
        return torch.autograd.grad(((p - 3) ** 4).sum() / 100, p, create_graph=True)[0]

    start, lr, decay = mine = numbers()
    p = start.clone()
    optimizer = optim.SGD([p], lr=lr, momentum=0.9, weight_decay=decay, differentiable=True)
    for _ in range(4):
        p.grad = gradient(p)
        optimizer.step()
    start, lr, decay = formula = numbers()
    q, buffer = start.clone(), 0
    for _ in range(4):
        buffer = 0.9 * buffer + gradient(q) + decay * q
        q = q - lr * buffer
    same(p, q)
    same(torch.autograd.grad((p**2).sum(), mine), torch.autograd.grad((q**2).sum(), formula))


def test_differentiable_where_it_cannot_be():
    """A hyperparameter that the rule turns into plain numbers cannot be followed: an error, not a wrong gradient."""
    p = torch.ones(2, dtype=torch.float64, requires_grad=True).clone()
    p.grad = torch.ones(2, dtype=torch.float64)
    beta = torch.tensor(0.99, dtype=torch.float64, requires_grad=True)
    with pytest.raises(RuntimeError, match="Adam cannot be differentiated in betas"):
        optim.Adam([p], betas=(0.9, beta), differentiable=True).step()


# ---- checkpoints ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "kwargs"), [(n, s) for n, s in EVERY if (n, s) in FULLEST or "maximize" not in s])
@pytest.mark.parametrize("way", ["from torch", "to torch", "to ours"])
def test_checkpoints_are_exchanged_with_torch(name, kwargs, way):
    """A checkpoint taken mid-training goes on in the other library as if nothing had happened."""
    first, second = {"from torch": (torch.optim, optim), "to torch": (optim, torch.optim), "to ours": (optim, optim)}[
        way
    ]
    model = network()
    optimizer = getattr(first, name)(model.parameters(), **kwargs)
    train(model, optimizer, 7)
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    other = network(seed=1)
    its = getattr(second, name)(other.parameters())
    other.load_state_dict(saved["model"])
    its.load_state_dict(saved["optimizer"])
    same(train(other, its, 20), train(model, optimizer, 20), close(name))
    same(other, model, close(name))


def test_loading_copies():
    """What is loaded is copied: the saved state does not change with the steps, nor does the other optimizer."""
    model = network()
    optimizer = optim.Adam(model.parameters())
    train(model, optimizer, 2)
    saved = optimizer.state_dict()
    before = copy.deepcopy(saved)
    its = optim.Adam(network().parameters())
    its.load_state_dict(saved)
    train(network(), its, 1)
    its.step()
    torch.testing.assert_close(saved, before, rtol=0, atol=0)


def test_restoring_the_best():
    """A checkpoint in memory can be restored into the optimizer that it was taken from."""
    model = network()
    optimizer = optim.Adam(model.parameters(), lr=0.05)
    train(model, optimizer, 3)
    saved = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    losses = train(model, optimizer, 5)
    model.load_state_dict(saved[0])
    optimizer.load_state_dict(saved[1])
    assert train(model, optimizer, 5) == losses


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_state_dtype(dtype):
    """State has the format that is asked for, and keeps it in a checkpoint; training goes its way."""
    exact, model = network(torch.float32), network(torch.float32)
    expected = train(exact, optim.Adam(exact.parameters(), lr=0.01), 40)
    optimizer = optim.Adam(model.parameters(), lr=0.01, state_dtype=dtype)
    losses = train(model, optimizer, 40)
    same(losses, expected, 0.05 if dtype is torch.bfloat16 else 1e-4)
    entries = ("exp_avg", "exp_avg_sq")
    assert {s[n].dtype for s in optimizer.state.values() for n in entries} == {dtype}
    its = optim.Adam(model.parameters())
    its.load_state_dict(optimizer.state_dict())
    assert {s[n].dtype for s in its.state.values() for n in entries} == {dtype}
    assert copy.deepcopy(optimizer).state_dtype is dtype
    assert pickle.loads(pickle.dumps(optimizer)).state_dtype is dtype


def test_state_by_name():
    """With names on both sides, state and hyperparameters go to the parameters of the same names, wherever they are."""
    model = network()
    optimizer = optim.Adam(
        [
            {"params": [*model[0].named_parameters(prefix="0")], "lr": 0.02},
            {"params": [*model[1].named_parameters(prefix="1"), *model[3].named_parameters(prefix="3")]},
        ]
    )
    train(model, optimizer, 3)
    other = copy.deepcopy(model)
    its = optim.Adam(
        [
            {"params": [*other[1].named_parameters(prefix="1"), *reversed([*other[3].named_parameters(prefix="3")])]},
            {"params": [*other[0].named_parameters(prefix="0")][::-1]},
        ]
    )
    its.load_state_dict(optimizer.state_dict())
    assert [g["lr"] for g in its.param_groups] == [0.001, 0.02]
    assert its.param_groups[1]["param_names"] == ["0.bias", "0.weight"]
    same(train(other, its, 5), train(model, optimizer, 5))


def test_other_names():
    """Names on one side only are named in an error; with strict=False they are warned about, and start anew."""
    model = network()
    optimizer = optim.Adam(model.named_parameters())
    train(model, optimizer, 3)
    names = dict(model.named_parameters())
    its = optim.Adam([*((n, p) for n, p in names.items() if n != "0.bias"), ("new", torch.nn.Parameter(torch.ones(1)))])
    text = r"not in the saved state: new; only in the saved state: 0.bias"
    with pytest.raises(StateError, match=text):
        its.load_state_dict(optimizer.state_dict())
    assert not its.state
    with pytest.warns(UserWarning, match=text):
        its.load_state_dict(optimizer.state_dict(), strict=False)
    assert len(its.state) == 5
    assert torch.equal(its.state[names["3.weight"]]["exp_avg"], optimizer.state[names["3.weight"]]["exp_avg"])


def test_keep():
    """Hyperparameters may stay as they are in the optimizer that loads."""
    saved = optim.Adam(network().parameters(), lr=0.5, betas=(0.5, 0.5)).state_dict()
    optimizer = optim.Adam(network().parameters(), lr=0.1)
    optimizer.load_state_dict(saved, keep=("lr",))
    group = optimizer.param_groups[0]
    assert (group["lr"], group["betas"]) == (0.1, (0.5, 0.5))
    with pytest.raises(OptionError, match=r"keep=\['rate'\]: not among the hyperparameters, lr, betas"):
        optimizer.load_state_dict(saved, keep=("rate",))


def test_how_a_step_is_run_is_not_loaded():
    """A checkpoint from a GPU, or from a slower way, does not change the way in which steps are run here."""
    saved = torch.optim.Adam(network().parameters(), foreach=True).state_dict()
    saved["param_groups"][0].update(capturable=True, fused=False)
    optimizer = optim.Adam(network().parameters())
    optimizer.load_state_dict(saved)
    assert all(not optimizer.param_groups[0][way] for way in ("foreach", "capturable"))
    assert optimizer.param_groups[0]["fused"] is None


def test_checkpoints_that_do_not_fit():
    """State of another rule or model is refused with the names of what does not fit, and nothing is loaded."""
    model = network()
    adam = optim.Adam(model.named_parameters())
    train(model, adam, 1)
    sgd = optim.SGD(model.named_parameters(), momentum=0.9)
    with pytest.raises(StateError, match=r"'0.weight' has exp_avg, exp_avg_sq, which SGD does not keep"):
        sgd.load_state_dict(adam.state_dict())
    lion = optim.Lion(model.named_parameters())
    train(model, lion, 1)
    before = copy.deepcopy(adam.state_dict())
    with pytest.raises(StateError, match=r"'0.weight' has no exp_avg_sq, which Adam needs \(it has exp_avg, step\)"):
        adam.load_state_dict(lion.state_dict())
    assert str(adam.state_dict()) == str(before)
    small = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.LayerNorm(5), torch.nn.Tanh(), torch.nn.Linear(5, 3))
    its = optim.Adam(small.named_parameters(), lr=0.7)
    with pytest.raises(StateError, match=r"another model: .*exp_avg of 0.weight has shape \(8, 4\).*exp_avg_sq of 3.w"):
        its.load_state_dict(adam.state_dict())
    assert (len(its.state), its.param_groups[0]["lr"]) == (0, 0.7)
    plain = optim.Adam(model.parameters())
    saved = plain.state_dict()
    with pytest.raises(StateError, match=r"1 parameter groups, the saved state 2"):
        plain.load_state_dict({**saved, "param_groups": saved["param_groups"] * 2})
    with pytest.raises(StateError, match=r"groups of \[6\] parameters, the saved state groups of \[5\]"):
        plain.load_state_dict(optim.Adam(list(model.parameters())[1:]).state_dict())
    with pytest.raises(StateError, match="no optimizer's state_dict"):
        plain.load_state_dict(model.state_dict())
    with pytest.raises(RuleError, match="lr"):
        plain.load_state_dict({**saved, "param_groups": [{**saved["param_groups"][0], "lr": -1.0}]})


def test_old_checkpoints():
    """A checkpoint of before a hyperparameter existed, or whose step is a plain number, can be loaded."""
    model = network()
    theirs = torch.optim.Adam(model.parameters(), lr=0.02)
    train(model, theirs, 3)
    saved = copy.deepcopy(theirs.state_dict())
    for missing in ("maximize", "capturable", "differentiable", "fused", "foreach", "decoupled_weight_decay"):
        saved["param_groups"][0].pop(missing, None)
    for state in saved["state"].values():
        state["step"] = 3
    other = copy.deepcopy(model)
    its = optim.Adam(other.parameters())
    its.load_state_dict(saved)
    same(train(other, its, 3), train(model, theirs, 3))


def test_init_state_and_to():
    """State can be made before the first step, which it does not change, and moved."""
    model, other = network(), network()
    optimizer, its = optim.Adam(model.parameters()), optim.Adam(other.parameters())
    optimizer.init_state()
    assert len(optimizer.state) == 6
    assert optimizer.to("cpu") is optimizer
    assert train(model, optimizer, 3) == train(other, its, 3)
    optimizer.to("meta")
    assert all(s["exp_avg"].is_meta and not s["step"].is_meta for s in optimizer.state.values())


def test_no_decay_groups():
    """Weights decay; biases, norms and what is named do not; what is frozen is left out."""
    model = network()
    model[0].bias.requires_grad_(False)
    groups = optim.no_decay_groups(model, 0.1, no_decay=["3.weight"])
    assert [(g["param_names"], g["weight_decay"]) for g in groups] == [
        (["0.weight"], 0.1),
        (["1.weight", "1.bias", "3.weight", "3.bias"], 0.0),
    ]
    optimizer = optim.AdamW(groups, lr=0.01)
    train(model, optimizer, 2)
    (decaying, *_), _ = (g["params"] for g in optim.no_decay_groups(network()))
    assert decaying.dim() == 2
    assert "weight_decay" not in optim.no_decay_groups(network())[0]


# ---- schedules --------------------------------------------------------------------------------------------------


@per_twin
def test_every_hyperparameter_may_follow_a_schedule(name):
    """A hyperparameter that is a function of the step has its number at each step, and resumes from a checkpoint."""
    kind = getattr(optim, name)
    fixed = {}
    for field in [f.name for f in dataclasses.fields(kind.rule)]:
        default = getattr(kind.rule(), field)
        if isinstance(default, tuple):
            fixed[field] = tuple((lambda i, v=v: v * (1 - 1e-3 * i)) if j == 0 else v for j, v in enumerate(default))
        elif not isinstance(default, bool):
            fixed[field] = lambda i, v=default: (v or 0.01) * (1 - 1e-2 * i)
    if name == "Rprop":
        fixed.pop("lr")
    model, other = network(), network()
    optimizer, plain = kind(model.parameters(), **fixed), kind(other.parameters())
    plain.param_groups[0].update({k: plain_at(v, 0) for k, v in fixed.items()})
    for i in range(12):
        plain.param_groups[0].update({k: plain_at(v, i) for k, v in fixed.items()})
        same(train(model, optimizer, 1), train(other, plain, 1))
        if i == 6:
            file = io.BytesIO()
            torch.save(optimizer.state_dict(), file)
            file.seek(0)
            optimizer = kind(model.parameters(), **fixed)
            optimizer.load_state_dict(torch.load(file, weights_only=True))
    same(model, other)


def plain_at(value, i):
    if isinstance(value, tuple):
        return tuple(plain_at(v, i) for v in value)
    return value(i) if callable(value) else value


def test_schedules_are_torchs_schedulers():
    """A schedule in place of `lr` does what the scheduler of torch does from outside."""
    model, other = network(), network()
    optimizer = optim.Adam(model.parameters(), lr=schedules.Cosine(0.05, 12))
    theirs = torch.optim.Adam(other.parameters(), lr=0.05)
    scheduler = lr_scheduler.CosineAnnealingLR(theirs, 12)
    same(train(model, optimizer, 12), train(other, theirs, 12, each=scheduler.step))


def test_schedules_in_checkpoints():
    """A checkpoint has the number that comes next; the schedule stays in the optimizer that loads, or is replaced."""
    model = network()
    lr = schedules.StepDecay(0.1, 2, 0.5)
    optimizer = optim.Adam(model.parameters(), lr=lr, betas=(lambda i: 0.9 - 0.1 * i, 0.99))
    train(model, optimizer, 2)
    saved = optimizer.state_dict()["param_groups"][0]
    assert (saved["lr"], saved["betas"]) == (0.05, (pytest.approx(0.7), 0.99))
    assert optimizer.param_groups[0]["lr"] is lr
    torch.optim.Adam(network().parameters()).load_state_dict(optimizer.state_dict())
    its = optim.Adam(model.parameters(), lr=lr)
    its.load_state_dict(optimizer.state_dict())
    group = its.param_groups[0]
    assert group["lr"] is lr
    assert group["betas"] == saved["betas"]


def test_schedule_for_parameters_that_join_later():
    """A schedule counts the steps of each parameter, as bias corrections do."""
    p, q = (torch.nn.Parameter(torch.zeros(1)) for _ in range(2))
    optimizer = optim.SGD([p, q], lr=lambda i: 10.0**i)
    p.grad = torch.ones(1)
    optimizer.step()
    q.grad = torch.ones(1)
    optimizer.step()
    assert (p.item(), q.item()) == (-11.0, -1.0)


# ---- rules of one's own -----------------------------------------------------------------------------------------


class Halves(descend.Rule, register=False):
    """A rule of a user's module, with state, a flag, and a number computed once a step."""

    lr: float = 0.5
    hasty: bool = False

    def scalars(self, t):
        return {"share": 1.0 / t}

    @staticmethod
    def update(p, g, total, s):
        total = total + s.share * g
        return (p - s.lr * g if s.hasty else p - s.lr * total), total


def test_rule_of_a_user():
    """A rule of one's own steps in machine code and on tensors alike; its optimizer can be copied and pickled."""
    kind = optim.from_rule(Halves)
    assert optim.from_rule(Halves) is kind
    results = []
    for way in ({"fused": True}, {"fused": False}):
        p = torch.nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
        optimizer = kind([p], **way)
        for _ in range(3):
            p.grad = p.detach().clone()
            optimizer.step()
        results.append((p, optimizer.state[p]["total"]))
    expected, total = torch.tensor([1.0, -2.0], dtype=torch.float64), 0
    for t in (1, 2, 3):
        total = total + expected / t
        expected = expected - 0.5 * total
    for p, found in results:
        same((p.detach(), found), (expected, total))
    (q,), its = pickle.loads(pickle.dumps(([p], optimizer)))
    assert type(its) is kind
    assert torch.equal(its.state[q]["total"], optimizer.state[p]["total"])
    assert optim.from_rule(Halves)([p], hasty=True).defaults["hasty"] is True
    assert list(inspect.signature(kind).parameters)[:3] == ["params", "lr", "hasty"]


def test_rule_of_a_user_in_another_process(tmp_path, monkeypatch):
    """An optimizer of a rule in a module of one's own can be unpickled where nothing was made from it yet."""
    (tmp_path / "rule_of_mine.py").write_text(
        textwrap.dedent("""
        import descend

        class Mine(descend.Rule):
            @staticmethod
            def update(p, g, last, s):
                return p - s.lr * (g + last), g
        """)
    )
    monkeypatch.syspath_prepend(tmp_path)
    import rule_of_mine

    p = torch.nn.Parameter(torch.ones(2))
    p.grad = torch.ones(2)
    optimizer = optim.from_rule(rule_of_mine.Mine)([p], lr=0.5)
    optimizer.step()
    (tmp_path / "optimizer").write_bytes(pickle.dumps((p, optimizer)))
    load = "import pickle; p, o = pickle.load(open('optimizer', 'rb')); p.grad = p.detach() * 0 + 1; o.step(); "
    load += "assert p.tolist() == [-0.5, -0.5], p; assert type(o).__name__ == 'Mine'"
    done = subprocess.run([sys.executable, "-c", load], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_from_rule_of_something_else():
    """What is no rule, or has no formula, is refused."""
    for wrong in (descend.Adam(), torch.optim.Adam, descend.Rule, "adam"):
        with pytest.raises(RuleError, match="the class of a rule is needed"):
            optim.from_rule(wrong)


# ---- memory and processes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["plain", "scheduler", "None at times"])
def test_memory_does_not_grow(what):
    """Thousands of steps leave nothing behind but what is bounded, such as the rules of the last 64 learning rates."""
    p, q = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    optimizer = optim.Adam([p, q], lr=0.1)
    p.grad = torch.ones(3)

    def steps(number):
        for i in range(number):
            if what == "scheduler":
                optimizer.param_groups[0]["lr"] *= 0.999
            elif what == "None at times" and i % 200 == 0:
                q.grad = None if q.grad is not None else torch.ones(3)
            optimizer.step()

    def held():
        """The least of some steps: the rules of the last 64 learning rates are forgotten all at once."""
        sizes = []
        for _ in range(5):
            steps(16)
            gc.collect()
            sizes.append(tracemalloc.get_traced_memory()[0])
        return min(sizes)

    steps(1000)
    tracemalloc.start()
    try:
        steps(500)
        before = held()
        steps(20_000 if what == "plain" else 3000)
        after = held()
    finally:
        tracemalloc.stop()
    assert after - before < 40_000  # one object left behind by each step would be more than 80,000


def test_optimizers_are_freed():
    """An optimizer that is no longer used leaves with its state."""
    p = torch.nn.Parameter(torch.ones(3))
    optimizer = optim.Adam([p])
    p.grad = torch.ones(3)
    optimizer.step()
    gone = weakref.ref(optimizer), weakref.ref(optimizer.state[p]["exp_avg"])
    del optimizer
    gc.collect()
    assert [ref() for ref in gone] == [None, None]


def test_modules_that_swap_their_parameters(monkeypatch):
    """As PyTorch does it when told to, where no more than a node of autograd may refer to a parameter."""
    model = network(torch.float32)
    optimizer = optim.Adam(model.parameters())
    losses = train(model, optimizer, 3)
    before = [p.data_ptr() for p in model.parameters()]
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        model.double()
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)
    assert all(p.dtype == torch.float64 and p.data_ptr() not in before for p in model.parameters())
    losses += train(model, optimizer, 3)
    assert losses == sorted(losses, reverse=True)


def test_optimizers_in_cycles_are_freed():
    """A trainer that clips gradients by a hook of each parameter, whose optimizer it holds."""

    class Trainer:
        def __init__(self):
            self.p = torch.nn.Parameter(torch.ones(3))
            self.p.register_hook(self.clip)
            self.p.trainer = self
            self.optimizer = optim.Adam([self.p])

        def clip(self, g):
            return g.clamp(-1, 1)

    trainer = Trainer()
    for _ in range(3):
        (trainer.p**2).sum().backward()
        trainer.optimizer.step()
    gone = weakref.ref(trainer), weakref.ref(trainer.p), weakref.ref(trainer.optimizer)
    del trainer
    gc.collect()
    assert [ref() for ref in gone] == [None, None, None]


def test_parameters_that_grow():
    """Between two steps, in place: the next backward pass is for the new shape."""

    def use(model, optimizer):
        (p,) = optimizer.param_groups[0]["params"]
        values = []
        for size in (3, 3, 5, 5, 2, 2):
            if len(p) != size:
                p.data = torch.ones(size)
                p.grad = None
                optimizer.state.clear()
            optimizer.zero_grad()
            (p**2).sum().backward()
            optimizer.step()
            values += p.tolist()
        return values

    mine, theirs = (use(None, library.Adam([torch.nn.Parameter(torch.ones(3))])) for library in (optim, torch.optim))
    assert mine == pytest.approx(theirs, rel=1e-6)


def test_the_end_of_python_with_an_optimizer_that_stays():
    """Where modules are taken apart before it, and memory that is freed is filled with rubbish."""
    code = """
        import sys, torch, descend
        p = torch.nn.Parameter(torch.ones(3))
        p.grad = torch.ones(3)
        sys.keep = descend.optim.SGD([p])
        sys.keep.step()
        sys.keep.step()
    """
    rubbish = {**os.environ, "PYTHONMALLOC": "malloc", "MALLOC_PERTURB_": "255"}
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], env=rubbish, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_dead_gradients_leave_no_subnormal_numbers(dtype):
    """Averages that decay under zero gradients end at zero, not among the numbers that cost a hundred times more."""
    p = torch.nn.Parameter(torch.ones(50, dtype=dtype))
    optimizer = optim.Adam([p], betas=(0.5, 0.5), fused=True)
    p.grad = torch.linspace(1e-12, 1.0, 50, dtype=dtype)
    optimizer.step()
    p.grad = torch.zeros(50, dtype=dtype)
    for _ in range(1200):
        optimizer.step()
        for entry in ("exp_avg", "exp_avg_sq"):
            small = optimizer.state[p][entry].abs()
            assert not ((small > 0) & (small < torch.finfo(dtype).smallest_normal)).any()
    assert not optimizer.state[p]["exp_avg"].any()


def test_shared_memory():
    """State and parameters that move into shared memory mid-training are found there."""

    def use(model, optimizer):
        losses = train(model, optimizer, 2)
        model.share_memory()
        losses += train(model, optimizer, 2)
        next(iter(optimizer.state.values()))["exp_avg"].share_memory_()
        next(iter(optimizer.state.values()))["step"].share_memory_()
        losses += train(model, optimizer, 2)
        if isinstance(optimizer, optim.Optimizer):
            optimizer.share_memory()
            assert all(v.is_shared() for s in optimizer.state.values() for v in s.values())
        return losses + train(model, optimizer, 2)

    alike("Adam", use)


HOGWILD = """
import torch, descend
import torch.multiprocessing as mp

def work(model, optimizer, rank):
    torch.set_num_threads(1)
    if optimizer is None:
        optimizer = descend.optim.Adam(model.parameters(), lr=0.01)
    torch.manual_seed(rank)
    for _ in range(400):
        x = torch.randn(16, 4)
        optimizer.zero_grad()
        ((model(x) - x.sum(1, keepdim=True)) ** 2).mean().backward()
        optimizer.step()

def loss(model):
    x = torch.linspace(-1, 1, 40).reshape(10, 4)
    return ((model(x) - x.sum(1, keepdim=True)) ** 2).mean().item()

if __name__ == "__main__":
    for shared in (False, True):
        torch.manual_seed(0)
        model = torch.nn.Linear(4, 1).share_memory()
        optimizer = descend.optim.Adam(model.parameters(), lr=0.01)
        optimizer.share_memory()
        start = loss(model)
        workers = [mp.Process(target=work, args=(model, optimizer if shared else None, i)) for i in range(2)]
        for w in workers:
            w.start()
        for w in workers:
            w.join()
        assert [w.exitcode for w in workers] == [0, 0]
        assert loss(model) < start / 100, (start, loss(model))
        steps = optimizer.state[model.weight]["step"].item()
        assert (400 <= steps <= 800) if shared else steps == 0, steps
"""


def test_hogwild(tmp_path):
    """Two processes that step one model in shared memory train it, with state of their own and with shared state."""
    script = tmp_path / "hogwild.py"
    script.write_text("import torch\ntorch.multiprocessing.set_start_method('fork')\n" + HOGWILD)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_no_needless_warnings():
    """Making, stepping, saving and copying brings no warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = network()
        optimizer = optim.AdamW(model.parameters())
        train(model, optimizer, 2)
        copy.deepcopy(optimizer).load_state_dict(optimizer.state_dict())


def test_every_rule_has_an_optimizer():
    """Every rule of the package steps a network, named in `dir` and `__all__`."""
    for name in optim._NAMES:
        assert name in dir(optim)
        model = network()
        losses = train(model, getattr(optim, name)(model.parameters()), 20)
        assert losses[-1] < losses[0], name


@pytest.mark.parametrize("name", ["Adam", "SGD", "Adagrad"])
def test_a_parameter_that_stands_twice_is_stepped_twice(name):
    """As torch.optim does, which warns of it; the count of steps counts both."""
    ends = []
    for library in (torch.optim, descend.optim):
        twice, once = (torch.nn.Parameter(torch.tensor([1.0, -2.0, 3.0])) for _ in range(2))
        with pytest.warns(UserWarning, match="duplicate"):
            optimizer = getattr(library, name)([twice, once, twice], lr=0.1)
        for step in range(4):
            for p in (twice, once):
                p.grad = torch.tensor([0.5, -1.0, 2.0]) * (1 + step)
            optimizer.step()
        ends.append((twice.detach(), once.detach(), optimizer.state[twice].get("step", torch.tensor(8.0))))
    for theirs, ours in zip(*ends, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)
