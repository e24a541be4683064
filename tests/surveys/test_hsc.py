"""HSC-SSP PDR3: coadds cut at catalogue positions."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from astropile import build_catalog, open_catalog
from astropile.errors import NativeFileError
from astropile.formula import evaluate
from astropile.schema import BadPixels, Stack
from astropile.simulate import hsc as simulated
from astropile.simulate.galaxies import make_galaxies
from astropile.surveys import _calexp, hsc
from astropile.surveys._fits import FitsFile
from astropile.surveys.hsc import SURVEY, make_survey
from astropile.testing import read_all

SMALL = make_survey(cutout=8)
SIZE = 40
PLANES = {name: bit for bit, name in enumerate(_calexp.MASK_PLANES)}


def write_calexp(
    native: Path,
    band: str,
    *,
    image=None,
    mask=None,
    variance=None,
    planes=PLANES,
    where=(9813, 404),
    fluxmag0=10**10.8,
    wrap=fits.ImageHDU,
    drop=(),
) -> Path:
    """One coadd; by default pixel (row, column) holds 100 * row + column."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    given = {
        "IMAGE": (100 * rows + columns).astype("f4") if image is None else image,
        "MASK": np.zeros((SIZE, SIZE), "i4") if mask is None else mask,
        "VARIANCE": np.full((SIZE, SIZE), 0.25, "f4") if variance is None else variance,
    }
    wcs = tangent_plane()
    hdus = fits.HDUList([fits.PrimaryHDU()])
    hdus[0].header["FLUXMAG0"] = fluxmag0
    for kind, plane in given.items():
        if kind in drop:
            continue
        header = wcs.to_header()
        header["EXTTYPE"] = kind
        if kind == "MASK":
            header.update({f"HIERARCH MP_{name}": bit for name, bit in planes.items()})
        hdus.append(wrap(plane, header))
    tract, patch = where
    name = f"HSC-{band.upper()}"
    folder = native / "deepCoadd-results" / name / str(tract) / f"{patch // 100},{patch % 100}"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"calexp-{name}-{tract}-{patch // 100},{patch % 100}.fits"
    hdus.writeto(path, overwrite=True)
    return path


def tangent_plane() -> WCS:
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [150.0, 2.0]
    wcs.wcs.crpix = [20.0, 20.0]
    wcs.wcs.cd = np.diag([-0.168, 0.168]) / 3600
    return wcs


def write_catalog(native: Path, pixels, name="objects.fits", extra=None, **columns) -> Path:
    """Objects at (column, row) positions of the coadd, counted from 0."""
    native.mkdir(parents=True, exist_ok=True)
    n = len(pixels)
    ra, dec = tangent_plane().all_pix2world(np.asarray(pixels, float).reshape(-1, 2), 0).T
    values = {
        "object_id": np.arange(n) + 7,
        "ra": ra,
        "dec": dec,
        "tract": np.full(n, 9813),
        "patch": np.full(n, 404),
        **columns,
    }
    formats = {"int64": "K", "int32": "I", "float64": "D", "float32": "E"}
    table = [
        fits.Column(c.name, formats[c.dtype], array=values.get(c.name, np.full(n, 1.5)))
        for c in hsc.NATIVE_COLUMNS
        if values.get(c.name, 0) is not None
    ]
    for key, (code, array) in (extra or {}).items():
        table.append(fits.Column(key, code, array=array))
    path = native / name
    fits.BinTableHDU.from_columns(table).writeto(path, overwrite=True)
    return path


def read_small(native):
    return read_all(SMALL, native)


# --------------------------------------------------------------------------------------
# What the survey publishes, simulated


@pytest.fixture(scope="module")
def sky():
    return make_galaxies(6, seed=5)


@pytest.fixture(scope="module")
def native(tmp_path_factory, sky):
    path = tmp_path_factory.mktemp("hsc")
    simulated.write(path, sky, seed=1)
    return path


@pytest.fixture(scope="module")
def objects(native):
    columns, rejected = read_all(SURVEY, native)
    assert rejected == []
    return columns


def test_default_cutouts_are_160_pixels_in_five_bands(objects):
    """The default build gives 160 x 160 pixels in each of the five bands."""
    assert objects["image_array"].shape == (6, 5, 160, 160)
    assert objects["image_ivar"].shape == objects["image_mask"].shape == (6, 5, 160, 160)


