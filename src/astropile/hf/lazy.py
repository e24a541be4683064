"""
A table that looks like one of `datasets`' own and reads its rows when asked.

`datasets` reads through a handful of methods of its `Table`; those here go to a `RowSource`.
So a real `Dataset` stands on a tree: nothing is copied, nothing is written, and what a row
costs is paid when that row is wanted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
from datasets.fingerprint import Hasher
from datasets.table import TableBlock, concat_tables, table_cast

from astropile.hf.features import conform_table, empty_table, node_of
from astropile.hf.rows import FlatRows, Rows, RowSource, hash_of
from astropile.view import Node


class LazyTable(TableBlock):  # type: ignore[misc]
    """
    Rows and columns of a source, none of them read yet.

    Parameters
    ----------
    source : RowSource
        The source.
    columns : mapping of str to str, optional
        Name of each column here to its name in the source; by default all, unchanged.
    rows : ndarray or range, optional
        Rows of the source, in order; by default all.
    schema : pyarrow.Schema, optional
        Types and metadata of the columns, where they are not the source's.
    """

    def __init__(
        self,
        source: RowSource,
        columns: Mapping[str, str] | None = None,
        rows: Rows | range | None = None,
        schema: pa.Schema | None = None,
    ) -> None:
        names = source.schema.names
        self._source = source
        self._columns = {name: name for name in names} if columns is None else dict(columns)
        self._rows = range(len(source)) if rows is None else rows
        if schema is None:
            own = source.schema_of(list(self._columns.values()))
            schema = pa.schema(
                [field.with_name(name) for name, field in zip(self._columns, own, strict=True)]
            )
        self._schema = schema
        self._casts: bool | None = None
        self._renames = False

    def _with(self, **changes: Any) -> LazyTable:
        values = {
            "columns": self._columns,
            "rows": self._rows,
            "schema": self._schema,
        }
        return LazyTable(self._source, **{**values, **changes})

    def __getstate__(self) -> dict[str, Any]:
        return dict(self.__dict__)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def __deepcopy__(self, memo: dict[int, Any]) -> LazyTable:
        # Nothing in it ever changes.
        memo[id(self)] = self
        return self

    def __repr__(self) -> str:
        return f"LazyTable of {self.num_rows} rows\n{self._schema.remove_metadata()}"

    __str__ = __repr__

    # ----------------------------------------------------------------------------------
    # What it is

    @property
    def source(self) -> RowSource:
        """Where the rows come from."""
        return self._source

    @property
    def schema(self) -> pa.Schema:
        """Names and types of the columns."""
        return self._schema

    @property
    def column_names(self) -> list[str]:
        """Names of the columns."""
        return list(self._columns)

    @property
    def num_columns(self) -> int:
        """Number of columns."""
        return len(self._columns)

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return len(self._rows)

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of rows and columns."""
        return self.num_rows, self.num_columns

    @property
    def nbytes(self) -> int:
        """About how many bytes all rows would take in memory: from a few of them."""
        if set(self._columns.values()) == set(self._source.schema.names):
            return int(self._source.row_nbytes * self.num_rows)
        few = np.unique(np.linspace(0, self.num_rows - 1, min(4, self.num_rows)).astype(int))
        return int(self._read(few).nbytes / len(few) * self.num_rows) if len(few) else 0

    def __len__(self) -> int:
        return self.num_rows

    def field(self, i: int | str) -> pa.Field:
        """
        Give the type of a column.

        Parameters
        ----------
        i : int or str
            Number or name of the column.

        Returns
        -------
        pyarrow.Field
            Its name and type.
        """
        return self._schema.field(i)

    # ----------------------------------------------------------------------------------
    # Reading

    def _read(self, places: Any) -> pa.Table:
        """Read the rows at some places of this table."""
        if not len(places) or not self._columns:
            return empty_table(self._schema)
        if isinstance(self._rows, range):
            rows = np.asarray(places, np.int64) * self._rows.step + self._rows.start
        else:
            rows = self._rows[np.asarray(places, np.int64)]
        table = self._source.read(rows, list(self._columns.values()))
        if self._casts is None:
            self._casts = table.schema.types != self._schema.types
            self._renames = table.schema.names != self._schema.names
        if self._renames:
            table = table.rename_columns(list(self._columns))
        if self._casts:
            return table_cast(table, self._schema)
        return table.replace_schema_metadata(self._schema.metadata)

    def fast_slice(self, offset: int = 0, length: int | None = None) -> pa.Table:
        """
        Read consecutive rows.

        Parameters
        ----------
        offset : int
            The first.
        length : int, optional
            How many; by default all that follow.

        Returns
        -------
        pyarrow.Table
            The rows.
        """
        if offset < 0:
            raise IndexError("Offset must be non-negative")
        stop = self.num_rows if length is None else min(self.num_rows, offset + max(0, length))
        return self._read(range(offset, max(offset, stop)))

    def fast_gather(self, indices: Sequence[int] | Rows) -> pa.Table:
        """
        Read chosen rows.

        Parameters
        ----------
        indices : sequence of int
            Which, in what order.

        Returns
        -------
        pyarrow.Table
            The rows.
        """
        return self._read(indices)

    def _read_batches(self, max_rows: int | None) -> Iterator[pa.RecordBatch]:
        step = self._source.batch_rows(max_rows)
        for start in range(0, self.num_rows, step):
            yield from self.fast_slice(start, step).combine_chunks().to_batches()

    def to_reader(self, max_chunksize: int | None = None) -> pa.RecordBatchReader:
        """
        Read all rows, some at a time.

        Parameters
        ----------
        max_chunksize : int, optional
            Most rows at a time; fewer where rows are large.

        Returns
        -------
        pyarrow.RecordBatchReader
            The rows.
        """
        return pa.RecordBatchReader.from_batches(self._schema, self._read_batches(max_chunksize))

    def to_batches(self, max_chunksize: int | None = None) -> list[pa.RecordBatch]:
        """
        Read all rows into memory as batches.

        Parameters
        ----------
        max_chunksize : int, optional
            Most rows of a batch.

        Returns
        -------
        list of pyarrow.RecordBatch
            The rows.
        """
        return list(self._read_batches(max_chunksize))

    def whole(self) -> pa.Table:
        """
        Read all rows into memory.

        Returns
        -------
        pyarrow.Table
            The rows.
        """
        return pa.Table.from_batches(self._read_batches(None), self._schema)

    def column(self, i: int | str) -> pa.ChunkedArray:
        """
        Read a whole column into memory.

        Parameters
        ----------
        i : int or str
            Number or name of the column.

        Returns
        -------
        pyarrow.ChunkedArray
            Its values.
        """
        name = i if isinstance(i, str) else self.column_names[i]
        return self.select([name]).whole().column(0)

    def __getitem__(self, i: int | str) -> pa.ChunkedArray:
        return self.column(i)

    def itercolumns(self) -> Iterator[pa.ChunkedArray]:
        """
        Read one whole column after another.

        Yields
        ------
        pyarrow.ChunkedArray
            The values of a column.
        """
        for name in self.column_names:
            yield self.column(name)

    @property
    def columns(self) -> list[pa.ChunkedArray]:
        """All columns, read into memory."""
        return list(self.itercolumns())

    def to_pydict(self) -> dict[str, list[Any]]:
        """
        Read all rows as Python lists.

        Returns
        -------
        dict of str to list
            The columns.
        """
        return dict(self.whole().to_pydict())

    def to_pylist(self) -> list[dict[str, Any]]:
        """
        Read all rows as Python dicts.

        Returns
        -------
        list of dict
            The rows.
        """
        return list(self.whole().to_pylist())

    def to_pandas(self, *args: Any, **kwargs: Any) -> Any:
        """
        Read all rows into a data frame.

        Parameters
        ----------
        *args, **kwargs
            As for `pyarrow.Table.to_pandas`.

        Returns
        -------
        pandas.DataFrame
            The rows.
        """
        return self.whole().to_pandas(*args, **kwargs)

    def equals(self, other: Any, **kwargs: Any) -> bool:
        """
        Compare with another table, value by value.

        Parameters
        ----------
        other : Table or pyarrow.Table
            The other.
        **kwargs
            As for `pyarrow.Table.equals`.

        Returns
        -------
        bool
            Whether they are equal.
        """
        if other is self:
            return True
        whole = other.whole() if isinstance(other, LazyTable) else getattr(other, "table", other)
        return bool(self.whole().equals(whole, **kwargs))

    __hash__ = object.__hash__

    def validate(self, *, full: bool = False) -> None:
        """
        Read all rows if asked to, and let Arrow check them.

        Parameters
        ----------
        full : bool
            Whether to read.
        """
        if full:
            self.whole().validate(full=True)

    @property
    def table(self) -> _Columns:
        """What `datasets` takes single columns, and nothing, from."""
        return _Columns(self)

    # ----------------------------------------------------------------------------------
    # Choosing

    def slice(self, offset: int = 0, length: int | None = None) -> LazyTable:
        """
        Choose consecutive rows.

        Parameters
        ----------
        offset : int
            The first.
        length : int, optional
            How many; by default all that follow.

        Returns
        -------
        LazyTable
            These rows.
        """
        stop = None if length is None else offset + length
        return self._with(rows=self._rows[offset:stop])

    def filter(self, mask: Any) -> LazyTable:
        """
        Choose rows by a mask.

        Parameters
        ----------
        mask : array_like of bool
            One boolean per row.

        Returns
        -------
        LazyTable
            The rows where it is True.
        """
        return self._with(rows=np.asarray(self._rows, np.int64)[np.asarray(mask, bool)])

    def select(self, columns: Sequence[int | str]) -> LazyTable:
        """
        Choose columns.

        Parameters
        ----------
        columns : sequence of int or str
            Which, in what order.

        Returns
        -------
        LazyTable
            These columns.
        """
        names = [c if isinstance(c, str) else self.column_names[c] for c in columns]
        schema = pa.schema([self._schema.field(name) for name in names], self._schema.metadata)
        return self._with(columns={name: self._columns[name] for name in names}, schema=schema)

    def drop(self, columns: Sequence[str] | str) -> LazyTable:
        """
        Leave columns out.

        Parameters
        ----------
        columns : str or sequence of str
            Which.

        Returns
        -------
        LazyTable
            The others.

        Raises
        ------
        KeyError
            If there is no such column.
        """
        gone = [columns] if isinstance(columns, str) else list(columns)
        missing = [name for name in gone if name not in self._columns]
        if missing:
            raise KeyError(f"Columns {missing} not found")
        return self.select([name for name in self._columns if name not in gone])

    drop_columns = drop

    def remove_column(self, i: int) -> LazyTable:
        """
        Leave a column out.

        Parameters
        ----------
        i : int
            Its number.

        Returns
        -------
        LazyTable
            The others.
        """
        return self.drop([self.column_names[i]])

    def rename_columns(self, names: Sequence[str]) -> LazyTable:
        """
        Give all columns other names.

        Parameters
        ----------
        names : sequence of str
            One per column.

        Returns
        -------
        LazyTable
            The same columns under these names.
        """
        columns = dict(zip(names, self._columns.values(), strict=True))
        fields = [field.with_name(name) for name, field in zip(names, self._schema, strict=True)]
        return self._with(columns=columns, schema=pa.schema(fields, self._schema.metadata))

    def replace_schema_metadata(self, metadata: Any = None) -> LazyTable:
        """
        Replace the schema's metadata.

        Parameters
        ----------
        metadata : dict, optional
            The new one.

        Returns
        -------
        LazyTable
            The same rows and columns.
        """
        return self._with(schema=self._schema.with_metadata(metadata))

    def cast(self, target_schema: pa.Schema, *_: Any, **__: Any) -> LazyTable:
        """
        Give the columns other types, as they are read.

        Parameters
        ----------
        target_schema : pyarrow.Schema
            The types, of columns of the same names.
        *_, **__
            Not used.

        Returns
        -------
        LazyTable
            The same rows in these types.
        """
        if sorted(target_schema.names) != sorted(self.column_names):
            raise ValueError(f"columns {target_schema.names} are not {self.column_names}")
        columns = {name: self._columns[name] for name in target_schema.names}
        return self._with(columns=columns, schema=target_schema)

    def flatten(self, *_: Any, **__: Any) -> LazyTable:
        """
        Make columns of the records at the top.

        Parameters
        ----------
        *_, **__
            Not used.

        Returns
        -------
        LazyTable
            Their fields as columns ``record.field``.
        """
        flat = FlatRows(self._source)
        inside: dict[str, list[str]] = {name: [] for name in self._source.schema.names}
        for name, (parent, _field) in flat.parents.items():
            inside[parent].append(name)
        columns = {
            here + name[len(parent) :]: name
            for here, parent in self._columns.items()
            for name in inside[parent]
        }
        return LazyTable(flat, columns, self._rows)

    def combine_chunks(self, *_: Any, **__: Any) -> LazyTable:
        """
        Return the table itself: it has no chunks.

        Parameters
        ----------
        *_, **__
            Not used.

        Returns
        -------
        LazyTable
            This table.
        """
        return self

    def add_column(self, *_: Any, **__: Any) -> LazyTable:
        """
        Refuse: what is not in the source cannot be added to it.

        Parameters
        ----------
        *_, **__
            Not used.
        """
        raise TypeError(_NO_COLUMNS)

    append_column = set_column = add_column


