"""
Check what lies beside the data against the data: `docs/format.md`, rules M4 and M5.

The catalogue and its files as HATS wants them, and the schema table of the README.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from astropile.card import schema_rows
from astropile.catalog import Catalog
from astropile.errors import AstroPileError
from astropile.hats import read_hats
from astropile.hdf5.reader import ShardReader
from astropile.healpix import ang2pix
from astropile.layout import CATALOG_DIR, README_FILE
from astropile.names import HEALPIX_29, ROW_COLUMN, SHARD_COLUMN


def check_catalogue(catalog: Catalog, readable: set[int]) -> Iterator[tuple[str, str, str]]:
    """
    Compare the catalogue with what the shards say.

    Parameters
    ----------
    catalog : Catalog
        The subset.
    readable : set of int
        Numbers of the shards that can be read.

    Yields
    ------
    tuple of str
        Rule, place, what is wrong.
    """
    yield from _hats_files(catalog)
    try:
        table = read_hats(catalog.path / CATALOG_DIR, None)
    except (OSError, AstroPileError, ValueError) as error:
        yield "M4", CATALOG_DIR, f"cannot be read: {error}"
        return
    wanted = {*catalog.light_columns, HEALPIX_29, SHARD_COLUMN, ROW_COLUMN}
    if set(table.column_names) != wanted:
        differing = sorted(set(table.column_names) ^ wanted)
        yield "M4", CATALOG_DIR, f"its columns differ in {', '.join(differing)}"
        return
    if len(table) != len(catalog):
        yield "M4", CATALOG_DIR, f"{len(table)} rows for {len(catalog)} objects"
        return
    for number in sorted(readable):
        shard = catalog.shards[number]
        where = f"{shard.path.parent.name}/{shard.path.name}"
        with ShardReader(shard.path, catalog.survey) as reader:
            stored: dict[str, Any] = {}
            every = np.arange(reader.n_objects)
            for name in catalog.light_columns:
                # A column that is missing was found before.
                with contextlib.suppress(AstroPileError):
                    stored[name] = reader.read(name, every)
        stored[ROW_COLUMN] = every
        stored[SHARD_COLUMN] = np.full(len(every), shard.part.index)
        ra, dec = stored["ra"], stored["dec"]
        if np.all((ra >= 0) & (ra < 360) & (np.abs(dec) <= 90)):
            stored[HEALPIX_29] = ang2pix(ra, dec, 29)
        part = table.slice(shard.start, shard.n_objects)
        for name, values in stored.items():
            if not _same(part[name], np.asarray(values)):
                yield "M4", CATALOG_DIR, f"column {name!r} is not that of {where}"


def _same(found: Any, stored: Any) -> bool:
    """Tell whether a column of the catalogue holds what a shard does."""
    try:
        mine = found.to_numpy(zero_copy_only=False)
        if stored.dtype.kind == "S":
            stored, mine = np.char.decode(stored, "utf-8"), mine.astype(str)
        return np.array_equal(mine, stored, equal_nan=stored.dtype.kind == "f")
    except (ValueError, TypeError, NotImplementedError):
        return False


def _hats_files(catalog: Catalog) -> Iterator[tuple[str, str, str]]:
    """Rule M4: what makes a HATS catalogue of the Parquet files."""
    folder = catalog.path / CATALOG_DIR
    for name in ("hats.properties", "properties"):
        path = folder / name
        if not path.is_file():
            yield "M4", f"{CATALOG_DIR}/{name}", "missing"
        elif f"hats_nrows={len(catalog)}".encode() not in path.read_bytes().split():
            yield "M4", f"{CATALOG_DIR}/{name}", f"it does not say hats_nrows={len(catalog)}"
    for name, n_rows in (("_metadata", len(catalog)), ("_common_metadata", 0)):
        path = folder / "dataset" / name
        where = f"{CATALOG_DIR}/dataset/{name}"
        if not path.is_file():
            yield "M4", where, "missing"
            continue
        try:
            found = pq.read_metadata(path).num_rows
        except (OSError, ValueError) as error:
            yield "M4", where, f"cannot be read: {error}"
            continue
        if found != n_rows:
            yield "M4", where, f"it tells of {found} rows, not {n_rows}"


def absolute(catalog: Catalog) -> Path:
    """
    Give the folder of a subset by its name, were it the one that commands run in.

    Parameters
    ----------
    catalog : Catalog
        The subset.

    Returns
    -------
    Path
        Its folder; links keep their names.
    """
    return Path(os.path.abspath(catalog.path))  # noqa: PTH100 - links keep their names


def check_readme(catalog: Catalog) -> Iterator[tuple[str, str, str]]:
    """
    Look for the rows of the schema table; all else may be said in any words.

    Parameters
    ----------
    catalog : Catalog
        The subset.

    Yields
    ------
    tuple of str
        Rule, place, what is wrong.
    """
    readme = absolute(catalog).parent / README_FILE
    try:
        if not readme.is_file():
            raise FileNotFoundError("no such file")
        found = readme.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        yield "M5", README_FILE, f"cannot be read: {error}"
        return
    lines = {line.strip() for line in found.splitlines()}
    columns, names = schema_rows(catalog.survey)
    missing = [line for line in (*columns, *names) if line not in lines]
    if missing:
        told = f"{len(missing)} rows of the schema table of {catalog.subset!r}"
        yield "M5", README_FILE, f"it lacks {told}, first {missing[0]}"
