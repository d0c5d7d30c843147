"""Processes of a comparison's own: that die while they start, hang, leave something behind, or are stopped."""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tests.comparison.comparing import SMALL, line, plan_of
from tests.processes import PATIENCE

import descend
from descend.comparison.running import workers
from descend.comparison.running.bundles import Bundle
from descend.comparison.running.workers import Workers
from descend.errors import ComparisonError


def unwelcome(tmp_path, on_arrival):
    """A problem file whose loss does something when it arrives in another process."""
    path = tmp_path / "unwelcome.py"
    path.write_text(
        "import os, sys, time, descend\n"
        f"parent, flag = {os.getpid()}, {str(tmp_path / 'flag')!r}\n"
        "class Loss:\n"
        "    def __call__(self, w):\n        return float(w @ w)\n"
        "    def __getstate__(self):\n        return {'here': True}\n"
        f"    def __setstate__(self, state):\n        {on_arrival}\n"
        "problem = descend.Problem(lambda rng: rng.normal(size=2), Loss(), lambda w: 2 * w)\n"
    )
    return path


@pytest.mark.slow  # as it starts many processes
def test_when_no_process_can_work_it_ends_in_words(tmp_path):
    """Each worker dies before it begins anything: no hanging, and a reason."""
    with pytest.raises(
        ComparisonError, match=r"died while it started, 3 times over \(Its exit status was 3\.\): out of"
    ):
        descend.compare(unwelcome(tmp_path, "os._exit(3)"), ["gd"], **{**SMALL, "jobs": 2})


def test_a_process_that_dies_once_while_it_starts_is_replaced(tmp_path):
    """Killed by chance, say by the system: another one takes its place."""
    once = "if not os.path.exists(flag):\n            open(flag, 'w').close()\n            os.kill(os.getpid(), 9)"
    found = descend.compare(unwelcome(tmp_path, once), ["gd"], **{**SMALL, "jobs": 1, "max_run_seconds": 200})
    assert (tmp_path / "flag").exists()
    assert found.rows[0].misses == 0


def test_an_error_while_a_process_unpickles_is_told(tmp_path):
    """Not "out of memory, or killed", but what went wrong there."""
    raising = "raise FileNotFoundError('/data/of/mine.npy')"
    with pytest.raises(ComparisonError, match=r"cannot make the runs \(FileNotFoundError: /data/of/mine\.npy\)"):
        descend.compare(unwelcome(tmp_path, raising), ["gd"], **{**SMALL, "jobs": 2})


@pytest.mark.slow  # as it starts many processes
def test_a_parcel_larger_than_a_pipe_holds_hangs_nothing():
    """Every process dies at once, and 16 MB are on their way to it."""
    big = np.random.default_rng(0).normal(size=(200_000, 10))
    problem = line(loss=Deadly(), start=lambda rng: rng.normal(size=10), data=(big, big.sum(axis=1)))
    with pytest.raises(ComparisonError, match=r"3 times over \(It was ended by SIGKILL\.\)"):
        descend.compare(problem, ["gd"], **{**SMALL, "jobs": 2, "budget": 200_000})


class Deadly:
    """A loss that kills the process that it arrives in; by what pickle knows without this module."""

    def __call__(self, w, X, y):
        return float(np.mean((X @ w - y) ** 2))

    def __reduce__(self):
        return os.kill, (0, signal.SIGKILL)  # to the group of the process, which is its own


HANGING = """
import os, time, descend, numpy as np
parent = os.getpid()
def loss(w):
    if os.getpid() != parent and {condition}:
        {hang}
    return {loss}
problem = descend.Problem(lambda rng: rng.uniform(0, 2, size=1), loss, lambda w: 2 * w{more})
"""


def hanging(tmp_path, condition, hang="time.sleep(1e6)", loss="float(w[0] ** 2)", more=""):
    """A problem file whose loss never returns in another process, where a condition holds."""
    path = tmp_path / "hanging.py"
    path.write_text(HANGING.format(condition=condition, hang=hang, loss=loss, more=more))
    return path


def by_command(tmp_path, command):
    """A comparison without a target by the command line; what it printed."""
    return subprocess.run(
        [sys.executable, "-m", "descend.cli", *command.split(), "--target", "none"],
        cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=True,
    )  # fmt: skip


ONE_RATE = {"learning_rates": [0.1], "budget": 20, "tuning_seeds": 3, "target": "none", "untuned": False}


