"""Saved states that cannot be used: each is refused with an error that says what is wrong, and nothing is loaded."""

import copy
import re
import threading

import pytest

torch = pytest.importorskip("torch")
from descend import optim  # noqa: E402
from descend.errors import OptionError, RuleError, StateError  # noqa: E402

SETTINGS = {"SGD": {"momentum": 0.9}, "RMSprop": {"momentum": 0.5, "centered": True}}


def made(name="Adam", steps=3, library=optim, named=True):
    params = [torch.nn.Parameter(torch.ones(3)) for _ in range(3)]
    items = list(zip("abc", params, strict=True)) if named else params
    groups = [{"params": items[:2]}, {"params": items[2:], "lr": 0.05}]
    optimizer = getattr(library, name)(groups, lr=0.1, **SETTINGS.get(name, {}))
    for _ in range(steps):
        for k, p in enumerate(params):
            p.grad = torch.full((3,), 0.5 + k)
        optimizer.step()
    return params, optimizer


def refused(change, name="Adam", **options):
    """The error of loading a state that was changed so; the optimizer is as it was, and steps on."""
    saved = copy.deepcopy(made(name, 500, **options)[1].state_dict())
    changed = change(saved) or saved  # in place, or as another
    (params, optimizer), (others, twin) = made(name, **options), made(name, **options)
    with pytest.raises((StateError, RuleError)) as caught:
        optimizer.load_state_dict(changed)
    assert str(optimizer.state_dict()) == str(twin.state_dict())
    optimizer.step()
    twin.step()
    assert all(map(torch.equal, params, others))
    return str(caught.value)


WHOLE = "a whole number from 0 to 2**53 is needed"
ENTRIES = {
    "step": [
        *(-1, -3.0, 3.7, float("nan"), float("inf"), 2**60, 10**400, "abc", [1], True, 1 + 2j, torch.tensor(-1.0)),
        *(torch.tensor(float("nan")), torch.tensor([3.0, 4.0]), torch.tensor(True), torch.zeros((), device="meta")),
    ],
    "exp_avg": [
        *("abc", 0.5, [0.0, 0.0, 0.0], torch.zeros(3).to_sparse(), torch.zeros(3, device="meta"), torch.zeros(4)),
        *(torch.zeros(3, dtype=dtype) for dtype in (torch.int64, torch.bool, torch.complex64)),
    ],
}
TEXTS = {
    "step": WHOLE,
    "exp_avg": "a tensor is needed|a floating-point one is needed|torch.strided is needed|no numbers are|has shape",
}


@pytest.mark.parametrize(("entry", "value"), [(n, v) for n, values in ENTRIES.items() for v in values], ids=str)
def test_entries_of_the_state(entry, value):
    """A count that is none, an array of another kind or place: the entry, its parameter and its value are named."""
    text = refused(lambda saved: saved["state"][0].update({entry: value}))
    assert re.search(rf"{entry} of '?a'? .*({re.escape(TEXTS[entry]) if entry == 'step' else TEXTS[entry]})", text), (
        text
    )


@pytest.mark.parametrize("name", ["Adam", "NAdam", "ASGD", "Rprop", "Lion", "Adan", "ADOPT", "RMSprop"])
def test_entries_that_are_missing(name):
    """What a rule cannot go on without is named, whether it is missing or says that there is nothing."""
    rule = getattr(optim, name).rule
    needed = [n for n in rule.state if n not in rule.state_if]
    if name not in ("Rprop", "Lion", "RMSprop"):  # whose steps are the same whatever their number
        needed += ["step", *rule.carried]
    for entry in needed:
        assert f"'b' has no {entry}" in refused(lambda saved, entry=entry: saved["state"][1].__delitem__(entry), name)
        if entry not in rule.first_step:
            text = refused(lambda saved, entry=entry: saved["state"][1].update({entry: None}), name)
            assert f"'b' has no {entry}" in text


PARTS = {
    "no dict": (lambda saved: [1, 2], "no optimizer's state_dict: it has no 'param_groups', 'state'"),
    "None": (lambda saved: {"state": None, "param_groups": saved["param_groups"]}, "state is None: a dict"),
    "no state": (lambda saved: saved.__delitem__("state"), "it has no 'state'"),
    "groups in a dict": (lambda saved: saved.update(param_groups={0: 1}), "param_groups is {0: 1}: a list of groups"),
    "a group": (lambda saved: saved["param_groups"].__setitem__(1, None), r"param_groups\[1\] is None: a dict with"),
    "no params": (
        lambda saved: saved["param_groups"][1].__delitem__("params"),
        r"param_groups\[1\] is {.*a dict with",
    ),
    "params": (lambda saved: saved["param_groups"][0].update(params=7), r"\[0\]\['params'\] is 7: a list of the param"),
    "a place": (lambda saved: saved["param_groups"][0].update(params=[[0], 1]), r"\['params'\] is \[\[0\], 1\]"),
    "twice": (lambda saved: saved["param_groups"][0].update(params=[1, 1]), "parameter 0, which none of its groups"),
    "elsewhere": (lambda saved: saved["param_groups"][0].update(params=[77, 1]), "parameter 0, which none of its gr"),
    "texts": (lambda saved: {**saved, "state": {str(k): v for k, v in saved["state"].items()}}, "parameter '0', which"),
    "too many": (lambda saved: saved["state"].update({5: saved["state"][0]}), "parameter 5, which none of its groups"),
    "an entry": (lambda saved: saved["state"].update({0: None}), r"state\[0\] is None: a dict of one parameter's"),
    "names": (lambda saved: saved["param_groups"][0].update(param_names=["a"]), "is \\['a'\\]: a list of 2 names"),
    "no names": (lambda saved: saved["param_groups"][0].update(param_names=[0, 1]), r"is \[0, 1\]: a list of 2 names"),
    "same names": (lambda saved: saved["param_groups"][0].update(param_names="aa"), "is 'aa': a list of 2 names"),
    "flag": (
        lambda saved: saved["param_groups"][0].update(maximize=0.0),
        r"Adam\(maximize=0.0\): maximize must be True",
    ),
    "rate": (lambda saved: saved["param_groups"][1].update(lr="fast"), r"Adam\(lr='fast'\)"),
    "rates": (lambda saved: saved["param_groups"][1].update(betas=(0.9,)), r"Adam\(betas=\(0.9,\)\)"),
    "a function": (
        lambda saved: saved["param_groups"][1].update(lr=lambda step: 0.1),
        "lr of the saved group is <func",
    ),
    "a lock": (lambda saved: saved["param_groups"][1].update(note=threading.Lock()), "note .*cannot be copied"),
    "half a group": (lambda saved: saved["param_groups"].__delitem__(1), "parameter 2, which none of its groups"),
}


