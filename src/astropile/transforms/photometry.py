"""
Fluxes of several surveys in one unit, magnitudes and back, Galactic extinction.

Everything goes through nanojansky and the AB system: ``m = 31.4 - 2.5 log10(flux / nJy)``, which
is ``m = -48.6 - 2.5 log10(f_nu)`` for f_nu in erg / (s cm2 Hz) (Oke & Gunn 1983, ApJ 266, 713).
Differences between a survey's magnitudes and AB (SDSS u, some hundredths) are not corrected:
they are measurements, not units.

Numpy arrays and torch tensors alike; units are understood by astropy.
"""

from __future__ import annotations

import math
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final

from astropile.errors import SampleError
from astropile.transforms import _ops

AB_NJY: Final = 31.4
"""AB magnitude of 1 nJy."""

AB_NANOMAGGY: Final = 22.5
"""AB magnitude of 1 nanomaggy (SDSS, Legacy Surveys)."""

NJY_PER_NANOMAGGY: Final = 10 ** ((AB_NJY - AB_NANOMAGGY) / 2.5)
"""3630.78: flux of AB magnitude 22.5 [nJy]."""

SDSS_SOFTENING: Final = MappingProxyType(
    {"u": 1.4e-10, "g": 0.9e-10, "r": 1.2e-10, "i": 1.8e-10, "z": 7.4e-10}
)
"""
Softening b of the asinh magnitudes of SDSS [maggy].

From Stoughton et al. (2002), AJ 123, 485, table 21.
"""

_SPEED_OF_LIGHT: Final = 2.99792458e18  # Angstrom / s
_NJY_PER_CGS: Final = 1e32  # erg / (s cm2 Hz)
_POGSON: Final = 2.5 / math.log(10)


def zero_point_to_njy(zero_point: Any) -> Any:
    """
    Give the flux of one count.

    Parameters
    ----------
    zero_point : float, ndarray or Tensor
        AB magnitude of a flux of 1 in the survey's unit: 22.5 of nanomaggies, 27 of HSC
        coadds, 2.5 log10(FLUXMAG0).

    Returns
    -------
    float, ndarray or Tensor
        ``10 ** ((31.4 - zero_point) / 2.5)`` [nJy].

    Examples
    --------
    >>> round(zero_point_to_njy(22.5), 2)
    3630.78
    """
    return 10 ** ((AB_NJY - zero_point) / 2.5)


def hst_zero_point(photflam: float, photplam: float) -> float:
    """
    Give the AB zero point that the header of an HST image tells.

    Parameters
    ----------
    photflam : float
        Keyword PHOTFLAM [erg / (s cm2 Angstrom) per electron / s].
    photplam : float
        Keyword PHOTPLAM, the pivot wavelength [Angstrom].

    Returns
    -------
    float
        AB magnitude of 1 electron / s.

    Notes
    -----
    ``-2.5 log10(PHOTFLAM) - 5 log10(PHOTPLAM) - 2.408``, ACS Data Handbook, section 5.1.1.

    Examples
    --------
    >>> round(hst_zero_point(7.0332e-20, 8045.0), 2)
    25.95
    """
    return -2.5 * math.log10(photflam) - 5 * math.log10(photplam) - 2.408


@lru_cache(maxsize=256)
def unit_in_njy(unit: str) -> float:
    """
    Give a unit of flux in nanojansky.

    Parameters
    ----------
    unit : str
        As a survey declares it (`Column.unit`): "nanomaggy", "0.0158489319246111 nanomaggy",
        "uJy", "mJy", "erg / (s cm2 Hz)".

    Returns
    -------
    float
        nJy of one.

    Raises
    ------
    SampleError
        If it is no spectral flux density per frequency: counts have no flux without a zero
        point.

    Examples
    --------
    >>> round(unit_in_njy("uJy"), 6)
    1000.0
    """
    from astropy import units

    try:
        parsed = units.Unit(unit)
    except ValueError as error:
        raise SampleError("unit", "a unit that astropy knows", repr(unit)) from error
    try:
        return float((parsed / units.nJy).to(units.dimensionless_unscaled))
    except units.UnitConversionError:
        pass
    try:
        # astropy's own maggy has no flux; here it is that of the AB system.
        maggies = float((parsed / units.mgy).to(units.dimensionless_unscaled))
    except units.UnitConversionError as error:
        raise SampleError(
            "unit", "a flux per frequency or maggies, or else a zero_point", repr(unit)
        ) from error
    return maggies * 1e9 * NJY_PER_NANOMAGGY


