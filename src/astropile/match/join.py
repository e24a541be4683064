"""Match catalogs with catalogs: two trees in, row numbers and separations out."""

from __future__ import annotations

from astropile.catalog import Catalog
from astropile.match.positions import Find, Pairs, match_positions


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
    opened. How either is split into partitions and shards plays no part in the result.

    Examples
    --------
    >>> from astropile import open_catalog
    >>> hsc, desi = open_catalog("hsc"), open_catalog("desi")  # doctest: +SKIP
    >>> pairs = cross_match(hsc, desi, radius_arcsec=1.0)  # doctest: +SKIP
    >>> spectra = desi.take(pairs.right, ["FLUX"])  # doctest: +SKIP
    """
    return match_positions(
        *left.positions(), *right.positions(), radius_arcsec=radius_arcsec, find=find
    )
