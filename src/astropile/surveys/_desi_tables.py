"""
Tables of DESI objects, joined by TARGETID, never by the order of their rows.

Knows FIBERMAP and redrock tables and redshift catalogues; knows nothing of spectra.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from astropile.schema import Column
from astropile.surveys._desi_columns import fill
from astropile.surveys._fits import FitsFile

NONE: Final = -1
SEVERAL: Final = -2
"""In place of a row: the table has none for the object, or more than one."""

_KEYS: Final = {
    "SURVEY": "SURVEY",
    "PROGRAM": "PROGRAM",
    "HEALPIX": "HPXPIXEL",
    "TILEID": "TILEID",
    "SPGRPVAL": "SPGRPVAL",
}
"""Catalogue column to what a coadd says of itself: a row belongs where both agree."""

_GROUP_TYPES: Final = ("cumulative", "pernight", "perexp")
"""Kinds of tile-based coadds, as they stand in a catalogue's name."""


@dataclass(frozen=True)
class Table:
    """
    A table, and which of its rows is each object's.

    Parameters
    ----------
    file : FitsFile
        The open file.
    hdu : int or str
        The table in it.
    rows : ndarray, shape (n_objects,), int64
        Row of each object, `NONE` or `SEVERAL`.
    """

    file: FitsFile
    hdu: int | str
    rows: NDArray[np.int64]

    @cached_property
    def names(self) -> frozenset[str]:
        """Names of its columns."""
        return frozenset(self.file.columns(self.hdu))

    def take(self, column: Column, chosen: NDArray[np.bool_]) -> NDArray[Any]:
        """
        Give the values of some objects in the declared dtype.

        Parameters
        ----------
        column : Column
            Which.
        chosen : ndarray, shape (n_objects,), bool
            Objects that have a row.

        Returns
        -------
        ndarray
            One value each.

        Raises
        ------
        NativeFileError
            If a value would change by the declared dtype.
        """
        values = self.file.column(self.hdu, column.name, self.rows[chosen])
        declared = column.numpy_dtype
        kinds = {declared.kind, values.dtype.kind}
        if kinds == {"S"}:
            if np.char.str_len(values).max(initial=0) <= declared.itemsize:
                return values.astype(declared)
        elif values.ndim == 1 and kinds <= set("iufb"):
            with np.errstate(invalid="ignore", over="ignore"):
                fitted = values.astype(declared)
            if np.array_equal(fitted, values, equal_nan=values.dtype.kind == "f"):
                return fitted
        raise self.file.error(
            f"column {column.name!r} that fits {column.dtype}",
            f"values of {values.dtype}, shape {values.shape[1:]}",
        )


def _rows_of(
    targets: NDArray[np.int64],
    ordered: NDArray[np.int64],
    order: NDArray[np.int64],
    fits: Callable[[NDArray[np.int64]], NDArray[np.bool_]] | None = None,
) -> NDArray[np.int64]:
    """Find the row of each target among rows sorted by target."""
    first = np.searchsorted(ordered, targets, "left")
    count = np.searchsorted(ordered, targets, "right") - first
    owner = np.repeat(np.arange(len(targets)), count)
    within = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
    rows = order[np.repeat(first, count) + within]
    if fits is not None and rows.size:
        good = fits(rows)
        owner, rows = owner[good], rows[good]
    found = np.full(len(targets), NONE, np.int64)
    found[owner] = rows
    found[np.bincount(owner, minlength=len(targets)) > 1] = SEVERAL
    return found


def _sorted_targets(file: FitsFile, hdu: int | str) -> tuple[NDArray[Any], NDArray[Any]]:
    known = file.column(hdu, "TARGETID").astype(np.int64)
    order = np.argsort(known, kind="stable")
    return known[order], order


