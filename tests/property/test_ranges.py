"""Merged ranges give back the same bytes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from astropile.store.ranges import merge_ranges

pieces = st.lists(st.tuples(st.integers(0, 500), st.integers(0, 60)), max_size=40)


@given(pieces, st.integers(0, 100))
def test_merged_ranges_hold_the_pieces(wanted, gap):
    """Every piece is found in its range, whatever the order, overlaps and repeats."""
    data = np.random.default_rng(0).integers(0, 256, 600).astype(np.uint8)
    starts = np.array([start for start, _ in wanted], np.int64)
    lengths = np.array([length for _, length in wanted], np.int64)
    plan = merge_ranges(starts, lengths, gap=gap)
    ranges = [
        data[start : start + length]
        for start, length in zip(plan.starts, plan.lengths, strict=True)
    ]
    for piece, (start, length) in enumerate(wanted):
        within = ranges[plan.range_of[piece]][plan.offset_of[piece] :][:length]
        np.testing.assert_array_equal(within, data[start : start + length])
    ends = plan.starts + plan.lengths
    assert (plan.starts[1:] > ends[:-1] + gap).all()


@given(pieces)
def test_no_byte_twice_and_none_for_nothing(wanted):
    """With no gap allowed, the bytes read are exactly those some piece needs."""
    plan = merge_ranges([s for s, _ in wanted], [n for _, n in wanted], gap=0)
    needed = {byte for start, length in wanted for byte in range(start, start + length)}
    assert plan.n_bytes == len(needed)


def test_negative():
    """A piece before the file is refused."""
    with pytest.raises(ValueError, match="before byte 0"):
        merge_ranges([-1], [5])
