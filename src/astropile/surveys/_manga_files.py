"""
Find and read MaNGA's files: cubes of the DRP, maps of the DAP, rows of drpall and dapall.

Cubes and maps of every release from DR13 on are read. Knows no standard names.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astropile.errors import NativeFileError
from astropile.schema import Batch, Rejected, Unit
from astropile.surveys._fits import FitsFile
from astropile.surveys._manga_model import (
    COORDINATES,
    CUBE_KEYS,
    DAPALL,
    DRP3PIXMASK,
    DRPALL,
    MAPS,
    MAPS_KEYS,
    VECTORS,
    Key,
    Map,
)

_FILE = re.compile(r"manga-(?P<plateifu>\d+-\d+)-(?P<kind>LOGCUBE|MAPS-.+)\.fits(\.gz)?")
"""DRP cubes and DAP maps; not the DAP's model cubes (LOGCUBE-<daptype>) nor linear cubes."""

_PREFERRED = ("MAPS-HYB10-MILESHC-MASTARSSP", "MAPS-HYB10", "MAPS-")
"""Analyses from the first choice to the last: one is taken where a cube has several."""

FWHM_PER_SIGMA = 2.0 * math.sqrt(2.0 * math.log(2.0))

_NOTHING = 1 << DRP3PIXMASK["NOCOV"] | 1 << DRP3PIXMASK["DONOTUSE"]


def units(native_path: Path) -> Iterable[Unit]:
    """
    List the cubes, and the maps that have no cube, below a folder.

    Parameters
    ----------
    native_path : Path
        Folder of native files.

    Returns
    -------
    iterable of Unit
        One per cube, and one per observation of which there are maps only, by path.

    Raises
    ------
    NativeFileError
        If there is neither a cube nor maps.
    """
    cubes: list[tuple[str, Path]] = []
    maps: dict[str, list[Path]] = {}
    for path in sorted(native_path.rglob("manga-*.fits*")):
        match = _FILE.fullmatch(path.name)
        if match is None:
            continue
        if match["kind"] == "LOGCUBE":
            cubes.append((match["plateifu"], path))
        else:
            maps.setdefault(match["plateifu"], []).append(path)
    if not cubes and not maps:
        raise NativeFileError(
            str(native_path),
            "manga-<plate>-<ifu>-LOGCUBE.fits.gz or manga-<plate>-<ifu>-MAPS-<daptype>.fits.gz "
            "somewhere below",
            "none" if native_path.is_dir() else "no such folder",
        )
    drpall = max(native_path.rglob("drpall-*.fits*"), default=None)
    dapall = max(native_path.rglob("dapall-*.fits*"), default=None)
    chosen = {plateifu: min(paths, key=_preference) for plateifu, paths in maps.items()}
    alone = sorted(set(chosen) - {plateifu for plateifu, _ in cubes})
    pieces: list[tuple[str, Path | None, Path | None]]
    pieces = [(name, path, chosen.get(name)) for name, path in cubes]
    pieces += [(name, None, chosen[name]) for name in alone]
    found = []
    for plateifu, cube, of_cube in pieces:
        # Maps alone have no wavelengths: those of a cube beside them make one tree possible.
        grid = cubes[0][1] if cube is None and cubes else None
        options = {
            "plateifu": plateifu,
            "cube": cube,
            "maps": of_cube,
            "drpall": drpall,
            "dapall": dapall,
            "grid": grid,
        }
        paths = tuple(path for path in (cube, of_cube, drpall, dapall, grid) if path is not None)
        found.append(Unit(paths[0].relative_to(native_path).as_posix(), paths, options))
    return sorted(found, key=lambda unit: unit.key)


def _preference(path: Path) -> tuple[int, str]:
    kind = path.name.split("-", 3)[3]
    rank = next(n for n, start in enumerate(_PREFERRED) if kind.startswith(start))
    return rank, path.as_posix()


