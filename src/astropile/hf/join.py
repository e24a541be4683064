"""Tables below and beside one another, of which some read their rows when asked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
from datasets.fingerprint import Hasher
from datasets.table import concat_tables, list_table_cache_files
from numpy.typing import NDArray

from astropile.hf.features import conform_table
from astropile.hf.lazy import LazyTable
from astropile.hf.source import Rows, RowSource, hash_of


class _Tables(RowSource):
    """
    Several tables as one.

    Parameters
    ----------
    tables : sequence of datasets.table.Table
        The tables.
    schema : pyarrow.Schema
        Their columns together.
    way : str
        How they are joined.
    """

    def __init__(self, tables: Sequence[Any], schema: pa.Schema, way: str) -> None:
        names = [table.source.name for table in tables if isinstance(table, LazyTable)]
        super().__init__(
            "_".join(dict.fromkeys(names)),
            datasets.Features.from_arrow_schema(schema),
            hash_of(way, [_hash_of_table(table) for table in tables]),
        )
        self._tables = list(tables)

    def cache_files(self) -> list[str]:
        """List the Arrow files that values come from."""
        return [path for table in self._tables for path in cache_files_of(table)]


class StackedRows(_Tables):
    """
    The rows of tables one after another.

    Parameters
    ----------
    tables : sequence of datasets.table.Table
        Tables whose columns of the same name are of one type, or of none where all is missing.
    """

    def __init__(self, tables: Sequence[Any]) -> None:
        schemas = [table.schema.remove_metadata() for table in tables]
        super().__init__(tables, pa.unify_schemas(schemas), "tables")
        self._starts = np.cumsum([0, *(table.num_rows for table in tables)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def _parts(self, rows: Rows) -> Iterable[tuple[Any, NDArray[np.int64], Rows]]:
        """Give the tables that rows come from, the places of those rows and the rows in it."""
        which = np.searchsorted(self._starts, rows, side="right") - 1
        for number in np.unique(which):
            here = np.flatnonzero(which == number)
            yield self._tables[number], here, rows[here] - self._starts[number]

    def _read(self, rows: Rows, schema: pa.Schema) -> pa.Table:
        parts, places = [], []
        for table, here, inside in self._parts(rows):
            own = [name for name in schema.names if name in table.column_names]
            found = dict.fromkeys(schema.names, pa.nulls(len(here)))
            if own:
                found.update(zip(own, table.select(own).fast_gather(inside).columns, strict=True))
            parts.append(conform_table(pa.table(found), schema))
            places.append(here)
        return _in_order(parts, places)

    def is_record(self, name: str) -> bool:
        """Say whether a column's fields are read one by one in all tables."""
        return all(
            isinstance(table, LazyTable) and name in table.column_names and table.is_record(name)
            for table in self._tables
        )

    def missing(self, rows: Rows, name: str) -> NDArray[np.bool_]:
        """Say in which rows such a record is null."""
        found = np.zeros(len(rows), bool)
        for table, here, inside in self._parts(rows):
            found[here] = table.missing(inside, name)
        return found

    def read_fields(self, rows: Rows, name: str, fields: Sequence[str]) -> pa.Table:
        """Read fields of such a record as columns."""
        if not len(rows) or not self.is_record(name):
            return super().read_fields(rows, name, fields)
        parts, places = [], []
        for table, here, inside in self._parts(rows):
            parts.append(table.read_fields(inside, name, fields))
            places.append(here)
        return _in_order(parts, places)


def _in_order(parts: Sequence[pa.Table], places: Sequence[NDArray[np.int64]]) -> pa.Table:
    """Put the rows of parts, each with its places, one after another in that order."""
    joined = pa.concat_tables(parts)
    order = np.concatenate(places)
    if np.all(np.diff(order) > 0):
        return joined
    return joined.combine_chunks().take(pa.array(np.argsort(order)))


