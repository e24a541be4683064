"""
The heaps of HDF5: where names, attributes and texts of any length are kept.

References
----------
.. [1] HDF5 File Format Specification, version 3.0, sections III.D, III.E and III.G.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from astropile.gate.checksums import lookup3
from astropile.gate.messages import UNDEFINED, Reader
from astropile.gate.source import Source
from astropile.gate.trees import records

_HUGE_RECORD: Final = 1
_CHECKSUM_NBYTES: Final = 4
_GLOBAL_HEAP_NBYTES: Final = 2**24


@dataclass(frozen=True)
class _Shape:
    """How a fractal heap doubles its blocks."""

    width: int
    start_nbytes: int
    max_direct_nbytes: int

    def row_nbytes(self, row: int) -> int:
        """Size of the blocks of a row."""
        return self.start_nbytes << max(0, row - 1)

    @property
    def direct_rows(self) -> int:
        """Rows whose blocks hold data; those of later rows hold blocks."""
        return self.max_direct_nbytes.bit_length() - self.start_nbytes.bit_length() + 2


class FractalHeap:
    """
    A heap of links or attributes.

    Parameters
    ----------
    source : Source
        The file.
    address : int
        First byte of its header.
    where : str
        Place in the file, for messages.

    Raises
    ------
    FormatError
        If it is broken.
    UntrustedFileError
        If its blocks are compressed.
    """

    def __init__(self, source: Source, address: int, where: str) -> None:
        self._source, self._where, self._address = source, where, address
        if source.metadata(address, 9)[7:9] != b"\0\0":
            raise source.refused("attributes that are not compressed", "filters on them", where)
        reader = Reader(source, source.block(address, 146, b"FRHP", where), where)
        version = reader.number(1)
        self._id_nbytes = reader.number(2)
        reader.take(2)
        self._has_sums = bool(reader.number(1) & 2)
        max_managed = reader.number(4)
        reader.take(8)
        self._huge_tree = reader.number(8)
        reader.take(8 * 10)
        self._shape = _Shape(reader.number(2), reader.number(8), reader.number(8))
        max_bits = reader.number(2)
        reader.take(2)
        self._root, self._root_rows = reader.number(8), reader.number(2)
        shape = self._shape
        whole = (
            version == 0
            and _is_power(shape.width)
            and shape.width <= 1024
            and 0 < max_bits <= 64
            and _is_power(shape.start_nbytes)
            and _is_power(shape.max_direct_nbytes)
            and 512 <= shape.start_nbytes <= shape.max_direct_nbytes <= 2**24
            and max_managed <= shape.max_direct_nbytes
            and self._root_rows <= 64
        )
        if not whole:
            raise source.damaged("a heap", "numbers that fit none", where)
        self._offset_nbytes = (max_bits + 7) // 8
        self._length_nbytes = min(
            (shape.max_direct_nbytes.bit_length() + 6) // 8, (max_managed.bit_length() - 1) // 8 + 1
        )
        self._direct: dict[int, bytes] = {}
        self._indirect: dict[int, bytes] = {}
        self._huge: dict[int, tuple[int, int]] | None = None

    def get(self, key: bytes) -> bytes:
        """
        Give an object of the heap.

        Parameters
        ----------
        key : bytes
            What stands for it in an index.

        Returns
        -------
        bytes
            Its content.

        Raises
        ------
        FormatError
            If there is none.
        UntrustedFileError
            If it is too large.
        """
        reader = Reader(self._source, key, self._where)
        match reader.number(1):
            case 0x00:
                offset = reader.number(self._offset_nbytes)
                length = reader.number(self._length_nbytes)
                return self._managed(offset, length)
            case 0x10:
                return self._huge_object(key)
            case first if first >> 4 == 2 and self._id_nbytes <= 17:
                return reader.take((first & 15) + 1)
        raise self._source.damaged("an object of a heap", "none", self._where)

    def _huge_object(self, key: bytes) -> bytes:
        if self._id_nbytes >= 17:
            reader = Reader(self._source, key[1:], self._where)
            start, length = reader.number(8), reader.number(8)
        else:
            if self._huge is None:
                self._huge = {}
                for record in records(
                    self._source, self._huge_tree, {_HUGE_RECORD: 24}, self._where
                ):
                    start, length, number = struct.unpack("<QQQ", record)
                    self._huge[number] = (start, length)
            number = int.from_bytes(key[1:], "little")
            if number not in self._huge:
                raise self._source.damaged("an object of a heap", "none", self._where)
            start, length = self._huge[number]
        if length > self._source.limits.attribute_nbytes:
            expected = f"attributes of at most {self._source.limits.attribute_nbytes} bytes"
            raise self._source.refused(expected, f"{length} bytes", self._where)
        return self._source.metadata(start, length)

    def _managed(self, offset: int, length: int) -> bytes:
        block, first = self._block_with(offset)
        begin = offset - first
        if begin + length > len(block):
            raise self._source.damaged("an object of a heap", "one too long", self._where)
        return block[begin : begin + length]

    def _block_with(self, offset: int) -> tuple[bytes, int]:
        """Find the block of data that holds a place of the heap, and the place it starts at."""
        if self._root_rows == 0:
            return self._direct_block(self._root, self._shape.start_nbytes), 0
        address, rows, base = self._root, self._root_rows, 0
        shape = self._shape
        for _ in range(64):
            children = self._indirect_block(address, rows)
            first = base
            for row in range(rows):
                size = shape.row_nbytes(row)
                if offset < first + shape.width * size:
                    break
                first += shape.width * size
            else:
                break
            column = (offset - first) // size
            base = first + column * size
            at = row * shape.width + column
            (address,) = struct.unpack_from("<Q", children, 8 * at)
            if row < shape.direct_rows:
                return self._direct_block(address, size), base
            rows = size.bit_length() - (shape.start_nbytes * shape.width).bit_length() + 1
            if rows < 1:
                break
        raise self._source.damaged("an object of a heap", "none", self._where)

    def _direct_block(self, address: int, n_bytes: int) -> bytes:
        if address not in self._direct:
            self._source.enter(address)
            content = self._source.metadata(address, n_bytes)
            if content[:13] != b"FHDB\0" + self._address.to_bytes(8, "little"):
                raise self._source.damaged("a block FHDB", f"none at byte {address}", self._where)
            if self._has_sums:
                at = 13 + self._offset_nbytes
                stored = int.from_bytes(content[at : at + 4], "little")
                if lookup3(content[:at] + bytes(4) + content[at + 4 :]) != stored:
                    raise self._source.damaged(
                        "an intact block FHDB", "another checksum", self._where
                    )
            self._direct[address] = content
        return self._direct[address]

    def _indirect_block(self, address: int, rows: int) -> bytes:
        if address not in self._indirect:
            head = 13 + self._offset_nbytes
            n_bytes = head + 8 * rows * self._shape.width + _CHECKSUM_NBYTES
            body = self._source.block(address, n_bytes, b"FHIB", self._where)
            if body[:9] != b"\0" + self._address.to_bytes(8, "little"):
                raise self._source.damaged("a block of this heap", "one of another", self._where)
            self._indirect[address] = body[head - 4 :]
        return self._indirect[address]


def _is_power(number: int) -> bool:
    return number > 0 and number & (number - 1) == 0


class LocalHeap:
    """
    The heap of the names of a group as HDF5 1.6 and earlier write it.

    Parameters
    ----------
    source : Source
        The file.
    address : int
        First byte of its header.
    where : str
        Place in the file, for messages.

    Raises
    ------
    FormatError
        If it is broken.
    """

    def __init__(self, source: Source, address: int, where: str) -> None:
        source.enter(address)
        head = source.metadata(address, 32)
        if head[:4] != b"HEAP":
            raise source.damaged("a block HEAP", f"none at byte {address}", where)
        size, _free, start = struct.unpack_from("<QQQ", head, 8)
        self._content = source.metadata(start, size)

    def name(self, offset: int) -> bytes:
        """
        Give a name.

        Parameters
        ----------
        offset : int
            Where it starts.

        Returns
        -------
        bytes
            Up to its end; at most 300 bytes.
        """
        part = self._content[offset : offset + 300] if offset < len(self._content) else b""
        return part.partition(b"\0")[0]


class GlobalHeaps:
    """
    The heaps of texts of variable length, which only attributes may have.

    Parameters
    ----------
    source : Source
        The file.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._heaps: dict[int, dict[int, bytes]] = {}

    def text(self, reference: bytes, where: str) -> bytes:
        """
        Give a text.

        Parameters
        ----------
        reference : bytes
            Its length, the heap and its number there: 16 bytes.
        where : str
            Place in the file, for messages.

        Returns
        -------
        bytes
            The text.

        Raises
        ------
        FormatError
            If there is none.
        UntrustedFileError
            If the heap is too large.
        """
        length, address, number = struct.unpack("<IQI", reference)
        if length == 0 or address in (0, UNDEFINED):
            return b""
        if address not in self._heaps:
            self._heaps[address] = self._load(address, where)
        found = self._heaps[address].get(number)
        if found is None or len(found) < length:
            raise self._source.damaged("a text", "none", where)
        return found[:length]

    def _load(self, address: int, where: str) -> dict[int, bytes]:
        self._source.enter(address)
        head = self._source.metadata(address, 16)
        (size,) = struct.unpack_from("<Q", head, 8)
        if head[:4] != b"GCOL" or size < 16:
            raise self._source.damaged("a block GCOL", f"none at byte {address}", where)
        if size > _GLOBAL_HEAP_NBYTES:
            expected = f"a heap of at most {_GLOBAL_HEAP_NBYTES} bytes"
            raise self._source.refused(expected, f"{size} bytes", where)
        reader = Reader(self._source, self._source.metadata(address + 16, size - 16), where)
        objects: dict[int, bytes] = {}
        while reader.left() >= 16:
            number = reader.number(2)
            reader.take(6)
            length = reader.number(8)
            if number == 0:
                break
            objects[number] = reader.take(length)
            reader.take(min(-length % 8, reader.left()))
        return objects
