"""Positions and identifiers of datasets, read without their arrays."""

from __future__ import annotations

from typing import Any

import datasets
import numpy as np
from numpy.typing import NDArray

from astropile.errors import SampleError


def as_dict(parts: dict[str, datasets.Dataset]) -> datasets.DatasetDict:
    """
    Put datasets together under their names.

    Parameters
    ----------
    parts : dict of str to datasets.Dataset
        The datasets.

    Returns
    -------
    datasets.DatasetDict
        The same.
    """
    return datasets.DatasetDict(parts)


def own_positions(dataset: datasets.Dataset) -> tuple[NDArray[Any], NDArray[Any]]:
    """
    Read a dataset's positions.

    Parameters
    ----------
    dataset : datasets.Dataset
        With columns ``ra`` and ``dec``.

    Returns
    -------
    ra, dec : ndarray, shape (n,), float64
        Positions [deg, ICRS]; NaN where there is none.

    Raises
    ------
    SampleError
        If there are no such columns, or records of the dataset have positions of their own.
    """
    names = dataset.column_names
    if not {"ra", "dec"} <= set(names):
        raise SampleError("dataset", "columns ra and dec", ", ".join(names))
    inner = [
        name
        for name, feature in dataset.features.items()
        if isinstance(feature, dict) and {"ra", "dec"} <= set(feature)
    ]
    if inner:
        raise SampleError(
            "dataset",
            "one position per row; for a match use split_match with its catalogue",
            f"positions of {', '.join(inner)}",
        )
    table = dataset.select_columns(["ra", "dec"]).with_format("arrow")[:]
    ra, dec = (table[name].to_numpy(zero_copy_only=False) for name in ("ra", "dec"))
    return ra.astype(np.float64), dec.astype(np.float64)


def own_ids(dataset: datasets.Dataset) -> NDArray[Any] | None:
    """
    Read a dataset's identifiers.

    Parameters
    ----------
    dataset : datasets.Dataset
        The dataset.

    Returns
    -------
    ndarray, shape (n,), or None
        Its ``object_id``, if it has such a column.
    """
    if "object_id" not in dataset.column_names:
        return None
    table = dataset.select_columns(["object_id"]).with_format("arrow")[:]
    return np.asarray(table["object_id"].to_numpy(zero_copy_only=False))
