"""A problem: where the parameters start, what is minimised, on which data, and how success is measured."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from descend.checks import is_finite
from descend.errors import DescendError, ProblemError, described
from descend.objectives.calls import as_loss
from descend.objectives.gradient_check import GradientCheck, check_at
from descend.objectives.objective import Jac, Objective
from descend.parameters.memory import Memory
from descend.parameters.rows import Rows
from descend.printable import one_line
from descend.problems.direction import direction_of, refuse_unknown_direction
from descend.problems.generators import START, seeded
from descend.problems.splits import ROLES, Split, parts_of

__all__ = ["Problem", "ProblemInstance", "setting"]


class Problem:
    """Something to minimise, with all that a fair comparison needs.

    Parameters
    ----------
    start
        ``start(rng)`` returns the parameters to begin with, in any container, drawn from a
        `numpy.random.Generator`. The global generators of NumPy, Python and PyTorch are seeded as well.
    loss
        ``loss(params, *batch)`` returns the mean loss over a batch: ``loss(params, X, y)`` if the data are
        ``(X, y)``, or ``loss(params)`` without data. It must not write to `params`.
    jac
        Where the gradient of `loss` comes from, as in `descend.minimize`.
    loss_and_grad
        ``loss_and_grad(params, *batch)`` returns both at once, for speed; `jac` is not needed then.
    data
        Arrays with one row an example, such as ``(X, y)``; split at random into train, validation and test by
        `split`, always in the same way. Or give the three yourself:
    train, validation, test
        Tuples of arrays; the last two are optional.
    split
        Shares of train, validation and test; they sum to 1.
    stratify
        Class labels in the last array of `data` keep their shares in each of the three. Default True.
    metric
        ``metric(params, *data)`` returns the figure that counts, such as accuracy; the loss itself by default.
    loss_and_metric
        ``loss_and_metric(params, *data)`` returns both at once, for speed: an evaluation then costs one pass over
        the data and not two. `loss` (or `loss_and_grad`) and `metric` are needed all the same, and must agree with it.
    metric_name, higher_is_better
        What to call it (by default as its function is called, or ``"metric"``), and its direction. Left out, the
        direction is that of an attribute ``higher_is_better`` of the metric, or what its name says (accuracy, error,
        AUC, F1, R², MAE, …); where neither tells, whatever has to know which figure is better refuses to begin.
    optimum
        The lowest possible loss (on the training data), if it is known.
    stacks
        The functions take parameters of many runs at once, for `descend.fit_many`: each leaf with a leading axis of R
        runs, data shared as one batch or with the same leading axis; `loss` and `loss_and_grad` then return R losses,
        and gradients shaped like the parameters. No run may depend on another.
    name, summary
        For tables and lists.

    Raises
    ------
    ProblemError
        Data of different lengths or with NaN or infinity in them, shares that do not sum to 1, missing functions.

    Examples
    --------
    >>> import numpy as np, descend
    >>> X = np.random.default_rng(0).normal(size=(100, 3)); y = X @ [1.0, -2.0, 3.0]
    >>> line = descend.Problem(
    ...     name="line",
    ...     start=lambda rng: np.zeros(3),
    ...     loss=lambda w, X, y: np.mean((X @ w - y) ** 2),
    ...     jac=lambda w, X, y: 2 * X.T @ (X @ w - y) / len(y),
    ...     data=(X, y),
    ... )
    >>> descend.fit(line, descend.GD(lr=0.1), epochs=100, batch_size="full").x.round(3)
    array([ 1., -2.,  3.])
    """

    def __init__(
        self,
        start: Callable[[np.random.Generator], Any],
        loss: Callable[..., Any] | None = None,
        jac: Jac = None,
        *,
        loss_and_grad: Callable[..., Any] | None = None,
        data: Sequence[Any] | None = None,
        train: Sequence[Any] | None = None,
        validation: Sequence[Any] | None = None,
        test: Sequence[Any] | None = None,
        split: Sequence[float] = (0.6, 0.2, 0.2),
        stratify: bool = True,
        metric: Callable[..., Any] | None = None,
        loss_and_metric: Callable[..., Any] | None = None,
        metric_name: str | None = None,
        higher_is_better: bool | None = None,
        optimum: float | None = None,
        stacks: bool = False,
        name: str = "problem",
        summary: str = "",
    ) -> None:
        given = {"loss": loss, "loss_and_grad": loss_and_grad, "metric": metric, "loss_and_metric": loss_and_metric}
        _check_functions(name, start, given)
        self.name = _text("name", name)
        self.summary = _text("summary", summary)
        self.stacks = _flag(name, "stacks", stacks)
        self.start = start
        self.loss = loss
        self.loss_and_grad = loss_and_grad
        self.jac = jac
        self.metric = metric
        self.loss_and_metric = loss_and_metric
        self.metric_name = _metric_name(name, metric_name, metric)
        self.higher_is_better = _direction(self, higher_is_better)
        self.optimum = _optimum(optimum, name)
        stratify = _flag(name, "stratify", stratify)
        self.train, self.validation, self.test = parts_of(name, data, (train, validation, test), split, stratify)

    @property
    def examples(self) -> dict[str, int]:
        """How many examples there are in ``train``, ``validation`` and ``test``; 0 where there are none."""
        return {
            role: 0 if part is None else int(part[0].shape[0])
            for role, part in zip(ROLES, (self.train, self.validation, self.test), strict=True)
        }

    @property
    def size(self) -> int | None:
        """How many training examples there are; None for a problem without data."""
        return self.examples["train"] or None

    @property
    def least_batch(self) -> int:
        """The smallest batch that the loss and its gradient can be taken over."""
        return 1

    def instance(self, seed: int) -> ProblemInstance:
        """The parameters and functions of one descent that starts from `seed`."""
        rng = np.random.default_rng(seed)
        try:
            with seeded(seed, START):
                params = self.start(rng)
        except DescendError:
            raise
        except (Exception, SystemExit) as error:
            raise ProblemError(
                f"{self.name}: start raised {described(error)} (seed {seed}); start(rng) must return the parameters"
            ) from error
        return ProblemInstance(self, params)

    def direction(self, needed_by: str) -> bool:
        """Whether a higher metric is better; raises `ProblemError`, which says who must know, if nothing tells."""
        if self.higher_is_better is None:
            raise refuse_unknown_direction(self.name, self.metric_name, needed_by)
        return self.higher_is_better

    def unstackable(self, batch: Split) -> str | None:
        """Why runs of this problem cannot be one program, as far as can be told without trying; None if they can."""
        if not self.stacks:
            return "the problem has no stacked gradient (stacks=True declares one)"
        if self.loss_and_grad is None and self.jac is not True and not callable(self.jac):
            return f"the problem has no stacked gradient: jac={self.jac!r} is for one run; give loss_and_grad, or jac"
        return None

    def stacked(self, instances: Sequence[ProblemInstance], memory: Rows, shared: bool) -> Objective:
        """Losses and gradients of many instances, whose parameters are the rows of `memory`.

        They are over one batch if it is `shared`, else over a batch for each.
        """
        return instances[0].objective(memory)

    def without_test(self) -> Problem:
        """The same problem without its test data, for whatever must not see them."""
        other = copy.copy(self)
        other.test = None
        return other

    def check_gradient(self, seed: int = 0, examples: int = 16) -> GradientCheck:
        """Compare the gradient with finite differences at the start of `seed`, on the first few examples."""
        instance = self.instance(seed)
        memory = Memory(instance.params, "params")
        batch = () if self.train is None else tuple(part[:examples] for part in self.train)
        return check_at(memory, instance.objective(memory), instance.value, batch)

    def __repr__(self) -> str:
        rows = "no data" if self.train is None else f"{self.size} training examples"
        return f"<Problem {self.name}: {rows}, metric {self.metric_name}>"


class ProblemInstance:
    """A problem from one seed: the initial parameters, and the functions bound to whatever else the run owns.

    A problem in NumPy owns nothing else. A torch problem overrides this to own a module with its buffers.
    """

    def __init__(self, problem: Problem, params: Any) -> None:
        self.problem = problem
        self.params = params
        self.may_skip = False
        """Whether the rule keeps no state, so that a parameter without gradient can be passed over in a step."""

    def objective(self, memory: Memory) -> Objective:
        """Loss and gradient over a batch at the memory's point, for the descent."""
        problem = self.problem
        if problem.loss_and_grad is not None:
            return Objective(problem.loss_and_grad, True, memory, live=True)
        assert problem.loss is not None
        return Objective(problem.loss, problem.jac, memory, live=True)

    def value(self, params: Any, *data: Any) -> float:
        """The loss over all of `data`."""
        problem = self.problem
        if problem.loss is None:
            assert problem.loss_and_grad is not None
            return as_loss(problem.loss_and_grad(params, *data)[0], "loss_and_grad")
        out = problem.loss(params, *data)
        return as_loss(out[0] if problem.jac is True else out, "loss")

    def measure(self, params: Any, *data: Any) -> tuple[float, float]:
        """The loss and the problem's metric over all of `data`."""
        if self.problem.loss_and_metric is not None:
            loss, metric = self.problem.loss_and_metric(params, *data)
            return as_loss(loss, "loss_and_metric"), as_loss(metric, "loss_and_metric")
        loss = self.value(params, *data)
        metric = self.problem.metric
        return loss, loss if metric is None else as_loss(metric(params, *data), "metric")

    def after_step(self, memory: Memory) -> None:
        """Called after each step, before anything else reads the memory that the step has moved."""

    def snapshot(self) -> Any:
        """A copy of what the run owns beside its parameters."""
        return None

    def restore(self, snapshot: Any) -> None:
        """Put a snapshot back."""


