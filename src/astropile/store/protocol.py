"""
What a tree asks of the place it lies in.

A tree on this machine is a folder, `pathlib.Path`; elsewhere it is a `RemotePath`: a store and
the name of something in it. Where either will do, the type is `TreePath`.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from astropile.errors import StoreError
from astropile.store.cache import Cache
from astropile.store.memory import new_array
from astropile.store.ranges import merge_ranges

SMALL_NBYTES: Final = 256 * 2**20
"""A file that is read whole is refused where it is larger."""

PART_NBYTES: Final = 16 * 2**20
"""A longer range is asked for in parts, side by side."""

CLOUDS: Final = frozenset({"s3", "s3a", "gs", "az", "azure", "adl", "abfs", "abfss"})
"""URLs that go to `astropile.store.cloud`; those of other kinds go to fsspec."""

STREAM_NBYTES: Final = 4 * 2**20
"""Read at once of an object that comes as a stream."""

GAP_NBYTES: Final = 65536
"""Pieces of an object at most this far apart may be asked for together."""

SLACK_NBYTES: Final = 16384
"""So many bytes of an object may be fetched for nothing, besides some hundredths of it."""

_URL = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]+::)*[A-Za-z][A-Za-z0-9+.-]+://")


@dataclass(frozen=True, kw_only=True)
class RemoteOptions:
    """
    How to reach a store, and how much of it.

    Parameters
    ----------
    connections : int
        Requests in flight at most.
    attempts : int
        How often a request is made before it is given up.
    timeout : float
        Seconds without an answer, or without a byte of it, until an attempt has failed.
    max_wait : float
        Seconds waited at most before an attempt, whatever `Retry-After` says.
    max_requests, max_bytes : int, optional
        Requests made and bytes received in all, from opening on; no limit by default. A copy,
        pickled or forked, starts with what its original had used up, and counts for itself.
    headers : mapping of str to str
        Sent with every HTTP request, such as ``Authorization``; not to other hosts.
    allowed_hosts : sequence of str
        Hosts, with a port where it is not the usual one, to which a server may redirect. By
        default no request goes anywhere but to the host of the URL.
    cache_dir : path, optional
        Keep row tables and columns of the catalogue in this folder; by default nothing is kept.
    cache_bytes : int
        What that folder may hold.
    storage_options : mapping of str to object
        For clouds what `obstore.store.from_url` takes, such as ``skip_signature`` or ``region``;
        for other stores what fsspec's file system takes.

    Raises
    ------
    ValueError
        If a number is not positive.
    """

    connections: int = 64
    attempts: int = 5
    timeout: float = 30.0
    max_wait: float = 30.0
    max_requests: int | None = None
    max_bytes: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    allowed_hosts: Sequence[str] = ()
    cache_dir: str | os.PathLike[str] | None = None
    cache_bytes: int = 2**30
    storage_options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("connections", "attempts", "timeout", "max_wait"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: expected more than 0, found {getattr(self, name)!r}")


@dataclass(frozen=True)
class Version:
    """
    What tells an object of a store from another that takes its name.

    Parameters
    ----------
    size : int
        Its size in bytes.
    tag : str
        Its entity tag, version, or time of the last change; empty where the store says none.
    """

    size: int
    tag: str


@dataclass(frozen=True)
class Wanted:
    """
    Ranges of one object.

    Parameters
    ----------
    key : str
        The object.
    starts, lengths : ndarray, shape (n,), int64
        The ranges.
    size : int, optional
        The size it must have.
    """

    key: str
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    size: int | None = None


class PassingError(Exception):
    """
    An attempt failed in a way that the next may not.

    Parameters
    ----------
    found : str
        What came.
    wait : float
        How long the server wants to be left alone [s].
    """

    def __init__(self, found: str, wait: float = 0.0) -> None:
        super().__init__(found, wait)
        self.found, self.wait = found, wait

    def __str__(self) -> str:
        return self.found


class WrongRangeError(PassingError):
    """Other bytes came than those asked for; the whole, asked for without a range, may do."""


@dataclass(frozen=True)
class Body:
    """
    Bytes of an object, as they come.

    Parameters
    ----------
    first : int
        Which byte of the object comes first.
    size : int or None
        Size of the whole object; None where the server does not say.
    tag : str
        What tells this version of it; empty where the server says nothing.
    kind : str
        Its media type, where the server says one.
    pieces : iterator of bytes
        The bytes.
    """

    first: int
    size: int | None
    tag: str
    kind: str
    pieces: Iterator[bytes]


_stores: weakref.WeakSet[Store] = weakref.WeakSet()


def _after_fork() -> None:
    for store in list(_stores):
        store._start_afresh()  # noqa: SLF001


os.register_at_fork(after_in_child=_after_fork)


class Store(ABC):
    """
    A tree of named objects of which ranges can be had.

    Safe to use from several threads; a copy that goes to another process starts afresh.

    Parameters
    ----------
    url : str
        Where it is.
    options : RemoteOptions
        How to reach it.

    Attributes
    ----------
    n_requests, n_bytes : int
        Requests made and bytes received so far.
    """

    def __init__(self, url: str, options: RemoteOptions) -> None:
        self.url, self.options = url, options
        self.n_requests = self.n_bytes = 0
        self._versions: dict[str, Version] = {}
        self._start_afresh()
        _stores.add(self)
        self._cache = None
        if options.cache_dir is not None:
            self._cache = Cache(Path(options.cache_dir).expanduser(), options.cache_bytes)

    def _start_afresh(self) -> None:
        """Forget threads and locks: those of a parent process are of no use after a fork."""
        self._lock, self._cache_lock = threading.Lock(), threading.Lock()
        self._pool: ThreadPoolExecutor | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy goes on with what is left of the limits; copies count apart from then on.
        spent = {"n_requests": self.n_requests, "n_bytes": self.n_bytes}
        return type(self), (self.url, self.options), spent

    # -- what each kind of store does in its own way

    @abstractmethod
    def url_of(self, key: str) -> str:
        """
        Write the address of an object, without secrets.

        Parameters
        ----------
        key : str
            Its name.

        Returns
        -------
        str
            The address.
        """

    @abstractmethod
    def _read_whole(self, key: str, limit: int) -> bytes | None:
        """Read an object of at most `limit` bytes; None if there is none."""

    @abstractmethod
    def _read_range(self, key: str, start: int, out: memoryview, size: int | None) -> None:
        """Fill `out` with the bytes from `start` on, of an object of that size."""

    @contextmanager
    def stream(self, key: str, start: int, stop: int | None, *, tag: str = "") -> Iterator[Body]:
        """
        Read an object from a place on, its bytes as they come.

        Parameters
        ----------
        key : str
            Its name.
        start : int
            First byte.
        stop : int or None
            One past the last; None reads to the end.
        tag : str
            What told the version that is wanted; another one is read from its beginning.

        Yields
        ------
        Body
            What comes, from `start` on or from the beginning.

        Raises
        ------
        PassingError
            If the attempt failed in a way that the next may not.
        StoreError
            If the store does not give what was asked for.
        """
        version = self.version(key)
        if tag and version.tag != tag:
            start = 0
        end = version.size if stop is None else min(stop, version.size)

        def pieces() -> Iterator[bytes]:
            for at in range(start, end, STREAM_NBYTES):
                piece = bytearray(min(STREAM_NBYTES, end - at))
                self._read_range(key, at, memoryview(piece), version.size)
                yield bytes(piece)

        yield Body(start, version.size, version.tag, "", pieces())

    def version(self, key: str) -> Version:
        """
        Give size and version of an object as it is now.

        Parameters
        ----------
        key : str
            Its name.

        Returns
        -------
        Version
            Both.

        Raises
        ------
        StoreError
            If there is no such object, or the store fails.
        """
        raise NotImplementedError(type(self).__name__)

    @abstractmethod
    def folders(self, key: str) -> tuple[str, ...] | None:
        """
        Name the folders in a folder.

        Parameters
        ----------
        key : str
            The folder.

        Returns
        -------
        tuple of str or None
            Their names; None where the store cannot list.
        """

    def entries(self, key: str) -> list[str] | None:
        """
        Name what is in a folder, files and folders.

        Parameters
        ----------
        key : str
            The folder.

        Returns
        -------
        list of str or None
            Their names, those of folders with a slash at the end; None where the store cannot
            list.
        """
        del key
        return None

    def check(self, key: str, size: int | None) -> None:  # noqa: B027
        """
        Make sure that what was read of an object is of one version of it.

        Parameters
        ----------
        key : str
            Its name.
        size : int or None
            The size it must have.

        Raises
        ------
        StoreError
            If it was replaced meanwhile. A store that reads by version has nothing to do here.
        """

    def recheck(self, key: str) -> bool:
        """
        Make sure that an object is still the one first met: asks for a byte of that version.

        Parameters
        ----------
        key : str
            Its name.

        Returns
        -------
        bool
            False where it cannot be told: the store does not tag versions, or this copy of it
            never met the object.

        Raises
        ------
        StoreError
            If it was replaced, or the store fails.
        """
        known = self._versions.get(key)
        if known is None or not known.tag:
            return False
        self._ask_again(key)
        return True

    def _ask_again(self, key: str) -> None:
        self._read_range(key, 0, memoryview(bytearray(1)), None)

    # -- what they have in common

    @property
    def has_cache(self) -> bool:
        """Whether what is read is kept in a folder."""
        return self._cache is not None

    def read(
        self, key: str, *, limit: int = SMALL_NBYTES, tag: str = "", sha256: str = ""
    ) -> bytes | None:
        """
        Read an object whole.

        Parameters
        ----------
        key : str
            Its name.
        limit : int
            Largest size accepted.
        tag : str
            With a tag it is kept in the cache, if there is one, as of this tag.
        sha256 : str
            The hash that its content must have, hexadecimal; not checked where empty.

        Returns
        -------
        bytes or None
            Its content; None if there is no such object.

        Raises
        ------
        StoreError
            If the store fails, or the object is larger or not the one of that hash.
        """

        def read() -> bytes | None:
            content = self._read_whole(key, limit)
            if content is not None and sha256 and hashlib.sha256(content).hexdigest() != sha256:
                raise StoreError(self.url_of(key), f"the content of SHA-256 {sha256}", "another")
            return content

        return self._cached(f"{tag}:{key}:{sha256}" if tag else "", read)

    def read_many(
        self, keys: Sequence[str], *, tag: str = "", sha256: Sequence[str] = ()
    ) -> list[bytes | None]:
        """
        Read several objects whole, side by side.

        Parameters
        ----------
        keys : sequence of str
            Their names.
        tag : str
            As for `read`.
        sha256 : sequence of str
            The hash of each; by default none is checked.

        Returns
        -------
        list of bytes or None
            Their contents.
        """
        hashes = sha256 or [""] * len(keys)
        return _results(
            [
                self._submit(partial(self.read, key, tag=tag, sha256=hash_))
                for key, hash_ in zip(keys, hashes, strict=True)
            ]
        )

    def fetch(self, wanted: Wanted, *, tag: str = "") -> Pending:
        """
        Start to read ranges of an object, side by side.

        Parameters
        ----------
        wanted : Wanted
            Which.
        tag : str
            As for `read`.

        Returns
        -------
        Pending
            Gives their bytes when they are there.
        """
        buffers: list[NDArray[np.uint8]] = []
        jobs: list[list[Future[Any]]] = []
        for start, length in zip(wanted.starts.tolist(), wanted.lengths.tolist(), strict=True):
            buffer = new_array((length,), np.uint8)
            buffers.append(buffer)
            parts = [
                (at, buffer[at : at + PART_NBYTES].data) for at in range(0, length, PART_NBYTES)
            ]
            jobs.append([self._submit(self._fill, wanted, start + at, p, tag) for at, p in parts])
        return Pending(self, wanted, buffers, jobs)

    def start(self, work: Callable[[], Any]) -> Future[Any]:
        """
        Start work on one of the store's threads.

        Parameters
        ----------
        work : callable
            Must not wait for other work of the store.

        Returns
        -------
        Future
            Its result.
        """
        return self._submit(work)

    def _fill(self, wanted: Wanted, start: int, out: memoryview, tag: str) -> None:
        def read() -> bytes:
            self._read_range(wanted.key, start, out, wanted.size)
            return bytes(out) if tag and self._cache else b""

        name = f"{tag}:{wanted.key}:{start}+{len(out)}" if tag else ""
        content = self._cached(name, read)
        if content:
            out[:] = content

    def _cached(self, name: str, read: Callable[[], bytes | None]) -> bytes | None:
        if not name or self._cache is None:
            return read()
        name = f"{self.url}:{name}"
        content = self._cache.get(name)
        if content is None:
            content = read()
            if content is not None:
                with self._cache_lock:
                    self._cache.put(name, content)
        return content

    def _submit(self, work: Callable[..., Any], *args: Any) -> Future[Any]:
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self.options.connections, "astropile-fetch")
            pool = self._pool
        return pool.submit(work, *args)

    def _count(self, key: str, *, requests: int = 0, n_bytes: int = 0) -> None:
        """Count what is about to be asked for, or refuse to ask for it."""
        most_requests, most_bytes = self.options.max_requests, self.options.max_bytes
        with self._lock:
            if most_requests is not None and self.n_requests + requests > most_requests:
                found = "one request more"
                raise StoreError(self.url_of(key), f"at most {most_requests} requests", found)
            if most_bytes is not None and self.n_bytes + n_bytes > most_bytes:
                found = f"{n_bytes} bytes more after {self.n_bytes}"
                raise StoreError(self.url_of(key), f"at most {most_bytes} bytes in all", found)
            self.n_requests += requests
            self.n_bytes += n_bytes

    def _pin(self, key: str, version: Version) -> None:
        """Hold an object to the version first met."""
        known = self._versions.setdefault(key, version)
        if known != version:
            raise StoreError(
                self.url_of(key),
                f"the object as it was first read ({_said(known)})",
                f"another ({_said(version)}): it was replaced meanwhile",
            )


def _said(version: Version) -> str:
    return f"{version.size} bytes" + (f", {version.tag}" if version.tag else "")


def _results(jobs: Iterable[Future[Any]]) -> list[Any]:
    """Wait for all; on a failure let those not begun go."""
    waiting = list(jobs)
    try:
        return [job.result() for job in waiting]
    except BaseException:
        for job in waiting:
            job.cancel()
        raise


class Pending:
    """
    Ranges of an object, on their way.

    Safe to use from several threads: who reads waits for the range that is read.

    Parameters
    ----------
    store : Store
        Where they come from.
    wanted : Wanted
        Which ranges: sorted, apart from one another.
    buffers : list of ndarray of uint8
        Where their bytes go.
    jobs : list of list of Future
        What fills each buffer.
    """

    def __init__(
        self,
        store: Store,
        wanted: Wanted,
        buffers: list[NDArray[np.uint8]],
        jobs: list[list[Future[Any]]],
    ) -> None:
        self._store, self._starts = store, wanted.starts
        self._wanted, self._buffers, self._jobs = wanted, buffers, jobs

    def finish(self) -> Pending:
        """
        Wait until all are there, and make sure that all are of one version.

        Returns
        -------
        Pending
            Itself.

        Raises
        ------
        StoreError
            If one of them could not be had as it was asked for.
        """
        _results([job for jobs in self._jobs for job in jobs])
        self._store.check(self._wanted.key, self._wanted.size)
        return self

    def cancel(self) -> None:
        """Let those go that were not yet asked for, and wait for the others."""
        for job in [job for jobs in self._jobs for job in jobs]:
            if not job.cancel():
                job.exception()

    def read_into(self, start: int, out: Any) -> None:
        """
        Copy bytes from a place on.

        Parameters
        ----------
        start : int
            First byte.
        out : writable bytes-like
            Filled whole.

        Raises
        ------
        StoreError
            If they could not be had, or were not asked for.
        """
        view = memoryview(out).cast("B")
        view[:] = self.view(start, len(view)).data

    @property
    def end(self) -> int:
        """Where the last of them ends."""
        return int(self._starts[-1]) + len(self._buffers[-1]) if self._buffers else 0

    def holds(self, start: int, length: int) -> bool:
        """
        Tell whether bytes are among those fetched.

        Parameters
        ----------
        start, length : int
            First byte, and how many.

        Returns
        -------
        bool
            Whether one of the ranges holds them.
        """
        number = int(np.searchsorted(self._starts, start, side="right")) - 1
        if number < 0:
            return False
        return start - int(self._starts[number]) + length <= len(self._buffers[number])

    def view(self, start: int, length: int) -> NDArray[np.uint8]:
        """
        Give bytes from a place on, without a copy.

        Parameters
        ----------
        start, length : int
            First byte, and how many.

        Returns
        -------
        ndarray, shape (length,), uint8
            The bytes.

        Raises
        ------
        StoreError
            If they could not be had, or were not asked for.
        """
        if self.holds(start, length):
            number = int(np.searchsorted(self._starts, start, side="right")) - 1
            for job in self._jobs[number]:
                job.result()
            begin = start - int(self._starts[number])
            return self._buffers[number][begin : begin + length]
        if length == 0:
            return np.empty(0, np.uint8)
        url = self._store.url_of(self._wanted.key)
        raise StoreError(url, "bytes that were fetched", f"{length} bytes from {start} on")


@dataclass(frozen=True)
class RemotePath:
    """
    Something in a store, by its name: used like a `pathlib.Path`.

    Parameters
    ----------
    store : Store
        The store.
    key : str
        The name in it: words with slashes between.
    """

    store: Store
    key: str = ""

    def __truediv__(self, name: str) -> RemotePath:
        return RemotePath(self.store, f"{self.key}/{name}".strip("/"))

    def __str__(self) -> str:
        return self.store.url_of(self.key)

    @property
    def name(self) -> str:
        """The last word of it."""
        return (self.key or self.store.url.partition("?")[0].rstrip("/")).rpartition("/")[2]

    def expanduser(self) -> RemotePath:
        """
        Give the path itself: it is of no user.

        Returns
        -------
        RemotePath
            This path.
        """
        return self

    def absolute(self) -> RemotePath:
        """
        Give the path itself: it has no folder it would start from.

        Returns
        -------
        RemotePath
            This path.
        """
        return self

    def read_bytes(self, limit: int = SMALL_NBYTES) -> bytes:
        """
        Read the object.

        Parameters
        ----------
        limit : int
            Largest size accepted.

        Returns
        -------
        bytes
            Its content.

        Raises
        ------
        FileNotFoundError
            If there is none.
        StoreError
            If the store fails, or the object is larger.
        """
        content = self.store.read(self.key, limit=limit)
        if content is None:
            raise FileNotFoundError(str(self))
        return content


TreePath: TypeAlias = Path | RemotePath


def is_url(path: object) -> bool:
    """
    Tell the URL of a store from the path of a folder.

    Parameters
    ----------
    path : object
        Either.

    Returns
    -------
    bool
        Whether it is text that starts like ``https://``.

    Examples
    --------
    >>> is_url("s3://bucket/hsc"), is_url("simplecache::s3://bucket/hsc"), is_url("data/hsc")
    (True, True, False)
    """
    return isinstance(path, str) and _URL.match(path) is not None


def tree_path(
    path: str | os.PathLike[str] | RemotePath, options: RemoteOptions | None = None
) -> TreePath:
    """
    Make a path of whatever names a tree.

    Parameters
    ----------
    path : path or str
        A folder, the URL of one, or a path that this function gave.
    options : RemoteOptions, optional
        How to reach a URL.

    Returns
    -------
    Path or RemotePath
        The folder; nothing is asked of it yet.

    Raises
    ------
    MissingExtraError
        If the store needs a package that is not installed.
    ValueError
        If the URL is of no kind that can be read.
    """
    if isinstance(path, RemotePath):
        return path if options is None else RemotePath(_open(path.store.url, options), path.key)
    if isinstance(path, str) and is_url(path):
        return RemotePath(_open(path, options or RemoteOptions()))
    return Path(path).expanduser()


def first_line(error: BaseException) -> str:
    """
    Give what an error of another library says, without what follows its first line.

    Parameters
    ----------
    error : BaseException
        The error.

    Returns
    -------
    str
        Its kind and its first line.

    Examples
    --------
    >>> first_line(OSError(" no route to host "))
    'OSError: no route to host'
    """
    lines = str(error).strip().splitlines()
    return ": ".join([type(error).__name__, *(line.strip()[:300] for line in lines[:1])])


def without_secrets(url: str) -> str:
    """
    Give a URL as it may stand in messages.

    Parameters
    ----------
    url : str
        The URL.

    Returns
    -------
    str
        It, without names, passwords and queries.

    Examples
    --------
    >>> without_secrets("ftp://me:secret@host/tree?key=1")
    'ftp://host/tree'
    """
    return re.sub(r"//[^/@]*@", "//", url).partition("?")[0]


def _open(url: str, options: RemoteOptions) -> Store:
    kind, mark, rest = url.partition("://")
    url = kind.lower() + mark + rest
    match kind.lower():
        case "http" | "https":
            from astropile.store.http import HttpStore

            return HttpStore(url, options)
        case kind if kind in CLOUDS:
            from astropile.store.cloud import CloudStore

            return CloudStore(url, options)
        case _:
            from astropile.store.fs import FsspecStore

            return FsspecStore(url, options)


def plan_fetch(
    starts: NDArray[np.int64], lengths: NDArray[np.int64], n_rows: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """
    Plan which ranges of an object to ask for.

    Parameters
    ----------
    starts, lengths : ndarray, shape (n,), int64
        The pieces wanted, in any order.
    n_rows : int
        How many rows they belong to.

    Returns
    -------
    starts, lengths : ndarray, shape (m,), int64
        The ranges, sorted, apart from one another.

    Notes
    -----
    Pieces up to `GAP_NBYTES` apart are joined. Where that would bring too many bytes that
    nobody wants, only those up to a quarter of it are, as long as that makes no more than about
    one request for each row.

    Examples
    --------
    >>> starts, lengths = plan_fetch(np.array([0, 90_000, 900]), np.array([900, 900, 100]), 2)
    >>> starts, lengths
    (array([    0, 90000]), array([1000,  900]))
    """
    some = lengths > 0
    starts, lengths = starts[some], lengths[some]
    plan = merge_ranges(starts, lengths, gap=GAP_NBYTES)
    if plan.n_bytes > merge_ranges(starts, lengths).n_bytes * 1.03 + SLACK_NBYTES:
        closer = merge_ranges(starts, lengths, gap=GAP_NBYTES // 4)
        if len(closer.starts) <= n_rows + 1:
            plan = closer
    return plan.starts, plan.lengths
