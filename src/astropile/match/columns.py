"""Columns of tables of all kinds, seen alike: by name, each with its unit, and as Arrow."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from astropile.errors import MatchError


class _Columns:
    """Columns by name, each with its unit, and as Arrow."""

    main: tuple[str, str] | None = None
    """The columns of the positions, where the table says so itself."""

    owner: Any = None
    """What a file is kept for that was fetched to be read."""

    def __init__(self, names: Iterable[str], get: Callable[[str], Any]) -> None:
        self.names, self._get = tuple(names), get

    @classmethod
    def of(cls, mapping: Mapping[str, Any]) -> _Columns:
        return cls(mapping, mapping.__getitem__)

    def get(self, name: str) -> Any:
        return self._get(name)

    def unit(self, name: str) -> Any:
        unit = getattr(self.get(name), "unit", None)
        return None if unit is None or str(unit) == "" else unit

    def ucd(self, name: str) -> str:
        meta = getattr(getattr(self.get(name), "info", None), "meta", None) or {}
        return str(meta.get("ucd", "")).lower()

    def arrow(self, name: str) -> Any:
        return _to_arrow(self.get(name))


class _ArrowColumns(_Columns):
    """Columns of Arrow; units are in the metadata of the schema's fields."""

    def __init__(self, schema: pa.Schema, get: Callable[[str], Any]) -> None:
        super().__init__(schema.names, get)
        self._schema = schema

    @classmethod
    def of_table(cls, table: pa.Table) -> _ArrowColumns:
        return cls(table.schema, table.column)

    @classmethod
    def of_files(cls, paths: Sequence[Path]) -> _ArrowColumns:
        """Read Parquet files column by column, each when it is asked for."""
        with pq.ParquetFile(paths[0]) as file:
            schema = file.schema_arrow

        @cache
        def get(name: str) -> Any:
            chunks: list[Any] = []
            for path in paths:
                with pq.ParquetFile(path) as file:
                    chunks += file.read([name]).column(name).chunks
            return pa.chunked_array(chunks, schema.field(name).type)

        return cls(schema, get)

    def unit(self, name: str) -> Any:
        metadata = self._schema.field(name).metadata or {}
        return metadata.get(b"unit", b"").decode() or None

    def ucd(self, name: str) -> str:
        del name
        return ""


def _to_arrow(values: Any) -> Any:
    """Turn an array into Arrow, or None where that cannot be."""
    if isinstance(values, pa.Array | pa.ChunkedArray):
        if pa.types.is_dictionary(values.type):
            return values.cast(values.type.value_type)
        return values
    mask = getattr(values, "mask", None)
    # A Quantity may hide its mask from numpy.
    array = np.asarray(getattr(values, "value", values))
    array = np.asarray(getattr(array, "unmasked", array))
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8", "replace")
    null = np.asarray(mask) if isinstance(mask, np.ndarray) and mask.any() else None
    try:
        if array.ndim == 1:
            if array.dtype.kind == "O":
                return pa.array(array.tolist(), mask=null)
            return pa.array(array, mask=null)
        if array.ndim == 2 and array.dtype.kind in "biuf":
            flat = pa.array(np.ascontiguousarray(array).ravel())
            return pa.FixedSizeListArray.from_arrays(flat, array.shape[1])
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
        return None
    return None


def _is_skycoord(value: Any) -> bool:
    return hasattr(value, "icrs") and hasattr(value, "frame")


def _plain(values: Any) -> Any:
    """Give an array of numbers or text, NaN or empty where masked."""
    if isinstance(values, pa.Array | pa.ChunkedArray):
        if pa.types.is_dictionary(values.type):
            values = values.cast(values.type.value_type)
        kind = values.type
        if pa.types.is_string(kind) or pa.types.is_large_string(kind) or kind == pa.string_view():
            return np.array([text or "" for text in values.to_pylist()], dtype=np.str_)
        try:
            numbers = pa.chunked_array(values if hasattr(values, "chunks") else [values])
            return numbers.cast(pa.float64(), safe=False).to_numpy()
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise MatchError("a coordinate", "numbers or text", str(kind)) from error
    mask = getattr(values, "mask", None)
    array = np.asarray(getattr(values, "value", values))
    array = np.asarray(getattr(array, "unmasked", array))
    null = mask if isinstance(mask, np.ndarray) and mask.any() else np.False_
    if array.dtype.kind == "O":
        text = all(isinstance(one, str | bytes | None) for one in array.ravel()[:100])
        if text:
            array = np.array([one or "" for one in array.ravel()], dtype=np.str_)
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8", "replace")
    if array.dtype.kind == "U":
        return np.where(null, "", array)
    try:
        numbers = array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise MatchError("a coordinate", "numbers or text", str(error)) from error
    return np.where(null, np.nan, numbers)
