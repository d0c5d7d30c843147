"""Many runs as one program: each gets what it gets alone, whatever happens beside it."""

import contextlib
import dataclasses

import numpy as np
import pytest
import torch

import descend
from descend.engines import FusedStack, Reference, Stack
from descend.engines import select as choice
from descend.parameters.memory import Memory
from descend.parameters.rows import Rows
from descend.training import fit_many as stacking

PROBLEMS = [
    *("digits", "digits-softmax", "breast-cancer", "diabetes", "quadratic", "deep-quadratic"),
    *("rosenbrock", "beale", "himmelblau", "booth", "saddle"),
]
RULES = sorted(descend.rules.all())


def alone(problem, rules, seeds, **options):
    return [
        descend.fit(problem, rule, seed=seed, keep_best=True, history=False, progress=False, **options)
        for rule, seed in zip(rules, seeds, strict=True)
    ]


def figures(result):
    looks = [
        (e.step, e.epoch, e.examples, e.batch_loss, e.validation_loss, e.validation_metric)
        for e in result.history.evaluations
    ]
    return np.array([*np.ravel(looks), result.fun, result.validation_metric, result.test_metric, result.best.step])


def leaves(result):
    memory = Memory(result.x)
    return np.concatenate(memory.vectors)


def assert_same(stacked, single, *, rtol=1e-8):
    """Every figure to rounding, and all that counts or tells exactly."""
    assert len(stacked) == len(single)
    for a, b in zip(stacked, single, strict=True):
        exact = ("nit", "nfev", "njev", "reason", "message", "examples", "epochs", "metric_name", "success", "status")
        assert [a[name] for name in exact] == [b[name] for name in exact]
        np.testing.assert_allclose(figures(a), figures(b), rtol=rtol, atol=1e-12)
        np.testing.assert_allclose(leaves(a), leaves(b), rtol=1e3 * rtol, atol=1e-9)
        assert type(a.x) is type(b.x)


def assert_identical(a, b):
    np.testing.assert_array_equal(figures(a), figures(b))
    np.testing.assert_array_equal(leaves(a), leaves(b))
    np.testing.assert_array_equal(np.concatenate(Memory(a.x_last).vectors), np.concatenate(Memory(b.x_last).vectors))
    assert (a.reason, a.message, a.nit) == (b.reason, b.message, b.nit)


@pytest.fixture
def machine_code(monkeypatch):
    """Let every stack step by machine code, as a large one does."""
    monkeypatch.setattr(choice, "RUNS", 10**9)


# ---- a run stacked is a run alone -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PROBLEMS)
def test_every_built_in_problem_stacks(name):
    problem = descend.problems.load(name)
    rules = [descend.Adam(lr=lr) for lr in (0.001, 0.003, 0.01, 0.03, 0.1)]
    seeds = [0, 1, 2, 0, 1]
    options = {"steps": 60, "evaluate_every": 17, "batch_size": 48 if problem.size else None}
    assert stacking.stackable(problem, rules, options["batch_size"]) is None
    assert_same(descend.fit_many(problem, rules, seeds, **options), alone(problem, rules, seeds, **options))


@pytest.mark.parametrize("name", RULES)
def test_every_rule_stacks(name):
    problem = descend.problems.load("digits-softmax")
    kind = descend.rules.get(name)
    rules = [dataclasses.replace(kind(), lr=lr) for lr in (0.0003, 0.003, 0.03)]
    options = {"steps": 40, "batch_size": 100}
    assert_same(descend.fit_many(problem, rules, [3, 4, 3], **options), alone(problem, rules, [3, 4, 3], **options))


@pytest.mark.parametrize("batch_size", [1, 100, "full"])
def test_batches_of_every_size(batch_size):
    problem = descend.problems.load("diabetes")
    rules = [descend.Momentum(lr=lr) for lr in (0.001, 0.01)]
    options = {"examples": 800, "batch_size": batch_size}
    assert_same(descend.fit_many(problem, rules, [0, 1], **options), alone(problem, rules, [0, 1], **options))


