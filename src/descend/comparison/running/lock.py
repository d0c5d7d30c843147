"""A lock on a folder: one process at a time works in it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

__all__ = ["locked"]


@contextlib.contextmanager
def locked(path: Path, announce: Callable[[str], Any]) -> Iterator[None]:
    """Hold the lock file `path`: nobody else does in the meantime, and it is let go however this process ends.

    Another process that holds it is waited for, which is announced. The file itself stays where it is: were it taken
    away, who waits for the old file and who makes a new one would both hold a lock.
    """
    import filelock

    lock = filelock.FileLock(path)
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        announce(f"Another process works in {path.parent}; waiting for it to end.")
        lock.acquire()
    except (OSError, NotImplementedError):
        if not path.parent.is_dir() or not _can_be_made(path):
            raise
        yield  # a file system that knows no locks
        return
    try:
        yield
    finally:
        lock.release()


def _can_be_made(path: Path) -> bool:
    """Whether it is not the file itself that is the trouble."""
    try:
        path.touch()
    except OSError:
        return False
    return True
