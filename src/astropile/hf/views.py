"""Sources made of one other: a dataset's rows, some columns, records taken apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import datasets
import numpy as np
import pyarrow as pa

from astropile.hf.features import conform_table
from astropile.hf.source import Rows, RowSource, hash_of


class DatasetRows(RowSource):
    """
    The rows of a map-style dataset, in its order.

    Parameters
    ----------
    dataset : datasets.Dataset
        A lazy one or any other.
    """

    def __init__(self, dataset: datasets.Dataset) -> None:
        name = dataset.info.dataset_name or "dataset"
        super().__init__(name, dataset.features, str(dataset._fingerprint))
        self._table = dataset._data
        self._indices = None
        if dataset._indices is not None:
            self._indices = dataset._indices.column(0).to_numpy().astype(np.int64)
        self._info = dataset.info.copy()
        # A feature that is no numbers, text, lists or records is refused at once.
        _ = self.types

    @property
    def table(self) -> datasets.table.Table:
        """The dataset's table, before rows of it were chosen."""
        return self._table

    @property
    def indices(self) -> Rows | None:
        """Rows of the table that the dataset has; None for all."""
        return self._indices

    @property
    def info(self) -> datasets.DatasetInfo:
        """What the dataset says of itself."""
        return self._info.copy()

    def __len__(self) -> int:
        return self._table.num_rows if self._indices is None else len(self._indices)

    def _read(self, rows: Rows, schema: pa.Schema) -> pa.Table:
        chosen = rows if self._indices is None else self._indices[rows]
        return conform_table(self._table.select(schema.names).fast_gather(chosen), schema)


class ChosenRows(RowSource):
    """
    Some columns of a source.

    Parameters
    ----------
    source : RowSource
        The source.
    names : list of str
        The columns, in order.

    Raises
    ------
    UnknownColumnError
        If a name is not known.
    """

    def __init__(self, source: RowSource, names: list[str]) -> None:
        source.schema_of(names)
        types = {name: source.types[name] for name in names}
        super().__init__(source.name, types, hash_of("chosen", source.fingerprint, names))
        self._source = source

    @property
    def source(self) -> RowSource:
        """What columns were chosen of."""
        return self._source

    @property
    def info(self) -> datasets.DatasetInfo:
        """What the source says of itself."""
        return self._source.info

    def __len__(self) -> int:
        return len(self._source)

    def _read(self, rows: Rows, schema: pa.Schema) -> pa.Table:
        return self._source.read(rows, schema.names)

    def _read_values(self, rows: Rows, names: Sequence[str]) -> dict[str, Any]:
        return self._source.read_values(rows, names)


class FlatRows(RowSource):
    """
    A source whose records at the top are columns: ``spectrum.flux``.

    Parameters
    ----------
    source : RowSource
        The source.
    """

    def __init__(self, source: RowSource) -> None:
        self.parents = {
            f"{name}.{field}" if field else name: (name, field)
            for name, feature in source.features.items()
            for field in (feature if isinstance(feature, dict) else ("",))
        }
        features: dict[str, Any] = {
            flat: source.features[name][field] if field else source.features[name]
            for flat, (name, field) in self.parents.items()
        }
        columns = datasets.Features(features)
        super().__init__(source.name, columns, hash_of("flat", source.fingerprint))
        self._source = source

    def __len__(self) -> int:
        return len(self._source)

    def _read(self, rows: Rows, schema: pa.Schema) -> pa.Table:
        plain = [name for name in schema.names if not self.parents[name][1]]
        found: dict[str, Any] = {}
        if plain:
            table = self._source.read(rows, plain)
            found.update(zip(plain, table.columns, strict=True))
        for parent, names in self._asked(schema.names).items():
            fields = [self.parents[name][1] for name in names]
            table = self._source.read_fields(rows, parent, fields)
            found.update(zip(names, table.columns, strict=True))
        return conform_table(pa.table(found), schema)

    def _asked(self, names: Sequence[str]) -> Mapping[str, list[str]]:
        """Group columns by the record they are fields of."""
        groups: dict[str, list[str]] = {}
        for name in names:
            parent, field = self.parents[name]
            if field:
                groups.setdefault(parent, []).append(name)
        return groups
