"""
Take positions from whatever holds them: tables of any library, files, trees, matches.

What comes out is always the same: right ascension and declination [deg, ICRS] as float64,
NaN where a row has none, and on demand every other column as Arrow, identifiers exact.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from astropile.catalog import Catalog
from astropile.errors import MatchError
from astropile.match.angles import _angles, _degrees_per, _epochs
from astropile.match.columns import _Columns, _is_skycoord, _plain
from astropile.match.motion import MovingPositions
from astropile.match.opening import _guess, _open

Floats = NDArray[np.float64]

MOTION_NAMES: Final = (
    ("pmra", "pmdec"),
    ("pm_ra", "pm_dec"),
    ("pm_ra", "pm_de"),
    ("pmRA", "pmDE"),
    ("pm_ra_cosdec", "pm_dec"),
)
"""Names of columns that hold proper motions, in the order in which they are looked for."""

ERROR_NAMES: Final = (
    ("ra_error", "dec_error", "mas"),
    ("raErr", "decErr", "arcsec"),
    ("raMeanErr", "decMeanErr", "arcsec"),
    ("sigra", "sigdec", "arcsec"),
    ("err_maj", "err_min", "arcsec"),
    ("e_RAJ2000", "e_DEJ2000", "arcsec"),
    ("e_RA_ICRS", "e_DE_ICRS", "mas"),
)
"""Names of columns that hold standard errors of positions, in the order in which they are looked
for, with the unit that their surveys publish where the file states none."""


@dataclass(frozen=True, eq=False)
class SkyTable:
    """
    Rows with positions.

    Parameters
    ----------
    name : str
        What the rows are called.
    ra, dec : ndarray, shape (n,), float64
        Positions [deg, ICRS], NaN where a row has none.
    ra_column, dec_column : str
        Where the positions come from.
    catalog : Catalog, optional
        The tree, where it is one.
    """

    name: str
    ra: Floats
    dec: Floats
    ra_column: str
    dec_column: str
    _columns: _Columns
    catalog: Catalog | None = None

    def __len__(self) -> int:
        return len(self.ra)

    def __repr__(self) -> str:
        return (
            f"<SkyTable {self.name}: {len(self)} rows, positions from "
            f"{self.ra_column} and {self.dec_column}>"
        )

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names of the columns, as they came."""
        return self._columns.names

    def positions(self) -> tuple[Floats, Floats]:
        """
        Give the position of every row.

        Returns
        -------
        ra, dec : ndarray, shape (n,), float64
            Positions [deg, ICRS], NaN where a row has none.
        """
        return self.ra, self.dec

    def column(self, name: str) -> Any:
        """
        Give a column as it came, with its unit and mask.

        Parameters
        ----------
        name : str
            Which.

        Returns
        -------
        array
            Of the library that the table is of.

        Raises
        ------
        MatchError
            If there is none of that name.
        """
        if name not in self._columns.names:
            raise MatchError("a column", f"one of {', '.join(self._columns.names)}", repr(name))
        return self._columns.get(name)

    def units(self) -> dict[str, str]:
        """
        Give the units of the columns that state one.

        Returns
        -------
        dict of str to str
            Column to unit; ``ra`` and ``dec`` of `table` are in degrees.
        """
        found = {name: self._columns.unit(name) for name in self._columns.names}
        stated = {name: str(unit) for name, unit in found.items() if unit is not None}
        return {**stated, "ra": "deg", "dec": "deg"}

    def table(self) -> pa.Table:
        """
        Give all columns as Arrow.

        Returns
        -------
        pyarrow.Table
            ``ra`` and ``dec`` [deg] first, then every other column under its name: integers
            exact, masked values null, bytes as text. Columns that Arrow cannot hold, or of
            more than two dimensions, are left out.
        """
        columns: dict[str, Any] = {"ra": pa.array(self.ra), "dec": pa.array(self.dec)}
        for name in self._columns.names:
            if name not in columns:
                values = self._columns.arrow(name)
                if values is not None:
                    columns[name] = values
        return pa.table(columns)

    def moving(
        self,
        epoch: float | str | None = None,
        *,
        motion: tuple[str, str] | None = None,
        parallax: str | None = None,
        radial_velocity: str | None = None,
    ) -> MovingPositions:
        """
        Give the rows with their epochs, and the motions that they have.

        Parameters
        ----------
        epoch : float or str, optional
            Julian year of all rows, or the column with that of each: as a year, a Julian date
            or a modified one, told apart by size. By default the column ``ref_epoch``.
        motion : tuple of str, optional
            Columns of the proper motion east (times cos dec) and north; by default the first of
            `MOTION_NAMES` there are. Without a unit, mas/yr.
        parallax, radial_velocity : str, optional
            Columns; by default ``parallax`` [mas] and ``radial_velocity`` [km/s], if there.

        Returns
        -------
        MovingPositions
            The rows.

        Raises
        ------
        MatchError
            If the epoch is not known, or a column is not there.
        """
        names = set(self._columns.names)
        if epoch is None:
            if "ref_epoch" not in names:
                raise MatchError(f"the epoch of {self.name}", "a year or a column", "none")
            epoch = "ref_epoch"
        when: Any = epoch
        if isinstance(epoch, str):
            when = _epochs(_plain(self.column(epoch)), f"{self.name}, column {epoch}")
        found = motion or next((pair for pair in MOTION_NAMES if set(pair) <= names), None)
        if parallax is None and "parallax" in names:
            parallax = "parallax"
        if radial_velocity is None and "radial_velocity" in names:
            radial_velocity = "radial_velocity"
        east, north = (None, None) if found is None else map(self._numbers, found)
        return MovingPositions(
            self.ra,
            self.dec,
            when,
            east,
            north,
            None if parallax is None else self._numbers(parallax),
            None if radial_velocity is None else self._numbers(radial_velocity),
        )

    def errors(self, columns: str | tuple[str, str] | None = None) -> Floats | None:
        """
        Give the standard errors of the positions.

        Parameters
        ----------
        columns : str or tuple of str, optional
            The column, or both of which the mean square is taken; without a unit, arcseconds. By
            default the first of `ERROR_NAMES` there are, without a unit as published.

        Returns
        -------
        ndarray, shape (n,), float64, or None
            Standard error in one coordinate [arcsec], NaN where it is not known; None if there is
            no such column.

        Raises
        ------
        MatchError
            If a column is not there, is not numeric, or its unit is none of angle.
        """
        names, unit = columns, "arcsec"
        if columns is None:
            there = set(self._columns.names)
            known = next((one for one in ERROR_NAMES if {one[0], one[1]} <= there), None)
            if known is None:
                return None
            names, unit = known[:2], known[2]
        chosen = (names,) if isinstance(names, str) else tuple(names or ())
        squares = [self._error(name, unit) ** 2 for name in chosen]
        whole: Floats = np.sqrt(np.mean(squares, axis=0))
        return whole

    def _error(self, name: str, unit: str) -> Floats:
        what = f"{self.name}, column {name}"
        values = _plain(self.column(name))
        if values.dtype.kind == "U" or values.ndim != 1:
            raise MatchError(what, "one number per row", f"{values.dtype}, {values.shape}")
        stated = self._columns.unit(name) or unit
        arcsec = values * (3600 * _degrees_per(stated, str(stated), what))
        return np.where(arcsec > 0, arcsec, np.nan)

    def _numbers(self, name: str) -> Any:
        """Give a column as numbers with their unit."""
        from astropy.units import Quantity

        column = self.column(name)
        numbers, unit = _plain(column), self._columns.unit(name)
        return numbers if unit is None else Quantity(numbers, unit, copy=False)


