"""Problems in PyTorch: random numbers, buffers, lazy modules, and models that fail."""

import threading

import numpy as np
import pytest
import torch
from tests.problems.lines import X, Y, line, net

import descend
from descend.errors import ProblemError


class Noisy(torch.nn.Module):
    """Draws random numbers in eval() mode too."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3, 1)

    def forward(self, x):
        return self.linear(x) + 0.1 * torch.randn(len(x), 1)


def test_evaluations_of_a_random_module_repeat_and_leave_the_global_state():
    """A module that is random in eval() mode: the same seed gives the same bits, wherever torch's own stream is."""
    problem = net(Noisy)
    torch.manual_seed(11)
    before = torch.random.get_rng_state()
    one = descend.fit(problem, "adam", epochs=2, seed=4)
    assert torch.equal(before, torch.random.get_rng_state())
    torch.rand(7)
    two = descend.fit(problem, "adam", epochs=2, seed=4)
    losses = [[e.validation_loss for e in r.history.evaluations] for r in (one, two)]
    assert losses[0] == losses[1]
    assert one.test_metric == two.test_metric
    assert torch.equal(one.x["linear.weight"], two.x["linear.weight"])


def test_evaluations_do_not_disturb_training():
    """How often a random module is evaluated makes no difference to what is learnt; seeds draw numbers of their own."""
    problem = net(Noisy)
    rare, often = (descend.fit(problem, "adam", steps=8, seed=1, evaluate_every=n) for n in (8, 1))
    assert torch.equal(rare.x["linear.weight"], often.x["linear.weight"])
    one, two = problem.instance(1), problem.instance(2)
    assert one.measure(one.params, *problem.test) == one.measure(one.params, *problem.test)
    assert one.measure(one.params, *problem.test) != two.measure(one.params, *problem.test)


def test_module_leaves_the_global_random_state():
    """problem.module(result) makes a module, whose initial weights are drawn, without a trace."""
    problem = net()
    result = descend.fit(problem, "adam", epochs=1)
    before = torch.random.get_rng_state()
    problem.module(result)
    assert torch.equal(before, torch.random.get_rng_state())


def test_descents_in_threads_repeat_to_the_bit():
    """Dropout in threads at once draws what it draws alone, and the global state is where it was."""
    problem = net(lambda: torch.nn.Sequential(torch.nn.Linear(3, 16), torch.nn.Dropout(0.5), torch.nn.Linear(16, 1)))

    def weights(seed):
        return descend.fit(problem, "adam", epochs=6, batch_size=4, seed=seed, progress=False).x["2.weight"]

    alone, together = [weights(seed) for seed in range(4)], [None] * 4
    before = torch.random.get_rng_state()
    threads = [threading.Thread(target=lambda s=seed: together.__setitem__(s, weights(s))) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))
    assert torch.equal(before, torch.random.get_rng_state())


def test_any_seed_serves_a_torch_problem():
    """Beyond torch's 64 bits too: each seed repeats, and is another one."""
    problem = net()
    weights = [problem.instance(s).params["weight"] for s in (2**63, 2**64, 2**64, 2**200)]
    assert torch.equal(weights[1], weights[2])
    assert not torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[1], weights[3])
    assert descend.fit(problem, "adam", epochs=1, seed=2**64).nit > 0


class Counting(torch.nn.Module):
    """A buffer that is not saved, one that appears in training, and two names for one weight."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3, 3, bias=False)
        self.again = torch.nn.Linear(3, 3, bias=False)
        self.again.weight = self.linear.weight
        self.register_buffer("seen", torch.zeros(()), persistent=False)

    def forward(self, x):
        if self.training:
            self.seen += len(x)
            if not hasattr(self, "late"):
                self.register_buffer("late", torch.ones(()))
        return self.again(self.linear(x)).sum(1, keepdim=True)


def test_module_restores_every_buffer_and_tied_weights():
    """A buffer that is not persistent, and weights with two names: the module's output is that of the result."""
    problem = net(Counting)
    result = descend.fit(problem, "adam", epochs=2)
    module = problem.module(result)
    assert module.seen.item() == result.buffers["seen"].item() == result.examples
    assert torch.equal(module.linear.weight, result.x["linear.weight"])
    assert module.again.weight is module.linear.weight
    inputs, targets = problem.test
    assert problem.loss(module(inputs), targets).item() == pytest.approx(result.test_metric)


def test_a_buffer_that_appears_in_training_does_not_break_keep_best():
    """The best evaluation may be before the buffer was there: what it had is restored, the rest stays."""
    result = descend.fit(net(Counting), descend.GD(lr=1.0), steps=3, evaluate_every=1, keep_best=True)
    assert result.best.step == 0
    assert result.buffers["seen"].item() == 0
    assert result.buffers["late"].item() == 1


def test_module_refuses_a_result_of_another_problem():
    """Other names or shapes of parameters, by name."""
    other = descend.fit(line(), "gd", steps=1)
    with pytest.raises(ProblemError, match=r"net: the result's parameters are not those .*weight, bias"):
        net().module(other)
    with pytest.raises(ProblemError, match=r"net: Result is no result of descend\.fit"):
        net().module(descend.minimize(lambda x: x @ x, X[0]))


