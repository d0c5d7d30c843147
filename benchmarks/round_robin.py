"""Contenders in processes of their own, or beside each other in one, which are timed in turns.

Each library keeps its threads, its memory and its OpenMP to itself, as it does for its users. Whoever has no turn is
stopped (SIGSTOP): else its threads, which go on waiting for work after a step, would take a core from whoever has one.
A process that dies or takes too long is ended, its contender left out, and a new one started when needed.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import math
import multiprocessing
import os
import signal
import sys
import time
import traceback
import warnings
from typing import Any

LONGEST = 200
"""Steps between two flips of the gradients' sign."""
WARM = 5e-3
"""Seconds that a contender steps before it is timed, in which caches and threads come to rest."""


class Left(Exception):
    """A contender does not take part; the message says why."""


class Seat:
    """A contender, seen from outside: in a process of its own, or `beside` another one and in its memory.

    With `source` its process takes descend from that folder, which another commit was checked out to.
    """

    def __init__(
        self, name: str, threads: int, patience: float, beside: Seat | None = None, source: str | None = None
    ) -> None:
        self.name = name
        self._table = _Table(threads, patience, source) if beside is None else beside._table

    def ask(self, what: str, **details: Any) -> Any:
        """The contender's answer; raises `Left`."""
        return self._table.ask(self.name, what, details)

    def end(self) -> None:
        """End the process, for those beside, too."""
        self._table.end()


class _Table:
    """A process in which contenders are, from outside."""

    def __init__(self, threads: int, patience: float, source: str | None = None) -> None:
        self.threads, self.patience, self.source = threads, patience, source
        self._process: Any = None

    def ask(self, name: str, what: str, details: dict[str, Any]) -> Any:
        """The answer of the process; raises `Left`."""
        if self._process is None:
            context = multiprocessing.get_context("spawn")
            self._pipe, other = context.Pipe()
            self._process = context.Process(target=_serve, args=(other, self.threads, self.source), daemon=True)
            self._process.start()
            atexit.register(self.end)  # a process that is stopped would not end by itself
            other.close()
        try:
            self._signal(signal.SIGCONT)
            self._pipe.send((name, what, details))
            if not self._pipe.poll(self.patience):
                raise Left(f"no answer within {self.patience:g} s")
            kind, answer = self._pipe.recv()
            self._signal(signal.SIGSTOP)
        except (EOFError, OSError):
            self.end()
            raise Left("its process died") from None
        except Left:
            self.end()
            raise
        if kind == "left":
            raise Left(answer)
        return answer

    def _signal(self, what: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, what)

    def end(self) -> None:
        """End the process: kindly, or after three seconds not."""
        if self._process is not None:
            self._signal(signal.SIGCONT)
            self._pipe.close()
            self._process.join(3)
            self._process.kill()
            self._process.join()
            self._process = None


def _serve(pipe: Any, threads: int, source: str | None) -> None:
    """Answer until nobody asks."""
    if source is not None:
        sys.path.insert(0, source)
    os.dup2(2, 1)  # what libraries print is no part of the report
    import torch
    from contenders import Skipped, reason

    torch.set_num_threads(threads)
    turns: dict[str, _Turn] = {}
    memory = _Memory()
    while True:
        try:
            name, what, details = pipe.recv()
        except (EOFError, KeyboardInterrupt):
            return
        turn = turns.setdefault(name, _Turn(name, memory))
        try:
            answer = ("here", getattr(turn, what)(**details))
        except Skipped as error:
            answer = ("left", str(error))
        except Exception as error:
            traceback.print_exc()
            answer = ("left", reason(error))
        if answer[0] == "left":
            turn.drop()
        pipe.send(answer)


class _Memory:
    """The data of a process's contenders: one for all where they sit beside each other."""

    def __init__(self) -> None:
        self.known: Any = None

    def data(self, rule: str, shapes: list[tuple[int, ...]], together: bool) -> Any:
        from contenders import Data, OneMemory

        if not together:
            return Data(shapes)
        if self.known is None or self.known[0] != (rule, shapes):
            self.known = (rule, shapes), OneMemory(shapes)
        return self.known[1]


class _Turn:
    """A contender, inside its process."""

    def __init__(self, name: str, memory: _Memory) -> None:
        self.name, self.memory = name, memory
        self.contender: Any = None
        self.each = 0.0

    def drop(self) -> None:
        """Free its memory."""
        self.contender = None
        gc.collect()

    def ready(self, rule: str, shapes: list[tuple[int, ...]], moved: int, together: bool) -> dict[str, Any]:
        """Make it and step until it is warm; where it is after five steps, and what it said."""
        from contenders import YARDSTICKS, make, sample

        import descend

        self.drop()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            if self.name in YARDSTICKS:
                self.contender = made = YARDSTICKS[self.name](moved)
            else:
                self.contender = made = make(
                    self.name, descend.rules.get(rule)(), self.memory.data(rule, shapes, together)
                )
            start = sample(made.arrays())
            for _ in range(2):
                made.step()
            made.wait()
            made.settle()
        taken = []
        for _ in range(3):
            began = time.perf_counter()
            made.step()
            made.wait()
            taken.append(time.perf_counter() - began)
        self.each = min(taken)
        notes = sorted({str(w.message) for w in caught if issubclass(w.category, RuntimeWarning)})
        return {"start": start, "after": sample(made.arrays()), "notes": notes}

    def time(self, seconds: float) -> float:
        """Seconds a step takes: the mean over at least so many seconds of steps, and at least one step."""
        gc.collect()
        gc.disable()
        try:
            return self._time(seconds)
        finally:
            gc.enable()

    def _time(self, seconds: float) -> float:
        made = self.contender
        step = made.step
        total, count, warm = 0.0, 0, min(LONGEST, max(1, int(WARM / self.each)))
        while total < seconds:
            made.flip()
            for _ in range(warm):
                step()
            made.wait()
            number = min(LONGEST, max(1, math.ceil((seconds - total) / self.each)))
            began = time.perf_counter()
            for _ in range(number):
                step()
            made.wait()
            total += time.perf_counter() - began
            count += number
            self.each = total / count
            warm = 1
        return total / count
