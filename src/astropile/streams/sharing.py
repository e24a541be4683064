"""
Who reads which positions of an epoch: steps, ranks and workers.

A step is what all ranks together take at once. The steps of an epoch begin at a position and
go on to its end; so what was read is told by one number, and any number of ranks can go on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from numbers import Integral
from typing import Literal, get_args

from astropile.errors import SampleError

Last = Literal["keep", "drop", "pad"]
"""What becomes of the samples that do not fill the last step."""


@dataclass(frozen=True)
class Step:
    """
    What one rank reads at once.

    Parameters
    ----------
    epoch : int
        The epoch.
    first, last : int
        Its own positions: the first, and one past the last.
    after : int
        One past the last position of all ranks; the epoch's length after its last step.
    """

    epoch: int
    first: int
    last: int
    after: int


@dataclass(frozen=True)
class Share:
    """
    How the positions of an epoch are dealt out.

    Parameters
    ----------
    batch_size : int
        Positions that a rank takes at once.
    rank, world_size : int
        Which rank, of how many.
    last : {"keep", "drop", "pad"}
        Of positions that do not fill the last step: dealt out evenly, so that every row comes
        once, though batches are smaller and, where there are fewer than ranks, some have none;
        left out; or filled up with the first of the epoch.
    """

    batch_size: int
    rank: int = 0
    world_size: int = 1
    last: Last = "keep"

    def __post_init__(self) -> None:
        for name, least in (("batch_size", 1), ("world_size", 1), ("rank", 0)):
            value = getattr(self, name)
            if not isinstance(value, Integral) or value < least:
                raise SampleError(name, f"a whole number, at least {least}", repr(value))
        if not 0 <= self.rank < self.world_size:
            raise SampleError("rank", f"0 to {self.world_size - 1}", str(self.rank))
        if self.last not in get_args(Last):
            raise SampleError("last", " or ".join(map(repr, get_args(Last))), repr(self.last))

    @property
    def step_size(self) -> int:
        """Positions of a whole step."""
        return self.batch_size * self.world_size

    def n_steps(self, n: int, position: int = 0) -> int:
        """
        Count the steps that are left, the same for all ranks.

        Parameters
        ----------
        n : int
            Positions of the epoch.
        position : int
            Where to begin.

        Returns
        -------
        int
            Steps. With ``last="keep"`` a rank may have no part in the last.
        """
        left = n - position
        return left // self.step_size if self.last == "drop" else -(-left // self.step_size)

    def n_dropped(self, n: int, position: int = 0) -> int:
        """
        Count the positions that no rank reads.

        Parameters
        ----------
        n, position : int
            As for `n_steps`.

        Returns
        -------
        int
            0, unless ``last="drop"``.
        """
        return (n - position) % self.step_size if self.last == "drop" else 0

    def n_repeated(self, n: int, position: int = 0) -> int:
        """
        Count the positions that are read once more to fill the last step.

        Parameters
        ----------
        n, position : int
            As for `n_steps`.

        Returns
        -------
        int
            0, unless ``last="pad"``.
        """
        return (position - n) % self.step_size if self.last == "pad" else 0

    def steps(self, n: int, epoch: int, position: int = 0) -> Iterator[Step]:
        """
        List this rank's part of each step from a position to the end of the epoch.

        Parameters
        ----------
        n : int
            Positions of the epoch.
        epoch : int
            The epoch.
        position : int
            Where to begin.

        Yields
        ------
        Step
            In order; positions of n and more stand for the epoch's first again.
        """
        left = self.n_steps(n, position)
        for number in range(left):
            start = position + number * self.step_size
            size = min(self.step_size, n - start) if self.last == "keep" else self.step_size
            first, last = (start + size * k // self.world_size for k in (self.rank, self.rank + 1))
            after = n if number == left - 1 else start + size
            yield Step(epoch, first, last, after)
