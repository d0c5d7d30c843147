"""Machine code: made from LLVM's intermediate representation, loaded into the process, and called.

Beside the kernels there is a little code of its own here, in LLVM's language, because it must run where Python cannot:
in threads that hold no lock of the interpreter, woken within microseconds.

- ``alone`` steps a job in the calling thread, ``shared`` together with workers. Both first look at the *counters*:
  numbers in the user's hands, such as the step that each tensor's state says it is at. If one is not what the job
  expects, they return its place and do nothing; else they advance all and return −1.
- ``work`` does a job's chunks. Numbers too small to be normal are flushed to zero while it does, since
  they cost a hundred times as much as others, and an average that decays spends for ever among them.
  A job's chunks are claimed one by one, by whoever is free: a worker that wakes late takes less, and nobody waits for
  one that has not begun.
- ``worker`` is what a worker's thread runs: sleep in a ``read`` from a pipe, take the job if it is still there. To be
  woken takes a good tenth of a millisecond, so a worker whose last two jobs came within `PATIENCE` of each other waits
  awake for the next, as long: steps that follow each other at once find it there, and a training that computes
  in between never has a core taken by it.
- ``look`` compares Python objects, tensors among them, with what is expected of them; ``look_and_step`` is ``alone``
  after it, where all is as expected.

A *job* is eight 64-bit words: the kernel, the spans' table, their number, the rows, the cursor from which chunks are
claimed, and of the counters the addresses, the table of what each is, will be, and then grows by (float32), and their
number. A worker's *box* has: state (0 idle, 1 offered, 2 at work), the job, the reading and the writing
end of its pipe, and whether it needs no byte in the pipe to find what is offered.

``look`` gets an *eye*, a list, its length, and for each object an *expectation*. An eye is three words: a library's
``dltensor_from_py_object_no_sync``, DLPack's way to see a tensor from C; Python's ``PyList_GetItem``; and where in an
object its type stands. An expectation is eight words: the object itself, or 0 for any; its type, or 0 if it need not be
looked at; the device, and the number of dimensions with the dtype, as a ``DLTensor`` has them; where its sizes are, and
after them the strides; how many numbers it has; where its memory must be; and where to write it down instead, or 0. The
first object's place that is not as expected is returned, or −1. Where there is one number in a dimension, its stride
does not matter.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib.metadata
import platform
import time
from pathlib import Path
from typing import Any

from descend.engines.fused import keeping

__all__ = ["BOX", "EXPECTATION", "JOB", "Runtime", "emit", "has_wide_vectors", "load", "processor", "runtime"]

JOB = 8
"""Words of a job."""
BOX = 16
"""Words of a worker's box: two cache lines, so that two workers do not share one."""
EXPECTATION = 8
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

