"""What of a saved state belongs to which parameter and group: by names where both sides have them, else by place."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Hashable, Mapping, Sequence
from itertools import chain
from typing import Any

import torch

from descend.errors import StateError
from descend.optim.names import paired
from descend.optim.saved import Saved

__all__ = ["Match", "match"]

Group = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Match:
    """What of a saved state belongs to what of an optimizer."""

    ids: dict[torch.Tensor, Hashable]
    """What the saved state calls each parameter that it knows."""
    sources: list[list[int]]
    """For each group of the optimizer the saved groups that its parameters are from."""


def match(
    kind: str, groups: Sequence[Group], names: Mapping[torch.Tensor, str], saved: Saved, *, strict: bool
) -> Match:
    """Find what was saved of each parameter.

    `kind` is what messages call the optimizer, `names` what they call its parameters. With `strict`, names on one side
    only are an error, else a warning. Raises `StateError` where neither names nor places tell what belongs together.
    """
    named = all("param_names" in group for group in groups)
    texts = all(isinstance(i, str) for i in saved.ids)
    if named and texts and saved.ids:  # as PyTorch's distributed checkpoints have it: then the lists of names are stale
        pairs = paired([names[p] for p in _params(groups)], [str(i) for i in saved.ids])
        by_name = len(pairs) == len(saved.ids) == len(names)
        ids = _ids(groups, saved, pairs) if by_name else _by_place(kind, groups, saved)
    elif named and saved.names is not None:
        ids = _by_name(kind, groups, names, saved, saved.names, strict)
    else:
        ids = _by_place(kind, groups, saved)
    _check_unambiguous(kind, ids, names)
    of = {i: k for k, group in enumerate(saved.groups) for i in group["params"]}
    sources = [[*dict.fromkeys(of[ids[p]] for p in group["params"] if p in ids)] for group in groups]
    if not any(chain.from_iterable(sources)) and len(groups) == len(saved.groups):
        sources = [[k] for k in range(len(groups))]  # groups without parameters
    return Match(ids, sources)


def _params(groups: Sequence[Group]) -> list[torch.Tensor]:
    return [p for group in groups for p in group["params"]]


def _ids(groups: Sequence[Group], saved: Saved, pairs: Mapping[int, int]) -> dict[torch.Tensor, Hashable]:
    params = _params(groups)
    return {params[i]: saved.ids[k] for i, k in pairs.items()}


def _by_name(
    kind: str,
    groups: Sequence[Group],
    names: Mapping[torch.Tensor, str],
    saved: Saved,
    theirs: Sequence[str],
    strict: bool,
) -> dict[torch.Tensor, Hashable]:
    """What was saved under each parameter's name."""
    ours = [names[p] for p in _params(groups)]
    if ours == list(theirs) and _sizes(groups) == _sizes(saved.groups):  # also where a name stands for several
        return _by_place(kind, groups, saved)
    pairs = paired(ours, theirs)
    twice = sorted({name for side in (ours, theirs) for name in side if side.count(name) > 1})
    missing = [name for i, name in enumerate(ours) if i not in pairs and name not in twice]
    extra = [name for i, name in enumerate(theirs) if i not in pairs.values() and name not in twice]
    sides = (
        ("not in the saved state", missing),
        ("only in the saved state", extra),
        ("names of several parameters", twice),
    )
    text = "; ".join(f"{what}: {', '.join(which)}" for what, which in sides if which)
    if text and strict:
        raise StateError(f"{kind}: the saved state is of other parameters ({text}); pass strict=False to load the rest")
    if text:
        warnings.warn(f"{kind}: not all of the saved state was loaded ({text})", stacklevel=4)
    return _ids(groups, saved, pairs)


def _by_place(kind: str, groups: Sequence[Group], saved: Saved) -> dict[torch.Tensor, Hashable]:
    """What was saved at each parameter's place, where groups and parameters stand in the same order."""
    if len(groups) != len(saved.groups):
        raise StateError(f"{kind} has {len(groups)} parameter groups, the saved state {len(saved.groups)}")
    sizes, saved_sizes = _sizes(groups), _sizes(saved.groups)
    if sizes != saved_sizes:
        raise StateError(f"{kind} has groups of {sizes} parameters, the saved state groups of {saved_sizes}")
    return dict(zip(_params(groups), saved.ids, strict=True))


def _sizes(groups: Sequence[Group]) -> list[int]:
    return [len(group["params"]) for group in groups]


def _check_unambiguous(kind: str, ids: Mapping[torch.Tensor, Hashable], names: Mapping[torch.Tensor, str]) -> None:
    """Refuse to give one parameter's state to several."""
    first: dict[Hashable, torch.Tensor] = {}
    for p, i in ids.items():
        if first.setdefault(i, p) is not p:
            raise StateError(
                f"{kind}: the saved groups list parameter {i!r} twice, for {names[first[i]]!r} and for {names[p]!r}: "
                "each needs a number of its own"
            )
