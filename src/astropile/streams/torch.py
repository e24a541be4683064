"""Streams in PyTorch: as an iterable dataset, in worker processes, on the way to a GPU."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from astropile.errors import MissingExtraError, SampleError
from astropile.streams.batches import Batches, State

try:
    # By name: the types are the same whether PyTorch is there or not.
    torch: Any = importlib.import_module("torch")
    data: Any = importlib.import_module("torch.utils.data")
except ImportError as error:
    raise MissingExtraError("streams in PyTorch", "torch") from error


class StreamDataset(data.IterableDataset):  # type: ignore[misc]
    """
    A stream as an iterable dataset of batches.

    For `torch.utils.data.DataLoader` or torchdata's `StatefulDataLoader`, with
    ``batch_size=None``: each item is a batch. In worker processes each reads every n-th batch,
    so that the loader puts them together in the order of the stream.

    Parameters
    ----------
    stream : Stream or Mixture
        The stream; give it ``format="torch"`` for tensors.

    Notes
    -----
    A process that only waits for workers does not see the epoch end: `StreamLoader` tells the
    stream, with other loaders call ``stream.set_epoch`` before each.
    """

    def __init__(self, stream: Batches) -> None:
        super().__init__()
        self.stream = stream
        self._begin: tuple[State, int] | None = None
        self._given = 0

    def __len__(self) -> int:
        return len(self.stream)

    def begin_at(self, start: State) -> None:
        """
        Let workers that are started now begin at a state.

        Parameters
        ----------
        start : tuple
            The state.
        """
        self._begin = start, 0

    def __iter__(self) -> Iterator[Any]:
        info = data.get_worker_info()
        if info is None:
            yield from self.stream
            return
        start, self._given = self._begin or (self.stream.begin(), 0)
        self._begin = start, 0
        first = info.id + self._given * info.num_workers
        # What a worker sends is still on its way when it reads on: no memory is used twice.
        found = self.stream.part(start, (first, info.num_workers), fresh=True)
        with contextlib.closing(found) as batches:
            for _, batch in batches:
                self._given += 1
                yield batch
        self.stream.note(start)
        self.stream.finish(start)
        self._begin = None

    def state_dict(self) -> dict[str, Any]:
        """
        Say where this process stands: for loaders that keep a state for each worker.

        Returns
        -------
        dict
            In the main process the stream's own state. In a worker, where it began and how many
            batches it gave: to be gone on with by as many workers.
        """
        info = data.get_worker_info()
        if info is None or self._begin is None:
            return self.stream.state_dict()
        after = self.stream.state_dict()
        return {"begin": after, "given": self._given, "workers": info.num_workers}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """
        Go on where another process stood.

        Parameters
        ----------
        state : mapping
            What `state_dict` gave.

        Raises
        ------
        SampleError
            If it is of other data or another order, or of another number of workers.
        """
        if "begin" not in state:
            self.stream.load_state_dict(state)
            return
        info = data.get_worker_info()
        workers = info.num_workers if info else 0
        if state["workers"] != workers:
            raise SampleError("num_workers", str(state["workers"]), str(workers))
        self.stream.load_state_dict(state["begin"])
        self._begin = self.stream.begin(), int(state["given"])


class StreamLoader(data.DataLoader):  # type: ignore[misc]
    """
    A loader that gives a stream's batches, read by threads or by worker processes.

    Its state is the stream's: exact for any number of ranks and workers.

    Parameters
    ----------
    stream : Stream or Mixture
        The stream; its `format` should be ``"torch"``.
    num_workers : int
        Processes that read; with 0, the threads of the stream do, which is faster unless the
        stream's transform keeps Python busy.
    **options : object
        As for `torch.utils.data.DataLoader`: `prefetch_factor`, `pin_memory`,
        `multiprocessing_context`, `timeout`.

    Raises
    ------
    SampleError
        If `persistent_workers` is asked for.
    """

    def __init__(self, stream: Batches, *, num_workers: int = 0, **options: Any) -> None:
        if options.get("persistent_workers"):
            raise SampleError("persistent_workers", "False", "True: workers begin each epoch anew")
        self.stream = stream
        super().__init__(
            StreamDataset(stream),
            batch_size=None,
            collate_fn=_as_it_is,
            num_workers=num_workers,
            **options,
        )

    def __iter__(self) -> Iterator[Any]:
        if not self.num_workers:
            yield from self.stream
            return
        start = self.stream.begin()
        self.dataset.begin_at(start)
        plan = self.stream.plan(start)
        for after, batch in zip(plan, super().__iter__(), strict=True):
            self.stream.note(after)
            yield batch
        self.stream.finish(start)

    def state_dict(self) -> dict[str, Any]:
        """
        Say where the stream stands: after the last batch that was given out.

        Returns
        -------
        dict
            The stream's state.
        """
        return self.stream.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """
        Let the next iteration begin where another stood.

        Parameters
        ----------
        state : mapping
            What `state_dict` gave.
        """
        self.stream.load_state_dict(state)


def _as_it_is(batch: Any) -> Any:
    return batch


def to_device(batches: Iterable[Any], device: Any) -> Iterator[Any]:
    """
    Copy batches to a device, beside what it computes.

    Parameters
    ----------
    batches : iterable
        Of tensors in dicts, lists and tuples, such as a `Stream` or `Mixture` of
        ``format="torch"``; what is no tensor stays as it is. With ``pin_memory=True`` the copy
        needs no processor.
    device : device or str
        Where to.

    Yields
    ------
    object
        The same with tensors on the device. They stay valid, and the memory they came from is
        not used again before they are copied.
    """
    device = torch.device(device)
    if device.type != "cuda":
        for batch in batches:
            yield _moved(batch, device)
        return
    beside = torch.cuda.Stream(device)
    for batch in batches:
        with torch.cuda.stream(beside):
            moved = _moved(batch, device)
        beside.synchronize()
        _used_by(torch.cuda.current_stream(device), moved)
        yield moved


def _moved(values: Any, device: Any) -> Any:
    match values:
        case torch.Tensor():
            return values.to(device, non_blocking=True, copy=True)
        case dict():
            return {name: _moved(value, device) for name, value in values.items()}
        case tuple() | list():
            moved = [_moved(value, device) for value in values]
            # A named tuple takes its fields one by one.
            return type(values)(*moved) if hasattr(values, "_fields") else type(values)(moved)
    return values


def _used_by(stream: Any, values: Any) -> None:
    """Keep the memory of tensors until a CUDA stream has done with them."""
    match values:
        case torch.Tensor():
            values.record_stream(stream)
        case dict():
            _used_by(stream, list(values.values()))
        case tuple() | list():
            for value in values:
                _used_by(stream, value)
