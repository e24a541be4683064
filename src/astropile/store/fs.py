"""
Ranges of files in any store that fsspec knows: ``memory://``, ``sftp://``, ``hf://`` and more.

fsspec cannot bind a read to a version of an object, so what it says of the object is asked for
before the first range and again after the last one.
"""

from __future__ import annotations

import threading
from typing import Any

from astropile.errors import MissingExtraError, StoreError
from astropile.store.protocol import RemoteOptions, Store, Version, first_line, without_secrets

_TAGS = ("ETag", "etag", "e_tag", "VersionId", "version_id", "generation", "LastModified", "mtime")


class FsspecStore(Store):
    """
    A folder of an fsspec file system.

    Parameters
    ----------
    url : str
        The folder.
    options : RemoteOptions
        How to reach it; `storage_options` goes to fsspec. fsspec's file systems retry on their
        own.

    Raises
    ------
    MissingExtraError
        If fsspec, or the package of that kind of store, is not installed.
    ValueError
        If no file system has such URLs.
    """

    def __init__(self, url: str, options: RemoteOptions) -> None:
        super().__init__(url, options)
        try:
            from fsspec.core import url_to_fs
        except ImportError as error:
            raise MissingExtraError("a tree behind a URL", "remote") from error
        try:
            self._fs, root = url_to_fs(url, **dict(options.storage_options))
        except ImportError as error:
            kind = url.partition("://")[0]
            raise MissingExtraError(f"a tree at {kind}:// ({error})", "remote") from error
        except ValueError as error:
            raise ValueError(f"{without_secrets(url)}: {first_line(error)}") from error
        except Exception as error:
            # File systems raise what the libraries below them do.
            raise StoreError(without_secrets(url), "a store", first_line(error)) from error
        self._root = root.rstrip("/")

    def _start_afresh(self) -> None:
        super()._start_afresh()
        self._meetings: dict[str, threading.Lock] = {}

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
        return str(self._fs.unstrip_protocol(self._at(key)))

    def _at(self, key: str) -> str:
        return f"{self._root}/{key}" if key else self._root

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
        self._count(key, requests=1)
        try:
            entries = self._fs.ls(self._at(key), detail=True)
        except FileNotFoundError:
            return ()
        except Exception:  # noqa: BLE001 - whatever the library below raises: it cannot list
            return None
        return tuple(
            str(entry["name"]).rstrip("/").rpartition("/")[2]
            for entry in entries
            if entry["type"] == "directory"
        )

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
        self._count(key, requests=1)
        entries = self._call(key, self._fs.ls, self._at(key), detail=True)
        return [
            str(entry["name"]).rstrip("/").rpartition("/")[2] + "/" * (entry["type"] == "directory")
            for entry in entries
        ]

    def _read_whole(self, key: str, limit: int) -> bytes | None:
        version = self._version(key)
        if version is None:
            return None
        if version.size > limit:
            raise StoreError(self.url_of(key), f"at most {limit} bytes", f"{version.size}")
        self._count(key, requests=1, n_bytes=version.size)
        self._pin(key, version)
        content = self._call(key, self._fs.cat_file, self._at(key))
        if len(content) != version.size:
            raise StoreError(self.url_of(key), f"{version.size} bytes", f"{len(content)} bytes")
        return bytes(content)

    def _read_range(self, key: str, start: int, out: memoryview, size: int | None) -> None:
        with self._lock:
            meeting = self._meetings.setdefault(key, threading.Lock())
        with meeting:
            if key not in self._versions:
                self._met(key, size)
        self._count(key, requests=1, n_bytes=len(out))
        end = start + len(out)
        content = self._call(key, self._fs.cat_file, self._at(key), start=start, end=end)
        if len(content) != len(out):
            where = f"{self.url_of(key)}, bytes {start}-{end - 1}"
            raise StoreError(where, f"{len(out)} bytes", f"{len(content)} bytes")
        out[:] = content

    def check(self, key: str, size: int | None) -> None:
        """
        Make sure that an object is still the one first met.

        Parameters
        ----------
        key : str
            Its name.
        size : int or None
            The size it must have.

        Raises
        ------
        StoreError
            If it was replaced.
        """
        self._met(key, size)

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
        version = self._version(key)
        if version is None:
            raise StoreError(self.url_of(key), "a file that is there", "no such object")
        return version

    def _ask_again(self, key: str) -> None:
        self._met(key, None)

    def _met(self, key: str, size: int | None) -> None:
        version = self._version(key)
        if version is None:
            raise StoreError(self.url_of(key), "a file of the tree", "no such object")
        if size is not None and version.size != size:
            raise StoreError(self.url_of(key), f"{size} bytes", f"{version.size} bytes")
        self._pin(key, version)

    def _version(self, key: str) -> Version | None:
        self._count(key, requests=1)
        path = self._at(key)
        self._fs.invalidate_cache(path.rpartition("/")[0])
        try:
            facts = self._fs.info(path)
        except FileNotFoundError:
            return None
        except Exception as error:
            raise StoreError(self.url_of(key), "its size", first_line(error)) from error
        if facts["type"] != "file":
            return None
        tags = [str(facts[name]) for name in _TAGS if facts.get(name)]
        if not tags and facts.get("created"):
            tags = [str(facts["created"])]
        return Version(int(facts["size"]), tags[0] if tags else "")

    def _call(self, key: str, call: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return call(*args, **kwargs)
        except StoreError:
            raise
        except Exception as error:
            raise StoreError(self.url_of(key), "its bytes", first_line(error)) from error
