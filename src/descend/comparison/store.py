"""Finished runs on disk, one row each, so that a comparison that was stopped goes on where it stopped."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from descend.comparison.plan import Plan, Task
from descend.comparison.runs import Run
from descend.errors import ComparisonError

__all__ = ["Store"]

SCHEMA = 1


class Store:
    """An SQLite file of runs, or nothing but memory when `path` is None.

    Rows are known by the plan's hash and the task's key; a row is written when its run ends, in a transaction of its
    own. One process at a time has a store: another one waits for it to end, however it ends, and tells `announce` that
    it does, so that no run is made twice. Raises `ComparisonError` when the file cannot be written or is not such a
    store.
    """

    def __init__(self, path: Path | None, plan: Plan, announce: Callable[[str], Any] | None = None) -> None:
        self.path = path
        self.plan = plan.hash
        self._runs: dict[str, Run] = {}
        self._db: sqlite3.Connection | None = None
        self._lock: IO[str] | None = None
        if path is None:
            return
        try:
            self._lock = _locked(path.with_name(f"{path.name}.lock"), announce)
            self._db = sqlite3.connect(path, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            (found,) = self._db.execute("PRAGMA user_version").fetchone()
            if found not in (0, SCHEMA):
                self.close()
                raise ComparisonError(
                    f"{path} is a store of schema {found}, this descend writes schema {SCHEMA}; choose another --out"
                )
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS runs (plan TEXT, task TEXT, run TEXT NOT NULL, PRIMARY KEY (plan, task))"
            )
            self._db.execute(f"PRAGMA user_version={SCHEMA}")
            for task, run in self._db.execute("SELECT task, run FROM runs WHERE plan = ?", (self.plan,)):
                self._runs[task] = Run(**json.loads(run))
        except (sqlite3.Error, OSError, TypeError, ValueError) as error:
            self.close()
            raise ComparisonError(
                f"{path} cannot be used as a store: {error}; make room if the disk is full, else choose another --out"
            ) from error

    def __len__(self) -> int:
        return len(self._runs)

    def get(self, task: Task) -> Run | None:
        """The run of a task, if it is finished."""
        return self._runs.get(task.key)

    def put(self, task: Task, run: Run) -> None:
        """Keep a finished run."""
        self._runs[task.key] = run
        if self._db is not None:
            row = json.dumps(dataclasses.asdict(run), allow_nan=False)
            try:
                self._db.execute("INSERT OR REPLACE INTO runs VALUES (?, ?, ?)", (self.plan, task.key, row))
            except sqlite3.Error as error:
                raise ComparisonError(
                    f"{self.path} cannot be written: {error}; the {len(self) - 1} runs before are kept"
                ) from error

    def clear(self) -> None:
        """Forget the finished runs of this plan."""
        self._runs.clear()
        if self._db is not None:
            self._db.execute("DELETE FROM runs WHERE plan = ?", (self.plan,))

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let another process have the file."""
        if self._db is not None:
            self._db.close()
        if self._lock is not None:
            Path(self._lock.name).unlink(missing_ok=True)  # while it is locked: who waits for it sees that it is gone
            self._lock.close()


def _locked(path: Path, announce: Callable[[str], Any] | None) -> IO[str]:
    """A file that this process alone has locked, until it is closed or the process ends."""
    while True:
        file = path.open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if announce is not None:
                announce(f"Another process works in {path.parent}; waiting for it to end.")
                announce = None
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:  # a file system that knows no locks
            return file
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()  # it was another's, who is done and has taken it away
