"""Tracing gives the graph of a formula: each operation once, in order, with NumPy's kinds of numbers."""

import math

import numpy as np
import pytest
import torch
from tests.oracles import naive
from tests.rules.tracing.formulas import rule_of

import descend
from descend.errors import RuleError
from descend.rules import maths
from descend.rules.tracing import Untraceable, can_be_split, trace

SHIPPED = naive.shipped()


def text(update, **attributes):
    return trace(rule_of(update, **attributes)).text


def last(update):
    """The kind and operation that the formula's last node has."""
    return text(update).splitlines()[-2].split(" = ")[1].partition("(")[0]


def test_the_text_of_a_graph():
    """Inputs by their names, operations by NumPy's names, each after its operands."""

    def update(p, g, m, s):
        m = 0.5 * m + g * g
        return p - s.lr * maths.sqrt(m), m

    assert text(update).splitlines() == [
        "%0 = number array('p')",
        "%1 = weak scalar('lr')",
        "%2 = weak constant(0.5)",
        "%3 = number array('m')",
        "%4 = number multiply(%2, %3)",
        "%5 = number array('g')",
        "%6 = number multiply(%5, %5)",
        "%7 = number add(%4, %6)",
        "%8 = number sqrt(%7)",
        "%9 = number multiply(%1, %8)",
        "%10 = number subtract(%0, %9)",
        "p <- %10",
        "m <- %7",
    ]


def test_what_is_written_twice_stands_once_and_what_is_not_used_nowhere():
    def one(p, g, s):
        unused = g * 7.0  # noqa: F841
        square = g * g
        return p - square * square

    def other(p, g, s):
        return p - (g * g) * (g * g)

    assert text(one) == text(other)


@pytest.mark.parametrize("rule", SHIPPED.values(), ids=SHIPPED)
def test_every_shipped_rule_can_be_traced_with_every_setting(rule):
    """And a setting that is off leaves nothing in the graph."""
    for _, chosen in naive.settings(rule):
        traced = trace(rule(**chosen))
        assert [name for name, _ in traced.outputs] == ["p", *rule(**chosen).kept_state()]
        assert (traced.mask is not None) == chosen["cautious"]
        assert ("scalar('weight_decay')" in traced.text or "scalar('keep')" in traced.text) == (
            chosen["weight_decay"] != 0
        )


@pytest.mark.parametrize(
    ("update", "expected"),
    [
        (lambda p, g, s: p * 2, "number multiply"),
        (lambda p, g, s: (g > 0) * g, "number multiply"),
        (lambda p, g, s: (g > 0) * 1.0, "double multiply"),
        (lambda p, g, s: np.where(g > 0, 1.0, -1.0), "double select"),
        (lambda p, g, s: maths.where(g > 0, p, -1.0), "number select"),
        (lambda p, g, s: np.float64(0.1) * g, "double multiply"),
        (lambda p, g, s: np.sqrt(s.lr) * g, "double multiply"),
        (lambda p, g, s: maths.sqrt(s.lr) * g, "number multiply"),
        (lambda p, g, s: (s.lr * 2.0) * g, "number multiply"),
        (lambda p, g, s: (s.lr > 0.5) * g, "number multiply"),
        (lambda p, g, s: g + np.zeros_like(p), "number add"),
        (lambda p, g, s: (g > 0) & (p < 0), "bool and"),
    ],
)
def test_kinds_of_numbers_are_numpys(update, expected):
    """What NumPy makes float64 of is float64, and what it leaves float32 stays so."""
    assert last(update) == expected
    p, g = np.ones(3, np.float32), np.ones(3, np.float32)
    made = update(p, g, rule_of(update).row(1)).dtype
    assert made == {"number": np.float32, "double": np.float64, "bool": np.bool_}[expected.split()[0]]


@pytest.mark.parametrize(
    ("power", "operations"),
    [
        (0, ["constant"]),
        (1, []),
        (2, ["multiply"]),
        (3, ["multiply", "multiply"]),
        (0.5, ["sqrt"]),
        (-1, ["constant", "divide"]),
        (-2, ["constant", "multiply", "divide"]),
        (1.7, ["constant", "power"]),
    ],
)
def test_powers(power, operations):
    """A whole exponent multiplies, as NumPy's own shortcuts for small ones do."""
    found = text(lambda p, g, s: g**power)
    assert sorted(line.split(" ")[3].partition("(")[0] for line in found.splitlines()[:-1] if "array" not in line) == (
        sorted(operations)
    )


