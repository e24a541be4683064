"""Match catalogs and tables: two sides in, row numbers and separations out."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from astropile.catalog import Catalog
from astropile.errors import MatchError
from astropile.layout import CATALOG_DIR
from astropile.match.inputs import SkyTable, as_positions, open_side
from astropile.match.motion import MovingPairs, match_moving
from astropile.match.partitions import MEMORY_BYTES, PairsFile, Stop, match_files
from astropile.match.positions import Find, Pairs, match_positions
from astropile.match.sources import HatsFolder, hats_folder, mirror_positions
from astropile.publish import local_path
from astropile.remote import RemoteCatalog

FEWER: Final = 4
"""With so many times fewer objects on the other side, only their surroundings are read."""

BYTES_PER_OBJECT: Final = 200
"""What matching whole catalogs in memory takes, about."""

Positions: TypeAlias = tuple[NDArray[np.float64], NDArray[np.float64]]


def cross_match(
    left: Any,
    right: Any,
    *,
    radius_arcsec: float,
    find: Find = "nearest",
    n_neighbors: int = 1,
    min_radius_arcsec: float = 0.0,
    exclude_self: bool = False,
    left_epoch: float | str | None = None,
    right_epoch: float | str | None = None,
    memory_bytes: int = MEMORY_BYTES,
    executor: Any = None,
    work_dir: str | os.PathLike[str] | None = None,
    progress: bool = False,
    stop: Stop | None = None,
) -> Pairs:
    """
    Find which objects of two catalogs or tables lie within a radius of each other.

    Parameters
    ----------
    left, right : Catalog, table or path
        Trees, of any orders, or whatever `as_positions` takes: tables of any library, files,
        HATS catalogues, matches.
    radius_arcsec : float
        Largest accepted separation [arcsec], inclusive.
    find, n_neighbors, min_radius_arcsec, exclude_self
        As for `match_positions`.
    left_epoch, right_epoch : float or str, optional
        When each side's positions hold [Julian year], or the column that says so for each row;
        see `SkyTable.moving`. Where both are given, objects are matched where they were seen:
        see `match_moving`.
    memory_bytes : int
        Memory for the work. Local trees and HATS catalogues that need more are matched a part
        of the sky at a time; the result is the same. Tables in memory, and files other than
        those, are matched whole, whatever it is.
    executor : Executor or dask.distributed.Client, optional
        Who matches the parts: any `concurrent.futures.Executor`, of threads or processes, or
        a Dask client. Each worker may use `memory_bytes`. Of trees and HATS catalogues; the
        positions of a tree behind a URL are fetched first, all of them.
    work_dir : path, optional
        A folder for the pairs of finished parts: a match of parts that was stopped goes on
        from them when it is started again. Of the same.
    progress : bool
        Show a bar, where the work is done in parts.
    stop : object with ``is_set()``, optional
        When it is set, as a `threading.Event`, no more parts are begun.

    Returns
    -------
    Pairs
        Row numbers of both sides, ordered by ``left``, and separations; `MovingPairs` where
        epochs are given.

    Raises
    ------
    MatchError
        If the radius is not one, a side has no positions, or the options do not go together.
    concurrent.futures.CancelledError
        If `stop` was set.

    Notes
    -----
    Positions come from the catalogues beside the data, 16 bytes per object: no shard is
    opened. Of a remote catalog matched with a much smaller one, only the surroundings of the
    smaller one's objects are read. How either is split into partitions and shards plays no part
    in the result.

    Examples
    --------
    >>> from astropile import open_catalog
    >>> hsc, desi = open_catalog("hsc"), open_catalog("desi")  # doctest: +SKIP
    >>> pairs = cross_match(hsc, desi, radius_arcsec=1.0)  # doctest: +SKIP
    >>> spectra = desi.take(pairs.right, ["FLUX"])  # doctest: +SKIP
    """
    options: dict[str, Any] = {
        "radius_arcsec": radius_arcsec,
        "find": find,
        "n_neighbors": n_neighbors,
        "min_radius_arcsec": min_radius_arcsec,
        "exclude_self": exclude_self,
    }
    if left_epoch is not None or right_epoch is not None:
        if exclude_self or executor is not None or work_dir is not None:
            raise MatchError(
                "left_epoch, right_epoch", "no executor, work_dir, exclude_self", "one"
            )
        return _match_moving(left, right, left_epoch, right_epoch, options)
    sides = [hats_folder(side) or open_side(side) for side in (left, right)]
    in_parts = executor is not None or work_dir is not None
    # What has positions at hand, or has to fetch them, is matched as a whole.
    is_local = not any(isinstance(side, SkyTable | RemoteCatalog) for side in sides)
    is_large = BYTES_PER_OBJECT * sum(map(len, sides)) > memory_bytes
    if in_parts or (is_local and is_large):
        work = None if work_dir is None else local_path(work_dir)
        with _folders(sides, work) as folders:
            found = match_files(
                *folders,
                memory_bytes=memory_bytes,
                executor=executor,
                work_dir=work,
                progress=progress,
                stop=stop,
                **options,
            )
        assert isinstance(found, Pairs)
        return found
    left, right = (
        as_positions(side.path) if isinstance(side, HatsFolder) else side for side in sides
    )
    if exclude_self:
        return match_positions(*left.positions(), *right.positions(), **options)
    rows_left, here = _positions(left, right, radius_arcsec)
    rows_right, there = _positions(right, left, radius_arcsec)
    pairs = match_positions(*here, *there, **options)
    return replace(
        pairs,
        left=pairs.left if rows_left is None else rows_left[pairs.left],
        right=pairs.right if rows_right is None else rows_right[pairs.right],
    )


def _match_moving(
    left: Any,
    right: Any,
    left_epoch: float | str | None,
    right_epoch: float | str | None,
    options: dict[str, Any],
) -> MovingPairs:
    here, there = as_positions(left), as_positions(right)
    del options["exclude_self"]
    return match_moving(here.moving(left_epoch), there.moving(right_epoch), **options)


def save_pairs(
    left: Any,
    right: Any,
    path: str | os.PathLike[str],
    *,
    radius_arcsec: float,
    find: Find = "nearest",
    n_neighbors: int = 1,
    min_radius_arcsec: float = 0.0,
    exclude_self: bool = False,
    memory_bytes: int = MEMORY_BYTES,
    executor: Any = None,
    progress: bool = False,
    stop: Stop | None = None,
) -> PairsFile:
    """
    Find pairs as `cross_match` does, and write them to a file without holding them all.

    Parameters
    ----------
    left, right : Catalog or path
        Trees of any orders, or HATS catalogues on this machine. Of a tree behind a URL the
        positions are fetched first, all of them at once, and kept beside the file till the end.
    path : path
        The Parquet file to make; one of that name is replaced when all is done.
    radius_arcsec, find, n_neighbors, min_radius_arcsec, exclude_self
        As for `match_positions`.
    memory_bytes, executor, progress, stop
        As for `cross_match`.

    Returns
    -------
    PairsFile
        Where they are, and how many.

    Raises
    ------
    MatchError
        If a side is a table in memory, the radius is not one, or the options do not go together.
    concurrent.futures.CancelledError
        If `stop` was set.

    Notes
    -----
    Columns are ``left``, ``right`` (row numbers, int64) and ``separation_arcsec``, ordered
    by ``left``; the file's metadata say what was matched. Finished parts are kept in
    ``.<name>.work`` beside the file, where the same call finds them after a stop.
    """
    final = local_path(path)
    sides = [hats_folder(side) or open_side(side) for side in (left, right)]
    origins = dict(zip(("left", "right"), map(_origin, sides), strict=True))
    scratch = final.with_name(f".{final.name}.positions")
    with _folders(sides, scratch) as folders:
        found = match_files(
            *folders,
            radius_arcsec=radius_arcsec,
            find=find,
            n_neighbors=n_neighbors,
            min_radius_arcsec=min_radius_arcsec,
            exclude_self=exclude_self,
            memory_bytes=memory_bytes,
            executor=executor,
            output=final,
            metadata=origins,
            progress=progress,
            stop=stop,
        )
    shutil.rmtree(scratch, ignore_errors=True)
    assert isinstance(found, PairsFile)
    return found


Disk: TypeAlias = Catalog | SkyTable | HatsFolder


@contextlib.contextmanager
def _folders(sides: Sequence[Disk], folder: Path | None) -> Iterator[list[Path]]:
    """Give the catalogues on disk that are matched in parts; positions of a store are fetched."""
    for which, side in zip(("left", "right"), sides, strict=True):
        if isinstance(side, SkyTable):
            raise MatchError(
                f"the {which} side",
                "a tree or a HATS catalogue, for executor, work_dir and save_pairs match in parts",
                f"{side.name}, a table in memory",
            )
    with contextlib.ExitStack() as stack:
        if folder is None and any(isinstance(side, RemoteCatalog) for side in sides):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="astropile-")))
        found = []
        for side in sides:
            if isinstance(side, HatsFolder):
                found.append(side.path)
            elif isinstance(side, RemoteCatalog):
                assert folder is not None
                found.append(mirror_positions(side, folder))
            else:
                assert isinstance(side, Catalog)
                found.append(side.path / CATALOG_DIR)
        yield found


def _origin(side: Disk) -> dict[str, str]:
    """Say of a side what the file of pairs states."""
    if isinstance(side, Catalog):
        return {**side.survey.provenance, "subset": side.subset, "snapshot": side.snapshot}
    return {"catalogue": side.name}


def _positions(
    catalog: Catalog | SkyTable, other: Catalog | SkyTable, radius_arcsec: float
) -> tuple[NDArray[np.int64] | None, Positions]:
    """Read the positions that may have a counterpart: which rows (None for all), ra and dec."""
    rows = None
    if isinstance(catalog, RemoteCatalog) and len(catalog) > FEWER * len(other):
        rows = catalog.near(*other.positions(), radius_arcsec)
    if rows is None:
        return None, catalog.positions()
    assert isinstance(catalog, Catalog)
    found: dict[str, Any] = catalog.take(rows, ["ra", "dec"])
    return rows, (found["ra"], found["dec"])
