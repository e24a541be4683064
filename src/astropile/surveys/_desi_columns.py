"""
The columns of DESI: names, dtypes and units of its data model, and those made while building.

Values only; read by `astropile.surveys.desi`.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from astropile.schema import Column

_Fact = tuple[str, str, str, str]

_GROUPING: Final[tuple[_Fact, ...]] = (
    ("SPGRP", "S16", "", "How spectra were grouped: healpix, cumulative, pernight, perexp."),
    ("SPGRPVAL", "int32", "", "Which group: HEALPix pixel, night or exposure."),
    ("SURVEY", "S16", "", "Sub-survey: cmx, sv1, sv2, sv3, main, special."),
    ("PROGRAM", "S16", "", "Program: dark, bright, backup, other."),
    ("HPXPIXEL", "int32", "", "HEALPix pixel of the coadd, NESTED, nside 64."),
    ("TILEID", "int32", "", "Tile, where the coadd is of one tile."),
)
_FIBERMAP: Final[tuple[_Fact, ...]] = (
    ("COADD_FIBERSTATUS", "int32", "", "Fibre status common to the exposures; 0 is good."),
    ("TARGET_RA", "float64", "deg", "Right ascension at REF_EPOCH, ICRS, barycentric."),
    ("TARGET_DEC", "float64", "deg", "Declination at REF_EPOCH, ICRS, barycentric."),
    ("DESINAME", "S22", "", "Name made of the position."),
    ("PMRA", "float32", "mas / yr", "Proper motion in right ascension, times cos(dec)."),
    ("PMDEC", "float32", "mas / yr", "Proper motion in declination."),
    ("REF_EPOCH", "float32", "yr", "Epoch of position and proper motion; 0 if none."),
    ("PARALLAX", "float32", "mas", "Parallax in the reference catalogue."),
    ("REF_ID", "int64", "", "Source in the reference catalogue: Gaia source_id, Tycho-2."),
    ("REF_CAT", "S2", "", "Reference catalogue: G2, T2, L2, L3."),
    ("OBJTYPE", "S3", "", "Type of object: TGT, NON, BAD; SKY is not taken."),
    ("FA_TARGET", "int64", "", "Targeting bits used in fibre assignment."),
    ("FA_TYPE", "uint8", "", "Type of target in fibre assignment, bits."),
    ("PETAL_LOC", "int16", "", "Petal, 0 to 9; tile-based coadds."),
    ("DEVICE_LOC", "int32", "", "Device on the petal; tile-based coadds."),
    ("LOCATION", "int64", "", "PETAL_LOC * 1000 + DEVICE_LOC; tile-based coadds."),
    ("FIBER", "int32", "", "Fibre, 0 to 4999; tile-based coadds."),
    ("PRIORITY", "int32", "", "Priority in fibre assignment; tile-based coadds."),
    ("SUBPRIORITY", "float64", "", "Random number that breaks ties in assignment."),
    ("PRIORITY_INIT", "int64", "", "Priority at first."),
    ("NUMOBS_INIT", "int64", "", "Number of observations asked for at first."),
    ("OBSCONDITIONS", "int32", "", "Conditions in which it may be observed, bits."),
    ("RELEASE", "int16", "", "Release of the Legacy Surveys it was targeted from."),
    ("BRICKNAME", "S8", "", "Brick of the Legacy Surveys."),
    ("BRICKID", "int32", "", "Number of the brick."),
    ("BRICK_OBJID", "int32", "", "Object in the brick."),
    ("MORPHTYPE", "S4", "", "Morphological type in the Legacy Surveys."),
    ("PHOTSYS", "S1", "", "Photometric system: N for BASS and MzLS, S for DECam."),
    ("MASKBITS", "int16", "", "Mask bits of the Legacy Surveys' image at the object."),
    ("EBV", "float32", "mag", "Galactic reddening E(B-V), SFD98."),
    *(
        (f"FLUX_{b}", "float32", "nanomaggy", f"Flux in {b} of the Legacy Surveys or WISE, AB.")
        for b in ("G", "R", "Z", "W1", "W2")
    ),
    *(
        (f"FLUX_IVAR_{b}", "float32", "1 / nanomaggy2", f"Inverse variance of FLUX_{b}.")
        for b in ("G", "R", "Z", "W1", "W2")
    ),
    *(
        (f"FIBER{kind}FLUX_{b}", "float32", "nanomaggy", f"Flux of {whose} in a fibre, {b}.")
        for kind, whose in (("", "the object"), ("TOT", "all objects"))
        for b in "GRZ"
    ),
    ("SERSIC", "float32", "", "Sersic index in the Legacy Surveys."),
    ("SHAPE_R", "float32", "arcsec", "Half-light radius in the Legacy Surveys."),
    ("SHAPE_E1", "float32", "", "First component of the ellipticity."),
    ("SHAPE_E2", "float32", "", "Second component of the ellipticity."),
    *(
        (f"GAIA_PHOT_{b}_MEAN_MAG", "float32", "mag", f"Gaia {b} magnitude, Vega.")
        for b in ("G", "BP", "RP")
    ),
    *(
        (f"{phase}{kind}_TARGET", "int64", "", f"Targeting bits: {kind}, {phase or 'main'}.")
        for phase in ("", "SV1_", "SV2_", "SV3_")
        for kind in ("DESI", "BGS", "MWS", "SCND")
    ),
    ("CMX_TARGET", "int64", "", "Targeting bits of commissioning."),
    ("PLATE_RA", "float64", "deg", "Right ascension the fibre was sent to."),
    ("PLATE_DEC", "float64", "deg", "Declination the fibre was sent to."),
    ("LAMBDA_REF", "float32", "Angstrom", "Wavelength centred on the fibre; tile-based coadds."),
    ("COADD_NUMEXP", "int16", "", "Number of exposures."),
    ("COADD_EXPTIME", "float32", "s", "Exposure time, summed."),
    ("COADD_NUMNIGHT", "int16", "", "Number of nights."),
    ("COADD_NUMTILE", "int16", "", "Number of tiles."),
    ("MIN_MJD", "float64", "d", "Modified Julian date of the first exposure."),
    ("MAX_MJD", "float64", "d", "Modified Julian date of the last exposure."),
    ("MEAN_MJD", "float64", "d", "Modified Julian date, mean over exposures."),
    *(
        (f"{which}_{x}", "float32", "mm", f"{doc}, {x} on the focal plane; tile-based coadds.")
        for which, doc in (
            ("FIBERASSIGN", "Place the fibre was meant for"),
            ("MEAN_FIBER", "Place of the fibre, mean over exposures"),
        )
        for x in "XY"
    ),
    *(
        (f"{which}_DELTA_{x}", "float32", "mm", f"{which} of asked minus true fibre place, {x}.")
        for x in "XY"
        for which in ("MEAN", "RMS")
    ),
    *(
        fact
        for x in ("RA", "DEC")
        for fact in (
            (f"MEAN_FIBER_{x}", "float64", "deg", f"{x} of the fibre, mean over exposures."),
            (f"STD_FIBER_{x}", "float32", "arcsec", f"{x} of the fibre, scatter over exposures."),
        )
    ),
    ("MEAN_PSF_TO_FIBER_SPECFLUX", "float32", "", "Fraction of a point source in the fibre."),
)
_REDSHIFT: Final[tuple[_Fact, ...]] = (
    ("Z", "float64", "", "Redshift of the best fit."),
    ("ZERR", "float64", "", "Standard error of Z."),
    ("ZWARN", "int64", "", "Warnings of the fit: 0 is good."),
    ("CHI2", "float64", "", "Chi squared of the best fit."),
    ("DELTACHI2", "float64", "", "Chi squared of the second best fit minus that of the best."),
    ("NPIXELS", "int64", "", "Number of pixels fitted."),
    ("NCOEFF", "int64", "", "Number of template coefficients."),
    ("SPECTYPE", "S6", "", "Type of the best template: GALAXY, QSO, STAR."),
    ("SUBTYPE", "S20", "", "Subtype of the best template."),
)
_SCORES: Final[tuple[_Fact, ...]] = (
    *(
        (f"{which}_COADD_{what}_{arm}", "float32", unit, f"{which} of the {what} in arm {arm}.")
        for which, what, unit in (
            ("INTEG", "FLUX", "1e-17 erg / (s cm2)"),
            ("MEDIAN", "FLUX", "1e-17 erg / (s cm2 Angstrom)"),
            ("MEDIAN", "SNR", ""),
        )
        for arm in "BRZ"
    ),
    *(
        (f"TSNR2_{kind}{arm}", "float32", "", f"Squared signal to noise of a {kind} template.")
        for kind in ("BGS", "ELG", "GPBBACKUP", "GPBBRIGHT", "GPBDARK", "LRG", "LYA", "QSO")
        for arm in ("", "_B", "_R", "_Z")
    ),
)
_CATALOGUE: Final[tuple[_Fact, ...]] = tuple(
    fact
    for which in ("SV", "MAIN", "ZCAT")
    for fact in (
        (f"{which}_NSPEC", "int16", "", f"Number of coadds of the target, {which}."),
        (f"{which}_PRIMARY", "bool", "", f"Whether this is the best coadd of it, {which}."),
    )
)
_BITS: Final = {
    "ZWARN": (
        "SKY LITTLE_COVERAGE SMALL_DELTA_CHI2 NEGATIVE_MODEL MANY_OUTLIERS Z_FITLIMIT "
        "NEGATIVE_EMISSION UNPLUGGED BAD_TARGET NODATA BAD_MINFIT POORDATA"
    ),
    "MASK": (
        "SOMEBADPIX ALLBADPIX COSMIC LOWFLAT BADFIBERFLAT BRIGHTSKY BADSKY BAD2DFIT NODATA BADFIBER"
    ),
    "COADD_FIBERSTATUS": (
        "UNASSIGNED STUCKPOSITIONER BROKENFIBER RESTRICTED - - - - MISSINGPOSITION BADPOSITION "
        "POORPOSITION - - - - LOWEFFTIME BADFIBER BADTRACE BADFLAT BADARC MANYBADCOL MANYREJECTED "
        "BADAMPB BADAMPR BADAMPZ BADPETALPOS BADPETALSKY BADPETALSTDSTAR BADPETALFLUXCAL "
        "BADPETALSNR BADREADNOISE"
    ),
}


def fill(dtype: np.dtype[Any]) -> Any:
    """
    Give what stands where no file gives a value.

    Parameters
    ----------
    dtype : dtype
        Of the column.

    Returns
    -------
    float, int, bool or bytes
        NaN, the largest unsigned number, -1, False or an empty string.
    """
    match dtype.kind:
        case "f":
            return np.nan
        case "u":
            return np.iinfo(dtype).max
        case "i":
            return -1
        case "b":
            return False
    return b""


def _bits(name: str) -> dict[str, int]:
    """Give each bit of a mask its number."""
    names = _BITS.get(name, "").split()
    return {bit: number for number, bit in enumerate(names) if bit != "-"}


def _optional(fact: _Fact, *, light: bool | None = None) -> Column:
    """Make a column that not every release has."""
    name, dtype, unit, doc = fact
    absent = fill(np.dtype(dtype))
    doc = f"{doc} {'Empty' if absent == b'' else absent} if not given."
    return Column(name, dtype, doc, unit=unit, bits=_bits(name), light=light)


GROUPS: Final[dict[str, tuple[Column, ...]]] = {
    "grouping": tuple(_optional(fact) for fact in _GROUPING),
    "fibermap": tuple(_optional(fact) for fact in _FIBERMAP),
    "redshift": tuple(_optional(fact) for fact in _REDSHIFT),
    "scores": tuple(_optional(fact, light=False) for fact in _SCORES),
    "catalogue": tuple(_optional(fact) for fact in _CATALOGUE),
}
"""Native columns by the table they come from; a release need not have them."""

TARGETID: Final = Column("TARGETID", "int64", "Target, the same in every DESI file; positive.")
MADE: Final = (
    Column(
        "OBSERVATION_ID",
        "S64",
        "Name of the coadd file without 'coadd-' and suffix, a hyphen, TARGETID.",
        derived=True,
    ),
    Column(
        "Z_SOURCE",
        "S128",
        "Name of the file that Z to SUBTYPE came from: the redrock file beside the coadd, else "
        "a redshift catalogue. Empty: none had the target.",
        derived=True,
    ),
    Column(
        "FLUX",
        "float32",
        "Flux density. Where one arm covers the pixel, that arm's value; where two do, the mean "
        "weighted by inverse variance over the arms whose mask is 0, or over both where neither "
        "is clean; 0 where neither has any weight.",
        shape=("wave",),
        unit="1e-17 erg / (s cm2 Angstrom)",
        derived=True,
    ),
    Column(
        "IVAR",
        "float32",
        "Inverse variance of FLUX. Where one arm covers the pixel, that arm's value; where two "
        "do, the sum over the arms that FLUX is the mean of.",
        shape=("wave",),
        unit="1e34 s2 cm4 Angstrom2 / erg2",
        derived=True,
    ),
    Column(
        "MASK",
        "uint32",
        "Bits of what is wrong with a pixel. Where one arm covers it, that arm's value; where "
        "two do, 0 if one of them is clean with IVAR above 0, else the bits of both.",
        shape=("wave",),
        bits=_bits("MASK"),
        derived=True,
    ),
    Column(
        "LSF_SIGMA",
        "float32",
        "Line-spread function: standard deviation of the pixel's column of the resolution "
        "matrix about its centroid (second moment of its diagonals), times 0.8 Angstrom. Where "
        "two arms cover the pixel, of the mean column with the weights of FLUX, or equal ones "
        "if those are 0. It includes the width of the pixel. 0 where the column is empty or has "
        "no width.",
        shape=("wave",),
        unit="Angstrom",
        derived=True,
    ),
    Column(
        "WAVE",
        "float64",
        "Wavelength: 3600 + 0.8 i. The arms' own wavelengths lie within 1e-4 Angstrom of it.",
        shape=("wave",),
        unit="Angstrom",
        shared=True,
        derived=True,
    ),
)
