"""The objective and its gradient, from whatever source, and the check of one."""

from descend.objectives.gradient_check import GradientCheck, check
from descend.objectives.objective import Objective

__all__ = ["GradientCheck", "Objective", "check"]
