"""
The bytes of a compressed chunk, as HDF5's own shuffle and deflate filters define them.

Any HDF5 reader decodes these chunks. What is our own is how they are written: shuffled floats
are byte planes of which some compress and some are noise; noise goes in as *stored* deflate
blocks, which any inflate copies through at the speed of memory.
"""

from __future__ import annotations

import struct
from functools import cache
from typing import Any, Final

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

_IsalError: type[Exception] = isal_zlib.IsalError  # type: ignore[assignment]

_HEAD: Final = b"\x78\x01"
_END: Final = b"\x03\x00"  # an empty final block
_STORED_NBYTES: Final = 65535
_SAMPLE_NBYTES: Final = 2048
_WORTH_IT: Final = 0.97
"""A plane is kept compressed if it shrinks to less than this share."""


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
    shuffled = np.ascontiguousarray(planes.T)
    parts: list[bytes | memoryview] = [_HEAD]
    for plane in shuffled:
        packed = _deflate(plane) if _may_shrink(plane) else b""
        if packed and len(packed) < _WORTH_IT * plane.nbytes:
            parts.append(packed)
        else:
            parts.extend(_stored(memoryview(plane)))
    parts += [_END, struct.pack(">I", isal_zlib.adler32(shuffled.reshape(-1)))]
    return b"".join(parts)


def _may_shrink(plane: NDArray[np.uint8]) -> bool:
    """Try a sample first: most planes of a float are noise, and need not be packed to be seen."""
    if plane.nbytes < 8 * _SAMPLE_NBYTES:
        return True
    places = (0, plane.nbytes // 2, plane.nbytes - _SAMPLE_NBYTES)
    sample = np.concatenate([plane[start : start + _SAMPLE_NBYTES] for start in places])
    return len(_deflate(sample)) < _WORTH_IT * sample.nbytes


def _deflate(plane: NDArray[np.uint8]) -> bytes:
    packer = isal_zlib.compressobj(1, isal_zlib.DEFLATED, -15)
    # A full flush ends on a byte, without an end block: the next plane can follow.
    return packer.compress(plane) + packer.flush(isal_zlib.Z_FULL_FLUSH)


def _stored(plane: memoryview) -> list[bytes | memoryview]:
    parts: list[bytes | memoryview] = []
    for start in range(0, len(plane), _STORED_NBYTES):
        block = plane[start : start + _STORED_NBYTES]
        parts += [struct.pack("<BHH", 0, len(block), len(block) ^ 0xFFFF), block]
    return parts


def decode_chunk(packed: Any, out: NDArray[Any]) -> None:
    """
    Inflate and unshuffle one chunk.

    Parameters
    ----------
    packed : bytes-like
        The chunk as it lies in the file.
    out : ndarray
        Where its values go: C-contiguous, of the chunk's dtype and size.

    Raises
    ------
    ValueError
        If the chunk is damaged or not of that size.
    """
    # Bounded: a chunk that would inflate beyond its size is stopped one byte later.
    inflate = isal_zlib.decompressobj()
    try:
        raw = inflate.decompress(packed, out.nbytes + 1)
    except _IsalError as error:
        raise ValueError(f"a chunk cannot be inflated: {error}") from error
    if len(raw) != out.nbytes or not inflate.eof:
        raise ValueError(f"a chunk inflates to {len(raw)} bytes, not {out.nbytes}")
    _unshuffle(np.frombuffer(raw, np.uint8), out)


def _unshuffle(planes: NDArray[np.uint8], out: NDArray[Any]) -> None:
    itemsize = out.dtype.itemsize
    flat = out.reshape(-1)
    if itemsize == 1:
        flat.view(np.uint8)[:] = planes
    elif itemsize in (2, 4, 8) and out.nbytes >= 1024:
        _kernels()[itemsize](planes, flat.view(f"u{itemsize}"))
    else:
        flat.view(np.uint8).reshape(-1, itemsize)[:] = planes.reshape(itemsize, -1).T


@cache
def _kernels() -> dict[int, Any]:
    from astropile.hdf5 import _unshuffle as kernels

    return {2: kernels.join2, 4: kernels.join4, 8: kernels.join8}
