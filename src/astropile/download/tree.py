"""
Fetch a subset of a tree, or whole partitions of it: each file as it is at its source.

What is fetched is kept in a hidden folder beside the final one, which takes its name when it is
whole. The manifests are compared with the snapshot first, then every file with its manifest.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from astropile.card import refresh_card
from astropile.download.folder import Folder
from astropile.download.plan import GetReport, Plan
from astropile.download.room import check_room
from astropile.download.selection import Selection, chosen_partitions
from astropile.download.source import open_source
from astropile.download.transfer import Patience, fetch_file, nothing
from astropile.errors import DownloadError, FormatError, IntegrityError, TreeNotFoundError
from astropile.inventory import (
    LISTS,
    FileFacts,
    manifest_path,
    partition_files,
    root_files,
)
from astropile.journal import Journal
from astropile.layout import CATALOG_DIR, ROOT_FILE, check_subset
from astropile.manifest import MAX_MANIFEST_NBYTES, MAX_ROOT_NBYTES, Root, parse_root, read_root
from astropile.publish import publish_bytes
from astropile.store.protocol import RemoteOptions, RemotePath
from astropile.subset import take_final_name

_BATCH: Final = 64
_AHEAD: Final = 8
_JOURNAL: Final = ".found-sound"


def get_tree(
    source: str,
    dest: str | os.PathLike[str],
    *,
    subset: str | None = None,
    selection: Selection | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
    agree: Callable[[Plan], bool] | None = None,
    threads: int = 4,
    remote: RemoteOptions | None = None,
    patience: Patience | None = None,
    note: Callable[[int], None] = nothing,
) -> GetReport:
    """
    Fetch a subset, or a part of it.

    Parameters
    ----------
    source : str
        URL or folder of a tree or a subset.
    dest : path
        The data folder that the subset goes into, under its own name.
    subset : str, optional
        Which subset; may be left out where `source` is one, or has but one.
    selection : Selection, optional
        Which part; by default all of it.
    overwrite : bool
        Replace a snapshot that is there and that the source does not continue.
    dry_run : bool
        Only say how much it is; nothing is written.
    agree : callable, optional
        Asked before anything is fetched, with the plan.
    threads : int
        Files fetched side by side.
    remote : RemoteOptions, optional
        How to reach the source.
    patience : Patience, optional
        How long to try.
    note : callable
        Told how many more bytes are there.

    Returns
    -------
    GetReport
        What was done.

    Raises
    ------
    TreeNotFoundError
        If the source is no tree, or has several subsets and none was named.
    DownloadError
        If nothing is chosen, or another snapshot is in the way.
    FormatError
        If `astropile.json` or a manifest breaks the format.
    IntegrityError
        If what comes is not what was promised.
    StoreError
        If the source fails.
    OSError
        If the disk fails. In every case nothing stands under the final name that was not there.
    """
    origin, content, root = find_subset(open_source(source, remote or RemoteOptions()), subset)
    final = Path(dest).expanduser() / _name(root, str(origin))
    chosen = selection or Selection()
    _check_place(final, root, chosen, overwrite=overwrite)
    if chosen.makes_rows:
        from astropile.download.rows import get_rows

        return get_rows(
            origin,
            root,
            final,
            chosen,
            overwrite=overwrite,
            dry_run=dry_run,
            agree=agree,
            note=note,
        )
    numbers = chosen_partitions(origin, root, chosen)
    download = _Download(
        origin, content, root, final, numbers, chosen.describe(), patience or Patience(), note
    )
    return download.run(threads, overwrite=overwrite, dry_run=dry_run, agree=agree)


def find_subset(source: RemotePath, subset: str | None) -> tuple[RemotePath, bytes, Root]:
    """
    Find a subset at its source.

    Parameters
    ----------
    source : RemotePath
        A tree or a subset.
    subset : str or None
        Which subset.

    Returns
    -------
    path : RemotePath
        The subset.
    content : bytes
        Its `astropile.json`.
    root : Root
        What that says.

    Raises
    ------
    TreeNotFoundError
        If there is none, or several and none was named.
    FormatError
        If `astropile.json` breaks the format.
    """

    def read(path: RemotePath) -> tuple[RemotePath, bytes, Root] | None:
        place = path / ROOT_FILE
        content = place.store.read(place.key, limit=MAX_ROOT_NBYTES)
        return None if content is None else (path, content, parse_root(content, str(place)))

    found = read(source)
    if found is not None:
        if subset not in (None, found[2].subset):
            raise TreeNotFoundError(str(source), f"it is the subset {found[2].subset!r}")
        return found
    if subset is not None:
        found = read(source / check_subset(subset))
        if found is None:
            raise TreeNotFoundError(str(source), f"it has no subset {subset!r}")
        return found
    names = source.store.folders(source.key)
    if names is None:
        said = f"it has no {ROOT_FILE}, and its server lists no folders: name a subset"
        raise TreeNotFoundError(str(source), said)
    several = [one for name in sorted(names) if _is_subset(name) and (one := read(source / name))]
    if len(several) != 1:
        listed = ", ".join(one[2].subset for one in several)
        said = f"name one of its subsets: {listed}" if several else "it has no subset"
        raise TreeNotFoundError(str(source), said)
    return several[0]


def _is_subset(name: str) -> bool:
    try:
        return bool(check_subset(name))
    except ValueError:
        return False


def _name(root: Root, where: str) -> str:
    try:
        return check_subset(root.subset)
    except ValueError as error:
        raise FormatError(f"{where}/{ROOT_FILE}", "the name of a subset", str(error)) from error


def _check_place(final: Path, root: Root, chosen: Selection, *, overwrite: bool) -> None:
    """Refuse to take the place of a snapshot that the source does not continue."""
    if not final.exists():
        return
    try:
        there = read_root(final)
    except (FormatError, TreeNotFoundError) as error:
        if overwrite:
            return
        raise DownloadError(str(final), f"what is there is no subset ({error})") from error
    if overwrite:
        return
    part = there.built.get("part")
    if isinstance(part, dict) or not chosen.is_whole:
        said = {"of": root.snapshot, **chosen.describe()}
        if isinstance(part, dict) and said == {n: part[n] for n in part if n != "from"}:
            return
        what = "a part of a snapshot" if isinstance(part, dict) else "a whole subset"
        raise DownloadError(str(final), f"{what} is there already; --overwrite replaces it")
    if there.snapshot in (root.snapshot, root.parent):
        return
    if there.parent == root.snapshot:
        raise DownloadError(
            str(final), "the source is older than what is there; --overwrite goes back to it"
        )
    raise DownloadError(
        str(final),
        f"snapshot {there.snapshot[:12]} is there, which the source's {root.snapshot[:12]} "
        "does not continue; --overwrite replaces it",
    )


class _Download:
    """A download of whole files."""

    def __init__(
        self,
        origin: RemotePath,
        content: bytes,
        root: Root,
        final: Path,
        numbers: Sequence[int] | None,
        said: Mapping[str, Any],
        patience: Patience,
        note: Callable[[int], None],
    ) -> None:
        self.origin, self.content, self.root, self.final = origin, content, root, final
        self.is_whole, self.said = numbers is None, said
        self.numbers = list(range(len(root.partitions))) if numbers is None else list(numbers)
        self.patience, self._note = patience, note
        self._stop = threading.Event()
        self.work = final.with_name(f".{final.name}.get")

    def run(
        self,
        threads: int,
        *,
        overwrite: bool,
        dry_run: bool,
        agree: Callable[[Plan], bool] | None,
    ) -> GetReport:
        plan = self._plan()
        if dry_run or (agree is not None and not agree(plan)):
            return GetReport(plan, is_done=False)
        check_room(self.final.parent, plan.n_bytes)
        self.final.parent.mkdir(parents=True, exist_ok=True)
        with Folder(self.work) as folder, Journal(self.work / _JOURNAL) as journal:
            self._fetch_all(folder, journal, threads)
        if self.is_whole:
            self._finish_whole(overwrite=overwrite)
        else:
            self._finish_part(overwrite=overwrite)
        refresh_card(self.final.parent)
        return GetReport(plan, is_done=True, n_bytes_fetched=self.origin.store.n_bytes)

    # -- what there is to fetch

    def _manifests(self) -> Iterator[tuple[int, bytes]]:
        """Read the manifests; at the end all must be those of the snapshot."""
        digest = hashlib.sha256()
        partitions = self.root.partitions
        wanted = set(self.numbers)
        for first in range(0, len(partitions), _BATCH):
            some = range(first, min(first + _BATCH, len(partitions)))
            keys = [(self.origin / manifest_path(partitions[n].ipix)).key for n in some]
            for number, content in zip(some, self.origin.store.read_many(keys), strict=True):
                path = self.origin / manifest_path(partitions[number].ipix)
                if content is None:
                    raise FormatError(str(path), "the manifest of a partition", "no such file")
                if len(content) > MAX_MANIFEST_NBYTES:
                    raise FormatError(str(path), f"at most {MAX_MANIFEST_NBYTES} bytes", "more")
                digest.update(hashlib.sha256(content).digest())
                if number in wanted:
                    yield number, content
        if digest.hexdigest() != self.root.snapshot:
            raise IntegrityError(
                str(self.origin),
                f"the manifests of snapshot {self.root.snapshot}",
                "others: the tree is damaged, or was replaced meanwhile",
            )

    def _plan(self) -> Plan:
        n_files = n_bytes = 0
        # A folder that is begun keeps the manifests; nothing else is believed of it.
        for number, content in self._manifests():
            where = str(self.origin / manifest_path(self.root.partitions[number].ipix))
            for facts in partition_files(self.root, number, content, where):
                n_files, n_bytes = n_files + 1, n_bytes + (facts.size or 0)
        beside = self._beside() if self.is_whole else []
        partitions = [self.root.partitions[number] for number in self.numbers]
        return Plan(
            str(self.origin),
            str(self.final),
            "whole" if self.is_whole else "partitions",
            self.root.snapshot,
            sum(sum(partition.n_objects) for partition in partitions),
            len(partitions),
            n_files + len(beside),
            n_bytes + sum(facts.size or 0 for facts in beside),
            sum(not facts.sha256 for facts in beside),
        )

    def _beside(self) -> list[FileFacts]:
        """List catalogue and lists; of a tree of format 1.0 by the names that they must have."""
        known = root_files(self.root, str(self.origin))
        return known or [FileFacts(path, None) for path in (*LISTS, *self._catalogue_names())]

    def _catalogue_names(self) -> Iterator[str]:
        listing = self.origin / CATALOG_DIR / "partition_info.csv"
        content = listing.store.read(listing.key, limit=MAX_MANIFEST_NBYTES)
        if content is None:
            raise FormatError(str(listing), "the files of the catalogue", "no such file")
        for name in ("partition_info.csv", "hats.properties", "properties"):
            yield f"{CATALOG_DIR}/{name}"
        for name in ("_metadata", "_common_metadata"):
            yield f"{CATALOG_DIR}/dataset/{name}"
        try:
            for line in content.decode().split()[1:]:
                order, ipix, _ = (int(value) for value in line.split(","))
                folder = f"Norder={order}/Dir={ipix // 10000 * 10000}"
                yield f"{CATALOG_DIR}/dataset/{folder}/Npix={ipix}.parquet"
        except ValueError as error:
            wanted = "Norder,Npix,num_rows of each file"
            raise FormatError(str(listing), wanted, str(error)) from error

    # -- fetching

    def _fetch_all(self, folder: Folder, journal: Journal, threads: int) -> None:
        waiting: deque[Future[None]] = deque()
        with ThreadPoolExecutor(threads, "astropile-get") as pool:
            try:
                for facts in self._files(folder):
                    waiting.append(pool.submit(self._fetch, folder, journal, facts))
                    while len(waiting) > _AHEAD * threads:
                        waiting.popleft().result()
                while waiting:
                    waiting.popleft().result()
            finally:
                # What is on its way ends with the next block.
                self._stop.set()
                for job in waiting:
                    job.cancel()

    def _files(self, folder: Folder) -> Iterator[FileFacts]:
        """List what is to be fetched; the manifests are kept as they pass by."""
        for number, content in self._manifests():
            path = manifest_path(self.root.partitions[number].ipix)
            yield from partition_files(self.root, number, content, str(self.origin / path))
            folder.write(path, content)
        if self.is_whole:
            yield from self._beside()

    def note(self, n_bytes: int) -> None:
        if self._stop.is_set():
            raise DownloadError(str(self.final), "it was stopped")
        self._note(n_bytes)

    def _fetch(self, folder: Folder, journal: Journal, facts: FileFacts) -> None:
        there = folder.state(facts.path)
        if there is not None and facts.sha256 and journal.knows(facts.path, there, facts.sha256):
            self.note(facts.size or 0)
            return
        self._adopt(folder, facts)
        key = (self.origin / facts.path).key
        fetch_file(self.origin.store, key, folder, facts, patience=self.patience, note=self.note)
        made = folder.state(facts.path)
        if made is not None and facts.sha256:
            journal.note(facts.path, made, facts.sha256)

    def _adopt(self, folder: Folder, facts: FileFacts) -> None:
        """Take over a file of the snapshot that is there, if it is the same."""
        if facts.sha256 and facts.blocks and self.final.is_dir():
            folder.adopt(self.final / facts.path, facts.path, facts.size or 0)

    # -- taking the final name

    def _finish_whole(self, *, overwrite: bool) -> None:
        expected = {ROOT_FILE, *(facts.path for facts in self._beside())}
        for number, content in ((n, self._read_back(n)) for n in self.numbers):
            path = manifest_path(self.root.partitions[number].ipix)
            expected.add(path)
            files = partition_files(self.root, number, content, path)
            expected.update(facts.path for facts in files)
        publish_bytes(self.work / ROOT_FILE, self.content)
        remove_others(self.work, expected)
        _take(self.work, self.final, replaces=overwrite or self._continues())

    def _read_back(self, number: int) -> bytes:
        return (self.work / manifest_path(self.root.partitions[number].ipix)).read_bytes()

    def _continues(self) -> bool:
        if not self.final.exists():
            return False
        return read_root(self.final).snapshot in (self.root.parent, self.root.snapshot)

    def _finish_part(self, *, overwrite: bool) -> None:
        from astropile.download.part import assemble_part

        made = self.work.with_name(f"{self.work.name}.{uuid.uuid4().hex}")
        try:
            assemble_part(self.origin, self.root, self.work, made, self.numbers, self.said)
            _take(made, self.final, replaces=overwrite or self.final.exists())
        finally:
            shutil.rmtree(made, ignore_errors=True)
        shutil.rmtree(self.work, ignore_errors=True)


def _take(made: Path, final: Path, *, replaces: bool) -> None:
    try:
        take_final_name(made, final, overwrite=replaces)
    except FileNotFoundError:
        # Another process that fetched the same was here first.
        if not (final / ROOT_FILE).is_file():
            raise


def remove_others(folder: Path, expected: set[str]) -> None:
    """
    Remove what an earlier download left that is no part of this one.

    Parameters
    ----------
    folder : Path
        The folder of the download.
    expected : set of str
        The files that stay.
    """
    for path in sorted(folder.rglob("*"), reverse=True):
        name = path.relative_to(folder).as_posix()
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()):
                path.rmdir()
        elif name not in expected:
            path.unlink(missing_ok=True)
