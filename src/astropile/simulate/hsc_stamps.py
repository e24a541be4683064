"""Write stamps as of the HSC coadds: one float64 cube of g, r, i, z and y each."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from astropile.simulate._stamps import Camera, write_stamps
from astropile.simulate.galaxies import Galaxies

CAMERA: Final = Camera(
    bands=("g", "r", "i", "z", "y"),
    psf_fwhm_arcsec=(0.79, 0.75, 0.62, 0.66, 0.68),
    pixel_size_arcsec=0.168,
    noise=0.0005,
    psf_size=31,
)


def write(native_path: Path, galaxies: Galaxies, *, seed: int) -> None:
    """
    Write the galaxies as stamps with their PSF.

    Parameters
    ----------
    native_path : Path
        Folder to write into; made if absent.
    galaxies : Galaxies
        The true sky.
    seed : int
        Seed of noise and astrometric scatter.
    """
    write_stamps(
        native_path,
        galaxies,
        CAMERA,
        seed=seed,
        prefix="HSC",
        header={"RADESYS": "ICRS"},
        dtype="float64",
    )
