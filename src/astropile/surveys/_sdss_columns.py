"""
Columns of the tables that describe an SDSS spectrum, and the names of mask bits.

Three tables hold one row per spectrum: ``specObj`` of a data release, and HDU 2 of a ``spec``
file, which is a row of ``specObj`` (SDSS-I/II) or of ``spAll`` (BOSS, eBOSS). `SPECTRUM` is in
all of them; `SPECOBJ`, `SPALL` and the imaging columns `IMAGING` only in some.

Data model: https://data.sdss.org/datamodel/files/ (SPECTRO_REDUX, BOSS_SPECTRO_REDUX).
"""

from __future__ import annotations

from typing import Final

from astropile.schema import Column

PIXEL_BITS: Final = {
    "NOPLUG": 0,
    "BADTRACE": 1,
    "BADFLAT": 2,
    "BADARC": 3,
    "MANYBADCOLUMNS": 4,
    "MANYREJECTED": 5,
    "LARGESHIFT": 6,
    "BADSKYFIBER": 7,
    "NEARWHOPPER": 8,
    "WHOPPER": 9,
    "SMEARIMAGE": 10,
    "SMEARHIGHSN": 11,
    "SMEARMEDSN": 12,
    "NEARBADPIXEL": 16,
    "LOWFLAT": 17,
    "FULLREJECT": 18,
    "PARTIALREJECT": 19,
    "SCATTEREDLIGHT": 20,
    "CROSSTALK": 21,
    "NOSKY": 22,
    "BRIGHTSKY": 23,
    "NODATA": 24,
    "COMBINEREJ": 25,
    "BADFLUXFACTOR": 26,
    "BADSKYCHI": 27,
    "REDMONSTER": 28,
}
"""SPPIXMASK: bits 0-15 speak of the fibre, 16-31 of the pixel."""

ZWARNING_BITS: Final = {
    "SKY": 0,
    "LITTLE_COVERAGE": 1,
    "SMALL_DELTA_CHI2": 2,
    "NEGATIVE_MODEL": 3,
    "MANY_OUTLIERS": 4,
    "Z_FITLIMIT": 5,
    "NEGATIVE_EMISSION": 6,
    "UNPLUGGED": 7,
    "BAD_TARGET": 8,
    "NODATA": 9,
}

_MAGGY, _MAGGY_IVAR = "nanomaggy", "1 / nanomaggy2"
_UGRIZ = (5,)

_Row = tuple[str, str, str, str, tuple[int, ...]]
"""Name, dtype, unit, doc, shape."""


def _row(name: str, dtype: str, doc: str, unit: str = "", shape: tuple[int, ...] = ()) -> _Row:
    return (name, dtype, unit, doc, shape)


def _columns(rows: tuple[_Row, ...], note: str = "", *, light: bool | None = None) -> list[Column]:
    bits = {"ZWARNING": ZWARNING_BITS, "ZWARNING_NOQSO": ZWARNING_BITS}
    bits |= {"ANYANDMASK": PIXEL_BITS, "ANYORMASK": PIXEL_BITS}
    return [
        Column(
            name,
            dtype,
            doc + note,
            shape=shape,
            unit=unit,
            bits=bits.get(name, {}),
            light=None if shape else light,
        )
        for name, dtype, unit, doc, shape in rows
    ]


