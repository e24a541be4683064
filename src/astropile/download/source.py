"""Where a download comes from: a web server, a bucket, anything fsspec knows, or a folder."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from astropile.errors import DownloadError
from astropile.store.protocol import RemoteOptions, RemotePath, is_url, tree_path


def open_source(source: str, options: RemoteOptions) -> RemotePath:
    """
    Open what a download comes from.

    Parameters
    ----------
    source : str
        A URL, or the path of a folder or file.
    options : RemoteOptions
        How to reach it.

    Returns
    -------
    RemotePath
        It; of a store nothing is asked yet.

    Raises
    ------
    DownloadError
        If the path is not there, or the URL of no kind that can be read.
    MissingExtraError
        If the store needs a package that is not installed.
    """
    if source.startswith("file:"):
        parts = urlsplit(source)
        if parts.netloc not in ("", "localhost"):
            raise DownloadError(source, "a file: URL names no other machine")
        return _local(Path(unquote(parts.path)))
    if not is_url(source):
        return _local(Path(source).expanduser())
    try:
        path = tree_path(source, options)
    except ValueError as error:
        raise DownloadError(source.partition("?")[0], str(error)) from error
    assert isinstance(path, RemotePath)
    return path


def open_file_source(source: str, options: RemoteOptions) -> RemotePath:
    """
    Open the one file that a download is of.

    Parameters
    ----------
    source : str
        Its URL or path.
    options : RemoteOptions
        How to reach it.

    Returns
    -------
    RemotePath
        The file.

    Raises
    ------
    DownloadError
        If the path is not there, or the URL of no kind that can be read.
    MissingExtraError
        If the store needs a package that is not installed.
    """
    if source.split(":", 1)[0].lower() in ("http", "https"):
        # The URL as it stands, with its query.
        return open_source(source, options)
    folder, _, name = source.rpartition("/")
    return open_source(folder or ".", options) / name


def _local(path: Path) -> RemotePath:
    from astropile.store.folder import FolderStore

    if not path.is_dir():
        raise DownloadError(str(path), "there is no such folder")
    return RemotePath(FolderStore(str(path), RemoteOptions()))
