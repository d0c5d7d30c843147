"""Ctrl-C as a question that is asked between steps."""

from __future__ import annotations

import contextlib
import contextvars
import logging
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, ClassVar, TypeVar

__all__ = ["Interrupts", "holding", "interruptible", "interrupts"]

T = TypeVar("T")

LOG = logging.getLogger("descend")

PATIENCE = 2.0
"""Seconds after the second press from which on one more interrupts whatever is being done."""

AGAIN = 0.5
"""Seconds after the end of a descent that was pressed in, within which a press in the next one is the second press."""


class Presses:
    """What the handler of SIGINT has counted: `asked` by the first press, `at_once` by the second one.

    The second one raises `KeyboardInterrupt` where the user's code runs, which `open` tells, and nowhere else: so no
    step is left half made, and no result half built. Where descend's own code runs it is kept until `Interrupts.call`.

    Who presses twice to leave a loop of descents cannot know where one ends: the second press may fall into the next
    descent. So the first press of a descent `follows` if the one before was pressed in and has only just ended; it is
    a second press then.
    """

    last: ClassVar[float] = -math.inf
    """When the last descent that was pressed in has ended; before its end, when it was pressed in."""

    def __init__(self) -> None:
        self.asked = self.at_once = self.follows = self.open = self.handles = self._logging = False
        self._noted = False  # `asked` is set by interrupts that are raised as well, which need not be presses
        self._since = math.inf

    def take_note(self, _signal: int, _frame: FrameType | None) -> None:
        """Take note of a press; raises `KeyboardInterrupt` from the second one on, where that does no harm."""
        if self._logging:  # an exception raised within logging would leave its locks taken
            self.at_once = True
            return
        now = time.monotonic()
        follows, self._noted, Presses.last = now - Presses.last < AGAIN, True, now
        if not self.asked and follows:
            self.asked = self.at_once = self.follows = True
        elif not self.asked:
            self.asked = self._logging = True
            LOG.warning("stopping after this step; press Ctrl-C again to stop at once")
            self._logging = False
        else:
            self.at_once = True
        if not self.at_once:
            return
        self._since = min(self._since, now)
        if self.open or now - self._since > PATIENCE:
            self.open = False
            raise KeyboardInterrupt

    def end(self) -> None:
        """Take note that the descent has ended."""
        if self._noted:
            Presses.last = time.monotonic()


class Interrupts:
    """What Ctrl-C has asked of one descent or training: a call says whether to stop after the step at hand.

    `at_once` says whether it was pressed again. The user's functions are called by `call`. `nested` says whether the
    descent runs within a function of another one: the first press is for that one then, which ends when its function
    has returned a finished value. `foreign` says whether somebody else handles SIGINT.
    """

    def __init__(
        self, presses: Presses | None = None, *, nested: bool = False, foreign: bool = False, elsewhere: bool = False
    ) -> None:
        self.presses = Presses() if presses is None else presses
        self.nested, self.foreign, self._elsewhere = nested, foreign, elsewhere

    def __call__(self) -> bool:
        return self.presses.asked and not self.nested

    @property
    def at_once(self) -> bool:
        """Whether it was pressed again."""
        return self.presses.at_once

    @property
    def leaves_loop(self) -> bool:
        """Whether it was pressed just after a press that has ended the descent before, and no descent is around."""
        return self.presses.follows and not self.nested

    def call(self, function: Callable[..., T], *args: Any) -> T:
        """Call what is the user's: a second press, before or meanwhile, raises `KeyboardInterrupt` here."""
        presses = self.presses
        if presses.at_once:
            raise KeyboardInterrupt
        if self._elsewhere:
            return function(*args)
        try:
            presses.open = True
            return function(*args)
        finally:
            presses.open = False

    def in_thread(self) -> Interrupts:
        """The same for a thread that is not the one which signals interrupt."""
        return Interrupts(self.presses, nested=self.nested, foreign=self.foreign, elsewhere=True)

    def answers(self, error: KeyboardInterrupt) -> bool:
        """Whether a result may answer an interrupt, which otherwise has to reach somebody else.

        That is the descent around this one, the owner of SIGINT, or who raised an interrupt of his own kind.
        """
        return type(error) is KeyboardInterrupt and not (self.nested or self.foreign)

    def is_first(self, error: KeyboardInterrupt) -> bool:
        """Whether an interrupt is to be taken as the first press: it ends the descent with its result."""
        first = self.answers(error) and not self.presses.asked
        self.presses.asked = True
        return first


_AROUND: contextvars.ContextVar[Interrupts | None] = contextvars.ContextVar("descend_interrupts", default=None)
"""Those of the descent whose function is running."""


@contextlib.contextmanager
def interrupts() -> Iterator[Interrupts]:
    """Turn the first Ctrl-C into a question to be asked between steps; the second one interrupts at once.

    Only in the main thread, and only where nobody else handles SIGINT; elsewhere Ctrl-C does what it always does.
    Within a function of another descent, presses are counted together with it.
    """
    around, main = _AROUND.get(), threading.current_thread() is threading.main_thread()
    presses, installed = Presses(), False
    foreign = main and around is None and signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    if around is not None and main and around.presses.handles:
        presses = around.presses
    elif main and around is None and not foreign:
        # From here to the end no press can raise in between: the handler is put first in place, and taken away last.
        presses.handles = installed = True
        signal.signal(signal.SIGINT, presses.take_note)
    was_open, presses.open = presses.open, False
    found = Interrupts(presses, nested=around is not None, foreign=foreign)
    token = _AROUND.set(found)
    try:
        yield found
    finally:
        _AROUND.reset(token)
        presses.open = was_open
        if installed:
            presses.end()
            signal.signal(signal.SIGINT, signal.default_int_handler)


def interruptible(work: Callable[[Interrupts], T]) -> T:
    """What `work` makes while Ctrl-C is a question. Pressed when that is made, Ctrl-C does not lose it."""
    made: list[T] = []
    asked = Interrupts()
    try:
        with interrupts() as asked:
            made.append(work(asked))
    except KeyboardInterrupt:
        if not made:
            raise
        asked.presses.asked, Presses.last = True, time.monotonic()
    return made[0]


def holding(error: KeyboardInterrupt, result: Any) -> KeyboardInterrupt:
    """An interrupt that ends a descent, with what its caller would have been given: as `result`, and a note says so."""
    if not hasattr(error, "result"):
        error.add_note("What was found so far is kept: `.result` of this exception has it.")
    error.result = result  # type: ignore[attr-defined]
    return error
