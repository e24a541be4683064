"""
Cut stamps out of one brick of the Legacy Surveys: its coadds in each band and its mask.

``legacysurvey-<brick>-image-<band>.fits.fz``, ``-invvar-<band>`` and ``-maskbits`` are images
on one tangent-plane grid (3600 x 3600 pixels, fewer for a part of a brick). Knows nothing of
catalogues.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from astropile.errors import NativeFileError
from astropile.schema import Column
from astropile.surveys._fits import FitsFile
from astropile.surveys._legacy import MASKBITS, PIXEL_ARCSEC

BANDS: Final = ("g", "r", "i", "z")
_DATA_HDU: Final = 1
_FAR_OUTSIDE: Final = -(10**6)


@dataclass(frozen=True)
class Grid:
    """
    The pixels of a coadd on the sky: a tangent plane in ICRS.

    Parameters
    ----------
    shape : tuple of int
        (rows, columns).
    crval, crpix : tuple of float
        Right ascension and declination [deg] of the reference pixel (x, y), counted from 1.
    cd : tuple of float
        CD1_1, CD1_2, CD2_1, CD2_2 [deg per pixel].
    """

    shape: tuple[int, int]
    crval: tuple[float, float]
    crpix: tuple[float, float]
    cd: tuple[float, float, float, float]

    @classmethod
    def of(cls, file: FitsFile) -> Grid:
        """
        Take the grid of a coadd from its header.

        Parameters
        ----------
        file : FitsFile
            The coadd.

        Returns
        -------
        Grid
            Its grid.

        Raises
        ------
        NativeFileError
            If it is no image, on another projection or of another pixel size.
        """
        hdu = file.hdu(_DATA_HDU)
        if not hdu.is_image or len(hdu.shape) != 2:
            raise file.error("an image with two axes in HDU 1", type(hdu).__name__)
        kind = tuple(str(file.value(_DATA_HDU, f"CTYPE{axis}")) for axis in (1, 2))
        if kind != ("RA---TAN", "DEC--TAN"):
            raise file.error("axes RA---TAN and DEC--TAN", f"{kind}")

        def pair(name: str) -> tuple[float, float]:
            return (
                float(file.value(_DATA_HDU, f"{name}1")),
                float(file.value(_DATA_HDU, f"{name}2")),
            )

        cd = (*pair("CD1_"), *pair("CD2_"))
        side = 3600.0 * abs(cd[0] * cd[3] - cd[1] * cd[2]) ** 0.5
        if not abs(side / PIXEL_ARCSEC - 1) < 1e-3:
            raise file.error(f"pixels of {PIXEL_ARCSEC} arcsec", f"{side:.6g} arcsec")
        return cls((hdu.shape[0], hdu.shape[1]), pair("CRVAL"), pair("CRPIX"), cd)

    def pixels(
        self, ra: NDArray[np.float64], dec: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """
        Work out where positions fall.

        Parameters
        ----------
        ra, dec : ndarray, shape (n,), float64
            Positions [deg, ICRS].

        Returns
        -------
        x, y : ndarray, shape (n,), float64
            Column and row, the centre of the first pixel being 0 (as BX and BY of the Tractor
            catalogues); NaN where there is none.
        """
        ra0, dec0 = np.deg2rad(self.crval)
        delta, phi = np.deg2rad(ra) - ra0, np.deg2rad(dec)
        with np.errstate(all="ignore"):
            depth = np.sin(dec0) * np.sin(phi) + np.cos(dec0) * np.cos(phi) * np.cos(delta)
            depth = np.where(depth > 0, depth, np.nan)
            xi = np.rad2deg(np.cos(phi) * np.sin(delta) / depth)
            eta = np.rad2deg(
                (np.cos(dec0) * np.sin(phi) - np.sin(dec0) * np.cos(phi) * np.cos(delta)) / depth
            )
        a, b, c, d = self.cd
        det = a * d - b * c
        x = (d * xi - b * eta) / det + self.crpix[0] - 1
        y = (a * eta - c * xi) / det + self.crpix[1] - 1
        return x, y

    def reached(
        self, x: NDArray[np.float64], y: NDArray[np.float64], size: int
    ) -> NDArray[np.bool_]:
        """
        Tell which stamps hold at least one pixel of the coadd.

        Parameters
        ----------
        x, y : ndarray, shape (n,), float64
            Column and row of the objects.
        size : int
            Side of the stamps [pixel].

        Returns
        -------
        ndarray, shape (n,), bool
            Whether each does.
        """
        x0, y0 = first_pixel(x, size), first_pixel(y, size)
        n_rows, n_columns = self.shape
        return (x0 > -size) & (x0 < n_columns) & (y0 > -size) & (y0 < n_rows)


def first_pixel(centre: NDArray[np.float64], size: int) -> NDArray[np.int64]:
    """
    Choose a stamp's first pixel so that its middle is nearest to the object.

    Parameters
    ----------
    centre : ndarray, shape (n,), float64
        Column or row of the objects; the centre of pixel 0 is 0.
    size : int
        Side of the stamps [pixel].

    Returns
    -------
    ndarray, shape (n,), int64
        Their first column or row. The middle of a stamp, (size - 1) / 2 from there, is at most
        half a pixel from the object. Far outside where `centre` is not finite.

    Examples
    --------
    >>> first_pixel(np.array([79.5, 79.6, 100.0]), 160)
    array([ 0,  0, 20])
    """
    # Rounded, so that an object on the centre of a pixel does not depend on the last digit.
    first = np.ceil(np.round(centre - size / 2, 6))
    return np.where(np.isfinite(first), first, _FAR_OUTSIDE).astype(np.int64)


def stamp_columns(size: int) -> tuple[Column, ...]:
    """
    Declare what a stamp consists of.

    Parameters
    ----------
    size : int
        Side of the stamps [pixel].

    Returns
    -------
    tuple of Column
        Derived columns, bands in the order of `BANDS`.
    """
    n_bands = len(BANDS)
    derived = partial(Column, derived=True)
    stamp = (n_bands, size, size)
    return (
        derived(
            "image_array",
            "float32",
            "Stamp cut from the coadds of BRICKNAME (band g r i z, row, column), not resampled; "
            "rows run north, columns west. 0 outside the coadd and in a band without one.",
            shape=stamp,
            unit="nanomaggy",
        ),
        derived(
            "image_invvar",
            "float32",
            "Inverse variance of image_array, as in the coadd even where image_bad.",
            shape=stamp,
            unit="1 / nanomaggy2",
        ),
        derived(
            "image_maskbits",
            "int32",
            "Stamp of the maskbits coadd, all bands in one; NPRIMARY outside the coadd. Most bits "
            "say what is near, not that a pixel is bad: see image_bad.",
            shape=(size, size),
            bits=MASKBITS,
        ),
        derived(
            "image_bad",
            "bool",
            "True where a pixel is outside the coadd, not finite, without a positive inverse "
            "variance, or has SATUR or ALLMASK of its band in image_maskbits.",
            shape=stamp,
        ),
        derived(
            "image_present", "bool", "Whether there is a coadd in g, r, i, z.", shape=(n_bands,)
        ),
        derived(
            "image_noise_std",
            "float32",
            "Noise per pixel: median of image_invvar over good pixels, to the power -1/2; NaN if "
            "no pixel is good.",
            shape=(n_bands,),
            unit="nanomaggy",
        ),
        derived(
            "image_has_maskbits",
            "bool",
            "Whether there is a maskbits coadd (from DR7 on); else image_maskbits is 0.",
        ),
        derived("image_x", "float64", "Column of RA, DEC in the stamp, from 0.", unit="pix"),
        derived("image_y", "float64", "Row of RA, DEC in the stamp, from 0.", unit="pix"),
        derived("image_x0", "int32", "Column of the coadd where the stamp begins.", unit="pix"),
        derived("image_y0", "int32", "Row of the coadd where the stamp begins.", unit="pix"),
    )


def blank_stamps(n_objects: int, size: int) -> dict[str, NDArray[Any]]:
    """
    Make the stamps of objects of which there is no coadd.

    Parameters
    ----------
    n_objects : int
        How many.
    size : int
        Side of the stamps [pixel].

    Returns
    -------
    dict of str to ndarray
        The columns of `stamp_columns`: no band present, every pixel bad.
    """
    fill = {
        "image_bad": True,
        "image_noise_std": np.nan,
        "image_x": np.nan,
        "image_y": np.nan,
        "image_x0": _FAR_OUTSIDE,
        "image_y0": _FAR_OUTSIDE,
    }
    batch: dict[str, NDArray[Any]] = {}
    for column in stamp_columns(size):
        shape: Any = (n_objects, *column.shape)
        batch[column.name] = np.full(shape, fill.get(column.name, 0), column.dtype)
    return batch


class Brick:
    """
    The open coadds of one brick.

    Parameters
    ----------
    files : mapping of str to Path
        ``image-<band>``, ``invvar-<band>`` and ``maskbits`` to the files there are.

    Raises
    ------
    NativeFileError
        If a file is broken, one of an image and its inverse variance is missing, or the files
        are on different grids.
    """

    def __init__(self, files: Mapping[str, Path]) -> None:
        self._stack = contextlib.ExitStack()
        self._files: dict[str, FitsFile] = {}
        self.bands = tuple(band for band in BANDS if f"image-{band}" in files)
        with contextlib.ExitStack() as stack:
            for kind, path in sorted(files.items()):
                what, _, band = kind.partition("-")
                twin = f"{'invvar' if what == 'image' else 'image'}-{band}"
                if band and twin not in files:
                    raise NativeFileError(str(path), f"its {twin} beside it", "no such file")
                self._files[kind] = stack.enter_context(FitsFile(path))
            first = self._files[f"image-{self.bands[0]}"]
            self.grid = Grid.of(first)
            for file in self._files.values():
                if Grid.of(file) != self.grid:
                    raise file.error(f"the pixel grid of {first.path.name}", "another grid")
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def stamps(
        self, x: NDArray[np.float64], y: NDArray[np.float64], size: int
    ) -> dict[str, NDArray[Any]]:
        """
        Cut stamps around objects, blank where they reach over the edge.

        Parameters
        ----------
        x, y : ndarray, shape (n,), float64
            Column and row of the objects.
        size : int
            Side of the stamps [pixel].

        Returns
        -------
        dict of str to ndarray
            The columns of `stamp_columns`.

        Raises
        ------
        NativeFileError
            If pixels cannot be unpacked.
        """
        x0, y0 = first_pixel(x, size), first_pixel(y, size)
        batch = blank_stamps(len(x), size)
        array, invvar = batch["image_array"], batch["image_invvar"]
        maskbits, bad = batch["image_maskbits"], batch["image_bad"]
        if "maskbits" in self._files:
            maskbits[:] = 1 << MASKBITS["NPRIMARY"]
            self._cut("maskbits", x0, y0, maskbits)
            batch["image_has_maskbits"][:] = True
        for index, band in enumerate(BANDS):
            if band in self.bands:
                self._cut(f"image-{band}", x0, y0, array[:, index])
                self._cut(f"invvar-{band}", x0, y0, invvar[:, index])
                batch["image_present"][:, index] = True
            bits = sum(1 << MASKBITS[f"{name}_{band.upper()}"] for name in ("SATUR", "ALLMASK"))
            bad[:, index] = (maskbits & bits) != 0
        bad |= ~(np.isfinite(array) & np.isfinite(invvar) & (invvar > 0))
        for row, index in zip(*np.nonzero(~bad.all(axis=(2, 3))), strict=True):
            typical = np.median(invvar[row, index][~bad[row, index]])
            batch["image_noise_std"][row, index] = typical**-0.5
        batch.update(image_x=x - x0, image_y=y - y0)
        batch.update(image_x0=x0.astype(np.int32), image_y0=y0.astype(np.int32))
        return batch

    def _cut(
        self, kind: str, x0: NDArray[np.int64], y0: NDArray[np.int64], out: NDArray[Any]
    ) -> None:
        """Copy windows of one file into `out`; only the rows they reach are unpacked."""
        size, (n_rows, n_columns) = out.shape[-1], self.grid.shape
        low, high = max(0, int(y0.min())), min(n_rows, int(y0.max()) + size)
        if low >= high:
            return
        file = self._files[kind]
        strip = file.image(_DATA_HDU, rows=slice(low, high))
        if not np.can_cast(strip.dtype, out.dtype):
            raise file.error(f"pixels that {out.dtype} can hold", f"{strip.dtype}")
        for row, (x, y) in enumerate(zip(x0.tolist(), y0.tolist(), strict=True)):
            left, right = max(0, x), min(n_columns, x + size)
            bottom, top = max(0, y), min(n_rows, y + size)
            if left < right and bottom < top:
                out[row, bottom - y : top - y, left - x : right - x] = strip[
                    bottom - low : top - low, left:right
                ]
