"""
Check a tree against the format and against itself.

Each finding names the rule of `docs/format.md` it breaks.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from astropile.card import card_text
from astropile.catalog import Catalog, open_catalog
from astropile.errors import AstroPileError, FormatError
from astropile.hats import read_hats
from astropile.hdf5.check import check_shard
from astropile.hdf5.reader import ShardReader
from astropile.hdf5.rows import load_tables, same_table, table_of
from astropile.hdf5.writer import ShardPlace
from astropile.healpix import ang2pix
from astropile.layout import (
    CATALOG_DIR,
    README_FILE,
    ROWS_DIR,
    Shard,
    parse_partition_dir,
    parse_shard_file,
    partition_dir,
    rows_file,
    shard_file,
)
from astropile.manifest import partition_manifest, read_manifest, snapshot_of
from astropile.names import COMMON_COLUMNS, HEALPIX_29, ROW_COLUMN, SHARD_COLUMN


@dataclass(frozen=True)
class Problem:
    """
    One thing that is wrong.

    Parameters
    ----------
    rule : str
        The rule of `docs/format.md` that it breaks.
    where : str
        File and column.
    message : str
        What is wrong.
    """

    rule: str
    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.rule} {self.where}: {self.message}"


@dataclass(frozen=True)
class ValidationReport:
    """
    What `validate_catalog` found.

    Parameters
    ----------
    path : Path
        Folder of the subset.
    n_objects, n_shards : int
        What was looked at.
    problems : tuple of Problem
        What is wrong; empty if nothing is.
    """

    path: Path
    n_objects: int
    n_shards: int
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def validate_catalog(
    path: str | os.PathLike[str],
    subset: str | None = None,
    *,
    progress: bool | None = None,
) -> ValidationReport:
    """
    Check a subset of a tree: every file, every rule of the format.

    Parameters
    ----------
    path : path
        A survey's data folder, or the folder of a subset.
    subset : str, optional
        Name of the subset; may be left out where there is only one.
    progress : bool, optional
        Show a progress bar on standard error; by default where that is a terminal.

    Returns
    -------
    ValidationReport
        What is wrong, if anything.

    Raises
    ------
    TreeNotFoundError
        If there is no tree.
    FormatError
        If `astropile.json` cannot be read at all.
    """
    catalog = open_catalog(path, subset)
    bars = sys.stderr.isatty() if progress is None else progress
    problems = [Problem(*finding) for finding in _tree(catalog)]
    observed: list[Any] = []
    before: tuple[int, Any] | None = None
    bar = tqdm(catalog.shards, desc="validate", unit="shard", disable=not bars, leave=False)
    for number, shard in enumerate(bar):
        where = shard.path.relative_to(catalog.path).as_posix()
        place = _place(catalog, number)
        if not shard.path.is_file():
            problems.append(Problem("T4", where, "missing"))
            continue
        found = [
            Problem(rule, f"{where}, {inside}" if inside else where, message)
            for rule, inside, message in check_shard(
                shard.path, catalog.survey, place, shard.n_objects
            )
        ]
        problems += found
        if any(problem.rule in {"S1", "S2", "S7"} for problem in found):
            continue
        try:
            columns = _common(catalog, number)
        except FormatError as error:
            problems.append(Problem("S1", where, str(error)))
            continue
        observed.append(columns["observation_id"])
        checked, before = _objects(catalog, columns, shard.ipix, before)
        problems += [Problem(rule, where, message) for rule, message in checked]
    problems += [Problem(*finding) for finding in _identifiers(catalog, observed)]
    problems += [Problem(*finding) for finding in _catalogue(catalog)]
    problems += [Problem(*finding) for finding in _readme(catalog)]
    return ValidationReport(catalog.path, len(catalog), len(catalog.shards), tuple(problems))


def _place(catalog: Catalog, number: int) -> ShardPlace:
    shard = catalog.shards[number]
    parsed = parse_shard_file(shard.path.name)
    assert parsed is not None
    return ShardPlace(catalog.subset, catalog.order, shard.ipix, parsed.index, parsed.total)


def _common(catalog: Catalog, number: int) -> dict[str, Any]:
    shard = catalog.shards[number]
    with ShardReader(shard.path, catalog.survey) as reader:
        rows = np.arange(reader.n_objects)
        return {name: reader.read(name, rows) for name in COMMON_COLUMNS}


def _tree(catalog: Catalog) -> Iterator[tuple[str, str, str]]:
    """Folders and files against `astropile.json`; manifests and hashes against the files."""
    declared = {partition.ipix: partition for partition in catalog.root.partitions}
    folders = {
        ipix: path.name
        for path in sorted(catalog.path.iterdir())
        if path.is_dir() and (ipix := parse_partition_dir(path.name)) is not None
    }
    for ipix in sorted(set(folders) - set(declared)):
        yield "T7", folders[ipix], "not among the partitions of astropile.json"
    if catalog.subset != catalog.path.name:
        yield "T1", catalog.path.name, f"astropile.json says subset {catalog.subset!r}"
    manifests = []
    for ipix, partition in declared.items():
        name = partition_dir(ipix)
        total = len(partition.n_objects)
        wanted = {shard_file(Shard(index, total)) for index in range(1, total + 1)}
        folder = catalog.path / name
        found = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        for file in sorted(found - wanted):
            yield "T4", f"{name}/{file}", f"not one of the {total} shards"
        try:
            manifest = read_manifest(catalog.path, ipix)
        except FormatError as error:
            yield "M2", name, str(error)
            continue
        entries = manifest["shards"]
        rows = manifest.get("rows", {})
        manifests.append(partition_manifest(catalog.order, ipix, entries, rows))
        yield from _rows(catalog, ipix, rows)
        counts = [entry.get("n_objects") for entry in entries]
        if counts != list(partition.n_objects):
            yield "M2", name, f"manifest has {counts}, astropile.json {partition.n_objects}"
        for entry in entries:
            if entry.get("file") in found & wanted:
                yield from _hashes(folder / entry["file"], entry, manifest["block_size"])
    if len(manifests) == len(declared) and snapshot_of(manifests) != catalog.snapshot:
        yield "M1", "astropile.json", "its snapshot is not that of the manifests"


def _rows(catalog: Catalog, ipix: int, facts: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Compare the row tables of a partition with the manifest and with the files."""
    path = catalog.path / ROWS_DIR / rows_file(ipix)
    where = f"{ROWS_DIR}/{path.name}"
    if not path.is_file():
        yield "W1", where, "missing"
        return
    content = path.read_bytes()
    if len(content) != facts.get("size") or hashlib.sha256(content).hexdigest() != facts.get(
        "sha256"
    ):
        yield "M2", where, "its SHA-256 is not the manifest's"
    shards = [shard.path for shard in catalog.shards if shard.ipix == ipix]
    try:
        found = load_tables(content, where)
        wanted = [table_of(shard) for shard in shards]
    except FormatError as error:
        yield "W2", where, str(error)
        return
    if len(found) != len(wanted) or not all(map(same_table, found, wanted)):
        yield "W2", where, "it does not say where the rows of its files lie"


