"""Motion on the sky: what a star does from epoch to epoch, and matching where it was seen."""

import numpy as np
import pytest
from astropy.table import MaskedColumn
from astropy.time import Time
from astropy.units import Unit

from astropile.errors import MatchError
from astropile.match import (
    MovingPositions,
    epoch_of_jd,
    match_moving,
    match_positions,
    motion,
)
from astropile.sky import separation_arcsec

RNG = np.random.default_rng


def test_straight_motion_on_the_equator():
    """A star at the vernal equinox that moves 3.6 arcsec/yr east is 0.01 deg east ten years on."""
    moved = MovingPositions([0.0], [0.0], 2000.0, [3600.0], [0.0]).at(2010.0)
    # A straight line: the tangent of the angle grows evenly, not the angle.
    assert abs(moved.ra[0] - 0.01) < 2e-10
    assert moved.dec[0] == 0.0


def test_motion_over_the_pole():
    """A star 1 arcsec from the pole that moves north 2 arcsec comes down on the other side."""
    star = MovingPositions([30.0], [90.0 - 1 / 3600], 2000.0, [0.0], [2000.0])
    moved = star.at(2001.0)
    assert abs(moved.ra[0] - 210.0) < 1e-6
    assert abs((90.0 - moved.dec[0]) * 3600 - 1.0) < 1e-6
    back = moved.at(2000.0)
    assert separation_arcsec(back.ra, back.dec, star.ra, star.dec)[0] < 1e-6


def test_motion_across_ra_zero():
    """A star that crosses right ascension 0 has a right ascension from 0 to 360."""
    moved = MovingPositions([0.0001, 359.9999], [0.0, 0.0], 2000.0, [-720.0, 720.0], [0, 0]).at(
        2001
    )
    np.testing.assert_allclose(moved.ra, [359.9999, 0.0001], atol=1e-9)


def test_barnards_star():
    """Barnard's star of Hipparcos is where Gaia saw it, with the change of its distance."""
    hipparcos = MovingPositions(
        [269.45402305], [4.66828815], 1991.25, [-798.58], [10328.12], [549.01], [-110.51]
    )
    gaia = MovingPositions([269.44850252543836], [4.739420051112412], 2016.0)
    moved = hipparcos.at(2016.0)
    assert separation_arcsec(moved.ra, moved.dec, gaia.ra, gaia.dec)[0] < 0.1
    # It comes nearer and so moves faster: by 31 mas/yr in 25 years.
    assert 25 < moved.pmdec[0] - 10328.12 < 40
    assert moved.parallax[0] > 549.01


def test_unknown_motion_stays_and_is_counted():
    """A row whose motion is masked or NaN stays exactly where it is and is counted."""
    pmra = MaskedColumn([5.0, 5.0, np.nan, 5.0], mask=[False, True, False, False])
    side = MovingPositions([10, 20, 30, 40.1], [1, 2, 3, 4.1], 2000.0, pmra, [1, 1, 1, np.inf])
    assert side.n_without_motion == 3
    moved = side.at(2050.0)
    assert moved.ra[1:].tolist() == [20.0, 30.0, 40.1]
    assert moved.dec[1:].tolist() == [2.0, 3.0, 4.1]
    assert moved.ra[0] != 10.0


def test_units_are_converted():
    """Proper motions in arcsec per year and radial velocities in m/s mean what they say."""
    plain = MovingPositions([10.0], [20.0], 2000.0, [100.0], [-200.0], [50.0], [30.0])
    units = MovingPositions(
        [10.0],
        [20.0],
        2000.0,
        [0.1] * Unit("arcsec/yr"),
        [-0.2] * Unit("arcsec/yr"),
        [0.05] * Unit("arcsec"),
        [30000.0] * Unit("m/s"),
    )
    a, b = plain.at(2100.0), units.at(2100.0)
    np.testing.assert_allclose([a.ra, a.dec], [b.ra, b.dec], rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"pmdec": None}, "pmra, pmdec"),
        ({"epoch": [2000.0, 2001.0]}, "epoch"),
        ({"pmra": ["fast"]}, "pmra"),
        ({"parallax": [3.0] * Unit("km")}, "parallax"),
        ({"dec": [1.0, 2.0]}, "ra, dec"),
    ],
)
def test_what_is_no_motion_is_refused(changes, what):
    """Lengths, units and components that do not fit are refused by name."""
    values = {"ra": [1.0], "dec": [1.0], "epoch": 2000.0, "pmra": [1.0], "pmdec": [1.0]}
    with pytest.raises(MatchError) as caught:
        MovingPositions(**{**values, **changes})
    assert caught.value.what == what


