"""The JAX engine: the rule itself on JAX arrays, compiled once, its numbers being arguments."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from descend.engines.protocol import Capabilities
from descend.errors import ParameterError
from descend.rules import Rule
from descend.rules.formula import Form, check_state, scale_of, starting_state

__all__ = ["Jax", "check_params", "filled", "stepped"]


def check_params(params: Any) -> None:
    """Raise `ParameterError` unless every leaf is a JAX array of a real floating-point type."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if not isinstance(leaf, jax.Array) or not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise ParameterError(
                f"params{jax.tree_util.keystr(path)} is {leaf!r}: a JAX array of a real floating-point type is needed"
            )


def filled(starts: Mapping[str, Any], params: Any) -> dict[str, Any]:
    """Name of a state → a pytree like `params`, each in memory of its own, from the number that each starts from.

    In place of 16 bits or less state has 32: averages of squares vanish in fewer.
    """

    def full(p: Any, x: Any) -> Any:
        return jnp.full_like(p, x, dtype=arithmetic(p))

    return {name: jax.tree.map(lambda p, x=x: full(p, x), params) for name, x in starts.items()}


def arithmetic(p: Any) -> Any:
    """The type in which an array is stepped."""
    return p.dtype if p.dtype.itemsize >= 4 else np.dtype(np.float32)


def stepped(
    form: Form, params: Sequence[Any], grads: Sequence[Any], state: Mapping[str, Sequence[Any]], numbers: Any
) -> tuple[list[Any], dict[str, list[Any]]]:
    """One step of a list of arrays, from a vector of the step's numbers: new parameters and new state, as traced.

    Numbers of 16 bits or less are computed with 32; what comes out has the type of what went in.
    """
    kept = form.formula.kept
    rows: dict[Any, Any] = {}
    results: list[tuple[Any, ...]] = []
    for p, g, *old in zip(params, grads, *(state[name] for name in kept), strict=True):
        wide = arithmetic(p)
        if wide not in rows:
            rows[wide] = form.row([numbers[i].astype(wide) for i in range(len(form.names))])
        new = _step(form, p.astype(wide), g.astype(wide), [array.astype(wide) for array in old], rows[wide])
        results.append(tuple(n.astype(o.dtype) for n, o in zip(new, (p, *old), strict=True)))
    columns = list(zip(*results, strict=True)) or [()] * (1 + len(kept))
    return list(columns[0]), {name: list(column) for name, column in zip(kept, columns[1:], strict=True)}


def _step(form: Form, p: Any, g: Any, kept: list[Any], row: Any) -> tuple[Any, ...]:
    def scale(masks: Any) -> Any:
        return scale_of(sum(map(jnp.count_nonzero, masks)).astype(p.dtype), p.size)

    return form.formula.step(p, g, kept, form.formula.reduced(row, [(p, g, kept)], scale))


class Jax:
    """Runs a rule over JAX arrays, on the device where they are.

    Parameters
    ----------
    rule
        The rule to run. It may be replaced between steps by one with other numbers, such as another `lr`.
    params
        A JAX array, or any pytree of them, of a real floating-point type. They are copied.

    Attributes
    ----------
    params
        The parameters now, in the container in which they were given.
    state
        Name of a state → a pytree built like `params`.
    carried
        The carried numbers of the rule.
    steps
        How many steps were done.

    A step is compiled once for each rule class, its flags, and the shapes of the parameters. The scalars are computed
    on the host in float64, and are arguments of what is compiled: schedules, and another `lr`, compile nothing anew.
    A step is not waited for. It takes over the memory of parameters and state: the arrays that `params` and `state`
    held before it are gone (`jax.numpy.copy` keeps one).

    State has the type of its parameter. Parameters of float16 and bfloat16 are stepped in float32, and rounded; their
    state is of float32. Arrays of float64 want `jax.enable_x64` around each step, as everywhere in JAX.

    Examples
    --------
    >>> import jax.numpy as jnp, descend
    >>> engine = descend.engines.Jax(descend.GD(lr=0.5), {"w": jnp.array([1.0, 2.0])})
    >>> engine.step({"w": jnp.array([2.0, -2.0])})
    >>> engine.params
    {'w': Array([0., 3.], dtype=float32)}
    """

    can: ClassVar[Capabilities] = Capabilities(
        "JAX",
        ("float16", "bfloat16", "float32", "float64"),
        devices="any",
        in_place=False,
        compiled=True,
        exact=False,
    )

    def __init__(self, rule: Rule, params: Any) -> None:
        check_params(params)
        self.rule = rule
        self.params = jax.tree.map(lambda p: jnp.array(p, dtype=p.dtype, copy=True), params)
        self.state: dict[str, Any] = filled(starting_state(rule), self.params)
        self.carried = dict(rule.starting())
        self.steps = 0

    def step(self, grads: Any) -> None:
        """One step of every parameter along its gradient; `grads` is built like the parameters."""
        grads = self._matched(grads)
        row, after = self.rule.advance(self.steps + 1, self.carried)
        form = Form.of(self.rule, row)
        check_state(self.rule, self.state)
        numbers = np.asarray(form.numbers(row), jnp.result_type(float))
        self.params, self.state = _compiled(form, self.params, self.state, grads, numbers)
        self.steps += 1
        self.carried = dict(after)

    def _matched(self, grads: Any) -> list[Any]:
        leaves, built = jax.tree.flatten(self.params)
        try:
            given: list[Any] = built.flatten_up_to(grads)
        except (TypeError, ValueError) as error:
            raise ParameterError(f"the gradients are not built like the parameters ({built}): {error}") from None
        own = {id(leaf) for leaf in (*leaves, *jax.tree.leaves(self.state))}
        for i, (p, g) in enumerate(zip(leaves, given, strict=True)):
            if not hasattr(g, "dtype") or not jnp.isrealobj(g) or g.dtype == object:
                raise ParameterError(f"a gradient is {g!r}: an array of real numbers is needed")
            if p.shape != g.shape:
                raise ParameterError(f"a gradient of shape {g.shape} for a parameter of shape {p.shape}")
            if id(g) in own:  # the step takes over its memory
                given[i] = jnp.copy(g)
        return given


@functools.partial(jax.jit, static_argnums=0, donate_argnums=(1, 2))
def _compiled(form: Form, params: Any, state: dict[str, Any], grads: list[Any], numbers: Any) -> tuple[Any, Any]:
    leaves, built = jax.tree.flatten(params)
    old = {name: jax.tree.leaves(tree) for name, tree in state.items()}
    new_params, new_state = stepped(form, leaves, grads, old, numbers)
    return built.unflatten(new_params), {name: built.unflatten(new) for name, new in new_state.items()}
