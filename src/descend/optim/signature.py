"""The constructor of an optimizer class: which arguments it takes, where they stand, and their defaults."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Mapping
from typing import Any

import torch

from descend.optim.group_rules import OPTIONS
from descend.rules import Rule

__all__ = ["signature", "standing"]

_TORCHS = {name: kind for name, kind in vars(torch.optim).items() if isinstance(kind, type)}
"""The classes of `torch.optim`, noted early: users may put ours in their place there later."""


def signature(rule: type[Rule]) -> inspect.Signature:
    """The constructor's signature: as the class of that name in `torch.optim`, if any, then what only we have."""
    P = inspect.Parameter
    fields = {field.name: field for field in dataclasses.fields(rule)}
    defaults = {name: field.default for name, field in fields.items()} | dict.fromkeys(OPTIONS)
    defaults |= {"state_dtype": None, "capturable": False, "differentiable": False}
    twin = _twin(rule)
    theirs = inspect.signature(twin).parameters if twin is not None else {}
    order = [n for n, p in theirs.items() if p.kind is not P.KEYWORD_ONLY and n in defaults]
    if not order:
        order = [name for name, field in fields.items() if not field.kw_only]
    parameters = [P("params", P.POSITIONAL_OR_KEYWORD)]
    parameters += [P(n, P.POSITIONAL_OR_KEYWORD, default=defaults[n]) for n in order]
    parameters += [P(n, P.KEYWORD_ONLY, default=default) for n, default in defaults.items() if n not in order]
    return inspect.Signature(parameters)


def standing(rule: type[Rule], options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of an optimizer's options that stand in its groups, as in the class of that name in `torch.optim`, if any.

    What only we have stands there if it is not at its default. PyTorch's distributed checkpoints would look for it in
    what the other class saved, otherwise, and find nothing.
    """
    keys = _twin_keys(rule)  # type: ignore[arg-type]  # classes can be hashed
    defaults = {name: p.default for name, p in signature(rule).parameters.items()}
    return {k: v for k, v in options.items() if keys is None or k in keys or v is not defaults[k]}


@functools.cache
def _twin_keys(rule: type[Rule]) -> frozenset[str] | None:
    """What stands in the groups of the class of that name in `torch.optim`; None if there is no such class."""
    twin = _twin(rule)
    return None if twin is None else frozenset(twin([torch.zeros(1)]).defaults)


def _twin(rule: type[Rule]) -> type[torch.optim.Optimizer] | None:
    """The class of that name in `torch.optim`; None if there is none, or the rule is a user's."""
    builtin = rule.__module__.startswith("descend.rules")
    return _TORCHS.get(rule.__name__) if builtin else None
