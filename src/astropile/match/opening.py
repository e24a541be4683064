"""Open whatever holds positions, tables, files, trees, matches, and find their columns."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from astropile.catalog import Catalog, list_subsets, open_catalog
from astropile.errors import MatchError, TreeNotFoundError
from astropile.layout import ROOT_FILE
from astropile.match.columns import _ArrowColumns, _Columns, _is_skycoord
from astropile.match.sources import COLLECTION, PROPERTIES, RemoteHats, fetch_file, parse_properties
from astropile.store.protocol import RemotePath, is_url, tree_path

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

NO_SIDE: Final = "a side of the match"
"""What an error names where a side is of no type that holds positions."""

_FITS: Final = (".fits", ".fit", ".fts", ".fz")

_VOTABLE: Final = (".vot", ".votable", ".xml")

_PARQUET: Final = (".parquet", ".pq", ".parq")


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
