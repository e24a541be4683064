"""Gather the statistics of a tree: shard by shard, in blocks, by several processes, resumed."""

from __future__ import annotations

import functools
import hashlib
import json
import shutil
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from astropile.catalog import Catalog, open_catalog, replaced_tree
from astropile.errors import FormatError, SampleError, UnknownColumnError
from astropile.executors import processes, run_jobs
from astropile.publish import publish_bytes
from astropile.statistics.flatten import MASK, FieldValues, field_values
from astropile.statistics.sketch import DEFAULT_K, QuantileSketch
from astropile.statistics.summary import FieldStatistics, Statistic, Statistics
from astropile.store.protocol import TreePath
from astropile.view_types import Leaf, ListOf, Node, view_names, view_type

BLOCK_NBYTES: Final = 32 * 2**20
"""So much of the standard view is looked at at once."""

_FIRST_BLOCK: Final = 8
_NO_FIELDS: Final = frozenset({"object_id", "observation_id", "healpix"})
"""Numbers that name things: their mean says nothing."""

_TABLES_VERSION: Final = 1
"""Another one, and parts that an older program left are not gone on with."""


def compute_statistics(
    catalog: Catalog,
    columns: Sequence[str] | None = None,
    *,
    rows: ArrayLike | None = None,
    sample: float = 1.0,
    seed: int = 0,
    workers: int = 1,
    k: int = DEFAULT_K,
    parts: Path | None = None,
    block_nbytes: int = BLOCK_NBYTES,
    progress: bool = False,
) -> Statistics:
    """
    Gather statistics of the standard fields of a tree.

    Parameters
    ----------
    catalog : Catalog
        The tree.
    columns : sequence of str, optional
        Standard names, or paths in them as ``spectrum.flux``; by default all of numbers but
        identifiers.
    rows : array_like of int or bool, optional
        Look at these alone, as at those of a training set; by default at all.
    sample : float
        Look at this share of them, drawn at random.
    seed : int
        Another seed, another sample.
    workers : int
        Processes that read side by side. The result does not depend on it.
    k : int
        As for `QuantileSketch`: the larger, the finer the quantiles.
    parts : Path, optional
        Folder where the result of each shard is kept until all are done; the same call goes on
        from there.
    block_nbytes : int
        So much is in memory at once, in each process, and a few times as much while it is added
        up; a single object may be larger.
    progress : bool
        Show a bar.

    Returns
    -------
    Statistics
        Of the fields. What `mask` and `ivar` say in a record holds for every field of it that has
        as many values; an inverse variance that is not above 0 counts as bad.

    Raises
    ------
    UnknownColumnError
        If a name is not there.
    SampleError
        If `sample` is not above 0 and at most 1, or `workers` below 1.
    FormatError
        If the tree is damaged or replaced.
    """
    if not 0 < sample <= 1:
        raise SampleError("sample", "above 0, at most 1", repr(sample))
    if workers < 1:
        raise SampleError("workers", "at least 1", repr(workers))
    chosen = None if rows is None else np.sort(catalog.check_rows(rows))
    paths = paths_of(catalog, columns)
    job = _Job(catalog, tuple(paths), sample, seed, k, block_nbytes)
    selection = selection_of(sample, seed, k, chosen)
    room = None if parts is None else parts / job.key(selection)
    found: dict[str, FieldStatistics] = {}
    for fields in _in_order(job, chosen, room, workers, progress=progress):
        _add(found, fields)
    if room is not None:
        shutil.rmtree(room, ignore_errors=True)
    n_objects = max((known.n_objects for known in found.values()), default=0)
    none = FieldStatistics(0, 0, {})
    known = {path: replace(found.get(path, none), unit=unit) for path, unit in paths.items()}
    return Statistics(
        catalog.survey.name, catalog.subset, catalog.snapshot, n_objects, known, selection
    )


