"""
SDSS corrected frames: where they lie on the sky, their pixels and their noise.

A frame is one field of one camera column in one band, calibrated and sky-subtracted, 2048
columns by 1489 rows. Its noise is not stored; it follows from the counts that were detected,
the gain and the dark variance.

Data model: https://data.sdss.org/datamodel/files/BOSS_PHOTOOBJ/frames/RERUN/RUN/CAMCOL/frame.html
"""

from __future__ import annotations

import bz2
import gzip
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from astropile.errors import NativeFileError
from astropile.surveys._fits import FitsFile

FRAME: Final = re.compile(r"frame-([ugriz])-(\d{6})-([1-6])-(\d{4})\.fits(\.bz2|\.gz)?$")
BANDS: Final = "ugriz"
_CENTRE: Final = (1025.0, 745.0)
"""CRPIX1 and CRPIX2 of every whole frame: by these a part of one finds its calibration."""

_GAIN: Final = (
    (1.62, 3.32, 4.71, 5.165, 4.745),
    (1.825, 3.855, 4.6, 6.565, 5.155),
    (1.59, 3.845, 4.72, 4.86, 4.885),
    (1.6, 3.995, 4.76, 4.885, 4.775),
    (1.47, 4.05, 4.725, 4.64, 3.48),
    (2.17, 4.035, 4.895, 4.76, 4.69),
)
_DARK_VARIANCE: Final = (
    (9.61, 15.6025, 1.8225, 7.84, 0.81),
    (12.6025, 1.44, 1.0, 6.25, 1.0),
    (8.7025, 1.3225, 1.3225, 4.6225, 1.0),
    (12.6025, 1.96, 1.3225, 7.5625, 12.6025),
    (9.3025, 1.1025, 0.81, 7.84, 2.1025),
    (7.0225, 1.8225, 0.9025, 5.0625, 1.21),
)
"""By camera column and band, for the later runs; `_EARLIER_*` are those that were changed."""

_EARLIER_GAIN: Final = {(2, "u"): 1.595}
_EARLIER_DARK_VARIANCE: Final = {(2, "i"): 5.76, (4, "i"): 6.25, (4, "z"): 9.61, (5, "z"): 1.8225}


def gain(run: int, camcol: int, band: str) -> float:
    """
    Give the gain of a chip.

    Parameters
    ----------
    run, camcol : int
        Imaging run and camera column.
    band : str
        One of ``ugriz``.

    Returns
    -------
    float
        Electrons per count.
    """
    if run < 1100 and (camcol, band) in _EARLIER_GAIN:
        return _EARLIER_GAIN[camcol, band]
    return _GAIN[camcol - 1][BANDS.index(band)]


def dark_variance(run: int, camcol: int, band: str) -> float:
    """
    Give the variance of a chip without light: read noise and dark current.

    Parameters
    ----------
    run, camcol : int
        Imaging run and camera column.
    band : str
        One of ``ugriz``.

    Returns
    -------
    float
        Variance [counts squared].
    """
    if run < 1500 and (camcol, band) in _EARLIER_DARK_VARIANCE:
        return _EARLIER_DARK_VARIANCE[camcol, band]
    return _DARK_VARIANCE[camcol - 1][BANDS.index(band)]


