"""The numbers in the standard view of objects, field by field, with masks, weights and bands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

CHANNEL_FIELDS: Final = ("label", "filter", "band")
"""Texts of a record that tell its channel, or that of each of its values; the first counts."""

MASK, IVAR = "mask", "ivar"


@dataclass(frozen=True)
class FieldValues:
    """
    The numbers of one field of some objects.

    Parameters
    ----------
    path : str
        Names with dots between.
    values : ndarray, shape (n,)
        All numbers, one object after another.
    missing : ndarray, shape (n,), bool
        True where there is none: null.
    masked : ndarray, shape (n,), bool
        True where it is bad: by the mask beside it, or an inverse variance that is not above 0.
    weights : ndarray, shape (n,), float64, or None
        The inverse variance beside it; anything where there is none.
    has_weight : ndarray, shape (n,), bool
        Whether there is one beside it.
    channels : ndarray, shape (n,), int64, or None
        Number of the channel of each.
    channel_names : tuple of str
        Their names.
    n_objects, n_absent : int
        How many objects, and how many of them have not one number here.
    """

    path: str
    values: NDArray[Any]
    missing: NDArray[np.bool_]
    masked: NDArray[np.bool_]
    weights: NDArray[np.float64] | None
    has_weight: NDArray[np.bool_]
    channels: NDArray[np.int64] | None
    channel_names: tuple[str, ...]
    n_objects: int
    n_absent: int


def field_values(table: pa.Table) -> Iterator[FieldValues]:
    """
    Take the numbers out of a standard view.

    Parameters
    ----------
    table : pyarrow.Table
        What `Catalog.standard` gave.

    Yields
    ------
    FieldValues
        For each field of numbers; masks are no field of their own.
    """
    outer = np.arange(len(table) + 1)
    arrays = [_one_array(column) for column in table.columns]
    yield from _fields("", dict(zip(table.column_names, arrays, strict=True)), outer)


@dataclass(frozen=True)
class _Leaf:
    """A field's values one after another, and where those of each record begin."""

    array: pa.Array
    bounds: NDArray[np.int64]
    depth: int


def _fields(
    path: str, arrays: dict[str, pa.Array], outer: NDArray[np.int64]
) -> Iterator[FieldValues]:
    """Walk the fields of records; `outer` tells which records are those of an object."""
    leaves: dict[str, _Leaf] = {}
    for name, array in arrays.items():
        leaf = _flat(array)
        if pa.types.is_struct(leaf.array.type):
            inner = leaf.array.flatten()
            fields = {leaf.array.type.field(k).name: child for k, child in enumerate(inner)}
            yield from _fields(f"{path}{name}.", fields, leaf.bounds[outer])
        else:
            leaves[name] = leaf
    # Columns of the table are no record: a mask among them is of none of the others.
    beside = leaves if path else {}
    for name, leaf in leaves.items():
        if _is_number(leaf.array.type) and not (path and name == MASK):
            yield _of_leaf(path + name, name, leaf, beside, outer)


def _of_leaf(
    path: str, name: str, leaf: _Leaf, beside: dict[str, _Leaf], outer: NDArray[np.int64]
) -> FieldValues:
    missing = _nulls(leaf.array)
    there = np.concatenate(([0], np.cumsum(~missing)))
    per_object = np.diff(there[leaf.bounds[outer]])
    masked = np.zeros(len(missing), bool)
    weights = None
    has_weight = np.zeros(len(missing), bool)
    bad = beside.get(MASK)
    if bad is not None and pa.types.is_boolean(bad.array.type):
        has_mask = _has_beside(leaf, bad)
        masked[has_mask] = _numbers(bad.array)[: has_mask.sum()]
    ivar = beside.get(IVAR)
    if ivar is not None and name != IVAR and _is_number(ivar.array.type):
        has_weight = _has_beside(leaf, ivar)
        weights = np.ones(len(missing))
        weights[has_weight] = _numbers(ivar.array)[: has_weight.sum()]
        masked[has_weight] |= _nulls(ivar.array)[: has_weight.sum()]
        masked |= ~(np.isfinite(weights) & (weights > 0))
    codes, names = _channels(leaf, beside)
    return FieldValues(
        path,
        _numbers(leaf.array),
        missing,
        masked,
        weights,
        has_weight,
        codes,
        names,
        len(outer) - 1,
        int((per_object == 0).sum()),
    )


def _channels(
    leaf: _Leaf, beside: dict[str, _Leaf]
) -> tuple[NDArray[np.int64] | None, tuple[str, ...]]:
    """Tell values' channels by a text beside them: one for a record, or for each value."""
    for name in CHANNEL_FIELDS:
        text = beside.get(name)
        if text is None or not _is_text(text.array.type):
            continue
        is_one_each = text.depth == 0
        if not is_one_each and not _are_alike(leaf, text):
            continue
        encoded = pc.dictionary_encode(pc.fill_null(text.array.cast(pa.string()), ""))
        codes = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
        if is_one_each:
            codes = np.repeat(codes, np.diff(leaf.bounds))
        return codes, tuple(encoded.dictionary.to_pylist())
    return None, ()


def _flat(array: pa.Array) -> _Leaf:
    bounds = np.arange(len(array) + 1)
    array, depth = _storage(array), 0
    while _is_list(array.type):
        lengths = pc.list_value_length(array).fill_null(0).to_numpy(zero_copy_only=False)
        bounds = np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))[bounds]
        array, depth = _storage(array.flatten()), depth + 1
    return _Leaf(array, bounds, depth)


def _has_beside(leaf: _Leaf, other: _Leaf) -> NDArray[np.bool_]:
    """Tell which values have one beside them: those of records that have as many of both."""
    mine, theirs = np.diff(leaf.bounds), np.diff(other.bounds)
    there = theirs > 0
    # Not of these values, if of another shape anywhere.
    there &= leaf.depth == other.depth and bool((mine[there] == theirs[there]).all())
    return np.repeat(there, mine)


def _are_alike(one: _Leaf, other: _Leaf) -> bool:
    return one.depth == other.depth and np.array_equal(one.bounds, other.bounds)


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    if not column.num_chunks:
        return pa.array([], column.type)
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)


def _storage(array: pa.Array) -> pa.Array:
    return array.storage if isinstance(array, pa.ExtensionArray) else array


def _nulls(array: pa.Array) -> NDArray[np.bool_]:
    if not array.null_count:
        return np.zeros(len(array), bool)
    return np.asarray(array.is_null().to_numpy(zero_copy_only=False))


def _numbers(array: pa.Array) -> NDArray[Any]:
    is_bool = pa.types.is_boolean(array.type)
    if array.null_count:
        array = array.fill_null(False if is_bool else 0)
    values = np.asarray(array.to_numpy(zero_copy_only=False))
    return values.astype(np.uint8) if is_bool else values


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    )


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_list(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )
