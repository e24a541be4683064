"""
Write one shard, whole, in memory: `docs/format.md` sections 2 to 5.

HDF5 itself crashes when a disk fills, so no HDF5 file is ever written to a disk: its image is
made in memory and published by `astropile.publish`. The library is loaded only to write: what
reads shares this module's facts, not HDF5.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from astropile.facts import alias_to_json
from astropile.hdf5.codec import encode_chunk
from astropile.names import FORMAT_VERSION
from astropile.schema import Column, Ragged, Survey, row_nbytes

if TYPE_CHECKING:
    import h5py

CHUNKED_FROM_NBYTES: Final = 4096
"""A value of at least this size per object has a chunk of its own (rule L1)."""

RAGGED_CHUNK_NBYTES: Final = 65536
"""About how large the chunks of ragged columns are."""

MAX_ATTRIBUTE_NBYTES: Final = 60000
"""HDF5 holds an attribute of up to 64 KiB beside its object."""

GROUPS: Final = ("shared", "ragged")
"""The groups of a shard."""

_FILTERS: Final = {"shuffle": True, "compression": "gzip", "compression_opts": 4}

_LIBVER: Final = ("v108", "v110")


@dataclass(frozen=True)
class ShardPlace:
    """
    Where a shard stands in its tree.

    Parameters
    ----------
    subset : str
        Name of the subset.
    order, ipix : int
        HEALPix order of the tree and pixel of the partition.
    index, total : int
        Number of the shard, from 1, and how many the partition has.
    """

    subset: str
    order: int
    ipix: int
    index: int
    total: int


COMMON: Final = (
    Column("object_id", "S1", "The survey's identifier of the object on the sky."),
    Column("observation_id", "S1", "The survey's identifier of the measurement, unique here."),
    Column("ra", "float64", "Right ascension, ICRS, 0 <= ra < 360.", unit="deg"),
    Column("dec", "float64", "Declination, ICRS.", unit="deg"),
    Column("healpix", "int64", "HEALPix pixel, NESTED, at the order the file states."),
)
"""The common columns (rule S7); the identifiers have the dtype of the native column."""


def shard_image(
    survey: Survey,
    columns: Mapping[str, NDArray[Any] | Ragged],
    common: Mapping[str, NDArray[Any]],
    place: ShardPlace,
    layout: str = "compact",
) -> memoryview:
    """
    Make the bytes of a shard.

    Parameters
    ----------
    survey : Survey
        The survey, its tree's dimensions resolved.
    columns : mapping of str to ndarray or Ragged
        Every declared column, rows in their final order.
    common : mapping of str to ndarray
        The common columns, same rows.
    place : ShardPlace
        Where the shard stands.
    layout : {"compact", "fast"}
        Rule L1 or L2 of the format.

    Returns
    -------
    memoryview
        The HDF5 file.
    """
    import h5py

    compact = layout == "compact"
    n_objects = len(common["ra"])
    buffer = io.BytesIO()
    # All metadata at the head: one read opens the file. 1 KiB holds a dataset's headers, and a
    # chunk needs about 40 bytes of index.
    big = [c for c in survey.columns if is_big(survey, c)]
    metadata = 16384 + 1024 * len(survey.columns) + 64 * n_objects * len(big) * compact
    with h5py.File(
        buffer,
        "w",
        libver=_LIBVER,
        meta_block_size=metadata,
        # Arrow maps columns of a fast file as they lie.
        alignment_threshold=1 if compact else 4096,
        alignment_interval=1 if compact else 64,
    ) as file:
        _write_root(file, survey, place, n_objects, layout)
        for column in COMMON:
            values = np.ascontiguousarray(common[column.name])
            native = survey[column.name] if column.name in survey.column_names else None
            dataset = file.create_dataset(column.name, data=values)
            _describe(dataset, native or column)
        for column in survey.columns:
            if column.shared or survey.ragged_dims(column) or column.name in common:
                continue
            if column not in big:
                values_of = columns[column.name]
                assert isinstance(values_of, np.ndarray)
                _describe(file.create_dataset(column.name, data=values_of), column)
        for column in survey.columns:
            if column.shared:
                shared = file.require_group("shared")
                _describe(shared.create_dataset(column.name, data=columns[column.name]), column)
        _write_ragged(file, survey, columns, compact=compact)
        if compact:
            _write_chunked(file, big, columns, n_objects)
        else:
            for column in big:
                _describe(file.create_dataset(column.name, data=columns[column.name]), column)
    return buffer.getbuffer()


def stored_names(file: h5py.File) -> list[str]:
    """
    Name every dataset of a shard by its path in the file.

    Parameters
    ----------
    file : h5py.File
        The shard, open.

    Returns
    -------
    list of str
        The root's datasets, then those of the groups.
    """
    names = [name for name in file if name not in GROUPS]
    return names + [f"{group}/{name}" for group in GROUPS for name in file.get(group, ())]


def is_big(survey: Survey, column: Column) -> bool:
    """
    Tell whether a column's values are large enough to be stored one by one.

    Parameters
    ----------
    survey : Survey
        The survey, its tree's dimensions resolved.
    column : Column
        One of its columns.

    Returns
    -------
    bool
        True for a fixed column of `CHUNKED_FROM_NBYTES` or more per object.
    """
    fixed = not column.shared and not survey.ragged_dims(column)
    return fixed and row_nbytes(column) >= CHUNKED_FROM_NBYTES


def _write_root(
    file: h5py.File, survey: Survey, place: ShardPlace, n_objects: int, layout: str
) -> None:
    facts: dict[str, Any] = {
        "astropile_format": FORMAT_VERSION,
        "survey": survey.name,
        "project": survey.project,
        "survey_name": survey.survey,
        "release": survey.release,
        "subset": place.subset,
        "layout": layout,
        "healpix": np.int64(place.ipix),
        "healpix_order": np.int64(place.order),
        "healpix_scheme": "nested",
        "frame": survey.frame,
        "n_objects": np.int64(n_objects),
        "shard": np.int64(place.index),
        "shards": np.int64(place.total),
        "licence": survey.licence,
        "citation": survey.citation,
        "aliases": _aliases_text(survey),
    }
    if survey.epoch is not None:
        facts["epoch"] = np.float64(survey.epoch)
    for name in ("wavelength_medium", "wavelength_frame", "time_scale"):
        if getattr(survey, name):
            facts[name] = getattr(survey, name)
    for name, value in facts.items():
        _set_attribute(file, name, value)


def check_attributes(survey: Survey) -> None:
    """
    Make sure that what a survey says of itself fits into the attributes of a file.

    Parameters
    ----------
    survey : Survey
        The survey.

    Raises
    ------
    ValueError
        If a text is too long.
    """
    texts = {
        "aliases": _aliases_text(survey),
        "citation": survey.citation,
        "licence": survey.licence,
    }
    for column in survey.columns:
        texts[f"description of {column.name}"] = column.doc
        texts[f"bits of {column.name}"] = json.dumps(dict(column.bits))
    for name, text in texts.items():
        _check_length(name, text.encode())


def _check_length(name: str, encoded: bytes) -> None:
    if len(encoded) > MAX_ATTRIBUTE_NBYTES:
        raise ValueError(
            f"attribute {name!r} takes {len(encoded)} bytes; HDF5 holds {MAX_ATTRIBUTE_NBYTES}"
        )


def _aliases_text(survey: Survey) -> str:
    return json.dumps(
        {name: alias_to_json(alias) for name, alias in survey.aliases.items()},
        separators=(",", ":"),
        ensure_ascii=False,
    )


def _set_attribute(target: h5py.Group | h5py.Dataset, name: str, value: Any) -> None:
    import h5py

    if isinstance(value, str):
        encoded = value.encode()
        _check_length(name, encoded)
        # Fixed length: a variable-length string lies in a heap, away from its object.
        kind = h5py.string_dtype("utf-8", max(1, len(encoded)))
        target.attrs.create(name, np.array(encoded, dtype=kind))
    else:
        target.attrs[name] = value


def _describe(dataset: h5py.Dataset, column: Column) -> None:
    _set_attribute(dataset, "description", column.doc)
    _set_attribute(dataset, "unit", column.unit)
    if column.bits:
        _set_attribute(dataset, "bits", json.dumps(dict(column.bits), separators=(",", ":")))
    if column.derived:
        dataset.attrs["derived"] = np.int8(1)


def _write_ragged(
    file: h5py.File,
    survey: Survey,
    columns: Mapping[str, NDArray[Any] | Ragged],
    *,
    compact: bool,
) -> None:
    groups: set[tuple[str, ...]] = set()
    for column in survey.columns:
        ragged = survey.ragged_dims(column)
        if not ragged:
            continue
        values = columns[column.name]
        assert isinstance(values, Ragged)
        group = file.require_group("ragged")
        if ragged not in groups:
            groups.add(ragged)
            _write_offsets(group, column, ragged, values)
        data = np.ascontiguousarray(values.values)
        rows = _ragged_chunk_rows(data)
        if compact and rows < len(data):
            dataset = group.create_dataset(
                column.name,
                shape=data.shape,
                dtype=_stored(data.dtype),
                chunks=(rows, *data.shape[1:]),
                **_FILTERS,
            )
            _write_ragged_chunks(dataset, data, rows)
        else:
            dataset = group.create_dataset(column.name, data=data)
        _describe(dataset, column)
        _set_attribute(dataset, "dims", json.dumps(list(column.shape)))


def _write_ragged_chunks(dataset: h5py.Dataset, data: NDArray[Any], rows: int) -> None:
    chunk = np.zeros((rows, *data.shape[1:]), data.dtype)
    for start in range(0, len(data), rows):
        part = data[start : start + rows]
        chunk[: len(part)] = part
        # What lies behind the end of the last chunk is not data, but it is bytes of the file.
        chunk[len(part) :] = 0
        dataset.id.write_direct_chunk((start,) + (0,) * (data.ndim - 1), encode_chunk(chunk))


def _ragged_chunk_rows(data: NDArray[Any]) -> int:
    row = data.dtype.itemsize * int(np.prod(data.shape[1:], dtype=np.int64))
    return max(1, RAGGED_CHUNK_NBYTES // max(1, row))


def _write_offsets(
    group: h5py.Group, column: Column, ragged: tuple[str, ...], values: Ragged
) -> None:
    axes = [column.shape.index(dim) for dim in ragged]
    lengths = values.shapes[:, axes]
    offsets = np.concatenate(([0], np.cumsum(lengths.prod(axis=1)))).astype("<i8")
    name = ".".join(ragged)
    counted = " x ".join(ragged)
    dataset = group.create_dataset(f"{name}.offsets", data=offsets)
    _set_attribute(dataset, "description", f"Where each object starts, counted in {counted}.")
    _set_attribute(dataset, "unit", "")
    if len(ragged) > 1:
        dataset = group.create_dataset(f"{name}.shape", data=lengths.astype("<i8"))
        _set_attribute(dataset, "description", f"Lengths of {', '.join(ragged)} of each object.")
        _set_attribute(dataset, "unit", "")


def _write_chunked(
    file: h5py.File,
    chunked: list[Column],
    columns: Mapping[str, NDArray[Any] | Ragged],
    n_objects: int,
) -> None:
    """Write the big columns object by object, so that one object's chunks lie together."""
    datasets = []
    for column in chunked:
        values = columns[column.name]
        assert isinstance(values, np.ndarray)
        dataset = file.create_dataset(
            column.name,
            shape=values.shape,
            dtype=_stored(values.dtype),
            chunks=(1, *values.shape[1:]),
            **_FILTERS,
        )
        _describe(dataset, column)
        datasets.append((dataset, values))
    for row in range(n_objects):
        for dataset, values in datasets:
            start = (row,) + (0,) * (values.ndim - 1)
            dataset.id.write_direct_chunk(start, encode_chunk(values[row : row + 1]))


def _stored(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return dtype if dtype.kind == "b" else dtype.newbyteorder("<")
