"""Rows copied out of files that stay mapped: the same bytes, and every change noticed."""

import multiprocessing
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import toy
from astropile import build_catalog, open_catalog
from astropile.errors import FormatError
from astropile.schema import Ragged

N = 30
NAMES = ["ID", "NAME", "Z", "FLUX", "IMAGE", "IMAGE_MASK", "LC_FLUX", "STAMP", "WAVE", "ra"]


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """Both layouts of the same survey, in one partition of several shards."""
    folder = tmp_path_factory.mktemp("trees")
    batch = toy.make_batch(N, seed=1, ra=np.full(N, 10.0), dec=np.full(N, 5.0))
    toy.write_native(folder / "native/a.npz", batch)
    for layout in ("compact", "fast"):
        build_catalog(
            toy.SURVEY,
            folder / "native",
            folder / layout,
            order=0,
            shard_nbytes=200_000,
            layout=layout,
            progress=False,
        )
    return folder


@pytest.fixture
def tree(trees, tmp_path):
    """A fast tree to damage."""
    shutil.copytree(trees / "fast", tmp_path / "toy")
    return tmp_path / "toy"


def assert_equal(found, expected):
    assert list(found) == list(expected)
    for name, values in expected.items():
        mine = found[name]
        if isinstance(values, Ragged):
            assert np.array_equal(mine.offsets, values.offsets)
            assert np.array_equal(mine.shapes, values.shapes)
            mine = mine.values
        right = values.values if isinstance(values, Ragged) else values
        assert mine.dtype == right.dtype
        assert mine.shape == right.shape
        assert mine.tobytes() == right.tobytes()


@pytest.fixture(scope="module")
def opened(trees):
    """A fast tree, read and mapped, opened once."""
    return open_catalog(trees / "fast"), open_catalog(trees / "fast", memory_map=True)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(st.integers(-N, N - 1), max_size=12),
    names=st.lists(st.sampled_from(NAMES), min_size=1, unique=True),
)
def test_any_rows_and_columns(opened, rows, names):
    """Rows in any order, repeated or not, are what a catalog that reads files gives."""
    plain, mapped = opened
    assert_equal(mapped.take(rows, names), plain.take(rows, names))


def test_into_memory_given(opened):
    """Values go where the caller wants them, and stay when the catalog is gone."""
    plain, mapped = opened
    room = {"IMAGE": np.zeros((3, 2, 24, 32), "f4")}
    found = mapped.take([4, 29, 4], ["IMAGE"], out=room)
    assert found["IMAGE"] is room["IMAGE"]
    assert found["IMAGE"].flags.owndata
    assert_equal(found, plain.take([4, 29, 4], ["IMAGE"]))


@pytest.mark.parametrize("verify", [False, True])
def test_compact_trees_and_checked_ones(trees, verify):
    """A compact tree, and one whose blocks are hashed, give the same too."""
    plain = open_catalog(trees / "compact").take([3, 20, 0], NAMES)
    for layout in ("compact", "fast"):
        catalog = open_catalog(trees / layout, memory_map=True, verify=verify)
        assert_equal(catalog.take([3, 20, 0], NAMES), plain)


def test_replaced_file(tree):
    """A file that another took the place of is not read on out of the mapping."""
    catalog = open_catalog(tree, memory_map=True)
    catalog.take([0], ["FLUX"])
    path = catalog.shards[0].path
    content = path.read_bytes()
    other = path.with_name("other")
    other.write_bytes(content[:-8] + bytes(8))
    other.replace(path)
    with pytest.raises(FormatError, match="another or a changed one"):
        catalog.take([0], ["FLUX"])


def test_changed_file(tree):
    """A file that was written to is noticed; so is one cut short, before it is looked at."""
    catalog = open_catalog(tree, memory_map=True)
    catalog.take([0], ["FLUX"])
    path = catalog.shards[0].path
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size - 8)
        file.write(b"changed!")
    os.utime(path, ns=(1, 1))
    with pytest.raises(FormatError, match="another or a changed one"):
        catalog.take([0], ["FLUX"])
    os.truncate(path, size // 2)
    with pytest.raises(FormatError, match=f"{size} bytes, found {size // 2} bytes"):
        catalog.take([0], ["FLUX"])
    path.unlink()
    with pytest.raises(FormatError, match="no such file"):
        catalog.take([0], ["FLUX"])


def test_changed_while_read(tree, monkeypatch):
    """A file that is written to while its rows are copied is noticed at the end."""
    from astropile.store.mapped import MappedFile

    catalog = open_catalog(tree, memory_map=True)
    catalog.take([0], ["FLUX"])
    copy = MappedFile.gather

    def gather(self, *args):
        copy(self, *args)
        os.utime(self.path, ns=(1, 1))

    monkeypatch.setattr(MappedFile, "gather", gather)
    with pytest.raises(FormatError, match="changed since"):
        catalog.take([0], ["FLUX"])


def _mapped_files(folder):
    lines = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    return {line.split()[-1] for line in lines if str(folder) in line and line.endswith(".hdf5")}


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="no /proc on this system")
def test_few_files_stay_mapped(tree, monkeypatch):
    """The oldest mappings are let go, and all are when the catalog is gone."""
    monkeypatch.setattr("astropile.store.mapped.MAX_MAPPED", 2)
    catalog = open_catalog(tree, memory_map=True)
    assert len(catalog.shards) > 2
    handles = len(list(Path("/proc/self/fd").iterdir()))
    expected = open_catalog(tree).take(range(N), ["FLUX"])
    for _ in range(2):
        assert_equal(catalog.take(range(N), ["FLUX"]), expected)
    assert len(_mapped_files(tree)) == 2
    del catalog
    assert not _mapped_files(tree)
    assert len(list(Path("/proc/self/fd").iterdir())) == handles


def _take(catalog):
    assert catalog.memory_map
    return catalog.take([5, 1], NAMES)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes(opened, method):
    """A copy in another process maps files there and reads the same."""
    plain, mapped = opened
    expected = plain.take([5, 1], NAMES)
    mapped.take([5], NAMES)
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert_equal(pool.apply(_take, (mapped,)), expected)
    assert_equal(_take(pickle.loads(pickle.dumps(mapped))), expected)


def test_urls_are_refused(tmp_path):
    """What is not on this machine cannot be mapped."""
    with pytest.raises(ValueError, match="memory_map: expected a tree on this machine"):
        open_catalog("https://example.org/toy", "main", memory_map=True)


def test_datasets(trees):
    """A Hugging Face dataset over mapped files gives the same rows, in other processes too."""
    pytest.importorskip("datasets")
    import astropile

    plain = astropile.load_dataset(trees / "fast").with_format("astropile")
    mapped = astropile.load_dataset(trees / "fast", memory_map=True).with_format("astropile")
    assert mapped._data.source.catalog.memory_map
    copied = pickle.loads(pickle.dumps(mapped))
    assert copied._data.source.catalog.memory_map
    for row in (0, 17):
        expected = plain[row]["image"][1]["array"]
        assert np.array_equal(mapped[row]["image"][1]["array"], expected)
        assert np.array_equal(copied[row]["image"][1]["array"], expected)
    with pytest.raises(TypeError, match="this one is open"):
        astropile.load_dataset(open_catalog(trees / "fast"), memory_map=True)
