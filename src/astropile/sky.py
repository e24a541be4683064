"""
Arithmetic on the sphere: arrays in, arrays out.

Angles are degrees, ICRS unless said otherwise, and separations arcseconds. Nothing here
moves a coordinate in time or between frames.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

ARCSEC_PER_RADIAN = 180.0 * 3600.0 / np.pi


def wrap_ra(ra: ArrayLike) -> NDArray[np.float64]:
    """
    Bring right ascensions into one turn.

    Parameters
    ----------
    ra : array_like of float
        Right ascension [deg], any number of turns away.

    Returns
    -------
    ndarray of float64
        The same directions, ``0 <= ra < 360`` [deg].

    Examples
    --------
    >>> wrap_ra([-90.0, 360.0, 720.25])
    array([2.7e+02, 0.0e+00, 2.5e-01])
    """
    turned = np.mod(np.asarray(ra, dtype=np.float64), 360.0)
    # The remainder of a tiny negative number rounds up to a full turn.
    return np.where(turned == 360.0, 0.0, turned)


def unit_vectors(ra: ArrayLike, dec: ArrayLike) -> NDArray[np.float64]:
    """
    Turn positions into points on the unit sphere.

    Parameters
    ----------
    ra, dec : array_like of float, shape (...)
        Positions [deg].

    Returns
    -------
    ndarray of float64, shape (..., 3)
        Cartesian coordinates: x towards ra 0, y towards ra 90, z towards the north pole.

    Examples
    --------
    >>> unit_vectors([0.0, 30.0], [90.0, 0.0]).round(3)
    array([[0.   , 0.   , 1.   ],
           [0.866, 0.5  , 0.   ]])
    """
    ra, dec = np.broadcast_arrays(
        np.radians(np.asarray(ra, dtype=np.float64)), np.asarray(dec, dtype=np.float64)
    )
    across = _cos_dec(dec)
    up = np.sin(np.radians(dec))
    return np.stack([across * np.cos(ra), across * np.sin(ra), up], axis=-1)


def separation_arcsec(
    ra_left: ArrayLike, dec_left: ArrayLike, ra_right: ArrayLike, dec_right: ArrayLike
) -> NDArray[np.float64]:
    """
    Measure the angle between positions.

    Parameters
    ----------
    ra_left, dec_left, ra_right, dec_right : array_like of float, shape (...)
        Positions [deg]; the shapes broadcast.

    Returns
    -------
    ndarray of float64, shape (...)
        Angular separation [arcsec], 0 to 648000.

    Notes
    -----
    The haversine of the separation and that of its supplement are both sums of squares, so
    that neither small nor nearly opposite separations lose digits. What is left is the
    rounding of the coordinates themselves, below 1e-9 arcsec. Coordinates are widened to
    float64 first.

    Examples
    --------
    >>> separation_arcsec([359.99999, 10.0], [0.0, 89.9999], [0.00001, 190.0], [0.0, 89.9999])
    array([0.072, 0.72 ])
    """
    ra_1, dec_1, ra_2, dec_2 = (
        np.asarray(angle, dtype=np.float64) for angle in (ra_left, dec_left, ra_right, dec_right)
    )
    across = _cos_dec(dec_1) * _cos_dec(dec_2)
    turn = wrap_ra(ra_1) - wrap_ra(ra_2)
    # Back to the short way round, which is exact and keeps the digits of a pair at ra 0.
    half_turn = np.radians(
        np.where(turn > 180, turn - 360, np.where(turn < -180, turn + 360, turn)) / 2
    )
    near = np.sin(np.radians((dec_1 - dec_2) / 2)) ** 2 + across * np.sin(half_turn) ** 2
    far = np.sin(np.radians((dec_1 + dec_2) / 2)) ** 2 + across * np.cos(half_turn) ** 2
    angle: NDArray[np.float64] = 2 * np.arctan2(np.sqrt(near), np.sqrt(far)) * ARCSEC_PER_RADIAN
    return angle


def mean_position(
    ra: ArrayLike, dec: ArrayLike, axis: int = -1
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """
    Average positions as directions.

    Parameters
    ----------
    ra, dec : array_like of float
        Positions [deg].
    axis : int
        The axis to average over.

    Returns
    -------
    ra, dec : ndarray of float64
        Direction of the vector sum [deg], ``0 <= ra < 360``; NaN where the vectors cancel.

    Examples
    --------
    >>> ra, dec = mean_position([359.99999, 0.00001], [10.0, 10.0])
    >>> float(ra.round(9)), float(dec.round(9))
    (0.0, 10.0)
    """
    total = unit_vectors(ra, dec)
    # The last axis of the vectors is x, y, z: a negative axis of the input lies one further.
    x, y, z = np.moveaxis(total.sum(axis=axis if axis >= 0 else axis - 1), -1, 0)
    across = np.hypot(x, y)
    # Opposite positions leave only rounding, which has no direction.
    undefined = np.hypot(across, z) < 1e-12
    mean_ra = wrap_ra(np.degrees(np.arctan2(y, x)))
    mean_dec = np.degrees(np.arctan2(z, across))
    return np.where(undefined, np.nan, mean_ra), np.where(undefined, np.nan, mean_dec)


def _cos_dec(dec: NDArray[np.float64]) -> NDArray[np.float64]:
    # As a sine of the polar distance: exact at the pole, and full digits close to it.
    result: NDArray[np.float64] = np.sin(np.radians(90.0 - np.abs(dec)))
    return result
