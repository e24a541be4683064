"""
How sure a match is: what chance alone would have matched.

Two ways, which check each other. Per pair: the density of the right side around it gives the
probability that an unrelated object lies as near. For the whole match: positions shifted a
little way off have no true counterparts, and what they match is chance.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from astropile.errors import MatchError
from astropile.healpix import ang2pix
from astropile.match.positions import Find, Pairs, _check_radii, _coordinates, match_positions
from astropile.sky import ARCSEC_PER_RADIAN, unit_vectors, wrap_ra

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NEIGHBORS: Final = 20
"""The density around a position is measured with so many objects."""

MOST_POSITIONS: Final = 100_000
"""Densities are measured at so many positions; of more, those of one small pixel share one."""

MOST_SHIFTED: Final = 200_000
"""So many left rows are shifted at most, drawn at random."""

N_OFFSETS: Final = 8

N_BINS: Final = 40

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
    good = _valid(ra_right, dec_right)
    density = np.full(len(ra), np.nan)
    here = np.flatnonzero(_valid(ra, dec))
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
    find: Find = "nearest",
    pairs: Pairs | None = None,
    offset_arcsec: float | None = None,
    threads: int | None = None,
) -> MatchSummary:
    """
    Summarise a match, and measure how much of it is chance.

    Parameters
    ----------
    ra_left, dec_left, ra_right, dec_right : array_like
        The positions [deg, ICRS] as they were matched; of a moving sky, as carried to the epoch
        of the other side.
    radius_arcsec : float
        The radius of the match [arcsec].
    find : {'nearest', 'all', 'mutual'}
        How the pairs were found.
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
    row has no real left one as near.

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
    radius, _ = _check_radii(radius_arcsec, 0.0)
    offset = max(5 * radius, 20.0) if offset_arcsec is None else float(offset_arcsec)
    if not 2 * radius < offset < 90 * 3600:
        raise MatchError("offset_arcsec", f"more than {2 * radius:g}, below 324000", repr(offset))
    left, right = (
        _coordinates(ra_left, dec_left, "left"),
        _coordinates(ra_right, dec_right, "right"),
    )
    if pairs is None:
        pairs = match_positions(*left, *right, radius_arcsec=radius, find=find, threads=threads)
    edges = np.linspace(0.0, radius, N_BINS + 1) if radius else np.array([0.0, 0.0])
    counts = _histogram(pairs.separation_arcsec, edges)
    good = np.flatnonzero(_valid(*left))
    drawn = good
    if len(good) > MOST_SHIFTED:
        drawn = np.sort(np.random.default_rng(0).choice(good, MOST_SHIFTED, replace=False))
    rival = np.full(len(right[0]), np.inf)
    if find == "mutual":
        back = match_positions(*right, *left, radius_arcsec=radius, threads=threads)
        rival[back.left] = back.separation_arcsec
    shifted = []
    shifts = []
    for number in range(N_OFFSETS):
        distance = offset * (1.5 if number % 2 else 1.0)
        bearing = 360.0 * number / N_OFFSETS
        moved = shift_positions(left[0][drawn], left[1][drawn], distance, bearing)
        how: Find = "all" if find == "all" else "nearest"
        found = match_positions(*moved, *right, radius_arcsec=radius, find=how, threads=threads)
        apart = found.separation_arcsec
        keep = apart < rival[found.right]
        shifted.append((found.left[keep], apart[keep]))
        shifts.append(Shift(distance, bearing, int(keep.sum())))
    scale = len(good) / len(drawn) if len(drawn) else 0.0
    if find == "all":
        hits = np.sum([_histogram(apart, edges) for _, apart in shifted], axis=0)
        false = np.cumsum(hits) * scale / N_OFFSETS
        error = np.sqrt(false + np.maximum(np.cumsum(hits), 1) * (scale / N_OFFSETS) ** 2)
        nearest = np.full(len(left[0]), np.inf)
        np.minimum.at(nearest, pairs.left, pairs.separation_arcsec)
        matched = np.cumsum(_histogram(nearest[np.isfinite(nearest)], edges))
        unrelated, _ = _expected_false(
            nearest[drawn], _first(shifted, len(drawn)), edges[1:], scale
        )
    else:
        nearest = np.full(len(left[0]), np.inf)
        np.minimum.at(nearest, pairs.left, pairs.separation_arcsec)
        matched = np.cumsum(counts)
        false, error = _expected_false(nearest[drawn], shifted, edges[1:], scale)
        unrelated = false
    n = len(good)
    complete = (matched - np.minimum(unrelated, matched)) / n if n else np.zeros(len(matched))
    false_counts = np.diff(np.concatenate([[0.0], false]))
    return MatchSummary(
        n_left=n,
        n_right=int(np.count_nonzero(_valid(*right))),
        n_invalid_left=len(left[0]) - n,
        n_invalid_right=int(np.count_nonzero(~_valid(*right))),
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


def _valid(ra: Floats, dec: Floats) -> NDArray[np.bool_]:
    """Whether rows are positions, as `match_positions` counts them."""
    good: NDArray[np.bool_] = (np.abs(dec) <= 90) & (np.abs(ra - 180) <= 720)
    return good
