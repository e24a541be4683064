"""PSFs: widths, kernels, images brought to one of them."""

import numpy as np
import pytest
from astropy.convolution import convolve as astropy_convolve
from astropy.io import fits
from numpy.testing import assert_allclose, assert_array_equal

from astropile.errors import SampleError
from astropile.surveys._stamps import gaussian_sigma
from astropile.transforms.images import Image, crop
from astropile.transforms.psf import (
    FWHM_PER_SIGMA,
    convolve,
    gaussian_psf,
    homogenise,
    matching_kernel,
    measure_fwhm,
    moffat_psf,
    noise_correlation,
)


def centroid(flux):
    """Mean place of the flux."""
    rows, columns = np.indices(flux.shape[-2:])
    return np.stack([(flux * rows).sum((-2, -1)), (flux * columns).sum((-2, -1))]) / flux.sum(
        (-2, -1)
    )


def stamped(psf, size, flux=1000.0):
    """Stars in the middle of empty images."""
    n = psf.shape[-1]
    images = np.zeros((*psf.shape[:-2], size, size))
    first = size // 2 - n // 2
    images[..., first : first + n, first : first + n] = flux * psf
    return images


@pytest.mark.parametrize("fwhm", [2, 6, 20])
@pytest.mark.parametrize("model", [gaussian_psf, moffat_psf])
def test_models_are_half_as_high_at_half_their_width(model, fwhm):
    """At a distance of half the FWHM a profile is half of its peak, and it sums to 1."""
    psf = model(fwhm, 41)
    assert psf.sum() == pytest.approx(1, rel=1e-14)
    assert_array_equal(psf, psf.T)
    assert psf[20, 20 + fwhm // 2] == pytest.approx(psf[20, 20] / 2, rel=1e-14)


def test_widths_are_those_of_gaussians():
    """A Gaussian's FWHM is found wherever it lies, round or not, whatever its flux."""
    rows, columns = np.indices((41, 41))
    tall = np.exp(-((rows - 19.3) ** 2 / (2 * 2.0**2) + (columns - 20.8) ** 2 / (2 * 3.0**2)))
    tilted = np.exp(-((rows - 20) ** 2 + (columns - 20) ** 2 + (rows - 20) * (columns - 20)) / 18)
    widths = measure_fwhm(np.stack([gaussian_psf(5.0, 41), 7 * tall, tilted]))
    determinant = np.linalg.det(np.array([[1, 0.5], [0.5, 1]]) / 9)
    assert_allclose(
        widths / FWHM_PER_SIGMA,
        [5 / FWHM_PER_SIGMA, np.sqrt(6), determinant**-0.25],
        rtol=1e-5,
    )
    assert np.isnan(measure_fwhm(np.zeros((5, 5))))


def test_widths_are_those_stored_with_stamps():
    """The measure is that of the columns psf_fwhm, for many PSFs at once."""
    psfs = np.stack([moffat_psf(3.1, 31), gaussian_psf(2.2, 31), moffat_psf(5.0, 31, beta=2.5)])
    stored = [gaussian_sigma(psf) * FWHM_PER_SIGMA for psf in psfs]
    assert_allclose(measure_fwhm(psfs), stored, rtol=1e-5)


def test_convolution_is_that_of_astropy():
    """In an image with masked pixels the values are those of astropy's normalised convolution."""
    rng = np.random.default_rng(1)
    flux = rng.normal(size=(30, 25)) + 10
    mask = rng.random(flux.shape) > 0.98
    kernel = gaussian_psf(3.0, 9)
    new = convolve(Image(flux, mask=mask), kernel, min_coverage=0.3)
    theirs = astropy_convolve(
        np.where(mask, np.nan, flux),
        kernel,
        boundary="fill",
        fill_value=np.nan,
        nan_treatment="interpolate",
        preserve_nan=False,
    )
    inside = (slice(4, -4), slice(4, -4))
    assert_allclose(new.flux[inside], theirs[inside], rtol=1e-10)
    assert not new.mask[inside].any()
    assert convolve(Image(flux), kernel).mask[0].all()


def test_the_variance_is_what_noise_does():
    """White noise scatters as ivar says once convolved, and neighbours agree as stated."""
    rng = np.random.default_rng(2)
    noise = rng.normal(scale=2.0, size=(400, 40, 40))
    kernel = moffat_psf(2.5, 9)
    new = convolve(Image(noise, np.full(noise.shape, 0.25)), kernel)
    good = ~new.mask[0]
    assert good.sum() > 30**2
    assert new.flux[:, good].std() == pytest.approx((new.ivar[0][good] ** -0.5).mean(), rel=0.02)
    correlation = noise_correlation(kernel)
    assert correlation.shape == (17, 17)
    assert correlation[8, 8] == pytest.approx(1)
    middle = new.flux[:, 10:30, 10:30]
    for rows, columns in ((0, 1), (1, 1), (0, 2)):
        moved = new.flux[:, 10 + rows : 30 + rows, 10 + columns : 30 + columns]
        measured = (middle * moved).mean() / (middle**2).mean()
        assert measured == pytest.approx(correlation[8 + rows, 8 + columns], abs=0.02)
    # The variance of a sum is that of white noise of the kernel's sum, 1.
    assert correlation.sum() == pytest.approx(1 / (kernel**2).sum(), rel=1e-12)


def test_a_matched_gaussian_is_a_gaussian():
    """From one Gaussian to another the kernel is the Gaussian of the difference of variances."""
    kernel = matching_kernel(gaussian_psf(3.0, 41), gaussian_psf(5.0, 41), regularisation=1e-12)
    assert_allclose(kernel, gaussian_psf(4.0, 41), atol=1e-5 * gaussian_psf(4.0, 41).max())
    assert kernel.sum() == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize("regularisation", [1e-8, 1e-4, 1e-1])
def test_flux_is_kept_whatever_the_regularisation(regularisation):
    """However smooth the kernel shall be, the star's flux and place are as they were."""
    psf = moffat_psf(3.0, 41)
    new = homogenise(
        Image(stamped(psf, 121)), psf, moffat_psf(4.5, 41), regularisation=regularisation
    )
    assert new.kernel.sum() == pytest.approx(1, rel=1e-12)
    assert new.image.flux.sum() == pytest.approx(1000, rel=1e-9)
    assert_allclose(centroid(new.image.flux), 60, atol=1e-9)


def test_every_image_comes_to_the_target():
    """Images of different PSFs have one PSF afterwards, in the images and as reported."""
    psfs = np.stack([moffat_psf(2.6, 41), gaussian_psf(4.0, 41), moffat_psf(3.5, 41, beta=4.5)])
    target = moffat_psf(5.0, 41, beta=4.0)
    new = homogenise(Image(stamped(psfs, 141)), psfs, target)
    assert_allclose(measure_fwhm(new.psf), measure_fwhm(target), rtol=5e-3)
    assert_allclose(measure_fwhm(new.image.flux), measure_fwhm(target), rtol=5e-3)
    assert_allclose(new.image.flux.sum((1, 2)), 1000, rtol=1e-9)
    peaks = new.image.flux.max((1, 2))
    assert_allclose(peaks, 1000 * target.max(), rtol=0.02)


def test_nothing_is_sharpened():
    """A target that is narrower than a PSF, or needs detail it has not, is refused."""
    psfs = np.stack([gaussian_psf(3.0, 31), gaussian_psf(5.0, 31)])
    image = Image(np.zeros((2, 40, 40)))
    with pytest.raises(SampleError, match=r"at least as wide .* 5 pixels, found one of 4 pixels"):
        homogenise(image, psfs, 4.0)
    rows, columns = np.indices((31, 31)) - 15
    long = np.exp(-(rows**2 / 2 + columns**2 / 18))
    assert measure_fwhm(long) < 5
    with pytest.raises(SampleError, match="no spatial frequency is amplified more than 2 times"):
        homogenise(Image(np.zeros((40, 40))), long, 5.0)
    same = homogenise(image, psfs, psfs)
    assert_allclose(same.psf, psfs, atol=0.02 * psfs.max())
    with pytest.raises(SampleError, match="psf: expected a PSF whose width can be measured"):
        homogenise(image, np.eye(31)[15] * np.eye(31)[:, 15:16], 4.0)


def test_masked_pixels_leave_no_trace():
    """A masked pixel of any value changes nothing; the pixels it would count for are masked."""
    psf = gaussian_psf(3.0, 21)
    flux = stamped(psf, 61)
    ivar, mask = np.ones_like(flux), np.zeros(flux.shape, bool)
    flux[30, 45], mask[30, 45] = 1e12, True
    new = homogenise(Image(flux, ivar, mask), psf, 4.0).image
    assert new.mask[30, 45]
    assert new.ivar[30, 45] == 0
    assert np.abs(new.flux[:, 44:47]).max() < 1e-3
    assert not new.mask[30, 30]


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: gaussian_psf(3.0, 8), "size: expected an odd number of pixels, found 8"),
        (lambda: gaussian_psf(0, 9), "fwhm: expected a finite number of pixels above 0"),
        (
            lambda: homogenise(Image(np.ones((9, 9))), gaussian_psf(3, 9), np.nan),
            "fwhm: expected a finite number of pixels above 0, found nan",
        ),
        (lambda: moffat_psf(3.0, 9, beta=1.0), "beta"),
        (lambda: matching_kernel(np.ones((4, 4)), np.ones((5, 5))), "psf: expected squares of odd"),
        (
            lambda: matching_kernel(np.zeros((5, 5)), np.ones((5, 5))),
            "psf: expected finite numbers",
        ),
        (lambda: matching_kernel(np.ones((5, 5)), np.full((5, 5), np.nan)), "target: expected fin"),
        (lambda: convolve(Image(np.ones((9, 9))), np.ones((3, 5))), "kernel: expected squares"),
        (lambda: measure_fwhm([[1.0]]), "psf: expected a numpy array or a torch tensor"),
    ],
)
def test_what_is_no_psf_is_refused(call, sentence):
    """Even sizes, no flux, no numbers: one sentence says so."""
    with pytest.raises(SampleError, match=sentence):
        call()


