"""HST COSMOS galaxies in the format of GalSim."""

import numpy as np
import pytest
from astropy.io import fits

from astropile import build_catalog, open_catalog
from astropile.errors import NativeFileError
from astropile.simulate import hst_galsim as simulated
from astropile.simulate.galaxies import make_galaxies
from astropile.surveys import get_survey
from astropile.surveys.hst_galsim import NATIVE_COLUMNS
from astropile.testing import read_all

SURVEY = get_survey("hst_galsim")
CATALOG = "real_galaxy_catalog_26_extension.fits"


@pytest.fixture
def native(tmp_path):
    simulated.write(tmp_path / "native", make_galaxies(5, seed=2), seed=1)
    return tmp_path / "native"


def test_images_are_joined_by_file_and_hdu(native):
    """Rows in another order than the HDUs keep their own image and values."""
    with fits.open(native / CATALOG, mode="update") as hdus:
        hdus[1].data[:] = hdus[1].data[[3, 1, 4, 0, 2]].copy()
    columns, rejected = read_all(SURVEY, native)
    assert rejected == []
    assert columns["IDENT"].tolist() == [3, 1, 4, 0, 2]
    table = fits.getdata(native / CATALOG)
    with fits.open(native / "real_galaxy_images_extension.fits") as hdus:
        for row, ident in enumerate([3, 1, 4, 0, 2]):
            np.testing.assert_array_equal(columns["image_array"][row][0], hdus[ident].data)
    for column in NATIVE_COLUMNS:
        expected = table[column.name]
        if column.dtype.startswith("S"):
            expected = np.char.encode(expected)
        np.testing.assert_array_equal(columns[column.name], expected)
    np.testing.assert_allclose(columns["psf_fwhm"], 0.11, rtol=1e-3)


def test_the_flux_of_a_stamp_is_that_of_its_magnitude(native):
    """With the survey's zero point of 25.94 the pixels add up to MAG, but for the outskirts."""
    columns, _ = read_all(SURVEY, native)
    total = np.array([image.sum() for image in columns["image_array"]])
    outskirts = 25.94 - 2.5 * np.log10(total) - columns["MAG"]
    assert (outskirts > -0.01).all()
    assert (outskirts < 0.8).all()


def test_same_seed_gives_the_same_bytes(native, tmp_path):
    """Writing the same galaxies twice gives equal files."""
    simulated.write(tmp_path / "again", make_galaxies(5, seed=2), seed=1)
    for path in sorted(native.iterdir()):
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def test_from_native_files_to_standard_records(native, tmp_path):
    """A tree gives the same values back, and records with the fields of the design document."""
    columns, _ = read_all(SURVEY, native)
    build_catalog(SURVEY, native, tmp_path / "tree")
    catalog = open_catalog(tmp_path / "tree")
    rows = np.concatenate([catalog.find(ident) for ident in columns["IDENT"]])
    taken = catalog.take(rows, list(SURVEY.column_names))
    for name, values in columns.items():
        for row in range(5):
            np.testing.assert_array_equal(taken[name][row], values[row])
    (record,) = catalog.standard(rows[:1]).to_pylist()
    assert record["object_id"] == 0
    assert record["mag"] == pytest.approx(columns["MAG"][0])
    (image,) = record["image"]
    assert image["filter"] == "F814W"
    np.testing.assert_array_equal(image["array"], columns["image_array"][0][0])
    assert image["pixel_size"] == pytest.approx(0.03)
    assert image["noise_std"] == pytest.approx(columns["NOISE_VARIANCE"][0] ** 0.5)


def test_a_missing_file_rejects_its_galaxies_only(native):
    """Galaxies whose file of images is absent are counted; the others are delivered."""
    with fits.open(native / CATALOG, mode="update") as hdus:
        hdus[1].data["GAL_FILENAME"][1] = "real_galaxy_images_elsewhere.fits"
        hdus[1].data["PSF_HDU"][3] = 99
    columns, rejected = read_all(SURVEY, native)
    assert columns["IDENT"].tolist() == [0, 2, 4]
    assert [item.key for item in rejected] == ["1", "3"]
    assert rejected[0].reason.startswith("real_galaxy_images_elsewhere.fits: expected")
    assert rejected[1].reason.startswith("real_galaxy_PSF_images_extension.fits: expected HDU 99")


def test_a_truncated_file_of_images_rejects_all_that_need_it(native):
    """No galaxy is delivered from a file that was cut short."""
    path = native / "real_galaxy_images_extension.fits"
    path.write_bytes(path.read_bytes()[:-4000])
    columns, rejected = read_all(SURVEY, native)
    assert len(columns["IDENT"]) == 0
    assert len(rejected) == 5


def test_a_catalogue_without_a_column_is_named(native):
    """A catalogue that lacks a column is refused by the name of the column."""
    with fits.open(native / CATALOG) as hdus:
        kept = [column for column in hdus[1].columns if column.name != "PIXEL_SCALE"]
        table = fits.BinTableHDU.from_columns(fits.ColDefs(kept))
    table.writeto(native / CATALOG, overwrite=True)
    with pytest.raises(NativeFileError, match="PIXEL_SCALE"):
        read_all(SURVEY, native)


def test_an_empty_folder_says_what_was_sought(tmp_path):
    """A folder without a catalogue names the file that is missing."""
    with pytest.raises(NativeFileError, match="real_galaxy_catalog"):
        list(SURVEY.units(tmp_path))


@pytest.mark.real
def test_real_galaxies_are_delivered_bit_for_bit(real_data):
    """The 100 galaxies of the I < 25.2 example come with their images and PSFs."""
    folder = real_data / "images/hst_cosmos_galsim"
    columns, rejected = read_all(SURVEY, folder)
    table = fits.getdata(folder / "real_galaxy_catalog_26_extension_example.fits")
    assert columns["IDENT"].tolist() == table["IDENT"].tolist()
    assert len(columns["IDENT"]) == 100
    for column in NATIVE_COLUMNS:
        expected = table[column.name]
        if column.dtype.startswith("S"):
            expected = np.char.encode(expected)
        np.testing.assert_array_equal(columns[column.name], expected)
    with (
        fits.open(folder / "real_galaxy_images_extension.fits") as images,
        fits.open(folder / "real_galaxy_PSF_images_extension.fits") as psfs,
    ):
        for row in range(100):
            np.testing.assert_array_equal(
                columns["image_array"][row][0], images[int(table["GAL_HDU"][row])].data
            )
            np.testing.assert_array_equal(
                columns["psf"][row][0], psfs[int(table["PSF_HDU"][row])].data
            )
    assert {image.shape for image in columns["image_array"]} >= {(1, 54, 54), (1, 94, 94)}
    assert 0.12 < columns["psf_fwhm"].min() < columns["psf_fwhm"].max() < 0.13
    # The images of the I < 23.5 example are not among the files.
    assert len(rejected) == 100
    assert {item.reason for item in rejected} == {
        "real_galaxy_images.fits: expected a file beside the catalogue, found no such file"
    }