def paths_of(catalog: Catalog, columns: Sequence[str] | None = None) -> dict[str, str]:
    """
    Give the paths that statistics can be of.

    Parameters
    ----------
    catalog : Catalog
        The tree.
    columns : sequence of str, optional
        As for `compute_statistics`.

    Returns
    -------
    dict of str to str
        Paths and units.

    Raises
    ------
    UnknownColumnError
        If a name is not there.
    """
    known = {
        path: leaf.unit
        for path, leaf in _leaves("", view_type(catalog.survey))
        if leaf.dtype != "string" and path not in _NO_FIELDS and not path.endswith(f".{MASK}")
    }
    if columns is None:
        return known
    found: dict[str, str] = {}
    for name in columns:
        inside = {p: u for p, u in known.items() if p == name or p.startswith(f"{name}.")}
        if not inside:
            where = f"the numbers of {catalog.survey.name}/{catalog.subset}"
            raise UnknownColumnError(name, where, tuple(known))
        found.update(inside)
    return found


def _leaves(path: str, nodes: Mapping[str, Node]) -> Iterator[tuple[str, Leaf]]:
    for name, node in nodes.items():
        inner = node
        while isinstance(inner, ListOf):
            inner = inner.item
        if isinstance(inner, Leaf):
            yield path + name, inner
        else:
            yield from _leaves(f"{path}{name}.", inner.fields)


def selection_of(
    sample: float, seed: int, k: int = DEFAULT_K, rows: NDArray[np.int64] | None = None
) -> dict[str, Any]:
    """
    Say which objects statistics are of, and how fine.

    Parameters
    ----------
    sample, seed, k
        As for `compute_statistics`.
    rows : ndarray, shape (n,), int64, optional
        Row numbers, ascending.

    Returns
    -------
    dict
        What `Statistics` has as its selection.
    """
    these = "all" if rows is None else hashlib.sha256(rows.astype("<i8").tobytes()).hexdigest()
    # Of all there is no sample to draw.
    return {"sample": sample, "seed": seed if sample < 1 else 0, "rows": these, "k": k}


