"""DESI: coadds of three arms, redshifts joined by target."""

import gzip
import pickle
import shutil

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits

import astropile
from astropile.errors import NativeFileError
from astropile.formula import evaluate
from astropile.schema import Rejected
from astropile.simulate import desi as simulated
from astropile.simulate.galaxies import make_galaxies
from astropile.surveys import desi
from astropile.surveys._desi_arms import GRID, Arm, column_moments, combine, lsf_sigma
from astropile.surveys._desi_columns import GROUPS
from astropile.surveys.desi import SURVEY
from astropile.testing import read_all

ARMS = {"B": (0, 2751), "R": (2700, 2326), "Z": (4900, 2881)}
"""First pixel on the grid and number of pixels, as in every release."""

ALONE = {"B": slice(0, 2700), "R": slice(2751, 4900), "Z": slice(5026, 7781)}
"""Pixels of the grid that one arm covers."""

OVERLAPS = (("B", "R", slice(2700, 2751)), ("R", "Z", slice(4900, 5026)))
SPECTRAL = ("FLUX", "IVAR", "MASK", "LSF_SIGMA")


# --------------------------------------------------------------------------------------
# Tiny native files


def table(name, **columns):
    """A table HDU; columns by name."""
    return fits.BinTableHDU.from_columns(
        fits.ColDefs(np.rec.fromarrays(list(columns.values()), names=list(columns))), name=name
    )


def profile(sigma, n_diagonals=11):
    """A Gaussian line on the diagonals, as wide as `sigma` [Angstrom]."""
    offsets = np.arange(n_diagonals) - n_diagonals // 2
    values = np.exp(-0.5 * (0.8 * offsets / sigma) ** 2)
    return values / values.sum()


def arm_images(n, arm, rng, sigma=0.7):
    """The five images of an arm, no pixel masked."""
    first, size = ARMS[arm]
    return {
        "WAVELENGTH": GRID[first : first + size].copy(),
        "FLUX": rng.normal(1.0, 1.0, (n, size)).astype("f4"),
        "IVAR": rng.uniform(0.5, 2.0, (n, size)).astype("f4"),
        "MASK": np.zeros((n, size), "u4"),
        "RESOLUTION": np.repeat(np.repeat(profile(sigma)[None, :, None], size, 2), n, 0).astype(
            "f4"
        ),
    }


def write_coadd(
    path,
    targets,
    *,
    fibermap=None,
    header=None,
    change=None,
    drop=(),
    extra=(),
    wrap=fits.ImageHDU,
    seed=0,
):
    """
    A coadd; FIBERMAP holds TARGETID, positions and `fibermap`.

    `change` maps an HDU's name to a function of its image.
    """
    rng = np.random.default_rng(seed)
    n = len(targets)
    columns = {
        "TARGETID": np.array(targets, "i8"),
        "TARGET_RA": np.linspace(10.0, 11.0, n),
        "TARGET_DEC": np.linspace(-5.0, 5.0, n),
    } | (fibermap or {})
    columns = {name: values for name, values in columns.items() if name not in drop}
    hdus = [fits.PrimaryHDU(), table("FIBERMAP", **columns)]
    hdus[0].header.update(header or {})
    for arm in ARMS:
        for name, image in arm_images(n, arm, rng).items():
            full = f"{arm}_{name}"
            changed = (change or {}).get(full, lambda given: given)(image)
            if full not in drop:
                kind = wrap if name == "MASK" else fits.ImageHDU
                hdus.append(kind(changed, name=full))
    path.parent.mkdir(parents=True, exist_ok=True)
    fits.HDUList([*hdus, *extra]).writeto(path)
    return path


def write_redrock(path, targets, z, *, zwarn=0, **columns):
    """A redrock file."""
    n = len(targets)
    redshifts = table(
        "REDSHIFTS",
        TARGETID=np.array(targets, "i8"),
        Z=np.array(z, "f8"),
        ZERR=np.full(n, 1e-5),
        ZWARN=np.full(n, zwarn, "i8"),
        SPECTYPE=np.full(n, b"GALAXY"),
        **columns,
    )
    fits.HDUList([fits.PrimaryHDU(), redshifts]).writeto(path)
    return path


def write_catalogue(path, targets, z, **columns):
    """A redshift catalogue of the main survey, dark program, pixel 9144."""
    n = len(targets)
    known = {
        "TARGETID": np.array(targets, "i8"),
        "SURVEY": np.full(n, b"main   "),
        "PROGRAM": np.full(n, b"dark  "),
        "HEALPIX": np.full(n, 9144, "i4"),
        "Z": np.array(z, "f8"),
        "ZERR": np.full(n, 2e-5),
        "ZWARN": np.zeros(n, "i8"),
    } | columns
    known = {name: values for name, values in known.items() if values is not None}
    path.parent.mkdir(parents=True, exist_ok=True)
    fits.HDUList([fits.PrimaryHDU(), table("ZCATALOG", **known)]).writeto(path)
    return path


def only_unit(native):
    (unit,) = SURVEY.units(native)
    return unit


def first_error(native):
    with pytest.raises(NativeFileError) as caught:
        list(SURVEY.read(only_unit(native)))
    return caught.value


@pytest.fixture(scope="module")
def sky(tmp_path_factory):
    """The simulated sky, and what is read from it."""
    native = tmp_path_factory.mktemp("desi")
    galaxies = make_galaxies(6, seed=1)
    simulated.write(native, galaxies, seed=2)
    return native, galaxies, *read_all(SURVEY, native)


