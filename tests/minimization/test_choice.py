"""Which method minimises: names, constants, and what 'auto' takes."""

import numpy as np
import pytest
from tests.methods.cases import METHODS
from tests.objectives.functions import bowl

import descend
from descend import Armijo, Wolfe, methods
from descend.errors import MethodError


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("L-BFGS", descend.LBFGS),
        ("lbfgs", descend.LBFGS),
        ("bfgs", descend.BFGS),
        ("CG", descend.ConjugateGradient),
        ("barzilai-borwein", descend.BarzilaiBorwein),
        ("BB", descend.BarzilaiBorwein),
        ("steepest_descent", descend.SteepestDescent),
        ("adam", descend.Adam),
    ],
)
def test_methods_by_name(name, made):
    result = descend.minimize(bowl, np.zeros(4), jac=True, method=name, max_steps=1)
    assert type(result.method) is made
    assert type(descend.minimize(bowl, np.zeros(4), jac=True, method=made, max_steps=1).method) is made


def test_auto_takes_no_more_memory_than_it_may(monkeypatch):
    """The pairs of L-BFGS fit into a budget, or something is taken that keeps none; each says so."""
    start, box = np.zeros(4), (-9.0, 9.0)
    for room, bounds, made, why in [
        (30 * 4 * 16, None, descend.LBFGS(), "LBFGS, as 4 parameters"),
        (
            30 * 4 * 16,
            box,
            descend.LBFGS(memory=15),
            r"LBFGS(memory=15), as 30 pairs of 4 parameters would take 0.0 GiB",
        ),
        (12 * 4 * 16, None, descend.LBFGS(memory=12), "LBFGS(memory=12), as 30 pairs"),
        (4 * 4 * 16, None, descend.ConjugateGradient(), "ConjugateGradient, which keeps no pairs, as 30 pairs"),
        (4 * 4 * 16, box, descend.BarzilaiBorwein(), "BarzilaiBorwein, which keeps no pairs"),
    ]:
        monkeypatch.setattr("descend.minimization.choice.PAIRS_BYTES", room)
        monkeypatch.setattr("descend.minimization.choice.FEW", 3)
        result = descend.minimize(bowl, start, jac=True, bounds=bounds)
        assert result.success
        assert result.method == made
        assert result.why.startswith(why)


def test_auto_says_what_it_took_and_why():
    for n, bounds, made in (
        (4, None, descend.BFGS()),
        (100, None, descend.BFGS()),
        (101, None, descend.LBFGS()),
        (4, (-9.0, 9.0), descend.LBFGS()),
    ):
        result = descend.minimize(lambda x: (x @ x, 2 * x), np.ones(n), jac=True, bounds=bounds)
        assert result.method == made
        assert result.why == f"{type(made).__name__}, as {n} parameters have a whole gradient"
        assert result.why in str(result)


def test_wrong_names_and_constants_are_refused():
    for name, meant in {"adamm": "adam", "L-BGFS": "lbfgs", "gradientdescent": "steepestdescent"}.items():
        with pytest.raises(MethodError, match=rf"unknown .* {name!r}: did you mean '{meant}'\? Known: acceleratedgra"):
            descend.minimize(bowl, np.zeros(4), method=name)
    for make, match in [
        (lambda: descend.LBFGS(memory=0), r"LBFGS\(memory=0\): a whole number ≥ 1"),
        (lambda: descend.LBFGS(search=Armijo()), r"LBFGS\(search=Armijo\(.*\)\): Wolfe\(…\) is needed"),
        (lambda: descend.ConjugateGradient("fr"), r"ConjugateGradient\(beta='fr'\): one of 'hager-zhang'"),
        (lambda: Wolfe(c1=0.9), r"Wolfe\(c1=0.9\): a number between 0 and 0.5"),
        (lambda: Wolfe(c1=0.4, c2=0.3), "c2 must be larger than c1"),
        (lambda: Armijo(window=0), r"Armijo\(window=0\): a whole number of losses ≥ 1"),
        (lambda: Wolfe(most=0), r"Wolfe\(most=0\): a whole number of trials ≥ 1"),
    ]:
        with pytest.raises(MethodError, match=match):
            make()


def test_every_method_is_in_the_registry():
    assert {type(m) for m in METHODS.values()} == set(methods.registry().values())
