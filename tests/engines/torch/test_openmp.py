"""Steps that PyTorch's own threads help with: how many, whether they come in time, what happens where they cannot."""

import os
import sys
import threading
import time

import numpy as np
import pytest
from tests.processes import run

import descend
from descend.engines.native import workers

torch = pytest.importorskip("torch")
from descend.engines.torch import openmp as module  # noqa: E402
from descend.engines.torch.openmp import OpenMPThreads, openmp_threads  # noqa: E402

N = 600_000
JUDGE = OpenMPThreads._judge
pytestmark = [
    pytest.mark.machine_code,
    pytest.mark.skipif(not openmp_threads.available, reason="this PyTorch computes without OpenMP"),
]


@pytest.fixture(autouse=True)
def two_threads(monkeypatch):
    """OpenMP has two threads, on any machine, and is asked at each step, whether they come in time or not."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    monkeypatch.setattr(OpenMPThreads, "_judge", lambda self: None)
    monkeypatch.setattr(workers, "WAKE", 0)
    openmp_threads._back_off.left, openmp_threads._back_off.next = 0, 1
    yield
    torch.set_num_threads(before)
    openmp_threads._back_off.left, openmp_threads._back_off.next = 0, 1


@pytest.fixture
def own(monkeypatch):
    """How many threads each step was shared by that our own workers, not OpenMP's, helped with."""
    seen, run = [], workers.WorkerPool.run

    def noting(self, runtime, job, most=workers.MOST):
        seen.append(most)
        return run(self, runtime, job, most)

    monkeypatch.setattr(workers.WorkerPool, "run", noting)
    return seen


def stepper(n=N, seed=0, cautious=True):
    p = torch.nn.Parameter(torch.from_numpy(np.random.default_rng(seed).normal(size=n).astype(np.float32)))
    p.grad = torch.from_numpy(np.random.default_rng(seed + 1).normal(size=n).astype(np.float32))
    return p, descend.optim.Adam([p], lr=0.1, cautious=cautious)


def expected(steps, *args, **kwargs):
    """What one thread makes of it."""
    p, optimizer = stepper(*args, **kwargs)
    with workers.threads.limited(1):
        for _ in range(steps):
            optimizer.step()
    return p.detach()


@pytest.mark.parametrize("number", [1, 2, 3, 5])
def test_any_number_of_threads_gives_the_same_bits(number):
    """More threads than cores among them, and more of them later than at first."""
    p, optimizer = stepper()
    for _ in range(4):
        optimizer.step()
    torch.set_num_threads(number)
    for _ in range(4):
        optimizer.step()
    assert torch.equal(p, expected(8))
    assert optimizer.stepper.plan.spans.launches[0].job.part_count == (2 if number == 1 else number)


def test_one_thread_of_pytorchs_is_one_of_ours(own, monkeypatch):
    """``torch.set_num_threads(1)`` holds for steps, too: nobody helps."""
    torch.set_num_threads(1)
    monkeypatch.setattr(workers.WorkerPool, "_start", lambda *_: pytest.fail("workers started"))
    p, optimizer = stepper()
    optimizer.step()
    assert own == []
    assert optimizer.stepper.plan.spans.launches[0].job.part_count == 1
    assert torch.equal(p, expected(1))


def test_a_limit_of_ours_holds_for_pytorchs_threads():
    p, optimizer = stepper()
    with workers.threads.limited(1):
        optimizer.step()
    assert optimizer.stepper.plan.spans.launches[0].job.part_count == 1
    assert torch.equal(p, expected(1))


def test_threads_that_wait_awake_come_in_time():
    """Right after work of PyTorch's own; not always, on a machine that has other work."""
    if hasattr(os, "sched_getaffinity") and len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one core")
    _, optimizer = stepper(4_000_000)
    for _ in range(200):
        torch.ones(4_000_000).exp_()
        optimizer.step()
        if openmp_threads.timely:
            return
    pytest.fail("never in 200 steps")


def test_threads_that_come_too_late_are_left_out_for_a_while(own, monkeypatch):
    """Our own workers help with so many steps, then OpenMP is asked again; late again, with twice as many."""
    p, optimizer = stepper(cautious=False)
    optimizer.step()
    launch = optimizer.stepper.plan.spans.launches[0]
    asked = []
    timely = [0, 0, 0, 0, 1, 0, 0]

    class Runtime:
        """Machine code, at whose end it is said whether anybody was in time."""

        with_workers, worker_at = launch._runtime.with_workers, launch._runtime.worker_at

        @staticmethod
        def with_openmp(*args, real=launch._runtime.with_openmp):
            asked.append(len(own))
            done = real(*args)
            openmp_threads._record["timely"] = timely[len(asked) - 1]
            return done

    launch._runtime = Runtime
    monkeypatch.setattr(openmp_threads, "longest", 4)
    monkeypatch.setattr(OpenMPThreads, "_judge", JUDGE)
    own.clear()
    for _ in range(20):
        optimizer.step()
    assert asked == [0, 1, 3, 7, 11, 11, 12]
    assert own == [2] * 13
    assert torch.equal(p, expected(21, cautious=False))


