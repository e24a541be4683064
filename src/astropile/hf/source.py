"""
What the rows of a lazy dataset come from: the one interface of all sources.

A source answers one question: these columns of these rows, please. It holds no open file, is
small to pickle, and is never changed.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from astropile.arrow import to_numpy
from astropile.errors import UnknownColumnError
from astropile.hf.features import empty_table, features_of, node_of
from astropile.view import Node

BATCH_NBYTES = 32 * 2**20
"""About how much is read at once when rows are read one after another."""

_VIEW_VERSION = b"1"
"""Changes with the standard view, so that results cached from an older one are not reused."""

Rows = NDArray[np.int64]


class RowSource(ABC):
    """
    A table that is read row by row, when asked.

    Parameters
    ----------
    name : str
        Short name of what it is: the survey's.
    columns : mapping of str to Node, or datasets.Features
        Type of each column, in order.
    fingerprint : str
        Hash of the content: equal for equal rows.
    """

    def __init__(
        self, name: str, columns: Mapping[str, Node] | datasets.Features, fingerprint: str
    ) -> None:
        self.name, self.fingerprint = name, fingerprint
        self._given = columns

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def _read(self, rows: Rows, schema: pa.Schema) -> pa.Table:
        """Read the columns of a schema, of at least one row, in its types."""

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

        Raises
        ------
        UnknownColumnError
            If a column is not known.
        """
        schema = self.schema_of(names)
        return self._read(rows, schema) if len(rows) else empty_table(schema)

    def read_values(self, rows: Rows, names: Sequence[str]) -> dict[str, Any]:
        """
        Read columns of chosen rows as numpy holds them, with no Arrow table where none is needed.

        Parameters
        ----------
        rows : ndarray, shape (n,), int64
            Row numbers, 0 to the length, in any order, repeats allowed.
        names : sequence of str
            Columns.

        Returns
        -------
        dict of str to ndarray or list
            What `astropile.arrow.to_numpy` makes of the columns that `read` gives.

        Raises
        ------
        UnknownColumnError
            If a column is not known.
        """
        self.check_names(names)
        if not len(rows):
            return values_of(self.read(rows, names))
        return self._read_values(rows, names)

    def _read_values(self, rows: Rows, names: Sequence[str]) -> dict[str, Any]:
        """Read columns of at least one row."""
        return values_of(self.read(rows, names))

    # ----------------------------------------------------------------------------------
    # Records whose fields cost different amounts

    def is_record(self, name: str) -> bool:
        """
        Say whether the fields of a column are read one by one.

        Parameters
        ----------
        name : str
            The column.

        Returns
        -------
        bool
            True for the record of one survey in a matched row: its redshift does not cost its
            image.
        """
        del name
        return False

    def missing(self, rows: Rows, name: str) -> NDArray[np.bool_]:
        """
        Say in which rows such a record is null, without reading it.

        Parameters
        ----------
        rows : ndarray, shape (n,), int64
            Row numbers.
        name : str
            The column, one for which `is_record` is True.

        Returns
        -------
        ndarray, shape (n,), bool
            True where there is none.
        """
        del name
        return np.zeros(len(rows), bool)

    def read_fields(self, rows: Rows, name: str, fields: Sequence[str]) -> pa.Table:
        """
        Read fields of a record as columns.

        Parameters
        ----------
        rows : ndarray, shape (n,), int64
            Row numbers.
        name : str
            The column that holds the record.
        fields : sequence of str
            Fields of it.

        Returns
        -------
        pyarrow.Table
            These fields; null where the record is.
        """
        column = self.read(rows, [name]).column(0)
        return pa.table([pc.struct_field(column, [field]) for field in fields], names=list(fields))

    @property
    def info(self) -> datasets.DatasetInfo:
        """What there is to say of the rows: description, citation, licence."""
        return datasets.DatasetInfo(dataset_name=self.name)

    def cache_files(self) -> list[str]:
        """
        List the Arrow files that values come from.

        Returns
        -------
        list of str
            Paths; none where everything comes from trees.
        """
        return []

    # ----------------------------------------------------------------------------------
    # Types

    @cached_property
    def types(self) -> Mapping[str, Node]:
        """Type of each column, in order."""
        if isinstance(self._given, datasets.Features):
            return {name: node_of(feature) for name, feature in self._given.items()}
        return self._given

    @cached_property
    def features(self) -> datasets.Features:
        """The columns as Hugging Face features."""
        given = self._given
        return given if isinstance(given, datasets.Features) else features_of(given)

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

        Raises
        ------
        UnknownColumnError
            If a column is not known.
        """
        kinds = self._kinds
        self.check_names(names)
        if len(names) == len(kinds) and tuple(names) == tuple(kinds):
            return self.schema
        return pa.schema([self.schema.field(name) for name in names])

    def check_names(self, names: Sequence[str]) -> None:
        """
        Refuse what is no column.

        Parameters
        ----------
        names : sequence of str
            Columns.

        Raises
        ------
        UnknownColumnError
            If one is not known.
        """
        kinds = self._kinds
        for name in names:
            if name not in kinds:
                raise UnknownColumnError(name, self.name, tuple(kinds))

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

    # ----------------------------------------------------------------------------------
    # Many rows

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

    def row_nbytes(self, names: Sequence[str]) -> float:
        """
        Estimate how many bytes a row takes: the mean of a few.

        Parameters
        ----------
        names : sequence of str
            Columns.

        Returns
        -------
        float
            Bytes of these columns.
        """
        key = tuple(names)
        if key not in self._nbytes:
            few = np.unique(np.linspace(0, len(self) - 1, 4).astype(np.int64))
            total = self.read(few, names).nbytes if len(self) else 0
            self._nbytes[key] = float(total) / len(few)
        return self._nbytes[key]

    @cached_property
    def _nbytes(self) -> dict[tuple[str, ...], float]:
        return {}

    def batch_rows(self, limit: int | None = None, names: Sequence[str] | None = None) -> int:
        """
        Count the rows to read at once.

        Parameters
        ----------
        limit : int, optional
            At most so many.
        names : sequence of str, optional
            The columns to be read; by default all.

        Returns
        -------
        int
            As many as fit in `BATCH_NBYTES`, at least one.
        """
        nbytes = self.row_nbytes(self.schema.names if names is None else names)
        fit = max(1, int(BATCH_NBYTES / max(1.0, nbytes)))
        return fit if limit is None else max(1, min(limit, fit))

    def __getstate__(self) -> dict[str, Any]:
        # What can be worked out again does not travel.
        return {name: value for name, value in self.__dict__.items() if name not in _WORKED_OUT}


_WORKED_OUT = {
    *("types", "features", "schema", "_nbytes", "_kinds"),
    *("_catalog", "_light", "_batches", "_texts", "_plans", "_keeps"),
}


def values_of(table: pa.Table) -> dict[str, Any]:
    """
    Give the columns of a table as numpy holds them.

    Parameters
    ----------
    table : pyarrow.Table
        The table.

    Returns
    -------
    dict of str to ndarray or list
        What `astropile.arrow.to_numpy` makes of each.
    """
    columns = zip(table.column_names, table.columns, strict=True)
    return {name: to_numpy(column) for name, column in columns}


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
