"""
DESI Legacy Imaging Surveys: stamps from the brick coadds at the positions of a catalogue.

Data model: https://www.legacysurvey.org/dr10/files and /dr10/catalogs. Reads sweep or Tractor
catalogues of DR8, DR9 and DR10 (DR3 to DR7 as far as their columns go) and the coadds
``coadd/<AAA>/<brick>/legacysurvey-<brick>-{image,invvar}-{g,r,i,z}.fits.fz`` and
``-maskbits.fits.fz``. JPEG pictures, model images and WISE coadds are not read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from astropile.errors import NativeFileError
from astropile.schema import (
    BadPixels,
    Batch,
    Constant,
    Formula,
    RecordList,
    Rejected,
    Stack,
    Survey,
    Unit,
    row_nbytes,
)
from astropile.surveys import _legacy
from astropile.surveys._brick import BANDS, Brick, blank_stamps, stamp_columns
from astropile.surveys._fits import FitsFile

_SWEEP: Final = re.compile(r"sweep-\d{3}[mp]\d{3}-\d{3}[mp]\d{3}\.fits")
_TRACTOR: Final = re.compile(r"tractor-(\d{4}[mp]\d{3})\.fits")
_BRICK: Final = re.compile(r"\d{4}[mp]\d{3}")
_TABLE: Final = 1
_ROWS_PER_UNIT: Final = 8192
_BATCH_BYTES: Final = 128 * 2**20
_FIRST_WITH_MASKBITS: Final = 7000

NOT_PRIMARY: Final = "outside its brick's own area: the neighbouring brick has it too"
NO_BRICK: Final = "its brick's name is not of the form 1126p222"
NO_COADD: Final = "no coadd image of its brick"
NO_MASKBITS: Final = "no maskbits coadd of its brick"
BROKEN_COADD: Final = "a coadd of its brick is broken or not what it should be"
OUTSIDE_COADD: Final = "outside the coadd of its brick"


@dataclass(frozen=True)
class Cuts:
    """
    A selection of objects; the values by default are those of Multimodal Universe v1.

    Parameters
    ----------
    z_mag : float or None
        Only objects brighter than this, dereddened, in z.
    observed : tuple of str
        Bands in which at least one image covers the object (NOBS > 0).
    without_types : tuple of str
        Morphological types left out.
    without_bits : tuple of str
        Bits of MASKBITS that must not be set.
    """

    z_mag: float | None = 21.0
    observed: tuple[str, ...] = BANDS
    without_types: tuple[str, ...] = ("PSF",)
    without_bits: tuple[str, ...] = (
        "NPRIMARY",
        "BRIGHT",
        "SATUR_G",
        "SATUR_R",
        "SATUR_Z",
        "ALLMASK_G",
        "ALLMASK_R",
        "ALLMASK_Z",
        "MEDIUM",
        "SATUR_I",
        "ALLMASK_I",
    )

    def reasons(self, file: FitsFile, rows: slice) -> Iterator[tuple[str, NDArray[np.bool_]]]:
        """
        Tell which objects each cut removes.

        Parameters
        ----------
        file : FitsFile
            The catalogue.
        rows : slice
            Rows of its table.

        Yields
        ------
        tuple of str and ndarray of bool
            Reason, and for each row whether it applies.
        """
        if self.z_mag is not None:
            flux = file.column(_TABLE, "FLUX_Z", rows).astype(np.float64)
            transmission = file.column(_TABLE, "MW_TRANSMISSION_Z", rows).astype(np.float64)
            # As flux, for a magnitude that does not exist is fainter than any.
            limit = 10 ** (0.4 * (22.5 - self.z_mag))
            yield f"cut: not brighter than z = {self.z_mag}", ~(flux > limit * transmission)
        for band in self.observed:
            nobs = file.column(_TABLE, f"NOBS_{band.upper()}", rows)
            yield f"cut: no image in {band}", nobs <= 0
        if self.without_types:
            types = file.column(_TABLE, "TYPE", rows)
            chosen = [name.encode() for name in self.without_types]
            yield f"cut: type {', '.join(self.without_types)}", np.isin(types, chosen)
        if self.without_bits:
            bits = sum(1 << _legacy.MASKBITS[name] for name in self.without_bits)
            maskbits = file.column(_TABLE, "MASKBITS", rows).astype(np.int64)
            yield "cut: MASKBITS", (maskbits & bits) != 0


# --------------------------------------------------------------------------------------
# Input


def units(native_path: Path) -> list[Unit]:
    """
    List ranges of rows of the catalogues.

    Parameters
    ----------
    native_path : Path
        A release (``dr10``), one of its regions (``dr10/south``), or a folder with catalogues
        and coadds of bricks. Where there are sweeps, Tractor catalogues are not read, as they
        hold the same objects; of ``sweep/10.0`` and ``sweep/10.1`` only the later.

    Returns
    -------
    list of Unit
        In order of path and row.

    Raises
    ------
    FileNotFoundError
        If there is no catalogue.
    """
    native_path = Path(native_path)
    catalogues = _catalogues(native_path)
    if not catalogues:
        raise FileNotFoundError(
            f"neither sweep-<corner>-<corner>.fits nor tractor-<brick>.fits in {native_path}, "
            "as in a release of the Legacy Surveys"
        )
    found = []
    for path in catalogues:
        key = path.relative_to(native_path).as_posix()
        folders = _coadd_folders(path, native_path)
        brick = _TRACTOR.fullmatch(path.name)
        coadds = tuple(_coadds(folders, brick[1]).values()) if brick else ()
        try:
            with FitsFile(path) as file:
                n_rows = int(file.value(_TABLE, "NAXIS2"))
        except NativeFileError:
            n_rows = 0  # `read` says what is wrong.
        found += [
            Unit(f"{key}[{start:07d}:]", (path, *coadds), {"start": start, "folders": folders})
            for start in range(0, max(n_rows, 1), _ROWS_PER_UNIT)
        ]
    return found


def _catalogues(native_path: Path) -> list[Path]:
    """Find the catalogues, without a walk through the millions of files of the coadds."""
    sweeps: dict[tuple[Path, str], Path] = {}
    tractors: list[Path] = []
    for place, below, names in os.walk(native_path):
        folder = Path(place)
        below[:] = sorted(name for name in below if name != "coadd")
        tractors += [folder / name for name in names if _TRACTOR.fullmatch(name)]
        for name in filter(_SWEEP.fullmatch, names):
            region = folder.parent if re.fullmatch(r"\d+\.\d+", folder.name) else folder
            before = sweeps.get((region, name))
            if before is None or _version(folder) > _version(before.parent):
                sweeps[region, name] = folder / name
    return sorted(sweeps.values() or tractors)


def _version(folder: Path) -> tuple[int, ...]:
    return tuple(int(part) for part in folder.name.split(".") if part.isdecimal())


def _coadd_folders(catalogue: Path, native_path: Path) -> tuple[Path, ...]:
    """Where to look for coadds: the nearest ``coadd`` above, else beside the catalogue."""
    parents = [p for p in catalogue.parents if p == native_path or native_path in p.parents]
    trees = [parent / "coadd" for parent in parents if (parent / "coadd").is_dir()]
    return (*trees[:1], catalogue.parent, native_path)


def _coadds(folders: tuple[Path, ...], brick: str) -> dict[str, Path]:
    """Find the files of a brick: in ``coadd/<AAA>/<brick>``, else flat in a folder."""
    kinds = [f"{what}-{band}" for band in BANDS for what in ("image", "invvar")]
    for folder in folders:
        inner = folder / brick[:3] / brick if folder.name == "coadd" else folder
        found = {
            kind: inner / f"legacysurvey-{brick}-{kind}.fits.fz" for kind in (*kinds, "maskbits")
        }
        found = {kind: path for kind, path in found.items() if path.is_file()}
        if found:
            return found
    return {}


# --------------------------------------------------------------------------------------
# Reading


def read(
    unit: Unit, *, cuts: Cuts | None = None, size: int = 160, need_images: bool = True
) -> Iterator[Batch | Rejected]:
    """
    Read a range of rows of a catalogue and cut their stamps.

    Parameters
    ----------
    unit : Unit
        One of `units`.
    cuts : Cuts, optional
        Selection; none by default.
    size : int
        Side of the stamps [pixel].
    need_images : bool
        Whether an object without coadd is rejected; else it comes without images.

    Yields
    ------
    mapping of str to ndarray or Rejected
        Every column, brick by brick, in order of declination within each; and the objects
        that were cut or have no whole coadd.

    Raises
    ------
    NativeFileError
        If the catalogue is broken or lacks a column that it cannot do without.
    """
    with FitsFile(unit.paths[0]) as file:
        known = {name.upper() for name in file.columns(_TABLE)}
        lacking = [name for name in _legacy.SWEEP_CORE if name not in known]
        if lacking:
            raise file.error(
                "a catalogue of DR3 or later", f"no column {lacking[0]} among {sorted(known)}"
            )
        start = int(unit.options["start"])
        stop = min(int(file.value(_TABLE, "NAXIS2")), start + _ROWS_PER_UNIT)
        keep = np.ones(max(0, stop - start), bool)
        for reason, applies in _reasons(file, slice(start, stop), cuts, known):
            n_objects = int(np.count_nonzero(keep & applies))
            keep &= ~applies
            if n_objects:
                yield Rejected(unit.key, reason, n_objects, fault=reason == NO_BRICK)
        rows = start + np.flatnonzero(keep).astype(np.int64)
        names = file.column(_TABLE, "BRICKNAME", rows)
        for name in np.unique(names):
            chosen = rows[names == name]
            brick = name.decode()
            files = _coadds(unit.options["folders"], brick)
            yield from _read_brick(file, brick, files, chosen, size, need_images=need_images)


def _reasons(
    file: FitsFile, rows: slice, cuts: Cuts | None, known: set[str]
) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Tell which rows are left out, one reason after the other."""
    names = file.column(_TABLE, "BRICKNAME", rows).tolist()
    yield NO_BRICK, np.array([not _BRICK.fullmatch(name.decode("latin-1")) for name in names], bool)
    if "BRICK_PRIMARY" in known:
        yield NOT_PRIMARY, ~file.column(_TABLE, "BRICK_PRIMARY", rows)
    if cuts is not None:
        yield from cuts.reasons(file, rows)


