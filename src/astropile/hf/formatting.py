"""
The format ``"astropile"``: numpy values that keep their dtype.

``datasets``' own "numpy" and "torch" formats cast float64 to float32 (right ascensions off by
up to 55 milliarcseconds), widen integers and turn missing numbers into NaN. This one gives
what is stored: arrays of the stored dtype over Arrow's memory (read-only), records as dicts,
lists of records as lists of dicts, missing values as None.
"""

from __future__ import annotations

from typing import Any

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
