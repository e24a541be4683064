"""From one layout to the other and back: not a bit of a row changes, nothing is half done."""

import hashlib

import h5py
import numpy as np
import pytest

import toy
from astropile import build_catalog, open_catalog, validate_catalog
from astropile import rewrite as module
from astropile.errors import BuildError, FormatError, TreeNotFoundError
from astropile.rewrite import rewrite_catalog
from astropile.schema import Ragged


def hashes(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """The same native files built in both layouts, with several shards in a partition."""
    folder = tmp_path_factory.mktemp("rewrite")
    toy.write_native(folder / "native/a.npz", toy.make_batch(8, seed=1), lost=1)
    crowd = toy.make_batch(20, seed=2, first_id=100, ra=np.full(20, 10.0), dec=np.full(20, 5.0))
    crowd["FLUX"][3, :5] = np.frombuffer(np.array([0x7FC0BEEF] * 5, "u4").tobytes(), "f4")
    toy.write_native(folder / "native/b.npz", crowd)
    for layout in ("compact", "fast"):
        build_catalog(
            toy.SURVEY,
            folder / "native",
            folder / layout / "toy",
            layout=layout,
            shard_nbytes=200_000,
            tolerance=0.5,
        )
    return folder


@pytest.mark.parametrize(("before", "after"), [("compact", "fast"), ("fast", "compact")])
def test_both_ways(trees, tmp_path, before, after):
    """A rewritten tree is, byte for byte, the one built in that layout, and valid."""
    report = rewrite_catalog(trees / before / "toy", tmp_path / "toy", layout=after)
    assert hashes(tmp_path / "toy") == hashes(trees / after / "toy")
    assert validate_catalog(tmp_path / "toy").ok
    assert (report.n_objects, report.layout) == (28, after)
    assert report.n_shards > report.n_partitions
    assert (report.n_bytes > report.n_bytes_before) == (after == "fast")
    assert not list(tmp_path.glob("toy/.*"))


def test_rows_stay(trees, tmp_path):
    """Every row of every column has the same bits, also under a new name, and is found there."""
    rewrite_catalog(trees / "compact/toy", tmp_path / "toy", layout="fast", name="fast")
    old, new = open_catalog(trees / "compact/toy"), open_catalog(tmp_path / "toy")
    assert new.subset == "fast"
    assert new.root.layout == "fast"
    assert validate_catalog(tmp_path / "toy").ok
    rows = np.arange(len(old))
    before, after = old.take(rows), new.take(rows)
    for name, values in before.items():
        if isinstance(values, Ragged):
            for one, other in zip(values, after[name], strict=True):
                assert one.tobytes() == other.tobytes()
        else:
            assert values.tobytes() == after[name].tobytes()
    assert old.light().equals(new.light())
    properties = (new.path / "catalog/hats.properties").read_text()
    assert "obs_collection=toy_fast\n" in properties
    with h5py.File(new.shards[0].path) as file:
        assert file.attrs["subset"] == b"fast"
        assert file["IMAGE"].chunks is None


def test_beside_and_in_place(trees, tmp_path):
    """A tree can hold both layouts, or be replaced by the other one."""
    rewrite_catalog(trees / "compact/toy", tmp_path / "toy", layout="compact")
    rewrite_catalog(tmp_path / "toy", tmp_path / "toy", layout="fast", name="fast")
    assert validate_catalog(tmp_path / "toy", "main").ok
    assert validate_catalog(tmp_path / "toy", "fast").ok
    with pytest.raises(BuildError, match="exists already"):
        rewrite_catalog(tmp_path / "toy", tmp_path / "toy", subset="main", layout="fast")
    rewrite_catalog(
        tmp_path / "toy", tmp_path / "toy", subset="main", layout="fast", overwrite=True
    )
    assert open_catalog(tmp_path / "toy", "main").root.layout == "fast"
    assert validate_catalog(tmp_path / "toy", "main").ok


def test_stopped_and_resumed(trees, tmp_path, monkeypatch):
    """A rewrite that was stopped shows nothing, and goes on after the last whole partition."""
    whole = module._read
    begun = []

    def stopping(catalog, shards, entries):
        begun.append(shards[0].ipix)
        if len(begun) == 4:
            raise KeyboardInterrupt
        return whole(catalog, shards, entries)

    monkeypatch.setattr(module, "_read", stopping)
    with pytest.raises(KeyboardInterrupt):
        rewrite_catalog(trees / "compact/toy", tmp_path / "toy", layout="fast")
    assert not (tmp_path / "toy/main").exists()
    with pytest.raises(BuildError, match="layout was 'fast'"):
        rewrite_catalog(trees / "compact/toy", tmp_path / "toy", layout="compact")
    begun.extend([0] * 10)
    del begun[:4]
    rewrite_catalog(trees / "compact/toy", tmp_path / "toy", layout="fast")
    n_partitions = len(open_catalog(trees / "fast/toy").root.partitions)
    assert len(begun) - 10 == n_partitions - 3
    assert hashes(tmp_path / "toy") == hashes(trees / "fast/toy")


@pytest.mark.parametrize("layout", ["compact", "fast"])
def test_damage_is_not_carried_on(trees, tmp_path, layout):
    """A flipped bit in a shard stops the rewrite, which names the file."""
    rewrite_catalog(trees / "compact/toy", tmp_path / "toy", layout=layout)
    path = open_catalog(tmp_path / "toy").shards[2].path
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    with pytest.raises(FormatError, match=f"{path.parent.name}.*damaged"):
        rewrite_catalog(tmp_path / "toy", tmp_path / "out", layout="fast")
    assert not (tmp_path / "out/main").exists()
    path.unlink()
    with pytest.raises(FormatError, match="no such file"):
        rewrite_catalog(tmp_path / "toy", tmp_path / "out", layout="fast")


def test_one_shard_in_memory(trees, tmp_path, monkeypatch):
    """Rows are read one shard at a time."""
    taken = []
    real = module.Catalog.take

    def take(self, rows, *args, **kwargs):
        taken.append(len(rows))
        return real(self, rows, *args, **kwargs)

    monkeypatch.setattr(module.Catalog, "take", take)
    rewrite_catalog(trees / "compact/toy", tmp_path / "toy", layout="fast")
    shards = open_catalog(tmp_path / "toy").shards
    assert taken == [shard.n_objects for shard in shards]


def test_wrong_calls(trees, tmp_path):
    """Each wrong call says in one sentence what is wrong."""
    with pytest.raises(BuildError, match="'compact' or 'fast', not 'zarr'"):
        rewrite_catalog(trees / "fast/toy", tmp_path, layout="zarr")
    with pytest.raises(TreeNotFoundError):
        rewrite_catalog(tmp_path / "nowhere", tmp_path, layout="fast")
    with pytest.raises(ValueError, match="a subset is named"):
        rewrite_catalog(trees / "fast/toy", tmp_path, layout="fast", name="../x")
    assert not list(tmp_path.iterdir())