def test_a_change_in_place_reaches_everyone_who_has_the_array():
    """As it does on NumPy's arrays; a number of Python's is another one afterwards."""

    def update(p, g, s):
        d = g * 2.0
        e = d
        d += 1.0
        rate = s.lr
        rate *= 2.0
        return p - s.lr * e - rate * d

    def plain(p, g, s):
        d = g * 2.0 + 1.0
        return p - s.lr * d - (s.lr * 2.0) * d

    assert text(update) == text(plain)


def test_a_question_about_a_number_of_the_step_becomes_a_choice():
    """Each answer is traced, and a graph has both."""

    def update(p, g, s):
        if s.lr > 0.5 and s.weight_decay:
            return p - 2.0 * g
        return p - g

    assert text(update).count("select") == 2

    def raising(p, g, s):
        if s.lr > 1.0:
            raise ValueError("lr is too large")
        return p - s.lr * g

    with pytest.raises(
        Untraceable, match=r"Mine.update raises ValueError: lr is too large, for some numbers of a step"
    ):
        trace(rule_of(raising))

    def curious(p, g, s):
        for limit in range(10):
            if s.lr > limit:
                p = p - g
        return p

    with pytest.raises(Untraceable, match="asks more than 6 questions"):
        trace(rule_of(curious))


FACTOR = 1.0


class Holder:
    factor = 1.0


def test_a_trace_follows_what_a_formula_reads(monkeypatch):
    """A global, a class's attribute, a closure and the formula itself; nothing of them is remembered."""
    factor = 1.0
    rule = rule_of(lambda p, g, s: p - s.lr * FACTOR * Holder.factor * factor * g)
    seen = {trace(rule).text}
    monkeypatch.setitem(globals(), "FACTOR", 2.0)
    seen.add(trace(rule).text)
    monkeypatch.setattr(Holder, "factor", 3.0)
    seen.add(trace(rule).text)
    factor = 5.0
    seen.add(trace(rule).text)
    type(rule).update = staticmethod(lambda p, g, s: p)
    seen.add(trace(rule).text)
    assert len(seen) == 5


@pytest.mark.parametrize(
    ("update", "message"),
    [
        (lambda p, g, s: p - g if g > 0 else p, "branches on an array .* use descend.rules.maths.where, maximum"),
        (lambda p, g, s: p - max(g, p), "branches on an array"),
        (lambda p, g, s: p - g * (not g), "branches on an array"),
        (lambda p, g, s: p - g * (0 < g < 1), "branches on an array"),
        (lambda p, g, s: p - math.sqrt(g), "takes an array for a number .* maths.sqrt"),
        (lambda p, g, s: p - float(g), "takes an array for a number"),
        (lambda p, g, s: p - np.asarray(g).astype("f8"), "turns its argument into an array of NumPy's"),
        (lambda p, g, s: p - np.array([g, p])[0], "turns its argument into an array|takes an array apart"),
        (lambda p, g, s: p - g / maths.sqrt((g * g).sum()), r'takes \.sum of an array: .* scope = "tensor"'),
        (lambda p, g, s: p - g / np.linalg.norm(g), r"takes numpy.linalg.norm of an array"),
        (lambda p, g, s: p - g / np.sum(g), r"takes numpy.sum of an array"),
        (lambda p, g, s: p - g / np.add.reduce(g), r"takes numpy.add.reduce of an array"),
        (lambda p, g, s: p - g.mean(), r"takes \.mean of an array"),
        (lambda p, g, s: p - sum(g), r"takes an array apart"),
        (lambda p, g, s: p - max(g), r"takes an array apart"),
        (lambda p, g, s: p - g[::-1], r"takes an array apart"),
        (lambda p, g, s: p - next(iter(g)), r"takes an array apart"),
        (lambda p, g, s: p - g / len(g), r"takes an array apart"),
        (lambda p, g, s: p - g @ p, r"takes an array apart"),
        (lambda p, g, s: p - np.cumsum(g), "takes numpy.cumsum"),
        (lambda p, g, s: p - np.roll(g, 1), "takes numpy.roll"),
        (lambda p, g, s: p - np.sort(g), "takes numpy.sort"),
        (lambda p, g, s: p - np.matmul(g, p), "takes numpy.matmul"),
        (lambda p, g, s: p - g / g.size, r"takes \.size"),
        (lambda p, g, s: p - g * np.shape(p)[0], r"takes numpy.shape"),
        (lambda p, g, s: p - g * np.ones(3), r"meets an array of shape \(3,\)"),
        (lambda p, g, s: p - torch.sum(g), "takes torch's sum"),
        (lambda p, g, s: p - torch.linalg.vector_norm(g), "takes torch's .*norm"),
        (lambda p, g, s: p.__isub__(g), "changes p in place"),
        (lambda p, g, s: [p - g], "returns .*for p"),
        (lambda p, g, s: (p, g), "returns 2 values: the new p are needed"),
        (lambda p, g, m, s: p - g, "returns 1 values: the new p and the new m are needed"),
        (lambda p, g, m, s: (p - g, None), "returns None for m"),
        (lambda p, g, s: p - g * np.random.default_rng().normal(), "computes something else each time"),
    ],
)  # fmt: skip
def test_what_no_rule_may_do_is_refused_when_the_rule_is_defined(update, message):
    """With a sentence that names the formula, what it does, and what to do instead."""
    with pytest.raises(RuleError, match=f"Mine.update {message}"):
        rule_of(update)


