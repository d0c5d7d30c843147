"""A tracer: what the symbolic values of one run of a formula share, and how such a run fails."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from descend.errors import RuleError
from descend.rules.tracing.graph import DOUBLE, FLAG, NUMBER, WEAK, Graph, Node, promoted

__all__ = ["Fork", "Refused", "Tracer", "Untraceable"]


class Refused(RuleError):
    """A formula does what no rule may; the message begins with a verb."""


class Untraceable(Exception):
    """What a formula does cannot be seen without its numbers; the message begins with a verb."""


class Fork(BaseException):
    """A formula asks whether a number of the step holds; no user's ``except Exception`` may answer."""

    def __init__(self, condition: Node) -> None:
        super().__init__()
        self.condition = condition


class Tracer:
    """What the symbolic values of one run of a formula share: the graph, and what was found out.

    `answers` are those to questions about numbers of the step, such as ``if s.late``; another question is a `Fork`.
    """

    def __init__(self, graph: Graph, symbolic: Callable[[Tracer, Node], Any], answers: Mapping[Node, bool]) -> None:
        self.graph = graph
        self._symbolic = symbolic
        self.answers = answers
        self.failure: BaseException | None = None

    def fail(self, failure: BaseException) -> BaseException:
        """Take note of a failure, so that a formula that catches it has failed all the same."""
        self.failure = self.failure or failure
        return failure

    def refuse(self, what: str) -> BaseException:
        """The error about something that is not elementwise."""
        return self.fail(
            Refused(
                f"{what}: update is elementwise, and engines run it on parts of an array and on many arrays at once. "
                'A rule that needs whole tensors (a norm, a sum, a shape) is of another kind, scope = "tensor", which '
                "is not built yet"
            )
        )

    def value(self, node: Node) -> Any:
        """The symbolic value that a node is for."""
        return self._symbolic(self, node)

    def make(self, operation: str, *operands: Any, kind: str | None = None) -> Any:
        """The value of an operation; of the kind that its operands give, unless told."""
        nodes = tuple(self.node(operand) for operand in operands)
        return self.value(self.graph.node(operation, kind or promoted(n.kind for n in nodes), nodes))

    def constant(self, value: Any, kind: str) -> Any:
        """A number that is written in the formula."""
        return self.value(self.graph.node("constant", kind, given=value))

    def node(self, value: Any) -> Node:
        """The node of an operand."""
        node = getattr(value, "node", None)
        if isinstance(node, Node):
            return node
        if isinstance(value, np.ndarray) and value.ndim:
            raise self.refuse(f"meets an array of shape {value.shape} that it did not get")
        if isinstance(value, (np.generic, np.ndarray)):
            return self._numpy_number(value)
        if isinstance(value, bool):
            return self.graph.node("constant", FLAG, given=value)
        if isinstance(value, (int, float)):
            try:
                return self.graph.node("constant", WEAK, given=float(value))
            except OverflowError:
                pass
        raise self.fail(Untraceable(f"computes with {value!r}"))

    def _numpy_number(self, value: Any) -> Node:
        """A number of NumPy's, which, unlike one of Python's, keeps its format."""
        name = value.dtype.name
        if name == "bool":
            return self.graph.node("constant", FLAG, given=bool(value))
        if name == "float64" or (value.dtype.kind in "iu" and value.dtype.itemsize >= 4):
            return self.graph.node("constant", DOUBLE, given=float(value))
        return self.graph.node(f"a NumPy number of {name}", NUMBER, given=float(value))
