"""Checkpoints of an optimizer: what is saved, how it is matched with the parameters there are, and what of it is taken.

They are those of `torch.optim`: ``param_groups``, with the places of the parameters instead of the parameters
themselves, and ``state`` by those places.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch

from descend.errors import StateError
from descend.optim.group_rules import OPTIONS
from descend.optim.group_schedules import has_schedule
from descend.rules import Rule

__all__ = ["Match", "loaded_groups", "loaded_state", "match"]

Group = Mapping[str, Any]


# ---- loading ----------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Match:
    """What of a checkpoint belongs to what of an optimizer."""

    groups: list[Group]
    """A saved group for each of the optimizer's; an empty one where there is none."""
    states: dict[torch.Tensor, dict[str, Any]]
    """The saved state of each parameter that has some."""


def match(kind: str, rule: type[Rule], groups: Sequence[Group], saved: Mapping[str, Any], *, strict: bool) -> Match:
    """Find for each group and parameter what was saved of it: by names, if both sides have them, else by place.

    `kind` is what messages call the optimizer, `rule` what it runs. With `strict`, names on one side only are an error,
    else a warning. Raises `StateError` for whatever does not fit.
    """
    saved_groups, saved_state = _parts(saved)
    names = {
        p: group["param_names"][k] if "param_names" in group else f"parameter {k} of group {i}"
        for i, group in enumerate(groups)
        for k, p in enumerate(group["params"])
    }
    named = all("param_names" in group for group in (*groups, *saved_groups))
    found = _by_name(kind, names, saved_groups, strict) if named else _by_place(kind, groups, saved_groups)
    states = {p: saved_state[i] for p, i in found.items() if i in saved_state}
    _check_states(rule, states, names)
    if not named:
        return Match(saved_groups, states)
    # With names, a group takes its hyperparameters from the saved group of its first parameter.
    of = {i: group for group in saved_groups for i in group["params"]}
    firsts = [next((found[p] for p in group["params"] if p in found), None) for group in groups]
    return Match([{} if first is None else of[first] for first in firsts], states)


def _parts(saved: Mapping[str, Any]) -> tuple[list[Group], dict[Any, dict[str, Any]]]:
    """The groups and the state of a checkpoint."""
    try:
        groups, state = list(saved["param_groups"]), dict(saved["state"])
        for group in groups:
            len(group["params"])
    except (KeyError, TypeError) as error:
        raise StateError(
            f"this is no optimizer's state_dict: it has no {error}; pass what state_dict() returned"
        ) from None
    return groups, state


def _by_name(
    kind: str, names: Mapping[torch.Tensor, str], saved_groups: Sequence[Group], strict: bool
) -> dict[torch.Tensor, int]:
    """The saved place of each parameter whose name was saved."""
    place = {n: i for group in saved_groups for n, i in zip(group["param_names"], group["params"], strict=True)}
    missing = [n for n in names.values() if n not in place]
    extra = [n for n in place if n not in set(names.values())]
    if missing or extra:
        text = "; ".join(
            f"{what}: {', '.join(which)}"
            for what, which in (("not in the saved state", missing), ("only in the saved state", extra))
            if which
        )
        if strict:
            raise StateError(
                f"{kind}: the saved state is of other parameters ({text}); pass strict=False to load the rest"
            )
        warnings.warn(f"{kind}: not all of the saved state was loaded ({text})", stacklevel=5)
    return {p: place[n] for p, n in names.items() if n in place}


def _by_place(kind: str, groups: Sequence[Group], saved_groups: Sequence[Group]) -> dict[torch.Tensor, int]:
    """The saved place of each parameter, where groups and parameters stand in the same order."""
    if len(groups) != len(saved_groups):
        raise StateError(f"{kind} has {len(groups)} parameter groups, the saved state {len(saved_groups)}")
    sizes, saved_sizes = ([len(group["params"]) for group in side] for side in (groups, saved_groups))
    if sizes != saved_sizes:
        raise StateError(f"{kind} has groups of {sizes} parameters, the saved state groups of {saved_sizes}")
    return {
        p: i
        for group, saved in zip(groups, saved_groups, strict=True)
        for p, i in zip(group["params"], saved["params"], strict=True)
    }


def _check_states(
    rule: type[Rule], states: Mapping[torch.Tensor, dict[str, Any]], names: Mapping[torch.Tensor, str]
) -> None:
    """Raise `StateError` unless every state is one of this rule's, for a parameter of that shape."""
    known = {"step", *rule.state, *rule.carried}
    wrong = []
    for p, state in states.items():
        foreign = sorted(set(state) - known)
        if foreign:
            raise StateError(
                f"the saved state of {names[p]!r} has {', '.join(foreign)}, which {rule.__name__} does not keep "
                f"(it keeps {', '.join(sorted(known))}): it was saved by another optimizer"
            )
        # What a setting decides about may be missing, and starts anew: it can have been saved with another setting.
        lacking = sorted(set(rule.state) - set(rule.state_if) - set(state)) if state else []
        if lacking:
            raise StateError(
                f"the saved state of {names[p]!r} has no {', '.join(lacking)}, which {rule.__name__} needs "
                f"(it has {', '.join(sorted(state))}): it was saved by another optimizer"
            )
        for name in rule.state:
            value = state.get(name)
            if isinstance(value, torch.Tensor) and value.shape != p.shape:
                wrong.append(f"{name} of {names[p]} has shape {tuple(value.shape)}, the parameter {tuple(p.shape)}")
    if wrong:
        raise StateError(f"the saved state is of another model: {'; '.join(wrong)}")


def loaded_groups(groups: Sequence[Group], saved: Sequence[Group], keep: Collection[str]) -> list[dict[str, Any]]:
    """The groups with the hyperparameters that were saved for each; those named in `keep` stay as they are.

    So do schedules, and how a step is run.
    """
    made = []
    for group, its in zip(groups, saved, strict=True):
        stays = {*keep, *OPTIONS, "params", "param_names", *(k for k, v in group.items() if has_schedule(v))}
        made.append({**group, **{k: deepcopy(v) for k, v in its.items() if k not in stays}})
    return made


def loaded_state(rule: type[Rule], found: Match, saved: Mapping[str, Any]) -> defaultdict[Any, Any]:
    """Copies of the saved state by parameter, on the parameters' devices; and of what is saved beside it, as it is."""
    made: defaultdict[Any, Any] = defaultdict(dict)
    for p, state in found.states.items():
        made[p] = {name: _copied(value, p.device if name in rule.state else None) for name, value in state.items()}
    made.update({k: v for k, v in saved["state"].items() if not isinstance(k, int)})
    return made


def _copied(value: Any, device: torch.device | None) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().clone() if device is None else value.detach().to(device, copy=True)
    return deepcopy(value)
