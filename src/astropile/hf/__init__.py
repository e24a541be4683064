"""
AstroPile inside Hugging Face `datasets`; the one package that imports it.

The names below load on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from astropile.errors import MissingExtraError

if TYPE_CHECKING:
    from astropile.hf.builder import load_dataset, load_dataset_builder
    from astropile.hf.concatenate import concatenate_datasets
    from astropile.hf.crossmatch import CrossMatch, cross_match_datasets

__all__ = [
    "CrossMatch",
    "concatenate_datasets",
    "cross_match_datasets",
    "load_dataset",
    "load_dataset_builder",
]

_HOME = {
    "CrossMatch": "crossmatch",
    "concatenate_datasets": "concatenate",
    "cross_match_datasets": "crossmatch",
    "load_dataset": "builder",
    "load_dataset_builder": "builder",
}


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'astropile.hf' has no attribute {name!r}")
    try:
        import datasets  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(name, "hf") from error
    registration = importlib.import_module("astropile.hf.registration")
    registration.register()
    value = getattr(importlib.import_module(f"astropile.hf.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