@lru_cache(maxsize=4)
def _catalogue_targets(
    path: Path, hdu: int | str, size: int, changed: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Sort a catalogue once for all coadds; `size` and `changed` tell a rewritten file."""
    del size, changed
    with FitsFile(path) as file:
        return _sorted_targets(file, hdu)


def join_beside(file: FitsFile, hdu: int | str, targets: NDArray[np.int64]) -> Table:
    """
    Join a table that belongs to the same coadd.

    Parameters
    ----------
    file : FitsFile
        The open file.
    hdu : int or str
        The table in it.
    targets : ndarray, shape (n_objects,), int64
        TARGETID of each object.

    Returns
    -------
    Table
        The table and each object's row.
    """
    return Table(file, hdu, _rows_of(targets, *_sorted_targets(file, hdu)))


def join_catalogue(
    file: FitsFile, targets: NDArray[np.int64], said: Mapping[str, Any]
) -> Table | None:
    """
    Join a redshift catalogue of many coadds.

    Parameters
    ----------
    file : FitsFile
        The open catalogue.
    targets : ndarray, shape (n_objects,), int64
        TARGETID of each object.
    said : mapping of str to int or str
        What the coadd says of itself: SURVEY, PROGRAM, HPXPIXEL, TILEID, SPGRP, SPGRPVAL.

    Returns
    -------
    Table or None
        The catalogue and each object's row; None if it is of other coadds.
    """
    hdu = next((name for name in ("ZCATALOG", "QSO_CAT") if file.has(name)), 1)
    names = file.columns(hdu)
    header = dict(file.header(hdu))
    header.setdefault("SPGRP", next((g for g in _GROUP_TYPES if g in file.path.name), None))
    if ("TILEID" in names) == ("HPXPIXEL" in said):
        return None
    for keyword in ("SPGRP", "SURVEY", "PROGRAM"):
        if (
            None not in (header.get(keyword), said.get(keyword))
            and header[keyword] != said[keyword]
        ):
            return None

    def fits(rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        good = np.ones(len(rows), bool)
        for name, keyword in _KEYS.items():
            if keyword in said and name in names:
                wanted = said[keyword]
                wanted = wanted.encode() if isinstance(wanted, str) else wanted
                good &= file.column(hdu, name, rows) == wanted
        return good

    state = file.path.stat()
    ordered, order = _catalogue_targets(file.path, hdu, state.st_size, state.st_mtime_ns)
    return Table(file, hdu, _rows_of(targets, ordered, order, fits))


def gather(
    columns: Iterable[Column],
    tables: list[Table],
    n: int,
    source: NDArray[np.int64] | None = None,
) -> dict[str, NDArray[Any]]:
    """
    Take each column from the first table that has it.

    Parameters
    ----------
    columns : iterable of Column
        Which.
    tables : list of Table
        Where from, in order of preference.
    n : int
        Number of objects.
    source : ndarray, shape (n,), int64, optional
        The only table to take an object's values from: its number in `tables`.

    Returns
    -------
    dict of str to ndarray
        Each column, shape (n,), filled where no table has a value.
    """
    gathered = {}
    for column in columns:
        dtype = column.numpy_dtype
        values = np.full(n, fill(dtype), dtype)
        missing = np.ones(n, bool)
        for number, table in enumerate(tables):
            if column.name not in table.names:
                continue
            chosen = missing & (table.rows >= 0)
            if source is not None:
                chosen &= source == number
            if chosen.any():
                values[chosen] = table.take(column, chosen)
                missing &= ~chosen
        gathered[column.name] = values
    return gathered


def sources_of(tables: list[Table], n: int) -> tuple[NDArray[np.int64], NDArray[np.bytes_]]:
    """
    Choose for each object the first table with its redshift, so that no two fits are mixed.

    Parameters
    ----------
    tables : list of Table
        Where from, in order of preference.
    n : int
        Number of objects.

    Returns
    -------
    source : ndarray, shape (n,), int64
        Number of the table, or `NONE`.
    names : ndarray, shape (n,), S128
        Name of its file, or empty.
    """
    source = np.full(n, NONE, np.int64)
    names = np.full(n, b"", "S128")
    for number, table in enumerate(tables):
        chosen = (source == NONE) & (table.rows >= 0) & ("Z" in table.names)
        source[chosen] = number
        names[chosen] = table.file.path.name.encode()
    return source, names
