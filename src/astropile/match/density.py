"""
How dense a list is around positions, and what that says of pairs there.

The density of the right side around a pair gives the probability that an unrelated object lies
as near; with the errors of the positions, that the two are one object.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from astropile.errors import MatchError
from astropile.healpix import ang2pix
from astropile.match.positions import Pairs, _coordinates, match_positions
from astropile.sky import ARCSEC_PER_RADIAN

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NEIGHBORS: Final = 20
"""The density around a position is measured with so many objects."""

MOST_POSITIONS: Final = 100_000
"""Densities are measured at so many positions; of more, those of one small pixel share one."""

_FINEST: Final = 18
"""HEALPix order of the smallest pixels that density is looked at in: 0.8 arcsec."""


def local_density(
    ra_right: ArrayLike,
    dec_right: ArrayLike,
    ra: ArrayLike,
    dec: ArrayLike,
    *,
    has_counterpart: NDArray[np.bool_] | None = None,
) -> Floats:
    """
    Measure how many objects per area there are around positions.

    Parameters
    ----------
    ra_right, dec_right : array_like, shape (n_right,)
        The objects [deg, ICRS].
    ra, dec : array_like, shape (n,)
        Where to measure [deg, ICRS].
    has_counterpart : ndarray, shape (n,), bool, optional
        Whether one of the objects is the position's own, which is then not counted.

    Returns
    -------
    ndarray, shape (n,), float64
        Objects per square arcsecond; NaN where `ra`, `dec` is no position.

    Raises
    ------
    MatchError
        If the coordinates are not arrays of one length.

    Notes
    -----
    With the k-th nearest object (k is `NEIGHBORS`) at a distance r the density is k - 1 over
    the area within r, which is unbiased for objects that ignore each other, and good to
    1/sqrt(k): 23 %. Where fewer than k lie within three times the radius in which the average
    density has k, it is their number over that area. At the edge of a field, where part of the
    area is empty because nobody looked there, it comes out up to two times too low.

    Of more than `MOST_POSITIONS` positions, all within one HEALPix pixel that holds fewer than
    k objects on average share the density at the first.

    Examples
    --------
    >>> grid = np.arange(40) / 3600
    >>> ra, dec = (one.ravel() for one in np.meshgrid(grid, grid))
    >>> local_density(ra, dec, [20 / 3600], [20.5 / 3600]).round(1)
    array([1.])
    """
    ra_right, dec_right = _coordinates(ra_right, dec_right, "right")
    ra, dec = _coordinates(ra, dec, "left")
    good = are_positions(ra_right, dec_right)
    density = np.full(len(ra), np.nan)
    here = np.flatnonzero(are_positions(ra, dec))
    if not len(here):
        return density
    if not good.any():
        density[here] = 0.0
        return density
    order, reach = _scale(ra_right[good], dec_right[good])
    first, back = here, np.arange(len(here))
    if len(here) > MOST_POSITIONS:
        pixels = ang2pix(ra[here], dec[here], order)
        _, index, back = np.unique(pixels, return_index=True, return_inverse=True)
        first = here[index]
    number, farthest = _around(ra_right, dec_right, ra[first], dec[first], reach)
    number, farthest = number[back], farthest[back]
    own = 0 if has_counterpart is None else np.asarray(has_counterpart, bool)[here].astype(int)
    full = number > NEIGHBORS
    others = np.where(full, NEIGHBORS, number) - own
    # Objects at one place have no area of their own.
    area = _cap(np.where(full, np.maximum(farthest, 1e-6), reach))
    # The last of k marks the edge of the area and is not inside it.
    density[here] = np.maximum(others, 0) / area
    return density


def chance_probability(separation_arcsec: ArrayLike, density: ArrayLike) -> Floats:
    """
    Give the probability that an unrelated object lies as near as this by chance.

    Parameters
    ----------
    separation_arcsec : array_like, shape (n,)
        Separation of each pair [arcsec].
    density : array_like, shape (n,)
        Unrelated objects per square arcsecond around it: see `local_density`.

    Returns
    -------
    ndarray, shape (n,), float64
        ``1 - exp(-density * area)``, 0 to 1.

    Examples
    --------
    >>> chance_probability([1.0, 10.0], [0.001, 0.001]).round(4)
    array([0.0031, 0.2696])
    """
    area = _cap(np.asarray(separation_arcsec, dtype=np.float64))
    probability: Floats = -np.expm1(-np.asarray(density, dtype=np.float64) * area)
    return probability


def match_probability(
    pairs: Pairs,
    density: ArrayLike,
    sigma_left_arcsec: ArrayLike,
    sigma_right_arcsec: ArrayLike,
    *,
    completeness: float,
) -> Floats:
    """
    Give the probability of each pair to be one object, from the errors of its positions.

    Parameters
    ----------
    pairs : Pairs
        The pairs; where a left row has several, they compete.
    density : array_like, shape (n_pairs,)
        Unrelated objects per square arcsecond around each: see `local_density`.
    sigma_left_arcsec, sigma_right_arcsec : array_like, shape (n_left,) and (n_right,), or float
        Standard error of a position in one coordinate [arcsec], of each row or of all.
    completeness : float
        Share of the left rows that have a counterpart at all, 0 to 1: see `MatchSummary`.

    Returns
    -------
    ndarray, shape (n_pairs,), float64
        The probability; NaN where an error or a density is unknown.

    Raises
    ------
    MatchError
        If the completeness is not from 0 to 1.

    Notes
    -----
    The likelihood ratio [1]_ of a pair is ``completeness * f(separation) / density``, with f
    the normal distribution of the combined error on the sky; its probability that ratio over
    the sum of those of the left row's pairs and ``1 - completeness``. It is right as far as the
    errors are: proper motion, and systematic differences between surveys, are not in them.

    References
    ----------
    .. [1] W. Sutherland & W. Saunders (1992), MNRAS 259, 413

    Examples
    --------
    >>> pairs = match_positions([10, 20], [0, 0], [10, 20], [1e-4, 2e-3], radius_arcsec=9)
    >>> match_probability(pairs, [1e-4, 1e-4], 0.2, 0.2, completeness=0.9).round(3)
    array([1., 0.])
    """
    if not 0 <= completeness <= 1:
        raise MatchError("completeness", "a share from 0 to 1", repr(completeness))
    sigma = []
    for given, rows in ((sigma_left_arcsec, pairs.left), (sigma_right_arcsec, pairs.right)):
        values = np.asarray(given, dtype=np.float64)
        sigma.append(values[rows] if values.ndim else np.full(len(rows), float(values)))
    variance = sigma[0] ** 2 + sigma[1] ** 2
    variance = np.where(variance > 0, variance, np.nan)
    # As logarithms: far out the likelihood is too small for a float.
    log_f = -(pairs.separation_arcsec**2) / (2 * variance) - np.log(2 * np.pi * variance)
    density = np.asarray(density, dtype=np.float64)
    ratio = np.full(len(pairs), np.inf)
    sparse = density > 0
    with np.errstate(under="ignore"):
        ratio[sparse] = completeness * np.exp(log_f[sparse]) / density[sparse]
    ratio[np.isnan(log_f) | np.isnan(density)] = np.nan
    if completeness == 0:
        ratio[~np.isnan(ratio)] = 0.0
    _, back = np.unique(pairs.left, return_inverse=True)
    total = np.bincount(back, np.nan_to_num(ratio, nan=0.0, posinf=1e300))[back]
    finite = np.where(np.isinf(ratio), 1e300, ratio)
    whole = total + (1 - completeness)
    return np.where(whole > 0, finite / np.where(whole > 0, whole, 1.0), finite)


def are_positions(ra: Floats, dec: Floats) -> NDArray[np.bool_]:
    """
    Say which rows are positions, as `match_positions` counts them.

    Parameters
    ----------
    ra, dec : ndarray, shape (n,), float64
        What may be positions [deg].

    Returns
    -------
    ndarray, shape (n,), bool
        Whether each is one.
    """
    good: NDArray[np.bool_] = (np.abs(dec) <= 90) & (np.abs(ra - 180) <= 720)
    return good


def _around(
    ra_right: Floats, dec_right: Floats, ra: Floats, dec: Floats, reach: float
) -> tuple[Ints, Floats]:
    """Count objects within reach, up to one more than wanted, and how far the last one is."""
    number, farthest = np.zeros(len(ra), np.int64), np.full(len(ra), reach)
    step = MOST_POSITIONS // 4
    for first in range(0, len(ra), step):
        part = slice(first, first + step)
        found = match_positions(
            ra[part],
            dec[part],
            ra_right,
            dec_right,
            radius_arcsec=reach,
            n_neighbors=NEIGHBORS + 1,
        )
        count = np.bincount(found.left, minlength=len(number[part]))
        number[part] = count
        last = np.cumsum(count) - 1
        some = count > 0
        farthest[part][some] = found.separation_arcsec[last[some]]
    return number, farthest


def _scale(ra: Floats, dec: Floats) -> tuple[int, float]:
    """Give an order whose pixels hold fewer than k objects on average, and how far k reach."""
    pixels = np.sort(ang2pix(ra, dec, _FINEST))
    order, occupied = 0, 1
    for order in range(_FINEST, -1, -1):
        occupied = 1 + int(np.count_nonzero(np.diff(pixels >> 2 * (_FINEST - order))))
        if len(pixels) / occupied >= NEIGHBORS / 2:
            break
    area = 4 * math.pi / (12 << 2 * order) * ARCSEC_PER_RADIAN**2
    density = len(pixels) / (occupied * area)
    reach = 3 * math.sqrt(NEIGHBORS / density / math.pi)
    return order, min(reach, 90 * 3600.0)


def _cap(radius_arcsec: Any) -> Floats:
    """Area within a radius [square arcsec]."""
    half = np.asarray(radius_arcsec, dtype=np.float64) / ARCSEC_PER_RADIAN / 2
    area: Floats = 4 * np.pi * np.sin(half) ** 2 * ARCSEC_PER_RADIAN**2
    return area