_NO_COLUMNS = (
    "a dataset that reads its rows from a tree takes no new columns: use map, or save_to_disk "
    "and datasets.load_from_disk first"
)


class TableRows(RowSource):
    """
    The rows of tables one after another, of which some read theirs when asked.

    Parameters
    ----------
    tables : sequence of datasets.table.Table
        Tables whose columns of the same name are of one type, or of none where all is missing.
    """

    def __init__(self, tables: Sequence[Any]) -> None:
        self._tables = list(tables)
        self._starts = np.cumsum([0, *(table.num_rows for table in tables)])
        schema = pa.unify_schemas([table.schema.remove_metadata() for table in tables])
        self._features = datasets.Features.from_arrow_schema(schema)

    @property
    def name(self) -> str:
        """The tables' sources' names."""
        names = [table.source.name for table in self._tables if isinstance(table, LazyTable)]
        return "_".join(dict.fromkeys(names))

    @property
    def types(self) -> Mapping[str, Node]:
        """Type of each column, in order."""
        return {name: node_of(feature) for name, feature in self._features.items()}

    @cached_property
    def features(self) -> datasets.Features:
        """The columns as Hugging Face features."""
        return self._features

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all tables."""
        return hash_of("tables", [_hash_of_table(table) for table in self._tables])

    def __len__(self) -> int:
        return int(self._starts[-1])

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
        which = np.searchsorted(self._starts, rows, side="right") - 1
        parts, places = [empty_table(schema)], [np.empty(0, np.int64)]
        for number in np.unique(which):
            here = np.flatnonzero(which == number)
            table = self._tables[number]
            own = [name for name in names if name in table.column_names]
            inside = rows[here] - self._starts[number]
            found = table.select(own).fast_gather(inside) if own else None
            columns = [
                found.column(name) if found is not None and name in own else pa.nulls(len(here))
                for name in names
            ]
            parts.append(conform_table(pa.table(columns, names=list(names)), schema))
            places.append(here)
        joined = pa.concat_tables(parts)
        order = np.concatenate(places)
        if np.all(np.diff(order) > 0):
            return joined
        return joined.combine_chunks().take(pa.array(np.argsort(order)))


def _hash_of_table(table: Any) -> str:
    if not isinstance(table, LazyTable):
        return str(Hasher.hash(table))
    rows = np.asarray(table._rows, np.int64).tobytes()
    return hash_of(table.source.fingerprint, list(table._columns.items()), rows)


def concatenate_tables(tables: Iterable[Any], axis: int = 0) -> Any:
    """
    Put tables one after another, as `datasets` does; nothing is read of those that read later.

    Parameters
    ----------
    tables : iterable of datasets.table.Table
        The tables.
    axis : int
        0 for rows; 1 for columns, which such tables do not take.

    Returns
    -------
    datasets.table.Table
        A `LazyTable` if one of them is one.

    Raises
    ------
    TypeError
        If columns were to be added to a `LazyTable`.
    """
    found = list(tables)
    if len(found) == 1 or not any(isinstance(table, LazyTable) for table in found):
        return concat_tables(found, axis=axis)
    if axis:
        raise TypeError(_NO_COLUMNS)
    return LazyTable(TableRows(found))


class _Columns:
    """Stand-in for the Arrow table inside a `Table`: gives a column, or no rows."""

    def __init__(self, table: LazyTable) -> None:
        self._table = table

    def drop(self, columns: Sequence[str]) -> pa.Table:
        """Read all columns but these."""
        return self._table.drop(columns).whole()

    def slice(self, offset: int = 0, length: int | None = None) -> pa.Table:
        """Read consecutive rows."""
        return self._table.fast_slice(offset, length)

    def append_column(self, *_: Any) -> pa.Table:
        """Refuse, as the table does."""
        raise TypeError(_NO_COLUMNS)


def lazy_dataset(
    source: RowSource, info: datasets.DatasetInfo | None = None, split: Any = "train"
) -> datasets.Dataset:
    """
    Make a dataset whose rows are read when asked for.

    Parameters
    ----------
    source : RowSource
        Where they come from.
    info : datasets.DatasetInfo, optional
        What to say of it; the features are the source's.
    split : str
        Name of the split.

    Returns
    -------
    datasets.Dataset
        The dataset; nothing is read, nothing is written.
    """
    info = datasets.DatasetInfo() if info is None else info.copy()
    info.features = source.features
    info.dataset_name = info.dataset_name or source.name
    return datasets.Dataset(
        LazyTable(source),
        info=info,
        split=datasets.NamedSplit(str(split)),
        fingerprint=source.fingerprint,
    )