def read(unit: Unit) -> Iterator[Batch | Rejected]:
    """
    Read one observation: its cube, its maps and its rows of the catalogues.

    Parameters
    ----------
    unit : Unit
        One of `units`.

    Yields
    ------
    Batch
        One object.

    Raises
    ------
    NativeFileError
        If a file is broken, is not of this observation, or lacks what it must hold.
    """
    options = unit.options
    values: dict[str, Any] = {}
    channels: dict[str, list[str]] = {}
    shape: tuple[int, int] | None = None
    values["HAS_MAPS"] = options["maps"] is not None
    for key in MAPS_KEYS:
        values[key.name] = _typed(key, key.missing)
    if options["maps"] is None:
        values |= _no_maps()
    else:
        with FitsFile(options["maps"]) as file:
            values |= _keys(file, (*CUBE_KEYS, *MAPS_KEYS), options["plateifu"])
            values["SPAXEL_SIZE"] = _spaxel_size(file, "SPX_MFLUX")
            values |= _maps(file, channels)
            shape = values["SPX_MFLUX"].shape
    values["HAS_CUBE"] = options["cube"] is not None
    if options["cube"] is None:
        values |= _no_cube(_grid(options["grid"]))
    else:
        with FitsFile(options["cube"]) as file:
            values |= _keys(file, CUBE_KEYS, options["plateifu"])
            values["SPAXEL_SIZE"] = _spaxel_size(file, "FLUX")
            values |= _cube(file, shape)
    values |= _coordinates(values, channels)
    values |= _catalogue(options["drpall"], "drpall", DRPALL, values["PLATEIFU"], "")
    values |= _catalogue(
        options["dapall"], "dapall", DAPALL, values["PLATEIFU"], values["DAPTYPE"].decode()
    )
    flux = values["drpall.nsa_elpetro_flux"]
    values["drpall.nsa_elpetro_flux_r"] = flux[4]
    yield {name: value if name == "WAVE" else _one(value) for name, value in values.items()}


def _one(value: Any) -> Any:
    """Make the one object's value a batch; a list stays ragged in whatever dimension it is."""
    array = np.asarray(value)
    return array[None] if array.dtype.kind != "U" else np.char.encode(array[None], "utf-8")


def _keys(file: FitsFile, keys: tuple[Key, ...], plateifu: str) -> dict[str, Any]:
    """Take keywords of the primary header in their declared types."""
    header = file.header(0)
    values: dict[str, Any] = {}
    for key in keys:
        found = next((header[name] for name in (key.name, key.other) if name in header), None)
        if found is None or str(found).strip() == "":
            if key.missing is None:
                raise file.error(f"keyword {key.name} in the primary header", "no such keyword")
            found = key.missing
        try:
            values[key.name] = _typed(key, found)
        except (ValueError, OverflowError) as error:
            raise file.error(f"{key.dtype} as {key.name}", repr(found)) from error
    if values["PLATEIFU"].decode() != plateifu:
        found = values["PLATEIFU"].decode()
        raise file.error(f"PLATEIFU {plateifu} as in the file's name", found)
    return values


def _typed(key: Key, value: Any) -> Any:
    """Give a value its declared type; a number is text in some headers (IFUDSGN)."""
    if not key.dtype.startswith("S"):
        return np.dtype(key.dtype).type(value)
    return value if isinstance(value, bytes) else str(value).strip().encode()


def _spaxel_size(file: FitsFile, name: str) -> np.float32:
    """Side of a spaxel [arcsec], to the five digits that the header's six figures allow."""
    header = file.header(name)
    if "CD1_1" in header:
        matrix = [[header.get(f"CD{i}_{j}", 0.0) for j in (1, 2)] for i in (1, 2)]
    elif "CDELT1" in header and "CDELT2" in header:
        matrix = [
            [header.get(f"PC{i}_{j}", float(i == j)) * header[f"CDELT{i}"] for j in (1, 2)]
            for i in (1, 2)
        ]
    else:
        raise file.error(f"CD1_1 or CDELT1 in HDU {name!r}", "neither")
    (a, b), (c, d) = matrix
    return np.float32(round(3600.0 * math.sqrt(abs(a * d - b * c)), 5))


