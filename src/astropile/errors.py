"""
Every error raised on purpose.

::

    AstroPileError
    ├── SchemaError            (ValueError)   declared and found columns differ
    ├── NativeFileError        (ValueError)   a survey's own file cannot be used
    ├── BuildError             (ValueError)   a build cannot go on; nothing was published
    ├── FormatError            (ValueError)   a tree or file breaks docs/format.md
    │   └── FormatVersionError                written by a newer or unknown format
    ├── UntrustedFileError     (ValueError)   a file that has what no foreign file may have
    ├── TreeNotFoundError      (FileNotFoundError)  no tree, or no such subset, at a path
    ├── UnknownSurveyError     (LookupError)  name, nearest name, known names
    ├── UnknownColumnError     (LookupError)  name, nearest name, where it was sought
    ├── QueryError             (ValueError)   a question in SQL that cannot be answered
    ├── MatchError             (ValueError)   radius or positions that cannot be matched
    ├── DownloadError          (ValueError)   a download cannot go on, or there is nothing to fetch
    ├── IntegrityError         (ValueError)   bytes are not those that a hash or a size promised
    ├── StoreError             (OSError)      a server failed, or did not give what was asked for
    └── MissingExtraError      (ImportError)  feature, and the extra to install

The positional arguments of an error are its facts; ``__str__`` writes the sentence. They
survive pickling, so an error raised in a worker process arrives whole.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else "."


class AstroPileError(Exception):
    """Base class of every error raised on purpose."""


class SchemaError(AstroPileError, ValueError):
    """
    A column is not what its survey declares.

    Parameters
    ----------
    column : str
        Name of the column.
    expected, found : str
        What was declared and what came.
    where : str
        File or place it came from.
    """

    def __init__(self, column: str, expected: str, found: str, where: str) -> None:
        super().__init__(column, expected, found, where)
        self.column, self.expected, self.found, self.where = column, expected, found, where

    def __str__(self) -> str:
        return (
            f"column {self.column!r} in {self.where}: expected {self.expected}, found {self.found}"
        )


class NativeFileError(AstroPileError, ValueError):
    """
    A file of the survey cannot be used as what it should be.

    Parameters
    ----------
    path : str
        The file.
    expected, found : str
        What was looked for and what came instead.
    """

    def __init__(self, path: str, expected: str, found: str) -> None:
        super().__init__(str(path), expected, found)
        self.path, self.expected, self.found = str(path), expected, found

    def __str__(self) -> str:
        return f"{self.path}: expected {self.expected}, found {self.found}"


class BuildError(AstroPileError, ValueError):
    """
    A build cannot go on; nothing was published under a final name.

    Parameters
    ----------
    tree : str
        The tree that was to be built.
    reason : str
        Why it stopped.
    """

    def __init__(self, tree: str, reason: str) -> None:
        super().__init__(str(tree), reason)
        self.tree, self.reason = str(tree), reason

    def __str__(self) -> str:
        return f"cannot build {self.tree}: {self.reason}"


class FormatError(AstroPileError, ValueError):
    """
    A tree or a file breaks the format.

    Parameters
    ----------
    where : str
        File, and dataset where known.
    expected, found : str
        What `docs/format.md` asks for and what came.
    """

    def __init__(self, where: str, expected: str, found: str) -> None:
        super().__init__(str(where), expected, found)
        self.where, self.expected, self.found = str(where), expected, found

    def __str__(self) -> str:
        return f"{self.where}: expected {self.expected}, found {self.found}"


class FormatVersionError(FormatError):
    """A tree or file was written in a format version this installation does not know."""

    def __str__(self) -> str:
        return f"{super().__str__()}; a newer astropile may read it"


class TreeNotFoundError(AstroPileError, FileNotFoundError):
    """
    There is no AstroPile tree, or not the subset asked for, at a path.

    Parameters
    ----------
    path : str
        Where it was sought.
    reason : str
        What is there instead.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(str(path), reason)
        self.path, self.reason = str(path), reason

    def __str__(self) -> str:
        return f"no AstroPile tree at {self.path}: {self.reason}"


class UntrustedFileError(AstroPileError, ValueError):
    """
    A file has what no file of unknown origin may have, or asks for more than one may.

    Parameters
    ----------
    where : str
        File, and place in it where known.
    expected, found : str
        What is let in and what it has.
    """

    def __init__(self, where: str, expected: str, found: str) -> None:
        super().__init__(str(where), expected, found)
        self.where, self.expected, self.found = str(where), expected, found

    def __str__(self) -> str:
        return f"{self.where}: refused: expected {self.expected}, found {self.found}"


