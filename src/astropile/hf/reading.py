"""
Rows and batches that read a column when a function asks for it.

What `Dataset.map` and `Dataset.filter` give to a function: it behaves as the dict that
`datasets` would give, and costs what is taken from it.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
from datasets.features.features import FeatureType
from datasets.formatting import get_formatter
from datasets.formatting.formatting import LazyDict, TableFormatter

from astropile.hf.lazy import LazyTable

LIGHT_ROWS = 1000
"""Rows of a column of single values that are read at once."""

HEAVY_ROWS = 16
"""The same of other columns, once two rows in a row have asked for them."""

Path = tuple[str, ...]
"""A column, or a column and a field of it."""


class Columns:
    """
    The columns of a lazy dataset, as its format gives them, read when asked for.

    Parameters
    ----------
    dataset : datasets.Dataset
        A dataset over a `LazyTable`.
    """

    def __init__(self, dataset: datasets.Dataset) -> None:
        self._dataset = dataset
        self._held: dict[Path, tuple[int, pa.Table]] = {}
        self._last: dict[Path, int] = {}
        kwargs = dataset._format_kwargs or {}
        self.formatter = get_formatter(dataset._format_type, features=None, **kwargs)
        self._decoders: dict[Path, Any] = {}

    @property
    def table(self) -> LazyTable:
        """The table read from."""
        table: LazyTable = self._dataset._data
        return table

    @property
    def names(self) -> list[str]:
        """Names of the columns."""
        return list(self.table.column_names)

    @property
    def is_mapping(self) -> bool:
        """Whether the format gives dicts of columns, which can be read one by one."""
        return not isinstance(self.formatter, TableFormatter) and (
            self._dataset._format_type != "custom"
        )

    def fields(self, name: str) -> list[str]:
        """Names of the fields of a record that are read one by one."""
        return list(self._dataset.features[name])

    def _formatter(self, path: Path) -> Any:
        """Give the formatter that knows the feature of a column, for those that are decoded."""
        if path not in self._decoders:
            feature: FeatureType = self._dataset.features[path[0]]
            for field in path[1:]:
                feature = feature[field]
            self._decoders[path] = get_formatter(
                self._dataset._format_type,
                features=datasets.Features({path[-1]: feature}),
                **(self._dataset._format_kwargs or {}),
            )
        return self._decoders[path]

    def _places(self, first: int, stop: int) -> Any:
        indices = self._dataset._indices
        if indices is None:
            return np.arange(first, stop)
        return indices.fast_slice(first, stop - first).column(0).to_numpy().astype(np.int64)

    def _read(self, path: Path, first: int, stop: int) -> pa.Table:
        places = self._places(first, stop)
        if len(path) > 1:
            return self.table.read_fields(places, path[0], [path[1]])
        table = self.table.select([path[0]])
        if self._dataset._indices is None:
            return table.fast_slice(first, stop - first)
        return table.fast_gather(places)

    def is_light(self, path: Path) -> bool:
        """Say whether a column holds a single value per row."""
        feature = self._dataset.features[path[0]]
        for field in path[1:]:
            feature = feature[field]
        return isinstance(feature, datasets.Value | datasets.ClassLabel)

    def _ahead(self, path: Path, place: int) -> int:
        """Count the rows to read at once, from a place on."""
        if self.is_light(path):
            return LIGHT_ROWS
        return HEAVY_ROWS if self._last.get(path) == place - 1 else 1

    def value(self, path: Path, place: int) -> Any:
        """Read a value of a row; the rows that follow come with it where they are wanted too."""
        start, table = self._held.get(path, (0, None))
        if table is None or not start <= place < start + len(table):
            stop = min(len(self._dataset), place + self._ahead(path, place))
            start, table = place, self._read(path, place, stop)
            self._held[path] = start, table
        self._last[path] = place
        row = self._formatter(path).format_row(table.slice(place - start, 1))
        return row[path[-1]]

    def values(self, path: Path, first: int, stop: int) -> Any:
        """Read a column of consecutive rows."""
        table = self._read(path, first, stop)
        return self._formatter(path).format_batch(table)[path[-1]]

    def is_null(self, name: str, first: int, stop: int) -> Sequence[bool]:
        """Say in which rows a record that is read field by field is null."""
        return [bool(none) for none in self.table.missing(self._places(first, stop), name)]

    def rows(self, first: int, stop: int) -> pa.Table:
        """Read all columns of consecutive rows."""
        if self._dataset._indices is None:
            return self.table.fast_slice(first, stop - first)
        return self.table.fast_gather(self._places(first, stop))


class _OnAccess(LazyDict):  # type: ignore[misc]
    """A dict whose values are read when taken, and that knows which were changed since."""

    def __init__(self, names: Sequence[str]) -> None:
        self.data = dict.fromkeys(names)
        self.keys_to_format = set(names)
        self.read: dict[str, Any] = {}
        self.given: dict[str, Any] = {}

    def __getitem__(self, key: str) -> Any:
        unread = key in self.keys_to_format
        value = super().__getitem__(key)
        if unread:
            self.read[key], self.given[key] = _copy(value), value
        return value

    def format(self, key: str) -> Any:
        """Read a value."""
        raise NotImplementedError

    def changed(self) -> dict[str, Any]:
        """Give what was assigned, or changed within."""
        return {
            key: value
            for key, value in self.data.items()
            if key not in self.keys_to_format
            and not (key in self.read and _same(value, self.read[key]))
        }

    def is_as_given(self, key: str, value: Any) -> bool:
        """Say whether a value that is not a number or text is the one that was read."""
        if not isinstance(value, dict | list | np.ndarray | _OnAccess | None):
            return False
        return key in self.given and value is self.given[key] and _same(value, self.read[key])

    def __copy__(self) -> _OnAccess:
        inst: _OnAccess = super().__copy__()
        inst.read, inst.given = dict(self.read), dict(self.given)
        return inst


class Row(_OnAccess):
    """
    A row, or a record in it.

    Parameters
    ----------
    columns : Columns
        What it reads from.
    place : int
        Which row.
    record : str, optional
        The column that holds the record.
    """

    def __init__(self, columns: Columns, place: int, record: str | None = None) -> None:
        super().__init__(columns.names if record is None else columns.fields(record))
        self._columns, self._place, self._record = columns, place, record

    def format(self, key: str) -> Any:
        """Read a value."""
        columns, place = self._columns, self._place
        if self._record is not None:
            return columns.value((self._record, key), place)
        if not columns.table.is_record(key):
            return columns.value((key,), place)
        return None if columns.is_null(key, place, place + 1)[0] else Row(columns, place, key)


class Batch(_OnAccess):
    """
    Consecutive rows as columns.

    Parameters
    ----------
    columns : Columns
        What it reads from.
    first, stop : int
        The rows.
    """

    def __init__(self, columns: Columns, first: int, stop: int) -> None:
        super().__init__(columns.names)
        self._columns, self._first, self._stop = columns, first, stop

    def format(self, key: str) -> Any:
        """Read a column."""
        columns, span = self._columns, (self._first, self._stop)
        if not columns.table.is_record(key):
            return columns.values((key,), *span)
        nulls = columns.is_null(key, *span)
        rows = range(*span)
        return [
            None if none else Row(columns, row, key) for row, none in zip(rows, nulls, strict=True)
        ]

    def rows(self) -> Iterator[Row]:
        """Give the rows one by one, each of which reads for itself."""
        for place in range(self._first, self._stop):
            yield Row(self._columns, place)


# --------------------------------------------------------------------------------------
# What was changed


def _is_nested(values: list[Any]) -> bool:
    return isinstance(next((v for v in values if v is not None), None), dict | list)


def _copy(value: Any) -> Any:
    """Copy the dicts and lists of a value, and leave what is in them."""
    match value:
        case _OnAccess():
            return value
        case dict():
            return {key: _copy(inner) for key, inner in value.items()}
        case list() if _is_nested(value):
            return [_copy(inner) for inner in value]
        case list():
            return list(value)
    return value


def _same(value: Any, copy: Any) -> bool:
    """Say whether a value still is what its copy was made of."""
    match value:
        case _OnAccess():
            return value is copy and not value.changed()
        case dict():
            return (
                isinstance(copy, dict)
                and value.keys() == copy.keys()
                and all(_same(inner, copy[key]) for key, inner in value.items())
            )
        case list():
            if not isinstance(copy, list) or len(value) != len(copy):
                return False
            if not _is_nested(copy) and isinstance(next(iter(copy), None), int | float | str):
                return all(map(operator.is_, value, copy))
            return all(map(_same, value, copy))
        case np.ndarray() if value.dtype != object:
            return value is copy and not value.flags.writeable
    # A tensor can be written to.
    return value is copy and not hasattr(value, "data_ptr")


def plain(value: Any) -> Any:
    """
    Read what has not been read yet.

    Parameters
    ----------
    value : object
        Whatever a function returned.

    Returns
    -------
    object
        The same, with a dict in place of each row or record.
    """
    match value:
        case _OnAccess():
            return {key: plain(value[key]) for key in value}
        case list() if any(isinstance(inner, _OnAccess) for inner in value):
            return [plain(inner) for inner in value]
        case dict():
            return {key: plain(inner) for key, inner in value.items()}
    return value
