"""Light curves: information is conserved, times are converted as published."""

import itertools

import numpy as np
import pytest
from astropy.io import fits
from astropy.time import Time
from hypothesis import given, settings
from hypothesis import strategies as st

from astropile.errors import SampleError
from astropile.transforms.lightcurves import (
    KEPLER_ZERO,
    MJD_ZERO,
    TESS_ZERO,
    bin_light_curve,
    convert_time,
    fold,
    merge_duplicates,
    outliers,
    pad,
    sliding_windows,
    split_at_gaps,
)

CURVES = st.lists(
    st.tuples(
        st.integers(0, 20).map(lambda time: time / 4),
        st.floats(-100, 100),
        st.sampled_from([0.0, 0.5, 1.0, 4.0]),
        st.sampled_from("gr"),
        st.booleans(),
    ),
    min_size=1,
    max_size=30,
)
TIMES = st.lists(st.floats(0, 100), max_size=40).map(sorted)


def columns(curve):
    """Time, flux, inverse variance, band and mask of a drawn light curve."""
    time, flux, ivar, band, mask = (np.array(column) for column in zip(*curve, strict=True))
    return time, flux, ivar, band, mask


@settings(deadline=None)
@given(CURVES, st.sampled_from([0.0, 0.3, 1.0]))
def test_merging_keeps_information(curve, tolerance):
    """In each band sums of ivar and ivar times flux over good measurements stay; none is twice."""
    time, flux, ivar, band, mask = columns(curve)
    out = merge_duplicates(time, flux, ivar, mask, band=band, tolerance=tolerance)
    good = ~mask & (ivar > 0)
    assert out.n_measured.sum() == good.sum()
    assert (np.diff(out.time) >= 0).all()
    for name in "gr":
        before, after = good & (band == name), out.band == name
        assert out.ivar[after].sum() == pytest.approx(ivar[before].sum())
        mean = (out.ivar * out.flux)[after].sum()
        assert mean == pytest.approx((ivar * flux)[before].sum(), abs=1e-9)
        times = out.time[after]
        if tolerance == 0:
            assert times.tolist() == sorted(set(time[before].tolist()))
        assert out.time[after].size <= before.sum()


def test_merging_two_of_one_night():
    """Two measurements of a night are their mean, weighted; another band stays by itself."""
    out = merge_duplicates(
        [10.0, 10.4, 10.2, 12.0],
        np.array([1, 5, 7, 2], np.float32),
        np.array([3, 1, 1, 1], np.float32),
        band=["g", "g", "r", "g"],
        tolerance=0.5,
    )
    assert out.band.tolist() == ["g", "r", "g"]
    assert out.flux.tolist() == [2, 7, 2]
    assert out.ivar.tolist() == [4, 1, 1]
    assert out.n_measured.tolist() == [2, 1, 1]
    assert out.flux.dtype == np.float32
    np.testing.assert_allclose(out.time, [10.1, 10.2, 12])


@settings(deadline=None)
@given(CURVES, st.lists(st.floats(0, 5), min_size=2, max_size=8, unique=True).map(sorted))
def test_bins_keep_information(curve, edges):
    """Every bin has the sums of its own measurements; empty ones are masked."""
    time, flux, ivar, _, mask = columns(curve)
    if min(np.diff(edges)) == 0:
        return
    out = bin_light_curve(time, flux, ivar, mask, edges=edges)
    for number in range(len(edges) - 1):
        inside = (time >= edges[number]) & (time < edges[number + 1]) & ~mask & (ivar > 0)
        assert out.n_measured[number] == inside.sum()
        assert out.mask[number] == (not inside.any())
        assert out.ivar[number] == pytest.approx(ivar[inside].sum())
        if inside.any():
            mean = np.average(flux[inside], weights=ivar[inside])
            assert out.flux[number] == pytest.approx(mean, abs=1e-9)
            assert time[inside].min() - 1e-9 <= out.time[number] <= time[inside].max() + 1e-9
        else:
            assert np.isnan(out.time[number])
            assert out.flux[number] == 0


