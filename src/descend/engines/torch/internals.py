"""Where machine code finds what it must know of PyTorch's tensors: how to be shown one, and its dispatch keys."""

from __future__ import annotations

import ctypes
import functools
import operator
import sysconfig
from collections.abc import Sequence
from typing import NamedTuple

import torch

from descend.engines.native.availability import warn_once
from descend.engines.native.layout import DL_EXCHANGE

__all__ = ["KeysPlace", "keys_place", "view_tensor"]

_DLPACK = 1
"""The major version of DLPack that ``guards.ll`` is written for."""


@functools.cache
def view_tensor() -> int | None:
    """The address of the function of PyTorch's that shows a tensor to C; None where there is none, which is said.

    Nor is there one in Python without its lock, where what machine code looks at may be gone meanwhile.
    """
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        return None
    found = _view_function()
    if found is None:
        _say_unknown()
    return found


def _view_function() -> int | None:
    capsule = getattr(torch.Tensor, "__dlpack_c_exchange_api__", None)
    if capsule is None:
        return None
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    try:
        table = pointer(capsule, b"dlpack_exchange_api")
    except ValueError:
        return None
    if table is None or ctypes.c_uint32.from_address(table + DL_EXCHANGE.offset("major")).value != _DLPACK:
        return None
    return ctypes.c_void_p.from_address(table + DL_EXCHANGE.offset("view_tensor")).value


def _say_unknown() -> None:
    """Say, once, that this PyTorch is not one whose insides are known."""
    warn_once(
        "descend.optim checks its tensors in Python, which takes longer: "
        f"PyTorch {torch.__version__} does not show them to C in a way that is known"
    )


class KeysPlace(NamedTuple):
    """Where a tensor's dispatch keys are."""

    tensor_offset: int
    """Bytes in a tensor of Python's before the address of PyTorch's own."""
    keys_offset: int
    """Bytes in that before its dispatch keys, which are a word of 64 bits."""
    mask: int
    """Those of the bits that say that a tensor's numbers are not what is in its memory."""
    negative: int
    """The one of them that says that they are its negative."""


_HIDING = ("Negative", "Conjugate", "ZeroTensor")
"""The dispatch keys of tensors whose numbers are not those in their memory: PyTorch computes them when it must."""

_TENSOR_BYTES = 184
"""Bytes of PyTorch's own tensor in which its dispatch keys are searched for. In 2.10 they are the last 8 of these; from
2.13 on a tensor ends before them, in a block of memory that does not, and they are found before that."""


@functools.cache
def keys_place() -> KeysPlace | None:
    """Where machine code finds a tensor's dispatch keys; None if that is not known of this PyTorch, which is said.

    PyTorch tells Python both the address and the keys of a tensor, so they are searched for in tensors whose keys
    differ.
    """
    found = _found_keys_place()
    if found is None:
        _say_unknown()
    return found


def _found_keys_place() -> KeysPlace | None:
    plain = torch.ones(2, device="cpu")
    samples = [plain, torch._neg_view(plain), torch.ones(2, dtype=torch.complex64, device="cpu").conj()]
    try:
        keys = [torch._C._dispatch_keys(t).raw_repr() for t in samples]
        bits = [torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, name)).raw_repr() for name in _HIDING]
        own = [t._cdata for t in samples]
    except AttributeError:
        return None
    tensor_offset = _offset_of(own, [id(t) for t in samples], torch.Tensor.__basicsize__)
    keys_offset = _offset_of(keys, own, _TENSOR_BYTES)
    if tensor_offset is None or keys_offset is None:
        return None
    return KeysPlace(tensor_offset, keys_offset, functools.reduce(operator.or_, bits), bits[0])


def _offset_of(values: Sequence[int], addresses: Sequence[int], stop: int) -> int | None:
    """How many bytes after each of these addresses there is the 64-bit number that belongs to it; None if nowhere."""
    for offset in range(0, stop, 8):
        found = [ctypes.c_uint64.from_address(address + offset).value for address in addresses]
        if found == [*values]:
            return offset
    return None
