"""
What each side of a match brings into a tree of matched objects: columns, their facts, values.

A side that is a tree brings its native columns as they are. One that is a table brings those
of its columns that a tree can hold; of what it cannot, it says so rather than leave it out.
"""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from astropile.catalog import Catalog
from astropile.errors import MatchError, UnknownColumnError
from astropile.schema import Alias, Column
from astropile.view import columns_needed, view_names

Ints = NDArray[np.int64]

UNKNOWN: Final = "unknown"
"""The licence of what states none."""

_STEP: Final = 65_536
"""Rows of a table looked at together."""

_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9_.+-]")


class Content(ABC):
    """
    What a side brings along.

    Attributes
    ----------
    columns : tuple of Column
        Its columns, under its own names, no dimension left to be fixed by the data but ragged
        ones.
    aliases : mapping
        Its standard names, of these columns.
    facts : dict
        Where it comes from, as JSON values: ``survey``, ``release``, ``snapshot``, ``licence``…
    described : dict of str to str
        ``title``, ``description``, ``citation``, ``acknowledgement``, ``homepage``.
    """

    columns: tuple[Column, ...]
    aliases: Mapping[str, Alias]
    facts: dict[str, Any]
    described: dict[str, str]

    @abstractmethod
    def read(self, rows: Ints) -> dict[str, Any]:
        """
        Read all columns of some rows.

        Parameters
        ----------
        rows : ndarray, shape (n,), int64
            Row numbers of the side.

        Returns
        -------
        dict of str to ndarray or sequence of ndarray
            Fixed columns as arrays, ragged ones as sequences, shared ones as their one value.
        """


class TreeContent(Content):
    """
    Objects of a tree.

    Parameters
    ----------
    catalog : Catalog
        The tree.
    rows : ndarray of int64, optional
        Which of its objects the side has; by default all.
    fields : sequence of str, optional
        Fields of the standard view to keep; by default all, and all native columns.
    """

    def __init__(
        self, catalog: Catalog, rows: Ints | None = None, fields: Sequence[str] | None = None
    ) -> None:
        survey = catalog.survey
        self._catalog, self._rows = catalog, rows
        self.columns, self.aliases = survey.columns, survey.aliases
        if fields is not None:
            known = view_names(survey)
            for name in fields:
                if name not in known:
                    raise UnknownColumnError(name, f"survey {survey.name}", tuple(known))
            needed = set(columns_needed(survey, tuple(fields)))
            # A common column is a copy of a native one.
            needed = {str(survey.aliases.get(name, name)) for name in needed}
            self.columns = tuple(c for c in survey.columns if c.name in needed)
            self.aliases = {k: v for k, v in survey.aliases.items() if k in fields}
        self.facts = {
            **survey.provenance,
            "subset": catalog.subset,
            "snapshot": catalog.snapshot,
            "licence": survey.licence or UNKNOWN,
            "epoch": survey.epoch,
            "wavelength": f"{survey.wavelength_medium} {survey.wavelength_frame}".strip(),
            "time_scale": survey.time_scale,
        }
        self.described = {
            name: getattr(survey, name)
            for name in ("title", "description", "citation", "acknowledgement", "homepage")
        }

    def read(self, rows: Ints) -> dict[str, Any]:
        """
        Read all columns of some rows.

        Parameters
        ----------
        rows : ndarray, shape (n,), int64
            Row numbers of the side.

        Returns
        -------
        dict of str to ndarray or sequence of ndarray
            As `Content.read`.
        """
        here = rows if self._rows is None else self._rows[rows]
        return self._catalog.take(here, [column.name for column in self.columns])


