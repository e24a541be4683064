"""MaNGA: every spaxel with data and every map, as in the survey's own files."""

import gzip
import hashlib
import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits

import astropile
from astropile.errors import NativeFileError, SchemaError
from astropile.simulate import manga as simulate
from astropile.simulate.galaxies import make_galaxies
from astropile.surveys._manga_files import label, survey_wavelengths
from astropile.surveys._manga_model import CUBE_KEYS, MAPS
from astropile.surveys.manga import SURVEY
from astropile.testing import read_all
from astropile.view import standard_records

GALAXIES = make_galaxies(3, seed=3)
DONOTUSE = 1 << 30
WAVE = np.linspace(4000.0, 4050.0, 6)


@pytest.fixture(scope="module")
def native(tmp_path_factory):
    """The simulated sky in the official layout."""
    folder = tmp_path_factory.mktemp("manga")
    simulate.write(folder, GALAXIES, seed=3, side=8)
    return folder


@pytest.fixture(scope="module")
def columns(native):
    """What is read from it."""
    found, rejected = read_all(SURVEY, native)
    assert rejected == []
    return found


@pytest.fixture(scope="module")
def catalog(native, tmp_path_factory):
    """The tree built from it."""
    tree = tmp_path_factory.mktemp("tree")
    report = astropile.build_catalog("manga", native, tree)
    assert (report.n_read, report.n_written, report.n_rejected) == (3, 3, 0)
    return astropile.open_catalog(tree)


def find(folder, what):
    (path,) = folder.rglob(f"*{what}*.fits*")
    return path


def cube_hdus(plateifu="7443-1901", shape=(5, 7), wave=WAVE, **keywords):
    """Give the HDUs of a cube with something in every spaxel."""
    rng = np.random.default_rng(1)
    size = (len(wave), *shape)
    primary = fits.PrimaryHDU()
    values = {"PLATEIFU": plateifu, "MANGAID": "1-12", "OBJRA": 10.5, "OBJDEC": -1.25}
    values |= {"PLATEID": 7443, "IFUDSGN": "1901", "DRP3QUAL": 0, "EBVGAL": 0.02, "GFWHM": 2.5}
    primary.header.update(values | keywords)
    flux = fits.ImageHDU(rng.normal(1, 0.1, size).astype(np.float32), name="FLUX")
    flux.header.update({"CD1_1": -0.000138889, "CD2_2": 0.000138889, "BSCALE": 1.0, "BZERO": 0.0})
    return fits.HDUList(
        [
            primary,
            flux,
            fits.ImageHDU(rng.uniform(1, 9, size).astype(np.float32), name="IVAR"),
            fits.ImageHDU(np.zeros(size, np.int32), name="MASK"),
            fits.ImageHDU(rng.uniform(1, 2, size).astype(np.float32), name="LSFPOST"),
            fits.ImageHDU(np.array(wave), name="WAVE"),
            *(
                fits.ImageHDU(rng.normal(1, 0.1, shape).astype(np.float32), name=f"{band}{kind}")
                for kind in ("IMG", "PSF")
                for band in "GRIZ"
            ),
        ]
    )


def put_cube(folder, hdus=None, name="manga-7443-1901-LOGCUBE.fits"):
    folder.mkdir(parents=True, exist_ok=True)
    (hdus or cube_hdus()).writeto(folder / name)
    return folder


def change(path, edit):
    """Put a changed FITS file in place of another, not compressed."""
    with fits.open(path) as hdus:
        copy = fits.HDUList([hdu.copy() for hdu in hdus])
        edit(copy)
        copy.writeto(path.with_suffix(""))
    path.unlink()


def copy_one(native, folder, row=0):
    """Copy the cube and the maps of one galaxy, nothing else."""
    plateifu = f"{8000 + row // 2}-{1901 + row % 2}"
    folder.mkdir(exist_ok=True)
    for path in native.rglob(f"manga-{plateifu}-*"):
        shutil.copy(path, folder)
    return folder


def read_error(folder):
    with pytest.raises(NativeFileError) as caught:
        read_all(SURVEY, folder)
    return str(caught.value)


# -- what is declared


def test_units_are_what_astropy_parses():
    """Every unit of a column is one that astropy knows."""
    for column in SURVEY.columns:
        u.Unit(column.unit)


def test_seed_record_of_an_ifu_is_there_with_all_its_fields():
    """Spaxels, images and the size of a spaxel have the fields of the design document."""
    spaxels = SURVEY.aliases["spaxels"].fields
    assert {"flux", "ivar", "lsf_sigma", "lambda", "mask", "x", "y", "extra"} == set(spaxels)
    images = [set(member.fields) for member in SURVEY.aliases["images"]]
    assert all({"label", "data"} <= fields for fields in images)
    assert SURVEY.provenance == {"project": "SDSS", "survey": "MaNGA", "release": "DR17"}


# -- cubes


def test_cube_is_as_in_the_file_bit_for_bit(native, columns):
    """Put back in their places, the spaxels give every value of the cube that is not nothing."""
    for row, plateifu in enumerate(columns["PLATEIFU"]):
        with fits.open(find(native, f"{plateifu.decode()}-LOGCUBE")) as hdus:
            place = (slice(None), columns["SPAXEL_ROW"][row], columns["SPAXEL_COLUMN"][row])
            for name, dtype in (("FLUX", "<f4"), ("IVAR", "<f4"), ("MASK", "<i4")):
                cube = np.full_like(hdus[name].data, 1027 if name == "MASK" else 0)
                cube[place] = columns[name][row].T
                assert columns[name][row].dtype == dtype
                assert cube.tobytes() == hdus[name].data.tobytes(), name
            np.testing.assert_array_equal(columns["LSFPOST"][row].T, hdus["LSFPOST"].data[place])
            np.testing.assert_array_equal(columns["WAVE"], hdus["WAVE"].data)
            for kind in ("IMG", "PSF"):
                for plane, band in zip(columns[kind][row], "griz", strict=True):
                    np.testing.assert_array_equal(plane, hdus[f"{band.upper()}{kind}"].data)


