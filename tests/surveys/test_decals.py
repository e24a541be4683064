"""DECaLS images of Stein et al.: their HDF5 files as they are, and nothing made up."""

import csv
import hashlib
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

import astropile
from astropile.errors import NativeFileError
from astropile.simulate import decals as simulate
from astropile.simulate.galaxies import make_galaxies
from astropile.surveys import decals
from astropile.surveys.decals import SURVEY
from astropile.testing import read_all

GALAXIES = make_galaxies(20, seed=3)


@pytest.fixture(scope="module")
def native(tmp_path_factory):
    """The simulated sky in the official layout."""
    folder = tmp_path_factory.mktemp("decals")
    simulate.write(folder, GALAXIES, seed=3)
    return folder


def fields(n=4, npix=8, **changed):
    """Write out all fields of a file, in the dtypes of the data set, or those given."""
    rng = np.random.default_rng(1)
    three = rng.uniform(1, 9, (n, 3)).astype(np.float32)
    values = {
        "images": rng.normal(size=(n, 3, npix, npix)).astype(np.float32),
        "inds": np.arange(n),
        "release": np.full(n, 9010, np.int16),
        "brickid": np.arange(1000, 1000 + n, dtype=np.int32),
        "objid": np.arange(n, dtype=np.int32),
        "ra": np.linspace(10, 11, n),
        "dec": np.linspace(-1, 1, n),
        "ebv": np.full(n, 0.1, np.float32),
        "flux": three,
        "fiberflux": three / 4,
        "psfdepth": three * 100,
        "psfsize": np.full((n, 3), 1.3, np.float32),
        "z_spec": np.full(n, -99, np.float32),
    }
    return {**values, **changed}


def put(folder, name="images_npix8_000000000_000000004.h5", **changed):
    """Write a file by hand; a field that is None is left out."""
    folder.mkdir(parents=True, exist_ok=True)
    with h5py.File(folder / name, "w") as file:
        for field, values in fields(**changed).items():
            if values is not None:
                file.create_dataset(field, data=values)
    return folder


def read_error(folder):
    with pytest.raises(NativeFileError) as caught:
        read_all(SURVEY, folder)
    return str(caught.value)


# -- what comes out


def test_every_field_is_as_in_the_file_bit_for_bit(native):
    """Every native column has the bits of the dataset of its name."""
    columns, rejected = read_all(SURVEY, native)
    (path,) = (native / "south").iterdir()
    assert rejected == []
    with h5py.File(path) as file:
        names = set(file)
        for name in names - {"maskbits", "release", "nobs", "source_type"}:
            assert columns[name].dtype == file[name].dtype, name
            assert columns[name].tobytes() == file[name][:].tobytes(), name
        for name in ("maskbits", "release", "nobs", "source_type"):
            np.testing.assert_array_equal(columns[name], file[name][:])
    natives = {column.name for column in SURVEY.columns if not column.derived}
    assert names == natives


def test_identifier_is_release_brick_and_object(tmp_path):
    """The identifier is text made of release, brickid and objid, not of a row number."""
    columns, _ = read_all(SURVEY, put(tmp_path))
    assert columns["object_id"].tolist() == [
        b"9010-1000-0",
        b"9010-1001-1",
        b"9010-1002-2",
        b"9010-1003-3",
    ]


def test_identifier_does_not_depend_on_the_files(tmp_path):
    """The same object has the same identifier and image wherever its row lies."""
    whole, _ = read_all(SURVEY, put(tmp_path / "a"))
    both = fields()
    halves = tmp_path / "b"
    back = {name: values[::-1] for name, values in both.items()}
    put(halves, "images_npix8_000000000_000000001.h5", **{k: v[:1] for k, v in back.items()})
    put(halves, "images_npix8_000000001_000000004.h5", **{k: v[1:] for k, v in back.items()})
    split, _ = read_all(SURVEY, halves)
    rows = [split["object_id"].tolist().index(name) for name in whole["object_id"].tolist()]
    assert rows == [3, 2, 1, 0]
    np.testing.assert_array_equal(split["images"][rows], whole["images"])


