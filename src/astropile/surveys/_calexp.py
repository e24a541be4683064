"""
Read the images of the HSC pipeline: pixels, mask planes by name, variance, positions.

A ``calexp`` file, coadd or single exposure, has an empty primary HDU and three images, usually
tile-compressed: the pixels, an integer mask whose header names its planes (``MP_...``), and the
variance. Knows nothing of catalogues or cutouts.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from astropile.surveys._fits import FitsFile

FLUXMAG0: Final = 63095734448.0194
"""Counts of a source of AB magnitude 0: every coadd of the release is scaled to this."""

MASK_PLANES: Final = (
    "BAD",
    "SAT",
    "INTRP",
    "CR",
    "EDGE",
    "DETECTED",
    "DETECTED_NEGATIVE",
    "SUSPECT",
    "NO_DATA",
    "BRIGHT_OBJECT",
    "CROSSTALK",
    "NOT_DEBLENDED",
    "UNMASKEDNAN",
    "REJECTED",
    "CLIPPED",
    "SENSOR_EDGE",
    "INEXACT_PSF",
)
"""The mask planes of PDR3, in the order of their bits."""

BITS: Final = {**{name: bit for bit, name in enumerate(MASK_PLANES)}, "OTHER": 30}
"""Bits of a mask as delivered. OTHER: some plane of the file that is not among these."""

BAD_PLANES: Final = ("BAD", "SAT", "NO_DATA")
"""Planes that make a pixel useless."""

_BAD_PIXEL: Final = sum(1 << BITS[name] for name in BAD_PLANES)
NO_DATA: Final = 1 << BITS["NO_DATA"]


@dataclass(frozen=True)
class Calexp:
    """
    An open coadd (or single exposure) of the HSC pipeline: three planes and a header.

    Parameters
    ----------
    file : FitsFile
        The open file.
    image, mask, variance : int
        Numbers of the HDUs of its planes, which have one shape.
    """

    file: FitsFile
    image: int
    mask: int
    variance: int

    @classmethod
    def of(cls, file: FitsFile) -> Calexp:
        """
        Find the planes of a file.

        Parameters
        ----------
        file : FitsFile
            The open file.

        Returns
        -------
        Calexp
            Its planes, by EXTTYPE or EXTNAME, else HDU 1, 2 and 3.

        Raises
        ------
        NativeFileError
            If one is missing or no image, or they differ in shape.
        """
        numbers: list[int] = []
        for place, kind in enumerate(("IMAGE", "MASK", "VARIANCE"), start=1):
            named = (
                number
                for number, hdu in enumerate(file.hdus)
                if kind in (hdu.header.get("EXTTYPE"), hdu.name)
            )
            numbers.append(next(named, place))
            hdu = file.hdu(numbers[-1])
            if (
                not hdu.is_image
                or len(hdu.shape) != 2
                or len(set(numbers)) < place
                or hdu.shape != file.hdu(numbers[0]).shape
            ):
                raise file.error(
                    f"a plane {kind} of the same shape as the others",
                    f"{type(hdu).__name__} of shape {getattr(hdu, 'shape', None)}",
                )
        return cls(file, *numbers)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the planes."""
        rows, columns = self.file.hdu(self.image).shape
        return int(rows), int(columns)

    @property
    def mask_planes(self) -> dict[str, int]:
        """Bit of each mask plane, as the header of the mask names them."""
        planes = {
            key[3:]: int(value)
            for key, value in self.file.header(self.mask).items()
            if key.startswith("MP_") and isinstance(value, int)
        }
        if not planes:
            raise self.file.error("mask planes (MP_...) in the header of the mask", "none")
        return planes

    @property
    def zero_point(self) -> float:
        """AB magnitude of one count [mag]; NativeFileError if it is not that of the release."""
        fluxmag0 = self.file.value(0, "FLUXMAG0")
        if not abs(float(fluxmag0) / FLUXMAG0 - 1) < 1e-4:
            raise self.file.error(f"FLUXMAG0 = {FLUXMAG0:.6g} (AB zero point 27)", f"{fluxmag0}")
        return float(2.5 * np.log10(fluxmag0))

    def pixels_of(self, ra: NDArray[Any], dec: NDArray[Any]) -> NDArray[np.float64]:
        """
        Work out where positions fall on the image.

        Parameters
        ----------
        ra, dec : ndarray, shape (n,), float64
            Positions [deg, ICRS].

        Returns
        -------
        ndarray, shape (n, 2), float64
            Column and row, the centre of the first pixel being (0, 0); NaN for a position that
            is none.
        """
        from astropy.coordinates import SkyCoord
        from astropy.wcs import WCS
        from astropy.wcs.utils import wcs_to_celestial_frame

        with warnings.catch_warnings():
            # Remarks on old spellings of header keywords.
            warnings.simplefilter("ignore")
            wcs = WCS(self.file.header(self.image), naxis=2)
        if not wcs.has_celestial:
            raise self.file.error("celestial coordinates in the header of the image", "none")
        pixels = np.full((len(ra), 2), np.nan)
        good = np.isfinite(ra) & (np.abs(dec) <= 90)
        if good.any():
            sky = SkyCoord(ra[good], dec[good], unit="deg").transform_to(
                wcs_to_celestial_frame(wcs)
            )
            lon, lat = sky.spherical.lon.deg, sky.spherical.lat.deg
            pixels[good] = np.stack(wcs.all_world2pix(lon, lat, 0, quiet=True), axis=1)
        return pixels


def mask_with_declared_bits(mask: NDArray[Any], planes: Mapping[str, int]) -> NDArray[np.int32]:
    """
    Move the planes of a mask to the bits in `BITS`.

    Parameters
    ----------
    mask : ndarray of int
        Mask of a file.
    planes : mapping of str to int
        Bit of each plane in that file.

    Returns
    -------
    ndarray of int32
        The same mask with the declared bits.

    Examples
    --------
    >>> mask_with_declared_bits(np.array([0, 2, 4]), {"SAT": 2, "NO_DATA": 1})
    array([  0, 256,   2], dtype=int32)
    """
    values = mask.astype(np.int64)
    staying = sum(1 << bit for name, bit in planes.items() if BITS.get(name) == bit)
    moved = values & staying
    for name, bit in planes.items():
        if BITS.get(name) != bit:
            moved |= ((values >> bit) & 1) << BITS.get(name, BITS["OTHER"])
    unnamed = 0xFFFFFFFF & ~sum(1 << bit for bit in set(planes.values()))
    moved |= ((values & unnamed) != 0).astype(np.int64) << BITS["OTHER"]
    return moved.astype(np.int32)


def inverse_variance(
    variance: NDArray[Any], image: NDArray[Any], mask: NDArray[Any]
) -> NDArray[np.float32]:
    """
    Turn a variance into a weight: 0 for every pixel that tells nothing.

    Parameters
    ----------
    variance, image : ndarray of float32
        Planes of a coadd.
    mask : ndarray of int32
        Its mask, with the declared bits.

    Returns
    -------
    ndarray of float32
        1 / variance, finite and never negative.
    """
    good = np.isfinite(variance) & (variance > 0) & np.isfinite(image) & ((mask & _BAD_PIXEL) == 0)
    ivar = np.zeros(variance.shape, np.float32)
    with np.errstate(over="ignore"):
        np.divide(1.0, variance, out=ivar, where=good, casting="same_kind")
    # The inverse of a variance below 1e-38 has no float32.
    return np.where(np.isfinite(ivar), ivar, np.float32(0))
