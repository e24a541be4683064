"""
Check one shard against the format: `docs/format.md` sections 2, 3 and 5.

The file is read in plain Python, through the gate for files of unknown origin: what may not be
in it is found before any data is read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from astropile.errors import FormatError, UntrustedFileError
from astropile.facts import alias_to_json
from astropile.gate.contents import read_rows, values_of
from astropile.gate.limits import DEFAULT
from astropile.gate.messages import DEFLATE, FLETCHER32, SHUFFLE
from astropile.gate.source import Source
from astropile.gate.structure import Dataset, Structure, read_structure
from astropile.hdf5.writer import GROUPS, RAGGED_CHUNK_NBYTES, ShardPlace, is_big
from astropile.names import COMMON_COLUMNS, FORMAT_VERSION
from astropile.schema import Column, Survey

Finding = tuple[str, str, str]
"""Rule, place in the file, what is wrong."""

_FILTERS: Final = (SHUFFLE, DEFLATE)
_ALLOWED_FILTERS: Final = {*_FILTERS, FLETCHER32}
_BLOCK_NBYTES: Final = 4 * 2**20

_NUMBERS: Final = frozenset(
    f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)
) | {"float32", "float64"}


def check_shard(
    path: Path, survey: Survey, place: ShardPlace, n_objects: int, layout: str
) -> Iterator[Finding]:
    """
    Look for what breaks the format in one shard.

    Parameters
    ----------
    path : Path
        The file.
    survey : Survey
        The survey as the tree tells it.
    place : ShardPlace
        Where the file stands.
    n_objects : int
        Objects it should hold.
    layout : {"compact", "fast"}
        The tree's layout.

    Yields
    ------
    tuple of str
        Rule, place in the file, what is wrong. After one of S1 or S5 the file is not looked at
        further.
    """
    try:
        with Source(path, DEFAULT) as source:
            yield from _look(source, survey, place, n_objects, layout)
    except (FormatError, UntrustedFileError) as error:
        inside = error.where.removeprefix(str(path)).removeprefix(", ")
        yield "S1", inside, f"expected {error.expected}, found {error.found}"
    except OSError as error:
        yield "S1", "", f"it cannot be read: {error}"


def _look(
    source: Source, survey: Survey, place: ShardPlace, n_objects: int, layout: str
) -> Iterator[Finding]:
    structure = read_structure(source)
    file = _File(source, structure)
    broken = list(_structure(structure))
    yield from broken
    if broken:
        return
    yield from _root(structure.attributes, survey, place, n_objects, layout)
    yield from _columns(file, survey, n_objects)
    yield from _common(file, survey, n_objects)
    for column in survey.columns:
        yield from _column(file, survey, column)
    yield from _ragged(file, survey, n_objects)
    for name, holds in _expected(survey).items():
        dataset = file.get(name)
        if dataset is not None:
            yield from _stored(name, dataset, survey, holds, layout)
            yield from _text_of(file, dataset)


class _File:
    """A shard that came through the gate, and its columns by name."""

    def __init__(self, source: Source, structure: Structure) -> None:
        self.source = source
        self.columns = {dataset.name: dataset for dataset in structure.datasets}

    def get(self, name: str) -> Dataset | None:
        return self.columns.get(name)


def _structure(structure: Structure) -> Iterator[Finding]:
    """Rules S1 and S5 where the format is stricter than the gate, before any data is read."""
    if structure.superblock < 2:
        version = structure.superblock
        yield "S1", "", f"superblock version {version}: its metadata has no checksums"
    for name in structure.groups:
        if name not in GROUPS:
            yield "S1", name, "a group that the format does not know"
    for dataset in structure.datasets:
        if dataset.name in GROUPS:
            yield "S1", dataset.name, "not a group"
        yield from ((rule, dataset.name, text) for rule, text in _storage(dataset))


def _storage(dataset: Dataset) -> Iterator[tuple[str, str]]:
    if foreign := sorted(set(dataset.filters) - _ALLOWED_FILTERS):
        yield "S1", f"filters {foreign} need a plugin"
    dtype = dataset.type.dtype
    assert dtype is not None
    if dtype.kind == "S":
        if dataset.type.padding != 1:
            yield "S5", "its text is not padded with NUL"
    elif dtype.newbyteorder("<") != dtype:
        yield "S5", f"type {dtype.str} is not little-endian"
    elif dtype.kind != "b" and dtype.name not in _NUMBERS:
        yield "S5", f"type {dtype} is not stored"


def _fact(attributes: Mapping[str, Any], name: str) -> Any:
    """Give an attribute as text or a number; None if there is none, its type if it is neither."""
    if name in attributes and attributes[name] is None:
        return list
    return attributes.get(name)


def _json(attributes: Mapping[str, Any], name: str) -> Any:
    """Give the values of an attribute that holds JSON; None if it does not."""
    text = _fact(attributes, name)
    try:
        return json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return None


def _root(
    attributes: Mapping[str, Any], survey: Survey, place: ShardPlace, n_objects: int, layout: str
) -> Iterator[Finding]:
    wanted: Mapping[str, Any] = {
        "survey": survey.name,
        "project": survey.project,
        "survey_name": survey.survey,
        "release": survey.release,
        "subset": place.subset,
        "layout": layout,
        "healpix": place.ipix,
        "healpix_order": place.order,
        "healpix_scheme": "nested",
        "frame": survey.frame,
        "n_objects": n_objects,
        "shard": place.index,
        "shards": place.total,
        "licence": survey.licence,
        "citation": survey.citation,
    }
    stated = {
        "epoch": survey.epoch,
        "wavelength_medium": survey.wavelength_medium or None,
        "wavelength_frame": survey.wavelength_frame or None,
        "time_scale": survey.time_scale or None,
    }
    for name, value in {**wanted, **stated}.items():
        found = _fact(attributes, name)
        if found is None and value is not None:
            yield "S9", f"attribute {name}", "missing"
        elif found != value:
            yield "S9", f"attribute {name}", f"expected {value!r}, found {found!r}"
    version = _fact(attributes, "astropile_format")
    if str(version).partition(".")[0] != FORMAT_VERSION.partition(".")[0]:
        yield "S9", "attribute astropile_format", f"not a version that is known: {version!r}"
    aliases = {name: alias_to_json(alias) for name, alias in survey.aliases.items()}
    if _json(attributes, "aliases") != json.loads(json.dumps(aliases)):
        yield "A1", "attribute aliases", "not those that astropile.json gives"


def _expected(survey: Survey) -> dict[str, Column | None]:
    """Name every dataset that a shard has, with the column it holds."""
    names: dict[str, Column | None] = dict.fromkeys(COMMON_COLUMNS)
    for column in survey.columns:
        ragged = survey.ragged_dims(column)
        if column.shared:
            names[f"shared/{column.name}"] = column
        elif ragged:
            names[f"ragged/{column.name}"] = column
            group = ".".join(ragged)
            names[f"ragged/{group}.offsets"] = None
            if len(ragged) > 1:
                names[f"ragged/{group}.shape"] = None
        else:
            names[column.name] = column
    return names


def _columns(file: _File, survey: Survey, n_objects: int) -> Iterator[Finding]:
    expected = _expected(survey)
    found = set(file.columns)
    for name in sorted(set(expected) - found):
        yield "S7" if name in COMMON_COLUMNS else "S6", name, "missing"
    for name in sorted(found - set(expected)):
        yield "S6", name, "not among the columns of astropile.json"
    for name in sorted(found & set(expected)):
        dataset = file.columns[name]
        if "/" not in name and dataset.shape[:1] != (n_objects,):
            yield "S2", name, f"shape {dataset.shape} for {n_objects} objects"
        for attribute in ("description", "unit"):
            if not isinstance(_fact(dataset.attributes, attribute), str):
                yield "S8", name, f"no attribute {attribute} that is text"
        yield from _unit(name, _fact(dataset.attributes, "unit"))


def _unit(name: str, unit: Any) -> Iterator[Finding]:
    from astropy.units import Unit

    if not isinstance(unit, str):
        return
    try:
        Unit(unit)
    except (ValueError, TypeError) as error:
        yield "S8", name, f"unit {unit!r} does not parse: {str(error).splitlines()[0]}"


def _common(file: _File, survey: Survey, n_objects: int) -> Iterator[Finding]:
    """Rule S7: the types of the common columns."""
    wanted = {"ra": "<f8", "dec": "<f8", "healpix": "<i8"}
    for name in COMMON_COLUMNS:
        dataset = file.get(name)
        if dataset is None:
            continue
        source = survey.aliases.get(name)
        dtype = np.dtype(wanted[name]) if name in wanted else survey[str(source)].numpy_dtype
        if _dtype(dataset) != dtype:
            yield "S7", name, f"expected {dtype}, found {_dtype(dataset)}"
        if len(dataset.shape) != 1 and dataset.shape[:1] == (n_objects,):
            yield "S2", name, f"expected one value per object, found shape {dataset.shape}"


def _column(file: _File, survey: Survey, column: Column) -> Iterator[Finding]:
    """Compare a native column with what the survey declares."""
    ragged = survey.ragged_dims(column)
    folder = "shared/" if column.shared else "ragged/" if ragged else ""
    name = folder + column.name
    dataset = file.get(name)
    if dataset is None:
        return
    if _dtype(dataset) != column.numpy_dtype:
        yield "S6", name, f"expected {column.dtype}, found {_dtype(dataset)}"
    if column.bits and _json(dataset.attributes, "bits") != dict(column.bits):
        yield "S8", name, "its attribute bits is not what the survey declares"
    if (_fact(dataset.attributes, "derived") or 0) != int(column.derived):
        yield "S6", name, f"derived should be {int(column.derived)}"
    if ragged:
        if _json(dataset.attributes, "dims") != list(column.shape):
            yield "R1", name, f"its attribute dims is not {json.dumps(list(column.shape))}"
        return
    shape = dataset.shape if column.shared else dataset.shape[1:]
    if shape != column.shape:
        yield "S2", name, f"expected shape {column.shape} per object, found {shape}"


def _stored(
    name: str, dataset: Dataset, survey: Survey, column: Column | None, layout: str
) -> Iterator[Finding]:
    """Rules L1 and L2: chunks, filters, or neither."""
    contiguous = dataset.storage.kind == "contiguous"
    if layout == "fast":
        if not contiguous:
            yield "L2", name, "not contiguous"
        return
    big = column is not None and is_big(survey, column)
    if big or (name.startswith("ragged/") and column is not None):
        rest = dataset.shape[1:]
        if contiguous and not big:
            row = dataset.type.itemsize * math.prod(rest)
            if dataset.shape[0] > max(1, RAGGED_CHUNK_NBYTES // max(1, row)):
                rows = dataset.shape[0]
                yield "L1", name, f"{rows} rows, longer than a chunk, are not in chunks"
            return
        chunks = dataset.storage.chunk or None
        if chunks is None or chunks[1:] != rest or (big and chunks[0] != 1):
            wanted = f"chunks {(1, *rest)}" if big else "chunks along axis 0"
            yield "L1", name, f"expected {wanted}, found {chunks}"
            return
        if dataset.filters[:2] != _FILTERS:
            yield "L1", name, "its chunks are not shuffled and deflated"
        elif any(dataset.chunks[2::3]):
            yield "L1", name, "some chunk is without one of its filters"
    elif "/" not in name and not contiguous:
        yield "L1", name, "not contiguous"


def _text_of(file: _File, dataset: Dataset) -> Iterator[Finding]:
    """Rule S5: text is UTF-8."""
    if _dtype(dataset).kind != "S" or not dataset.nbytes:
        return
    row = dataset.type.itemsize * math.prod(dataset.shape[1:])
    step = max(1, _BLOCK_NBYTES // row)
    for start in range(0, dataset.shape[0] if dataset.shape else 1, step):
        if dataset.shape:
            rows = np.arange(start, min(start + step, dataset.shape[0]))
            block = read_rows(file.source, dataset, rows)
        else:
            block = values_of(file.source, dataset)
        values = np.ascontiguousarray(block).reshape(-1)
        if values.view(np.uint8).max() < 0x80:
            continue
        for value in values.tolist():
            try:
                value.decode()
            except UnicodeDecodeError:
                yield "S5", dataset.name, f"{value!r} is not UTF-8"
                return


def _dtype(dataset: Dataset) -> np.dtype[Any]:
    assert dataset.type.dtype is not None
    return dataset.type.dtype


def _ragged(file: _File, survey: Survey, n_objects: int) -> Iterator[Finding]:
    for column in survey.columns:
        ragged = survey.ragged_dims(column)
        dataset = file.get(f"ragged/{column.name}") if ragged else None
        offsets_set = file.get(f"ragged/{'.'.join(ragged)}.offsets") if ragged else None
        if dataset is None or offsets_set is None:
            continue
        name = f"ragged/{column.name}"
        offsets = _counts(file, offsets_set, (n_objects + 1,))
        steps = np.empty(0) if offsets is None else np.diff(offsets)
        if offsets is None or offsets[0] != 0 or np.any(steps < 0):
            yield "R1", offsets_set.name, "not a running sum from 0 in int64"
            continue
        if len(ragged) > 1:
            shapes_set = file.get(f"ragged/{'.'.join(ragged)}.shape")
            wanted_shape = (n_objects, len(ragged))
            shapes = None if shapes_set is None else _counts(file, shapes_set, wanted_shape)
            if shapes is None or np.any(shapes < 0):
                yield "R2", f"ragged/{'.'.join(ragged)}.shape", "not one row per object in int64"
            elif np.any(shapes.prod(axis=1) != steps):
                yield "R2", f"ragged/{'.'.join(ragged)}.shape", "disagrees with the offsets"
        first = len(ragged) == 1 and column.shape[0] == ragged[0]
        fixed = [size for size in column.shape if isinstance(size, int)]
        total = int(offsets[-1]) * (1 if first else math.prod(fixed))
        wanted = (total, *fixed) if first else (total,)
        if dataset.shape != wanted:
            yield "R3" if first else "R4", name, f"expected shape {wanted}, found {dataset.shape}"


def _counts(file: _File, dataset: Dataset, shape: tuple[int, ...]) -> NDArray[np.int64] | None:
    """Read whole numbers of a known shape; None if they are not that."""
    if dataset.shape != shape or _dtype(dataset) != np.dtype("<i8"):
        return None
    return values_of(file.source, dataset)
