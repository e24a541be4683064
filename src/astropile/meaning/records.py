"""
The records a survey declares, and their values for some objects, field by field.

A wavelength that all objects share is one array here, not a copy for each spaxel.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astropile.arrow import Block
from astropile.schema import (
    BadPixels,
    Constant,
    Formula,
    Record,
    RecordList,
    Survey,
    column_names,
)
from astropile.view import Columns, source_block
from astropile.view_types import entry_dim, typed

VALUE_FIELDS = ("flux", "array", "data")
"""Names of the field that holds what was measured, in any record."""


@dataclass(frozen=True)
class Records:
    """
    A record, or list of records, as a survey declares it.

    Parameters
    ----------
    survey : Survey
        The resolved survey.
    name : str
        Its standard name; members of a mixed list are numbered.
    fields : mapping of str to source
        Fields to where their values come from; those of inner records under their own names.
    is_list : bool
        Whether an object has several, along the first axis of the values.
    where : str
        A boolean column: entries where it is False are left out.
    """

    survey: Survey
    name: str
    fields: Mapping[str, Any]
    is_list: bool = False
    where: str = ""

    @property
    def kind(self) -> str:
        """What it is by its fields: cube, spectrum, light curve, image or other."""
        fields = self.fields
        if "time" in fields:
            return "light curve"
        if "lambda" in fields:
            return "cube" if self.is_list and {"x", "y"} <= set(fields) else "spectrum"
        if "array" in fields or "data" in fields:
            return "image"
        return "other"

    @property
    def value_field(self) -> str:
        """The field that holds what was measured; empty if there is none."""
        return next((name for name in VALUE_FIELDS if name in self.fields), "")

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The native columns that the fields and the choice of entries are made of."""
        names = [name for source in self.fields.values() for name in column_names(source)]
        names += [name for name in (self.where, self.source_row) if name]
        return tuple(dict.fromkeys(names))

    @cached_property
    def source_row(self) -> str:
        """In a match packaged as a tree, the column that says which row of its source it is."""
        name = next((n for s in self.fields.values() for n in column_names(s) if "." in n), "")
        parts = name.split(".")
        for depth in range(len(parts) - 1, 0, -1):
            column = ".".join([*parts[: depth - 1], f"row_{parts[depth - 1]}"])
            if column in self.survey.column_names and self.survey[column].derived:
                return column
        return ""

    def typed(self, name: str) -> Any:
        """
        Give dtype, dimensions and unit of a field.

        Parameters
        ----------
        name : str
            The field.

        Returns
        -------
        Typed
            What its values are.
        """
        return typed(self.survey, self.fields[name], name)

    @cached_property
    def entry_size(self) -> Any:
        """The dimension that a list runs along; None where there is no list."""
        if not self.is_list:
            return None
        return entry_dim(self.survey, RecordList(dict(self.fields), self.where), self.name)


def records_of(survey: Survey) -> Iterator[Records]:
    """
    Find the records of a survey.

    Parameters
    ----------
    survey : Survey
        The resolved survey.

    Yields
    ------
    Records
        Each record and list of records of its aliases; members of a mixed list one by one.
    """
    for name, alias in survey.aliases.items():
        members = alias if isinstance(alias, tuple) else (alias,)
        for number, member in enumerate(members):
            if isinstance(member, Record | RecordList):
                is_list = isinstance(member, RecordList)
                where = member.where if isinstance(member, RecordList) else ""
                shown = f"{name}[{number}]" if len(members) > 1 else name
                yield Records(survey, shown, dict(_flat(member.fields)), is_list, where)


