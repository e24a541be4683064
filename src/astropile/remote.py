"""
A tree that lies in a store, open for reading: the same catalog, its bytes come over a network.

What a call needs is worked out first, from the row tables; then all of it is asked for at
once, so that a call takes a few round trips however many rows and shards it reads.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from astropile.catalog import MAX_TABLES, Catalog, replaced_tree
from astropile.errors import FormatError, StoreError, TreeNotFoundError
from astropile.hdf5.fetch import RowReader
from astropile.hdf5.needed import needed_ranges
from astropile.hdf5.rows import HEAD_NBYTES, RowTable, load_tables
from astropile.healpix import ang2pix, pixels_in_cone
from astropile.integrity import check_tables
from astropile.layout import (
    CATALOG_DIR,
    MANIFEST_DIR,
    ROOT_FILE,
    ROWS_DIR,
    manifest_file,
    rows_file,
)
from astropile.manifest import Root, parse_manifest, read_root
from astropile.names import COMMON_COLUMNS
from astropile.regions import Region, pixel_ranges, ranges_of
from astropile.remote_shard import Ahead, RemoteShard, place_of
from astropile.schema import Ragged
from astropile.select import _moc_ranges as moc_ranges
from astropile.shards import CatalogShard
from astropile.store.memory import new_array
from astropile.store.protocol import (
    RemoteOptions,
    RemotePath,
    Wanted,
    plan_fetch,
    tree_path,
)
from astropile.store.ranges import merge_ranges
from astropile.taking import arrange, asked, check_out

HASHED_NBYTES: Final = 256 * 2**20
"""About how much is in memory at once just because the blocks of what is read are hashed."""

MAX_CONES: Final = 10_000
"""The surroundings of so many positions are looked up one by one; of more, all is read."""

_GROUP_ROWS: Final = 65536
_ROW_TABLE_NBYTES: Final = 64
"""About what the row table takes for one row, and its position."""

_SHARD_NBYTES: Final = 131072
"""About what it takes to look into a shard at all."""


class RemoteCatalog(Catalog):
    """
    One subset of a tree in a store, open for reading.

    Used like any `Catalog`. What was read of an object is of one version: if it is replaced
    while the catalog is open, reading it raises `StoreError`.

    Parameters
    ----------
    path : RemotePath
        Folder of the subset.
    root : Root
        What the subset says of itself.
    verify : bool
        Whether what is read of a shard is compared with its manifest.
    """

    path: RemotePath  # type: ignore[assignment]  # used like the Path of other catalogs

    def __init__(self, path: RemotePath, root: Root, *, verify: bool = False) -> None:
        super().__init__(path, root, verify=verify)  # type: ignore[arg-type]
        self._heads: set[str] = set()
        self._ahead = Ahead()
        self._root_check: _RootCheck | None = None
        self._is_replaced = False

    def __setstate__(self, state: dict[str, Any]) -> None:
        RemoteCatalog.__init__(self, **state)

    # -- the catalogue

    def _read_light(self, names: list[str]) -> pa.Table:
        from astropile.hats_remote import read_columns

        return read_columns(self.path / CATALOG_DIR, names, self.snapshot)

    def _relation(self, schema: pa.Schema) -> pa.Table:
        from astropile.hats_remote import read_columns

        table = read_columns(self.path / CATALOG_DIR, schema.names, self.snapshot)
        self._check_root()
        return table

    def within(self, region: Region) -> NDArray[np.int64]:
        """
        Choose the objects in a region.

        Parameters
        ----------
        region : Region
            A `Cone`, `Box`, `Polygon` or anything like them of `astropile.regions`.

        Returns
        -------
        ndarray, shape (n,), int64
            Row numbers, sorted.
        """
        rows, found = self._in_ranges(pixel_ranges(region), ("ra", "dec"))
        return rows[region.contains(found["ra"], found["dec"])] if len(rows) else rows

    def pixels(self, order: int, ipix: ArrayLike) -> NDArray[np.int64]:
        """
        Choose the objects in HEALPix pixels.

        Parameters
        ----------
        order : int
            HEALPix order of the pixels, 0 to 29.
        ipix : int or array_like of int
            Pixel numbers, NESTED.

        Returns
        -------
        ndarray, shape (n,), int64
            Row numbers, sorted.
        """
        return self._in_ranges(ranges_of(ipix, order))[0]

    def moc(self, moc: Any) -> NDArray[np.int64]:
        """
        Choose the objects in a multi-order coverage map.

        Parameters
        ----------
        moc : mocpy.MOC or path
            The map, or a file of one.

        Returns
        -------
        ndarray, shape (n,), int64
            Row numbers, sorted.
        """
        return self._in_ranges(moc_ranges(moc))[0]

    def near(
        self, ra: NDArray[np.float64], dec: NDArray[np.float64], radius_arcsec: float
    ) -> NDArray[np.int64] | None:
        """
        Choose the partitions that lie within an angle of positions.

        Parameters
        ----------
        ra, dec : ndarray, shape (n,), float64
            The positions [deg, ICRS].
        radius_arcsec : float
            The angle [arcsec].

        Returns
        -------
        ndarray, shape (m,), int64, or None
            The rows of those partitions, sorted: a superset of the objects within the angle.
            None where it pays to read the positions of all objects instead.
        """
        some = np.isfinite(ra) & np.isfinite(dec) & (np.abs(dec) <= 90)
        if some.sum() > MAX_CONES:
            return None
        cones = [
            pixels_in_cone(one_ra, one_dec, radius_arcsec, self.order)
            for one_ra, one_dec in zip(ra[some].tolist(), dec[some].tolist(), strict=True)
        ]
        pixels = np.unique(np.concatenate([np.empty(0, np.int64), *cones]))
        return self._partition_rows(pixels)

    def _partition_rows(self, pixels: NDArray[np.int64]) -> NDArray[np.int64] | None:
        """Give all rows of partitions, unless the catalogue gives theirs for fewer bytes."""
        known = np.array([partition.ipix for partition in self.root.partitions], np.int64)
        chosen = set(known[np.isin(known, pixels)].tolist())
        shards = [shard for shard in self.shards if shard.ipix in chosen]
        n_rows = sum(shard.n_objects for shard in shards)
        n_groups = min(len(chosen), -(-len(self) // _GROUP_ROWS))
        from_catalogue = 20 * min(len(self), n_groups * _GROUP_ROWS)
        if len(shards) * _SHARD_NBYTES + n_rows * _ROW_TABLE_NBYTES > from_catalogue:
            return None
        rows = [np.arange(shard.start, shard.start + shard.n_objects) for shard in shards]
        return np.concatenate([np.empty(0, np.int64), *rows])

    def _in_ranges(
        self, ranges: NDArray[np.int64], columns: Sequence[str] = ()
    ) -> tuple[NDArray[np.int64], Mapping[str, NDArray[Any]]]:
        """Read positions in ranges of pixels, from the catalogue or a few shards."""
        from astropile.hats_remote import read_sky

        shift = 2 * (29 - self.order)
        known = np.array([partition.ipix for partition in self.root.partitions], np.int64)
        after = np.searchsorted(ranges[:, 1], known << shift, side="right")
        inside = after < len(ranges)
        inside[inside] = ranges[after[inside], 0] < (known[inside] + 1) << shift
        rows = self._partition_rows(known[inside])
        if rows is None:
            rows, table = read_sky(self.path / CATALOG_DIR, ranges, columns, self.snapshot)
            self._check_root()
            return rows, {name: table[name].to_numpy() for name in columns}
        if not len(rows):
            return rows, {name: np.empty(0) for name in columns}
        found: dict[str, Any] = self.take(rows, ["ra", "dec"])
        pixels = ang2pix(found["ra"], found["dec"], 29)
        after = np.searchsorted(ranges[:, 1], pixels, side="right")
        kept = after < len(ranges)
        kept[kept] = ranges[after[kept], 0] <= pixels[kept]
        return rows[kept], {name: found[name][kept] for name in columns}

    # -- rows

    def take(
        self,
        rows: ArrayLike,
        columns: Sequence[str] | None = None,
        *,
        out: Mapping[str, NDArray[Any]] | None = None,
    ) -> dict[str, NDArray[Any] | Ragged]:
        """
        Read columns of chosen rows, as the survey published them.

        Parameters
        ----------
        rows : array_like of int or bool
            Row numbers in any order, repeated or not, or one boolean per object.
        columns : sequence of str, optional
            Native or common columns; by default all native ones.
        out : mapping of str to ndarray, optional
            As for `Catalog.take`.

        Returns
        -------
        dict of str to ndarray or Ragged
            The values, in the order of `rows`. A shared column: its one value.

        Raises
        ------
        UnknownColumnError
            If a column is not there.
        IndexError
            If a row is not there.
        FormatError
            If a file breaks the format, or is not the one its row table describes.
        StoreError
            If the store fails, or an object was replaced while the catalog was open.

        Notes
        -----
        The row tables of the partitions are fetched side by side, then the bytes of all rows
        are. The result and the bytes it is made from are in memory at once.
        """
        names = self._names(columns)
        chosen = self.check_rows(rows)
        parts = self._parts(chosen, names) if self.verify else [chosen]
        if len(parts) == 1:
            return self._take(chosen, names, out)
        return self._take_parts(parts, names, out)

    def _take(
        self, rows: NDArray[np.int64], names: list[str], out: Mapping[str, NDArray[Any]] | None
    ) -> dict[str, NDArray[Any] | Ragged]:
        try:
            with self._fetching(rows, names):
                return super().take(rows, names, out=out)
        except StoreError as error:
            if not _is_missing(error) or not self._look_for_names():
                raise
        with self._fetching(rows, names):
            return super().take(rows, names, out=out)

    def _parts(self, rows: NDArray[np.int64], names: list[str]) -> list[NDArray[np.int64]]:
        """Split rows so that what is fetched just to be hashed is held a part at a time."""
        which = np.searchsorted(self._starts, rows, side="right") - 1
        numbers = np.unique(which).tolist()
        self._load_tables([self.shards[number].ipix for number in numbers])
        extra = 0
        for number in numbers:
            shard = self.shards[number]
            inside = rows[which == number] - shard.start
            table = self._loaded(shard)
            needed = needed_ranges(self.survey, table, names, inside, str(shard.path))
            pieces = needed.starts, needed.lengths
            blocks = self._blocks(shard, table)
            assert blocks is not None
            extra += merge_ranges(*blocks.widened(*pieces)).n_bytes - merge_ranges(*pieces).n_bytes
        if extra <= HASHED_NBYTES or len(rows) < 2:
            return [rows]
        half = len(rows) // 2
        return [*self._parts(rows[:half], names), *self._parts(rows[half:], names)]

    def _take_parts(
        self,
        parts: Sequence[NDArray[np.int64]],
        names: list[str],
        out: Mapping[str, NDArray[Any]] | None,
    ) -> dict[str, NDArray[Any] | Ragged]:
        """Read rows part by part, into the same arrays."""
        n_rows = sum(map(len, parts))
        fixed = [name for name in names if self._kinds[name] == "fixed"]
        check_out(out, fixed)
        rooms = dict(out or {})
        for name, room in rooms.items():
            if len(room) != n_rows:
                raise ValueError(f"out[{name!r}]: expected {n_rows} rows, found {len(room)}")
        found: list[dict[str, NDArray[Any] | Ragged]] = []
        done = 0
        for rows in parts:
            here = slice(done, done + len(rows))
            mine = {name: room[here] for name, room in rooms.items()}
            found.append(self._take(rows, names, mine))
            for name in fixed:
                values: Any = found[-1].pop(name)
                if name not in rooms:
                    rooms[name] = new_array((n_rows, *values.shape[1:]), values.dtype)
                    rooms[name][here] = values
            done += len(rows)
        whole: dict[str, NDArray[Any] | Ragged] = {**found[0], **rooms}
        for name in names:
            if self._kinds[name] == "ragged":
                whole[name] = arrange([part[name] for part in found], np.arange(n_rows))  # type: ignore[misc]
        return {name: whole[name] for name in names}

    def _look_for_names(self) -> bool:
        """Stop taking names of shards for granted; give False where that was done before."""
        names = self.shards[0].names
        if names.looked:
            return False
        names.looked = True
        # Without the paths that they have found.
        self.__dict__["shards"] = tuple(dataclasses.replace(shard) for shard in self.shards)
        return True

    @contextlib.contextmanager
    def _fetching(self, rows: NDArray[np.int64], names: Sequence[str]) -> Iterator[None]:
        """Ask for all that these rows take; `_open` then finds it on its way."""
        which = np.searchsorted(self._starts, rows, side="right") - 1
        numbers = np.unique(which).tolist() or [0]
        check = self._load_tables([self.shards[number].ipix for number in numbers])
        shared = [name for name in names if name not in COMMON_COLUMNS and self.survey[name].shared]
        own = [name for name in names if name not in shared]
        sources: dict[str, RemoteShard] = {}
        before = self._ahead.sources
        try:
            for position, number in enumerate(numbers):
                shard = self.shards[number]
                inside = rows[which == number] - shard.start
                # The value of a shared column is every shard's: the first is asked.
                wanted = own if position else names
                sources[place_of(shard).key] = self._ask(shard, wanted, inside)
            self._ahead.sources = sources
            if check is None and any(source.asks_head for source in sources.values()):
                check = self._start_root_check()
            yield
            for source in sources.values():
                source.finish()
            # Another thread may have started it, for tables that were used here.
            self._wait_for(check or self._root_check)
        finally:
            self._ahead.sources = before
            for source in sources.values():
                source.cancel()

    def _ask(
        self, shard: CatalogShard, names: Sequence[str], rows: NDArray[np.int64]
    ) -> RemoteShard:
        path, table = place_of(shard), self._loaded(shard)
        needed = needed_ranges(self.survey, table, names, rows, str(path))
        starts, lengths = needed.starts, needed.lengths
        # Chunks are believed by the checksums that the table has of them. Other bytes are
        # once the file's beginning is that of the file described.
        # So are those of which the manifest has the hashes.
        blocks = self._blocks(shard, table)
        if blocks is not None:
            starts, lengths = blocks.widened(starts, lengths)
        asks_head = not needed.is_checked and path.key not in self._heads and blocks is None
        if asks_head:
            starts = np.append(starts, 0)
            lengths = np.append(lengths, min(HEAD_NBYTES, table.file_size))
        ranges = plan_fetch(starts, lengths, len(rows))
        wanted = Wanted(path.key, *ranges, table.file_size)
        pending = self.path.store.fetch(wanted)
        source = RemoteShard(path, table, self._heads, pending, blocks, asks_head=asks_head)
        source.asked = asked(names, rows)
        return source

    @contextlib.contextmanager
    def _open(self, shard: CatalogShard) -> Iterator[RowReader]:
        path, table = place_of(shard), self._loaded(shard)
        source = self._ahead.sources.get(path.key)
        if source is None:
            self._check_root()
            source = RemoteShard(path, table, self._heads, None, self._blocks(shard, table))
        yield RowReader(source, shard.path, self.survey, table)

    # -- row tables

    def _table(self, shard: CatalogShard) -> RowTable:
        table = self._loaded(shard)
        self._wait_for(self._root_check)
        return table

    def _loaded(self, shard: CatalogShard) -> RowTable:
        """Give the row table of a shard before it is known for that of the tree opened."""
        self._load_tables([shard.ipix])
        return super()._table(shard)

    def _load_tables(self, pixels: Sequence[int]) -> _RootCheck | None:
        """Fetch the row tables of partitions, side by side; give what then has to be awaited."""
        missing = [ipix for ipix in dict.fromkeys(pixels) if ipix not in self._tables]
        if not missing:
            return None
        store = self.path.store
        paths = [self.path / ROWS_DIR / rows_file(ipix) for ipix in missing]
        keys = [path.key for path in paths]
        manifests = self._manifests(missing) if store.has_cache or self.verify else []
        if store.has_cache:
            hashes = [str(manifest["rows"]["sha256"]) for manifest in manifests]
            contents = store.read_many(keys, tag=self.snapshot, sha256=hashes)
        else:
            contents = store.read_many(keys)
        check = self._start_root_check()
        if self._integrity is not None:
            for ipix, path, content, manifest in zip(
                missing, paths, contents, manifests, strict=True
            ):
                self._integrity.learn(ipix, manifest)
                check_tables(path, content, manifest)
        for ipix, path, content in zip(missing, paths, contents, strict=True):
            if content is None:
                raise FormatError(
                    str(path), "row tables, by which a remote tree is read", "no such file"
                )
            self._tables[ipix] = load_tables(content, str(path))
        for ipix in list(self._tables)[: max(0, len(self._tables) - MAX_TABLES)]:
            if ipix not in pixels:
                self._tables.pop(ipix, None)
        return check

    def _start_root_check(self) -> _RootCheck:
        """Start to make sure that the tree is the one that was opened."""
        self._root_check = check = _RootCheck(os.getpid(), self.path.store.start(self._verify_root))
        return check

    def _check_root(self) -> None:
        self._wait_for(self._start_root_check())

    def _wait_for(self, check: _RootCheck | None) -> None:
        """Wait until the tree is known for the one opened; else forget what was read of it."""
        if check is None:
            return
        try:
            if check.process == os.getpid():
                check.job.result()
            else:
                # The thread that should answer belongs to the parent process.
                self._check_root()
        except BaseException:
            self._tables.clear()
            self._heads.clear()
            if self._integrity is not None:
                self._integrity.clear()
            self._root_check = None
            raise

    def _verify_root(self) -> None:
        path = self.path / ROOT_FILE
        try:
            # Once another was met, the store holds to that one.
            if self._is_replaced:
                raise replaced_tree(path)
            if path.store.recheck(path.key):
                return
            same = read_root(self.path).snapshot == self.snapshot
        except StoreError as error:
            if "replaced" not in error.found and not _is_missing(error):
                raise
            same = False
        except TreeNotFoundError:
            same = False
        if not same:
            self._is_replaced = True
            raise replaced_tree(path)

    def _manifests(self, pixels: Sequence[int]) -> list[dict[str, Any]]:
        """Read the manifests of partitions."""
        paths = [self.path / MANIFEST_DIR / manifest_file(ipix) for ipix in pixels]
        contents = self.path.store.read_many([path.key for path in paths], tag=self.snapshot)
        manifests = []
        for path, content in zip(paths, contents, strict=True):
            if content is None:
                raise FormatError(str(path), "the manifest of a partition", "no such file")
            manifests.append(parse_manifest(content, str(path)))
        return manifests


def _is_missing(error: StoreError) -> bool:
    """Tell whether a store has no object of the name asked for."""
    return error.found.startswith(("no such object", "404", "410"))


@dataclasses.dataclass(frozen=True)
class _RootCheck:
    """An answer, on its way in a process: whether the tree is the one that was opened."""

    process: int
    job: Future[None]


def open_remote(
    path: str | os.PathLike[str] | RemotePath,
    subset: str | None = None,
    options: RemoteOptions | None = None,
    *,
    verify: bool = False,
) -> RemoteCatalog:
    """
    Open a subset of a tree in a store.

    Parameters
    ----------
    path : str or RemotePath
        URL of a survey's data folder, or of the folder of a subset.
    subset : str, optional
        Name of the subset. May be left out where `path` is its folder, or where the store can
        list folders and there is only one.
    options : RemoteOptions, optional
        How to reach the store.
    verify : bool
        As for `open_catalog`.

    Returns
    -------
    RemoteCatalog
        The subset.

    Raises
    ------
    TreeNotFoundError
        If there is no tree, not that subset, or several and none was named.
    FormatError
        If `astropile.json` breaks the format.
    StoreError
        If the store fails.
    MissingExtraError
        If the store needs a package that is not installed.
    """
    folder = tree_path(path, options)
    assert isinstance(folder, RemotePath)
    if subset is not None:
        from astropile.layout import check_subset

        with contextlib.suppress(TreeNotFoundError):
            inner = folder / check_subset(subset)
            return RemoteCatalog(inner, read_root(inner), verify=verify)
        with contextlib.suppress(TreeNotFoundError):
            root = read_root(folder)
            if root.subset == subset:
                return RemoteCatalog(folder, root, verify=verify)
        raise TreeNotFoundError(str(folder), f"neither it nor {subset!r} in it has {ROOT_FILE}")
    with contextlib.suppress(TreeNotFoundError):
        return RemoteCatalog(folder, read_root(folder), verify=verify)
    names = folder.store.folders(folder.key)
    if names is None:
        raise TreeNotFoundError(
            str(folder), f"it has no {ROOT_FILE}, and its server lists no folders: name a subset"
        )
    roots: dict[str, Root] = {}
    for name in sorted(names):
        if not name.startswith("."):
            with contextlib.suppress(TreeNotFoundError):
                roots[name] = read_root(folder / name)
    if len(roots) != 1:
        said = f"name one of its subsets: {', '.join(roots)}" if roots else "it has no subset"
        raise TreeNotFoundError(str(folder), said)
    name, root = next(iter(roots.items()))
    return RemoteCatalog(folder / name, root, verify=verify)