class _Job:
    """
    What is done with every shard.

    Parameters
    ----------
    catalog : Catalog
        The tree.
    paths : tuple of str
        Fields.
    sample, seed, k, block_nbytes
        As for `compute_statistics`.
    """

    def __init__(
        self,
        catalog: Catalog,
        paths: tuple[str, ...],
        sample: float,
        seed: int,
        k: int,
        block_nbytes: int,
    ) -> None:
        self.paths, self.sample, self.seed, self.k = paths, sample, seed, k
        self.block_nbytes = block_nbytes
        self.path, self.verify, self.snapshot = catalog.path, catalog.verify, catalog.snapshot
        self._catalog: Catalog | None = catalog

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_catalog": None}

    @property
    def catalog(self) -> Catalog:
        """The tree; in another process opened once."""
        if self._catalog is None:
            self._catalog = _opened(self.path, verify=self.verify)
            if self._catalog.snapshot != self.snapshot:
                raise replaced_tree(self.path)
        return self._catalog

    def key(self, selection: Mapping[str, Any]) -> str:
        """Name what is computed, so that parts of something else are never taken for it."""
        facts = [_TABLES_VERSION, self.snapshot, sorted(self.paths), self.k, dict(selection)]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]

    def __call__(self, number: int, rows: NDArray[np.int64]) -> dict[str, FieldStatistics]:
        """Gather what there is to know of rows of one shard."""
        found: dict[str, FieldStatistics] = {}
        rows = self._sampled(number, rows)
        names = [
            name
            for name in view_names(self.catalog.survey)
            if any(path == name or path.startswith(f"{name}.") for path in self.paths)
        ]
        start, size = 0, _FIRST_BLOCK
        while start < len(rows):
            table = self.catalog.standard(rows[start : start + size], names)
            _add(
                found,
                {
                    values.path: self._of_values(values, f"{number}/{start}")
                    for values in field_values(table)
                    if values.path in self.paths
                },
            )
            start += size
            # A block has this many objects if they are as large as those before.
            size = max(int(self.block_nbytes * len(table) // max(table.nbytes, 1)), 1)
        return found

    def _sampled(self, number: int, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        if self.sample == 1:
            return rows
        rng = np.random.default_rng([self.seed, number])
        return rows[rng.random(len(rows)) < self.sample]

    def _of_values(self, found: FieldValues, block: str) -> FieldStatistics:
        channels = {"": np.ones(len(found.values), bool)}
        if found.channels is not None:
            channels = {
                name: found.channels == code for code, name in enumerate(found.channel_names)
            }
        return FieldStatistics(
            found.n_objects,
            found.n_absent,
            {
                name: self._of_channel(found, here, f"{block}/{found.path}/{name}")
                for name, here in channels.items()
            },
        )

    def _of_channel(self, found: FieldValues, here: NDArray[np.bool_], name: str) -> Statistic:
        """Gather those that have a weight, and those that have none, and put both together."""
        parts = [
            Statistic.of(
                found.values[these],
                missing=found.missing[these],
                masked=found.masked[these],
                weights=weights if weights is None else weights[these],
                k=self.k,
                seed=zlib.crc32(f"{name}/{number}".encode()),
            )
            for number, (these, weights) in enumerate(
                [(here & found.has_weight, found.weights), (here & ~found.has_weight, None)]
            )
            if these.any()
        ]
        none = Statistic(sketch=QuantileSketch(self.k))
        return functools.reduce(Statistic.merge, parts[1:], parts[0]) if parts else none


@functools.lru_cache(maxsize=2)
def _opened(path: TreePath, *, verify: bool) -> Catalog:
    return open_catalog(path, verify=verify)


def _add(found: dict[str, FieldStatistics], fields: Mapping[str, FieldStatistics]) -> None:
    for path, known in fields.items():
        found[path] = found[path].merge(known) if path in found else known


def _in_order(
    job: _Job,
    chosen: NDArray[np.int64] | None,
    room: Path | None,
    workers: int,
    *,
    progress: bool,
) -> Iterator[dict[str, FieldStatistics]]:
    """Give the result of each shard, in their order, whoever is first: sums then do not vary."""
    from tqdm import tqdm

    numbers = _numbers(job.catalog, chosen)
    done = _kept(room, numbers)
    todo = [number for number in numbers if number not in done]
    jobs = [partial(job, number, _rows_of(job.catalog, number, chosen)) for number in todo]
    waiting = iter(numbers)
    wanted = next(waiting, None)
    bar = tqdm(total=len(numbers), initial=len(done), unit="shard", disable=not progress)
    with bar:
        while wanted in done:
            yield done.pop(wanted)
            wanted = next(waiting, None)
        for index, fields in _results(jobs, workers):
            bar.update()
            _keep(room, todo[index], fields)
            done[todo[index]] = fields
            while wanted in done:
                yield done.pop(wanted)
                wanted = next(waiting, None)


def _results(
    jobs: Sequence[partial[Any]], workers: int
) -> Iterator[tuple[int, dict[str, FieldStatistics]]]:
    if min(workers, len(jobs)) <= 1:
        yield from ((index, one()) for index, one in enumerate(jobs))
        return
    with processes(min(workers, len(jobs))) as pool:
        yield from run_jobs(jobs, pool.submit, min(workers, len(jobs)))


def _numbers(catalog: Catalog, chosen: NDArray[np.int64] | None) -> list[int]:
    """Tell which shards hold some of the rows."""
    every = range(len(catalog.shards))
    if chosen is None:
        return list(every)
    return [number for number in every if len(_rows_of(catalog, number, chosen))]


def _rows_of(catalog: Catalog, number: int, chosen: NDArray[np.int64] | None) -> NDArray[np.int64]:
    shard = catalog.shards[number]
    stop = shard.start + shard.n_objects
    if chosen is None:
        return np.arange(shard.start, stop)
    return chosen[slice(*np.searchsorted(chosen, [shard.start, stop]))]


def _keep(room: Path | None, number: int, fields: Mapping[str, FieldStatistics]) -> None:
    if room is not None:
        room.mkdir(parents=True, exist_ok=True)
        facts = Statistics("", "", "", 0, fields).to_json()
        publish_bytes(room / f"{number}.json", json.dumps(facts).encode(), durable=False)


def _kept(room: Path | None, numbers: Sequence[int]) -> dict[int, dict[str, FieldStatistics]]:
    """Read what was done before a stop; what cannot be read is done again."""
    found: dict[int, dict[str, FieldStatistics]] = {}
    if room is None or not room.is_dir():
        return found
    for number in numbers:
        path = room / f"{number}.json"
        if path.is_file():
            try:
                stored = json.loads(path.read_bytes())
                found[number] = dict(Statistics.from_json(stored, str(path)).fields)
            except (FormatError, ValueError):
                continue
    return found
