"""
Compare every file of a subset with its manifest: what is missing, what differs, what is too much.

A block that differs is named with the columns and rows that lie in it. Files are hashed side by
side on threads; in memory are one partition's hashes and a piece of a file for each thread. What
was found sound is remembered until the end, so that a run that was stopped goes on where it was.
This says nothing about whether the files keep the format: that is `astropile.validate`.
"""

from __future__ import annotations

import hashlib
import os
import random
import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal

from tqdm import tqdm

from astropile.errors import FormatError, TreeNotFoundError
from astropile.hdf5.rows import RowTable, load_tables
from astropile.hdf5.touched import Touched, touched_rows
from astropile.inventory import (
    LISTS,
    FileFacts,
    manifest_path,
    partition_files,
    root_files,
)
from astropile.journal import Journal, user_cache
from astropile.layout import (
    CATALOG_DIR,
    MANIFEST_DIR,
    ROOT_FILE,
    ROWS_DIR,
    manifest_file,
    parse_partition_dir,
    partition_dir,
    rows_file,
)
from astropile.manifest import MAX_MANIFEST_NBYTES, MAX_ROOT_NBYTES, Root, parse_root
from astropile.store.access import Access, Opened, access_to
from astropile.store.protocol import RemoteOptions, RemotePath

MAX_DAMAGES: Final = 10_000
"""So many are listed; the others are counted."""

_PIECE_NBYTES: Final = 2**20
_AHEAD: Final = 16
"""Files per thread that wait for one."""

_MAX_COLUMNS: Final = 8
"""More columns of one block are not listed one by one; the report has them all."""

Kind = Literal["missing", "extra", "differing"]


@dataclass(frozen=True)
class Damage:
    """
    One thing in which a subset is not what its manifests say.

    Parameters
    ----------
    kind : {"missing", "extra", "differing"}
        A file is not there, is there and should not be, or is another.
    file : str
        The file, from the subset's folder on.
    found : str
        What is the matter.
    block : int or None
        Which block differs, from 0; None where it is the whole file.
    start, stop : int
        Its first byte, and one past its last.
    touched : tuple of Touched
        Columns and rows that lie in it, where the row table tells.
    """

    kind: Kind
    file: str
    found: str
    block: int | None = None
    start: int = 0
    stop: int = 0
    touched: tuple[Touched, ...] = ()

    def __str__(self) -> str:
        where = self.file
        if self.block is not None:
            where += f", block {self.block} (bytes {self.start}-{self.stop - 1})"
        inside = f": {_summed_up(self.touched)}" if self.touched else ""
        return f"{self.kind} {where}: {self.found}{inside}"


def _summed_up(touched: tuple[Touched, ...]) -> str:
    """List columns and rows; many columns of the same rows by the first and the last."""
    groups: dict[tuple[int, int], list[Touched]] = {}
    for one in touched:
        groups.setdefault((one.first, one.last), []).append(one)
    words = []
    for group in groups.values():
        rows = str(group[0]).removeprefix(f"{group[0].column} ")
        if len(group) > _MAX_COLUMNS:
            names = f"{len(group)} columns, {group[0].column} to {group[-1].column},"
            words.append(f"{names} {rows}")
        else:
            words += map(str, group)
    return ", ".join(words)


@dataclass(frozen=True)
class VerifyReport:
    """
    What `verify_tree` found.

    Parameters
    ----------
    path : str
        The subset.
    snapshot : str
        The snapshot that it says it is.
    sample : float
        Share of the blocks that was looked at.
    n_files, n_bytes : int
        What was hashed.
    n_remembered : int
        Files that an earlier, stopped run had found sound.
    unhashed : tuple of str
        Files whose hashes nobody knows: of trees of format 1.0.
    damages : tuple of Damage
        What is wrong; at most `MAX_DAMAGES`.
    n_damages : int
        How much is.
    """

    path: str
    snapshot: str
    sample: float
    n_files: int
    n_bytes: int
    n_remembered: int
    unhashed: tuple[str, ...]
    damages: tuple[Damage, ...]
    n_damages: int

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.n_damages

    def of_kind(self, kind: Kind) -> tuple[Damage, ...]:
        """
        Choose the damages of a kind.

        Parameters
        ----------
        kind : {"missing", "extra", "differing"}
            The kind.

        Returns
        -------
        tuple of Damage
            Those of them.
        """
        return tuple(damage for damage in self.damages if damage.kind == kind)


