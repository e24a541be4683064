"""Other pixel scales, by the area that pixels share."""

from __future__ import annotations

import functools
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from astropile.errors import SampleError
from astropile.transforms._arrays import Array, constant
from astropile.transforms.images.image import Image, checked, usable
from astropile.transforms.images.window import Size, as_centers, as_size

Kind = Literal["flux", "brightness"]

# Shares of pixels in single precision add up to 1 within this.
_ROUNDING = 1e-5


class Resampled(NamedTuple):
    """
    Images on other pixels.

    Attributes
    ----------
    image : Image
        Flux, ivar (if one was given) and mask on the new pixels.
    coverage : numpy.ndarray or torch.Tensor, shape (..., n_rows, n_columns)
        Share of the area of each new pixel that is covered by good old pixels, 0 to 1.
    n_excluded : numpy.ndarray or torch.Tensor, shape (...), int64
        Number of old pixels of each image that were left out: masked, of ivar 0, or not finite.
    """

    image: Image
    coverage: Array
    n_excluded: Array


def resample(
    image: Image,
    *,
    pixel_size: float,
    target_pixel_size: float,
    size: Size | None = None,
    center: ArrayLike | None = None,
    kind: Kind = "flux",
    min_coverage: float = 1.0,
) -> Resampled:
    """
    Bring images to another pixel scale by exact overlap of pixel areas.

    Parameters
    ----------
    image : Image
        Flux, ivar and mask of shape (..., n_rows, n_columns).
    pixel_size, target_pixel_size : float
        Side of the pixels as they are and as they shall be, in one unit.
    size : int or (int, int), optional
        Rows and columns of the result; by default so many that the whole image is in it.
    center : array_like, shape (2,) or (n, 2), optional
        Place (row, column) of the image that comes to the middle of the result, one for all or one
        for each along the first axis; fractions of pixels count. The middle by default.
    kind : {"flux", "brightness"}, optional
        What a pixel holds: flux, which is shared out and summed, or surface brightness (also flux
        per area, counts per area, probabilities), which is averaged.
    min_coverage : float, optional
        New pixels of which less than this share is covered by good old ones are masked.

    Returns
    -------
    Resampled
        The images, the coverage and how many pixels were excluded. The image always has a mask;
        where it is True the ivar is 0.

    Raises
    ------
    SampleError
        If the arrays do not belong together, or sizes are not above 0.

    Notes
    -----
    Each new pixel is ``sum(w g f)`` with ``w`` the share of an old pixel's area that lies in it and
    ``g`` 1 where the old pixel is good: drizzling (Fruchter & Hook 2002, PASP 114, 144) with drops
    as large as pixels, in one image. Shares of one old pixel sum to 1, so the flux of all good
    pixels is conserved as far as the new image reaches. Surface brightness is
    ``sum(w g f) / sum(w g)``; times the ratio of pixel areas it is a flux in which bad pixels count
    as their neighbours do. The variance is ``sum(w**2 g / ivar)``, over the same divisor squared:
    exact for each pixel where the noise of old pixels is independent. That of neighbouring new
    pixels is correlated, unless the ratio of sizes is whole and the grids meet (`rebin`): sums over
    many pixels are noisier than their ivars tell.

    Old and new rows are parallel, so the sum is two products of matrices, ``A_row F A_column^T``
    (`overlap_matrix`), which run in the flux's dtype (at least single precision) on its device.
    Images that are turned against each other or distorted are work for the package `reproject`.

    Examples
    --------
    >>> import numpy as np
    >>> image = Image(np.ones((4, 6)), ivar=np.full((4, 6), 4.0))
    >>> fine = resample(image, pixel_size=0.4, target_pixel_size=0.2).image
    >>> fine.flux.shape, float(fine.flux.sum()), float(fine.ivar[0, 0])
    ((8, 12), 24.0, 64.0)
    """
    checked(image)
    if not (0 < pixel_size < np.inf and 0 < target_pixel_size < np.inf):
        raise SampleError(
            "pixel_size",
            "finite sizes of pixels above 0",
            f"pixel_size={pixel_size}, target_pixel_size={target_pixel_size}",
        )
    ratio = _tidy(target_pixel_size / pixel_size)
    shape = tuple(image.flux.shape)
    if size is None:
        size = (_enough(shape[-2], ratio), _enough(shape[-1], ratio))
    if center is None:
        middle: ArrayLike = ((shape[-2] - 1) / 2, (shape[-1] - 1) / 2)
    else:
        middle = center
    return _resampled(image, ratio, as_size(size), middle, kind, min_coverage)


