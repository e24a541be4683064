"""
Mend a subset from another copy of it: only what is missing or differs is fetched.

Nothing is believed because of where it comes from: every block that is fetched is compared with
the manifest, every manifest with the snapshot. A file is mended aside and takes its name whole.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from astropile.download.folder import Folder
from astropile.download.room import check_room
from astropile.download.source import open_source
from astropile.download.transfer import Patience, fetch_file
from astropile.errors import DownloadError, FormatError, TreeNotFoundError
from astropile.inventory import FileFacts, manifest_path, partition_files, root_files
from astropile.layout import ROOT_FILE
from astropile.manifest import MAX_MANIFEST_NBYTES, MAX_ROOT_NBYTES, Root, parse_root
from astropile.publish import publish_bytes
from astropile.store.access import Access, access_to
from astropile.store.protocol import RemoteOptions, RemotePath, is_url
from astropile.verify import Damage, VerifyReport, verify_tree


@dataclass(frozen=True)
class RepairReport:
    """
    What `repair_tree` did.

    Parameters
    ----------
    path : str
        The subset.
    mended : tuple of str
        Files that were missing or differed, and are now as their manifests say.
    n_blocks : int
        Blocks that differed.
    n_bytes_fetched : int
        What was read from the source, manifests included.
    extra : tuple of str
        Files that no manifest has; they were left alone.
    unhashed : tuple of str
        Files whose hashes nobody knows: they were not looked at.
    """

    path: str
    mended: tuple[str, ...]
    n_blocks: int
    n_bytes_fetched: int
    extra: tuple[str, ...]
    unhashed: tuple[str, ...]


def repair_tree(
    path: str | os.PathLike[str],
    source: str,
    *,
    threads: int | None = None,
    remote: RemoteOptions | None = None,
    patience: Patience | None = None,
    progress: bool | None = None,
) -> RepairReport:
    """
    Mend a subset from another copy of it.

    Parameters
    ----------
    path : path
        Folder of the subset.
    source : str
        URL or folder of the same subset, of the same snapshot; or of the one it was taken from.
    threads : int, optional
        Files looked at side by side, as for `verify_tree`.
    remote : RemoteOptions, optional
        How to reach the source.
    patience : Patience, optional
        How long to try.
    progress : bool, optional
        Show a progress bar on standard error while looking for damage.

    Returns
    -------
    RepairReport
        What was done.

    Raises
    ------
    TreeNotFoundError
        If there is no subset.
    DownloadError
        If the source is no copy of it.
    IntegrityError
        If what the source has is not what the manifests promise.
    StoreError
        If the source fails.
    OSError
        If the disk fails. What was mended until then stays mended; nothing is half mended.
    """
    if is_url(path):
        raise TreeNotFoundError(str(path), "only a tree on this machine is mended")
    origin = open_source(source, remote or RemoteOptions())
    local = access_to(path)
    folder = Path(path).expanduser()
    mended = list(_mend_root(local, folder, origin))
    mended += _mend_manifests(local, folder, origin)
    root = _root(local)
    report = verify_tree(folder, threads=threads, progress=progress)
    n_blocks = 0
    while not report.ok:
        chosen = {damage.file for damage in report.damages if damage.kind != "extra"}
        if not chosen:
            break
        n_blocks += sum(damage.block is not None for damage in report.damages)
        mended += _mend_files(local, root, folder, origin, chosen, patience or Patience())
        before, report = report, verify_tree(folder, threads=threads, progress=progress)
        if _is_stuck(before, report):
            raise DownloadError(str(folder), f"it cannot be mended: {report.damages[0]}")
    return RepairReport(
        str(folder),
        tuple(dict.fromkeys(mended)),
        n_blocks,
        origin.store.n_bytes,
        tuple(damage.file for damage in report.of_kind("extra")),
        report.unhashed,
    )


def _is_stuck(before: VerifyReport, after: VerifyReport) -> bool:
    def left(report: VerifyReport) -> set[Damage]:
        return {damage for damage in report.damages if damage.kind != "extra"}

    return bool(left(after)) and after.n_damages >= before.n_damages


def _root(access: Access) -> Root:
    content = access.read(ROOT_FILE, MAX_ROOT_NBYTES)
    if content is None:
        raise TreeNotFoundError(access.where, f"it has no {ROOT_FILE}")
    return parse_root(content, f"{access.where}/{ROOT_FILE}")


def _of_source(origin: RemotePath, name: str, limit: int) -> bytes:
    path = origin / name
    content = path.store.read(path.key, limit=limit)
    if content is None:
        raise DownloadError(str(path), "the source has no such file")
    return content


def _mend_root(local: Access, folder: Path, origin: RemotePath) -> Iterator[str]:
    """Take `astropile.json` from the source where there is none, or one that cannot be read."""
    try:
        _root(local)
    except (FormatError, TreeNotFoundError):
        content = _of_source(origin, ROOT_FILE, MAX_ROOT_NBYTES)
        root = parse_root(content, str(origin / ROOT_FILE))
        if local.names("") and not _is_like(local, root):
            raise DownloadError(str(folder), f"{origin} is no copy of it") from None
        publish_bytes(folder / ROOT_FILE, content)
        yield ROOT_FILE


def _is_like(local: Access, root: Root) -> bool:
    """Tell whether manifests that are there are of a snapshot: most of them, if some are bad."""
    names = {manifest_path(partition.ipix) for partition in root.partitions}
    there = [f"manifest/{n}" for n in local.names("manifest") if n.startswith("healpix=")]
    return not there or 2 * len(names.intersection(there)) > len(there)


def _mend_manifests(local: Access, folder: Path, origin: RemotePath) -> list[str]:
    """Replace the manifests that are not those of the snapshot, or else the root itself."""
    root = _root(local)
    paths = [manifest_path(partition.ipix) for partition in root.partitions]
    mine = [_digest(local.read(path, MAX_MANIFEST_NBYTES)) for path in paths]
    if _snapshot(mine) == root.snapshot:
        return []
    theirs = [_digest(_of_source(origin, path, MAX_MANIFEST_NBYTES)) for path in paths]
    if _snapshot(theirs) != root.snapshot:
        content = _of_source(origin, ROOT_FILE, MAX_ROOT_NBYTES)
        other = parse_root(content, str(origin / ROOT_FILE))
        if mine != theirs or _snapshot(theirs) != other.snapshot:
            raise DownloadError(str(folder), f"{origin} is a copy of another snapshot")
        publish_bytes(folder / ROOT_FILE, content)
        return [ROOT_FILE]
    mended = [path for path, one, other in zip(paths, mine, theirs, strict=True) if one != other]
    digests = dict(zip(paths, theirs, strict=True))
    for path in mended:
        content = _of_source(origin, path, MAX_MANIFEST_NBYTES)
        if _digest(content) != digests[path]:
            raise DownloadError(str(folder), f"{origin / path} was replaced meanwhile")
        (folder / path).parent.mkdir(exist_ok=True)
        publish_bytes(folder / path, content)
    return mended


def _digest(manifest: bytes | None) -> bytes:
    return hashlib.sha256(manifest or b"").digest()


def _snapshot(digests: list[bytes]) -> str:
    return hashlib.sha256(b"".join(digests)).hexdigest()


def _mend_files(
    local: Access,
    root: Root,
    folder: Path,
    origin: RemotePath,
    chosen: set[str],
    patience: Patience,
) -> list[str]:
    mended = []
    with Folder(folder) as target:
        for facts in _all_files(local, root):
            if facts.path not in chosen:
                continue
            check_room(folder, facts.size or 0)
            key = (origin / facts.path).key
            fetch_file(origin.store, key, target, facts, patience=patience, reuse=True)
            mended.append(facts.path)
    return mended


def _all_files(local: Access, root: Root) -> Iterator[FileFacts]:
    yield from root_files(root, local.where)
    for number, partition in enumerate(root.partitions):
        path = manifest_path(partition.ipix)
        content = local.read(path, MAX_MANIFEST_NBYTES)
        if content is not None:
            yield from partition_files(root, number, content, f"{local.where}/{path}")
