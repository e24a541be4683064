"""
How sure the pairs of two matched sides are: a summary of all, and what is said of each.

Chance comes from the density of the right side around each pair; where positions have errors,
they weigh each pair against the others of its left row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astropile.errors import MatchError
from astropile.match.chance import FindSure, MatchSummary, summarize_match, summarize_moving
from astropile.match.density import chance_probability, local_density, match_probability
from astropile.match.motion import MovingPositions, match_moving
from astropile.match.multi import best_pairs
from astropile.match.positions import Pairs, match_positions
from astropile.match.sides import Side

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Errors = float | str | tuple[str, str]
"""Errors of the positions: one for all rows [arcsec], or the columns that have them."""


@dataclass(frozen=True, eq=False)
class Sureness:
    """
    How sure a match of two sides is.

    Attributes
    ----------
    summary : MatchSummary
        What was found, and how much of it is chance.
    is_matched : ndarray of bool
        Whether each left row is in a pair.
    columns : dict of str to ndarray
        Of each row of the result ``chance_probability``, and ``match_probability`` where both
        sides have errors; masked where the row is no pair.
    """

    summary: MatchSummary
    is_matched: NDArray[np.bool_]
    columns: Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Matched:
    """
    Two sides as they were matched by position.

    Parameters
    ----------
    left, right : Side
        The sides.
    radius_arcsec : float
        The radius.
    find : {'nearest', 'all', 'mutual', 'best'}
        How pairs were found.
    moving : tuple of MovingPositions, optional
        Both sides with their epochs, where they were matched so.
    """

    left: Side
    right: Side
    radius_arcsec: float
    find: FindSure
    moving: tuple[MovingPositions, MovingPositions] | None = None

    def how_sure(
        self, rows: tuple[Ints, Ints], separation: Floats, errors: tuple[Any, Any] | None
    ) -> Sureness:
        """
        Measure how sure the match is.

        Parameters
        ----------
        rows : tuple of ndarray of int64
            Row numbers of both sides in the result, -1 where one has no part.
        separation : ndarray of float64
            Of each row of the result [arcsec], NaN where it is no pair.
        errors : tuple, optional
            Standard errors of both sides' positions [arcsec], of each row or of all.

        Returns
        -------
        Sureness
            The summary, and columns of the result.
        """
        pairs = self._all() if self.find == "best" or errors else None
        found = best_pairs(pairs) if pairs is not None and self.find == "best" else None
        found = self._pairs(self.find) if found is None else found
        summary = self._summary(found)
        matched = np.zeros(len(self.left), bool)
        matched[found.left] = True
        there = np.flatnonzero(np.isfinite(separation))
        some = Pairs(rows[0][there], rows[1][there], separation[there], 0, 0)
        values = {"chance_probability": chance_probability(separation[there], self._density(some))}
        if pairs is not None and errors:
            complete = float(np.clip(summary.completeness[-1], 0, 1))
            weighed = match_probability(pairs, self._density(pairs), *errors, completeness=complete)
            values["match_probability"] = _of_pairs(some, pairs, weighed, len(self.right))
        columns = {name: _placed(one, there, len(separation)) for name, one in values.items()}
        return Sureness(summary, matched, columns)

    def _all(self) -> Pairs:
        return self._pairs("all")

    def _pairs(self, find: Any) -> Pairs:
        options: dict[str, Any] = {"radius_arcsec": self.radius_arcsec, "find": find}
        if self.moving is not None:
            return match_moving(*self.moving, **options)
        return match_positions(*self.left.positions(), *self.right.positions(), **options)

    def _summary(self, pairs: Pairs) -> MatchSummary:
        options: dict[str, Any] = {"radius_arcsec": self.radius_arcsec, "find": self.find}
        if self.moving is not None:
            return summarize_moving(*self.moving, pairs=pairs, **options)
        sky = (*self.left.positions(), *self.right.positions())
        return summarize_match(*sky, pairs=pairs, **options)

    def _density(self, pairs: Pairs) -> Floats:
        """Count unrelated right objects around the right one of each pair."""
        ra, dec = self.right.positions()
        some, back = np.unique(pairs.right, return_inverse=True)
        own = np.ones(len(some), bool)
        return local_density(ra, dec, ra[some], dec[some], has_counterpart=own)[back]


def errors_of(
    sides: Mapping[str, Side], given: Mapping[str, Errors]
) -> dict[str, Floats | float | None]:
    """
    Find the errors of the positions of each side.

    Parameters
    ----------
    sides : mapping of str to Side
        The sides.
    given : mapping of str to float, str or tuple of str
        What is said of some of them: see `SkyTable.errors`.

    Returns
    -------
    dict of str to ndarray, float or None
        Standard error in one coordinate [arcsec], of each row or of all; None where a side
        has none.

    Raises
    ------
    MatchError
        If there is no such side or column, or an error is no number above 0.
    """
    for name in given:
        if name not in sides:
            raise MatchError("errors", f"names among {', '.join(sides)}", repr(name))
    found: dict[str, Floats | float | None] = {}
    for name, side in sides.items():
        value = given.get(name)
        if isinstance(value, int | float):
            if not 0 < value < np.inf:
                raise MatchError(f"the error of {name}", "arcseconds above 0", repr(value))
            found[name] = float(value)
        else:
            found[name] = side.table().errors(value)
    return found


def _of_pairs(some: Pairs, pairs: Pairs, values: Floats, n_right: int) -> Floats:
    """Give the values of some of the pairs."""
    keys, wanted = (one.left * n_right + one.right for one in (pairs, some))
    order = np.argsort(keys)
    if not len(order):
        return np.full(len(wanted), np.nan)
    place = order[np.minimum(np.searchsorted(keys, wanted, sorter=order), len(order) - 1)]
    return np.where(keys[place] == wanted, values[place], np.nan)


def _placed(values: Floats, there: Ints, n: int) -> Any:
    """Give values of some rows of n, masked elsewhere."""
    whole = np.full(n, np.nan)
    whole[there] = values
    if len(there) == n:
        return whole
    mask = np.ones(n, bool)
    mask[there] = False
    return np.ma.MaskedArray(whole, mask=mask)