class TableContent(Content):
    """
    Rows of a table.

    Parameters
    ----------
    name : str
        What the table is called.
    schema : pyarrow.Schema
        Its columns.
    n_rows : int
        Its rows.
    read : callable
        ``read(rows, names)`` gives columns of chosen rows, a `pyarrow.Table`.
    units : mapping of str to str
        Units of columns that have one.
    facts : mapping, optional
        What is known of where it comes from.

    Raises
    ------
    MatchError
        If a column is of a type that a tree does not hold, or two get one name.
    """

    def __init__(
        self,
        name: str,
        schema: pa.Schema,
        n_rows: int,
        read: Callable[[Ints, list[str]], pa.Table],
        units: Mapping[str, str],
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        self._name, self._n_rows, self._read_rows = name, n_rows, read
        self._sources: dict[str, str] = {}
        self._nulls: dict[str, str] = {}
        columns = [
            column
            for field in schema
            for column in self._columns_of(field, units.get(field.name, ""))
        ]
        self.columns, self.aliases = tuple(columns), {}
        self.facts = {"table": name, "licence": UNKNOWN}
        self.facts.update(facts or {})
        self.described = {"title": name, "description": f"{name}: a table of {n_rows} rows."}

    def _columns_of(self, field: pa.Field, unit: str) -> Iterator[Column]:
        """Declare a column, and where numbers or text are missing one more that says where."""
        name = _NOT_IN_NAMES.sub("_", field.name) or "_"
        if name in self._sources or name in self._nulls:
            raise MatchError(
                f"columns of {self._name}", "different names", f"{field.name!r} twice, as {name!r}"
            )
        self._sources[name] = field.name
        dtype, shape, has_nulls = self._kind(field, name)
        doc = f"Column {field.name!r} of {self._name}."
        yield Column(name, dtype, doc, shape=shape, unit=_parsed(unit))
        if has_nulls:
            self._nulls[f"{name}.null"] = field.name
            yield Column(
                f"{name}.null", "bool", f"Whether {field.name!r} is missing.", derived=True
            )

    def _kind(self, field: pa.Field, name: str) -> tuple[str, tuple[int | str, ...], bool]:
        kind = field.type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        if pa.types.is_fixed_size_list(kind) and _is_number(kind.value_type):
            return str(np.dtype(kind.value_type.to_pandas_dtype())), (kind.list_size,), False
        if (pa.types.is_list(kind) or pa.types.is_large_list(kind)) and _is_number(kind.value_type):
            dim = re.sub(r"[^a-z0-9_]", "_", f"n_{name}".lower())
            return str(np.dtype(kind.value_type.to_pandas_dtype())), (dim,), False
        if pa.types.is_floating(kind):
            # A missing one is NaN.
            return ("float64" if kind == pa.float64() else "float32"), (), False
        if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
            return str(kind).replace("double", "float64"), (), self._looked_at(field.name)[1]
        if pa.types.is_null(kind):
            return "float32", (), False
        if _is_text(kind):
            width, has_nulls = self._looked_at(field.name)
            return f"S{max(width, 1)}", (), has_nulls
        raise MatchError(
            f"column {field.name!r} of {self._name}",
            "numbers, text, or lists of numbers; name the columns to keep",
            str(field.type),
        )

    def _looked_at(self, source: str) -> tuple[int, bool]:
        """Find the length of the longest text, and whether something is missing."""
        width, has_nulls = 0, False
        for first in range(0, self._n_rows, _STEP):
            rows = np.arange(first, min(first + _STEP, self._n_rows))
            column = self._read_rows(rows, [source]).column(0)
            has_nulls |= column.null_count > 0
            if not (pa.types.is_integer(column.type) or pa.types.is_boolean(column.type)):
                longest = pc.max(pc.binary_length(_as_text(column))).as_py()
                width = max(width, longest or 0)
        return width, has_nulls

    def read(self, rows: Ints) -> dict[str, Any]:
        """
        Read all columns of some rows.

        Parameters
        ----------
        rows : ndarray, shape (n,), int64
            Row numbers of the side.

        Returns
        -------
        dict of str to ndarray or sequence of ndarray
            As `Content.read`.
        """
        table = self._read_rows(rows, list(self._sources.values()))
        values: dict[str, Any] = {}
        for column in self.columns:
            if column.name in self._nulls:
                missing = pc.is_null(table.column(self._nulls[column.name]))
                values[column.name] = missing.to_numpy(zero_copy_only=False)
            else:
                values[column.name] = _values(table.column(self._sources[column.name]), column)
        return values


def _values(array: pa.ChunkedArray, column: Column) -> Any:
    """Give a column of a table as an array, or a list of arrays."""
    dtype = column.numpy_dtype
    if column.shape:
        lengths = [0 if isinstance(size, str) else size for size in column.shape]
        missing = np.full(lengths, np.nan if dtype.kind == "f" else 0, dtype)
        rows = []
        for one in array.to_pylist():
            if one is not None and None in one:
                found = f"a missing number in a list of {column.name}"
                raise MatchError(f"column {column.name!r}", "whole lists", found)
            rows.append(missing if one is None else np.array(one, dtype))
        is_ragged = isinstance(column.shape[0], str)
        return rows if is_ragged else np.stack(rows) if rows else np.empty((0, *lengths), dtype)
    if dtype.kind == "S":
        texts = _as_text(array).fill_null("").to_pylist()
        return np.array([text.encode() for text in texts], dtype)
    if dtype.kind == "f":
        return array.cast(pa.from_numpy_dtype(dtype)).to_numpy().astype(dtype, copy=False)
    filled = array.fill_null(False if dtype.kind == "b" else 0)
    return np.asarray(filled).astype(dtype, copy=False)


def _as_text(array: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    return array.cast(pa.large_string())


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or kind in (pa.float32(), pa.float64())


def _is_text(kind: pa.DataType) -> bool:
    return any(
        test(kind)
        for test in (
            *(pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view),
            *(pa.types.is_binary, pa.types.is_large_binary, pa.types.is_decimal),
            *(pa.types.is_timestamp, pa.types.is_date, pa.types.is_time),
        )
    )


def _parsed(unit: str) -> str:
    """Give a unit if astropy knows it: what a tree states can be worked with."""
    from astropy.units import Unit

    try:
        Unit(unit)
    except (TypeError, ValueError):
        return ""
    return unit


def hash_of_rows(*arrays: NDArray[Any]) -> str:
    """
    Hash arrays.

    Parameters
    ----------
    *arrays : ndarray
        The arrays.

    Returns
    -------
    str
        SHA-256 of their values.
    """
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
