"""What a step looks at: how it was when the step was planned, and whether it still is.

PyTorch lets C code look at its tensors through DLPack's exchange protocol (``torch.Tensor.__dlpack_c_exchange_api__``,
DLPack 1.3), and machine code looks that way at all of them in one call, walking through Python's lists and dicts
itself. Older versions of PyTorch are asked in Python, tensor by tensor, which takes several times as long.
"""

from __future__ import annotations

import ctypes
import functools
import sysconfig
from collections.abc import Sequence
from itertools import chain, repeat
from operator import attrgetter, is_
from typing import Any

import numpy as np
import torch

from descend.engines.native import runtime as native
from descend.engines.native.launch import Launch

__all__ = ["Snapshot", "snapshot"]

_NAME = "grad"
_GRAD = attrgetter(_NAME)
_ADDRESS = torch.Tensor.data_ptr
_BYTES = torch.Tensor.nbytes.__get__
_DTYPE = torch.Tensor.dtype.__get__
_STRIDE = torch.Tensor.stride
_ITEM, _ATTRIBUTE, _LIST, _DICT = range(4)
"""Kinds of expectations, as ``guards.ll`` has them."""

Container = list[Any] | dict[Any, Any]


class _Known:
    """What was there.

    Parameters
    ----------
    attributes
        Objects, and names of attributes of theirs that must stay the same.
    containers
        Lists and dicts in which the same must stay, in the same order; in a dict under the same keys.
    tensors
        Which of all that are tensors whose memory must not move, by identity; the others need only be there.
    params, targets
        Parameters whose gradients may be others each time, but of the same kind; and for each of them the address of
        the 64-bit word in which a look notes where its memory is.
    launch
        What a look steps if all is as it was, and the counters are right; it must be quick.
    """

    def __init__(
        self,
        attributes: Sequence[tuple[Any, str]],
        containers: Sequence[Container],
        tensors: set[int],
        params: Sequence[torch.Tensor],
        targets: Sequence[int],
        launch: Launch | None = None,
    ) -> None:
        self.attributes, self.containers, self.tensors = attributes, containers, tensors
        self.params, self.targets, self.launch = params, targets, launch
        # Held, so that nothing can become another; only gradients may go.
        self.values = [getattr(holder, name) for holder, name in attributes]
        self.inside = [_inside(container) for container in containers]
        self.keys = [_keys(container) for container in containers]

    def renew(self, many: int) -> bool:
        """Take what is in the first so many containers for what must stay there.

        False if it is more or less than it was, or another container.
        """
        for i in range(many):
            now, before = _inside(self.containers[i]), self.inside[i]
            if not _are(_keys(self.containers[i]), self.keys[i]) or len(now) != len(before):
                return False
            for place, (one, other) in enumerate(zip(now, before, strict=True)):
                if one is not other:
                    if any(map(is_, self.containers, repeat(other))):
                        return False
                    self._expect(i, place, one)
            self.inside[i] = now
        return True

    def _expect(self, container: int, place: int, thing: Any) -> None:
        """Let a thing stay at its place in a container, instead of what was there."""


