"""Spectral lines worth a marker: facts, and where they stand in air."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Line:
    """
    A spectral line.

    Parameters
    ----------
    label : str
        What stands beside its marker, in matplotlib's mathematics.
    wavelength : float
        Wavelength at rest, in vacuum [Angstrom].
    emission : bool
        Whether galaxies show it in emission.
    in_stars : bool
        Whether it is drawn for objects of redshift 0 too.
    """

    label: str
    wavelength: float
    emission: bool = True
    in_stars: bool = False


LINES: Final = (
    Line(r"Ly$\alpha$", 1215.67),
    Line("C IV", 1549.48),
    Line("C III]", 1908.73),
    Line("Mg II", 2799.12),
    Line("[O II]", 3728.48),
    Line("Ca K", 3934.78, emission=False, in_stars=True),
    Line("Ca H", 3969.59, emission=False, in_stars=True),
    Line(r"H$\delta$", 4102.89, emission=False, in_stars=True),
    Line(r"H$\gamma$", 4341.68, in_stars=True),
    Line(r"H$\beta$", 4862.68, in_stars=True),
    Line("[O III]", 5008.24),
    Line("Mg b", 5176.6, emission=False, in_stars=True),
    Line("Na D", 5895.6, emission=False, in_stars=True),
    Line(r"H$\alpha$", 6564.61, in_stars=True),
    Line("[S II]", 6725.5),
    Line("Ca II", 8544.4, emission=False, in_stars=True),
)
"""Lines drawn over a spectrum at the object's redshift."""


def in_air(vacuum: float) -> float:
    """
    Give the wavelength in air of a line.

    Parameters
    ----------
    vacuum : float
        Its wavelength in vacuum [Angstrom].

    Returns
    -------
    float
        In standard air [Angstrom]; below 2,000 Angstrom still that in vacuum, as is usual.

    References
    ----------
    .. [1] Ciddor 1996, Applied Optics 35, 1566.
    """
    if vacuum < 2000:
        return vacuum
    inverse = (1e4 / vacuum) ** 2
    index = 1 + 0.05792105 / (238.0185 - inverse) + 0.00167917 / (57.362 - inverse)
    return vacuum / index
