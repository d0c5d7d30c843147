"""Worker threads: the same bits with any number of them, how many there are, and systems that have few or none."""

import os
import sys
import threading
import time

import numpy as np
import pytest
from tests.processes import run

import descend
from descend.engines import Fused, Reference
from descend.engines.native import launch, workers

pytestmark = pytest.mark.machine_code

N = 400_000


@pytest.fixture(autouse=True)
def any_step(monkeypatch):
    """Small steps are shared, too."""
    monkeypatch.setattr(workers, "WAKE", 0)
    monkeypatch.setattr(launch, "SHARE", 0)


@pytest.fixture
def pool(monkeypatch):
    """A pool of its own for a test, which may use as many cores as it says."""

    def made(cores):
        monkeypatch.setattr(workers, "usable_cores", lambda: cores)
        one = workers.WorkerPool()
        monkeypatch.setattr(launch, "threads", one)
        return one

    return made


def stepped(pool=None, *, limit=None, steps=3, n=N, rule=None):
    """The bytes of n numbers after steps by machine code, or by the reference engine without a pool."""
    rng = np.random.default_rng(n)
    p, g = rng.normal(size=n).astype(np.float32), rng.normal(size=n).astype(np.float32)
    kind = Reference if pool is None else Fused
    runner = kind(descend.GD(lr=0.1) if rule is None else rule, [p])
    for _ in range(steps):
        if pool is None:
            runner.step([g])
        else:
            with pool.limited(limit):
                runner.step([g])
    return p.tobytes()


# ---- the same numbers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cores", [1, 2, 3, 8])
def test_any_number_of_workers_gives_the_same_bits(pool, cores):
    """More than there are cores among them; a cautious step needs two passes."""
    rule = descend.GD(lr=0.1, cautious=True)
    assert stepped(pool(cores), steps=30, rule=rule) == stepped(steps=30, rule=rule)


def test_limits_that_come_and_go_give_the_same_bits(pool):
    one = pool(4)
    expected = stepped()
    for limit in (1, None, 2, 3, 100):
        assert stepped(one, limit=limit) == expected
    assert one.started == 3


def test_many_threads_step_at_once(pool):
    """Four Python threads, each with an engine of its own; some have help, some do not."""
    one, expected, ends = pool(3), stepped(steps=40), []
    threads = [threading.Thread(target=lambda: ends.append(stepped(one, steps=40))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ends == [expected] * 4


def test_steps_that_come_while_a_worker_falls_asleep(pool):
    """Pauses of up to half a millisecond between steps of a few microseconds, thousands of times."""
    one, rng = pool(2), np.random.default_rng(5)
    p, g = np.zeros(5_000, np.float32), np.ones(5_000, np.float32)
    runner = Fused(descend.GD(lr=1.0), [p])
    pauses = [*[0.0] * 1000, *rng.uniform(0, 5e-4, 1000).tolist(), *[0.0] * 1000]
    for pause in pauses:
        until = time.perf_counter() + pause
        while time.perf_counter() < until:
            pass
        runner.step([g])
    assert one.started == 1
    assert np.unique(p).tolist() == [-len(pauses)]


def test_a_worker_that_never_comes_holds_nobody_up(pool, monkeypatch):
    """One that the system does not run, or that somebody ended."""
    monkeypatch.setattr(workers, "_start_thread", lambda *_: True)
    one = pool(8)
    assert stepped(one) == stepped()
    assert one.started == 7


# ---- how many there are -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cores", "limit", "started"), [(64, None, 7), (4, None, 3), (64, 3, 2), (1, None, 0), (8, 1, 0)]
)
def test_no_more_workers_than_a_step_uses(pool, cores, limit, started):
    """At most 8 threads, the caller's included, on however many cores."""
    one = pool(cores)
    assert stepped(one, limit=limit) == stepped()
    assert one.started == started


def test_fewer_chunks_than_cores(pool):
    one = pool(8)
    n = 2 * launch.LEAST
    assert stepped(one, n=n) == stepped(n=n)
    assert one.started == 1


def test_small_steps_wake_nobody(pool, monkeypatch):
    monkeypatch.setattr(workers, "WAKE", 1 << 30)
    one = pool(8)
    assert stepped(one) == stepped()
    assert one.started == 0


@pytest.mark.parametrize("possible", [0, 2])
def test_workers_that_cannot_start(pool, monkeypatch, possible):
    """Those that could help, and nobody tries again to start others."""
    tried, start = [], workers._start_thread

    def refusing(*args):
        tried.append(args)
        return len(tried) <= possible and start(*args)

    monkeypatch.setattr(workers, "_start_thread", refusing)
    one = pool(8)
    for _ in range(2):
        assert stepped(one) == stepped()
    assert one.started == possible
    assert len(tried) == possible + 1


def test_a_thread_that_the_system_refuses():
    """For want of memory for its stack, as the system says itself."""
    pytest.importorskip("resource")
    done = (
        run(
            """
        import resource
        from descend.engines.native import runtime, workers
        from descend.engines.native.layout import MAILBOX
        worker, mailboxes = runtime.runtime().worker_at, MAILBOX.array(2)
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 20), -1))
        print(workers._start_thread(worker, mailboxes.ctypes.data))
        resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
        print(workers._start_thread(worker, mailboxes.ctypes.data + MAILBOX.bytes))
        """
        )
        if sys.platform == "linux"
        else pytest.skip("Linux says how much memory a process has")
    )
    assert done.stdout.split() == ["False", "True"]


def test_cores_are_those_that_this_process_may_use(monkeypatch):
    """By Python's own count, by the affinity mask, or, where there is neither, all that there are."""
    monkeypatch.setattr(workers, "quota", lambda: None)
    monkeypatch.setattr(os, "process_cpu_count", lambda: 6, raising=False)
    assert workers.usable_cores() == 6
    monkeypatch.delattr(os, "process_cpu_count")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5}, raising=False)
    assert workers.usable_cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert workers.usable_cores() == 1
    monkeypatch.setattr(os, "cpu_count", lambda: 96)
    monkeypatch.setattr(workers, "quota", lambda: 2)
    assert workers.usable_cores() == 2


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "250000 100000\n"}, 3),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu.max": "nonsense\n"}, None),
        ({}, None),
    ],
)
def test_a_quota_of_the_control_group_counts(tmp_path, files, cores):
    """Of either version of Linux's control groups, rounded up."""
    (tmp_path / "cpu").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert workers.quota(tmp_path, tmp_path / "none") == cores


