"""Brightness and colour: from images in flux units to what a screen shows. Arrays only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

BAND_ORDER: Final = ("u", "g", "r", "i", "z", "y")


def asinh_rgb(
    red: NDArray[Any], green: NDArray[Any], blue: NDArray[Any], *, softening: float = 9.0
) -> NDArray[np.float64]:
    """
    Make a colour image in which faint and bright parts both show and colours stay true.

    Parameters
    ----------
    red, green, blue : ndarray, shape (rows, columns)
        Images in one flux unit; pixels that are not finite come out black.
    softening : float
        How strongly the bright parts are held back.

    Returns
    -------
    ndarray, shape (rows, columns, 3), float64
        Colours, 0 to 1.

    Notes
    -----
    Each band is set to a like range, from its sky to its bright pixels; the mean of the three is
    stretched by an arcsinh, and all three are scaled by the same factor, so a colour does not
    change with brightness, as Lupton et al. [1]_ propose.

    References
    ----------
    .. [1] Lupton et al. 2004, PASP 116, 133.
    """
    planes = np.stack([_levelled(band) for band in (red, green, blue)], axis=-1)
    total = planes.mean(axis=-1)
    bright = np.maximum(total, 1e-6)
    scale = np.arcsinh(softening * bright) / (np.arcsinh(softening) * bright)
    colour = np.clip(planes * scale[..., None], 0.0, None)
    # What is too bright keeps its colour: the largest of the three comes down to 1.
    colour /= np.maximum(colour.max(axis=-1), 1.0)[..., None]
    return np.asarray(colour)


def _levelled(band: NDArray[Any]) -> NDArray[np.float64]:
    """Put the sky at a dark grey and the bright pixels at 1."""
    values = np.asarray(band, np.float64)
    good = np.isfinite(values)
    if not good.any():
        return np.zeros(values.shape)
    sky, noise = _sky(values[good])
    top = float(np.percentile(values[good], 99.7))
    top = max(top, sky + 5 * noise)
    if top <= sky:
        return np.zeros(values.shape)
    return np.where(good, (values - (sky - 0.5 * noise)) / (top - sky), 0.0)


def asinh_grey(band: NDArray[Any], *, softening: float = 10.0) -> NDArray[np.float64]:
    """
    Stretch one image.

    Parameters
    ----------
    band : ndarray, shape (rows, columns)
        The image; pixels that are not finite stay so.
    softening : float
        How strongly the bright parts are held back.

    Returns
    -------
    ndarray, shape (rows, columns), float64
        Brightness, 0 to 1.
    """
    values = np.asarray(band, np.float64)
    levelled = np.clip(_levelled(values), 0.0, 1.0)
    stretched = np.arcsinh(softening * levelled) / np.arcsinh(softening)
    return np.where(np.isfinite(values), stretched, np.nan)


def _sky(values: NDArray[np.float64]) -> tuple[float, float]:
    """Level and scatter of the fainter half of the pixels."""
    low, middle = np.percentile(values, (16.0, 50.0))
    return float(middle), float(middle - low)


def band_of(name: Any) -> str:
    """
    Reduce a filter's name to its band.

    Parameters
    ----------
    name : str
        ``HSC-G``, ``decam_r``, ``i``.

    Returns
    -------
    str
        One of `BAND_ORDER`, or the name itself.

    Examples
    --------
    >>> band_of("HSC-G"), band_of("F814W")
    ('g', 'F814W')
    """
    last = str(name).replace("_", "-").split("-")[-1].lower()
    return last if last in BAND_ORDER else str(name)


def colour_bands(names: Sequence[Any]) -> tuple[int, int, int] | None:
    """
    Choose the bands for red, green and blue.

    Parameters
    ----------
    names : sequence of str
        Filters of the images.

    Returns
    -------
    tuple of int or None
        Which images; None if there are not three bands.

    Examples
    --------
    >>> colour_bands(["g", "r", "i", "z", "y"])
    (2, 1, 0)
    """
    bands = [band_of(name) for name in names]
    for wanted in (("i", "r", "g"), ("z", "r", "g")):
        if all(band in bands for band in wanted):
            red, green, blue = (bands.index(band) for band in wanted)
            return red, green, blue
    if len(bands) < 3:
        return None
    known = [band for band in bands if band in BAND_ORDER]
    order = sorted(known, key=BAND_ORDER.index) if len(known) >= 3 else bands
    red, green, blue = (bands.index(order[k]) for k in (-1, len(order) // 2, 0))
    return red, green, blue
