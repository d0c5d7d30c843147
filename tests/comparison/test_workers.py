"""Where the runs of a comparison are made: processes that die, executors, a cluster, what travels to them."""

import concurrent.futures
import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import types
import warnings

import numpy as np
import pytest
import threadpoolctl
from tests.comparison.comparing import SMALL, line

import descend
from descend import Problem
from descend.engines.native.workers import threads
from descend.errors import ComparisonError


def deadly(tmp_path, condition, loss="float(w[0] ** 2)", more=""):
    """A problem file whose loss kills its process, unless that is this one, where a condition holds."""
    path = tmp_path / "deadly.py"
    path.write_text(
        "import os, pathlib, descend, numpy as np\n"
        f"parent, flag = {os.getpid()}, pathlib.Path({str(tmp_path / 'flag')!r})\n"
        "def loss(w):\n"
        f"    if os.getpid() != parent and {condition}:\n"
        "        flag.touch()\n"
        "        os.kill(os.getpid(), 9)\n"
        f"    return {loss}\n"
        f"problem = descend.Problem(lambda rng: rng.uniform(0, 2, size=1), loss, lambda w: 2 * w{more})\n"
    )
    return path


def test_a_run_whose_process_dies_is_a_miss(tmp_path):
    """Killed in mid-work, and again when it is made alone: a counted miss with its reason; all others are made."""
    options = {
        "learning_rates": [0.1],
        "budget": 50,
        "tuning_seeds": 5,
        "final_seeds": 6,
        "target": "none",
        "untuned": False,
    }
    path = deadly(tmp_path, "w[0] > 1.5")
    found = descend.compare(path, ["gd"], **options, jobs=2, out=tmp_path / "o")
    dead = {run.seed for run in found.runs if run.reason == "killed"}
    assert dead == {run.seed for run in found.runs if np.random.default_rng(run.seed).uniform(0, 2) > 1.5}
    assert 0 < len(dead) < len(found.runs)
    assert all(run.miss == (run.seed in dead) for run in found.runs)
    assert found.rows[0].misses == sum(seed >= 1000 for seed in dead)
    assert "ran out of memory, or was killed" in next(run.message for run in found.runs if run.miss)
    again = descend.compare(path, ["gd"], **options, jobs=2, out=tmp_path / "o")
    assert again.reused == len(found.runs) - len(dead), "what died, perhaps of a lack of memory, is tried again"
    assert again.rows == found.rows


@pytest.mark.slow
def test_one_run_to_make_does_not_take_the_comparison_along(tmp_path):
    """With jobs, also a single run is made in a process of its own, and so are timed ones."""
    path = deadly(tmp_path, "True")
    options = {"learning_rates": [0.1], "budget": 5, "tuning_seeds": 1, "target": "none", "untuned": False}
    with pytest.raises(ComparisonError, match="every run failed on deadly"):
        descend.compare(path, ["gd"], **options, jobs=2)
    path = deadly(tmp_path, "w[0] > 1.1")
    found = descend.compare(path, ["gd"], **{**options, "tuning_seeds": 3}, final_seeds=6, timed=True, jobs=2)
    timed = [run for run in found.runs if run.phase == "timing"]
    assert {run.miss for run in timed} == {True, False}
    assert found.rows[0].seconds.median == np.median([run.seconds for run in timed if not run.miss])


@pytest.mark.slow
def test_a_bundle_that_kills_is_taken_apart(tmp_path):
    """Of runs that are made together, only those that die alone, too, are misses."""
    path = deadly(tmp_path, "((w > 1.2) & (w < 1.25)).any()", loss="(w ** 2).sum(axis=-1)", more=", stacks=True")
    found = descend.compare(
        path,
        ["gd"],
        learning_rates=[0.1],
        budget=20,
        tuning_seeds=3,
        final_seeds=10,
        target="none",
        untuned=False,
        jobs=2,
    )
    dead = {run.seed for run in found.runs if run.reason == "killed"}
    assert dead == {run.seed for run in found.runs if 1.2 < np.random.default_rng(run.seed).uniform(0, 2) < 1.25}
    assert 0 < len(dead) < 6


def test_a_process_that_dies_once_costs_nothing_but_time(tmp_path):
    """What died with others beside it is made again alone, and is no miss if that succeeds."""
    path = deadly(tmp_path, "w[0] > 1.5 and not flag.exists()")
    options = {"learning_rates": [0.1], "budget": 20, "tuning_seeds": 5, "final_seeds": 6, "target": "none"}
    found = descend.compare(path, ["gd"], **options, untuned=False, jobs=2)
    assert (tmp_path / "flag").exists()
    assert not any(run.miss for run in found.runs)


class Cluster(concurrent.futures.ThreadPoolExecutor):
    """Threads, and an error for every bundle that has the run of a certain seed in it."""

    def __init__(self, seed, error):
        super().__init__(1)
        self.seed, self.error = seed, error

    def submit(self, function, bundle, parcel):
        if self.seed in [task.seed for task in bundle.tasks]:
            future = concurrent.futures.Future()
            future.set_exception(self.error)
            return future
        return super().submit(function, bundle, parcel)


