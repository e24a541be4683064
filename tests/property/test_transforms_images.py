"""What transforms of images conserve, whatever their sizes."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from astropile.transforms.images import (
    Image,
    arcsinh_stretch,
    arcsinh_unstretch,
    crop,
    crop_or_pad,
    invert_orientation,
    lupton_rgb,
    orient,
    pad,
    percentile_stretch,
    rebin,
    resample,
    scale_bands,
    unscale_bands,
)
from astropile.transforms.psf import homogenise, moffat_psf

SEEDS = st.integers(0, 2**32 - 1)
SIDES = st.integers(1, 23)


def noisy(seed, shape, bad=0.0):
    """Images with ivar and a share of masked pixels."""
    rng = np.random.default_rng(seed)
    return Image(rng.normal(size=shape), rng.uniform(0.1, 9, shape), rng.random(shape) < bad)


def signal_to_noise(image):
    """Of the sum of all pixels, as if their noise were independent."""
    return image.flux.sum() / np.sqrt((1 / image.ivar).sum())


def moment(flux, grid):
    """Sum of flux times place, from the image's middle, in input pixels."""
    rows, columns = np.indices(flux.shape)
    middle = (np.array(flux.shape) - 1) / 2
    return (
        np.array([(flux * (rows - middle[0])).sum(), (flux * (columns - middle[1])).sum()]) * grid
    )


@given(SEEDS, SIDES, SIDES, SIDES, SIDES)
def test_padding_and_cropping_undo_each_other(seed, rows, columns, more, wider):
    """Padding keeps every pixel and the flux, and cropping gives back the image, bit for bit."""
    image = noisy(seed, (rows, columns), 0.2)
    larger = pad(image, (rows + more, columns + wider))
    assert_allclose(larger.flux.sum(), image.flux.sum(), atol=1e-12 * rows * columns)
    assert (larger.ivar > 0).sum() == rows * columns
    for new, old in zip(crop(larger, (rows, columns)), image, strict=True):
        assert_array_equal(new, old)


@given(SEEDS, SIDES, SIDES, SIDES, st.floats(-40, 40), st.floats(-40, 40))
def test_windows_keep_places(seed, rows, columns, size, row, column):
    """A pixel of a window is that of the image at the same place, or is filled."""
    image = noisy(seed, (rows, columns))
    new = crop_or_pad(image, size, center=(row, column), fill=np.inf)
    first = [int(np.ceil(place - size / 2)) for place in (row, column)]
    for i in range(size):
        for j in range(size):
            r, c = first[0] + i, first[1] + j
            inside = 0 <= r < rows and 0 <= c < columns
            assert new.flux[i, j] == (image.flux[r, c] if inside else np.inf)
            assert new.mask[i, j] == (not inside)
    assert abs(first[0] + (size - 1) / 2 - row) <= 0.5 + 1e-12


@given(SEEDS, SIDES, SIDES, st.integers(0, 7))
def test_orientations_lose_nothing(seed, rows, columns, code):
    """Pixels are moved together with ivar and mask, and come back bit for bit."""
    image = noisy(seed, (2, rows, columns), 0.3)
    new = orient(image, code)
    pixels = sorted(zip(*(values.ravel() for values in image), strict=True))
    assert sorted(zip(*(values.ravel() for values in new), strict=True)) == pixels
    for back, values in zip(orient(new, invert_orientation(code)), image, strict=True):
        assert_array_equal(back, values)


@given(SEEDS, SIDES, SIDES, st.floats(0.3, 4), st.sampled_from([0.0, 0.1, 0.6]))
def test_resampling_conserves_flux_and_place(seed, rows, columns, ratio, bad):
    """The sum and the first moment of all good flux are kept, at any ratio of pixel sizes."""
    image = noisy(seed, (rows, columns), bad)
    new = resample(image, pixel_size=1.0, target_pixel_size=ratio)
    good = np.where(image.mask, 0, image.flux)
    scale = np.abs(image.flux).sum()
    assert_allclose(new.image.flux.sum(), good.sum(), atol=1e-12 * scale)
    assert new.n_excluded == image.mask.sum()
    assert_allclose(new.coverage.sum() * ratio**2, (~image.mask).sum(), rtol=1e-12, atol=1e-12)
    # A pixel's flux is spread over its area, so moments need new pixels that lie within old ones.
    fine = resample(image, pixel_size=1.0, target_pixel_size=0.5).image.flux
    assert_allclose(moment(fine, 0.5), moment(good, 1.0), atol=1e-11 * scale * max(rows, columns))


@given(SEEDS, st.integers(1, 6), st.integers(1, 6), st.integers(1, 4))
def test_whole_blocks_conserve_signal_to_noise(seed, rows, columns, factor):
    """Sums of blocks have independent noise: flux, variance and S/N of the whole are kept."""
    image = noisy(seed, (rows * factor, columns * factor))
    new = rebin(image, factor)
    assert_allclose(signal_to_noise(new.image), signal_to_noise(image), rtol=1e-10, atol=1e-12)
    assert_allclose((1 / new.image.ivar).sum(), (1 / image.ivar).sum(), rtol=1e-12)
    assert not new.image.mask.any()
    # Cut into smaller pixels again, and summed again, they are the same.
    fine = resample(new.image, pixel_size=factor, target_pixel_size=1.0)
    assert_allclose(rebin(fine.image, factor).image.flux, new.image.flux, atol=1e-12)


