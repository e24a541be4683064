"""
The galaxies of the simulated sky: where they are, what they look like, what they shine.

Simple on purpose: exponential discs with a Gaussian point-spread function, a smooth
continuum with the strongest emission lines. The same galaxy has the same position, redshift,
magnitudes and shape in every survey that observes it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

BANDS = ("u", "g", "r", "i", "z", "y")
_BAND_WAVELENGTH = np.array([3550.0, 4770.0, 6230.0, 7630.0, 9130.0, 9950.0])

LINES = {
    "[OII]": (3728.5, 1.2),
    "Hbeta": (4862.7, 0.5),
    "[OIII]4960": (4960.3, 0.3),
    "[OIII]5008": (5008.2, 0.9),
    "Halpha": (6564.6, 1.6),
    "[NII]": (6585.3, 0.5),
    "[SII]": (6718.3, 0.35),
}
"""Vacuum wavelength at rest [Angstrom] and strength relative to the galaxy's line strength."""


@dataclass(frozen=True)
class Galaxies:
    """
    The true sky.

    Parameters
    ----------
    ra, dec : ndarray, shape (n,), float64
        Positions [deg, ICRS].
    z : ndarray, shape (n,), float64
        Redshifts.
    mag : ndarray, shape (n, 6), float64
        AB magnitudes in `BANDS`.
    half_light_arcsec, axis_ratio, pa_deg : ndarray, shape (n,), float64
        Half-light radius [arcsec], minor over major axis, position angle east of north [deg].
    line_strength : ndarray, shape (n,), float64
        Equivalent-width scale of the emission lines [Angstrom].
    """

    ra: NDArray[np.float64]
    dec: NDArray[np.float64]
    z: NDArray[np.float64]
    mag: NDArray[np.float64]
    half_light_arcsec: NDArray[np.float64]
    axis_ratio: NDArray[np.float64]
    pa_deg: NDArray[np.float64]
    line_strength: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.ra)

    def select(self, rows: ArrayLike) -> Galaxies:
        """
        Take some of the galaxies.

        Parameters
        ----------
        rows : array_like of int or bool
            Which.

        Returns
        -------
        Galaxies
            Those, in that order.
        """
        chosen = np.asarray(rows)
        return Galaxies(**{name: getattr(self, name)[chosen] for name in self.__dataclass_fields__})

    def image(
        self,
        shape: tuple[int, int],
        x: ArrayLike,
        y: ArrayLike,
        *,
        pixel_size_arcsec: float,
        psf_fwhm_arcsec: float,
        band: str,
    ) -> NDArray[np.float64]:
        """
        Paint the galaxies on one noiseless image, north up, east left.

        Parameters
        ----------
        shape : tuple of int
            (rows, columns).
        x, y : array_like, shape (n,), float64
            0-based pixel positions of the galaxies: x along columns, y along rows.
        pixel_size_arcsec : float
            Pixel side [arcsec].
        psf_fwhm_arcsec : float
            Full width at half maximum of the Gaussian point-spread function [arcsec].
        band : str
            One of `BANDS`.

        Returns
        -------
        ndarray, shape `shape`, float64
            Flux per pixel [nanomaggy].
        """
        image = np.zeros(shape)
        flux = 10.0 ** (-0.4 * (self.mag[:, BANDS.index(band)] - 22.5))
        xs, ys = np.atleast_1d(np.asarray(x, float)), np.atleast_1d(np.asarray(y, float))
        sigma_psf = psf_fwhm_arcsec / 2.3548 / pixel_size_arcsec
        for row in range(len(self)):
            scale = self.half_light_arcsec[row] / 1.678 / pixel_size_arcsec
            reach = int(np.ceil(8 * scale + 5 * sigma_psf))
            x0, y0 = round(xs[row]), round(ys[row])
            rows = slice(max(0, y0 - reach), min(shape[0], y0 + reach + 1))
            columns = slice(max(0, x0 - reach), min(shape[1], x0 + reach + 1))
            if rows.start >= rows.stop or columns.start >= columns.stop:
                continue
            yy, xx = np.mgrid[rows, columns]
            dx, dy = xx - xs[row], yy - ys[row]
            pa = np.deg2rad(self.pa_deg[row])
            along = -dx * np.sin(pa) + dy * np.cos(pa)
            across = dx * np.cos(pa) + dy * np.sin(pa)
            # An exponential profile as three Gaussians, each widened by the PSF.
            profile = np.zeros_like(dx)
            for weight, width in ((0.14, 0.45), (0.47, 1.15), (0.39, 2.15)):
                major = np.hypot(width * scale, sigma_psf)
                minor = np.hypot(width * scale * self.axis_ratio[row], sigma_psf)
                profile += (
                    weight
                    / (2 * np.pi * major * minor)
                    * np.exp(-0.5 * ((along / major) ** 2 + (across / minor) ** 2))
                )
            image[rows, columns] += flux[row] * profile
        return image

    def spectrum(self, row: int, wavelength: ArrayLike) -> NDArray[np.float64]:
        """
        Give the spectrum of a galaxy as it reaches us.

        Parameters
        ----------
        row : int
            Which galaxy.
        wavelength : array_like, shape (n_wave,), float64
            Vacuum wavelength, observed frame [Angstrom].

        Returns
        -------
        ndarray, shape (n_wave,), float64
            Flux density [1e-17 erg / (s cm2 Angstrom)].
        """
        observed = np.asarray(wavelength, float)
        # AB magnitude to f_lambda: 0.10885 erg/s/cm2/Angstrom Angstrom^2 at magnitude 0.
        bands = 0.10885 / _BAND_WAVELENGTH**2 * 10.0 ** (-0.4 * self.mag[row]) * 1e17
        continuum = 10.0 ** np.interp(
            np.log10(observed), np.log10(_BAND_WAVELENGTH), np.log10(bands)
        )
        rest = observed / (1.0 + self.z[row])
        continuum = continuum * np.where(rest < 4000.0, 0.75, 1.0)
        lines = np.zeros_like(observed)
        for centre, strength in LINES.values():
            sigma = centre * (150.0 / 299792.458)
            lines += (
                strength
                * self.line_strength[row]
                / (np.sqrt(2 * np.pi) * sigma)
                * np.exp(-0.5 * ((rest - centre) / sigma) ** 2)
            )
        return np.asarray(continuum * (1.0 + lines))