def setting(
    problem: str, name: str, value: Any, *, least: float, most: float = math.inf, whole: bool = False, try_: str
) -> float:
    """A setting of a built-in problem, checked; raises `ProblemError` that names it and what is allowed."""
    if is_finite(value) and least <= value <= most and (not whole or value == int(value)):
        return float(value)
    kind = "a whole number" if whole else "a number"
    allowed = f"≥ {least:g}, and finite" if math.isinf(most) else f"from {least:,g} to {most:,.0f}"
    raise ProblemError(f"{problem}: {name}={value!r} must be {kind} {allowed}; try {try_}")


def _check_functions(problem: str, start: Any, given: Mapping[str, Any]) -> None:
    """Refuse what is no function, and functions that do not suffice for a problem."""
    if not callable(start):
        raise ProblemError(f"{problem}: start={start!r} must be a function of a random generator")
    if given["loss"] is None and given["loss_and_grad"] is None:
        raise ProblemError(f"{problem}: give loss=, loss_and_grad=, or both")
    for role, function in given.items():
        if function is not None and not callable(function):
            raise ProblemError(f"{problem}: {role}={function!r} is not a function")
    if given["loss_and_metric"] is not None and given["metric"] is None:
        raise ProblemError(f"{problem}: loss_and_metric= is given but no metric; give metric= too")


