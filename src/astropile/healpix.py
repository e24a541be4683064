"""
HEALPix pixels, always in the NESTED scheme; the one door to a HEALPix library.

`order` is the HEALPix depth k (``nside = 2**order``); `ipix` a pixel number of that order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

MAX_ORDER = 29


@dataclass(frozen=True, order=True)
class HealpixPixel:
    """
    One pixel of the sky: a pixel number together with its order.

    Parameters
    ----------
    order : int
        HEALPix depth, 0 to 29.
    ipix : int
        Pixel number, NESTED, 0 to ``12 * 4**order - 1``.

    Raises
    ------
    ValueError
        If either lies outside its range.

    Examples
    --------
    >>> HealpixPixel(order=5, ipix=10000).at(4)
    HealpixPixel(order=4, ipix=2500)
    """

    order: int
    ipix: int

    def __post_init__(self) -> None:
        check_order(self.order)
        if not 0 <= self.ipix < n_pixels(self.order):
            raise ValueError(
                f"pixel number {self.ipix!r} is not among the {n_pixels(self.order)} "
                f"pixels of order {self.order}"
            )

    def at(self, order: int) -> HealpixPixel:
        """
        Return the pixel of a coarser order that holds this one.

        Parameters
        ----------
        order : int
            An order not finer than this pixel's.

        Returns
        -------
        HealpixPixel
            The enclosing pixel.
        """
        if order > self.order:
            raise ValueError(f"order {order} is finer than the pixel's own, {self.order}")
        return HealpixPixel(order, self.ipix >> 2 * (self.order - order))


def check_order(order: int) -> int:
    """
    Return `order` if it is a HEALPix order.

    Parameters
    ----------
    order : int
        Depth to check.

    Returns
    -------
    int
        The same number.

    Raises
    ------
    ValueError
        If it is not an integer from 0 to 29.
    """
    if isinstance(order, bool) or not isinstance(order, int | np.integer) or not 0 <= order <= 29:
        raise ValueError(f"a HEALPix order is an integer from 0 to {MAX_ORDER}, not {order!r}")
    return int(order)


def n_pixels(order: int) -> int:
    """
    Count the pixels of the sphere at an order.

    Parameters
    ----------
    order : int
        HEALPix depth.

    Returns
    -------
    int
        ``12 * 4**order``.
    """
    return 12 << 2 * order


def ang2pix(ra: ArrayLike, dec: ArrayLike, order: int) -> NDArray[np.int64]:
    """
    Find the pixel each position lies in.

    Parameters
    ----------
    ra, dec : array_like, shape (n,), float64
        Finite positions [deg, ICRS]; `ra` may lie outside [0, 360).
    order : int
        HEALPix depth.

    Returns
    -------
    ndarray, shape (n,), int64
        Pixel numbers, NESTED.

    Examples
    --------
    >>> ang2pix([124.0, 359.99999], [0.0, 0.0], 4)
    array([1366, 1173])
    """
    import cdshealpix.nested as cds
    from astropy.coordinates import Latitude, Longitude

    ra_deg = np.mod(np.atleast_1d(np.asarray(ra, dtype=np.float64)), 360.0)
    dec_deg = np.atleast_1d(np.asarray(dec, dtype=np.float64))
    if ra_deg.size == 0:
        return np.empty(0, dtype=np.int64)
    pixels: Any = cds.lonlat_to_healpix(
        Longitude(ra_deg, unit="deg"), Latitude(dec_deg, unit="deg"), check_order(order)
    )
    return np.asarray(pixels).astype(np.int64)


def pix2ang(ipix: ArrayLike, order: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """
    Give the centre of each pixel.

    Parameters
    ----------
    ipix : array_like, shape (n,), int64
        Pixel numbers, NESTED.
    order : int
        HEALPix depth.

    Returns
    -------
    ra, dec : ndarray, shape (n,), float64
        Centres [deg, ICRS].
    """
    import cdshealpix.nested as cds

    lon, lat = cds.healpix_to_lonlat(
        np.atleast_1d(np.asarray(ipix, dtype=np.uint64)), check_order(order)
    )
    return np.asarray(lon.deg, dtype=np.float64), np.asarray(lat.deg, dtype=np.float64)


def pixels_in_cone(ra: float, dec: float, radius_arcsec: float, order: int) -> NDArray[np.int64]:
    """
    List the pixels of an order that a cone may touch.

    Parameters
    ----------
    ra, dec : float
        Centre of the cone [deg, ICRS].
    radius_arcsec : float
        Radius [arcsec].
    order : int
        HEALPix depth.

    Returns
    -------
    ndarray, shape (n,), int64
        Sorted pixel numbers, NESTED. A superset of the pixels touched.
    """
    import cdshealpix.nested as cds
    from astropy.coordinates import Angle, Latitude, Longitude

    ipix, _, _ = cds.cone_search(
        Longitude(ra % 360.0, unit="deg"),
        Latitude(dec, unit="deg"),
        Angle(min(max(radius_arcsec, 1e-3), 648000.0), unit="arcsec"),
        check_order(order),
        flat=True,
    )
    return np.unique(np.asarray(ipix).astype(np.int64))


def ring_of_nested(ipix: ArrayLike, order: int) -> NDArray[np.int64]:
    """
    Give the numbers of pixels in the RING scheme, which no tree is in.

    Parameters
    ----------
    ipix : array_like, shape (n,), int64
        Pixel numbers, NESTED.
    order : int
        HEALPix depth.

    Returns
    -------
    ndarray, shape (n,), int64
        Pixel numbers, RING.

    Examples
    --------
    >>> ring_of_nested([0, 5], 1)
    array([13,  7])
    """
    import cdshealpix

    given = np.atleast_1d(np.asarray(ipix, dtype=np.uint64))
    if given.size == 0:
        return np.empty(0, dtype=np.int64)
    return np.asarray(cdshealpix.to_ring(given, check_order(order))).astype(np.int64)


def neighbours(ipix: ArrayLike, order: int) -> NDArray[np.int64]:
    """
    Find the pixels that touch given ones.

    Parameters
    ----------
    ipix : array_like, shape (n,), int64
        Pixel numbers, NESTED.
    order : int
        HEALPix depth.

    Returns
    -------
    ndarray, shape (n, 9), int64
        Each pixel and those that share an edge or a corner with it; -1 where there are fewer,
        as at the eight corners of base pixels where three meet.

    Examples
    --------
    >>> np.sort(neighbours([0], 0))
    array([[-1, -1,  0,  1,  2,  3,  4,  5,  8]])
    """
    import cdshealpix.nested as cds

    given = np.atleast_1d(np.asarray(ipix, dtype=np.uint64))
    if given.size == 0:
        return np.empty((0, 9), dtype=np.int64)
    return np.asarray(cds.neighbours(given, check_order(order))).astype(np.int64)


def with_neighbours(ipix: ArrayLike, order: int) -> NDArray[np.int64]:
    """
    Add the pixels that touch given ones.

    Parameters
    ----------
    ipix : array_like, shape (n,), int64
        Pixel numbers, NESTED.
    order : int
        HEALPix depth.

    Returns
    -------
    ndarray, shape (m,), int64
        These and those that share an edge or a corner with one of them, sorted.

    Examples
    --------
    >>> with_neighbours([0], 0)
    array([0, 1, 2, 3, 4, 5, 8])
    """
    around = np.unique(neighbours(ipix, order))
    return around[around >= 0]
