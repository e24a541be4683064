"""
Light curves: cleaning, scales of time, duplicates and bins, windows, folding, padding.

A light curve is arrays of one axis, one element a measurement, in any order unless said
otherwise; numpy only, since each has a length of its own. Fluxes may be of any linear unit;
magnitudes go through `astropile.transforms.photometry` first, where a mean of them would not be
the mean of light.
"""

from __future__ import annotations

import itertools
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from astropile.errors import SampleError
from astropile.transforms import _ops

MJD_ZERO: Final = 2400000.5
"""Zero point of modified Julian dates [JD]."""

KEPLER_ZERO: Final = 2454833.0
"""Zero point of Kepler's BKJD [BJD TDB]."""

TESS_ZERO: Final = 2457000.0
"""Zero point of TESS's BTJD [BJD TDB]."""

_SCALES: Final = ("utc", "tai", "tt", "tcg", "tdb", "tcb")


class Means(NamedTuple):
    """
    Measurements put together in groups.

    Attributes
    ----------
    time : ndarray, shape (n,), float64
        Mean time, weighted as the flux; NaN where there was nothing.
    flux : ndarray, shape (n,)
        Mean weighted by inverse variance, in the dtype it came in; 0 where the mask is True.
    ivar : ndarray, shape (n,)
        Sum of inverse variances.
    mask : ndarray, shape (n,), bool
        True where there was nothing.
    n_measured : ndarray, shape (n,), int64
        How many measurements.
    band : ndarray, shape (n,), or None
        Their band, where bands were kept apart.
    """

    time: NDArray[np.float64]
    flux: NDArray[Any]
    ivar: NDArray[Any]
    mask: NDArray[np.bool_]
    n_measured: NDArray[np.int64]
    band: NDArray[Any] | None = None


def convert_time(
    time: ArrayLike,
    *,
    scale: str,
    to_scale: str,
    zero: float = MJD_ZERO,
    to_zero: float = MJD_ZERO,
) -> NDArray[np.float64]:
    """
    Change the scale and the zero point of times.

    Parameters
    ----------
    time : array_like, float64
        Days since `zero`.
    scale, to_scale : {"utc", "tai", "tt", "tcg", "tdb", "tcb"}
        Scale they are in, and the one wanted.
    zero, to_zero : float
        Julian dates of 0, each in its scale: `MJD_ZERO`, `KEPLER_ZERO`, `TESS_ZERO`, 0 for JD.

    Returns
    -------
    ndarray, float64
        Days since `to_zero`, to about 1e-11 d of their size.

    Raises
    ------
    SampleError
        If a scale is another, or a time is not finite.

    Notes
    -----
    By astropy.time, with 64 + 64 bits in between. The place stays: a time measured on Earth is
    not moved to the barycentre, which makes up to 500 s. UT1 is not among the scales, since it
    takes tables of the Earth's rotation. UTC before 1960, or years after astropy's table of leap
    seconds ends, is a guess of astropy's, which warns of it.

    Examples
    --------
    >>> convert_time([0.0], scale="tdb", to_scale="tdb", zero=TESS_ZERO)
    array([56999.5])
    """
    from astropy.time import Time

    for name, given in (("scale", scale), ("to_scale", to_scale)):
        if given not in _SCALES:
            raise SampleError(name, f"one of {', '.join(_SCALES)}", repr(given))
    days = np.asarray(time, np.float64)
    if not np.isfinite(days).all():
        raise SampleError("time", "finite times", "others")
    instant = getattr(Time(np.full_like(days, zero), days, format="jd", scale=scale), to_scale)
    return np.asarray((instant.jd1 - to_zero) + instant.jd2, np.float64)