def test_tensors_come_to_the_same():
    """Batches of tensors of single precision give what numpy gives, with one PSF for each image."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(3)
    psfs = np.stack([gaussian_psf(fwhm, 21) for fwhm in (2.5, 3.0, 3.5)])[:, None]
    shape = (3, 2, 40, 40)
    image = Image(
        rng.normal(size=shape).astype("f4"), np.ones(shape, "f4"), rng.random(shape) > 0.995
    )
    theirs = homogenise(image, psfs, 4.0)
    ours = homogenise(Image(*map(torch.from_numpy, image)), torch.from_numpy(psfs), 4.0)
    assert ours.image.flux.dtype == torch.float32
    assert theirs.image.flux.dtype == np.float32
    for new, old in zip((*ours.image, ours.psf), (*theirs.image, theirs.psf), strict=True):
        assert isinstance(new, torch.Tensor)
        assert_allclose(new.numpy(), old, rtol=1e-5, atol=1e-6)


def test_gradients_flow_to_the_flux():
    """The gradient of a convolved pixel is the kernel about it."""
    torch = pytest.importorskip("torch")
    flux = torch.zeros((15, 15), dtype=torch.float64, requires_grad=True)
    kernel = gaussian_psf(2.0, 7)
    convolve(Image(flux), kernel).flux[7, 7].backward()
    assert_allclose(flux.grad.numpy()[4:11, 4:11], kernel, rtol=1e-9, atol=1e-15)
    assert flux.grad.sum() == pytest.approx(1, rel=1e-9)


@pytest.mark.real
def test_hsc_and_hst_come_to_one_width(real_data):
    """PSFs of HSC in five bands and of HST reach the FWHM they are asked for, and keep the flux."""
    for name, fwhm, tolerance in (
        ("hsc/PSF_HSC.fits", 6.0, 1e-3),
        ("hst/PSF_HST.fits", 12.0, 1e-2),
    ):
        path = real_data / "images" / name
        if not path.exists():
            pytest.skip(f"{path} is absent")
        psf = np.atleast_3d(fits.getdata(path).astype(float).T).T
        psf /= psf.sum((-2, -1), keepdims=True)
        size = psf.shape[-1] + 60 + 1 - psf.shape[-1] % 2
        new = homogenise(Image(stamped(psf, size)), psf, fwhm)
        assert_allclose(measure_fwhm(new.psf), fwhm, rtol=tolerance)
        assert_allclose(measure_fwhm(new.image.flux), fwhm, rtol=tolerance)
        assert_allclose(new.image.flux.sum((-2, -1)), 1000, rtol=2e-3)


@pytest.mark.real
def test_stars_of_sdss_come_to_one_width(real_data):
    """With one star of a frame as PSF, its other bright stars reach the width asked for."""
    path = real_data / "images" / "blast_sn_hosts" / "2010H" / "SDSS" / "SDSS_r.fits"
    if not path.exists():
        pytest.skip(f"{path} is absent")
    frame = fits.getdata(path).astype(float)
    frame -= np.median(frame)
    first, *others = [(530, 778), (67, 216), (658, 232), (618, 545), (710, 261), (72, 435)]
    own = crop(Image(frame), 31, center=first).flux
    stars = np.stack([crop(Image(frame), 101, center=place).flux for place in others])
    assert_allclose(measure_fwhm(stars[:, 35:66, 35:66]), measure_fwhm(own), rtol=0.02)
    new = homogenise(Image(stars), own, gaussian_psf(6.0, 31)).image
    assert not new.mask[:, 30:71, 30:71].any()
    assert_allclose(measure_fwhm(new.flux[:, 35:66, 35:66]), 6.0, rtol=0.01)
    middle = (slice(None), slice(25, 76), slice(25, 76))
    assert_allclose(new.flux[middle].sum((1, 2)), stars[middle].sum((1, 2)), rtol=0.02)
