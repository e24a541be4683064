"""Numbers to Arrow and back."""

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from astropile.arrow import Block, to_arrow, to_numpy


@given(
    st.lists(st.booleans(), max_size=70),
    st.integers(0, 20),
    st.integers(0, 60),
)
def test_flags_keep_their_places(flags, start, length):
    """Flags come back as they went, also of a part that begins in the middle of a byte."""
    flags = np.array(flags, bool)
    array = to_arrow(Block(len(flags), flags, ()))
    assert array.equals(pa.array(flags))
    array.validate(full=True)
    back = to_numpy(array.slice(start, length))
    assert back.dtype == bool
    np.testing.assert_array_equal(back, flags[start : start + length])


@given(st.integers(0, 5), st.integers(1, 4), st.integers(1, 9), st.integers(0, 4))
def test_flags_of_images(n, n_y, n_x, start):
    """An image of flags per object keeps shape and values, from any object on."""
    flags = np.random.default_rng(n).random((n, n_y, n_x)) < 0.5
    array = to_arrow(Block(n, flags.reshape(-1), (n_y, n_x)))
    for given_, found in zip(flags[start:], to_numpy(array.slice(start)), strict=True):
        np.testing.assert_array_equal(found, given_)
