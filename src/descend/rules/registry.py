"""The registry of rules: which class has which name."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from descend.errors import RuleError

if TYPE_CHECKING:
    from descend.rules.rule import Rule

__all__ = ["enter", "forgetting", "known_rules", "spelling", "unpickling"]

_REGISTRY: dict[str, type[Rule]] = {}
_UNPICKLING: contextvars.ContextVar[bool] = contextvars.ContextVar("unpickling", default=False)


@contextlib.contextmanager
def unpickling() -> Iterator[None]:
    """While rule classes arrive from another process: none of them takes a name that is taken."""
    token = _UNPICKLING.set(True)
    try:
        yield
    finally:
        _UNPICKLING.reset(token)


@contextlib.contextmanager
def forgetting() -> Iterator[None]:
    """Forget afterwards which rules were defined meanwhile, as tests ask for."""
    before = dict(_REGISTRY)
    try:
        yield
    finally:
        _REGISTRY.clear()
        _REGISTRY.update(before)


def spelling(name: str) -> str:
    """A rule's name as the registry spells it, from any spelling of case, ``-`` and ``_``."""
    return name.strip().lower().replace("-", "").replace("_", "")


def enter(cls: type[Rule]) -> None:
    """Give a rule its name in the registry; raises `RuleError` if another rule has it."""
    known = _REGISTRY.get(cls.name)
    # The same class defined again (a notebook cell run twice, a worker that unpickles it) replaces itself.
    if known is not None and _UNPICKLING.get():
        return  # it may have been made with register=False, which pickle does not repeat
    if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
        raise RuleError(
            f"a rule named {cls.name!r} exists already ({known.__module__}.{known.__qualname__}): "
            "rename the class, or pass register=False"
        )
    _REGISTRY[cls.name] = cls


def known_rules() -> Mapping[str, type[Rule]]:
    """Name → class of every rule known now. A class without a formula, a common base, is none."""
    return {name: rule for name, rule in _REGISTRY.items() if rule.has_formula()}