@given(SEEDS, SIDES, SIDES, st.floats(0.3, 4), st.floats(-5, 5))
def test_resampling_keeps_a_constant_brightness(seed, rows, columns, ratio, level):
    """A flat image stays flat, whatever is masked, in every pixel that is covered at all."""
    image = noisy(seed, (rows, columns), 0.4)._replace(flux=np.full((rows, columns), level))
    new = resample(
        image, pixel_size=1.0, target_pixel_size=ratio, kind="brightness", min_coverage=0.0
    )
    covered = new.coverage > 1e-9
    assert_allclose(new.image.flux[covered], level, rtol=1e-9, atol=1e-12)
    assert (new.image.ivar[covered] > 0).all()


@given(SEEDS, SIDES, st.floats(0.3, 4), st.integers(0, 7))
def test_resampling_knows_no_direction(seed, side, ratio, code):
    """An image turned and resampled is the image resampled and turned."""
    image = noisy(seed, (side, side), 0.1)
    new = resample(image, pixel_size=1.0, target_pixel_size=ratio).image
    turned = resample(orient(image, code), pixel_size=1.0, target_pixel_size=ratio).image
    assert_allclose(turned.flux, orient(new, code).flux, atol=1e-12)
    assert_allclose(turned.ivar, orient(new, code).ivar, rtol=1e-9, atol=1e-12)


@given(SEEDS, st.floats(1e-3, 1e3), st.floats(-10, 10))
def test_arcsinh_keeps_order_and_can_be_undone(seed, softening, minimum):
    """The stretch is odd about its minimum, keeps the order of pixels, and is undone."""
    image = noisy(seed, (6, 7))
    image = image._replace(flux=image.flux * 50)
    new = arcsinh_stretch(image, softening, minimum=minimum)
    assert_array_equal(np.argsort(new.flux, axis=None), np.argsort(image.flux, axis=None))
    mirrored = arcsinh_stretch(
        image._replace(flux=2 * minimum - image.flux), softening, minimum=minimum
    )
    assert_allclose(mirrored.flux, -new.flux, rtol=1e-9, atol=1e-12)
    back = arcsinh_unstretch(new, softening, minimum=minimum)
    assert_allclose(back.flux, image.flux, rtol=1e-9, atol=1e-9)
    assert_allclose(back.ivar, image.ivar, rtol=1e-8)


@given(SEEDS, st.floats(-100, 100), st.floats(1e-3, 1e3))
def test_scaling_keeps_signal_to_noise(seed, location, scale):
    """Deviations in units of their error are the same before and after, and are undone."""
    image = noisy(seed, (2, 3, 4, 4), 0.2)
    new = scale_bands(image, location, scale)
    assert_allclose(
        new.flux * np.sqrt(new.ivar), (image.flux - location) * np.sqrt(image.ivar), rtol=1e-9
    )
    back = unscale_bands(new, location, scale)
    assert_allclose(back.flux, image.flux, rtol=1e-9, atol=1e-9)


@given(SEEDS, st.floats(0.1, 10), st.floats(-5, 5))
def test_percentiles_know_no_unit(seed, factor, offset):
    """The stretched image is the same in any unit and above any sky."""
    image = noisy(seed, (2, 9, 8), 0.2)
    other = image._replace(flux=image.flux * factor + offset)
    assert_allclose(percentile_stretch(other).flux, percentile_stretch(image).flux, atol=1e-9)


@given(SEEDS)
def test_pictures_know_no_unit(seed):
    """Fluxes and stretch in another unit make the same picture, within 0 to 1."""
    rng = np.random.default_rng(seed)
    bands = rng.normal(size=(3, 8, 9)) * 30
    rgb = lupton_rgb(*bands, as_bytes=False)
    assert_allclose(lupton_rgb(*(bands * 7), stretch=35.0, as_bytes=False), rgb, atol=1e-12)
    assert rgb.min() >= 0
    assert rgb.max() <= 1


@settings(max_examples=20, deadline=None)
@given(SEEDS, st.floats(2, 4), st.floats(1.05, 2))
def test_one_psf_conserves_flux_and_place(seed, fwhm, wider):
    """Stars inside an image keep their summed flux and its middle, whatever PSF they come to."""
    rng = np.random.default_rng(seed)
    psf = moffat_psf(fwhm, 31)
    flux = np.zeros((130, 130))
    for row, column in rng.integers(30, 68, (4, 2)):
        flux[row : row + 31, column : column + 31] += rng.uniform(1, 9) * psf
    new = homogenise(Image(flux), psf, moffat_psf(fwhm * wider, 31)).image.flux
    assert_allclose(new.sum(), flux.sum(), rtol=1e-9)
    assert_allclose(moment(new, 1.0), moment(flux, 1.0), atol=1e-6 * flux.sum())
