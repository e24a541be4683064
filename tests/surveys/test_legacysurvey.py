"""Legacy Surveys: catalogues of several releases, stamps at the right pixel, bands that exist."""

import hashlib
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

import astropile
from astropile.errors import NativeFileError
from astropile.schema import Rejected
from astropile.simulate import legacysurvey as simulate
from astropile.simulate.galaxies import make_galaxies
from astropile.surveys import legacysurvey
from astropile.surveys._brick import BANDS, Brick, Grid, first_pixel
from astropile.surveys._fits import FitsFile
from astropile.surveys._legacy import MASKBITS, SWEEP_COLUMNS
from astropile.surveys.legacysurvey import SOUTH_21, SURVEY, Cuts, make_survey
from astropile.testing import read_all

BRICK = "1126p222"
STEP = 0.262 / 3600
GRID = Grid((40, 50), (112.6, 22.25), (20.5, 25.5), (-STEP, 0.0, 0.0, STEP))
"""A coadd of 40 rows and 50 columns, by hand."""

SMALL = make_survey("small", size=8)
GALAXIES = make_galaxies(20, seed=5, radius_deg=0.02)


@pytest.fixture(scope="module")
def native(tmp_path_factory):
    """The simulated sky in the official layout: two bricks, one without i band."""
    folder = tmp_path_factory.mktemp("legacysurvey")
    simulate.write(folder, GALAXIES, seed=5)
    return folder


def bit(*names):
    return sum(1 << MASKBITS[name] for name in names)


def sky(x, y, grid=GRID):
    """Positions of pixels, counted from 0, by astropy."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    wcs.wcs.crval, wcs.wcs.crpix = grid.crval, grid.crpix
    wcs.wcs.cd = np.reshape(grid.cd, (2, 2))
    return wcs.wcs_pix2world(np.atleast_1d(x), np.atleast_1d(y), 0)


def coadd(path, plane, grid=GRID, **cards):
    """Write a plane without loss, with the cards that matter."""
    header = fits.Header(
        {
            "CTYPE1": "RA---TAN",
            "CTYPE2": "DEC--TAN",
            "CRVAL1": grid.crval[0],
            "CRVAL2": grid.crval[1],
            "CRPIX1": grid.crpix[0],
            "CRPIX2": grid.crpix[1],
            **dict(zip(("CD1_1", "CD1_2", "CD2_1", "CD2_2"), grid.cd, strict=True)),
            **cards,
        }
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    hdu = fits.CompImageHDU(plane, header, compression_type="GZIP_1", quantize_level=0)
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path, overwrite=True)
    return path


def coadd_path(folder, kind, brick=BRICK):
    return folder / "coadd" / brick[:3] / brick / f"legacysurvey-{brick}-{kind}.fits.fz"


def planes(grid=GRID, bands="grz", **changed):
    """Make planes in which every pixel has a value of its own."""
    count = np.arange(np.prod(grid.shape), dtype=np.float32).reshape(grid.shape)
    made = {"maskbits": np.zeros(grid.shape, np.int16)}
    for number, band in enumerate(bands):
        made[f"image-{band}"] = count + 10000 * number
        made[f"invvar-{band}"] = count + 1
    return {**made, **{name.replace("_", "-"): plane for name, plane in changed.items()}}


def put_brick(folder, made, grid=GRID, brick=BRICK):
    for kind, plane in made.items():
        coadd(coadd_path(folder, kind, brick), plane, grid)


def rows_of(ra, dec, **changed):
    """Columns of a catalogue with objects at positions."""
    n = len(ra)
    values = {column.name: np.zeros((n, *column.shape), column.dtype) for column in SWEEP_COLUMNS}
    values.update(
        RELEASE=np.full(n, 10000, np.int16),
        BRICKID=np.full(n, 431000, np.int32),
        BRICKNAME=np.full(n, BRICK.encode()),
        OBJID=np.arange(n, dtype=np.int32),
        TYPE=np.full(n, b"EXP "),
        RA=np.asarray(ra, float),
        DEC=np.asarray(dec, float),
        EBV=np.full(n, 0.1, np.float32),
    )
    for band in "GRIZ":
        values[f"FLUX_{band}"][:] = 100
        values[f"MW_TRANSMISSION_{band}"][:] = 0.8
        values[f"NOBS_{band}"][:] = 2
        values[f"PSFSIZE_{band}"][:] = 1.25
    values.update(changed)
    return {name: value for name, value in values.items() if value is not None}


def table(path, columns, name="SWEEP"):
    path.parent.mkdir(parents=True, exist_ok=True)
    formats = {"f4": "E", "f8": "D", "i2": "I", "i4": "J", "i8": "K", "u1": "B", "b1": "L"}
    made = []
    for key, values in columns.items():
        code = f"{values.dtype.itemsize}A" if values.dtype.kind == "S" else None
        width = int(np.prod(values.shape[1:], dtype=int))
        made.append(
            fits.Column(key, code or f"{width}{formats[values.dtype.str[1:]]}", array=values)
        )
    hdu = fits.BinTableHDU.from_columns(made, name=name)
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path, overwrite=True)
    return path


SWEEP = "sweep/10.1/sweep-110p020-120p025.fits"


def put(folder, x, y, made=None, **changed):
    """Write one brick and a sweep with objects at its pixels x, y."""
    put_brick(folder, planes() if made is None else made)
    table(folder / SWEEP, rows_of(*sky(x, y), **changed))
    return folder


def reasons(rejected):
    return {(item.reason, item.count, item.fault) for item in rejected}


# -- stamps


def test_stamps_are_the_pixels_of_the_coadds_bit_for_bit(native):
    """Every stamp equals the window of its coadd that its columns name, in every plane."""
    columns, rejected = read_all(SURVEY, native)
    assert rejected == []
    assert len(columns["RA"]) == 20
    assert columns["image_array"].shape == (20, 4, 160, 160)
    for row, name in enumerate(columns["BRICKNAME"].tolist()):
        y0, x0 = columns["image_y0"][row], columns["image_x0"][row]
        window = (slice(y0, y0 + 160), slice(x0, x0 + 160))
        folder = native / "south"
        for kind, values in (
            *((f"image-{b}", columns["image_array"][row, i]) for i, b in enumerate(BANDS)),
            *((f"invvar-{b}", columns["image_invvar"][row, i]) for i, b in enumerate(BANDS)),
            ("maskbits", columns["image_maskbits"][row]),
        ):
            path = coadd_path(folder, kind, name.decode())
            if path.exists():
                assert values.tobytes() == fits.getdata(path, 1)[window].tobytes(), kind
            else:
                assert kind.endswith("-i")
                assert not values.any()


def test_object_lies_on_its_own_pixel(tmp_path):
    """A source on one pixel of the coadd is on the pixel of its position in the stamp."""
    made = planes()
    made["image-r"] = np.zeros(GRID.shape, np.float32)
    made["image-r"][17, 23] = 1
    columns, _ = read_all(SMALL, put(tmp_path, 23, 17, made))
    assert np.argwhere(columns["image_array"][0, 1]).tolist() == [[4, 4]]
    assert columns["image_x"] == pytest.approx(4, abs=1e-6)
    assert columns["image_y"] == pytest.approx(4, abs=1e-6)
    assert (columns["image_x0"][0], columns["image_y0"][0]) == (19, 13)


@pytest.mark.parametrize("size", [7, 8])
def test_middle_of_a_stamp_is_within_half_a_pixel(size):
    """The middle of a stamp, of even or odd side, is at most half a pixel from the object."""
    centre = np.linspace(30, 32, 101)
    middle = first_pixel(centre, size) + (size - 1) / 2
    assert np.abs(middle - centre).max() <= 0.5 + 1e-12


@pytest.mark.parametrize("dec", [22.25, 80.5, -89.9, 0.0])
def test_pixels_are_those_of_astropy(dec):
    """Positions fall on the same pixels as with astropy's tangent plane, near the pole too."""
    grid = Grid((3600, 3600), (0.05, dec), (1800.5, 1700.5), (-STEP, 1e-6, 2e-6, STEP))
    x, y = np.meshgrid(np.linspace(-10, 3610, 7), np.linspace(-10, 3610, 7))
    ra, dec_deg = sky(x.ravel(), y.ravel(), grid)
    got_x, got_y = grid.pixels(ra % 360, dec_deg)
    np.testing.assert_allclose(got_x, x.ravel(), atol=1e-6)
    np.testing.assert_allclose(got_y, y.ravel(), atol=1e-6)