SPECTRUM: Final = tuple(
    _columns(
        (
            _row("SPECOBJID", "S22", "Identifier of the spectrum, in decimal digits."),
            _row("PLATE", "int32", "Plate number."),
            _row("MJD", "int32", "MJD of the (last) observation.", "d"),
            _row("FIBERID", "int32", "Fibre number, from 1."),
            _row("RUN2D", "S16", "Version of the two-dimensional reduction."),
            _row("RUN1D", "S16", "Version of the one-dimensional reduction."),
            _row("PLUG_RA", "float64", "Right ascension of the fibre, J2000.", "deg"),
            _row("PLUG_DEC", "float64", "Declination of the fibre, J2000.", "deg"),
            _row("CLASS", "S16", "Class of the best fit: GALAXY, QSO or STAR."),
            _row("SUBCLASS", "S32", "Subclass of the best fit."),
            _row("Z", "float32", "Redshift of the best fit, heliocentric."),
            _row("Z_ERR", "float32", "Error of Z; negative where the fit failed."),
            _row("ZWARNING", "int32", "Warnings on Z; 0 is none."),
            _row("CHUNK", "S32", "Tiling chunk."),
            _row("PROGRAMNAME", "S32", "Program the plate belongs to."),
            _row("PLATEQUALITY", "S8", "Quality of the plate: good, marginal or bad."),
            _row("PLATESN2", "float32", "Squared signal-to-noise of the plate, worst camera."),
            _row("DEREDSN2", "float32", "PLATESN2 corrected for Galactic extinction."),
            _row("LAMBDA_EFF", "float32", "Wavelength the hole was placed for.", "Angstrom"),
            _row("BLUEFIBER", "int32", "1 where a blue fibre was asked for."),
            _row("ZOFFSET", "float32", "Thickness of the washer behind the fibre.", "um"),
            _row("SPECPRIMARY", "uint8", "1 for the best spectrum of the object."),
            _row("SPECBOSS", "uint8", "1 for the best BOSS spectrum of the object."),
            _row("BOSS_SPECOBJ_ID", "int32", "Index within the BOSS spectra."),
            _row("NSPECOBS", "int16", "Number of spectra of the object."),
            _row("CX", "float64", "x of the unit vector to the fibre, J2000."),
            _row("CY", "float64", "y of the unit vector to the fibre, J2000."),
            _row("CZ", "float64", "z of the unit vector to the fibre, J2000."),
            _row("XFOCAL", "float32", "x of the hole in the focal plane.", "mm"),
            _row("YFOCAL", "float32", "y of the hole in the focal plane.", "mm"),
            _row("TILE", "int32", "Tile number."),
            _row("PRIMTARGET", "int32", "Primary target bits."),
            _row("SECTARGET", "int32", "Secondary target bits."),
            _row("BOSS_TARGET1", "int64", "BOSS target bits."),
            _row("BOSS_TARGET2", "int64", "BOSS target bits, always 0."),
            _row("ANCILLARY_TARGET1", "int64", "BOSS ancillary target bits."),
            _row("ANCILLARY_TARGET2", "int64", "BOSS ancillary target bits, continued."),
            _row("RCHI2", "float32", "Reduced chi squared of the best fit."),
            _row("DOF", "int32", "Degrees of freedom of the best fit."),
            _row("RCHI2DIFF", "float32", "Second best minus best reduced chi squared."),
            _row("TFILE", "S32", "File of the template."),
            _row("TCOLUMN", "int32", "Columns of the template used; -1: none.", "", (10,)),
            _row("NPOLY", "int32", "Number of polynomial terms in the fit."),
            _row("THETA", "float32", "Coefficients of templates and polynomials.", "", (10,)),
            _row("VDISP", "float32", "Velocity dispersion.", "km / s"),
            _row("VDISP_ERR", "float32", "Error of VDISP; negative: invalid fit.", "km / s"),
            _row("VDISPZ", "float32", "Redshift of the dispersion fit."),
            _row("VDISPZ_ERR", "float32", "Error of VDISPZ."),
            _row("VDISPCHI2", "float32", "Chi squared of the dispersion fit."),
            _row("VDISPNPIX", "float32", "Pixels in the dispersion fit."),
            _row("VDISPDOF", "int32", "Degrees of freedom of the dispersion fit."),
            _row("WAVEMIN", "float32", "Least observed wavelength, vacuum.", "Angstrom"),
            _row("WAVEMAX", "float32", "Greatest observed wavelength, vacuum.", "Angstrom"),
            _row("WCOVERAGE", "float32", "Covered wavelengths, in log10.", "dex"),
            _row("SN_MEDIAN_ALL", "float32", "Median signal-to-noise per pixel."),
            _row("SN_MEDIAN", "float32", "Median signal-to-noise in ugriz.", "", _UGRIZ),
            _row("CHI68P", "float32", "68th percentile of abs(chi) of the fit."),
            _row("FRACNSIGMA", "float32", "Fraction of pixels off by > 1..10 sigma.", "", (10,)),
            _row("FRACNSIGHI", "float32", "As FRACNSIGMA, above the model.", "", (10,)),
            _row("FRACNSIGLO", "float32", "As FRACNSIGMA, below the model.", "", (10,)),
            _row("SPECTROFLUX", "float32", "Spectrum through ugriz.", _MAGGY, _UGRIZ),
            _row("SPECTROFLUX_IVAR", "float32", "Its inverse variance.", _MAGGY_IVAR, _UGRIZ),
            _row("SPECTROSYNFLUX", "float32", "Best fit through ugriz.", _MAGGY, _UGRIZ),
            _row("SPECTROSYNFLUX_IVAR", "float32", "Its inverse variance.", _MAGGY_IVAR, _UGRIZ),
            _row("SPECTROSKYFLUX", "float32", "Sky through ugriz.", _MAGGY, _UGRIZ),
            _row("ANYANDMASK", "int32", "and_mask of all pixels, OR-ed."),
            _row("ANYORMASK", "int32", "or_mask of all pixels, OR-ed."),
            _row("SPEC1_G", "float32", "Squared signal-to-noise, spectrograph 1, g."),
            _row("SPEC1_R", "float32", "Squared signal-to-noise, spectrograph 1, r."),
            _row("SPEC1_I", "float32", "Squared signal-to-noise, spectrograph 1, i."),
            _row("SPEC2_G", "float32", "Squared signal-to-noise, spectrograph 2, g."),
            _row("SPEC2_R", "float32", "Squared signal-to-noise, spectrograph 2, r."),
            _row("SPEC2_I", "float32", "Squared signal-to-noise, spectrograph 2, i."),
            _row("ELODIE_FILENAME", "S32", "Best ELODIE template: file."),
            _row("ELODIE_OBJECT", "S32", "Best ELODIE template: star."),
            _row("ELODIE_SPTYPE", "S16", "Best ELODIE template: spectral type."),
            _row("ELODIE_BV", "float32", "Best ELODIE template: B-V.", "mag"),
            _row("ELODIE_TEFF", "float32", "Best ELODIE template: temperature.", "K"),
            _row("ELODIE_LOGG", "float32", "Best ELODIE template: log10 of gravity, cgs.", "dex"),
            _row("ELODIE_FEH", "float32", "Best ELODIE template: [Fe/H].", "dex"),
            _row("ELODIE_Z", "float32", "Redshift of the ELODIE fit."),
            _row("ELODIE_Z_ERR", "float32", "Error of ELODIE_Z; not > 0: invalid."),
            _row("ELODIE_Z_MODELERR", "float32", "Scatter of z over the 12 best templates."),
            _row("ELODIE_RCHI2", "float32", "Reduced chi squared of the ELODIE fit."),
            _row("ELODIE_DOF", "int32", "Degrees of freedom of the ELODIE fit."),
            _row("Z_NOQSO", "float32", "Redshift of the best fit that is no QSO."),
            _row("Z_ERR_NOQSO", "float32", "Error of Z_NOQSO."),
            _row("ZWARNING_NOQSO", "int32", "Warnings on Z_NOQSO."),
            _row("CLASS_NOQSO", "S16", "Class of the best fit that is no QSO."),
            _row("SUBCLASS_NOQSO", "S32", "Subclass of the best fit that is no QSO."),
            _row("RCHI2DIFF_NOQSO", "float32", "As RCHI2DIFF, without QSO templates."),
            _row("CALIBFLUX", "float32", "Imaging flux used to calibrate.", _MAGGY, _UGRIZ),
            _row("CALIBFLUX_IVAR", "float32", "Its inverse variance.", _MAGGY_IVAR, _UGRIZ),
        )
    )
)
"""Columns in every table: a file that lacks one is not what it should be."""

