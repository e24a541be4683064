"""Whether there is room on the disk, before anything is fetched."""

from __future__ import annotations

import errno
import os
from pathlib import Path


def check_room(folder: Path, n_bytes: int) -> None:
    """
    Refuse to begin what does not fit on the disk.

    Parameters
    ----------
    folder : Path
        Where it goes; the nearest folder above it that exists is looked at.
    n_bytes : int
        How much it is.

    Raises
    ------
    OSError
        If there is less room; ``errno`` is ENOSPC.
    """
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    found = os.statvfs(folder)
    free = found.f_bavail * found.f_frsize
    if n_bytes > free:
        raise OSError(errno.ENOSPC, f"{n_bytes} bytes are needed and {free} are free", str(folder))
