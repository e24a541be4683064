"""Each trap of matching on the sky, with numbers a reader can check by hand."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.table import Column, MaskedColumn
from astropy.utils.masked import Masked

from astropile.errors import MatchError
from astropile.match.positions import Pairs, match_positions
from astropile.sky import separation_arcsec

ARCSEC = 1 / 3600
MAS = 1e-3 / 3600


def pairs_of(pairs: Pairs) -> list[tuple[int, int]]:
    """Return the row numbers as a list a test can spell out."""
    return list(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True))


def uniform_sky(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return positions all over the sky."""
    rng = np.random.default_rng(seed)
    return rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))


# Places on the sphere.


@pytest.mark.parametrize(
    ("left", "right", "arcsec"),
    [
        ((138.61609847797027, 12.722938807144585), (138.61604437917262, 12.723096899067047), 0.6),
        ((359.99999, 0.0), (0.00001, 0.0), 0.072),
        ((0.00001, 0.0), (359.99999, 0.0), 0.072),
        ((-0.00001, 0.0), (0.00001, 0.0), 0.072),
        ((360.0, 0.0), (0.00001, 0.0), 0.036),
        ((720.25, 0.0), (0.25001, 0.0), 0.036),
        ((0.25001, 0.0), (-359.75, 0.0), 0.036),
        ((10.0, 89.9999), (190.0, 89.9999), 0.72),
        ((10.0, -89.9999), (190.0, -89.9999), 0.72),
        ((123.0, -90.0), (300.0, -90.0), 0.0),
        ((123.0, 90.0), (300.0, 90.0 - 0.5 * ARCSEC), 0.5),
    ],
)
def test_near_borders_seam_and_poles_nothing_is_special(left, right, arcsec):
    """A pair astride a pixel border, ra 0 or a pole is a pair."""
    pairs = match_positions(*np.array([left]).T, *np.array([right]).T, radius_arcsec=1)
    assert pairs_of(pairs) == [(0, 0)]
    assert pairs.separation_arcsec[0] == pytest.approx(arcsec, abs=1e-9)
    assert (pairs.n_invalid_left, pairs.n_invalid_right) == (0, 0)


def test_every_corner_of_the_healpix_base_cells_matches_itself():
    """At dec 0 and +-41.8103 and ra multiples of 45 pixels have seven neighbours; no matter."""
    ra, dec = (
        grid.ravel() for grid in np.meshgrid(np.arange(0.0, 360, 45), [-41.8103, 0.0, 41.8103])
    )
    shift = 0.3 * ARCSEC
    for d_ra, d_dec in [(shift, shift), (-shift, shift), (shift, -shift), (-shift, -shift)]:
        pairs = match_positions(ra, dec, ra + d_ra, dec + d_dec, radius_arcsec=1, find="all")
        assert pairs_of(pairs) == [(i, i) for i in range(24)]


# Positions that are none.


@pytest.mark.parametrize("find", ["nearest", "all", "mutual"])
@pytest.mark.parametrize(
    ("ra", "dec"),
    [
        (np.nan, 0.0),
        (0.0, np.nan),
        (np.nan, np.nan),
        (np.inf, 0.0),
        (0.0, -np.inf),
        (-999.0, -999.0),
        (-99.0, -99.0),
        (99.0, 99.0),
        (-999.0, 0.0),
        (999.0, 0.0),
        (1e20, 0.0),
        (0.0, 90.00001),
        (0.0, -90.00001),
    ],
)
def test_what_is_no_position_never_matches_and_is_counted(ra, dec, find):
    """Not even with itself; the rows beside it match as ever."""
    ra, dec = np.array([ra, 10.0, ra]), np.array([dec, 10.0, dec])
    pairs = match_positions(ra, dec, ra, dec, radius_arcsec=648000, find=find)
    assert pairs_of(pairs) == [(1, 1)]
    assert (pairs.n_invalid_left, pairs.n_invalid_right) == (2, 2)


