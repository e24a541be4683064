"""
HSC-SSP PDR3, Deep and UltraDeep: five bands cut from the coadds at catalogue positions.

Native files: one or more catalogue tables (FITS, as the survey's database answers a query) in
the folder itself, and the coadds ``calexp-HSC-<band>-<tract>-<patch>.fits`` anywhere below it,
usually ``deepCoadd-results/HSC-<band>/<tract>/<patch>/``. Catalogue and coadds are joined by
tract and patch. Does not measure anything anew: cutouts are copies of pixels.

Data model: https://hsc-release.mtk.nao.ac.jp/schema/ and
https://hsc-release.mtk.nao.ac.jp/doc/index.php/data__pdr3/
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from astropile.errors import NativeFileError
from astropile.schema import (
    BadPixels,
    Column,
    Constant,
    Formula,
    RecordList,
    Rejected,
    Stack,
    Survey,
    Unit,
)
from astropile.surveys._calexp import (
    BAD_PLANES,
    NO_DATA,
    Calexp,
    inverse_variance,
    mask_with_declared_bits,
)
from astropile.surveys._fits import FitsFile
from astropile.surveys._hsc_columns import (
    BANDS,
    CUTOUT,
    NATIVE_COLUMNS,
    PIXEL_SIZE_ARCSEC,
    UNIT,
    image_columns,
    psf_fwhm,
)

_OBJECTS_PER_BATCH: Final = 128
"""160 x 160 cutouts in five bands: 200 MB a batch."""

_CALEXP = re.compile(r"calexp-HSC-([GRIZY])-(\d+)-(\d+),(\d+)\.fits(?:\.gz|\.fz)?")
_FLAGS: Final = (
    "pixelflags_bright_objectcenter",
    "pixelflags_bright_object",
    "pixelflags_edge",
    "pixelflags_saturatedcenter",
    "pixelflags_bad",
    "cmodel_flag",
)


# --------------------------------------------------------------------------------------
# Finding the files


def list_units(native_path: Path, *, cuts: bool = False) -> Iterator[Unit]:
    """
    List the patches that the catalogues have objects in.

    Parameters
    ----------
    native_path : Path
        Folder with the catalogues and, below it, the coadds.
    cuts : bool
        Whether the columns that the cuts need must be there.

    Yields
    ------
    Unit
        One patch of one catalogue: the catalogue first, then the coadds there are. A catalogue
        that cannot be used is a unit of its own, so that reading it says why.

    Raises
    ------
    NativeFileError
        If there is no catalogue or no coadd, or two coadds of the same patch and band.
    """
    native_path = Path(native_path)
    coadds = _find_coadds(native_path)
    catalogs = [
        path
        for path in sorted(native_path.glob("*.fits*"))
        if path.name.endswith((".fits", ".fits.gz")) and not path.name.startswith("calexp-")
    ]
    if not catalogs or not coadds:
        missing = "a catalogue *.fits" if not catalogs else "calexp-HSC-<band>-<tract>-<patch>.fits"
        raise NativeFileError(str(native_path), missing, "no such file")
    for catalog in catalogs:
        try:
            with FitsFile(catalog) as file:
                _check_columns(file, cuts=cuts)
                tract, patch = (file.column(1, name) for name in ("tract", "patch"))
        except NativeFileError:
            yield Unit(key=catalog.name, paths=(catalog,))
            continue
        for t, p in np.unique(np.stack([tract, patch], axis=1).astype(np.int64), axis=0).tolist():
            found = coadds.get((t, p), {})
            yield Unit(
                key=f"{catalog.name}:{t}/{p // 100},{p % 100}",
                paths=(catalog, *(found[band] for band in BANDS if band in found)),
                options={"tract": t, "patch": p},
            )


def _find_coadds(native_path: Path) -> dict[tuple[int, int], dict[str, Path]]:
    found: dict[tuple[int, int], dict[str, Path]] = {}
    for path in sorted(native_path.rglob("calexp-HSC-*.fits*")):
        match = _CALEXP.fullmatch(path.name)
        if match is None:
            continue
        band, tract, x, y = match.groups()
        bands = found.setdefault((int(tract), int(x) * 100 + int(y)), {})
        if band.lower() in bands:
            raise NativeFileError(
                str(path), "one coadd for each band and patch", f"also {bands[band.lower()]}"
            )
        bands[band.lower()] = path
    return found


def _check_columns(file: FitsFile, *, cuts: bool) -> None:
    known = {name.lower() for name in file.columns(1)}
    wanted = [column.name for column in NATIVE_COLUMNS] + (_cut_columns() if cuts else [])
    missing = [name for name in wanted if name not in known]
    if missing:
        raise file.error(f"the columns of the catalogue, among them {missing[0]!r}", "it is absent")


# --------------------------------------------------------------------------------------
# Reading


def read(
    unit: Unit, *, cutout: int = CUTOUT, cuts: bool = False
) -> Iterator[dict[str, Any] | Rejected]:
    """
    Read the objects of a patch, with their cutouts.

    Parameters
    ----------
    unit : Unit
        As `list_units` gives them.
    cutout : int
        Side of the cutouts [pixel].
    cuts : bool
        Whether to leave out objects that fail the selection.

    Yields
    ------
    dict or Rejected
        Batches of at most 128 objects, and the objects that could not be taken.

    Raises
    ------
    NativeFileError
        If the catalogue cannot be used. A coadd that cannot be used rejects its objects.
    """
    catalog, *coadd_paths = unit.paths
    with FitsFile(catalog) as file:
        _check_columns(file, cuts=cuts)
        tract, patch = (file.column(1, name) for name in ("tract", "patch"))
        here = (tract == unit.options["tract"]) & (patch == unit.options["patch"])
        rows = np.flatnonzero(here)
        objects = {column.name: _column(file, column, rows) for column in NATIVE_COLUMNS}
        flags = {name: file.column(1, name, rows) for name in (_cut_columns() if cuts else [])}
    if cuts:
        reasons = _failed_cuts(objects | flags)
        for row in np.flatnonzero(reasons != ""):
            yield Rejected(str(objects["object_id"][row]), str(reasons[row]), fault=False)
        objects = {name: values[reasons == ""] for name, values in objects.items()}
    if not len(objects["object_id"]):
        return
    if not coadd_paths:
        yield from _reject(objects, "no coadd of its patch in any band")
        return
    with ExitStack() as opened:
        try:
            coadds = [
                _Coadd.of(opened.enter_context(FitsFile(path)), objects) for path in coadd_paths
            ]
        except NativeFileError as error:
            yield from _reject(objects, _reason(error))
            return
        on_image = np.any([coadd.has_object for coadd in coadds], axis=0)
        outside = {"object_id": objects["object_id"][~on_image]}
        yield from _reject(outside, "the object lies outside its patch's coadd")
        # In the order of the image's rows, a batch needs one strip of each plane only.
        rows = np.flatnonzero(on_image)
        rows = rows[np.argsort(coadds[0].pixels[rows, 1], kind="stable")]
        for start in range(0, len(rows), _OBJECTS_PER_BATCH):
            chosen = rows[start : start + _OBJECTS_PER_BATCH]
            batch = {name: values[chosen] for name, values in objects.items()}
            try:
                batch |= _cutouts(coadds, chosen, cutout)
            except NativeFileError as error:
                yield from _reject(batch, _reason(error))
            else:
                yield batch


def _column(file: FitsFile, column: Column, rows: NDArray[np.int64]) -> NDArray[Any]:
    """Take a column in its declared dtype, if it is that but for a width that changes nothing."""
    values = file.column(1, column.name, rows)
    declared = column.numpy_dtype
    if values.dtype != declared:
        with np.errstate(all="ignore"):
            cast = values.astype(declared) if values.dtype.kind in "iuf" else values
        if values.dtype.kind != declared.kind or not np.array_equal(
            cast, values, equal_nan=declared.kind == "f"
        ):
            raise file.error(f"column {column.name!r} of {declared}", str(values.dtype))
        values = cast
    return values


def _reject(objects: Mapping[str, NDArray[Any]], reason: str) -> Iterator[Rejected]:
    for object_id in objects["object_id"]:
        yield Rejected(str(object_id), reason)


def _reason(error: NativeFileError) -> str:
    return f"{Path(error.path).name}: expected {error.expected}, found {error.found}"


@dataclass(frozen=True)
class _Coadd:
    """What is needed of the coadd of one band to cut objects out of it."""

    band: str
    calexp: Calexp
    mask_planes: Mapping[str, int]
    zero_point: float
    pixels: NDArray[np.float64]

    @classmethod
    def of(cls, file: FitsFile, objects: Mapping[str, NDArray[Any]]) -> _Coadd:
        calexp = Calexp.of(file)
        return cls(
            file.path.name.split("-")[2].lower(),
            calexp,
            calexp.mask_planes,
            calexp.zero_point,
            calexp.pixels_of(objects["ra"], objects["dec"]),
        )

    @property
    def has_object(self) -> NDArray[np.bool_]:
        """Whether each object's pixel is on the image; a position that is none passes."""
        height, width = self.calexp.shape
        column, row = np.floor(self.pixels + 0.5).T
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        # The builder rejects positions that are none, alike for every survey.
        return np.asarray(inside | np.isnan(column))


