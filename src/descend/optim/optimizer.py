"""The optimizer that runs any rule: a `torch.optim.Optimizer`, and no formula in it."""

from __future__ import annotations

import copyreg
import dataclasses
import functools
import inspect
import warnings
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from copy import deepcopy
from itertools import chain
from operator import itemgetter
from typing import Any, ClassVar

import torch
from torch.optim import optimizer as torch_optimizer

from descend.errors import OptionError, ParameterError, RuleError, StateError
from descend.optim.step_plan import Plan, plain
from descend.rules import Rule

__all__ = ["Optimizer", "from_rule"]

_WAYS = ("foreach", "capturable", "differentiable", "fused")
"""torch's options for how a step is run, in no rule."""
_MATTER = ("foreach", "differentiable", "fused")
"""Those of them that a step asks for."""
_RETRIES = 1000
"""How often a step is planned anew before it gives up: other processes may step the same memory meanwhile."""
_STATE_DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


class Optimizer(torch.optim.Optimizer):  # type: ignore[misc]
    """Steps PyTorch parameters by a rule. Use a subclass: ``descend.optim.Adam``, or `from_rule` of your own rule.

    Parameters
    ----------
    params
        As in `torch.optim`: tensors, ``(name, tensor)`` pairs, or dicts that describe groups.
    lr, …
        The rule's hyperparameters, named, ordered and defaulted as in `torch.optim`. Each may be a schedule, that is a
        function of the number of steps done; `lr` may be a tensor.
    fused
        True: machine code, or an error where it cannot be. False: the rule on tensors. None (default): machine code for
        tensors on the CPU where possible.
    foreach
        True: the rule on many tensors at once, with a call for each operation of its formula, as in `torch.optim`:
        fewer calls, and memory for copies of all parameters. False: on one tensor after the other. None (default): on
        many where machine code cannot be, that is on another device than the CPU; there tensors of 262,144 numbers or
        more are stepped one by one, by code of `torch.compile` where that works.
    differentiable
        Let autograd follow the step. The rule then runs on tensors.
    capturable
        Only False: the count of steps is kept on the host, so a step cannot be captured in a CUDA graph.
    state_dtype
        Dtype of the state's arrays, such as `torch.bfloat16` to save memory; None (default): the parameter's.

    Checkpoints are exchangeable with the class of the same name in `torch.optim`, both ways. They have no schedules: a
    schedule is saved as its number for the next step, and stays in the optimizer that loads.
    """

    rule: ClassVar[type[Rule]]
    """The rule that this class runs."""
    _names: ClassVar[tuple[str, ...]]
    _asked: ClassVar[Any]
    """What of a group decides how it is stepped: the hyperparameters in the order of the rule's fields, then ways."""

    def __init__(self, params: Any, *args: Any, **kwargs: Any) -> None:
        if not hasattr(type(self), "rule"):
            raise TypeError("Optimizer has no rule: use a subclass, such as descend.optim.Adam, or from_rule")
        try:
            given = _signature(type(self).rule).bind(params, *args, **kwargs)
        except TypeError as error:
            names = [n for n in _signature(type(self).rule).parameters if n != "params"]
            raise TypeError(f"{type(self).__name__}: {error}; it takes params, {', '.join(names)}") from None
        given.apply_defaults()
        options = given.arguments
        options.pop("params")
        self.state_dtype: torch.dtype | None = options.pop("state_dtype")
        if self.state_dtype is not None and self.state_dtype not in _STATE_DTYPES:
            known = ", ".join(str(d) for d in _STATE_DTYPES)
            raise OptionError(f"state_dtype={self.state_dtype!r}: one of {known}, or None, is needed")
        self._plan: Plan | None = None
        self._rules: dict[Any, Rule] = {}
        self._said: set[str] = set()
        self._failed: set[Any] = set()
        super().__init__(params, options)

    # ---- groups -------------------------------------------------------------------------------------------------

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, as in `torch.optim`; raises `RuleError` and `ParameterError` for what it cannot step."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        try:
            self._check(group)
        except Exception:
            self.param_groups.pop()
            raise

    def _check(self, group: dict[str, Any]) -> None:
        self._rule_of(group)
        if group["foreach"] and group["fused"]:
            raise OptionError("foreach=True and fused=True: at most one of them can be True")
        if group["differentiable"] and group["fused"]:
            raise OptionError(
                "differentiable=True and fused=True: machine code cannot be differentiated; leave out fused"
            )
        if group["capturable"]:
            raise OptionError(
                "capturable=True: the count of steps is kept on the host, so a step cannot be captured in a CUDA "
                "graph; leave it out"
            )
        for i, p in enumerate(group["params"]):
            if not (p.is_floating_point() or p.is_complex()):
                names = group.get("param_names")
                name = names[i] if names else f"parameter {i} of the group"
                raise ParameterError(
                    f"{name} has dtype {p.dtype}: only floating-point and complex tensors can be stepped"
                )

    def remove_param_group(self, index: int) -> dict[str, Any]:
        """Take a group out, and forget the state of its parameters; returns the group."""
        group: dict[str, Any] = self.param_groups.pop(index)
        for p in group["params"]:
            self.state.pop(p, None)
        return group

    def _rule_of(self, group: Mapping[str, Any]) -> Rule:
        """The rule with the group's hyperparameters as they stand there; raises `RuleError`."""
        return self._rule_with(plain(self._asked(group)[: len(self._names)]))

    def _rule_with(self, values: tuple[Any, ...]) -> Rule:
        """The rule with these hyperparameters, in the order of its fields; raises `RuleError`."""
        try:
            found = self._rules.get(values)
        except TypeError:  # a schedule that cannot be hashed
            return self.rule(**dict(zip(self._names, values, strict=True)))
        if found is None:
            if len(self._rules) > 64:  # a learning rate that changes at each step
                self._rules.clear()
            found = self._rules[values] = self.rule(**dict(zip(self._names, values, strict=True)))
        return found

    # ---- state --------------------------------------------------------------------------------------------------

    def init_state(self) -> None:
        """Make the state of every parameter now, and not at its first step."""
        for group in self.param_groups:
            for p in group["params"]:
                self._state_of(p, group)

    def _state_of(self, p: torch.Tensor, group: dict[str, Any]) -> dict[str, Any]:
        """The parameter's state, whole, and laid out as the parameter is; made where it is missing."""
        state: dict[str, Any] = self.state[p]
        rule = self._rule_of(group)
        kept = rule.kept_state()
        begun = any(state.get(name) is not None for name in self.rule.state)
        for name in [n for n, v in state.items() if v is None]:
            del state[name]
        counters = {"step": float(begun), **rule.starting()}  # torch's SGD does not count its steps
        for name, value in counters.items():
            number = state.get(name, value)
            if not isinstance(number, torch.Tensor) or number.dtype != torch.float32 or number.device.type != "cpu":
                state[name] = torch.tensor(float(number), dtype=torch.float32)
        for name in kept:
            array = state.get(name)
            if array is None:
                dtype = p.dtype if self.state_dtype is None or p.is_complex() else self.state_dtype
                initial = rule.initial(name)
                fill = complex(initial, initial) if p.is_complex() else initial
                state[name] = torch.full_like(p.detach(), fill, dtype=dtype, memory_format=torch.preserve_format)
            elif array.shape != p.shape:
                raise StateError(
                    f"state {name!r} of {self._name(p)} has shape {tuple(array.shape)}, the parameter {tuple(p.shape)}"
                )
            elif array.stride() != p.stride() or array.device != p.device:
                laid_out = torch.empty_like(p.detach(), dtype=array.dtype, memory_format=torch.preserve_format)
                if laid_out.stride() != array.stride() or array.device != p.device:
                    state[name] = laid_out.copy_(array)
        return state

    def _name(self, p: torch.Tensor) -> str:
        """What to call a parameter in a message."""
        for i, group in enumerate(self.param_groups):
            for k, other in enumerate(group["params"]):
                if other is p:
                    names = group.get("param_names")
                    return repr(names[k]) if names else f"parameter {k} of group {i}"
        return "a parameter"

    def to(self, device: torch.device | str) -> Optimizer:
        """Move the state's arrays to a device, as ``model.to(device)`` moves the parameters; returns the optimizer."""
        for state in self.state.values():
            for name, value in state.items():
                if name in self.rule.state and isinstance(value, torch.Tensor):
                    state[name] = value.to(device)
        return self

    def share_memory(self) -> None:
        """Make the state, and let other processes share it."""
        self.init_state()
        for value in chain.from_iterable(state.values() for state in self.state.values()):
            if isinstance(value, torch.Tensor):
                value.share_memory_()

    # ---- stepping -----------------------------------------------------------------------------------------------

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of every parameter that has a gradient; returns what `closure` returns, which is called first."""
        if torch.compiler.is_dynamo_compiling():
            return self._step_uncompiled(closure)
        if (
            self._optimizer_step_pre_hooks
            or self._optimizer_step_post_hooks
            or torch_optimizer._global_optimizer_pre_hooks
            or torch_optimizer._global_optimizer_post_hooks
            or torch.autograd._profiler_enabled()
        ):
            return self._step_with_hooks() if closure is None else self._step_with_hooks(closure)
        return self._step(closure)

    step.hooked = True  # type: ignore[attr-defined]  # torch need not wrap it: it calls the hooks itself

    def _step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        plan, self._plan = self._plan, None  # an error on the way must not leave half a plan
        if plan is None or not plan.run():
            plan = self._run_anew()
        self._plan = plan
        return loss

    def _run_anew(self) -> Plan | None:
        """Plan a step, and do it; returns the plan if it may serve again."""
        plan = self._run_round(0)
        for number in range(1, plan.rounds):
            self._run_round(number)
        return plan if plan.rounds == 1 else None

    def _run_round(self, number: int) -> Plan:
        for _ in range(_RETRIES):
            plan = Plan(self, number)
            if plan.run():
                return plan
        raise RuntimeError(f"{type(self).__name__}: parameters, gradients or state change while they are stepped")

    _step_uncompiled = torch._disable_dynamo(_step)

    @functools.cached_property
    def _step_with_hooks(self) -> Callable[..., Any]:
        wrapped = torch.optim.Optimizer.profile_hook_step(type(self)._step)
        return functools.partial(wrapped, self)

    def _say_once(self, what: str) -> None:
        """Say what a user would not expect of a step, with its reason; once."""
        if what not in self._said:
            self._said.add(what)
            warnings.warn(f"{type(self).__name__} {what}", RuntimeWarning, stacklevel=5)

    # ---- saving and loading -------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """State and groups, as in `torch.optim`; a schedule is saved as its number for the next step."""
        saved: dict[str, Any] = super().state_dict()
        for group, packed in zip(self.param_groups, saved.get("param_groups", ()), strict=False):
            if any(map(_scheduled, packed.values())):
                steps = [self.state[p]["step"] for p in group["params"] if "step" in self.state.get(p, ())]
                done = int(max(steps, default=0))
                packed.update({k: _number_at(v, done) for k, v in packed.items() if _scheduled(v)})
        return saved

    def load_state_dict(
        self, state_dict: Mapping[str, Any], *, keep: Collection[str] = (), strict: bool = True
    ) -> None:
        """Load what `state_dict` returned, of this class or of the class of the same name in `torch.optim`.

        Parameters
        ----------
        keep
            Hyperparameters that stay as they are in this optimizer, instead of what was saved.
        strict
            With names on both sides, parameters are found by name, wherever they stand. Names that are on one side only
            are an error; with ``strict=False`` a warning: what has no saved state starts anew.

        State keeps the dtype that it was saved with, and is copied. Schedules stay as they are in this optimizer; so do
        `foreach`, `fused`, `capturable` and `differentiable`, which say how a step is run. Raises `StateError` that
        names every entry that does not fit; nothing is loaded then.
        """
        state_dict = dict(state_dict)
        for hook in self._optimizer_load_state_dict_pre_hooks.values():
            state_dict = hook(self, state_dict) or state_dict
        groups, states = _matched(self, state_dict, strict)
        unknown = set(keep) - set(self.defaults)
        if unknown:
            raise OptionError(f"keep={sorted(unknown)}: not among the hyperparameters, {', '.join(self.defaults)}")
        new_groups = []
        for group, saved in zip(self.param_groups, groups, strict=True):
            kept = {*keep, *_WAYS, "params", "param_names", *(k for k, v in group.items() if _scheduled(v))}
            new = {**group, **{k: deepcopy(v) for k, v in saved.items() if k not in kept}}
            self._check(new)
            new_groups.append(new)
        new_state: defaultdict[Any, Any] = defaultdict(dict)
        for p, saved in states.items():
            new_state[p] = {
                name: _copied(value, p.device if name in self.rule.state else None) for name, value in saved.items()
            }
        new_state.update({k: v for k, v in state_dict["state"].items() if not isinstance(k, int)})
        self.__setstate__({"state": new_state, "param_groups": new_groups})
        for hook in self._optimizer_load_state_dict_post_hooks.values():
            hook(self)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "state_dtype": self.state_dtype}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.__dict__.setdefault("state_dtype", None)
        self._plan = None
        self._rules = {}
        self._said, self._failed = set(), set()
        for group in self.param_groups:
            for name, value in self.defaults.items():
                group.setdefault(name, value)

    def __reduce__(self) -> Any:
        if type(self) is _MADE.get(self.rule):  # which no module has under its name
            return _unmade, (self.rule,), self.__getstate__()
        return copyreg.__newobj__, (type(self),), self.__getstate__()  # type: ignore[attr-defined]


def _unmade(rule: type[Rule]) -> Optimizer:
    made = from_rule(rule)
    return made.__new__(made)


def _scheduled(value: Any) -> bool:
    """Whether a hyperparameter follows a schedule, or a part of it does."""
    return callable(value) or (isinstance(value, (tuple, list)) and any(map(callable, value)))


def _number_at(value: Any, done: int) -> Any:
    """What a schedule, or a tuple with one in it, is after that many steps."""
    if isinstance(value, (tuple, list)):
        return tuple(_number_at(part, done) for part in value)
    return float(value(done)) if callable(value) else value


def _copied(value: Any, device: torch.device | None) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().clone() if device is None else value.detach().to(device, copy=True)
    return deepcopy(value)


def _matched(
    optimizer: Optimizer, saved: Mapping[str, Any], strict: bool
) -> tuple[list[dict[str, Any]], dict[torch.Tensor, dict[str, Any]]]:
    """The saved groups, one for each of the optimizer's, and the saved state of each parameter; raises `StateError`."""
    kind = type(optimizer).__name__
    try:
        saved_groups, saved_state = list(saved["param_groups"]), dict(saved["state"])
        sizes = [len(group["params"]) for group in saved_groups]
    except (KeyError, TypeError) as error:
        raise StateError(
            f"this is no optimizer's state_dict: it has no {error}; pass what state_dict() returned"
        ) from None
    groups = optimizer.param_groups
    named = all("param_names" in group for group in (*groups, *saved_groups))
    found: dict[torch.Tensor, int] = {}
    names: dict[torch.Tensor, str] = {}
    for i, group in enumerate(groups):
        for k, p in enumerate(group["params"]):
            names[p] = group["param_names"][k] if "param_names" in group else f"parameter {k} of group {i}"
    if named:
        place = {n: i for group in saved_groups for n, i in zip(group["param_names"], group["params"], strict=True)}
        found = {p: place[n] for p, n in names.items() if n in place}
        missing = [n for n in names.values() if n not in place]
        extra = [n for n in place if n not in set(names.values())]
        if missing or extra:
            text = "; ".join(
                f"{what}: {', '.join(which)}"
                for what, which in (("not in the saved state", missing), ("only in the saved state", extra))
                if which
            )
            if strict:
                raise StateError(
                    f"{kind}: the saved state is of other parameters ({text}); pass strict=False to load the rest"
                )
            warnings.warn(f"{kind}: not all of the saved state was loaded ({text})", stacklevel=3)
    elif len(groups) != len(saved_groups):
        raise StateError(f"{kind} has {len(groups)} parameter groups, the saved state {len(saved_groups)}")
    elif sizes != [len(group["params"]) for group in groups]:
        mine = [len(group["params"]) for group in groups]
        raise StateError(f"{kind} has groups of {mine} parameters, the saved state groups of {sizes}")
    else:
        for group, saved_group in zip(groups, saved_groups, strict=True):
            found.update(zip(group["params"], saved_group["params"], strict=True))
    states = {p: saved_state[i] for p, i in found.items() if i in saved_state}
    _check_state(optimizer.rule, states, names)
    if not named:
        return saved_groups, states
    # With names, a group takes its hyperparameters from the saved group of its first parameter.
    of = {i: group for group in saved_groups for i in group["params"]}
    firsts = [next((found[p] for p in group["params"] if p in found), None) for group in groups]
    return [{} if first is None else of[first] for first in firsts], states