def test_rows_are_read_in_ranges(native, monkeypatch):
    """Ranges of rows, each a unit, and batches within them give what one reading gives."""
    whole, _ = read_all(SURVEY, native)
    monkeypatch.setattr(decals, "_ROWS_PER_UNIT", 7)
    monkeypatch.setattr(decals, "_BATCH_BYTES", 3 * simulate.NPIX**2 * 4 * 2)
    keys = [unit.key for unit in SURVEY.units(native)]
    name = "south/images_npix96_000000000_000000020.h5"
    assert keys == [f"{name}[0000000:]", f"{name}[0000007:]", f"{name}[0000014:]"]
    parts, _ = read_all(SURVEY, native)
    for column in whole:
        np.testing.assert_array_equal(parts[column], whole[column])


def test_float32_positions_are_widened_exactly(tmp_path):
    """A file with float32 positions gives the same numbers in float64."""
    ra = np.array([79.97972, 248.46944, 0.0, 359.99997], np.float32)
    columns, _ = read_all(SURVEY, put(tmp_path, ra=ra))
    assert columns["ra"].dtype == np.float64
    assert columns["ra"].tolist() == [float(value) for value in ra]


@pytest.mark.parametrize("dtype", ["int16", "int64", "uint32"])
def test_width_of_an_integer_may_differ(tmp_path, dtype):
    """An identifier of another integer type keeps its value."""
    columns, _ = read_all(SURVEY, put(tmp_path, objid=np.array([7, 1, 300, 2], dtype)))
    assert columns["objid"].tolist() == [7, 1, 300, 2]


def test_train_set_is_left_out_unless_asked_for(tmp_path):
    """The folder south-train repeats galaxies: it is read only if it is the folder given."""
    put(tmp_path / "south")
    train = put(tmp_path / "south-train")
    assert [unit.key for unit in SURVEY.units(tmp_path)] == [
        "south/images_npix8_000000000_000000004.h5[0000000:]"
    ]
    assert len(SURVEY.units(train)) == 1


def test_missing_optional_field_is_said_missing(tmp_path):
    """A field that not all files have is NaN, -1, empty or False where it is not."""
    columns, _ = read_all(SURVEY, put(tmp_path))
    assert np.isnan(columns["z_phot_mean"]).all()
    assert np.isnan(columns["transmission"]).all()
    assert columns["transmission"].shape == (4, 3)
    assert columns["nobs"].tolist() == [[-1, -1, -1]] * 4
    assert columns["source_type"].tolist() == [b""] * 4


def test_optional_field_of_fewer_rows_is_not_shifted_onto_others(tmp_path):
    """A field for fewer rows than there are images counts as missing, for all rows."""
    columns, _ = read_all(SURVEY, put(tmp_path, z_phot_mean=np.zeros(3, np.float32)))
    assert np.isnan(columns["z_phot_mean"]).all()


def test_text_of_any_kind_is_stored_alike(tmp_path):
    """Morphological types come as bytes, be they stored as fixed or as variable text."""
    names = ["SER", "DEV", "REX", "EXP"]
    fixed, _ = read_all(SURVEY, put(tmp_path / "a", source_type=np.array(names, "S3")))
    text = np.array(names, dtype=h5py.string_dtype())
    variable, _ = read_all(SURVEY, put(tmp_path / "b", source_type=text))
    assert fixed["source_type"].tolist() == variable["source_type"].tolist()
    assert fixed["source_type"].tolist() == [b"SER", b"DEV", b"REX", b"EXP"]


# -- the standard view


