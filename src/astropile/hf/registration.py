"""
Make `datasets` know ``"astropile"``: as a dataset to load and as a format.

`datasets` 5 has no entry point for either, so this adds to its tables. It runs when both
packages are imported, in whichever order (`astropile._hook`), and costs nothing before use.
"""

from __future__ import annotations

from typing import Any

NAME = "astropile"


def register() -> None:
    """Add the builder and the format to `datasets`, once."""
    from datasets import formatting, load, packaged_modules

    if NAME in packaged_modules._PACKAGED_DATASETS_MODULES:
        return
    packaged_modules._PACKAGED_DATASETS_MODULES[NAME] = ("astropile.hf.astropile", "")
    packaged_modules._MODULE_TO_EXTENSIONS[NAME] = [".hdf5", ".hdf", ".h5"]
    packaged_modules._MODULE_TO_METADATA_FILE_NAMES[NAME] = []
    packaged_modules._MODULE_TO_METADATA_EXTENSIONS[NAME] = []
    formatting._register_formatter(_formatter, NAME)

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


def _formatter(*args: Any, **kwargs: Any) -> Any:
    from astropile.hf.formatting import AstroPileFormatter

    return AstroPileFormatter(*args, **kwargs)
