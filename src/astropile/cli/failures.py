"""What an exception means to the one who ran the command: exit status, sentence, next step."""

from __future__ import annotations

import argparse
import errno
from dataclasses import dataclass
from typing import Final

from astropile.cli.exit_codes import ExitCode
from astropile.cli.output import printable
from astropile.errors import (
    AstroPileError,
    BuildError,
    FormatError,
    FormatVersionError,
    IntegrityError,
    StoreError,
    TreeNotFoundError,
    UnknownSurveyError,
)

_DISK_ERRORS: Final = frozenset(
    {
        errno.EDQUOT,
        errno.EFBIG,
        errno.EIO,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOSPC,
        errno.EROFS,
    }
)

_NOT_THERE: Final = (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError)


class UsageError(Exception):
    """The command line asks for what cannot be."""


class RefusedError(Exception):
    """
    What is asked for is not there, or would destroy something.

    Parameters
    ----------
    message : str
        One sentence.
    hint : str
        The next command, where it is known.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message, self.hint = message, hint


@dataclass(frozen=True)
class Failure:
    """
    How a command ends that failed.

    Parameters
    ----------
    code : ExitCode
        Its exit status.
    message : str
        What was wrong, on one line.
    hint : str
        What to do next; empty where that is not known.
    """

    code: ExitCode
    message: str
    hint: str = ""


def explain(error: BaseException, args: argparse.Namespace) -> Failure:
    """
    Say what an exception means.

    Parameters
    ----------
    error : BaseException
        What was raised.
    args : argparse.Namespace
        The command line.

    Returns
    -------
    Failure
        Exit status, sentence and hint.
    """
    message = _one_line(error)
    match error:
        case UsageError():
            return Failure(ExitCode.USAGE, message)
        case RefusedError(message=said, hint=hint):
            return Failure(ExitCode.REFUSED, printable(said), hint)
        case UnknownSurveyError():
            return Failure(ExitCode.USAGE, message, "astropile surveys")
        case FormatVersionError():
            return Failure(ExitCode.REFUSED, message)
        case FormatError():
            return Failure(ExitCode.DAMAGED, message, "astropile validate TREE lists what is wrong")
        case TreeNotFoundError(reason=reason):
            hint = "astropile build SURVEY NATIVE_PATH TREE makes a tree"
            if "subset" in reason and ": " in reason:
                hint = f"give the folder of a subset: {printable(error.path)}/SUBSET"
            return Failure(ExitCode.REFUSED, message, hint)
        case BuildError(reason=reason):
            return Failure(ExitCode.REFUSED, message, _build_hint(reason, args))
        case IntegrityError():
            return Failure(ExitCode.INTEGRITY, message)
        case StoreError() | ConnectionError() | TimeoutError():
            return Failure(ExitCode.NETWORK, message)
        case AstroPileError():
            return Failure(ExitCode.REFUSED, message)
        case OSError(errno=number) if number in _DISK_ERRORS:
            hint = ""
            if args.command in ("build", "rewrite"):
                hint = "when there is room, the same command goes on where it was"
            return Failure(ExitCode.DISK, message, hint)
        case OSError(errno=number) if number is not None or isinstance(error, _NOT_THERE):
            return Failure(ExitCode.REFUSED, message)
    kind = type(error).__name__
    return Failure(
        ExitCode.UNEXPECTED, f"unexpected {kind}: {message}", "--debug shows where it happened"
    )


def _build_hint(reason: str, args: argparse.Namespace) -> str:
    if args.command == "rewrite" and "exists already" in reason:
        return "--overwrite replaces it, --name NAME writes beside it"
    if args.command != "build":
        return ""
    if "exists already" in reason:
        return "--overwrite replaces it, --subset NAME builds beside it"
    if "tolerance" in reason and "rejected" in reason:
        return "--tolerance SHARE accepts more; the rejected objects are then listed in the tree"
    if "no file of survey" in reason:
        return f"docs/surveys/{args.survey}.md says which files are read"
    return ""


def _one_line(error: BaseException) -> str:
    notes = getattr(error, "__notes__", ())
    text = "; ".join([str(error) or type(error).__name__, *notes])
    return printable(" ".join(text.split()))
