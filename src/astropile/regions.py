"""
Regions of the sky: which positions lie in them, and which HEALPix pixels may hold such positions.

Arrays in, arrays out. `Region.contains` is exact, edges included; `pixel_ranges` gives a superset,
which finds the rows worth looking at in a catalogue that is sorted along the sky.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from astropile.healpix import check_order, n_pixels, pix2ang
from astropile.sky import ARCSEC_PER_RADIAN, separation_arcsec, unit_vectors, wrap_ra

MAX_CELLS: Final = 2000
"""A region is covered by about so many pixels."""

PIXEL_RADIUS: Final = 1.07
"""No corner of a pixel of order k is farther from its centre than this / 2**k [radians]."""

EDGE_ARCSEC: Final = 1e-7
"""A position this close to an edge of a polygon lies on it: some rounding errors of a coordinate
[arcsec]."""

_SLACK: Final = 1e-9
"""Pixels are taken to be larger by this: the rounding of their centres [radians]."""

_CHUNK: Final = 2**20
"""Positions times edges looked at together."""


class Region(Protocol):
    """A part of the sky."""

    def contains(self, ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.bool_]:
        """
        Tell which positions lie in the region or on its edge.

        Parameters
        ----------
        ra, dec : ndarray, shape (n,), float64
            Positions [deg, ICRS].

        Returns
        -------
        ndarray, shape (n,), bool
            True for those that do.
        """

    def touches(
        self, ra: NDArray[np.float64], dec: NDArray[np.float64], radius: float
    ) -> NDArray[np.bool_]:
        """
        Tell which discs may have a point in common with the region.

        Parameters
        ----------
        ra, dec : ndarray, shape (n,), float64
            Their centres [deg, ICRS].
        radius : float
            Radius of all of them [radians].

        Returns
        -------
        ndarray, shape (n,), bool
            False only where there is none for certain.
        """


@dataclass(frozen=True)
class Cone:
    """
    Everything within an angle of a position.

    Parameters
    ----------
    ra, dec : float
        The position [deg, ICRS].
    radius_arcsec : float
        The angle [arcsec], inclusive.

    Raises
    ------
    ValueError
        If the position is not on the sky or the radius is negative or not finite.
    """

    ra: float
    dec: float
    radius_arcsec: float

    def __post_init__(self) -> None:
        _check_dec(self.dec)
        _check_finite("right ascension", self.ra)
        if not (np.isfinite(self.radius_arcsec) and self.radius_arcsec >= 0):
            raise ValueError(f"a radius is at least 0 arcsec, not {self.radius_arcsec!r}")

    def contains(self, ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Tell which positions are near enough: see `Region.contains`."""
        return np.asarray(separation_arcsec(self.ra, self.dec, ra, dec) <= self.radius_arcsec)

    def touches(
        self, ra: NDArray[np.float64], dec: NDArray[np.float64], radius: float
    ) -> NDArray[np.bool_]:
        """Tell which discs may reach the cone: see `Region.touches`."""
        reach = self.radius_arcsec + radius * ARCSEC_PER_RADIAN
        return np.asarray(separation_arcsec(self.ra, self.dec, ra, dec) <= reach)