def _check_state(rule: type[Rule], states: dict[torch.Tensor, dict[str, Any]], names: dict[torch.Tensor, str]) -> None:
    known = {"step", *rule.state, *rule.carried}
    wrong = []
    for p, state in states.items():
        foreign = sorted(set(state) - known)
        if foreign:
            raise StateError(
                f"the saved state of {names[p]!r} has {', '.join(foreign)}, which {rule.__name__} does not keep "
                f"(it keeps {', '.join(sorted(known))}): it was saved by another optimizer"
            )
        # What a setting decides about may be missing, and starts anew: it can have been saved with another setting.
        lacking = sorted(set(rule.state) - set(rule.state_if) - set(state)) if state else []
        if lacking:
            raise StateError(
                f"the saved state of {names[p]!r} has no {', '.join(lacking)}, which {rule.__name__} needs "
                f"(it has {', '.join(sorted(state))}): it was saved by another optimizer"
            )
        for name in rule.state:
            value = state.get(name)
            if isinstance(value, torch.Tensor) and value.shape != p.shape:
                wrong.append(f"{name} of {names[p]} has shape {tuple(value.shape)}, the parameter {tuple(p.shape)}")
    if wrong:
        raise StateError(f"the saved state is of another model: {'; '.join(wrong)}")


# ---- classes from rules -----------------------------------------------------------------------------------------


