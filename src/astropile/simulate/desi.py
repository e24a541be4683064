"""
The simulated sky as DESI would have published it: part of a production of the main survey.

Writes ``healpix/main/bright/<group>/<pixel>/`` with the coadd and redrock files of every pixel,
and ``zcatalog/v1/zall-pix-iron.fits``, with the HDUs, columns, dtypes and units of DR1.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from astropile.healpix import ang2pix
from astropile.simulate.galaxies import BANDS, Galaxies

ARMS: Final = {"B": (3600.0, 2751), "R": (5760.0, 2326), "Z": (7520.0, 2881)}
"""First wavelength [Angstrom] and number of pixels of each arm."""

STEP: Final = 0.8
LSF_SIGMA: Final = {"B": 0.68, "R": 0.64, "Z": 0.76}
"""Standard deviation of the line-spread function [Angstrom]."""

N_DIAGONALS: Final = 11
EBV: Final = 0.02
RELEASE: Final = 9010
COSMIC: Final = 2
"""Bit of the mask that a cosmic ray sets."""

_FLUX_UNIT: Final = "10**-17 erg/(s cm2 Angstrom)"
_IVAR_UNIT: Final = "10**+34 (s2 cm4 Angstrom2) / erg2"

_Field = tuple[str, str, str | None, Any]
"""Name, FITS format, unit and values of a column."""


def write(native_path: Path, galaxies: Galaxies, *, seed: int) -> None:
    """
    Write the galaxies as coadd files, redrock files and a redshift catalogue.

    Parameters
    ----------
    native_path : Path
        Folder of the production; made if absent.
    galaxies : Galaxies
        The true sky.
    seed : int
        Seed of the noise: the same seed gives the same bytes.

    Notes
    -----
    Each coadd holds a sky fibre and a fibre on no target beside the galaxies. Its rows are in no
    order, those of the redrock file by TARGETID. The third galaxy of a coadd has a redshift
    warning.
    """
    rng = np.random.default_rng(seed)
    pixels = ang2pix(galaxies.ra, galaxies.dec, 6)
    catalogue: list[list[_Field]] = []
    for pixel in np.unique(pixels):
        rows = np.flatnonzero(pixels == pixel)
        chosen = galaxies.select(rng.permutation(rows))
        folder = native_path / f"healpix/main/bright/{pixel // 100}/{pixel}"
        folder.mkdir(parents=True, exist_ok=True)
        catalogue.append(_write_pixel(folder, chosen, int(pixel), rng))
    folder = native_path / "zcatalog/v1"
    folder.mkdir(parents=True, exist_ok=True)
    fields = [
        (name, form, unit, np.concatenate([part[number][3] for part in catalogue]))
        for number, (name, form, unit, _) in enumerate(catalogue[0])
    ]
    _write_hdus(folder / "zall-pix-iron.fits", {}, [_table("ZCATALOG", fields)])


def _write_pixel(
    folder: Path, galaxies: Galaxies, pixel: int, rng: np.random.Generator
) -> list[_Field]:
    """Write one coadd with its redrock file; give its rows of the catalogue."""
    n = len(galaxies)
    brick = 330_000 + pixel % 10_000
    targets = (RELEASE << 42) + (brick << 22) + 100 + rng.permutation(n)
    targets = np.append(
        targets, [(1 << 59) + (brick << 22) + 7, -(20_000 * 10_000 + pixel % 5_000)]
    )
    fibermap = _fibermap(galaxies, targets, brick, rng)
    exposures = _exposures(fibermap)
    scores = _scores(targets, rng)
    header = {
        "SPGRP": "healpix",
        "SPGRPVAL": pixel,
        "HPXPIXEL": pixel,
        "HPXNSIDE": 64,
        "HPXNEST": True,
        "SURVEY": "main",
        "PROGRAM": "bright",
        "SPECPROD": "iron",
    }
    tables = [_table("FIBERMAP", fibermap), _table("EXP_FIBERMAP", exposures)]
    images = [hdu for arm in ARMS for hdu in _arm(galaxies, arm, rng)]
    _write_hdus(
        folder / f"coadd-main-bright-{pixel}.fits",
        header,
        [*tables, *images, _table("SCORES", scores)],
    )

    fitted = np.argsort(targets)[1:]
    warned = np.zeros(n + 2, np.int64)
    warned[2:3] = 4
    redshifts = _redshifts(galaxies, targets, warned, rng)
    fibermap, exposures, scores, redshifts = (
        _take(fields, fitted) for fields in (fibermap, exposures, scores, redshifts)
    )
    _write_hdus(
        folder / f"redrock-main-bright-{pixel}.fits",
        header,
        [
            _table("REDSHIFTS", redshifts),
            _table("FIBERMAP", fibermap),
            _table("EXP_FIBERMAP", exposures),
            _table("TSNR2", [field for field in scores if field[0].startswith(("TARGET", "TSNR"))]),
        ],
    )
    count = len(fitted)
    return [
        redshifts[0],
        # Padded with blanks, as the catalogues' strings are.
        ("SURVEY", "7A", None, np.full(count, "main   ")),
        ("PROGRAM", "6A", None, np.full(count, "bright")),
        ("HEALPIX", "J", None, np.full(count, pixel)),
        ("SPGRPVAL", "J", None, np.full(count, pixel)),
        *redshifts[1:],
        *fibermap[1:],
        *(field for field in scores[1:] if field[0].startswith("TSNR")),
        ("MAIN_NSPEC", "I", None, np.ones(count)),
        ("MAIN_PRIMARY", "L", None, np.ones(count, bool)),
        ("ZCAT_NSPEC", "I", None, np.ones(count)),
        ("ZCAT_PRIMARY", "L", None, np.ones(count, bool)),
    ]


def _fibermap(
    galaxies: Galaxies, targets: NDArray[np.int64], brick: int, rng: np.random.Generator
) -> list[_Field]:
    """Galaxies, then a sky fibre and a fibre on no target."""
    n = len(galaxies)

    def also(values: ArrayLike, sky: Any = 0, none: Any = 0) -> NDArray[Any]:
        filled = np.broadcast_to(np.asarray(values), (n,))
        return np.concatenate((filled, [sky, none]))

    scatter = rng.normal(0.0, 0.05 / 3600.0, (2, n))
    dec = galaxies.dec + scatter[0]
    ra = (galaxies.ra + scatter[1] / np.cos(np.deg2rad(galaxies.dec))) % 360.0
    ra, dec = also(ra, ra[0], ra[-1]), also(dec, dec[0] + 0.01, dec[-1] - 0.01)
    flux = {
        band: 10.0 ** (-0.4 * (galaxies.mag[:, BANDS.index(band.lower())] - 22.5)) for band in "GRZ"
    }
    in_fibre = 1.0 / (1.0 + galaxies.half_light_arcsec**2)
    return [
        ("TARGETID", "K", None, targets),
        ("COADD_FIBERSTATUS", "J", None, also(0, 0, 1)),
        ("TARGET_RA", "D", "deg", ra),
        ("TARGET_DEC", "D", "deg", dec),
        ("PMRA", "E", "mas yr-1", also(0.0)),
        ("PMDEC", "E", "mas yr-1", also(0.0)),
        ("REF_EPOCH", "E", "yr", also(2015.5, 2015.5, 0.0)),
        ("FA_TARGET", "K", None, also(1 << 60, 1 << 32, 0)),
        ("FA_TYPE", "B", None, also(1, 4, 0)),
        ("OBJTYPE", "3A", None, also("TGT", "SKY", "")),
        ("SUBPRIORITY", "D", None, also(rng.uniform(size=n), 0.5, 0.0)),
        ("OBSCONDITIONS", "J", None, also(516, 516, 0)),
        ("RELEASE", "I", None, also(RELEASE)),
        ("BRICKNAME", "8A", None, also("1500p022", "1500p022", "")),
        ("BRICKID", "J", None, also(brick, brick, 0)),
        ("BRICK_OBJID", "J", None, also(targets[:n] & 0x3FFFFF, 7, 0)),
        ("MORPHTYPE", "4A", None, also("EXP", "", "")),
        ("EBV", "E", "mag", also(EBV, EBV, 0.0)),
        *((f"FLUX_{b}", "E", "nanomaggy", also(flux[b])) for b in "GRZ"),
        *((f"FLUX_IVAR_{b}", "E", "nanomaggy^-2", also(400.0)) for b in "GRZ"),
        *((f"FIBERFLUX_{b}", "E", "nanomaggy", also(flux[b] * in_fibre)) for b in "GRZ"),
        *((f"FIBERTOTFLUX_{b}", "E", "nanomaggy", also(flux[b] * in_fibre)) for b in "GRZ"),
        ("MASKBITS", "I", None, also(0)),
        ("SERSIC", "E", None, also(1.0)),
        ("SHAPE_R", "E", "arcsec", also(galaxies.half_light_arcsec)),
        ("REF_ID", "K", None, also(0)),
        ("REF_CAT", "2A", None, also("", "", "")),
        ("PHOTSYS", "1A", None, also("S", "S", "")),
        ("DESI_TARGET", "K", None, also(1 << 60, 1 << 32, 0)),
        ("BGS_TARGET", "K", None, also(2)),
        ("MWS_TARGET", "K", None, also(0)),
        ("SCND_TARGET", "K", None, also(0)),
        ("COADD_NUMEXP", "I", None, also(1, 1, 1)),
        ("COADD_EXPTIME", "E", "s", also(180.0, 180.0, 180.0)),
        ("COADD_NUMNIGHT", "I", None, also(1, 1, 1)),
        ("COADD_NUMTILE", "I", None, also(1, 1, 1)),
        ("MEAN_FIBER_RA", "D", "deg", ra),
        ("MEAN_FIBER_DEC", "D", "deg", dec),
        ("MEAN_MJD", "D", "d", also(59_500.25, 59_500.25, 59_500.25)),
    ]


def _exposures(fibermap: list[_Field]) -> list[_Field]:
    """One exposure for every row of the fibermap."""
    targets = np.asarray(fibermap[0][3])
    n = len(targets)
    return [
        ("TARGETID", "K", None, targets),
        ("NIGHT", "J", None, np.full(n, 20211013)),
        ("EXPID", "J", None, np.full(n, 104_321)),
        ("MJD", "D", "d", np.full(n, 59_500.25)),
        ("TILEID", "J", None, np.full(n, 20_000)),
        ("FIBER", "J", None, np.arange(n)),
        ("FIBERSTATUS", "J", None, np.append(np.zeros(n - 1), 1)),
    ]


def _scores(targets: NDArray[np.int64], rng: np.random.Generator) -> list[_Field]:
    n = len(targets)
    return [
        ("TARGETID", "K", None, targets),
        *((f"MEDIAN_COADD_SNR_{arm}", "E", None, rng.uniform(2, 20, n)) for arm in ARMS),
        *(
            (f"TSNR2_{kind}{arm}", "E", None, rng.uniform(10, 5000, n))
            for arm in ("_B", "_R", "_Z", "")
            for kind in ("BGS", "ELG", "LRG", "LYA", "QSO")
        ),
    ]


def _redshifts(
    galaxies: Galaxies,
    targets: NDArray[np.int64],
    warned: NDArray[np.int64],
    rng: np.random.Generator,
) -> list[_Field]:
    n = len(targets)
    z_err = rng.uniform(5e-6, 3e-5, n)
    z = np.append(galaxies.z, [1.2, 0.0]) + rng.normal(0.0, z_err)
    return [
        ("TARGETID", "K", None, targets),
        ("Z", "D", None, z),
        ("ZERR", "D", None, z_err),
        ("ZWARN", "K", None, warned),
        ("CHI2", "D", None, rng.uniform(7000, 9000, n)),
        ("COEFF", "10D", None, rng.normal(0.0, 1.0, (n, 10))),
        ("NPIXELS", "K", None, np.full(n, 7900)),
        ("SPECTYPE", "6A", None, np.full(n, "GALAXY")),
        ("SUBTYPE", "20A", None, np.full(n, "")),
        ("NCOEFF", "K", None, np.full(n, 10)),
        ("DELTACHI2", "D", None, np.where(warned == 0, 500.0, 3.0)),
    ]


def _arm(galaxies: Galaxies, arm: str, rng: np.random.Generator) -> Iterable[Any]:
    """Make the five images of an arm."""
    from astropy.io import fits

    start, n_pixels = ARMS[arm]
    n = len(galaxies) + 2
    wave = np.round(start + STEP * np.arange(n_pixels), 1)
    offsets = np.arange(N_DIAGONALS) - N_DIAGONALS // 2
    profile = np.exp(-0.5 * (offsets * STEP / LSF_SIGMA[arm]) ** 2)
    profile /= profile.sum()
    error = 0.4 * (1.0 + 2.0 * np.exp((start - wave) / 200.0))
    flux = rng.normal(0.0, error, (n, n_pixels))
    for row in range(len(galaxies)):
        true = galaxies.spectrum(row, wave)
        padded = np.pad(true, N_DIAGONALS // 2, mode="edge")
        flux[row] += np.convolve(padded, profile, mode="valid")
    ivar = np.broadcast_to(error**-2.0, flux.shape).copy()
    mask = np.where(rng.uniform(size=flux.shape) < 0.001, 1 << COSMIC, 0).astype(np.uint32)
    resolution = np.repeat(np.broadcast_to(profile[:, None], (N_DIAGONALS, n_pixels))[None], n, 0)
    # A masked pixel has no weight in the coadd; nor has a fibre on no target.
    nothing = mask != 0
    nothing[-1] = True
    flux[nothing] = ivar[nothing] = 0.0
    resolution = np.where(nothing[:, None, :], 0.0, resolution)
    for name, values, unit in (
        ("WAVELENGTH", wave, "Angstrom"),
        ("FLUX", flux.astype(np.float32), _FLUX_UNIT),
        ("IVAR", ivar.astype(np.float32), _IVAR_UNIT),
        ("MASK", mask, None),
        ("RESOLUTION", resolution.astype(np.float32), None),
    ):
        hdu = fits.ImageHDU(values, name=f"{arm}_{name}")
        if unit:
            hdu.header["BUNIT"] = unit
        yield hdu


def _take(fields: list[_Field], rows: NDArray[np.int64]) -> list[_Field]:
    return [(name, form, unit, np.asarray(values)[rows]) for name, form, unit, values in fields]


def _table(name: str, fields: list[_Field]) -> Any:
    from astropy.io import fits

    columns = [
        fits.Column(name=field, format=form, unit=unit, array=np.asarray(values))
        for field, form, unit, values in fields
    ]
    return fits.BinTableHDU.from_columns(columns, name=name)


def _write_hdus(path: Path, header: dict[str, Any], hdus: list[Any]) -> None:
    from astropy.io import fits

    primary = fits.PrimaryHDU()
    primary.header.update(header)
    fits.HDUList([primary, *hdus]).writeto(path, overwrite=True)
