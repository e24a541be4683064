"""
Names and types of the standard view: what a survey's records look like, without any values.

A survey declares native columns and aliases; here these become a small tree of types, from
which Arrow schemas and Hugging Face features are made, and the list of native columns that a
standard name needs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from astropile.errors import SchemaError, UnknownColumnError
from astropile.formula import names_in
from astropile.names import COMMON_COLUMNS, FIELD_UNITS, PROVENANCE, REQUIRED_ALIASES
from astropile.schema import (
    BadPixels,
    Constant,
    Formula,
    Record,
    RecordList,
    Stack,
    Survey,
    column_names,
)

# --------------------------------------------------------------------------------------
# Types


@dataclass(frozen=True)
class Leaf:
    """
    A number, boolean, string, or an array of them.

    Parameters
    ----------
    dtype : str
        ``bool``, ``int8`` to ``uint64``, ``float32``, ``float64``, ``string`` or ``null``.
    shape : tuple of int or None
        Shape of the value; None where it varies.
    unit : str
        Unit, empty for none.
    nullable : bool
        Whether the value may be missing.
    """

    dtype: str
    shape: tuple[int | None, ...] = ()
    unit: str = ""
    nullable: bool = False


@dataclass(frozen=True)
class Struct:
    """
    A record.

    Parameters
    ----------
    fields : mapping of str to Leaf, Struct or ListOf
        Its fields, in order.
    """

    fields: Mapping[str, Node]

    def __post_init__(self) -> None:
        object.__setattr__(self, "fields", MappingProxyType(dict(self.fields)))

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (dict(self.fields),))


@dataclass(frozen=True)
class ListOf:
    """
    A list of records, of any length.

    Parameters
    ----------
    item : Leaf, Struct or ListOf
        What it lists.
    """

    item: Node


Node: TypeAlias = Leaf | Struct | ListOf

Dim: TypeAlias = int | str


@dataclass(frozen=True)
class Typed:
    """Dtype and declared dimensions of a source, names standing for lengths that vary."""

    dtype: str
    dims: tuple[Dim, ...] = ()
    unit: str = ""


def view_type(survey: Survey, names: Iterable[str] | None = None) -> dict[str, Node]:
    """
    Give the type of every field of the standard view.

    Parameters
    ----------
    survey : Survey
        A resolved survey: dimensions that are the same throughout the tree are numbers.
    names : iterable of str, optional
        The fields wanted, in this order; by default all. A native column that an alias
        already shows can be asked for by its own name too.

    Returns
    -------
    dict of str to Leaf, Struct or ListOf
        ``provenance``, ``object_id``, ``observation_id``, ``ra``, ``dec``, ``healpix``, the
        survey's other aliases, then the native columns that no alias shows.

    Raises
    ------
    UnknownColumnError
        If a name is neither.
    """
    return {name: _node_of(survey, name) for name in check_names(survey, names)}


def view_names(survey: Survey) -> tuple[str, ...]:
    """
    Name every field of the standard view, in order.

    Parameters
    ----------
    survey : Survey
        The survey.

    Returns
    -------
    tuple of str
        The keys of `view_type`.
    """
    names = dict.fromkeys((PROVENANCE, *COMMON_COLUMNS, *survey.aliases))
    shown = {name for alias in survey.aliases.values() for name in _verbatim(alias)}
    names.update(dict.fromkeys(name for name in survey.column_names if name not in shown))
    return tuple(names)


def columns_needed(survey: Survey, names: Iterable[str] | None = None) -> tuple[str, ...]:
    """
    List the native and common columns that standard names are made of.

    Parameters
    ----------
    survey : Survey
        The survey.
    names : iterable of str, optional
        Standard names; by default all.

    Returns
    -------
    tuple of str
        What to read, each once.

    Raises
    ------
    UnknownColumnError
        If a name is neither a standard one nor a native column.
    """
    found: dict[str, None] = {}
    for name in check_names(survey, names):
        if name in COMMON_COLUMNS:
            found.setdefault(name)
        elif name in survey.aliases:
            found.update(dict.fromkeys(column_names(survey.aliases[name])))
        elif name != PROVENANCE:
            found.setdefault(name)
    return tuple(found)


def _verbatim(source: Any) -> Iterator[str]:
    """Columns that a source shows as they are."""
    match source:
        case str():
            yield source
        case Stack(columns):
            yield from (column for column in columns if isinstance(column, str))
        case Record(fields) | RecordList(fields):
            for value in fields.values():
                yield from _verbatim(value)
        case tuple():
            for member in source:
                yield from _verbatim(member)


def check_names(survey: Survey, names: Iterable[str] | None) -> tuple[str, ...]:
    """
    Return the names asked for, each once, if all of them are known.

    Parameters
    ----------
    survey : Survey
        The survey.
    names : iterable of str or None
        Standard names or native columns; None: all of `view_names`.

    Returns
    -------
    tuple of str
        The names.

    Raises
    ------
    UnknownColumnError
        At the first that is neither.
    """
    standard = view_names(survey)
    if names is None:
        return standard
    wanted = tuple(dict.fromkeys([names] if isinstance(names, str) else names))
    known = dict.fromkeys((*standard, *survey.column_names))
    for name in wanted:
        if name not in known:
            raise UnknownColumnError(name, f"survey {survey.name}", tuple(known))
    return wanted


def _node_of(survey: Survey, name: str) -> Node:
    if name == PROVENANCE:
        return Struct({field: Leaf("string") for field in survey.provenance})
    if name in ("ra", "dec"):
        return Leaf("float64", unit="deg")
    if name == "healpix":
        return Leaf("int64")
    if name in REQUIRED_ALIASES:
        return _leaf(survey, survey.aliases[name], name)
    return _alias_node(survey, survey.aliases.get(name, name), name)


def _alias_node(survey: Survey, alias: Any, name: str) -> Node:
    match alias:
        case Record(fields):
            return Struct({f: _alias_node(survey, source, f) for f, source in fields.items()})
        case RecordList():
            return ListOf(_entry_struct(survey, alias, name))
        case tuple():
            structs = [
                _entry_struct(survey, member, name)
                if isinstance(member, RecordList)
                else _record_struct(survey, member)
                for member in alias
            ]
            return ListOf(_union(structs, f"{survey.name}: {name}"))
    return _leaf(survey, alias, name)


def _record_struct(survey: Survey, record: Record) -> Struct:
    node = _alias_node(survey, record, "")
    assert isinstance(node, Struct)
    return node


def _entry_struct(survey: Survey, alias: RecordList, name: str) -> Struct:
    axis = entry_dim(survey, alias, name)

    def node(field: str, source: Any) -> Node:
        if isinstance(source, Record):
            return Struct({f: node(f, inner) for f, inner in source.fields.items()})
        if isinstance(source, Constant | Stack) and typed(survey, source).dims[:1] not in (
            (),
            (axis,),
        ):
            raise SchemaError(
                f"{name}.{field}",
                f"one value for each of {axis} entries",
                f"{typed(survey, source).dims[0]}",
                f"survey {survey.name}",
            )
        return _leaf(survey, source, field, axis)

    return Struct({field: node(field, source) for field, source in alias.fields.items()})


def _leaf(survey: Survey, source: Any, field: str, axis: Dim | None = None) -> Leaf:
    of_source = typed(survey, source, field)
    dims = of_source.dims
    if axis is not None and dims and dims[0] == axis:
        dims = dims[1:]
    shape = tuple(size if isinstance(size, int) else None for size in dims)
    missing = isinstance(source, Constant) and (
        source.value is None or (isinstance(source.value, tuple) and None in source.value)
    )
    return Leaf(of_source.dtype, shape, of_source.unit, missing)


def typed(survey: Survey, source: Any, field: str = "") -> Typed:
    """
    Find dtype, dimensions and unit of a source, by its survey alone.

    Parameters
    ----------
    survey : Survey
        The survey.
    source : str, Constant, Stack, Formula or BadPixels
        The source.
    field : str
        The standard field it is for: some have a unit of their own.

    Returns
    -------
    Typed
        What its values will be.
    """
    match source:
        case str():
            column = survey[source]
            dtype = "string" if column.dtype.startswith("S") else column.dtype
            unit = column.unit or ("" if dtype == "string" else FIELD_UNITS.get(field, ""))
            return Typed(dtype, column.shape, unit)
        case Constant(value):
            dtype = constant_dtype(source)
            unit = "" if dtype in ("string", "null") else FIELD_UNITS.get(field, "")
            return Typed(dtype, (len(value),) if isinstance(value, tuple) else (), unit)
        case Stack(columns):
            members = [typed(survey, column, field) for column in columns]
            first = members[0]
            if any(member.dims != first.dims for member in members):
                raise SchemaError(
                    field, f"columns of one shape {first.dims}", "others", f"survey {survey.name}"
                )
            if first.dtype != "string":
                kinds = [np.dtype(member.dtype) for member in members]
                first = dataclasses.replace(first, dtype=np.result_type(*kinds).name)
            return dataclasses.replace(first, dims=(len(columns), *first.dims))
        case Formula(expression, dtype, unit):
            dims = formula_dims(survey, expression)
            return Typed(dtype, dims, unit or FIELD_UNITS.get(field, ""))
        case BadPixels(column):
            return Typed("bool", survey[column].shape)
    raise TypeError(f"field {field!r} cannot come from {source!r}")


def constant_dtype(source: Constant) -> str:
    """
    Find the dtype of a constant.

    Parameters
    ----------
    source : Constant
        The constant.

    Returns
    -------
    str
        The one stated, else that of its values; ``null`` where all are None.
    """
    if source.dtype:
        return "string" if source.dtype.startswith("S") else source.dtype
    values = source.value if isinstance(source.value, tuple) else (source.value,)
    kinds = {type(value) for value in values if value is not None}
    for kind, dtype in ((str, "string"), (bool, "bool"), (int, "int64")):
        if kinds == {kind}:
            return dtype
    return "float32" if kinds else "null"


def formula_dims(survey: Survey, expression: str) -> tuple[Dim, ...]:
    """
    Give the dimensions of a formula's result: those of its largest column.

    Parameters
    ----------
    survey : Survey
        The survey.
    expression : str
        The formula.

    Returns
    -------
    tuple of int or str
        Its dimensions.
    """
    return max((survey[name].shape for name in names_in(expression)), key=len, default=())


def entry_dim(survey: Survey, alias: RecordList, name: str) -> Dim:
    """
    Find the dimension that a record list runs along.

    That of `where`, else the first own dimension of the first field that has one; what all
    objects share, and constants, decide only where nothing else does.

    Parameters
    ----------
    survey : Survey
        The survey.
    alias : RecordList
        The record list.
    name : str
        Its standard name, for the message.

    Returns
    -------
    int or str
        The length, or the name of a dimension that varies.
    """
    if alias.where:
        return survey[alias.where].shape[0]
    shared: list[Dim] = []
    for source in sources(alias.fields):
        dims = typed(survey, source).dims
        names = column_names(source)
        if dims and names and not all(survey[column].shared for column in names):
            return dims[0]
        shared.extend(dims[:1])
    if not shared:
        raise SchemaError(
            name, "a column with a dimension to list", "none", f"survey {survey.name}"
        )
    return shared[0]


def sources(fields: Mapping[str, Any]) -> Iterator[Any]:
    """
    Walk through the sources of a record's fields, nested records included.

    Parameters
    ----------
    fields : mapping
        Field to source.

    Yields
    ------
    str, Constant, Stack, Formula or BadPixels
        Each source.
    """
    for source in fields.values():
        if isinstance(source, Record):
            yield from sources(source.fields)
        else:
            yield source


def _union(structs: list[Struct], where: str) -> Struct:
    """All fields of some records; a field that one of them lacks may be null."""
    names = dict.fromkeys(name for struct in structs for name in struct.fields)
    fields: dict[str, Node] = {}
    for name in names:
        nodes = [struct.fields[name] for struct in structs if name in struct.fields]
        node = nodes[0]
        for other in nodes[1:]:
            node = unify(node, other, f"{where}: {name}")
        fields[name] = _nullable(node) if len(nodes) < len(structs) else node
    return Struct(fields)


def _nullable(node: Node) -> Node:
    return dataclasses.replace(node, nullable=True) if isinstance(node, Leaf) else node


def unify(left: Node, right: Node, where: str) -> Node:
    """
    Find the type that holds the values of both.

    Parameters
    ----------
    left, right : Leaf, Struct or ListOf
        Two types.
    where : str
        Name of the field, for the message.

    Returns
    -------
    Leaf, Struct or ListOf
        Records: all fields of both. Numbers: the smallest dtype that holds both. Arrays of
        differing size: a length that varies. A number and a text: text.

    Raises
    ------
    SchemaError
        If nothing does.
    """
    if isinstance(left, Struct) and isinstance(right, Struct):
        return _union([left, right], where)
    if isinstance(left, ListOf) and isinstance(right, ListOf):
        return ListOf(unify(left.item, right.item, where))
    if isinstance(left, Leaf) and isinstance(right, Leaf):
        for one, other in ((left, right), (right, left)):
            if one.dtype == "null":
                return dataclasses.replace(other, nullable=True)
        if len(left.shape) == len(right.shape):
            return Leaf(
                _common_dtype(left, right),
                tuple(a if a == b else None for a, b in zip(left.shape, right.shape, strict=True)),
                left.unit if left.unit == right.unit else "",
                left.nullable or right.nullable,
            )
    raise SchemaError(where, _describe(left), _describe(right), "the same field of another record")


def _common_dtype(left: Leaf, right: Leaf) -> str:
    if left.dtype == right.dtype:
        return left.dtype
    if "string" in (left.dtype, right.dtype):
        return "string"
    kinds = [np.dtype(leaf.dtype) for leaf in (left, right)]
    both = np.result_type(*kinds)
    # No integer holds all of int64 and uint64, and a float would lose digits: text does not.
    return "string" if both.kind == "f" and all(k.kind in "iu" for k in kinds) else both.name


def _describe(node: Node) -> str:
    match node:
        case Leaf(dtype, shape):
            return f"{dtype} of shape {shape}" if shape else dtype
        case Struct(fields):
            return f"a record of {', '.join(fields)}"
        case ListOf():
            return "a list of records"


def arrow_type(node: Node) -> pa.DataType:
    """
    Give the plain Arrow type of a field: nested lists for arrays, no extension types.

    Parameters
    ----------
    node : Leaf, Struct or ListOf
        Its type.

    Returns
    -------
    pyarrow.DataType
        What `standard_table` gives for it.
    """
    match node:
        case Leaf(dtype, shape):
            kind = _ARROW_KINDS[dtype]
            for _ in shape:
                kind = pa.list_(kind)
            return kind
        case Struct(fields):
            return pa.struct([pa.field(name, arrow_type(field)) for name, field in fields.items()])
        case ListOf(item):
            return pa.list_(arrow_type(item))


_ARROW_KINDS: Mapping[str, pa.DataType] = {
    "string": pa.string(),
    "null": pa.null(),
    "bool": pa.bool_(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    **{
        f"{sign}int{bits}": getattr(pa, f"{sign}int{bits}")()
        for sign in ("", "u")
        for bits in (8, 16, 32, 64)
    },
}
