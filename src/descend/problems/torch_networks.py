"""What the built-in problems in PyTorch train. Imports torch; loaded when one of them is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from descend.problems.splits import Split
from descend.problems.torch_problem import TorchProblem

__all__ = ["characters", "cnn"]

ALPHABET = "\n" + "".join(map(chr, range(32, 127)))
"""Printable ASCII; any other character of a text is read as a space."""
TEXT = "pydoc_data.topics"
"""The standard library's module of Python's language reference, in English, as `help` shows it."""


def cnn(width: int, parts: Sequence[Split], summary: str) -> TorchProblem:
    """Images of 8 × 8 pixels in ten classes, two convolutions."""

    def model() -> nn.Module:
        return nn.Sequential(
            nn.Unflatten(1, (1, 8)),
            nn.Conv2d(1, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(2 * width * 16, 10),
        )

    train, validation, test = (_as_tensors(X.reshape(-1, 8, 8), y) for X, y in parts)
    return TorchProblem(
        model,
        nn.functional.cross_entropy,
        metric=_accuracy,
        train=train,
        validation=validation,
        test=test,
        metric_name="accuracy",
        higher_is_better=True,
        name="cnn",
        summary=summary,
    )


def characters(width: int, length: int, rows: int, summary: str) -> TorchProblem:
    """Rows of `length` characters, each of which has to foretell the next."""
    text = "\n".join(importlib.import_module(TEXT).topics.values())
    codes = np.array([max(0, ALPHABET.find(c)) if c in ALPHABET else 1 for c in text[: rows * length + 1]])
    rows = min(rows, (len(codes) - 1) // length)
    inputs, targets = codes[: rows * length].reshape(rows, length), codes[1 : rows * length + 1].reshape(rows, length)
    return TorchProblem(
        lambda: _Transformer(width, length),
        _next_character,
        metric=_bits,
        data=(torch.from_numpy(inputs.copy()), torch.from_numpy(targets.copy())),
        metric_name="bits a character",
        higher_is_better=False,
        name="characters",
        summary=summary,
    )


class _Transformer(nn.Module):  # type: ignore[misc]
    """Two layers of causal self-attention (Vaswani et al. 2017), normalised before each part."""

    mask: torch.Tensor

    def __init__(self, width: int, length: int) -> None:
        super().__init__()
        self.token = nn.Embedding(len(ALPHABET), width)
        self.place = nn.Parameter(0.02 * torch.randn(length, width))
        layer = nn.TransformerEncoderLayer(width, 4, 4 * width, 0.0, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.out = nn.Linear(width, len(ALPHABET))
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(length), persistent=False)

    def forward(self, x: torch.Tensor) -> Any:
        return self.out(self.layers(self.token(x) + self.place, mask=self.mask, is_causal=True))


def _next_character(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy over all characters of a batch."""
    return nn.functional.cross_entropy(output.flatten(0, 1), target.flatten())


def _bits(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The same in bits."""
    return _next_character(output, target) / float(np.log(2.0))


def _accuracy(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return (output.argmax(1) == target).float().mean()


def _as_tensors(X: Any, y: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor(X, dtype=torch.float32), torch.tensor(y)
