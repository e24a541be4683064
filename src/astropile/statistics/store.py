"""Where statistics are kept: in the folder `statistics` of a subset, bound to its snapshot."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from astropile.catalog import Catalog, open_catalog
from astropile.errors import FormatError, SampleError
from astropile.publish import local_path, publish_bytes
from astropile.statistics.compute import compute_statistics, paths_of, selection_of
from astropile.statistics.summary import FieldStatistics, Statistics
from astropile.store.protocol import RemoteOptions, RemotePath, TreePath

STATISTICS_DIR: Final = "statistics"
STATISTICS_FILE: Final = "fields.json"
PARTS_DIR: Final = ".parts"

_VERSION: Final = "1"
_MAX_NBYTES: Final = 2**30


def statistics_path(subset: TreePath) -> TreePath:
    """
    Name the file of a subset's statistics.

    Parameters
    ----------
    subset : Path or RemotePath
        Folder of the subset.

    Returns
    -------
    Path or RemotePath
        The file; it need not be there.
    """
    return subset / STATISTICS_DIR / STATISTICS_FILE


def save_statistics(statistics: Statistics, path: str | os.PathLike[str]) -> Path:
    """
    Write statistics to a file, whole or not at all.

    Parameters
    ----------
    statistics : Statistics
        The statistics.
    path : path
        The file; one of that name is replaced. That of a subset is what `statistics_path` says.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    BuildError
        If it is a URL.
    OSError
        If it cannot be written.
    """
    final = local_path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    facts = {"statistics_format": _VERSION, **statistics.to_json()}
    publish_bytes(final, json.dumps(facts, indent=1).encode())
    return final


def open_statistics(
    tree: str | os.PathLike[str] | RemotePath,
    subset: str | None = None,
    *,
    remote: RemoteOptions | None = None,
    stale: bool = False,
) -> Statistics:
    """
    Read the statistics of a tree, or those of a file.

    Parameters
    ----------
    tree : path or str
        A data folder, the folder of a subset, the URL of either, or a file that
        `save_statistics` wrote.
    subset : str, optional
        Which subset, where there are several.
    remote : RemoteOptions, optional
        How to reach a URL.
    stale : bool
        Also give those of another snapshot than the tree has now.

    Returns
    -------
    Statistics
        The statistics.

    Raises
    ------
    SampleError
        If the tree has none, or those of another snapshot.
    FormatError
        If they cannot be read.
    TreeNotFoundError
        If there is no tree.
    StoreError
        If a store fails.
    """
    if not isinstance(tree, RemotePath) and Path(tree).is_file():
        return _parse(Path(tree).read_bytes(), str(tree))
    catalog = open_catalog(tree, subset, remote=remote)
    path = statistics_path(catalog.path)
    try:
        content = _content(path)
    except FileNotFoundError as error:
        raise SampleError(
            f"statistics of {catalog.path}",
            f"{STATISTICS_FILE}, as `astropile stats` makes",
            "none",
        ) from error
    found = _parse(content, str(path))
    if not stale and found.snapshot != catalog.snapshot:
        raise SampleError(
            f"statistics of {catalog.path}",
            f"those of the snapshot {catalog.snapshot[:12]}; `astropile stats` makes them anew",
            f"those of {found.snapshot[:12] or 'none'}",
        )
    return found


def update_statistics(
    catalog: Catalog,
    columns: Sequence[str] | None = None,
    *,
    path: str | os.PathLike[str] | None = None,
    sample: float = 1.0,
    seed: int = 0,
    workers: int = 1,
    overwrite: bool = False,
    progress: bool = False,
) -> Statistics:
    """
    Gather the statistics of a tree that are not there yet, and keep them.

    Parameters
    ----------
    catalog : Catalog
        The tree.
    columns : sequence of str, optional
        As for `compute_statistics`. Fields that are there of the same snapshot and the same
        sample stay; those of all objects also do for a sample.
    path : path, optional
        The file; by default that of the subset.
    sample, seed, workers, progress
        As for `compute_statistics`.
    overwrite : bool
        Replace those of another sample.

    Returns
    -------
    Statistics
        Of these columns and of all that were there.

    Raises
    ------
    SampleError
        If there is something to gather, the tree is behind a URL, and no file is named; or if
        the file has those of another sample of the same snapshot, and is not to be overwritten.
    UnknownColumnError
        If a name is not there.
    OSError
        If the file cannot be written.
    """
    wanted = paths_of(catalog, columns)
    file = statistics_path(catalog.path) if path is None else local_path(path)
    selection = selection_of(sample, seed)
    there = _known(catalog, file)
    if there is not None and there.selection != selection:
        if there.selection == selection_of(1.0, 0) and set(wanted) <= set(there.fields):
            return there
        if not overwrite:
            raise SampleError(
                str(file), f"statistics of the sample {selection}", f"those of {there.selection}"
            )
        there = None
    known = {} if there is None else there.fields
    missing = [name for name in wanted if name not in known]
    if there is not None and not missing:
        return there
    if isinstance(file, RemotePath):
        raise SampleError("statistics", "a file to write them to", f"the URL {file}")
    parts = file.parent / (PARTS_DIR if path is None else f".{file.name}.parts")
    found = compute_statistics(
        catalog,
        missing,
        sample=sample,
        seed=seed,
        workers=workers,
        parts=parts,
        progress=progress,
    )
    found = _with(catalog, {**known, **found.fields}, found.selection)
    save_statistics(found, file)
    with contextlib.suppress(OSError):
        # Parts of another call may still be there.
        parts.rmdir()
    return found


def _known(catalog: Catalog, file: TreePath) -> Statistics | None:
    """Read those that are there, if they hold; what cannot be read is made anew."""
    try:
        found = _parse(_content(file), str(file))
    except (FileNotFoundError, FormatError):
        return None
    return found if found.snapshot == catalog.snapshot else None


def _with(
    catalog: Catalog, fields: Mapping[str, FieldStatistics], selection: Mapping[str, Any]
) -> Statistics:
    n_objects = max((known.n_objects for known in fields.values()), default=0)
    names = (catalog.survey.name, catalog.subset, catalog.snapshot)
    return Statistics(*names, n_objects, dict(sorted(fields.items())), selection)


def _content(path: TreePath) -> bytes:
    return path.read_bytes() if isinstance(path, Path) else path.read_bytes(limit=_MAX_NBYTES)


def _parse(content: bytes, where: str) -> Statistics:
    try:
        facts = json.loads(content)
    except ValueError as error:
        raise FormatError(where, "JSON", str(error)) from error
    version = facts.get("statistics_format") if isinstance(facts, dict) else None
    if version != _VERSION:
        raise FormatError(where, f"statistics_format {_VERSION!r}", repr(version))
    return Statistics.from_json(facts, where)
