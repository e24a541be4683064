"""What to cut out of SDSS frames: positions from the tables that may give them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from astropile.errors import NativeFileError
from astropile.schema import Column
from astropile.surveys._fits import FitsFile, strip
from astropile.surveys._sdss_frames import Place, read_place
from astropile.surveys._sdss_tables import exact

ID_DTYPE: Final = "S32"
_ID: Final = Column("id", ID_DTYPE, "Identifier.")


class Positions(NamedTuple):
    """
    Identifiers and positions.

    Parameters
    ----------
    name : ndarray, shape (n,), S32
        Identifiers.
    ra, dec : ndarray, shape (n,), float64
        Positions [deg, ICRS].
    """

    name: NDArray[np.bytes_]
    ra: NDArray[np.float64]
    dec: NDArray[np.float64]


def read_positions(path: Path) -> Positions:
    """
    Read a table of positions.

    Parameters
    ----------
    path : Path
        ``positions.csv``, ``positions.fits``, or a specObj, spAll or spec file.

    Returns
    -------
    Positions
        Its rows.

    Raises
    ------
    NativeFileError
        If the file cannot be read, a column is missing or a position is no number.
    """
    if path.suffix == ".csv":
        return _read_csv(path)
    names = ("SPECOBJID", "PLUG_RA", "PLUG_DEC")
    key: tuple[int | str, ...] = ("SPECOBJ", "SPALL", 2)
    if path.name == "positions.fits":
        names, key = ("id", "ra", "dec"), (1,)
    elif path.name.startswith(("specObj", "spAll")):
        key = (1,)
    with FitsFile(path) as file:
        known = {name.upper() for name in file.columns(*key)}
        identifier = "objid" if names[0] == "id" and "ID" not in known else names[0]
        ra, dec = (file.column(key, name) for name in names[1:])
        if ra.dtype.kind not in "fiu" or dec.dtype.kind not in "fiu":
            raise file.error("numbers as ra and dec", f"{ra.dtype}, {dec.dtype}")
        name = exact(file, _ID, file.column(key, identifier))
    return Positions(name, ra.astype(np.float64), dec.astype(np.float64))


def _read_csv(path: Path) -> Positions:
    try:
        with path.open(newline="", encoding="utf-8-sig") as text:
            lines = csv.DictReader(line for line in text if not line.startswith("#"))
            table = [{str(k).strip().lower(): v for k, v in line.items()} for line in lines]
            header = [name.strip().lower() for name in lines.fieldnames or ()]
        identifier = "id" if "id" in header else "objid"
        ra, dec, name = ([line[key] for line in table] for key in ("ra", "dec", identifier))
        numbers = [np.array([float(text or "nan") for text in column]) for column in (ra, dec)]
        names = strip(np.array([text or "" for text in name] or [""]))
    except KeyError as error:
        raise NativeFileError(str(path), "columns id, ra and dec", f"columns {header}") from error
    except (OSError, ValueError, csv.Error) as error:
        raise NativeFileError(str(path), "text with numbers as ra and dec", str(error)) from error
    if not table:
        raise NativeFileError(str(path), "at least one position", "none")
    if names.itemsize > np.dtype(ID_DTYPE).itemsize:
        raise NativeFileError(str(path), "identifiers of at most 32 bytes", f"{names.itemsize}")
    return Positions(names.astype(ID_DTYPE), *numbers)


def deepest_field(
    fields: Sequence[Sequence[Path]], ra: NDArray[np.float64], dec: NDArray[np.float64]
) -> NDArray[np.int64]:
    """
    Give every position to the field it lies deepest in.

    Parameters
    ----------
    fields : sequence of sequence of Path
        Frames of each field.
    ra, dec : ndarray, shape (n,), float64
        Positions [deg, ICRS].

    Returns
    -------
    ndarray, shape (n,), int64
        Number of the field; -1 for none.
    """
    order = np.argsort(dec)
    depth = np.zeros(len(ra))
    owner = np.full(len(ra), -1, dtype=np.int64)
    for number, frames in enumerate(fields):
        place = _place(frames)
        if place is None:
            continue
        reach = np.hypot(*place.shape) * place.pixel_size_arcsec / 3600.0
        edges = (place.crval[1] - reach, place.crval[1] + reach)
        near = order[slice(*np.searchsorted(dec, edges, sorter=order))]
        inside = place.margin(*place.pixel(ra[near], dec[near]))
        better = inside > depth[near]
        depth[near[better]], owner[near[better]] = inside[better], number
    return owner


def _place(frames: Sequence[Path]) -> Place | None:
    """Where a field is, by its frame in r if that is there: bands differ by a few pixels."""
    for path in sorted(frames, key=lambda path: "-r-" not in path.name):
        try:
            return read_place(path)
        except NativeFileError:
            # Reading the field will say what is wrong, or another band tells the place.
            continue
    return None
