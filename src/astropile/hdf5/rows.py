"""
The row table of a shard: where in the file each row of each column lies.

With it a row is read by plain byte ranges, without the HDF5 library. It is found out from the
file itself, can be rebuilt from it at any time, and is kept beside the data
(`docs/format.md`, rules W1 to W3).
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from astropile.errors import FormatError, UntrustedFileError
from astropile.gate.contents import values_of
from astropile.gate.limits import DEFAULT
from astropile.gate.source import Source
from astropile.gate.structure import Dataset, read_structure

if TYPE_CHECKING:
    import h5py

HEAD_NBYTES: Final = 65536
"""So much of a shard's beginning is hashed: its root attributes and the places of its columns."""

MOST_OF_STORED: Final = 1100
"""So many times its size a file can hold at most: deflate never does more than 1032."""

_FACTS: Final = "#"
"""Suffix of the arrays that say more than where a column starts."""

_NOT_A_TABLE: Final = (
    pa.ArrowException,
    OSError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    OverflowError,
)
"""What reading a damaged Arrow file can raise."""


@dataclass(frozen=True)
class Place:
    """
    Where one HDF5 dataset lies.

    Parameters
    ----------
    starts : ndarray, int64
        First byte: of the whole where it is contiguous, else of each chunk along axis 0.
    sizes : ndarray, int64, or None
        Bytes of each chunk as stored; None where the dataset is contiguous.
    chunk_rows : int
        Rows of axis 0 in a chunk; 0 where the dataset is contiguous.
    sums : ndarray, int64, or None
        The last four bytes of each chunk as stored, its own checksum, as a big-endian number:
        they tell a chunk from that of another file. None where they are not known.
    """

    starts: NDArray[np.int64]
    sizes: NDArray[np.int64] | None = None
    chunk_rows: int = 0
    sums: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class RowTable:
    """
    Where everything lies in a shard.

    Parameters
    ----------
    file_size : int
        Bytes of the file; a file of another size is not the one described.
    head : int
        Hash of the file's first bytes: it tells a shard from another of the same size.
    n_objects : int
        Objects it holds.
    places : mapping of str to Place
        For each dataset, by its path in the file.
    offsets : mapping of str to ndarray
        The offsets and shapes of ragged columns, by their paths in the file.
    """

    file_size: int
    head: int
    n_objects: int
    places: Mapping[str, Place]
    offsets: Mapping[str, NDArray[np.int64]]


def head_hash(head: Any) -> int:
    """
    Hash the first bytes of a shard.

    Parameters
    ----------
    head : bytes-like
        Its first `HEAD_NBYTES` bytes, or all of it if it is shorter.

    Returns
    -------
    int
        63 bits of their BLAKE2b hash.
    """
    return int.from_bytes(hashlib.blake2b(head, digest_size=8).digest(), "little") >> 1


def row_table(
    file: h5py.File, file_size: int, head: Any, read: Callable[[int, int], Any] | None = None
) -> RowTable:
    """
    Find out where everything lies in a shard.

    Parameters
    ----------
    file : h5py.File
        The shard, open.
    file_size : int
        Its size in bytes.
    head : bytes-like
        Its first bytes, as `head_hash` takes them.
    read : callable, optional
        Gives so many bytes (second argument) from a place in the file on (first argument), for
        the checksums of the chunks; by default the table has none.

    Returns
    -------
    RowTable
        The table.
    """
    from astropile.hdf5.writer import stored_names

    places: dict[str, Place] = {}
    offsets: dict[str, NDArray[np.int64]] = {}
    for name in stored_names(file):
        dataset = file[name]
        if name.startswith("ragged/") and name.endswith((".offsets", ".shape")):
            offsets[name] = np.asarray(dataset[()], np.int64)
        places[name] = _place(dataset, read)
    n_objects = int(file.attrs["n_objects"])
    return RowTable(file_size, head_hash(head), n_objects, places, offsets)