def test_other_numbers_than_the_learning_rate_and_schedules():
    problem = descend.problems.load("breast-cancer")
    rules = [
        descend.NAdam(lr=0.01, betas=(0.8, 0.99)),
        descend.NAdam(lr=descend.schedules.Cosine(0.1, steps=40), momentum_decay=0.01),
        descend.NAdam(lr=0.01, betas=(0.5, 0.9), eps=1e-3),
    ]
    options = {"steps": 50, "batch_size": 32}
    assert_same(descend.fit_many(problem, rules, [0, 0, 1], **options), alone(problem, rules, [0, 0, 1], **options))


@pytest.mark.parametrize("flags", [{"cautious": True}, {"weight_decay": 0.01}, {"maximize": True}])
def test_flags_that_all_rules_share(flags):
    problem = descend.problems.load("diabetes")
    rules = [descend.Adam(lr=lr, **flags) for lr in (0.001, 0.01)]
    options = {"steps": 30, "batch_size": 32}
    assert_same(descend.fit_many(problem, rules, [0, 1], **options), alone(problem, rules, [0, 1], **options))


@pytest.mark.parametrize("rule", [descend.Adam(), descend.NAdam(), descend.Adam(cautious=True)])
def test_machine_code_steps_as_the_reference(rule, machine_code):
    problem = descend.problems.load("diabetes")
    rules = [dataclasses.replace(rule, lr=lr) for lr in (0.01, 1e80, 0.1)]  # one leaves the stack
    options = {"steps": 40, "batch_size": 64}
    with np.errstate(all="ignore"):
        stacked, single = (
            descend.fit_many(problem, rules, [0, 0, 1], **options),
            alone(problem, rules, [0, 0, 1], **options),
        )
    assert_same([stacked[0], stacked[2]], [single[0], single[2]])
    assert stacked[1].reason is single[1].reason


def test_numbers_of_32_bits_stay_so():
    whole = descend.problems.load("digits:hidden=8")
    train, validation, test = ((X.astype(np.float32), y) for X, y in (whole.train, whole.validation, whole.test))
    seen = set()

    def loss_and_grad(params, X, y):
        loss, slopes = whole.loss_and_grad(params, X, y)
        seen.update({np.asarray(loss).dtype, *(leaf.dtype for leaf in slopes.values())})
        return loss, slopes

    problem = descend.Problem(
        start=lambda rng: {name: leaf.astype(np.float32) for name, leaf in whole.start(rng).items()},
        loss_and_grad=loss_and_grad,
        metric=whole.metric,
        train=train,
        validation=validation,
        test=test,
        higher_is_better=True,
        stacks=True,
    )
    rules, options = [descend.Adam(lr=0.01), descend.Adam(lr=0.1)], {"steps": 30, "batch_size": 16}
    stacked = descend.fit_many(problem, rules, [0, 1], **options)
    assert_same(stacked, alone(problem, rules, [0, 1], **options), rtol=1e-4)
    assert seen == {np.dtype(np.float32)}
    assert stacked[0].x["W1"].dtype == np.float32


# ---- to the bit, whatever is beside it --------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["reference", "machine code"])
@pytest.mark.parametrize("name", ["digits", "digits-softmax", "breast-cancer", "diabetes", "beale", "deep-quadratic"])
def test_a_run_is_the_same_to_the_bit_whatever_its_stack(name, engine, request):
    if engine == "machine code":
        request.getfixturevalue("machine_code")
    problem = descend.problems.load(name)
    options = {"steps": 70, "batch_size": 16 if problem.size else None, "evaluate_every": 20}
    mine = descend.Adam(lr=0.01)
    (expected,) = descend.fit_many(problem, [mine], [7], **options)
    others = [descend.Adam(lr=0.001 * 1.4**i) for i in range(15)]
    for number, seeds in ((2, [7]), (2, [8]), (16, [7] * 15), (16, range(15)), (5, [7, 7, 3, 9])):
        for place in (0, number - 1):
            rules, all_seeds = list(others[: number - 1]), list(seeds)
            rules.insert(place, mine)
            all_seeds.insert(place, 7)
            assert_identical(descend.fit_many(problem, rules, all_seeds, **options)[place], expected)


