"""SDSS imaging: frames cut at catalogue positions."""

import bz2
import io
import pickle
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.units import Unit as AstropyUnit
from astropy.wcs import WCS

from astropile import build_catalog, cross_match, open_catalog
from astropile.errors import NativeFileError
from astropile.simulate import sdss as simulated_spectra
from astropile.simulate import sdss_imaging as simulated
from astropile.simulate.galaxies import make_galaxies
from astropile.surveys import sdss_imaging
from astropile.surveys._sdss_frames import Frame, Place, dark_variance, gain
from astropile.surveys._sdss_positions import read_positions
from astropile.surveys.sdss_imaging import CUTOUT, SURVEY
from astropile.testing import read_all

GALAXIES = make_galaxies(5, seed=8, radius_deg=0.02)
HALF = CUTOUT // 2
N_ROWS, N_COLUMNS = 300, 400
STEP = 0.396 / 3600


def write_frame(
    folder: Path,
    band: str,
    *,
    run=2820,
    camcol=3,
    field=122,
    centre=(10.0, 0.0),
    image=None,
    sky=100.0,
    packed=False,
    change=None,
) -> Path:
    """A frame whose pixel (row, column) holds 1000 row + column, calibrated 0.005 nMgy/count."""
    rows, columns = np.mgrid[:N_ROWS, :N_COLUMNS]
    primary = fits.PrimaryHDU((1000.0 * rows + columns).astype("f4") if image is None else image)
    header = primary.header
    header["CTYPE1"], header["CTYPE2"] = "RA---TAN", "DEC--TAN"
    header["CRPIX1"], header["CRPIX2"] = (N_COLUMNS + 1) / 2, (N_ROWS + 1) / 2
    header["CRVAL1"], header["CRVAL2"] = centre
    # As in Stripe 82: right ascension along rows, declination along columns.
    header["CD1_1"], header["CD1_2"], header["CD2_1"], header["CD2_2"] = 0.0, STEP, STEP, 0.0
    header["RERUN"] = "301"
    allsky = np.full((1, 38, 50), sky, dtype="f4")
    grid = fits.BinTableHDU.from_columns(
        [
            fits.Column("ALLSKY", "1900E", dim="(50, 38)", array=allsky),
            fits.Column("XINTERP", f"{N_COLUMNS}E", array=[np.arange(N_COLUMNS) / 8.0]),
            fits.Column("YINTERP", f"{N_ROWS}E", array=[np.arange(N_ROWS) / 8.0]),
        ]
    )
    hdus = [primary, fits.ImageHDU(np.full(N_COLUMNS, 0.005, dtype="f4")), grid]
    if change is not None:
        hdus = change(hdus)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"frame-{band}-{run:06d}-{camcol}-{field:04d}.fits"
    fits.HDUList(hdus).writeto(path)
    if packed:
        path.with_suffix(".fits.bz2").write_bytes(bz2.compress(path.read_bytes()))
        path.unlink()
        path = path.with_suffix(".fits.bz2")
    return path


def sky_of(row: float, column: float) -> tuple[float, float]:
    """Position of a pixel of `write_frame`, counted from 0 (a small field at the equator)."""
    ra = 10.0 + np.rad2deg(np.arctan(np.deg2rad((row - (N_ROWS - 1) / 2) * STEP)))
    return float(ra), (column - (N_COLUMNS - 1) / 2) * STEP


def write_positions(folder: Path, pixels, *, name="positions.csv") -> None:
    lines = ["id,ra,dec"]
    for number, pixel in enumerate(pixels):
        ra, dec = sky_of(*pixel)
        lines.append(f"obj{number},{ra!r},{dec!r}")
    (folder / name).write_text("\n".join(lines) + "\n")


def variance_of(flux, *, run=2820, camcol=3, band="r", sky=100.0, calibration=0.005):
    counts = flux / calibration + sky
    return (counts / gain(run, camcol, band) + dark_variance(run, camcol, band)) * calibration**2


# --------------------------------------------------------------------------------------
# What is declared


def test_every_unit_can_be_parsed_and_every_column_is_documented():
    """Every unit is one that astropy knows, and no doc is left out."""
    for column in SURVEY.columns:
        AstropyUnit(column.unit)
        assert column.doc.endswith(".")


def test_the_survey_travels_to_another_process():
    """The survey's value survives pickling."""
    assert pickle.loads(pickle.dumps(SURVEY)) == SURVEY


