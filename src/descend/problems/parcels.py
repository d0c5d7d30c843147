"""Parcels: a problem, and what is to be done with it, as bytes for a process where its files may not be importable."""

from __future__ import annotations

import sys
from typing import Any

from descend.errors import ProblemError, described
from descend.problems.problem import Problem
from descend.problems.registry import FILE_MODULE
from descend.rules.registry import unpickling

__all__ = ["pack", "unpack"]


def pack(problem: Problem, *others: Any) -> bytes:
    """A problem and other things as bytes; raises `ProblemError` for what cannot be sent."""
    import cloudpickle

    for name, module in list(sys.modules.items()):
        if name.startswith(FILE_MODULE):
            cloudpickle.register_pickle_by_value(module)
    try:
        parcel: bytes = cloudpickle.dumps((sys.path, cloudpickle.dumps((problem, *others))))
    except Exception as error:
        raise ProblemError(
            f"{problem.name} cannot be sent to worker processes ({described(error)}); use jobs=1"
        ) from error
    return parcel


def unpack(parcel: bytes) -> tuple[Any, ...]:
    """What a parcel holds; its modules are found where they were found by the sender."""
    import cloudpickle

    path, contents = cloudpickle.loads(parcel)
    sys.path.extend(p for p in path if p not in sys.path)
    with unpickling():
        held: tuple[Any, ...] = cloudpickle.loads(contents)
    return held
