"""Comparisons of runs that are made together with runs that are made one at a time."""

import numpy as np

import descend
from descend.parameters.memory import Memory


def alone(problem, rules, seeds, **options):
    return [
        descend.fit(problem, rule, seed=seed, keep_best=True, history=False, progress=False, **options)
        for rule, seed in zip(rules, seeds, strict=True)
    ]


def figures(result):
    evaluations = [
        (e.step, e.epoch, e.examples, e.batch_loss, e.validation_loss, e.validation_metric)
        for e in result.history.evaluations
    ]
    return np.array(
        [*np.ravel(evaluations), result.fun, result.validation_metric, result.test_metric, result.best.step]
    )


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
