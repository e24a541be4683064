"""Match any number of catalogs with the objects of one of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astropile.catalog import Catalog
from astropile.errors import MatchError
from astropile.match.join import cross_match
from astropile.match.multi import FindMany, ManyPairs, join_many
from astropile.match.positions import Pairs


def cross_match_many(
    catalogs: Mapping[str, Catalog],
    *,
    anchor: str,
    radius_arcsec: float | Mapping[str, float] = 1.0,
    join: str = "left",
    find: FindMany = "nearest",
    on: Mapping[str, str] | None = None,
    **options: Any,
) -> ManyPairs:
    """
    Match any number of catalogs with the objects of one of them.

    Parameters
    ----------
    catalogs : mapping of str to Catalog
        The catalogs, by the names they have in the result.
    anchor : str
        Whose objects the others are matched with.
    radius_arcsec, join, find
        As for `match_many`.
    on : mapping of str to str, optional
        Light columns that hold identifiers, of the anchor and of the catalogs to be matched by
        them: ``{"desi": "TARGETID", "targets": "TARGETID"}``.
    **options : object
        What `cross_match` takes: `memory_bytes`, `executor`, `progress`, `stop`.

    Returns
    -------
    ManyPairs
        Row numbers in each catalog, separations, which has a part in which row.

    Raises
    ------
    MatchError
        If an argument is not what it must be.
    UnknownColumnError
        If a column of `on` is not there.

    Notes
    -----
    The result is in memory, 16 bytes for each catalog and each object of the anchor.
    """

    def pairs_of(name: str, radius: float, find: str) -> Pairs:
        way: Any = "all" if find == "best" else find
        return cross_match(
            catalogs[anchor], catalogs[name], radius_arcsec=radius, find=way, **options
        )

    def positions_of(
        name: str, rows: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        ra, dec = catalogs[name].positions()
        return ra[rows], dec[rows]

    return join_many(
        {name: len(catalog) for name, catalog in catalogs.items()},
        anchor=anchor,
        radius_arcsec=radius_arcsec,
        join=join,
        find=find,
        on={name: _column(catalogs, name, column) for name, column in (on or {}).items()},
        pairs_of=pairs_of,
        positions_of=positions_of,
    )


def _column(catalogs: Mapping[str, Catalog], name: str, column: str) -> Any:
    if name not in catalogs:
        raise MatchError("on", f"names among {', '.join(catalogs)}", repr(name))
    values = catalogs[name].light([column])[column]
    return values.to_numpy()
