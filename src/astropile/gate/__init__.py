"""
The gate: what others wrote is looked at here before anything else of us or of HDF5 reads it.

`verify_file` checks one HDF5 file of unknown origin in plain Python: that it is a whole regular
file, that its structure has nothing but what a table of columns needs, that all its data is
there and unpacks to its declared size, and that its positions and identifiers make sense.
`check_structure` looks at the structure alone. Shards are indexed and checked through it, so that
the HDF5 library reads nothing that others wrote.

What is let in, and what is not promised, stands in `docs/explanation/untrusted-files.md`.
"""

from __future__ import annotations

from typing import Any, Final

_HOME: Final = {
    "FileProblem": "astropile.gate.verify",
    "FileReport": "astropile.gate.verify",
    "Limits": "astropile.gate.limits",
    "check_structure": "astropile.gate.verify",
    "verify_file": "astropile.gate.verify",
}

__all__ = ["FileProblem", "FileReport", "Limits", "check_structure", "verify_file"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOME[name]), name)
