"""Values of pixels brought to the range of a model or of the eye."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from astropile.errors import SampleError
from astropile.transforms._arrays import Array, constant, namespace, per_band
from astropile.transforms.images.image import Image, checked, usable


def arcsinh_stretch(image: Image, softening: ArrayLike, *, minimum: ArrayLike = 0.0) -> Image:
    """
    Give ``arcsinh((flux - minimum) / softening)``: linear in noise, logarithmic in bright pixels.

    Parameters
    ----------
    image : Image
        Flux, ivar and mask of shape (..., n_bands, n_rows, n_columns), or without bands.
    softening : array_like, shape () or (n_bands,)
        Flux at which the linear part ends, some times the noise of a pixel.
    minimum : array_like, shape () or (n_bands,), optional
        Flux that becomes 0.

    Returns
    -------
    Image
        The stretched flux, its ivar to first order, and the mask.

    Raises
    ------
    SampleError
        If softenings are not above 0, or are not as many as bands.

    Notes
    -----
    The inverse hyperbolic sine of Lupton, Gunn & Szalay (1999, AJ 118, 1406). It keeps order and
    sign, is odd about ``minimum``, and `arcsinh_unstretch` gives the flux back.
    """
    xp = checked(image)
    soft = _positive(softening, image.flux, "softening")
    above = image.flux - per_band(minimum, image.flux, "minimum")
    ivar = None if image.ivar is None else image.ivar * (above**2 + soft**2)
    return Image(xp.asinh(above / soft), ivar, image.mask)


def arcsinh_unstretch(image: Image, softening: ArrayLike, *, minimum: ArrayLike = 0.0) -> Image:
    """
    Undo `arcsinh_stretch`.

    Parameters
    ----------
    image : Image
        Stretched images.
    softening, minimum : array_like, shape () or (n_bands,)
        As they were stretched with.

    Returns
    -------
    Image
        Flux, ivar and mask as before, within rounding.

    Raises
    ------
    SampleError
        If softenings are not above 0, or are not as many as bands.
    """
    xp = checked(image)
    soft = _positive(softening, image.flux, "softening")
    flux = soft * xp.sinh(image.flux) + per_band(minimum, image.flux, "minimum")
    ivar = None if image.ivar is None else image.ivar / (soft * xp.cosh(image.flux)) ** 2
    return Image(flux, ivar, image.mask)


def scale_bands(image: Image, location: ArrayLike, scale: ArrayLike) -> Image:
    """
    Give ``(flux - location) / scale``, band by band.

    Parameters
    ----------
    image : Image
        Flux, ivar and mask of shape (..., n_bands, n_rows, n_columns), or without bands.
    location, scale : array_like, shape () or (n_bands,)
        What becomes 0, and what becomes 1 above it: mean and standard deviation, or median and a
        robust width. `astropile.statistics` finds them over a tree.

    Returns
    -------
    Image
        The scaled flux, its ivar, and the mask. Signal to noise about ``location`` is kept.

    Raises
    ------
    SampleError
        If scales are not above 0, or are not as many as bands.
    """
    checked(image)
    width = _positive(scale, image.flux, "scale")
    flux = (image.flux - per_band(location, image.flux, "location")) / width
    return Image(flux, None if image.ivar is None else image.ivar * width**2, image.mask)


def unscale_bands(image: Image, location: ArrayLike, scale: ArrayLike) -> Image:
    """
    Undo `scale_bands`.

    Parameters
    ----------
    image : Image
        Scaled images.
    location, scale : array_like, shape () or (n_bands,)
        As they were scaled with.

    Returns
    -------
    Image
        Flux, ivar and mask as before, within rounding.

    Raises
    ------
    SampleError
        If scales are not above 0, or are not as many as bands.
    """
    checked(image)
    width = _positive(scale, image.flux, "scale")
    flux = image.flux * width + per_band(location, image.flux, "location")
    return Image(flux, None if image.ivar is None else image.ivar / width**2, image.mask)


def percentile_limits(image: Image, low: float = 0.5, high: float = 99.5) -> tuple[Array, Array]:
    """
    Find two percentiles of the good pixels of each image and band.

    Parameters
    ----------
    image : Image
        Flux, ivar and mask of shape (..., n_rows, n_columns).
    low, high : float, optional
        Percentiles, 0 to 100.

    Returns
    -------
    low, high : numpy.ndarray or torch.Tensor, shape (...)
        Flux there, linear between pixels as `numpy.percentile`; NaN where no pixel is good.

    Raises
    ------
    SampleError
        If the percentiles are not in order within 0 to 100.
    """
    xp = checked(image)
    if not 0 <= low < high <= 100:
        raise SampleError("low, high", "percentiles, 0 <= low < high <= 100", f"{low}, {high}")
    good = usable(image)
    infinite = constant(np.inf, image.flux)
    flat = xp.where(good, image.flux, infinite)
    flat = xp.sort(xp.reshape(flat, (*flat.shape[:-2], flat.shape[-2] * flat.shape[-1])), axis=-1)
    flat = xp.where(xp.isfinite(flat), flat, xp.zeros_like(flat))
    n_good = xp.sum(xp.astype(good, xp.int64), axis=(-2, -1))
    return _quantile(xp, flat, n_good, low / 100), _quantile(xp, flat, n_good, high / 100)


def percentile_stretch(
    image: Image, low: float = 0.5, high: float = 99.5, *, clip: bool = True
) -> Image:
    """
    Bring each image and band linearly from two of its percentiles to 0 and 1.

    Parameters
    ----------
    image : Image
        Flux, ivar and mask of shape (..., n_rows, n_columns).
    low, high : float, optional
        Percentiles of good pixels that become 0 and 1.
    clip : bool, optional
        Whether values are kept within 0 to 1; those at the limits are no measurements any more,
        though their ivar stays.

    Returns
    -------
    Image
        The stretched flux, its ivar, and the mask. An image that has no good pixel, or one value
        only, becomes 0 with ivar 0.

    Raises
    ------
    SampleError
        If the percentiles are not in order within 0 to 100.

    Notes
    -----
    The limits are each image's own: what is 1 in one is not in another, and colours are lost.
    For a scale that is common to all objects take `scale_bands` or `arcsinh_stretch`.
    """
    xp = checked(image)
    lower, upper = (limit[..., None, None] for limit in percentile_limits(image, low, high))
    width = upper - lower
    flat = ~(width > 0)
    zero = xp.zeros_like(image.flux)
    one = xp.ones_like(width)
    flux = (image.flux - lower) / xp.where(flat, one, width)
    flux = xp.where(flat, zero, flux)
    if clip:
        flux = xp.clip(flux, 0.0, 1.0)
    ivar = None
    if image.ivar is not None:
        ivar = xp.where(flat, xp.zeros_like(image.ivar), image.ivar * width**2)
    return Image(flux, ivar, image.mask)


def lupton_rgb(
    red: Array,
    green: Array,
    blue: Array,
    *,
    minimum: ArrayLike = 0.0,
    stretch: float = 5.0,
    q: float = 8.0,
    mask: Array | None = None,
    as_bytes: bool = True,
) -> Array:
    """
    Make colour pictures that keep the colour of bright pixels (Lupton et al. 2004).

    Parameters
    ----------
    red, green, blue : numpy.ndarray or torch.Tensor, shape (..., n_rows, n_columns)
        Fluxes, on one system for true colours; the reddest band is red.
    minimum : array_like, shape () or (3,), optional
        Flux that is black, for all or for red, green and blue.
    stretch : float, optional
        Mean flux of the three at which the linear part ends, for ``q`` of 1.
    q : float, optional
        How far the stretch goes from linear.
    mask : numpy.ndarray or torch.Tensor, bool, optional
        Pixels to paint black. Those that are not finite in a band are black too.
    as_bytes : bool, optional
        Whether to give 0 to 255; else 0 to 1 in the dtype of ``red``, through which gradients flow.

    Returns
    -------
    numpy.ndarray or torch.Tensor, shape (..., n_rows, n_columns, 3), uint8 or floating
        The pictures, row 0 first: draw them with ``origin="lower"``.

    Raises
    ------
    SampleError
        If shapes differ, or ``stretch`` or ``q`` are not above 0.

    Notes
    -----
    Lupton et al. 2004, PASP 116, 133: with I the mean of the three, each is multiplied with f(I)/I,
    f(I) = 0.1 arcsinh(q I / stretch) / arcsinh(0.1 q); pixels of which a band comes above 1 are
    divided by that band. The constants are those of `astropy.visualization.make_lupton_rgb`,
    which gives the same bytes for numpy arrays, one image at a time.
    """
    xp = namespace(red, "red")
    if not (tuple(red.shape) == tuple(green.shape) == tuple(blue.shape)):
        shapes = ", ".join(str(tuple(band.shape)) for band in (red, green, blue))
        raise SampleError("red, green, blue", "one shape", shapes)
    if not (stretch > 0 and q > 0):
        raise SampleError("stretch, q", "numbers above 0", f"{stretch}, {q}")
    blacks = np.broadcast_to(np.asarray(minimum, np.float64), (3,))
    bands = [band - float(black) for band, black in zip((red, green, blue), blacks, strict=True)]
    bad = ~(xp.isfinite(bands[0]) & xp.isfinite(bands[1]) & xp.isfinite(bands[2]))
    bad = bad if mask is None else bad | mask
    zero = xp.zeros_like(bands[0])
    bands = [xp.where(bad, zero, band) for band in bands]
    mean = (bands[0] + bands[1] + bands[2]) / 3.0
    dark = mean <= 0
    one = xp.ones_like(mean)
    safe = xp.where(dark, one, mean)
    gain = xp.where(dark, zero, xp.asinh(safe * (q / stretch)) * (0.1 / np.arcsinh(0.1 * q)) / safe)
    rgb = xp.clip(xp.stack([band * gain for band in bands], axis=-1), 0.0, None)
    rgb = rgb / xp.clip(xp.max(rgb, axis=-1, keepdims=True), 1.0, None)
    return xp.astype(rgb * 255.0, xp.uint8) if as_bytes else rgb


def _positive(values: ArrayLike, like: Array, name: str) -> Array:
    numbers = per_band(values, like, name)
    xp = namespace(numbers, name)
    if not bool(xp.all((numbers > 0) & xp.isfinite(numbers))):
        raise SampleError(name, "finite numbers above 0", str(values))
    return numbers


def _quantile(xp: Any, flat: Array, n_good: Array, share: float) -> Array:
    """Interpolate in rows that are sorted, of which the first ``n_good`` count."""
    last = xp.clip(n_good - 1, 0, None)
    place = xp.astype(last, xp.float64) * share
    below = xp.astype(xp.floor(place), xp.int64)
    above = xp.where(below < last, below + 1, last)
    rest = xp.astype(place - xp.astype(below, xp.float64), flat.dtype)
    low = xp.take_along_axis(flat, below[..., None], axis=-1)[..., 0]
    high = xp.take_along_axis(flat, above[..., None], axis=-1)[..., 0]
    value = xp.where(above > below, low + (high - low) * rest, low)
    return xp.where(n_good > 0, value, constant(np.nan, flat))
