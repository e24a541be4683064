"""
Train, validation and test sets by patches of sky, and how to tell that they do not leak.

The same patch of sky is in the same set in every survey and every match. `docs/how-to/splits.md`
shows it at work.
"""

from astropile.splits.audit import Sample, SplitAudit, audit_splits, samples_of
from astropile.splits.duplicates import Duplicates, find_duplicates
from astropile.splits.sky import Assignment, SkySplits, split_dataset, split_match

__all__ = [
    "Assignment",
    "Duplicates",
    "Sample",
    "SkySplits",
    "SplitAudit",
    "audit_splits",
    "find_duplicates",
    "samples_of",
    "split_dataset",
    "split_match",
]
