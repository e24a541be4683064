"""The rows of a tree, as a source of lazy datasets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from astropile.arrow import to_numpy
from astropile.catalog import Catalog, open_catalog
from astropile.errors import FormatError
from astropile.hf.describe import info_of
from astropile.hf.features import conform_columns
from astropile.hf.source import Rows, RowSource, hash_of
from astropile.names import COMMON_COLUMNS
from astropile.schema import Survey
from astropile.view import columns_needed, standard_table, view_type
from astropile.view_values import standard_values

LIGHT_NBYTES = 256 * 2**20
"""Light columns are kept in memory once read, where all of them take less than this."""

REMOTE_LIGHT_NBYTES = 8 * 2**20
"""The same for a tree behind a URL: fewer rows are worth a download of all."""

MAPPED_FROM_ROWS = 16
"""Fewer consecutive rows are read: that is as fast, and what is read cannot change later."""


class TreeRows(RowSource):
    """
    The standard view of a catalog's objects.

    Parameters
    ----------
    catalog : Catalog
        The tree, opened.
    names : sequence of str, optional
        Standard names to keep; by default all.
    rows : ndarray of int, optional
        Objects to keep, in this order; by default all.

    Raises
    ------
    UnknownColumnError
        If a name is not known.
    """

    def __init__(
        self, catalog: Catalog, names: Sequence[str] | None = None, rows: Rows | None = None
    ) -> None:
        self._path, self._snapshot = catalog.path.absolute(), catalog.snapshot
        self._verify, self._memory_map = catalog.verify, catalog.memory_map
        self._catalog = catalog
        types = view_type(catalog.survey, names)
        chosen = b"" if rows is None else rows.tobytes()
        # File times and places play no part.
        fingerprint = hash_of(catalog.snapshot, tuple(types), chosen)
        super().__init__(catalog.survey.name, types, fingerprint)
        self._rows = rows
        self._n = len(catalog) if rows is None else len(rows)

    @cached_property
    def _catalog(self) -> Catalog:
        """The tree; opened again where this came to another process."""
        catalog = open_catalog(self._path, verify=self._verify, memory_map=self._memory_map)
        if catalog.snapshot != self._snapshot:
            raise FormatError(
                str(self._path), f"the snapshot {self._snapshot[:12]}…", catalog.snapshot[:12] + "…"
            )
        return catalog

    @cached_property
    def _light(self) -> dict[str, pa.Array]:
        """Light columns read so far."""
        return {}

    @cached_property
    def _batches(self) -> dict[tuple[str, ...], pa.RecordBatch]:
        """The same, as they are asked for."""
        return {}

    @property
    def catalog(self) -> Catalog:
        """The tree."""
        return self._catalog

    @property
    def survey(self) -> Survey:
        """The tree's survey."""
        return self._catalog.survey

    @property
    def info(self) -> datasets.DatasetInfo:
        """What the survey says of itself."""
        return info_of(self._catalog)

    @property
    def path(self) -> Path:
        """Folder of the subset."""
        return self._path

    def __len__(self) -> int:
        return self._n

    @property
    def chosen_rows(self) -> Rows | None:
        """Rows of the catalog that these are; None for all."""
        return self._rows

    def light(self, names: Sequence[str], rows: Rows | None = None) -> dict[str, NDArray[Any]]:
        """
        Read light columns, whether or not they are among those kept.

        Parameters
        ----------
        names : sequence of str
            Common columns, or native ones that are one number or string each.
        rows : ndarray of int, optional
            Row numbers; by default all.

        Returns
        -------
        dict of str to ndarray
            The values; text as str.
        """
        here = self._rows
        if rows is not None:
            here = rows if here is None else here[rows]
        if here is not None and not self._keeps and len(here) < len(self._catalog) // 4:
            taken: dict[str, Any] = self._catalog.take(here, list(names))
            return {
                name: np.char.decode(values, "utf-8") if values.dtype.kind == "S" else values
                for name, values in taken.items()
            }
        batch = self._light_columns(tuple(names))
        if here is not None:
            batch = batch.take(pa.array(here))
        return {name: as_numpy(batch.column(name)) for name in names}

    @cached_property
    def _keeps(self) -> bool:
        """Whether light columns stay in memory once read."""
        n_columns = len(self._catalog.light_columns)
        is_near = isinstance(self._path, Path)
        limit = LIGHT_NBYTES if is_near else REMOTE_LIGHT_NBYTES
        return len(self._catalog) * 8 * n_columns <= limit

    def _read(self, rows: Rows, schema: pa.Schema) -> pa.Table:
        names = schema.names
        plan, light, columns = self._taken(rows, names)
        made = standard_table(self.survey, columns, len(rows), plan.made)
        arrays = [
            light.column(plan.plain[name]) if name in plan.plain else made.column(name)
            for name in names
        ]
        return conform_columns(arrays, schema, self.kinds_of(names))

    def _read_values(self, rows: Rows, names: Sequence[str]) -> dict[str, Any]:
        plan, light, columns = self._taken(rows, names)
        made = standard_values(self.survey, columns, len(rows), plan.made)
        return {
            name: to_numpy(light.column(plan.plain[name])) if name in plan.plain else made[name]
            for name in names
        }

    def _taken(
        self, rows: Rows, names: Sequence[str]
    ) -> tuple[_Plan, pa.RecordBatch, dict[str, Any]]:
        """Read what columns are made of: light columns, and native ones as arrays."""
        # Light columns come from the catalogue and are kept in memory where they are few; the
        # others come from the shards, each opened once.
        chosen = rows if self._rows is None else self._rows[rows]
        plan = self._plan(tuple(names), light=self._keeps or len(rows) > len(self) // 4)
        light = _choose(self._light_columns(plan.light), chosen)
        columns: dict[str, Any] = {
            name: light.column(name).to_numpy(zero_copy_only=False) for name in plan.worked
        }
        if plan.heavy:
            columns.update(self._mapped(chosen, plan.heavy))
            rest = [name for name in plan.heavy if name not in columns]
            if rest:
                columns.update(self._catalog.take(chosen, rest))
        return plan, light, columns

    def _mapped(self, rows: Rows, names: Sequence[str]) -> dict[str, Any]:
        """Map columns of consecutive rows where a fast tree allows it: nothing is copied."""
        first, last = int(rows[0]), int(rows[-1])
        if len(rows) < MAPPED_FROM_ROWS or last - first != len(rows) - 1:
            return {}
        if np.any(np.diff(rows) != 1):
            return {}
        return dict(self._catalog.mapped(first, last + 1, names))

    def _plan(self, names: tuple[str, ...], *, light: bool) -> _Plan:
        known = self._plans.get((names, light))
        if known is None:
            texts = self._texts if light else {}
            aliases = {**self.survey.aliases, **{name: name for name in COMMON_COLUMNS}}
            plain = {
                name: source
                for name in names
                if isinstance(source := aliases.get(name, name), str) and source in texts
            }
            made = tuple(name for name in names if name not in plain)
            needed = columns_needed(self.survey, made)
            worked = tuple(name for name in needed if name in texts and not texts[name])
            heavy = tuple(name for name in needed if name not in worked)
            kept = tuple(dict.fromkeys((*plain.values(), *worked)))
            known = self._plans[names, light] = _Plan(plain, made, worked, heavy, kept)
        return known

    @cached_property
    def _plans(self) -> dict[tuple[tuple[str, ...], bool], _Plan]:
        return {}

    @cached_property
    def _texts(self) -> dict[str, bool]:
        """Whether each light column is text."""
        survey = self.survey
        native = {name: survey.aliases.get(name, name) for name in self._catalog.light_columns}
        return {
            name: name not in ("ra", "dec", "healpix") and survey[str(of)].dtype.startswith("S")
            for name, of in native.items()
        }

    def _light_columns(self, names: tuple[str, ...]) -> pa.RecordBatch:
        """Read light columns of all rows, or take them from memory."""
        if names in self._batches:
            return self._batches[names]
        missing = [name for name in names if name not in self._light]
        found = dict(self._light)
        if missing:
            table = self._catalog.light(missing)
            found.update(zip(missing, map(_one_chunk, table.columns), strict=True))
        batch = pa.record_batch([found[name] for name in names], names=list(names))
        if self._keeps:
            self._light.update(found)
            self._batches[names] = batch
        return batch


@dataclass(frozen=True)
class _Plan:
    """How to read some columns of a tree."""

    plain: Mapping[str, str]
    """Fields that are a light column as it is."""

    made: tuple[str, ...]
    """Fields that the standard view makes."""

    worked: tuple[str, ...]
    """Light columns it makes them of."""

    heavy: tuple[str, ...]
    """Other columns it makes them of."""

    light: tuple[str, ...]
    """All light columns to read."""


def as_numpy(column: pa.Array | pa.ChunkedArray) -> NDArray[Any]:
    """
    Give a column of numbers or text as an array.

    Parameters
    ----------
    column : pyarrow.Array or ChunkedArray
        The column.

    Returns
    -------
    ndarray
        Its values; text as str.
    """
    values = np.asarray(column)
    return values.astype(np.str_) if values.dtype.kind == "O" else values


def _choose(batch: pa.RecordBatch, rows: Rows) -> pa.RecordBatch:
    first, last = int(rows[0]), int(rows[-1])
    if last - first == len(rows) - 1 and (len(rows) < 3 or bool(np.all(np.diff(rows) == 1))):
        return batch.slice(first, len(rows))
    return batch.take(pa.array(rows))


def _one_chunk(column: pa.ChunkedArray) -> pa.Array:
    if not column.num_chunks:
        return pa.array([], column.type)
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)
