"""Put datasets of different surveys one after another, with all the columns of all of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import datasets
import numpy as np
import pyarrow as pa

from astropile.errors import SchemaError
from astropile.hf.builder import TreeBuilder
from astropile.hf.dataset import lazy_dataset
from astropile.hf.describe import merged_info
from astropile.hf.features import conform_table
from astropile.hf.source import Rows, RowSource, hash_of
from astropile.hf.views import DatasetRows
from astropile.names import REQUIRED_ALIASES
from astropile.view import Leaf, Node, unify

_IDENTIFIERS = tuple(name for name in REQUIRED_ALIASES if name.endswith("_id"))


def concatenate_datasets(dsets: Iterable[Any]) -> datasets.Dataset:
    """
    Put datasets one after another, whatever columns each has.

    Parameters
    ----------
    dsets : iterable of Dataset or DatasetBuilder
        Map-style datasets: of trees, matched, or any other.

    Returns
    -------
    datasets.Dataset
        Their rows one after another; nothing is copied. Columns and fields that a dataset
        lacks are null in its rows; ``provenance`` tells the rows apart. Numbers widen to a
        dtype that holds them all. Identifiers of differing dtype become text. Images of
        differing size become nested lists. A column that is a number in one and an array or
        a record in another is kept apart, as ``IVAR_desi`` and ``IVAR_manga``.

    Raises
    ------
    SchemaError
        If such columns are of datasets that have the same name.
    TypeError
        If there is nothing to put together, or something is no map-style dataset.

    Examples
    --------
    >>> spectra = concatenate_datasets([sdss, desi])  # doctest: +SKIP
    >>> spectra[0]["provenance"]["survey"]  # doctest: +SKIP
    'SDSS'
    """
    sources = [_source(value) for value in dsets]
    if not sources:
        raise TypeError("at least one dataset to concatenate")
    source = ConcatenatedRows(sources)
    names = ", ".join(dict.fromkeys(one.name for one in sources))
    info = merged_info([one.info for one in sources], f"{names}, one after another.", source.name)
    return lazy_dataset(source, info)


def _source(value: Any) -> RowSource:
    match value:
        case TreeBuilder():
            return value.rows
        case datasets.Dataset():
            return DatasetRows(value)
        case datasets.DatasetDict() if len(value) == 1:
            return DatasetRows(next(iter(value.values())))
    raise TypeError(f"a map-style dataset or a builder of astropile, not {type(value).__name__}")


class ConcatenatedRows(RowSource):
    """
    The rows of several sources, with the union of their columns.

    Parameters
    ----------
    sources : sequence of RowSource
        The sources, in order.
    """

    def __init__(self, sources: Sequence[RowSource]) -> None:
        types, self._columns = _union(sources)
        super().__init__(
            "_".join(dict.fromkeys(source.name for source in sources)),
            types,
            hash_of("one after another", [source.fingerprint for source in sources]),
        )
        self._sources = list(sources)
        self._starts = np.cumsum([0, *(len(source) for source in sources)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def _read(self, rows: Rows, schema: pa.Schema) -> pa.Table:
        names = schema.names
        which = np.searchsorted(self._starts, rows, side="right") - 1
        parts, places = [], []
        for number in np.unique(which):
            here = np.flatnonzero(which == number)
            columns = self._columns[number]
            own = {name: columns[name] for name in names if name in columns}
            inside = rows[here] - self._starts[number]
            table = self._sources[number].read(inside, list(own.values()))
            if not own:
                table = pa.table({"nothing": pa.nulls(len(here))})
            parts.append(conform_table(table.rename_columns(list(own) or ["nothing"]), schema))
            places.append(here)
        table = pa.concat_tables(parts)
        order = np.concatenate(places)
        if np.all(np.diff(order) > 0):
            return table
        return table.combine_chunks().take(pa.array(np.argsort(order)))


def _union(
    sources: Sequence[RowSource],
) -> tuple[dict[str, Node], list[dict[str, str]]]:
    """Give the type of each column, and for each source which of its columns that is."""
    names = dict.fromkeys(name for source in sources for name in source.types)
    types: dict[str, Node] = {}
    columns: list[dict[str, str]] = [{} for _ in sources]
    for name in names:
        owners = [number for number, source in enumerate(sources) if name in source.types]
        try:
            types[name] = _one_type([sources[number].types[name] for number in owners], name)
            united = dict.fromkeys(owners, name)
        except SchemaError as error:
            united = {number: f"{name}_{sources[number].name}" for number in owners}
            for apart in set(united.values()):
                same = [number for number in owners if united[number] == apart]
                if apart in names:
                    raise
                try:
                    nodes = [sources[number].types[name] for number in same]
                    types[apart] = _one_type(nodes, name)
                except SchemaError:
                    error.add_note("select or rename such columns first")
                    raise error from None
        for number, as_name in united.items():
            columns[number][as_name] = name
    return types, columns


def _one_type(nodes: Sequence[Node], name: str) -> Node:
    node = nodes[0]
    for other in nodes[1:]:
        if name in _IDENTIFIERS and isinstance(node, Leaf) and isinstance(other, Leaf):
            if node.dtype != other.dtype:
                # Digits may name other objects elsewhere: as text every identifier stays itself.
                node = dataclasses.replace(node, dtype="string")
        else:
            node = unify(node, other, name)
    return node
