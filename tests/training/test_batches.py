"""Batches: each example once an epoch, in an order that seed and epoch decide."""

import numpy as np
import pytest
from tests.training.lines import line

import descend
from descend.errors import OptionError
from descend.training.batches import Batches


@pytest.mark.parametrize(
    ("size", "batch_size"),
    [(n, b) for n in (1, 2, 31, 100) for b in (1, 2, 7, 32, 100, "full") if b == "full" or b <= n],
)
def test_each_epoch_sees_each_example_once(size, batch_size):
    """Whatever the batch size: none lost, none doubled, the last batch shorter."""
    batches = Batches(size, batch_size, seed=3)
    for epoch in range(3):
        rows = [np.arange(size)[batches.rows(epoch * batches.per_epoch + i)] for i in range(batches.per_epoch)]
        assert sorted(np.concatenate(rows).tolist()) == list(range(size))
        assert all(len(r) == batches.batch_size for r in rows[:-1])


def test_the_order_is_a_function_of_seed_and_epoch():
    """The same seed gives the same order, whatever was asked before; other seeds and epochs give other orders."""
    one, two = Batches(50, 10, seed=1), Batches(50, 10, seed=1)
    assert one.rows(7).tolist() == [two.rows(s).tolist() for s in (3, 9, 7)][-1]
    assert one.rows(0).tolist() != one.rows(5).tolist()
    assert one.rows(0).tolist() != Batches(50, 10, seed=2).rows(0).tolist()


def test_every_batch_size_sees_the_same_order_of_examples():
    """SGD and mini-batches at one seed go through the examples in the same order."""
    single, tens = Batches(50, 1, seed=4), Batches(50, 10, seed=4)
    assert [int(single.rows(s)[0]) for s in range(50)] == np.concatenate([tens.rows(s) for s in range(5)]).tolist()


def test_steps_and_examples_are_inverse():
    """steps(e) is the largest number of steps that see at most e examples."""
    for size, batch in ((10, 3), (10, 10), (7, 1), (9, 4)):
        batches = Batches(size, batch, 0)
        seen = [len(np.arange(size)[batches.rows(s)]) for s in range(40)]
        for steps in range(40):
            assert batches.examples(steps) == sum(seen[:steps])
        for examples in range(30):
            steps = batches.steps(examples)
            assert sum(seen[:steps]) <= examples < sum(seen[: steps + 1])


def test_one_epoch_of_sgd_shows_each_sample_to_the_loss_once():
    """batch_size=1, one epoch: the loss is called with each training row exactly once."""
    seen = []
    problem = line(
        loss_and_grad=lambda w, X, y: (seen.append(X.copy()), (0.0, np.zeros(3)))[1],
        loss=lambda w, X, y: 0.0,
    )
    result = descend.fit(problem, "gd", epochs=1, batch_size=1)
    assert result.nit == result.examples == problem.size == len(seen)
    assert sorted(map(tuple, np.concatenate(seen))) == sorted(map(tuple, problem.train[0]))


def test_a_single_example_left_over_joins_the_batch_before():
    """Where a problem needs two examples, no epoch ends with one, and none is lost; counts agree with the rows."""
    for size, batch_size in [(33, 32), (33, 16), (7, 3), (9, 2), (8, 3), (6, 3)]:
        batches = Batches(size, batch_size, seed=3, least=2)
        steps = 3 * batches.per_epoch
        rows = [batches.rows(step) for step in range(steps)]
        assert min(map(len, rows)) >= 2
        epochs = np.concatenate(rows).reshape(3, size)
        assert [sorted(epoch.tolist()) for epoch in epochs] == [list(range(size))] * 3
        ends = [0, *np.cumsum([len(r) for r in rows]).tolist()]
        assert [batches.examples(step) for step in range(steps + 1)] == ends
        for examples in range(ends[-1]):
            assert batches.steps(examples) == sum(end <= examples for end in ends[1:])
    with pytest.raises(OptionError, match=r"batch_size=1: .* need 2 examples at least"):
        Batches(10, 1, 0, least=2)