SPECOBJ: Final = tuple(
    _columns(
        (
            _row("SURVEY", "S16", "Survey: sdss, segue1, segue2, boss, eboss."),
            _row("INSTRUMENT", "S8", "Spectrograph: SDSS or BOSS."),
            _row("PLATERUN", "S32", "Drill run of the plate."),
            _row("SNTURNOFF", "float32", "Signal-to-noise of main-sequence turn-off stars."),
            _row("NTURNOFF", "int32", "Number of main-sequence turn-off stars."),
            _row("SPECSDSS", "uint8", "1 for the best spectrum of the SDSS spectrograph."),
            _row("SPECLEGACY", "uint8", "1 for the best Legacy spectrum."),
            _row("SPECSEGUE", "uint8", "1 for the best SEGUE spectrum."),
            _row("SPECSEGUE1", "uint8", "1 for the best SEGUE-1 spectrum."),
            _row("SPECSEGUE2", "uint8", "1 for the best SEGUE-2 spectrum."),
            _row("FLUXOBJID", "S22", "Imaging object by flux, DR8 and later."),
            _row("BESTOBJID", "S22", "Imaging object by position, DR8 and later."),
            _row("TARGETOBJID", "S22", "Imaging object targeted, DR7 and earlier."),
            _row("PLATEID", "S22", "Identifier of plate and MJD."),
            _row("FIRSTRELEASE", "S8", "Data release that first held the spectrum."),
            _row("DESIGNID", "int32", "Design of the plate; -1: none."),
            _row("SOURCETYPE", "S32", "What the target was chosen as."),
            _row("TARGETTYPE", "S16", "SCIENCE, STANDARD or SKY."),
            _row("LEGACY_TARGET1", "int32", "Legacy target bits."),
            _row("LEGACY_TARGET2", "int32", "Legacy calibration target bits."),
            _row("SPECIAL_TARGET1", "int64", "Special program target bits."),
            _row("SPECIAL_TARGET2", "int64", "Special program calibration target bits."),
            _row("SEGUE1_TARGET1", "int32", "SEGUE-1 target bits."),
            _row("SEGUE1_TARGET2", "int32", "SEGUE-1 calibration target bits."),
            _row("SEGUE2_TARGET1", "int32", "SEGUE-2 target bits."),
            _row("SEGUE2_TARGET2", "int32", "SEGUE-2 calibration target bits."),
            _row("MARVELS_TARGET1", "int32", "MARVELS target bits."),
            _row("MARVELS_TARGET2", "int32", "MARVELS calibration target bits."),
            _row("SPECTROGRAPHID", "int16", "Spectrograph, 1 or 2."),
            _row("OBJID", "int32", "Target: run, rerun, camcol, field, id.", "", (5,)),
            _row("Z_PERSON", "float32", "Redshift by eye."),
            _row("CLASS_PERSON", "int32", "Class by eye: 1 star, 3 QSO, 4 galaxy; 0 not seen."),
            _row("Z_CONF_PERSON", "int32", "Confidence of Z_PERSON, 1 to 4; 0 not seen."),
            _row("COMMENTS_PERSON", "S200", "Comments by eye."),
        ),
        " Blank (0, NaN, empty) where SUMMARY is not SPECOBJ.",
    )
)

