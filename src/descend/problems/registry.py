"""Problems by name, and problems from a user's file."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from descend.errors import ProblemError, described, did_you_mean
from descend.printable import one_line
from descend.problems import functions, real
from descend.problems.generators import START, seeded
from descend.problems.problem import Problem

__all__ = ["BUILT_IN", "FILE_MODULE", "describe", "load", "named"]

BUILT_IN: dict[str, Callable[..., Problem]] = {
    "digits": real.digits,
    "digits-softmax": real.digits_softmax,
    "mnist": real.mnist,
    "cnn": real.cnn,
    "characters": real.characters,
    "breast-cancer": real.breast_cancer,
    "diabetes": real.diabetes,
    "quadratic": functions.quadratic,
    "deep-quadratic": functions.deep_quadratic,
    "rosenbrock": functions.rosenbrock,
    "beale": functions.beale,
    "himmelblau": functions.himmelblau,
    "booth": functions.booth,
    "saddle": functions.saddle,
}
"""The function that makes each built-in problem, by the problem's name; its parameters are the settings."""

FILE_MODULE = "descend_problem_"
"""The beginning of the name of the module that a problem file becomes; the file's name follows."""


def load(spec: str) -> Problem:
    """A problem by name (``digits``), with settings (``quadratic:condition=1000,dimension=50``), or from a file.

    A path that ends in ``.py`` or contains a slash is a Python file that defines ``problem = descend.Problem(…)``.
    Raises `ProblemError` for whatever goes wrong.
    """
    if spec.endswith(".py") or "/" in spec or "\\" in spec:
        return _from_file(Path(spec).expanduser())
    name, _, settings = spec.partition(":")
    make = _maker(name)
    return make(**_settings(spec, settings, make))


def named(problem: Any) -> Problem:
    """A `Problem` as it is, or what `load` makes of a name or a path; raises `ProblemError`."""
    if isinstance(problem, (str, Path)):
        return load(str(problem))
    if not isinstance(problem, Problem):
        raise ProblemError(f"{problem!r} is not a Problem, a name, or the path of a Python file")
    return problem


def describe(name: str) -> tuple[str, dict[str, Any]]:
    """One line on a built-in problem, and its settings with their defaults."""
    make = _maker(name)
    defaults = {p.name: p.default for p in inspect.signature(make).parameters.values()}
    return str(make.__doc__).splitlines()[0].rstrip("."), defaults


def _maker(name: str) -> Callable[..., Problem]:
    key = name.strip().lower().replace("_", "-")
    if key not in BUILT_IN:
        raise ProblemError(
            f"unknown problem {name!r}: {did_you_mean(name, BUILT_IN)}; or give the path of a Python file"
        )
    return BUILT_IN[key]


def _settings(spec: str, text: str, make: Callable[..., Problem]) -> dict[str, float]:
    """The numbers of ``name=value,name=value``; raises `ProblemError` for what the problem does not take."""
    known = inspect.signature(make).parameters
    settings = {}
    for part in filter(None, text.split(",")):
        key, _, value = part.partition("=")
        if key.strip() not in known:
            options = did_you_mean(key.strip(), known) if known else "it takes none"
            raise ProblemError(f"{spec!r}: unknown setting {key.strip()!r}; {options}")
        try:
            settings[key.strip()] = float(value)
        except ValueError:
            raise ProblemError(f"{spec!r}: {key.strip()}={value!r} is not a number") from None
    return settings


def _from_file(path: Path) -> Problem:
    """The ``problem`` that a Python file defines."""
    what = _unusable(path)
    if what:
        raise ProblemError(
            f"problem file {str(path)!r} {what}: give the path of a Python file that defines problem = …"
        )
    spec = importlib.util.spec_from_file_location(f"{FILE_MODULE}{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ProblemError(f"problem file {str(path)!r} is not a Python file: its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickle look a module up by its name
    folder = str(path.parent.resolve())
    if folder not in sys.path:  # as with `python file.py`, its neighbours can be imported, then and later
        sys.path.append(folder)
    try:
        with seeded(0, START):  # data that the file draws are the same in each process
            spec.loader.exec_module(module)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        where = _line(error, path)
        raise ProblemError(f"problem file {str(path)!r} failed{where}: {described(error)}") from error
    if not hasattr(module, "problem"):
        raise ProblemError(f"problem file {str(path)!r} defines no 'problem': add problem = descend.Problem(…)")
    found = module.problem
    if not isinstance(found, Problem):
        raise ProblemError(f"problem file {str(path)!r}: problem is {type(found).__name__}, not a descend.Problem")
    if found.name == "problem":
        found.name = one_line(path.stem)
    return found


def _unusable(path: Path) -> str:
    """Why there is no file at a path that can be run; nothing if there is one."""
    try:
        if path.is_file():
            return ""
        return "is a folder" if path.is_dir() else "is no file" if path.exists() else "does not exist"
    except OSError as error:  # a name that is too long
        return f"cannot be used ({error.strerror})"


def _line(error: BaseException, path: Path) -> str:
    """The words "at line 7", if the traceback passes through the file; else nothing."""
    trace, line = error.__traceback__, None
    while trace is not None:
        if Path(trace.tb_frame.f_code.co_filename).resolve() == path.resolve():
            line = trace.tb_lineno
        trace = trace.tb_next
    if line is None and isinstance(error, SyntaxError):
        line = error.lineno
    return "" if line is None else f" at line {line}"
