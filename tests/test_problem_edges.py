"""Problems at their edges: random numbers of torch modules, odd data, odd settings, functions that raise."""

import functools
import math
import threading

import numpy as np
import pytest
import torch

import descend
from descend import Problem, problems
from descend.errors import DescendError, ObjectiveError, ProblemError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3))
Y = X @ np.array([1.0, -2.0, 3.0])


def line(**options):
    """A small linear problem."""
    settings = {
        "start": lambda rng: rng.normal(size=3),
        "loss": lambda w, X, y: float(np.mean((X @ w - y) ** 2)),
        "jac": lambda w, X, y: 2 * X.T @ (X @ w - y) / len(y),
        "data": (X, Y),
        "name": "line",
    }
    return Problem(**{**settings, **options})


def net(model=None, **options):
    """A small network on the same data."""
    settings = {"data": (X, Y[:, None]), "name": "net"}
    return descend.TorchProblem(
        model or (lambda: torch.nn.Linear(3, 1)), torch.nn.functional.mse_loss, **{**settings, **options}
    )


class Noisy(torch.nn.Module):
    """Draws random numbers in eval() mode too."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3, 1)

    def forward(self, x):
        return self.linear(x) + 0.1 * torch.randn(len(x), 1)


# ---- torch: random numbers --------------------------------------------------------------------------------------


def test_looks_of_a_random_module_repeat_and_leave_the_global_state():
    """A module that is random in eval() mode: the same seed gives the same bits, wherever torch's own stream is."""
    problem = net(Noisy)
    torch.manual_seed(11)
    before = torch.random.get_rng_state()
    one = descend.fit(problem, "adam", epochs=2, seed=4)
    assert torch.equal(before, torch.random.get_rng_state())
    torch.rand(7)
    two = descend.fit(problem, "adam", epochs=2, seed=4)
    looks = [[e.validation_loss for e in r.history.evaluations] for r in (one, two)]
    assert looks[0] == looks[1]
    assert one.test_metric == two.test_metric
    assert torch.equal(one.x["linear.weight"], two.x["linear.weight"])


def test_looks_do_not_disturb_training():
    """How often a random module is looked at makes no difference to what is learnt; seeds have looks of their own."""
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


# ---- torch: buffers, lazy modules, what model() does ------------------------------------------------------------


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
    """The best look may be before the buffer was there: what it had is restored, the rest stays."""
    result = descend.fit(net(Counting), descend.GD(lr=1.0), steps=3, evaluate_every=1, keep_best=True)
    assert result.best.step == 0
    assert result.buffers["seen"].item() == 0
    assert result.buffers["late"].item() == 1


def test_module_refuses_a_result_of_another_problem():
    """Other names or shapes of parameters, by name."""
    other = descend.fit(line(), "gd", steps=1)
    with pytest.raises(ProblemError, match=r"net: the result's parameters are not those .*weight, bias"):
        net().module(other)


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


# ---- jax --------------------------------------------------------------------------------------------------------


def test_looks_of_a_jax_problem_have_the_precision_of_training():
    """float64 parameters: losses and metrics are float64, as in training; float32 ones stay what they are."""
    jnp = pytest.importorskip("jax.numpy")

    def loss(w, X, y):
        return jnp.mean((jnp.asarray(X) @ w - y) ** 2)

    problem = line(loss=loss, jac="jax", start=lambda rng: np.full(3, 0.1), metric=lambda *a: jnp.sqrt(loss(*a)))
    result = descend.fit(problem, descend.GD(lr=0.05), epochs=2, batch_size="full")
    exact = float(np.mean((problem.train[0] @ result.x - problem.train[1]) ** 2))
    assert result.fun == pytest.approx(exact, rel=1e-13)
    test = float(np.mean((problem.test[0] @ result.x - problem.test[1]) ** 2))
    assert result.test_metric == pytest.approx(math.sqrt(test), rel=1e-13)
    narrow = line(loss=loss, jac="jax", start=lambda rng: jnp.full(3, 0.1))
    one = narrow.instance(0)
    assert np.float32(one.value(one.params, *narrow.train)) == one.value(one.params, *narrow.train)
    assert jnp.zeros(1).dtype == jnp.float32


