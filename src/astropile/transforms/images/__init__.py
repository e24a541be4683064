"""
Images: windows, the eight orientations, pixel scales, stretches and colours.

An `Image` is flux, ivar and mask of shape (..., row, column); a position is (row, column), with 0
at the middle of the first pixel. Every function of an `Image` takes numpy arrays and torch
tensors, in batches, on any device, and lets gradients through to the flux.
`docs/how-to/transform-images.md` shows them at work.
"""

from astropile.transforms.images.image import Image, fill_bad, stack_bands
from astropile.transforms.images.orient import (
    draw_orientations,
    invert_orientation,
    orient,
)
from astropile.transforms.images.resample import (
    Resampled,
    overlap_matrix,
    rebin,
    resample,
)
from astropile.transforms.images.stretch import (
    arcsinh_stretch,
    arcsinh_unstretch,
    lupton_rgb,
    percentile_limits,
    percentile_stretch,
    scale_bands,
    unscale_bands,
)
from astropile.transforms.images.window import crop, crop_or_pad, pad

__all__ = [
    "Image",
    "Resampled",
    "arcsinh_stretch",
    "arcsinh_unstretch",
    "crop",
    "crop_or_pad",
    "draw_orientations",
    "fill_bad",
    "invert_orientation",
    "lupton_rgb",
    "orient",
    "overlap_matrix",
    "pad",
    "percentile_limits",
    "percentile_stretch",
    "rebin",
    "resample",
    "scale_bands",
    "stack_bands",
    "unscale_bands",
]
