"""
The two checksums of HDF5: lookup3 of its metadata, Fletcher-32 of its chunks.

References
----------
.. [1] R. Jenkins 2006, lookup3.c, ``hashlittle``.
.. [2] HDF5 File Format Specification, version 3.0, section III.
"""

from __future__ import annotations

import struct
from typing import Any, Final

import numpy as np

_WORD: Final = 0xFFFFFFFF
_WORDS_AT_ONCE: Final = 2**16


def lookup3(content: bytes) -> int:
    """
    Give the checksum of a block of metadata.

    Parameters
    ----------
    content : bytes
        The block without its checksum.

    Returns
    -------
    int
        32 bits.

    Examples
    --------
    >>> hex(lookup3(b"Four score and seven years ago"))
    '0x17770551'
    """
    n = len(content)
    a = b = c = (0xDEADBEEF + n) & _WORD
    if n == 0:
        return c
    # All blocks of twelve bytes but the last, which may be shorter.
    n_blocks = (n - 1) // 12
    x: int
    y: int
    z: int
    for x, y, z in struct.iter_unpack("<III", content[: 12 * n_blocks]):
        a, b, c = (a + x) & _WORD, (b + y) & _WORD, (c + z) & _WORD
        a, c = ((a - c) & _WORD) ^ _turned(c, 4), (c + b) & _WORD
        b, a = ((b - a) & _WORD) ^ _turned(a, 6), (a + c) & _WORD
        c, b = ((c - b) & _WORD) ^ _turned(b, 8), (b + a) & _WORD
        a, c = ((a - c) & _WORD) ^ _turned(c, 16), (c + b) & _WORD
        b, a = ((b - a) & _WORD) ^ _turned(a, 19), (a + c) & _WORD
        c, b = ((c - b) & _WORD) ^ _turned(b, 4), (b + a) & _WORD
    x, y, z = struct.unpack("<III", content[12 * n_blocks :].ljust(12, b"\0"))
    a, b, c = (a + x) & _WORD, (b + y) & _WORD, (c + z) & _WORD
    c = ((c ^ b) - _turned(b, 14)) & _WORD
    a = ((a ^ c) - _turned(c, 11)) & _WORD
    b = ((b ^ a) - _turned(a, 25)) & _WORD
    c = ((c ^ b) - _turned(b, 16)) & _WORD
    a = ((a ^ c) - _turned(c, 4)) & _WORD
    b = ((b ^ a) - _turned(a, 14)) & _WORD
    return ((c ^ b) - _turned(b, 24)) & _WORD


def _turned(word: int, bits: int) -> int:
    """Turn 32 bits to the left."""
    return word << bits & _WORD | word >> (32 - bits)


def fletcher32(content: Any) -> int:
    """
    Give the checksum that HDF5's filter Fletcher-32 appends to a chunk.

    Parameters
    ----------
    content : bytes-like
        The chunk without its checksum.

    Returns
    -------
    int
        32 bits; 0 for zeros of any number.

    Examples
    --------
    >>> hex(fletcher32(bytes([0x01, 0x02, 0x03, 0x04])))
    '0x5080406'
    """
    octets = np.frombuffer(content, np.uint8)
    n_words = len(octets) // 2
    words = octets[: 2 * n_words].view(">u2")
    first = second = 0
    for start in range(0, n_words, _WORDS_AT_ONCE):
        some = words[start : start + _WORDS_AT_ONCE].astype(np.uint64)
        n = len(some)
        second += n * first + int(np.dot(some, np.arange(n, 0, -1, dtype=np.uint64)))
        first += int(some.sum())
    if len(octets) % 2:
        first += int(octets[-1]) << 8
        second += first
    return _folded(second) << 16 | _folded(first)


def _folded(total: int) -> int:
    """Give a sum as the one's complement sum of its 16-bit words would be: 0 only for 0."""
    return (total - 1) % 65535 + 1 if total else 0
