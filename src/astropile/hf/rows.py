"""
Where the rows of a lazy dataset come from: a tree, another table, or several of these.

A source answers one question: these columns of these rows, please. It holds no open file, is
small to pickle, and is never changed.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from astropile.catalog import Catalog, open_catalog
from astropile.errors import FormatError, UnknownColumnError
from astropile.hf.features import (
    conform_columns,
    conform_table,
    empty_table,
    features_of,
    node_of,
)
from astropile.names import COMMON_COLUMNS
from astropile.schema import Survey
from astropile.view import Node, columns_needed, standard_table, view_type

LIGHT_NBYTES = 256 * 2**20
"""Light columns are kept in memory once read, where all of them take less than this."""

REMOTE_LIGHT_NBYTES = 8 * 2**20
"""The same for a tree behind a URL: fewer rows are worth a download of all."""

BATCH_NBYTES = 32 * 2**20
"""About how much is read at once when rows are read one after another."""

MAPPED_FROM_ROWS = 16
"""Fewer consecutive rows are read: that is as fast, and what is read cannot change later."""

_VIEW_VERSION = b"1"
"""Changes with the standard view, so that results cached from an older one are not reused."""

Rows = NDArray[np.int64]


class RowSource(ABC):
    """A table that is read row by row, when asked."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Short name of what it is: the survey's."""

    @property
    @abstractmethod
    def types(self) -> Mapping[str, Node]:
        """Type of each column, in order."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Hash of the content: equal for equal rows."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, rows: Rows, names: Sequence[str]) -> pa.Table:
        """
        Read columns of chosen rows.

        Parameters
        ----------
        rows : ndarray, shape (n,), int64
            Row numbers, 0 to the length, in any order, repeats allowed.
        names : sequence of str
            Columns.

        Returns
        -------
        pyarrow.Table
            These columns, in the types of `schema`.
        """

    @cached_property
    def features(self) -> datasets.Features:
        """The columns as Hugging Face features."""
        return features_of(self.types)

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns as Arrow types."""
        return self.features.arrow_schema.remove_metadata()

    def schema_of(self, names: Sequence[str]) -> pa.Schema:
        """
        Choose fields of the schema.

        Parameters
        ----------
        names : sequence of str
            Columns.

        Returns
        -------
        pyarrow.Schema
            Their types, in that order.
        """
        kinds = self._kinds
        for name in names:
            if name not in kinds:
                raise UnknownColumnError(name, self.name, tuple(kinds))
        if len(names) == len(kinds) and tuple(names) == tuple(kinds):
            return self.schema
        return pa.schema([self.schema.field(name) for name in names])

    def kinds_of(self, names: Sequence[str]) -> list[pa.DataType]:
        """
        Give the Arrow types of columns.

        Parameters
        ----------
        names : sequence of str
            Columns.

        Returns
        -------
        list of pyarrow.DataType
            Their types, in that order.
        """
        return [self._kinds[name] for name in names]

    @cached_property
    def _kinds(self) -> dict[str, pa.DataType]:
        # Arrow makes extension types anew each time a schema is asked for them.
        return dict(zip(self.schema.names, self.schema.types, strict=True))

    def column(self, name: str) -> pa.ChunkedArray:
        """
        Read a whole column.

        Parameters
        ----------
        name : str
            The column.

        Returns
        -------
        pyarrow.ChunkedArray
            Its values of all rows.
        """
        return self.read(np.arange(len(self)), [name]).column(0)

    @cached_property
    def row_nbytes(self) -> float:
        """About how many bytes a row takes: the mean of a few."""
        if not len(self):
            return 0.0
        few = np.unique(np.linspace(0, len(self) - 1, 4).astype(np.int64))
        return float(self.read(few, self.schema.names).nbytes) / len(few)

    def batch_rows(self, limit: int | None = None) -> int:
        """
        Count the rows to read at once.

        Parameters
        ----------
        limit : int, optional
            At most so many.

        Returns
        -------
        int
            As many as fit in `BATCH_NBYTES`, at least one.
        """
        fit = max(1, int(BATCH_NBYTES / max(1.0, self.row_nbytes)))
        return fit if limit is None else max(1, min(limit, fit))

    def __getstate__(self) -> dict[str, Any]:
        # What can be worked out again does not travel.
        return {name: value for name, value in self.__dict__.items() if name not in _WORKED_OUT}


_WORKED_OUT = {
    *("features", "schema", "row_nbytes", "_kinds"),
    *("_catalog", "_light", "_batches", "_texts", "_plans", "_keeps"),
}


def hash_of(*parts: Any) -> str:
    """
    Hash whatever prints itself whole.

    Parameters
    ----------
    *parts : object
        Bytes, or strings, numbers and lists of them.

    Returns
    -------
    str
        Sixteen hexadecimal digits.
    """
    digest = hashlib.sha256(_VIEW_VERSION)
    for part in parts:
        content = part if isinstance(part, bytes) else repr(part).encode()
        digest.update(len(content).to_bytes(8, "little") + content)
    return digest.hexdigest()[:16]


