"""How results are written: text that cannot drive a terminal, tables, and strict JSON."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from astropile.store.protocol import RemotePath

MAX_JSON_INTEGER: Final = 2**53
"""Integers beyond it change in languages whose numbers are all floating point."""

ID_KEYS: Final = frozenset({"object_id", "observation_id"})
"""Written as strings whatever their size, so that one survey's ids have one type."""


def printable(value: Any) -> str:
    """
    Give text in which nothing but what prints is left.

    Parameters
    ----------
    value : object
        Text from a file, which may hold control characters.

    Returns
    -------
    str
        The same text, the rest written as escapes.
    """
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def plain_json(value: Any, key: str = "") -> Any:
    """
    Give what strict JSON can hold.

    Parameters
    ----------
    value : object
        Numbers, text, paths, arrays, dataclasses, mappings, sequences.
    key : str
        Under which name it stands.

    Returns
    -------
    object
        Not a number and infinity as None, identifiers and integers beyond 2^53 as strings.
    """
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    match value:
        case None | bool():
            return value
        case int():
            return str(value) if key in ID_KEYS or abs(value) > MAX_JSON_INTEGER else int(value)
        case float():
            return value if math.isfinite(value) else None
        case str() | bytes() | os.PathLike() | RemotePath():
            return _text(value)
        case Mapping():
            return {_text(name): plain_json(item, _text(name)) for name, item in value.items()}
        case _ if dataclasses.is_dataclass(value):
            return plain_json(fields_of(value))
        case _:
            return [plain_json(item, key) for item in value]


def fields_of(value: Any) -> dict[str, Any]:
    """
    Give the fields of a report by name.

    Parameters
    ----------
    value : dataclass
        The report.

    Returns
    -------
    dict
        Its fields.
    """
    return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    # Lone surrogates, as names of files may have, are no UTF-8.
    return str(value).encode("utf-8", "replace").decode()


class Printer:
    """
    Where results go: text, or one JSON document, on standard output.

    Parameters
    ----------
    args : argparse.Namespace
        With ``json``, ``quiet`` and ``verbose``.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.as_json: bool = args.json
        self.is_quiet: bool = args.quiet
        self.is_verbose: bool = args.verbose

    def text(self, *lines: str) -> None:
        """
        Print lines for a reader; nothing where JSON or quiet is asked for.

        Parameters
        ----------
        *lines : str
            The lines.
        """
        if not self.as_json and not self.is_quiet:
            for line in lines:
                print(line)

    def document(self, values: Any) -> None:
        """
        Print the JSON document, where it is asked for.

        Parameters
        ----------
        values : object
            What `plain_json` takes.
        """
        if self.as_json:
            print(json.dumps(plain_json(values), indent=1, ensure_ascii=False, allow_nan=False))


def table(
    rows: Sequence[Sequence[Any]], *, head: Sequence[str] = (), indent: str = ""
) -> list[str]:
    """
    Lay out rows in columns.

    Parameters
    ----------
    rows : sequence of sequence
        The cells.
    head : sequence of str
        Names of the columns.
    indent : str
        What each line starts with.

    Returns
    -------
    list of str
        One line per row; the last column is not padded.
    """
    cells = [[printable(cell) for cell in row] for row in ([head, *rows] if head else rows)]
    if not cells:
        return []
    widths = [max(len(row[k]) for row in cells) for k in range(len(cells[0]))]
    return [
        (indent + "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True))).rstrip()
        for row in cells
    ]


def size_text(n_bytes: int) -> str:
    """
    Write a number of bytes.

    Parameters
    ----------
    n_bytes : int
        How many.

    Returns
    -------
    str
        In the largest unit that leaves a number above 1.

    Examples
    --------
    >>> size_text(12_713_984)
    '12.1 MiB'
    """
    size = float(n_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def count_text(number: int, noun: str) -> str:
    """
    Write a number of things.

    Parameters
    ----------
    number : int
        How many.
    noun : str
        What, in the singular.

    Returns
    -------
    str
        With an s where there is not one.

    Examples
    --------
    >>> count_text(1, "object"), count_text(1200, "object")
    ('1 object', '1,200 objects')
    """
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def folder_size(folder: Path) -> int:
    """
    Add up the files below a folder.

    Parameters
    ----------
    folder : Path
        The folder.

    Returns
    -------
    int
        Bytes.
    """
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
