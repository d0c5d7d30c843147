"""The fused engine: a rule's formula as machine code, over all parameters in one call."""

from descend.engines.native.engine import Fused
from descend.engines.native.kernels import Unavailable
from descend.engines.native.workers import threads, usable_cores

__all__ = ["Fused", "Unavailable", "threads", "usable_cores"]
