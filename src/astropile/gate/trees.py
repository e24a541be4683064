"""
The indexes of HDF5: trees of both versions, and the fixed array of chunks.

References
----------
.. [1] HDF5 File Format Specification, version 3.0, sections III.A and VII.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Final

from astropile.gate.messages import UNDEFINED, Reader
from astropile.gate.source import Source

_MAX_DEPTH: Final = 16
_NODE_NBYTES: Final = 2**24

Chunk = tuple[int, int, int, tuple[int, ...]]
"""First byte, bytes as stored, filter mask, first value along each axis."""


def records(source: Source, address: int, kinds: Mapping[int, int], where: str) -> Iterator[bytes]:
    """
    Read the records of a tree of version 2, in order.

    Parameters
    ----------
    source : Source
        The file.
    address : int
        First byte of its header.
    kinds : mapping of int to int
        The kinds of record it may have, and the bytes of each.
    where : str
        Place in the file, for messages.

    Yields
    ------
    bytes
        One record.

    Raises
    ------
    FormatError
        If it is broken.
    """
    body = source.block(address, 38, b"BTHD", where)
    version, kind, node, size, depth, _, _, root, count, total = struct.unpack("<BBIHHBBQHQ", body)
    if version or kinds.get(kind) != size or depth > _MAX_DEPTH or not 64 <= node <= _NODE_NBYTES:
        raise source.damaged("a tree", f"kind {kind}, records of {size} bytes", where)
    # How many bytes a pointer takes follows from how many records can be below it.
    most = (node - 10) // size
    count_nbytes, total_nbytes = _width_of(most), [0]
    for level in range(1, depth + 1):
        pointer = 8 + count_nbytes + total_nbytes[level - 1]
        here = (node - 10 - pointer) // (size + pointer)
        if here < 1:
            raise source.damaged("a tree", "nodes with no room", where)
        most = (here + 1) * most + here
        total_nbytes.append(_width_of(most))

    def walk(start: int, level: int, n: int) -> Iterator[bytes]:
        magic = b"BTIN" if level else b"BTLF"
        pointer = 8 + count_nbytes + total_nbytes[level - 1] if level else 0
        n_bytes = 10 + n * size + (n + 1) * pointer * bool(level)
        if n_bytes > node:
            raise source.damaged("a tree", "a node too large", where)
        reader = Reader(source, source.block(start, n_bytes, magic, where), where)
        if reader.number(1) or reader.number(1) != kind:
            raise source.damaged("a tree", "nodes of another", where)
        own = [reader.take(size) for _ in range(n)]
        if not level:
            yield from own
            return
        for i in range(n + 1):
            child, below = reader.number(8), reader.number(count_nbytes)
            reader.take(total_nbytes[level - 1])
            yield from walk(child, level - 1, below)
            if i < n:
                yield own[i]

    found = 0
    if root != UNDEFINED:
        for record in walk(root, depth, count):
            found += 1
            yield record
    if found != total:
        raise source.damaged(f"a tree of {total} records", f"{found}", where)


def _width_of(most: int) -> int:
    """Give the bytes that a number up to this one takes."""
    return (most.bit_length() - 1) // 8 + 1 if most > 0 else 1


def old_nodes(
    source: Source, address: int, kind: int, key_nbytes: int, where: str
) -> Iterator[tuple[bytes, int]]:
    """
    Read the leaves of a tree of version 1.

    Parameters
    ----------
    source : Source
        The file.
    address : int
        First byte of its root.
    kind : {0, 1}
        Of a group, or of chunks.
    key_nbytes : int
        Bytes of a key.
    where : str
        Place in the file, for messages.

    Yields
    ------
    key : bytes
        What stands before a leaf.
    address : int
        The leaf.

    Raises
    ------
    FormatError
        If it is broken.
    """
    waiting = [(address, -1)]
    while waiting:
        start, expected = waiting.pop()
        source.enter(start)
        head = source.metadata(start, 24)
        magic, found, level, n = struct.unpack_from("<4sBBH", head)
        if magic != b"TREE" or found != kind or level > _MAX_DEPTH:
            raise source.damaged("a block TREE", f"none at byte {start}", where)
        if expected not in (-1, level):
            raise source.damaged(f"level {expected} of a tree", f"level {level}", where)
        body = source.metadata(start + 24, n * (key_nbytes + 8))
        entries = [
            (
                body[at : at + key_nbytes],
                int.from_bytes(body[at + key_nbytes : at + key_nbytes + 8], "little"),
            )
            for at in range(0, len(body), key_nbytes + 8)
        ]
        if level:
            waiting += [(child, level - 1) for _, child in reversed(entries)]
        else:
            yield from entries


def tree_chunks(source: Source, address: int, rank: int, where: str) -> Iterator[Chunk]:
    """
    Read the chunks that a tree of version 1 lists.

    Parameters
    ----------
    source : Source
        The file.
    address : int
        First byte of its root.
    rank : int
        Axes of the column.
    where : str
        Place in the file, for messages.

    Yields
    ------
    Chunk
        One chunk.

    Raises
    ------
    FormatError
        If it is broken.
    """
    layout = struct.Struct(f"<II{rank + 1}Q")
    for key, start in old_nodes(source, address, 1, layout.size, where):
        size, mask, *place = layout.unpack(key)
        yield start, size, mask, tuple(place[:-1])


def array_chunks(
    source: Source,
    address: int,
    grid: tuple[int, ...],
    chunk: tuple[int, ...],
    nbytes: int,
    where: str,
    *,
    filtered: bool,
) -> Iterator[Chunk]:
    """
    Read the chunks that a fixed array lists.

    Parameters
    ----------
    source : Source
        The file.
    address : int
        First byte of its header.
    grid : tuple of int
        Chunks along each axis.
    chunk : tuple of int
        Shape of a chunk.
    nbytes : int
        Bytes of a chunk that is not filtered.
    where : str
        Place in the file, for messages.
    filtered : bool
        Whether the column has filters.

    Yields
    ------
    Chunk
        One chunk.

    Raises
    ------
    FormatError
        If it is broken.
    """
    version, client, width, page_bits, n, block = struct.unpack(
        "<BBBBQQ", source.block(address, 28, b"FAHD", where)
    )
    n_chunks = 1
    for length in grid:
        n_chunks *= length
    if (
        version
        or client != filtered
        or n != n_chunks
        or not (width == 8 if client == 0 else 13 <= width <= 20)
    ):
        raise source.damaged(f"an index of {n_chunks} chunks", f"one of {n}", where)
    if n > source.limits.chunks:
        raise source.refused(f"at most {source.limits.chunks} chunks", f"{n}", where)
    at = _places(grid, chunk)
    entries = _array_entries(source, block, n, width, page_bits, (client, address), where)
    for entry in entries:
        start = int.from_bytes(entry[:8], "little")
        if client == 0:
            yield start, nbytes, 0, next(at)
        else:
            size = int.from_bytes(entry[8:-4], "little")
            yield start, size, int.from_bytes(entry[-4:], "little"), next(at)


def _places(grid: tuple[int, ...], chunk: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    import itertools

    for place in itertools.product(*(range(length) for length in grid)):
        yield tuple(i * size for i, size in zip(place, chunk, strict=True))


def _array_entries(
    source: Source,
    block: int,
    n: int,
    width: int,
    page_bits: int,
    owner: tuple[int, int],
    where: str,
) -> Iterator[bytes]:
    """Read the entries of a fixed array; its block names the kind and the header it belongs to."""
    head = 14
    begins = struct.pack("<BBQ", 0, *owner)
    if page_bits > 30:
        raise source.damaged("an index of chunks", f"pages of 2^{page_bits}", where)
    per_page = 1 << page_bits
    if n <= per_page:
        body = source.block(block, head + n * width + 4, b"FADB", where)
        _check_owner(source, body, begins, where)
        body = body[head - 4 :]
        yield from (body[at : at + width] for at in range(0, n * width, width))
        return
    n_pages = -(-n // per_page)
    start = block + head + -(-n_pages // 8) + 4
    body = source.block(block, start - block, b"FADB", where)
    _check_owner(source, body, begins, where)
    bitmap = body[head - 4 :]
    for page in range(n_pages):
        count = min(per_page, n - page * per_page)
        if not bitmap[page // 8] >> (7 - page % 8) & 1:
            raise source.damaged("every chunk", "pages of the index that were not written", where)
        content = source.metadata(start, count * width + 4)
        source.check(content, where)
        yield from (content[at : at + width] for at in range(0, count * width, width))
        start += per_page * width + 4


def _check_owner(source: Source, body: bytes, begins: bytes, where: str) -> None:
    if not body.startswith(begins):
        raise source.damaged("a block of this index", "one of another", where)
