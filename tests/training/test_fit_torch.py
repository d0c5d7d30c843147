"""`descend.fit` of PyTorch networks: as torch.optim trains them, with their buffers and random numbers."""

import numpy as np
import pytest
import torch
from tests.training.lines import X, Y

import descend
from descend.errors import ObjectiveError, OptionError, ProblemError
from descend.training.batches import Batches


def torch_problem(model=None, **options):
    Xt, yt = X.astype(np.float32), (Y > 0).astype(np.int64)
    return descend.TorchProblem(
        model or (lambda: torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))),
        torch.nn.functional.cross_entropy,
        metric=lambda out, y: (out.argmax(1) == y).float().mean(),
        metric_name="accuracy",
        higher_is_better=True,
        data=(Xt, yt),
        name="net",
        **options,
    )


@pytest.mark.parametrize("name", ["sgd", "adam", "rmsprop", "adagrad", "adamw"])
def test_a_torch_network_trains_as_with_torch_optim(name):
    """The same start and batches through torch.optim and through descend: the same weights to float32 rounding."""
    problem = torch_problem()
    result = descend.fit(problem, descend.rules.get(name)(lr=0.01), epochs=3, batch_size=8, seed=2)

    torch.manual_seed(2)
    module = problem.model()
    options = {"weight_decay": 0.01} if name == "adamw" else {}
    optimizer = {
        "sgd": torch.optim.SGD,
        "adam": torch.optim.Adam,
        "rmsprop": torch.optim.RMSprop,
        "adagrad": torch.optim.Adagrad,
        "adamw": torch.optim.AdamW,
    }[name](module.parameters(), lr=0.01, **options)
    batches = Batches(problem.size, 8, seed=2)
    for step in range(3 * batches.per_epoch):
        inputs, targets = (part[batches.rows(step)] for part in problem.train)
        optimizer.zero_grad()
        problem.loss(module(inputs), targets).backward()
        optimizer.step()
    for parameter, trained in zip(module.named_parameters(), result.x.items(), strict=True):
        assert parameter[0] == trained[0]
        assert torch.allclose(parameter[1], trained[1], atol=2e-6)


def test_dropout_and_batch_norm_repeat_to_the_bit():
    """Random numbers and running statistics belong to the descent; torch's own random state is not touched."""
    problem = torch_problem(
        lambda: torch.nn.Sequential(
            torch.nn.Linear(3, 8), torch.nn.BatchNorm1d(8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 2)
        )
    )
    state = torch.random.get_rng_state()
    one = descend.fit(problem, "adam", epochs=2, batch_size=8, seed=1)
    torch.rand(3)
    two = descend.fit(problem, "adam", epochs=2, batch_size=8, seed=1)
    assert all(torch.equal(one.x[k], two.x[k]) for k in one.x)
    assert torch.equal(one.buffers["1.running_mean"], two.buffers["1.running_mean"])
    assert not torch.equal(one.buffers["1.running_mean"], torch.zeros(8))
    torch.random.set_rng_state(state)
    before = torch.random.get_rng_state()
    descend.fit(problem, "adam", epochs=1, batch_size=8)
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_trained_module_has_the_measured_metric():
    """problem.module(result) has the kept parameters and buffers: its own accuracy on test data is the result's."""
    problem = torch_problem(
        lambda: torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 2))
    )
    result = descend.fit(problem, descend.Adam(lr=0.05), epochs=6, batch_size=8, keep_best=True)
    module = problem.module(result)
    assert not module.training
    with torch.no_grad():
        accuracy = (module(problem.test[0]).argmax(1) == problem.test[1]).float().mean().item()
    assert accuracy == pytest.approx(result.test_metric)


def test_frozen_parameters_stay():
    """What does not require a gradient is not trained, and the module still has it."""

    def model():
        net = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        net[0].weight.requires_grad_(False)
        return net

    problem = torch_problem(model)
    result = descend.fit(problem, "adam", epochs=1)
    assert "0.weight" not in result.x


def with_batch_norm():
    return torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 2))


