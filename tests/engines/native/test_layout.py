"""Records that Python and machine code share: declared once, the same bytes for both, and no number indexes one."""

import ast
import ctypes
import re
from pathlib import Path

import numpy as np
import pytest

import descend
from descend.engines.native import layout, runtime

SOURCE = Path(descend.__file__).parent
TEMPLATES = sorted(SOURCE.rglob("*.ll"))
EVERY = pytest.mark.parametrize("record", layout.RECORDS, ids=lambda record: record.name)


@EVERY
def test_llvm_lays_out_a_record_as_numpy_does(record):
    """Every field's offset, and the size of the whole."""
    code = layout.types()
    for field in record.fields:
        code += f"""
        define i64 @offset_of_{field}() {{
          %at = getelementptr %{record.name}, ptr null, {layout.symbols()[f"{record.name}.{field}"]}
          %offset = ptrtoint ptr %at to i64
          ret i64 %offset
        }}"""
    code += f"""
    define i64 @size() {{
      %at = getelementptr %{record.name}, ptr null, i64 1
      %offset = ptrtoint ptr %at to i64
      ret i64 %offset
    }}"""
    names = [*(f"offset_of_{field}" for field in record.fields), "size"]
    found = [ctypes.CFUNCTYPE(ctypes.c_int64)(at)() for at in runtime.load(runtime.emit(code, level=0), *names)]
    assert found == [*(record.dtype.fields[field][1] for field in record.fields), record.dtype.itemsize]
    assert found == [*(record.offset(field) for field in record.fields), record.bytes]


@EVERY
def test_python_writes_fields(record):
    """Into the bytes at the field's offset and into no others; an array begins where it was asked to."""
    made = record.array(3)
    assert made.ctypes.data % record.padded == 0
    for field in record.fields:
        made[field][1] = np.ones((), record.dtype[field]) if record.dtype[field].kind != "V" else b"\1"
        raw = np.flatnonzero(made.view(np.uint8).reshape(3, record.bytes).sum(axis=0))
        assert set(raw) <= {*range(record.offset(field), record.offset(field) + record.dtype[field].itemsize)}
        assert len(raw)
        made[...] = np.zeros((), record.dtype)
    one = record.one()
    assert one.shape == ()
    assert not np.frombuffer(one.tobytes(), np.uint8).any()


def test_a_span_has_its_header_and_as_many_addresses_as_arrays():
    for arrays in (2, 5):
        dtype = layout.span(arrays)
        assert {name: dtype.fields[name][1] for name in layout.SPAN.fields} == {
            name: layout.SPAN.offset(name) for name in layout.SPAN.fields
        }
        assert dtype.fields["arrays"][1] == layout.SPAN.bytes
        assert dtype.itemsize == layout.SPAN.bytes + 8 * arrays


@pytest.mark.parametrize("record", [layout.PART, layout.MAILBOX], ids=lambda record: record.name)
def test_threads_share_no_line_of_the_cache(record):
    assert record.bytes % 128 == 0
    assert record.array(2).ctypes.data % 128 == 0


def test_a_mailbox_has_room_for_what_the_system_puts_there():
    """A mutex and a condition that are made there change no other field."""
    mailbox = layout.MAILBOX.array(1)
    mailbox["state"], mailbox["job"], mailbox["part"] = 1, 2, 3
    system = ctypes.CDLL(None)
    for name in ("mutex", "offer"):
        make = getattr(system, {"mutex": "pthread_mutex_init", "offer": "pthread_cond_init"}[name])
        assert make(ctypes.c_void_p(mailbox.ctypes.data + layout.MAILBOX.offset(name)), None) == 0
    assert [mailbox[name][0] for name in ("state", "job", "part")] == [1, 2, 3]


# ---- no number indexes a record ---------------------------------------------------------------------------------


def test_there_are_templates():
    assert {file.name for file in TEMPLATES} == {"stepping.ll", "guards.ll"}


@pytest.mark.parametrize("file", TEMPLATES, ids=lambda file: file.name)
def test_no_number_indexes_a_record_in_machine_code(file):
    """Indices are symbols, or variables that count whole records; no byte offset is written out, nor a word's place."""
    found = re.findall(r"(?m)^\s*%[\w.]+ = getelementptr (.*)$", file.read_text("utf-8"))
    assert found
    for access in found:
        assert re.fullmatch(r"(%\w+|i8|i64), ptr %[\w.]+, (\$\w+\.\w+|i64 %[\w.]+)", access), access
        kind, index = access.split(",")[0], access.split(", ")[-1]
        if index.startswith("$"):
            assert index.split(".")[0] == f"${kind[1:]}", access  # the symbol of another record


RECORD_NAMES = re.compile(
    r"\b_?(job|record|table|part|mailbox|box|counter|count|guard|view|set|sight|openmp|team)(s|es)?\b"
)


def literals(tree):
    """Subscripts by a written whole number, or by a slice with one, of what may be a record or an array of them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript):
            numbers = [n for n in ast.walk(node.slice) if isinstance(n, ast.Constant) and type(n.value) is int]
            field = isinstance(node.value, ast.Subscript)  # of one field, as in ``table["length"][0]``
            if numbers and not field and RECORD_NAMES.search(ast.unparse(node.value)):
                yield ast.unparse(node)


SHARING = [
    file
    for file in sorted(SOURCE.rglob("*.py"))
    if re.search(r"native[. ]+(import )?(layout|launch|runtime|workers)\b", file.read_text("utf-8"))
]


@pytest.mark.parametrize("file", SHARING, ids=lambda file: file.name)
def test_no_number_indexes_a_record_in_python(file):
    assert [*literals(ast.parse(file.read_text("utf-8")))] == []


def test_the_check_for_numbers_finds_them():
    code = "job[3]; table[:, 4]; self._boxes[0, 2]; parts[1:3]; launch.job[5:8]; counts[:9, 1]"
    assert len([*literals(ast.parse(code))]) == 6
    assert not [*literals(ast.parse("job['parts']; table['length'][-1]; table['arrays'][:, n]; found[0]; parts[:n]"))]
    assert len(SHARING) >= 6
