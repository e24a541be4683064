"""Continua, normalisation, signal to noise, and resolution of spectra."""

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from astropile.errors import SampleError
from astropile.transforms import _ops
from astropile.transforms.continuum import (
    der_snr,
    fit_continuum,
    robust_normalise,
    running_median,
    signal_to_noise,
)
from astropile.transforms.resolution import match_resolution
from astropile.transforms.spectra import linear_grid

ROWS = st.lists(st.floats(-100, 100), min_size=3, max_size=40)


@settings(deadline=None)
@given(ROWS)
def test_weighted_median_of_equal_weights_is_the_median(values):
    """With equal weights it is numpy's median; a weight of 0 takes a value out."""
    row = np.array(values)
    assert _ops.weighted_median(np, row, np.ones(row.size)) == np.median(row)
    weights = np.ones(row.size)
    weights[0] = 0
    assert _ops.weighted_median(np, row, weights) == np.median(row[1:])


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(0, 4)), min_size=1, max_size=12))
def test_integer_weights_are_repeats(pairs):
    """A weight of k counts as the value k times."""
    values = np.array([value for value, _ in pairs], float)
    weights = np.array([weight for _, weight in pairs], float)
    repeated = np.repeat(values, weights.astype(int))
    found = _ops.weighted_median(np, values, weights)
    assert np.isnan(found) if repeated.size == 0 else found == np.median(repeated)


@settings(deadline=None)
@given(ROWS, st.integers(0, 6), st.integers(0, 2**31))
def test_running_median_is_that_of_each_window(values, half, seed):
    """Each pixel has the median of the good ones at most half a window away."""
    flux = np.array(values)
    mask = np.random.default_rng(seed).random(flux.size) < 0.4
    found, empty = running_median(flux, mask, window=2 * half + 1)
    for pixel in range(flux.size):
        near = slice(max(0, pixel - half), pixel + half + 1)
        good = flux[near][~mask[near]]
        assert empty[pixel] == (good.size == 0)
        expected = np.median(good) if good.size else 0
        assert found[pixel] == pytest.approx(expected, rel=1e-12, abs=1e-12)


@settings(deadline=None)
@given(st.integers(0, 6), st.integers(0, 2**31))
def test_a_polynomial_is_its_own_continuum(degree, seed):
    """A polynomial with emission lines on it is found again, lines and bad pixels or not."""
    rng = np.random.default_rng(seed)
    wave = linear_grid(4000.0, 5000.0, 1.0)
    x = (wave - 4500) / 500
    truth = 10 + np.polynomial.Polynomial(rng.normal(size=degree + 1))(x)
    noise = 0.01 * rng.normal(size=wave.size)
    line = 30 * np.exp(-((wave - 4600) ** 2) / 50)
    flux = truth + noise + line
    mask = rng.random(wave.size) < 0.1
    flux[mask] = 1e6
    found, few = fit_continuum(flux, np.full(wave.size, 1e4), mask, wave=wave, degree=degree)
    assert not few
    np.testing.assert_allclose(found, truth, atol=0.02)


def test_a_continuum_of_too_few_pixels_is_none():
    """Fewer good pixels than coefficients give a flag and 0; others of the batch are fit."""
    wave = linear_grid(4000.0, 4100.0, 1.0)
    flux = np.full((2, wave.size), 3.0)
    mask = np.zeros(flux.shape, bool)
    mask[0, 2:] = True
    found, few = fit_continuum(flux, mask=mask, wave=wave, degree=3)
    assert few.tolist() == [True, False]
    assert not found[0].any()
    np.testing.assert_allclose(found[1], 3.0)


@settings(deadline=None)
@given(ROWS, st.floats(0.1, 100), st.floats(-100, 100))
def test_normalisation_is_free_of_units(values, scale, offset):
    """Flux in other units and with an offset is normalised to the same, and can be brought back."""
    flux = np.array(values)
    ivar = np.linspace(0, 2, flux.size)
    one = robust_normalise(flux, ivar)
    other = robust_normalise(flux * scale + offset, ivar / scale**2)
    if one.scale < 1e-6:
        return
    np.testing.assert_array_equal(one.mask, ivar == 0)
    np.testing.assert_allclose(other.flux, one.flux, atol=1e-6 * (1 + 1e3 / one.scale / scale))
    np.testing.assert_allclose(other.ivar, one.ivar, rtol=1e-3)
    np.testing.assert_allclose((one.flux * one.scale + one.center)[1:], flux[1:], atol=1e-9)
    np.testing.assert_allclose(one.flux**2 * one.ivar, (flux - one.center) ** 2 * ivar, atol=1e-6)


def test_normalised_noise_has_unit_scale():
    """Of 10,000 normal numbers of mean 5 and deviation 3, center and scale are found to 0.1."""
    out = robust_normalise(np.random.default_rng(0).normal(5, 3, 10_000).astype(np.float32))
    assert out.flux.dtype == np.float32
    assert out.center == pytest.approx(5, abs=0.1)
    assert out.scale == pytest.approx(3, abs=0.1)


def test_a_constant_has_no_scale():
    """A spectrum without scatter is masked, not divided by 0."""
    out = robust_normalise(np.full((2, 5), 3.0))
    assert out.mask.all()
    assert not out.flux.any()