@pytest.mark.parametrize(
    ("own", "cores"),
    [("0::/jobs.slice/one.scope\n", 1), ("0::/jobs.slice\n", 3), ("4:cpu,cpuacct:/jobs.slice\n", 2), ("0::/\n", 8)],
)
def test_the_quota_of_a_group_around_this_one_counts(tmp_path, own, cores):
    """The smallest of the process's own group, those around it, and the root."""
    for name, text in {
        "cpu.max": "800000 100000\n",
        "jobs.slice/cpu.max": "300000 100000\n",
        "jobs.slice/one.scope/cpu.max": "100000 100000\n",
        "cpu/jobs.slice/cpu.cfs_quota_us": "200000\n",
        "cpu/jobs.slice/cpu.cfs_period_us": "100000\n",
    }.items():
        if not (name.startswith("cpu/") and own.startswith("0")):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
    (tmp_path / "own").write_text(own)
    assert workers.quota(tmp_path, tmp_path / "own") == cores


# ---- processes and systems --------------------------------------------------------------------------------------


def test_workers_use_no_processor_time_between_steps(pool):
    """They sleep as soon as a step is done."""
    stepped(pool(4), steps=200)
    before = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - before < 0.05


def test_workers_are_not_python_threads():
    """They neither show among Python's threads, nor take signals, nor keep the process from ending."""
    done = run(
        """
        import os, signal, threading, numpy as np, descend
        from descend.engines.native import workers
        workers.usable_cores = lambda: 4
        p = np.ones(3_000_000, np.float32)
        engine = descend.engines.Fused(descend.GD(), [p])
        engine.step([p.copy()])
        assert workers.threads.started == 3
        seen = []
        signal.signal(signal.SIGUSR1, lambda *_: seen.append(threading.current_thread() is threading.main_thread()))
        for _ in range(20):
            os.kill(os.getpid(), signal.SIGUSR1)
            engine.step([p.copy()])
        print(threading.active_count(), len(seen), all(seen))
        """
    )
    assert done.stdout.split() == ["1", "20", "True"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_child_starts_workers_of_its_own():
    """It has none of its parent's threads, and gives the same bits; a child that does not step starts none."""
    done = run(
        """
        import os, signal, zlib, numpy as np, descend
        from descend.engines.native import workers
        workers.usable_cores = lambda: 3
        p, g = np.ones(2_000_000, np.float32), np.ones(2_000_000, np.float32)
        engine = descend.engines.Fused(descend.GD(lr=0.1), [p])
        engine.step([g])
        assert (workers.threads.started, workers.threads.forked) == (2, False)
        child = os.fork()
        if child == 0:
            signal.alarm(60)
            assert (workers.threads.started, workers.threads.forked) == (0, True)
        for _ in range(3):
            engine.step([g])
        os.write(1, f"{zlib.crc32(p.tobytes())} {workers.threads.started}\\n".encode())  # at once: both print
        if child == 0:
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        """
    )
    parent, child = done.stdout.splitlines()
    assert parent == child
    assert child.endswith(" 2")


def test_a_system_that_lacks_what_linux_has():
    """No hooks of fork, no affinity, no control groups, no masks of signals, no file locks: steps all the same."""
    done = run(
        """
        import os, multiprocessing.util, random, signal, sys
        import numpy as np, scipy.stats  # what others do with such a system is not tested here
        for module, names in ((os, ["register_at_fork", "sched_getaffinity", "process_cpu_count"]),
                              (signal, ["pthread_sigmask"])):
            for name in names:
                if hasattr(module, name):
                    delattr(module, name)
        sys.modules["fcntl"] = None
        import descend
        from descend.engines.native import workers
        p = np.ones(3_000_000, np.float32)
        descend.engines.Fused(descend.GD(lr=0.5), [p]).step([np.ones_like(p)])
        print(np.unique(p), workers.threads.started == min(workers.usable_cores(), workers.MOST) - 1)
        """
    )
    assert done.stdout.split() == ["[0.5]", "True"]
