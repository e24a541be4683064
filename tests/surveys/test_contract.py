"""What holds for every survey, from its simulated native files to its standard view."""

import importlib
import json

import numpy as np
import pyarrow as pa
import pytest

from astropile import build_catalog, get_survey, list_surveys, open_catalog, validate_catalog
from astropile.facts import survey_from_json, survey_to_json
from astropile.names import COMMON_COLUMNS, FIELD_UNITS, PROVENANCE_FIELDS
from astropile.schema import Formula, Ragged
from astropile.simulate.galaxies import make_galaxies
from astropile.testing import read_all

N_GALAXIES = 3
SURVEYS = list_surveys()


@pytest.fixture(scope="module", params=SURVEYS)
def built(request, tmp_path_factory):
    """A survey, its native files and its tree."""
    survey = get_survey(request.param)
    folder = tmp_path_factory.mktemp(survey.name)
    simulate = importlib.import_module(f"astropile.simulate.{survey.name}")
    simulate.write(folder / "native", make_galaxies(N_GALAXIES, seed=5), seed=5)
    report = build_catalog(survey, folder / "native", folder / survey.name, tolerance=0)
    return survey, folder / "native", folder / survey.name, report


def test_nothing_is_lost(built):
    """Every simulated object is in the tree; what was left out was left out on purpose."""
    _, _, tree, report = built
    assert report.n_written == N_GALAXIES
    assert report.n_read == report.n_written + report.n_rejected
    lines = (tree / report.path.name / "manifest/rejected.jsonl").read_text().splitlines()
    assert sum(json.loads(line)["count"] for line in lines) == report.n_rejected


def test_valid(built):
    """The validator is silent."""
    _, _, tree, _ = built
    assert validate_catalog(tree).problems == ()


def test_native_values(built):
    """Every native value in the tree is bit for bit the one that was read."""
    survey, native, tree, _ = built
    catalog = open_catalog(tree)
    expected, _ = read_all(survey, native)
    found = catalog.take(np.arange(len(catalog)))
    key = str(survey.aliases["observation_id"])
    order = [list(expected[key]).index(name) for name in found[key]]
    for column in survey.columns:
        mine, theirs = found[column.name], expected[column.name]
        if column.shared:
            assert np.asarray(mine).tobytes() == np.asarray(theirs).tobytes(), column.name
            continue
        for row, number in enumerate(order):
            one, other = np.asarray(mine[row]), np.asarray(theirs[number])
            assert one.shape == other.shape, column.name
            assert one.dtype == other.dtype, column.name
            assert one.tobytes() == np.ascontiguousarray(other).tobytes(), column.name
        assert isinstance(mine, Ragged) == bool(survey.ragged_dims(column))


def test_standard_view(built):
    """Every example says where it comes from, what it is and where it lies."""
    survey, _, tree, _ = built
    catalog = open_catalog(tree)
    table = catalog.standard([0])
    row = table.select(["provenance", *COMMON_COLUMNS]).to_pylist()[0]
    assert set(row["provenance"]) == set(PROVENANCE_FIELDS)
    assert row["provenance"] == survey.provenance
    assert all(row[name] is not None and row[name] != "" for name in COMMON_COLUMNS)
    light = catalog.light().slice(0, 1).to_pylist()[0]
    assert row["ra"] == light["ra"]
    assert 0 <= row["ra"] < 360
    for name in survey.aliases:
        assert name in table.column_names
    consumed = {name for name in survey.column_names if name not in table.column_names}
    used = {alias for alias in survey.aliases.values() if isinstance(alias, str)}
    for name in consumed - used:
        text = json.dumps(survey_to_json(survey)["aliases"])
        assert f'"{name}"' in text, f"{name} is nowhere in the standard view"


def records(table, name):
    """All records of a standard column, as dicts of Arrow arrays."""
    column = table[name].combine_chunks()
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        column = column.values
    return column


REQUIRED = {
    "image": {"array", "psf_fwhm", "pixel_size", "filter", "units"},
    "spectrum": {"flux", "ivar", "lsf_sigma", "lambda", "mask", "extra"},
    "spaxels": {"flux", "ivar", "lsf_sigma", "lambda", "mask", "x", "y", "extra"},
    "images": {"label", "filter", "data", "mask"},
}


def test_records_of_the_design(built):
    """Image, spectrum and IFU records have the fields that the design document asks for."""
    survey, _, tree, _ = built
    catalog = open_catalog(tree)
    kinds = [kind for kind in REQUIRED if kind in survey.aliases]
    assert kinds, f"{survey.name} has neither images nor spectra nor spaxels"
    for kind in kinds:
        table = catalog.standard([0], [kind])
        fields = {field.name for field in records(table, kind).type}
        assert REQUIRED[kind] <= fields
        if kind == "spectrum":
            assert {"z", "z_err"} <= set(survey.aliases)
    if "spaxels" in kinds:
        assert {"spaxel_size", "z", "z_err", "images"} <= set(survey.aliases)


def flat(array):
    """All numbers of a nested Arrow array."""
    while pa.types.is_nested(array.type):
        array = array.flatten()
    return array.to_numpy(zero_copy_only=False)


def test_weights_and_wavelengths(built):
    """In the standard view ivar is finite and >= 0, 0 where bad; wavelengths are positive."""
    survey, _, tree, _ = built
    catalog = open_catalog(tree)
    for kind in ("image", "spectrum", "spaxels"):
        if kind not in survey.aliases:
            continue
        found = records(catalog.standard(np.arange(len(catalog)), [kind]), kind)
        names = [field.name for field in found.type]
        if "ivar" in names:
            ivar = flat(found.field("ivar"))
            assert np.isfinite(ivar).all()
            assert (ivar >= 0).all()
            if "mask" in names and len(flat(found.field("mask"))) == len(ivar):
                bad = flat(found.field("mask"))
                assert bad.dtype == bool
                assert (ivar[bad] == 0).all()
        if "lambda" in names:
            assert (flat(found.field("lambda")) > 0).all()
        if "lsf_sigma" in names:
            sigma = flat(found.field("lsf_sigma"))
            assert np.nanmax(sigma) < 20
            assert np.nanmedian(sigma[sigma > 0]) > 0.1


@pytest.mark.parametrize("name", SURVEYS)
def test_facts(name):
    """Units parse, licence and citation are stated, and the facts survive the tree."""
    from astropy.units import Unit

    survey = get_survey(name)
    for column in survey.columns:
        Unit(column.unit)
    for source in survey.aliases.values():
        if isinstance(source, Formula):
            Unit(source.unit)
            assert source.doc
    for fact in ("title", "description", "homepage", "citation", "licence", "release"):
        assert getattr(survey, fact).strip(), fact
    if "mag" in survey.aliases:
        mag = survey.aliases["mag"]
        assert isinstance(mag, Formula)
        assert mag.unit == FIELD_UNITS["mag"]
    back = survey_from_json(json.loads(json.dumps(survey_to_json(survey))), "here")
    assert survey_to_json(back) == survey_to_json(survey)


def test_imaging_surveys_have_a_magnitude():
    """The surveys of the design document that have images say which magnitude to go to."""
    for name in ("hsc", "decals", "legacysurvey", "sdss_imaging"):
        assert "mag" in get_survey(name).aliases
