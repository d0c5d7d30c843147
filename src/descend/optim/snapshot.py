"""What tensors looked like when a step was planned, and whether they still do.

PyTorch lets C code look at its tensors through DLPack's exchange protocol (``torch.Tensor.__dlpack_c_exchange_api__``,
DLPack 1.3), and machine code looks that way at all of them in one call. Older versions of PyTorch are asked in Python,
tensor by tensor, which takes four times as long.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from itertools import repeat
from operator import is_
from typing import Any

import numpy as np
import torch

from descend.engines.fused import native
from descend.engines.fused.launching import Launch

__all__ = ["Snapshot", "snapshot"]

_ADDRESS = torch.Tensor.data_ptr
_BYTES = torch.Tensor.nbytes.__get__
_DTYPE = torch.Tensor.dtype.__get__
_STRIDE = torch.Tensor.stride


class Snapshot:
    """How objects looked: first gradients, which may be others each time, and then objects that must stay the same.

    Parameters
    ----------
    objects
        All of them.
    targets
        For each gradient, the address of the 64-bit word in which to note where its memory is.
    tensors
        Which of the others are tensors whose memory must not move, by identity; the others need only be there.

    Raises `Unseen` where it cannot look.
    """

    def __init__(self, objects: list[Any], targets: Sequence[int], tensors: set[int]) -> None:
        self.eye = _eye()
        if self.eye is None:
            raise Unseen("PyTorch has no DLPack exchange protocol")
        self.runtime = native.runtime()
        self.held = objects[len(targets) :]  # so that none of them can become another; gradients may go
        self.rows = np.zeros((len(objects), native.EXPECTATION), np.int64)
        self.sizes: list[Any] = []
        see = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_void_p)(int(self.eye[0]))
        seen = np.zeros(6, np.int64)
        for i, (row, thing) in enumerate(zip(self.rows, objects, strict=True)):
            is_gradient = i < len(targets)
            if not is_gradient:
                row[0] = id(thing)
                if id(thing) not in tensors:
                    continue
            if see(thing, seen.ctypes.data) != 0 or seen[0] + seen[5] != thing.data_ptr():
                raise Unseen(f"DLPack does not show where a {type(thing).__name__} is")
            self.sizes.append(np.array([*thing.shape, *thing.stride(), 0], np.int64))
            row[1] = id(type(thing))
            row[2:4] = seen[1:3]
            row[4:] = self.sizes[-1].ctypes.data, thing.numel(), thing.data_ptr(), targets[i] if is_gradient else 0
        self.count = len(objects)
        self.at = self.rows.ctypes.data
        self.eye_at = self.eye.ctypes.data
        if not self.holds(objects):
            raise Unseen("DLPack shows tensors otherwise than PyTorch does")

    def holds(self, objects: list[Any]) -> bool:
        """Whether these look the same; notes where the gradients are."""
        return len(objects) == self.count and self.runtime.look(self.eye_at, objects, self.count, self.at) < 0

    def step(self, objects: list[Any], launch: Launch) -> bool:
        """If these look the same, and the counters are right, run a quick launch; else nothing."""
        return (
            len(objects) == self.count
            and self.runtime.look_and_step(self.eye_at, objects, self.count, self.at, launch.at) < 0
        )


class Unseen(Exception):
    """Machine code cannot look at these tensors; the message says why."""


class _Asked:
    """The same, asked in Python."""

    def __init__(self, objects: list[Any], targets: Sequence[int], tensors: set[int]) -> None:
        self.n = n = len(targets)
        self.targets = [ctypes.c_int64.from_address(target) for target in targets]
        self.held = objects[n:]
        self.tensors = [thing for thing in self.held if id(thing) in tensors]
        self.addresses = [*map(_ADDRESS, self.tensors)]
        self.known = self._known(objects[:n])

    def _known(self, grads: list[torch.Tensor]) -> Any:
        return [[*map(what, grads)] for what in (_BYTES, _DTYPE, _STRIDE)]

    def holds(self, objects: list[Any]) -> bool:
        """Whether these look the same; notes where the gradients are."""
        grads, held = objects[: self.n], objects[self.n :]
        if len(held) != len(self.held) or not all(map(is_, held, self.held)):
            return False
        if not all(map(is_, map(type, grads), repeat(torch.Tensor))):
            return False
        if self.addresses != [*map(_ADDRESS, self.tensors)] or self.known != self._known(grads):
            return False
        addresses = [*map(_ADDRESS, grads)]
        if 0 in addresses and any(size for address, size in zip(addresses, self.known[0], strict=True) if not address):
            return False  # on a device without memory, or all zero without any
        for target, address in zip(self.targets, addresses, strict=True):
            target.value = address
        return True

    def step(self, objects: list[Any], launch: Launch) -> bool:
        """If these look the same, and the counters are right, run a quick launch; else nothing."""
        return self.holds(objects) and launch()


def snapshot(objects: list[Any], targets: Sequence[int], tensors: set[int]) -> Snapshot | _Asked:
    """A `Snapshot`, or where there can be none what does the same."""
    try:
        return Snapshot(objects, targets, tensors) if targets else _Asked(objects, targets, tensors)
    except (Unseen, RuntimeError):
        return _Asked(objects, targets, tensors)


@functools.cache
def _eye() -> Any:
    """What machine code needs to look at tensors: see `native`; None where it cannot."""
    capsule = getattr(torch.Tensor, "__dlpack_c_exchange_api__", None)
    if capsule is None:
        return None
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    try:
        table = pointer(capsule, b"dlpack_exchange_api")
    except ValueError:
        return None
    if table is None or ctypes.c_uint32.from_address(table).value != 1:  # DLPack's major version
        return None
    # A header of two words, three functions that make and take tensors, and the one that only looks, which may be null.
    see = ctypes.c_void_p.from_address(table + 5 * 8).value
    if see is None:
        return None
    get = ctypes.cast(ctypes.pythonapi.PyList_GetItem, ctypes.c_void_p).value
    return np.array([see, get, object.__basicsize__ - 8], np.int64)
