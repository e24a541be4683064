"""
What the data sets made from the Legacy Surveys have in common: facts, no files.

Columns of the sweep catalogues (DR8 to DR10), mask bits, extinction, citations.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from astropile.schema import Column

PIXEL_ARCSEC: Final = 0.262
"""Pixel side of every coadd [arcsec]."""

EXTINCTION: Final[Mapping[str, float]] = {"g": 3.214, "r": 2.165, "i": 1.592, "z": 1.211}
"""A / E(B-V) in the DECam filters, used for BASS and MzLS too (legacysurvey.org/dr10/catalogs)."""

HOMEPAGE: Final = "https://www.legacysurvey.org"
CITATION: Final = (
    "Dey et al. 2019, Overview of the DESI Legacy Imaging Surveys, AJ 157, 168, "
    "doi:10.3847/1538-3881/ab089d"
)
ACKNOWLEDGEMENT: Final = (
    "Papers that use these images carry the acknowledgement of the Legacy Surveys "
    "(DECaLS, BASS and MzLS): https://www.legacysurvey.org/acknowledgment"
)

MASKBITS: Final[Mapping[str, int]] = {
    "NPRIMARY": 0,
    "BRIGHT": 1,
    "SATUR_G": 2,
    "SATUR_R": 3,
    "SATUR_Z": 4,
    "ALLMASK_G": 5,
    "ALLMASK_R": 6,
    "ALLMASK_Z": 7,
    "WISEM1": 8,
    "WISEM2": 9,
    "BAILOUT": 10,
    "MEDIUM": 11,
    "GALAXY": 12,
    "CLUSTER": 13,
    "SATUR_I": 14,
    "ALLMASK_I": 15,
    "SUB_BLOB": 16,
}
"""Bits of MASKBITS (legacysurvey.org/dr10/bitmasks); those up to 13 mean the same since DR8."""

_DQ_BITS: Final[Mapping[str, int]] = {
    "BADPIX": 0,
    "SATUR": 1,
    "INTERP": 2,
    "CR": 4,
    "BLEED": 6,
    "TRANS": 7,
    "EDGE": 8,
    "EDGE2": 9,
    "OUTLIER": 11,
}
_WISE_BITS: Final[Mapping[str, int]] = {
    name: bit
    for bit, name in enumerate(
        ("BRIGHT", "SPIKE", "GHOST", "LATENT", "LATENT2", "HALO", "SATUR", "SPIKE2")
    )
}
_FIT_BITS: Final[Mapping[str, int]] = {
    name: bit
    for bit, name in enumerate(
        (
            "FORCED_POINTSOURCE",
            "FIT_BACKGROUND",
            "HIT_RADIUS_LIMIT",
            "HIT_SERSIC_LIMIT",
            "FROZEN",
            "BRIGHT",
            "MEDIUM",
            "GAIA",
            "TYCHO2",
            "LARGEGALAXY",
            "WALKER",
            "RUNNER",
            "GAIA_POINTSOURCE",
            "ITERATIVE",
        )
    )
}

_NMGY, _NMGY_IVAR = "nanomaggy", "1 / nanomaggy2"
_OPTICAL, _WISE = ("G", "R", "I", "Z"), ("W1", "W2", "W3", "W4")


def _bands(
    prefix: str,
    doc: str,
    bands: tuple[str, ...] = _OPTICAL,
    unit: str = "",
    *,
    dtype: str = "float32",
    bits: Mapping[str, int] | None = None,
) -> list[Column]:
    """Declare one column per band; ``{}`` in the doc becomes the band."""
    return [
        Column(
            f"{prefix}_{band}",
            dtype,
            doc.format(band if band in _WISE else band.lower()),
            unit=unit,
            bits=bits or {},
        )
        for band in bands
    ]


def _shape(prefix: str, model: str) -> list[Column]:
    """Declare radius and ellipticity of a galaxy model, each with its inverse variance."""
    return [
        Column(f"{prefix}_R", "float32", f"Half-light radius of {model}.", unit="arcsec"),
        Column(
            f"{prefix}_R_IVAR", "float32", f"Inverse variance of {prefix}_R.", unit="1 / arcsec2"
        ),
        Column(f"{prefix}_E1", "float32", f"Ellipticity component 1 of {model}."),
        Column(f"{prefix}_E1_IVAR", "float32", f"Inverse variance of {prefix}_E1."),
        Column(f"{prefix}_E2", "float32", f"Ellipticity component 2 of {model}."),
        Column(f"{prefix}_E2_IVAR", "float32", f"Inverse variance of {prefix}_E2."),
    ]


def _gaia() -> list[Column]:
    """List the reference catalogue's astrometry and photometry."""
    columns = [
        Column(
            "REF_CAT", "S2", "Reference catalogue: T2 Tycho-2, G2/GE Gaia, L2/L3 SGA, or empty."
        ),
        Column("REF_ID", "int64", "Identifier in the reference catalogue."),
        Column("REF_EPOCH", "float32", "Epoch of the reference catalogue.", unit="yr"),
    ]
    for band in ("G", "BP", "RP"):
        columns += [
            Column(f"GAIA_PHOT_{band}_MEAN_MAG", "float32", f"Gaia {band} magnitude.", unit="mag"),
            Column(
                f"GAIA_PHOT_{band}_MEAN_FLUX_OVER_ERROR",
                "float32",
                f"Gaia {band} signal-to-noise ratio.",
            ),
        ]
    columns += [
        Column("GAIA_ASTROMETRIC_EXCESS_NOISE", "float32", "Gaia astrometric excess noise."),
        Column("GAIA_DUPLICATED_SOURCE", "bool", "Gaia flag of a duplicated source."),
        Column("GAIA_PHOT_BP_RP_EXCESS_FACTOR", "float32", "Gaia BP/RP excess factor."),
        Column(
            "GAIA_ASTROMETRIC_SIGMA5D_MAX",
            "float32",
            "Longest semi-major axis of Gaia's 5-d error ellipsoid.",
            unit="mas",
        ),
        Column(
            "GAIA_ASTROMETRIC_PARAMS_SOLVED", "uint8", "Which astrometric parameters Gaia solved."
        ),
    ]
    for name, unit, what in (
        ("PARALLAX", "mas", "parallax"),
        ("PMRA", "mas / yr", "proper motion in right ascension, with cos(dec), at REF_EPOCH"),
        ("PMDEC", "mas / yr", "proper motion in declination at REF_EPOCH"),
    ):
        inverse = "1 / mas2" if name == "PARALLAX" else "yr2 / mas2"
        columns += [
            Column(name, "float32", f"Reference catalogue {what}.", unit=unit),
            Column(f"{name}_IVAR", "float32", f"Inverse variance of {name}.", unit=inverse),
        ]
    return columns


