"""The objective and its gradient, from whatever source, and the check of one."""

from descend.objectives.objective import GradientCheck, Objective, check

__all__ = ["GradientCheck", "Objective", "check"]
