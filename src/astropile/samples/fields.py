"""Take fields of a sample by their paths, whatever the survey that they lie in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from astropile.errors import SampleError
from astropile.schema import Ragged

PRESENT: Final = "present"
"""Name under which a batch has its flags."""


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


def samples_of(batch: Mapping[str, Any]) -> list[dict[str, Any]]:
    """
    Take a batch of columns apart into samples.

    Parameters
    ----------
    batch : mapping of str to ndarray, tensor, list or Ragged
        Columns of one value per object, as `astropile.streams.Stream` and `Catalog.take` give
        them. Names with dots are fields of records, unless there is also a column of the record's
        name; ``<name>.present`` says which objects have that record.

    Returns
    -------
    list of dict
        A sample for each object; records are dicts, or None where they are not present. Arrays are
        views of the batch's; text is str.

    Raises
    ------
    SampleError
        If columns differ in length, or there is no object.

    Examples
    --------
    >>> batch = {"desi.z": np.array([0.5, 0.0]), "desi.present": np.array([True, False])}
    >>> samples_of(batch)
    [{'desi': {'z': np.float64(0.5)}}, {'desi': None}]
    """
    lengths = {name: len(values) for name, values in batch.items()}
    if len(set(lengths.values())) != 1 or not all(lengths.values()):
        found = ", ".join(f"{name}: {length}" for name, length in lengths.items())
        raise SampleError("batch", "as many values in each field, at least 1", found or "none")
    columns = {name: _one_by_one(values) for name, values in batch.items()}
    paths = {name: _path(name, batch) for name in columns}
    return [
        _sample({name: values[row] for name, values in columns.items()}, paths)
        for row in range(next(iter(lengths.values())))
    ]


def _one_by_one(values: Any) -> list[Any]:
    """Give a column as one value per object."""
    if isinstance(values, Ragged):
        return [values[row] for row in range(len(values))]
    if isinstance(values, np.ndarray) and values.dtype.kind == "S":
        return list(np.char.decode(values, "utf-8").tolist())
    return list(values)


def _path(name: str, batch: Mapping[str, Any]) -> list[str]:
    parts = name.split(".")
    above = (".".join(parts[:end]) for end in range(1, len(parts)))
    return [name] if any(record in batch for record in above) else parts


def _sample(values: Mapping[str, Any], paths: Mapping[str, list[str]]) -> dict[str, Any]:
    """Put the fields of one object where they belong."""
    sample: dict[str, Any] = {}
    absent = set()
    for name, (*above, last) in paths.items():
        if above and last == PRESENT:
            if not values[name]:
                absent.add(tuple(above))
            continue
        record = sample
        for part in above:
            record = record.setdefault(part, {})
        record[last] = values[name]
    for *above, last in absent:
        record = sample
        for part in above:
            record = record.setdefault(part, {})
        record[last] = None
    return sample
