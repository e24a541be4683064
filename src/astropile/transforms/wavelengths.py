"""
Wavelengths in air and vacuum, and what the atmosphere does to spectra at some of them.

Numpy arrays and torch tensors alike.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import MappingProxyType
from typing import Any, Final, Literal

from astropile.errors import SampleError
from astropile.transforms import _ops

Medium = Literal["air", "vacuum"]

SKY_LINES_AIR: Final = (
    5577.338,  # [O I]
    5889.953,  # Na I
    5895.923,  # Na I
    6300.304,  # [O I]
    6363.780,  # [O I]
    6863.955,
    6923.220,
    7276.405,
    7316.282,
    7340.885,
    7750.640,
    7794.112,
    7821.503,
    7913.708,
    7964.650,
    7993.332,
    8344.602,
    8399.170,
    8430.174,
    8827.096,
    8885.850,
    8943.395,
)
"""
Strong lines of the night sky in air [Angstrom]: [O I], Na I, and from 6863 on OH.

From the atlas of Osterbrock et al. (1996), PASP 108, 277. They are the brightest of many: beyond
7200 Angstrom hardly a pixel is free of OH, and a survey's own sky spectrum or inverse variance
tells more.
"""

TELLURIC_BANDS_AIR: Final = MappingProxyType(
    {
        "O2 gamma": (6270.0, 6330.0),
        "O2 B": (6860.0, 6960.0),
        "H2O 7200": (7160.0, 7340.0),
        "O2 A": (7590.0, 7710.0),
        "H2O 8200": (8100.0, 8370.0),
        "H2O 9300": (8940.0, 9850.0),
    }
)
"""
Where molecules of the atmosphere absorb, in air: first and last wavelength [Angstrom].