def to_njy(
    flux: Any, ivar: Any = None, *, unit: str | None = None, zero_point: Any = None
) -> tuple[Any, Any]:
    """
    Bring fluxes of a survey to nanojansky.

    Parameters
    ----------
    flux : ndarray or Tensor
        Fluxes, or pixels of images.
    ivar : ndarray or Tensor, optional
        Inverse variance, in the same unit to the power of -2.
    unit : str, optional
        The survey's unit, as in its column or in the field ``units``.
    zero_point : float, ndarray or Tensor, optional
        AB magnitude of 1 of flux, in place of a unit; broadcast with flux: of bands, with
        axes of length 1 for their pixels.

    Returns
    -------
    flux, ivar : ndarray or Tensor
        [nJy], [nJy-2]; in their dtypes. ivar is None if none was given.

    Raises
    ------
    SampleError
        If not exactly one of unit and zero_point is given, or the unit is none of flux.

    Examples
    --------
    >>> import numpy as np
    >>> to_njy(np.array([1.0]), unit="nanomaggy")[0].round(2)
    array([3630.78])
    """
    return _scaled(flux, ivar, _factor(flux, unit, zero_point))


def from_njy(
    flux: Any, ivar: Any = None, *, unit: str | None = None, zero_point: Any = None
) -> tuple[Any, Any]:
    """
    Bring nanojansky to another unit: the inverse of `to_njy`.

    Parameters
    ----------
    flux : ndarray or Tensor
        Fluxes [nJy].
    ivar : ndarray or Tensor, optional
        Inverse variance [nJy-2].
    unit : str, optional
        Unit wanted.
    zero_point : float, ndarray or Tensor, optional
        AB magnitude of the unit wanted, in place of its name.

    Returns
    -------
    flux, ivar : ndarray or Tensor
        In the unit wanted and their dtypes.

    Raises
    ------
    SampleError
        If not exactly one of unit and zero_point is given, or the unit is none of flux.
    """
    return _scaled(flux, ivar, 1 / _factor(flux, unit, zero_point))


def f_lambda_to_njy(
    flux: Any, ivar: Any = None, *, wave: Any, unit: str = "erg / (s cm2 Angstrom)"
) -> tuple[Any, Any]:
    """
    Bring flux densities per wavelength, those of spectra, to nanojansky.

    Parameters
    ----------
    flux : ndarray or Tensor, shape (..., n)
        Flux density per wavelength.
    ivar : ndarray or Tensor, shape (..., n), optional
        Inverse variance.
    wave : ndarray or Tensor, shape (n,) or (..., n), float64
        Wavelength in vacuum [Angstrom].
    unit : str
        Unit of flux, as the survey declares it: "1e-17 erg / (s cm2 Angstrom)".

    Returns
    -------
    flux, ivar : ndarray or Tensor
        ``flux * wave**2 / c`` [nJy], and its inverse variance; in their dtypes.

    Raises
    ------
    SampleError
        If the unit is no flux density per wavelength.

    Examples
    --------
    >>> import numpy as np
    >>> spectrum = np.array([1.0])  # flat in f_lambda
    >>> unit = "1e-17 erg / (s cm2 Angstrom)"
    >>> f_lambda_to_njy(spectrum, wave=np.array([5000.0]), unit=unit)[0].round()
    array([8339.])
    """
    xp = _ops.namespace(flux, ivar)
    factor = _unit_in_cgs_per_angstrom(unit) * _ops.floats(xp, wave, flux) ** 2
    return _scaled(flux, ivar, factor * (_NJY_PER_CGS / _SPEED_OF_LIGHT))


