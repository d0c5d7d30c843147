"""Options of `descend.minimize`: each bad one is refused by name."""

import dataclasses
import inspect
import math
from pathlib import Path

import numpy as np
import pytest
from tests.objectives.functions import square

import descend
from descend.descent.history import LIMIT
from descend.errors import GradientError, MethodError, ObjectiveError, OptionError, ParameterError, RuleError
from descend.minimization.options import DEFAULT_MAX_STEPS, MinimizeOptions, default_gtol

GUIDE = Path(__file__).parents[2] / "docs" / "minimizing.md"


def test_the_signature_of_minimize_is_that_of_its_options():
    """Every option, in order, with its default: for editors the function spells out what the dataclass declares."""
    _fun, _x0, *given = inspect.signature(descend.minimize).parameters.values()
    declared = [(field.name, field.default) for field in dataclasses.fields(MinimizeOptions)]
    assert [(option.name, option.default) for option in given] == declared


def test_every_option_reaches_the_options(monkeypatch):
    """What `minimize` is given it passes on under its own name."""
    made = []

    class Caught(Exception):
        pass

    def catch(**options):
        made.append(options)
        raise Caught

    monkeypatch.setattr("descend.minimization.minimize.MinimizeOptions", catch, raising=True)
    given = {field.name: object() for field in dataclasses.fields(MinimizeOptions)}
    with pytest.raises(Caught):
        descend.minimize(square, 0.0, **given)
    assert made == [given]


@pytest.mark.parametrize("text", [descend.minimize.__doc__, GUIDE.read_text(encoding="utf-8")], ids=["help", "guide"])
def test_the_defaults_that_are_told_are_those_that_hold(text):
    """Tolerance, steps and records, in the function's help and in the guide."""
    gtol, coarse = default_gtol([np.dtype(np.float64)]), default_gtol([np.dtype(np.float32)])
    told = " ".join(text.replace("`", "").split())
    assert f"gtol={gtol:.0e}".replace("e-0", "e-") in told
    assert f"{coarse:.0e}".replace("e-0", "e-") in told
    assert f"within {DEFAULT_MAX_STEPS:,} steps" in told
    assert f"beyond {LIMIT:,} records" in told


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        (dict(method="adm"), MethodError, "unknown method or rule 'adm': did you mean 'adam'"),
        (dict(method=3), MethodError, "method=3 is neither a method nor a rule: pass one such as descend.LBFGS"),
        (
            dict(method="Nelder-Mead"),
            MethodError,
            r"'Nelder-Mead' .*: write scipy.optimize.minimize\(fun, x0, method='Nel",
        ),
        (dict(method="slsqp"), MethodError, r"write scipy.optimize.minimize\(fun, x0, method='SLSQP', …\)"),
        (dict(constraints={"type": "eq", "fun": square}), MethodError, "'auto' knows no constraints .*'SLSQP'.*COBYQA"),
        (dict(constraints=[{}], method=None), MethodError, "'auto' knows no constraints"),
        (dict(constraints=[{}], method=descend.LBFGS), MethodError, "LBFGS knows no constraints"),
        (dict(hess="4-point"), OptionError, "hess='4-point': a function hess"),
        (dict(callback=lambda xk, state: None), OptionError, r"takes \(xk, state\), and is called with one argument"),
        (dict(callback=lambda: None), OptionError, r"takes \(\), and is called with one argument"),
        (dict(callback=lambda *, xk: None), OptionError, r"takes \(\*, xk\), and is called with one argument"),
        (dict(method=descend.methods.Method), MethodError, "is neither a method nor a rule"),
        (dict(gtol=-1.0), OptionError, r"gtol=-1\.0: a finite number ≥ 0"),
        (dict(ftol=math.nan), OptionError, "ftol=nan"),
        (dict(xtol="small"), OptionError, "xtol='small'"),
        (dict(tol=1e-3, gtol=1e-3), OptionError, "tol is another name for gtol"),
        (dict(max_steps=-1), OptionError, "max_steps=-1: a whole number ≥ 0"),
        (dict(max_steps=1.5), OptionError, r"max_steps=1\.5"),
        (dict(max_evals=0), OptionError, "max_evals=0"),
        (dict(max_seconds=0), OptionError, "max_seconds=0"),
        (dict(target=math.nan), OptionError, "target=nan"),
        (dict(jac="4-point"), OptionError, "jac='4-point'.*'2-point'"),
        (dict(history="all"), OptionError, "history='all'"),
        (dict(callback=3), OptionError, "callback=3"),
    ],
    ids=lambda v: "-".join(f"{k}={w}" for k, w in v.items()).partition(" at 0x")[0] if isinstance(v, dict) else None,
)
def test_a_bad_option_is_refused_by_name(options, error, match):
    """Option, value, what is allowed."""
    with pytest.raises(error, match=match):
        descend.minimize(square, 0.0, **options)


def test_a_budget_below_one_gradient_is_refused():
    """max_evals that does not pay for one gradient by finite differences."""
    with pytest.raises(OptionError, match="max_evals=3 does not pay for one gradient, which takes 4"):
        descend.minimize(lambda x: float(x @ x), np.ones(3), max_evals=3)


def test_errors_are_value_errors_for_those_who_catch_these():
    """ParameterError and its siblings are ValueErrors; all are DescendErrors."""
    for error in (ParameterError, OptionError, RuleError, GradientError):
        assert issubclass(error, ValueError)
        assert issubclass(error, descend.DescendError)
    assert issubclass(ObjectiveError, descend.DescendError)
