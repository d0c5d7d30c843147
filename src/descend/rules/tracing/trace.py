"""Tracing: a rule's step run once on symbolic values, which gives the graph of what it computes.

    >>> import descend
    >>> from descend.rules.tracing import trace
    >>> print(trace(descend.GD()).text)
    %0 = number array('p')
    %1 = weak scalar('lr')
    %2 = number array('g')
    %3 = number multiply(%1, %2)
    %4 = number subtract(%0, %3)
    p <- %4

A trace takes a tenth of a millisecond, so engines trace whenever they are made: a formula that reads a global which has
changed gives another graph.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from descend.errors import RuleError
from descend.rules.step import cautious_mask, number_names, step
from descend.rules.tracing import graph
from descend.rules.tracing.effects import side_effect
from descend.rules.tracing.graph import DOUBLE, FLAG, WEAK, Graph, Node, promoted
from descend.rules.tracing.symbolic import Symbolic
from descend.rules.tracing.tracer import Fork, Refused, Tracer, Untraceable

if TYPE_CHECKING:
    from descend.rules.rule import Rule

__all__ = ["TracedFormula", "can_be_split", "check", "trace"]

_MASK = "the mask"
"""What the mask is called among the outputs; no state can be called so."""
QUESTIONS = 6
"""How many questions about numbers of the step, such as ``if s.late``, a formula may ask and still be traced."""


@dataclasses.dataclass(frozen=True)
class TracedFormula:
    """What a step of a rule computes, with the flags and the state that its settings have.

    Parameters
    ----------
    name
        How errors call it: the rule's name and ``update``.
    scalars
        The names of the numbers of a row; the flags are part of the graph.
    kept
        The names of the state.
    outputs
        The new parameter, and the new state by the names in `kept`.
    mask
        Where a cautious step will move; None for a rule that is not cautious.
    """

    name: str
    scalars: tuple[str, ...]
    kept: tuple[str, ...]
    outputs: tuple[tuple[str, Node], ...]
    mask: Node | None

    @functools.cached_property
    def text(self) -> str:
        """The graph of the outputs, spelled out; see `graph.text`."""
        return graph.text(self.outputs)

    @functools.cached_property
    def mask_text(self) -> str:
        """The graph of the mask, spelled out."""
        return "" if self.mask is None else graph.text([("mask", self.mask)])


def trace(rule: Rule) -> TracedFormula:
    """What a step of this rule computes.

    Raises `RuleError` for a formula that no rule may have, and `Untraceable` for one that cannot be traced, or that
    does more than compute.
    """
    name, row, names = _inputs(rule)
    with _named(name):
        _require_no_effect(rule, row, names)
        outputs, mask = _traced(rule, row, names)
    return TracedFormula(name, names, rule.kept_state(), outputs, mask)


def check(rule: Rule) -> None:
    """Raise `RuleError` for a formula that no rule may have, as it is with this rule's settings."""
    name, row, names = _inputs(rule)
    with contextlib.suppress(Untraceable), _named(name):
        _require_no_effect(rule, row, names)


def can_be_split(rule: Rule, row: Any = None) -> bool:
    """Whether a step may be computed part by part, since it is known to be elementwise.

    Without a row, for any of its numbers; with one, for those. Raises `RuleError` for a formula that no rule may have.
    """
    try:
        if row is None:
            trace(rule)
            return True
        with _named(f"{type(rule).__name__}.update"):
            _require_no_effect(rule, row, ())
            _traced(rule, row, ())
    except Untraceable:
        return False
    return True


def _inputs(rule: Rule) -> tuple[str, Any, tuple[str, ...]]:
    """How errors call a rule's formula, a row of scalars, and which of these are numbers."""
    row, flags = rule.sample_row(), dict(rule.flags)
    return f"{type(rule).__name__}.update", row, number_names(row, flags)


def _require_no_effect(rule: Rule, row: Any, names: tuple[str, ...]) -> None:
    """Raise `Untraceable` if the formula does more than compute."""
    settings = (rule.flags, rule.kept_state(), row._fields, names)
    effect = side_effect(type(rule).update, settings, lambda: _traced(rule, row, names))
    if effect is not None:
        raise Untraceable(effect)


