"""
Write a subset: in a folder aside, partition by partition, then under its final name.

Knows nothing of where the objects come from. Memory: one shard, twice.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from numpy.typing import NDArray

from astropile.errors import AstroPileError, BuildError
from astropile.hdf5.rows import dump_tables, table_of_image
from astropile.hdf5.writer import ShardPlace, shard_image
from astropile.layout import (
    MANIFEST_DIR,
    ROOT_FILE,
    ROWS_DIR,
    Shard,
    manifest_file,
    partition_dir,
    rows_file,
    shard_file,
)
from astropile.manifest import (
    Partition,
    Root,
    dump_json,
    parse_manifest,
    partition_manifest,
    root_file,
    shard_entry,
    snapshot_of,
)
from astropile.publish import exchange, publish_bytes, sync_all, sync_folder
from astropile.schema import Ragged, Survey

_DONE: Final = "done"
"""In the folder of a build: what was made is whole and about to take its final name."""

_REFUSED: Final = "refused"
"""In the folder of a build: the run before was not interrupted but ended with an error of ours."""


class SubsetWriter:
    """
    Write the partitions of a subset and what `astropile.json` says of them.

    Parameters
    ----------
    tree : Path
        Folder to write in.
    survey : Survey
        The survey, its tree's dimensions resolved.
    subset : str
        Name the subset will have.
    order : int
        HEALPix order of the partitions.
    layout : {"compact", "fast"}
        Layout of the shards.
    durable : bool
        Bring each partition to the disk before the next: then an interrupted run's partitions
        can be taken over. If not, `take_final_name` brings all of them there at once.

    Attributes
    ----------
    n_bytes : int
        Size of the shards written or adopted so far.
    """

    def __init__(
        self,
        tree: Path,
        survey: Survey,
        subset: str,
        order: int,
        layout: str,
        *,
        durable: bool = True,
    ) -> None:
        self._durable = durable
        self.tree, self.survey, self.subset = tree, survey, subset
        self.order, self.layout = order, layout
        self.n_bytes = 0
        self._partitions: list[Partition] = []
        self._manifests: list[bytes] = []
        for folder in (tree, tree / MANIFEST_DIR, tree / ROWS_DIR):
            folder.mkdir(exist_ok=True)

    def write_partition(
        self,
        ipix: int,
        total: int,
        shards: Iterable[tuple[Mapping[str, NDArray[Any] | Ragged], Mapping[str, NDArray[Any]]]],
    ) -> None:
        """
        Write a partition: its shards, their row tables, then its manifest.

        Parameters
        ----------
        ipix : int
            Its pixel; greater than those written before.
        total : int
            How many shards it has.
        shards : iterable of tuple
            For each shard its native columns and its common ones, rows in their final order.
        """
        folder = self.tree / partition_dir(ipix)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        entries, tables = [], []
        for index, (columns, common) in enumerate(shards, 1):
            place = ShardPlace(self.subset, self.order, ipix, index, total)
            image = shard_image(self.survey, columns, common, place, self.layout)
            file = shard_file(Shard(index, total))
            publish_bytes(folder / file, image, durable=self._durable)
            tables.append(table_of_image(image))
            entries.append(shard_entry(file, len(common["ra"]), image))
            # Before the next shard is brought together.
            del columns, common, image
        rows = dump_tables(tables)
        publish_bytes(self.tree / ROWS_DIR / rows_file(ipix), rows, durable=self._durable)
        facts = {"size": len(rows), "sha256": hashlib.sha256(rows).hexdigest()}
        manifest = partition_manifest(self.order, ipix, entries, facts)
        path = self.tree / MANIFEST_DIR / manifest_file(ipix)
        publish_bytes(path, manifest, durable=self._durable)
        self._note(ipix, entries, manifest)

    def has_partition(self, ipix: int) -> bool:
        """
        Take over a partition that an interrupted run has finished.

        Parameters
        ----------
        ipix : int
            Its pixel; greater than those written before.

        Returns
        -------
        bool
            Whether there was one.
        """
        path = self.tree / MANIFEST_DIR / manifest_file(ipix)
        if not path.is_file():
            return False
        manifest = path.read_bytes()
        self._note(ipix, parse_manifest(manifest, str(path))["shards"], manifest)
        return True

    def _note(self, ipix: int, entries: list[dict[str, Any]], manifest: bytes) -> None:
        self._manifests.append(manifest)
        self._partitions.append(Partition(ipix, tuple(e["n_objects"] for e in entries)))
        self.n_bytes += sum(e["size"] for e in entries)

    def finish(self) -> Root:
        """
        Write `astropile.json`.

        Returns
        -------
        Root
            What it says.
        """
        root = Root(
            self.survey,
            self.subset,
            self.order,
            self.layout,
            tuple(self._partitions),
            snapshot_of(self._manifests),
        )
        publish_bytes(self.tree / ROOT_FILE, root_file(root))
        return root


@contextlib.contextmanager
def work_folder(final: Path, plan: Mapping[str, Any]) -> Iterator[Path]:
    """
    Hold the folder that a subset is made in: alone, and only for the plan it was begun with.

    Parameters
    ----------
    final : Path
        The subset's final folder.
    plan : mapping
        What is to be made of what, as JSON values.

    Yields
    ------
    Path
        The folder; it is removed if all went well, else kept for the next run.

    Raises
    ------
    BuildError
        If another run holds it, or an interrupted one had another plan.
    """
    recover(final)
    for left_over in final.parent.glob(f".{final.name}.build.*.done"):
        shutil.rmtree(left_over, ignore_errors=True)
    work = final.with_name(f".{final.name}.build")
    work.mkdir(exist_ok=True)
    with (work / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BuildError(str(final), f"another build of it runs ({work})") from error
        if not work.is_dir() or os.fstat(lock.fileno()).st_nlink == 0:
            raise BuildError(str(final), "another build of it has just ended")
        if (work / _DONE).exists() and not (work / "tree").exists():
            # The run before got as far as the final name, and no further.
            _empty(work)
        begun = work / "plan.json"
        if begun.exists():
            before = json.loads(begun.read_bytes())
            differing = sorted(key for key in {*plan, *before} if before.get(key) != plan.get(key))
            if differing and (work / _REFUSED).exists():
                # That run was not interrupted: it was told no, and this is another one.
                _empty(work)
                publish_bytes(begun, dump_json(dict(plan)))
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
        else:
            publish_bytes(begun, dump_json(dict(plan)))
        (work / _REFUSED).unlink(missing_ok=True)
        try:
            yield work
        except AstroPileError:
            (work / _REFUSED).touch()
            raise
        done = work.with_name(f"{work.name}.{uuid.uuid4().hex[:8]}.done")
        work.rename(done)
    shutil.rmtree(done, ignore_errors=True)


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


def take_final_name(tree: Path, final: Path, *, overwrite: bool) -> None:
    """
    Rename a finished subset; one that it replaces goes.

    Where the system can exchange two names, the final one is there at every moment.

    Parameters
    ----------
    tree : Path
        The finished subset, in the folder that `work_folder` gave.
    final : Path
        Its final folder, on the same file system.
    overwrite : bool
        Replace a subset that is there.

    Raises
    ------
    BuildError
        If there is one and it is not to be replaced.
    """
    sync_all(tree)
    publish_bytes(tree.parent / _DONE, b"")
    if not final.exists():
        tree.rename(final)
    elif not overwrite:
        raise BuildError(str(final), "it was made by another build meanwhile")
    elif exchange(tree, final):
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