@pytest.mark.parametrize(
    ("run", "camcol", "band", "electrons", "dark"),
    [
        (2820, 3, "r", 4.72, 1.3225),
        (1000, 2, "u", 1.595, 12.6025),
        (1100, 2, "u", 1.825, 12.6025),
        (1400, 4, "z", 4.775, 9.61),
        (1500, 4, "z", 4.775, 12.6025),
        (1400, 5, "z", 3.48, 1.8225),
        (5000, 5, "z", 3.48, 2.1025),
        (1400, 2, "i", 6.565, 5.76),
        (5000, 4, "i", 4.885, 7.5625),
        (5000, 6, "g", 4.035, 1.8225),
    ],
)
def test_gain_and_dark_variance(run, camcol, band, electrons, dark):
    """Gain and dark variance are those of the data model, with the runs that they changed at."""
    assert gain(run, camcol, band) == electrons
    assert dark_variance(run, camcol, band) == dark


def test_pixels_of_positions_agree_with_astropy():
    """The projection agrees with astropy's to a thousandth of a pixel, far from the centre too."""
    place = Place((1489, 2048), (1025.0, 745.0), (359.99, 62.3), ((2e-5, 1.1e-4), (1.05e-4, -2e-5)))
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crpix, wcs.wcs.crval, wcs.wcs.cd = place.crpix, place.crval, np.array(place.cd)
    ra, dec = np.array([359.9, 0.1, 0.3]), np.array([62.2, 62.4, 62.3])
    column, row = place.pixel(ra, dec)
    expected = wcs.all_world2pix(ra, dec, 0)
    np.testing.assert_allclose(column, expected[0], atol=1e-3)
    np.testing.assert_allclose(row, expected[1], atol=1e-3)


def test_the_far_side_of_the_sky_is_in_no_frame():
    """A position on the other half of the sky has no pixel."""
    place = Place((300, 400), (200.5, 150.5), (10.0, 0.0), ((0.0, STEP), (STEP, 0.0)))
    column, row = place.pixel(np.array([190.0]), np.array([0.0]))
    assert np.isnan(column).all()
    assert place.margin(column, row)[0] < 0


# --------------------------------------------------------------------------------------
# Cutouts


@pytest.mark.parametrize("pixel", [(150, 200), (150.4, 199.6), (149.6, 200.49)])
def test_a_cutout_is_centred_on_the_pixel_of_the_position(tmp_path, pixel):
    """Pixel (64, 64) of the cutout is the frame's pixel nearest to the position."""
    write_frame(tmp_path, "r")
    write_positions(tmp_path, [pixel])
    columns, rejected = read_all(SURVEY, tmp_path)
    assert not rejected
    (flux,) = columns["image_flux"]
    assert flux.shape == (1, 128, 128)
    assert flux[0, 64, 64] == 1000 * 150 + 200
    assert flux[0, 60, 70] == 1000 * 146 + 206
    np.testing.assert_allclose(columns["image_y"][0], [pixel[0]], atol=1e-6)
    np.testing.assert_allclose(columns["image_x"][0], [pixel[1]], atol=1e-6)


def test_values_of_a_cutout_are_those_of_the_frame(tmp_path):
    """Pixels of a cutout equal the frame's bit for bit."""
    image = np.random.default_rng(1).normal(size=(N_ROWS, N_COLUMNS)).astype("f4")
    write_frame(tmp_path, "g", image=image)
    write_positions(tmp_path, [(150, 200)])
    columns, _ = read_all(SURVEY, tmp_path)
    np.testing.assert_array_equal(columns["image_flux"][0][0], image[86:214, 136:264])


def test_noise_follows_from_the_counts(tmp_path):
    """Variance is (counts / gain + dark variance) calibration^2, with the sky in the counts."""
    image = np.zeros((N_ROWS, N_COLUMNS), dtype="f4")
    image[150, 200] = 2.5
    write_frame(tmp_path, "r", image=image)
    write_positions(tmp_path, [(150, 200)])
    columns, _ = read_all(SURVEY, tmp_path)
    ivar = columns["image_ivar"][0][0]
    # 100 counts of sky, and 500 more in one pixel; gain 4.72, dark variance 1.3225.
    empty = (100 / 4.72 + 1.3225) * 0.005**2
    bright = (600 / 4.72 + 1.3225) * 0.005**2
    np.testing.assert_allclose(ivar[0, 0], 1 / empty, rtol=1e-6)
    np.testing.assert_allclose(ivar[64, 64], 1 / bright, rtol=1e-6)
    np.testing.assert_allclose(columns["image_noise_std"][0], [empty**0.5], rtol=1e-6)


