"""``astropile verify``: compare a tree with its manifests; check a file from elsewhere."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from astropile.cli.exit_codes import ExitCode
from astropile.cli.failures import UsageError
from astropile.cli.output import Printer, count_text, fields_of, printable, size_text
from astropile.cli.trees import local_tree
from astropile.errors import AstroPileError
from astropile.layout import ROOT_FILE
from astropile.store.protocol import is_url

if TYPE_CHECKING:
    from astropile.gate.verify import FileReport
    from astropile.verify import VerifyReport

HELP: Final = "compare a tree with its manifests, or check a file from elsewhere"
DESCRIPTION: Final = """\
Compare every file of a subset with its manifest: what is missing, what is too much, what
differs, with the columns and rows that lie in a damaged block. Run again after a stop, it
goes on where it was. Exit status 6 if something differs, 4 if the manifests cannot be read.

Given one HDF5 file of unknown origin: check without the HDF5 library that it is a whole file,
that its structure has nothing but what a table of columns needs, that its data is there and
not damaged, that its positions, pixels and identifiers make sense. Exit status 6 if the file
is not the one that --sha256 promises, 4 if it is damaged, 3 if it is refused.
"""
EXAMPLE: Final = """\
  astropile verify demo/hsc
  astropile verify demo/hsc/pdr3_dud_22.5 --sample 0.05 --json
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
    parser.add_argument(
        "path", metavar="PATH", help="a data folder, a subset's folder or URL, or an HDF5 file"
    )
    parser.add_argument(
        "--sha256", metavar="HASH", help="what the SHA-256 of the file must be, hexadecimal"
    )
    trees = parser.add_argument_group("of a tree")
    trees.add_argument(
        "--sample",
        type=float,
        default=1.0,
        metavar="SHARE",
        help="look at this share of the blocks",
    )
    trees.add_argument(
        "--seed", type=int, default=0, metavar="N", help="which blocks those are (0)"
    )
    trees.add_argument("--jobs", type=int, metavar="N", help="files at a time")
    trees.add_argument(
        "--state", type=local_tree, metavar="FILE", help="where is kept what was found sound so far"
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
    if is_url(args.path) or Path(args.path).expanduser().is_dir():
        return _verify_tree(args)
    args.path = Path(args.path)
    return _verify_file(args)


def _verify_tree(args: argparse.Namespace) -> int:
    """Compare the subsets of a tree with their manifests."""
    from astropile.verify import verify_tree

    if args.sha256 is not None:
        raise UsageError("--sha256 is of one file, a tree has its own manifests")
    out = Printer(args)
    try:
        reports = [
            verify_tree(
                folder,
                sample=args.sample,
                seed=args.seed,
                threads=args.jobs,
                state=args.state,
                progress=args.bars,
            )
            for folder in _subsets(args.path)
        ]
    except ValueError as error:
        if isinstance(error, AstroPileError):
            raise
        raise UsageError(str(error)) from error
    out.document(
        {
            "ok": all(report.ok for report in reports),
            "subsets": [{"ok": report.ok, **fields_of(report)} for report in reports],
        }
    )
    for report in reports:
        out.text(*_tree_lines(report))
    return ExitCode.OK if all(report.ok for report in reports) else ExitCode.INTEGRITY


def _subsets(path: str) -> list[Any]:
    """List the subsets of a data folder; the folder or URL of one is the only one."""
    from astropile.catalog import list_subsets

    if is_url(path):
        return [path]
    folder = Path(path).expanduser()
    names = () if (folder / ROOT_FILE).is_file() else list_subsets(folder)
    return [folder / name for name in names] or [folder]


def _tree_lines(report: VerifyReport) -> list[str]:
    looked_at = f"{printable(report.path)}: {count_text(report.n_files, 'file')}"
    looked_at += f", {size_text(report.n_bytes)} hashed"
    if report.sample < 1:
        looked_at += f" (a share of {report.sample:g})"
    if report.n_remembered:
        looked_at += f", {count_text(report.n_remembered, 'file')} found sound before the stop"
    end = "as the manifests say" if report.ok else count_text(report.n_damages, "damage")
    lines = [f"{looked_at}, {end}"]
    lines += [f"  {printable(damage)}" for damage in report.damages]
    if report.n_damages > len(report.damages):
        lines.append(f"  and {report.n_damages - len(report.damages):,} more")
    if any(damage.kind != "extra" for damage in report.damages):
        lines.append(f"  astropile repair {printable(report.path)} --from SOURCE mends it")
    if report.unhashed:
        lines.append(f"  no hashes are known of {', '.join(report.unhashed)}")
    return lines


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
