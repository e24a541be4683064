"""Fluxes of all surveys in one unit: published zero points, magnitudes and back."""

import re

import numpy as np
import pytest
from astropy import units
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from astropile.errors import SampleError
from astropile.surveys import get_survey, list_surveys
from astropile.transforms.photometry import (
    NJY_PER_NANOMAGGY,
    SDSS_SOFTENING,
    ab_magnitude,
    asinh_magnitude,
    deredden,
    f_lambda_to_njy,
    flux_from_ab,
    flux_from_asinh,
    from_njy,
    hst_zero_point,
    to_njy,
    unit_in_njy,
    zero_point_to_njy,
)

ZERO_FLUX = {"u": 24.63, "g": 25.11, "r": 24.80, "i": 24.36, "z": 22.83}
TEN_B = {"u": 22.12, "g": 22.60, "r": 22.29, "i": 21.85, "z": 20.32}
"""Asinh magnitudes of flux 0 and of 10 b: Stoughton et al. 2002, AJ 123, 485, table 21."""
FLUXES = st.floats(1e-3, 1e9)


@pytest.mark.parametrize(
    ("unit", "njy"),
    [
        ("nJy", 1),
        ("uJy", 1e3),
        ("Jy", 1e9),
        ("erg / (s cm2 Hz)", 1e32),
        ("nanomaggy", 3630.7805),
        ("1e-9 maggy", 3630.7805),
        ("0.0158489319246111 nanomaggy", 57.543994),
    ],
)
def test_units(unit, njy):
    """A nanomaggy is 3630.78 nJy; a count of HSC's coadds, of zero point 27, is 57.544."""
    assert unit_in_njy(unit) == pytest.approx(njy, rel=1e-7)


@pytest.mark.parametrize(
    ("magnitude", "unit"),
    [(22.5, "nanomaggy"), (27.0, "0.0158489319246111 nanomaggy"), (31.4, "nJy"), (8.9, "Jy")],
)
def test_published_zero_points(magnitude, unit):
    """A flux of 1 has the AB magnitude that surveys publish for their unit."""
    njy, _ = to_njy(np.ones(1), unit=unit)
    assert ab_magnitude(njy)[0] == pytest.approx(magnitude, abs=1e-4)
    np.testing.assert_allclose(njy, to_njy(np.ones(1), zero_point=magnitude)[0], rtol=1e-4)


def test_hst_zero_point():
    """PHOTFLAM and PHOTPLAM of ACS F814W give its AB zero point, 25.94 to 25.96."""
    assert hst_zero_point(7.0332e-20, 8045.0) == pytest.approx(25.95, abs=0.01)


def test_every_flux_of_every_survey_is_understood():
    """All units of flux and of its inverse variance that surveys declare agree and convert."""
    found = set()
    for name in list_surveys():
        for column in get_survey(name).columns:
            unit = column.unit or ""
            if re.fullmatch(r"[0-9.e-]* ?nanomaggy", unit):
                found.add(unit)
                assert unit_in_njy(unit) > 0
    assert {"nanomaggy", "0.0158489319246111 nanomaggy"} <= found


@settings(deadline=None)
@given(FLUXES, st.sampled_from(["nanomaggy", "uJy"]), st.floats(1e-6, 1e6))
def test_units_and_back(flux, unit, ivar):
    """Signal to noise stays, and the way back gives the flux."""
    njy, weight = to_njy(np.array([flux]), np.array([ivar]), unit=unit)
    np.testing.assert_allclose(njy**2 * weight, flux**2 * ivar, rtol=1e-12)
    back, again = from_njy(njy, weight, unit=unit)
    np.testing.assert_allclose([back[0], again[0]], [flux, ivar], rtol=1e-12)


@settings(deadline=None)
@given(FLUXES, st.floats(1000, 1e5))
def test_spectra_in_nanojansky(flux, wave):
    """Flux per wavelength is what astropy makes of it; flux over error stays."""
    unit = "1e-17 erg / (s cm2 Angstrom)"
    njy, ivar = f_lambda_to_njy(np.array([flux]), np.array([4.0]), wave=np.array([wave]), unit=unit)
    quantity = flux * units.Unit(unit)
    expected = quantity.to_value("nJy", units.spectral_density(wave * units.AA))
    np.testing.assert_allclose(njy, expected, rtol=1e-10)
    np.testing.assert_allclose(njy**2 * ivar, 4 * flux**2, rtol=1e-10)


