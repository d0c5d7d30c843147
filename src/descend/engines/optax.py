"""A rule as an Optax transformation: pure functions, for `jax.jit` and `jax.lax.scan`.

The step's number is traced there, and `Rule.scalars` is Python, on the host and in float64. So the scalars come from
the host, in one of three ways: known when traced, if they do not depend on the step; from a table, if it is known how
many steps there will be; else by a call from the compiled program to the host at each step.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from descend.engines.jax import check_params, filled, stepped
from descend.errors import OptionError, ParameterError, RuleError, did_you_mean
from descend.rules import Rule
from descend.rules.formula import Form, starting_state

__all__ = ["RuleState", "to_optax"]


class RuleState(NamedTuple):
    """The state of a rule as an Optax transformation."""

    count: Any
    """How many steps were done."""
    carried: dict[str, Any]
    """The rule's carried numbers, in JAX's default precision."""
    state: dict[str, Any]
    """Name of a state → a pytree built like the parameters."""


def to_optax(rule: Rule, *, steps: int | None = None, **traced: Any) -> optax.GradientTransformationExtraArgs:
    """Make a rule an `optax.GradientTransformation`, to be used alone, in `optax.chain`, under `jax.jit` and in scans.

    Parameters
    ----------
    rule
        The rule. Its numbers may be schedules, any functions of the step.
    steps
        How many steps there will be, if it is known: their scalars are then computed when the update is traced, and
        stand in the compiled program as a table. After them all goes on as without it.
    **traced
        Numbers to take the place of the rule's, by name: JAX arrays, traced ones too. A change of them compiles
        nothing anew. Their type bounds their precision: 0.999 in float32 is off by 1e-8, so 1 − 0.999 by 1e-5.

    Returns
    -------
    optax.GradientTransformationExtraArgs
        Its ``update(grads, state, params)`` needs the parameters. It returns what is to be added to them. As those of
        Optax's own optimizers it may be called with more arguments by name, such as ``value``, which it ignores.

    Scalars, such as bias corrections and what schedules return, are computed on the host in float64. If they depend on
    the step, and `steps` does not cover it, the compiled program calls Python for them once a step, by
    `jax.pure_callback`. That took 0.2 ms on two cores of a CPU, where a step without took 2 µs; an accelerator waits
    for it, too. Derivatives pass through an update, but not to `traced`. State has the type of its parameter, but
    float32 where that has 16 bits.

    The numbers that Optax wants in its state, to be changed while training, are `traced` as it is usual there: by
    `optax.inject_hyperparams`.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, optax, descend
    >>> optimizer = optax.chain(optax.clip_by_global_norm(1.0), descend.to_optax(descend.Adam(lr=0.1)))
    >>> params = {"w": jnp.array([1.0, 2.0])}
    >>> state = optimizer.init(params)
    >>> updates, state = jax.jit(optimizer.update)({"w": jnp.array([3.0, -4.0])}, state, params)
    >>> optax.apply_updates(params, updates)
    {'w': Array([0.9..., 2.1...], dtype=float32)}

    >>> make = optax.inject_hyperparams(lambda lr: descend.to_optax(descend.GD(), lr=lr))
    >>> state = make(lr=0.5).init(params)
    >>> state.hyperparams["lr"] = jnp.float32(0.25)
    >>> make(lr=0.5).update({"w": jnp.array([1.0, 0.0])}, state, params)[0]
    {'w': Array([-0.25,  0.  ], dtype=float32)}
    """
    source = _Source(rule, traced, steps)

    def init(params: Any) -> RuleState:
        params = jax.tree.map(jnp.asarray, params)
        check_params(params)
        carried, starts = source.start()
        return RuleState(jnp.zeros([], jnp.int32), carried, filled(starts, params))

    def update(grads: Any, state: RuleState, params: Any = None, **extra: Any) -> tuple[Any, RuleState]:
        del extra  # other members of a chain may need it
        if params is None:
            raise ParameterError("params=None: a rule steps from the parameters; call update(grads, state, params)")
        params = jax.tree.map(jnp.asarray, params)
        check_params(params)
        leaves, built = jax.tree.flatten(params)
        numbers, carried = source.scalars(state.count, state.carried)
        slopes = [jnp.asarray(g) for g in built.flatten_up_to(grads)]
        old = {name: built.flatten_up_to(tree) for name, tree in state.state.items()}
        new, new_state = stepped(source.form, leaves, slopes, old, numbers)
        updates = built.unflatten([after - p for after, p in zip(new, leaves, strict=True)])
        after = {name: built.unflatten(values) for name, values in new_state.items()}
        return updates, RuleState(optax.safe_increment(state.count), carried, after)

    return optax.GradientTransformationExtraArgs(init, update)


class _Source:
    """Where the scalars of a step come from whose number is traced, as other numbers may be."""

    def __init__(self, rule: Rule, traced: Mapping[str, Any], steps: int | None) -> None:
        if steps is not None and (isinstance(steps, bool) or not isinstance(steps, int) or steps < 1):
            raise OptionError(f"to_optax(steps={steps!r}): steps must be a whole number ≥ 1, or None")
        if steps is not None and traced:
            raise OptionError(f"to_optax(steps={steps}, {', '.join(traced)}=…): a table cannot have traced numbers")
        numbers = {f.name for f in dataclasses.fields(rule) if not isinstance(f.default, bool)}
        for name, value in traced.items():
            if name not in numbers:
                raise RuleError(f"{type(rule).__name__} has no number {name!r}: {did_you_mean(name, numbers)}")
            if any(jnp.shape(part) for part in jax.tree.leaves(value)):
                raise RuleError(f"to_optax({name}={value!r}): {name} must be a number, or a tuple if the rule's is one")
        self._rule, self._traced, self._steps = rule, dict(traced), steps
        self._changed(traced)  # raises if it cannot be
        with jax.ensure_compile_time_eval():  # JAX's schedules give numbers then, within a function that is traced, too
            first = rule.at(1)
            own = {name: getattr(rule, name) for name in numbers - set(traced)}
            self._schedules = {name: value for name, value in own.items() if any(map(_is_jax, _parts(value)))}
        model = self._changed({name: getattr(first, name) for name in (*traced, *self._schedules)})
        row, _ = model.advance(1, model.starting())
        self.form = Form.of(model, row)
        self._constant = None if traced or rule.carried else _constant(rule)

    def start(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The carried numbers before the first step, and what each kept state starts from."""
        with jax.ensure_compile_time_eval():
            traced = self._traced_at(0)
        if not any(isinstance(value, jax.core.Tracer) for value in jax.tree.leaves(traced)):
            return jax.tree.map(jnp.asarray, self._started(traced))  # type: ignore[no-any-return]
        shape = jax.ShapeDtypeStruct((), jnp.result_type(float))
        shapes = dict.fromkeys(self._rule.carried, shape), dict.fromkeys(self.form.formula.kept, shape)
        found: tuple[dict[str, Any], dict[str, Any]] = jax.pure_callback(
            self._started, shapes, traced, vmap_method="sequential"
        )
        return found

    def scalars(self, count: Any, carried: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """A vector of the numbers of the step after `count` steps, and the carried numbers after it."""
        if self._constant is not None:
            return jnp.asarray(self._constant), carried
        if self._steps is None:
            return self._called(count, carried)
        first, moving, rows, afters = self._table

        def known() -> tuple[Any, dict[str, Any]]:
            numbers = jnp.asarray(first).at[moving].set(jnp.asarray(rows)[count])
            return numbers, {name: jnp.asarray(afters[name], b.dtype)[count] for name, b in carried.items()}

        found: tuple[Any, dict[str, Any]] = jax.lax.cond(
            count < self._steps, known, lambda: self._called(count, carried)
        )
        return found

    def _called(self, count: Any, carried: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        dtype = jnp.result_type(float)

        def call(count: Any, carried: dict[str, Any], traced: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
            numbers, after = self._advanced(int(count), carried, traced)
            return np.asarray(numbers, dtype), {name: np.asarray(after[name], b.dtype) for name, b in carried.items()}

        shapes = (
            jax.ShapeDtypeStruct((len(self.form.names),), dtype),
            {name: jax.ShapeDtypeStruct((), b.dtype) for name, b in carried.items()},
        )
        found: tuple[Any, dict[str, Any]] = jax.pure_callback(
            call, shapes, count, carried, self._traced_at(count), vmap_method="sequential"
        )
        return found

    def _traced_at(self, count: Any) -> dict[str, Any]:
        """The numbers that take the rule's place at the step after `count` steps: those traced, and JAX's schedules'.

        They are JAX's own computations, which the host must not start while a compiled program waits for it. None
        stands for what the host knows.
        """
        return {**self._traced, **{name: _numbers(value, count) for name, value in self._schedules.items()}}

    @functools.cached_property
    def _table(self) -> tuple[Any, Any, Any, dict[str, Any]]:
        """The numbers of the first step; where others differ; those of each step; the carried numbers after each."""
        rows, afters, carried = [], [], dict(self._rule.starting())
        for done in range(self._steps or 0):
            with jax.ensure_compile_time_eval():
                traced = self._traced_at(done)
            numbers, carried = self._advanced(done, carried, traced)
            rows.append(numbers)
            afters.append(carried)
        table = np.array(rows)
        moving = np.flatnonzero((table != table[0]).any(axis=0))
        return table[0], moving, table[:, moving], {n: np.array([after[n] for after in afters]) for n in carried}

    # ---- on the host, in float64 --------------------------------------------------------------------------------

    def _changed(self, traced: Mapping[str, Any]) -> Rule:
        """The rule with numbers in place of its own. Any number may come later: for the rule they are schedules."""
        values = {name: _schedule(value, getattr(self._rule, name)) for name, value in traced.items()}
        return dataclasses.replace(self._rule, **values)

    def _started(self, traced: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        rule = self._changed(traced)
        dtype = jnp.result_type(float)
        return (
            {name: np.asarray(value, dtype) for name, value in rule.starting().items()},
            {name: np.asarray(value, dtype) for name, value in starting_state(rule).items()},
        )

    def _advanced(
        self, done: int, carried: Mapping[str, Any], traced: Mapping[str, Any]
    ) -> tuple[list[float], dict[str, float]]:
        rule = self._changed(traced)
        row, after = rule.advance(done + 1, {name: float(value) for name, value in carried.items()})
        if Form.of(rule, row) != self.form:
            raise RuleError(
                f"{self._rule}: the scalars of step {done + 1} have other names or flags than those of step 1; "
                "a compiled step has one form: let numbers be 0.0 or 1.0"
            )
        return self.form.numbers(row), dict(after)


def _schedule(value: Any, own: Any) -> Any:
    """A schedule of that number, or a tuple of them; where None stands, what the rule has of its `own` stays."""
    if isinstance(value, (tuple, list)):
        parts = own if isinstance(own, tuple) and len(own) == len(value) else [None] * len(value)
        return tuple(map(_schedule, value, parts))
    return own if value is None else lambda _: float(value)


def _parts(value: Any) -> Any:
    return value if isinstance(value, tuple) else (value,)


def _is_jax(value: Any) -> bool:
    """Whether it is a schedule that computes with JAX, as Optax's do."""
    return callable(value) and isinstance(value(0), jax.Array)


def _numbers(value: Any, count: Any) -> Any:
    """The number of a schedule of JAX's, or a tuple of them, with None for what is none."""
    if isinstance(value, tuple):
        return tuple(_numbers(part, count) for part in value)
    return value(count) if _is_jax(value) else None


class _Unknown:
    """A step's number that is not known yet: who asks for it, in arithmetic or by a comparison, gets a `TypeError`."""

    def _asked(self, *_: Any) -> Any:
        raise TypeError("the number of the step is not known yet")

    __eq__ = __ne__ = __bool__ = __hash__ = __repr__ = __format__ = _asked


def _constant(rule: Rule) -> Any:
    """The numbers of every step, if they do not depend on it; else None."""
    unknown: Any = _Unknown()
    try:
        row, _ = rule.advance(unknown, {})
        return np.array(Form.of(rule, row).numbers(row))
    except Exception:  # whatever it is that a rule or a schedule cannot do without
        return None
