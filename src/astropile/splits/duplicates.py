"""Objects that are in a list more than once, or in several lists: found and grouped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from astropile.errors import SampleError
from astropile.match._kernel import _compiled
from astropile.match.positions import match_positions


@dataclass(frozen=True)
class Duplicates:
    """
    Rows of one or more surveys that are the same object.

    Parameters
    ----------
    groups : mapping of str to ndarray, shape (n,), int64
        For each survey the group of each of its rows. Groups are numbered from 0 by their first
        row, surveys in their order.
    """

    groups: Mapping[str, NDArray[np.int64]]

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Rows of each group, of all surveys together: shape (n_groups,)."""
        return np.bincount(np.concatenate(list(self.groups.values())))

    def repeated(self, survey: str) -> list[NDArray[np.int64]]:
        """
        List the groups of which a survey has more than one row.

        Parameters
        ----------
        survey : str
            Its name.

        Returns
        -------
        list of ndarray, int64
            Row numbers of each, ascending.
        """
        groups = self.groups[survey]
        order = np.argsort(groups, kind="stable")
        starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
        return [part for part in np.split(order, starts[1:]) if len(part) > 1]

    def first_rows(self, survey: str) -> NDArray[np.int64]:
        """
        Keep one row of each group.

        Parameters
        ----------
        survey : str
            Name of the survey.

        Returns
        -------
        ndarray, shape (m,), int64
            The first row of each group, ascending.
        """
        return np.sort(np.unique(self.groups[survey], return_index=True)[1])

    def shared(self, left: str, right: str) -> int:
        """
        Count the objects that two surveys share.

        Parameters
        ----------
        left, right : str
            Their names.

        Returns
        -------
        int
            Groups with rows of both.
        """
        return len(np.intersect1d(self.groups[left], self.groups[right]))


def find_duplicates(
    positions: Mapping[str, tuple[ArrayLike, ArrayLike]],
    *,
    radius_arcsec: float = 1.0,
    object_ids: Mapping[str, ArrayLike] | None = None,
) -> Duplicates:
    """
    Group rows that are the same object, within and between surveys.

    Parameters
    ----------
    positions : mapping of str to (array_like, array_like)
        Positions of each survey's rows [deg, ICRS].
    radius_arcsec : float
        Rows at most this far apart are one object, and so are those that a chain of such steps
        joins: friends of friends [arcsec].
    object_ids : mapping of str to array_like, optional
        Identifiers of the rows of some surveys; equal ones of a survey are one object too,
        wherever they are.

    Returns
    -------
    Duplicates
        The groups. A row without a position is joined by its identifier alone.

    Raises
    ------
    SampleError
        If there is no survey, or a survey's identifiers are not one for each row.
    MatchError
        If positions or the radius cannot be matched.

    Notes
    -----
    Time and memory grow with the number of pairs within the radius: 16 bytes for each.

    Examples
    --------
    >>> found = find_duplicates({"a": ([10.0, 10.0001, 50.0], [5.0, 5.0, 5.0])})
    >>> found.groups["a"]
    array([0, 0, 1])
    """
    if not positions:
        raise SampleError("positions", "those of one survey or more", "none")
    ra, dec, lengths = [], [], []
    for name, (mine_ra, mine_dec) in positions.items():
        ra.append(np.ma.filled(np.ma.asarray(mine_ra).astype(np.float64), np.nan))
        dec.append(np.ma.filled(np.ma.asarray(mine_dec).astype(np.float64), np.nan))
        lengths.append(len(ra[-1]))
        if len(dec[-1]) != lengths[-1]:
            raise SampleError(name, f"{lengths[-1]} numbers, as many as ra", str(len(dec[-1])))
    starts = np.concatenate(([0], np.cumsum(lengths)))
    all_ra, all_dec = np.concatenate(ra), np.concatenate(dec)
    pairs = match_positions(
        all_ra, all_dec, all_ra, all_dec, radius_arcsec=radius_arcsec, find="all"
    )
    parents = np.arange(len(all_ra))
    _join(parents, pairs.left, pairs.right)
    for name, ids in (object_ids or {}).items():
        if name not in positions:
            raise SampleError("object_ids", f"names among {', '.join(positions)}", repr(name))
        start = int(starts[list(positions).index(name)])
        _join(parents, *_equal_ids(name, ids, start, lengths[list(positions).index(name)]))
    # Roots are the lowest rows of their groups, so that groups come numbered by their first row.
    group = np.unique(_roots(parents), return_inverse=True)[1]
    return Duplicates(
        {
            name: group[a:b].astype(np.int64)
            for name, a, b in zip(positions, starts[:-1], starts[1:], strict=True)
        }
    )


def _equal_ids(
    name: str, ids: ArrayLike, start: int, n: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pair each row with the first one of its identifier."""
    values: Any = np.ma.asarray(ids)
    if values.shape != (n,):
        raise SampleError(f"object_ids of {name}", f"{n} identifiers", f"shape {values.shape}")
    known = np.flatnonzero(~np.ma.getmaskarray(values))
    _, first, which = np.unique(values.data[known], return_index=True, return_inverse=True)
    return known + start, known[first[which]] + start


@_compiled
def _root(parents: NDArray[np.int64], row: int) -> int:
    while parents[row] != row:
        parents[row] = parents[parents[row]]
        row = parents[row]
    return row


@_compiled
def _join(parents: NDArray[np.int64], left: NDArray[np.int64], right: NDArray[np.int64]) -> None:
    """Union by lowest row, with halved paths."""
    for k in range(len(left)):
        a, b = _root(parents, left[k]), _root(parents, right[k])
        if a < b:
            parents[b] = a
        else:
            parents[a] = b


@_compiled
def _roots(parents: NDArray[np.int64]) -> NDArray[np.int64]:
    found = np.empty_like(parents)
    for row in range(len(parents)):
        found[row] = _root(parents, row)
    return found
