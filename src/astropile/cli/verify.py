"""``astropile verify``: check what came from elsewhere before anything else reads it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Final

from astropile.cli.exit_codes import ExitCode
from astropile.cli.failures import RefusedError, UsageError
from astropile.cli.output import Printer, count_text, printable

if TYPE_CHECKING:
    from astropile.gate.verify import FileReport

HELP: Final = "check a file that came from elsewhere before it is used"
DESCRIPTION: Final = """\
Check an HDF5 file of unknown origin, without the HDF5 library: that it is a whole file, that
its structure has nothing but what a table of columns needs, that its data is there and not
damaged, that its positions, pixels and identifiers make sense.

Prints one line per problem. Exit status 0 if there is none, 6 if the file is not the one that
--sha256 promises, 4 if it is damaged, 3 if it is refused.
"""
EXAMPLE: Final = """\
  astropile verify demo/hsc/pdr3_dud_22.5/healpix=1171/001-of-001.hdf5
  astropile verify 001-of-001.hdf5 --sha256 HASH
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """
    Declare the options.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        The command's parser.
    """
    parser.add_argument("path", metavar="FILE", type=Path, help="an HDF5 file")
    parser.add_argument(
        "--sha256", metavar="HASH", help="what the SHA-256 of the file must be, hexadecimal"
    )


def run(args: argparse.Namespace) -> int:
    """
    Run the command.

    Parameters
    ----------
    args : argparse.Namespace
        The command line.

    Returns
    -------
    int
        Exit status.
    """
    if args.path.is_dir():
        return _verify_tree(args)
    return _verify_file(args)


def _verify_tree(args: argparse.Namespace) -> int:
    raise RefusedError(
        f"{args.path} is a folder, not a file", f"astropile validate {args.path} checks a tree"
    )


def _verify_file(args: argparse.Namespace) -> int:
    """Check one file; the HDF5 library is never loaded for it."""
    from astropile.gate.verify import verify_file

    try:
        report = verify_file(args.path.expanduser(), sha256=args.sha256)
    except ValueError as error:
        raise UsageError(str(error)) from error
    out = Printer(args)
    out.document(
        {
            "path": report.path,
            "ok": report.ok,
            "size": report.size,
            "sha256": report.sha256 or None,
            "n_objects": report.n_objects,
            "n_columns": report.n_columns,
            "unchecked": report.unchecked,
            "problems": report.problems,
        }
    )
    out.text(*_lines(report, is_verbose=args.verbose))
    return _exit_code(report)


def _lines(report: FileReport, *, is_verbose: bool) -> list[str]:
    name = printable(report.path)
    if not report.ok:
        head = f"{name}: {count_text(len(report.problems), 'problem')}"
        return [head, *(f"  {problem.kind}: {printable(problem)}" for problem in report.problems)]
    what = f"{count_text(report.n_objects, 'object')}, {count_text(report.n_columns, 'column')}"
    lines = [f"{name}: {what}, sound"]
    if report.unchecked and not report.sha256:
        columns = f"{count_text(len(report.unchecked), 'column')} without checksums"
        lines.append(f"  {columns}: only --sha256 shows whether they are damaged")
        if is_verbose:
            lines += [f"    {printable(name)}" for name in report.unchecked]
    return lines


def _exit_code(report: FileReport) -> ExitCode:
    kinds = {problem.kind for problem in report.problems}
    for kind, code in (
        ("other", ExitCode.INTEGRITY),
        ("damaged", ExitCode.DAMAGED),
        ("refused", ExitCode.REFUSED),
    ):
        if kind in kinds:
            return code
    return ExitCode.OK