def assert_arms_kept(columns, path, rows, kept):
    """Every pixel of one arm is that arm's; where two meet, the weighted mean."""
    with fits.open(path) as hdus:
        for arm, pixels in ALONE.items():
            within = slice(pixels.start - ARMS[arm][0], pixels.stop - ARMS[arm][0])
            for name in ("FLUX", "IVAR", "MASK"):
                source = hdus[f"{arm}_{name}"].data[kept][:, within]
                np.testing.assert_array_equal(columns[name][rows][:, pixels], source)
        for one, two, pixels in OVERLAPS:
            flux, ivar, mask = (
                np.stack(
                    [
                        hdus[f"{arm}_{name}"].data[kept][
                            :, pixels.start - ARMS[arm][0] : pixels.stop - ARMS[arm][0]
                        ]
                        for arm in (one, two)
                    ]
                ).astype("f8" if name != "MASK" else "i8")
                for name in ("FLUX", "IVAR", "MASK")
            )
            # No file has weight under a mask, so that clean arms are those with weight.
            assert not (ivar[mask != 0] > 0).any()
            total = ivar.sum(0)
            mean = (ivar * flux).sum(0) / np.where(total > 0, total, 1)
            np.testing.assert_array_equal(columns["FLUX"][rows][:, pixels], mean.astype("f4"))
            np.testing.assert_array_equal(columns["IVAR"][rows][:, pixels], total.astype("f4"))
            bits = np.where(total > 0, 0, mask[0] | mask[1])
            np.testing.assert_array_equal(columns["MASK"][rows][:, pixels], bits)


# --------------------------------------------------------------------------------------
# The simulated sky


def test_simulated_arms_are_kept_bit_for_bit(sky):
    """Outside the overlaps the spectrum is the arm's, in the overlaps their weighted mean."""
    native, _, columns, _ = sky
    (path,) = native.rglob("coadd-*.fits")
    assert_arms_kept(columns, path, slice(None), slice(0, 6))
    np.testing.assert_array_equal(columns["WAVE"], GRID)
    assert columns["WAVE"][[0, 1, -1]].tolist() == [3600.0, 3600.8, 9824.0]


def test_simulated_redshifts_are_joined_by_target(sky):
    """Rows of coadd and redrock file are in other orders; each target has its own redshift."""
    native, galaxies, columns, _ = sky
    (path,) = native.rglob("redrock-*.fits")
    known = fits.getdata(path, "REDSHIFTS")
    assert not np.array_equal(known["TARGETID"][:6], columns["TARGETID"])
    redshift = dict(zip(known["TARGETID"].tolist(), known["Z"].tolist(), strict=True))
    assert columns["Z"].tolist() == [redshift[target] for target in columns["TARGETID"].tolist()]
    distance = np.abs(columns["TARGET_RA"][:, None] - galaxies.ra) + np.abs(
        columns["TARGET_DEC"][:, None] - galaxies.dec
    )
    nearest = distance.argmin(axis=1)
    assert sorted(nearest) == list(range(6))
    assert distance.min(axis=1).max() < 2e-4
    np.testing.assert_allclose(columns["Z"], galaxies.z[nearest], atol=2e-4)
    assert set(columns["Z_SOURCE"].tolist()) == {path.name.encode()}


def test_simulated_warning_means_a_problem(sky):
    """ZWARN is 0 for a good redshift, and not 0 for the one whose fit is warned of."""
    *_, columns, _ = sky
    assert columns["ZWARN"].tolist() == [0, 0, 4, 0, 0, 0]
    assert SURVEY["ZWARN"].bits["SMALL_DELTA_CHI2"] == 2


def test_simulated_catalogue_gives_what_the_redrock_file_lacks(sky):
    """MAIN_PRIMARY stands in the catalogue only, and is there, the blanks of SURVEY or not."""
    *_, columns, _ = sky
    assert columns["MAIN_PRIMARY"].all()
    assert columns["MAIN_NSPEC"].tolist() == [1] * 6
    assert set(columns["SURVEY"].tolist()) == {b"main"}
    assert not columns["SV_PRIMARY"].any()


def test_sky_fibres_are_left_out_and_counted(sky):
    """A fibre on the sky and one on no target are rejected, and are no faults."""
    *_, columns, rejected = sky
    assert len(columns["TARGETID"]) == 6
    assert [(r.reason, r.count, r.fault) for r in rejected] == [
        ("a fibre on no target (negative TARGETID)", 1, False),
        ("a sky fibre (OBJTYPE is SKY)", 1, False),
    ]


def test_simulation_is_the_same_for_the_same_seed(tmp_path):
    """The same seed writes the same bytes, another seed others."""
    galaxies = make_galaxies(2, seed=5)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        simulated.write(tmp_path / name, galaxies, seed=seed)
    files = [
        [path.read_bytes() for path in sorted((tmp_path / name).rglob("*.fits"))] for name in "abc"
    ]
    assert len(files[0]) == 3
    assert files[0] == files[1]
    assert files[0] != files[2]


