"""The options of SciPy's methods, by the names that `minimize` has for them, and what is written for those it lacks."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from descend.checks import count, is_real, shown, tolerance
from descend.errors import MethodError, OptionError, did_you_mean
from descend.methods import LBFGS, Method
from descend.minimization.choice import named
from descend.minimization.options import MethodLike, MinimizeOptions

__all__ = ["SCIPY_OPTIONS", "keeps_path", "prints_message", "translated"]

SCIPY_OPTIONS = {
    "maxiter": "max_steps",
    "maxfun": "max_evals",
    "maxfev": "max_evals",
    "eps": "finite_diff_abs_step",
    "xrtol": "xtol",
}
"""SciPy's options that have another name here."""

BUDGETS = {"max_steps": 0, "max_evals": 1}
"""Budgets that SciPy has by other names, and the least of each."""

CONSTANTS = ("maxcor", "maxls", "c1", "c2")
"""SciPy's options that are constants of a method here: `LBFGS.memory`, and those of `Wolfe`."""

SHOWING = ("disp", "iprint", "return_all", "norm")
"""SciPy's options of what is printed, kept and measured."""

OTHERWISE = {
    "adaptive": "it is Nelder-Mead's",
    "fatol": "it is Nelder-Mead's; ftol is about the change of the loss in a step",
    "hess_inv0": "the first matrix is found from the first step; leave it out",
    "initial_simplex": "it is Nelder-Mead's",
    "workers": "pass starts with vectorized=True to evaluate many points at once",
    "xatol": "it is Nelder-Mead's; xtol is about the change of x in a step",
}
"""SciPy's options that are not there, and what is to be said of them."""

OF_MINIMIZE = ("args", "method", "jac", "hess", "hessp", "bounds", "constraints", "tol", "callback", "options")
"""Arguments of `scipy.optimize.minimize` itself, which are none of its options."""


def translated(options: MinimizeOptions) -> MinimizeOptions:
    """The same with SciPy's `options` in their places; raises `OptionError` where one is unknown or given twice."""
    if options.options is None:
        return options
    if not isinstance(options.options, Mapping):
        raise OptionError(f"options={shown(options.options)}: a dict is needed, such as {{'maxiter': 100}}")
    given, constants = _by_name(options.options)
    defaults = {field.name: field.default for field in dataclasses.fields(options)}
    for name in given:
        if getattr(options, name) is not defaults[name]:
            raise OptionError(
                f"{name}={getattr(options, name)!r} is given as an argument, and by options as well: give it once"
            )
    if constants:
        given["method"] = _with_constants(options.method, constants)
    return dataclasses.replace(options, **given)


def prints_message(options: Mapping[str, Any] | None) -> bool:
    """Whether SciPy's options ask for the message to be printed."""
    options = options or {}
    loud: Any = options.get("iprint")
    return bool(options.get("disp")) or (is_real(loud) and bool(loud >= 0))


def keeps_path(options: Mapping[str, Any] | None) -> bool:
    """Whether SciPy's options ask for all points on the way."""
    return bool((options or {}).get("return_all"))


def _by_name(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """SciPy's options by the names of `minimize`, without those that are None; and the constants of a method."""
    known = [field.name for field in dataclasses.fields(MinimizeOptions) if field.name not in OF_MINIMIZE]
    given: dict[str, Any] = {}
    constants: dict[str, Any] = {}
    spelt: dict[str, str] = {}
    for name, value in options.items():
        if name not in (*known, *SCIPY_OPTIONS, *CONSTANTS, *SHOWING, "tol"):
            raise _unknown(name, known)
        if value is None:
            continue
        here = {"tol": "gtol", "return_all": "history"}.get(name) or SCIPY_OPTIONS.get(name, name)
        if name in CONSTANTS:
            constants[name] = _whole(value)
        elif name == "norm":
            if value != np.inf:
                raise OptionError(f"option norm={value!r}: gtol is about the largest entry; leave it out, or pass inf")
        elif name == "return_all":
            given |= {"history": "path"} if value else {}
        elif name not in SHOWING:
            if here in given:
                raise OptionError(f"options {spelt[here]!r} and {name!r} are the same; give one of them")
            spelt[here] = name
            given[here] = _checked(name, here, value)
    return {name: value for name, value in given.items() if value is not None}, constants


def _unknown(name: Any, known: list[str]) -> OptionError:
    if name in OTHERWISE:
        return OptionError(f"option {name!r} is not there: {OTHERWISE[name]}")
    if name in OF_MINIMIZE:
        return OptionError(f"option {name!r} is an argument of minimize: pass {name}=… beside options")
    names = [*known, *SCIPY_OPTIONS, *CONSTANTS, *SHOWING]
    return OptionError(f"option {name!r} is not known; {did_you_mean(str(name), names)}")


def _checked(name: str, here: str, value: Any) -> Any:
    """The value of an option, of which a budget may be a float, and is None where it is infinite."""
    if name == here or here not in (*BUDGETS, "xtol"):
        return value
    if here == "xtol":
        return tolerance(f"options[{name!r}]", value)
    least = BUDGETS[here]
    return None if is_real(value) and value == np.inf else count(f"options[{name!r}]", _whole(value), at_least=least)


def _whole(value: Any) -> Any:
    """A whole number as an int, whatever its type."""
    whole = is_real(value) and np.isfinite(value) and value == int(value)
    return int(value) if whole else value


def _with_constants(method: MethodLike | None, constants: Mapping[str, Any]) -> Method:
    """The method with SciPy's constants of L-BFGS-B and of Wolfe's conditions; raises `MethodError`."""
    automatic = method is None or (isinstance(method, str) and method.strip().lower() == "auto")
    found: Any = LBFGS() if automatic else named(method)
    changes: dict[str, Any] = {}
    of_search: dict[str, Any] = {}
    search = getattr(found, "search", None)
    for option, constant in constants.items():
        if option == "maxcor":
            if not isinstance(found, LBFGS):
                raise MethodError(f"option 'maxcor' is that of descend.LBFGS; {method!r} keeps no pairs: leave it out")
            changes["memory"] = constant
            continue
        field = "most" if option == "maxls" else option
        if not hasattr(search, field):
            raise MethodError(f"option {option!r} is that of a line search; {method!r} has none that takes it")
        of_search[field] = constant
    if of_search:
        changes["search"] = dataclasses.replace(search, **of_search)  # type: ignore[type-var]
    changed: Method = dataclasses.replace(found, **changes)
    return changed
