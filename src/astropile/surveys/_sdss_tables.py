"""
Rows of an SDSS table in declared columns.

Releases of one table differ in the width of strings, in how wide an integer is, in whether an
identifier is text, and in which columns they have: never in what a column says.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astropile.schema import Column
from astropile.surveys._fits import FitsFile, strip


def read_columns(
    file: FitsFile,
    key: tuple[int | str, ...],
    columns: Iterable[Column],
    *,
    rows: NDArray[np.int64] | None = None,
    required: Collection[str] = (),
    names: Mapping[str, str] | None = None,
) -> dict[str, NDArray[Any]]:
    """
    Give rows of a table in declared columns.

    Parameters
    ----------
    file : FitsFile
        The file.
    key : tuple of int or str
        HDUs to choose from.
    columns : iterable of Column
        What is wanted: columns of fixed shape.
    rows : ndarray of int64, optional
        Which rows; all by default.
    required : collection of str
        Columns that must be there. Others that are not are blank: 0, NaN or empty.
    names : mapping of str to str, optional
        Name in the file where it is another; empty: not in this file.

    Returns
    -------
    dict of str to ndarray
        Each column, shape ``(n, *shape)``.

    Raises
    ------
    NativeFileError
        If a required column is missing or a value does not fit its column.
    """
    known = {name.upper() for name in file.columns(*key)}
    n_rows = file.hdu(*key).header["NAXIS2"] if rows is None else len(rows)
    result = {}
    for column in columns:
        source = (names or {}).get(column.name, column.name)
        shape = (n_rows, *(size for size in column.shape if isinstance(size, int)))
        if source.upper() in known or column.name in required:
            values = exact(file, column, file.column(key, source, rows))
            if values.size != math.prod(shape):
                raise file.error(f"{column.name} of shape {column.shape}", str(values.shape))
            result[column.name] = values.reshape(shape)
        elif column.dtype.startswith("S"):
            result[column.name] = np.zeros(shape, column.numpy_dtype)
        else:
            blank = np.nan if column.dtype.startswith("float") else 0
            result[column.name] = np.full(shape, blank, column.numpy_dtype)
    return result


def exact(file: FitsFile, column: Column, values: NDArray[Any]) -> NDArray[Any]:
    """
    Give values in their column's dtype.

    Parameters
    ----------
    file : FitsFile
        The file they come from, for the message.
    column : Column
        The column.
    values : ndarray
        Values as the file holds them.

    Returns
    -------
    ndarray
        The same values; strings without the blanks that pad them on either side.

    Raises
    ------
    NativeFileError
        If a value would change.
    """
    declared = column.numpy_dtype
    if declared.kind == "S":
        text = strip(values.astype("S32") if values.dtype.kind in "iu" else values)
        cast = text.astype(declared, copy=False)
        same = bool(np.array_equal(cast, text))
    elif values.dtype.kind in "biuf":
        with np.errstate(invalid="ignore", over="ignore"):
            cast = values.astype(declared, copy=False)
        nan = values.dtype.kind == "f" and declared.kind == "f"
        same = bool(np.array_equal(cast, values, equal_nan=nan))
    else:
        cast, same = values, False
    if not same:
        raise file.error(f"{column.name} as {column.dtype}", str(values.dtype))
    return cast
