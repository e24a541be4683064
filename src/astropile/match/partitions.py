"""
Match catalogues that do not fit in memory, a part of the sky at a time.

A unit of work is a run of left rows, which lie side by side on the sky because catalogues are
sorted by pixel, together with the right rows within the radius of them, wherever those are
filed. It is found from positions, not from partitions: no order of either tree, no border
and no size of unit shows in the result. Units give row numbers, and do not know each other.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from tqdm import tqdm

from astropile.errors import FormatError, MatchError
from astropile.executors import KINDS, MAX_BEYOND, n_workers_of, submit_of
from astropile.healpix import neighbours
from astropile.match.files import PositionFiles, Positions, finest_order, widened
from astropile.match.positions import Find, Pairs, match_positions
from astropile.publish import publish_bytes, sync_folder

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MEMORY_BYTES: Final = 1 << 30
"""Memory a worker may use, by default."""

LEAST_MEMORY_BYTES: Final = 1 << 20
PAIR_BYTES: Final = 24
MAX_PIXELS: Final = 16384
"""Of so many pixels the surroundings of a unit are made, at most nine times over."""

GROUP_PIXELS: Final = 64
"""The same for one row group."""

MOST_BESIDE: Final = 3
"""Right rows, for each left row, that are matched as they are filed, not sorted out first."""

MAX_NEIGHBORS: Final = 64
"""Rows with more neighbours are set apart when all pairs are sought."""

SCHEMA: Final = pa.schema(
    [("left", pa.int64()), ("right", pa.int64()), ("separation_arcsec", pa.float64())]
)


class Stop(Protocol):
    """What tells that the work is not wanted any more, as `threading.Event` does."""

    def is_set(self) -> bool:
        """Tell whether to stop."""
        ...


@dataclass(frozen=True)
class Job:
    """
    What is matched and how: all that a worker must be told besides the rows.

    Parameters
    ----------
    left, right : str
        Folders of HATS catalogues.
    radius_arcsec, min_radius_arcsec : float
        Largest and smallest accepted separation [arcsec], inclusive.
    find : {'nearest', 'all', 'mutual'}
        As for `match_positions`.
    n_neighbors : int
        The same.
    exclude_self : bool
        The same.
    memory_bytes : int
        Memory that a worker may use.
    threads : int or None
        Threads of a worker.
    inputs : str
        Hash of the state of both catalogues.
    """

    left: str
    right: str
    radius_arcsec: float
    min_radius_arcsec: float = 0.0
    find: Find = "nearest"
    n_neighbors: int = 1
    exclude_self: bool = False
    memory_bytes: int = MEMORY_BYTES
    threads: int | None = 1
    inputs: str = ""

    @property
    def pair_rows(self) -> int:
        """How many pairs are held at a time."""
        return max(self.memory_bytes // (8 * PAIR_BYTES), 16)

    @property
    def left_rows(self) -> int:
        """How many left rows a unit has at most."""
        # 130 bytes each, a quarter of the memory; and as many pairs as there is room for.
        rows = min(self.memory_bytes // 640, self.pair_rows // self.n_neighbors)
        return max(rows, 1)

    @property
    def right_rows(self) -> int:
        """How many right rows are matched against at a time, about."""
        return max(self.memory_bytes // 640, 1)


class Found(NamedTuple):
    """What a unit of work gives: arrays, ordered by left, separation, right."""

    left: Ints
    right: Ints
    separation_arcsec: Floats
    end: int
    """The row after the last of the unit's rows that were matched."""
    n_invalid: int
    """Left rows that are no position."""


Hits = tuple[Ints, Ints, Floats]
NO_HITS: Final[Hits] = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))


class _TooManyError(Exception):
    """A block has more pairs than there is room for."""


class _Kept(threading.local):
    """The catalogues a worker has open, from one unit to the next."""

    job: Job | None = None
    sides: tuple[PositionFiles, PositionFiles] | None = None


_KEPT = _Kept()


def _open_sides(job: Job) -> tuple[PositionFiles, PositionFiles]:
    if _KEPT.job == job and _KEPT.sides is not None:
        return _KEPT.sides
    close_worker()
    keep_bytes = job.memory_bytes // 16
    sides = PositionFiles(Path(job.left), keep_bytes), PositionFiles(Path(job.right), keep_bytes)
    _KEPT.job, _KEPT.sides = job, sides
    return sides


