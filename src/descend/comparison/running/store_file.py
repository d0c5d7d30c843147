"""The file of a store: its schema, the checks that it is one, and what can be read of a damaged one."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from descend.comparison.running.written import sqlite_name
from descend.errors import ComparisonError

__all__ = ["MIGRATIONS", "Damaged", "checksum", "keys_of_valid_rows", "open_store", "run_of_key", "set_aside"]

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
    # A flipped bit in a figure was believed.
    """
    ALTER TABLE runs RENAME TO runs_of_schema_2;
    CREATE TABLE runs (
        key TEXT PRIMARY KEY, run TEXT NOT NULL, plan TEXT NOT NULL, task TEXT NOT NULL, versions TEXT NOT NULL,
        machine TEXT NOT NULL, finished TEXT NOT NULL, checksum TEXT NOT NULL
    );
    INSERT INTO runs SELECT *, checksum_of(key, run, plan, task, versions, machine, finished) FROM runs_of_schema_2;
    DROP TABLE runs_of_schema_2;
    CREATE TABLE owner (problem TEXT NOT NULL);
    """,
)
"""What brings a store of schema i to schema i + 1."""

LONGEST = 16 * 2**20
"""Bytes that a row may have: a run has a few thousand, and what a stranger made may fill the memory."""
CHECKED = 2**30
"""Bytes of a file up to which its pages are checked before the first run."""
MAGIC = b"SQLite format 3\x00"

Row = tuple[str, ...]
"""A row of the table `runs` but for its checksum."""
_ROWS = "SELECT key, run, plan, task, versions, machine, finished, checksum FROM runs"


class Damaged(Exception):
    """Pages of the file are not what SQLite wrote."""


def checksum(row: Iterable[str]) -> str:
    """A hash of what a row says."""
    return hashlib.sha256("\x00".join(row).encode(errors="surrogateescape")).hexdigest()


def open_store(path: Path) -> sqlite3.Connection:
    """A connection to a store, made or brought up to this version's schema.

    Raises `ComparisonError` for a file that is no store of runs, or one of a later version; `Damaged`; and the errors
    of SQLite.
    """
    with path.open("ab+") as file:  # as the user: it tells better than SQLite why it cannot be written
        file.seek(0)
        head = file.read(len(MAGIC))
    if head and head != MAGIC:
        raise ComparisonError(f"{path} cannot be used as a store: it is no SQLite file; {_ELSEWHERE}")
    db = _connected(path)
    try:
        _check_schema(db, path)
        db.execute("PRAGMA journal_mode=WAL")
        # What is written outlives the process; after a loss of power the last runs may be missing, and are made.
        db.execute("PRAGMA synchronous=NORMAL")
        _migrate(db)
        if path.stat().st_size <= CHECKED:
            (found,) = db.execute("PRAGMA integrity_check(1)").fetchone()
            if found != "ok":
                raise Damaged(" ".join(found.split()))
    except (sqlite3.Error, UnicodeDecodeError) as error:
        db.close()
        if _is_damage(error):
            raise Damaged(str(error)) from error
        raise
    except BaseException:
        db.close()
        raise
    return db


_ELSEWHERE = "move it away, or choose another folder (--out)"


def _connected(path: Path | str) -> sqlite3.Connection:
    """A connection in which no code that a file brings along is run."""
    db = sqlite3.connect(path, timeout=1.0, isolation_level=None)
    db.text_factory = lambda text: text.decode(errors="surrogateescape")  # damage is no error, but a wrong checksum
    db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST)
    db.execute("PRAGMA trusted_schema=OFF")
    db.execute("PRAGMA cell_size_check=ON")
    db.create_function("checksum_of", -1, lambda *row: checksum(map(str, row)), deterministic=True)
    return db


def _is_damage(error: Exception) -> bool:
    """Whether SQLite says that it met a page, or a schema, that it did not write; also in letters that are none."""
    if not isinstance(error, sqlite3.Error):
        return isinstance(error, UnicodeDecodeError)
    return sqlite_name(error).startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB"))


def _check_schema(db: sqlite3.Connection, path: Path) -> None:
    """Refuse a file of another program's, of a later version, or with anything in it that could run by itself."""
    (found,) = db.execute("PRAGMA user_version").fetchone()
    schema = _schema(db)
    if not schema and found == 0:
        return
    for kind, name, _ in schema:
        if kind in ("trigger", "view"):
            raise ComparisonError(
                f"{path} cannot be used as a store: it has a {kind} ({ascii(name)[:40]}), which none that descend made "
                f"has; {_ELSEWHERE}"
            )
    if found > len(MIGRATIONS) and (not schema or any(name == "runs" for _, name, _ in schema)):
        raise ComparisonError(
            f"{path} is a store of schema {found}, this descend knows schemas up to {len(MIGRATIONS)}; use a newer "
            "descend, or choose another --out"
        )
    for version in range(1, len(MIGRATIONS) + 1):
        if schema == _schema_of(version):
            if version != found:  # the number is damaged, and the tables are not
                db.execute(f"PRAGMA user_version={version}")
            return
    raise ComparisonError(f"{path} cannot be used as a store: it is an SQLite file of something else; {_ELSEWHERE}")


