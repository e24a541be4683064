"""
Rows as numpy values, for the formats that would make an Arrow table only to take it apart.

`datasets` finds the rows that a key means in a table, and hands what it gets to the formatter. A
`ValueTable` stands in for the table, `Values` for the rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from astropile.hf.source import Rows, values_of

if TYPE_CHECKING:
    from astropile.hf.lazy import LazyTable

FORMATS = frozenset({"astropile", "astropile-torch", "astropile-jax"})
"""Formats whose formatters take `Values`."""


class Values:
    """
    Some rows as numpy values.

    Parameters
    ----------
    columns : mapping of str to ndarray or list
        One value per row of each column.
    """

    def __init__(self, columns: Mapping[str, Any]) -> None:
        self.columns = dict(columns)

    @property
    def column_names(self) -> list[str]:
        """Names of the columns."""
        return list(self.columns)

    def drop(self, columns: Iterable[str]) -> Values:
        """
        Leave columns out.

        Parameters
        ----------
        columns : iterable of str
            Which.

        Returns
        -------
        Values
            The others.
        """
        gone = set(columns)
        return Values({name: kept for name, kept in self.columns.items() if name not in gone})


class ValueTable:
    """
    A lazy table whose rows are read as `Values`.

    Parameters
    ----------
    table : LazyTable
        The table; of the types of its source.
    """

    def __init__(self, table: LazyTable) -> None:
        self._table = table

    @property
    def column_names(self) -> list[str]:
        """Names of the columns."""
        return self._table.column_names

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return self._table.num_rows

    def fast_slice(self, offset: int = 0, length: int | None = None) -> Values:
        """Read consecutive rows: all that follow the first, or so many."""
        stop = self.num_rows if length is None else min(self.num_rows, offset + max(0, length))
        return self.fast_gather(range(offset, max(offset, stop)))

    def fast_gather(self, indices: Sequence[int] | Rows) -> Values:
        """Read rows by their numbers, in that order."""
        return Values(self._table.read_values(indices))

    @property
    def table(self) -> ValueTable:
        """What `datasets` takes no rows from."""
        return self

    def slice(self, offset: int = 0, length: int | None = None) -> Values:
        """Read consecutive rows, as `fast_slice`."""
        return self.fast_slice(offset, length)


def columns_of(table: pa.Table | Values) -> dict[str, Any]:
    """
    Give the columns that a formatter was handed.

    Parameters
    ----------
    table : pyarrow.Table or Values
        Rows.

    Returns
    -------
    dict of str to ndarray or list
        Their values.
    """
    return table.columns if isinstance(table, Values) else values_of(table)