def test_masked_rows_are_invalid_whatever_lies_under_the_mask():
    """A mask on either coordinate counts, from numpy or astropy."""
    values = np.array([10.0, 20.0, 30.0])
    mask = [False, True, False]
    for masked in (
        np.ma.array(values, mask=mask),
        MaskedColumn(values, mask=mask),
        Masked(values * units.deg, mask=mask),
        np.ma.array(values.astype(int), mask=mask),
    ):
        for ra, dec in ((masked, values), (values, masked)):
            pairs = match_positions(ra, dec, values, values, radius_arcsec=1)
            assert pairs_of(pairs) == [(0, 0), (2, 2)]
            assert (pairs.n_invalid_left, pairs.n_invalid_right) == (1, 0)


def test_a_mask_of_nothing_hides_nothing():
    """A masked array without a mask is an array."""
    values = np.ma.array([10.0, 20.0])
    assert len(match_positions(values, values, values, values, radius_arcsec=1)) == 2


# Numbers as they come.


@pytest.mark.parametrize("dtype", [">f8", "<f8", ">f4", "<f4", ">i2", "i8", "u1", "f2"])
def test_any_real_dtype_is_widened_first(dtype):
    """Byte order and width are no matter; arithmetic is in float64."""
    ra, dec = np.array([10, 200, 30], dtype), np.array([20, 70, 40], dtype)
    pairs = match_positions(ra, dec, [10.0, 30.0], [20.0 + 0.5 * ARCSEC, 40.0], radius_arcsec=1)
    assert pairs_of(pairs) == [(0, 0), (2, 1)]
    np.testing.assert_allclose(pairs.separation_arcsec, [0.5, 0.0], atol=1e-9)


def test_float32_positions_have_the_separations_of_their_values():
    """Trigonometry in float32 would be wrong by hundredths of an arcsecond."""
    ra, dec = np.float32([150.123456]), np.float32([2.2345678])
    ra_right, dec_right = np.nextafter(ra, np.float32(360)), np.nextafter(dec, np.float32(90))
    pairs = match_positions(ra, dec, ra_right, dec_right, radius_arcsec=1)
    wide = [np.float64(x[0]) for x in (ra, dec, ra_right, dec_right)]
    assert pairs.separation_arcsec[0] == pytest.approx(separation_arcsec(*wide), abs=1e-9)


def test_units_of_angle_are_converted():
    """A column in radians or a Quantity in hours is turned into degrees."""
    ra, dec = np.array([30.0, 45.0]), np.array([-10.0, 60.0])
    for ra_left, dec_left in (
        (Column(np.radians(ra), unit="rad"), Column(np.radians(dec), unit="rad")),
        (ra / 15 * units.hourangle, dec * units.deg),
        (Column(ra), Column(dec, unit="deg")),
    ):
        pairs = match_positions(ra_left, dec_left, ra, dec, radius_arcsec=1e-6)
        assert pairs_of(pairs) == [(0, 0), (1, 1)]


def test_inputs_are_left_as_they_were():
    """Read-only and strided arrays will do, and nothing is written to."""
    table = np.array([[10.0, 20.0], [370.0, 20.0], [-350.0, np.nan]])
    table.flags.writeable = False
    pairs = match_positions(table[:, 0], table[:, 1], [10.0], [20.0], radius_arcsec=0)
    assert pairs_of(pairs) == [(0, 0), (1, 0)]
    writable = np.array([370.0])
    match_positions(writable, [20.0], [10.0], [20.0], radius_arcsec=0)
    writable[0] = 1.0


# The radius.


def test_the_radius_is_inclusive():
    """Exactly 1 arcsec is within 1 arcsec, and so is a little less."""
    for dec in (ARCSEC, 0.9999999999 * ARCSEC):
        assert len(match_positions([0.0], [0.0], [0.0], [dec], radius_arcsec=1)) == 1
    assert len(match_positions([0.0], [0.0], [0.0], [1.00000001 * ARCSEC], radius_arcsec=1)) == 0