def _text(role: str, value: Any) -> str:
    """A name or a summary, which tables, terminals and files show on a line."""
    if not isinstance(value, str) or (role == "name" and not value.strip()):
        raise ProblemError(f"Problem({role}={value!r}): a text is needed, such as 'my network'; or leave it out")
    return one_line(value)


def _flag(problem: str, name: str, value: Any) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise ProblemError(f"{problem}: {name}={value!r} must be True or False")
    return bool(value)


def _metric_name(problem: str, given: Any, metric: Any) -> str:
    """What the metric is called: as the user says, else as its function is called; without a metric it is the loss."""
    if given is not None and not (isinstance(given, str) and given.strip()):
        raise ProblemError(f"{problem}: metric_name={given!r} must be a text that is not empty; or leave it out")
    if metric is None:
        return "loss"
    own = getattr(metric, "__name__", None)
    return one_line(given or (own if isinstance(own, str) and own not in ("", "<lambda>") else "metric"))


def _direction(problem: Problem, given: bool | None) -> bool | None:
    """Whether a higher metric is better: as given, else as far as the metric tells; of the loss, lower is."""
    if given is not None:
        given = _flag(problem.name, "higher_is_better", given)
    if problem.metric is None:
        return False
    return direction_of(problem.metric, problem.metric_name) if given is None else given


def _optimum(value: Any, name: str) -> float | None:
    """The lowest loss as a float; raises `ProblemError`."""
    if value is None:
        return None
    if not is_finite(value):
        raise ProblemError(
            f"{name}: optimum={value!r} must be a finite number, the lowest possible loss; leave it out if not known"
        )
    return float(value)
