"""Write stamps as of the HST COSMOS mosaic: one float32 image each, F814W."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from astropile.simulate._stamps import Camera, write_stamps
from astropile.simulate.galaxies import Galaxies

CAMERA: Final = Camera(
    bands=("i",),
    psf_fwhm_arcsec=(0.11,),
    pixel_size_arcsec=0.03,
    noise=0.001,
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
    header = {"RADESYS": "FK5", "EQUINOX": 2000.0, "MJD-OBS": 53077.0, "DATE-OBS": "2004-03-13"}
    write_stamps(
        native_path, galaxies, CAMERA, seed=seed, prefix="HST", header=header, dtype="float32"
    )
