"""
Patches and tokens: what transformers are fed with, and the way back.

Nothing is lost: every function that cuts has one that puts together again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import device
from numpy.typing import NDArray

from astropile.errors import SampleError
from astropile.transforms import _ops


def image_patches(image: Any, size: int) -> Any:
    """
    Cut images into square patches.

    Parameters
    ----------
    image : ndarray or Tensor, shape (..., band, height, width)
        Images; flux, inverse variance and mask are cut alike.
    size : int
        Side of a patch [pixel]; height and width are multiples of it.

    Returns
    -------
    ndarray or Tensor, shape (..., patch, band * size * size)
        Patches row by row, in each the bands one after the other, each row by row.

    Raises
    ------
    SampleError
        If patches do not fill the image: crop or pad it first.

    Examples
    --------
    >>> image_patches(np.arange(16).reshape(1, 4, 4), 2)[0]
    array([0, 1, 4, 5])
    """
    xp = _ops.namespace(image)
    *lead, bands, height, width = image.shape
    if size < 1 or height % size or width % size:
        raise SampleError("size", f"a divisor of {height} and {width}", repr(size))
    rows, columns = height // size, width // size
    cut = xp.reshape(image, (*lead, bands, rows, size, columns, size))
    n = len(lead)
    cut = xp.permute_dims(cut, (*range(n), n + 1, n + 3, n, n + 2, n + 4))
    return xp.reshape(cut, (*lead, rows * columns, bands * size * size))


def join_image_patches(patches: Any, size: int, *, height: int, width: int) -> Any:
    """
    Put images together again: the inverse of `image_patches`.

    Parameters
    ----------
    patches : ndarray or Tensor, shape (..., patch, band * size * size)
        Patches.
    size : int
        Side of a patch [pixel].
    height, width : int
        Of the image [pixel].

    Returns
    -------
    ndarray or Tensor, shape (..., band, height, width)
        The images.

    Raises
    ------
    SampleError
        If the patches are not those of such an image.
    """
    xp = _ops.namespace(patches)
    *lead, count, length = patches.shape
    rows, columns = height // max(size, 1), width // max(size, 1)
    if size < 1 or (rows * size, columns * size) != (height, width) or rows * columns != count:
        raise SampleError("patches", f"{height} x {width} in squares of {size}", f"{count} patches")
    if length % size**2:
        raise SampleError("patches", f"a multiple of {size**2} values", str(length))
    bands = length // size**2
    whole = xp.reshape(patches, (*lead, rows, columns, bands, size, size))
    n = len(lead)
    whole = xp.permute_dims(whole, (*range(n), n + 2, n, n + 3, n + 1, n + 4))
    return xp.reshape(whole, (*lead, bands, height, width))


def sequence_patches(values: Any, size: int, *, step: int | None = None) -> tuple[Any, Any]:
    """
    Cut spectra or light curves into patches that may overlap.

    Parameters
    ----------
    values : ndarray or Tensor, shape (..., n)
        Values; flux, inverse variance, wavelength are cut alike.
    size : int
        Length of a patch.
    step : int, optional
        From one patch to the next, at most `size`, which is the default: no overlap.

    Returns
    -------
    patches : ndarray or Tensor, shape (..., patch, size)
        As few as cover all values; zeros after the end.
    padding : ndarray or Tensor, shape (patch, size), bool
        True after the end.

    Raises
    ------
    SampleError
        If values would be left out, or there are none.

    Examples
    --------
    >>> patches, padding = sequence_patches(np.arange(1, 6), 3, step=2)
    >>> patches.tolist(), padding.any()
    ([[1, 2, 3], [3, 4, 5]], np.False_)
    """
    step = size if step is None else step
    if not 1 <= step <= size:
        raise SampleError("step", f"1 to {size}, the length of a patch", repr(step))
    xp = _ops.namespace(values)
    length = values.shape[-1]
    if length < 1:
        raise SampleError("values", "1 value or more", "none")
    count = max(0, -((size - length) // step)) + 1
    where = device(values)
    place = xp.arange(count, device=where)[:, None] * step + xp.arange(size, device=where)
    padding = place >= length
    flat = xp.reshape(xp.clip(place, 0, length - 1), (-1,))
    patches = xp.reshape(xp.take(values, flat, axis=-1), (*values.shape[:-1], count, size))
    return xp.where(padding, xp.zeros_like(patches), patches), padding


def join_sequence_patches(patches: Any, *, length: int, step: int | None = None) -> Any:
    """
    Put spectra or light curves together again: the inverse of `sequence_patches`.

    Parameters
    ----------
    patches : ndarray or Tensor, shape (..., patch, size)
        Patches.
    length : int
        Number of values there were.
    step : int, optional
        From one patch to the next, as they were cut.

    Returns
    -------
    ndarray or Tensor, shape (..., length), float64
        Where patches overlap, their mean: equal values come back as they were.

    Raises
    ------
    SampleError
        If the patches are not those of such a sequence.
    """
    xp = _ops.namespace(patches)
    *lead, count, size = patches.shape
    step = size if step is None else step
    reach = (count - 1) * step + size
    if not (1 <= step <= size and (count == 1 or reach - step < length) and 1 <= length <= reach):
        raise SampleError("patches", f"those of {length} values", f"{count} of {size}")
    total = xp.zeros((*lead, reach), dtype=xp.float64, device=device(patches))
    times = xp.zeros((reach,), dtype=xp.float64, device=device(patches))
    for number in range(count):
        total[..., number * step : number * step + size] += patches[..., number, :]
        times[number * step : number * step + size] += 1
    return (total / times)[..., :length]


def light_curve_tokens(
    time: Any, band: Any, flux: Any, err: Any, *, bands: tuple[str, ...]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """
    Make a token of each measurement of a light curve, in order of time.

    Parameters
    ----------
    time : ndarray, shape (n,), float64
        Times [d].
    band : ndarray, shape (n,), str
        Name of each measurement's band.
    flux, err : ndarray, shape (n,)
        Flux and its standard deviation.
    bands : tuple of str
        All bands there can be; their order numbers them.

    Returns
    -------
    values : ndarray, shape (n, 3), float64
        Time, flux, error.
    number : ndarray, shape (n,), int64
        Of the band, for an embedding.

    Raises
    ------
    SampleError
        If lengths differ, or a band is none of `bands`.
    """
    columns = [np.asarray(column, np.float64) for column in (time, flux, err)]
    names = np.asarray(band).astype(str)
    for name, column in (("flux", columns[1]), ("err", columns[2]), ("band", names)):
        if column.shape != columns[0].shape:
            raise SampleError(name, f"shape {columns[0].shape}, as time", str(column.shape))
    unknown = sorted(set(names.tolist()) - set(bands))
    if unknown:
        raise SampleError("band", f"one of {', '.join(bands)}", ", ".join(unknown))
    order = np.argsort(columns[0], kind="stable")
    numbers = {name: number for number, name in enumerate(bands)}
    number = np.array([numbers[name] for name in names.tolist()], np.int64)
    return np.stack(columns, axis=-1)[order], number[order]


@dataclass(frozen=True)
class QuantileBins:
    """
    Numbers as words: bins that hold equally many values of a sample.

    Parameters
    ----------
    edges : ndarray, shape (n_bins - 1,), float64
        Inner edges, increasing; the first and last bin are open.
    centers : ndarray, shape (n_bins,), float64
        Median of the sample in each bin: what a token is decoded to.
    """

    edges: NDArray[np.float64]
    centers: NDArray[np.float64]

    @classmethod
    def fit(cls, values: Any, n_bins: int) -> QuantileBins:
        """
        Choose bins by a sample.

        Parameters
        ----------
        values : array_like
            Sample; what is not finite does not count.
        n_bins : int
            Number wanted; fewer where values repeat.

        Returns
        -------
        QuantileBins
            The bins.

        Raises
        ------
        SampleError
            If there is no finite value or n_bins is below 1.
        """
        sample = np.sort(np.asarray(values, np.float64)[np.isfinite(values)])
        if sample.size == 0 or n_bins < 1:
            raise SampleError("values", "finite ones, and 1 bin or more", f"{sample.size} values")
        edges = np.unique(np.quantile(sample, np.arange(1, n_bins) / n_bins))
        token = np.searchsorted(edges, sample, side="right")
        filled, first = np.unique(token, return_index=True)
        parts = np.split(sample, first[1:])
        centers = np.array([np.median(part) for part in parts])
        return cls(edges[filled[:-1]], centers)

    def encode(self, values: Any) -> NDArray[np.int64]:
        """
        Give the bin of each value.

        Parameters
        ----------
        values : array_like
            Values; NaN is refused.

        Returns
        -------
        ndarray, int64
            Tokens, 0 to n_bins - 1, in the shape of values; they increase with them.

        Raises
        ------
        SampleError
            If a value is NaN: give it a token of your own.
        """
        numbers = np.asarray(values, np.float64)
        if np.isnan(numbers).any():
            raise SampleError("values", "numbers", "NaN")
        return np.searchsorted(self.edges, numbers, side="right").astype(np.int64)

    def decode(self, tokens: Any) -> NDArray[np.float64]:
        """
        Give the centre of each bin.

        Parameters
        ----------
        tokens : array_like, int
            Tokens.

        Returns
        -------
        ndarray, float64
            Values; encoded again they give the same tokens.

        Raises
        ------
        SampleError
            If a token is none of these bins.
        """
        places = np.asarray(tokens)
        if places.size and not (places.min() >= 0 and places.max() < self.centers.size):
            raise SampleError("tokens", f"0 to {self.centers.size - 1}", "others")
        values: NDArray[np.float64] = self.centers[places]
        return values