def _read_brick(
    catalogue: FitsFile,
    brick: str,
    files: dict[str, Path],
    rows: NDArray[np.int64],
    size: int,
    *,
    need_images: bool,
) -> Iterator[Batch | Rejected]:
    per_batch = max(1, _BATCH_BYTES // sum(map(row_nbytes, stamp_columns(size))))
    if not any(kind.startswith("image") for kind in files):
        if need_images:
            yield Rejected(brick, NO_COADD, len(rows))
            return
        for first in range(0, len(rows), per_batch):
            chosen = rows[first : first + per_batch]
            yield {**_catalogue(catalogue, chosen), **blank_stamps(len(chosen), size)}
        return
    release = catalogue.column(_TABLE, "RELEASE", rows)
    if "maskbits" not in files and (release >= _FIRST_WITH_MASKBITS).any():
        yield Rejected(brick, NO_MASKBITS, len(rows))
        return
    left = len(rows)
    try:
        with Brick(files) as coadds:
            x, y = coadds.grid.pixels(
                catalogue.column(_TABLE, "RA", rows), catalogue.column(_TABLE, "DEC", rows)
            )
            inside = coadds.grid.reached(x, y, size)
            # A position that is none goes on: it is rejected for that, where all are checked.
            inside |= ~(np.isfinite(x) & np.isfinite(y))
            if not inside.all():
                n_outside = int(np.count_nonzero(~inside))
                left -= n_outside
                yield Rejected(brick, OUTSIDE_COADD, n_outside)
            # Along the rows of the coadd, so that a batch unpacks a narrow strip of it.
            order = np.flatnonzero(inside)
            order = order[np.argsort(y[order], kind="stable")]
            for first in range(0, len(order), per_batch):
                chosen = order[first : first + per_batch]
                stamps = coadds.stamps(x[chosen], y[chosen], size)
                yield {**_catalogue(catalogue, rows[chosen]), **stamps}
                left -= len(chosen)
    except NativeFileError as error:
        if error.path == str(catalogue.path):
            raise
        yield Rejected(Path(error.path).name, BROKEN_COADD, left)


def _catalogue(file: FitsFile, rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """Take the native columns of some rows; what the catalogue does not have is said missing."""
    known = {name.upper() for name in file.columns(_TABLE)}
    batch = {}
    for column in _legacy.SWEEP_COLUMNS:
        if column.name not in known:
            batch[column.name] = _legacy.missing(len(rows), column)
            continue
        values = file.column(_TABLE, column.name, rows)
        if values.shape[1:] != column.shape:
            raise file.error(f"{column.name} of shape {column.shape}", f"{values.shape[1:]}")
        fitting = _legacy.fit(values, column)
        if fitting is None:
            raise file.error(f"{column.name} as {column.dtype}", f"{values.dtype}, wider values")
        batch[column.name] = fitting
    batch["object_id"] = _legacy.object_ids(batch["RELEASE"], batch["BRICKID"], batch["OBJID"])
    return batch


# --------------------------------------------------------------------------------------
# The survey


def make_survey(
    subset: str = "dr10_south",
    *,
    release: str = "DR10",
    cuts: Cuts | None = None,
    size: int = 160,
    need_images: bool = True,
) -> Survey:
    """
    Make a data set of the Legacy Surveys, with its own selection and size of stamps.

    Parameters
    ----------
    subset : str
        Name of the subset.
    release : str
        Release the files are of, for provenance; all are read alike.
    cuts : Cuts, optional
        Selection; by default every object of the catalogue.
    size : int
        Side of the stamps [pixel].
    need_images : bool
        Whether an object without coadd is rejected; else it comes without images.

    Returns
    -------
    Survey
        The survey.

    Examples
    --------
    >>> make_survey("dr9_small", release="DR9", size=64)["image_array"].shape
    (4, 64, 64)
    """
    per_band = [band.upper() for band in BANDS]
    return Survey(
        name="legacysurvey",
        project="DESI Legacy Imaging Surveys",
        survey="Legacy Surveys",
        release=release,
        subset=subset,
        title="DESI Legacy Imaging Surveys",
        description=(
            "Stamps in g, r, i and z from the coadds of the Legacy Surveys (DECam in the south, "
            "BASS and MzLS in the north), with inverse variance, mask bits and every column of "
            "the sweep catalogues of DR10, and those that only DR8 has. Bands without a coadd "
            "are left out of an image. A column that a release does not have is NaN, -1, 255 or "
            "empty. Images are not dereddened."
        ),
        homepage=_legacy.HOMEPAGE,
        citation=_legacy.CITATION,
        acknowledgement=_legacy.ACKNOWLEDGEMENT,
        licence="unknown",
        columns=(_legacy.OBJECT_ID, *_legacy.SWEEP_COLUMNS, *stamp_columns(size)),
        aliases={
            "object_id": "object_id",
            "observation_id": "object_id",
            "ra": "RA",
            "dec": "DEC",
            "ebv": "EBV",
            "mag": Formula(
                "22.5 - 2.5 * log10(FLUX_R / MW_TRANSMISSION_R)",
                unit="mag",
                doc="r magnitude (AB) of the model, dereddened.",
            ),
            "image": RecordList(
                {
                    "array": "image_array",
                    "ivar": Formula(
                        "where(image_bad, 0, image_invvar)",
                        unit="1 / nanomaggy2",
                        doc="Inverse variance, 0 for bad pixels.",
                    ),
                    "mask": BadPixels("image_bad"),
                    "psf_fwhm": Stack(tuple(f"PSFSIZE_{band}" for band in per_band)),
                    "pixel_size": Constant(_legacy.PIXEL_ARCSEC),
                    "noise_std": "image_noise_std",
                    "filter": Constant(BANDS),
                    "units": Constant("nanomaggy"),
                    "extinction": Stack(
                        tuple(
                            Formula(f"-2.5 * log10(MW_TRANSMISSION_{band})", unit="mag")
                            for band in per_band
                        )
                    ),
                },
                where="image_present",
            ),
        },
        units=units,
        read=partial(read, cuts=cuts, size=size, need_images=need_images),
    )


SURVEY: Final = make_survey()
"""Every object of the catalogues. Positions are those at the mean time of the images."""

SOUTH_21: Final = make_survey("dr10_south_21", cuts=Cuts())
"""The selection of Multimodal Universe v1: galaxies to z = 21 observed in four bands."""
