"""
Fetch chosen objects, or chosen columns: they are written anew, as a smaller subset.

Every block that something is read of is compared with the manifests of the source. Memory: the
rows of one shard, twice. A run that was stopped goes on after the last partition it finished.
"""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astropile.card import refresh_card
from astropile.download.part import finish_part, write_catalogue
from astropile.download.plan import GetReport, Plan
from astropile.download.room import check_room
from astropile.download.selection import Selection, chosen_rows, open_origin
from astropile.hats_remote import read_sky
from astropile.hdf5.needed import column_width
from astropile.layout import CATALOG_DIR
from astropile.manifest import Root
from astropile.names import COMMON_COLUMNS, REQUIRED_ALIASES
from astropile.regions import ranges_of
from astropile.schema import Ragged, Survey
from astropile.store.protocol import RemotePath
from astropile.subset import (
    Assembly,
    Pattern,
    has_partition,
    say_done,
    take_final_name,
    work_folder,
    write_partition,
)
from astropile.view_types import columns_needed


def get_rows(
    origin: RemotePath,
    root: Root,
    final: Path,
    chosen: Selection,
    *,
    overwrite: bool,
    dry_run: bool,
    agree: Callable[[Plan], bool] | None,
    note: Callable[[int], None],
) -> GetReport:
    """
    Fetch chosen objects or columns.

    Parameters
    ----------
    origin : RemotePath
        The subset they are of.
    root : Root
        What it says of itself.
    final : Path
        Folder of the subset that is made of them.
    chosen : Selection
        Which.
    overwrite, dry_run, agree, note
        As for `astropile.download.tree.get_tree`.

    Returns
    -------
    GetReport
        What was done.

    Raises
    ------
    DownloadError
        If nothing is chosen, or the source was replaced.
    UnknownColumnError
        If a column is not there.
    BuildError
        If another run makes the same subset, or an interrupted one began with something else.
    FormatError
        If a block is not as its manifest says.
    StoreError
        If the source fails.
    """
    catalog = open_origin(origin, root, verify=True)
    survey = root.survey if chosen.columns is None else narrowed(root.survey, chosen.columns)
    rows = chosen_rows(catalog, root, chosen)
    work = _Rows(catalog, root, Pattern(survey, root.subset, root.order, root.layout), rows)
    plan = work.plan(str(origin), str(final))
    if dry_run or (agree is not None and not agree(plan)):
        return GetReport(plan, is_done=False)
    check_room(final.parent, plan.n_bytes)
    final.parent.mkdir(parents=True, exist_ok=True)
    said = chosen.describe()
    purpose = {
        "part_of": root.snapshot,
        "rows": _digest(rows),
        "columns": list(survey.column_names),
    }
    with work_folder(final, purpose) as room:
        work.write(room / "store", note)
        assembly = Assembly(room / f"tree-{uuid.uuid4().hex}", work.pattern)
        for ipix in work.pixels:
            assembly.adopt(room / "store", ipix)
        work.write_catalogue(assembly.tree)
        finish_part(assembly, root, origin, said)
        say_done(final, assembly.tree)
        take_final_name(assembly.tree, final, overwrite=overwrite, durable=False)
    refresh_card(final.parent)
    return GetReport(plan, is_done=True, n_bytes_fetched=origin.store.n_bytes)


def narrowed(survey: Survey, names: Sequence[str]) -> Survey:
    """
    Give a survey with fewer columns.

    Parameters
    ----------
    survey : Survey
        The survey.
    names : sequence of str
        Native or standard names to keep; what identifies and places an object stays.

    Returns
    -------
    Survey
        With the columns that these names take, and the standard names that they suffice for.

    Raises
    ------
    UnknownColumnError
        If a name is not there.
    """
    kept = set(columns_needed(survey, names))
    kept |= {str(survey.aliases[name]) for name in REQUIRED_ALIASES}
    aliases = {}
    for name, alias in survey.aliases.items():
        needed = columns_needed(survey, [name])
        is_fact = not needed and name in names
        if name in REQUIRED_ALIASES or is_fact or (needed and kept.issuperset(needed)):
            aliases[name] = alias
    columns = tuple(column for column in survey.columns if column.name in kept)
    return dataclasses.replace(survey, columns=columns, aliases=aliases)


def _digest(rows: NDArray[np.int64]) -> str:
    import hashlib

    return hashlib.sha256(rows.tobytes()).hexdigest()


class _Rows:
    """Chosen rows of a catalog, shard by shard."""

    def __init__(self, catalog: Any, root: Root, pattern: Pattern, rows: NDArray[np.int64]) -> None:
        self.catalog, self.root, self.pattern, self.rows = catalog, root, pattern, rows
        self.shards: dict[int, list[NDArray[np.int64]]] = {}
        starts = np.array([shard.start for shard in catalog.shards], np.int64)
        which = np.searchsorted(starts, rows, side="right") - 1
        edges = np.flatnonzero(np.diff(which)) + 1
        for part in np.split(rows, edges):
            shard = catalog.shards[int(np.searchsorted(starts, part[0], side="right")) - 1]
            self.shards.setdefault(shard.ipix, []).append(part)

    @property
    def pixels(self) -> list[int]:
        return list(self.shards)

    def plan(self, source: str, dest: str) -> Plan:
        """Say about how much it is: of each row what its columns take before compression."""
        survey = self.pattern.survey
        ragged = [column.name for column in survey.columns if survey.ragged_dims(column)]
        of_row = sum(
            column_width(column)
            for column in survey.columns
            if not column.shared and column.name not in ragged
        )
        if ragged:
            # Where sizes vary, one row in the middle stands for all.
            middle = self.rows[len(self.rows) // 2 :][:1]
            of_row += sum(v.values.nbytes for v in self.catalog.take(middle, ragged).values())
        return Plan(
            source,
            dest,
            "rows",
            self.root.snapshot,
            len(self.rows),
            len(self.shards),
            sum(map(len, self.shards.values())),
            of_row * len(self.rows),
            0,
        )

    def write(self, store: Path, note: Callable[[int], None]) -> None:
        for ipix, parts in self.shards.items():
            if not has_partition(store, ipix):
                write_partition(store, self.pattern, ipix, len(parts), self._read(parts, note))

    def _read(
        self, parts: Sequence[NDArray[np.int64]], note: Callable[[int], None]
    ) -> Iterator[tuple[Mapping[str, NDArray[Any] | Ragged], Mapping[str, NDArray[Any]]]]:
        native = self.pattern.survey.column_names
        for rows in parts:
            found = self.catalog.take(rows, [*native, *COMMON_COLUMNS])
            note(sum(values.nbytes for values in found.values() if isinstance(values, np.ndarray)))
            yield (
                {name: found[name] for name in native},
                {name: found[name] for name in COMMON_COLUMNS},
            )

    def write_catalogue(self, made: Path) -> None:
        survey = self.pattern.survey
        light = [column.name for column in survey.columns if column.is_light]
        names = list(dict.fromkeys([*COMMON_COLUMNS, *light]))
        pixels = np.array(self.pixels, np.int64)
        numbers, table = read_sky(
            self.catalog.path / CATALOG_DIR, ranges_of(pixels, self.root.order), names
        )
        table = table.take(np.searchsorted(numbers, self.rows))
        counts = np.array([len(part) for parts in self.shards.values() for part in parts])
        of = np.repeat(pixels, [len(parts) for parts in self.shards.values()])
        write_catalogue(made, self.pattern, table, counts, of)
