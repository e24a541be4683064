"""Whatever cannot be true is found and named; what is true is not accused."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest

from astropile import build_catalog, open_catalog, validate_catalog
from astropile.findings import choose_rules
from astropile.healpix import ang2pix, ring_of_nested
from astropile.meaning.rules import RULES
from astropile.meaning.spectra import grid_jitter
from astropile.meaning.times import zero_point_range
from planted import IVAR, N_TIMES, Tree, make_survey, make_values

MEANING = frozenset(RULES)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A tree without a fault, in several files."""
    folder = tmp_path_factory.mktemp("planted")
    (folder / "native").mkdir()
    (folder / "native/one").write_text("one")
    survey = make_survey(make_values())
    build_catalog(
        survey, folder / "native", folder / "planted", shard_nbytes=500_000, progress=False
    )
    return folder / "planted"


@pytest.fixture
def tree(built, tmp_path):
    return Tree(shutil.copytree(built, tmp_path / "planted"))


def look(tree, **options):
    return validate_catalog(tree.folder, rules=MEANING, progress=False, **options)


def broken(report):
    return {problem.rule for problem in (*report.problems, *report.warnings)}


def test_a_tree_without_a_fault(built):
    """Where all is as it should be nothing is found, and every rule had something to look at."""
    report = validate_catalog(built, progress=False)
    assert report.n_shards > 2
    assert report.problems == report.warnings == ()
    assert report.not_checked == ()
    assert report.looked["N1"] == report.looked["P1"] == report.n_objects == 48


def test_every_rule_has_a_fault():
    """No rule of meaning is without a fault planted under its name."""
    assert {rule for rule, _ in PLANTED} == MEANING


def some(value, *, every=3):
    """Put a value in place of every third."""

    def change(values):
        values = values.copy()
        values[::every] = value
        return values

    return change


def edge(value, *, start=-40):
    """Put a value in place of the last ones of each row."""

    def change(values):
        values = values.copy()
        values[..., start:] = value
        return values

    return change


def in_ring(tree):
    """Put the first object of each file where the file's pixel is in the RING scheme."""
    rng = np.random.default_rng(1)
    ra, dec = rng.uniform(0, 360, 200_000), np.rad2deg(np.arcsin(rng.uniform(-1, 1, 200_000)))
    ring = ring_of_nested(ang2pix(ra, dec, 4), 4)

    def change(file):
        place = int(np.flatnonzero(ring == file.attrs["healpix"])[0])
        for name, values in (("ra", ra), ("RA", ra), ("dec", dec), ("DEC", dec)):
            file[name][0] = values[place]

    tree.each(change)


def move(tree, change):
    """Give all objects other positions."""

    def edit(file):
        ra, dec = change(file["RA"][()], file["DEC"][()], file.attrs["shard"])
        for name, values in (("ra", ra), ("RA", ra), ("dec", dec), ("DEC", dec)):
            file[name][()] = values

    tree.each(edit)


def rename(tree, change, of=("object_id", "ID")):
    """Give all objects other identifiers: of their number in the subset, from 0."""
    count = 0

    def edit(file):
        nonlocal count
        n = file.attrs["n_objects"]
        new = np.array([change(i) for i in range(count, count + n)])
        count += n
        for name in of:
            del file[name]
            file[name] = new

    tree.each(edit)


def copy_row(tree, name):
    """Give the last object of each file the values of its first."""

    def edit(file):
        file[name][-1] = file[name][0]

    tree.each(edit)


def shift_rows(tree):
    """Leave out one object's spectrum, so that all that follow are those of the next."""

    def edit(file):
        for name in ("FLUX", "IMAGE", "CUBE", "PICTURE"):
            file[name][()] = np.roll(file[name][()], 1, axis=0)

    tree.each(edit)


def reverse_flags(tree):
    """Write the redshift warning so that set means no problem."""
    tree.put("ZWARN", lambda v: np.where(v == 0, 2, 0).astype("i4"))


def add_motion(tree):
    """Declare proper motions, and no epoch."""
    tree.declare(epoch=None)

    def change(survey):
        survey["aliases"]["pmra"] = "Z"

    tree.facts(change)


