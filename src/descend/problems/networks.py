"""Models with hand-written, vectorised NumPy gradients. Each is a few functions over parameters and a batch.

Every loss is a mean over the batch. Rows of `X` are examples; `y` holds class numbers or targets. Parameters may have a
leading axis of runs: then every figure has it too, and the data are shared, as ``(B, n)``, or each run's own, as
``(R, B, n)``. What a run gets does not depend on how many others there are, to the bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from descend.parameters.memory import Array

__all__ = ["Linear", "Logistic", "Softmax", "TwoLayer"]

Params = Mapping[str, Array]
Figure = Any
"""A number or, of many runs, an array of one for each."""


class Linear:
    """Linear least squares: ½ mean (Xw + b − y)²."""

    def __init__(self, inputs: int) -> None:
        self.inputs = inputs

    def start(self, rng: np.random.Generator) -> dict[str, Array]:
        return {"w": 0.1 * rng.normal(size=self.inputs), "b": np.zeros(())}

    def predict(self, params: Params, X: Array) -> Array:
        return _affine(params, X)

    def loss(self, params: Params, X: Array, y: Array) -> Figure:
        residual = self.predict(params, X) - y
        return 0.5 * np.vecdot(residual, residual) / y.shape[-1]

    def loss_and_grad(self, params: Params, X: Array, y: Array) -> tuple[Figure, dict[str, Array]]:
        residual = self.predict(params, X) - y
        n = y.shape[-1]
        loss = 0.5 * np.vecdot(residual, residual) / n
        return loss, {"w": _weighted(residual, X) / n, "b": residual.sum(axis=-1) / n}

    def r2(self, params: Params, X: Array, y: Array) -> Figure:
        """Share of the variance of `y` that is explained; 1 is perfect."""
        residual = self.predict(params, X) - y
        return 1.0 - np.vecdot(residual, residual) / np.sum((y - y.mean(axis=-1, keepdims=True)) ** 2, axis=-1)


class Logistic:
    """Logistic regression for classes 0 and 1: mean log(1 + e^(−sz)) + ½ l2 ‖w‖², z = Xw + b, s = ±1."""

    def __init__(self, inputs: int, l2: float = 0.0) -> None:
        self.inputs = inputs
        self.l2 = l2

    def start(self, rng: np.random.Generator) -> dict[str, Array]:
        return {"w": 0.1 * rng.normal(size=self.inputs), "b": np.zeros(())}

    def _margin(self, params: Params, X: Array, y: Array) -> tuple[Array, Array]:
        sign = 2.0 * y - 1.0
        return sign, sign * _affine(params, X)

    def loss(self, params: Params, X: Array, y: Array) -> Figure:
        _, margin = self._margin(params, X, y)
        w = params["w"]
        return np.logaddexp(0.0, -margin).mean(axis=-1) + 0.5 * self.l2 * np.vecdot(w, w)

    def loss_and_grad(self, params: Params, X: Array, y: Array) -> tuple[Figure, dict[str, Array]]:
        sign, margin = self._margin(params, X, y)
        w = params["w"]
        softplus = np.logaddexp(0.0, -margin)
        slope = -sign * np.exp(-margin - softplus) / y.shape[-1]  # −s σ(−sz), without overflow
        loss = softplus.mean(axis=-1) + 0.5 * self.l2 * np.vecdot(w, w)
        return loss, {"w": _weighted(slope, X) + self.l2 * w, "b": slope.sum(axis=-1)}

    def accuracy(self, params: Params, X: Array, y: Array) -> Figure:
        """Share of examples on the right side."""
        return np.mean((_affine(params, X) > 0) == (y > 0.5), axis=-1)


class Softmax:
    """Softmax regression: mean cross-entropy of XW + b."""

    def __init__(self, inputs: int, classes: int) -> None:
        self.inputs, self.classes = inputs, classes

    def start(self, rng: np.random.Generator) -> dict[str, Array]:
        return {"W": 0.1 * rng.normal(size=(self.inputs, self.classes)), "b": np.zeros(self.classes)}

    def scores(self, params: Params, X: Array) -> Array:
        return _layer(X, params["W"], params["b"])

    def loss(self, params: Params, X: Array, y: Array) -> Figure:
        return _cross_entropy(self.scores(params, X), y)

    def loss_and_grad(self, params: Params, X: Array, y: Array) -> tuple[Figure, dict[str, Array]]:
        loss, slope = _cross_entropy_and_slope(self.scores(params, X), y)
        return loss, {"W": X.mT @ slope, "b": slope.sum(axis=-2)}

    def accuracy(self, params: Params, X: Array, y: Array) -> Figure:
        """Share of examples whose highest score is their class's."""
        return _accuracy(self.scores(params, X), y)

    def loss_and_accuracy(self, params: Params, X: Array, y: Array) -> tuple[Figure, Figure]:
        """Both, from one pass."""
        scores = self.scores(params, X)
        return _cross_entropy(scores, y), _accuracy(scores, y)


