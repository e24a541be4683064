"""Images: windows, orientations, pixel scales; numbers a reader can check."""

import itertools

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import Cutout2D
from astropy.wcs import WCS
from numpy.testing import assert_allclose, assert_array_equal

from astropile.errors import SampleError
from astropile.transforms.images import (
    Image,
    arcsinh_stretch,
    arcsinh_unstretch,
    crop,
    crop_or_pad,
    draw_orientations,
    fill_bad,
    invert_orientation,
    lupton_rgb,
    orient,
    overlap_matrix,
    pad,
    percentile_stretch,
    rebin,
    resample,
    scale_bands,
    stack_bands,
)
from astropile.transforms.psf import measure_fwhm


def numbered(rows, columns, **more):
    """An image of which every pixel differs."""
    return Image(np.arange(float(rows * columns)).reshape(rows, columns), **more)


def star(shape, place, sigma=2.0, flux=100.0):
    """A round Gaussian."""
    row, column = np.indices(shape)
    distance = (row - place[0]) ** 2 + (column - place[1]) ** 2
    return flux * np.exp(-distance / (2 * sigma**2)) / (2 * np.pi * sigma**2)


def centroid(flux, grid=1.0):
    """Mean place of the flux, from the middle of the image, in input pixels."""
    rows, columns = np.indices(flux.shape)
    middle = (np.array(flux.shape) - 1) / 2
    return (np.array([(flux * rows).sum(), (flux * columns).sum()]) / flux.sum() - middle) * grid


def test_bands_are_stacked_by_name():
    """Bands come in the order asked for, with booleans for bits, and no plane is made up."""
    records = [
        {"filter": band, "array": np.full((2, 3), i, "f4"), "mask": np.array([[0, 1, 4]] * 2)}
        for i, band in enumerate("gri")
    ]
    records[0]["ivar"] = np.ones((2, 3))
    image = stack_bands(records, "ig")
    assert_array_equal(image.flux[:, 0, 0], [2, 0])
    assert image.flux.dtype == np.float32
    assert image.ivar is None
    assert_array_equal(image.mask[1, 0], [False, True, True])
    assert stack_bands(records[:1]).ivar.shape == (1, 2, 3)
    with pytest.raises(SampleError, match="bands: expected some of g, r, i, found y"):
        stack_bands(records, ["g", "y"])
    with pytest.raises(SampleError, match="one record for each band, found g, r, i, g"):
        stack_bands([*records, records[0]])
    with pytest.raises(SampleError, match="images of one shape"):
        stack_bands([*records, {"filter": "z", "array": np.ones((2, 2))}])


# Windows


@pytest.mark.parametrize("size", [(3, 3), (4, 4), (3, 4), (1, 6)])
@pytest.mark.parametrize("place", [(4, 5), (3.5, 4.5), (4.49, 5.51), (2.2, 3.0)])
def test_a_window_is_that_of_astropy(size, place):
    """A position and a size give the pixels that Cutout2D gives, odd and even."""
    image = numbered(9, 11)
    theirs = Cutout2D(image.flux, place[::-1], size, mode="strict").data
    assert_array_equal(crop(image, size, center=place).flux, theirs)


@pytest.mark.parametrize("place", [(0, 0), (8, 10), (-1.0, 5), (4, 12.4)])
def test_a_window_over_the_edge_is_filled(place):
    """Beyond the edge are the fill value, ivar 0 and mask True; the rest is as it was."""
    image = numbered(9, 11, ivar=np.full((9, 11), 2.0))
    theirs = Cutout2D(image.flux, place[::-1], (6, 5), mode="partial", fill_value=-1.0).data
    new = crop_or_pad(image, (6, 5), center=place, fill=-1.0)
    assert_array_equal(new.flux, theirs)
    assert_array_equal(new.mask, theirs == -1)
    assert_array_equal(new.ivar, np.where(theirs == -1, 0.0, 2.0))
    with pytest.raises(SampleError, match="expected a window inside the image of 9 by 11 pixels"):
        crop(image, (6, 5), center=place)


def test_a_window_far_outside_is_all_fill():
    """A position from which the image is not reached gives no information at all."""
    new = crop_or_pad(numbered(4, 4, ivar=np.ones((4, 4))), 3, center=(40, -40), fill=7.0)
    assert_array_equal(new.flux, np.full((3, 3), 7.0))
    assert new.mask.all()
    assert not new.ivar.any()