def test_zero_points_of_bands():
    """Zero points with axes of length 1 are those of bands; float32 stays."""
    image = np.ones((2, 3, 3), np.float32)
    njy, ivar = to_njy(image, image, zero_point=np.array([27.0, 22.5])[:, None, None])
    assert njy.dtype == ivar.dtype == np.float32
    np.testing.assert_allclose(njy[:, 0, 0], [57.544, 3630.7805], rtol=1e-6)
    np.testing.assert_allclose(ivar * njy**2, 1, rtol=1e-6)


@settings(deadline=None)
@given(FLUXES, st.floats(1e-6, 1e3))
def test_magnitudes_and_back(flux, ratio):
    """AB magnitudes give their flux back, with its error."""
    ivar = (ratio / flux) ** 2
    mag, err = ab_magnitude(np.array(flux), np.array(ivar))
    assert err == pytest.approx(1.0857362 / ratio, rel=1e-6)
    back, weight = flux_from_ab(mag, err)
    assert back == pytest.approx(flux, rel=1e-10)
    assert weight == pytest.approx(ivar, rel=1e-9)


def test_what_has_no_magnitude():
    """Fluxes of 0 and below have none; an inverse variance of 0 is an infinite error and back."""
    mag, err = ab_magnitude(np.array([0.0, -1.0, 1.0]), np.array([1.0, 1.0, 0.0]))
    np.testing.assert_array_equal(mag, [np.nan, np.nan, 31.4])
    np.testing.assert_array_equal(err, [np.nan, np.nan, np.inf])
    flux, ivar = flux_from_ab(mag[2:], err[2:])
    assert flux[0] == pytest.approx(1)
    assert ivar[0] == 0


@pytest.mark.parametrize("band", "ugriz")
def test_published_asinh_magnitudes(band):
    """Flux 0 and flux 10 b have the asinh magnitudes of the table SDSS publishes."""
    soft = SDSS_SOFTENING[band]
    flux = np.array([0.0, 10 * soft]) * 1e9 * NJY_PER_NANOMAGGY
    mag, _ = asinh_magnitude(flux, softening=soft)
    np.testing.assert_allclose(mag, [ZERO_FLUX[band], TEN_B[band]], atol=0.006)


@settings(deadline=None)
@given(st.floats(-1e4, 1e8))
def test_asinh_magnitudes_and_back(flux):
    """Every flux, of any sign, has one, which gives it back; bright ones have the AB magnitude."""
    soft = SDSS_SOFTENING["r"]
    mag, err = asinh_magnitude(np.array(flux), np.array(1.0), softening=soft)
    assert flux_from_asinh(mag, softening=soft) == pytest.approx(flux, rel=1e-9, abs=1e-6)
    if flux > 1e5:
        ab, ab_err = ab_magnitude(np.array(flux), np.array(1.0))
        assert mag == pytest.approx(ab, abs=1e-3)
        assert err == pytest.approx(ab_err, rel=1e-3)


@settings(deadline=None)
@given(st.floats(-2, 5), st.floats(-1e3, 1e3))
def test_extinction(dust, flux):
    """One magnitude of dust is a factor of 10 ** 0.4; signal to noise stays; it can be undone."""
    bright, ivar = deredden(np.array([flux]), np.array([2.0]), extinction=dust)
    np.testing.assert_allclose(bright, flux * 10 ** (0.4 * dust), rtol=1e-12)
    np.testing.assert_allclose(bright**2 * ivar, flux**2 * 2, rtol=1e-10)
    back, _ = deredden(bright, extinction=-dust)
    np.testing.assert_allclose(back, flux, rtol=1e-12)


