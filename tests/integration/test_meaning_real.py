"""Real survey files are as they should be, by every rule of meaning; what is not is explained."""

import numpy as np
import pytest

from astropile import build_catalog, validate_catalog
from astropile.meaning.rules import RULES

pytestmark = pytest.mark.real


def look(survey, native, tree):
    build_catalog(survey, native, tree, tolerance=1, progress=False)
    return validate_catalog(tree, rules=RULES, progress=False)


def names(report):
    return [problem.rule for problem in report.warnings]


def link(files, folder):
    folder.mkdir(parents=True)
    for path in files:
        (folder / path.name).symlink_to(path)
    return folder


@pytest.mark.parametrize(
    ("survey", "folder", "warnings"),
    [
        ("sdss", "spectra/sdss/spec-full", []),
        # A fibre on a target that no pixel of saw anything: all its ivar are 0.
        ("desi", "spectra/desi", ["N8"]),
        ("hst", "images/hst", []),
        ("hsc_stamps", "images/hsc", []),
        ("hst_galsim", "images/hst_cosmos_galsim", []),
    ],
)
def test_real_trees(real_data, tmp_path, survey, folder, warnings):
    """No error, and no warning but the one that is true."""
    report = look(survey, real_data / folder, tmp_path / survey)
    assert report.problems == ()
    assert names(report) == warnings
    assert report.looked["P1"] == report.n_objects
    if survey in ("sdss", "desi"):
        assert {"N3", "N4", "N11", "G1", "G4", "G8", "Z1", "Z4"} <= set(report.looked)


def test_real_frames(real_data, tmp_path):
    """The frames of Stripe 82 weigh their pixels by their noise."""
    source = real_data / "spectra/sdss"
    spectra = [
        source / f"spec-lite/spec-{name}.fits"
        for name in ("3127-54835-0622", "7330-56684-0434", "4238-55455-0037")
    ]
    frames = sorted((source / "companion_frames_s82").glob("frame-*.bz2"))
    native = link([*frames, *spectra], tmp_path / "native")
    report = look("sdss_imaging", native, tmp_path / "sdss_imaging")
    assert report.problems == report.warnings == ()
    assert {"N3", "N4", "N11", "I1", "I2", "I4"} <= set(report.looked)


def test_real_maps_and_random_cube(real_data, tmp_path):
    """MaNGA's maps are sound; a cube of random numbers, wavelengths too, is found out."""
    folder = real_data / "ifu/manga"
    (maps,), (cube,) = (list(folder.glob(f"*-{kind}*")) for kind in ("MAPS", "LOGCUBE"))
    report = look("manga", link([maps], tmp_path / "maps"), tmp_path / "tree/maps")
    assert report.problems == report.warnings == ()
    report = look("manga", link([cube], tmp_path / "cube"), tmp_path / "tree/cube")
    (problem,) = report.problems
    assert problem.rule == "G1"
    assert "do not increase after pixel 1" in problem.message


def test_real_noise_is_that_of_ivar(real_data):
    """Noise of ten instruments is ivar's within a factor of six, far inside the rule's ten."""
    from astropy.io import fits

    from astropile.meaning.noise import FOURTH, SECOND, differences

    def factor(flux, ivar):
        flux, ivar = np.asarray(flux, float), np.asarray(ivar, float)
        used = np.isfinite(flux) & np.isfinite(ivar) & (ivar > 0)
        found = []
        for kernel in (SECOND, FOURTH):
            noise, weight = differences(flux, ivar, used, kernel)
            scaled = noise * np.sqrt(weight)
            found.append(1.4826 * np.median(np.abs(scaled - np.median(scaled))))
        return min(found) if found[0] > 1 else found[0]

    measured = {}
    with fits.open(real_data / "images/hsc_lsstpipe/HSC-0908120-056-small.fits") as hdus:
        measured["HSC"] = factor(hdus[1].data, 1 / hdus[3].data.astype(float))
    legacy = real_data / "images/legacysurvey/viewer_cutout_pysersic"
    with fits.open(legacy / "cutout_59.1067_-30.4848.fits") as hdus:
        measured["DECam"] = factor(hdus[1].data, hdus[2].data)
    with fits.open(real_data / "ifu/manga/MaNGA_test_spectra.fits.gz") as hdus:
        measured["MaNGA"] = factor(hdus["FLUX"].data, hdus["IVAR"].data)
    with fits.open(real_data / "ifu/muse/subcub_mosaic.fits") as hdus:
        cube, variance = (np.moveaxis(hdus[number].data, 0, -1) for number in (1, 2))
        measured["MUSE"] = factor(cube, 1 / variance.astype(float))
    with fits.open(min((real_data / "spectra/galah/dr3").glob("*1.fits"))) as hdus:
        flux, error = (hdus[number].data.astype(float) for number in (0, 1))
        measured["GALAH"] = factor(flux, (flux * error) ** -2)
    for number, path in enumerate(sorted((real_data / "spectra/apogee").rglob("ap*.fits"))[:5]):
        with fits.open(path) as hdus:
            flux, error = (np.atleast_2d(hdus[i].data)[0].astype(float) for i in (1, 2))
            measured[f"APOGEE {number}"] = factor(flux, error**-2)
    assert len(measured) == 10
    assert all(1 / 6 < value < 2 for value in measured.values()), measured
