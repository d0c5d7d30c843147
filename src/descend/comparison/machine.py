"""The machine that a comparison runs on."""

from __future__ import annotations

import os
import platform

__all__ = ["cores", "machine"]


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> str:
    """System, processor and cores, for a report."""
    return f"{platform.system()} {platform.machine()}, {cores()} cores"