def test_a_refusal_is_not_to_be_caught_within_a_formula():
    def update(p, g, s):
        try:
            count = len(g)
        except Exception:
            count = 1
        return p - g / count

    with pytest.raises(RuleError, match="takes an array apart"):
        rule_of(update)


def test_settings_other_than_the_defaults_are_looked_at_too():
    """With everything on when the rule is defined; as they are when an engine is made."""

    def update(p, g, s):
        return p - (g / g.sum() if s.normalised else g)

    with pytest.raises(RuleError, match=r"takes \.sum"):
        type(
            "Switched", (descend.Rule,),
            {"update": staticmethod(update), "normalised": False, "__annotations__": {"normalised": bool}},
            register=False,
        )  # fmt: skip


def test_a_state_may_be_called_as_anything():
    """What a graph has beside the state is not mixed up with it."""

    def update(p, g, mask, the_mask, s):
        return p - mask * g, mask + 1.0, the_mask + 2.0

    traced = trace(type(rule_of(update))(cautious=True))
    assert [name for name, _ in traced.outputs] == ["p", "mask", "the_mask"]
    assert traced.mask is not None
    assert traced.mask_text.splitlines()[-2].partition(" = ")[2].startswith("bool less")


def test_scopes_that_are_not_built_are_refused():
    with pytest.raises(RuleError, match="scope = 'tensor': rules over whole tensors are not built yet"):
        rule_of(lambda p, g, s: p - g, scope="tensor")
    with pytest.raises(RuleError, match="scope = 'row': there is no such scope"):
        rule_of(lambda p, g, s: p - g, scope="row")


@pytest.mark.parametrize(
    ("update", "message"),
    [
        (lambda p, g, s: p - g.astype(g.dtype), "asks for the dtype"),
        (lambda p, g, s: p - math.sqrt(s.lr) * g, "asks for a number of the step itself .*in scalars"),
        (lambda p, g, s: p - g / (1.0 / s.lr), "divides numbers of the step.*scalars"),
        (lambda p, g, s: p - torch.sign(g), "calls torch's sign"),
        (lambda p, g, s: p - undefined(g), "raises NameError"),  # noqa: F821
        (lambda p, g, s: p - np.exp(g, dtype="f8"), "calls numpy.exp with dtype"),
    ],
)
def test_what_cannot_be_traced_is_no_error_of_the_rule(update, message):
    rule = rule_of(update)
    with pytest.raises(Untraceable, match=f"Mine.update {message}"):
        trace(rule)
    assert not can_be_split(rule)


def test_what_is_elementwise_can_be_split_though_no_graph_has_it():
    """NumPy's other functions of single numbers stand in a graph as what they are."""
    rule = rule_of(lambda p, g, s: p - np.arctan(g) * np.nan_to_num(g))
    assert "numpy.arctan" in trace(rule).text
    assert can_be_split(rule)


def test_what_depends_on_numbers_of_the_step_can_be_split_by_their_row():
    """And is refused by the row that makes it look at whole arrays."""

    def update(p, g, s):
        return p - (g if math.sqrt(s.lr) < 2.0 else g / g.sum())

    rule = rule_of(update)
    assert not can_be_split(rule)
    assert can_be_split(rule, rule.row(1))
    with pytest.raises(RuleError, match=r"takes \.sum"):
        can_be_split(rule, rule.row(1)._replace(lr=9.0))
