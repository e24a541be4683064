"""
Spectra on a common wavelength grid, in the observer's frame or at rest, arms put together.

Numpy arrays and torch tensors alike, on any device that has float64. Air and vacuum are in
`astropile.transforms.wavelengths`, line-spread functions in `resolution`, continua in
`continuum`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from array_api_compat import device, to_device
from numpy.typing import NDArray

from astropile.errors import SampleError
from astropile.transforms import _ops

Density = Literal["f_lambda", "f_nu", "none"]

_CACHED_GRIDS: Final = 64
"""Pairs of grids whose overlaps are kept: about 0.1 MB each for some thousand pixels."""
_ROUNDING: Final = 1e-9
"""Share of a pixel that may be lost to rounding before it counts as not measured."""


class Spectra(NamedTuple):
    """
    Flux density on some grid, and how well it is known.

    Attributes
    ----------
    flux : ndarray or Tensor, shape (..., m)
        Flux density, in the dtype it came in; 0 where the mask is True.
    ivar : ndarray or Tensor, shape (..., m), or None
        Inverse variance of flux; 0 where the mask is True. None if none was given.
    mask : ndarray or Tensor, shape (..., m), bool
        True where too little of the pixel was measured.
    coverage : ndarray or Tensor, shape (..., m), float64
        Share of the pixel's width that was measured, 0 to 1.
    """

    flux: Any
    ivar: Any
    mask: Any
    coverage: Any


def linear_grid(start: float, stop: float, step: float) -> NDArray[np.float64]:
    """
    Make a grid of equal steps.

    Parameters
    ----------
    start, stop : float
        First centre, and a bound that no centre passes [Angstrom].
    step : float
        Between centres [Angstrom].

    Returns
    -------
    ndarray, shape (m,), float64
        Centres: ``start + step * i``.

    Raises
    ------
    SampleError
        If there are not two centres or more.

    Examples
    --------
    >>> linear_grid(3600.0, 3602.0, 0.8)
    array([3600. , 3600.8, 3601.6])
    """
    _check_steps("step", start, stop, step)
    return start + step * np.arange(_count((stop - start) / step), dtype=np.float64)


def log_grid(start: float, stop: float, dex: float = 1e-4) -> NDArray[np.float64]:
    """
    Make a grid of equal ratios, on which a redshift is a shift.

    Parameters
    ----------
    start, stop : float
        First centre, and a bound that no centre passes [Angstrom].
    dex : float
        log10 of the ratio of neighbouring centres; SDSS has 1e-4 (69 km/s).

    Returns
    -------
    ndarray, shape (m,), float64
        Centres: ``10 ** (log10(start) + dex * i)``.

    Raises
    ------
    SampleError
        If there are not two centres or more.

    Examples
    --------
    >>> log_grid(1000.0, 1e5, 1.0)
    array([  1000.,  10000., 100000.])
    """
    _check_steps("dex", start, stop, dex)
    first = np.log10(start)
    count = _count((np.log10(stop) - first) / dex)
    return np.asarray(10 ** (first + dex * np.arange(count, dtype=np.float64)))


def pixel_edges(wave: Any) -> Any:
    """
    Put the edges of pixels half way between their centres.

    Parameters
    ----------
    wave : ndarray or Tensor, shape (..., n), float64
        Centres, increasing [Angstrom].

    Returns
    -------
    ndarray or Tensor, shape (..., n + 1), float64
        Edges; the first and last pixel are as wide on either side of their centre.

    Raises
    ------
    SampleError
        If there are fewer than two pixels, or they do not increase.

    Examples
    --------
    >>> pixel_edges(np.array([1.0, 2.0, 4.0]))
    array([0.5, 1.5, 3. , 5. ])
    """
    xp = _ops.namespace(wave)
    wave = xp.astype(wave, xp.float64)
    if wave.shape[-1] < 2:
        raise SampleError("wave", "2 pixels or more", str(wave.shape[-1]))
    step = wave[..., 1:] - wave[..., :-1]
    if not bool(xp.all(step > 0)):
        raise SampleError("wave", "finite wavelengths that increase", "some that do not")
    inner = wave[..., :-1] + step / 2
    first = wave[..., :1] - step[..., :1] / 2
    last = wave[..., -1:] + step[..., -1:] / 2
    return xp.concat([first, inner, last], axis=-1)


def rebin(
    flux: Any,
    ivar: Any = None,
    mask: Any = None,
    *,
    wave: Any,
    grid: Any,
    padding: Any = None,
    min_coverage: float = 0.5,
) -> Spectra:
    """
    Bring spectra onto another wavelength grid; integrated flux is conserved.

    Parameters
    ----------
    flux : ndarray or Tensor, shape (..., n)
        Flux density, per wavelength or per frequency.
    ivar : ndarray or Tensor, shape (..., n), optional
        Inverse variance of flux; pixels of 0 are left out.
    mask : ndarray or Tensor, shape (..., n), bool, optional
        Pixels to leave out. Flux that is not finite is left out too.
    wave : ndarray or Tensor, shape (n,) or (..., n), float64
        Centres of the pixels, shared by all spectra or of each, increasing [Angstrom].
    grid : ndarray, shape (m,), float64
        Centres wanted, increasing, in the unit of wave.
    padding : ndarray or Tensor, shape (..., n), bool, optional
        True at the end of rows that are shorter than the longest; what wave holds there does
        not matter. Only with a wave of each spectrum.
    min_coverage : float
        Share of an output pixel that must have been measured, 0 to 1, for it to count.
        With 0, any overlap will do; with 1, nothing may be missing.

    Returns
    -------
    Spectra
        On the grid. Nothing is extrapolated: outside of what was measured flux is 0, ivar 0,
        mask True.

    Raises
    ------
    SampleError
        If shapes do not agree, wavelengths do not increase, or min_coverage is not a share.

    Notes
    -----
    As SpectRes [1]_: pixels are boxes, an output pixel is the mean of the input pixels weighted
    by the length of their overlap P, ``sum(P f) / sum(P)``, over good pixels; its variance is
    ``sum(P**2 var) / sum(P)**2``. So ``sum(flux * width * coverage)`` over the grid is the
    integral of the good input over it, but for what min_coverage takes out. An input pixel cut
    in two makes the noise of two output pixels correlated: ivar tells the variance of each,
    not the covariance, so it promises no more than there was.

    The overlaps of a pair of shared grids are kept. They cost 16 bytes times m times the
    largest number of input pixels under an output pixel; with a wave for each spectrum, as much
    for each.

    References
    ----------
    .. [1] Carnall 2017, arXiv:1705.05165.

    Examples
    --------
    >>> wave = np.array([1.0, 2.0, 3.0, 4.0])
    >>> out = rebin(np.array([1.0, 3.0, 5.0, 7.0]), wave=wave, grid=np.array([1.5, 3.5, 5.5]))
    >>> out.flux, out.mask
    (array([2., 6., 0.]), array([False, False,  True]))
    """
    if not 0 <= min_coverage <= 1:
        raise SampleError("min_coverage", "a share from 0 to 1", repr(min_coverage))
    xp = _ops.namespace(flux, ivar, mask)
    good = _ops.good_pixels(xp, flux, ivar, mask)
    if padding is not None:
        good = good & ~padding
    index, width, step = _overlaps(xp, flux, wave, grid, padding)
    values = xp.where(good, xp.astype(flux, xp.float64), 0.0)
    covered = _banded_sum(xp, xp.astype(good, xp.float64), index, width)
    summed = _banded_sum(xp, values, index, width)
    coverage = covered / step
    enough = (covered > 0) & (coverage >= min_coverage - _ROUNDING)
    safe = xp.where(enough, covered, 1.0)
    new_flux = xp.astype(xp.where(enough, summed / safe, 0.0), flux.dtype)
    new_ivar = None
    if ivar is not None:
        variance = xp.where(good, 1.0 / xp.where(good, xp.astype(ivar, xp.float64), 1.0), 0.0)
        variance = xp.where(enough, _banded_sum(xp, variance, index, width**2), 1.0)
        new_ivar = xp.astype(xp.where(enough, safe**2 / variance, 0.0), ivar.dtype)
    return Spectra(new_flux, new_ivar, ~enough, coverage)


def to_rest_frame(
    wave: Any, flux: Any, ivar: Any = None, *, z: Any, density: Density = "f_lambda"
) -> tuple[Any, Any, Any]:
    """
    Move spectra to the frame of their source.

    Parameters
    ----------
    wave : ndarray or Tensor, shape (n,) or (..., n), float64
        Observed wavelengths, in vacuum [Angstrom].
    flux : ndarray or Tensor, shape (..., n)
        Flux density.
    ivar : ndarray or Tensor, shape (..., n), optional
        Its inverse variance.
    z : float, ndarray or Tensor, shape (...)
        Redshift of each spectrum.
    density : {"f_lambda", "f_nu", "none"}
        What flux is a density in. Per wavelength it is multiplied by 1 + z, per frequency
        divided by it, so that its integral, the energy flux, stays. With "none" the numbers
        stay: a spectrum in arbitrary units.

    Returns
    -------
    wave : ndarray or Tensor, shape (..., n), float64
        ``wave / (1 + z)``.
    flux, ivar : ndarray or Tensor, shape (..., n)
        Scaled, so that flux times the root of ivar stays; in their dtypes.

    Raises
    ------
    SampleError
        If a redshift is not a number above -1, or density is another word.

    Notes
    -----
    Flux stays as seen by us; a luminosity takes the distance too. A redshift that is not a
    number (a star without one, an object that failed) is an error and not 0: choose rows first.

    Examples
    --------
    >>> wave, flux, _ = to_rest_frame(np.array([4000.0, 4002.0]), np.ones(2), z=1.0)
    >>> wave, flux
    (array([2000., 2001.]), array([2., 2.]))
    """
    xp = _ops.namespace(flux, ivar)
    factor = 1 + _ops.floats(xp, z, flux)
    if not bool(xp.all((factor > 0) & xp.isfinite(factor))):
        raise SampleError("z", "finite redshifts above -1", "others")
    factor = factor[..., None] if factor.ndim else factor
    scale = {"f_lambda": factor, "f_nu": 1 / factor, "none": factor * 0 + 1}.get(density)
    if scale is None:
        raise SampleError("density", "f_lambda, f_nu or none", repr(density))
    moved = _ops.floats(xp, wave, flux) / factor
    new_flux = xp.astype(flux * scale, flux.dtype)
    new_ivar = None if ivar is None else xp.astype(ivar / scale**2, ivar.dtype)
    return moved, new_flux, new_ivar


def coadd(parts: Sequence[Spectra]) -> Spectra:
    """
    Put together measurements of the same pixels: arms of a spectrograph, repeats.

    Parameters
    ----------
    parts : sequence of Spectra
        On one grid, with inverse variance.

    Returns
    -------
    Spectra
        Mean weighted by inverse variance, the sum of inverse variances, masked where all are;
        the largest coverage.

    Raises
    ------
    SampleError
        If there is nothing, or no inverse variance.
    """
    if not parts:
        raise SampleError("parts", "one spectrum or more", "none")
    if any(part.ivar is None for part in parts):
        raise SampleError("parts", "inverse variance, the weight of the mean", "none")
    xp = _ops.namespace(*(part.flux for part in parts))
    flux = xp.stack([xp.astype(part.flux, xp.float64) for part in parts])
    weight = xp.stack([xp.astype(part.ivar, xp.float64) for part in parts])
    weight = xp.where(xp.stack([part.mask for part in parts]), 0.0, weight)
    ivar = xp.sum(weight, axis=0)
    mean = xp.sum(weight * flux, axis=0) / xp.where(ivar > 0, ivar, 1.0)
    coverage = xp.max(xp.stack([part.coverage for part in parts]), axis=0)
    first = parts[0]
    return Spectra(
        xp.astype(mean, first.flux.dtype), xp.astype(ivar, first.ivar.dtype), ivar <= 0, coverage
    )


# --------------------------------------------------------------------------------------
# Overlaps of two grids


def _overlaps(xp: Any, flux: Any, wave: Any, grid: Any, padding: Any) -> tuple[Any, Any, Any]:
    """Give places and lengths of overlaps, and the widths of the output pixels."""
    wave_shape = tuple(wave.shape)
    if len(wave_shape) > 1 and wave_shape != tuple(flux.shape):
        raise SampleError("wave", f"shape (n,) or {tuple(flux.shape)}, as flux", str(wave_shape))
    if wave_shape[-1:] != tuple(flux.shape)[-1:]:
        raise SampleError("wave", f"{flux.shape[-1]} pixels, as flux", str(wave_shape))
    centres = _host(grid)
    if centres.ndim != 1:
        raise SampleError("grid", "one axis", str(centres.shape))
    if len(wave_shape) == 1:
        if padding is not None:
            raise SampleError("padding", "a wave of each spectrum", "one shared by all")
        where = str(device(flux))
        return _shared_overlaps(_host(wave).tobytes(), centres.tobytes(), xp, where)
    wave = _ops.floats(xp, wave, flux)
    if padding is not None:
        wave = _continue_rows(xp, wave, padding)
    edges = _ops.floats(xp, pixel_edges(centres), flux)
    return (*_overlap(xp, pixel_edges(wave), edges), edges[1:] - edges[:-1])


@lru_cache(maxsize=_CACHED_GRIDS)
def _shared_overlaps(wave: bytes, grid: bytes, xp: Any, where: str) -> tuple[Any, Any, Any]:
    edges_in = pixel_edges(np.frombuffer(wave, np.float64))
    edges_out = pixel_edges(np.frombuffer(grid, np.float64))
    made = (*_overlap(_ops.namespace(edges_in), edges_in, edges_out), np.diff(edges_out))
    index, width, step = (xp.asarray(array, device=where) for array in made)
    return index, width, step


def _overlap(xp: Any, edges_in: Any, edges_out: Any) -> tuple[Any, Any]:
    """Give, for each output pixel, the input pixels under it and the lengths of overlaps."""
    last = edges_in.shape[-1] - 2
    low = xp.clip(_ops.search_sorted(xp, edges_in, edges_out[:-1], side="right") - 1, 0, last)
    high = xp.clip(_ops.search_sorted(xp, edges_in, edges_out[1:], side="left") - 1, 0, last)
    count = int(xp.max(high - low)) + 1
    index, width = [], []
    for place in range(count):
        here = xp.where(low + place < high, low + place, high)
        begin = _ops.gather(xp, edges_in, here)
        end = _ops.gather(xp, edges_in, here + 1)
        length = xp.where(end < edges_out[1:], end, edges_out[1:]) - xp.where(
            begin > edges_out[:-1], begin, edges_out[:-1]
        )
        counts = (low + place <= high) & (length > 0)
        index.append(here)
        width.append(xp.where(counts, length, 0.0))
    return xp.stack(index), xp.stack(width)


def _banded_sum(xp: Any, values: Any, index: Any, width: Any) -> Any:
    """Sum values times width over the first axis of index: one input pixel of each at a time."""
    total = _ops.gather(xp, values, index[0]) * width[0]
    for place in range(1, index.shape[0]):
        total = total + _ops.gather(xp, values, index[place]) * width[place]
    return total


def _continue_rows(xp: Any, wave: Any, padding: Any) -> Any:
    """Let wavelengths go on in the padding at the end of rows, by the last step."""
    if not bool(xp.all(padding[..., 1:] | ~padding[..., :-1])):
        raise SampleError("padding", "True at the end of rows only", "True before False")
    length = xp.sum(xp.astype(~padding, xp.int64), axis=-1, keepdims=True)
    if not bool(xp.all(length >= 2)):
        raise SampleError("padding", "2 pixels or more of each spectrum", "fewer")
    last = xp.take_along_axis(wave, length - 1, axis=-1)
    step = last - xp.take_along_axis(wave, length - 2, axis=-1)
    place = xp.arange(wave.shape[-1], device=device(wave)) - (length - 1)
    return xp.where(padding, last + step * xp.astype(place, xp.float64), wave)


def _host(wave: Any) -> NDArray[np.float64]:
    if not isinstance(wave, np.ndarray) and hasattr(wave, "detach"):
        wave = to_device(wave.detach(), "cpu")
    return np.ascontiguousarray(wave, dtype=np.float64)


def _check_steps(name: str, start: float, stop: float, step: float) -> None:
    if not (0 < start < stop < np.inf):
        raise SampleError("start, stop", "0 < start < stop", f"{start!r}, {stop!r}")
    if not 0 < step < np.inf:
        raise SampleError(name, "a number above 0", repr(step))


def _count(steps: float) -> int:
    count = int(np.floor(steps * (1 + 1e-12) + 1e-9)) + 1
    if count < 2:
        raise SampleError("start, stop", "room for 2 centres or more", str(count))
    return count