def ab_magnitude(flux: Any, ivar: Any = None) -> tuple[Any, Any]:
    """
    Give AB magnitudes.

    Parameters
    ----------
    flux : ndarray or Tensor
        Fluxes [nJy].
    ivar : ndarray or Tensor, optional
        Inverse variance [nJy-2].

    Returns
    -------
    mag : ndarray or Tensor, float64
        ``31.4 - 2.5 log10(flux)``; NaN where flux is not above 0. For faint fluxes see
        `asinh_magnitude`.
    mag_err : ndarray or Tensor, float64
        To first order, ``1.0857 / (flux sqrt(ivar))``; infinite where ivar is 0. None without
        ivar.
    """
    xp = _ops.namespace(flux, ivar)
    values = xp.astype(flux, xp.float64)
    bright = values > 0
    safe = xp.where(bright, values, 1.0)
    mag = xp.where(bright, AB_NJY - 2.5 * xp.log10(safe), xp.nan)
    if ivar is None:
        return mag, None
    return mag, xp.where(bright, _POGSON * _error(xp, ivar) / safe, xp.nan)


def flux_from_ab(mag: Any, mag_err: Any = None) -> tuple[Any, Any]:
    """
    Give the fluxes of AB magnitudes.

    Parameters
    ----------
    mag : ndarray or Tensor
        AB magnitudes.
    mag_err : ndarray or Tensor, optional
        Their standard deviations.

    Returns
    -------
    flux : ndarray or Tensor, float64
        [nJy]; NaN stays NaN.
    ivar : ndarray or Tensor, float64, or None
        Inverse variance to first order [nJy-2]; 0 where the error is infinite or NaN.

    Raises
    ------
    SampleError
        If an error is not above 0.
    """
    xp = _ops.namespace(mag, mag_err)
    flux = zero_point_to_njy(0.0) * 10 ** (-0.4 * xp.astype(mag, xp.float64))
    if mag_err is None:
        return flux, None
    if bool(xp.any(mag_err <= 0)):
        raise SampleError("mag_err", "errors above 0", "others")
    known = xp.isfinite(mag_err) & xp.isfinite(flux)
    error = xp.where(known, xp.astype(mag_err, xp.float64), 1.0) * xp.where(known, flux, 1.0)
    return flux, xp.where(known, (_POGSON / error) ** 2, 0.0)


def asinh_magnitude(flux: Any, ivar: Any = None, *, softening: Any) -> tuple[Any, Any]:
    """
    Give asinh magnitudes, finite for every flux.

    Parameters
    ----------
    flux : ndarray or Tensor
        Fluxes [nJy], of any sign.
    ivar : ndarray or Tensor, optional
        Inverse variance [nJy-2].
    softening : float, ndarray or Tensor
        b [maggy], about the noise of a flux; `SDSS_SOFTENING` has those of SDSS.

    Returns
    -------
    mag : ndarray or Tensor, float64
        ``-2.5 / ln(10) * (asinh(f / 2b) + ln(b))``, f in maggies.
    mag_err : ndarray or Tensor, float64, or None
        To first order; infinite where ivar is 0.

    Raises
    ------
    SampleError
        If the softening is not above 0.

    References
    ----------
    .. [1] Lupton, Gunn & Szalay 1999, AJ 118, 1406, doi:10.1086/301004.

    Examples
    --------
    >>> import numpy as np
    >>> asinh_magnitude(np.zeros(1), softening=SDSS_SOFTENING["r"])[0].round(2)
    array([24.8])
    """
    xp = _ops.namespace(flux, ivar)
    soft = _softening(xp, softening, flux)
    maggies = xp.astype(flux, xp.float64) / (1e9 * NJY_PER_NANOMAGGY)
    mag = -_POGSON * (xp.asinh(maggies / (2 * soft)) + xp.log(soft))
    if ivar is None:
        return mag, None
    error = _error(xp, ivar) / (1e9 * NJY_PER_NANOMAGGY)
    return mag, _POGSON * error / xp.sqrt(maggies**2 + 4 * soft**2)


