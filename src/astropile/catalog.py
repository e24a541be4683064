"""
A tree, open for reading: which objects it holds, and columns of chosen rows.

A row number is an object's place in the subset: partitions in order of their pixels, shards
and rows in order within.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike, NDArray

from astropile.errors import FormatError, TreeNotFoundError, UnknownColumnError
from astropile.following import Follower, find_snapshot, kept_path, undisturbed
from astropile.hats import read_hats, read_ranges
from astropile.hdf5.fetch import RowReader, Task
from astropile.hdf5.rows import HEAD_NBYTES, RowTable, head_hash, load_tables, table_of
from astropile.integrity import Blocks, CheckedFile, Integrity, check_tables
from astropile.layout import (
    CATALOG_DIR,
    ROOT_FILE,
    ROWS_DIR,
    Shard,
    rows_file,
)
from astropile.manifest import Root, file_state, read_manifest, read_root
from astropile.names import COMMON_COLUMNS
from astropile.outputs import Outputs
from astropile.query import Queries
from astropile.schema import Ragged, Survey
from astropile.select import SkySelections
from astropile.shards import CatalogShard, ShardNames
from astropile.store.local import LocalFile, run_all
from astropile.store.mapped import COPIES_PER_READ, MappedFiles
from astropile.store.protocol import RemoteOptions, RemotePath, TreePath, is_url
from astropile.taking import arrange, asked, check_out, make_rooms

MAX_TABLES: Final = 4096
"""Row tables of so many partitions are kept mapped."""

MAX_OPEN: Final = 64
"""So many shards are open at once while rows are read."""


class Catalog(SkySelections, Queries, Outputs, Follower):
    """
    One subset of a tree, open for reading.

    Nothing is read before it is asked for; no file stays open. Where a new snapshot takes the
    subset's place, the one that was opened is read on from where it is kept.

    Parameters
    ----------
    path : Path
        Folder of the subset.
    root : Root
        What the subset says of itself.
    verify : bool
        Whether what is read of a shard is compared with its manifest.
    memory_map : bool
        Whether rows of a fast tree are copied out of mapped files.
    """

    def __init__(
        self, path: Path, root: Root, *, verify: bool = False, memory_map: bool = False
    ) -> None:
        self.path, self.root, self.verify = path, root, verify
        self.memory_map = memory_map
        self._maps = MappedFiles() if memory_map and root.layout == "fast" else None
        self._integrity = Integrity(str(path)) if verify else None
        self._tables: dict[int, list[RowTable]] = {}
        self._verified: dict[Path, tuple[int, ...]] = {}
        self._root_state = root.state

    def __getstate__(self) -> dict[str, Any]:
        # What was found out on the way is found out again where the copy goes.
        state = {"path": self.path, "root": self.root, "verify": self.verify}
        return {**state, "memory_map": True} if self.memory_map else state

    def __setstate__(self, state: dict[str, Any]) -> None:
        Catalog.__init__(self, **state)

    def __repr__(self) -> str:
        return (
            f"<Catalog {self.survey.name}/{self.subset}: {len(self)} objects, "
            f"{len(self.root.partitions)} partitions of order {self.order}>"
        )

    def __len__(self) -> int:
        return self.root.n_objects

    @property
    def survey(self) -> Survey:
        """The survey, as the tree tells it."""
        return self.root.survey

    @property
    def subset(self) -> str:
        """Name of the subset."""
        return self.root.subset

    @property
    def order(self) -> int:
        """HEALPix order of the partitions."""
        return self.root.order

    @property
    def snapshot(self) -> str:
        """SHA-256 of the subset's content: equal for equal data."""
        return self.root.snapshot

    @cached_property
    def shards(self) -> tuple[CatalogShard, ...]:
        """The files, in order of their rows."""
        found: list[CatalogShard] = []
        names = ShardNames(self.path)
        start = 0
        for partition in self.root.partitions:
            total = len(partition.n_objects)
            for index, n_objects in enumerate(partition.n_objects, 1):
                part = Shard(index, total)
                found.append(CatalogShard(partition.ipix, start, n_objects, part, names))
                start += n_objects
        return tuple(found)

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        return np.array([shard.start for shard in self.shards], np.int64)

    @cached_property
    def _kinds(self) -> dict[str, str]:
        """Whether each column is fixed, shared or ragged."""
        kinds = dict.fromkeys(COMMON_COLUMNS, "fixed")
        for column in self.survey.columns:
            ragged = "ragged" if self.survey.ragged_dims(column) else "fixed"
            kinds[column.name] = "shared" if column.shared else ragged
        return kinds

    @property
    def light_columns(self) -> tuple[str, ...]:
        """Names of the columns that `light` can give."""
        native = [column.name for column in self.survey.columns if column.is_light]
        return tuple(dict.fromkeys((*COMMON_COLUMNS, *native)))

    @undisturbed
    def light(self, columns: Sequence[str] | None = None) -> pa.Table:
        """
        Read light columns (one number or string each) of every object.

        Parameters
        ----------
        columns : sequence of str, optional
            Which; by default all of `light_columns`.

        Returns
        -------
        pyarrow.Table
            One row per object, in order of the row numbers.

        Raises
        ------
        UnknownColumnError
            If a name is not among `light_columns`.
        FormatError
            If the catalogue does not hold as many rows as the subset.
        StoreError
            If the subset is behind a URL and its store fails.
        """
        names = list(self.light_columns if columns is None else columns)
        self._check(names, self.light_columns)
        table = self._read_light(names)
        self._check_root()
        if len(table) != len(self):
            raise FormatError(
                str(self.path / CATALOG_DIR), f"{len(self)} rows as the subset", f"{len(table)}"
            )
        return table.select(names)

    def _read_light(self, names: list[str]) -> pa.Table:
        return read_hats(self.path / CATALOG_DIR, names)

    def _check(self, names: Iterable[str], known: Collection[str]) -> None:
        for name in names:
            if name not in known:
                raise UnknownColumnError(name, f"{self.survey.name}/{self.subset}", tuple(known))

    def _names(self, columns: Sequence[str] | None) -> list[str]:
        """Name the columns to take, each once."""
        if isinstance(columns, str | bytes):
            raise TypeError(f"columns: expected a sequence of names, as [{columns!r}], found one")
        names = list(dict.fromkeys(self.survey.column_names if columns is None else columns))
        self._check(names, self._kinds)
        return names

    def check_rows(self, rows: ArrayLike) -> NDArray[np.int64]:
        """
        Make row numbers of whatever selects rows.

        Parameters
        ----------
        rows : array_like of int or bool
            Row numbers, from the end where negative, or one boolean per object.

        Returns
        -------
        ndarray, shape (n,), int64
            Row numbers.

        Raises
        ------
        IndexError
            If a number is not a row, or there is not one boolean per object.
        TypeError
            If they are neither integers nor booleans.
        ValueError
            If they have more than one dimension.
        """
        try:
            chosen = np.atleast_1d(np.asarray(rows))
        except ValueError as error:
            raise ValueError(f"rows: expected one dimension, found {error}") from error
        if chosen.ndim != 1:
            raise ValueError(f"rows: expected one dimension, found the shape {chosen.shape}")
        if chosen.dtype == bool:
            if chosen.shape != (len(self),):
                raise IndexError(f"{chosen.size} booleans for {len(self)} rows")
            return np.flatnonzero(chosen).astype(np.int64)
        if chosen.size == 0:
            return np.empty(0, np.int64)
        if chosen.dtype.kind not in "iu":
            raise TypeError(f"rows: expected integers or booleans, found {chosen.dtype}")
        bad = (chosen < -len(self)) | (chosen >= len(self))
        if bad.any():
            raise IndexError(f"row {chosen[bad][0]} of {len(self)}")
        whole = chosen.astype(np.int64)
        return np.where(whole < 0, whole + len(self), whole)

    @undisturbed
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
            Where the values of fixed columns go, for those named: writable, C-contiguous, of the
            column's dtype, shape ``(n, *shape)``. Reused memory is read into faster than new.

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
        TypeError
            If `columns` is one string, `rows` no integers or booleans, or `out` has something
            other than arrays.
        ValueError
            If an array of `out` is not as it must be or is of no fixed column that is read, or
            `rows` has more than one dimension.
        FormatError
            If a file is missing, was changed, or breaks the format.
        """
        names = self._names(columns)
        kinds = self._kinds
        check_out(out, [name for name in names if kinds[name] == "fixed"])
        chosen = self.check_rows(rows)
        which = np.searchsorted(self._starts, chosen, side="right") - 1
        shared, ragged, fixed = (
            [name for name in names if kinds[name] == kind]
            for kind in ("shared", "ragged", "fixed")
        )
        found: dict[str, NDArray[Any] | Ragged] = {}
        pieces: dict[str, list[Ragged]] = {name: [] for name in ragged}
        places: list[NDArray[np.int64]] = []
        numbers = np.unique(which).tolist() or [0]
        for first in range(0, len(numbers), MAX_OPEN):
            with contextlib.ExitStack() as opened:
                tasks: list[Task] = []
                n_bytes = 0
                for number in numbers[first : first + MAX_OPEN]:
                    shard = self.shards[number]
                    at = np.flatnonzero(which == number)
                    inside = chosen[at] - shard.start
                    reader = opened.enter_context(self._reading(shard, names, inside))
                    if not places:
                        found.update({name: reader.read_shared(name) for name in shared})
                        found.update(make_rooms(reader, fixed, len(chosen), out))
                    some, size = reader.fixed_tasks(fixed, inside, found, at)  # type: ignore[arg-type]
                    tasks += some
                    n_bytes += size
                    if ragged:
                        at = at[np.argsort(inside, kind="stable")]
                        inside = np.sort(inside)
                        for name in ragged:
                            pieces[name].append(reader.read_ragged(name, inside))
                    places.append(at)
                run_all(tasks, n_bytes if self._maps is None else n_bytes // COPIES_PER_READ)
        for name, parts in pieces.items():
            found[name] = arrange(parts, np.concatenate(places))
        return {name: found[name] for name in names}

    @undisturbed
    def mapped(self, start: int, stop: int, columns: Sequence[str]) -> dict[str, NDArray[Any]]:
        """
        Map columns of consecutive rows into memory, without reading or copying them.

        The files must not be written to while the arrays are in use: trees never are, but what
        else changes a mapped file changes the arrays, and cutting it short ends the process.

        Parameters
        ----------
        start, stop : int
            First row, and one past the last.
        columns : sequence of str
            Native or common columns.

        Returns
        -------
        dict of str to ndarray
            Read-only arrays of those columns that lie in one piece: fixed columns of a fast
            tree, of rows of one shard. The others have to be taken.

        Raises
        ------
        UnknownColumnError
            If a column is not there.
        FormatError
            If a file is missing, was changed, or breaks the format.
        """
        self._check(columns, self._kinds)
        names = [name for name in columns if self._kinds[name] == "fixed"]
        here = self.root.layout == "fast" and isinstance(self.path, Path)
        if not here or not names or not 0 <= start < stop <= len(self):
            return {}
        shard = self.shards[int(np.searchsorted(self._starts, start, side="right")) - 1]
        if stop > shard.start + shard.n_objects:
            return {}
        with self._open(shard) as reader:
            return reader.mapped(names, start - shard.start, stop - shard.start)

    def _table(self, shard: CatalogShard) -> RowTable:
        """Give the row table of a shard: from beside the data, or else from the file itself."""
        tables = self._tables.get(shard.ipix)
        if tables is None:
            tables = self._read_tables(shard.ipix)
            self._check_root()
            self._tables[shard.ipix] = tables
            if len(self._tables) > MAX_TABLES:
                self._tables.pop(next(iter(self._tables)), None)
        index = shard.part.index
        if index > len(tables) or tables[index - 1].n_objects != shard.n_objects:
            raise FormatError(
                str(shard.path),
                f"{shard.n_objects} objects as {ROOT_FILE} says",
                "a row table that says otherwise",
            )
        return tables[index - 1]

    def _read_tables(self, ipix: int) -> list[RowTable]:
        path = self.path / ROWS_DIR / rows_file(ipix)
        if self._integrity is not None:
            manifest = read_manifest(self.path, ipix)
            self._integrity.learn(ipix, manifest)
            check_tables(path, path.read_bytes() if path.is_file() else None, manifest)
        if path.is_file():
            with pa.memory_map(str(path)) as mapped:
                return load_tables(mapped.read_buffer(), str(path))
        return [table_of(other.path) for other in self.shards if other.ipix == ipix]

    def _blocks(self, shard: CatalogShard, table: RowTable) -> Blocks | None:
        """Give the blocks of a shard where they are to be hashed."""
        if self._integrity is None:
            return None
        found = (shard.ipix, shard.part.index, str(shard.path), table.file_size)
        return self._integrity.blocks(*found)

    def follow(self) -> bool:
        """
        Go on where the snapshot that was opened is kept now that another has its place.

        Returns
        -------
        bool
            Whether it is kept elsewhere than before.
        """
        here = isinstance(self.path, Path) and self._root_state
        if here and file_state(self.path / ROOT_FILE) == self._root_state:
            return False
        kept = kept_path(self.path, self.snapshot)
        if kept is None:
            return False
        self.__dict__.pop("shards", None)
        root = replace(self.root, state=())
        Catalog.__init__(self, kept, root, verify=self.verify, memory_map=self.memory_map)
        return True

    @undisturbed
    def ranges(
        self, ranges: NDArray[np.int64], columns: Sequence[str] = ()
    ) -> tuple[NDArray[np.int64], pa.Table]:
        """
        Read the rows whose order-29 pixels lie in ranges, as `astropile.hats.read_ranges` does.

        Parameters
        ----------
        ranges : ndarray, shape (n, 2), int64
            First pixel, and last pixel + 1, of each; sorted and apart.
        columns : sequence of str
            Which columns.

        Returns
        -------
        rows : ndarray, shape (m,), int64
            Row numbers, sorted.
        table : pyarrow.Table
            Those rows.

        Raises
        ------
        FormatError
            If a file is missing or damaged, or the tree was replaced.
        """
        found = read_ranges(self.path / CATALOG_DIR, ranges, columns)
        self._check_root()
        return found

    def _check_root(self) -> None:
        """Make sure that the tree is the one that was opened: after reading something of it."""
        path = self.path / ROOT_FILE
        state = file_state(path)
        if state and state == self._root_state:
            return
        try:
            snapshot = read_root(self.path).snapshot
        except (FormatError, TreeNotFoundError):
            snapshot = ""
        if snapshot != self.snapshot:
            raise replaced_tree(path)
        self._root_state = state

    @contextlib.contextmanager
    def _reading(
        self, shard: CatalogShard, names: Sequence[str], rows: NDArray[np.int64]
    ) -> Iterator[RowReader]:
        """Open a shard; what is wrong with all of it is told with what was asked of it."""
        try:
            with self._open(shard) as reader:
                yield reader
        except FormatError as error:
            if error.where != str(shard.path):
                raise
            where = error.where + asked(names, rows)
            raise FormatError(where, error.expected, error.found) from error

    @contextlib.contextmanager
    def _open(self, shard: CatalogShard) -> Iterator[RowReader]:
        table = self._table(shard)
        open_file = LocalFile if self._maps is None else self._maps.open
        with open_file(shard.path, table.file_size) as file:
            known = self._verified.get(shard.path)
            if known is not None and known != file.state:
                raise FormatError(
                    str(shard.path),
                    "the file that was read before",
                    "another or a changed one; open the tree again to read it",
                )
            blocks = self._blocks(shard, table)
            if known is None and blocks is None:
                head = np.empty(min(HEAD_NBYTES, table.file_size), np.uint8)
                file.expect(np.array([0]), np.array([len(head)]))
                file.read_into(0, head.data)
                if head_hash(head.data) != table.head:
                    raise FormatError(
                        str(shard.path), "the shard that its row table describes", "another file"
                    )
            if known is None:
                self._check_root()
                self._verified[shard.path] = file.state
            source = file if blocks is None else CheckedFile(file, blocks)
            yield RowReader(source, shard.path, self.survey, table)
            file.check()

    def standard(self, rows: ArrayLike, names: Sequence[str] | None = None) -> pa.Table:
        """
        Read the standard view of chosen rows.

        Parameters
        ----------
        rows : array_like of int or bool
            Row numbers in any order, or one boolean per object.
        names : sequence of str, optional
            Standard names, and native ones that no standard name consumes; by default all.

        Returns
        -------
        pyarrow.Table
            One row per object, in the order of `rows`.

        Raises
        ------
        UnknownColumnError
            If a name is not there.
        """
        from astropile.view import columns_needed, standard_table

        chosen = self.check_rows(rows)
        needed = columns_needed(self.survey, names)
        return standard_table(self.survey, self.take(chosen, needed), len(chosen), names)

    def find(self, object_id: Any) -> NDArray[np.int64]:
        """
        Find the rows of an object.

        Parameters
        ----------
        object_id : int or str
            An `object_id` or `observation_id`.

        Returns
        -------
        ndarray, shape (n,), int64
            Its rows; empty if there is none.
        """
        table = self.light(["object_id", "observation_id"])
        found = np.zeros(len(table), bool)
        for name in table.column_names:
            values = table[name]
            try:
                sought = pa.scalar(object_id).cast(values.type)
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
                continue
            found |= pc.equal(values, sought).to_numpy(zero_copy_only=False)
        return np.flatnonzero(found).astype(np.int64)

    def positions(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """
        Read the position of every object.

        Returns
        -------
        ra, dec : ndarray, shape (n,), float64
            Positions [deg, ICRS].
        """
        table = self.light(["ra", "dec"])
        return table["ra"].to_numpy(), table["dec"].to_numpy()


def replaced_tree(path: TreePath) -> FormatError:
    """
    Make the error of a tree that is not the one that was opened.

    Parameters
    ----------
    path : Path or RemotePath
        Its `astropile.json`.

    Returns
    -------
    FormatError
        To be raised.
    """
    return FormatError(
        str(path),
        "the tree that was opened",
        "another: the tree was replaced since it was opened; open it again",
    )


def open_catalog(
    path: str | os.PathLike[str] | RemotePath,
    subset: str | None = None,
    *,
    remote: RemoteOptions | None = None,
    verify: bool = False,
    memory_map: bool = False,
    snapshot: str | None = None,
) -> Catalog:
    """
    Open a subset of a tree.

    Parameters
    ----------
    path : path or str
        A survey's data folder, or the folder of a subset; or the URL of either.
    subset : str, optional
        Name of the subset; may be left out where there is only one. A server that lists no
        folders, as most of HTTP, must be told it, or be given the URL of the subset.
    remote : RemoteOptions, optional
        How to reach a URL, and how much of it.
    verify : bool
        Compare what is read of a shard with its partition's manifest before any of it is given
        out: each block of 4 MiB when something of it is first read, once per opening. Reading
        takes as long as hashing these blocks does then; a single row costs a whole block.
    memory_map : bool
        Copy rows of a fast tree on this machine out of files that stay mapped, which takes less
        time for each row than reading them. The price: if a file is cut short by someone while
        it is read, the process ends (SIGBUS) instead of an error being raised. Compressed
        values, those of compact trees, are read as ever.
    snapshot : str, optional
        Which of its kept versions, by its name or how that begins; by default the current one.

    Returns
    -------
    Catalog
        The subset.

    Raises
    ------
    TreeNotFoundError
        If there is no tree, not that subset, or several and none was named.
    FormatError
        If `astropile.json` breaks the format.
    StoreError
        If a store fails.
    ValueError
        If `memory_map` is asked for of a URL.
    """
    options = {"verify": verify, "memory_map": memory_map}
    if snapshot is not None:
        current = open_catalog(path, subset, remote=remote)
        if not isinstance(current.path, Path):
            raise TreeNotFoundError(str(path), "snapshots are those of a tree on this machine")
        kept = find_snapshot(current.path, snapshot).path
        return Catalog(kept, read_root(kept), **options)
    if isinstance(path, RemotePath) or is_url(path):
        from astropile.remote import open_remote

        if memory_map:
            raise ValueError(f"memory_map: expected a tree on this machine, found {path}")
        return open_remote(path, subset, remote, verify=verify)
    folder = Path(path).expanduser()
    if not folder.is_dir():
        found = "it is a file, not a folder" if folder.exists() else "there is no such folder"
        raise TreeNotFoundError(str(folder), found)
    if subset is None and (folder / ROOT_FILE).is_file():
        return Catalog(folder, read_root(folder), **options)
    known = list_subsets(folder)
    if not known:
        raise TreeNotFoundError(str(folder), f"neither it nor a folder in it has an {ROOT_FILE}")
    if subset is None and len(known) > 1:
        raise TreeNotFoundError(str(folder), f"name one of its subsets: {', '.join(known)}")
    name = known[0] if subset is None else subset
    if name not in known:
        raise TreeNotFoundError(
            str(folder), f"it has no subset {name!r}; its subsets: {', '.join(known)}"
        )
    return Catalog(folder / name, read_root(folder / name), **options)


def list_subsets(data_dir: Path) -> tuple[str, ...]:
    """
    Name the subsets of a data folder, sorted.

    Parameters
    ----------
    data_dir : Path
        The folder.

    Returns
    -------
    tuple of str
        Names of the folders in it that are subsets.
    """
    return tuple(
        sorted(
            path.parent.name
            for path in data_dir.glob(f"*/{ROOT_FILE}")
            if not path.parent.name.startswith(".")
        )
    )
