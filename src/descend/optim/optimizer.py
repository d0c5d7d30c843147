"""The optimizer that runs any rule: a `torch.optim.Optimizer`, and no formula in it."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import chain
from typing import Any, ClassVar

import torch
from torch.optim import optimizer as torch_optimizer

from descend.checks import shown
from descend.errors import OptionError, ParameterError
from descend.optim import checkpoint
from descend.optim.group_rules import held
from descend.optim.group_schedules import has_schedule
from descend.optim.matching import match
from descend.optim.names import Names
from descend.optim.planning import Planning
from descend.optim.regrouping import NEVER_LOADED, keeps, loaded_groups
from descend.optim.saved import read
from descend.optim.signature import signature, standing
from descend.optim.state_dtype import check_dtype, widen
from descend.optim.stepper import Stepper
from descend.rules import Rule

__all__ = ["Optimizer"]


def _check_params(params: Any) -> None:
    """Raise where `params` holds nothing, as a model does; what it holds, and a single tensor, torch judges."""
    if isinstance(params, torch.Tensor):
        return
    try:
        iter(params)
    except TypeError:
        given = " ".join(shown(params).split())
        raise TypeError(
            f"params={given}: tensors are needed, (name, tensor) pairs, or dicts that describe groups; "
            "try model.parameters()"
        ) from None


class Optimizer(torch.optim.Optimizer):  # type: ignore[misc]
    """Steps PyTorch parameters by a rule. Use a subclass: ``descend.optim.Adam``, or `from_rule` of your own rule.

    Parameters
    ----------
    params
        As in `torch.optim`: tensors, ``(name, tensor)`` pairs, or dicts that describe groups.
    lr, …
        The rule's hyperparameters, named, ordered and defaulted as in `torch.optim`. A number may be an array or a
        tensor of one number, or a schedule, that is a function of the number of steps done. Where it is a schedule, the
        number for the next step stands in `param_groups`; another that is assigned there is used instead.
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
        Dtype of the state's arrays. None (default): the parameter's, but float32 for one of float16 or bfloat16. These
        can be asked for, to save memory, and warn: averages of squares vanish in them or stand still, so that steps get
        up to 9 times too long or 5 times too short.

    Checkpoints are exchangeable with the class of the same name in `torch.optim`, both ways. They have no schedules: a
    schedule is saved as its number for the next step, and stays in the optimizer that loads.
    """

    rule: ClassVar[type[Rule]]
    """The rule that this class runs."""

    def __init__(self, params: Any, *args: Any, **kwargs: Any) -> None:
        if not hasattr(type(self), "rule"):
            raise TypeError("Optimizer has no rule: use a subclass, such as descend.optim.Adam, or from_rule")
        constructor = signature(type(self).rule)
        try:
            given = constructor.bind(params, *args, **kwargs)
        except TypeError as error:
            names = [n for n in constructor.parameters if n != "params"]
            raise TypeError(f"{type(self).__name__}: {error}; it takes params, {', '.join(names)}") from None
        given.apply_defaults()
        options = {name: held(value) for name, value in given.arguments.items() if name != "params"}
        self.state_dtype: torch.dtype | None = options.pop("state_dtype")
        check_dtype(self.state_dtype)
        self._begin()
        self._planning.rules.check(options)  # told even where all groups have their own
        _check_params(params)
        super().__init__(params, standing(type(self).rule, options))

    def _begin(self) -> None:
        """Have no plan yet."""
        self._names = Names()
        self._planning = Planning(self, self.rule, self.state_dtype, self._names)
        self.stepper = Stepper(self._planning)

    # ---- groups -------------------------------------------------------------------------------------------------

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, as in `torch.optim`; raises `RuleError` and `ParameterError` for what it cannot step.

        Where it has schedules, it is copied: numbers stand in their places in `param_groups`.
        """
        if isinstance(param_group, dict):
            if "params" not in param_group:
                names = ", ".join(map(str, param_group)) or "nothing"
                raise ParameterError(f"a group has {names}, and no params: its tensors are needed under 'params'")
            _check_params(param_group["params"])
            foreign = {
                n: held(v) for n, v in param_group.items() if n in self._planning.rules.names and held(v) is not v
            }
            if foreign or any(map(has_schedule, {**self.defaults, **param_group}.values())):
                param_group = {**param_group, **foreign}
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        try:
            self._planning.rules.check(group)
            self._check(group)
            self._planning.take_schedules(group)
        except Exception:
            self.param_groups.pop()
            raise
        self._names.record([group])

    def _check(self, group: dict[str, Any]) -> None:
        self._planning.rules.made(group)
        if group.get("foreach") and group.get("fused"):
            raise OptionError("foreach=True and fused=True: at most one of them can be True")
        if group.get("differentiable") and group.get("fused"):
            raise OptionError(
                "differentiable=True and fused=True: machine code cannot be differentiated; leave out fused"
            )
        if group.get("capturable"):
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
        self._planning.rules.leave(self.param_groups)
        for p in group["params"]:
            self.state.pop(p, None)
        return group

    # ---- state --------------------------------------------------------------------------------------------------

    def init_state(self) -> None:
        """Make the state of every parameter now, and not at its first step."""
        for group in self.param_groups:
            for p in group["params"]:
                self._planning.state_of(p, group)

    def to(self, device: torch.device | str) -> Optimizer:
        """Move the state's arrays to a device, as ``model.to(device)`` moves the parameters; returns the optimizer."""
        for p, state in self.state.items():
            for name in self.rule.state if isinstance(p, torch.Tensor) else ():
                if isinstance(state.get(name), torch.Tensor):
                    state[name] = state[name].to(device)
        return self

    def share_memory(self) -> None:
        """Make the state, and let other processes share it."""
        self.init_state()
        states = [state.values() for p, state in self.state.items() if isinstance(p, torch.Tensor)]
        for value in chain.from_iterable(states):
            if isinstance(value, torch.Tensor):
                value.share_memory_()

    def __repr__(self) -> str:
        """The groups as `torch.optim` prints them, with what only we have, and the schedules that they follow."""
        shown, rules = object.__new__(type(self)), self._planning.rules
        groups = [
            {**dict(zip(rules.names, rules.given(group), strict=False)), **rules.with_schedules(group)}
            for group in self.param_groups
        ]
        shown.__dict__.update(self.__dict__, param_groups=groups)
        return str(torch.optim.Optimizer.__repr__(shown))

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
        return self.stepper.step(closure)

    step.hooked = True  # type: ignore[attr-defined]  # torch need not wrap it: it calls the hooks itself

    def _step(self, closure: Callable[[], Any] | None = None) -> Any:
        return self.stepper.step(closure)

    _step_uncompiled = torch._disable_dynamo(_step)

    _step_with_hooks = torch.optim.Optimizer.profile_hook_step(_step)

    # ---- saving and loading -------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """State and groups, as in `torch.optim`; a schedule is saved as its number for the next step.

        The state of a parameter that was taken out of its group's list is not saved; it stays in `state`.
        """
        for before in self._optimizer_state_dict_pre_hooks.values():
            before(self)
        for group in self.param_groups:
            self._planning.take_schedules(group)
        self._names.follow(self.param_groups)
        saved = checkpoint.packed(self.param_groups, self.state, self._planning.beginning())
        for after in self._optimizer_state_dict_post_hooks.values():
            saved = after(self, saved) or saved
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

        State keeps the dtype that it was saved with, and is copied. But state of 16 bits, as `torch.optim` has for
        parameters of 16 bits, becomes float32, unless `state_dtype` of this optimizer is of 16 bits. Schedules stay as
        they are in this optimizer; where the saved number is not theirs, a warning says so. So do `foreach`, `fused`,
        `capturable` and `differentiable`, which say how a step is run. Raises `StateError` that names every entry that
        does not fit; nothing is loaded then.
        """
        known = {"step", *self.rule.state, *self.rule.carried}
        read_from: Any = dict(state_dict) if isinstance(state_dict, Mapping) else state_dict
        for before in self._optimizer_load_state_dict_pre_hooks.values():
            read_from = before(self, read_from) or read_from
        saved, names = read(read_from, known, strict=strict), self._names.of(self.param_groups)
        kind, rules = type(self).__name__, self._planning.rules
        found = match(kind, self.param_groups, names, saved, strict=strict)
        self._check_keep(keep, saved.groups)
        given = [rules.with_schedules(group) for group in self.param_groups]
        groups, report = loaded_groups(given, saved.groups, found.sources, keeps(keep))
        checkpoint.adopt_names(groups, saved)
        for group in groups:
            self._check(group)
        checkpoint.check_states([*map(rules.made, groups)], groups, found, saved, names)
        state = checkpoint.loaded_state(self.rule, found, saved)
        if report:
            warnings.warn(f"{kind}: parameters are grouped otherwise than in the saved state: {report}", stacklevel=2)
        self.__setstate__({"state": state, "param_groups": groups})
        for group, sources in zip(self.param_groups, found.sources, strict=True):
            if len(sources) == 1:
                self._planning.rules.compare(group, saved.groups[sources[0]], keep)
        for after in self._optimizer_load_state_dict_post_hooks.values():
            after(self)

    def _check_keep(self, keep: Collection[str], saved: Sequence[Mapping[str, Any]]) -> None:
        """Raise `OptionError` for names in `keep` that are no group's."""
        names = [keep] if isinstance(keep, str) else [*keep]
        groups = ({*group} - {*NEVER_LOADED} for group in (*self.param_groups, *saved))
        known = dict.fromkeys([*self.defaults, *self._planning.rules.names, *sorted(set().union(*groups))])
        unknown = [name for name in names if name not in known]
        if unknown or isinstance(keep, str):
            needed = f"not among the hyperparameters, {', '.join(known)}" if unknown else f"pass a tuple, ({keep!r},)"
            raise OptionError(f"keep={unknown or keep!r}: {needed}")

    def __getstate__(self) -> dict[str, Any]:
        self._names.follow(self.param_groups)
        groups = [self._planning.rules.with_schedules(group) for group in self.param_groups]
        later = self._planning.beginning()
        state = defaultdict(dict, self.state)
        state.update({p: {**state[p], **dict.fromkeys(its)} for p, its in later.items() if p in state})
        own = {"state": state, "param_groups": groups, "state_dtype": self.state_dtype}
        return {**super().__getstate__(), **own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.__dict__.setdefault("state_dtype", None)
        widen(self.state, self.rule.state, self.state_dtype)
        self._begin()
        self._names.record(self.param_groups)
        for group in self.param_groups:
            for name, value in self.defaults.items():
                group.setdefault(name, value)
            self._planning.take_schedules(group)