def test_tree_keeps_native_values_and_gives_the_record(native, tmp_path):
    """From native files to a tree: native columns bit for bit, one record checked by hand."""
    report = astropile.build_catalog(SURVEY, native, tmp_path / "decals")
    assert (report.n_read, report.n_written, report.n_rejected) == (20, 20, 0)
    catalog = astropile.open_catalog(tmp_path / "decals")
    columns, _ = read_all(SURVEY, native)
    taken = catalog.take(np.arange(20))
    order = [columns["object_id"].tolist().index(name) for name in taken["object_id"].tolist()]
    for name, values in columns.items():
        assert taken[name].tobytes() == values[order].tobytes(), name

    native_row = order[0]
    record = catalog.standard([0]).to_pylist()[0]
    assert record["provenance"]["release"] == "DR9"
    assert record["object_id"] == record["observation_id"]
    assert record["object_id"] == columns["object_id"][native_row].decode()
    assert [image["filter"] for image in record["image"]] == ["g", "r", "z"]
    assert set(record["image"][0]) == {
        "array",
        "psf_fwhm",
        "pixel_size",
        "noise_std",
        "filter",
        "units",
        "extinction",
    }
    for band, image in enumerate(record["image"]):
        array = np.array(image["array"], np.float32)
        np.testing.assert_array_equal(array, columns["images"][native_row, band])
        assert image["psf_fwhm"] == columns["psfsize"][native_row, band]
        assert image["units"] == "nanomaggy"


def test_no_inverse_variance_is_made_up():
    """Neither ivar nor mask is among the fields of the image, for the files hold none."""
    assert {"ivar", "mask"}.isdisjoint(SURVEY.aliases["image"].fields)


def test_standard_numbers_are_right(tmp_path):
    """Magnitude, extinction, noise and redshift of one object come out as by hand."""
    changed = {
        "flux": np.full((4, 3), [1.0, 100.0, 10.0], np.float32),
        "psfdepth": np.full((4, 3), 400.0, np.float32),
        "psfsize": np.full((4, 3), [1.3, 1.0, 1.0], np.float32),
        "z_spec": np.array([0.25, -99, -0.001, np.nan], np.float32),
    }
    put(tmp_path / "native", **changed)
    astropile.build_catalog(SURVEY, tmp_path / "native", tmp_path / "tree")
    records = astropile.open_catalog(tmp_path / "tree").standard(np.arange(4)).to_pylist()
    record = next(record for record in records if record["object_id"] == "9010-1000-0")
    # 22.5 - 2.5 log10(100) - 2.165 * 0.1
    assert record["mag"] == pytest.approx(17.2835, abs=1e-5)
    assert [image["extinction"] for image in record["image"]] == pytest.approx(
        [0.3214, 0.2165, 0.1211], abs=1e-6
    )
    # A PSF of 1.3 arcsec is 2.1071 pixels in sigma, 55.79 pixels in effective area; the error of
    # a point source, 0.05, is the noise per pixel times the square root of that.
    assert record["image"][0]["noise_std"] == pytest.approx(0.05 / 55.79**0.5, rel=1e-3)
    redshifts = {record["object_id"]: record["z"] for record in records}
    assert redshifts["9010-1000-0"] == 0.25
    assert np.isnan(redshifts["9010-1001-1"])
    assert redshifts["9010-1002-2"] == pytest.approx(-0.001)
    assert np.isnan(redshifts["9010-1003-3"])


def test_doubled_object_is_rejected_once(tmp_path):
    """An object that a file of the south repeats is kept once, and the other is counted."""
    twice = {"brickid": np.array([5, 6, 5, 7]), "objid": np.array([1, 1, 1, 1])}
    put(tmp_path / "native", **twice)
    report = astropile.build_catalog(SURVEY, tmp_path / "native", tmp_path / "tree", tolerance=0.5)
    assert (report.n_read, report.n_written, report.n_rejected) == (4, 3, 1)


# -- bad input


@pytest.mark.parametrize("name", ["images", "objid", "ra", "psfdepth", "z_spec"])
def test_missing_field_is_named(tmp_path, name):
    """A file without a field that all have is refused by the name of the field."""
    assert f"expected dataset '{name}'" in read_error(put(tmp_path, **{name: None}))


