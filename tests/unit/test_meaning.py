"""Whatever cannot be true is found and named; what is true is not accused."""

import json
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.strategies import floats, integers

from astropile import build_catalog, open_catalog, validate_catalog
from astropile.cli.main import main
from astropile.findings import ALL_RULES, FORMAT_RULES, choose_rules
from astropile.healpix import ang2pix, ring_of_nested
from astropile.meaning.noise import FOURTH, SECOND, differences, trend
from astropile.meaning.rules import RULES
from astropile.meaning.spectra import grid_jitter
from astropile.meaning.times import zero_point_range
from planted import IVAR, Tree, make_survey, make_values

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
    assert report.looked["N1"] == report.looked["P1"] == report.n_objects == 36


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
    ("K3", "an identifier through float64"): lambda t: (
        t.put("ID", lambda v: v.astype("f8").astype("i8"))
        or t.put("object_id", lambda v: v.astype("f8").astype("i8"))
    ),
    ("K4", "row numbers"): lambda t: rename(t, np.int64),
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
    ("N6", "quality in float32"): lambda t: (
        t.put("LC_QUALITY", lambda v: v.astype("f4")) or t.column("LC_QUALITY", dtype="float32")
    ),
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
    ("I5", "bands in another order"): lambda t: (
        t.put("BAND", half_filters) or t.put("A", half_filters)
    ),
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


def test_the_page_has_every_rule():
    """The table of the page names each rule, and which are warnings."""
    page = (Path(__file__).parents[2] / "docs/how-to/validate.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([A-Z][0-9]+)( \*w\*)? \|", page, re.MULTILINE)
    assert [name for name, _ in rows] == list(RULES)
    warned = {name for name, mark in rows if mark}
    assert warned == {name for name, rule in RULES.items() if rule.severity == "warning"}


def test_the_rules_of_the_format_are_known():
    """Every rule of the page on the format can be chosen."""
    page = (Path(__file__).parents[2] / "docs/format.md").read_text(encoding="utf-8")
    stated = re.findall(r"^- \*\*([A-Z][0-9]+)\*\*", page, re.MULTILINE)
    assert len(stated) > 30
    assert set(stated) <= set(FORMAT_RULES)


def test_every_error_of_the_page_has_its_rule():
    """The rules that the page says find the errors of v1 are rules of meaning or of the format."""
    page = (Path(__file__).parents[2] / "docs/how-to/validate.md").read_text(encoding="utf-8")
    table = page.partition("| found by |")[2].partition("These no file can show")[0]
    named = set(re.findall(r"\b[A-Z][0-9]+\b", table)) - {"DR10"}
    assert named <= set(ALL_RULES)
    assert len(named & MEANING) > 30


