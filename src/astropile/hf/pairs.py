"""The rows of a match: one record per survey, or the columns of all side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from astropile.hf.features import conform, conform_columns, conform_table, storage_of
from astropile.hf.source import Rows, RowSource, hash_of
from astropile.view import Leaf, Node, Struct

OWN_COLUMNS: Final[Mapping[str, Node]] = {
    "ra": Leaf("float64", unit="deg"),
    "dec": Leaf("float64", unit="deg"),
    "healpix": Leaf("int64"),
    "separation": Leaf("float64", unit="arcsec"),
}
"""Columns of a pair itself."""


class PairRows(RowSource):
    """
    Rows of two or more sources, side by side.

    Parameters
    ----------
    sides : sequence of RowSource
        The sources.
    names : sequence of str
        What each is called.
    rows : sequence of ndarray
        Their row numbers, pair by pair; -1 where a source has no part.
    own : mapping of str to ndarray
        Columns of the pairs themselves.
    flat : bool
        Columns with the side's name behind them, instead of one record per side.
    """

    def __init__(
        self,
        sides: Sequence[RowSource],
        names: Sequence[str],
        rows: Sequence[Rows],
        own: Mapping[str, NDArray[Any]],
        *,
        flat: bool,
    ) -> None:
        types = {name: OWN_COLUMNS.get(name, OWN_COLUMNS["separation"]) for name in own}
        for side, name in zip(sides, names, strict=True):
            if flat:
                types.update({f"{field}_{name}": node for field, node in side.types.items()})
            else:
                types[name] = Struct(side.types)
        prints = [side.fingerprint for side in sides]
        super().__init__(
            "_".join(dict.fromkeys(side.name for side in sides)),
            types,
            hash_of(prints, list(names), flat, *(places.tobytes() for places in rows)),
        )
        self._parts = {
            name: (side, places) for side, name, places in zip(sides, names, rows, strict=True)
        }
        self._own, self._flat, self._n = dict(own), flat, len(rows[0])

    @property
    def parts(self) -> Mapping[str, tuple[RowSource, Rows]]:
        """Each source, and its row in each pair; -1 where it has no part."""
        return self._parts

    @property
    def is_flat(self) -> bool:
        """Whether columns have the side's name behind them."""
        return self._flat

    def __len__(self) -> int:
        return self._n

    def _read(self, rows: Rows, schema: pa.Schema) -> pa.Table:
        names = schema.names
        columns: dict[str, Any] = {
            name: pa.array(self._own[name][rows]) for name in names if name in self._own
        }
        for name, (side, places) in self._parts.items():
            if not self._flat:
                if name in names:
                    columns[name] = _read_where(side, places[rows], side.schema.names)
                continue
            fields = {f"{field}_{name}": field for field in side.schema.names}
            wanted = [fields[column] for column in names if column in fields]
            if wanted:
                records = _read_where(side, places[rows], wanted)
                columns.update(
                    zip((f"{field}_{name}" for field in wanted), records.flatten(), strict=True)
                )
        return conform_columns([columns[n] for n in names], schema, self.kinds_of(names))

    def is_record(self, name: str) -> bool:
        """Say whether it is a side: its fields are read one by one."""
        return not self._flat and name in self._parts

    def missing(self, rows: Rows, name: str) -> NDArray[np.bool_]:
        """Say in which pairs a side has no part."""
        found: NDArray[np.bool_] = self._parts[name][1][rows] < 0
        return found

    def read_fields(self, rows: Rows, name: str, fields: Sequence[str]) -> pa.Table:
        """Read fields of a side, and no other."""
        if not self.is_record(name):
            return super().read_fields(rows, name, fields)
        side, places = self._parts[name]
        records = _read_where(side, places[rows], fields)
        table = pa.table(records.flatten(), names=list(fields))
        return conform_table(table, side.schema_of(fields))


def _read_where(
    side: RowSource, places: Rows, names: Sequence[str]
) -> pa.StructArray | pa.ChunkedArray:
    """Read rows as records, null where a place is -1."""
    there = places >= 0
    records = side.read(places[there], names).to_struct_array()
    if there.all():
        return records
    # Arrow moves no extension types; they are put back when the columns are made a table.
    plain = storage_of(records.type)
    if not there.any():
        return pa.nulls(len(places), plain)
    whole = pa.concat_arrays([conform(chunk, plain) for chunk in records.chunks])
    return whole.take(pa.array(np.cumsum(there) - 1, mask=~there))