def test_stamp_over_the_edge_is_blank_and_bad_there(tmp_path):
    """Outside the coadd a stamp has no weight, is bad and NPRIMARY; inside it is as it is."""
    columns, rejected = read_all(SMALL, put(tmp_path, [0, 49], [0, 39]))
    assert rejected == []
    array, bad = columns["image_array"][:, 0], columns["image_bad"][:, 0]
    source = planes()["image-g"]
    assert (columns["image_x0"].tolist(), columns["image_y0"].tolist()) == ([-4, 45], [-4, 35])
    np.testing.assert_array_equal(array[0, 4:, 4:], source[:4, :4])
    np.testing.assert_array_equal(array[1, :5, :5], source[35:, 45:])
    outside = np.ones((8, 8), bool)
    outside[4:, 4:] = False
    assert not columns["image_invvar"][0, :, outside].any()
    assert bad[0, outside].all()
    assert not bad[0, ~outside].any()
    assert set(columns["image_maskbits"][0, outside].tolist()) == {bit("NPRIMARY")}
    assert not columns["image_maskbits"][0, ~outside].any()


def test_mask_bits_are_kept_and_only_real_defects_are_bad(tmp_path):
    """All bits stay in the plane; SATUR and ALLMASK are bad in their own band, others nowhere."""
    maskbits = np.zeros(GRID.shape, np.int16)
    maskbits[20, 25] = bit("SATUR_R", "BRIGHT")
    maskbits[21, 25] = bit("ALLMASK_G")
    maskbits[22, 25] = bit("NPRIMARY", "BRIGHT", "MEDIUM", "GALAXY", "WISEM1", "BAILOUT")
    columns, _ = read_all(SMALL, put(tmp_path, 25, 20, planes(maskbits=maskbits)))
    middle = [columns["image_maskbits"][0, row, 4] for row in (4, 5, 6)]
    assert middle == maskbits[20:23, 25].tolist()
    bad = columns["image_bad"][0]
    assert bad[:, 4, 4].tolist() == [False, True, True, False]
    assert bad[:, 5, 4].tolist() == [True, False, True, False]
    assert bad[:, 6, 4].tolist() == [False, False, True, False]


def test_bits_of_the_i_band_are_bad_in_i(tmp_path):
    """SATUR_I and ALLMASK_I, new in DR10, count in the i band alone."""
    maskbits = np.zeros(GRID.shape, np.int32)
    maskbits[20, 25], maskbits[20, 26] = bit("SATUR_I"), bit("ALLMASK_I", "SUB_BLOB")
    columns, _ = read_all(SMALL, put(tmp_path, 25, 20, planes(bands="griz", maskbits=maskbits)))
    assert columns["image_bad"][0, :, 4, 4].tolist() == [False, False, True, False]
    assert columns["image_bad"][0, :, 4, 5].tolist() == [False, False, True, False]
    assert columns["image_maskbits"][0, 4, 5] == (1 << 15) + (1 << 16)


