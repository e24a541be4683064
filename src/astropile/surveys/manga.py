"""
MaNGA DR17: spectra of every spaxel of a galaxy (DRP cube) and what was derived (DAP maps).

One object per observed IFU. Cubes of older releases, cubes without maps and maps without a cube
are read too; `HAS_CUBE`, `HAS_MAPS`, `HAS_DRPALL`, `HAS_DAPALL` say which there were. What the
files hold: `_manga_model`; how it is read: `_manga_files`.
"""

from __future__ import annotations

from collections.abc import Iterator

from astropile.schema import (
    BadPixels,
    Column,
    Constant,
    Formula,
    Record,
    RecordList,
    Survey,
)
from astropile.surveys._manga_files import read, units
from astropile.surveys._manga_model import (
    COORDINATES,
    CUBE_KEYS,
    DAPALL,
    DAPPIXMASK,
    DRP3PIXMASK,
    DRPALL,
    FLUX_DENSITY,
    IVAR_UNITS,
    MAPS,
    MAPS_KEYS,
    QUALITY_BITS,
    VECTORS,
    Map,
)


def _light_columns() -> Iterator[Column]:
    for key in (*CUBE_KEYS, *MAPS_KEYS):
        bits = QUALITY_BITS.get(key.name, {})
        yield Column(key.name, key.dtype, key.doc, unit=key.unit, bits=bits)
    for table, keys in (("drpall", DRPALL), ("dapall", DAPALL)):
        for key in keys:
            doc = f"{key.doc} Column {key.name} of {table}"
            doc += f"; {key.missing} if the observation is not in it."
            shape = (VECTORS[key.name],) if key.name in VECTORS else ()
            yield Column(f"{table}.{key.name}", key.dtype, doc, shape=shape, unit=key.unit)
    yield Column(
        "drpall.nsa_elpetro_flux_r",
        "float64",
        "Elliptical Petrosian flux in r: element 4 of nsa_elpetro_flux.",
        unit="nanomaggy",
        derived=True,
    )
    for name, what in (
        ("CUBE", "There was a LOGCUBE; if not, there are no spaxels and no images of bands."),
        ("MAPS", "There were DAP MAPS; if not, every map is of size 0."),
        ("DRPALL", "The observation is in drpall."),
        ("DAPALL", "The observation and its analysis are in dapall."),
    ):
        yield Column(f"HAS_{name}", "bool", what, derived=True)
    yield Column(
        "SPAXEL_SIZE",
        "float32",
        "Side of a spaxel: root of the determinant of the header's CD (or PC and CDELT) matrix, "
        "rounded to 1e-5 arcsec, as the header gives six figures.",
        unit="arcsec",
        derived=True,
    )
    yield Column(
        "LSF_SOURCE",
        "S8",
        "HDU that LSFPOST was taken or made from: LSFPOST (DR17), DISP (DR15, DR16) or SPECRES.",
        derived=True,
    )
    for name in ("ROWS", "COLUMNS"):
        yield Column(
            f"CUBE_{name}", "int16", f"Number of {name.lower()} of the cube.", derived=True
        )


