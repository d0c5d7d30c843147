"""Checkpoints of an optimizer: what is saved, and what of a saved state is taken.

They are those of `torch.optim`: ``param_groups``, with the places of the parameters instead of the parameters
themselves, and ``state`` by those places.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from numbers import Number
from typing import Any

import torch

from descend.errors import StateError
from descend.optim.matching import Match
from descend.optim.regrouping import copied
from descend.optim.saved import Saved
from descend.optim.state import absent, fault, missing_for_good
from descend.rules import Rule

__all__ = ["adopt_names", "check_states", "loaded_state", "packed"]

Group = Mapping[str, Any]


# ---- saving -----------------------------------------------------------------------------------------------------


def packed(groups: Sequence[Group], state: Mapping[Any, Any], begins: Mapping[Any, Collection[str]]) -> dict[str, Any]:
    """Groups and state with numbers in place of the parameters, as `torch.optim` numbers them.

    The state of parameters that are in no group any more is left out: no number stands for them. Arrays that begin with
    the next step of a parameter (`begins`) are saved as None, which says so, to `torch.optim`, too.
    """
    numbers: dict[int, int] = {}
    saved_groups, start = [], 0
    for group in groups:
        for i, p in enumerate(group["params"], start):
            numbers.setdefault(id(p), i)
        start += len(group["params"])
        saved_groups.append({**group, "params": [numbers[id(p)] for p in group["params"]]})
    saved_state: dict[Any, Any] = {}
    for key, its in state.items():
        if not isinstance(key, torch.Tensor):
            saved_state[key] = its
        elif id(key) in numbers:
            later = begins.get(key, ())
            saved_state[numbers[id(key)]] = {**its, **dict.fromkeys(later)} if later else its
    return {"state": saved_state, "param_groups": saved_groups}


# ---- loading ----------------------------------------------------------------------------------------------------


def check_states(
    rules: Sequence[Rule], groups: Sequence[Group], found: Match, saved: Saved, names: Mapping[torch.Tensor, str]
) -> None:
    """Raise `StateError` unless every parameter's saved state is one that its group's rule can go on with.

    `rules` are those that the `groups` ask for once they are loaded.
    """
    shapes: list[str] = []
    for rule, group in zip(rules, groups, strict=True):
        tried: set[tuple[float, ...]] = set()
        for p in group["params"]:
            state = saved.state.get(found.ids.get(p))
            if state:
                _check_names(rule, state, names[p])
                for name in ("step", *rule.carried, *rule.state):
                    wrong = None if absent(state.get(name)) else fault(name, state[name], p, rule)
                    if wrong is not None and wrong.startswith("has shape"):
                        shapes.append(f"{name} of {names[p]} {wrong}")
                    elif wrong is not None:
                        raise StateError(f"the saved state's {name} of {names[p]!r} {wrong}")
                _try_next_step(rule, state, names[p], tried)
    if shapes:
        raise StateError(f"the saved state is of another model: {'; '.join(shapes)}")


def _check_names(rule: Rule, state: Mapping[str, Any], called: str) -> None:
    """Raise `StateError` unless a parameter's state has what the rule needs, and nothing else."""
    kind, known = type(rule).__name__, {"step", *rule.state, *rule.carried}
    # What a user keeps beside it is no matter, if it could not be what another rule keeps.
    foreign = sorted(str(k) for k in set(state) - known if isinstance(state[k], (torch.Tensor, Number)))
    if foreign:
        raise StateError(
            f"the saved state of {called!r} has {', '.join(foreign)}, which {kind} does not keep "
            f"(it keeps {', '.join(sorted(known))}): it was saved by another optimizer"
        )
    # What a setting decides about may be missing, and starts anew: it can have been saved with another setting.
    there = sorted(name for name in state if not absent(state[name]))
    may_begin = {*rule.state_if, *(name for name in rule.first_step if name in state)}
    needed = set(rule.state) - may_begin if there else set()
    lacking = sorted((needed | set(missing_for_good(state, rule))) - set(there))
    if lacking:
        raise StateError(
            f"the saved state of {called!r} has no {', '.join(lacking)}, which {kind} needs "
            f"(it has {', '.join(there)}): it was saved by another optimizer, or is not whole"
        )


def _try_next_step(rule: Rule, state: Mapping[str, Any], called: str, tried: set[tuple[float, ...]]) -> None:
    """Raise `StateError` if the next step's scalars are no numbers, and whatever a schedule raises; once a count."""
    before = {name: float(state[name]) for name in rule.carried if not absent(state.get(name))}
    if absent(state.get("step")) or len(before) < len(rule.carried):
        return
    counts = (float(state["step"]), *before.values())
    if counts not in tried:
        tried.add(counts)
        try:
            row, _ = rule.advance(int(counts[0]) + 1, before)
            sound = not any(math.isnan(number) for number in row)
        except ArithmeticError:
            sound = False
        if not sound:
            its = ", ".join(f"{k}={v:g}" for k, v in zip(("step", *before), counts, strict=True))
            raise StateError(f"the saved state of {called!r} has {its}, after which {rule!r} has no next step")


def adopt_names(groups: Sequence[dict[str, Any]], saved: Saved) -> None:
    """Let groups that were matched by place, and have no names, have the saved ones, as in `torch.optim`."""
    if saved.names is not None and not any("param_names" in group for group in groups):
        for group, its in zip(groups, saved.groups, strict=True):
            group["param_names"] = [*its["param_names"]]


def loaded_state(rule: type[Rule], found: Match, saved: Saved) -> defaultdict[Any, Any]:
    """Copies of the saved state by parameter, on the parameters' devices; and of what was kept beside it."""
    made: defaultdict[Any, Any] = defaultdict(dict)
    for p, i in found.ids.items():
        its = {name: value for name, value in saved.state.get(i, {}).items() if not absent(value)}
        if its:
            made[p] = {
                name: _on(p, value) if name in rule.state else copied(value, name) for name, value in its.items()
            }
    made.update({key: copied(value, f"the saved state's {key!r}") for key, value in saved.others.items()})
    return made


def _on(p: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """A copy of an array of state, on the parameter's device."""
    return value.detach().to(p.device, copy=True)