def from_rule(rule: type[Rule]) -> type[Optimizer]:
    """The optimizer class that runs `rule`: a subclass of `torch.optim.Optimizer`.

    >>> import descend, torch
    >>> from descend.rules import maths
    >>> class Signs(descend.Rule, register=False):
    ...     lr: float = 0.1
    ...     @staticmethod
    ...     def update(p, g, s):
    ...         return p - s.lr * maths.sign(g)
    >>> weight = torch.nn.Parameter(torch.ones(2))
    >>> optimizer = descend.optim.from_rule(Signs)([weight])
    >>> (weight ** 2).sum().backward()
    >>> optimizer.step()
    >>> weight.data
    tensor([0.9000, 0.9000])
    """
    if not (isinstance(rule, type) and issubclass(rule, Rule)) or rule.update is Rule.update:
        raise RuleError(f"from_rule({rule!r}): the class of a rule is needed, such as descend.Adam")
    if rule in _MADE:
        return _MADE[rule]
    made: type[Optimizer] = type(
        rule.__name__,
        (Optimizer,),
        {
            "rule": rule,
            "__doc__": f"{inspect.getdoc(rule)}\n\nArguments: see `descend.optim.Optimizer`.",
            "__module__": "descend.optim" if rule.__module__.startswith("descend.rules") else rule.__module__,
            "_names": _fields(rule),
            "_asked": staticmethod(itemgetter(*_fields(rule), *_MATTER)),
            "__signature__": _signature(rule),
        },
    )
    _MADE[rule] = made
    return made


