"""Several streams as one, a batch of one then a batch of another, by weight."""

from __future__ import annotations

import itertools
import math
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from astropile.errors import SampleError
from astropile.streams.batches import Batches, Part, State, Task, among, at_least
from astropile.streams.sharing import Step
from astropile.streams.stream import Stream, Ticket

Until = Literal["first", "cycle", "all"]
"""When a mixture's epoch ends."""


@dataclass(frozen=True)
class _Turn:
    """A step of the mixture: whose it is, and where the mixture then stands."""

    name: str
    step: Step
    after: State


class Mixture(Batches):
    """
    Batches of several streams in turn, by weight.

    Iterating gives the name of a stream and a batch of it. Whose turn it is follows from the
    weights alone and is the same on all ranks: no stream is ever more than one batch ahead of
    its share, nor more than the number of the other streams behind it.

    Parameters
    ----------
    streams : mapping of str to Stream
        The streams, by name; all of one rank. Their own `prefetch` and `threads` play no part.
    weights : mapping of str to float, optional
        Share of each in the batches, above 0, of any sum; by default the number of its batches.
    until : {"first", "cycle", "all"}
        The epoch ends when the first stream has ended one of its own, the others going on in
        the next where they were; when all have, those that ended earlier beginning anew; or when
        all have, those that ended earlier giving no more.
    prefetch : int
        Batches that are read while the one before is used; 0 for none.
    threads : int
        Batches read at the same time.

    Raises
    ------
    SampleError
        If an argument is not what it must be, a stream has no batch, or their ranks differ.

    Notes
    -----
    Memory: ``prefetch + 1`` batches of each stream.
    """

    def __init__(
        self,
        streams: Mapping[str, Stream],
        weights: Mapping[str, float] | None = None,
        *,
        until: Until = "first",
        prefetch: int = 2,
        threads: int = 1,
    ) -> None:
        among("until", until, get_args(Until))
        at_least("prefetch", prefetch, 0)
        at_least("threads", threads, 1)
        _check(streams)
        self.streams, self.until = dict(streams), until
        self.weights = _weights(self.streams, weights)
        self.prefetch, self.threads = prefetch, threads
        n = len(self.streams)
        places = tuple((stream.epoch, 0) for stream in self.streams.values())
        self._state: State = (0, places, (0.0,) * n, (False,) * n)
        self._origin, self._loaded = self._state, False

    def __repr__(self) -> str:
        shares = ", ".join(f"{name} {100 * w:.3g} %" for name, w in self.weights.items())
        return f"<Mixture of {shares}: epoch {self.epoch}, until {self.until!r}>"

    def __len__(self) -> int:
        return sum(1 for _ in self.plan(self._start()))

    def plan(self, start: State) -> Iterator[State]:
        """List where the mixture stands after each batch of this rank."""
        return (turn.after for turn in self._own_turns(start))

    def _start(self) -> State:
        return self._origin

    def finish(self, start: State) -> None:
        """Note that an iteration went to the end of its epoch."""
        super().finish(start)
        self._origin = self._state

    def _end(self, start: State) -> State:
        after = start
        for turn in self._turns(start):
            after = turn.after
        return after

    # ----------------------------------------------------------------------------------
    # Whose turn it is

    def _turns(self, start: State) -> Iterator[_Turn]:
        """List the steps of all streams from a state to the end of the epoch."""
        epoch, places, credit, ended = (start[0], *map(list, start[1:]))
        names, weights = list(self.streams), list(self.weights.values())
        steps = [self._steps(name, place) for name, place in zip(names, places, strict=True)]
        while True:
            # Each gains its weight; the one with most has its turn and pays for all.
            active = [i for i, done in enumerate(ended) if not done or self.until == "cycle"]
            for i in active:
                credit[i] += weights[i]
            turn = max(active, key=lambda i: (credit[i], -i))
            credit[turn] -= sum(weights[i] for i in active)
            over = self.streams[names[turn]].n_rows
            # Where a state left so little that all of it is dropped, the turn is for nothing.
            step = next(steps[turn], Step(places[turn][0], over, over, over))
            places[turn] = (step.epoch, step.after)
            if step.after >= over:
                ended[turn] = True
                places[turn] = (step.epoch + 1, 0)
                steps[turn] = self._steps(names[turn], places[turn])
            if any(ended) if self.until == "first" else all(ended):
                n = len(names)
                yield _Turn(names[turn], step, (epoch + 1, tuple(places), (0.0,) * n, (False,) * n))
                return
            yield _Turn(names[turn], step, (epoch, tuple(places), tuple(credit), tuple(ended)))

    def _steps(self, name: str, place: tuple[int, int]) -> Iterator[Step]:
        stream = self.streams[name]
        return stream.share.steps(stream.n_rows, *place)

    def _own_turns(self, start: State) -> Iterator[_Turn]:
        """Leave out those that this rank has no part in."""
        return (turn for turn in self._turns(start) if turn.step.last > turn.step.first)

    def _tasks(
        self, start: State, part: Part, *, fresh: bool
    ) -> Generator[tuple[State, Task], None, None]:
        def mine() -> Iterator[_Turn]:
            return itertools.islice(self._own_turns(start), part[0], None, part[1])

        def tickets_of(name: str) -> Iterator[Ticket]:
            return (Ticket(turn.step, ()) for turn in mine() if turn.name == name)

        tasks = {
            name: stream.tasks(tickets_of(name), fresh=fresh)
            for name, stream in self.streams.items()
        }
        try:
            for turn in mine():
                _, task = next(tasks[turn.name])
                yield turn.after, _Named(turn.name, task)
        finally:
            for each in tasks.values():
                each.close()

    # ----------------------------------------------------------------------------------
    # States

    def _facts(self) -> dict[str, Any]:
        return {
            "streams": {name: stream.facts() for name, stream in self.streams.items()},
            "weights": list(self.weights.values()),
            "until": self.until,
        }

    def _as_dict(self, state: State) -> dict[str, Any]:
        def plain(state: State) -> list[Any]:
            return [state[0], [list(place) for place in state[1]], *map(list, state[2:])]

        return {"state": plain(state), "origin": plain(self._origin)}

    def _from_dict(self, state: Mapping[str, Any]) -> State:
        self._origin = self._read(state, "origin")
        return self._read(state, "state")

    def _read(self, state: Mapping[str, Any], name: str) -> State:
        streams = self.streams.values()
        try:
            epoch, places, credit, ended = state[name]
            checked = tuple(
                stream.checked({"epoch": place[0], "position": place[1]})
                for stream, place, _, _ in zip(streams, places, credit, ended, strict=True)
            )
            return int(epoch), checked, tuple(map(float, credit)), tuple(map(bool, ended))
        except SampleError:
            raise
        except (KeyError, TypeError, ValueError, IndexError) as error:
            expected = f"a state of {len(streams)} streams"
            raise SampleError(f"state[{name!r}]", expected, str(error)) from error