@pytest.mark.parametrize("jobs", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_a_run_that_hangs_is_ended_and_a_miss(tmp_path, jobs):
    """Longer than max_run_seconds: counted with its reason, tried again by whoever gives the command again."""
    options = {**ONE_RATE, "final_seeds": 6, "jobs": jobs, "max_run_seconds": 0.7, "out": tmp_path / "o"}
    found = descend.compare(hanging(tmp_path, "w[0] > 1.2"), ["gd"], **options)
    hung = {run.seed for run in found.runs if run.reason == "overdue"}
    assert hung == {run.seed for run in found.runs if np.random.default_rng(run.seed).uniform(0, 2) > 1.2}
    assert 0 < len(hung) < 4
    assert all(run.miss == (run.seed in hung) for run in found.runs)
    message = next(run.message for run in found.runs if run.miss)
    assert message.startswith("Stopped: the run took longer than it may. It was ended after 1 seconds.")
    assert "raise max_run_seconds" in message
    assert descend.compare(hanging(tmp_path, "w[0] > 1.2"), ["gd"], **options).reused == len(found.runs) - len(hung)


@pytest.mark.slow  # as it starts many processes
def test_of_runs_in_a_bundle_those_that_hang_are_misses(tmp_path):
    """A bundle that takes too long is taken apart, and only what hangs by itself is ended."""
    path = hanging(tmp_path, "((w > 1.2) & (w < 1.25)).any()", loss="(w ** 2).sum(axis=-1)", more=", stacks=True")
    found = descend.compare(path, ["gd"], **ONE_RATE, final_seeds=10, jobs=2, max_run_seconds=0.5)
    hung = {run.seed for run in found.runs if run.reason == "overdue"}
    assert hung == {run.seed for run in found.runs if 1.2 < np.random.default_rng(run.seed).uniform(0, 2) < 1.25}
    assert 0 < len(hung) < 3


@pytest.mark.slow
def test_without_a_limit_given_the_pilot_sets_one(tmp_path, monkeypatch):
    """What hangs ends by itself, though nobody has set a limit: some thirty times what the pilot foretells."""
    monkeypatch.setattr(workers, "LEAST", 0.5)
    monkeypatch.setattr(workers, "LONGER", 0.0)
    found = descend.compare(hanging(tmp_path, "w[0] > 1.2"), ["gd"], **ONE_RATE, final_seeds=6, jobs=2)
    assert {run.reason for run in found.runs if run.miss} == {"overdue"}


def test_the_default_limit_waits_for_what_is_slow(monkeypatch):
    """Thirty times the pilot's figure, and ten times the longest run before."""
    with Workers(line(), plan_of(), 2) as made:
        bundle = Bundle((next(plan_of().tuning()),), False)
        monkeypatch.setattr(made.pilot, "seconds", lambda bundle: 7.0)
        assert made._allowed(bundle, 59.0) == np.inf
        assert made._allowed(bundle, 61.0) == 210.0
        made._longest = 50.0
        assert made._allowed(bundle, 499.0) == np.inf
        assert made._allowed(bundle, 501.0) == 500.0
        monkeypatch.setattr(made.pilot, "seconds", lambda bundle: np.nan)
        assert made._allowed(bundle, 1e9) == np.inf


@pytest.mark.slow  # as it waits for the thread
def test_a_thread_left_behind_in_the_command_itself_does_not_hold_up_its_end(tmp_path):
    """What a problem starts in this process, as a step is tried, has some seconds at the end."""
    path = hanging(tmp_path, "True", hang="pass", loss="left() or float(w[0] ** 2)")
    path.write_text(
        "import threading\n" + path.read_text().replace("def loss", f"def left():\n    {LEFT['a thread']}\ndef loss")
    )
    command = f"compare {path.name} --rules gd --lr 0.1 --budget 2 --tuning-seeds 1 --final-seeds 6 --json --jobs 1"
    done = by_command(tmp_path, command)
    assert json.loads(done.stdout)["rows"]


def test_no_room_for_the_problem_is_said(monkeypatch, tmp_path):
    """The folder for temporary files is gone, or full."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    with pytest.raises(
        ComparisonError, match=r"cannot be written for worker processes to read .* TMPDIR, or use jobs=1"
    ):
        descend.compare(line(), ["gd"], **{**SMALL, "jobs": 2})


def alive(parent=None, group=None):
    """The numbers of the processes that another one has started, or that are of a group; a dead one is none."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, its_parent, its_group = path.read_text().rpartition(")")[2].split()[:3]
            if state != "Z" and (int(its_parent) == parent or int(its_group) == group):
                found.append(int(path.parent.name))
    return found


LEFT = {
    "a thread": "threading.Thread(target=time.sleep, args=(1e6,)).start()",
    "a process": "subprocess.Popen(['sleep', '1000000'])",
    "a fork": "os.fork() or time.sleep(1e6)",
}


