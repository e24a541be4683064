"""
What a subset was before: kept versions of it, listed, brought back, removed.

A version is named by its snapshot, the SHA-256 of its content. It lies whole in the hidden folder
``.snapshots/<subset>/<snapshot>`` beside the subset, and shares the files that did not change.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path

from astropile.card import refresh_card
from astropile.catalog import open_catalog
from astropile.errors import BuildError, TreeNotFoundError
from astropile.following import Snapshot, find_snapshot, versions_of
from astropile.subset import link_tree, take_final_name

__all__ = ["Snapshot", "list_snapshots", "remove_snapshots", "restore_snapshot"]


def list_snapshots(tree: str | os.PathLike[str], subset: str | None = None) -> tuple[Snapshot, ...]:
    """
    List the versions of a subset that are there.

    Parameters
    ----------
    tree : path
        A survey's data folder, or the folder of a subset.
    subset : str, optional
        Which subset; may be left out where there is only one.

    Returns
    -------
    tuple of Snapshot
        The current one, those it continues, one after another, then all others.

    Raises
    ------
    TreeNotFoundError
        If there is no tree.
    """
    return versions_of(_home(tree, subset))


def restore_snapshot(
    tree: str | os.PathLike[str], snapshot: str, subset: str | None = None
) -> Snapshot:
    """
    Let a kept version be the one that opens; the one that was is kept instead.

    Parameters
    ----------
    tree : path
        A survey's data folder, or the folder of a subset.
    snapshot : str
        Its name, or how that begins.
    subset : str, optional
        Which subset; may be left out where there is only one.

    Returns
    -------
    Snapshot
        The version, current now.

    Raises
    ------
    TreeNotFoundError
        If there is no tree, no version called that, or several.
    OSError
        If the disk fails; the current version then stays.
    """
    path = _home(tree, subset)
    chosen = find_snapshot(path, snapshot)
    if chosen.current:
        return chosen
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        link_tree(chosen.path, aside)
        take_final_name(aside, path, overwrite=True, keep=True, durable=False)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    refresh_card(path.parent)
    return versions_of(path)[0]


def remove_snapshots(
    tree: str | os.PathLike[str], snapshots: Sequence[str], subset: str | None = None
) -> tuple[Snapshot, ...]:
    """
    Remove kept versions; who still reads one can no longer.

    Parameters
    ----------
    tree : path
        A survey's data folder, or the folder of a subset.
    snapshots : sequence of str
        Their names, or how these begin.
    subset : str, optional
        Which subset; may be left out where there is only one.

    Returns
    -------
    tuple of Snapshot
        Those removed.

    Raises
    ------
    BuildError
        If one is the current version.
    TreeNotFoundError
        If there is no tree, no version called that, or several.
    """
    path = _home(tree, subset)
    chosen = tuple(find_snapshot(path, name) for name in snapshots)
    for one in chosen:
        if one.current:
            raise BuildError(str(path), f"{one.snapshot[:12]} is the current snapshot, not removed")
    for one in chosen:
        # Gone at once, so that nobody finds half of it.
        aside = one.path.with_name(f".{uuid.uuid4().hex}")
        one.path.rename(aside)
        shutil.rmtree(aside)
    return chosen


def _home(tree: str | os.PathLike[str], subset: str | None) -> Path:
    path = open_catalog(tree, subset).path
    if not isinstance(path, Path):
        raise TreeNotFoundError(str(path), "snapshots are those of a tree on this machine")
    return path
