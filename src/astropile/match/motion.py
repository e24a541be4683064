"""
Match on a moving sky: carry positions from epoch to epoch, and match each pair at one epoch.

A star that moves in a straight line through space at constant speed draws a great circle on
the sky. It is computed on vectors, so that it holds at the poles, over any time and for any
speed; there is no ``cos(dec)`` to divide by.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from astropile.errors import MatchError
from astropile.match.positions import (
    FIND,
    MAX_RADIUS_ARCSEC,
    RADIUS_TOLERANCE_ARCSEC,
    Find,
    Pairs,
    _check_count,
    _check_radii,
    _degrees,
    match_positions,
)
from astropile.sky import ARCSEC_PER_RADIAN, separation_arcsec, unit_vectors, wrap_ra

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

J2000_JD: Final = 2451545.0
"""Julian date of the epoch J2000.0."""

DAYS_PER_YEAR: Final = 365.25

AU_PER_YEAR_KM_S: Final = 4.740470463533349
"""One astronomical unit per Julian year [km/s]."""

_RADIAN_PER_MAS: Final = 1.0 / (1000.0 * ARCSEC_PER_RADIAN)

EARTH_AU: Final = 1.03
"""The Earth is never farther than this from the barycentre of the solar system [au]."""

LEAST_SLACK_ARCSEC: Final = 0.2
"""By so much, or half the radius if that is more, the search for candidates is widened."""

MOST_STEPS: Final = 4096
"""The epochs of a side are cut into at most so many spans for the fastest rows."""

SPAN_ROWS: Final = 64
"""A span of time with fewer rows is not cut further: looking at them all is as quick."""

LEFT_ROWS: Final = 1 << 20
"""Left rows whose candidates are looked at together."""


def epoch_of_jd(jd: ArrayLike) -> Floats:
    """
    Turn Julian dates into Julian epochs.

    Parameters
    ----------
    jd : array_like of float
        Julian date [d]; of modified Julian dates, add 2400000.5.

    Returns
    -------
    ndarray of float64
        Julian epoch [Julian year].

    Examples
    --------
    >>> epoch_of_jd([2451545.0, 2457388.5]).round(3)
    array([2000.   , 2015.999])
    """
    days: Floats = (np.asarray(jd, dtype=np.float64) - J2000_JD) / DAYS_PER_YEAR
    return 2000.0 + days


@dataclass(frozen=True, eq=False)
class MovingPositions:
    """
    Positions at their epochs, and how they move.

    Parameters
    ----------
    ra, dec : array_like, shape (n,)
        Positions [deg, ICRS] at `epoch`; as for `match_positions`.
    epoch : float or array_like, shape (n,)
        When each is there [Julian year], one for all rows or one for each.
    pmra, pmdec : array_like, shape (n,), optional
        Proper motion at `epoch` [mas/yr], eastward on the sky (times cos dec) and northward.
    parallax : array_like, shape (n,), optional
        Parallax at `epoch` [mas].
    radial_velocity : array_like, shape (n,), optional
        Speed away from the Sun [km/s].

    Raises
    ------
    MatchError
        If the lengths differ, only one component of the motion is given, or something is
        not numeric.

    Notes
    -----
    A row without a motion (a component is masked or not finite) stays where it is, and is
    counted in `n_without_motion`. A parallax that is not finite or not positive, and a radial
    velocity that is not finite, count as none. A row without a finite epoch is no position
    where it is compared at another epoch.

    Examples
    --------
    >>> barnard = MovingPositions([269.448503], [4.739420], 2016.0, [-801.551], [10362.394])
    >>> barnard.at(2000.0).dec.round(4)
    array([4.6934])
    """

    ra: Floats
    dec: Floats
    epoch: Floats
    pmra: Floats | None = None
    pmdec: Floats | None = None
    parallax: Floats | None = None
    radial_velocity: Floats | None = None
    _outward: Floats | None = field(default=None, repr=False)  # relative change of distance [1/yr]

    def __post_init__(self) -> None:
        ra, dec = _degrees(self.ra, "ra"), _degrees(self.dec, "dec")
        n = len(ra)
        if len(dec) != n:
            raise MatchError("ra, dec", "two arrays of one length", f"{n} and {len(dec)} rows")
        if (self.pmra is None) != (self.pmdec is None):
            raise MatchError("pmra, pmdec", "both components of the motion", "one")
        # What counts as a position is for `match_positions` to say; what is none goes nowhere.
        some = (np.abs(dec) <= 90) & (np.abs(ra - 180) <= 720)
        ra, dec = np.where(some, ra, np.nan), np.where(some, dec, np.nan)
        values: dict[str, Any] = {"ra": ra, "dec": dec, "epoch": _numbers(self.epoch, "epoch", n)}
        for name in ("pmra", "pmdec", "parallax", "radial_velocity"):
            given = getattr(self, name)
            values[name] = None if given is None else _numbers(given, name, n)
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.ra)

    @property
    def has_motion(self) -> NDArray[np.bool_]:
        """Whether a row's motion is known, shape (n,)."""
        if self.pmra is None or self.pmdec is None:
            return np.zeros(len(self), bool)
        known: NDArray[np.bool_] = np.isfinite(self.pmra) & np.isfinite(self.pmdec)
        return known

    @property
    def n_without_motion(self) -> int:
        """Rows whose motion is not known: they stay where they are."""
        return int(np.count_nonzero(~self.has_motion))

    def take(self, rows: NDArray[Any]) -> MovingPositions:
        """
        Choose rows.

        Parameters
        ----------
        rows : ndarray of int or bool
            Which.

        Returns
        -------
        MovingPositions
            Those rows.
        """
        fields: dict[str, Any] = {name: getattr(self, name) for name in self.__dataclass_fields__}
        chosen: dict[str, Any] = {
            name: None if values is None else values[rows] for name, values in fields.items()
        }
        return replace(self, **chosen)

    def at(self, epoch: ArrayLike, *, annual_parallax: bool = False) -> MovingPositions:
        """
        Carry the rows to another epoch.

        Parameters
        ----------
        epoch : float or array_like, shape (n,)
            Where to [Julian year], for all rows or for each.
        annual_parallax : bool
            Give the directions seen from the Earth on that day, not from the barycentre of the
            solar system.

        Returns
        -------
        MovingPositions
            The rows at `epoch`, with their motion there. A row without a finite epoch, then or
            now, has no position.

        Raises
        ------
        MatchError
            If the number of epochs is not that of rows.

        Notes
        -----
        The star moves straight on at constant speed [1]_. Where parallax and radial velocity
        are known the change of its distance is taken along, which changes its speed on the
        sky. Light time and relativity are left out: 0.07 mas for Barnard's star over 25 years.
        With `annual_parallax` the motion returned is still that about the barycentre.

        References
        ----------
        .. [1] ESA (1997), The Hipparcos and Tycho Catalogues, SP-1200, vol. 1, section 1.5.5
        """
        until = _numbers(epoch, "epoch", len(self))
        there = self._path(until - self.epoch)
        ra, dec = self._directions(there, until, annual_parallax=annual_parallax)
        moved = replace(self, ra=ra, dec=dec, epoch=until)
        if self.pmra is None:
            return moved
        east, north, outward = self._rates()
        length = np.linalg.norm(there, axis=-1)
        # The velocity is constant; only the directions that east, north and outward are change.
        here = there / length[:, None]
        e, n = _tangents(self.ra, self.dec)
        velocity = east[:, None] * e + north[:, None] * n
        velocity += outward[:, None] * unit_vectors(self.ra, self.dec)
        e, n = _tangents(*_angles(there))
        rates = [np.sum(velocity * axis, axis=-1) / length for axis in (e, n, here)]
        known = self.has_motion
        assert self.pmdec is not None
        parallax = None if self.parallax is None else self.parallax / length
        speed = self.radial_velocity
        if speed is not None and parallax is not None:
            tied = known & np.isfinite(speed) & (self._parallax() > 0)
            km_s = rates[2] * AU_PER_YEAR_KM_S / np.where(tied, parallax * _RADIAN_PER_MAS, 1.0)
            speed = np.where(tied, km_s, speed)
        return replace(
            moved,
            pmra=np.where(known, rates[0] / _RADIAN_PER_MAS, self.pmra),
            pmdec=np.where(known, rates[1] / _RADIAN_PER_MAS, self.pmdec),
            parallax=parallax,
            radial_velocity=speed,
            _outward=rates[2],
        )

    def seen_at(self, epoch: ArrayLike, *, annual_parallax: bool = False) -> tuple[Floats, Floats]:
        """
        Give where the rows are at another epoch, without their motion there.

        Parameters
        ----------
        epoch, annual_parallax
            As for `at`.

        Returns
        -------
        ra, dec : ndarray, shape (n,), float64
            Positions [deg, ICRS], NaN where a row has none.
        """
        until = _numbers(epoch, "epoch", len(self))
        there = self._path(until - self.epoch)
        return self._directions(there, until, annual_parallax=annual_parallax)

    def _directions(
        self, there: Floats, until: Floats, *, annual_parallax: bool
    ) -> tuple[Floats, Floats]:
        """Give the directions of the rows from where they are."""
        years = until - self.epoch
        still = (years == 0) | ~self.has_motion
        if annual_parallax:
            there = there - (self._parallax() * _RADIAN_PER_MAS)[:, None] * _earth_au(until)
            still &= self._parallax() == 0
        ra, dec = _angles(there)
        ra, dec = np.where(still, self.ra, ra), np.where(still, self.dec, dec)
        lost = ~np.isfinite(years)
        ra[lost] = dec[lost] = np.nan
        return ra, dec

    def _parallax(self) -> Floats:
        """Parallax [mas], 0 where there is none."""
        if self.parallax is None:
            return np.zeros(len(self))
        return np.where(np.isfinite(self.parallax) & (self.parallax > 0), self.parallax, 0.0)

    def _rates(self) -> tuple[Floats, Floats, Floats]:
        """Velocity eastward, northward and outward, in distances of the star [1/yr]."""
        if self.pmra is None or self.pmdec is None:
            return (np.zeros(len(self)),) * 3
        known = self.has_motion
        east = np.where(known, self.pmra, 0.0) * _RADIAN_PER_MAS
        north = np.where(known, self.pmdec, 0.0) * _RADIAN_PER_MAS
        if self._outward is not None:
            return east, north, self._outward
        outward = np.zeros(len(self))
        if self.radial_velocity is not None:
            speed = np.where(known & np.isfinite(self.radial_velocity), self.radial_velocity, 0.0)
            outward = speed / AU_PER_YEAR_KM_S * self._parallax() * _RADIAN_PER_MAS
        return east, north, outward

    def _path(self, years: Floats) -> Floats:
        """Where the rows are after some years, in their distances now, shape (n, 3)."""
        start = unit_vectors(self.ra, self.dec)
        if self.pmra is None:
            return start
        east, north, outward = self._rates()
        e, n = _tangents(self.ra, self.dec)
        years = np.where(np.isfinite(years), years, 0.0)
        across = (east * years)[:, None] * e + (north * years)[:, None] * n
        return np.asarray((1 + outward * years)[:, None] * start + across)

    def fastest(self, first: float, last: float) -> Floats:
        """
        Bound how fast each row moves on the sky between two epochs.

        Parameters
        ----------
        first, last : float
            The epochs [Julian year].

        Returns
        -------
        ndarray, shape (n,), float64
            Its speed is at most this [arcsec/yr].

        Notes
        -----
        A star that comes nearer moves faster; that it does so while it passes is inside the
        bound too.
        """
        east, north, outward = self._rates()
        square = east**2 + north**2
        total = square + outward**2
        begin, end = first - self.epoch, last - self.epoch
        nearest = -outward / np.where(total > 0, total, 1.0)
        when = np.clip(nearest, begin, end)
        distance_square = (1 + outward * when) ** 2 + square * when**2
        rate = np.sqrt(square) / np.maximum(distance_square, 1e-12) * ARCSEC_PER_RADIAN
        return np.where(np.isfinite(rate), rate, 0.0)


