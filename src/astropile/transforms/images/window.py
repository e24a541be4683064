"""Windows of images: cut out, filled up."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from astropile.errors import SampleError
from astropile.transforms._arrays import Array
from astropile.transforms.images.image import Image, checked, each

Size: TypeAlias = int | tuple[int, int]
_Corner: TypeAlias = tuple[int, int]


def crop(image: Image, size: Size, *, center: ArrayLike | None = None) -> Image:
    """
    Cut a window out of images.

    Parameters
    ----------
    image : Image
        Flux, ivar and mask of shape (..., n_rows, n_columns).
    size : int or (int, int)
        Rows and columns of the window, odd or even.
    center : array_like, shape (2,) or (n, 2), optional
        Where (row, column) the window's middle should be; one for all, or one for each along the
        first axis. The images' middle by default.

    Returns
    -------
    Image
        The window, a view where numpy and torch give one; ivar and mask as far as they were given.

    Raises
    ------
    SampleError
        If the window goes over the edge (`crop_or_pad` allows it), or the arrays or the size are
        not what they should be.

    Notes
    -----
    The first row of the window is ``ceil(center - size / 2)``, as in
    `astropy.nddata.Cutout2D`: an odd window has the pixel nearest to the position in its middle,
    an even one has it right after. Without a position, ``(n - size) // 2`` rows are left out
    before the window and the rest after it, so that `crop` undoes `pad`.

    Examples
    --------
    >>> import numpy as np
    >>> ramp = Image(np.arange(5.0) + np.zeros((5, 1)))
    >>> crop(ramp, 3).flux[0]
    array([1., 2., 3.])
    >>> crop(ramp, 2, center=(2, 3.2)).flux[0]
    array([3., 4.])
    """
    return _windows(image, size, center, lambda first, n, wide: 0 <= first <= n - wide, "inside")


def pad(image: Image, size: Size, *, center: ArrayLike | None = None, fill: float = 0.0) -> Image:
    """
    Fill images up to a size.

    Parameters
    ----------
    image : Image
        Flux, ivar and mask of shape (..., n_rows, n_columns).
    size : int or (int, int)
        Rows and columns to come to.
    center : array_like, shape (2,) or (n, 2), optional
        Which place (row, column) of the images comes to the middle, as for `crop`.
    fill : float, optional
        Flux of the pixels that are new; their ivar is 0 and their mask True.

    Returns
    -------
    Image
        Always with a mask; with an ivar if one was given.

    Raises
    ------
    SampleError
        If something would be cut off (`crop_or_pad` allows it), or the arrays or the size are not
        what they should be.

    Notes
    -----
    Without a position, ``(size - n) // 2`` rows are put before the image and the rest after it.
    """
    return _windows(
        _with_mask(image),
        size,
        center,
        lambda first, n, wide: first <= 0 and first + wide >= n,
        "around",
        fill,
    )


def crop_or_pad(
    image: Image, size: Size, *, center: ArrayLike | None = None, fill: float = 0.0
) -> Image:
    """
    Bring images to a size: cut what is too much, fill up what is too little.

    Parameters
    ----------
    image : Image
        Flux, ivar and mask of shape (..., n_rows, n_columns).
    size : int or (int, int)
        Rows and columns to come to.
    center : array_like, shape (2,) or (n, 2), optional
        Which place (row, column) of the images comes to the middle, as for `crop`; it may lie
        outside.
    fill : float, optional
        Flux of the pixels that are new; their ivar is 0 and their mask True.

    Returns
    -------
    Image
        Always with a mask; with an ivar if one was given.

    Raises
    ------
    SampleError
        If the arrays or the size are not what they should be.
    """
    return _windows(_with_mask(image), size, center, lambda *_: True, "", fill)


def as_size(size: Size) -> tuple[int, int]:
    """
    Give rows and columns of a size.

    Parameters
    ----------
    size : int or (int, int)
        One number for both, or two.

    Returns
    -------
    tuple of int
        Rows and columns.

    Raises
    ------
    SampleError
        If they are not whole numbers above 0.
    """
    both = (size, size) if np.ndim(size) == 0 else tuple(np.asarray(size).tolist())
    if len(both) != 2 or any(wide != int(wide) or wide < 1 for wide in both):
        raise SampleError("size", "whole numbers of rows and columns above 0", repr(size))
    return int(both[0]), int(both[1])


def as_centers(center: ArrayLike, n_images: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """
    Give positions as numbers.

    Parameters
    ----------
    center : array_like, shape (2,) or (n_images, 2)
        Rows and columns.
    n_images : int
        Length of the images' first axis.

    Returns
    -------
    ndarray of the same shape, float64
        The positions.

    Raises
    ------
    SampleError
        If they are of another shape, or not finite.
    """
    centers = np.asarray(center, np.float64)
    if centers.shape not in {(2,), (n_images, 2)} or not np.isfinite(centers).all():
        raise SampleError(
            "center",
            f"finite (row, column), one or {n_images} of them",
            f"shape {centers.shape}" if np.isfinite(centers).all() else repr(center),
        )
    return centers


def _with_mask(image: Image) -> Image:
    xp = checked(image)
    if image.mask is not None:
        return image
    return image._replace(mask=xp.zeros_like(image.flux, dtype=xp.bool))


def _windows(
    image: Image, size: Size, center: ArrayLike | None, allowed: Any, how: str, fill: float = 0.0
) -> Image:
    xp = checked(image)
    shape, wide = tuple(image.flux.shape), as_size(size)
    if center is None:
        middle = [_middle(n, w) for n, w in zip(shape[-2:], wide, strict=True)]
        corners = [(middle[0], middle[1])]
    else:
        centers = as_centers(center, shape[0] if len(shape) > 2 else 0)
        corners = [_corner(place, wide) for place in centers.reshape(-1, 2)]
    for corner in corners:
        if not all(map(allowed, corner, shape[-2:], wide)):
            raise SampleError(
                "size",
                f"a window {how} the image of {shape[-2]} by {shape[-1]} pixels",
                f"{wide[0]} by {wide[1]} from (row, column) {corner}",
            )
    if center is None or np.ndim(center) == 1 or not corners:
        return _window(xp, image, corners[0] if corners else (0, 0), wide, fill)
    cut = [
        _window(xp, each(image, lambda values, i=i: values[i]), corner, wide, fill)  # type: ignore[misc]
        for i, corner in enumerate(corners)
    ]
    return Image(*(None if one[0] is None else xp.stack(one) for one in zip(*cut, strict=True)))


def _middle(n: int, wide: int) -> int:
    return (n - wide) // 2 if wide <= n else -((wide - n) // 2)


def _corner(place: np.ndarray[Any, Any], wide: tuple[int, int]) -> _Corner:
    return math.ceil(place[0] - wide[0] / 2), math.ceil(place[1] - wide[1] / 2)


def _window(xp: Any, image: Image, corner: _Corner, wide: tuple[int, int], fill: float) -> Image:
    fills = (fill, 0.0, True)
    return Image(
        *(
            None if values is None else _cut(xp, values, corner, wide, new)
            for values, new in zip(image, fills, strict=True)
        )
    )


def _cut(xp: Any, values: Array, corner: _Corner, wide: tuple[int, int], fill: Any) -> Array:
    for axis, first, n_out in ((-2, corner[0], wide[0]), (-1, corner[1], wide[1])):
        n = values.shape[axis]
        start, stop = min(max(first, 0), n), min(max(first + n_out, 0), n)
        values = values[..., start:stop, :] if axis == -2 else values[..., start:stop]
        before = min(max(-first, 0), n_out)
        after = n_out - before - (stop - start)
        if before or after:
            parts = [_block(xp, values, axis, before, fill), values]
            values = xp.concat([*parts, _block(xp, values, axis, after, fill)], axis=axis)
    return values


def _block(xp: Any, values: Array, axis: int, n: int, fill: Any) -> Array:
    shape = list(values.shape)
    shape[axis] = n
    return xp.full(tuple(shape), fill, dtype=values.dtype, device=values.device)
