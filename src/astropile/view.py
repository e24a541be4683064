"""
The standard view: a survey's native columns as the records every survey shares.

Nothing is renamed or converted on disk; here a resolved `Survey` and native arrays become a
table with ``provenance``, the common columns, the survey's aliases and every native column
that no alias already shows. Opens no file and knows no Hugging Face types.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from astropile.arrow import (
    Block,
    Lengths,
    TooManyValuesError,
    count_values,
    list_of,
    product,
    ranges,
    to_arrow,
    to_numpy,
)
from astropile.errors import FormatError, SchemaError
from astropile.formula import evaluate, names_in
from astropile.names import COMMON_COLUMNS, PROVENANCE
from astropile.schema import (
    BadPixels,
    Column,
    Constant,
    Formula,
    Ragged,
    Record,
    RecordList,
    Stack,
    Survey,
)
from astropile.view_types import (
    Dim,
    Leaf,
    ListOf,
    Node,
    Struct,
    arrow_type,
    check_names,
    columns_needed,
    constant_dtype,
    entry_dim,
    formula_dims,
    sources,
    typed,
    unify,
    view_names,
    view_type,
)

__all__ = [
    "BySurvey",
    "Leaf",
    "ListOf",
    "Node",
    "Struct",
    "arrow_type",
    "columns_needed",
    "source_block",
    "standard_records",
    "standard_table",
    "unify",
    "view_names",
    "view_type",
]

Columns: TypeAlias = "Mapping[str, NDArray[Any] | Ragged]"
"""Native or common column name to values: ``(n, *shape)``, `Ragged`, or once if shared."""


def standard_table(
    survey: Survey, columns: Columns, n: int, names: Iterable[str] | None = None
) -> pa.Table:
    """
    Make the standard view of some objects.

    Parameters
    ----------
    survey : Survey
        The resolved survey.
    columns : mapping of str to ndarray or Ragged
        At least what `columns_needed` lists, n objects each; a shared column once.
    n : int
        Number of objects.
    names : iterable of str, optional
        The fields wanted, in this order; by default all of `view_type`.

    Returns
    -------
    pyarrow.Table
        One row per object, of the types `arrow_type` gives; over the memory of `columns`
        wherever Arrow lays values out as numpy does.

    Raises
    ------
    UnknownColumnError
        If a name is not known.
    FormatError
        If text in a column is not UTF-8.
    """
    wanted = check_names(survey, names)
    schema = _schema(BySurvey(survey), wanted)
    objects = _Objects(survey, columns, n)
    try:
        arrays = [objects.field(field.name, field.type) for field in schema]
    except TooManyValuesError:
        if n < 2:
            raise
        parts = [objects.rows(0, n // 2), objects.rows(n // 2, n)]
        return pa.concat_tables(
            standard_table(survey, part.columns, part.n, wanted) for part in parts
        )
    return pa.Table.from_arrays(arrays, schema=schema)


def source_block(survey: Survey, columns: Columns, n: int, source: Any) -> Block:
    """
    Give the values of one field as numpy holds them, what objects share not repeated.

    Parameters
    ----------
    survey : Survey
        The resolved survey.
    columns : mapping of str to ndarray or Ragged
        At least the columns that the field is made of, n objects each; a shared column once.
    n : int
        Number of objects.
    source : str, Constant, Stack, Formula or BadPixels
        Where the field comes from.

    Returns
    -------
    Block
        One item per object, or one for all.
    """
    return _Objects(survey, columns, n).block(source)


def standard_records(table: pa.Table) -> list[dict[str, Any]]:
    """
    Give the rows of a table as dicts of numpy values.

    Parameters
    ----------
    table : pyarrow.Table
        A standard view, or any table of numbers, text, lists and structs.

    Returns
    -------
    list of dict
        One per row: numbers as numpy scalars and arrays of their own dtype, records as dicts,
        lists of records as lists of dicts, text as str, null as None.
    """
    values = {name: list(to_numpy(table.column(name))) for name in table.column_names}
    return [{name: column[row] for name, column in values.items()} for row in range(len(table))]


@dataclass(frozen=True, eq=False)
class BySurvey:
    """
    A survey as a key: compared by identity, since the mappings in it have no hash.

    Parameters
    ----------
    survey : Survey
        The survey.
    """

    survey: Survey

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BySurvey) and other.survey is self.survey

    def __hash__(self) -> int:
        return id(self.survey)


@lru_cache(maxsize=64)
def _schema(survey: BySurvey, names: tuple[str, ...]) -> pa.Schema:
    kinds = view_type(survey.survey, names)
    return pa.schema([pa.field(name, arrow_type(node)) for name, node in kinds.items()])


@dataclass(frozen=True)
class _Objects:
    """Some objects of a survey in native columns."""

    survey: Survey
    columns: Columns
    n: int

    def rows(self, start: int, stop: int) -> _Objects:
        """Take consecutive objects; what all share stays as it is."""
        chosen: dict[str, NDArray[Any] | Ragged] = {}
        for name, values in self.columns.items():
            if isinstance(values, Ragged):
                offsets = values.offsets[start : stop + 1]
                chosen[name] = Ragged(values.values, offsets, values.shapes[start:stop])
            elif name in self.survey.column_names and self.survey[name].shared:
                chosen[name] = values
            else:
                chosen[name] = values[start:stop]
        return _Objects(self.survey, chosen, stop - start)

    def field(self, name: str, kind: pa.DataType) -> pa.Array:
        """Give one field of the view."""
        try:
            if name == PROVENANCE:
                facts = self.survey.provenance.values()
                texts = [to_arrow(_constant(Constant(v)).spread(1, self.n)) for v in facts]
                return _struct(texts, list(kind), self.n)
            if name in COMMON_COLUMNS:
                values = np.asarray(self.columns[name])
                if pa.types.is_floating(kind) or name == "healpix":
                    values = values.astype(kind.to_pandas_dtype(), copy=False)
                return to_arrow(Block(self.n, values))
            return self._alias(self.survey.aliases.get(name, name), kind)
        except pa.ArrowInvalid as error:
            where = f"column {name!r} of survey {self.survey.name}"
            raise FormatError(where, "UTF-8 text", str(error)) from error

    def _alias(self, alias: Any, kind: pa.DataType) -> pa.Array:
        match alias:
            case Record(fields):
                arrays = [self._alias(source, kind.field(f).type) for f, source in fields.items()]
                return _struct(arrays, [kind.field(f) for f in fields], self.n)
            case RecordList():
                counts, items = self._record_list(alias, kind.value_type)
                return list_of(counts, self.n, items)
            case tuple():
                return self._records(alias, kind.value_type)
        return _as_type(to_arrow(self.block(alias).spread(1, self.n)), kind)

    def _record_list(self, alias: RecordList, kind: pa.DataType) -> tuple[Lengths, pa.Array]:
        """Give the entries of all objects one after another, and how many each object has."""
        axis = entry_dim(self.survey, alias, "")
        blocks = {id(source): self.block(source) for source in sources(alias.fields)}
        flags = self.block(alias.where) if alias.where else None
        counts = flags.dims[0] if flags else self._counts(alias, axis, blocks)
        n_entries = count_values((counts,), self.n)

        keep: NDArray[np.int64] | None = None
        kept: Lengths = counts
        if flags:
            keep = np.flatnonzero(flags.spread(1, self.n).values)
            owner = np.repeat(np.arange(self.n), counts)
            kept = np.bincount(owner[keep], minlength=self.n).astype(np.int64)
            if len(keep) == n_entries:
                # All are kept: nothing is to be chosen, nor copied.
                keep = None
            else:
                n_entries = len(keep)

        def array(source: Any, field: pa.Field) -> pa.Array:
            if isinstance(source, Record):
                inner = [field.type.field(name) for name in source.fields]
                return _struct(list(map(array, source.fields.values(), inner)), inner, n_entries)
            block, dims = blocks[id(source)], typed(self.survey, source).dims
            if dims and dims[0] == axis:
                block = block.spread(1, self.n).entries()
            elif not block.shared:
                block = block.spread(counts, n_entries)
            if keep is not None and not block.shared:
                block = block.take(keep)
            return _as_type(to_arrow(block.spread(1, n_entries)), field.type)

        fields = [kind.field(name) for name in alias.fields]
        return kept, _struct(list(map(array, alias.fields.values(), fields)), fields, n_entries)

    def _counts(self, alias: RecordList, axis: Dim, blocks: Mapping[int, Block]) -> Lengths:
        if isinstance(axis, int):
            return axis
        for source in sources(alias.fields):
            if typed(self.survey, source).dims[:1] == (axis,):
                return blocks[id(source)].dims[0]
        raise AssertionError("the dimension of the entries is some field's first")

    def _records(self, members: tuple[Record | RecordList, ...], kind: pa.DataType) -> pa.Array:
        """Give the entries of several members, object by object; null where a field lacks."""
        parts: list[pa.Array] = []
        counts: list[NDArray[np.int64]] = []
        for member in members:
            if isinstance(member, RecordList):
                length, entries = self._record_list(member, kind)
            else:
                length, entries = 1, self._alias(member, kind)
            counts.append(np.broadcast_to(np.asarray(length, np.int64), (self.n,)))
            own = {entries.type.field(i).name for i in range(entries.type.num_fields)}
            arrays = [
                entries.field(field.name)
                if field.name in own
                else pa.nulls(len(entries), field.type)
                for field in kind
            ]
            parts.append(_struct(arrays, list(kind), len(entries)))
        table = np.stack(counts, axis=1)
        entries = pa.concat_arrays(parts)
        if self.n > 1:
            before = np.concatenate(([0], np.cumsum(table.sum(axis=0))[:-1]))
            starts = before + np.cumsum(table, axis=0) - table
            entries = entries.take(pa.array(ranges(starts.reshape(-1), table.reshape(-1))))
        return list_of(table.sum(axis=1), self.n, entries)

    def block(self, source: Any) -> Block:
        """Give the values of a source, one item per object or one for all."""
        match source:
            case str():
                return self._native(self.survey[source])
            case Constant():
                return _constant(source)
            case Stack(members):
                return _stack([self.block(member) for member in members], self.n)
            case Formula():
                return self._formula(source)
            case BadPixels(name):
                block = self._native(self.survey[name])
                bad = _bad(self.survey[name], source, block.values)
                return dataclasses.replace(block, values=bad)
        raise TypeError(f"a field cannot come from {source!r}")

    def _native(self, column: Column) -> Block:
        values = self.columns[column.name]
        if isinstance(values, Ragged):
            start, stop = int(values.offsets[0]), int(values.offsets[-1])
            dims = tuple(
                size if isinstance(size, int) else np.ascontiguousarray(values.shapes[:, axis])
                for axis, size in enumerate(column.shape)
            )
            return Block(self.n, values.values[start:stop].reshape(-1), dims)
        if column.shared:
            return Block(1, values.reshape(-1), values.shape, shared=True)
        return Block(self.n, values.reshape(-1), values.shape[1:])

    def _formula(self, source: Formula) -> Block:
        names = names_in(source.expression)
        dims = formula_dims(self.survey, source.expression)
        blocks = {name: self._native(self.survey[name]) for name in names}
        shared = all(block.shared for block in blocks.values())
        n = 1 if shared else self.n
        shape = next((b.dims for name, b in blocks.items() if self.survey[name].shape == dims), ())
        values = {
            name: _along(block, self.survey[name], dims, shape, n) for name, block in blocks.items()
        }
        result = evaluate(source.expression, values, source.dtype)
        flat = np.broadcast_to(result, (count_values(shape, n),))
        return Block(n, flat, shape, shared=shared)


def _struct(arrays: list[pa.Array], fields: list[pa.Field], n: int) -> pa.Array:
    assert all(len(array) == n for array in arrays), "one value of each field per record"
    return pa.StructArray.from_arrays(arrays, fields=fields)


def _as_type(array: pa.Array, kind: pa.DataType) -> pa.Array:
    return array if array.type == kind else array.cast(kind)


def _constant(source: Constant) -> Block:
    dtype = constant_dtype(source)
    several = isinstance(source.value, tuple)
    items = source.value if several else (source.value,)
    null = np.array([item is None for item in items])
    if dtype == "null":
        values = np.zeros(len(items), "V1")
    elif dtype == "string":
        texts = ["" if item is None else str(item).encode() for item in items]
        values = np.array(texts, f"S{max(1, *map(len, texts))}")
    else:
        values = np.array([0 if item is None else item for item in items], dtype)
    dims = (len(items),) if several else ()
    return Block(1, values, dims, null if null.any() else None, shared=True)


def _stack(members: list[Block], n: int) -> Block:
    k = len(members)
    if all(member.shared for member in members):
        values = np.concatenate([member.values for member in members])
        return Block(1, values, (k, *members[0].dims), shared=True)
    blocks = [member.spread(1, n) for member in members]
    dims, sizes = (k, *blocks[0].dims), blocks[0].sizes
    if isinstance(sizes, int):
        stacked = np.stack([block.values.reshape(n, sizes) for block in blocks], axis=1)
        return Block(n, stacked.reshape(-1), dims)
    starts = np.cumsum(sizes) - sizes
    before = np.cumsum([0, *(block.values.size for block in blocks)])[:-1]
    where = ranges((starts[:, None] + before).reshape(-1), np.repeat(sizes, k))
    return Block(n, np.concatenate([block.values for block in blocks])[where], dims)


def _bad(column: Column, source: BadPixels, values: NDArray[Any]) -> NDArray[np.bool_]:
    if values.dtype == bool:
        return np.asarray(~values if source.good else values)
    if not source.bits:
        return np.asarray(values != 0)
    unknown = [bit for bit in source.bits if bit not in column.bits]
    if unknown:
        raise SchemaError(
            column.name, f"the bits {', '.join(column.bits)}", f"bit {unknown[0]}", "an alias"
        )
    unsigned = values.view(values.dtype.str.replace("i", "u"))
    mask = unsigned.dtype.type(sum({1 << column.bits[bit] for bit in source.bits}))
    return np.asarray((unsigned & mask) != 0)


def _along(
    block: Block,
    column: Column,
    dims: tuple[Dim, ...],
    shape: tuple[Lengths, ...],
    n: int,
) -> NDArray[Any]:
    """
    Lay a column of a formula out value by value along the formula's dimensions.

    A column with fewer dimensions lies along the last ones, else along the first ones.
    """
    own = column.shape
    missing = len(dims) - len(own)
    if not missing:
        return block.spread(1, n).values
    if own and dims[missing:] == own and all(isinstance(size, int) for size in own):
        # A whole value repeats along the dimensions before its own.
        before = shape[:missing]
        return block.spread(product(before), count_values(before, n)).values
    if dims[: len(own)] == own:
        # Each of its values repeats along the dimensions after its own.
        full = block.spread(1, n)
        after = product(shape[len(own) :])
        if not isinstance(after, int):
            after = np.repeat(after, np.broadcast_to(np.asarray(full.sizes), (n,)))
        return np.repeat(full.values, after)
    raise SchemaError(column.name, f"dimensions among {dims}", f"{own}", "a formula")
