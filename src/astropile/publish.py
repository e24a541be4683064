"""Put bytes under a final name, or nothing: write aside, sync, rename, sync the folder."""

from __future__ import annotations

import contextlib
import os
import uuid
from pathlib import Path


def publish_bytes(path: Path, content: bytes | memoryview) -> None:
    """
    Write a file so that its name exists only once it is complete and on disk.

    Parameters
    ----------
    path : Path
        The final name; its folder must exist. A file of that name is replaced.
    content : bytes-like
        What it holds.

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
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        aside.rename(path)
    except BaseException:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise
    sync_folder(path.parent)


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
