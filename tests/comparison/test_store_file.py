"""The file of a store: damaged, of a stranger's, of other programs, behind links, on a full disk."""

import contextlib
import errno
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading

import numpy as np
import pytest
from tests.comparison.comparing import SMALL, run_of
from tests.processes import PATIENCE

import descend
from descend import Problem
from descend.comparison.experiment import Experiment
from descend.comparison.options import CompareOptions
from descend.comparison.running import store_file
from descend.comparison.running.store import Store
from descend.comparison.running.store_file import checksum
from descend.comparison.running.written import advice
from descend.errors import ComparisonError, OptionError

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n"
OPTIONS = {**SMALL, "budget": 60, "tuning_seeds": 1}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder of a finished comparison, and the comparison."""
    folder = tmp_path_factory.mktemp("made")
    return folder, descend.compare("booth", ["gd", "adam"], **OPTIONS, out=folder)


@pytest.fixture
def folder(made, tmp_path):
    """A copy of that folder, to be damaged."""
    return shutil.copytree(made[0], tmp_path / "copy")


@pytest.fixture(scope="module")
def plan():
    """The plan of that comparison."""
    return Experiment("booth", ["gd", "adam"], CompareOptions(**OPTIONS)).plan


def again(folder, **options):
    """The same comparison once more, and what is told of the store."""
    said = []
    found = descend.compare("booth", ["gd", "adam"], **{**OPTIONS, "out": folder, "announce": said.append, **options})
    return found, [text for text in said if "runs.sqlite" in text]


def read(folder, plan):
    """What a store has of the plan's runs, and what is told of it."""
    said = []
    with contextlib.closing(Store(folder / "runs.sqlite", plan, said.append)) as store:
        return {store.key(task): run for task in plan.possible() if (run := store.get(task)) is not None}, said


def change(folder, sql, *values):
    """Change the store behind descend's back."""
    with contextlib.closing(sqlite3.connect(folder / "runs.sqlite", isolation_level=None)) as db:
        db.execute(sql, values)


@pytest.mark.parametrize(
    "change_of_run",
    [
        "replace(run, '\"examples\":', '\"examples\";')",
        "replace(run, '\"reason\"', '\"season\"')",
        "replace(run, '\"curve\"', '\"curvf\"')",
        "replace(run, '1', '2')",
        "'[' || run",
        "''",
        "CAST(run AS BLOB)",
        "CAST(x'80ff' AS TEXT)",
        "5",
    ],
)
def test_a_damaged_row_is_lost_alone_and_said(folder, plan, change_of_run):
    """A character, a field's name, a digit, another type, no text: all other runs are there."""
    truth, said = read(folder, plan)
    assert not said
    change(folder, f"UPDATE runs SET run = {change_of_run} WHERE rowid = 3")
    found, (said,) = read(folder, plan)
    assert found.items() < truth.items()
    assert len(found) == len(truth) - 1
    assert said.endswith("runs.sqlite: a finished run is damaged (the checksum tells), and made again where needed.")
    assert read(folder, plan) == (found, [])


def test_a_damaged_run_is_made_again(made, folder):
    """The same command ends with the same table."""
    change(folder, "UPDATE runs SET run = replace(run, '1', '2') WHERE rowid IN (3, 5)")
    found, (said,) = again(folder)
    assert (found.reused, found.rows) == (len(found.runs) - 2, made[1].rows)
    assert "2 finished runs are damaged" in said


@pytest.mark.parametrize(
    "outcome",
    [
        {"validation": None},
        {"validation": "0.5"},
        {"curve": [[1, 2]]},
        {"curve": [[1, 2, 1e400]]},
        {"seconds": True},
        {"miss": 0},
        {"more": 1},
        {"message": ["a"]},
        "[" * 100_000,
        "{}",
    ],
)
def test_a_row_that_descend_never_writes_is_lost(folder, plan, outcome):
    """The checksum is right, but what it is of is no outcome of a run; JSON that exhausts the stack of its reader."""
    truth, _ = read(folder, plan)
    with contextlib.closing(sqlite3.connect(folder / "runs.sqlite")) as db:
        *row, _ = db.execute("SELECT * FROM runs WHERE rowid = 2").fetchone()
    row[1] = outcome if isinstance(outcome, str) else json.dumps(json.loads(row[1]) | outcome)
    change(folder, "UPDATE runs SET run = ?, checksum = ? WHERE rowid = 2", row[1], checksum(row))
    found, said = read(folder, plan)
    assert (len(found), len(said)) == (len(truth) - 1, 1)
    assert found.items() < truth.items()


