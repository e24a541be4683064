"""
Apply a function to the rows of a lazy dataset, and put what it gives beside them.

`datasets`' own `map` copies every column of every row to a new table. Here it runs over the
row numbers alone: the function reads what it asks for, only what it gives is written, and the
columns it leaves alone stay where they are. Caches, processes, progress and formats are those
of `datasets`.
"""

from __future__ import annotations

import inspect
import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets.fingerprint import update_fingerprint, validate_fingerprint
from datasets.formatting import format_table

from astropile.hf.join import beside
from astropile.hf.reading import Batch, Columns, Row, plain

_ROW = "astropile row"
"""Column of results: the row that a result belongs to."""

_WROTE = "astropile wrote"
"""Column of results: which columns the function gave in this row."""

_GONE = "astropile gone"
"""Column of results: names of the columns that the function took out of its row."""


def map_beside(dataset: datasets.Dataset, options: Mapping[str, Any]) -> datasets.Dataset:
    """
    Do what `datasets.Dataset.map` does.

    Parameters
    ----------
    dataset : datasets.Dataset
        A dataset over a `LazyTable`, of at least one row.
    options : mapping
        All arguments of `datasets.Dataset.map`.

    Returns
    -------
    datasets.Dataset
        Columns that the function leaves alone are read when asked for; those it gives come
        from a cache file, or from memory.

    Raises
    ------
    ValueError
        If there is no such column to read or to remove, or a batch comes back longer or
        shorter while columns stay beside it.
    """
    given = dict(options)
    function = given.pop("function") or _identity
    features = given.pop("features")
    inputs = _names(given.pop("input_columns"), dataset, "Input column")
    removed = _names(given.pop("remove_columns"), dataset, "Column to remove") or []
    fingerprint = given["new_fingerprint"] = _fingerprint(
        dataset,
        {**given, "function": function, "features": features},
        {"input_columns": inputs, "remove_columns": removed},
    )
    if given["cache_file_name"] is None and not given["keep_in_memory"]:
        given["cache_file_name"] = dataset._get_cache_file_path(fingerprint)
    if given["batched"] and (given["batch_size"] is None or given["batch_size"] <= 0):
        given["batch_size"] = len(dataset)
    numbers = _Numbers.of(dataset, features)
    apply = _Applied(dataset, function, inputs, removed, batched=given["batched"])
    found = apply.over(numbers, given)
    if found.column_names == [_ROW] and found._fingerprint == numbers._fingerprint:
        # The function gave nothing.
        return dataset
    result = _composed(dataset, found, removed)
    if features is not None and result.features != features:
        result = result.cast(features)
    result.set_format(**_format_of(dataset, result))
    result._fingerprint = fingerprint
    return result


def _identity(rows: Any) -> Any:
    return rows


def _names(given: str | Sequence[str] | None, dataset: Any, what: str) -> list[str] | None:
    names = [given] if isinstance(given, str) else given
    missing = [name for name in names or () if name not in dataset.column_names]
    if missing:
        raise ValueError(
            f"{what} {missing} not in the dataset. Current columns in the dataset: "
            f"{dataset.column_names}"
        )
    return None if names is None else list(names)


_NOT_CONTENT = (
    *("load_from_cache_file", "cache_file_name", "keep_in_memory", "num_proc", "desc"),
    *("suffix_template", "writer_batch_size", "new_fingerprint"),
)


def _fingerprint(
    dataset: datasets.Dataset, given: Mapping[str, Any], names: Mapping[str, Any]
) -> str:
    own = given["new_fingerprint"]
    if own is not None:
        validate_fingerprint(own)
        return str(own)
    content = {name: value for name, value in given.items() if name not in _NOT_CONTENT}
    content["format"] = dataset._format_type, dataset._format_kwargs
    return str(update_fingerprint(dataset._fingerprint, "astropile.map", {**content, **names}))


