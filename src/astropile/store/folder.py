"""A folder of this machine, read like any other store: what copies of trees are fetched from."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from astropile.errors import StoreError
from astropile.store.protocol import RemoteOptions, Store, Version

_OPEN = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK


class FolderStore(Store):
    """
    A folder.

    Parameters
    ----------
    url : str
        Its path. Links in it may lead to other places in it, not out of it.
    options : RemoteOptions
        Not used; every store takes them.
    """

    def __init__(self, url: str, options: RemoteOptions) -> None:
        super().__init__(url, options)
        self._root = Path(url).resolve()

    def url_of(self, key: str) -> str:
        """
        Write the path of a file.

        Parameters
        ----------
        key : str
            Its name.

        Returns
        -------
        str
            The path.
        """
        return str(self._root / key)

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
            Their names.
        """
        folder = self._root / key
        if not folder.is_dir():
            return ()
        return tuple(sorted(path.name for path in folder.iterdir() if path.is_dir()))

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
        try:
            paths = sorted((self._root / key).iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return None
        return [path.name + "/" * path.is_dir() for path in paths]

    def version(self, key: str) -> Version:
        """
        Give size and version of a file as it is now.

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
            If there is no such file.
        """
        descriptor = self._open_file(key)
        if descriptor is None:
            raise StoreError(self.url_of(key), "a file that is there", "no such file")
        try:
            return _version(descriptor)
        finally:
            os.close(descriptor)

    def _open_file(self, key: str) -> int | None:
        path = (self._root / key).resolve()
        if not path.is_relative_to(self._root):
            raise StoreError(self.url_of(key), "a file in this folder", "a link out of it")
        try:
            descriptor = os.open(path, _OPEN)
        except (FileNotFoundError, NotADirectoryError):
            return None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            return None
        return descriptor

    def _read_whole(self, key: str, limit: int) -> bytes | None:
        descriptor = self._open_file(key)
        if descriptor is None:
            return None
        with os.fdopen(descriptor, "rb") as file:
            content = file.read(limit + 1)
        if len(content) > limit:
            raise StoreError(self.url_of(key), f"at most {limit} bytes", "more")
        return content

    def _read_range(self, key: str, start: int, out: memoryview, size: int | None) -> None:
        descriptor = self._open_file(key)
        if descriptor is None:
            raise StoreError(self.url_of(key), "a file of the tree", "no such file")
        try:
            version = _version(descriptor)
            if size is not None and version.size != size:
                raise StoreError(self.url_of(key), f"{size} bytes", f"{version.size} bytes")
            done = 0
            while done < len(out):
                n = os.preadv(descriptor, [out[done:]], start + done)
                if not n:
                    where = f"{self.url_of(key)}, bytes {start}-{start + len(out) - 1}"
                    raise StoreError(where, f"{len(out)} bytes", f"{done} bytes")
                done += n
            self._count(key, requests=1, n_bytes=len(out))
        finally:
            os.close(descriptor)


def _version(descriptor: int) -> Version:
    found = os.fstat(descriptor)
    return Version(found.st_size, f"{found.st_mtime_ns}-{found.st_ino}")