SWEEP_COLUMNS: Final[tuple[Column, ...]] = (
    Column("RELEASE", "int16", "Release number: camera and filter set of a processing run."),
    Column("BRICKID", "int32", "Brick number, 1 to 662174."),
    Column("BRICKNAME", "S8", "Brick name: RRRr[mp]DDd from its centre, such as 1126p222."),
    Column("OBJID", "int32", "Number of the object within RELEASE and BRICKID."),
    Column(
        "TYPE",
        "S4",
        "Morphological model: PSF, REX, DEV, EXP, SER (DR9 on), COMP (DR8), SIMP (before), DUP.",
    ),
    Column("RA", "float64", "Right ascension, J2000.", unit="deg"),
    Column("DEC", "float64", "Declination, J2000.", unit="deg"),
    Column("RA_IVAR", "float32", "Inverse variance of RA, no cosine term.", unit="1 / deg2"),
    Column("DEC_IVAR", "float32", "Inverse variance of DEC.", unit="1 / deg2"),
    Column(
        "DCHISQ",
        "float32",
        "Chi-squared won over no source by PSF, REX, DEV, EXP, SER (DR8: COMP) models.",
        shape=(5,),
    ),
    Column("EBV", "float32", "Galactic reddening E(B-V), SFD98.", unit="mag"),
    *_bands("FLUX", "Model flux in {}, AB, not dereddened.", _OPTICAL + _WISE, _NMGY),
    *_bands("FLUX_IVAR", "Inverse variance of the flux in {}.", _OPTICAL + _WISE, _NMGY_IVAR),
    *_bands("MW_TRANSMISSION", "Galactic transmission in {}, 0 to 1.", _OPTICAL + _WISE),
    *_bands("NOBS", "Images at the central pixel in {}.", _OPTICAL + _WISE, dtype="int16"),
    *_bands("RCHISQ", "Profile-weighted chi-squared per pixel in {}.", _OPTICAL + _WISE),
    *_bands("FRACFLUX", "Flux from other sources over total flux in {}.", _OPTICAL + _WISE),
    *_bands("FRACMASKED", "Profile-weighted fraction of masked pixels in {}."),
    *_bands("FRACIN", "Fraction of the flux within the blob in {}."),
    *_bands(
        "ANYMASK", "Set in any image of the central pixel in {}.", dtype="int16", bits=_DQ_BITS
    ),
    *_bands(
        "ALLMASK", "Set in all images of the central pixel in {}.", dtype="int16", bits=_DQ_BITS
    ),
    *_bands("WISEMASK", "Bright-star mask in {}.", _WISE[:2], dtype="uint8", bits=_WISE_BITS),
    *_bands("PSFSIZE", "Weighted mean PSF FWHM in {}.", unit="arcsec"),
    *_bands("PSFDEPTH", "Inverse variance of a point source's flux in {}.", unit=_NMGY_IVAR),
    *_bands("GALDEPTH", "As PSFDEPTH, for a 0.45 arcsec round galaxy in {}.", unit=_NMGY_IVAR),
    *_bands("PSFDEPTH", "Inverse variance of a point source's flux in {}.", _WISE[:2], _NMGY_IVAR),
    Column("WISE_COADD_ID", "S8", "Name of the unWISE coadd."),
    *_shape("SHAPE", "the galaxy model of TYPE (DR9 on)"),
    *_bands("FIBERFLUX", "Flux of this object in a 1.5 arcsec fibre, {}.", unit=_NMGY),
    *_bands("FIBERTOTFLUX", "Flux of all sources in a 1.5 arcsec fibre, {}.", unit=_NMGY),
    *_gaia(),
    Column(
        "MASKBITS",
        "int32",
        "Bits of the maskbits coadd that the object touches (int16 before DR10).",
        bits=MASKBITS,
    ),
    Column("FITBITS", "int16", "Peculiarities of the fit (DR9 on).", bits=_FIT_BITS),
    Column("SERSIC", "float32", "Sersic index of a SER model (DR9 on)."),
    Column("SERSIC_IVAR", "float32", "Inverse variance of SERSIC."),
    Column("FRACDEV", "float32", "Fraction of the de Vaucouleurs model (up to DR8)."),
    Column("FRACDEV_IVAR", "float32", "Inverse variance of FRACDEV."),
    *_shape("SHAPEDEV", "the de Vaucouleurs model (up to DR8)"),
    *_shape("SHAPEEXP", "the exponential model (up to DR8)"),
)
"""Columns of the sweeps of DR10, then those that only DR8 and earlier have."""