# ---- metric, optimum, data, split -------------------------------------------------------------------------------


def worst(w, X, y):
    return float(np.abs(X @ w - y).max())


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, "loss"),
        ({"metric_name": "ignored"}, "loss"),
        ({"metric": worst}, "worst"),
        ({"metric": lambda w, X, y: 0.0}, "metric"),
        ({"metric": functools.partial(worst)}, "metric"),
        ({"metric": worst, "metric_name": "gap"}, "gap"),
    ],
    ids=range(6),
)
def test_a_metric_is_called_as_its_function(options, name):
    """Its own name, 'metric' where it has none, what the user says before both; without a metric it is the loss."""
    assert line(**options).metric_name == name


def test_numpy_numbers_are_stored_as_python_ones():
    """higher_is_better as bool, optimum as float."""
    problem = line(metric=worst, higher_is_better=np.True_, optimum=np.float32(0.5))
    assert problem.higher_is_better is True
    assert type(problem.optimum) is float
    assert line(optimum=3).optimum == 3.0
    assert line().optimum is None


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"metric": worst, "metric_name": ""}, "line: metric_name='' must be a text"),
        ({"metric": worst, "metric_name": 3}, "line: metric_name=3 must be a text"),
        ({"metric": worst, "higher_is_better": "yes"}, "line: higher_is_better='yes' must be True or False"),
        ({"optimum": math.nan}, "line: optimum=nan must be a finite number"),
        ({"optimum": -math.inf}, "line: optimum=-inf must be a finite number"),
        ({"optimum": "0"}, "line: optimum='0' must be a finite number"),
        ({"optimum": True}, "line: optimum=True must be a finite number"),
        ({"split": None}, "line: split=None must be three shares"),
        ({"split": "abc"}, "line: split='abc' must be three shares"),
        ({"split": 0.5}, r"line: split=0\.5 must be three shares"),
        ({"split": ("1", 0, 0)}, r"line: split=\('1', 0, 0\) must be three shares"),
        ({"split": (math.nan, 0.5, 0.5)}, "must be three shares"),
        ({"data": ([[1.0], [2.0, 3.0]], [1, 2])}, "line: data cannot be made an array: ValueError"),
    ],
    ids=range(13),
)
def test_a_bad_option_of_a_problem_is_refused(options, match):
    """By name and value, with what is allowed, on one line."""
    with pytest.raises(ProblemError, match=match) as caught:
        line(**options)
    assert "\n" not in str(caught.value)


def with_bad(value, row, dtype=np.float64):
    array = X.astype(dtype)
    array[row, 1] = value
    return array


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (
            lambda: line(data=None, train=(with_bad(math.nan, 7), Y)),
            "^line: train data: array 0 has nan in row 7; remove or fill such rows$",
        ),
        (lambda: line(data=(X, np.append(Y[:-1], math.inf))), "^line: data: array 1 has inf in row 59;"),
        (
            lambda: line(data=None, train=(X, Y), test=(with_bad(-math.inf, 3, np.float32), Y)),
            "^line: test data: array 0 has -inf in row 3;",
        ),
        (lambda: net(data=(torch.tensor(with_bad(math.nan, 5)), Y[:, None])), "^net: data: array 0 has nan in row 5;"),
    ],
    ids=["nan", "inf", "float32", "torch"],
)
def test_data_that_are_not_finite_are_refused(make, match):
    """Role, array, row and value of the first such number."""
    with pytest.raises(ProblemError, match=match):
        make()


def test_data_that_cannot_be_checked_for_nan_pass():
    """Integers, text, sparse tensors and matrices, masked numbers."""
    sparse = pytest.importorskip("scipy.sparse")
    masked = np.ma.masked_invalid(with_bad(math.nan, 2))
    for inputs in (np.arange(60), np.array(["a"] * 60), masked, sparse.csr_array(with_bad(math.nan, 2))):
        assert line(data=(inputs, Y)).size == 36
    tensor = torch.tensor(X).to_sparse()
    assert line(data=None, train=(tensor, Y)).size == 60