def test_sky_is_interpolated_between_its_points(tmp_path):
    """Between the points of the binned sky the level is bilinear, beyond them constant."""

    def change(hdus):
        sky = hdus[2].data["ALLSKY"]
        sky[0] = np.arange(38)[:, None] * 10.0 + np.arange(50)
        hdus[2].data["YINTERP"][0, 40] = -5.0
        hdus[2].data["YINTERP"][0, 41] = 99.0
        return hdus

    path = write_frame(tmp_path, "r", image=np.zeros((N_ROWS, N_COLUMNS), "f4"), change=change)
    frame = Frame(path, 2820, 3, "r")
    variance = frame.variance(slice(0, N_ROWS), slice(0, N_COLUMNS))
    level = (variance / 0.005**2 - 1.3225) * 4.72
    np.testing.assert_allclose(level[20, 12], 25.0 + 1.5, rtol=1e-5)
    np.testing.assert_allclose(level[40, 12], 1.5, rtol=1e-5)
    np.testing.assert_allclose(level[41, 12], 370.0 + 1.5, rtol=1e-5)


def test_a_cutout_beyond_the_edge_is_marked(tmp_path):
    """Beyond the frame there is no flux, no weight and a mask bit; within it nothing moves."""
    write_frame(tmp_path, "r")
    write_positions(tmp_path, [(10, 395)])
    columns, _ = read_all(SURVEY, tmp_path)
    flux, ivar, mask = (columns[f"image_{name}"][0][0] for name in ("flux", "ivar", "mask"))
    outside = np.ones((128, 128), dtype=bool)
    outside[54:, :69] = False
    np.testing.assert_array_equal(mask, np.where(outside, 1, 0))
    assert not flux[outside].any()
    assert not ivar[outside].any()
    assert flux[64, 64] == 1000 * 10 + 395
    assert flux[54, 0] == 331
    assert (ivar[~outside] > 0).all()


def test_pixels_without_noise_are_marked(tmp_path):
    """A pixel that is no number, or whose calibration is 0, has no weight and a mask bit."""
    image = np.ones((N_ROWS, N_COLUMNS), dtype="f4")
    image[150, 200] = np.nan

    def change(hdus):
        hdus[1].data[201] = 0.0
        return hdus

    write_frame(tmp_path, "r", image=image, change=change)
    write_positions(tmp_path, [(150, 200)])
    columns, _ = read_all(SURVEY, tmp_path)
    ivar, mask = columns["image_ivar"][0][0], columns["image_mask"][0][0]
    assert (mask[64, 64], ivar[64, 64]) == (2, 0)
    assert set(mask[:, 65]) == {2}
    assert np.isfinite(ivar).all()
    assert (ivar[mask == 0] > 0).all()


def test_bands_come_as_they_are_there(tmp_path):
    """Bands come in the order ugriz, those whose frame is there, each with its own place."""
    write_frame(tmp_path, "z", centre=(10.0, STEP * 3), packed=True)
    write_frame(tmp_path, "u")
    write_frame(tmp_path, "r")
    write_positions(tmp_path, [(150, 200), (150, 1)])
    columns, _ = read_all(SURVEY, tmp_path)
    assert columns["image_band"][0].tolist() == [b"u", b"r", b"z"]
    # z is shifted by three columns.
    assert columns["image_flux"][0][:, 64, 64].tolist() == [150200.0, 150200.0, 150197.0]
    # The second position lies just beyond the frame in z.
    assert columns["image_band"][1].tolist() == [b"u", b"r"]
    assert columns["image_flux"][1].shape == (2, 128, 128)
    assert set(columns["RERUN"].tolist()) == {b"301"}


def test_a_position_in_two_fields_comes_once(tmp_path):
    """Where fields overlap a position is cut from the one it lies deepest in."""
    write_frame(tmp_path, "r", field=122)
    write_frame(tmp_path, "r", field=123, centre=(10.0 + 200 * STEP, 0.0))
    write_positions(tmp_path, [(240, 200), (260, 200)])
    columns, rejected = read_all(SURVEY, tmp_path)
    assert not rejected
    assert dict(zip(columns["OBJID"].tolist(), columns["FIELD"].tolist(), strict=True)) == {
        b"obj0": 122,
        b"obj1": 123,
    }


