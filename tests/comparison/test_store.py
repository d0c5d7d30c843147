"""The store: comparisons that go on, and what a run is known by."""

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import time

import numpy as np
import pytest
from tests import processes
from tests.comparison.comparing import SMALL, TRIALS
from tests.processes import PATIENCE

import descend
from descend import Entry, LogUniform
from descend.comparison.running.store_file import MIGRATIONS
from descend.errors import ComparisonError


def test_a_comparison_goes_on_where_it_stopped(tmp_path):
    """Half the rows deleted: the same call makes only these again, and ends with the identical table."""
    options = {**SMALL, "out": tmp_path}
    first = descend.compare("booth", ["gd", "adam"], **{**options, "budget": 60})
    assert first.reused == 0
    with contextlib.closing(sqlite3.connect(tmp_path / "runs.sqlite")) as db, db:
        total = db.execute("SELECT count(*) FROM runs").fetchone()[0]
        db.execute("DELETE FROM runs WHERE rowid % 2")
        left = db.execute("SELECT count(*) FROM runs").fetchone()[0]
    assert total == len(first.runs)
    told = []
    again = descend.compare("booth", ["gd", "adam"], **{**options, "budget": 60}, progress=lambda *a: told.append(a))
    assert again.reused == left < total
    assert again.rows == first.rows
    assert told[0][1] > 0
    assert descend.compare("booth", ["gd", "adam"], **{**options, "budget": 60}, fresh=True).reused == 0


def test_another_plan_makes_its_own_runs(tmp_path):
    """Any change of the plan (here: budget, rates) makes new runs; the old ones stay."""
    options = {**SMALL, "out": tmp_path}
    descend.compare("booth", ["gd"], **{**options, "budget": 60})
    assert descend.compare("booth", ["gd"], **{**options, "budget": 61}).reused == 0
    assert descend.compare("booth", ["gd"], **{**options, "budget": 60}).reused == 10


def test_a_changed_problem_file_makes_new_runs(tmp_path):
    """The file's bytes are part of the plan."""
    path = tmp_path / "mine.py"
    text = "import descend\nproblem = descend.Problem(lambda rng: 1.0, lambda x: {}x ** 2, lambda x: {}2 * x)\n"
    for factor, reused in (("", 0), ("", 7), ("3 * ", 0)):
        path.write_text(text.format(factor, factor))
        found = descend.compare(
            path, ["gd"], learning_rates=[0.1], budget=5, tuning_seeds=1, final_seeds=6, untuned=False, target="none",
            jobs=1, out=tmp_path / "o",
        )  # fmt: skip
        assert found.reused == reused


def test_a_folder_whose_runs_are_of_no_use_says_so(tmp_path):
    """Of other code, of other data, of another comparison: kept, and not a word too few."""
    path = tmp_path / "mine.py"
    said = []
    options = {**SMALL, "budget": 5, "out": tmp_path / "o", "announce": said.append}
    for factor in ("", "2 * ", "2 * "):
        path.write_text(f"import descend\nproblem = descend.Problem(lambda r: 1.0, lambda x: {factor}x ** 2, float)\n")
        descend.compare(path, ["gd"], **options)
    told = [text for text in said if "none of them is used" in text]
    assert len(told) == 1
    assert told[0].startswith(f"{tmp_path / 'o'} has 10 finished runs of another comparison, or from before the code")


def test_what_is_written_is_what_is_returned(tmp_path):
    """comparison.json is to_dict(), strict JSON (a miss is null); the report is one file."""
    found = descend.compare(
        "booth", ["gd", "adam"], **{**SMALL, "budget": 60, "learning_rates": [0.01, 10.0]}, out=tmp_path
    )
    text = (tmp_path / "comparison.json").read_text(encoding="utf-8")
    whole = json.loads(text, parse_constant=lambda c: pytest.fail(f"{c} is not JSON"))
    assert whole == json.loads(json.dumps(found.to_dict()))
    assert whole["rows"][0]["label"] == found.rows[0].label
    assert len(whole["runs"]) == found.plan.runs
    assert (tmp_path / "report.html").stat().st_size > 10_000
    assert {p.name for p in tmp_path.iterdir()} == {"comparison.json", "report.html", "runs.sqlite", "runs.sqlite.lock"}


@pytest.mark.slow
def test_two_processes_in_one_folder_make_no_run_twice(tmp_path):
    """The second says that it waits, takes all runs of the first, and writes the same table; also after a SIGKILL."""
    (tmp_path / "slow.py").write_text(
        "import descend, os, time\n"
        "calls = []\n"
        "def loss(w):\n"
        "    open('made', 'a').write('.')\n"
        "    calls.append(w)\n"
        "    if 'HOLD' in os.environ and len(calls) == 30:  # in the midst of its runs\n"
        "        open('held', 'w').close()\n"
        "        while not os.path.exists('go'):\n"
        "            time.sleep(0.01)\n"
        "    return float(w @ w)\n"
        "problem = descend.Problem(lambda rng: rng.normal(size=2), loss, lambda w: 2 * w)\n"
    )
    command = "compare slow.py --rules gd --lr 0.01,0.1 --budget 20 --tuning-seeds 2 --final-seeds 6 --jobs 1"
    command += " --no-untuned --target none --json"
    start = lambda **environment: subprocess.Popen(  # noqa: E731
        [sys.executable, "-m", "descend.cli", *command.split()],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment},
    )  # fmt: skip
    first = start(HOLD="yes")
    while not (tmp_path / "held").exists():
        time.sleep(0.01)
        assert first.poll() is None
    second, said = start(), ""
    while "Another process works in descend-slow; waiting for it to end." not in said:
        said += second.stderr.readline()
        assert second.poll() is None, said
    (tmp_path / "go").touch()
    (one, _), (two, _) = first.communicate(timeout=PATIENCE), second.communicate(timeout=PATIENCE)
    assert json.loads(two)["reused_runs"] == 10
    assert json.loads(two)["rows"] == json.loads(one)["rows"]
    made = len((tmp_path / "made").read_text())
    third = start()
    third.kill()
    third.communicate()
    assert json.loads(start().communicate(timeout=PATIENCE)[0])["reused_runs"] == 10
    assert len((tmp_path / "made").read_text()) - made < 20  # what is tried before the first run, and no run