def test_signal_to_noise():
    """The median of flux over error, with bad pixels out; NaN where there are none."""
    flux = np.array([[1.0, 2, 3, 99], [1, 1, 1, 1]])
    ivar = np.array([[4.0, 4, 4, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(signal_to_noise(flux, ivar), [4, np.nan])


def test_der_snr_of_white_noise():
    """A constant of 10 with noise of 1 has a signal to noise of 10, to 5 %."""
    flux = 10 + np.random.default_rng(0).normal(size=20_000)
    assert der_snr(flux) == pytest.approx(10, rel=0.05)
    mask = np.arange(flux.size) % 7 == 0
    assert der_snr(np.where(mask, np.nan, flux), mask) == pytest.approx(10, rel=0.05)


@settings(deadline=None)
@given(st.floats(0.1, 3.0), st.floats(0.0, 3.0))
def test_smoothing_keeps_flux_and_reaches_the_width(lsf, extra):
    """A line keeps its integral and centre, and its variance becomes that of the target."""
    wave = linear_grid(4000.0, 4100.0, 0.5)
    target = np.hypot(lsf, extra)
    sigma = max(lsf, 1.0)
    flux = np.exp(-((wave - 4050.2) ** 2) / (2 * sigma**2))
    out = match_resolution(flux, wave=wave, lsf_sigma=lsf, target_sigma=target)
    np.testing.assert_allclose(out.flux.sum(), flux.sum(), rtol=1e-9)

    def moments(line):
        center = (line * wave).sum() / line.sum()
        return center, (line * (wave - center) ** 2).sum() / line.sum()

    assert moments(out.flux)[0] == pytest.approx(moments(flux)[0], abs=1e-7)
    grown = moments(out.flux)[1] - moments(flux)[1]
    assert grown == pytest.approx(target**2 - lsf**2, rel=4e-3, abs=1e-9)


def test_smoothing_of_irregular_pixels_keeps_flux():
    """The integral stays where pixels and line-spread functions change along the spectrum."""
    wave = 4000 * 10 ** (2e-4 * np.arange(300))
    flux = np.exp(-((np.arange(300) - 150) ** 2) / 1000)
    lsf = np.linspace(0.5, 1.5, 300)
    out = match_resolution(flux, wave=wave, lsf_sigma=lsf, target_sigma=wave / 1000)
    size = np.gradient(wave)
    np.testing.assert_allclose((out.flux * size).sum(), (flux * size).sum(), rtol=1e-6)


def test_smoothed_noise_has_the_variance_that_ivar_tells():
    """The scatter of 400 smoothed spectra of noise is what their inverse variance says, to 5 %."""
    wave = linear_grid(4000.0, 4100.0, 1.0)
    noise = np.random.default_rng(0).normal(0, 2, (400, wave.size))
    ivar = np.full(noise.shape, 0.25)
    out = match_resolution(noise, ivar, wave=wave, lsf_sigma=1.0, target_sigma=2.0)
    inner = slice(10, -10)
    told = out.ivar[0, inner].mean() ** -0.5
    assert out.flux[:, inner].std() == pytest.approx(told, rel=0.05)
    assert told < 1.3


def test_bad_pixels_are_not_smeared():
    """A bad pixel gives nothing to its neighbours; a constant beside it stays."""
    wave = linear_grid(4000.0, 4050.0, 1.0)
    flux, mask = np.full(wave.size, 3.0), np.zeros(wave.size, bool)
    flux[20], mask[20] = 1e9, True
    out = match_resolution(flux, mask=mask, wave=wave, lsf_sigma=0.5, target_sigma=1.5)
    np.testing.assert_allclose(out.flux[~out.mask][8:-8], 3.0, rtol=1e-9)


def test_torch_gives_the_same():
    """Tensors give what arrays give, in every function."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    wave = linear_grid(4000.0, 4060.0, 1.0)
    flux, ivar = rng.normal(5, 1, (2, wave.size)), rng.uniform(0, 2, (2, wave.size))
    mask = rng.random(flux.shape) < 0.1
    arrays = flux, ivar, mask
    tensors = tuple(torch.tensor(array) for array in arrays)

    def both(call):
        return call(*arrays), call(*tensors)

    for ours, theirs in (
        both(lambda f, i, m: fit_continuum(f, i, m, wave=wave)[0]),
        both(lambda f, i, m: running_median(f, m, window=7)[0]),
        both(lambda f, i, m: robust_normalise(f, i, m).flux),
        both(signal_to_noise),
        both(lambda f, i, m: der_snr(f, m)),
        both(
            lambda f, i, m: match_resolution(f, i, m, wave=wave, lsf_sigma=1, target_sigma=2).ivar
        ),
    ):
        np.testing.assert_allclose(theirs.numpy(), ours, rtol=1e-9)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: running_median(np.ones(5), window=4), "odd"),
        (lambda: fit_continuum(np.ones(5), wave=np.arange(5.0), low=0), "above 0"),
        (lambda: der_snr(np.ones(4)), "5 pixels"),
        (
            lambda: match_resolution(
                np.ones(5), wave=np.arange(5.0), lsf_sigma=2.0, target_sigma=1.0
            ),
            "sharpen",
        ),
    ],
)
def test_errors_say_what_was_expected(call, words):
    """Every bad argument is an error that says what it should be."""
    with pytest.raises(SampleError, match=words):
        call()


@pytest.mark.real
def test_signal_to_noise_of_sdss_is_the_published(real_data):
    """The median per pixel over good pixels is SN_MEDIAN_ALL of the file, to 10 %."""
    path = real_data / "spectra/sdss/spec-lite/spec-0412-52254-0320.fits"
    if not path.is_file():
        pytest.skip(f"no {path.name}")
    with fits.open(path) as hdus:
        flux, ivar = np.array(hdus[1].data["flux"], "f4"), np.array(hdus[1].data["ivar"], "f4")
        published = float(hdus[2].data["SN_MEDIAN_ALL"][0])
    assert signal_to_noise(flux, ivar) == pytest.approx(published, rel=0.1)
    assert der_snr(flux, ivar == 0) == pytest.approx(published, rel=0.5)
