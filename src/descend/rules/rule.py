"""What a rule is: hyperparameters, names of its state, and one formula.

A rule is a frozen dataclass. Its fields are the hyperparameters; the parameters of its `update` between ``g``
and ``s`` are the names of its state; `update` is the formula, elementwise, and the only place where it stands.
Engines run it; they never repeat it. Subclassing `Rule` is all it takes to have a new one:

    >>> import descend
    >>> from descend.rules import maths
    >>> class SignSGD(descend.Rule):
    ...     "Step by the sign of the gradient (Bernstein et al. 2018, algorithm 1)."
    ...     lr: float = 1e-3
    ...     @staticmethod
    ...     def update(p, g, s):
    ...         return p - s.lr * maths.sign(g)
    >>> descend.minimize(lambda x: (x - 1) ** 2, 0.0, jac=lambda x: 2 * (x - 1), method="signsgd", max_steps=3).x
    0.003
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
from collections import namedtuple
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Self, dataclass_transform

import numpy as np

from descend.errors import RuleError
from descend.rules.hyperparameters import Range, allowed_range, checked, hyper, kind_of
from descend.rules.registry import enter, spelling
from descend.rules.scipy_method import SciPyMethod
from descend.rules.tracing import check

__all__ = ["Rule", "hyper"]


@dataclass_transform(frozen_default=True, field_specifiers=(hyper, dataclasses.field))
class _Declared:
    """Gives subclasses the dataclass treatment, for type checkers."""


@dataclasses.dataclass(frozen=True)
class Rule(SciPyMethod, _Declared):
    """One update of the parameters, written once; every engine runs it.

    A subclass declares hyperparameters as fields and one static `update(p, g, <state …>, s)` that returns the new
    ``p``, or the new ``p`` and the new state in order. ``s`` carries every hyperparameter by name (the numbers of
    a tuple ``betas`` as ``s.beta1``, ``s.beta2``, and as ``s.one_minus_beta1``, … what they leave of one), the flags,
    and whatever `scalars` adds. State starts at zero.
    State that some settings do not need is named in `state_if`; it is None then.

    Any number may be a schedule instead (see `descend.schedules`): it is asked before each step.
    """

    lr: float = hyper(default=1e-3, doc="learning rate: scales the step", at_least=0)
    weight_decay: float = hyper(
        default=0.0, doc="L2 penalty: adds weight_decay · p to the gradient", at_least=0, kw_only=True
    )
    decoupled_weight_decay: bool = hyper(
        default=False,
        doc="shrink p by 1 − lr · weight_decay instead of adding to the gradient (AdamW's way)",
        kw_only=True,
    )
    maximize: bool = hyper(default=False, doc="climb instead of descend", kw_only=True)
    cautious: bool = hyper(
        default=False,
        doc="leave out what goes against the gradient, and lengthen the rest (Liang et al. 2024, algorithm 1, "
        "arxiv.org/abs/2411.16085)",
        kw_only=True,
    )

    paper: ClassVar[str] = ""
    """Where the formula comes from: authors, year, equation or algorithm, address."""
    state: ClassVar[tuple[str, ...]] = ()
    """Names of the state in the order in which `update` takes it; read from `update`'s signature."""
    state_if: ClassVar[Mapping[str, str]] = {}
    """State kept only when a hyperparameter (flag, or non-zero number) asks for it: state name → hyperparameter."""
    first_step: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """State whose own first step is another one than those after it, though it begin later than the parameter's: state
    name → the scalars that are then as at step 1."""
    carried: ClassVar[Mapping[str, float]] = {}
    """Numbers, one for all entries, that go from step to step as the state does: name → what it starts from; see
    `carry`."""
    sparse_safe: ClassVar[bool] = False
    """Whether an entry stays as it is, but for state that decays, when its gradient is zero. Then a sparse gradient can
    be stepped by its entries alone."""
    _declared: ClassVar[tuple[tuple[dataclasses.Field[Any], type, Range], ...]] = ()
    """The hyperparameters; of which type each is, bool, tuple or float; and the range of its numbers."""
    name: ClassVar[str] = ""
    """The registry's name of the rule: the class name in lower case, without underscores."""
    scope: ClassVar[str] = "entry"
    """What one update looks at: an ``"entry"`` of a parameter by itself. Rules that look at a whole ``"tensor"``, for a
    norm or a matrix product, will declare that; they are not built yet."""

    def __init_subclass__(cls, *, register: bool = True, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        doc = cls.__dict__.get("__doc__") or ""
        update = cls.__dict__.get("update")
        if inspect.isfunction(update):
            cls.update = staticmethod(update)  # type: ignore[method-assign]
        dataclasses.dataclass(frozen=True)(cls)
        cls.__doc__ = doc  # dataclass writes the signature into an empty one
        cls._declared = tuple((f, kind_of(f), allowed_range(f)) for f in dataclasses.fields(cls))
        cls.name = spelling(cls.__name__)
        cls.state = _state_names(cls)
        if not _knows_all_scalars(cls):
            cls.constant_from = Rule.constant_from  # type: ignore[method-assign]
        if cls.scope != "entry":
            known = "rules over whole tensors are not built yet" if cls.scope == "tensor" else "there is no such scope"
            raise RuleError(f'{cls.__name__}.scope = {cls.scope!r}: {known}; leave it at "entry"')
        _check_formula(cls)
        if register:
            enter(cls)

    @classmethod
    def has_formula(cls) -> bool:
        """Whether the class has an `update`; a common base of other rules may have none."""
        return cls.update is not Rule.update

    @staticmethod
    def update(p: Any, g: Any, *state_and_s: Any) -> Any:
        """The formula, elementwise: new ``p`` and new state from parameter, gradient, state and scalars."""
        raise NotImplementedError

    def __post_init__(self) -> None:
        if not self.has_formula():
            raise RuleError(f"{type(self).__name__} has no update(p, g, <state …>, s): define it as a staticmethod")
        self._check_each()

    def _check_each(self) -> None:
        """Put each hyperparameter into its own type; raises `RuleError` for one that is not what it must be."""
        scheduled = []
        for field, kind, allowed in self._declared:
            given: Any = getattr(self, field.name)
            if type(given) is kind and (kind is bool or (isinstance(given, float) and given in allowed)):
                continue  # as it should be, which is usual: a learning rate that changes at each step makes many rules
            value, is_scheduled = checked(self, field, given)
            object.__setattr__(self, field.name, value)
            if is_scheduled:
                scheduled.append(field.name)
        object.__setattr__(self, "_scheduled", tuple(scheduled))

    @classmethod
    def of_each(cls, values: Mapping[str, Any]) -> Self:
        """The rule with all these hyperparameters, each of them checked by itself; raises `RuleError`.

        Hyperparameters that are set one after the other may pass through what a rule refuses of several together, such
        as momentum 0 with nesterov.
        """
        rule = object.__new__(cls)
        for name, value in values.items():
            object.__setattr__(rule, name, value)
        rule._check_each()
        return rule

    def scalars(self, t: int) -> Mapping[str, float]:
        """Numbers that the formula needs beyond the hyperparameters, computed once a step on the host, in float64.

        `t` is the number of the step, from 1. Bias corrections belong here.
        """
        return {}

    def constant_from(self) -> float:
        """The step from which on `scalars` returns the same at every step; ∞ if there is none, or it is not known.

        An engine need not ask again from then on, as long as the hyperparameters stay. It is not asked of a rule that
        carries numbers, nor of one with scalars of another class than those that it was written for.
        """
        same = type(self).scalars is Rule.scalars and type(self).carry is Rule.carry
        return 1.0 if same else math.inf

    def carry(self, t: int, before: Mapping[str, float]) -> tuple[Mapping[str, float], Mapping[str, float]]:
        """The scalars of step `t`, and the carried numbers after it, from the carried numbers before it.

        Only a rule that has `carried` writes one, in place of `scalars`: where a number of this step depends on what
        the hyperparameters were at steps before, as in NAdam's product of momenta.
        """
        return self.scalars(t), before

    def starting(self) -> Mapping[str, float]:
        """The carried numbers before the first step; `carried` unless a rule says otherwise."""
        return self.carried

    def initial(self, state: str) -> float:
        """The number that a state starts from, everywhere; zero unless a rule says otherwise."""
        return 0.0

    def beginning(self, t: int, begins: Iterable[str]) -> dict[str, float]:
        """The scalars of step `t` that are others because these states begin with it; see `first_step`."""
        first = self.at(t).scalars(1)
        return {scalar: first[scalar] for state in begins for scalar in self.first_step[state]}

    @property
    def is_scheduled(self) -> bool:
        """Whether any hyperparameter follows a schedule."""
        return bool(self._scheduled)  # type: ignore[attr-defined]

    def kept_state(self) -> tuple[str, ...]:
        """Names of the state that these settings keep, in order."""
        return tuple(n for n in self.state if n not in self.state_if or bool(getattr(self, self.state_if[n])))

    def at(self, t: int) -> Self:
        """This rule with every schedule replaced by its number for step `t` (from 1)."""
        return self.with_unchecked(self.scheduled_numbers(t)) if self.is_scheduled else self

    def given_by_schedules(self, t: int) -> dict[str, Any]:
        """What the schedules return for step `t` (from 1), be it a number or not, by hyperparameter."""
        names: tuple[str, ...] = self._scheduled  # type: ignore[attr-defined]
        # A schedule takes the number of steps done before, as torch's schedulers count.
        return {name: _evaluate(getattr(self, name), t - 1) for name in names}

    def scheduled_numbers(self, t: int) -> dict[str, Any]:
        """The hyperparameters that follow schedules, by name, as numbers for step `t` (from 1).

        Each is checked against its range; what a rule asks of several together was checked when it was made, and a
        schedule may pass through what that refuses (momentum 0 with nesterov).
        """
        found = self.given_by_schedules(t)
        for field, _, allowed in self._declared:
            if field.name in found:
                value = found[field.name]
                if not (type(value) is float and value in allowed):
                    found[field.name] = checked(self, field, value, t - 1)[0]
        return found

    def with_unchecked(self, values: Mapping[str, Any]) -> Self:
        """This rule with other hyperparameters, taken as they are: numbers in range, or tensors for autograd."""
        rule = object.__new__(type(self))
        # Into its dict at once: a schedule makes a rule at each step.
        own = {field.name: getattr(self, field.name) for field, *_ in self._declared}
        rule.__dict__.update({**own, **values, "_scheduled": ()})
        return rule

    def row(self, t: int) -> Any:
        """The scalars of step `t` (from 1) as a named tuple: numbers as floats, flags as bools.

        For a rule that carries numbers it is the row of a first step numbered `t`; `advance` has those of any.
        """
        return self.advance(t, self.starting())[0]

    def sample_row(self) -> Any:
        """A row that has the names and flags of every step. No schedule is asked: the default stands for its number."""
        defaults = {f.name: _sample(f.default) for f, *_ in self._declared if f.name in self._scheduled}  # type: ignore[attr-defined]
        return self.with_unchecked(defaults).row(1)._replace(**self._decay) if defaults else self.row(1)

    def advance(self, t: int, before: Mapping[str, float]) -> tuple[Any, Mapping[str, float]]:
        """The scalars of step `t` as `row` has them, and the carried numbers after it, from those before it."""
        values, after = self.numbers(t, before)
        # A scalar of NumPy's would make float64 of all that it meets.
        scalars = [v if type(v) is float or type(v) is bool else _as_python(v) for v in values.values()]
        return _row_type(tuple(values))(*scalars), after

    def numbers(self, t: int, before: Mapping[str, float]) -> tuple[dict[str, Any], Mapping[str, float]]:
        """What `advance` returns, the scalars as a dict."""
        rule = self.at(t)
        extra, after = rule.carry(t, before)
        # Whether p decays is asked of self: a schedule that passes through zero must not flip a flag.
        values = {**self._decay, **rule._constants, **extra}
        if len(values) != len(self._decay) + len(rule._constants) + len(extra):
            names = [*self._decay, *rule._constants, *extra]
            twice = sorted({n for n in names if names.count(n) > 1})
            raise RuleError(
                f"scalars() returns {', '.join(twice)}, which a hyperparameter is called already: rename it"
            )
        return values, after

    @functools.cached_property
    def _decay(self) -> dict[str, bool]:
        decays = self.weight_decay != 0.0
        return {
            "couples_decay": decays and not self.decoupled_weight_decay,
            "decouples_decay": decays and self.decoupled_weight_decay,
        }

    @functools.cached_property
    def flags(self) -> tuple[tuple[str, bool], ...]:
        """Names and values of all that is constant for the life of a rule, and compiled into its machine code."""
        own = [field.name for field, kind, _ in self._declared if kind is bool]
        return (*self._decay.items(), *((name, getattr(self, name)) for name in own))

    @functools.cached_property
    def _constants(self) -> dict[str, Any]:
        """What a row holds at every step, as long as no schedule changes it."""
        values: dict[str, Any] = {}
        for field, kind, _ in self._declared:
            name = field.name
            value = getattr(self, name)
            if kind is tuple:
                for i, part in enumerate(value, start=1):
                    values[f"{name.removesuffix('s')}{i}"] = part
                    if name == "betas":  # shares that are kept; a formula needs the rest of each, too
                        values[f"one_minus_beta{i}"] = 1.0 - part
            else:
                values[name] = value
        values["keep"] = 1.0 - self.lr * self.weight_decay
        values["cautious_scale"] = 1.0
        return values


# ---- declaration ------------------------------------------------------------------------------------------------


def _state_names(cls: type[Rule]) -> tuple[str, ...]:
    names = tuple(inspect.signature(cls.update).parameters)
    if not cls.has_formula():
        return ()
    if len(names) < 3 or names[:2] != ("p", "g") or names[-1] != "s":
        raise RuleError(
            f"{cls.__name__}.update({', '.join(names)}): the parameters must be p, g, the names of the state, s"
        )
    return names[2:-1]


def _check_formula(cls: type[Rule]) -> None:
    """Refuse a formula that no rule may have, as it is with nothing and with everything switched on.

    What else its settings make of it, an engine finds out. So it does with a formula that cannot be traced.
    """
    if not cls.has_formula():
        return
    shared = {field.name for field in dataclasses.fields(Rule)}
    own = [field.name for field, kind, _ in cls._declared if kind is bool and field.name not in shared]
    asked = {name for name in cls.state_if.values() if name not in own}
    everything: dict[str, Any] = dict.fromkeys(own, True) | dict.fromkeys(asked, 0.5)
    for chosen in ({}, everything):
        try:
            rule = cls(**chosen)
            rule.sample_row()
        except Exception:  # settings that the rule refuses, or cannot do without: that is no fault of its formula
            continue
        check(rule)


def _knows_all_scalars(cls: type[Rule]) -> bool:
    """Whether a rule's `constant_from` knows of all its scalars; not if some are of a class after it, or beside it."""
    owner = next(one for one in cls.__mro__ if "constant_from" in one.__dict__)
    theirs = [one for one in cls.__mro__ if "scalars" in one.__dict__ and one is not Rule]
    return cls.carry is Rule.carry and all(issubclass(owner, one) for one in theirs)


@functools.lru_cache(maxsize=512)
def _row_type(names: tuple[str, ...]) -> Any:
    return namedtuple("Scalars", names)


def _as_python(value: Any) -> Any:
    """A scalar as Python's float or bool."""
    return bool(value) if isinstance(value, (bool, np.bool_)) else float(value)


def _sample(default: Any) -> Any:
    """A number, or several, that a hyperparameter with this default may have."""
    if isinstance(default, tuple):
        return tuple(map(_sample, default))
    return 0.5 if callable(default) else default


def _evaluate(value: Any, done: int) -> Any:
    if isinstance(value, tuple):
        return tuple(_evaluate(v, done) for v in value)
    return value(done) if callable(value) else value