@pytest.mark.parametrize("form", ["coo_matrix", "coo_array", "dia_matrix", "dia_array", "bsr_matrix"])
def test_sparse_formats_without_rows_are_converted(form):
    """They train as the dense array does."""
    sparse = pytest.importorskip("scipy.sparse")
    jac = {"jac": lambda w, X, y: 2 * (X.T @ (X @ w - y)) / len(y)}
    dense = descend.fit(line(**jac), descend.GD(lr=0.05), epochs=2, batch_size=8)
    result = descend.fit(line(data=(getattr(sparse, form)(X), Y), **jac), descend.GD(lr=0.05), epochs=2, batch_size=8)
    assert np.allclose(result.x, dense.x)


# ---- built-in problems' settings --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (
            lambda: problems.quadratic(dimension=math.inf),
            "quadratic: dimension=inf must be a whole number from 1 to 10,000",
        ),
        (lambda: problems.quadratic(dimension=math.nan), "quadratic: dimension=nan"),
        (lambda: problems.quadratic(dimension=1e7), r"quadratic: dimension=10000000\.0 .* to 10,000; try 10"),
        (lambda: problems.quadratic(dimension="3"), "quadratic: dimension='3'"),
        (lambda: problems.quadratic(condition=math.inf), "quadratic: condition=inf must be a number ≥ 1, and finite"),
        (lambda: problems.quadratic(condition=math.nan), "quadratic: condition=nan"),
        (lambda: problems.load("digits:hidden=0"), r"digits: hidden=0\.0 must be a whole number from 1 to 10,000"),
        (lambda: problems.load("digits:hidden=2.5"), r"digits: hidden=2\.5"),
        (lambda: problems.load("digits:hidden=1e9"), r"digits: hidden=1000000000\.0"),
        (lambda: problems.load("digits:hidden=nan"), "digits: hidden=nan"),
        (lambda: problems.load("breast-cancer:l2=-1"), r"breast-cancer: l2=-1\.0 must be a number ≥ 0, and finite"),
        (lambda: problems.load("breast-cancer:l2=inf"), "breast-cancer: l2=inf"),
    ],
    ids=range(12),
)
def test_a_setting_out_of_range_is_refused(make, match):
    """Infinite, not a number, too large to hold in memory, negative, a fraction where none can be."""
    with pytest.raises(ProblemError, match=match):
        make()


def test_settings_at_the_ends_of_their_range_are_taken():
    """One dimension, condition 1, one hidden unit, no penalty."""
    assert problems.quadratic(condition=1, dimension=np.int64(1)).instance(0).params.shape == (1,)
    assert problems.load("digits:hidden=1").instance(0).params["W1"].shape == (64, 1)
    assert problems.load("breast-cancer:l2=0").size > 0


# ---- a start that raises ----------------------------------------------------------------------------------------


def raising(error):
    def start(rng):
        raise error

    return start


def test_a_start_that_raises_is_refused_with_its_seed():
    """One line with the error, which is its cause."""
    with pytest.raises(ProblemError, match=r"^line: start raised ValueError: no luck \(seed 3\)") as caught:
        descend.fit(line(start=raising(ValueError("no\nluck"))), "gd", seed=3)
    assert isinstance(caught.value.__cause__, ValueError)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), DescendError("mine"), ObjectiveError("mine")], ids=repr)
def test_what_a_start_raises_on_purpose_passes(error):
    """Ctrl-C and descend's own errors."""
    with pytest.raises(type(error)) as caught:
        line(start=raising(error)).instance(0)
    assert caught.value is error


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


@pytest.mark.parametrize("jac", ["jax", "torch"])
def test_looks_hand_out_what_training_hands_out(jac):
    """A loss that only its own library can compute is measured as it is trained: same leaves, same precision."""
    import jax.numpy as jnp

    def loss(w, X, y):
        if jac == "jax":
            residual = jnp.asarray(X) @ w.at[0].add(0.0) - y
            return (residual**2).mean()
        return (torch.as_tensor(X) @ w.clone() - torch.as_tensor(y)).square().mean()

    X = np.random.default_rng(0).normal(size=(50, 3))
    problem = descend.Problem(lambda rng: np.zeros(3), loss, jac, data=(X, X @ np.ones(3)))
    result = descend.fit(problem, descend.GD(lr=0.1), epochs=150, batch_size="full")
    assert result.fun < 1e-15
