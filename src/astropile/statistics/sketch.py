"""
Quantiles of any number of values in a bounded number of them.

The sketch of Karnin, Lang and Liberty (2016): buffers of values that stand for 1, 2, 4, …
values each. A full one is sorted and every other value of it goes up, beginning with the first or
the second by a coin. `docs/decisions/0023-an-own-quantile-sketch.md` says why it is our own.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Mapping
from itertools import zip_longest
from typing import Any, Final, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from astropile.errors import FormatError, SampleError

DEFAULT_K: Final = 2048
"""Values in the largest buffer: a rank error of 0.3 % or less, in 50 kB."""

_SHRINK: Final = 2 / 3
_SMALLEST: Final = 8
_SIGMAS: Final = 3.0


class QuantileSketch:
    """
    A sketch of the distribution of values.

    Parameters
    ----------
    k : int
        Values in the largest buffer, at least 8; about three times as many are kept.
    seed : int
        Another seed, other coins. Sketches that are to be merged had better have different ones;
        all else equal, equal seeds give equal sketches.
    """

    def __init__(self, k: int = DEFAULT_K, seed: int = 0) -> None:
        if k < _SMALLEST:
            raise SampleError("k", f"at least {_SMALLEST}", str(k))
        self.k, self.seed = k, seed
        self.n = 0
        self._levels: list[NDArray[np.float64]] = [np.empty(0)]
        self._coins = 0
        self._squares = 0.0

    def update(self, values: NDArray[Any]) -> None:
        """
        Take values in.

        Parameters
        ----------
        values : ndarray, shape (n,)
            Finite values.
        """
        self.n += int(values.size)
        self._levels[0] = np.concatenate([self._levels[0], values.astype(np.float64).ravel()])
        self._compress()

    def merge(self, other: QuantileSketch) -> QuantileSketch:
        """
        Put two sketches together.

        Parameters
        ----------
        other : QuantileSketch
            Of other values, of the same k.

        Returns
        -------
        QuantileSketch
            Of both; neither is changed.

        Raises
        ------
        SampleError
            If they differ in k.
        """
        if other.k != self.k:
            raise SampleError("sketch", f"k = {self.k} as the other", f"k = {other.k}")
        both = QuantileSketch(self.k, self.seed)
        both.n = self.n + other.n
        both._coins = self._coins + other._coins
        both._squares = self._squares + other._squares
        both._levels = [
            np.concatenate(held)
            for held in zip_longest(self._levels, other._levels, fillvalue=np.empty(0))
        ]
        both._compress()
        return both

    @property
    def rank_error(self) -> float:
        """
        How far the rank of a quantile is off at most, as a share of all values.

        Three standard deviations of what the coins did; 0 where all values are kept.
        """
        return _SIGMAS * math.sqrt(self._squares) / self.n if self.n else 0.0

    @property
    def n_kept(self) -> int:
        """Values that are kept."""
        return sum(level.size for level in self._levels)

    def quantile(self, q: ArrayLike) -> NDArray[np.float64]:
        """
        Give quantiles: the smallest values that at least a share `q` does not exceed.

        Parameters
        ----------
        q : array_like
            Shares, 0 to 1.

        Returns
        -------
        ndarray, of the shape of q, float64
            Values that were taken in; not a number where there was none.

        Raises
        ------
        SampleError
            If a share is not between 0 and 1.
        """
        shares = np.asarray(q, np.float64)
        if not ((shares >= 0) & (shares <= 1)).all():
            raise SampleError("q", "0 to 1", repr(q))
        if not self.n:
            return np.full(shares.shape, np.nan)
        values = np.concatenate(self._levels)
        weights = np.repeat(2.0 ** np.arange(len(self._levels)), [x.size for x in self._levels])
        order = np.argsort(values)
        upto = np.cumsum(weights[order])
        at = np.searchsorted(upto, shares * self.n, side="left")
        return np.asarray(values[order][np.minimum(at, len(values) - 1)])

    def _capacity(self, level: int) -> int:
        down = len(self._levels) - 1 - level
        return max(math.ceil(self.k * _SHRINK**down), _SMALLEST)

    def _compress(self) -> None:
        """Halve full levels from below, until there is room."""
        while self.n_kept > sum(map(self._capacity, range(len(self._levels)))):
            level = next(h for h, held in enumerate(self._levels) if held.size > self._capacity(h))
            self._halve(level)

    def _halve(self, level: int) -> None:
        held = np.sort(self._levels[level])
        # An odd one stays.
        stays, held = held[: held.size % 2], held[held.size % 2 :]
        if level + 1 == len(self._levels):
            self._levels.append(np.empty(0))
        self._levels[level] = stays
        self._levels[level + 1] = np.concatenate([self._levels[level + 1], held[self._coin() :: 2]])
        # A rank is off by nothing or by what a value here stands for, up or down alike.
        self._squares += 4.0**level

    def _coin(self) -> int:
        self._coins += 1
        return hashlib.blake2b(f"{self.seed}/{self._coins}".encode()).digest()[0] & 1

    def to_json(self) -> dict[str, Any]:
        """
        Give what JSON can hold.

        Returns
        -------
        dict
            For `from_json`.
        """
        return {
            "k": self.k,
            "seed": self.seed,
            "n": self.n,
            "coins": self._coins,
            "squares": self._squares,
            "levels": [base64.b64encode(x.astype("<f8").tobytes()).decode() for x in self._levels],
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """
        Make a sketch of what `to_json` gave.

        Parameters
        ----------
        stored : mapping
            The sketch.

        Returns
        -------
        QuantileSketch
            Equal to the one that was stored.

        Raises
        ------
        FormatError
            If it cannot be one.
        """
        try:
            made = cls(int(stored["k"]), int(stored["seed"]))
            made.n, made._coins = int(stored["n"]), int(stored["coins"])
            made._squares = float(stored["squares"])
            made._levels = [
                np.frombuffer(base64.b64decode(text, validate=True), "<f8").astype(np.float64)
                for text in stored["levels"]
            ]
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise FormatError("quantile sketch", "a sketch as JSON", repr(error)) from error
        held = sum(x.size << h for h, x in enumerate(made._levels))
        if held != made.n or not 1 <= len(made._levels) <= 64 or not made._squares >= 0:
            raise FormatError("quantile sketch", f"values that stand for {made.n}", str(held))
        return made
