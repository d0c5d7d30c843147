"""Machine code: loaded once, quick to compile; and where LLVM cannot compile it, others step, and say so once."""

import ctypes
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from tests.processes import run

import descend
from descend.engines import Fused
from descend.engines.native import runtime
from descend.engines.native.availability import Unavailable

STEPPING = Path(runtime.__file__).with_name("stepping.ll")
GUARDS = Path(runtime.__file__).parents[1] / "torch" / "guards.ll"


@pytest.mark.machine_code
def test_the_runtime_is_made_once():
    made = runtime.runtime()
    assert made is runtime.runtime()
    for function in (made.alone, made.quick):
        assert ctypes.cast(function, ctypes.c_void_p).value == made.alone_at
    assert made.worker_at


@pytest.mark.parametrize(("file", "name", "level"), [(STEPPING, "alone", 0), (GUARDS, "check", 2)])
def test_a_template_compiles_in_a_blink(file, name, level):
    """Nothing of it is kept on disk: each process that steps compiles it, within its tenth of a second."""
    runtime.compiled(file, name, level=level)  # the system's part of it, once
    taken = []
    for _ in range(5):
        begin = time.process_time()
        runtime.load(runtime.emit(runtime.template(file), level=level), name)
        taken.append(time.process_time() - begin)
    assert min(taken) < 0.04


FAR_APART = """
    import ctypes, mmap
    NORESERVE = 0x4000  # as on x86-64 and AArch64; Python 3.13 and later name it
    from descend.engines.native import runtime

    made = runtime.emit("define double @f(double %x) {\\n %y = fmul double %x, 1.1\\n ret double %y\\n}", 3)
    runtime.load(made, "f")  # what LLVM needs the first time has its place now
    libc = ctypes.CDLL(None)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]

    def reserve(size):
        return libc.mmap(None, size, 0, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NORESERVE, -1, 0)

    page, far = mmap.PAGESIZE, 3 << 30
    block = reserve(far + 64 * page)
    for pages in (64, 16, 8, 4, 2, 1):  # the holes above it
        while reserve(pages * page) > block:
            pass
    libc.munmap(block + far + 63 * page, page)  # one for the code; its constants come below the block
    (address,) = runtime.load(made, "f")
    print(address > block, ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(address)(2.0))
    """


@pytest.mark.machine_code
@pytest.mark.skipif(sys.platform != "linux", reason="memory is laid out as Linux does")
def test_code_and_its_constants_may_lie_far_apart():
    """In a process with much memory they lie where there is room: LLVM ends a process whose offsets overflow."""
    assert run(FAR_APART).stdout.split() == ["True", "2.2"]


@pytest.mark.parametrize("file", [STEPPING, GUARDS], ids=lambda file: file.name)
def test_a_template_has_no_symbol_left(file):
    assert "$" not in runtime.template(file)


@pytest.mark.parametrize("machine", ["x86_64", "AMD64", "aarch64", "arm64", "riscv64"])
def test_a_template_for_any_processor(machine, monkeypatch):
    """Where nobody knows how to flush, subnormal numbers stay."""
    monkeypatch.setattr(runtime.platform, "machine", lambda: machine)
    code = runtime.template(STEPPING)
    known = {"x86_64": ["ldmxcsr"], "AMD64": ["ldmxcsr"], "aarch64": ["set.fpcr"], "arm64": ["set.fpcr"], "riscv64": []}
    assert [name for name in ("ldmxcsr", "set.fpcr") if name in code] == known[machine]
    assert "$" not in code


