"""Check one shard against the format: `docs/format.md` sections 2, 3 and 5."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
from numpy.typing import NDArray

from astropile.facts import alias_to_json
from astropile.hdf5.writer import GROUPS, ShardPlace, is_big
from astropile.names import COMMON_COLUMNS
from astropile.schema import Column, Survey

Finding = tuple[str, str, str]
"""Rule, place in the file, what is wrong."""

_ALLOWED_FILTERS: Final = {
    h5py.h5z.FILTER_SHUFFLE,
    h5py.h5z.FILTER_DEFLATE,
    h5py.h5z.FILTER_FLETCHER32,
}
_MAX_OBJECTS: Final = 20000


def check_shard(path: Path, survey: Survey, place: ShardPlace, n_objects: int) -> Iterator[Finding]:
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

    Yields
    ------
    tuple of str
        Rule, place in the file, what is wrong.
    """
    try:
        with h5py.File(path, "r") as file:
            yield from _look(file, survey, place, n_objects)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        # What the library says of a damaged file differs from place to place.
        yield "S1", "", f"HDF5 cannot read it: {error}"


def _look(file: h5py.File, survey: Survey, place: ShardPlace, n_objects: int) -> Iterator[Finding]:
    broken = list(_structure(file))
    yield from broken
    if broken:
        return
    yield from _root(file, survey, place, n_objects)
    yield from _columns(file, survey, n_objects)
    for column in survey.columns:
        yield from _column(file, survey, column)
    yield from _ragged(file, survey, n_objects)


def _structure(file: h5py.File) -> Iterator[Finding]:
    """Rule S1, before any data is read: hard links, plain types, plain storage."""
    count = 0
    for folder in ("/", *GROUPS):
        group = file.get(folder)
        if group is None:
            continue
        for name in group:
            count += 1
            where = f"{folder.rstrip('/')}/{name}".lstrip("/")
            if count > _MAX_OBJECTS:
                yield "S1", "", f"more than {_MAX_OBJECTS} objects"
                return
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                yield "S1", where, "not a hard link"
                continue
            item = group[name]
            if isinstance(item, h5py.Dataset):
                yield from ((("S1", where, text)) for text in _storage(item))
            elif folder != "/" or name not in GROUPS:
                yield "S1", where, "a group that the format does not know"


def _storage(dataset: h5py.Dataset) -> Iterator[str]:
    kind = dataset.dtype.kind
    plain = kind in "iufSb" and h5py.check_ref_dtype(dataset.dtype) is None
    if not plain or (kind == "S" and h5py.check_string_dtype(dataset.dtype).length is None):
        yield f"type {dataset.dtype} is not stored"
    elif kind != "b" and dataset.dtype.newbyteorder("<") != dataset.dtype:
        yield f"type {dataset.dtype.str} is not little-endian"
    create = dataset.id.get_create_plist()
    if create.get_layout() == h5py.h5d.VIRTUAL:
        yield "virtual storage"
    if create.get_external_count():
        yield "external storage"
    filters = {create.get_filter(i)[0] for i in range(create.get_nfilters())}
    if filters - _ALLOWED_FILTERS:
        yield f"filters {sorted(filters - _ALLOWED_FILTERS)} need a plugin"