@dataclass(frozen=True, eq=False)
class MovingPairs(Pairs):
    """Matched rows of a moving sky, ordered as `Pairs`."""

    epoch: Floats
    """When the two positions of a pair were compared [Julian year], shape (n_pairs,)."""

    n_without_motion_left: int
    """Rows of the left side without a known motion."""

    n_without_motion_right: int
    """Rows of the right side without a known motion."""


def match_moving(
    left: MovingPositions,
    right: MovingPositions,
    *,
    radius_arcsec: float,
    find: Find = "nearest",
    n_neighbors: int = 1,
    min_radius_arcsec: float = 0.0,
    annual_parallax: bool = False,
    threads: int | None = None,
) -> MovingPairs:
    """
    Find which rows of two lists lie within a radius of each other when they were seen.

    Parameters
    ----------
    left, right : MovingPositions
        The lists, each row with its epoch; usually only one has motions.
    radius_arcsec : float
        Largest accepted separation at the epoch of comparison [arcsec], inclusive.
    find : {'nearest', 'all', 'mutual'}
        As for `match_positions`.
    n_neighbors : int
        As for `match_positions`.
    min_radius_arcsec : float
        Smallest accepted separation [arcsec], inclusive.
    annual_parallax : bool
        Compare with where a star was seen from the Earth, for catalogues of single
        observations whose reduction left the parallax in.
    threads : int, optional
        As for `match_positions`.

    Returns
    -------
    MovingPairs
        Row numbers, separations and epochs of comparison, and counts of rows that could not
        be compared or do not move.

    Raises
    ------
    MatchError
        As for `match_positions`.

    Notes
    -----
    A pair is compared at the epoch of its right row: the left row is carried there, the right
    one is where its catalogue says. Only where the left row has no known motion and the right
    one may have, the right row is carried to the epoch of the left one. So a position that
    was measured is compared where it was measured.

    Nothing is missed and nothing is approximate. Left rows are put into classes by the
    distance they cover in the time over which the right rows were observed, and the right rows
    into spans of time so short that a row of the class moves less than half the radius within
    half a span; candidates within the widened radius are then carried to the very epoch and
    measured. Slow rows, nearly all, need one span.

    Examples
    --------
    >>> gaia = MovingPositions([10.0], [20.0], 2016.0, [3000.0], [0.0])
    >>> twomass = MovingPositions([10.0 - 0.048 / 3.6 / 0.93969], [20.0], 2000.0)
    >>> len(match_moving(gaia, twomass, radius_arcsec=0.1))
    1
    """
    radius, least = _check_radii(radius_arcsec, min_radius_arcsec)
    if find not in FIND:
        raise MatchError("find", f"one of {', '.join(FIND)}", repr(find))
    n_neighbors = _check_count(n_neighbors, "n_neighbors")
    if n_neighbors != 1 and find != "nearest":
        raise MatchError("n_neighbors", f"1 with find={find!r}", repr(n_neighbors))
    search = _Search(radius, least, annual_parallax, threads)
    left, right, n_bad_left, n_bad_right = _comparable(left, right)
    moving = left.has_motion
    one_epoch = right.pmra is None and len(np.unique(right.epoch[np.isfinite(right.epoch)])) == 1
    if one_epoch and not annual_parallax:
        # All that moves goes to one epoch, where this is a match of positions.
        epoch = float(np.nanmax(right.epoch))
        pairs = match_positions(
            *(left.seen_at(epoch) if moving.any() else (left.ra, left.dec)),
            right.ra,
            right.dec,
            radius_arcsec=radius,
            find=find,
            n_neighbors=n_neighbors,
            min_radius_arcsec=least,
            threads=threads,
        )
        return MovingPairs(
            pairs.left,
            pairs.right,
            pairs.separation_arcsec,
            n_invalid_left=n_bad_left,
            n_invalid_right=n_bad_right,
            epoch=np.full(len(pairs), epoch),
            n_without_motion_left=left.n_without_motion,
            n_without_motion_right=right.n_without_motion,
        )
    parts: list[_Found] = []
    # The left rows that move go to the right epochs; to the others the right rows come.
    wanted = n_neighbors if find == "nearest" else 0
    if moving.any() or right.pmra is None:
        rows = np.flatnonzero(moving) if right.pmra is not None else np.arange(len(left))
        parts += [_nearest(part, wanted) for part in _carry(left, rows, right, search)]
    if right.pmra is not None and not moving.all():
        rows = np.flatnonzero(~moving)
        here = left.take(rows)
        parts += [
            _Found(rows[part.right], part.left, part.separation, part.epoch)
            for part in _carry(right, np.arange(len(right)), here, search)
        ]
    found = _nearest(_joined(parts), wanted)
    if find == "mutual":
        found = _mutual(found)
    return MovingPairs(
        found.left,
        found.right,
        found.separation,
        n_invalid_left=n_bad_left,
        n_invalid_right=n_bad_right,
        epoch=found.epoch,
        n_without_motion_left=left.n_without_motion,
        n_without_motion_right=right.n_without_motion,
    )


