"""What an optimizer sees of its tensors between steps: every change, by both ways, and nothing kept alive."""

import gc
import types
import weakref
from collections import defaultdict

import numpy as np
import pytest
import torch

import descend
from descend.engines.torch import guards as module
from descend.engines.torch.guards import NativeGuards, NotGuardable, guard_set


@pytest.fixture(params=["DLPack", "Python"])
def way(request, monkeypatch):
    """Both ways of looking at tensors."""
    if request.param == "Python":
        monkeypatch.setattr(module, "_view_tensor", lambda: None)
    elif module._view_tensor() is None:
        pytest.skip("this PyTorch has no DLPack exchange protocol")
    return request.param


def guards_of(grad, held=()):
    """A snapshot of a gradient and of a list; what has the gradient; and the word in which its memory is noted."""
    words, holder = np.zeros(1, np.int64), types.SimpleNamespace(grad=grad)
    tensors = {id(t) for t in held if isinstance(t, torch.Tensor)}
    return guard_set([], [held] if held else [], tensors, [holder], [words.ctypes.data]), holder, words


def test_the_way_is_the_one_that_was_asked_for(way):
    guards, *_ = guards_of(torch.ones(3))
    assert isinstance(guards, NativeGuards) == (way == "DLPack")


@pytest.mark.parametrize(
    "grad",
    [torch.ones(2, 3), torch.ones(()), torch.ones(0, 3), torch.ones(3, 2).T, torch.ones(1, 3).expand(2, 3)],
    ids=["plain", "0-d", "empty", "transposed", "expanded"],
)
def test_a_gradient_may_be_another_one_of_its_kind(way, grad):
    """Where it is gets noted."""
    guards, holder, words = guards_of(grad)
    holder.grad = torch.empty_strided(grad.shape, grad.stride())
    assert guards.check() < 0
    assert words[0] == holder.grad.data_ptr()


@pytest.mark.parametrize(
    "another",
    [
        None,
        torch.ones(2, 4),
        torch.ones(6),
        torch.ones(3, 2),
        torch.ones(2, 3, 1),
        torch.ones(3, 2).T,
        torch.ones(1, 3).expand(2, 3),
        torch.ones(2, 3, dtype=torch.float64),
        torch.ones(2, 3, dtype=torch.bfloat16),
        torch.ones(2, 3, dtype=torch.int32),
        torch.nn.Parameter(torch.ones(2, 3)),
        torch.ones(2, 3).to_sparse(),
        torch.ones(2, 3, device="meta"),
    ],
    ids=str,
)
def test_a_gradient_of_another_kind_is_noticed(way, another):
    guards, holder, _ = guards_of(torch.ones(2, 3))
    holder.grad = another
    try:
        assert guards.check() >= 0
    except RuntimeError:  # PyTorch's own, that there is no memory to look at
        assert another.layout is torch.sparse_coo or another.device.type == "meta"


def test_16_bits_are_not_16_bits(way):
    guards, holder, _ = guards_of(torch.ones(3, dtype=torch.float16))
    holder.grad = torch.ones(3, dtype=torch.bfloat16)
    assert guards.check() >= 0


def test_what_is_held_must_be_the_same_in_the_same_place(way):
    """By identity; and a tensor's memory must not move."""
    tensor, thing = torch.ones(2), object()
    held = [tensor, thing]
    guards, *_ = guards_of(torch.ones(2), held)
    assert guards.check() < 0
    for other in ([torch.ones(2), thing], [tensor, object()], [thing, tensor], [tensor], [tensor, thing, thing], []):
        held[:] = other
        assert guards.check() >= 0
    held[:] = [tensor, thing]
    assert guards.check() < 0
    tensor.data = torch.ones(2)
    assert guards.check() >= 0