@pytest.mark.parametrize("radius", [0.1, 1.0, 2.0, 7.0, 60.0, 3600.0])
def test_pairs_entered_one_radius_apart_match_anywhere(radius):
    """The rounding of the coordinates decides nothing, and no separation exceeds the radius."""
    ra, dec = uniform_sky(1000, seed=1)
    dec *= 0.95
    pairs = match_positions(ra, dec, ra, dec + radius * ARCSEC, radius_arcsec=radius, find="all")
    assert set(zip(range(1000), range(1000), strict=True)) <= set(pairs_of(pairs))
    assert pairs.separation_arcsec.max() <= radius


def test_radius_zero_finds_identical_positions():
    """And only those, where other tools find none or fail."""
    ra = [10.0, 20.0, 359.0, 0.0, 77.0]
    dec = [0.0, -45.0, 80.0, 90.0, -90.0]
    right = [10.0, 20.0, -1.0, 123.0, 300.0], [1e-9, -45.0, 80.0, 90.0, -90.0]
    pairs = match_positions(ra, dec, *right, radius_arcsec=0)
    assert pairs_of(pairs) == [(1, 1), (2, 2), (3, 3), (4, 4)]
    assert pairs.separation_arcsec.tolist() == [0.0] * 4


def test_the_largest_radius_finds_the_whole_sky():
    """At 180 deg every pair is a pair, the opposite position included."""
    ra, dec = [0.0, 0.0, 90.0], [0.0, 90.0, 0.0]
    right = [180.0, 0.0], [0.0, -90.0]
    pairs = match_positions(ra, dec, *right, radius_arcsec=648000, find="all")
    assert pairs_of(pairs) == [(0, 1), (0, 0), (1, 0), (1, 1), (2, 0), (2, 1)]
    np.testing.assert_allclose(
        pairs.separation_arcsec / 3600, [90, 180, 90, 180, 90, 90], rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("degrees", [1, 30, 90, 120, 179])
def test_large_radii_agree_with_brute_force(degrees):
    """A radius of many degrees is no special case."""
    left, right = uniform_sky(300, seed=2), uniform_sky(200, seed=3)
    apart = separation_arcsec(*(x[:, None] for x in left), *right)
    pairs = match_positions(*left, *right, radius_arcsec=degrees * 3600, find="all")
    assert set(pairs_of(pairs)) == set(
        zip(*map(list, np.nonzero(apart <= degrees * 3600)), strict=True)
    )


def test_the_least_radius_is_inclusive_and_looks_further():
    """The nearest neighbour is the nearest beyond the least radius."""
    right = [0.0, 0.0, 0.0], [0.0, 1 * ARCSEC, 2 * ARCSEC]
    pairs = match_positions([0.0], [0.0], *right, radius_arcsec=5, min_radius_arcsec=1.5)
    assert pairs_of(pairs) == [(0, 2)]
    pairs = match_positions(
        [0.0], [0.0], *right, radius_arcsec=5, min_radius_arcsec=pairs.separation_arcsec[0]
    )
    assert pairs_of(pairs) == [(0, 2)]


# Which of several.


def test_ranking_is_exact_below_a_milliarcsecond():
    """0.10 mas is nearer than 0.11 mas, and both are measured."""
    for ra, dec in [(0.0, 0.0), (200.0, 45.0), (359.9, -80.0)]:
        right = [ra, ra], [dec + 0.11 * MAS, dec + 0.10 * MAS]
        pairs = match_positions([ra], [dec], *right, radius_arcsec=1, n_neighbors=2)
        assert pairs_of(pairs) == [(0, 1), (0, 0)]
        np.testing.assert_allclose(pairs.separation_arcsec * 1e3, [0.10, 0.11], atol=1e-6)


def test_the_lowest_right_row_wins_a_tie():
    """Duplicates are told apart by row and never by value."""
    for n in (2, 10, 5000):
        right = np.full(n, 10.0), np.full(n, -20.0)
        pairs = match_positions([10.0, 10.0], [-20.0, -20.0], *right, radius_arcsec=1)
        assert pairs_of(pairs) == [(0, 0), (1, 0)]
        pairs = match_positions([10.0], [-20.0], *right, radius_arcsec=1, n_neighbors=2)
        assert pairs_of(pairs) == [(0, 0), (0, 1)]
        pairs = match_positions([10.0], [-20.0], *right, radius_arcsec=1, find="all")
        assert pairs.right.tolist() == list(range(n))


def test_nearest_is_many_to_one_and_mutual_is_one_to_one():
    """Two left rows may share their nearest; only the nearer of them is mutual."""
    left = [10.0, 10.0], [10.0, 10.0 + 0.2 * ARCSEC]
    right = [10.0], [10.0 + 0.05 * ARCSEC]
    assert pairs_of(match_positions(*left, *right, radius_arcsec=1)) == [(0, 0), (1, 0)]
    assert pairs_of(match_positions(*left, *right, radius_arcsec=1, find="mutual")) == [(0, 0)]


def test_nearest_is_asymmetric_and_all_is_symmetric():
    """The number of pairs depends on the side that asks, unless all are asked for."""
    left = [10.0, 10.0], [10.0, 10.0 + 0.2 * ARCSEC]
    right = [10.0], [10.0 + 0.05 * ARCSEC]
    assert len(match_positions(*left, *right, radius_arcsec=1)) == 2
    assert len(match_positions(*right, *left, radius_arcsec=1)) == 1
    forth = match_positions(*left, *right, radius_arcsec=1, find="all")
    back = match_positions(*right, *left, radius_arcsec=1, find="all")
    assert sorted(pairs_of(forth)) == sorted((b, a) for a, b in pairs_of(back))


def test_a_list_matched_with_itself_can_leave_out_itself():
    """Pairs of equal row numbers are dropped; those of equal positions are not."""
    ra, dec = [10.0, 10.0, 50.0], [0.0, 0.0, 0.0]
    pairs = match_positions(ra, dec, ra, dec, radius_arcsec=1, exclude_self=True)
    assert pairs_of(pairs) == [(0, 1), (1, 0)]
    pairs = match_positions(ra, dec, ra, dec, radius_arcsec=1, exclude_self=True, find="mutual")
    assert pairs_of(pairs) == [(0, 1), (1, 0)]


def test_pairs_are_ordered_by_left_then_separation_then_right():
    """Whatever the number of rows, threads and kinds of search."""
    left, right = uniform_sky(30_000, seed=5), uniform_sky(30_000, seed=6)
    for options in ({"find": "all"}, {"n_neighbors": 3}):
        pairs = match_positions(*left, *right, radius_arcsec=4000, threads=2, **options)
        order = np.lexsort((pairs.right, pairs.separation_arcsec, pairs.left))
        assert (order == np.arange(len(pairs))).all()


# Sizes and shapes.


@pytest.mark.parametrize("find", ["nearest", "all", "mutual"])
@pytest.mark.parametrize(("n_left", "n_right"), [(0, 0), (0, 3), (3, 0), (3, 3)])
def test_nothing_to_match_gives_no_pairs_of_the_right_type(n_left, n_right, find):
    """Empty sides and no overlap are answers and no errors."""
    left = np.full(n_left, 10.0), np.zeros(n_left)
    right = np.full(n_right, 200.0), np.zeros(n_right)
    pairs = match_positions(*left, *right, radius_arcsec=1, find=find)
    assert len(pairs) == 0
    dtypes = (pairs.left.dtype, pairs.right.dtype, pairs.separation_arcsec.dtype)
    assert dtypes == (np.int64, np.int64, np.float64)


def test_a_crowd_at_one_place_is_no_burden():
    """100,000 rows at one place, on both sides, take no time that grows with their square."""
    ra, dec = np.zeros(100_000), np.zeros(100_000)
    for find in ("nearest", "mutual"):
        pairs = match_positions(ra, dec, ra, dec, radius_arcsec=1, find=find)
        assert (pairs.right == 0).all()
        assert len(pairs) == (100_000 if find == "nearest" else 1)


def test_a_clump_within_a_wide_sky_agrees_with_astropy():
    """Half the rows within ten arcseconds, half anywhere."""
    rng = np.random.default_rng(8)
    sides = []
    for seed in (9, 10):
        ra, dec = uniform_sky(20_000, seed)
        ra[::2], dec[::2] = (
            359.9999 + rng.uniform(0, 3e-3, (1, 10_000)),
            rng.uniform(0, 3e-3, 10_000),
        )
        sides.append((ra, dec))
    pairs = match_positions(*sides[0], *sides[1], radius_arcsec=648000, threads=2)
    left, right = (SkyCoord(*side, unit="deg") for side in sides)
    row, apart, _ = left.match_to_catalog_sky(right)
    assert pairs.left.tolist() == list(range(20_000))
    assert (pairs.right == row).mean() > 0.999
    np.testing.assert_allclose(pairs.separation_arcsec, apart.arcsec, rtol=1e-12, atol=1e-9)


def test_a_hundred_thousand_agree_with_astropy():
    """The same rows and separations as match_to_catalog_sky, on a uniform sky."""
    left, right = uniform_sky(100_000, seed=11), uniform_sky(100_000, seed=12)
    right[0][:50_000] = left[0][::2] + 0.3 * ARCSEC
    right[1][:50_000] = np.clip(left[1][::2] + 0.2 * ARCSEC, -90, 90)
    row, apart, _ = SkyCoord(*left, unit="deg").match_to_catalog_sky(SkyCoord(*right, unit="deg"))
    near = np.flatnonzero(apart.arcsec < 60)
    pairs = match_positions(*left, *right, radius_arcsec=60)
    assert pairs.left.tolist() == near.tolist()
    assert pairs.right.tolist() == row[near].tolist()
    np.testing.assert_allclose(pairs.separation_arcsec, apart.arcsec[near], rtol=0, atol=2e-9)


def test_a_small_side_against_a_large_one():
    """What is far from the small side is set aside unsorted; rows keep their numbers."""
    large = uniform_sky(120_000, seed=13)
    rows = np.array([5, 77_000, 119_999])
    small = large[0][rows], large[1][rows]
    assert pairs_of(match_positions(*small, *large, radius_arcsec=0.1)) == [
        (0, 5), (1, 77_000), (2, 119_999)
    ]  # fmt: skip
    assert pairs_of(match_positions(*large, *small, radius_arcsec=0.1)) == [
        (5, 0), (77_000, 1), (119_999, 2)
    ]  # fmt: skip
    mutual = match_positions(*large, *small, radius_arcsec=0.1, find="mutual")
    assert mutual.left.tolist() == rows.tolist()


def test_a_side_astride_the_seam_against_the_whole_sky():
    """Neighbours beyond either end of a narrow field are found."""
    large = uniform_sky(120_000, seed=14)
    rng = np.random.default_rng(15)
    small = rng.uniform(-5, 5, 2000), rng.uniform(-80, 89, 2000)
    pairs = match_positions(*small, *large, radius_arcsec=3600, find="all")
    back = match_positions(*large, *small, radius_arcsec=3600, find="all")
    assert len(pairs) > 2000
    assert sorted(pairs_of(pairs)) == sorted((b, a) for a, b in pairs_of(back))


def test_more_left_rows_than_are_handled_at_a_time():
    """The left side is taken in blocks; rows are numbered through."""
    n = (1 << 22) + 3
    ra, dec = np.full(n, 20.0), np.full(n, 30.0)
    dec[1:-1] = 40.0
    pairs = match_positions(ra, dec, [20.0, 20.0], [30.0, 40.0], radius_arcsec=1)
    assert len(pairs) == n
    assert pairs.right[[0, 1, -2, -1]].tolist() == [0, 1, 1, 0]
    assert pairs.left[-1] == n - 1


def test_the_number_of_threads_changes_nothing():
    """The same arrays, bit for bit."""
    left, right = uniform_sky(60_000, seed=16), uniform_sky(60_000, seed=17)
    for find in ("nearest", "all", "mutual"):
        one, three = (
            match_positions(*left, *right, radius_arcsec=900, find=find, threads=n) for n in (1, 3)
        )
        for name in ("left", "right", "separation_arcsec"):
            assert (getattr(one, name) == getattr(three, name)).all()


def crowds(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return positions in clusters at a pole, astride ra 0 and elsewhere; a fifth anywhere."""
    rng = np.random.default_rng(seed)
    ra, dec = uniform_sky(n, seed)
    which = rng.integers(0, 5, n)
    for i, (ra_0, dec_0) in enumerate([(0.0, 0.0), (359.99, -60.0), (120.0, 89.9), (77.0, -45.0)]):
        some = np.flatnonzero(which == i)
        ra[some] = (ra_0 + rng.normal(0, 0.02, len(some))) % 360
        dec[some] = np.clip(dec_0 + rng.normal(0, 0.02, len(some)), -90, 90)
    return ra, dec


@pytest.mark.parametrize("radius", [1.0, 30.0, 500.0])
def test_crowds_agree_with_brute_force(radius):
    """Cells that hold hundreds of rows are cut again, however large the radius is for them."""
    left, right = crowds(1500, seed=18), crowds(2000, seed=19)
    apart = separation_arcsec(*(x[:, None] for x in left), *right)
    pairs = match_positions(*left, *right, radius_arcsec=radius, find="all")
    assert set(pairs_of(pairs)) == set(
        zip(*(rows.tolist() for rows in np.nonzero(apart <= radius)), strict=True)
    )
    nearest = match_positions(*left, *right, radius_arcsec=radius, n_neighbors=3)
    first = np.sort(np.where(apart <= radius, apart, np.inf), axis=1)[:, :3]
    assert nearest.left.tolist() == np.repeat(np.arange(1500), np.isfinite(first).sum(1)).tolist()
    np.testing.assert_allclose(nearest.separation_arcsec, first[np.isfinite(first)], atol=1e-9)


@pytest.mark.parametrize("threads", [1, 5])
def test_rows_along_the_sky_and_rows_at_random_give_the_same_pairs(threads):
    """Lists in the order of the sky are taken as they are, others sorted first."""
    shuffled = crowds(60_000, seed=21), crowds(60_000, seed=22)
    order = [np.lexsort((ra, np.floor(dec * 5), np.floor(ra / 5))) for ra, dec in shuffled]
    along = [(ra[rows], dec[rows]) for (ra, dec), rows in zip(shuffled, order, strict=True)]
    options = {"radius_arcsec": 0.5, "find": "all", "threads": threads}
    expected = match_positions(*shuffled[0], *shuffled[1], **options)
    for left_order, right_order in ((True, True), (True, False), (False, True)):
        left, right = (
            (along if left_order else shuffled)[0],
            (along if right_order else shuffled)[1],
        )
        pairs = match_positions(*left, *right, **options)
        rows = order[0][pairs.left] if left_order else pairs.left
        others = order[1][pairs.right] if right_order else pairs.right
        back = np.lexsort((others, pairs.separation_arcsec, rows))
        assert (rows[back] == expected.left).all()
        assert (others[back] == expected.right).all()
        assert (pairs.separation_arcsec[back] == expected.separation_arcsec).all()


# Calls that make no sense.


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"radius_arcsec": -1}, "expected 0 to 648000 arcsec, found -1.0"),
        ({"radius_arcsec": np.nan}, "expected 0 to 648000 arcsec, found nan"),
        ({"radius_arcsec": 648001}, "expected 0 to 648000 arcsec, found 648001.0"),
        ({"radius_arcsec": "wide"}, "expected a number of arcseconds, found 'wide'"),
        ({"min_radius_arcsec": 2}, "expected 0 to the radius, 1.0 arcsec, found 2.0"),
        ({"n_neighbors": 0}, "expected at least 1, found 0"),
        ({"n_neighbors": 1.5}, "expected a whole number, found 1.5"),
        ({"n_neighbors": 2, "find": "all"}, "expected 1 with find='all', found 2"),
        ({"find": "best"}, "expected one of nearest, all, mutual, found 'best'"),
        ({"threads": 0}, "expected at least 1, found 0"),
        ({"exclude_self": True}, "expected two sides of one length, found 2 and 1 rows"),
    ],
)
def test_options_that_make_no_sense_are_refused_with_their_value(options, sentence):
    """The error says what was wanted and what came."""
    name = next(iter(options))
    options = {"radius_arcsec": 1, **options}
    with pytest.raises(MatchError) as caught:
        match_positions([1.0, 2.0], [1.0, 2.0], [1.0], [1.0], **options)
    assert str(caught.value) == f"{name}: {sentence}"


@pytest.mark.parametrize(
    ("ra", "dec", "sentence"),
    [
        (
            [1.0],
            [1.0, 2.0],
            "ra_left, dec_left: expected two arrays of one length, found 1 and 2 rows",
        ),
        ([[1.0]], [1.0], "ra_left: expected one dimension, found shape (1, 1)"),
        ([1.0], 1.0, "dec_left: expected one dimension, found shape ()"),
        (["1"], [1.0], "ra_left: expected numbers, found dtype <U1"),
        ([1j], [1.0], "ra_left: expected numbers, found dtype complex128"),
        (Column([1.0], unit="m"), [1.0], "ra_left: expected a unit of angle, found m"),
    ],
)
def test_coordinates_that_are_none_are_refused(ra, dec, sentence):
    """Shapes, lengths, dtypes and units are checked before anything is matched."""
    with pytest.raises(MatchError) as caught:
        match_positions(ra, dec, [1.0], [1.0], radius_arcsec=1)
    assert str(caught.value) == sentence


# The result.


def test_the_result_survives_pickling():
    """Pairs travel between processes."""
    pairs = pickle.loads(pickle.dumps(match_positions([1.0], [1.0], [1.0], [1.0], radius_arcsec=1)))
    assert pairs_of(pairs) == [(0, 0)]


def test_numba_is_loaded_by_the_first_match_and_not_before():
    """The compiler costs half a second that other uses of the package need not pay."""
    code = "import sys, astropile.match.positions; assert 'numba' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("n_neighbors", [1, 5])
@pytest.mark.parametrize("options", [{}, {"exclude_self": True}, {"min_radius_arcsec": 900.0}])
@pytest.mark.parametrize("radius", [3600.0, 72000.0, 648000.0])
def test_wide_circles_full_of_neighbours(radius, options, n_neighbors):
    """The nearest within a wide radius, crowds, voids, ties and all, are those of brute force."""
    rng = np.random.default_rng(3)
    ra = np.concatenate([rng.uniform(0, 360, 200), rng.normal(359.9, 2, 300) % 360, np.arange(60)])
    dec = np.concatenate([rng.uniform(-90, 90, 200), rng.normal(1, 2, 300), np.full(60, 60.0)])
    found = match_positions(
        ra, dec, ra, dec, radius_arcsec=radius, n_neighbors=n_neighbors, **options
    )
    least = options.get("min_radius_arcsec", 0.0)
    expected = []
    for row in range(len(ra)):
        apart = separation_arcsec(ra[row], dec[row], ra, dec)
        near = np.flatnonzero((apart >= least) & (apart <= radius))
        near = near[near != row] if options.get("exclude_self") else near
        near = near[np.lexsort((near, apart[near]))][:n_neighbors]
        expected += [(row, other, apart[other]) for other in near]
    left, right, apart = (np.array(one) for one in zip(*expected, strict=True))
    np.testing.assert_array_equal(found.left, left)
    np.testing.assert_allclose(found.separation_arcsec, apart, atol=1e-7)
    # Rows a degree apart along one parallel are as far as each other but for rounding.
    differ = found.right != right
    assert (np.abs(found.separation_arcsec - apart)[differ] < 1e-9).all()
    assert differ.mean() < 0.1
