"""
The messages of HDF5 object headers: shapes, types, filters, attributes, storage.

Everything read here is the file's own word. A type, a filter or a storage that a table of
columns does not need is refused by name.

References
----------
.. [1] HDF5 File Format Specification, version 3.0, section IV.A.2.
"""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass
from typing import Final

import numpy as np

from astropile.gate.source import Source

UNDEFINED: Final = 0xFFFFFFFFFFFFFFFF
"""An address that stands for none."""

DEFLATE, SHUFFLE, FLETCHER32, ZSTD = 1, 2, 3, 32015
_FILTERS: Final = {
    DEFLATE: "deflate",
    SHUFFLE: "shuffle",
    FLETCHER32: "Fletcher-32",
    ZSTD: "Zstandard",
}
COMPRESSORS: Final = frozenset({DEFLATE, ZSTD})

_TYPES: Final = "integers, floats, booleans and text of fixed length"
_CLASSES: Final = {
    2: "a time",
    4: "a bit field",
    5: "an opaque type",
    6: "a compound type",
    7: "a reference",
    8: "an enumeration",
    9: "a type of variable length",
    10: "an array type",
    11: "a complex number",
}
_NAME: Final = re.compile(r"[A-Za-z0-9_.+-]{1,255}")
_MAX_RANK: Final = 32


@dataclass(frozen=True)
class StoredType:
    """
    The type of a column or an attribute.

    Parameters
    ----------
    dtype : numpy.dtype or None
        What its bytes mean; None for what is only let in as an attribute.
    itemsize : int
        Bytes of a value as stored.
    kind : str
        ``number``, ``bool``, ``text``, ``vlen text`` or ``opaque``.
    is_utf8 : bool
        Whether text says it is UTF-8.
    padding : int
        How text is filled up: 0 ends with NUL, 1 with NULs, 2 with blanks.
    """

    dtype: np.dtype[np.generic] | None
    itemsize: int
    kind: str
    is_utf8: bool = False
    padding: int = 1


@dataclass(frozen=True)
class Storage:
    """
    Where the data of a column is.

    Parameters
    ----------
    kind : str
        ``compact``, ``contiguous`` or ``chunked``.
    address : int
        First byte of the data, or of the index of the chunks.
    size : int
        Bytes of it, where it is not chunked.
    chunk : tuple of int
        Shape of a chunk.
    index : str
        ``single``, ``fixed array`` or ``tree``; empty where it is not chunked.
    filtered_size, filter_mask : int
        Of a single chunk.
    """

    kind: str
    address: int
    size: int = 0
    chunk: tuple[int, ...] = ()
    index: str = ""
    filtered_size: int = -1
    filter_mask: int = 0


class Reader:
    """
    Walk through the bytes of a message; whatever is not there is damage.

    Parameters
    ----------
    source : Source
        The file, for messages.
    content : bytes
        The bytes.
    where : str
        Place in the file.
    """

    def __init__(self, source: Source, content: bytes, where: str) -> None:
        self._source, self._content, self._where, self.at = source, content, where, 0

    def take(self, n_bytes: int) -> bytes:
        """
        Give the next bytes.

        Parameters
        ----------
        n_bytes : int
            How many.

        Returns
        -------
        bytes
            All of them.

        Raises
        ------
        FormatError
            If there are not so many.
        """
        end = self.at + n_bytes
        if n_bytes < 0 or end > len(self._content):
            raise self._source.damaged("a whole header", "one that ends early", self._where)
        part = self._content[self.at : end]
        self.at = end
        return part

    def number(self, n_bytes: int) -> int:
        """
        Give the next bytes as a number.

        Parameters
        ----------
        n_bytes : int
            How many.

        Returns
        -------
        int
            Little-endian, without sign.

        Raises
        ------
        FormatError
            If there are not so many.
        """
        return int.from_bytes(self.take(n_bytes), "little")

    def left(self) -> int:
        """
        Count what was not read yet.

        Returns
        -------
        int
            Bytes.
        """
        return len(self._content) - self.at


def checked_name(source: Source, raw: bytes, where: str) -> str:
    """
    Let a name in if it is made of plain letters.

    Parameters
    ----------
    source : Source
        The file, for messages.
    raw : bytes
        The name.
    where : str
        What it is the name of.

    Returns
    -------
    str
        The name.

    Raises
    ------
    UntrustedFileError
        If it has anything but letters, digits and ``_.+-``.
    """
    text = raw.decode("ascii", "backslashreplace")
    if not _NAME.fullmatch(text) or set(text) == {"."}:
        raise source.refused("names of letters, digits and _.+-", ascii(raw[:40]), where)
    return text