def _cube_columns() -> Iterator[Column]:
    yield Column(
        "WAVE",
        "float64",
        "Wavelength in vacuum, heliocentric, observed; the same in every logarithmic cube.",
        shape=("wave",),
        unit="Angstrom",
        shared=True,
    )
    spectra = ("spaxel", "wave")
    yield Column("FLUX", "float32", "Flux density per spaxel.", shape=spectra, unit=FLUX_DENSITY)
    yield Column(
        "IVAR",
        "float32",
        "Inverse variance of FLUX.",
        shape=spectra,
        unit=IVAR_UNITS[FLUX_DENSITY],
    )
    yield Column(
        "MASK",
        "int32",
        "Quality of FLUX (MANGA_DRP3PIXMASK).",
        shape=spectra,
        bits=DRP3PIXMASK,
    )
    yield Column(
        "LSFPOST",
        "float32",
        "Width (sigma) of the line spread after integration over the pixel. In cubes of DR15 and "
        "DR16 the HDU is called DISP; older ones hold one resolution R for the whole cube, and "
        "this is WAVE / SPECRES / 2.35482, 0 where SPECRES is not positive: see LSF_SOURCE.",
        shape=spectra,
        unit="Angstrom",
    )
    for axis in ("ROW", "COLUMN"):
        yield Column(
            f"SPAXEL_{axis}",
            "int16",
            f"{axis.capitalize()} of the spaxel in the cube, from 0. Spaxels are left out where at "
            "every wavelength FLUX and IVAR are 0 and MASK has NOCOV or DONOTUSE.",
            shape=("spaxel",),
            derived=True,
        )
    for name, (hdu, channel) in COORDINATES.items():
        unit = {"R_RE": "", "R_KPC": "kpc", "THETA": "deg"}.get(name[11:], "arcsec")
        doc = f"Channel {channel!r} of {hdu} at the spaxel; NaN where the maps have none."
        if name.endswith("KPC"):
            doc += " For h = 1."
        yield Column(name, "float32", doc, shape=("spaxel",), unit=unit, derived=True)
    images = ("band", "row", "col")
    yield Column(
        "IMG_BAND",
        "S1",
        "Bands of the images, in the order u, g, r, i, z; DR17 has no u.",
        shape=("band",),
        derived=True,
    )
    for kind, what in (("IMG", "reconstructed image"), ("PSF", "reconstructed point spread")):
        yield Column(
            kind,
            "float64",
            f"{what.capitalize()} of each band: the HDUs named by a band and {kind}, exact "
            "whether the cube holds 32 or 64 bits.",
            shape=images,
            unit="nanomaggy",
            derived=True,
        )
        yield Column(f"{kind}_LABEL", "S24", f"Name of each {what}.", shape=("band",), derived=True)
    yield Column(
        "IMG_FWHM",
        "float64",
        "Full width at half maximum of the point spread in each band: keyword GFWHM and the like.",
        shape=("band",),
        unit="arcsec",
        derived=True,
    )


def _map_columns(entry: Map) -> Iterator[Column]:
    plane = ("map_row", "map_col")
    shape = (entry.channel, *plane) if entry.channel else plane
    doc, name = entry.doc, entry.name
    doc += f" Named in {name}_LABEL."
    if entry.mixed:
        doc += f" Units: {name}_UNIT."
    yield Column(name, entry.dtype, doc, shape=shape, unit=entry.unit)
    if entry.has_ivar:
        unit = IVAR_UNITS[entry.unit]
        yield Column(f"{name}_IVAR", "float32", f"Inverse variance of {name}.", shape, unit)
    if entry.has_mask:
        doc = f"Quality of {name} (MANGA_DAPPIXMASK)."
        yield Column(f"{name}_MASK", "int32", doc, shape, bits=DAPPIXMASK)
    doc = "Name of the map, or of each channel (keyword C1 or C01 after the HDU's name), in lower "
    doc += "case; none where the file has no such HDU."
    yield Column(f"{name}_LABEL", "S64", doc, shape=(entry.labels,), derived=True)
    if entry.mixed:
        doc = "Unit of each channel, as the header spells it (keyword U1 or U01, else BUNIT)."
        yield Column(f"{name}_UNIT", "S64", doc, shape=(entry.labels,), derived=True)


def _ivar(ivar: str, mask: str, top_bit: int, unit: str = "") -> Formula:
    """
    Give inverse variances that are finite, and 0 where not to be used.

    DONOTUSE is the highest bit of both masks, so a mask that has it is no smaller than the bit.
    """
    good = f"where({ivar} > 0, where(isfinite({ivar}), {ivar}, 0), 0)"
    return Formula(f"where({mask} < {1 << top_bit}, {good}, 0)" if mask else good, unit=unit)


def _map_list(entry: Map) -> RecordList:
    """
    List the channels of a map as records, none where the file had no such HDU.

    The list runs along the labels; a map without channels has one label, or none.
    """
    name = entry.name
    fields: dict[str, str | Constant | Formula | BadPixels] = {
        "label": f"{name}_LABEL",
        # Bin numbers are exact in float32, the dtype of all other maps in the list.
        "data": name if entry.dtype == "float32" else Formula(name),
        "units": f"{name}_UNIT" if entry.mixed else Constant(entry.unit),
    }
    mask = f"{name}_MASK" if entry.has_mask else ""
    if entry.has_ivar:
        fields["ivar"] = _ivar(f"{name}_IVAR", mask, DAPPIXMASK["DONOTUSE"])
    if entry.has_mask:
        fields["mask"] = BadPixels(mask, bits=("DONOTUSE",))
    return RecordList(fields)