@dataclass(frozen=True)
class Place:
    """
    Where a frame lies on the sky: a tangent-plane projection.

    Parameters
    ----------
    shape : tuple of int
        (rows, columns).
    crpix : tuple of float
        Reference pixel as in FITS: the first pixel is 1, columns first.
    crval : tuple of float
        Right ascension and declination there [deg].
    cd : tuple of tuple of float
        Degrees per pixel: rows are (right ascension, declination).
    """

    shape: tuple[int, int]
    crpix: tuple[float, float]
    crval: tuple[float, float]
    cd: tuple[tuple[float, float], tuple[float, float]]

    @classmethod
    def of(cls, path: Path, header: Any) -> Place:
        """
        Read it from a header.

        Parameters
        ----------
        path : Path
            The file, for messages.
        header : astropy.io.fits.Header
            Header of the frame.

        Returns
        -------
        Place
            The place.

        Raises
        ------
        NativeFileError
            If a keyword is missing or the projection is another.
        """
        try:
            kinds = (header["CTYPE1"].strip(), header["CTYPE2"].strip())
            place = cls(
                (int(header["NAXIS2"]), int(header["NAXIS1"])),
                (float(header["CRPIX1"]), float(header["CRPIX2"])),
                (float(header["CRVAL1"]), float(header["CRVAL2"])),
                (
                    (float(header["CD1_1"]), float(header["CD1_2"])),
                    (float(header["CD2_1"]), float(header["CD2_2"])),
                ),
            )
        except KeyError as error:
            raise NativeFileError(
                str(path), "a frame header with CTYPE, NAXIS, CRPIX, CRVAL, CD", str(error)
            ) from error
        if kinds != ("RA---TAN", "DEC--TAN"):
            raise NativeFileError(str(path), "axes RA---TAN and DEC--TAN", str(kinds))
        if not place.pixel_size_arcsec > 0:
            raise NativeFileError(str(path), "a CD matrix that can be inverted", str(place.cd))
        return place

    @property
    def pixel_size_arcsec(self) -> float:
        """Pixel side [arcsec]."""
        (a, b), (c, d) = self.cd
        return 3600.0 * math.sqrt(abs(a * d - b * c))

    def pixel(
        self, ra: NDArray[np.float64], dec: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """
        Give the pixel of a position.

        Parameters
        ----------
        ra, dec : ndarray, shape (n,), float64
            Positions [deg, ICRS].

        Returns
        -------
        column, row : ndarray, shape (n,), float64
            The centre of the first pixel is (0, 0); NaN on the far half of the sky.
        """
        d_ra = np.deg2rad(np.asarray(ra) - self.crval[0])
        dec, dec0 = np.deg2rad(np.asarray(dec)), math.radians(self.crval[1])
        cos_c = math.sin(dec0) * np.sin(dec) + math.cos(dec0) * np.cos(dec) * np.cos(d_ra)
        with np.errstate(divide="ignore", invalid="ignore"):
            xi = np.rad2deg(np.cos(dec) * np.sin(d_ra) / cos_c)
            eta = np.rad2deg(
                (math.cos(dec0) * np.sin(dec) - math.sin(dec0) * np.cos(dec) * np.cos(d_ra)) / cos_c
            )
        (a, b), (c, d) = self.cd
        determinant = a * d - b * c
        column = (d * xi - b * eta) / determinant + self.crpix[0] - 1.0
        row = (a * eta - c * xi) / determinant + self.crpix[1] - 1.0
        near = cos_c > 0
        return np.where(near, column, np.nan), np.where(near, row, np.nan)

    def margin(self, column: NDArray[np.float64], row: NDArray[np.float64]) -> NDArray[np.float64]:
        """
        Give how far inside the frame a pixel is.

        Parameters
        ----------
        column, row : ndarray, shape (n,), float64
            As from `pixel`.

        Returns
        -------
        ndarray, shape (n,), float64
            Pixels to the nearest edge; not above 0 outside, or where there is no pixel.
        """
        n_rows, n_columns = self.shape
        inside = np.minimum.reduce(
            [column + 0.5, n_columns - 0.5 - column, row + 0.5, n_rows - 0.5 - row]
        )
        return np.where(np.isfinite(inside), inside, -np.inf)


def read_place(path: Path) -> Place:
    """
    Read where a frame lies, without unpacking its pixels.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    Place
        The place.

    Raises
    ------
    NativeFileError
        If the file does not start with the header of a frame.
    """
    from astropy.io import fits

    opener: Any = {".bz2": bz2.open, ".gz": gzip.open}.get(path.suffix, open)
    try:
        with opener(path, "rb") as handle:
            header = fits.Header.fromfile(handle)
    except (OSError, EOFError, ValueError) as error:
        raise NativeFileError(str(path), "a frame with a whole header", str(error)) from error
    return Place.of(path, header)


class Frame:
    """
    The pixels and the noise of one frame.

    Parameters
    ----------
    path : Path
        The file.
    run, camcol : int
        Imaging run and camera column.
    band : str
        One of ``ugriz``.

    Raises
    ------
    NativeFileError
        If the file is not a whole frame.
    """

    def __init__(self, path: Path, run: int, camcol: int, band: str) -> None:
        with FitsFile(path) as file:
            self.place = Place.of(path, file.header(0))
            self.rerun = str(file.header(0).get("RERUN", "")).strip()
            self.image = file.image(0)
            calibration = file.image(1).astype(np.float64)
            self._sky = file.column(2, "ALLSKY")[0].astype(np.float64)
            columns, rows = file.column(2, "XINTERP")[0], file.column(2, "YINTERP")[0]
            start = [
                self._start(file, axis, n_pixels, whole)
                for axis, (n_pixels, whole) in enumerate(
                    zip(self.image.shape[::-1], (len(calibration), len(rows)), strict=True)
                )
            ]
        here = slice(start[0], start[0] + self.image.shape[1])
        self._calibration, self._columns = calibration[here], columns[here]
        self._rows = rows[start[1] : start[1] + self.image.shape[0]]
        self._gain, self._dark = gain(run, camcol, band), dark_variance(run, camcol, band)

    def _start(self, file: FitsFile, axis: int, n_pixels: int, whole: int) -> int:
        """Give where a part of a frame begins in the whole one."""
        if n_pixels == whole:
            return 0
        start = _CENTRE[axis] - self.place.crpix[axis]
        if start != int(start) or not 0 <= start <= whole - n_pixels:
            raise file.error(f"calibration and sky for {n_pixels} pixels", f"for {whole}")
        return int(start)

    def variance(self, rows: slice, columns: slice) -> NDArray[np.float64]:
        """
        Work out the variance of some pixels.

        Parameters
        ----------
        rows, columns : slice
            Which.

        Returns
        -------
        ndarray, shape (n_rows, n_columns), float64
            Variance [nanomaggy squared].

        Notes
        -----
        The recipe of the data model: the image is divided by the calibration vector and the
        sky added, which gives the counts detected; their variance is counts / gain + dark
        variance; the calibration vector takes it back to nanomaggies.
        """
        calibration = self._calibration[columns]
        sky = _bilinear(self._sky, self._rows[rows], self._columns[columns])
        with np.errstate(divide="ignore", invalid="ignore"):
            counts = self.image[rows, columns] / calibration + sky
        variance: NDArray[np.float64] = (counts / self._gain + self._dark) * calibration**2
        return variance


def _bilinear(
    grid: NDArray[np.float64], rows: NDArray[Any], columns: NDArray[Any]
) -> NDArray[np.float64]:
    """Interpolate between the points of a grid; beyond its edge it stays as there."""

    def between(place: NDArray[Any], size: int) -> tuple[Any, Any, Any]:
        clipped = np.clip(place.astype(np.float64), 0, size - 1)
        below = np.minimum(clipped.astype(np.int64), max(size - 2, 0))
        return below, np.minimum(below + 1, size - 1), clipped - below

    row, next_row, row_part = between(rows, grid.shape[0])
    column, next_column, column_part = between(columns, grid.shape[1])
    lower = grid[row][:, column] * (1 - column_part) + grid[row][:, next_column] * column_part
    upper = (
        grid[next_row][:, column] * (1 - column_part) + grid[next_row][:, next_column] * column_part
    )
    result: NDArray[np.float64] = lower * (1 - row_part)[:, None] + upper * row_part[:, None]
    return result
