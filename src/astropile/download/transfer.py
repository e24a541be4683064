"""
Fetch one file: nothing takes its final name before it is whole and as promised.

What comes is kept beside the final name, under a name with a dot. Where the hashes of its blocks
are known, a block is kept once it is checked, so that any later run, of any process, goes on with
the blocks that are there. Where only the whole has a hash, or nothing has, a run goes on only with
the version that was begun.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from astropile.download.folder import Folder, Place
from astropile.errors import IntegrityError, StoreError
from astropile.inventory import FileFacts
from astropile.store.protocol import Body, PassingError, Store, WrongRangeError

TRIES: Final = 2
"""A block that came with other bytes than promised is asked for once more."""

_READ_NBYTES: Final = 2**20
_ALIVE_NBYTES: Final = 2**16
"""A source that gives less than this in the time of `Patience.give_up` is given up."""


@dataclass(frozen=True, kw_only=True)
class Patience:
    """
    How long to try.

    Parameters
    ----------
    attempts : int
        Attempts in a row that may bring nothing new.
    give_up : float
        Seconds without anything new, waits included.
    max_wait : float
        Seconds waited at most before an attempt, whatever `Retry-After` says.
    """

    attempts: int = 6
    give_up: float = 300.0
    max_wait: float = 60.0


def nothing(_n_bytes: int) -> None:
    """
    Do nothing with a number of bytes.

    Parameters
    ----------
    _n_bytes : int
        The number.
    """


def fetch_file(
    store: Store,
    key: str,
    folder: Folder,
    facts: FileFacts,
    *,
    patience: Patience,
    note: Callable[[int], None] = nothing,
    reuse: bool = False,
) -> bool:
    """
    Fetch a file, or what is missing of it.

    Parameters
    ----------
    store : Store
        Where it comes from.
    key : str
        Its name there.
    folder : Folder
        What it goes into.
    facts : FileFacts
        Its path in the folder, and what it must be.
    patience : Patience
        How long to try.
    note : callable
        Told how many more bytes are there, checked.
    reuse : bool
        Take over the sound blocks of a file that stands under the final name.

    Returns
    -------
    bool
        False if it was there already.

    Raises
    ------
    StoreError
        If the source fails for longer than patience lasts.
    IntegrityError
        If what comes is not what was promised.
    DownloadError
        If the place is not safe to write to, or another process holds it.
    OSError
        If the disk fails. In every case nothing stands under the final name that was not there.
    """
    with folder.place(facts.path) as place, place.locked(patience.give_up):
        if is_there(place, facts):
            note(facts.size or 0)
            return False
        if reuse and facts.blocks:
            _copy(place)
        kind = _ByBlocks if facts.blocks else _Whole
        kind(store, key, place, facts, patience, note).run()
    return True


def _copy(place: Place) -> None:
    """Begin a file with what stands under its final name, unless it was begun already."""
    source = place.open_there()
    if source is None:
        return
    target = place.open_part()
    try:
        if os.fstat(target).st_size == 0:
            at = 0
            while piece := os.pread(source, _READ_NBYTES, at):
                _write(target, memoryview(piece), at)
                at += len(piece)
    finally:
        os.close(source)
        os.close(target)


def is_there(place: Place, facts: FileFacts) -> bool:
    """
    Tell whether a file stands under its final name, as promised.

    Parameters
    ----------
    place : Place
        Its name.
    facts : FileFacts
        What it must be; where neither size nor hash is known, no file is it.

    Returns
    -------
    bool
        Whether it does.
    """
    descriptor = place.open_there()
    if descriptor is None:
        return False
    try:
        if facts.size is None and not facts.sha256:
            return False
        if facts.size is not None and os.fstat(descriptor).st_size != facts.size:
            return False
        return not facts.sha256 or hash_of(descriptor) == facts.sha256
    finally:
        os.close(descriptor)


def hash_of(descriptor: int) -> str:
    """
    Hash an open file.

    Parameters
    ----------
    descriptor : int
        The file.

    Returns
    -------
    str
        Its SHA-256, hexadecimal.
    """
    digest = hashlib.sha256()
    room = bytearray(_READ_NBYTES)
    view = memoryview(room)
    at = 0
    while n := os.preadv(descriptor, [view], at):
        digest.update(view[:n])
        at += n
    return digest.hexdigest()


class _Transfer:
    """What fetching a file takes, whatever is known of it."""

    def __init__(
        self,
        store: Store,
        key: str,
        place: Place,
        facts: FileFacts,
        patience: Patience,
        note: Callable[[int], None],
    ) -> None:
        self.store, self.key, self.place, self.facts = store, key, place, facts
        self.patience, self.note = patience, note
        self.n_checked = 0
        self.ranges = True
        self._alive = time.monotonic()
        self._since = 0

    @property
    def url(self) -> str:
        return self.store.url_of(self.key)

    def persist(self, attempt: Callable[[], None]) -> None:
        """Try again after what may pass, while anything new comes."""
        failed = 0
        while True:
            before = self.n_checked
            try:
                attempt()
            except PassingError as error:
                self.ranges &= not isinstance(error, WrongRangeError)
                failed = 0 if self.n_checked > before else failed + 1
                if self.n_checked > before:
                    self._alive = time.monotonic()
                left = self._alive + self.patience.give_up - time.monotonic()
                if failed >= self.patience.attempts or left <= 0:
                    raise self._given_up(failed, error) from error
                backoff = 0.5 * 2**failed * random.uniform(0.5, 1.0)  # noqa: S311
                time.sleep(min(max(backoff, error.wait), self.patience.max_wait, left))
            else:
                return

    def _given_up(self, failed: int, error: PassingError) -> StoreError:
        seconds = time.monotonic() - self._alive
        wanted = f"all of it, something new within {failed} attempts and {seconds:.0f} s"
        return StoreError(self.url, wanted, error.found)

    def received(self, n_bytes: int) -> None:
        """Note that the source is alive, or that it is not."""
        now = time.monotonic()
        self._since += n_bytes
        if self._since >= _ALIVE_NBYTES:
            self._alive, self._since = now, 0
        elif now - self._alive > self.patience.give_up:
            raise PassingError(f"{self._since} bytes in {now - self._alive:.0f} s")

    def other_size(self, body: Body) -> IntegrityError:
        """Make the error of a file that is not of the size promised."""
        kind = f" of {body.kind}" if body.kind else ""
        return IntegrityError(self.url, f"{self.facts.size} bytes", f"{body.size} bytes{kind}")

    def finish(self, descriptor: int) -> bool:
        """Look at the whole once more, and give it its final name."""
        size = os.fstat(descriptor).st_size
        if self.facts.size is not None and size != self.facts.size:
            return False
        if self.facts.sha256 and hash_of(descriptor) != self.facts.sha256:
            return False
        self.place.publish(descriptor)
        self.place.write_note("")
        return True


class _ByBlocks(_Transfer):
    """A file whose blocks have hashes."""

    def run(self) -> None:
        descriptor = self.place.open_part()
        try:
            size = self.facts.size
            assert size is not None
            if os.fstat(descriptor).st_size > size:
                os.close(descriptor)
                self.place.remove_part()
                descriptor = self.place.open_part()
            self._descriptor = descriptor
            self._room = bytearray(self.facts.block_nbytes)
            self._wrong = [0] * len(self.facts.blocks)
            self._sound = self._found()
            self.persist(self._attempt)
            bad = [n for n, sound in enumerate(self._sound) if not sound]
            if bad:
                raise IntegrityError(
                    self.url,
                    f"the blocks that its hashes promise, {TRIES} times asked for",
                    f"others: {_listed(bad)} of {len(self._sound)}",
                )
            if not self.finish(descriptor):
                self.place.remove_part()
                raise IntegrityError(
                    self.url, f"SHA-256 {self.facts.sha256}", "blocks that make another whole"
                )
        finally:
            os.close(descriptor)

    def _found(self) -> list[bool]:
        """Check which blocks are there from an earlier run."""
        sound = []
        for block, promised in enumerate(self.facts.blocks):
            start, stop = self.facts.span(block)
            view = memoryview(self._room)[: stop - start]
            n = os.preadv(self._descriptor, [view], start)
            is_sound = n == len(view) and hashlib.sha256(view).hexdigest() == promised
            sound.append(is_sound)
            if is_sound:
                self.note(stop - start)
            elif n == 0:
                return sound + [False] * (len(self.facts.blocks) - block - 1)
        return sound

    def _wanted(self) -> tuple[int, int] | None:
        """Give the next run of blocks that are still to be had."""
        first = next((n for n in range(len(self._sound)) if self._is_open(n)), None)
        if first is None:
            return None
        last = first
        while last + 1 < len(self._sound) and self._is_open(last + 1):
            last += 1
        return first, last

    def _is_open(self, block: int) -> bool:
        return not self._sound[block] and self._wrong[block] < TRIES

    def _attempt(self) -> None:
        while (run := self._wanted()) is not None:
            start, stop = self.facts.span(run[0])[0], self.facts.span(run[1])[1]
            is_whole = not self.ranges or (start == 0 and stop == self.facts.size)
            start = 0 if is_whole else start
            with self.store.stream(self.key, start, None if is_whole else stop) as body:
                if body.size is not None and body.size != self.facts.size:
                    raise self.other_size(body)
                self._take(body, stop)

    def _take(self, body: Body, stop: int) -> None:
        """Check the blocks of a body one after another, and keep those that are sound."""
        block, fill = body.first // self.facts.block_nbytes, 0
        for piece in body.pieces:
            self.received(len(piece))
            view = memoryview(piece)
            while view:
                start, end = self.facts.span(block)
                part = view[: end - start - fill]
                self._room[fill : fill + len(part)] = part
                fill, view = fill + len(part), view[len(part) :]
                if fill < end - start:
                    break
                self._keep(block, start, end)
                if end >= stop:
                    return
                block, fill = block + 1, 0
        at = self.facts.span(block)[0] + fill
        raise PassingError(f"an end after byte {at} of {self.facts.size}")

    def _keep(self, block: int, start: int, end: int) -> None:
        if self._sound[block]:
            return
        view = memoryview(self._room)[: end - start]
        if hashlib.sha256(view).hexdigest() != self.facts.blocks[block]:
            self._wrong[block] += 1
            return
        _write(self._descriptor, view, start)
        self._sound[block] = True
        self.n_checked += 1
        self.note(end - start)


class _Whole(_Transfer):
    """A file whose blocks have no hashes; the whole may have one."""

    def run(self) -> None:
        for _ in range(TRIES):
            self._descriptor = self.place.open_part()
            try:
                self._tag, self._size = self._begun()
                self.persist(self._attempt)
                if self.finish(self._descriptor):
                    return
            finally:
                os.close(self._descriptor)
            self._restart_names()
        raise IntegrityError(
            self.url, f"SHA-256 {self.facts.sha256}", f"another, {TRIES} times asked for"
        )

    def _begun(self) -> tuple[str, int | None]:
        """Read which version an earlier run began; without that nothing of it can be used."""
        try:
            noted = json.loads(self.place.read_note())
            tag, size = str(noted["tag"]), int(noted["size"])
        except (ValueError, TypeError, KeyError):
            tag, size = "", -1
        there = os.fstat(self._descriptor).st_size
        if tag and there <= size and self.facts.size in (None, size):
            return tag, size
        if there:
            self._restart()
        return "", None

    def _restart_names(self) -> None:
        self.place.remove_part()
        self.place.write_note("")

    def _restart(self) -> None:
        """Begin a new file: the old one may be open elsewhere."""
        self._restart_names()
        fresh = self.place.open_part()
        os.dup2(fresh, self._descriptor, inheritable=False)
        os.close(fresh)

    def _attempt(self) -> None:
        at = os.fstat(self._descriptor).st_size
        if self._size is not None and at == self._size:
            return
        if at and not self.ranges:
            self._restart()
            at, self._tag, self._size = 0, "", None
        with self.store.stream(self.key, at, None, tag=self._tag) as body:
            size = self.facts.size if self.facts.size is not None else body.size
            if body.size is not None and body.size != size:
                raise self.other_size(body)
            if size is None:
                raise StoreError(self.url, "its size, from anyone", "none: its end cannot be told")
            if at and (body.first != at or body.tag != self._tag):
                self._restart()
                at = 0
                if body.first:
                    self._tag, self._size = "", None
                    raise PassingError("another version than the one begun")
            if not at:
                self._tag, self._size = body.tag, size
                if body.tag and size is not None:
                    self.place.write_note(json.dumps({"tag": body.tag, "size": size}))
            self._take(body, at, size)

    def _take(self, body: Body, at: int, size: int | None) -> None:
        for piece in body.pieces:
            self.received(len(piece))
            part = memoryview(piece)[: len(piece) if size is None else size - at]
            _write(self._descriptor, part, at)
            at += len(part)
            self.n_checked += len(part)
            self.note(len(part))
            if at == size:
                return
        if size is not None and at < size:
            raise PassingError(f"an end after byte {at} of {size}")


def _write(descriptor: int, view: memoryview, at: int) -> None:
    while view:
        n = os.pwrite(descriptor, view, at)
        at, view = at + n, view[n:]


def _listed(blocks: list[int]) -> str:
    """Write block numbers as ranges: ``blocks 3, 5-7``."""
    return f"block{'' if len(blocks) == 1 else 's'} " + ", ".join(
        str(first) if first == last else f"{first}-{last}" for first, last in _runs(blocks)
    )


def _runs(numbers: list[int]) -> Iterator[tuple[int, int]]:
    first = last = numbers[0]
    for number in numbers[1:]:
        if number != last + 1:
            yield first, last
            first = number
        last = number
    yield first, last