def test_only_spaxels_with_nothing_are_left_out(tmp_path):
    """One value, one inverse variance, one unflagged pixel or a NaN is enough to be kept."""
    hdus = cube_hdus(shape=(2, 4))
    flux, ivar, mask = (hdus[name].data for name in ("FLUX", "IVAR", "MASK"))
    flux[:], ivar[:], mask[:] = 0, 0, 1027
    flux[3, 0, 1] = -1e-30
    ivar[5, 0, 2] = 0.5
    mask[0, 1, 0] = 2
    flux[1, 1, 1] = np.nan
    mask[:, 1, 3] = 1 << 10
    columns, _ = read_all(SURVEY, put_cube(tmp_path, hdus))
    kept = list(zip(columns["SPAXEL_ROW"][0], columns["SPAXEL_COLUMN"][0], strict=True))
    assert kept == [(0, 1), (0, 2), (1, 0), (1, 1)]
    assert columns["FLUX"][0].shape == (4, 6)
    assert (columns["CUBE_ROWS"][0], columns["CUBE_COLUMNS"][0]) == (2, 4)


def test_a_cube_of_odd_and_unequal_sides_is_neither_padded_nor_turned(tmp_path):
    """Rows are rows and columns are columns in a cube of 5 rows and 7 columns."""
    hdus = cube_hdus(shape=(5, 7))
    columns, _ = read_all(SURVEY, put_cube(tmp_path, hdus))
    assert columns["FLUX"][0].shape == (35, 6)
    assert (columns["SPAXEL_ROW"][0].max(), columns["SPAXEL_COLUMN"][0].max()) == (4, 6)
    place = np.flatnonzero((columns["SPAXEL_ROW"][0] == 3) & (columns["SPAXEL_COLUMN"][0] == 6))
    np.testing.assert_array_equal(columns["FLUX"][0][place[0]], hdus["FLUX"].data[:, 3, 6])
    assert columns["IMG"][0].shape == (4, 5, 7)


def test_spaxel_size_is_half_an_arcsecond_from_the_header(tmp_path):
    """0.000138889 deg is 0.5 arcsec; a rotated matrix of half that scale gives 0.25."""
    hdus = cube_hdus()
    half = 0.25 / 3600 / np.sqrt(2)
    turned = cube_hdus("7443-1902")
    matrix = {"CD1_1": -half, "CD1_2": half, "CD2_1": half, "CD2_2": half}
    turned["FLUX"].header.update(matrix)
    put_cube(tmp_path, hdus)
    put_cube(tmp_path, turned, "manga-7443-1902-LOGCUBE.fits")
    columns, _ = read_all(SURVEY, tmp_path)
    np.testing.assert_array_equal(columns["SPAXEL_SIZE"], np.float32([0.5, 0.25]))


def test_line_spread_of_older_cubes_is_taken_from_what_they_hold(tmp_path):
    """DISP is taken as it is; a resolution of 2000 at 4000 Angstrom is a sigma of 0.849."""
    older = cube_hdus("7443-1902")
    older["LSFPOST"].name = "DISP"
    oldest = cube_hdus("7443-3701")
    del oldest["LSFPOST"]
    resolution = np.full(6, 2000.0)
    resolution[4] = 0
    oldest.append(fits.ImageHDU(resolution, name="SPECRES"))
    put_cube(tmp_path)
    put_cube(tmp_path, older, "manga-7443-1902-LOGCUBE.fits")
    put_cube(tmp_path, oldest, "manga-7443-3701-LOGCUBE.fits")
    columns, _ = read_all(SURVEY, tmp_path)
    assert list(columns["LSF_SOURCE"]) == [b"LSFPOST", b"DISP", b"SPECRES"]
    np.testing.assert_array_equal(columns["LSFPOST"][1].T.reshape(6, 5, 7), older["DISP"].data)
    sigma = columns["LSFPOST"][2]
    assert sigma.shape == columns["FLUX"][2].shape
    assert sigma[0, 0] == pytest.approx(4000 / 2000 / 2.3548, rel=1e-5)
    assert (sigma[:, 4] == 0).all()


def test_bands_are_those_of_the_cube(tmp_path):
    """A cube with images in u, as the first ones were, has one more band, in its place."""
    with_u = cube_hdus("7443-1902")
    for kind in ("IMG", "PSF"):
        with_u.append(fits.ImageHDU(np.full((5, 7), 2.5), name=f"U{kind}"))
    put_cube(tmp_path)
    put_cube(tmp_path, with_u, "manga-7443-1902-LOGCUBE.fits")
    columns, _ = read_all(SURVEY, tmp_path)
    bands = [b"".join(bands).decode() for bands in columns["IMG_BAND"]]
    assert bands == ["griz", "ugriz"]
    assert [images.shape for images in columns["IMG"]] == [(4, 5, 7), (5, 5, 7)]
    assert (columns["IMG"][1][0] == 2.5).all()
    assert list(columns["PSF_LABEL"][1][:2]) == [b"reconstructed_psf_u", b"reconstructed_psf_g"]
    np.testing.assert_array_equal(columns["IMG_FWHM"][0], [2.5, np.nan, np.nan, np.nan])


