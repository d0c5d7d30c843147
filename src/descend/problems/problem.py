"""A problem: where the parameters start, what is minimised, on which data, and how success is measured."""

from __future__ import annotations

import contextlib
import copy
import math
import numbers
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from descend.errors import DescendError, ProblemError
from descend.objectives.calls import as_loss
from descend.objectives.gradient_check import GradientCheck, check_at
from descend.objectives.objective import Jac, Objective
from descend.parameters.memory import Memory
from descend.parameters.rows import Rows

__all__ = ["Problem", "Split", "Start"]

Split = tuple[Any, ...]
"""Arrays with the same number of rows, such as (X, y)."""

SPLITS = ("train", "validation", "test")

MISSING_ROWS = ("bsr", "coo", "dia")
"""SciPy's sparse formats in which ``array[rows]`` fails or is slow."""


class Problem:
    """Something to minimise, with all that a fair comparison needs.

    Parameters
    ----------
    start
        ``start(rng)`` returns the parameters to begin with, in any container, drawn from a
        `numpy.random.Generator`.
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
    metric
        ``metric(params, *data)`` returns the figure that counts, such as accuracy; the loss itself by default.
    loss_and_metric
        ``loss_and_metric(params, *data)`` returns both at once, for speed: a look at the data then costs one pass and
        not two. `loss` (or `loss_and_grad`) and `metric` are needed all the same, and must agree with it.
    metric_name, higher_is_better
        What to call it (by default as its function is called, or ``"metric"``), and its direction.
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
        metric: Callable[..., Any] | None = None,
        loss_and_metric: Callable[..., Any] | None = None,
        metric_name: str | None = None,
        higher_is_better: bool = False,
        optimum: float | None = None,
        stacks: bool = False,
        name: str = "problem",
        summary: str = "",
    ) -> None:
        if not callable(start):
            raise ProblemError(f"{name}: start={start!r} must be a function of a random generator")
        if loss is None and loss_and_grad is None:
            raise ProblemError(f"{name}: give loss=, loss_and_grad=, or both")
        given = {"loss": loss, "loss_and_grad": loss_and_grad, "metric": metric, "loss_and_metric": loss_and_metric}
        for role, function in given.items():
            if function is not None and not callable(function):
                raise ProblemError(f"{name}: {role}={function!r} is not a function")
        if loss_and_metric is not None and metric is None:
            raise ProblemError(f"{name}: loss_and_metric= is given but no metric; give metric= too")
        if data is not None and any(part is not None for part in (train, validation, test)):
            raise ProblemError(f"{name}: give data= to be split, or train=, validation= and test=; not both")
        if train is None and (validation is not None or test is not None):
            raise ProblemError(f"{name}: there is validation or test data but no train data; give train= too")
        if metric_name is not None and not (isinstance(metric_name, str) and metric_name.strip()):
            raise ProblemError(f"{name}: metric_name={metric_name!r} must be a text that is not empty; or leave it out")
        if not isinstance(higher_is_better, (bool, np.bool_)):
            raise ProblemError(f"{name}: higher_is_better={higher_is_better!r} must be True or False")
        if not isinstance(stacks, (bool, np.bool_)):
            raise ProblemError(f"{name}: stacks={stacks!r} must be True or False")
        self.name = name
        self.summary = summary
        self.stacks = bool(stacks)
        self.start = start
        self._loss = loss
        self._loss_and_grad = loss_and_grad
        self._jac = jac
        self._metric = metric
        self._loss_and_metric = loss_and_metric
        self.metric_name = "loss" if metric is None else metric_name or _called(metric, "metric")
        self.higher_is_better = bool(higher_is_better) and metric is not None
        self.optimum = _optimum(optimum, name)
        parts = _split(data, split, name) if data is not None else (train, validation, test)
        self.train, self.validation, self.test = (
            None if part is None else _checked(part, f"{name}: {role}")
            for role, part in zip(SPLITS, parts, strict=True)
        )

    @property
    def examples(self) -> dict[str, int]:
        """How many examples there are in ``train``, ``validation`` and ``test``; 0 where there are none."""
        return {
            role: 0 if part is None else int(part[0].shape[0])
            for role, part in zip(SPLITS, (self.train, self.validation, self.test), strict=True)
        }

    @property
    def size(self) -> int | None:
        """How many training examples there are; None for a problem without data."""
        return self.examples["train"] or None

    def begin(self, seed: int) -> Start:
        """The parameters and functions of one descent that starts from `seed`."""
        rng = np.random.default_rng(seed)
        try:
            params = self.start(rng)
        except DescendError:
            raise
        except (Exception, SystemExit) as error:
            raise ProblemError(
                f"{self.name}: start raised {described(error)} (seed {seed}); start(rng) must return the parameters"
            ) from error
        return Start(self, params)

    def unstackable(self, batch: Split) -> str | None:
        """Why runs of this problem cannot be one program, as far as can be told without trying; None if they can."""
        if not self.stacks:
            return "the problem has no stacked gradient (stacks=True declares one)"
        if self._loss_and_grad is None and self._jac is not True and not callable(self._jac):
            return f"the problem has no stacked gradient: jac={self._jac!r} is for one run; give loss_and_grad, or jac"
        return None

    def stacked(self, starts: Sequence[Start], memory: Rows, shared: bool) -> Objective:
        """Losses and gradients of many starts, whose parameters are the rows of `memory`.

        They are over one batch if it is `shared`, else over a batch for each.
        """
        return starts[0].objective(memory)

    def without_test(self) -> Problem:
        """The same problem without its test data, for whatever must not see them."""
        other = copy.copy(self)
        other.test = None
        return other

    def check_gradient(self, seed: int = 0, examples: int = 16) -> GradientCheck:
        """Compare the gradient with finite differences at the start of `seed`, on the first few examples."""
        start = self.begin(seed)
        memory = Memory(start.params, "params")
        batch = () if self.train is None else tuple(part[:examples] for part in self.train)
        return check_at(memory, start.objective(memory), start.value, batch)

    def __repr__(self) -> str:
        rows = "no data" if self.train is None else f"{self.size} training examples"
        return f"<Problem {self.name}: {rows}, metric {self.metric_name}>"


class Start:
    """One start of a problem: its parameters, and its functions bound to whatever else the run owns.

    A problem in NumPy owns nothing else. A torch problem overrides this to own a module with its buffers.
    """

    def __init__(self, problem: Problem, params: Any) -> None:
        self.problem = problem
        self.params = params

    def objective(self, memory: Memory) -> Objective:
        """Loss and gradient over a batch at the memory's point, for the descent."""
        problem = self.problem
        if problem._loss_and_grad is not None:
            return Objective(problem._loss_and_grad, True, memory, live=True)
        assert problem._loss is not None
        return Objective(problem._loss, problem._jac, memory, live=True)

    def value(self, params: Any, *data: Any) -> float:
        """The loss over all of `data`."""
        problem = self.problem
        if problem._loss is None:
            assert problem._loss_and_grad is not None
            return as_loss(problem._loss_and_grad(params, *data)[0], "loss_and_grad")
        out = problem._loss(params, *data)
        return as_loss(out[0] if problem._jac is True else out, "loss")

    def measure(self, params: Any, *data: Any) -> tuple[float, float]:
        """The loss and the problem's metric over all of `data`."""
        if self.problem._loss_and_metric is not None:
            loss, metric = self.problem._loss_and_metric(params, *data)
            return as_loss(loss, "loss_and_metric"), as_loss(metric, "loss_and_metric")
        loss = self.value(params, *data)
        metric = self.problem._metric
        return loss, loss if metric is None else as_loss(metric(params, *data), "metric")

    def snapshot(self) -> Any:
        """A copy of what the run owns beside its parameters."""
        return None

    def restore(self, snapshot: Any) -> None:
        """Put a snapshot back."""