SPALL: Final = tuple(
    _columns(
        (
            _row("EBOSS_TARGET0", "int64", "SEQUELS target bits."),
            _row("EBOSS_TARGET1", "int64", "eBOSS target bits."),
            _row("EBOSS_TARGET2", "int64", "TDSS and SPIDERS target bits."),
            _row("EBOSS_TARGET_ID", "int64", "eBOSS target identifier."),
            _row("THING_ID_TARGETING", "int64", "THING_ID used for targeting."),
            _row("THING_ID", "int32", "Unique imaging source; not > 0: none."),
        ),
        " 0 where the spectrum's table has no such column.",
    )
    + _columns(
        (
            _row("OBJTYPE", "S16", "What the target was chosen as."),
            _row("ZNUM_NOQSO", "int32", "Rank of Z_NOQSO among all redshifts."),
            _row("VDISP_LNL", "float32", "Log-likelihood of VDISP 0, 25, .. km/s.", "", (35,)),
            _row("SPALL.OBJID", "S22", "Imaging object; OBJID in SPALL."),
        ),
        " Blank (0, NaN, empty) where SUMMARY is not SPALL.",
    )
)

_PER_OBJECT = (
    _row("PARENTID", "S22", "Imaging object this one was deblended from."),
    _row("FIELDID", "S22", "Identifier of the imaging field."),
    _row("SKYVERSION", "uint8", "Layer of the imaging catalogue."),
    _row("MODE", "uint8", "1 primary, 2 secondary, 3 other."),
    _row("CLEAN", "uint8", "1 where the photometry is clean."),
    _row("RUN", "int16", "Imaging run."),
    _row("RERUN", "S8", "Imaging rerun."),
    _row("CAMCOL", "uint8", "Camera column."),
    _row("FIELD", "int16", "Field number."),
    _row("ID", "int16", "Object within the field."),
    _row("PARENT", "int16", "ID of the parent; -1: none."),
    _row("NCHILD", "int16", "Number of children."),
    _row("OBJC_TYPE", "int32", "Type: 3 galaxy, 6 star."),
    _row("OBJC_PROB_PSF", "float32", "Probability of a star; not used."),
    _row("OBJC_FLAGS", "int32", "Photometric flags."),
    _row("OBJC_FLAGS2", "int32", "Photometric flags, continued."),
    _row("OBJC_ROWC", "float32", "Row of the centre in r.", "pixel"),
    _row("OBJC_ROWCERR", "float32", "Error of OBJC_ROWC.", "pixel"),
    _row("OBJC_COLC", "float32", "Column of the centre in r.", "pixel"),
    _row("OBJC_COLCERR", "float32", "Error of OBJC_COLC.", "pixel"),
    _row("ROWVDEG", "float32", "Motion along rows.", "deg / day"),
    _row("ROWVDEGERR", "float32", "Error of ROWVDEG.", "deg / day"),
    _row("COLVDEG", "float32", "Motion along columns.", "deg / day"),
    _row("COLVDEGERR", "float32", "Error of COLVDEG.", "deg / day"),
    _row("RA", "float64", "Right ascension in the imaging, ICRS.", "deg"),
    _row("DEC", "float64", "Declination in the imaging, ICRS.", "deg"),
    _row("RAERR", "float64", "Error of RA times cos(DEC).", "arcsec"),
    _row("DECERR", "float64", "Error of DEC.", "arcsec"),
    _row("L", "float64", "Galactic longitude.", "deg"),
    _row("B", "float64", "Galactic latitude.", "deg"),
    _row("RESOLVE_STATUS", "int32", "Resolve bits."),
    _row("IFIELD", "int32", "Index of the field."),
    _row("BALKAN_ID", "int32", "Index of the balkan."),
    _row("NOBSERVE", "int32", "Number of imaging observations."),
    _row("NDETECT", "int32", "Number of imaging detections."),
    _row("NEDGE", "int32", "Number of observations at an edge."),
    _row("SCORE", "float32", "Score of the field."),
)

