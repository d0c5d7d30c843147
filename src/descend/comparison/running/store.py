"""The store: finished runs on disk, so that a comparison that was stopped goes on where it stopped."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import platform
import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

from descend.code_hash import versions
from descend.comparison.planning.plan import Plan
from descend.comparison.planning.task import Task
from descend.comparison.running.lock import locked
from descend.comparison.running.runs import Run
from descend.errors import ComparisonError
from descend.stopping import Reason

__all__ = ["Store"]

MIGRATIONS = (
    "CREATE TABLE runs (plan TEXT, task TEXT, run TEXT NOT NULL, PRIMARY KEY (plan, task))",
    # Runs were known by their plan and their place in it. That cannot be turned into what a run is made of.
    """
    ALTER TABLE runs RENAME TO runs_of_schema_1;
    CREATE TABLE runs (
        key TEXT PRIMARY KEY, run TEXT NOT NULL, plan TEXT NOT NULL, task TEXT NOT NULL, versions TEXT NOT NULL,
        machine TEXT NOT NULL, finished TEXT NOT NULL
    );
    CREATE TABLE plans (hash TEXT PRIMARY KEY, plan TEXT NOT NULL);
    """,
)
"""What brings a store of schema i to schema i + 1."""


class Store:
    """An SQLite file of runs, or a store in memory when `path` is None.

    A row is a run: its outcome with its curve, the plan it was first made for, and where and when; it is written
    when the run ends, in a transaction of its own. A run is known by `Plan.key`, so that another plan with the same run
    finds it. The plan itself is written before its first run. One process at a time has a store: another one waits for
    it to end, and tells `announce` that it does, so that no run is made twice. Raises `ComparisonError` when the file
    cannot be written or is not such a store.
    """

    def __init__(self, path: Path | None, plan: Plan, announce: Callable[[str], Any]) -> None:
        self.path = path
        self.plan = plan
        self._hash = plan.hash
        self._outcomes: dict[str, dict[str, Any]] = {}
        self._kept: set[str] = set()
        self._keys: dict[Task, str] = {}
        self._db: sqlite3.Connection | None = None
        self._lock = contextlib.ExitStack()
        self._where = json.dumps(versions()), f"{platform.system()} {platform.machine()} {platform.node()}"
        if path is None:
            return
        try:
            self._lock.enter_context(locked(path.with_name(f"{path.name}.lock"), announce))
            self._db = sqlite3.connect(path, isolation_level=None)
            self._read(self._db, path)
        except ComparisonError:
            self.close()
            raise
        except (sqlite3.Error, OSError, TypeError, ValueError) as error:
            self.close()
            raise ComparisonError(
                f"{path} cannot be used as a store: {error}; make room if the disk is full, else choose another --out"
            ) from error

    def _read(self, db: sqlite3.Connection, path: Path) -> None:
        """Bring the file up to date, write the plan, and read every finished run."""
        db.execute("PRAGMA journal_mode=WAL")
        # What is written outlives the process; after a loss of power the last runs may be missing, and are made.
        db.execute("PRAGMA synchronous=NORMAL")
        _migrate(db, path)
        whole = json.dumps(self.plan.settings(), default=repr)
        db.execute("INSERT OR IGNORE INTO plans VALUES (?, ?)", (self._hash, whole))
        for key, run in db.execute("SELECT key, run FROM runs"):
            outcome = json.loads(run)
            if outcome["reason"] != str(Reason.KILLED):  # of a lack of memory, or of anything: it is made again
                self._outcomes[key] = outcome
        self._kept.update(self._outcomes)

    def key(self, task: Task) -> str:
        """`Plan.key`, remembered."""
        found = self._keys.get(task)
        if found is None:
            found = self._keys[task] = self.plan.key(task)
        return found

    def get(self, task: Task) -> Run | None:
        """The run of a task, if it is finished."""
        found = self._outcomes.get(self.key(task))
        return None if found is None else Run.of(task, found)

    def kept(self, task: Task) -> bool:
        """Whether the run of a task was there before."""
        return self.key(task) in self._kept

    def put(self, task: Task, run: Run) -> None:
        """Keep a finished run."""
        key, outcome = self.key(task), run.outcome()
        self._outcomes[key] = outcome
        if self._db is not None:
            what = json.dumps(dataclasses.asdict(task), default=repr)
            now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
            row = (key, json.dumps(outcome, allow_nan=False), self._hash, what, *self._where, now)
            try:
                self._db.execute("INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            except sqlite3.Error as error:
                raise ComparisonError(
                    f"{self.path} cannot be written: {error}; the {len(self._outcomes) - 1} runs before are kept"
                ) from error

    def forget(self, tasks: Iterable[Task]) -> None:
        """Forget the finished runs of some tasks: all of them, or none if that fails."""
        keys = set(map(self.key, tasks)) & self._outcomes.keys()
        if self._db is not None:
            try:
                with self._db:
                    self._db.execute("BEGIN")
                    self._db.executemany("DELETE FROM runs WHERE key = ?", [(key,) for key in keys])
            except sqlite3.Error as error:
                raise ComparisonError(f"{self.path} cannot be written: {error}; its runs are kept") from error
        for key in keys:
            del self._outcomes[key]
        self._kept -= keys

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
            self._db = None
        self._lock.close()


def _migrate(db: sqlite3.Connection, path: Path) -> None:
    """Bring a store to this version's schema; raises `ComparisonError` for one of a later version."""
    (found,) = db.execute("PRAGMA user_version").fetchone()
    if found > len(MIGRATIONS):
        raise ComparisonError(
            f"{path} is a store of schema {found}, this descend knows schemas up to {len(MIGRATIONS)}; use a newer "
            "descend, or choose another --out"
        )
    for version, change in enumerate(MIGRATIONS[found:], found + 1):
        db.executescript(f"BEGIN; {change}; PRAGMA user_version={version}; COMMIT;")
