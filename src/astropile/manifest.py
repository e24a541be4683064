"""
What a subset says of itself: `astropile.json` and the manifests of its partitions.

`docs/format.md` section 6.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from astropile._version import __version__
from astropile.errors import FormatError, FormatVersionError, TreeNotFoundError
from astropile.facts import survey_from_json, survey_to_json
from astropile.healpix import check_order, n_pixels
from astropile.layout import (
    MANIFEST_DIR,
    ROOT_FILE,
    check_path,
    manifest_file,
    parse_shard_file,
)
from astropile.names import FORMAT_VERSION
from astropile.schema import Survey
from astropile.store.protocol import RemotePath, TreePath

BLOCK_NBYTES: Final = 4 * 2**20
"""Files are hashed whole and by blocks of this size."""

MAX_ROOT_NBYTES: Final = 256 * 2**20

MAX_MANIFEST_NBYTES: Final = 64 * 2**20
"""The manifest of a partition is refused where it is larger."""

MAX_BLOCK_NBYTES: Final = 64 * 2**20
"""Blocks are held in memory while they are hashed: larger ones are refused."""

MAX_NUMBER: Final = 2**53
"""Sizes and counts are below it: every reader of JSON keeps them whole."""

_SHA256: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Partition:
    """
    One partition of a subset.

    Parameters
    ----------
    ipix : int
        Pixel number at the tree's order.
    n_objects : tuple of int
        Objects of each shard.
    """

    ipix: int
    n_objects: tuple[int, ...]


@dataclass(frozen=True)
class Root:
    """
    The facts of a subset.

    Parameters
    ----------
    survey : Survey
        The survey, as the tree tells it.
    subset : str
        Name of the subset.
    order : int
        HEALPix order of the partitions.
    layout : str
        ``compact`` or ``fast``.
    partitions : tuple of Partition
        Sorted by pixel number.
    snapshot : str
        SHA-256 over the partitions' manifests.
    state : tuple of int
        What told the file that it was read from from others, as `file_state` gives it; empty
        where it was read from no file of this machine.
    parent : str
        The snapshot that this one continues; empty where it continues none.
    built : mapping
        With what it was built: see `docs/format.md`; empty in trees of format 1.0.
    files : tuple of (str, int, str)
        Path, size and SHA-256 of every file that no partition's manifest describes: the
        catalogue and the lists of the build; empty in trees of format 1.0.
    """

    survey: Survey
    subset: str
    order: int
    layout: str
    partitions: tuple[Partition, ...]
    snapshot: str
    state: tuple[int, ...] = field(default=(), compare=False, repr=False)
    parent: str = ""
    built: Mapping[str, Any] = field(default_factory=dict, repr=False)
    files: tuple[tuple[str, int, str], ...] = field(default=(), repr=False)

    @property
    def n_objects(self) -> int:
        """Objects of the subset."""
        return sum(sum(partition.n_objects) for partition in self.partitions)


def dump_json(values: Any) -> bytes:
    """
    Write JSON the one way that the tree's files are written.

    Parameters
    ----------
    values : object
        Dicts, lists, strings, finite numbers, booleans, None.

    Returns
    -------
    bytes
        UTF-8, ending in a newline.
    """
    text = json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False, sort_keys=False)
    return text.encode() + b"\n"


def shard_entry(file: str, n_objects: int, content: bytes | memoryview) -> dict[str, Any]:
    """
    Describe a shard for its partition's manifest.

    Parameters
    ----------
    file : str
        Name of the file.
    n_objects : int
        Objects it holds.
    content : bytes-like
        The file.

    Returns
    -------
    dict
        Name, size, objects, SHA-256 of the whole and of each block.
    """
    view = memoryview(content)
    blocks = [
        hashlib.sha256(view[start : start + BLOCK_NBYTES]).hexdigest()
        for start in range(0, len(view), BLOCK_NBYTES)
    ]
    return {
        "file": file,
        "size": len(view),
        "n_objects": n_objects,
        "sha256": hashlib.sha256(view).hexdigest(),
        "blocks": blocks,
    }


def partition_manifest(
    order: int, ipix: int, shards: Iterable[Mapping[str, Any]], rows: Mapping[str, Any]
) -> bytes:
    """
    Write the manifest of a partition.

    Parameters
    ----------
    order, ipix : int
        HEALPix order of the tree and pixel of the partition.
    shards : iterable of mapping
        What `shard_entry` gave, in order.
    rows : mapping
        ``size`` and ``sha256`` of the row tables.

    Returns
    -------
    bytes
        The file.
    """
    return dump_json(
        {
            "format": FORMAT_VERSION,
            "order": order,
            "healpix": ipix,
            "block_size": BLOCK_NBYTES,
            "rows": dict(rows),
            "shards": list(shards),
        }
    )


def root_file(root: Root) -> bytes:
    """
    Write `astropile.json`.

    Parameters
    ----------
    root : Root
        The facts.

    Returns
    -------
    bytes
        The file.
    """
    return dump_json(
        {
            "format": FORMAT_VERSION,
            "written_by": f"astropile {__version__}",
            "subset": root.subset,
            "order": root.order,
            "scheme": "nested",
            "layout": root.layout,
            "n_objects": root.n_objects,
            "snapshot": root.snapshot,
            "partitions": [[p.ipix, list(p.n_objects)] for p in root.partitions],
            "parent": root.parent or None,
            "built": dict(root.built),
            "files": [list(entry) for entry in root.files],
            "survey": survey_to_json(root.survey),
        }
    )


def snapshot_of(manifests: Iterable[bytes]) -> str:
    """
    Hash the partitions' manifests into one.

    Parameters
    ----------
    manifests : iterable of bytes
        In order of the partitions' pixels.

    Returns
    -------
    str
        SHA-256, hexadecimal.
    """
    digest = hashlib.sha256()
    for manifest in manifests:
        digest.update(hashlib.sha256(manifest).digest())
    return digest.hexdigest()


def read_json(path: TreePath, limit: int = MAX_ROOT_NBYTES) -> Any:
    """
    Read a JSON file of bounded size, refusing what strict JSON does not have.

    Parameters
    ----------
    path : Path or RemotePath
        The file.
    limit : int
        Largest size accepted, in bytes.

    Returns
    -------
    object
        Its values.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FormatError
        If it is too large, not JSON, has a key twice, or numbers that are not finite.
    """
    if isinstance(path, RemotePath):
        return parse_json(path.read_bytes(limit), str(path))
    size = path.stat().st_size
    if size > limit:
        raise FormatError(str(path), f"at most {limit} bytes", f"{size} bytes")
    return parse_json(path.read_bytes(), str(path))


def parse_json(content: bytes, where: str) -> Any:
    """
    Read JSON, refusing what strict JSON does not have.

    Parameters
    ----------
    content : bytes
        The file.
    where : str
        Its name, for messages.

    Returns
    -------
    object
        Its values.

    Raises
    ------
    FormatError
        If it is not JSON, has a key twice, or numbers that are not finite.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(pairs)
        if len(values) != len(pairs):
            raise ValueError("a key stands there twice")
        return values

    def finite(text: str) -> float:
        number = float(text)
        if not math.isfinite(number):
            raise ValueError(f"{text[:30]} is not a finite number of JSON")
        return number

    try:
        return json.loads(
            content, object_pairs_hook=once, parse_constant=finite, parse_float=finite
        )
    except (ValueError, RecursionError) as error:
        raise FormatError(where, "JSON", str(error)) from error


