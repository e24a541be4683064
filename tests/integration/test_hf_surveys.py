"""Spectra, cubes and cutouts of real surveys' layouts as datasets, alone and together."""

import importlib

import datasets
import numpy as np
import pytest

import astropile
from astropile.simulate.galaxies import make_galaxies
from digest import digest
from hftrees import quiet  # noqa: F401

SURVEYS = ("desi", "manga", "sdss_imaging")


@pytest.fixture(scope="module")
def surveys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("surveys")
    galaxies = make_galaxies(3, seed=4)
    found = {}
    for name in SURVEYS:
        native = folder / "native" / name
        importlib.import_module(f"astropile.simulate.{name}").write(native, galaxies, seed=1)
        astropile.build_catalog(name, native, folder / name, tolerance=1, progress=False)
        found[name] = astropile.load_dataset(folder / name)
    return found


@pytest.mark.parametrize("name", SURVEYS)
def test_saved_bit_for_bit(surveys, name, tmp_path):
    """Every native column and standard record survives save_to_disk; streams say the same."""
    dataset = surveys[name]
    dataset.save_to_disk(tmp_path / name)
    bits = digest(dataset.with_format("arrow")[:])
    assert digest(datasets.load_from_disk(tmp_path / name).with_format("arrow")[:]) == bits
    stream = astropile.load_dataset(dataset.data.source.path, streaming=True).with_format("arrow")
    batches = [datasets.table.InMemoryTable(batch).table for batch in stream.iter(2)]
    assert sum(len(batch) for batch in batches) == len(dataset)
    assert digest(batches[0]) == digest(dataset.with_format("arrow")[: len(batches[0])])


def test_cube_has_the_documents_fields(surveys):
    """Spaxels with flux, ivar, lsf_sigma, lambda, mask, x, y; labelled images."""
    cube = surveys["manga"].with_format("astropile")[0]
    spaxel = cube["spaxels"][0]
    assert {"flux", "ivar", "lsf_sigma", "lambda", "mask", "x", "y", "extra"} <= set(spaxel)
    assert spaxel["flux"].shape == spaxel["lambda"].shape == spaxel["mask"].shape
    assert spaxel["flux"].dtype == np.float32
    assert all(image["data"].ndim == 2 for image in cube["images"])
    assert any(image["mask"] is None for image in cube["images"])
    assert len({image["label"] for image in cube["images"]}) == len(cube["images"])


def test_surveys_together(surveys, tmp_path):
    """Cubes, spectra and images in one dataset, told apart by provenance, saved as such."""
    together = astropile.concatenate_datasets(surveys.values())
    shown = [p["survey"] for p in together["provenance"]]
    assert len(set(shown)) == len(SURVEYS)
    assert together.features["object_id"] == datasets.Value("string")
    last = together[len(together) - 1]
    assert last["spaxels"] is None
    assert last["image"] == surveys["sdss_imaging"][-1]["image"]
    together.save_to_disk(tmp_path / "together")
    back = datasets.load_from_disk(tmp_path / "together")
    assert digest(back.with_format("arrow")[:]) == digest(together.with_format("arrow")[:])
