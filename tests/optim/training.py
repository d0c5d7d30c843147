"""What tests of `descend.optim` share: a small training, and `torch.optim`, whose classes are the oracle.

Where both compute in float64 they differ by rounding alone, 1e-16 a step, which 30 steps of training amplify to well
below 1e-9. Two rules carry a number from step to step in float32, as `torch.optim` does, but round it at another place:
there it is 6e-8 and 1e-6. Other formats have bounds of their own, at their tests.
"""

import functools
import inspect

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from descend import optim, rules  # noqa: E402
from descend.engines.native.availability import why_not  # noqa: E402

NAMES = sorted({rule.__name__ for rule in rules.all().values()} & {*optim.__all__})
"""The rules that have an optimizer class."""
FUSED = {"fused": True} if why_not() is None else {}
"""The option that asks for machine code, where there is any."""
TWINS = sorted(n for n in NAMES if hasattr(torch.optim, n))
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
RANDOM = np.random.default_rng(0)
Y = np.arange(90) % 3
X = RANDOM.normal(size=(90, 4)) + np.eye(3, 4)[Y] * 2.0
X = (X - X.mean(0)) / X.std(0)
"""Points of three kinds, which overlap."""


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


def network(dtype=torch.float64, seed=0):
    """A classifier of points of three kinds: weights, biases, and the gains and shifts of a normalisation."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = (torch.nn.Linear(4, 8), torch.nn.LayerNorm(8), torch.nn.Tanh(), torch.nn.Linear(8, 3))
        return torch.nn.Sequential(*layers).to(dtype)


@functools.cache
def points(dtype):
    return torch.tensor(X, dtype=dtype), torch.tensor(Y)


def loss_of(model, maximize=False):
    """The loss over all points, after a backward pass."""
    x, y = points(next(model.parameters()).dtype)
    loss = torch.nn.functional.cross_entropy(model(x), y)
    (-loss if maximize else loss).backward()
    return loss.item()


def begun(optimizer):
    """Make the state of parameters that have none, which `torch.optim.Adagrad` of PyTorch 2.10 does when made only."""
    if isinstance(optimizer, torch.optim.Adagrad):
        for group in optimizer.param_groups:
            for p in group["params"]:
                if not optimizer.state[p]:
                    value = group["initial_accumulator_value"]
                    optimizer.state[p] = torch.optim.Adagrad([p], initial_accumulator_value=value).state[p]


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


LAYOUTS = {
    "transposed": lambda t: t.t().contiguous().t(),
    "with gaps": lambda t: torch.stack([t, t], -1)[..., 0],
    "reversed": lambda t: t.flip(0).as_strided(t.shape, t.stride()).clone().flip(0),
    "expanded": lambda t: t[:1].expand(t.shape),
    "overlapping": lambda t: torch.arange(t.numel(), dtype=t.dtype).as_strided(t.shape, (1, 2)) / 7,
    "a view": lambda t: torch.cat([t.flatten(), t.flatten()])[t.numel() :].view(t.shape),
}
"""Ways in which the numbers of a matrix may lie in memory."""