@dataclass(frozen=True)
class Box:
    """
    Everything between two meridians and two parallels.

    Parameters
    ----------
    ra_min, ra_max : float
        Right ascensions [deg, ICRS], inclusive, eastwards from the first to the second: with
        ``ra_min > ra_max`` the box goes through 0 = 360. 360 degrees or more apart: all around.
    dec_min, dec_max : float
        Declinations [deg, ICRS], inclusive.

    Raises
    ------
    ValueError
        If a declination is not on the sky, the second is less than the first, or a right
        ascension is not finite.
    """

    ra_min: float
    ra_max: float
    dec_min: float
    dec_max: float

    def __post_init__(self) -> None:
        for ra in (self.ra_min, self.ra_max):
            _check_finite("right ascension", ra)
        for dec in (self.dec_min, self.dec_max):
            _check_dec(dec)
        if self.dec_min > self.dec_max:
            raise ValueError(f"dec_min {self.dec_min} is greater than dec_max {self.dec_max}")

    @property
    def _is_ring(self) -> bool:
        return self.ra_max - self.ra_min >= 360

    def contains(self, ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Tell which coordinates lie between the limits: see `Region.contains`."""
        inside = (dec >= self.dec_min) & (dec <= self.dec_max)
        if self._is_ring:
            return np.asarray(inside)
        first, last = float(wrap_ra(self.ra_min)), float(wrap_ra(self.ra_max))
        turned = wrap_ra(ra)
        if first <= last:
            return np.asarray(inside & (turned >= first) & (turned <= last))
        return np.asarray(inside & ((turned >= first) | (turned <= last)))

    def touches(
        self, ra: NDArray[np.float64], dec: NDArray[np.float64], radius: float
    ) -> NDArray[np.bool_]:
        """Tell which discs may reach the box: see `Region.touches`."""
        reach = np.degrees(radius)
        near = (dec >= self.dec_min - reach) & (dec <= self.dec_max + reach)
        if self._is_ring:
            return np.asarray(near)
        # The meridians that touch a disc are this far from its centre; at a pole there are none.
        polar = np.abs(dec) + reach >= 90
        with np.errstate(invalid="ignore"):
            half = np.degrees(np.arcsin(np.sin(radius) / np.cos(np.radians(dec))))
        half = np.where(polar, 180.0, half) + np.degrees(_SLACK)
        width = (self.ra_max - self.ra_min) % 360
        east = (ra - self.ra_min) % 360
        return np.asarray(near & (polar | (east <= width + half) | (east >= 360 - half)))


class Polygon:
    """
    Everything inside a closed line of great circles.

    Parameters
    ----------
    vertices : array_like, shape (n, 2), float64
        Right ascension and declination of at least three corners [deg, ICRS], either way round;
        the last is joined to the first, and may repeat it.

    Raises
    ------
    ValueError
        If they are not of that shape, not on the sky, fewer than three that differ, or two that
        follow one another are opposite on the sky.

    Notes
    -----
    An edge is the shorter great circle between two corners. The inside is the smaller of the two
    sides of the line. The polygon need not be convex and may hold a pole; where the line crosses
    itself, what is enclosed an even number of times is outside. A position within `EDGE_ARCSEC`
    of an edge is inside.
    """

    def __init__(self, vertices: ArrayLike) -> None:
        corners = np.asarray(vertices, np.float64)
        if corners.ndim != 2 or corners.shape[1] != 2:
            raise ValueError(f"a polygon is given by n pairs ra, dec, not by shape {corners.shape}")
        if not np.isfinite(corners).all() or np.abs(corners[:, 1]).max(initial=0) > 90:
            raise ValueError("a corner of the polygon is not on the sky")
        points = unit_vectors(corners[:, 0], corners[:, 1])
        apart = np.any(np.abs(points - np.roll(points, 1, axis=0)) > 1e-15, axis=1)
        points = points[apart]
        if len(points) < 3:
            raise ValueError(f"a polygon has at least three corners, not {len(points)}")
        following = np.roll(points, -1, axis=0)
        if np.any(np.linalg.norm(points + following, axis=1) < 1e-9):
            raise ValueError("two corners that follow one another are opposite on the sky")
        self._from, self._to, self._normal = points, following, _cross(points, following)

    @cached_property
    def _references(self) -> list[tuple[NDArray[np.float64], bool]]:
        """Two points far from every edge, and whether each lies inside."""
        number = np.arange(64) + 0.5
        up = 1 - number / 32
        turn = number * 2.399963229728653  # the golden angle spreads points over the sphere
        across = np.sqrt(1 - up**2)
        points = np.stack([across * np.cos(turn), across * np.sin(turn), up], axis=1)
        best = np.argsort(-self._distance(points))
        return [(points[i], self._holds(points[i])) for i in best[:2]]

    def _holds(self, point: NDArray[np.float64]) -> bool:
        """Tell whether a point off the edges is inside, by the area it is seen to enclose."""
        # Triangles from the opposite point never hold this one: their signed sum is the area of
        # the side without it, to the left or to the right.
        apex = -point
        triple = self._normal @ apex
        dots = 1 + np.sum(self._from * self._to, axis=1) + self._from @ apex + self._to @ apex
        return bool(abs(2 * np.arctan2(triple, dots).sum()) > 2 * np.pi)

    def _distance(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Measure how far points are from the line [radians]."""
        normal = self._normal / np.linalg.norm(self._normal, axis=1)[:, None]
        nearest = np.empty(len(points))
        step = max(1, _CHUNK // len(normal))
        for start in range(0, len(points), step):
            some = points[start : start + step]
            height = some @ normal.T
            # Beside the edge, or beyond one of its ends.
            beside = (some @ np.cross(normal, self._from).T >= 0) & (
                some @ np.cross(self._to, normal).T >= 0
            )
            to_edge = np.where(beside, np.abs(np.arcsin(np.clip(height, -1, 1))), np.inf)
            chord = np.linalg.norm(some[:, None] - self._from[None], axis=2)
            to_corner = 2 * np.arcsin(np.clip(chord / 2, 0, 1))
            nearest[start : start + step] = np.minimum(to_edge, to_corner).min(axis=1)
        return nearest

    def _inside(self, points: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Count edges between points and a reference whose side is known."""
        result = np.empty(len(points), bool)
        step = max(1, _CHUNK // len(self._normal))
        (reference, holds), (other, other_holds) = self._references
        for start in range(0, len(points), step):
            some = points[start : start + step]
            odd = self._crossed(some, reference) ^ holds
            # No one great circle goes to the opposite point.
            opposite = np.linalg.norm(some + reference, axis=1) < 1e-6
            if opposite.any():
                odd[opposite] = self._crossed(some[opposite], other) ^ other_holds
            result[start : start + step] = odd
        return result

    def _crossed(
        self, points: NDArray[np.float64], reference: NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        """Tell whether an odd number of edges lies between points and a reference."""
        path = _cross(points, np.broadcast_to(reference, points.shape))
        here = points @ self._normal.T >= 0
        there = (self._normal @ reference >= 0)[None]
        begin = path @ self._from.T >= 0
        # By the same numbers, so that a corner is on one side for both its edges.
        end = np.roll(begin, -1, axis=1)
        crossing = (here != there) & (begin != end) & (here != begin)
        return np.asarray(crossing.sum(axis=1) % 2 == 1)

    def contains(self, ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Tell which positions are inside or on the line: see `Region.contains`."""
        points = unit_vectors(ra, dec)
        return self._inside(points) | (self._distance(points) <= EDGE_ARCSEC / ARCSEC_PER_RADIAN)

    def touches(
        self, ra: NDArray[np.float64], dec: NDArray[np.float64], radius: float
    ) -> NDArray[np.bool_]:
        """Tell which discs may reach the polygon: see `Region.touches`."""
        points = unit_vectors(ra, dec)
        return self._inside(points) | (self._distance(points) <= radius)


def _cross(left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cross product of unit vectors that keeps its digits where they nearly agree."""
    return np.cross(left + right, right - left) / 2


def _check_dec(dec: float) -> None:
    if not -90 <= dec <= 90:
        raise ValueError(f"a declination is from -90 to 90 degrees, not {dec!r}")


def _check_finite(what: str, value: float) -> None:
    if not np.isfinite(value):
        raise ValueError(f"a {what} is finite, not {value!r}")


def pixel_ranges(region: Region) -> NDArray[np.int64]:
    """
    Cover a region with pixels.

    Parameters
    ----------
    region : Region
        The region.

    Returns
    -------
    ndarray, shape (n, 2), int64
        Ranges of order-29 pixel numbers, NESTED, the second number not included; sorted and
        apart. Every position in the region lies in one of them; so do others near by.

    Examples
    --------
    >>> ranges = pixel_ranges(Cone(10.0, 5.0, 1.0))
    >>> int((ranges[:, 1] - ranges[:, 0]).sum()) / (12 * 4**29) < 1e-10
    True
    """
    order = 0
    cells = np.arange(12, dtype=np.int64)
    while True:
        ra, dec = pix2ang(cells, order)
        cells = cells[region.touches(ra, dec, PIXEL_RADIUS / 2**order + _SLACK)]
        if order == 29 or 4 * len(cells) > MAX_CELLS or not len(cells):
            return ranges_of(cells, order)
        cells = (4 * cells[:, None] + np.arange(4)).reshape(-1)
        order += 1


def ranges_of(ipix: ArrayLike, order: int) -> NDArray[np.int64]:
    """
    Give pixels as ranges of pixels of order 29.

    Parameters
    ----------
    ipix : array_like of int
        Pixel numbers, NESTED, in any order.
    order : int
        Their HEALPix order.

    Returns
    -------
    ndarray, shape (n, 2), int64
        As `pixel_ranges`.

    Raises
    ------
    ValueError
        If a number is not that of a pixel of the order.
    TypeError
        If they are not integers.

    Examples
    --------
    >>> ranges_of([1, 0, 7], 29)
    array([[0, 2],
           [7, 8]])
    """
    check_order(order)
    given = np.atleast_1d(np.asarray(ipix))
    if given.size and (given.dtype.kind not in "iu" or given.ndim != 1):
        raise TypeError(f"pixel numbers are integers in one dimension, not {given.dtype}")
    if given.size and not (int(given.min()) >= 0 and int(given.max()) < n_pixels(order)):
        bad = given.min() if int(given.min()) < 0 else given.max()
        raise ValueError(f"pixel number {bad} is not among the {n_pixels(order)} of order {order}")
    numbers = np.unique(given.astype(np.int64))
    shift = 2 * (29 - order)
    return merged(np.stack([numbers << shift, (numbers + 1) << shift], axis=1))


def merged(ranges: NDArray[np.int64]) -> NDArray[np.int64]:
    """
    Join ranges that meet or overlap.

    Parameters
    ----------
    ranges : ndarray, shape (n, 2), int64
        First numbers, and last numbers + 1, in any order.

    Returns
    -------
    ndarray, shape (m, 2), int64
        The same numbers in ranges that are sorted and apart.
    """
    ranges = ranges[ranges[:, 0] < ranges[:, 1]]
    if not len(ranges):
        return np.empty((0, 2), np.int64)
    ranges = ranges[np.argsort(ranges[:, 0], kind="stable")]
    reach = np.maximum.accumulate(ranges[:, 1])
    new = np.concatenate(([True], ranges[1:, 0] > reach[:-1]))
    heads = np.flatnonzero(new)
    ends = np.concatenate((heads[1:] - 1, [len(ranges) - 1]))
    return np.stack([ranges[heads, 0], reach[ends]], axis=1)
