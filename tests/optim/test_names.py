"""Names of parameters: they follow when lists are edited, and are found again behind wrappers and in other groups."""

import copy

import pytest

torch = pytest.importorskip("torch")
from tests.optim.training import network, train  # noqa: E402

from descend import optim  # noqa: E402
from descend.errors import StateError  # noqa: E402
from descend.optim.names import paired  # noqa: E402


def made(names="abc", **kwargs):
    """An optimizer over a parameter for each name, after a step along gradients 1, 2, 3, …."""
    params = [torch.nn.Parameter(torch.zeros(2)) for _ in names]
    optimizer = optim.Adam(list(zip(names, params, strict=True)), **kwargs)
    for k, p in enumerate(params):
        p.grad = torch.full((2,), k + 1.0)
    optimizer.step()
    return params, optimizer


def averages(optimizer, params):
    """What tells whose state a parameter has: ten times the average of its one gradient."""
    return [round(10 * optimizer.state[p]["exp_avg"][0].item()) for p in params]


EDITS = {
    "removed": (lambda ps, new: ps.remove(ps[0]), ["b", "c"]),
    "deleted within": (lambda ps, new: ps.__delitem__(1), ["a", "c"]),
    "appended": (lambda ps, new: ps.append(new), ["a", "b", "c", "unnamed_0"]),
    "inserted": (lambda ps, new: ps.insert(0, new), ["unnamed_0", "a", "b", "c"]),
    "replaced": (lambda ps, new: ps.__setitem__(1, new), ["a", "b", "c"]),
    "turned": (lambda ps, new: ps.reverse(), ["c", "b", "a"]),
    "removed and appended": (lambda ps, new: (ps.pop(0), ps.append(new)), ["b", "c", "unnamed_0"]),
    "emptied": (lambda ps, new: ps.clear(), []),
}


@pytest.mark.parametrize("edit", EDITS)
def test_names_follow_the_parameters(edit):
    """Whatever is done to a list of parameters, each keeps its name and its state; one in another's place takes its."""
    change, expected = EDITS[edit]
    params, optimizer = made()
    saved = copy.deepcopy(optimizer.state_dict())
    new = torch.nn.Parameter(torch.zeros(2))
    change(optimizer.param_groups[0]["params"], new)
    own = copy.deepcopy(optimizer.state_dict())
    assert own["param_groups"][0]["param_names"] == expected
    optimizer.load_state_dict(own)
    there = [p for p in params if any(p is other for other in optimizer.param_groups[0]["params"])]
    right = [1 + next(k for k, other in enumerate(params) if other is p) for p in there]
    assert averages(optimizer, there) == right
    if edit not in ("turned", "replaced"):
        with pytest.warns(UserWarning, match="saved state"):
            optimizer.load_state_dict(saved, strict=False)
        assert averages(optimizer, there) == right


def test_names_follow_into_another_group_and_into_a_copy():
    """A parameter that changes its group takes its name along; a copy of the optimizer knows it, too."""
    params, optimizer = made()
    optimizer.add_param_group({"params": [("d", torch.nn.Parameter(torch.zeros(2)))]})
    first, second = (group["params"] for group in optimizer.param_groups)
    second.append(first.pop(0))
    assert copy.deepcopy(optimizer).state_dict()["param_groups"][1]["param_names"] == ["d", "a"]
    assert [g["param_names"] for g in optimizer.state_dict()["param_groups"]] == [["b", "c"], ["d", "a"]]
    optimizer.param_groups[0]["param_names"][0] = "renamed"
    assert optimizer.state_dict()["param_groups"][0]["param_names"] == ["renamed", "c"]
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert averages(optimizer, params) == [1, 2, 3]


def test_state_of_what_is_in_no_group_is_not_saved():
    """It stays in the optimizer, for a parameter that comes back."""
    params, optimizer = made()
    gone = optimizer.param_groups[0]["params"].pop(1)
    optimizer.step()
    assert list(optimizer.state_dict()["state"]) == [0, 1]
    optimizer.param_groups[0]["params"].insert(1, gone)
    optimizer.step()
    assert [int(optimizer.state[p]["step"]) for p in params] == [3, 2, 3]


def test_two_models_with_the_same_names():
    """Places decide where a name stands for several parameters; if they cannot, an error tells the names."""
    first, second = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    groups = [{"params": list(m.named_parameters()), "lr": lr} for m, lr in ((first, 0.1), (second, 1e-4))]
    optimizer = optim.Adam([dict(group) for group in groups])
    params = [*first.parameters(), *second.parameters()]
    for k, p in enumerate(params):
        p.grad = torch.full_like(p, k + 1.0)
    optimizer.step()
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    found = [round(10 * optimizer.state[p]["exp_avg"].flatten()[0].item()) for p in params]
    assert found == [1, 2, 3, 4]
    assert [g["lr"] for g in optimizer.param_groups] == [0.1, 1e-4]
    merged = optim.Adam([pair for group in groups for pair in group["params"]])
    with pytest.raises(StateError, match="names of several parameters: bias, weight"):
        merged.load_state_dict(optimizer.state_dict())
    assert not merged.state


