"""What a survey declares, before any value is read: rules D, U, N6, G5 and E3."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from astropile.formula import names_in
from astropile.meaning.records import Records, bits_column
from astropile.meaning.tally import Tally
from astropile.meaning.units import QUANTITIES, parsed, same_kind
from astropile.names import REQUIRED_ALIASES
from astropile.schema import Constant, Formula, Record, RecordList, Survey
from astropile.view_types import typed

_NOTHING: Final = frozenset({"", "none", "null", "n/a", "na", "tbd", "todo", "?", "xxx", "-"})
"""What stands where nobody has said anything yet."""

_UNKNOWN: Final = "unknown"


def check_declared(survey: Survey, records: list[Records], tally: Tally) -> None:
    """
    Check a survey's declaration.

    Parameters
    ----------
    survey : Survey
        The resolved survey.
    records : list of Records
        Its records.
    tally : Tally
        Takes what is found.
    """
    for rule, name in (("D1", "licence"), ("D2", "citation")):
        said = str(getattr(survey, name)).strip()
        empty = said.lower().strip(".<>[]") in _NOTHING
        tally.whole(rule, name, empty, f"the {name} is {said!r}; say 'unknown' if it is not known")
    for column in survey.columns:
        _check_unit(column.unit, column.name, tally)
    for name, alias in survey.aliases.items():
        if name not in REQUIRED_ALIASES and not isinstance(alias, Record | RecordList | tuple):
            _check_field(survey, name, alias, name, tally)
    for one in records:
        for name, source in one.fields.items():
            _check_field(survey, name, source, f"{one.name}.{name}", tally)
        _check_record(survey, one, tally)


def _check_unit(unit: str, where: str, tally: Tally) -> None:
    tally.whole("U1", where, parsed(unit) is None, f"{unit!r} is no unit")


def _check_field(survey: Survey, name: str, source: Any, where: str, tally: Tally) -> None:
    if isinstance(source, Formula):
        _check_unit(source.unit, where, tally)
        units = {survey[column].unit for column in names_in(source.expression)}
        # A formula without a unit of its own takes the field's; it may have converted.
        unit = source.unit or ("" if len(units) != 1 else None)
    elif isinstance(source, str):
        unit = survey[source].unit
    else:
        unit = None
    quantity = QUANTITIES.get(name)
    if quantity is None or not unit:
        return
    found = parsed(unit)
    fits = found is not None and any(found.is_equivalent(parsed(other)) for other in quantity)
    wanted = " or ".join(repr(other) for other in quantity)
    tally.whole("U2", where, not fits, f"{unit!r} does not convert to {wanted}")


def _check_record(survey: Survey, records: Records, tally: Tally) -> None:
    """Units of what was measured; masks that keep their bits; grids and times that say which."""
    fields = records.fields
    for name in ("mask", "quality"):
        column = bits_column(fields.get(name)) if name in fields else ""
        if column:
            dtype = survey[column].dtype
            message = f"column {column!r} is {dtype}"
            tally.whole("N6", f"{records.name}.{name}", dtype.startswith("float"), message)
    if "lambda" in fields:
        missing = [
            name for name in ("wavelength_medium", "wavelength_frame") if not getattr(survey, name)
        ]
        message = f"the survey states no {' and no '.join(missing)}"
        tally.whole("G5", f"{records.name}.lambda", missing, message)
    if "time" in fields:
        message = "the survey states no time_scale"
        tally.whole("E3", f"{records.name}.time", not survey.time_scale, message)
    value = records.value_field
    if not value or np.dtype(_plain(records.typed(value).dtype)).kind != "f":
        return
    stated = _stated_units(records)
    unit = records.typed(value).unit
    if not unit and not stated and "units" not in fields:
        tally.whole("U3", f"{records.name}.{value}", wrong=True, message="it has no unit")
    else:
        tally.whole("U3", f"{records.name}.{value}", wrong=False, message="")
    for text in stated:
        if text and text != _UNKNOWN:
            _check_unit(text, f"{records.name}.units", tally)
    if "ivar" in fields and isinstance(fields["ivar"], str | Formula):
        weight = typed(survey, fields["ivar"], "ivar").unit
        if unit and weight:
            message = f"{weight!r} for a flux in {unit!r}"
            wrong = same_kind(unit, -2, weight) is False
            tally.whole("U4", f"{records.name}.ivar", wrong, message)


def _plain(dtype: str) -> str:
    return "S1" if dtype in ("string", "null") else dtype


def _stated_units(records: Records) -> list[str]:
    source = records.fields.get("units")
    if not isinstance(source, Constant):
        return []
    values = source.value if isinstance(source.value, tuple) else (source.value,)
    return [str(value) for value in values if value is not None]