def flux_from_asinh(mag: Any, *, softening: Any) -> Any:
    """
    Give the fluxes of asinh magnitudes: the inverse of `asinh_magnitude`.

    Parameters
    ----------
    mag : ndarray or Tensor
        Asinh magnitudes.
    softening : float, ndarray or Tensor
        The b they were made with [maggy].

    Returns
    -------
    ndarray or Tensor, float64
        [nJy].

    Raises
    ------
    SampleError
        If the softening is not above 0.
    """
    xp = _ops.namespace(mag)
    soft = _softening(xp, softening, mag)
    maggies = 2 * soft * xp.sinh(-xp.astype(mag, xp.float64) / _POGSON - xp.log(soft))
    return maggies * 1e9 * NJY_PER_NANOMAGGY


def deredden(flux: Any, ivar: Any = None, *, extinction: Any) -> tuple[Any, Any]:
    """
    Take out what dust of the Galaxy absorbed.

    Parameters
    ----------
    flux : ndarray or Tensor
        Fluxes of any linear unit.
    ivar : ndarray or Tensor, optional
        Inverse variance.
    extinction : float, ndarray or Tensor
        A in the band of the flux [mag], broadcast with it: the survey's own field
        ``extinction``. A transmission T is ``-2.5 log10(T)``. Give ``-extinction`` to redden.

    Returns
    -------
    flux, ivar : ndarray or Tensor
        ``flux * 10 ** (0.4 A)``, ``ivar / 10 ** (0.8 A)``: signal to noise stays.

    Raises
    ------
    SampleError
        If an extinction is not finite: unknown dust is not no dust.
    """
    xp = _ops.namespace(flux, ivar)
    dust = _ops.floats(xp, extinction, flux)
    if not bool(xp.all(xp.isfinite(dust))):
        raise SampleError("extinction", "finite magnitudes", "others")
    return _scaled(flux, ivar, 10 ** (0.4 * dust))


@lru_cache(maxsize=256)
def _unit_in_cgs_per_angstrom(unit: str) -> float:
    from astropy import units

    try:
        return float(units.Unit(unit).to("erg / (s cm2 Angstrom)"))
    except (ValueError, units.UnitConversionError) as error:
        raise SampleError("unit", "a flux density per wavelength", repr(unit)) from error


def _factor(flux: Any, unit: str | None, zero_point: Any) -> Any:
    if (unit is None) == (zero_point is None):
        found = "neither" if unit is None else "both"
        raise SampleError("unit, zero_point", "one of the two", found)
    xp = _ops.namespace(flux)
    if unit is not None:
        return _ops.floats(xp, unit_in_njy(unit), flux)
    return zero_point_to_njy(_ops.floats(xp, zero_point, flux))


def _scaled(flux: Any, ivar: Any, factor: Any) -> tuple[Any, Any]:
    xp = _ops.namespace(flux, ivar)
    scaled = xp.astype(xp.astype(flux, xp.float64) * factor, flux.dtype)
    if ivar is None:
        return scaled, None
    return scaled, xp.astype(xp.astype(ivar, xp.float64) / factor**2, ivar.dtype)


def _softening(xp: Any, softening: Any, like: Any) -> Any:
    soft = _ops.floats(xp, softening, like)
    if not bool(xp.all(soft > 0)):
        raise SampleError("softening", "numbers above 0", "others")
    return soft


def _error(xp: Any, ivar: Any) -> Any:
    known = ivar > 0
    return xp.where(known, xp.where(known, xp.astype(ivar, xp.float64), 1.0) ** -0.5, xp.inf)
