"""
Write a subset: in a folder aside, partition by partition, then under its final name.

Knows nothing of where the objects come from. Memory: one shard, twice.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from numpy.typing import NDArray

from astropile.errors import AstroPileError, BuildError
from astropile.hdf5.rows import dump_tables, table_of_image
from astropile.hdf5.writer import ShardPlace, shard_image
from astropile.layout import (
    CATALOG_DIR,
    MANIFEST_DIR,
    ROOT_FILE,
    ROWS_DIR,
    Shard,
    manifest_file,
    partition_dir,
    rows_file,
    shard_file,
    snapshot_dir,
)
from astropile.manifest import (
    Partition,
    Root,
    dump_json,
    parse_manifest,
    partition_manifest,
    read_root,
    root_file,
    shard_entry,
    snapshot_of,
)
from astropile.publish import exchange, link_file, publish_bytes, sync_all, sync_folder
from astropile.schema import Ragged, Survey

_DONE: Final = "done"
"""In the folder of a build: what was made is whole and about to take its final name."""

_NO_LOCKS: Final = frozenset({errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})
"""How file systems say that they have no locks."""

_REFUSED: Final = "refused"
"""In the folder of a build: the run before was not interrupted but ended with an error of ours."""


@dataclass(frozen=True)
class Pattern:
    """
    What all partitions of a subset have in common.

    Parameters
    ----------
    survey : Survey
        The survey, its tree's dimensions resolved.
    subset : str
        Name the subset will have.
    order : int
        HEALPix order of the partitions.
    layout : {"compact", "fast"}
        Layout of the shards.
    """

    survey: Survey
    subset: str
    order: int
    layout: str


def write_partition(
    store: Path,
    pattern: Pattern,
    ipix: int,
    total: int,
    shards: Iterable[tuple[Mapping[str, NDArray[Any] | Ragged], Mapping[str, NDArray[Any]]]],
) -> None:
    """
    Write a partition into a store: its shards, their row tables, then its manifest.

    Whoever writes it writes the same bytes, so two may do it at once. Memory: one shard, twice.

    Parameters
    ----------
    store : Path
        Folder of partitions, laid out as a subset.
    pattern : Pattern
        What they have in common.
    ipix : int
        Its pixel.
    total : int
        How many shards it has.
    shards : iterable of tuple
        For each shard its native columns and its common ones, rows in their final order.

    Raises
    ------
    OSError
        If the disk fails; the partition then has no manifest.
    """
    folder = store / partition_dir(ipix)
    for path in (folder, store / ROWS_DIR, store / MANIFEST_DIR):
        path.mkdir(parents=True, exist_ok=True)
    entries, tables = [], []
    for index, (columns, common) in enumerate(shards, 1):
        place = ShardPlace(pattern.subset, pattern.order, ipix, index, total)
        image = shard_image(pattern.survey, columns, common, place, pattern.layout)
        file = shard_file(Shard(index, total))
        publish_bytes(folder / file, image)
        tables.append(table_of_image(image))
        entries.append(shard_entry(file, len(common["ra"]), image))
        # Before the next shard is brought together.
        del columns, common, image
    rows = dump_tables(tables)
    publish_bytes(store / ROWS_DIR / rows_file(ipix), rows)
    facts = {"size": len(rows), "sha256": hashlib.sha256(rows).hexdigest()}
    manifest = partition_manifest(pattern.order, ipix, entries, facts)
    publish_bytes(store / MANIFEST_DIR / manifest_file(ipix), manifest)


def has_partition(store: Path, ipix: int) -> bool:
    """
    Tell whether a partition is in a store, complete.

    Parameters
    ----------
    store : Path
        Folder of partitions.
    ipix : int
        Its pixel.

    Returns
    -------
    bool
        Whether it has a manifest.
    """
    return (store / MANIFEST_DIR / manifest_file(ipix)).is_file()


class Assembly:
    """
    Bring a subset together, in a folder of its own, from partitions that lie in stores.

    Files are given second names, not copied, where the file system can do that.

    Parameters
    ----------
    tree : Path
        The folder, which is made.
    pattern : Pattern
        What the partitions have in common.

    Attributes
    ----------
    n_bytes : int
        Size of the shards taken over so far.
    """

    def __init__(self, tree: Path, pattern: Pattern) -> None:
        self.tree, self._pattern = tree, pattern
        self.n_bytes = 0
        self._partitions: list[Partition] = []
        self._manifests: list[bytes] = []
        for folder in (tree, tree / MANIFEST_DIR, tree / ROWS_DIR):
            folder.mkdir()

    def adopt(self, store: Path, ipix: int) -> None:
        """
        Take over a partition.

        Parameters
        ----------
        store : Path
            A folder of partitions, or a subset.
        ipix : int
            Its pixel; greater than those before.
        """
        name = Path(MANIFEST_DIR) / manifest_file(ipix)
        manifest = (store / name).read_bytes()
        entries = parse_manifest(manifest, str(store / name))["shards"]
        folder = Path(partition_dir(ipix))
        (self.tree / folder).mkdir()
        files = [folder / entry["file"] for entry in entries]
        for file in (*files, Path(ROWS_DIR) / rows_file(ipix), name):
            link_file(store / file, self.tree / file)
        sync_folder(self.tree / folder)
        self._manifests.append(manifest)
        self._partitions.append(Partition(ipix, tuple(e["n_objects"] for e in entries)))
        self.n_bytes += sum(e["size"] for e in entries)

    def finish(
        self,
        *,
        parent: str = "",
        built: Mapping[str, Any] | None = None,
        expected: int | None = None,
    ) -> Root:
        """
        Write `astropile.json` and bring everything to the disk.

        Parameters
        ----------
        parent : str
            The snapshot that this one continues; empty for none.
        built : mapping, optional
            With what it was built.
        expected : int, optional
            How many objects all partitions have together.

        Returns
        -------
        Root
            What it says.

        Raises
        ------
        BuildError
            If they have more or less.
        """
        pattern = self._pattern
        n_objects = sum(sum(partition.n_objects) for partition in self._partitions)
        if expected is not None and n_objects != expected:
            told = f"{expected} objects were taken, {n_objects} written"
            raise BuildError(str(self.tree), f"{told}: this is a bug of the build")
        root = Root(
            pattern.survey,
            pattern.subset,
            pattern.order,
            pattern.layout,
            tuple(self._partitions),
            snapshot_of(self._manifests),
            parent=parent,
            built=dict(built or {}),
            files=tuple(self._files()),
        )
        publish_bytes(self.tree / ROOT_FILE, root_file(root))
        for folder in (MANIFEST_DIR, ROWS_DIR):
            sync_folder(self.tree / folder)
        return root

    def _files(self) -> Iterator[tuple[str, int, str]]:
        """List what is beside the partitions: the catalogue, and the lists of the build."""
        paths = [*(self.tree / CATALOG_DIR).rglob("*"), *(self.tree / MANIFEST_DIR).glob("*.jsonl")]
        for path in sorted(path for path in paths if path.is_file()):
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            yield path.relative_to(self.tree).as_posix(), path.stat().st_size, digest


@contextlib.contextmanager
def work_folder(final: Path, plan: Mapping[str, Any], *, shared: bool = False) -> Iterator[Path]:
    """
    Hold the folder that a subset is made in, for the plan it was begun with.

    The lock keeps apart what need not be done twice. Where it does not hold, as on some network
    file systems, nothing is lost: what is in the folder is only ever added to, under names that
    follow from the content.

    Parameters
    ----------
    final : Path
        The subset's final folder.
    plan : mapping
        What is to be made of what, as JSON values.
    shared : bool
        Hold it together with others that have the same plan; else alone.

    Yields
    ------
    Path
        A folder of this plan in it; all is removed if all went well, else kept for the next run.

    Raises
    ------
    BuildError
        If another run holds it, or an interrupted one had another plan.
    """
    recover(final)
    for left_over in final.parent.glob(f".{final.name}.build.*.done"):
        shutil.rmtree(left_over, ignore_errors=True)
    work = work_of(final)
    work.mkdir(exist_ok=True)
    with (work / "lock").open("w") as lock:
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        try:
            fcntl.flock(lock, kind | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise BuildError(str(final), f"another build of it runs ({work})") from error
        if not work.is_dir() or os.fstat(lock.fileno()).st_nlink == 0:
            raise BuildError(str(final), "another build of it has just ended")
        room = work / hashlib.sha256(dump_json(dict(plan))).hexdigest()[:16]
        _check_plan(final, work, plan)
        room.mkdir(exist_ok=True)
        (work / _REFUSED).unlink(missing_ok=True)
        try:
            yield room
        except AstroPileError:
            if _is_ours(work, lock.fileno()):
                (work / _REFUSED).touch()
            raise
        except OSError as error:
            if _is_ours(work, lock.fileno()):
                raise
            raise BuildError(str(final), "another build of it has just ended") from error
        done = work.with_name(f"{work.name}.{uuid.uuid4().hex[:8]}.done")
        with contextlib.suppress(FileNotFoundError):  # Another, where locks do not hold.
            work.rename(done)
    shutil.rmtree(done, ignore_errors=True)


def _is_ours(work: Path, lock: int) -> bool:
    """Tell whether the folder of a build is still the one that was begun with."""
    try:
        return (work / "lock").stat().st_ino == os.fstat(lock).st_ino
    except OSError:
        return False


def work_of(final: Path) -> Path:
    """
    Name the folder that a subset is made in.

    Parameters
    ----------
    final : Path
        The subset's final folder.

    Returns
    -------
    Path
        The folder, beside it.
    """
    return final.with_name(f".{final.name}.build")


def _check_plan(final: Path, work: Path, plan: Mapping[str, Any]) -> None:
    """Write the plan down, or compare it with that of the run before."""
    begun = work / "plan.json"
    if _is_finished(final, work):
        # The run before got as far as the final name, and no further.
        _empty(work)
    if not begun.exists():
        _write_once(begun, dump_json(dict(plan)))
    before = json.loads(begun.read_bytes())
    differing = sorted(key for key in {*plan, *before} if before.get(key) != plan.get(key))
    if differing and (work / _REFUSED).exists():
        # That run was not interrupted: it was told no, and this is another one.
        _empty(work)
        _write_once(begun, dump_json(dict(plan)))
    elif differing:
        was = ", ".join(
            f"{key} was another"
            if len(str(before.get(key))) == 64
            else f"{key} was {before.get(key)!r}"
            for key in differing
        )
        raise BuildError(
            str(final),
            f"an interrupted build had other parameters ({was}); build with those, "
            f"or remove {work}",
        )


def _is_finished(final: Path, work: Path) -> bool:
    """Tell whether what was made in a folder has its final name, but was not tidied up."""
    done, root = work / _DONE, final / ROOT_FILE
    if not done.exists():
        return False
    told = done.read_text()
    return not told or (root.is_file() and told == hashlib.sha256(root.read_bytes()).hexdigest())


def say_done(final: Path, tree: Path) -> None:
    """
    Note in the folder of a build that what was made is about to take its final name.

    Parameters
    ----------
    final : Path
        The subset's final folder.
    tree : Path
        The finished subset.
    """
    digest = hashlib.sha256((tree / ROOT_FILE).read_bytes()).hexdigest()
    publish_bytes(work_of(final) / _DONE, digest.encode())


def was_refused(final: Path) -> bool:
    """
    Tell whether the last run was not interrupted, but ended with an error of ours.

    Parameters
    ----------
    final : Path
        The subset's final folder.

    Returns
    -------
    bool
        Whether it was.
    """
    return (work_of(final) / _REFUSED).exists()


def _write_once(path: Path, content: bytes) -> None:
    """Write a file unless it is there by now."""
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    publish_bytes(aside, content)
    try:
        link_file(aside, path)
    except FileExistsError:
        pass
    finally:
        aside.unlink(missing_ok=True)


def _empty(work: Path) -> None:
    for path in work.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != "lock":
            path.unlink()


def recover(final: Path) -> None:
    """
    Bring back a subset that stepped aside for another that never came.

    Parameters
    ----------
    final : Path
        The subset's final folder.
    """
    replaced = final.with_name(f".{final.name}.replaced")
    if replaced.exists() and not final.exists():
        replaced.rename(final)
    elif replaced.exists():
        shutil.rmtree(replaced, ignore_errors=True)


def take_final_name(
    tree: Path, final: Path, *, overwrite: bool, keep: bool = False, durable: bool = True
) -> None:
    """
    Rename a finished subset; one that it replaces goes, or is kept as a snapshot.

    Where the system can exchange two names, the final one is there at every moment.

    Parameters
    ----------
    tree : Path
        The finished subset, on the same file system.
    final : Path
        Its final folder.
    overwrite : bool
        Replace a subset that is there.
    keep : bool
        Keep what it replaces, where its readers find it: see `astropile.snapshots`.
    durable : bool
        Bring everything to the disk first; False where that was done.

    Raises
    ------
    BuildError
        If there is one and it is not to be replaced, unless it is the same.
    """
    if durable:
        sync_all(tree)
    sync_folder(tree)
    if _rename(tree, final):
        sync_folder(final.parent)
        return
    mends = overwrite and not keep
    if not mends and _is_same(final / ROOT_FILE, tree / ROOT_FILE):
        # Made of the same by another: what was made here is the same, byte for byte.
        shutil.rmtree(tree, ignore_errors=True)
        return
    if not overwrite:
        raise BuildError(str(final), "it was made by another build meanwhile")
    if keep:
        keep_snapshot(final)
    if exchange(tree, final):
        shutil.rmtree(tree, ignore_errors=True)
    else:
        replaced = final.with_name(f".{final.name}.replaced")
        shutil.rmtree(replaced, ignore_errors=True)
        final.rename(replaced)
        try:
            tree.rename(final)
        except OSError:
            replaced.rename(final)
            raise
        shutil.rmtree(replaced, ignore_errors=True)
    sync_folder(final.parent)


def _is_same(one: Path, other: Path) -> bool:
    return one.is_file() and one.read_bytes() == other.read_bytes()


def _rename(tree: Path, final: Path) -> bool:
    """Rename a folder to a name that is free; tell whether it was."""
    try:
        # Renamed to an empty folder it would take its place, which nobody made here.
        if final.exists():
            return False
        tree.rename(final)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
    return True


def keep_snapshot(subset_path: Path) -> Path:
    """
    Give all files of a subset second names, where readers find it when it was replaced.

    Parameters
    ----------
    subset_path : Path
        Folder of the subset.

    Returns
    -------
    Path
        Folder of the snapshot.
    """
    kept = snapshot_dir(subset_path, read_root(subset_path).snapshot)
    if kept.is_dir():
        return kept
    kept.parent.mkdir(parents=True, exist_ok=True)
    aside = kept.with_name(f".{uuid.uuid4().hex}")
    try:
        link_tree(subset_path, aside)
        if not _rename(aside, kept):
            shutil.rmtree(aside)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    for folder in (kept.parent, kept.parent.parent, subset_path.parent):
        sync_folder(folder)
    return kept


def link_tree(source: Path, target: Path) -> None:
    """
    Make a second tree of the same files.

    Parameters
    ----------
    source : Path
        A subset.
    target : Path
        The folder to make; what is hidden in `source` is left out.
    """
    target.mkdir()
    for path in sorted(source.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            link_tree(path, target / path.name)
        else:
            link_file(path, target / path.name)
    sync_folder(target)