def _text(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _root(file: h5py.File, survey: Survey, place: ShardPlace, n_objects: int) -> Iterator[Finding]:
    aliases = {name: alias_to_json(alias) for name, alias in survey.aliases.items()}
    wanted: Mapping[str, Any] = {
        "survey": survey.name,
        "project": survey.project,
        "survey_name": survey.survey,
        "release": survey.release,
        "subset": place.subset,
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
    for name, value in wanted.items():
        found = _text(file.attrs.get(name))
        if found is None:
            yield "S9", f"attribute {name}", "missing"
        elif found != value:
            yield "S9", f"attribute {name}", f"expected {value!r}, found {found!r}"
    for name in ("astropile_format", "layout"):
        if name not in file.attrs:
            yield "S9", f"attribute {name}", "missing"
    try:
        same = json.loads(_text(file.attrs.get("aliases", b"null"))) == aliases
    except ValueError:
        same = False
    if not same:
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


def _columns(file: h5py.File, survey: Survey, n_objects: int) -> Iterator[Finding]:
    expected = _expected(survey)
    found = {name for name in file if name not in GROUPS}
    for folder in GROUPS:
        found |= {f"{folder}/{name}" for name in file.get(folder, ())}
    for name in sorted(set(expected) - found):
        yield "S7" if name in COMMON_COLUMNS else "S6", name, "missing"
    for name in sorted(found - set(expected)):
        yield "S6", name, "not among the columns of astropile.json"
    for name in sorted(found & set(expected)):
        dataset = file[name]
        if "/" not in name and dataset.shape[:1] != (n_objects,):
            yield "S2", name, f"shape {dataset.shape} for {n_objects} objects"
        for attribute in ("description", "unit"):
            if attribute not in dataset.attrs:
                yield "S8", name, f"no attribute {attribute}"
        yield from _unit(name, _text(dataset.attrs.get("unit", b"")))


def _unit(name: str, unit: str) -> Iterator[Finding]:
    from astropy.units import Unit

    try:
        Unit(unit)
    except (ValueError, TypeError) as error:
        yield "S8", name, f"unit {unit!r} does not parse: {str(error).splitlines()[0]}"


def _column(file: h5py.File, survey: Survey, column: Column) -> Iterator[Finding]:
    """Compare a native column with what the survey declares."""
    ragged = survey.ragged_dims(column)
    folder = "shared/" if column.shared else "ragged/" if ragged else ""
    name = folder + column.name
    dataset = file.get(name)
    if dataset is None:
        return
    if dataset.dtype != column.numpy_dtype:
        yield "S6", name, f"expected {column.dtype}, found {dataset.dtype}"
    if column.bits:
        try:
            bits = json.loads(_text(dataset.attrs.get("bits", b"null")))
        except ValueError:
            bits = None
        if bits != dict(column.bits):
            yield "S8", name, "its attribute bits is not what the survey declares"
    if bool(dataset.attrs.get("derived", 0)) != column.derived:
        yield "S6", name, f"derived should be {int(column.derived)}"
    if ragged:
        return
    shape = dataset.shape if column.shared else dataset.shape[1:]
    if shape != column.shape:
        yield "S2", name, f"expected shape {column.shape} per object, found {shape}"
    elif not column.shared:
        compact = _text(file.attrs.get("layout")) == "compact"
        wanted = (1, *column.shape) if compact and is_big(survey, column) else None
        if dataset.chunks != wanted:
            rule = "L1" if compact else "L2"
            yield rule, name, f"expected chunks {wanted}, found {dataset.chunks}"


def _ragged(file: h5py.File, survey: Survey, n_objects: int) -> Iterator[Finding]:
    for column in survey.columns:
        ragged = survey.ragged_dims(column)
        dataset = file.get(f"ragged/{column.name}") if ragged else None
        offsets_set = file.get(f"ragged/{'.'.join(ragged)}.offsets") if ragged else None
        if dataset is None or offsets_set is None:
            continue
        name = f"ragged/{column.name}"
        offsets: NDArray[Any] = offsets_set[()]
        steps = np.diff(offsets)
        if offsets.shape != (n_objects + 1,) or offsets[0] != 0 or np.any(steps < 0):
            yield "R1", offsets_set.name.lstrip("/"), "not a running sum from 0"
            continue
        if len(ragged) > 1:
            shapes = file.get(f"ragged/{'.'.join(ragged)}.shape")
            if shapes is None or shapes.shape != (n_objects, len(ragged)):
                yield "R2", f"ragged/{'.'.join(ragged)}.shape", "not one row per object"
            elif np.any(shapes[()].prod(axis=1) != steps):
                yield "R2", f"ragged/{'.'.join(ragged)}.shape", "disagrees with the offsets"
        first = len(ragged) == 1 and column.shape[0] == ragged[0]
        fixed = [size for size in column.shape if isinstance(size, int)]
        total = int(offsets[-1]) * (1 if first else int(np.prod(fixed, dtype=np.int64)))
        wanted = (total, *fixed) if first else (total,)
        if dataset.shape != wanted:
            yield "R3" if first else "R4", name, f"expected shape {wanted}, found {dataset.shape}"
