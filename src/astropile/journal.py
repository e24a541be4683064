"""
What was found sound already: so that long work goes on where it was.

A file of short hashes, one for each file that was compared with its manifest: of its name, size,
times, inode, and of what it was compared with. A file that was touched since is looked at again.
"""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path
from typing import Final, Self

_DIGEST_NBYTES: Final = 16
_LINE_NBYTES: Final = 2 * _DIGEST_NBYTES + 1


class Journal:
    """
    A journal, open for reading and adding. Safe to use from several threads and processes.

    Parameters
    ----------
    path : Path or None
        The file; made if it is not there. None keeps nothing.

    Raises
    ------
    OSError
        If it cannot be opened.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._known: set[bytes] = set()
        self._descriptor = -1
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            made = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
            self._descriptor = os.open(path, made, 0o600)
            self._known = _read(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __len__(self) -> int:
        return len(self._known)

    def knows(self, path: str, state: os.stat_result, promised: str) -> bool:
        """
        Tell whether a file was found sound.

        Parameters
        ----------
        path : str
            Its name.
        state : os.stat_result
            What it is like now.
        promised : str
            What it is compared with.

        Returns
        -------
        bool
            Whether it was, as it is now, compared with the same.
        """
        return _digest(path, state, promised) in self._known

    def note(self, path: str, state: os.stat_result, promised: str) -> None:
        """
        Note that a file was found sound.

        Parameters
        ----------
        path, state, promised
            As for `knows`.
        """
        digest = _digest(path, state, promised)
        with self._lock:
            if digest not in self._known and self._descriptor >= 0:
                # A line of its own, were the one before cut short by a crash.
                os.write(self._descriptor, digest.hex().encode() + b"\n")
            self._known.add(digest)

    def remove(self) -> None:
        """Forget everything: the work is done."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def _digest(path: str, state: os.stat_result, promised: str) -> bytes:
    facts = (path, state.st_size, state.st_mtime_ns, state.st_ino, promised)
    return hashlib.blake2b(repr(facts).encode(), digest_size=_DIGEST_NBYTES).digest()


def _read(descriptor: int) -> set[bytes]:
    known = set()
    with os.fdopen(os.dup(descriptor), "rb") as file:
        while line := file.readline(4 * _LINE_NBYTES):
            text = line[-_LINE_NBYTES:].rstrip(b"\n")
            if line.endswith(b"\n") and len(text) == 2 * _DIGEST_NBYTES:
                try:
                    known.add(bytes.fromhex(text.decode("ascii")))
                except ValueError:
                    continue
    return known


def user_cache() -> Path:
    """
    Name the folder in which programs keep what they can do without.

    Returns
    -------
    Path
        The user's cache folder for this package; it need not be there.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "astropile"
