"""
Where a build keeps what it has read until it is written: segments of plain arrays on disk.

A segment is a file of raw arrays and an index beside it. It exists, complete, once its index
has its final name; what lies there without one is left over from a run that was stopped, and
is removed. Units whose segment is complete are not read again.

Within a segment the objects lie in *blocks* of some megabytes: a large batch is a block or
several, small units share one. A unit knows its rows as spans of blocks.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from astropile.publish import publish_bytes, sync_folder
from astropile.schema import Ragged, Rejected

SEGMENT_NBYTES: Final = 256 * 2**20
"""A segment is closed once it is this large."""

BLOCK_NBYTES: Final = 16 * 2**20
"""Batches are gathered until they are this large together."""

_ALIGN: Final = 64


class SpoolWriter:
    """
    Append batches and rejections, unit by unit.

    Parameters
    ----------
    folder : Path
        The spool's folder, which exists.
    shared : collection of str
        Names of the columns that have one value for all objects.
    name : str
        Prefix of this writer's segments, its own among the writers of a spool.
    """

    def __init__(self, folder: Path, shared: Collection[str] = (), name: str = "segment") -> None:
        self._folder, self._shared, self._name = folder, frozenset(shared), name
        taken = [int(path.stem.rsplit("-", 1)[1]) for path in folder.glob(f"{name}-*.json")]
        self._number = max(taken, default=0)
        # Batches of the unit being read; batches of finished units that share a block.
        self._pending: list[Mapping[str, Any]] = []
        self._spans: list[list[int]] = []
        self._common: list[Mapping[str, Any]] = []
        self._open()

    def _open(self) -> None:
        self._number += 1
        self._path = self._folder / f"{self._name}-{self._number:06d}.bin"
        self._blocks: list[dict[str, Any] | None] = []
        self._units: list[dict[str, Any]] = []
        self._common_block = -1
        self._file = self._path.open("wb")

    def add_batch(self, columns: Mapping[str, NDArray[Any] | Ragged]) -> None:
        """
        Append a batch of the unit that is being read.

        Parameters
        ----------
        columns : mapping of str to ndarray or Ragged
            Columns of the batch.
        """
        if not self._length([columns]):
            return
        self._pending.append(columns)
        if _nbytes(self._pending) >= BLOCK_NBYTES:
            self._spans.append([len(self._blocks), 0, self._length(self._pending)])
            self._blocks.append(self._store(self._pending))
            self._pending = []

    def _length(self, batches: list[Mapping[str, Any]]) -> int:
        name = next(name for name in batches[0] if name not in self._shared)
        return sum(len(batch[name]) for batch in batches)

    def _store(self, batches: list[Mapping[str, Any]]) -> dict[str, Any]:
        stored: dict[str, Any] = {}
        for name, first in batches[0].items():
            parts = [batch[name] for batch in batches]
            if name in self._shared:
                stored[name] = self._append(first)
            elif isinstance(first, Ragged):
                whole = Ragged.join(parts)
                arrays = (whole.values, whole.offsets, whole.shapes)
                stored[name] = {"ragged": [self._append(array) for array in arrays]}
            else:
                stored[name] = self._append(parts[0] if len(parts) == 1 else np.concatenate(parts))
        return stored

    def _append(self, values: NDArray[Any]) -> list[Any]:
        self._file.write(b"\0" * (-self._file.tell() % _ALIGN))
        offset = self._file.tell()
        data = np.ascontiguousarray(values)
        if data.nbytes:
            self._file.write(data.reshape(-1).view(np.uint8).data)
        return [offset, data.dtype.str, list(values.shape)]

    def finish_unit(
        self,
        key: str,
        *,
        inputs: Any,
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
        inputs : object
            What it was read from, as JSON values.
        rejected : iterable of Rejected
            What it rejected.
        sizes : mapping of str to int
            Lengths of the tree's dimensions met so far.
        failed : bool
            The unit could not be read at all: the next run tries again.
        """
        if self._pending:
            if not self._common:
                self._common_block = len(self._blocks)
                self._blocks.append(None)
            start = self._length(self._common) if self._common else 0
            length = self._length(self._pending)
            self._spans.append([self._common_block, start, start + length])
            self._common += self._pending
        self._units.append(
            {
                "key": key,
                "spans": self._spans,
                "inputs": inputs,
                "sizes": dict(sizes),
                "failed": failed,
                "rejected": [[r.key, r.reason, r.count, r.fault] for r in rejected],
            }
        )
        self._pending, self._spans = [], []
        if _nbytes(self._common) >= BLOCK_NBYTES:
            self._store_common()
        if self._file.tell() >= SEGMENT_NBYTES:
            self._close_segment()
            self._open()

    def drop_unit(self) -> None:
        """Forget the batches of the unit that is being read: it failed."""
        self._pending, self._spans = [], []

    def _store_common(self) -> None:
        if self._common:
            self._blocks[self._common_block] = self._store(self._common)
            self._common = []

    def _close_segment(self) -> None:
        with self._file:
            self._store_common()
            self._file.flush()
            os.fsync(self._file.fileno())
        index = {"units": self._units, "blocks": self._blocks}
        publish_bytes(self._path.with_suffix(".json"), json.dumps(index).encode())

    def close(self) -> None:
        """Complete the last segment."""
        if self._units:
            self._close_segment()
        else:
            self._file.close()
            self._path.unlink()

    def stop(self) -> None:
        """Keep the units read to their end, if that can be done; the first error counts."""
        self.drop_unit()
        if not self._file.closed:
            with contextlib.suppress(OSError):
                self.close()


