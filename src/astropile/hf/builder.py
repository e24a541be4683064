"""Open a tree as a Hugging Face dataset: map-style without a copy, or as a stream."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
from datasets.arrow_reader import ReadInstruction
from datasets.builder import Key

from astropile.catalog import Catalog, open_catalog
from astropile.errors import TreeNotFoundError
from astropile.hf.dataset import lazy_dataset
from astropile.hf.rows import TreeRows
from astropile.hf.source import Rows
from astropile.layout import ROOT_FILE
from astropile.store.protocol import RemoteOptions, RemotePath, is_url

OPENING = frozenset({"remote", "verify", "memory_map"})
"""Options that say how to open a tree, as `open_catalog` takes them."""

SPLIT = "train"
"""Name of the one split: a tree is not split, and `datasets` wants a name."""


@dataclass
class AstroPileConfig(datasets.BuilderConfig):  # type: ignore[misc]
    """
    How to open a tree.

    Parameters
    ----------
    columns : sequence of str, optional
        Standard names to keep; by default all.
    rows : sequence of int, optional
        Row numbers to keep, in this order; or one boolean per object.
    object_ids : sequence, optional
        Objects to keep: all rows of each, in this order.
    batch_size : int, optional
        Most rows of a batch of a stream; fewer where rows are large.
    """

    columns: Any = None
    rows: Any = None
    object_ids: Any = None
    batch_size: int | None = None


class TreeBuilder(datasets.ArrowBasedBuilder):  # type: ignore[misc]
    """
    A builder over a tree; nothing has to be prepared.

    Parameters
    ----------
    data_dir : path, str or Catalog
        The survey's data folder, or the folder of a subset; or the URL of either; or a subset
        that is open.
    config_name : str, optional
        The subset; may be left out where there is only one.
    data_files : object
        Not used: a tree says itself which files it has.
    **kwargs
        As for `datasets.DatasetBuilder`, and the fields of `AstroPileConfig`. ``remote``: how
        to reach a URL, a `RemoteOptions`. ``verify``, ``memory_map``: as for `open_catalog`.

    Raises
    ------
    TreeNotFoundError
        If there is no tree, or not that subset; names those there are.
    UnknownColumnError
        If a column is not known.
    """

    BUILDER_CONFIG_CLASS = AstroPileConfig

    def __init__(
        self,
        *,
        data_dir: str | os.PathLike[str] | Catalog | None = None,
        config_name: str | None = None,
        data_files: Any = None,
        **kwargs: Any,
    ) -> None:
        del data_files
        if data_dir is None:
            raise TypeError("which tree? give data_dir=, the survey's data folder")
        opening = {name: kwargs.pop(name) for name in OPENING & kwargs.keys()}
        catalog = open_subset(data_dir, config_name, **opening)
        rows = _chosen_rows(catalog, kwargs.get("rows"), kwargs.get("object_ids"))
        columns = kwargs.get("columns")
        self.rows = TreeRows(catalog, None if columns is None else _names(columns), rows)
        kwargs["hash"] = self.rows.fingerprint
        kwargs["dataset_name"] = catalog.survey.name
        super().__init__(data_dir=str(catalog.path), config_name=catalog.subset, **kwargs)

    @property
    def catalog(self) -> Catalog:
        """The tree it opens."""
        return self.rows.catalog

    def _info(self) -> datasets.DatasetInfo:
        survey = self.rows.survey
        info = self.rows.info
        info.features = self.rows.features
        info.splits = datasets.SplitDict(dataset_name=survey.name)
        info.splits.add(
            datasets.SplitInfo(SPLIT, num_examples=len(self.rows), dataset_name=survey.name)
        )
        return info

    # ----------------------------------------------------------------------------------
    # As a table

    def download_and_prepare(self, output_dir: str | None = None, **kwargs: Any) -> None:
        """
        Do nothing, or write the dataset as Arrow or Parquet files where told to.

        Parameters
        ----------
        output_dir : str, optional
            A folder to write to; by default nothing is written, for nothing is needed.
        **kwargs
            As for `datasets.DatasetBuilder.download_and_prepare`.
        """
        if output_dir is not None:
            super().download_and_prepare(output_dir, **kwargs)

    def as_dataset(self, split: Any = None, in_memory: bool = False) -> Any:  # noqa: FBT001, FBT002
        """
        Give the map-style dataset; its rows are read when asked for.

        Parameters
        ----------
        split : str, ReadInstruction or list, optional
            ``"train"``, a part of it such as ``"train[:10%]"``, or several in a list; by
            default a `DatasetDict` with the one split.
        in_memory : bool
            Read everything now.

        Returns
        -------
        datasets.Dataset or DatasetDict
            The dataset.
        """
        if split is None:
            return datasets.DatasetDict({SPLIT: self.as_dataset(SPLIT, in_memory)})
        if isinstance(split, list | tuple):
            return [self.as_dataset(one, in_memory) for one in split]
        whole = lazy_dataset(self.rows, self.info, SPLIT)
        if str(split) not in (SPLIT, "all"):
            if not isinstance(split, ReadInstruction):
                split = ReadInstruction.from_spec(str(split))
            parts = split.to_absolute({SPLIT: len(self.rows)})
            spans = [
                np.arange(part.from_ or 0, len(self.rows) if part.to is None else part.to)
                for part in parts
            ]
            whole = whole.select(np.concatenate(spans))
        if in_memory:
            table = whole.with_format("arrow")[:]
            whole = datasets.Dataset(table, info=whole.info, split=whole.split)
        return whole

    # ----------------------------------------------------------------------------------
    # As a stream

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        del dl_manager
        return [datasets.SplitGenerator(name=SPLIT, gen_kwargs={"pieces": self._pieces()})]

    def _pieces(self) -> list[tuple[int, int]]:
        """List runs of rows, each small and within a shard: what is shared out and resumed by."""
        n, step = len(self.rows), self.rows.batch_rows()
        edges = set(range(0, n, step)) | {0, n}
        if len(self.rows) == len(self.catalog):
            starts = [shard.start for shard in self.catalog.shards]
            edges = {0, n, *starts}
            for start, stop in zip(starts, [*starts[1:], n], strict=True):
                edges.update(range(start, stop, step))
        ordered = sorted(edges)
        return list(pairwise(ordered))

    def _generate_shards(self, pieces: list[tuple[int, int]]) -> Iterator[str]:
        for start, stop in pieces:
            yield f"{self.catalog.path}#{start}-{stop}"

    def _generate_tables(self, pieces: list[tuple[int, int]]) -> Iterator[tuple[Key, pa.Table]]:
        step = self.rows.batch_rows(self.config.batch_size)
        names = self.rows.schema.names
        for number, (start, stop) in enumerate(pieces):
            for batch, first in enumerate(range(start, stop, step)):
                rows = np.arange(first, min(first + step, stop))
                yield Key(number, batch), self.rows.read(rows, names)


def _names(columns: str | Sequence[str]) -> list[str]:
    return [columns] if isinstance(columns, str) else list(columns)


def open_subset(
    data_dir: str | os.PathLike[str] | Catalog,
    name: str | None,
    remote: RemoteOptions | None = None,
    *,
    verify: bool = False,
    memory_map: bool = False,
) -> Catalog:
    """
    Open a subset, whether its own folder is given or the data folder above.

    Parameters
    ----------
    data_dir : path, str or Catalog
        Either folder, ``~`` stands for the home folder; or its URL; or the subset itself.
    name : str or None
        The subset.
    remote : RemoteOptions, optional
        How to reach a URL.
    verify, memory_map : bool
        As for `open_catalog`.

    Returns
    -------
    Catalog
        The subset.

    Raises
    ------
    TreeNotFoundError
        If there is no tree, or not that subset.
    TypeError
        If a subset that is open was given with how to open one.
    """
    if isinstance(data_dir, Catalog):
        if remote is not None or verify or memory_map:
            raise TypeError(
                f"{', '.join(sorted(OPENING))} are for opening a tree; this one is open"
            )
        if name not in (None, data_dir.subset):
            raise TreeNotFoundError(str(data_dir.path), f"it is the subset {data_dir.subset!r}")
        return data_dir
    options: dict[str, Any] = {"verify": verify, "memory_map": memory_map}
    if isinstance(data_dir, RemotePath) or is_url(data_dir):
        return open_catalog(data_dir, name, remote=remote, **options)
    folder = Path(data_dir).expanduser()
    if name is not None and (folder / ROOT_FILE).is_file():
        catalog = open_catalog(folder, **options)
        if catalog.subset == name:
            return catalog
    return open_catalog(folder, name, **options)


def _chosen_rows(catalog: Catalog, rows: Any, object_ids: Any) -> Rows | None:
    if rows is not None and object_ids is not None:
        raise TypeError("choose objects by rows or by object_ids, not by both")
    if rows is not None:
        return catalog.check_rows(rows)
    if object_ids is None:
        return None
    known = catalog.light(["object_id"]).column(0).to_pylist()
    places: dict[Any, list[int]] = {}
    for row, known_id in enumerate(known):
        places.setdefault(known_id, []).append(row)
    found: list[int] = []
    for wanted in object_ids:
        key = wanted.item() if isinstance(wanted, np.generic) else wanted
        if key not in places:
            where = f"{catalog.survey.name}/{catalog.subset}"
            raise LookupError(f"no object {key!r} in {where}")
        found.extend(places[key])
    return np.array(found, np.int64)


def load_dataset_builder(
    data_dir: str | os.PathLike[str] | Catalog, config_name: str | None = None, **options: Any
) -> TreeBuilder:
    """
    Give the Hugging Face builder of a survey's tree.

    Parameters
    ----------
    data_dir : path, str or Catalog
        The survey's data folder, or the folder of a subset; or the URL of either; or a subset
        that is open.
    config_name : str, optional
        The subset; may be left out where there is only one.
    **options
        ``columns``: standard names to keep. ``rows`` or ``object_ids``: objects to keep.
        ``batch_size``: most rows of a batch of a stream. ``remote``: a `RemoteOptions`.
        ``verify``, ``memory_map``: as for `open_catalog`. Any argument of
        `datasets.DatasetBuilder`.

    Returns
    -------
    datasets.DatasetBuilder
        ``as_dataset()`` and ``as_streaming_dataset()`` work at once: there is nothing to
        download or prepare.

    Raises
    ------
    TreeNotFoundError
        If there is no tree, or not that subset; names those there are.
    UnknownColumnError
        If a column is not known.

    Examples
    --------
    >>> builder = load_dataset_builder(data_dir="~/data/hsc", config_name="pdr3")  # doctest: +SKIP
    """
    from astropile.hf.astropile import AstroPile

    return AstroPile(data_dir=data_dir, config_name=config_name, **options)


def load_dataset(
    data_dir: str | os.PathLike[str] | Catalog,
    config_name: str | None = None,
    *,
    columns: Sequence[str] | None = None,
    streaming: bool = False,
    **options: Any,
) -> Any:
    """
    Open a survey's tree as a Hugging Face dataset.

    Parameters
    ----------
    data_dir : path, str or Catalog
        The survey's data folder, or the folder of a subset; or the URL of either; or a subset
        that is open.
    config_name : str, optional
        The subset; may be left out where there is only one.
    columns : sequence of str, optional
        Standard names to keep, and native ones; by default all.
    streaming : bool
        Give a stream rather than a table.
    **options
        As for `load_dataset_builder`.

    Returns
    -------
    datasets.Dataset or IterableDataset
        Nothing is copied: rows are read when asked for. ``with_format("astropile")`` gives
        numpy arrays of the stored dtype.

    Raises
    ------
    TreeNotFoundError
        If there is no tree, or not that subset; names those there are.
    UnknownColumnError
        If a column is not known.

    Examples
    --------
    >>> hsc = load_dataset("~/data/hsc", columns=["object_id", "image"])  # doctest: +SKIP
    >>> hsc.with_format("astropile")[0]["image"][0]["array"].dtype  # doctest: +SKIP
    dtype('float32')
    """
    builder = load_dataset_builder(data_dir, config_name, columns=columns, **options)
    if streaming:
        return builder.as_streaming_dataset(split=SPLIT)
    return builder.as_dataset(split=SPLIT)