def _cutouts(coadds: list[_Coadd], chosen: NDArray[np.int64], cutout: int) -> dict[str, Any]:
    """Make the derived columns of some objects."""
    n, bands = len(chosen), len(BANDS)
    image = np.zeros((n, bands, cutout, cutout), np.float32)
    ivar = np.zeros_like(image)
    mask = np.full(image.shape, NO_DATA, np.int32)
    available = np.zeros((n, bands), bool)
    zero_point = np.full((n, bands), np.nan, np.float32)
    for coadd in coadds:
        number = BANDS.index(coadd.band)
        available[:, number] = True
        zero_point[:, number] = coadd.zero_point
        _cut_band(coadd, chosen, (image[:, number], ivar[:, number], mask[:, number]))
    return {
        "image_array": image,
        "image_ivar": ivar,
        "image_mask": mask,
        "image_available": available,
        "image_noise_std": _noise_std(ivar),
        "image_zero_point": zero_point,
    }


def _cut_band(
    coadd: _Coadd,
    chosen: NDArray[np.int64],
    out: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int32]],
) -> None:
    """Copy the part of the coadd around each object; what lies outside stays as it is."""
    calexp, side = coadd.calexp, out[0].shape[-1]
    height, width = calexp.shape
    pixels = np.nan_to_num(coadd.pixels[chosen], nan=-1e6)
    corners = np.floor(pixels + 0.5).astype(np.int64) - side // 2
    low = int(np.clip(corners[:, 1].min(), 0, height))
    high = int(np.clip(corners[:, 1].max() + side, 0, height))
    if low >= high:
        return
    image, mask, variance = (
        calexp.file.image(plane, rows=slice(low, high))
        for plane in (calexp.image, calexp.mask, calexp.variance)
    )
    if image.dtype != np.float32 or variance.dtype != np.float32 or mask.dtype.kind not in "iu":
        raise calexp.file.error(
            "float32 image, integer mask, float32 variance",
            f"{image.dtype}, {mask.dtype}, {variance.dtype}",
        )
    bits = mask_with_declared_bits(mask, coadd.mask_planes)
    bits[~np.isfinite(image)] |= NO_DATA
    weight = inverse_variance(variance, image, bits)
    image[~np.isfinite(image)] = 0
    for number, (left, top) in enumerate(corners):
        rows = slice(max(0, top), min(height, top + side))
        columns = slice(max(0, left), min(width, left + side))
        if rows.start >= rows.stop or columns.start >= columns.stop:
            continue
        source = (slice(rows.start - low, rows.stop - low), columns)
        target = (
            number,
            slice(rows.start - top, rows.stop - top),
            slice(columns.start - left, columns.stop - left),
        )
        for array, strip in zip(out, (image, weight, bits), strict=True):
            array[target] = strip[source]


