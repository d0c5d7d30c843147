"""Whatever is changed between two steps of an optimizer, its numbers are those of one that plans each step anew."""

from collections import defaultdict

import numpy as np
import pytest
import torch

import descend
from descend.engines.torch import guards as module


@pytest.fixture(params=["DLPack", "Python"])
def way(request, monkeypatch):
    """Both kinds of guards."""
    if request.param == "Python":
        monkeypatch.setattr(module, "view_tensor", lambda: None)
    elif module.view_tensor() is None:
        pytest.skip("this PyTorch has no DLPack exchange protocol")


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
                optimizer.stepper.plan = None
            optimizer.step()
        return [p.detach().clone() for p in model.parameters()]

    for kept, anew in zip(trained(False), trained(True), strict=True):
        assert torch.equal(kept, anew)
