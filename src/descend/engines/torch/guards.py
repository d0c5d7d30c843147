"""Guards: what was true of Python's objects when a step was planned, and must still be true to make it again.

PyTorch lets C code look at its tensors through DLPack's exchange protocol (``torch.Tensor.__dlpack_c_exchange_api__``,
DLPack 1.3). `NativeGuards` checks all guards that way in one call of machine code (``guards.ll``), which walks through
Python's lists and dicts itself. `PythonGuards` does the same in Python, which takes several times as long, where that
cannot be: with a PyTorch whose insides are not known, which is said once; without machine code; in Python without its
lock; or with ``DESCEND_FAST_GUARDS=0``.
"""

from __future__ import annotations

import ctypes
import os
from collections import namedtuple
from collections.abc import Sequence
from itertools import chain, compress, repeat
from operator import attrgetter, is_
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from descend.engines.memory import Intervals
from descend.engines.native import runtime as native
from descend.engines.native.availability import Unavailable, warn_once
from descend.engines.native.launch import Launch
from descend.engines.native.layout import DL_TENSOR, GUARD, GUARD_SET, Record
from descend.engines.torch.internals import keys_place, view_tensor
from descend.engines.torch.memory import span

__all__ = ["SWITCH", "GuardSet", "NativeGuards", "NotGuardable", "PythonGuards", "guard_set"]

SWITCH = "DESCEND_FAST_GUARDS"
"""The environment variable whose value 0 switches `NativeGuards` off."""

_NAME = "grad"
_GRAD = attrgetter(_NAME)
_ADDRESS = torch.Tensor.data_ptr
_BYTES = torch.Tensor.nbytes.__get__
_DTYPE = torch.Tensor.dtype.__get__
_STRIDE = torch.Tensor.stride
_IS_NEGATED = torch.Tensor.is_neg
_ITEM, _ATTRIBUTE, _LIST, _DICT = range(4)
"""Kinds of guards, as ``guards.ll`` has them."""

_SHOW = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_void_p)
"""The type of the function that shows a tensor."""
_SOURCE = Path(__file__).with_name("guards.ll")


def _fields_of(record: Record) -> Any:
    """A named tuple of a record's fields, each 0 unless given."""
    return namedtuple("_Fields", record.fields, defaults=[0] * len(record.fields))


_View, _Row = _fields_of(DL_TENSOR), _fields_of(GUARD)

Mask = np.ndarray[Any, np.dtype[np.int64]]
Container = list[Any] | dict[Any, Any]


class GuardSet:
    """Guards that are checked together.

    Parameters
    ----------
    attributes
        Objects, and names of attributes of theirs that must stay the same objects.
    containers
        Lists and dicts in which the same objects must stay, in the same order; in a dict under the same keys.
    tensors
        The identities of the tensors among all those whose memory must not move.
    params, targets
        Parameters whose gradients may be others each time, but of the same kind; and for each of them the address of
        the 64-bit word to which a check writes where its gradient's memory is.
    launch
        What a check steps if all guards hold and the counters are right; it must be quick.
    written
        The memory that the step writes, in which no gradient may lie.

    A parameter must have no gradient if it has none when this is made, or since `expect` said so.

    After a check that stepped nothing, the gradients whose addresses it wrote are in `held`, in the order of `params`,
    so that they stay there whatever another thread does: launch, and then `release` them. Gradients are not held
    between steps, since that would double the memory they take.
    """

    held: list[Any]

    def __init__(
        self,
        attributes: Sequence[tuple[Any, str]],
        containers: Sequence[Container],
        tensors: set[int],
        params: Sequence[torch.Tensor],
        targets: Sequence[int],
        launch: Launch | None = None,
        written: Intervals | None = None,
    ) -> None:
        self.attributes, self.containers, self.tensors = attributes, containers, tensors
        self.params, self.targets, self.launch = params, targets, launch
        self.written = Intervals() if written is None else written
        # Held, so that the identity of an object stays its own.
        self.values = [getattr(holder, name) for holder, name in attributes]
        self.inside = [_inside(container) for container in containers]
        self.keys = [_keys(container) for container in containers]

    def check(self) -> int:
        """Check all guards, and step the launch if there is one: a negative number if all was as expected."""
        raise NotImplementedError

    def release(self) -> None:
        """Let go the gradients that the last check held."""
        raise NotImplementedError

    def expectation(self, there: Mask) -> Any:
        """What `expect` takes: that those parameters have gradients for which `there` is 1, and the others none."""
        raise NotImplementedError

    def expect(self, expectation: Any) -> None:
        """Expect from now on these gradients."""
        raise NotImplementedError

    def renew(self, many: int) -> bool:
        """Expect in the first so many containers what is in them now.

        False if that is more or less than there was, or another container.
        """
        for i in range(many):
            now, before = _inside(self.containers[i]), self.inside[i]
            if not _same(_keys(self.containers[i]), self.keys[i]) or len(now) != len(before):
                return False
            for place, (one, other) in enumerate(zip(now, before, strict=True)):
                if one is not other:
                    if any(map(is_, self.containers, repeat(other))):
                        return False
                    self._expect(i, place, one)
            self.inside[i] = now
        return True

    def _expect(self, container: int, place: int, thing: Any) -> None:
        """Expect an object at its place in a container, instead of what was there."""