def verify_tree(
    path: str | os.PathLike[str] | RemotePath,
    *,
    sample: float = 1.0,
    seed: int = 0,
    threads: int | None = None,
    state: str | os.PathLike[str] | None = None,
    remote: RemoteOptions | None = None,
    progress: bool | None = None,
) -> VerifyReport:
    """
    Compare the files of a subset with its manifests.

    Parameters
    ----------
    path : path or str
        Folder of a subset, or its URL; from a URL every byte that is looked at is fetched.
    sample : float
        Share of the blocks to look at, above 0 to 1; names and sizes are looked at in any case.
    seed : int
        Which blocks: another number, others.
    threads : int, optional
        Files looked at side by side; by default as many as there are processors, at most 8.
    state : path, optional
        Where is kept what was found sound, until the end; by default in the user's cache. A
        sample, and a tree behind a URL, keep nothing.
    remote : RemoteOptions, optional
        How to reach a URL.
    progress : bool, optional
        Show a progress bar on standard error; by default where that is a terminal.

    Returns
    -------
    VerifyReport
        What is wrong, if anything.

    Raises
    ------
    TreeNotFoundError
        If there is no subset.
    FormatError
        If `astropile.json` cannot be read at all.
    StoreError
        If a store fails.
    ValueError
        If `sample` or `threads` are no such numbers.
    """
    if not 0 < sample <= 1:
        raise ValueError(f"sample: expected a share above 0 and at most 1, found {sample}")
    if threads is not None and threads < 1:
        raise ValueError(f"threads: expected at least 1, found {threads}")
    access = access_to(path, remote)
    content = access.read(ROOT_FILE, MAX_ROOT_NBYTES)
    if content is None:
        raise TreeNotFoundError(access.where, f"it has no {ROOT_FILE}")
    root = parse_root(content, f"{access.where}/{ROOT_FILE}")
    bars = sys.stderr.isatty() if progress is None else progress
    known: Path | None = None
    if access.is_local and sample == 1:
        known = Path(state) if state is not None else _state_file(access.where, root.snapshot)
    with Journal(known) as journal:
        report = _Verification(access, root, journal, sample, seed).run(
            threads or min(8, os.cpu_count() or 1), bars=bars
        )
        journal.remove()
    return report


def _state_file(where: str, snapshot: str) -> Path:
    name = hashlib.sha256(f"{where}\n{snapshot}".encode()).hexdigest()[:32]
    return user_cache() / "verify" / name


@dataclass
class _Outcome:
    """What looking at a file gave."""

    damages: list[Damage]
    n_bytes: int = 0
    is_remembered: bool = False


@dataclass
class _Tally:
    """What was found so far."""

    n_files: int = 0
    n_bytes: int = 0
    n_remembered: int = 0
    n_damages: int = 0
    damages: list[Damage] = field(default_factory=list)

    def add(self, damages: list[Damage]) -> None:
        self.n_damages += len(damages)
        self.damages += damages[: max(0, MAX_DAMAGES - len(self.damages))]


