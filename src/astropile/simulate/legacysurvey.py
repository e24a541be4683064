"""
Write the simulated sky as the Legacy Surveys DR10 would have published it.

A sweep, Tractor catalogues and the coadds of each brick, on the survey's own brick grid; of a
brick only the part that the galaxies need (as the pipeline does for a part of a brick).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from astropile.simulate.galaxies import Galaxies
from astropile.surveys._brick import BANDS, Grid
from astropile.surveys._legacy import (
    EXTINCTION,
    MASKBITS,
    PIXEL_ARCSEC,
    SWEEP_COLUMNS,
    missing,
)

RELEASE: Final = 10000
PSF_FWHM: Final = {"g": 1.30, "r": 1.18, "i": 1.10, "z": 1.05}
NOISE: Final = {"g": 0.0025, "r": 0.0040, "i": 0.0080, "z": 0.0120}
"""Noise per pixel [nanomaggy]."""

_SCATTER_ARCSEC: Final = 0.05
_SIDE: Final = 3600
_MARGIN: Final = 90
_TILE: Final = 100
_UP_TO_DR8: Final = ("FRACDEV", "SHAPEDEV", "SHAPEEXP")
"""How the names of columns begin that DR10 does not have."""


@dataclass(frozen=True)
class BrickPlace:
    """
    A brick of the survey's tiling of the sky.

    Parameters
    ----------
    brickid : int
        Number, from 1.
    ra, dec : float
        Its centre [deg].
    """

    brickid: int
    ra: float
    dec: float

    @property
    def name(self) -> str:
        """Name made from the centre: ``1126p222``."""
        sign = "p" if self.dec >= 0 else "m"
        return f"{int(self.ra * 10):04d}{sign}{int(abs(self.dec) * 10):03d}"


def brick_at(ra: float, dec: float) -> BrickPlace:
    """
    Find the brick that holds a position.

    Parameters
    ----------
    ra, dec : float
        Position [deg].

    Returns
    -------
    BrickPlace
        The brick. Rows of bricks are 0.25 deg high, the first centred on the south pole; in
        each an even number of bricks, at most 0.25 deg wide, fill the circle.

    Examples
    --------
    >>> brick_at(95.95041, 80.5)
    BrickPlace(brickid=657438, ra=95.9504132231405, dec=80.5)
    >>> brick_at(59.1067, -30.4848).name
    '0591m305'
    """
    n_columns = _bricks_per_row()
    row = int((dec + 90.0) / 0.25 + 0.5)
    column = int(ra % 360.0 / 360.0 * n_columns[row])
    return BrickPlace(
        int(n_columns[:row].sum()) + column + 1,
        (column + 0.5) * 360.0 / int(n_columns[row]),
        -90.0 + 0.25 * row,
    )


def _bricks_per_row() -> NDArray[np.int64]:
    centre = -90.0 + 0.25 * np.arange(721)
    widest = np.cos(np.deg2rad(np.maximum(0.0, np.abs(centre) - 0.125)))
    n_columns = (2 * np.ceil(360.0 * widest / 0.25 / 2.0)).astype(np.int64)
    n_columns[[0, -1]] = 1
    return np.asarray(n_columns, np.int64)


def catalogue(galaxies: Galaxies, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
    """
    Measure galaxies as a sweep of DR10 lists them.

    Parameters
    ----------
    galaxies : Galaxies
        The galaxies.
    rng : numpy.random.Generator
        For the scatter of positions.

    Returns
    -------
    dict of str to ndarray
        Every column of a sweep, in order of brick and declination.
    """
    n = len(galaxies)
    east, north = rng.normal(0.0, _SCATTER_ARCSEC / 3600.0, (2, n))
    dec = galaxies.dec + north
    ra = (galaxies.ra + east / np.cos(np.deg2rad(dec))) % 360.0
    places = [brick_at(*position) for position in zip(ra.tolist(), dec.tolist(), strict=True)]
    rows: dict[str, NDArray[Any]] = {
        column.name: np.zeros(missing(n, column).shape, column.numpy_dtype)
        for column in SWEEP_COLUMNS
        if not column.name.startswith(_UP_TO_DR8)
    }
    brickid = np.array([place.brickid for place in places], np.int32)
    order = np.lexsort((dec, brickid))
    rank = np.empty(n, np.int32)
    for number in np.unique(brickid):
        inside = order[brickid[order] == number]
        rank[inside] = np.arange(len(inside))
    rows.update(
        RELEASE=np.full(n, RELEASE, np.int16),
        BRICKID=brickid,
        BRICKNAME=np.array([place.name.encode() for place in places], "S8"),
        OBJID=rank,
        TYPE=np.where(galaxies.half_light_arcsec > 3.0, b"SER", b"EXP").astype("S4"),
        RA=ra,
        DEC=dec,
        EBV=np.full(n, 0.02, np.float32),
        SHAPE_R=galaxies.half_light_arcsec.astype(np.float32),
        SERSIC=np.ones(n, np.float32),
    )
    rows["RA_IVAR"][:] = rows["DEC_IVAR"][:] = (3600.0 / _SCATTER_ARCSEC) ** 2
    ratio = (1 - galaxies.axis_ratio) / (1 + galaxies.axis_ratio)
    rows["SHAPE_E1"] = (ratio * np.cos(2 * np.deg2rad(galaxies.pa_deg))).astype(np.float32)
    rows["SHAPE_E2"] = (ratio * np.sin(2 * np.deg2rad(galaxies.pa_deg))).astype(np.float32)
    for index, band in enumerate("ugriz"):
        if band not in BANDS:
            continue
        upper = band.upper()
        transmission = 10 ** (-0.4 * EXTINCTION[band] * 0.02)
        flux = 10 ** (-0.4 * (galaxies.mag[:, index] - 22.5))
        sigma = PSF_FWHM[band] / 2.3548 / PIXEL_ARCSEC
        depth = 1 / (4 * np.pi * sigma**2 * NOISE[band] ** 2)
        for name, value in (
            ("FLUX", flux),
            ("FLUX_IVAR", depth),
            ("MW_TRANSMISSION", transmission),
            ("NOBS", 3),
            ("RCHISQ", 1.0),
            ("FRACIN", 1.0),
            ("PSFSIZE", PSF_FWHM[band]),
            ("PSFDEPTH", depth),
            ("GALDEPTH", 0.8 * depth),
            ("FIBERFLUX", 0.3 * flux),
            ("FIBERTOTFLUX", 0.3 * flux),
        ):
            rows[f"{name}_{upper}"][:] = value
    without_i = [not has_i(number) for number in brickid.tolist()]
    for name, values in rows.items():
        if name.startswith("MW_TRANSMISSION_W"):
            values[:] = 1.0
        elif name.endswith("_I") and not name.startswith("MW_"):
            values[without_i] = 0
    return {name: values[order] for name, values in rows.items()}


def write(native_path: Path, galaxies: Galaxies, *, seed: int) -> None:
    """
    Write ``south/sweep/10.1``, ``south/tractor`` and ``south/coadd`` of these galaxies.

    Every other brick has no i band, as part of the footprint; every brick has a dead column
    in g and a saturated patch in r.

    Parameters
    ----------
    native_path : Path
        Folder of the release, made if need be.
    galaxies : Galaxies
        The true sky.
    seed : int
        Seed of the noise: the same galaxies and seed give the same bytes.
    """
    rng = np.random.default_rng([seed, RELEASE])
    south = Path(native_path) / "south"
    rows = catalogue(galaxies, rng)
    corners = np.array([_sweep_name(*place) for place in zip(rows["RA"], rows["DEC"], strict=True)])
    for name in np.unique(corners):
        chosen = {key: values[corners == name] for key, values in rows.items()}
        _write_table(south / "sweep" / "10.1" / str(name), chosen)
    for name in np.unique(rows["BRICKNAME"]):
        chosen = {key: values[rows["BRICKNAME"] == name] for key, values in rows.items()}
        grid = _grid(chosen)
        x, y = grid.pixels(chosen["RA"], chosen["DEC"])
        brick = name.decode()
        _write_table(
            south / "tractor" / brick[:3] / f"tractor-{brick}.fits",
            {
                **{key.lower(): values for key, values in chosen.items()},
                "brick_primary": np.ones(len(x), bool),
                "bx": x.astype(np.float32),
                "by": y.astype(np.float32),
            },
        )
        _write_coadds(south / "coadd" / brick[:3] / brick, brick, grid, galaxies, rng)


def has_i(brickid: int) -> bool:
    """
    Tell whether a simulated brick has i-band images.

    Parameters
    ----------
    brickid : int
        Number of the brick.

    Returns
    -------
    bool
        Whether it has.
    """
    return brickid % 2 == 0


def _sweep_name(ra: float, dec: float) -> str:
    low_ra, low_dec = 10 * int(ra // 10), 5 * int(dec // 5)
    corners = (
        f"{at_ra:03d}{'p' if at_dec >= 0 else 'm'}{abs(at_dec):03d}"
        for at_ra, at_dec in ((low_ra, low_dec), (low_ra + 10, low_dec + 5))
    )
    return f"sweep-{'-'.join(corners)}.fits"


def _grid(rows: dict[str, NDArray[Any]]) -> Grid:
    """Choose the part of a brick that its galaxies need, with a margin."""
    place = brick_at(float(rows["RA"][0]), float(rows["DEC"][0]))
    step = PIXEL_ARCSEC / 3600.0
    whole = Grid(
        (_SIDE, _SIDE),
        (place.ra, place.dec),
        ((_SIDE + 1) / 2, (_SIDE + 1) / 2),
        (-step, 0.0, 0.0, step),
    )
    # In whole tiles: of a small rest of one the noise is unknown, and it is stored by gzip,
    # with the time of day.
    x, y = whole.pixels(rows["RA"], rows["DEC"])
    left, bottom = (max(0, int(v.min() - _MARGIN) // _TILE * _TILE) for v in (x, y))
    right, top = (min(_SIDE, -int(-(v.max() + _MARGIN) // _TILE) * _TILE) for v in (x, y))
    return Grid(
        (top - bottom, right - left),
        whole.crval,
        (whole.crpix[0] - left, whole.crpix[1] - bottom),
        whole.cd,
    )


def _write_table(path: Path, columns: dict[str, NDArray[Any]]) -> None:
    from astropy.io import fits

    formats = {"f4": "E", "f8": "D", "i2": "I", "i4": "J", "i8": "K", "u1": "B", "b1": "L"}
    table = fits.BinTableHDU.from_columns(
        [
            fits.Column(
                name,
                f"{values.dtype.itemsize}A"
                if values.dtype.kind == "S"
                else f"{values[:1].size or 1}{formats[values.dtype.str[1:]]}",
                array=values,
            )
            for name, values in columns.items()
        ]
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(path, overwrite=True)


def _write_coadds(
    folder: Path, brick: str, grid: Grid, galaxies: Galaxies, rng: np.random.Generator
) -> None:
    place = brick_at(*grid.crval)
    x, y = grid.pixels(galaxies.ra, galaxies.dec)
    n_rows, n_columns = grid.shape
    maskbits = np.zeros(grid.shape, np.int32)
    maskbits[:8, :] |= 1 << MASKBITS["NPRIMARY"]
    patch = (slice(n_rows // 2, n_rows // 2 + 6), slice(n_columns // 2, n_columns // 2 + 6))
    maskbits[patch] |= 1 << MASKBITS["SATUR_R"] | 1 << MASKBITS["BRIGHT"]
    header: dict[str, str | int | float] = {
        "BRICKNAM": brick,
        "BRICKID": place.brickid,
        "DRVERSIO": RELEASE,
        **{f"CTYPE{axis}": name for axis, name in ((1, "RA---TAN"), (2, "DEC--TAN"))},
        **{f"CRVAL{axis}": value for axis, value in enumerate(grid.crval, 1)},
        **{f"CRPIX{axis}": value for axis, value in enumerate(grid.crpix, 1)},
        **dict(zip(("CD1_1", "CD1_2", "CD2_1", "CD2_2"), grid.cd, strict=True)),
        "EQUINOX": 2000.0,
    }
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"legacysurvey-{brick}"
    for band in BANDS:
        if band == "i" and not has_i(place.brickid):
            continue
        image = galaxies.image(
            grid.shape,
            x,
            y,
            pixel_size_arcsec=PIXEL_ARCSEC,
            psf_fwhm_arcsec=PSF_FWHM[band],
            band=band,
        )
        image = (image + rng.normal(0.0, NOISE[band], grid.shape)).astype(np.float32)
        spread = rng.normal(1.0, 0.02, grid.shape)
        invvar = (NOISE[band] ** -2 * spread).astype(np.float32)
        if band == "g":
            image[:, n_columns // 3] = invvar[:, n_columns // 3] = 0.0
        for kind, plane, unit in (
            ("image", image, "nanomaggy"),
            ("invvar", invvar, "1/nanomaggy^2"),
        ):
            cards = {**header, "FILTER": band, "IMTYPE": kind, "BUNIT": unit}
            _write_compressed(folder / f"{stem}-{kind}-{band}.fits.fz", {"": plane}, cards)
    planes = {"MASKBITS": maskbits, "WISEM1": maskbits * 0, "WISEM2": maskbits * 0}
    _write_compressed(folder / f"{stem}-maskbits.fits.fz", planes, {**header, "IMTYPE": "maskbits"})


def _write_compressed(
    path: Path, planes: dict[str, NDArray[Any]], cards: dict[str, str | int | float]
) -> None:
    from astropy.io import fits

    hdus = [fits.PrimaryHDU()]
    for name, plane in planes.items():
        options = (
            {
                "compression_type": "RICE_1",
                "quantize_level": 16.0,
                "quantize_method": fits.hdu.compressed.SUBTRACTIVE_DITHER_2,
                "dither_seed": 1,
            }
            if plane.dtype.kind == "f"
            else {"compression_type": "RICE_1"}
        )
        hdus.append(
            fits.CompImageHDU(
                plane, fits.Header(cards), name=name or None, tile_shape=(_TILE, _TILE), **options
            )
        )
    fits.HDUList(hdus).writeto(path, overwrite=True)
