"""Files of a subset, looked at one by one, on this machine or behind a URL."""

from __future__ import annotations

import contextlib
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from astropile.errors import StoreError, TreeNotFoundError
from astropile.store.protocol import RemoteOptions, RemotePath, Wanted, tree_path

_OPEN: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK


class Opened(ABC):
    """
    A file, open for reading.

    Attributes
    ----------
    size : int
        Its size in bytes.
    state : os.stat_result or None
        What it is like, where it is on this machine.
    """

    size: int
    state: os.stat_result | None = None

    @abstractmethod
    def read(self, start: int, n_bytes: int) -> bytes:
        """
        Read bytes; fewer where the file ends.

        Parameters
        ----------
        start, n_bytes : int
            First byte, and how many.

        Returns
        -------
        bytes
            They.
        """


class Access(ABC):
    """
    Look at the files of a subset by their names.

    Attributes
    ----------
    where : str
        The subset, for messages.
    is_local : bool
        Whether it is on this machine; only there can folders be listed.
    """

    where: str
    is_local: bool

    @abstractmethod
    def read(self, path: str, limit: int) -> bytes | None:
        """
        Read a small file.

        Parameters
        ----------
        path : str
            Its name.
        limit : int
            So many bytes at most; of a file on this machine one more tells that it is larger.

        Returns
        -------
        bytes or None
            Its content; None if there is no such file.
        """

    @abstractmethod
    def opened(self, path: str) -> contextlib.AbstractContextManager[Opened | None]:
        """
        Open a file.

        Parameters
        ----------
        path : str
            Its name.

        Returns
        -------
        context manager
            Gives it open, or None if there is no such file.
        """

    @abstractmethod
    def names(self, folder: str) -> list[str]:
        """
        Name what is in a folder.

        Parameters
        ----------
        folder : str
            Its name; empty for the subset itself.

        Returns
        -------
        list of str
            Sorted; empty where there is no such folder, or no way to tell.
        """


def access_to(
    path: str | os.PathLike[str] | RemotePath, options: RemoteOptions | None = None
) -> Access:
    """
    Look at a subset on this machine or behind a URL.

    Parameters
    ----------
    path : path or str
        Its folder or URL.
    options : RemoteOptions, optional
        How to reach a URL.

    Returns
    -------
    Access
        It.

    Raises
    ------
    TreeNotFoundError
        If there is no such folder.
    ValueError
        If the URL is of no kind that can be read.
    """
    found = tree_path(path, options)
    return _Remote(found) if isinstance(found, RemotePath) else _Local(found)


class _Local(Access):
    is_local = True

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise TreeNotFoundError(str(folder), "there is no such folder")
        self._folder, self.where = folder, str(folder)

    def read(self, path: str, limit: int) -> bytes | None:
        with self.opened(path) as opened:
            return None if opened is None else opened.read(0, min(limit + 1, opened.size))

    @contextlib.contextmanager
    def opened(self, path: str) -> Iterator[Opened | None]:
        try:
            descriptor = os.open(self._folder / path, _OPEN)
        except (FileNotFoundError, NotADirectoryError):
            yield None
            return
        try:
            state = os.fstat(descriptor)
            # A pipe in a file's place would keep us waiting for ever.
            yield _LocalFile(descriptor, state) if stat.S_ISREG(state.st_mode) else None
        finally:
            os.close(descriptor)

    def names(self, folder: str) -> list[str]:
        try:
            return sorted(path.name for path in (self._folder / folder).iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []


class _LocalFile(Opened):
    def __init__(self, descriptor: int, state: os.stat_result) -> None:
        self._descriptor, self.state, self.size = descriptor, state, state.st_size

    def read(self, start: int, n_bytes: int) -> bytes:
        pieces = []
        while n_bytes > 0 and (piece := os.pread(self._descriptor, n_bytes, start)):
            pieces.append(piece)
            start, n_bytes = start + len(piece), n_bytes - len(piece)
        return b"".join(pieces)


class _Remote(Access):
    is_local = False

    def __init__(self, path: RemotePath) -> None:
        self._path, self.where = path, str(path)

    def read(self, path: str, limit: int) -> bytes | None:
        key = (self._path / path).key
        return self._path.store.read(key, limit=limit)

    @contextlib.contextmanager
    def opened(self, path: str) -> Iterator[Opened | None]:
        found = self._path / path
        try:
            size = found.store.version(found.key).size
        except StoreError as error:
            if not any(word in error.found for word in ("404", "410", "no such")):
                raise
            yield None
            return
        yield _RemoteFile(found, size)

    def names(self, folder: str) -> list[str]:
        del folder
        return []


class _RemoteFile(Opened):
    def __init__(self, path: RemotePath, size: int) -> None:
        self._path, self.size = path, size

    def read(self, start: int, n_bytes: int) -> bytes:
        n_bytes = max(0, min(n_bytes, self.size - start))
        if not n_bytes:
            return b""
        wanted = Wanted(self._path.key, np.array([start]), np.array([n_bytes]), self.size)
        return self._path.store.fetch(wanted).finish().view(start, n_bytes).tobytes()
