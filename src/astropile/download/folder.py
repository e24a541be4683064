"""
A folder that files are put into: never outside it, and never through a link.

Each folder on the way is opened by its name in the one above, which must not be a link; what is
made, replaced or removed is named relative to that open folder. So it stays inside, whatever
someone else does to the names meanwhile.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Self

from astropile.errors import DownloadError
from astropile.layout import check_path

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE: Final = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_LINKS: Final = frozenset({errno.ELOOP, errno.EMLINK, errno.ENOTDIR})
_POLL_SECONDS: Final = 0.1


class Folder:
    """
    An open folder.

    Parameters
    ----------
    path : Path
        The folder; made if it is not there. Links on the way to it are followed: it is the
        user's own choice.

    Raises
    ------
    OSError
        If it cannot be opened or made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(path, _FOLDER)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    @contextlib.contextmanager
    def place(self, path: str) -> Iterator[Place]:
        """
        Open the folder of a file, making what is missing on the way.

        Parameters
        ----------
        path : str
            The file, as `astropile.layout.check_path` takes it.

        Yields
        ------
        Place
            Where the file goes.

        Raises
        ------
        DownloadError
            If a folder on the way is a link, or no folder.
        ValueError
            If the path may not stand inside a folder.
        """
        *folders, name = check_path(path).split("/")
        descriptor = os.dup(self._descriptor)
        try:
            for folder in folders:
                inner = self._inner(descriptor, folder, path)
                os.close(descriptor)
                descriptor = inner
            yield Place(descriptor, name, f"{self.path}/{path}")
        finally:
            os.close(descriptor)

    def write(self, path: str, content: bytes) -> None:
        """
        Put a small file there, whole.

        Parameters
        ----------
        path : str
            Its name.
        content : bytes
            What it holds.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        with self.place(path) as place:
            place.put(content)

    def state(self, path: str) -> os.stat_result | None:
        """
        Look at a file.

        Parameters
        ----------
        path : str
            Its name.

        Returns
        -------
        os.stat_result or None
            What it is like; None if no regular file has the name.
        """
        with self.place(path) as place:
            descriptor = place.open_there()
            if descriptor is None:
                return None
            try:
                return os.fstat(descriptor)
            finally:
                os.close(descriptor)

    def adopt(self, source: Path, path: str, size: int) -> None:
        """
        Give a file a second name here, if none has it yet and the file system can do that.

        Parameters
        ----------
        source : Path
            The file.
        path : str
            The name here.
        size : int
            The size it must have.
        """
        with self.place(path) as place, contextlib.suppress(OSError):
            found = source.stat(follow_symlinks=False)
            if stat.S_ISREG(found.st_mode) and found.st_size == size:
                place.link(source)

    def _inner(self, descriptor: int, name: str, path: str) -> int:
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, dir_fd=descriptor)
        try:
            return os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=descriptor)
        except OSError as error:
            if error.errno in _LINKS:
                said = f"{name!r} on the way to it is a link or no folder"
                raise DownloadError(f"{self.path}/{path}", said) from error
            raise


class Place:
    """
    The name of a file in an open folder.

    Parameters
    ----------
    descriptor : int
        The folder.
    name : str
        The file's name in it.
    where : str
        Its whole path, for messages.
    """

    def __init__(self, descriptor: int, name: str, where: str) -> None:
        self._folder, self.name, self.where = descriptor, name, where

    def open_there(self) -> int | None:
        """
        Open the file for reading.

        Returns
        -------
        int or None
            A descriptor; None if no regular file has the name (a link is none).
        """
        try:
            descriptor = os.open(self.name, os.O_RDONLY | _FILE, dir_fd=self._folder)
        except OSError as error:
            if error.errno in _LINKS | {errno.ENOENT, errno.ENXIO}:
                return None
            raise
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
        return None

    def put(self, content: bytes) -> None:
        """
        Write the file whole.

        Parameters
        ----------
        content : bytes
            What it holds.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        aside = f".{self.name[:180]}.{os.getpid()}-{uuid.uuid4().hex[:8]}.done"
        made = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        descriptor = os.open(aside, made | _FILE, 0o666, dir_fd=self._folder)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            self._rename(aside, self.name)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(aside, dir_fd=self._folder)
            raise

    def link(self, source: Path) -> None:
        """
        Give a file this name as well.

        Parameters
        ----------
        source : Path
            The file.

        Raises
        ------
        OSError
            If the name is taken, or the file system cannot do that.
        """
        os.link(source, self.name, dst_dir_fd=self._folder, follow_symlinks=False)

    def open_part(self) -> int:
        """
        Open what was begun of the file, or begin it.

        Returns
        -------
        int
            A descriptor for reading and writing, of a file that has no other name.

        Raises
        ------
        OSError
            If it cannot be made.
        """
        while True:
            with contextlib.suppress(OSError):
                descriptor = os.open(self._part, os.O_RDWR | _FILE, dir_fd=self._folder)
                found = os.fstat(descriptor)
                if stat.S_ISREG(found.st_mode) and found.st_nlink == 1:
                    return descriptor
                os.close(descriptor)
            # A link, a pipe, or a second name of some file: writing into it would go elsewhere.
            self.remove_part()
            with contextlib.suppress(FileExistsError):
                made = os.O_RDWR | os.O_CREAT | os.O_EXCL
                return os.open(self._part, made | _FILE, 0o666, dir_fd=self._folder)

    @property
    def _part(self) -> str:
        return f".{self.name[:200]}.part"

    def remove_part(self) -> None:
        """Forget what was begun."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._part, dir_fd=self._folder)

    def publish(self, descriptor: int) -> None:
        """
        Give what was begun its final name, once it is on the disk.

        Parameters
        ----------
        descriptor : int
            What `open_part` gave.

        Raises
        ------
        OSError
            If it cannot be brought to the disk or renamed.
        """
        os.fsync(descriptor)
        # Under a name of our own first: were the part another process's by now, it goes back.
        own = f".{self.name[:180]}.{os.getpid()}-{uuid.uuid4().hex[:8]}.done"
        try:
            self._rename(self._part, own)
        except FileNotFoundError:
            own = ""
        if own and os.path.samestat(self._stat(own), os.fstat(descriptor)):
            self._rename(own, self.name)
        else:
            if own:
                self._rename(own, self._part)
            # Where locks do not hold, another process may have given it the name already.
            there = self.open_there()
            if there is None:
                raise DownloadError(self.where, "another process took what was begun of it")
            os.close(there)
        os.fsync(self._folder)

    def _rename(self, old: str, new: str) -> None:
        os.rename(old, new, src_dir_fd=self._folder, dst_dir_fd=self._folder)

    def _stat(self, name: str) -> os.stat_result:
        return os.stat(name, dir_fd=self._folder, follow_symlinks=False)

    def read_note(self) -> str:
        """
        Read what was noted of the version begun.

        Returns
        -------
        str
            The note; empty if there is none.
        """
        try:
            descriptor = os.open(self._note, os.O_RDONLY | _FILE, dir_fd=self._folder)
        except OSError:
            return ""
        with os.fdopen(descriptor, "rb") as file:
            return file.read(4096).decode("utf-8", "replace")

    def write_note(self, text: str) -> None:
        """
        Note which version was begun; an empty note removes it.

        Parameters
        ----------
        text : str
            What tells it.
        """
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._note, dir_fd=self._folder)
        if text:
            made = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            descriptor = os.open(self._note, made | _FILE, 0o666, dir_fd=self._folder)
            with os.fdopen(descriptor, "wb") as file:
                file.write(text.encode()[:4096])

    @property
    def _note(self) -> str:
        return f".{self.name[:200]}.version"

    @contextlib.contextmanager
    def locked(self, seconds: float) -> Iterator[None]:
        """
        Keep other processes from fetching the same file meanwhile.

        It spares them work. Where a file system's locks do not hold, no more than that is lost:
        all write the same checked bytes to the same places.

        Parameters
        ----------
        seconds : float
            How long to wait for another process.

        Raises
        ------
        DownloadError
            If another process holds it longer.
        """
        name = f".{self.name[:200]}.lock"
        deadline = time.monotonic() + seconds
        while True:
            with contextlib.suppress(FileNotFoundError):
                if stat.S_ISLNK(self._stat(name).st_mode):
                    os.unlink(name, dir_fd=self._folder)
            descriptor = os.open(name, os.O_RDWR | os.O_CREAT | _FILE, 0o666, dir_fd=self._folder)
            try:
                if self._take(descriptor, name):
                    try:
                        yield
                    finally:
                        with contextlib.suppress(FileNotFoundError):
                            os.unlink(name, dir_fd=self._folder)
                    return
            finally:
                os.close(descriptor)
            if time.monotonic() > deadline:
                raise DownloadError(self.where, f"another process has fetched it for {seconds:g} s")
            time.sleep(_POLL_SECONDS)

    def _take(self, descriptor: int, name: str) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return True  # a file system without locks
        try:
            named = self._stat(name)
        except FileNotFoundError:
            return False
        return os.path.samestat(named, os.fstat(descriptor))