class UnknownSurveyError(AstroPileError, LookupError):
    """
    No survey of that name is known.

    Parameters
    ----------
    name : str
        The name asked for.
    known : tuple of str
        The names there are.
    """

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        super().__init__(name, tuple(known))
        self.name, self.known = name, tuple(known)

    def __str__(self) -> str:
        return (
            f"no survey named {self.name!r}{_did_you_mean(self.name, self.known)} "
            f"Known surveys: {', '.join(self.known)}"
        )


class UnknownColumnError(AstroPileError, LookupError):
    """
    A column was asked for that is not there.

    Parameters
    ----------
    name : str
        The name asked for.
    where : str
        Tree or table it was sought in.
    known : tuple of str
        The names there are.
    """

    def __init__(self, name: str, where: str, known: tuple[str, ...]) -> None:
        super().__init__(name, str(where), tuple(known))
        self.name, self.where, self.known = name, str(where), tuple(known)

    def __str__(self) -> str:
        return (
            f"no column {self.name!r} in {self.where}{_did_you_mean(self.name, self.known)} "
            f"Columns: {', '.join(self.known)}"
        )


class QueryError(AstroPileError, ValueError):
    """
    A question about a catalogue that cannot be answered.

    Parameters
    ----------
    query : str
        The question.
    reason : str
        What is wrong with it.
    """

    def __init__(self, query: str, reason: str) -> None:
        super().__init__(query, reason)
        self.query, self.reason = query, reason

    def __str__(self) -> str:
        shown = self.query if len(self.query) <= 200 else f"{self.query[:200]}…"
        return f"cannot answer {shown!r}: {self.reason}"


class _ArgumentError(AstroPileError, ValueError):
    def __init__(self, what: str, expected: str, found: str) -> None:
        super().__init__(what, expected, found)
        self.what, self.expected, self.found = what, expected, found

    def __str__(self) -> str:
        return f"{self.what}: expected {self.expected}, found {self.found}"


class MatchError(_ArgumentError):
    """
    Positions or a radius that cannot be matched.

    Parameters
    ----------
    what : str
        The argument at fault.
    expected, found : str
        What was wanted and what came.
    """


class SampleError(_ArgumentError):
    """
    A split, a stream, a transform or a statistic that was asked for what cannot be done.

    Parameters
    ----------
    what : str
        The argument at fault.
    expected, found : str
        What was wanted and what came.
    """


class DownloadError(AstroPileError, ValueError):
    """
    A download cannot begin or go on; nothing stands under a final name that was not there.

    Parameters
    ----------
    where : str
        What was to be fetched, or where it was to go.
    reason : str
        Why not.
    """

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(str(where), reason)
        self.where, self.reason = str(where), reason

    def __str__(self) -> str:
        return f"cannot fetch {self.where}: {self.reason}"


class IntegrityError(AstroPileError, ValueError):
    """
    Bytes are not those that a manifest, a hash or a size promised.

    Parameters
    ----------
    where : str
        The file, and the bytes of it where that helps.
    expected, found : str
        What was promised and what came.
    """

    def __init__(self, where: str, expected: str, found: str) -> None:
        super().__init__(str(where), expected, found)
        self.where, self.expected, self.found = str(where), expected, found

    def __str__(self) -> str:
        return f"{self.where}: expected {self.expected}, found {self.found}"


class LicenceWarning(UserWarning):
    """The terms of a source stand against sharing what was made of it, or are not known."""


class StoreError(AstroPileError, OSError):
    """
    A store failed, or gave something other than what was asked for.

    Parameters
    ----------
    url : str
        The object asked for, and the bytes of it where that helps.
    expected, found : str
        What was asked for and what came.
    """

    def __init__(self, url: str, expected: str, found: str) -> None:
        # OSError takes its arguments for a number, a text and a file name.
        super().__init__()
        self.args = (str(url), expected, found)
        self.url, self.expected, self.found = str(url), expected, found

    def __str__(self) -> str:
        return f"{self.url}: expected {self.expected}, found {self.found}"


class MissingExtraError(AstroPileError, ImportError):
    """
    A feature needs an optional package that is not installed.

    Parameters
    ----------
    feature : str
        What was asked for.
    extra : str
        The extra of astropile that brings it.
    """

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(feature, extra)
        self.feature, self.extra = feature, extra

    def __str__(self) -> str:
        return f"{self.feature} needs an optional package: pip install 'astropile[{self.extra}]'"