def test_outliers_of_each_band():
    """A flux that is normal in one band is an outlier in another; transients can be kept."""
    rng = np.random.default_rng(0)
    flux = np.concatenate([rng.normal(10, 1, 50), rng.normal(100, 1, 50)])
    band = np.repeat(["g", "r"], 50)
    flux[3], flux[60], flux[70], flux[80] = 100, 10, 200, np.nan
    found = outliers(flux, band=band)
    assert np.flatnonzero(found).tolist() == [3, 60, 70, 80]
    kept = outliers(flux, band=band, high=np.inf)
    assert np.flatnonzero(kept).tolist() == [60, 80]


def test_outliers_know_their_errors():
    """A measurement far away with a large error is none; those with ivar 0 are bad."""
    flux = np.array([1.0, 1.1, 0.9, 1.0, 50, 50])
    found = outliers(flux, np.array([100, 100, 100, 100, 1e-3, 100]), [0, 0, 0, 1, 0, 0])
    assert found.tolist() == [False, False, False, True, False, True]
    assert outliers(np.ones(3), [1.0, 0.0, 1.0]).tolist() == [False, True, False]


def test_leap_seconds_and_terrestrial_time():
    """In 2020 TAI is 37 s ahead of UTC, TT 32.184 s more, TDB within 2 ms of TT."""
    utc = np.array([58849.25])
    tai = convert_time(utc, scale="utc", to_scale="tai")
    tt = convert_time(tai, scale="tai", to_scale="tt")
    tdb = convert_time(tt, scale="tt", to_scale="tdb")
    assert (tai - utc) * 86400 == pytest.approx(37, abs=1e-5)
    assert (tt - utc) * 86400 == pytest.approx(69.184, abs=1e-5)
    assert abs(tdb - tt) * 86400 < 2e-3


@settings(deadline=None)
@given(st.floats(-10000, 3000), st.sampled_from(["tai", "tt", "tdb", "tcb", "tcg"]))
def test_times_and_back(time, scale):
    """A time in another scale and of another zero point comes back to a microsecond."""
    there = convert_time([time], scale="tdb", to_scale=scale, zero=TESS_ZERO, to_zero=KEPLER_ZERO)
    back = convert_time(there, scale=scale, to_scale="tdb", zero=KEPLER_ZERO, to_zero=TESS_ZERO)
    assert back[0] == pytest.approx(time, abs=1e-11)


@settings(deadline=None)
@given(TIMES, st.floats(0.1, 50))
def test_parts_between_gaps(time, gap):
    """Each measurement is in one part, in order; gaps are between parts and nowhere else."""
    parts = split_at_gaps(time, gap)
    assert [value for part in parts for value in time[part]] == time
    for part in parts:
        assert (np.diff(time[part]) <= gap).all()
    for one, two in itertools.pairwise(parts):
        assert time[two][0] - time[one][-1] > gap


@settings(deadline=None)
@given(TIMES, st.floats(0.5, 50), st.floats(0.5, 1.0))
def test_windows(time, width, share):
    """Windows last no longer than asked; every measurement is in one, or exactly one of them."""
    seen = np.zeros(len(time), int)
    for window in sliding_windows(time, width, width * share):
        seen[window] += 1
        assert time[window][-1] - time[window][0] <= width * (1 + 1e-12)
    assert (seen >= 1).all()
    seen[:] = 0
    for window in sliding_windows(time, width):
        seen[window] += 1
    assert (seen == 1).all()


@settings(deadline=None)
@given(st.lists(st.floats(-1e4, 1e4), max_size=20), st.floats(0.01, 100), st.floats(-100, 100))
def test_fold_and_back(time, period, epoch):
    """Phases are from 0 to 1, and with the cycle they give the time."""
    phase, cycle = fold(time, period, epoch=epoch)
    assert ((phase >= 0) & (phase < 1)).all()
    np.testing.assert_allclose(epoch + (cycle + phase) * period, time, atol=1e-9)


