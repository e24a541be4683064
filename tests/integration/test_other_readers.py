"""What others read of a tree: plain HDF5 and a plain HATS catalogue, without this package."""

import shutil
import subprocess
import warnings

import h5py
import numpy as np
import pytest

import toy
from astropile import build_catalog, open_catalog


@pytest.fixture(scope="module", params=["compact", "fast"])
def tree(request, tmp_path_factory):
    """A tree in one layout, all its objects in one shard, and that shard."""
    folder = tmp_path_factory.mktemp(request.param)
    toy.write_native(folder / "native/a.npz", toy.make_batch(12, seed=1))
    build_catalog(toy.SURVEY, folder / "native", folder / "toy", layout=request.param, order=0)
    return open_catalog(folder / "toy")


@pytest.fixture(scope="module")
def shard(tree):
    """The shard with the most objects."""
    return max(tree.shards, key=lambda shard: shard.n_objects)


def expected(tree, shard, name):
    rows = np.arange(shard.start, shard.start + shard.n_objects)
    return tree.take(rows, [name])[name]


FIXED = ["ID", "Z", "GOOD", "FLUX", "IMAGE", "IMAGE_MASK", "object_id", "ra"]


@pytest.mark.parametrize("name", FIXED)
def test_h5py(tree, shard, name):
    """h5py gives the values that the row table leads to."""
    with h5py.File(shard.path) as file:
        np.testing.assert_array_equal(file[name][()], expected(tree, shard, name))


@pytest.mark.parametrize("name", [name for name in FIXED if name != "GOOD"])
def test_netcdf4(tree, shard, name):
    """netCDF4 reads the same values; having no boolean type, it leaves such columns out."""
    netCDF4 = pytest.importorskip("netCDF4")
    with netCDF4.Dataset(shard.path) as file:
        file.set_auto_mask(False)
        np.testing.assert_array_equal(file[name][...], expected(tree, shard, name))


@pytest.mark.parametrize("name", FIXED)
def test_pyfive(tree, shard, name):
    """A reader of HDF5 written in Python alone, with no HDF5 library, reads the same values."""
    pyfive = pytest.importorskip("pyfive")
    with pyfive.File(str(shard.path)) as file:
        np.testing.assert_array_equal(file[name][...], expected(tree, shard, name))


def test_h5dump(shard):
    """h5dump lists columns with their units and meanings."""
    if shutil.which("h5dump") is None:
        pytest.skip("h5dump (Debian's hdf5-tools) is not installed")
    found = subprocess.run(
        ["h5dump", "-A", str(shard.path)], capture_output=True, text=True, check=True
    ).stdout
    assert '"nanomaggy' in found
    assert "Vacuum wavelength." in found
    dumped = subprocess.run(
        ["h5dump", "-d", "/ID", "-y", str(shard.path)], capture_output=True, text=True, check=True
    ).stdout
    with h5py.File(shard.path) as file:
        assert all(str(number) in dumped for number in file["ID"][()].tolist())


def test_kerchunk(tree, shard):
    """kerchunk's references lead Zarr to the same values by byte ranges."""
    hdf = pytest.importorskip("kerchunk.hdf")
    zarr = pytest.importorskip("zarr")
    import fsspec

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        references = hdf.SingleHdf5ToZarr(str(shard.path), inline_threshold=0).translate()
        files = fsspec.filesystem("reference", fo=references, asynchronous=True)
        group = zarr.open_group(
            zarr.storage.FsspecStore(files, read_only=True), mode="r", zarr_format=2
        )
        for name in ("IMAGE", "FLUX", "ID"):
            np.testing.assert_array_equal(group[name][...], expected(tree, shard, name))


def test_datasets_own_reader(tmp_path):
    """The `hdf5` reader of Hugging Face opens shards of fixed columns, without this package."""
    import dataclasses

    import datasets

    fixed = [c for c in toy.SURVEY.columns if not c.shared and not toy.SURVEY.ragged_dims(c)]
    columns = tuple(c for c in fixed if c.name != "FLUX")
    aliases = {"object_id": "ID", "observation_id": "ID", "ra": "RA", "dec": "DEC"}

    def read(unit):
        for batch in toy.read(unit):
            yield {column.name: batch[column.name] for column in columns}

    survey = dataclasses.replace(toy.SURVEY, columns=columns, aliases=aliases, read=read)
    toy.write_native(tmp_path / "native/a.npz", toy.make_batch(6, seed=1))
    build_catalog(survey, tmp_path / "native", tmp_path / "toy", order=0)
    catalog = open_catalog(tmp_path / "toy")
    files = [str(shard.path) for shard in catalog.shards]
    stream = datasets.load_dataset("hdf5", data_files=files, streaming=True, split="train")
    rows = list(stream)
    assert [row["ID"] for row in rows] == catalog.take(np.arange(6), ["ID"])["ID"].tolist()
    image = catalog.take([2], ["IMAGE"])["IMAGE"][0]
    np.testing.assert_array_equal(np.array(rows[2]["IMAGE"], "f4"), image)