class NotGuardable(Exception):
    """Machine code cannot guard these objects; the message says why."""


class NativeGuards(GuardSet):
    """Guards that machine code checks. Raises `NotGuardable` where it cannot."""

    def __init__(self, *known: Any) -> None:
        super().__init__(*known)
        machine, view, place = _machine_code(), view_tensor(), keys_place()
        if view is None or place is None:
            raise NotGuardable("PyTorch does not show its tensors to C")
        if not all(type(container) is list or isinstance(container, dict) for container in self.containers):
            raise NotGuardable("machine code looks into lists and dicts only")
        self._view, self._place = _SHOW(view), place
        self._dimensions: list[int] = []
        self._guards = self._rows()
        self._objects, self._types = (self._guards[name][: len(self.params)] for name in ("object", "type"))
        self.expect(self.expectation(np.array([p.grad is not None for p in self.params], np.int64)))
        self._bounds = np.array([self.written.starts, self.written.ends], np.int64)
        self._none: list[None] = [None] * len(self.params)
        self.held = [*self._none]
        self._set = GUARD_SET.one()
        self._set["view_tensor"] = view
        self._set["type_offset"] = object.__basicsize__ - ctypes.sizeof(ctypes.c_void_p)
        self._set["tensor_offset"], self._set["keys_offset"] = place.tensor_offset, place.keys_offset
        self._set["keys_mask"] = place.mask
        self._set["starts"], self._set["ends"] = (side.ctypes.data for side in self._bounds)
        self._set["interval_count"] = len(self.written.starts)
        self._set["guards"] = self._guards.ctypes.data
        self._set["guard_count"] = len(self._guards)
        self._set["held"] = id(self.held)
        self.check = native.builtin(  # type: ignore[method-assign]
            machine.check_at, self._set.ctypes.data
        )
        unmet = self.check() >= 0
        self.release()
        if unmet:
            raise NotGuardable("DLPack shows tensors otherwise than PyTorch does")
        if self.launch is not None:
            self._set["held"] = 0
            self._set["job"] = self.launch.at
            self._set["alone"] = machine.alone_at

    def release(self) -> None:
        self.held[:] = self._none

    def expectation(self, there: Mask) -> Any:
        return id(None) * (1 - there), id(torch.Tensor) * there

    def expect(self, expectation: Any) -> None:
        self._objects[:], self._types[:] = expectation

    def _rows(self) -> np.ndarray[Any, np.dtype[Any]]:
        """The guards as ``guards.ll`` reads them."""
        self._view_record = DL_TENSOR.one()
        self._view_at = self._view_record.ctypes.data
        # Gradients come first: that one came or went is what changes most often.
        rows = [
            self._row(_ATTRIBUTE, _example(p), holder=id(p), name=id(_NAME), target=target, guarded=True)
            for p, target in zip(self.params, self.targets, strict=True)
        ]
        for (holder, name), value in zip(self.attributes, self.values, strict=True):
            rows.append(self._row(_ATTRIBUTE, value, holder=id(holder), name=id(name)))
        self._starts: list[int] = []
        for container, keys, values in zip(self.containers, self.keys, self.inside, strict=True):
            kind = _DICT if isinstance(container, dict) else _LIST
            rows.append(_Row(kind=kind, object=id(container), length=len(values)))
            self._starts.append(len(rows))
            rows += [
                self._row(_ITEM, value, name=id(key))
                if id(value) in self.tensors
                else _Row(kind=_ITEM, object=id(value), name=id(key))
                for key, value in zip(keys, values, strict=True)
            ]
        guards = GUARD.array(len(rows))
        guards[:] = rows
        self._sizes = np.array(self._dimensions, np.int64)
        guards["sizes"] *= self._sizes.itemsize
        guards["sizes"] += self._sizes.ctypes.data
        return guards

    def _expect(self, container: int, place: int, thing: Any) -> None:
        self._guards["object"][self._starts[container] + place] = id(thing)

    def _row(self, kind: int, thing: Any, *, guarded: bool = False, **fields: int) -> Any:
        """A guard that this very object is there; of a tensor whose memory is guarded, that it is of the same kind.

        `sizes` is for now the place of the tensor's sizes among those of all.
        """
        if not guarded and id(thing) not in self.tensors:
            return _Row(kind=kind, object=id(thing), **fields)
        failed = self._view(thing, self._view_at)
        view = _View(*self._view_record.tolist())
        address = thing.data_ptr()
        if failed or view.data + view.byte_offset != address:
            raise NotGuardable(f"DLPack does not show where a {type(thing).__name__} is")
        place = len(self._dimensions)
        self._dimensions += thing.shape
        self._dimensions += thing.stride()
        return _Row(
            kind=kind,
            object=id(thing),
            type=id(type(thing)),
            device=view.device,
            dimensions=view.dimensions,
            sizes=place,
            numel=thing.numel(),
            bytes=span(thing),
            keys=self._place.negative if thing.is_neg() else 0,
            address=address,
            **fields,
        )