# --------------------------------------------------------------------------------------
# A tree


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
        self._verify = catalog.verify
        self._catalog = catalog
        self._types = view_type(catalog.survey, names)
        self._rows = rows
        self._n = len(catalog) if rows is None else len(rows)

    @cached_property
    def _catalog(self) -> Catalog:
        """The tree; opened again where this came to another process."""
        catalog = open_catalog(self._path, verify=self._verify)
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
    def path(self) -> Path:
        """Folder of the subset."""
        return self._path

    @property
    def name(self) -> str:
        """The survey's short name."""
        return self.survey.name

    @property
    def types(self) -> Mapping[str, Node]:
        """Type of each column, in order."""
        return self._types

    @cached_property
    def fingerprint(self) -> str:
        """Hash of snapshot, columns and rows: file times and places play no part."""
        rows = b"" if self._rows is None else self._rows.tobytes()
        return hash_of(self._snapshot, tuple(self._types), rows)

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

    def read(self, rows: Rows, names: Sequence[str]) -> pa.Table:
        """
        Read columns of chosen rows.

        Parameters
        ----------
        rows : ndarray, shape (n,), int64
            Row numbers.
        names : sequence of str
            Columns.

        Returns
        -------
        pyarrow.Table
            Light columns come from the catalogue and are kept in memory where they are few;
            the others from the shards, each opened once.
        """
        schema = self.schema_of(names)
        chosen = rows if self._rows is None else self._rows[rows]
        if not len(chosen):
            return empty_table(schema)
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
        made = standard_table(self.survey, columns, len(chosen), plan.made)
        arrays = [
            light.column(plan.plain[name]) if name in plan.plain else made.column(name)
            for name in names
        ]
        return conform_columns(arrays, schema, self.kinds_of(names))

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


# --------------------------------------------------------------------------------------
# A dataset


class DatasetRows(RowSource):
    """
    The rows of a map-style dataset, in its order.

    Parameters
    ----------
    dataset : datasets.Dataset
        A lazy one or any other.
    """

    def __init__(self, dataset: datasets.Dataset) -> None:
        self._table = dataset._data
        self._indices = None
        if dataset._indices is not None:
            self._indices = dataset._indices.column(0).to_numpy().astype(np.int64)
        self._types = {name: node_of(feature) for name, feature in dataset.features.items()}
        self._features = dataset.features
        self._name = dataset.info.dataset_name or "dataset"
        self._fingerprint = dataset._fingerprint

    @property
    def name(self) -> str:
        """The dataset's name."""
        return self._name

    @property
    def types(self) -> Mapping[str, Node]:
        """Type of each column, in order."""
        return self._types

    @cached_property
    def features(self) -> datasets.Features:
        """The dataset's own features."""
        return self._features

    @property
    def fingerprint(self) -> str:
        """The dataset's fingerprint."""
        return str(self._fingerprint)

    def __len__(self) -> int:
        return self._table.num_rows if self._indices is None else len(self._indices)

    def read(self, rows: Rows, names: Sequence[str]) -> pa.Table:
        """
        Read columns of chosen rows.

        Parameters
        ----------
        rows : ndarray, shape (n,), int64
            Row numbers.
        names : sequence of str
            Columns.

        Returns
        -------
        pyarrow.Table
            The rows.
        """
        schema = self.schema_of(names)
        if not len(rows):
            return empty_table(schema)
        chosen = rows if self._indices is None else self._indices[rows]
        return conform_table(self._table.select(list(names)).fast_gather(chosen), schema)


# --------------------------------------------------------------------------------------
# Flat fields


class FlatRows(RowSource):
    """
    A source whose records at the top are columns: ``spectrum.flux``.

    Parameters
    ----------
    source : RowSource
        The source.
    """

    def __init__(self, source: RowSource) -> None:
        self._source = source
        self.parents = {
            f"{name}.{field}" if field else name: (name, field)
            for name, node in source.types.items()
            for field in (getattr(node, "fields", None) or ("",))
        }

    @property
    def name(self) -> str:
        """The source's name."""
        return self._source.name

    @property
    def types(self) -> Mapping[str, Node]:
        """Type of each column, in order."""
        types = self._source.types
        return {
            flat: types[name].fields[field] if field else types[name]  # type: ignore[union-attr]
            for flat, (name, field) in self.parents.items()
        }

    @property
    def fingerprint(self) -> str:
        """Hash of the content."""
        return hash_of("flat", self._source.fingerprint)

    def __len__(self) -> int:
        return len(self._source)

    def read(self, rows: Rows, names: Sequence[str]) -> pa.Table:
        """
        Read columns of chosen rows.

        Parameters
        ----------
        rows : ndarray, shape (n,), int64
            Row numbers.
        names : sequence of str
            Columns.

        Returns
        -------
        pyarrow.Table
            The rows.
        """
        schema = self.schema_of(names)
        parents = list(dict.fromkeys(self.parents[name][0] for name in names))
        table = self._source.read(rows, parents)
        arrays = []
        for name in names:
            parent, field = self.parents[name]
            column = table.column(parent)
            arrays.append(pc.struct_field(column, [field]) if field else column)
        return pa.Table.from_arrays(arrays, schema=schema)