def close_worker() -> None:
    """Let go of the files that this thread has open."""
    if _KEPT.sides is not None:
        for side in _KEPT.sides:
            side.close()
    _KEPT.job = _KEPT.sides = None


def match_unit(job: Job, first: int, last: int) -> Found:
    """
    Match a run of left rows with everything near them.

    Parameters
    ----------
    job : Job
        What is matched.
    first, last : int
        First left row, and last + 1.

    Returns
    -------
    Found
        Their pairs. Where there is no room for all, those of the first rows.
    """
    left, right = _open_sides(job)
    parts: list[Hits] = []
    n_pairs = n_invalid = 0
    step = job.left_rows
    while first < last and n_pairs <= job.pair_rows:
        end = min(first + step, last)
        rows, groups = _rows_near(left, right, job, first, end)
        try:
            hits = _match_rows(left, right, rows, groups, job)
        except _TooManyError:
            step = max((end - first) // 8, 1)
            continue
        parts.append(hits)
        n_pairs += len(hits[0])
        n_invalid += int(np.count_nonzero(~_are_positions(rows)))
        first = end
    return Found(*_joined_hits(parts), end=first, n_invalid=n_invalid)


def _rows_near(
    left: PositionFiles, right: PositionFiles, job: Job, first: int, last: int
) -> tuple[Positions, Ints | None]:
    """
    Read the left rows of those row groups that lie anywhere near the right side.

    With them come the row groups of the right side to match them with, unless these hold so
    many more rows that it pays to look which of them are near the left rows.
    """
    groups = left.groups_of_rows(first, last)
    near = []
    for number in groups:
        around = widened(left.ranges_of(np.array([number])), job.radius_arcsec, GROUP_PIXELS)
        near.append(len(right.groups_in(around)) > 0)
    near_groups = groups[np.array(near, bool)]
    around = widened(left.ranges_of(near_groups), job.radius_arcsec, MAX_PIXELS)
    others = right.groups_in(around)
    # Rows that are no position have to be counted, where there are some.
    wanted = near_groups if left.is_own else groups
    is_dense = right.n_rows_of(others) <= MOST_BESIDE * (last - first)
    with_pixels = not is_dense or job.find == "all"
    rows = left.read_rows(first, last, wanted, pixels=with_pixels)
    return rows, others if is_dense else None


def _are_positions(rows: Positions) -> NDArray[np.bool_]:
    # As `match_positions` has it.
    return (np.abs(rows.dec) <= 90) & (np.abs(rows.ra - 180.0) <= 720)


def _match_rows(
    left: PositionFiles, right: PositionFiles, rows: Positions, groups: Ints | None, job: Job
) -> Hits:
    if job.find == "all":
        return _search(rows, right, job, None, groups)
    wanted = job.n_neighbors if job.find == "nearest" else 1
    hits = _search(rows, right, job, wanted, groups)
    if job.find == "nearest" or not len(hits[0]):
        return hits
    # Of the right rows found, each one's nearest left row, which may lie in another unit.
    met = right.take(np.unique(hits[1]))
    back = _search(met, left, job, 1)
    nearest = np.full(len(met), -1, np.int64)
    nearest[np.searchsorted(met.rows, back[0])] = back[1]
    mutual = nearest[np.searchsorted(met.rows, hits[1])] == hits[0]
    return hits[0][mutual], hits[1][mutual], hits[2][mutual]


def _search(
    rows: Positions,
    other: PositionFiles,
    job: Job,
    wanted: int | None,
    groups: Ints | None = None,
) -> Hits:
    """Find pairs of some rows with those of a catalogue, ordered; `wanted` None finds all."""
    if not len(rows):
        return NO_HITS
    if groups is not None:
        blocks = other.blocks_of(groups, job.right_rows, pixels=wanted is None)
    else:
        blocks = other.blocks_in(_around(rows, job), job.right_rows)
    parts: list[Hits] = []
    n_pairs = 0
    for block in blocks:
        if wanted is None:
            for hits in _search_all(rows, block, job):
                parts.append(hits)
                n_pairs += len(hits[0])
                if n_pairs > job.pair_rows and len(rows) > 1:
                    raise _TooManyError
            continue
        parts.append(_search_block(rows, block, job, wanted))
        if len(parts) > 1:
            parts = [_nearest_of(_in_order(_joined_hits(parts)), wanted)]
    hits = _joined_hits(parts)
    return _in_order(hits) if wanted is None and len(parts) > 1 else hits


def _around(rows: Positions, job: Job) -> Ints:
    """Give the ranges of pixels in which everything near the rows lies."""
    ranges = np.stack([rows.pixels, rows.pixels + 1], axis=1)
    if np.any(rows.pixels[1:] < rows.pixels[:-1]):
        ranges = ranges[np.argsort(rows.pixels, kind="stable")]
    return widened(ranges, job.radius_arcsec, MAX_PIXELS)


def _search_block(rows: Positions, block: Positions, job: Job, wanted: int) -> Hits:
    # One more than wanted: one of them may be the row itself.
    pairs = _match(rows, block, job, "nearest", wanted + job.exclude_self)
    return _nearest_of(pairs, wanted) if job.exclude_self else pairs


def _search_all(rows: Positions, block: Positions, job: Job) -> Iterator[Hits]:
    """
    Find all pairs, never so many at a time as to fill the memory.

    Rows with many neighbours are left for later, when it has been worked out how many of
    them there is room for.
    """
    n_most = max(min(job.pair_rows // len(rows), MAX_NEIGHBORS), 1)
    if n_most >= len(block):
        yield _match(rows, block, job, "all")
        return
    hits = _match(rows, block, job, "nearest", n_most)
    at = np.searchsorted(rows.rows, hits[0])
    # A row is counted before it may be taken from its own neighbours.
    is_full = np.bincount(at, minlength=len(rows)) >= n_most - job.exclude_self
    crowded = rows.chosen(is_full)
    keep = ~is_full[at]
    yield hits[0][keep], hits[1][keep], hits[2][keep]
    if not len(crowded):
        return
    batch = np.cumsum(_most_near(crowded, block, job.radius_arcsec)) // job.pair_rows
    edges = [0, *(np.flatnonzero(np.diff(batch)) + 1).tolist(), len(crowded)]
    for first, last in pairwise(edges):
        yield _match(crowded.chosen(slice(first, last)), block, job, "all")


def _most_near(rows: Positions, block: Positions, radius_arcsec: float) -> Ints:
    """Count the rows of a block in the pixels around each row: no fewer than are near it."""
    order = finest_order(radius_arcsec)
    if order < 0:
        return np.full(len(rows), len(block))
    shift = 2 * (29 - order)
    there = np.sort(block.pixels >> shift)
    pixels, which = np.unique(rows.pixels >> shift, return_inverse=True)
    around = neighbours(pixels, order)
    counts = np.searchsorted(there, around, side="right") - np.searchsorted(there, around)
    total: Ints = np.where(around >= 0, counts, 0).sum(axis=1)[which]
    return total


def _match(rows: Positions, block: Positions, job: Job, find: Find, wanted: int = 1) -> Hits:
    pairs = match_positions(
        rows.ra,
        rows.dec,
        block.ra,
        block.dec,
        radius_arcsec=job.radius_arcsec,
        min_radius_arcsec=job.min_radius_arcsec,
        find=find,
        n_neighbors=wanted,
        threads=job.threads,
    )
    hits = rows.rows[pairs.left], block.rows[pairs.right], pairs.separation_arcsec
    if not job.exclude_self:
        return hits
    other = hits[0] != hits[1]
    return hits[0][other], hits[1][other], hits[2][other]


def _joined_hits(parts: list[Hits]) -> Hits:
    if len(parts) == 1:
        return parts[0]
    left, right, separation = zip(NO_HITS, *parts, strict=True)
    return np.concatenate(left), np.concatenate(right), np.concatenate(separation)


def _in_order(hits: Hits) -> Hits:
    # Each part is in order, so that sorting by left row is merging a few runs.
    order = np.argsort(hits[0], kind="stable")
    left = hits[0][order]
    same = np.zeros(len(left), bool)
    same[1:] = left[1:] == left[:-1]
    same[:-1] |= same[1:]
    tied = order[same]
    order[same] = tied[np.lexsort((hits[1][tied], hits[2][tied], hits[0][tied]))]
    return left, hits[1][order], hits[2][order]


def _nearest_of(hits: Hits, wanted: int) -> Hits:
    """Keep the first pairs of each left row, of ordered ones."""
    left = hits[0]
    if len(left) <= wanted:
        return hits
    near = np.ones(len(left), bool)
    near[wanted:] = left[wanted:] != left[:-wanted]
    return left[near], hits[1][near], hits[2][near]


def match_files(
    left: Path,
    right: Path,
    *,
    radius_arcsec: float,
    find: Find = "nearest",
    n_neighbors: int = 1,
    min_radius_arcsec: float = 0.0,
    exclude_self: bool = False,
    memory_bytes: int = MEMORY_BYTES,
    executor: Any = None,
    threads: int | None = None,
    work_dir: Path | None = None,
    output: Path | None = None,
    metadata: dict[str, Any] | None = None,
    progress: bool = False,
    stop: Stop | None = None,
) -> Pairs | PairsFile:
    """
    Match two catalogues on disk in bounded memory.

    Parameters
    ----------
    left, right : Path
        Folders of HATS catalogues: `catalog` in a tree, or others sorted by position.
    radius_arcsec, find, n_neighbors, min_radius_arcsec, exclude_self
        As for `match_positions`.
    memory_bytes : int
        Memory that each worker may use for rows and pairs, at least 1 MiB. What the
        interpreter and the libraries take comes on top, about 150 MB.
    executor : Executor or dask.distributed.Client, optional
        Who does the work: any `concurrent.futures.Executor`, of threads or processes, or a
        Dask client. By default this thread.
    threads : int, optional
        Threads of each worker: one with an executor, all processors without.
    work_dir : Path, optional
        Where the pairs of finished units are kept: a run that was stopped goes on from
        them when it is started again in the same way. Beside `output` if that is given.
    output : Path, optional
        The pairs go there, as Parquet, once all are found; they are never all in memory.
    metadata : dict, optional
        Facts to write into `output`, which JSON can hold.
    progress : bool
        Show a bar.
    stop : Stop, optional
        When it is set, the units under way are finished and kept, and no more begun.

    Returns
    -------
    Pairs or PairsFile
        As `match_positions` on all rows would give, or where they were written.

    Raises
    ------
    MatchError
        If an argument is not what it must be.
    FormatError
        If a catalogue is not what it must be.
    concurrent.futures.CancelledError
        If `stop` was set.
    """
    if memory_bytes < LEAST_MEMORY_BYTES:
        raise MatchError("memory_bytes", f"at least {LEAST_MEMORY_BYTES}", repr(memory_bytes))
    # What is wrong with these is said before any work is done.
    match_positions(
        *([], [], [], []),
        radius_arcsec=radius_arcsec,
        find=find,
        n_neighbors=n_neighbors,
        min_radius_arcsec=min_radius_arcsec,
    )
    sides = PositionFiles(left), PositionFiles(right)
    if exclude_self and sides[0].n_rows != sides[1].n_rows:
        sizes = " and ".join(f"{side.n_rows} rows" for side in sides)
        raise MatchError("exclude_self", "two sides of one length", sizes)
    job = Job(
        str(left.absolute()),
        str(right.absolute()),
        radius_arcsec=float(radius_arcsec),
        min_radius_arcsec=float(min_radius_arcsec),
        find=find,
        n_neighbors=n_neighbors,
        exclude_self=exclude_self,
        memory_bytes=memory_bytes,
        threads=threads if executor is None or threads is not None else 1,
        inputs=hashlib.sha256("".join(side.fingerprint for side in sides).encode()).hexdigest(),
    )
    if output is not None and work_dir is None:
        work_dir = output.with_name(f".{output.name}.work")
    pieces: _Pieces = _InMemory()
    if work_dir is not None:
        pieces = _OnDisk(work_dir / _key(job))
    done = pieces.load()
    todo = list(_gaps(done, sides[0].n_rows, _unit_rows(job, sides[0].n_rows, executor)))
    n_done = sides[0].n_rows - sum(last - first for first, last in todo)
    with tqdm(
        total=sides[0].n_rows,
        initial=n_done,
        desc="match",
        unit="object",
        unit_scale=True,
        disable=not progress,
        leave=False,
    ) as bar:
        for first, found in _work(job, todo, executor, stop):
            pieces.add(first, found)
            bar.update(found.end - first)
    n_invalid = pieces.n_invalid, _count_invalid(sides[1])
    if output is None:
        return Pairs(*pieces.whole(), *n_invalid)
    facts = {
        "radius_arcsec": job.radius_arcsec,
        "min_radius_arcsec": job.min_radius_arcsec,
        "find": find,
        "n_neighbors": n_neighbors,
        "exclude_self": exclude_self,
        "n_left": sides[0].n_rows,
        "n_right": sides[1].n_rows,
        "n_invalid_left": n_invalid[0],
        "n_invalid_right": n_invalid[1],
        **(metadata or {}),
    }
    n_pairs = _write(output, pieces, facts)
    pieces.clear()
    if work_dir is not None:
        with contextlib.suppress(OSError):
            work_dir.rmdir()
    return PairsFile(output, n_pairs, *n_invalid)


class PairsFile(NamedTuple):
    """Pairs that were written: columns as those of `Pairs`, in the same order."""

    path: Path
    """The Parquet file."""

    n_pairs: int
    """Pairs in it."""

    n_invalid_left: int
    """Rows of the left side that are no position."""

    n_invalid_right: int
    """Rows of the right side that are no position."""


def read_pairs(path: Path) -> Pairs:
    """
    Read pairs that were written.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    Pairs
        The pairs.

    Raises
    ------
    FormatError
        If it is no file of pairs.
    """
    try:
        table = pq.read_table(path)
        facts = json.loads(table.schema.metadata[b"astropile"])
        left, right, separation = (table[name].to_numpy() for name in SCHEMA.names)
        invalid = facts["n_invalid_left"], facts["n_invalid_right"]
        return Pairs(left, right, separation, *invalid)
    except (pa.ArrowInvalid, KeyError, TypeError, ValueError) as error:
        raise FormatError(str(path), "pairs of a match", str(error)) from error


def _key(job: Job) -> str:
    """Give a name to what the result depends on."""
    facts = asdict(replace(job, left="", right="", memory_bytes=0, threads=None))
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def _unit_rows(job: Job, n_rows: int, executor: Any) -> int:
    """Choose how many rows a unit has: what memory allows, less where there are many hands."""
    if executor is None:
        return job.left_rows
    fair = n_rows // (4 * n_workers_of(executor)) + 1
    return min(job.left_rows, max(fair, 65536))


def _gaps(done: list[tuple[int, int]], n_rows: int, size: int) -> Iterator[tuple[int, int]]:
    """Give the runs of rows that are not done, none longer than `size`."""
    start = 0
    for first, end in [*sorted(done), (n_rows, n_rows)]:
        for begin in range(start, first, size):
            yield begin, min(begin + size, first)
        start = max(start, end)


def _work(
    job: Job, todo: list[tuple[int, int]], executor: Any, stop: Stop | None
) -> Iterator[tuple[int, Found]]:
    """Do the units, in any order; give the first row of each and what was found."""
    if executor is None:
        try:
            for first, last in todo:
                while first < last:
                    _check(stop)
                    found = match_unit(job, first, last)
                    yield first, found
                    first = found.end  # noqa: PLW2901 - the rest of the unit
        finally:
            close_worker()
        return
    submit = _submit(executor)
    waiting, running = list(reversed(todo)), dict[Future[Found], tuple[int, int]]()
    n_running = MAX_BEYOND * n_workers_of(executor)
    try:
        while waiting or running:
            if stop is not None and stop.is_set():
                waiting.clear()
                # Those that had not begun are dropped; what is under way is waited for.
                running = {future: unit for future, unit in running.items() if not future.cancel()}
            while waiting and len(running) < n_running:
                unit = waiting.pop()
                running[submit(match_unit, job, *unit)] = unit
            finished, _ = wait(running, timeout=1.0, return_when=FIRST_COMPLETED)
            for future in finished:
                first, last = running.pop(future)
                try:
                    found = future.result()
                except CancelledError:
                    raise
                except Exception as error:
                    error.add_note(f"matching left rows {first} to {last - 1} of {job.left}")
                    raise
                if found.end < last:
                    waiting.append((found.end, last))
                yield first, found
    finally:
        for future in running:
            future.cancel()
    _check(stop)


def _check(stop: Stop | None) -> None:
    if stop is not None and stop.is_set():
        raise CancelledError("the match was stopped; what is finished is kept in its work folder")


def _submit(executor: Any) -> Callable[..., Future[Found]]:
    submit = submit_of(executor)
    if submit is None:
        raise MatchError("executor", KINDS, type(executor).__name__)
    return submit


def _count_invalid(side: PositionFiles) -> int:
    """Count rows that are no position; a tree has none."""
    if side.is_own:
        return 0
    with contextlib.closing(PositionFiles(side.folder, 1)) as files:
        blocks = (files.read_rows(0, files.n_rows, np.array([i])) for i in range(len(files.first)))
        return sum(int(np.count_nonzero(~_are_positions(block))) for block in blocks)


class _Pieces(Protocol):
    """What the units gave so far."""

    n_invalid: int

    def load(self) -> list[tuple[int, int]]:
        """Give the runs of rows that are finished already."""
        ...

    def add(self, first: int, found: Found) -> None:
        """Keep what a unit gave."""
        ...

    def each(self) -> Iterator[Hits]:
        """Give it all, in order."""
        ...

    def whole(self) -> Hits:
        """Give it all."""
        ...

    def clear(self) -> None:
        """Forget it."""
        ...


class _InMemory:
    """Pieces kept in memory."""

    def __init__(self) -> None:
        self.n_invalid = 0
        self._found: dict[int, Hits] = {}

    def load(self) -> list[tuple[int, int]]:
        return []

    def add(self, first: int, found: Found) -> None:
        self._found[first] = found[:3]
        self.n_invalid += found.n_invalid

    def each(self) -> Iterator[Hits]:
        for first in sorted(self._found):
            yield self._found.pop(first)

    def whole(self) -> Hits:
        return _joined_hits(list(self.each()))

    def clear(self) -> None:
        self._found.clear()


class _OnDisk:
    """Pieces kept in a folder: ``<first row>-<last row + 1>-<invalid rows>.arrow``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.n_invalid = 0
        self._paths: dict[int, Path] = {}

    def load(self) -> list[tuple[int, int]]:
        self.folder.mkdir(parents=True, exist_ok=True)
        done: list[tuple[int, int]] = []
        for path in sorted(self.folder.glob("[0-9]*.arrow")):
            first, end, n_invalid = (int(word) for word in path.stem.split("-"))
            # Two runs at the same time, cut differently, can leave pieces that overlap.
            if done and first < done[-1][1]:
                path.unlink()
                continue
            done.append((first, end))
            self._paths[first] = path
            self.n_invalid += n_invalid
        return done

    def add(self, first: int, found: Found) -> None:
        table = pa.table(list(found[:3]), schema=SCHEMA)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, SCHEMA) as writer:
            writer.write_table(table)
        path = self.folder / f"{first:015d}-{found.end:015d}-{found.n_invalid}.arrow"
        publish_bytes(path, memoryview(sink.getvalue()))
        self._paths[first] = path
        self.n_invalid += found.n_invalid

    def each(self) -> Iterator[Hits]:
        for first in sorted(self._paths):
            with pa.memory_map(str(self._paths[first])) as mapped:
                table = pa.ipc.open_file(mapped).read_all()
                yield tuple(table[name].to_numpy() for name in SCHEMA.names)

    def whole(self) -> Hits:
        parts = [NO_HITS, *self.each()]
        left, right, separation = zip(*parts, strict=True)
        return np.concatenate(left), np.concatenate(right), np.concatenate(separation)

    def clear(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def _write(path: Path, pieces: _Pieces, facts: dict[str, Any]) -> int:
    """Write the pairs, piece after piece, under a name that is theirs when they are whole."""
    aside = path.with_name(f".{path.name}.part")
    schema = SCHEMA.with_metadata({"astropile": json.dumps(facts)})
    n_pairs = 0
    try:
        with pq.ParquetWriter(aside, schema, compression="zstd") as writer:
            for hits in pieces.each():
                writer.write_table(pa.table(list(hits), schema=schema))
                n_pairs += len(hits[0])
        with aside.open("rb+") as file:
            os.fsync(file.fileno())
        aside.rename(path)
    finally:
        aside.unlink(missing_ok=True)
    sync_folder(path.parent)
    return n_pairs
