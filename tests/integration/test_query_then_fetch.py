"""Rows chosen by question or region come as everything that is promised, near and far."""

import pickle

import numpy as np
import pytest
from astropy.nddata import CCDData
from astropy.table import QTable

import toy
from astropile import build_catalog, load_dataset, open_catalog
from astropile.errors import TreeNotFoundError, UnknownColumnError
from astropile.testing.server import serve

N = 40
COLUMNS = ["object_id", "ra", "z", "FLUX_R", "NAME", "IMAGE", "LC_FLUX"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("far")
    ra, dec = np.linspace(9, 11, N), np.linspace(4, 6, N)
    toy.write_native(root / "native/a.npz", toy.make_batch(N, seed=1, ra=ra, dec=dec))
    build_catalog(toy.SURVEY, root / "native", root / "trees/toy", order=3, shard_nbytes=300_000)
    return root / "trees"


@pytest.fixture(scope="module")
def local(folder):
    return open_catalog(folder / "toy")


@pytest.fixture(params=["disk", "http", "memory", "verified"])
def catalog(request, folder):
    """The tree on disk, behind a web server, in a store of fsspec, and with its blocks hashed."""
    if request.param == "disk":
        yield open_catalog(folder / "toy")
    elif request.param == "memory":
        fsspec = pytest.importorskip("fsspec")
        memory = fsspec.filesystem("memory")
        memory.put(f"{folder}/", "/far/", recursive=True)
        yield open_catalog("memory://far/toy")
        memory.rm("/far", recursive=True)
    else:
        with serve(folder) as server:
            yield open_catalog(f"{server.url}/toy", "main", verify=request.param == "verified")


def test_every_choice(catalog, local):
    """Questions and regions give the same rows wherever the tree is."""
    pytest.importorskip("duckdb")
    ra, dec = local.positions()
    cases = [
        (lambda tree: tree.query("z > 0.5 AND mag IS NOT NULL"), None),
        (lambda tree: tree.sql("SELECT _row_number AS r FROM catalog ORDER BY z")["r"], None),
        (lambda tree: tree.cone(10, 5, 1800), None),
        (lambda tree: tree.box(9.5, 10.5, 4, 5), (ra >= 9.5) & (ra <= 10.5) & (dec <= 5)),
        (lambda tree: tree.polygon([(9, 4), (10, 4), (10, 6)]), None),
        (lambda tree: tree.pixels(3, [local.shards[0].ipix]), None),
    ]
    for choose, truth in cases:
        found = np.asarray(choose(catalog))
        assert found.tolist() == np.asarray(choose(local)).tolist()
        assert len(found) > 0
        if truth is not None:
            assert found.tolist() == np.flatnonzero(truth).tolist()


def test_map_of_coverage(catalog, local):
    """A coverage map chooses the same rows wherever the tree is."""
    mocpy = pytest.importorskip("mocpy")
    moc = mocpy.MOC.from_string("3/" + str(local.shards[0].ipix))
    assert catalog.moc(moc).tolist() == local.moc(moc).tolist() != []


def test_every_output(catalog, local):
    """Arrays, tables with units, data frames, Arrow and images of chosen rows are the disk's."""
    pytest.importorskip("pandas")
    rows = catalog.cone(10, 5, 3600)[::-1]
    assert len(rows) > 3
    table, expected = catalog.table(rows, COLUMNS), local.table(rows, COLUMNS)
    assert isinstance(table, QTable)
    assert table["ra"].unit == "deg"
    for name in COLUMNS:
        for mine, theirs in zip(table[name], expected[name], strict=True):
            assert np.array_equal(np.asarray(mine), np.asarray(theirs))
    assert catalog.to_arrow(rows).equals(local.to_arrow(rows))
    assert catalog.standard(rows).equals(local.standard(rows))
    frame, other = catalog.to_pandas(rows, COLUMNS), local.to_pandas(rows, COLUMNS)
    assert frame.index.tolist() == rows.tolist()
    assert frame["z"].equals(other["z"])
    assert frame.attrs == other.attrs
    image, same = catalog.images(rows[0])[1], local.images(rows[0])[1]
    assert isinstance(image, CCDData)
    assert np.array_equal(image.data, same.data)
    assert image.header == same.header


def test_dataset(catalog, local, tmp_path, monkeypatch):
    """Chosen rows are a Hugging Face dataset: lazy, in order, the same after all that it can do."""
    pytest.importorskip("datasets")
    rows = np.array([7, 3, 3, 39, 0])
    whole = load_dataset(str(local.path))
    expected = whole.select(rows).with_format("arrow")[:]
    monkeypatch.chdir(tmp_path)
    dataset = catalog.to_dataset(rows)
    assert dataset.with_format("arrow")[:].equals(expected)
    assert dataset.column_names == whole.column_names
    taken = []
    take = type(catalog).take
    monkeypatch.setattr(
        type(catalog), "take", lambda *args, **more: taken.append(args[2]) or take(*args, **more)
    )
    few = catalog.to_dataset(rows, ["object_id", "spectrum"])
    shuffled = few.shuffle(seed=1).select([1, 0, 4])
    assert taken == []
    record = few.with_format("astropile")[3]
    assert record["spectrum"]["flux"].dtype == np.float32
    assert all("IMAGE" not in names for names in taken)
    again = pickle.loads(pickle.dumps(shuffled))
    assert again[:]["object_id"] == shuffled[:]["object_id"]
    assert sorted(few["object_id"]) == sorted(expected["object_id"].to_pylist())
    bright = local.light(["Z"]).column(0).to_numpy() > 0.5
    assert len(catalog.to_dataset(bright)) == bright.sum()
    assert len(catalog.to_dataset([])) == 0
    assert list(tmp_path.iterdir()) == []


def test_dataset_of_an_open_tree(catalog):
    """A subset that is open stands where a path does; what contradicts it is refused."""
    pytest.importorskip("datasets")
    assert len(load_dataset(catalog)) == len(load_dataset(catalog, "main")) == N
    with pytest.raises(TreeNotFoundError, match="it is the subset 'main'"):
        load_dataset(catalog, "other")
    with pytest.raises(TypeError, match="this one is open"):
        load_dataset(catalog, verify=True)
    with pytest.raises(UnknownColumnError):
        catalog.to_dataset([0], ["nothing"])
    with pytest.raises(IndexError):
        catalog.to_dataset([N])