def test_wavelengths_are_shared_and_a_cube_with_others_is_refused(tmp_path):
    """Cubes of two lengths do not go into one tree."""
    put_cube(tmp_path)
    longer = cube_hdus("7443-1902", wave=np.linspace(4000, 4060, 7))
    put_cube(tmp_path, longer, "manga-7443-1902-LOGCUBE.fits")
    with pytest.raises(SchemaError, match=r"'WAVE'.*shape \(6,\)"):
        read_all(SURVEY, tmp_path)


# -- maps


def test_maps_are_as_in_the_file_bit_for_bit(native, columns):
    """Every HDU of the maps is a column of its name, dtype and values."""
    for row, plateifu in enumerate(columns["PLATEIFU"]):
        with fits.open(find(native, f"{plateifu.decode()}-MAPS")) as hdus:
            names = {hdu.name for hdu in hdus[1:]}
            assert len(names) == 63
            assert names <= set(SURVEY.column_names)
            for name in names:
                data = hdus[name].data
                assert columns[name][row].dtype == data.dtype.newbyteorder("<")
                assert (
                    columns[name][row].tobytes()
                    == data.astype(data.dtype.newbyteorder("<")).tobytes()
                )


def test_masks_of_maps_keep_every_bit(columns):
    """Bits 30, 1 and 0 together are 1073741827, which float32 cannot hold."""
    mask = columns["STELLAR_VEL_MASK"][0]
    assert mask.dtype == np.int32
    assert mask[0, 0] == 1073741827
    assert int(np.float32(1073741827)) != 1073741827


def test_each_channel_has_its_own_name_and_unit(columns):
    """Units of spectral indices are not carried over from the channel before."""
    names = list(columns["SPECINDEX_LABEL"][0])
    units = dict(zip(names, columns["SPECINDEX_UNIT"][0], strict=True))
    assert (units[b"cn1"], units[b"ca4227"], units[b"d4000"]) == (b"mag", b"ang", b"")
    assert list(columns["SPX_ELLCOO_UNIT"][0]) == [b"arcsec", b"", b"kpc/h", b"degrees"]
    assert columns["EMLINE_GFLUX_LABEL"][0][23] == b"emline_gflux_ha_6564"
    assert columns["EMLINE_SFLUX_LABEL"][0][0] == b"emline_sflux_oiid_3728"
    assert columns["EMLINE_GFLUX_LABEL"][0][0] == b"emline_gflux_oii_3727"


def test_labels_name_the_map_and_the_channel():
    """The label is made of HDU and channel; indices go by their own names."""
    assert label("EMLINE_GVEL", "Ha-6564") == "emline_gvel_ha_6564"
    assert label("STELLAR_VEL", "") == "stellar_vel"
    assert label("SPECINDEX", "Dn4000") == "dn4000"
    assert label("SPECINDEX_BF", "Dn4000") == "specindex_bf_dn4000"
    assert label("SPX_ELLCOO", "R/Re") == "spx_ellcoo_r_re"


def test_companions_of_a_map_are_those_its_header_names(native, tmp_path):
    """A mask under another name is found by QUALDATA, not by rule."""
    folder = copy_one(native, tmp_path / "one")

    def edit(hdus):
        hdus["STELLAR_VEL_MASK"].name = "QUALITY"
        hdus["STELLAR_VEL"].header["QUALDATA"] = "QUALITY"

    change(find(folder, "MAPS"), edit)
    columns, _ = read_all(SURVEY, folder)
    assert columns["STELLAR_VEL_MASK"][0][0, 0] == 1073741827


def test_maps_of_older_releases_lack_some_hdus(native, tmp_path):
    """An HDU that a release has not has no channels; a plane that is a cube now has one."""
    folder = copy_one(native, tmp_path / "one")

    def edit(hdus):
        for name in ("EMLINE_GA", "STELLAR_FOM", "SPECINDEX_BF", "SPECINDEX_BF_IVAR"):
            del hdus[name]
        del hdus["SPECINDEX_BF_MASK"]
        hdus["STELLAR_SIGMACORR"].data = hdus["STELLAR_SIGMACORR"].data[0]
        hdus.append(fits.ImageHDU(np.ones((8, 8), np.float32), name="STELLAR_CONT_RCHI2"))

    change(find(folder, "MAPS"), edit)
    columns, _ = read_all(SURVEY, folder)
    assert columns["EMLINE_GA"][0].shape == columns["SPECINDEX_BF_IVAR"][0].shape == (0, 8, 8)
    assert len(columns["STELLAR_FOM_LABEL"][0]) == len(columns["STELLAR_FOM_UNIT"][0]) == 0
    assert columns["STELLAR_SIGMACORR"][0].shape == (1, 8, 8)
    assert list(columns["STELLAR_CONT_RCHI2_LABEL"][0]) == [b"stellar_cont_rchi2"]


