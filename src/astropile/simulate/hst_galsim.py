"""Write a catalogue with stamps and PSFs as GalSim's RealGalaxyCatalog has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from astropile.simulate._stamps import stamp_size
from astropile.simulate.galaxies import Galaxies
from astropile.simulate.hst import CAMERA
from astropile.surveys.hst_galsim import NATIVE_COLUMNS

COUNTS_PER_NANOMAGGY: Final = 10 ** (0.4 * (25.94 - 22.5))
"""The survey's counts have a zero point of 25.94."""


def write(native_path: Path, galaxies: Galaxies, *, seed: int) -> None:
    """
    Write the galaxies as a catalogue with two files of images.

    Parameters
    ----------
    native_path : Path
        Folder to write into; made if absent.
    galaxies : Galaxies
        The true sky.
    seed : int
        Seed of noise and astrometric scatter.
    """
    from astropy.io import fits

    native_path.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng((seed, 0x52474343))
    n = len(galaxies)
    stamps = [
        CAMERA.observe(galaxies, row, stamp_size(galaxies, row, CAMERA), rng)[0]
        * COUNTS_PER_NANOMAGGY
        for row in range(n)
    ]
    images = {
        "real_galaxy_images_extension.fits": stamps,
        "real_galaxy_PSF_images_extension.fits": [CAMERA.psf()[0]] * n,
    }
    for name, planes in images.items():
        hdus = [fits.ImageHDU(plane) for plane in planes[1:]]
        fits.HDUList([fits.PrimaryHDU(planes[0]), *hdus]).writeto(
            native_path / name, overwrite=True
        )
    scatter = rng.normal(0, 0.05 / 3600, (2, n))
    values: dict[str, NDArray[Any]] = {
        "IDENT": np.arange(n),
        "RA": (galaxies.ra + scatter[0] / np.cos(np.deg2rad(galaxies.dec))) % 360,
        "DEC": galaxies.dec + scatter[1],
        "MAG": galaxies.mag[:, 3],
        "BAND": np.full(n, "F814W"),
        "WEIGHT": np.ones(n),
        "GAL_FILENAME": np.full(n, "real_galaxy_images_extension.fits"),
        "PSF_FILENAME": np.full(n, "real_galaxy_PSF_images_extension.fits"),
        "GAL_HDU": np.arange(n),
        "PSF_HDU": np.arange(n),
        "PIXEL_SCALE": np.full(n, CAMERA.pixel_size_arcsec),
        "NOISE_MEAN": np.zeros(n),
        "NOISE_VARIANCE": np.full(n, (CAMERA.noise * COUNTS_PER_NANOMAGGY) ** 2),
        "NOISE_FILENAME": np.full(n, "acs_I_unrot_sci_20_cf.fits"),
        "stamp_flux": np.array([stamp.sum() for stamp in stamps]),
    }
    formats = {"int32": "J", "float64": "D"}
    columns = [
        fits.Column(
            column.name,
            formats.get(column.dtype, f"{column.dtype[1:]}A"),
            array=values[column.name],
        )
        for column in NATIVE_COLUMNS
    ]
    table = fits.BinTableHDU.from_columns(columns)
    table.writeto(native_path / "real_galaxy_catalog_26_extension.fits", overwrite=True)