def test_lazy_modules_are_initialised():
    """Their sizes come from one training example; batch normalisation is as new, and the seed decides the weights."""
    problem = net(
        lambda: torch.nn.Sequential(
            torch.nn.LazyLinear(8), torch.nn.LazyBatchNorm1d(), torch.nn.ReLU(), torch.nn.LazyLinear(1)
        )
    )
    before = torch.random.get_rng_state()
    instance = problem.instance(3)
    assert instance.params["0.weight"].shape == (8, 3)
    assert torch.equal(instance.params["0.weight"], problem.instance(3).params["0.weight"])
    assert not torch.equal(instance.params["0.weight"], problem.instance(4).params["0.weight"])
    assert instance.snapshot()["1.num_batches_tracked"].item() == 0
    assert torch.equal(before, torch.random.get_rng_state())
    result = descend.fit(problem, "adam", epochs=2)
    module = problem.module(result)
    inputs, targets = problem.test
    assert problem.loss(module(inputs), targets).item() == pytest.approx(result.test_metric)


@pytest.mark.parametrize(
    ("model", "match"),
    [
        (torch.nn.Linear, r"net: model=Linear raised TypeError: .*\(seed 3\); .*model=lambda: Net"),
        (lambda: 1 / 0, r"net: model raised ZeroDivisionError: division by zero \(seed 3\)"),
        (
            lambda: torch.nn.Sequential(torch.nn.LazyLinear(4), torch.nn.Linear(3, 1)),
            r"net: model: its lazy modules .* raised RuntimeError",
        ),
    ],
    ids=["arguments", "raises", "lazy"],
)
def test_a_model_that_fails_is_refused_by_name(model, match):
    """A class that needs arguments, a function that raises, a lazy network that does not fit: one line, when used."""
    with pytest.raises(ProblemError, match=match) as caught:
        net(model).instance(3)
    assert "\n" not in str(caught.value)


class Scaling(torch.nn.Module):
    """Writes to its input."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3, 1)

    def forward(self, x):
        return self.linear(x.mul_(0.5))


@pytest.mark.parametrize("batch_size", ["full", 8])
def test_a_module_that_writes_to_its_input_is_given_copies(batch_size):
    """The data stay as they are, and each evaluation of the same parameters is the same."""
    problem, halved = net(Scaling), net(lambda: torch.nn.Sequential(torch.nn.Linear(3, 1)), data=(X / 2, Y[:, None]))
    before = [part.clone() for part in problem.train + problem.validation]
    result, other = (descend.fit(p, "gd", epochs=3, batch_size=batch_size, seed=2) for p in (problem, halved))
    assert all(map(torch.equal, before, problem.train + problem.validation))
    assert torch.allclose(result.x["linear.weight"], other.x["0.weight"], atol=1e-6)
    assert result.test_metric == pytest.approx(other.test_metric)
    assert descend.stackable(problem, [descend.GD()] * 2, batch_size) == (
        "the module or the loss writes to the examples it is given"
    )


def test_nothing_is_trained_in_inference_mode():
    with torch.inference_mode(), pytest.raises(ProblemError, match=r"within torch\.inference_mode"):
        descend.fit(net(), epochs=1)
    with torch.no_grad():
        assert descend.fit(net(), epochs=1).nit > 0


def test_torch_problems_take_data_frames_and_odd_arrays():
    """Frames, series, lists, read-only and reversed arrays are what the plain array is."""
    pandas = pytest.importorskip("pandas")
    expected = descend.fit(net(), "adam", epochs=1).x["weight"]
    frozen = X.copy()
    frozen.flags.writeable = False
    flipped = np.ascontiguousarray(X[::-1])[::-1]
    for inputs in (pandas.DataFrame(X, columns=list("abc")), frozen, flipped, X.tolist()):
        problem = net(data=(inputs, pandas.DataFrame(Y[:, None])))
        assert torch.equal(descend.fit(problem, "adam", epochs=1).x["weight"], expected)
    series = net(lambda: torch.nn.Flatten(0), train=(X[:, 0], pandas.Series(Y)), data=None)
    assert series.train[1].shape == (60,)
    with pytest.raises(ProblemError, match="net: data cannot be made a tensor: TypeError"):
        net(data=(X, np.array(["a"] * 60)))


def test_frozen_parameters_drawn_at_random_come_back_with_the_module():
    """What was not trained is kept with the result: the module measures as the run did."""

    def model():
        net = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
        net[0].requires_grad_(False)
        return net

    X = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    problem = descend.TorchProblem(model, torch.nn.functional.mse_loss, data=(X, X.sum(1, keepdim=True)))
    result = descend.fit(problem, descend.Adam(lr=0.01), epochs=2, batch_size=8, seed=7)
    with torch.no_grad():
        inputs, targets = problem.test
        found = torch.nn.functional.mse_loss(problem.module(result)(inputs), targets).item()
    assert found == pytest.approx(result.test_metric)
