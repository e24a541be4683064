"""
The columns of HSC-SSP PDR3: what its catalogue holds and what is cut from its coadds.

Facts only; `hsc` reads the files.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from astropile.schema import Column, Formula
from astropile.surveys._calexp import BITS

BANDS: Final = ("g", "r", "i", "z", "y")
CUTOUT: Final = 160
PIXEL_SIZE_ARCSEC: Final = 0.168


def _native_columns() -> Iterator[Column]:
    yield Column("object_id", "int64", "Identifier, unique in the release.")
    yield Column("ra", "float64", "Right ascension, ICRS.", unit="deg")
    yield Column("dec", "float64", "Declination, ICRS.", unit="deg")
    yield Column("tract", "int32", "Tract of the sky map.")
    yield Column("patch", "int32", "Patch of the tract: 404 is the patch 4,4.")
    for b in BANDS:
        yield Column(f"a_{b}", "float32", f"Galactic extinction in {b}.", unit="mag")
    per_band = (
        ("{}_extendedness_value", "", "1 for an extended object, 0 for a point source, in {}."),
        ("{}_variance_value", "", "Variance at the position of the object in {}, as published."),
        ("{}_cmodel_mag", "mag", "CModel magnitude (AB) in {}, not corrected for extinction."),
        ("{}_cmodel_magerr", "mag", "Error of the CModel magnitude in {}."),
        ("{}_cmodel_flux", "nJy", "CModel flux in {}."),
        ("{}_cmodel_fluxerr", "nJy", "Error of the CModel flux in {}."),
    )
    for name, unit, doc in per_band:
        for b in BANDS:
            yield Column(name.format(b), "float32", doc.format(b), unit=unit)
    for kind, what in (("psf_", "the PSF at the object"), ("", "the object")):
        for b in BANDS:
            for axes, moment in (("11", "xx"), ("22", "yy"), ("12", "xy")):
                yield Column(
                    f"{b}_sdssshape_{kind}shape{axes}",
                    "float32",
                    f"Adaptive second moment {moment} of {what} in {b}.",
                    unit="arcsec2",
                )


NATIVE_COLUMNS: Final = tuple(_native_columns())
"""What the catalogue holds: the columns of the query behind `pdr3_dud_22.5`."""

UNIT: Final = "0.0158489319246111 nanomaggy"
"""One count, 1e9 / FLUXMAG0: FLUXMAG0 counts are one maggy, AB magnitude 0."""


def image_columns(cutout: int) -> tuple[Column, ...]:
    """
    Declare what is made while building.

    Parameters
    ----------
    cutout : int
        Side of the cutouts [pixel].

    Returns
    -------
    tuple of Column
        Cutouts, and a few numbers for each.
    """
    size = (len(BANDS), cutout, cutout)
    where = "(band, row, column), bands g r i z y, as in the coadd"
    return (
        Column(
            "image_array",
            "float32",
            f"Cutout of the coadd, {where}: the object's position, rounded to a pixel, is at "
            f"row {cutout // 2}, column {cutout // 2}, both from 0. Pixels outside the patch "
            "and pixels without a finite number are 0, with NO_DATA in image_mask.",
            shape=size,
            unit=UNIT,
            derived=True,
        ),
        Column(
            "image_ivar",
            "float32",
            f"1 / variance of the coadd, {where}; 0 where the variance is not a positive finite "
            "number and where image_mask has BAD, SAT or NO_DATA.",
            shape=size,
            unit="3981.07170553497 / nanomaggy2",
            derived=True,
        ),
        Column(
            "image_mask",
            "int32",
            f"Mask of the coadd, {where}. Planes are matched by the names in the file's header "
            "(MP_...) and put at the bits given here; OTHER is any plane without a bit here.",
            shape=size,
            derived=True,
            bits=BITS,
        ),
        Column(
            "image_available",
            "bool",
            "Whether there is a coadd of the patch in the band; if not, its cutout is all NO_DATA.",
            shape=(len(BANDS),),
            derived=True,
        ),
        Column(
            "image_noise_std",
            "float32",
            "Noise of a pixel in each band: (median of image_ivar where it is not 0) ** -0.5; "
            "NaN if it is 0 everywhere.",
            shape=(len(BANDS),),
            unit=UNIT,
            derived=True,
        ),
        Column(
            "image_zero_point",
            "float32",
            "AB magnitude of one count in each band, 2.5 log10(FLUXMAG0) of the coadd's header; "
            "NaN where there is no coadd.",
            shape=(len(BANDS),),
            unit="mag",
            derived=True,
        ),
    )


def psf_fwhm(band: str) -> Formula:
    """
    Give the width of the PSF from the catalogue's moments.

    Parameters
    ----------
    band : str
        One of `BANDS`.

    Returns
    -------
    Formula
        FWHM [arcsec]; NaN where the moments were not measured.
    """
    xx, yy, xy = (f"{band}_sdssshape_psf_shape{axes}" for axes in ("11", "22", "12"))
    # Moments of 0, as where a measurement failed, are no PSF of width 0.
    determinant = f"({xx} * {yy} - {xy} * {xy})"
    return Formula(
        f"where({determinant} > 0, 2.3548200450309493 * {determinant} ** 0.25, nan)",
        unit="arcsec",
        doc=f"FWHM of the Gaussian with the second moments of the PSF in {band}.",
    )
