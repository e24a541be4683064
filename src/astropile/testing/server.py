"""
Serve a folder over HTTP on this machine, with ranges, and with faults where a test wants them.

    python -m astropile.testing.server FOLDER --latency 0.02

It counts what it is asked for: `GET /-/counts` gives and clears the counts as JSON. It is made
for tests, benchmarks and examples, not for a network.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


@dataclass(frozen=True)
class Ask:
    """
    A request.

    Parameters
    ----------
    key : str
        Path of the file below the folder.
    start, end : int or None
        First byte, and last byte + 1, of the range asked for; None without one.
    number : int
        How many requests for this file there were before.
    headers : dict of str to str
        What came with it, names in lower case.
    """

    key: str
    start: int | None
    end: int | None
    number: int
    headers: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """
    What to do otherwise than right.

    Parameters
    ----------
    status : int, optional
        Answer this status and no body, unless it is 200: then the whole file.
    headers : dict of str to str
        Put these in place of the right ones; an empty text leaves one out.
    cut : int, optional
        Break the connection after so many bytes of the body.
    content : bytes, optional
        Send this in place of the file.
    """

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    content: bytes | None = None


class RangeServer(ThreadingHTTPServer):
    """
    A server of a folder on 127.0.0.1.

    Parameters
    ----------
    folder : Path
        The folder.
    latency : float
        Seconds to wait before each answer.
    fault : callable, optional
        Given an `Ask`, the `Fault` to commit, or None.

    Attributes
    ----------
    asked : list of Ask
        The requests so far.
    n_bytes : int
        Bytes of bodies sent so far.
    """

    daemon_threads = True
    request_queue_size = 256

    def __init__(
        self,
        folder: Path,
        *,
        latency: float = 0.0,
        fault: Callable[[Ask], Fault | None] | None = None,
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.latency, self.fault = folder.resolve(), latency, fault
        self._counting = threading.Lock()
        self._seen: Counter[str] = Counter()
        self.asked: list[Ask] = []
        self.n_bytes = 0

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.server_port}"

    def note(self, key: str, start: int | None, end: int | None, headers: dict[str, str]) -> Ask:
        """
        Count a request.

        Parameters
        ----------
        key, start, end, headers
            As for `Ask`.

        Returns
        -------
        Ask
            The request.
        """
        with self._counting:
            ask = Ask(key, start, end, self._seen[key], headers)
            self._seen[key] += 1
            self.asked.append(ask)
        return ask

    def sent(self, n_bytes: int) -> None:
        """
        Count bytes of a body.

        Parameters
        ----------
        n_bytes : int
            How many.
        """
        with self._counting:
            self.n_bytes += n_bytes

    def clear(self) -> None:
        """Count from nothing again."""
        with self._counting:
            self.asked, self.n_bytes = [], 0
            self._seen.clear()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """
        Say nothing of clients that break off.

        Parameters
        ----------
        request, client_address
            Of the connection.
        """
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """Answers one connection's requests."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: RangeServer

    def log_message(self, *_: Any) -> None:
        """Write no log."""

    def do_HEAD(self) -> None:
        """Answer a request for a head: as a GET, without a body."""
        self.do_GET()

    def do_GET(self) -> None:
        """Answer a request."""
        key = unquote(urlsplit(self.path).path).strip("/")
        if key == "-/counts":
            counts = {"requests": len(self.server.asked), "bytes": self.server.n_bytes}
            self.server.clear()
            self._answer(200, {}, json.dumps(counts).encode())
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        path = (self.server.folder / key).resolve()
        is_there = path.is_relative_to(self.server.folder) and path.is_file()
        size = path.stat().st_size if is_there else 0
        range_ = _RANGE.fullmatch(headers.get("range", ""))
        start = end = None
        if range_ and range_[1]:
            start, end = int(range_[1]), min(size, int(range_[2] or size - 1) + 1)
        elif range_:
            start, end = max(0, size - int(range_[2])), size
        ask = self.server.note(key, start, end, headers)
        time.sleep(self.server.latency)
        fault = (self.server.fault(ask) if self.server.fault else None) or Fault()
        if fault.status is not None and fault.status != 200:
            self._answer(fault.status, fault.headers, b"")
        elif fault.content is None and not is_there:
            self._answer(404, {}, b"")
        else:
            self._file(ask, path, fault)

    def _file(self, ask: Ask, path: Path, fault: Fault) -> None:
        if fault.content is None:
            stat = path.stat()
            size, tag = stat.st_size, f'"{stat.st_mtime_ns:x}-{stat.st_size:x}"'
        else:
            size, tag = len(fault.content), '"made up"'
        headers = {"ETag": tag, "Accept-Ranges": "bytes", **fault.headers}
        if ask.headers.get("if-match", headers["ETag"]) != headers["ETag"]:
            self._answer(412, {}, b"")
            return
        status, start, end = 200, 0, size
        if ask.start is not None and ask.end is not None and fault.status is None:
            if ask.start >= size:
                self._answer(416, {"Content-Range": f"bytes */{size}"}, b"")
                return
            status, start, end = 206, ask.start, min(ask.end, size)
            headers = {"Content-Range": f"bytes {start}-{end - 1}/{size}", **headers}
        self.send_response(status)
        for name, value in {"Content-Length": str(end - start), **headers}.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        self.wfile.flush()
        if self.command == "HEAD":
            return
        end = end if fault.cut is None else min(end, start + fault.cut)
        if fault.content is not None:
            self.wfile.write(fault.content[start:end])
        else:
            with path.open("rb") as file:
                self.server.sent(end - start)
                self._send(file.fileno(), start, end)
        if fault.cut is not None:
            self.close_connection = True

    def _send(self, descriptor: int, start: int, end: int) -> None:
        at = start
        while at < end:
            at += os.sendfile(self.connection.fileno(), descriptor, at, end - at)

    def _answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


@contextlib.contextmanager
def serve(
    folder: str | os.PathLike[str],
    *,
    latency: float = 0.0,
    fault: Callable[[Ask], Fault | None] | None = None,
) -> Iterator[RangeServer]:
    """
    Serve a folder while a block runs.

    Parameters
    ----------
    folder : path
        The folder.
    latency : float
        Seconds to wait before each answer.
    fault : callable, optional
        Given an `Ask`, the `Fault` to commit, or None.

    Yields
    ------
    RangeServer
        The server; its `url` is where it is.

    Examples
    --------
    >>> with serve("data") as server:  # doctest: +SKIP
    ...     catalog = astropile.open_catalog(f"{server.url}/hsc", "pdr3_dud_22.5")
    """
    server = RangeServer(Path(folder), latency=latency, fault=fault)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def main() -> None:
    """Serve a folder until the input ends; the first line written is the URL."""
    parser = argparse.ArgumentParser(description="Serve a folder over HTTP on 127.0.0.1.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--latency", type=float, default=0.0)
    args = parser.parse_args()
    with serve(args.folder, latency=args.latency) as server:
        print(server.url, flush=True)  # noqa: T201
        sys.stdin.read()


if __name__ == "__main__":
    main()
