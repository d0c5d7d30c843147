"""The fused engine: a rule's formula as machine code, over all parameters in one call."""

from descend.engines.fused.engine import Fused
from descend.engines.fused.kernels import Unavailable
from descend.engines.fused.launching import threads

__all__ = ["Fused", "Unavailable", "threads"]
