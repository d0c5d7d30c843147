"""SciPy's options of `descend.minimize`: each has its meaning, and what is not there is named."""

import dataclasses

import numpy as np
import pytest
import scipy.optimize
from tests.objectives.functions import ROSEN, bowl, square

import descend
from descend import Reason
from descend.errors import MethodError, OptionError
from descend.minimization.options import MinimizeOptions
from descend.minimization.scipy_options import translated

START = dict(**ROSEN, x0=[-1.2, 1.0])


@pytest.mark.parametrize(
    ("options", "means"),
    [
        ({"maxiter": 50}, {"max_steps": 50}),
        ({"maxiter": 1e4, "maxfun": 100.0}, {"max_steps": 10_000, "max_evals": 100}),
        ({"maxfev": np.inf, "maxiter": None}, {}),
        ({"gtol": 1e-9, "ftol": 1e-12, "xrtol": 1e-3}, {"gtol": 1e-9, "ftol": 1e-12, "xtol": 1e-3}),
        ({"return_all": True, "disp": False, "iprint": -1, "norm": np.inf}, {"history": "path"}),
        ({"return_all": False}, {}),
        ({"eps": 1e-6}, {"finite_diff_abs_step": 1e-6}),
        ({"finite_diff_rel_step": 1e-6}, {"finite_diff_rel_step": 1e-6}),
        ({"maxcor": 7}, {"method": descend.LBFGS(memory=7)}),
        ({"maxls": 5, "c1": 0.01, "c2": 0.4}, {"method": descend.LBFGS(search=descend.methods.Wolfe(5, 0.01, 0.4))}),
        ({"max_steps": 3, "target": 1.0}, {"max_steps": 3, "target": 1.0}),
    ],
    ids=str,
)
def test_each_option_is_one_of_minimize(options, means):
    plain = dataclasses.replace(MinimizeOptions(options=options), **means)
    assert translated(MinimizeOptions(options=options)) == plain


def test_a_method_by_any_name_takes_scipys_constants():
    for method in ("L-BFGS-B", "lbfgs", descend.LBFGS, descend.LBFGS(), None, "auto"):
        assert translated(MinimizeOptions(method=method, options={"maxcor": 3})).method == descend.LBFGS(memory=3)
    search = translated(MinimizeOptions(method="BFGS", options={"c2": 0.5})).method.search
    assert (search.c1, search.c2) == (descend.BFGS().search.c1, 0.5)


@pytest.mark.parametrize("method", ["L-BFGS-B", "l-bfgs-b", "BFGS", "CG", None])
def test_a_budget_by_options_leaves_a_method_its_tolerance(method):
    """As in SciPy: it stops where it has converged. A rule spends what it is given, as ever."""
    found = descend.minimize(**START, method=method, options={"maxiter": 500})
    assert found.success
    assert found.nit < 500
    spent = descend.minimize(bowl, np.zeros(4), jac=True, method=descend.GD(lr=1e-3), options={"maxiter": 20})
    assert (spent.nit, spent.reason) == (20, Reason.MAX_STEPS)


def test_budgets_by_options_are_kept():
    few = descend.minimize(**START, options={"maxiter": 5})
    assert (few.reason, few.nit) == (Reason.MAX_STEPS, 5)
    few = descend.minimize(**START, options={"maxfun": 9})
    assert (few.reason, few.nfev) == (Reason.MAX_EVALS, 9)


def test_disp_prints_the_message(capsys):
    for options in ({"disp": True}, {"disp": 1}, {"iprint": 0}):
        result = descend.minimize(square, 0.0, options=options)
        assert capsys.readouterr().out == f"{result.message}\n"
    for options in ({"disp": False}, {"disp": None, "iprint": -1}, {}, None):
        descend.minimize(square, 0.0, options=options)
        assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        (dict(options={"maxiters": 5}), OptionError, "option 'maxiters' is not known; did you mean 'maxiter'"),
        (dict(options={"xatol": 1e-3}), OptionError, "option 'xatol' is not there: it is Nelder-Mead's; xtol"),
        (dict(options={"jac": True}), OptionError, "option 'jac' is an argument of minimize: pass jac=… beside"),
        (dict(options={3: 5}), OptionError, "option 3 is not known"),
        (dict(options=[("maxiter", 5)]), OptionError, r"options=\[\('maxiter', 5\)\]: a dict is needed"),
        (dict(options={"maxiter": 5}, max_steps=7), OptionError, "max_steps=7 is given as an argument, and by options"),
        (dict(options={"maxiter": 5, "max_steps": 7}), OptionError, "'maxiter' and 'max_steps' are the same"),
        (dict(options={"maxfun": 5, "maxfev": 5}), OptionError, "'maxfun' and 'maxfev' are the same"),
        (dict(options={"gtol": 1e-3}, tol=1e-3), OptionError, "tol is another name for gtol"),
        (dict(options={"gtol": 1e-3, "tol": 1e-3}), OptionError, "'gtol' and 'tol' are the same"),
        (dict(options={"maxiter": 1.5}), OptionError, r"options\['maxiter'\]=1.5: a whole number"),
        (dict(options={"maxiter": -1}), OptionError, r"options\['maxiter'\]=-1: a whole number"),
        (dict(options={"maxfun": 0}), OptionError, r"options\['maxfun'\]=0: a whole number ≥ 1"),
        (dict(options={"maxiter": "x"}), OptionError, r"options\['maxiter'\]='x'"),
        (dict(options={"xrtol": -1.0}), OptionError, r"options\['xrtol'\]=-1.0: a finite number ≥ 0"),
        (dict(options={"eps": "x"}), OptionError, "eps='x': a number"),
        (dict(tol="x"), OptionError, "tol='x': a finite number"),
        (dict(options={"norm": 2}), OptionError, "option norm=2: gtol is about the largest entry"),
        (dict(options={"maxcor": 5}, method="BFGS"), MethodError, "option 'maxcor' is that of descend.LBFGS"),
        (dict(options={"c2": 0.5}, method=descend.Adam()), MethodError, "option 'c2' is that of a line search"),
        (dict(options={"maxcor": 0}), MethodError, r"LBFGS\(memory=0\)"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_what_is_wrong_is_named(arguments, error, match):
    with pytest.raises(error, match=match):
        descend.minimize(square, 0.0, **arguments)


def test_arguments_by_position_are_scipys():
    """fun, x0, args, method, jac, hess, hessp, bounds, constraints, tol, callback, options."""
    seen = []
    given = (
        lambda x, a: float(np.sum((x - a) ** 2)), [0.0, 0.0], (3.0,), "L-BFGS-B", lambda x, a: 2 * (x - a), None, None,
        [(0.0, 1.0), (None, None)], (), 1e-8, lambda xk: seen.append(np.copy(xk)), {"maxiter": 30},
    )  # fmt: skip
    ours, scipys = descend.minimize(*given), scipy.optimize.minimize(*given)
    assert ours.x == pytest.approx(scipys.x)
    assert seen[-1] == pytest.approx([1.0, 3.0])


def test_args_that_are_no_tuple_are_one_argument():
    """As in SciPy: a list, an array, a dict or a number is handed on as it is."""
    for args in ([1.0, 2.0], np.array([1.0, 2.0]), ([1.0, 2.0],)):
        found = descend.minimize(lambda x, a: float(np.sum((x - np.asarray(a)) ** 2)), [0.0, 0.0], args)
        assert found.x == pytest.approx([1.0, 2.0])
