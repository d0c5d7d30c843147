"""What a formula does beside computing is found out before a kernel is made of it, and does not take place."""

import random
import sys
import warnings

import numpy as np
import pytest
from tests.rules.tracing.formulas import rule_of

import descend
from descend.errors import RuleError
from descend.rules.tracing import Untraceable, trace

CALLS = []
COUNT = 0


def printing(p, g, s):
    print("a step")
    return p - s.lr * g


def appending(p, g, s):
    CALLS.append(g)
    return p - s.lr * g


def counting(p, g, s):
    global COUNT
    COUNT += 1
    return p - s.lr * g


def warning(p, g, s):
    warnings.warn("a step", stacklevel=1)
    return p - s.lr * g


def writing(p, g, s):
    sys.stdout.write("a step")
    return p - s.lr * g


def storing(p, g, s):
    counting.calls = 1
    return p - s.lr * g


@pytest.mark.parametrize(
    ("update", "message"),
    [
        (printing, "Mine.update prints"),
        (appending, "Mine.update changes a list outside of it, by append"),
        (counting, "Mine.update assigns to the global COUNT"),
        (warning, "Mine.update warns"),
        (writing, "Mine.update writes to a file"),
        (storing, "Mine.update assigns to an attribute calls"),
    ],
)
def test_side_effects(update, message, capsys):
    """They are named, and neither the definition of the rule nor a trace has them."""
    rule = rule_of(update)
    with pytest.raises(Untraceable, match=message):
        trace(rule)
    assert capsys.readouterr().out == ""
    assert CALLS == []


def test_containers_of_the_formulas_own_are_no_side_effects():
    def update(p, g, s):
        parts, seen = [], {}
        for share in (0.5, 0.5):
            parts.append(share * g)
            seen.setdefault(share, g)
        return p - s.lr * sum(parts)

    assert trace(rule_of(update)).text.count("multiply") == 2


def test_a_closure_that_is_written():
    calls = 0

    def update(p, g, s):
        nonlocal calls
        calls += 1
        return p - s.lr * g

    with pytest.raises(Untraceable, match="assigns to calls of the function around it"):
        trace(rule_of(update))


def test_a_formula_that_prints_is_refused_all_the_same_for_what_no_rule_may_do(capsys):
    def update(p, g, s):
        print("a step")
        return p - g / g.sum()

    with pytest.raises(RuleError, match=r"takes \.sum"):
        rule_of(update)
    assert capsys.readouterr().out == ""


def test_random_numbers_are_refused():
    """A kernel would go on with the first ones."""
    with pytest.raises(RuleError, match="computes something else each time"):
        rule_of(lambda p, g, s: p - random.random() * g)


def test_nothing_is_watched_while_a_profiler_runs():
    """It keeps its place; the formula is traced as ever."""
    seen = []
    profiler = lambda frame, event, argument: seen.append(event)  # noqa: E731
    sys.setprofile(profiler)
    try:
        rule = rule_of(lambda p, g, s: p - 2.0 * g)
        assert sys.getprofile() is profiler
    finally:
        sys.setprofile(None)
    assert "multiply" in trace(rule).text
    assert sys.getprofile() is None


@pytest.mark.machine_code
def test_the_reference_engine_has_the_effect_each_step(capsys):
    """What a formula prints is printed, once for each array, since it is not known what else it may do with it."""

    def update(p, g, s):
        print("a step")
        return p - s.lr * g

    p = np.ones(40_000)
    with pytest.warns(RuntimeWarning, match="Mine steps by NumPy: Mine.update prints"):
        engine = descend.engines.engine(rule_of(update), [p], steps=100_000)
    engine.step([p.copy()])
    assert capsys.readouterr().out == "a step\n"
    assert np.all(p == 0.9)
