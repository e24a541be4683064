"""Real survey files, packaged and matched: pairs that are known to be on the same sky."""

import numpy as np
import pytest
from astropy.coordinates import SkyCoord, search_around_sky
from astropy.units import arcsec

import astropile
from astropile import build_catalog, open_catalog, validate_catalog

pytestmark = pytest.mark.real


def link(files, folder):
    """A native folder made of links to real files."""
    folder.mkdir(parents=True)
    for path in files:
        (folder / path.name).symlink_to(path)
    return folder


def build(survey, native, tree):
    report = build_catalog(survey, native, tree, tolerance=1)
    assert report.n_written > 0
    assert validate_catalog(tree).problems == ()
    return astropile.load_dataset_builder(data_dir=tree)


def brute_force(left, right, radius):
    """Row pairs of every left object's nearest right neighbour, by astropy."""
    left, right = (SkyCoord(*open_catalog(tree).positions(), unit="deg") for tree in (left, right))
    i, j, separation, _ = search_around_sky(left, right, radius * arcsec)
    nearest = {}
    for a, b, s in zip(i.tolist(), j.tolist(), separation.to_value(arcsec), strict=True):
        if a not in nearest or s < nearest[a][1]:
            nearest[a] = (b, s)
    return nearest


def test_hsc_and_hst_in_cosmos(real_data, tmp_path):
    """The two objects that HSC and HST stamps share are found, with both images."""
    hst = build("hst", real_data / "images/hst", tmp_path / "hst")
    hsc = build("hsc_stamps", real_data / "images/hsc", tmp_path / "hsc_stamps")
    catalog, dataset = astropile.cross_match_datasets(hst, hsc, match_radius=1.0)
    assert len(catalog) == len(dataset) == 2
    assert sorted(np.round(catalog["ra"], 3)) == [150.319, 150.330]
    assert sorted(np.round(catalog["dec"], 3)) == [2.039, 2.070]
    assert (catalog["separation"].to("arcsec").value < 0.2).all()
    for example in dataset:
        assert [image["filter"] for image in example["hst"]["image"]] == ["F814W"]
        assert len(example["hsc_stamps"]["image"]) == 5
        assert np.shape(example["hst"]["image"][0]["array"]) == (250, 250)
        assert np.shape(example["hsc_stamps"]["image"][0]["array"]) == (50, 50)


def test_sdss_frames_and_spectra_in_stripe_82(real_data, tmp_path):
    """Every spectrum inside the field finds its image, repeats included, as brute force says."""
    folder = real_data / "spectra/sdss"
    spectra = sorted(
        path
        for kind in ("spec-lite", "spec-full")
        for path in (folder / kind).glob("*.fits")
        if path.name.startswith(("spec-3127-", "spec-7330-", "spec-4238-"))
    )
    frames = sorted((folder / "companion_frames_s82").glob("frame-*.bz2"))
    left = build("sdss", link(spectra, tmp_path / "native/spectra"), tmp_path / "sdss")
    native = link([*frames, *spectra], tmp_path / "native/frames")
    right = build("sdss_imaging", native, tmp_path / "sdss_imaging")
    catalog, dataset = astropile.cross_match_datasets(left, right, match_radius=1.0)
    expected = brute_force(tmp_path / "sdss", tmp_path / "sdss_imaging", 1.0)
    assert len(catalog) == len(dataset) == len(expected) == 3
    stars = [
        e for e in dataset if abs(e["ra"] - 38.3018) < 0.001 and abs(e["dec"] + 0.1339) < 0.001
    ]
    assert len(stars) == 2
    assert len({example["sdss"]["observation_id"] for example in stars}) == 2
    for example in dataset:
        assert [image["filter"] for image in example["sdss_imaging"]["image"]] == list("ugriz")
        flux = np.asarray(example["sdss_imaging"]["image"][2]["array"])
        centre = flux[60:69, 60:69].sum()
        assert centre > 5 * abs(np.median(flux)) * 81
        assert len(example["sdss"]["spectrum"]["flux"]) == len(
            example["sdss"]["spectrum"]["lambda"]
        )


def test_desi_and_sdss_open(real_data, tmp_path):
    """Real DESI and SDSS trees open, match without an overlap, and keep their schema."""
    coadds = sorted((real_data / "spectra/desi").rglob("coadd-*.fits"))
    tables = sorted((real_data / "spectra/desi").rglob("QSO_cat*.fits*"))
    good = [path for path in coadds if "bad_format" not in path.parts]
    desi = build("desi", link([*good, *tables], tmp_path / "native/desi"), tmp_path / "desi")
    lite = sorted((real_data / "spectra/sdss/spec-lite").glob("spec-3655-*.fits"))[:10]
    sdss = build("sdss", link(lite, tmp_path / "native/sdss"), tmp_path / "sdss")
    assert len(desi.as_dataset("train")) == 15
    catalog, dataset = astropile.cross_match_datasets(sdss, desi, match_radius=1.0)
    assert len(catalog) == len(dataset) == 0
    assert {"sdss", "desi", "separation"} <= set(dataset.features)
    together = astropile.concatenate_datasets([sdss, desi])
    assert len(together) == 10 + 15
    first, last = together[0], together[-1]
    assert first["provenance"]["project"] != last["provenance"]["project"]
    assert len(last["spectrum"]["flux"]) == 7781


def test_manga_maps(real_data, tmp_path):
    """The real MAPS file is opened as one object with its labelled images."""
    maps = sorted((real_data / "ifu/manga").glob("*MAPS*"))
    builder = build("manga", link(maps, tmp_path / "native"), tmp_path / "manga")
    dataset = builder.as_dataset("train")
    assert len(dataset) == 1
    example = dataset[0]
    assert example["observation_id"] == "7815-3702"
    labels = [image["label"] for image in example["images"]]
    assert "stellar_vel" in labels
    assert len(labels) > 100
    velocity = np.asarray(example["images"][labels.index("stellar_vel")]["data"])
    assert velocity.shape == (42, 42)
    assert np.isfinite(velocity).all()
