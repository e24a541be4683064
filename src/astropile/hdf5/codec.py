"""The bytes of a compressed chunk: shuffle, then deflate, as HDF5's own filters write them."""

from __future__ import annotations

import zlib
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

LEVEL: Final = 4


def encode_chunk(values: NDArray[Any]) -> bytes:
    """
    Shuffle and deflate one chunk.

    Parameters
    ----------
    values : ndarray
        The chunk, C order, dtype as on disk.

    Returns
    -------
    bytes
        What `write_direct_chunk` takes.
    """
    planes = np.ascontiguousarray(values).view(np.uint8).reshape(-1, values.dtype.itemsize)
    return zlib.compress(np.ascontiguousarray(planes.T).tobytes(), LEVEL)
