"""
The bytes of a file of unknown origin, read once each and only so many.

Nobody waits for a pipe, a device is never read, and what lies outside the file is damage.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from astropile.errors import FormatError, UntrustedFileError
from astropile.gate.checksums import lookup3
from astropile.gate.limits import Limits

_O_NONBLOCK: Final = getattr(os, "O_NONBLOCK", 0)


def open_regular(path: str | os.PathLike[str]) -> int:
    """
    Open a file for reading, if it is one.

    Parameters
    ----------
    path : path
        Its name; a link is followed, as it was the caller who named it.

    Returns
    -------
    int
        A file descriptor.

    Raises
    ------
    OSError
        If it is not there or may not be read.
    UntrustedFileError
        If it is a folder, a pipe, a device or a socket.

    Notes
    -----
    What counts is what was opened, not what the name stood for before.
    """
    kind = _kind(Path(path).stat().st_mode)
    if not kind:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | _O_NONBLOCK)
        kind = _kind(os.fstat(descriptor).st_mode)
        if not kind:
            return descriptor
        os.close(descriptor)
    raise UntrustedFileError(str(path), "a regular file", kind)


def _kind(mode: int) -> str:
    """Name what is not a regular file."""
    if stat.S_ISREG(mode):
        return ""
    for is_one, name in (
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a pipe"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISBLK, "a device"),
        (stat.S_ISSOCK, "a socket"),
    ):
        if is_one(mode):
            return name
    return "something else"


class Source:
    """
    A file of unknown origin.

    Parameters
    ----------
    path : path
        Its name.
    limits : Limits
        How much of it may be metadata.

    Attributes
    ----------
    size : int
        Bytes it has.

    Raises
    ------
    OSError, UntrustedFileError
        As `open_regular`.
    """

    def __init__(self, path: str | os.PathLike[str], limits: Limits) -> None:
        self.path = Path(path)
        self.limits = limits
        self._descriptor = open_regular(path)
        self.size = os.fstat(self._descriptor).st_size
        self._metadata_nbytes = 0
        self._seen: set[int] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def raw(self, start: int, n_bytes: int) -> bytes:
        """
        Read bytes that lie inside the file.

        Parameters
        ----------
        start, n_bytes : int
            First byte, and how many.

        Returns
        -------
        bytes
            All of them.

        Raises
        ------
        FormatError
            If the file ends before.
        """
        if start < 0 or n_bytes < 0 or start + n_bytes > self.size:
            raise self.damaged(f"{n_bytes} bytes from byte {start} on", f"a file of {self.size}")
        parts = []
        while n_bytes:
            part = os.pread(self._descriptor, n_bytes, start)
            if not part:
                raise self.damaged(f"{self.size} bytes", "a file that becomes shorter")
            parts.append(part)
            start += len(part)
            n_bytes -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def metadata(self, start: int, n_bytes: int) -> bytes:
        """
        Read bytes of a header, an index or a heap.

        Parameters
        ----------
        start, n_bytes : int
            First byte, and how many.

        Returns
        -------
        bytes
            All of them.

        Raises
        ------
        FormatError
            If the file ends before.
        UntrustedFileError
            If there is more metadata than a file may have.
        """
        self._metadata_nbytes += n_bytes
        if self._metadata_nbytes > self.limits.metadata_nbytes:
            limit = f"at most {self.limits.metadata_nbytes} bytes of headers and indexes"
            raise self.refused(limit, "more")
        return self.raw(start, n_bytes)

    def block(self, start: int, n_bytes: int, magic: bytes, where: str) -> bytes:
        """
        Read a block of metadata that begins with its name and ends with its checksum.

        Parameters
        ----------
        start, n_bytes : int
            First byte of the block, and how many it has.
        magic : bytes
            Its name.
        where : str
            Place in the file, for messages.

        Returns
        -------
        bytes
            What lies between.

        Raises
        ------
        FormatError
            If it is not such a block, or was read before.
        """
        self.enter(start)
        content = self.metadata(start, n_bytes)
        if content[:4] != magic:
            raise self.damaged(f"a block {magic.decode()}", f"none at byte {start}", where)
        self.check(content, where)
        return content[4:-4]

    def check(self, content: bytes, where: str) -> None:
        """
        Compare metadata with the checksum it ends with.

        Parameters
        ----------
        content : bytes
            The metadata.
        where : str
            Place in the file, for messages.

        Raises
        ------
        FormatError
            If they differ.
        """
        if lookup3(content[:-4]) != int.from_bytes(content[-4:], "little"):
            raise self.damaged("intact headers and indexes", "another checksum", where)

    def enter(self, start: int) -> None:
        """
        Note that a block of metadata is read; each is read once, so no path goes in circles.

        Parameters
        ----------
        start : int
            Its first byte.

        Raises
        ------
        FormatError
            If it was read before.
        """
        if start in self._seen:
            raise self.damaged("every block of metadata once", f"byte {start} used twice")
        self._seen.add(start)

    def damaged(self, expected: str, found: str, where: str = "") -> FormatError:
        """
        Make the error of a file that is broken.

        Parameters
        ----------
        expected, found : str
            What should be there and what is.
        where : str
            Place in the file.

        Returns
        -------
        FormatError
            To be raised.
        """
        return FormatError(self._place(where), expected, found)

    def refused(self, expected: str, found: str, where: str = "") -> UntrustedFileError:
        """
        Make the error of a file that asks for what is not let in.

        Parameters
        ----------
        expected, found : str
            What is let in and what it has.
        where : str
            Place in the file.

        Returns
        -------
        UntrustedFileError
            To be raised.
        """
        return UntrustedFileError(self._place(where), expected, found)

    def _place(self, where: str) -> str:
        return f"{self.path}, {where}" if where else str(self.path)