def test_positions_in_no_frame_are_counted(tmp_path):
    """Positions outside all frames, or that are no number, are rejected, which is no fault."""
    write_frame(tmp_path, "r")
    write_positions(tmp_path, [(150, 200), (150, 500), (-3, 20)])
    with (tmp_path / "positions.csv").open("a") as text:
        text.write("none,,\nfar,200.0,70.0\n")
    columns, (rejected,) = read_all(SURVEY, tmp_path)
    assert columns["OBJID"].tolist() == [b"obj0"]
    assert (rejected.count, rejected.fault) == (4, False)


def test_a_part_of_a_frame_finds_its_calibration(tmp_path):
    """A frame that was cropped takes its part of the calibration and the sky."""
    calibration = np.linspace(0.004, 0.006, 2048).astype("f4")
    sky = np.linspace(100, 300, 1489).astype("f4")

    def change(hdus, rows, columns):
        allsky = np.repeat(sky[None, :, None], 2, axis=2)
        image = fits.PrimaryHDU(
            np.zeros((rows.stop - rows.start, columns.stop - columns.start), "f4"), hdus[0].header
        )
        image.header["CRPIX1"] = 1025.0 - columns.start
        image.header["CRPIX2"] = 745.0 - rows.start
        grid = fits.BinTableHDU.from_columns(
            [
                fits.Column("ALLSKY", "2978E", dim="(2, 1489)", array=allsky),
                fits.Column("XINTERP", "2048E", array=[np.zeros(2048)]),
                fits.Column("YINTERP", "1489E", array=[np.arange(1489.0)]),
            ]
        )
        return [image, fits.ImageHDU(calibration), grid]

    everything = (slice(0, 1489), slice(0, 2048))
    part = (slice(133, 333), slice(121, 421))
    frames = [
        Frame(
            write_frame(tmp_path / str(i), "r", change=lambda hdus, w=where: change(hdus, *w)),
            2125,
            1,
            "r",
        )
        for i, where in enumerate((everything, part))
    ]
    whole = frames[0].variance(*everything)
    np.testing.assert_array_equal(
        frames[1].variance(slice(0, 200), slice(0, 300)), whole[133:333, 121:421]
    )
    position = np.array([10.02]), np.array([0.01])
    x, y = frames[0].place.pixel(*position)
    x_part, y_part = frames[1].place.pixel(*position)
    np.testing.assert_allclose([x_part + 121, y_part + 133], [x, y])


# --------------------------------------------------------------------------------------
# Where positions come from


def test_positions_of_skyserver(tmp_path):
    """A table as SkyServer saves it: a line before the header, objid, further columns."""
    path = tmp_path / "positions.csv"
    path.write_text(
        "#Table1\nobjid,run,ra,dec,r\n1237666407922335825,4874,38.3017987890892,-0.1339,17.1\n"
    )
    positions = read_positions(path)
    assert positions.name.tolist() == [b"1237666407922335825"]
    assert positions.ra.tolist() == [38.3017987890892]


def test_positions_as_fits(tmp_path):
    """A FITS table gives the same positions, whatever the case and type of its columns."""
    write_frame(tmp_path, "r")
    ra, dec = sky_of(150, 200)
    table = fits.BinTableHDU.from_columns(
        [
            fits.Column("ID", "K", array=[2**62 + 1]),
            fits.Column("RA", "D", array=[ra]),
            fits.Column("Dec", "D", array=[dec]),
        ]
    )
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(tmp_path / "positions.fits")
    columns, _ = read_all(SURVEY, tmp_path)
    assert columns["OBJID"].tolist() == [b"4611686018427387905"]
    assert (columns["RA"][0], columns["DEC"][0]) == (ra, dec)


def test_spectra_give_positions(tmp_path):
    """Without a table, spectra are cut out at their fibres, known by SPECOBJID."""
    simulated_spectra.write(
        tmp_path, make_galaxies(4, seed=2, ra=10, dec=0, radius_deg=0.003), seed=1
    )
    write_frame(tmp_path, "r")
    columns, rejected = read_all(SURVEY, tmp_path)
    assert not rejected
    assert sorted(int(name) for name in columns["OBJID"]) == sorted(
        simulated_spectra.specobjid(*key)
        for key in (
            (412, 52258, 1, "26"),
            (7338, 57859, 2, "v5_13_2"),
            (266, 51602, 3, "26"),
            (412, 52258, 4, "26"),
        )
    )