def test_coordinates_of_spaxels_are_those_of_the_maps_at_their_places(native, columns):
    """The offset of each spaxel is what SPX_SKYCOO and SPX_ELLCOO say at its row and column."""
    with fits.open(find(native, "8000-1902-MAPS")) as hdus:
        row = list(columns["PLATEIFU"]).index(b"8000-1902")
        at = columns["SPAXEL_ROW"][row], columns["SPAXEL_COLUMN"][row]
        for number, name in enumerate(("SPX_SKYCOO_X", "SPX_SKYCOO_Y")):
            np.testing.assert_array_equal(columns[name][row], hdus["SPX_SKYCOO"].data[number][at])
        for number, name in enumerate(("R", "R_RE", "R_KPC", "THETA")):
            found = columns[f"SPX_ELLCOO_{name}"][row]
            np.testing.assert_array_equal(found, hdus["SPX_ELLCOO"].data[number][at])


# -- what belongs together


def test_maps_without_a_cube_and_a_cube_without_maps_are_objects(native, tmp_path):
    """Each is one object with what there is; flags say what there was."""
    folder = copy_one(native, tmp_path / "two", 0)
    copy_one(native, folder, 1)
    find(folder, "8000-1901-MAPS").unlink()
    find(folder, "8000-1902-LOGCUBE").unlink()
    columns, rejected = read_all(SURVEY, folder)
    assert rejected == []
    assert list(columns["PLATEIFU"]) == [b"8000-1901", b"8000-1902"]
    assert list(columns["HAS_CUBE"]) == [True, False]
    assert list(columns["HAS_MAPS"]) == [False, True]
    assert columns["STELLAR_VEL"][0].shape == (0, 0)
    assert columns["FLUX"][1].shape == (0, 4563)
    assert columns["IMG"][1].shape == (0, 0, 0)
    assert np.isnan(columns["SPX_SKYCOO_X"][0]).all()
    assert columns["EMLINE_GVEL"][1].shape == (35, 8, 8)
    assert columns["OBJRA"][1] == pytest.approx(GALAXIES.ra[1], abs=1e-4)


def test_maps_alone_are_given_the_wavelengths_of_the_survey(native, tmp_path):
    """Without any cube at hand the wavelengths are those of every published cube."""
    folder = copy_one(native, tmp_path / "one")
    find(folder, "LOGCUBE").unlink()
    columns, _ = read_all(SURVEY, folder)
    np.testing.assert_array_equal(columns["WAVE"], survey_wavelengths())
    assert columns["SPAXEL_SIZE"][0] == np.float32(0.5)
    assert len(columns["SPAXEL_ROW"][0]) == 0


def test_redshift_and_photometry_are_joined_by_identifier(columns):
    """Each object has the row of its own PLATEIFU, whatever the order of the catalogues."""
    np.testing.assert_array_equal(columns["drpall.nsa_z"], GALAXIES.z)
    np.testing.assert_array_equal(columns["dapall.HA_Z"], GALAXIES.z + 1e-5)
    assert list(columns["drpall.nsa_nsaid"]) == [200000, 200001, 200002]
    r = 22.5 - 2.5 * np.log10(columns["drpall.nsa_elpetro_flux_r"])
    np.testing.assert_allclose(r, GALAXIES.mag[:, 2])
    assert columns["HAS_DRPALL"].all()
    assert columns["HAS_DAPALL"].all()


def test_objects_that_the_catalogues_lack_are_kept(native, tmp_path):
    """Without drpall and dapall, redshift and photometry are NaN and the flags False."""
    columns, _ = read_all(SURVEY, copy_one(native, tmp_path / "one"))
    assert not columns["HAS_DRPALL"][0]
    assert not columns["HAS_DAPALL"][0]
    assert np.isnan(columns["drpall.nsa_z"][0])
    assert np.isnan(columns["drpall.nsa_elpetro_flux"][0]).all()
    assert columns["drpall.nsa_nsaid"][0] == -9999


def test_older_catalogues_are_read(native, tmp_path):
    """DR13's drpall has no z and upper-case names; DR15's dapall is one table of all analyses."""
    folder = copy_one(native, tmp_path / "one")
    for name in ("drpall", "dapall"):
        shutil.copy(find(native, name), folder)
    with fits.open(find(folder, "drpall")) as hdus:
        table = hdus["MANGA"]
        kept = [
            fits.Column(column.name.upper(), column.format, array=table.data[column.name])
            for column in table.columns
            if column.name != "z"
        ]
        fits.BinTableHDU.from_columns(kept).writeto(folder / "drpall-v1_5_4.fits")
    with fits.open(find(folder, "dapall")) as hdus:
        both = np.concatenate([hdus[1].data, hdus[2].data])
        fits.BinTableHDU(both, name="DAPALL").writeto(folder / "dapall-v2_4_3-2.2.1.fits")
    find(folder, "drpall-v3").unlink()
    find(folder, "dapall-v3").unlink()
    columns, _ = read_all(SURVEY, folder)
    assert columns["drpall.z"][0] == columns["drpall.nsa_z"][0] == GALAXIES.z[0]
    assert columns["dapall.HA_Z"][0] == GALAXIES.z[0] + 1e-5


def test_one_analysis_is_taken_where_there_are_several(native, tmp_path):
    """HYB10-MILESHC-MASTARSSP comes first, then another HYB10, then the first by name."""
    folder = copy_one(native, tmp_path / "one")
    path = find(folder, "MAPS")
    names = ("SPX-MILESHC-MASTARSSP", "HYB10-MILESHC-MASTARHC2", "AAA")
    for name in names:
        shutil.copy(path, folder / f"manga-8000-1901-MAPS-{name}.fits.gz")

    def chosen():
        (unit,) = SURVEY.units(folder)
        return unit.options["maps"].name

    order = [f"manga-8000-1901-MAPS-{name}.fits.gz" for name in (simulate.DAPTYPE, *names[::-1])]
    order[1:] = [order[2], order[1], order[3]]
    for name in order:
        assert chosen() == name
        (folder / name).unlink()


