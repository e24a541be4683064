"""Which part of a subset a download is of."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from astropile.errors import DownloadError
from astropile.manifest import Root
from astropile.regions import Region, pixel_ranges, ranges_of
from astropile.store.protocol import RemotePath

_MAX_IDS_NBYTES: Final = 2**30


@dataclass(frozen=True, kw_only=True)
class Selection:
    """
    A part of a subset; what is given must all hold.

    Parameters
    ----------
    region : Region, optional
        A `Cone`, `Box` or `Polygon` of `astropile.regions`.
    moc : mocpy.MOC or path, optional
        A coverage map, or a file of one.
    pixels : sequence of int, optional
        Partitions, by their pixels.
    ids : sequence of str, optional
        Values of `object_id` or `observation_id`, as text.
    columns : sequence of str, optional
        Native or standard names; identifiers and positions always come along.
    only_rows : bool
        Only the objects, not the whole partitions that they lie in.
    """

    region: Region | None = None
    moc: Any = None
    pixels: Sequence[int] | None = None
    ids: Sequence[str] | None = None
    columns: Sequence[str] | None = None
    only_rows: bool = False

    @property
    def makes_rows(self) -> bool:
        """Whether objects are written anew rather than files fetched as they are."""
        return self.only_rows or self.columns is not None

    @property
    def is_all(self) -> bool:
        """Whether every object is chosen."""
        return self.region is None and self.moc is None and self.pixels is None and self.ids is None

    @property
    def is_whole(self) -> bool:
        """Whether it is the subset itself, every file of it."""
        return self.is_all and not self.makes_rows

    def ranges(self, order: int) -> list[NDArray[np.int64]]:
        """
        Give what is chosen of the sky, as pixels of order 29.

        Parameters
        ----------
        order : int
            The order of `pixels`.

        Returns
        -------
        list of ndarray, shape (n, 2), int64
            Ranges that hold all of each thing that was given; an object must be in all of them.
        """
        from astropile.select import _moc_ranges as moc_ranges

        found = []
        if self.region is not None:
            found.append(pixel_ranges(self.region))
        if self.moc is not None:
            found.append(moc_ranges(self.moc))
        if self.pixels is not None:
            found.append(ranges_of(np.array(sorted(set(self.pixels)), np.int64), order))
        return found

    def describe(self) -> dict[str, Any]:
        """
        Say what is chosen, as the tree that is made of it will.

        Returns
        -------
        dict
            JSON values.
        """
        said: dict[str, Any] = {}
        if self.region is not None:
            said["region"] = repr(self.region)
        if self.moc is not None:
            said["moc"] = str(self.moc) if isinstance(self.moc, str | os.PathLike) else "a map"
        if self.pixels is not None:
            said["pixels"] = [int(pixel) for pixel in self.pixels]
        if self.ids is not None:
            said["n_ids"] = len(self.ids)
        if self.columns is not None:
            said["columns"] = list(self.columns)
        said["whole_partitions"] = not self.makes_rows
        return said


def read_ids(path: Path) -> list[str]:
    """
    Read identifiers from a text file, one in a line.

    Parameters
    ----------
    path : Path
        The file; empty lines and those that start with ``#`` are left out.

    Returns
    -------
    list of str
        The identifiers.

    Raises
    ------
    DownloadError
        If there is none, or the file is no text.
    OSError
        If it cannot be read.
    """
    with path.open("rb") as file:
        content = file.read(_MAX_IDS_NBYTES + 1)
    try:
        lines = [line.strip() for line in content.decode("utf-8").splitlines()]
    except UnicodeDecodeError as error:
        raise DownloadError(str(path), "identifiers are text, one in a line") from error
    ids = [line for line in lines if line and not line.startswith("#")]
    if not ids or len(content) > _MAX_IDS_NBYTES:
        raise DownloadError(str(path), "no identifiers, or more than 1 GiB of them")
    return ids


def chosen_partitions(origin: RemotePath, root: Root, chosen: Selection) -> list[int] | None:
    """
    Say which partitions hold what is chosen.

    Parameters
    ----------
    origin : RemotePath
        The subset.
    root : Root
        What it says of itself.
    chosen : Selection
        What is chosen.

    Returns
    -------
    list of int or None
        Their numbers, from 0; None for all of them.

    Raises
    ------
    DownloadError
        If there is none.
    """
    if chosen.is_all:
        return None
    pixels = np.array([partition.ipix for partition in root.partitions], np.int64)
    inside = np.ones(len(pixels), bool)
    if chosen.pixels is not None:
        _known_pixels(root, chosen.pixels)
    for ranges in chosen.ranges(root.order):
        shift = 2 * (29 - root.order)
        inside &= overlapping(ranges, pixels << shift, (pixels + 1) << shift)
    if chosen.ids is not None:
        catalog = open_origin(origin, root)
        starts = np.cumsum([0, *(sum(p.n_objects) for p in root.partitions)])
        rows = rows_of_ids(catalog, chosen.ids)
        holds = np.searchsorted(starts, rows, side="right") - 1
        inside &= np.isin(np.arange(len(pixels)), holds)
    numbers: list[int] = np.flatnonzero(inside).tolist()
    if not numbers:
        raise DownloadError(str(origin), "no partition of it holds anything of what is chosen")
    return numbers


def chosen_rows(catalog: Any, root: Root, chosen: Selection) -> NDArray[np.int64]:
    """
    Say which rows are chosen.

    Parameters
    ----------
    catalog : Catalog
        The subset, open.
    root : Root
        What it says of itself.
    chosen : Selection
        What is chosen.

    Returns
    -------
    ndarray, shape (n,), int64
        Row numbers, sorted.

    Raises
    ------
    DownloadError
        If there is none.
    """
    rows = np.arange(len(catalog), dtype=np.int64)
    parts = []
    if chosen.region is not None:
        parts.append(catalog.within(chosen.region))
    if chosen.moc is not None:
        parts.append(catalog.moc(chosen.moc))
    if chosen.pixels is not None:
        parts.append(catalog.pixels(root.order, _known_pixels(root, chosen.pixels)))
    if chosen.ids is not None:
        parts.append(rows_of_ids(catalog, chosen.ids))
    for part in parts:
        rows = np.intersect1d(rows, part)
    if not len(rows):
        raise DownloadError(str(catalog.path), "no object of it is chosen")
    return rows


def rows_of_ids(catalog: Any, ids: Sequence[str]) -> NDArray[np.int64]:
    """
    Find objects by their identifiers.

    Parameters
    ----------
    catalog : Catalog
        The subset, open.
    ids : sequence of str
        Values of `object_id` or `observation_id`, as text.

    Returns
    -------
    ndarray, shape (n,), int64
        Row numbers, sorted.

    Raises
    ------
    DownloadError
        If one is not there.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    wanted = pa.array(dict.fromkeys(ids), pa.string())
    table = catalog.light(["object_id", "observation_id"])
    found = np.zeros(len(table), bool)
    known = np.zeros(len(wanted), bool)
    for name in table.column_names:
        values = pc.cast(table[name], pa.string()).combine_chunks()
        found |= pc.is_in(values, value_set=wanted).to_numpy(zero_copy_only=False)
        known |= pc.is_in(wanted, value_set=values).to_numpy(zero_copy_only=False)
    if not known.all():
        missing = wanted.filter(pa.array(~known)).to_pylist()
        said = f"{len(missing)} of {len(wanted)} identifiers are not in it, first {missing[0]!r}"
        raise DownloadError(str(catalog.path), said)
    return np.flatnonzero(found).astype(np.int64)


