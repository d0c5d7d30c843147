"""Finished runs on disk, one row each, so that a comparison that was stopped goes on where it stopped."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from pathlib import Path
from types import TracebackType

from descend.comparison.plan import Plan, Task
from descend.comparison.runs import Run
from descend.errors import ComparisonError

__all__ = ["Store"]

SCHEMA = 1


class Store:
    """An SQLite file of runs, or nothing but memory when `path` is None.

    Rows are known by the plan's hash and the task's key; a row is written when its run ends, in a transaction of its
    own. Raises `ComparisonError` when the file cannot be written or is not such a store.
    """

    def __init__(self, path: Path | None, plan: Plan) -> None:
        self.path = path
        self.plan = plan.hash
        self._runs: dict[str, Run] = {}
        self._db: sqlite3.Connection | None = None
        if path is None:
            return
        try:
            self._db = sqlite3.connect(path, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            (found,) = self._db.execute("PRAGMA user_version").fetchone()
            if found not in (0, SCHEMA):
                raise ComparisonError(
                    f"{path} is a store of schema {found}, this descend writes schema {SCHEMA}; choose another --out"
                )
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS runs (plan TEXT, task TEXT, run TEXT NOT NULL, PRIMARY KEY (plan, task))"
            )
            self._db.execute(f"PRAGMA user_version={SCHEMA}")
            for task, run in self._db.execute("SELECT task, run FROM runs WHERE plan = ?", (self.plan,)):
                self._runs[task] = Run(**json.loads(run))
        except (sqlite3.Error, TypeError, ValueError) as error:
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
        if self._db is not None:
            self._db.close()
