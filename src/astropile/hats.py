"""
The catalogue beside the data: light columns of every object, as a HATS catalogue in Parquet.

Row i of the whole catalogue, files in order of their pixels, is object i of the subset.

References
----------
.. [1] HATS, Hierarchical Adaptive Tiling Scheme, IVOA note, https://www.ivoa.net/documents/Notes/HATS/
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from astropile._version import __version__
from astropile.errors import FormatError
from astropile.names import HEALPIX_29
from astropile.publish import publish_bytes

MAX_ROWS: Final = 1_000_000
"""A file is split by sky while it holds more rows, down to the order of the tree."""

ROW_GROUP_ROWS: Final = 65536

_PARQUET: Final = b"PAR1"
_HASHED: Final = b"sha256of"


def plan_pixels(healpix_29: NDArray[np.int64], max_order: int) -> list[tuple[int, int, int, int]]:
    """
    Split sorted pixel numbers into files.

    Parameters
    ----------
    healpix_29 : ndarray, shape (n,), int64
        Pixel numbers at order 29, sorted.
    max_order : int
        Finest order of a file.

    Returns
    -------
    list of tuple
        ``(order, ipix, first row, last row + 1)``, in order of the rows.
    """
    files: list[tuple[int, int, int, int]] = []

    def split(order: int, ipix: int, first: int, last: int) -> None:
        if last - first <= MAX_ROWS or order == max_order:
            files.append((order, ipix, first, last))
            return
        children = np.arange(4 * ipix, 4 * ipix + 5) << 2 * (28 - order)
        edges = first + np.searchsorted(healpix_29[first:last], children)
        for child in range(4):
            if edges[child] < edges[child + 1]:
                split(order + 1, 4 * ipix + child, int(edges[child]), int(edges[child + 1]))

    edges = np.searchsorted(healpix_29, np.arange(13) << 58)
    for ipix in range(12):
        if edges[ipix] < edges[ipix + 1]:
            split(0, ipix, int(edges[ipix]), int(edges[ipix + 1]))
    return files


def write_hats(
    folder: Path,
    name: str,
    healpix_29: NDArray[np.int64],
    max_order: int,
    table_of: Callable[[int, int], pa.Table],
) -> None:
    """
    Write the catalogue of a subset.

    Parameters
    ----------
    folder : Path
        The catalogue's folder, not there yet.
    name : str
        Name of the catalogue.
    healpix_29 : ndarray, shape (n,), int64
        Pixel numbers at order 29, sorted: one per object.
    max_order : int
        Finest order of a file.
    table_of : callable
        Gives the columns of rows first to last - 1, with `_healpix_29`, ``ra`` and ``dec``.
    """
    files = plan_pixels(healpix_29, max_order)
    schema: pa.Schema | None = None
    metadata: list[Any] = []
    for order, ipix, first, last in files:
        table = table_of(first, last)
        schema = table.schema
        relative = f"Norder={order}/Dir={ipix // 10000 * 10000}/Npix={ipix}.parquet"
        path = folder / "dataset" / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        sink = pa.BufferOutputStream()
        pq.write_table(
            table,
            sink,
            compression="zstd",
            row_group_size=ROW_GROUP_ROWS,
            write_page_checksum=True,
            **_encodings(table.schema),
        )
        content = sink.getvalue()
        publish_bytes(path, memoryview(content))
        footer = pq.read_metadata(pa.BufferReader(content))
        footer.set_file_path(relative)
        metadata.append(footer)
    assert schema is not None
    _write_footers(folder / "dataset", schema, metadata)
    lines = ["Norder,Npix,num_rows"]
    lines += [f"{order},{ipix},{last - first}" for order, ipix, first, last in files]
    publish_bytes(folder / "partition_info.csv", ("\n".join(lines) + "\n").encode())
    properties = {
        "obs_collection": name,
        "dataproduct_type": "object",
        "hats_nrows": len(healpix_29),
        "hats_col_ra": "ra",
        "hats_col_dec": "dec",
        "hats_col_healpix": HEALPIX_29,
        "hats_col_healpix_order": 29,
        "hats_npix_suffix": ".parquet",
        "hats_order": max(order for order, *_ in files),
        "hats_max_rows": MAX_ROWS,
        "hats_builder": f"astropile {__version__}",
        "hats_version": "v1.0",
    }
    text = "".join(f"{key}={value}\n" for key, value in properties.items()).encode()
    for file in ("hats.properties", "properties"):
        publish_bytes(folder / file, text)


def _encodings(schema: pa.Schema) -> dict[str, Any]:
    """
    Choose how columns are encoded: positions so that they are small and read fast.

    No two are equal, so that a dictionary of them is in vain. Bytes of one weight put side by
    side, and differences of sorted numbers, take two thirds of the room and less than half
    the time.
    """
    encodings = {
        field.name: "DELTA_BINARY_PACKED" if field.name == HEALPIX_29 else "BYTE_STREAM_SPLIT"
        for field in schema
        if (field.name in ("ra", "dec") and pa.types.is_floating(field.type))
        or (field.name == HEALPIX_29 and pa.types.is_int64(field.type))
    }
    others = [name for name in schema.names if name not in encodings]
    return {"use_dictionary": others, "column_encoding": encodings}


def _write_footers(folder: Path, schema: pa.Schema, metadata: list[Any]) -> None:
    sink = pa.BufferOutputStream()
    pq.write_metadata(schema, sink)
    publish_bytes(folder / "_common_metadata", memoryview(sink.getvalue()))
    whole = metadata[0]
    for footer in metadata[1:]:
        whole.append_row_groups(footer)
    sink = pa.BufferOutputStream()
    whole.write_metadata_file(sink)
    publish_bytes(folder / "_metadata", with_hash(sink.getvalue()))


def with_hash(footers: Any) -> bytes:
    """
    Put the hash of a file of footers into it, where no reader of Parquet looks.

    Parameters
    ----------
    footers : bytes-like
        The file: ``PAR1``, the footer, its length, ``PAR1``.

    Returns
    -------
    bytes
        The file with a mark and the SHA-256 of what follows after the first ``PAR1``.
    """
    rest = memoryview(footers)[len(_PARQUET) :]
    return b"".join([_PARQUET, _HASHED, hashlib.sha256(rest).digest(), rest])


def check_hash(content: bytes, where: str) -> None:
    """
    Make sure that a file of footers is as it was written, where it says how that was.

    Parameters
    ----------
    content : bytes
        The file.
    where : str
        Its name, for messages.

    Raises
    ------
    FormatError
        If it is not. A file without a hash, as of the first trees, is not checked.
    """
    start = len(_PARQUET) + len(_HASHED)
    if not content.startswith(_PARQUET):
        raise FormatError(where, "the footers of a HATS catalogue", "something else")
    if content[len(_PARQUET) : start] != _HASHED:
        return
    digest, rest = content[start : start + 32], memoryview(content)[start + 32 :]
    if hashlib.sha256(rest).digest() != digest:
        raise FormatError(where, "the footers of a HATS catalogue as written", "others: damaged")


@dataclass(frozen=True)
class CatalogueFile:
    """
    One Parquet file of a catalogue.

    Parameters
    ----------
    path : Path
        The file.
    first, last : int
        Its pixel's range at order 29, `last` not included.
    start : int
        Row number of its first object.
    n_rows : int
        Objects it holds.
    """

    path: Path
    first: int
    last: int
    start: int
    n_rows: int


def list_files(folder: Path) -> list[CatalogueFile]:
    """
    List the files of a catalogue: where on the sky and in the rows each lies.

    Parameters
    ----------
    folder : Path
        The catalogue's folder.

    Returns
    -------
    list of CatalogueFile
        In order of their rows.

    Raises
    ------
    FormatError
        If the list of files is missing or not of its form.
    """
    listing = folder / "partition_info.csv"
    files: list[CatalogueFile] = []
    start = 0
    try:
        lines = listing.read_text().split()
        rows = [tuple(int(value) for value in line.split(",")) for line in lines[1:]]
        rows.sort(key=lambda row: row[1] << 2 * (29 - row[0]))
        for order, ipix, count in rows:
            relative = f"Norder={order}/Dir={ipix // 10000 * 10000}/Npix={ipix}.parquet"
            shift = 2 * (29 - order)
            first, last = ipix << shift, (ipix + 1) << shift
            files.append(CatalogueFile(folder / "dataset" / relative, first, last, start, count))
            start += count
    except (OSError, ValueError, IndexError) as error:
        raise FormatError(str(listing), "Norder,Npix,num_rows of each file", str(error)) from error
    return files


def read_ranges(
    folder: Path, ranges: NDArray[np.int64], columns: Sequence[str] = ()
) -> tuple[NDArray[np.int64], pa.Table]:
    """
    Read the rows whose order-29 pixels lie in ranges, and little else.

    Parameters
    ----------
    folder : Path
        The catalogue's folder.
    ranges : ndarray, shape (n, 2), int64
        First pixel, and last pixel + 1, of each; sorted and apart.
    columns : sequence of str
        Which columns.

    Returns
    -------
    rows : ndarray, shape (m,), int64
        Row numbers, sorted.
    table : pyarrow.Table
        Those rows.

    Raises
    ------
    FormatError
        If a file is missing, damaged, or lacks a column.
    """
    names = list(dict.fromkeys((*columns, HEALPIX_29)))
    found, tables = [np.empty(0, np.int64)], []
    for file in list_files(folder):
        if not _overlap(ranges, file.first, file.last):
            continue
        with open_parquet(file.path, names, file.n_rows) as opened:
            for group, start, n_rows in _groups(opened, ranges):
                part = opened.read_row_group(group, names)
                rows = _rows_in(part[HEALPIX_29].to_numpy(), ranges)
                found.append(file.start + start + rows)
                whole = len(rows) == n_rows
                tables.append(part if whole else part.take(pa.array(rows)))
    if not tables:
        return found[0], pa.table({name: pa.array([]) for name in columns})
    return np.concatenate(found), _joined(folder, tables).select(list(columns))


def _overlap(ranges: NDArray[np.int64], first: int, last: int) -> bool:
    """Tell whether a pixel from first to last - 1 lies in one of the ranges."""
    after = int(np.searchsorted(ranges[:, 1], first, side="right"))
    return after < len(ranges) and int(ranges[after, 0]) < last


def _groups(file: pq.ParquetFile, ranges: NDArray[np.int64]) -> Iterator[tuple[int, int, int]]:
    """Give the row groups that may hold rows in the ranges: number, first row, rows."""
    start = 0
    column = file.schema_arrow.get_field_index(HEALPIX_29)
    for group in range(file.num_row_groups):
        facts = file.metadata.row_group(group)
        limits = facts.column(column).statistics
        if limits is None or _overlap(ranges, limits.min, limits.max + 1):
            yield group, start, facts.num_rows
        start += facts.num_rows


def _rows_in(pixels: NDArray[np.int64], ranges: NDArray[np.int64]) -> NDArray[np.int64]:
    """Find the rows of a sorted column that lie in ranges."""
    begins, ends = np.searchsorted(pixels, ranges[:, 0]), np.searchsorted(pixels, ranges[:, 1])
    some = begins < ends
    pieces = [np.arange(a, b) for a, b in zip(begins[some], ends[some], strict=True)]
    return np.concatenate([np.empty(0, np.int64), *pieces])


def open_dataset(folder: Path, schema: pa.Schema) -> Any:
    """
    Open columns of a catalogue without reading them.

    Parameters
    ----------
    folder : Path
        The catalogue's folder.
    schema : pyarrow.Schema
        Which columns, in what order.

    Returns
    -------
    pyarrow.dataset.Dataset
        One row per object, in order of the files.

    Raises
    ------
    FormatError
        If a file is missing, has other rows than listed, or lacks such a column.
    """
    import pyarrow.dataset as ds  # costs half a second: it imports pandas

    files = list_files(folder)
    for file in files:
        if not file.path.is_file():
            raise FormatError(str(file.path), "a file of the catalogue", "no such file")
    paths = [str(file.path) for file in files]
    options = ds.ParquetFragmentScanOptions(page_checksum_verification=True)
    kind = ds.ParquetFileFormat(default_fragment_scan_options=options)
    dataset = ds.dataset(paths, schema=schema, format=kind, partitioning=None)
    # A column that a file lacks would silently be null. What is read of a file stays read.
    for file, fragment in zip(files, dataset.get_fragments(), strict=True):
        with reading(file.path):
            _check_footer(file.path, fragment.physical_schema, schema.names)
            _check_rows(file.path, fragment.metadata.num_rows, file.n_rows)
            for field in schema:
                found = fragment.physical_schema.field(field.name).type
                if found != field.type:
                    where = f"{file.path}, column {field.name!r}"
                    raise FormatError(where, str(field.type), str(found))
    return dataset


def read_hats(folder: Path, columns: list[str] | None) -> pa.Table:
    """
    Read columns of every object.

    Parameters
    ----------
    folder : Path
        The catalogue's folder.
    columns : list of str or None
        Which; None for all.

    Returns
    -------
    pyarrow.Table
        One row per object, in order.

    Raises
    ------
    FormatError
        If a file is missing, damaged, or lacks a column.
    """
    tables = []
    for part in list_files(folder):
        # Not `read_table`: it takes a dot in a column's name for a nested field.
        with open_parquet(part.path, columns or (), part.n_rows) as file:
            tables.append(file.read(columns))
    return _joined(folder, tables)


@contextlib.contextmanager
def open_parquet(path: Path, columns: Sequence[str], n_rows: int) -> Iterator[pq.ParquetFile]:
    """
    Open a file of a catalogue for as long as it is read; pages are checked against their sums.

    Parameters
    ----------
    path : Path
        The file.
    columns : sequence of str
        Columns that it must have.
    n_rows : int
        Rows that it must have.

    Yields
    ------
    pyarrow.parquet.ParquetFile
        The file.

    Raises
    ------
    FormatError
        If it is missing or is not such a file, or something in it cannot be read.
    """
    with (
        reading(path),
        pq.ParquetFile(path, page_checksum_verification=True) as file,
    ):
        _check_footer(path, file.schema_arrow, columns)
        _check_rows(path, file.metadata.num_rows, n_rows)
        yield file


def _check_footer(path: Path, schema: pa.Schema, columns: Sequence[str]) -> None:
    known = set(schema.names)
    for name in columns:
        if name not in known:
            raise FormatError(str(path), f"a column {name!r}", "none of that name")


def _check_rows(path: Path, found: int, expected: int) -> None:
    if found != expected:
        raise FormatError(str(path), f"{expected} rows as partition_info.csv says", f"{found}")


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """
    Say of what pyarrow refuses inside that a file of a catalogue cannot be read.

    Parameters
    ----------
    path : Path
        The file.

    Yields
    ------
    None
        While it is read.

    Raises
    ------
    FormatError
        Instead of pyarrow's own errors and of the system's.
    """
    try:
        yield
    except FormatError:
        raise
    except FileNotFoundError as error:
        raise FormatError(str(path), "a file of the catalogue", "no such file") from error
    except _UNREADABLE as error:
        reason = str(error).partition("\n")[0]
        raise FormatError(str(path), "Parquet that can be read", reason) from error


_UNREADABLE: Final = (pa.ArrowException, OSError, ValueError, KeyError, IndexError)
"""What pyarrow raises for a file that is not as it should be."""


def _joined(folder: Path, tables: Sequence[pa.Table]) -> pa.Table:
    try:
        return pa.concat_tables(tables)
    except pa.ArrowException as error:
        raise FormatError(str(folder), "files of the same columns", str(error)) from error
