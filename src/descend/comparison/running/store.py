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
from typing import Any, TypeVar

from descend.code_hash import versions
from descend.comparison.phrases import counted
from descend.comparison.planning.plan import Plan
from descend.comparison.planning.task import Task
from descend.comparison.running.lock import locked
from descend.comparison.running.runs import Run, is_outcome
from descend.comparison.running.store_file import (
    Damaged,
    checksum,
    keys_of_valid_rows,
    open_store,
    run_of_key,
    set_aside,
)
from descend.comparison.running.written import advice, refuse_link, sqlite_name
from descend.errors import ComparisonError
from descend.stopping import Reason

__all__ = ["Store"]

AGAIN = (str(Reason.KILLED), str(Reason.OVERDUE))
"""Reasons that say as much of the machine as of the run, which is made again by whoever gives the command again."""

_INSERT = "INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?)"

T = TypeVar("T")


class Store:
    """An SQLite file of runs, or a store in memory when `path` is None.

    A row is a run: its outcome with its curve, the plan it was first made for, where and when, and a checksum of all
    that; it is written when the run ends, in a transaction of its own. A run is known by `Plan.key`, so that another
    plan with the same run finds it. The plan itself is written before its first run. One process at a time has a store:
    another one waits for it to end, so that no run is made twice; a program other than descend that holds the file is
    waited for as well. `announce` is told, and also how many rows are damaged: these runs are made again. Raises
    `ComparisonError` when the file cannot be written or is not such a store.
    """

    def __init__(self, path: Path | None, plan: Plan, announce: Callable[[str], Any]) -> None:
        self.path, self.plan, self.announce = path, plan, announce
        self._outcomes: dict[str, dict[str, Any]] = {}
        self._kept: set[str] = set()
        self._keys: dict[Task, str] = {}
        self._db: sqlite3.Connection | None = None
        self._lock = contextlib.ExitStack()
        self._where = json.dumps(versions()), f"{platform.system()} {platform.machine()} {platform.node()}"
        if path is None:
            return
        try:
            for name in ("", "-wal", "-shm", "-journal"):
                refuse_link(path.with_name(f"{path.name}{name}"))
            self._lock.enter_context(locked(path.with_name(f"{path.name}.lock"), announce))
            self._open(path)
        except ComparisonError:
            self.close()
            raise
        except (sqlite3.Error, OSError) as error:
            self.close()
            raise ComparisonError(f"{path} cannot be used as a store: {error}; {advice(error)}") from error

    def _open(self, path: Path) -> None:
        """Open the file, or what can be read of a damaged one; write the plan, and find every finished run."""
        try:
            self._db = db = self._patiently(lambda: open_store(path))
            damaged = self._patiently(lambda: self._read(db))
        except Damaged as error:
            if self._db is not None:
                self._db.close()
            rows, aside = set_aside(path)
            self._db = db = self._patiently(lambda: open_store(path))
            db.executemany(_INSERT, [(*row, checksum(row)) for row in rows])
            self._read(db)
            self.announce(
                f"{path} is damaged ({error}): {counted(len(rows), 'finished run')} could be read, all others are made "
                f"again. The damaged file is kept as {aside}."
            )
        else:
            if damaged:
                runs = "a finished run is" if damaged == 1 else f"{damaged:,} finished runs are"
                self.announce(f"{path}: {runs} damaged (the checksum tells), and made again where needed.")
        whole = json.dumps(self.plan.settings(), default=repr)
        self._patiently(lambda: db.execute("INSERT OR IGNORE INTO plans VALUES (?, ?)", (self.plan.hash, whole)))

    def _read(self, db: sqlite3.Connection) -> int:
        """Find every finished run; returns how many rows are damaged, which are deleted."""
        self._kept, damaged = keys_of_valid_rows(db, _is_kept)
        return damaged

    def _patiently(self, act: Callable[[], T]) -> T:
        """What `act` returns; while another program holds the file, that is announced, and waited for."""
        told = False
        while True:
            try:
                return act()
            except sqlite3.OperationalError as error:
                if not sqlite_name(error).startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
                    raise
                if not told:
                    self.announce(f"Another program has locked {self.path}; waiting for it.")
                told = True

    def key(self, task: Task) -> str:
        """`Plan.key`, remembered."""
        found = self._keys.get(task)
        if found is None:
            found = self._keys[task] = self.plan.key(task)
        return found

    def get(self, task: Task) -> Run | None:
        """The run of a task, if it is finished."""
        key = self.key(task)
        found = self._outcomes.get(key)
        if found is None and key in self._kept and self._db is not None:
            with contextlib.suppress(sqlite3.Error, UnicodeDecodeError):  # gone since it was found: made again
                found = _parsed(run_of_key(self._db, key))
            if found is not None:
                self._outcomes[key] = found
        return None if found is None else Run.of(task, found)

    def kept(self, task: Task) -> bool:
        """Whether the run of a task was there before."""
        return self.key(task) in self._kept

    def put(self, task: Task, run: Run) -> None:
        """Keep a finished run."""
        key, outcome, before = self.key(task), run.outcome(), len(self._outcomes.keys() | self._kept)
        self._outcomes[key] = outcome
        if self._db is not None:
            what = json.dumps(dataclasses.asdict(task), default=repr)
            now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
            row = (key, json.dumps(outcome, allow_nan=False), self.plan.hash, what, *self._where, now)
            db = self._db
            try:
                self._patiently(lambda: db.execute(_INSERT, (*row, checksum(row))))
            except sqlite3.Error as error:
                raise ComparisonError(
                    f"{self.path} cannot be written: {error}; the {counted(before, 'run')} before are kept: "
                    f"{advice(error)}, and run the same command to go on"
                ) from error

    def owner(self) -> str | None:
        """The problem whose report lies beside the store, as `own` has been told; None if it was not."""
        if self._db is None:
            return None
        db = self._db
        found = self._patiently(lambda: db.execute("SELECT problem FROM owner").fetchone())
        return found[0] if found and isinstance(found[0], str) else None

    def own(self, problem: str) -> None:
        """Remember the problem whose report lies beside the store."""
        if self._db is not None:
            db = self._db
            with contextlib.suppress(sqlite3.Error):  # the report is written, and nothing else depends on it
                db.execute("DELETE FROM owner")
                db.execute("INSERT INTO owner VALUES (?)", (problem,))

    def forget(self, tasks: Iterable[Task]) -> None:
        """Forget the finished runs of some tasks: all of them, or none if that fails."""
        keys = set(map(self.key, tasks)) & (self._outcomes.keys() | self._kept)
        if self._db is not None:
            try:
                self._patiently(lambda: self._delete(keys))
            except sqlite3.Error as error:
                raise ComparisonError(
                    f"{self.path} cannot be written: {error}; its runs are kept: {advice(error)}"
                ) from error
        for key in keys:
            self._outcomes.pop(key, None)
        self._kept -= keys

    def _delete(self, keys: Iterable[str]) -> None:
        assert self._db is not None
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany("DELETE FROM runs WHERE key = ?", [(key,) for key in keys])

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


def _parsed(text: str | None) -> dict[str, Any] | None:
    """The outcome that a row holds; None if it is none that descend writes."""
    try:
        outcome = json.loads(text or "")
    except (ValueError, RecursionError):
        return None
    return outcome if is_outcome(outcome) else None


def _is_kept(text: str) -> bool | None:
    """Whether a run is not to be made again; None if its text is none that descend writes."""
    outcome = _parsed(text)
    return None if outcome is None else outcome["reason"] not in AGAIN