class _Numbers(datasets.Dataset):  # type: ignore[misc]
    """The row numbers of a dataset; it knows the types that results should have."""

    known: Any = None

    @classmethod
    def of(cls, dataset: datasets.Dataset, features: Any) -> _Numbers:
        """Give each row of a dataset its number."""
        info = dataset.info.copy()
        info.features = None
        table = datasets.table.InMemoryTable(pa.table({_ROW: np.arange(len(dataset))}))
        numbers = cls(table, info=info, split=dataset.split, fingerprint=dataset._fingerprint)
        numbers.known = {**dataset.features, **(features or {})}
        return numbers

    @property
    def features(self) -> datasets.Features:
        """Types of the row numbers, and of columns that results may have."""
        return datasets.Features({**(self.known or {}), **super().features})

    def shard(self, *args: Any, **kwargs: Any) -> _Numbers:
        """Choose a part of the numbers, as `datasets.Dataset.shard`."""
        part = super().shard(*args, **kwargs)
        part.__class__ = _Numbers
        part.known = self.known
        return part  # type: ignore[no-any-return]


class _UnevenError(Exception):
    """A function changed columns in this row that it left alone in others."""


class _Applied:
    """A function of rows as one of row numbers."""

    def __init__(
        self,
        dataset: datasets.Dataset,
        function: Callable[..., Any],
        inputs: Sequence[str] | None,
        removed: Sequence[str],
        *,
        batched: bool,
    ) -> None:
        self._dataset, self._function = dataset, function
        self._inputs, self._removed, self._batched = inputs, removed, batched
        self._columns: Columns | None = None
        self._always: set[str] = set()
        self._first: set[str] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_columns": None, "_first": None}

    def over(self, numbers: _Numbers, options: Mapping[str, Any]) -> datasets.Dataset:
        """Apply the function to all rows; once more where it changed a column in some rows only."""
        apply = self.wait if inspect.iscoroutinefunction(self._function) else self.call
        while True:
            self._first = None
            try:
                found = datasets.Dataset.map(numbers, apply, remove_columns=[_ROW], **options)
            except _UnevenError as error:
                self._always |= error.args[0]
                continue
            known = set(self._dataset.column_names) & set(found.column_names)
            if _WROTE not in found.column_names or known <= self._always:
                return found
            if len(pc.unique(found._data.column(_WROTE))) <= 1:
                return found
            # In one process it changed what it left alone in another.
            self._always |= known
            options = {**options, "load_from_cache_file": False}

    def call(self, numbers: Any, *more: Any, **kwargs: Any) -> Any:
        """Apply the function."""
        rows, inputs = self._rows(numbers)
        return self._outputs(rows, inputs, self._function(*self._args(inputs), *more, **kwargs))

    async def wait(self, numbers: Any, *more: Any, **kwargs: Any) -> Any:
        """Apply an asynchronous function."""
        rows, inputs = self._rows(numbers)
        found = await self._function(*self._args(inputs), *more, **kwargs)
        return self._outputs(rows, inputs, found)

    def _rows(self, numbers: Any) -> tuple[range, Any]:
        if self._columns is None:
            self._columns = Columns(self._dataset)
        columns = self._columns
        first, stop = numbers[_ROW], numbers[_ROW] + 1 if not self._batched else 0
        if self._batched:
            first, stop = numbers[_ROW][0], numbers[_ROW][-1] + 1
        rows = range(first, stop)
        if columns.is_mapping:
            return rows, Batch(columns, first, stop) if self._batched else Row(columns, first)
        key = range(len(rows)) if self._batched else 0
        return rows, format_table(columns.rows(first, stop), key, formatter=columns.formatter)

    def _args(self, inputs: Any) -> list[Any]:
        return [inputs] if self._inputs is None else [inputs[name] for name in self._inputs]

    def _outputs(self, rows: range, inputs: Any, found: Any) -> Any:
        """Give what the function changed, with the row it belongs to."""
        if not (isinstance(inputs, Row | Batch) and isinstance(found, Mapping)):
            return found
        # As `datasets` has it: what is done to a row counts without being returned only where
        # the row is a plain one.
        is_plain = self._dataset._format_type is None and self._inputs is None
        outputs = inputs.changed() if found is inputs or is_plain else {}
        removed = set(self._removed)
        outputs = {name: value for name, value in outputs.items() if name not in removed}
        if found is not inputs:
            outputs.update(
                (name, found[name])
                for name in found
                if name in removed or not inputs.is_as_given(name, found[name])
            )
        outputs = {name: plain(value) for name, value in outputs.items()}
        gone = [name for name in self._dataset.column_names if name not in inputs]
        kept = set(self._dataset.column_names) - removed - set(gone) - outputs.keys()
        if kept:
            self._level(inputs, outputs, removed | set(gone))
            self._check_length(outputs, len(rows), kept)
            wrote = zlib.crc32(json.dumps(sorted(outputs)).encode())
            notes: dict[str, Sequence[Any]] = {_ROW: rows, _WROTE: [wrote] * len(rows)}
            if gone:
                notes[_GONE] = [json.dumps(gone)] * len(rows)
            for name, values in notes.items():
                outputs[name] = list(values) if self._batched else values[0]
        return outputs

    def _level(self, inputs: Any, outputs: dict[str, Any], gone: set[str]) -> None:
        """See to it that each row gives the same of the columns there are."""
        for name in self._always - gone - outputs.keys():
            outputs[name] = plain(inputs[name])
        known = set(self._dataset.column_names) & outputs.keys()
        if self._first is None:
            self._first = known
        elif known != self._first:
            raise _UnevenError(known | self._first)

    def _check_length(self, outputs: Mapping[str, Any], n: int, kept: set[str]) -> None:
        for name, values in outputs.items() if self._batched else ():
            if len(values) != n:
                raise ValueError(
                    f"a function of batches gave {len(values)} values of {name!r} for {n} rows "
                    f"while {len(kept)} columns stay as they are: give one per row, or name all "
                    "columns in remove_columns"
                )