def test_only_drp_cubes_and_dap_maps_are_taken(native, tmp_path):
    """Model cubes, linear cubes, row-stacked spectra and references are no objects."""
    folder = copy_one(native, tmp_path / "one")
    for name in ("LOGCUBE-HYB10-MILESHC-MASTARSSP", "LINCUBE", "LOGRSS", "SNRG"):
        (folder / f"manga-8000-1901-{name}.fits.gz").write_bytes(b"")
    keys = [unit.key for unit in SURVEY.units(folder)]
    assert keys == ["manga-8000-1901-LOGCUBE.fits.gz"]


def test_units_are_listed_in_one_order_by_path(native):
    """The pieces are sorted by their paths below the folder."""
    keys = [unit.key for unit in SURVEY.units(native)]
    stem = "spectro/redux/v3_1_1"
    assert keys == [
        f"{stem}/8000/stack/manga-8000-1901-LOGCUBE.fits.gz",
        f"{stem}/8000/stack/manga-8000-1902-LOGCUBE.fits.gz",
        f"{stem}/8001/stack/manga-8001-1901-LOGCUBE.fits.gz",
    ]


# -- bad input


def test_empty_folder_says_what_was_looked_for(tmp_path):
    """A folder without cubes and maps is an error that names both."""
    with pytest.raises(NativeFileError, match=r"LOGCUBE.*MAPS.*found none"):
        list(SURVEY.units(tmp_path))
    with pytest.raises(NativeFileError, match="no such folder"):
        list(SURVEY.units(tmp_path / "nowhere"))


@pytest.mark.parametrize("what", ["LOGCUBE", "MAPS", "drpall"])
def test_truncated_file_is_refused(native, tmp_path, what):
    """A file that lost its end gives an error with its name, never zeros."""
    folder = copy_one(native, tmp_path / "one")
    shutil.copy(find(native, "drpall"), folder)
    path = find(folder, what)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3 - 7])
    assert path.name in read_error(folder)
    if path.suffix == ".gz":
        path.unlink()
        plain = gzip.decompress(whole)
        path.with_suffix("").write_bytes(plain[:-2881])
        assert path.stem in read_error(folder)


@pytest.mark.parametrize("hdu", ["FLUX", "IVAR", "MASK", "WAVE", "GIMG", "ZPSF"])
def test_missing_hdu_of_a_cube_is_named(tmp_path, hdu):
    """The error says which HDU was looked for, and in which file."""
    hdus = cube_hdus()
    del hdus[hdu]
    message = read_error(put_cube(tmp_path, hdus))
    assert hdu in message
    assert "manga-7443-1901-LOGCUBE.fits" in message


@pytest.mark.parametrize("hdu", ["SPX_MFLUX", "STELLAR_VEL_MASK", "SPECINDEX_IVAR", "BINID"])
def test_missing_hdu_of_the_maps_is_named(native, tmp_path, hdu):
    """Maps that all releases have, and whatever a header names, must be there."""
    folder = copy_one(native, tmp_path / "one")
    path = find(folder, "MAPS")

    def edit(hdus):
        del hdus[hdu]

    change(path, edit)
    message = read_error(folder)
    assert hdu in message
    assert path.stem in message


def test_missing_line_spread_is_named(tmp_path):
    """A cube with neither LSFPOST, DISP nor SPECRES is refused."""
    hdus = cube_hdus()
    del hdus["LSFPOST"]
    assert "SPECRES" in read_error(put_cube(tmp_path, hdus))


def test_missing_column_of_drpall_is_named(native, tmp_path):
    """A drpall without nsa_z is refused; so is one without identifiers."""
    for column in ("nsa_z", "plateifu"):
        folder = copy_one(native, tmp_path / column)
        with fits.open(find(native, "drpall")) as hdus:
            hdus["MANGA"].columns.del_col(column)
            hdus.writeto(folder / "drpall-v3_1_1.fits")
        assert column in read_error(folder).lower()


def test_missing_keyword_is_named(tmp_path):
    """A cube that does not say where it points is refused."""
    hdus = cube_hdus()
    del hdus[0].header["OBJRA"]
    assert "OBJRA" in read_error(put_cube(tmp_path, hdus))


def test_file_of_another_observation_is_refused(native, tmp_path):
    """The header's PLATEIFU must be that of the file's name; so must the size of the maps."""
    put_cube(tmp_path / "a", name="manga-7443-9999-LOGCUBE.fits")
    assert "PLATEIFU 7443-9999" in read_error(tmp_path / "a")
    folder = copy_one(native, tmp_path / "b")
    find(folder, "LOGCUBE").unlink()
    hdus = cube_hdus("8000-1901", shape=(8, 9), wave=survey_wavelengths())
    put_cube(folder, hdus, "manga-8000-1901-LOGCUBE.fits")
    assert "(8, 8) spaxels as in the maps" in read_error(folder)


def test_arrays_of_unequal_shape_are_refused(tmp_path):
    """An inverse variance of fewer wavelengths than the flux is not cut or filled."""
    hdus = cube_hdus()
    hdus["IVAR"].data = hdus["IVAR"].data[1:]
    assert "HDU 'IVAR'" in read_error(put_cube(tmp_path, hdus))