def test_a_store_that_is_none_is_refused(tmp_path):
    """Some other file named runs.sqlite, or a store of a later version."""
    (tmp_path / "runs.sqlite").write_text("this is no database, it is a letter to a friend" * 30)
    with pytest.raises(ComparisonError, match="cannot be used as a store: it is no SQLite file; move it away"):
        descend.compare("booth", ["gd"], **{**SMALL, "budget": 10}, out=tmp_path)
    (tmp_path / "runs.sqlite").unlink()
    with contextlib.closing(sqlite3.connect(tmp_path / "runs.sqlite")) as db:
        db.executescript("CREATE TABLE letters (to_whom TEXT)")
    with pytest.raises(ComparisonError, match="it is an SQLite file of something else"):
        descend.compare("booth", ["gd"], **{**SMALL, "budget": 10}, out=tmp_path)
    (tmp_path / "runs.sqlite").unlink()
    with contextlib.closing(sqlite3.connect(tmp_path / "runs.sqlite")) as db, db:
        db.execute("PRAGMA user_version=99")
    with pytest.raises(ComparisonError, match="store of schema 99"):
        descend.compare("booth", ["gd"], **{**SMALL, "budget": 10}, out=tmp_path)


def test_a_rule_or_seeds_more_run_only_what_is_missing(tmp_path):
    """Another plan on the same folder finds the runs that it has in common, and makes the others."""
    options = {**TRIALS, "out": tmp_path, "target": "none", "space": {"lr": LogUniform(1e-3, 1.0)}}
    first = descend.compare("booth", ["gd"], **options)
    more = descend.compare("booth", ["gd", "adam"], **options)
    assert more.reused == len(first.runs)
    assert len(more.runs) == 2 * len(first.runs)
    seeds = descend.compare("booth", ["gd"], **{**options, "final_seeds": 8})
    assert seeds.reused == len(first.runs)
    assert len(seeds.runs) == len(first.runs) + 2
    trials = descend.compare("booth", ["gd"], **{**options, "trials": 6})
    assert trials.reused >= 4
    labelled = descend.compare("booth", [Entry("another name", descend.GD())], **options)
    assert labelled.reused == len(labelled.runs)
    assert labelled.rows[0].test == first.rows[0].test
    assert descend.compare("booth", ["gd"], **{**options, "budget": 241}).reused == 0


def test_a_row_of_the_store_says_where_it_comes_from(tmp_path):
    """The outcome with its curve, the plan, the task, the versions, the machine, the time."""
    found = descend.compare("booth", ["gd"], **TRIALS, out=tmp_path, target="none")
    with contextlib.closing(sqlite3.connect(tmp_path / "runs.sqlite")) as db, db:
        rows_ = db.execute("SELECT run, plan, task, versions, machine, finished FROM runs").fetchall()
        plans = dict(db.execute("SELECT hash, plan FROM plans"))
    assert json.loads(plans[found.plan.hash]) == json.loads(json.dumps(found.plan.settings()))
    assert len(rows_) == len(found.runs)
    run, plan, task, versions, machine, finished = rows_[0]
    assert len(json.loads(run)["curve"]) == 41
    assert plan == found.plan.hash
    assert json.loads(task)["phase"] == "tuning"
    assert json.loads(versions)["numpy"] == np.__version__
    assert machine
    assert finished.endswith("+00:00")


def test_an_old_store_is_brought_up_to_date(tmp_path):
    """A store of schema 1: its rows are kept aside, and the comparison goes on in the same file."""
    with contextlib.closing(sqlite3.connect(tmp_path / "runs.sqlite")) as db, db:
        db.executescript(f"{MIGRATIONS[0]}; PRAGMA user_version=1; INSERT INTO runs VALUES ('p', 't', '{{}}');")
    found = descend.compare("booth", ["gd"], **TRIALS, out=tmp_path, target="none")
    with contextlib.closing(sqlite3.connect(tmp_path / "runs.sqlite")) as db, db:
        assert db.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
        assert db.execute("SELECT * FROM runs_of_schema_1").fetchall() == [("p", "t", "{}")]
        assert db.execute("SELECT count(*) FROM runs").fetchone() == (len(found.runs),)
    with contextlib.closing(sqlite3.connect(tmp_path / "runs.sqlite")) as db, db:
        db.execute(f"PRAGMA user_version={len(MIGRATIONS) + 1}")
    with pytest.raises(ComparisonError, match="use a newer descend, or choose another --out"):
        descend.compare("booth", ["gd"], **TRIALS, out=tmp_path, target="none")


def test_no_locks_on_this_system(tmp_path):
    """Without `fcntl` descend is imported, and a comparison goes on where it stopped."""
    code = f"""
        import sys
        sys.modules["fcntl"] = None
        import descend
        options = dict(learning_rates=[0.1], budget=5, tuning_seeds=1, final_seeds=6, target="none", jobs=1)
        for reused in (0, 13):
            assert descend.compare("booth", ["gd"], **options, out={str(tmp_path)!r}).reused == reused
    """
    processes.run(code, PYTHONWARNINGS="ignore")
