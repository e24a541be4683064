"""Chunks: what is written any reader decodes, what is damaged is refused."""

import io
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astropile.hdf5.codec import decode_chunk, encode_chunk

DTYPES = ["bool", "int8", "uint8", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f4", "<f8", "S5"]


def values_of(kind, dtype, n, seed=0):
    """Bytes that compress in different ways, as values of a dtype."""
    rng = np.random.default_rng(seed)
    size = n * np.dtype(dtype).itemsize
    raw = {
        "noise": lambda: rng.integers(0, 256, size),
        "few": lambda: np.minimum(255, rng.geometric(0.3, size)),
        "constant": lambda: np.full(size, 7),
        "runs": lambda: np.repeat(rng.integers(0, 256, size // 50 + 1), 50)[:size],
        "repeats": lambda: np.tile(rng.integers(0, 256, 997), size // 997 + 1)[:size],
    }[kind]()
    raw = raw.astype(np.uint8)
    if dtype == "bool":
        raw &= 1
    return np.frombuffer(raw.tobytes(), dtype)


def shuffled(values):
    return values.view(np.uint8).reshape(-1, values.dtype.itemsize).T.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["noise", "few", "constant", "runs", "repeats"])
@pytest.mark.parametrize("n", [1, 2, 255, 1365, 16385, 70001])
def test_round_trip(dtype, kind, n):
    """Every dtype and kind of bytes comes back, from zlib as from our own inflate."""
    values = values_of(kind, dtype, n)
    packed = encode_chunk(values)
    assert zlib.decompress(packed) == shuffled(values)
    found = np.empty_like(values)
    decode_chunk(packed, found)
    assert found.tobytes() == values.tobytes()


@given(st.binary(min_size=8, max_size=20000), st.sampled_from(["u1", "<u2", "<f4", "<f8"]))
@settings(max_examples=150, deadline=None)
def test_any_bytes(raw, dtype):
    """Whatever the bytes are, they come back."""
    size = np.dtype(dtype).itemsize
    values = np.frombuffer(raw[: len(raw) // size * size], dtype)
    packed = encode_chunk(values)
    assert zlib.decompress(packed) == shuffled(values)
    found = np.empty_like(values)
    decode_chunk(packed, found)
    assert found.tobytes() == values.tobytes()


@pytest.mark.parametrize("skew", [1.2, 2.0, 3.0])
def test_codes_longer_than_twelve_bits(skew):
    """Bytes so uneven that their Huffman codes must be cut short come back."""
    counts = np.maximum(1, (60000 / skew ** np.arange(40)).astype(int))
    plane = np.repeat(np.arange(40, dtype=np.uint8), counts)
    plane = np.random.default_rng(0).permutation(plane)
    packed = encode_chunk(plane)
    assert zlib.decompress(packed) == plane.tobytes()
    assert len(packed) < len(plane)


def test_noise_is_stored():
    """Noise longer than a stored block takes no more than its headers beyond its own bytes."""
    values = values_of("noise", "u1", 200_000)
    packed = encode_chunk(values)
    assert len(packed) <= 200_000 + 4 * 5 + 8
    found = np.empty_like(values)
    decode_chunk(packed, found)
    assert (found == values).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_hdf5_reads_what_is_written(dtype):
    """The HDF5 library decodes our chunks, and we decode the library's."""
    values = values_of("few", dtype, 5000)
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        ours = file.create_dataset("ours", (5000,), dtype, chunks=(5000,), shuffle=True, **GZIP)
        ours.id.write_direct_chunk((0,), encode_chunk(values))
        theirs = file.create_dataset("theirs", data=values, chunks=(5000,), shuffle=True, **GZIP)
        assert ours[()].tobytes() == values.tobytes()
        _, packed = theirs.id.read_direct_chunk((0,))
    found = np.empty_like(values)
    decode_chunk(packed, found)
    assert found.tobytes() == values.tobytes()


GZIP = {"compression": "gzip", "compression_opts": 4}


def test_bomb():
    """A chunk that would inflate far beyond its size is refused in bounded memory."""
    bomb = zlib.compress(bytes(300 * 2**20), 9)
    out = np.empty(1024, np.uint8)
    tracemalloc.start()
    with pytest.raises(ValueError, match="not 1024"):
        decode_chunk(bomb, out)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


@pytest.mark.parametrize("size", [0, 1, 3999, 4004])
def test_wrong_size(size):
    """A chunk of another size than the column's is refused."""
    packed = encode_chunk(np.zeros(size, np.uint8)) if size else b""
    with pytest.raises(ValueError, match="chunk"):
        decode_chunk(packed, np.empty(1000, np.float32))


@pytest.mark.parametrize("kind", ["noise", "few", "runs"])
def test_flipped_bits(kind):
    """A chunk with a flipped bit is refused, or gives the values that were written."""
    values = values_of(kind, "<f4", 3000)
    packed = encode_chunk(values)
    rng = np.random.default_rng(1)
    found = np.empty_like(values)
    caught = 0
    for place in rng.integers(0, len(packed), 300):
        damaged = bytearray(packed)
        damaged[place] ^= 1 << int(rng.integers(8))
        try:
            decode_chunk(damaged, found)
        except ValueError:
            caught += 1
        else:
            assert found.tobytes() == values.tobytes()
    assert caught > 250


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_cut_short(share):
    """A chunk that ends too early is refused."""
    packed = encode_chunk(values_of("few", "<f4", 3000))
    with pytest.raises(ValueError, match="chunk"):
        decode_chunk(packed[: int(share * len(packed))], np.empty(3000, "<f4"))


def test_same_values_same_bytes():
    """What memory held before, and other threads, make no difference to a chunk's bytes."""
    rng = np.random.default_rng(3)
    chunks = [rng.integers(0, rng.integers(2, 200), rng.integers(300, 4000)) for _ in range(40)]
    chunks = [chunk.astype("i4") for chunk in chunks]
    expected = [encode_chunk(chunk) for chunk in chunks]

    def differing(seed):
        order = np.random.default_rng(seed).permutation(np.repeat(np.arange(40), 30))
        return [k for k in order if encode_chunk(chunks[k].copy()) != expected[k]]

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(differing, range(4))) == [[]] * 4