@pytest.mark.parametrize(("n", "wide"), [(4, 6), (4, 7), (5, 6), (5, 7)])
def test_crop_undoes_pad(n, wide):
    """Whatever is odd or even, padding and cropping about the middle gives the image back."""
    image = numbered(n, n, ivar=np.ones((n, n)))
    larger = pad(image, wide)
    assert larger.flux.shape == (wide, wide)
    assert larger.mask.sum() == wide**2 - n**2
    again = crop(larger, n)
    assert_array_equal(again.flux, image.flux)
    assert not again.mask.any()
    with pytest.raises(SampleError, match="expected a window around the image"):
        pad(image, n - 1)


def test_each_image_has_its_own_window():
    """With a position for each, every image of a batch is cut about its own."""
    rng = np.random.default_rng(1)
    flux = rng.normal(size=(4, 2, 9, 9)).astype(np.float32)
    places = np.array([[4, 4], [0, 0], [8, 3], [2.4, 5.6]])
    new = crop_or_pad(Image(flux), 4, center=places)
    assert new.flux.shape == (4, 2, 4, 4)
    assert new.flux.dtype == np.float32
    for i, place in enumerate(places):
        assert_array_equal(new.flux[i], crop_or_pad(Image(flux[i]), 4, center=place).flux)


# Orientations


def test_orientations_are_the_eight_of_a_square():
    """The codes give eight images, turned as numpy turns them, each undone by its inverse."""
    image = numbered(3, 3, mask=np.eye(3, dtype=bool))
    seen = {orient(image, code).flux.tobytes() for code in range(8)}
    assert len(seen) == 8
    for code in range(8):
        mirrored = image.flux[:, ::-1] if code >= 4 else image.flux
        new = orient(image, code)
        assert_array_equal(new.flux, np.rot90(mirrored, code % 4))
        assert_array_equal(orient(new, invert_orientation(code)).flux, image.flux)
        assert_array_equal(orient(Image(image.mask * 1.0), code).flux == 1, new.mask)


def test_parity_is_that_of_the_mirror():
    """Codes below 4 keep the handedness of three points, the others change it."""
    corner = [(0, 0), (0, 4), (4, 0)]

    def handedness(code):
        places = []
        for number, (row, column) in enumerate(corner, 1):
            flux = np.zeros((5, 5))
            flux[row, column] = number
            places.append(np.argwhere(orient(Image(flux), code).flux == number)[0])
        (a, b), (c, d) = places[1] - places[0], places[2] - places[0]
        return np.sign(a * d - b * c)

    signs = [handedness(code) for code in range(8)]
    assert signs == [signs[0]] * 4 + [-signs[0]] * 4


def test_drawn_orientations_can_be_drawn_again():
    """A seed draws the same again, all eight come up alike, and no mirror if not wanted."""
    drawn = draw_orientations(8000, np.random.default_rng(5))
    assert_array_equal(drawn, draw_orientations(8000, np.random.default_rng(5)))
    assert np.abs(np.bincount(drawn) - 1000).max() < 5 * np.sqrt(1000 * 7 / 8)
    assert set(draw_orientations(99, np.random.default_rng(5), mirror=False)) == {0, 1, 2, 3}


def test_each_image_has_its_own_orientation():
    """In a batch the first axis counts; only square images are turned one by one."""
    rng = np.random.default_rng(2)
    image = Image(rng.normal(size=(8, 2, 5, 5)), mask=rng.random((8, 2, 5, 5)) > 0.5)
    new = orient(image, np.arange(8))
    for code in range(8):
        assert_array_equal(new.flux[code], orient(Image(image.flux[code]), code).flux)
    assert new.mask.sum() == image.mask.sum()
    with pytest.raises(SampleError, match="expected square images"):
        orient(crop(image, (5, 4)), np.arange(8))
    assert orient(crop(image, (5, 4)), 1).flux.shape == (8, 2, 4, 5)


# Pixel scales


def test_rebinning_sums_blocks_exactly():
    """Whole numbers of counts in blocks sum to what adding them gives; the variance likewise."""
    rng = np.random.default_rng(3)
    counts = rng.integers(0, 1000, (2, 12, 18)).astype(float)
    variance = rng.integers(1, 9, counts.shape).astype(float)
    new = rebin(Image(counts, 1 / variance), 3)
    blocks = (2, 4, 3, 6, 3)
    assert_array_equal(new.image.flux, counts.reshape(blocks).sum((2, 4)))
    assert_allclose(1 / new.image.ivar, variance.reshape(blocks).sum((2, 4)), rtol=1e-14)
    mean = rebin(Image(counts, 1 / variance), 3, kind="brightness").image
    assert_allclose(mean.flux, counts.reshape(blocks).mean((2, 4)), rtol=1e-14)
    assert_allclose(mean.ivar, new.image.ivar * 81, rtol=1e-14)
    with pytest.raises(SampleError, match="divides 12 rows and 18 columns, found 5"):
        rebin(Image(counts), 5)