class _Search(NamedTuple):
    radius: float
    least: float
    annual_parallax: bool
    threads: int | None


class _Found(NamedTuple):
    """Pairs: rows, separation [arcsec] and epoch of comparison [Julian year]."""

    left: Ints
    right: Ints
    separation: Floats
    epoch: Floats


def _comparable(
    left: MovingPositions, right: MovingPositions
) -> tuple[MovingPositions, MovingPositions, int, int]:
    """Strike rows without an epoch where one is needed; count rows that are no position."""
    if left.pmra is not None or right.pmra is not None:
        left, right = _dated(left), _dated(right)
    return left, right, _n_bad(left), _n_bad(right)


def _dated(side: MovingPositions) -> MovingPositions:
    return replace(side, ra=np.where(np.isfinite(side.epoch), side.ra, np.nan))


def _n_bad(side: MovingPositions) -> int:
    return int(np.count_nonzero(np.isnan(side.ra) | np.isnan(side.dec)))


def _carry(
    moving: MovingPositions, rows: Ints, still: MovingPositions, search: _Search
) -> Iterator[_Found]:
    """Find the pairs of rows of a side that moves with all of one that stays, in parts."""
    dates = still.epoch[np.isfinite(still.epoch) & np.isfinite(still.ra)]
    if not len(dates) or not len(rows):
        return
    first, last = float(dates.min()), float(dates.max())
    slack = max(LEAST_SLACK_ARCSEC, search.radius / 2)
    swing = 0.0
    if search.annual_parallax:
        swing = float(moving.take(rows)._parallax().max()) * EARTH_AU * _RADIAN_PER_MAS  # noqa: SLF001
        swing *= ARCSEC_PER_RADIAN
    half = (last - first) / 2
    # How many spans of time a row asks for: rows are handled with those that ask for as many.
    reach = moving.take(rows).fastest(first, last) * half
    steps = np.exp2(np.ceil(np.log2(np.maximum(reach / slack, 1.0))))
    most = int(np.clip(len(dates) // SPAN_ROWS, 1, MOST_STEPS))
    steps = np.minimum(steps, most).astype(np.int64)
    for n_steps in np.unique(steps).tolist():
        chosen = steps == n_steps
        some, widest = rows[chosen], float(reach[chosen].max()) / n_steps + swing
        for begin in range(0, len(some), LEFT_ROWS):
            part = some[begin : begin + LEFT_ROWS]
            for centre, at in _spans(still.epoch, first, last, n_steps):
                yield _meet(moving, part, still, at, centre, widest, search)


def _spans(epoch: Floats, first: float, last: float, n: int) -> Iterator[tuple[float, Ints]]:
    """Cut the time from first to last in n; give the middle of each span and the rows in it."""
    width = (last - first) / n
    dated = np.flatnonzero(np.isfinite(epoch))
    if n == 1 or width == 0:
        yield (first + last) / 2, dated
        return
    number = np.clip(((epoch[dated] - first) / width).astype(np.int64), 0, n - 1)
    order = np.argsort(number, kind="stable")
    edges = np.searchsorted(number[order], np.arange(n + 1))
    for span in np.flatnonzero(np.diff(edges)).tolist():
        yield first + (span + 0.5) * width, dated[order[edges[span] : edges[span + 1]]]


def _meet(
    moving: MovingPositions,
    rows: Ints,
    still: MovingPositions,
    at: Ints,
    centre: float,
    widest: float,
    search: _Search,
) -> _Found:
    """Match rows carried to one epoch with rows seen about then, then measure exactly."""
    ra, dec = moving.take(rows).seen_at(centre)
    # Rounding of the bound, of spans' edges, and of the radius itself.
    reach = search.radius + widest * (1 + 1e-6) + 2 * RADIUS_TOLERANCE_ARCSEC
    near = match_positions(
        ra,
        dec,
        still.ra[at],
        still.dec[at],
        radius_arcsec=min(reach, MAX_RADIUS_ARCSEC),
        find="all",
        threads=search.threads,
    )
    left, right = rows[near.left], at[near.right]
    epoch = still.epoch[right]
    ra, dec = moving.take(left).seen_at(epoch, annual_parallax=search.annual_parallax)
    apart = separation_arcsec(ra, dec, still.ra[right], still.dec[right])
    inside = apart <= search.radius + RADIUS_TOLERANCE_ARCSEC
    inside &= apart >= search.least
    apart = np.minimum(apart[inside], search.radius)
    return _Found(left[inside], right[inside], apart, epoch[inside])


def _joined(parts: list[_Found]) -> _Found:
    none, nowhere = np.empty(0, np.int64), np.empty(0)
    return _Found(
        np.concatenate([none, *(part.left for part in parts)]),
        np.concatenate([none, *(part.right for part in parts)]),
        np.concatenate([nowhere, *(part.separation for part in parts)]),
        np.concatenate([nowhere, *(part.epoch for part in parts)]),
    )


def _take(found: _Found, rows: NDArray[Any]) -> _Found:
    return _Found(found.left[rows], found.right[rows], found.separation[rows], found.epoch[rows])


def _nearest(found: _Found, wanted: int) -> _Found:
    """Sort, and keep the nearest of each left row; all where 0 are wanted."""
    found = _take(found, np.lexsort((found.right, found.separation, found.left)))
    if not wanted:
        return found
    begins = np.searchsorted(found.left, found.left)
    keep = np.arange(len(found.left)) - begins < wanted
    return _take(found, keep)


def _mutual(found: _Found) -> _Found:
    """Keep the pairs in which each is the nearest of the other."""
    first = np.searchsorted(found.left, found.left) == np.arange(len(found.left))
    order = np.lexsort((found.left, found.separation, found.right))
    begins = np.searchsorted(found.right[order], found.right[order])
    first_right = np.empty(len(order), bool)
    first_right[order] = begins == np.arange(len(order))
    return _take(found, first & first_right)


def _numbers(values: Any, name: str, n: int) -> Floats:
    """Return float64, shape (n,), NaN where masked, in the unit wanted where it has one."""
    unit = getattr(values, "unit", None)
    mask = getattr(values, "mask", None)
    try:
        numbers = np.asarray(values).astype(np.float64)
    except (TypeError, ValueError) as error:
        raise MatchError(name, "numbers", str(error)) from error
    if wanted := _UNITS.get(name):
        numbers = numbers * _factor(unit, wanted, name)
    if isinstance(mask, np.ndarray) and mask.any():
        numbers = np.where(mask, np.nan, numbers)
    if numbers.shape not in {(), (n,)}:
        raise MatchError(name, f"one value, or one for each of {n} rows", f"shape {numbers.shape}")
    return np.ascontiguousarray(np.broadcast_to(numbers, (n,)))


_UNITS: Final = {"pmra": "mas/yr", "pmdec": "mas/yr", "parallax": "mas", "radial_velocity": "km/s"}


def _factor(unit: Any, wanted: str, name: str) -> float:
    if not hasattr(unit, "to") or str(unit) == "":
        return 1.0
    try:
        return float(unit.to(wanted))
    except (TypeError, ValueError) as error:
        raise MatchError(name, f"a unit that converts to {wanted}", str(unit)) from error


def _tangents(ra: Floats, dec: Floats) -> tuple[Floats, Floats]:
    """Give unit vectors eastward and northward, shape (n, 3), at the poles along the given ra."""
    a, d = np.radians(ra), np.radians(dec)
    east = np.stack([-np.sin(a), np.cos(a), np.zeros_like(a)], axis=-1)
    north = np.stack([-np.sin(d) * np.cos(a), -np.sin(d) * np.sin(a), np.cos(d)], axis=-1)
    return east, north


def _angles(vectors: Floats) -> tuple[Floats, Floats]:
    """Give the directions of vectors [deg]."""
    x, y, z = np.moveaxis(vectors, -1, 0)
    across = np.hypot(x, y)
    return wrap_ra(np.degrees(np.arctan2(y, x))), np.degrees(np.arctan2(z, across))


def _earth_au(epoch: Floats) -> Floats:
    """Where the Earth is [au, ICRS, from the barycentre], shape (n, 3); NaN epochs: nowhere."""
    import erfa

    days = (np.where(np.isfinite(epoch), epoch, 2000.0) - 2000.0) * DAYS_PER_YEAR
    when, back = np.unique(days, return_inverse=True)
    _, from_barycentre = erfa.epv00(J2000_JD, when)
    return np.asarray(from_barycentre["p"], dtype=np.float64)[back]
