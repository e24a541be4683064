"""Stretches and pictures; numbers a reader can check."""

import numpy as np
import pytest
from astropy.visualization import make_lupton_rgb
from numpy.testing import assert_allclose, assert_array_equal

from astropile.errors import SampleError
from astropile.transforms.images import (
    Image,
    arcsinh_stretch,
    arcsinh_unstretch,
    lupton_rgb,
    percentile_limits,
    percentile_stretch,
    scale_bands,
    unscale_bands,
)


def star(shape, place, sigma=2.0, flux=100.0):
    """A round Gaussian."""
    row, column = np.indices(shape)
    distance = (row - place[0]) ** 2 + (column - place[1]) ** 2
    return flux * np.exp(-distance / (2 * sigma**2)) / (2 * np.pi * sigma**2)


def test_lupton_is_that_of_astropy():
    """The bytes of three noisy bands are those of make_lupton_rgb, but for one step of rounding."""
    rng = np.random.default_rng(7)
    bands = [
        star((40, 50), (20, 25), 4.0, flux) + rng.normal(size=(40, 50)) for flux in (9e3, 5e3, 2e3)
    ]
    for options in ({}, {"stretch": 0.5, "Q": 10}, {"minimum": [-1.0, 0.0, 0.5]}):
        theirs = make_lupton_rgb(*bands, **options)
        ours = lupton_rgb(*bands, **{key.lower(): value for key, value in options.items()})
        assert ours.dtype == np.uint8
        difference = np.abs(ours.astype(int) - theirs)
        assert difference.max() <= 1
        assert (difference > 0).mean() < 1e-3
        assert len(np.unique(ours)) > 50
    mask = np.zeros((40, 50), bool)
    mask[20, 25] = True
    assert not lupton_rgb(*bands, mask=mask)[20, 25].any()


def test_lupton_keeps_colours():
    """Where no band is clipped, ratios of bands are those of fluxes."""
    bands = [star((9, 9), (4, 4), 2.0, flux) for flux in (90.0, 60.0, 30.0)]
    rgb = lupton_rgb(*bands, as_bytes=False)
    assert_allclose(rgb[..., 0] / rgb[..., 2], 3, rtol=1e-12)
    assert_allclose(rgb[..., 1] / rgb[..., 2], 2, rtol=1e-12)


def test_percentiles_are_those_of_good_pixels():
    """The limits are numpy's percentiles of good pixels; the stretch brings them to 0 and 1."""
    rng = np.random.default_rng(8)
    flux = rng.normal(size=(3, 2, 11, 13))
    mask = rng.random(flux.shape) > 0.7
    flux[0, 0, 0, 0], mask[0, 0, 0, 0] = np.nan, False
    flux[2, 1], mask[1, 1] = 4.0, True
    low, high = percentile_limits(Image(flux, mask=mask), 2, 97.3)
    for place in np.ndindex(3, 2):
        good = flux[place][~mask[place] & np.isfinite(flux[place])]
        wanted = np.percentile(good, [2, 97.3]) if good.size else [np.nan] * 2
        assert_allclose([low[place], high[place]], wanted, rtol=1e-12)
    new = percentile_stretch(Image(flux, np.ones_like(flux), mask), 2, 97.3, clip=False)
    assert_allclose(new.flux[0, 1], (flux[0, 1] - low[0, 1]) / (high[0, 1] - low[0, 1]))
    assert_allclose(new.ivar[0, 1], (high[0, 1] - low[0, 1]) ** 2)
    for empty in ((1, 1), (2, 1)):
        assert not new.flux[empty].any()
        assert not new.ivar[empty].any()
    shown = percentile_stretch(Image(np.nan_to_num(flux)), 2, 97.3).flux
    assert shown.min() == 0
    assert shown.max() == 1


def test_bands_have_their_own_scale():
    """Each band is moved and divided by its own number, and signal to noise stays."""
    flux = np.ones((2, 3, 4, 4)) * np.array([10.0, 20.0, 30.0])[:, None, None]
    image = Image(flux, np.full(flux.shape, 0.25))
    new = scale_bands(image, [10, 10, 10], [1, 2, 4])
    assert_array_equal(new.flux[0, :, 0, 0], [0, 5, 5])
    assert_array_equal(new.flux * np.sqrt(new.ivar), (flux - 10) * 0.5)
    assert_array_equal(unscale_bands(new, 10, [1, 2, 4]).flux, flux)
    with pytest.raises(SampleError, match="one number, or 3, one a band"):
        scale_bands(image, 0.0, [1, 2])
    with pytest.raises(SampleError, match="scale: expected finite numbers above 0"):
        scale_bands(image, 0.0, [1, 0, 2])


def test_the_stretched_ivar_is_that_of_small_errors():
    """The ivar after arcsinh is what a small change of flux comes to."""
    flux = np.linspace(-5, 500, 25).reshape(5, 5)
    new = arcsinh_stretch(Image(flux, np.full((5, 5), 4.0)), 2.0, minimum=1.0)
    step = 1e-5
    moved = arcsinh_stretch(Image(flux + step), 2.0, minimum=1.0).flux
    assert_allclose(new.ivar**-0.5, (moved - new.flux) / step * 0.5, rtol=1e-4)
    back = arcsinh_unstretch(new, 2.0, minimum=1.0)
    assert_allclose(back.flux, flux, rtol=1e-12, atol=1e-12)
    assert_allclose(back.ivar, 4.0, rtol=1e-10)
