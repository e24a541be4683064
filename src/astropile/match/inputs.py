"""
Take positions from whatever holds them: tables of any library, files, trees, matches.

What comes out is always the same: right ascension and declination [deg, ICRS] as float64,
NaN where a row has none, and on demand every other column as Arrow, identifiers exact.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from astropile.catalog import Catalog, list_subsets, open_catalog
from astropile.errors import MatchError, TreeNotFoundError
from astropile.layout import ROOT_FILE
from astropile.match.motion import MovingPositions, epoch_of_jd
from astropile.match.sources import (
    COLLECTION,
    PROPERTIES,
    RemoteHats,
    fetch_file,
    parse_properties,
)
from astropile.store.protocol import RemotePath, is_url, tree_path

Floats = NDArray[np.float64]

POSITION_NAMES: Final = (
    ("ra", "dec"),
    ("RA", "DEC"),
    ("Ra", "Dec"),
    ("RA", "Dec"),
    ("RA", "DECL"),
    ("ra", "decl"),
    ("RAJ2000", "DEJ2000"),
    ("RAJ2000", "DECJ2000"),
    ("_RAJ2000", "_DEJ2000"),
    ("_RA", "_DE"),
    ("RA_ICRS", "DE_ICRS"),
    ("RAdeg", "DEdeg"),
    ("ra_deg", "dec_deg"),
    ("raMean", "decMean"),
    ("ALPHA_J2000", "DELTA_J2000"),
    ("TARGET_RA", "TARGET_DEC"),
    ("PLUG_RA", "PLUG_DEC"),
    ("coord_ra", "coord_dec"),
    ("right_ascension", "declination"),
)
"""Names of columns that hold positions, in the order in which they are looked for."""

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

NO_SIDE: Final = "a side of the match"
"""What an error names where a side is of no type that holds positions."""

_FITS: Final = (".fits", ".fit", ".fts", ".fz")
_VOTABLE: Final = (".vot", ".votable", ".xml")
_PARQUET: Final = (".parquet", ".pq", ".parq")
_HOURS: Final = ("h", "hr", "hour", "hourangle", '"h:m:s"', "h:m:s", "hms")
_RADIANS_OR_DEGREES: Final = ("coord_ra", "coord_dec")


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
    marks (UCD ``pos.eq.ra;meta.main``); the pairs of `POSITION_NAMES`, letter by letter; the
    same in any case; a column of ``SkyCoord``.

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


# --------------------------------------------------------------------------------------
# Tables of all kinds, seen alike


class _Columns:
    """Columns by name, each with its unit, and as Arrow."""

    main: tuple[str, str] | None = None
    """The columns of the positions, where the table says so itself."""

    owner: Any = None
    """What a file is kept for that was fetched to be read."""

    def __init__(self, names: Iterable[str], get: Callable[[str], Any]) -> None:
        self.names, self._get = tuple(names), get

    @classmethod
    def of(cls, mapping: Mapping[str, Any]) -> _Columns:
        return cls(mapping, mapping.__getitem__)

    def get(self, name: str) -> Any:
        return self._get(name)

    def unit(self, name: str) -> Any:
        unit = getattr(self.get(name), "unit", None)
        return None if unit is None or str(unit) == "" else unit

    def ucd(self, name: str) -> str:
        meta = getattr(getattr(self.get(name), "info", None), "meta", None) or {}
        return str(meta.get("ucd", "")).lower()

    def arrow(self, name: str) -> Any:
        return _to_arrow(self.get(name))


class _ArrowColumns(_Columns):
    """Columns of Arrow; units are in the metadata of the schema's fields."""

    def __init__(self, schema: pa.Schema, get: Callable[[str], Any]) -> None:
        super().__init__(schema.names, get)
        self._schema = schema

    @classmethod
    def of_table(cls, table: pa.Table) -> _ArrowColumns:
        return cls(table.schema, table.column)

    @classmethod
    def of_files(cls, paths: Sequence[Path]) -> _ArrowColumns:
        """Read Parquet files column by column, each when it is asked for."""
        with pq.ParquetFile(paths[0]) as file:
            schema = file.schema_arrow

        @cache
        def get(name: str) -> Any:
            chunks: list[Any] = []
            for path in paths:
                with pq.ParquetFile(path) as file:
                    chunks += file.read([name]).column(name).chunks
            return pa.chunked_array(chunks, schema.field(name).type)

        return cls(schema, get)

    def unit(self, name: str) -> Any:
        metadata = self._schema.field(name).metadata or {}
        return metadata.get(b"unit", b"").decode() or None

    def ucd(self, name: str) -> str:
        del name
        return ""


