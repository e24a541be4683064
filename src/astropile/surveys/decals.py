"""
DECaLS images of Stein et al.: 76 million galaxies of DR9 as g, r, z stamps in HDF5.

Data model: https://github.com/georgestein/ssl-legacysurvey (README); columns as in the sweep
catalogues, https://www.legacysurvey.org/dr9/catalogs. There is no inverse variance and no mask:
none is made up here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from astropile.errors import NativeFileError
from astropile.schema import Batch, Column, Constant, Formula, RecordList, Stack, Survey, Unit
from astropile.surveys import _legacy
from astropile.surveys._foreign import ForeignFile

BANDS: Final = ("g", "r", "z")

_FILE: Final = re.compile(r"images_npix\d+_\d+_\d+\.h5")
_ROWS_PER_UNIT: Final = 8192
_BATCH_BYTES: Final = 128 * 2**20

_NATIVE: Final = (
    Column(
        "images",
        "float32",
        "Cutouts of the coadds in g, r, z (band, row, column), centred on the object.",
        shape=(3, "npix", "npix"),
        unit="nanomaggy",
    ),
    Column("inds", "int64", "Rank in decreasing z flux; some are skipped or doubled in the south."),
    Column("release", "int32", "Release number: 9010 and 9012 south, 9011 north."),
    Column("brickid", "int32", "Brick number, 1 to 662174."),
    Column("objid", "int32", "Number of the object within release and brickid."),
    Column(
        "ra",
        "float64",
        "Right ascension, J2000. Where a file has float32 it is known to 0.06 arcsec only.",
        unit="deg",
    ),
    Column(
        "dec",
        "float64",
        "Declination, J2000. Where a file has float32 it is known to 0.02 arcsec only.",
        unit="deg",
    ),
    Column("ebv", "float32", "Galactic reddening E(B-V), SFD98.", unit="mag"),
    Column("flux", "float32", "Model flux in g, r, z, not dereddened.", (3,), "nanomaggy"),
    Column("fiberflux", "float32", "Flux in a 1.5 arcsec fibre in g, r, z.", (3,), "nanomaggy"),
    Column(
        "psfdepth",
        "float32",
        "Inverse variance of a point source's flux in g, r, z.",
        (3,),
        "1 / nanomaggy2",
    ),
    Column("psfsize", "float32", "Weighted mean PSF FWHM in g, r, z.", (3,), "arcsec"),
    Column("z_spec", "float32", "Spectroscopic redshift from other surveys; -99 if there is none."),
)
_OPTIONAL: Final = (
    Column("fracin", "float32", "Fraction of the flux within the blob in g, r, z.", (3,)),
    Column("maskbits", "int32", "Bits of the maskbits coadd touched.", bits=_legacy.MASKBITS),
    Column("nobs", "int32", "Images at the central pixel in g, r, z.", (3,)),
    Column("source_type", "S4", "Morphological model: REX, DEV, EXP, SER."),
    Column("transmission", "float32", "Galactic transmission in g, r, z, 0 to 1.", (3,)),
    Column("z_phot_mean", "float32", "Photometric redshift, mean; -99 if there is none."),
    Column("z_phot_median", "float32", "Photometric redshift, median; -99 if there is none."),
    Column("z_phot_std", "float32", "Photometric redshift, standard deviation."),
    Column("z_phot_l68", "float32", "Photometric redshift, lower end of 68 per cent."),
    Column("z_phot_u68", "float32", "Photometric redshift, upper end of 68 per cent."),
    Column("z_phot_l95", "float32", "Photometric redshift, lower end of 95 per cent."),
    Column("z_phot_u95", "float32", "Photometric redshift, upper end of 95 per cent."),
    Column("z_training", "bool", "Whether z_spec trained the photometric redshifts."),
)
"""Columns that not all files have in full: NaN, -1, empty or False where they do not."""

_DERIVED: Final = (
    _legacy.OBJECT_ID,
    *(
        Column(
            f"flux_{band}",
            "float32",
            f"Entry {entry} of flux, by itself: model flux in {band}.",
            unit="nanomaggy",
            derived=True,
        )
        for entry, band in enumerate(BANDS)
    ),
)

# Noise per pixel from the depth for point sources: a Gaussian PSF of standard deviation s
# pixels has an effective area of 4 pi s^2 pixels (legacysurvey.org/dr9/nea).
_NOISE: Final = Formula(
    f"2.3548 * {_legacy.PIXEL_ARCSEC} / (psfsize * sqrt(4 * pi * psfdepth))",
    unit="nanomaggy",
    doc="Estimate, not a measurement: noise per pixel that gives psfdepth for a Gaussian PSF.",
)


def units(native_path: Path) -> list[Unit]:
    """
    List ranges of rows of the image files.

    Parameters
    ----------
    native_path : Path
        Folder with ``images_npix<n>_<first>_<last>.h5``, or with the folders ``north`` and
        ``south`` that hold them. ``south-train`` repeats galaxies of ``south`` and is left
        out unless it is the folder given.

    Returns
    -------
    list of Unit
        In order of path and row.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    """
    native_path = Path(native_path)
    files = sorted(
        path
        for path in native_path.rglob("images_npix*.h5")
        if _FILE.fullmatch(path.name)
        and "south-train" not in path.relative_to(native_path).parts[:-1]
    )
    if not files:
        raise FileNotFoundError(
            f"no file images_npix<n>_<first>_<last>.h5 in {native_path}, as in the data set of "
            "Stein et al."
        )
    found = []
    for path in files:
        key = path.relative_to(native_path).as_posix()
        try:
            with ForeignFile(path) as file:
                n_rows = file.shape("images")[0]
        except (NativeFileError, IndexError):
            n_rows = 1  # `read` says what is wrong.
        found += [
            Unit(f"{key}[{start:07d}:]", (path,), {"start": start})
            for start in range(0, max(n_rows, 1), _ROWS_PER_UNIT)
        ]
    return found


def read(unit: Unit) -> Iterator[Batch]:
    """
    Read a range of rows.

    Parameters
    ----------
    unit : Unit
        One of `units`.

    Yields
    ------
    mapping of str to ndarray
        Every column.

    Raises
    ------
    NativeFileError
        If the file is broken or lacks a column that is always there.
    """
    (path,) = unit.paths
    start = int(unit.options["start"])
    with ForeignFile(path, _BATCH_BYTES) as file:
        n_rows, shape = _layout(file)
        per_batch = max(1, _BATCH_BYTES // (4 * int(np.prod(shape))))
        stop = min(n_rows, start + _ROWS_PER_UNIT)
        for first in range(start, stop, per_batch):
            yield _batch(file, n_rows, slice(first, min(stop, first + per_batch)))


def _layout(file: ForeignFile) -> tuple[int, tuple[int, ...]]:
    """Give the number of rows and the shape of an image, or say what is wrong."""
    shape = file.shape("images")
    if len(shape) != 4 or shape[1] != len(BANDS) or not shape[2] == shape[3] > 0:
        expected = "'images' of shape (n, 3, npix, npix)"
        raise NativeFileError(str(file.path), expected, f"shape {shape}")
    return shape[0], shape[1:]


def _batch(file: ForeignFile, n_rows: int, rows: slice) -> Batch:
    batch: dict[str, NDArray[Any]] = {}
    for column in _NATIVE:
        batch[column.name] = _values(file, n_rows, rows, column)
    for column in _OPTIONAL:
        # Some files hold a field for fewer rows than there are images: of no use, as rows
        # are told apart by their number only.
        if column.name in file.names and file.shape(column.name)[:1] == (n_rows,):
            batch[column.name] = _values(file, n_rows, rows, column)
        else:
            batch[column.name] = _legacy.missing(rows.stop - rows.start, column)
    batch["object_id"] = _legacy.object_ids(batch["release"], batch["brickid"], batch["objid"])
    for entry, band in enumerate(BANDS):
        batch[f"flux_{band}"] = batch["flux"][:, entry]
    return batch


def _values(file: ForeignFile, n_rows: int, rows: slice, column: Column) -> NDArray[Any]:
    """Read some rows in the declared dtype, not one value changed."""
    found = file.shape(column.name)
    shape = found[1:] if "npix" in column.shape else column.shape
    if found != (n_rows, *shape):
        expected = f"{column.name!r} of shape {(n_rows, *shape)}"
        raise NativeFileError(str(file.path), expected, f"shape {found}")
    stored = file.read(column.name, rows)
    values = _legacy.fit(stored, column)
    if values is None:
        raise NativeFileError(
            str(file.path),
            f"{column.name!r} as {column.dtype}",
            f"{stored.dtype} with values that it cannot hold",
        )
    return values


SURVEY: Final = Survey(
    name="decals",
    project="DESI Legacy Imaging Surveys",
    survey="DECaLS",
    release="DR9",
    subset="stein_et_al",
    title="DECaLS images of Stein et al.",
    description=(
        "Stamps in g, r and z (152 x 152 pixels of 0.262 arcsec) of galaxies to z < 20 in DR9 of "
        "the Legacy Surveys, south (DECaLS) and north (BASS and MzLS), with values from the sweep "
        "catalogues and photometric redshifts. Images are not dereddened. They come without "
        "inverse variance and mask; noise_std is an estimate from the depth."
    ),
    homepage="https://github.com/georgestein/ssl-legacysurvey",
    citation=(
        "Stein et al. 2022, Mining for Strong Gravitational Lenses with Self-supervised Learning, "
        f"ApJ 932, 107, doi:10.3847/1538-4357/ac6d63; {_legacy.CITATION}"
    ),
    acknowledgement=_legacy.ACKNOWLEDGEMENT,
    licence="unknown",
    columns=(*_DERIVED[:1], *_NATIVE, *_OPTIONAL, *_DERIVED[1:]),
    aliases={
        "object_id": "object_id",
        "observation_id": "object_id",
        "ra": "ra",
        "dec": "dec",
        "ebv": "ebv",
        "z": Formula(
            "where(z_spec > -90, z_spec, nan)", doc="Spectroscopic redshift, NaN if there is none."
        ),
        "mag": Formula(
            f"22.5 - 2.5 * log10(flux_r) - {_legacy.EXTINCTION['r']} * ebv",
            unit="mag",
            doc="r magnitude (AB) of the model, dereddened.",
        ),
        "image": RecordList(
            {
                "array": "images",
                "psf_fwhm": "psfsize",
                "pixel_size": Constant(_legacy.PIXEL_ARCSEC),
                "noise_std": _NOISE,
                "filter": Constant(BANDS),
                "units": Constant("nanomaggy"),
                "extinction": Stack(
                    tuple(
                        Formula(f"{_legacy.EXTINCTION[band]} * ebv", unit="mag") for band in BANDS
                    )
                ),
            }
        ),
    },
    units=units,
    read=read,
    dims=("npix",),
    epoch=None,
)
"""Stein et al.'s images; positions are those of the sources at the mean time of their images."""
