"""Check one file of unknown origin from the outside in, each part before the next is read."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from astropile.errors import FormatError, UntrustedFileError
from astropile.gate.contents import damaged_rows
from astropile.gate.limits import DEFAULT, Limits
from astropile.gate.meaning import check_meaning
from astropile.gate.source import Source
from astropile.gate.structure import Structure, read_structure, root_address

_PIECE_NBYTES: Final = 2**22
_UNCHECKED: Final = "no checksum, so nothing tells whether it is damaged; give its SHA-256"


@dataclass(frozen=True)
class FileProblem:
    """
    One thing that is wrong with a file.

    Parameters
    ----------
    kind : {"refused", "damaged", "other"}
        It has what is not let in, or makes no sense; it is broken; it is not the file that was
        promised.
    where : str
        Column or place in the file; may be empty.
    message : str
        What is wrong.
    """

    kind: Literal["refused", "damaged", "other"]
    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.where else self.message


@dataclass(frozen=True)
class FileReport:
    """
    What `verify_file` found.

    Parameters
    ----------
    path : Path
        The file.
    size : int
        Bytes it has; 0 where it was not opened.
    sha256 : str
        Its SHA-256, hexadecimal; empty where it was not asked for.
    n_objects : int
        Rows of its columns.
    n_columns : int
        Columns it has.
    unchecked : tuple of str
        Columns whose data carries no checksum: only the SHA-256 of the file shows damage there.
    problems : tuple of FileProblem
        What is wrong; empty if nothing is.
    """

    path: Path
    size: int = 0
    sha256: str = ""
    n_objects: int = 0
    n_columns: int = 0
    unchecked: tuple[str, ...] = ()
    problems: tuple[FileProblem, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def verify_file(
    path: str | os.PathLike[str], *, sha256: str | None = None, limits: Limits = DEFAULT
) -> FileReport:
    """
    Check an HDF5 file of unknown origin, without the HDF5 library.

    Parameters
    ----------
    path : path
        The file.
    sha256 : str, optional
        What its SHA-256 must be, hexadecimal.
    limits : Limits
        How much it may ask for.

    Returns
    -------
    FileReport
        What is wrong, if anything. The check ends at the first thing that makes going on unsafe:
        no data is read of a file with a structure that is not let in.

    Raises
    ------
    OSError
        If it is not there or cannot be read.
    ValueError
        If `sha256` is not 64 hexadecimal digits.

    Notes
    -----
    Memory: the headers and indexes (at most 128 MiB of them), one chunk (at most 64 MiB packed
    and unpacked), and the columns of positions and identifiers. Time grows with the size of the
    file: everything in it is read once, or twice with `sha256`, and no chunk is unpacked beyond
    its declared size.
    """
    if sha256 is not None:
        _check_digest(sha256)
    problems: list[FileProblem] = []
    report = FileReport(Path(path))
    try:
        with Source(path, limits) as source:
            report = FileReport(Path(path), source.size)
            root_address(source)
            digest = _digest(source) if sha256 is not None else ""
            report = FileReport(Path(path), source.size, digest)
            if sha256 is not None and digest != sha256.lower():
                wrong = f"expected SHA-256 {sha256.lower()}, found {digest}"
                return _with(report, [FileProblem("other", "", wrong)])
            structure = read_structure(source)
            report = _counted(report, structure)
            problems += _contents(source, structure, is_known=sha256 is not None)
            if not problems:
                found = check_meaning(source, structure)
                problems += [FileProblem("refused", *finding) for finding in found]
    except UntrustedFileError as error:
        problems.append(FileProblem("refused", *_said(error)))
    except FormatError as error:
        problems.append(FileProblem("damaged", *_said(error)))
    return _with(report, problems)


def check_structure(path: str | os.PathLike[str], *, limits: Limits = DEFAULT) -> Structure:
    """
    Let the structure of an HDF5 file through the gate, without looking at its data.

    Parameters
    ----------
    path : path
        The file.
    limits : Limits
        How much it may ask for.

    Returns
    -------
    Structure
        Its attributes and columns.

    Raises
    ------
    OSError
        If it is not there or cannot be read.
    FormatError
        If it is damaged, or no HDF5 file.
    UntrustedFileError
        If it has what is not let in.
    """
    with Source(path, limits) as source:
        return read_structure(source)


def _check_digest(sha256: str) -> None:
    if len(sha256) != 64 or not set(sha256.lower()) <= set("0123456789abcdef"):
        raise ValueError(f"expected a SHA-256 of 64 hexadecimal digits, found {sha256!r}")


def _digest(source: Source) -> str:
    digest = hashlib.sha256()
    for start in range(0, source.size, _PIECE_NBYTES):
        digest.update(source.raw(start, min(_PIECE_NBYTES, source.size - start)))
    return digest.hexdigest()


def _counted(report: FileReport, structure: Structure) -> FileReport:
    rows = [c.shape[0] for c in structure.datasets if c.shape and "/" not in c.name]
    return FileReport(
        report.path,
        report.size,
        report.sha256,
        max(rows, default=0),
        len(structure.datasets),
        tuple(column.name for column in structure.datasets if not column.is_checked),
    )


def _contents(source: Source, structure: Structure, *, is_known: bool) -> list[FileProblem]:
    """Unpack everything. Without a hash, a file not of this format must carry checksums."""
    is_ours = "astropile_format" in structure.attributes
    problems = []
    for column in structure.datasets:
        if not (column.is_checked or is_known or is_ours):
            problems.append(FileProblem("refused", column.name, _UNCHECKED))
            continue
        problems += [
            FileProblem("damaged", column.name, text) for text in damaged_rows(source, column)
        ]
    return problems


def _said(error: FormatError | UntrustedFileError) -> tuple[str, str]:
    """Take the file's own name out of a message: a report says it once."""
    where = error.where.partition(", ")[2]
    return where, f"expected {error.expected}, found {error.found}"


def _with(report: FileReport, problems: list[FileProblem]) -> FileReport:
    return FileReport(
        report.path,
        report.size,
        report.sha256,
        report.n_objects,
        report.n_columns,
        report.unchecked,
        tuple(problems),
    )
