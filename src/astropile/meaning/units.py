"""Units: what parses, what fits a quantity, what converts into what."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

QUANTITIES: Final = {
    "ra": ("deg",),
    "dec": ("deg",),
    "lambda": ("Angstrom",),
    "lsf_sigma": ("Angstrom",),
    "psf_fwhm": ("arcsec",),
    "pixel_size": ("arcsec", "arcsec / pix"),
    "spaxel_size": ("arcsec", "arcsec / pix"),
    "extinction": ("mag",),
    "ebv": ("mag",),
    "mag": ("mag",),
    "z": ("",),
    "z_err": ("",),
    "time": ("day",),
    "pmra": ("mas / yr",),
    "pmdec": ("mas / yr",),
    "parallax": ("mas",),
}
"""What the unit of a standard field converts to."""


@lru_cache(maxsize=4096)
def parsed(unit: str) -> Any:
    """
    Parse a unit.

    Parameters
    ----------
    unit : str
        Text; empty for a number without unit.

    Returns
    -------
    astropy.units.UnitBase or None
        The unit; None if it is none.
    """
    from astropy.units import Unit

    try:
        return Unit(unit)
    except (ValueError, TypeError):
        return None


@lru_cache(maxsize=4096)
def factor_to(unit: str, other: str) -> float | None:
    """
    Give the factor from one unit to another.

    Parameters
    ----------
    unit, other : str
        The units.

    Returns
    -------
    float or None
        What a number in `unit` is multiplied with; None if the one is not the other's kind.

    Examples
    --------
    >>> factor_to("arcmin", "arcsec")
    60.0
    >>> factor_to("pix", "Angstrom") is None
    True
    """
    one, two = parsed(unit), parsed(other)
    if one is None or two is None or not one.is_equivalent(two):
        return None
    return float(one.to(two))


@lru_cache(maxsize=4096)
def same_kind(unit: str, power: int, other: str) -> bool | None:
    """
    Tell whether a unit is a power of another's kind, and equally large.

    Parameters
    ----------
    unit : str
        A unit.
    power : int
        The power.
    other : str
        Another unit.

    Returns
    -------
    bool or None
        Whether ``unit ** power`` is `other` within one per mille; None if one does not parse.
    """
    one, two = parsed(unit), parsed(other)
    if one is None or two is None:
        return None
    whole = one**power
    return bool(whole.is_equivalent(two)) and abs(float(whole.to(two)) - 1) < 1e-3