def _hashes(path: Path, entry: dict[str, Any], block: int) -> Iterator[tuple[str, str, str]]:
    where = f"{path.parent.name}/{path.name}"
    size = path.stat().st_size
    if size != entry["size"]:
        yield "M2", where, f"{size} bytes, the manifest says {entry['size']}"
        return
    whole = hashlib.sha256()
    with path.open("rb") as file:
        for number, wanted in enumerate(entry["blocks"]):
            content = file.read(block)
            whole.update(content)
            if hashlib.sha256(content).hexdigest() != wanted:
                start = number * block
                yield "M2", where, f"damaged in bytes {start} to {start + len(content) - 1}"
    if whole.hexdigest() != entry["sha256"]:
        yield "M2", where, "its SHA-256 is not the manifest's"


def _objects(
    catalog: Catalog, columns: dict[str, Any], ipix: int, before: tuple[int, Any] | None
) -> tuple[list[tuple[str, str]], tuple[int, Any] | None]:
    """Positions, pixels and order of the objects of one shard."""
    found: list[tuple[str, str]] = []
    ra, dec = columns["ra"], columns["dec"]
    bad = ~(np.isfinite(ra) & np.isfinite(dec) & (ra >= 0) & (ra < 360) & (np.abs(dec) <= 90))
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        found.append(
            ("S7", f"{bad.sum()} positions off the sky, first row {row}: {ra[row]}, {dec[row]}")
        )
        return found, None
    pixels = ang2pix(ra, dec, 29)
    off = pixels >> 2 * (29 - catalog.order) != ipix
    if off.any():
        row = int(np.flatnonzero(off)[0])
        found.append(("T2", f"{off.sum()} objects outside pixel {ipix}, first row {row}"))
    if np.any(columns["healpix"] != ipix):
        found.append(("S7", f"healpix is not {ipix} throughout"))
    names = columns["observation_id"]
    order = np.lexsort((names, pixels))
    first = (int(pixels[0]), names[0])
    if np.any(order != np.arange(len(order))) or (before is not None and before > first):
        found.append(("T5", "rows are not sorted by order-29 pixel and observation_id"))
    return found, (int(pixels[-1]), names[-1])