class PythonGuards(GuardSet):
    """The same guards, checked in Python."""

    def __init__(self, *known: Any) -> None:
        super().__init__(*known)
        self.held = []
        self._words = [ctypes.c_int64.from_address(target) for target in self.targets]
        self._memory = [thing for thing in chain(self.values, *self.inside) if id(thing) in self.tensors]
        self._addresses = [*map(_ADDRESS, self._memory)]
        self._negated = [*map(_IS_NEGATED, self._memory)]
        examples = [*map(_example, self.params)]
        self._every = _kinds(examples)
        self._bytes = [*map(span, examples)]
        self.expect(self.expectation(np.array([p.grad is not None for p in self.params], np.int64)))

    def check(self) -> int:
        if self.launch is None:
            return -1 if self._hold() else 0
        try:
            return -1 if self._hold() and self.launch() else 0
        finally:
            self.release()

    def release(self) -> None:
        self.held = []

    def expectation(self, there: Mask) -> Any:
        here = there.astype(bool).tolist()
        return here, [[*compress(column, here)] for column in self._every]

    def expect(self, expectation: Any) -> None:
        self._there, self._kinds = expectation

    def _hold(self) -> bool:
        """Whether all guards hold; then the gradients are held."""
        if not _same([getattr(holder, name) for holder, name in self.attributes], self.values):
            return False
        for container, keys, values in zip(self.containers, self.keys, self.inside, strict=True):
            if not (_same(_inside(container), values) and _same(_keys(container), keys)):
                return False
        self.held = [*map(_GRAD, self.params)]
        if [g is not None for g in self.held] != self._there:
            return False
        grads = [*compress(self.held, self._there)]
        if not all(map(is_, map(type, grads), repeat(torch.Tensor))) or self._kinds != _kinds(grads):
            return False
        if self._addresses != [*map(_ADDRESS, self._memory)] or self._negated != [*map(_IS_NEGATED, self._memory)]:
            return False
        addresses = [*map(_ADDRESS, grads)]
        for address, size in zip(addresses, compress(self._bytes, self._there), strict=True):
            # Without an address it is on a device without memory, or all zero without any.
            if size and (not address or self.written.meets(address, address + size)):
                return False
        for word, address in zip(compress(self._words, self._there), addresses, strict=True):
            word.value = address
        return True


def guard_set(*known: Any) -> NativeGuards | PythonGuards:
    """Guards that machine code checks, or where it cannot, Python; for the parameters see `GuardSet`."""
    if not _switched_off():
        try:
            return NativeGuards(*known)
        except (NotGuardable, RuntimeError):  # PyTorch raises the latter for a tensor without memory of the usual kind
            pass
    return PythonGuards(*known)


def _example(p: torch.Tensor) -> torch.Tensor:
    """A tensor of the same kind as a parameter's gradient; if that is missing, one like the parameter is expected."""
    g = p.grad
    return p if g is None else g


def _kinds(grads: Sequence[torch.Tensor]) -> list[list[Any]]:
    """What must stay the same of gradients that may be others."""
    return [[*map(what, grads)] for what in (_BYTES, _DTYPE, _STRIDE, _IS_NEGATED)]


def _inside(container: Container) -> list[Any]:
    return [*(container.values() if isinstance(container, dict) else container)]


def _keys(container: Container) -> list[Any]:
    """Under which keys it is inside; in a list, under none."""
    return [*container] if isinstance(container, dict) else [None] * len(container)


def _same(some: list[Any], others: list[Any]) -> bool:
    """Whether these are the same objects."""
    return len(some) == len(others) and all(map(is_, some, others))


def _switched_off() -> bool:
    """Whether the user has switched `NativeGuards` off."""
    return os.environ.get(SWITCH, "1").strip().lower() in ("0", "false", "off", "no")


class _MachineCode(NamedTuple):
    """Where ``check`` of ``guards.ll`` is, and ``alone`` of ``stepping.ll``, which it calls."""

    check_at: int
    alone_at: int


def _machine_code() -> _MachineCode:
    """The machine code that guards need; raises `NotGuardable` where there is none."""
    try:
        runtime = native.runtime()
    except Unavailable as error:  # which whoever steps says
        raise NotGuardable(str(error)) from error
    try:
        # LLVM's level 2, as it runs in each step: a small step takes 6 % longer with level 0.
        (check,) = native.compiled(_SOURCE, "check", level=2)
    except Unavailable as error:
        warn_once(f"descend.optim checks its tensors in Python, which takes longer: {error}")
        raise NotGuardable(str(error)) from error
    return _MachineCode(check, runtime.alone_at)