def test_pixel_without_weight_is_bad_and_native_values_stay(tmp_path):
    """An inverse variance that is 0, negative, NaN or infinite makes the pixel bad, unchanged."""
    invvar = planes()["invvar-g"]
    invvar[20, 24:29] = [0, -1, np.nan, np.inf, 4]
    put(tmp_path / "native", 25, 20, planes(invvar_g=invvar))
    columns, _ = read_all(SMALL, tmp_path / "native")
    np.testing.assert_array_equal(columns["image_invvar"][0, 0, 4, 3:8], [0, -1, np.nan, np.inf, 4])
    assert columns["image_bad"][0, 0, 4, 3:8].tolist() == [True] * 4 + [False]
    astropile.build_catalog(SMALL, tmp_path / "native", tmp_path / "tree")
    image = astropile.open_catalog(tmp_path / "tree").standard([0]).to_pylist()[0]["image"][0]
    ivar = np.array(image["ivar"])
    assert ivar[4, 3:8].tolist() == [0, 0, 0, 0, 4]
    assert np.isfinite(ivar).all()
    assert np.array(image["mask"])[4, 3:8].tolist() == [True] * 4 + [False]


def test_noise_is_that_of_the_good_pixels(tmp_path):
    """The noise is the median inverse variance of good pixels to the power -1/2, or NaN."""
    made = planes()
    made["invvar-g"] = np.where(np.arange(50) < 24, 0, 25).astype(np.float32) + 0 * made["image-g"]
    made["invvar-r"] = np.zeros(GRID.shape, np.float32)
    made["invvar-z"] = np.full(GRID.shape, 4, np.float32)
    columns, _ = read_all(SMALL, put(tmp_path, 25, 20, made))
    noise = columns["image_noise_std"][0]
    assert noise[0] == np.float32(0.2)
    assert noise[3] == 0.5
    assert np.isnan(noise[[1, 2]]).all()


def test_objects_are_joined_by_brick_name_and_position(tmp_path):
    """The order of a catalogue's rows does not change what any object gets."""
    ra, dec = sky([10, 30, 20], [12, 8, 30])
    other = Grid((40, 50), (112.9, 22.25), (20.5, 25.5), GRID.cd)
    ra_2, dec_2 = sky([25], [20], other)
    every = rows_of(
        [*ra, *ra_2],
        [*dec, *dec_2],
        BRICKNAME=np.array([BRICK.encode()] * 3 + [b"1129p222"]),
    )
    for name, order in (("a", [0, 1, 2, 3]), ("b", [3, 1, 2, 0])):
        put_brick(tmp_path / name, planes())
        put_brick(tmp_path / name, {k: v + 5 for k, v in planes().items()}, other, "1129p222")
        table(tmp_path / name / SWEEP, {k: v[order] for k, v in every.items()})
    first, _ = read_all(SMALL, tmp_path / "a")
    second, _ = read_all(SMALL, tmp_path / "b")
    rows = [second["object_id"].tolist().index(name) for name in first["object_id"].tolist()]
    for name, values in first.items():
        np.testing.assert_array_equal(values, second[name][rows], err_msg=name)
    centre = dict(
        zip(first["object_id"].tolist(), first["image_array"][:, 0, 4, 4].tolist(), strict=True)
    )
    assert centre == {
        b"10000-431000-0": 12 * 50 + 10,
        b"10000-431000-1": 8 * 50 + 30,
        b"10000-431000-2": 30 * 50 + 20,
        b"10000-431000-3": 20 * 50 + 25 + 5,
    }


def test_batches_give_what_one_reading_gives(native, monkeypatch):
    """Small units and batches give the same objects as large ones."""
    whole, _ = read_all(SURVEY, native)
    monkeypatch.setattr(legacysurvey, "_ROWS_PER_UNIT", 6)
    monkeypatch.setattr(legacysurvey, "_BATCH_BYTES", 3 * 160 * 160 * 40)
    parts, _ = read_all(SURVEY, native)
    rows = [parts["object_id"].tolist().index(name) for name in whole["object_id"].tolist()]
    for name, values in whole.items():
        np.testing.assert_array_equal(parts[name][rows], values, err_msg=name)


# -- bands and files that are not there


def test_band_without_coadd_is_left_out(native, tmp_path):
    """Where a brick has no i band, its objects say so and their image has three entries."""
    report = astropile.build_catalog(SURVEY, native, tmp_path / "tree")
    assert (report.n_written, report.n_rejected) == (20, 0)
    catalog = astropile.open_catalog(tmp_path / "tree")
    seen = set()
    for record in catalog.standard(np.arange(20)).to_pylist():
        bands = tuple(image["filter"] for image in record["image"])
        present = simulate.has_i(record["BRICKID"])
        assert bands == (("g", "r", "i", "z") if present else ("g", "r", "z"))
        seen.add(bands)
    assert len(seen) == 2


def test_image_without_inverse_variance_rejects_the_brick(tmp_path):
    """A coadd whose twin is missing is an incomplete download: its objects are counted out."""
    made = planes()
    del made["invvar-r"]
    columns, rejected = read_all(SMALL, put(tmp_path, [10, 20], [20, 20], made))
    assert len(columns["RA"]) == 0
    assert reasons(rejected) == {(legacysurvey.BROKEN_COADD, 2, True)}
    assert rejected[0].key == f"legacysurvey-{BRICK}-image-r.fits.fz"