def _flat(fields: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, source in fields.items():
        if isinstance(source, Record):
            yield from _flat(source.fields)
        else:
            yield name, source


@dataclass(frozen=True)
class Part:
    """
    The values of a record for some objects.

    Parameters
    ----------
    records : Records
        Which record.
    columns : mapping of str to ndarray or Ragged
        Native columns, n objects each; shared ones once.
    n : int
        Number of objects.
    """

    records: Records
    columns: Columns
    n: int
    _blocks: dict[str, tuple[Block, NDArray[np.int64] | None]] = field(default_factory=dict)

    def entry(self, row: int) -> Entry:
        """
        Take one object.

        Parameters
        ----------
        row : int
            Its number among the objects at hand.

        Returns
        -------
        Entry
            Its fields.
        """
        return Entry(self, row)

    def value(self, source: Any, key: str, row: int) -> NDArray[Any]:
        """
        Give the value of a source for one of the objects at hand.

        Parameters
        ----------
        source : source
            Any source of a field.
        key : str
            Under what name to keep the values of all of them.
        row : int
            Which object.

        Returns
        -------
        ndarray
            The value, in its own shape.
        """
        if key not in self._blocks:
            with np.errstate(all="ignore"):
                block = source_block(self.records.survey, self.columns, self.n, source)
            sizes = block.sizes
            starts = None if isinstance(sizes, int) else np.concatenate(([0], np.cumsum(sizes)))
            self._blocks[key] = block, starts
        return item(*self._blocks[key], row)


class Entry:
    """
    The fields of one object's record; of a list, with the entries on the first axis.

    Parameters
    ----------
    part : Part
        The objects at hand.
    row : int
        Which of them.
    """

    def __init__(self, part: Part, row: int) -> None:
        self._part, self._row = part, row
        self.records = part.records

    def __contains__(self, name: str) -> bool:
        return name in self.records.fields

    def get(self, name: str) -> NDArray[Any] | None:
        """
        Give a field's value as it is declared.

        Parameters
        ----------
        name : str
            The field.

        Returns
        -------
        ndarray or None
            Its value: in a list with the entries on axis 0 where it has that axis; one value
            for all of them otherwise. None if there is no such field.
        """
        source = self.records.fields.get(name)
        if source is None or (isinstance(source, Constant) and source.value is None):
            return None
        values = self._part.value(source, name, self._row)
        keep = self._keep
        if keep is not None and values.ndim and len(values) == len(keep) and self._own_axis(name):
            values = values[keep]
        return values

    @property
    def source_row(self) -> int:
        """Which row of its source the object is, in a match packaged as a tree; else -1."""
        name = self.records.source_row
        return int(self._part.value(name, ":source", self._row)) if name else -1

    def like(self, name: str, values: NDArray[Any]) -> NDArray[Any] | None:
        """
        Give a field's value in the shape of another's.

        Parameters
        ----------
        name : str
            The field.
        values : ndarray
            The other's value, as `get` gives it.

        Returns
        -------
        ndarray or None
            The value, repeated along the axes it lacks; None if there is none of that shape.
        """
        found = self.get(name)
        if found is None:
            return None
        if found.ndim < values.ndim and found.shape == values.shape[: found.ndim]:
            found = found.reshape(found.shape + (1,) * (values.ndim - found.ndim))
        try:
            return np.broadcast_to(found, values.shape)
        except ValueError:
            return None

    def _own_axis(self, name: str) -> bool:
        dims = self.records.typed(name).dims
        return bool(dims) and dims[0] == self.records.entry_size

    @cached_property
    def _keep(self) -> NDArray[np.bool_] | None:
        if not self.records.where:
            return None
        return self._part.value(self.records.where, ":where", self._row).astype(bool)


def item(block: Block, starts: NDArray[np.int64] | None, row: int) -> NDArray[Any]:
    """
    Take one item of a block.

    Parameters
    ----------
    block : Block
        Values of some objects.
    starts : ndarray or None
        Where each item starts, and where the last ends; None where all are of one size.
    row : int
        Which object; of a shared block all have the same.

    Returns
    -------
    ndarray
        Its value, in its own shape.
    """
    if block.shared:
        row = 0
    shape = tuple(dim if isinstance(dim, int) else int(dim[row]) for dim in block.dims)
    size = math.prod(shape)
    start = row * size if starts is None else int(starts[row])
    return np.asarray(block.values[start : start + size]).reshape(shape)


def bits_column(source: Any) -> str:
    """
    Name the column that a mask is made of.

    Parameters
    ----------
    source : source
        A mask's source.

    Returns
    -------
    str
        The one native column it comes from; empty if it comes from several.
    """
    if isinstance(source, BadPixels):
        return source.column
    if isinstance(source, Formula):
        return ""
    names = column_names(source)
    return names[0] if len(names) == 1 else ""