def make_galaxies(
    n: int, *, seed: int, ra: float = 150.0, dec: float = 2.2, radius_deg: float = 0.05
) -> Galaxies:
    """
    Draw a sky.

    Parameters
    ----------
    n : int
        How many galaxies.
    seed : int
        Seed of the random numbers: the same seed gives the same sky.
    ra, dec : float
        Centre of the field [deg, ICRS].
    radius_deg : float
        Radius of the field [deg].

    Returns
    -------
    Galaxies
        The galaxies, uniform in the field.

    Examples
    --------
    >>> len(make_galaxies(10, seed=1))
    10
    """
    rng = np.random.default_rng(seed)
    angle = rng.uniform(0, 2 * np.pi, n)
    distance = radius_deg * np.sqrt(rng.uniform(0, 1, n))
    dec_deg = dec + distance * np.sin(angle)
    ra_deg = (ra + distance * np.cos(angle) / np.cos(np.deg2rad(dec_deg))) % 360.0
    z = rng.uniform(0.02, 0.25, n)
    r_mag = rng.uniform(15.5, 19.0, n)
    colour = rng.normal(0.55, 0.15, n)
    slope = np.array([2.4, 1.0, 0.0, -0.6, -1.0, -1.2])
    return Galaxies(
        ra=ra_deg,
        dec=dec_deg,
        z=z,
        mag=r_mag[:, None] + colour[:, None] * slope,
        half_light_arcsec=rng.uniform(1.0, 4.0, n),
        axis_ratio=rng.uniform(0.4, 1.0, n),
        pa_deg=rng.uniform(0, 180, n),
        line_strength=rng.exponential(8.0, n),
    )
