"""Which hyperparameters a group has after loading: those that were saved, or after a regrouping some of its own."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch

from descend.checks import shown
from descend.errors import StateError
from descend.optim.group_rules import OPTIONS
from descend.optim.group_schedules import has_schedule
from descend.rules.hyperparameters import plain

__all__ = ["NEVER_LOADED", "copied", "keeps", "loaded_groups"]

Group = Mapping[str, Any]
NEVER_LOADED = ("params", "param_names", *OPTIONS)
"""What of a saved group is not loaded: whose it is, and how a step is run."""
_MISSING = object()


def loaded_groups(
    groups: Sequence[Group],
    saved: Sequence[Group],
    sources: Sequence[Sequence[int]],
    stays: Callable[[Group, str], bool],
) -> tuple[list[dict[str, Any]], str]:
    """The groups with the hyperparameters that they have after loading; and where these come from, if that is unusual.

    Parameters
    ----------
    groups, saved
        The optimizer's groups, and the saved ones.
    sources
        For each group of the optimizer the saved groups that its parameters are from.
    stays
        Whether a hyperparameter of a group stays as it is, whatever was saved.

    A group whose parameters are all those of one saved group takes what was saved of it. Where parameters were grouped
    otherwise, a group takes only what nobody disagrees on: the saved groups that it is from are of one value, and so
    are the groups that share in them. It keeps the rest, since that may be what they were regrouped for.
    """
    made, reports = [], []
    for i, group in enumerate(groups):
        its = [saved[k] for k in sources[i]]
        rivals = [other for other, k in zip(groups, sources, strict=True) if set(k) & set(sources[i])]
        taken, said = {}, []
        for name in dict.fromkeys(name for source in its for name in source):
            if name in NEVER_LOADED or stays(group, name):
                continue
            base = base_of(name, group)
            agreed = len(its) == len(rivals) == 1 or (_agree(its, base) and _agree(its, name) and _agree(rivals, base))
            value = its[0].get(name, _MISSING)
            if agreed:
                taken[name] = copied(value, f"{name} of the saved group")
            if len(its) + len(rivals) > 2 and not _equal(value, group.get(name, _MISSING)):
                said.append(_report(name, group, its, agreed))
        made.append({**group, **taken})
        if said:
            reports.append(f"group {i} ({_called(group)}): {', '.join(said)}")
    return made, "; ".join(reports)


def base_of(name: str, group: Group) -> str:
    """The hyperparameter that a scheduler derived an entry of a group from, such as lr for initial_lr; else `name`."""
    if name.endswith("_momentum") and "betas" in group:  # what schedulers call the first of them
        return "betas"
    return next((known for known in group if known not in NEVER_LOADED and name.endswith(f"_{known}")), name)


def copied(value: Any, what: str) -> Any:
    """A copy of what was saved, tensors without their graph; raises `StateError` for what cannot be copied."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone().requires_grad_(value.requires_grad and value.is_leaf)
    if callable(value):
        raise StateError(f"{what} is {shown(value)}: a number is needed, as state_dict() saves for a schedule")
    try:
        return deepcopy(value)
    except Exception as error:  # whatever an object's own copying raises
        raise StateError(f"{what} is {shown(value)}, which cannot be copied: {error}") from None


def _agree(groups: Sequence[Group], name: str) -> bool:
    """Whether all these groups have the same hyperparameter of that name, or all have none."""
    first = groups[0].get(name, _MISSING)
    return all(_equal(first, group.get(name, _MISSING)) for group in groups[1:])


def _equal(one: Any, other: Any) -> bool:
    if one is other:
        return True
    try:
        return bool(plain(one) == plain(other))
    except Exception:  # not comparable, so not known to be equal
        return False


def _report(name: str, group: Group, its: Sequence[Group], agreed: bool) -> str:
    here = shown(group.get(name)) if name in group else "none"
    theirs = " and ".join(dict.fromkeys(shown(source.get(name)) if name in source else "none" for source in its))
    return f"{name}={theirs} as saved, was {here}" if agreed else f"{name}={here} as here, saved was {theirs}"


def _called(group: Group) -> str:
    """What a report calls a group: by its first names."""
    names = group.get("param_names", ())
    return ", ".join([*names[:3], *(["…"] if len(names) > 3 else [])])


def keeps(keep: Collection[str]) -> Callable[[Group, str], bool]:
    """What tells whether a hyperparameter of a group stays: as named in `keep`, or since it follows a schedule."""

    def stays(group: Group, name: str) -> bool:
        base = base_of(name, group)
        return name in keep or base in keep or has_schedule(group.get(base)) or has_schedule(group.get(name))

    return stays
