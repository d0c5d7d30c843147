"""What PyTorch computes, watched for a column of N numbers and a row of N that make a square of N × N."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["Watch"]


class Watch(TorchDispatchMode):  # type: ignore[misc]
    """Notes in `met` when tensors of shapes (count, 1) and (count,) become one of (count, count).

    Arithmetic does that in one operation, and losses of PyTorch's by expanding both to the same shape. A column that
    was made by adding an axis is meant.
    """

    def __init__(self, count: int, met: list[bool]) -> None:
        super().__init__()
        self.column, self.row, self.square = (count, 1), (count,), (count, count)
        self.met = met
        self._meant: dict[int, torch.Tensor] = {}
        self._expanded: set[tuple[int, ...]] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        given = [value for value in args if isinstance(value, torch.Tensor)]
        if isinstance(made, torch.Tensor):
            self._look(func.overloadpacket.__name__, given, made)
        return made

    def _look(self, name: str, given: list[torch.Tensor], made: torch.Tensor) -> None:
        meant = any(id(tensor) in self._meant for tensor in given)
        if tuple(made.shape) in (self.column, self.row) and (meant or name == "unsqueeze"):
            self._meant[id(made)] = made  # kept, so that no other tensor gets its id
        shapes = {tuple(tensor.shape) for tensor in given}
        if tuple(made.shape) != self.square or meant:
            return
        if name == "expand":
            self._expanded |= shapes
            shapes = self._expanded
        if shapes >= {self.column, self.row}:
            self.met.append(True)