def rebin(
    image: Image, factor: int, *, kind: Kind = "flux", min_coverage: float = 1.0
) -> Resampled:
    """
    Put whole blocks of pixels together.

    Parameters
    ----------
    image : Image
        Flux, ivar and mask of shape (..., n_rows, n_columns).
    factor : int
        Rows and columns in a block.
    kind : {"flux", "brightness"}, optional
        Whether a block is summed or averaged.
    min_coverage : float, optional
        Blocks with a smaller share of good pixels are masked.

    Returns
    -------
    Resampled
        As of `resample`. The noise of blocks is independent if that of pixels was.

    Raises
    ------
    SampleError
        If the images do not divide into such blocks; `crop_or_pad` them first.
    """
    checked(image)
    rows, columns = image.flux.shape[-2:]
    if factor != int(factor) or factor < 1 or rows % factor or columns % factor:
        raise SampleError(
            "factor", f"a whole number that divides {rows} rows and {columns} columns", repr(factor)
        )
    size, middle = (
        (rows // int(factor), columns // int(factor)),
        ((rows - 1) / 2, (columns - 1) / 2),
    )
    return _resampled(image, float(factor), size, middle, kind, min_coverage)


def overlap_matrix(
    n_in: int, n_out: int, ratio: float, center: float | None = None
) -> NDArray[np.float64]:
    """
    Tell how the pixels of one line are shared out over those of another.

    Parameters
    ----------
    n_in, n_out : int
        Numbers of pixels.
    ratio : float
        Length of an output pixel in input pixels.
    center : float, optional
        Place in the input (0 is the middle of its first pixel) that is the output's middle.

    Returns
    -------
    ndarray, shape (n_out, n_in), float64
        Share of each input pixel in each output pixel.

    Examples
    --------
    >>> overlap_matrix(3, 2, 1.5)
    array([[1. , 0.5, 0. ],
           [0. , 0.5, 1. ]])
    """
    middle = (n_in - 1) / 2 if center is None else center
    edges = middle + 0.5 + (np.arange(n_out + 1) - n_out / 2) * ratio
    first = np.arange(n_in)
    upper = np.minimum(edges[1:, None], first + 1)
    lower = np.maximum(edges[:-1, None], first)
    shares: NDArray[np.float64] = np.maximum(upper - lower, 0.0)
    return shares


_shared_matrix = functools.lru_cache(maxsize=64)(overlap_matrix)


def _resampled(
    image: Image,
    ratio: float,
    size: tuple[int, int],
    center: ArrayLike,
    kind: Kind,
    min_coverage: float,
) -> Resampled:
    xp = checked(image)
    if kind not in ("flux", "brightness"):
        raise SampleError("kind", "'flux' or 'brightness'", repr(kind))
    good = usable(image)
    dtype = image.flux.dtype if xp.finfo(image.flux.dtype).bits >= 32 else xp.float32
    rows, columns = _matrices(image.flux, dtype, size, ratio, center)
    columns = xp.matrix_transpose(columns)
    zero = xp.zeros((), dtype=dtype, device=image.flux.device)
    flux = rows @ xp.where(good, xp.astype(image.flux, dtype), zero) @ columns
    shared = rows @ xp.astype(good, dtype) @ columns
    coverage = shared / ratio**2
    bad = coverage < min_coverage - _ROUNDING
    empty = shared <= 0
    norm = xp.where(empty, xp.ones_like(shared), shared) if kind == "brightness" else 1.0
    flux = flux / norm
    ivar = None
    if image.ivar is not None:
        one = xp.ones((), dtype=dtype, device=image.flux.device)
        known = xp.where(good, xp.astype(image.ivar, dtype), one)
        variance = rows**2 @ xp.where(good, one / known, zero) @ columns**2 / norm**2
        none = bad | empty | ~(variance > 0)
        ivar = xp.where(none, zero, one / xp.where(none, one, variance))
        ivar = xp.astype(ivar, image.ivar.dtype)
    new = Image(xp.astype(flux, image.flux.dtype), ivar, bad | empty)
    n_excluded = xp.sum(xp.astype(~good, xp.int64), axis=(-2, -1))
    return Resampled(new, coverage, n_excluded)


def _matrices(
    flux: Array, dtype: Any, size: tuple[int, int], ratio: float, center: ArrayLike
) -> tuple[Array, Array]:
    n_images = flux.shape[0] if flux.ndim > 2 else 0
    centers = as_centers(center, n_images)
    both = []
    for axis in (0, 1):
        n_in, n_out = flux.shape[axis - 2], size[axis]
        places = np.atleast_1d(centers[..., axis])
        matrix = np.empty((len(places), n_out, n_in))
        for i, place in enumerate(places):
            matrix[i] = _shared_matrix(n_in, n_out, ratio, float(place))
        # One for each along the first axis, whatever axes stand between it and the pixels.
        between = (1,) * (flux.ndim - 3) if centers.ndim == 2 else ()
        shape = (*matrix.shape[:1], *between, n_out, n_in) if centers.ndim == 2 else (n_out, n_in)
        both.append(constant(matrix.reshape(shape), flux, dtype))
    return both[0], both[1]


def _tidy(ratio: float) -> float:
    """Take a ratio that is whole but for rounding, or one over a whole number, as that."""
    for whole in (round(ratio), round(1 / ratio)):
        for exact in (float(whole), 1 / whole if whole else 0.0):
            if exact and abs(ratio - exact) < 1e-12 * ratio:
                return exact
    return ratio


def _enough(n: int, ratio: float) -> int:
    return max(int(np.ceil(n / ratio - 1e-6)), 1)