def _schema(db: sqlite3.Connection) -> list[tuple[str, str, str]]:
    """Kind, name and text of everything that is declared in a file, but for what SQLite makes itself, and old rows."""
    found = db.execute("SELECT type, name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'")
    parts = sorted((str(kind), str(name), " ".join(str(sql).split())) for kind, name, sql in found)
    return [part for part in parts if not (part[0] == "table" and part[1:] == _OLD_ROWS)]


_OLD_ROWS = (
    "runs_of_schema_1",
    'CREATE TABLE "runs_of_schema_1" (plan TEXT, task TEXT, run TEXT NOT NULL, PRIMARY KEY (plan, task))',
)


def _schema_of(version: int) -> list[tuple[str, str, str]]:
    """The schema of a version, as `_schema` tells it."""
    with contextlib.closing(_connected(":memory:")) as db:
        _migrate(db, version)
        return _schema(db)


def _migrate(db: sqlite3.Connection, to: int = len(MIGRATIONS)) -> None:
    """Bring a store to a schema."""
    (found,) = db.execute("PRAGMA user_version").fetchone()
    for version, change in enumerate(MIGRATIONS[found:to], found + 1):
        db.executescript(f"BEGIN IMMEDIATE; {change}; PRAGMA user_version={version}; COMMIT;")


def keys_of_valid_rows(db: sqlite3.Connection, wanted: Callable[[str], bool | None]) -> tuple[set[str], int]:
    """The keys of the rows that are what was written, and how many are not, which are deleted; raises `Damaged`.

    `wanted` says of a run's text whether its key belongs to them; None if the text is none that descend writes.
    """
    keys: set[str] = set()
    bad: list[int] = []
    try:
        for (number,) in db.execute("SELECT rowid FROM runs"):
            row = _row(db, "rowid", number)
            takes = None if row is None else wanted(row[1])
            if takes is None:
                bad.append(number)
            elif takes and row is not None:
                keys.add(row[0])
        if bad:
            with db:
                db.execute("BEGIN IMMEDIATE")
                db.executemany("DELETE FROM runs WHERE rowid = ?", [(number,) for number in bad])
    except (sqlite3.Error, UnicodeDecodeError) as error:
        if _is_damage(error):
            raise Damaged(str(error)) from error
        raise
    return keys, len(bad)


def run_of_key(db: sqlite3.Connection, key: str) -> str | None:
    """The run of a key as text; None if there is none that is what was written."""
    row = _row(db, "key", key)
    return None if row is None or row[0] != key else row[1]


def _row(db: sqlite3.Connection, by: str, value: Any) -> Row | None:
    """A row by its number or its key; None if it is not what was written, or longer than any that is."""
    try:
        found: Any = db.execute(f"{_ROWS} WHERE {by} = ?", (value,)).fetchone()
    except sqlite3.DataError:  # too long
        return None
    if found is None or not all(isinstance(part, str) for part in found):
        return None
    *row, told = found
    return tuple(row) if checksum(row) == told else None


def set_aside(path: Path) -> tuple[list[Row], Path]:
    """The rows of a damaged store that can be read still, and where the file itself is from now on."""
    rows: dict[str, Row] = {}
    if path.stat().st_size <= CHECKED:
        with contextlib.suppress(sqlite3.Error, UnicodeDecodeError), contextlib.closing(_connected(":memory:")) as db:
            db.deserialize(_padded(path.read_bytes()))
            for order in ("ASC", "DESC"):  # from both ends, up to where the damage is
                with contextlib.suppress(sqlite3.Error, UnicodeDecodeError):
                    for *row, told in db.execute(f"{_ROWS} ORDER BY rowid {order}"):
                        if all(isinstance(part, str) for part in row) and checksum(row) == told:
                            rows[row[0]] = tuple(row)
    aside = path.with_name(f"{path.name}.damaged")
    os.replace(path, aside)
    for name in ("-wal", "-shm", "-journal"):
        path.with_name(f"{path.name}{name}").unlink(missing_ok=True)
    return list(rows.values()), aside


def _padded(data: bytes) -> bytes:
    """A store as it can be read from memory: without a write-ahead log, and with as many pages as its head says.

    SQLite reads nothing of a file with fewer pages than that.
    """
    size = int.from_bytes(data[16:18], "big") or 1
    pages = int.from_bytes(data[28:32], "big")
    size = 65536 if size == 1 else size
    length = min(size * pages, CHECKED)
    return (data[:18] + b"\x01\x01" + data[20:]).ljust(length, b"\x00")