_CODE = """
declare i64 @read(i32, ptr, i64)
declare i64 @write(i32, ptr, i64)
declare i32 @sched_yield()
declare i32 @clock_gettime(i32, ptr)
{declarations}

define i64 @advance(ptr %job) {{
entry:
  %cursor = getelementptr i64, ptr %job, i64 4
  store i64 0, ptr %cursor
  %addresses.at = getelementptr i64, ptr %job, i64 5
  %addresses = load ptr, ptr %addresses.at
  %table.at = getelementptr i64, ptr %job, i64 6
  %table = load ptr, ptr %table.at
  %count.at = getelementptr i64, ptr %job, i64 7
  %count = load i64, ptr %count.at
  br label %check
check:
  %i = phi i64 [ 0, %entry ], [ %i.next, %right ]
  %i.left = icmp slt i64 %i, %count
  br i1 %i.left, label %look, label %go
look:
  %i.at = getelementptr ptr, ptr %addresses, i64 %i
  %i.counter = load ptr, ptr %i.at
  %i.is = load float, ptr %i.counter
  %i.row = mul i64 %i, 3
  %i.expected.at = getelementptr float, ptr %table, i64 %i.row
  %i.expected = load float, ptr %i.expected.at
  %i.next = add i64 %i, 1
  %same = fcmp oeq float %i.is, %i.expected
  br i1 %same, label %right, label %wrong
right:
  br label %check
wrong:
  ret i64 %i
go:
  br label %move
move:
  %j = phi i64 [ 0, %go ], [ %j.next, %moved ]
  %j.left = icmp slt i64 %j, %count
  br i1 %j.left, label %moved, label %done
moved:
  %j.at = getelementptr ptr, ptr %addresses, i64 %j
  %j.counter = load ptr, ptr %j.at
  %j.row = mul i64 %j, 3
  %j.expected.at = getelementptr float, ptr %table, i64 %j.row
  %j.next.at = getelementptr float, ptr %j.expected.at, i64 1
  %j.grows.at = getelementptr float, ptr %j.expected.at, i64 2
  %new = load float, ptr %j.next.at
  %grows = load float, ptr %j.grows.at
  store float %new, ptr %j.counter
  store float %new, ptr %j.expected.at
  %then = fadd float %new, %grows
  store float %then, ptr %j.next.at
  %j.next = add i64 %j, 1
  br label %move
done:
  ret i64 -1
}}

define i64 @alone(ptr %job) {{
  %wrong = call i64 @advance(ptr %job)
  %right = icmp slt i64 %wrong, 0
  br i1 %right, label %go, label %end
go:
  call void @work(ptr %job)
  br label %end
end:
  ret i64 %wrong
}}

define void @work(ptr %job) {{
  %result = alloca ptr
  %error = alloca ptr
  %kernel = load ptr, ptr %job
  %spans.at = getelementptr i64, ptr %job, i64 1
  %spans = load i64, ptr %spans.at
  %count.at = getelementptr i64, ptr %job, i64 2
  %count = load i64, ptr %count.at
  %rows.at = getelementptr i64, ptr %job, i64 3
  %rows = load i64, ptr %rows.at
  %cursor.at = getelementptr i64, ptr %job, i64 4
  %cursor = ptrtoint ptr %cursor.at to i64
  {flush}
  call i32 %kernel(ptr %result, ptr %error, i64 %spans, i64 %count, i64 %rows, i64 %cursor)
  {restore}
  ret void
}}

define i64 @now(ptr %time) {{
  call i32 @clock_gettime(i32 {monotonic}, ptr %time)
  %seconds = load i64, ptr %time
  %rest.at = getelementptr i64, ptr %time, i64 1
  %rest = load i64, ptr %rest.at
  %whole = mul i64 %seconds, 1000000000
  %now = add i64 %whole, %rest
  ret i64 %now
}}

define void @worker(ptr %box) {{
entry:
  %byte = alloca i8
  %time = alloca [2 x i64]
  %job.at = getelementptr i64, ptr %box, i64 1
  %pipe.at = getelementptr i64, ptr %box, i64 2
  %pipe64 = load i64, ptr %pipe.at
  %pipe = trunc i64 %pipe64 to i32
  %found.at = getelementptr i64, ptr %box, i64 4
  br label %sleep
sleep:
  %slept.since = phi i64 [ 0, %entry ], [ %slept.since, %woken ], [ %began, %missed ],
    [ %since, %tire ], [ %ended, %work ]
  %got = call i64 @read(i32 %pipe, ptr %byte, i64 1)
  %closed = icmp eq i64 %got, 0
  br i1 %closed, label %end, label %woken
woken:
  %said = icmp eq i64 %got, 1
  br i1 %said, label %take, label %sleep
take:
  store atomic i64 0, ptr %found.at seq_cst, align 8
  %began = call i64 @now(ptr %time)
  %paused = sub i64 %began, %slept.since
  %soon = icmp slt i64 %paused, {patience}
  %pair = cmpxchg ptr %box, i64 1, i64 2 seq_cst seq_cst
  %mine = extractvalue {{ i64, i1 }} %pair, 1
  br i1 %mine, label %work, label %missed
missed:
  br i1 %soon, label %stay, label %sleep
stay:
  store atomic i64 1, ptr %found.at seq_cst, align 8
  br label %wait
work:
  %awake = phi i1 [ %soon, %take ], [ true, %try ], [ true, %tire ]
  %job = load ptr, ptr %job.at
  call void @work(ptr %job)
  %found = zext i1 %awake to i64
  store atomic i64 %found, ptr %found.at seq_cst, align 8
  store atomic i64 0, ptr %box seq_cst, align 8
  %ended = call i64 @now(ptr %time)
  br i1 %awake, label %wait, label %sleep
wait:
  %since = phi i64 [ %began, %stay ], [ %ended, %work ], [ %since, %pause ], [ %since, %clock ]
  %looks = phi i64 [ 0, %stay ], [ 0, %work ], [ %looks.next, %pause ], [ 0, %clock ]
  %state = load atomic i64, ptr %box seq_cst, align 8
  %offered = icmp eq i64 %state, 1
  br i1 %offered, label %try, label %pause
try:
  %try.pair = cmpxchg ptr %box, i64 1, i64 2 seq_cst seq_cst
  %try.mine = extractvalue {{ i64, i1 }} %try.pair, 1
  br i1 %try.mine, label %work, label %pause
pause:
  {pause}
  %looks.next = add i64 %looks, 1
  %many = icmp ugt i64 %looks.next, 64
  br i1 %many, label %look, label %wait
look:
  %here = call i64 @now(ptr %time)
  %waited = sub i64 %here, %since
  %long = icmp sgt i64 %waited, {patience}
  br i1 %long, label %tire, label %clock
clock:
  call i32 @sched_yield()
  br label %wait
tire:
  store atomic i64 0, ptr %found.at seq_cst, align 8
  %last.pair = cmpxchg ptr %box, i64 1, i64 2 seq_cst seq_cst
  %last.mine = extractvalue {{ i64, i1 }} %last.pair, 1
  br i1 %last.mine, label %work, label %sleep
end:
  ret void
}}

define i64 @shared(ptr %job, ptr %boxes, i64 %workers) {{
entry:
  %byte = alloca i8
  store i8 1, ptr %byte
  %wrong = call i64 @advance(ptr %job)
  %right = icmp slt i64 %wrong, 0
  br i1 %right, label %begin, label %end
begin:
  br label %offer
offer:
  %k = phi i64 [ 0, %begin ], [ %k.next, %offered ]
  %k.left = icmp ult i64 %k, %workers
  br i1 %k.left, label %offer.one, label %own
offer.one:
  %k.words = mul i64 %k, {box}
  %box = getelementptr i64, ptr %boxes, i64 %k.words
  %job.at = getelementptr i64, ptr %box, i64 1
  store ptr %job, ptr %job.at
  store atomic i64 1, ptr %box seq_cst, align 8
  %found.at = getelementptr i64, ptr %box, i64 4
  %found = atomicrmw xchg ptr %found.at, i64 1 seq_cst
  %asleep = icmp eq i64 %found, 0
  br i1 %asleep, label %wake, label %offered
wake:
  %pipe.at = getelementptr i64, ptr %box, i64 3
  %pipe64 = load i64, ptr %pipe.at
  %pipe = trunc i64 %pipe64 to i32
  %sent = call i64 @write(i32 %pipe, ptr %byte, i64 1)
  br label %offered
offered:
  %k.next = add i64 %k, 1
  br label %offer
own:
  call void @work(ptr %job)
  br label %collect
collect:
  %j = phi i64 [ 0, %own ], [ %j.next, %collected ]
  %j.left = icmp ult i64 %j, %workers
  br i1 %j.left, label %withdraw, label %end
withdraw:
  %j.words = mul i64 %j, {box}
  %jbox = getelementptr i64, ptr %boxes, i64 %j.words
  %pair = cmpxchg ptr %jbox, i64 1, i64 0 seq_cst seq_cst
  %unbegun = extractvalue {{ i64, i1 }} %pair, 1
  br i1 %unbegun, label %collected, label %wait
wait:
  %spins = phi i64 [ 0, %withdraw ], [ %spins.next, %again ]
  %state = load atomic i64, ptr %jbox seq_cst, align 8
  %busy = icmp eq i64 %state, 2
  br i1 %busy, label %spin, label %collected
spin:
  %spins.next = add i64 %spins, 1
  %long = icmp ugt i64 %spins, 20000
  br i1 %long, label %yield, label %again
yield:
  %yielded = call i32 @sched_yield()
  br label %again
again:
  br label %wait
collected:
  %j.next = add i64 %j, 1
  br label %collect
end:
  ret i64 %wrong
}}

define i64 @look(ptr %eye, ptr %list, i64 %count, ptr %rows) {{
entry:
  %seen = alloca [6 x i64]
  %seen.device = getelementptr i64, ptr %seen, i64 1
  %seen.kind = getelementptr i64, ptr %seen, i64 2
  %seen.sizes = getelementptr i64, ptr %seen, i64 3
  %seen.strides = getelementptr i64, ptr %seen, i64 4
  %see = load ptr, ptr %eye
  %get.at = getelementptr i64, ptr %eye, i64 1
  %get = load ptr, ptr %get.at
  %type.offset.at = getelementptr i64, ptr %eye, i64 2
  %type.offset = load i64, ptr %type.offset.at
  br label %next
next:
  %i = phi i64 [ 0, %entry ], [ %i.next, %fits ]
  %left = icmp slt i64 %i, %count
  br i1 %left, label %who, label %all
all:
  ret i64 -1
who:
  %object = call ptr %get(ptr %list, i64 %i)
  %row.words = mul i64 %i, {expectation}
  %row = getelementptr i64, ptr %rows, i64 %row.words
  %expected = load ptr, ptr %row
  %anyone = icmp eq ptr %expected, null
  %himself = icmp eq ptr %expected, %object
  %known = or i1 %anyone, %himself
  br i1 %known, label %what, label %wrong
what:
  %row.type.at = getelementptr i64, ptr %row, i64 1
  %row.type = load ptr, ptr %row.type.at
  %unseen = icmp eq ptr %row.type, null
  br i1 %unseen, label %fits, label %typed
typed:
  %type.at = getelementptr i8, ptr %object, i64 %type.offset
  %type = load ptr, ptr %type.at
  %same.type = icmp eq ptr %type, %row.type
  br i1 %same.type, label %view, label %wrong
view:
  %failed = call i32 %see(ptr %object, ptr %seen)
  %viewed = icmp eq i32 %failed, 0
  br i1 %viewed, label %compare, label %wrong
compare:
  %device = load i64, ptr %seen.device
  %row.device.at = getelementptr i64, ptr %row, i64 2
  %row.device = load i64, ptr %row.device.at
  %same.device = icmp eq i64 %device, %row.device
  %kind = load i64, ptr %seen.kind
  %row.kind.at = getelementptr i64, ptr %row, i64 3
  %row.kind = load i64, ptr %row.kind.at
  %same.kind = icmp eq i64 %kind, %row.kind
  %same = and i1 %same.device, %same.kind
  br i1 %same, label %shape, label %wrong
shape:
  %dims64 = and i64 %kind, 4294967295
  %row.sizes.at = getelementptr i64, ptr %row, i64 4
  %row.sizes = load ptr, ptr %row.sizes.at
  %row.strides = getelementptr i64, ptr %row.sizes, i64 %dims64
  %sizes = load ptr, ptr %seen.sizes
  %strides = load ptr, ptr %seen.strides
  %strided = icmp ne ptr %strides, null
  %scalar = icmp eq i64 %dims64, 0
  %legible = or i1 %strided, %scalar
  br i1 %legible, label %dim, label %wrong
dim:
  %d = phi i64 [ 0, %shape ], [ %d.next, %stride ]
  %d.left = icmp ult i64 %d, %dims64
  br i1 %d.left, label %size, label %memory
size:
  %size.at = getelementptr i64, ptr %sizes, i64 %d
  %one.size = load i64, ptr %size.at
  %row.size.at = getelementptr i64, ptr %row.sizes, i64 %d
  %row.size = load i64, ptr %row.size.at
  %same.size = icmp eq i64 %one.size, %row.size
  br i1 %same.size, label %stride, label %wrong
stride:
  %stride.at = getelementptr i64, ptr %strides, i64 %d
  %one.stride = load i64, ptr %stride.at
  %row.stride.at = getelementptr i64, ptr %row.strides, i64 %d
  %row.stride = load i64, ptr %row.stride.at
  %same.stride = icmp eq i64 %one.stride, %row.stride
  %alone = icmp eq i64 %one.size, 1
  %laid = or i1 %same.stride, %alone
  %d.next = add i64 %d, 1
  br i1 %laid, label %dim, label %wrong
memory:
  %start = load i64, ptr %seen
  %offset.at = getelementptr i64, ptr %seen, i64 5
  %offset = load i64, ptr %offset.at
  %address = add i64 %start, %offset
  %numbers.at = getelementptr i64, ptr %row, i64 5
  %numbers = load i64, ptr %numbers.at
  %nowhere = icmp eq i64 %address, 0
  %some = icmp ne i64 %numbers, 0
  %lost = and i1 %nowhere, %some
  br i1 %lost, label %wrong, label %there
there:
  %row.address.at = getelementptr i64, ptr %row, i64 6
  %row.address = load i64, ptr %row.address.at
  %target.at = getelementptr i64, ptr %row, i64 7
  %target = load ptr, ptr %target.at
  %fixed = icmp eq ptr %target, null
  br i1 %fixed, label %stays, label %moves
stays:
  %unmoved = icmp eq i64 %address, %row.address
  br i1 %unmoved, label %fits, label %wrong
moves:
  store i64 %address, ptr %target
  br label %fits
fits:
  %i.next = add i64 %i, 1
  br label %next
wrong:
  ret i64 %i
}}

define i64 @look_and_step(ptr %eye, ptr %list, i64 %count, ptr %rows, ptr %job) {{
  %unlike = call i64 @look(ptr %eye, ptr %list, i64 %count, ptr %rows)
  %alike = icmp slt i64 %unlike, 0
  br i1 %alike, label %go, label %end
go:
  %wrong = call i64 @alone(ptr %job)
  ret i64 %wrong
end:
  ret i64 %unlike
}}
"""


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


