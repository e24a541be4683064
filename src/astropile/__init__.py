"""
AstroPile: astronomical surveys as training data.

Each survey is a tree of self-describing HDF5 split on the sky, opened through Hugging Face
`datasets`, cross-matched with any other in one call.

The names below load on first use: importing the package costs neither `datasets` nor any
other optional one.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from astropile._hook import when_imported
from astropile._version import __version__
from astropile.names import FORMAT_VERSION

if TYPE_CHECKING:
    from astropile.build import build_catalog
    from astropile.catalog import Catalog, open_catalog
    from astropile.errors import (
        AstroPileError,
        FormatError,
        MissingExtraError,
        SchemaError,
        UnknownSurveyError,
    )
    from astropile.healpix import HealpixPixel
    from astropile.hf import (
        CrossMatch,
        concatenate_datasets,
        cross_match_datasets,
        load_dataset,
        load_dataset_builder,
    )
    from astropile.match import cross_match, match_positions
    from astropile.schema import Column, Record, RecordList, Survey
    from astropile.surveys import get_survey, list_surveys
    from astropile.validate import validate_catalog

_HOME = {
    "AstroPileError": "errors",
    "Catalog": "catalog",
    "Column": "schema",
    "CrossMatch": "hf",
    "FormatError": "errors",
    "HealpixPixel": "healpix",
    "MissingExtraError": "errors",
    "Record": "schema",
    "RecordList": "schema",
    "SchemaError": "errors",
    "Survey": "schema",
    "UnknownSurveyError": "errors",
    "build_catalog": "build",
    "concatenate_datasets": "hf",
    "cross_match": "match",
    "cross_match_datasets": "hf",
    "get_survey": "surveys",
    "list_surveys": "surveys",
    "load_dataset": "hf",
    "load_dataset_builder": "hf",
    "match_positions": "match",
    "open_catalog": "catalog",
    "validate_catalog": "validate",
}

__all__ = [
    "FORMAT_VERSION",
    "AstroPileError",
    "Catalog",
    "Column",
    "CrossMatch",
    "FormatError",
    "HealpixPixel",
    "MissingExtraError",
    "Record",
    "RecordList",
    "SchemaError",
    "Survey",
    "UnknownSurveyError",
    "__version__",
    "build_catalog",
    "concatenate_datasets",
    "cross_match",
    "cross_match_datasets",
    "get_survey",
    "list_surveys",
    "load_dataset",
    "load_dataset_builder",
    "match_positions",
    "open_catalog",
    "validate_catalog",
]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'astropile' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"astropile.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


def _register() -> None:
    from astropile.hf.registration import register

    register()


# Lets datasets.load_dataset("astropile", ...) work, without importing datasets here.
when_imported("datasets", _register)