def test_resampling_is_the_sum_over_shared_areas():
    """Flux and variance of a new pixel are those summed old pixel by old pixel."""
    rng = np.random.default_rng(4)
    flux, ivar = rng.normal(size=(6, 5)), rng.uniform(0.5, 2, (6, 5))
    new = resample(Image(flux, ivar), pixel_size=1.0, target_pixel_size=1.3, size=3)
    first = np.array([3 - 1.95, 2.5 - 1.95])
    for i, j in itertools.product(range(3), repeat=2):
        total = variance = 0.0
        for row, column in itertools.product(range(6), range(5)):
            share = 1.0
            for cell, start in ((row, first[0] + 1.3 * i), (column, first[1] + 1.3 * j)):
                share *= max(0.0, min(cell + 1, start + 1.3) - max(cell, start))
            total += share * flux[row, column]
            variance += share**2 / ivar[row, column]
        assert new.image.flux[i, j] == pytest.approx(total, abs=1e-12)
        assert 1 / new.image.ivar[i, j] == pytest.approx(variance, rel=1e-12)
    assert not new.image.mask.any()


def test_the_variance_is_what_noise_does():
    """Over many images of white noise, each new pixel scatters as its ivar says."""
    rng = np.random.default_rng(5)
    noise = rng.normal(scale=3.0, size=(4000, 7, 7))
    new = resample(
        Image(noise, np.full(noise.shape, 1 / 9)), pixel_size=0.4, target_pixel_size=0.5, size=4
    ).image
    assert_allclose(new.flux.std(axis=0), new.ivar[0] ** -0.5, rtol=6 / np.sqrt(2 * 4000))


def test_a_bad_pixel_is_left_out_and_counted():
    """Masked, of ivar 0 or not finite: no trace in the flux, and coverage tells of it."""
    flux, ivar, mask = np.ones((4, 4)), np.ones((4, 4)), np.zeros((4, 4), bool)
    flux[0, 0], flux[0, 2], flux[2, 0] = 1e9, np.nan, -1e9
    mask[0, 0], ivar[2, 0] = True, 0
    new = rebin(Image(flux, ivar, mask), 2)
    assert new.n_excluded == 3
    assert_array_equal(new.image.flux, [[3, 3], [3, 4]])
    assert_array_equal(new.coverage, [[0.75, 0.75], [0.75, 1]])
    assert_array_equal(new.image.mask, [[True, True], [True, False]])
    assert_array_equal(new.image.ivar, [[0, 0], [0, 0.25]])
    mean = rebin(Image(flux, ivar, mask), 2, kind="brightness", min_coverage=0.5)
    assert_array_equal(mean.image.flux, np.ones((2, 2)))
    assert not mean.image.mask.any()
    assert_allclose(mean.image.ivar, [[3, 3], [3, 4]])


def test_each_image_has_its_own_middle():
    """With a position for each, a star anywhere comes to the middle of its image."""
    places = np.array([[9.3, 10.1], [12.75, 8.5], [10.0, 11.0]])
    flux = np.stack([[star((21, 22), place)] * 2 for place in places])
    new = resample(Image(flux), pixel_size=0.4, target_pixel_size=0.3, size=15, center=places)
    assert new.image.flux.shape == (3, 2, 15, 15)
    for one in new.image.flux.reshape(-1, 15, 15):
        # Cut at the edge of the window, hence not to rounding.
        assert_allclose(centroid(one), 0, atol=0.02)


def test_overlaps_of_neighbours_sum_to_whole_pixels():
    """Every old pixel inside is shared out fully, every new pixel inside is filled fully."""
    matrix = overlap_matrix(50, 31, 1.5, center=24.2)
    inside = slice(3, 46)
    assert_allclose(matrix.sum(axis=0)[inside], 1, rtol=1e-13)
    assert_allclose(matrix.sum(axis=1), 1.5, rtol=1e-13)


