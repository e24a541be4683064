"""
A part of a subset as a subset of its own, a valid one.

Its partitions are those of the source, file by file, or have fewer rows; its catalogue is made of
the source's rows. It says of which snapshot it is a part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from astropile.download.selection import open_origin
from astropile.errors import FormatError
from astropile.hats import write_hats
from astropile.hats_remote import read_sky
from astropile.healpix import ang2pix
from astropile.inventory import LISTS
from astropile.layout import CATALOG_DIR
from astropile.manifest import Root
from astropile.names import HEALPIX_29, ROW_COLUMN, SHARD_COLUMN
from astropile.publish import publish_bytes
from astropile.regions import ranges_of
from astropile.store.protocol import RemotePath, is_url
from astropile.subset import Assembly, Pattern


def assemble_part(
    origin: RemotePath,
    root: Root,
    store: Path,
    made: Path,
    numbers: Sequence[int],
    said: Mapping[str, Any],
) -> None:
    """
    Make a subset of some partitions of another.

    Parameters
    ----------
    origin : RemotePath
        The subset they are of.
    root : Root
        What that says of itself.
    store : Path
        Where the partitions lie, as they are at their source.
    made : Path
        Folder of the subset, which is made.
    numbers : sequence of int
        Which partitions.
    said : mapping
        What was chosen, as JSON values.

    Raises
    ------
    FormatError
        If the catalogue does not fit the partitions.
    """
    pattern = Pattern(root.survey, root.subset, root.order, root.layout)
    partitions = [root.partitions[number] for number in numbers]
    assembly = Assembly(made, pattern)
    for partition in partitions:
        assembly.adopt(store, partition.ipix)
    catalog = open_origin(origin, root)
    pixels = np.array([partition.ipix for partition in partitions], np.int64)
    _, table = read_sky(
        origin / CATALOG_DIR,
        ranges_of(pixels, root.order),
        [*catalog.light_columns, SHARD_COLUMN, ROW_COLUMN],
    )
    counts = np.array([n for partition in partitions for n in partition.n_objects])
    write_catalogue(made, pattern, table, counts, np.repeat(pixels, _shards(partitions)))
    finish_part(assembly, root, origin, said)


def _shards(partitions: Sequence[Any]) -> list[int]:
    return [len(partition.n_objects) for partition in partitions]


def write_catalogue(
    made: Path,
    pattern: Pattern,
    table: pa.Table,
    counts: NDArray[np.int64],
    pixels: NDArray[np.int64],
) -> None:
    """
    Write the catalogue of a part.

    Parameters
    ----------
    made : Path
        Folder of the subset.
    pattern : Pattern
        Its survey, name and order.
    table : pyarrow.Table
        Common and light columns of its objects, in order.
    counts : ndarray, shape (n_shards,), int64
        Objects of each shard.
    pixels : ndarray, shape (n_shards,), int64
        The partition of each shard.

    Raises
    ------
    FormatError
        If the rows are not those of the shards.
    """
    where = f"{made.name}/{CATALOG_DIR}"
    healpix = np.asarray(table["healpix"])
    if len(table) != counts.sum() or not np.array_equal(healpix, np.repeat(pixels, counts)):
        raise FormatError(where, f"{counts.sum()} rows, those of the partitions", "others")
    first = np.concatenate(([True], pixels[1:] != pixels[:-1]))
    place = np.arange(len(pixels))
    index = place - np.maximum.accumulate(np.where(first, place, 0)) + 1
    starts = np.cumsum(counts) - counts
    values: dict[str, Any] = {
        HEALPIX_29: ang2pix(table["ra"].to_numpy(), table["dec"].to_numpy(), 29)
    }
    values.update({n: table[n] for n in table.column_names if n not in (SHARD_COLUMN, ROW_COLUMN)})
    values[SHARD_COLUMN] = np.repeat(index, counts).astype(np.int32)
    values[ROW_COLUMN] = np.arange(len(table)) - np.repeat(starts, counts)
    whole = pa.table(values)
    write_hats(
        made / CATALOG_DIR,
        f"{pattern.survey.name}_{pattern.subset}",
        np.asarray(values[HEALPIX_29]),
        pattern.order,
        lambda begin, end: whole.slice(begin, end - begin),
    )


def finish_part(
    assembly: Assembly, root: Root, origin: RemotePath, said: Mapping[str, Any]
) -> None:
    """
    Write what a part says of itself.

    Parameters
    ----------
    assembly : Assembly
        Its partitions, taken over, and its catalogue.
    root : Root
        What the subset says of itself that it is a part of.
    origin : RemotePath
        Where that is.
    said : mapping
        What was chosen, as JSON values.
    """
    for name in LISTS:
        # The native files, and what was not taken of them, are those of the source.
        publish_bytes(assembly.tree / name, b"")
    # Where a folder of this machine was is nobody else's concern.
    place = {"from": str(origin)} if is_url(str(origin)) else {}
    part = {"of": root.snapshot, **place, **said}
    assembly.finish(parent=root.snapshot, built={**root.built, "part": part})