def test_epochs_of_julian_dates():
    """Julian dates become the epochs that astropy gives."""
    jd = np.array([2451545.0, 2450726.7015, 2457388.5])
    np.testing.assert_allclose(epoch_of_jd(jd), Time(jd, format="jd", scale="tdb").jyear, atol=1e-9)


def _scene(seed, n_left=60, n_right=90, span=20.0, fast=10_000.0):
    """Stars in a field of an arcminute, some fast, seen at dates of their own."""
    rng = RNG(seed)
    ra0, dec0 = [(10.0, 0.0), (359.999, -60.0), (200.0, 89.9995), (80.0, -89.999)][seed % 4]
    across = max(np.cos(np.radians(dec0)), 1e-4)

    def field(n):
        ra = (ra0 + rng.uniform(-30, 30, n) / 3600 / across) % 360
        return ra, np.clip(dec0 + rng.uniform(-30, 30, n) / 3600, -90, 90)

    speed = fast ** rng.uniform(0, 1, n_left)
    angle = rng.uniform(0, 2 * np.pi, n_left)
    pmra, pmdec = speed * np.sin(angle), speed * np.cos(angle)
    pmra[rng.random(n_left) < 0.1] = np.nan
    plx, rv = 10 ** rng.uniform(0, 2.8, n_left), rng.normal(0, 100, n_left)
    left = MovingPositions(*field(n_left), 2016.0, pmra, pmdec, plx, rv)
    dates = rng.uniform(2016 - span, 2016, n_right)
    dates[:3] = np.nan
    return left, MovingPositions(*field(n_right), dates)


def _brute(left, right, radius, annual):
    """Separation of every pair at the epoch of its right row, shape (n_left, n_right)."""
    apart = np.full((len(left), len(right)), np.inf)
    for j in range(len(right)):
        if np.isfinite(right.epoch[j]):
            seen = left.at(right.epoch[j], annual_parallax=annual)
            apart[:, j] = separation_arcsec(seen.ra, seen.dec, right.ra[j], right.dec[j])
    return np.where(apart <= radius, apart, np.inf)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("annual", [False, True])
def test_equals_brute_force(seed, annual, monkeypatch):
    """Every pair within the radius when it was seen is found, at any date, speed and place."""
    left, right = _scene(seed)
    monkeypatch.setattr(motion, "SPAN_ROWS", 4)
    for radius in (0.0, 5.0):
        apart = _brute(left, right, radius, annual)
        found = match_moving(left, right, radius_arcsec=radius, find="all", annual_parallax=annual)
        expected = np.argwhere(np.isfinite(apart))
        assert sorted(zip(found.left, found.right, strict=True)) == [tuple(p) for p in expected]
        np.testing.assert_allclose(
            found.separation_arcsec, apart[found.left, found.right], rtol=0, atol=1e-7
        )
        np.testing.assert_array_equal(found.epoch, right.epoch[found.right])
        near = match_moving(left, right, radius_arcsec=radius, annual_parallax=annual)
        some = np.flatnonzero(np.isfinite(apart.min(axis=1)))
        assert near.left.tolist() == some.tolist()
        assert near.right.tolist() == apart.argmin(axis=1)[some].tolist()
        both = match_moving(
            left, right, radius_arcsec=radius, find="mutual", annual_parallax=annual
        )
        mutual = [i for i in some if apart[:, apart[i].argmin()].argmin() == i]
        assert both.left.tolist() == mutual
        assert found.n_invalid_right == 3