def test_small_steps_wake_no_workers_while_openmp_is_left_out(own, monkeypatch):
    """They are made by the caller alone."""
    monkeypatch.setattr(workers, "WAKE", 1 << 30)
    p, optimizer = stepper(cautious=False)
    optimizer.step()
    openmp_threads._back_off.left = 3
    for _ in range(3):
        optimizer.step()
    assert own == [2] * 3
    assert openmp_threads._back_off.left == 0
    assert torch.equal(p, expected(4, cautious=False))


def test_a_refused_launch_says_nothing_of_openmp(monkeypatch):
    """The count of another launch that was made before decides nothing."""
    p, optimizer = stepper(cautious=False)
    optimizer.step()
    launch = optimizer.stepper.plan.spans.launches[0]
    optimizer.state[p]["step"].fill_(7.0)
    monkeypatch.setattr(OpenMPThreads, "_judge", JUDGE)
    openmp_threads._record["timely"] = 0
    assert not launch()
    assert openmp_threads._back_off.left == 0


def test_fewer_chunks_than_threads():
    """Of 64 threads some have nothing to do."""
    p, optimizer = stepper(75_000, cautious=False)
    torch.set_num_threads(64)
    for _ in range(5):
        optimizer.step()
    launch = optimizer.stepper.plan.spans.launches[0]
    assert launch.shares
    assert launch.job.part_count == launch.job.chunks < 64
    assert torch.equal(p, expected(5, 75_000, cautious=False))


def test_the_same_where_pytorch_has_no_openmp(own, monkeypatch):
    """Our own workers help, no more of them than PyTorch would use threads."""
    monkeypatch.setattr(module, "_functions", lambda: None)
    one = OpenMPThreads()
    p, optimizer = stepper()
    optimizer.step()
    optimizer.stepper.plan.spans.launches[0]._helpers = one
    optimizer.step()
    assert own == [2, 2]  # the count of what is moved, and the move
    assert torch.equal(p, expected(2))


def test_what_pytorch_computes_with_is_found():
    parallel, number = module._functions()
    assert parallel
    assert number


@pytest.mark.parametrize("about", ["ATen parallel backend: native thread pool", "OpenMP 4.5\nATen parallel backend: x"])
def test_another_backend_is_not_openmp(about, monkeypatch):
    monkeypatch.setattr(torch.__config__, "parallel_info", lambda: about)
    assert module._functions() is None


def test_several_python_threads_step_at_once():
    """Some have help, each of its own threads of OpenMP's; some do not."""
    ends = []

    def work(seed):
        p, optimizer = stepper(200_000, seed)
        for _ in range(30):
            optimizer.step()
            time.sleep(0)
        ends.append((seed, p))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ends) == 4
    assert all(torch.equal(p, expected(30, 200_000, seed)) for seed, p in ends)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_a_forked_child_steps_without_openmp():
    """OpenMP's threads stayed with the parent, and a region of OpenMP would wait for them for ever."""
    done = run(
        """
        import os, signal, zlib, torch, descend
        from descend.engines.native import workers
        from descend.engines.torch.openmp import openmp_threads
        torch.set_num_threads(2)
        p = torch.nn.Parameter(torch.ones(2_000_000))
        p.grad = torch.ones(2_000_000)
        optimizer = descend.optim.Adam([p])
        optimizer.step()
        assert openmp_threads.available
        openmp_threads._back_off.left = 0
        child = os.fork()
        if child == 0:
            signal.alarm(60)
            assert workers.threads.forked
        for _ in range(3):
            optimizer.step()
        os.write(1, f"{zlib.crc32(p.detach().numpy().tobytes())}\\n".encode())
        if child == 0:
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        """
    )
    parent, child = done.stdout.split()
    assert parent == child


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_a_forked_child_that_loads_descend_optim_first():
    """PyTorch computed with OpenMP before, in the parent; its own operations would hang in the child."""
    done = run(
        """
        import os, signal, torch, descend
        torch.set_num_threads(2)
        p = torch.nn.Parameter(torch.ones(2_000_000).exp_() * 0)
        p.grad = torch.ones(2_000_000)
        child = os.fork()
        if child == 0:
            signal.alarm(60)
            optimizer = descend.optim.SGD([p], lr=0.5)
            for _ in range(3):
                optimizer.step()
            os.write(1, str(p[0].item()).encode())
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        """
    )
    assert float(done.stdout) == -1.5