def _place(dataset: h5py.Dataset, read: Callable[[int, int], Any] | None) -> Place:
    if dataset.chunks is None:
        start = dataset.id.get_offset()
        return Place(np.array([-1 if start is None else start], np.int64))
    n_chunks = -(-len(dataset) // dataset.chunks[0])
    starts = np.full(n_chunks, -1, np.int64)
    sizes = np.zeros(n_chunks, np.int64)

    def note(chunk: Any) -> None:
        number = chunk.chunk_offset[0] // dataset.chunks[0]
        starts[number], sizes[number] = chunk.byte_offset, chunk.size

    dataset.id.chunk_iter(note)
    sums = None
    if read is not None:
        ends = (starts + sizes).tolist()
        sums = np.array([chunk_sum(read(max(0, end - 4), 4)) for end in ends], np.int64)
    return Place(starts, sizes, dataset.chunks[0], sums)


def chunk_sum(packed: Any) -> int:
    """
    Give the checksum that ends a chunk.

    Parameters
    ----------
    packed : bytes-like
        The chunk as stored, or the end of it.

    Returns
    -------
    int
        Its last four bytes as a big-endian number.

    Examples
    --------
    >>> chunk_sum(bytes([9, 0, 0, 1, 0]))
    256
    """
    return int.from_bytes(packed[-4:], "big")


def dump_tables(tables: Iterable[RowTable]) -> bytes:
    """
    Write the row tables of a partition's shards.

    Parameters
    ----------
    tables : iterable of RowTable
        In order of the shards; all of one survey.

    Returns
    -------
    bytes
        An Arrow IPC file, one record batch per shard; every column one list of int64.
    """
    sink = pa.BufferOutputStream()
    writer: Any = None
    for table in tables:
        facts = [table.file_size, table.head, table.n_objects, 0]
        arrays: dict[str, Any] = {_FACTS: np.array(facts)}
        for name, place in table.places.items():
            arrays[name] = place.starts
            if place.sizes is not None:
                arrays[f"{name}{_FACTS}sizes"] = place.sizes
                arrays[f"{name}{_FACTS}rows"] = np.array([place.chunk_rows])
            if place.sums is not None:
                arrays[f"{name}{_FACTS}sums"] = place.sums
        for name, values in table.offsets.items():
            arrays[f"{name}{_FACTS}values"] = values.reshape(-1)
        # A shard may lack chunks where another has them (a short ragged column is contiguous).
        lengths = [len(array) for array in arrays.values()]
        values = np.concatenate(list(arrays.values()))
        values[3] = _own_hash(list(arrays), np.array(lengths), values)
        batch = pa.record_batch(
            [
                pa.array([list(arrays)]),
                pa.array([lengths], pa.list_(pa.int64())),
                _one_list(values),
            ],
            names=["name", "length", "value"],
        )
        if writer is None:
            writer = pa.ipc.new_file(sink, batch.schema)
        writer.write_batch(batch)
    assert writer is not None
    writer.close()
    return bytes(sink.getvalue())


def _own_hash(names: list[str], lengths: NDArray[np.int64], values: NDArray[np.int64]) -> int:
    """Hash a table but for the hash itself, its fourth value."""
    digest = hashlib.blake2b("\n".join(names).encode(), digest_size=8)
    for part in (lengths, values[:3], values[4:]):
        digest.update(np.ascontiguousarray(part, "<i8").data)
    return int.from_bytes(digest.digest(), "little") >> 1


def _one_list(values: NDArray[np.int64]) -> pa.Array:
    ends = pa.array([0, len(values)], pa.int64())
    return pa.LargeListArray.from_arrays(ends, pa.array(values.astype(np.int64)))


def load_tables(content: Any, where: str) -> list[RowTable]:
    """
    Read the row tables of a partition's shards.

    Parameters
    ----------
    content : bytes-like or pyarrow.Buffer
        What `dump_tables` wrote.
    where : str
        The file it came from.

    Returns
    -------
    list of RowTable
        In order of the shards; the arrays are views.

    Raises
    ------
    FormatError
        If it is not what `dump_tables` writes.
    """
    try:
        reader = pa.ipc.open_file(pa.py_buffer(content))
        return [_load(reader.get_batch(i)) for i in range(reader.num_record_batches)]
    except _NOT_A_TABLE as error:
        raise FormatError(where, "the row tables of a partition", str(error)) from error


def _load(batch: pa.RecordBatch) -> RowTable:
    batch.validate(full=True)
    names = batch.column("name")[0].as_py()
    lengths = batch.column("length")[0].values.to_numpy()
    values = batch.column("value")[0].values.to_numpy()
    ends = np.cumsum(lengths)
    if len(names) != len(lengths) or (len(ends) and ends[-1] != len(values)):
        raise ValueError("its lengths do not add up")
    arrays = {
        name: values[end - length : end]
        for name, end, length in zip(names, ends, lengths, strict=True)
    }
    file_size, head, n_objects, *own = (int(value) for value in arrays.pop(_FACTS))
    # The tables of format 1.0's first trees carry no hash of their own.
    if own and own != [_own_hash(names, lengths, values)]:
        raise ValueError("its values are not those that were written")
    places: dict[str, Place] = {}
    offsets: dict[str, NDArray[np.int64]] = {}
    for name, starts in arrays.items():
        column, _, fact = name.partition(_FACTS)
        if fact == "values":
            ndim = 1 if column.endswith(".offsets") else column.count(".")
            offsets[column] = starts if ndim == 1 else starts.reshape(-1, ndim)
        elif not fact:
            sizes = arrays.get(f"{name}{_FACTS}sizes")
            rows = arrays.get(f"{name}{_FACTS}rows", [0])
            sums = arrays.get(f"{name}{_FACTS}sums")
            if sums is not None and (sizes is None or len(sums) != len(sizes)):
                raise ValueError(f"{name!r} has not one checksum for each chunk")
            places[name] = Place(starts, sizes, int(rows[0]), sums)
    return RowTable(file_size, head, n_objects, places, offsets)


def same_table(one: RowTable, other: RowTable) -> bool:
    """
    Tell whether two row tables say the same.

    Parameters
    ----------
    one, other : RowTable
        The tables.

    Returns
    -------
    bool
        True if every number in them is the same; checksums only count where both have them.
    """

    def flat(table: RowTable) -> dict[str, list[Any]]:
        values: dict[str, list[Any]] = {
            name: [
                place.starts.tolist(),
                None if place.sizes is None else place.sizes.tolist(),
                place.chunk_rows,
            ]
            for name, place in table.places.items()
        }
        values.update({f"{name}#": [array.tolist()] for name, array in table.offsets.items()})
        values["#"] = [table.file_size, table.head, table.n_objects]
        return values

    return flat(one) == flat(other) and all(
        place.sums is None or sums is None or np.array_equal(place.sums, sums)
        for place, sums in ((one.places[name], other.places[name].sums) for name in one.places)
    )


def table_of_image(image: memoryview) -> RowTable:
    """
    Find out where everything lies in a shard that is in memory.

    Parameters
    ----------
    image : memoryview
        The file.

    Returns
    -------
    RowTable
        The table.
    """
    import h5py

    with h5py.File(_Bytes(image), "r") as file:
        return row_table(
            file, len(image), image[:HEAD_NBYTES], lambda start, n: image[start : start + n]
        )


class _Bytes(io.RawIOBase):
    """Bytes in memory as a file, without a copy."""

    def __init__(self, content: memoryview) -> None:
        self._content, self._at = content, 0

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, len(self._content))[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        part = self._content[self._at : self._at + len(buffer)]
        buffer[: len(part)] = part
        self._at += len(part)
        return len(part)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


def table_of(path: Path, *, sums: bool = False) -> RowTable:
    """
    Find out where everything lies in a shard that has no row table beside it.

    The file is read in plain Python, through the gate for files of unknown origin.

    Parameters
    ----------
    path : Path
        The file.
    sums : bool
        With the checksums of its chunks: a look at every chunk.

    Returns
    -------
    RowTable
        The table.

    Raises
    ------
    FormatError
        If the file is not a shard.
    """
    try:
        with Source(path, DEFAULT) as source:
            structure = read_structure(source)
            head = head_hash(source.raw(0, min(HEAD_NBYTES, source.size)))
            places: dict[str, Place] = {}
            offsets: dict[str, NDArray[np.int64]] = {}
            for column in structure.datasets:
                name = column.name
                if name.startswith("ragged/") and name.endswith((".offsets", ".shape")):
                    offsets[name] = np.asarray(values_of(source, column), np.int64)
                places[name] = _place_in(source, column, sums=sums)
            n_objects = structure.attributes.get("n_objects")
            if not isinstance(n_objects, int):
                raise FormatError(str(path), "the attribute n_objects", "none")
            return RowTable(source.size, head, n_objects, places, offsets)
    except OSError as error:
        raise FormatError(str(path), "a shard", str(error)) from error
    except UntrustedFileError as error:
        raise FormatError(error.where, error.expected, error.found) from error


def _place_in(source: Source, column: Dataset, *, sums: bool) -> Place:
    """Say where a column lies in a file that came through the gate."""
    if column.storage.kind != "chunked":
        known = column.storage.kind == "contiguous" and column.nbytes
        return Place(np.array([column.storage.address if known else -1], np.int64))
    chunks = np.array(column.chunks, np.int64).reshape(-1, 3)
    starts, sizes = chunks[:, 0].copy(), chunks[:, 1].copy()
    ends = None
    if sums:
        found = (chunk_sum(source.raw(max(0, end - 4), 4)) for end in (starts + sizes).tolist())
        ends = np.array(list(found), np.int64)
    return Place(starts, sizes, column.storage.chunk[0], ends)
