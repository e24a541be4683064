"""Spectra on other grids: integrated flux is conserved, nothing is extrapolated."""

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from astropile.errors import SampleError
from astropile.transforms.spectra import (
    coadd,
    linear_grid,
    log_grid,
    pixel_edges,
    rebin,
    to_rest_frame,
)


@st.composite
def grids(draw, max_size=30):
    """A grid of irregular steps."""
    steps = draw(st.lists(st.floats(0.1, 3.0), min_size=2, max_size=max_size))
    return draw(st.floats(10, 30)) + np.cumsum(steps)


@st.composite
def spectra(draw):
    """A wavelength grid, flux, inverse variance and mask on it."""
    wave = draw(grids())
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    ivar = rng.uniform(0.1, 10, wave.size) * (rng.random(wave.size) < draw(st.floats(0.5, 1)))
    return wave, rng.normal(size=wave.size), ivar, rng.random(wave.size) < draw(st.floats(0, 0.5))


def brute(wave, flux, ivar, mask, grid):
    """Sum over every pair of pixels."""
    edges, out = pixel_edges(wave), pixel_edges(grid)
    overlap = np.minimum(edges[1:], out[1:, None]) - np.maximum(edges[:-1], out[:-1, None])
    good = (ivar > 0) & ~mask
    overlap = np.where(good, overlap.clip(0), 0)
    covered = overlap.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = (overlap * flux).sum(axis=1) / covered
        variance = np.where(good, overlap**2 / ivar, 0).sum(axis=1) / covered**2
        return mean, 1 / variance, covered / np.diff(out)


