"""
Statistics of a tree's fields, gathered in one pass, mergeable, kept with the tree.

`docs/how-to/statistics.md` shows it at work.
"""

from astropile.statistics.compute import compute_statistics
from astropile.statistics.moments import Moments
from astropile.statistics.sketch import QuantileSketch
from astropile.statistics.store import (
    open_statistics,
    save_statistics,
    statistics_path,
    update_statistics,
)
from astropile.statistics.summary import FieldStatistics, Scaling, Statistic, Statistics

__all__ = [
    "FieldStatistics",
    "Moments",
    "QuantileSketch",
    "Scaling",
    "Statistic",
    "Statistics",
    "compute_statistics",
    "open_statistics",
    "save_statistics",
    "statistics_path",
    "update_statistics",
]