The bands of Bessell (1999), PASP 111, 1426, figure 1, with limits rounded outwards to tens of
Angstrom. Which depth matters depends on airmass, water vapour and what the survey corrected:
give your own where it does.
"""

_AIR_FROM: Final = 2000.0


def vacuum_to_air(wave: Any) -> Any:
    """
    Give the wavelength that light has in air.

    Parameters
    ----------
    wave : ndarray or Tensor, float64
        In vacuum [Angstrom].

    Returns
    -------
    ndarray or Tensor, float64
        In dry air at 1 atm, 15 degrees C and 0.045 % of CO2 [Angstrom]. Below 2000 Angstrom
        unchanged, since tables give vacuum there.

    Notes
    -----
    ``wave / n``, n of Birch & Downs (1994) as in Morton [1]_, equation 8, which VALD uses. It
    differs from Ciddor (1996) by less than 1e-3 Angstrom in the optical.

    References
    ----------
    .. [1] Morton 2000, ApJS 130, 403, doi:10.1086/317349.

    Examples
    --------
    >>> import numpy as np
    >>> vacuum_to_air(np.array([5008.240])).round(2)
    array([5006.84])
    """
    xp = _ops.namespace(wave)
    wave = xp.astype(wave, xp.float64)
    return xp.where(wave >= _AIR_FROM, wave / _refraction(wave), wave)


def air_to_vacuum(wave: Any) -> Any:
    """
    Give the wavelength in vacuum of light that was measured in air.

    Parameters
    ----------
    wave : ndarray or Tensor, float64
        In air [Angstrom].

    Returns
    -------
    ndarray or Tensor, float64
        In vacuum [Angstrom]: the inverse of `vacuum_to_air`, to 1e-9 Angstrom. What lies below
        the air wavelength of 2000 Angstrom is taken for vacuum.

    Examples
    --------
    >>> import numpy as np
    >>> air_to_vacuum(np.array([5006.843])).round(2)
    array([5008.24])
    """
    xp = _ops.namespace(wave)
    wave = xp.astype(wave, xp.float64)
    vacuum = wave
    for _ in range(4):  # n changes by 1e-7 over the shift: each round gains five digits or more.
        vacuum = wave * _refraction(xp.where(wave >= _FIRST_IN_AIR, vacuum, _AIR_FROM))
    return xp.where(wave >= _FIRST_IN_AIR, vacuum, wave)


def near_lines(wave: Any, lines: Iterable[float], *, half_width: float) -> Any:
    """
    Flag pixels near lines.

    Parameters
    ----------
    wave : ndarray or Tensor, shape (..., n), float64
        Centres of pixels, of any frame [Angstrom].
    lines : iterable of float
        Wavelengths in the same medium and frame [Angstrom].
    half_width : float
        How far from a line still counts, inclusive [Angstrom].

    Returns
    -------
    ndarray or Tensor, shape (..., n), bool
        True near a line: to be joined with a mask by ``|``.

    Raises
    ------
    SampleError
        If half_width is not above 0.

    Examples
    --------
    >>> import numpy as np
    >>> near_lines(np.array([5570.0, 5577.0, 5584.0]), [5577.338], half_width=3.0)
    array([False,  True, False])
    """
    if not half_width > 0:
        raise SampleError("half_width", "a width above 0", repr(half_width))
    return within_bands(wave, [(line - half_width, line + half_width) for line in lines])


def within_bands(wave: Any, bands: Iterable[tuple[float, float]]) -> Any:
    """
    Flag pixels within bands.

    Parameters
    ----------
    wave : ndarray or Tensor, shape (..., n), float64
        Centres of pixels [Angstrom].
    bands : iterable of (float, float)
        First and last wavelength of each, inclusive [Angstrom].

    Returns
    -------
    ndarray or Tensor, shape (..., n), bool
        True within a band.

    Raises
    ------
    SampleError
        If a band ends before it begins.
    """
    xp = _ops.namespace(wave)
    found = xp.zeros_like(wave, dtype=xp.bool)
    for first, last in bands:
        if not first <= last:
            raise SampleError("bands", "first wavelength <= last", f"{first!r}, {last!r}")
        found = found | ((wave >= first) & (wave <= last))
    return found


def sky_mask(wave: Any, *, medium: Medium, half_width: float = 5.0) -> Any:
    """
    Flag pixels near the strong lines of the night sky.

    Parameters
    ----------
    wave : ndarray or Tensor, shape (..., n), float64
        Observed wavelengths, before any redshift is taken out [Angstrom].
    medium : {"air", "vacuum"}
        What wave is in: `Survey.wavelength_medium`.
    half_width : float
        How far from a line still counts [Angstrom].

    Returns
    -------
    ndarray or Tensor, shape (..., n), bool
        True near one of `SKY_LINES_AIR`.

    Raises
    ------
    SampleError
        If the medium is another word or half_width not above 0.

    Notes
    -----
    Spectra moved to the heliocentre or barycentre have sky lines moved by up to 30 km/s, 0.6
    Angstrom at 6000: let half_width have room for it.
    """
    return near_lines(_in_air(wave, medium), SKY_LINES_AIR, half_width=half_width)


def telluric_mask(wave: Any, *, medium: Medium) -> Any:
    """
    Flag pixels in the bands where the atmosphere absorbs.

    Parameters
    ----------
    wave : ndarray or Tensor, shape (..., n), float64
        Observed wavelengths, before any redshift is taken out [Angstrom].
    medium : {"air", "vacuum"}
        What wave is in: `Survey.wavelength_medium`.

    Returns
    -------
    ndarray or Tensor, shape (..., n), bool
        True within one of `TELLURIC_BANDS_AIR`.

    Raises
    ------
    SampleError
        If the medium is another word.
    """
    return within_bands(_in_air(wave, medium), TELLURIC_BANDS_AIR.values())


def _in_air(wave: Any, medium: str) -> Any:
    if medium not in {"air", "vacuum"}:
        raise SampleError("medium", "air or vacuum", repr(medium))
    return wave if medium == "air" else vacuum_to_air(wave)


def _refraction(wave: Any) -> Any:
    """Index of refraction at a vacuum wavelength, Morton (2000) equation 8."""
    square = (1e4 / wave) ** 2
    return 1 + 8.34254e-5 + 2.406147e-2 / (130 - square) + 1.5998e-4 / (38.9 - square)


_FIRST_IN_AIR: Final[float] = _AIR_FROM / _refraction(_AIR_FROM)