class Spool:
    """
    The complete segments of a folder.

    Parameters
    ----------
    folder : Path
        The spool's folder.

    Attributes
    ----------
    units : dict of str to dict
        For each unit by its key what `SpoolWriter.finish_unit` was told, and ``spans``: lists of
        block, first row, last row + 1.
    """

    def __init__(self, folder: Path) -> None:
        self.units: dict[str, dict[str, Any]] = {}
        self._blocks: list[tuple[int, dict[str, Any]]] = []
        self._data: list[NDArray[np.uint8]] = []
        for path in sorted(folder.glob("*.json")):
            index = json.loads(path.read_bytes())
            first = len(self._blocks)
            self._blocks.extend((len(self._data), block) for block in index["blocks"])
            for unit in index["units"]:
                spans = [[first + block, start, stop] for block, start, stop in unit["spans"]]
                self.units[unit["key"]] = {**unit, "spans": spans}
            data = path.with_suffix(".bin")
            empty = data.stat().st_size == 0
            self._data.append(
                np.empty(0, np.uint8) if empty else np.memmap(data, np.uint8, mode="r")
            )
        self.column = lru_cache(maxsize=4096)(self._column)

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

    def _column(self, block: int, name: str) -> NDArray[Any] | Ragged:
        """Give a column of a block, still on disk: views into the mapped segment."""
        segment, stored = self._blocks[block]
        data, entry = self._data[segment], stored[name]
        if isinstance(entry, dict):
            values, offsets, shapes = (_view(part, data) for part in entry["ragged"])
            return Ragged(values, offsets, shapes)
        return _view(entry, data)

    def release(self) -> None:
        """Let go of the pages of the segments that were read: they are on disk."""
        for data in self._data:
            mapped = getattr(data, "_mmap", None)
            if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
                mapped.madvise(mmap.MADV_DONTNEED)


def _view(entry: list[Any], data: NDArray[np.uint8]) -> NDArray[Any]:
    offset, kind, shape = entry
    dtype = np.dtype(kind)
    nbytes = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
    values: NDArray[Any] = data[offset : offset + nbytes].view(dtype).reshape(shape)
    return values


def _nbytes(batches: list[Mapping[str, Any]]) -> int:
    return sum(
        values.values.nbytes if isinstance(values, Ragged) else values.nbytes
        for batch in batches
        for values in batch.values()
    )
