"""
The second pass of a build: write partitions from the spool, and bring them together.

Memory: one shard twice, and pages of the spool that the system takes back when it needs them;
for the catalogue a million rows of light columns.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from astropile.build.placing import Placed, load_placed
from astropile.hats import write_hats
from astropile.layout import CATALOG_DIR, INPUTS_FILE, MANIFEST_DIR, REJECTED_FILE
from astropile.names import COMMON_COLUMNS, HEALPIX_29, ROW_COLUMN, SHARD_COLUMN
from astropile.publish import publish_bytes
from astropile.schema import Rejected
from astropile.subset import Pattern, has_partition, write_partition

_opened: dict[tuple[object, ...], Placed] = {}


@dataclass(frozen=True)
class Writing:
    """
    What the second pass needs: whole in every process that takes part.

    Parameters
    ----------
    pattern : Pattern
        What the partitions have in common.
    shard_nbytes : int
        Size, before compression, above which a partition is split into shards [bytes].
    spool : Path
        Folder of the spool.
    placed : Path
        What `Placed.save` wrote.
    """

    pattern: Pattern
    shard_nbytes: int
    spool: Path
    placed: Path

    @property
    def store(self) -> Path:
        """Where the partitions go."""
        return self.placed.with_suffix("")

    def open(self) -> Placed:
        """
        Give the objects; opened once in a process.

        Returns
        -------
        Placed
            The objects.
        """
        state = self.placed.stat()
        key = (self.placed, state.st_ino, state.st_mtime_ns)
        if key not in _opened:
            _opened.clear()
            pattern = self.pattern
            _opened[key] = load_placed(self.placed, pattern.survey, pattern.order, self.spool)
        return _opened[key]


def close_placed() -> None:
    """Let go of what `Writing.open` keeps open in this process."""
    _opened.clear()


def write_one(writing: Writing, ipix: int, first: int, last: int) -> int:
    """
    Write a partition, unless it is there.

    Parameters
    ----------
    writing : Writing
        What is written.
    ipix : int
        Its pixel.
    first, last : int
        Its objects, `last` not included.

    Returns
    -------
    int
        How many objects it has.

    Raises
    ------
    OSError
        If the disk fails.
    """
    if has_partition(writing.store, ipix):
        return last - first
    placed = writing.open()
    edges = shard_edges(placed.objects.nbytes[first:last], writing.shard_nbytes) + first
    native = placed.survey.column_names

    def shards() -> Iterator[Any]:
        for start, stop in itertools.pairwise(edges):
            some = placed.objects.take(slice(start, stop))
            columns = placed.columns(some, native)
            placed.spool.release()
            yield columns, placed.common(columns, np.full(len(some), ipix))
            del columns
            placed.spool.release()

    write_partition(writing.store, writing.pattern, ipix, len(edges) - 1, shards())
    return last - first


def shard_edges(nbytes: NDArray[np.int64], target: int) -> NDArray[np.int64]:
    """
    Split objects, in order, into shards: none above the target, but for an object that is.

    Parameters
    ----------
    nbytes : ndarray, shape (n,), int64
        Size of each object.
    target : int
        Largest size of a shard.

    Returns
    -------
    ndarray, shape (n_shards + 1,), int64
        Where each begins, and where the last ends.
    """
    ends = np.cumsum(nbytes)
    edges = [0]
    while edges[-1] < len(nbytes):
        before = int(ends[edges[-1] - 1]) if edges[-1] else 0
        reach = int(np.searchsorted(ends, before + target, side="right"))
        edges.append(max(reach, edges[-1] + 1))
    return np.array(edges, np.int64)


class LightRows:
    """
    Rows of the catalogue of a subset, made from the spool.

    Parameters
    ----------
    placed : Placed
        The objects.
    shard_nbytes : int
        As for the build.
    """

    def __init__(self, placed: Placed, shard_nbytes: int) -> None:
        self._placed = placed
        self.healpix_29 = placed.objects.healpix_29
        self._shard = np.empty(len(placed.objects), np.int32)
        self._row = np.empty(len(placed.objects), np.int64)
        for _, start, stop in placed.partitions():
            edges = shard_edges(placed.objects.nbytes[start:stop], shard_nbytes) + start
            for index, (first, last) in enumerate(itertools.pairwise(edges), 1):
                self._shard[first:last] = index
                self._row[first:last] = np.arange(last - first)

    def table(self, first: int, last: int) -> pa.Table:
        """
        Make some rows.

        Parameters
        ----------
        first, last : int
            Which objects, `last` not included.

        Returns
        -------
        pyarrow.Table
            Their common and light columns, and where they lie.
        """
        placed = self._placed
        some = placed.objects.take(slice(first, last))
        survey = placed.survey
        light = [column.name for column in survey.columns if column.is_light]
        needed = [str(survey.aliases[name]) for name in COMMON_COLUMNS[:-1]]
        columns = placed.columns(some, list(dict.fromkeys([*light, *needed])))
        common = placed.common(columns, some.healpix_29 >> 2 * (29 - placed.order))
        values: dict[str, Any] = {HEALPIX_29: np.asarray(some.healpix_29), **common}
        values.update({name: columns[name] for name in light if name not in values})
        values[SHARD_COLUMN] = self._shard[first:last]
        values[ROW_COLUMN] = self._row[first:last]
        return pa.table({name: _arrow(array) for name, array in values.items()})


def write_catalogue(tree: Path, pattern: Pattern, rows: Any) -> None:
    """
    Write the catalogue of a subset.

    Parameters
    ----------
    tree : Path
        The subset's folder.
    pattern : Pattern
        Its survey, name and order.
    rows : LightRows
        ``healpix_29`` of all objects, and ``table`` of some.
    """
    write_hats(
        tree / CATALOG_DIR,
        f"{pattern.survey.name}_{pattern.subset}",
        np.asarray(rows.healpix_29),
        pattern.order,
        rows.table,
    )


_INPUT_KEYS: Final = ("path", "size", "sha256")


def input_lines(units: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """
    List the files that units were read from.

    Parameters
    ----------
    units : mapping
        For each unit what the spool says of it.

    Returns
    -------
    list of dict
        Unit, path, size and SHA-256 of each file.
    """
    return [
        {"unit": key, **{name: entry[name] for name in _INPUT_KEYS}}
        for key in sorted(units)
        for entry in units[key]["inputs"]["files"]
    ]


def write_lists(
    tree: Path,
    inputs: Sequence[Mapping[str, Any]],
    rejected: Iterable[tuple[str, Rejected]],
    before: bytes = b"",
) -> None:
    """
    Write the lists of a build.

    Parameters
    ----------
    tree : Path
        The subset's folder.
    inputs : sequence of mapping
        What `input_lines` gave.
    rejected : iterable of tuple
        The unit, and what was rejected of it.
    before : bytes
        What the second list held before.
    """
    refused = [
        {"unit": unit, "key": r.key, "reason": r.reason, "count": r.count, "fault": r.fault}
        for unit, r in rejected
    ]
    for name, entries, first in ((INPUTS_FILE, inputs, b""), (REJECTED_FILE, refused, before)):
        lines = "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries)
        publish_bytes(tree / MANIFEST_DIR / name, first + lines.encode())


def _arrow(array: NDArray[Any]) -> pa.Array:
    if array.dtype.kind == "S":
        return pa.array(np.char.decode(array, "utf-8"), pa.string())
    return pa.array(array)