def test_tree_gives_back_what_was_read(sky, tmp_path):
    """A tree built of the simulated files holds every native value, and the seed's record."""
    native, _, columns, rejected = sky
    report = astropile.build_catalog(SURVEY, native, tmp_path / "desi", progress=False)
    assert (report.n_written, report.n_rejected) == (6, len(rejected))
    catalog = astropile.open_catalog(tmp_path / "desi")
    taken = catalog.take(range(6))
    order = [columns["TARGETID"].tolist().index(target) for target in taken["TARGETID"]]
    for column in SURVEY.columns:
        read = columns[column.name] if column.shared else columns[column.name][order]
        np.testing.assert_array_equal(taken[column.name], read, err_msg=column.name)

    row = catalog.standard([2]).to_pylist()[0]
    chosen = order[2]
    spectrum = row["spectrum"]
    assert set(spectrum) == {"flux", "ivar", "lsf_sigma", "lambda", "mask", "extra"}
    bad = columns["MASK"][chosen] != 0
    assert bad.any()
    np.testing.assert_array_equal(spectrum["mask"], bad)
    np.testing.assert_array_equal(np.float32(spectrum["flux"]), columns["FLUX"][chosen])
    np.testing.assert_array_equal(
        np.float32(spectrum["ivar"]), np.where(bad, 0, columns["IVAR"][chosen])
    )
    np.testing.assert_array_equal(spectrum["lambda"], GRID)
    np.testing.assert_array_equal(np.float32(spectrum["lsf_sigma"]), columns["LSF_SIGMA"][chosen])
    assert row["object_id"] == columns["TARGETID"][chosen]
    assert row["observation_id"].startswith("main-bright-")
    assert row["z"] == columns["Z"][chosen]
    assert row["z_err"] == columns["ZERR"][chosen]
    assert row["mag"] == pytest.approx(
        22.5 - 2.5 * np.log10(columns["FLUX_R"][chosen]) - 2.165 * 0.02, abs=1e-4
    )


# --------------------------------------------------------------------------------------
# Three arms, one spectrum


def small_arm(start, flux, ivar, mask, sigma=0.8):
    """One object's arm from short lists."""
    size = len(flux)
    resolution = np.repeat(profile(sigma)[None, :, None], size, 2)
    return Arm(
        start,
        np.array([flux], "f4"),
        np.array([ivar], "f4"),
        np.array([mask], "u4"),
        column_moments(resolution),
    )


def test_overlap_is_weighted_by_inverse_variance():
    """Each case of two arms meeting has the flux, ivar and mask worked out by hand."""
    cases = [
        # one: flux ivar mask, two: flux ivar mask -> flux ivar mask
        ((2.0, 1.0, 0), (4.0, 3.0, 0), (3.5, 4.0, 0)),  # both clean
        ((2.0, 1.0, 4), (4.0, 3.0, 0), (4.0, 3.0, 0)),  # a masked arm does not spoil a clean one
        ((2.0, 1.0, 4), (4.0, 3.0, 2), (3.5, 4.0, 6)),  # both masked, with weight
        ((2.0, 1.0, 4), (4.0, 0.0, 2), (2.0, 1.0, 6)),  # one masked, the other without weight
        ((2.0, 0.0, 1), (4.0, 0.0, 512), (0.0, 0.0, 513)),  # nothing measured
        ((2.0, 0.0, 1), (0.1, 3.0, 0), (np.float32(0.1), 3.0, 0)),  # one arm only: its own value
        ((np.nan, 1.0, 0), (4.0, 3.0, 0), (4.0, 3.0, 0)),  # no number is no measurement
        ((2.0, -1.0, 0), (4.0, 3.0, 0), (4.0, 3.0, 0)),  # nor is a negative weight
    ]
    one, two, expected = (list(zip(*side, strict=True)) for side in zip(*cases, strict=True))
    alone = ((9.0, 7.0), (8.0, 6.0), (3, 0))
    joined = [(*first, *second) for first, second in zip(alone, one, strict=True)]
    combined = combine([small_arm(98, *joined), small_arm(100, *two)])
    pixels = slice(100, 100 + len(cases))
    assert combined["FLUX"][0, pixels].tolist() == list(expected[0])
    assert combined["IVAR"][0, pixels].tolist() == list(expected[1])
    assert combined["MASK"][0, pixels].tolist() == list(expected[2])
    # A lone arm is kept as it is, a masked pixel with weight included.
    assert combined["FLUX"][0, 98:100].tolist() == [9.0, 7.0]
    assert combined["IVAR"][0, 98:100].tolist() == [8.0, 6.0]
    assert combined["MASK"][0, 98:100].tolist() == [3, 0]
    assert not any(combined[name][0, 120:].any() for name in SPECTRAL)


def test_line_width_of_a_known_matrix():
    """The width is that of the Gaussian a matrix was made of, object by object, pixel by pixel."""
    sigma = np.stack((np.linspace(0.6, 1.0, 400), np.linspace(1.05, 0.65, 400)))
    offsets = np.arange(-5, 6)[None, :, None] * 0.8
    resolution = np.exp(-0.5 * (offsets / sigma[:, None, :]) ** 2)
    resolution *= np.linspace(0.7, 1.3, 400) / resolution.sum(axis=1, keepdims=True)
    measured = lsf_sigma(column_moments(resolution.astype("f4")))
    assert measured.dtype == np.float32
    np.testing.assert_allclose(measured, sigma, rtol=2e-3)


def test_line_width_does_not_depend_on_where_the_line_is():
    """A line off the diagonal by part of a pixel is as wide as one on it."""
    offsets = np.arange(-7, 8)[None, :, None] * 0.8
    shift = np.array([-0.4, -0.1, 0.0, 0.3])
    resolution = np.exp(-0.5 * ((offsets - shift) / 0.8) ** 2)
    np.testing.assert_allclose(lsf_sigma(column_moments(resolution))[0], 0.8, rtol=1e-5)


