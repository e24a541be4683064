"""Match catalogs with catalogs: two trees in, row numbers and separations out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from astropile.catalog import Catalog
from astropile.match.positions import Find, Pairs, match_positions
from astropile.remote import RemoteCatalog

FEWER: Final = 4
"""With so many times fewer objects on the other side, only their surroundings are read."""

Positions: TypeAlias = tuple[NDArray[np.float64], NDArray[np.float64]]


def cross_match(
    left: Catalog, right: Catalog, *, radius_arcsec: float, find: Find = "nearest"
) -> Pairs:
    """
    Find which objects of two catalogs lie within a radius of each other.

    Parameters
    ----------
    left, right : Catalog
        The catalogs; of any orders.
    radius_arcsec : float
        Largest accepted separation [arcsec], inclusive.
    find : {'nearest', 'all', 'mutual'}
        As for `match_positions`.

    Returns
    -------
    Pairs
        Row numbers of both catalogs, ordered by ``left``, and separations.

    Raises
    ------
    MatchError
        If the radius is not one.

    Notes
    -----
    Positions come from the catalogues beside the data, 16 bytes per object: no shard is
    opened. Of a remote catalog matched with a much smaller one, only the surroundings of the
    smaller one's objects are read. How either is split into partitions and shards plays no part
    in the result.

    Examples
    --------
    >>> from astropile import open_catalog
    >>> hsc, desi = open_catalog("hsc"), open_catalog("desi")  # doctest: +SKIP
    >>> pairs = cross_match(hsc, desi, radius_arcsec=1.0)  # doctest: +SKIP
    >>> spectra = desi.take(pairs.right, ["FLUX"])  # doctest: +SKIP
    """
    rows_left, here = _positions(left, right, radius_arcsec)
    rows_right, there = _positions(right, left, radius_arcsec)
    pairs = match_positions(*here, *there, radius_arcsec=radius_arcsec, find=find)
    return replace(
        pairs,
        left=pairs.left if rows_left is None else rows_left[pairs.left],
        right=pairs.right if rows_right is None else rows_right[pairs.right],
    )


def _positions(
    catalog: Catalog, other: Catalog, radius_arcsec: float
) -> tuple[NDArray[np.int64] | None, Positions]:
    """Read the positions that may have a counterpart: which rows (None for all), ra and dec."""
    rows = None
    if isinstance(catalog, RemoteCatalog) and len(catalog) > FEWER * len(other):
        rows = catalog.near(*other.positions(), radius_arcsec)
    if rows is None:
        return None, catalog.positions()
    found: dict[str, Any] = catalog.take(rows, ["ra", "dec"])
    return rows, (found["ra"], found["dec"])
