"""Whether a descent has converged: the criteria that were asked for, at the point at hand."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from descend.descent.point import largest_entry
from descend.stopping import Reason

if TYPE_CHECKING:
    from descend.descent.loop import Descent

__all__ = ["converged", "unseen"]


def converged(descent: Descent) -> Reason | None:
    """The first criterion that holds, if one does; what was seen of it is the descent's `detail`."""
    reason = _by_target(descent) or _by_gradient(descent)
    # The first step of a method, which does not know the scale, says nothing.
    if reason is not None or descent.steps == 0 or (descent.engine is None and descent.steps == 1):
        return reason
    return _by_value(descent) or _by_step(descent)


def _by_target(descent: Descent) -> Reason | None:
    target, loss, sign = descent.criteria.target, descent.point.loss, descent.health.sign
    if target is None or sign * loss > sign * target:
        return None
    descent.detail = f"The loss is {loss:.6g}, the target {target:g}."
    return Reason.TARGET


def _by_gradient(descent: Descent) -> Reason | None:
    gtol, point = descent.criteria.gtol, descent.point
    if gtol is None:
        return None
    # The largest entry is no less than |g| / √n, which is known already.
    if descent.bounds is None and descent.norm > 1.001 * gtol * math.sqrt(descent.memory.size):
        return None
    largest = largest_entry(point.projected_gradient(descent.health.sign))
    if not largest <= gtol or unseen(descent):
        return None
    entry = "Its largest entry" if descent.bounds is None else "Within the bounds, its largest entry"
    descent.detail = f"{entry} is {largest:.3g}, gtol {gtol:g}."
    return Reason.GRADIENT


def unseen(descent: Descent) -> int:
    """Of how many parameters the differences say nothing, as the loss has not changed within their steps."""
    errors = descent.gradient_error()
    return 0 if errors is None else int(np.count_nonzero(np.isinf(errors)))


def _by_value(descent: Descent) -> Reason | None:
    ftol, point = descent.criteria.ftol, descent.point
    if ftol is None:
        return None
    change = abs(point.loss - point.loss_before)
    if not change <= ftol * max(1.0, abs(point.loss)):
        return None
    descent.detail = f"The last change is {change:.3g}, ftol {ftol:g}."
    return Reason.VALUE


def _by_step(descent: Descent) -> Reason | None:
    xtol, now, before = descent.criteria.xtol, descent.memory.vectors, descent.point.before
    if xtol is None or before is None:
        return None
    moved = max(float(np.max(np.abs(a - b))) for a, b in zip(now, before, strict=True))
    if not moved <= xtol * max(1.0, largest_entry(now)):
        return None
    descent.detail = f"The last step moved no parameter by more than {moved:.3g}, xtol {xtol:g}."
    return Reason.STEP
