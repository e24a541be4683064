"""
Make `datasets` know ``"astropile"``: as a dataset to load and as formats.

`datasets` 5 has no entry point for either, so this adds to its tables. It runs when both
packages are imported, in whichever order (`astropile._hook`), and costs nothing before use.
"""

from __future__ import annotations

import functools
import importlib
import sys
from typing import Any

from astropile.errors import MissingExtraError

NAME = "astropile"


def register() -> None:
    """Add the builder and the format to `datasets`, once."""
    from datasets import (
        arrow_dataset,
        dataset_dict,
        formatting,
        iterable_dataset,
        load,
        packaged_modules,
    )

    if NAME in packaged_modules._PACKAGED_DATASETS_MODULES:
        return
    packaged_modules._PACKAGED_DATASETS_MODULES[NAME] = ("astropile.hf.astropile", "")
    packaged_modules._MODULE_TO_EXTENSIONS[NAME] = [".hdf5", ".hdf", ".h5"]
    packaged_modules._MODULE_TO_METADATA_FILE_NAMES[NAME] = []
    packaged_modules._MODULE_TO_METADATA_EXTENSIONS[NAME] = []
    formatting._register_formatter(_formatter("AstroPileFormatter"), NAME, [f"{NAME}-numpy"])
    formatting._register_formatter(_formatter("TorchFormatter", "torch"), f"{NAME}-torch")
    formatting._register_formatter(_formatter("JaxFormatter", "jax"), f"{NAME}-jax")

    # The tree says itself which files it has. `datasets` would search all of its folders for
    # files, which takes minutes in large trees, and guess splits from their names.
    factory = load.PackagedDatasetModuleFactory
    search = factory.get_module

    def get_module(self: Any) -> Any:
        if self.name != NAME:
            return search(self)
        if self.data_dir is None:
            raise TypeError("which tree? give data_dir=, the survey's data folder")
        from datasets.data_files import DataFilesDict

        module, _ = packaged_modules._PACKAGED_DATASETS_MODULES[NAME]
        return load.DatasetModule(module, "", {"data_files": DataFilesDict({})})

    factory.get_module = get_module

    # `datasets` joins tables by their Arrow tables; one that reads its rows later has none.
    arrow_dataset.concat_tables = _Joining(arrow_dataset.concat_tables)

    # Its methods and functions make a plain `Dataset` of whichever table they chose.
    arrow_dataset.Dataset.__init__ = _making(arrow_dataset.Dataset.__init__)

    # A card that it writes lacks licence, citation, units and text.
    for pushed in (
        arrow_dataset.Dataset,
        dataset_dict.DatasetDict,
        dataset_dict.IterableDatasetDict,
        iterable_dataset.IterableDataset,
    ):
        pushed.push_to_hub = _warning(_pushing(pushed.push_to_hub))


class _Joining:
    """`datasets`' function that joins tables, which knows lazy ones."""

    def __init__(self, own: Any) -> None:
        self._own = own

    def __call__(self, tables: Any, axis: int = 0) -> Any:
        found = list(tables)
        join = sys.modules.get("astropile.hf.join")
        if join is None:
            # No lazy table was ever made.
            return self._own(found, axis=axis)
        return join.concatenate_tables(found, axis)


def _making(own: Any) -> Any:
    """Wrap what makes a `Dataset`: one over a lazy table is a `LazyDataset`."""

    @functools.wraps(own)
    def make(self: Any, *args: Any, **kwargs: Any) -> None:
        own(self, *args, **kwargs)
        lazy = sys.modules.get("astropile.hf.dataset")
        if lazy is not None and isinstance(self._data, lazy.LazyTable):
            from datasets import Dataset

            if type(self) is Dataset:
                self.__class__ = lazy.LazyDataset

    return make


def _warning(own: Any) -> Any:
    """Wrap what shares a dataset: it warns first of terms that stand against that."""

    @functools.wraps(own)
    def share(self: Any, *args: Any, **kwargs: Any) -> Any:
        importlib.import_module("astropile.hf.terms").warn_before_sharing(self)
        return own(self, *args, **kwargs)

    return share


def _pushing(own: Any) -> Any:
    """Wrap what pushes a dataset to the Hub: the card is completed."""

    @functools.wraps(own)
    def push_to_hub(self: Any, *args: Any, **kwargs: Any) -> Any:
        commit = own(self, *args, **kwargs)
        hub_card = importlib.import_module("astropile.hf.hub_card")
        return hub_card.complete_pushed(self, own, commit, args, kwargs)

    return push_to_hub


def _formatter(name: str, package: str | None = None) -> Any:
    """Give what makes a formatter, and imports what it needs only then."""

    def make(*args: Any, **kwargs: Any) -> Any:
        if package is not None:
            try:
                importlib.import_module(package)
            except ImportError as error:
                raise MissingExtraError(f"the format '{NAME}-{package}'", package) from error
        formatters = importlib.import_module("astropile.hf.formatting")
        return getattr(formatters, name)(*args, **kwargs)

    make.__name__ = name
    return make
