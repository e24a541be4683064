"""What the tests of every method of datasets' classes share."""

import functools

import datasets
import pytest

from astropile.catalog import Catalog

LIGHT = ["healpix", "ra", "dec"]
"""Light columns that every kind of dataset there has."""

SAID = {
    *("builder_name", "cache_files", "citation", "column_names", "config_name", "data"),
    *("dataset_size", "description", "download_checksums", "download_size", "features", "format"),
    *("homepage", "info", "license", "num_columns", "num_rows", "shape", "size_in_bytes"),
    *("split", "supervised_keys", "version"),
}
"""Facts: read nothing, hold for a lazy dataset as for any."""

MAKERS = {name for name in dir(datasets.Dataset) if name.startswith("from_")} | {"load_from_disk"}
"""They make a dataset of something else."""


@pytest.fixture
def reads(monkeypatch):
    """What is read of arrays: number of rows and columns of each read."""
    found = []

    def spied(own):
        @functools.wraps(own)
        def read(self, *args, **kwargs):
            columns = args[-1] if isinstance(args[-1], list | tuple) else kwargs["columns"]
            n_rows = args[1] - args[0] if len(args) == 3 else len(args[0])
            values = own(self, *args, **kwargs)
            if values:
                found.append((n_rows, set(columns)))
            return values

        return read

    for name in ("take", "mapped"):
        monkeypatch.setattr(Catalog, name, spied(getattr(Catalog, name)))
    return found
