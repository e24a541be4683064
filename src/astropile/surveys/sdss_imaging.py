"""
SDSS imaging, DR17: ugriz cutouts of corrected frames at catalogue positions.

The native folder holds, at any depth,

- ``frame-<band>-RRRRRR-C-FFFF.fits``, as published (``.bz2``), packed otherwise or not; bands
  that are not there are left out;
- what to cut out: ``positions.csv`` or ``positions.fits`` (HDU 1), a table with the columns
  ``id``, ``ra`` and ``dec`` [deg, ICRS] in any case, where lines of the text file that start
  with ``#`` are skipped and ``objid`` serves as ``id``. If there is one, it alone counts.
  Otherwise every object of the ``photoObj-RRRRRR-C-FFFF.fits`` tables that is the primary
  observation of its source, in the frames of its own field; and every spectrum of
  ``specObj-*.fits``, ``spAll-*.fits`` and ``spec-*.fits`` files, by SPECOBJID.

A position that several fields hold is cut from the one it lies deepest in.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from astropile.errors import NativeFileError
from astropile.schema import (
    BadPixels,
    Batch,
    Column,
    Constant,
    Formula,
    RecordList,
    Rejected,
    Survey,
    Unit,
)
from astropile.surveys._fits import FitsFile
from astropile.surveys._sdss_columns import imaging_columns
from astropile.surveys._sdss_frames import BANDS, FRAME, Frame
from astropile.surveys._sdss_positions import ID_DTYPE, Positions, deepest_field, read_positions
from astropile.surveys._sdss_tables import read_columns

CUTOUT: Final = 128
"""Side of a cutout [pixel]; the position is in pixel (64, 64), counted from 0."""

_OBJECTS_PER_BATCH: Final = 64
_PHOTOOBJ: Final = re.compile(r"photoObj-(\d{6})-([1-6])-(\d{4})\.fits?(\.gz|\.bz2)?$")
_POSITIONS: Final = re.compile(r"positions\.(csv|fits)$")
_SPECTRA: Final = re.compile(r"((specObj|spAll)-.*|spec-\d+-\d+-\d+)\.fits(\.gz|\.bz2)?$")
_MASK_BITS: Final = {"OUTSIDE": 0, "NO_NOISE": 1}

_CATALOGUE: Final = (
    Column("OBJID", ID_DTYPE, "Object: OBJID of photoObj, or the identifier with the position."),
    *imaging_columns(
        " From photoObj; without it blank (0, NaN, empty) but for RA, DEC and the field's numbers."
    ),
)
_REQUIRED: Final = frozenset(
    {"OBJID", "RA", "DEC", "RUN", "RERUN", "CAMCOL", "FIELD", "MODE"}
    | {"PSF_FWHM", "EXTINCTION", "CMODELFLUX"}
)

_PIXELS: Final = ("n_band", CUTOUT, CUTOUT)
_DERIVED: Final = (
    Column(
        "image_flux",
        "float32",
        "Cutout of each band's frame, values unchanged, in the frame's own orientation (rows "
        "along the scan; image_cd); 0 outside the frame.",
        _PIXELS,
        "nanomaggy",
        derived=True,
    ),
    Column(
        "image_ivar",
        "float32",
        "Inverse variance by the data model's recipe: counts = image / calibration + sky, "
        "variance = (counts / gain + dark variance) * calibration^2; 0 where image_mask is set.",
        _PIXELS,
        "1 / nanomaggy2",
        derived=True,
    ),
    Column(
        "image_mask",
        "uint8",
        "OUTSIDE: beyond the frame. NO_NOISE: value or variance is not a number above 0.",
        _PIXELS,
        bits=_MASK_BITS,
        derived=True,
    ),
    Column("image_band", "S1", "Band of each cutout.", ("n_band",), derived=True),
    Column(
        "image_psf_fwhm",
        "float32",
        "PSF_FWHM of the band; NaN without photoObj.",
        ("n_band",),
        "arcsec",
        derived=True,
    ),
    Column(
        "image_pixel_size",
        "float32",
        "Pixel side: root of the determinant of image_cd.",
        ("n_band",),
        "arcsec",
        derived=True,
    ),
    Column(
        "image_noise_std",
        "float32",
        "Noise of the cutout: median of image_ivar above 0, to the power -1/2.",
        ("n_band",),
        "nanomaggy",
        derived=True,
    ),
    Column(
        "image_extinction",
        "float32",
        "EXTINCTION of the band; NaN without photoObj.",
        ("n_band",),
        "mag",
        derived=True,
    ),
    Column(
        "image_x",
        "float64",
        "Column of the position in the frame, the first being 0; the cutout's column 0 is "
        f"{CUTOUT // 2} before the nearest whole one.",
        ("n_band",),
        "pixel",
        derived=True,
    ),
    Column(
        "image_y",
        "float64",
        "Row of the position in the frame, likewise.",
        ("n_band",),
        "pixel",
        derived=True,
    ),
    Column(
        "image_cd",
        "float64",
        "CD matrix of the frame: degrees of (right ascension, declination) per (column, row).",
        ("n_band", 2, 2),
        "deg / pixel",
        derived=True,
    ),
    Column("CMODELFLUX_R", "float32", "CMODELFLUX in r.", unit="nanomaggy", derived=True),
    Column("EXTINCTION_R", "float32", "EXTINCTION in r.", unit="mag", derived=True),
)

_Field = tuple[int, int, int]
"""Run, camera column, field."""


def units(native_path: Path) -> list[Unit]:
    """
    List the fields that hold an object, with their frames and objects.

    Parameters
    ----------
    native_path : Path
        Folder of frames and of what to cut from them.

    Returns
    -------
    list of Unit
        Sorted by run, camera column and field; last what no frame holds.

    Raises
    ------
    NativeFileError
        If there are no frames, or no positions.
    """
    root = Path(native_path)
    fields: dict[_Field, list[Path]] = {}
    photoobj: dict[_Field, Path] = {}
    given: list[Path] = []
    spectra: list[Path] = []
    for path in sorted(root.rglob("*")):
        if match := FRAME.match(path.name):
            fields.setdefault((int(match[2]), int(match[3]), int(match[4])), []).append(path)
        elif match := _PHOTOOBJ.match(path.name):
            photoobj[int(match[1]), int(match[2]), int(match[3])] = path
        elif _POSITIONS.match(path.name):
            given.append(path)
        elif _SPECTRA.match(path.name):
            spectra.append(path)
    if not fields:
        raise NativeFileError(str(root), "frame-[ugriz]-RRRRRR-C-FFFF.fits(.bz2)", "none")
    if not (given or photoobj or spectra):
        raise NativeFileError(
            str(root),
            "positions.csv, positions.fits, photoObj-*.fits, specObj-*.fits or spec-*.fits",
            "none of these",
        )
    if given:
        photoobj = {}
    found: list[Unit] = []
    for field in sorted(photoobj):
        paths = (photoobj[field], *fields.get(field, []))
        found.append(Unit(paths[0].relative_to(root).as_posix(), paths, {"field": field}))
    sources = given or spectra
    positions: dict[Path, Positions] = {}
    for path in sources:
        try:
            positions[path] = read_positions(path)
        except NativeFileError as error:
            if given:
                raise
            found.append(_problem(root, path, error))
    if positions:
        found += _position_units(fields, positions)
    return found


def _problem(root: Path, path: Path, error: NativeFileError) -> Unit:
    reason = f"the file is not what it should be: {error.expected}"
    return Unit(path.relative_to(root).as_posix(), (path,), {"reason": reason, "count": 1})


def _position_units(
    fields: Mapping[_Field, Sequence[Path]], positions: Mapping[Path, Positions]
) -> Iterator[Unit]:
    """Give every position to the field it lies deepest in."""
    every = Positions(*(np.concatenate(values) for values in zip(*positions.values(), strict=True)))
    names = sorted(fields)
    owner = deepest_field([fields[name] for name in names], every.ra, every.dec)
    for number in np.unique(owner[owner >= 0]):
        field = names[number]
        objects = Positions(*(values[owner == number] for values in every))
        yield Unit(
            "fields/{:06d}-{}-{:04d}".format(*field),
            (*fields[field], *positions),
            {"field": field, "objects": objects},
        )
    if (owner < 0).any():
        yield Unit(
            "outside",
            tuple(positions),
            {"reason": "no frame holds the position", "count": int((owner < 0).sum())},
        )


def read(unit: Unit) -> Iterator[Batch | Rejected]:
    """
    Cut out the objects of one field.

    Parameters
    ----------
    unit : Unit
        One of `units`.

    Yields
    ------
    Batch or Rejected
        Objects with a cutout in each band whose frame is there and holds the position.
    """
    if "reason" in unit.options:
        fault = unit.key != "outside"
        yield Rejected(unit.key, unit.options["reason"], unit.options["count"], fault=fault)
        return
    run, camcol, number = unit.options["field"]
    paths = {match[1]: path for path in unit.paths if (match := FRAME.match(path.name))}
    if "objects" in unit.options:
        objects = unit.options["objects"]
        table = _blank_table(len(objects.ra))
        table |= {"OBJID": objects.name, "RA": objects.ra, "DEC": objects.dec}
        table["RUN"][:], table["CAMCOL"][:], table["FIELD"][:] = run, camcol, number
    else:
        with FitsFile(unit.paths[0]) as file:
            table = read_columns(file, (1,), _CATALOGUE, required=_REQUIRED)
        primary = table["MODE"] == 1
        if not primary.all():
            reason = "not the primary observation of its source"
            yield Rejected(unit.key, reason, int((~primary).sum()), fault=False)
        table = {name: values[primary] for name, values in table.items()}
        if not paths:
            yield Rejected(unit.key, "no frame of its field", int(primary.sum()), fault=False)
            return
    n_objects = len(table["RA"])
    frames: dict[str, Frame] = {}
    for band in sorted(paths, key=BANDS.index):
        try:
            frames[band] = Frame(paths[band], run, camcol, band)
        except NativeFileError as error:
            reason = f"a frame is not what it should be: {error.expected}"
            yield Rejected(paths[band].name, reason, n_objects)
            return
    if "objects" in unit.options:
        table["RERUN"][:] = next(iter(frames.values())).rerun
    for start in range(0, n_objects, _OBJECTS_PER_BATCH):
        chosen = slice(start, start + _OBJECTS_PER_BATCH)
        yield from _cut(frames, {name: values[chosen] for name, values in table.items()})


def _blank_table(n_rows: int) -> dict[str, NDArray[Any]]:
    blank = {"f": np.nan, "S": b"", "i": 0, "u": 0}
    return {
        column.name: np.full(
            (n_rows, *(size for size in column.shape if isinstance(size, int))),
            blank[column.numpy_dtype.kind],
            column.numpy_dtype,
        )
        for column in _CATALOGUE
    }


def _cut(frames: Mapping[str, Frame], table: dict[str, NDArray[Any]]) -> Iterator[Batch | Rejected]:
    """Cut some objects of one field out of its frames."""
    pixel = {band: frame.place.pixel(table["RA"], table["DEC"]) for band, frame in frames.items()}
    inside = {band: frames[band].place.margin(*pixel[band]) > 0 for band in frames}
    held = np.logical_or.reduce(list(inside.values()))
    for name in table["OBJID"][~held]:
        yield Rejected(name.decode(), "no frame holds the position", fault=False)
    rows = np.flatnonzero(held)
    if not rows.size:
        return
    values: dict[str, Any] = {column.name: [] for column in _DERIVED if column.shape}
    for row in rows:
        bands = [band for band in frames if inside[band][row]]
        number = [BANDS.index(band) for band in bands]
        x = np.array([pixel[band][0][row] for band in bands])
        y = np.array([pixel[band][1][row] for band in bands])
        cutouts = [_cutout(frames[b], x[i], y[i]) for i, b in enumerate(bands)]
        flux, ivar, mask = (np.stack(arrays) for arrays in zip(*cutouts, strict=True))
        places = [frames[band].place for band in bands]
        made = {
            "image_flux": flux,
            "image_ivar": ivar,
            "image_mask": mask,
            "image_band": np.array(bands, dtype="S1"),
            "image_psf_fwhm": table["PSF_FWHM"][row][number],
            "image_pixel_size": np.array([p.pixel_size_arcsec for p in places], dtype="<f4"),
            "image_noise_std": np.array([_noise(one) for one in ivar], dtype="<f4"),
            "image_extinction": table["EXTINCTION"][row][number],
            "image_x": x,
            "image_y": y,
            "image_cd": np.array([place.cd for place in places]),
        }
        for column_name, value in made.items():
            values[column_name].append(value)
    values |= {name: array[rows] for name, array in table.items()}
    values["CMODELFLUX_R"] = values["CMODELFLUX"][:, 2]
    values["EXTINCTION_R"] = values["EXTINCTION"][:, 2]
    yield values


def _cutout(
    frame: Frame, x: float, y: float
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint8]]:
    """Cut the pixels around a position, with what lies beyond the frame marked."""
    shape = (CUTOUT, CUTOUT)
    flux = np.zeros(shape, "<f4")
    ivar = np.zeros(shape, "<f4")
    mask = np.full(shape, 1 << _MASK_BITS["OUTSIDE"], np.uint8)
    first = [round(float(centre)) - CUTOUT // 2 for centre in (y, x)]
    there = [
        slice(max(0, begin), min(size, begin + CUTOUT))
        for begin, size in zip(first, frame.image.shape, strict=True)
    ]
    here = tuple(
        slice(part.start - begin, part.stop - begin)
        for part, begin in zip(there, first, strict=True)
    )
    pixels = frame.image[there[0], there[1]]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        weight = (1.0 / frame.variance(*there)).astype("<f4")
    good = np.isfinite(pixels) & np.isfinite(weight) & (weight > 0)
    flux[here] = pixels
    ivar[here] = np.where(good, weight, 0)
    mask[here] = np.where(good, 0, 1 << _MASK_BITS["NO_NOISE"])
    return flux, ivar, mask


def _noise(ivar: NDArray[np.float32]) -> float:
    good = ivar[ivar > 0]
    return float(np.median(good)) ** -0.5 if good.size else float("nan")


SURVEY: Final = Survey(
    name="sdss_imaging",
    project="SDSS",
    survey="SDSS",
    release="DR17",
    subset="dr17",
    title="SDSS imaging",
    description=(
        "Cutouts in u, g, r, i and z of the calibrated, sky-subtracted frames of the SDSS "
        "imaging survey (rerun 301, unchanged since DR13), with inverse variances from counts, "
        "gain and dark variance. The orientation is that of the scan."
    ),
    homepage="https://www.sdss4.org/dr17/imaging/",
    citation=(
        "Abdurro'uf et al. 2022, ApJS 259, 35, doi:10.3847/1538-4365/ac4414; "
        "York et al. 2000, AJ 120, 1579, doi:10.1086/301513; "
        "Gunn et al. 1998, AJ 116, 3040, doi:10.1086/300645"
    ),
    licence="unknown",
    acknowledgement="As asked for at https://www.sdss4.org/collaboration/citing-sdss/",
    columns=(*_DERIVED, *_CATALOGUE),
    aliases={
        "object_id": "OBJID",
        "observation_id": "OBJID",
        "ra": "RA",
        "dec": "DEC",
        "ebv": Formula(
            "EXTINCTION_R / 2.751",
            unit="mag",
            doc="E(B-V) of Schlegel et al. (1998), from the extinction in r; NaN without photoObj.",
        ),
        "mag": Formula(
            "22.5 - 2.5 * log10(CMODELFLUX_R) - EXTINCTION_R",
            unit="mag",
            doc="Composite-model AB magnitude in r, corrected for Galactic extinction; NaN "
            "without photoObj.",
        ),
        "image": RecordList(
            {
                "array": "image_flux",
                "ivar": "image_ivar",
                "mask": BadPixels("image_mask"),
                "psf_fwhm": "image_psf_fwhm",
                "pixel_size": "image_pixel_size",
                "noise_std": "image_noise_std",
                "filter": "image_band",
                "units": Constant("nanomaggy"),
                "extinction": "image_extinction",
            }
        ),
    },
    units=units,
    read=read,
    epoch=None,
    frame="ICRS",
    time_scale="TAI in seconds since MJD 0",
)