def described(error: BaseException) -> str:
    """An error of the user's function, on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")


def setting(
    problem: str, name: str, value: Any, *, least: float, most: float = math.inf, whole: bool = False, try_: str
) -> float:
    """A setting of a built-in problem, checked; raises `ProblemError` that names it and what is allowed."""
    number = isinstance(value, numbers.Real) and not isinstance(value, (bool, np.bool_))
    if number and math.isfinite(value) and least <= value <= most and (not whole or value == int(value)):
        return float(value)
    kind = "a whole number" if whole else "a number"
    allowed = f"≥ {least:g}, and finite" if math.isinf(most) else f"from {least:,g} to {most:,.0f}"
    raise ProblemError(f"{problem}: {name}={value!r} must be {kind} {allowed}; try {try_}")


def _called(function: Any, otherwise: str) -> str:
    """The name of a user's function; `otherwise` if it has none of its own."""
    name = getattr(function, "__name__", None)
    return name if isinstance(name, str) and name not in ("", "<lambda>") else otherwise


def _optimum(value: Any, name: str) -> float | None:
    """The lowest loss as a float; raises `ProblemError`."""
    if value is None:
        return None
    number = math.nan
    if isinstance(value, numbers.Real) and not isinstance(value, (bool, np.bool_)):
        with contextlib.suppress(OverflowError):
            number = float(value)
    if not math.isfinite(number):
        raise ProblemError(
            f"{name}: optimum={value!r} must be a finite number, the lowest possible loss; leave it out if not known"
        )
    return number