class Snapshot(_Known):
    """Machine code looks: `look` returns a negative number if all is as it was. Raises `Unseen` where it cannot."""

    def __init__(self, *known: Any) -> None:
        super().__init__(*known)
        see = _see()
        if see is None:
            raise Unseen("PyTorch has no DLPack exchange protocol")
        if not all(type(container) is list or isinstance(container, dict) for container in self.containers):
            raise Unseen("machine code looks into lists and dicts only")
        self.see = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_void_p)(see)
        self.sizes: list[Any] = []
        self.starts: list[int] = []
        rows = []
        for (holder, name), value in zip(self.attributes, self.values, strict=True):
            rows.append([_ATTRIBUTE, id(value), *self._kept(value), id(holder), id(name)])
        for container, keys, values in zip(self.containers, self.keys, self.inside, strict=True):
            kind = _DICT if isinstance(container, dict) else _LIST
            rows.append([kind, id(container), len(values), *[0] * 8])
            self.starts.append(len(rows))
            rows += [
                [_ITEM, id(value), *self._kept(value), 0, id(key)] for key, value in zip(keys, values, strict=True)
            ]
        for p, target in zip(self.params, self.targets, strict=True):
            rows.append([_ATTRIBUTE, 0, *self._seen(p.grad, target), id(p), id(_NAME)])
        self.rows = np.array(rows, np.int64)
        self.sight = np.array([see, object.__basicsize__ - 8, self.rows.ctypes.data, len(rows), 0], np.int64)
        self.look = native.builtin(native.runtime().look, self.sight.ctypes.data)
        if self.look() >= 0:
            raise Unseen("DLPack shows tensors otherwise than PyTorch does")
        if self.launch is not None:
            self.sight[4] = self.launch.at

    def _expect(self, container: int, place: int, thing: Any) -> None:
        self.rows[self.starts[container] + place, 1] = id(thing)

    def _kept(self, thing: Any) -> list[int]:
        """What is expected of a thing beyond its being there."""
        return self._seen(thing, 0) if id(thing) in self.tensors else [0] * 7

    def _seen(self, tensor: Any, target: int) -> list[int]:
        seen = np.zeros(6, np.int64)
        if self.see(tensor, seen.ctypes.data) != 0 or seen[0] + seen[5] != tensor.data_ptr():
            raise Unseen(f"DLPack does not show where a {type(tensor).__name__} is")
        self.sizes.append(np.array([*tensor.shape, *tensor.stride(), 0], np.int64))
        sizes = self.sizes[-1].ctypes.data
        return [id(type(tensor)), int(seen[1]), int(seen[2]), sizes, tensor.numel(), tensor.data_ptr(), target]


class Unseen(Exception):
    """Machine code cannot look at these objects; the message says why."""


class _Asked(_Known):
    """The same, asked in Python."""

    def __init__(self, *known: Any) -> None:
        super().__init__(*known)
        self.words = [ctypes.c_int64.from_address(target) for target in self.targets]
        self.memory = [thing for thing in chain(self.values, *self.inside) if id(thing) in self.tensors]
        self.addresses = [*map(_ADDRESS, self.memory)]
        self.kinds = self._kinds([*map(_GRAD, self.params)])

    def _kinds(self, grads: list[torch.Tensor]) -> Any:
        return [[*map(what, grads)] for what in (_BYTES, _DTYPE, _STRIDE)]

    def look(self) -> int:
        """A negative number if all is as it was."""
        return -1 if self._holds() and (self.launch is None or self.launch()) else 0

    def _holds(self) -> bool:
        if not _are([getattr(holder, name) for holder, name in self.attributes], self.values):
            return False
        for container, keys, values in zip(self.containers, self.keys, self.inside, strict=True):
            if not (_are(_inside(container), values) and _are(_keys(container), keys)):
                return False
        grads = [*map(_GRAD, self.params)]
        if not all(map(is_, map(type, grads), repeat(torch.Tensor))):
            return False
        if self.addresses != [*map(_ADDRESS, self.memory)] or self.kinds != self._kinds(grads):
            return False
        addresses = [*map(_ADDRESS, grads)]
        if 0 in addresses and any(size for address, size in zip(addresses, self.kinds[0], strict=True) if not address):
            return False  # on a device without memory, or all zero without any
        for word, address in zip(self.words, addresses, strict=True):
            word.value = address
        return True


def snapshot(*known: Any) -> Snapshot | _Asked:
    """A `Snapshot`, or where there can be none what does the same; for the parameters see `_Known`."""
    try:
        return Snapshot(*known)
    except (Unseen, RuntimeError):
        return _Asked(*known)


def _inside(container: Container) -> list[Any]:
    return [*(container.values() if isinstance(container, dict) else container)]


def _keys(container: Container) -> list[Any]:
    """Under which keys it is inside; in a list, under none."""
    return [*container] if isinstance(container, dict) else [None] * len(container)


def _are(some: list[Any], others: list[Any]) -> bool:
    """Whether these are the same objects."""
    return len(some) == len(others) and all(map(is_, some, others))


@functools.cache
def _see() -> int | None:
    """The address of DLPack's way to see a tensor of PyTorch's from C; None where there is none.

    Nor is there one for Python without its lock, where what machine code looks at may be gone meanwhile.
    """
    capsule = getattr(torch.Tensor, "__dlpack_c_exchange_api__", None)
    if capsule is None or sysconfig.get_config_var("Py_GIL_DISABLED"):
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
    return ctypes.c_void_p.from_address(table + 5 * 8).value
