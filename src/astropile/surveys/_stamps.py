"""
Package small FITS images, each of its own size, that come without a catalogue.

A stamp is one file: an image (row, column) or a cube (band, row, column) in its first HDU, with
celestial coordinates in the header. It is taken as one object, named by the file, at the middle
of the image. A second file may hold the PSF of each band. `make_stamps` turns a few facts into a
`Survey`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from astropile.errors import NativeFileError
from astropile.schema import Alias, Column, Constant, RecordList, Rejected, Stack, Survey, Unit
from astropile.surveys._fits import FitsFile

FWHM_PER_SIGMA: Final = 2.3548200450309493

_HEADER: Final = {
    "CRVAL1": ("deg", "Longitude of the reference point, in the frame RADESYS."),
    "CRVAL2": ("deg", "Latitude of the reference point, in the frame RADESYS."),
    "CRPIX1": ("", "Column of the reference point, the first one being 1."),
    "CRPIX2": ("", "Row of the reference point, the first one being 1."),
    "MJD-OBS": ("d", "Date of the observation as the file states it; NaN if it does not."),
}
"""Header keywords kept under their own names."""


@dataclass(frozen=True)
class StampFiles:
    """
    Which files are stamps, and where their PSF is.

    Parameters
    ----------
    pattern : str
        Name of the stamps' files, as for `Path.glob`.
    psf : str
        Name of the file of the PSF, in the same folder; ``{stem}`` stands for the stamp's name
        without its suffix. Empty: there is none.
    """

    pattern: str
    psf: str = ""


def make_stamps(
    *,
    bands: Sequence[str],
    dtype: str,
    files: Sequence[StampFiles],
    unit: str = "",
    **facts: Any,
) -> Survey:
    """
    Make the survey of a folder of stamps.

    Parameters
    ----------
    bands : sequence of str
        Name of each band, in the order of the cube; one name for plain images.
    dtype : str
        Dtype of the pixels.
    files : sequence of StampFiles
        Which files are stamps; a file belongs to the first pattern that it fits.
    unit : str
        Unit of the pixels where it is known.
    **facts
        Name, provenance, texts and further aliases, as `Survey` takes them.

    Returns
    -------
    Survey
        The survey.
    """
    cube = (len(bands), "row", "col")
    header = tuple(
        Column(key, "float64", f"Header keyword: {doc}", unit=unit_of)
        for key, (unit_of, doc) in _HEADER.items()
    )
    columns = (
        Column("name", "S128", "Name of the file without its suffix.", derived=True),
        Column(
            "ra",
            "float64",
            "Right ascension of the middle of the image, ICRS, by its coordinates.",
            unit="deg",
            derived=True,
        ),
        Column(
            "dec",
            "float64",
            "Declination of the middle of the image, ICRS, by its coordinates.",
            unit="deg",
            derived=True,
        ),
        *header,
        Column("RADESYS", "S8", "Header keyword: frame of CRVAL1 and CRVAL2; ICRS if absent."),
        Column(
            "cd",
            "float64",
            "Step of (longitude, latitude) per column and per row, from the header's matrix.",
            shape=(2, 2),
            unit="deg",
            derived=True,
        ),
        Column(
            "image_array",
            dtype,
            f"Pixels as in the file, (band, row, column), bands {' '.join(bands)}.",
            shape=cube,
            unit=unit,
        ),
        Column(
            "pixel_size",
            "float32",
            "Side of a square pixel of the same area, from the header's matrix.",
            unit="arcsec",
            derived=True,
        ),
        Column(
            "noise_std",
            "float32",
            "Noise of a pixel in each band: 1.4826 / sqrt(2) times the median distance from "
            "their median of the differences between pixels two apart along rows and columns.",
            shape=(len(bands),),
            unit=unit,
            derived=True,
        ),
        Column(
            "psf",
            "float64",
            "Image of the PSF in each band as in its file, on pixels of the size of the "
            "stamp's; without pixels if there is none.",
            shape=(len(bands), "psf_row", "psf_col"),
        ),
        Column(
            "psf_fwhm",
            "float32",
            "FWHM of the Gaussian with the adaptive second moments of the PSF; NaN if there is "
            "none.",
            shape=(len(bands),),
            unit="arcsec",
            derived=True,
        ),
    )
    aliases: Mapping[str, Alias] = {
        "object_id": "name",
        "observation_id": "name",
        "ra": "ra",
        "dec": "dec",
        "image": RecordList(
            {
                "filter": Constant(tuple(bands)),
                "array": "image_array",
                "psf_fwhm": "psf_fwhm",
                "pixel_size": Stack(("pixel_size",) * len(bands)),
                "noise_std": "noise_std",
                "units": Constant(unit or "unknown"),
            }
        ),
    }
    return Survey(
        columns=columns,
        aliases={**aliases, **facts.pop("aliases", {})},
        units=partial(_list_units, files=tuple(files)),
        read=partial(_read, n_bands=len(bands), dtype=dtype),
        **facts,
    )


def _list_units(native_path: Path, *, files: Sequence[StampFiles]) -> Iterator[Unit]:
    native_path = Path(native_path)
    stamps: dict[Path, StampFiles] = {}
    for kind in files:
        for path in native_path.rglob(kind.pattern):
            if path.is_file():
                stamps.setdefault(path, kind)
    if not stamps:
        patterns = " or ".join(kind.pattern for kind in files)
        raise NativeFileError(str(native_path), f"stamps named {patterns}", "no such file")
    for path in sorted(stamps):
        paths = [path]
        if stamps[path].psf:
            psf = path.with_name(stamps[path].psf.format(stem=path.stem))
            paths += [psf] if psf.is_file() else []
        yield Unit(key=path.relative_to(native_path).as_posix(), paths=tuple(paths))


def _read(unit: Unit, *, n_bands: int, dtype: str) -> Iterator[dict[str, Any] | Rejected]:
    stamp, *psf_path = unit.paths
    with FitsFile(stamp) as file:
        image = _cube(file, n_bands)
        if image.dtype != np.dtype(dtype):
            raise file.error(f"{dtype} pixels", str(image.dtype))
        header = file.header(0)
        place = _place(file, image.shape[1:])
    if len(stamp.stem.encode()) > 128:
        yield Rejected(stamp.stem, "its file's name has more than 128 characters")
        return
    psf = np.empty((n_bands, 0, 0))
    if psf_path:
        with FitsFile(psf_path[0]) as file:
            psf = _cube(file, n_bands).astype(np.float64)
    widths = [gaussian_sigma(plane) * FWHM_PER_SIGMA * place["pixel_size"][0] for plane in psf]
    yield {
        "name": np.array([stamp.stem.encode()]),
        **place,
        **{key: np.array([float(header.get(key, np.nan))]) for key in _HEADER},
        "RADESYS": np.array([str(header.get("RADESYS", "ICRS")).strip().encode()]),
        "image_array": [image],
        "noise_std": np.array([[pixel_noise(plane) for plane in image]], np.float32),
        "psf": [psf],
        "psf_fwhm": np.array([widths], np.float32),
    }


def _cube(file: FitsFile, n_bands: int) -> NDArray[Any]:
    """Give an image as (band, row, column)."""
    image = file.image(0)
    cube = image[None] if image.ndim == 2 else image
    if cube.ndim != 3 or len(cube) != n_bands:
        raise file.error(f"an image of {n_bands} bands", f"an image of shape {image.shape}")
    return cube


def _place(file: FitsFile, shape: tuple[int, ...]) -> dict[str, NDArray[Any]]:
    """Work out where the middle of the image is, and how large its pixels are."""
    from astropy.wcs import WCS
    from astropy.wcs.utils import pixel_to_skycoord

    with warnings.catch_warnings():
        # Remarks on the spelling of dates and on the axis of the bands.
        warnings.simplefilter("ignore")
        wcs = WCS(file.header(0), naxis=2)
    if not wcs.has_celestial:
        raise file.error("celestial coordinates in the header", "none")
    rows, columns = shape
    middle = pixel_to_skycoord((columns - 1) / 2, (rows - 1) / 2, wcs, origin=0).icrs
    matrix = wcs.pixel_scale_matrix
    return {
        "ra": np.array([middle.ra.deg]),
        "dec": np.array([middle.dec.deg]),
        "cd": np.array([matrix]),
        "pixel_size": np.array([3600 * abs(np.linalg.det(matrix)) ** 0.5], np.float32),
    }


def pixel_noise(image: NDArray[Any]) -> float:
    """
    Estimate the noise of a pixel in an image with sources in it.

    Parameters
    ----------
    image : ndarray, shape (n_rows, n_columns)
        The image.

    Returns
    -------
    float
        Standard deviation, in the image's unit; NaN if there is nothing to tell it from.

    Notes
    -----
    Differences of neighbouring pixels see little of smooth sources and nothing of the sky
    level. Resampled images have correlated noise, so they are taken two pixels apart.
    """
    image = np.asarray(image, np.float64)
    along = [image[2:] - image[:-2], image[:, 2:] - image[:, :-2]]
    steps = np.concatenate([step.ravel() for step in along])
    steps = steps[np.isfinite(steps)]
    if not steps.size:
        return float("nan")
    return float(1.4826 / np.sqrt(2) * np.median(np.abs(steps - np.median(steps))))


def gaussian_sigma(image: NDArray[Any]) -> float:
    """
    Measure the width of a PSF by its adaptive second moments.

    Parameters
    ----------
    image : ndarray, shape (n_rows, n_columns)
        A PSF, without noise or nearly so, brightest near its middle.

    Returns
    -------
    float
        Geometric mean of the sigma along both axes of the Gaussian that matches it [pixel]; NaN
        if there is none.

    Notes
    -----
    Moments are weighted with a Gaussian whose covariance is made, step by step, twice the
    weighted covariance: for a Gaussian that is its own. Wings hardly count.
    """
    image = np.asarray(image, np.float64)
    if not image.size or not np.isfinite(image).all():
        return float("nan")
    places = np.moveaxis(np.indices(image.shape, dtype=np.float64), 0, -1)
    centre = np.array(np.unravel_index(image.argmax(), image.shape), np.float64)
    covariance = 4.0 * np.eye(2)
    for _ in range(200):
        offset = places - centre
        distance = np.einsum("rci,ij,rcj->rc", offset, np.linalg.inv(covariance), offset)
        weight = image * np.exp(-0.5 * distance)
        total = weight.sum()
        if not total > 0:
            return float("nan")
        shift = np.einsum("rc,rci->i", weight, offset) / total
        measured = 2 * np.einsum("rc,rci,rcj->ij", weight, offset, offset) / total
        if not np.linalg.det(measured) > 0:
            return float("nan")
        settled = np.abs(shift).max() < 1e-6 and np.allclose(measured, covariance, rtol=1e-6)
        centre, covariance = centre + 2 * shift, measured
        if settled:
            break
    return float(np.linalg.det(covariance) ** 0.25)
