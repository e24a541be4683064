"""Batches of a tree or a match for training: shuffled, shared among ranks, resumed exactly."""

from __future__ import annotations

import contextlib
import inspect
import itertools
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any, Final, Literal, Self, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from astropile.errors import SampleError
from astropile.schema import Ragged
from astropile.streams.ahead import read_ahead
from astropile.streams.batches import Batches, Part, State, Task, among, at_least
from astropile.streams.order import BlockShuffled, InOrder, Order, Shuffled, key_of
from astropile.streams.rooms import Rooms, as_tensors
from astropile.streams.sharing import Last, Share, Step
from astropile.streams.source import Arrays, Batch, Rows, hash_of, open_source

Shuffle: TypeAlias = Literal["full", "blocks"] | None

_STATE_VERSION: Final = 1


@dataclass(frozen=True)
class Ticket:
    """
    One batch to be read.

    Parameters
    ----------
    step : Step
        Which positions.
    after : tuple
        Where the stream stands when it was given out.
    """

    step: Step
    after: State


class Stream(Batches):
    """
    Batches of a tree's or a match's rows.

    Parameters
    ----------
    source : Catalog, path, URL, CrossMatch, MatchedSample or datasets.Dataset
        A tree, a match of trees, or a lazy dataset of either, such as a part that a split or a
        filter gave.
    columns : sequence of str, or mapping of str to it, optional
        Native and common columns, standard names (``"z"``), fields of records
        (``"image.array"``) or whole records (``"spectrum"``); for a match, those of each
        survey. By default all native columns; of a dataset with chosen columns, these.
    batch_size : int
        Rows that this rank takes at once.
    rows : array_like of int, optional
        Row numbers to go through, such as those of a split; by default all.
    shuffle : {"full", "blocks", None}
        Any row at any place; blocks of consecutive rows in random order, shuffled within pools
        of blocks; or in the order of the tree.
    block_rows, pool_blocks : int
        With ``"blocks"``: rows of a block, blocks of a pool.
    seed : int
        Of the order.
    rank, world_size : int
        Which of how many processes that train together this is.
    last : {"keep", "drop", "pad"}, optional
        Of rows that do not fill the last step of all ranks: every row once, in smaller batches;
        left out; or filled up with the first of the epoch, so that all ranks have as many
        batches of the same size. By default ``"keep"`` for one rank, ``"pad"`` for several.
    transform : callable, optional
        Makes of a batch what is given out; called in the threads that read. If it has a
        parameter ``rng``, it is given a `numpy.random.Generator` that depends on seed, epoch,
        position and rank alone.
    format : {"numpy", "torch"}
        Arrays, or tensors over the same memory; text and ragged columns are numpy's in both.
    prefetch : int
        Batches that are read while the one before is used; 0 for none.
    threads : int
        Batches read at the same time. One batch is read by all cores anyway: more help where
        each waits for a server.
    pin_memory : bool
        Read into memory from which a GPU copies by itself; needs ``format="torch"``.
    copy : bool
        Give each batch memory of its own. Otherwise a batch is valid until the next one is
        asked for: its memory is used again.

    Raises
    ------
    SampleError
        If an argument is not what it must be.
    UnknownColumnError
        If there is no such column.
    TreeNotFoundError
        If there is no tree.

    Notes
    -----
    Memory: ``prefetch + 1`` batches; with ``"blocks"`` up to three pools more, of which a rank
    holds its share; 8 bytes for each number in `rows`. A permutation is never held.
    """

    def __init__(
        self,
        source: Any,
        columns: Sequence[str] | Mapping[str, Sequence[str] | None] | None = None,
        *,
        batch_size: int,
        rows: ArrayLike | None = None,
        shuffle: Shuffle = "full",
        block_rows: int = 256,
        pool_blocks: int = 16,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        last: Last | None = None,
        transform: Callable[..., Any] | None = None,
        format: Literal["numpy", "torch"] = "numpy",  # noqa: A002 - datasets calls it that too
        prefetch: int = 2,
        threads: int = 1,
        pin_memory: bool = False,
        copy: bool = False,
    ) -> None:
        among("shuffle", shuffle, ("full", "blocks", None))
        among("format", format, ("numpy", "torch"))
        at_least("prefetch", prefetch, 0)
        at_least("threads", threads, 1)
        if not isinstance(seed, int | np.integer):
            raise SampleError("seed", "a whole number", repr(seed))
        if transform is not None and not callable(transform):
            raise SampleError("transform", "a function of a batch", repr(transform))
        if pin_memory and format != "torch":
            raise SampleError("pin_memory", "format='torch'", f"format={format!r}")
        self.source = open_source(source, columns)
        self.rows = None if rows is None else _checked_rows(rows, len(self.source))
        self.share = Share(
            batch_size, rank, world_size, last or ("keep" if world_size == 1 else "pad")
        )
        self.seed, self.shuffle = int(seed), shuffle
        self.block_rows, self.pool_blocks = block_rows, pool_blocks
        self.format, self.transform = format, transform
        self._wants_rng = transform is not None and _takes_rng(transform)
        self.prefetch, self.threads = prefetch, threads
        self.pin_memory, self.copy = pin_memory, copy
        self._state, self._loaded = (0, 0), False
        self._order(0)

    def __repr__(self) -> str:
        return (
            f"<Stream of {self.n_rows} rows: epoch {self.epoch}, position {self.position}, "
            f"{len(self)} batches of {self.share.batch_size}>"
        )

    # ----------------------------------------------------------------------------------
    # How much there is

    @property
    def n_rows(self) -> int:
        """Rows of an epoch, of all ranks."""
        return len(self.source) if self.rows is None else len(self.rows)

    def __len__(self) -> int:
        whole, rest = divmod(self.n_rows, self.share.step_size)
        if self.share.last != "keep":
            return self.share.n_steps(self.n_rows)
        rank, world_size = self.share.rank, self.share.world_size
        return whole + (rest * (rank + 1) // world_size > rest * rank // world_size)

    @property
    def n_dropped(self) -> int:
        """Rows of an epoch that are left out; 0 unless ``last="drop"``."""
        return self.share.n_dropped(self.n_rows)

    @property
    def n_repeated(self) -> int:
        """Rows of an epoch that come twice; 0 unless ``last="pad"``."""
        return self.share.n_repeated(self.n_rows) if self.n_rows else 0

    # ----------------------------------------------------------------------------------
    # Where it stands

    @property
    def position(self) -> int:
        """Rows that all ranks together have been given of this epoch."""
        return int(self._state[1])

    def set_epoch(self, epoch: int) -> None:
        """
        Let the next iteration begin an epoch.

        Parameters
        ----------
        epoch : int
            Which. After an epoch the next one follows by itself.

        Raises
        ------
        SampleError
            If it is negative.
        """
        at_least("epoch", epoch, 0)
        self._state, self._loaded = (int(epoch), 0), False

    def facts(self) -> dict[str, Any]:
        """
        Say what must be the same for a position to mean the same row.

        Returns
        -------
        dict
            The data, the rows chosen, the order.
        """
        order: list[Any] = [self.shuffle, self.seed]
        if self.shuffle == "blocks":
            order += [self.block_rows, self.pool_blocks]
        return {
            "version": _STATE_VERSION,
            "data": self.source.fingerprint,
            "rows": "all" if self.rows is None else hash_of(self.rows),
            "order": order,
        }

    _facts = facts

    def _as_dict(self, state: State) -> dict[str, Any]:
        return {"epoch": state[0], "position": state[1]}

    def _from_dict(self, state: Mapping[str, Any]) -> State:
        return self.checked(state)

    def checked(self, state: Mapping[str, Any]) -> tuple[int, int]:
        """
        Read the epoch and position of a state.

        Parameters
        ----------
        state : mapping
            With ``epoch`` and ``position``.

        Returns
        -------
        epoch, position : int
            The same.

        Raises
        ------
        SampleError
            If they cannot be those of this stream.
        """
        epoch, position = state.get("epoch"), state.get("position")
        if not isinstance(epoch, int) or epoch < 0:
            raise SampleError("state['epoch']", "an epoch", repr(epoch))
        if not isinstance(position, int) or not 0 <= position <= self.n_rows:
            raise SampleError("state['position']", f"0 to {self.n_rows}", repr(position))
        return epoch, position

    def with_share(self, rank: int, world_size: int) -> Self:
        """
        Give the stream of another rank, standing where this one stands.

        Parameters
        ----------
        rank, world_size : int
            Which of how many.

        Returns
        -------
        Stream
            A stream of the same rows in the same order.
        """
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other.share = replace(self.share, rank=rank, world_size=world_size)
        return other

    # ----------------------------------------------------------------------------------
    # Reading

    def _order(self, epoch: int) -> Order:
        return _order_of(
            self.shuffle, self.n_rows, self.seed, epoch, self.block_rows, self.pool_blocks
        )

    def _start(self) -> State:
        return self.epoch, 0

    def _end(self, start: State) -> State:
        return start[0] + 1, 0

    def plan(self, start: State) -> Iterator[State]:
        """List where the stream stands after each batch of this rank."""
        return (ticket.after for ticket in self.tickets(start))

    def tickets(self, start: State) -> Iterator[Ticket]:
        """
        List the batches from a place to the end of its epoch.

        Parameters
        ----------
        start : tuple
            Epoch and position.

        Yields
        ------
        Ticket
            In order.
        """
        epoch, position = start
        for step in self.share.steps(self.n_rows, epoch, position):
            if step.last > step.first:
                done = step.after >= self.n_rows
                yield Ticket(step, (epoch + 1, 0) if done else (epoch, step.after))

    def _tasks(
        self, start: State, part: Part, *, fresh: bool
    ) -> Generator[tuple[State, Task], None, None]:
        return self.tasks(
            itertools.islice(self.tickets(start), part[0], None, part[1]), fresh=fresh
        )

    def tasks(
        self, tickets: Iterable[Ticket], *, fresh: bool = False
    ) -> Generator[tuple[Any, Task], None, None]:
        """
        Say what reads some batches.

        Parameters
        ----------
        tickets : iterable of Ticket
            The batches.
        fresh : bool
            Give each memory of its own even if the stream does not.

        Yields
        ------
        after : object
            Where the stream then stands.
        task : callable
            Given the number of a room, reads and returns the batch.
        """
        rooms = Rooms(self.share.batch_size, pinned=self.pin_memory)
        fresh = fresh or self.copy
        if self.shuffle != "blocks":
            for ticket in tickets:
                yield ticket.after, partial(self._read, ticket.step, rooms, fresh=fresh)
            return
        yield from self._pool_tasks(tickets, rooms, fresh=fresh)

    def _pool_tasks(
        self, tickets: Iterable[Ticket], rooms: Rooms, *, fresh: bool
    ) -> Generator[tuple[Any, Task], None, None]:
        """Read all batches that begin in a pool at once, the next pool meanwhile."""

        def pool_of(ticket: Ticket) -> tuple[int, int | None]:
            return ticket.step.epoch, self._order(ticket.step.epoch).pool(ticket.step.first)

        groups = (list(group) for _, group in itertools.groupby(tickets, pool_of))
        reads = (partial(self._read_pool, group) for group in groups)
        ahead = min(self.prefetch, 1)
        with contextlib.closing(read_ahead(reads, prefetch=ahead)) as pools:
            for group, columns, places in pools:
                for ticket, where in zip(group, places, strict=True):
                    yield (
                        ticket.after,
                        partial(self._gather, ticket.step, columns, where, rooms, fresh=fresh),
                    )

    def _rows_of(self, step: Step) -> Rows:
        positions = np.arange(step.first, step.last) % self.n_rows
        rows = self._order(step.epoch).rows(positions)
        return rows if self.rows is None else self.rows[rows]

    def _read(self, step: Step, rooms: Rooms, number: int, *, fresh: bool) -> Any:
        rows = self._rows_of(step)
        if fresh and not self.pin_memory:
            return self._finish(step, self.source.read(rows, {}))
        room = {} if fresh else rooms.give(number, len(rows))
        found = self.source.read(rows, room)
        return self._finish(step, rooms.keep(number, found, self.source.in_place, fresh=fresh))

    def _read_pool(
        self, group: list[Ticket], number: int
    ) -> tuple[list[Ticket], Arrays, list[NDArray[np.int64]]]:
        del number
        rows = [self._rows_of(ticket.step) for ticket in group]
        wanted, places = np.unique(np.concatenate(rows), return_inverse=True)
        ends = np.cumsum([len(part) for part in rows])[:-1]
        return group, self.source.read(wanted, {}), np.split(places.reshape(-1), ends)

    def _gather(
        self,
        step: Step,
        columns: Arrays,
        where: NDArray[np.int64],
        rooms: Rooms,
        number: int,
        *,
        fresh: bool,
    ) -> Any:
        room = {} if fresh else rooms.give(number, len(where))
        found: Arrays = {}
        for name, values in columns.items():
            if isinstance(values, Ragged):
                found[name] = _choose(values, where)
            elif not values.strides[0] and len(values) > 1:
                found[name] = np.broadcast_to(values[0], (len(where), *values.shape[1:]))
            else:
                found[name] = np.take(values, where, axis=0, out=room.get(name), mode="clip")
        if fresh and not self.pin_memory:
            return self._finish(step, found)
        return self._finish(step, rooms.keep(number, found, frozenset(found), fresh=fresh))

    def _finish(self, step: Step, batch: Batch) -> Any:
        if self.format == "torch":
            batch = as_tensors(batch)
        if self.transform is None:
            return batch
        if not self._wants_rng:
            return self.transform(batch)
        seed = [key_of(self.seed, -1), step.epoch, step.first, self.share.rank]
        return self.transform(batch, rng=np.random.default_rng(seed))


@lru_cache(maxsize=16)
def _order_of(
    shuffle: Shuffle, n: int, seed: int, epoch: int, block_rows: int, pool_blocks: int
) -> Order:
    key = key_of(seed, epoch)
    if shuffle == "blocks":
        return BlockShuffled(n, key, block_rows, pool_blocks)
    return InOrder(n) if shuffle is None else Shuffled(n, key)


def _choose(values: Ragged, where: NDArray[np.int64]) -> Ragged:
    """Choose objects of ragged values, in any order."""
    starts, stops = values.offsets[where], values.offsets[where + 1]
    pieces = [values.values[a:b] for a, b in zip(starts, stops, strict=True)]
    offsets = np.concatenate(([0], np.cumsum(stops - starts)))
    return Ragged(np.concatenate([values.values[:0], *pieces]), offsets, values.shapes[where])


def _takes_rng(transform: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(transform).parameters
    except (TypeError, ValueError):
        return False
    return "rng" in parameters


def _checked_rows(rows: ArrayLike, n: int) -> Rows:
    chosen = np.asarray(rows)
    if chosen.ndim != 1 or (chosen.size and chosen.dtype.kind not in "iu"):
        raise SampleError("rows", "row numbers", f"{chosen.dtype} of shape {chosen.shape}")
    bad = (chosen < 0) | (chosen >= n)
    if bad.any():
        raise SampleError("rows", f"numbers from 0 to {n - 1}", str(chosen[bad][0]))
    return chosen.astype(np.int64)
