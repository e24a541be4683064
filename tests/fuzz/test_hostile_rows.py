"""Rows are read without the HDF5 library, and hostile row tables end in errors of the package."""

import contextlib
import dataclasses
import random
import shutil
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest

import gatefiles
import toy
from astropile import build_catalog, open_catalog
from astropile.errors import AstroPileError, FormatError
from astropile.hdf5.fetch import RowReader
from astropile.hdf5.needed import needed_ranges
from astropile.hdf5.rows import chunk_sum, dump_tables, load_tables
from astropile.store.local import LocalFile
from astropile.testing.server import serve

N = 12
NAMES = ["ID", "NAME", "FLUX", "IMAGE", "IMAGE_MASK", "LC_FLUX", "STAMP", "WAVE", "ra"]


@pytest.fixture(scope="module", params=["compact", "fast"])
def tree(request, tmp_path_factory):
    """All objects in one shard."""
    folder = tmp_path_factory.mktemp(request.param)
    batch = toy.make_batch(N, seed=1, ra=np.full(N, 10.0), dec=np.full(N, 5.0))
    toy.write_native(folder / "native/a.npz", batch)
    build_catalog(toy.SURVEY, folder / "native", folder / "toy", order=0, layout=request.param)
    return folder / "toy"


_READ = """
import sys
class NoHdf5:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "h5py":
            raise ImportError("h5py was asked for")
sys.meta_path.insert(0, NoHdf5())
from astropile import open_catalog
for place in sys.argv[2:]:
    if sys.argv[1] == "no tables" and "://" not in place:
        import pathlib, shutil
        for rows in pathlib.Path(place).glob("*/rows"):
            shutil.rmtree(rows)
    found = open_catalog(place).take([3, 0], ["IMAGE", "LC_FLUX", "STAMP", "ID"])
    print(found["IMAGE"].sum(dtype="f8"), len(found["STAMP"]))
assert not [name for name in sys.modules if name.startswith("h5py")]
"""


@pytest.mark.parametrize("how", ["tables", "no tables"])
def test_no_hdf5_library(tree, tmp_path, how):
    """Rows on disk and behind URLs are read, and files indexed, in a process without it."""
    shutil.copytree(tree, tmp_path / "toy")
    with serve(tree.parent) as server:
        places = [str(tmp_path / "toy"), f"{server.url}/toy/main"]
        command = [sys.executable, "-c", _READ, how, *places]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    wanted = open_catalog(tree).take([3, 0], ["IMAGE"])["IMAGE"].sum(dtype="f8")
    assert done.stdout.split("\n")[:2] == [f"{wanted} 2"] * 2


def spoil_table(table, rng):
    """Change a few numbers of a row table."""
    for _ in range(rng.choice((1, 1, 2, 4))):
        name = rng.choice(sorted(table.places))
        place = table.places[name]
        value = rng.choice([-1, 0, 1, 2, 100, 2**20, 2**31, 2**40, 2**62, 2**63 - 1])
        match rng.randrange(9):
            case 0 | 1:
                starts = place.starts.copy()
                starts[rng.randrange(len(starts) + 1) :][:1] = value
                place = dataclasses.replace(place, starts=starts)
            case 2 if place.sizes is not None:
                sizes = place.sizes.copy()
                sizes[rng.randrange(len(sizes) + 1) :][:1] = value
                place = dataclasses.replace(place, sizes=sizes)
            case 3:
                place = dataclasses.replace(place, chunk_rows=value)
            case 4:
                place = dataclasses.replace(place, starts=place.starts[:-1])
            case 5:
                place = rng.choice(list(table.places.values()))
            case 6 | 7 if table.offsets:
                which = rng.choice(sorted(table.offsets))
                offsets = table.offsets[which].copy()
                offsets.reshape(-1)[rng.randrange(offsets.size)] = value
                table = dataclasses.replace(table, offsets={**table.offsets, which: offsets})
            case _:
                place = dataclasses.replace(place, sizes=None, sums=None)
        table = dataclasses.replace(table, places={**table.places, name: place})
    return table


