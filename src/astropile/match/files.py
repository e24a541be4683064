"""
Positions of a catalogue on disk: read by row, or by the part of the sky they lie in.

A catalogue is a HATS folder, as trees have one beside their data: Parquet files by HEALPix
pixel, sorted by `_healpix_29`. Which row groups lie where is known from their footers, so
that of a billion rows only those near something are read, and three columns of those.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from astropile.errors import FormatError
from astropile.hats import CatalogueFile, list_files, reading
from astropile.healpix import with_neighbours
from astropile.names import HEALPIX_29
from astropile.regions import merged

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

REACH: Final = 0.3
"""Whoever lies within ``REACH / 2**order`` radians of a pixel is in it or in one that touches it.
The true bound is the least distance between opposite edges, 0.69 and more; the rest is room."""

BYTES_PER_ROW: Final = 32
"""Of a row group kept: row, two coordinates and a pixel number."""


class Positions(NamedTuple):
    """Rows of a catalogue."""

    rows: Ints
    """Row numbers, sorted."""

    ra: Floats
    """Right ascension [deg, ICRS]."""

    dec: Floats
    """Declination [deg, ICRS]."""

    pixels: Ints
    """Pixel numbers at order 29; empty where they were not asked for."""

    def __len__(self) -> int:
        return len(self.rows)

    def chosen(self, which: Any) -> Positions:
        """Return some of them."""
        pixels = self.pixels[which] if len(self.pixels) else self.pixels
        return Positions(self.rows[which], self.ra[which], self.dec[which], pixels)


NO_POSITIONS: Final = Positions(
    np.empty(0, np.int64), np.empty(0), np.empty(0), np.empty(0, np.int64)
)


def joined(parts: list[Positions]) -> Positions:
    """
    Put positions one after another.

    Parameters
    ----------
    parts : list of Positions
        The parts.

    Returns
    -------
    Positions
        All of them.
    """
    if len(parts) == 1:
        return parts[0]
    return Positions(*(np.concatenate(column) for column in zip(NO_POSITIONS, *parts, strict=True)))


class PositionFiles:
    """
    The positions of a catalogue on disk.

    Parameters
    ----------
    folder : Path
        Folder of the HATS catalogue: `catalog` in a tree.
    keep_bytes : int
        So much of what was read last is kept.

    Raises
    ------
    FormatError
        If it is no such catalogue.
    """

    def __init__(self, folder: Path, keep_bytes: int = 1 << 26) -> None:
        self.folder = folder
        self.files = list_files(folder)
        facts = _facts(folder)
        self.columns = [
            facts.get("hats_col_ra", "ra"),
            facts.get("hats_col_dec", "dec"),
            facts.get("hats_col_healpix", HEALPIX_29),
        ]
        self.is_own = facts.get("hats_builder", "").startswith("astropile")
        """Whether every row is known to be a position, since a build takes nothing else."""
        self.n_rows = sum(file.n_rows for file in self.files)
        self._n_kept = max(keep_bytes // BYTES_PER_ROW, 1)
        self._kept: OrderedDict[int, Positions] = OrderedDict()
        self._opened: tuple[int, pq.ParquetFile] | None = None
        table = np.array(list(self._list_groups()), np.int64).reshape(-1, 6)
        self._file, self._group, self._start, self._rows, self.first, self.last = table.T.copy()

    def close(self) -> None:
        """Let go of what is kept."""
        self._kept.clear()
        if self._opened is not None:
            self._opened[1].close()
            self._opened = None

    @property
    def fingerprint(self) -> str:
        """Hash of which files there are, how large and how old: equal while nothing changed."""
        told = hashlib.sha256((self.folder / "partition_info.csv").read_bytes())
        for file in self.files:
            state = file.path.stat()
            told.update(f"{file.path.name} {state.st_size} {state.st_mtime_ns}\n".encode())
        return told.hexdigest()

    def groups_of_rows(self, first: int, last: int) -> Ints:
        """
        Find the row groups of rows.

        Parameters
        ----------
        first, last : int
            First row, and last row + 1.

        Returns
        -------
        ndarray of int64
            Numbers of row groups, counted over the catalogue.
        """
        return np.flatnonzero((self._start < last) & (self._start + self._rows > first))

    def groups_in(self, ranges: Ints) -> Ints:
        """
        Find the row groups that may hold rows in ranges of pixels.

        Parameters
        ----------
        ranges : ndarray, shape (n, 2), int64
            First pixel and last pixel + 1 of each, order 29; sorted and apart.

        Returns
        -------
        ndarray of int64
            Numbers of row groups.
        """
        if not len(ranges):
            return np.empty(0, np.int64)
        after = np.searchsorted(ranges[:, 1], self.first, side="right")
        begins = np.append(ranges[:, 0], np.iinfo(np.int64).max)
        return np.flatnonzero(begins[after] <= self.last)

    def n_rows_of(self, groups: Ints) -> int:
        """
        Count the rows of row groups.

        Parameters
        ----------
        groups : ndarray of int64
            Numbers of row groups.

        Returns
        -------
        int
            Their rows.
        """
        return int(self._rows[groups].sum())

    def ranges_of(self, groups: Ints) -> Ints:
        """
        Give the ranges of pixels that row groups lie in.

        Parameters
        ----------
        groups : ndarray of int64
            Numbers of row groups.

        Returns
        -------
        ndarray, shape (n, 2), int64
            As in `groups_in`.
        """
        return merged(np.stack([self.first[groups], self.last[groups] + 1], axis=1))

    def read_rows(
        self, first: int, last: int, groups: Ints | None = None, *, pixels: bool = True
    ) -> Positions:
        """
        Read rows.

        Parameters
        ----------
        first, last : int
            First row, and last row + 1.
        groups : ndarray of int64, optional
            Only those in these row groups.
        pixels : bool
            Read their pixels too.

        Returns
        -------
        Positions
            The rows.
        """
        parts = []
        for number in self.groups_of_rows(first, last) if groups is None else groups:
            part = self._read(int(number), pixels=pixels)
            start = int(self._start[number])
            parts.append(part.chosen(slice(max(first - start, 0), max(last - start, 0))))
        return joined(parts) if parts else NO_POSITIONS

    def take(self, rows: Ints) -> Positions:
        """
        Read chosen rows.

        Parameters
        ----------
        rows : ndarray, shape (n,), int64
            Row numbers, sorted.

        Returns
        -------
        Positions
            The rows.
        """
        groups = np.searchsorted(self._start, rows, side="right") - 1
        parts = []
        for number in np.unique(groups).tolist():
            inside = rows[groups == number] - self._start[number]
            parts.append(self._read(number, pixels=True).chosen(inside))
        return joined(parts) if parts else NO_POSITIONS

    def blocks_in(self, ranges: Ints, max_rows: int) -> Iterator[Positions]:
        """
        Read the rows in ranges of pixels, some at a time.

        Parameters
        ----------
        ranges : ndarray, shape (n, 2), int64
            As in `groups_in`.
        max_rows : int
            A block ends with the row group that brings it to so many.

        Yields
        ------
        Positions
            Rows in the ranges, in order, with their pixels.
        """

        def parts() -> Iterator[Positions]:
            for number in self.groups_in(ranges).tolist():
                part = self._read(number, pixels=True)
                at = int(np.searchsorted(ranges[:, 1], self.first[number], side="right"))
                if ranges[at, 0] <= self.first[number] and self.last[number] < ranges[at, 1]:
                    yield part
                else:
                    # An odd number of edges below a pixel: it is inside a range.
                    inside = np.searchsorted(ranges.ravel(), part.pixels, side="right") % 2 == 1
                    yield part.chosen(inside)

        yield from _blocks(parts(), max_rows)

    def blocks_of(self, groups: Ints, max_rows: int, *, pixels: bool) -> Iterator[Positions]:
        """
        Read whole row groups, some rows at a time.

        Parameters
        ----------
        groups : ndarray of int64
            Numbers of row groups, sorted.
        max_rows : int
            As in `blocks_in`.
        pixels : bool
            Read their pixels too.

        Yields
        ------
        Positions
            Their rows, in order.
        """
        yield from _blocks((self._read(number, pixels=pixels) for number in groups), max_rows)

    def _read(self, number: int, *, pixels: bool) -> Positions:
        kept = self._kept.get(number)
        if kept is not None and (len(kept.pixels) or not pixels or not len(kept)):
            self._kept.move_to_end(number)
            return kept if pixels else Positions(*kept[:3], NO_POSITIONS.pixels)
        at = int(self._file[number])
        if self._opened is None or self._opened[0] != at:
            if self._opened is not None:
                self._opened[1].close()
                self._opened = None
            with reading(self.files[at].path):
                file = pq.ParquetFile(self.files[at].path, page_checksum_verification=True)
            self._opened = at, file
        columns = self.columns if pixels else self.columns[:2]
        group = int(self._group[number])
        with reading(self.files[at].path):
            table = self._opened[1].read_row_group(group, columns, use_threads=False)
        start, n = int(self._start[number]), int(self._rows[number])
        if len(table) != n:
            raise FormatError(str(self.files[at].path), f"{n} rows", f"{len(table)}")
        ra, dec, *rest = (table[name].to_numpy() for name in columns)
        part = Positions(
            np.arange(start, start + n),
            _as_float64(ra),
            _as_float64(dec),
            rest[0].astype(np.int64, copy=False) if rest else NO_POSITIONS.pixels,
        )
        self._kept[number] = part
        total = sum(len(other) for other in self._kept.values())
        while total > self._n_kept and len(self._kept) > 1:
            total -= len(self._kept.popitem(last=False)[1])
        return part

    def _list_groups(self) -> Iterator[tuple[int, int, int, int, int, int]]:
        """Give of each row group: file, number in it, first row, rows, first and last pixel."""
        for at, file in enumerate(self.files):
            start = file.start
            for group, (n_rows, first, last) in enumerate(self._footer(file)):
                yield at, group, start, n_rows, first, last
                start += n_rows
            if start != file.start + file.n_rows:
                raise FormatError(
                    str(file.path),
                    f"{file.n_rows} rows as partition_info.csv says",
                    f"{start - file.start}",
                )

    def _footer(self, file: CatalogueFile) -> list[tuple[int, int, int]]:
        groups = []
        try:
            metadata = pq.read_metadata(file.path)
            names = metadata.schema.to_arrow_schema().names
            missing = [name for name in self.columns if name not in names]
            if missing:
                raise FormatError(str(file.path), f"a column {missing[0]}", "none of that name")
            column = [metadata.schema.column(i).path for i in range(metadata.num_columns)].index(
                self.columns[2]
            )
            for group in range(metadata.num_row_groups):
                facts = metadata.row_group(group)
                limits = facts.column(column).statistics
                known = limits is not None and limits.has_min_max
                first, last = (limits.min, limits.max) if known else (file.first, file.last - 1)
                groups.append((facts.num_rows, first, last))
        except (OSError, ValueError) as error:
            if isinstance(error, FormatError):
                raise
            raise FormatError(str(file.path), "a Parquet file", str(error)) from error
        return groups


def _blocks(parts: Iterator[Positions], max_rows: int) -> Iterator[Positions]:
    """Put parts together to blocks."""
    held: list[Positions] = []
    n = 0
    for part in parts:
        held.append(part)
        n += len(part)
        if n >= max_rows:
            yield from _cut(joined(held), max_rows)
            held, n = [], 0
    if n:
        yield from _cut(joined(held), max_rows)


def _cut(block: Positions, max_rows: int) -> Iterator[Positions]:
    """Cut a block that large row groups made too large."""
    if len(block) <= 2 * max_rows:
        yield block
        return
    for first in range(0, len(block), max_rows):
        yield block.chosen(slice(first, first + max_rows))


def _as_float64(values: NDArray[Any]) -> Floats:
    return np.ascontiguousarray(values, np.float64)


def _facts(folder: Path) -> dict[str, str]:
    """Read what a HATS catalogue says of itself."""
    for name in ("hats.properties", "properties"):
        path = folder / name
        if path.is_file():
            lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
            pairs = [line.split("=", 1) for line in lines if "=" in line]
            return {key.strip(): value.strip() for key, value in pairs}
    return {}


def finest_order(radius_arcsec: float) -> int:
    """
    Give the finest order whose pixels are wide for a radius.

    Parameters
    ----------
    radius_arcsec : float
        The radius [arcsec].

    Returns
    -------
    int
        An order at which whoever lies within the radius of a pixel is in it or in one that
        touches it; -1 if there is none.
    """
    radius = np.radians((radius_arcsec + 1e-3) / 3600.0)
    if radius > REACH:
        return -1
    return min(int(np.floor(np.log2(REACH / radius))), 29)


def widened(ranges: Ints, radius_arcsec: float, max_pixels: int) -> Ints:
    """
    Add what lies within a radius to ranges of pixels.

    Parameters
    ----------
    ranges : ndarray, shape (n, 2), int64
        First pixel and last pixel + 1 of each, order 29; sorted by either.
    radius_arcsec : float
        The radius [arcsec].
    max_pixels : int
        The result is made of no more than nine times so many pixels, as fine as that allows.

    Returns
    -------
    ndarray, shape (m, 2), int64
        Ranges, sorted and apart, that hold every position within the radius of one in the
        given ranges, and others.
    """
    order = finest_order(radius_arcsec)
    if order < 0:
        return np.array([[0, 12 << 58]], np.int64)
    while True:
        shift = 2 * (29 - order)
        first, last = ranges[:, 0] >> shift, (ranges[:, 1] - 1) >> shift
        # A pixel that one range ends in may be the one that the next begins in.
        first[1:] = np.maximum(first[1:], np.maximum.accumulate(last)[:-1] + 1)
        lengths = np.maximum(last - first + 1, 0)
        n_pixels = int(lengths.sum())
        if n_pixels <= max_pixels or order == 0:
            break
        order = max(order - max(int(np.log2(n_pixels / max_pixels) / 2), 1), 0)
    some = lengths > 0
    first, lengths = first[some], lengths[some]
    pixels = np.repeat(first - (np.cumsum(lengths) - lengths), lengths) + np.arange(n_pixels)
    around = with_neighbours(pixels, order)
    return merged(np.stack([around << shift, (around + 1) << shift], axis=1))
