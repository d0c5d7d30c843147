"""Models with hand-written, vectorised NumPy gradients. Each is a pair of functions over parameters and a batch.

Every loss is a mean over the batch. Rows of `X` are examples; `y` holds class numbers or targets.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from descend.containers import Array

__all__ = ["Linear", "Logistic", "Softmax", "TwoLayer"]

Params = Mapping[str, Array]


class Linear:
    """Linear least squares: ½ mean (Xw + b − y)²."""

    def __init__(self, inputs: int) -> None:
        self.inputs = inputs

    def start(self, rng: np.random.Generator) -> dict[str, Array]:
        return {"w": 0.1 * rng.normal(size=self.inputs), "b": np.zeros(())}

    def predict(self, params: Params, X: Array) -> Array:
        return np.asarray(X @ params["w"] + params["b"])

    def loss(self, params: Params, X: Array, y: Array) -> float:
        residual = self.predict(params, X) - y
        return 0.5 * float(residual @ residual) / len(y)

    def loss_and_grad(self, params: Params, X: Array, y: Array) -> tuple[float, dict[str, Array]]:
        residual = self.predict(params, X) - y
        n = len(y)
        return 0.5 * float(residual @ residual) / n, {"w": residual @ X / n, "b": residual.sum() / n}

    def r2(self, params: Params, X: Array, y: Array) -> float:
        """Share of the variance of `y` that is explained; 1 is perfect."""
        residual = self.predict(params, X) - y
        return 1.0 - float(residual @ residual) / float(np.sum((y - y.mean()) ** 2))


class Logistic:
    """Logistic regression for classes 0 and 1: mean log(1 + e^(−sz)) + ½ l2 ‖w‖², z = Xw + b, s = ±1."""

    def __init__(self, inputs: int, l2: float = 0.0) -> None:
        self.inputs = inputs
        self.l2 = l2

    def start(self, rng: np.random.Generator) -> dict[str, Array]:
        return {"w": 0.1 * rng.normal(size=self.inputs), "b": np.zeros(())}

    def _margin(self, params: Params, X: Array, y: Array) -> tuple[Array, Array]:
        sign = 2.0 * y - 1.0
        return sign, sign * (X @ params["w"] + params["b"])

    def loss(self, params: Params, X: Array, y: Array) -> float:
        _, margin = self._margin(params, X, y)
        w = params["w"]
        return float(np.logaddexp(0.0, -margin).mean()) + 0.5 * self.l2 * float(w @ w)

    def loss_and_grad(self, params: Params, X: Array, y: Array) -> tuple[float, dict[str, Array]]:
        sign, margin = self._margin(params, X, y)
        w = params["w"]
        softplus = np.logaddexp(0.0, -margin)
        slope = -sign * np.exp(-margin - softplus) / len(y)  # −s σ(−sz), without overflow
        loss = float(softplus.mean()) + 0.5 * self.l2 * float(w @ w)
        return loss, {"w": slope @ X + self.l2 * w, "b": slope.sum()}

    def accuracy(self, params: Params, X: Array, y: Array) -> float:
        """Share of examples on the right side."""
        return float(np.mean((X @ params["w"] + params["b"] > 0) == (y > 0.5)))


class Softmax:
    """Softmax regression: mean cross-entropy of XW + b."""

    def __init__(self, inputs: int, classes: int) -> None:
        self.inputs, self.classes = inputs, classes

    def start(self, rng: np.random.Generator) -> dict[str, Array]:
        return {"W": 0.1 * rng.normal(size=(self.inputs, self.classes)), "b": np.zeros(self.classes)}

    def scores(self, params: Params, X: Array) -> Array:
        return np.asarray(X @ params["W"] + params["b"])

    def loss(self, params: Params, X: Array, y: Array) -> float:
        return _cross_entropy(self.scores(params, X), y)

    def loss_and_grad(self, params: Params, X: Array, y: Array) -> tuple[float, dict[str, Array]]:
        loss, slope = _cross_entropy_and_slope(self.scores(params, X), y)
        return loss, {"W": X.T @ slope, "b": slope.sum(axis=0)}

    def accuracy(self, params: Params, X: Array, y: Array) -> float:
        """Share of examples whose highest score is their class's."""
        return float(np.mean(self.scores(params, X).argmax(axis=1) == y))


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

    def scores(self, params: Params, X: Array) -> Array:
        return np.asarray(np.maximum(X @ params["W1"] + params["b1"], 0.0) @ params["W2"] + params["b2"])

    def loss(self, params: Params, X: Array, y: Array) -> float:
        return _cross_entropy(self.scores(params, X), y)

    def loss_and_grad(self, params: Params, X: Array, y: Array) -> tuple[float, dict[str, Array]]:
        hidden = np.maximum(X @ params["W1"] + params["b1"], 0.0)
        loss, slope = _cross_entropy_and_slope(hidden @ params["W2"] + params["b2"], y)
        back = (slope @ params["W2"].T) * (hidden > 0.0)
        return loss, {
            "W1": X.T @ back,
            "b1": back.sum(axis=0),
            "W2": hidden.T @ slope,
            "b2": slope.sum(axis=0),
        }

    accuracy = Softmax.accuracy


def _cross_entropy(scores: Array, y: Array) -> float:
    shifted = scores - scores.max(axis=1, keepdims=True)
    own = shifted[np.arange(len(y)), y]
    return float(np.log(np.exp(shifted).sum(axis=1)).sum() - own.sum()) / len(y)


def _cross_entropy_and_slope(scores: Array, y: Array) -> tuple[float, Array]:
    """Mean cross-entropy, and its gradient with respect to the scores."""
    n = len(y)
    rows = np.arange(n)
    scores -= scores.max(axis=1, keepdims=True)
    own = scores[rows, y]
    slope = np.exp(scores, out=scores)
    total = slope.sum(axis=1)
    loss = float(np.log(total).sum() - own.sum()) / n
    slope /= (total * n)[:, None]
    slope[rows, y] -= 1.0 / n
    return loss, slope