def _open(value: Any) -> tuple[_Columns, str, Catalog | None]:
    """Find what holds the columns, what it is called, and the tree if it is one."""
    if isinstance(value, Catalog):
        return _tree(value)
    match value:
        case str() | os.PathLike():
            return _path(value)
        case pa.Table():
            return _ArrowColumns.of_table(value), "table", None
        case pa.RecordBatch():
            return _ArrowColumns.of_table(pa.Table.from_batches([value])), "table", None
        case np.ndarray() if value.dtype.names:
            return _Columns(value.dtype.names, value.__getitem__), "table", None
        case Mapping():
            return _Columns.of({str(k): v for k, v in value.items()}), "table", None
    if _is_skycoord(value):
        return _Columns.of({"coord": value}), "table", None
    if hasattr(value, "colnames"):  # astropy Table
        label = (getattr(value, "meta", None) or {}).get("name", "table")
        return _Columns(value.colnames, value.__getitem__), str(label), None
    catalog = getattr(value, "catalog", None)
    if catalog is not None and hasattr(catalog, "colnames"):  # CrossMatch
        called = value.dataset.info.dataset_name or "match"
        return _Columns(catalog.colnames, catalog.__getitem__), called, None
    if isinstance(catalog, Catalog):  # a builder
        get = _one_of(value.rows.light)
        return _Columns(catalog.light_columns, get), catalog.survey.name, None
    if hasattr(value, "select_columns") and hasattr(value, "num_rows"):  # a dataset
        return _dataset(value)
    if hasattr(value, "iloc") and hasattr(value, "columns"):  # pandas
        names = [str(column) for column in value.columns]
        table = pa.Table.from_pandas(value.set_axis(names, axis=1), preserve_index=False)
        return _ArrowColumns.of_table(table), "table", None
    if hasattr(value, "__arrow_c_stream__"):
        return _ArrowColumns.of_table(pa.table(value)), "table", None
    raise MatchError(
        NO_SIDE,
        "a table, the path of one, a tree, or a match",
        f"{type(value).__module__}.{type(value).__qualname__}",
    )


def _tree(catalog: Catalog) -> tuple[_Columns, str, Catalog]:
    return _Columns(catalog.light_columns, _one_of(catalog.light)), catalog.survey.name, catalog


def _one_of(read: Callable[[list[str]], Any]) -> Callable[[str], Any]:
    return lambda name: read([name])[name]


def _dataset(dataset: Any) -> tuple[_Columns, str, None]:
    """Take the columns of a dataset that hold one number or text a row."""
    single = [n for n, feature in dataset.features.items() if hasattr(feature, "dtype")]
    single = [n for n in single if type(dataset.features[n]).__name__ == "Value"]

    def get(name: str) -> Any:
        chosen = dataset.select_columns([name]).with_format("arrow")
        return chosen[:].column(name) if len(dataset) else pa.chunked_array([pa.array([], "f8")])

    return _Columns(single, get), dataset.info.dataset_name or "dataset", None


def _path(value: Any) -> tuple[_Columns, str, Catalog | None]:
    if is_url(value):
        return _behind_url(value)
    path = Path(value).expanduser()
    name = path.name.removesuffix(".gz").removesuffix(".bz2")
    stem = Path(name).stem or name
    if path.is_dir():
        if (path / ROOT_FILE).is_file() or list_subsets(path):
            return _tree(open_catalog(path))
        if (path / "catalog.parquet").is_file():
            return _file(path / "catalog.parquet", ".parquet"), path.name, None
        return _hats(path), path.name, None
    if not path.is_file():
        raise TreeNotFoundError(str(path), "there is no such folder, nor file")
    return _file(path, Path(name).suffix.lower()), stem, None


