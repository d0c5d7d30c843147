"""Standard output and standard error: the answer on the one, all else on the other, and readers that have gone."""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import sys
from collections.abc import Iterator
from typing import Any

__all__ = ["answer_kept_clean", "close_answer", "discard_answer", "prepare"]


class _Heedless(io.FileIO):
    """Standard error that nobody need read: what cannot be written is dropped, and the work goes on."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data) or 0
        except OSError:
            return memoryview(data).nbytes


def prepare() -> None:
    """Make both streams whole: one that was closed goes nowhere, and what a terminal cannot show becomes a mark."""
    for number in range(3):  # else the next file that is opened, such as a store, would be the standard output
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # takes the lowest number that is free
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None or _is_real(sys.stderr, 2):
        encoding = "utf-8" if sys.stderr is None else sys.stderr.encoding
        raw = _Heedless(2, "w", closefd=False)
        sys.stderr = io.TextIOWrapper(io.BufferedWriter(raw), encoding, "replace", line_buffering=True)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def _is_real(stream: object, number: int) -> bool:
    """Whether a stream is the process's own, rather than what a test or a host has put there."""
    try:
        return isinstance(stream, io.TextIOWrapper) and stream.fileno() == number
    except (OSError, ValueError):
        return False


@contextlib.contextmanager
def answer_kept_clean() -> Iterator[None]:
    """Send what is printed meanwhile to standard error, whoever prints it: a problem's file, a library, a worker."""
    if not _is_real(sys.stdout, 1):
        with contextlib.redirect_stdout(sys.stderr):
            yield
        return
    sys.stdout.flush()
    kept = os.dup(1)  # no other process inherits that one
    os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        _flush_all()
        os.dup2(kept, 1)
        os.close(kept)


def close_answer() -> None:
    """End the answer: what is printed from here on, such as at exit, goes to standard error."""
    sys.stdout.flush()
    if _is_real(sys.stdout, 1):
        os.dup2(2, 1)


def discard_answer() -> None:
    """Throw away what standard output still holds, so that Python does not fail on it as it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    with contextlib.suppress(OSError, ValueError):
        os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _flush_all() -> None:
    """Flush Python's standard output and the C library's, which has a buffer of its own."""
    if sys.__stdout__ is not None:
        sys.__stdout__.flush()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).fflush(None)
