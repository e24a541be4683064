"""
SDSS imaging of the simulated galaxies: the frames of one field in ugriz, and its photoObj table.

The frames are only as large as the galaxies need, and only r is packed as it is published:
packing takes long, and many keep frames unpacked. All else is in the official layout. As in
many real fields, rows run along right ascension and columns along declination.
"""

from __future__ import annotations

import bz2
import io
import math
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from astropile.schema import Column
from astropile.simulate.galaxies import Galaxies
from astropile.simulate.sdss import CAMCOL, FIELD, RUN, photo_objid, table_hdu
from astropile.surveys._sdss_columns import imaging_columns
from astropile.surveys._sdss_frames import BANDS, dark_variance, gain

_SCATTER_ARCSEC: Final = 0.05
_PIXEL_ARCSEC: Final = 0.396
_MARGIN: Final = 60
_WHOLE: Final = (1489, 2048)
_PSF_FWHM: Final = (1.53, 1.44, 1.32, 1.26, 1.29)
_EXTINCTION: Final = (0.129, 0.101, 0.070, 0.052, 0.039)
_NMGY_PER_COUNT: Final = (0.0103, 0.0037, 0.0048, 0.0066, 0.0318)
_SKY_COUNTS: Final = (40.0, 75.0, 130.0, 150.0, 90.0)


def write(native_path: Path, galaxies: Galaxies, *, seed: int, field: int = FIELD) -> None:
    """
    Write the galaxies as the SDSS imaging survey would have published them.

    Parameters
    ----------
    native_path : Path
        Folder to write into.
    galaxies : Galaxies
        What is observed; those too far from their middle for one field are left out.
    seed : int
        Seed of the noise.
    field : int
        Number of the field: with others, more fields can be written beside this one.
    """
    rng = np.random.default_rng([seed, 21])
    centre = _middle(galaxies)
    x, y = _tangent(galaxies.ra, galaxies.dec, centre)
    reach = [2 * float(np.abs(values).max()) / _PIXEL_ARCSEC + 2 * _MARGIN for values in (x, y)]
    # Rows along right ascension, columns along declination.
    n_rows, n_columns = (
        min(2 * math.ceil(size / 2), whole) for size, whole in zip(reach, _WHOLE, strict=True)
    )
    column = y / _PIXEL_ARCSEC + (n_columns - 1) / 2
    row = x / _PIXEL_ARCSEC + (n_rows - 1) / 2
    inside = (column > 0) & (column < n_columns - 1) & (row > 0) & (row < n_rows - 1)
    shown = galaxies.select(inside)
    frames = native_path / f"eboss/photoObj/frames/301/{RUN}/{CAMCOL}"
    frames.mkdir(parents=True, exist_ok=True)
    for number, band in enumerate(BANDS):
        # A band is off by part of a pixel, as the chips are.
        shift = (0.31 * (number - 2), 0.17 * (number - 2))
        north_up = shown.image(
            (n_columns, n_rows),
            n_rows - 1 - (row[inside] + shift[1]),
            column[inside] + shift[0],
            pixel_size_arcsec=_PIXEL_ARCSEC,
            psf_fwhm_arcsec=_PSF_FWHM[number],
            band=band,
        )
        image, calibration, sky = _expose(north_up[:, ::-1].T, band, rng)
        header = _header(band, field, centre, (n_rows, n_columns), shift)
        _write_frame(
            frames / f"frame-{band}-{RUN:06d}-{CAMCOL}-{field:04d}.fits",
            header,
            image,
            calibration,
            sky,
        )
    _write_objects(native_path, field, galaxies, np.flatnonzero(inside), rng)


def _middle(galaxies: Galaxies) -> tuple[float, float]:
    ra, dec = np.deg2rad(galaxies.ra), np.deg2rad(galaxies.dec)
    x, y = (np.cos(dec) * np.cos(ra)).sum(), (np.cos(dec) * np.sin(ra)).sum()
    z = np.sin(dec).sum()
    return float(np.rad2deg(np.arctan2(y, x)) % 360), float(
        np.rad2deg(np.arctan2(z, np.hypot(x, y)))
    )