def _behind_url(url: str) -> tuple[_Columns, str, Catalog | None]:
    """Open what a URL names: a file by its suffix, else a tree, else a HATS catalogue."""
    path = tree_path(url)
    assert isinstance(path, RemotePath)
    name = path.name.removesuffix(".gz").removesuffix(".bz2")
    suffix = Path(name).suffix.lower()
    if suffix in {*_FITS, *_VOTABLE, *_PARQUET, ".ecsv", ".csv", ".tsv"}:
        owner = _Owner()
        columns = _file(fetch_file(path, owner), suffix)
        columns.owner = owner
        return columns, Path(name).stem, None
    try:
        return _tree(open_catalog(url))
    except TreeNotFoundError as error:
        try:
            hats = RemoteHats(path)
        except TreeNotFoundError:
            reason = f"{error.reason}; nor is it a HATS catalogue or a file of a known suffix"
            raise TreeNotFoundError(error.path, reason) from error
    columns = _ArrowColumns(hats.schema, cache(hats.read))
    columns.main = _main_of(hats.facts)
    return columns, path.name, None


class _Owner:
    """Whoever a fetched file is kept for."""


def _main_of(facts: Mapping[str, str]) -> tuple[str, str] | None:
    """Give the columns of the positions that a HATS catalogue names."""
    if {"hats_col_ra", "hats_col_dec"} <= set(facts):
        return facts["hats_col_ra"], facts["hats_col_dec"]
    return None


def _hats(path: Path) -> _Columns:
    """Open a HATS catalogue or collection; its files are in the order of the sky."""
    primary = _properties(path / COLLECTION).get("hats_primary_table_url")
    path = path / primary if primary else path
    # Norder=3/Dir=0/Npix=12.parquet, or Npix=12/ with files in it.
    found = sorted(
        (one for one in path.rglob("*.parquet") if _npix(one, path) is not None),
        key=lambda one: (_npix(one, path) or (0, 0), one.name),
    )
    if not found:
        raise TreeNotFoundError(str(path), "nor is it a saved match or a HATS catalogue")
    columns = _ArrowColumns.of_files(found)
    facts = {key: value for file in PROPERTIES for key, value in _properties(path / file).items()}
    columns.main = _main_of(facts)
    return columns


def _properties(path: Path) -> dict[str, str]:
    return parse_properties(path.read_text()) if path.is_file() else {}


def _npix(file: Path, root: Path) -> tuple[int, int] | None:
    """Give the first order-29 pixel and the order of a file, from its path."""
    parts = dict(part.split("=", 1) for part in file.relative_to(root).parts if "=" in part)
    try:
        order, pixel = int(parts["Norder"]), int(parts["Npix"].removesuffix(".parquet"))
    except (KeyError, ValueError):
        return None
    return pixel << 2 * (29 - order), order


def _file(path: Path, suffix: str) -> _Columns:
    from astropy.table import Table

    if suffix in _PARQUET:
        with pq.ParquetFile(path) as file:
            described = b"table_meta_yaml" in (file.schema_arrow.metadata or {})
        if not described:
            return _ArrowColumns.of_files([path])
        table = Table.read(path, format="parquet")
    elif suffix in _FITS:
        table = _read_fits(path)
    elif suffix in _VOTABLE:
        table = _read_votable(path)
    elif suffix == ".ecsv":
        table = Table.read(path, format="ascii.ecsv")
    elif suffix in {".csv", ".tsv"}:
        return _read_csv(path, "," if suffix == ".csv" else "\t")
    else:
        known = (*_FITS, *_VOTABLE, ".ecsv", ".csv", ".tsv", *_PARQUET)
        raise MatchError(str(path), f"a file ending in {', '.join(known)}", repr(suffix))
    return _Columns(table.colnames, table.__getitem__)


def _read_fits(path: Path) -> Any:
    """Read the first table of a FITS file that has positions, or else its first table."""
    from astropy.io import fits
    from astropy.table import Table

    with fits.open(path, memmap=False) as opened:
        numbers = [
            i for i, hdu in enumerate(opened) if isinstance(hdu, fits.BinTableHDU | fits.TableHDU)
        ]
        if not numbers:
            raise MatchError(str(path), "a table", f"{len(opened)} HDUs without one")
        chosen = next(
            (i for i in numbers if _guess_names(opened[i].columns.names) is not None), numbers[0]
        )
        return Table.read(opened[chosen], unit_parse_strict="silent")


