"""
Huffman codes, compiled: the one part of deflate that no library does fast enough.

Bytes of floats hold few repeats, but some values far more often than others. Codes alone are
written at twice the speed of a search for repeats, are smaller, and are faster to inflate.

References
----------
.. [1] RFC 1951, DEFLATE Compressed Data Format Specification.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

_BITS = 12
"""Longest code: that many bits any inflate finds by one look-up."""

_ORDER = np.array([16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15], np.int64)
"""In what order RFC 1951 gives the lengths of the codes for code lengths."""


@numba.njit(nogil=True, cache=True)
def _code_lengths(counts: Any, lengths: Any) -> None:
    """Give each symbol that occurs the length of its Huffman code, at most 12 bits."""
    order = np.argsort(counts)
    n_symbols = len(counts)
    first = 0
    while counts[order[first]] == 0:
        first += 1
    n = n_symbols - first
    lengths[:] = 0
    # Two queues: leaves by count, and the nodes made of them, which come in order of their counts.
    weight = np.zeros(2 * n, np.int64)
    parent = np.zeros(2 * n, np.int64)
    for i in range(n):
        weight[i] = counts[order[first + i]]
    leaf, node, made = 0, n, n
    while made < 2 * n - 1:
        for _ in range(2):
            if leaf < n and (node >= made or weight[leaf] <= weight[node]):
                child = leaf
                leaf += 1
            else:
                child = node
                node += 1
            weight[made] += weight[child]
            parent[child] = made
        made += 1
    depth = np.zeros(2 * n, np.int64)
    n_of = np.zeros(_BITS + 1, np.int64)
    for i in range(2 * n - 3, -1, -1):
        depth[i] = depth[parent[i]] + 1
        if i < n:
            n_of[min(_BITS, depth[i])] += 1
    # Codes cut to 12 bits may be too many: lengthen shorter ones until they fit.
    total = 0
    for length in range(1, _BITS + 1):
        total += n_of[length] << (_BITS - length)
    while total > 1 << _BITS:
        n_of[_BITS] -= 1
        for length in range(_BITS - 1, 0, -1):
            if n_of[length]:
                n_of[length] -= 1
                n_of[length + 1] += 2
                break
        total -= 1
    i = 0
    for length in range(_BITS, 0, -1):
        for _ in range(n_of[length]):
            lengths[order[first + i]] = length
            i += 1


@numba.njit(nogil=True, cache=True)
def deflate_codes(plane: Any, out: Any) -> int:  # noqa: PLR0915 - numba inlines best what is one
    """
    Deflate bytes by Huffman codes alone, as one block that is not the last, up to a whole byte.

    Parameters
    ----------
    plane : ndarray, uint8
        The bytes, at least one.
    out : ndarray, uint8
        Where they go: room for twice as many and 512.

    Returns
    -------
    int
        Bytes written. Another block may follow.
    """
    some = np.zeros((4, 257), np.int64)
    n = len(plane) // 4 * 4
    for i in range(0, n, 4):
        some[0, plane[i]] += 1
        some[1, plane[i + 1]] += 1
        some[2, plane[i + 2]] += 1
        some[3, plane[i + 3]] += 1
    for i in range(n, len(plane)):
        some[0, plane[i]] += 1
    counts = some.sum(axis=0)
    counts[256] = 1
    lengths = np.zeros(257, np.int64)
    _code_lengths(counts, lengths)
    # Canonical codes, mirrored: they are written from their first bit on.
    code = 0
    codes = np.zeros(257, np.uint64)
    for length in range(1, _BITS + 1):
        for symbol in range(257):
            if lengths[symbol] == length:
                mirrored = 0
                for bit in range(length):
                    mirrored |= ((code >> bit) & 1) << (length - 1 - bit)
                codes[symbol] = np.uint64(mirrored)
                code += 1
        code <<= 1
    # The head: 257 literal codes, 2 distance codes (unused, one bit each), 18 code-length codes.
    # Of the latter all 16 in use take 4 bits: lengths 0 to 12, and runs 16, 17, 18.
    put = np.zeros(1400, np.uint64)
    width = np.zeros(1400, np.uint64)
    put[0], width[0] = 4, 3
    put[1], width[1] = 0, 5
    put[2], width[2] = 1, 5
    put[3], width[3] = 14, 4
    k = 4
    for number in range(18):
        symbol = _ORDER[number]
        put[k], width[k] = (4 if symbol <= _BITS or symbol >= 16 else 0), 3
        k += 1
    i = 0
    while i < 259:
        length = lengths[i] if i < 257 else 1
        run = 1
        while length == 0 and run < 138 and i + run < 257 and lengths[i + run] == 0:
            run += 1
        symbol, extra, bits_of = length, 0, 0
        if length == 0 and run >= 11:
            symbol, extra, bits_of = 15, run - 11, 7
        elif length == 0 and run >= 3:
            run = min(run, 10)
            symbol, extra, bits_of = 14, run - 3, 3
        else:
            run = 1
        mirrored = 0
        for bit in range(4):
            mirrored |= ((symbol >> bit) & 1) << (3 - bit)
        put[k], width[k] = np.uint64(mirrored | extra << 4), np.uint64(4 + bits_of)
        k += 1
        i += run
    bits = np.uint64(0)
    full = np.uint64(0)
    at = 0
    for i in range(k):
        bits |= put[i] << full
        full += width[i]
        while full >= np.uint64(8):
            out[at] = np.uint8(bits & np.uint64(255))
            at += 1
            bits >>= np.uint64(8)
            full -= np.uint64(8)
    pairs = np.zeros(257, np.uint64)
    for symbol in range(257):
        pairs[symbol] = codes[symbol] | np.uint64(lengths[symbol]) << np.uint64(32)
    low = np.uint64(0xFFFFFFFF)
    for i in range(len(plane)):
        pair = pairs[plane[i]]
        bits |= (pair & low) << full
        full += pair >> np.uint64(32)
        if full >= np.uint64(32):
            out[at] = np.uint8(bits & np.uint64(255))
            out[at + 1] = np.uint8((bits >> np.uint64(8)) & np.uint64(255))
            out[at + 2] = np.uint8((bits >> np.uint64(16)) & np.uint64(255))
            out[at + 3] = np.uint8((bits >> np.uint64(24)) & np.uint64(255))
            at += 4
            bits >>= np.uint64(32)
            full -= np.uint64(32)
    bits |= codes[256] << full
    # Behind the end of the block an empty stored one, three bits of 0, fills up to a byte.
    full += np.uint64(lengths[256] + 3)
    while full > np.uint64(0):
        out[at] = np.uint8(bits & np.uint64(255))
        at += 1
        bits >>= np.uint64(8)
        full = full - np.uint64(8) if full > np.uint64(8) else np.uint64(0)
    out[at] = 0
    out[at + 1] = 0
    out[at + 2] = 255
    out[at + 3] = 255
    return at + 4
