"""One spelling of array arithmetic for numpy arrays and torch tensors."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from array_api_compat import array_namespace, device, is_torch_array
from numpy.typing import ArrayLike

from astropile.errors import SampleError

Array: TypeAlias = Any
"""A numpy array or a torch tensor."""


def namespace(array: Array, name: str) -> Any:
    """
    Give the functions that work on an array, in the names of the array API standard.

    Parameters
    ----------
    array : numpy.ndarray or torch.Tensor
        The array.
    name : str
        What to call it in an error.

    Returns
    -------
    module
        Of `array_api_compat`.

    Raises
    ------
    SampleError
        If it is no array.
    """
    try:
        return array_namespace(array)
    except TypeError:
        raise SampleError(
            name, "a numpy array or a torch tensor", f"a {type(array).__name__}"
        ) from None


def constant(values: ArrayLike, like: Array, dtype: Any = None) -> Array:
    """
    Put numbers where an array is: its library, its device and, unless one is given, its dtype.

    Parameters
    ----------
    values : array_like
        The numbers; a tensor stays in its graph.
    like : numpy.ndarray or torch.Tensor
        The array to go along with.
    dtype : dtype, optional
        Of ``like``'s library.

    Returns
    -------
    numpy.ndarray or torch.Tensor
        The numbers there.
    """
    dtype = like.dtype if dtype is None else dtype
    if is_torch_array(values):
        return values.to(device=device(like), dtype=dtype)
    # A copy, since torch warns of arrays that it must not write to.
    return array_namespace(like).asarray(np.array(values), dtype=dtype, device=device(like))


def per_band(values: ArrayLike, like: Array, name: str) -> Array:
    """
    Make one number, or one for each band, fit for images of shape (..., band, row, column).

    Parameters
    ----------
    values : array_like, shape () or (n_bands,)
        The numbers.
    like : numpy.ndarray or torch.Tensor
        The images.
    name : str
        What to call the numbers in an error.

    Returns
    -------
    numpy.ndarray or torch.Tensor, shape () or (n_bands, 1, 1)
        The numbers, in the library, device and dtype of the images.

    Raises
    ------
    SampleError
        If there are not as many as bands.
    """
    numbers = constant(values, like)
    if numbers.ndim == 0:
        return numbers
    n_bands = like.shape[-3] if like.ndim > 2 else 1
    if tuple(numbers.shape) != (n_bands,):
        raise SampleError(
            name, f"one number, or {n_bands}, one a band", f"shape {tuple(numbers.shape)}"
        )
    return numbers[:, None, None]
