"""Tracing: what a rule's formula computes, as a graph, from one run of it on symbolic values.

`graph` is what comes of it, `symbolic` and `operations` are what a formula is run on, `tracer` is what they share,
`trace` runs a rule's step, and `effects` finds out whether it does more than compute.
"""

from descend.rules.tracing.trace import TracedFormula, can_be_split, check, trace
from descend.rules.tracing.tracer import Untraceable

__all__ = ["TracedFormula", "Untraceable", "can_be_split", "check", "trace"]
