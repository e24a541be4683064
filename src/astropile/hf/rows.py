"""
Where the rows of a lazy dataset come from: a tree, another table, or several of these.

A source answers one question: these columns of these rows, please. It holds no open file, is
small to pickle, and is never changed.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
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
from astropile.hf.features import conform_table, empty_table, features_of, node_of
from astropile.names import COMMON_COLUMNS
from astropile.schema import Survey
from astropile.view import Node, columns_needed, standard_table, view_type

LIGHT_NBYTES = 256 * 2**20
"""Light columns are kept in memory once read, where all of them take less than this."""

BATCH_NBYTES = 64 * 2**20
"""About how much is read at once when rows are read one after another."""

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
        known = self.schema.names
        for name in names:
            if name not in known:
                raise UnknownColumnError(name, self.name, tuple(known))
        return pa.schema([self.schema.field(name) for name in names])

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


_WORKED_OUT = {"features", "schema", "row_nbytes", "_catalog", "_light", "_steps"}


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
        self._catalog = catalog
        self._types = view_type(catalog.survey, names)
        self._rows = rows
        self._n = len(catalog) if rows is None else len(rows)

    @cached_property
    def _catalog(self) -> Catalog:
        """The tree; opened again where this came to another process."""
        catalog = open_catalog(self._path)
        if catalog.snapshot != self._snapshot:
            raise FormatError(
                str(self._path), f"the snapshot {self._snapshot[:12]}…", catalog.snapshot[:12] + "…"
            )
        return catalog

    @cached_property
    def _light(self) -> dict[str, pa.ChunkedArray]:
        """Light columns read so far."""
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

    def light(self, name: str) -> pa.ChunkedArray:
        """
        Read a light column of all rows, whether or not it is among those kept.

        Parameters
        ----------
        name : str
            A common column, or a native one that is one number or string each.

        Returns
        -------
        pyarrow.ChunkedArray
            Its values.
        """
        column = self._light_columns([name])[name]
        return column if self._rows is None else column.take(pa.array(self._rows))

    @cached_property
    def _steps(self) -> tuple[bool, frozenset[str]]:
        """Whether light columns are kept in memory, and which columns are light."""
        light = frozenset(self._catalog.light_columns)
        return len(self._catalog) * 8 * len(light) <= LIGHT_NBYTES, light

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
        kept, light = self._steps
        needed = columns_needed(self.survey, names)
        whole = len(rows) > len(self) // 4
        from_light = [name for name in needed if name in light and (kept or whole)]
        places = pa.array(chosen)
        found = {
            name: column.take(places) for name, column in self._light_columns(from_light).items()
        }
        texts = {name: source for name in names if (source := self._text_column(name, found))}
        columns: dict[str, Any] = {
            name: column.to_numpy() for name, column in found.items() if not _is_text(column)
        }
        rest = [name for name in needed if name not in columns and name not in texts.values()]
        if rest:
            columns.update(self._catalog.take(chosen, rest))
        made = [name for name in names if name not in texts]
        table = standard_table(self.survey, columns, len(chosen), made)
        arrays = [found[texts[name]] if name in texts else table.column(name) for name in names]
        return conform_table(pa.Table.from_arrays(arrays, names=list(names)), schema)

    def _text_column(self, name: str, found: Mapping[str, pa.ChunkedArray]) -> str:
        """Name the light column of text that a field is, unchanged; empty if it is none."""
        source = name if name in COMMON_COLUMNS else self.survey.aliases.get(name, name)
        is_text = isinstance(source, str) and source in found and _is_text(found[source])
        return str(source) if is_text else ""

    def _light_columns(self, names: Sequence[str]) -> dict[str, pa.ChunkedArray]:
        missing = [name for name in names if name not in self._light]
        table = self._catalog.light(missing).combine_chunks() if missing else None
        read = {name: table.column(name) for name in missing}  # type: ignore[union-attr]
        if self._steps[0]:
            self._light.update(read)
        return {name: read[name] if name in read else self._light[name] for name in names}


def _is_text(column: pa.ChunkedArray) -> bool:
    return bool(pa.types.is_string(column.type) or pa.types.is_large_string(column.type))


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
