"""Options stand once: signatures, docstrings and guides have the names and the defaults of the dataclass."""

import dataclasses
import inspect
import math
import re
from pathlib import Path

import numpy as np
import pytest

import descend
from descend.errors import OptionError
from descend.training.options import FitManyOptions, FitOptions, RangeTestOptions

OPTIONS = {"fit": FitOptions, "fit_many": FitManyOptions, "find_lr": RangeTestOptions}

GUIDE = Path(__file__).parents[2] / "docs" / "finding.md"


def numbers(text):
    return {float(number) for number in re.findall(r"\b[0-9]+(?:\.[0-9]+)?(?:e-?[0-9]+)?\b", text)}


def defaults(kind):
    return {field.name: field.default for field in dataclasses.fields(kind)}


@pytest.mark.parametrize("name", OPTIONS)
def test_a_signature_has_the_options_and_their_defaults(name):
    """No option that the dataclass lacks, none that the function lacks, no default of the function's own."""
    parameters = inspect.signature(getattr(descend, name)).parameters.values()
    keywords = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    assert keywords == defaults(OPTIONS[name])


@pytest.mark.parametrize("name", OPTIONS)
def test_the_docstring_names_every_option(name):
    """As numpydoc has it: a line of names, then what they mean."""
    text = inspect.getdoc(getattr(descend, name))
    listed = re.findall(r"^(\w+(?:, \w+)*)$", text.partition("Parameters\n")[2].partition("\nReturns")[0], re.MULTILINE)
    assert set(defaults(OPTIONS[name])) <= {one for line in listed for one in line.split(", ")}


def test_docstring_and_guide_of_the_range_test_have_its_defaults():
    """Every default that is a number is in the docstring's entry and in the guide's table."""
    text, guide = inspect.getdoc(descend.find_lr), GUIDE.read_text(encoding="utf-8")
    for name, default in defaults(RangeTestOptions).items():
        if default is not None:
            entry = re.search(rf"^(?:\w+, )*{name}(?:, \w+)*\n((?:    .*\n)+)", text, re.MULTILINE).group(1)
            (row,) = (line for line in guide.splitlines() if f"`{name}`" in line and "`--" in line)
            assert default in numbers(entry.partition("Default")[2]), name
            assert default in numbers(row), name


@pytest.mark.parametrize(
    ("kind", "options", "says"),
    [
        (FitOptions, {"epochs": True}, "epochs=True: a number > 0 is needed; try 20"),
        (FitOptions, {"epochs": math.inf}, "epochs=inf: a number > 0 is needed; try 20"),
        (FitOptions, {"examples": 0}, "examples=0: a whole number ≥ 1 is needed"),
        (FitOptions, {"steps": 1.0}, "steps=1.0: a whole number ≥ 0 is needed"),
        (FitOptions, {"seed": "1"}, "seed='1': a whole number ≥ 0 is needed"),
        (FitOptions, {"keep_best": "no"}, "keep_best='no': True or False is needed"),
        (FitOptions, {"history": None}, "history=None: True or False is needed, or 'path'"),
        (FitOptions, {"history": "all"}, "history='all': True or False is needed, or 'path'"),
        (FitOptions, {"callback": 3}, "callback=3: a function is needed"),
        (FitOptions, {"max_seconds": 0}, "max_seconds=0: a number of seconds > 0 is needed, or None for no limit"),
        (FitOptions, {"progress": 1}, "progress=1: True or False is needed"),
        (FitManyOptions, {"steps": 1, "examples": 2}, "steps=1 and examples=2: give one of them as the budget"),
        (RangeTestOptions, {"low": "small"}, "low='small': a learning rate > 0 is needed; try 1e-06"),
        (RangeTestOptions, {"high": math.nan}, "high=nan: a learning rate > 0 is needed; try 100"),
        (RangeTestOptions, {"low": 20, "high": 100}, "low=20.0, high=100.0: high must be ten times low at least"),
    ],
    ids=str,
)
def test_a_wrong_option_is_refused(kind, options, says):
    """The message has name, value, what is allowed, and a remedy."""
    with pytest.raises(OptionError, match=f"^{re.escape(says)}"):
        kind(**options)


def test_numbers_of_numpy_are_kept_as_python_s():
    """So that what depends on them, such as a seed's digits in a message, is the same."""
    made = FitOptions(steps=np.int64(3), seed=np.uint8(7), max_seconds=np.float32(0.5), keep_best=np.True_)
    assert (made.steps, made.seed, made.max_seconds, made.keep_best) == (3, 7, 0.5, True)
    assert {type(made.steps), type(made.seed)} == {int}
    assert type(made.max_seconds) is float
    assert made.keep_best is True
