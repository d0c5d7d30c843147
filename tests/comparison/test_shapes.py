"""A column of outputs beside a row of targets is refused before the first run; what is meant is not."""

import numpy as np
import pytest
import torch
from tests.comparison.comparing import SMALL, Y, line
from tests.problems.lines import X as THREE
from tests.problems.lines import Y as TARGETS
from tests.problems.lines import net
from torch.nn import functional

import descend
from descend.comparison.running.shapes import check_shapes
from descend.errors import ProblemError

COLUMN = Y[:, None]


def in_columns(w, X, y):
    return float(np.mean((X @ w - y) ** 2))


def start(rng):
    return rng.normal(size=(4, 1))


def slope(w, X, y):
    return 2 * X.T @ (X @ w - y) / len(y)


def ranked(w, X, y):
    """Each pair of examples, on purpose."""
    scores = X @ w
    return float(np.mean(np.maximum(0, 1 - (scores[:, None] - scores) * np.sign(y[:, None] - y))))


WRONG = {
    "row of targets": {"start": start, "loss": in_columns, "jac": "2-point"},
    "column of targets": {"loss": in_columns, "jac": "2-point", "data": (line().train[0], line().train[1][:, None])},
    "sum with its axis": {"loss": lambda w, X, y: float(np.mean((np.sum(X * w, axis=1, keepdims=True) - y) ** 2))},
    "in place": {
        "start": start,
        "loss": lambda w, X, y: float(np.mean(np.square(np.subtract(X @ w, y)))),
        "jac": "2-point",
    },
}
WRONG["metric alone"] = {
    "start": start,
    "loss": lambda w, X, y: float(np.mean(((X @ w)[:, 0] - y) ** 2)),
    "jac": "2-point",
    "metric": lambda w, X, y: float(np.mean(np.abs(X @ w - y))),
    "metric_name": "error",
}

RIGHT = {
    "rows": {},
    "columns": {"start": start, "loss": in_columns, "jac": slope, "data": (line().train[0], line().train[1][:, None])},
    "an axis taken off": {"start": start, "loss": lambda w, X, y: in_columns(w[:, 0], X, y), "jac": "2-point"},
    "pairs": {"loss": ranked, "jac": "2-point"},
    "pairs by reshape": {
        "metric": lambda w, X, y: float(np.mean(np.abs(y.reshape(-1, 1) - y))),
        "metric_name": "error",
    },
    "per example": {"loss": lambda w, X, y: float(np.mean((np.sum(X * w, axis=1) - y) ** 2))},
    "normalised rows": {"loss": lambda w, X, y: float(np.mean((X / np.sum(X**2, axis=1, keepdims=True) @ w - y) ** 2))},
}


@pytest.mark.parametrize("what", WRONG)
def test_a_column_beside_a_row_is_refused(what):
    """In NumPy, in the loss or in the metric, whichever of the two is the column."""
    part = "metric" if "metric" in what else "loss"
    with pytest.raises(ProblemError, match=rf"line: in its {part}, arrays of shapes \(N, 1\) and \(N,\) meet"):
        descend.compare(line(**WRONG[what]), ["gd"], **SMALL)


@pytest.mark.parametrize("what", RIGHT)
def test_arrays_that_belong_together_are_taken(what):
    """The same shape on both sides, an axis taken off, all pairs on purpose."""
    check_shapes(line(**RIGHT[what]), 0)


def module(options, model=None, loss=functional.mse_loss):
    data = {"data": (THREE, TARGETS), **options}
    return descend.TorchProblem(model or (lambda: torch.nn.Linear(3, 1)), loss, name="net", **data)


WRONG_IN_TORCH = {
    "mse_loss": lambda: module({}),
    "l1_loss": lambda: module({}, loss=functional.l1_loss),
    "huber_loss": lambda: module({}, loss=torch.nn.HuberLoss()),
    "by hand": lambda: module({}, loss=lambda output, y: ((output - y) ** 2).mean()),
    "column of targets": lambda: module(
        {"data": (THREE, TARGETS[:, None])},
        model=lambda: torch.nn.Sequential(torch.nn.Linear(3, 1), torch.nn.Flatten(0)),
    ),
    "metric": lambda: net(metric=lambda output, y: (output - y[:, 0]).abs().mean(), metric_name="error"),
}
RIGHT_IN_TORCH = {
    "columns": net,
    "an axis taken off": lambda: module({}, loss=lambda output, y: functional.mse_loss(output.squeeze(1), y)),
    "classes": lambda: module(
        {"data": (THREE, (TARGETS > 0).astype(int))}, model=lambda: torch.nn.Linear(3, 2), loss=functional.cross_entropy
    ),
    "pairs": lambda: module({}, loss=lambda output, y: (output - output.T - (y.unsqueeze(1) - y)).square().mean()),
}


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize("what", WRONG_IN_TORCH)
def test_a_column_beside_a_row_is_refused_in_torch(what):
    """By PyTorch's own losses, which expand both sides, and by arithmetic."""
    part = "metric" if what == "metric" else "loss"
    with pytest.raises(ProblemError, match=rf"net: in its {part}, arrays of shapes \(N, 1\) and \(N,\) meet"):
        descend.compare(WRONG_IN_TORCH[what](), ["gd"], **SMALL)


@pytest.mark.parametrize("what", RIGHT_IN_TORCH)
def test_tensors_that_belong_together_are_taken(what):
    """The same shape on both sides, classes beside scores, all pairs on purpose."""
    check_shapes(RIGHT_IN_TORCH[what](), 0)


def test_functions_that_take_no_arrays_of_another_class_are_not_blamed():
    """What raises on watched arrays says nothing of shapes."""

    def picky(w, X, y):
        if type(X) is not np.ndarray:
            raise TypeError("plain arrays, please")
        return in_columns(w, X, y)

    check_shapes(line(loss=picky), 0)
    assert COLUMN.shape == (100, 1)
