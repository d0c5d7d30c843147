"""What a run's outcome depends on beside its numbers: code, and the versions of what runs it."""

from __future__ import annotations

import hashlib
import inspect
import platform
import uuid
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from descend.rules import Rule

__all__ = ["of_problem", "of_rule", "source_of", "versions"]

SHOWING = (
    "cli.py",
    "plots/",
    "progress.py",
    "comparison/outcome.py",
    "comparison/profiles.py",
    "comparison/report.py",
    "comparison/statistics.py",
    "comparison/experiment.py",
    "comparison/notes.py",
    "comparison/suite.py",
    "comparison/store.py",
)
"""Files that no figure of a run depends on: finished runs outlive a change of these."""


def of_problem(source: Path | str | None) -> str:
    """A hash of the package, the versions and the problem's file; one made in Python never matches again."""
    root = Path(__file__).parents[1]
    package = sorted(f for f in root.rglob("*.py") if not f.relative_to(root).as_posix().startswith(SHOWING))
    files = [*package, source] if isinstance(source, Path) else package
    parts = [
        str(sorted(versions().items())),
        uuid.uuid4().hex if source is None else str(source),
        *(hashlib.sha256(file.read_bytes()).hexdigest() for file in files),
    ]
    return _hashed("\n".join(parts))


def of_rule(rule: Rule) -> str:
    """A hash of the files of every class that a rule outside the package is made from; empty for one of ours."""
    made = {k for k in type(rule).__mro__ if k.__module__.partition(".")[0] not in ("descend", "builtins")}
    return _hashed("\n".join(sorted(map(_file_of, made)))) if made else ""


def source_of(function: object) -> str:
    """A hash of a function's source; what cannot be read never matches again."""
    try:
        return _hashed(inspect.getsource(function))[:8]  # type: ignore[arg-type]
    except (OSError, TypeError):
        return uuid.uuid4().hex[:8]


def _file_of(made: type) -> str:
    """The file that defines a class, or else its own source."""
    try:
        return Path(inspect.getfile(made)).read_text(encoding="utf-8")
    except (OSError, TypeError, ValueError):
        try:
            return inspect.getsource(made)
        except (OSError, TypeError):
            return uuid.uuid4().hex


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def versions() -> dict[str, str]:
    """The versions of what a comparison's figures depend on."""
    found = {"python": platform.python_version()}
    for package in ("descend", "numpy", "scipy", "scikit-learn", "torch", "jax"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
