"""A shard in a store, as a source of bytes: what was asked for ahead, and what is asked for now."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astropile.errors import FormatError, StoreError
from astropile.hdf5.rows import HEAD_NBYTES, RowTable, head_hash
from astropile.integrity import Blocks
from astropile.shards import CatalogShard
from astropile.store.protocol import Pending, RemotePath, Wanted


def place_of(shard: CatalogShard) -> RemotePath:
    """
    Give the place of a shard in its store.

    Parameters
    ----------
    shard : CatalogShard
        A shard of a remote tree.

    Returns
    -------
    RemotePath
        Its path.
    """
    path: Any = shard.path
    assert isinstance(path, RemotePath)
    return path


class Ahead(threading.local):
    """What this thread's calls have asked for."""

    def __init__(self) -> None:
        self.sources: dict[str, RemoteShard] = {}


class RemoteShard:
    """
    One shard: ranges that are on their way, and others when they are asked for.

    Parameters
    ----------
    path : RemotePath
        The file.
    table : RowTable
        Where everything lies in it.
    heads : set of str
        Files whose beginning is that of the file described; this one comes in when it is.
    pending : Pending, optional
        What is on its way.
    blocks : Blocks, optional
        What is known of the file's blocks, where they are hashed.
    asks_head : bool
        Whether the file's beginning is on its way too.

    Attributes
    ----------
    asked : str
        Which columns and rows, for messages.
    """

    def __init__(
        self,
        path: RemotePath,
        table: RowTable,
        heads: set[str],
        pending: Pending | None,
        blocks: Blocks | None,
        *,
        asks_head: bool = False,
    ) -> None:
        self.asks_head, self._blocks = asks_head, blocks
        self.asked = ""
        self._path, self._table, self._heads, self._pending = path, table, heads, pending

    def expect(self, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> None:
        """Do nothing: what will be read was asked for before."""

    def read_into(self, start: int, out: Any) -> None:
        """Give bytes, when they are there."""
        view = memoryview(out).cast("B")
        pending = self._pending
        if pending is None or not pending.holds(start, len(view)):
            # Nobody planned for these.
            if self._blocks is None:
                self._check_head(self._fetch(0, self._head_nbytes))
            pending = self._fetch(start, len(view))
        elif self._blocks is None and pending.holds(0, self._head_nbytes):
            self._check_head(pending)
        self._check_blocks(pending, start, len(view))
        pending.read_into(start, view)

    def _check_blocks(self, ranges: Pending, start: int, length: int) -> None:
        blocks = self._blocks
        for number in blocks.overlapping(start, length) if blocks is not None else ():
            assert blocks is not None
            if not blocks.sound[number]:
                first, end = blocks.span(number)
                blocks.check(number, ranges.view(first, end - first).data)

    @property
    def _head_nbytes(self) -> int:
        return min(HEAD_NBYTES, self._table.file_size)

    def _check_head(self, ranges: Pending) -> None:
        if self._path.key in self._heads:
            return
        if head_hash(ranges.view(0, self._head_nbytes).data) != self._table.head:
            raise FormatError(
                str(self._path), "the shard that its row table describes", "another file"
            )
        self._heads.add(self._path.key)

    def _fetch(self, start: int, length: int) -> Pending:
        one, size = np.array([start]), np.array([length])
        if self._blocks is not None:
            one, size = self._blocks.widened(one, size)
        wanted = Wanted(self._path.key, one, size, self._table.file_size)
        return self._path.store.fetch(wanted).finish()

    def finish(self) -> None:
        """Make sure that all that was read is of one version."""
        if self._pending is None:
            return
        try:
            self._pending.finish()
        except StoreError as error:
            raise StoreError(error.url + self.asked, error.expected, error.found) from error

    def cancel(self) -> None:
        """Let go what was not yet asked for."""
        if self._pending is not None:
            self._pending.cancel()