def outliers(
    flux: ArrayLike,
    ivar: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    *,
    band: ArrayLike | None = None,
    low: float = 5.0,
    high: float = 5.0,
    n_iter: int = 5,
) -> NDArray[np.bool_]:
    """
    Flag measurements far from the median of their band.

    Parameters
    ----------
    flux : array_like, shape (n,)
        Fluxes.
    ivar : array_like, shape (n,), optional
        Inverse variance.
    mask : array_like, shape (n,), bool, optional
        True is bad already.
    band : array_like, shape (n,), optional
        Name of each measurement's band; by default all are of one.
    low, high : float
        How far below and above the median still is good, in standard deviations. A transient,
        a flare: ``high=numpy.inf``; an eclipse: ``low=numpy.inf``.
    n_iter : int
        Rounds at most; it ends when none is flagged.

    Returns
    -------
    ndarray, shape (n,), bool
        True is bad: those of mask, those not finite or with ivar 0, and outliers.

    Raises
    ------
    SampleError
        If lengths differ, or low or high is not above 0.

    Notes
    -----
    A standard deviation is the larger of the measurement's own and 1.4826 times the median
    absolute deviation of its band. A band whose good fluxes are all equal, without ivar, has
    none: nothing is flagged in it.
    """
    if not (low > 0 and high > 0):
        raise SampleError("low, high", "numbers above 0", f"{low!r}, {high!r}")
    values = np.asarray(flux)
    bad = ~_good(values, ivar, mask)
    bands = np.zeros(values.size, np.int64) if band is None else _codes(values, band)
    error = np.zeros(values.size)
    if ivar is not None:
        error[~bad] = np.asarray(ivar, np.float64)[~bad] ** -0.5
    for number in np.unique(bands):
        here = bands == number
        for _ in range(n_iter):
            kept = here & ~bad
            offset = values.astype(np.float64) - (np.median(values[kept]) if kept.any() else 0)
            scatter = _ops.MAD_TO_SIGMA * np.median(abs(offset[kept])) if kept.any() else 0.0
            sigma = np.maximum(error, scatter)
            far = kept & (sigma > 0) & ((offset < -low * sigma) | (offset > high * sigma))
            if not far.any():
                break
            bad |= far
    return bad


def merge_duplicates(
    time: ArrayLike,
    flux: ArrayLike,
    ivar: ArrayLike,
    mask: ArrayLike | None = None,
    *,
    band: ArrayLike | None = None,
    tolerance: float = 0.0,
) -> Means:
    """
    Put measurements of the same time and band together.

    Parameters
    ----------
    time : array_like, shape (n,), float64
        Times [d].
    flux, ivar : array_like, shape (n,)
        Fluxes and their inverse variance.
    mask : array_like, shape (n,), bool, optional
        Measurements to leave out.
    band : array_like, shape (n,), optional
        Name of each measurement's band; by default all are of one.
    tolerance : float
        How far, after the first of a group, a time still is the same [d], inclusive.

    Returns
    -------
    Means
        In order of time, then band. Sums of ivar and of ivar times flux over good
        measurements are conserved.

    Raises
    ------
    SampleError
        If lengths differ, a good time is not finite, or tolerance is below 0.
    """
    if not tolerance >= 0:
        raise SampleError("tolerance", "0 or more", repr(tolerance))
    days, values, weight, good = _measured(time, flux, ivar, mask)
    names = np.zeros(days.size, np.int64) if band is None else np.asarray(band)
    codes = _codes(values, names)
    rows = np.flatnonzero(good)
    rows = rows[np.lexsort((days[rows], codes[rows]))]
    firsts: list[int] = []
    group = np.zeros(rows.size, np.int64)
    for number, row in enumerate(rows):
        first = rows[firsts[-1]] if firsts else row
        if not firsts or codes[row] != codes[first] or days[row] - days[first] > tolerance:
            firsts.append(number)
        group[number] = len(firsts) - 1
    means = _means(days[rows], values[rows], weight[rows], group, len(firsts))
    named = names[rows[firsts]]
    order = np.lexsort((_codes(named, named), means.time))
    return Means(
        means.time[order],
        means.flux[order].astype(values.dtype),
        means.ivar[order].astype(np.asarray(ivar).dtype),
        means.mask[order],
        means.n_measured[order],
        None if band is None else named[order],
    )


