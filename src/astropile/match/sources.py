"""
Catalogues and files that are not opened like a table in memory: HATS folders, and what a URL names.

A HATS folder on this machine is matched a part of the sky at a time, as trees are. One behind a
URL gives the columns that are asked for; a file behind a URL is fetched whole.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from astropile.errors import FormatError, TreeNotFoundError
from astropile.hats import list_files, write_hats
from astropile.hats_remote import read_columns, read_schema
from astropile.healpix import ang2pix
from astropile.names import HEALPIX_29
from astropile.remote import RemoteCatalog
from astropile.store.protocol import RemotePath, is_url

MAX_FILE_NBYTES: Final = 4 * 2**30
"""A larger file behind a URL is refused: it would be held in memory on its way."""

PROPERTIES: Final = ("properties", "hats.properties")
"""Where a HATS catalogue says what it is; the later counts."""

COLLECTION: Final = "collection.properties"

_MIRROR_ORDER: Final = 6


def parse_properties(text: str) -> dict[str, str]:
    """
    Read lines of ``name=value``.

    Parameters
    ----------
    text : str
        The lines; those that start with ``#`` are comments.

    Returns
    -------
    dict of str to str
        The values.
    """
    lines = (line.split("=", 1) for line in text.splitlines() if "=" in line)
    return {name.strip(): value.strip() for name, value in lines if not name.startswith("#")}


@dataclass(frozen=True)
class HatsFolder:
    """
    A HATS catalogue on this machine, nothing of it read but its list of files.

    Parameters
    ----------
    path : Path
        Its folder.
    name : str
        What it is called.
    """

    path: Path
    name: str

    def __len__(self) -> int:
        return sum(file.n_rows for file in list_files(self.path))


def hats_folder(value: Any) -> HatsFolder | None:
    """
    Find out whether something is the folder of a HATS catalogue that can be matched in parts.

    Parameters
    ----------
    value : object
        Anything.

    Returns
    -------
    HatsFolder or None
        The catalogue, or that of a collection; None for all else.
    """
    if not isinstance(value, str | Path) or is_url(value):
        return None
    given = Path(value).expanduser()
    path = given
    if (given / COLLECTION).is_file():
        facts = parse_properties((given / COLLECTION).read_text())
        path = given / facts.get("hats_primary_table_url", ".")
    if not (path / "partition_info.csv").is_file() or not (path / "dataset").is_dir():
        return None
    return HatsFolder(path, given.name)


class RemoteHats:
    """
    A HATS catalogue behind a URL.

    Parameters
    ----------
    path : RemotePath
        Its folder, or that of a collection.

    Raises
    ------
    TreeNotFoundError
        If there is none.
    FormatError
        If it has no footers of all files in ``dataset/_metadata``, or no order-29 pixels.
    """

    def __init__(self, path: RemotePath) -> None:
        primary = _properties(path, (COLLECTION,)).get("hats_primary_table_url")
        if primary:
            for word in primary.strip("/").split("/"):
                path /= word
        self._path = path
        self.facts: Mapping[str, str] = _properties(path, PROPERTIES)
        if not self.facts:
            raise TreeNotFoundError(str(path), "it is neither a tree nor a HATS catalogue")
        self.schema = read_schema(path)
        if HEALPIX_29 not in self.schema.names:
            raise FormatError(str(path), f"a column {HEALPIX_29}", ", ".join(self.schema.names))

    def read(self, name: str) -> pa.ChunkedArray:
        """
        Fetch a column.

        Parameters
        ----------
        name : str
            Which.

        Returns
        -------
        pyarrow.ChunkedArray
            Its values of all rows, in the order of the sky.
        """
        return read_columns(self._path, [name]).column(0)


def _properties(path: RemotePath, files: tuple[str, ...]) -> dict[str, str]:
    facts: dict[str, str] = {}
    for file in files:
        try:
            facts |= parse_properties((path / file).read_bytes().decode("utf-8", "replace"))
        except FileNotFoundError:
            continue
    return facts


def fetch_file(path: RemotePath, owner: Any) -> Path:
    """
    Fetch a file into a folder of its own, which goes with its owner.

    Parameters
    ----------
    path : RemotePath
        The file.
    owner : object
        Whatever reads it.

    Returns
    -------
    Path
        The copy.

    Raises
    ------
    TreeNotFoundError
        If there is none.
    StoreError
        If the store fails, or the file is larger than `MAX_FILE_NBYTES`.
    """
    try:
        content = path.read_bytes(MAX_FILE_NBYTES)
    except FileNotFoundError as error:
        raise TreeNotFoundError(str(path), "there is no such file") from error
    folder = tempfile.mkdtemp(prefix="astropile-")
    weakref.finalize(owner, shutil.rmtree, folder, ignore_errors=True)
    copy = Path(folder) / path.name
    copy.write_bytes(content)
    return copy


def mirror_positions(catalog: RemoteCatalog, folder: Path) -> Path:
    """
    Fetch the positions of a tree behind a URL, as a catalogue on this machine.

    Parameters
    ----------
    catalog : RemoteCatalog
        The tree.
    folder : Path
        Where the catalogue is to be made, in a folder named after the tree's snapshot: one
        that is there already is taken as it is.

    Returns
    -------
    Path
        The catalogue's folder.

    Raises
    ------
    StoreError
        If the store fails.
    """
    final = folder / f"{catalog.survey.name}-{catalog.snapshot[:16]}"
    if final.is_dir():
        return final
    folder.mkdir(parents=True, exist_ok=True)
    ra, dec = catalog.positions()
    pixels = ang2pix(ra, dec, 29)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".") as aside:
        made = Path(aside) / "catalog"

        def table_of(first: int, last: int) -> pa.Table:
            some = slice(first, last)
            return pa.table({"ra": ra[some], "dec": dec[some], HEALPIX_29: pixels[some]})

        write_hats(made, catalog.survey.name, pixels, _MIRROR_ORDER, table_of)
        made.rename(final)
    return final