WRAPPED = {
    "torch.compile": lambda name: f"_orig_mod.{name}",
    "DataParallel": lambda name: f"module.{name}",
    "both": lambda name: f"module._orig_mod.{name}",
    "FSDP within": lambda name: name.replace("0.", "0._fsdp_wrapped_module."),
    "checkpoints within": lambda name: name.replace("3.", "3._checkpoint_wrapped_module._orig_mod."),
    "compiled within, all in DataParallel": lambda name: f"module.{name}".replace("1.", "1._orig_mod."),
}


@pytest.mark.parametrize("wrapper", WRAPPED)
@pytest.mark.parametrize("way", ["into it", "out of it"])
def test_wrappers_do_not_hide_names(wrapper, way):
    """A checkpoint of a plain model loads into its wrapper by name, in whatever order, and back."""
    model = network()
    plain = list(model.named_parameters())
    wrapped = [(WRAPPED[wrapper](name), p) for name, p in plain]
    assert wrapped != plain
    old, new = (plain, wrapped) if way == "into it" else (wrapped, plain)
    optimizer = optim.Adam(old)
    train(model, optimizer, 2)
    its = optim.Adam(new[::-1])
    its.load_state_dict(optimizer.state_dict())
    assert its.param_groups[0]["param_names"] == [name for name, _ in new[::-1]]
    for p in model.parameters():
        assert torch.equal(its.state[p]["exp_avg"], optimizer.state[p]["exp_avg"])


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        (["a", "b"], ["b", "a"], {0: 1, 1: 0}),
        (["w", "module.w"], ["module.w", "module.module.w"], {0: 0, 1: 1}),  # a module's own name is no wrapper's
        (["module.w", "w"], ["w", "module.w"], {0: 1, 1: 0}),
        (["x.w", "x.module.w"], ["x._orig_mod.w", "x.module._orig_mod.w"], {0: 0, 1: 1}),
        (["module.a", "b"], ["a", "c"], {0: 0}),
        (["a", "a", "b"], ["a", "b"], {2: 1}),
        (["module"], ["module.module"], {0: 0}),
        ([], ["a"], {}),
    ],
)
def test_pairs_of_names(ours, theirs, expected):
    """Names are paired in one way for all, which pairs them all or as many as can be."""
    assert paired(ours, theirs) == expected


def test_saved_names_are_adopted():
    """An optimizer without names takes those that were saved, as in `torch.optim`; one that has names keeps them."""
    _, optimizer = made()
    for library in (optim, torch.optim):
        its = library.Adam([torch.nn.Parameter(torch.zeros(2)) for _ in range(3)])
        its.load_state_dict(optimizer.state_dict())
        assert its.param_groups[0]["param_names"] == ["a", "b", "c"]
        assert its.state_dict()["param_groups"][0]["param_names"] == ["a", "b", "c"]
    unnamed = torch.optim.Adam([torch.nn.Parameter(torch.zeros(2)) for _ in range(3)]).state_dict()
    optimizer.load_state_dict(unnamed)
    assert optimizer.param_groups[0]["param_names"] == ["a", "b", "c"]


def test_a_regrouped_model():
    """State goes by name; what the groups were made for stays, what they agree on is loaded, and a warning tells."""
    model = network()
    old = optim.AdamW(model.named_parameters(), lr=0.1, weight_decay=0.2)
    train(model, old, 2)
    torch.optim.lr_scheduler.LambdaLR(old, lambda epoch: 0.5)
    new = optim.AdamW(optim.no_decay_groups(model, 0.3), lr=0.01)
    said = (
        r"group 0 \(0.weight, 3.weight\): lr=0.05 as saved, was 0.01, weight_decay=0.3 as here, saved was 0.2, "
        r"initial_lr=0.1 as saved, was none; "
        r"group 1 \(0.bias, 1.weight, 1.bias, …\): lr=0.05 as saved, was 0.01, weight_decay=0.0 as here, saved was 0.2"
    )
    with pytest.warns(UserWarning, match=said):
        new.load_state_dict(old.state_dict())
    assert [(g["lr"], g["weight_decay"], g["initial_lr"]) for g in new.param_groups] == [
        (0.05, 0.3, 0.1),
        (0.05, 0.0, 0.1),
    ]
    assert all(torch.equal(new.state[p]["exp_avg"], old.state[p]["exp_avg"]) for p in model.parameters())
    with pytest.warns(UserWarning, match=r"group 0 .*: weight_decay=0.2 as here, saved was 0.3 and 0.0"):
        old.load_state_dict(new.state_dict())
    assert (old.param_groups[0]["lr"], old.param_groups[0]["weight_decay"]) == (0.05, 0.2)


def test_a_regrouping_keeps_what_groups_differ_in():
    """Rates by layer are not made one by a checkpoint of a single group; what is named in `keep` stays as well."""
    model = network()
    old = optim.AdamW(model.named_parameters(), lr=0.1, betas=(0.5, 0.5))
    train(model, old, 1)
    layers = [{"params": [*model[k].named_parameters(prefix=str(k))], "lr": lr} for k, lr in ((0, 0.01), (1, 0.02))]
    new = optim.AdamW([*layers, {"params": [*model[3].named_parameters(prefix="3")], "lr": 0.03}])
    with pytest.warns(UserWarning, match=r"lr=0.02 as here, saved was 0.1, betas=\(0.5, 0.5\) as saved"):
        new.load_state_dict(old.state_dict(), keep=("eps",))
    assert [g["lr"] for g in new.param_groups] == [0.01, 0.02, 0.03]
    assert {g["betas"] for g in new.param_groups} == {(0.5, 0.5)}
