"""Help for those who write a survey: read native files and check them, without a tree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from astropile.batch import check_batch
from astropile.schema import Ragged, Rejected, Survey


def read_all(survey: Survey, native_path: Path) -> tuple[dict[str, Any], list[Rejected]]:
    """
    Read every unit of a survey's native files, checked against its columns.

    Parameters
    ----------
    survey : Survey
        The survey.
    native_path : Path
        Folder of native files.

    Returns
    -------
    columns : dict of str to ndarray or list of ndarray
        Every declared column, all objects; a ragged one as a list.
    rejected : list of Rejected
        What `read` rejected.

    Raises
    ------
    SchemaError
        If a batch is not what the survey declares.
    """
    sizes: dict[str, int] = {}
    batches: list[dict[str, Any]] = []
    rejected: list[Rejected] = []
    for unit in survey.units(native_path):
        for item in survey.read(unit):
            if isinstance(item, Rejected):
                rejected.append(item)
            else:
                batches.append(check_batch(survey, item, sizes, unit.key))
    columns: dict[str, Any] = {}
    for column in survey.columns:
        parts = [batch[column.name] for batch in batches]
        if not parts:
            columns[column.name] = []
        elif column.shared:
            columns[column.name] = parts[0]
            for part in parts[1:]:
                np.testing.assert_array_equal(part, parts[0], err_msg=column.name)
        elif isinstance(parts[0], Ragged):
            columns[column.name] = [value for part in parts for value in part]
        else:
            columns[column.name] = np.concatenate(parts)
    return columns, rejected
