"""Patches and tokens are cut and put together again without loss."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astropile.errors import SampleError
from astropile.transforms.tokens import (
    QuantileBins,
    image_patches,
    join_image_patches,
    join_sequence_patches,
    light_curve_tokens,
    sequence_patches,
)


@settings(deadline=None)
@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.booleans())
def test_images_come_back_bit_for_bit(size, rows, columns, bands, batch):
    """Patches put together are the image, NaN and all; every value is in exactly one."""
    shape = (2,) * batch + (bands, rows * size, columns * size)
    image = np.random.default_rng(0).permutation(np.prod(shape)).reshape(shape).astype("f4")
    image.flat[0] = np.nan
    patches = image_patches(image, size)
    assert patches.shape == (*shape[:-3], rows * columns, bands * size * size)
    back = join_image_patches(patches, size, height=rows * size, width=columns * size)
    assert back.dtype == image.dtype
    np.testing.assert_array_equal(back, image)
    np.testing.assert_array_equal(np.sort(patches, axis=None), np.sort(image, axis=None))


def test_order_of_a_patch():
    """The second patch of two bands is the upper right corner, band after band, row after row."""
    image = np.arange(32).reshape(2, 4, 4)
    assert image_patches(image, 2)[1].tolist() == [2, 3, 6, 7, 18, 19, 22, 23]


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 12), st.data())
def test_sequences_come_back(length, size, data):
    """Overlapping patches cover all values, the last one too, and their mean is the sequence."""
    step = data.draw(st.integers(1, size))
    values = np.random.default_rng(length).normal(size=(3, length))
    patches, padding = sequence_patches(values, size, step=step)
    back = join_sequence_patches(patches, length=length, step=step)
    np.testing.assert_allclose(back, values, rtol=1e-14)
    assert not patches[:, padding].any()
    assert not padding[:, 0].any() or length == 0
    if len(padding) > 1:  # one patch fewer would not reach the end
        assert (len(padding) - 2) * step + size < length


def test_torch_gives_the_same():
    """Tensors give what arrays give."""
    torch = pytest.importorskip("torch")
    image = np.arange(2 * 3 * 8 * 4).reshape(2, 3, 8, 4)
    theirs = image_patches(torch.tensor(image), 4)
    np.testing.assert_array_equal(theirs, image_patches(image, 4))
    np.testing.assert_array_equal(join_image_patches(theirs, 4, height=8, width=4), image)
    row = np.arange(10.0)
    patches, padding = sequence_patches(torch.tensor(row), 4, step=3)
    np.testing.assert_array_equal(patches, sequence_patches(row, 4, step=3)[0])
    assert padding.dtype == torch.bool
    np.testing.assert_array_equal(join_sequence_patches(patches, length=10, step=3), row)


def test_light_curve_tokens():
    """Measurements are in order of time, with the number of their band."""
    values, number = light_curve_tokens(
        [3.0, 1.0], ["r", "g"], [10.0, 20.0], [1.0, 2.0], bands=("g", "r", "i")
    )
    assert values.tolist() == [[1, 20, 2], [3, 10, 1]]
    assert number.tolist() == [0, 1]


@settings(deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60), st.integers(1, 12))
def test_tokens_of_numbers(sample, n_bins):
    """Tokens increase with values, are all used, and decoded they give the same token again."""
    bins = QuantileBins.fit(sample, n_bins)
    assert bins.centers.size == bins.edges.size + 1 <= n_bins
    tokens = bins.encode(np.sort(sample))
    assert (np.diff(tokens) >= 0).all()
    assert set(tokens.tolist()) == set(range(bins.centers.size))
    np.testing.assert_array_equal(bins.encode(bins.decode(tokens)), tokens)


def test_bins_hold_equally_many():
    """Of 1,000 different values ten bins hold 100 each; NaN does not count."""
    sample = np.append(np.random.default_rng(0).lognormal(size=1000), np.nan)
    tokens = QuantileBins.fit(sample, 10).encode(sample[:-1])
    assert np.bincount(tokens).tolist() == [100] * 10


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: image_patches(np.ones((1, 4, 6)), 4), "divisor"),
        (lambda: join_image_patches(np.ones((3, 4)), 2, height=4, width=4), "3 patches"),
        (lambda: join_image_patches(np.ones((4, 5)), 2, height=4, width=4), "multiple of 4"),
        (lambda: sequence_patches(np.ones(5), 2, step=3), "1 to 2"),
        (lambda: sequence_patches(np.ones(0), 2), "1 value"),
        (lambda: join_sequence_patches(np.ones((2, 3)), length=7), "7 values"),
        (lambda: light_curve_tokens([1], ["y"], [1], [1], bands=("g",)), "one of g"),
        (lambda: light_curve_tokens([1, 2], ["g"], [1, 2], [1, 2], bands=("g",)), "band"),
        (lambda: QuantileBins.fit([np.nan], 3), "finite"),
        (lambda: QuantileBins.fit([1.0], 1).encode([np.nan]), "NaN"),
        (lambda: QuantileBins.fit([1.0], 1).decode([1]), "0 to 0"),
    ],
)
def test_errors_say_what_was_expected(call, words):
    """Every bad argument is an error that says what it should be."""
    with pytest.raises(SampleError, match=words):
        call()
