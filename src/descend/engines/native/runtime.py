"""Machine code made from LLVM's intermediate representation, loaded into the process, and called from Python.

Beside the kernels there is a little code that LLVM's language says directly, because it must run where Python cannot:
in threads that hold no lock of the interpreter. ``stepping.ll`` steps a job, alone or with other threads, and
``engines/torch/guards.ll`` checks Python's objects before. Both are templates, whose symbols `layout.symbols` gives.
"""

from __future__ import annotations

import ctypes
import functools
import platform
import re
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

from descend.engines.native import layout
from descend.engines.native.availability import Unavailable, why_not

__all__ = [
    "Runtime",
    "builtin",
    "compiled",
    "emit",
    "has_wide_vectors",
    "link",
    "load",
    "processor",
    "runtime",
    "target",
    "template",
]

_MODE = {
    "x86_64": (
        "  %mode = alloca i32\n  call void @llvm.x86.sse.stmxcsr(ptr %mode)\n  %before = load i32, ptr %mode\n",
        "  store i32 {mode}, ptr %mode\n  call void @llvm.x86.sse.ldmxcsr(ptr %mode)\n",
        "i32",
        0x8040,
        "declare void @llvm.x86.sse.stmxcsr(ptr)\ndeclare void @llvm.x86.sse.ldmxcsr(ptr)\n",
    ),
    "aarch64": (
        "  %before = call i64 @llvm.aarch64.get.fpcr()\n",
        "  call void @llvm.aarch64.set.fpcr(i64 {mode})\n",
        "i64",
        1 << 24,
        "declare i64 @llvm.aarch64.get.fpcr()\ndeclare void @llvm.aarch64.set.fpcr(i64)\n",
    ),
}
"""How a processor is asked how it treats numbers, and told; the type of that, the bits that let it flush subnormal
numbers to zero, and what is called; by architecture. The bits are FTZ and DAZ of MXCSR, and FZ of FPCR."""


# ---- LLVM -------------------------------------------------------------------------------------------------------


@functools.cache
def processor() -> tuple[str, str]:
    """Name and features of this processor, as LLVM knows them: code is made for it and no other."""
    import llvmlite.binding as llvm

    return llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()


@functools.cache
def has_wide_vectors() -> bool:
    """Whether this processor has vectors of 512 bits, which LLVM uses on request only: to wake them takes a while."""
    return "+avx512f" in processor()[1].split(",")


def target(level: int) -> Any:
    """A code generator of LLVM's for this processor, from the quickest, level 0, to that of the best code, level 3.

    It is a new one, as one that a linker owns serves no other. Code addresses its constants by 64 bits: they may lie
    gigabytes away from it in a process with much memory, and LLVM ends a process whose offsets of 32 bits overflow.
    """
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    name, features = processor()
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=name, features=features, opt=level, reloc="static", codemodel="large", jit=True
    )


def emit(code: str, level: int) -> bytes:
    """An object file from LLVM's language, as it stands."""
    import llvmlite.binding as llvm

    return bytes(target(level).emit_object(llvm.parse_assembly(code)))


def load(code: bytes, *names: str) -> list[int]:
    """Load an object file into the process; the addresses of functions in it. It stays for the life of the process."""
    import llvmlite.binding as llvm

    linker = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target(3))
    linker.add_object_file(llvm.ObjectFileRef.from_data(code))
    linker.finalize_object()
    _LOADED.append(linker)
    return [linker.get_function_address(name) for name in names]


_LOADED: list[Any] = []
"""What holds the code that is in use."""


def template(file: Path) -> str:
    """LLVM code from a template: the types of all records, and the template with its symbols filled in."""
    flush, restore, declarations = _flushing()
    text = re.sub(r"(?m)^;.*\n", "", file.read_text("utf-8"))
    symbols = {**layout.symbols(), "flush": flush, "restore": restore}
    return layout.types() + (declarations if "$flush" in text else "") + _Template(text).substitute(symbols)


def with_modes(code: str) -> str:
    """A kernel's code with the functions that it calls to have subnormal numbers flushed to zero, or kept."""

    def defined(found: re.Match[str]) -> str:
        name = found.group(1)
        return f"define internal void @{name}_subnormal() {{\n{_mode(flushes=name == 'flush')}  ret void\n}}\n"

    code, count = re.subn(r'(?m)^declare void @"(keep|flush)_subnormal"\(\)$', defined, code)
    return f"{code}\n{_mode_of_machine()[4]}" if count else code