@pytest.mark.slow  # as it starts many processes
@pytest.mark.parametrize("what", LEFT)
def test_what_a_problem_leaves_behind_in_a_process_holds_nothing_up(tmp_path, what):
    """A thread that never ends, a child that goes on: the comparison ends, and they with it."""
    path = tmp_path / "leaving.py"
    path.write_text(
        "import os, subprocess, threading, time, descend\n"
        "parent, left = os.getpid(), []\n"
        "def loss(w):\n"
        "    if os.getpid() != parent and not left:\n"
        f"        left.append({LEFT[what]})\n"
        f"        open({str(tmp_path)!r} + f'/group{{os.getpgrp()}}', 'w').close()\n"
        "    return float(w @ w)\n"
        "problem = descend.Problem(lambda rng: rng.normal(size=2), loss, lambda w: 2 * w)\n"
    )
    code = f"import descend; descend.compare({str(path)!r}, ['gd'], **{ONE_RATE}, final_seeds=6, jobs=2); print('done')"
    (tmp_path / "run.py").write_text(code)
    done = subprocess.run(
        [sys.executable, tmp_path / "run.py"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.stdout == "done\n"
    groups = [int(p.name.removeprefix("group")) for p in tmp_path.glob("group*")]
    assert groups
    assert [alive(group=group) for group in groups] == [[]] * len(groups)


def until(condition, patience=PATIENCE):
    """Wait for a condition, which other processes bring about; returns what it found."""
    for _ in range(int(patience / 0.02)):
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError("it never came about")


@pytest.mark.parametrize(
    "how",
    [
        signal.SIGTERM,
        *(pytest.param(how, marks=pytest.mark.slow) for how in (signal.SIGINT, signal.SIGKILL, signal.SIGHUP)),
    ],
)
def test_a_stop_says_what_is_kept_and_leaves_nothing_behind(tmp_path, how):
    """SIGTERM, Ctrl-C, even SIGKILL: no process and no folder is left, and the same command goes on."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    path = hanging(tmp_path, "w[0] > 1.8")
    command = f"compare {path.name} --rules gd --lr 0.1 --budget 20 --tuning-seeds 6 --final-seeds 6 --target none"
    run = subprocess.Popen(
        [sys.executable, "-m", "descend.cli", *command.split(), "--jobs", "2", "--out", "o"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "TMPDIR": str(scratch)},
    )  # fmt: skip
    store = tmp_path / "o" / "runs.sqlite"

    def kept():
        with (
            contextlib.suppress(sqlite3.Error),
            contextlib.closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as db,
        ):
            return db.execute("SELECT count(*) FROM runs").fetchone()[0] >= 5
        return False

    until(lambda: store.exists() and kept())
    workers_there = alive(parent=run.pid)
    assert workers_there
    run.send_signal(how)
    _, said = run.communicate(timeout=PATIENCE)
    until(lambda: not any(alive(group=number) for number in workers_there))
    if how in (signal.SIGTERM, signal.SIGINT):
        assert run.returncode == {signal.SIGTERM: 143, signal.SIGINT: 130}[how]
        assert "finished runs are kept in o: the same command goes on from there" in said
        assert "Traceback" not in said
        assert ("terminated" if how == signal.SIGTERM else "interrupted") in said
    assert list(scratch.iterdir()) == []
    assert {p.name for p in (tmp_path / "o").iterdir()} <= {
        "runs.sqlite", "runs.sqlite.lock", "runs.sqlite-wal", "runs.sqlite-shm"
    }  # fmt: skip


DAEMONIC = """
import multiprocessing, sys
import descend
def work(queue):
    said = []
    found = descend.compare("booth", ["gd"], learning_rates=[0.1], budget=5, tuning_seeds=1, final_seeds=6, jobs=2,
                            target="none", announce=said.append)
    queue.put((found.jobs, said))
if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=work, args=(queue,), daemon=True)
    process.start()
    jobs, said = queue.get()
    process.join()
    print(jobs, said[0])
"""


@pytest.mark.slow  # as it starts many processes
def test_a_daemonic_process_makes_the_runs_itself(tmp_path):
    """A worker of multiprocessing.Pool may have no children: one job, and a word."""
    (tmp_path / "daemonic.py").write_text(DAEMONIC)
    done = subprocess.run(
        [sys.executable, tmp_path / "daemonic.py"], capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    assert done.stdout.startswith("1 This process is daemonic")


@pytest.mark.slow  # as it starts many processes
def test_what_a_problem_prints_in_a_process_is_no_part_of_the_answer(tmp_path):
    """With --json, standard output is JSON alone."""
    path = hanging(tmp_path, "print('noise')", hang="pass")
    command = f"compare {path.name} --rules gd --lr 0.1 --budget 5 --tuning-seeds 1 --final-seeds 6 --json --jobs 2"
    done = by_command(tmp_path, command)
    assert json.loads(done.stdout)["rows"]
    assert "noise" in done.stderr
