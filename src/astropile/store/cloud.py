"""
Ranges of objects in a cloud: ``s3://``, ``gs://``, ``az://`` and their like, through obstore.

Each request is bound to the version first met, and says which bytes of how large an object it
got. obstore tries again on its own where a fault may pass.
"""

from __future__ import annotations

from typing import Any

from astropile.errors import MissingExtraError, StoreError
from astropile.store.protocol import RemoteOptions, Store, Version, first_line, without_secrets


class CloudStore(Store):
    """
    A folder of a bucket.

    Parameters
    ----------
    url : str
        The folder.
    options : RemoteOptions
        How to reach it; `storage_options` goes to `obstore.store.from_url`: for a public bucket
        ``{"skip_signature": True, "region": "us-east-1"}``.

    Raises
    ------
    MissingExtraError
        If obstore is not installed.
    ValueError
        If obstore refuses URL or options.
    """

    def __init__(self, url: str, options: RemoteOptions) -> None:
        super().__init__(url.rstrip("/"), options)
        try:
            import obstore
            from obstore.exceptions import BaseError
            from obstore.store import from_url
        except ImportError as error:
            raise MissingExtraError(f"a tree at {url.partition('://')[0]}://", "remote") from error
        self._obstore, self._error = obstore, BaseError
        settings: dict[str, Any] = {
            "client_options": {"timeout": f"{max(1, round(options.timeout))}s"},
            "retry_config": {"max_retries": options.attempts - 1},
            **options.storage_options,
        }
        try:
            self._store: Any = from_url(self.url, **settings)
        except BaseError as error:
            raise ValueError(f"{without_secrets(url)}: {first_line(error)}") from error

    def url_of(self, key: str) -> str:
        """
        Write the address of an object.

        Parameters
        ----------
        key : str
            Its name.

        Returns
        -------
        str
            The address.
        """
        return f"{self.url}/{key}" if key else self.url

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
            Their names; None where listing is not allowed.
        """
        self._count(key, requests=1)
        try:
            found = self._obstore.list_with_delimiter(self._store, key or None)
        except (self._error, OSError):
            return None
        return tuple(str(one).rstrip("/").rpartition("/")[2] for one in found["common_prefixes"])

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
        try:
            found = self._obstore.list_with_delimiter(self._store, key or None)
        except (self._error, OSError) as error:
            raise self._failure(key, error) from error
        names = [str(one).rstrip("/").rpartition("/")[2] + "/" for one in found["common_prefixes"]]
        return names + [str(one["path"]).rpartition("/")[2] for one in found["objects"]]

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
        self._count(key, requests=1)
        try:
            meta = self._obstore.head(self._store, key)
        except FileNotFoundError as error:
            raise StoreError(self.url_of(key), "a file that is there", "no such object") from error
        except (self._error, OSError, ValueError) as error:
            raise self._failure(key, error) from error
        return Version(int(meta["size"]), str(meta["e_tag"] or meta["last_modified"]))

    def _read_whole(self, key: str, limit: int) -> bytes | None:
        try:
            found = self._get(key, {})
        except FileNotFoundError:
            return None
        size = int(found.meta["size"])
        if size > limit:
            raise StoreError(self.url_of(key), f"at most {limit} bytes", f"{size} bytes")
        return bytes(self._bytes(key, found, 0, size))

    def _read_range(self, key: str, start: int, out: memoryview, size: int | None) -> None:
        asked: dict[str, Any] = {"range": (start, start + len(out))}
        known = self._versions.get(key)
        if known is not None and known.tag.startswith('"'):
            asked["if_match"] = known.tag
        try:
            found = self._get(key, asked)
        except FileNotFoundError as error:
            raise StoreError(self.url_of(key), "a file of the tree", "no such object") from error
        if size is not None and int(found.meta["size"]) != size:
            raise StoreError(self.url_of(key), f"{size} bytes", f"{found.meta['size']} bytes")
        out[:] = self._bytes(key, found, start, start + len(out))

    def _get(self, key: str, asked: dict[str, Any]) -> Any:
        self._count(key, requests=1)
        try:
            options: Any = asked
            found = self._obstore.get(self._store, key, options=options)
        except FileNotFoundError:
            raise
        except (self._error, OSError, ValueError) as error:
            raise self._failure(key, error) from error
        meta = found.meta
        self._pin(key, Version(int(meta["size"]), str(meta["e_tag"] or meta["last_modified"])))
        return found

    def _bytes(self, key: str, found: Any, start: int, end: int) -> memoryview:
        where = f"{self.url_of(key)}, bytes {start}-{end - 1}"
        if tuple(found.range) != (start, end):
            raise StoreError(where, "this range", f"bytes {found.range[0]}-{found.range[1] - 1}")
        self._count(key, n_bytes=end - start)
        try:
            content = memoryview(found.bytes())
        except (self._error, OSError, ValueError) as error:
            raise self._failure(key, error) from error
        if len(content) != end - start:
            raise StoreError(where, f"{end - start} bytes", f"{len(content)} bytes")
        return content

    def _failure(self, key: str, error: Exception) -> StoreError:
        if type(error).__name__ == "PreconditionError":
            return StoreError(
                self.url_of(key),
                "the object as it was first read",
                "another: it was replaced meanwhile",
            )
        return StoreError(self.url_of(key), "its bytes", first_line(error))
