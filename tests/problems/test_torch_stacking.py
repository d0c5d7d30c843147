"""Modules that one call for many runs would not treat as a call for each are refused, with the reason."""

import pytest
import torch
from tests.problems.modules import KINDS, CheckpointedDropout, Plain, problem_of
from torch import nn

import descend

RULES = [descend.Adam(lr=0.01), descend.Adam(lr=0.1)]


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("Plain", None),
        ("Tied", None),
        ("Transposed", None),
        ("double", None),
        ("channels last", None),
        ("Checkpoint", "stacked, the problem raised"),
        ("ReentrantCheckpoint", "passes through CheckpointFunction, an autograd function"),
        ("OwnFunction", "passes through Product, an autograd function"),
        ("ParameterHook", "the module's parameter a.0.weight has a hook"),
        ("AccumulateHook", "has a hook"),
        ("ModuleHooks", "the module's part a has a hook"),
        ("Pruned", "the module's part a.0 has a hook"),
        ("InAList", "InAList.again holds one of its parameters by another reference"),
        ("Detached", "Detached.detached holds a tensor"),
        ("Weak", "Weak.part holds a module"),
        ("Unregistered", "Unregistered.parts holds a module outside of the module's own"),
        ("SpectralNorm", "buffers change in training"),
        ("Buffers", "buffers change in training"),
        ("CheckpointedDropout", "draws random numbers in training"),
        ("Clamped", "writes to its parameters in training"),
        ("max_norm", "writes to its parameters in training"),
        ("Unused", "parameter unused.bias has no gradient"),
        ("sparse", "parameter rows.weight has a sparse gradient"),
        ("DataParallel", "stacked, the problem raised"),
    ],
)
def test_what_stands_in_the_way(kind, reason):
    """None where the trial agrees; else the first thing that is found."""
    found = descend.stackable(problem_of(KINDS[kind]), RULES, 16)
    assert found is None if reason is None else reason in found


class Counting(Plain):
    def __init__(self):
        super().__init__()
        self.known = {"calls": [0]}

    def forward(self, x):
        self.known["calls"][0] += 1
        return super().forward(x)


class Elsewhere(Plain):
    """Draws from a generator of its own."""

    def __init__(self):
        super().__init__()
        self.source = torch.Generator().manual_seed(0)

    def forward(self, x):
        return super().forward(x) + torch.randn((), generator=self.source)


class First(Plain):
    """Computes with the weights that it was made with, out of sight; they agree with its own at the start."""

    def __init__(self):
        super().__init__()
        weight = self.b.weight.detach().clone().numpy()
        self.first = lambda: torch.tensor(weight)

    def forward(self, x):
        return super().forward(x) + (self.b.weight.detach() - self.first()).sum()


class OutOfSight(Plain):
    """Reaches its own weight through a closure: right for one run, the first run's for all others."""

    def __init__(self):
        super().__init__()
        nn.init.ones_(self.b.weight)
        weight = self.b.weight
        self.scale = lambda: weight.detach().sum()

    def forward(self, x):
        return super().forward(x) * self.scale()


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (Counting, "Counting.known changes in training"),
        (Elsewhere, "is another one when it is called again"),
        (First, "is not that of each alone"),
        (OutOfSight, "is not that of each alone"),
    ],
)
def test_what_only_a_trial_shows(make, reason):
    """Two calls that differ, and parameters moved from the start."""
    assert reason in descend.stackable(problem_of(make), RULES, 16)


def test_hooks_on_all_modules_are_seen():
    hook = nn.modules.module.register_module_forward_hook(lambda *_: None)
    try:
        assert "hooks on all modules (global_forward_hooks)" in descend.stackable(problem_of(Plain), RULES, 16)
    finally:
        hook.remove()


def test_what_is_refused_is_trained_alone():
    """`fit_many` names `fit`, which trains such a module."""
    problem = problem_of(CheckpointedDropout)
    with pytest.raises(descend.errors.OptionError, match=r"draws random numbers .* by descend.fit"):
        descend.fit_many(problem, RULES, [0, 1], steps=2, batch_size=16)
