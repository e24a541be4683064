"""Air and vacuum, lines of the night sky and bands of the atmosphere."""

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from astropile.errors import SampleError
from astropile.transforms.wavelengths import (
    SKY_LINES_AIR,
    TELLURIC_BANDS_AIR,
    air_to_vacuum,
    near_lines,
    sky_mask,
    telluric_mask,
    vacuum_to_air,
    within_bands,
)

PUBLISHED = [
    (4861.325, 4862.683),
    (4958.911, 4960.295),
    (5006.843, 5008.240),
    (6562.801, 6564.614),
    (6583.45, 6585.27),
    (6716.44, 6718.29),
]
"""Air and vacuum wavelengths of strong lines, as the line tables of SDSS give them."""


@pytest.mark.parametrize(("air", "vacuum"), PUBLISHED)
def test_published_lines(air, vacuum):
    """Hydrogen, oxygen, nitrogen and sulphur lines are converted as tables have them."""
    assert vacuum_to_air(np.array(vacuum)) == pytest.approx(air, abs=0.02)
    assert air_to_vacuum(np.array(air)) == pytest.approx(vacuum, abs=0.02)


@settings(deadline=None)
@given(st.floats(100, 3e5))
def test_round_trip(wave):
    """Vacuum to air and back is the same to 1e-9 Angstrom (1e-13 of the wavelength)."""
    back = air_to_vacuum(vacuum_to_air(np.array(wave)))
    assert abs(back - wave) < max(1e-9, 4e-13 * wave)


def test_equals_specutils():
    """specutils gives the same with the formula of Morton (2000)."""
    units = pytest.importorskip("astropy.units")
    pytest.importorskip("specutils")
    from specutils.utils.wcs_utils import vac_to_air

    wave = np.geomspace(2000.0, 25000.0, 500)
    theirs = vac_to_air(wave * units.AA, method="Morton2000").to_value(units.AA)
    np.testing.assert_allclose(vacuum_to_air(wave), theirs, rtol=0, atol=1e-8)


def test_below_2000_angstrom_all_is_vacuum():
    """Lyman alpha has one wavelength."""
    assert vacuum_to_air(np.array(1215.67)) == 1215.67
    assert air_to_vacuum(np.array(1215.67)) == 1215.67


def test_torch_gives_the_same():
    """Tensors give what arrays give."""
    torch = pytest.importorskip("torch")
    wave = np.linspace(1500.0, 10000.0, 50)
    np.testing.assert_array_equal(air_to_vacuum(torch.tensor(wave)), air_to_vacuum(wave))
    ours, theirs = (telluric_mask(some, medium="vacuum") for some in (wave, torch.tensor(wave)))
    np.testing.assert_array_equal(theirs, ours)


def test_lines_are_flagged_within_the_width_inclusive():
    """Pixels at the half width count, those beyond do not."""
    wave = np.array([5571.5, 5572.0, 5577.0, 5582.0, 5582.5])
    flagged = near_lines(wave, [5577.0], half_width=5.0)
    assert flagged.tolist() == [False, True, True, True, False]


def test_medium_matters():
    """A pixel 5 Angstrom above [O I] 5577 in air is nearer in vacuum."""
    wave = np.array([5583.0])
    assert not sky_mask(wave, medium="air")[0]
    assert sky_mask(wave, medium="vacuum")[0]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: sky_mask(np.ones(2), medium="water"), "air or vacuum"),
        (lambda: near_lines(np.ones(2), [1.0], half_width=0), "above 0"),
        (lambda: within_bands(np.ones(2), [(2.0, 1.0)]), "first wavelength"),
    ],
)
def test_errors_say_what_was_expected(call, words):
    """Every bad argument is an error that says what it should be."""
    with pytest.raises(SampleError, match=words):
        call()


@pytest.mark.real
def test_the_sky_of_sdss_peaks_at_the_lines(real_data):
    """In a sky that SDSS subtracted each line is the peak of its surroundings, to 2 Angstrom."""
    path = real_data / "spectra/sdss/spec-lite/spec-0412-52254-0320.fits"
    if not path.is_file():
        pytest.skip(f"no {path.name}")
    with fits.open(path) as hdus:
        wave = 10 ** hdus[1].data["loglam"].astype(np.float64)
        sky = np.array(hdus[1].data["sky"], np.float64)
    for line in air_to_vacuum(np.array(SKY_LINES_AIR)):
        near = abs(wave - line) < 4
        around = abs(wave - line) < 40
        peak = wave[near][sky[near].argmax()]
        assert abs(peak - line) < 2.5, line
        assert sky[near].max() > 1.1 * np.median(sky[around]), line


@pytest.mark.real
@pytest.mark.parametrize("band", ["O2 A", "O2 B"])
def test_the_atmosphere_absorbs_in_the_oxygen_bands(real_data, band):
    """In a DEEP2 spectrum, not corrected for it, flux within a band is below that beside it."""
    path = real_data / "spectra/deep2/spec1d.1245.066.12004136.fits"
    if not path.is_file():
        pytest.skip(f"no {path.name}")
    spectrum = fits.getdata(path, "Bxspf-B")
    wave, flux = (np.array(spectrum[name][0], np.float64) for name in ("LAMBDA", "SPEC"))
    ivar = np.array(spectrum["IVAR"][0], np.float64)
    first, last = TELLURIC_BANDS_AIR[band]
    inside = within_bands(wave, [(first, last)])
    beside = within_bands(wave, [(first - 60, last + 60)]) & ~inside
    absorbed = np.average(flux[inside], weights=ivar[inside])
    assert absorbed < 0.85 * np.average(flux[beside], weights=ivar[beside])
    assert (telluric_mask(wave, medium="air") >= inside).all()
