"""``astropile build``: from a survey's native files to a tree."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any, Final

from astropile.build import SHARD_NBYTES, TOLERANCE, BuildReport, build_catalog
from astropile.cli.failures import RefusedError
from astropile.cli.output import Printer, count_text, size_text, table
from astropile.layout import check_subset
from astropile.surveys import get_survey

HELP: Final = "build a tree from a survey's native files"
DESCRIPTION: Final = """\
Build a subset of a tree from a survey's native files.

The subset takes its name when it is whole. A build that was stopped goes on where it was
when the same command is run again.
"""
EXAMPLE: Final = """\
  astropile build hsc demo/native/hsc my_trees/hsc
  astropile build desi demo/native/desi my_trees/desi --order 5 --dry-run
"""

_SIZE: Final = re.compile(r"(\d+)\s*(?:([KMGT])i?B?|B)?", re.IGNORECASE)


def byte_size(text: str) -> int:
    """
    Read a number of bytes.

    Parameters
    ----------
    text : str
        ``512MiB``, ``64M``, ``1000000``; a letter stands for a power of 1,024.

    Returns
    -------
    int
        Bytes.

    Raises
    ------
    argparse.ArgumentTypeError
        If it is not one.

    Examples
    --------
    >>> byte_size("64M")
    67108864
    """
    found = _SIZE.fullmatch(text.strip())
    if not found or int(found[1]) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 512MiB")
    power = "KMGT".index(found[2].upper()) + 1 if found[2] else 0
    return int(found[1]) << 10 * power


def _order(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or int(text) > 29:
        raise argparse.ArgumentTypeError(f"{text!r} is not a HEALPix order, 0 to 29")
    return int(text)


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share, 0 to 1")
    return share


def _subset(text: str) -> str:
    try:
        return check_subset(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """
    Declare the options.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        The command's parser.
    """
    parser.add_argument("survey", metavar="SURVEY", help="name of a survey; see astropile surveys")
    parser.add_argument("native_path", metavar="NATIVE_PATH", type=Path, help="its native files")
    parser.add_argument("tree", metavar="TREE", type=Path, help="the data folder to build in")
    parser.add_argument(
        "--subset", type=_subset, metavar="NAME", help="name of the subset (default: the survey's)"
    )
    parser.add_argument(
        "--release", metavar="NAME", help="release the files are of (default: the survey's)"
    )
    parser.add_argument(
        "--order", type=_order, default=4, metavar="K", help="HEALPix order of the partitions (4)"
    )
    parser.add_argument(
        "--layout",
        choices=("compact", "fast"),
        default="compact",
        help="compressed object by object, or not compressed (compact)",
    )
    parser.add_argument(
        "--shard-size",
        type=byte_size,
        default=SHARD_NBYTES,
        metavar="SIZE",
        help="split a partition into files of this size before compression (512MiB)",
    )
    parser.add_argument(
        "--duplicates",
        choices=("reject", "error"),
        default="reject",
        help="what to do with a second object of one observation_id (reject)",
    )
    parser.add_argument(
        "--tolerance",
        type=_share,
        default=TOLERANCE,
        metavar="SHARE",
        help=f"refuse the build if more objects than this are rejected for a fault ({TOLERANCE:g})",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a subset that is there")
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would be read and written; write nothing"
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
    out = Printer(args)
    if args.dry_run:
        plan = _plan(args)
        out.document(plan)
        out.text(
            f"would build {plan['path']}",
            *table(
                [
                    ("from", f"{count_text(plan['n_units'], 'unit')} of {plan['survey']} files"),
                    ("files", f"{plan['n_files']:,}, {size_text(plan['n_bytes'])}"),
                    ("order", plan["order"]),
                    ("layout", plan["layout"]),
                    ("shards of at most", size_text(plan["shard_nbytes"])),
                    ("there already", "yes, to be replaced" if plan["exists"] else "no"),
                ],
                indent="  ",
            ),
        )
        return 0
    report = build_catalog(
        args.survey,
        args.native_path,
        args.tree,
        subset=args.subset,
        release=args.release,
        order=args.order,
        layout=args.layout,
        shard_nbytes=args.shard_size,
        duplicates=args.duplicates,
        tolerance=args.tolerance,
        overwrite=args.overwrite,
        progress=args.bars,
    )
    out.document(report)
    out.text(*report_lines(report))
    return 0


def report_lines(report: BuildReport) -> list[str]:
    """
    Write what a build did.

    Parameters
    ----------
    report : BuildReport
        What it did.

    Returns
    -------
    list of str
        Lines: first the whole, then why objects were rejected.
    """
    where = (
        f"{count_text(report.n_shards, 'shard')} of {count_text(report.n_partitions, 'partition')}"
    )
    size = size_text(report.n_bytes)
    lines = [
        f"built {report.path}: {count_text(report.n_written, 'object')} in {where}, {size}",
        f"  read {report.n_read:,} = written {report.n_written:,} + rejected {report.n_rejected:,}",
    ]
    rows = [(f"{count:,}", reason) for reason, count in report.reasons.items()]
    return [*lines, *table(rows, indent="    ")]


def _plan(args: argparse.Namespace) -> dict[str, Any]:
    """Say what a build would do, from the names and sizes of its files."""
    survey = get_survey(args.survey)
    native = args.native_path.expanduser()
    if not native.exists():
        raise RefusedError(f"no native files: {native} does not exist")
    units = list(survey.units(native))
    paths = {path for unit in units for path in unit.paths}
    final = args.tree.expanduser() / (args.subset or survey.subset)
    if final.exists() and not args.overwrite:
        raise RefusedError(
            f"cannot build {final}: it exists already",
            "--overwrite replaces it, --subset NAME builds beside it",
        )
    if not units:
        raise RefusedError(
            f"no file of survey {survey.name!r} below {native}",
            f"docs/surveys/{survey.name}.md says which files are read",
        )
    return {
        "path": final,
        "survey": survey.name,
        "subset": final.name,
        "order": args.order,
        "layout": args.layout,
        "shard_nbytes": args.shard_size,
        "n_units": len(units),
        "n_files": len(paths),
        "n_bytes": sum(path.stat().st_size for path in paths if path.is_file()),
        "exists": final.exists(),
    }