@pytest.mark.slow  # as it needs Dask, which the default tests do without
@pytest.mark.parametrize("stacks", [False, True])
def test_what_a_cluster_gives_up_is_a_miss(stacks, tmp_path):
    """Workers died of it again and again: that run's miss, whatever it was made together with; tried again later."""
    distributed = pytest.importorskip("distributed")
    path = deadly(tmp_path, "False", "(w ** 2).sum(axis=-1)" if stacks else "float(w[0] ** 2)", f", stacks={stacks}")
    with Cluster(1001, distributed.KilledWorker("the run", types.SimpleNamespace(address="tcp://there"), 3)) as pool:
        found = descend.compare(path, ["gd"], **SMALL, executor=pool, out=tmp_path / "o")
    assert found.rows[0].misses == 1
    assert found.jobs is None
    (lost,) = [run for run in found.runs if run.miss]
    assert (lost.seed, lost.reason) == (1001, "killed")
    assert "the process died" in lost.message
    assert "the run" in lost.message
    again = descend.compare(path, ["gd"], **SMALL, out=tmp_path / "o")
    assert (again.reused, again.rows[0].misses) == (len(found.runs) - 1, 0)


def test_what_an_executor_cannot_make_ends_the_comparison(tmp_path):
    """A module that is not there, or a pool that is broken, says nothing of the run: it is no miss, but an error."""
    path = deadly(tmp_path, "False")
    with (
        Cluster(1001, ModuleNotFoundError("No module named 'mine'")) as pool,
        pytest.raises(
            ComparisonError, match=r"could not be made where they were sent \(ModuleNotFoundError: No module"
        ),
    ):
        descend.compare(path, ["gd"], **SMALL, executor=pool, out=tmp_path / "o")
    again = descend.compare(path, ["gd"], **SMALL, out=tmp_path / "o")
    assert 0 < again.reused < len(again.runs)
    assert again.rows[0].misses == 0

    class Broken(concurrent.futures.ThreadPoolExecutor):
        def submit(self, function, bundle, parcel):
            raise concurrent.futures.BrokenExecutor("no worker")

    with Broken(1) as pool, pytest.raises(ComparisonError, match="a worker process died"):
        descend.compare(line(), ["gd"], **SMALL, executor=pool)


def test_a_lack_of_memory_is_not_kept(tmp_path):
    """A run that found no memory is a miss of this comparison; when it goes on, it is made again."""
    path = tmp_path / "short.py"
    path.write_text(
        "import pathlib, descend\n"
        f"flag = pathlib.Path({str(tmp_path / 'flag')!r})\n"
        f"first = {np.random.default_rng(0).uniform(0, 2)}\n"
        "def loss(w):\n"
        "    if w[0] > 1.1 and w[0] != first and not flag.exists():\n        raise MemoryError('no room')\n"
        "    return float(w[0] ** 2)\n"
        "problem = descend.Problem(lambda rng: rng.uniform(0, 2, size=1), loss, lambda w: 2 * w)\n"
    )
    found = descend.compare(path, ["gd"], **SMALL, out=tmp_path / "o")
    missed = [run for run in found.runs if run.miss]
    assert 0 < len(missed) < len(found.runs)
    assert all(run.reason == "killed" and "MemoryError" in run.message for run in missed)
    (tmp_path / "flag").touch()
    again = descend.compare(path, ["gd"], **SMALL, out=tmp_path / "o")
    assert again.reused == len(found.runs) - len(missed)
    assert not any(run.miss for run in again.runs)


SEEN = set()
"""In how many threads BLAS worked during runs in threads of this process, and how many runs there were at a time."""


AT_WORK = []