def test_broken_file_costs_its_own_object_only(native, tmp_path):
    """The objects before and after it are built with their own values."""
    folder = tmp_path / "native"
    shutil.copytree(native, folder)
    path = find(folder, "8000-1902-MAPS")
    path.write_bytes(path.read_bytes()[:1000])
    report = astropile.build_catalog("manga", folder, tmp_path / "tree", tolerance=0.5)
    assert (report.n_read, report.n_written, report.n_rejected) == (3, 2, 1)
    catalog = astropile.open_catalog(tmp_path / "tree")
    found = catalog.take([0, 1], ["PLATEIFU", "drpall.nsa_z", "FLUX"])
    reference, _ = read_all(SURVEY, copy_one(native, tmp_path / "one", 2))
    for row, plateifu in enumerate(found["PLATEIFU"]):
        index = {b"8000-1901": 0, b"8001-1901": 2}[plateifu]
        assert found["drpall.nsa_z"][row] == GALAXIES.z[index]
        if index == 2:
            np.testing.assert_array_equal(found["FLUX"][row], reference["FLUX"][0])


# -- the tree


def test_tree_gives_back_every_native_value(native, catalog, columns):
    """Built and read, each column has the values, shapes and dtypes that were read."""
    found = catalog.take(np.arange(3))
    order = [list(columns["PLATEIFU"]).index(name) for name in found["PLATEIFU"]]
    for column in SURVEY.columns:
        if column.shared:
            np.testing.assert_array_equal(found[column.name], columns[column.name])
            continue
        for row, source in enumerate(order):
            value, wanted = np.asarray(found[column.name][row]), columns[column.name][source]
            assert value.shape == np.shape(wanted), column.name
            np.testing.assert_array_equal(value, wanted, err_msg=column.name)


def test_tree_is_smaller_than_the_cubes(native, catalog):
    """On disk the tree takes less than the survey's own compressed cubes."""
    cubes = sum(path.stat().st_size for path in native.rglob("*LOGCUBE*"))
    tree = sum(path.stat().st_size for path in Path(catalog.path).rglob("*.hdf5"))
    assert tree < cubes


@pytest.fixture(scope="module")
def record(catalog):
    """The standard record of one galaxy, and its number in the simulated sky."""
    (row,) = catalog.find("8001-1901")
    return standard_records(catalog.standard([row]))[0]


def test_standard_record_says_what_and_where(record):
    """Names, position, redshift and magnitude are those of the simulated galaxy."""
    assert record["provenance"] == {"project": "SDSS", "survey": "MaNGA", "release": "DR17"}
    assert (record["object_id"], record["observation_id"]) == ("1-100002", "8001-1901")
    assert record["ra"] == pytest.approx(GALAXIES.ra[2], abs=0.3 / 3600)
    assert record["dec"] == pytest.approx(GALAXIES.dec[2], abs=0.3 / 3600)
    assert record["z"] == GALAXIES.z[2]
    assert np.isnan(record["z_err"])
    assert record["mag"] == pytest.approx(GALAXIES.mag[2, 2], abs=1e-4)
    assert record["ebv"] == 0.0144335
    assert record["spaxel_size"] == np.float32(0.5)


def test_standard_spaxels_have_row_as_x_and_column_as_y(native, record):
    """x is the row and y the column; flux, line spread and wavelength are the cube's there."""
    spaxels = record["spaxels"]
    with fits.open(find(native, "8001-1901-LOGCUBE")) as hdus:
        assert 0 < len(spaxels) < hdus["FLUX"].data[0].size
        unequal = next(spaxel for spaxel in spaxels if spaxel["x"] != spaxel["y"])
        for spaxel in (spaxels[0], unequal, spaxels[-1]):
            at = (slice(None), spaxel["x"], spaxel["y"])
            np.testing.assert_array_equal(spaxel["flux"], hdus["FLUX"].data[at])
            np.testing.assert_array_equal(spaxel["lsf_sigma"], hdus["LSFPOST"].data[at])
            np.testing.assert_array_equal(spaxel["lambda"], hdus["WAVE"].data)
            bad = hdus["MASK"].data[at] != 0
            np.testing.assert_array_equal(spaxel["mask"], bad)
            np.testing.assert_array_equal(spaxel["ivar"], np.where(bad, 0, hdus["IVAR"].data[at]))
            assert set(spaxel["extra"]) == {
                *("skycoo_x", "skycoo_y", "ellcoo_r", "ellcoo_r_re", "ellcoo_r_kpc"),
                "ellcoo_theta",
            }


def test_standard_images_are_bands_and_maps(native, record):
    """Each image has its label; masks are None where the survey has none, else True for bad."""
    images = {image["label"]: image for image in record["images"]}
    assert len(images) == len(record["images"]) == 922
    with fits.open(find(native, "8001-1901-MAPS")) as hdus:
        band = images["reconstructed_g"]
        assert (band["filter"], band["units"], band["ivar"], band["mask"]) == (
            *("g", "nanomaggy"),
            *(None, None),
        )
        assert images["reconstructed_psf_z"]["filter"] == "z"
        velocity = images["stellar_vel"]
        np.testing.assert_array_equal(velocity["data"], hdus["STELLAR_VEL"].data)
        np.testing.assert_array_equal(
            velocity["mask"], hdus["STELLAR_VEL_MASK"].data & DONOTUSE != 0
        )
        assert velocity["units"] == "km / s"
        assert (velocity["ivar"][velocity["mask"]] == 0).all()
        assert (velocity["ivar"][~velocity["mask"]] > 0).all()
        assert images["spx_mflux"]["mask"] is None
        assert images["spx_snr"]["ivar"] is None
        line = images["emline_gflux_ha_6564"]
        np.testing.assert_array_equal(line["data"], hdus["EMLINE_GFLUX"].data[23])
        index = images["d4000"]
        np.testing.assert_array_equal(index["data"], hdus["SPECINDEX"].data[43])
        assert index["units"] == ""
        assert images["cn1"]["units"] == "mag"
        bins = images["binid_stellar_continua"]["data"]
        np.testing.assert_array_equal(bins, hdus["BINID"].data[1])


