"""Many runs as one program: each gets what it gets alone, whatever happens beside it."""

import dataclasses

import numpy as np
import pytest
from tests.training.stacks import alone, assert_identical, assert_same

import descend
from descend.descent.interrupts import Interrupts
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


@pytest.fixture
def machine_code(monkeypatch):
    """Let every stack step by machine code, as a large one does."""
    monkeypatch.setattr(choice, "RUNS", 10**9)


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
    stacks = [shape[0] for shape in widths if len(shape) == 2][2:]  # without the two trials of `stackable`
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

    class Third(Interrupts):
        """Ctrl-C is pressed in the third step."""

        def __call__(self):
            return next(asked)

    monkeypatch.setattr(stacking, "interruptible", lambda work: work(Third()))
    found = descend.fit_many(descend.problems.load("diabetes"), [descend.GD(), descend.GD(lr=0.1)], [0, 1], steps=9)
    assert [(str(r.reason), r.nit, r.history.evaluations[-1].step) for r in found] == [("interrupted", 3, 3)] * 2


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


@pytest.mark.parametrize("kind", [Stack, pytest.param(FusedStack, marks=pytest.mark.machine_code)])
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
