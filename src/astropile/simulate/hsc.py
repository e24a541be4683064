"""
Write a small HSC-SSP PDR3 folder: a catalogue and tile-compressed coadds of five bands.

Each galaxy has a patch of its own, just large enough for its cutout; all patches of a tract
share one tangent plane, as in the survey. Real patches are 4,200 pixels wide and overlap.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astropile.simulate.galaxies import Galaxies
from astropile.surveys._calexp import BITS, FLUXMAG0, MASK_PLANES
from astropile.surveys._hsc_columns import BANDS, CUTOUT, NATIVE_COLUMNS, PIXEL_SIZE_ARCSEC

TRACT = 9813
PATCHES = 81
SEEING_ARCSEC = {"g": 0.79, "r": 0.75, "i": 0.62, "z": 0.66, "y": 0.68}
NOISE_COUNTS = {"g": 0.012, "r": 0.016, "i": 0.020, "z": 0.033, "y": 0.065}
EXTINCTION = {"g": 3.240, "r": 2.276, "i": 1.633, "z": 1.263, "y": 1.075}
"""A / E(B-V) in each band."""

_GAIN = 60.0
_JITTER = 6


def write(
    native_path: Path, galaxies: Galaxies, *, seed: int, patch_size: int = CUTOUT + 16
) -> None:
    """
    Write the galaxies as the survey would have published them.

    Parameters
    ----------
    native_path : Path
        Folder to write into; made if absent.
    galaxies : Galaxies
        The true sky.
    seed : int
        Seed of noise, astrometric scatter and pixel phases.
    patch_size : int
        Side of the patches [pixel].
    """
    native_path.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng((seed, 0x485343))
    n = len(galaxies)
    # Around the first galaxy, so that a field may lie across 0 = 360 degrees.
    ra_offset = (galaxies.ra - galaxies.ra[0] + 180) % 360 - 180
    centre = (float(galaxies.ra[0] + ra_offset.mean()) % 360, float(galaxies.dec.mean()))
    number = np.arange(n)
    tract = (TRACT + number // PATCHES).astype(np.int32)
    patch = (number % PATCHES // 9 * 100 + number % 9).astype(np.int32)
    seeing = {band: SEEING_ARCSEC[band] * rng.normal(1, 0.02, n) for band in BANDS}
    _write_catalog(native_path / "pdr3_dud_22.5.fits", galaxies, (tract, patch), seeing, rng)

    wcs = _tract_wcs(centre)
    x, y = wcs.all_world2pix(galaxies.ra, galaxies.dec, 0)
    for row in range(n):
        corner = (
            np.floor([x[row], y[row]]).astype(int)
            - patch_size // 2
            + rng.integers(-_JITTER, _JITTER + 1, 2)
        )
        where = f"{patch[row] // 100},{patch[row] % 100}"
        for band in BANDS:
            ideal = galaxies.image(
                (patch_size, patch_size),
                x - corner[0],
                y - corner[1],
                pixel_size_arcsec=PIXEL_SIZE_ARCSEC,
                psf_fwhm_arcsec=float(seeing[band][row]),
                band=band,
            )
            name = f"HSC-{band.upper()}"
            folder = native_path / "deepCoadd-results" / name / str(tract[row]) / where
            folder.mkdir(parents=True, exist_ok=True)
            _write_coadd(
                folder / f"calexp-{name}-{tract[row]}-{where}.fits",
                _observe(ideal * (FLUXMAG0 / 1e9), NOISE_COUNTS[band], rng),
                wcs,
                corner,
                name,
            )


def _write_catalog(
    path: Path,
    galaxies: Galaxies,
    place: tuple[NDArray[np.int32], NDArray[np.int32]],
    seeing: dict[str, NDArray[np.float64]],
    rng: np.random.Generator,
) -> None:
    from astropy.io import fits

    n = len(galaxies)
    tract, patch = place
    scatter = rng.normal(0, 0.05 / 3600, (2, n))
    reddening = rng.uniform(0.015, 0.025, n)
    values: dict[str, NDArray[Any]] = {
        # The survey builds its identifiers from tract and patch.
        "object_id": (tract.astype(np.int64) << 42) + (patch.astype(np.int64) << 32) + 1000,
        "ra": (galaxies.ra + scatter[0] / np.cos(np.deg2rad(galaxies.dec))) % 360.0,
        "dec": galaxies.dec + scatter[1],
        "tract": tract,
        "patch": patch,
    }
    major = galaxies.half_light_arcsec / 1.18
    minor = major * galaxies.axis_ratio
    angle = np.deg2rad(90 + galaxies.pa_deg)
    for number, band in enumerate(BANDS, start=1):
        psf = (seeing[band] / 2.3548) ** 2
        error = rng.uniform(0.001, 0.004, n)
        magnitude = galaxies.mag[:, number] + rng.normal(0, error)
        flux = 10 ** (0.4 * (31.4 - magnitude))
        values |= {
            f"a_{band}": EXTINCTION[band] * reddening,
            f"{band}_extendedness_value": np.ones(n),
            f"{band}_variance_value": np.full(n, NOISE_COUNTS[band] ** 2),
            f"{band}_cmodel_mag": magnitude,
            f"{band}_cmodel_magerr": error,
            f"{band}_cmodel_flux": flux,
            f"{band}_cmodel_fluxerr": flux * error / 1.0857,
            f"{band}_sdssshape_psf_shape11": psf * 1.02,
            f"{band}_sdssshape_psf_shape22": psf / 1.02,
            f"{band}_sdssshape_psf_shape12": 0.01 * psf,
            f"{band}_sdssshape_shape11": psf
            + (major * np.cos(angle)) ** 2
            + (minor * np.sin(angle)) ** 2,
            f"{band}_sdssshape_shape22": psf
            + (major * np.sin(angle)) ** 2
            + (minor * np.cos(angle)) ** 2,
            f"{band}_sdssshape_shape12": (major**2 - minor**2) * np.sin(angle) * np.cos(angle),
        }
    formats = {"int64": "K", "int32": "J", "float64": "D", "float32": "E"}
    columns = []
    for column in NATIVE_COLUMNS:
        array = values[column.name].astype(column.dtype)
        columns.append(fits.Column(column.name, formats[column.dtype], array=array))
        # The database gives such a column beside each one asked for.
        columns.append(fits.Column(f"{column.name}_isnull", "L", array=np.zeros(n, bool)))
    fits.BinTableHDU.from_columns(columns).writeto(path, overwrite=True)


def _tract_wcs(centre: tuple[float, float]) -> Any:
    from astropy.wcs import WCS

    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = list(centre)
    wcs.wcs.crpix = [18000.0, 18000.0]
    wcs.wcs.cd = np.diag([-PIXEL_SIZE_ARCSEC, PIXEL_SIZE_ARCSEC]) / 3600
    wcs.wcs.radesys = "ICRS"
    return wcs


def _observe(
    ideal: NDArray[np.float64], noise: float, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.float32]]:
    """Add noise and defects: image, mask, variance."""
    sky = np.float32(noise**2)
    # Rounded, so that the plane compresses as the survey's do.
    variance = (sky * (1 + np.round(ideal / _GAIN / sky, 1))).astype(np.float32)
    image = (ideal + rng.normal(0, 1, ideal.shape) * np.sqrt(variance)).astype(np.float32)
    mask = np.where(ideal > 5 * noise, 1 << BITS["DETECTED"], 0).astype(np.int32)
    row, column = rng.integers(0, ideal.shape[0] - 4, 2)
    mask[row, column : column + 4] |= (1 << BITS["CR"]) | (1 << BITS["INTRP"])
    row, column = rng.integers(0, ideal.shape[0] - 2, 2)
    mask[row : row + 2, column] |= 1 << BITS["BAD"]
    # A corner no exposure reached, as at the border of the field.
    image[:4, :4], variance[:4, :4] = np.nan, np.inf
    mask[:4, :4] = 1 << BITS["NO_DATA"]
    return image, mask, variance


def _write_coadd(
    path: Path,
    planes: tuple[NDArray[Any], ...],
    wcs: Any,
    corner: NDArray[np.int64],
    filter_name: str,
) -> None:
    from astropy.io import fits

    primary = fits.PrimaryHDU()
    primary.header["FILTER"] = filter_name
    primary.header["EXPTIME"] = 0.0
    primary.header["FLUXMAG0"] = FLUXMAG0
    primary.header["HIERARCH FLUXMAG0ERR"] = 0.0
    hdus = fits.HDUList([primary])
    for kind, plane in zip(("IMAGE", "MASK", "VARIANCE"), planes, strict=True):
        header = wcs.to_header()
        header["CRPIX1"] -= int(corner[0])
        header["CRPIX2"] -= int(corner[1])
        header["LTV1"], header["LTV2"] = -int(corner[0]), -int(corner[1])
        header["EXTTYPE"] = kind
        if kind == "MASK":
            for bit, name in enumerate(MASK_PLANES):
                header[f"HIERARCH MP_{name}" if len(name) > 5 else f"MP_{name}"] = bit
            hdu = fits.CompImageHDU(
                plane, header, name=kind, compression_type="RICE_1", tile_shape=plane.shape
            )
        else:
            # The survey packs these losslessly with gzip, which would write the time of day.
            hdu = fits.ImageHDU(plane, header, name=kind)
        hdus.append(hdu)
    hdus.writeto(path, overwrite=True)