def test_standard_inverse_variance_is_finite_and_never_negative(tmp_path):
    """NaN, infinity, negative numbers and pixels not to be used have 0; the column keeps them."""
    hdus = cube_hdus()
    hdus["IVAR"].data[:4, 0, 0] = [np.nan, np.inf, -1, 7]
    hdus["MASK"].data[3, 0, 0] = 1026
    tree = tmp_path / "tree"
    astropile.build_catalog("manga", put_cube(tmp_path / "native", hdus), tree)
    catalog = astropile.open_catalog(tree)
    spaxel = standard_records(catalog.standard([0]))[0]["spaxels"][0]
    np.testing.assert_array_equal(spaxel["ivar"][:4], [0, 0, 0, 0])
    assert spaxel["ivar"][4] > 0
    assert list(spaxel["mask"][:5]) == [False, False, False, True, False]
    np.testing.assert_array_equal(
        catalog.take([0])["IVAR"][0][0, :4], np.float32([np.nan, np.inf, -1, 7])
    )


def test_cube_alone_and_maps_alone_have_no_empty_images(native, tmp_path):
    """An object lists only images it has: the bands of its cube, or the channels of its maps."""
    folder = copy_one(native, tmp_path / "two", 0)
    copy_one(native, folder, 1)
    find(folder, "8000-1901-MAPS").unlink()
    find(folder, "8000-1902-LOGCUBE").unlink()
    astropile.build_catalog("manga", folder, tmp_path / "tree")
    catalog = astropile.open_catalog(tmp_path / "tree")
    table = catalog.standard([0, 1], ["observation_id", "spaxels", "images", "z"])
    records = {record["observation_id"]: record for record in standard_records(table)}
    cube, maps = records["8000-1901"], records["8000-1902"]
    assert [image["label"] for image in cube["images"]] == [
        f"reconstructed_{kind}{band}" for kind, band in itertools.product(("", "psf_"), "griz")
    ]
    assert len(maps["images"]) == 914
    assert all(image["data"].shape == (8, 8) for image in maps["images"])
    assert len(cube["spaxels"]) > 0
    assert maps["spaxels"] == []
    # Without drpall the redshift is the one that the maps were made with.
    assert maps["z"] == pytest.approx(GALAXIES.z[1], rel=1e-12)
    assert np.isnan(cube["z"])


# -- simulated files


def test_simulation_is_the_same_for_the_same_seed(native, tmp_path):
    """The same seed gives the same bytes, another seed others."""

    def hashes(folder):
        return {
            path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in folder.rglob("*.fits*")
        }

    simulate.write(tmp_path / "again", GALAXIES, seed=3, side=8)
    simulate.write(tmp_path / "other", GALAXIES.select([0]), seed=4, side=8)
    again, other = hashes(tmp_path / "again"), hashes(tmp_path / "other")
    assert again == hashes(native)
    assert set(other) <= set(again)
    assert other != {name: again[name] for name in other}


def test_simulated_files_are_sound_fits(native):
    """astropy finds nothing to repair in any file."""
    for path in native.rglob("*.fits*"):
        with fits.open(path) as hdus:
            hdus.verify("exception")
            assert all(hdu.header is not None for hdu in hdus)


# -- real files


@pytest.fixture(scope="module")
def real(real_data):
    """Where the real files lie, and what is read from them."""
    folder = real_data / "ifu" / "manga"
    found, rejected = read_all(SURVEY, folder)
    assert rejected == []
    return folder, found


@pytest.mark.real
def test_real_folder_has_one_cube_and_one_set_of_maps(real):
    """drpcomplete, SNRG, MaStar, extracted and test spectra are neither cubes nor maps."""
    folder, columns = real
    assert list(columns["PLATEIFU"]) == [b"7495-12704", b"7815-3702"]
    assert len(list(folder.iterdir())) == 7
    assert list(columns["HAS_CUBE"]) == [True, False]
    assert list(columns["HAS_MAPS"]) == [False, True]


@pytest.mark.real
def test_real_maps_bit_for_bit(real):
    """Every HDU of the MAPS of 7815-3702 (DAP 2.2) is there with its own bits."""
    folder, columns = real
    with fits.open(find(folder, "7815-3702-MAPS")) as hdus:
        for hdu in hdus[1:]:
            little = hdu.data.astype(hdu.data.dtype.newbyteorder("<"))
            found = columns[hdu.name][1]
            assert found.dtype == little.dtype
            assert found.tobytes() == little.tobytes(), hdu.name
            assert found.shape[-2:] == (42, 42)
        header = hdus[0].header
    for key in CUBE_KEYS:
        value = columns[key.name][1]
        wanted = header[key.name]
        assert (value.decode() if isinstance(value, bytes) else value) == wanted, key.name
    assert columns["SCINPVEL"][1] == 8808.5919386934
    assert columns["DAPTYPE"][1] == b"HYB10-GAU-MILESHC"
    assert columns["SPAXEL_SIZE"][1] == np.float32(0.5)


