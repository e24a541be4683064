"""
The bytes of a compressed chunk, as HDF5's own shuffle and deflate filters define them.

Any HDF5 reader decodes these chunks. What is our own is how they are written: shuffled floats
are byte planes of which some compress and some are noise. Noise goes in as *stored* deflate
blocks, which any inflate copies through at the speed of memory; planes where some values are
more frequent than others as Huffman codes alone; only those with repeats are searched for them.
"""

from __future__ import annotations

import struct
import threading
from functools import cache
from typing import Any, Final

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray
from zlib_ng import zlib_ng

_IsalError: type[Exception] = isal_zlib.IsalError  # type: ignore[assignment]

_HEAD: Final = b"\x78\x01"
_END: Final = b"\x03\x00"  # an empty final block
_STORED_NBYTES: Final = 65535
_SAMPLE_NBYTES: Final = 1024
_N_SAMPLES: Final = 4
_SAMPLED_FROM_NBYTES: Final = 4096
_NOISE_NBYTES: Final = 32768
"""In planes smaller than this that look like noise no repeats are searched for."""

_WORTH_IT: Final = 0.97
"""A plane is kept compressed if it shrinks to less than this share."""

_REPEATS_WORTH_IT: Final = 0.9
"""Repeats are searched for where they shrink a sample to less than this share of its codes."""


_scratch = threading.local()


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
    shuffled = _shuffle(np.ascontiguousarray(values))
    parts: list[bytes | memoryview] = [_HEAD]
    for plane in shuffled:
        packed = _pack(plane)
        if packed and len(packed) < _WORTH_IT * plane.nbytes:
            parts.append(packed)
        else:
            parts.extend(_stored(memoryview(plane)))
    parts += [_END, struct.pack(">I", isal_zlib.adler32(shuffled.reshape(-1)))]
    return b"".join(parts)


def _shuffle(values: NDArray[Any]) -> NDArray[np.uint8]:
    itemsize = values.dtype.itemsize
    flat = values.reshape(-1)
    if itemsize in (2, 4, 8) and values.nbytes >= 1024:
        planes = _scratch_room("planes", values.nbytes).reshape(itemsize, -1)
        kind = f"u{itemsize}"
        _kernel("split")(flat.view(kind), 8 * np.arange(itemsize, dtype=kind), planes)
        return planes
    return np.ascontiguousarray(flat.view(np.uint8).reshape(-1, itemsize).T)


def _pack(plane: NDArray[np.uint8]) -> bytes:
    """Compress a plane the way a sample of it says is best; nothing where none is."""
    if plane.nbytes < _SAMPLED_FROM_NBYTES:
        return _deflate(plane)
    step = (plane.nbytes - _SAMPLE_NBYTES) // (_N_SAMPLES - 1)
    sample = np.concatenate(
        [plane[k * step : k * step + _SAMPLE_NBYTES] for k in range(_N_SAMPLES)]
    )
    counts = np.bincount(sample)
    some = counts[counts > 0]
    # No code is shorter than a bit.
    as_codes = float((some * np.maximum(1, np.log2(sample.nbytes / some))).sum()) / 8
    noise = as_codes > _WORTH_IT * sample.nbytes
    if noise and plane.nbytes < _NOISE_NBYTES:
        return b""
    if len(_deflate(sample, level=1)) < _REPEATS_WORTH_IT * as_codes:
        return _deflate(plane)
    if noise:
        return b""
    room = _scratch_room("codes", 2 * plane.nbytes + 512)
    return room[: _kernel("deflate_codes")(plane, room)].tobytes()


def _scratch_room(use: str, n_bytes: int) -> NDArray[np.uint8]:
    """Give memory of this thread, until it is asked for again for the same use."""
    memory: NDArray[np.uint8] | None = getattr(_scratch, use, None)
    if memory is None or len(memory) < n_bytes:
        memory = np.empty(n_bytes, np.uint8)
        setattr(_scratch, use, memory)
    return memory[:n_bytes]


def _deflate(plane: NDArray[np.uint8], level: int = 2) -> bytes:
    # ISA-L is twice as fast, but once in some ten thousand times gives other bytes for the same
    # input: its tables keep what memory held before (https://github.com/intel/isa-l/issues/140).
    packer = zlib_ng.compressobj(level, zlib_ng.DEFLATED, -15)
    # A full flush ends on a byte, without an end block: the next plane can follow.
    return packer.compress(plane) + packer.flush(zlib_ng.Z_FULL_FLUSH)


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
        _kernel(f"join{itemsize}")(planes, flat.view(f"u{itemsize}"))
    else:
        flat.view(np.uint8).reshape(-1, itemsize)[:] = planes.reshape(itemsize, -1).T


@cache
def _kernel(name: str) -> Any:
    """Give a compiled function; numba is imported only where one is needed."""
    if name != "deflate_codes":
        from astropile.hdf5 import _unshuffle as kernels
    else:
        from astropile.hdf5 import _deflate as kernels  # type: ignore[no-redef]
    return getattr(kernels, name)
