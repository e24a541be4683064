"""
Ranges of files behind an HTTP server.

What comes is checked before it is believed: that it is a range (206), the very one asked for
(`Content-Range`), of an object of the size and version first met, not encoded. Nothing else is
ever put in its place. A failed attempt goes on where it broke off.

References
----------
.. [1] RFC 9110, HTTP Semantics, sections 10.2.3, 13 and 14,
   https://www.rfc-editor.org/rfc/rfc9110
"""

from __future__ import annotations

import base64
import random
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import quote, unquote, urljoin, urlsplit, urlunsplit

from astropile.errors import MissingExtraError, StoreError
from astropile.store.protocol import (
    Body,
    PassingError,
    RemoteOptions,
    Store,
    Version,
    WrongRangeError,
)

_AGAIN: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_MISSING: Final = frozenset({404, 410})
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_MAX_REDIRECTS: Final = 5
_READ_NBYTES: Final = 2**20
_STREAM_NBYTES: Final = 2**16
"""Read at once of a body that is kept as it comes: a broken connection loses as much."""

_DRAINED_NBYTES: Final = 2**16
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


class _ReaderError(Exception):
    """Who reads a stream failed, not the server."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(cause)
        self.cause = cause


class HttpStore(Store):
    """
    A folder behind an HTTP server.

    Parameters
    ----------
    url : str
        The folder. A name and password in it go into the header `Authorization`, a query goes
        with every request; neither appears in messages.
    options : RemoteOptions
        How to reach it.

    Raises
    ------
    MissingExtraError
        If urllib3 is not installed.
    ValueError
        If the URL has no host.
    """

    def __init__(self, url: str, options: RemoteOptions) -> None:
        super().__init__(url, options)
        try:
            import urllib3
        except ImportError as error:
            raise MissingExtraError("a tree behind a URL", "remote") from error
        self._urllib3 = urllib3
        parts = urlsplit(url)
        if not parts.hostname:
            raise ValueError(f"a URL with a host was expected, found {url!r}")
        self._scheme, self._host = parts.scheme.lower(), parts.netloc.rpartition("@")[2]
        self._path, self._query = parts.path.rstrip("/"), parts.query
        self._secret = {"Authorization"} | set(options.headers)
        self._headers = dict(options.headers)
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            coded = base64.b64encode(pair.encode()).decode()
            self._headers.setdefault("Authorization", f"Basic {coded}")

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
        return urlunsplit((self._scheme, self._host, self._address(key), "", ""))

    def _address(self, key: str) -> str:
        return f"{self._path}/{quote(key, safe='/=')}" if key else self._path

    def folders(self, key: str) -> tuple[str, ...] | None:
        """
        Say that HTTP cannot list.

        Parameters
        ----------
        key : str
            The folder.

        Returns
        -------
        None
            Always.
        """
        del key
        return None

    # -- one object

    def _read_whole(self, key: str, limit: int) -> bytes | None:
        parts: list[bytes] = []
        total: int | None = None

        def attempt() -> bool:
            nonlocal total
            done = sum(map(len, parts))
            if total is not None and done == total:
                return True
            if done and total is not None:
                # What came before the connection broke stays; the rest is a range.
                rest = bytearray(total - done)
                filled = _Filled(memoryview(rest))
                try:
                    self._attempt_range(key, done, filled, total)
                finally:
                    parts.append(bytes(rest[: filled.n]))
                return True
            parts.clear()
            with self._ask(key, {}) as response:
                if response.status in _MISSING:
                    return False
                if response.status != 200:
                    raise self._refusal(key, response, "200 OK")
                total = _length(response)
                if total is None and response.headers.get("Transfer-Encoding") != "chunked":
                    raise StoreError(
                        self.url_of(key), "a Content-Length", "none: its end cannot be told"
                    )
                if total is not None:
                    self._check_limit(key, total, limit)
                    self._pin(key, Version(total, _tag(response)))
                got = 0
                for piece in self._pieces(key, response, total):
                    got += len(piece)
                    parts.append(piece)
                    self._check_limit(key, got, limit)
                if total is None:
                    total = got
            return True

        found = self._persist(key, attempt)
        return b"".join(parts) if found else None

    def _check_limit(self, key: str, size: int, limit: int) -> None:
        if size > limit:
            raise StoreError(self.url_of(key), f"at most {limit} bytes", f"{size} or more")

    def _read_range(self, key: str, start: int, out: memoryview, size: int | None) -> None:
        filled = _Filled(out.cast("B"))

        def attempt() -> bool:
            self._attempt_range(key, start, filled, size)
            return True

        self._persist(key, attempt)

    def _attempt_range(self, key: str, start: int, filled: _Filled, size: int | None) -> None:
        first, last = start + filled.n, start + len(filled.out) - 1
        where = f"{self.url_of(key)}, bytes {first}-{last}"
        with self._ask(key, {"Range": f"bytes={first}-{last}"}) as response:
            if response.status in _MISSING:
                raise StoreError(self.url_of(key), "a file of the tree", _status(response))
            if response.status != 206:
                raise self._refusal(key, response, "206 Partial Content", where)
            said = str(response.headers.get("Content-Range", ""))
            range_ = _CONTENT_RANGE.fullmatch(said)
            if range_ is None or (int(range_[1]), int(range_[2])) != (first, last):
                raise StoreError(
                    where, f"Content-Range: bytes {first}-{last}", said or "no Content-Range"
                )
            length = _length(response)
            if length is not None and length != last - first + 1:
                raise StoreError(where, f"{last - first + 1} bytes", f"{length} bytes")
            if range_[3] != "*":
                total = int(range_[3])
                if size is not None and total != size:
                    raise StoreError(self.url_of(key), f"{size} bytes", f"{total} bytes")
                self._pin(key, Version(total, _tag(response)))
            for piece in self._pieces(key, response, last - first + 1):
                filled.add(piece)

    @contextmanager
    def stream(self, key: str, start: int, stop: int | None, *, tag: str = "") -> Iterator[Body]:
        """
        Read an object from a place on, in one request, its bytes as they come.

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
            What comes. A server without ranges gives the object from its beginning.

        Raises
        ------
        PassingError
            If the attempt failed in a way that the next may not.
        StoreError
            If the server does not give what was asked for.
        """
        headers = {}
        if start or stop is not None:
            headers["Range"] = f"bytes={start}-" + ("" if stop is None else str(stop - 1))
            if tag and not tag.startswith("W/"):
                headers["If-Range"] = tag
        try:
            with self._ask(key, headers, pinned=False) as response:
                body = self._body(key, response, start, stop if headers else None)
                try:
                    yield body
                except OSError as error:
                    # Of the reader's own disk: no fault of the server.
                    raise _ReaderError(error) from error
                finally:
                    if response.length_remaining != 0:
                        response.close()
        except _ReaderError as error:
            raise error.cause from None

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
            If there is no such object, its server does not say its size, or fails.
        """
        found: list[Body] = []

        def attempt() -> bool:
            with self.stream(key, 0, 1) as body:
                found.append(body)
            return True

        self._persist(key, attempt)
        if found[0].size is None:
            raise StoreError(self.url_of(key), "its size", "none")
        return Version(found[0].size, found[0].tag)

    def _body(self, key: str, response: Any, start: int, stop: int | None) -> Body:
        """Read what an answer brings, before its bytes."""
        first, length = 0, _length(response)
        size = length
        if response.status == 206:
            first, length, size = _said_range(response, start, stop)
        elif response.status in _MISSING:
            raise StoreError(self.url_of(key), "a file that is there", _status(response))
        elif response.status == 416 and response.headers.get("Content-Range") == "bytes */0":
            return Body(0, 0, _tag(response), "", iter(()))
        elif response.status != 200:
            raise self._refusal(key, response, "200 OK")
        encoded = response.headers.get("Content-Encoding", "identity")
        if encoded != "identity":
            raise StoreError(self.url_of(key), "the bytes as they are", f"encoded as {encoded}")
        kind = str(response.headers.get("Content-Type", ""))
        return Body(first, size, _tag(response), kind, self._received(key, response, length))

    def _received(self, key: str, response: Any, length: int | None) -> Iterator[bytes]:
        try:
            yield from self._pieces(key, response, length, _STREAM_NBYTES)
        except (OSError, self._urllib3.exceptions.HTTPError) as error:
            if isinstance(error, StoreError):
                raise
            raise PassingError(f"{type(error).__name__}: {error}") from error

    def _pieces(
        self, key: str, response: Any, length: int | None, at_once: int = _READ_NBYTES
    ) -> Iterator[bytes]:
        """Read a body piece by piece; one that ends early is a passing fault."""
        coding = response.headers.get("Content-Encoding", "identity")
        if coding != "identity":
            raise StoreError(self.url_of(key), "the bytes as they are", f"encoded as {coding}")
        got = 0
        while length is None or got < length:
            wanted = at_once if length is None else min(at_once, length - got)
            piece = response.read(wanted)
            if not piece:
                break
            got += len(piece)
            self._count(key, n_bytes=len(piece))
            yield piece
        if length is not None and got < length:
            raise PassingError(f"an end after {got} of {length} bytes")

    # -- one request

    @contextmanager
    def _ask(self, key: str, headers: Mapping[str, str], *, pinned: bool = True) -> Iterator[Any]:
        """Make one request, and follow it where it may be followed."""
        sent = {**self._headers, "Accept-Encoding": "identity", **headers}
        known = self._versions.get(key)
        if pinned and known is not None and known.tag.startswith('"'):
            sent["If-Match"] = known.tag
        url = urlunsplit((self._scheme, self._host, self._address(key), self._query, ""))
        response: Any = None
        whole = False
        try:
            for _ in range(_MAX_REDIRECTS + 1):
                self._count(key, requests=1)
                response = self._connections().request(
                    "GET",
                    url,
                    headers=sent,
                    preload_content=False,
                    decode_content=False,
                    redirect=False,
                    retries=False,
                )
                if response.status not in _REDIRECTS:
                    break
                url = self._redirected(key, url, response, sent)
                if (_length(response) or _DRAINED_NBYTES) < _DRAINED_NBYTES:
                    response.drain_conn()
                else:
                    response.close()
                response.release_conn()
            else:
                raise StoreError(
                    self.url_of(key), f"at most {_MAX_REDIRECTS} redirects", "one more"
                )
            yield response
            whole = True
        except self._urllib3.exceptions.SSLError as error:
            raise StoreError(self.url_of(key), "a trusted certificate", str(error)) from error
        except self._urllib3.exceptions.HTTPError as error:
            raise PassingError(f"{type(error).__name__}: {error}") from error
        except OSError as error:
            if isinstance(error, StoreError):
                raise
            raise PassingError(f"{type(error).__name__}: {error}") from error
        finally:
            if response is not None:
                # A body that was not read to its end would be read as the next answer.
                if not whole or response.status not in (200, 206):
                    response.close()
                response.release_conn()

    def _redirected(self, key: str, url: str, response: Any, sent: dict[str, str]) -> str:
        target = str(urljoin(url, response.headers.get("Location", "")))
        parts = urlsplit(target)
        host = parts.netloc.rpartition("@")[2]
        same = host == urlsplit(url).netloc.rpartition("@")[2]
        if not same and host not in self.options.allowed_hosts:
            raise StoreError(
                self.url_of(key),
                "an answer of this host, or one of allowed_hosts",
                f"a redirect to {parts.scheme}://{host}",
            )
        if parts.scheme not in {"https", urlsplit(url).scheme}:
            raise StoreError(self.url_of(key), "https", f"a redirect to {parts.scheme}")
        if not same:
            for name in self._secret:
                sent.pop(name, None)
        return target

    def _refusal(
        self, key: str, response: Any, expected: str, where: str | None = None
    ) -> Exception:
        """Say what an answer of another status means."""
        if response.status == 412:
            return StoreError(
                self.url_of(key),
                "the object as it was first read",
                "another: it was replaced meanwhile",
            )
        found = _status(response)
        if response.status in _AGAIN:
            return PassingError(found, _retry_after(response.headers.get("Retry-After", "")))
        if response.status == 200:
            kind = response.headers.get("Content-Type", "")
            found += f", the whole object ({kind})" if kind else ", the whole object"
            expected += " from a server that serves ranges"
        if response.status == 416:
            found += f": the object is {response.headers.get('Content-Range', 'shorter')}"
        return StoreError(where or self.url_of(key), expected, found)

    def _persist(self, key: str, attempt: Any) -> bool:
        """Try again after what may pass; the waits grow, and are never of one length."""
        for number in range(1, self.options.attempts + 1):
            try:
                return bool(attempt())
            except PassingError as error:
                if number == self.options.attempts:
                    raise StoreError(
                        self.url_of(key), f"an answer within {number} attempts", error.found
                    ) from error
                backoff = 0.1 * 2 ** (number - 1) * random.uniform(0.5, 1.0)  # noqa: S311
                time.sleep(min(max(backoff, error.wait), self.options.max_wait))
        raise AssertionError("attempts is at least one")

    def _start_afresh(self) -> None:
        super()._start_afresh()
        # Connections of a parent process must not be used by its children.
        self._manager: Any = None

    def _connections(self) -> Any:
        with self._lock:
            if self._manager is None:
                self._manager = self._urllib3.PoolManager(
                    num_pools=8,
                    maxsize=self.options.connections,
                    timeout=self._urllib3.Timeout(
                        connect=self.options.timeout, read=self.options.timeout
                    ),
                )
            return self._manager