@pytest.mark.real
def test_real_maps_have_the_channels_of_their_release(real):
    """22 lines, named otherwise for sums than for fits, and 46 indices with units of their own."""
    _, columns = real
    assert len(columns["EMLINE_SFLUX_LABEL"][1]) == len(columns["EMLINE_GFLUX_LABEL"][1]) == 22
    assert columns["EMLINE_SFLUX_LABEL"][1][0] == b"emline_sflux_oiid_3728"
    assert columns["EMLINE_GFLUX_LABEL"][1][0] == b"emline_gflux_oii_3727"
    assert columns["EMLINE_GFLUX_LABEL"][1][18] == b"emline_gflux_ha_6564"
    assert list(columns["SPECINDEX_LABEL"][1][-3:]) == [b"d4000", b"dn4000", b"tiocvd"]
    assert list(columns["SPECINDEX_UNIT"][1][[0, 2, 43]]) == [b"mag", b"ang", b""]
    labels = [name for entry in MAPS for name in columns[f"{entry.name}_LABEL"][1]]
    assert len(labels) == len(set(labels)) == 295
    assert np.unique(columns["STELLAR_VEL_MASK"][1]).tolist() == [
        *(0, 1073741826, 1073741827, 1073741840)
    ]


@pytest.mark.real
def test_real_cube_bit_for_bit(real):
    """The cube of 7495-12704 (true headers, random pixels, five bands) has its own bits."""
    folder, columns = real
    with fits.open(find(folder, "7495-12704-LOGCUBE")) as hdus:
        for name in ("FLUX", "IVAR", "MASK"):
            data = hdus[name].data
            little = data.astype(data.dtype.newbyteorder("<"))
            found = columns[name][0].T.reshape(10, 10, 10)
            assert found.dtype == little.dtype
            assert found.tobytes() == little.tobytes(), name
        np.testing.assert_array_equal(columns["WAVE"], hdus["WAVE"].data)
        sigma = hdus["WAVE"].data / hdus["SPECRES"].data / 2.3548200450309493
        np.testing.assert_allclose(columns["LSFPOST"][0], np.tile(sigma, (100, 1)), rtol=1e-6)
        for plane, psf, band in zip(columns["IMG"][0], columns["PSF"][0], "UGRIZ", strict=True):
            np.testing.assert_array_equal(plane, hdus[f"{band}IMG"].data)
            np.testing.assert_array_equal(psf, hdus[f"{band}PSF"].data)
    assert list(columns["IMG_BAND"][0]) == [b"u", b"g", b"r", b"i", b"z"]
    assert columns["IMG_FWHM"][0].tolist() == [2.59888, 2.50364, 2.40641, 2.3821, 2.35077]
    assert columns["LSF_SOURCE"][0] == b"SPECRES"
    assert (columns["OBJRA"][0], columns["OBJDEC"][0]) == (205.4384, 27.004754)
    # Of 2015: the keywords had other names, and there was no IFURA.
    assert columns["MNGTARG1"][0] == 10
    assert np.isnan(columns["IFURA"][0])


@pytest.mark.real
def test_real_wavelengths_are_those_of_the_survey(real_data):
    """The wavelengths computed are bit for bit those of real spectra and of a star of MaStar."""
    folder = real_data / "ifu" / "manga"
    with fits.open(folder / "MaNGA_test_spectra.fits.gz") as hdus:
        np.testing.assert_array_equal(survey_wavelengths(), hdus["WAVE"].data)
    with fits.open(folder / "mastar-LOG-8047-9101.fits.gz") as hdus:
        np.testing.assert_array_equal(survey_wavelengths(), hdus["MASTAR"].data["WAVE"][0])


@pytest.mark.real
def test_real_masks_set_donotuse_with_every_other_bit(real_data):
    """In real spectra no pixel is flagged without DONOTUSE, on which ivar = 0 relies."""
    with fits.open(real_data / "ifu" / "manga" / "MaNGA_test_spectra.fits.gz") as hdus:
        assert np.unique(hdus["MASK"].data).tolist() == [0, 1026, 1027]


@pytest.mark.real
def test_real_files_make_a_tree(real, tmp_path):
    """Both objects are built; the maps of the real galaxy have redshift, labels and finite ivar."""
    folder, _ = real
    report = astropile.build_catalog("manga", folder, tmp_path)
    assert (report.n_written, report.n_rejected) == (2, 0)
    catalog = astropile.open_catalog(tmp_path)
    (row,) = catalog.find("7815-3702")
    record = standard_records(catalog.standard([row]))[0]
    assert record["z"] == pytest.approx(8808.5919386934 / 299792.458, rel=1e-15)
    assert record["spaxels"] == []
    images = {image["label"]: image for image in record["images"]}
    assert len(images) == 295
    with fits.open(find(folder, "7815-3702-MAPS")) as hdus:
        mask = hdus["STELLAR_VEL_MASK"].data & DONOTUSE != 0
        np.testing.assert_array_equal(images["stellar_vel"]["data"], hdus["STELLAR_VEL"].data)
    np.testing.assert_array_equal(images["stellar_vel"]["mask"], mask)
    for image in images.values():
        if image["ivar"] is not None:
            assert np.isfinite(image["ivar"]).all()
            assert (image["ivar"] >= 0).all()
            assert image["mask"] is None or (image["ivar"][image["mask"]] == 0).all()
