"""Stamps of the COSMOS field, from HST and from HSC: images of their own size."""

from pathlib import Path

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS

from astropile import build_catalog, open_catalog
from astropile.errors import NativeFileError
from astropile.simulate import hsc_stamps as simulate_hsc
from astropile.simulate import hst as simulate_hst
from astropile.simulate.galaxies import make_galaxies
from astropile.surveys import get_survey
from astropile.surveys._stamps import gaussian_sigma, pixel_noise
from astropile.testing import read_all

HST, HSC = get_survey("hst"), get_survey("hsc_stamps")
WRITERS = {"hst": simulate_hst.write, "hsc_stamps": simulate_hsc.write}


def write_stamp(path: Path, data, **header) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [150.0, 2.0]
    wcs.wcs.crpix = [1.0, 1.0]
    wcs.wcs.cdelt = [-0.36 / 3600, 0.36 / 3600]
    hdu = fits.PrimaryHDU(data, wcs.to_header())
    hdu.header.update(header)
    hdu.writeto(path, overwrite=True)
    return path


def sky(columns) -> SkyCoord:
    return SkyCoord(columns["ra"], columns["dec"], unit="deg")


@pytest.fixture(scope="module")
def galaxies():
    return make_galaxies(4, seed=3)


@pytest.mark.parametrize("name", WRITERS)
def test_simulated_stamps_are_delivered_bit_for_bit(tmp_path, galaxies, name):
    """Each stamp comes at its galaxy's place, with the pixels and the PSF of its files."""
    WRITERS[name](tmp_path, galaxies, seed=1)
    columns, rejected = read_all(get_survey(name), tmp_path)
    assert rejected == []
    assert len(columns["name"]) == 4
    for row, stem in enumerate(columns["name"]):
        pixels = fits.getdata(tmp_path / f"{stem.decode()}.fits")
        np.testing.assert_array_equal(columns["image_array"][row], np.atleast_3d(pixels.T).T)
        psf = fits.getdata(tmp_path / f"PSF_{stem.decode()[4:7]}.fits")
        np.testing.assert_array_equal(columns["psf"][row], np.atleast_3d(psf.T).T)
    assert len({image.shape for image in columns["image_array"]}) > 1
    true = SkyCoord(galaxies.ra, galaxies.dec, unit="deg")
    _, separation, _ = sky(columns).match_to_catalog_sky(true)
    assert separation.arcsec.max() < 0.3


def test_width_and_noise_of_simulated_stamps_are_those_put_in(tmp_path, galaxies):
    """PSF width and pixel noise are measured as they were simulated."""
    simulate_hsc.write(tmp_path, galaxies, seed=1)
    columns, _ = read_all(HSC, tmp_path)
    np.testing.assert_allclose(columns["psf_fwhm"][0], [0.79, 0.75, 0.62, 0.66, 0.68], rtol=1e-3)
    np.testing.assert_allclose(columns["pixel_size"], 0.168, rtol=1e-6)
    simulate_hst.write(tmp_path, galaxies, seed=1)
    columns, _ = read_all(HST, tmp_path)
    assert np.median(columns["noise_std"]) == pytest.approx(0.001, rel=0.03)
    np.testing.assert_allclose(columns["noise_std"], 0.001, rtol=0.3)


def test_same_seed_gives_the_same_bytes(tmp_path, galaxies):
    """Writing the same stamps twice gives equal files."""
    for folder in ("a", "b"):
        simulate_hst.write(tmp_path / folder, galaxies, seed=9)
        simulate_hsc.write(tmp_path / folder, galaxies, seed=9)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert len(files) == 10
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_an_image_without_bands_becomes_one_of_one_band(tmp_path):
    """A plain image (row, column) is delivered as (1, row, column)."""
    data = np.arange(12, dtype="f4").reshape(3, 4)
    write_stamp(tmp_path / "Cut_HST7.fits", data)
    columns, _ = read_all(HST, tmp_path)
    (image,) = columns["image_array"]
    assert image.shape == (1, 3, 4)
    np.testing.assert_array_equal(image[0], data)


def test_the_position_is_that_of_the_middle_of_the_image(tmp_path):
    """An image of 3 x 5 pixels of 0.36 arcsec, its first at 150 +2, has its middle there."""
    write_stamp(tmp_path / "Cut_HST.fits", np.zeros((3, 5), "f4"))
    columns, _ = read_all(HST, tmp_path)
    assert columns["dec"][0] == pytest.approx(2 + 0.36 / 3600, abs=1e-9)
    shift = 150 - columns["ra"][0]
    assert shift * np.cos(np.deg2rad(2)) == pytest.approx(2 * 0.36 / 3600, rel=1e-5)
    assert columns["pixel_size"][0] == pytest.approx(0.36)
    assert np.isnan(columns["MJD-OBS"][0])


