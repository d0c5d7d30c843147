"""`descend.fit_many` of PyTorch networks: one program by vmap, or a reason why not."""

import numpy as np
import pytest
import torch
from tests.training.stacks import alone, figures

import descend


def in_torch(make, dtype=torch.float32, loss=torch.nn.functional.cross_entropy):
    digits = descend.problems.load("digits")
    parts = [(torch.tensor(X, dtype=dtype), torch.tensor(y)) for X, y in (digits.train, digits.validation, digits.test)]
    return descend.TorchProblem(
        model=lambda: make().to(dtype),
        loss=loss,
        metric=lambda scores, y: (scores.argmax(1) == y).double().mean(),
        higher_is_better=True,
        **dict(zip(("train", "validation", "test"), parts, strict=True)),
    )


def mlp():
    return torch.nn.Sequential(torch.nn.Linear(64, 16), torch.nn.Tanh(), torch.nn.Linear(16, 10))


class Fixed(torch.nn.Module):
    """Random features that are not trained, and a buffer: each seed has its own."""

    def __init__(self):
        super().__init__()
        self.features, self.last = torch.nn.Linear(64, 16), torch.nn.Linear(16, 10)
        self.features.weight.requires_grad_(False)
        self.register_buffer("scale", torch.rand(16))

    def forward(self, x):
        return self.last(torch.tanh(self.features(x) * self.scale))


@pytest.mark.parametrize(
    ("make", "dtype", "rtol"), [(mlp, torch.float64, 1e-8), (mlp, torch.float32, 1e-3), (Fixed, torch.float64, 1e-8)]
)
@pytest.mark.parametrize("seeds", [[0, 1, 2], pytest.param([4, 4, 4], marks=pytest.mark.slow)])
def test_torch_problems_stack(make, dtype, rtol, seeds):
    problem = in_torch(make, dtype)
    rules = [descend.Adam(lr=lr) for lr in (0.001, 0.01, 0.03)]
    options = {"steps": 30, "batch_size": 64}
    stacked, single = descend.fit_many(problem, rules, seeds, **options), alone(problem, rules, seeds, **options)
    for a, b in zip(stacked, single, strict=True):
        np.testing.assert_allclose(figures(a), figures(b), rtol=rtol, atol=0.01 if rtol > 1e-4 else 1e-9)
        assert a.x.keys() == b.x.keys()
        assert all(isinstance(leaf, torch.Tensor) for leaf in a.x.values())
        assert a.buffers.keys() == b.buffers.keys()
        assert all(torch.equal(a.buffers[name], b.buffers[name]) for name in a.buffers)


class Branch(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.last = torch.nn.Linear(64, 10)

    def forward(self, x):
        out = self.last(x)
        return out if out.sum() > 0 else 2 * out


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: torch.nn.Sequential(torch.nn.BatchNorm1d(64), mlp()), "the module's buffers change in training"),
        (lambda: torch.nn.Sequential(torch.nn.Dropout(0.5), mlp()), "the module draws random numbers in training"),
        (Branch, "stacked, the problem raised .*vmap.*data-dependent control flow"),
    ],
)
def test_modules_that_do_not_stack_say_why(make, reason):
    problem, rules = in_torch(make), [descend.Adam(), descend.Adam(lr=0.1)]
    with pytest.raises(descend.errors.OptionError, match=f"cannot be stacked: {reason}.*by descend.fit"):
        descend.fit_many(problem, rules, [0, 1], steps=3)


def test_the_global_random_numbers_of_torch_stay_as_they_are():
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    descend.fit_many(in_torch(mlp), [descend.Adam(), descend.Adam()], [0, 1], steps=2)
    assert torch.equal(torch.random.get_rng_state(), before)