def bin_light_curve(
    time: ArrayLike,
    flux: ArrayLike,
    ivar: ArrayLike,
    mask: ArrayLike | None = None,
    *,
    edges: ArrayLike,
) -> Means:
    """
    Average a light curve of one band in bins of time.

    Parameters
    ----------
    time : array_like, shape (n,), float64
        Times [d].
    flux, ivar : array_like, shape (n,)
        Fluxes and their inverse variance.
    mask : array_like, shape (n,), bool, optional
        Measurements to leave out.
    edges : array_like, shape (m + 1,), float64
        Edges of the bins, increasing; a time on an edge is of the bin that begins there.

    Returns
    -------
    Means
        m bins. Sums of ivar and of ivar times flux over good measurements within the edges are
        conserved; empty bins are masked, nothing is filled in.

    Raises
    ------
    SampleError
        If lengths differ, a good time is not finite, or edges do not increase.
    """
    bounds = np.asarray(edges, np.float64)
    if bounds.ndim != 1 or bounds.size < 2 or not (np.diff(bounds) > 0).all():
        raise SampleError("edges", "2 edges or more that increase", "others")
    days, values, weight, good = _measured(time, flux, ivar, mask)
    place = np.searchsorted(bounds, days, side="right") - 1
    rows = np.flatnonzero(good & (place >= 0) & (place < bounds.size - 1))
    means = _means(days[rows], values[rows], weight[rows], place[rows], bounds.size - 1)
    return Means(
        means.time,
        means.flux.astype(values.dtype),
        means.ivar.astype(np.asarray(ivar).dtype),
        means.mask,
        means.n_measured,
    )


def split_at_gaps(time: ArrayLike, gap: float) -> list[slice]:
    """
    Cut a light curve where nothing was observed for long: seasons, sectors.

    Parameters
    ----------
    time : array_like, shape (n,), float64
        Times in order [d].
    gap : float
        Longer than this from one measurement to the next is a gap [d].

    Returns
    -------
    list of slice
        Parts, in order; each measurement is in exactly one.

    Raises
    ------
    SampleError
        If times are not in order or gap is not above 0.

    Examples
    --------
    >>> split_at_gaps([0.0, 1.0, 30.0], gap=10.0)
    [slice(0, 2, None), slice(2, 3, None)]
    """
    days = _ordered(time)
    if not gap > 0:
        raise SampleError("gap", "a number above 0", repr(gap))
    cuts = [0, *(np.flatnonzero(np.diff(days) > gap) + 1).tolist(), days.size]
    return [slice(first, last) for first, last in itertools.pairwise(cuts) if last > first]


def sliding_windows(time: ArrayLike, width: float, step: float | None = None) -> list[slice]:
    """
    Cut a light curve into windows of equal duration.

    Parameters
    ----------
    time : array_like, shape (n,), float64
        Times in order [d].
    width : float
        Duration of a window [d].
    step : float, optional
        From the begin of one to that of the next [d]; by default `width`, no overlap.

    Returns
    -------
    list of slice
        Measurements from ``first + i * step``, inclusive, to `width` later, exclusive;
        windows without any are left out. With a step of at most the width every measurement
        is in one or more.

    Raises
    ------
    SampleError
        If times are not in order, or width or step not above 0.
    """
    days = _ordered(time)
    step = width if step is None else step
    if not (width > 0 and step > 0):
        raise SampleError("width, step", "numbers above 0", f"{width!r}, {step!r}")
    if days.size == 0:
        return []
    # Bounds are computed once, so that windows that touch share them to the bit.
    count = int(np.floor((days[-1] - days[0]) / step)) + 1
    begins = days[0] + step * np.arange(count + 1)
    ends = begins[1:] if step == width else begins[:-1] + width
    first = np.searchsorted(days, begins[:-1], side="left")
    last = np.searchsorted(days, ends, side="left")
    if step == width:
        last[-1] = days.size
    pairs = zip(first.tolist(), last.tolist(), strict=True)
    return [slice(low, high) for low, high in pairs if high > low]


