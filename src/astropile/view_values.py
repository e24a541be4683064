"""
The standard view as numpy values, row by row, without an Arrow table in between.

Gives what `astropile.arrow.to_numpy` gives of the columns of `standard_table`. Numbers and arrays
of one shape, and records of them, are what almost every row is made of: they come straight from
the native columns. The rest (text of the survey, what varies in more than one dimension or may be
missing, lists of no fixed length) goes through the table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astropile.arrow import Block, to_numpy
from astropile.names import COMMON_COLUMNS, PROVENANCE
from astropile.schema import Constant, Record, RecordList, Survey
from astropile.view import BySurvey, Columns, source_block, standard_table
from astropile.view_types import Leaf, ListOf, Node, Struct, entry_dim, typed, view_type


class _ThroughTableError(Exception):
    """These values are not made here."""


def standard_values(
    survey: Survey, columns: Columns, n: int, names: Sequence[str]
) -> dict[str, NDArray[Any] | list[Any]]:
    """
    Make values of the standard view.

    Parameters
    ----------
    survey : Survey
        The resolved survey.
    columns : mapping of str to ndarray or Ragged
        At least what `columns_needed` lists, n objects each; a shared column once.
    n : int
        Number of objects.
    names : sequence of str
        The fields wanted.

    Returns
    -------
    dict of str to ndarray or list
        One value per object: an array where each is one number, else a list of arrays, dicts
        for records, lists of dicts, str; None where there is none. Arrays are read-only and lie
        over the memory of `columns`.

    Raises
    ------
    UnknownColumnError
        If a name is not known.
    FormatError
        If text in a column is not UTF-8.
    """
    types = _types(BySurvey(survey), tuple(names))
    made = _Values(survey, columns, n)
    found: dict[str, NDArray[Any] | list[Any]] = {}
    for name, node in types.items():
        try:
            found[name] = made.field(name, node)
        except _ThroughTableError:
            table = standard_table(survey, columns, n, [name])
            found[name] = to_numpy(table.column(0))
    return found


@lru_cache(maxsize=64)
def _types(survey: BySurvey, names: tuple[str, ...]) -> Mapping[str, Node]:
    return view_type(survey.survey, names)


@dataclass(frozen=True)
class _Values:
    """Some objects of a survey in native columns."""

    survey: Survey
    columns: Columns
    n: int

    def field(self, name: str, node: Node) -> NDArray[Any] | list[Any]:
        """Give one field of the view."""
        if name == PROVENANCE:
            return [dict(self.survey.provenance) for _ in range(self.n)]
        if name in COMMON_COLUMNS:
            values = np.asarray(self.columns[name])
            return self._leaf(Block(self.n, values), _as_leaf(node))
        return self._alias(self.survey.aliases.get(name, name), node)

    def _alias(self, alias: Any, node: Node) -> NDArray[Any] | list[Any]:
        match alias, node:
            case Record(fields), Struct(inner):
                values = {f: self._alias(source, inner[f]) for f, source in fields.items()}
                return _records(values, self.n)
            case RecordList(), ListOf(Struct() as item):
                axis = entry_dim(self.survey, alias, "")
                if alias.where or not isinstance(axis, int):
                    raise _ThroughTableError
                return [list(row) for row in self._entries(alias.fields, item, axis)]
            case Constant(str(text)), Leaf("string"):
                return [text] * self.n
            case (tuple(), _):
                raise _ThroughTableError
        return self._leaf(self._block(alias), _as_leaf(node))

    def _block(self, source: Any) -> Block:
        return source_block(self.survey, self.columns, self.n, source)

    def _leaf(self, block: Block, leaf: Leaf) -> NDArray[Any] | list[Any]:
        """Give the values of a block, one item per object."""
        if not _is_plain(block, leaf):
            raise _ThroughTableError
        values = _read_only(block.values)
        if all(isinstance(dim, int) for dim in block.dims):
            items = values.reshape(block.n, *block.dims)
            if block.shared:
                items = np.broadcast_to(items, (self.n, *items.shape[1:]))
            return list(items) if block.dims else items
        if block.shared or len(block.dims) > 1:
            raise _ThroughTableError
        edges = np.concatenate(([0], np.cumsum(block.sizes))).tolist()
        return [values[start:stop] for start, stop in pairwise(edges)]

    def _entries(
        self, fields: Mapping[str, Any], item: Struct, axis: int
    ) -> Iterator[list[dict[str, Any]]]:
        """Give the entries of each object, of which each has as many."""
        values = {
            field: self._of_entries(source, item.fields[field], axis)
            for field, source in fields.items()
        }
        for row in range(self.n):
            yield _records({field: of_rows[row] for field, of_rows in values.items()}, axis)

    def _of_entries(self, source: Any, node: Node, axis: int) -> Sequence[Sequence[Any]]:
        """Give one field of the entries: for each object, a value for each entry."""
        if isinstance(source, Record) and isinstance(node, Struct):
            return list(self._entries(source.fields, node, axis))
        leaf = _as_leaf(node)
        along = typed(self.survey, source).dims[:1] == (axis,)
        if leaf.dtype == "string" and isinstance(source, Constant):
            texts = source.value if isinstance(source.value, tuple) else (source.value,) * axis
            if len(texts) != axis or not all(isinstance(text, str) for text in texts):
                raise _ThroughTableError
            return [texts] * self.n
        block = self._block(source)
        if not _is_plain(block, leaf) or not all(isinstance(dim, int) for dim in block.dims):
            raise _ThroughTableError
        values = _read_only(block.values).reshape(block.n, *block.dims)
        of_rows: list[list[Any]] = (
            [list(value) for value in values] if along else [[value] * axis for value in values]
        )
        return of_rows * self.n if block.shared else of_rows


def _as_leaf(node: Node) -> Leaf:
    if not isinstance(node, Leaf):
        raise _ThroughTableError
    return node


def _is_plain(block: Block, leaf: Leaf) -> bool:
    """Tell whether items are numbers of the field's dtype, none missing, no dimension of 0."""
    return (
        leaf.dtype not in ("string", "null")
        and block.null is None
        and block.values.dtype == np.dtype(leaf.dtype)
        and not any(isinstance(dim, int) and dim == 0 for dim in block.dims)
    )


def _read_only(values: NDArray[Any]) -> NDArray[Any]:
    """Give the same memory, not to be written to: several fields may show it."""
    view = values.view()
    view.flags.writeable = False
    return view


def _records(values: Mapping[str, Any], n: int) -> list[dict[str, Any]]:
    """Make a record for each of n values."""
    if not values:
        return [{} for _ in range(n)]
    names = tuple(values)
    return [dict(zip(names, row, strict=True)) for row in zip(*values.values(), strict=True)]
