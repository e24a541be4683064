"""
Match positions with positions: arrays in, row numbers and separations out.

Coordinates are compared as they come: proper motion, catalogues and files are the business
of others. The work is done by `astropile.match._engine`, which is imported on the first call
because it brings numba.
"""

from __future__ import annotations

import operator
import os
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from astropile.errors import MatchError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Find = Literal["nearest", "all", "mutual"]

FIND: tuple[Find, ...] = ("nearest", "all", "mutual")
"""The ways to find pairs."""

MAX_RADIUS_ARCSEC = 648000.0
"""Half a turn: no two positions lie farther apart."""

RADIUS_TOLERANCE_ARCSEC = 1e-9
"""How far beyond the radius counts as on it: the rounding of float64 degrees."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """
    Matched rows, ordered by ``left``, then ``separation_arcsec``, then ``right``.

    Examples
    --------
    >>> pairs = match_positions([10.0], [0.0], [10.0], [1 / 3600], radius_arcsec=1)
    >>> len(pairs), pairs.separation_arcsec
    (1, array([1.]))
    """

    left: Ints
    """Row numbers of the left side, shape (n_pairs,)."""

    right: Ints
    """Row numbers of the right side, shape (n_pairs,)."""

    separation_arcsec: Floats
    """Angle between the two [arcsec], shape (n_pairs,), never above the radius."""

    n_invalid_left: int
    """Rows of the left side that are no position."""

    n_invalid_right: int
    """Rows of the right side that are no position."""

    def __len__(self) -> int:
        return len(self.left)


def match_positions(
    ra_left: ArrayLike,
    dec_left: ArrayLike,
    ra_right: ArrayLike,
    dec_right: ArrayLike,
    *,
    radius_arcsec: float,
    find: Find = "nearest",
    n_neighbors: int = 1,
    min_radius_arcsec: float = 0.0,
    exclude_self: bool = False,
    threads: int | None = None,
) -> Pairs:
    """
    Find which positions of two lists lie within a radius of each other.

    Parameters
    ----------
    ra_left, dec_left : array_like, shape (n_left,)
        Positions to match [deg, ICRS]. Any real dtype and byte order; widened to float64
        before any arithmetic. Where they carry a unit of angle it is converted.
    ra_right, dec_right : array_like, shape (n_right,)
        Positions to match against [deg, ICRS].
    radius_arcsec : float
        Largest accepted separation [arcsec], inclusive, 0 to 648000 (half a turn).
    find : {'nearest', 'all', 'mutual'}
        ``nearest``: for each left row its nearest right rows, `n_neighbors` at most; a right
        row may serve many left rows. ``all``: every pair. ``mutual``: the pairs in which
        each is the nearest of the other, so that no row occurs twice.
    n_neighbors : int
        How many right rows ``nearest`` returns for a left row, at least 1.
    min_radius_arcsec : float
        Smallest accepted separation [arcsec], inclusive.
    exclude_self : bool
        Drop pairs of equal row numbers: for a list matched with itself.
    threads : int, optional
        Threads to work with; by default as many as there are processors for this process.

    Returns
    -------
    Pairs
        Row numbers, separations, and how many rows of each side were no position.

    Raises
    ------
    MatchError
        If a radius is negative, not a number or out of range, the two coordinates of a side
        differ in length or are not one-dimensional numbers, or the options do not go together.

    Notes
    -----
    A row is no position, never matches and is counted, where either coordinate is masked or
    not finite, ``dec`` is outside -90 to 90, or ``ra`` is more than two turns away from 180.
    A row filled with -99, -999, -9999, 99, 999 or 1e20 in both coordinates is therefore
    none. Other right ascensions wrap: -0.00001, 360 and 720.25 are positions.

    Separations come from the haversine of coordinate differences, which is accurate to the
    rounding of the coordinates at every angle. A pair up to `RADIUS_TOLERANCE_ARCSEC`
    beyond the radius counts as on it and is given the radius as its separation, so that
    positions entered exactly one radius apart match wherever they are; radius 0 finds
    identical positions. Among equal separations the lowest row wins.

    The right side is put into cells of a grid fitted to it, about as wide as the radius or the
    spacing of its points, whichever is larger; cells that hold many points have a grid of their
    own, and where that does not help a tree. Time grows as the number of rows, and in crowds
    closer than the radius with their logarithm; ``all`` adds the number of pairs. Rows that
    follow each other along the sky, as in catalogues, are taken as they are; others are sorted
    first, which costs as much again. Beside inputs and result it takes 10 bytes of memory per
    right row, and 24 for a row of either side that has to be sorted; of the left side four
    million rows are handled at a time, or as many as there are right rows.

    The result depends neither on the order of rows, beyond the numbers and ties themselves,
    nor on the number of threads. The nearest neighbours of the left side are not those of
    the right side turned around; only ``all`` and ``mutual`` are symmetric.

    The first call on a machine compiles, for 10 to 15 seconds, and caches what it compiled
    beside the package, or in the user's cache directory where that cannot be written; later
    processes load it in half a second.

    Examples
    --------
    >>> pairs = match_positions(
    ...     [359.99999, 10.0], [0.0, 45.0], [0.00001, 200.0], [0.0, -5.0], radius_arcsec=1
    ... )
    >>> pairs.left, pairs.right
    (array([0]), array([0]))
    >>> pairs.separation_arcsec.round(3)
    array([0.072])

    Nearest is not mutual:

    >>> left = [10.0, 10.0], [10.0, 10.0 + 0.2 / 3600]
    >>> right = [10.0], [10.0 + 0.05 / 3600]
    >>> match_positions(*left, *right, radius_arcsec=1).left
    array([0, 1])
    >>> match_positions(*left, *right, radius_arcsec=1, find="mutual").left
    array([0])
    """
    radius, least = _check_radii(radius_arcsec, min_radius_arcsec)
    if find not in FIND:
        raise MatchError("find", f"one of {', '.join(FIND)}", repr(find))
    n_neighbors = _check_count(n_neighbors, "n_neighbors")
    if n_neighbors != 1 and find != "nearest":
        raise MatchError("n_neighbors", f"1 with find={find!r}", repr(n_neighbors))
    threads = _n_processors() if threads is None else _check_count(threads, "threads")
    ra_left, dec_left = _coordinates(ra_left, dec_left, "left")
    ra_right, dec_right = _coordinates(ra_right, dec_right, "right")
    if exclude_self and len(ra_left) != len(ra_right):
        raise MatchError(
            "exclude_self", "two sides of one length", f"{len(ra_left)} and {len(ra_right)} rows"
        )

    from astropile.match import _engine

    left = _engine.Side.of(ra_left, dec_left)
    right = _engine.Side.of(ra_right, dec_right)
    options = _engine.SearchOptions(
        radius=radius,
        least=least,
        tolerance=RADIUS_TOLERANCE_ARCSEC,
        wanted=0 if find == "all" else n_neighbors,
        exclude_self=bool(exclude_self),
        threads=threads,
    )
    pairs = _engine.search(left, right, options)
    if find == "mutual":
        pairs = _engine.keep_mutual(left, right, pairs, options)
    return Pairs(
        *pairs,
        n_invalid_left=len(ra_left) - left.n_valid,
        n_invalid_right=len(ra_right) - right.n_valid,
    )


def _check_radii(radius_arcsec: Any, min_radius_arcsec: Any) -> tuple[float, float]:
    radius = _number(radius_arcsec, "radius_arcsec")
    least = _number(min_radius_arcsec, "min_radius_arcsec")
    # Written so that NaN fails too.
    if not 0 <= radius <= MAX_RADIUS_ARCSEC:
        raise MatchError("radius_arcsec", f"0 to {MAX_RADIUS_ARCSEC:.0f} arcsec", repr(radius))
    if not 0 <= least <= radius:
        raise MatchError("min_radius_arcsec", f"0 to the radius, {radius!r} arcsec", repr(least))
    return radius, least


def _check_count(value: Any, name: str) -> int:
    try:
        count = operator.index(value)
    except TypeError as error:
        raise MatchError(name, "a whole number", repr(value)) from error
    if count < 1:
        raise MatchError(name, "at least 1", repr(value))
    return count


def _n_processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _number(value: Any, name: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise MatchError(name, "a number of arcseconds", repr(value)) from error


def _coordinates(ra: ArrayLike, dec: ArrayLike, side: str) -> tuple[Floats, Floats]:
    ra, dec = _degrees(ra, f"ra_{side}"), _degrees(dec, f"dec_{side}")
    if len(ra) != len(dec):
        raise MatchError(
            f"ra_{side}, dec_{side}", "two arrays of one length", f"{len(ra)} and {len(dec)} rows"
        )
    return ra, dec


def _degrees(values: Any, name: str) -> Floats:
    """Return float64 degrees as a read-only contiguous array, NaN where masked."""
    array = np.asarray(values)
    if array.dtype.kind not in "fiuO":
        raise MatchError(name, "numbers", f"dtype {array.dtype}")
    if array.ndim != 1:
        raise MatchError(name, "one dimension", f"shape {array.shape}")
    try:
        degrees = np.ascontiguousarray(array, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise MatchError(name, "numbers", f"dtype {array.dtype}: {error}") from error
    unit: Any = getattr(values, "unit", None)
    if hasattr(unit, "to"):
        try:
            factor = float(unit.to("deg"))
        except (TypeError, ValueError) as error:
            raise MatchError(name, "a unit of angle", str(unit)) from error
        if factor != 1.0:
            degrees = degrees * factor
    mask = getattr(values, "mask", None)
    # A data frame has a method of that name.
    if isinstance(mask, np.ndarray) and mask.any():
        degrees = np.where(mask, np.nan, degrees)
    # One type of array for the compiled code, which is kept from writing to the caller's.
    degrees = degrees.view()
    degrees.flags.writeable = False
    return degrees
