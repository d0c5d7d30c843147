"""What a module computes with is what the descent steps, by whatever way it reaches its parameters."""

import pytest
import torch
from tests.problems.modules import KINDS, Embedded, Plain, assert_trained_alike, by_hand, problem_of
from torch import nn

import descend
from descend.errors import ObjectiveError, ProblemError
from descend.parameters.memory import Memory
from descend.problems.torch_binding import same_memory

RULES = {
    "SGD": (descend.SGD(lr=0.01, momentum=0.9), lambda ps: torch.optim.SGD(ps, lr=0.01, momentum=0.9)),
    "AdamW": (descend.AdamW(lr=0.01), lambda ps: torch.optim.AdamW(ps, lr=0.01)),
}


@pytest.mark.parametrize("rule", ["SGD", pytest.param("AdamW", marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated:FutureWarning")
def test_fit_trains_as_a_loop_by_hand(kind, rule):
    """The weights, the buffers and the module's output are those of a loop with torch.optim, to 1e-6."""
    if (kind, rule) == ("sparse", "AdamW"):
        pytest.skip("torch.optim.AdamW takes no sparse gradients")
    problem = problem_of(KINDS[kind])
    ours, theirs = RULES[rule]
    result = descend.fit(problem, ours, steps=12, batch_size=16, seed=3, evaluate_every=5)
    assert_trained_alike(problem, result, by_hand(problem, theirs, 12, 16, 3))


def test_a_sparse_gradient_is_the_dense_one():
    """Where torch.optim refuses sparse gradients, the step is that of the same table with dense ones."""
    problem = problem_of(KINDS["sparse"])
    result = descend.fit(problem, descend.AdamW(lr=0.01), steps=12, batch_size=16, seed=3)
    dense = problem_of(Embedded)
    assert_trained_alike(dense, result, by_hand(dense, RULES["AdamW"][1], 12, 16, 3))


@pytest.mark.slow
def test_a_compiled_module_trains_as_a_loop_by_hand():
    problem = problem_of(lambda: torch.compile(Plain()))
    result = descend.fit(problem, descend.Adam(lr=0.01), steps=8, batch_size=16, seed=3)
    assert_trained_alike(problem, result, by_hand(problem, lambda ps: torch.optim.Adam(ps, lr=0.01), 8, 16, 3))


class Now(Plain):
    """A part that takes part in some steps only."""

    def __init__(self):
        super().__init__()
        self.calls, self.extra = 0, nn.Linear(6, 1)

    def forward(self, x):
        self.calls += self.training
        return super().forward(x) + (self.extra(x) if self.calls % 2 else 0.0)


def test_gradients_that_come_and_go():
    """A rule without state passes over a parameter without gradient, as torch.optim does; one with state refuses."""
    problem = problem_of(Now)
    ours, theirs = descend.GD(lr=0.05), lambda ps: torch.optim.SGD(ps, lr=0.05)
    result = descend.fit(problem, ours, steps=7, batch_size=16, seed=3)
    module = by_hand(problem, theirs, 7, 16, 3)
    assert torch.allclose(result.x["extra.weight"], module.extra.weight, atol=1e-6)
    with pytest.raises(
        ObjectiveError, match=r"parameter extra.bias has a gradient after steps in which it had none.* descend.optim"
    ):
        descend.fit(problem, "adam", steps=7, batch_size=16)


class Freezing(Plain):
    """Freezes a part after a few steps."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += self.training
        self.a[0].requires_grad_(self.calls < 5)
        return super().forward(x)


def test_a_part_that_is_frozen_on_the_way_stays():
    """No rule moves it from then on, be it by momentum or by decay."""
    problem = problem_of(Freezing)
    for ours, theirs in RULES.values():
        result = descend.fit(problem, ours, steps=9, batch_size=16, seed=3)
        assert_trained_alike(problem, result, by_hand(problem, theirs, 9, 16, 3))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Plain().bfloat16(), r"net: the parameter a.0.bias has the type bfloat16; float32 .* \.float\(\)"),
        (lambda: Plain().half(), "the type float16"),
        (
            lambda: nn.ParameterList([torch.zeros(2, dtype=torch.complex64)]),
            "type complex64; .* real and imaginary",
        ),
        (lambda: Plain().to("meta"), "on meta; dense parameters on the CPU"),
        (lambda: Plain().requires_grad_(False), "no parameter that requires a gradient"),
        (lambda: nn.ParameterList([torch.zeros(0)]), "no parameter that requires a gradient"),
    ],
)
def test_parameters_that_no_descent_steps_are_refused(make, message):
    """By name and type, with what to do, before anything runs."""
    X = torch.randn(9, 6)
    problem = descend.TorchProblem(make, nn.functional.mse_loss, train=(X, X[:, :1]), name="net")
    with pytest.raises(ProblemError, match=message):
        descend.fit(problem, steps=1)


def test_parameters_that_share_memory_are_refused():
    """Two parameters on one memory would be stepped twice; disjoint parts of one memory are two parameters."""

    def tied():
        module = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 1))
        module[1].weight.data = module[0].weight.data
        return module

    with pytest.raises(ProblemError, match=r"0.weight and 1.weight lie in the same memory; .* Parameter itself"):
        problem_of(tied).instance(0)

    class Parts(nn.Module):
        inputs = KINDS["Plain"].inputs

        def __init__(self):
            super().__init__()
            self.flat = torch.randn(7)
            self.weight, self.bias = nn.Parameter(self.flat[:6]), nn.Parameter(self.flat[6:])

        def forward(self, x):
            return x @ self.weight[:, None] + self.bias + 0.1 * self.flat.sum()

    problem = problem_of(Parts)
    result = descend.fit(problem, descend.GD(lr=0.01), steps=9, batch_size=16, seed=3)
    assert_trained_alike(problem, result, by_hand(problem, lambda ps: torch.optim.SGD(ps, lr=0.01), 9, 16, 3))


def test_a_parameter_keeps_its_shape():
    class Growing(Plain):
        def forward(self, x):
            if self.training:
                self.b.weight.data = torch.ones(2, 8)
            return super().forward(x)[:, :1]

    with pytest.raises(ObjectiveError, match=r"b.weight the shape \[2, 8\] in place of \[1, 8\]"):
        descend.fit(problem_of(Growing), "gd", steps=1)


def test_pairs_that_share_memory():
    whole = torch.zeros(10)
    one = {"first": whole[:4], "empty": whole[:0], "all": torch.zeros(3)}
    assert same_memory(one, {"second": whole[4:], "third": torch.zeros(3)}) == []
    assert same_memory(one, {"third": whole[3:5]}) == [("first", "third")]
    assert same_memory({"x": whole[3:5]}, {"y": whole[:4]}) == [("x", "y")]


def test_an_evaluation_leaves_the_point_of_the_descent():
    """Parameters of one's own can be measured between two steps; the next gradient is at the descent's point."""
    instance = problem_of(Plain).instance(0)
    memory = Memory(instance.params, "params")
    objective, grad = instance.objective(memory), memory.like()
    loss = objective(grad, instance.problem.train)
    other = {name: 2 * t for name, t in instance.params.items()}
    assert instance.measure(other, *instance.problem.train)[0] != loss
    assert objective(grad, instance.problem.train) == loss
    assert instance.measure(instance.params, *instance.problem.train)[0] == pytest.approx(loss)
