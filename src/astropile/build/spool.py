"""
Where a build keeps what it has read until it is written: segments of plain arrays on disk.

A segment is one file: raw arrays, then an index of them. It takes its name, which follows from
the units it holds, when it is complete; so two processes that read the same units make the same
file, and whichever comes last replaces it by its like. Units in a segment are not read again.

Within a segment the objects lie in *blocks* of some megabytes: a large batch is a block or
several, small units share one. A unit knows its rows as spans of blocks.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import os
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from astropile.publish import sync_folder
from astropile.schema import Ragged, Rejected

BLOCK_NBYTES: Final = 16 * 2**20
"""Batches are gathered until they are this large together."""

STALE_S: Final = 3600.0
"""What was begun and not touched for so long is taken for left over [s]."""

_ALIGN: Final = 64
_MAGIC: Final = b"ASTPSEG1"
_SUFFIX: Final = ".segment"


class SpoolWriter:
    """
    Write one segment: append batches and rejections, unit by unit.

    Parameters
    ----------
    folder : Path
        The spool's folder, which exists.
    shared : collection of str
        Names of the columns that have one value for all objects.
    """

    def __init__(self, folder: Path, shared: Collection[str] = ()) -> None:
        self._folder, self._shared = folder, frozenset(shared)
        # Batches of the unit being read; batches of finished units that share a block.
        self._pending: list[Mapping[str, Any]] = []
        self._spans: list[list[int]] = []
        self._common: list[Mapping[str, Any]] = []
        self._path = folder / f".{os.getpid()}-{uuid.uuid4().hex}.part"
        self._blocks: list[dict[str, Any] | None] = []
        self._units: list[dict[str, Any]] = []
        self._common_block = -1
        self._file = self._path.open("xb")

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

    def drop_unit(self) -> None:
        """Forget the batches of the unit that is being read: it failed."""
        self._pending, self._spans = [], []

    def _store_common(self) -> None:
        if self._common:
            self._blocks[self._common_block] = self._store(self._common)
            self._common = []

    def close(self) -> str | None:
        """
        Complete the segment and give it its name.

        Returns
        -------
        str or None
            The name; None if it holds no unit, and is not there.

        Raises
        ------
        OSError
            If the disk fails; then there is no such segment.
        """
        try:
            with self._file:
                if not self._units:
                    return None
                self._store_common()
                index = json.dumps({"units": self._units, "blocks": self._blocks}).encode()
                self._file.write(index)
                self._file.write(len(index).to_bytes(8, "little") + _MAGIC)
                self._file.flush()
                os.fsync(self._file.fileno())
            told = [[unit["key"], unit["inputs"], unit["failed"]] for unit in self._units]
            digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
            self._path.rename(self._folder / f"{digest[:32]}{_SUFFIX}")
        finally:
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)
        sync_folder(self._folder)
        return f"{digest[:32]}{_SUFFIX}"

    def stop(self) -> None:
        """Keep the units read to their end, if that can be done; the first error counts."""
        self.drop_unit()
        if not self._file.closed:
            with contextlib.suppress(OSError):
                self.close()


class Spool:
    """
    Complete segments of a folder.

    Parameters
    ----------
    folder : Path
        The spool's folder.
    segments : sequence of str, optional
        Names of the segments; by default all that are there.
    accept : callable, optional
        Told what `SpoolWriter.finish_unit` was, says whether this reading of a unit counts.

    Attributes
    ----------
    segments : tuple of str
        Names of the segments, sorted or as they were given.
    units : dict of str to dict
        For each unit by its key what `SpoolWriter.finish_unit` was told, and ``spans``: lists of
        block, first row, last row + 1. Of a unit that was read more than once, one reading
        that `accept` took, rather one that did not fail.
    """

    def __init__(
        self,
        folder: Path,
        segments: Sequence[str] | None = None,
        accept: Callable[[Mapping[str, Any]], bool] = lambda _: True,
    ) -> None:
        self.units: dict[str, dict[str, Any]] = {}
        self._blocks: list[tuple[int, dict[str, Any]]] = []
        self._data: list[NDArray[np.uint8]] = []
        if segments is None:
            segments = sorted(path.name for path in folder.glob(f"*{_SUFFIX}"))
        self.segments = tuple(segments)
        for name in segments:
            data, index = _load(folder / name)
            first = len(self._blocks)
            self._blocks.extend((len(self._data), block) for block in index["blocks"])
            for unit in index["units"]:
                spans = [[first + block, start, stop] for block, start, stop in unit["spans"]]
                before = self.units.get(unit["key"])
                if (before is None or before["failed"]) and accept(unit):
                    self.units[unit["key"]] = {**unit, "spans": spans}
            self._data.append(data)
        self.column = lru_cache(maxsize=4096)(self._column)

    @staticmethod
    def clean(folder: Path) -> None:
        """
        Remove what stopped runs left behind long ago.

        Parameters
        ----------
        folder : Path
            The spool's folder.
        """
        for path in folder.glob(".*.part"):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > STALE_S:
                    path.unlink()

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


def _load(path: Path) -> tuple[NDArray[np.uint8], dict[str, Any]]:
    """Map a segment and read its index."""
    data = np.memmap(path, np.uint8, mode="r")
    trailer = data[-16:].tobytes()
    assert trailer[8:] == _MAGIC, f"{path} is no segment"
    length = int.from_bytes(trailer[:8], "little")
    index: dict[str, Any] = json.loads(data[-16 - length : -16].tobytes())
    return data, index


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