def test_brick_without_coadds_is_rejected_unless_allowed(tmp_path):
    """Objects without any coadd are rejected; on request they come without images."""
    table(tmp_path / SWEEP, rows_of([112.6], [22.25]))
    columns, rejected = read_all(SMALL, tmp_path)
    assert len(columns["RA"]) == 0
    assert reasons(rejected) == {(legacysurvey.NO_COADD, 1, True)}
    columns, rejected = read_all(make_survey("catalogue", size=8, need_images=False), tmp_path)
    assert rejected == []
    assert not columns["image_present"].any()
    assert columns["image_bad"].all()


def test_missing_maskbits_reject_from_dr7_on(tmp_path):
    """From DR7 on a brick without maskbits is incomplete; before, there were none."""
    made = planes()
    del made["maskbits"]
    _, rejected = read_all(SMALL, put(tmp_path / "a", 20, 20, made))
    assert reasons(rejected) == {(legacysurvey.NO_MASKBITS, 1, True)}
    old = put(tmp_path / "b", 20, 20, made, RELEASE=np.array([6000], np.int16))
    columns, rejected = read_all(SMALL, old)
    assert rejected == []
    assert columns["image_has_maskbits"].tolist() == [False]
    assert not columns["image_maskbits"].any()
    assert columns["image_bad"][0].any(axis=(1, 2)).tolist() == [False, False, True, False]


