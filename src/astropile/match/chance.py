"""
How sure a match is as a whole: what chance alone would have matched.

Positions shifted a little way off have no true counterparts, and what they match is chance.
What is said of each pair, in `astropile.match.density`, checks it.
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from astropile.errors import MatchError
from astropile.match.density import are_positions
from astropile.match.motion import MovingPositions, match_moving
from astropile.match.multi import best_pairs
from astropile.match.positions import FIND, Find, Pairs, _check_radii, _coordinates, match_positions
from astropile.sky import ARCSEC_PER_RADIAN, unit_vectors, wrap_ra

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MOST_SHIFTED: Final = 200_000
"""So many left rows are shifted at most, drawn at random."""

N_OFFSETS: Final = 8

FindSure = Find | Literal["best"]
"""The ways to find pairs of which chance is measured."""

FIND_SURE: Final = (*FIND, "best")

N_BINS: Final = 40


class Shift(NamedTuple):
    """One way in which left positions were shifted, and what that matched."""

    distance_arcsec: float
    bearing_deg: float
    n_pairs: int


@dataclass(frozen=True)
class MatchSummary:
    """
    What a match found, and how much of it chance would have found too.

    Every number is of plain Python, so that `to_json` keeps it; arrays are tuples.
    """

    n_left: int
    """Left rows that are positions."""

    n_right: int
    """Right rows that are positions."""

    n_invalid_left: int
    """Left rows that are none."""

    n_invalid_right: int
    """Right rows that are none."""

    radius_arcsec: float
    """The radius [arcsec]."""

    find: str
    """How pairs were found."""

    n_pairs: int
    """Pairs found."""

    n_left_matched: int
    """Left rows in at least one pair."""

    median_separation_arcsec: float | None
    """Median separation [arcsec]; None without pairs."""

    n_false: float
    """Pairs expected to be of unrelated objects."""

    n_false_err: float
    """Standard error of `n_false` as the number of such pairs in this match."""

    edges_arcsec: tuple[float, ...]
    """Edges of the bins of separation [arcsec], from 0 to the radius, shape (n_bins + 1,)."""

    counts: tuple[int, ...]
    """Pairs of each bin, shape (n_bins,)."""

    counts_false: tuple[float, ...]
    """Pairs of unrelated objects expected in each bin, shape (n_bins,)."""

    completeness: tuple[float, ...]
    """Share of the left rows whose counterpart lies within each radius ``edges_arcsec[1:]``, what
    chance matched taken off."""

    shifts: tuple[Shift, ...]
    """How left positions were shifted to measure chance, and the pairs that gave."""

    n_shifted: int
    """Left rows that were shifted, each in every way."""

    @property
    def false_rate(self) -> float:
        """Share of the pairs that are expected to be of unrelated objects."""
        return self.n_false / self.n_pairs if self.n_pairs else 0.0

    @property
    def false_rate_err(self) -> float:
        """Standard error of `false_rate`."""
        return self.n_false_err / self.n_pairs if self.n_pairs else 0.0

    def to_dict(self) -> dict[str, Any]:
        """
        Give the numbers by name, with the false-match rate.

        Returns
        -------
        dict
            What JSON can hold.
        """
        fields = asdict(self)
        fields["shifts"] = [shift._asdict() for shift in self.shifts]
        rates = {"false_rate": self.false_rate, "false_rate_err": self.false_rate_err}
        return {**{k: list(v) if type(v) is tuple else v for k, v in fields.items()}, **rates}

    def to_json(self) -> str:
        """
        Write the summary as JSON.

        Returns
        -------
        str
            `from_json` reads it.
        """
        return json.dumps(self.to_dict(), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> MatchSummary:
        """
        Read what `to_json` wrote.

        Parameters
        ----------
        text : str
            The JSON.

        Returns
        -------
        MatchSummary
            The summary.
        """
        return cls.from_dict(json.loads(text))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> MatchSummary:
        """
        Make a summary of what `to_dict` gave.

        Parameters
        ----------
        values : mapping
            The values.

        Returns
        -------
        MatchSummary
            The summary.
        """
        fields: dict[str, Any] = {name: values[name] for name in cls.__dataclass_fields__}
        for name, value in fields.items():
            if isinstance(value, list):
                fields[name] = tuple(value)
        fields["shifts"] = tuple(Shift(**shift) for shift in fields["shifts"])
        return cls(**fields)

    def __str__(self) -> str:
        return (
            f"{self.n_pairs:,} pairs within {self.radius_arcsec:g} arcsec, "
            f"{self.n_false:.3g} ± {self.n_false_err:.2g} of them by chance "
            f"({100 * self.false_rate:.2g} %); {self.n_left_matched:,} of {self.n_left:,} left "
            f"rows matched, {self.n_right:,} right rows"
        )


def summarize_match(
    ra_left: ArrayLike,
    dec_left: ArrayLike,
    ra_right: ArrayLike,
    dec_right: ArrayLike,
    *,
    radius_arcsec: float,
    find: FindSure = "nearest",
    pairs: Pairs | None = None,
    offset_arcsec: float | None = None,
    threads: int | None = None,
) -> MatchSummary:
    """
    Summarise a match, and measure how much of it is chance.

    Parameters
    ----------
    ra_left, dec_left, ra_right, dec_right : array_like
        The positions [deg, ICRS] as they were matched; of a moving sky see `summarize_moving`.
    radius_arcsec : float
        The radius of the match [arcsec].
    find : {'nearest', 'all', 'mutual', 'best'}
        How the pairs were found; ``best`` as `best_pairs`.
    pairs : Pairs, optional
        What the match found; by default it is done here. Of ``nearest``, one for each left row.
    offset_arcsec : float, optional
        How far positions are shifted [arcsec]: more than twice the radius, and less than the
        density of the right side changes in. By default five times the radius, at least 20.
    threads : int, optional
        As for `match_positions`.

    Returns
    -------
    MatchSummary
        Counts, histogram of the separations, completeness against radius, false matches.

    Raises
    ------
    MatchError
        If the radius is none, or the offset is not more than twice the radius.

    Notes
    -----
    Every left position is shifted along a great circle, at bearings all round and alternately by
    the offset and by one and a half times it, so that poles and right ascension 0 are as good as
    anywhere. A shifted position near which an object lies says that chance alone had matched.

    Where a left row has no counterpart, the share p of its shifts that match is also the
    probability that the row itself does: a row seen without a match stands for ``p / (1 - p)``
    that chance has matched. With h of n shifts matched, ``h / (n - h + 1)`` estimates that
    without bias, row by row, so that rows in crowds and rows outside the right side's field each
    count for what they are. Among rows that do have a counterpart, one is outdone where an
    unrelated object is nearer: that is counted from the shifts too. With ``all`` it is simply the
    pairs of the shifted positions. With ``mutual`` a shifted match counts only where the right
    row has no real left one as near, with ``best`` no partner as near.

    The error is that of the number of false pairs in this match: the Poisson noise of what the
    shifts matched, and of the false pairs themselves.

    Rows nearer to the edge of the right side's field than the offset are shifted out of it in
    part, which makes chance a little smaller than it is.

    Neighbours on the sky that come in groups (double stars, clusters of galaxies) make chance
    matches more likely within a few arcseconds than shifted positions tell.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> right = rng.uniform(0, 1, (2, 20000))
    >>> summary = summarize_match(*right[:, :500], *right[:, 500:], radius_arcsec=5)
    >>> bool(abs(summary.n_pairs - summary.n_false) < 3 * summary.n_false_err)
    True
    """
    sides = _Still(
        _coordinates(ra_left, dec_left, "left"),
        _coordinates(ra_right, dec_right, "right"),
        _check_radii(radius_arcsec, 0.0)[0],
        threads,
    )
    return _summarize(sides, find, pairs, offset_arcsec)


def summarize_moving(
    left: MovingPositions,
    right: MovingPositions,
    *,
    radius_arcsec: float,
    find: FindSure = "nearest",
    pairs: Pairs | None = None,
    offset_arcsec: float | None = None,
    threads: int | None = None,
) -> MatchSummary:
    """
    Summarise a match on a moving sky, and measure how much of it is chance.

    Parameters
    ----------
    left, right : MovingPositions
        The lists as `match_moving` took them.
    radius_arcsec, find, pairs, offset_arcsec, threads
        As for `summarize_match`. Where only right rows move, the offset must be more than they
        cover.

    Returns
    -------
    MatchSummary
        As of `summarize_match`.

    Raises
    ------
    MatchError
        As of `summarize_match`.

    Notes
    -----
    The left rows are shifted where they are listed, keep their motions, and are compared at the
    epochs of the right rows like the rows themselves: what they match is what chance matches on
    the moving sky.

    Examples
    --------
    >>> left = MovingPositions([10.0], [0.0], 2016.0, [0.0], [3600.0])
    >>> right = MovingPositions([10.0], [-0.016], 2000.0)
    >>> summary = summarize_moving(left, right, radius_arcsec=1)
    >>> summary.n_pairs, summary.n_false
    (1, 0.0)
    """
    radius, _ = _check_radii(radius_arcsec, 0.0)
    return _summarize(_Moving(left, right, radius, threads), find, pairs, offset_arcsec)


class _Sides(ABC):
    """Two lists, matched as they are or with the left one shifted."""

    radius: float

    @abstractmethod
    def listed(self) -> tuple[tuple[Floats, Floats], tuple[Floats, Floats]]:
        """Give the positions of both sides as they are listed, NaN where a row is left out."""

    @abstractmethod
    def pairs(self, find: Find, moved: tuple[Ints, Floats, Floats] | None = None) -> Pairs:
        """Match, with some left rows elsewhere: row numbers and where they are."""

    def found(self, find: FindSure) -> Pairs:
        """Match as asked for."""
        return best_pairs(self.pairs("all")) if find == "best" else self.pairs(find)

    def rivals(self, find: FindSure, pairs: Pairs) -> Floats:
        """Say how near a shifted row must be to each right row to be matched with it."""
        rival = np.full(len(self.listed()[1][0]), np.inf)
        if find == "mutual":
            pairs = self.pairs("all")
        if find in {"mutual", "best"}:
            np.minimum.at(rival, pairs.right, pairs.separation_arcsec)
        return rival


@dataclass(frozen=True)
class _Still(_Sides):
    left: tuple[Floats, Floats]
    right: tuple[Floats, Floats]
    radius: float
    threads: int | None

    def listed(self) -> tuple[tuple[Floats, Floats], tuple[Floats, Floats]]:
        return self.left, self.right

    def pairs(self, find: Find, moved: tuple[Ints, Floats, Floats] | None = None) -> Pairs:
        left = self.left if moved is None else moved[1:]
        return match_positions(
            *left, *self.right, radius_arcsec=self.radius, find=find, threads=self.threads
        )


@dataclass(frozen=True)
class _Moving(_Sides):
    left: MovingPositions
    right: MovingPositions
    radius: float
    threads: int | None

    def listed(self) -> tuple[tuple[Floats, Floats], tuple[Floats, Floats]]:
        # Where nothing moves, epochs play no part.
        is_dated = self.left.pmra is not None or self.right.pmra is not None
        left, right = (
            (np.where(np.isfinite(side.epoch) | (not is_dated), side.ra, np.nan), side.dec)
            for side in (self.left, self.right)
        )
        return left, right

    def pairs(self, find: Find, moved: tuple[Ints, Floats, Floats] | None = None) -> Pairs:
        left = self.left
        if moved is not None:
            left = replace(left.take(moved[0]), ra=moved[1], dec=moved[2])
        return match_moving(
            left, self.right, radius_arcsec=self.radius, find=find, threads=self.threads
        )


def _summarize(
    sides: _Sides, find: FindSure, pairs: Pairs | None, offset_arcsec: float | None
) -> MatchSummary:
    radius = sides.radius
    if find not in FIND_SURE:
        raise MatchError("find", f"one of {', '.join(FIND_SURE)}", repr(find))
    offset = max(5 * radius, 20.0) if offset_arcsec is None else float(offset_arcsec)
    if not 2 * radius < offset < 90 * 3600:
        raise MatchError("offset_arcsec", f"more than {2 * radius:g}, below 324000", repr(offset))
    left, right = sides.listed()
    if pairs is None:
        pairs = sides.found(find)
    edges = np.linspace(0.0, radius, N_BINS + 1) if radius else np.array([0.0, 0.0])
    counts = _histogram(pairs.separation_arcsec, edges)
    good = np.flatnonzero(are_positions(*left))
    drawn = good
    if len(good) > MOST_SHIFTED:
        drawn = np.sort(np.random.default_rng(0).choice(good, MOST_SHIFTED, replace=False))
    shifts, shifted = _shifted(sides, find, sides.rivals(find, pairs), drawn, offset)
    scale = len(good) / len(drawn) if len(drawn) else 0.0
    nearest = np.full(len(left[0]), np.inf)
    np.minimum.at(nearest, pairs.left, pairs.separation_arcsec)
    first = _first(shifted, len(drawn))
    unrelated, error = _expected_false(nearest[drawn], first, edges[1:], scale)
    false, matched = unrelated, np.cumsum(counts)
    if find == "all":
        hits = np.sum([_histogram(apart, edges) for _, apart in shifted], axis=0)
        false = np.cumsum(hits) * scale / N_OFFSETS
        error = np.sqrt(false + np.maximum(np.cumsum(hits), 1) * (scale / N_OFFSETS) ** 2)
        matched = np.cumsum(_histogram(nearest[np.isfinite(nearest)], edges))
    n = len(good)
    complete = (matched - np.minimum(unrelated, matched)) / n if n else np.zeros(len(matched))
    false_counts = np.diff(np.concatenate([[0.0], false]))
    n_right = int(np.count_nonzero(are_positions(*right)))
    return MatchSummary(
        n_left=n,
        n_right=n_right,
        n_invalid_left=len(left[0]) - n,
        n_invalid_right=len(right[0]) - n_right,
        radius_arcsec=radius,
        find=find,
        n_pairs=len(pairs),
        n_left_matched=len(np.unique(pairs.left)),
        median_separation_arcsec=float(np.median(pairs.separation_arcsec)) if len(pairs) else None,
        n_false=float(false[-1]),
        n_false_err=float(error[-1]),
        edges_arcsec=tuple(edges.tolist()),
        counts=tuple(counts.tolist()),
        counts_false=tuple(false_counts.tolist()),
        completeness=tuple(complete.tolist()),
        shifts=tuple(shifts),
        n_shifted=len(drawn),
    )


def _shifted(
    sides: _Sides, find: FindSure, rival: Floats, rows: Ints, offset: float
) -> tuple[list[Shift], list[tuple[Ints, Floats]]]:
    """Shift left rows every way; give what each way matched, nearer than its rivals."""
    ra, dec = (values[rows] for values in sides.listed()[0])
    how: Find = "all" if find in {"all", "best"} else "nearest"
    shifts, matched = [], []
    for number in range(N_OFFSETS):
        distance = offset * (1.5 if number % 2 else 1.0)
        bearing = 360.0 * number / N_OFFSETS
        found = sides.pairs(how, (rows, *shift_positions(ra, dec, distance, bearing)))
        apart = found.separation_arcsec
        keep = apart < rival[found.right]
        matched.append((found.left[keep], apart[keep]))
        shifts.append(Shift(distance, bearing, int(keep.sum())))
    return shifts, matched


def shift_positions(
    ra: ArrayLike, dec: ArrayLike, distance_arcsec: float, bearing_deg: float
) -> tuple[Floats, Floats]:
    """
    Shift positions along great circles, all by one distance and bearing.

    Parameters
    ----------
    ra, dec : array_like, shape (n,)
        Positions [deg].
    distance_arcsec : float
        How far [arcsec].
    bearing_deg : float
        Which way they start [deg], 0 north and 90 east.

    Returns
    -------
    ra, dec : ndarray, shape (n,), float64
        Where they arrive [deg].

    Examples
    --------
    >>> ra, dec = shift_positions([10.0], [90 - 1 / 3600], 2.0, 0.0)
    >>> ra.round(6), ((90 - dec) * 3600).round(6)
    (array([190.]), array([1.]))
    """
    a, d = np.radians(np.asarray(ra, float)), np.radians(np.asarray(dec, float))
    way, angle = math.radians(bearing_deg), distance_arcsec / ARCSEC_PER_RADIAN
    east = np.stack([-np.sin(a), np.cos(a), np.zeros_like(a)], axis=-1)
    north = np.stack([-np.sin(d) * np.cos(a), -np.sin(d) * np.sin(a), np.cos(d)], axis=-1)
    start = unit_vectors(np.asarray(ra, float), np.asarray(dec, float))
    towards = math.sin(way) * east + math.cos(way) * north
    x, y, z = np.moveaxis(math.cos(angle) * start + math.sin(angle) * towards, -1, 0)
    return wrap_ra(np.degrees(np.arctan2(y, x))), np.degrees(np.arctan2(z, np.hypot(x, y)))


def _expected_false(
    nearest: Floats, shifted: list[tuple[Ints, Floats]], radii: Floats, scale: float
) -> tuple[Floats, Floats]:
    """
    Count false pairs within each radius, with the error of that.

    Parameters are the separation of each shifted row's own match (inf without), what each
    shift matched, the radii, and how many rows stand behind one that was shifted.
    """
    rows = np.concatenate([np.empty(0, np.int64), *(row for row, _ in shifted)])
    apart = np.concatenate([np.empty(0), *(separation for _, separation in shifted)])
    own = nearest[rows]
    false, error = np.zeros(len(radii)), np.zeros(len(radii))
    for number, radius in enumerate(radii):
        inside, free = apart <= radius, own > radius
        n_free = int(np.count_nonzero(nearest > radius))
        n_matched = len(nearest) - n_free
        hits = np.bincount(rows[inside & free], minlength=len(nearest))
        stands_for = hits / (N_OFFSETS + 1 - hits)
        alone = float(stands_for.sum())
        nearer = int(np.count_nonzero(inside & ~free & (apart < own))) / N_OFFSETS
        # Of two chance matches of a row either is the nearer one as often.
        by_chance = float((stands_for - hits / N_OFFSETS).sum()) / 2
        outdone = max(nearer - by_chance, 0.0)
        false[number] = min(alone + outdone, n_matched)
        # What the shifts leave open, and which of the rows chance has matched.
        spread = float((stands_for**2).sum()) - alone**2 / max(n_free, 1)
        spread = max(spread, 1 / N_OFFSETS**2) + nearer / N_OFFSETS
        drawn = false[number] * (1 + alone / max(n_free, 1))
        error[number] = math.sqrt(spread * scale**2 + drawn * scale)
    # What is false within a radius is false within a larger one.
    return np.maximum.accumulate(false) * scale, error


def _first(shifted: list[tuple[Ints, Floats]], n: int) -> list[tuple[Ints, Floats]]:
    """Keep the nearest of what each shifted row matched."""
    kept = []
    for rows, apart in shifted:
        nearest = np.full(n, np.inf)
        np.minimum.at(nearest, rows, apart)
        some = np.flatnonzero(np.isfinite(nearest))
        kept.append((some, nearest[some]))
    return kept


def _histogram(separation: Floats, edges: Floats) -> Ints:
    """Count separations in bins that include their upper edge."""
    number = np.clip(np.searchsorted(edges, separation, side="left") - 1, 0, len(edges) - 2)
    return np.bincount(number, minlength=len(edges) - 1)