def test_torch_gives_the_same():
    """Tensors give what arrays give."""
    torch = pytest.importorskip("torch")
    flux, ivar = np.array([1.0, -2, 3e5], "f4"), np.array([1.0, 0, 2], "f4")
    for call in (
        lambda f, i: to_njy(f, i, unit="nanomaggy"),
        ab_magnitude,
        lambda f, i: asinh_magnitude(f, i, softening=1e-10),
        lambda f, i: deredden(f, i, extinction=0.3),
    ):
        for ours, theirs in zip(
            call(flux, ivar), call(torch.tensor(flux), torch.tensor(ivar)), strict=True
        ):
            np.testing.assert_allclose(theirs.numpy(), ours, rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: to_njy(np.ones(1)), "neither"),
        (lambda: to_njy(np.ones(1), unit="nJy", zero_point=27), "both"),
        (lambda: to_njy(np.ones(1), unit="count"), "zero_point"),
        (lambda: to_njy(np.ones(1), unit="magpies"), "astropy knows"),
        (lambda: f_lambda_to_njy(np.ones(1), wave=np.ones(1), unit="nJy"), "per wavelength"),
        (lambda: deredden(np.ones(1), extinction=np.nan), "finite"),
        (lambda: asinh_magnitude(np.ones(1), softening=0), "above 0"),
        (lambda: flux_from_ab(np.ones(1), np.zeros(1)), "above 0"),
    ],
)
def test_errors_say_what_was_expected(call, words):
    """Every bad argument is an error that says what it should be."""
    with pytest.raises(SampleError, match=words):
        call()


# --------------------------------------------------------------------------------------
# Real files


@pytest.mark.real
def test_stamps_of_hst_have_the_magnitude_of_the_catalogue(real_data):
    """Sums of COSMOS stamps with the zero point 25.94 agree with F814W magnitudes up to 23.5."""
    folder = real_data / "images/hst_cosmos_galsim"
    if not folder.is_dir():
        pytest.skip("no HST stamps")
    table = fits.getdata(folder / "real_galaxy_catalog_26_extension_example.fits")
    differences = []
    with fits.open(folder / "real_galaxy_images_extension.fits") as hdus:
        for row in table:
            if row["MAG"] < 23.5 and row["GAL_HDU"] < len(hdus):
                counts = np.array([hdus[int(row["GAL_HDU"])].data.sum()], float)
                njy, _ = to_njy(counts, zero_point=25.94)
                differences.append(ab_magnitude(njy)[0][0] - row["MAG"])
    assert len(differences) >= 5
    assert abs(np.median(differences)) < 0.05


@pytest.mark.real
def test_supernova_fluxes_have_their_published_magnitudes(real_data):
    """FLUXCAL of the Foundation survey, of zero point 27.5, has the MAG beside it, and errors."""
    path = real_data / "timeseries/foundation/Foundation_DR1/Foundation_DR1_ASASSN-15bc.txt"
    if not path.is_file():
        pytest.skip(f"no {path.name}")
    lines = [line.split() for line in path.read_text().splitlines() if line.startswith("OBS:")]
    flux, err, mag, mag_err = (np.array([line[k] for line in lines], float) for k in (4, 5, 6, 7))
    njy, ivar = to_njy(flux, err**-2, zero_point=27.5)
    found, found_err = ab_magnitude(njy, ivar)
    np.testing.assert_allclose(found, mag, atol=0.0011)
    np.testing.assert_allclose(found_err, mag_err, atol=0.0011)
    assert zero_point_to_njy(27.5) == pytest.approx(36.3078, rel=1e-5)


@pytest.mark.real
def test_sdss_spectra_have_the_flux_of_their_units(real_data):
    """SPECTROFLUX of SDSS, nanomaggies, is the spectrum's own flux through g and r, to 15 %."""
    path = real_data / "spectra/sdss/spec-lite/spec-0412-52254-0320.fits"
    if not path.is_file():
        pytest.skip(f"no {path.name}")
    with fits.open(path) as hdus:
        wave = 10 ** hdus[1].data["loglam"].astype(np.float64)
        flux = np.array(hdus[1].data["flux"], np.float64)
        published = np.array(hdus[2].data["SPECTROFLUX"][0], np.float64)
    for number, (first, last) in {1: (4100, 5300), 2: (5700, 6950)}.items():
        inside = (wave > first) & (wave < last)
        unit = {one.name: one.unit for one in get_survey("sdss").columns}["flux"]
        njy = np.median(f_lambda_to_njy(flux[inside], wave=wave[inside], unit=unit)[0])
        told, _ = to_njy(published[number : number + 1], unit="nanomaggy")
        assert njy == pytest.approx(told[0], rel=0.15)