def test_line_width_is_that_of_a_column_of_the_matrix():
    """A matrix whose lines are blurred unequally has the width of the light of each pixel."""
    n, half = 60, 5
    sigma = np.where(np.arange(n) < 30, 0.6, 1.0)
    pixel = np.arange(n)
    dense = np.exp(-0.5 * (0.8 * (pixel[:, None] - pixel) / sigma) ** 2)  # [detector, light]
    stored = np.zeros((1, 11, n))
    for k, offset in enumerate(range(half, -half - 1, -1)):
        # Diagonals as scipy and DESI store them: element (j - offset, j) stands at [k, j].
        for j in range(max(0, offset), min(n, n + offset)):
            stored[0, k, j] = dense[j - offset, j]
    measured = lsf_sigma(column_moments(stored))[0]
    np.testing.assert_allclose(measured[5:-5], sigma[5:-5], rtol=2e-3)


def test_line_width_is_zero_where_the_matrix_is_empty():
    """An empty column, a negative one and one without width give 0, and no warning."""
    resolution = np.zeros((1, 11, 4))
    resolution[0, :, 1] = -profile(0.7)
    resolution[0, 5, 2] = 1.0
    resolution[0, [0, 5, 10], 3] = -0.2, 1.0, -0.2  # ringing outweighs the core
    assert lsf_sigma(column_moments(resolution)).tolist() == [[0.0, 0.0, 0.0, 0.0]]


def test_line_width_where_arms_meet_is_weighted_as_the_flux():
    """The variance of the line is the mean of the arms', with the weights of the flux."""
    one = small_arm(0, [1.0] * 3, [1.0, 0.0, 0.0], [0, 0, 0], sigma=0.6)
    two = small_arm(0, [1.0] * 3, [3.0, 2.0, 0.0], [0, 0, 0], sigma=1.0)
    expected = np.sqrt([0.25 * 0.36 + 0.75, 1.0, 0.5 * 0.36 + 0.5])
    np.testing.assert_allclose(combine([one, two])["LSF_SIGMA"][0, :3], expected, rtol=2e-3)


def test_mask_and_ivar_of_the_standard_view():
    """Mask is True, and ivar 0, for every pixel that is masked or was not measured."""
    values = {
        "FLUX": np.array([1.0, 1.0, 1.0, np.nan, 1.0, 1.0], "f4"),
        "IVAR": np.array([2.0, 2.0, 0.0, 2.0, np.inf, -1.0], "f4"),
        "MASK": np.array([0, 4, 0, 0, 0, 0], "u4"),
    }
    spectrum = SURVEY.aliases["spectrum"].fields
    ivar, mask = (
        evaluate(spectrum[name].expression, values, spectrum[name].dtype)
        for name in ("ivar", "mask")
    )
    assert ivar.tolist() == [2.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    assert mask.tolist() == [False, True, True, True, True, True]
    assert mask.dtype == bool


def test_many_objects_come_in_several_batches(tmp_path, monkeypatch):
    """An object's spectrum does not depend on the size of the batches it was read in."""
    write_coadd(
        tmp_path / "coadd-main-dark-9144.fits", [1, -2, 3, 4, 5], change={"B_MASK": poke(3, 7, 4)}
    )
    whole, _ = read_all(SURVEY, tmp_path)
    monkeypatch.setattr(desi, "_ROWS_PER_BATCH", 2)
    parts = [item for item in SURVEY.read(only_unit(tmp_path)) if not isinstance(item, Rejected)]
    assert [len(part["TARGETID"]) for part in parts] == [1, 2, 1]
    for name in ("TARGETID", *SPECTRAL):
        np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), whole[name])
    assert whole["MASK"][2, 7] == 4


def poke(row, pixel, value):
    """A change of one pixel."""

    def change(image):
        image[row, pixel] = value
        return image

    return change


@pytest.mark.parametrize(
    ("change", "wrap"),
    [(lambda mask: mask.astype("i4"), fits.ImageHDU), (lambda mask: mask, fits.CompImageHDU)],
    ids=["signed", "compressed"],
)
def test_masks_of_every_form_are_read(tmp_path, change, wrap):
    """A mask is the same bits as unsigned, signed or tile-compressed image."""

    def marked(mask):
        mask[1, 100] = 1 << 9
        return change(mask)

    write_coadd(
        tmp_path / "coadd-main-dark-9144.fits", [1, 2], change={"R_MASK": marked}, wrap=wrap
    )
    columns, _ = read_all(SURVEY, tmp_path)
    assert columns["MASK"].dtype == np.uint32
    assert np.argwhere(columns["MASK"]).tolist() == [[1, 2800]]
    assert columns["MASK"][1, 2800] == 512


# --------------------------------------------------------------------------------------
# Redshifts and positions


DARK = "coadd-main-dark-9144.fits"


def test_objects_without_redshift_are_kept(tmp_path):
    """Without any redshift file z is NaN and ZWARN -1, and nothing is dropped."""
    write_coadd(tmp_path / DARK, [11, 12])
    columns, rejected = read_all(SURVEY, tmp_path)
    assert rejected == []
    assert np.isnan(columns["Z"]).all()
    assert np.isnan(columns["ZERR"]).all()
    assert columns["ZWARN"].tolist() == [-1, -1]
    assert columns["SPECTYPE"].tolist() == [b"", b""]
    assert columns["Z_SOURCE"].tolist() == [b"", b""]
    assert "-1 if not given" in SURVEY["ZWARN"].doc


