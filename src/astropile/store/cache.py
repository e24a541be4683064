"""Keep what was fetched in a folder: bounded, and checked whenever it is taken out again."""

from __future__ import annotations

import contextlib
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from astropile.publish import publish_bytes

_HASH_NBYTES = 32


@dataclass(frozen=True)
class Cache:
    """
    A folder of things that were fetched.

    Each file holds the SHA-256 of its content before the content: what was damaged since is
    not given out but fetched again. Several processes may share the folder.

    Parameters
    ----------
    folder : Path
        The folder; made when first needed.
    max_bytes : int
        The files together take at most this much; those used longest ago go first.
    """

    folder: Path
    max_bytes: int

    def get(self, name: str) -> bytes | None:
        """
        Take out what was put in under a name.

        Parameters
        ----------
        name : str
            Any text that tells it from everything else.

        Returns
        -------
        bytes or None
            What was put in; None if it is not there any more, or not as it was.
        """
        path = self._path(name)
        try:
            stored = path.read_bytes()
        except OSError:
            return None
        content = stored[_HASH_NBYTES:]
        if hashlib.sha256(content).digest() != stored[:_HASH_NBYTES]:
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return content

    def put(self, name: str, content: bytes) -> None:
        """
        Keep something, if it fits.

        Parameters
        ----------
        name : str
            Any text that tells it from everything else.
        content : bytes
            What to keep.

        Raises
        ------
        OSError
            If the folder cannot be written to.
        """
        size = len(content) + _HASH_NBYTES
        if size > self.max_bytes:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self._make_room(size)
        publish_bytes(self._path(name), hashlib.sha256(content).digest() + content)
        # Another process may have put something in meanwhile.
        self._make_room(0)

    def _path(self, name: str) -> Path:
        return self.folder / hashlib.sha256(name.encode()).hexdigest()

    def _make_room(self, size: int) -> None:
        found: list[tuple[int, int, Path]] = []
        for entry in os.scandir(self.folder):
            # Another process may have removed it meanwhile.
            with contextlib.suppress(OSError):
                if entry.is_file(follow_symlinks=False):
                    stat = entry.stat(follow_symlinks=False)
                    found.append((stat.st_mtime_ns, stat.st_size, Path(entry.path)))
        total = sum(n_bytes for _, n_bytes, _ in found)
        for _, n_bytes, path in sorted(found):
            if total + size <= self.max_bytes:
                return
            with contextlib.suppress(OSError):
                path.unlink()
            total -= n_bytes
