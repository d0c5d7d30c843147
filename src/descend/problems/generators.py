"""The global generators of random numbers of NumPy, Python and PyTorch: seeded for a run, and given back after it.

A problem's functions should draw from the generator that they are handed. Many draw from global ones, and a seed is a
seed all the same.
"""

from __future__ import annotations

import contextlib
import pickle
import random
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

__all__ = ["OF_TORCH", "START", "STEPS", "drawn", "seeded"]

START, STEPS = 2, 3
"""Streams of a seed: for making the start of a run, and for what its functions draw. Others are PyTorch's own."""

OF_TORCH = threading.RLock()
"""Held while PyTorch's generator is replaced, so that threads do not draw from each other's."""
_LOCK = threading.Lock()
_THREADS: list[int] = []
"""The thread that has the generators, once for each block that it is in."""
_SPARE: list[np.random.MT19937] = []
"""Generators that no block has: making one takes longer than seeding it anew."""


@contextlib.contextmanager
def seeded(seed: int, stream: int) -> Iterator[None]:
    """Let the global generators begin at a seed's stream within the block, and go on after it where they were before.

    A process has one of each. Where another thread is in such a block, the two draw from one stream, as they would
    without: what that thread has begun is left alone.
    """
    with _LOCK:
        alone = not _THREADS or _THREADS[-1] == threading.get_ident()
        if alone:
            _THREADS.append(threading.get_ident())
    if not alone:
        yield
        return
    first, second = np.random.SeedSequence(int(seed), spawn_key=(stream,)).generate_state(2, np.uint32).tolist()
    try:
        with _numpy(first), _python(second), _torch(first << 32 | second):
            yield
    finally:
        with _LOCK:
            _THREADS.pop()


@contextlib.contextmanager
def _numpy(seed: int) -> Iterator[None]:
    legacy: Any = np.random
    before, state = legacy.get_bit_generator(), legacy.get_state(legacy=False)
    own = _SPARE.pop() if _SPARE else np.random.MT19937()
    legacy.set_bit_generator(own)  # what was set may be of a kind that knows no such seeding
    try:
        legacy.seed(seed)
        yield
    finally:
        legacy.set_bit_generator(before)
        if state.get("has_gauss"):  # of the two normal numbers that are drawn at a time one is left
            legacy.set_state(state)
        _SPARE.append(own)


@contextlib.contextmanager
def _python(seed: int) -> Iterator[None]:
    before = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(before)


@contextlib.contextmanager
def _torch(seed: int) -> Iterator[None]:
    torch = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "random"):  # not imported, or not to the end
        yield
        return
    with OF_TORCH:
        before = torch.random.get_rng_state()
        torch.random.default_generator.manual_seed(seed >> 1)  # torch.manual_seed would seed the GPUs besides
    try:
        yield
    finally:
        with OF_TORCH:
            torch.random.set_rng_state(before)


def drawn() -> Any:
    """Where the global generators are: another value once somebody has drawn from one of them."""
    legacy: Any = np.random
    torch = sys.modules.get("torch")
    of_torch = None if torch is None else torch.random.get_rng_state().numpy().tobytes()
    return pickle.dumps(legacy.get_state(legacy=False)), random.getstate(), of_torch