class BesideRows(_Tables):
    """
    The columns of tables side by side.

    Parameters
    ----------
    tables : sequence of datasets.table.Table
        Tables of as many rows and of no column in common.
    """

    def __init__(self, tables: Sequence[Any]) -> None:
        fields = [field for table in tables for field in table.schema]
        super().__init__(tables, pa.schema(fields), "beside")
        self._n = int(tables[0].num_rows)

    @cached_property
    def _owners(self) -> dict[str, Any]:
        return {name: table for table in self._tables for name in table.column_names}

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        state.pop("_owners", None)
        return state

    def __len__(self) -> int:
        return self._n

    def _read(self, rows: Rows, schema: pa.Schema) -> pa.Table:
        found: dict[str, Any] = {}
        for table in self._tables:
            own = [name for name in schema.names if name in table.column_names]
            if own:
                part = _gathered(table.select(own), rows)
                found.update(zip(own, part.columns, strict=True))
        return conform_table(pa.table(found).select(schema.names), schema)

    def is_record(self, name: str) -> bool:
        """Say whether the fields of a column are read one by one."""
        owner = self._owners[name]
        return isinstance(owner, LazyTable) and owner.is_record(name)

    def missing(self, rows: Rows, name: str) -> NDArray[np.bool_]:
        """Say in which rows such a record is null."""
        found: NDArray[np.bool_] = self._owners[name].missing(rows, name)
        return found

    def read_fields(self, rows: Rows, name: str, fields: Sequence[str]) -> pa.Table:
        """Read fields of such a record as columns."""
        if not len(rows) or not self.is_record(name):
            return super().read_fields(rows, name, fields)
        return self._owners[name].read_fields(rows, name, fields)


def _gathered(table: Any, rows: Rows) -> pa.Table:
    first, last = int(rows[0]), int(rows[-1])
    if last - first == len(rows) - 1 and bool(np.all(np.diff(rows) == 1)):
        return table.fast_slice(first, len(rows))
    return table.fast_gather(rows)


def _hash_of_table(table: Any) -> str:
    if not isinstance(table, LazyTable):
        return str(Hasher.hash(table))
    rows = np.asarray(table._rows, np.int64).tobytes()
    return hash_of(table.source.fingerprint, list(table._columns.items()), rows)


def cache_files_of(table: Any) -> list[str]:
    """
    List the Arrow files that a table's values come from.

    Parameters
    ----------
    table : datasets.table.Table
        A lazy one or any other.

    Returns
    -------
    list of str
        Their paths.
    """
    if isinstance(table, LazyTable):
        return table.cache_files()
    return list(list_table_cache_files(table))


def beside(tables: Sequence[Any]) -> LazyTable:
    """
    Put the columns of tables side by side; nothing is read of those that read later.

    Parameters
    ----------
    tables : sequence of datasets.table.Table
        The tables.

    Returns
    -------
    LazyTable
        All their columns.

    Raises
    ------
    ValueError
        If they differ in length or two have a column of one name.
    """
    lengths = {table.num_rows for table in tables}
    if len(lengths) > 1:
        raise ValueError(f"tables side by side of one length, not of {sorted(lengths)} rows")
    names = [name for table in tables for name in table.column_names]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"tables side by side of differing columns, not {', '.join(twice)} twice")
    return LazyTable(BesideRows(tables))


def concatenate_tables(tables: Iterable[Any], axis: int = 0) -> Any:
    """
    Join tables, as `datasets` does; nothing is read of those that read later.

    Parameters
    ----------
    tables : iterable of datasets.table.Table
        The tables.
    axis : int
        0: one after another. 1: side by side.

    Returns
    -------
    datasets.table.Table
        A `LazyTable` if one of them is one.

    Raises
    ------
    ValueError
        If tables side by side differ in length or two have a column of one name.
    """
    found = list(tables)
    if len(found) == 1 or not any(isinstance(table, LazyTable) for table in found):
        return concat_tables(found, axis=axis)
    return beside(found) if axis else LazyTable(StackedRows(found))
