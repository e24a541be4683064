"""
Unpack the data of a file of unknown origin: bounded, every checksum compared.

No chunk is let grow beyond what it says it holds, whatever was packed into it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from astropile.errors import FormatError
from astropile.gate.checksums import fletcher32
from astropile.gate.messages import DEFLATE, FLETCHER32, SHUFFLE
from astropile.gate.source import Source
from astropile.gate.structure import Dataset

_IsalError: type[Exception] = isal_zlib.IsalError  # type: ignore[assignment]

_PIECE_NBYTES: Final = 2**22
_MAX_NAMED: Final = 20
"""So many damaged places of a column are named."""


def unpack(
    packed: bytes, filters: tuple[int, ...], mask: int, n_bytes: int, itemsize: int
) -> bytes:
    """
    Undo the filters of a chunk.

    Parameters
    ----------
    packed : bytes
        The chunk as it lies in the file.
    filters : tuple of int
        Those of its column, in the order they were applied in.
    mask : int
        A bit for each of them that was left out.
    n_bytes : int
        What the chunk must unpack to.
    itemsize : int
        Bytes of a value.

    Returns
    -------
    bytes
        So many bytes: its values one after another.

    Raises
    ------
    ValueError
        If it is damaged, or unpacks to less or more: no more than one byte more is unpacked.
    """
    applied = [number for i, number in enumerate(filters) if not mask >> i & 1]
    while applied:
        number = applied.pop()
        size = n_bytes + 4 * (FLETCHER32 in applied)
        if number == FLETCHER32:
            packed = _summed(packed)
        elif number == DEFLATE:
            packed = _inflated(packed, size)
        elif number == SHUFFLE:
            packed = _unshuffled(packed, itemsize)
        else:
            packed = _decompressed(packed, size)
    if len(packed) != n_bytes:
        raise ValueError(f"{len(packed)} bytes instead of {n_bytes}")
    return packed


def _summed(packed: bytes) -> bytes:
    if len(packed) < 4:
        raise ValueError("too short for a checksum")
    body = packed[:-4]
    if fletcher32(body) != int.from_bytes(packed[-4:], "little"):
        raise ValueError("its checksum is another")
    return body


def _inflated(packed: bytes, n_bytes: int) -> bytes:
    inflate = isal_zlib.decompressobj()
    try:
        raw: bytes = inflate.decompress(packed, n_bytes + 1)
    except _IsalError as error:
        raise ValueError(f"it cannot be inflated ({error})") from error
    if len(raw) != n_bytes or not inflate.eof:
        how = "more than" if len(raw) > n_bytes else f"{len(raw)} bytes instead of"
        raise ValueError(f"it inflates to {how} {n_bytes} bytes")
    return raw


def _decompressed(packed: bytes, n_bytes: int) -> bytes:
    import pyarrow as pa

    try:
        with pa.CompressedInputStream(pa.BufferReader(packed), "zstd") as stream:
            raw: bytes = stream.read(n_bytes + 1)
    except (pa.ArrowException, OSError) as error:
        raise ValueError("it is no Zstandard frame") from error
    if len(raw) != n_bytes:
        raise ValueError(f"it unpacks to other than {n_bytes} bytes")
    return raw


def _unshuffled(packed: bytes, itemsize: int) -> bytes:
    """Put the bytes of each value together again; what is left over stays at the end."""
    whole = len(packed) // itemsize * itemsize
    if itemsize == 1 or not whole:
        return packed
    planes: NDArray[Any] = np.frombuffer(packed, np.uint8, whole).reshape(itemsize, -1)
    return planes.T.tobytes() + packed[whole:]


def pieces(source: Source, column: Dataset) -> Iterator[tuple[int, int, bytes | ValueError]]:
    """
    Unpack a column piece by piece.

    Parameters
    ----------
    source : Source
        The file.
    column : Dataset
        One of its columns.

    Yields
    ------
    first, last : int
        Rows of the piece, the last one included.
    content : bytes or ValueError
        Its bytes, or what is wrong with it.
    """
    if not column.nbytes:
        return
    n_rows = column.shape[0] if column.shape else 1
    if column.storage.kind == "compact":
        yield 0, n_rows - 1, column.compact
        return
    if column.storage.kind == "contiguous":
        row = column.nbytes // n_rows
        start, end = column.storage.address, column.storage.address + column.nbytes
        # Whole rows where they are small; a large one in parts.
        step = max(1, _PIECE_NBYTES // row) * row if row <= _PIECE_NBYTES else _PIECE_NBYTES
        for at in range(start, end, step):
            part = source.raw(at, min(step, end - at))
            yield (at - start) // row, (at - start + len(part) - 1) // row, part
        return
    chunk = column.storage.chunk
    n_bytes = math.prod(chunk) * column.type.itemsize
    across = math.prod(
        -(-length // size) for length, size in zip(column.shape[1:], chunk[1:], strict=True)
    )
    for number in range(len(column.chunks) // 3):
        start, size, mask = column.chunks[3 * number : 3 * number + 3]
        first = number // across * chunk[0]
        last = min(first + chunk[0], n_rows) - 1
        try:
            packed = source.raw(start, size)
            itemsize = column.type.itemsize
            yield first, last, unpack(packed, column.filters, mask, n_bytes, itemsize)
        except ValueError as error:
            if isinstance(error, FormatError):
                raise
            yield first, last, error


def damaged_rows(source: Source, column: Dataset) -> list[str]:
    """
    Unpack a whole column and say where it cannot be.

    Parameters
    ----------
    source : Source
        The file.
    column : Dataset
        One of its columns.

    Returns
    -------
    list of str
        For each damaged piece its rows and what is wrong; at most 20. Of columns whose shape varies
        these are places along axis 0, called entries.
    """
    found = []
    text_bad = False
    one, many = ("entry", "entries") if column.name.startswith("ragged/") else ("row", "rows")
    for first, last, content in pieces(source, column):
        if isinstance(content, ValueError):
            rows = f"{one} {first}" if first == last else f"{many} {first} to {last}"
            found.append(f"{rows}: {content}")
            if len(found) == _MAX_NAMED:
                break
        elif column.type.is_utf8 and not text_bad:
            values = plain(content, column)
            if bad := _not_utf8(values):
                text_bad = True
                found.append(f"{many} {first} to {last}: {bad} is not UTF-8")
    return found


def _not_utf8(values: NDArray[Any]) -> str:
    """Give the first text that is not UTF-8, escaped; empty if there is none."""
    if not values.size or values.view(np.uint8).max() < 0x80:
        return ""
    for value in values.tolist():
        try:
            value.decode()
        except UnicodeDecodeError:
            return repr(value[:40])
    return ""


def plain(content: bytes, column: Dataset) -> NDArray[Any]:
    """
    Make values of the bytes of a piece.

    Parameters
    ----------
    content : bytes
        As `pieces` gives them: of whole values.
    column : Dataset
        The column.

    Returns
    -------
    ndarray
        The values, one after another; little-endian where they are numbers.
    """
    dtype = column.type.dtype
    assert dtype is not None
    octets: NDArray[Any] = np.frombuffer(content, np.uint8)
    if column.type.kind == "bool":
        flags: NDArray[Any] = octets != 0
        return flags
    values = octets.view(dtype)
    return values if dtype.kind == "S" else values.astype(dtype.newbyteorder("<"), copy=False)


def values_of(source: Source, column: Dataset) -> NDArray[Any]:
    """
    Read a column whole.

    Parameters
    ----------
    source : Source
        The file.
    column : Dataset
        One of its columns.

    Returns
    -------
    ndarray
        Its values.

    Raises
    ------
    FormatError
        If it is damaged.
    UntrustedFileError
        If it takes more memory than a column may.
    """
    if column.nbytes > source.limits.light_nbytes:
        expected = f"at most {source.limits.light_nbytes} bytes of a column that is held whole"
        raise source.refused(expected, f"{column.nbytes}", column.name)
    if column.shape:
        return read_rows(source, column, np.arange(column.shape[0]))
    content = next(iter(pieces(source, column)))[2]
    assert isinstance(content, bytes)
    return plain(content, column).reshape(())


def read_rows(source: Source, column: Dataset, rows: NDArray[np.int64]) -> NDArray[Any]:
    """
    Read some rows of a column.

    Parameters
    ----------
    source : Source
        The file.
    column : Dataset
        One of its columns, of at least one axis.
    rows : ndarray, shape (n,), int64
        Rows of the column, sorted, each once.

    Returns
    -------
    ndarray, shape ``(n, *shape[1:])``
        Their values, little-endian where they are numbers.

    Raises
    ------
    FormatError
        If they are damaged.
    """
    dtype = column.type.dtype
    assert dtype is not None
    rest = column.shape[1:]
    out = np.empty((len(rows), *rest), dtype if dtype.kind in "Sb" else dtype.newbyteorder("<"))
    if not out.size or not column.nbytes:
        return out
    if column.storage.kind == "chunked":
        _chunked_rows(source, column, rows, out)
        return out
    width = column.nbytes // column.shape[0]
    breaks = np.flatnonzero(np.diff(rows) != 1) + 1
    for first, last in zip([0, *breaks], [*breaks, len(rows)], strict=True):
        begin, n_bytes = int(rows[first]) * width, int(last - first) * width
        if column.storage.kind == "compact":
            content = column.compact[begin : begin + n_bytes]
        else:
            content = source.raw(column.storage.address + begin, n_bytes)
        out[first:last] = plain(content, column).reshape(-1, *rest)
    return out


def _chunked_rows(
    source: Source, column: Dataset, rows: NDArray[np.int64], out: NDArray[Any]
) -> None:
    """Unpack each chunk that holds some of the rows, once."""
    chunk = column.storage.chunk
    n_bytes = math.prod(chunk) * column.type.itemsize
    across = [-(-length // size) for length, size in zip(column.shape[1:], chunk[1:], strict=True)]
    places = list(np.ndindex(*across))
    bands = rows // chunk[0]
    edges = [0, *(np.flatnonzero(np.diff(bands)) + 1).tolist(), len(rows)]
    for first, last in itertools.pairwise(edges):
        band = int(bands[first])
        inside = rows[first:last] - band * chunk[0]
        for k, place in enumerate(places):
            number = 3 * (band * len(places) + k)
            start, size, mask = column.chunks[number : number + 3]
            try:
                packed = source.raw(start, size)
                content = unpack(packed, column.filters, mask, n_bytes, column.type.itemsize)
            except ValueError as error:
                if isinstance(error, FormatError):
                    raise
                last_row = min((band + 1) * chunk[0], column.shape[0]) - 1
                where = f"column {column.name!r}, rows {band * chunk[0]} to {last_row}"
                raise source.damaged("readable data", str(error), where) from error
            values = plain(content, column).reshape(chunk)
            # Chunks at the edges hold more than the column does.
            spans = [
                slice(i * size, min((i + 1) * size, length))
                for i, size, length in zip(place, chunk[1:], column.shape[1:], strict=True)
            ]
            kept = [slice(0, span.stop - span.start) for span in spans]
            to: Any = (slice(first, last), *spans)
            here: Any = (inside, *kept)
            out[to] = values[here]
