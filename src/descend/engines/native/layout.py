"""The records that Python and machine code share, each declared once: its fields in order, their types, its padding.

Python writes fields by name, through the NumPy dtype that a record has: ``job["kernel"] = address``. Machine code gets
each record as a named LLVM type (`types`) and each field as symbolic indices into it (`symbols`): in the templates,
``getelementptr %Job, ptr %job, $Job.kernel``. Nothing else says where a field lies, so the two cannot disagree.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

__all__ = [
    "COUNTER",
    "DL_EXCHANGE",
    "DL_TENSOR",
    "GRAD",
    "GUARD",
    "GUARD_SET",
    "JOB",
    "LINE",
    "MAILBOX",
    "OPENMP",
    "PARAM",
    "PART",
    "RECORDS",
    "SPAN",
    "STATE",
    "Record",
    "span",
    "symbols",
    "types",
]

_TYPES: dict[str, tuple[Any, int]] = {
    "i64": (np.int64, 8),
    "ptr": (np.int64, 8),
    "i32": (np.int32, 4),
    "double": (np.float64, 8),
    "float": (np.float32, 4),
    "[64 x i8]": ("V64", 1),
}
"""LLVM's types that a field may have: how NumPy spells them, and to how many bytes LLVM aligns them."""
LINE = 128
"""Bytes to which records are padded that different threads write: two lines of the cache, since processors fetch lines
in pairs, so that no two threads write to the same pair."""