@pytest.mark.parametrize("part", PARTS)
def test_parts_of_the_state(part):
    """Groups, places, names and hyperparameters that are none: each is named with its value."""
    change, text = PARTS[part]
    assert re.search(text, message := refused(change)), message


def test_one_number_for_two_parameters():
    """One state is not given to two parameters; a parameter that stands twice has one number in any case."""
    text = refused(lambda saved: saved["state"].pop(0) and saved["param_groups"][0].update(params=[1, 1]), named=False)
    assert re.search("list parameter 1 twice, for 'parameter 0 of group 0' and for 'parameter 1 of group 0'", text)
    params, optimizer = made(named=False)
    optimizer.param_groups[0]["params"].append(params[0])
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert optimizer.state_dict()["param_groups"][0]["params"] == [0, 1, 0]


@pytest.mark.parametrize(
    ("name", "entry", "value"),
    [
        ("NAdam", "mu_product", -1.0),
        ("NAdam", "mu_product", float("inf")),
        ("ASGD", "eta", "abc"),
        ("ASGD", "mu", None),
    ],
)
def test_numbers_that_are_carried(name, entry, value):
    """What a rule carries from step to step is a finite number, or an error."""
    text = refused(lambda saved: saved["state"][0].update({entry: value}), name)
    assert re.search(rf"{entry} of 'a' is .*: a finite number ≥ 0|'a' has no {entry}", text), text


def test_what_can_be_left_out():
    """With strict=False entries of parameters that no group lists are left out; notes beside the state are loaded."""
    _, optimizer = made()
    saved = copy.deepcopy(optimizer.state_dict())
    saved["state"][9] = saved["state"][0]
    saved["state"][1]["note"] = "mine"
    optimizer.load_state_dict(saved, strict=False)
    assert len(optimizer.state) == 3
    assert optimizer.state_dict()["state"][1]["note"] == "mine"


def test_what_is_taken_as_it_is_meant():
    """Counts as plain numbers, of whatever type, and arrays in other formats or layouts are right."""
    (params, optimizer), (others, twin) = made(), made()
    saved = copy.deepcopy(optimizer.state_dict())
    for k, step in enumerate((3, torch.tensor([3]), torch.tensor(3.0, dtype=torch.float64))):
        saved["state"][k]["step"] = step
    saved["state"][0]["exp_avg"] = saved["state"][0]["exp_avg"].double().requires_grad_() * 1.0
    saved["state"][1]["exp_avg"] = saved["state"][1]["exp_avg"][:1].expand(3)
    saved["param_groups"] = tuple(saved["param_groups"])
    optimizer.load_state_dict(saved)
    optimizer.step()
    twin.step()
    torch.testing.assert_close(params, others)


@pytest.mark.parametrize("hyperparameter", ["lr", "betas", "weight_decay"])
def test_kept_hyperparameters_outlast_schedulers(hyperparameter):
    """What is kept stays kept when a scheduler is made: its own notes of that hyperparameter are not loaded, either."""
    _, old = made(named=False)
    for group in old.param_groups:
        group.update(initial_lr=7.0, max_lr=7.0, min_lr=7.0, max_momentum=7.0, initial_weight_decay=7.0)
    _, new = made(named=False)
    before = copy.deepcopy(new.param_groups[0][hyperparameter])
    new.load_state_dict(old.state_dict(), keep=(hyperparameter,))
    derived = {"lr": {"initial_lr", "max_lr", "min_lr"}, "betas": {"max_momentum"}}
    notes = {"initial_lr", "max_lr", "min_lr", "max_momentum", "initial_weight_decay"}
    left_out = derived.get(hyperparameter, {"initial_weight_decay"})
    assert notes - set(new.param_groups[0]) == left_out
    if hyperparameter == "lr":
        torch.optim.lr_scheduler.LambdaLR(new, lambda epoch: 1.0)
    assert new.param_groups[0][hyperparameter] == before


def test_what_can_be_kept():
    """Anything that stands in a group can be kept; a text in place of a tuple, or another name, is an error."""
    _, old = made()
    old.param_groups[0]["initial_lr"] = 7.0
    _, new = made()
    new.load_state_dict(old.state_dict(), keep=("initial_lr", "cautious"))
    assert "initial_lr" not in new.param_groups[0]
    for keep, text in (("lr", r"keep='lr': pass a tuple, \('lr',\)"), (("rate",), r"keep=\['rate'\]: not among")):
        with pytest.raises(OptionError, match=text):
            new.load_state_dict(old.state_dict(), keep=keep)
