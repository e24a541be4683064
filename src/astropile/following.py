"""Versions of a subset: which there are, and how a reader keeps the one that it opened."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from astropile.errors import FormatError, TreeNotFoundError
from astropile.layout import SNAPSHOTS_DIR, snapshot_dir
from astropile.manifest import read_root

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S", bound="Follower")

_SNAPSHOT: Final = re.compile(r"[0-9a-f]{64}")


class Follower:
    """What `undisturbed` asks of a reader."""

    def follow(self) -> bool:
        """Go on where the version that was opened is kept now; tell whether that is elsewhere."""
        raise NotImplementedError


def undisturbed(
    read: Callable[Concatenate[S, P], R],
) -> Callable[Concatenate[S, P], R]:
    """
    Have a method read once more if what it read was replaced meanwhile and is kept elsewhere.

    Parameters
    ----------
    read : callable
        The method; it raises `FormatError` where what it read may be of another version.

    Returns
    -------
    callable
        The method.
    """

    @functools.wraps(read)
    def again(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return read(self, *args, **kwargs)
        except FormatError:
            if not self.follow():
                raise
        return read(self, *args, **kwargs)

    return again


def kept_path(path: Any, snapshot: str) -> Path | None:
    """
    Find where a snapshot of a subset is kept, when another has taken its place.

    Parameters
    ----------
    path : Path or RemotePath
        Folder of the subset as it was opened.
    snapshot : str
        The snapshot that was opened.

    Returns
    -------
    Path or None
        Its folder now; None if it is the one opened, or there is none.
    """
    if not isinstance(path, Path) or not _SNAPSHOT.fullmatch(snapshot):
        return None
    if _snapshot_at(path) == snapshot:
        return None
    # A kept snapshot that became the subset again, or was opened where it is kept.
    kept = path.parent.parent.name == SNAPSHOTS_DIR
    home = path.parent.parent.parent / path.parent.name if kept else path
    for found in (home, snapshot_dir(home, snapshot)):
        if _snapshot_at(found) == snapshot:
            return found
    return None


def _snapshot_at(path: Path) -> str:
    try:
        return read_root(path).snapshot
    except (FormatError, TreeNotFoundError):
        return ""


@dataclass(frozen=True)
class Snapshot:
    """
    A version of a subset.

    Parameters
    ----------
    snapshot : str
        Its name: SHA-256 of its content.
    parent : str
        The version that it continues; empty for none.
    n_objects, n_partitions : int
        What it holds.
    current : bool
        Whether it is the one that opens.
    path : Path
        Its folder.
    """

    snapshot: str
    parent: str
    n_objects: int
    n_partitions: int
    current: bool
    path: Path


def versions_of(subset_path: Path) -> tuple[Snapshot, ...]:
    """
    List the versions of a subset that are there.

    Parameters
    ----------
    subset_path : Path
        Folder of the subset.

    Returns
    -------
    tuple of Snapshot
        The current one, those it continues, one after another, then all others.
    """
    current = _snapshot(subset_path, current=True)
    kept = {}
    for folder in sorted(snapshot_dir(subset_path).glob("[0-9a-f]*")):
        found = _snapshot(folder, current=False)
        if found.snapshot != current.snapshot:
            kept[found.snapshot] = found
    listed = [current]
    while listed[-1].parent in kept:
        listed.append(kept.pop(listed[-1].parent))
    return (*listed, *kept.values())


def find_snapshot(subset_path: Path, name: str) -> Snapshot:
    """
    Find a version by its name.

    Parameters
    ----------
    subset_path : Path
        Folder of the subset.
    name : str
        The snapshot, or how it begins.

    Returns
    -------
    Snapshot
        The version.

    Raises
    ------
    TreeNotFoundError
        If no version is called that, or several are.
    """
    known = versions_of(subset_path)
    found = [one for one in known if name and one.snapshot.startswith(name)]
    if len(found) != 1:
        listed = ", ".join(one.snapshot[:12] for one in known)
        many = "several snapshots begin with" if found else "no snapshot"
        raise TreeNotFoundError(str(subset_path), f"{many} {name!r}; there are {listed}")
    return found[0]


def _snapshot(path: Path, *, current: bool) -> Snapshot:
    root = read_root(path)
    return Snapshot(root.snapshot, root.parent, root.n_objects, len(root.partitions), current, path)
