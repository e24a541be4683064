"""
Walk through the structure of an HDF5 file of unknown origin, in plain Python.

Nothing is followed but hard links, each object has one name, and what a table of columns does
not need is refused before a byte of data is read.

References
----------
.. [1] HDF5 File Format Specification, version 3.0, sections II, III and IV.
"""

from __future__ import annotations

import math
import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from astropile.gate.heaps import FractalHeap, GlobalHeaps, LocalHeap
from astropile.gate.messages import (
    FLETCHER32,
    UNDEFINED,
    Reader,
    Storage,
    StoredType,
    checked_name,
    read_filters,
    read_shape,
    read_storage,
    read_type,
)
from astropile.gate.source import Source
from astropile.gate.trees import Chunk, array_chunks, old_nodes, records, tree_chunks

MAGIC: Final = b"\x89HDF\r\n\x1a\n"

_LINK_RECORD: Final = {5: 11}
_ATTRIBUTE_RECORD: Final = {8: 17}
_MAX_MESSAGES: Final = 65536
_PLAIN: Final = frozenset({0x00, 0x04, 0x05, 0x0A, 0x0D, 0x0E, 0x12, 0x16})
"""Messages that say nothing of what is read: fill values, times, comments, counts."""

_OF_EXTENSION: Final = frozenset({0x00, 0x13, 0x16, 0x17})


@dataclass(frozen=True)
class Dataset:
    """
    One column of a file of unknown origin.

    Parameters
    ----------
    name : str
        Its path in the file.
    shape : tuple of int
        Its shape.
    type : StoredType
        Of its values.
    filters : tuple of int
        Applied to its chunks, in this order.
    storage : Storage
        Where the data is.
    compact : bytes
        The data, where it stands in the header.
    chunks : array of int64
        For each chunk, in order of the first values: its first byte, bytes, filter mask.
    attributes : dict
        Texts and numbers; None for what is neither.
    """

    name: str
    shape: tuple[int, ...]
    type: StoredType
    filters: tuple[int, ...]
    storage: Storage
    compact: bytes
    chunks: array[int]
    attributes: dict[str, Any]

    @property
    def nbytes(self) -> int:
        """Bytes of its values."""
        return math.prod(self.shape) * self.type.itemsize

    @property
    def is_checked(self) -> bool:
        """Whether its data carries checksums."""
        return FLETCHER32 in self.filters or 1 in self.filters or not self.nbytes


@dataclass
class Structure:
    """
    What a file of unknown origin holds.

    Parameters
    ----------
    attributes : dict
        Of the root group.
    datasets : list of Dataset
        Its columns.
    groups : list of str
        Its groups but the root.
    superblock : int
        Version of the file's own header; from 2 on, metadata carries checksums.
    """

    attributes: dict[str, Any] = field(default_factory=dict)
    datasets: list[Dataset] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    superblock: int = 0


@dataclass
class _Header:
    """The messages of an object, sorted by what is done with them."""

    links: list[bytes] = field(default_factory=list)
    attributes: list[bytes] = field(default_factory=list)
    other: dict[int, bytes] = field(default_factory=dict)


def read_structure(source: Source) -> Structure:
    """
    Read everything of a file but its data.

    Parameters
    ----------
    source : Source
        The file.

    Returns
    -------
    Structure
        Its attributes and columns.

    Raises
    ------
    FormatError
        If it is damaged, or no HDF5 file.
    UntrustedFileError
        If it has what is not let in.
    """
    return _Walk(source).run()


def root_address(source: Source) -> tuple[int, int]:
    """
    Read where an HDF5 file begins and ends.

    Parameters
    ----------
    source : Source
        The file.

    Returns
    -------
    root, extension : int
        First bytes of the header of the root group, and of the rest of the file's own header.

    Raises
    ------
    FormatError
        If it is no HDF5 file, not all of it, or was never closed.
    UntrustedFileError
        If its addresses are not of 64 bits.
    """
    head = source.raw(0, min(source.size, 96))
    if not head:
        raise source.damaged("an HDF5 file", "an empty file")
    if not head.startswith(MAGIC):
        raise source.damaged("an HDF5 file", _what_else(source))
    reader = Reader(source, head, "superblock")
    reader.take(8)
    version = reader.number(1)
    if version in (0, 1):
        reader.take(4)
        sizes = (reader.number(1), reader.number(1))
        reader.take(9 if version == 0 else 13)
        status, (base, _free, end, driver, _name, root) = 0, struct.unpack("<6Q", reader.take(48))
        extension = UNDEFINED
        if driver != UNDEFINED:
            raise source.refused("data in the file itself", "a driver for other files")
    elif version in (2, 3):
        sizes = (reader.number(1), reader.number(1))
        status = reader.number(1)
        base, extension, end, root = struct.unpack("<4Q", reader.take(32))
        source.check(head[:48], "superblock")
    else:
        raise source.damaged("an HDF5 file of a known version", f"version {version}")
    if version == 3 and status:
        raise source.damaged("a file that was closed", "its writer died or is still writing")
    if sizes != (8, 8) or base != 0:
        raise source.refused("addresses of 64 bits from the file's first byte", "others")
    if end > source.size:
        raise source.damaged(f"{end} bytes", f"{source.size}: short by {end - source.size} bytes")
    if end < source.size:
        raise source.damaged(f"{end} bytes", f"{source.size - end} more after its end")
    return root, extension