def _composed(
    dataset: datasets.Dataset, found: datasets.Dataset, removed: Sequence[str]
) -> datasets.Dataset:
    """Put results beside the columns that were left alone."""
    if _ROW not in found.column_names:
        return found
    written = [name for name in found.column_names if name not in (_ROW, _WROTE, _GONE)]
    gone = set(removed)
    if _GONE in found.column_names:
        gone |= set(json.loads(found._data.column(_GONE)[0].as_py()))
    if not len(found):
        # Where a function gave no row, all columns stand there, also those it was to remove.
        written = [name for name in written if name not in gone]
    kept = [n for n in dataset.column_names if n not in gone and n not in written]
    rows = found._data.column(_ROW).to_numpy()
    table = dataset.flatten_indices()._data.take_rows(rows).select(kept)
    features = {name: dataset.features[name] for name in kept}
    if written:
        table = beside([table, found._data.select(written)])
        features |= {name: found.features[name] for name in written}
    order = [name for name in dataset.column_names if name in features]
    order += [name for name in written if name not in order]
    info = dataset.info.copy()
    info.features = datasets.Features({name: features[name] for name in order})
    return datasets.Dataset(
        table.select(order), info=info, split=dataset.split, fingerprint=found._fingerprint
    )


def _format_of(dataset: datasets.Dataset, result: datasets.Dataset) -> dict[str, Any]:
    """Give the format of a dataset, for one with other columns."""
    columns = dataset._format_columns
    if columns is not None:
        unformatted = set(dataset.column_names) - set(columns)
        columns = [name for name in result.column_names if name not in unformatted]
    return {
        "type": dataset._format_type,
        "columns": columns,
        "output_all_columns": dataset._output_all_columns,
        **dataset._format_kwargs,
    }


class EachRow:
    """
    A function of one row as one of a batch.

    Parameters
    ----------
    function : callable
        The function, which gives True for a row to keep.
    with_indices, with_rank : bool
        Whether it takes the row's number, the process's.
    """

    def __init__(
        self, function: Callable[..., Any], *, with_indices: bool, with_rank: bool
    ) -> None:
        self._function, self._indices, self._rank = function, with_indices, with_rank

    def call(self, batch: Any, *more: Any, **kwargs: Any) -> list[Any]:
        """Apply the function to each row of a batch."""
        return [self._function(row, *rest, **kwargs) for row, *rest in self._calls(batch, more)]

    async def wait(self, batch: Any, *more: Any, **kwargs: Any) -> list[Any]:
        """Apply an asynchronous function to each row of a batch."""
        calls = self._calls(batch, more)
        return [await self._function(row, *rest, **kwargs) for row, *rest in calls]

    def _calls(self, batch: Any, more: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
        rank = (more[-1],) if self._rank else ()
        for place, row in enumerate(batch.rows()):
            yield (row, *((more[0][place],) if self._indices else ()), *rank)
