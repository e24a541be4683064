"""
What MaNGA's files hold: keywords, catalogue columns, maps and the names of mask bits.

Data models: DRP cubes and drpall https://data.sdss.org/datamodel/files/MANGA_SPECTRO_REDUX/ ,
DAP maps and dapall https://sdss-mangadap.readthedocs.io/en/latest/datamodel.html . Facts only;
`_manga_files` reads by them, `manga` declares columns from them. Where the releases differ, the
tables say so.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple


class Key(NamedTuple):
    """A number or string of one object: a header keyword, or a column of a catalogue."""

    name: str
    dtype: str
    doc: str
    unit: str = ""
    missing: Any = None
    """What stands where there is none; None: there must be one."""
    other: str = ""
    """What stands for it in older files, which do not have it."""


NAN = math.nan
CUBE_KEYS = (
    Key("PLATEIFU", "S16", "Plate and IFU: the observation."),
    Key("MANGAID", "S16", "MaNGA identifier: the galaxy, the same in repeated observations."),
    Key("OBJRA", "float64", "Right ascension of the galaxy (J2000).", "deg"),
    Key("OBJDEC", "float64", "Declination of the galaxy (J2000).", "deg"),
    Key("IFURA", "float64", "Right ascension of the IFU; NaN where not stated.", "deg", NAN),
    Key("IFUDEC", "float64", "Declination of the IFU; NaN where not stated.", "deg", NAN),
    Key("PLATEID", "int32", "Plate."),
    Key("IFUDSGN", "int32", "IFU design; its leading digits are the number of fibres."),
    Key("EBVGAL", "float64", "Galactic reddening E(B-V).", "mag", NAN),
    Key("VERSDRP3", "S16", "Version of the data reduction pipeline (3d stage).", "", b""),
    Key("DRP3QUAL", "int32", "Quality of the reduction (MANGA_DRP3QUAL)."),
    Key("MNGTARG1", "int64", "Targeting bits of the main samples.", "", 0, "MNGTRG1"),
    Key("MNGTARG2", "int64", "Targeting bits of stars and calibrators.", "", 0, "MNGTRG2"),
    Key("MNGTARG3", "int64", "Targeting bits of ancillary programmes.", "", 0, "MNGTRG3"),
    Key("NEXP", "int32", "Number of exposures combined.", "", 0),
    Key("EXPTIME", "float64", "Total exposure time.", "s", NAN),
    Key("MJDMED", "int32", "Modified Julian date of the median exposure.", "d", -9999),
    Key("SEEMED", "float64", "Median seeing at the guider.", "arcsec", NAN),
)
"""From the primary header of the cube; the maps repeat it and serve where there is no cube."""

MAPS_KEYS = (
    Key("DAPTYPE", "S40", "Analysis: binning, kinematic and continuum templates.", "", b""),
    Key("VERSDAP", "S16", "Version of the data analysis pipeline.", "", b""),
    Key("DAPQUAL", "int32", "Quality of the analysis (MANGA_DAPQUAL); 0 without maps.", "", 0),
    Key("SCINPVEL", "float64", "Input redshift cz, the zero of all velocities.", "km / s", NAN),
    Key("REFF", "float64", "Effective radius used for R/Re.", "arcsec", NAN),
    Key("ECOOPA", "float64", "Position angle of the elliptical coordinates.", "deg", NAN),
    Key("ECOOELL", "float64", "Ellipticity 1 - b/a of the elliptical coordinates.", "", NAN),
)
"""From the primary header of the maps."""

DRPALL = (
    Key("nsa_z", "float64", "Heliocentric redshift (NASA-Sloan Atlas).", "", NAN),
    Key("z", "float64", "Redshift of the target: nsa_z, or an ancillary one.", "", NAN, "nsa_z"),
    Key("nsa_nsaid", "int64", "Identifier in the NASA-Sloan Atlas.", "", -9999),
    Key("nsa_elpetro_mass", "float64", "Stellar mass for h = 1.", "solMass", NAN),
    Key("nsa_elpetro_th50_r", "float64", "Half-light radius in r.", "arcsec", NAN),
    Key("nsa_elpetro_ba", "float64", "Axis ratio b/a.", "", NAN),
    Key("nsa_elpetro_phi", "float64", "Position angle, east of north.", "deg", NAN),
    Key("nsa_sersic_n", "float64", "Index of the Sersic fit in r.", "", NAN),
    Key("nsa_elpetro_flux", "float64", "Elliptical Petrosian flux, FNugriz.", "nanomaggy", NAN),
    Key("nsa_elpetro_flux_ivar", "float64", "Its inverse variance.", "1 / nanomaggy2", NAN),
)
"""From drpall-<version>.fits [MANGA]; vectors run over the bands FNugriz."""

VECTORS = {"nsa_elpetro_flux": 7, "nsa_elpetro_flux_ivar": 7}

DAPALL = (
    Key("DAPDONE", "bool", "The analysis was completed.", "", False),
    Key("Z", "float64", "Redshift that the analysis began with.", "", NAN),
    Key("STELLAR_Z", "float64", "Stellar redshift within 2.5 arcsec.", "", NAN),
    Key("HA_Z", "float64", "H-alpha redshift within 2.5 arcsec.", "", NAN),
    Key("STELLAR_SIGMA_1RE", "float64", "Stellar dispersion within 1 Re.", "km / s", NAN),
    Key("HA_GSIGMA_1RE", "float64", "H-alpha dispersion within 1 Re.", "km / s", NAN),
    Key("RCOV90", "float64", "Radius within which 90 % of ellipses are seen.", "arcsec", NAN),
    Key("LDIST_Z", "float64", "Luminosity distance of Z for h = 1.", "Mpc", NAN),
    Key("SFR_1RE", "float64", "Star formation rate within 1 Re for h = 1.", "solMass / yr", NAN),
    Key("SFR_TOT", "float64", "Star formation rate in the field for h = 1.", "solMass / yr", NAN),
)
"""From dapall-<versions>.fits, of the analysis that the maps name."""


class Map(NamedTuple):
    """
    One HDU of the maps.

    `form`: ``2`` one plane in every release, ``3`` channels in every release, ``o`` channels in
    some releases and no such HDU in others. `with_`: ``i`` has inverse variances, ``m`` a mask.
    """

    name: str
    form: str
    doc: str
    unit: str = ""
    with_: str = ""
    dtype: str = "float32"
    mixed: bool = False
    """Channels have units of their own."""

    @property
    def has_ivar(self) -> bool:
        return "i" in self.with_

    @property
    def has_mask(self) -> bool:
        return "m" in self.with_

    @property
    def channel(self) -> str:
        """Name of the dimension that counts its channels; empty for a single plane."""
        return "" if self.form == "2" else f"{self.name.lower()}_channel"

    @property
    def labels(self) -> str:
        """Name of the dimension of its labels, of length 0 where there is no such HDU."""
        return self.channel or "single_map"


FLUX_DENSITY = "1e-17 erg / (s cm2 Angstrom)"
LINE_FLUX = "1e-17 erg / (s cm2)"
IVAR_UNITS = {
    "": "",
    FLUX_DENSITY: "1e34 s2 cm4 Angstrom2 / erg2",
    LINE_FLUX: "1e34 s2 cm4 / erg2",
    "km / s": "s2 / km2",
    "Angstrom": "1 / Angstrom2",
}

MAPS = (
    Map("SPX_SKYCOO", "3", "Offset of each spaxel from the galaxy: to the east, north.", "arcsec"),
    Map("SPX_ELLCOO", "3", "Elliptical coordinates of each spaxel.", mixed=True),
    Map("SPX_MFLUX", "2", "g-weighted mean flux per spaxel.", FLUX_DENSITY, "i"),
    Map("SPX_SNR", "2", "g-weighted mean signal to noise per pixel of each spaxel."),
    Map("BINID", "3", "Number of the bin each spaxel is in at each step, -1 none.", dtype="int32"),
    Map("BIN_LWSKYCOO", "3", "Light-weighted offset of each bin: to the east, north.", "arcsec"),
    Map("BIN_LWELLCOO", "3", "Light-weighted elliptical coordinates of each bin.", mixed=True),
    Map("BIN_AREA", "2", "Area of each bin.", "arcsec2"),
    Map("BIN_FAREA", "2", "Share of the expected area that the bin covers."),
    Map("BIN_MFLUX", "2", "g-weighted mean flux per spaxel of each bin.", FLUX_DENSITY, "im"),
    Map("BIN_SNR", "2", "g-weighted mean signal to noise per pixel of each bin."),
    Map("STELLAR_VEL", "2", "Stellar velocity relative to SCINPVEL.", "km / s", "im"),
    Map("STELLAR_SIGMA", "2", "Stellar velocity dispersion, uncorrected.", "km / s", "im"),
    Map("STELLAR_SIGMACORR", "3", "Correction of STELLAR_SIGMA, in quadrature.", "km / s"),
    Map("STELLAR_FOM", "o", "Figures of merit of the stellar fit (DR17).", mixed=True),
    Map("STELLAR_CONT_FRESID", "o", "Fractional residuals of the stellar fit (to DR16)."),
    Map("STELLAR_CONT_RCHI2", "o", "Reduced chi-square of the stellar fit (to DR16)."),
    Map("EMLINE_SFLUX", "3", "Summed line flux per spaxel.", LINE_FLUX, "im"),
    Map("EMLINE_SEW", "3", "Equivalent width of the summed flux.", "Angstrom", "im"),
    Map("EMLINE_SEW_CNT", "o", "Continuum at EMLINE_SEW, per spaxel (DR17).", FLUX_DENSITY),
    Map("EMLINE_GFLUX", "3", "Gaussian line flux per spaxel.", LINE_FLUX, "im"),
    Map("EMLINE_GEW", "3", "Equivalent width of the Gaussian flux.", "Angstrom", "im"),
    Map("EMLINE_GEW_CNT", "o", "Continuum at EMLINE_GEW, per spaxel (DR17).", FLUX_DENSITY),
    Map("EMLINE_GVEL", "3", "Line velocity relative to SCINPVEL.", "km / s", "im"),
    Map("EMLINE_GSIGMA", "3", "Line velocity dispersion, uncorrected.", "km / s", "im"),
    Map("EMLINE_INSTSIGMA", "3", "Instrumental dispersion at the line.", "km / s"),
    Map("EMLINE_TPLSIGMA", "3", "Dispersion of the line in the template.", "km / s"),
    Map("EMLINE_GA", "o", "Amplitude of the Gaussian, per spaxel (DR17).", FLUX_DENSITY),
    Map("EMLINE_GANR", "o", "Amplitude of the Gaussian over the noise (DR17)."),
    Map("EMLINE_FOM", "o", "Figures of merit of the line fit (DR17).", mixed=True),
    Map("EMLINE_LFOM", "o", "Reduced chi-square about each line (DR17)."),
    Map("SPECINDEX", "3", "Spectral index.", with_="im", mixed=True),
    Map("SPECINDEX_CORR", "3", "Correction of the index for dispersion.", mixed=True),
    Map("SPECINDEX_MODEL", "o", "Spectral index of the model (DR17).", mixed=True),
    Map("SPECINDEX_BF", "o", "Spectral index, Burstein-Faber form (DR17).", "", "im", mixed=True),
    Map("SPECINDEX_BF_CORR", "o", "Its correction for dispersion (DR17).", mixed=True),
    Map("SPECINDEX_BF_MODEL", "o", "The same index of the model (DR17).", mixed=True),
    Map("SPECINDEX_WGT", "o", "Weight to combine the index with (DR17).", "", "im", mixed=True),
    Map("SPECINDEX_WGT_CORR", "o", "Its correction for dispersion (DR17).", mixed=True),
    Map("SPECINDEX_WGT_MODEL", "o", "The same weight of the model (DR17).", mixed=True),
)

COORDINATES = {
    "SPX_SKYCOO_X": ("SPX_SKYCOO", "On-sky X"),
    "SPX_SKYCOO_Y": ("SPX_SKYCOO", "On-sky Y"),
    "SPX_ELLCOO_R": ("SPX_ELLCOO", "Elliptical radius"),
    "SPX_ELLCOO_R_RE": ("SPX_ELLCOO", "R/Re"),
    "SPX_ELLCOO_R_KPC": ("SPX_ELLCOO", "R h/kpc"),
    "SPX_ELLCOO_THETA": ("SPX_ELLCOO", "Elliptical azimuth"),
}
"""Columns along the spaxels of the cube, and the channel of the maps each is taken from."""

DRP3PIXMASK = {"NOCOV": 0, "LOWCOV": 1, "DEADFIBER": 2, "FORESTAR": 3, "DONOTUSE": 10}
"""MANGA_DRP3PIXMASK."""

DAPPIXMASK = {
    "NOCOV": 0,
    "LOWCOV": 1,
    "DEADFIBER": 2,
    "FORESTAR": 3,
    "NOVALUE": 4,
    "UNRELIABLE": 5,
    "MATHERROR": 6,
    "FITFAILED": 7,
    "NEARBOUND": 8,
    "NOCORRECTION": 9,
    "MULTICOMP": 10,
    "DONOTUSE": 30,
}
"""MANGA_DAPPIXMASK."""

QUALITY_BITS = {
    "DRP3QUAL": {
        "RETIRED": 0,
        "BADDEPTH": 1,
        "SKYSUBBAD": 2,
        "HIGHSCAT": 3,
        "BADASTROM": 4,
        "VARIABLELSF": 5,
        "BADOMEGA": 6,
        "BADSET": 7,
        "BADFLUX": 8,
        "BADPSF": 9,
        "MANYDEAD": 10,
        "RETIRED2": 11,
        "BLOWTORCH": 12,
        "SEVEREBT": 13,
        "UNUSUAL": 14,
        "CRITICAL": 30,
    },
    "DAPQUAL": {
        "FORESTAR": 0,
        "BADZ": 1,
        "LINELESS": 2,
        "PPXFFAIL": 3,
        "SINGLEBIN": 4,
        "BADGEOM": 5,
        "DRPCRIT": 28,
        "DAPCRIT": 29,
        "CRITICAL": 30,
    },
}
"""MANGA_DRP3QUAL and MANGA_DAPQUAL."""