class Record:
    """The layout of one kind of record.

    Parameters
    ----------
    name
        What LLVM calls its type.
    fields
        The LLVM type of each field, by the field's name, in order.
    padded
        A multiple of so many bytes is its size, and so are the addresses of an `array` of it.
    """

    def __init__(self, name: str, fields: dict[str, str], *, padded: int = 8) -> None:
        self.name, self.fields, self.padded = name, fields, padded
        self._offsets: dict[str, int] = {}
        end = 0
        for field, kind in fields.items():
            spelled, aligned = _TYPES[kind]
            self._offsets[field] = -(-end // aligned) * aligned
            end = self._offsets[field] + np.dtype(spelled).itemsize
        self.used = end
        """Bytes up to the end of the last field."""
        self.bytes = -(-end // padded) * padded
        """Bytes from one record of an array to the next."""

    def offset(self, field: str) -> int:
        """Bytes before a field."""
        return self._offsets[field]

    def index(self, field: str) -> int:
        """The place of a field among the fields, which is its index in LLVM's type."""
        return [*self.fields].index(field)

    @functools.cached_property
    def dtype(self) -> np.dtype[Any]:
        """The structured dtype whose fields are this record's."""
        return np.dtype(
            {
                "names": [*self.fields],
                "formats": [_TYPES[kind][0] for kind in self.fields.values()],
                "offsets": [*self._offsets.values()],
                "itemsize": self.bytes,
            }
        )

    def array(self, count: int) -> np.ndarray[Any, np.dtype[Any]]:
        """So many records, all zero, as a structured array."""
        return _zeros(count, self.dtype, self.padded)

    def one(self) -> np.ndarray[Any, np.dtype[Any]]:
        """One record, all zero: an array without dimensions."""
        return self.array(1).reshape(())

    @property
    def type(self) -> str:
        """The definition of LLVM's type; its padding is its last member."""
        rest = self.bytes - self.used
        members = [*self.fields.values(), *([f"[{rest} x i8]"] if rest else [])]
        return f"%{self.name} = type {{ {', '.join(members)} }}"


def _zeros(count: int, dtype: np.dtype[Any], aligned: int) -> np.ndarray[Any, np.dtype[Any]]:
    """Zeros that begin at a multiple of `aligned` bytes."""
    memory = np.zeros(count * dtype.itemsize + aligned, np.uint8)
    skip = -memory.ctypes.data % aligned
    return memory[skip : skip + count * dtype.itemsize].view(dtype)


# ---- a step -----------------------------------------------------------------------------------------------------

JOB = Record(
    "Job",
    {
        "kernel": "ptr",
        "spans": "ptr",
        "rows": "ptr",
        "parts": "ptr",
        "part_count": "i64",
        "counters": "ptr",
        "counter_count": "i64",
    },
)
"""One step of many spans: what steps them, the spans, the rows of scalars, the parts in which threads take chunks of
them, and the counters that must be right for it."""

SPAN = Record(
    "Span",
    {
        "chunks_end": "i64",
        "length": "i64",
        "row_start": "i64",
        "cautious_scale": "double",
        "chunks_before": "i64",
        "chunk_length": "i64",
        "count": "i64",
    },
)
"""What a span's record begins with: how many chunks there are up to its end; how many numbers it has; the index of its
row's first scalar; by how much a cautious step lengthens the moves that it keeps; how many chunks there are before it;
how many numbers a chunk has; and how many of its numbers a cautious step will move, which a counting kernel adds up.
The addresses of its arrays follow, in the order `PARAM`, `GRAD`, `STATE`; see `span`."""
PARAM, GRAD, STATE = 0, 1, 2
"""Which of a span's arrays is the parameter, which the gradient, and which the first of the state that is kept."""

PART = Record("Part", {"next_chunk": "i64", "first_chunk": "i64", "stop_chunk": "i64"}, padded=LINE)
"""A run of a job's chunks: the next to be claimed, the first, and the one after the last."""

COUNTER = Record("Counter", {"address": "ptr", "wide": "i64", "now": "double", "next": "double", "growth": "double"})
"""A float32 in the user's hands, such as the step that a tensor's state says it is at: where it is, what it must be
before a step, what it is after, and by how much that grows from step to step."""

# ---- threads ----------------------------------------------------------------------------------------------------

MAILBOX = Record(
    "Mailbox",
    {"mutex": "[64 x i8]", "offer": "[64 x i8]", "state": "i64", "job": "ptr", "part": "i64"},
    padded=LINE,
)
"""Where a worker finds its work: a mutex and a condition of the system's (``pthread_mutex_t``, ``pthread_cond_t``; at
most 64 bytes each on Linux and macOS), on which it sleeps; whether there is no job (0), one is offered (1) or being
worked on (2); the job; and the part of a job that is the worker's own."""

OPENMP = Record("OpenMP", {"parallel": "ptr", "thread_number": "ptr", "job": "ptr", "timely": "i64"})
"""What OpenMP's threads are given: OpenMP's function that runs another one in many threads, and the one that says which
thread calls it; the job; and how many threads but the first came before others had begun their part."""

# ---- guards -----------------------------------------------------------------------------------------------------

GUARD = Record(
    "Guard",
    {
        "kind": "i64",
        "object": "ptr",
        "length": "i64",
        "type": "ptr",
        "device": "i64",
        "dimensions": "i64",
        "sizes": "ptr",
        "numel": "i64",
        "bytes": "i64",
        "keys": "i64",
        "address": "ptr",
        "target": "ptr",
        "holder": "ptr",
        "name": "ptr",
    },
)
"""What must be true of one object; see ``guards.ll``."""

GUARD_SET = Record(
    "GuardSet",
    {
        "view_tensor": "ptr",
        "type_offset": "i64",
        "tensor_offset": "i64",
        "keys_offset": "i64",
        "keys_mask": "i64",
        "guards": "ptr",
        "guard_count": "i64",
        "starts": "ptr",
        "ends": "ptr",
        "interval_count": "i64",
        "held": "ptr",
        "job": "ptr",
        "alone": "ptr",
    },
)
"""Guards that are checked together: the function of PyTorch's that shows a tensor to C (`DL_EXCHANGE`); how many bytes
of an object stand before its type; where a tensor of Python's has the address of PyTorch's own, how many bytes of that
stand before its dispatch keys, and which of those matter; the guards; the memory that the step writes, as sorted
intervals of addresses; a list that keeps the gradients alive, or null; the job to step if all guards hold, or null; and
the function that steps it."""

DL_TENSOR = Record(
    "DLTensor",
    {
        "data": "ptr",
        "device": "i64",
        "dimensions": "i64",
        "shape": "ptr",
        "strides": "ptr",
        "byte_offset": "i64",
    },
)
"""DLPack's ``DLTensor``, in words: the kind and the number of the device are one, the number of dimensions and the
dtype another."""

DL_EXCHANGE = Record(
    "DLExchange",
    {
        "major": "i32",
        "minor": "i32",
        "previous": "ptr",
        "allocate": "ptr",
        "from_object": "ptr",
        "to_object": "ptr",
        "view_tensor": "ptr",
    },
)
"""The beginning of DLPack's ``DLPackExchangeAPI``: its version, an older table, and functions of the library. The last
one named here shows a tensor without taking hold of it, and may be null."""

RECORDS = (JOB, SPAN, PART, COUNTER, MAILBOX, OPENMP, GUARD, GUARD_SET, DL_TENSOR, DL_EXCHANGE)


@functools.cache
def span(arrays: int) -> np.dtype[Any]:
    """The structured dtype of a span that has so many arrays: the fields of `SPAN`, and ``arrays``, their addresses."""
    header = SPAN.dtype
    return np.dtype([*((name, header[name]) for name in SPAN.fields), ("arrays", np.int64, (arrays,))])


def types() -> str:
    """The definitions of all records as LLVM's types."""
    return "".join(f"{record.type}\n" for record in RECORDS)


def symbols() -> dict[str, str]:
    """What the templates call each field, as ``Job.kernel``: the indices that follow the address of a record."""
    return {
        f"{record.name}.{field}": f"i64 0, i32 {record.index(field)}" for record in RECORDS for field in record.fields
    }
