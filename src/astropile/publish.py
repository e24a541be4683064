"""Put bytes under a final name, or nothing: write aside, sync, rename, sync the folder."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from astropile.errors import BuildError

_NO_LINKS: Final = frozenset(
    {errno.EPERM, errno.EXDEV, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
)
"""How file systems say that they do not link, or not this file once more."""

_COPY_NBYTES: Final = 2**22


def local_path(
    path: str | os.PathLike[str], reason: str = "files are written on this machine, not to URLs"
) -> Path:
    """
    Give a path on this machine, of what cannot be elsewhere.

    Parameters
    ----------
    path : path or str
        What was given; ``~`` stands for the home folder.
    reason : str
        Why a URL will not do.

    Returns
    -------
    Path
        The path.

    Raises
    ------
    BuildError
        If it is a URL.

    Examples
    --------
    >>> local_path("data/hsc").name
    'hsc'
    """
    # The stores' cache publishes its files with this module.
    from astropile.store.protocol import RemotePath, is_url

    if isinstance(path, RemotePath) or is_url(path):
        raise BuildError(str(path), reason)
    return Path(path).expanduser()


def publish_bytes(path: Path, content: bytes | memoryview, *, durable: bool = True) -> None:
    """
    Write a file so that its name exists only once it is complete and on disk.

    Parameters
    ----------
    path : Path
        The final name; its folder must exist. A file of that name is replaced.
    content : bytes-like
        What it holds.
    durable : bool
        Wait until it would outlast a loss of power; if not, `sync_all` must follow.

    Raises
    ------
    OSError
        If it cannot be written; nothing then stands under the final name that was not there.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.part")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        try:
            view = memoryview(content).cast("B")
            while view:
                view = view[os.write(descriptor, view) :]
            if durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        aside.rename(path)
    except BaseException:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise
    if durable:
        sync_folder(path.parent)


def link_file(source: Path, target: Path) -> None:
    """
    Give a file that is never written to again a second name; copy it where that cannot be.

    Parameters
    ----------
    source : Path
        The file, complete and on disk.
    target : Path
        The new name, not there yet; its folder must exist.

    Raises
    ------
    OSError
        If it can be neither linked nor copied.
    """
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
    else:
        return
    aside = target.with_name(f".{target.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.part")
    try:
        with source.open("rb") as file, aside.open("xb") as copy:
            shutil.copyfileobj(file, copy, _COPY_NBYTES)
            copy.flush()
            os.fsync(copy.fileno())
        aside.rename(target)
    except BaseException:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise


def sync_all(folder: Path) -> None:
    """
    Make everything below a folder last through a crash.

    Parameters
    ----------
    folder : Path
        The folder.

    Raises
    ------
    OSError
        If a file cannot be brought to the disk.
    """
    paths = [path for path in folder.rglob("*") if not path.is_symlink()]
    files = [path for path in paths if path.is_file()]
    with ThreadPoolExecutor(8) as threads:
        # The disk takes many at once; each error comes out here.
        list(threads.map(_sync_file, files))
    for path in [folder, *(path for path in paths if path.is_dir())]:
        sync_folder(path)


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def exchange(one: Path, other: Path) -> bool:
    """
    Let two names change places at once.

    Parameters
    ----------
    one, other : Path
        Two paths that exist, on one file system.

    Returns
    -------
    bool
        False if this system cannot do that; then nothing was done.

    Raises
    ------
    OSError
        If it fails for another reason.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    renameat2 = getattr(libc, "renameat2", None)
    if renameat2 is None:
        return False
    here, swap = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    if renameat2(here, os.fsencode(one), here, os.fsencode(other), swap) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(number, os.strerror(number), str(one))


def sync_folder(folder: Path) -> None:
    """
    Make the names in a folder last through a crash.

    Parameters
    ----------
    folder : Path
        The folder.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