@dataclass(frozen=True)
class _Named:
    """Reads a batch and says of what it is."""

    name: str
    task: Task

    def __call__(self, number: int) -> tuple[str, Any]:
        return self.name, self.task(number)


def _check(streams: Mapping[str, Stream]) -> None:
    if not streams:
        raise SampleError("streams", "at least one", "none")
    for name, stream in streams.items():
        if not stream.share.n_steps(stream.n_rows):
            raise SampleError(f"stream {name!r}", "at least one batch", f"{stream.n_rows} rows")
    ranks = {(stream.share.rank, stream.share.world_size) for stream in streams.values()}
    if len(ranks) > 1:
        found = ", ".join(f"{rank} of {size}" for rank, size in sorted(ranks))
        raise SampleError("streams", "all of one rank", found)


def _weights(streams: Mapping[str, Stream], given: Mapping[str, float] | None) -> dict[str, float]:
    if given is None:
        given = {name: s.share.n_steps(s.n_rows) for name, s in streams.items()}
    if set(given) != set(streams):
        expected = "a weight for each of " + ", ".join(streams)
        raise SampleError("weights", expected, ", ".join(given) or "none")
    for name, weight in given.items():
        if not (math.isfinite(weight) and weight > 0):
            raise SampleError(f"weights[{name!r}]", "a number above 0", repr(weight))
    total = math.fsum(given.values())
    return {name: float(given[name]) / total for name in streams}
