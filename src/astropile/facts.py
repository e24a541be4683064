"""
A survey as JSON and back: how a tree carries its own schema.

Only facts travel; the functions that read native files do not.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from astropile.errors import FormatError
from astropile.schema import (
    Alias,
    BadPixels,
    Column,
    Constant,
    Formula,
    Record,
    RecordList,
    Stack,
    Survey,
)

_PLAIN: Final = (
    "name",
    "project",
    "survey",
    "release",
    "subset",
    "title",
    "description",
    "homepage",
    "citation",
    "acknowledgement",
    "licence",
    "epoch",
    "frame",
    "wavelength_medium",
    "wavelength_frame",
    "time_scale",
)


def survey_to_json(survey: Survey) -> dict[str, Any]:
    """
    Turn a survey's facts into JSON values.

    Parameters
    ----------
    survey : Survey
        The survey.

    Returns
    -------
    dict
        Nothing but dicts, lists, strings, numbers, booleans and None.
    """
    facts: dict[str, Any] = {name: getattr(survey, name) for name in _PLAIN}
    facts["dims"] = list(survey.dims)
    facts["columns"] = [_column_to_json(column) for column in survey.columns]
    facts["aliases"] = {name: alias_to_json(alias) for name, alias in survey.aliases.items()}
    return facts


def survey_from_json(facts: Mapping[str, Any], where: str) -> Survey:
    """
    Make a survey from its facts.

    Parameters
    ----------
    facts : mapping
        What `survey_to_json` gave; facts it does not know are ignored.
    where : str
        The file the facts come from.

    Returns
    -------
    Survey
        The survey, without the functions that read native files.

    Raises
    ------
    FormatError
        If a fact is missing or not of its form.
    """
    try:
        return Survey(
            **{name: facts[name] for name in _PLAIN if name in facts},
            dims=tuple(facts["dims"]),
            columns=tuple(_column_from_json(column) for column in facts["columns"]),
            aliases={name: alias_from_json(alias) for name, alias in facts["aliases"].items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FormatError(
            where, "the facts of a survey", f"{type(error).__name__}: {error}"
        ) from error


def _column_to_json(column: Column) -> dict[str, Any]:
    values = {
        field.name: getattr(column, field.name)
        for field in dataclasses.fields(column)
        if field.name in {"name", "dtype", "doc"}
        or getattr(column, field.name) not in ((), "", False, None)
    }
    if column.light is not None:
        values["light"] = column.light
    values["shape"] = list(column.shape)
    values["bits"] = dict(column.bits)
    return values


def _column_from_json(values: Mapping[str, Any]) -> Column:
    return Column(**{**values, "shape": tuple(values["shape"])})


def alias_to_json(alias: Alias | Record) -> Any:
    """
    Turn an alias into JSON values (rule A1 of the format).

    Parameters
    ----------
    alias : str, Constant, Stack, Formula, BadPixels, Record, RecordList or tuple
        The alias.

    Returns
    -------
    str or dict
        A native column's name, or an object with one key.
    """
    match alias:
        case str():
            return alias
        case Constant(value, dtype):
            inner = list(value) if isinstance(value, tuple) else value
            return {"constant": {"value": inner, "dtype": dtype}}
        case Stack(columns):
            return {"stack": [alias_to_json(column) for column in columns]}
        case Formula():
            return {"formula": dataclasses.asdict(alias)}
        case BadPixels(column, bits, good):
            return {"bad_pixels": {"column": column, "bits": list(bits), "good": good}}
        case Record(fields):
            return {"record": {name: alias_to_json(field) for name, field in fields.items()}}
        case RecordList(fields, where):
            inner = {name: alias_to_json(field) for name, field in fields.items()}
            return {"record_list": {"fields": inner, "where": where}}
        case tuple():
            return {"records": [alias_to_json(member) for member in alias]}
    raise TypeError(f"not an alias: {alias!r}")


def alias_from_json(values: Any) -> Any:
    """
    Make an alias from its JSON values.

    Parameters
    ----------
    values : str or dict
        What `alias_to_json` gave.

    Returns
    -------
    str, Constant, Stack, Formula, BadPixels, Record, RecordList or tuple
        The alias.

    Raises
    ------
    ValueError
        If it is of no known kind.
    """
    if isinstance(values, str):
        return values
    if not isinstance(values, Mapping) or len(values) != 1:
        raise ValueError(f"not an alias: {values!r}")
    ((kind, inner),) = values.items()
    match kind:
        case "constant":
            value = inner["value"]
            return Constant(tuple(value) if isinstance(value, list) else value, inner["dtype"])
        case "stack":
            return Stack(tuple(alias_from_json(source) for source in inner))
        case "formula":
            return Formula(**inner)
        case "bad_pixels":
            return BadPixels(inner["column"], tuple(inner["bits"]), inner["good"])
        case "record":
            return Record({name: alias_from_json(field) for name, field in inner.items()})
        case "record_list":
            fields = {name: alias_from_json(field) for name, field in inner["fields"].items()}
            return RecordList(fields, inner["where"])
        case "records":
            return tuple(alias_from_json(member) for member in inner)
    raise ValueError(f"not an alias: {kind!r}")