def _tangent(
    ra: NDArray[np.float64], dec: NDArray[np.float64], centre: tuple[float, float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Offsets to the east and to the north in the tangent plane [arcsec]."""
    d_ra, dec, dec0 = np.deg2rad(ra - centre[0]), np.deg2rad(dec), np.deg2rad(centre[1])
    cos_c = np.sin(dec0) * np.sin(dec) + np.cos(dec0) * np.cos(dec) * np.cos(d_ra)
    east = np.cos(dec) * np.sin(d_ra) / cos_c
    north = (np.cos(dec0) * np.sin(dec) - np.sin(dec0) * np.cos(dec) * np.cos(d_ra)) / cos_c
    to_arcsec = 3600.0 * 180.0 / np.pi
    return east * to_arcsec, north * to_arcsec


def _expose(
    truth: NDArray[np.float64], band: str, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Give the calibrated image, the calibration vector and the binned sky."""
    number = BANDS.index(band)
    n_rows, n_columns = truth.shape
    flat = 1.0 + 0.02 * np.sin(np.linspace(0.0, 3.0, n_columns))
    calibration = (_NMGY_PER_COUNT[number] * flat).astype("f4")
    sky = np.full((n_rows // 8, n_columns // 8), _SKY_COUNTS[number], dtype="f4")
    sky += np.linspace(0.0, 2.0, sky.shape[0], dtype="f4")[:, None]
    rows = np.clip(_places(n_rows), 0, sky.shape[0] - 1)
    level = np.interp(rows, np.arange(sky.shape[0]), sky[:, 0])[:, None]
    counts = truth / calibration + level
    variance = counts / gain(RUN, CAMCOL, band) + dark_variance(RUN, CAMCOL, band)
    counts = counts + rng.normal(0.0, 1.0, truth.shape) * np.sqrt(variance)
    image = ((counts - level) * calibration).astype("f4")
    # Published with 10 significant binary digits.
    bits = image.view("u4")
    return np.asarray(bits & np.uint32(0xFFFFE000)).view("f4"), calibration, sky


def _places(n_pixels: int) -> NDArray[np.float64]:
    """Where the pixels lie on the sky's grid, each point of which is 8 pixels."""
    return np.asarray((np.arange(n_pixels) + 0.5) / 8.0 - 0.5)


def _header(
    band: str,
    field: int,
    centre: tuple[float, float],
    shape: tuple[int, int],
    shift: tuple[float, float],
) -> Any:
    from astropy.io import fits

    step = _PIXEL_ARCSEC / 3600.0
    header = fits.Header()
    header["TAI"] = (4489357095.92, "1st row - Number of seconds since Nov 17 1858")
    # Where the telescope points, not the frame.
    header["RA"] = (round(centre[0]) * 1.0, "1st row - Right ascension of telescope boresigh")
    header["DEC"] = (round(centre[1]) * 1.0, "1st row - Declination of telescope boresight (d")
    header["ORIGIN"] = "SDSS"
    header["RUN"] = (RUN, "Run number")
    header["FRAME"] = (field, "Frame sequence number within the run")
    header["CAMCOL"] = (CAMCOL, "column in the imaging camera")
    header["FILTER"] = (band, "filter used")
    header["RERUN"] = ("301", "rerun")
    header["BUNIT"] = ("nanomaggy", "1 nanomaggy = 3.631e-6 Jy")
    header["RADECSYS"] = ("ICRS", "International Celestial Ref. System")
    header["CTYPE1"], header["CTYPE2"] = "RA---TAN", "DEC--TAN"
    header["CUNIT1"], header["CUNIT2"] = "deg", "deg"
    header["CRPIX1"] = ((shape[1] + 1) / 2 + shift[0], "X of reference pixel")
    header["CRPIX2"] = ((shape[0] + 1) / 2 + shift[1], "Y of reference pixel")
    header["CRVAL1"] = (centre[0], "RA of reference pixel (deg)")
    header["CRVAL2"] = (centre[1], "Dec of reference pixel (deg)")
    header["CD1_1"] = (0.0, "RA deg per column pixel")
    header["CD1_2"] = (step, "RA deg per row pixel")
    header["CD2_1"] = (step, "Dec deg per column pixel")
    header["CD2_2"] = (0.0, "Dec deg per row pixel")
    header["NMGY"] = (_NMGY_PER_COUNT[BANDS.index(band)], "Calibration factor [nMgy per count]")
    return header


def _write_frame(
    path: Path,
    header: Any,
    image: NDArray[np.float32],
    calibration: NDArray[np.float32],
    sky: NDArray[np.float32],
) -> None:
    from astropy.io import fits

    n_rows, n_columns = image.shape
    grid = fits.BinTableHDU.from_columns(
        [
            fits.Column("ALLSKY", f"{sky.size}E", dim=str(sky.shape[::-1]), array=sky[None]),
            fits.Column("XINTERP", f"{n_columns}E", array=_places(n_columns)[None]),
            fits.Column("YINTERP", f"{n_rows}E", array=_places(n_rows)[None]),
        ]
    )
    astrometry = fits.BinTableHDU.from_columns(
        [
            fits.Column("RUN", "J", array=[RUN]),
            fits.Column("RERUN", "3A", array=["301"]),
            fits.Column("CAMCOL", "J", array=[CAMCOL]),
            fits.Column("FILTER", "A", array=[header["FILTER"]]),
            fits.Column("FIELD", "J", array=[header["FRAME"]]),
        ]
    )
    hdus = [fits.PrimaryHDU(image, header=header), fits.ImageHDU(calibration), grid, astrometry]
    made = io.BytesIO()
    fits.HDUList(hdus).writeto(made)
    if header["FILTER"] == "r":
        path.with_suffix(".fits.bz2").write_bytes(bz2.compress(made.getvalue()))
    else:
        path.write_bytes(made.getvalue())


def _write_objects(
    root: Path, field: int, galaxies: Galaxies, rows: NDArray[np.int64], rng: np.random.Generator
) -> None:
    from astropy.io import fits

    objects = []
    for row in rows:
        flux = 10.0 ** (-0.4 * (galaxies.mag[row, : len(BANDS)] - 22.5))
        offset = rng.normal(0.0, _SCATTER_ARCSEC / 3600.0, 2)
        identifier = photo_objid(RUN, CAMCOL, field, int(row) + 1)
        objects.append(
            {
                "OBJID": f"{identifier:>19d}",
                "RUN": RUN,
                "RERUN": "301",
                "CAMCOL": CAMCOL,
                "FIELD": field,
                "ID": row + 1,
                "PARENT": -1,
                "MODE": 1,
                "CLEAN": 1,
                "OBJC_TYPE": 3,
                "RA": (galaxies.ra[row] + offset[0] / np.cos(np.deg2rad(galaxies.dec[row]))) % 360,
                "DEC": galaxies.dec[row] + offset[1],
                "PSF_FWHM": _PSF_FWHM,
                "EXTINCTION": _EXTINCTION,
                "CMODELFLUX": flux,
                "CMODELFLUX_IVAR": 400.0 / flux**2,
                "MODELFLUX": flux,
                "MODELFLUX_IVAR": 400.0 / flux**2,
                "PETROTH50": galaxies.half_light_arcsec[row],
            }
        )
    # A bright detection that was deblended: in every photoObj table, and no object of its own.
    objects.append(
        objects[0]
        | {"OBJID": str(photo_objid(RUN, CAMCOL, field, len(galaxies) + 1)), "MODE": 3}
        | {"ID": len(galaxies) + 1, "NCHILD": 1}
    )
    columns = (Column("OBJID", "S19", "Object."), *imaging_columns(""))
    folder = root / f"eboss/photoObj/301/{RUN}/{CAMCOL}"
    folder.mkdir(parents=True, exist_ok=True)
    name = f"photoObj-{RUN:06d}-{CAMCOL}-{field:04d}.fits"
    hdus = [fits.PrimaryHDU(), table_hdu(objects, columns, "PHOTOOBJ")]
    fits.HDUList(hdus).writeto(folder / name, overwrite=True)
