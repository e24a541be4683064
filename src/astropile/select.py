"""
Choose rows of a tree by where they lie on the sky.

The catalogue is sorted along the sky: only the parts of it that a region touches are read, and
the positions in them compared exactly. Rows are sorted int64 arrays, to be combined with
`numpy.intersect1d`, `numpy.union1d` and `numpy.setdiff1d`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from astropile.errors import MissingExtraError
from astropile.regions import Box, Cone, Polygon, Region, merged, pixel_ranges, ranges_of


class SkySelections:
    """What a `Catalog` can choose on the sky: row numbers, sorted, edges of regions included."""

    if TYPE_CHECKING:  # What a catalog brings.

        def ranges(  # noqa: D102
            self, ranges: NDArray[np.int64], columns: Sequence[str] = ()
        ) -> tuple[NDArray[np.int64], pa.Table]: ...

    def cone(self, ra: float, dec: float, radius_arcsec: float) -> NDArray[np.int64]:
        """
        Choose the objects within an angle of a position.

        Parameters
        ----------
        ra, dec : float
            The position [deg, ICRS].
        radius_arcsec : float
            The angle [arcsec], inclusive.

        Returns
        -------
        ndarray, shape (n,), int64
            Row numbers, sorted.

        Raises
        ------
        ValueError
            If the position is not on the sky or the radius is negative.
        """
        return self.within(Cone(ra, dec, radius_arcsec))

    def box(
        self, ra_min: float, ra_max: float, dec_min: float, dec_max: float
    ) -> NDArray[np.int64]:
        """
        Choose the objects between two meridians and two parallels.

        Parameters
        ----------
        ra_min, ra_max : float
            Right ascensions [deg, ICRS], inclusive, eastwards from the first to the second: with
            ``ra_min > ra_max`` the box goes through 0 = 360. 360 or more apart: all around.
        dec_min, dec_max : float
            Declinations [deg, ICRS], inclusive.

        Returns
        -------
        ndarray, shape (n,), int64
            Row numbers, sorted.

        Raises
        ------
        ValueError
            If a declination is not on the sky, or the second is less than the first.
        """
        return self.within(Box(ra_min, ra_max, dec_min, dec_max))

    def polygon(self, vertices: ArrayLike) -> NDArray[np.int64]:
        """
        Choose the objects inside a closed line of great circles.

        Parameters
        ----------
        vertices : array_like, shape (n, 2), float64
            Right ascension and declination of the corners [deg, ICRS], either way round.

        Returns
        -------
        ndarray, shape (n,), int64
            Row numbers, sorted.

        Raises
        ------
        ValueError
            If there are fewer than three corners that differ, or two that follow one another
            are opposite on the sky.

        Notes
        -----
        An edge is the shorter great circle between two corners; the inside is the smaller side
        of the line. The polygon need not be convex, may hold a pole and lie across 0 = 360.
        A position within 1e-7 arcsec of an edge is inside.
        """
        return self.within(Polygon(vertices))

    def within(self, region: Region) -> NDArray[np.int64]:
        """
        Choose the objects in a region.

        Parameters
        ----------
        region : Region
            A `Cone`, `Box`, `Polygon` or anything like them of `astropile.regions`.

        Returns
        -------
        ndarray, shape (n,), int64
            Row numbers, sorted.
        """
        rows, table = self.ranges(pixel_ranges(region), ("ra", "dec"))
        if not len(rows):
            return rows
        return rows[region.contains(table["ra"].to_numpy(), table["dec"].to_numpy())]

    def pixels(self, order: int, ipix: ArrayLike) -> NDArray[np.int64]:
        """
        Choose the objects in HEALPix pixels.

        Parameters
        ----------
        order : int
            HEALPix order of the pixels, 0 to 29; any, not only that of the partitions.
        ipix : int or array_like of int
            Pixel numbers, NESTED.

        Returns
        -------
        ndarray, shape (n,), int64
            Row numbers, sorted.

        Raises
        ------
        ValueError
            If a number is not that of a pixel of the order.
        TypeError
            If they are not integers.
        """
        return self.ranges(ranges_of(ipix, order))[0]

    def moc(self, moc: Any) -> NDArray[np.int64]:
        """
        Choose the objects in a multi-order coverage map.

        Parameters
        ----------
        moc : mocpy.MOC or path
            The map, or a FITS, JSON or ASCII file of one.

        Returns
        -------
        ndarray, shape (n,), int64
            Row numbers, sorted.

        Raises
        ------
        ValueError
            If the file is not a map of the sky.
        MissingExtraError
            If a file is given and mocpy is not installed.
        """
        return self.ranges(_moc_ranges(moc))[0]


def _moc_ranges(moc: Any) -> NDArray[np.int64]:
    chosen = _read_moc(Path(moc)) if isinstance(moc, str | os.PathLike) else moc
    ranges = getattr(chosen, "to_depth29_ranges", None)
    if ranges is None:
        raise TypeError(f"a coverage map is a mocpy.MOC or a file, not {type(moc).__name__}")
    return merged(np.asarray(ranges).astype(np.int64).reshape(-1, 2))


def _read_moc(path: Path) -> Any:
    try:
        from mocpy import MOC
    except ImportError as error:
        raise MissingExtraError("reading a coverage map", "moc") from error
    path = path.expanduser()
    with path.open("rb") as file:
        head = file.read(80).lstrip()
    form = "fits" if head.startswith(b"SIMPLE") else "json" if head.startswith(b"{") else "ascii"
    try:
        return MOC.load(str(path), format=form)
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"{path}: expected a coverage map of the sky, found {error}") from error
