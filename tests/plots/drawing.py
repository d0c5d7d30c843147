"""What tests of plots share: problems, and how to read a figure."""

import numpy as np

from descend import Problem

RNG = np.random.default_rng(5)


X = RNG.normal(size=(60, 2))


Y = X @ np.array([1.0, -2.0])


def quartic():
    """x⁴ from starts of which some are too far out for a large step: gradient descent diverges from those."""
    return Problem(
        name="quartic",
        start=lambda rng: 3 * rng.normal(size=1),
        loss=lambda x: float(np.sum(x**4)),
        jac=lambda x: 4 * x**3,
        optimum=0.0,
    )


def line(**options):
    """A linear problem whose metric is to be high."""
    return Problem(
        name="line",
        start=lambda rng: rng.normal(size=2),
        loss=lambda w, X, y: float(np.mean((X @ w - y) ** 2)),
        jac=lambda w, X, y: 2 * X.T @ (X @ w - y) / len(y),
        data=(X, Y),
        metric=lambda w, X, y: -float(np.mean(np.abs(X @ w - y))),
        metric_name="score",
        higher_is_better=True,
        **options,
    )


def curve(run, column, worst, looks):
    """The values of a run at `looks`, the worst from where it has none."""
    seen = {look[0]: look[column] for look in run.curve}
    return [worst if seen.get(at) is None else seen[at] for at in looks]


def lines(figure):
    """The traces that the legend names."""
    return {trace.legendgroup: trace for trace in figure.data if trace.showlegend and trace.legendgroup != "chosen"}
