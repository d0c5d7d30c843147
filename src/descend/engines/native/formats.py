"""The number formats that memory may hold, and the arithmetic that each asks for."""

from __future__ import annotations

import dataclasses
import platform
from typing import Any

__all__ = ["FORMATS", "Format", "Layout", "arithmetic"]


@dataclasses.dataclass(frozen=True)
class Format:
    """One format of floating-point numbers in memory."""

    name: str
    bytes: int


FORMATS = {f.name: f for f in (Format("float64", 8), Format("float32", 4), Format("bfloat16", 2), Format("float16", 2))}


@dataclasses.dataclass(frozen=True)
class Layout:
    """In which formats a kernel finds the parameter, its gradient and each state that is kept, by names."""

    param: str
    grad: str
    state: tuple[str, ...]

    @property
    def arrays(self) -> tuple[str, ...]:
        """The format of every array, in the order in which a span points to them."""
        return (self.param, self.grad, *self.state)

    @property
    def bytes(self) -> int:
        """Bytes that one step moves for one parameter: all read, all but the gradient written."""
        sizes = [FORMATS[name].bytes for name in self.arrays]
        return 2 * sum(sizes) - sizes[1]


def arithmetic(layout: Layout) -> str:
    """The format in which a step is computed: float64 if the parameter is, else float32."""
    return "float64" if layout.param == "float64" else "float32"


def half_in_hardware(features: dict[str, Any]) -> bool:
    """Whether this processor converts float16 itself; without, a kernel would call a function for each number."""
    return platform.machine().lower() in ("arm64", "aarch64") or bool(features.get("f16c"))