def read_shape(source: Source, content: bytes, where: str) -> tuple[int, ...] | None:
    """
    Read a dataspace message.

    Parameters
    ----------
    source : Source
        The file, for messages.
    content : bytes
        The message.
    where : str
        Place in the file.

    Returns
    -------
    tuple of int or None
        The shape; empty for a single value, None for nothing at all.

    Raises
    ------
    FormatError
        If it is broken.
    UntrustedFileError
        If it has more values than can be counted.
    """
    reader = Reader(source, content, where)
    version, rank, _flags = reader.number(1), reader.number(1), reader.number(1)
    if version not in (1, 2) or rank > _MAX_RANK:
        raise source.damaged("a shape", f"version {version}, {rank} axes", where)
    kind = reader.number(1)
    if version == 1:
        reader.take(4)
        kind = 1 if rank else 0
    if kind == 2:
        return None
    if kind > 2 or (kind == 0) != (rank == 0):
        raise source.damaged("a shape", f"kind {kind} with {rank} axes", where)
    shape = tuple(reader.number(8) for _ in range(rank))
    if math.prod(max(1, length) for length in shape) >= 2**62:
        raise source.refused("a shape of fewer than 2^62 values", str(shape), where)
    return shape


def read_type(source: Source, content: bytes, where: str, *, attribute: bool = False) -> StoredType:
    """
    Read a datatype message.

    Parameters
    ----------
    source : Source
        The file, for messages.
    content : bytes
        The message.
    where : str
        Place in the file.
    attribute : bool
        Let text of variable length and opaque bytes in too, which attributes may have.

    Returns
    -------
    StoredType
        The type.

    Raises
    ------
    FormatError
        If it is broken.
    UntrustedFileError
        If it is not one of those that are let in.
    """
    reader = Reader(source, content, where)
    first = reader.number(1)
    kind, version = first & 15, first >> 4
    bits, size = reader.number(3), reader.number(4)
    if version not in (1, 2, 3, 4, 5) or size == 0:
        raise source.damaged("a type", f"version {version} of {size} bytes", where)
    match kind:
        case 0:
            return StoredType(_integer(source, reader, bits, size, where), size, "number")
        case 1:
            return StoredType(_float(source, reader, bits, size, where), size, "number")
        case 3:
            return _text(source, bits, size, where)
        case 8 if _is_boolean(source, reader, bits, version, where):
            return StoredType(np.dtype(np.bool_), 1, "bool")
        case 5 if attribute:
            return StoredType(None, size, "opaque")
        case 9 if attribute and bits & 15 == 1 and size == 16:
            return StoredType(None, size, "vlen text")
    found = _CLASSES.get(kind, f"type class {kind}")
    raise source.refused(_TYPES, found, where)


def _integer(
    source: Source, reader: Reader, bits: int, size: int, where: str
) -> np.dtype[np.generic]:
    offset, precision = reader.number(2), reader.number(2)
    if size not in (1, 2, 4, 8) or offset or precision != 8 * size or bits & ~0b1001:
        raise source.refused(_TYPES, f"an integer of {precision} bits in {size} bytes", where)
    order, sign = "<>"[bits & 1], "ui"[bits >> 3 & 1]
    return np.dtype(f"{order}{sign}{size}")


_FLOATS: Final = {
    2: (0, 16, 10, 5, 0, 10, 15),
    4: (0, 32, 23, 8, 0, 23, 127),
    8: (0, 64, 52, 11, 0, 52, 1023),
}
"""IEEE 754: bit offset, precision, place and size of exponent and mantissa, bias."""


def _float(
    source: Source, reader: Reader, bits: int, size: int, where: str
) -> np.dtype[np.generic]:
    found = struct.unpack("<HHBBBBI", reader.take(12))
    sign_at, norm = bits >> 8 & 255, bits >> 4 & 3
    if _FLOATS.get(size) != found or sign_at != 8 * size - 1 or norm != 2 or bits & 0b1000000:
        raise source.refused(_TYPES, f"a float of {size} bytes that is not IEEE 754", where)
    return np.dtype(f"{'<>'[bits & 1]}f{size}")


def _text(source: Source, bits: int, size: int, where: str) -> StoredType:
    padding, charset = bits & 15, bits >> 4 & 15
    if padding > 2 or charset > 1:
        raise source.damaged("text", f"padding {padding} of character set {charset}", where)
    if size > source.limits.text_nbytes:
        expected = f"text of at most {source.limits.text_nbytes} bytes"
        raise source.refused(expected, f"{size} bytes", where)
    return StoredType(np.dtype(f"S{size}"), size, "text", charset == 1, padding)


def _is_boolean(source: Source, reader: Reader, bits: int, version: int, where: str) -> bool:
    """Tell whether an enumeration is FALSE = 0, TRUE = 1 of one byte, as h5py writes it."""
    if bits & 0xFFFF != 2 or reader.left() < 12:
        return False
    base = reader.take(12)
    if base[0] & 15 != 0 or base[4:8] != b"\1\0\0\0":
        return False
    names = []
    for _ in range(2):
        name = b""
        while (one := reader.take(1)) != b"\0":
            name += one
            if len(name) > 8:
                return False
        if version < 3:
            reader.take(-(len(name) + 1) % 8)
        names.append(name)
    values = reader.take(2)
    if reader.left() > 8:
        raise source.damaged("an enumeration of two values", "more", where)
    return names == [b"FALSE", b"TRUE"] and values == b"\0\1"


