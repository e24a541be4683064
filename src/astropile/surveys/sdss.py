"""
SDSS optical spectra, DR17: SDSS-I/II, SEGUE, BOSS and eBOSS.

Read from ``spec-PPPP-MJD-FFFF.fits`` files, lite or full, and from ``spPlate-PPPP-MJD.fits``
with the ``specObj-*.fits`` (or ``spAll-*.fits``) table that says what is on a plate. A plate
was often observed more than once and reduced more than once: rows find their plate by
(RUN2D, PLATE, MJD) and their spectrum by FIBERID.

Data model: https://data.sdss.org/datamodel/files/SPECTRO_REDUX/RUN2D/PLATE/
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from astropile.errors import NativeFileError
from astropile.schema import Batch, Column, Formula, Record, Rejected, Survey, Unit
from astropile.surveys._fits import FitsFile, strip
from astropile.surveys._sdss_columns import IMAGING, PIXEL_BITS, SPALL, SPECOBJ, SPECTRUM
from astropile.surveys._sdss_tables import exact, read_columns

_FILES_PER_UNIT: Final = 64
_FIBRES_PER_BATCH: Final = 200
_FITS: Final = re.compile(r"\.fits?(\.gz|\.bz2)?$")
_PLATE: Final = re.compile(r"spPlate-(\d+)-(\d+)\.")
_TABLE: Final = re.compile(r"(specObj|spAll)-")
_OTHER: Final = re.compile(
    r"sp(Z|C?Frame|Flux|Sky|Flat|Arc)|photo|calibObj|frame-|ps?Field|fp|plate|sdR|positions"
)
"""Neighbours of the spectra that hold none."""

_PIXELS: Final = (
    Column("flux", "float32", "Flux density.", ("n_wave",), "1e-17 erg / (s cm2 Angstrom)"),
    Column("loglam", "float32", "log10 of vacuum wavelength in Angstrom.", ("n_wave",)),
    Column(
        "ivar",
        "float32",
        "Inverse variance of flux; 0 where nothing was measured.",
        ("n_wave",),
        "1e34 s2 cm4 Angstrom2 / erg2",
    ),
    Column("and_mask", "int32", "Bits set in every exposure.", ("n_wave",), bits=PIXEL_BITS),
    Column("or_mask", "int32", "Bits set in any exposure.", ("n_wave",), bits=PIXEL_BITS),
    Column(
        "wdisp",
        "float32",
        "Sigma of the line-spread function, in pixels of 1e-4 dex.",
        ("n_wave",),
        "pixel",
    ),
    Column("sky", "float32", "Sky subtracted.", ("n_wave",), "1e-17 erg / (s cm2 Angstrom)"),
    Column(
        "model",
        "float32",
        "Best fit of the pipeline; empty for spPlate files, which hold none.",
        ("n_model",),
        "1e-17 erg / (s cm2 Angstrom)",
    ),
)

_NO_DATA: Final = ("FULLREJECT", "NOSKY", "NODATA", "COMBINEREJ")
"""Bits of and_mask by which the pipeline says that a pixel holds no measurement."""

_DERIVED: Final = (
    Column(
        "bad",
        "bool",
        f"True where ivar is not above 0 or and_mask has one of {', '.join(_NO_DATA)}. Pixels "
        "that are noisy but measured (BRIGHTSKY, ..) stay good: and_mask tells them.",
        ("n_wave",),
        derived=True,
    ),
    Column(
        "SKY_ID",
        "S22",
        "Object on the sky, the same for all its spectra: BESTOBJID or SPALL.OBJID, or "
        "SPECOBJID where there is no imaging object.",
        derived=True,
    ),
    Column(
        "SPECTROFLUX_R",
        "float32",
        "Flux of the spectrum through the r filter: element 2 of SPECTROFLUX.",
        unit="nanomaggy",
        derived=True,
    ),
    Column(
        "SUMMARY",
        "S8",
        "Table the row's values come from: SPECOBJ or SPALL.",
        derived=True,
    ),
)

_TABLE_COLUMNS: Final = (*SPECTRUM, *SPECOBJ, *SPALL, *IMAGING)
_REQUIRED: Final = frozenset(column.name for column in SPECTRUM)


def units(native_path: Path) -> list[Unit]:
    """
    List spec files in groups, and plates one by one.

    Parameters
    ----------
    native_path : Path
        Folder with spec files, or with spPlate files and their table, at any depth.

    Returns
    -------
    list of Unit
        Sorted by the files' paths.

    Raises
    ------
    NativeFileError
        If the folder has neither, or spPlate files without a table.
    """
    root = Path(native_path)
    spectra: dict[Path, list[Path]] = {}
    plates: list[Path] = []
    tables: list[Path] = []
    for path in sorted(root.rglob("*")):
        if not _FITS.search(path.name) or not path.is_file():
            continue
        if _PLATE.match(path.name):
            plates.append(path)
        elif _TABLE.match(path.name):
            tables.append(path)
        elif not _OTHER.match(path.name):
            spectra.setdefault(path.parent, []).append(path)
    if plates and not tables:
        raise NativeFileError(
            str(root), "specObj-*.fits or spAll-*.fits with the spPlate files", "neither"
        )
    if not plates and not spectra:
        raise NativeFileError(
            str(root), "spec-*.fits files, or spPlate-*.fits with specObj-*.fits", "none of these"
        )
    found = []
    for folder in sorted(spectra):
        files = spectra[folder]
        for start in range(0, len(files), _FILES_PER_UNIT):
            group = files[start : start + _FILES_PER_UNIT]
            found.append(Unit(group[0].relative_to(root).as_posix(), tuple(group)))
    if plates:
        found += _plate_units(root, plates, tables)
    return found


def _plate_units(root: Path, plates: list[Path], tables: list[Path]) -> Iterator[Unit]:
    """Pair each (RUN2D, PLATE, MJD) of the tables with its spPlate file."""
    files: dict[tuple[int, int], list[Path]] = {}
    for path in plates:
        match = _PLATE.match(path.name)
        assert match is not None
        files.setdefault((int(match[1]), int(match[2])), []).append(path)
    used = set()
    for table in tables:
        with FitsFile(table) as file:
            run2d = strip(file.column(1, "RUN2D"))
            plate, mjd = file.column(1, "PLATE"), file.column(1, "MJD")
        order = np.lexsort((mjd, plate, run2d))
        key = np.rec.fromarrays((run2d, plate, mjd))[order]
        starts = np.flatnonzero(np.r_[True, key[1:] != key[:-1]])
        reductions: dict[tuple[int, int], int] = {}
        for start in starts:
            night = (int(plate[order[start]]), int(mjd[order[start]]))
            reductions[night] = reductions.get(night, 0) + 1
        for start, rows in zip(starts, np.split(order, starts[1:]), strict=True):
            version = key[start][0].decode()
            night = (int(key[start][1]), int(key[start][2]))
            candidates = files.get(night, [])
            chosen = [path for path in candidates if version in path.relative_to(root).parts]
            if not chosen and len(candidates) == 1 and reductions[night] == 1:
                chosen = candidates
            used.update(chosen)
            yield Unit(
                f"{table.relative_to(root).as_posix()}/{version}/{night[0]:04d}-{night[1]}",
                (table, *chosen[:1]),
                {"rows": np.sort(rows), "run2d": version},
            )
    for path in plates:
        if path not in used:
            yield Unit(path.relative_to(root).as_posix(), (path,), {"rows": None})


def read(unit: Unit) -> Iterator[Batch | Rejected]:
    """
    Read spectra with their rows of specObj or spAll.

    Parameters
    ----------
    unit : Unit
        One of `units`.

    Yields
    ------
    Batch or Rejected
        Spectra; a file that cannot be used is one rejected object.
    """
    if "rows" in unit.options:
        yield from _read_plate(unit)
        return
    rows = []
    for path in unit.paths:
        try:
            rows.append(_read_spectrum(path))
        except NativeFileError as error:
            yield Rejected(path.name, f"the file is not what it should be: {error.expected}")
    if rows:
        yield {
            name: [value for row in rows for value in row[name]]
            if isinstance(rows[0][name], list)
            else np.concatenate([row[name] for row in rows])
            for name in rows[0]
        }


def _read_spectrum(path: Path) -> dict[str, Any]:
    with FitsFile(path) as file:
        # The pipeline of v5_13_0 leaves the HDUs without names, but in their order.
        pixels = {column.name: [file.column(("COADD", 1), column.name)] for column in _PIXELS}
        table = _table(file, ("SPECOBJ", "SPALL", 2), None)
        if len(table["PLATE"]) != 1 or not pixels["flux"][0].size:
            raise file.error("one spectrum of at least one pixel", "none or several")
        values = {column.name: [exact(file, column, pixels[column.name][0])] for column in _PIXELS}
    return _complete(values, table)


def _read_plate(unit: Unit) -> Iterator[Batch | Rejected]:
    if unit.options["rows"] is None:
        yield Rejected(unit.paths[0].name, "the plate is in no specObj or spAll table")
        return
    n_rows = len(unit.options["rows"])
    if len(unit.paths) == 1:
        # Few have all plates of the table; those not at hand are no fault.
        reason = "no spPlate file of its RUN2D, PLATE and MJD"
        yield Rejected(unit.key, reason, n_rows, fault=False)
        return
    with FitsFile(unit.paths[0]) as file:
        table = _table(file, (1,), unit.options["rows"])
    try:
        place, pixels = _plate_pixels(unit.paths[1], unit.options["run2d"])
    except NativeFileError as error:
        reason = f"the spPlate file is not what it should be: {error.expected}"
        yield Rejected(unit.paths[1].name, reason, n_rows)
        return
    there = np.array([int(fibre) in place for fibre in table["FIBERID"]], dtype=bool)
    for name in table["SPECOBJID"][~there]:
        yield Rejected(name.decode(), "its FIBERID is not in the plug map of the spPlate file")
    kept = np.flatnonzero(there)
    for start in range(0, len(kept), _FIBRES_PER_BATCH):
        chosen = kept[start : start + _FIBRES_PER_BATCH]
        lines = [place[int(fibre)] for fibre in table["FIBERID"][chosen]]
        values = {name: [image[line] for line in lines] for name, image in pixels.items()}
        values["model"] = [np.empty(0, "<f4") for _ in lines]
        yield _complete(values, {name: array[chosen] for name, array in table.items()})


def _plate_pixels(path: Path, run2d: str) -> tuple[dict[int, int], dict[str, NDArray[Any]]]:
    """Give the row of each fibre of a plate, and the images whose rows these are."""
    with FitsFile(path) as file:
        found = str(file.header(0).get("RUN2D", run2d)).strip()
        if found != run2d:
            raise file.error("a plate of the RUN2D of its folder", found)
        numbers = {"flux": 0, "ivar": 1, "and_mask": 2, "or_mask": 3, "wdisp": 4, "sky": 6}
        pixels = {
            column.name: exact(file, column, file.image(numbers[column.name]))
            for column in _PIXELS
            if column.name in numbers
        }
        # The plug map, not the place in the specObj table, says which row is whose.
        fibres = file.column(5, "FIBERID")
        shape = pixels["flux"].shape
        if any(image.shape != shape for image in pixels.values()) or len(fibres) != shape[0]:
            raise file.error("images and a plug map of one size", str(shape))
        pixels["loglam"] = np.broadcast_to(_log_wavelength(file, shape[1]), shape)
    return {int(fibre): row for row, fibre in enumerate(fibres)}, pixels


def _log_wavelength(file: FitsFile, n_wave: int) -> NDArray[np.float32]:
    """Grid of a plate, as its header gives it, in the precision of the spec files."""
    header = file.header(0)
    if "COEFF0" in header:
        first, step = header["COEFF0"], file.value(0, "COEFF1")
    else:
        step = file.value(0, "CD1_1" if "CD1_1" in header else "CDELT1")
        first = file.value(0, "CRVAL1") + (1 - header.get("CRPIX1", 1)) * step
    grid: NDArray[np.float32] = (first + step * np.arange(n_wave)).astype("<f4")
    return grid


def _complete(values: dict[str, Any], table: dict[str, Any]) -> dict[str, Any]:
    """Put the pixels beside the table's rows and add what is derived."""
    no_data = np.int32(sum(1 << PIXEL_BITS[name] for name in _NO_DATA))
    values["bad"] = [
        ~(ivar > 0) | (bits & no_data != 0)
        for ivar, bits in zip(values["ivar"], values["and_mask"], strict=True)
    ]
    values |= table
    values["SPECTROFLUX_R"] = table["SPECTROFLUX"][:, 2]
    best = np.where(_is_object(table["BESTOBJID"]), table["BESTOBJID"], table["SPALL.OBJID"])
    values["SKY_ID"] = np.where(_is_object(best), best, table["SPECOBJID"])
    return values