@pytest.mark.parametrize("machine", ["x86_64", "aarch64", "riscv64"])
def test_modes_for_any_processor(machine, monkeypatch):
    """LLVM understands what keeps subnormal numbers and flushes them; where nobody knows how, both do nothing."""
    import llvmlite.binding as llvm

    monkeypatch.setattr(runtime.platform, "machine", lambda: machine)
    declared = 'declare void @"keep_subnormal"()\ndeclare void @"flush_subnormal"()\n'
    code = runtime.with_modes(declared)
    assert [found.name for found in llvm.parse_assembly(code).functions if not found.is_declaration] == [
        "keep_subnormal",
        "flush_subnormal",
    ]
    assert ("call" in code) == (machine != "riscv64")
    assert runtime.with_modes("declare void @other()") == "declare void @other()"


def test_a_function_that_the_system_lacks(tmp_path):
    """LLVM would end the process when it links such code."""
    file = tmp_path / "lacking.ll"
    file.write_text("declare i64 @no_such_function_anywhere()\ndefine i64 @f() {\n  ret i64 1\n}\n")
    for _ in range(2):
        with pytest.raises(Unavailable, match=r"LLVM cannot compile lacking.ll \(AttributeError: .*no_such_function"):
            runtime.compiled(file, "f")


def test_code_that_llvm_does_not_understand(tmp_path):
    file = tmp_path / "odd.ll"
    file.write_text("define i64 @f() {\n  return 1\n}\n")
    with pytest.raises(Unavailable, match=r"LLVM cannot compile odd.ll \(RuntimeError: "):
        runtime.compiled(file, "f")


@pytest.mark.machine_code
def test_no_runtime_where_machine_code_is_switched_off(monkeypatch):
    """Also if there was one before."""
    runtime.runtime()
    monkeypatch.setenv("DESCEND_MACHINE_CODE", "0")
    with pytest.raises(Unavailable, match="DESCEND_MACHINE_CODE=0 switches machine code off"):
        runtime.runtime()


@pytest.mark.slow
@pytest.mark.machine_code
def test_an_llvm_that_reads_another_language():
    """NumPy and PyTorch step, with the same numbers; each says once why machine code does not."""
    done = run(
        """
        import warnings, numpy as np, torch, llvmlite.binding as llvm
        def refuses(code, *rest):
            raise RuntimeError("LLVM IR parsing error")
        llvm.parse_assembly = refuses
        import descend
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            x = np.ones(2)
            engine = descend.engines.engine(descend.GD(lr=0.5), [x], steps=10**6)
            engine.step([np.ones(2)])
            print(type(engine).__name__, x[0])
            p = torch.nn.Parameter(torch.ones(2))
            optimizer = descend.optim.SGD([p], lr=0.5)
            for _ in range(3):
                p.grad = torch.ones(2)
                optimizer.step()
            print(type(optimizer.stepper.plan.guards).__name__, p[0].item())
        print(len(caught), all("LLVM" in str(w.message) or "llvmlite" in str(w.message) for w in caught))
        """
    )
    assert done.stdout.split() == ["Reference", "0.5", "PythonGuards", "-0.5", "2", "True"]


@pytest.mark.machine_code
def test_a_builtin_outlives_what_made_it():
    """Calls machine code with the number that it was made with."""
    code = """
    declare ptr @PyLong_FromVoidPtr(ptr)
    declare ptr @PyLong_AsVoidPtr(ptr)
    define ptr @again(ptr %self, ptr %unused) {
      %number = call ptr @PyLong_AsVoidPtr(ptr %self)
      %made = call ptr @PyLong_FromVoidPtr(ptr %number)
      ret ptr %made
    }
    """
    runtime.link(["PyLong_FromVoidPtr", "PyLong_AsVoidPtr"])
    (address,) = runtime.load(runtime.emit(code, level=0), "again")
    assert [runtime.builtin(address, number)() for number in (7, 2**40)] == [7, 2**40]


def test_engines_say_why_there_is_no_machine_code(monkeypatch):
    monkeypatch.setenv("DESCEND_MACHINE_CODE", "0")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(Unavailable, match="switches machine code off"):
            Fused(descend.GD(lr=0.123), [np.ones(3, np.float32)])