_PER_BAND = (
    ("ROWC", "float32", "pixel", "Row of the centre"),
    ("ROWCERR", "float32", "pixel", "Error of ROWC"),
    ("COLC", "float32", "pixel", "Column of the centre"),
    ("COLCERR", "float32", "pixel", "Error of COLC"),
    ("PETROTHETA", "float32", "arcsec", "Petrosian radius"),
    ("PETROTHETAERR", "float32", "arcsec", "Error of PETROTHETA"),
    ("PETROTH50", "float32", "arcsec", "Radius of half the Petrosian flux"),
    ("PETROTH50ERR", "float32", "arcsec", "Error of PETROTH50"),
    ("PETROTH90", "float32", "arcsec", "Radius of 90 % of the Petrosian flux"),
    ("PETROTH90ERR", "float32", "arcsec", "Error of PETROTH90"),
    ("Q", "float32", "", "Stokes Q of the shape"),
    ("QERR", "float32", "", "Error of Q"),
    ("U", "float32", "", "Stokes U of the shape"),
    ("UERR", "float32", "", "Error of U"),
    ("M_E1", "float32", "", "Adaptive moment e1"),
    ("M_E2", "float32", "", "Adaptive moment e2"),
    ("M_E1E1ERR", "float32", "", "Covariance of e1, e1, square root"),
    ("M_E1E2ERR", "float32", "", "Covariance of e1, e2, square root with sign"),
    ("M_E2E2ERR", "float32", "", "Covariance of e2, e2, square root"),
    ("M_RR_CC", "float32", "pixel2", "Adaptive moment, sum of second moments"),
    ("M_RR_CCERR", "float32", "pixel2", "Error of M_RR_CC"),
    ("M_CR4", "float32", "", "Adaptive fourth moment"),
    ("M_E1_PSF", "float32", "", "M_E1 of the point-spread function"),
    ("M_E2_PSF", "float32", "", "M_E2 of the point-spread function"),
    ("M_RR_CC_PSF", "float32", "pixel2", "M_RR_CC of the point-spread function"),
    ("M_CR4_PSF", "float32", "", "M_CR4 of the point-spread function"),
    ("THETA_DEV", "float32", "arcsec", "Effective radius, de Vaucouleurs fit"),
    ("THETA_DEVERR", "float32", "arcsec", "Error of THETA_DEV"),
    ("AB_DEV", "float32", "", "Axis ratio, de Vaucouleurs fit"),
    ("AB_DEVERR", "float32", "", "Error of AB_DEV"),
    ("THETA_EXP", "float32", "arcsec", "Effective radius, exponential fit"),
    ("THETA_EXPERR", "float32", "arcsec", "Error of THETA_EXP"),
    ("AB_EXP", "float32", "", "Axis ratio, exponential fit"),
    ("AB_EXPERR", "float32", "", "Error of AB_EXP"),
    ("FRACDEV", "float32", "", "Weight of de Vaucouleurs in the composite model"),
    ("FLAGS", "int32", "", "Photometric flags"),
    ("FLAGS2", "int32", "", "Photometric flags, continued"),
    ("TYPE", "int32", "", "Type: 3 galaxy, 6 star"),
    ("PROB_PSF", "float32", "", "1 where the object is a star"),
    ("NPROF", "int32", "", "Number of points in the radial profile"),
    ("STAR_LNL", "float32", "", "Log-likelihood of a star"),
    ("EXP_LNL", "float32", "", "Log-likelihood of an exponential"),
    ("DEV_LNL", "float32", "", "Log-likelihood of de Vaucouleurs"),
    ("PSP_STATUS", "int32", "", "Status of the point-spread function"),
    ("PIXSCALE", "float32", "arcsec", "Pixel side"),
    ("OFFSETRA", "float32", "arcsec", "Offset of this band in right ascension"),
    ("OFFSETDEC", "float32", "arcsec", "Offset of this band in declination"),
    ("PSF_FWHM", "float32", "arcsec", "Full width at half maximum of a star"),
    ("AIRMASS", "float32", "", "Airmass"),
    ("PHI_OFFSET", "float32", "deg", "Position angle of the camera's columns"),
    ("PHI_DEV_DEG", "float32", "deg", "Position angle, de Vaucouleurs fit"),
    ("PHI_EXP_DEG", "float32", "deg", "Position angle, exponential fit"),
    ("EXTINCTION", "float32", "mag", "Galactic extinction (Schlegel et al. 1998)"),
    ("CLOUDCAM", "int32", "", "1 where the sky was clear"),
    ("CALIB_STATUS", "int32", "", "Calibration bits"),
    ("NMGYPERCOUNT", "float32", "nanomaggy", "Flux of one count"),
    ("NMGYPERCOUNT_IVAR", "float32", _MAGGY_IVAR, "Inverse variance of NMGYPERCOUNT"),
    ("TAI", "float64", "s", "Time of observation, TAI since MJD 0"),
)

