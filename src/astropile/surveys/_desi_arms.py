"""
The three arms of a DESI coadd, and the one spectrum made of them.

Knows the image HDUs of a coadd file; knows nothing of its tables.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from astropile.surveys._fits import FitsFile

ARMS: Final = "BRZ"
STEP: Final = 0.8
N_WAVE: Final = 7781
GRID: Final = np.round(3600.0 + STEP * np.arange(N_WAVE), 1)
"""The arms' common grid [Angstrom]."""

_GRID_TOLERANCE: Final = 1e-4
"""How far an arm's wavelength may lie from the grid [Angstrom], as in desispec."""


@dataclass(frozen=True)
class Arm:
    """
    Some spectra of one arm.

    Parameters
    ----------
    start : int
        Pixel of the grid that the arm begins at.
    flux, ivar : ndarray, shape (n, n_pixels), float32
        Flux and its inverse variance.
    mask : ndarray, shape (n, n_pixels), uint32
        Mask bits; 0 is good.
    moments : ndarray, shape (n, 3, n_pixels), float64
        Of the resolution matrix, from `column_moments`.
    """

    start: int
    flux: NDArray[np.float32]
    ivar: NDArray[np.float32]
    mask: NDArray[np.uint32]
    moments: NDArray[np.float64]


def first_pixel(coadd: FitsFile, arm: str, n_objects: int) -> int:
    """
    Check the images of an arm and find its place on the grid.

    Parameters
    ----------
    coadd : FitsFile
        The open file.
    arm : str
        ``B``, ``R`` or ``Z``.
    n_objects : int
        Rows of FIBERMAP: an object's spectrum has the same number as its row there.

    Returns
    -------
    int
        Pixel of the grid that it begins at.

    Raises
    ------
    NativeFileError
        If an HDU is missing or not of its shape, or the wavelengths are off the grid.
    """
    wave = coadd.image(f"{arm}_WAVELENGTH")
    place = (float(wave.flat[0]) - GRID[0]) / STEP if wave.size else -1.0
    start = round(place) if -1 < place < N_WAVE else -1
    inside = GRID[start : start + wave.size] if start >= 0 else GRID[:0]
    if inside.shape != wave.shape or np.abs(inside - wave).max() > _GRID_TOLERANCE:
        raise coadd.error(f"{arm}_WAVELENGTH on the grid 3600 + 0.8 i Angstrom", "other values")
    for name in ("FLUX", "IVAR", "MASK", "RESOLUTION"):
        hdu = coadd.hdu(f"{arm}_{name}")
        found = tuple(hdu.shape) if hdu.is_image else ()
        diagonals = found[1:-1]
        odd = len(diagonals) == 1 and diagonals[0] % 2 == 1
        good = odd if name == "RESOLUTION" else diagonals == ()
        if not good or (found[0], found[-1]) != (n_objects, wave.size):
            middle = ", an odd number" if name == "RESOLUTION" else ""
            raise coadd.error(
                f"{arm}_{name} of shape ({n_objects}{middle}, {wave.size})", f"shape {found}"
            )
    return start


def read_arm(coadd: FitsFile, arm: str, start: int, rows: slice, kept: NDArray[np.bool_]) -> Arm:
    """
    Read some spectra of an arm.

    Parameters
    ----------
    coadd : FitsFile
        The open file.
    arm : str
        ``B``, ``R`` or ``Z``.
    start : int
        From `first_pixel`.
    rows : slice
        Which rows to read.
    kept : ndarray, bool
        Which of these to keep.

    Returns
    -------
    Arm
        Their spectra.

    Raises
    ------
    NativeFileError
        If an image is not of the dtype that the data model says.
    """
    flux, ivar, mask, resolution = (
        coadd.image(f"{arm}_{name}", rows=rows)[kept]
        for name in ("FLUX", "IVAR", "MASK", "RESOLUTION")
    )
    for name, values in (("FLUX", flux), ("IVAR", ivar)):
        if values.dtype != np.float32:
            raise coadd.error(f"{arm}_{name} as float32", str(values.dtype))
    if mask.dtype.kind not in "iu" or mask.dtype.itemsize > 4:
        raise coadd.error(f"{arm}_MASK as 32 bits", str(mask.dtype))
    return Arm(start, flux, ivar, mask.astype(np.uint32), column_moments(resolution))


