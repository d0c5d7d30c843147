"""Checks of arguments: what passes, in which type, and what the others are told."""

import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from descend import checks
from descend.errors import MethodError, OptionError

NOT_NUMBERS = [True, np.True_, "1", None, 1j, [1.0], np.ones(1)]


@pytest.mark.parametrize("value", [1, 1.0, np.float32(1), np.int8(1), Fraction(1, 1)], ids=repr)
def test_a_real_number_is_a_float(value):
    """Python's and NumPy's numbers pass, as a float."""
    found = checks.real("x", value)
    assert found == 1.0
    assert type(found) is float


@pytest.mark.parametrize("value", [*NOT_NUMBERS, math.nan, math.inf, -np.inf, 10**400], ids=lambda v: repr(v)[:9])
def test_what_is_no_finite_number_is_refused(value):
    """Flags, texts, arrays, infinities, and an integer that no float holds."""
    with pytest.raises(OptionError, match="a finite number is needed"):
        checks.real("x", value)


@pytest.mark.parametrize(
    ("limits", "fits", "not_", "words"),
    [
        ({"at_least": 0}, (0, 1), (-1e-9,), "a finite number ≥ 0 is needed"),
        ({"above": 0}, (1e-9,), (0, -1), "a number > 0 is needed"),
        ({"at_least": 0, "at_most": 1}, (0, 1), (1.1, -0.1), "a number from 0 to 1 is needed"),
        ({"above": 0, "below": 0.5}, (0.1,), (0, 0.5), "a number between 0 and 0.5 is needed"),
        ({"above": 0, "at_most": 2}, (2,), (0, 2.1), "a number > 0 and ≤ 2 is needed"),
        ({"at_most": 2}, (-5, 2), (3,), "a finite number ≤ 2 is needed"),
    ],
)
def test_limits_of_a_real_number(limits, fits, not_, words):
    """Each end belongs to what is allowed, or not, as its name says; the message says the same."""
    for value in fits:
        assert checks.real("x", value, **limits) == value
    for value in not_:
        with pytest.raises(OptionError) as caught:
            checks.real("x", value, **limits)
        assert words in str(caught.value)


def test_a_count_is_an_int():
    """A whole number by its type."""
    assert type(checks.count("n", np.int64(3))) is int
    for value in (*NOT_NUMBERS, 3.0, 0, -1):
        with pytest.raises(OptionError, match=r"n=.*: a whole number ≥ 1 is needed; try 1000"):
            checks.count("n", value)
    assert checks.count("n", 0, at_least=0) == 0


@pytest.mark.parametrize(
    ("check", "good", "bad", "message"),
    [
        (checks.fraction, 0.5, 1.5, "x=1.5: a number from 0 to 1 is needed"),
        (checks.seed, 0, -1, "x=-1: a whole number ≥ 0 is needed"),
        (checks.tolerance, 0.0, -1.0, "x=-1.0: a finite number ≥ 0 is needed, or None to switch it off; try 1e-6"),
        (checks.seconds, 0.5, 0, "x=0: a number of seconds > 0 is needed, or None for no limit"),
        (checks.flag, True, 1, "x=1: True or False is needed"),
        (checks.path, Path("a"), "", "x='': the path of a file is needed"),
        (checks.path, Path("a"), 3, "x=3: the path of a file is needed"),
        (checks.function, len, 3, "x=3: a function is needed"),
    ],
)
def test_other_checks(check, good, bad, message):
    """Each has its words."""
    assert check("x", good) == good
    with pytest.raises(OptionError) as caught:
        check("x", bad)
    assert str(caught.value) == message


def test_one_of_some_names_suggests_the_nearest():
    """A name that is nearly right is corrected; another one is told what there is."""
    names = ("quick", "default")
    assert checks.one_of("effort", "quick", names) == "quick"
    with pytest.raises(OptionError, match=r"^effort='quikc': one of .*; did you mean 'quick'\?$"):
        checks.one_of("effort", "quikc", names)
    for wrong in ("zzz", 3, None, ["quick"]):
        with pytest.raises(OptionError, match=r"one of 'quick', 'default' is needed$"):
            checks.one_of("effort", wrong, names)


def test_the_words_of_a_message():
    """Whose argument it is, in which error, what else may be given, and the remedy."""
    with pytest.raises(MethodError) as caught:
        checks.count("window", 0, of="Armijo", error=MethodError, noun="whole number of losses", remedy="try 10")
    assert str(caught.value) == "Armijo(window=0): a whole number of losses ≥ 1 is needed; try 10"


def test_an_optional_argument():
    """None is passed on; anything else is checked."""
    assert checks.optional(checks.real, "x", None, above=0) is None
    assert checks.optional(checks.real, "x", 2, above=0) == 2.0
    with pytest.raises(OptionError):
        checks.optional(checks.real, "x", 0, above=0)