def test_a_table_of_positions_alone_counts(tmp_path):
    """Where positions are given, other catalogues in the folder are left alone."""
    simulated.write(tmp_path, GALAXIES, seed=1)
    (tmp_path / "positions.csv").write_text(f"id,ra,dec\nmine,{GALAXIES.ra[1]},{GALAXIES.dec[1]}\n")
    columns, _ = read_all(SURVEY, tmp_path)
    assert columns["OBJID"].tolist() == [b"mine"]
    assert np.isnan(columns["EXTINCTION_R"]).all()


@pytest.fixture(scope="module")
def sky(tmp_path_factory) -> Path:
    """Five galaxies in one field, with photoObj."""
    folder = tmp_path_factory.mktemp("sdss_imaging")
    simulated.write(folder, GALAXIES, seed=1)
    return folder


def test_simulated_files_are_the_same_each_time(sky, tmp_path):
    """The same seed gives the same bytes."""
    simulated.write(tmp_path, GALAXIES, seed=1)
    files = sorted(path.relative_to(sky) for path in sky.rglob("*") if path.is_file())
    assert len(files) == 6
    assert all((sky / name).read_bytes() == (tmp_path / name).read_bytes() for name in files)


def test_primary_objects_of_photoobj_are_cut_out(sky):
    """Objects of photoObj come with their photometry; those that are not primary are counted."""
    columns, (rejected,) = read_all(SURVEY, sky)
    assert (rejected.count, rejected.fault) == (1, False)
    assert "primary" in rejected.reason
    row = np.argsort(columns["ID"])
    assert columns["ID"][row].tolist() == [1, 2, 3, 4, 5]
    assert columns["OBJID"][row[0]] == str(simulated_spectra.photo_objid(2125, 1, 18, 1)).encode()
    np.testing.assert_allclose(columns["RA"][row], GALAXIES.ra, atol=0.3 / 3600)
    np.testing.assert_allclose(
        22.5 - 2.5 * np.log10(columns["CMODELFLUX_R"][row]), GALAXIES.mag[:, 2], atol=1e-5
    )
    assert columns["image_psf_fwhm"][0].tolist() == columns["PSF_FWHM"][0].tolist()
    assert columns["image_extinction"][0].tolist() == columns["EXTINCTION"][0].tolist()


def test_galaxies_stand_where_their_cutouts_say(sky):
    """The light of a galaxy is centred where image_x and image_y put it."""
    columns, _ = read_all(SURVEY, sky)
    brightest = int(np.argmax(columns["CMODELFLUX_R"]))
    for band in (1, 2, 3):
        flux = columns["image_flux"][brightest][band]
        x, y = (columns[f"image_{axis}"][brightest][band] for axis in "xy")
        rows, pixels = np.mgrid[:CUTOUT, :CUTOUT]
        near = np.hypot(pixels - HALF, rows - HALF) < 15
        weight = np.where(near, flux, 0)
        np.testing.assert_allclose(
            (weight * pixels).sum() / weight.sum(), HALF + x - round(x), atol=0.25
        )
        np.testing.assert_allclose(
            (weight * rows).sum() / weight.sum(), HALF + y - round(y), atol=0.25
        )


def test_a_field_without_frames_is_counted(sky, tmp_path):
    """Objects of a photoObj table whose field has no frames are rejected, which is no fault."""
    native = Path(shutil.copytree(sky, tmp_path / "native"))
    path = next(native.rglob("photoObj-*.fits"))
    path.rename(path.with_name("photoObj-002125-1-0019.fits"))
    columns, rejected = read_all(SURVEY, native)
    assert columns["RA"] == []
    assert [(r.count, r.fault) for r in rejected] == [(1, False), (5, False)]