def _checked(part: Sequence[Any], what: str) -> Split:
    """A split as a tuple of arrays of equal length, which select rows; raises `ProblemError`."""
    what = f"{what.removesuffix(' data')} data"
    if not isinstance(part, (tuple, list)):
        part = (part,)
    arrays = tuple(_with_rows(p, what) for p in part)
    if any(len(a.shape) == 0 for a in arrays) or not arrays:
        raise ProblemError(f"{what} must be arrays with one row an example, such as (X, y)")
    lengths = [a.shape[0] for a in arrays]
    if len(set(lengths)) > 1:
        raise ProblemError(
            f"{what} have different lengths: {', '.join(map(str, lengths))}; each example needs a row in all"
        )
    if lengths[0] == 0:
        raise ProblemError(f"{what} are empty: at least one example is needed")
    for i, array in enumerate(arrays):
        found = _first_non_finite(array)
        if found is not None:
            raise ProblemError(f"{what}: array {i} has {found[1]} in row {found[0]}; remove or fill such rows")
    return arrays


def _with_rows(part: Any, what: str) -> Any:
    """Something whose ``part[rows]`` selects rows."""
    if getattr(part, "format", None) in MISSING_ROWS and type(part).__module__.startswith("scipy."):
        return part.tocsr()
    if _has_rows(part):
        return part
    try:
        return np.asarray(part)
    except (TypeError, ValueError) as error:  # rows of different lengths, say
        raise ProblemError(f"{what} cannot be made an array: {described(error)}; give arrays") from error


def _first_non_finite(array: Any) -> tuple[int, float] | None:
    """Row and value of the first NaN or infinity in an array or a dense tensor of floats, if any."""
    if isinstance(array, np.ndarray):
        if array.dtype.kind != "f":
            return None
        finite = np.ma.filled(np.isfinite(array), True)  # what is masked is not looked at
    elif type(array).__module__.partition(".")[0] == "torch":
        if not array.is_floating_point() or str(array.layout) != "torch.strided":
            return None
        finite = array.isfinite().cpu().numpy()
    else:
        return None
    if finite.all():
        return None
    place = tuple(int(i) for i in np.unravel_index(int(np.argmin(finite)), finite.shape))
    return place[0], float(array[place])


def _has_rows(part: Any) -> bool:
    """Whether ``part[rows]`` selects rows already: arrays, tensors, sparse matrices; not a data frame."""
    return hasattr(part, "shape") and type(part).__module__.partition(".")[0] in ("numpy", "torch", "jax", "scipy")


def _split(data: Sequence[Any], shares: Sequence[float], name: str) -> tuple[Split, Split | None, Split | None]:
    whole = _checked(data, f"{name}: data")
    try:
        given = tuple(shares)
    except TypeError:
        given = ()
    numeric = len(given) == 3 and all(isinstance(s, numbers.Real) and 0 <= s <= 1 for s in given)
    if not numeric or abs(sum(given) - 1) > 1e-9 or given[0] == 0:
        raise ProblemError(
            f"{name}: split={shares!r} must be three shares (train > 0) that sum to 1; try (0.6, 0.2, 0.2)"
        )
    shares = given
    n = whole[0].shape[0]
    order = np.random.default_rng(0).permutation(n)
    first, second = round(n * shares[0]), round(n * (shares[0] + shares[1]))
    if first == 0:
        raise ProblemError(f"{name}: {n} examples leave none for training; give more data or a larger share")
    parts = [order[:first], order[first:second], order[second:]]
    train, validation, test = (tuple(a[rows] for a in whole) if len(rows) else None for rows in parts)
    assert train is not None
    return train, validation, test