def _identifiers(catalog: Catalog, observed: list[Any]) -> Iterator[tuple[str, str, str]]:
    if observed:
        names = np.concatenate(observed)
        unique, counts = np.unique(names, return_counts=True)
        if len(unique) != len(names):
            first = unique[counts > 1][0]
            repeated = len(names) - len(unique)
            yield "T6", catalog.subset, f"{repeated} objects repeat an observation_id, as {first!r}"


def _catalogue(catalog: Catalog) -> Iterator[tuple[str, str, str]]:
    """Compare the catalogue with what the shards say."""
    try:
        table = read_hats(catalog.path / CATALOG_DIR, None)
    except (OSError, AstroPileError, ValueError) as error:
        yield "M4", CATALOG_DIR, f"cannot be read: {error}"
        return
    wanted = {*catalog.light_columns, HEALPIX_29, SHARD_COLUMN, ROW_COLUMN}
    if set(table.column_names) != wanted:
        differing = sorted(set(table.column_names) ^ wanted)
        yield "M4", CATALOG_DIR, f"its columns differ in {', '.join(differing)}"
        return
    if len(table) != len(catalog):
        yield "M4", CATALOG_DIR, f"{len(table)} rows for {len(catalog)} objects"
        return
    for number, shard in enumerate(catalog.shards):
        if not shard.path.is_file():
            continue
        part = table.slice(shard.start, shard.n_objects)
        rows = part[ROW_COLUMN].to_numpy()
        index = _place(catalog, number).index
        if np.any(rows != np.arange(len(rows))) or np.any(part[SHARD_COLUMN].to_numpy() != index):
            yield "M4", CATALOG_DIR, f"wrong places for {shard.path.parent.name}"
            return
        try:
            with ShardReader(shard.path, catalog.survey) as reader:
                every = np.arange(reader.n_objects)
                stored = {name: reader.read(name, every) for name in catalog.light_columns}
        except AstroPileError:
            continue
        for name, values in stored.items():
            mine = part[name].to_numpy(zero_copy_only=False)
            theirs = np.asarray(values)
            if theirs.dtype.kind == "S":
                theirs = np.char.decode(theirs, "utf-8")
                mine = mine.astype(str)
            floats = theirs.dtype.kind == "f"
            if len(mine) != len(theirs) or not np.array_equal(mine, theirs, equal_nan=floats):
                where = f"{shard.path.parent.name}/{shard.path.name}"
                yield "M4", CATALOG_DIR, f"column {name!r} is not that of {where}"


def _readme(catalog: Catalog) -> Iterator[tuple[str, str, str]]:
    readme = catalog.path.parent / README_FILE
    try:
        wanted = card_text(catalog.path.parent)
        found = readme.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError, AstroPileError) as error:
        yield "M5", README_FILE, f"cannot be read: {error}"
        return
    if found != wanted:
        yield "M5", README_FILE, "it does not say what the subsets' files say"
