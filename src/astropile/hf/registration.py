"""
Make `datasets` know ``"astropile"``: as a dataset to load and as formats.

`datasets` 5 has no entry point for either, so this adds to its tables. It runs when both
packages are imported, in whichever order (`astropile._hook`), and costs nothing before use.
"""

from __future__ import annotations

import functools
import sys
from typing import Any

from astropile.errors import MissingExtraError

NAME = "astropile"


def register() -> None:
    """Add the builder and the format to `datasets`, once."""
    from datasets import arrow_dataset, formatting, load, packaged_modules

    if NAME in packaged_modules._PACKAGED_DATASETS_MODULES:
        return
    packaged_modules._PACKAGED_DATASETS_MODULES[NAME] = ("astropile.hf.astropile", "")
    packaged_modules._MODULE_TO_EXTENSIONS[NAME] = [".hdf5", ".hdf", ".h5"]
    packaged_modules._MODULE_TO_METADATA_FILE_NAMES[NAME] = []
    packaged_modules._MODULE_TO_METADATA_EXTENSIONS[NAME] = []
    formatting._register_formatter(_formatter, NAME)
    formatting._register_formatter(_torch_formatter, f"{NAME}-torch")

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


def _formatter(*args: Any, **kwargs: Any) -> Any:
    from astropile.hf.formatting import AstroPileFormatter

    return AstroPileFormatter(*args, **kwargs)


def _torch_formatter(*args: Any, **kwargs: Any) -> Any:
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(f"the format '{NAME}-torch'", "torch") from error
    from astropile.hf.formatting import TorchFormatter

    return TorchFormatter(*args, **kwargs)
