"""
From a survey's native files to a tree.

Two passes. The first reads every unit of input, checks it and keeps it in a spool on disk. The
second sorts the objects along the sky and writes shard after shard, each from the spool. The
subset is made aside and takes its final name when it is whole. A build that was stopped goes
on where it was when the same call is made again.

Memory: one batch of `Survey.read` and 16 MiB in the first pass; in the second one shard twice,
about 100 bytes per object for their order and 500 per unit of input.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from tqdm import tqdm

from astropile.batch import is_flat
from astropile.card import refresh_card
from astropile.errors import BuildError
from astropile.facts import survey_to_json
from astropile.hats import write_hats
from astropile.healpix import ang2pix, check_order
from astropile.ingest import check_declaration, read_units, reader_hash
from astropile.layout import (
    CATALOG_DIR,
    MANIFEST_DIR,
    REJECTED_FILE,
    check_subset,
)
from astropile.manifest import (
    dump_json,
)
from astropile.names import COMMON_COLUMNS, HEALPIX_29, ROW_COLUMN, SHARD_COLUMN
from astropile.publish import publish_bytes
from astropile.schema import Ragged, Rejected, Survey, Unit
from astropile.spool import Spool
from astropile.subset import SubsetWriter, take_final_name, work_folder
from astropile.surveys import get_survey

SHARD_NBYTES: Final = 512 * 2**20
"""A partition is split into shards of at most about this size, before compression."""

TOLERANCE: Final = 0.1
"""Largest share of objects that may be rejected for a fault before a build is refused."""


@dataclass(frozen=True)
class BuildReport:
    """
    What a build did.

    Parameters
    ----------
    path : Path
        Folder of the subset.
    n_units : int
        Pieces of input.
    n_read, n_written, n_rejected : int
        Objects; the first is the sum of the others.
    reasons : mapping of str to int
        Why objects were rejected, and how many for each.
    n_partitions, n_shards : int
        Folders and files written.
    n_bytes : int
        Size of the shards.
    """

    path: Path
    n_units: int
    n_read: int
    n_written: int
    n_rejected: int
    reasons: Mapping[str, int]
    n_partitions: int
    n_shards: int
    n_bytes: int


def build_catalog(
    survey: str | Survey,
    native_path: str | os.PathLike[str],
    tree: str | os.PathLike[str],
    *,
    subset: str | None = None,
    release: str | None = None,
    order: int = 4,
    layout: Literal["compact", "fast"] = "compact",
    shard_nbytes: int = SHARD_NBYTES,
    duplicates: Literal["reject", "error"] = "reject",
    tolerance: float = TOLERANCE,
    overwrite: bool = False,
    progress: bool | None = None,
) -> BuildReport:
    """
    Build a subset of a tree from a survey's native files.

    Parameters
    ----------
    survey : str or Survey
        The survey.
    native_path : path
        Folder of its native files.
    tree : path
        The survey's data folder; the subset is made in it.
    subset : str, optional
        Name of the subset; by default the survey's own.
    release : str, optional
        Release that the files are of, where it is not the one the survey declares: the files
        do not always tell.
    order : int
        HEALPix order of the partitions.
    layout : {"compact", "fast"}
        Compressed object by object, or not compressed.
    shard_nbytes : int
        Size, before compression, above which a partition is split into shards [bytes].
    duplicates : {"reject", "error"}
        What to do with a second object of the same ``observation_id``.
    tolerance : float
        Largest share of objects rejected for a fault, and of units that cannot be read, 0 to 1,
        before the build is refused.
    overwrite : bool
        Replace a subset that is there.
    progress : bool, optional
        Show progress bars on standard error; by default where that is a terminal.

    Returns
    -------
    BuildReport
        What was done.

    Raises
    ------
    BuildError
        If the subset is there already, another build of it runs, nothing could be read, too
        much was rejected, or an interrupted build had other parameters.
    SchemaError
        If a survey's `read` gives what the survey does not declare.
    OSError
        If the disk fails. In every case nothing stands under the final name.
    """
    chosen = get_survey(survey)
    if release is not None:
        chosen = dataclasses.replace(chosen, release=release)
    native = Path(native_path).expanduser()
    data_dir = Path(tree).expanduser()
    name = check_subset(subset or chosen.subset)
    final = data_dir / name
    order = check_order(order)
    if not 0 <= tolerance <= 1:
        raise BuildError(str(final), f"tolerance is a share from 0 to 1, not {tolerance}")
    if layout not in ("compact", "fast"):
        raise BuildError(str(final), f"a layout is 'compact' or 'fast', not {layout!r}")
    if shard_nbytes < 1:
        raise BuildError(str(final), f"a shard has at least one byte, not {shard_nbytes}")
    if not native.exists():
        raise BuildError(str(final), f"no native files: {native} does not exist")
    if data_dir.exists() and not data_dir.is_dir():
        raise BuildError(str(final), f"{data_dir} is a file, not a folder")
    if final.exists() and not overwrite:
        refresh_card(data_dir)
        raise BuildError(str(final), "it exists already; overwrite it, or name another subset")
    check_declaration(chosen, str(final))
    units = list(chosen.units(native))
    if not units:
        raise BuildError(str(final), f"no file of survey {chosen.name!r} below {native}")
    plan = {
        "survey": hashlib.sha256(dump_json(survey_to_json(chosen))).hexdigest(),
        "reader": reader_hash(chosen),
        "native_path": str(native.resolve()),
        "subset": name,
        "order": order,
        "layout": layout,
        "shard_nbytes": shard_nbytes,
    }
    return build_units(
        chosen,
        units,
        native,
        final,
        plan,
        duplicates=duplicates,
        tolerance=tolerance,
        overwrite=overwrite,
        progress=progress,
    )


def build_units(
    survey: Survey,
    units: list[Unit],
    native: Path,
    final: Path,
    plan: Mapping[str, Any],
    *,
    duplicates: str,
    tolerance: float,
    overwrite: bool,
    progress: bool | None = None,
    lists: Mapping[str, bytes] | None = None,
) -> BuildReport:
    """
    Build a subset of units of input: both passes, and the final name.

    Parameters
    ----------
    survey : Survey
        The survey; its `read` gives the objects of a unit.
    units : list of Unit
        The pieces of input.
    native : Path
        The folder they are in.
    final : Path
        Folder of the subset.
    plan : mapping
        What is built of what, as JSON values: an interrupted build goes on with the same. Its
        ``order``, ``layout`` and ``shard_nbytes`` are those of the tree.
    duplicates, tolerance, overwrite, progress
        As for `build_catalog`.
    lists : mapping of str to bytes, optional
        Files to put beside the manifests, or in place of the lists that a build writes.

    Returns
    -------
    BuildReport
        What was done.

    Raises
    ------
    BuildError, SchemaError, OSError
        As for `build_catalog`.
    """
    doubled = [key for key, count in Counter(unit.key for unit in units).items() if count > 1]
    if doubled:
        raise BuildError(str(final), f"two units of input have one name: {doubled[0]!r}")
    final.parent.mkdir(parents=True, exist_ok=True)
    bars = sys.stderr.isatty() if progress is None else progress
    with work_folder(final, plan) as work:
        sizes = read_units(survey, units, native, work / "spool", bars=bars)
        resolved = survey.resolve(sizes)
        second = _Build(resolved, work, final, plan["order"], plan["layout"], plan["shard_nbytes"])
        second.keep_units({unit.key for unit in units})
        report = second.run(duplicates, tolerance, bars=bars)
        for file, content in (lists or {}).items():
            publish_bytes(work / "tree" / MANIFEST_DIR / file, content)
        take_final_name(work / "tree", final, overwrite=overwrite)
    refresh_card(final.parent)
    return report


@dataclass(frozen=True)
class _Objects:
    """Where every object lies in the spool and on the sky, in the order of the tree."""

    healpix_29: NDArray[np.int64]
    unit: NDArray[np.int32]
    block: NDArray[np.int32]
    row: NDArray[np.int64]
    nbytes: NDArray[np.int64]

    def take(self, chosen: Any) -> _Objects:
        return _Objects(*(getattr(self, f.name)[chosen] for f in dataclasses.fields(self)))


class _Build:
    """Second pass: from a complete spool to a complete subset, aside."""

    def __init__(
        self,
        survey: Survey,
        work: Path,
        final: Path,
        order: int,
        layout: str,
        shard_nbytes: int,
    ) -> None:
        self.survey, self.final, self.order = survey, final, order
        self.layout, self.shard_nbytes = layout, shard_nbytes
        self.tree = work / "tree"
        self.spool = Spool(work / "spool")
        self.rejected: list[tuple[str, Rejected]] = []

    def keep_units(self, keys: set[str]) -> None:
        """Leave out what an earlier run read from files that are no longer there."""
        self.spool.units = {k: unit for k, unit in self.spool.units.items() if k in keys}

    def run(self, duplicates: str, tolerance: float, *, bars: bool) -> BuildReport:
        for key in sorted(self.spool.units):
            for values in self.spool.units[key]["rejected"]:
                self.rejected.append((key, Rejected(*values)))
        n_read = sum(
            stop - start for unit in self.spool.units.values() for _, start, stop in unit["spans"]
        ) + sum(r.count for _, r in self.rejected)
        objects = self._place(duplicates)
        n_rejected = sum(r.count for _, r in self.rejected)
        assert n_read == len(objects.row) + n_rejected, "an object was lost or doubled"
        n_faults = sum(r.count for _, r in self.rejected if r.fault)
        reasons = Counter[str]()
        for _, rejected in self.rejected:
            reasons[rejected.reason] += rejected.count
        if not len(objects.row):
            raise BuildError(str(self.final), f"no object is left; {_main_reasons(reasons)}")
        # A file that cannot be read counts as one object, but holds any number of them.
        n_failed = sum(unit["failed"] for unit in self.spool.units.values())
        n_units = len(self.spool.units)
        for count, of, what in ((n_failed, n_units, "files"), (n_faults, n_read, "objects")):
            if count > tolerance * of:
                raise BuildError(
                    str(self.final),
                    f"{count} of {of} {what} were rejected, more than the tolerance of "
                    f"{tolerance:g}; {_main_reasons(reasons)}; first: "
                    f"{next(r.key for _, r in self.rejected if r.fault)}",
                )
        # The second pass is quick and starts afresh; what takes long is in the spool.
        shutil.rmtree(self.tree, ignore_errors=True)
        writer = SubsetWriter(
            self.tree, self.survey, self.final.name, self.order, self.layout, durable=False
        )
        shard_of, row_of = self._write_shards(writer, objects, bars=bars)
        self._write_catalogue(objects, shard_of, row_of)
        self._write_lists()
        partitions = writer.finish().partitions
        return BuildReport(
            path=self.final,
            n_units=len(self.spool.units),
            n_read=n_read,
            n_written=len(objects.row),
            n_rejected=n_rejected,
            reasons=dict(reasons.most_common()),
            n_partitions=len(partitions),
            n_shards=sum(len(p.n_objects) for p in partitions),
            n_bytes=writer.n_bytes,
        )

    # -- where everything goes

    def _place(self, duplicates: str) -> _Objects:
        """Find out where every object goes; reject those that have no place."""
        aliases = self.survey.aliases
        self._keys = sorted(self.spool.units)
        spans: dict[int, list[tuple[int, int, int]]] = {}
        for number, key in enumerate(self._keys):
            for block, start, stop in self.spool.units[key]["spans"]:
                spans.setdefault(block, []).append((number, start, stop))
        parts: list[list[NDArray[Any]]] = []
        for block, members in spans.items():
            ra = np.asarray(self._column(block, str(aliases["ra"])), np.float64)
            dec = np.asarray(self._column(block, str(aliases["dec"])), np.float64)
            names = np.asarray(self._column(block, str(aliases["observation_id"])))
            unit = np.full(len(ra), -1, np.int32)
            for number, start, stop in members:
                unit[start:stop] = number
            bad = ~(np.isfinite(ra) & np.isfinite(dec))
            off = ~bad & ((ra < 0) | (ra > 360) | (np.abs(dec) > 90))
            void = ~bad & ~off & (names == b"" if names.dtype.kind == "S" else np.False_)
            for wrong, reason in (
                (bad, "position is not finite"),
                (off, "position is not on the sky"),
                (void, "observation_id is empty"),
            ):
                self._reject(unit[wrong], names[wrong], reason)
            # Rows of no unit belong to one that was read anew.
            good = np.flatnonzero(~bad & ~off & ~void & (unit >= 0))
            where = np.full(len(good), block, np.int32)
            sizes = self._nbytes(block)[good]
            parts.append([ra[good], dec[good], unit[good], where, good, sizes, names[good]])
        if not parts:
            empty = np.empty(0, np.int64)
            return _Objects(empty, empty, empty, empty, empty)  # type: ignore[arg-type]
        ra, dec, unit, block_of, row, nbytes, names = map(np.concatenate, zip(*parts, strict=True))
        everything = _Objects(ang2pix(ra, dec, 29), unit, block_of, row, nbytes)
        by_unit = np.lexsort((row, block_of, unit))
        everything, names = self._unique(everything.take(by_unit), names[by_unit], duplicates)
        return everything.take(np.lexsort((names, everything.healpix_29)))

    def _unique(
        self, objects: _Objects, names: NDArray[Any], duplicates: str
    ) -> tuple[_Objects, NDArray[Any]]:
        """Keep the first of the objects that have one identifier, in the order of the units."""
        _, first = np.unique(names, return_index=True)
        if len(first) == len(names):
            return objects, names
        again = np.ones(len(names), bool)
        again[first] = False
        if duplicates == "error":
            name = _text(names[again][0])
            raise BuildError(
                str(self.final), f"{again.sum()} objects repeat an observation_id, first {name!r}"
            )
        self._reject(objects.unit[again], names[again], "observation_id is repeated")
        return objects.take(~again), names[~again]

    def _reject(self, units: NDArray[Any], names: NDArray[Any], reason: str) -> None:
        self.rejected.extend(
            (self._keys[unit], Rejected(_text(name), reason))
            for unit, name in zip(units, names, strict=True)
            if unit >= 0
        )

    def _column(self, block: int, name: str) -> Any:
        return self.spool.column(block, name)

    def _nbytes(self, block: int) -> NDArray[np.int64]:
        """Count the bytes of each object of a block."""
        total: NDArray[np.int64] | None = None
        fixed = 0
        for column in self.survey.columns:
            if column.shared:
                continue
            values = self._column(block, column.name)
            if isinstance(values, Ragged):
                each = values.values.dtype.itemsize * values.shapes.prod(axis=1)
                total = each if total is None else total + each
            else:
                fixed += values.dtype.itemsize * int(np.prod(values.shape[1:], dtype=np.int64))
        n_objects = len(self._column(block, str(self.survey.aliases["ra"])))
        return np.full(n_objects, fixed, np.int64) + (0 if total is None else total)

    # -- shards

    def _write_shards(
        self, writer: SubsetWriter, objects: _Objects, *, bars: bool
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Write all partitions; give the shard and the row in it of every object."""
        shard_of = np.empty(len(objects.row), np.int32)
        row_of = np.empty(len(objects.row), np.int64)
        pixels = objects.healpix_29 >> 2 * (29 - self.order)
        ipixs, starts = np.unique(pixels, return_index=True)
        stops = [*starts[1:].tolist(), len(pixels)]
        bar = tqdm(total=len(pixels), desc="write", unit="object", disable=not bars, leave=False)
        with bar:
            for ipix, start, stop in zip(ipixs.tolist(), starts.tolist(), stops, strict=True):
                edges = _shard_edges(objects.nbytes[start:stop], self.shard_nbytes) + start

                def shards(ipix: int = ipix, edges: NDArray[np.int64] = edges) -> Iterator[Any]:
                    for first, last in itertools.pairwise(edges):
                        yield self._shard(objects.take(slice(first, last)), ipix)
                        self.spool.release()
                        bar.update(int(last - first))

                writer.write_partition(ipix, len(edges) - 1, shards())
                for index, (first, last) in enumerate(itertools.pairwise(edges), 1):
                    shard_of[first:last] = index
                    row_of[first:last] = np.arange(last - first)
        return shard_of, row_of

    def _shard(
        self, objects: _Objects, ipix: int
    ) -> tuple[dict[str, NDArray[Any] | Ragged], dict[str, NDArray[Any]]]:
        """Bring the native and the common columns of a shard together."""
        columns = {
            column.name: self._gather(column.name, objects) for column in self.survey.columns
        }
        return columns, self._common(columns, ipix)

    def _common(self, columns: Mapping[str, Any], ipix: int) -> dict[str, NDArray[Any]]:
        aliases = self.survey.aliases
        common = {name: columns[str(aliases[name])] for name in COMMON_COLUMNS[:-1]}
        # An ra of exactly 360 is 0; everything else outside [0, 360) was rejected.
        common["ra"] = np.mod(np.asarray(common["ra"], "<f8"), 360.0)
        common["dec"] = np.asarray(common["dec"], "<f8")
        common["healpix"] = np.full(len(common["ra"]), ipix, "<i8")
        return common

    def _gather(self, name: str, objects: _Objects) -> NDArray[Any] | Ragged:
        """Bring a column of some objects together from the spool."""
        column = self.survey[name]
        if column.shared:
            return np.array(self._column(int(objects.block[0]), name))
        ragged = self.survey.ragged_dims(column)
        if ragged:
            parts = [
                self._column(int(block), name)[int(row)]
                for block, row in zip(objects.block, objects.row, strict=True)
            ]
            return Ragged.of(parts, flat=is_flat(column, ragged))
        out: NDArray[Any] | None = None
        by_block = np.argsort(objects.block, kind="stable")
        edges = np.flatnonzero(np.diff(objects.block[by_block])) + 1
        for group in np.split(by_block, edges):
            values = self._column(int(objects.block[group[0]]), name)
            if out is None:
                out = np.empty((len(objects.row), *values.shape[1:]), values.dtype)
            out[group] = values[objects.row[group]]
        assert out is not None
        return out

    # -- beside the data

    def _write_catalogue(
        self, objects: _Objects, shard_of: NDArray[np.int32], row_of: NDArray[np.int64]
    ) -> None:
        light = [column.name for column in self.survey.columns if column.is_light]

        def table_of(first: int, last: int) -> pa.Table:
            some = objects.take(slice(first, last))
            columns = {name: self._gather(name, some) for name in light}
            needed = {str(self.survey.aliases[name]) for name in COMMON_COLUMNS[:-1]}
            for name in needed - set(columns):
                columns[name] = self._gather(name, some)
            common = self._common(columns, 0)
            common["healpix"] = some.healpix_29 >> 2 * (29 - self.order)
            values: dict[str, Any] = {HEALPIX_29: some.healpix_29, **common}
            values.update({name: columns[name] for name in light if name not in values})
            values[SHARD_COLUMN] = shard_of[first:last]
            values[ROW_COLUMN] = row_of[first:last]
            return pa.table({name: _arrow(array) for name, array in values.items()})

        write_hats(
            self.tree / CATALOG_DIR,
            f"{self.survey.name}_{self.final.name}",
            objects.healpix_29,
            self.order,
            table_of,
        )

    def _write_lists(self) -> None:
        inputs, rejected = [], []
        for key in sorted(self.spool.units):
            inputs += [
                {"unit": key, "path": entry["path"], "size": entry["size"]}
                for entry in self.spool.units[key]["inputs"]["files"]
            ]
        for unit, r in self.rejected:
            entry = {"unit": unit, "key": r.key, "reason": r.reason, "count": r.count}
            rejected.append({**entry, "fault": r.fault})
        for name, entries in (("inputs.jsonl", inputs), (REJECTED_FILE, rejected)):
            lines = "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries)
            publish_bytes(self.tree / MANIFEST_DIR / name, lines.encode())


def _shard_edges(nbytes: NDArray[np.int64], target: int) -> NDArray[np.int64]:
    """Split objects, in order, into shards: none above the target, but for an object that is."""
    ends = np.cumsum(nbytes)
    edges = [0]
    while edges[-1] < len(nbytes):
        before = int(ends[edges[-1] - 1]) if edges[-1] else 0
        reach = int(np.searchsorted(ends, before + target, side="right"))
        edges.append(max(reach, edges[-1] + 1))
    return np.array(edges, np.int64)


def _arrow(array: NDArray[Any]) -> pa.Array:
    if array.dtype.kind == "S":
        return pa.array(np.char.decode(array, "utf-8"), pa.string())
    return pa.array(array)


def _text(name: Any) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)


def _main_reasons(reasons: Counter[str]) -> str:
    if not reasons:
        return "nothing was read"
    listed = "; ".join(f"{reason} ({count})" for reason, count in reasons.most_common(3))
    return f"reasons: {listed}"
