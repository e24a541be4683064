"""Steps that several transforms share, on numpy arrays and torch tensors alike."""

from __future__ import annotations

from types import ModuleType
from typing import Any, Final

import numpy as np
from array_api_compat import array_namespace, is_torch_namespace

from astropile.errors import SampleError
from astropile.transforms._arrays import constant

MAD_TO_SIGMA: Final = 1.482602218505602
"""Standard deviation of a normal distribution over its median absolute deviation."""


def namespace(*arrays: Any) -> ModuleType:
    """
    Give the functions that go with some arrays: numpy's or torch's.

    Parameters
    ----------
    *arrays : ndarray, Tensor or None
        Arrays of one library.

    Returns
    -------
    module
        Their array API namespace.

    Raises
    ------
    SampleError
        If they are not arrays of one library.
    """
    given = [array for array in arrays if array is not None]
    try:
        found: ModuleType = array_namespace(*given)
    except TypeError:
        kinds = ", ".join(sorted({type(array).__name__ for array in given}))
        raise SampleError("arrays", "numpy arrays or torch tensors, all of a kind", kinds) from None
    return found


def floats(xp: ModuleType, values: Any, like: Any) -> Any:
    """
    Give values as float64 where another array is.

    Parameters
    ----------
    xp : module
        Namespace of `like`.
    values : array_like
        Numbers, of any library.
    like : ndarray or Tensor
        An array on the device wanted.

    Returns
    -------
    ndarray or Tensor, float64
        The values.
    """
    return constant(values, like, xp.float64)


def good_pixels(xp: ModuleType, flux: Any, ivar: Any, mask: Any) -> Any:
    """
    Say where something was measured.

    Parameters
    ----------
    xp : module
        Namespace of the arrays.
    flux : ndarray or Tensor, shape (..., n)
        Values.
    ivar : ndarray or Tensor, shape (..., n), or None
        Inverse variance.
    mask : ndarray or Tensor, shape (..., n), bool, or None
        True is bad.

    Returns
    -------
    ndarray or Tensor, shape (..., n), bool
        True where the mask is not, flux is finite, and ivar finite and above 0.

    Raises
    ------
    SampleError
        If shapes differ.
    """
    good = xp.isfinite(flux)
    for name, array in (("ivar", ivar), ("mask", mask)):
        if array is not None and tuple(array.shape) != tuple(flux.shape):
            raise SampleError(name, f"shape {tuple(flux.shape)}, as flux", str(tuple(array.shape)))
    if mask is not None:
        good = good & ~xp.astype(mask, xp.bool)
    if ivar is not None:
        good = good & xp.isfinite(ivar) & (ivar > 0)
    return good


def gather(xp: ModuleType, values: Any, index: Any) -> Any:
    """
    Take values along the last axis.

    Parameters
    ----------
    xp : module
        Namespace of the arrays.
    values : ndarray or Tensor, shape (..., n)
        Values.
    index : ndarray or Tensor, shape (m,) or (..., m), int64
        Places, for all rows or for each.

    Returns
    -------
    ndarray or Tensor, shape (..., m)
        The values there.
    """
    if index.ndim == 1:
        return xp.take(values, index, axis=-1)
    return xp.take_along_axis(values, index, axis=-1)


def search_sorted(xp: ModuleType, ordered: Any, values: Any, *, side: str) -> Any:
    """
    Find where values belong in ordered rows.

    Parameters
    ----------
    xp : module
        Namespace of the arrays.
    ordered : ndarray or Tensor, shape (..., n)
        Rows that increase.
    values : ndarray or Tensor, shape (m,)
        What is sought in each row.
    side : {"left", "right"}
        As of `numpy.searchsorted`.

    Returns
    -------
    ndarray or Tensor, shape (..., m), int64
        Places.
    """
    if is_torch_namespace(xp):
        import torch

        spread = values.expand(*ordered.shape[:-1], values.shape[0]).contiguous()
        return torch.searchsorted(ordered.contiguous(), spread, right=side == "right")
    rows = ordered.reshape(-1, ordered.shape[-1])
    right = side == "right"
    places = [np.searchsorted(row, values, "right" if right else "left") for row in rows]
    return np.stack(places).reshape(*ordered.shape[:-1], values.shape[0]).astype(np.int64)


def good_median(xp: ModuleType, values: Any, good: Any) -> tuple[Any, Any]:
    """
    Take the median of good values along the last axis.

    Parameters
    ----------
    xp : module
        Namespace of the arrays.
    values : ndarray or Tensor, shape (..., n)
        Values.
    good : ndarray or Tensor, shape (..., n), bool
        Those that count; they are finite.

    Returns
    -------
    median : ndarray or Tensor, shape (...)
        The medians; NaN where nothing is good.
    empty : ndarray or Tensor, shape (...), bool
        Where nothing is good.
    """
    ordered = xp.sort(xp.where(good, values, xp.inf), axis=-1)
    count = xp.sum(xp.astype(good, xp.int64), axis=-1, keepdims=True)
    last = values.shape[-1] - 1
    low = xp.take_along_axis(ordered, xp.clip((count - 1) // 2, 0, last), axis=-1)
    high = xp.take_along_axis(ordered, xp.clip(count // 2, 0, last), axis=-1)
    empty = count == 0
    return xp.where(empty, xp.nan, low / 2 + high / 2)[..., 0], empty[..., 0]


def weighted_median(xp: ModuleType, values: Any, weights: Any) -> Any:
    """
    Take the median along the last axis, each value with a weight.

    Parameters
    ----------
    xp : module
        Namespace of the arrays.
    values : ndarray or Tensor, shape (..., n), float64
        Values; those of weight 0 may be anything but NaN.
    weights : ndarray or Tensor, shape (..., n), float64
        Weights, 0 or above.

    Returns
    -------
    ndarray or Tensor, shape (...), float64
        The value with half of the weight on either side, the mean of two where the half falls
        between them (the ordinary median where weights are equal); NaN without any weight.
    """
    ordered = xp.where(weights > 0, values, xp.inf)
    order = xp.argsort(ordered, axis=-1)
    ordered = xp.take_along_axis(ordered, order, axis=-1)
    total = xp.cumulative_sum(xp.take_along_axis(weights, order, axis=-1), axis=-1)
    half = total[..., -1:] / 2
    last = values.shape[-1] - 1
    ends = []
    for below in (total < half * (1 - 1e-12), total <= half * (1 + 1e-12)):
        place = xp.clip(xp.sum(xp.astype(below, xp.int64), axis=-1, keepdims=True), 0, last)
        ends.append(xp.take_along_axis(ordered, place, axis=-1)[..., 0])
    middle = (ends[0] + ends[1]) / 2
    return xp.where(half[..., 0] > 0, middle, xp.nan)
