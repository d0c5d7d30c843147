"""The optimizers of PyTorch that rules are compared with, and how either side descends along given gradients."""

import inspect

import numpy as np
import pytest
import torch
from tests.oracles import naive

from descend.engines import Reference

STEPS = 100
SHIPPED = naive.shipped()
TABLE = pytest.mark.parametrize("rule", SHIPPED.values(), ids=SHIPPED)
"""A test of every rule. It goes through the rule's settings, and fails with those that are wrong."""
SAME_NAME = {
    found.name: getattr(torch.optim, found.__name__)
    for found in SHIPPED.values()
    if hasattr(torch.optim, found.__name__)
}
"""Rules of a name that torch.optim has, too: name → torch's class."""
TORCH = SAME_NAME | dict.fromkeys(("gd", "momentum", "nesterov"), torch.optim.SGD)
HOW_TORCH_RUNS = {"params", "foreach", "fused", "capturable", "differentiable"}
"""Parameters of torch's constructors that are not hyperparameters."""


def run_reference(rule, start, grads, dtype=np.float64):
    """The numbers after each step of the reference engine, of shape (steps, numbers)."""
    return reference_descent(rule, start, grads, dtype)[0]


def reference_descent(rule, start, grads, dtype=np.float64):
    """What `run_reference` returns, and the engine as it is in the end."""
    p = start.astype(dtype)
    engine = Reference(rule, [p])
    path = []
    for g in grads.astype(dtype):
        engine.step([g])
        path.append(p.copy())
    return np.array(path), engine


def run_torch(make, start, grads, each=lambda group, t: None):
    """The numbers after each step of a torch optimizer; `each` may change its parameter group before step t."""
    return torch_descent(make, start, grads, each)[0]


def torch_descent(make, start, grads, each=lambda group, t: None):
    """What `run_torch` returns, and the state that the optimizer has in the end."""
    path = []
    # The numbers that ASGD and NAdam carry are tensors of torch's default dtype.
    torch.set_default_dtype(torch.float64)
    try:
        p = torch.nn.Parameter(torch.from_numpy(start.copy()))
        optimizer = make([p])
        for t, g in enumerate(grads, start=1):
            each(optimizer.param_groups[0], t)
            p.grad = torch.from_numpy(g.copy())
            optimizer.step()
            path.append(p.detach().numpy().copy())
    finally:
        torch.set_default_dtype(torch.float32)
    return np.array(path), optimizer.state[p]


def torch_twin(name, chosen):
    """The torch optimizer with these hyperparameters, as a function of parameters; None where torch has no flag."""
    chosen = dict(chosen)
    twin = TORCH.get(name)
    if twin is None or chosen.pop("cautious"):
        return None
    if twin is torch.optim.AdamW and not chosen["decoupled_weight_decay"]:
        twin = torch.optim.Adam
    elif twin is torch.optim.AdamW:
        del chosen["decoupled_weight_decay"]
    known = inspect.signature(twin).parameters
    for flag in ("decoupled_weight_decay", "weight_decay"):
        if flag not in known and chosen.pop(flag, False):
            return None
    return lambda params: twin(params, **chosen)


TWINS = {
    name: {label: chosen for label, chosen in naive.settings(rule) if torch_twin(name, chosen) is not None}
    for name, rule in SHIPPED.items()
    if name in TORCH
}
"""Rule → label → hyperparameters, wherever torch has all of them."""