@settings(deadline=None)
@given(st.integers(0, 8), st.integers(0, 4))
def test_padding_can_be_taken_off(length, more):
    """What the mask leaves is what came in, bit for bit."""
    values = np.random.default_rng(0).normal(size=(length, 2)).astype(np.float32)
    padded, mask = pad(values, length + more, fill=-1)
    assert padded.dtype == np.float32
    np.testing.assert_array_equal(padded[~mask], values)
    assert (padded[mask] == -1).all()
    assert len(padded) == length + more


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: convert_time([0.0], scale="ut1", to_scale="utc"), "one of utc"),
        (lambda: convert_time([np.nan], scale="utc", to_scale="tai"), "finite"),
        (lambda: outliers([1.0], low=0), "above 0"),
        (lambda: outliers([1.0], band=["g", "r"]), "as flux"),
        (lambda: merge_duplicates([1.0], [1.0], [1.0], tolerance=-1), "0 or more"),
        (lambda: merge_duplicates([1.0, 2.0], [1.0], [1.0]), "as time"),
        (lambda: merge_duplicates([np.nan], [1.0], [1.0]), "finite times"),
        (lambda: bin_light_curve([1.0], [1.0], [1.0], edges=[2.0, 1.0]), "increase"),
        (lambda: split_at_gaps([2.0, 1.0], 1.0), "in order"),
        (lambda: sliding_windows([1.0], 0.0), "above 0"),
        (lambda: fold([1.0], 0.0), "above 0"),
        (lambda: pad([1.0, 2.0], 1), "1 measurements at most"),
    ],
)
def test_errors_say_what_was_expected(call, words):
    """Every bad argument is an error that says what it should be."""
    with pytest.raises(SampleError, match=words):
        call()


# --------------------------------------------------------------------------------------
# Real files: WASP-126 in TESS

PERIOD, MID_TRANSIT = 3.2888, 2456890.3191
"""Of WASP-126 b [d, BJD TDB]: Maxted et al. 2016, A&A 591, A55, table 5."""


@pytest.fixture
def wasp126(real_data):
    """The table of a TESS light curve of WASP-126."""
    path = (
        real_data
        / "timeseries/tess/hlsp_tess-data-alerts_tess_phot_00025155310-s01_tess_v1_lc.fits"
    )
    if not path.is_file():
        pytest.skip(f"no {path.name}")
    with fits.open(path) as hdus:
        yield hdus[1]


@pytest.mark.real
def test_time_of_tess_is_that_of_its_header(wasp126):
    """TSTART, barycentric days since 2457000, in UTC is the header's DATE-OBS to a millisecond."""
    utc = convert_time([wasp126.header["TSTART"]], scale="tdb", to_scale="utc", zero=TESS_ZERO)
    said = Time(wasp126.header["DATE-OBS"].rstrip("Z"), scale="utc")
    assert utc[0] == pytest.approx(said.jd1 - MJD_ZERO + said.jd2, abs=1e-3 / 86400)


@pytest.mark.real
def test_a_known_planet_transits(wasp126):
    """Folded with the published period, flux is 0.6 % lower at phase 0 and nowhere else."""
    table = wasp126.data
    time, flux = (np.array(table[name], np.float64) for name in ("TIME", "PDCSAP_FLUX"))
    error = np.array(table["PDCSAP_FLUX_ERR"], np.float64)
    bad = (table["QUALITY"] != 0) | ~np.isfinite(time) | ~(error > 0)
    ivar = np.where(bad, 0, 1 / np.where(bad, 1, error) ** 2)
    bad = outliers(flux, ivar, bad, low=np.inf, high=5)
    phase, _ = fold(np.where(bad, 0, time), PERIOD, epoch=MID_TRANSIT - TESS_ZERO)
    out = bin_light_curve((phase + 0.5) % 1, flux, ivar, bad, edges=np.linspace(0, 1, 52))
    depth = 1 - out.flux / np.median(out.flux)
    assert depth[25] == pytest.approx(0.0062, abs=0.0012)
    assert np.delete(depth, [24, 25, 26]).max() < 0.0015
    assert out.ivar.sum() == pytest.approx(ivar[~bad].sum(), rel=1e-9)