def test_catalogue_values_are_the_source_bit_for_bit(native, objects):
    """Every native column equals the catalogue's, joined by identifier."""
    table = fits.getdata(native / "pdr3_dud_22.5.fits")
    rows = {int(object_id): row for row, object_id in enumerate(table["object_id"])}
    order = [rows[int(object_id)] for object_id in objects["object_id"]]
    assert sorted(order) == list(range(6))
    for column in hsc.NATIVE_COLUMNS:
        np.testing.assert_array_equal(objects[column.name], table[column.name][order])


@pytest.mark.parametrize("band", hsc.BANDS)
def test_cutouts_are_the_coadd_bit_for_bit(native, objects, band):
    """Pixels, mask and inverse variance equal those of the coadd around the object."""
    number = hsc.BANDS.index(band)
    for row in range(3):
        tract, patch = objects["tract"][row], divmod(int(objects["patch"][row]), 100)
        name = f"HSC-{band.upper()}-{tract}-{patch[0]},{patch[1]}"
        (path,) = native.rglob(f"calexp-{name}.fits")
        with fits.open(path) as hdus:
            x, y = WCS(hdus["IMAGE"].header).all_world2pix(
                objects["ra"][row], objects["dec"][row], 0
            )
            left, top = round(float(x)) - 80, round(float(y)) - 80
            part = np.s_[top : top + 160, left : left + 160]
            image, mask, variance = (hdus[k].data[part] for k in ("IMAGE", "MASK", "VARIANCE"))
            assert image.shape == (160, 160)
            np.testing.assert_array_equal(objects["image_array"][row, number], image)
            np.testing.assert_array_equal(objects["image_mask"][row, number], mask)
            bad = mask & (1 << 0 | 1 << 1 | 1 << 8) != 0
            np.testing.assert_array_equal(
                objects["image_ivar"][row, number], np.where(bad, 0, 1 / variance)
            )


def test_galaxies_lie_in_the_middle_of_their_cutouts(objects, sky):
    """The light of a simulated galaxy is centred on pixel [80, 80]."""
    for row in range(6):
        distance = np.hypot(objects["ra"][row] - sky.ra, objects["dec"][row] - sky.dec)
        assert distance.min() < 0.3 / 3600
        centre = objects["image_array"][row, 2, 70:91, 70:91].astype(float)
        rows, columns = np.mgrid[-10:11, -10:11]
        assert abs((centre * rows).sum() / centre.sum()) < 1.5
        assert abs((centre * columns).sum() / centre.sum()) < 1.5


def test_light_adds_up_to_the_catalogue_magnitude(objects):
    """With the declared unit, the sum of the pixels is the CModel flux of the catalogue."""
    scale = float(SURVEY["image_array"].unit.split()[0])
    flux = objects["image_array"][:, 2].sum(axis=(1, 2)) * scale
    mag = 22.5 - 2.5 * np.log10(flux)
    assert np.median(np.abs(mag - objects["i_cmodel_mag"])) < 0.05


def test_from_native_files_to_standard_records(native, objects, tmp_path):
    """A tree gives the same values back, and each record the fields of the design document."""
    report = build_catalog(SURVEY, native, tmp_path)
    assert (report.n_read, report.n_written, report.n_rejected) == (6, 6, 0)
    catalog = open_catalog(tmp_path)
    rows = np.concatenate([catalog.find(object_id) for object_id in objects["object_id"]])
    taken = catalog.take(rows, list(SURVEY.column_names))
    for name, values in objects.items():
        np.testing.assert_array_equal(taken[name], values)

    (record,) = catalog.standard(rows[:1]).to_pylist()
    assert record["provenance"] == {"project": "HSC-SSP", "survey": "HSC", "release": "PDR3"}
    assert record["object_id"] == record["observation_id"] == objects["object_id"][0]
    assert record["mag"] == pytest.approx(objects["i_cmodel_mag"][0] - objects["a_i"][0])
    assert [image["filter"] for image in record["image"]] == ["g", "r", "i", "z", "y"]
    image = record["image"][3]
    np.testing.assert_array_equal(np.float32(image["array"]), objects["image_array"][0, 3])
    np.testing.assert_array_equal(np.float32(image["ivar"]), objects["image_ivar"][0, 3])
    bad = objects["image_mask"][0, 3] & 0b100000011 != 0
    np.testing.assert_array_equal(image["mask"], bad)
    assert image["psf_fwhm"] == pytest.approx(simulated.SEEING_ARCSEC["z"], rel=0.1)
    assert image["pixel_size"] == pytest.approx(0.168)
    assert image["noise_std"] == objects["image_noise_std"][0, 3]
    assert image["extinction"] == objects["a_z"][0]
    assert image["units"] == "0.0158489319246111 nanomaggy"