def _mode_of_machine() -> tuple[str, str, str, int, str]:
    machine = platform.machine().lower()
    return _MODE.get({"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine), ("", "", "", 0, ""))


def _flushing() -> tuple[str, str, str]:
    """Instructions that let the processor flush subnormal numbers to zero, those that undo it, and what they call."""
    _, tell, _, _, declarations = _mode_of_machine()
    return _mode(flushes=True), tell.format(mode="%before"), declarations


def _mode(*, flushes: bool) -> str:
    """Instructions that let the processor flush subnormal numbers to zero, or keep them."""
    ask, tell, kind, bits, _ = _mode_of_machine()
    if not kind:
        return ""
    change = f"or {kind} %before, {bits}" if flushes else f"and {kind} %before, {~bits}"
    return f"{ask}  %after = {change}\n{tell.format(mode='%after')}"


class _Template(string.Template):
    """Symbols may have a dot, as in ``$Job.parts``."""

    idpattern = r"[A-Za-z_]+(?:\.[a-z_]+)?"


def compiled(file: Path, *names: str, level: int = 0) -> tuple[int, ...]:
    """The addresses of functions of a template, compiled and loaded. Raises `Unavailable` where that cannot be done.

    LLVM's quickest code generator, level 0, takes 4 ms for either template, and the others take 15.
    """
    found = _compiled(file, names, level)
    if isinstance(found, Unavailable):
        raise found
    return found


@functools.cache
def _compiled(file: Path, names: tuple[str, ...], level: int) -> tuple[int, ...] | Unavailable:
    """The same, or why not: what failed once is not tried again at each step."""
    try:
        code = template(file)
        link(re.findall(r"(?m)^declare .*@(\w+)\(", code))
        return tuple(load(emit(code, level), *names))
    except Exception as error:  # whatever LLVM raises that reads another language, or a system without a function
        return Unavailable(f"LLVM cannot compile {file.name} ({type(error).__name__}: {error})")


def link(names: list[str]) -> None:
    """Let machine code call these functions of the system's or of Python's C API; one that is missing raises.

    LLVM ends the process when it links code whose functions it does not find.
    """
    import llvmlite.binding as llvm

    system = ctypes.CDLL(None)
    for name in names:
        function = getattr(ctypes.pythonapi if name.startswith("Py") else system, name)
        llvm.add_symbol(name, ctypes.cast(function, ctypes.c_void_p).value)


# ---- Python -----------------------------------------------------------------------------------------------------


class _Method(ctypes.Structure):
    """Python's ``PyMethodDef``."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


_NO_ARGUMENTS = 4
"""Python's ``METH_NOARGS``."""


def builtin(function: int, about: int) -> Callable[[], int]:
    """A function of Python's that is machine code, which gets `about` as its ``self``, and no arguments.

    To call it costs a twentieth of what a call by ctypes does.
    """
    if function not in _METHODS:
        method = _METHODS[function] = _Method(b"machine code", function, _NO_ARGUMENTS, None)
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(method))  # a builtin may outlive this module as Python ends
    make = ctypes.pythonapi.PyCFunction_NewEx
    make.restype, make.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p]
    made: Callable[[], int] = make(ctypes.addressof(_METHODS[function]), about, None)
    return made


_METHODS: dict[int, _Method] = {}
"""What Python needs to know of a builtin for as long as there may be one."""


class Runtime:
    """The functions of ``stepping.ll``.

    `alone`, `with_workers` and `with_openmp` step a job and give the interpreter's lock back meanwhile; `quick` is
    `alone` under that lock. `alone_at` and `worker_at` are addresses, for machine code and for the system to call.
    """

    def __init__(self) -> None:
        self.alone_at, self.worker_at, with_workers, with_openmp = compiled(
            Path(__file__).with_name("stepping.ll"), "alone", "worker", "with_workers", "with_openmp"
        )
        self.alone = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)(self.alone_at)
        self.quick = ctypes.PYFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)(self.alone_at)
        helped = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
        self.with_workers, self.with_openmp = helped(with_workers), helped(with_openmp)


def runtime() -> Runtime:
    """The one runtime of this process. Raises `Unavailable` where there can be none."""
    reason = why_not()
    if reason is not None:
        raise Unavailable(reason)
    return _runtime()


@functools.cache
def _runtime() -> Runtime:
    return Runtime()
