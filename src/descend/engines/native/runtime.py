"""Machine code: made from LLVM's intermediate representation, loaded into the process, and called.

Beside the kernels there is a little code of its own, in LLVM's language, because it must run where Python cannot: in
threads that hold no lock of the interpreter, woken within microseconds. ``stepping.ll`` steps a job, alone or with
others; ``guards.ll`` looks at Python's objects, tensors among them, before it does. What they are given is described
there.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.metadata
import platform
import re
import string
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from descend.engines.native import keeping

__all__ = [
    "BOX",
    "EXPECTATION",
    "JOB",
    "PART",
    "Runtime",
    "builtin",
    "emit",
    "has_wide_vectors",
    "load",
    "processor",
    "runtime",
]

JOB = 8
"""Words of a job."""
BOX = 16
"""Words of a worker's box: two cache lines, so that two workers do not share one."""
PART = 16
"""Words of a part of a job: two cache lines again."""
EXPECTATION = 11
"""Words of what is expected of one object."""
PATIENCE = 200_000
"""Nanoseconds for which a worker waits awake."""

_FLUSH = {
    "x86_64": (
        """
  %mode = alloca i32
  call void @llvm.x86.sse.stmxcsr(ptr %mode)
  %before = load i32, ptr %mode
  %flushing = or i32 %before, 32832
  store i32 %flushing, ptr %mode
  call void @llvm.x86.sse.ldmxcsr(ptr %mode)
""",
        """
  store i32 %before, ptr %mode
  call void @llvm.x86.sse.ldmxcsr(ptr %mode)
""",
        "declare void @llvm.x86.sse.stmxcsr(ptr)\ndeclare void @llvm.x86.sse.ldmxcsr(ptr)\n",
    ),
    "aarch64": (
        """
  %before = call i64 @llvm.aarch64.get.fpcr()
  %flushing = or i64 %before, 16777216
  call void @llvm.aarch64.set.fpcr(i64 %flushing)
""",
        """
  call void @llvm.aarch64.set.fpcr(i64 %before)
""",
        "declare i64 @llvm.aarch64.get.fpcr()\ndeclare void @llvm.aarch64.set.fpcr(i64)\n",
    ),
}
"""How the processor is told to flush, and told to go on as before; by architecture."""
_PAUSE = {
    "x86_64": ("call void @llvm.x86.sse2.pause()", "declare void @llvm.x86.sse2.pause()\n"),
    "aarch64": ("call void @llvm.aarch64.hint(i32 1)", "declare void @llvm.aarch64.hint(i32)\n"),
}
"""What tells the processor that a loop waits; by architecture."""


@functools.cache
def processor() -> tuple[str, str]:
    """Name and features of this processor, as LLVM knows them: code is made for it and no other."""
    import llvmlite.binding as llvm

    return llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()


@functools.cache
def has_wide_vectors() -> bool:
    """Whether this processor has vectors of 512 bits, which LLVM uses on request only: to wake them takes a while."""
    return "+avx512f" in processor()[1].split(",")


def _target() -> Any:
    """A code generator of LLVM's for this processor; a new one, as one that a linker owns serves no other."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    name, features = processor()
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=name, features=features, opt=3, reloc="pic", codemodel="default", jit=True
    )


def emit(code: str, *, only: str | None = None) -> bytes:
    """An object file from LLVM's intermediate representation; with `only`, of that function and what it needs."""
    import llvmlite.binding as llvm

    target = _target()
    module = llvm.parse_assembly(code)
    if only is not None:
        for function in module.functions:
            if not function.is_declaration and function.name != only:
                function.linkage = "internal"
        passes = llvm.create_new_module_pass_manager()
        passes.add_global_dead_code_eliminate_pass()
        passes.run(module, llvm.create_pass_builder(target, llvm.create_pipeline_tuning_options()))
    return bytes(target.emit_object(module))


def load(code: bytes, *names: str) -> list[int]:
    """Load an object file into the process; the addresses of functions in it. It stays for the life of the process."""
    import llvmlite.binding as llvm

    linker = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _target())
    linker.add_object_file(llvm.ObjectFileRef.from_data(code))
    linker.finalize_object()
    _LOADED.append(linker)
    return [linker.get_function_address(name) for name in names]


_LOADED: list[Any] = []
"""What holds the code that is in use."""


def _link(*names: str) -> None:
    """Let machine code call these functions of Python's C API."""
    import llvmlite.binding as llvm

    for name in names:
        llvm.add_symbol(name, ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value)


class _Method(ctypes.Structure):
    """Python's ``PyMethodDef``."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


def builtin(function: int, about: int) -> Callable[[], int]:
    """A function of Python's that is machine code, which gets `about` as its ``self``, and no arguments.

    To call it costs a twentieth of what a call by ctypes does.
    """
    if function not in _METHODS:
        method = _METHODS[function] = _Method(b"machine code", function, 4, None)  # METH_NOARGS
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(method))  # a builtin may outlive this module as Python ends
    make = ctypes.pythonapi.PyCFunction_NewEx
    make.restype, make.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p]
    made: Callable[[], int] = make(ctypes.addressof(_METHODS[function]), about, None)
    return made


_METHODS: dict[int, _Method] = {}
"""What Python needs to know of a builtin for as long as there may be one."""


class Runtime:
    """The functions of ``stepping.ll`` and ``guards.ll``. `quick` is `alone` under the interpreter's lock."""

    def __init__(self) -> None:
        machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())
        flush, restore, flushes = _FLUSH.get(machine, ("", "", ""))
        pause, pauses = _PAUSE.get(machine, ("", ""))
        code = flushes + pauses
        here = Path(__file__).parent
        for file in (here / "stepping.ll", here.parent / "torch" / "guards.ll"):
            code += string.Template(file.read_text("utf-8")).substitute(
                flush=flush,
                restore=restore,
                pause=pause,
                box=BOX,
                part=PART,
                expectation=EXPECTATION,
                patience=PATIENCE,
                monotonic=time.CLOCK_MONOTONIC,
            )
        about = ["runtime", code, importlib.metadata.version("llvmlite"), *processor()]
        _link(*re.findall(r"@(Py\w+)\(", code))
        alone, shared, together, self.worker, self.look = load(
            keeping.kept(about, lambda: emit(code)), "alone", "shared", "together", "worker", "look"
        )
        self.alone = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)(alone)
        self.quick = ctypes.PYFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)(alone)
        helped = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
        self.shared, self.together = helped(shared), helped(together)


@functools.cache
def runtime() -> Runtime:
    """The one runtime of this process."""
    return Runtime()