def test_a_whole_folder_becomes_a_tree(sky, tmp_path):
    """A tree holds every native value, and its standard view the seed's images."""
    report = build_catalog(SURVEY, sky, tmp_path / "sdss_imaging", progress=False)
    assert (report.n_written, report.n_rejected) == (5, 1)
    catalog = open_catalog(tmp_path / "sdss_imaging")
    native, _ = read_all(SURVEY, sky)
    order = {name: row for row, name in enumerate(native["OBJID"].tolist())}
    taken = catalog.take(np.arange(5))
    for row, name in enumerate(taken["OBJID"].tolist()):
        for column in SURVEY.column_names:
            np.testing.assert_array_equal(taken[column][row], native[column][order[name]])
    record = catalog.standard([2]).to_pylist()[0]
    here = order[record["object_id"].encode()]
    assert record["provenance"] == {"project": "SDSS", "survey": "SDSS", "release": "DR17"}
    assert [image["filter"] for image in record["image"]] == ["u", "g", "r", "i", "z"]
    image = record["image"][2]
    np.testing.assert_array_equal(image["array"], native["image_flux"][here][2])
    np.testing.assert_array_equal(image["ivar"], native["image_ivar"][here][2])
    np.testing.assert_array_equal(image["mask"], native["image_mask"][here][2] > 0)
    assert image["units"] == "nanomaggy"
    assert image["psf_fwhm"] == np.float32(1.32)
    assert image["extinction"] == np.float32(0.070)
    np.testing.assert_allclose(image["pixel_size"], 0.396, rtol=1e-6)
    np.testing.assert_allclose(
        record["mag"], GALAXIES.mag[int(native["ID"][here]) - 1, 2] - 0.070, atol=1e-5
    )
    np.testing.assert_allclose(record["ebv"], 0.070 / 2.751, rtol=1e-6)


# --------------------------------------------------------------------------------------
# Bad input


def test_a_folder_without_frames_is_refused(tmp_path):
    """Positions without frames are refused, saying what was sought."""
    write_positions(tmp_path, [(1, 1)])
    with pytest.raises(NativeFileError, match="frame-"):
        sdss_imaging.units(tmp_path)