def test_values_of_a_dict_and_attributes_must_be_the_same(way):
    tensor, thing, holder = torch.ones(2), object(), types.SimpleNamespace(name="a")
    held = {"tensor": tensor, "thing": thing}
    guards = guard_set([(holder, "name")], [held], {id(tensor)}, [], [])
    assert isinstance(guards, NativeGuards) == (way == "DLPack")
    assert guards.check() < 0
    for other in (
        {"tensor": tensor, "things": thing},
        {"tensor": torch.ones(2), "thing": thing},
        {"tensor": tensor, "thing": 1.0},
        {"thing": thing, "tensor": tensor},
        {"tensor": tensor},
        {**held, "more": 1},
    ):
        before = dict(held)
        held.clear()
        held.update(other)
        assert guards.check() >= 0
        held.clear()
        held.update(before)
        assert guards.check() < 0
    holder.name = "b"
    assert guards.check() >= 0
    del holder.name
    with pytest.raises(AttributeError):
        guards.check()


def test_what_may_change_is_taken_anew(way):
    """But neither what is in it beyond that, nor a container whose inside is looked at."""
    inner, fixed = [1.0], [object()]
    held = {"lr": 0.1, "inner": inner}
    guards = guard_set([], [held, inner, fixed], set(), [], [])
    held["lr"] = 0.2
    assert guards.check() >= 0
    assert guards.renew(1)
    assert guards.check() < 0
    fixed[0] = object()
    assert guards.renew(1)
    assert guards.check() >= 0
    held["inner"] = [1.0]
    assert not guards.renew(1)
    held["inner"] = inner
    held["more"] = 1
    assert not guards.renew(1)