@pytest.mark.parametrize("target", [0.262, 0.5, 0.792])
def test_resampling_is_that_of_reproject(target):
    """On a pair of WCS of parallel axes, brightness is that of reproject_exact."""
    reproject = pytest.importorskip("reproject")
    rng = np.random.default_rng(6)
    image = star((24, 30), (11, 16), 3.0) + rng.normal(size=(24, 30))
    size = tuple(int(n * 0.396 / target) for n in image.shape)

    def wcs(shape, scale):
        one = WCS(naxis=2)
        one.wcs.ctype, one.wcs.crval = ["RA---TAN", "DEC--TAN"], [150.0, 2.0]
        one.wcs.crpix = (np.array(shape[::-1]) + 1) / 2
        one.wcs.cdelt = np.array([-scale, scale]) / 3600
        return one

    theirs, covered = reproject.reproject_exact(
        (image, wcs(image.shape, 0.396)), wcs(size, target), shape_out=size, parallel=False
    )
    ours = resample(
        Image(image), pixel_size=0.396, target_pixel_size=target, size=size, kind="brightness"
    )
    assert covered.min() > 0.99999
    assert_allclose(ours.image.flux, theirs, atol=1e-5 * np.abs(image).max())
    flux = resample(Image(image), pixel_size=0.396, target_pixel_size=target, size=size).image.flux
    assert_allclose(flux, ours.image.flux * (target / 0.396) ** 2, rtol=1e-12)


def test_filling_is_the_last_step():
    """Pixels without information get the fill value, no ivar and the mask; no other changes."""
    flux, ivar = np.array([[1.0, np.nan], [3.0, 4.0]]), np.array([[1.0, 1.0], [0.0, np.inf]])
    new = fill_bad(Image(flux, ivar), -9.0)
    assert_array_equal(new.flux, [[1, -9], [-9, -9]])
    assert_array_equal(new.ivar, [[1, 0], [0, 0]])
    assert_array_equal(new.mask, [[False, True], [True, True]])


# What is refused, and tensors


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        (Image([[1.0]]), "flux: expected a numpy array or a torch tensor, found a list"),
        (Image(np.zeros((2, 2), int)), "flux: expected floating numbers"),
        (Image(np.zeros(3)), "of shape .3,."),
        (Image(np.zeros((2, 2)), np.zeros((2, 1))), "ivar: expected the flux's shape"),
        (Image(np.zeros((2, 2)), mask=np.zeros((2, 2), "u2")), "expected booleans, True = bad"),
    ],
)
def test_arrays_that_do_not_belong_together(image, sentence):
    """Every function says in one sentence what is wrong with an image."""
    for function in (
        lambda one: crop_or_pad(one, 2),
        lambda one: resample(one, pixel_size=1, target_pixel_size=2),
        lambda one: orient(one, 1),
        percentile_stretch,
        fill_bad,
    ):
        with pytest.raises(SampleError, match=sentence):
            function(image)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda one: crop(one, 0), "size: expected whole numbers"),
        (lambda one: crop(one, 2.5), "size: expected whole numbers"),
        (lambda one: crop(one, 2, center=(1, np.nan)), "center: expected finite"),
        (lambda one: crop(one, 2, center=[[1, 1], [2, 2]]), "center: expected finite"),
        (lambda one: orient(one, 8), "orientation: expected whole numbers from 0 to 7"),
        (lambda one: orient(one, [0, 1]), "orientation: expected one"),
        (lambda one: resample(one, pixel_size=0, target_pixel_size=1), "pixel_size"),
        (
            lambda one: resample(one, pixel_size=1, target_pixel_size=np.inf),
            "expected finite sizes",
        ),
        (
            lambda one: resample(one, pixel_size=1, target_pixel_size=1, kind="mean"),
            "kind: expected 'flux' or 'brightness', found 'mean'",
        ),
        (lambda one: percentile_stretch(one, 90, 10), "low, high"),
        (lambda one: arcsinh_stretch(one, -1.0), "softening"),
        (lambda one: lupton_rgb(one.flux, one.flux, one.flux[1:]), "expected one shape"),
        (lambda one: lupton_rgb(one.flux, one.flux, one.flux, stretch=0), "stretch, q"),
    ],
)
def test_what_cannot_be_done_is_said(call, sentence):
    """An argument that means nothing is refused by its name."""
    with pytest.raises(SampleError, match=sentence):
        call(numbered(4, 4))