def column_moments(resolution: NDArray[Any]) -> NDArray[np.float64]:
    """
    Sum the columns of resolution matrices, times powers of the distance from the diagonal.

    Parameters
    ----------
    resolution : ndarray, shape (n, n_diagonals, n_pixels), float32
        Matrices as DESI stores them: ``[i, k, j]`` is element ``(j + k - n_diagonals // 2, j)``,
        so that ``[i, :, j]`` is what light of pixel j's wavelength looks like on the detector.

    Returns
    -------
    ndarray, shape (n, 3, n_pixels), float64
        Sums with the powers 0, 1 and 2 [pixel**0, 1, 2].
    """
    half = resolution.shape[1] // 2
    offsets = np.arange(-half, half + 1, dtype=np.float64)
    powers = np.stack((offsets**0, offsets, offsets**2))
    moments: NDArray[np.float64] = np.matmul(powers, resolution.astype(np.float64))
    return moments


def lsf_sigma(moments: NDArray[np.float64]) -> NDArray[np.float32]:
    """
    Give the width of the line-spread function.

    Parameters
    ----------
    moments : ndarray, shape (n, 3, n_pixels), float64
        From `column_moments`.

    Returns
    -------
    ndarray, shape (n, n_pixels), float32
        Standard deviation [Angstrom]; 0 where the moments give none.
    """
    total, first, second = moments[:, 0], moments[:, 1], moments[:, 2]
    safe = np.where(total > 0, total, 1.0)
    variance = np.where(total > 0, second / safe - (first / safe) ** 2, 0.0)
    return (STEP * np.sqrt(np.maximum(variance, 0.0))).astype(np.float32)


def combine(arms: list[Arm]) -> dict[str, NDArray[Any]]:
    """
    Put the arms of some spectra on the common grid.

    Parameters
    ----------
    arms : list of Arm
        The same objects in each.

    Returns
    -------
    dict of str to ndarray
        ``FLUX``, ``IVAR``, ``MASK``, ``LSF_SIGMA``, shape (n, 7781).

    Notes
    -----
    Flux, inverse variance and mask follow `coadd_cameras` of desispec [1]_, in float64 where
    two arms meet. There the resolution is weighted by the inverse variance of its column's
    pixel, while desispec takes that of each element's row.

    References
    ----------
    .. [1] https://github.com/desihub/desispec, py/desispec/coaddition.py
    """
    n = len(arms[0].flux)
    cover = np.zeros(N_WAVE, np.int64)
    for arm in arms:
        cover[arm.start : arm.start + arm.flux.shape[1]] += 1
    shared = np.flatnonzero(cover > 1)

    combined = {
        name: np.zeros((n, N_WAVE), dtype)
        for name, dtype in (("FLUX", "<f4"), ("IVAR", "<f4"), ("MASK", "<u4"), ("LSF_SIGMA", "<f4"))
    }
    met = (len(arms), n, len(shared))
    flux, ivar, covered = np.zeros(met), np.zeros(met), np.zeros(met)
    mask = np.zeros(met, np.uint32)
    moments = np.zeros((len(arms), n, 3, len(shared)))
    for number, arm in enumerate(arms):
        pixels = np.arange(arm.start, arm.start + arm.flux.shape[1])
        alone = cover[pixels] == 1
        for name, values in (
            ("FLUX", arm.flux),
            ("IVAR", arm.ivar),
            ("MASK", arm.mask),
            ("LSF_SIGMA", lsf_sigma(arm.moments)),
        ):
            combined[name][:, pixels[alone]] = values[:, alone]
        place = np.searchsorted(shared, pixels[~alone])
        usable = np.isfinite(arm.flux) & np.isfinite(arm.ivar) & (arm.ivar > 0)
        flux[number][:, place] = np.where(usable, arm.flux, 0.0)[:, ~alone]
        ivar[number][:, place] = np.where(usable, arm.ivar, 0.0)[:, ~alone]
        mask[number][:, place] = arm.mask[:, ~alone]
        moments[number][:, :, place] = arm.moments[:, :, ~alone]
        covered[number][:, place] = 1.0

    clean = np.where(mask == 0, ivar, 0.0)
    any_clean = clean.sum(axis=0) > 0
    weight = np.where(any_clean, clean, ivar)
    total = weight.sum(axis=0)
    mean = (weight * flux).sum(axis=0) / np.where(total > 0, total, 1.0)
    combined["FLUX"][:, shared] = mean.astype(np.float32)
    combined["IVAR"][:, shared] = total.astype(np.float32)
    combined["MASK"][:, shared] = np.where(any_clean, 0, np.bitwise_or.reduce(mask, axis=0))
    weight = np.where(total > 0, weight, covered)
    moments = (weight[:, :, None, :] * moments).sum(axis=0)
    combined["LSF_SIGMA"][:, shared] = lsf_sigma(moments)
    return combined