def test_a_record_lists_the_bands_there_are(tmp_path):
    """An object observed in two bands has two images in its record."""
    write_catalog(tmp_path / "native", [(12, 25)])
    write_calexp(tmp_path / "native", "r")
    write_calexp(tmp_path / "native", "y")
    build_catalog(SMALL, tmp_path / "native", tmp_path / "tree")
    (record,) = open_catalog(tmp_path / "tree").standard([0]).to_pylist()
    assert [image["filter"] for image in record["image"]] == ["r", "y"]
    assert record["image"][1]["array"][4][4] == 2512


def test_same_seed_gives_the_same_bytes(tmp_path):
    """Writing the same sky twice gives equal files."""
    for name in ("a", "b"):
        simulated.write(tmp_path / name, make_galaxies(1, seed=2), seed=4, patch_size=20)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.fits"))
    assert len(files) == 6
    for path in files:
        assert (tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes()


# --------------------------------------------------------------------------------------
# Quirks, each in files written by hand


def test_the_objects_pixel_is_counted_from_zero(tmp_path):
    """An object in the middle of column 12, row 25 has that pixel at [4, 4] of 8 x 8."""
    write_catalog(tmp_path, [(12, 25)])
    write_calexp(tmp_path, "r")
    columns, _ = read_small(tmp_path)
    assert columns["image_array"][0, 1, 4, 4] == 2512
    assert columns["image_array"][0, 1, 0, 0] == 2108
    assert columns["image_array"][0, 1, 7, 7] == 2815


@pytest.mark.parametrize(("shift", "pixel"), [(-0.4, 2512), (0.4, 2512), (0.6, 2613)])
def test_a_position_goes_to_the_nearest_pixel(tmp_path, shift, pixel):
    """Up to half a pixel off, the object keeps its pixel; beyond it has the next one."""
    write_catalog(tmp_path, [(12 + shift, 25 + shift)])
    write_calexp(tmp_path, "g")
    columns, _ = read_small(tmp_path)
    assert columns["image_array"][0, 0, 4, 4] == pixel


def test_a_variance_that_is_none_gives_no_weight(tmp_path):
    """Variance 0, negative, NaN or infinite, or too small to invert, gives an ivar of 0."""
    variance = np.full((SIZE, SIZE), 0.25, "f4")
    variance[25, 8:14] = [0, -1, np.nan, np.inf, 1e-42, 4]
    write_catalog(tmp_path, [(12, 25)])
    write_calexp(tmp_path, "g", variance=variance)
    columns, _ = read_small(tmp_path)
    assert columns["image_ivar"][0, 0, 4].tolist() == [0, 0, 0, 0, 0, 0.25, 4, 4]
    assert columns["image_noise_std"][0, 0] == 0.5


def test_bad_saturated_and_empty_pixels_have_no_weight(tmp_path):
    """BAD, SAT and NO_DATA give an ivar of 0 and a bad pixel; CR and DETECTED do not."""
    mask = np.zeros((SIZE, SIZE), "i4")
    mask[25, 8:13] = [1 << PLANES[name] for name in ("BAD", "SAT", "NO_DATA", "CR", "DETECTED")]
    write_catalog(tmp_path, [(12, 25)])
    write_calexp(tmp_path, "g", mask=mask)
    columns, _ = read_small(tmp_path)
    assert columns["image_ivar"][0, 0, 4].tolist() == [0, 0, 0, 4, 4, 4, 4, 4]
    bad = SURVEY.aliases["image"].fields["mask"]
    assert bad == BadPixels("image_mask", bits=("BAD", "SAT", "NO_DATA"))


def test_pixels_without_a_number_are_marked(tmp_path):
    """A NaN pixel is delivered as 0 with NO_DATA and no weight, never as NaN."""
    image = np.ones((SIZE, SIZE), "f4")
    image[25, 12] = np.nan
    write_catalog(tmp_path, [(12, 25)])
    write_calexp(tmp_path, "g", image=image)
    columns, _ = read_small(tmp_path)
    assert columns["image_array"][0, 0, 4, 3:6].tolist() == [1, 0, 1]
    assert columns["image_mask"][0, 0, 4, 3:6].tolist() == [0, 1 << 8, 0]
    assert columns["image_ivar"][0, 0, 4, 3:6].tolist() == [4, 0, 4]


def test_mask_planes_follow_their_names_not_their_numbers(tmp_path):
    """A file that numbers its planes otherwise is delivered with the declared numbers."""
    mask = np.zeros((SIZE, SIZE), "i4")
    mask[25, 8:12] = [1 << 9, 1 << 8, 1 << 5 | 1 << 9, 0]
    write_catalog(tmp_path, [(12, 25)])
    renumbered = {"NO_DATA": 9, "CROSSTALK": 8, "BRIGHT_OBJECT": 10}
    write_calexp(tmp_path, "g", mask=mask, planes={**PLANES, **renumbered})
    write_calexp(tmp_path, "r", mask=mask, planes={**PLANES, "NO_DATA": 9, "BRIGHT_OBJECT": 8})
    columns, _ = read_small(tmp_path)
    assert columns["image_mask"][0, 0, 4, :4].tolist() == [1 << 8, 1 << 10, 1 << 5 | 1 << 8, 0]
    assert columns["image_mask"][0, 1, 4, :4].tolist() == [1 << 8, 1 << 9, 1 << 5 | 1 << 8, 0]
    assert columns["image_ivar"][0, 0, 4, :4].tolist() == [0, 4, 0, 4]


def test_planes_that_are_not_declared_are_kept_as_other(tmp_path):
    """A plane with a new name, and a bit with no name, are both seen in the bit OTHER."""
    mask = np.zeros((SIZE, SIZE), "i4")
    mask[25, 8:11] = [1 << 17, 1 << 20, 1 << 3]
    write_catalog(tmp_path, [(12, 25)])
    write_calexp(tmp_path, "g", mask=mask, planes={**PLANES, "STREAK": 17})
    columns, _ = read_small(tmp_path)
    assert columns["image_mask"][0, 0, 4, :3].tolist() == [1 << 30, 1 << 30, 1 << 3]


def test_a_cutout_over_the_edge_keeps_its_size(tmp_path):
    """What lies outside the patch is 0, NO_DATA and without weight; the rest is the coadd."""
    write_catalog(tmp_path, [(1, 38)])
    write_calexp(tmp_path, "g")
    columns, rejected = read_small(tmp_path)
    assert rejected == []
    assert columns["image_array"][0, 0].shape == (8, 8)
    assert columns["image_array"][0, 0, 4].tolist() == [0, 0, 0, *range(3800, 3805)]
    assert columns["image_mask"][0, 0, 4].tolist() == [256, 256, 256, 0, 0, 0, 0, 0]
    assert columns["image_ivar"][0, 0, 6].tolist() == [0] * 8
    assert columns["image_array"][0, 0, 5, 3] == 3900


def test_an_object_off_its_patch_is_rejected(tmp_path):
    """Objects whose pixel is not on the coadd are counted, and the others delivered."""
    write_catalog(tmp_path, [(12, 25), (-1, 25), (12, 40), (4000, 4000)])
    write_calexp(tmp_path, "g")
    columns, rejected = read_small(tmp_path)
    assert columns["object_id"].tolist() == [7]
    assert [item.key for item in rejected] == ["8", "9", "10"]
    assert {item.reason for item in rejected} == {"the object lies outside its patch's coadd"}


def test_positions_that_are_none_are_left_to_the_builder(tmp_path):
    """An object at NaN comes with empty cutouts and disturbs no other."""
    path = write_catalog(tmp_path, [(12, 25), (20, 20), (30, 9)])
    with fits.open(path, mode="update") as hdus:
        hdus[1].data["ra"][1] = np.nan
        hdus[1].data["dec"][2] = 95.0
    write_calexp(tmp_path, "g")
    columns, rejected = read_small(tmp_path)
    assert rejected == []
    assert columns["object_id"].tolist() == [7, 8, 9]
    assert (columns["image_mask"][1:] == 256).all()
    assert columns["image_array"][0, 0, 4, 4] == 2512


def test_the_other_side_of_the_sky_is_off_the_patch(tmp_path):
    """A position with no place on the tangent plane is rejected or left empty, without noise."""
    path = write_catalog(tmp_path, [(12, 25), (20, 20)])
    with fits.open(path, mode="update") as hdus:
        hdus[1].data["ra"][1] = 330.0
        hdus[1].data["dec"][1] = -2.0
    write_calexp(tmp_path, "g")
    columns, rejected = read_small(tmp_path)
    assert columns["object_id"][0] == 7
    assert len(rejected) + len(columns["object_id"]) == 2


def test_bands_without_a_coadd_are_left_out_of_the_list(tmp_path):
    """A patch observed in two bands gives those; the others are marked as not available."""
    write_catalog(tmp_path, [(12, 25)])
    write_calexp(tmp_path, "r")
    write_calexp(tmp_path, "y")
    columns, rejected = read_small(tmp_path)
    assert rejected == []
    assert columns["image_available"].tolist() == [[False, True, False, False, True]]
    assert (columns["image_mask"][0, 0] == 256).all()
    assert np.isnan(columns["image_zero_point"][0]).tolist() == [True, False, True, True, False]
    assert SURVEY.aliases["image"].where == "image_available"


def test_patch_number_is_read_as_two_digits(tmp_path):
    """Patch 8 of the catalogue is the patch 0,8 of the coadds, and 703 is 7,3."""
    write_catalog(tmp_path, [(12, 25), (13, 25)], patch=np.array([8, 703]))
    write_calexp(tmp_path, "g", where=(9813, 8))
    write_calexp(tmp_path, "g", where=(9813, 703), image=np.full((SIZE, SIZE), 5, "f4"))
    columns, rejected = read_small(tmp_path)
    assert rejected == []
    assert columns["image_array"][:, 0, 4, 4].tolist() == [2512, 5]
    keys = [unit.key for unit in SMALL.units(tmp_path)]
    assert keys == ["objects.fits:9813/0,8", "objects.fits:9813/7,3"]


def test_objects_without_any_coadd_are_rejected(tmp_path):
    """Objects of a patch without coadds are counted; those of other patches delivered."""
    write_catalog(tmp_path, [(12, 25), (12, 25), (13, 25)], patch=np.array([405, 404, 405]))
    write_calexp(tmp_path, "g")
    columns, rejected = read_small(tmp_path)
    assert columns["object_id"].tolist() == [8]
    assert [(item.key, item.reason) for item in rejected] == [
        ("7", "no coadd of its patch in any band"),
        ("9", "no coadd of its patch in any band"),
    ]


def test_several_catalogues_are_read(tmp_path):
    """Two catalogues of the same patch give the objects of both."""
    write_catalog(tmp_path, [(12, 25)], name="a.fits")
    write_catalog(tmp_path, [(13, 25)], name="b.fits", object_id=np.array([99]))
    write_calexp(tmp_path, "g")
    columns, _ = read_small(tmp_path)
    assert columns["object_id"].tolist() == [7, 99]


def test_wider_columns_are_taken_if_no_value_changes(tmp_path):
    """A magnitude in float64 that is a float32 is taken; one that is not names its column."""
    extra = {"i_cmodel_mag": ("D", [20.5])}
    write_catalog(tmp_path, [(12, 25)], extra=extra, i_cmodel_mag=None)
    write_calexp(tmp_path, "g")
    columns, _ = read_small(tmp_path)
    assert columns["i_cmodel_mag"].dtype == np.float32
    assert columns["i_cmodel_mag"].tolist() == [20.5]
    extra = {"i_cmodel_mag": ("D", [20.1])}
    write_catalog(tmp_path, [(12, 25)], extra=extra, i_cmodel_mag=None)
    with pytest.raises(NativeFileError, match="i_cmodel_mag"):
        read_small(tmp_path)


def test_batches_do_not_change_what_is_read(tmp_path, monkeypatch):
    """Read two at a time or all at once, every object has the same cutout."""
    rng = np.random.default_rng(0)
    write_catalog(tmp_path, rng.uniform(0, SIZE - 1, (11, 2)))
    write_calexp(tmp_path, "g")
    whole, _ = read_small(tmp_path)
    monkeypatch.setattr(hsc, "_OBJECTS_PER_BATCH", 2)
    (unit,) = SMALL.units(tmp_path)
    assert [len(batch["ra"]) for batch in SMALL.read(unit)] == [2, 2, 2, 2, 2, 1]
    parts, _ = read_small(tmp_path)
    for name, values in whole.items():
        np.testing.assert_array_equal(parts[name], values)


def test_tile_compressed_coadds_read_like_plain_ones(tmp_path):
    """Lossless gzip tiles, as the survey publishes, give the same pixels as plain images."""

    def packed(plane, header):
        return fits.CompImageHDU(plane, header, compression_type="GZIP_2", quantize_level=0)

    mask = np.arange(SIZE * SIZE, dtype="i4").reshape(SIZE, SIZE)
    for name, wrap in (("plain", fits.ImageHDU), ("packed", packed)):
        write_catalog(tmp_path / name, [(12, 25), (3, 3)])
        write_calexp(tmp_path / name, "g", mask=mask, wrap=wrap)
    plain, _ = read_small(tmp_path / "plain")
    compressed, _ = read_small(tmp_path / "packed")
    for name, values in plain.items():
        np.testing.assert_array_equal(compressed[name], values)


def test_psf_width_is_that_of_the_moments():
    """Moments of 0.09 arcsec2 are a FWHM of 0.706 arcsec; moments of 0 are no width."""
    formula = SURVEY.aliases["image"].fields["psf_fwhm"]
    assert isinstance(formula, Stack)
    values = {
        "r_sdssshape_psf_shape11": np.array([0.09, 0.0, np.nan]),
        "r_sdssshape_psf_shape22": np.array([0.09, 0.0, 0.09]),
        "r_sdssshape_psf_shape12": np.array([0.0, 0.0, 0.0]),
    }
    widths = evaluate(formula.columns[1].expression, values)
    np.testing.assert_allclose(widths, [0.70644601, np.nan, np.nan], rtol=1e-7)


def test_go_to_magnitude_is_dereddened():
    """The magnitude is i_cmodel_mag - a_i."""
    values = {"i_cmodel_mag": np.array([21.5]), "a_i": np.array([0.25])}
    assert evaluate(SURVEY.aliases["mag"].expression, values).tolist() == [21.25]


def test_one_count_is_the_flux_at_zero_point_27(tmp_path):
    """The declared unit is 10 ** (-0.4 * 4.5) nanomaggies, and the header's zero point is kept."""
    assert float(SURVEY["image_array"].unit.split()[0]) == pytest.approx(10**-1.8)
    assert float(SURVEY["image_ivar"].unit.split()[0]) == pytest.approx(10**3.6)
    write_catalog(tmp_path, [(12, 25)])
    write_calexp(tmp_path, "g")
    columns, _ = read_small(tmp_path)
    assert columns["image_zero_point"][0, 0] == 27


def test_units_of_all_columns_are_understood():
    """Astropy parses the unit of every column."""
    from astropy.units import Unit

    for column in SURVEY.columns:
        Unit(column.unit)


def test_the_survey_travels_to_other_processes():
    """The value, with its reading functions, survives pickling."""
    again = pickle.loads(pickle.dumps(SURVEY))
    assert again.columns == SURVEY.columns
    assert again.aliases == SURVEY.aliases


# --------------------------------------------------------------------------------------
# The selection


def flags(n, **changed):
    values = {name: ("L", np.zeros(n, bool)) for name in hsc._cut_columns()}
    values |= {f"{b}_inputcount_value": ("E", np.full(n, 3.0)) for b in hsc.BANDS}
    values["isprimary"] = ("L", np.ones(n, bool))
    for name, array in changed.items():
        values[name] = (values[name][0], np.asarray(array))
    return values


def test_the_selection_is_an_option(tmp_path):
    """With cuts, each object that fails is counted with the first cut it fails."""
    extra = flags(
        6,
        isprimary=[True, False, True, True, True, True],
        y_inputcount_value=[3, 3, 2, 3, 3, 3],
        z_cmodel_flag=[False, False, False, True, False, False],
    )
    magnitudes = np.array([22.4, 20, 20, 20, 22.5, np.nan], "f4")
    write_catalog(tmp_path, [(12, 25)] * 6, extra=extra, i_cmodel_mag=magnitudes)
    write_calexp(tmp_path, "g")
    columns, rejected = read_all(make_survey(cutout=8, cuts=True), tmp_path)
    assert columns["object_id"].tolist() == [7]
    assert not any(item.fault for item in rejected)
    assert [(item.key, item.reason) for item in rejected] == [
        ("8", "not primary"),
        ("9", "fewer than 3 exposures in y"),
        ("10", "z_cmodel_flag is set"),
        ("11", "not brighter than 22.5 in i_cmodel_mag"),
        ("12", "not brighter than 22.5 in i_cmodel_mag"),
    ]
    assert len(read_small(tmp_path)[0]["object_id"]) == 6


def test_the_selection_needs_its_columns(tmp_path):
    """With cuts, a catalogue without the flags is refused by the name of the column."""
    write_catalog(tmp_path, [(12, 25)])
    write_calexp(tmp_path, "g")
    with pytest.raises(NativeFileError, match="isprimary"):
        read_all(make_survey(cuts=True), tmp_path)


# --------------------------------------------------------------------------------------
# Bad input


def two_patches(tmp_path):
    write_catalog(tmp_path, [(12, 25), (13, 25)], patch=np.array([404, 405]))
    write_calexp(tmp_path, "g", where=(9813, 405))
    return write_calexp(tmp_path, "g")


def expect_first_rejected(tmp_path, reason):
    columns, rejected = read_small(tmp_path)
    assert columns["object_id"].tolist() == [8]
    (item,) = rejected
    assert item.key == "7"
    assert reason in item.reason
    assert str(tmp_path) not in item.reason


def test_a_truncated_coadd_rejects_its_objects_only(tmp_path):
    """A coadd cut short is never read; the other patch is delivered."""
    path = two_patches(tmp_path)
    path.write_bytes(path.read_bytes()[:-4000])
    expect_first_rejected(tmp_path, "calexp-HSC-G-9813-4,4.fits: expected")


def test_a_broken_tile_rejects_its_objects_only(tmp_path):
    """A compressed coadd with garbage in a tile is never read as pixels."""
    two_patches(tmp_path)

    def packed(plane, header):
        return fits.CompImageHDU(plane, header, compression_type="GZIP_1", quantize_level=0)

    path = write_calexp(tmp_path, "g", wrap=packed)
    with fits.open(path, disable_image_compression=True) as hdus:
        header = hdus[1].header
        start = hdus[1].fileinfo()["datLoc"] + header["NAXIS1"] * header["NAXIS2"]
        stop = start + header["PCOUNT"]
    broken = bytearray(path.read_bytes())
    broken[start:stop] = b"\x07" * (stop - start)
    path.write_bytes(broken)
    expect_first_rejected(tmp_path, "calexp-HSC-G-9813-4,4.fits: expected")


@pytest.mark.parametrize("plane", ["IMAGE", "MASK", "VARIANCE"])
def test_a_coadd_without_a_plane_rejects_its_objects_only(tmp_path, plane):
    """A coadd that lacks an image, a mask or a variance is not used."""
    two_patches(tmp_path)
    write_calexp(tmp_path, "g", drop=(plane,))
    expect_first_rejected(tmp_path, "expected")


def test_a_coadd_of_another_zero_point_is_refused(tmp_path):
    """A FLUXMAG0 that would make the declared unit wrong rejects the objects."""
    two_patches(tmp_path)
    write_calexp(tmp_path, "g", fluxmag0=10**10)
    expect_first_rejected(tmp_path, "FLUXMAG0")


def test_a_mask_without_names_is_refused(tmp_path):
    """A mask whose header names no plane rejects the objects."""
    two_patches(tmp_path)
    write_calexp(tmp_path, "g", planes={})
    expect_first_rejected(tmp_path, "mask planes")


def test_a_catalogue_without_a_column_is_named(tmp_path):
    """A catalogue that lacks a column is refused by the name of the column."""
    write_catalog(tmp_path, [(12, 25)], z_cmodel_magerr=None)
    write_calexp(tmp_path, "g")
    with pytest.raises(NativeFileError, match="z_cmodel_magerr"):
        read_small(tmp_path)


def test_a_broken_catalogue_does_not_stop_the_others(tmp_path):
    """Of two catalogues one is cut short: it alone is refused."""
    path = write_catalog(tmp_path, [(12, 25)], name="a.fits")
    write_catalog(tmp_path, [(13, 25)], name="b.fits")
    path.write_bytes(path.read_bytes()[:-2880])
    write_calexp(tmp_path, "g")
    broken, whole = SMALL.units(tmp_path)
    with pytest.raises(NativeFileError, match=r"a\.fits"):
        list(SMALL.read(broken))
    (batch,) = SMALL.read(whole)
    assert batch["object_id"].tolist() == [7]


def test_an_empty_folder_says_what_was_sought(tmp_path):
    """An empty folder, and one without coadds, name the files that are missing."""
    with pytest.raises(NativeFileError, match=r"a catalogue \*\.fits"):
        list(SURVEY.units(tmp_path))
    write_catalog(tmp_path, [(12, 25)])
    with pytest.raises(NativeFileError, match="calexp-HSC"):
        list(SURVEY.units(tmp_path))


def test_two_coadds_of_one_patch_are_refused(tmp_path):
    """Two files for the same band and patch are an error, not a choice."""
    write_catalog(tmp_path, [(12, 25)])
    write_calexp(tmp_path, "g")
    write_calexp(tmp_path / "copy", "g")
    with pytest.raises(NativeFileError, match="one coadd for each band and patch"):
        list(SURVEY.units(tmp_path))


# --------------------------------------------------------------------------------------
# Real files


@pytest.fixture
def real_calexp(real_data):
    with FitsFile(real_data / "images/hsc_lsstpipe/HSC-0908120-056-small.fits") as file:
        yield _calexp.Calexp.of(file)


@pytest.mark.real
def test_real_mask_planes_are_put_at_the_declared_bits(real_calexp):
    """The pipeline's own numbering (NO_DATA 9, CROSSTALK 8) is translated by name."""
    planes = real_calexp.mask_planes
    assert planes == {
        "BAD": 0,
        "CR": 3,
        "CROSSTALK": 8,
        "DETECTED": 5,
        "DETECTED_NEGATIVE": 6,
        "EDGE": 4,
        "INTRP": 2,
        "NO_DATA": 9,
        "SAT": 1,
        "SUSPECT": 7,
        "UNMASKEDNAN": 10,
    }
    native = real_calexp.file.image(real_calexp.mask)
    assert native.dtype == np.dtype("<u2")
    mask = _calexp.mask_with_declared_bits(native, planes)
    for name, bit in planes.items():
        np.testing.assert_array_equal((mask >> _calexp.BITS[name]) & 1, (native >> bit) & 1)
    assert ((native >> 8) & 1).sum() == ((mask >> 10) & 1).sum() > 0
    assert not (mask >> 8 & 1).any()


@pytest.mark.real
def test_real_pixels_and_variance_are_read_bit_for_bit(real_calexp, real_data):
    """Pixels equal the file's, and the weight is 1 / variance where the mask allows it."""
    path = real_data / "images/hsc_lsstpipe/HSC-0908120-056-small.fits"
    with fits.open(path) as hdus:
        image, mask, variance = (hdus[number].data.copy() for number in (1, 2, 3))
    strip = real_calexp.file.image(real_calexp.image, rows=slice(50, 90))
    assert strip.dtype == np.dtype("<f4")
    np.testing.assert_array_equal(strip, image[50:90])
    bits = _calexp.mask_with_declared_bits(mask, real_calexp.mask_planes)
    weight = _calexp.inverse_variance(variance.astype("f4"), image.astype("f4"), bits)
    bad = mask & (1 << 0 | 1 << 1 | 1 << 9) != 0
    np.testing.assert_array_equal(weight, np.where(bad, 0, 1 / variance).astype("f4"))
    assert weight.max() == pytest.approx(1 / 403.86322, rel=1e-6)


@pytest.mark.real
def test_real_positions_fall_on_their_pixels(real_calexp):
    """The centre of the real image is at 151.40673 +1.65039, distortions included."""
    pixels = real_calexp.pixels_of(np.array([151.40673]), np.array([1.65039]))
    np.testing.assert_allclose(pixels, [[99.5, 99.5]], atol=0.3)


@pytest.mark.real
def test_real_exposure_without_a_zero_point_is_refused(real_calexp):
    """The test exposure has FLUXMAG0 = 0, which is no zero point."""
    with pytest.raises(NativeFileError, match="FLUXMAG0"):
        real_calexp.zero_point  # noqa: B018
