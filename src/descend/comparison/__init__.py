"""Comparing optimizers as an experiment: a plan, runs, statistics, a report.

`descend.compare` is the door to it. A comparison is a planned experiment over rules × learning rates × seeds; a run is
one descent of it; the store is its SQLite file.
"""

from descend.comparison.experiment import compare
from descend.comparison.outcome import Comparison
from descend.comparison.plan import DEFAULT_ENTRIES, Entry, Plan
from descend.comparison.runs import Run
from descend.comparison.statistics import Row, Sensitivity
from descend.intervals import Interval

__all__ = ["DEFAULT_ENTRIES", "Comparison", "Entry", "Interval", "Plan", "Row", "Run", "Sensitivity", "compare"]