def flipped(path, bits, rng):
    """Flip random bits of a file."""
    data = bytearray(path.read_bytes())
    for bit in rng.integers(0, 8 * len(data), size=bits):
        data[bit // 8] ^= 1 << int(bit % 8)
    path.write_bytes(data)


@pytest.mark.parametrize("bits", [1, pytest.param(1, marks=pytest.mark.slow), pytest.param(20, marks=pytest.mark.slow)])
def test_no_flipped_bit_is_believed(folder, tmp_path, plan, bits, request):
    """Random bits over all pages: what the store has is what was written, or it is gone, or it is refused in words."""
    whole, rng = folder / "runs.sqlite", np.random.default_rng(bits)
    truth, _ = read(folder, plan)
    assert len(truth) > 10
    slow = request.node.get_closest_marker("slow")
    lost, refusals = 0, []
    trials = 300 if slow else 25
    for i in range(trials):
        (tmp_path / str(i)).mkdir()
        path = tmp_path / str(i) / "runs.sqlite"
        shutil.copy(whole, path)
        flipped(path, bits, rng)
        try:
            found, _ = read(path.parent, plan)
        except ComparisonError as error:
            refusals.append(str(error))
            continue
        assert found.items() <= truth.items()
        lost += len(found) < len(truth)
        with contextlib.closing(Store(path, plan, lambda text: None)) as store:
            task = next(plan.tuning())
            store.put(task, run_of(0, 0, 1.0, phase="tuning"))
            assert store.get(task).validation == 1.0
    assert lost > trials // 20
    assert len(refusals) < (trials // 20 + 3) * bits
    assert all("cannot be used as a store" in text or "is a store of schema" in text for text in refusals)


@pytest.mark.parametrize("part", [0.3, 0.8])
def test_what_is_left_of_a_truncated_store_is_used(folder, plan, part):
    """Part of a file: it is said, kept aside, and what can be read of it goes on."""
    truth, _ = read(folder, plan)
    path = folder / "runs.sqlite"
    size = int(part * path.stat().st_size)
    os.truncate(path, size)
    found, (said,) = read(folder, plan)
    assert found.items() < truth.items()
    assert (len(found) > 0) == (part > 0.5)
    assert f"{path} is damaged" in said
    assert f"{len(found)} finished runs could be read" in said
    assert f"kept as {path}.damaged" in said
    assert (folder / "runs.sqlite.damaged").stat().st_size == size
    assert read(folder, plan) == (found, [])


def test_a_store_without_checksums_gets_them(folder, plan):
    """A store of schema 2: its rows are taken over, each with a checksum from now on."""
    truth, _ = read(folder, plan)
    with contextlib.closing(sqlite3.connect(folder / "runs.sqlite")) as db:
        db.executescript("ALTER TABLE runs DROP COLUMN checksum")
        rows = db.execute("SELECT * FROM runs").fetchall()
        db.executescript(
            "DROP TABLE runs; DROP TABLE plans; DROP TABLE owner; DROP TABLE runs_of_schema_1; PRAGMA user_version=0"
        )
        db.executescript(f"{store_file.MIGRATIONS[0]}; {store_file.MIGRATIONS[1]}; PRAGMA user_version=2")
        db.executemany("INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        db.commit()
    assert len(read(folder, plan)[0]) == len(rows) == len(truth)
    change(folder, "UPDATE runs SET run = replace(run, '1', '2') WHERE rowid = 3")
    assert len(read(folder, plan)[0]) == len(rows) - 1


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TRIGGER fill AFTER INSERT ON plans BEGIN INSERT INTO runs SELECT hex(randomblob(9)), "
        "hex(zeroblob(1e8)), '', '', '', '', '', ''; END",
        f"CREATE VIEW endless AS {ENDLESS}",
        "CREATE INDEX slow ON runs (hex(zeroblob(1000000)))",
        "ALTER TABLE runs ADD COLUMN more TEXT AS (hex(zeroblob(100000000)))",
        "ALTER TABLE runs RENAME TO others",
    ],
)
def test_nothing_of_a_strangers_store_is_run(folder, plan, sql):
    """Triggers, views, indices and columns that compute: refused in one line, and nothing is written."""
    change(folder, sql)
    before = (folder / "runs.sqlite").read_bytes()
    with pytest.raises(ComparisonError, match=r"runs\.sqlite cannot be used as a store: it .* move it away"):
        read(folder, plan)
    assert (folder / "runs.sqlite").read_bytes() == before


def test_an_endless_view_in_place_of_the_runs_is_refused(folder, plan):
    """A table's name, and rows without end."""
    change(folder, "DROP TABLE runs")
    change(folder, f"CREATE VIEW runs AS {ENDLESS}")
    with pytest.raises(ComparisonError, match="it has a view"):
        read(folder, plan)


def test_a_huge_value_is_a_damaged_row(folder, plan):
    """More than a run ever has is not read into memory."""
    change(folder, "UPDATE runs SET run = CAST(zeroblob(20000000) AS TEXT) WHERE rowid = 4")
    found, said = read(folder, plan)
    assert (len(found), len(said)) == (len(read(folder, plan)[0]), 1)
    assert len(found) == 15


@pytest.mark.parametrize("name", ["runs.sqlite", "runs.sqlite.lock", "runs.sqlite-wal", "runs.sqlite-journal"])
@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_no_link_is_written_through(tmp_path, plan, name, link):
    """A folder from a stranger, whose files lead to others: they stay as they are."""
    (tmp_path / "letter").write_text("to a friend")
    out = tmp_path / "o"
    out.mkdir()
    link(tmp_path / "letter", out / name)
    with pytest.raises(ComparisonError, match=r"is not written to: remove it, or choose another folder"):
        read(out, plan)
    assert (tmp_path / "letter").read_text() == "to a friend"


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_link_in_place_of_a_report_is_replaced(folder, tmp_path, link):
    """The report is written, and not to where the link leads."""
    (tmp_path / "letter").write_text("to a friend")
    for name in ("report.html", "comparison.json", ".report.html", ".comparison.json"):
        (folder / name).unlink(missing_ok=True)
        link(tmp_path / "letter", folder / name)
    again(folder)
    assert (tmp_path / "letter").read_text() == "to a friend"
    assert (folder / "report.html").stat().st_size > 10_000
    assert not (folder / "report.html").is_symlink()
    assert not (folder / "comparison.json").is_symlink()


def test_another_programs_lock_in_mid_run_is_waited_for(tmp_path):
    """A database browser holds the file while runs end: it is said, and nothing is lost."""
    held = threading.Event()
    said, holder = [], []

    def hold(phase, done, total):
        if done == 2 and not holder:
            db = sqlite3.connect(tmp_path / "runs.sqlite", isolation_level=None, check_same_thread=False)
            db.execute("BEGIN IMMEDIATE")
            holder.append(db)

    def tell(text):
        said.append(text)
        if "locked" in text:
            held.set()
            holder[0].execute("COMMIT")
            holder[0].close()

    found, _ = again(tmp_path, progress=hold, announce=tell)
    assert held.is_set()
    assert said.count(f"Another program has locked {tmp_path / 'runs.sqlite'}; waiting for it.") == 1
    assert again(tmp_path)[0].reused == len(found.runs)


def test_another_programs_lock_at_the_start_is_waited_for(folder):
    """Locked before the first run."""
    db = sqlite3.connect(folder / "runs.sqlite", isolation_level=None)
    db.execute("PRAGMA locking_mode=EXCLUSIVE")
    db.execute("BEGIN EXCLUSIVE")
    db.execute("UPDATE plans SET plan = plan")

    def tell(text):
        said.append(text)
        if "locked" in text:
            db.execute("COMMIT")
            db.close()

    said = []
    found, _ = again(folder, announce=tell)
    assert found.reused == len(found.runs)
    assert any("Another program has locked" in text for text in said)


def test_advice_fits_the_cause():
    """Disk full, a read-only file system, no permission; SQLite's words for the same."""
    assert "make room" in advice(OSError(errno.ENOSPC, "No space left on device"))
    assert "read alone" in advice(OSError(errno.EROFS, "Read-only file system"))
    assert "may write" in advice(PermissionError(errno.EACCES, "Permission denied"))
    for name, words in {"SQLITE_FULL": "make room", "SQLITE_READONLY_DBMOVED": "may write"}.items():
        error = sqlite3.OperationalError("…")
        error.sqlite_errorname = name
        assert words in advice(error)


FULL = """
import os, resource, signal, sqlite3, sys
import descend
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
def limit(phase, done, total):
    if done == 3:
        size = os.path.getsize("o/runs.sqlite-wal")
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
options = dict(learning_rates=[0.01, 0.1], budget=60, tuning_seeds=1, final_seeds=6, target="none", jobs=1)
try:
    descend.compare("booth", ["gd", "adam"], **options, out="o", progress=limit)
except descend.errors.ComparisonError as error:
    print(error)
"""


def test_a_disk_that_fills_up_keeps_what_was_there(tmp_path):
    """The file can't grow any more in mid-run: an error with what to do; the runs before are there afterwards."""
    done = subprocess.run(
        [sys.executable, "-c", FULL], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    assert "runs.sqlite cannot be written:" in done.stdout
    assert "runs before are kept: " in done.stdout
    assert "run the same command to go on" in done.stdout
    assert again(tmp_path / "o")[0].reused >= 3


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_to_says_so(folder):
    """Permissions, told before the first run."""
    folder.chmod(0o500)
    try:
        with pytest.raises(OptionError, match=r"Permission denied.*see that you may write to the folder"):
            again(folder)
    finally:
        folder.chmod(0o700)


def test_a_problem_of_python_keeps_no_runs(tmp_path):
    """Nobody can tell what it is made of: a store is written all the same."""
    problem = Problem(lambda rng: rng.normal(size=2), lambda w: float(w @ w), lambda w: 2 * w, name="mine")
    for _ in range(2):
        assert descend.compare(problem, ["gd"], **OPTIONS, out=tmp_path).reused == 0
