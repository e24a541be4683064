"""Write stamps of the simulated galaxies: one FITS image each, and the PSF in a file beside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astropile.simulate.galaxies import Galaxies


@dataclass(frozen=True)
class Camera:
    """
    What the stamps are taken with.

    Parameters
    ----------
    bands : tuple of str
        Bands of the simulated galaxies, in the order of the cube.
    psf_fwhm_arcsec : tuple of float
        FWHM of the PSF in each band [arcsec].
    pixel_size_arcsec : float
        Side of a pixel [arcsec].
    noise : float
        Noise of a pixel [nanomaggy].
    psf_size : int
        Side of the images of the PSF, an odd number [pixel].
    """

    bands: tuple[str, ...]
    psf_fwhm_arcsec: tuple[float, ...]
    pixel_size_arcsec: float
    noise: float
    psf_size: int

    def psf(self) -> NDArray[np.float64]:
        """Paint the PSF of each band, shape (n_bands, psf_size, psf_size), sum 1."""
        offset = np.arange(self.psf_size) - self.psf_size // 2
        sigma = np.array(self.psf_fwhm_arcsec)[:, None] / 2.3548 / self.pixel_size_arcsec
        profile = np.exp(-0.5 * (offset / sigma) ** 2)
        cube = profile[:, :, None] * profile[:, None, :]
        return np.asarray(cube / cube.sum(axis=(1, 2), keepdims=True))

    def observe(
        self, galaxies: Galaxies, row: int, size: tuple[int, int], rng: np.random.Generator
    ) -> NDArray[np.float64]:
        """
        Paint a galaxy in the middle of a stamp, with noise.

        Parameters
        ----------
        galaxies : Galaxies
            The true sky.
        row : int
            Which galaxy.
        size : tuple of int
            Rows and columns.
        rng : Generator
            Where the noise comes from.

        Returns
        -------
        ndarray, shape (n_bands, *size), float64
            The stamp [nanomaggy].
        """
        one = galaxies.select([row])
        cube = [
            one.image(
                size,
                (size[1] - 1) / 2,
                (size[0] - 1) / 2,
                pixel_size_arcsec=self.pixel_size_arcsec,
                psf_fwhm_arcsec=fwhm,
                band=band,
            )
            for band, fwhm in zip(self.bands, self.psf_fwhm_arcsec, strict=True)
        ]
        return np.stack(cube) + rng.normal(0, self.noise, (len(cube), *size))


def stamp_size(galaxies: Galaxies, row: int, camera: Camera) -> tuple[int, int]:
    """
    Choose the size of a galaxy's stamp: large galaxies get large ones, as such sets have it.

    Parameters
    ----------
    galaxies : Galaxies
        The true sky.
    row : int
        Which galaxy.
    camera : Camera
        What it is taken with.

    Returns
    -------
    tuple of int
        Rows and columns.
    """
    side = int(np.clip(4 * galaxies.half_light_arcsec[row] / camera.pixel_size_arcsec, 24, 160))
    return side, side + row % 3


def write_stamps(
    native_path: Path,
    galaxies: Galaxies,
    camera: Camera,
    *,
    seed: int,
    prefix: str,
    header: Mapping[str, Any],
    dtype: str,
) -> None:
    """
    Write a stamp of each galaxy, ``Cut_<prefix><number>.fits``, and ``PSF_<prefix>.fits``.

    Parameters
    ----------
    native_path : Path
        Folder to write into; made if absent.
    galaxies : Galaxies
        The true sky.
    camera : Camera
        What the stamps are taken with.
    seed : int
        Seed of noise and astrometric scatter.
    prefix : str
        Part of the files' names.
    header : mapping
        Further header keywords of the stamps.
    dtype : str
        Dtype of the pixels.
    """
    from astropy.io import fits

    native_path.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng((seed, *prefix.encode()))
    for row in range(len(galaxies)):
        size = stamp_size(galaxies, row, camera)
        cube = camera.observe(galaxies, row, size, rng).astype(dtype)
        scatter = rng.normal(0, 0.05 / 3600, 2)
        hdu = fits.PrimaryHDU(cube if len(cube) > 1 else cube[0])
        step = camera.pixel_size_arcsec / 3600
        hdu.header.update(
            {
                "WCSAXES": 2,
                "CTYPE1": "RA---TAN",
                "CTYPE2": "DEC--TAN",
                "CUNIT1": "deg",
                "CUNIT2": "deg",
                "CRVAL1": galaxies.ra[row] + scatter[0] / np.cos(np.deg2rad(galaxies.dec[row])),
                "CRVAL2": galaxies.dec[row] + scatter[1],
                "CRPIX1": (size[1] + 1) / 2,
                "CRPIX2": (size[0] + 1) / 2,
                "PC1_1": -step,
                "PC2_2": step,
                "CDELT1": 1.0,
                "CDELT2": 1.0,
                **header,
            }
        )
        hdu.writeto(native_path / f"Cut_{prefix}{row or ''}.fits", overwrite=True)
    psf = camera.psf()
    fits.PrimaryHDU(psf if len(psf) > 1 else psf[0]).writeto(
        native_path / f"PSF_{prefix}.fits", overwrite=True
    )
