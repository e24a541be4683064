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
from astropile.publish import publish_bytes, sync_folder

CATALOG_FILES: Final = ("catalog.parquet", "catalog.ecsv")
DATASET_DIR: Final = "dataset"
TABLE_FORMATS: Final = {
    ".parquet": "parquet",
    ".csv": "ascii.csv",
    ".ecsv": "ascii.ecsv",
    ".fits": "fits",
    ".vot": "votable",
}
"""What astropy calls the formats that a suffix names."""


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
    final = Path(folder).expanduser()
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
            _replace(aside, final)
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
        table.write(str(aside), format=name)
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


def _replace(aside: Path, final: Path) -> None:
    """Rename; what is replaced steps aside first, and comes back if that fails."""
    replaced = final.with_name(f".{final.name}.replaced")
    shutil.rmtree(replaced, ignore_errors=True)
    if final.exists():
        final.rename(replaced)
    try:
        aside.rename(final)
    except OSError:
        if replaced.exists():
            replaced.rename(final)
        raise
    sync_folder(final.parent)
    shutil.rmtree(replaced, ignore_errors=True)