def test_field_of_other_length_is_refused(tmp_path):
    """A needed field with another number of rows is refused, never paired by row."""
    message = read_error(put(tmp_path, flux=np.zeros((3, 3), np.float32)))
    assert "'flux' of shape (4, 3), found shape (3, 3)" in message


@pytest.mark.parametrize("shape", [(4, 8, 8, 3), (4, 3, 8, 6), (4, 8, 8)])
def test_images_of_another_shape_are_refused(tmp_path, shape):
    """Images that are not three square bands are refused."""
    message = read_error(put(tmp_path, images=np.zeros(shape, np.float32)))
    assert "shape (n, 3, npix, npix)" in message


def test_value_that_the_column_cannot_hold_is_refused(tmp_path):
    """No value is rounded to fit its column."""
    message = read_error(put(tmp_path, ebv=np.full(4, 0.1)))
    assert "'ebv' as float32, found float64" in message


def test_truncated_file_is_refused(native, tmp_path):
    """A file cut short gives an error that names it, and no object."""
    (whole,) = (native / "south").iterdir()
    cut = tmp_path / whole.name
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    assert f"{cut}: expected a whole HDF5 file" in read_error(tmp_path)


def test_file_that_is_no_hdf5_is_refused(tmp_path):
    """A page saved under the name of a file is refused by its name."""
    (tmp_path / "images_npix152_000000000_001000000.h5").write_text("<html>not found</html>")
    assert "expected a whole HDF5 file" in read_error(tmp_path)


def test_broken_file_does_not_fail_the_others(native, tmp_path):
    """A build rejects a broken file as one unit and keeps the objects of the whole one."""
    shutil.copytree(native, tmp_path / "native")
    (tmp_path / "native" / "images_npix96_000000020_000000040.h5").write_bytes(b"")
    report = astropile.build_catalog(SURVEY, tmp_path / "native", tmp_path / "tree", tolerance=0.5)
    assert (report.n_written, report.n_rejected) == (20, 1)


@pytest.mark.parametrize("make", [True, False])
def test_folder_without_files_is_refused(tmp_path, make):
    """An empty or absent folder gives one error that says what was looked for."""
    folder = tmp_path / "none"
    if make:
        folder.mkdir()
        (folder / "readme.h5").touch()
    with pytest.raises(FileNotFoundError, match=r"no file images_npix<n>_<first>_<last>\.h5"):
        SURVEY.units(folder)


# -- the simulated sky


def test_simulated_files_are_the_same_each_time(native, tmp_path):
    """The same galaxies and seed give the same bytes."""
    simulate.write(tmp_path, GALAXIES, seed=3)

    def digest(folder: Path) -> list[str]:
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        return [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]

    assert digest(tmp_path) == digest(native)


def test_simulated_galaxy_is_in_the_middle_of_its_image(native):
    """The light of an isolated galaxy is centred in the stamp within a pixel."""
    columns, _ = read_all(SURVEY, native)
    middle = (simulate.NPIX - 1) / 2
    window = slice(int(middle) - 9, int(middle) + 11)
    y, x = np.mgrid[window, window]
    offsets = []
    for image in columns["images"][:, 1, window, window]:
        light = np.clip(image, 0.05 * image.max(), None) - 0.05 * image.max()
        offsets.append(
            [(light * x).sum() / light.sum() - middle, (light * y).sum() / light.sum() - middle]
        )
    assert np.abs(np.median(offsets, axis=0)).max() < 0.25


# -- real files


@pytest.mark.real
@pytest.mark.parametrize("name", ["new_lenses.tsv", "training_lenses.tsv"])
def test_published_positions_have_the_precision_of_float32(real_data, name):
    """The published lists of the data set give positions that float32 holds: it is read too."""
    with (real_data / "catalogs" / "legacysurvey_lenses" / name).open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert len(rows) > 1000
    for row in rows:
        for key in ("ra", "dec"):
            assert float(str(np.float32(row[key]))) == float(row[key])