def as_positions(
    value: Any, ra: str | None = None, dec: str | None = None, *, name: str | None = None
) -> SkyTable:
    """
    Take positions from whatever holds them.

    Parameters
    ----------
    value : object
        An astropy ``Table``, ``QTable`` or ``SkyCoord``; a pandas or polars ``DataFrame``; a
        pyarrow ``Table`` or whatever gives Arrow; a structured array or a mapping of arrays; the
        path or URL of a FITS, VOTable, CSV, ECSV or Parquet file, of a HATS catalogue or of a
        tree; the path of a saved match; a `Catalog`, builder or dataset of astropile; what
        `cross_match_datasets` gave; or what this function gave.
    ra, dec : str, optional
        Columns of the positions; by default they are looked for.
    name : str, optional
        What the rows are called; by default the name of the file, or of the kind of table.

    Returns
    -------
    SkyTable
        The positions, and the other columns on demand.

    Raises
    ------
    MatchError
        If it is nothing that holds positions, or it cannot be told which columns they are or in
        which unit; names the columns there are.
    TreeNotFoundError
        If there is nothing at the path.

    Notes
    -----
    Columns are looked for in this order: a HATS catalogue's own properties and a VOTable's own
    marks (UCD ``pos.eq.ra;meta.main``); the pairs of `astropile.match.opening.POSITION_NAMES`,
    letter by letter; the same in any case; a column of ``SkyCoord``.

    A unit on a column is honoured: degrees, radians, hours, arcseconds. Without one, numbers
    are degrees. Text is sexagesimal, hours for ``ra`` and degrees for ``dec``, or decimal
    degrees. ``coord_ra`` without a unit is refused where its values could be radians, because
    releases differ.

    Masked, null and empty values are no positions. Nothing is moved from another frame or
    epoch; only a ``SkyCoord`` is turned to ICRS.

    Examples
    --------
    >>> as_positions({"RA": ["00:00:10", "12:30:00"], "Dec": ["-00:30:00", "45:00:00"]}).ra
    array([4.16666667e-02, 1.87500000e+02])
    """
    if isinstance(value, SkyTable):
        return value
    columns, found, catalog = _open(value)
    called = name or found
    if catalog is not None and ra is None and dec is None:
        return SkyTable(called, *catalog.positions(), "ra", "dec", columns, catalog)
    if (ra is None) != (dec is None):
        raise MatchError(f"the positions of {called}", "both columns or neither", f"{ra}, {dec}")
    coord = None
    if ra is None or dec is None:
        pair = _guess(columns)
        if pair is None:
            coord = next((n for n in columns.names if _is_skycoord(columns.get(n))), None)
            if coord is None:
                shown = ", ".join(columns.names[:40]) or "none"
                raise MatchError(
                    f"the positions of {called}",
                    "columns like ra and dec, or their names as ra= and dec=",
                    f"the columns {shown}",
                )
            icrs = columns.get(coord).icrs
            lon, lat = (np.asarray(one, np.float64).ravel() for one in (icrs.ra.deg, icrs.dec.deg))
            return SkyTable(called, lon, lat, coord, coord, columns)
        ra, dec = pair
    for one in (ra, dec):
        if one not in columns.names:
            raise MatchError(
                f"the positions of {called}", f"columns among {', '.join(columns.names)}", repr(one)
            )
    right_ascension = _angles(columns, ra, called, is_ra=True)
    declination = _angles(columns, dec, called, is_ra=False)
    return SkyTable(called, right_ascension, declination, ra, dec, columns, catalog)


def open_side(value: Any) -> Catalog | SkyTable:
    """
    Open a side of a match: a tree as it is, anything else as a table.

    Parameters
    ----------
    value : object
        As for `as_positions`.

    Returns
    -------
    Catalog or SkyTable
        A tree, of which nothing is read yet, or rows with positions.

    Raises
    ------
    MatchError, TreeNotFoundError
        As for `as_positions`.
    """
    if isinstance(value, Catalog | SkyTable):
        return value
    if isinstance(value, str | os.PathLike):
        catalog = _open(value)[2]
        if catalog is not None:
            return catalog
    return as_positions(value)