_MADE: dict[type[Rule], type[Optimizer]] = {}
"""The class of each rule: there is one, so that objects can be pickled."""


def _fields(rule: type[Rule]) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(rule))


def _signature(rule: type[Rule]) -> inspect.Signature:
    """The constructor's: as the class of that name in `torch.optim`, if there is one, and then what only we have."""
    P = inspect.Parameter
    fields = {field.name: field for field in dataclasses.fields(rule)}
    mine = {name: field.default for name, field in fields.items()} | dict.fromkeys(_WAYS) | {"state_dtype": None}
    mine |= {"capturable": False, "differentiable": False}
    twin = getattr(torch.optim, rule.__name__, None)
    builtin = rule.__module__.startswith("descend.rules")
    theirs = inspect.signature(twin).parameters if builtin and twin is not None else {}
    order = [n for n, p in theirs.items() if p.kind is not P.KEYWORD_ONLY and n in mine]
    if not order:
        order = [name for name, field in fields.items() if not field.kw_only]
    parameters = [P("params", P.POSITIONAL_OR_KEYWORD)]
    parameters += [P(n, P.POSITIONAL_OR_KEYWORD, default=mine[n]) for n in order]
    parameters += [P(n, P.KEYWORD_ONLY, default=default) for n, default in mine.items() if n not in order]
    return inspect.Signature(parameters)
