"""Launches: spans of all sizes in parts for any number of threads, counters that must be right, kernels by size."""

import mmap

import numpy as np
import pytest
import torch

import descend
from descend.engines import Fused, Reference
from descend.engines.native import kernels, launch, runtime
from descend.engines.native.formats import Layout
from descend.engines.native.layout import GRAD, PARAM
from descend.engines.native.scalars import Scalars

pytestmark = pytest.mark.machine_code

MAP_NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000)
"""Linux's; Python knows its name from 3.13 on."""


def launched(sizes, dtype="float32", *, lr=0.5):
    """A launch of gradient descent over spans of these sizes."""
    made = launch.Launch(kernels.kernel(descend.GD(), Layout(dtype, dtype, ())), sizes, [0] * len(sizes))
    Scalars(descend.GD(lr=lr), memoryview(made.scalars[0]), made.kernel.numbers).fill(1, {})
    return made


def pointed(made, params, grads):
    made.point(PARAM, [p.ctypes.data for p in params])
    made.point(GRAD, [g.ctypes.data for g in grads])
    return made


@pytest.mark.parametrize(
    "sizes",
    [[], [0], [1], [0, 5_000_000, 0], [1_000_003] * 3, np.random.default_rng(8).integers(0, 90_000, 60).tolist()],
    ids=["none", "empty", "one", "between", "odd", "many"],
)
def test_parts_have_every_chunk_once_and_about_as_much_to_do(sizes):
    """For up to nine threads."""
    made = launched(sizes)
    table, job = made.table, made.job
    lengths = [
        min(span["chunk_length"], span["length"] - k * span["chunk_length"])
        for span in table
        for k in range(span["chunks_end"] - span["chunks_before"])
    ]
    assert sum(lengths) == sum(sizes)
    for count in (1, 2, 3, 9):
        job.divide(count)
        first, end = job.parts["first_chunk"], job.parts["stop_chunk"]
        assert [first[0], *end[:-1], end[-1]] == [0, *first[1:], len(lengths)]
        assert (job.record["parts"], job.record["part_count"]) == (job.parts.ctypes.data, count)
        work = [sum(lengths[a:b]) for a, b in zip(first, end, strict=True)]
        assert max(work) - min(work) <= 2 * max(lengths, default=0)


def test_spans_are_stepped_once_each_with_rows_of_their_own():
    """Small ones, an empty one, and a large one; two learning rates."""
    sizes, rows = [3, 0, 40_000, 1], [0, 1, 1, 0]
    made = launch.Launch(kernels.kernel(descend.GD(), Layout("float32", "float32", ())), sizes, rows)
    for row, lr in enumerate((0.5, 0.25)):
        Scalars(descend.GD(lr=lr), memoryview(made.scalars[row]), made.kernel.numbers).fill(1, {})
    params, grads = ([np.ones(n, np.float32) for n in sizes] for _ in range(2))
    assert pointed(made, params, grads)()
    assert [np.unique(p).tolist() for p in params] == [[0.5], [], [0.75], [0.5]]


