"""How many steps a training makes, and after which of them it evaluates."""

import math

import numpy as np
import pytest
from tests.training.lines import line

import descend
from descend import Reason, problems
from descend.errors import OptionError
from descend.training.batches import Batches


def test_budgets_are_kept():
    """Epochs (a fraction too), steps, examples; the last is never exceeded."""
    problem = line()
    n = problem.size
    assert descend.fit(problem, "gd", epochs=2, batch_size=10).nit == 2 * math.ceil(n / 10)
    assert descend.fit(problem, "gd", epochs=0.5, batch_size=1).nit == n // 2
    assert descend.fit(problem, "gd", steps=7).nit == 7
    result = descend.fit(problem, "gd", examples=25, batch_size=10)
    assert (result.nit, result.examples) == (2, 20)
    assert descend.fit(problem, "gd", max_seconds=0.2, epochs=10**6).reason is Reason.MAX_SECONDS


@pytest.mark.parametrize(("size", "every"), [(8, 50), (7, 50), (60, 50), (100, 130), ("full", 50), (1, 33), (13, 1)])
def test_evaluations_by_gradient_evaluations(size, every):
    """After the first step at or beyond each multiple, whatever the batch: counted here along the steps."""
    problem, rule = problems.load("diabetes"), descend.GD(lr=0.01)
    options = {"epochs": 3, "batch_size": size, "evaluate_every_examples": every}
    result = descend.fit(problem, rule, **options)
    batches = Batches(problem.size, size, 0)
    seen, expected = 0, [0]
    for step in range(3 * batches.per_epoch):
        before, seen = seen, seen + len(np.arange(problem.size)[batches.rows(step)])
        if seen // every > before // every or step == 3 * batches.per_epoch - 1:
            expected.append(seen)
    assert [one.examples for one in result.history.evaluations] == expected
    for stacked in descend.fit_many(problem, [rule, descend.GD(lr=1e9)], [0, 1], **options)[:1]:
        assert [one.examples for one in stacked.history.evaluations] == expected


def test_evaluations_are_asked_for_in_one_way():
    """Steps or gradient evaluations, not both; without data a step is one evaluation."""
    with pytest.raises(OptionError, match="evaluate_every=3 and evaluate_every_examples=30 both say when to evaluate"):
        descend.fit(line(), "gd", evaluate_every=3, evaluate_every_examples=30)
    with pytest.raises(OptionError, match="evaluate_every_examples=0: a whole number ≥ 1"):
        descend.fit(line(), "gd", evaluate_every_examples=0)
    found = descend.fit(problems.load("booth"), "gd", steps=7, evaluate_every_examples=3).history.evaluations
    assert [evaluation.step for evaluation in found] == [0, 3, 6, 7]


def test_evaluations_are_where_they_are_asked_for():
    """Start, every evaluate_every steps, and the end; losses and metrics are those of a plain computation."""
    problem = line()
    result = descend.fit(problem, descend.GD(lr=0.05), steps=7, evaluate_every=3)
    found = result.history.evaluations
    assert [e.step for e in found] == [0, 3, 6, 7]
    assert found[-1].validation_loss == pytest.approx(
        float(np.mean((problem.validation[0] @ result.x - problem.validation[1]) ** 2))
    )
    assert found[1].batch_loss == pytest.approx(np.mean(result.history.loss[:3]))
    assert math.isnan(found[0].batch_loss)
    assert result.validation_metric == found[-1].validation_metric
    assert result.test_metric == pytest.approx(float(np.mean((problem.test[0] @ result.x - problem.test[1]) ** 2)))
    assert result.fun == pytest.approx(float(np.mean((problem.train[0] @ result.x - problem.train[1]) ** 2)))


def test_the_end_is_evaluated_however_it_came():
    """Out of time in mid-epoch with keep_best: the training until then is not thrown away."""
    result = descend.fit(
        line(), descend.GD(lr=0.05), batch_size=1, epochs=10**6, evaluate_every=10**7, keep_best=True, max_seconds=0.3
    )
    assert result.reason is Reason.MAX_SECONDS
    assert [e.step for e in result.history.evaluations] == [0, result.nit]
    assert result.fun < 0.05


def test_evaluations_are_timed_from_the_first():
    """Seconds since the call began: a number at the start, too, and none of them beyond the result's."""
    result = descend.fit(line(), "gd", epochs=3)
    times = [e.seconds for e in result.history.evaluations]
    assert times[0] > 0
    assert times == sorted(times)
    assert times[-1] <= result.seconds


def test_evaluations_are_thinned_evenly():
    """Beyond the limit every second one goes; the newest is always there."""
    history = descend.History(limit=8)
    for step in range(41):
        history.record_evaluation(descend.Evaluation(step, 0.0, 0, 0.0, 0.0, 0.0, 0.0))
    assert [e.step for e in history.evaluations] == [0, 8, 16, 24, 32, 40]
    history.record_evaluation(descend.Evaluation(41, 0.0, 0, 0.0, 0.0, 0.0, 0.0))
    assert [e.step for e in history.evaluations] == [0, 8, 16, 24, 32, 40, 41]
