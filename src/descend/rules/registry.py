"""The registry of rules: which class has which name.

A name means the user's own rule where there is one, whatever rules descend ships: a script goes on to mean what it
meant under a later descend. Those that are shipped can be had beside it, as ``descend.NAME``.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from descend.errors import RuleError

if TYPE_CHECKING:
    from descend.rules.rule import Rule

__all__ = [
    "PACKAGE",
    "enter",
    "forgetting",
    "is_shadowed",
    "known_rules",
    "own_rules",
    "rule_named",
    "shipped_rules",
    "spelling",
    "unpickling",
]

PACKAGE = "descend"

_SHIPPED: dict[str, type[Rule]] = {}
_OWN: dict[str, type[Rule]] = {}
_UNPICKLING: contextvars.ContextVar[bool] = contextvars.ContextVar("unpickling", default=False)

logger = logging.getLogger(PACKAGE)


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
    before = [(kind, dict(kind)) for kind in (_SHIPPED, _OWN)]
    try:
        yield
    finally:
        for kind, rules in before:
            kind.clear()
            kind.update(rules)


def spelling(name: str) -> str:
    """A rule's name as the registry spells it, from any spelling of case, ``-`` and ``_``."""
    return name.strip().lower().replace("-", "").replace("_", "")


def enter(cls: type[Rule]) -> None:
    """Give a rule its name in the registry; raises `RuleError` if another rule of the user's has it."""
    if cls.__module__.partition(".")[0] == PACKAGE:
        _SHIPPED[cls.name] = cls
        return
    known = _OWN.get(cls.name)
    if (known is not None or cls.name in _SHIPPED) and _UNPICKLING.get():
        return  # it may have been made with register=False, which pickle does not repeat
    # The same class defined again (a notebook cell run twice, a worker that unpickles it) replaces itself.
    if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
        raise RuleError(
            f"a rule named {cls.name!r} exists already ({known.__module__}.{known.__qualname__}): "
            "rename the class, or pass register=False"
        )
    if known is None and cls.name in _SHIPPED:
        logger.warning(
            "the name %r means %s.%s from here on; the rule of that name that descend ships is %r",
            *(cls.name, cls.__module__, cls.__qualname__, f"{PACKAGE}.{cls.name}"),
        )
    _OWN[cls.name] = cls


def own_rules() -> Mapping[str, type[Rule]]:
    """Name → class of every rule of the user's. A class without a formula, a common base, is none."""
    return {name: rule for name, rule in _OWN.items() if rule.has_formula()}


def shipped_rules() -> Mapping[str, type[Rule]]:
    """Name → class of every rule that descend ships."""
    return {name: rule for name, rule in _SHIPPED.items() if rule.has_formula()}


def known_rules() -> Mapping[str, type[Rule]]:
    """Name → class of every rule known now: the user's, and those shipped whose name the user has not taken."""
    return {**shipped_rules(), **own_rules()}


def is_shadowed(cls: type[Rule]) -> bool:
    """Whether a rule is one that descend ships, under a name that means a rule of the user's."""
    return _SHIPPED.get(cls.name) is cls and cls.name in own_rules()


def rule_named(name: str) -> type[Rule] | None:
    """The rule that a name in any spelling means, or that is shipped, for ``descend.NAME``; None if there is none."""
    package, dot, shipped = name.strip().rpartition(".")
    if dot and package.lower() == PACKAGE:
        return shipped_rules().get(spelling(shipped))
    return known_rules().get(spelling(name))
