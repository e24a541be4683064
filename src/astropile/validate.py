"""
Check a tree against the format, against itself, and for what it means.

Each finding names the rule that it breaks: of `docs/format.md`, or of `astropile.meaning`.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from tqdm import tqdm

from astropile.beside import absolute, check_catalogue, check_readme
from astropile.catalog import Catalog, open_catalog
from astropile.errors import FormatError, TreeNotFoundError
from astropile.findings import ALL_RULES, Problem, ValidationReport, choose_rules
from astropile.hdf5.check import check_shard
from astropile.hdf5.reader import ShardReader
from astropile.hdf5.rows import load_tables, same_table, table_of
from astropile.hdf5.writer import ShardPlace
from astropile.healpix import ang2pix
from astropile.layout import (
    CATALOG_DIR,
    MANIFEST_DIR,
    REJECTED_FILE,
    ROOT_FILE,
    ROWS_DIR,
    check_subset,
    manifest_file,
    parse_partition_dir,
    parse_shard_file,
    partition_dir,
    rows_file,
    shard_file,
)
from astropile.manifest import BLOCK_NBYTES, parse_json, parse_manifest, read_json, snapshot_of
from astropile.meaning.look import Seen, ShardTask, look
from astropile.meaning.rules import RULES
from astropile.meaning.tally import Sight
from astropile.names import COMMON_COLUMNS
from astropile.shards import CatalogShard
from astropile.store.protocol import RemotePath, is_url

INPUTS_FILE: Final = "inputs.jsonl"


def validate_catalog(
    path: str | os.PathLike[str],
    subset: str | None = None,
    *,
    progress: bool | None = None,
    rules: Iterable[str] | None = None,
    sample: int | None = None,
    executor: Executor | None = None,
) -> ValidationReport:
    """
    Check a subset of a tree: every file, every rule of the format, and what it means.

    Parameters
    ----------
    path : path
        A survey's data folder, or the folder of a subset.
    subset : str, optional
        Name of the subset; may be left out where there is only one.
    progress : bool, optional
        Show a progress bar on standard error; by default where that is a terminal.
    rules : iterable of str, optional
        The rules to check, or letters of series (`choose_rules`); by default all. Where none of
        the format's is among them, the files are not compared with their manifest.
    sample : int, optional
        For the rules of meaning, look at the spectra, images, cubes and light curves of at most
        so many objects of each file, evenly over it; by default at all of them.
    executor : concurrent.futures.Executor, optional
        Who looks at the values of the files, each by itself; by default this thread.

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
    ValueError
        If a rule is not known.

    Notes
    -----
    In memory at a time are 32 MiB of columns, or one object where it is larger, of each file
    that is looked at; the identifiers and positions of all objects; and 16 bytes more for each.
    """
    if isinstance(path, RemotePath) or is_url(path):
        raise TreeNotFoundError(str(path), "only a tree on this machine is checked")
    catalog = open_catalog(path, subset)
    bars = sys.stderr.isatty() if progress is None else progress
    wanted = choose_rules(rules)
    sound = set(range(len(catalog.shards)))
    problems: list[Problem] = []
    if wanted - set(RULES):
        problems, sound = _format(catalog, bars=bars)
    unwanted = frozenset(ALL_RULES) - wanted
    errors = [problem for problem in problems if problem.rule not in unwanted]
    meant = wanted & set(RULES)
    seen = _meaning(catalog, sound, meant, sample, executor, bars=bars)
    errors += [Problem("S1", place, why) for place, why in seen.unreadable.items()]
    found = [_problem_of(sight) for sight in seen.sights]
    return ValidationReport(
        catalog.path,
        len(catalog),
        len(catalog.shards),
        (*errors, *(one for one in found if one.severity == "error")),
        tuple(one for one in found if one.severity == "warning"),
        seen.looked,
        tuple(rule for rule in RULES if rule in meant and rule not in seen.looked),
    )


def _problem_of(sight: Sight) -> Problem:
    place = f"{sight.field} of {sight.where}" if sight.where else sight.field
    others = f" ({sight.count:,} objects)" if sight.count > 1 else ""
    severity = RULES[sight.rule].severity
    return Problem(sight.rule, place, sight.message + others, severity, sight.count)


def _meaning(
    catalog: Catalog,
    sound: set[int],
    wanted: frozenset[str],
    sample: int | None,
    executor: Executor | None,
    *,
    bars: bool,
) -> Seen:
    if not wanted:
        return Seen((), {})
    tasks = [
        ShardTask(
            shard.path,
            shard.path.relative_to(catalog.path).as_posix(),
            catalog.survey,
            shard.ipix,
            catalog.order,
            wanted,
            sample,
        )
        for number, shard in enumerate(catalog.shards)
        if number in sound
    ]
    watch = partial(
        tqdm, total=len(tasks), desc="meaning", unit="shard", disable=not bars, leave=False
    )
    return look(catalog.survey, tasks, wanted, executor, watch)


def _format(catalog: Catalog, *, bars: bool) -> tuple[list[Problem], set[int]]:
    """Check the rules of the format; say which shards hold what they should."""
    problems = [Problem(*finding) for finding in _tree(catalog)]
    sound: set[int] = set()
    readable: set[int] = set()
    whole: set[int] = set()
    observed: list[Any] = []
    before: tuple[int, Any] | None = None
    bar = tqdm(catalog.shards, desc="validate", unit="shard", disable=not bars, leave=False)
    for number, shard in enumerate(bar):
        where = shard.path.relative_to(catalog.path).as_posix()
        if not shard.path.is_file():
            problems.append(Problem("T4", where, "missing"))
            continue
        place = _place(catalog, shard)
        found = [
            Problem(rule, f"{where}, {inside}" if inside else where, message)
            for rule, inside, message in check_shard(
                shard.path, catalog.survey, place, shard.n_objects, catalog.root.layout
            )
        ]
        problems += found
        rules = {problem.rule for problem in found}
        if not rules & {"S1", "S5"}:
            sound.add(number)
        if rules & {"S1", "S2", "S5", "S7"}:
            continue
        try:
            columns = _common(catalog, shard)
        except FormatError as error:
            problems.append(Problem("S1", where, str(error)))
            continue
        readable.add(number)
        observed.append(columns["observation_id"])
        checked, before = _objects(catalog, columns, shard.ipix, before)
        problems += [Problem(rule, where, message) for rule, message in checked]
        # Values out of place say nothing of what they mean.
        if not any(rule[0] in "SR" and rule != "S9" for rule in (*rules, *dict(checked))):
            whole.add(number)
    problems += [Problem(*finding) for finding in _row_tables(catalog, sound)]
    problems += [Problem(*finding) for finding in _identifiers(catalog, observed)]
    problems += [Problem(*finding) for finding in check_catalogue(catalog, readable)]
    problems += [Problem(*finding) for finding in check_readme(catalog)]
    return problems, whole


def _place(catalog: Catalog, shard: CatalogShard) -> ShardPlace:
    part = shard.part
    return ShardPlace(catalog.subset, catalog.order, shard.ipix, part.index, part.total)


def _common(catalog: Catalog, shard: CatalogShard) -> dict[str, Any]:
    """Read the common columns, and the native ones of the identifiers (as ``=<name>``)."""
    with ShardReader(shard.path, catalog.survey) as reader:
        rows = np.arange(reader.n_objects)
        columns: dict[str, Any] = {name: reader.read(name, rows) for name in COMMON_COLUMNS}
        for name in ("object_id", "observation_id"):
            columns[f"={name}"] = reader.read(str(catalog.survey.aliases[name]), rows)
        return columns


def _tree(catalog: Catalog) -> Iterator[tuple[str, str, str]]:
    """Folders and files against `astropile.json`; manifests and hashes against the files."""
    declared = {partition.ipix: partition for partition in catalog.root.partitions}
    yield from _root(catalog)
    yield from _folders(catalog, set(declared))
    members: dict[int, list[CatalogShard]] = {}
    for shard in catalog.shards:
        members.setdefault(shard.ipix, []).append(shard)
    manifests: list[bytes] = []
    for ipix, partition in declared.items():
        path = catalog.path / MANIFEST_DIR / manifest_file(ipix)
        where = f"{MANIFEST_DIR}/{path.name}"
        if not path.is_file():
            yield "M2", where, "missing"
            continue
        content = path.read_bytes()
        manifests.append(content)
        try:
            manifest = parse_manifest(content, where)
        except FormatError as error:
            yield "M2", where, f"expected {error.expected}, found {error.found}"
            continue
        for name, wanted in (("order", catalog.order), ("healpix", ipix)):
            if manifest[name] != wanted:
                yield "M2", where, f"its {name} is {manifest[name]}, not {wanted}"
        yield from _rows_hash(catalog, ipix, manifest["rows"])
        entries = manifest["shards"]
        counts = [entry["n_objects"] for entry in entries]
        if counts != list(partition.n_objects):
            yield "M2", where, f"it has {counts} objects, astropile.json {partition.n_objects}"
        for shard, entry in zip(members[ipix], entries, strict=False):
            if parse_shard_file(entry["file"]) != shard.part:
                yield "M2", where, f"it names {entry['file']!r} for {shard_file(shard.part)}"
            elif shard.path.is_file():
                yield from _hashes(shard.path, entry, manifest["block_size"])
    if len(manifests) == len(declared) and snapshot_of(manifests) != catalog.snapshot:
        yield "M1", ROOT_FILE, "its snapshot is not that of the manifests"
    yield from _lists(catalog.path)
    yield from _files(catalog)


def _files(catalog: Catalog) -> Iterator[tuple[str, str, str]]:
    """Rule M1: the files beside the partitions against `astropile.json`, from 1.1 on."""
    listed = {path: (size, digest) for path, size, digest in catalog.root.files}
    if not listed:
        return
    folders = ((CATALOG_DIR, "**/*"), (MANIFEST_DIR, "*.jsonl"))
    found = {
        path.relative_to(catalog.path).as_posix(): path
        for folder, pattern in folders
        for path in (catalog.path / folder).glob(pattern)
        if path.is_file() and not path.name.startswith(".")
    }
    for name in sorted({*listed, *found}):
        if name not in listed:
            yield "M1", name, "not among the files of astropile.json"
        elif name not in found:
            yield "M1", name, "missing"
        else:
            with found[name].open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            if (found[name].stat().st_size, digest) != listed[name]:
                yield "M1", name, "not the file that astropile.json describes"


def _root(catalog: Catalog) -> Iterator[tuple[str, str, str]]:
    """Rules T1 and M1: the name of the subset, and what reading it does not look at."""
    name = absolute(catalog).name
    try:
        check_subset(name)
    except ValueError as error:
        yield "T1", name, str(error)
    if catalog.subset != name:
        yield "T1", name, f"astropile.json says subset {catalog.subset!r}"
    facts = read_json(catalog.path / ROOT_FILE)
    if facts.get("scheme") != "nested":
        yield "M1", ROOT_FILE, f"its scheme is {facts.get('scheme')!r}, not 'nested'"
    if not isinstance(facts.get("written_by"), str):
        yield "M1", ROOT_FILE, "it has no written_by"
    if catalog.root.layout not in ("compact", "fast"):
        yield "M1", ROOT_FILE, f"a layout {catalog.root.layout!r} is not known"


def _folders(catalog: Catalog, declared: set[int]) -> Iterator[tuple[str, str, str]]:
    """Rules T3, T4, T7: no partition or shard too many, and every name as it is written."""
    known = {shard.path: shard_file(shard.part) for shard in catalog.shards}
    for folder in sorted(catalog.path.iterdir()):
        ipix = parse_partition_dir(folder.name)
        if ipix is None or not folder.is_dir():
            continue
        if ipix not in declared:
            yield "T7", folder.name, "not among the partitions of astropile.json"
            continue
        if folder.name != partition_dir(ipix):
            yield "T3", folder.name, f"written as {partition_dir(ipix)}, without padding"
        for path in sorted(folder.iterdir()):
            where = f"{folder.name}/{path.name}"
            if path.name.startswith("."):
                continue
            if path not in known:
                yield "T4", where, "not one of the partition's shards"
            elif path.name != known[path]:
                yield "T4", where, f"written as {known[path]}"
    for name, file_of in ((MANIFEST_DIR, manifest_file), (ROWS_DIR, rows_file)):
        wanted = {file_of(ipix) for ipix in declared}
        for path in sorted((catalog.path / name).glob("healpix=*")):
            if path.name not in wanted:
                yield "T7", f"{name}/{path.name}", "of no partition of astropile.json"


_LISTS: Final[dict[str, dict[str, type | tuple[type, ...]]]] = {
    INPUTS_FILE: {"unit": str, "path": str, "size": (int, type(None))},
    REJECTED_FILE: {"unit": str, "key": str, "reason": str, "count": int},
}
"""What the lines of the lists of a build hold (rule M3)."""


def _lists(folder: Path) -> Iterator[tuple[str, str, str]]:
    for name, fields in _LISTS.items():
        path = folder / MANIFEST_DIR / name
        where = f"{MANIFEST_DIR}/{name}"
        if not path.is_file():
            yield "M3", where, "missing"
            continue
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    values = parse_json(line, where)
                except FormatError as error:
                    yield "M3", where, f"line {number} is not JSON: {error.found}"
                    break
                wrong = [
                    field
                    for field, kind in fields.items()
                    if not isinstance(values, dict) or not isinstance(values.get(field), kind)
                ]
                if wrong:
                    yield "M3", where, f"line {number} has no {' and no '.join(wrong)}"
                    break


def _rows_hash(
    catalog: Catalog, ipix: int, facts: dict[str, Any]
) -> Iterator[tuple[str, str, str]]:
    """Compare the row tables of a partition with its manifest."""
    path = catalog.path / ROWS_DIR / rows_file(ipix)
    where = f"{ROWS_DIR}/{path.name}"
    if not path.is_file():
        yield "W1", where, "missing"
        return
    content = path.read_bytes()
    if len(content) != facts["size"] or hashlib.sha256(content).hexdigest() != facts["sha256"]:
        yield "M2", where, "its SHA-256 is not the manifest's"


def _row_tables(catalog: Catalog, sound: set[int]) -> Iterator[tuple[str, str, str]]:
    """Compare the row tables with those files that can be looked into."""
    numbers: dict[int, list[int]] = {}
    for number, shard in enumerate(catalog.shards):
        numbers.setdefault(shard.ipix, []).append(number)
    for ipix, members in numbers.items():
        path = catalog.path / ROWS_DIR / rows_file(ipix)
        where = f"{ROWS_DIR}/{path.name}"
        if not path.is_file():
            continue
        try:
            found = load_tables(path.read_bytes(), where)
            same = len(found) == len(members) and all(
                same_table(table, table_of(catalog.shards[number].path, sums=True))
                for number, table in zip(members, found, strict=False)
                if number in sound
            )
        except FormatError as error:
            yield "W2", where, str(error)
            continue
        if not same:
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
            start, left = number * block, min(block, size - number * block)
            part = hashlib.sha256()
            while piece := file.read(min(left, BLOCK_NBYTES)):
                left -= len(piece)
                whole.update(piece)
                part.update(piece)
            if part.hexdigest() != wanted:
                end = min(start + block, size) - 1
                yield "M2", where, f"damaged in bytes {start} to {end}"
    if whole.hexdigest() != entry["sha256"]:
        yield "M2", where, "its SHA-256 is not the manifest's"


def _objects(
    catalog: Catalog, columns: dict[str, Any], ipix: int, before: tuple[int, Any] | None
) -> tuple[list[tuple[str, str]], tuple[int, Any] | None]:
    """Positions, pixels and order of the objects of one shard."""
    found: list[tuple[str, str]] = []
    for name in ("object_id", "observation_id"):
        if not np.array_equal(columns[name], columns[f"={name}"]):
            source = catalog.survey.aliases[name]
            found.append(("S7", f"{name} is not the column {source!r} that it is copied from"))
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