def test_stacks_of_a_few_at_a_time_give_the_same(monkeypatch):
    problem = descend.problems.load("diabetes")
    rules, seeds, options = [descend.Adam(lr=0.01 * (i + 1)) for i in range(7)], [5, 1, 5, 2, 1, 1, 0], {"steps": 20}
    expected = descend.fit_many(problem, rules, seeds, **options)
    monkeypatch.setattr(stacking, "MOST", 1)
    monkeypatch.setattr(stacking, "LEAST", 2)
    for one, other in zip(descend.fit_many(problem, rules, seeds, **options), expected, strict=True):
        assert_identical(one, other)


# ---- runs that fail ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["diabetes", "digits", "quadratic", "rosenbrock"])
def test_a_run_that_fails_leaves_its_neighbours_as_they_are(name):
    problem = descend.problems.load(name)
    options = {"steps": 40, "batch_size": 16 if problem.size else None, "evaluate_every": 11}
    rates = [0.001, 1e6, 0.0005, 1e200, 1e308, 0.0001]
    rules, seeds = [descend.GD(lr=lr) for lr in rates], [0, 0, 1, 1, 0, 2]
    with np.errstate(all="ignore"):
        stacked, single = descend.fit_many(problem, rules, seeds, **options), alone(problem, rules, seeds, **options)
        well = [0, 2, 5]
        apart = descend.fit_many(problem, [rules[i] for i in well], [seeds[i] for i in well], **options)
    for i, one in zip(well, apart, strict=True):
        assert_identical(stacked[i], one)
        assert stacked[i].reason is descend.Reason.MAX_STEPS
    for a, b in zip(stacked, single, strict=True):
        assert (a.reason, a.nit, a.message, a.examples, a.best.step) == (
            b.reason,
            b.nit,
            b.message,
            b.examples,
            b.best.step,
        )
    assert {str(r.reason) for r in stacked} >= {"max_steps"}
    assert any(r.reason.kind == "failed" for r in stacked)


def test_what_is_not_finite_at_the_end_is_a_failure():
    problem = descend.problems.load("diabetes")
    rules, options = [descend.GD(lr=0.1), descend.GD(lr=1e308)], {"steps": 1, "batch_size": 16}
    with np.errstate(all="ignore"):
        stacked, single = descend.fit_many(problem, rules, [0, 0], **options), alone(problem, rules, [0, 0], **options)
    assert [str(r.reason) for r in stacked] == ["max_steps", "non_finite"]
    assert [r.message for r in stacked] == [r.message for r in single]


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_a_loss_that_is_not_finite_is_a_failure(bad):
    def loss_and_grad(x):
        return np.where(x[..., 0] < -1, bad, np.vecdot(x, x)), x

    problem = descend.Problem(start=lambda rng: np.ones(2), loss_and_grad=loss_and_grad, stacks=True)
    rules = [descend.GD(lr=0.1), descend.GD(lr=2.5)]
    stacked, single = descend.fit_many(problem, rules, [0, 0], steps=9), alone(problem, rules, [0, 0], steps=9)
    assert [(str(r.reason), r.nit) for r in stacked] == [("max_steps", 9), ("non_finite", 1)]
    assert [r.message for r in stacked] == [r.message for r in single]


def test_a_run_that_has_ended_is_not_computed_any_more():
    widths = []

    def loss_and_grad(x):
        widths.append(x.shape)
        return 0.5 * np.vecdot(x, x), x

    problem = descend.Problem(start=lambda rng: rng.normal(size=3), loss_and_grad=loss_and_grad, stacks=True)
    with np.errstate(all="ignore"):
        found = descend.fit_many(problem, [descend.GD(lr=lr) for lr in (0.1, 1e9, 0.2)], [0, 1, 2], steps=30)
    assert [str(r.reason) for r in found] == ["max_steps", "diverged", "max_steps"]
    stacks = [shape[0] for shape in widths if len(shape) == 2][1:]
    assert stacks[:2] == [3, 3]
    assert stacks[2:] == [2] * 28


