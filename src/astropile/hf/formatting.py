"""
The formats ``"astropile"``, ``"astropile-torch"`` and ``"astropile-jax"``: dtypes are kept.

``datasets``' own "numpy" and "torch" formats cast float64 to float32 (right ascensions off by
up to 55 milliarcseconds), widen integers and turn missing numbers into NaN. This one gives
what is stored: arrays of the stored dtype (read-only: they may lie in Arrow's memory or in a mapped
file), records as dicts, lists of records as lists of dicts, missing values as None. The others give
the same with tensors or JAX arrays in place of numpy's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
from datasets.formatting.formatting import Formatter
from numpy.typing import NDArray

from astropile.arrow import to_numpy
from astropile.hf.values import Values, columns_of


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

    def format_row(self, pa_table: pa.Table | Values) -> dict[str, Any]:
        """
        Give the first row.

        Parameters
        ----------
        pa_table : pyarrow.Table or Values
            The rows.

        Returns
        -------
        dict
            Column name to value.
        """
        return {name: values[0] for name, values in columns_of(pa_table).items()}

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

    def format_batch(self, pa_table: pa.Table | Values) -> dict[str, Any]:
        """
        Give all columns.

        Parameters
        ----------
        pa_table : pyarrow.Table or Values
            The rows.

        Returns
        -------
        dict
            Column name to values.
        """
        return columns_of(pa_table)


class _TensorFormatter(AstroPileFormatter):
    """The same rows, columns and batches with a framework's arrays instead of numpy's."""

    def _convert(self, value: Any) -> Any:
        raise NotImplementedError

    def format_row(self, pa_table: pa.Table | Values) -> dict[str, Any]:
        """Give the first row."""
        return {name: self._convert(value) for name, value in super().format_row(pa_table).items()}

    def format_column(self, pa_table: pa.Table) -> Any:
        """Give the first column."""
        return self._convert(_stacked(super().format_column(pa_table)))

    def format_batch(self, pa_table: pa.Table | Values) -> dict[str, Any]:
        """Give all columns."""
        batch = super().format_batch(pa_table)
        return {name: self._convert(_stacked(values)) for name, values in batch.items()}


class TorchFormatter(_TensorFormatter):
    """
    Values with tensors of the stored dtype instead of arrays.

    One number is a tensor of no dimension; what differs in shape from row to row a list of
    tensors; text stays str, what is missing None.
    """

    def _convert(self, value: Any) -> Any:
        return to_torch(value)


class JaxFormatter(_TensorFormatter):
    """
    Values with JAX arrays of the stored dtype instead of numpy's.

    As the one for PyTorch, but for numbers of 64 bits: where ``jax_enable_x64`` is off, JAX has
    none, and they stay numpy arrays.
    """

    def _convert(self, value: Any) -> Any:
        return to_jax(value)


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


def _converted(value: Any, convert: Callable[[NDArray[Any]], Any]) -> Any:
    """Convert the arrays and numbers in a value; text becomes str and lists of str."""
    match value:
        case dict():
            return {name: _converted(inner, convert) for name, inner in value.items()}
        case list():
            return [_converted(inner, convert) for inner in value]
        case np.ndarray() if value.dtype.kind in _KINDS:
            # Of its own memory: what may not be written to is Arrow's, or another field's.
            kind = value.dtype.newbyteorder("=")
            if value.flags.writeable and value.flags.c_contiguous and value.dtype == kind:
                return convert(value)
            return convert(np.array(value, kind, order="C"))
        case np.ndarray():
            return _converted(value.tolist(), convert)
        case np.generic() if value.dtype.kind in _KINDS:
            return _converted(np.asarray(value), convert)
    return value


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

    def convert(values: NDArray[Any]) -> Any:
        try:
            return torch.from_numpy(values)
        except TypeError as error:
            raise TypeError(
                f"tensors of {values.dtype}: expected torch>=2.3, found {torch.__version__}"
            ) from error

    return _converted(value, convert)


def to_jax(value: Any) -> Any:
    """
    Give what `to_numpy` gives with JAX arrays in it.

    Parameters
    ----------
    value : object
        Arrays, numbers, text, None, and dicts and lists of these.

    Returns
    -------
    object
        The same with a JAX array for each array and number, of its dtype. Numbers of 64 bits
        stay numpy arrays where ``jax_enable_x64`` is off: JAX would cut them to 32. Arrays of
        text are lists of str.
    """
    import jax

    has_64_bits = jax.dtypes.canonicalize_dtype("float64") == np.float64

    def convert(values: NDArray[Any]) -> Any:
        is_wide = values.dtype.itemsize > (8 if values.dtype.kind == "c" else 4)
        return values if is_wide and not has_64_bits else jax.numpy.array(values)

    return _converted(value, convert)
