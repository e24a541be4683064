"""
Line-spread functions: spectra brought to one, coarser, resolution.

Numpy arrays and torch tensors alike.
"""

from __future__ import annotations

import math
from typing import Any, Final

from astropile.errors import SampleError
from astropile.transforms import _ops
from astropile.transforms.spectra import Spectra, pixel_edges

_REACH: Final = 5.0
"""Half width of a kernel in its standard deviations: 6e-7 of a Gaussian lies outside."""
_SAMPLED_FROM: Final = 0.7
"""Standard deviation [pixel] from which a sampled Gaussian has its variance to 1e-3."""


def match_resolution(
    flux: Any,
    ivar: Any = None,
    mask: Any = None,
    *,
    wave: Any,
    lsf_sigma: Any,
    target_sigma: Any,
    min_coverage: float = 0.5,
) -> Spectra:
    """
    Smooth spectra until their line-spread function has a given width.

    Parameters
    ----------
    flux : ndarray or Tensor, shape (..., n)
        Flux density.
    ivar : ndarray or Tensor, shape (..., n), optional
        Inverse variance of flux.
    mask : ndarray or Tensor, shape (..., n), bool, optional
        Pixels to leave out.
    wave : ndarray or Tensor, shape (n,) or (..., n), float64
        Centres of the pixels [Angstrom].
    lsf_sigma : float, ndarray or Tensor, shape () or (..., n)
        Standard deviation of the line-spread function there is [Angstrom].
    target_sigma : float, ndarray or Tensor, shape () or (..., n)
        The one wanted, nowhere smaller [Angstrom]; ``wave / (2.3548 * R)`` for a resolving
        power R.
    min_coverage : float
        Share of a pixel's kernel that must fall on good pixels for it to count.

    Returns
    -------
    Spectra
        On the same pixels. Integrated flux is conserved where nothing is masked, but for what
        leaves at the ends.

    Raises
    ------
    SampleError
        If the spectrum would have to be sharpened, or shapes do not agree.

    Notes
    -----
    The kernel of a pixel is a Gaussian of variance ``target**2 - lsf**2``, normalised to 1 as
    it spreads the pixel's light: sampled at pixel centres, and where its standard deviation is
    below 0.7 pixels the three numbers ``v/2, 1-v, v/2`` that have its variance v exactly. Next
    to bad pixels a mean of the good ones is taken. Variance goes with the squares of the
    weights; noise of neighbouring pixels, even if it was independent, is no more, and ivar does
    not tell their covariance.
    """
    xp = _ops.namespace(flux, ivar, mask)
    good = _ops.good_pixels(xp, flux, ivar, mask)
    edges = pixel_edges(_ops.floats(xp, wave, flux))
    size = edges[..., 1:] - edges[..., :-1]
    here, wanted = _ops.floats(xp, lsf_sigma, flux), _ops.floats(xp, target_sigma, flux)
    extra = wanted**2 - here**2
    if not bool(xp.all(extra >= -1e-9 * wanted**2)):
        raise SampleError(
            "target_sigma", "no less than lsf_sigma: smoothing cannot sharpen", "less somewhere"
        )
    variance = xp.clip(extra / size**2, 0, None)
    values = xp.where(good, xp.astype(flux, xp.float64), 0.0)
    noise = None
    if ivar is not None:
        noise = xp.where(good, 1 / xp.where(good, xp.astype(ivar, xp.float64), 1.0), 0.0)
    # Light, not its density, is what a pixel gives away: pixels may be of several widths.
    light, covered, all_of_it, spread = _spread(xp, variance, values, noise, good, size)
    coverage = covered / xp.where(all_of_it > 0, all_of_it, 1.0)
    enough = (covered > 0) & (coverage >= min_coverage)
    share = xp.where(enough, coverage, 1.0) * size
    new_flux = xp.astype(xp.where(enough, light / share, 0.0), flux.dtype)
    new_ivar = None
    if ivar is not None:
        safe = xp.where(enough, spread, 1.0)
        new_ivar = xp.astype(xp.where(enough, share**2 / safe, 0.0), ivar.dtype)
    return Spectra(new_flux, new_ivar, ~enough, coverage)


def _spread(
    xp: Any, variance: Any, values: Any, noise: Any, good: Any, size: Any
) -> tuple[Any, Any, Any, Any]:
    """Add up, in each pixel, what all others give it: light, weights good and all, variance."""
    sigma = xp.sqrt(variance)
    reach = max(1, math.ceil(_REACH * float(xp.max(sigma))))
    reach = min(reach, values.shape[-1] - 1)
    # Kernels have the shape of what they depend on: of one spectrum where all have the same.
    total = sum((_kernel(xp, variance, step) for step in range(-reach, reach + 1)), start=0.0)
    light = covered = xp.zeros_like(values)
    all_of_it = variance * 0
    spread = None if noise is None else light
    measured = xp.astype(good, xp.float64)
    for step in range(-reach, reach + 1):
        weight = _kernel(xp, variance, step) / total
        light = light + _shift(xp, weight * values * size, step)
        covered = covered + _shift(xp, weight * measured, step)
        all_of_it = all_of_it + _shift(xp, weight, step)
        if noise is not None:
            spread = spread + _shift(xp, weight**2 * noise * size**2, step)
    return light, covered, all_of_it, spread


def _kernel(xp: Any, variance: Any, step: int) -> Any:
    """Weight, not yet normalised, that a pixel gives to the one some steps on."""
    wide = variance >= _SAMPLED_FROM**2
    sampled = xp.exp(-(step**2) / (2 * xp.where(wide, variance, 1.0)))
    narrow = (1 - variance, variance / 2)[abs(step)] if abs(step) < 2 else variance * 0
    return xp.where(wide, sampled, narrow)


def _shift(xp: Any, values: Any, step: int) -> Any:
    """Move values some pixels on, with zeros behind."""
    size = values.shape[-1]
    gone = xp.zeros_like(values[..., : abs(step)])
    parts = [gone, values[..., : size - step]] if step >= 0 else [values[..., -step:], gone]
    return xp.concat(parts, axis=-1)