def _read_votable(path: Path) -> Any:
    import warnings

    from astropy.io.votable import parse_single_table

    with warnings.catch_warnings():
        # Real VOTables break rules of the standard that have nothing to do with the rows.
        warnings.simplefilter("ignore")
        return parse_single_table(path).to_table(use_names_over_ids=True)


def _read_csv(path: Path, delimiter: str) -> _Columns:
    """Read text by its header: comments start with ``#``, integers stay exact."""
    import io

    from pyarrow import csv

    with _uncompressed(path) as file:
        lines = [line for line in file if line.strip() and not line.startswith(b"#")]
    options = csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    try:
        table = csv.read_csv(io.BytesIO(b"".join(lines)), parse_options=options)
    except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
        raise MatchError(str(path), "a table with a header", str(error)) from error
    names = [name.strip() for name in table.column_names]
    if len(set(names)) < len(names):
        raise MatchError(str(path), "columns of different names", ", ".join(names))
    return _ArrowColumns.of_table(table.rename_columns(names))


def _uncompressed(path: Path) -> Any:
    import bz2
    import gzip

    match path.suffix:
        case ".gz":
            return gzip.open(path, "rb")
        case ".bz2":
            return bz2.open(path, "rb")
    return path.open("rb")


def _to_arrow(values: Any) -> Any:
    """Turn an array into Arrow, or None where that cannot be."""
    if isinstance(values, pa.Array | pa.ChunkedArray):
        if pa.types.is_dictionary(values.type):
            return values.cast(values.type.value_type)
        return values
    mask = getattr(values, "mask", None)
    # A Quantity may hide its mask from numpy.
    array = np.asarray(getattr(values, "value", values))
    array = np.asarray(getattr(array, "unmasked", array))
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8", "replace")
    null = np.asarray(mask) if isinstance(mask, np.ndarray) and mask.any() else None
    try:
        if array.ndim == 1:
            if array.dtype.kind == "O":
                return pa.array(array.tolist(), mask=null)
            return pa.array(array, mask=null)
        if array.ndim == 2 and array.dtype.kind in "biuf":
            flat = pa.array(np.ascontiguousarray(array).ravel())
            return pa.FixedSizeListArray.from_arrays(flat, array.shape[1])
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
        return None
    return None


# --------------------------------------------------------------------------------------
# Which columns, in which unit


def _guess(columns: _Columns) -> tuple[str, str] | None:
    """Find the two columns that hold positions."""
    if columns.main is not None and set(columns.main) <= set(columns.names):
        return columns.main
    marked: dict[str, str] = {}
    for name in columns.names:
        ucd = columns.ucd(name) if len(columns.names) < 2000 else ""
        for which in ("pos.eq.ra", "pos.eq.dec"):
            if ucd.startswith(which) and "meta.main" in ucd:
                marked.setdefault(which, name)
    if len(marked) == 2:
        return marked["pos.eq.ra"], marked["pos.eq.dec"]
    return _guess_names(columns.names)


def _guess_names(names: Sequence[str]) -> tuple[str, str] | None:
    there = set(names)
    for pair in POSITION_NAMES:
        if set(pair) <= there:
            return pair
    folded: dict[str, str] = {}
    for name in names:
        folded.setdefault(name.lower(), name)
    for ra, dec in POSITION_NAMES:
        if ra.lower() in folded and dec.lower() in folded:
            return folded[ra.lower()], folded[dec.lower()]
    return None


def _is_skycoord(value: Any) -> bool:
    return hasattr(value, "icrs") and hasattr(value, "frame")


