"""
The formats ``"astropile"`` and ``"astropile-torch"``: values that keep their dtype.

``datasets``' own "numpy" and "torch" formats cast float64 to float32 (right ascensions off by
up to 55 milliarcseconds), widen integers and turn missing numbers into NaN. This one gives
what is stored: arrays of the stored dtype over Arrow's memory (read-only), records as dicts,
lists of records as lists of dicts, missing values as None. The second gives the same with
tensors in place of arrays.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from datasets.formatting.formatting import Formatter

from astropile.arrow import to_numpy


class AstroPileFormatter(Formatter[dict[str, Any], Any, dict[str, Any]]):  # type: ignore[misc]
    """
    Rows as dicts, columns as arrays or lists, batches as dicts of columns.

    Parameters
    ----------
    features : datasets.Features, optional
        Not needed: Arrow's types say enough.
    token_per_repo_id : dict, optional
        Not used.
    """

    def format_row(self, pa_table: pa.Table) -> dict[str, Any]:
        """
        Give the first row.

        Parameters
        ----------
        pa_table : pyarrow.Table
            The rows.

        Returns
        -------
        dict
            Column name to value.
        """
        columns = zip(pa_table.column_names, pa_table.columns, strict=True)
        return {name: to_numpy(column)[0] for name, column in columns}

    def format_column(self, pa_table: pa.Table) -> Any:
        """
        Give the first column.

        Parameters
        ----------
        pa_table : pyarrow.Table
            The rows.

        Returns
        -------
        ndarray or list
            Its values.
        """
        return to_numpy(pa_table.column(0))

    def format_batch(self, pa_table: pa.Table) -> dict[str, Any]:
        """
        Give all columns.

        Parameters
        ----------
        pa_table : pyarrow.Table
            The rows.

        Returns
        -------
        dict
            Column name to values.
        """
        columns = zip(pa_table.column_names, pa_table.columns, strict=True)
        return {name: to_numpy(column) for name, column in columns}


class TorchFormatter(AstroPileFormatter):
    """
    The same rows, columns and batches with tensors of the stored dtype instead of arrays.

    One number is a tensor of no dimension; what differs in shape from row to row a list of
    tensors; text stays str, what is missing None.
    """

    def format_row(self, pa_table: pa.Table) -> dict[str, Any]:
        """
        Give the first row.

        Parameters
        ----------
        pa_table : pyarrow.Table
            The rows.

        Returns
        -------
        dict
            Column name to value.
        """
        return {name: to_torch(value) for name, value in super().format_row(pa_table).items()}

    def format_column(self, pa_table: pa.Table) -> Any:
        """
        Give the first column.

        Parameters
        ----------
        pa_table : pyarrow.Table
            The rows.

        Returns
        -------
        torch.Tensor or list
            Its values.
        """
        return to_torch(_stacked(super().format_column(pa_table)))

    def format_batch(self, pa_table: pa.Table) -> dict[str, Any]:
        """
        Give all columns.

        Parameters
        ----------
        pa_table : pyarrow.Table
            The rows.

        Returns
        -------
        dict
            Column name to values.
        """
        batch = super().format_batch(pa_table)
        return {name: to_torch(_stacked(values)) for name, values in batch.items()}


def _stacked(values: Any) -> Any:
    """Make one array of a list of arrays of one shape and dtype."""
    if not isinstance(values, list) or not values:
        return values
    first = values[0]
    if not isinstance(first, np.ndarray) or first.dtype.kind not in _KINDS:
        return values
    for value in values:
        if not isinstance(value, np.ndarray):
            return values
        if value.shape != first.shape or value.dtype != first.dtype:
            return values
    return np.stack(values)


_KINDS = "biufc"
"""Kinds of dtypes that tensors have."""


def to_torch(value: Any) -> Any:
    """
    Give what `to_numpy` gives with tensors in it.

    Parameters
    ----------
    value : object
        Arrays, numbers, text, None, and dicts and lists of these.

    Returns
    -------
    object
        The same with a tensor for each array and number, of its dtype and over memory of its
        own: Arrow's may not be written to. Arrays of text are lists of str.

    Raises
    ------
    TypeError
        If this version of PyTorch has no such dtype.
    """
    import torch

    match value:
        case dict():
            return {name: to_torch(inner) for name, inner in value.items()}
        case list():
            return [to_torch(inner) for inner in value]
        case np.ndarray() if value.dtype.kind in _KINDS:
            own = np.array(value, value.dtype.newbyteorder("="), order="C")
            try:
                return torch.from_numpy(own)
            except TypeError as error:
                raise TypeError(
                    f"tensors of {value.dtype}: expected torch>=2.3, found {torch.__version__}"
                ) from error
        case np.ndarray():
            return to_torch(value.tolist())
        case np.generic() if value.dtype.kind in _KINDS:
            return to_torch(np.asarray(value))
    return value
