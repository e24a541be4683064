"""
Add a new batch of inputs to a subset: a new snapshot, of which only what changed is written.

Partitions that get new objects are read back into the spool and written anew with them; all others
keep their files. What comes out is, but for its lists, the tree that a build of all inputs at
once would have made. The snapshot before it is kept, and is read on by those who opened it.

Memory: as for a build, and about 100 bytes for each object that was there.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from tqdm import tqdm

from astropile.build.crew import Crew, make_crew, partition_jobs, read_all_units
from astropile.build.ingest import Whole
from astropile.build.placing import Placed, place
from astropile.build.plan import (
    SHARD_NBYTES,
    TOLERANCE,
    BuildReport,
    Plan,
    check_choice,
    check_inputs,
    make_plan,
    make_rules,
    read_list,
    reading_of,
    report_of,
)
from astropile.build.spool import BLOCK_NBYTES, Spool, SpoolWriter
from astropile.build.team import Job
from astropile.build.writing import (
    LightRows,
    Writing,
    close_placed,
    input_lines,
    write_catalogue,
    write_lists,
)
from astropile.card import refresh_card
from astropile.catalog import Catalog, open_catalog
from astropile.errors import BuildError
from astropile.facts import survey_to_json
from astropile.hats import list_files, open_parquet, read_hats
from astropile.layout import CATALOG_DIR, INPUTS_FILE, MANIFEST_DIR, REJECTED_FILE
from astropile.manifest import read_root
from astropile.names import HEALPIX_29
from astropile.schema import Survey
from astropile.subset import Assembly, Pattern, say_done, take_final_name, was_refused, work_folder
from astropile.surveys import get_survey

_KEPT: Final = "\0healpix="
"""What was in a partition before is a unit of this name; no other begins so."""


def add_to_catalog(
    survey: str | Survey,
    native_path: str | os.PathLike[str],
    tree: str | os.PathLike[str],
    *,
    subset: str | None = None,
    duplicates: Literal["reject", "error"] = "reject",
    tolerance: float = TOLERANCE,
    progress: bool | None = None,
    n_workers: int = 1,
    executor: Any = None,
    changed_inputs: Literal["refuse", "read"] = "refuse",
) -> BuildReport:
    """
    Add the units of input that a subset does not have yet, as a new snapshot of it.

    Parameters
    ----------
    survey : str or Survey
        The survey that the subset was built of; its release is taken from the tree.
    native_path : path
        Folder of native files. Units of the same name and size as before are left out.
    tree : path
        The survey's data folder.
    subset : str, optional
        Name of the subset; by default the survey's own.
    duplicates : {"reject", "error"}
        What to do with an object whose ``observation_id`` is there already.
    tolerance : float
        As for `astropile.build_catalog`, of the new units.
    progress : bool, optional
        Show progress bars on standard error; by default where that is a terminal.
    n_workers : int
        Processes that share the work.
    executor : Executor or dask.distributed.Client, optional
        Who does it instead.
    changed_inputs : {"refuse", "read"}
        As for `astropile.build_catalog`.

    Returns
    -------
    BuildReport
        What the whole subset holds now.

    Raises
    ------
    BuildError
        If there is nothing new, a unit that is there has changed, the survey declares other
        columns, or as for `astropile.build_catalog`. The subset then stays as it is.
    TreeNotFoundError
        If there is no such subset.
    SchemaError, FormatError, OSError
        As for `astropile.build_catalog`; the old snapshot is checked as it is read.
    """
    chosen = get_survey(survey)
    before = open_catalog(tree, subset or chosen.subset)
    plan = _plan(chosen, native_path, tree, before)
    rules = make_rules(plan, duplicates, tolerance)
    check_choice(plan, "changed_inputs", changed_inputs, ("refuse", "read"))
    bars = sys.stderr.isatty() if progress is None else progress
    refuse = changed_inputs == "refuse" and not was_refused(plan.final)
    try:
        with (
            work_folder(plan.final, plan.parameters) as room,
            make_crew(plan, room, n_workers, executor, None) as crew,
        ):
            check_inputs(plan, room, refuse=refuse)
            placed, writing = _place(plan, before, room, crew, rules, bars=bars)
            _write(placed, writing, crew, bars=bars)
            tree_now = _assemble(plan, before, room, placed, writing)
            if read_root(plan.final).snapshot != before.snapshot:
                raise BuildError(str(plan.final), "another snapshot took its place meanwhile")
            say_done(plan.final, tree_now)
            take_final_name(tree_now, plan.final, overwrite=True, keep=True, durable=False)
    finally:
        close_placed()
    refresh_card(plan.final.parent)
    return report_of(plan)


def _plan(
    chosen: Survey,
    native_path: str | os.PathLike[str],
    tree: str | os.PathLike[str],
    before: Catalog,
) -> Plan:
    """Find the units that are new; refuse those that are not as they were."""
    root = before.root
    plan = make_plan(
        chosen,
        native_path,
        tree,
        subset=root.subset,
        release=root.survey.release,
        order=root.order,
        layout=root.layout,
        shard_nbytes=int(root.built.get("shard_size", SHARD_NBYTES)),
    )
    there: dict[str, list[tuple[str, int | None]]] = {}
    for entry in read_list(plan.final, INPUTS_FILE):
        there.setdefault(entry["unit"], []).append((entry["path"], entry["size"]))
    new = []
    for unit in plan.units:
        files = [(entry["path"], entry["size"]) for entry in plan.inputs[unit.key]["files"]]
        if unit.key not in there:
            new.append(unit)
        elif files != there[unit.key]:
            raise BuildError(
                str(plan.final),
                f"unit {unit.key} is in it already, of other files: had {there[unit.key]}, has "
                f"{files}; what changed is built anew, with --overwrite",
            )
    if not new:
        raise BuildError(str(plan.final), f"nothing is new: it has all {len(plan.units)} units")
    return dataclasses.replace(plan, units=tuple(new), parent=root.snapshot)


def _place(
    plan: Plan, before: Catalog, room: Path, crew: Crew, rules: Any, *, bars: bool
) -> tuple[Placed, Writing]:
    """Read what is new, then what lies where it goes, and find the place of each object."""
    spool, sizes = read_all_units(plan, room, crew, bars=bars)
    resolved = plan.survey.resolve(sizes)
    _check_survey(plan, before, resolved, spool)
    taken = _identifiers(before, resolved)
    new = place(resolved, plan.order, spool, rules, taken=taken)
    had = {partition.ipix for partition in before.root.partitions}
    kept = [ipix for ipix, *_ in new.partitions() if ipix in had]
    reading = reading_of(plan, room)
    jobs = [
        Job(f"kept-{ipix}", partial(keep_partition, before.path, ipix, reading.folder), _never)
        for ipix in kept
    ]
    for _ in tqdm(crew.run(jobs), "read", len(jobs), disable=not bars, leave=False):
        pass
    keys = [f"{_KEPT}{ipix}" for ipix in kept]
    everything = reading.spool(plan.units, also=frozenset(keys))
    placed = place(resolved, plan.order, everything, rules, keys, taken)
    path = room / f"placed-{uuid.uuid4().hex}.json"
    placed.save(path)
    pattern = Pattern(resolved, plan.final.name, plan.order, plan.layout)
    return placed, Writing(pattern, plan.shard_nbytes, reading.folder, path)


def _never() -> bool:
    return False


def _check_survey(plan: Plan, before: Catalog, resolved: Survey, spool: Spool) -> None:
    """Refuse a survey that declares other things than the tree, and shared columns that differ."""
    was, now = survey_to_json(before.survey), survey_to_json(resolved)
    differing = sorted(key for key in {*was, *now} if was.get(key) != now.get(key))
    if differing:
        raise BuildError(
            str(plan.final),
            f"the survey has another {differing[0]} than the tree; build it anew, with --overwrite",
        )
    whole = Whole(resolved)
    own: dict[str, tuple[bytes, str]] = {}
    whole.note(before.take([0], whole.names), own, "the tree")
    whole.merge(own, "the tree")
    whole.add(spool)


def _identifiers(before: Catalog, survey: Survey) -> NDArray[Any]:
    names = before.light(["observation_id"])["observation_id"].to_numpy()
    dtype = survey[str(survey.aliases["observation_id"])].numpy_dtype
    return np.char.encode(names.astype(str), "utf-8") if dtype.kind == "S" else names


def keep_partition(subset_path: Path, ipix: int, folder: Path) -> int:
    """
    Read a partition of a subset back into a spool, each file compared with its manifest.

    Parameters
    ----------
    subset_path : Path
        The subset.
    ipix : int
        Pixel of the partition.
    folder : Path
        The spool's folder.

    Returns
    -------
    int
        How many objects it has.

    Raises
    ------
    FormatError
        If a file is not the one that its manifest describes.
    """
    catalog = open_catalog(subset_path, verify=True)
    shards = [shard for shard in catalog.shards if shard.ipix == ipix]
    writer = SpoolWriter(folder, [c.name for c in catalog.survey.columns if c.shared])
    try:
        for shard in shards:
            size = shard.path.stat().st_size // shard.n_objects + 1
            step = max(1, BLOCK_NBYTES // (2 * size))
            for first in range(0, shard.n_objects, step):
                last = min(first + step, shard.n_objects)
                rows = np.arange(shard.start + first, shard.start + last)
                writer.add_batch(catalog.take(rows, catalog.survey.column_names))
        inputs = {"files": [], "options": catalog.snapshot}
        writer.finish_unit(f"{_KEPT}{ipix}", inputs=inputs, rejected=(), sizes={})
        writer.close()
    except BaseException:
        writer.stop()
        raise
    return sum(shard.n_objects for shard in shards)


def _write(placed: Placed, writing: Writing, crew: Crew, *, bars: bool) -> None:
    n_objects = len(placed.objects)
    with tqdm(total=n_objects, desc="write", unit="object", disable=not bars, leave=False) as bar:
        for written in crew.run(partition_jobs(writing, placed.partitions())):
            bar.update(written)


def _assemble(plan: Plan, before: Catalog, room: Path, placed: Placed, writing: Writing) -> Path:
    """Bring old and new partitions together, with a catalogue of all and the lists of both."""
    tree = room / f"tree-{uuid.uuid4().hex}"
    assembly = Assembly(tree, writing.pattern)
    touched = {ipix for ipix, *_ in placed.partitions()}
    for ipix in sorted(touched | {partition.ipix for partition in before.root.partitions}):
        assembly.adopt(writing.store if ipix in touched else before.path, ipix)
    write_catalogue(tree, writing.pattern, _AllRows(before, placed, writing.shard_nbytes))
    new = {key: unit for key, unit in placed.spool.units.items() if not key.startswith(_KEPT)}
    inputs = [*read_list(before.path, INPUTS_FILE), *input_lines(new)]
    rejected = before.path / MANIFEST_DIR / REJECTED_FILE
    write_lists(
        tree,
        sorted(inputs, key=lambda entry: str(entry["unit"])),
        placed.rejected,
        rejected.read_bytes() if rejected.is_file() else b"",
    )
    n_before = int(before.root.built.get("n_units", 0))
    # Of the partitions that were read again, all objects are among those placed.
    untouched = (p for p in before.root.partitions if p.ipix not in touched)
    expected = len(placed.objects) + sum(sum(partition.n_objects) for partition in untouched)
    built = plan.built(n_before + len(new))
    assembly.finish(parent=before.snapshot, built=built, expected=expected)
    return tree


class _AllRows:
    """Rows of the catalogue of old and new partitions, one after another."""

    def __init__(self, before: Catalog, placed: Placed, shard_nbytes: int) -> None:
        self._folder = before.path / CATALOG_DIR
        self._new = LightRows(placed, shard_nbytes)
        old = read_hats(self._folder, [HEALPIX_29])[HEALPIX_29].to_numpy()
        touched = {ipix: (first, last) for ipix, first, last in placed.partitions()}
        pieces: list[tuple[int, bool, int, int]] = [
            (ipix, True, first, last) for ipix, (first, last) in touched.items()
        ]
        start = 0
        for partition in before.root.partitions:
            stop = start + sum(partition.n_objects)
            if partition.ipix not in touched:
                pieces.append((partition.ipix, False, start, stop))
            start = stop
        self._pieces = [piece[1:] for piece in sorted(pieces)]
        arrays = (self._new.healpix_29 if new else old for new, *_ in self._pieces)
        self.healpix_29 = np.concatenate(
            [array[a:b] for array, (_, a, b) in zip(arrays, self._pieces, strict=True)]
        )

    def table(self, first: int, last: int) -> pa.Table:
        """Give rows first to last - 1."""
        tables = list(self._parts(first, last))
        names = self._new.table(0, 1).column_names
        return pa.concat_tables([table.select(names) for table in tables]).combine_chunks()

    def _parts(self, first: int, last: int) -> Iterator[pa.Table]:
        at = 0
        for new, start, stop in self._pieces:
            a, b = max(first - at, 0) + start, min(last - at + start, stop)
            at += stop - start
            if a < b:
                yield self._new.table(a, b) if new else _read_rows(self._folder, a, b)


def _read_rows(folder: Path, first: int, last: int) -> pa.Table:
    """Read rows of a catalogue, and no row group that has none of them."""
    tables = []
    for file in list_files(folder):
        if file.start >= last or file.start + file.n_rows <= first:
            continue
        with open_parquet(file.path, (), file.n_rows) as opened:
            at = file.start
            for group in range(opened.num_row_groups):
                n_rows = opened.metadata.row_group(group).num_rows
                a, b = max(first, at), min(last, at + n_rows)
                if a < b:
                    tables.append(opened.read_row_group(group).slice(a - at, b - a))
                at += n_rows
    return pa.concat_tables(tables)