def _noise_std(ivar: NDArray[np.float32]) -> NDArray[np.float32]:
    noise = np.full(ivar.shape[:2], np.nan, np.float32)
    for place in np.ndindex(noise.shape):
        good = ivar[place][ivar[place] > 0]
        if good.size:
            noise[place] = np.median(good) ** -0.5
    return noise


# --------------------------------------------------------------------------------------
# Selection


def _cut_columns() -> list[str]:
    per_band = [f"{b}_{name}" for name in ("inputcount_value", *_FLAGS) for b in BANDS]
    return ["isprimary", *per_band]


def _failed_cuts(objects: Mapping[str, NDArray[Any]]) -> NDArray[np.str_]:
    """Give the first cut that each object fails; an empty string for those that pass."""
    failed: dict[str, NDArray[np.bool_]] = {
        "not primary": ~objects["isprimary"].astype(bool),
        "not brighter than 22.5 in i_cmodel_mag": ~(objects["i_cmodel_mag"] < 22.5),
    }
    for b in BANDS:
        failed[f"fewer than 3 exposures in {b}"] = ~(objects[f"{b}_inputcount_value"] >= 3)
        for flag in _FLAGS:
            failed[f"{b}_{flag} is set"] = objects[f"{b}_{flag}"].astype(bool)
    return np.select(list(failed.values()), list(failed), default="")


