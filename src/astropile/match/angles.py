"""Coordinates and epochs as columns hold them: units, sexagesimal text, kinds of dates."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from astropile.errors import MatchError
from astropile.match.columns import _Columns, _plain
from astropile.match.motion import epoch_of_jd

Floats = NDArray[np.float64]

_HOURS: Final = ("h", "hr", "hour", "hourangle", '"h:m:s"', "h:m:s", "hms")

_RADIANS_OR_DEGREES: Final = ("coord_ra", "coord_dec")


def _angles(columns: _Columns, name: str, called: str, *, is_ra: bool) -> Floats:
    """Give a coordinate in degrees."""
    what = f"{called}, column {name}"
    values = _plain(columns.get(name))
    if values.ndim != 1:
        raise MatchError(what, "one value per row", f"shape {values.shape}")
    unit = columns.unit(name)
    text_unit = "" if unit is None else str(unit).strip().lower()
    if values.dtype.kind == "U":
        return _sexagesimal(values, text_unit, what, is_ra=is_ra)
    values = np.ascontiguousarray(values, dtype=np.float64)
    if unit is None:
        some = values[np.isfinite(values)]
        limit = 2 * np.pi if is_ra else np.pi / 2
        if name.lower() in _RADIANS_OR_DEGREES and len(some) and np.abs(some).max() <= limit:
            raise MatchError(what, "a unit, for these may be radians", "none")
        return values
    return values * _degrees_per(unit, text_unit, what)


def _degrees_per(unit: Any, text: str, what: str) -> float:
    if text in _HOURS:
        return 15.0
    from astropy.units import Unit

    try:
        return float(Unit(unit).to("deg"))
    except (TypeError, ValueError) as error:
        raise MatchError(what, "a unit of angle", repr(text)) from error


def _sexagesimal(texts: Any, unit: str, what: str, *, is_ra: bool) -> Floats:
    """Read text: decimal degrees, or hours or degrees with minutes and seconds."""
    texts = np.char.strip(texts)
    degrees = np.full(len(texts), np.nan)
    some = np.flatnonzero((texts != "") & (np.char.lower(texts) != "nan"))
    if not len(some):
        return degrees
    try:
        decimal = texts[some].astype(np.float64)
    except ValueError:
        decimal = None
    in_hours = unit in _HOURS or (unit == "" and is_ra and decimal is None)
    if decimal is not None:
        factor = 15.0 if in_hours else (_degrees_per(unit, unit, what) if unit else 1.0)
        degrees[some] = decimal * factor
        return degrees
    from astropy.coordinates import Angle

    wanted = "hourangle" if in_hours else "deg"
    try:
        found = Angle(texts[some].tolist(), unit=wanted).deg
    except Exception as error:
        # astropy's parser raises errors of several kinds.
        raise MatchError(what, f"sexagesimal text in {wanted}", str(error)) from error
    if in_hours and (np.abs(found) > 360).any():
        worst = texts[some][np.abs(found).argmax()]
        raise MatchError(what, "hours from 0 to 24, or a unit", repr(str(worst)))
    degrees[some] = found
    return degrees


def _epochs(values: Any, what: str) -> Floats:
    """Turn years, Julian dates or modified ones into Julian years."""
    if values.dtype.kind == "U":
        raise MatchError(what, "numbers", "text")
    days = np.asarray(values, dtype=np.float64)
    some = days[np.isfinite(days)]
    if not len(some) or (some.min() >= 1000 and some.max() <= 3000):
        return days
    if some.min() >= 2_300_000 and some.max() <= 2_600_000:
        return epoch_of_jd(days)
    if some.min() >= 10_000 and some.max() <= 200_000:
        return epoch_of_jd(days + 2_400_000.5)
    raise MatchError(
        what, "years, Julian dates or modified Julian dates", f"{some.min():g} to {some.max():g}"
    )