def read_filters(source: Source, content: bytes, where: str) -> tuple[int, ...]:
    """
    Read a filter pipeline message.

    Parameters
    ----------
    source : Source
        The file, for messages.
    content : bytes
        The message.
    where : str
        Place in the file.

    Returns
    -------
    tuple of int
        The filters, in the order they were applied in.

    Raises
    ------
    FormatError
        If it is broken.
    UntrustedFileError
        If a filter is not one of those that are let in, or comes twice.
    """
    reader = Reader(source, content, where)
    version, count = reader.number(1), reader.number(1)
    if version not in (1, 2) or count > 32:
        raise source.damaged("a list of filters", f"version {version} of {count}", where)
    if version == 1:
        reader.take(6)
    filters = []
    for _ in range(count):
        number = reader.number(2)
        name_nbytes = reader.number(2) if version == 1 or number >= 256 else 0
        reader.take(2)
        n_values = reader.number(2)
        reader.take(name_nbytes + (-name_nbytes % 8 if version == 1 else 0))
        reader.take(4 * n_values + (4 * (n_values % 2) if version == 1 else 0))
        filters.append(number)
    if unknown := [number for number in filters if number not in _FILTERS]:
        expected = f"no filters but {', '.join(_FILTERS.values())}"
        raise source.refused(expected, f"filter {unknown[0]}", where)
    if len(set(filters)) < len(filters) or len(COMPRESSORS & set(filters)) > 1:
        names = ", ".join(_FILTERS[number] for number in filters)
        raise source.refused("each filter once and one way to compress", names, where)
    return tuple(filters)


def read_storage(source: Source, content: bytes, where: str) -> tuple[Storage, bytes]:
    """
    Read a data layout message.

    Parameters
    ----------
    source : Source
        The file, for messages.
    content : bytes
        The message.
    where : str
        Place in the file.

    Returns
    -------
    storage : Storage
        Where the data is.
    compact : bytes
        The data itself, where it is in the message.

    Raises
    ------
    FormatError
        If it is broken.
    UntrustedFileError
        If the data is not in the file itself, or indexed in a way that is not let in.
    """
    reader = Reader(source, content, where)
    version, kind = reader.number(1), reader.number(1)
    if version not in (3, 4, 5):
        raise source.refused("storage as HDF5 1.8 or later writes it", f"version {version}", where)
    match kind:
        case 0:
            size = reader.number(2)
            return Storage("compact", UNDEFINED, size), reader.take(size)
        case 1:
            return Storage("contiguous", reader.number(8), reader.number(8)), b""
        case 2 if version == 3:
            n_dims, address = reader.number(1), reader.number(8)
            chunk = _chunk_shape(source, reader, n_dims, 4, where)
            return Storage("chunked", address, chunk=chunk, index="tree"), b""
        case 2:
            return _chunked(source, reader, where), b""
        case 3:
            raise source.refused("data in the file itself", "virtual storage", where)
    raise source.damaged("a kind of storage", f"number {kind}", where)


def _chunk_shape(
    source: Source, reader: Reader, n_dims: int, width: int, where: str
) -> tuple[int, ...]:
    """Read the shape of a chunk: its last length is the size of a value."""
    if not 2 <= n_dims <= _MAX_RANK + 1 or not 1 <= width <= 8:
        raise source.damaged("a shape of chunks", f"{n_dims} axes", where)
    shape = tuple(reader.number(width) for _ in range(n_dims))
    nbytes = math.prod(shape)
    if nbytes == 0:
        raise source.damaged("chunks with something in them", f"shape {shape[:-1]}", where)
    if nbytes > source.limits.chunk_nbytes:
        expected = f"chunks of at most {source.limits.chunk_nbytes} bytes"
        raise source.refused(expected, f"{nbytes} bytes", where)
    return shape[:-1]


def _chunked(source: Source, reader: Reader, where: str) -> Storage:
    flags, n_dims, width = reader.number(1), reader.number(1), reader.number(1)
    chunk = _chunk_shape(source, reader, n_dims, width, where)
    index = reader.number(1)
    filtered_size, mask = -1, 0
    match index:
        case 1:
            if flags & 2:
                filtered_size, mask = reader.number(8), reader.number(4)
            name = "single"
        case 3:
            reader.take(1)
            name = "fixed array"
        case _:
            found = {2: "none", 4: "an extensible array", 5: "a tree of version 2"}
            expected = "chunks of columns that cannot grow, or indexed as HDF5 1.8 does"
            raise source.refused(expected, found.get(index, f"index {index}"), where)
    if flags & 1:
        raise source.refused("filters on every chunk", "none on those at the edges", where)
    return Storage("chunked", reader.number(8), 0, chunk, name, filtered_size, mask)
