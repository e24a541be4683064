"""The files of an open subset: which rows each holds, and what finds it by its name."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from astropile.errors import FormatError
from astropile.layout import (
    MANIFEST_DIR,
    Shard,
    manifest_file,
    parse_partition_dir,
    parse_shard_file,
    partition_dir,
    shard_file,
)
from astropile.manifest import parse_manifest
from astropile.store.protocol import RemotePath, TreePath


@dataclass(frozen=True)
class CatalogShard:
    """
    One file of a catalog.

    Parameters
    ----------
    ipix : int
        Pixel of its partition.
    start : int
        Row number of its first object.
    n_objects : int
        Objects it holds.
    part : Shard
        Which of the partition's shards it is.
    names : ShardNames
        What finds the file.
    """

    ipix: int
    start: int
    n_objects: int
    part: Shard
    names: ShardNames = field(repr=False, compare=False)

    @cached_property
    def path(self) -> Path:
        """The file, by the name it has there."""
        found: Path = self.names.find(self.ipix, self.part)
        return found


class ShardNames:
    """
    Find the files of a subset by the names that they have (rules T3 and T4).

    A name as trees are written is tried first; only where there is no such file is it looked
    whether the folder has zero padding or the file another suffix.

    Parameters
    ----------
    folder : Path or RemotePath
        Folder of the subset.

    Attributes
    ----------
    looked : bool
        For a store, where to ask for a name takes as long as to read: whether names are looked
        up rather than taken for granted. Set it when a file was not there.
    """

    def __init__(self, folder: TreePath) -> None:
        self._folder = folder
        self._files: dict[int, dict[Shard, str]] = {}
        self.looked = not isinstance(folder, RemotePath)

    def find(self, ipix: int, part: Shard) -> Any:
        """
        Give the path of a shard.

        Parameters
        ----------
        ipix : int
            Pixel of its partition.
        part : Shard
            Which shard.

        Returns
        -------
        Path or RemotePath
            The file; where there is none of any name, the one it should have.
        """
        path = self._folder / partition_dir(ipix) / shard_file(part)
        if not self.looked or (isinstance(path, Path) and path.exists()):
            return path
        files = self._files.get(ipix)
        if files is None:
            files = self._files[ipix] = {}
            for name in self._names_of(ipix):
                parsed = parse_shard_file(name)
                if parsed is not None:
                    files.setdefault(parsed, name)
        folder = self._folder / self._dirs.get(ipix, partition_dir(ipix))
        return folder / files.get(part, shard_file(part))

    def _names_of(self, ipix: int) -> list[str]:
        """Name the files of a partition: those there, or in a store those of its manifest."""
        if not isinstance(self._folder, RemotePath):
            return _names_in(self._folder / self._dirs.get(ipix, partition_dir(ipix)))
        path = self._folder / MANIFEST_DIR / manifest_file(ipix)
        try:
            manifest = parse_manifest(path.read_bytes(), str(path))
        except (OSError, FormatError):
            return []
        return [entry["file"] for entry in manifest["shards"]]

    @cached_property
    def _dirs(self) -> dict[int, str]:
        """Names of the partitions' folders that are there; the one as written where two are."""
        if isinstance(self._folder, RemotePath):
            found = list(self._folder.store.folders(self._folder.key) or ())
        else:
            found = _names_in(self._folder)
        dirs: dict[int, str] = {}
        for name in found:
            ipix = parse_partition_dir(name)
            if ipix is not None and dirs.get(ipix) != partition_dir(ipix):
                dirs[ipix] = name
        return dirs


def _names_in(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir())
    except OSError:
        return []
