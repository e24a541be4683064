"""
The order in which an epoch goes through the rows, without a list of them.

An order answers one question: which row stands at a position. It is a pseudo-random
permutation by a key, so any position of any epoch is at hand at once and a billion rows take
no memory.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from astropile.errors import SampleError

Ints = NDArray[np.int64]
_Words = NDArray[np.uint64]

_ROUNDS: Final = 8
"""Rounds of the Feistel network: four suffice in theory, for halves of many bits."""

_SMALL: Final = 1 << 16
"""Up to so many items are sorted by random keys, which is a uniform permutation."""


def mix(words: _Words) -> _Words:
    """
    Scramble 64-bit words: the finalizer of SplitMix64 (Steele, Lea and Flood 2014).

    Parameters
    ----------
    words : ndarray, uint64
        Any words.

    Returns
    -------
    ndarray, uint64
        As many; one to one.
    """
    words = words + np.uint64(0x9E3779B97F4A7C15)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def key_of(*numbers: int) -> int:
    """
    Make one key of several numbers.

    Parameters
    ----------
    *numbers : int
        Seed, epoch and the like, of any size and sign.

    Returns
    -------
    int
        64 bits.

    Examples
    --------
    >>> key_of(0, 1) == key_of(0, 1), key_of(0, 1) == key_of(1, 0)
    (True, False)
    """
    key = np.zeros(1, np.uint64)
    for number in numbers:
        key = mix(key ^ np.uint64(number % 2**64))
    return int(key[0])


def permute(items: Ints, n: int, key: int) -> Ints:
    """
    Give the places of some items in a pseudo-random permutation.

    Parameters
    ----------
    items : ndarray of int64
        Numbers from 0 to n - 1.
    n : int
        Size of the permutation.
    key : int
        Which permutation, 64 bits.

    Returns
    -------
    ndarray of int64
        Where the permutation takes each.

    Notes
    -----
    Few items are sorted by random keys. More go through a Feistel network over the next power
    of two, again and again until the result is below n (Black and Rogaway 2002): fewer than
    two passes on average, in memory that n plays no part in.

    Examples
    --------
    >>> sorted(permute(np.arange(5), 5, key=3).tolist())
    [0, 1, 2, 3, 4]
    """
    if n <= _SMALL:
        return _small(n, key)[items]
    bits = (n - 1).bit_length()
    keys = mix(np.uint64(key) ^ np.arange(1, _ROUNDS + 1, dtype=np.uint64))
    found = _feistel(items.astype(np.uint64), bits, keys)
    outside = np.flatnonzero(found >= n)
    while len(outside):
        found[outside] = _feistel(found[outside], bits, keys)
        outside = outside[found[outside] >= n]
    return found.astype(np.int64)


@lru_cache(maxsize=8)
def _small(n: int, key: int) -> Ints:
    words = mix(mix(np.arange(n, dtype=np.uint64)) ^ np.uint64(key))
    places = np.argsort(words, kind="stable")
    places.flags.writeable = False
    return places


def _feistel(words: _Words, bits: int, keys: _Words) -> _Words:
    """Permute words of so many bits; halves of unequal width change places each round."""
    low_bits = bits // 2
    high_bits = bits - low_bits
    for key in keys:
        low = words & np.uint64((1 << low_bits) - 1)
        high = words >> np.uint64(low_bits)
        high = (high ^ mix(low ^ key)) & np.uint64((1 << high_bits) - 1)
        words = (low << np.uint64(high_bits)) | high
        low_bits, high_bits = high_bits, low_bits
    return words


class Order(ABC):
    """
    In which order the rows of an epoch come.

    Parameters
    ----------
    n : int
        Number of rows.
    """

    n: int

    @abstractmethod
    def rows(self, positions: Ints) -> Ints:
        """
        Give the rows at some positions.

        Parameters
        ----------
        positions : ndarray of int64
            Numbers from 0 to n - 1.

        Returns
        -------
        ndarray of int64
            A row number for each.
        """

    def pool(self, position: int) -> int | None:
        """
        Say which pool a position is in.

        Parameters
        ----------
        position : int
            The position.

        Returns
        -------
        int or None
            Number of the pool whose rows are read together; None where each batch is by itself.
        """
        del position
        return None


@dataclass(frozen=True)
class InOrder(Order):
    """
    Rows as they lie in the tree.

    Parameters
    ----------
    n : int
        Number of rows.
    """

    n: int

    def rows(self, positions: Ints) -> Ints:
        """Give the rows at some positions: the same numbers."""
        return positions


@dataclass(frozen=True)
class Shuffled(Order):
    """
    Any row at any position.

    Parameters
    ----------
    n : int
        Number of rows.
    key : int
        Which permutation.
    """

    n: int
    key: int

    def rows(self, positions: Ints) -> Ints:
        """Give the rows at some positions."""
        return permute(positions, self.n, self.key)


@dataclass(frozen=True)
class BlockShuffled(Order):
    """
    Blocks of consecutive rows in random order, their rows shuffled within pools of blocks.

    Parameters
    ----------
    n : int
        Number of rows.
    key : int
        Which permutation.
    block_rows : int
        Rows of a block; the last may have fewer.
    pool_blocks : int
        Blocks of a pool; the last may have fewer.
    """

    n: int
    key: int
    block_rows: int
    pool_blocks: int

    def __post_init__(self) -> None:
        for name in ("block_rows", "pool_blocks"):
            if getattr(self, name) < 1:
                raise SampleError(name, "at least 1", str(getattr(self, name)))

    @property
    def _n_blocks(self) -> int:
        return -(-self.n // self.block_rows)

    @property
    def pool_rows(self) -> int:
        """Rows of a whole pool."""
        return self.block_rows * self.pool_blocks

    def pool(self, position: int) -> int:
        """Say which pool a position is in."""
        return position // self.pool_rows

    def rows(self, positions: Ints) -> Ints:
        """Give the rows at some positions."""
        pools = positions // self.pool_rows
        rows = np.empty(len(positions), np.int64)
        for pool in np.unique(pools).tolist():
            here = pools == pool
            rows[here] = self._pool(pool, positions[here] - pool * self.pool_rows)
        return rows

    def _pool(self, pool: int, positions: Ints) -> Ints:
        first = pool * self.pool_rows
        size = min(self.pool_rows, self.n - first)
        places = first + permute(positions, size, key_of(self.key, pool))
        # The short block stays last among blocks, that a place tells its block by a division;
        # rows are turned around instead, so that another part of the tree is short each epoch.
        block, inside = np.divmod(places, self.block_rows)
        whole = self.n // self.block_rows
        permuted = np.where(
            block < whole,
            permute(np.minimum(block, max(whole - 1, 0)), max(whole, 1), self.key),
            block,
        )
        turn = key_of(self.key, -1) % self.n
        return (permuted * self.block_rows + inside + turn) % self.n