def make_survey(*, cutout: int = CUTOUT, cuts: bool = False) -> Survey:
    """
    Make the survey with cutouts of another size or with the selection applied.

    Parameters
    ----------
    cutout : int
        Side of the cutouts [pixel].
    cuts : bool
        Leave out, and count, the objects that fail the selection of `pdr3_dud_22.5`: primary;
        i_cmodel_mag below 22.5; at least 3 exposures in each band; in no band one of the flags
        pixelflags_bright_objectcenter, pixelflags_bright_object, pixelflags_edge,
        pixelflags_saturatedcenter, pixelflags_bad and cmodel_flag. The catalogue then needs
        these columns too. By default it is taken as the answer to a query that made the cuts.

    Returns
    -------
    Survey
        The survey.

    Examples
    --------
    >>> make_survey(cutout=64)["image_array"].shape
    (5, 64, 64)
    """
    return Survey(
        name="hsc",
        project="HSC-SSP",
        survey="HSC",
        release="PDR3",
        subset="pdr3_dud_22.5",
        title="HSC-SSP PDR3, Deep and UltraDeep, i < 22.5",
        description=(
            "Images in g, r, i, z and y of the objects brighter than 22.5 (i, CModel) in the Deep "
            "and UltraDeep layers of the Hyper Suprime-Cam Subaru Strategic Program: primary, "
            "at least three exposures in each band, no bright-object, edge, saturated-centre, "
            "bad-pixel or CModel flag in any band." + (" Selected while building." if cuts else "")
        ),
        homepage="https://hsc-release.mtk.nao.ac.jp/",
        citation="Aihara et al. 2022, PASJ 74, 247, doi:10.1093/pasj/psab122; "
        "Aihara et al. 2018, PASJ 70, S4, doi:10.1093/pasj/psx066",
        licence="HSC-SSP data policy: free use in research and education with the credit "
        "'NAOJ / HSC Collaboration'",
        acknowledgement=(
            "The Hyper Suprime-Cam (HSC) collaboration includes the astronomical communities of "
            "Japan and Taiwan, and Princeton University. Credit: NAOJ / HSC Collaboration."
        ),
        columns=(*NATIVE_COLUMNS, *image_columns(cutout)),
        aliases={
            "object_id": "object_id",
            "observation_id": "object_id",
            "ra": "ra",
            "dec": "dec",
            "mag": Formula(
                "i_cmodel_mag - a_i",
                unit="mag",
                doc="CModel magnitude in i, corrected for Galactic extinction.",
            ),
            "image": RecordList(
                {
                    "filter": Constant(BANDS),
                    "array": "image_array",
                    "ivar": "image_ivar",
                    "mask": BadPixels("image_mask", bits=BAD_PLANES),
                    "psf_fwhm": Stack(tuple(psf_fwhm(band) for band in BANDS)),
                    "pixel_size": Constant(PIXEL_SIZE_ARCSEC),
                    "noise_std": "image_noise_std",
                    "units": Constant(UNIT),
                    "zero_point": "image_zero_point",
                    "extinction": Stack(tuple(f"a_{band}" for band in BANDS)),
                },
                where="image_available",
            ),
        },
        units=partial(list_units, cuts=cuts),
        read=partial(read, cutout=cutout, cuts=cuts),
    )


SURVEY = make_survey()
