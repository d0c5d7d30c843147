"""What constructors take, as those of torch.optim do, and what they refuse."""

import collections
import contextlib
import dataclasses
import decimal
import fractions
import inspect
import io

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from tests.optim.training import both, per_twin  # noqa: E402

from descend import optim  # noqa: E402
from descend.errors import ParameterError, RuleError  # noqa: E402
from descend.optim import signature as signatures  # noqa: E402


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


def test_what_holds_no_tensors_is_named():
    """A model, or its method, in the place of its parameters; and groups without tensors."""
    model, optimizer = torch.nn.Linear(1, 1), optim.SGD([torch.zeros(1)])
    for wrong, text in [
        (model, r"params=Linear\(.*\): tensors are needed, .*; try model\.parameters\(\)$"),
        (model.parameters, r"params=<bound method .*: tensors are needed"),
        (None, "params=None: tensors are needed"),
        (5, "params=5: tensors are needed"),
    ]:
        for params in (wrong, [{"params": wrong}]):
            with pytest.raises(TypeError, match=text):
                optim.Adam(params)
        with pytest.raises(TypeError, match=text):
            optimizer.add_param_group({"params": wrong})
    for group, text in [({"lr": 0.1, "eps": 0.5}, "a group has lr, eps, and no params"), ({}, "has nothing, and no")]:
        with pytest.raises(ParameterError, match=text):
            optim.Adam([group])
        with pytest.raises(ParameterError, match=text):
            optimizer.add_param_group(group)
    assert len(optimizer.param_groups) == 1
    optim.SGD([{"params": torch.tensor(0.0)}])  # one tensor, of no dimension, may be a group's


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
            with pytest.raises(RuleError, match=next(iter(wrong))):  # though every group has its own
                kind([{"params": [q], **optimizer.defaults}], **wrong)
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
        ({"lr": torch.tensor([0.1, 0.1])}, r"Adam\(lr=tensor.*\): lr must be a number or a schedule, not a sequence"),
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


class Configured(collections.UserList):
    """A list of a configuration, which is no list of Python's."""


@pytest.mark.parametrize(
    ("kwargs", "kept"),
    [
        ({"betas": Configured([0.5, 0.75])}, {"betas": (0.5, 0.75)}),
        ({"betas": np.array([0.5, 0.75])}, {"betas": (0.5, 0.75)}),
        ({"lr": np.array(0.5), "eps": np.float32(0.25)}, {"lr": 0.5, "eps": 0.25}),
        ({"lr": np.array([0.5]), "amsgrad": np.True_}, {"lr": 0.5, "amsgrad": True}),
        ({"betas": (np.float64(0.5), 0.75)}, {"betas": (0.5, 0.75)}),
        ({"lr": fractions.Fraction(1, 4), "eps": decimal.Decimal("0.5")}, {"lr": 0.25, "eps": 0.5}),
    ],
    ids=str,
)
def test_numbers_of_other_libraries(kwargs, kept):
    """Groups hold Python's own, which print as numbers and are loaded from checkpoints; the caller's dict is left."""
    p, q = (torch.nn.Parameter(torch.ones(1)) for _ in range(2))
    given = {"params": [q], **kwargs}
    optimizer = optim.Adam([p], **kwargs)
    optimizer.add_param_group(given)
    for group in optimizer.param_groups:
        assert {name: group[name] for name in kept} == kept
        assert {type(group[name]) for name in kept} <= {float, bool, tuple}
    assert given["params"] == [q]
    assert all(given[name] is value for name, value in kwargs.items())
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    torch.load(file, weights_only=True)


def test_tensors_as_hyperparameters():
    """They stay in the group, and what is written to them is followed, as in torch; those in a row are several."""
    made = []
    for library in (optim, torch.optim):
        lr, betas = torch.tensor(0.5), (torch.tensor(0.5), torch.tensor(0.75))
        p = torch.nn.Parameter(torch.ones(3))
        optimizer = library.Adam([p], lr=lr, betas=betas)
        assert optimizer.param_groups[0]["lr"] is lr
        betas = optimizer.param_groups[0]["betas"]
        assert all(isinstance(beta, torch.Tensor) for beta in betas)
        for i in range(3):
            p.grad = torch.full((3,), 0.5 + i)
            optimizer.step()
            lr.mul_(0.5)
            betas[0].mul_(0.9)
        made.append(p)
    torch.testing.assert_close(*made)
    p = torch.nn.Parameter(torch.ones(1))
    p.grad = torch.ones(1)
    optim.Adam([p], betas=torch.tensor([0.5, 0.75])).step()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("0.1", r"SGD\(lr='0\.1'\): lr must be a number or a schedule, not a string; try 0\.1"),
        (None, r"SGD\(lr=None\): lr must be a number"),
        (torch.ones(2, 2), "not an array of shape"),
        (np.array([0.1, 0.2]), "not a sequence"),
        (torch.tensor(0.1, device="meta"), "and one that is known now"),
    ],
    ids=["string", "None", "matrix", "row", "meta"],
)
def test_wrong_numbers_that_are_set_later(value, text):
    """They are named at the next step, planned or not, which leaves everything as it was."""
    p = torch.nn.Parameter(torch.ones(1))
    p.grad = torch.ones(1)
    optimizer = optim.SGD([p], lr=0.5)
    for expected in (1.0, 0.5):
        group = optimizer.param_groups[0]
        before, group["lr"] = group["lr"], value
        with pytest.raises(RuleError, match=text):
            optimizer.step()
        assert p.item() == expected
        group["lr"] = before
        optimizer.step()


def test_a_number_that_is_taken_out_of_a_group_is_missed():
    """It is named, and no default stands in for it."""
    p = torch.nn.Parameter(torch.ones(1))
    p.grad = torch.ones(1)
    optimizer = optim.SGD([p], lr=0.5)
    optimizer.step()
    del optimizer.param_groups[0]["lr"]
    with pytest.raises(RuleError, match=r"SGD\(lr=nothing\): lr must be a number or a schedule"):
        optimizer.step()
    assert p.item() == 0.5


@per_twin
def test_in_the_place_of_torchs_class(name, monkeypatch):
    """A program may put the class where `torch.optim` has its own: constructor, groups and steps are as before."""
    kind = getattr(optim, name)
    p = torch.nn.Parameter(torch.ones(3))
    before = kind([p]).defaults
    monkeypatch.setattr(torch.optim, name, kind)
    for function in (module for module in vars(signatures).values() if hasattr(module, "cache_clear")):
        function.cache_clear()
    optimizer = getattr(torch.optim, name)([p])
    assert optimizer.defaults == before
    p.grad = torch.ones(3)
    optimizer.step()
    assert not torch.equal(p, torch.ones(3))
