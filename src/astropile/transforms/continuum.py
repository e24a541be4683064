"""
Continua of spectra, robust normalisation, signal to noise.

Numpy arrays and torch tensors alike. Bad pixels never count.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from array_api_compat import device

from astropile.errors import SampleError
from astropile.transforms import _ops

_DER_SNR: Final = 1.482602 / 6**0.5
"""1.482602 / sqrt(6): from median |2 f(i) - f(i-2) - f(i+2)| to the noise of a pixel."""


class Normalised(NamedTuple):
    """
    Values with a centre of 0 and a scale of 1.

    Attributes
    ----------
    flux : ndarray or Tensor, shape (..., n)
        ``(flux - center) / scale``; 0 where the mask is True.
    ivar : ndarray or Tensor, shape (..., n), or None
        ``ivar * scale**2``; 0 where the mask is True.
    mask : ndarray or Tensor, shape (..., n), bool
        True is bad. All of a spectrum, where it has no centre or no scale.
    center, scale : ndarray or Tensor, shape (...), float64
        What was taken out: ``flux * scale + center`` gives the values back.
    """

    flux: Any
    ivar: Any
    mask: Any
    center: Any
    scale: Any


def running_median(flux: Any, mask: Any = None, *, window: int) -> tuple[Any, Any]:
    """
    Take the median of the good pixels around each.

    Parameters
    ----------
    flux : ndarray or Tensor, shape (..., n)
        Values.
    mask : ndarray or Tensor, shape (..., n), bool, optional
        True is bad.
    window : int
        Number of pixels of which the pixel is the middle, odd. Cut off at the ends.

    Returns
    -------
    continuum : ndarray or Tensor, shape (..., n)
        The medians, 0 where nothing is good.
    mask : ndarray or Tensor, shape (..., n), bool
        True where no pixel of the window was good.

    Raises
    ------
    SampleError
        If window is not odd.

    Notes
    -----
    A constant stays itself, and lines narrower than half of the window do not matter. Memory:
    8 bytes times window for each value.
    """
    if window < 1 or window % 2 == 0:
        raise SampleError("window", "an odd number of pixels", repr(window))
    xp = _ops.namespace(flux, mask)
    good = _ops.good_pixels(xp, flux, None, mask)
    size = flux.shape[-1]
    pixel = xp.arange(size, device=device(flux))
    near = pixel[:, None] + xp.arange(window, device=device(flux)) - window // 2
    inside = (near >= 0) & (near < size)
    place = xp.reshape(xp.clip(near, 0, size - 1), (-1,))
    shape = (*flux.shape, window)
    values = xp.reshape(xp.take(flux, place, axis=-1), shape)
    counts = xp.reshape(xp.take(good, place, axis=-1), shape) & inside
    middle, empty = _ops.good_median(xp, values, counts)
    return xp.astype(xp.where(empty, 0.0, middle), flux.dtype), empty


def fit_continuum(
    flux: Any,
    ivar: Any = None,
    mask: Any = None,
    *,
    wave: Any,
    degree: int = 5,
    low: float = 2.0,
    high: float = 3.0,
    n_iter: int = 8,
) -> tuple[Any, Any]:
    """
    Fit a polynomial to what is left of spectra once lines are rejected.

    Parameters
    ----------
    flux : ndarray or Tensor, shape (..., n)
        Flux density.
    ivar : ndarray or Tensor, shape (..., n), optional
        Inverse variance, the weights; by default equal.
    mask : ndarray or Tensor, shape (..., n), bool, optional
        Pixels to leave out.
    wave : ndarray or Tensor, shape (n,) or (..., n), float64
        Centres of pixels [Angstrom].
    degree : int
        Of the polynomial (Chebyshev, over the range of wave).
    low, high : float
        How far below and above the fit a pixel may lie, in robust standard deviations of the
        residuals over their errors. Absorption lines: low below high; emission lines: above.
    n_iter : int
        Rounds of rejection; a rejected pixel may come back.

    Returns
    -------
    continuum : ndarray or Tensor, shape (..., n)
        The polynomial, at every pixel.
    mask : ndarray or Tensor, shape (...), bool
        True for spectra with fewer good pixels than coefficients: their continuum is 0.

    Raises
    ------
    SampleError
        If degree or n_iter is below 0, or low or high not above it.

    Notes
    -----
    Weighted least squares by normal equations: fine up to a degree of some 15. The way of
    IRAF's task `continuum` (asymmetric rejection, repeated).
    """
    if degree < 0 or n_iter < 0 or not low > 0 or not high > 0:
        found = f"{degree!r}, {n_iter!r}, {low!r}, {high!r}"
        raise SampleError("degree, n_iter, low, high", "0 or more, 0 or more, above 0", found)
    xp = _ops.namespace(flux, ivar, mask)
    good = _ops.good_pixels(xp, flux, ivar, mask)
    basis = _chebyshev(xp, _ops.floats(xp, wave, flux), degree)
    weight = xp.astype(good, xp.float64)
    if ivar is not None:
        weight = xp.where(good, xp.astype(ivar, xp.float64), 0.0)
    values = xp.where(good, xp.astype(flux, xp.float64), 0.0)
    kept = good
    fit = values * 0
    for _ in range(n_iter + 1):
        fit = _least_squares(xp, basis, values, xp.where(kept, weight, 0.0))
        residual = (values - fit) * xp.sqrt(weight)
        scatter = _ops.MAD_TO_SIGMA * _ops.good_median(xp, abs(residual), kept)[0][..., None]
        fresh = good & (residual >= -low * scatter) & (residual <= high * scatter)
        enough = xp.sum(xp.astype(fresh, xp.int64), axis=-1, keepdims=True) > degree + 1
        kept = xp.where(enough, fresh, kept)
    few = xp.sum(xp.astype(good, xp.int64), axis=-1) < degree + 1
    return xp.astype(xp.where(few[..., None], 0.0, fit), flux.dtype), few


def robust_normalise(flux: Any, ivar: Any = None, mask: Any = None) -> Normalised:
    """
    Take out the median, divide by the scatter.

    Parameters
    ----------
    flux : ndarray or Tensor, shape (..., n)
        Values.
    ivar : ndarray or Tensor, shape (..., n), optional
        Inverse variance, the weights of median and scatter; by default equal.
    mask : ndarray or Tensor, shape (..., n), bool, optional
        Pixels to leave out.

    Returns
    -------
    Normalised
        With ``center`` the weighted median and ``scale`` 1.4826 times the weighted median
        absolute deviation.

    Notes
    -----
    ``a * flux + b`` with a above 0 is normalised to the same: units and offsets do not matter,
    nor do less than half of the weights. Differences in units of the errors stay.
    """
    xp = _ops.namespace(flux, ivar, mask)
    good = _ops.good_pixels(xp, flux, ivar, mask)
    values = xp.where(good, xp.astype(flux, xp.float64), 0.0)
    weight = xp.astype(good, xp.float64)
    if ivar is not None:
        weight = xp.where(good, xp.astype(ivar, xp.float64), 0.0)
    center = _ops.weighted_median(xp, values, weight)
    deviation = abs(values - center[..., None])
    scale = _ops.MAD_TO_SIGMA * _ops.weighted_median(xp, deviation, weight)
    good = good & (scale > 0)[..., None]
    safe = xp.where(scale > 0, scale, 1.0)[..., None]
    new_flux = xp.where(good, (values - center[..., None]) / safe, 0.0)
    new_ivar = None
    if ivar is not None:
        new_ivar = xp.astype(xp.where(good, weight * safe**2, 0.0), ivar.dtype)
    return Normalised(xp.astype(new_flux, flux.dtype), new_ivar, ~good, center, scale)


def signal_to_noise(flux: Any, ivar: Any, mask: Any = None) -> Any:
    """
    Give the median of flux over its error.

    Parameters
    ----------
    flux, ivar : ndarray or Tensor, shape (..., n)
        Flux density and its inverse variance.
    mask : ndarray or Tensor, shape (..., n), bool, optional
        Pixels to leave out.

    Returns
    -------
    ndarray or Tensor, shape (...), float64
        Median over good pixels of ``flux * sqrt(ivar)``, per pixel; NaN without any.
    """
    xp = _ops.namespace(flux, ivar, mask)
    good = _ops.good_pixels(xp, flux, ivar, mask)
    error = xp.sqrt(xp.where(good, xp.astype(ivar, xp.float64), 0.0))
    ratio = xp.where(good, xp.astype(flux, xp.float64), 0.0) * error
    return _ops.good_median(xp, ratio, good)[0]


def der_snr(flux: Any, mask: Any = None) -> Any:
    """
    Estimate signal to noise from the flux alone.

    Parameters
    ----------
    flux : ndarray or Tensor, shape (..., n)
        Flux density.
    mask : ndarray or Tensor, shape (..., n), bool, optional
        Pixels to leave out.

    Returns
    -------
    ndarray or Tensor, shape (...), float64
        Median flux over the noise of a pixel, which is 1.482602 / sqrt(6) times the median of
        ``|2 f(i) - f(i-2) - f(i+2)|``; NaN without good pixels.

    Notes
    -----
    It holds for noise that is independent in pixels two apart, and spectra that are smooth
    over five: not after `rebin` to a finer grid.

    References
    ----------
    .. [1] Stoehr et al. 2008, ADASS XVII, ASP Conf. Ser. 394, 505.
    """
    xp = _ops.namespace(flux, mask)
    good = _ops.good_pixels(xp, flux, None, mask)
    if flux.shape[-1] < 5:
        raise SampleError("flux", "5 pixels or more", str(flux.shape[-1]))
    values = xp.where(good, xp.astype(flux, xp.float64), 0.0)
    whole = good[..., 2:-2] & good[..., :-4] & good[..., 4:]
    rough = abs(2 * values[..., 2:-2] - values[..., :-4] - values[..., 4:])
    noise = _DER_SNR * _ops.good_median(xp, rough, whole)[0]
    return _ops.good_median(xp, values, good)[0] / noise


def _chebyshev(xp: Any, wave: Any, degree: int) -> Any:
    """Give the polynomials of each pixel, shape (..., n, degree + 1), over -1 to 1."""
    first, last = wave[..., :1], wave[..., -1:]
    place = (2 * wave - first - last) / (last - first)
    terms = [place * 0 + 1, place]
    for _ in range(degree - 1):
        terms.append(2 * place * terms[-1] - terms[-2])
    return xp.stack(terms[: degree + 1], axis=-1)


def _least_squares(xp: Any, basis: Any, values: Any, weight: Any) -> Any:
    """Give the weighted fit at every pixel."""
    peak = xp.max(weight, axis=-1, keepdims=True)
    weight = weight / xp.where(peak > 0, peak, 1.0)
    size = basis.shape[-1]
    # So small that it changes nothing but matrices that have no inverse.
    ridge = 1e-13 * xp.eye(size, dtype=xp.float64, device=device(values))
    if basis.ndim == 2:  # one wavelength array: products of polynomials are those of all
        pairs = xp.reshape(basis[:, :, None] * basis[:, None, :], (basis.shape[0], size**2))
        rows = xp.reshape(weight, (-1, basis.shape[0]))
        right = (rows * xp.reshape(values, rows.shape)) @ basis
        normal = xp.reshape(rows @ pairs, (-1, size, size))
        found = xp.linalg.solve(normal + ridge, right[..., None])[..., 0]
        return xp.reshape(found @ xp.matrix_transpose(basis), values.shape)
    weighted = basis * weight[..., None]
    normal = xp.matmul(xp.matrix_transpose(weighted), basis)
    right = xp.matmul(xp.matrix_transpose(weighted), values[..., None])
    return xp.matmul(basis, xp.linalg.solve(normal + ridge, right))[..., 0]
