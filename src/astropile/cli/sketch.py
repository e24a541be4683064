"""Pictures made of characters, for a terminal."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_SHADES: Final = " .:-=+*#%@"
_LEVELS: Final = " ▁▂▃▄▅▆▇█"


def _bins(values: NDArray[np.float64], n: int, axis: int) -> NDArray[np.float64]:
    """Shrink an array along an axis to at most n entries, each the mean of its part."""
    parts = np.array_split(values, min(n, values.shape[axis]), axis=axis)
    means = [np.where(np.isfinite(p).any(axis), _mean(p, axis), np.nan) for p in parts]
    return np.stack(means, axis=axis)


def _mean(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    good = np.isfinite(values)
    total = np.where(good, values, 0.0).sum(axis)
    return np.asarray(total / np.maximum(good.sum(axis), 1))


def sketch_image(image: Any, *, width: int = 48) -> list[str]:
    """
    Draw an image, row 0 at the bottom.

    Parameters
    ----------
    image : array_like, shape (rows, columns)
        The image.
    width : int
        Characters in a line; there are half as many lines, as characters are tall.

    Returns
    -------
    list of str
        Lines; bright parts are stretched by an arcsinh.

    Examples
    --------
    >>> sketch_image([[0, 0, 0], [0, 9, 0], [0, 0, 0]])
    ['', ' @', '']
    """
    small = _bins(_bins(np.asarray(image, np.float64), width, 1), width // 2, 0)
    good = small[np.isfinite(small)]
    if not good.size or good.max() <= good.min():
        return []
    sky = np.median(good)
    top = good.max() - sky
    level = np.arcsinh(10 * np.clip((small - sky) / (top or 1.0), 0, 1)) / np.arcsinh(10)
    index = np.nan_to_num(level * (len(_SHADES) - 1)).round().astype(int)
    return ["".join(_SHADES[k] for k in row).rstrip() for row in index[::-1]]


def sketch_curve(values: Any, *, width: int = 72, height: int = 6) -> list[str]:
    """
    Draw a curve.

    Parameters
    ----------
    values : array_like, shape (n,)
        The values, at equal steps.
    width, height : int
        Characters in a line, and lines.

    Returns
    -------
    list of str
        Lines, the lowest value at the bottom.

    Examples
    --------
    >>> sketch_curve([0, 1, 2], height=1)
    [' ▄█']
    """
    small = _bins(np.asarray(values, np.float64), width, 0)
    good = small[np.isfinite(small)]
    if not good.size or good.max() <= good.min():
        return []
    low, high = min(0.0, good.min()), good.max()
    level = np.nan_to_num((small - low) / (high - low) * height)
    full = len(_LEVELS) - 1
    return [
        "".join(_LEVELS[int(np.clip(round(full * (v - line)), 0, full))] for v in level).rstrip()
        for line in reversed(range(height))
    ]