def test_redrock_file_comes_before_the_catalogue(tmp_path):
    """The fit beside the coadd is taken whole; the catalogue serves targets it lacks."""
    write_coadd(tmp_path / DARK, [11, 12, 13])
    write_redrock(tmp_path / "redrock-main-dark-9144.fits", [13, 11], [0.3, 0.1], zwarn=4)
    write_catalogue(
        tmp_path / "zcatalog/v1/zall-pix-iron.fits",
        [12, 11],
        [0.22, 0.11],
        DELTACHI2=np.array([50.0, 60.0]),
    )
    columns, _ = read_all(SURVEY, tmp_path)
    assert columns["Z"].tolist() == [0.1, 0.22, 0.3]
    assert columns["ZWARN"].tolist() == [4, 0, 4]
    assert columns["ZERR"].tolist() == [1e-5, 2e-5, 1e-5]
    # That redrock file has no DELTACHI2; the catalogue's belongs to another fit.
    assert columns["DELTACHI2"][1] == 50.0
    assert np.isnan(columns["DELTACHI2"][[0, 2]]).all()
    assert columns["Z_SOURCE"].tolist() == [
        b"redrock-main-dark-9144.fits",
        b"zall-pix-iron.fits",
        b"redrock-main-dark-9144.fits",
    ]


def test_catalogue_rows_of_other_coadds_are_not_taken(tmp_path):
    """A target seen in several surveys, programs or pixels has the redshift of its own coadd."""
    write_coadd(tmp_path / DARK, [11])
    write_catalogue(
        tmp_path / "zall-pix-iron.fits",
        [11, 11, 11, 11, 99],
        [1.0, 2.0, 3.0, 4.0, 5.0],
        SURVEY=np.array([b"sv3", b"main", b"main", b"main", b"main"]),
        PROGRAM=np.array([b"dark", b"bright", b"dark", b"dark", b"dark"]),
        HEALPIX=np.array([9144, 9144, 9145, 9144, 9144], "i4"),
    )
    columns, _ = read_all(SURVEY, tmp_path)
    assert columns["Z"].tolist() == [4.0]


def test_catalogue_in_doubt_rejects_the_object(tmp_path):
    """A target that a catalogue has twice for its coadd is rejected; the others are not."""
    write_coadd(tmp_path / DARK, [11, 12])
    write_catalogue(tmp_path / "zpix-main-dark.fits", [11, 11, 12], [1.0, 2.0, 3.0])
    columns, rejected = read_all(SURVEY, tmp_path)
    assert columns["Z"].tolist() == [3.0]
    assert [(r.key, r.fault) for r in rejected] == [("main-dark-9144-11", True)]


TILE = {"TILEID": 100, "SPGRP": "cumulative", "SPGRPVAL": 20210405}


@pytest.mark.parametrize(
    ("catalogue", "columns", "taken"),
    [
        ("zall-tilecumulative-iron", {"SPGRPVAL": 20210405}, True),
        ("zall-tilecumulative-iron", {"SPGRPVAL": 20210406}, False),
        ("zall-tilecumulative-iron", {"TILEID": 101}, False),
        ("ztile-main-dark-cumulative", {}, True),
        ("ztile-main-dark-pernight", {}, False),
        ("zall-pix-iron", {"TILEID": None, "HEALPIX": 9144}, False),
    ],
)
def test_tile_coadds_take_redshifts_of_their_tile(tmp_path, catalogue, columns, taken):
    """A coadd of one tile takes no redshift of another tile, another depth or a pixel."""
    write_coadd(tmp_path / "coadd-3-100-thru20210405.fits", [11], header=TILE)
    given = {"HEALPIX": None, "TILEID": 100} | columns
    arrays = {k: None if v is None else np.array([v], "i4") for k, v in given.items()}
    write_catalogue(tmp_path / f"{catalogue}.fits", [11], [0.5], **arrays)
    columns, _ = read_all(SURVEY, tmp_path)
    assert np.isnan(columns["Z"][0]) != taken
    assert columns["TILEID"].tolist() == [100]
    assert columns["SURVEY"].tolist() == [b"main" if taken else b""]


def test_companions_of_a_catalogue_are_not_read(tmp_path):
    """Catalogue files without redshifts are passed over, whatever they hold."""
    write_coadd(tmp_path / DARK, [11])
    (tmp_path / "zpix-main-dark-extra.fits").write_bytes(b"not read")
    assert [path.name for path in only_unit(tmp_path).paths] == [DARK]


def test_positions_come_from_the_catalogue_if_need_be(tmp_path):
    """A trimmed FIBERMAP takes positions by target; a target without any is rejected."""
    write_coadd(tmp_path / DARK, [11, 12, 13], drop=("TARGET_RA", "TARGET_DEC"))
    write_catalogue(
        tmp_path / "zall-pix-iron.fits",
        [13, 11],
        [0.3, 0.1],
        TARGET_RA=np.array([130.0, 110.0]),
        TARGET_DEC=np.array([-13.0, -11.0]),
    )
    columns, rejected = read_all(SURVEY, tmp_path)
    assert columns["TARGET_RA"].tolist() == [110.0, 130.0]
    assert columns["TARGET_DEC"].tolist() == [-11.0, -13.0]
    assert [(r.key, r.reason) for r in rejected] == [
        ("main-dark-9144-12", "no position in the coadd, its redshift file or a catalogue")
    ]


