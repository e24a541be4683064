"""
Read columns of chosen rows from one shard that has no row table, or whose table is not trusted.

Everything is found in the file itself, in plain Python through the gate for files of unknown
origin; `astropile.hdf5.fetch` reads the same bytes faster where there is a row table.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from astropile.errors import FormatError, UntrustedFileError
from astropile.gate.contents import read_rows, values_of
from astropile.gate.limits import DEFAULT
from astropile.gate.source import Source
from astropile.gate.structure import Dataset, read_structure
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
            self._source = Source(path, DEFAULT)
        except (OSError, UntrustedFileError) as error:
            raise FormatError(str(path), "an HDF5 file", str(error)) from error
        try:
            structure = read_structure(self._source)
            self.n_objects = self._count(structure.attributes.get("n_objects"))
        except UntrustedFileError as error:
            self.close()
            raise FormatError(error.where, error.expected, error.found) from error
        except FormatError:
            self.close()
            raise
        self._columns = {column.name: column for column in structure.datasets}

    def _count(self, n_objects: Any) -> int:
        if not isinstance(n_objects, int):
            raise FormatError(str(self.path), "the attribute n_objects", "none")
        return n_objects

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
        self._source.close()

    def _dataset(self, name: str) -> Dataset:
        found = self._columns.get(name)
        if found is None:
            raise FormatError(str(self.path), f"the column {name!r}", "no such column")
        return found

    def _whole(self, name: str) -> NDArray[Any]:
        try:
            return values_of(self._source, self._dataset(name))
        except UntrustedFileError as error:
            raise FormatError(error.where, error.expected, error.found) from error

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
            return self._whole(f"shared/{name}")
        ragged = self._survey.ragged_dims(column)
        if ragged:
            return self._ragged(column, ragged, rows)
        return self._fixed(name, rows)

    def _fixed(self, name: str, rows: NDArray[np.int64]) -> NDArray[Any]:
        dataset = self._dataset(name)
        if dataset.shape[:1] != (self.n_objects,):
            raise FormatError(
                f"{self.path}, column {name!r}", f"{self.n_objects} objects", f"{dataset.shape}"
            )
        return read_rows(self._source, dataset, rows)

    def _ragged(self, column: Column, ragged: tuple[str, ...], rows: NDArray[np.int64]) -> Ragged:
        group = ".".join(ragged)
        offsets = np.asarray(self._whole(f"ragged/{group}.offsets"), np.int64)
        if len(offsets) != self.n_objects + 1 or offsets[0] != 0 or np.any(np.diff(offsets) < 0):
            raise FormatError(
                f"{self.path}, ragged/{group}.offsets",
                f"{self.n_objects + 1} numbers from 0, never decreasing",
                f"{len(offsets)} numbers, from {offsets[:1]}",
            )
        lengths = (
            np.diff(offsets)[:, None]
            if len(ragged) == 1
            else np.asarray(self._whole(f"ragged/{group}.shape"), np.int64)
        )
        shapes = np.empty((len(rows), len(column.shape)), np.int64)
        for axis, dim in enumerate(column.shape):
            known = isinstance(dim, int)
            shapes[:, axis] = dim if known else lengths[rows, ragged.index(str(dim))]
        dataset = self._dataset(f"ragged/{column.name}")
        fixed = [dim for dim in column.shape if isinstance(dim, int)]
        # Rule R3: along axis 0 where the one varying dimension comes first; R4: flat otherwise.
        step = 1 if len(dataset.shape) > 1 or not fixed else math.prod(fixed)
        if dataset.shape[:1] != (step * offsets[-1],):
            raise FormatError(
                f"{self.path}, column {column.name!r}",
                f"{step * offsets[-1]} values, as its offsets say",
                f"{dataset.shape}",
            )
        starts, stops = step * offsets[rows], step * offsets[rows + 1]
        places = np.concatenate(
            [np.empty(0, np.int64), *(np.arange(a, b) for a, b in _runs(starts, stops))]
        )
        values = read_rows(self._source, dataset, places)
        return Ragged(values, np.concatenate(([0], np.cumsum(stops - starts))), shapes)


def _runs(starts: NDArray[np.int64], stops: NDArray[np.int64]) -> Sequence[tuple[int, int]]:
    """Join ranges that follow one another."""
    merged: list[tuple[int, int]] = []
    for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
        if merged and merged[-1][1] == start:
            merged[-1] = (merged[-1][0], stop)
        else:
            merged.append((start, stop))
    return merged
