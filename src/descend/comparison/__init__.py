"""Comparing optimizers as an experiment: a plan, runs, statistics, a report.

`descend.compare` is the door to it. A comparison is a planned experiment over rules × hyperparameters × seeds; a run is
one descent of it; the store is its SQLite file.
"""

from descend.comparison.experiment import compare
from descend.comparison.judging.choice import Sensitivity
from descend.comparison.judging.profiles import Profile
from descend.comparison.judging.results import EntryResult
from descend.comparison.judging.standings import Standing
from descend.comparison.judging.target import Target
from descend.comparison.options import CompareOptions
from descend.comparison.planning.entries import DEFAULT_ENTRIES, Entry
from descend.comparison.planning.plan import Plan
from descend.comparison.planning.spaces import Choice, LogUniform, Uniform
from descend.comparison.reporting.comparison import Comparison
from descend.comparison.running.runs import Run
from descend.comparison.suite import Suite, compare_all
from descend.intervals import Interval

__all__ = [
    "DEFAULT_ENTRIES",
    "Choice",
    "CompareOptions",
    "Comparison",
    "Entry",
    "EntryResult",
    "Interval",
    "LogUniform",
    "Plan",
    "Profile",
    "Run",
    "Sensitivity",
    "Standing",
    "Suite",
    "Target",
    "Uniform",
    "compare",
    "compare_all",
]
