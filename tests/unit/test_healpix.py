"""Pixels of the sky."""

import numpy as np
import pytest

from astropile.healpix import HealpixPixel, ang2pix, n_pixels, pix2ang, pixels_in_cone


def test_published_pixels():
    """Pixel centres and numbers agree with values worked out from the HEALPix paper."""
    # Order 0: base pixels 0-3 north, 4-7 equator, 8-11 south.
    assert ang2pix([45, 135, 0, 90, 45], [60, 60, 0, 0, -60], 0).tolist() == [0, 1, 4, 5, 8]
    assert n_pixels(4) == 3072
    assert n_pixels(5) == 12288


@pytest.mark.parametrize("order", [0, 4, 5, 12, 29])
def test_centres_come_back(order):
    """The centre of every pixel lies in it."""
    rng = np.random.default_rng(1)
    ipix = rng.integers(0, n_pixels(order), 1000)
    np.testing.assert_array_equal(ang2pix(*pix2ang(ipix, order), order), ipix)


def test_seam_and_poles():
    """ra outside [0, 360) means the same place, and the poles have a pixel."""
    assert (
        ang2pix([-1e-5, 359.99999, 719.99999], [0, 0, 0], 10).tolist()
        == [ang2pix([359.99999], [0], 10)[0]] * 3
    )
    assert set(ang2pix([0, 100, 250], [90, 90, 90], 0)) <= {0, 1, 2, 3}


def test_pixel_value():
    """A pixel number without a place among its order's pixels cannot be made."""
    assert HealpixPixel(5, 10000).at(4) == HealpixPixel(4, 2500)
    with pytest.raises(ValueError, match="3072 pixels of order 4"):
        HealpixPixel(4, 9999)
    with pytest.raises(ValueError, match="0 to 29"):
        HealpixPixel(30, 0)


def test_cone_holds_its_pixels():
    """Every position within a cone lies in a pixel listed for it."""
    rng = np.random.default_rng(2)
    for ra, dec in [(0.0, 0.0), (10.0, 89.99), (359.999, -41.8103)]:
        listed = pixels_in_cone(ra, dec, 3600, 8)
        angle = rng.uniform(0, 2 * np.pi, 2000)
        radius = np.sqrt(rng.uniform(0, 1, 2000))
        decs = np.clip(dec + radius * np.sin(angle), -90, 90)
        ras = ra + radius * np.cos(angle) / np.maximum(np.cos(np.deg2rad(decs)), 1e-6)
        from astropile.sky import separation_arcsec

        inside = separation_arcsec(ra, dec, ras, decs) <= 3600
        assert np.isin(ang2pix(ras[inside], decs[inside], 8), listed).all()
