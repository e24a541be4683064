"""
What a survey is: columns, standard names, facts. Values only; opens no file.

A `Survey` is one release of one project, written down once. The writer, the validator, the
Hugging Face features and the survey's page are all made from it, and it is stored in every
tree, so that a tree is read by what it says of itself.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from astropile.names import REQUIRED_ALIASES, RESERVED_NAMES

Batch: TypeAlias = "Mapping[str, Any]"
"""Native column name to values, objects on axis 0.

A fixed column comes as one array, shape ``(n, *shape)``. A ragged column comes as a sequence
of n arrays, one per object. A shared column comes as one array without the object axis.
"""

_DTYPE = re.compile(r"bool|u?int(8|16|32|64)|float(32|64)|S[1-9][0-9]*")
_COLUMN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,254}")
_DIM = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class Column:
    """
    One native column: as the survey publishes it, or derived and said so.

    Parameters
    ----------
    name : str
        The survey's own name.
    dtype : str
        ``bool``, ``int8`` to ``uint64``, ``float32``, ``float64`` or ``S<n>`` (bytes, UTF-8).
    doc : str
        What it is. For a derived column, how it was made.
    shape : tuple of int or str
        Shape of one object's value. A str names a dimension: one that a shared column has, or
        that `Survey.dims` lists, is the same throughout a tree and fixed by the first batch;
        any other is *ragged*: its length varies from object to object.
    unit : str
        What `astropy.units.Unit` parses; empty for a number without unit.
    shared : bool
        Stored once for the whole tree: every object has the same value (a wavelength grid).
    derived : bool
        Made while building, not found in the survey's files.
    bits : mapping of str to int
        For a bit mask, the number of each named bit.
    light : bool or None
        Whether the catalogue beside the data holds it too; None: if it is one number or string.

    Raises
    ------
    ValueError
        If a fact is not of its form.

    Examples
    --------
    >>> Column("FLUX", "float32", "Flux density.", shape=(7781,), unit="Jy").shape
    (7781,)
    """

    name: str
    dtype: str
    doc: str
    shape: tuple[int | str, ...] = ()
    unit: str = ""
    shared: bool = False
    derived: bool = False
    bits: Mapping[str, int] = field(default_factory=dict)
    light: bool | None = None

    def __post_init__(self) -> None:
        if not _COLUMN_NAME.fullmatch(self.name):
            raise ValueError(
                f"a column is named with letters, digits and _ . + -, not {self.name!r}"
            )
        if not _DTYPE.fullmatch(self.dtype):
            raise ValueError(f"column {self.name!r}: {self.dtype!r} is not among the dtypes stored")
        if not self.doc.strip():
            raise ValueError(f"column {self.name!r} has no doc")
        for size in self.shape:
            good = _DIM.fullmatch(size) if isinstance(size, str) else size > 0
            if not good:
                raise ValueError(
                    f"column {self.name!r}: {size!r} is neither a length nor a dimension's name"
                )
        if self.bits and not self.dtype.startswith(("int", "uint")):
            raise ValueError(f"column {self.name!r}: only an integer has bits, not {self.dtype}")
        if self.light and self.shape:
            raise ValueError(f"column {self.name!r}: only one number or string each is light")
        object.__setattr__(self, "bits", MappingProxyType(dict(self.bits)))

    @property
    def is_light(self) -> bool:
        """Whether the catalogue holds the column too."""
        return (not self.shape and not self.shared) if self.light is None else self.light

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        """The dtype on disk, little-endian."""
        return np.dtype(self.dtype).newbyteorder("<")

    def __reduce__(self) -> tuple[Any, ...]:
        # A mappingproxy does not pickle.
        values = tuple(getattr(self, f.name) for f in dataclasses.fields(self))
        return (type(self), (*values[:7], dict(self.bits), self.light))


# --------------------------------------------------------------------------------------
# Where the value of a standard field comes from


@dataclass(frozen=True)
class Constant:
    """
    The same value for every object.

    Parameters
    ----------
    value : str, int, float, bool, None or tuple of these
        The value; in a `RecordList`, a tuple gives one value per entry.
    dtype : str
        Dtype of a number; by default ``float32``, ``int64``, ``bool`` or a string by its type.
    """

    value: Any
    dtype: str = ""


@dataclass(frozen=True)
class Stack:
    """
    Several columns of equal shape side by side, along a new axis after the object's.

    Parameters
    ----------
    columns : tuple of str or Formula
        What is stacked, in order. For a `RecordList`: one per entry.
    """

    columns: tuple[str | Formula, ...]


@dataclass(frozen=True)
class Formula:
    """
    Arithmetic on columns, element by element.

    Parameters
    ----------
    expression : str
        Column names, numbers, ``+ - * / **``, parentheses, comparisons and the functions
        of `astropile.formula`. Dots in a column's name are allowed.
    dtype : str
        Dtype of the result.
    unit : str
        Unit of the result.
    doc : str
        What it is.

    Examples
    --------
    >>> Formula("i_cmodel_mag - a_i", unit="mag", doc="Dereddened i magnitude.").dtype
    'float32'
    """

    expression: str
    dtype: str = "float32"
    unit: str = ""
    doc: str = ""

    def __post_init__(self) -> None:
        from astropile.formula import names_in

        names_in(self.expression)
        if self.dtype not in ("float32", "float64", "bool"):
            raise ValueError(
                f"formula {self.expression!r}: a result may be NaN, so its dtype is float32, "
                f"float64 or bool, not {self.dtype!r}"
            )


@dataclass(frozen=True)
class BadPixels:
    """
    A mask in the one polarity of the standard view: True is bad.

    Parameters
    ----------
    column : str
        An integer column with named bits, or a boolean one.
    bits : tuple of str
        The bits that make a pixel bad; empty: any bit at all.
    good : bool
        For a boolean column: True in the column means good.
    """

    column: str
    bits: tuple[str, ...] = ()
    good: bool = False


Source: TypeAlias = str | Constant | Stack | Formula | BadPixels


@dataclass(frozen=True)
class Record:
    """
    One record per object.

    Parameters
    ----------
    fields : mapping of str to str, Constant, Stack, Formula, BadPixels or Record
        Standard field to where its value comes from; a str names a native column.
    """

    fields: Mapping[str, Source | Record]

    def __post_init__(self) -> None:
        _check_fields(self.fields)
        object.__setattr__(self, "fields", MappingProxyType(dict(self.fields)))

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (dict(self.fields),))


@dataclass(frozen=True)
class RecordList:
    """
    A list of records per object: one per entry of the columns' first own axis.

    Bands of an image, spaxels of a cube. All its columns have that axis, of the same length;
    it may be ragged.

    Parameters
    ----------
    fields : mapping of str to str, Constant, Stack, Formula, BadPixels or Record
        Standard field to where its value comes from; a str names a native column.
    where : str
        A boolean column along the axis: entries where it is False are left out.
    """

    fields: Mapping[str, Source | Record]
    where: str = ""

    def __post_init__(self) -> None:
        _check_fields(self.fields)
        object.__setattr__(self, "fields", MappingProxyType(dict(self.fields)))

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (dict(self.fields), self.where))


Alias: TypeAlias = Source | Record | RecordList | tuple[Record | RecordList, ...]
"""A tuple is one list per object: its members' records one after another, with the union of
their fields; a `Record` in it gives one entry. A field that a member lacks is null there."""


def _check_fields(fields: Mapping[str, Any]) -> None:
    if not fields:
        raise ValueError("a record has at least one field")
    for name, source in fields.items():
        if not isinstance(source, str | Constant | Stack | Formula | BadPixels | Record):
            raise TypeError(f"field {name!r} cannot come from {source!r}")


def column_names(source: Any) -> tuple[str, ...]:
    """
    List the native columns a source is made of, in order, each once.

    Parameters
    ----------
    source : str, Constant, Stack, Formula, BadPixels, Record, RecordList or tuple
        Any alias.

    Returns
    -------
    tuple of str
        Native column names.

    Examples
    --------
    >>> column_names(Record({"mag": Formula("forced.i_mag - a_i"), "z": "Z"}))
    ('forced.i_mag', 'a_i', 'Z')
    """
    return tuple(dict.fromkeys(_walk_columns(source)))


def _walk_columns(source: Any) -> Iterator[str]:
    match source:
        case str():
            yield source
        case Stack(columns):
            for column in columns:
                yield from _walk_columns(column)
        case Formula(expression):
            from astropile.formula import names_in

            yield from names_in(expression)
        case BadPixels(column):
            yield column
        case Record(fields):
            for value in fields.values():
                yield from _walk_columns(value)
        case RecordList(fields, where):
            for value in fields.values():
                yield from _walk_columns(value)
            if where:
                yield where
        case tuple():
            for member in source:
                yield from _walk_columns(member)


# --------------------------------------------------------------------------------------
# Survey


@dataclass(frozen=True)
class Unit:
    """
    One piece of native input: what is read, retried and reported as a whole.

    Parameters
    ----------
    key : str
        Name of the piece, the same on every machine, unique in a build: usually the file's
        path under the native folder.
    paths : tuple of Path
        The files it is read from.
    options : mapping
        Whatever else `Survey.read` needs for it (a row range, a tract and patch).
    """

    key: str
    paths: tuple[Path, ...]
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Rejected:
    """
    An object that was not taken, and why.

    Parameters
    ----------
    key : str
        The object's identifier where it is known, else the file's name.
    reason : str
        One sentence, the same for like cases, without the object's values.
    count : int
        How many objects it stands for.
    fault : bool
        False for what was left out on purpose (a sky fibre, a cut): only faults count against
        a build's tolerance.
    """

    key: str
    reason: str
    count: int = 1
    fault: bool = True

    def __post_init__(self) -> None:
        # An identifier often comes as numpy or FITS gives it.
        key = self.key.decode("utf-8", "replace") if isinstance(self.key, bytes) else str(self.key)
        object.__setattr__(self, "key", key)
        object.__setattr__(self, "count", int(self.count))
        if self.count < 1:
            raise ValueError(f"a rejection stands for at least one object, not {self.count}")


def _no_units(native_path: Path) -> Iterable[Unit]:
    raise NotImplementedError(f"this survey value cannot read {native_path}: it came from a tree")


def _no_read(unit: Unit) -> Iterable[Batch | Rejected]:
    raise NotImplementedError(f"this survey value cannot read {unit.key}: it came from a tree")


@dataclass(frozen=True)
class Survey:
    """
    One release of one project, in one value.

    Parameters
    ----------
    name : str
        Short name, also that of the data folder: ``hsc``.
    project, survey, release : str
        Provenance of every example: ``HSC-SSP``, ``HSC``, ``PDR3``.
    subset : str
        Default name of the subset folder (Hugging Face's config name).
    title, description, homepage, citation, acknowledgement : str
        For the survey's page and the dataset card. `citation` is BibTeX or a plain reference.
    licence : str
        SPDX identifier or terms; ``unknown`` where the survey states none.
    columns : tuple of Column
        The native columns.
    aliases : mapping
        Standard name to where it comes from. ``object_id``, ``observation_id``, ``ra`` and
        ``dec`` name one native column each.
    units : callable
        ``units(native_path)`` lists the pieces of input in a stable order.
    read : callable
        ``read(unit)`` gives batches in native names and units, and `Rejected` objects.
    dims : tuple of str
        Dimensions that are the same throughout a tree but not fixed by the survey.
    epoch : float or None
        Julian year the positions are given for; None if it varies or is unknown.
    frame : str
        Frame of the positions.
    wavelength_medium : str
        ``vacuum``, ``air`` or empty.
    wavelength_frame : str
        ``observed``, ``barycentric``, ``heliocentric``, ``rest`` or empty.
    time_scale : str
        Scale and zero point of times, or empty.

    Raises
    ------
    ValueError
        If a name is missing, doubled or unknown.
    """

    name: str
    project: str
    survey: str
    release: str
    subset: str
    title: str
    description: str
    homepage: str
    citation: str
    licence: str
    columns: tuple[Column, ...]
    aliases: Mapping[str, Alias]
    units: Callable[[Path], Iterable[Unit]] = _no_units
    read: Callable[[Unit], Iterable[Batch | Rejected]] = _no_read
    acknowledgement: str = ""
    dims: tuple[str, ...] = ()
    epoch: float | None = None
    frame: str = "ICRS"
    wavelength_medium: str = ""
    wavelength_frame: str = ""
    time_scale: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "aliases", MappingProxyType(dict(self.aliases)))
        names = [column.name for column in self.columns]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise ValueError(f"survey {self.name!r} declares twice: {', '.join(doubled)}")
        for alias in REQUIRED_ALIASES:
            target = self.aliases.get(alias)
            if not isinstance(target, str) or target not in names:
                raise ValueError(f"survey {self.name!r}: alias {alias!r} must name one column")
        for alias, source in self.aliases.items():
            unknown = [name for name in column_names(source) if name not in names]
            if unknown:
                raise ValueError(
                    f"survey {self.name!r}: alias {alias!r} names columns that are not declared: "
                    f"{', '.join(unknown)}"
                )
            if alias in names and source != alias:
                raise ValueError(
                    f"survey {self.name!r}: {alias!r} is a native column and an alias for another"
                )
        for column in self.columns:
            if column.shared and self.ragged_dims(column):
                raise ValueError(f"survey {self.name!r}: shared column {column.name!r} is ragged")
            if column.name in {"ra", "dec"} and column.dtype != "float64":
                raise ValueError(
                    f"survey {self.name!r}: a column named {column.name!r} is float64, the common "
                    f"column, not {column.dtype}"
                )
            if column.name in RESERVED_NAMES:
                raise ValueError(f"survey {self.name!r}: a column cannot be named {column.name!r}")
        for alias in REQUIRED_ALIASES:
            column = self[str(self.aliases[alias])]
            if column.shape or column.shared:
                raise ValueError(
                    f"survey {self.name!r}: {alias!r} is one value for each object, but column "
                    f"{column.name!r} is not"
                )
        for alias in ("ra", "dec"):
            column = self[str(self.aliases[alias])]
            if not column.dtype.startswith("float") or column.unit != "deg":
                raise ValueError(
                    f"survey {self.name!r}: {alias!r} is a float in deg, but column "
                    f"{column.name!r} is {column.dtype} in {column.unit!r}; convert it in `read` "
                    "into a derived column"
                )
        if self.frame != "ICRS":
            raise ValueError(
                f"survey {self.name!r}: the positions that ra and dec name are ICRS, not "
                f"{self.frame!r}; convert them in `read` into derived columns"
            )
        stored = {f"{name}.offsets" for name in self._ragged_groups()}
        stored |= {f"{name}.shape" for name in self._ragged_groups()}
        taken = sorted(stored & set(names))
        if taken:
            raise ValueError(
                f"survey {self.name!r}: {taken[0]!r} is the name of a ragged dimension's offsets"
            )
        for alias in ("object_id", "observation_id"):
            dtype = self[str(self.aliases[alias])].dtype
            if not dtype.startswith(("int", "uint", "S")):
                raise ValueError(
                    f"survey {self.name!r}: {alias!r} is an integer or a string, not {dtype}"
                )

    def __getitem__(self, name: str) -> Column:
        column = self._by_name.get(name)
        if column is None:
            from astropile.errors import UnknownColumnError

            raise UnknownColumnError(name, f"survey {self.name}", self.column_names)
        return column

    def __reduce__(self) -> tuple[Any, ...]:
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        values["aliases"] = dict(self.aliases)
        return (_make_survey, (values,))

    @cached_property
    def _by_name(self) -> dict[str, Column]:
        return {column.name: column for column in self.columns}

    @cached_property
    def column_names(self) -> tuple[str, ...]:
        """Names of the native columns, in order."""
        return tuple(column.name for column in self.columns)

    @property
    def provenance(self) -> dict[str, str]:
        """What every example carries as ``provenance``."""
        return {"project": self.project, "survey": self.survey, "release": self.release}

    @cached_property
    def tree_dims(self) -> tuple[str, ...]:
        """Names of the dimensions that are the same throughout a tree."""
        shared = (
            size
            for column in self.columns
            if column.shared
            for size in column.shape
            if isinstance(size, str)
        )
        return tuple(dict.fromkeys((*self.dims, *shared)))

    def ragged_dims(self, column: Column) -> tuple[str, ...]:
        """
        Name the dimensions of a column that vary from object to object.

        Parameters
        ----------
        column : Column
            One of the survey's columns.

        Returns
        -------
        tuple of str
            Their names, in the order of the column's shape; empty for a fixed column.
        """
        fixed = self.tree_dims
        return tuple(size for size in column.shape if isinstance(size, str) and size not in fixed)

    def _ragged_groups(self) -> set[str]:
        return {".".join(self.ragged_dims(column)) for column in self.columns} - {""}

    def resolve(self, sizes: Mapping[str, int]) -> Survey:
        """
        Put numbers in place of the dimensions that are the same throughout a tree.

        Parameters
        ----------
        sizes : mapping of str to int
            Length of each of `tree_dims`.

        Returns
        -------
        Survey
            The survey with those lengths in its columns' shapes.
        """
        columns = tuple(
            dataclasses.replace(
                column,
                shape=tuple(
                    sizes.get(size, size) if isinstance(size, str) else size
                    for size in column.shape
                ),
            )
            for column in self.columns
        )
        return dataclasses.replace(self, columns=columns, dims=())


def _make_survey(values: dict[str, Any]) -> Survey:
    return Survey(**values)


def row_nbytes(column: Column) -> int:
    """
    Count the bytes of one object's value in a fixed column.

    Parameters
    ----------
    column : Column
        A column whose shape is all numbers.

    Returns
    -------
    int
        Its size in memory.
    """
    sizes = [size for size in column.shape if isinstance(size, int)]
    return column.numpy_dtype.itemsize * math.prod(sizes)


# --------------------------------------------------------------------------------------
# Ragged values


class Ragged:
    """
    Values of a ragged column: one array per object, of shapes that differ.

    Parameters
    ----------
    values : ndarray
        All objects' values one after another. With one ragged dimension, first in the shape,
        shape ``(total, *fixed)``; otherwise flat, each object in C order.
    offsets : ndarray, shape (n + 1,), int64
        Where each object starts in `values`, along its axis 0.
    shapes : ndarray, shape (n, ndim), int64
        Shape of each object's value.

    Examples
    --------
    >>> ragged = Ragged.of([np.arange(2.0), np.arange(3.0)])
    >>> len(ragged), ragged[1]
    (2, array([0., 1., 2.]))
    """

    __slots__ = ("offsets", "shapes", "values")

    def __init__(
        self, values: NDArray[Any], offsets: NDArray[np.int64], shapes: NDArray[np.int64]
    ) -> None:
        self.values, self.offsets, self.shapes = values, offsets, shapes

    @classmethod
    def of(cls, arrays: Iterable[NDArray[Any]], *, flat: bool = False) -> Ragged:
        """
        Put arrays one after another.

        Parameters
        ----------
        arrays : iterable of ndarray
            One per object, at least one; of one dtype and number of axes.
        flat : bool
            Lay each out flat in C order rather than along axis 0.

        Returns
        -------
        Ragged
            The same values.
        """
        items = [np.asarray(array) for array in arrays]
        shapes = np.array([item.shape for item in items], dtype=np.int64)
        parts = [item.reshape(-1) for item in items] if flat else items
        lengths = np.array([len(part) for part in parts], dtype=np.int64)
        offsets = np.concatenate(([0], np.cumsum(lengths)))
        return cls(np.concatenate(parts), offsets, shapes)

    @classmethod
    def join(cls, parts: Sequence[Ragged]) -> Ragged:
        """
        Put ragged values one after another.

        Parameters
        ----------
        parts : sequence of Ragged
            At least one; all laid out alike.

        Returns
        -------
        Ragged
            The objects of all of them.
        """
        if len(parts) == 1:
            return parts[0]
        lengths = np.concatenate([np.diff(part.offsets) for part in parts])
        return cls(
            np.concatenate([part.values for part in parts]),
            np.concatenate(([0], np.cumsum(lengths))),
            np.concatenate([part.shapes for part in parts]),
        )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> NDArray[Any]:
        if not -len(self) <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        row %= len(self)
        part = self.values[self.offsets[row] : self.offsets[row + 1]]
        return part.reshape(tuple(self.shapes[row]))

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return (self[row] for row in range(len(self)))

    def __repr__(self) -> str:
        return f"Ragged({len(self)} objects, {self.values.dtype}, {self.values.shape})"
