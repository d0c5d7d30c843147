"""Names of parameters: which is whose however lists are edited, and which are the same behind the words of wrappers."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from typing import Any

import torch
from torch.utils.weak import WeakIdKeyDictionary

__all__ = ["Names", "paired"]

_HIDDEN = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"})
"""What wrappers put into the names of the modules within: those of `torch.compile`, FSDP, checkpoints, Lightning."""
_WRAPPERS = _HIDDEN | {"module"}
"""The same, with the word of DataParallel and its kin, which a model's own module may be called, too."""


class Names:
    """Remembers the name of each parameter of an optimizer, so that names follow when lists of parameters are edited.

    `torch.optim` keeps the names of a group in a list of their own, ``param_names``, which no edit of ``params``
    changes. `of` gives the names as they belong to the parameters that are in the group now.
    """

    def __init__(self) -> None:
        self._known: MutableMapping[torch.Tensor, str] = WeakIdKeyDictionary()
        self._given: set[str] = set()
        """All names that parameters have or had."""

    def record(self, groups: Iterable[Mapping[str, Any]]) -> None:
        """Take the names of groups whose two lists are known to agree."""
        for group in groups:
            for p, name in zip(group["params"], group.get("param_names", ()), strict=False):
                self._known[p] = name
                self._given.add(name)

    def follow(self, groups: Sequence[dict[str, Any]]) -> None:
        """Make the list of names of each named group agree with its list of parameters.

        A parameter keeps its name, unless the list has one at its place that no parameter ever had. One that is new
        takes what the list says at its place, if that is no other's name; else it is called ``unnamed_0``, ….
        """
        if not any("param_names" in group for group in groups):
            return
        taken = {self._known[p] for group in groups for p in group["params"] if p in self._known}
        spare = (name for k in itertools.count() if (name := f"unnamed_{k}") not in self._given)
        for group in groups:
            if "param_names" in group:
                params, listed = group["params"], group["param_names"]
                there = listed if len(listed) == len(params) else [None] * len(params)
                names = [self._name(p, name, taken) or next(spare) for p, name in zip(params, there, strict=True)]
                if names != listed:
                    group["param_names"] = names
                self.record([group])

    def _name(self, p: torch.Tensor, listed: str | None, taken: set[str]) -> str | None:
        """What a parameter is called, if the list of names has `listed` at its place; None if nobody says."""
        if p not in self._known:
            return None if listed in taken else listed
        return self._known[p] if listed is None or listed in self._given else listed

    def of(self, groups: Sequence[dict[str, Any]]) -> dict[torch.Tensor, str]:
        """What to call each parameter of these groups: its name, or its place."""
        self.follow(groups)
        return {
            p: group["param_names"][k] if "param_names" in group else f"parameter {k} of group {i}"
            for i, group in enumerate(groups)
            for k, p in enumerate(group["params"])
        }

    def called(self, groups: Sequence[dict[str, Any]], p: torch.Tensor) -> str:
        """What a message calls a parameter of these groups: its name in quotes, or its place."""
        name = self.of(groups).get(p, "a parameter")
        return repr(name) if p in self._known else name


# ---- the same name on both sides --------------------------------------------------------------------------------


def paired(ours: Sequence[str], theirs: Sequence[str]) -> dict[int, int]:
    """For places in `ours` the place in `theirs` of the same name; a name that stands twice on a side has no pair.

    If not all names are the same, they may be behind wrappers' words. Those are taken away from all names of a side
    alike, first where every name begins with one, then anywhere: as soon as all names have pairs, or else in the way
    that finds most.

    >>> paired(["bias", "weight"], ["_orig_mod.weight", "_orig_mod.bias"])
    {0: 1, 1: 0}
    """
    best: dict[int, int] = {}
    for plain in _WAYS:
        places, others = _places(plain(ours)), _places(plain(theirs))
        found = {i: others[name] for name, i in places.items() if name in others}
        if len(found) > len(best):
            best = found
        if len(best) == len(ours) == len(theirs):
            break
    return dict(sorted(best.items()))


def _places(names: Sequence[str]) -> dict[str, int]:
    """The place of each name that stands there once."""
    count = Counter(names)
    return {name: i for i, name in enumerate(names) if count[name] == 1}


def _as_they_are(names: Sequence[str]) -> Sequence[str]:
    return names


def _unwrapped(names: Sequence[str]) -> Sequence[str]:
    """The names without the words of wrappers around the whole model, with which all of them begin."""
    split = [name.split(".") for name in names]
    while split and all(len(parts) > 1 for parts in split):
        first = split[0][0]
        if first not in _WRAPPERS or any(parts[0] != first for parts in split):
            break
        split = [parts[1:] for parts in split]
    return [".".join(parts) for parts in split]


def _without(words: frozenset[str]) -> Callable[[Sequence[str]], Sequence[str]]:
    """What takes these words out of names, wherever they stand before the last dot."""

    def plain(names: Sequence[str]) -> Sequence[str]:
        split = [name.split(".") for name in names]
        return _unwrapped([".".join([*(w for w in parts[:-1] if w not in words), parts[-1]]) for parts in split])

    return plain


_WAYS = (_as_they_are, _unwrapped, _without(_HIDDEN), _without(_WRAPPERS))
