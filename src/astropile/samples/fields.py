"""Take fields of a sample by their paths, whatever the survey that they lie in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from astropile.errors import SampleError


def pick(sample: Mapping[str, Any], fields: Mapping[str, str]) -> dict[str, Any]:
    """
    Make a sample of the fields that are wanted, under names of one's own.

    Parameters
    ----------
    sample : mapping of str to object
        A sample of a tree, or of a match: there each survey is a record, None where it has no
        part in the match.
    fields : mapping of str to str
        Own name to path: names with dots between, as in ``{"image": "hsc.image"}``. Through a
        list of records a path gives the list of their values.

    Returns
    -------
    dict of str to object
        One value per name; None where it, or a record on the way to it, is missing.

    Raises
    ------
    SampleError
        If a path names what no such sample has.

    Examples
    --------
    >>> pick({"hsc": {"z": 0.5}, "desi": None}, {"z": "hsc.z", "flux": "desi.spectrum.flux"})
    {'z': 0.5, 'flux': None}
    """
    return {name: _value(sample, path.split("."), path) for name, path in fields.items()}


def _value(value: Any, names: list[str], path: str) -> Any:
    if value is None or not names:
        return value
    if isinstance(value, list):
        return [_value(entry, names, path) for entry in value]
    if not isinstance(value, Mapping):
        raise SampleError(f"path {path!r}", f"a record above {names[0]!r}", type(value).__name__)
    # A survey may have dots in its names.
    for length in range(len(names), 0, -1):
        name = ".".join(names[:length])
        if name in value:
            return _value(value[name], names[length:], path)
    raise SampleError(f"path {path!r}", f"one of {', '.join(map(str, value))}", f"{names[0]!r}")