def test_k_neighbors_equal_brute_force():
    """The k nearest of each row are those that brute force finds."""
    left, right = _scene(5)
    apart = _brute(left, right, 8.0, annual=False)
    found = match_moving(left, right, radius_arcsec=8.0, n_neighbors=3)
    expected = [
        (i, j) for i in range(len(left)) for j in np.argsort(apart[i])[:3] if apart[i, j] < np.inf
    ]
    assert list(zip(found.left, found.right, strict=True)) == expected


def test_one_epoch_is_a_match_of_carried_positions():
    """Where the right side has one epoch the match is that of positions carried there."""
    left, right = _scene(1)
    right = MovingPositions(right.ra, right.dec, 2000.0)
    there = left.at(2000.0)
    for find in ("nearest", "all", "mutual"):
        options = {"radius_arcsec": 4.0, "find": find}
        plain = match_positions(there.ra, there.dec, right.ra, right.dec, **options)
        moving = match_moving(left, right, **options)
        assert moving.left.tolist() == plain.left.tolist()
        assert moving.right.tolist() == plain.right.tolist()
        assert moving.epoch.tolist() == [2000.0] * len(moving)


def test_the_side_that_moves_may_be_the_right_one():
    """A pair is the same whichever side has the motions."""
    stars, seen = _scene(2)
    plain = match_moving(stars, seen, radius_arcsec=3.0, find="all")
    swapped = match_moving(seen, stars, radius_arcsec=3.0, find="all")
    pairs = sorted(zip(plain.left, plain.right, strict=True))
    assert pairs == sorted(zip(swapped.right, swapped.left, strict=True))
    assert swapped.n_without_motion_left == len(seen)


def test_motion_of_the_left_side_goes_first():
    """Where both move the left row goes to the right's epoch; one without motion waits."""
    left = MovingPositions([10.0, 20.0], [0.0, 0.0], 2016.0, [1000.0, np.nan], [0.0, 0.0])
    right = MovingPositions(
        [10.0 - 16 / 3600, 20.0 - 16 / 3600], [0.0, 0.0], 2000.0, [np.nan, 1000.0], [0.0, 0.0]
    )
    found = match_moving(left, right, radius_arcsec=0.01)
    assert found.left.tolist() == found.right.tolist() == [0, 1]
    assert found.epoch.tolist() == [2000.0, 2016.0]


def test_candidates_stay_few(monkeypatch):
    """One fast star in a crowd seen over 20 years does not make candidates of the crowd."""
    rng = RNG(3)
    n = 40_000
    ra, dec = rng.uniform(10, 10.5, n), rng.uniform(-0.25, 0.25, n)
    right = MovingPositions(ra, dec, rng.uniform(1996, 2016, n))
    pm = np.zeros(n)
    pm[0] = 10_000.0
    left = MovingPositions(ra, dec, 2016.0, pm, np.zeros(n))
    looked_at = []

    def spy(*args, **options):
        pairs = match_positions(*args, **options)
        looked_at.append(len(pairs))
        return pairs

    monkeypatch.setattr(motion, "match_positions", spy)
    found = match_moving(left, right, radius_arcsec=1.0)
    assert len(found) >= n - 1
    assert sum(looked_at) < 1.5 * n


def test_fill_values_go_nowhere():
    """Fill values and rows without an epoch never match, whatever their motion."""
    left = MovingPositions([-999.0, np.nan, 10.0], [-999.0, 5.0, 99.0], 2016.0, [1] * 3, [1] * 3)
    right = MovingPositions([-999.0, 0.0], [-999.0, -90.0], [2000.0, 2001.0])
    found = match_moving(left, right, radius_arcsec=648000, find="all")
    assert len(found) == 0
    assert (found.n_invalid_left, found.n_invalid_right) == (3, 1)


def test_empty_sides():
    """A side without rows gives no pairs."""
    none = MovingPositions([], [], 2000.0, [], [])
    one = MovingPositions([1.0], [1.0], 2000.0)
    assert len(match_moving(none, one, radius_arcsec=1)) == 0
    assert len(match_moving(one, none, radius_arcsec=1)) == 0
    assert len(match_moving(none, none, radius_arcsec=1)) == 0
