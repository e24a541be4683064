"""What streams and mixtures of them have in common: iterating, reading ahead, states."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Mapping
from functools import partial
from typing import Any, TypeAlias

from astropile.errors import SampleError
from astropile.streams.ahead import read_ahead

Task: TypeAlias = Callable[[int], Any]
"""Reads a batch into the room of a number."""

State: TypeAlias = "tuple[Any, ...]"
"""Where a stream stands: its epoch, and more that is its own."""

Part: TypeAlias = "tuple[int, int]"
"""Which batches to read: the first, and the distance to the next."""

WHOLE: Part = (0, 1)
"""All batches."""


class Batches(ABC):
    """
    What gives batches in an order that is known beforehand, and can be gone on with.

    Iterating begins at the epoch's start, or once at the state that was loaded, and ends with
    the epoch.
    """

    prefetch: int
    threads: int
    _state: State
    _loaded: bool

    @property
    def epoch(self) -> int:
        """Epoch of the next batch."""
        return int(self._state[0])

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def _start(self) -> State:
        """Say where the present epoch begins."""

    @abstractmethod
    def plan(self, start: State) -> Iterator[State]:
        """
        List where the stream stands after each batch of this rank.

        Parameters
        ----------
        start : tuple
            Where to begin.

        Yields
        ------
        tuple
            The state after each, to the end of the epoch.
        """

    @abstractmethod
    def _end(self, start: State) -> State:
        """Say where the next epoch begins."""

    @abstractmethod
    def _tasks(
        self, start: State, part: Part, *, fresh: bool
    ) -> Generator[tuple[State, Task], None, None]:
        """List the states after batches, with what reads them."""

    @abstractmethod
    def _facts(self) -> dict[str, Any]:
        """Say what must be the same for a state to mean the same rows."""

    @abstractmethod
    def _as_dict(self, state: State) -> dict[str, Any]:
        """Write a state for a checkpoint."""

    @abstractmethod
    def _from_dict(self, state: Mapping[str, Any]) -> State:
        """Read one back, or raise SampleError."""

    def state_dict(self) -> dict[str, Any]:
        """
        Say where the stream stands: after the last batch that was given out.

        Returns
        -------
        dict
            Numbers, texts, lists and dicts of them, for JSON or a checkpoint. It is the same on
            all ranks that were given as many batches, and holds for any number of ranks.
        """
        return {**self._facts(), **self._as_dict(self._state)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """
        Let the next iteration begin where another stood.

        Parameters
        ----------
        state : mapping
            What `state_dict` gave.

        Raises
        ------
        SampleError
            If it is of other data, another order, or no state.
        """
        if not isinstance(state, Mapping):
            raise SampleError("state", "what state_dict gave", repr(state))
        for name, own in self._facts().items():
            if name not in state or state[name] != own:
                raise SampleError(f"state[{name!r}]", repr(own), repr(state.get(name)))
        self._state, self._loaded = self._from_dict(state), True

    def begin(self) -> State:
        """
        Begin an iteration: where a state was loaded there, else where the epoch begins.

        Returns
        -------
        tuple
            The state to begin at.
        """
        start = self._state if self._loaded else self._start()
        self._loaded, self._state = False, start
        return start

    def note(self, state: State) -> None:
        """
        Note where the stream stands, when another process reads its batches.

        Parameters
        ----------
        state : tuple
            The state after the last batch that was given out.
        """
        self._state = state

    def finish(self, start: State) -> None:
        """
        Note that an iteration went to the end of its epoch.

        Parameters
        ----------
        start : tuple
            Where it began.
        """
        if self._state[0] == start[0]:
            self._state = self._end(start)

    def __iter__(self) -> Iterator[Any]:
        start = self.begin()
        found = self.part(start, WHOLE, prefetch=self.prefetch)
        with contextlib.closing(found) as batches:
            for after, batch in batches:
                self._state = after
                yield batch
        self.finish(start)

    def part(
        self, start: State, part: Part, *, prefetch: int = 0, fresh: bool = False
    ) -> Generator[tuple[State, Any], None, None]:
        """
        Read some batches of an epoch.

        Parameters
        ----------
        start : tuple
            Where to begin.
        part : tuple of int
            The first batch from there, and the distance to the next.
        prefetch : int
            How many are read ahead.
        fresh : bool
            Give each memory of its own.

        Yields
        ------
        state : tuple
            Where the stream stands after a batch.
        batch : object
            The batch.
        """
        with contextlib.closing(self._tasks(start, part, fresh=fresh)) as tasks:
            runs = (partial(_run, after, task) for after, task in tasks)
            ahead = read_ahead(runs, prefetch=prefetch, threads=self.threads)
            with contextlib.closing(ahead) as found:
                yield from found


def _run(after: State, task: Task, number: int) -> tuple[State, Any]:
    return after, task(number)


def at_least(name: str, value: int, least: int) -> None:
    """
    Refuse a number that is too small.

    Parameters
    ----------
    name : str
        What it is.
    value, least : int
        The number, and the smallest there may be.

    Raises
    ------
    SampleError
        If it is smaller, or not a whole number.
    """
    if not isinstance(value, int) or value < least:
        raise SampleError(name, f"a whole number, at least {least}", repr(value))


def among(name: str, value: Any, known: tuple[Any, ...]) -> None:
    """
    Refuse what is not among the known.

    Parameters
    ----------
    name : str
        What it is.
    value : object
        What came.
    known : tuple
        What may come.

    Raises
    ------
    SampleError
        If it is none of these.
    """
    if value not in known:
        raise SampleError(name, " or ".join(map(repr, known)), repr(value))
