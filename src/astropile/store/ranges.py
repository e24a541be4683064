"""
Plan which bytes to read: pure arithmetic, no file is touched.

Plan and act are apart: a plan is made here from the places of the pieces wanted, and carried
out by whoever reads (`astropile.store.local`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class RangePlan:
    """
    Which ranges to read so that every piece wanted lies in one of them.

    Parameters
    ----------
    starts, lengths : ndarray, shape (n_ranges,), int64
        The ranges, sorted, apart from one another.
    range_of : ndarray, shape (n_pieces,), int64
        The range that holds each piece.
    offset_of : ndarray, shape (n_pieces,), int64
        Where each piece starts in its range.
    """

    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    range_of: NDArray[np.int64]
    offset_of: NDArray[np.int64]

    @property
    def n_bytes(self) -> int:
        """Bytes that the ranges hold."""
        return int(self.lengths.sum())


def merge_ranges(starts: ArrayLike, lengths: ArrayLike, *, gap: int = 0) -> RangePlan:
    """
    Merge pieces into ranges.

    Parameters
    ----------
    starts, lengths : array_like, shape (n_pieces,), int64
        First byte and length of each piece, in any order; pieces may overlap or repeat.
    gap : int
        Pieces with at most this many bytes between them are read together.

    Returns
    -------
    RangePlan
        The ranges. A piece without length lies in some range, or, if all are so, in none.

    Raises
    ------
    ValueError
        If a start or a length is negative.

    Examples
    --------
    >>> plan = merge_ranges([100, 0, 110], [10, 5, 10], gap=0)
    >>> plan.starts, plan.lengths, plan.range_of, plan.offset_of
    (array([  0, 100]), array([ 5, 20]), array([1, 0, 1]), array([ 0,  0, 10]))
    """
    first = np.asarray(starts, np.int64)
    size = np.asarray(lengths, np.int64)
    if len(first) and (first.min() < 0 or size.min() < 0):
        raise ValueError("a piece cannot start or end before byte 0")
    if not len(first):
        empty = np.empty(0, np.int64)
        return RangePlan(empty, empty, empty, empty)
    order = np.argsort(first, kind="stable")
    begin = first[order]
    reach = np.maximum.accumulate(begin + size[order])
    new = np.concatenate(([True], begin[1:] > reach[:-1] + gap))
    range_sorted = np.cumsum(new) - 1
    heads = np.flatnonzero(new)
    range_starts = begin[heads]
    range_ends = reach[np.concatenate((heads[1:] - 1, [len(begin) - 1]))]
    range_of = np.empty(len(first), np.int64)
    range_of[order] = range_sorted
    return RangePlan(
        range_starts, range_ends - range_starts, range_of, first - range_starts[range_of]
    )