def float_mask(tree):
    """Keep the mask as float32, as its 31st bit cannot be kept."""
    tree.put("MASK", lambda v: v.astype("f4"))
    tree.column("MASK", dtype="float32", bits={})
    tree.field("spectrum", mask={"bad_pixels": {"column": "MASK", "bits": [], "good": False}})


def float_times(tree):
    """Keep times as float32."""
    tree.put("TIME", lambda v: v.astype("f4"))
    tree.column("TIME", dtype="float32")


def pad_image(values):
    """Leave the last four rows 0, as at the edge of a coadd."""
    values = values.copy()
    values[..., -4:, :] = 0
    return values


def pad_times(values):
    """Fill the end of the times as SNANA's files are filled."""
    values = values.copy()
    values[..., -3:] = -99
    return values


def repeat_last(values):
    values = values.copy()
    values[..., -4:] = values[..., -4:-3]
    return values


def jitter(values):
    """Compute 10 ** (4.179 + 6e-6 i) with an exponent in float32, as APOGEE's were."""
    exponent = (4.179 + 6e-6 * np.arange(len(values))).astype("f4")
    return 10.0 ** exponent.astype("f8")


def good_mask(tree):
    """Write masks that are True where a pixel is good, of which there are few."""
    tree.put("IVAR", lambda v: np.where(np.arange(v.shape[1]) % 3, 0, v).astype("f4"))
    tree.put("MASK", lambda v: np.where(np.arange(v.shape[1]) % 3, 0, 1) * np.ones_like(v))


def swap(tree):
    """Write x as the column and y as the row, on a cube that is square."""

    def edit(file):
        rows, columns = file["ROW"][()], file["COLUMN"][()]
        file["ROW"][()], file["COLUMN"][()] = columns, rows
        picture = np.zeros((file.attrs["n_objects"], 1, 8, 8), "f4")
        picture[..., :6] = file["PICTURE"][()]
        del file["PICTURE"]
        file["PICTURE"] = picture

    tree.each(edit)
    tree.column("PICTURE", shape=[1, 8, 8])


def half_filters(values):
    """Let every other object have its bands in another order."""
    values = values.copy()
    values[::2] = values[::2, ::-1]
    return values


def own_grid(tree):
    """Let the second file have a shifted grid."""
    tree.put("WAVE", lambda v: v + 2, shards=[1])


def with_constant(tree, record, **values):
    tree.field(
        record, **{name: {"constant": {"value": v, "dtype": ""}} for name, v in values.items()}
    )


