"""
Look at every object of a subset, block by block, and judge what was seen.

A shard is looked at by itself, in this process or another; what it leaves behind is small, and
judged together with that of the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from astropile.errors import FormatError
from astropile.hdf5.reader import ShardReader
from astropile.meaning.cubes import check_cube
from astropile.meaning.declared import check_declared
from astropile.meaning.images import check_image, judge_images
from astropile.meaning.noise import check_values, judge_values
from astropile.meaning.objects import (
    Objects,
    check_objects,
    judge_objects,
    light_columns,
    redshift_flag,
)
from astropile.meaning.records import Entry, Part, Records, records_of
from astropile.meaning.rules import RULES
from astropile.meaning.spectra import check_grid, judge_grids
from astropile.meaning.tally import Sight, Tally
from astropile.meaning.times import check_times, judge_times
from astropile.names import COMMON_COLUMNS
from astropile.schema import Ragged, Survey
from astropile.view import columns_needed, source_block

BLOCK_NBYTES: Final = 32 * 2**20
"""So much of a shard's columns is in memory at a time, or one object."""

_LIGHT_ROWS: Final = 65536
"""Rows of light columns at a time."""

_HANDED_OUT: Final = 256
"""So many shards are handed to other hands at a time: a task carries the survey's facts."""

_NUMBERS: Final = ("z", "z_err", "mag", "ebv")
"""Standard fields of one number for each object that rules are about."""


@dataclass(frozen=True)
class ShardTask:
    """
    What is needed to look at one shard, wherever that is done.

    Parameters
    ----------
    path : Path
        The file.
    place : str
        Its name in messages.
    survey : Survey
        The resolved survey.
    ipix, order : int
        Pixel and order of its partition.
    wanted : frozenset of str
        The rules to check.
    sample : int or None
        Look at the arrays of at most so many objects, evenly over the file; None: of all.
    """

    path: Path
    place: str
    survey: Survey
    ipix: int
    order: int
    wanted: frozenset[str]
    sample: int | None = None


@dataclass(frozen=True)
class Seen:
    """
    What was seen of a subset.

    Parameters
    ----------
    sights : tuple of Sight
        What breaks a rule.
    looked : dict of str to int
        For each rule that something was there to check for: objects, or 1.
    unreadable : dict of str to str
        Files that could not be read, and why.
    """

    sights: tuple[Sight, ...]
    looked: dict[str, int]
    unreadable: dict[str, str] = field(default_factory=dict)


def look_at_shard(task: ShardTask) -> Tally:
    """
    Look at every object of a shard.

    Parameters
    ----------
    task : ShardTask
        Which shard, and what for.

    Returns
    -------
    Tally
        What was seen; of a file that cannot be read, why.
    """
    tally = Tally(task.wanted, task.place)
    try:
        _look_at_file(task, tally)
    except (FormatError, OSError) as error:
        return Tally(task.wanted, task.place, unreadable={task.place: str(error)})
    return tally.pack()


def _look_at_file(task: ShardTask, tally: Tally) -> None:
    with ShardReader(task.path, task.survey) as reader:
        for start in range(0, reader.n_objects, _LIGHT_ROWS):
            rows = np.arange(start, min(start + _LIGHT_ROWS, reader.n_objects))
            check_objects(_objects(task, reader, rows), tally)
        _note_shared(task.survey, reader, tally)
        records = [one for one in records_of(task.survey) if one.kind != "other"]
        if records:
            for rows, columns in _blocks(task, reader, records):
                _look_at_block(task.survey, records, rows, columns, tally)


def _objects(task: ShardTask, reader: ShardReader, rows: NDArray[np.int64]) -> Objects:
    survey = task.survey
    values: dict[str, Any] = {name: reader.read(name, rows) for name in COMMON_COLUMNS}
    native: dict[str, Any] = {
        column.name: reader.read(column.name, rows) for column in light_columns(survey)
    }
    for name in ("ra", "dec"):
        values[f"={name}"] = native[str(survey.aliases[name])]
    if flag := redshift_flag(survey):
        values["flag"] = native[flag]
    for name in _NUMBERS:
        if name in survey.aliases:
            needed = {n: reader.read(n, rows) for n in columns_needed(survey, [name])}
            values[name] = _numbers(survey, needed, len(rows), name)
    kept = {name: value for name, value in values.items() if value is not None}
    return Objects(survey, kept, rows, task.ipix, task.order)


def _numbers(
    survey: Survey, columns: dict[str, Any], n: int, name: str
) -> NDArray[np.float64] | None:
    with np.errstate(all="ignore"):
        block = source_block(survey, columns, n, survey.aliases[name])
    if block.values.dtype.kind not in "fiu" or block.dims:
        return None
    return np.broadcast_to(block.values, (n,)).astype(np.float64)


def _note_shared(survey: Survey, reader: ShardReader, tally: Tally) -> None:
    for column in survey.columns:
        if column.shared:
            value = np.asarray(reader.read(column.name, np.arange(0)))
            tally.number("shared", column.name, value.tobytes().hex()[:4096])