@pytest.mark.timeout(60)
def test_hostile_tables(tree):
    """Whatever a row table says, reading ends in values or in an error, without taking memory."""
    catalog = open_catalog(tree)
    (shard,) = catalog.shards
    content = (catalog.path / "rows" / f"healpix={shard.ipix}.arrow").read_bytes()
    (good,) = load_tables(content, "here")
    rows = np.arange(N)
    refused = 0
    tracemalloc.start()
    try:
        for number in range(200):
            table = spoil_table(good, random.Random(number))
            (table,) = load_tables(dump_tables([table]), "here")
            # Behind a URL the ranges are worked out first; a file on disk is read straight away.
            with contextlib.suppress(AstroPileError):
                ranges = needed_ranges(catalog.survey, table, NAMES, rows, "here")
                assert np.all(ranges.starts >= 0)
                assert np.all(ranges.starts <= table.file_size - ranges.lengths)
            try:
                with LocalFile(shard.path, table.file_size) as file:
                    read_all(RowReader(file, shard.path, catalog.survey, table), rows)
            except AstroPileError:
                refused += 1
        assert tracemalloc.get_traced_memory()[1] < 32 * 2**20
    finally:
        tracemalloc.stop()
    assert refused > 60


def read_all(reader, rows):
    """Read every kind of column through a row table."""
    fixed = ["ID", "NAME", "FLUX", "IMAGE", "IMAGE_MASK", "ra"]
    out = {name: reader.room(name, len(rows)) for name in fixed}
    tasks, _ = reader.fixed_tasks(fixed, rows, out, rows)
    for task in tasks:
        task()
    reader.read_shared("WAVE")
    for name in ("LC_FLUX", "STAMP"):
        reader.read_ragged(name, rows)


def test_spoiled_arrow(tree):
    """Bytes of a row table that were changed are refused: it has a hash of its own."""
    (path,) = (tree / "main" / "rows").glob("*.arrow")
    content = path.read_bytes()
    (good,) = load_tables(content, "here")
    for number in range(200):
        rng = random.Random(number)
        changed = gatefiles.spoil(content, rng, [])
        try:
            (found,) = load_tables(changed, "here")
        except FormatError:
            continue
        except ValueError:
            assert len(changed) < len(content)
            continue
        assert found.places.keys() == good.places.keys()
        for name, place in good.places.items():
            assert found.places[name].starts.tolist() == place.starts.tolist()


def test_a_bomb_in_a_chunk(tree, tmp_path):
    """A chunk that inflates to 100 MiB where 4 KiB belong is refused before it does."""
    shutil.copytree(tree, tmp_path / "toy")
    catalog = open_catalog(tmp_path / "toy")
    (shard,) = catalog.shards
    (path,) = (catalog.path / "rows").glob("*.arrow")
    (table,) = load_tables(path.read_bytes(), "here")
    place = table.places["IMAGE"]
    if place.sizes is None:
        pytest.skip("this layout has no compressed chunks")
    bomb = zlib.compress(bytes(100 * 2**20), 9)
    with Path(shard.path).open("ab") as file:
        start = file.tell()
        file.write(bomb)
    starts, sizes, sums = place.starts.copy(), place.sizes.copy(), place.sums.copy()
    starts[0], sizes[0], sums[0] = start, len(bomb), chunk_sum(bomb)
    changed = dataclasses.replace(place, starts=starts, sizes=sizes, sums=sums)
    size = start + len(bomb)
    table = dataclasses.replace(table, file_size=size, places={**table.places, "IMAGE": changed})
    with LocalFile(shard.path, size) as file:
        reader = RowReader(file, shard.path, catalog.survey, table)
        out = {"IMAGE": reader.room("IMAGE", 1)}
        tasks, _ = reader.fixed_tasks(["IMAGE"], np.array([0]), out, np.array([0]))
        tracemalloc.start()
        try:
            (task,) = tasks
            with pytest.raises(FormatError, match=r"IMAGE.*row 0.*inflates to"):
                task()
            assert tracemalloc.get_traced_memory()[1] < 2**20
        finally:
            tracemalloc.stop()
