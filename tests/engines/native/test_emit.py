"""The code of a kernel: the arithmetic's format and no other, vectors, and no test for arrays that overlap."""

import re

import llvmlite.binding as llvm
import numpy as np
import pytest
from tests.oracles import naive
from tests.rules.tracing.formulas import rule_of

import descend
from descend.engines.native import kernels
from descend.engines.native.formats import Layout
from descend.rules.tracing import trace

pytestmark = pytest.mark.machine_code
SHIPPED = naive.shipped()
DOUBLE = re.compile(r" f(add|sub|mul|div|cmp)[^=]* double| call double")


def layout_of(rule, name="float32"):
    return Layout(name, name, (name,) * len(rule.kept_state()))


def computed_in_double(code):
    """Whether the loops of a kernel compute in float64; what is the same for all entries stands before them."""
    loops = re.findall(r"(?ms)^\"?body.*?^\"?finish", code)
    assert loops
    return any(map(DOUBLE.search, loops))


def code_of(rule, layout=None, **options):
    return kernels.code(trace(rule), layout or layout_of(rule), **options)


@pytest.mark.parametrize("rule", SHIPPED.values(), ids=SHIPPED)
def test_float32_kernels_compute_in_float32(rule):
    """With nothing and with everything on, in the step and in the count before a cautious one."""
    for _, chosen in (naive.settings(rule)[0], naive.settings(rule)[-1]):
        one = rule(**chosen)
        assert not computed_in_double(code_of(one))
        assert not one.cautious or not computed_in_double(code_of(one, counting=True))


def test_what_numpy_makes_float64_of_is_computed_in_float64():
    assert computed_in_double(code_of(rule_of(lambda p, g, s: p - np.float64(0.1) * g)))
    assert not computed_in_double(code_of(rule_of(lambda p, g, s: p - 0.1 * g)))


@pytest.mark.parametrize("rule", SHIPPED.values(), ids=SHIPPED)
def test_optimised_kernels_have_vectors_and_no_test_for_overlap(rule):
    one = rule()
    text = str(kernels.optimised(code_of(one)))
    assert re.search(r"<\d+ x float>", text)
    assert "memcheck" not in text


def test_only_what_is_used_of_a_row_is_read():
    """A formula that needs the learning rate alone reads one number."""
    body = code_of(descend.GD())
    assert body.count("load double") == 1


@pytest.mark.parametrize("name", ["float64", "float32", "bfloat16", "float16"])
def test_the_gradient_is_never_written(name):
    """Every array is loaded once, and all but the gradient are stored once."""
    rule = descend.SGD(momentum=0.9)
    code = code_of(rule, Layout(name, "float32", ("bfloat16",)))
    kind = {"float64": "double", "float32": "float", "bfloat16": "i16", "float16": "half"}[name]
    assert len(re.findall(rf"store {kind} .*alias.scope", code)) == (2 if kind == "i16" else 1)
    assert len(re.findall(r"store \w+ .*alias.scope", code)) == 2
    assert len(re.findall(r"= load \w+, .*alias.scope", code)) == 3


def test_wide_kernels_ask_for_wide_vectors():
    assert '"prefer-vector-width"="512"' in code_of(descend.GD(), wide=True)
    assert "prefer-vector-width" not in code_of(descend.GD())


def test_a_counting_kernel_stores_nothing():
    code = code_of(descend.Adam(cautious=True), counting=True)
    assert "store" not in code.split("define internal")[0]
    assert code.count("atomicrmw add") == 3  # the next chunk, and the count, in either loop


def test_numbers_that_are_written_take_the_format_of_the_arithmetic():
    """A literal that float32 has not is the nearest it has, and one beyond its range is infinite."""
    code = code_of(rule_of(lambda p, g, s: p - 0.1 * g + 1e300))
    assert f"0x{np.float64(np.float32(0.1)).view(np.uint64):x}" in code.lower()
    assert "0x7ff0000000000000" in code.lower()
    llvm.parse_assembly(code)