# --------------------------------------------------------------------------------------
# Cubes


def in_field(file: FitsFile, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """
    Tell which spaxels of a cube hold anything.

    Parameters
    ----------
    file : FitsFile
        A cube.
    shape : tuple of int
        Shape that its arrays must have: wavelengths, rows, columns.

    Returns
    -------
    ndarray, shape (n_rows, n_columns), bool
        False where at every wavelength FLUX and IVAR are 0 and MASK says no coverage (NOCOV)
        or not to be used (DONOTUSE); True everywhere else.

    Raises
    ------
    NativeFileError
        If an array is not of that shape.
    """
    empty = np.ones(shape[1:], bool)
    # One array at a time: those of the largest bundles take 100 MB each.
    for name in ("FLUX", "IVAR", "MASK"):
        cube = file.image(name)
        if cube.shape != shape or cube.ndim != 3:
            wanted = f"shape ({shape[0]}, rows, columns) in HDU {name!r} as in WAVE and FLUX"
            raise file.error(wanted, f"shape {cube.shape}")
        nothing = cube & _NOTHING != 0 if name == "MASK" else cube == 0
        empty &= nothing.all(axis=0)
    return np.asarray(~empty)


def _cube(file: FitsFile, maps_shape: tuple[int, int] | None) -> dict[str, Any]:
    wave = file.image("WAVE")
    shape = (len(wave), *file.hdu("FLUX").shape[1:])
    if maps_shape is not None and shape[1:] != maps_shape:
        raise file.error(f"{maps_shape} spaxels as in the maps", f"{shape[1:]}")
    inside = in_field(file, shape)
    rows, columns = np.nonzero(inside)
    values: dict[str, Any] = {
        "WAVE": wave,
        "CUBE_ROWS": np.int16(shape[1]),
        "CUBE_COLUMNS": np.int16(shape[2]),
        "SPAXEL_ROW": rows.astype(np.int16),
        "SPAXEL_COLUMN": columns.astype(np.int16),
    }
    for name in ("FLUX", "IVAR", "MASK"):
        values[name] = np.ascontiguousarray(file.image(name)[:, inside].T)
    source = next((name for name in ("LSFPOST", "DISP") if file.has(name)), "SPECRES")
    values["LSF_SOURCE"] = source
    if source == "SPECRES":
        values["LSFPOST"] = np.tile(_sigma(wave, file.image(source)), (len(rows), 1))
    else:
        lsf = file.image(source)
        if lsf.shape != shape:
            raise file.error(f"shape {shape} in HDU {source!r} as in FLUX", f"shape {lsf.shape}")
        values["LSFPOST"] = np.ascontiguousarray(lsf[:, inside].T)
    bands = ["u", *"griz"] if file.has("UIMG") else list("griz")
    values["IMG_BAND"] = np.array(bands, "S1")
    values["IMG_LABEL"] = np.array([f"reconstructed_{band}" for band in bands], "S24")
    values["PSF_LABEL"] = np.array([f"reconstructed_psf_{band}" for band in bands], "S24")
    fwhm = [file.header(0).get(f"{band.upper()}FWHM", math.nan) for band in bands]
    values["IMG_FWHM"] = np.array(fwhm, np.float64)
    for kind in ("IMG", "PSF"):
        planes = np.zeros((len(bands), *shape[1:]))
        for plane, band in zip(planes, bands, strict=True):
            image = file.image(f"{band.upper()}{kind}")
            if image.shape != shape[1:]:
                raise file.error(f"{shape[1:]} pixels in {band.upper()}{kind}", f"{image.shape}")
            plane[...] = image
        values[kind] = planes
    return values


def _sigma(wave: NDArray[Any], resolution: NDArray[Any]) -> NDArray[np.float32]:
    """Width of the line spread [Angstrom] from lambda / FWHM; 0 where that is not known."""
    known = resolution > 0
    sigma = np.zeros(len(wave))
    sigma[known] = wave[known] / resolution[known] / FWHM_PER_SIGMA
    return sigma.astype(np.float32)


def _no_cube(wave: NDArray[np.float64]) -> dict[str, Any]:
    values: dict[str, Any] = {"WAVE": wave, "LSF_SOURCE": ""}
    for name in ("FLUX", "IVAR", "LSFPOST"):
        values[name] = np.zeros((0, len(wave)), np.float32)
    values["MASK"] = np.zeros((0, len(wave)), np.int32)
    for axis in ("ROW", "COLUMN"):
        values[f"SPAXEL_{axis}"] = np.zeros(0, np.int16)
        values[f"CUBE_{axis}S"] = np.int16(0)
    for name in ("IMG_BAND", "IMG_LABEL", "PSF_LABEL"):
        values[name] = np.zeros(0, "S1")
    values["IMG_FWHM"] = np.zeros(0)
    values["IMG"] = values["PSF"] = np.zeros((0, 0, 0))
    return values


def _grid(cube: Path | None) -> NDArray[np.float64]:
    """Wavelengths for an object without a cube: of a cube at hand, else the survey's."""
    if cube is None:
        return survey_wavelengths()
    with FitsFile(cube) as file:
        return file.image("WAVE")


@lru_cache(maxsize=1)
def survey_wavelengths() -> NDArray[np.float64]:
    """
    Give the wavelengths of every published logarithmic cube.

    Returns
    -------
    ndarray, shape (4563,), float64
        Vacuum wavelength, 10 ** (3.5589 + 1e-4 i) rounded correctly [Angstrom].

    Notes
    -----
    The power function of numpy is one unit in the last place off at four of them.
    """
    exponents = 3.5589 + np.arange(4563) * 1e-4
    wave = np.array([float(Decimal(10) ** Decimal(float(x))) for x in exponents])
    wave.flags.writeable = False
    return wave


# --------------------------------------------------------------------------------------
# Maps


def _maps(file: FitsFile, channels: dict[str, list[str]]) -> dict[str, Any]:
    shape = file.image("SPX_MFLUX").shape
    values: dict[str, Any] = {}
    for entry in MAPS:
        if entry.form == "o" and not file.has(entry.name):
            values |= _no_map(entry, shape)
            continue
        header = file.header(entry.name)
        planes = {entry.name: file.image(entry.name)}
        # The header says which HDUs go with the map; by rule they are called like it.
        if entry.has_ivar:
            planes[f"{entry.name}_IVAR"] = file.image(file.value(entry.name, "ERRDATA").strip())
        if entry.has_mask:
            planes[f"{entry.name}_MASK"] = file.image(file.value(entry.name, "QUALDATA").strip())
        for name, plane in planes.items():
            # Up to DR16 some HDUs that have channels now were a single plane.
            array = plane[None] if entry.channel and plane.ndim == 2 else plane
            if array.ndim != (3 if entry.channel else 2) or array.shape[-2:] != shape:
                raise file.error(f"maps of {shape} in HDU {name!r}", f"shape {plane.shape}")
            values[name] = array
        numbers = range(1, len(planes[entry.name]) + 1 if planes[entry.name].ndim == 3 else 1)
        names = [_numbered(header, "C", number) for number in numbers] or [""]
        channels[entry.name] = names
        values[f"{entry.name}_LABEL"] = [label(entry.name, name) for name in names]
        if entry.mixed:
            found = [_numbered(header, "U", n, header.get("BUNIT", "")) for n in numbers]
            values[f"{entry.name}_UNIT"] = found or [header.get("BUNIT", "")]
    return values


def _numbered(header: Any, letter: str, number: int, default: str = "") -> str:
    """Give a keyword that counts channels: C1 where there are fewer than ten, else C01."""
    for keyword in (f"{letter}{number}", f"{letter}{number:02d}"):
        if keyword in header:
            return str(header[keyword]).strip()
    return default


def label(name: str, channel: str) -> str:
    """
    Name a map: ``emline_gflux_ha_6564``, ``stellar_vel``, ``d4000``.

    Parameters
    ----------
    name : str
        The HDU.
    channel : str
        The channel as the header names it; empty where there are none.

    Returns
    -------
    str
        HDU and channel in lower case, other signs as underscores; of SPECINDEX the channel only.
    """
    parts = [channel] if name == "SPECINDEX" and channel else [name, channel]
    return re.sub(r"[^a-z0-9]+", "_", " ".join(parts).lower()).strip("_")


def _no_map(entry: Map, shape: tuple[int, ...]) -> dict[str, Any]:
    planes = (0, *shape) if entry.channel else shape
    values: dict[str, Any] = {entry.name: np.zeros(planes, entry.dtype)}
    if entry.has_ivar:
        values[f"{entry.name}_IVAR"] = np.zeros(planes, np.float32)
    if entry.has_mask:
        values[f"{entry.name}_MASK"] = np.zeros(planes, np.int32)
    values[f"{entry.name}_LABEL"] = np.zeros(0, "S1")
    if entry.mixed:
        values[f"{entry.name}_UNIT"] = np.zeros(0, "S1")
    return values


def _no_maps() -> dict[str, Any]:
    values: dict[str, Any] = {}
    for entry in MAPS:
        values |= _no_map(entry, (0, 0))
    return values


def _coordinates(values: dict[str, Any], channels: dict[str, list[str]]) -> dict[str, Any]:
    """Look the coordinates of the cube's spaxels up in the maps; NaN where there are none."""
    rows, columns = values["SPAXEL_ROW"], values["SPAXEL_COLUMN"]
    found: dict[str, Any] = {}
    for name, (hdu, channel) in COORDINATES.items():
        if channel in channels.get(hdu, ()):
            found[name] = values[hdu][channels[hdu].index(channel), rows, columns]
        else:
            found[name] = np.full(len(rows), np.nan, np.float32)
    return found


# --------------------------------------------------------------------------------------
# Catalogues


def _catalogue(
    path: Path | None, table: str, keys: tuple[Key, ...], plateifu: bytes, daptype: str
) -> dict[str, Any]:
    """Take one observation's values from drpall or dapall, by PLATEIFU."""
    row: int | None = None
    columns: dict[str, NDArray[Any]] = {}
    if path is not None:
        rows, columns = _table(path, path.stat().st_mtime_ns, keys, daptype)
        row = rows.get(plateifu)
    values: dict[str, Any] = {f"HAS_{table.upper()}": row is not None}
    for key in keys:
        if row is None:
            length = VECTORS.get(key.name)
            value = np.full(length, key.missing) if length else key.missing
        else:
            value = columns[key.name][row]
        values[f"{table}.{key.name}"] = np.asarray(value).astype(key.dtype)[()]
    return values


@lru_cache(maxsize=8)
def _table(
    path: Path, changed: int, keys: tuple[Key, ...], daptype: str
) -> tuple[dict[bytes, int], dict[str, NDArray[Any]]]:
    """Read a catalogue once: row of each PLATEIFU, and the columns; `changed` is its time."""
    del changed
    with FitsFile(path) as file:
        if keys is DRPALL:
            hdus: tuple[str | int, ...] = ("MANGA", 1)
        elif not daptype or not (file.has(daptype) or file.has("DAPALL")):
            return {}, {}
        else:
            hdus = (daptype, "DAPALL")
        names = file.column(hdus, "PLATEIFU")
        known = {name.upper() for name in file.columns(*hdus)}
        columns = {
            key.name: file.column(
                hdus, key.name if key.name.upper() in known or not key.other else key.other
            )
            for key in keys
        }
        chosen = np.ones(len(names), bool)
        if keys is DAPALL:
            # Up to DR16 one table holds all analyses.
            chosen = file.column(hdus, "DAPTYPE") == daptype.encode()
    return {names[row]: int(row) for row in np.flatnonzero(chosen)}, columns