# Each fault under the one rule that it breaks; in words, what it is.
PLANTED = {
    ("D1", "licence left as a placeholder"): lambda t: t.declare(licence="TBD"),
    ("D2", "no citation"): lambda t: t.declare(citation=" "),
    ("U1", "a unit that is none"): lambda t: t.column("EBV", unit="parsnips"),
    ("U2", "line spread in pixels"): lambda t: t.column("LSF", unit="pix"),
    ("U2", "wavelength in mag"): lambda t: t.column("CUBE_WAVE", unit="mag"),
    ("U3", "flux without unit"): lambda t: [t.column(c, unit="") for c in ("FLUX", "IVAR")],
    ("U4", "ivar in the unit of the flux"): lambda t: t.column("IMAGE_IVAR", unit="nanomaggy"),
    ("U4", "ivar of another scale"): lambda t: t.column("IVAR", unit=IVAR.replace("1e34", "1e17")),
    ("P1", "ra = dec = 0 for none"): lambda t: move(
        t, lambda ra, dec, _: (some(0.0)(ra), some(0.0)(dec))
    ),
    ("P2", "positions in radians"): lambda t: move(
        t, lambda ra, dec, _: (np.deg2rad(ra), np.deg2rad(dec))
    ),
    ("P3", "right ascension averaged over 0"): lambda t: t.put("ra", some(180.0)),
    ("P4", "positions in float32"): lambda t: move(
        t, lambda ra, dec, _: (ra.astype("f4"), dec.astype("f4"))
    ),
    ("P5", "epoch in days"): lambda t: t.declare(epoch=57388.5),
    ("P5", "motions without an epoch"): add_motion,
    ("P6", "folders numbered in RING"): in_ring,
    ("K1", "Python's b'...'"): lambda t: rename(
        t, lambda i: f"b'obs-{i:03d}'".encode(), ("observation_id", "OBS")
    ),
    ("K1", "padded with blanks"): lambda t: rename(
        t, lambda i: b"  obs-%03d" % i, ("observation_id", "OBS")
    ),
    ("K2", "an identifier as a float"): lambda t: rename(
        t, lambda i: f"{4.0e17 + i * 1e9:.8e}".encode(), ("observation_id", "OBS")
    ),
    ("K3", "an identifier through float64"): lambda t: t.put(
        "ID", lambda v: v.astype("f8").astype("i8")
    )
    or t.put("object_id", lambda v: v.astype("f8").astype("i8")),
    ("K4", "row numbers"): lambda t: rename(t, lambda i: np.int64(i)),
    ("K5", "one identifier for all"): lambda t: rename(t, lambda _: np.int64(77)),
    ("K6", "empty identifiers"): lambda t: rename(
        t, lambda i: b"x%d" % i if i else b"", ("observation_id", "OBS")
    ),
    ("B1", "magnitude 99 for none"): lambda t: t.put("MAG", some(99.0)),
    ("B1", "magnitude -999 for none"): lambda t: t.put("MAG", some(-999.0)),
    ("B2", "reddening -999 for none"): lambda t: t.put("A", some(-999.0)),
    ("Z1", "redshift -9 for none"): lambda t: t.put("Z", some(-9.0)),
    ("Z1", "redshift -99 for none"): lambda t: t.put("Z", some(-99.0)),
    ("Z2", "redshift 0 for all"): lambda t: t.put("Z", np.zeros_like),
    ("Z3", "ZWARN reversed"): reverse_flags,
    ("Z4", "error -1 for none"): lambda t: t.put("ZERR", some(-1.0, every=4)),
    ("Z5", "error 0 for all"): lambda t: t.put("ZERR", np.zeros_like),
    ("N1", "1 / error ** 2 of an error of 0"): lambda t: t.put("IVAR", some(np.inf)),
    ("N1", "negative weights"): lambda t: t.put("IVAR", edge(-1.0, start=-5)),
    ("N2", "1 / variance of next to no variance"): lambda t: t.put(
        "IMAGE_IVAR", lambda v: np.where(np.arange(24) == 3, 3.4e38, v).astype("f4")
    ),
    ("N3", "1 / noise, not squared, of another unit"): lambda t: t.put(
        "IVAR", lambda v: (np.sqrt(v) * 1e-17).astype("f4")
    ),
    ("N4", "a mask whose True is good"): good_mask,
    ("N5", "everything flagged"): lambda t: t.put("IMAGE_MASK", np.ones_like),
    ("N6", "bits in float32"): float_mask,
    ("N6", "quality in float32"): lambda t: t.put("LC_QUALITY", lambda v: v.astype("f4"))
    or t.column("LC_QUALITY", dtype="float32"),
    ("N7", "edges filled with the last value"): lambda t: t.put("FLUX", edge(1.5)),
    ("N7", "ragged edges of 0"): lambda t: t.put("IMAGE", pad_image),
    ("N8", "images of 0"): lambda t: t.put("IMAGE", some(0.0)),
    ("N8", "spectra of NaN"): lambda t: t.put("FLUX", some(np.nan)) or t.put("IVAR", some(0.0)),
    ("N9", "another spectrum's, of another night"): lambda t: copy_row(t, "FLUX"),
    ("N10", "NaN that counts"): lambda t: t.put("CUBE", edge(np.nan, start=-2)),
    ("N11", "the deviation for ivar"): lambda t: t.put(
        "IVAR", lambda v: np.where(v > 0, np.maximum(v, 1e-9) ** -0.5, 0).astype("f4")
    ),
    ("N11", "the variance for ivar"): lambda t: t.put(
        "IVAR", lambda v: np.where(v > 0, 1 / np.maximum(v, 1e-9), 0).astype("f4")
    ),
    ("N12", "another object's images"): lambda t: copy_row(t, "IMAGE"),
    ("G1", "wavelength -1 for padding"): lambda t: t.put("WAVE", edge(-1.0)),
    ("G1", "wavelength 0 for padding"): lambda t: t.put("CUBE_WAVE", edge(0.0)),
    ("G1", "wavelengths reversed"): lambda t: t.put("WAVE", lambda v: v[::-1]),
    ("G2", "the logarithm of the wavelength in um"): lambda t: t.put(
        "CUBE_WAVE", lambda v: 1 + np.log10(v / 1e4)
    ),
    ("G3", "nm for Angstrom"): lambda t: t.put("CUBE_WAVE", lambda v: v / 10),
    ("G4", "exponents in float32"): lambda t: t.put("WAVE", jitter),
    ("G5", "neither vacuum nor air"): lambda t: t.declare(wavelength_medium=""),
    ("G5", "no frame"): lambda t: t.declare(wavelength_frame=""),
    ("G6", "one line spread for all"): lambda t: t.put("LSF", lambda v: np.full_like(v, 1.1)),
    ("G7", "a file with its own grid"): own_grid,
    ("G8", "line spread in m"): lambda t: t.put("LSF", lambda v: v * np.float32(1e-10)),
    ("I1", "width 0 for none"): lambda t: t.put("PSF", some(0.0)),
    ("I2", "pixels in degrees"): lambda t: with_constant(t, "image", pixel_size=0.25 / 3600),
    ("I3", "width in mas"): lambda t: t.put("PSF", lambda v: v * np.float32(100)),
    ("I4", "a filter without a name"): lambda t: t.put(
        "BAND", lambda v: np.array([[b"g", b"", b"i"]] * len(v))
    ),
    ("I5", "bands in another order"): lambda t: t.put("BAND", half_filters)
    or t.put("A", half_filters),
    ("I6", "bands named the wrong way round"): lambda t: t.put("BAND", lambda v: v[:, ::-1]),
    ("C1", "places outside the cube"): lambda t: t.put("ROW", lambda v: v + np.int16(3)),
    ("C1", "places that come twice"): lambda t: t.put("COLUMN", np.zeros_like),
    ("C2", "x the column, y the row"): swap,
    ("C3", "padded to a larger cube"): lambda t: t.put(
        "CUBE", lambda v: v * (np.arange(v.shape[1]) % 4 == 0)[:, None].astype("f4")
    ),
    ("E1", "NaN for padding"): lambda t: t.put("TIME", edge(np.nan, start=-2)),
    ("E2", "MJD in float32"): float_times,
    ("E2", "MJD that went through float32"): lambda t: t.put(
        "TIME", lambda v: v.astype("f4").astype("f8")
    ),
    ("E3", "no zero point"): lambda t: t.declare(time_scale=""),
    ("E4", "BTJD for MJD"): lambda t: t.put("TIME", lambda v: v - 56999.5),
    ("E4", "JD for MJD"): lambda t: t.put("TIME", lambda v: v + 2400000.5),
    ("E5", "MJD -99 for padding"): lambda t: t.put("TIME", pad_times),
    ("E5", "0 for padding"): lambda t: t.put("TIME", edge(0.0, start=-2)),
    ("E5", "the last time repeated"): lambda t: t.put("TIME", repeat_last),
    ("E6", "a band left empty"): lambda t: t.put(
        "LC", lambda v: v * np.array([1, 0], "f4")[:, None]
    ),
    ("E7", "errors 0 for padding"): lambda t: t.put("LC_ERR", edge(0.0, start=-2)),
    ("J1", "rows joined with another object's"): shift_rows,
}

# What follows from some of them: where everything is flagged there is nothing, and so on.
ALSO = {
    ("U1", "a unit that is none"): {"U2"},
    ("N4", "a mask whose True is good"): {"N8"},
    ("N5", "everything flagged"): {"N8"},
    ("G2", "the logarithm of the wavelength in um"): {"G3"},
}


@pytest.mark.parametrize(("rule", "what"), PLANTED, ids=lambda text: text.replace(" ", "_"))
def test_planted(tree, rule, what):
    """Each fault is found under its rule, and no rule that it does not break is named."""
    PLANTED[rule, what](tree)
    report = look(tree)
    assert broken(report) == {rule} | ALSO.get((rule, what), set())
    found = report.problems if RULES[rule].severity == "error" else report.warnings
    assert rule in {problem.rule for problem in found}
    assert len(report.problems) + len(report.warnings) <= 6
