"""Whatever bytes a file has, the gate ends with a report, in bounded time and memory."""

import itertools
import os
import random
import resource
import time
import tracemalloc

import h5py
import numpy as np
import pytest

import gatefiles
from astropile.errors import FormatError, UntrustedFileError
from astropile.gate import verify_file
from astropile.gate.contents import read_rows
from astropile.gate.source import Source
from astropile.gate.structure import read_structure

FINDS = {
    "heap ids longer than their records": "a.16431",
}
"""What made the gate fail once: seeds that make the bytes again."""


def spoiled_by(find):
    """Make the bytes of one find again."""
    seed, number = find.split(".")
    return next(itertools.islice(gatefiles.spoiled(seed, first=int(number)), 1))[1]


def run(path, content):
    path.write_bytes(content)
    return verify_file(path, limits=gatefiles.LIMITS)


@pytest.fixture
def path():
    path = gatefiles.scratch_file()
    yield path
    path.unlink(missing_ok=True)
    path.parent.rmdir()


@pytest.mark.parametrize("name", sorted(FINDS))
def test_finds(path, name):
    """What once ended in another error now ends in a report."""
    run(path, spoiled_by(FINDS[name]))


def test_spoiled_files(path):
    """A few hundred spoiled files end in reports: most are refused, those let in can be read."""
    verdicts = [
        run(path, content).ok for _, content in itertools.islice(gatefiles.spoiled("short"), 250)
    ]
    assert 0.5 < 1 - sum(verdicts) / len(verdicts) < 0.95


def test_noise(path):
    """Noise behind a file's first bytes ends in a report."""
    rng = random.Random(1)
    for content in gatefiles.good_images().values():
        for _ in range(10):
            at = rng.randrange(8, 2000)
            assert not run(path, content[:at] + rng.randbytes(len(content) - at)).ok


def by_hdf5(path, name, rows):
    """Read rows by the HDF5 library; None if it does not."""
    try:
        with h5py.File(path) as file:
            return file[name][rows]
    except (OSError, RuntimeError, KeyError):
        return None


def test_let_in_means_the_same(path):
    """Of spoiled files that are let in, the values are those that HDF5 reads, if it reads them."""
    n_read = n_not = 0
    for _, content in itertools.islice(gatefiles.spoiled("same"), 120):
        if not run(path, content).ok:
            continue
        with Source(path, gatefiles.LIMITS) as source:
            for column in read_structure(source).datasets:
                rows = np.arange(min(3, column.shape[0]))
                mine, theirs = read_rows(source, column, rows), by_hdf5(path, column.name, rows)
                if theirs is None:
                    n_not += 1
                else:
                    n_read += 1
                    assert repr(mine.tolist()) == repr(theirs.tolist())
    assert n_read > 100
    assert n_not < n_read / 20


def test_memory(path):
    """No spoiled file takes more than a few of the largest chunks allowed."""
    run(path, gatefiles.image())
    tracemalloc.start()
    try:
        for _, content in itertools.islice(gatefiles.spoiled("memory"), 15):
            run(path, content)
        assert tracemalloc.get_traced_memory()[1] < 8 * gatefiles.LIMITS.chunk_nbytes
    finally:
        tracemalloc.stop()


@pytest.mark.faults
@pytest.mark.timeout(0)
def test_many_spoiled_files(path):
    """Minutes of spoiled files, another series each day: every one ends in a report."""
    seconds = float(os.environ.get("ASTROPILE_FUZZ_SECONDS", "300"))
    end = time.monotonic() + seconds
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name, content in gatefiles.spoiled(time.strftime("%Y%m%d")):
        try:
            run(path, content)
            with Source(path, gatefiles.LIMITS) as source:
                read_structure(source)
        except (FormatError, UntrustedFileError):
            pass
        except Exception as error:
            error.add_note(f"seed {name}")
            raise
        if time.monotonic() > end:
            break
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 200 * 1024
