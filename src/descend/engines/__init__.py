"""Who runs a rule over memory.

An engine takes a rule and some memory, and steps it. There is one so far: `Reference`, the rule itself on NumPy
arrays. It is the oracle of every engine to come.
"""

from descend.engines.fused import Fused
from descend.engines.reference import Reference, run

__all__ = ["Fused", "Reference", "run"]
