"""Flux, ivar and mask of images, kept together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from astropile.errors import SampleError
from astropile.transforms._arrays import Array, namespace
from astropile.transforms._ops import good_pixels


class Image(NamedTuple):
    """
    Flux of images with what is known of its noise.

    Attributes
    ----------
    flux : numpy.ndarray or torch.Tensor, shape (..., n_rows, n_columns), floating
        Flux; the leading axes may be objects and bands.
    ivar : the same or None
        Inverse variance of the flux, 0 where there is no information.
    mask : the same, bool, or None
        True where a pixel is bad. Masks of bits are no such thing: ``bits != 0`` is.
    """

    flux: Array
    ivar: Array | None = None
    mask: Array | None = None


def stack_bands(records: Sequence[Mapping[str, Any]], bands: Sequence[str] | None = None) -> Image:
    """
    Put the bands of an object together.

    Parameters
    ----------
    records : sequence of mapping
        The column ``image`` of one sample: records of ``filter``, ``array`` and, in some surveys,
        ``ivar`` and ``mask``.
    bands : sequence of str, optional
        Which, and in what order; by default all, as they come.

    Returns
    -------
    Image
        Numpy arrays of shape (n_bands, n_rows, n_columns), with ivar and mask if all the bands have
        one.

    Raises
    ------
    SampleError
        If a band is not there or there twice, or bands have different shapes.
    """
    known = {str(record["filter"]): record for record in records}
    if len(known) < len(records):
        names = ", ".join(str(record["filter"]) for record in records)
        raise SampleError("records", "one record for each band", names)
    chosen = list(known if bands is None else bands)
    absent = [band for band in chosen if band not in known]
    if absent or not chosen:
        raise SampleError(
            "bands", f"some of {', '.join(known) or 'none'}", ", ".join(absent) or "none"
        )
    shapes = {np.shape(known[band]["array"]) for band in chosen}
    if len(shapes) > 1:
        raise SampleError("bands", "images of one shape", " and ".join(map(str, sorted(shapes))))
    planes: list[list[Any]] = [
        [known[band].get(name) for band in chosen] for name in ("array", "ivar", "mask")
    ]
    flux, ivar, mask = (
        None if any(plane is None for plane in one) else np.stack(one) for one in planes
    )
    return Image(flux, ivar, None if mask is None else mask != 0)


def checked(image: Image) -> Any:
    """
    Refuse arrays that do not belong together.

    Parameters
    ----------
    image : Image
        The image.

    Returns
    -------
    module
        The functions that work on its arrays.

    Raises
    ------
    SampleError
        If the flux is not floating or has fewer than two axes, if the mask is not boolean, or if
        shapes differ.
    """
    xp = namespace(image.flux, "flux")
    shape = tuple(image.flux.shape)
    if len(shape) < 2 or not xp.isdtype(image.flux.dtype, "real floating"):
        raise SampleError(
            "flux",
            "floating numbers of shape (..., row, column)",
            f"{image.flux.dtype} of shape {shape}",
        )
    for name, values in (("ivar", image.ivar), ("mask", image.mask)):
        if values is not None and tuple(values.shape) != shape:
            raise SampleError(name, f"the flux's shape {shape}", f"{tuple(values.shape)}")
    if image.mask is not None and not xp.isdtype(image.mask.dtype, "bool"):
        raise SampleError("mask", "booleans, True = bad (bits != 0)", str(image.mask.dtype))
    return xp


def each(image: Image, function: Callable[[Array], Array]) -> Image:
    """
    Do the same to flux, ivar and mask, as far as they are given.

    Parameters
    ----------
    image : Image
        The image.
    function : callable
        Of one array.

    Returns
    -------
    Image
        Of what it gave.
    """
    return Image(*(None if values is None else function(values) for values in image))


def usable(image: Image) -> Array:
    """
    Tell which pixels carry information.

    Parameters
    ----------
    image : Image
        The image.

    Returns
    -------
    numpy.ndarray or torch.Tensor, bool
        True where the flux is finite, the mask False and the ivar finite and above 0.
    """
    return good_pixels(namespace(image.flux, "flux"), *image)


def fill_bad(image: Image, value: float = 0.0) -> Image:
    """
    Put a number where there is no information, as the last step before a model.

    Parameters
    ----------
    image : Image
        The image.
    value : float, optional
        The number.

    Returns
    -------
    Image
        With that flux, ivar 0 and mask True wherever the flux is not finite, masked, or of ivar 0.

    Raises
    ------
    SampleError
        If the arrays do not belong together.
    """
    xp = checked(image)
    good = usable(image)
    flux = xp.where(good, image.flux, xp.full_like(image.flux, value))
    ivar = None if image.ivar is None else xp.where(good, image.ivar, xp.zeros_like(image.ivar))
    return Image(flux, ivar, ~good)