@settings(deadline=None)
@given(spectra(), grids())
def test_rebin_equals_sum_over_all_pairs(spectrum, grid):
    """Flux, inverse variance and coverage are those of a sum over every pair of pixels."""
    wave, flux, ivar, mask = spectrum
    out = rebin(flux, ivar, mask, wave=wave, grid=grid, min_coverage=0.3)
    mean, weight, coverage = brute(wave, flux, ivar, mask, grid)
    np.testing.assert_allclose(out.coverage, coverage, atol=1e-12)
    clear = abs(coverage - 0.3) > 1e-8
    np.testing.assert_array_equal(out.mask[clear], (coverage < 0.3)[clear])
    good = ~out.mask
    np.testing.assert_allclose(out.flux[good], mean[good], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(out.ivar[good], weight[good], rtol=1e-9)
    assert not out.flux[out.mask].any()
    assert not out.ivar[out.mask].any()


@settings(deadline=None)
@given(spectra(), grids())
def test_integrated_flux_and_its_variance(spectrum, grid):
    """The integral over a grid that covers all is kept; the errors promise no more than before."""
    wave, flux, ivar, mask = spectrum
    step = np.diff(grid)
    edges = pixel_edges(wave)
    around = np.concatenate([[edges[0] - 5], grid, [max(edges[-1], grid[-1]) + 5 + step[-1]]])
    around = np.unique(around[(around <= edges[0] - 5) | (around > edges[0] - 4)])
    out = rebin(flux, ivar, mask, wave=wave, grid=around, min_coverage=0)
    covered = out.coverage * np.diff(pixel_edges(around))
    good = (ivar > 0) & ~mask
    size = np.diff(edges)
    np.testing.assert_allclose((out.flux * covered).sum(), (flux * size)[good].sum(), atol=1e-9)
    before = (size[good] ** 2 / ivar[good]).sum()
    after = (covered[~out.mask] ** 2 / out.ivar[~out.mask]).sum()
    assert after <= before * (1 + 1e-9)


def test_whole_pixels_keep_all_information():
    """Three pixels into one: mean flux, and the inverse variance of the mean of three."""
    wave = linear_grid(10.0, 18.0, 1.0)
    flux = np.array([1.0, 2, 3, 4, 5, 6, 7, 8, 9])
    out = rebin(flux, np.full(9, 4.0), wave=wave, grid=np.array([11.0, 14.0, 17.0]))
    np.testing.assert_allclose(out.flux, [2, 5, 8])
    np.testing.assert_allclose(out.ivar, [12, 12, 12])
    assert not out.mask.any()


def test_same_grid_is_the_same_bit_for_bit():
    """A spectrum on its own grid comes back, in its dtype."""
    wave = linear_grid(3600.0, 3700.0, 1.0)
    flux = np.random.default_rng(1).normal(size=wave.size).astype(np.float32)
    out = rebin(flux, np.ones_like(flux), wave=wave, grid=wave)
    assert out.flux.dtype == np.float32
    np.testing.assert_array_equal(out.flux, flux)
    np.testing.assert_array_equal(out.ivar, np.ones_like(flux))


def test_nothing_beyond_the_ends():
    """Pixels outside of what was measured are masked, with inverse variance 0 and flux 0."""
    wave = linear_grid(100.0, 110.0, 1.0)
    grid = linear_grid(90.0, 120.0, 1.0)
    out = rebin(np.full(11, 7.0), np.ones(11), wave=wave, grid=grid)
    inside = (grid >= 100) & (grid <= 110)
    np.testing.assert_array_equal(out.mask, ~inside)
    np.testing.assert_array_equal(out.flux, 7.0 * inside)
    np.testing.assert_array_equal(out.ivar, 1.0 * inside)


@pytest.mark.parametrize(("share", "masked"), [(0.0, False), (0.5, False), (0.51, True), (1, True)])
def test_min_coverage(share, masked):
    """An output pixel half of which is bad counts up to a share of one half."""
    flux = np.array([1.0, np.nan, 3.0, 3.0])
    grid = np.array([1.5, 3.5])
    out = rebin(flux, wave=np.arange(1.0, 5), grid=grid, min_coverage=share)
    assert out.mask.tolist() == [masked, False]
    assert out.flux[0] == (0 if masked else 1)
    assert out.ivar is None


def test_equals_specutils_where_all_is_covered():
    """specutils' FluxConservingResampler gives the same flux and errors."""
    units = pytest.importorskip("astropy.units")
    specutils = pytest.importorskip("specutils")
    from astropy.nddata import InverseVariance
    from specutils.manipulation import FluxConservingResampler

    rng = np.random.default_rng(2)
    wave, grid = log_grid(4000.0, 4400.0), linear_grid(4010.0, 4390.0, 1.7)
    flux, ivar = rng.normal(5, 1, wave.size), rng.uniform(0.5, 2, wave.size)
    theirs = FluxConservingResampler()(
        specutils.Spectrum(
            spectral_axis=wave * units.AA,
            flux=flux * units.nJy,
            uncertainty=InverseVariance(ivar / units.nJy**2),
        ),
        grid * units.AA,
    )
    ours = rebin(flux, ivar, wave=wave, grid=grid)
    np.testing.assert_allclose(ours.flux, theirs.flux.value, rtol=1e-10)
    np.testing.assert_allclose(
        ours.ivar, theirs.uncertainty.represent_as(InverseVariance).array, rtol=1e-9
    )


def test_a_batch_is_its_rows():
    """Grids of each spectrum, padded or shared, give what one spectrum at a time gives."""
    rng = np.random.default_rng(3)
    grid = linear_grid(4000.0, 5000.0, 3.0)
    waves = [log_grid(start, 4600.0) for start in (3900.0, 4100.0, 4300.0)]
    longest = max(wave.size for wave in waves)
    shape = (3, longest)
    wave, flux = np.zeros(shape), np.full(shape, np.nan)
    ivar, padding = np.zeros(shape), np.ones(shape, bool)
    for row, own in enumerate(waves):
        wave[row, : own.size], padding[row, : own.size] = own, False
        flux[row, : own.size] = rng.normal(size=own.size)
        ivar[row, : own.size] = rng.uniform(1, 2, own.size)
    out = rebin(flux, ivar, wave=wave, grid=grid, padding=padding)
    for row, own in enumerate(waves):
        alone = rebin(flux[row, : own.size], ivar[row, : own.size], wave=own, grid=grid)
        np.testing.assert_allclose(out.flux[row], alone.flux, rtol=1e-12)
        np.testing.assert_allclose(out.ivar[row], alone.ivar, rtol=1e-12)
        np.testing.assert_array_equal(out.mask[row], alone.mask)
    shared = rebin(flux[:, : waves[0].size], wave=waves[0], grid=grid)
    assert shared.flux.shape == (3, grid.size)


@pytest.mark.parametrize("own_grids", [False, True])
def test_torch_gives_the_same_and_gradients(own_grids):
    """Tensors give what arrays give; the gradient of the integral is the pixels' widths."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(4)
    wave, grid = log_grid(4000.0, 4200.0), linear_grid(3950.0, 4250.0, 0.9)
    flux = rng.normal(size=(2, 3, wave.size)).astype(np.float32)
    ivar = rng.uniform(1, 2, flux.shape).astype(np.float32)
    waves = wave * np.array([1, 1.001])[:, None, None] + np.zeros((3, 1)) if own_grids else wave
    ours = rebin(flux, ivar, wave=waves, grid=grid)
    tensor = torch.tensor(flux, requires_grad=True)
    theirs = rebin(tensor, torch.tensor(ivar), wave=torch.tensor(waves), grid=grid, min_coverage=0)
    again = rebin(torch.tensor(flux), torch.tensor(ivar), wave=waves, grid=grid)
    assert again.flux.dtype == torch.float32
    np.testing.assert_allclose(again.flux, ours.flux, rtol=1e-6)
    np.testing.assert_allclose(again.ivar, ours.ivar, rtol=1e-6)
    np.testing.assert_array_equal(again.mask, ours.mask)
    (theirs.flux * theirs.coverage * torch.tensor(np.diff(pixel_edges(grid)))).sum().backward()
    widths = np.broadcast_to(np.diff(pixel_edges(waves)), flux.shape)
    np.testing.assert_allclose(tensor.grad, widths, rtol=1e-5)


@settings(deadline=None)
@given(st.floats(-0.5, 8), st.sampled_from(["f_lambda", "f_nu", "none"]))
def test_rest_frame_keeps_energy_and_signal_to_noise(z, density):
    """The integral over wavelength or frequency stays, and flux over error; and back again."""
    wave = log_grid(4000.0, 4100.0)
    flux = np.linspace(1, 3, wave.size)
    ivar = np.linspace(2, 1, wave.size)
    rest, moved, weight = to_rest_frame(wave, flux, ivar, z=z, density=density)
    np.testing.assert_allclose(rest * (1 + z), wave, rtol=1e-14)
    np.testing.assert_allclose(moved**2 * weight, flux**2 * ivar, rtol=1e-12)
    axes = {"f_lambda": lambda w: w, "f_nu": lambda w: -1 / w}
    if density in axes:
        axis = axes[density]
        energy = np.trapezoid(flux, axis(wave))
        np.testing.assert_allclose(np.trapezoid(moved, axis(rest)), energy, rtol=1e-9)
    else:
        np.testing.assert_array_equal(moved, flux)
    back = to_rest_frame(rest, moved, weight, z=1 / (1 + z) - 1, density=density)
    for found, before in zip(back, (wave, flux, ivar), strict=True):
        np.testing.assert_allclose(found, before, rtol=1e-12)


def test_each_spectrum_has_its_redshift():
    """One wavelength array and a redshift for each spectrum give an array for each."""
    wave = np.array([4000.0, 5000.0])
    rest, flux, ivar = to_rest_frame(wave, np.ones((2, 2), np.float32), z=np.array([0.0, 1.0]))
    assert rest.tolist() == [[4000, 5000], [2000, 2500]]
    assert flux.tolist() == [[1, 1], [2, 2]]
    assert flux.dtype == np.float32
    assert ivar is None


def test_redshift_on_a_log_grid_is_a_shift():
    """On steps of 1e-4 dex, 1 + z = 10 ** 0.01 moves all but the first pixel by 100."""
    wave = log_grid(4000.0, 6000.0)
    flux = np.random.default_rng(5).normal(size=wave.size)
    rest, moved, _ = to_rest_frame(wave, flux, z=10**0.01 - 1, density="none")
    out = rebin(moved, wave=rest, grid=wave)
    np.testing.assert_allclose(out.flux[1:-100], flux[101:], rtol=1e-6, atol=1e-6)
    assert out.mask[-99:].all()


def test_coadd_of_arms():
    """Where two arms overlap the mean is weighted by inverse variance; their sum is the new one."""
    grid = linear_grid(100.0, 109.0, 1.0)
    blue = rebin(np.full(6, 2.0), np.full(6, 1.0), wave=grid[:6], grid=grid)
    red = rebin(np.full(6, 5.0), np.full(6, 3.0), wave=grid[4:], grid=grid)
    both = coadd([blue, red])
    np.testing.assert_allclose(both.flux, [2, 2, 2, 2, 4.25, 4.25, 5, 5, 5, 5])
    np.testing.assert_allclose(both.ivar, [1, 1, 1, 1, 4, 4, 3, 3, 3, 3])
    assert not both.mask.any()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: rebin(np.ones(2), wave=np.array([2.0, 1.0]), grid=np.ones(3)), "increase"),
        (lambda: rebin(np.ones(2), wave=np.arange(3.0), grid=np.arange(3.0)), "2 pixels"),
        (lambda: rebin(np.ones(2), np.ones(3), wave=np.arange(2.0), grid=np.arange(3.0)), "ivar"),
        (
            lambda: rebin(np.ones(2), wave=np.arange(2.0), grid=np.arange(2.0), min_coverage=2),
            "share",
        ),
        (lambda: rebin([1.0, 2.0], wave=np.arange(2.0), grid=np.arange(2.0)), "numpy arrays"),
        (lambda: to_rest_frame(np.ones(2), np.ones(2), z=np.nan), "above -1"),
        (lambda: to_rest_frame(np.ones(2), np.ones(2), z=0, density="f"), "f_lambda"),
        (lambda: linear_grid(5.0, 4.0, 1.0), "start < stop"),
        (lambda: log_grid(5.0, 6.0, 1.0), "2 centres"),
        (lambda: coadd([]), "one spectrum"),
    ],
)
def test_errors_say_what_was_expected(call, words):
    """Every bad argument is an error that says what it should be."""
    with pytest.raises(SampleError, match=words):
        call()


# --------------------------------------------------------------------------------------
# Real files

LINES = {"H beta": 4862.683, "[O III] 5007": 5008.240, "H alpha": 6564.614, "[N II]": 6585.269}
"""Vacuum wavelengths [Angstrom] as SDSS publishes them with its line fits."""


@pytest.mark.real
@pytest.mark.parametrize("line", LINES)
def test_lines_of_sdss_land_where_published(real_data, line):
    """A galaxy's emission lines, at rest on a common grid, are at their published wavelengths."""
    path = real_data / "spectra/sdss/spec-lite/spec-0412-52254-0320.fits"
    if not path.is_file():
        pytest.skip(f"no {path.name}")
    with fits.open(path) as hdus:
        table = hdus[1].data
        wave = 10 ** table["loglam"].astype(np.float64)
        flux, ivar = np.array(table["flux"], "f4"), np.array(table["ivar"], "f4")
        z = float(hdus[2].data["Z"][0])
    grid = linear_grid(4700.0, 6700.0, 0.5)
    rest, flux, ivar = to_rest_frame(wave, flux, ivar, z=z)
    out = rebin(flux, ivar, wave=rest, grid=grid)
    near = abs(grid - LINES[line]) < 7
    side = (abs(grid - LINES[line]) > 15) & (abs(grid - LINES[line]) < 60)
    excess = np.where(near, out.flux - np.median(out.flux[side]), 0).clip(0)
    center = (excess * grid).sum() / excess.sum()
    assert center == pytest.approx(LINES[line], abs=0.5)


@pytest.mark.real
def test_arms_of_desi_keep_their_flux(real_data):
    """Arms of DESI coadds on a coarser grid hold the integral that they had; coadded, all do."""
    path = real_data / "spectra/desi/coadd-sv3-dark-9144.fits"
    if not path.is_file():
        pytest.skip(f"no {path.name}")
    grid = log_grid(3500.0, 9900.0)
    size = np.diff(pixel_edges(grid))
    arms = []
    with fits.open(path) as hdus:
        for arm in "BRZ":
            wave = np.array(hdus[f"{arm}_WAVELENGTH"].data, np.float64)
            flux = np.array(hdus[f"{arm}_FLUX"].data, np.float64)
            ivar = np.array(hdus[f"{arm}_IVAR"].data, np.float64)
            bad = np.array(hdus[f"{arm}_MASK"].data) != 0
            out = rebin(flux, ivar, bad, wave=wave, grid=grid, min_coverage=0)
            good = (ivar > 0) & ~bad
            before = np.where(good, flux, 0) @ np.diff(pixel_edges(wave))
            after = (out.flux * out.coverage) @ size
            np.testing.assert_allclose(after, before, rtol=1e-10)
            arms.append(rebin(flux, ivar, bad, wave=wave, grid=grid))
    whole = coadd(arms)
    inside = (grid > 3610) & (grid < 9810)
    assert np.mean(whole.mask[:, inside]) < 0.01
    np.testing.assert_allclose(whole.ivar, sum(arm.ivar for arm in arms), rtol=1e-12)
