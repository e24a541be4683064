"""
The files of a subset, as its manifests tell them: names, sizes, hashes.

One partition is in memory at a time. What comes from elsewhere is believed only where one hash
leads to the next: `astropile.json` states the snapshot, which is the hash of the manifests, which
state the hashes of the files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from astropile.errors import FormatError
from astropile.layout import (
    CATALOG_DIR,
    MANIFEST_DIR,
    ROOT_FILE,
    ROWS_DIR,
    Shard,
    check_path,
    manifest_file,
    parse_shard_file,
    partition_dir,
    rows_file,
)
from astropile.manifest import Root, parse_manifest

LISTS: Final = (f"{MANIFEST_DIR}/inputs.jsonl", f"{MANIFEST_DIR}/rejected.jsonl")


@dataclass(frozen=True)
class FileFacts:
    """
    What is known of a file before it is looked at.

    Parameters
    ----------
    path : str
        Its name, from the subset's folder on.
    size : int or None
        Its size in bytes; None where nobody says.
    sha256 : str
        Its hash, hexadecimal; empty where nobody says.
    block_nbytes : int
        Size of its blocks; 0 where they are not hashed.
    blocks : tuple of str
        The hash of each block.
    n_objects : int
        Objects it holds, where it is a shard.
    """

    path: str
    size: int | None
    sha256: str = ""
    block_nbytes: int = 0
    blocks: tuple[str, ...] = ()
    n_objects: int = 0

    def span(self, block: int) -> tuple[int, int]:
        """
        Give where a block lies.

        Parameters
        ----------
        block : int
            Its number, from 0.

        Returns
        -------
        tuple of int
            First byte, and one past the last.
        """
        assert self.size is not None, "blocks are of files whose size is known"
        start = block * self.block_nbytes
        return start, min(start + self.block_nbytes, self.size)


def manifest_path(ipix: int) -> str:
    """
    Name the manifest of a partition, from the subset's folder on.

    Parameters
    ----------
    ipix : int
        Pixel of the partition.

    Returns
    -------
    str
        The file.
    """
    return f"{MANIFEST_DIR}/{manifest_file(ipix)}"


def partition_files(root: Root, number: int, content: bytes, where: str) -> list[FileFacts]:
    """
    List the files of a partition.

    Parameters
    ----------
    root : Root
        What the subset says of itself.
    number : int
        Which of its partitions, from 0.
    content : bytes
        The partition's manifest.
    where : str
        Its name, for messages.

    Returns
    -------
    list of FileFacts
        The shards in order, then the row tables.

    Raises
    ------
    FormatError
        If the manifest breaks the format, or is of another partition or another snapshot.
    """
    partition = root.partitions[number]
    manifest = parse_manifest(content, where)
    for name, wanted in (("order", root.order), ("healpix", partition.ipix)):
        if manifest[name] != wanted:
            raise FormatError(where, f"{name} {wanted}", f"{manifest[name]}")
    total = len(partition.n_objects)
    found = [(parse_shard_file(e["file"]), e["n_objects"]) for e in manifest["shards"]]
    wanted_shards = [(Shard(i, total), n) for i, n in enumerate(partition.n_objects, 1)]
    if found != wanted_shards:
        said = f"{total} shards of {sum(partition.n_objects)} objects as {ROOT_FILE} says"
        raise FormatError(where, said, "others: it is of another snapshot, or damaged")
    folder = partition_dir(partition.ipix)
    files = [_shard(folder, entry, manifest["block_size"]) for entry in manifest["shards"]]
    rows = manifest["rows"]
    return [
        *files,
        FileFacts(f"{ROWS_DIR}/{rows_file(partition.ipix)}", rows["size"], rows["sha256"]),
    ]


def _shard(folder: str, entry: dict[str, Any], block_nbytes: int) -> FileFacts:
    return FileFacts(
        check_path(f"{folder}/{entry['file']}"),
        entry["size"],
        entry["sha256"],
        block_nbytes,
        tuple(entry["blocks"]),
        entry["n_objects"],
    )


def root_files(root: Root, where: str) -> list[FileFacts]:
    """
    List the files that `astropile.json` itself describes: the catalogue and the lists.

    Parameters
    ----------
    root : Root
        What the subset says of itself.
    where : str
        The subset, for messages.

    Returns
    -------
    list of FileFacts
        They; empty in trees of format 1.0.

    Raises
    ------
    FormatError
        If a name is not that of such a file, or stands there twice.
    """
    seen: set[str] = set()
    for path, size, _ in root.files:
        below, _, name = path.partition("/")
        is_list = below == MANIFEST_DIR and name.endswith(".jsonl") and "/" not in name
        if not (is_list or (below == CATALOG_DIR and name)) or path.lower() in seen or size < 0:
            said = f"{path!r}, {size} bytes"
            wanted = "files of the catalogue and lists of the build, each once"
            raise FormatError(f"{where}/{ROOT_FILE}", wanted, said)
        seen.add(path.lower())
    return [FileFacts(path, size, sha256) for path, size, sha256 in root.files]