def _what_else(source: Source) -> str:
    start = source.raw(0, min(source.size, 512)).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype", b"<html", b"<head", b"<body")):
        return "a web page (HTML), as a server gives in place of a file"
    for magic, name in (
        (b"simple  =", "a FITS file"),
        (b"\x1f\x8b", "a gzip file"),
        (b"pk\x03\x04", "a zip file"),
        (b"<?xml", "an XML document"),
        (b"{", "a JSON document"),
        (b"version https://git-lfs", "a pointer of Git LFS, not the file"),
    ):
        if start.startswith(magic):
            return name
    return "something else"


class _Walk:
    """One way through a file."""

    def __init__(self, source: Source) -> None:
        self._source, self._limits = source, source.limits
        self._texts = GlobalHeaps(source)
        self._visited: set[int] = set()
        self._n_objects = self._n_chunks = self._stored_nbytes = 0
        self._found = Structure()

    def run(self) -> Structure:
        root, extension = root_address(self._source)
        self._found.superblock = self._source.raw(8, 1)[0]
        if extension != UNDEFINED:
            self._extension(extension)
        waiting = [(root, "", 0)]
        while waiting:
            address, name, depth = waiting.pop()
            where = name or "root group"
            if address in self._visited:
                raise self._source.refused("each object under one name", "a second one", where)
            self._visited.add(address)
            self._n_objects += 1
            if self._n_objects > self._limits.objects:
                expected = f"at most {self._limits.objects} datasets and groups"
                raise self._source.refused(expected, "more")
            header = self._header(address, where)
            if 0x08 in header.other:
                self._found.datasets.append(self._dataset(header, name))
                continue
            children = self._children(header, where)
            if depth == self._limits.depth and children:
                expected = f"groups at most {self._limits.depth} deep"
                raise self._source.refused(expected, "deeper ones", where[:80])
            attributes = self._attributes(header, where)
            if name:
                self._found.groups.append(name)
            else:
                self._found.attributes = attributes
            folder = f"{name}/" if name else ""
            waiting += [(child, folder + own, depth + 1) for own, child in reversed(children)]
        return self._found

    # -- object headers

    def _extension(self, address: int) -> None:
        for kind, _, _ in self._messages(address, "superblock extension"):
            if kind not in _OF_EXTENSION:
                found = f"message {kind:#x} in the extension of the superblock"
                raise self._source.refused("a plain HDF5 file", found)

    def _header(self, address: int, where: str) -> _Header:
        header = _Header()
        for kind, flags, content in self._messages(address, where):
            if kind in _PLAIN:
                continue
            if flags & 2:
                found = "one kept elsewhere (a committed type)"
                raise self._source.refused("types and shapes in the object itself", found, where)
            match kind:
                case 0x06:
                    header.links.append(content)
                case 0x0C:
                    header.attributes.append(content)
                    if len(header.attributes) > self._limits.attributes:
                        raise self._too_many(where)
                case 0x07:
                    raise self._source.refused("data in the file itself", "external storage", where)
                case 0x01 | 0x02 | 0x03 | 0x08 | 0x0B | 0x11 | 0x15:
                    if kind in header.other:
                        raise self._source.damaged("one header", f"{kind:#x} twice", where)
                    header.other[kind] = content
                case _:
                    raise self._source.refused("groups and columns", f"message {kind:#x}", where)
        return header

    def _too_many(self, where: str) -> Exception:
        expected = f"at most {self._limits.attributes} attributes"
        return self._source.refused(expected, "more", where)

    def _messages(self, address: int, where: str) -> Iterator[tuple[int, int, bytes]]:
        """Read the messages of an object header: kind, flags, content."""
        self._source.enter(address)
        head = self._source.metadata(address, 16)
        if head[:4] == b"OHDR":
            blocks, tracked = self._new_blocks(address, head, where)
            layout = "<BHB"
        elif head[0] == 1:
            (n_bytes,) = struct.unpack_from("<I", head, 8)
            blocks, tracked = [self._source.metadata(address + 16, n_bytes)], 3
            layout = "<HHB"
        else:
            raise self._source.damaged("an object", f"none at byte {address}", where)
        head_nbytes = struct.calcsize(layout) + tracked
        count = 0
        for block in blocks:
            at = 0
            while at + head_nbytes <= len(block):
                kind, n_bytes, flags = struct.unpack_from(layout, block, at)
                at += head_nbytes
                content = block[at : at + n_bytes]
                at += n_bytes
                count += 1
                if len(content) < n_bytes or count > _MAX_MESSAGES:
                    raise self._source.damaged("a whole header", "one that ends early", where)
                if kind == 0x10:
                    blocks.append(self._continued(content, where, is_new=layout == "<BHB"))
                else:
                    yield kind, flags, content

    def _new_blocks(self, address: int, head: bytes, where: str) -> tuple[list[bytes], int]:
        flags = head[5]
        before = 6 + 16 * bool(flags & 0x20) + 4 * bool(flags & 0x10)
        width = 1 << (flags & 3)
        head = self._source.metadata(address, before + width)
        n_bytes = int.from_bytes(head[before:], "little")
        content = self._source.metadata(address, before + width + n_bytes + 4)
        self._source.check(content, where)
        if content[4] != 2:
            raise self._source.damaged("an object header", f"version {content[4]}", where)
        return [content[before + width : -4]], 2 * bool(flags & 4)

    def _continued(self, content: bytes, where: str, *, is_new: bool) -> bytes:
        reader = Reader(self._source, content, where)
        start, n_bytes = reader.number(8), reader.number(8)
        if is_new:
            return self._source.block(start, n_bytes, b"OCHK", where)
        self._source.enter(start)
        return self._source.metadata(start, n_bytes)

    # -- groups

    def _children(self, header: _Header, where: str) -> list[tuple[str, int]]:
        """Name the objects of a group and where their headers are."""
        if not {0x02, 0x11} & set(header.other):
            raise self._source.refused("groups and columns", "another object", where)
        found = [self._link(content, where) for content in header.links]
        if 0x02 in header.other:
            dense = self._dense(header.other[0x02], where, _LINK_RECORD, skip=4, is_link=True)
            found += [self._link(content, where) for content in dense]
        if 0x11 in header.other:
            found += self._old_links(header.other[0x11], where)
        names = {name for name, _ in found}
        if len(names) < len(found):
            raise self._source.damaged("names that differ", "one name twice", where)
        return found

    def _dense(
        self, content: bytes, where: str, kinds: dict[int, int], *, skip: int, is_link: bool
    ) -> Iterator[bytes]:
        """Read links or attributes that a group keeps in a heap."""
        reader = Reader(self._source, content, where)
        version, flags = reader.number(1), reader.number(1)
        if version != 0:
            raise self._source.damaged("a list", f"version {version}", where)
        reader.take((8 if is_link else 2) * (flags & 1))
        heap_address, tree = reader.number(8), reader.number(8)
        if heap_address == UNDEFINED:
            return
        heap = FractalHeap(self._source, heap_address, where)
        limit = self._limits.objects if is_link else self._limits.attributes
        for count, record in enumerate(records(self._source, tree, kinds, where)):
            if count == limit:
                noun = "datasets and groups" if is_link else "attributes"
                raise self._source.refused(f"at most {limit} {noun}", "more", where)
            yield heap.get(record[skip:] if is_link else record[:8])

    def _link(self, content: bytes, where: str) -> tuple[str, int]:
        reader = Reader(self._source, content, where)
        version, flags = reader.number(1), reader.number(1)
        kind = reader.number(1) if flags & 8 else 0
        reader.take(8 * bool(flags & 4) + bool(flags & 16))
        raw = reader.take(reader.number(1 << (flags & 3)))
        if version != 1:
            raise self._source.damaged("a link", f"version {version}", where)
        name = checked_name(self._source, raw, where)
        if kind:
            found = {1: "a soft link", 64: "an external link"}.get(kind, f"a link of kind {kind}")
            raise self._source.refused("hard links only", f"{found} {name!r}", where)
        return name, reader.number(8)

    def _old_links(self, content: bytes, where: str) -> list[tuple[str, int]]:
        reader = Reader(self._source, content, where)
        tree, heap = reader.number(8), LocalHeap(self._source, reader.number(8), where)
        found: list[tuple[str, int]] = []
        for _, start in old_nodes(self._source, tree, 0, 8, where):
            self._source.enter(start)
            head = self._source.metadata(start, 8)
            magic, _, _, n = struct.unpack("<4sBBH", head)
            if magic != b"SNOD":
                raise self._source.damaged("a block SNOD", f"none at byte {start}", where)
            entries = self._source.metadata(start + 8, 40 * n)
            for offset, address, cache, _, _ in struct.iter_unpack("<QQII16s", entries):
                name = checked_name(self._source, heap.name(offset), where)
                if cache == 2:
                    raise self._source.refused("hard links only", f"a soft link {name!r}", where)
                found.append((name, address))
                if len(found) > self._limits.objects:
                    expected = f"at most {self._limits.objects} datasets and groups"
                    raise self._source.refused(expected, "more", where)
        return found

    # -- attributes

    def _attributes(self, header: _Header, where: str) -> dict[str, Any]:
        contents = list(header.attributes)
        if 0x15 in header.other:
            contents += self._dense(
                header.other[0x15], where, _ATTRIBUTE_RECORD, skip=0, is_link=False
            )
        if len(contents) > self._limits.attributes:
            raise self._too_many(where)
        return dict(self._attribute(content, where) for content in contents)

    def _attribute(self, content: bytes, where: str) -> tuple[str, Any]:
        reader = Reader(self._source, content, where)
        version, flags = reader.number(1), reader.number(1)
        name_nbytes, type_nbytes, shape_nbytes = (reader.number(2) for _ in range(3))
        if version not in (1, 2, 3):
            raise self._source.damaged("an attribute", f"version {version}", where)
        if flags & 3 and version > 1:
            raise self._source.refused("types in the attribute itself", "a committed type", where)
        if version == 3:
            reader.take(1)
        padded = version == 1

        def take(n_bytes: int) -> bytes:
            part = reader.take(n_bytes)
            reader.take(-n_bytes % 8 if padded else 0)
            return part

        raw = take(name_nbytes).partition(b"\0")[0]
        name = checked_name(self._source, raw, f"{where}, attribute")
        place = f"{where}, attribute {name}"
        kind = read_type(self._source, take(type_nbytes), place, attribute=True)
        shape = read_shape(self._source, take(shape_nbytes), place)
        n_bytes = 0 if shape is None else kind.itemsize * math.prod(shape)
        if n_bytes > self._limits.attribute_nbytes:
            expected = f"attributes of at most {self._limits.attribute_nbytes} bytes"
            raise self._source.refused(expected, f"{n_bytes} bytes", place)
        return name, self._value(kind, shape, reader.take(n_bytes), place)

    def _value(
        self, kind: StoredType, shape: tuple[int, ...] | None, raw: bytes, where: str
    ) -> str | int | float | None:
        """Give a text or a number; None for everything else, which is never interpreted."""
        if shape is None or math.prod(shape) != 1:
            return None
        if kind.kind == "vlen text":
            return self._decoded(self._texts.text(raw, where), where)
        if kind.kind == "text":
            return self._decoded(raw.rstrip(b"\0"), where)
        if kind.dtype is None:
            return None
        value: Any = np.frombuffer(raw, kind.dtype)[0].item()
        return value if isinstance(value, int | float) else None

    def _decoded(self, raw: bytes, where: str) -> str:
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise self._source.refused("text in UTF-8", "other bytes", where) from None

    # -- columns

    def _dataset(self, header: _Header, name: str) -> Dataset:
        missing = {0x01, 0x03} - set(header.other)
        if missing or header.links or {0x02, 0x11} & set(header.other):
            raise self._source.damaged("a column", "half of one", name)
        kind = read_type(self._source, header.other[0x03], name)
        shape = read_shape(self._source, header.other[0x01], name)
        if shape is None:
            raise self._source.refused("columns with values", "one without a shape", name)
        filters = (
            read_filters(self._source, header.other[0x0B], name) if 0x0B in header.other else ()
        )
        storage, compact = read_storage(self._source, header.other[0x08], name)
        attributes = self._attributes(header, name)
        found = Dataset(name, shape, kind, filters, storage, compact, array("q"), attributes)
        if filters and storage.kind != "chunked":
            raise self._source.damaged("filters on chunks", f"on {storage.kind} data", name)
        match storage.kind:
            case "compact" if storage.size != found.nbytes:
                raise self._source.damaged(f"{found.nbytes} bytes", f"{storage.size}", name)
            case "contiguous":
                self._contiguous(found)
            case "chunked":
                self._chunks(found)
        return found

    def _count(self, n_bytes: int, where: str) -> None:
        """Count stored data: bytes that are given to two columns would be counted twice."""
        self._stored_nbytes += n_bytes
        if self._stored_nbytes > self._source.size:
            raise self._source.refused("data that is stored", "more than the file has", where)

    def _contiguous(self, column: Dataset) -> None:
        start, size = column.storage.address, column.storage.size
        if not column.nbytes:
            return
        if start == UNDEFINED:
            raise self._source.refused("all data stored", "none of this column", column.name)
        if size != column.nbytes:
            raise self._source.damaged(f"{column.nbytes} bytes", f"{size}", column.name)
        if start + size > self._source.size:
            raise self._source.damaged(
                f"{size} bytes from byte {start} on", f"a file of {self._source.size}", column.name
            )
        self._count(size, column.name)

    def _chunks(self, column: Dataset) -> None:
        """Read the index of the chunks: every one must be there, inside the file, once."""
        shape, chunk, where = column.shape, column.storage.chunk, column.name
        if len(chunk) != len(shape) or not shape:
            raise self._source.damaged(f"chunks of {len(shape)} axes", f"{len(chunk)}", where)
        if not column.nbytes:
            return
        nbytes = math.prod(chunk) * column.type.itemsize
        grid = tuple(-(-length // size) for length, size in zip(shape, chunk, strict=True))
        n_chunks = math.prod(grid)
        self._n_chunks += n_chunks
        # Before the index is read, which would be too long for such a file, or says too little.
        least = max(1, -(-nbytes // self._limits.ratio)) if column.filters else nbytes
        if n_chunks * least > self._source.size or column.storage.address == UNDEFINED:
            raise self._source.refused(
                "all data stored",
                f"{n_chunks * nbytes} bytes declared in a file of {self._source.size}",
                where,
            )
        if self._n_chunks > self._limits.chunks:
            raise self._source.refused(f"at most {self._limits.chunks} chunks", "more", where)
        column.chunks.frombytes(bytes(24 * n_chunks))
        for start, size, mask, place in self._listed(column, grid, nbytes):
            if start == UNDEFINED:
                raise self._source.refused("all chunks stored", f"none for {place}", where)
            number = _number(place, chunk, grid)
            if number is None or column.chunks[3 * number + 1]:
                raise self._source.damaged("each chunk once", f"another for {place}", where)
            if size < least or size > 2 * nbytes + 4096 or start + size > self._source.size:
                raise self._source.damaged(
                    "chunks inside the file and no smaller than what is in them can be",
                    f"{size} bytes from byte {start} on",
                    where,
                )
            if mask & ~_optional(column.filters):
                raise self._source.refused("a checksum on every chunk", "a chunk without", where)
            if not column.filters and size != nbytes:
                raise self._source.damaged(f"chunks of {nbytes} bytes", f"{size}", where)
            self._count(size, where)
            column.chunks[3 * number : 3 * number + 3] = array("q", (start, size, mask))
        for number in range(n_chunks):
            if not column.chunks[3 * number + 1]:
                raise self._source.refused("all chunks stored", f"chunk {number} missing", where)

    def _listed(self, column: Dataset, grid: tuple[int, ...], nbytes: int) -> Iterator[Chunk]:
        storage, where = column.storage, column.name
        if storage.index == "tree":
            return tree_chunks(self._source, storage.address, len(grid), where)
        if storage.index == "fixed array":
            place = (storage.address, grid, storage.chunk, nbytes, where)
            return array_chunks(self._source, *place, filtered=bool(column.filters))
        if math.prod(grid) != 1:
            raise self._source.damaged("one chunk", f"{math.prod(grid)}", where)
        if (storage.filtered_size >= 0) != bool(column.filters):
            raise self._source.damaged("a chunk with the filters of its column", "others", where)
        size = nbytes if storage.filtered_size < 0 else storage.filtered_size
        return iter([(storage.address, size, storage.filter_mask, (0,) * len(grid))])


def _optional(filters: tuple[int, ...]) -> int:
    """Give the mask of those filters that may be left out of a chunk: all but its checksum."""
    return sum(1 << i for i, number in enumerate(filters) if number != FLETCHER32)


def _number(place: tuple[int, ...], chunk: tuple[int, ...], grid: tuple[int, ...]) -> int | None:
    """Count a chunk by its first value; None where no chunk begins there."""
    number = 0
    for at, size, length in zip(place, chunk, grid, strict=True):
        along, rest = divmod(at, size)
        if rest or along >= length:
            return None
        number = number * length + along
    return number
