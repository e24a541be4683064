"""
Read columns of chosen rows from one shard, through h5py.

`ShardReader` is the interface that `astropile.catalog` reads through; whoever finds the same
bytes a faster way stands in for it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from astropile.errors import FormatError
from astropile.names import COMMON_COLUMNS
from astropile.schema import Column, Ragged, Survey


class ShardReader:
    """
    One shard, open for reading.

    Parameters
    ----------
    path : Path
        The file.
    survey : Survey
        The survey as the tree tells it.

    Raises
    ------
    FormatError
        If the file is not HDF5 or lacks what every shard has.
    """

    def __init__(self, path: Path, survey: Survey) -> None:
        self.path, self._survey = path, survey
        try:
            self._file = h5py.File(path, "r")
        except OSError as error:
            raise FormatError(str(path), "an HDF5 file", str(error)) from error
        try:
            self.n_objects = int(self._file.attrs["n_objects"])
        except (KeyError, RuntimeError, OSError, ValueError, TypeError) as error:
            self._file.close()
            raise FormatError(str(path), "the attribute n_objects", f"none: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _dataset(self, name: str) -> h5py.Dataset:
        try:
            found = self._file.get(name)
        except (RuntimeError, OSError) as error:
            raise FormatError(f"{self.path}, column {name!r}", "HDF5", str(error)) from error
        if not isinstance(found, h5py.Dataset):
            raise FormatError(str(self.path), f"the column {name!r}", "no such column")
        return found

    def read(self, name: str, rows: NDArray[np.int64]) -> NDArray[Any] | Ragged:
        """
        Read a column of some rows.

        Parameters
        ----------
        name : str
            A native or common column.
        rows : ndarray, shape (n,), int64
            Rows of the shard, sorted, each once.

        Returns
        -------
        ndarray or Ragged
            The values, in the order of `rows`. A shared column: its one value.

        Raises
        ------
        FormatError
            If the column is missing, or not what the survey declares.
        """
        if name in COMMON_COLUMNS:
            return self._fixed(name, rows)
        column = self._survey[name]
        if column.shared:
            return np.asarray(self._dataset(f"shared/{name}")[()])
        ragged = self._survey.ragged_dims(column)
        if ragged:
            return self._ragged(column, ragged, rows)
        return self._fixed(name, rows)

    def _fixed(self, name: str, rows: NDArray[np.int64]) -> NDArray[Any]:
        dataset = self._dataset(name)
        if not dataset.shape or len(dataset) != self.n_objects:
            raise FormatError(
                f"{self.path}, column {name!r}", f"{self.n_objects} objects", f"{dataset.shape}"
            )
        try:
            return np.asarray(_read_rows(dataset, rows))
        except OSError as error:
            raise FormatError(
                f"{self.path}, column {name!r}, rows {_span(rows)}", "readable data", str(error)
            ) from error

    def _ragged(self, column: Column, ragged: tuple[str, ...], rows: NDArray[np.int64]) -> Ragged:
        group = ".".join(ragged)
        offsets = np.asarray(self._dataset(f"ragged/{group}.offsets")[()], np.int64)
        if len(offsets) != self.n_objects + 1 or offsets[0] != 0 or np.any(np.diff(offsets) < 0):
            raise FormatError(
                f"{self.path}, ragged/{group}.offsets",
                f"{self.n_objects + 1} numbers from 0, never decreasing",
                f"{len(offsets)} numbers, from {offsets[:1]}",
            )
        lengths = (
            np.diff(offsets)[:, None]
            if len(ragged) == 1
            else np.asarray(self._dataset(f"ragged/{group}.shape")[()], np.int64)
        )
        shapes = np.empty((len(rows), len(column.shape)), np.int64)
        for axis, dim in enumerate(column.shape):
            known = isinstance(dim, int)
            shapes[:, axis] = dim if known else lengths[rows, ragged.index(str(dim))]
        dataset = self._dataset(f"ragged/{column.name}")
        fixed = [dim for dim in column.shape if isinstance(dim, int)]
        # Rule R3: along axis 0 where the one varying dimension comes first; R4: flat otherwise.
        step = 1 if dataset.ndim > 1 or not fixed else math.prod(fixed)
        if len(dataset) != step * offsets[-1]:
            raise FormatError(
                f"{self.path}, column {column.name!r}",
                f"{step * offsets[-1]} values, as its offsets say",
                f"{len(dataset)}",
            )
        starts, stops = step * offsets[rows], step * offsets[rows + 1]
        parts = [dataset[start:stop] for start, stop in _runs(starts, stops)]
        empty = np.empty((0, *dataset.shape[1:]), dataset.dtype)
        values = np.concatenate([empty, *parts]) if parts else empty
        return Ragged(values, np.concatenate(([0], np.cumsum(stops - starts))), shapes)


def _span(rows: NDArray[np.int64]) -> str:
    return f"{rows[0]} to {rows[-1]}" if len(rows) else "none"


def _runs(starts: NDArray[np.int64], stops: NDArray[np.int64]) -> Sequence[tuple[int, int]]:
    """Join ranges that follow one another."""
    merged: list[tuple[int, int]] = []
    for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
        if merged and merged[-1][1] == start:
            merged[-1] = (merged[-1][0], stop)
        else:
            merged.append((start, stop))
    return merged


def _read_rows(dataset: h5py.Dataset, rows: NDArray[np.int64]) -> NDArray[Any]:
    """Read sorted rows by runs: far quicker than a list of points in h5py."""
    out = np.empty((len(rows), *dataset.shape[1:]), dataset.dtype)
    if not len(rows):
        return out
    breaks = np.flatnonzero(np.diff(rows) != 1) + 1
    for first, last in zip([0, *breaks], [*breaks, len(rows)], strict=True):
        start = int(rows[first])
        dataset.read_direct(
            out, np.s_[start : start + int(last) - int(first)], np.s_[int(first) : int(last)]
        )
    return out
