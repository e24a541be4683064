"""
Save a matched sample: its catalogue and its dataset, whole or not at all.

::

    <folder>/catalog.parquet    one line per pair, with units
    <folder>/catalog.ecsv       the same as text, with what the match was made of
    <folder>/dataset/           the pairs with all their data: `datasets.load_from_disk`
"""

from __future__ import annotations

import fcntl
import io
import json
import os
import shutil
from pathlib import Path
from typing import Any, Final

import numpy as np

from astropile.errors import MatchError
from astropile.match.package import replace_folder
from astropile.publish import local_path, publish_bytes, sync_folder

CATALOG_FILES: Final = ("catalog.parquet", "catalog.ecsv")
DATASET_DIR: Final = "dataset"
TABLE_FORMATS: Final = {
    ".parquet": "parquet",
    ".csv": "ascii.csv",
    ".ecsv": "ascii.ecsv",
    ".fits": "fits",
    ".fit": "fits",
    ".vot": "votable",
    ".xml": "votable",
    ".hdf5": "hdf5",
    ".h5": "hdf5",
}
"""What astropy calls the formats that a suffix names."""

HDF5_NAME: Final = "catalog"
"""Name of the table in an HDF5 file."""


def save_match(matched: Any, folder: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """
    Write a matched sample into a folder, which takes its name when it is whole.

    Parameters
    ----------
    matched : CrossMatch
        What `cross_match_datasets` gave.
    folder : path
        The folder to make.
    overwrite : bool
        Replace one that is there.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    MatchError
        If the folder is there already, or another process is writing it.
    OSError
        If the disk fails; nothing then stands under the final name.
    """
    final = local_path(folder)
    if final.exists() and not overwrite:
        raise MatchError(str(final), "a folder that does not exist", "one that does")
    final.parent.mkdir(parents=True, exist_ok=True)
    aside = final.with_name(f".{final.name}.saving")
    with aside.with_name(f"{aside.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise MatchError(str(final), "nobody else to write it", "another process") from error
        # What a killed process left.
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        try:
            _write(matched, aside)
            replace_folder(aside, final, overwrite=overwrite)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
            Path(lock.name).unlink(missing_ok=True)
    return final


def save_table(table: Any, path: Path, *, overwrite: bool = False) -> None:
    """
    Write the catalogue of a match to one file, in the format that its suffix names.

    Parameters
    ----------
    table : astropy.table.Table
        The catalogue.
    path : Path
        The file to make: its suffix one of `TABLE_FORMATS`.
    overwrite : bool
        Replace one that is there.

    Raises
    ------
    MatchError
        If the suffix is none of those, or the file is there already.
    OSError
        If the disk fails; nothing then stands under the final name.
    """
    name = TABLE_FORMATS.get(path.suffix.lower())
    if name is None:
        raise MatchError(str(path), f"a suffix among {', '.join(TABLE_FORMATS)}", repr(path.suffix))
    if path.exists() and not overwrite:
        raise MatchError(str(path), "a file that does not exist", "one that does")
    if name == "fits":
        table = _for_fits(table)
    aside = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        more = {"path": HDF5_NAME, "serialize_meta": True} if name == "hdf5" else {}
        table.write(str(aside), format=name, **more)
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        aside.rename(path)
    finally:
        aside.unlink(missing_ok=True)
    sync_folder(path.parent)


def _for_fits(table: Any) -> Any:
    """Give what FITS can hold: text in UTF-8, what the match was made of as comments."""
    plain = table.copy()
    for name in plain.colnames:
        column = plain[name]
        if column.dtype.kind == "U":
            plain[name] = np.char.encode(np.ma.filled(column, ""), "utf-8")
        elif column.dtype.kind in "iu" and hasattr(column, "mask"):
            column.fill_value = np.iinfo(column.dtype).min or np.iinfo(column.dtype).max
    plain.meta = {"comments": [f"{key}: {json.dumps(value)}" for key, value in table.meta.items()]}
    return plain


def _write(matched: Any, aside: Path) -> None:
    parquet, ecsv = CATALOG_FILES
    matched.catalog.write(str(aside / parquet), format="parquet")
    text = io.StringIO()
    matched.catalog.write(text, format="ascii.ecsv")
    publish_bytes(aside / ecsv, text.getvalue().encode())
    matched.dataset.save_to_disk(str(aside / DATASET_DIR))
    for path in aside.rglob("*"):
        if path.is_dir():
            sync_folder(path)
        else:
            with path.open("rb") as file:
                os.fsync(file.fileno())
    sync_folder(aside)