def test_a_gradient_that_cannot_be_read_is_told_by_the_error_that_reading_it_raises(way):
    class Broken:
        grad = torch.ones(2)

    holder, words = Broken(), np.zeros(1, np.int64)
    guards = guard_set([], [], set(), [holder], [words.ctypes.data])
    assert guards.check() < 0
    Broken.grad = property(lambda self: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        guards.check()


def test_a_gradient_is_not_kept_alive(way):
    """A plan that held the gradients it was made with would double their memory."""
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = descend.optim.Adam([weight])
    weight.grad = torch.ones(3)
    optimizer.step()
    gone = weakref.ref(weight.grad)
    weight.grad = torch.ones(3)
    gc.collect()
    assert gone() is None


def changes():
    """Ways to change what an optimizer steps, between two steps."""

    def nothing(model, optimizer):
        pass

    def other_memory(model, optimizer):
        model[0].weight.data = model[0].weight.data.clone()

    def shared(model, optimizer):
        optimizer.share_memory()

    def moved_state(model, optimizer):
        state = optimizer.state[model[0].weight]
        state["exp_avg"] = state["exp_avg"].clone()

    def reset_state(model, optimizer):
        optimizer.state[model[0].weight].clear()

    def replaced_state_memory(model, optimizer):
        state = optimizer.state[model[0].weight]
        state["exp_avg"].data = state["exp_avg"].data * 0.5

    def regrouped(model, optimizer):
        last = optimizer.param_groups[0]["params"].pop()
        optimizer.param_groups[1]["params"].insert(0, last)

    def new_group(model, optimizer):
        optimizer.param_groups[0] = {**optimizer.param_groups[0], "lr": 0.5}

    def gone_gradient(model, optimizer):
        model[0].bias.requires_grad_(False)
        model[0].bias.grad = None

    def other_rate(model, optimizer):
        optimizer.param_groups[0]["lr"] = 0.02

    def other_betas(model, optimizer):
        optimizer.param_groups[1]["betas"] = (0.5, 0.9)

    def betas_in_a_list(model, optimizer):
        """Which are edited later without another object in the group."""
        for group in optimizer.param_groups:
            betas = group.setdefault("later", [0.9, 0.99])
            group["betas"] = betas
            model.register_forward_pre_hook(lambda *_, betas=betas: betas.__setitem__(0, betas[0] * 0.9))

    def rate_in_a_tensor(model, optimizer):
        rate = optimizer.param_groups[0]["lr"] = torch.tensor(0.1)
        model.register_forward_pre_hook(lambda *_: rate.mul_(0.5) and None)

    def rate_of_numpy(model, optimizer):
        optimizer.param_groups[0]["lr"] = np.float64(0.03)

    def rate_on_a_schedule(model, optimizer):
        optimizer.param_groups[0]["lr"] = lambda done: 0.1 / (1 + done)

    def decay(model, optimizer):
        optimizer.param_groups[0]["weight_decay"] = 0.1

    def another_way(model, optimizer):
        optimizer.param_groups[0]["fused"] = False

    def other_groups(model, optimizer):
        optimizer.param_groups = [dict(group) for group in optimizer.param_groups][::-1]

    def fewer_groups(model, optimizer):
        optimizer.remove_param_group(1)

    def other_list_of_parameters(model, optimizer):
        optimizer.param_groups[0]["params"] = optimizer.param_groups[0]["params"][:1]

    def parameters_in_a_tuple(model, optimizer):
        optimizer.param_groups[0]["params"] = tuple(optimizer.param_groups[0]["params"])

    def other_state(model, optimizer):
        copies = {p: {k: v * 0.5 for k, v in state.items()} for p, state in optimizer.state.items()}
        for p, state in copies.items():
            state["step"] = optimizer.state[p]["step"].clone()
        optimizer.state = defaultdict(dict, copies)

    def edited_count(model, optimizer):
        optimizer.state[model[2].weight]["step"].fill_(10)

    def moved_count(model, optimizer):
        optimizer.state[model[2].weight]["step"].data = torch.tensor(7.0)

    def swapped_parameter(model, optimizer):
        fresh = torch.nn.Parameter(model[2].weight.detach() * 0.5)
        fresh.grad = model[2].weight.grad
        torch.utils.swap_tensors(model[2].weight, fresh)

    def renamed_state(model, optimizer):
        state = optimizer.state[model[0].weight]
        state["old"] = state.pop("exp_avg_sq")

    def parked_state(model, optimizer):
        optimizer.state["parked"] = optimizer.state.pop(model[2].bias)

    def many_groups(model, optimizer):
        defaults = {k: v for k, v in optimizer.param_groups[0].items() if k != "params"}
        optimizer.param_groups = [{"params": [p], **defaults} for p in model.parameters()] + [
            {"params": [], **defaults} for _ in range(20)
        ]

    def group_of_another_kind(model, optimizer):
        """Which answers otherwise than it is filled, in the second half of the steps."""

        class Halved(dict):
            def __getitem__(self, name):
                return 0.5 * super().__getitem__(name) if name == "lr" and self["halved"] else super().__getitem__(name)

        group = optimizer.param_groups[0] = Halved(optimizer.param_groups[0], halved=[])
        model.register_forward_pre_hook(lambda *_: group["halved"].append(1))

    def foreign_entry(model, optimizer):
        optimizer.param_groups[0]["note"] = object()

    def transposed_gradient(model, optimizer):
        weight = model[2].weight
        weight.grad = torch.full(weight.shape[::-1], 0.25).T

    return [value for name, value in locals().items() if callable(value)]


@pytest.mark.parametrize("change", changes(), ids=lambda change: change.__name__)
def test_every_change_leads_to_the_same_numbers_as_without_a_plan(way, change):
    """Against the same optimizer whose plan is thrown away before each step."""

    def trained(anew):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2))
        groups = [{"params": [*model[0].parameters()]}, {"params": [*model[2].parameters()], "lr": 0.01}]
        optimizer = descend.optim.Adam(groups, lr=0.1)
        x = torch.linspace(-1, 1, 20).reshape(5, 4)
        for step in range(6):
            optimizer.zero_grad()
            (model(x) ** 2).sum().backward()
            if step == 3:
                change(model, optimizer)
            if anew:
                optimizer._plan = None
            optimizer.step()
        return [p.detach().clone() for p in model.parameters()]

    for kept, anew in zip(trained(False), trained(True), strict=True):
        assert torch.equal(kept, anew)


def test_a_tensor_that_dlpack_cannot_show_is_asked_in_python(monkeypatch):
    """Whatever PyTorch answers there, the step is made."""

    def refuses(*arguments):
        raise NotGuardable

    monkeypatch.setattr(module, "NativeGuards", refuses)
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = descend.optim.SGD([weight], lr=0.5)
    for _ in range(3):
        weight.grad = torch.ones(2)
        optimizer.step()
    assert weight.tolist() == [-0.5, -0.5]