def test_a_last_batch_of_one_joins_the_one_before_it_where_batch_norm_needs_two():
    """An epoch of 33 examples in batches of 16 has two steps then, and three without batch normalisation."""
    Xt, yt = X[:33].astype(np.float32), (Y[:33] > 0).astype(np.int64)
    results = {
        make: descend.fit(
            descend.TorchProblem(make, torch.nn.functional.cross_entropy, train=(Xt, yt)), epochs=2, batch_size=16
        )
        for make in (with_batch_norm, lambda: torch.nn.Linear(3, 2))
    }
    assert [(r.nit, r.examples, r.epochs) for r in results.values()] == [(4, 66, 2.0), (6, 66, 2.0)]
    problem = descend.TorchProblem(with_batch_norm, torch.nn.functional.cross_entropy, train=(Xt, yt))
    with pytest.raises(OptionError, match=r"batch_size=1: .* batch normalisation; use 2 or more"):
        descend.fit(problem, batch_size=1)


def test_one_module_for_every_seed_is_refused():
    """Also one whose parameters are shared in part; what is not trained may be shared, unless training changes it."""
    net = with_batch_norm()
    before = {name: t.clone() for name, t in net.state_dict().items()}
    for model in (lambda: net, lambda: torch.nn.Sequential(torch.nn.Identity(), net)):
        with pytest.raises(
            ProblemError, match=r"net: model\(\) returned the parameter .*weight a second time.*deepcopy"
        ):
            descend.fit(torch_problem(model), epochs=1)
    assert all(torch.equal(t, before[name]) for name, t in net.state_dict().items())

    layer, norm = torch.nn.Linear(3, 8).requires_grad_(False), torch.nn.BatchNorm1d(8).requires_grad_(False)
    frozen = torch_problem(lambda: torch.nn.Sequential(layer, torch.nn.Linear(8, 2)))
    one, two = (descend.fit(frozen, epochs=1, seed=seed) for seed in (0, 1))
    assert not torch.equal(one.x["1.weight"], two.x["1.weight"])
    with pytest.raises(ObjectiveError, match=r"training changes 1.running_mean, which all modules"):
        descend.fit(torch_problem(lambda: torch.nn.Sequential(layer, norm, torch.nn.Linear(8, 2))), epochs=1)
    assert torch.equal(norm.running_mean, torch.zeros(8))


def test_a_module_is_made_from_the_seed_of_the_result():
    """What is neither parameter nor buffer is what it was in the run."""

    class Scaled(torch.nn.Linear):
        def __init__(self):
            super().__init__(3, 2)
            self.scale = float(torch.rand(()))

        def forward(self, x):
            return self.scale * super().forward(x)

    problem = torch_problem(Scaled)
    result = descend.fit(problem, epochs=1, seed=5)
    with torch.no_grad():
        accuracy = (problem.module(result)(problem.test[0]).argmax(1) == problem.test[1]).float().mean().item()
    assert result.seed == 5
    assert problem.module(result).scale == problem.instance(5).module.scale
    assert accuracy == pytest.approx(result.test_metric)


def test_options_that_a_torch_problem_does_not_have_are_refused():
    """None is passed over in silence; the nearest that there is, is named."""
    with pytest.raises(ProblemError, match="net: a TorchProblem takes no loss_and_metric="):
        torch_problem(loss_and_metric=lambda *_: (0.0, 0.0))
    with pytest.raises(ProblemError, match="takes no metric_nam=: did you mean 'metric_name'"):
        descend.TorchProblem(torch.nn.Identity, torch.nn.functional.mse_loss, train=(X, Y), metric_nam="x")


def test_bad_torch_problems_are_refused():
    """A module in place of a function that makes one; a model that makes none; no data."""
    net = torch.nn.Linear(3, 2)
    with pytest.raises(ProblemError, match="wrap it: model=lambda"):
        torch_problem(net)
    with pytest.raises(ProblemError, match=r"not a torch\.nn\.Module"):
        torch_problem(lambda: 3).instance(0)
    with pytest.raises(ProblemError, match="needs data"):
        descend.TorchProblem(lambda: net, torch.nn.functional.mse_loss)
