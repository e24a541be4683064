"""
Compare what a survey's `read` gives with what the survey declares.

Here a batch becomes uniform: little-endian arrays of the declared dtype and shape, ragged
columns as `Ragged`. Nothing is converted that would change a value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astropile.errors import SchemaError
from astropile.schema import Batch, Column, Ragged, Survey


def check_batch(
    survey: Survey, batch: Batch, sizes: dict[str, int], where: str
) -> dict[str, NDArray[Any] | Ragged]:
    """
    Check a batch against its survey and make it uniform.

    Parameters
    ----------
    survey : Survey
        The survey that the batch belongs to.
    batch : mapping of str to array
        Native column name to values, as `Survey.read` gives them.
    sizes : dict of str to int
        Lengths of the survey's `tree_dims` met so far; those met first here are added.
    where : str
        The unit of input, for messages.

    Returns
    -------
    dict of str to ndarray or Ragged
        Every declared column. Fixed: shape ``(n, *shape)``. Shared: shape ``shape``.

    Raises
    ------
    SchemaError
        At the first column that is missing, too many, or not of its dtype, shape or length.
    """
    missing = [name for name in survey.column_names if name not in batch]
    if missing:
        raise SchemaError(missing[0], survey[missing[0]].dtype, "no such column", where)
    extra = sorted(set(batch) - set(survey.column_names))
    if extra:
        raise SchemaError(extra[0], "only declared columns", "a column not declared", where)

    checked: dict[str, NDArray[Any] | Ragged] = {}
    n_objects: int | None = None
    ragged_sizes: dict[str, NDArray[np.int64]] = {}
    for column in survey.columns:
        values = batch[column.name]
        if column.shared:
            array = _cast(column, np.asarray(values), where)
            _match_shape(column, array.shape, sizes, where)
            checked[column.name] = array
            continue
        if not hasattr(values, "__len__") or isinstance(values, str | bytes):
            raise SchemaError(
                column.name, "a value for each object", f"one {type(values).__name__}", where
            )
        if n_objects is None:
            n_objects = len(values)
        if len(values) != n_objects:
            raise SchemaError(
                column.name, f"{n_objects} objects as in the batch", f"{len(values)}", where
            )
        ragged = survey.ragged_dims(column)
        if not ragged:
            array = _cast(column, np.asarray(values), where)
            _match_shape(column, array.shape[1:], sizes, where)
            checked[column.name] = array
        else:
            arrays = [_cast(column, np.asarray(value), where) for value in values]
            for array in arrays:
                _match_shape(column, array.shape, sizes, where, ragged)
            _match_ragged(column, arrays, ragged, ragged_sizes, where)
            checked[column.name] = as_ragged(column, arrays, ragged, sizes)
    return checked


def as_ragged(
    column: Column,
    arrays: list[NDArray[Any]],
    ragged: tuple[str, ...],
    sizes: Mapping[str, int],
) -> Ragged:
    """
    Put the values of a ragged column one after another, as they lie on disk.

    Parameters
    ----------
    column : Column
        The column.
    arrays : list of ndarray
        One per object; may be empty.
    ragged : tuple of str
        The column's ragged dimensions.
    sizes : mapping of str to int
        Lengths of the dimensions that are the same throughout the tree.

    Returns
    -------
    Ragged
        Along axis 0 where the one ragged dimension comes first, else flat.
    """
    flat = is_flat(column, ragged)
    if arrays:
        return Ragged.of(arrays, flat=flat)
    # A batch without objects may come before any that tells how long a dimension is.
    rest = () if flat else tuple(_size(size, sizes) for size in column.shape[1:])
    return Ragged(
        np.empty((0, *rest), column.numpy_dtype),
        np.zeros(1, np.int64),
        np.empty((0, len(column.shape)), np.int64),
    )


def is_flat(column: Column, ragged: tuple[str, ...]) -> bool:
    """
    Tell whether a ragged column lies flat on disk.

    Parameters
    ----------
    column : Column
        The column.
    ragged : tuple of str
        Its ragged dimensions.

    Returns
    -------
    bool
        False if its one ragged dimension comes first: then axis 0 of the array is that one.
    """
    return not (len(ragged) == 1 and column.shape[0] == ragged[0])


def _size(size: int | str, sizes: Mapping[str, int]) -> int:
    return size if isinstance(size, int) else sizes.get(size, 0)


def _cast(column: Column, values: NDArray[Any], where: str) -> NDArray[Any]:
    """Give the values in the declared dtype if not one of them changes by it."""
    declared = column.numpy_dtype
    if isinstance(values, np.ma.MaskedArray):
        raise SchemaError(column.name, column.dtype, "a masked array: fill it in `read`", where)
    found = values.dtype
    if found.kind == "U":
        values = np.char.encode(values, "utf-8")
        found = values.dtype
    same = found.kind == declared.kind and (
        found.itemsize <= declared.itemsize if found.kind == "S" else found == declared
    )
    if not same and found.newbyteorder("=") != declared.newbyteorder("="):
        widens = found.kind in "iu" and declared.kind in "iu" and np.can_cast(found, declared)
        if not widens and values.size:
            raise SchemaError(column.name, column.dtype, str(found), where)
    if declared.kind == "S":
        _check_text(column, values, where)
    return np.require(values.astype(declared, copy=False), requirements="C")


def _check_text(column: Column, values: NDArray[Any], where: str) -> None:
    """Refuse bytes that are not UTF-8: nobody could read them back as text."""
    if values.dtype.kind != "S" or not values.size:
        return
    flat = np.ascontiguousarray(values).reshape(-1)
    if not flat.dtype.itemsize or flat.view(np.uint8).max() < 0x80:
        return
    for row, value in enumerate(flat.tolist()):
        try:
            value.decode()
        except UnicodeDecodeError:
            raise SchemaError(
                column.name, "text in UTF-8", f"{value!r} (value {row} of the batch)", where
            ) from None


def _match_shape(
    column: Column,
    found: tuple[int, ...],
    sizes: dict[str, int],
    where: str,
    ragged: tuple[str, ...] = (),
) -> None:
    good = len(found) == len(column.shape)
    for declared, size in zip(column.shape, found, strict=False):
        if isinstance(declared, int):
            good &= declared == size
        elif size == 0 and declared not in ragged:
            good = False
        elif declared not in ragged:
            good &= sizes.setdefault(declared, size) == size
    if not good:
        wanted = tuple(
            sizes.get(size, size) if isinstance(size, str) else size for size in column.shape
        )
        raise SchemaError(column.name, f"shape {wanted} per object", f"shape {found}", where)


def _match_ragged(
    column: Column,
    arrays: list[NDArray[Any]],
    ragged: tuple[str, ...],
    met: dict[str, NDArray[np.int64]],
    where: str,
) -> None:
    """Check that columns which share a ragged dimension agree on its length, object by object."""
    for axis, dim in enumerate(column.shape):
        if dim not in ragged:
            continue
        lengths = np.array([array.shape[axis] for array in arrays], dtype=np.int64)
        differing = np.flatnonzero(met.setdefault(str(dim), lengths) != lengths)
        if differing.size:
            row = int(differing[0])
            raise SchemaError(
                column.name,
                f"{dim} of length {met[str(dim)][row]} as in the columns before it",
                f"{lengths[row]} (row {row} of the batch)",
                where,
            )
