"""A fast tree as a dataset: its Arrow buffers are the files themselves."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import toy
from astropile import build_catalog, open_catalog
from astropile.errors import FormatError, UnknownColumnError

datasets = pytest.importorskip("datasets")

N = 60


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trees")
    batch = toy.make_batch(N, seed=1, ra=np.full(N, 10.0), dec=np.full(N, 5.0))
    toy.write_native(folder / "native/a.npz", batch)
    for layout, size in (("compact", 2**30), ("fast", 2**30), ("split", 400_000)):
        build_catalog(
            toy.SURVEY,
            folder / "native",
            folder / layout,
            order=0,
            shard_nbytes=size,
            layout="compact" if layout == "compact" else "fast",
        )
    return folder


def innermost(array):
    """Follow lists and records down to the numbers."""
    while not pa.types.is_floating(array.type):
        if isinstance(array, pa.ExtensionArray):
            array = array.storage
        elif pa.types.is_struct(array.type):
            array = array.field(0)
        else:
            array = array.values
    return array


def mapped_file(address):
    """Name the file that an address lies in."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        first, last = (int(word, 16) for word in line.split()[0].split("-"))
        if first <= address < last:
            return line.split()[-1]
    return ""


def test_column_is_the_file(trees):
    """A whole column of a fast tree, and rows in order, lie where the shard is mapped."""
    from astropile import load_dataset

    dataset = load_dataset(trees / "fast")
    catalog = open_catalog(trees / "fast")
    for array in (
        dataset.data.column("spectrum").chunk(0),
        dataset.with_format("arrow")[10:50].column("spectrum").chunk(0),
    ):
        numbers = innermost(array)
        address = numbers.buffers()[1].address
        assert mapped_file(address) == str(catalog.shards[0].path)
    expected = catalog.take(np.arange(N), ["FLUX"])["FLUX"]
    whole = dataset.data.column("spectrum")
    found = np.concatenate([innermost(chunk).to_numpy() for chunk in whole.chunks])
    assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("tree", ["fast", "split"])
def test_same_values(trees, tree):
    """Mapped or read, in one shard or over several, the rows are those of a compact tree."""
    from astropile import load_dataset

    expected = load_dataset(trees / "compact").with_format("arrow")[:]
    assert load_dataset(trees / tree).with_format("arrow")[:].equals(expected)


def test_what_is_mapped(trees):
    """Fixed columns of consecutive rows of one shard are mapped, read-only; nothing else is."""
    fast, split = open_catalog(trees / "fast"), open_catalog(trees / "split")
    names = ["FLUX", "IMAGE", "ID", "object_id", "WAVE", "LC_FLUX"]
    found = fast.mapped(5, 30, names)
    assert {"FLUX", "IMAGE"} <= set(found) <= {"FLUX", "IMAGE", "ID", "object_id"}
    expected = fast.take(np.arange(5, 30), list(found))
    for name, values in found.items():
        assert not values.flags.writeable
        assert values.dtype == expected[name].dtype
        assert values.tobytes() == expected[name].tobytes()
    assert open_catalog(trees / "compact").mapped(5, 30, names) == {}
    edge = split.shards[1].start
    assert split.mapped(edge - 1, edge + 1, names) == {}
    assert {"FLUX", "IMAGE"} <= set(split.mapped(edge, edge + 1, names))
    assert fast.mapped(3, 3, names) == {}
    with pytest.raises(UnknownColumnError):
        fast.mapped(0, 1, ["NOTHING"])


def test_mapping_outlives_the_name(trees, tmp_path):
    """Mapped arrays keep their values when the file is replaced; the catalog refuses the new."""
    import shutil

    shutil.copytree(trees / "fast", tmp_path / "toy")
    catalog = open_catalog(tmp_path / "toy")
    found = catalog.mapped(0, N, ["FLUX"])["FLUX"]
    expected = found.copy()
    path = catalog.shards[0].path
    other = path.with_name("other")
    other.write_bytes(bytes(path.stat().st_size))
    other.rename(path)
    assert (found == expected).all()
    with pytest.raises(FormatError, match="open the tree again"):
        catalog.mapped(0, N, ["FLUX"])


def test_mapping_makes_no_row(trees, monkeypatch):
    """What a mapped column is like is found out without room for a single value."""
    from astropile.hdf5.fetch import RowReader

    asked = []
    room = RowReader.room
    monkeypatch.setattr(RowReader, "room", lambda s, name, n: asked.append(n) or room(s, name, n))
    found = open_catalog(trees / "fast").mapped(3, 9, ["IMAGE", "ra"])
    assert found["IMAGE"].shape == (6, 2, 24, 32)
    assert set(asked) == {0}
