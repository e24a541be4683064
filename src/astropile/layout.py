"""
Names of the folders and files of a tree: made and parsed here only.

::

    <data_dir>/README.md
    <data_dir>/<subset>/astropile.json
    <data_dir>/<subset>/manifest/healpix=<ipix>.json
    <data_dir>/<subset>/catalog/...
    <data_dir>/<subset>/rows/healpix=<ipix>.arrow
    <data_dir>/<subset>/healpix=<ipix>/<i>-of-<n>.hdf5
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT_FILE: Final = "astropile.json"
MANIFEST_DIR: Final = "manifest"
CATALOG_DIR: Final = "catalog"
ROWS_DIR: Final = "rows"
README_FILE: Final = "README.md"
REJECTED_FILE: Final = "rejected.jsonl"
INPUTS_FILE: Final = "inputs.jsonl"
SNAPSHOTS_DIR: Final = ".snapshots"
"""Beside the subsets: what they were before, each in a folder named by its snapshot."""

SUFFIXES: Final = (".hdf5", ".hdf", ".h5")
"""Suffixes read; the first is the one written."""

MAX_DEPTH: Final = 8
"""A path inside a subset has at most so many words."""

_WORD = re.compile(r"[A-Za-z0-9._=+-]{1,255}")
_DEVICES: Final = frozenset(
    {"con", "prn", "aux", "nul", *(f"{kind}{n}" for kind in ("com", "lpt") for n in range(10))}
)
_PARTITION = re.compile(r"healpix=(\d+)")
_SHARD = re.compile(r"(\d+)-of-(\d+)\.(?:hdf5|hdf|h5)")
_SUBSET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


def check_path(path: str) -> str:
    """
    Return `path` if it can be the name of a file inside a subset, on any system.

    Parameters
    ----------
    path : str
        Words of letters, digits and ``. _ = + -`` with slashes between, from the subset's folder
        on.

    Returns
    -------
    str
        The same path.

    Raises
    ------
    ValueError
        If it has another character, more than `MAX_DEPTH` words, an empty one, one of more than
        255 bytes, one that ends with a dot (as ``.`` and ``..`` do), or one that is a device of
        Windows.

    Examples
    --------
    >>> check_path("healpix=12/001-of-001.hdf5")
    'healpix=12/001-of-001.hdf5'
    """
    words = path.split("/")
    if len(words) > MAX_DEPTH or any(
        not _WORD.fullmatch(word)
        or word.endswith(".")
        or word.partition(".")[0].lower() in _DEVICES
        for word in words
    ):
        raise ValueError(
            f"a file inside a subset is named with letters, digits and . _ = + -, at most "
            f"{MAX_DEPTH} words with slashes between, not {path[:300]!r}"
        )
    return path


@dataclass(frozen=True, order=True)
class Shard:
    """
    One file of a partition.

    Parameters
    ----------
    index : int
        Number of the shard, from 1.
    total : int
        Number of shards of the partition.

    Raises
    ------
    ValueError
        If `index` is not in 1 to `total`.
    """

    index: int
    total: int

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.total:
            raise ValueError(f"shard {self.index} of {self.total} cannot be")


def check_subset(name: str) -> str:
    """
    Return `name` if it can be the folder of a subset.

    Parameters
    ----------
    name : str
        Name to check.

    Returns
    -------
    str
        The same name.

    Raises
    ------
    ValueError
        If it is not made of letters, digits and ``. _ + -``, starting with a letter or digit.
    """
    if not _SUBSET.fullmatch(name) or len(name) > 100:
        raise ValueError(
            f"a subset is named with letters, digits and . _ + -, at most 100 of them, not {name!r}"
        )
    return name


def partition_dir(ipix: int) -> str:
    """
    Name the folder of a partition.

    Parameters
    ----------
    ipix : int
        Pixel number at the tree's order.

    Returns
    -------
    str
        The folder's name.

    Examples
    --------
    >>> partition_dir(9999)
    'healpix=9999'
    """
    return f"healpix={ipix:d}"


def parse_partition_dir(name: str) -> int | None:
    """
    Read the pixel number from the name of a partition's folder.

    Parameters
    ----------
    name : str
        Name of a folder; zero padding is accepted.

    Returns
    -------
    int or None
        The pixel number, None if the folder is not a partition.

    Examples
    --------
    >>> parse_partition_dir("healpix=0913"), parse_partition_dir("catalog")
    (913, None)
    """
    found = _PARTITION.fullmatch(name)
    return int(found[1]) if found else None


def shard_file(shard: Shard) -> str:
    """
    Name the file of a shard.

    Parameters
    ----------
    shard : Shard
        Which of how many.

    Returns
    -------
    str
        The file's name.

    Examples
    --------
    >>> shard_file(Shard(1, 2))
    '001-of-002.hdf5'
    """
    return f"{shard.index:03d}-of-{shard.total:03d}{SUFFIXES[0]}"


def parse_shard_file(name: str) -> Shard | None:
    """
    Read which shard a file is from its name.

    Parameters
    ----------
    name : str
        Name of a file; any of the suffixes read is accepted.

    Returns
    -------
    Shard or None
        The shard, None if the file is not one.

    Examples
    --------
    >>> parse_shard_file("002-of-002.hdf")
    Shard(index=2, total=2)
    """
    found = _SHARD.fullmatch(name)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        return None
    return Shard(int(found[1]), int(found[2]))


def manifest_file(ipix: int) -> str:
    """
    Name the manifest of a partition.

    Parameters
    ----------
    ipix : int
        Pixel number at the tree's order.

    Returns
    -------
    str
        The file's name.
    """
    return f"{partition_dir(ipix)}.json"


def rows_file(ipix: int) -> str:
    """
    Name the file of a partition's row tables.

    Parameters
    ----------
    ipix : int
        Pixel number at the tree's order.

    Returns
    -------
    str
        The file's name.
    """
    return f"{partition_dir(ipix)}.arrow"


def snapshot_dir(subset_path: Path, snapshot: str = "") -> Path:
    """
    Name the folder that a snapshot of a subset is kept in when another took its place.

    Parameters
    ----------
    subset_path : Path
        Folder of the subset.
    snapshot : str
        Which; empty for the folder of all of them.

    Returns
    -------
    Path
        The folder, hidden beside the subset.

    Examples
    --------
    >>> snapshot_dir(Path("hsc/main"), "5e1f").as_posix()
    'hsc/.snapshots/main/5e1f'
    """
    return subset_path.parent / SNAPSHOTS_DIR / subset_path.name / snapshot
