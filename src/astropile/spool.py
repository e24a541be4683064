"""
Where a build keeps what it has read until it is written: segments of plain arrays on disk.

A segment is a file of raw arrays and an index beside it. It exists, complete, once its index
has its final name; what lies there without one is left over from a run that was stopped, and
is removed. Units whose segment is complete are not read again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from astropile.publish import publish_bytes, sync_folder
from astropile.schema import Ragged, Rejected

SEGMENT_NBYTES: Final = 256 * 2**20
"""A segment is closed once it is this large."""

_ALIGN: Final = 64


@dataclass(frozen=True)
class StoredArray:
    """
    An array in a segment.

    Parameters
    ----------
    offset : int
        Its first byte.
    dtype : str
        Its dtype, numpy's spelling.
    shape : tuple of int
        Its shape.
    """

    offset: int
    dtype: str
    shape: tuple[int, ...]

    def view(self, data: NDArray[np.uint8]) -> NDArray[Any]:
        """
        Give the array's values.

        Parameters
        ----------
        data : ndarray, uint8
            The segment's bytes.

        Returns
        -------
        ndarray
            A view into them.
        """
        dtype = np.dtype(self.dtype)
        nbytes = dtype.itemsize * int(np.prod(self.shape, dtype=np.int64))
        return data[self.offset : self.offset + nbytes].view(dtype).reshape(self.shape)


class SpoolWriter:
    """
    Append batches and rejections, unit by unit.

    Parameters
    ----------
    folder : Path
        The spool's folder, which exists.
    name : str
        Prefix of this writer's segments, its own among the writers of a spool.
    """

    def __init__(self, folder: Path, name: str = "segment") -> None:
        self._folder, self._name = folder, name
        taken = [int(path.stem.rsplit("-", 1)[1]) for path in folder.glob(f"{name}-*.json")]
        self._number = max(taken, default=0)
        self._file: Any = None
        self._open()

    def _open(self) -> None:
        self._number += 1
        self._path = self._folder / f"{self._name}-{self._number:06d}.bin"
        self._batches: list[dict[str, Any]] = []
        self._units: list[dict[str, Any]] = []
        self._pending: list[dict[str, Any]] = []
        self._file = self._path.open("wb")

    def add_batch(self, columns: Mapping[str, NDArray[Any] | Ragged]) -> None:
        """
        Append a batch of the unit that is being read.

        Parameters
        ----------
        columns : mapping of str to ndarray or Ragged
            Columns of the batch.
        """
        stored: dict[str, Any] = {}
        for name, values in columns.items():
            if isinstance(values, Ragged):
                parts = (values.values, values.offsets, values.shapes)
                stored[name] = {"ragged": [self._append(part) for part in parts]}
            else:
                stored[name] = self._append(values)
        self._pending.append(stored)

    def _append(self, values: NDArray[Any]) -> list[Any]:
        self._file.write(b"\0" * (-self._file.tell() % _ALIGN))
        offset = self._file.tell()
        data = np.ascontiguousarray(values)
        if data.nbytes:
            self._file.write(data.reshape(-1).view(np.uint8).data)
        return [offset, data.dtype.str, list(data.shape)]

    def finish_unit(
        self,
        key: str,
        *,
        inputs: Iterable[Mapping[str, Any]],
        rejected: Iterable[Rejected],
        sizes: Mapping[str, int],
        failed: bool = False,
    ) -> None:
        """
        Say that a unit is read to its end.

        Parameters
        ----------
        key : str
            The unit.
        inputs : iterable of mapping
            The files it was read from.
        rejected : iterable of Rejected
            What it rejected.
        sizes : mapping of str to int
            Lengths of the tree's dimensions met so far.
        failed : bool
            The unit could not be read at all: the next run tries again.
        """
        first = len(self._batches)
        self._batches.extend(self._pending)
        self._pending = []
        self._units.append(
            {
                "key": key,
                "batches": [first, len(self._batches)],
                "inputs": list(inputs),
                "sizes": dict(sizes),
                "failed": failed,
                "rejected": [[r.key, r.reason, r.count, r.fault] for r in rejected],
            }
        )
        if self._file.tell() >= SEGMENT_NBYTES:
            self._close_segment()
            self._open()

    def drop_unit(self) -> None:
        """Forget the batches of the unit that is being read: it failed."""
        self._pending = []

    def _close_segment(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        index = {"units": self._units, "batches": self._batches}
        publish_bytes(self._path.with_suffix(".json"), json.dumps(index).encode())

    def close(self) -> None:
        """Complete the last segment."""
        if self._units:
            self._close_segment()
        else:
            self._file.close()
            self._path.unlink()

    def stop(self) -> None:
        """Keep the units read to their end, and nothing of the one that was being read."""
        self._pending = []
        self.close()


class Spool:
    """
    The complete segments of a folder.

    Parameters
    ----------
    folder : Path
        The spool's folder. Segments without an index are removed from it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.units: dict[str, dict[str, Any]] = {}
        self._batches: list[tuple[int, dict[str, Any]]] = []
        self._data: list[NDArray[np.uint8]] = []
        for path in sorted(folder.glob("*.json")):
            index = json.loads(path.read_bytes())
            first = len(self._batches)
            self._batches.extend((len(self._data), batch) for batch in index["batches"])
            for unit in index["units"]:
                start, stop = unit["batches"]
                self.units[unit["key"]] = {**unit, "batches": [first + start, first + stop]}
            data = path.with_suffix(".bin")
            empty = data.stat().st_size == 0
            self._data.append(
                np.empty(0, np.uint8) if empty else np.memmap(data, np.uint8, mode="r")
            )

    @staticmethod
    def clean(folder: Path) -> None:
        """
        Remove what a stopped run left behind.

        Parameters
        ----------
        folder : Path
            The spool's folder.
        """
        for path in [*folder.glob("*.bin"), *folder.glob(".*.part")]:
            if path.suffix == ".part" or not path.with_suffix(".json").exists():
                path.unlink()
        sync_folder(folder)

    def batches(self) -> Iterator[int]:
        """
        Give the number of each batch, in the order of their units' keys.

        Yields
        ------
        int
            Number of a batch.
        """
        for key in sorted(self.units):
            yield from range(*self.units[key]["batches"])

    def column(self, batch: int, name: str) -> NDArray[Any] | Ragged:
        """
        Give a column of a batch, still on disk.

        Parameters
        ----------
        batch : int
            Number of the batch.
        name : str
            Name of the column.

        Returns
        -------
        ndarray or Ragged
            Views into the mapped segment.
        """
        segment, stored = self._batches[batch]
        data, entry = self._data[segment], stored[name]
        if isinstance(entry, dict):
            values, offsets, shapes = (_stored(part).view(data) for part in entry["ragged"])
            return Ragged(values, offsets, shapes)
        return _stored(entry).view(data)


def _stored(entry: list[Any]) -> StoredArray:
    offset, dtype, shape = entry
    return StoredArray(int(offset), str(dtype), tuple(shape))
