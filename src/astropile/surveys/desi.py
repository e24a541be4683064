"""
DESI: coadded spectra, by HEALPix pixel or by tile, with the redshifts fitted to them.

The three arms of a spectrograph become one spectrum on their common grid. Per-exposure
``spectra`` files and the full resolution matrices are not taken: the matrices are eleven times
the size of the spectra, and their width is kept for every pixel.

Data model: https://desidatamodel.readthedocs.io
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from astropile.errors import NativeFileError
from astropile.schema import Batch, Formula, Record, Rejected, Survey, Unit
from astropile.surveys._desi_arms import ARMS, GRID, combine, first_pixel, read_arm
from astropile.surveys._desi_columns import GROUPS, MADE, TARGETID
from astropile.surveys._desi_tables import (
    SEVERAL,
    Table,
    gather,
    join_beside,
    join_catalogue,
    sources_of,
)
from astropile.surveys._fits import FitsFile

_ROWS_PER_BATCH: Final = 128
_ID_NBYTES: Final = 64

_CATALOGUES: Final = ("zall-pix-", "zall-tilecumulative-", "zpix-", "ztile-", "QSO_cat_")
"""How the names of redshift catalogues begin, those tried first in front."""

_COMPANIONS: Final = ("-extra", "-imaging", "-expfibermap")
"""How those files of a catalogue end that hold no redshifts."""

_TABLES: Final = (
    ("REDSHIFTS", "REDSHIFTS"),
    ("ZBEST", "REDSHIFTS"),
    ("FIBERMAP", "FIBERMAP"),
    ("SCORES", "SCORES"),
    ("TSNR2", "SCORES"),
)
"""HDUs of a coadd and of the redshift file beside it, and what each is."""


def units(native_path: Path) -> list[Unit]:
    """
    List the coadd files below a folder, each with the files its redshifts may come from.

    Parameters
    ----------
    native_path : Path
        A folder of any depth: a copy of part of a production, or files side by side.

    Returns
    -------
    list of Unit
        One per coadd file, sorted by path.

    Raises
    ------
    NativeFileError
        If the folder is absent or holds no coadd file.
    """
    if not native_path.is_dir():
        raise NativeFileError(str(native_path), "a folder of DESI files", "no such folder")
    files = sorted(
        path for path in native_path.rglob("*.fits*") if path.name.endswith((".fits", ".fits.gz"))
    )
    coadds = [path for path in files if path.name.startswith("coadd-")]
    if not coadds:
        raise NativeFileError(
            str(native_path),
            "coadd-<survey>-<program>-<pixel>.fits or coadd-<petal>-<tile>-<group>.fits files",
            f"{len(files)} other FITS files",
        )
    known = {path.parent / path.name.removesuffix(".gz"): path for path in files}
    catalogues = [
        (_CATALOGUES.index(start), path)
        for path in files
        for start in _CATALOGUES
        if path.name.startswith(start) and not _stem(path).endswith(_COMPANIONS)
    ]
    found = []
    for path in coadds:
        beside = [
            known.get(path.parent / f"{name}-{_stem(path).removeprefix('coadd-')}.fits")
            for name in ("redrock", "zbest")
        ]
        found.append(
            Unit(
                key=path.relative_to(native_path).as_posix(),
                paths=(
                    path,
                    *[other for other in beside if other is not None][:1],
                    *(other for _, other in sorted(catalogues)),
                ),
            )
        )
    return found


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".fits")


def _said(coadd: FitsFile) -> dict[str, Any]:
    """Gather what a coadd says of itself: in its header, else in its name."""
    stem = _stem(coadd.path)
    said: dict[str, Any] = {}
    if found := re.fullmatch(r"coadd-([a-z][a-z0-9]*)-([a-z][a-z0-9]*)-(\d+)", stem):
        said = {"SPGRP": "healpix", "SURVEY": found[1], "PROGRAM": found[2]}
        said |= {"HPXPIXEL": int(found[3]), "SPGRPVAL": int(found[3])}
    elif found := re.fullmatch(r"coadd-\d-(\d+)-(thru|exp|)(\d{8})", stem):
        kind = {"thru": "cumulative", "exp": "perexp", "": "pernight"}[found[2]]
        said = {"TILEID": int(found[1]), "SPGRP": kind, "SPGRPVAL": int(found[3])}
    header = coadd.header(0)
    for column in GROUPS["grouping"]:
        value, dtype = header.get(column.name), column.numpy_dtype
        if isinstance(value, str if dtype.kind == "S" else int):
            said[column.name] = value
            if isinstance(value, str) and len(value) > dtype.itemsize:
                raise coadd.error(f"{column.name} of at most {dtype.itemsize} letters", repr(value))
    return said


def read(unit: Unit) -> Iterator[Batch | Rejected]:
    """
    Read one coadd file with the redshifts of its targets.

    Parameters
    ----------
    unit : Unit
        From `units`.

    Yields
    ------
    Batch or Rejected
        Up to 128 objects each; a `Rejected` for every sky fibre and other object left out.

    Raises
    ------
    NativeFileError
        If a file is broken or is not what the data model says.
    """
    with ExitStack() as stack:
        coadd, *others = (stack.enter_context(FitsFile(path)) for path in unit.paths)
        targets = coadd.column("FIBERMAP", "TARGETID").astype(np.int64)
        n = len(targets)
        starts = {arm: first_pixel(coadd, arm, n) for arm in ARMS}
        said = _said(coadd)
        tables = _join(coadd, others, targets, said)
        values = _light(coadd, tables, targets, said)

        kept = np.ones(n, bool)
        for reason, holds, fault in _reasons(values, tables):
            for row in np.flatnonzero(kept & holds):
                key = values["OBSERVATION_ID"][row].decode()
                yield Rejected(key, reason, fault=fault)
            kept &= ~holds
        for first in range(0, n, _ROWS_PER_BATCH):
            rows = slice(first, first + _ROWS_PER_BATCH)
            chosen = kept[rows]
            if chosen.any():
                arms = [read_arm(coadd, arm, starts[arm], rows, chosen) for arm in ARMS]
                light = {name: column[rows][chosen] for name, column in values.items()}
                yield light | combine(arms) | {"WAVE": GRID}


def _join(
    coadd: FitsFile, others: list[FitsFile], targets: NDArray[np.int64], said: dict[str, Any]
) -> dict[str, list[Table]]:
    """Join the tables that each group of columns may come from, in order of preference."""
    own = Table(coadd, "FIBERMAP", np.arange(len(targets)))
    beside: dict[str, list[Table]] = {"REDSHIFTS": [], "FIBERMAP": [own], "SCORES": []}
    catalogues = []
    for file in (coadd, *others):
        if file.path.name.startswith(_CATALOGUES):
            table = join_catalogue(file, targets, said)
            catalogues += [] if table is None else [table]
            continue
        for hdu, kind in _TABLES:
            if file.has(hdu) and not (file is coadd and hdu == "FIBERMAP"):
                beside[kind].append(join_beside(file, hdu, targets))
    return {
        "grouping": [own, *catalogues],
        "fibermap": [*beside["FIBERMAP"], *catalogues],
        "redshift": [*beside["REDSHIFTS"], *catalogues],
        "scores": [*beside["SCORES"], *catalogues],
        "catalogue": catalogues,
    }


def _light(
    coadd: FitsFile,
    tables: dict[str, list[Table]],
    targets: NDArray[np.int64],
    said: dict[str, Any],
) -> dict[str, NDArray[Any]]:
    """Gather every column but the spectra, one value for each row of the coadd."""
    n = len(targets)
    names = [f"{_stem(coadd.path).removeprefix('coadd-')}-{target}" for target in targets]
    if max(map(len, names), default=0) > _ID_NBYTES:
        raise coadd.error(f"identifiers of at most {_ID_NBYTES} characters", "a longer file name")
    source, files = sources_of(tables["redshift"], n)
    values = {
        "TARGETID": targets,
        "OBSERVATION_ID": np.array(names, f"S{_ID_NBYTES}"),
        "Z_SOURCE": files,
    }
    for group, columns in GROUPS.items():
        values |= gather(columns, tables[group], n, source if group == "redshift" else None)
    for column in GROUPS["grouping"]:
        if column.name in said:
            values[column.name] = np.full(n, said[column.name], column.numpy_dtype)
    return values


def _reasons(
    values: dict[str, NDArray[Any]], tables: dict[str, list[Table]]
) -> list[tuple[str, NDArray[np.bool_], bool]]:
    """Say for which objects a reason to leave them out holds, and whether it is a fault."""
    several = np.zeros(len(values["TARGETID"]), bool)
    for group in tables.values():
        for table in group:
            several |= table.rows == SEVERAL
    placed = np.isfinite(values["TARGET_RA"]) & np.isfinite(values["TARGET_DEC"])
    return [
        ("a fibre on no target (negative TARGETID)", values["TARGETID"] < 0, False),
        ("a sky fibre (OBJTYPE is SKY)", values["OBJTYPE"] == b"SKY", False),
        ("several rows of one table are this target's", several, True),
        ("no position in the coadd, its redshift file or a catalogue", ~placed, True),
    ]


_GOOD: Final = "isfinite(FLUX * IVAR) * (IVAR > 0) * (MASK == 0)"

SURVEY: Final = Survey(
    name="desi",
    project="DESI",
    survey="DESI",
    release="DR1",
    subset="dr1_main",
    title="DESI spectra",
    description=(
        "Coadded optical spectra of the Dark Energy Spectroscopic Instrument, 3600 to 9824 "
        "Angstrom, with redshifts, targeting and photometry. Every target with a position is "
        "kept, whatever its fibre status or redshift warning: good spectra have "
        "COADD_FIBERSTATUS 0, good redshifts ZWARN 0. Sky fibres are left out. Columns that a "
        "release lacks hold NaN, an empty string, False, -1 or, if unsigned, the largest number."
    ),
    homepage="https://data.desi.lbl.gov/doc/releases/dr1/",
    citation=(
        "DESI Collaboration 2025, Data Release 1 of the Dark Energy Spectroscopic Instrument, "
        "arXiv:2503.14745"
    ),
    licence="CC-BY-4.0",
    acknowledgement="https://data.desi.lbl.gov/doc/acknowledgments/",
    epoch=None,
    wavelength_medium="vacuum",
    wavelength_frame="barycentric",
    time_scale="UTC, modified Julian date",
    units=units,
    read=read,
    columns=(
        TARGETID,
        *(column for group in GROUPS.values() for column in group),
        *MADE,
    ),
    aliases={
        "object_id": "TARGETID",
        "observation_id": "OBSERVATION_ID",
        "ra": "TARGET_RA",
        "dec": "TARGET_DEC",
        "z": "Z",
        "z_err": "ZERR",
        "ebv": "EBV",
        "mag": Formula(
            "22.5 - 2.5 * log10(FLUX_R) - 2.165 * EBV",
            unit="mag",
            doc="Total r magnitude of the Legacy Surveys, AB, corrected for Galactic extinction "
            "with A_r = 2.165 E(B-V).",
        ),
        "spectrum": Record(
            {
                "flux": "FLUX",
                "ivar": Formula(
                    f"where({_GOOD}, IVAR, 0)",
                    unit="1e34 s2 cm4 Angstrom2 / erg2",
                    doc="Inverse variance of the flux; 0 where the mask is True.",
                ),
                "lsf_sigma": "LSF_SIGMA",
                "lambda": "WAVE",
                "mask": Formula(
                    f"{_GOOD} == 0",
                    dtype="bool",
                    doc="True is bad: a bit of MASK is set, or nothing was measured.",
                ),
                "extra": Record({"mask_bits": "MASK"}),
            }
        ),
    },
)
