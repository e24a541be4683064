"""The `Dataset` over a `LazyTable`: the methods that would read more than they need."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from datasets.arrow_dataset import update_metadata_with_features
from datasets.config import ARROW_READER_BATCH_SIZE_IN_DATASET_ITER
from datasets.fingerprint import is_caching_enabled, update_fingerprint
from datasets.formatting import get_formatter

from astropile.hf.join import cache_files_of
from astropile.hf.lazy import LazyTable
from astropile.hf.mapping import EachRow, map_beside
from astropile.hf.reading import Columns
from astropile.hf.source import RowSource
from astropile.hf.values import FORMATS, Values


class LazyDataset(datasets.Dataset):  # type: ignore[misc]
    """
    A `datasets.Dataset` whose rows are read when asked for.

    Every `Dataset` over a `LazyTable` is one, whichever method made it. What is not below is
    `datasets`' own.
    """

    # ----------------------------------------------------------------------------------
    # Functions of rows

    def map(self, *args: Any, **kwargs: Any) -> datasets.Dataset:
        """
        Apply a function to rows or batches, as `datasets.Dataset.map`.

        Parameters
        ----------
        *args, **kwargs
            As for `datasets.Dataset.map`.

        Returns
        -------
        datasets.Dataset
            Columns that the function does not change are still read when asked for; those it
            gives stand beside them. The function reads what it takes from its row, no more.

        Raises
        ------
        ValueError
            If there is no such column to read or to remove, or a batch comes back longer or
            shorter while columns stay beside it.
        """
        if not len(self) or self.list_indexes():
            return super().map(*args, **kwargs)
        bound = inspect.signature(datasets.Dataset.map).bind(self, *args, **kwargs)
        bound.apply_defaults()
        del bound.arguments["self"]
        return map_beside(self, bound.arguments)

    def filter(
        self,
        function: Callable[..., Any] | None = None,
        with_indices: bool = False,  # noqa: FBT001, FBT002
        with_rank: bool = False,  # noqa: FBT001, FBT002
        input_columns: str | list[str] | None = None,
        batched: bool = False,  # noqa: FBT001, FBT002
        *args: Any,
        **kwargs: Any,
    ) -> datasets.Dataset:
        """
        Choose rows by a function, as `datasets.Dataset.filter`.

        Parameters
        ----------
        function : callable, optional
            Gives True for a row to keep.
        with_indices, with_rank : bool
            Whether it takes the row's number, the process's.
        input_columns : str or list of str, optional
            What it takes instead of the row.
        batched : bool
            Whether it takes batches, and gives a list.
        *args, **kwargs
            As for `datasets.Dataset.filter`.

        Returns
        -------
        datasets.Dataset
            These rows, none of them read; the function reads what it takes from a row.
        """
        is_row_by_row = function is not None and not batched and input_columns is None
        if is_row_by_row and len(self) and Columns(self).is_mapping:
            each = EachRow(function, with_indices=with_indices, with_rank=with_rank)  # type: ignore[arg-type]
            function = each.wait if inspect.iscoroutinefunction(function) else each.call
            batched = True
        return super().filter(
            function, with_indices, with_rank, input_columns, batched, *args, **kwargs
        )

    def sort(
        self, column_names: str | Sequence[str], *args: Any, **kwargs: Any
    ) -> datasets.Dataset:
        """
        Sort rows by columns, as `datasets.Dataset.sort`.

        Parameters
        ----------
        column_names : str or sequence of str
            The columns; no other is read.
        *args, **kwargs
            As for `datasets.Dataset.sort`.

        Returns
        -------
        datasets.Dataset
            The same rows in that order.
        """
        names = [column_names] if isinstance(column_names, str) else list(column_names)
        known = [name for name in dict.fromkeys(names) if name in self.column_names]
        if len(known) < len(set(names)) or len(known) == len(self.column_names):
            return super().sort(column_names, *args, **kwargs)
        ordered = self.select_columns(known).sort(column_names, *args, **kwargs)
        result = copy.deepcopy(self)
        result._data = self._data._with(rows=ordered._data._rows)
        result._indices = ordered._indices
        result._fingerprint = update_fingerprint(
            self._fingerprint, "astropile.sort", {"order": ordered._fingerprint}
        )
        return result

    # ----------------------------------------------------------------------------------
    # Columns

    def unique(self, column: str) -> list[Any]:
        """
        List the values of a column, each once.

        Parameters
        ----------
        column : str
            The column; no other is read.

        Returns
        -------
        list
            Its values, in the order in which they come first.
        """
        if column not in self.column_names or self.column_names == [column]:
            return list(super().unique(column))
        return list(self.select_columns([column]).unique(column))

    def cast(self, features: datasets.Features, *_: Any, **__: Any) -> datasets.Dataset:
        """
        Give the columns other types, as they are read.

        Parameters
        ----------
        features : datasets.Features
            The types, of the same columns.
        *_, **__
            Not used: nothing is written.

        Returns
        -------
        datasets.Dataset
            The same rows; a value that its new type cannot hold fails when it is read.

        Raises
        ------
        ValueError
            If the columns are not the same.
        ArrowInvalid, ArrowNotImplementedError, TypeError
            If no value of a column can be of that type.
        """
        if sorted(features) != sorted(self.column_names):
            raise ValueError(
                f"The columns in features ({list(features)}) must be identical as the columns "
                f"in the dataset: {self.column_names}"
            )
        result = copy.deepcopy(self)
        result._info.features = features
        result._data = update_metadata_with_features(
            self._data.cast(features.arrow_schema), features
        )
        result._fingerprint = update_fingerprint(
            self._fingerprint, "astropile.cast", {"features": features}
        )
        return result

    def flatten_indices(self, *_: Any, **__: Any) -> datasets.Dataset:
        """
        Let the table have the rows in the dataset's order; nothing is read or written.

        Parameters
        ----------
        *_, **__
            Not used.

        Returns
        -------
        datasets.Dataset
            The same rows.
        """
        if self._indices is None:
            return self
        result = copy.deepcopy(self)
        places = self._indices.column(0).to_numpy().astype(np.int64)
        result._data, result._indices = self._data.take_rows(places), None
        result._fingerprint = update_fingerprint(self._fingerprint, "astropile.flatten", {})
        return result

    # ----------------------------------------------------------------------------------
    # Reading

    def _narrow(self) -> LazyDataset:
        """Give the same without the columns that its format leaves out."""
        if self._format_columns is None or self._output_all_columns:
            return self
        wanted = [name for name in self.column_names if name in self._format_columns]
        return self._over(self._data.narrowed(wanted))

    def _over(self, table: Any) -> LazyDataset:
        """Give the same over another table, to read from at once."""
        result = copy.copy(self)
        result._data = table
        return result

    def _as_values(self, form: str | None) -> LazyDataset | None:
        """Give the same, read as numpy values, if the format takes them."""
        if form not in FORMATS or self._output_all_columns:
            return None
        table = self._data.as_values
        return None if table is None else self._over(table)

    def _getitem(self, key: Any, **kwargs: Any) -> Any:
        if isinstance(key, str):
            return super()._getitem(key, **kwargs)
        one = self._narrow()
        one = one._as_values(kwargs.get("format_type", self._format_type)) or one
        return super(LazyDataset, one)._getitem(key, **kwargs)

    def __iter__(self) -> Iterator[Any]:
        one = self._narrow()
        values = one._as_values(self._format_type)
        if values is None or self._indices is not None:
            return super(LazyDataset, one).__iter__()  # type: ignore[no-any-return]
        return values._rows(one._data.batch_rows(ARROW_READER_BATCH_SIZE_IN_DATASET_ITER))

    def _rows(self, step: int) -> Iterator[Any]:
        """Give rows one by one, of which so many are read at once as numpy values."""
        formatter = get_formatter(self._format_type, **(self._format_kwargs or {}))
        for first in range(0, self._data.num_rows, step):
            block = self._data.fast_slice(first, step).columns
            for row in range(min(step, self._data.num_rows - first)):
                one = {name: values[row : row + 1] for name, values in block.items()}
                yield formatter.format_row(Values(one))

    def iter(self, batch_size: int, drop_last_batch: bool = False) -> Iterator[Any]:  # noqa: FBT001, FBT002
        """
        Give batches of rows, as `datasets.Dataset.iter`.

        Parameters
        ----------
        batch_size : int
            Rows of a batch.
        drop_last_batch : bool
            Whether to leave out a last batch of fewer.

        Returns
        -------
        iterator
            The batches; columns that the format leaves out are not read.
        """
        one = self._narrow()
        if one._as_values(self._format_type) is None:
            return super(LazyDataset, one).iter(batch_size, drop_last_batch)  # type: ignore[no-any-return]
        stop = len(self) - len(self) % batch_size if drop_last_batch else len(self)
        starts = range(0, stop, batch_size)
        return (one._getitem(slice(first, min(first + batch_size, stop))) for first in starts)

    def to_iterable_dataset(self, num_shards: int | None = 1) -> datasets.IterableDataset:
        """
        Give the rows as a stream, as `datasets.Dataset.to_iterable_dataset`.

        Parameters
        ----------
        num_shards : int
            In how many parts it can be shared out.

        Returns
        -------
        datasets.IterableDataset
            The rows, read in small batches.
        """
        stream = super().to_iterable_dataset(num_shards)
        inner = stream._ex_iterable
        while not hasattr(inner, "generate_tables_fn"):
            inner = inner.ex_iterable
        inner.generate_tables_fn = _tables_of_shards
        stream._info = self.info.copy()
        return stream

    # ----------------------------------------------------------------------------------
    # Files of results

    @property
    def cache_files(self) -> list[dict[str, str]]:
        """The Arrow files that results of functions are read from."""
        tables = [self._data] if self._indices is None else [self._data, self._indices]
        return [{"filename": path} for table in tables for path in cache_files_of(table)]

    def _cache_folder(self) -> Path:
        name = self.info.dataset_name or self._data.source.name or "dataset"
        return Path(datasets.config.HF_DATASETS_CACHE) / "astropile" / str(name)[:100]

    def _get_cache_file_path(self, fingerprint: str) -> str:
        if not is_caching_enabled():
            return str(super()._get_cache_file_path(fingerprint))
        return str(self._cache_folder() / f"cache-{fingerprint}.arrow")

    def cleanup_cache_files(self) -> int:
        """
        Remove the results of functions of this survey's rows that this dataset does not need.

        Returns
        -------
        int
            Number of files removed.
        """
        used = {Path(file["filename"]).resolve() for file in self.cache_files}
        unused = [
            path
            for path in self._cache_folder().glob("cache-*.arrow")
            if path.resolve() not in used
        ]
        for path in unused:
            path.unlink()
        return len(unused)


def _tables_of_shards(shards: list[LazyDataset], batch_size: int) -> Iterator[tuple[int, Any]]:
    """Read shards one after another, in batches that memory holds."""
    for number, shard in enumerate(shards):
        rows = shard._data.batch_rows(batch_size)
        for table in shard.with_format("arrow").iter(rows):
            yield number, table


def lazy_dataset(
    source: RowSource, info: datasets.DatasetInfo | None = None, split: Any = "train"
) -> LazyDataset:
    """
    Make a dataset whose rows are read when asked for.

    Parameters
    ----------
    source : RowSource
        Where they come from.
    info : datasets.DatasetInfo, optional
        What to say of it; by default what the source says.
    split : str
        Name of the split.

    Returns
    -------
    LazyDataset
        The dataset; nothing is read, nothing is written.
    """
    info = source.info if info is None else info.copy()
    info.features = source.features
    info.dataset_name = info.dataset_name or source.name
    return LazyDataset(
        LazyTable(source),
        info=info,
        split=datasets.NamedSplit(str(split)),
        fingerprint=source.fingerprint,
    )
