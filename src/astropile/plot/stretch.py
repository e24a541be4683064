"""Brightness and colour: from images in flux units to what a screen shows. Arrays only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

BAND_ORDER: Final = ("u", "g", "r", "i", "z", "y")

_GALAXY: Final = {"u": 0.4, "g": 0.75, "r": 1.0, "i": 1.15, "z": 1.3, "y": 1.4}
"""Flux in each band, r = 1, of what is to look white: bluer than most galaxies are, so that
these keep some of their colour."""


def asinh_rgb(
    red: NDArray[Any],
    green: NDArray[Any],
    blue: NDArray[Any],
    *,
    weights: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> NDArray[np.float64]:
    """
    Make a colour image in which faint and bright parts both show and colours stay true.

    Parameters
    ----------
    red, green, blue : ndarray, shape (rows, columns)
        Images in one flux unit; pixels that are not finite come out black.
    weights : tuple of float
        Factor of each image: what makes the colour that is to look white equal in all three.

    Returns
    -------
    ndarray, shape (rows, columns, 3), float64
        Colours, 0 to 1.

    Notes
    -----
    The mean of the three is stretched by an arcsinh and all three are scaled by the same factor,
    so that a colour does not change with brightness, as Lupton et al. [1]_ propose.

    References
    ----------
    .. [1] Lupton et al. 2004, PASP 116, 133.
    """
    planes = np.stack(
        [
            _above_sky(band) * weight
            for band, weight in zip((red, green, blue), weights, strict=True)
        ],
        axis=-1,
    )
    total = planes.mean(axis=-1)
    measured = np.isfinite(np.stack([red, green, blue])).all(axis=0)
    noise, top = _range(total[measured])
    stretched = _stretch(total, noise, top)
    positive = total > 0
    scale = np.where(positive, stretched / np.where(positive, total, 1.0), 0.0)
    colour = np.clip(planes * scale[..., None], 0.0, None)
    # What is too bright keeps its colour: the largest of the three comes down to 1.
    colour /= np.maximum(colour.max(axis=-1), 1.0)[..., None]
    return np.asarray(colour)


def asinh_grey(band: NDArray[Any]) -> NDArray[np.float64]:
    """
    Stretch one image.

    Parameters
    ----------
    band : ndarray, shape (rows, columns)
        The image; pixels that are not finite stay so.

    Returns
    -------
    ndarray, shape (rows, columns), float64
        Brightness, 0 to 1.
    """
    above, measured = _above_sky(band), np.isfinite(np.asarray(band, np.float64))
    return np.where(measured, _stretch(above, *_range(above[measured])), np.nan)


def _above_sky(band: NDArray[Any]) -> NDArray[np.float64]:
    """Subtract the sky, less half its scatter, so that the sky is not quite black."""
    values = np.asarray(band, np.float64)
    good = np.isfinite(values)
    if not good.any():
        return np.zeros(values.shape)
    low, middle = np.percentile(values[good], (16.0, 50.0))
    return np.where(good, values - (middle - 0.5 * (middle - low)), 0.0)


def _range(above: NDArray[np.float64]) -> tuple[float, float]:
    """Scatter of the fainter half of the pixels, and the level that is to be white."""
    if not above.size:
        return 0.0, 0.0
    low, middle, top = np.percentile(above, (16.0, 50.0, 99.9))
    noise = float(middle - low)
    return noise, max(float(top), 15 * noise)


def _stretch(above: NDArray[np.float64], noise: float, top: float) -> NDArray[np.float64]:
    """Bring what lies between 0 and `top` to 0 to 1; the deeper the image, the stronger."""
    if top <= 0:
        return np.zeros(above.shape)
    softening = float(np.clip(top / max(8 * noise, 1e-30), 4.0, 60.0))
    bright = np.clip(above / top, 0.0, 1.0)
    return np.asarray(np.arcsinh(softening * bright) / np.arcsinh(softening))


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


def white_weights(bands: Sequence[Any]) -> tuple[float, float, float]:
    """
    Choose the weights that show a usual galaxy in white.

    Parameters
    ----------
    bands : sequence of str
        Filters for red, green and blue.

    Returns
    -------
    tuple of float
        Weights for `asinh_rgb`; all 1 where a filter is not known.
    """
    names = [band_of(band) for band in bands]
    if not all(name in _GALAXY for name in names):
        return 1.0, 1.0, 1.0
    red, green, blue = (1 / _GALAXY[name] for name in names)
    return red, green, blue


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