def test_fibermap_values_are_native(tmp_path):
    """Columns of the file are kept to the bit; those it lacks hold the documented fill."""
    write_coadd(
        tmp_path / DARK,
        [11, 12],
        fibermap={
            "REF_EPOCH": np.array([2015.5, 0.0], "f4"),
            "PMRA": np.array([1.25, -3.5], "f4"),
            "BRICKNAME": np.array([b"0012p002", b"A       "]),
            "COADD_FIBERSTATUS": np.array([0, 1 << 9], "i4"),
            "FLUX_R": np.array([100.0, -1.0], "f4"),
            "EBV": np.array([0.1, 0.1], "f4"),
        },
    )
    columns, _ = read_all(SURVEY, tmp_path)
    assert columns["REF_EPOCH"].tolist() == [2015.5, 0.0]
    assert columns["PMRA"].tolist() == [1.25, -3.5]
    assert columns["BRICKNAME"].tolist() == [b"0012p002", b"A"]
    assert columns["COADD_FIBERSTATUS"].tolist() == [0, 512]
    assert SURVEY["COADD_FIBERSTATUS"].bits["BADPOSITION"] == 9
    assert columns["RELEASE"].tolist() == [-1, -1]
    assert columns["FA_TYPE"].tolist() == [255, 255]
    assert np.isnan(columns["FLUX_G"]).all()
    assert columns["MORPHTYPE"].tolist() == [b"", b""]
    mag = evaluate(SURVEY.aliases["mag"].expression, columns)
    assert mag[0] == pytest.approx(17.5 - 0.2165, abs=1e-6)
    assert np.isnan(mag[1])


# --------------------------------------------------------------------------------------
# Names and layouts


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("coadd-sv3-bright-9144.fits", (b"sv3", b"bright", 9144, -1, b"healpix", 9144)),
        ("coadd-3-100-thru20210405.fits", (b"", b"", -1, 100, b"cumulative", 20210405)),
        ("coadd-3-100-20210405.fits", (b"", b"", -1, 100, b"pernight", 20210405)),
        ("coadd-3-100-exp00081234.fits", (b"", b"", -1, 100, b"perexp", 81234)),
        ("coadd-3-100-4xsubset1.fits", (b"", b"", -1, -1, b"", -1)),
    ],
)
def test_a_coadd_without_header_is_known_by_its_name(tmp_path, name, expected):
    """Survey, program, pixel or tile, and kind of group follow from the file's name."""
    write_coadd(tmp_path / "some/folder" / name, [11])
    columns, _ = read_all(SURVEY, tmp_path)
    names = ("SURVEY", "PROGRAM", "HPXPIXEL", "TILEID", "SPGRP", "SPGRPVAL")
    assert tuple(columns[column][0] for column in names) == expected
    stem = name.removeprefix("coadd-").removesuffix(".fits").encode()
    assert columns["OBSERVATION_ID"].tolist() == [stem + b"-11"]
    assert only_unit(tmp_path).key == f"some/folder/{name}"


def test_a_target_seen_twice_is_two_observations(tmp_path):
    """The same target in two coadds has one object_id and two observation_ids, in stable order."""
    write_coadd(tmp_path / "healpix/sv1/dark/91/9144/coadd-sv1-dark-9144.fits", [11])
    write_coadd(tmp_path / "healpix/main/dark/91/9144" / DARK, [11], seed=1)
    columns, _ = read_all(SURVEY, tmp_path)
    assert columns["TARGETID"].tolist() == [11, 11]
    assert columns["OBSERVATION_ID"].tolist() == [b"main-dark-9144-11", b"sv1-dark-9144-11"]


def test_compressed_files_are_read(tmp_path):
    """A gzipped coadd with a gzipped redrock file gives what plain ones give."""
    plain = write_coadd(tmp_path / "plain" / DARK, [11, 12])
    redrock = write_redrock(tmp_path / "plain/redrock-main-dark-9144.fits", [12], [0.5])
    (tmp_path / "packed").mkdir()
    for path in (plain, redrock):
        with gzip.open(tmp_path / "packed" / f"{path.name}.gz", "wb", compresslevel=1) as packed:
            packed.write(path.read_bytes())
    one, _ = read_all(SURVEY, tmp_path / "plain")
    two, _ = read_all(SURVEY, tmp_path / "packed")
    for name in ("OBSERVATION_ID", "Z", *SPECTRAL):
        np.testing.assert_array_equal(one[name], two[name])


def test_survey_value_is_sound():
    """Units parse, the survey pickles, and only what no file holds is called derived."""
    for column in SURVEY.columns:
        u.Unit(column.unit)
    assert pickle.loads(pickle.dumps(SURVEY)) == SURVEY
    derived = {column.name for column in SURVEY.columns if column.derived}
    assert derived == {"OBSERVATION_ID", "Z_SOURCE", "WAVE", *SPECTRAL}
    assert SURVEY.tree_dims == ("wave",)
    assert SURVEY["MASK"].bits["BADFIBER"] == 9


# --------------------------------------------------------------------------------------
# Bad input


def test_folders_without_coadds_are_refused(tmp_path):
    """An absent folder, an empty one and one of other files each say what was looked for."""
    for folder, found in (("absent", "no such folder"), ("empty", "0 other FITS files")):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(NativeFileError, match=found):
            SURVEY.units(tmp_path / folder)
    write_coadd(tmp_path / "other/spectra-5-169-thru20210419.fits", [11])
    with pytest.raises(NativeFileError, match=r"coadd-<survey>-<program>-<pixel>.fits.*1 other"):
        SURVEY.units(tmp_path / "other")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.999])
