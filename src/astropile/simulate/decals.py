"""Write the simulated sky as Stein et al. published DECaLS: stamps and columns in HDF5."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from astropile.simulate.galaxies import Galaxies
from astropile.simulate.legacysurvey import NOISE, PSF_FWHM, catalogue
from astropile.surveys._legacy import PIXEL_ARCSEC
from astropile.surveys.decals import BANDS

RELEASE: Final = 9010
NPIX: Final = 96
"""Side of a stamp: less than the 152 of the survey, so that a simulated sky is small."""


def write(native_path: Path, galaxies: Galaxies, *, seed: int) -> None:
    """
    Write ``south/images_npix96_000000000_<n>.h5`` of these galaxies.

    Parameters
    ----------
    native_path : Path
        Folder of the data set, made if need be.
    galaxies : Galaxies
        The true sky.
    seed : int
        Seed of the noise: the same galaxies and seed give the same bytes.
    """
    import h5py

    n = len(galaxies)
    rng = np.random.default_rng([seed, RELEASE])
    rows = catalogue(galaxies, rng)
    truth = _nearest(rows, galaxies)
    # As published: by decreasing flux in z.
    order = np.argsort(-rows["FLUX_Z"], kind="stable")
    rows = {name: values[order] for name, values in rows.items()}
    truth = truth[order]
    per_band = {
        name: np.stack([rows[f"{column}_{band.upper()}"] for band in BANDS], axis=1)
        for name, column in (
            ("flux", "FLUX"),
            ("fiberflux", "FIBERFLUX"),
            ("fracin", "FRACIN"),
            ("nobs", "NOBS"),
            ("psfdepth", "PSFDEPTH"),
            ("psfsize", "PSFSIZE"),
            ("transmission", "MW_TRANSMISSION"),
        )
    }
    redshift = galaxies.z[truth].astype(np.float32)
    has_spectrum = np.arange(n) % 2 == 0
    spread = np.float32(0.02)
    columns: dict[str, NDArray[Any]] = {
        "images": _images(galaxies, rows, rng),
        "inds": np.arange(n, dtype=np.int64),
        "release": np.full(n, RELEASE, np.int16),
        "brickid": rows["BRICKID"],
        "objid": rows["OBJID"],
        "ra": rows["RA"],
        "dec": rows["DEC"],
        "ebv": rows["EBV"],
        "maskbits": rows["MASKBITS"].astype(np.int16),
        "source_type": rows["TYPE"].astype("S3"),
        "z_spec": np.where(has_spectrum, redshift, np.float32(-99)),
        "z_training": has_spectrum,
        "z_phot_mean": redshift,
        "z_phot_median": redshift,
        "z_phot_std": np.full(n, spread),
        "z_phot_l68": redshift - spread,
        "z_phot_u68": redshift + spread,
        "z_phot_l95": redshift - 2 * spread,
        "z_phot_u95": redshift + 2 * spread,
        **per_band,
    }
    path = Path(native_path) / "south" / f"images_npix{NPIX}_{0:09d}_{n:09d}.h5"
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, values in sorted(columns.items()):
            file.create_dataset(name, data=values)


def _nearest(rows: dict[str, NDArray[Any]], galaxies: Galaxies) -> NDArray[np.intp]:
    """Find the galaxy of each row of the catalogue."""
    cos = np.cos(np.deg2rad(rows["DEC"]))[:, None]
    east = (rows["RA"][:, None] - galaxies.ra + 180.0) % 360.0 - 180.0
    distance = (east * cos) ** 2 + (rows["DEC"][:, None] - galaxies.dec) ** 2
    return np.asarray(np.argmin(distance, axis=1))


def _images(
    galaxies: Galaxies, rows: dict[str, NDArray[Any]], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Paint the stamps: all galaxies that reach into one, the one it is of in its middle."""
    images = np.empty((len(rows["RA"]), len(BANDS), NPIX, NPIX), np.float32)
    step = PIXEL_ARCSEC / 3600.0
    middle = (NPIX - 1) / 2
    for row, (ra, dec) in enumerate(zip(rows["RA"], rows["DEC"], strict=True)):
        east = ((galaxies.ra - ra + 180.0) % 360.0 - 180.0) * np.cos(np.deg2rad(dec))
        for index, band in enumerate(BANDS):
            images[row, index] = galaxies.image(
                (NPIX, NPIX),
                middle - east / step,
                middle + (galaxies.dec - dec) / step,
                pixel_size_arcsec=PIXEL_ARCSEC,
                psf_fwhm_arcsec=PSF_FWHM[band],
                band=band,
            ) + rng.normal(0.0, NOISE[band], (NPIX, NPIX))
    return images
