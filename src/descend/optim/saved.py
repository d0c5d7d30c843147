"""A saved state, read: its groups and the state of each parameter, checked before anything is made of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Hashable, Mapping
from typing import Any

from descend.checks import shown
from descend.errors import StateError

__all__ = ["Saved", "read"]

_REMEDY = "pass what state_dict() returned"


@dataclasses.dataclass(frozen=True)
class Saved:
    """What `state_dict` returned, in its parts."""

    groups: list[Mapping[str, Any]]
    state: dict[Hashable, Mapping[str, Any]]
    """The state of each parameter that has some, under what the groups call it."""
    others: dict[Any, Any]
    """What is kept beside the parameters' state."""

    @property
    def ids(self) -> list[Hashable]:
        """What parameters are called, group by group: their numbers, or texts in PyTorch's distributed checkpoints."""
        return [i for group in self.groups for i in group["params"]]

    @property
    def names(self) -> list[str] | None:
        """The names of the parameters in the same order, if all groups have them."""
        if not all("param_names" in group for group in self.groups):
            return None
        return [name for group in self.groups for name in group["param_names"]]


def read(saved: Any, known: Collection[str], *, strict: bool) -> Saved:
    """The parts of a saved state; raises `StateError` for what is none.

    `known` are the names that entries of a parameter's state may have. With `strict` no parameter's state may be there
    that no group lists.
    """
    if not isinstance(saved, Mapping) or not {"param_groups", "state"} <= set(saved):
        missing = [repr(k) for k in ("param_groups", "state") if not isinstance(saved, Mapping) or k not in saved]
        raise StateError(f"this is no optimizer's state_dict: it has no {', '.join(missing)}; {_REMEDY}")
    if not isinstance(saved["param_groups"], (list, tuple)):
        raise _refused("param_groups", saved["param_groups"], "a list of groups")
    if not isinstance(saved["state"], Mapping):
        raise _refused("state", saved["state"], "a dict of each parameter's state")
    groups = [_group(f"param_groups[{k}]", group) for k, group in enumerate(saved["param_groups"])]
    listed = {i for group in groups for i in group["params"]}
    state, others = {}, {}
    for i, its in saved["state"].items():
        if i not in listed:
            if not (isinstance(i, int) or (isinstance(its, Mapping) and set(its) & set(known))):
                others[i] = its
            elif strict:
                raise StateError(
                    f"the saved state has an entry of parameter {i!r}, which none of its groups lists; "
                    "pass strict=False to leave it out"
                )
        elif not isinstance(its, Mapping):
            raise _refused(f"state[{i!r}]", its, "a dict of one parameter's state")
        else:
            state[i] = its
    return Saved(groups, state, others)


def _group(where: str, group: Any) -> Mapping[str, Any]:
    """A saved group, if it is one."""
    if not isinstance(group, Mapping) or "params" not in group:
        raise _refused(where, group, "a dict with 'params'")
    ids = group["params"]
    if not isinstance(ids, (list, tuple)) or not all(isinstance(i, (int, str)) for i in ids):
        raise _refused(f"{where}['params']", ids, "a list of the parameters' numbers")
    names = group.get("param_names", [""] * len(ids))
    if not isinstance(names, (list, tuple)) or not all(isinstance(n, str) for n in names) or len(names) != len(ids):
        raise _refused(f"{where}['param_names']", names, f"a list of {len(ids)} names")
    return group


def _refused(where: str, value: Any, needed: str) -> StateError:
    return StateError(f"the saved state's {where} is {shown(value)}: {needed} is needed; {_REMEDY}")
