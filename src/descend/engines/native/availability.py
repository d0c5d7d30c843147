"""Whether machine code can be used here: asked by every engine and optimizer that would use it, and answered once.

``DESCEND_MACHINE_CODE=0`` in the environment switches machine code off. The switch is read whenever somebody asks, so
it may be set in a running process; an engine that is made already keeps what it has. While it is set, llvmlite is not
imported.
"""

from __future__ import annotations

import functools
import os
import sys
import warnings
from typing import Any

from descend.engines.native import formats
from descend.engines.native.formats import Layout

__all__ = ["SWITCH", "Unavailable", "switched_off", "warn_once", "why_not"]

SWITCH = "DESCEND_MACHINE_CODE"
"""The environment variable whose value 0 switches machine code off."""


class Unavailable(Exception):
    """No machine code can be had here; the message says why. Engines then fall back to another one."""


def switched_off() -> bool:
    """Whether the user has switched machine code off."""
    return os.environ.get(SWITCH, "1").strip().lower() in ("0", "false", "off", "no")


def why_not(layout: Layout | None = None) -> str | None:
    """Why there can be no machine code on this machine, or none for this layout; None if there can."""
    if switched_off():
        return f"{SWITCH}={os.environ[SWITCH]} switches machine code off"
    reason = _why_no_llvm()
    if reason is None and layout is not None and "float16" in layout.arrays and not _has_float16():
        reason = "this processor has no float16"
    return reason


def warn_once(message: str, stacklevel: int = 2) -> None:
    """Warn that something goes on without machine code: once in a process for each message.

    Whoever has switched machine code off knows, and is not told.
    """
    if switched_off() or message in _SAID:
        return
    _SAID.add(message)
    warnings.warn(message, RuntimeWarning, stacklevel=stacklevel + 1)


_SAID: set[str] = set()
"""The warnings that this process has given."""


@functools.cache
def _why_no_llvm() -> str | None:
    """Why LLVM cannot be used; None if it can."""
    if sys.maxsize < 2**32 or sys.byteorder != "little" or os.name != "posix":
        return "machine code is made for 64-bit little-endian POSIX systems"
    try:
        llvm = _llvm()
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        llvm.create_pass_builder, llvm.create_pipeline_tuning_options  # noqa: B018  # what older versions lack
    except Exception as error:  # whatever a missing, damaged or too old library raises
        return f"llvmlite cannot be used ({type(error).__name__}: {error})"
    return None


def _llvm() -> Any:
    """The binding of LLVM."""
    import llvmlite.binding as llvm

    return llvm


@functools.cache
def _has_float16() -> bool:
    """Whether this processor converts float16 itself."""
    return formats.half_in_hardware(_llvm().get_host_cpu_features())
