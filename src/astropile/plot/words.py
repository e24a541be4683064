"""What stands beside a picture: names, positions, redshifts, units."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from astropile.schema import Survey
from astropile.view import Leaf, ListOf, view_type

Example: TypeAlias = Mapping[str, Any]
"""One object of the standard view: numpy values, dicts for records, lists of dicts."""


@dataclass(frozen=True)
class Side:
    """
    One object in one survey.

    Parameters
    ----------
    survey : Survey
        The survey it comes from, as a tree tells it.
    example : mapping
        The object in the standard view.
    """

    survey: Survey
    example: Example

    @property
    def label(self) -> str:
        """Name of the survey, and its release where that is known."""
        known = self.survey.release.lower() != "unknown"
        return f"{self.survey.survey} {self.survey.release}" if known else self.survey.survey


@dataclass(frozen=True)
class Matched:
    """
    Objects of several surveys taken for one and the same.

    Parameters
    ----------
    sides : tuple of Side
        The object as each survey has it.
    separation_arcsec : float
        Distance of the matched positions [arcsec].
    """

    sides: tuple[Side, ...]
    separation_arcsec: float


def number_of(value: Any) -> float | None:
    """
    Give a finite number, or None.

    Parameters
    ----------
    value : object
        A number, or what stands where there is none.

    Returns
    -------
    float or None
        The number if it is one and finite.
    """
    if value is None or isinstance(value, str | bytes):
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def plain(value: Any) -> str:
    """
    Give text that neither a terminal nor matplotlib takes for a command.

    Parameters
    ----------
    value : object
        An identifier or label from the data.

    Returns
    -------
    str
        The text; what does not print, and the signs of mathematics, as ``?``.
    """
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return "".join(c if c.isprintable() and c not in "$\\" else "?" for c in text)


def heading(side: Side) -> str:
    """
    Say which object it is.

    Parameters
    ----------
    side : Side
        The object.

    Returns
    -------
    str
        Survey and identifier; position, redshift and magnitude on a second line.
    """
    example = side.example
    facts = [_position(example), redshift(example)]
    if (mag := number_of(example.get("mag"))) is not None:
        facts.append(f"{mag:.2f} mag")
    first = f"{side.label}   object {plain(example.get('object_id'))}"
    return "\n".join([first, "   ".join(fact for fact in facts if fact)])


def match_heading(match: Matched) -> str:
    """
    Say where a matched object is, and how far apart its positions are.

    Parameters
    ----------
    match : Matched
        The object.

    Returns
    -------
    str
        One line.
    """
    place = _position(match.sides[0].example)
    return f"{place}   separation {match.separation_arcsec:.3f}″".strip()


def _position(example: Example) -> str:
    ra, dec = number_of(example.get("ra")), number_of(example.get("dec"))
    return "" if ra is None or dec is None else f"RA {ra:.5f}°  Dec {dec:+.5f}°"


def redshift(example: Example) -> str:
    """
    Say what redshift an object has.

    Parameters
    ----------
    example : mapping
        The object.

    Returns
    -------
    str
        With its error where that is known; empty where there is none.
    """
    z, error = number_of(example.get("z")), number_of(example.get("z_err"))
    if z is None:
        return ""
    return f"z = {z:.5f}" + (f" ± {error:.5f}" if error is not None and error > 0 else "")


def unit_of(survey: Survey, *path: str) -> str:
    """
    Find the unit of a field of the standard view.

    Parameters
    ----------
    survey : Survey
        The survey.
    *path : str
        The field: ``"spectrum", "flux"``.

    Returns
    -------
    str
        Its unit; empty for none.
    """
    first, *rest = path
    node: Any = view_type(survey, [first])[first]
    for name in rest:
        record: Any = node.item if isinstance(node, ListOf) else node
        node = record.fields[name]
    return node.unit if isinstance(node, Leaf) else ""


def with_unit(name: str, unit: str) -> str:
    """
    Label an axis.

    Parameters
    ----------
    name, unit : str
        What it shows, and in what unit; the latter may be empty.

    Returns
    -------
    str
        The label.
    """
    return f"{name} [{pretty_unit(unit)}]" if unit else name


def pretty_unit(unit: str) -> str:
    """
    Write a unit as matplotlib's mathematics.

    Parameters
    ----------
    unit : str
        What `astropy.units.Unit` parses.

    Returns
    -------
    str
        The same unit.
    """
    if not unit:
        return ""
    from astropy import units

    try:
        text = str(units.Unit(unit).to_string("latex_inline"))
    except (ValueError, TypeError):
        return plain(unit)
    return text.replace(r"1 \times ", "").replace(r"\mathring{A}", "Å")