@pytest.mark.parametrize("how", ["truncated", "tile", "grid", "scale", "empty", "type"])
def test_broken_coadd_rejects_its_brick_alone(native, tmp_path, how):
    """A coadd that cannot be used costs the objects of its brick, counted, and no others."""
    shutil.copytree(native, tmp_path / "native")
    whole, _ = read_all(SURVEY, native)
    names, counts = np.unique(whole["BRICKNAME"], return_counts=True)
    path = coadd_path(tmp_path / "native" / "south", "image-r", names[0].decode())
    content = path.read_bytes()
    if how == "truncated":
        path.write_bytes(content[: len(content) * 2 // 3])
    elif how == "tile":
        middle = len(content) // 2
        path.write_bytes(content[:middle] + b"\xff" * 5000 + content[middle + 5000 :])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "type":
        table(path, {"RA": np.zeros(3)})
    else:
        plane, header = fits.getdata(path, 1, header=True)
        header["CRPIX1" if how == "grid" else "CD1_1"] *= 1.01
        cards = {key: header[key] for key in ("CRPIX1", "CD1_1")}
        grid = FitsGrid.of(path)
        coadd(path, plane, grid, **cards)
    columns, rejected = read_all(SURVEY, tmp_path / "native")
    assert set(columns["BRICKNAME"].tolist()) == {names[1]}
    assert len(columns["RA"]) == counts[1]
    assert reasons(rejected) == {(legacysurvey.BROKEN_COADD, int(counts[0]), True)}
    kept = whole["BRICKNAME"] == names[1]
    for name, values in columns.items():
        np.testing.assert_array_equal(values, whole[name][kept], err_msg=name)


class FitsGrid:
    """The grid of a file."""

    @staticmethod
    def of(path):
        with FitsFile(path) as file:
            return Grid.of(file)


def test_object_outside_its_brick_is_rejected(tmp_path):
    """An object whose stamp would hold no pixel is counted out; one pixel is enough."""
    columns, rejected = read_all(SMALL, put(tmp_path, [-3.4, -8, 25, 25], [20, 20, 90, 20]))
    assert sorted(columns["OBJID"].tolist()) == [0, 3]
    assert reasons(rejected) == {(legacysurvey.OUTSIDE_COADD, 2, True)}


def test_position_that_is_none_is_rejected_by_the_build(tmp_path):
    """A NaN position passes the reader, with nothing but bad pixels, and the build rejects it."""
    native = put(tmp_path / "native", [20, 30], [20, 20])
    rows = rows_of(*sky([20, 30], [20, 20]))
    rows["RA"][1] = np.nan
    table(native / SWEEP, rows)
    columns, _ = read_all(SMALL, native)
    blank = columns["OBJID"].tolist().index(1)
    assert columns["image_bad"][blank].all()
    report = astropile.build_catalog(SMALL, native, tmp_path / "tree", tolerance=0.5)
    assert (report.n_written, dict(report.reasons)) == (1, {"position is not finite": 1})


# -- catalogues


def test_columns_are_as_in_the_catalogue(native):
    """Native columns have the catalogue's bits, joined by identifier."""
    columns, _ = read_all(SURVEY, native)
    ids = columns["object_id"].tolist()
    n_checked = 0
    for path in sorted((native / "south" / "sweep").rglob("*.fits")):
        with fits.open(path) as hdus:
            source = hdus[1].data
            keys = zip(source["RELEASE"], source["BRICKID"], source["OBJID"], strict=True)
            rows = [ids.index("{}-{}-{}".format(*key).encode()) for key in keys]
            for name in hdus[1].columns.names:
                values = source[name]
                if values.dtype.kind == "U":
                    values = np.char.rstrip(np.char.encode(values, "ascii"))
                np.testing.assert_array_equal(columns[name][rows], values, err_msg=name)
            n_checked += len(rows)
    assert n_checked == len(ids) == 20


def test_identifier_is_text_of_the_three_keys(tmp_path):
    """The identifier is release-brickid-objid as plain text, not the repr of bytes."""
    columns, _ = read_all(SMALL, put(tmp_path, 20, 20))
    assert columns["object_id"].tolist() == [b"10000-431000-0"]
    survey = make_survey("small", size=8)
    astropile.build_catalog(survey, tmp_path, tmp_path / "tree")
    record = astropile.open_catalog(tmp_path / "tree").standard([0]).to_pylist()[0]
    assert record["object_id"] == "10000-431000-0"


def test_tractor_catalogues_are_read_where_there_is_no_sweep(native, tmp_path):
    """Tractor catalogues, lower-case and by brick, give the same objects as the sweeps."""
    shutil.copytree(native, tmp_path / "native")
    shutil.rmtree(tmp_path / "native" / "south" / "sweep")
    survey = make_survey("small", size=8)
    sweep, _ = read_all(survey, native)
    tractor, rejected = read_all(survey, tmp_path / "native")
    assert rejected == []
    rows = [tractor["object_id"].tolist().index(name) for name in sweep["object_id"].tolist()]
    for name, values in sweep.items():
        np.testing.assert_array_equal(tractor[name][rows], values, err_msg=name)


def test_pixel_agrees_with_bx_and_by(native):
    """Our pixel of an object is BX, BY of its Tractor catalogue: both count from 0."""
    columns, _ = read_all(make_survey("small", size=8), native)
    ids = columns["object_id"].tolist()
    for path in (native / "south" / "tractor").rglob("*.fits"):
        for row in fits.getdata(path, 1):
            key = f"{row['release']}-{row['brickid']}-{row['objid']}"
            mine = ids.index(key.encode())
            x = columns["image_x"][mine] + columns["image_x0"][mine]
            y = columns["image_y"][mine] + columns["image_y0"][mine]
            assert (x, y) == pytest.approx((row["bx"], row["by"]), abs=1e-3)


def test_objects_of_the_neighbouring_brick_are_left_out(tmp_path):
    """Objects outside the brick's own area are left to their own brick, as no fault."""
    put_brick(tmp_path, planes())
    rows = rows_of(*sky([20, 30], [20, 20]), BRICK_PRIMARY=np.array([True, False]))
    lower = {name.lower(): values for name, values in rows.items()}
    table(tmp_path / "tractor" / "112" / f"tractor-{BRICK}.fits", lower)
    columns, rejected = read_all(SMALL, tmp_path)
    assert columns["OBJID"].tolist() == [0]
    assert reasons(rejected) == {(legacysurvey.NOT_PRIMARY, 1, False)}


def test_only_the_latest_sweeps_are_read(tmp_path):
    """Of 10.0 and 10.1 the later counts; companions with other columns are no sweeps."""
    for version in ("9.0", "10.0", "10.1"):
        table(tmp_path / f"sweep/{version}/sweep-110p020-120p025.fits", rows_of([112.6], [22.25]))
    for name in ("10.1-lightcurves/sweep-110p020-120p025-lc", "10.1-photo-z/sweep-110p020-pz"):
        table(tmp_path / f"sweep/{name}.fits", {"RELEASE": np.zeros(1, np.int16)})
    assert [unit.key for unit in SURVEY.units(tmp_path)] == [f"{SWEEP}[0000000:]"]


def test_regions_keep_to_their_own_coadds(tmp_path):
    """North and south of one release are read with the coadds of their own region."""
    for number, region in enumerate(("north", "south")):
        made = {kind: plane + number for kind, plane in planes().items()}
        put_brick(tmp_path / region, made)
        rows = rows_of(*sky(20, 20), RELEASE=np.array([9011 - number], np.int16))
        table(tmp_path / region / "sweep/9.0/sweep-110p020-120p025.fits", rows)
    columns, _ = read_all(SMALL, tmp_path)
    centre = dict(
        zip(columns["RELEASE"].tolist(), columns["image_array"][:, 0, 4, 4].tolist(), strict=True)
    )
    assert centre == {9011: 1020, 9010: 1021}


def test_files_may_lie_flat_in_a_folder(tmp_path):
    """Coadds beside the catalogue, as downloaded one by one, are found."""
    put_brick(tmp_path / "official", planes())
    (tmp_path / "flat").mkdir()
    for path in (tmp_path / "official").rglob("*.fz"):
        path.rename(tmp_path / "flat" / path.name)
    table(tmp_path / "flat" / "sweep-110p020-120p025.fits", rows_of(*sky(20, 20)))
    columns, rejected = read_all(SMALL, tmp_path / "flat")
    assert rejected == []
    assert columns["image_array"][0, 0, 4, 4] == 1020


def test_columns_a_release_lacks_are_said_missing(tmp_path):
    """A DR9 catalogue, without i band columns, is read: NaN and -1 stand for what it lacks."""
    without = {
        column.name: None
        for column in SWEEP_COLUMNS
        if column.name.endswith("_I") or column.name.startswith(("SHAPEDEV", "WISEMASK"))
    }
    folder = put(tmp_path, 20, 20, **without, MASKBITS=np.array([-32768], np.int16))
    columns, rejected = read_all(SMALL, folder)
    assert rejected == []
    assert np.isnan(columns["FLUX_I"]).all()
    assert np.isnan(columns["SHAPEDEV_R"]).all()
    assert columns["NOBS_I"].tolist() == [-1]
    assert columns["WISEMASK_W1"].tolist() == [255]
    assert columns["MASKBITS"].tolist() == [-32768]
    assert columns["image_present"].tolist() == [[True, True, False, True]]


def test_type_is_stored_without_the_blanks_that_pad_it(tmp_path):
    """TYPE of four or three characters compares equal to its name."""
    names = np.array([b"PSF ", b"COMP", b"SER "])
    columns, _ = read_all(SMALL, put(tmp_path, [20, 21, 22], [20, 20, 20], TYPE=names))
    assert sorted(columns["TYPE"].tolist()) == [b"COMP", b"PSF", b"SER"]


# -- selection


def test_selection_is_an_option_and_counts_what_it_drops(tmp_path):
    """Each cut of dr10_south_21 leaves its objects out, for its own reason, as no fault."""
    flux = np.full(6, 100, np.float32)
    flux[1], flux[2] = 3.0, -5.0
    native = put(
        tmp_path,
        np.arange(20, 26),
        np.full(6, 20),
        FLUX_Z=flux,
        NOBS_I=np.array([1, 1, 1, 0, 1, 1], np.int16),
        TYPE=np.array([b"REX ", b"REX ", b"REX ", b"REX ", b"PSF ", b"DEV "]),
        MASKBITS=np.array([bit("GALAXY"), 0, 0, 0, 0, bit("MEDIUM")], np.int32),
    )
    columns, rejected = read_all(make_survey("cut", cuts=Cuts(), size=8), native)
    assert columns["OBJID"].tolist() == [0]
    assert reasons(rejected) == {
        # 21 mag is 3.98 nanomaggies, 3.18 behind dust that lets 0.8 through; the object
        # of negative flux, which v1 kept as of magnitude 0, has none.
        ("cut: not brighter than z = 21.0", 2, False),
        ("cut: no image in i", 1, False),
        ("cut: type PSF", 1, False),
        ("cut: MASKBITS", 1, False),
    }
    everything, rejected = read_all(SMALL, native)
    assert len(everything["RA"]) == 6
    assert rejected == []


def test_named_selection_is_that_of_v1():
    """The subset dr10_south_21 has the cuts and stamps of Multimodal Universe v1."""
    assert (SOUTH_21.subset, SURVEY.subset) == ("dr10_south_21", "dr10_south")
    assert SOUTH_21["image_array"].shape == (4, 160, 160)
    assert sorted(MASKBITS[name] for name in Cuts().without_bits) == [*range(8), 11, 14, 15]


def test_cut_on_a_missing_column_is_an_error(tmp_path):
    """A selection by a column that the catalogue lacks is refused, not taken as passed."""
    native = put(tmp_path, 20, 20, NOBS_I=None)
    with pytest.raises(NativeFileError, match="expected column 'NOBS_I'"):
        read_all(make_survey("cut", cuts=Cuts(), size=8), native)


# -- the standard view


def test_standard_record_of_one_object(tmp_path):
    """Every field of the standard record of one object is as by hand."""
    maskbits = np.zeros(GRID.shape, np.int16)
    maskbits[20, 25] = bit("SATUR_G")
    put(tmp_path / "native", 25, 20, planes(maskbits=maskbits))
    astropile.build_catalog(SMALL, tmp_path / "native", tmp_path / "tree")
    catalog = astropile.open_catalog(tmp_path / "tree")
    columns, _ = read_all(SMALL, tmp_path / "native")
    for name, values in catalog.take([0]).items():
        assert values.tobytes() == columns[name].tobytes(), name
    record = catalog.standard([0]).to_pylist()[0]
    assert record["provenance"] == {
        "project": "DESI Legacy Imaging Surveys",
        "survey": "Legacy Surveys",
        "release": "DR10",
    }
    assert (record["ra"], record["dec"]) == (columns["RA"][0], columns["DEC"][0])
    # 22.5 - 2.5 log10(100 / 0.8)
    assert record["mag"] == pytest.approx(17.257725, abs=1e-5)
    assert record["ebv"] == np.float32(0.1)
    assert [image["filter"] for image in record["image"]] == ["g", "r", "z"]
    image = record["image"][0]
    assert set(image) == {
        "array",
        "ivar",
        "mask",
        "psf_fwhm",
        "pixel_size",
        "noise_std",
        "filter",
        "units",
        "extinction",
    }
    made = planes()
    window = (slice(16, 24), slice(21, 29))
    np.testing.assert_array_equal(np.array(image["array"]), made["image-g"][window])
    ivar = made["invvar-g"][window].copy()
    ivar[4, 4] = 0
    np.testing.assert_array_equal(np.array(image["ivar"]), ivar)
    mask = np.zeros((8, 8), bool)
    mask[4, 4] = True
    np.testing.assert_array_equal(np.array(image["mask"]), mask)
    assert image["psf_fwhm"] == 1.25
    assert image["pixel_size"] == np.float32(0.262)
    assert image["units"] == "nanomaggy"
    assert image["extinction"] == pytest.approx(0.242275, abs=1e-5)
    assert image["noise_std"] == pytest.approx(np.median(ivar[~mask]) ** -0.5)


def test_simulated_tree_holds_what_was_read(native, tmp_path):
    """Native files to a tree: every column comes back bit for bit."""
    astropile.build_catalog(SURVEY, native, tmp_path / "tree")
    columns, _ = read_all(SURVEY, native)
    taken = astropile.open_catalog(tmp_path / "tree").take(np.arange(20))
    rows = [columns["object_id"].tolist().index(name) for name in taken["object_id"].tolist()]
    for name, values in columns.items():
        assert taken[name].tobytes() == values[rows].tobytes(), name


def test_simulated_files_are_the_same_each_time(native, tmp_path):
    """The same galaxies and seed give the same bytes."""
    simulate.write(tmp_path, GALAXIES, seed=5)

    def digests(folder: Path) -> dict[str, str]:
        return {
            path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in folder.rglob("*.f*")
            if path.is_file()
        }

    assert digests(tmp_path) == digests(native)


# -- bad input


@pytest.mark.parametrize("name", ["RELEASE", "BRICKNAME", "OBJID", "RA", "FLUX_R"])
def test_missing_column_is_named(tmp_path, name):
    """A catalogue without a column that none can do without is refused by its name."""
    with pytest.raises(NativeFileError, match=f"no column {name}"):
        read_all(SMALL, put(tmp_path, 20, 20, **{name: None}))


def test_truncated_catalogue_is_refused(native, tmp_path):
    """A catalogue cut short gives an error and no rows of zeros."""
    source = next((native / "south" / "sweep").rglob("*.fits"))
    cut = tmp_path / source.name
    cut.write_bytes(source.read_bytes()[:-2880])
    with pytest.raises(NativeFileError, match="as its headers say"):
        read_all(SMALL, tmp_path)


def test_catalogue_without_table_is_refused(tmp_path):
    """A FITS file without the table is refused by what it holds."""
    fits.PrimaryHDU(np.zeros((2, 2))).writeto(tmp_path / "sweep-110p020-120p025.fits")
    with pytest.raises(NativeFileError, match="expected HDU 1"):
        read_all(SMALL, tmp_path)


def test_column_of_wider_values_is_refused(tmp_path):
    """A value that the declared dtype cannot hold is never cut down to it."""
    with pytest.raises(NativeFileError, match="NOBS_G as int16"):
        read_all(SMALL, put(tmp_path, 20, 20, NOBS_G=np.array([70000], np.int32)))


def test_brick_name_that_is_none_is_rejected(tmp_path):
    """A brick name is never taken for a path."""
    native = put(tmp_path, [20, 21], [20, 20], BRICKNAME=np.array([b"../../xx", b"1126p222"]))
    columns, rejected = read_all(SMALL, native)
    assert columns["OBJID"].tolist() == [1]
    assert reasons(rejected) == {(legacysurvey.NO_BRICK, 1, True)}


@pytest.mark.parametrize("make", [True, False])
def test_folder_without_catalogues_is_refused(tmp_path, make):
    """A folder without catalogue gives one error that says what was looked for."""
    folder = tmp_path / "dr10"
    if make:
        put_brick(folder, planes())
    with pytest.raises(FileNotFoundError, match=r"neither sweep-.* nor tractor-"):
        SURVEY.units(folder)


# -- real files

CATALOGUES = [
    *(f"desitarget_HEAD/t/sweep-{ra}0m005-{ra + 1}0p000.fits" for ra in (31, 32, 33)),
    *(f"desitarget_HEAD/t/tractor-{name}.fits" for name in ("3301m002", "3301m007", "3303p000")),
    "history_dr3_45col/sweep-190m005-200p000.fits",
    "history_dr3_46col/tractor-3303p000.fits",
    "history_dr3_77col/sweep-190m005-200p000.fits",
    "history_dr7_92col/sweep-190m005-200p000.fits",
    "history_dr7_93col/tractor-3303p000.fits",
    "history_dr8_96col/tractor-3303p000.fits",
]


@pytest.mark.real
@pytest.mark.parametrize("name", [*CATALOGUES, "fastspecfit/tractor-1054p567.fits"])
def test_real_catalogue_is_read_bit_for_bit(real_data, tmp_path, name):
    """Every column of a real catalogue, DR3 to DR9, has the file's values; the rest is missing."""
    folder = real_data / ("spectra/desi" if "fastspec" in name else "catalogs/legacysurvey_tractor")
    path = folder / name
    native = tmp_path / path.name
    native.symlink_to(path)
    survey = make_survey("real", size=4, need_images=False)
    columns, rejected = read_all(survey, tmp_path)
    with fits.open(path) as hdus:
        source = hdus[1].data
        n_rejected = sum(item.count for item in rejected)
        assert len(columns["RA"]) + n_rejected == len(source)
        assert reasons(rejected) <= {(legacysurvey.NOT_PRIMARY, n_rejected, False)}
        if rejected:
            assert n_rejected == np.count_nonzero(~source["BRICK_PRIMARY"])
            source["BRICK_PRIMARY"] = True
            native.unlink()
            hdus.writeto(native)
            columns, _ = read_all(survey, tmp_path)
        ids = [
            "{}-{}-{}".format(*key).encode()
            for key in zip(source["RELEASE"], source["BRICKID"], source["OBJID"], strict=True)
        ]
        rows = [ids.index(bytes(name)) for name in columns["object_id"]]
        there = {column.upper() for column in hdus[1].columns.names}
        assert len(there & set(columns)) >= 38
        assert sorted(rows) == list(range(len(source)))
        for column in SWEEP_COLUMNS:
            if column.name in there:
                values = source[column.name][rows]
                if values.dtype.kind == "U":
                    values = np.char.rstrip(np.char.encode(values, "ascii"))
                if values.dtype.kind == "f":
                    got = columns[column.name].astype(values.dtype.newbyteorder("="))
                    assert got.tobytes() == values.astype(got.dtype).tobytes(), column.name
                else:
                    np.testing.assert_array_equal(columns[column.name], values)
            elif column.numpy_dtype.kind == "f":
                assert np.isnan(columns[column.name]).all(), column.name
            elif column.numpy_dtype.kind == "i":
                assert (columns[column.name] == -1).all(), column.name


@pytest.mark.real
@pytest.mark.parametrize(
    "name",
    [
        "history_dr2_33col/sweep-330m005-340p000.fits",
        "history_dr2_44col/sweep-190m005-200p000.fits",
        "history_dr2_94col/tractor-3303p000.fits",
    ],
)
def test_real_catalogue_of_dr2_is_refused(real_data, tmp_path, name):
    """DR2, with all bands in one column and no RELEASE, is refused in one sentence."""
    path = real_data / "catalogs" / "legacysurvey_tractor" / name
    (tmp_path / path.name).symlink_to(path)
    with pytest.raises(NativeFileError, match="expected a catalogue of DR3 or later"):
        read_all(SMALL, tmp_path)


@pytest.mark.real
def test_real_brick_is_cut_bit_for_bit(real_data, tmp_path):
    """Stamps of the real DR6 brick, its edges and gaps included, are its pixels."""
    brick = "0959p805"
    source = real_data / "images/legacysurvey/dr6/coadd/095" / brick
    (tmp_path / "coadd" / "095").mkdir(parents=True)
    (tmp_path / "coadd" / "095" / brick).symlink_to(source)
    data = {
        kind: fits.getdata(source / f"legacysurvey-{brick}-{kind}.fits.fz", 1)
        for kind in ("image-g", "invvar-g", "image-z", "invvar-z")
    }
    seen = np.argwhere(data["invvar-g"] > 0)
    also = np.argwhere(data["invvar-z"] > 0)
    pixels = [*seen[[0, len(seen) // 2, -1]], *also[[0, -1]], [0, 0], [3599, 3599], [2, 1800]]
    y, x = np.array(pixels).T
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wcs = WCS(fits.getheader(source / f"legacysurvey-{brick}-image-g.fits.fz", 1))
    ra, dec = wcs.wcs_pix2world(x, y, 0)
    n = len(x)
    rows = rows_of(
        ra,
        dec,
        RELEASE=np.full(n, 6000, np.int16),
        BRICKID=np.full(n, 657438, np.int32),
        BRICKNAME=np.full(n, brick.encode()),
    )
    table(tmp_path / "sweep-090p080-100p085.fits", rows)
    columns, rejected = read_all(make_survey("dr6", release="DR6", size=32), tmp_path)
    assert rejected == []
    assert len(columns["RA"]) == n
    assert columns["image_present"].tolist() == [[True, False, False, True]] * n
    assert not columns["image_has_maskbits"].any()
    for row, number in enumerate(columns["OBJID"].tolist()):
        y0, x0 = y[number] - 16, x[number] - 16
        assert (columns["image_x0"][row], columns["image_y0"][row]) == (x0, y0)
        for kind, plane in data.items():
            padded = np.pad(plane, 32)
            window = padded[y0 + 32 : y0 + 64, x0 + 32 : x0 + 64]
            column = "image_array" if kind.startswith("image") else "image_invvar"
            got = columns[column][row, BANDS.index(kind[-1])]
            assert got.tobytes() == window.tobytes(), kind
        bad = columns["image_bad"][row]
        np.testing.assert_array_equal(bad, ~(columns["image_invvar"][row] > 0))
    assert (columns["image_invvar"] > 0).any(axis=(1, 2, 3)).sum() >= 5


@pytest.mark.real
def test_real_cutout_of_dr9_has_its_galaxy_in_the_middle(real_data, tmp_path):
    """The DR9 cutout around 59.1067 -30.4848, put as a part of its brick, is cut at its galaxy."""
    source = real_data / "images/legacysurvey/viewer_cutout_pysersic/cutout_59.1067_-30.4848.fits"
    brick = "0591m305"
    with fits.open(source) as hdus:
        header = hdus[1].header
        assert (header["BRICK"], header["VERSION"]) == (brick, "DR9-south")
        grid = Grid(
            hdus[1].shape,
            (header["CRVAL1"], header["CRVAL2"]),
            (header["CRPIX1"], header["CRPIX2"]),
            tuple(header[name] for name in ("CD1_1", "CD1_2", "CD2_1", "CD2_2")),
        )
        data = {
            f"{hdu.header['IMAGETYP']}-{hdu.header['BAND']}": hdu.data.astype(np.float32)
            for hdu in hdus[1:]
        }
    put_brick(tmp_path, {**data, "maskbits": np.zeros(grid.shape, np.int16)}, grid, brick)
    rows = rows_of([59.1067], [-30.4848], BRICKNAME=np.array([brick.encode()]))
    table(tmp_path / "sweep-050m035-060m030.fits", rows)
    columns, rejected = read_all(make_survey("dr9", release="DR9", size=65), tmp_path)
    assert rejected == []
    x0, y0 = columns["image_x0"][0], columns["image_y0"][0]
    # The viewer centres 256 pixels on the position: it is at 127.5 within a pixel.
    assert abs(x0 + 32 - 127.5) <= 1
    assert abs(y0 + 32 - 127.5) <= 1
    window = (slice(y0, y0 + 65), slice(x0, x0 + 65))
    for band in "grz":
        for kind, column in (("image", "image_array"), ("invvar", "image_invvar")):
            got = columns[column][0, BANDS.index(band)]
            assert got.tobytes() == data[f"{kind}-{band}"][window].tobytes()
    brightest = np.unravel_index(columns["image_array"][0, 1].argmax(), (65, 65))
    assert np.abs(np.array(brightest) - 32).max() <= 4


@pytest.mark.real
def test_real_brick_has_the_number_and_centre_of_the_tiling(real_data):
    """The brick grid of the simulated sky is that of the survey, by the real brick table."""
    path = real_data / "images/legacysurvey/dr6/survey-bricks.fits.gz"
    for row in fits.getdata(path, 1):
        place = simulate.brick_at(row["RA"], row["DEC"])
        assert (place.name, place.brickid) == (row["BRICKNAME"], row["BRICKID"])
        assert (place.ra, place.dec) == pytest.approx((row["RA"], row["DEC"]), abs=1e-12)


def test_rejections_are_values(tmp_path):
    """What is not taken comes as Rejected values, so that rows in are rows out plus these."""
    _, rejected = read_all(SMALL, put(tmp_path, [20, 90], [20, 20]))
    assert rejected == [Rejected(BRICK, legacysurvey.OUTSIDE_COADD, 1)]


def test_brick_closes_its_files_when_one_is_broken(tmp_path):
    """Opening a brick with a broken file leaves no file open."""
    put_brick(tmp_path, planes())
    path = coadd_path(tmp_path, "invvar-g")
    path.write_bytes(path.read_bytes()[:3000])
    files = {kind: coadd_path(tmp_path, kind) for kind in planes()}
    with pytest.raises(NativeFileError, match="invvar-g"), Brick(files):
        pass
