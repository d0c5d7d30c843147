"""What it takes to go on with a descent exactly where it stopped: its state as arrays by name, and the way back."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from descend.errors import StateError

if TYPE_CHECKING:
    from descend.descent.loop import Descent
    from descend.parameters.memory import Array

__all__ = ["DescentState", "restore"]

LOG = logging.getLogger("descend")

OF_POINT = ("format", "method", "steps", "lower", "upper", "held", "nfev", "njev", "nhev")
"""What belongs to a state that is of a point alone."""

METHOD, ENDING = "run.", "ending."
"""How the names begin of what a method's run has kept, and of what decides that it has ended."""


class DescentState:
    """The state of a descent that has ended: called, it gives arrays by name.

    ``numpy.savez`` keeps them, and ``numpy.load`` reads them without pickle. The arrays are the descent's own, which
    nobody writes to any more; copies are made when it is called.
    """

    def __init__(self, descent: Descent, more: Mapping[str, Any]) -> None:
        point = descent.point
        held: dict[str, Any] = {
            "format": 2,
            "method": repr(descent.rule),
            "steps": descent.steps,
            "loss": point.loss,
            "loss_before": point.loss_before,
            "first": descent.health.first,
            "reach": descent.health.reach,
            "known": point.evaluated,
            "told": point.reported,
            "best_loss": point.best_loss,
        }
        lists = {
            "x": descent.memory.vectors,
            "grad": point.grad,
            "best": point.best or [],
            "best_grad": point.best_grad or [],
            "before": point.before or [],
        }
        if descent.bounds is not None:
            lists |= {"lower": _thin(descent.bounds.lower), "upper": _thin(descent.bounds.upper)}
        if descent.memory.held is not None:
            held["held"] = descent.memory.held
        held |= {f"{name}.{i}": v for name, vectors in lists.items() for i, v in enumerate(vectors)}
        if descent.method_run is not None:
            held |= {f"{METHOD}{name}": value for name, value in descent.method_run.state().items()}
            held |= {f"{ENDING}{name}": value for name, value in descent.ending.state().items()}
        elif descent.engine is not None:
            held |= {f"carried.{name}": value for name, value in descent.engine.carried.items()}
            held |= {f"{name}.{i}": v for i, kept in enumerate(descent.engine.state) for name, v in kept.items()}
        self.held = held | dict(more) | descent.counted
        if point.best_loss == point.loss and all(map(np.array_equal, lists["best"], lists["x"])):
            # Mostly the best point is the last one: it is held once.
            self.held |= {f"best.{i}": v for i, v in enumerate(lists["x"][: len(lists["best"])])}

    @property
    def nbytes(self) -> int:
        """The memory that its arrays take."""
        return sum(value.nbytes for value in self.held.values() if isinstance(value, np.ndarray))

    def __call__(self) -> dict[str, Array]:
        return {name: np.array(value) for name, value in self.held.items()}

    def of_point(self, x: Any, vectors: list[Array]) -> DescentState:
        """The state of one who stands at a point and has still to look at it: a method or rule begins anew there.

        `vectors` are the memory's for that point, and `x` is the point as people have it, with which memory is shared
        where it is one array: who writes there goes on from what was written.
        """
        if isinstance(x, np.ndarray) and [x.size] == [v.size for v in vectors] and x.dtype == vectors[0].dtype:
            vectors = [x.reshape(-1)]
        kept = {name: self.held[name] for name in self.held if name.partition(".")[0] in OF_POINT}
        kept |= {f"x.{i}": vector for i, vector in enumerate(vectors)}
        found = copy.copy(self)
        found.held = kept
        return found


def restore(descent: Descent, state: Mapping[str, Any]) -> None:
    """Go on where `state` was taken; raises `StateError` where it was taken of something else."""
    try:
        _check(descent, state)
        _restore_point(descent, state)
        run = {name.removeprefix(METHOD): state[name] for name in state if name.startswith(METHOD)}
        if run:
            descent.begin_method().restore(run)
            ending = {name.removeprefix(ENDING): state[name] for name in state if name.startswith(ENDING)}
            descent.ending.restore(ending)
        if descent.engine is not None and _is_whole(state):
            _restore_engine(descent, state)
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise StateError(
            f"state= does not fit {type(descent.rule).__name__} and {descent.memory.size} parameters "
            f"({type(error).__name__}: {error}): give that of a descent with the same method and container"
        ) from error


def _thin(vectors: list[Array]) -> list[Array]:
    """The same vectors, of which one that repeats a single number takes the memory of one."""
    return [np.broadcast_to(v[:1].copy(), v.shape) if np.all(v == v[0]) else v for v in vectors]


def _is_whole(state: Mapping[str, Any]) -> bool:
    """Whether it has more than a point and counts."""
    return "loss" in state


def _check(descent: Descent, state: Mapping[str, Any]) -> None:
    """Raise `ValueError` where the state is that of another method or of other bounds."""
    if str(state["method"]) != repr(descent.rule):
        raise ValueError(f"it was taken of {state['method']}, this is {descent.rule!r}")
    bounds = [] if descent.bounds is None else [*descent.bounds.lower, *descent.bounds.upper]
    names = [f"{end}.{i}" for end in ("lower", "upper") for i in range(len(bounds) // 2)]
    if ("lower.0" in state) != bool(bounds) or any(
        not np.array_equal(state[name], end) for name, end in zip(names, bounds, strict=True)
    ):
        raise ValueError("its bounds were others")
    held = descent.memory.held
    if ("held" in state) != (held is not None) or (
        held is not None and not np.array_equal(held, state["held"], equal_nan=True)
    ):
        raise ValueError("other parameters were fixed, or at other values")


def _restore_point(descent: Descent, state: Mapping[str, Any]) -> None:
    point, memory = descent.point, descent.memory
    descent.steps = int(state["steps"])
    _copy(state, "x", memory.vectors)
    if not _is_whole(state):
        LOG.warning(
            "state= is of a point alone: %r begins anew there; a descent with keep_state=True keeps all", descent.rule
        )
        return
    point.loss, point.loss_before = float(state["loss"]), float(state["loss_before"])
    point.evaluated, point.reported = bool(state["known"]), bool(state["told"])
    point.best_loss = float(state["best_loss"])
    descent.health.begin(float(state["first"]), float(state["reach"]))
    _copy(state, "grad", point.grad)
    if "best.0" in state:
        point.best, point.best_grad = memory.snapshot(), [g.copy() for g in point.grad]
        _copy(state, "best", point.best)
        _copy(state, "best_grad", point.best_grad)
    point.before = None
    if "before.0" in state:
        point.before = memory.snapshot()
        _copy(state, "before", point.before)


def _restore_engine(descent: Descent, state: Mapping[str, Any]) -> None:
    engine = descent.engine
    engine.steps = descent.steps
    engine.carried = {name: float(state[f"carried.{name}"]) for name in engine.carried}
    for i, kept in enumerate(engine.state):
        for name, held in kept.items():
            held[...] = state[f"{name}.{i}"]


def _copy(state: Mapping[str, Any], name: str, vectors: list[Array]) -> None:
    """Write the arrays of that name into vectors."""
    for i, vector in enumerate(vectors):
        if np.shape(state[f"{name}.{i}"]) != vector.shape:
            raise ValueError(f"{name}.{i} has shape {np.shape(state[f'{name}.{i}'])}, {vector.shape} is needed")
        vector[...] = state[f"{name}.{i}"]