class _Verification:
    def __init__(
        self, access: Access, root: Root, journal: Journal, sample: float, seed: int
    ) -> None:
        self.access, self.root, self.journal = access, root, journal
        self.sample, self.seed = sample, seed
        self.tally = _Tally()

    def run(self, threads: int, *, bars: bool) -> VerifyReport:
        beside = root_files(self.root, self.access.where)
        total = len(self.root.partitions)
        bar: Any = tqdm(total=total, desc="verify", unit="partition", disable=not bars, leave=False)
        waiting: deque[tuple[Future[_Outcome], bool]] = deque()
        with bar, ThreadPoolExecutor(threads, "astropile-verify") as pool:
            try:
                for files in self._groups(beside):
                    for number, facts in enumerate(files):
                        waiting.append((pool.submit(self._file, facts, files), number == 0))
                    while len(waiting) > _AHEAD * threads:
                        self._take(waiting, bar)
                while waiting:
                    self._take(waiting, bar)
            finally:
                for job, _ in waiting:
                    job.cancel()
        self.tally.add(self._extra(beside))
        return VerifyReport(
            self.access.where,
            self.root.snapshot,
            self.sample,
            self.tally.n_files,
            self.tally.n_bytes,
            self.tally.n_remembered,
            () if beside else (*LISTS, f"{CATALOG_DIR}/"),
            tuple(self.tally.damages),
            self.tally.n_damages,
        )

    def _take(self, waiting: deque[tuple[Future[_Outcome], bool]], bar: Any) -> None:
        job, is_first = waiting.popleft()
        outcome = job.result()
        self.tally.add(outcome.damages)
        self.tally.n_bytes += outcome.n_bytes
        self.tally.n_remembered += outcome.is_remembered
        self.tally.n_files += not outcome.is_remembered
        bar.update(is_first)

    def _groups(self, beside: list[FileFacts]) -> Iterator[list[FileFacts]]:
        """List the files, partition by partition; what is wrong with a manifest is noted."""
        if beside:
            yield beside
        digest = hashlib.sha256()
        is_whole = True
        for number, partition in enumerate(self.root.partitions):
            path = manifest_path(partition.ipix)
            content = self.access.read(path, MAX_MANIFEST_NBYTES)
            if content is None:
                self.tally.add([Damage("missing", path, "no such file")])
                is_whole = False
                continue
            digest.update(hashlib.sha256(content).digest())
            try:
                files = partition_files(self.root, number, content, path)
                files = self._as_named(partition.ipix, files)
                self.tally.add(self._extra_shards(self._folder_of(partition.ipix), files))
                yield files
            except FormatError as error:
                said = f"expected {error.expected}, found {error.found}"
                self.tally.add([Damage("differing", path, said)])
        if is_whole and digest.hexdigest() != self.root.snapshot:
            said = f"they are not those of snapshot {self.root.snapshot}"
            self.tally.add([Damage("differing", MANIFEST_DIR, said)])

    # -- one file

    def _file(self, facts: FileFacts, group: list[FileFacts]) -> _Outcome:
        with self.access.opened(facts.path) as opened:
            if opened is None:
                return _Outcome([Damage("missing", facts.path, "no such file")])
            state = opened.state
            if state is not None and self.journal.knows(facts.path, state, facts.sha256):
                return _Outcome([], is_remembered=True)
            damages, n_bytes = self._content(facts, opened, group)
            if not damages and state is not None:
                self.journal.note(facts.path, state, facts.sha256)
            return _Outcome(damages, n_bytes)

    def _content(
        self, facts: FileFacts, opened: Opened, group: list[FileFacts]
    ) -> tuple[list[Damage], int]:
        assert facts.size is not None
        damages: list[Damage] = []
        if opened.size != facts.size:
            how = "short" if opened.size < facts.size else "too long"
            said = f"{abs(facts.size - opened.size)} bytes {how}, {opened.size} of {facts.size}"
            damages.append(Damage("differing", facts.path, said))
        if facts.blocks:
            bad, n_bytes = self._bad_blocks(facts, opened)
            return damages + self._described(facts, opened, bad, group), n_bytes
        if damages or not self._is_chosen(facts.path, 0):
            return damages, 0
        if _hash(opened, 0, facts.size) != facts.sha256:
            damages.append(Damage("differing", facts.path, "its SHA-256 is another"))
        return damages, facts.size

    def _bad_blocks(self, facts: FileFacts, opened: Opened) -> tuple[list[int], int]:
        """Find the blocks, of those chosen, that are not as promised; count the bytes hashed."""
        bad, n_bytes = [], 0
        for block, promised in enumerate(facts.blocks):
            start, stop = facts.span(block)
            if not self._is_chosen(facts.path, block):
                continue
            if stop > opened.size or _hash(opened, start, stop) != promised:
                bad.append(block)
            n_bytes += stop - start
        return bad, n_bytes

    def _described(
        self, facts: FileFacts, opened: Opened, bad: list[int], group: list[FileFacts]
    ) -> list[Damage]:
        """Say which columns and rows lie in bad blocks."""
        table = self._table(facts, group) if bad else None
        damages = []
        for block in bad:
            start, stop = facts.span(block)
            touched = () if table is None else touched_rows(self.root.survey, table, start, stop)
            said = "it is cut off" if stop > opened.size else "its SHA-256 is another"
            damages.append(Damage("differing", facts.path, said, block, start, stop, touched))
        return damages

    def _is_chosen(self, path: str, block: int) -> bool:
        if self.sample == 1:
            return True
        return random.Random(f"{self.seed}:{path}:{block}").random() < self.sample  # noqa: S311

    def _table(self, facts: FileFacts, group: list[FileFacts]) -> RowTable | None:
        """Give the row table of a shard, if it is sound: it tells what lies where."""
        rows = group[-1]
        content = self.access.read(rows.path, rows.size or 0)
        if content is None or hashlib.sha256(content).hexdigest() != rows.sha256:
            return None
        try:
            tables = load_tables(content, rows.path)
        except FormatError:
            return None
        shards = [other.path for other in group if other.blocks or other.n_objects]
        number = shards.index(facts.path)
        return tables[number] if number < len(tables) else None

    # -- what is too much

    def _extra(self, beside: list[FileFacts]) -> list[Damage]:
        """Files that stand where only those of the manifests may."""
        pixels = {partition.ipix for partition in self.root.partitions}
        found = [
            name
            for name in self.access.names("")
            if (ipix := parse_partition_dir(name)) is not None
            and (ipix not in pixels or name != self._folder_of(ipix))
        ]
        listed = {facts.path for facts in beside} | set(LISTS)
        for folder, file in ((MANIFEST_DIR, manifest_file), (ROWS_DIR, rows_file)):
            expected = {file(ipix) for ipix in pixels}
            found += [
                f"{folder}/{name}"
                for name in self.access.names(folder)
                if name not in expected and f"{folder}/{name}" not in listed
            ]
        if beside:
            found += [path for path in self._below(CATALOG_DIR) if path not in listed]
        return _extra_files(found)

    def _extra_shards(self, folder: str, files: list[FileFacts]) -> list[Damage]:
        expected = {facts.path for facts in files}
        paths = [f"{folder}/{name}" for name in self.access.names(folder)]
        return _extra_files([path for path in paths if path not in expected])

    def _below(self, folder: str) -> Iterator[str]:
        for name in self.access.names(folder):
            path = f"{folder}/{name}"
            inner = [] if name.startswith(".") else list(self._below(path))
            yield from inner or [path]

    def _folder_of(self, ipix: int) -> str:
        return self._folders.get(ipix, partition_dir(ipix))

    @cached_property
    def _folders(self) -> dict[int, str]:
        """Names of the partitions' folders: zero padding is allowed."""
        found: dict[int, str] = {}
        for name in self.access.names(""):
            ipix = parse_partition_dir(name)
            if ipix is not None and found.get(ipix) != partition_dir(ipix):
                found[ipix] = name
        return found

    def _as_named(self, ipix: int, files: list[FileFacts]) -> list[FileFacts]:
        """Give the files by the names that they have there."""
        usual, there = partition_dir(ipix), self._folder_of(ipix)
        if usual == there:
            return files
        return [
            replace(facts, path=there + facts.path.removeprefix(usual)) if facts.blocks else facts
            for facts in files
        ]


def _hash(opened: Opened, start: int, stop: int) -> str:
    digest = hashlib.sha256()
    for at in range(start, stop, _PIECE_NBYTES):
        digest.update(opened.read(at, min(_PIECE_NBYTES, stop - at)))
    return digest.hexdigest()


def _extra_files(paths: list[str]) -> list[Damage]:
    """Hidden files may stand anywhere."""
    return [
        Damage("extra", path, "no manifest has it")
        for path in paths
        if not path.rpartition("/")[2].startswith(".")
    ]