class Runtime:
    """The functions of this module's own code: see its docstring. `quick` is `alone` under the interpreter's lock."""

    def __init__(self) -> None:
        machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())
        flush, restore, declarations = _FLUSH.get(machine, ("", "", ""))
        pause, declared = _PAUSE.get(machine, ("", ""))
        code = _CODE.format(
            flush=flush,
            restore=restore,
            declarations=declarations + declared,
            pause=pause,
            box=BOX,
            expectation=EXPECTATION,
            patience=PATIENCE,
            monotonic=time.CLOCK_MONOTONIC,
        )
        here = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
        about = ["runtime", here, importlib.metadata.version("llvmlite"), *processor()]
        alone, shared, self.worker, look, look_and_step = load(
            keeping.kept(about, lambda: emit(code)), "alone", "shared", "worker", "look", "look_and_step"
        )
        self.alone = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)(alone)
        self.quick = ctypes.PYFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)(alone)
        self.shared = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)(shared)
        # What looks uses Python's objects, so it keeps the lock, and an error that it meets is raised.
        looks = (ctypes.c_int64, ctypes.c_void_p, ctypes.py_object, ctypes.c_int64, ctypes.c_void_p)
        self.look = ctypes.PYFUNCTYPE(*looks)(look)
        self.look_and_step = ctypes.PYFUNCTYPE(*looks, ctypes.c_void_p)(look_and_step)


@functools.cache
def runtime() -> Runtime:
    """The one runtime of this process."""
    return Runtime()