def test_a_truncated_coadd_is_refused(tmp_path, share):
    """A file cut anywhere gives an error that names it, and no object."""
    path = write_coadd(tmp_path / DARK, [11])
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    assert DARK in str(first_error(tmp_path))


@pytest.mark.parametrize("name", ["FIBERMAP", "B_WAVELENGTH", "R_FLUX", "Z_IVAR", "B_MASK"])
def test_a_missing_hdu_is_named(tmp_path, name):
    """A coadd without one of its HDUs is refused, naming the HDU."""
    path = write_coadd(tmp_path / DARK, [11])
    with fits.open(path) as hdus:
        kept = fits.HDUList([hdu.copy() for hdu in hdus if hdu.name != name])
    kept.writeto(path, overwrite=True)
    error = first_error(tmp_path)
    assert name in error.expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"R_FLUX": lambda image: image[:1]}, "R_FLUX of shape"),
        ({"R_MASK": lambda image: image[:, :-1]}, "R_MASK of shape"),
        ({"R_FLUX": lambda image: image.astype("f8")}, "R_FLUX as float32"),
        ({"R_MASK": lambda image: image.astype("f4")}, "R_MASK as 32 bits"),
        ({"Z_RESOLUTION": lambda image: image[:, :10]}, "an odd number"),
        ({"Z_RESOLUTION": lambda image: image[:, 0]}, "an odd number"),
        ({"B_WAVELENGTH": lambda image: image + 0.4}, "on the grid"),
        ({"B_WAVELENGTH": lambda image: image - 8.0}, "on the grid"),
        ({"Z_WAVELENGTH": lambda image: image + 8.0}, "on the grid"),
        ({"Z_WAVELENGTH": lambda image: image * np.nan}, "on the grid"),
    ],
)
def test_images_of_another_form_are_refused(tmp_path, change, expected):
    """Images of the wrong shape, dtype or wavelengths are refused, never bent to fit."""
    write_coadd(tmp_path / DARK, [11, 12], change=change)
    assert expected in first_error(tmp_path).expected


def test_a_missing_column_is_named(tmp_path):
    """A FIBERMAP without TARGETID is refused."""
    write_coadd(tmp_path / DARK, [11], drop=("TARGETID",))
    assert "TARGETID" in first_error(tmp_path).expected


def test_a_broken_redshift_file_is_not_a_missing_redshift(tmp_path):
    """A redrock file that cannot be read refuses its coadd, rather than giving NaN."""
    write_coadd(tmp_path / DARK, [11])
    path = write_redrock(tmp_path / "redrock-main-dark-9144.fits", [11], [0.5])
    path.write_bytes(path.read_bytes()[:6000])
    assert path.name in first_error(tmp_path).path


def test_values_that_do_not_fit_are_refused(tmp_path):
    """An integer beyond the declared dtype, or a string too long, is an error and not cut."""
    for name, values in (
        ("RELEASE", np.array([70_000], "i4")),
        ("OBJTYPE", np.array([b"TARGET"])),
        ("EBV", np.array([0.1], "f8")),
    ):
        folder = tmp_path / name
        write_coadd(folder / DARK, [11], fibermap={name: values})
        assert name in first_error(folder).expected


def test_a_broken_coadd_does_not_hurt_the_others(tmp_path):
    """One truncated file among several is a counted rejection; the rest is built."""
    write_coadd(tmp_path / "native" / DARK, list(range(1, 25)))
    path = write_coadd(tmp_path / "native/coadd-main-dark-9145.fits", [30])
    path.write_bytes(path.read_bytes()[:-5000])
    report = astropile.build_catalog(
        SURVEY, tmp_path / "native", tmp_path / "t", tolerance=0.5, progress=False
    )
    assert (report.n_written, report.n_rejected) == (24, 1)


# --------------------------------------------------------------------------------------
# Real files

COADDS = {
    "coadd-1-80693-thru20210204.fits": 5,
    "coadd-2-80693-thru20210204.fits": 5,
    "coadd-5-169-thru20210419.fits": 2,
    "coadd-sv3-dark-9144.fits": 2,
    "fastspecfit/coadd-special-dark-27247.fits": 1,
}
"""Every real coadd, and how many targets it has."""


@pytest.fixture(scope="module")
def real(real_data):
    """The folder of real files, and what is read from it."""
    folder = real_data / "spectra/desi"
    return folder, *read_all(SURVEY, folder)


@pytest.mark.real
def test_real_coadds_are_all_read(real):
    """Five coadds give fifteen targets; per-exposure spectra and stacks are no coadds."""
    folder, columns, rejected = real
    assert [unit.key for unit in SURVEY.units(folder)] == list(COADDS)
    assert len(columns["TARGETID"]) == 15
    assert len(set(columns["OBSERVATION_ID"].tolist())) == 15
    assert [r.key for r in rejected] == [
        "5-169-thru20210419--1695072",
        "5-169-thru20210419--1695064",
        "5-169-thru20210419--1695073",
    ]