class TwoLayer:
    """A network with one hidden layer of rectified linear units and a softmax output; mean cross-entropy."""

    def __init__(self, inputs: int, hidden: int, classes: int) -> None:
        self.inputs, self.hidden, self.classes = inputs, hidden, classes

    def start(self, rng: np.random.Generator) -> dict[str, Array]:
        """He et al. 2015, eq. 10 for the hidden layer; 1/√fan-in for the output."""
        return {
            "W1": rng.normal(size=(self.inputs, self.hidden)) * np.sqrt(2.0 / self.inputs),
            "b1": np.zeros(self.hidden),
            "W2": rng.normal(size=(self.hidden, self.classes)) / np.sqrt(self.hidden),
            "b2": np.zeros(self.classes),
        }

    def _hidden(self, params: Params, X: Array) -> Array:
        hidden = _layer(X, params["W1"], params["b1"])
        return np.maximum(hidden, 0.0, out=hidden)

    def scores(self, params: Params, X: Array) -> Array:
        return _layer(self._hidden(params, X), params["W2"], params["b2"])

    def loss(self, params: Params, X: Array, y: Array) -> Figure:
        return _cross_entropy(self.scores(params, X), y)

    def loss_and_grad(self, params: Params, X: Array, y: Array) -> tuple[Figure, dict[str, Array]]:
        hidden = self._hidden(params, X)
        loss, slope = _cross_entropy_and_slope(_layer(hidden, params["W2"], params["b2"]), y)
        back = slope @ params["W2"].mT
        back *= hidden > 0.0
        return loss, {
            "W1": X.mT @ back,
            "b1": back.sum(axis=-2),
            "W2": hidden.mT @ slope,
            "b2": slope.sum(axis=-2),
        }

    accuracy = Softmax.accuracy
    loss_and_accuracy = Softmax.loss_and_accuracy


def _affine(params: Params, X: Array) -> Array:
    """Xw + b for every example."""
    return np.asarray((X @ params["w"][..., None])[..., 0] + params["b"][..., None])


def _weighted(by: Array, X: Array) -> Array:
    """The sum of all examples, each times its own number."""
    return np.asarray((by[..., None, :] @ X)[..., 0, :])


def _layer(X: Array, W: Array, b: Array) -> Array:
    """XW + b, in memory of its own."""
    out = X @ W
    out += b[..., None, :]
    return np.asarray(out)


def _places(scores: Array, y: Array) -> tuple[Array, Array]:
    """Where in ``scores.reshape(-1, classes)`` the scores of the examples' own classes are."""
    if y.ndim < scores.ndim - 1:  # one batch for all runs
        y = np.broadcast_to(y, scores.shape[:-1])
    return np.arange(y.size), y.reshape(-1)


def _accuracy(scores: Array, y: Array) -> Figure:
    return np.mean(scores.argmax(axis=-1) == y, axis=-1)


def _cross_entropy(scores: Array, y: Array) -> Figure:
    shifted = scores - scores.max(axis=-1, keepdims=True)
    own = shifted.reshape(-1, scores.shape[-1])[_places(scores, y)].reshape(scores.shape[:-1])
    return (np.log(np.exp(shifted).sum(axis=-1)).sum(axis=-1) - own.sum(axis=-1)) / y.shape[-1]


def _cross_entropy_and_slope(scores: Array, y: Array) -> tuple[Figure, Array]:
    """Mean cross-entropy, and its gradient with respect to the scores, in their memory."""
    n, places = y.shape[-1], _places(scores, y)
    scores -= scores.max(axis=-1, keepdims=True)
    flat = scores.reshape(-1, scores.shape[-1])
    own = flat[places].reshape(scores.shape[:-1])
    slope = np.exp(scores, out=scores)
    total = slope.sum(axis=-1)
    loss = (np.log(total).sum(axis=-1) - own.sum(axis=-1)) / n
    slope /= (total * n)[..., None]
    flat[places] -= 1.0 / n
    return loss, slope