def test_a_folder_without_positions_is_refused(tmp_path):
    """Frames without anything to cut out are refused, saying what was sought."""
    write_frame(tmp_path, "r")
    with pytest.raises(NativeFileError, match=r"positions\.csv"):
        sdss_imaging.units(tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("id,ra\n1,2\n", "columns id, ra and dec"),
        ("id,ra,dec\n1,abc,2\n", "numbers"),
        ("id,ra,dec\n", "at least one position"),
        ("", "at least one position"),
        (f"id,ra,dec\n{'x' * 33},1,2\n", "at most 32"),
    ],
)
def test_a_bad_table_of_positions_is_refused(tmp_path, content, said):
    """A table of positions that lacks a column, a number or a row is one clear error."""
    write_frame(tmp_path, "r")
    (tmp_path / "positions.csv").write_text(content)
    with pytest.raises(NativeFileError, match=said):
        sdss_imaging.units(tmp_path)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def pack_and_truncate(path: Path) -> None:
    packed = bz2.compress(path.read_bytes())
    path.with_suffix(".fits.bz2").write_bytes(packed[: len(packed) * 2 // 3])
    path.unlink()


def lose_sky(path: Path) -> None:
    change(path, lambda hdus: hdus[:2])


def lose_column(path: Path) -> None:
    def without(hdus):
        kept = [column for column in hdus[2].columns if column.name != "XINTERP"]
        return [*hdus[:2], fits.BinTableHDU.from_columns(kept)]

    change(path, without)


def lose_place(path: Path) -> None:
    def without(hdus):
        del hdus[0].header["CD1_2"]
        return hdus

    change(path, without)


def other_projection(path: Path) -> None:
    def with_sin(hdus):
        hdus[0].header["CTYPE1"] = "RA---SIN"
        return hdus

    change(path, with_sin)


def wrong_size(path: Path) -> None:
    change(path, lambda hdus: [hdus[0], fits.ImageHDU(np.ones(399, "f4")), hdus[2]])


def change(path: Path, how) -> None:
    with fits.open(path) as hdus:
        fits.HDUList(how([hdu.copy() for hdu in hdus])).writeto(path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


@pytest.mark.parametrize(
    ("breaking", "said"),
    [
        (truncate, "as long as its headers say"),
        (pack_and_truncate, "a whole compressed file"),
        (lose_sky, "HDU 2"),
        (lose_column, "column 'XINTERP'"),
        (lose_place, "CD"),
        (other_projection, "RA---TAN"),
        (wrong_size, "calibration"),
    ],
)
def test_a_broken_frame_rejects_the_objects_of_its_field_alone(tmp_path, breaking, said):
    """Objects of a field with a broken frame are rejected with the reason; others are read."""
    write_frame(tmp_path, "r")
    broken = write_frame(tmp_path, "i")
    write_frame(tmp_path, "r", field=130, centre=(10.2, 0.0))
    write_positions(tmp_path, [(150, 200), (140, 210)])
    with (tmp_path / "positions.csv").open("a") as text:
        text.write("other,10.2,0.0\n")
    breaking(broken)
    columns, (rejected,) = read_all(SURVEY, tmp_path)
    assert columns["OBJID"].tolist() == [b"other"]
    assert (rejected.count, rejected.fault) == (2, True)
    assert said in rejected.reason


def test_a_broken_spectrum_is_counted_as_a_position(tmp_path):
    """A spec file that is no FITS file is one rejected position; others are cut out."""
    galaxies = make_galaxies(2, seed=2, ra=10, dec=0, radius_deg=0.003)
    simulated_spectra.write(tmp_path, galaxies, seed=1)
    write_frame(tmp_path, "r")
    next(tmp_path.rglob("spec-0412*.fits")).write_bytes(b"no")
    columns, (rejected,) = read_all(SURVEY, tmp_path)
    assert len(columns["OBJID"]) == 1
    assert (rejected.count, rejected.fault) == (1, True)


# --------------------------------------------------------------------------------------
# Real files


def assemble_stripe_82(
    real_data: Path, folder: Path, *, positions: bool, bands: str = "ugriz"
) -> Path:
    """
    Make a native folder of the frames 2820/3/0122 and the spectra that lie in them.

    With `positions` the spectra are named in a table; without, their own files stand beside.
    """
    source = real_data / "spectra/sdss"
    frames = folder / "frames/301/2820/3"
    frames.mkdir(parents=True)
    for path in sorted((source / "companion_frames_s82").glob(f"frame-[{bands}]-*.bz2")):
        (frames / path.name).symlink_to(path)
    names = ("spec-3127-54835-0622", "spec-7330-56684-0434", "spec-4238-55455-0037")
    if positions:
        lines = ["id,ra,dec"]
        for name in names:
            row = fits.getdata(source / f"spec-lite/{name}.fits", 2)
            ra, dec = float(row["PLUG_RA"][0]), float(row["PLUG_DEC"][0])
            lines.append(f"{str(row['SPECOBJID'][0]).strip()},{ra!r},{dec!r}")
        (folder / "positions.csv").write_text("\n".join(lines) + "\n")
    else:
        for name in names:
            (folder / f"{name}.fits").symlink_to(source / f"spec-lite/{name}.fits")
    return folder


def astropy_pixel(header, ra, dec):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return WCS(header).all_world2pix(ra, dec, 0)


@pytest.fixture(scope="module")
def stripe_82(real_data, tmp_path_factory):
    """The real frames cut at the positions of a table."""
    folder = assemble_stripe_82(real_data, tmp_path_factory.mktemp("s82"), positions=True)
    columns, rejected = read_all(SURVEY, folder)
    assert not rejected
    return columns


@pytest.mark.real
def test_real_frames_are_cut_at_the_spectra(real_data, stripe_82):
    """Cutouts of Stripe 82 equal the frames bit for bit, at the pixel that astropy gives."""
    columns = stripe_82
    assert sorted(columns["OBJID"].tolist()) == [
        b"3520860063872950272",
        b"4771574067202334720",
        b"8252965726307983360",
    ]
    for number, band in enumerate("ugriz"):
        path = real_data / f"spectra/sdss/companion_frames_s82/frame-{band}-002820-3-0122.fits.bz2"
        with fits.open(io.BytesIO(bz2.decompress(path.read_bytes()))) as hdus:
            image, header = hdus[0].data, hdus[0].header
            calibration, table = hdus[1].data, hdus[2].data
            sky, x_sky, y_sky = (table[n][0] for n in ("ALLSKY", "XINTERP", "YINTERP"))
            for row in range(3):
                assert columns["image_band"][row][number] == band.encode()
                x, y = astropy_pixel(header, columns["RA"][row], columns["DEC"][row])
                np.testing.assert_allclose(columns["image_x"][row][number], x, atol=1e-3)
                np.testing.assert_allclose(columns["image_y"][row][number], y, atol=1e-3)
                top, left = round(float(y)) - HALF, round(float(x)) - HALF
                there = (slice(max(top, 0), top + CUTOUT), slice(max(left, 0), left + CUTOUT))
                here = (slice(max(-top, 0), None), slice(max(-left, 0), None))
                flux = columns["image_flux"][row][number]
                np.testing.assert_array_equal(flux[here], image[there])
                # The sky at one pixel, worked out by hand.
                i, j = there[0].start + 30, there[1].start + 40
                level = np.interp(
                    y_sky[i],
                    np.arange(len(sky)),
                    [np.interp(x_sky[j], np.arange(sky.shape[1]), line) for line in sky],
                )
                variance = variance_of(
                    float(image[i, j]), band=band, sky=level, calibration=float(calibration[j])
                )
                ivar = columns["image_ivar"][row][number]
                np.testing.assert_allclose(ivar[here][30, 40], 1 / variance, rtol=1e-5)
                mask = columns["image_mask"][row][number]
                assert not mask[here].any()
                assert (mask == 1).sum() == mask.size - mask[here].size
                assert not ivar[mask > 0].any()


@pytest.mark.real
def test_real_noise_agrees_with_the_scatter(stripe_82):
    """In real frames the noise worked out is the scatter of empty sky within 20 per cent."""
    for flux, noise in zip(
        stripe_82["image_flux"][0], stripe_82["image_noise_std"][0], strict=True
    ):
        scatter = 1.4826 * np.median(np.abs(flux - np.median(flux)))
        np.testing.assert_allclose(noise, scatter, rtol=0.2)


@pytest.mark.real
def test_real_part_of_a_frame(real_data, tmp_path):
    """The cropped frame of the host of SN 2010H is read with its part of the calibration."""
    source = real_data / "images/blast_sn_hosts/2010H/SDSS/SDSS_r.fits"
    (tmp_path / "frame-r-002125-1-0018.fits").symlink_to(source)
    (tmp_path / "positions.csv").write_text("id,ra,dec\n2010H,121.60152,1.03591\n")
    columns, rejected = read_all(SURVEY, tmp_path)
    assert not rejected
    with fits.open(source) as hdus:
        image, calibration = hdus[0].data, hdus[1].data
        x, y = astropy_pixel(hdus[0].header, 121.60152, 1.03591)
        column, row = round(float(x)), round(float(y))
        flux, ivar = columns["image_flux"][0][0], columns["image_ivar"][0][0]
        expected = image[row - HALF : row + HALF, column - HALF : column + HALF]
        np.testing.assert_array_equal(flux, expected)
        table = hdus[2].data
        sky, x_sky, y_sky = (table[name][0] for name in ("ALLSKY", "XINTERP", "YINTERP"))
        level = np.interp(
            y_sky[row + 133],
            np.arange(len(sky)),
            [np.interp(x_sky[column + 121], np.arange(sky.shape[1]), line) for line in sky],
        )
        variance = variance_of(
            float(image[row, column]),
            run=2125,
            camcol=1,
            sky=level,
            calibration=float(calibration[column + 121]),
        )
        np.testing.assert_allclose(ivar[HALF, HALF], 1 / variance, rtol=1e-5)


@pytest.mark.real
def test_real_reprojected_images_are_no_frames(real_data, tmp_path):
    """Images that were resampled, without calibration and sky, are rejected, not read."""
    source = real_data / "images/sdss/reprojected_sdss_r.fits.bz2"
    (tmp_path / "frame-r-001737-5-0047.fits.bz2").symlink_to(source)
    (tmp_path / "positions.csv").write_text("id,ra,dec\n1,313.17019,-5.69335\n")
    columns, rejected = read_all(SURVEY, tmp_path)
    assert columns["OBJID"] == []
    assert sum(r.count for r in rejected) == 1


@pytest.mark.real
def test_real_spectra_and_images_lie_on_one_sky(real_data, tmp_path):
    """Trees of real spectra and of real cutouts pair within 1 arcsec: a star twice, a galaxy."""
    spectra = tmp_path / "spectra"
    assemble_stripe_82(real_data, tmp_path / "images", positions=False, bands="r")
    spectra.mkdir()
    for path in sorted((tmp_path / "images").glob("spec-*.fits")):
        (spectra / path.name).symlink_to(path.resolve())
    build_catalog("sdss_imaging", tmp_path / "images", tmp_path / "left", progress=False)
    build_catalog("sdss", spectra, tmp_path / "right", progress=False)
    left, right = (open_catalog(tmp_path / name) for name in ("left", "right"))
    # The two spectra of the star lie 0.02 arcsec apart: each pairs with each.
    pairs = cross_match(left, right, radius_arcsec=1.0, find="all")
    assert len(pairs.left) == 5
    nearest = cross_match(left, right, radius_arcsec=1.0)
    assert nearest.left.tolist() == [0, 1, 2]
    assert (nearest.separation_arcsec < 1e-6).all()
    names = [catalog.take(np.arange(3), ["observation_id"]) for catalog in (left, right)]
    for row in range(3):
        found = names[1]["observation_id"][nearest.right[row]]
        assert found == names[0]["observation_id"][row]