SPAXELS = RecordList(
    {
        "flux": "FLUX",
        "ivar": _ivar("IVAR", "MASK", DRP3PIXMASK["DONOTUSE"], IVAR_UNITS[FLUX_DENSITY]),
        "lsf_sigma": "LSFPOST",
        "lambda": "WAVE",
        "mask": BadPixels("MASK", bits=("NOCOV", "DONOTUSE")),
        "x": "SPAXEL_ROW",
        "y": "SPAXEL_COLUMN",
        "extra": Record(
            {
                "skycoo_x": "SPX_SKYCOO_X",
                "skycoo_y": "SPX_SKYCOO_Y",
                "ellcoo_r": "SPX_ELLCOO_R",
                "ellcoo_r_re": "SPX_ELLCOO_R_RE",
                "ellcoo_r_kpc": "SPX_ELLCOO_R_KPC",
                "ellcoo_theta": "SPX_ELLCOO_THETA",
            }
        ),
    }
)

IMAGES = (
    RecordList(
        {
            "label": "IMG_LABEL",
            "filter": "IMG_BAND",
            "data": Formula("IMG"),
            "units": Constant("nanomaggy"),
            "psf_fwhm": "IMG_FWHM",
        }
    ),
    RecordList(
        {
            "label": "PSF_LABEL",
            "filter": "IMG_BAND",
            "data": Formula("PSF"),
            "units": Constant("nanomaggy"),
        }
    ),
    *(_map_list(entry) for entry in MAPS),
)

SURVEY = Survey(
    name="manga",
    project="SDSS",
    survey="MaNGA",
    release="DR17",
    subset="dr17",
    title="MaNGA DR17: integral-field spectra and maps of nearby galaxies",
    description=(
        "Every spaxel in the field of each log-sampled cube of the data reduction pipeline, the "
        "images reconstructed from it, and all maps of the data analysis pipeline with their "
        "inverse variances and integer masks; redshift and photometry from drpall and dapall. "
        "Where a cube has maps of several analyses, HYB10-MILESHC-MASTARSSP is taken, else "
        "another HYB10, else the first by path; DAPTYPE says which. ra and dec are those of the "
        "galaxy (OBJRA, OBJDEC), which is mostly but not always the centre of the IFU. In the "
        "records of spaxels x is the row and y the column of the cube."
    ),
    homepage="https://www.sdss4.org/dr17/manga/",
    citation=(
        "Bundy et al. 2015, ApJ 798, 7, doi:10.1088/0004-637X/798/1/7; "
        "Law et al. 2016, AJ 152, 83, doi:10.3847/0004-6256/152/4/83; "
        "Westfall et al. 2019, AJ 158, 231, doi:10.3847/1538-3881/ab44a2; "
        "Abdurro'uf et al. 2022, ApJS 259, 35, doi:10.3847/1538-4365/ac4414"
    ),
    acknowledgement="https://www.sdss4.org/collaboration/citing-sdss/",
    licence="unknown",
    columns=(
        *_light_columns(),
        *_cube_columns(),
        *(column for entry in MAPS for column in _map_columns(entry)),
    ),
    aliases={
        "object_id": "MANGAID",
        "observation_id": "PLATEIFU",
        "ra": "OBJRA",
        "dec": "OBJDEC",
        "z": Formula(
            "where(drpall.nsa_z > -1, drpall.nsa_z, "
            "where(drpall.z > -1, drpall.z, SCINPVEL / 299792.458))",
            dtype="float64",
            doc="Redshift: of the NASA-Sloan Atlas, else the target's in drpall, else the input "
            "redshift of the maps; NaN where none is known.",
        ),
        "z_err": Formula("nan", doc="NaN: MaNGA publishes no uncertainty of these redshifts."),
        "mag": Formula(
            "22.5 - 2.5 * log10(drpall.nsa_elpetro_flux_r)",
            unit="mag",
            doc="Elliptical Petrosian magnitude in r (AB, NASA-Sloan Atlas), not corrected for "
            "Galactic extinction.",
        ),
        "ebv": "EBVGAL",
        "spaxel_size": "SPAXEL_SIZE",
        "spaxels": SPAXELS,
        "images": IMAGES,
    },
    units=units,
    read=read,
    wavelength_medium="vacuum",
    wavelength_frame="heliocentric",
)