SWEEP_CORE: Final = (
    *("RELEASE", "BRICKID", "BRICKNAME", "OBJID", "TYPE", "RA", "DEC"),
    *(f"{name}_{band}" for name in ("FLUX", "MW_TRANSMISSION") for band in "GRZ"),
)
"""Columns no catalogue can do without."""


def fit(values: NDArray[Any], column: Column) -> NDArray[Any] | None:
    """
    Give values the declared dtype, if not one of them changes by it.

    Parameters
    ----------
    values : ndarray
        Values as read.
    column : Column
        What they should be: releases differ in the width of their integers.

    Returns
    -------
    ndarray or None
        The same values; None if the dtype cannot hold them.
    """
    declared = column.numpy_dtype
    if declared.kind == "S":
        text = np.asarray(values, dtype="S")
        return text.astype(declared) if np.array_equal(text.astype(declared), text) else None
    # A scaled integer column (signed bytes, in DR8) comes as whole float64.
    from_kinds = {"i": "iuf", "u": "iuf"}.get(declared.kind, declared.kind)
    if values.dtype.kind not in from_kinds:
        return None
    with np.errstate(all="ignore"):
        cast = values.astype(declared)
        same = np.array_equal(cast.astype(values.dtype), values, equal_nan=declared.kind == "f")
    return cast if same else None


def missing(n_objects: int, column: Column) -> NDArray[Any]:
    """
    Say of a column that the catalogue does not have it.

    Parameters
    ----------
    n_objects : int
        How many objects.
    column : Column
        The column.

    Returns
    -------
    ndarray
        NaN, or -1, or 255 in unsigned bytes (so that no mask looks clean), or an empty
        string; False in a flag.
    """
    shape = (n_objects, *(size for size in column.shape if isinstance(size, int)))
    value: Any = {"f": np.nan, "i": -1, "u": 255, "b": False, "S": b""}[column.numpy_dtype.kind]
    return np.full(shape, value, column.numpy_dtype)


def object_ids(
    release: NDArray[Any], brickid: NDArray[Any], objid: NDArray[Any]
) -> NDArray[np.bytes_]:
    """
    Write the key of the Legacy Surveys, unique over releases, as text.

    Parameters
    ----------
    release, brickid, objid : ndarray of int
        The three parts of the key.

    Returns
    -------
    ndarray of bytes
        ``release-brickid-objid``.

    Examples
    --------
    >>> object_ids(np.array([10000]), np.array([330368]), np.array([42]))
    array([b'10000-330368-42'], dtype='|S28')
    """
    keys = zip(release.tolist(), brickid.tolist(), objid.tolist(), strict=True)
    return np.array(["-".join(map(str, key)).encode() for key in keys], dtype="S28")


OBJECT_ID: Final = Column(
    "object_id",
    "S28",
    "release-brickid-objid, the survey's unique key, as text.",
    derived=True,
)