def test_an_error_ends_all_and_says_at_which_step():
    def loss_and_grad(x):
        if np.abs(x).max() > 50:
            raise ValueError("too far")
        return 0.5 * np.vecdot(x, x), x

    problem = descend.Problem(start=lambda rng: np.ones(2), loss_and_grad=loss_and_grad, stacks=True)
    with pytest.raises(descend.errors.ObjectiveError, match=r"ValueError: too far \(at step 1\)"):
        descend.fit_many(problem, [descend.GD(lr=0.1), descend.GD(lr=100.0)], [0, 0], steps=9)

    def late(step):
        if step > 3:
            raise RuntimeError("no more")
        return 0.1

    with pytest.raises(descend.errors.ObjectiveError, match="GD cannot make step 5: RuntimeError: no more"):
        descend.fit_many(descend.problems.load("quadratic"), [descend.GD(lr=0.1), descend.GD(lr=late)], [0, 0], steps=9)


def test_an_interrupt_ends_all_after_the_step_at_hand(monkeypatch):
    asked = iter([False, False, True, *[True] * 9])
    monkeypatch.setattr(stacking, "interrupts", lambda: contextlib.nullcontext(lambda: next(asked)))
    found = descend.fit_many(descend.problems.load("diabetes"), [descend.GD(), descend.GD(lr=0.1)], [0, 1], steps=9)
    assert [(str(r.reason), r.nit, r.history.evaluations[-1].step) for r in found] == [("interrupted", 3, 3)] * 2


# ---- PyTorch ----------------------------------------------------------------------------------------------------


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
@pytest.mark.parametrize("seeds", [[0, 1, 2], [4, 4, 4]])
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


# ---- what is refused --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        ([descend.Adam(), descend.AdamW()], "the rules differ in kind: Adam and AdamW"),
        ([descend.SGD(momentum=0.9), descend.SGD(momentum=0.9, nesterov=True)], "the rules differ in nesterov"),
        ([descend.Adam(), descend.Adam(maximize=True)], "the rules differ in maximize: False and True"),
        ([descend.Adam(), descend.Adam(weight_decay=0.1)], "the rules differ in couples decay: False and True"),
        ([descend.SGD(), descend.SGD(momentum=0.9)], "state that they keep: none and momentum_buffer"),
    ],
)
def test_rules_that_do_not_stack_say_why(rules, reason):
    problem = descend.problems.load("diabetes")
    assert reason in stacking.stackable(problem, rules, 16)
    with pytest.raises(descend.errors.OptionError, match="the runs cannot be stacked"):
        descend.fit_many(problem, rules, [0, 0], steps=3)


def bowl(**options):
    given = {"start": lambda rng: rng.normal(size=3), "stacks": True, **options}
    return descend.Problem(**given)


@pytest.mark.parametrize(
    ("problem", "reason"),
    [
        (bowl(loss_and_grad=lambda x: (0.5 * x @ x, x), stacks=False), "no stacked gradient .stacks=True declares"),
        (bowl(loss=lambda x: np.vecdot(x, x)), "jac=None is for one run"),
        (bowl(loss_and_grad=lambda x: (0.5 * float(np.sum(x * x)), x)), r"shape \(\) for 2 runs: one real number"),
        (bowl(loss_and_grad=lambda x: (np.vecdot(x, x), x.reshape(-1, 3)[0])), r"gave shape \(3,\) for params"),
        (
            bowl(loss_and_grad=lambda x: (np.vecdot(x, x), x - x.mean())),
            "the stacked gradient is not that of each alone",
        ),
        (bowl(loss_and_grad=lambda x: (np.vecdot(x, x) * x.ndim, x)), "the stacked loss is not that of each alone"),
        (bowl(loss_and_grad=lambda x: (x @ x, x)), "stacked, the problem raised ObjectiveError: .*matmul"),
        (
            bowl(start=lambda rng: np.ones(rng.integers(1, 9)), loss_and_grad=lambda x: (np.vecdot(x, x), x)),
            "stacked, the problem raised ParameterError: the starts differ",
        ),
    ],
)
def test_problems_that_do_not_stack_say_why(problem, reason):
    with pytest.raises(descend.errors.OptionError, match=reason):
        descend.fit_many(problem, [descend.GD(), descend.GD()], [0, 1], steps=3)


