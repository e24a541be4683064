"""Files for the gate: good ones of every structure HDF5 writes, and ways to spoil them."""

import io
import os
import random
import tempfile
from pathlib import Path

import h5py
import numpy as np

from astropile.gate.checksums import lookup3
from astropile.gate.limits import Limits
from astropile.gate.source import Source
from astropile.gate.structure import read_structure
from astropile.healpix import ang2pix

N = 12
LIMITS = Limits(objects=64, attributes=40, metadata_nbytes=2**22, chunks=4096, chunk_nbytes=2**20)
"""Smaller than what holds for files of surveys, so that nothing takes long."""


def columns(n=N):
    """Columns that make sense, of every type that is let in."""
    rng = np.random.default_rng(3)
    ra, dec = rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))
    return {
        "object_id": np.array([b"obj%04d" % i for i in range(n)]),
        "ra": ra,
        "dec": dec,
        "healpix": ang2pix(ra, dec, 4),
        "flux": rng.normal(size=(n, 16)).astype("f4"),
        "image": rng.normal(size=(n, 2, 8, 8)).astype("f4"),
        "mask": rng.integers(0, 2, (n, 5)).astype(bool),
        "count": rng.integers(0, 9, n).astype("u2"),
        "wide": rng.normal(size=(n, 4)).astype(">f8"),
        "name": np.array([f"Ä{i}".encode() for i in range(n)], h5py.string_dtype("utf-8", 6)),
    }


STYLES = {
    "new": {"libver": ("v110", "v110")},
    "latest": {"libver": "latest"},
    "v108": {"libver": ("v108", "v110")},
    "old": {"libver": ("earliest", "v110")},
}


def image(style="new", edit=None, *, chunked=True, attributes=2, **kwargs):
    """The bytes of a good file; `edit` is called with it open."""
    buffer = io.BytesIO()
    stored = {"fletcher32": True, **kwargs} if chunked else {}
    with h5py.File(buffer, "w", **STYLES[style]) as file:
        for name, values in columns().items():
            chunks = (5, *values.shape[1:]) if chunked else None
            packed = {"shuffle": True, "compression": "gzip"} if name in {"image", "mask"} else {}
            options = {**stored, **packed} if chunked else {}
            file.create_dataset(name, data=values, chunks=chunks, **options)
        for name in ("ra", "dec"):
            file[name].attrs["unit"] = "deg"
        file.attrs["healpix_nside"], file.attrs["healpix_order"] = 16, "nested"
        for i in range(attributes):
            file.attrs[f"note{i:02d}"] = np.bytes_(b"some text")
        if style != "old":
            file.attrs["long"] = np.bytes_(b"x" * 6000)
        if edit:
            edit(file)
    return buffer.getvalue()


def good_images():
    """One file for each way in which HDF5 lays out the same columns."""
    return {
        "new": image("new"),
        "latest, many attributes": image("latest", attributes=20),
        "v108": image("v108", attributes=12),
        "old": image("old"),
        "not chunked": image("v108", chunked=False, edit=_ours),
        "one chunk": image("latest", edit=_one_chunk),
        "groups": image("v108", edit=_groups),
        "paged index": image("latest", edit=_paged),
        "compact": image("latest", edit=_compact),
        "gzip": image("old", compression="gzip"),
    }


def _ours(file):
    file.attrs["astropile_format"] = "1.0"


def _one_chunk(file):
    file.create_dataset("whole", data=np.arange(N), chunks=(N,), compression="gzip")


def _groups(file):
    for i in range(12):
        file[f"shared/wave{i}"] = np.arange(7)
    file["ragged/n.offsets"] = np.arange(N + 1)
    file.attrs["astropile_format"] = "1.0"


def _paged(file):
    values = np.arange(N * 200, dtype="i4").reshape(N, 200)
    file.create_dataset("many", data=values, chunks=(1, 1), fletcher32=True)


def _compact(file):
    create = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    create.set_layout(h5py.h5d.COMPACT)
    space = h5py.h5s.create_simple((N,))
    dataset = h5py.h5d.create(file.id, b"small", h5py.h5t.STD_I32LE, space, create)
    dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, np.arange(N, dtype="i4"))
    file.attrs["astropile_format"] = "1.0"


class _Spy(Source):
    """Notes where the blocks with checksums lie."""

    def __init__(self, path):
        super().__init__(path, Limits())
        self.blocks, self._last = {(0, 48)}, (0, 48)

    def metadata(self, start, n_bytes):
        self._last = (start, n_bytes)
        return super().metadata(start, n_bytes)

    def check(self, content, where):
        super().check(content, where)
        self.blocks.add(self._last)


def checksummed_blocks(content):
    """First byte and length of every block of metadata that ends with its checksum."""
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(content)
        with _Spy(file.name) as source:
            read_structure(source)
            version = content[8]
            return sorted(source.blocks - ({(0, 48)} if version < 2 else set()))


ODD = [0, 1, 2, 7, 8, 127, 128, 255, 256, 4096, 65535, 2**31, 2**32 - 1, 2**62, 2**63, 2**64 - 1]


def spoil(content, rng, blocks, other=b""):
    """Change a few places; blocks of metadata that were changed get a right checksum again."""
    changed = bytearray(content)
    spans = [*blocks, *blocks, (0, len(content))]
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        start, length = rng.choice(spans)
        at = min(start + rng.randrange(max(1, length)), len(changed) - 1)
        match rng.randrange(6):
            case 0:
                changed[at] ^= 1 << rng.randrange(8)
            case 1:
                changed[at] = rng.choice((0, 1, 2, 3, 4, 8, 16, 64, 127, 128, 254, 255))
            case 2:
                width = rng.choice((1, 2, 4, 8))
                value = rng.choice(ODD) % 256**width
                changed[at : at + width] = value.to_bytes(width, "little")
            case 3:
                width = rng.choice((2, 4, 8))
                value = int.from_bytes(changed[at : at + width], "little")
                value = (value + rng.choice((-8, -1, 1, 8))) % 256**width
                changed[at : at + width] = value.to_bytes(width, "little")
            case 4:
                donor = other or content
                width = rng.choice((4, 8, 16, 40))
                begin = rng.randrange(max(1, len(donor) - width))
                changed[at : at + width] = donor[begin : begin + width]
            case 5:
                # An address of something else in the file.
                target = rng.choice(blocks)[0] if blocks else rng.randrange(len(changed))
                changed[at : at + 8] = target.to_bytes(8, "little")
    del changed[len(content) :]
    if rng.random() < 0.05:
        del changed[rng.randrange(len(changed)) :]
    if rng.random() < 0.95:
        mend(changed, blocks)
    return bytes(changed)


def mend(changed, blocks):
    """Give blocks of metadata the checksums of what is in them now."""
    for start, length in blocks:
        if start + length <= len(changed):
            body = bytes(changed[start : start + length - 4])
            changed[start + length - 4 : start + length] = lookup3(body).to_bytes(4, "little")


def spoiled(seed, first=0):
    """Give spoiled files without end: a name that tells how to make one again, and its bytes."""
    images = good_images()
    blocks = {name: checksummed_blocks(content) for name, content in images.items()}
    names = sorted(images)
    number = first
    while True:
        rng = random.Random(f"{seed}.{number}")
        name, other = rng.choice(names), rng.choice(names)
        yield f"{seed}.{number} {name}", spoil(images[name], rng, blocks[name], images[other])
        number += 1


def scratch_file():
    """A file in memory, to be written over and over."""
    folder = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    return Path(tempfile.mkdtemp(dir=folder)) / "spoiled.hdf5"
