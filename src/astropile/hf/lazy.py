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
from datasets.table import TableBlock, table_cast
from numpy.typing import NDArray

from astropile.hf.features import conform, empty_table
from astropile.hf.source import Rows, RowSource
from astropile.hf.values import ValueTable
from astropile.hf.views import FlatRows


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
        # What can be worked out again does not travel.
        return {n: value for n, value in self.__dict__.items() if n not in _WORKED_OUT}

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
    def rows(self) -> Rows:
        """Rows of the source that these are."""
        return np.asarray(self._rows, np.int64)

    @property
    def is_as_read(self) -> bool:
        """Whether every column has the name and type that it has in the source."""
        return all(a == b for a, b in self._columns.items()) and not self._is_cast()

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
        return int(self._source.row_nbytes(list(self._columns.values())) * self.num_rows)

    def batch_rows(self, limit: int | None = None) -> int:
        """Count the rows to read at once: as fit in memory, at most so many."""
        return self._source.batch_rows(limit, list(self._columns.values()))

    def __len__(self) -> int:
        return self.num_rows

    def field(self, i: int | str) -> pa.Field:
        """Give the name and type of a column, by its number or name."""
        return self._schema.field(i)

    # ----------------------------------------------------------------------------------
    # Reading

    def _places(self, places: Any) -> Rows:
        """Give the rows of the source that stand at some places of this table."""
        if isinstance(self._rows, range):
            return np.asarray(places, np.int64) * self._rows.step + self._rows.start
        return self._rows[np.asarray(places, np.int64)]

    def _is_cast(self) -> bool:
        """Whether any column is of another type than in the source."""
        own = self._source.schema_of(list(self._columns.values()))
        return bool(own.types != self._schema.types)

    def _read(self, places: Any) -> pa.Table:
        """Read the rows at some places of this table."""
        if not len(places) or not self._columns:
            return empty_table(self._schema)
        table = self._source.read(self._places(places), list(self._columns.values()))
        if self._casts is None:
            self._casts = table.schema.types != self._schema.types
            self._renames = table.schema.names != self._schema.names
        if self._renames:
            table = table.rename_columns(list(self._columns))
        if self._casts:
            return table_cast(table, self._schema)
        return table.replace_schema_metadata(self._schema.metadata)

    def read_values(self, places: Any) -> dict[str, Any]:
        """Read the rows at some places as numpy values; only where `as_values` gives a table."""
        own = list(self._columns.values())
        found = self._source.read_values(self._places(places), own)
        if own == list(self._columns):
            return found
        return {name: found[source] for name, source in self._columns.items()}

    @cached_property
    def as_values(self) -> ValueTable | None:
        """The same rows, read as numpy values; None where a column is of another type here."""
        return None if self._is_cast() else ValueTable(self)

    @cached_property
    def _narrowed(self) -> dict[tuple[str, ...], LazyTable]:
        return {}

    def narrowed(self, names: Sequence[str]) -> LazyTable:
        """Choose columns as `select` does, and remember the choice: for use with every row."""
        key = tuple(names)
        if key not in self._narrowed:
            self._narrowed.clear()
            self._narrowed[key] = self.select(names)
        return self._narrowed[key]

    def is_record(self, name: str) -> bool:
        """Say whether the fields of a column are read one by one."""
        source = self._columns[name]
        if not self._source.is_record(source):
            return False
        own = self._source.schema_of([source]).field(0).type
        return bool(own == self._schema.field(name).type)

    def missing(self, places: Any, name: str) -> NDArray[np.bool_]:
        """Say where such a record is null, without reading it."""
        return self._source.missing(self._places(places), self._columns[name])

    def read_fields(self, places: Any, name: str, fields: Sequence[str]) -> pa.Table:
        """Read fields of such a record as columns."""
        return self._source.read_fields(self._places(places), self._columns[name], fields)

    def cache_files(self) -> list[str]:
        """List the Arrow files that values come from."""
        return self._source.cache_files()

    def fast_slice(self, offset: int = 0, length: int | None = None) -> pa.Table:
        """Read consecutive rows: all that follow the first, or so many."""
        if offset < 0:
            raise IndexError("Offset must be non-negative")
        stop = self.num_rows if length is None else min(self.num_rows, offset + max(0, length))
        return self._read(range(offset, max(offset, stop)))

    def fast_gather(self, indices: Sequence[int] | Rows) -> pa.Table:
        """Read rows by their numbers, in that order."""
        return self._read(indices)

    def _read_batches(self, max_rows: int | None) -> Iterator[pa.RecordBatch]:
        step = self.batch_rows(max_rows)
        for start in range(0, self.num_rows, step):
            yield from self.fast_slice(start, step).combine_chunks().to_batches()

    def to_reader(self, max_chunksize: int | None = None) -> pa.RecordBatchReader:
        """Read all rows, some at a time: at most so many, and fewer where rows are large."""
        return pa.RecordBatchReader.from_batches(self._schema, self._read_batches(max_chunksize))

    def to_batches(self, max_chunksize: int | None = None) -> list[pa.RecordBatch]:
        """Read all rows into memory as batches."""
        return list(self._read_batches(max_chunksize))

    def whole(self) -> pa.Table:
        """Read all rows into memory."""
        return pa.Table.from_batches(self._read_batches(None), self._schema)

    def column(self, i: int | str) -> pa.ChunkedArray:
        """Read a whole column into memory, by its number or name."""
        name = i if isinstance(i, str) else self.column_names[i]
        return self.select([name]).whole().column(0)

    def __getitem__(self, i: int | str) -> pa.ChunkedArray:
        return self.column(i)

    def itercolumns(self) -> Iterator[pa.ChunkedArray]:
        """Read one whole column after another."""
        for name in self.column_names:
            yield self.column(name)

    @property
    def columns(self) -> list[pa.ChunkedArray]:
        """All columns, read into memory."""
        return list(self.itercolumns())

    def equals(self, other: Any, **kwargs: Any) -> bool:
        """Compare with another table, value by value."""
        if other is self:
            return True
        whole = other.whole() if isinstance(other, LazyTable) else getattr(other, "table", other)
        return bool(self.whole().equals(whole, **kwargs))

    __hash__ = object.__hash__

    def validate(self, *, full: bool = False) -> None:
        """Read all rows if asked to, and let Arrow check them."""
        if full:
            self.whole().validate(full=True)

    @property
    def table(self) -> _Columns:
        """What `datasets` takes single columns, and nothing, from."""
        return _Columns(self)

    # ----------------------------------------------------------------------------------
    # Choosing

    def slice(self, offset: int = 0, length: int | None = None) -> LazyTable:
        """Choose consecutive rows."""
        stop = None if length is None else offset + length
        return self._with(rows=self._rows[offset:stop])

    def take_rows(self, places: Rows) -> LazyTable:
        """Choose rows by their numbers, in that order."""
        return self._with(rows=self._places(places))

    def filter(self, mask: Any) -> LazyTable:
        """Choose rows by a mask of one boolean per row."""
        return self._with(rows=np.asarray(self._rows, np.int64)[np.asarray(mask, bool)])

    def select(self, columns: Sequence[int | str]) -> LazyTable:
        """Choose columns by their numbers or names, in that order."""
        names = [c if isinstance(c, str) else self.column_names[c] for c in columns]
        schema = pa.schema([self._schema.field(name) for name in names], self._schema.metadata)
        return self._with(columns={name: self._columns[name] for name in names}, schema=schema)

    def drop(self, columns: Sequence[str] | str) -> LazyTable:
        """Leave columns out; KeyError if there is no such column."""
        gone = [columns] if isinstance(columns, str) else list(columns)
        missing = [name for name in gone if name not in self._columns]
        if missing:
            raise KeyError(f"Columns {missing} not found")
        return self.select([name for name in self._columns if name not in gone])

    drop_columns = drop

    def remove_column(self, i: int) -> LazyTable:
        """Leave the column of a number out."""
        return self.drop([self.column_names[i]])

    def rename_columns(self, names: Sequence[str]) -> LazyTable:
        """Give all columns other names."""
        columns = dict(zip(names, self._columns.values(), strict=True))
        fields = [field.with_name(name) for name, field in zip(names, self._schema, strict=True)]
        return self._with(columns=columns, schema=pa.schema(fields, self._schema.metadata))

    def replace_schema_metadata(self, metadata: Any = None) -> LazyTable:
        """Replace the schema's metadata."""
        return self._with(schema=self._schema.with_metadata(metadata))

    def cast(self, target_schema: pa.Schema, *_: Any, **__: Any) -> LazyTable:
        """Give the columns other types, as they are read."""
        if sorted(target_schema.names) != sorted(self.column_names):
            raise ValueError(f"columns {target_schema.names} are not {self.column_names}")
        # What no value can become is said now, what one value cannot when it is read.
        fields = [self._schema.field(name) for name in target_schema.names]
        nothing = [conform(pa.nulls(0), field.type) for field in fields]
        table_cast(pa.Table.from_arrays(nothing, schema=pa.schema(fields)), target_schema)
        columns = {name: self._columns[name] for name in target_schema.names}
        return self._with(columns=columns, schema=target_schema)

    def flatten(self, *_: Any, **__: Any) -> LazyTable:
        """Make columns ``record.field`` of the records at the top."""
        flat = FlatRows(self._source)
        inside: dict[str, list[str]] = {name: [] for name in self._source.schema.names}
        for name, (parent, _field) in flat.parents.items():
            inside[parent].append(name)
        columns = {
            here + name[len(parent) :]: name
            for here, parent in self._columns.items()
            for name in inside[parent]
        }
        if not self._is_cast():
            return LazyTable(flat, columns, self._rows)
        fields: list[pa.Field] = []
        for here, parent in self._columns.items():
            kind = self._schema.field(here).type
            if inside[parent] == [parent]:
                fields.append(pa.field(here, kind))
            else:
                fields += [
                    kind.field(i).with_name(f"{here}.{kind.field(i).name}")
                    for i in range(kind.num_fields)
                ]
        schema = pa.schema(fields)
        return LazyTable(flat, {name: columns[name] for name in schema.names}, self._rows, schema)

    def combine_chunks(self, *_: Any, **__: Any) -> LazyTable:
        """Return the table itself: it has no chunks."""
        return self

    # ----------------------------------------------------------------------------------
    # Beside others

    def add_column(self, i: int, field_: str | pa.Field, column: Any) -> LazyTable:
        """Put a column of values beside the others, as the i-th."""
        from astropile.hf.join import beside

        name = field_ if isinstance(field_, str) else field_.name
        values = datasets.table.InMemoryTable(pa.table([column], names=[name]))
        table = beside([self, values])
        names = self.column_names
        return table.select([*names[:i], name, *names[i:]])

    def append_column(self, field_: str | pa.Field, column: Any) -> LazyTable:
        """Put a column of values behind the others."""
        return self.add_column(self.num_columns, field_, column)

    def set_column(self, i: int, field_: str | pa.Field, column: Any) -> LazyTable:
        """Put a column of values in the place of the i-th."""
        return self.remove_column(i).add_column(i, field_, column)


_WORKED_OUT = {"as_values", "_narrowed"}


class _Columns:
    """
    Stand-in for the Arrow table inside a `Table`: gives a column, or no rows.

    Whatever else is asked of it is asked of the table as a whole, read into memory.
    """

    def __init__(self, table: LazyTable) -> None:
        self._table = table

    def drop(self, columns: Iterable[str]) -> pa.Table:
        """Read all columns but these."""
        return self._table.drop(list(columns)).whole()

    def slice(self, offset: int = 0, length: int | None = None) -> pa.Table:
        """Read consecutive rows."""
        return self._table.fast_slice(offset, length)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._table.whole(), name)