def test_damage_and_meaning_are_told_apart(tree, capsys):
    """Exit status 0 for a sound tree, 3 for one that cannot be true, 4 for a broken one."""
    assert main(["validate", str(tree.folder)]) == 0
    tree.put("Z", some(-9.0))
    words = ["validate", str(tree.folder)]
    assert main([*words, "--only", "Z", "K"]) == 3
    assert main([*words, "--only", "Z", "--skip", "Z1"]) == 0
    capsys.readouterr()
    assert main([*words, "--only", "Z1", "--json"]) == 3
    (subset,) = json.loads(capsys.readouterr().out)["subsets"]
    (problem,) = subset["problems"]
    assert problem["rule"] == "Z1"
    assert problem["count"] == sum(-(-n // 3) for n in sizes(tree))
    assert "the redshift -9" in problem["message"]
    assert re.fullmatch(r"z of healpix=\d+/001-of-00\d.hdf5, row 0", problem["where"])
    assert subset["looked"] == {"Z1": 36}
    # The manifest tells another file.
    assert main([*words, "--skip", "P"]) == 4
    assert main([*words, "--only", "Q"]) == 2
    assert "'Q' is no rule" in capsys.readouterr().err


def sizes(tree):
    return [shard.n_objects for shard in open_catalog(tree.folder).shards]


def test_strict(tree, capsys):
    """A warning is said and passes; with --strict it does not."""
    tree.declare(time_scale="")
    words = ["validate", str(tree.folder), "--only", "E"]
    assert main(words) == 0
    assert "warning: E3 lightcurve.time: the survey states no time_scale" in capsys.readouterr().out
    assert main([*words, "--strict"]) == 3


def test_sample_and_hands(tree):
    """A sample looks at so many objects of each file; other hands find just the same."""
    tree.put("IVAR", edge(-1.0, start=-5))
    whole = look(tree)
    with ThreadPoolExecutor(2) as executor:
        assert look(tree, executor=executor) == whole
    sampled = look(tree, sample=2)
    assert broken(sampled) == broken(whole) == {"N1"}
    assert sampled.looked["N1"] == sum(min(2, n) for n in sizes(tree))
    assert sampled.looked["P1"] == 36


def test_blocks(tree, monkeypatch):
    """What is found does not depend on how many rows are in memory at a time."""
    tree.put("FLUX", edge(1.5))
    tree.put("ZERR", some(-1.0, every=4))
    whole = look(tree)
    for n_bytes in (1, 20_000):
        monkeypatch.setattr("astropile.meaning.look.BLOCK_NBYTES", n_bytes)
        monkeypatch.setattr("astropile.meaning.look._LIGHT_ROWS", max(1, n_bytes // 10_000))
        assert look(tree) == whole
    assert broken(whole) == {"N7", "Z4"}


def test_a_file_that_cannot_be_read(tree):
    """A damaged file is a problem; the others are looked at all the same."""
    path = tree.shards[0]
    path.write_bytes(path.read_bytes()[:1000])
    tree.put("Z", some(-9.0), shards=[1])
    report = look(tree)
    assert broken(report) == {"S1", "Z1"}
    assert report.looked["P1"] == 36 - sizes(tree)[0]


def test_chosen_rules():
    """A letter stands for its series, of the format or of meaning; others are refused."""
    assert choose_rules(["J", "N3"]) == {"J1", "N3"}
    assert choose_rules(["D"], ["D2"]) == {"D1"}
    assert choose_rules() >= MEANING | {"T1", "W3"}
    with pytest.raises(ValueError, match="'N99' is no rule"):
        choose_rules(["N99"])


@given(
    sigma=floats(0.01, 100),
    slope=floats(0, 2),
    seed=integers(0, 2**32 - 1),
)
@settings(deadline=None, max_examples=25)
def test_right_weights(sigma, slope, seed):
    """Noise of any size has scatter 1 and trend -0.5 by its own inverse variance."""
    rng = np.random.default_rng(seed)
    deviation = sigma * (1 + np.linspace(0, 1, 4000)) ** slope
    flux, ivar = rng.normal(0, deviation), deviation**-2
    used = np.ones(4000, bool)
    for kernel in (SECOND, FOURTH):
        noise, weight = differences(flux, ivar, used, kernel)
        assert len(noise) == 3996
        assert np.std(noise * np.sqrt(weight)) == pytest.approx(1, abs=0.12)
        measured = trend(noise, weight)
        if 2 ** (2 * slope) > 8:
            assert measured == pytest.approx(-0.5, abs=0.25)
        for wrong, power in ((deviation, 1.0), (deviation**2, 0.5)):
            measured = trend(*differences(flux, wrong, used, kernel))
            if 2 ** (slope / power) > 8:
                assert measured == pytest.approx(power, abs=0.4)


def test_jitter_of_grids():
    """Grids that are smooth have none, whatever function; float32 exponents have 4 percent."""
    line = np.arange(4000.0)
    for wave in (3600 + 0.8 * line, 10 ** (3.55 + 1e-4 * line), np.sqrt(1e7 + 1e3 * line)):
        assert grid_jitter(wave) < 1e-4
    assert 0.02 < grid_jitter(10.0 ** (4.179 + 6e-6 * line).astype("f4").astype("f8")) < 0.1
    gap = np.concatenate([3600 + 0.8 * line[:2000], 8000 + 0.8 * line[:2000]])
    assert grid_jitter(gap) < 1e-4


@pytest.mark.parametrize(
    ("scale", "span"),
    [
        ("MJD, TDB", (15000, 88100)),
        ("MJD [d]; TAI in seconds since MJD 0", (15000, 88100)),
        ("BTJD", (1000, 20000)),
        ("JD - 2450000", (-35000, 38100)),
        ("TAI in seconds since MJD 0", None),
        ("", None),
    ],
)
def test_zero_points(scale, span):
    """The range of times follows from what is stated, or nothing does."""
    assert zero_point_range(scale) == span
