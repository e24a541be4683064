"""The eight ways to lay a square on itself."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from astropile.errors import SampleError
from astropile.transforms._arrays import Array, namespace
from astropile.transforms.images.image import Image, checked, each


def orient(image: Image, orientation: ArrayLike) -> Image:
    """
    Turn and mirror images, with their ivar and mask; no pixel is resampled.

    Parameters
    ----------
    image : Image
        Flux, ivar and mask of shape (..., n_rows, n_columns).
    orientation : int or array_like of int, shape (n,)
        0 to 3: so many quarter turns from rows to columns, as `numpy.rot90` over the last axes;
        4 to 7: columns reversed first, then ``orientation - 4`` turns. One for all, or one for
        each along the first axis.

    Returns
    -------
    Image
        The images, so oriented.

    Raises
    ------
    SampleError
        If an orientation is not 0 to 7, if there are not as many as images, or if images that are
        not square should be turned one by one.

    Notes
    -----
    Orientations from 4 on change parity: the sky is seen in a mirror. Whatever has a handedness
    (winding of spirals, position angles, the order of east and north) changes with it; counts,
    fluxes, colours and shapes do not. What belongs to the image, as its PSF or positions in it,
    must be oriented with it.

    Examples
    --------
    >>> import numpy as np
    >>> image = Image(np.array([[1.0, 2.0], [3.0, 4.0]]))
    >>> orient(image, 1).flux
    array([[2., 4.],
           [1., 3.]])
    >>> orient(orient(image, 5), invert_orientation(5)).flux
    array([[1., 2.],
           [3., 4.]])
    """
    xp = checked(image)
    codes = _codes(orientation)
    if codes.ndim == 0:
        return each(image, lambda values: _turned(values, int(codes)))
    n = image.flux.shape[0] if image.flux.ndim > 2 else 0
    if codes.shape != (n,):
        raise SampleError("orientation", f"one, or {n}, one an image", f"shape {codes.shape}")
    if (codes % 2).any() and image.flux.shape[-1] != image.flux.shape[-2]:
        raise SampleError(
            "orientation", "square images, for quarter turns", f"{tuple(image.flux.shape[-2:])}"
        )
    if not n:
        return image
    return each(
        image,
        lambda values: xp.stack([_turned(values[i], int(code)) for i, code in enumerate(codes)]),
    )


def draw_orientations(
    n: int, generator: np.random.Generator, *, mirror: bool = True
) -> NDArray[np.int64]:
    """
    Draw orientations for augmentation, each as likely as any.

    Parameters
    ----------
    n : int
        How many.
    generator : numpy.random.Generator
        Where they come from: the same generator in the same state draws the same.
    mirror : bool, optional
        Whether those that change parity are among them.

    Returns
    -------
    ndarray, shape (n,), int64
        0 to 7, or 0 to 3 without mirroring.
    """
    return generator.integers(0, 8 if mirror else 4, n)


def invert_orientation(orientation: ArrayLike) -> NDArray[np.int64]:
    """
    Give the orientations that undo others.

    Parameters
    ----------
    orientation : int or array_like of int
        0 to 7.

    Returns
    -------
    ndarray of the same shape, int64
        Turns become turns back; those that mirror undo themselves.

    Raises
    ------
    SampleError
        If an orientation is not 0 to 7.
    """
    codes = _codes(orientation)
    return np.where(codes < 4, -codes % 4, codes)


def _codes(orientation: ArrayLike) -> NDArray[np.int64]:
    codes = np.asarray(orientation)
    if codes.dtype.kind not in "iu" or ((codes < 0) | (codes > 7)).any():
        raise SampleError("orientation", "whole numbers from 0 to 7", repr(orientation))
    return codes.astype(np.int64)


def _turned(values: Array, code: int) -> Array:
    xp: Any = namespace(values, "image")
    if code >= 4:
        values = xp.flip(values, axis=-1)
    turns = code % 4
    if turns == 1:
        return xp.flip(xp.matrix_transpose(values), axis=-2)
    if turns == 2:
        return xp.flip(values, axis=(-2, -1))
    if turns == 3:
        return xp.flip(xp.matrix_transpose(values), axis=-1)
    return values