def _blas():
    return {pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"}


def watched(w):
    AT_WORK.append(w)
    if threading.current_thread() is not threading.main_thread():  # which tries the problem out before
        SEEN.update((count, len(AT_WORK)) for count in _blas())
    AT_WORK.pop()
    return float(w @ w)


def test_one_thread_each_however_many_runs_a_process_makes():
    """Runs that overlap in threads of this process: BLAS has one thread in all of them, and afterwards what it had."""
    problem = Problem(lambda rng: rng.normal(size=2), watched, lambda w: 2 * w)
    with threadpoolctl.threadpool_limits(2), concurrent.futures.ThreadPoolExecutor(2) as pool:
        for _ in range(2):
            SEEN.clear()
            descend.compare(problem, ["gd"], **{**SMALL, "budget": 20}, executor=pool)
            assert {(1, 1), (1, 2)} == SEEN
            assert (_blas(), threads._limit) == ({2}, None)


def test_trial_and_pilot_have_the_threads_of_a_run():
    """What is tried out and timed before the first run has one thread, as a run has."""
    seen = []

    def loss(w):
        seen.append((tuple(_blas()), threads.allowed(8)))
        return float(w @ w)

    problem = Problem(lambda rng: rng.normal(size=2), loss, lambda w: 2 * w)
    with threadpoolctl.threadpool_limits(2):
        descend.compare(problem, ["gd"], **{**SMALL, "budget": 20}, announce=lambda text: seen.append("told"))
    assert seen.index("told") > 8
    assert set(seen) - {"told"} == {((1,), 1)}


def test_any_executor_will_do():
    """Threads instead of processes, as a stand-in for a cluster: the same table, and the executor is left running."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        found = descend.compare(line(), ["gd", "adam"], **SMALL, executor=pool)
        assert pool.submit(int, "1").result() == 1
    assert found.rows == descend.compare(line(), ["gd", "adam"], **SMALL).rows


@pytest.mark.slow
def test_a_dask_cluster_gives_the_same_table(tmp_path):
    """Two worker processes of a real cluster, one of them killed in mid-work; the same command with --dask."""
    distributed = pytest.importorskip("distributed")
    path = tmp_path / "slow.py"
    path.write_text(
        "import descend, time\n"
        "def loss(w):\n    time.sleep(0.005)\n    return float(w @ w)\n"
        "problem = descend.Problem(lambda rng: rng.normal(size=2), loss, lambda w: 2 * w)\n"
    )
    options = {"learning_rates": [0.01, 0.1], "budget": 60, "tuning_seeds": 2, "final_seeds": 6, "target": "none"}
    with (
        warnings.catch_warnings(action="ignore"),
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        workers = [w.pid for w in cluster.workers.values()]
        done = []

        def kill_one(phase, finished, total):
            if finished == 2 and not done:
                done.append(os.kill(workers[0], signal.SIGKILL))

        found = descend.compare(path, ["gd", "adam"], **options, executor=client.get_executor(), progress=kill_one)
        assert done
        command = "compare slow.py --rules gd,adam --lr 0.01,0.1 --budget 60 --tuning-seeds 2 --final-seeds 6 --json"
        command += " --target none"
        told = subprocess.run(
            [sys.executable, "-m", "descend.cli", *command.split(), "--dask", cluster.scheduler_address],
            cwd=tmp_path, capture_output=True, text=True, check=True,
        )  # fmt: skip
    here = descend.compare(path, ["gd", "adam"], **options, jobs=1)
    assert found.rows == here.rows
    assert json.loads(told.stdout)["rows"] == here.to_dict()["rows"]
    assert json.loads(told.stdout)["jobs"] is None
    assert "through an executor" in told.stderr


def test_a_problem_file_travels_with_its_neighbours(tmp_path):
    """What the file imports from its own folder is found in worker processes too."""
    (tmp_path / "neighbour_to_import.py").write_text("def loss(w):\n    return float(w @ w)\n")
    path = tmp_path / "with_neighbour.py"
    path.write_text(
        "import descend, neighbour_to_import\n"
        "problem = descend.Problem(lambda rng: rng.normal(size=2), neighbour_to_import.loss, lambda w: 2 * w)\n"
    )
    found = descend.compare(str(path), ["gd"], **{**SMALL, "jobs": 2})
    assert found.rows[0].misses == 0


def test_a_private_rule_with_a_known_name_travels():
    """register=False and a name that descend uses itself, in two processes."""

    class Adam(descend.Rule, register=False):
        """Not that one."""

        @staticmethod
        def update(p, g, s):
            return p - s.lr * g

    found = descend.compare(line(), [Adam()], **{**SMALL, "jobs": 2})
    assert found.rows[0].misses == 0
    assert descend.rules.get("adam") is descend.Adam


def test_a_users_rule_and_problem_travel_to_other_processes(tmp_path):
    """A file that defines both: the rule is known by name, lambdas and all, in two worker processes."""
    path = tmp_path / "own.py"
    path.write_text(
        "import descend, numpy as np\n"
        "from descend.rules import maths\n"
        "class SignStep(descend.Rule):\n"
        "    'Step by the sign.'\n"
        "    lr: float = 0.1\n"
        "    @staticmethod\n"
        "    def update(p, g, s):\n"
        "        return p - s.lr * maths.sign(g)\n"
        "problem = descend.Problem(lambda rng: rng.normal(size=2), lambda w: float(w @ w), lambda w: 2 * w)\n"
    )
    found = descend.compare(str(path), ["signstep", "gd"], **{**SMALL, "jobs": 2, "budget": 40})
    assert {row.label for row in found.rows} == {"SignStep", "GD"}
    assert all(row.misses == 0 for row in found.rows)
    finals = [r.test for r in found.runs if r.entry == 0 and r.phase == "final"]
    assert max(finals) <= 2 * 0.1**2  # sign steps of the better rate end within one step of the minimum


def test_one_process_and_two_give_the_same_figures():
    """The figures do not depend on how many runs are made at once."""
    one = descend.compare(line(), ["gd", "adam"], **SMALL)
    two = descend.compare(line(), ["gd", "adam"], **{**SMALL, "jobs": 2})
    assert one.rows == two.rows
    strip = lambda runs: [dataclasses.replace(r, seconds=0.0) for r in runs]  # noqa: E731
    assert strip(one.runs) == strip(two.runs)