def fold(
    time: ArrayLike, period: float, *, epoch: float = 0.0
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """
    Give the phase of each time.

    Parameters
    ----------
    time : array_like, shape (n,), float64
        Times [d].
    period : float
        [d].
    epoch : float
        Time of phase 0 [d].

    Returns
    -------
    phase : ndarray, shape (n,), float64
        0 inclusive to 1 exclusive.
    cycle : ndarray, shape (n,), int64
        ``epoch + (cycle + phase) * period`` is the time.

    Raises
    ------
    SampleError
        If the period is not above 0 or a time is not finite.

    Examples
    --------
    >>> fold([10.0, 10.5, 9.5], 2.0, epoch=10.0)
    (array([0.  , 0.25, 0.75]), array([ 0,  0, -1]))
    """
    days = np.asarray(time, np.float64)
    if not (0 < period < np.inf):
        raise SampleError("period", "a number above 0", repr(period))
    if not np.isfinite(days).all():
        raise SampleError("time", "finite times", "others")
    turns = (days - epoch) / period
    cycle = np.floor(turns)
    phase = turns - cycle
    over = phase >= 1  # a time a rounding error before a whole cycle
    return np.where(over, 0.0, phase), (cycle + over).astype(np.int64)


def pad(
    values: ArrayLike, length: int, *, fill: float = 0.0
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """
    Bring values to a fixed length.

    Parameters
    ----------
    values : array_like, shape (n, ...)
        Measurements on the first axis, at most `length`.
    length : int
        Length wanted.
    fill : float
        What is put after the end.

    Returns
    -------
    values : ndarray, shape (length, ...)
        In the dtype they came in.
    mask : ndarray, shape (length,), bool
        True after the end.

    Raises
    ------
    SampleError
        If there are more: choose which to keep, by `sliding_windows` or `bin_light_curve`.

    Examples
    --------
    >>> pad([1.0, 2.0], 3)
    (array([1., 2., 0.]), array([False, False,  True]))
    """
    given = np.asarray(values)
    if given.ndim == 0 or len(given) > length:
        raise SampleError("values", f"{length} measurements at most", str(given.shape))
    padded = np.full((length, *given.shape[1:]), fill, given.dtype)
    padded[: len(given)] = given
    return padded, np.arange(length) >= len(given)


# --------------------------------------------------------------------------------------
# Means of groups


def _means(days: Any, values: Any, weight: Any, group: Any, count: int) -> Means:
    """Give means of groups, in float64; every group may be empty."""
    number = np.bincount(group, minlength=count)
    ivar = np.bincount(group, weight, count)
    safe = np.where(number > 0, ivar, 1.0)
    flux = np.bincount(group, weight * values, count) / safe
    # Times are of the order of 1e5: their differences are what is averaged.
    origin = days.min() if days.size else 0.0
    time = origin + np.bincount(group, weight * (days - origin), count) / safe
    empty = number == 0
    return Means(np.where(empty, np.nan, time), flux, ivar, empty, number.astype(np.int64), None)


def _measured(time: Any, flux: Any, ivar: Any, mask: Any) -> tuple[Any, Any, Any, Any]:
    days, values = np.asarray(time, np.float64), np.asarray(flux)
    if days.shape != values.shape:
        raise SampleError("flux", f"shape {days.shape}, as time", str(values.shape))
    good = _good(values, ivar, mask)
    if not np.isfinite(days[good]).all():
        raise SampleError("time", "finite times", "others")
    return days, values, np.asarray(ivar, np.float64), good


def _good(values: NDArray[Any], ivar: Any, mask: Any) -> NDArray[np.bool_]:
    if values.ndim != 1:
        raise SampleError("flux", "one axis", str(values.shape))
    weight = None if ivar is None else np.asarray(ivar)
    flags = None if mask is None else np.asarray(mask)
    good: NDArray[np.bool_] = _ops.good_pixels(_ops.namespace(values), values, weight, flags)
    return good


def _codes(values: NDArray[Any], band: Any) -> NDArray[np.int64]:
    names = np.asarray(band)
    if names.shape != values.shape:
        raise SampleError("band", f"shape {values.shape}, as flux", str(names.shape))
    return np.unique(names, return_inverse=True)[1].astype(np.int64)


def _ordered(time: Any) -> NDArray[np.float64]:
    days = np.asarray(time, np.float64)
    if days.ndim != 1 or not np.isfinite(days).all() or (np.diff(days) < 0).any():
        raise SampleError("time", "one axis of finite times, in order", "others")
    return days
