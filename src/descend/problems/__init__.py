"""What is minimised: built-in problems on real data, functions with known minima, and the user's own.

>>> from descend import problems
>>> problems.load("digits")
<Problem digits: 1078 training examples, metric accuracy>
>>> problems.load("quadratic:condition=1000,dimension=2").optimum
0.0
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from descend.problems.datasets import load_arrays
from descend.problems.functions import beale, booth, deep_quadratic, himmelblau, quadratic, rosenbrock, saddle
from descend.problems.problem import Problem, ProblemInstance
from descend.problems.real import breast_cancer, characters, cnn, diabetes, digits, digits_softmax, mnist
from descend.problems.registry import BUILT_IN, FILE_MODULE, describe, load
from descend.problems.splits import Split

if TYPE_CHECKING:
    from descend.problems.torch_problem import TorchProblem

__all__ = [
    "BUILT_IN",
    "FILE_MODULE",
    "Problem",
    "ProblemInstance",
    "Split",
    "TorchProblem",
    "beale",
    "booth",
    "breast_cancer",
    "characters",
    "cnn",
    "deep_quadratic",
    "describe",
    "diabetes",
    "digits",
    "digits_softmax",
    "himmelblau",
    "load",
    "load_arrays",
    "mnist",
    "quadratic",
    "rosenbrock",
    "saddle",
]


def __getattr__(name: str) -> Any:
    if name != "TorchProblem":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from descend.errors import MissingExtra

    try:
        from descend.problems.torch_problem import TorchProblem
    except ImportError as error:
        if error.name != "torch":
            raise
        raise MissingExtra("torch", "torch", "TorchProblem") from None
    return TorchProblem
