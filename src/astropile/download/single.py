"""Fetch one file by its URL, checked against hashes that the caller knows."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from astropile.download.folder import Folder
from astropile.download.room import check_room
from astropile.download.source import open_file_source
from astropile.download.transfer import Patience, fetch_file, nothing
from astropile.errors import DownloadError
from astropile.inventory import FileFacts
from astropile.layout import check_path
from astropile.manifest import MAX_BLOCK_NBYTES, is_sha256
from astropile.publish import local_path
from astropile.store.protocol import RemoteOptions

_MAX_LIST_NBYTES: Final = 64 * 2**20
_SMALLEST_BLOCK: Final = 2**12


@dataclass(frozen=True)
class FileReport:
    """
    What fetching a file did.

    Parameters
    ----------
    path : Path
        The file.
    size : int
        Its size in bytes.
    is_new : bool
        False if it was there already, as promised.
    is_hashed : bool
        Whether its content was compared with a hash; if not, with its size alone.
    """

    path: Path
    size: int
    is_new: bool
    is_hashed: bool


def get_file(
    source: str,
    dest: str | os.PathLike[str],
    *,
    sha256: str = "",
    size: int | None = None,
    blocks: Sequence[str] = (),
    block_nbytes: int | None = None,
    remote: RemoteOptions | None = None,
    patience: Patience | None = None,
    note: Callable[[int], None] = nothing,
) -> FileReport:
    """
    Fetch a file.

    Parameters
    ----------
    source : str
        Its URL or path.
    dest : path
        Its final name, or a folder that it goes into under the name it has at its source.
    sha256 : str
        The hash it must have, hexadecimal.
    size : int, optional
        The size it must have [bytes].
    blocks : sequence of str
        The hash of each of its blocks: then every block that came is kept, whatever happens.
        They need `size`.
    block_nbytes : int, optional
        Size of the blocks; by default the power of two of which there are so many.
    remote : RemoteOptions, optional
        How to reach the source.
    patience : Patience, optional
        How long to try.
    note : callable
        Told how many more bytes are there.

    Returns
    -------
    FileReport
        What was done.

    Raises
    ------
    DownloadError
        If the arguments do not fit one another or the place is not safe to write to.
    StoreError
        If the source fails.
    IntegrityError
        If what comes is not what was promised.
    OSError
        If the disk fails. In every case nothing stands under the final name that was not there.
    """
    path = open_file_source(source, remote or RemoteOptions())
    final = local_path(dest)
    if final.is_dir() or os.fspath(dest).endswith("/"):
        final /= path.name
    try:
        check_path(final.name)
    except ValueError as error:
        raise DownloadError(str(final), str(error)) from error
    for value in (sha256, *blocks):
        if value and not is_sha256(value):
            raise DownloadError(str(path), f"a SHA-256 has 64 hexadecimal digits, not {value!r}")
    if blocks:
        if size is None:
            raise DownloadError(str(path), "hashes of blocks need the size of the file")
        block_nbytes = block_nbytes or _block_nbytes(str(path), size, len(blocks))
        if not 0 < block_nbytes <= MAX_BLOCK_NBYTES or -(-size // block_nbytes) != len(blocks):
            said = f"{len(blocks)} blocks of {block_nbytes} bytes do not make {size} bytes"
            raise DownloadError(str(path), said)
    facts = FileFacts(final.name, size, sha256.lower(), block_nbytes or 0, tuple(blocks))
    with Folder(final.parent) as folder:
        check_room(final.parent, size or 0)
        is_new = fetch_file(
            path.store, path.key, folder, facts, patience=patience or Patience(), note=note
        )
    return FileReport(final, final.stat().st_size, is_new, bool(sha256 or blocks))


def read_blocks(path: Path) -> tuple[str, ...]:
    """
    Read a list of the hashes of blocks.

    Parameters
    ----------
    path : Path
        JSON: a list of SHA-256, hexadecimal.

    Returns
    -------
    tuple of str
        The hashes.

    Raises
    ------
    DownloadError
        If it is no such list.
    OSError
        If it cannot be read.
    """
    with path.open("rb") as file:
        content = file.read(_MAX_LIST_NBYTES)
    try:
        values = json.loads(content)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
        raise DownloadError(str(path), "hashes of blocks are a JSON list of strings")
    return tuple(values)


def _block_nbytes(where: str, size: int, n_blocks: int) -> int:
    block_nbytes = _SMALLEST_BLOCK
    while block_nbytes <= MAX_BLOCK_NBYTES:
        if -(-size // block_nbytes) == n_blocks:
            return block_nbytes
        block_nbytes *= 2
    raise DownloadError(where, f"no power of two makes {n_blocks} blocks of {size} bytes")
