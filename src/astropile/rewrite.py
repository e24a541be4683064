"""
From one layout to the other: the same objects in the same order, bit for bit.

Partition by partition, aside, then under the final name. A run that was stopped goes on after the
last partition it finished. Memory: one shard, twice.
"""

from __future__ import annotations

import hashlib
import os
import sys
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from astropile.card import refresh_card
from astropile.catalog import Catalog, open_catalog
from astropile.errors import BuildError, FormatError
from astropile.layout import CATALOG_DIR, MANIFEST_DIR, check_subset
from astropile.manifest import read_manifest
from astropile.names import COMMON_COLUMNS
from astropile.publish import publish_bytes
from astropile.schema import Ragged
from astropile.shards import CatalogShard
from astropile.store.protocol import RemotePath, is_url
from astropile.subset import (
    Assembly,
    Pattern,
    has_partition,
    recover,
    say_done,
    take_final_name,
    work_folder,
    write_partition,
)

_PIECE_NBYTES = 2**22


@dataclass(frozen=True)
class RewriteReport:
    """
    What a rewrite did.

    Parameters
    ----------
    path : Path
        Folder of the new subset.
    layout : str
        Its layout.
    n_objects, n_partitions, n_shards : int
        What it holds.
    n_bytes_before, n_bytes : int
        Size of the shards read and of those written.
    """

    path: Path
    layout: str
    n_objects: int
    n_partitions: int
    n_shards: int
    n_bytes_before: int
    n_bytes: int


def rewrite_catalog(
    tree: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    layout: Literal["compact", "fast"],
    subset: str | None = None,
    name: str | None = None,
    overwrite: bool = False,
    progress: bool | None = None,
) -> RewriteReport:
    """
    Write a subset anew in one of the layouts.

    Parameters
    ----------
    tree : path
        A survey's data folder, or the folder of a subset.
    out : path
        Data folder to write in; it may be that of `tree`.
    layout : {"compact", "fast"}
        Compressed object by object, or not compressed.
    subset : str, optional
        Which subset; may be left out where there is only one.
    name : str, optional
        Name of the new subset; by default that of the old one.
    overwrite : bool
        Replace a subset that is there, were it the old one itself.
    progress : bool, optional
        Show a progress bar on standard error; by default where that is a terminal.

    Returns
    -------
    RewriteReport
        What was done.

    Raises
    ------
    BuildError
        If the new subset is there already, another run writes it, or an interrupted one began
        with something else.
    FormatError
        If a shard is not the one that its manifest describes.
    TreeNotFoundError
        If there is no tree.
    OSError
        If the disk fails. In every case nothing stands under the final name that was not there.
    """
    for path in (tree, out):
        if isinstance(path, RemotePath) or is_url(path):
            raise BuildError(str(out), f"trees on this machine are rewritten, {path} is not one")
    for kept in Path(out).expanduser().glob(".*.replaced"):
        # An interrupted run may have left the tree itself aside.
        recover(kept.with_name(kept.name[1 : -len(".replaced")]))
    catalog = open_catalog(tree, subset)
    final = Path(out).expanduser() / check_subset(name or catalog.subset)
    if layout not in ("compact", "fast"):
        raise BuildError(str(final), f"a layout is 'compact' or 'fast', not {layout!r}")
    if not isinstance(catalog.path, Path):
        raise BuildError(str(final), f"{catalog.path} is not on this machine")
    if final.exists() and not overwrite:
        raise BuildError(str(final), "it exists already; overwrite it, or name another subset")
    final.parent.mkdir(parents=True, exist_ok=True)
    bars = sys.stderr.isatty() if progress is None else progress
    plan = {
        "rewrite_of": str(catalog.path.resolve()),
        "snapshot": catalog.snapshot,
        "subset": final.name,
        "layout": layout,
    }
    with work_folder(final, plan) as room:
        pattern = Pattern(catalog.survey, final.name, catalog.order, layout)
        n_before = _write_partitions(catalog, room / "store", pattern, bars=bars)
        assembly = Assembly(room / f"tree-{uuid.uuid4().hex}", pattern)
        for partition in catalog.root.partitions:
            assembly.adopt(room / "store", partition.ipix)
        _copy_catalogue(catalog, assembly.tree, final.name)
        root = assembly.finish(built=catalog.root.built)
        say_done(final, assembly.tree)
        take_final_name(assembly.tree, final, overwrite=overwrite, durable=False)
    refresh_card(final.parent)
    return RewriteReport(
        path=final,
        layout=layout,
        n_objects=root.n_objects,
        n_partitions=len(root.partitions),
        n_shards=sum(len(partition.n_objects) for partition in root.partitions),
        n_bytes_before=n_before,
        n_bytes=assembly.n_bytes,
    )


def _write_partitions(catalog: Catalog, store: Path, pattern: Pattern, *, bars: bool) -> int:
    """Write all partitions that an interrupted run has not; give the size of the old shards."""
    shards: dict[int, list[CatalogShard]] = {}
    for shard in catalog.shards:
        shards.setdefault(shard.ipix, []).append(shard)
    n_bytes = 0
    bar = tqdm(total=len(catalog), desc="rewrite", unit="object", disable=not bars, leave=False)
    with bar:
        for ipix, members in shards.items():
            entries = read_manifest(catalog.path, ipix)["shards"]
            n_bytes += sum(entry["size"] for entry in entries)
            if not has_partition(store, ipix):
                shards_of = _read(catalog, members, entries)
                write_partition(store, pattern, ipix, len(members), shards_of)
            bar.update(sum(shard.n_objects for shard in members))
    return n_bytes


def _read(
    catalog: Catalog, shards: list[CatalogShard], entries: list[Mapping[str, Any]]
) -> Iterator[tuple[dict[str, NDArray[Any] | Ragged], dict[str, NDArray[Any]]]]:
    """Read shard after shard, each compared with its manifest first: no error is carried on."""
    native = catalog.survey.column_names
    for shard, entry in zip(shards, entries, strict=True):
        _check(shard.path, entry)
        rows = np.arange(shard.start, shard.start + shard.n_objects)
        found: dict[str, Any] = catalog.take(rows, [*native, *COMMON_COLUMNS])
        columns = {name: found[name] for name in native}
        yield columns, {name: found[name] for name in COMMON_COLUMNS}


def _check(path: Path, entry: Mapping[str, Any]) -> None:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while piece := file.read(_PIECE_NBYTES):
                digest.update(piece)
    except FileNotFoundError as error:
        raise FormatError(str(path), "a shard of the subset", "no such file") from error
    if digest.hexdigest() != entry["sha256"]:
        raise FormatError(
            str(path), "the file that its manifest describes", "another or a damaged one"
        )


def _copy_catalogue(catalog: Catalog, new: Path, name: str) -> None:
    """Copy what does not depend on the layout: the catalogue and the lists of the build."""
    paths = sorted((catalog.path / CATALOG_DIR).rglob("*"))
    paths += sorted((catalog.path / MANIFEST_DIR).glob("*.jsonl"))
    for path in paths:
        if path.is_dir():
            continue
        content = path.read_bytes()
        if path.name in ("hats.properties", "properties"):
            old = f"obs_collection={catalog.survey.name}_{catalog.subset}\n"
            content = content.replace(
                old.encode(), f"obs_collection={catalog.survey.name}_{name}\n".encode()
            )
        copied = new / path.relative_to(catalog.path)
        copied.parent.mkdir(parents=True, exist_ok=True)
        publish_bytes(copied, content)
