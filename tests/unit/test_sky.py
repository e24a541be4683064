"""The arithmetic on the sphere has the digits it claims, at the poles and the seam too."""

import numpy as np
import pytest

from astropile.sky import mean_position, separation_arcsec, unit_vectors, wrap_ra

ARCSEC = 1 / 3600
MICROARCSEC = 1e-6 / 3600


def test_ra_wraps_into_one_turn():
    """Right ascensions any turns away come into 0 <= ra < 360."""
    wrapped = wrap_ra([-0.25, 0.0, 359.5, 360.0, 720.25, -720.0])
    assert wrapped.tolist() == [359.75, 0.0, 359.5, 0.0, 0.25, 0.0]


def test_a_tiny_negative_ra_wraps_to_zero():
    """The remainder of -1e-20 rounds to 360, which is not below 360."""
    assert wrap_ra(-1e-20) == 0.0


def test_unit_vectors_point_along_the_axes():
    """x is ra 0, y is ra 90, z the north pole."""
    vectors = unit_vectors([0.0, 90.0, 123.0, 300.0], [0.0, 0.0, 90.0, -90.0])
    expected = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, -1]]
    np.testing.assert_allclose(vectors, expected, atol=1e-16)


@pytest.mark.parametrize(
    ("left", "right", "arcsec"),
    [
        ((0.0, 0.0), (0.0, ARCSEC), 1.0),
        ((359.99999, 0.0), (0.00001, 0.0), 0.072),
        ((10.0, 89.9999), (190.0, 89.9999), 0.72),
        ((123.0, -90.0), (300.0, -90.0), 0.0),
        ((10.0, 10.0), (10.0, 10.0), 0.0),
        ((0.0, 0.0), (180.0, 0.0), 648000.0),
        ((0.0, 0.0), (180.0, ARCSEC), 647999.0),
        ((30.0, 45.0), (210.0, -45.0), 648000.0),
        ((0.0, 0.0), (90.0, 0.0), 324000.0),
        ((0.0, 0.0), (0.0, 0.1 * MICROARCSEC), 1e-7),
        ((-0.00001, 0.0), (720.00001, 0.0), 0.072),
    ],
)
def test_separations_known_by_hand(left, right, arcsec):
    """Separations are right within 1e-9 arcsec at every angle, and symmetric."""
    assert separation_arcsec(*left, *right) == pytest.approx(arcsec, abs=1e-9, rel=0)
    assert separation_arcsec(*left, *right) == separation_arcsec(*right, *left)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 3600.0, 6e5])
def test_separations_keep_their_digits(scale):
    """Against arithmetic in more digits, the error stays below 1e-9 arcsec."""
    rng = np.random.default_rng(4)
    ra, dec = rng.uniform(0, 360, 2000), np.degrees(np.arcsin(rng.uniform(-0.99, 0.99, 2000)))
    ra_2 = ra + rng.uniform(-1, 1, 2000) * scale / 3600
    dec_2 = np.clip(dec + rng.uniform(-1, 1, 2000) * scale / 3600, -90, 90)
    degree = 4 * np.arctan(np.longdouble(1)) / 180
    a, d, a_2, d_2 = (np.longdouble(angle) * degree for angle in (ra, dec, ra_2, dec_2))
    across = np.cos(d) * np.cos(d_2)
    near = np.sin((d - d_2) / 2) ** 2 + across * np.sin((a - a_2) / 2) ** 2
    far = np.sin((d + d_2) / 2) ** 2 + across * np.cos((a - a_2) / 2) ** 2
    exact = 2 * np.arctan2(np.sqrt(near), np.sqrt(far)) / degree * 3600
    assert np.abs(separation_arcsec(ra, dec, ra_2, dec_2) - exact).max() < 1e-9


def test_float32_is_widened_before_any_arithmetic():
    """float32 coordinates give what the same numbers give in float64."""
    ra, dec = np.float32([10.1, 200.2]), np.float32([20.3, -70.4])
    ra_2, dec_2 = ra + np.float32(1e-4), dec + np.float32(1e-4)
    wide = separation_arcsec(*(x.astype(np.float64) for x in (ra, dec, ra_2, dec_2)))
    assert separation_arcsec(ra, dec, ra_2, dec_2).tolist() == wide.tolist()


def test_separations_broadcast():
    """Shapes broadcast, as for any numpy function."""
    assert separation_arcsec(np.zeros((3, 1)), 0.0, np.zeros(4), 1.0).shape == (3, 4)


def test_the_mean_across_the_seam_is_at_the_seam():
    """The mean of 359.99999 and 0.00001 is 0, not 180."""
    ra, dec = mean_position([359.99999, 0.00001], [0.0, 0.0])
    assert separation_arcsec(ra, dec, 0.0, 0.0) < 1e-9
    assert 0 <= ra < 360


def test_the_mean_across_a_pole_is_the_pole():
    """The mean of two positions opposite each other about the pole is the pole."""
    _, dec = mean_position([10.0, 190.0], [89.0, 89.0])
    assert dec == pytest.approx(90.0)


def test_the_mean_of_opposite_positions_is_undefined():
    """Where the vectors cancel there is no direction."""
    ra, dec = mean_position([10.0, 190.0], [20.0, -20.0])
    assert np.isnan(ra)
    assert np.isnan(dec)


@pytest.mark.parametrize("axis", [0, 1, -1, -2])
def test_means_along_an_axis(axis):
    """The axis is that of the coordinates."""
    ra, dec = np.full((2, 3), 40.0), np.full((2, 3), -30.0)
    mean_ra, mean_dec = mean_position(ra, dec, axis=axis)
    assert mean_ra.shape == (3,) if axis in (0, -2) else (2,)
    np.testing.assert_allclose(mean_ra, 40.0)
    np.testing.assert_allclose(mean_dec, -30.0)