def test_more_than_two_to_the_31_numbers():
    """The last chunk of a span of 2³¹ + 5 numbers, on memory that is reserved and not filled."""
    n = 2**31 + 5
    try:
        maps = [mmap.mmap(-1, 4 * n, flags=mmap.MAP_PRIVATE | MAP_NORESERVE) for _ in range(2)]
    except (OSError, ValueError) as error:
        pytest.skip(f"the system reserves no {4 * n:,} bytes: {error}")
    p, g = (np.frombuffer(m, np.float32) for m in maps)
    p[-5:], g[-5:] = [1, 2, 3, 4, 5], 1.0
    made = pointed(launched([n]), [p], [g])
    chunks = -(-n // launch.MOST)
    assert (made.table["chunks_end"], made.table["length"], made.table["chunk_length"]) == (chunks, n, launch.MOST)
    parts = made.job.parts
    assert (parts["first_chunk"], parts["stop_chunk"]) == (0, chunks)
    parts["first_chunk"] = chunks - 1  # so that the first chunk to be claimed is the last
    made.shares, made.quick = False, True
    assert made()
    assert p[-5:].tolist() == [0.5, 1.5, 2.5, 3.5, 4.5]
    assert p[0] == 0.0


def test_a_counter_that_was_changed_stops_the_step_before_anything_is_done():
    """Neither numbers nor other counters move, and the step that follows expects what it expected before."""
    p, g = np.ones(3), np.ones(3)
    counters = np.array([0.0, 5.0], np.float32)
    made = pointed(launched([3], "float64"), [p], [g])
    made.watch([counters[k:].ctypes.data for k in range(2)], [0.0, 5.0], [1.0, 5.0], [1.0, 0.0])
    assert made()
    made.expect(1, 6.0)
    assert made()
    assert counters.tolist() == [2.0, 6.0]
    assert p.tolist() == [0.0] * 3
    for wrong in ([7.0, 6.0], [2.0, 5.0], [float("nan"), 6.0]):
        counters[:] = wrong
        assert not made()
        assert np.array_equal(counters, np.float32(wrong), equal_nan=True)
        assert p.tolist() == [0.0] * 3
    counters[:] = [2.0, 6.0]
    assert made()
    assert counters.tolist() == [3.0, 6.0]


def test_a_counter_of_float32_is_not_let_past_its_last_whole_number():
    """Beyond 2**24 it would stand still: nothing is done there. A wide one, of float64, goes on."""
    p, g = np.ones(3), np.ones(3)
    for dtype, wide in ((np.float32, False), (np.float64, True)):
        counter = np.array([2.0**24 - 1], dtype)
        made = pointed(launched([3], "float64"), [p], [g])
        made.watch([counter.ctypes.data], [counter[0]], [counter[0] + 1], [1.0], wide)
        assert made()
        assert counter[0] == 2**24
        before = p.copy()
        assert made() is wide
        assert counter[0] == 2**24 + wide
        assert (p.tolist() == before.tolist()) is not wide


def test_numbers_below_the_normal_range_are_flushed_and_only_in_a_step():
    """An average that decays ends at zero, and the processor goes on as it was told before."""
    p, g = np.ones(100, np.float32), np.zeros(100, np.float32)
    runner = Fused(descend.Adam(), [p])
    runner.step([np.full(100, 1e-30, np.float32)])
    for _ in range(500):
        runner.step([g])
    for state in runner.state[0].values():
        assert np.all((state == 0) | (np.abs(state) >= np.finfo(np.float32).tiny))
    assert np.all(runner.state[0]["exp_avg"] == 0)
    assert np.float32(1e-39) * np.float32(0.5) > 0
    assert (np.full(100_000, 1e-39, np.float32) * np.float32(0.5)).min() > 0


def test_an_interrupt_in_a_cautious_step_leaves_a_launch_that_steps(monkeypatch):
    """What counts the moves has a job of its own: the other still has its kernel and its counters."""
    rule = descend.GD(lr=0.5, cautious=True)
    expected, g, count = np.linspace(-1, 1, 50_000), np.linspace(-2, 1, 50_000), np.zeros(1, np.float32)
    p = expected.copy()
    Reference(rule, [expected]).step([g])
    made, (scalars,) = launch.lay_out([rule], Layout("float64", "float64", ()), [p.size], [0])
    pointed(made, [p], [g]).watch([count.ctypes.data], [0.0], [1.0], [1.0])
    scalars.fill(1, {})

    def interrupted(job):
        raise KeyboardInterrupt

    for name in ("_alone", "_run"):
        with monkeypatch.context() as patched:
            patched.setattr(made, name, interrupted)
            patched.setattr(made, "shares", False)
            with pytest.raises(KeyboardInterrupt):
                made()
    assert count[0] == 0
    assert made()
    assert count[0] == 1
    assert p.tobytes() == expected.tobytes()


def test_large_steps_have_wide_vectors():
    """From where memory holds a step up, in NumPy and in PyTorch."""
    layout = Layout("float32", "float32", ())
    edge = -(-launch.WIDE // layout.bytes)
    narrow, wide = (kernels.kernel(descend.GD(), layout, wide=w) for w in (False, True))
    assert launch.best_kernel(descend.GD(), layout, edge - 1) is narrow
    assert launch.best_kernel(descend.GD(), layout, edge) is wide
    assert (narrow is wide) != runtime.has_wide_vectors()
    p = torch.nn.Parameter(torch.ones(edge))
    p.grad = torch.ones(edge)
    optimizer = descend.optim.from_rule(descend.GD)([p])
    optimizer.step()
    assert optimizer.stepper.plan.spans.launches[0].kernel is wide
