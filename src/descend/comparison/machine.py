"""The machine that a comparison runs on."""

from __future__ import annotations

import platform

from descend.engines import usable_cores

__all__ = ["machine"]


def machine() -> str:
    """System, processor and cores, for a report."""
    return f"{platform.system()} {platform.machine()}, {usable_cores()} cores"