def is_sha256(value: Any) -> bool:
    """
    Tell whether a value is a SHA-256 as the format writes it.

    Parameters
    ----------
    value : object
        Anything.

    Returns
    -------
    bool
        True for 64 hexadecimal digits, small letters.
    """
    return isinstance(value, str) and _SHA256.fullmatch(value) is not None


def check_version(version: Any, where: str) -> None:
    """
    Refuse a version of the format whose major number is not known.

    Parameters
    ----------
    version : object
        What a file states: ``major.minor``.
    where : str
        The file, for messages.

    Raises
    ------
    FormatVersionError
        If it is not known, or no version at all.
    """
    major = FORMAT_VERSION.partition(".")[0]
    if not isinstance(version, str) or version.partition(".")[0] != major:
        raise FormatVersionError(where, f"format {FORMAT_VERSION}", _shown(version))


def file_state(path: Path) -> tuple[int, ...]:
    """
    Give what tells a file from another that takes its name.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    tuple of int
        Size, time of the last change, inode, device; empty if there is no such file.
    """
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_size, found.st_mtime_ns, found.st_ino, found.st_dev


def read_root(subset_path: TreePath) -> Root:
    """
    Read `astropile.json`.

    Parameters
    ----------
    subset_path : Path or RemotePath
        Folder of the subset.

    Returns
    -------
    Root
        The facts.

    Raises
    ------
    TreeNotFoundError
        If there is none.
    FormatError
        If it breaks the format; `FormatVersionError` if its version is not known.
    """
    path = subset_path / ROOT_FILE
    # Looked at before it is read: were it replaced in between, it would be read once more.
    state = file_state(path) if isinstance(path, Path) else ()
    try:
        facts = read_json(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise TreeNotFoundError(str(subset_path), f"it has no {ROOT_FILE}") from error
    return _root(facts, str(path), state)


def parse_root(content: bytes, where: str) -> Root:
    """
    Read `astropile.json` from its bytes.

    Parameters
    ----------
    content : bytes
        The file.
    where : str
        Its name, for messages.

    Returns
    -------
    Root
        The facts.

    Raises
    ------
    FormatError
        If it breaks the format; `FormatVersionError` if its version is not known.
    """
    if len(content) > MAX_ROOT_NBYTES:
        raise FormatError(where, f"at most {MAX_ROOT_NBYTES} bytes", "more")
    return _root(parse_json(content, where), where, ())


def _root(facts: Any, where: str, state: tuple[int, ...]) -> Root:
    check_version(facts.get("format", "") if isinstance(facts, dict) else "", where)
    try:
        order = check_order(_whole(facts["order"]))
        partitions = tuple(
            Partition(_whole(ipix), tuple(_whole(n) for n in counts))
            for ipix, counts in facts["partitions"]
        )
        root = Root(
            survey=survey_from_json(facts["survey"], where),
            subset=str(facts["subset"]),
            order=order,
            layout=str(facts["layout"]),
            partitions=partitions,
            snapshot=str(facts["snapshot"]),
            state=state,
            parent=str(facts.get("parent") or ""),
            built=dict(facts.get("built") or {}),
            files=tuple(_file_entry(entry) for entry in facts.get("files") or ()),
        )
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(where, "the facts of a subset", f"{type(error).__name__}: {error}") from (
            error
        )
    pixels = [partition.ipix for partition in partitions]
    if pixels != sorted(set(pixels)) or any(not 0 <= p < n_pixels(order) for p in pixels):
        raise FormatError(where, f"pixels of order {order}, sorted, each once", "others")
    if any(not p.n_objects or min(p.n_objects) < 1 for p in partitions):
        raise FormatError(where, "at least one object in every shard", "none in some")
    if facts.get("n_objects") != root.n_objects:
        raise FormatError(
            where, f"n_objects {root.n_objects}, the sum of the shards", f"{facts.get('n_objects')}"
        )
    return root


def read_manifest(subset_path: Path, ipix: int) -> dict[str, Any]:
    """
    Read the manifest of a partition.

    Parameters
    ----------
    subset_path : Path
        Folder of the subset.
    ipix : int
        Pixel of the partition.

    Returns
    -------
    dict
        What `partition_manifest` wrote.

    Raises
    ------
    FormatError
        If it is missing or breaks the format; `FormatVersionError` if its version is not known.
    """
    path = subset_path / MANIFEST_DIR / manifest_file(ipix)
    if not path.is_file():
        raise FormatError(str(path), "the manifest of a partition", "no such file")
    with path.open("rb") as file:
        return parse_manifest(file.read(MAX_MANIFEST_NBYTES + 1), str(path))


def parse_manifest(content: bytes, where: str) -> dict[str, Any]:
    """
    Read the manifest of a partition.

    Parameters
    ----------
    content : bytes
        The file.
    where : str
        Its name, for messages.

    Returns
    -------
    dict
        What `partition_manifest` wrote: every value there and of its type.

    Raises
    ------
    FormatError
        If it breaks the format; `FormatVersionError` if its version is not known.
    """
    if len(content) > MAX_MANIFEST_NBYTES:
        raise FormatError(where, f"at most {MAX_MANIFEST_NBYTES} bytes", "more")
    values = parse_json(content, where)
    if not isinstance(values, dict):
        raise FormatError(where, "the manifest of a partition", type(values).__name__)
    check_version(values.get("format"), where)
    for name in ("order", "healpix"):
        _check_number(values, name, where)
    _check_number(values, "block_size", where, least=1, most=MAX_BLOCK_NBYTES)
    rows, shards = values.get("rows"), values.get("shards")
    if not isinstance(rows, dict) or not isinstance(shards, list):
        raise FormatError(where, "rows (an object) and shards (a list)", "something else")
    _check_number(rows, "size", f"{where}, rows")
    _check_hash(rows.get("sha256"), f"{where}, rows")
    names: set[str] = set()
    for number, entry in enumerate(shards, 1):
        inside = f"{where}, shard {number}"
        if not isinstance(entry, dict) or not isinstance(entry.get("file"), str):
            raise FormatError(inside, "an object that names its file", "something else")
        _check_file(entry["file"], names, inside)
        _check_number(entry, "size", inside)
        _check_number(entry, "n_objects", inside, least=1)
        _check_hash(entry.get("sha256"), inside)
        blocks = entry.get("blocks")
        n_blocks = -(-entry["size"] // values["block_size"])
        if not isinstance(blocks, list) or len(blocks) != n_blocks:
            raise FormatError(inside, f"the hashes of {n_blocks} blocks", "others")
        for block in blocks:
            _check_hash(block, f"{inside}, blocks")
    return values


def _file_entry(entry: Any) -> tuple[str, int, str]:
    """Give path, size and SHA-256 of a file beside the partitions."""
    path, size, digest = entry
    if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
        raise ValueError(f"a SHA-256 was expected, not {_shown(digest)}")
    return check_path(path), _whole(size), digest


def _whole(number: Any) -> int:
    """Give a whole number; neither text, nor truth, nor a fraction is one."""
    if type(number) is not int:
        raise TypeError(f"a whole number was expected, not {_shown(number)}")
    return number


def _check_file(name: str, names: set[str], where: str) -> None:
    """Refuse what no shard is named, and two names that some file systems do not tell apart."""
    try:
        is_shard = parse_shard_file(check_path(name)) is not None
    except ValueError:
        is_shard = False
    if not is_shard:
        raise FormatError(where, "the name of a shard, as 001-of-002.hdf5", _shown(name))
    if name.lower() in names:
        raise FormatError(where, "each file once", f"{name!r} again")
    names.add(name.lower())


def _check_number(
    values: Mapping[str, Any], name: str, where: str, least: int = 0, most: int = MAX_NUMBER
) -> None:
    number = values.get(name)
    if type(number) is not int or not least <= number <= most:
        raise FormatError(where, f"{name}, a whole number from {least} to {most}", _shown(number))


def _check_hash(value: Any, where: str) -> None:
    if not is_sha256(value):
        raise FormatError(where, "a SHA-256, 64 hexadecimal digits", _shown(value))


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return repr(value[:300])
    return repr(value) if isinstance(value, int | float | None) else type(value).__name__
