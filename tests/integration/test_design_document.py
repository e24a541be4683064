"""The example of the design document, run as written, on HSC and DECaLS trees."""

import subprocess
import sys
from pathlib import Path

import datasets
import pytest

import astropile
from astropile.simulate import decals, hsc
from astropile.simulate.galaxies import make_galaxies
from digest import digest
from hftrees import environment, quiet, reload_elsewhere  # noqa: F401
from hubserver import Hub

SNIPPET = """
import datasets
from astropile import cross_match_datasets

# Load the parent datasets
hsc = datasets.load_building(data_dir='~/data/hsc', config_name='pdr3_dud_22.5')
decals = datasets.load_building(data_dir='~/data/decals', config_name='stein_et_al')

# Build a cross-matched dataset by matching the objects in the two surveys within 1 arcsecond
matched_catalog, matched_dset = cross_match_datasets(hsc, decals, match_radius=1.0)

# The cross-matched dataset can now be saved to disk
matched_dataset.save_to_disk("hsc_meets_decals")

# Push to the HuggingFace Datasets Hub, but be careful not to push large datasets as special
# considerations apply (see https://huggingface.co/docs/hub/repositories-recommendations)
matched_dataset.push_to_hub("my_name/hsc_meets_decals")
"""

READ_AS = {
    # datasets has no load_building; current ones want a dataset's name for what it means.
    "datasets.load_building(": 'datasets.load_dataset_builder("astropile", ',
    "config_name=": "name=",
    # The document calls the result by two names.
    "matched_dset": "matched_dataset",
}
OURS = {
    # The same through our own function, which takes the document's very arguments.
    "datasets.load_building(": "load_dataset_builder(",
    "from astropile import": "from astropile import load_dataset_builder,",
    "matched_dset": "matched_dataset",
}

N_GALAXIES = 6


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A home folder with the two trees, built from the surveys' own files."""
    folder = tmp_path_factory.mktemp("home")
    galaxies = make_galaxies(N_GALAXIES, seed=7, radius_deg=0.05)
    for survey, simulated, subset in (
        ("hsc", hsc, "pdr3_dud_22.5"),
        ("decals", decals, "stein_et_al"),
    ):
        native = folder / "native" / survey
        simulated.write(native, galaxies, seed=3)
        report = astropile.build_catalog(
            survey, native, folder / "data" / survey, subset=subset, progress=False, tolerance=1
        )
        assert report.n_written > 0
    return folder


def _run(snippet, readings, home, folder, **facts):
    for written, read in readings.items():
        assert written in snippet
        snippet = snippet.replace(written, read)
    done = subprocess.run(
        [sys.executable, "-W", "error::FutureWarning", "-c", snippet],
        capture_output=True,
        text=True,
        cwd=folder,
        env={
            **environment(folder, HF_HUB_DISABLE_XET="1", **facts),
            "HOME": str(home),
            "PYTHONPATH": str(Path(astropile.__file__).parents[1]),
        },
        check=False,
    )
    assert done.returncode == 0, done.stderr


def _matched(home):
    builders = [
        astropile.load_dataset_builder(data_dir=home / "data" / name, config_name=subset)
        for name, subset in (("hsc", "pdr3_dud_22.5"), ("decals", "stein_et_al"))
    ]
    return astropile.cross_match_datasets(*builders, match_radius=1.0)


def test_the_example_runs_as_written(home, tmp_path):
    """Two builders, a match, saved and pushed; both load elsewhere bit for bit."""
    expected = _matched(home)
    assert len(expected.dataset) > 0
    bits = digest(expected.dataset.with_format("arrow")[:])
    with Hub() as hub:
        facts = {"HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_test"}
        _run(SNIPPET, READ_AS, home, tmp_path, **facts)
        pushed = reload_elsewhere(tmp_path, "hub", "my_name/hsc_meets_decals", **facts)
    saved = reload_elsewhere(tmp_path, "disk", tmp_path / "hsc_meets_decals")
    for found in (pushed, saved):
        assert found["n"] == len(expected.dataset)
        assert found["digest"] == bits
        assert found["units"] == {"ra": "deg", "dec": "deg", "separation": "arcsec"}


def test_the_example_runs_with_our_own_builder(home, tmp_path):
    """load_dataset_builder of astropile takes the document's arguments unchanged."""
    until_push, _ = SNIPPET.split("# Push to")
    _run(until_push, OURS, home, tmp_path)
    saved = datasets.load_from_disk(tmp_path / "hsc_meets_decals")
    assert len(saved) == len(_matched(home).dataset)


def test_examples_have_the_documents_fields(home):
    """Provenance, identifiers, position, and an image per band with all it says."""
    record = _matched(home).dataset.with_format("astropile")[0]
    for name in ("hsc", "decals"):
        example = record[name]
        assert set(example["provenance"]) == {"project", "survey", "release"}
        assert {"object_id", "observation_id", "ra", "dec", "healpix", "image"} <= set(example)
        for image in example["image"]:
            assert {"array", "psf_fwhm", "pixel_size", "noise_std", "filter"} <= set(image)
            assert {"units", "extinction"} <= set(image)
            assert image["array"].dtype == "float32"
            assert image["array"].ndim == 2
    assert record["separation"] <= 1.0
    assert record["hsc"]["provenance"]["survey"] == "HSC"
    assert [image["filter"] for image in record["decals"]["image"]] == ["g", "r", "z"]
