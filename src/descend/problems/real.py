"""Problems on the real data that scikit-learn ships; nothing is downloaded.

Every split is 60 / 20 / 20 into train / validation / test, the same for everybody; what is used to scale the inputs
comes from the training part alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from descend.containers import Array
from descend.problems.networks import Linear, Logistic, Softmax, TwoLayer
from descend.problems.problem import Problem, Split, setting

__all__ = ["breast_cancer", "diabetes", "digits", "digits_softmax"]


def digits(hidden: int = 32) -> Problem:
    """1,797 images of handwritten digits, 8 × 8 pixels: a network with one hidden layer."""
    units = int(setting("digits", "hidden", hidden, least=1, most=10_000, whole=True, try_="32"))
    net = TwoLayer(inputs=64, hidden=units, classes=10)
    return _classifier("digits", digits, net, _digits())


def digits_softmax() -> Problem:
    """1,797 images of handwritten digits, 8 × 8 pixels: softmax regression, which is convex."""
    return _classifier("digits-softmax", digits_softmax, Softmax(inputs=64, classes=10), _digits())


def breast_cancer(l2: float = 1e-3) -> Problem:
    """569 tumours, 30 measures each, benign or malignant: logistic regression with a small L2 penalty."""
    from sklearn.datasets import load_breast_cancer

    l2 = setting("breast-cancer", "l2", l2, least=0, try_="0.001")
    X, y = load_breast_cancer(return_X_y=True)
    parts = _standardised(_three(X, y, stratify=True))
    return _classifier("breast-cancer", breast_cancer, Logistic(inputs=30, l2=l2), parts)


def diabetes() -> Problem:
    """442 patients, 10 measures each, disease progression: linear least squares with a known optimum."""
    from sklearn.datasets import load_diabetes

    X, y = load_diabetes(return_X_y=True)
    (X, y), *others = _standardised(_three(X, y, stratify=False))
    mean, std = y.mean(), y.std()
    train, *rest = [(X, (y - mean) / std), *((Xo, (yo - mean) / std) for Xo, yo in others)]
    model = Linear(inputs=10)
    design = np.column_stack([train[0], np.ones(len(train[1]))])
    best, *_ = np.linalg.lstsq(design, train[1], rcond=None)
    return Problem(
        name="diabetes",
        summary=_summary(diabetes),
        start=model.start,
        loss=model.loss,
        loss_and_grad=model.loss_and_grad,
        train=train,
        validation=rest[0],
        test=rest[1],
        metric=model.r2,
        metric_name="R²",
        higher_is_better=True,
        optimum=model.loss({"w": best[:-1], "b": best[-1]}, *train),
    )


def _digits() -> list[Split]:
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    return _three(X / 16.0, y, stratify=True)


def _three(X: Array, y: Array, *, stratify: bool) -> list[Split]:
    """60 % train, 20 % validation, 20 % test; with every class at its share if `stratify`."""
    from sklearn.model_selection import train_test_split

    options: dict[str, Any] = {"random_state": 0}
    X_train, X_rest, y_train, y_rest = train_test_split(
        X, y, test_size=0.4, stratify=y if stratify else None, **options
    )
    X_val, X_test, y_val, y_test = train_test_split(
        X_rest, y_rest, test_size=0.5, stratify=y_rest if stratify else None, **options
    )
    return [(X_train, y_train), (X_val, y_val), (X_test, y_test)]


def _standardised(parts: list[Split]) -> list[Split]:
    mean, std = parts[0][0].mean(axis=0), parts[0][0].std(axis=0)
    return [((X - mean) / std, y) for X, y in parts]


def _classifier(name: str, described_by: Any, model: Any, parts: list[Split]) -> Problem:
    return Problem(
        name=name,
        summary=_summary(described_by),
        start=model.start,
        loss=model.loss,
        loss_and_grad=model.loss_and_grad,
        train=parts[0],
        validation=parts[1],
        test=parts[2],
        metric=model.accuracy,
        metric_name="accuracy",
        higher_is_better=True,
    )


def _summary(function: Any) -> str:
    return str(function.__doc__).splitlines()[0].rstrip(".")