def _plain(values: Any) -> Any:
    """Give an array of numbers or text, NaN or empty where masked."""
    if isinstance(values, pa.Array | pa.ChunkedArray):
        if pa.types.is_dictionary(values.type):
            values = values.cast(values.type.value_type)
        kind = values.type
        if pa.types.is_string(kind) or pa.types.is_large_string(kind) or kind == pa.string_view():
            return np.array([text or "" for text in values.to_pylist()], dtype=np.str_)
        try:
            numbers = pa.chunked_array(values if hasattr(values, "chunks") else [values])
            return numbers.cast(pa.float64(), safe=False).to_numpy()
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise MatchError("a coordinate", "numbers or text", str(kind)) from error
    mask = getattr(values, "mask", None)
    array = np.asarray(getattr(values, "value", values))
    array = np.asarray(getattr(array, "unmasked", array))
    null = mask if isinstance(mask, np.ndarray) and mask.any() else np.False_
    if array.dtype.kind == "O":
        text = all(isinstance(one, str | bytes | None) for one in array.ravel()[:100])
        if text:
            array = np.array([one or "" for one in array.ravel()], dtype=np.str_)
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8", "replace")
    if array.dtype.kind == "U":
        return np.where(null, "", array)
    try:
        numbers = array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise MatchError("a coordinate", "numbers or text", str(error)) from error
    return np.where(null, np.nan, numbers)


def _angles(columns: _Columns, name: str, called: str, *, is_ra: bool) -> Floats:
    """Give a coordinate in degrees."""
    what = f"{called}, column {name}"
    values = _plain(columns.get(name))
    if values.ndim != 1:
        raise MatchError(what, "one value per row", f"shape {values.shape}")
    unit = columns.unit(name)
    text_unit = "" if unit is None else str(unit).strip().lower()
    if values.dtype.kind == "U":
        return _sexagesimal(values, text_unit, what, is_ra=is_ra)
    values = np.ascontiguousarray(values, dtype=np.float64)
    if unit is None:
        some = values[np.isfinite(values)]
        limit = 2 * np.pi if is_ra else np.pi / 2
        if name.lower() in _RADIANS_OR_DEGREES and len(some) and np.abs(some).max() <= limit:
            raise MatchError(what, "a unit, for these may be radians", "none")
        return values
    return values * _degrees_per(unit, text_unit, what)


def _degrees_per(unit: Any, text: str, what: str) -> float:
    if text in _HOURS:
        return 15.0
    from astropy.units import Unit

    try:
        return float(Unit(unit).to("deg"))
    except (TypeError, ValueError) as error:
        raise MatchError(what, "a unit of angle", repr(text)) from error


def _sexagesimal(texts: Any, unit: str, what: str, *, is_ra: bool) -> Floats:
    """Read text: decimal degrees, or hours or degrees with minutes and seconds."""
    texts = np.char.strip(texts)
    degrees = np.full(len(texts), np.nan)
    some = np.flatnonzero((texts != "") & (np.char.lower(texts) != "nan"))
    if not len(some):
        return degrees
    try:
        decimal = texts[some].astype(np.float64)
    except ValueError:
        decimal = None
    in_hours = unit in _HOURS or (unit == "" and is_ra and decimal is None)
    if decimal is not None:
        factor = 15.0 if in_hours else (_degrees_per(unit, unit, what) if unit else 1.0)
        degrees[some] = decimal * factor
        return degrees
    from astropy.coordinates import Angle

    wanted = "hourangle" if in_hours else "deg"
    try:
        found = Angle(texts[some].tolist(), unit=wanted).deg
    except Exception as error:
        # astropy's parser raises errors of several kinds.
        raise MatchError(what, f"sexagesimal text in {wanted}", str(error)) from error
    if in_hours and (np.abs(found) > 360).any():
        worst = texts[some][np.abs(found).argmax()]
        raise MatchError(what, "hours from 0 to 24, or a unit", repr(str(worst)))
    degrees[some] = found
    return degrees


def _epochs(values: Any, what: str) -> Floats:
    """Turn years, Julian dates or modified ones into Julian years."""
    if values.dtype.kind == "U":
        raise MatchError(what, "numbers", "text")
    days = np.asarray(values, dtype=np.float64)
    some = days[np.isfinite(days)]
    if not len(some) or (some.min() >= 1000 and some.max() <= 3000):
        return days
    if some.min() >= 2_300_000 and some.max() <= 2_600_000:
        return epoch_of_jd(days)
    if some.min() >= 10_000 and some.max() <= 200_000:
        return epoch_of_jd(days + 2_400_000.5)
    raise MatchError(
        what, "years, Julian dates or modified Julian dates", f"{some.min():g} to {some.max():g}"
    )
