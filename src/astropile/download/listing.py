"""
Fetch a tree that has no manifests, as those of the first release of the Multimodal Universe.

Its files are those that the server lists. Nobody knows their hashes: they are compared with the
sizes that the server states, and with the version that was begun. The report says so.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import numpy as np

from astropile.download.folder import Folder
from astropile.download.plan import GetReport, Plan
from astropile.download.room import check_room
from astropile.download.selection import Selection, overlapping
from astropile.download.source import open_source
from astropile.download.transfer import Patience, fetch_file, nothing
from astropile.errors import DownloadError
from astropile.inventory import FileFacts
from astropile.layout import MAX_DEPTH, check_path, parse_partition_dir
from astropile.store.protocol import RemoteOptions, RemotePath

V1_ORDER: Final = 4
"""HEALPix order of the folders of trees of the first release (nside 16)."""

MAX_FILES: Final = 1_000_000
_MAX_PAGE_NBYTES: Final = 16 * 2**20
_LINK: Final = re.compile(r"[^/?#:]+/?")


def get_listed(
    source: str,
    dest: str | os.PathLike[str],
    *,
    selection: Selection | None = None,
    dry_run: bool = False,
    agree: Callable[[Plan], bool] | None = None,
    threads: int = 4,
    remote: RemoteOptions | None = None,
    patience: Patience | None = None,
    note: Callable[[int], None] = nothing,
) -> GetReport:
    """
    Fetch the files that a server, a bucket or a folder lists.

    Parameters
    ----------
    source : str
        URL or folder.
    dest : path
        Where they go, in folders as they are at the source.
    selection : Selection, optional
        A region or pixels: only partitions that touch it; their order is taken to be 4.
    dry_run, agree, threads, remote, patience, note
        As for `astropile.download.tree.get_tree`.

    Returns
    -------
    GetReport
        What was done; ``plan.n_unhashed`` is the number of files.

    Raises
    ------
    DownloadError
        If the source cannot be listed, lists names that no file of a tree has, or nothing is
        chosen.
    StoreError
        If the source fails, or does not state a size.
    IntegrityError
        If a file is not of the size that was stated.
    OSError
        If the disk fails. In every case nothing stands under a final name that was not there.
    """
    origin = open_source(source, remote or RemoteOptions())
    folder = Path(dest).expanduser()
    chosen = selection or Selection()
    if chosen.makes_rows or chosen.ids is not None:
        raise DownloadError(str(origin), "a tree without manifests is fetched by whole partitions")
    paths = [path for path in _walk(origin, "", 0) if _is_chosen(path, chosen)]
    if not paths:
        raise DownloadError(str(origin), "it lists no file of what is chosen")
    with ThreadPoolExecutor(threads, "astropile-get") as pool:
        keys = [(origin / path).key for path in paths]
        sizes = list(pool.map(lambda key: origin.store.version(key).size, keys))
        files = [FileFacts(path, size) for path, size in zip(paths, sizes, strict=True)]
        partitions = {path.rpartition("/")[0] for path in paths}
        total = sum(sizes)
        plan = Plan(
            str(origin),
            str(folder),
            "listed",
            "",
            0,
            len(partitions),
            len(files),
            total,
            len(files),
        )
        if dry_run or (agree is not None and not agree(plan)):
            return GetReport(plan, is_done=False)
        check_room(folder, total)
        with Folder(folder) as target:

            def fetch(facts: FileFacts) -> bool:
                key = (origin / facts.path).key
                held = patience or Patience()
                return fetch_file(origin.store, key, target, facts, patience=held, note=note)

            list(pool.map(fetch, files))
    return GetReport(plan, is_done=True, n_bytes_fetched=origin.store.n_bytes)


def _is_chosen(path: str, chosen: Selection) -> bool:
    if chosen.is_all:
        return True
    pixels = [ipix for word in path.split("/") if (ipix := parse_partition_dir(word)) is not None]
    if not pixels:
        return False
    first = np.array([pixels[-1]], np.int64)
    shift = 2 * (29 - V1_ORDER)
    return all(
        bool(overlapping(ranges, first << shift, (first + 1) << shift)[0])
        for ranges in chosen.ranges(V1_ORDER)
    )


def _walk(origin: RemotePath, folder: str, depth: int) -> Iterator[str]:
    if depth >= MAX_DEPTH:
        raise DownloadError(str(origin / folder), f"it has more than {MAX_DEPTH} folders in it")
    for name in _entries(origin, folder):
        if name.startswith("."):
            continue
        path = f"{folder}/{name.rstrip('/')}".lstrip("/")
        try:
            check_path(path)
        except ValueError as error:
            raise DownloadError(str(origin), str(error)) from error
        if name.endswith("/"):
            yield from _walk(origin, path, depth + 1)
        else:
            yield path


def _entries(origin: RemotePath, folder: str) -> list[str]:
    """Name what is in a folder, folders with a slash at the end."""
    place = origin / folder if folder else origin
    names = place.store.entries(place.key)
    if names is None:
        page = place.store.read(f"{place.key}/" if place.key else "", limit=_MAX_PAGE_NBYTES)
        if page is None:
            raise DownloadError(str(place), "its server does not list it")
        names = _links(page)
    lowered = [name.lower() for name in names]
    if len(set(lowered)) != len(lowered) or len(names) > MAX_FILES:
        raise DownloadError(str(place), "it lists names that some file systems do not tell apart")
    return sorted(names)


def _links(page: bytes) -> list[str]:
    """Read the names that an index page links to; links that lead elsewhere are no files of it."""
    parser = _Index()
    parser.feed(page.decode("utf-8", "replace"))
    found = [unquote(link) for link in parser.links if _LINK.fullmatch(link)]
    return list(dict.fromkeys(name for name in found if name not in ("./", "../")))


class _Index(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, Any]]) -> None:
        if tag == "a":
            for name, value in attrs:
                if name == "href" and value and len(self.links) < MAX_FILES:
                    self.links.append(value.removeprefix("./"))
