"""What an optimizer sees of its tensors between steps: every change, by both ways, and nothing kept alive."""

import gc
import weakref

import numpy as np
import pytest
import torch

import descend
from descend.optim import snapshot as looking
from descend.optim.snapshot import Snapshot, snapshot


@pytest.fixture(params=["DLPack", "Python"])
def way(request, monkeypatch):
    """Both ways of looking at tensors."""
    if request.param == "Python":
        monkeypatch.setattr(looking, "_eye", lambda: None)
    elif looking._eye() is None:
        pytest.skip("this PyTorch has no DLPack exchange protocol")
    return request.param


def seen_of(grad, held=()):
    words = np.zeros(1, np.int64)
    return snapshot([grad, *held], [words.ctypes.data], {id(t) for t in held if isinstance(t, torch.Tensor)}), words


def test_the_way_is_the_one_that_was_asked_for(way):
    seen, _ = seen_of(torch.ones(3))
    assert isinstance(seen, Snapshot) == (way == "DLPack")


@pytest.mark.parametrize(
    "grad",
    [torch.ones(2, 3), torch.ones(()), torch.ones(0, 3), torch.ones(3, 2).T, torch.ones(1, 3).expand(2, 3)],
    ids=["plain", "0-d", "empty", "transposed", "expanded"],
)
def test_a_gradient_may_be_another_one_of_its_kind(way, grad):
    """Where it is gets noted."""
    seen, words = seen_of(grad)
    another = torch.empty_strided(grad.shape, grad.stride())
    assert seen.holds([another])
    assert words[0] == another.data_ptr()


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
    seen, _ = seen_of(torch.ones(2, 3))
    try:
        assert not seen.holds([another])
    except RuntimeError:  # PyTorch's own, that there is no memory to look at
        assert another.layout is torch.sparse_coo or another.device.type == "meta"


def test_16_bits_are_not_16_bits(way):
    seen, _ = seen_of(torch.ones(3, dtype=torch.float16))
    assert not seen.holds([torch.ones(3, dtype=torch.bfloat16)])


def test_what_is_held_must_be_the_same_in_the_same_place(way):
    """By identity; and a tensor's memory must not move."""
    grad, tensor, thing = torch.ones(2), torch.ones(2), object()
    seen, _ = seen_of(grad, [tensor, thing])
    assert seen.holds([grad, tensor, thing])
    assert not seen.holds([grad, torch.ones(2), thing])
    assert not seen.holds([grad, tensor, object()])
    assert not seen.holds([grad, thing, tensor])
    assert not seen.holds([grad, tensor])
    assert not seen.holds([grad, tensor, thing, thing])
    tensor.data = torch.ones(2)
    assert not seen.holds([grad, tensor, thing])


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
        raise looking.Unseen

    monkeypatch.setattr(looking, "Snapshot", refuses)
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = descend.optim.SGD([weight], lr=0.5)
    for _ in range(3):
        weight.grad = torch.ones(2)
        optimizer.step()
    assert weight.tolist() == [-0.5, -0.5]
