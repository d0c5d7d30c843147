"""What it takes to go on with a descent exactly where it stopped: its state as arrays by name, and the way back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from descend.errors import StateError

if TYPE_CHECKING:
    from descend.descent.loop import Descent
    from descend.parameters.memory import Array

__all__ = ["restore", "state_of"]

METHOD, ENDING = "run.", "ending."
"""How the names begin of what a method's run has kept, and of what decides that it has ended."""


def state_of(descent: Descent) -> dict[str, Array]:
    """The state of a descent: arrays by name, which ``numpy.savez`` keeps and ``numpy.load`` reads without pickle."""
    point = descent.point
    found: dict[str, Any] = {
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
        lists |= {"lower": descent.bounds.lower, "upper": descent.bounds.upper}
    if descent.memory.held is not None:
        found["held"] = descent.memory.held
    found |= {f"{name}.{i}": v for name, vectors in lists.items() for i, v in enumerate(vectors)}
    if descent.method_run is not None:
        found |= {f"{METHOD}{name}": value for name, value in descent.method_run.state().items()}
        found |= {f"{ENDING}{name}": value for name, value in descent.ending.state().items()}
    elif descent.engine is not None:
        found |= {f"carried.{name}": value for name, value in descent.engine.carried.items()}
        found |= {f"{name}.{i}": v for i, kept in enumerate(descent.engine.state) for name, v in kept.items()}
    return {name: np.array(value) for name, value in found.items()}


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
        if descent.engine is not None:
            _restore_engine(descent, state)
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise StateError(
            f"state= does not fit {type(descent.rule).__name__} and {descent.memory.size} parameters "
            f"({type(error).__name__}: {error}): give that of a descent with the same method and container"
        ) from error


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
    point.loss, point.loss_before = float(state["loss"]), float(state["loss_before"])
    point.evaluated, point.reported = bool(state["known"]), bool(state["told"])
    point.best_loss = float(state["best_loss"])
    descent.health.begin(float(state["first"]), float(state["reach"]))
    _copy(state, "x", memory.vectors)
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
