"""A lock on a folder: one process at a time works in it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from descend.comparison.running.written import refuse_link

__all__ = ["locked"]


@contextlib.contextmanager
def locked(path: Path, announce: Callable[[str], Any]) -> Iterator[None]:
    """Hold the lock file `path` alone; the system releases it however this process ends.

    If another process holds it, that is announced, and waited for. The file itself is never removed: a process that
    waits for the old file and one that makes a new file would both hold a lock. A link in its place is refused.
    """
    import filelock

    refuse_link(path)
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
    """Whether the file can be written, so that only its lock is the trouble."""
    try:
        path.touch()
    except OSError:
        return False
    return True