def _blocks(
    task: ShardTask, reader: ShardReader, records: list[Records]
) -> Iterator[tuple[NDArray[np.int64], dict[str, Any]]]:
    """Read the columns of the records, as many rows at a time as fit in a block."""
    survey, n = task.survey, reader.n_objects
    names = dict.fromkeys(name for one in records for name in one.columns)
    if "mag" in survey.aliases:
        names.update(dict.fromkeys(columns_needed(survey, ["mag"])))
    rows = np.arange(n)
    if task.sample is not None and task.sample < n:
        rows = np.unique(np.linspace(0, n - 1, task.sample).astype(np.int64))
    shared = {name: reader.read(name, rows[:0]) for name in names if survey[name].shared}
    start, count = 0, 1
    while start < len(rows):
        chosen = rows[start : start + count]
        columns = {n: shared[n] if n in shared else reader.read(n, chosen) for n in names}
        yield chosen, columns
        size = sum(_nbytes(columns[name]) for name in names if name not in shared)
        start += len(chosen)
        # Objects differ in size: grow step by step.
        count = int(np.clip(BLOCK_NBYTES * len(chosen) // max(size, 1), 1, 4 * count))


def _nbytes(values: NDArray[Any] | Ragged) -> int:
    return values.values.nbytes if isinstance(values, Ragged) else values.nbytes


def _look_at_block(
    survey: Survey,
    records: list[Records],
    rows: NDArray[np.int64],
    columns: dict[str, Any],
    tally: Tally,
) -> None:
    parts = [Part(one, columns, len(rows)) for one in records]
    mag = _numbers(survey, columns, len(rows), "mag") if "mag" in survey.aliases else None
    for number, row in enumerate(rows.tolist()):
        entries = [part.entry(number) for part in parts]
        for entry in entries:
            check_values(entry, row, tally)
            match entry.records.kind:
                case "spectrum":
                    check_grid(entry, row, tally)
                case "cube":
                    check_grid(entry, row, tally)
                    images = [one for one in entries if one.records.kind == "image"]
                    check_cube(entry, images, row, tally)
                case "image":
                    check_image(entry, row, tally)
                case "light curve":
                    check_times(entry, row, tally)
            if mag is not None and -30 < mag[number] < 50:
                _note_brightness(entry, float(mag[number]), tally)


def _note_brightness(entry: Entry, mag: float, tally: Tally) -> None:
    """Keep how bright an object's pixels are, beside its magnitude (rule J1)."""
    name = entry.records.value_field
    kind = entry.records.kind
    of_source = kind in ("spectrum", "cube") or (kind == "image" and "label" not in entry)
    if not tally.wants("J1") or not name or not of_source:
        return
    flux = entry.get(name)
    if flux is None or flux.dtype.kind != "f" or flux.ndim < 1 or not flux.size:
        return
    if kind == "image":
        rows, columns = flux.shape[-2:] if flux.ndim > 1 else (0, 0)
        if min(rows, columns) < 8:
            return
        middle = flux[..., 3 * rows // 8 : -3 * rows // 8, 3 * columns // 8 : -3 * columns // 8]
        light = float(np.nanmax(np.append(np.nanmean(middle, axis=(-1, -2)), -np.inf)))
    else:
        measured = flux[np.isfinite(flux) & (flux != 0)]
        light = float(np.median(measured)) if measured.size else np.nan
    if np.isfinite(light) and light:
        tally.number("brightness", f"{entry.records.name}.{name}", (mag, light))


def _tallies(tasks: Sequence[ShardTask], executor: Executor | None) -> Iterator[Tally]:
    """Look at the shards, in order; what other hands have yet to do is handed out in part."""
    if executor is None:
        yield from map(look_at_shard, tasks)
        return
    for start in range(0, len(tasks), _HANDED_OUT):
        yield from executor.map(look_at_shard, tasks[start : start + _HANDED_OUT])


def look(
    survey: Survey,
    tasks: Sequence[ShardTask],
    wanted: frozenset[str],
    executor: Executor | None = None,
    watch: Any = iter,
) -> Seen:
    """
    Check what a subset says for its meaning.

    Parameters
    ----------
    survey : Survey
        The resolved survey.
    tasks : sequence of ShardTask
        Its shards.
    wanted : frozenset of str
        The rules to check, of `RULES`.
    executor : concurrent.futures.Executor, optional
        Who looks at the shards; by default this thread, one after another.
    watch : callable
        Takes the iterator over the shards' tallies and gives it on: a progress bar.

    Returns
    -------
    Seen
        What was found, and what was looked at.
    """
    whole = Tally(wanted)
    records = list(records_of(survey))
    check_declared(survey, records, whole)
    for tally in watch(_tallies(tasks, executor)):
        whole.add(tally)
    judge_objects(survey, whole)
    judge_values(whole)
    judge_grids(whole)
    judge_images(whole)
    judge_times(whole)
    _judge_shared(whole)
    _judge_brightness(whole)
    order = {name: place for place, name in enumerate(RULES)}
    sights = sorted(whole.found.values(), key=lambda sight: (order[sight.rule], sight.field))
    looked: dict[str, int] = {}
    for (rule, _), count in whole.looked.items():
        looked[rule] = max(looked.get(rule, 0), count)
    return Seen(tuple(sights), looked, whole.unreadable)


def _judge_shared(tally: Tally) -> None:
    for name, values in tally.each("shared"):
        n_values = len(np.unique(values))
        message = f"it has {n_values} values in {len(values)} shards"
        tally.whole("G7", name, n_values > 1, message)


def _judge_brightness(tally: Tally) -> None:
    for name, values in tally.each("brightness"):
        if len(values) < 30:
            continue
        mag, light = (np.argsort(np.argsort(part)) for part in values.T)
        if not np.ptp(values[:, 0]) or not np.ptp(values[:, 1]):
            continue
        likeness = -float(np.corrcoef(mag, light)[0, 1])
        message = (
            f"over {len(values)} objects its brightness goes with mag as {likeness:.2f} (rank "
            "correlation): are rows joined with others'?"
        )
        tally.whole("J1", name, likeness < 0.2, message)