@pytest.mark.real
@pytest.mark.parametrize("name", COADDS)
def test_real_values_equal_the_source(real, name):
    """Every spectral pixel and every table column of a real coadd is the file's, bit for bit."""
    folder, columns, _ = real
    first = sum(list(COADDS.values())[: list(COADDS).index(name)])
    rows = slice(first, first + COADDS[name])
    with fits.open(folder / name) as hdus:
        kept = hdus["FIBERMAP"].data["TARGETID"] >= 0
        declared = set(SURVEY.column_names)
        for hdu in ("FIBERMAP", "SCORES"):
            names = [column for column in hdus[hdu].columns.names if column in declared]
            for column in names:
                source = hdus[hdu].data[column][kept]
                source = np.char.encode(source, "utf-8") if source.dtype.kind == "U" else source
                np.testing.assert_array_equal(columns[column][rows], source, err_msg=column)
        assert set(hdus["FIBERMAP"].columns.names) <= declared
        assert set(hdus["SCORES"].columns.names) <= declared
    assert_arms_kept(columns, folder / name, rows, kept)


@pytest.mark.real
def test_real_redshifts_and_positions_come_from_the_catalogues(real):
    """Trimmed coadds take redshift and position of the catalogue's row of target and survey."""
    folder, columns, _ = real
    for name, rows in (
        ("QSO_cat_fuji_dark_tile.fits.gz", slice(0, 10)),
        ("QSO_cat_fuji_dark_healpix.fits.gz", slice(12, 14)),
    ):
        known = fits.getdata(folder / name, 1)
        for row in range(len(columns["TARGETID"]))[rows]:
            (source,) = known[known["TARGETID"] == columns["TARGETID"][row]]
            for column in ("Z", "TARGET_RA", "TARGET_DEC", "SV3_DESI_TARGET"):
                assert columns[column][row] == source[column]
            assert columns["Z_SOURCE"][row] == name.encode()
    assert np.isnan(columns["Z"][[10, 11, 14]]).all()
    assert columns["Z"][12] == pytest.approx(1.93742988, abs=1e-8)
    assert columns["ZWARN"].tolist() == [-1] * 15


@pytest.mark.real
def test_real_line_widths_are_plausible(real):
    """The line's sigma is between half and one and a half Angstrom wherever there is weight."""
    _, columns, _ = real
    sigma, measured = columns["LSF_SIGMA"], columns["IVAR"] > 0
    assert ((sigma == 0) == ~measured).all()
    assert 0.5 < sigma[measured].min() < sigma[measured].max() < 1.2
    assert len(np.unique(np.median(sigma, axis=1))) == 15


@pytest.mark.real
def test_real_object_without_data_is_all_bad(real):
    """The target on a fibre out of place has no good pixel in the standard view."""
    _, columns, _ = real
    assert columns["COADD_FIBERSTATUS"][10] == 512
    mask = evaluate(SURVEY.aliases["spectrum"].fields["mask"].expression, columns)
    assert mask[10].all()
    assert mask.sum(axis=1).tolist() == [0] * 10 + [7781, 0, 0, 23, 0]


@pytest.mark.real
def test_real_redrock_file_is_joined(real_data, tmp_path):
    """A real redrock file gives its target every fitted value, and FIBERMAP values besides."""
    name = "redrock-4-80613-thru20210324.fits"
    shutil.copy(real_data / "spectra/desi/fastspecfit" / name, tmp_path)
    write_coadd(
        tmp_path / "coadd-4-80613-thru20210324.fits",
        [7, 39633345008634465],
        drop=("TARGET_RA", "TARGET_DEC"),
        header={"TILEID": 80613},
    )
    columns, rejected = read_all(SURVEY, tmp_path)
    assert [r.key for r in rejected] == ["4-80613-thru20210324-7"]
    with fits.open(tmp_path / name) as hdus:
        for group, hdu in (("redshift", "REDSHIFTS"), ("fibermap", "FIBERMAP")):
            known = hdus[hdu].columns.names
            for column in GROUPS[group]:
                if column.name in known:
                    value = hdus[hdu].data[column.name][0]
                    value = value.encode() if isinstance(value, str) else value
                    assert columns[column.name][0] == value
    assert columns["Z"].tolist() == [0.36874355163716493]
    assert columns["ZWARN"].tolist() == [0]
    assert columns["SPECTYPE"].tolist() == [b"GALAXY"]
    assert columns["FLUX_R"][0] == np.float32(5.947272777557373)


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("missing_b_color.fits", "B_FLUX"),
        ("missing_z_color.fits", "B_WAVELENGTH"),
        ("spectra-main-dark-9144.fits", "B_WAVELENGTH"),
    ],
)
def test_real_broken_files_are_refused(real_data, tmp_path, name, missing):
    """A real file that lacks an arm is refused as a coadd, naming the HDU it lacks."""
    source = real_data / "spectra/desi/bad_format" / name
    shutil.copy(source, tmp_path / "coadd-sv3-dark-9144.fits")
    assert missing in first_error(tmp_path).expected


@pytest.mark.real
def test_real_files_make_a_tree(real, tmp_path):
    """The real coadds become a tree that gives back every native value."""
    folder, columns, _ = real
    report = astropile.build_catalog(SURVEY, folder, tmp_path / "desi", progress=False)
    assert (report.n_written, report.n_rejected) == (15, 3)
    taken = astropile.open_catalog(tmp_path / "desi").take(range(15))
    order = [columns["OBSERVATION_ID"].tolist().index(key) for key in taken["OBSERVATION_ID"]]
    for column in SURVEY.columns:
        read = columns[column.name] if column.shared else columns[column.name][order]
        np.testing.assert_array_equal(taken[column.name], read, err_msg=column.name)