class _named:  # noqa: N801  # a context manager
    """Lets what goes wrong with a formula begin with its name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if isinstance(error, Refused):
            raise RuleError(f"{self.name} {error}") from error
        if isinstance(error, Untraceable):
            raise Untraceable(f"{self.name} {error}") from error


def _traced(rule: Rule, row: Any, names: tuple[str, ...]) -> tuple[tuple[tuple[str, Node], ...], Node | None]:
    """The outputs of a step, and where a cautious one will move; the numbers of these names are symbolic."""
    kind, kept, shared = type(rule), rule.kept_state(), Graph()

    def run(tracer: Tracer) -> dict[str, Node]:
        given = functools.partial(_input, tracer)
        s = row._replace(**{name: Symbolic(tracer, shared.node("scalar", WEAK, given=name)) for name in names})
        state = tuple(given(name) if name in kept else None for name in rule.state)
        outputs = _checked(rule, tracer, step(kind, given("p"), given("g"), state, s))
        if row.cautious:
            outputs[_MASK] = tracer.node(cautious_mask(kind, given("p"), given("g"), state, s))
        return outputs

    outputs = _all_paths(run, shared, {})
    mask = outputs.pop(_MASK, None)
    return tuple(outputs.items()), mask


def _input(tracer: Tracer, name: str) -> Symbolic:
    return Symbolic(tracer, tracer.graph.node("array", graph.NUMBER, given=name))


def _checked(rule: Rule, tracer: Tracer, new: tuple[Any, ...]) -> dict[str, Node]:
    """The nodes of what a step returned, by name: the parameter and the state that is kept."""
    count = len(rule.state)
    if len(new) != 1 + count:
        wanted = f"the new p and the new {', '.join(rule.state)}" if count else "the new p"
        raise tracer.fail(Refused(f"returns {len(new)} values: {wanted} are needed, in this order"))
    outputs = {}
    for name, value in zip(("p", *rule.state), new, strict=True):
        if name != "p" and name not in rule.kept_state():
            continue
        if value is None or isinstance(value, (list, tuple, dict, set, str)):
            wanted = "what the operators make of its arguments is needed"
            raise tracer.fail(Refused(f"returns {value!r} for {name}: {wanted}"))
        outputs[name] = tracer.node(value)
    return outputs


def _all_paths(
    run: Callable[[Tracer], dict[str, Node]], shared: Graph, answers: Mapping[Node, bool]
) -> dict[str, Node]:
    """The outputs of a formula that may ask questions about numbers of the step: those of each answer, and a choice."""
    tracer = Tracer(shared, Symbolic, answers)
    try:
        outputs = run(tracer)
    except (Exception, Fork) as error:
        failure = tracer.failure or error
    else:
        if tracer.failure is None:
            return outputs
        failure = tracer.failure
    if isinstance(failure, Fork) and len(answers) < QUESTIONS:
        condition = failure.condition
        yes, no = (_all_paths(run, shared, {**answers, condition: answer}) for answer in (True, False))
        return {name: _chosen(shared, condition, yes[name], no[name]) for name in yes}
    if isinstance(failure, (Refused, Untraceable)):
        raise failure
    if isinstance(failure, Fork):
        raise Untraceable(f"asks more than {QUESTIONS} questions about the numbers of a step")
    when = ", for some numbers of a step" if answers else ""
    raise Untraceable(f"raises {type(failure).__name__}: {failure}{when}") from failure


def _chosen(shared: Graph, condition: Node, yes: Node, no: Node) -> Node:
    """One of two nodes, by a condition that is the same for all entries."""
    if yes is no:
        return yes
    if condition.kind != FLAG:
        condition = shared.node("not_equal", FLAG, (condition, shared.node("constant", WEAK, given=0.0)))
    kind = promoted((yes.kind, no.kind))
    return shared.node("select", DOUBLE if DOUBLE in (yes.kind, no.kind) else kind, (condition, yes, no))
