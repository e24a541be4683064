"""
Point-spread functions: models, widths, and images brought to one of them.

A PSF is an image of shape (..., n, n), n odd, of sum 1, with the star in its middle pixel. Every
function takes numpy arrays and torch tensors, in batches, on any device with double precision;
gradients flow from a convolved image to its flux.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from astropile.errors import SampleError
from astropile.transforms._arrays import Array, constant, namespace
from astropile.transforms.images.image import Image, checked, usable

FWHM_PER_SIGMA = 2 * math.sqrt(2 * math.log(2))


class Homogenised(NamedTuple):
    """
    Images brought to one PSF.

    Attributes
    ----------
    image : Image
        Flux, ivar (if one was given) and mask.
    kernel : numpy.ndarray or torch.Tensor, shape (..., m, m), float64
        What they were convolved with, of sum 1; `noise_correlation` tells what it does to noise.
    psf : numpy.ndarray or torch.Tensor, shape (..., m, m), float64
        The PSF they have now: their own, convolved with the kernel.
    """

    image: Image
    kernel: Array
    psf: Array


def gaussian_psf(fwhm: float, size: int) -> NDArray[np.float64]:
    """
    Make a round Gaussian.

    Parameters
    ----------
    fwhm : float
        Full width at half maximum [pixel].
    size : int
        Rows and columns, odd.

    Returns
    -------
    ndarray, shape (size, size), float64
        Its value at the middle of each pixel, of sum 1.

    Raises
    ------
    SampleError
        If the width is not above 0 or the size not odd.
    """
    return _model(fwhm, size, lambda squared: np.exp(-4 * math.log(2) * squared))


def moffat_psf(fwhm: float, size: int, *, beta: float = 3.5) -> NDArray[np.float64]:
    """
    Make a round Moffat profile, which has the wings of a star seen through the atmosphere.

    Parameters
    ----------
    fwhm : float
        Full width at half maximum [pixel].
    size : int
        Rows and columns, odd.
    beta : float, optional
        Steepness of the wings, above 1 (Moffat 1969, A&A 3, 455).

    Returns
    -------
    ndarray, shape (size, size), float64
        Its value at the middle of each pixel, of sum 1.

    Raises
    ------
    SampleError
        If the width is not above 0, beta not above 1, or the size not odd.
    """
    if not beta > 1:
        raise SampleError("beta", "a number above 1", repr(beta))
    return _model(fwhm, size, lambda squared: (1 + 4 * squared * (2 ** (1 / beta) - 1)) ** -beta)


def measure_fwhm(psf: Array) -> Array:
    """
    Measure the width of PSFs by their adaptive second moments.

    Parameters
    ----------
    psf : numpy.ndarray or torch.Tensor, shape (..., n, n)
        PSFs, without noise or nearly so.

    Returns
    -------
    numpy.ndarray or torch.Tensor, shape (...), float64
        FWHM of the Gaussian that matches each [pixel], the geometric mean of both axes; NaN if
        there is none, as for a star in one pixel.

    Notes
    -----
    Moments are weighted with a Gaussian whose centre and covariance become, step by step, those of
    the weighted PSF (Bernstein & Jarvis 2002, AJ 123, 583): the definition of the stored columns
    ``psf_fwhm``. For a Gaussian it is its FWHM; wings hardly count, and a Moffat profile of beta
    3.5 comes out a tenth wider than at half its maximum.
    """
    xp = namespace(psf, "psf")
    image = xp.astype(psf, xp.float64)
    row = constant(np.arange(psf.shape[-2])[:, None], image)
    column = constant(np.arange(psf.shape[-1]), image)
    total = _sum(xp, image)
    y, x = (_sum(xp, xp.clip(image, 0.0, None) ** 2 * place) for place in (row, column))
    peak = _sum(xp, xp.clip(image, 0.0, None) ** 2)
    peak = xp.where(peak > 0, peak, xp.ones_like(peak))
    y, x = y / peak, x / peak
    yy, xx, yx = 4 * xp.ones_like(total), 4 * xp.ones_like(total), xp.zeros_like(total)
    for _ in range(200):
        det = yy * xx - yx**2
        dy, dx = row - y, column - x
        distance = (xx * dy**2 - 2 * yx * dy * dx + yy * dx**2) / det
        weight = image * xp.exp(-0.5 * distance)
        norm = _sum(xp, weight)
        norm = xp.where(norm > 0, norm, xp.full_like(norm, np.nan))
        shift_y, shift_x = _sum(xp, weight * dy) / norm, _sum(xp, weight * dx) / norm
        new = [2 * _sum(xp, weight * a * b) / norm for a, b in ((dy, dy), (dx, dx), (dy, dx))]
        change = sum(xp.abs(a - b) for a, b in zip(new, (yy, xx, yx), strict=True))
        change = change / (yy + xx) + xp.abs(shift_y) + xp.abs(shift_x)
        y, x = y + 2 * shift_y, x + 2 * shift_x
        yy, xx, yx = new
        good = yy * xx - yx**2 > 0
        yy, xx, yx = (xp.where(good, a, xp.full_like(a, np.nan)) for a in (yy, xx, yx))
        if not bool(xp.any(change > 1e-7)):
            break
    return FWHM_PER_SIGMA * (yy * xx - yx**2)[..., 0, 0] ** 0.25


def matching_kernel(psf: Array, target: Array, *, regularisation: float = 1e-4) -> Array:
    """
    Find what to convolve with to come from one PSF to another.

    Parameters
    ----------
    psf : numpy.ndarray or torch.Tensor, shape (..., n, n), n odd
        PSFs of the images; normalised here.
    target : numpy.ndarray or torch.Tensor, shape (..., m, m), m odd
        PSFs to come to, on pixels of the same size; normalised here.
    regularisation : float, optional
        Weight of the smoothness of the kernel against its fit. Larger values give kernels with
        less noise that miss the target by more.

    Returns
    -------
    numpy.ndarray or torch.Tensor, shape (..., k, k), float64
        Kernels of sum 1, k the larger of n and m; in the library and on the device of ``psf``.

    Raises
    ------
    SampleError
        If a PSF is not square and of odd size, not finite, or of no flux.

    Notes
    -----
    In Fourier space ``K = conj(P) T / (|P|^2 + r |L|^2)`` with P, T of sum 1 and L the discrete
    Laplacian (1 at the middle, -1/4 beside it), as Boucaud et al. 2016 (A&A 596, A63). L vanishes
    at frequency 0, so the kernel's sum, and with it the flux of sources, is kept exactly whatever
    r is. The kernel lies on a torus of k × k pixels: give stamps that reach well into the wings.
    """
    xp = namespace(psf, "psf")
    size = max(psf.shape[-1], target.shape[-1])
    spectrum = xp.fft.rfft2(_centred(xp, psf, size, "psf"))
    wanted = xp.fft.rfft2(_centred(xp, constant(target, psf, xp.float64), size, "target"))
    laplacian = np.zeros((size, size))
    laplacian[0, 0] = 1.0
    for place in ((0, 1), (1, 0), (0, -1), (-1, 0)):
        laplacian[place] -= 0.25
    penalty = constant(np.abs(np.fft.rfft2(laplacian)) ** 2, psf, xp.float64)
    power = xp.abs(spectrum) ** 2 + regularisation * penalty
    kernel = xp.fft.irfft2(xp.conj(spectrum) * wanted / power, s=(size, size))
    return xp.roll(kernel, (size // 2, size // 2), axis=(-2, -1))


def convolve(image: Image, kernel: Array, *, min_coverage: float = 0.9) -> Image:
    """
    Convolve images with kernels of sum 1, without what is masked.

    Parameters
    ----------
    image : Image
        Flux, ivar and mask of shape (..., n_rows, n_columns).
    kernel : numpy.ndarray or torch.Tensor, shape (..., k, k), k odd
        Kernels, one for all or leading axes that broadcast with the images'.
    min_coverage : float, optional
        Pixels are masked where less than this share of the kernel's absolute weight falls on good
        pixels: near masked ones and near the edge.

    Returns
    -------
    Image
        Always with a mask; where it is True the ivar is 0.

    Raises
    ------
    SampleError
        If the arrays do not belong together, or a kernel is not square and of odd size.

    Notes
    -----
    ``sum(k g f) / sum(k g)``, g 1 where a pixel is good: masked pixels, and those over the edge,
    count as the kernel's mean of the others (normalised convolution, Knutsson & Westin 1993). Where
    all are good this is the convolution, and the flux of a source all of whose light stays inside
    is conserved. The variance is ``sum(k**2 g / ivar)`` over the same divisor squared: right for
    each pixel by itself, while neighbours share their noise (`noise_correlation`). Fourier
    transforms in double precision, so that bright stars leave no rounding in faint sky, take some
    25 times the memory of a flux in single precision.
    """
    xp = checked(image)
    kernel = constant(kernel, image.flux, xp.float64)
    _odd(kernel, "kernel")
    good = usable(image)
    zero = xp.zeros_like(image.flux)
    weight = xp.astype(good, xp.float64)
    flux = _convolved(xp, xp.astype(xp.where(good, image.flux, zero), xp.float64), kernel)
    norm = _convolved(xp, weight, kernel)
    strength = xp.abs(kernel)
    coverage = _convolved(xp, weight, strength) / _sum(xp, strength)
    bad = (coverage < min_coverage - 1e-9) | (norm < 0.1 * min_coverage)
    norm = xp.where(bad, xp.ones_like(norm), norm)
    ivar = None
    if image.ivar is not None:
        one = xp.ones_like(image.ivar)
        variance = xp.where(good, 1.0 / xp.astype(xp.where(good, image.ivar, one), xp.float64), 0.0)
        variance = _convolved(xp, variance, kernel**2) / norm**2
        none = bad | ~(variance > 0)
        ivar = xp.where(none, 0.0, 1.0 / xp.where(none, 1.0, variance))
        ivar = xp.astype(ivar, image.ivar.dtype)
    return Image(xp.astype(flux / norm, image.flux.dtype), ivar, bad)


def noise_correlation(kernel: Array) -> Array:
    """
    Tell how the noise of pixels is correlated after white noise was convolved.

    Parameters
    ----------
    kernel : numpy.ndarray or torch.Tensor, shape (..., k, k)
        Kernels.

    Returns
    -------
    numpy.ndarray or torch.Tensor, shape (..., 2 k - 1, 2 k - 1), float64
        Correlation of a pixel with that so many rows and columns away, 1 in the middle. Its sum is
        the factor by which the variance of a sum over many pixels exceeds that of the ivars.
    """
    xp = namespace(kernel, "kernel")
    kernel = xp.astype(kernel, xp.float64)
    rows, columns = kernel.shape[-2:]
    wide = (2 * rows - 1, 2 * columns - 1)
    power = xp.abs(xp.fft.rfft2(kernel, s=wide)) ** 2
    correlation = xp.roll(xp.fft.irfft2(power, s=wide), (rows - 1, columns - 1), axis=(-2, -1))
    return correlation / _sum(xp, kernel**2)


def homogenise(
    image: Image,
    psf: Array,
    target: Array | float,
    *,
    regularisation: float = 1e-4,
    min_coverage: float = 0.9,
    max_gain: float = 2.0,
) -> Homogenised:
    """
    Bring images to one, wider PSF.

    Parameters
    ----------
    image : Image
        Flux, ivar and mask of shape (..., n_rows, n_columns).
    psf : numpy.ndarray or torch.Tensor, shape (..., n, n), n odd
        PSFs of the images: one for all, or leading axes that broadcast with the images'.
    target : numpy.ndarray, torch.Tensor or float
        PSFs to come to, or the FWHM [pixel] of a Gaussian.
    regularisation : float, optional
        As of `matching_kernel`.
    min_coverage : float, optional
        As of `convolve`.
    max_gain : float, optional
        How much the kernel may amplify any spatial frequency before this counts as sharpening.

    Returns
    -------
    Homogenised
        The images, the kernels, and the PSFs that came out: compare ``measure_fwhm(result.psf)``
        with that of the target.

    Raises
    ------
    SampleError
        If a target is narrower than a PSF: images are not sharpened, since that makes noise of
        what the PSF has taken away. If a PSF has no width, as one that is badly sampled. Also what
        `matching_kernel` and `convolve` refuse.

    Notes
    -----
    A target of given FWHM has the size of ``psf``, or more if that is less than four FWHM. Flux is
    conserved as `convolve` says. A star that is not in the middle of its PSF moves: the images come
    out as if it were. Real PSFs have wings, and a Gaussian has none: to keep them, give
    a Moffat profile or the widest of the PSFs as target.
    """
    xp = checked(image)
    psf = constant(psf, image.flux, xp.float64)
    size = _odd(psf, "psf")
    goal = target
    if isinstance(target, int | float | np.number):
        fwhm = _refuse_width(float(target))
        goal = gaussian_psf(fwhm, max(size, 2 * math.ceil(2 * fwhm) + 1))
    goal = constant(goal, image.flux, xp.float64)
    _refuse_to_sharpen(xp, measure_fwhm(psf), measure_fwhm(goal))
    kernel = matching_kernel(psf, goal, regularisation=regularisation)
    gain = float(xp.max(xp.abs(xp.fft.rfft2(kernel))))
    if gain > max_gain:
        raise SampleError(
            "target",
            f"a PSF to which no spatial frequency is amplified more than {max_gain:g} times",
            f"one that needs {gain:.3g} times",
        )
    wide = kernel.shape[-1]
    achieved = _convolved(xp, _grown(xp, psf / _sum(xp, psf), wide), kernel)
    return Homogenised(convolve(image, kernel, min_coverage=min_coverage), kernel, achieved)


def _model(fwhm: float, size: int, profile: Any) -> NDArray[np.float64]:
    _refuse_width(fwhm)
    if size != int(size) or size < 1 or size % 2 == 0:
        raise SampleError("size", "an odd number of pixels", repr(size))
    line = (np.arange(int(size)) - size // 2) / fwhm
    values: NDArray[np.float64] = profile(line[:, None] ** 2 + line**2)
    values /= values.sum()
    return values


def _refuse_width(fwhm: float) -> float:
    if not 0 < fwhm < math.inf:
        raise SampleError("fwhm", "a finite number of pixels above 0", repr(fwhm))
    return fwhm


def _odd(psf: Array, name: str) -> int:
    shape = tuple(psf.shape)
    if len(shape) < 2 or shape[-1] != shape[-2] or shape[-1] % 2 == 0:
        raise SampleError(name, "squares of odd size (crop_or_pad brings them to it)", str(shape))
    return int(shape[-1])


def _sum(xp: Any, values: Array) -> Array:
    return xp.sum(values, axis=(-2, -1), keepdims=True)


def _grown(xp: Any, psf: Array, size: int) -> Array:
    """Put zeros around an image of odd size."""
    lead, n = tuple(psf.shape[:-2]), psf.shape[-1]
    add = (size - n) // 2
    if not add:
        return psf
    like = {"dtype": psf.dtype, "device": psf.device}
    side = xp.zeros((*lead, n, add), **like)
    ends = xp.zeros((*lead, add, size), **like)
    return xp.concat([ends, xp.concat([side, psf, side], axis=-1), ends], axis=-2)


def _centred(xp: Any, psf: Array, size: int, name: str) -> Array:
    """Give a PSF of sum 1 on a grid of that size."""
    _odd(psf, name)
    psf = xp.astype(psf, xp.float64)
    total = _sum(xp, psf)
    if not bool(xp.all(xp.isfinite(psf))) or not bool(xp.all(total > 0)):
        raise SampleError(name, "finite numbers of positive sum", "others")
    return _grown(xp, psf / total, size)


def _convolved(xp: Any, values: Array, kernel: Array) -> Array:
    """Convolve with a kernel of odd size, zeros around, to the same shape."""
    (rows, columns), size = values.shape[-2:], kernel.shape[-1]
    wide = (_fast_length(rows + size - 1), _fast_length(columns + size - 1))
    product = xp.fft.rfft2(values, s=wide) * xp.fft.rfft2(kernel, s=wide)
    half = size // 2
    return xp.fft.irfft2(product, s=wide)[..., half : half + rows, half : half + columns]


@functools.lru_cache(maxsize=256)
def _fast_length(n: int) -> int:
    """Give the least length from n on that has no prime factor above 5."""
    while True:
        rest = n
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return n
        n += 1


def _refuse_to_sharpen(xp: Any, fwhm: Array, wanted: Array) -> None:
    for name, widths in (("psf", fwhm), ("target", wanted)):
        if not bool(xp.all(xp.isfinite(widths))):
            raise SampleError(
                name, "a PSF whose width can be measured, of two pixels or more", "another"
            )
    if bool(xp.any(wanted < fwhm * (1 - 1e-4))):
        raise SampleError(
            "target",
            f"a PSF at least as wide as that of every image, {float(xp.max(fwhm)):.4g} pixels",
            f"one of {float(xp.min(wanted)):.4g} pixels",
        )