def test_tensors_come_to_the_same():
    """Each function gives for torch tensors what it gives for numpy arrays, as tensors."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(9)
    shape = (4, 3, 12, 12)
    image = Image(rng.normal(size=shape), rng.uniform(0.5, 2, shape), rng.random(shape) > 0.9)
    tensors = Image(*map(torch.from_numpy, image))
    places = rng.uniform(3, 8, (4, 2))
    for function in (
        lambda one: crop(one, 5),
        lambda one: crop_or_pad(one, (5, 14), center=places),
        lambda one: orient(one, np.array([1, 6, 3, 4])),
        lambda one: resample(one, pixel_size=3, target_pixel_size=2, center=places).image,
        lambda one: rebin(one, 2, kind="brightness", min_coverage=0.5).image,
        lambda one: arcsinh_unstretch(arcsinh_stretch(one, [1, 2, 3]), [3, 2, 1]),
        lambda one: scale_bands(one, 1.0, [1, 2, 3]),
        lambda one: percentile_stretch(one, 5, 95),
        lambda one: Image(lupton_rgb(*[one.flux[:, i] for i in range(3)], as_bytes=False)),
        fill_bad,
    ):
        for ours, theirs in zip(function(tensors), function(image), strict=True):
            if theirs is None:
                assert ours is None
                continue
            assert isinstance(ours, torch.Tensor)
            assert_allclose(ours.numpy(), theirs, rtol=1e-12, atol=1e-12)


def test_gradients_flow_to_the_flux():
    """The gradient of the total flux is 1 in every pixel that counts and 0 in masked ones."""
    torch = pytest.importorskip("torch")
    flux = torch.ones((2, 8, 8), dtype=torch.float64, requires_grad=True)
    mask = torch.zeros((2, 8, 8), dtype=torch.bool)
    mask[0, 3, 3] = True
    resample(
        Image(flux, mask=mask), pixel_size=1, target_pixel_size=1.3
    ).image.flux.sum().backward()
    assert_allclose(flux.grad.numpy(), ~mask.numpy(), rtol=1e-12)
    flux.grad = None
    arcsinh_stretch(Image(flux), 2.0).flux.sum().backward()
    assert_allclose(flux.grad.numpy(), 1 / np.sqrt(1 + 4), rtol=1e-12)
    flux.grad = None
    lupton_rgb(flux, 2 * flux, 3 * flux, as_bytes=False).sum().backward()
    assert torch.isfinite(flux.grad).all()
    assert (flux.grad > 0).all()


def test_no_images_are_no_error():
    """A batch of no images comes out as one of no images, of the size asked for."""
    image, none = Image(np.zeros((0, 3, 8, 8)), np.zeros((0, 3, 8, 8))), np.zeros((0, 2))
    assert crop_or_pad(image, 5, center=none).flux.shape == (0, 3, 5, 5)
    assert orient(image, none[:, 0].astype(int)).flux.shape == (0, 3, 8, 8)
    new = resample(image, pixel_size=1, target_pixel_size=2, size=3, center=none)
    assert new.image.ivar.shape == (0, 3, 3, 3)
    assert percentile_stretch(image).flux.shape == (0, 3, 8, 8)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4"])
def test_the_dtype_of_flux_is_kept(dtype):
    """Precision and range are the caller's; single precision is used inside for half."""
    flux = np.full((1, 10, 10), 5.0, dtype)
    image = Image(flux, np.ones_like(flux))
    for new in (
        resample(image, pixel_size=1, target_pixel_size=0.7).image,
        arcsinh_stretch(image, 2.0),
        crop_or_pad(image, 13),
        percentile_stretch(image),
    ):
        assert new.flux.dtype.newbyteorder("=") == np.dtype(dtype).newbyteorder("=")
        assert new.ivar.dtype.newbyteorder("=") == np.dtype(dtype).newbyteorder("=")
    assert_allclose(rebin(image, 2).image.flux, 20.0)


# Real images


@pytest.mark.real
def test_a_star_of_sdss_keeps_its_flux(real_data):
    """From 0.396 to 0.262 arcsec a star of SDSS has the same flux, in all and within 5 arcsec."""
    path = real_data / "images" / "blast_sn_hosts" / "2010H" / "SDSS" / "SDSS_r.fits"
    if not path.exists():
        pytest.skip(f"{path} is absent")
    frame = fits.getdata(path)
    inner = frame[60:-60, 60:-60]
    row, column = np.unravel_index(inner.argmax(), inner.shape)
    image = crop(Image(frame - np.median(frame)), 61, center=(row + 60, column + 60))
    new = resample(image, pixel_size=0.396, target_pixel_size=0.262).image
    old_flux, new_flux = image.flux.astype(float), new.flux.astype(float)
    assert new_flux.sum() == pytest.approx(old_flux.sum(), rel=1e-5)

    def aperture(flux, scale):
        rows, columns = (np.indices(flux.shape) - (flux.shape[0] - 1) / 2) * scale
        return flux[rows**2 + columns**2 < 5**2].sum()

    assert aperture(new_flux, 0.262) == pytest.approx(aperture(old_flux, 0.396), rel=2e-3)
    old_width, new_width = measure_fwhm(old_flux) * 0.396, measure_fwhm(new_flux) * 0.262
    # The new pixels blur what the old ones have blurred.
    assert old_width < new_width < 1.05 * old_width
    assert 1.4 < old_width < 1.6