def features_of_columns(path):
    """Write the features of the columns with one entry of one shape per object, as users do."""
    from datasets import Array3D, Features, List, Value

    found = {}
    with h5py.File(path) as file:
        for name, column in file.items():
            if isinstance(column, h5py.Dataset):
                kind = "string" if column.dtype.kind == "S" else column.dtype.name
                shape = column.shape[1:]
                if len(shape) > 1:
                    found[name] = Array3D(shape=shape, dtype=kind)
                else:
                    found[name] = List(Value(kind), length=shape[0]) if shape else Value(kind)
    return Features(found)


def check_fixed_columns(catalog, **options):
    """Compare every fixed column that the `hdf5` reader of `datasets` gives with this package's."""
    import datasets

    files = [str(shard.path) for shard in catalog.shards]
    features = features_of_columns(files[0])
    dataset = datasets.load_dataset(
        "hdf5", data_files=files, features=features, split="train", **options
    )
    found = list(dataset)
    assert len(found) == len(catalog)
    survey = catalog.survey
    fixed = [c.name for c in survey.columns if not c.shared and not survey.ragged_dims(c)]
    assert set(fixed) <= set(features)
    for name, values in catalog.take(np.arange(len(catalog)), list(features)).items():
        for row, value in zip(found, values, strict=True):
            if value.dtype.kind == "S":
                assert row[name] == value.decode()
            else:
                assert np.array(row[name], value.dtype).tobytes() == value.tobytes()


@pytest.mark.parametrize("streaming", [True, False])
def test_datasets_own_reader_beside_ragged_columns(tree, tmp_path, streaming):
    """Given features, the `hdf5` reader of `datasets` reads all fixed columns bit for bit."""
    check_fixed_columns(tree, streaming=streaming, cache_dir=str(tmp_path))


def test_datasets_own_reader_of_manga(tmp_path):
    """Of MaNGA it reads the fixed columns, given features; without, it stops at the cubes."""
    import datasets

    from astropile.simulate import manga
    from astropile.simulate.galaxies import make_galaxies

    galaxies = make_galaxies(1, seed=3)
    manga.write(tmp_path / "native", galaxies, seed=3)
    build_catalog("manga", tmp_path / "native", tmp_path / "manga")
    catalog = open_catalog(tmp_path / "manga")
    check_fixed_columns(catalog, streaming=True)
    files = [str(shard.path) for shard in catalog.shards]
    stream = datasets.load_dataset("hdf5", data_files=files, split="train", streaming=True)
    with pytest.raises(ValueError, match="Mismatching child array lengths"):
        list(stream)


def test_lsdb(tree):
    """lsdb opens the catalogue as it is, and its cone search finds what brute force finds."""
    lsdb = pytest.importorskip("lsdb")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        catalog = lsdb.open_catalog(str(tree.path / "catalog"))
        frame = catalog.compute(progress_bar=False)
        ra, dec = tree.positions()
        near = catalog.cone_search(float(ra[3]), float(dec[3]), 10).compute(progress_bar=False)
    assert len(frame) == len(tree)
    assert frame["ID"].tolist() == tree.take(np.arange(len(tree)), ["ID"])["ID"].tolist()
    assert tree.take([3], ["ID"])["ID"][0] in near["ID"].tolist()


def test_duckdb_polars_pyarrow(tree):
    """DuckDB, polars and pyarrow read the catalogue, with every object's shard and row."""
    import pyarrow.dataset as ds

    duckdb = pytest.importorskip("duckdb")
    polars = pytest.importorskip("polars")
    files = f"{tree.path}/catalog/dataset/**/*.parquet"
    ids = sorted(tree.take(np.arange(len(tree)), ["ID"])["ID"].tolist())
    found = duckdb.sql(f"SELECT ID, _shard, _row FROM read_parquet('{files}')").fetchall()
    assert sorted(row[0] for row in found) == ids
    assert {row[1] for row in found} == {1}
    assert sorted(polars.read_parquet(files)["ID"].to_list()) == ids
    folder = ds.dataset(f"{tree.path}/catalog/dataset", exclude_invalid_files=True)
    assert sorted(folder.to_table(columns=["ID"])["ID"].to_pylist()) == ids
