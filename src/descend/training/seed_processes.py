"""Work on many seeds in processes of its own, each of which does one seed after the other."""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from descend import errors
from descend.engines.one_thread import one_thread
from descend.errors import DescendError, MissingExtra, ObjectiveError, described
from descend.problems import Problem
from descend.problems.parcels import pack, unpack

__all__ = ["each_seed", "serve"]

Work = Callable[..., Any]
"""Called with the problem, what else was packed, and a seed."""


def each_seed(
    work: Work, problem: Problem, others: Sequence[Any], seeds: Sequence[int], jobs: int
) -> Iterator[tuple[int, Any]]:
    """Each seed with what `work` makes of it, in the order in which they are done.

    They are done in this process if there is one job, else in as many processes. What is raised there is raised here.
    """
    if jobs == 1:
        for seed in seeds:
            with one_thread():
                made = work(problem, *others, seed)
            yield seed, made
        return
    parcel, turns = pack(problem, work, *others), queue.SimpleQueue[int]()
    for seed in seeds:
        turns.put(seed)
    found: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
    processes = [_started() for _ in range(min(jobs, len(seeds)))]
    try:
        for process in processes:
            threading.Thread(target=_feed, args=(process, parcel, turns, found), daemon=True).start()
        for _ in seeds:
            seed, made = found.get()
            if isinstance(made, Exception):
                raise made
            yield seed, made
    finally:
        _end(processes)


def _started() -> subprocess.Popen[bytes]:
    """A process that serves; Ctrl-C is for its parent alone."""
    words = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import serve; serve()"
    return subprocess.Popen(
        [sys.executable, "-c", words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )


def _feed(process: subprocess.Popen[bytes], parcel: bytes, turns: Any, found: Any) -> None:
    """Have a process do seeds, one after the other, while there are any."""
    assert process.stdin is not None
    assert process.stdout is not None
    seed = -1
    try:
        pickle.dump(parcel, process.stdin)
        while not turns.empty():
            with contextlib.suppress(queue.Empty):  # another process may have taken the last one
                seed = turns.get_nowait()
                pickle.dump(seed, process.stdin)
                process.stdin.flush()
                kind, made = pickle.load(process.stdout)
                found.put((seed, made if kind == "made" else _error(kind, made)))
    except (EOFError, OSError, ValueError, pickle.UnpicklingError):
        words = "a worker process died (out of memory, or killed); use jobs=1 to have the work done in this process"
        found.put((seed, ObjectiveError(words)))


def _error(kind: str, words: str) -> DescendError:
    """The error that was raised in a process."""
    known = getattr(errors, kind, None) if kind in errors.__all__ and kind != MissingExtra.__name__ else None
    raised: DescendError = (known or ObjectiveError)(words)
    return raised


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """End processes, whatever they are at."""
    for process in processes:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


def serve() -> None:
    """Be such a process: receive the parcel, then do each seed that is sent."""
    answers, seeds = os.fdopen(os.dup(1), "wb"), sys.stdin.buffer
    os.dup2(2, 1)  # what the problem prints is no answer
    held: tuple[Any, ...] | None = None
    with contextlib.suppress(EOFError, BrokenPipeError):  # the parent has had enough, or is gone
        parcel = pickle.load(seeds)
        while True:
            seed = pickle.load(seeds)
            try:
                held = held or unpack(parcel)
                problem, work, *others = held
                with one_thread():
                    answer = "made", work(problem, *others, seed)
            except Exception as error:
                known = isinstance(error, DescendError)
                answer = type(error).__name__, str(error) if known else described(error)
            pickle.dump(answer, answers)
            answers.flush()
    os._exit(0)