def test_options_are_checked_as_those_of_fit():
    problem, rule = descend.problems.load("diabetes"), descend.GD()
    for rules, seeds, options, match in [
        ([], [], {}, "0 rules and 0 seeds"),
        ([rule], [0, 1], {}, "1 rules and 2 seeds"),
        ([rule], [-1], {}, "seed=-1"),
        ([rule], [0], {"steps": 1, "epochs": 1}, "give one of them"),
        ([rule], [0], {"evaluate_every": 0}, "evaluate_every=0"),
        ([rule], [0], {"batch_size": 10**6}, "larger than the training data"),
    ]:
        with pytest.raises(descend.errors.OptionError, match=match):
            descend.fit_many(problem, rules, seeds, **options)
    with pytest.raises(descend.errors.ProblemError, match="not a Problem"):
        descend.fit_many("digits", [rule], [0])
    with pytest.raises(descend.errors.ProblemError, match="stacks='yes' must be True or False"):
        bowl(loss=lambda x: 0.0, stacks="yes")


# ---- the parts --------------------------------------------------------------------------------------------------


def test_rows_are_the_memories_and_leave_them_when_they_are_not_kept():
    memories = [Memory({"w": np.full((2, 3), float(i)), "b": np.float32(i)}) for i in range(3)]
    rows = Rows(memories)
    assert {name: leaf.shape for name, leaf in rows.tree(copy=False).items()} == {"w": (3, 2, 3), "b": (3,)}
    rows.tree(copy=False)["w"][1] = 7.0
    assert memories[1].leaves[1].tolist() == [[7.0] * 3] * 2
    rows.keep([2, 0])
    rows.tree(copy=False)["b"][:] = 9.0
    assert [float(memory.result()["b"]) for memory in memories] == [9.0, 1.0, 9.0]
    assert [memory.result()["w"][0, 0] for memory in memories] == [0.0, 7.0, 2.0]


@pytest.mark.parametrize("kind", [Stack, FusedStack])
@pytest.mark.parametrize("name", ["adam", "nadam", "rprop"])
def test_a_stack_steps_as_engines_of_each_run(kind, name):
    rng = np.random.default_rng(0)
    rules = [dataclasses.replace(descend.rules.get(name)(), lr=lr) for lr in (0.1, 0.2, 0.1, 0.3)]
    params, grads = [rng.normal(size=(4, 5)), rng.normal(size=(4, 3)).astype(np.float32)], None
    grads = [np.zeros_like(p) for p in params]
    apart = [Reference(rule, [p[r].copy() for p in params]) for r, rule in enumerate(rules)]
    stack, left = kind(rules, params, grads), [0, 1, 2, 3]
    for step in range(12):
        if step in (4, 8):
            rows = [1, 2, 3] if step == 4 else [0, 2]
            left = [left[row] for row in rows]
            params, grads = [p[rows] for p in params], [g[rows] for g in grads]
            stack.keep(rows, params, grads)
        for g in grads:
            g[...] = rng.normal(size=g.shape)
        stack.step()
        for row, run in enumerate(left):
            apart[run].step([g[row] for g in grads])
            for p, expected in zip(params, apart[run].params, strict=True):
                np.testing.assert_array_equal(p[row], expected)


def test_loss_and_metric_at_once_is_what_both_are():
    problem = descend.problems.load("digits")
    one = problem.instance(0)
    both = one.measure(one.params, *problem.validation)
    assert both == (one.value(one.params, *problem.validation), problem.metric(one.params, *problem.validation))
    with pytest.raises(descend.errors.ProblemError, match="loss_and_metric= is given but no metric"):
        bowl(loss=lambda x: 0.0, loss_and_metric=lambda x: (0.0, 0.0))
