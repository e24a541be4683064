"""
The standard view's types as Hugging Face features, and Arrow tables in those types.

Stock feature types only, so that what is saved or pushed loads where astropile is not
installed: images of one size are ``Array2D``, anything else with dimensions nested ``List``,
units the ``id`` of a ``Value``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
from datasets.features.features import FeatureType, LargeList, _ArrayXD

from astropile.view import Leaf, ListOf, Node, Struct

_ARRAYS = {2: datasets.Array2D, 3: datasets.Array3D, 4: datasets.Array4D, 5: datasets.Array5D}


def features_of(types: Mapping[str, Node]) -> datasets.Features:
    """
    Give the features of a table.

    Parameters
    ----------
    types : mapping of str to Leaf, Struct or ListOf
        Type of each column.

    Returns
    -------
    datasets.Features
        The same as features.
    """
    return datasets.Features({name: feature_of(node) for name, node in types.items()})


def feature_of(node: Node) -> FeatureType:
    """
    Give the feature of one column.

    Parameters
    ----------
    node : Leaf, Struct or ListOf
        Its type.

    Returns
    -------
    FeatureType
        A fixed array of 2 to 5 dimensions: ``ArrayXD``; other arrays: ``List``.
    """
    match node:
        case Struct(fields):
            return {name: feature_of(field) for name, field in fields.items()}
        case ListOf(item):
            return datasets.List(feature_of(item))
        case Leaf(dtype, shape, unit):
            array = _ARRAYS.get(len(shape))
            if array and None not in shape and 0 not in shape and dtype not in ("string", "null"):
                return array(shape=shape, dtype=dtype, id=unit or None)
            feature: FeatureType = datasets.Value(dtype, id=unit or None)
            for _ in shape:
                feature = datasets.List(feature)
            return feature


def node_of(feature: FeatureType) -> Node:
    """
    Give the type of a feature; the reverse of `feature_of`.

    Parameters
    ----------
    feature : FeatureType
        A stock feature of numbers, text, lists and records.

    Returns
    -------
    Leaf, Struct or ListOf
        Its type; lists of numbers become arrays whose length varies.

    Raises
    ------
    TypeError
        If it is another feature (audio, video, translation).
    """
    match feature:
        case dict():
            return Struct({name: node_of(inner) for name, inner in feature.items()})
        case datasets.List() | LargeList():
            inner = node_of(feature.feature)
            if not isinstance(inner, Leaf):
                return ListOf(inner)
            return Leaf(inner.dtype, (None, *inner.shape), inner.unit)
        case _ArrayXD():
            return Leaf(feature.dtype, tuple(feature.shape), feature.id or "")
        case datasets.Value():
            return Leaf(feature.dtype, unit=feature.id or "")
        case datasets.ClassLabel():
            return Leaf("int64")
    raise TypeError(f"a feature of numbers, text, lists and records, not {feature!r}")


def conform_table(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """
    Give a table the columns and types of a schema.

    Parameters
    ----------
    table : pyarrow.Table
        The table.
    schema : pyarrow.Schema
        Columns it lacks become null.

    Returns
    -------
    pyarrow.Table
        Over the same memory wherever types are laid out alike.
    """
    own = dict(zip(table.column_names, table.columns, strict=True))
    missing = pa.nulls(len(table))
    columns = [own.get(name, missing) for name in schema.names]
    return conform_columns(columns, schema, schema.types)


def conform_columns(
    columns: Sequence[pa.Array | pa.ChunkedArray], schema: pa.Schema, kinds: Sequence[pa.DataType]
) -> pa.Table:
    """
    Make a table of columns, each in the type wanted.

    Parameters
    ----------
    columns : sequence of Array or ChunkedArray
        The values.
    schema : pyarrow.Schema
        The table's schema.
    kinds : sequence of pyarrow.DataType
        The types in it, for those who know them already.

    Returns
    -------
    pyarrow.Table
        Over the same memory wherever types are laid out alike.
    """
    arrays = [
        column
        if column.type == kind
        else pa.chunked_array([conform(chunk, kind) for chunk in column.chunks], kind)
        if isinstance(column, pa.ChunkedArray)
        else conform(column, kind)
        for column, kind in zip(columns, kinds, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def storage_of(kind: pa.DataType) -> pa.DataType:
    """
    Give the plain Arrow type under extension types.

    Parameters
    ----------
    kind : pyarrow.DataType
        Any type.

    Returns
    -------
    pyarrow.DataType
        Lists, structs, numbers and text.
    """
    if isinstance(kind, pa.ExtensionType):
        return storage_of(kind.storage_type)
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(storage_of(field.type)) for field in kind])
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(storage_of(kind.value_type)))
    return kind


def conform(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """
    Give an array another type that holds its values.

    Parameters
    ----------
    array : pyarrow.Array
        The array.
    kind : pyarrow.DataType
        The type: extension types around what was plain or the other way round, records with
        more fields (null where there were none), wider numbers, numbers as text.

    Returns
    -------
    pyarrow.Array
        Over the same memory wherever types are laid out alike.
    """
    if array.type == kind:
        return array
    if isinstance(array, pa.ExtensionArray):
        return conform(array.storage, kind)
    if isinstance(kind, pa.ExtensionType):
        return pa.ExtensionArray.from_storage(kind, conform(array, kind.storage_type))
    if pa.types.is_null(array.type):
        return _nulls(len(array), kind)
    if pa.types.is_struct(kind) and pa.types.is_struct(array.type):
        own = {array.type.field(i).name for i in range(array.type.num_fields)}
        children = [
            conform(array.field(field.name), field.type)
            if field.name in own
            else _nulls(len(array), field.type)
            for field in kind
        ]
        mask = array.is_null() if array.null_count else None
        return pa.StructArray.from_arrays(children, fields=list(kind), mask=mask)
    if pa.types.is_list(kind) and _is_list(array.type):
        return _conform_list(array, kind)
    return array.cast(kind)


def _nulls(n: int, kind: pa.DataType) -> pa.Array:
    if isinstance(kind, pa.ExtensionType):
        return pa.ExtensionArray.from_storage(kind, _nulls(n, kind.storage_type))
    if storage_of(kind) == kind:
        return pa.nulls(n, kind)
    return conform(pa.nulls(n, storage_of(kind)), kind)


def _is_list(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def _conform_list(array: pa.Array, kind: pa.DataType) -> pa.Array:
    if not pa.types.is_list(array.type):
        array = array.cast(pa.list_(array.type.value_type))
    if not len(array):
        return pa.ListArray.from_arrays(
            pa.array([0], pa.int32()), conform(array.values.slice(0, 0), kind.value_type), type=kind
        )
    offsets = array.offsets.to_numpy()
    first, last = int(offsets[0]), int(offsets[-1])
    values = conform(array.values.slice(first, last - first), kind.value_type)
    # A null bitmap and sliced offsets do not go together in Arrow: offsets start anew.
    anew = pa.array(offsets - np.int32(first)) if first or array.null_count else array.offsets
    mask = array.is_null() if array.null_count else None
    return pa.ListArray.from_arrays(anew, values, type=kind, mask=mask)


def empty_table(schema: pa.Schema) -> pa.Table:
    """
    Give a table without rows.

    Parameters
    ----------
    schema : pyarrow.Schema
        Its schema, extension types included.

    Returns
    -------
    pyarrow.Table
        No rows, all columns.
    """
    columns: list[Any] = [pa.chunked_array([], field.type) for field in schema]
    return pa.Table.from_arrays(columns, schema=schema)