def test_coordinates_in_fk5_become_icrs(tmp_path):
    """The position follows the frame of the header: FK5 differs from ICRS by 20 mas."""
    header = {"RADESYS": "FK5", "EQUINOX": 2000.0}
    write_stamp(tmp_path / "a/Cut_HST.fits", np.zeros((3, 3), "f4"), **header)
    write_stamp(tmp_path / "b/Cut_HST.fits", np.zeros((3, 3), "f4"), RADESYS="ICRS")
    columns, _ = read_all(HST, tmp_path)
    assert columns["RADESYS"].tolist() == [b"FK5", b"ICRS"]
    first, second = sky(columns)
    assert 1e-3 < first.separation(second).arcsec < 0.05


def test_a_stamp_without_a_psf_has_none(tmp_path):
    """Where no PSF lies beside it, a stamp has a PSF without pixels and no width."""
    write_stamp(tmp_path / "hsc_ra=1_dec=2.fits", np.zeros((5, 4, 4)))
    columns, rejected = read_all(HSC, tmp_path)
    assert rejected == []
    assert columns["psf"][0].shape == (5, 0, 0)
    assert np.isnan(columns["psf_fwhm"]).all()


def test_width_of_a_gaussian_is_measured_off_centre():
    """A Gaussian of sigma 1.7 x 1.2 pixels, not on a pixel's centre, has sqrt(1.7 * 1.2)."""
    rows, columns = np.mgrid[:31, :41]
    image = np.exp(-0.5 * (((columns - 20.3) / 1.7) ** 2 + ((rows - 15.2) / 1.2) ** 2))
    assert gaussian_sigma(image) == pytest.approx(np.sqrt(1.7 * 1.2), rel=1e-3)
    assert np.isnan(gaussian_sigma(np.zeros((5, 5))))
    assert np.isnan(gaussian_sigma(np.full((5, 5), np.nan)))


def test_noise_is_measured_beside_a_source():
    """Noise of 0.5 is found on a sky of 100 with a bright source; a single pixel has none."""
    rows, columns = np.mgrid[:60, :60]
    source = 500 * np.exp(-0.5 * ((columns - 30) ** 2 + (rows - 30) ** 2) / 9)
    image = 100 + source + np.random.default_rng(1).normal(0, 0.5, source.shape)
    assert pixel_noise(image) == pytest.approx(0.5, rel=0.15)
    assert np.isnan(pixel_noise(np.ones((1, 1))))


# --------------------------------------------------------------------------------------
# Bad input


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (np.zeros((5, 4, 4)), "an image of 1 bands"),
        (np.zeros(4, "f4"), "an image of 1 bands"),
        (np.zeros((4, 4)), "float32 pixels"),
    ],
)
def test_an_image_of_another_kind_is_refused(tmp_path, data, expected):
    """A stamp with other bands or another dtype is named, with what was expected."""
    write_stamp(tmp_path / "Cut_HST.fits", data)
    with pytest.raises(NativeFileError, match=expected):
        read_all(HST, tmp_path)


def test_an_image_without_coordinates_is_refused(tmp_path):
    """A stamp whose header says nothing of the sky cannot be placed."""
    fits.PrimaryHDU(np.zeros((4, 4), "f4")).writeto(tmp_path / "Cut_HST.fits")
    with pytest.raises(NativeFileError, match="celestial coordinates"):
        read_all(HST, tmp_path)


def test_a_truncated_stamp_is_refused(tmp_path):
    """A file cut short is never delivered as pixels."""
    path = write_stamp(tmp_path / "Cut_HST.fits", np.ones((60, 60), "f4"))
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(NativeFileError, match=r"Cut_HST\.fits"):
        read_all(HST, tmp_path)


def test_a_broken_psf_is_refused(tmp_path):
    """A PSF that cannot be read is an error, not a missing PSF."""
    write_stamp(tmp_path / "Cut_HST.fits", np.ones((6, 6), "f4"))
    (tmp_path / "PSF_HST.fits").write_bytes(b"SIMPLE  = nothing")
    with pytest.raises(NativeFileError, match=r"PSF_HST\.fits"):
        read_all(HST, tmp_path)


def test_a_name_too_long_is_rejected(tmp_path):
    """A file's name that the identifier cannot hold rejects the stamp."""
    write_stamp(tmp_path / f"Cut_HST{'x' * 125}.fits", np.ones((6, 6), "f4"))
    columns, (item,) = read_all(HST, tmp_path)
    assert len(columns["name"]) == 0
    assert "128" in item.reason


def test_an_empty_folder_says_what_was_sought(tmp_path):
    """A folder without stamps names the files that are missing."""
    with pytest.raises(NativeFileError, match=r"Cut_HSC\*\.fits or hsc_ra="):
        list(HSC.units(tmp_path))


# --------------------------------------------------------------------------------------
# To a tree, and the real stamps


def test_from_native_files_to_standard_records(tmp_path, galaxies):
    """A tree gives the same stamps back, and records with the fields of the design document."""
    simulate_hsc.write(tmp_path / "native", galaxies, seed=1)
    columns, _ = read_all(HSC, tmp_path / "native")
    build_catalog(HSC, tmp_path / "native", tmp_path / "tree")
    catalog = open_catalog(tmp_path / "tree")
    rows = np.concatenate([catalog.find(name) for name in columns["name"]])
    taken = catalog.take(rows, list(HSC.column_names))
    for row in range(4):
        np.testing.assert_array_equal(taken["image_array"][row], columns["image_array"][row])
        np.testing.assert_array_equal(taken["psf"][row], columns["psf"][row])
    for name in ("name", "ra", "dec", "cd", "noise_std", "psf_fwhm", "CRPIX1", "RADESYS"):
        np.testing.assert_array_equal(taken[name], columns[name])
    (record,) = catalog.standard(rows[2:3]).to_pylist()
    assert record["object_id"] == record["observation_id"] == "Cut_HSC2"
    assert [image["filter"] for image in record["image"]] == ["g", "r", "i", "z", "y"]
    np.testing.assert_array_equal(record["image"][4]["array"], columns["image_array"][2][4])
    assert record["image"][2]["psf_fwhm"] == columns["psf_fwhm"][2, 2]
    assert record["image"][0]["pixel_size"] == columns["pixel_size"][2]
    assert record["image"][0]["units"] == "unknown"


@pytest.mark.real
@pytest.mark.parametrize(
    ("survey", "folder", "names"),
    [
        (HST, "hst", ["Cut_HST", "Cut_HST1"]),
        (HSC, "hsc", ["Cut_HSC", "Cut_HSC1", "hsc_ra=150.24071_dec=2.06514"]),
    ],
)
def test_real_stamps_are_delivered_bit_for_bit(real_data, survey, folder, names):
    """Every real stamp comes with the pixels and the PSF of its files."""
    columns, rejected = read_all(survey, real_data / "images" / folder)
    assert rejected == []
    assert [name.decode() for name in columns["name"]] == names
    for row, name in enumerate(names):
        path = real_data / "images" / folder / f"{name}.fits"
        pixels = np.atleast_3d(fits.getdata(path).T).T
        np.testing.assert_array_equal(columns["image_array"][row], pixels)
        assert columns["image_array"][row].dtype == pixels.dtype.newbyteorder("<")
        own = path.with_name(f"psf_{name}.fits")
        psf = own if own.exists() else path.with_name(f"PSF_{folder.upper()}.fits")
        np.testing.assert_array_equal(columns["psf"][row], np.atleast_3d(fits.getdata(psf).T).T)
        header = fits.getheader(path)
        for key in ("CRVAL1", "CRVAL2", "CRPIX1", "CRPIX2", "MJD-OBS"):
            assert columns[key][row] == header[key]


@pytest.mark.real
def test_real_widths_are_those_of_the_telescopes(real_data):
    """HST resolves 0.11 arcsec, HSC 0.6 to 0.9 arcsec, best in z and i."""
    hst, _ = read_all(HST, real_data / "images/hst")
    hsc, _ = read_all(HSC, real_data / "images/hsc")
    np.testing.assert_allclose(hst["psf_fwhm"], 0.111, atol=0.001)
    np.testing.assert_allclose(hsc["psf_fwhm"][0], [0.846, 0.763, 0.688, 0.638, 0.786], atol=0.001)
    np.testing.assert_allclose(hst["pixel_size"], 0.03, rtol=1e-6)
    np.testing.assert_allclose(hsc["pixel_size"], 0.168, rtol=1e-6)


@pytest.mark.real
def test_the_two_real_pairs_meet_within_an_arcsecond(real_data, tmp_path):
    """HSC and HST both saw 150.3192 +2.0394 and 150.3304 +2.0704, 0.06 arcsec apart."""
    trees = {}
    for survey, folder in ((HST, "hst"), (HSC, "hsc")):
        build_catalog(survey, real_data / "images" / folder, tmp_path / folder)
        trees[folder] = open_catalog(tmp_path / folder)
    hst, hsc = (SkyCoord(*trees[name].positions(), unit="deg") for name in ("hst", "hsc"))
    nearest, separation, _ = hst.match_to_catalog_sky(hsc)
    assert (separation.arcsec < 1).all()
    np.testing.assert_allclose(sorted(separation.arcsec), [0.0507, 0.0632], atol=2e-3)
    names = [
        tuple(trees[k].take([row], ["name"])["name"][0].decode() for k, row in pair)
        for pair in zip(
            (("hst", row) for row in range(2)), (("hsc", row) for row in nearest), strict=True
        )
    ]
    assert sorted(names) == [("Cut_HST", "Cut_HSC"), ("Cut_HST1", "Cut_HSC1")]
    np.testing.assert_allclose(hst.ra.deg, [150.3192, 150.3304], atol=1e-4)
    np.testing.assert_allclose(hst.dec.deg, [2.0394, 2.0704], atol=1e-4)