def open_origin(origin: RemotePath, root: Root, *, verify: bool = False) -> Any:
    """
    Open the subset that a download is of.

    Parameters
    ----------
    origin : RemotePath
        The subset.
    root : Root
        What it said of itself.
    verify : bool
        Compare every block that is read with the manifests.

    Returns
    -------
    RemoteCatalog
        It.

    Raises
    ------
    DownloadError
        If it is another snapshot by now.
    """
    from astropile.catalog import open_catalog

    catalog = open_catalog(origin, verify=verify)
    if catalog.snapshot != root.snapshot:
        raise DownloadError(str(origin), "it was replaced meanwhile; begin again")
    return catalog


def _known_pixels(root: Root, pixels: Sequence[int]) -> NDArray[np.int64]:
    known = {partition.ipix for partition in root.partitions}
    unknown = sorted(set(map(int, pixels)) - known)
    if unknown:
        said = f"it has no partition {unknown[0]}; it has {len(known)} of order {root.order}"
        raise DownloadError(root.subset, said)
    return np.array(sorted(set(pixels)), np.int64)


def overlapping(
    ranges: NDArray[np.int64], first: NDArray[np.int64], last: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """
    Tell which spans of pixels meet one of some ranges.

    Parameters
    ----------
    ranges : ndarray, shape (n, 2), int64
        First pixel, and last pixel + 1, of each; sorted and apart.
    first, last : ndarray, shape (m,), int64
        The spans, `last` not included.

    Returns
    -------
    ndarray, shape (m,), bool
        Whether each does.
    """
    after = np.searchsorted(ranges[:, 1], first, side="right")
    some = after < len(ranges)
    inside = np.zeros(len(first), bool)
    inside[some] = ranges[after[some], 0] < last[some]
    return inside