class _Filled:
    """Memory that is filled from its beginning on, in several attempts."""

    def __init__(self, out: memoryview) -> None:
        self.out, self.n = out, 0

    def add(self, piece: bytes) -> None:
        """Put bytes behind those that are there."""
        self.out[self.n : self.n + len(piece)] = piece
        self.n += len(piece)


def _said_range(response: Any, start: int, stop: int | None) -> tuple[int, int, int]:
    """Read which bytes came: first, how many, of how large an object."""
    said = str(response.headers.get("Content-Range", ""))
    range_ = _CONTENT_RANGE.fullmatch(said)
    wanted = f"bytes {start}-" + ("" if stop is None else str(stop - 1))
    if range_ is None or range_[3] == "*":
        raise WrongRangeError(f"Content-Range: {said or 'none'}, not {wanted}")
    first, last, size = int(range_[1]), int(range_[2]), int(range_[3])
    length = _length(response)
    if (
        first != start
        or last != (size if stop is None else min(size, stop)) - 1
        or length not in (None, last - first + 1)
    ):
        raise WrongRangeError(f"Content-Range: {said}, not {wanted}")
    return first, last - first + 1, size


def _status(response: Any) -> str:
    return f"{response.status} {response.reason or ''}".strip()


def _length(response: Any) -> int | None:
    text = response.headers.get("Content-Length", "")
    return int(text) if text.isdigit() else None


def _tag(response: Any) -> str:
    headers = response.headers
    return str(headers.get("ETag") or headers.get("Last-Modified") or "")


def _retry_after(text: str) -> float:
    """Read how long a server wants to be left alone [s]."""
    if text.isdigit():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError):
        return 0.0