def _is_object(identifiers: NDArray[np.bytes_]) -> NDArray[np.bool_]:
    """Tell identifiers from the blanks, 0 and -1 that stand for none."""
    return np.array([text.isdigit() and int(text) > 0 for text in identifiers], dtype=bool)


def _table(
    file: FitsFile, key: tuple[int | str, ...], rows: NDArray[np.int64] | None
) -> dict[str, NDArray[Any]]:
    """Give the rows of a specObj or spAll table in the declared columns."""
    known = {name.upper() for name in file.columns(*key)}
    # Both have an OBJID: five integers in specObj, an identifier in spAll.
    is_spall = "OBJID" in known and file.hdu(*key).columns["OBJID"].format.endswith("A")
    names = {"OBJID": "", "SPALL.OBJID": "OBJID"} if is_spall else {"SPALL.OBJID": ""}
    table = read_columns(file, key, _TABLE_COLUMNS, rows=rows, required=_REQUIRED, names=names)
    n_rows = len(table["PLATE"])
    table["SUMMARY"] = np.full(n_rows, b"SPALL" if is_spall else b"SPECOBJ", "S8")
    return table


SURVEY: Final = Survey(
    name="sdss",
    project="SDSS",
    survey="SDSS",
    release="DR17",
    subset="dr17",
    title="SDSS optical spectra",
    description=(
        "Optical spectra of galaxies, quasars and stars from the SDSS and BOSS spectrographs "
        "(SDSS-I/II, SEGUE, BOSS, eBOSS), on a grid of 1e-4 dex whose length differs from "
        "spectrum to spectrum, with redshifts and classes of the SDSS pipeline. Earlier "
        "releases and reductions have the same layout and are told apart by RUN2D."
    ),
    homepage="https://www.sdss4.org/dr17/spectro/",
    citation=(
        "Abdurro'uf et al. 2022, ApJS 259, 35, doi:10.3847/1538-4365/ac4414; "
        "York et al. 2000, AJ 120, 1579, doi:10.1086/301513"
    ),
    licence="unknown",
    acknowledgement="As asked for at https://www.sdss4.org/collaboration/citing-sdss/",
    columns=(*_PIXELS, *_DERIVED, *_TABLE_COLUMNS),
    aliases={
        "object_id": "SKY_ID",
        "observation_id": "SPECOBJID",
        "ra": "PLUG_RA",
        "dec": "PLUG_DEC",
        "z": "Z",
        "z_err": "Z_ERR",
        "mag": Formula(
            "22.5 - 2.5 * log10(SPECTROFLUX_R)",
            unit="mag",
            doc="AB magnitude of the spectrum through the r filter, not corrected for extinction.",
        ),
        "spectrum": Record(
            {
                "flux": "flux",
                "ivar": Formula(
                    "where(bad, 0, ivar)",
                    unit="1e34 s2 cm4 Angstrom2 / erg2",
                    doc="Inverse variance; 0 where mask is True.",
                ),
                "lsf_sigma": Formula(
                    "wdisp * 1e-4 * 2.302585092994046 * 10 ** loglam",
                    unit="Angstrom",
                    doc="Sigma of the line-spread function: pixels of 1e-4 dex in Angstrom.",
                ),
                "lambda": Formula(
                    "10 ** loglam",
                    dtype="float64",
                    unit="Angstrom",
                    doc="Vacuum wavelength, heliocentric.",
                ),
                "mask": "bad",
                "extra": Record(
                    {
                        "sky": "sky",
                        "model": "model",
                        "and_mask": "and_mask",
                        "or_mask": "or_mask",
                        "wdisp": "wdisp",
                    }
                ),
            }
        ),
    },
    units=units,
    read=read,
    epoch=None,
    frame="ICRS",
    wavelength_medium="vacuum",
    wavelength_frame="heliocentric",
    time_scale="MJD [d]; TAI in seconds since MJD 0",
)
