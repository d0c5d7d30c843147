"""Optimizer classes, made from rules: one for each rule, with the constructor of its namesake in `torch.optim`."""

from __future__ import annotations

import copyreg
import inspect
from typing import Any

from descend.errors import RuleError
from descend.optim.optimizer import Optimizer
from descend.optim.signature import signature
from descend.rules import Rule

__all__ = ["from_rule"]

_MADE: dict[type[Rule], type[Optimizer]] = {}
"""The class of each rule: there is one, so that objects can be pickled."""


def from_rule(rule: type[Rule]) -> type[Optimizer]:
    """The optimizer class that runs `rule`: a subclass of `torch.optim.Optimizer`.

    >>> import descend, torch
    >>> from descend.rules import maths
    >>> class Signs(descend.Rule, register=False):
    ...     lr: float = 0.1
    ...     @staticmethod
    ...     def update(p, g, s):
    ...         return p - s.lr * maths.sign(g)
    >>> weight = torch.nn.Parameter(torch.ones(2))
    >>> optimizer = descend.optim.from_rule(Signs)([weight])
    >>> (weight ** 2).sum().backward()
    >>> optimizer.step()
    >>> weight.data
    tensor([0.9000, 0.9000])
    """
    if not (isinstance(rule, type) and issubclass(rule, Rule)) or rule.update is Rule.update:
        raise RuleError(f"from_rule({rule!r}): the class of a rule is needed, such as descend.Adam")
    if rule not in _MADE:
        _MADE[rule] = type(
            rule.__name__,
            (Optimizer,),
            {
                "rule": rule,
                "__doc__": f"{inspect.getdoc(rule)}\n\nArguments: see `descend.optim.Optimizer`.",
                "__module__": "descend.optim" if rule.__module__.startswith("descend.rules") else rule.__module__,
                "__signature__": signature(rule),
                "__reduce__": _reduce,
            },
        )
    return _MADE[rule]


def _reduce(optimizer: Optimizer) -> Any:
    """How an optimizer is pickled: a class that was made here stands in no module under its name."""
    kind = type(optimizer)
    if kind is _MADE.get(optimizer.rule):
        return _blank, (optimizer.rule,), optimizer.__getstate__()
    return copyreg.__newobj__, (kind,), optimizer.__getstate__()  # type: ignore[attr-defined]


def _blank(rule: type[Rule]) -> Optimizer:
    made = from_rule(rule)
    return made.__new__(made)