_FLUXES = {
    "PSF": "point-spread function",
    "FIBER": "3 arcsec fibre",
    "FIBER2": "2 arcsec fibre",
    "CMODEL": "composite model",
    "MODEL": "best model in r",
    "PETRO": "Petrosian aperture",
    "DEV": "de Vaucouleurs model",
    "EXP": "exponential model",
}

_IMAGING: Final = (
    *_PER_OBJECT,
    *(_row(name, dtype, f"{doc}, in ugriz.", unit, _UGRIZ) for name, dtype, unit, doc in _PER_BAND),
    *(
        _row(f"{name}{suffix}", "float32", f"{what}: {doc}, in ugriz.", unit, _UGRIZ)
        for name, doc in _FLUXES.items()
        for suffix, unit, what in (
            ("FLUX", _MAGGY, "Flux"),
            ("FLUX_IVAR", _MAGGY_IVAR, "Inverse variance of the flux"),
            ("MAG", "mag", "Asinh magnitude"),
            ("MAGERR", "mag", "Error of the magnitude"),
        )
    ),
    _row("SKYFLUX", "float32", "Sky in ugriz.", "nanomaggy / arcsec2", _UGRIZ),
    _row("SKYFLUX_IVAR", "float32", "Its inverse variance.", "arcsec4 / nanomaggy2", _UGRIZ),
    _row("APERFLUX", "float32", "Flux in 8 apertures, per band.", _MAGGY, (5, 8)),
    _row("APERFLUX_IVAR", "float32", "Its inverse variance.", _MAGGY_IVAR, (5, 8)),
    _row(
        "PROFMEAN_NMGY",
        "float32",
        "Mean surface brightness in 15 rings, per band.",
        "nanomaggy / arcsec2",
        (5, 15),
    ),
    _row("PROFERR_NMGY", "float32", "Its error.", "nanomaggy / arcsec2", (5, 15)),
)


def imaging_columns(note: str, *, light: bool | None = None) -> tuple[Column, ...]:
    """
    Give the columns of the imaging catalogue, photoObj, which spAll repeats.

    Parameters
    ----------
    note : str
        What to add to each doc.
    light : bool, optional
        Whether numbers and strings of one value go into the tree's catalogue.

    Returns
    -------
    tuple of Column
        All but OBJID, THING_ID.
    """
    return tuple(_columns(_IMAGING, note, light=light))


IMAGING: Final = imaging_columns(
    " From the imaging; blank (0, NaN, empty) where SUMMARY is not SPALL.", light=False
)
