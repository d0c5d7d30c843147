"""The constructor of an optimizer class: which arguments it takes, where they stand, and their defaults."""

from __future__ import annotations

import dataclasses
import inspect

import torch

from descend.optim.group_rules import OPTIONS
from descend.rules import Rule

__all__ = ["signature"]


def signature(rule: type[Rule]) -> inspect.Signature:
    """The constructor's signature: as the class of that name in `torch.optim`, if any, then what only we have."""
    P = inspect.Parameter
    fields = {field.name: field for field in dataclasses.fields(rule)}
    defaults = {name: field.default for name, field in fields.items()} | dict.fromkeys(OPTIONS)
    defaults |= {"state_dtype": None, "capturable": False, "differentiable": False}
    twin = getattr(torch.optim, rule.__name__, None)
    builtin = rule.__module__.startswith("descend.rules")
    theirs = inspect.signature(twin).parameters if builtin and twin is not None else {}
    order = [n for n, p in theirs.items() if p.kind is not P.KEYWORD_ONLY and n in defaults]
    if not order:
        order = [name for name, field in fields.items() if not field.kw_only]
    parameters = [P("params", P.POSITIONAL_OR_KEYWORD)]
    parameters += [P(n, P.POSITIONAL_OR_KEYWORD, default=defaults[n]) for n in order]
    parameters += [P(n, P.KEYWORD_ONLY, default=default) for n, default in defaults.items() if n not in order]
    return inspect.Signature(parameters)
