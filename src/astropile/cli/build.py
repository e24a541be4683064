"""``astropile build``: from a survey's native files to a tree."""

from __future__ import annotations

import argparse
import dataclasses
import re
from collections.abc import Mapping
from typing import Any, Final

from astropile.build import SHARD_NBYTES, TOLERANCE, BuildReport, build_catalog
from astropile.build.additions import add_to_catalog
from astropile.build.estimate import estimate_build
from astropile.build.plan import make_plan, told_apart
from astropile.cli.failures import UsageError
from astropile.cli.output import Printer, count_text, size_text, table
from astropile.cli.trees import local_tree
from astropile.errors import BuildError
from astropile.layout import check_subset

HELP: Final = "build a tree from a survey's native files"
DESCRIPTION: Final = """\
Build a subset of a tree from a survey's native files.

The subset takes its name when it is whole. A build that was stopped goes on where it was
when the same command is run again.
"""
EXAMPLE: Final = """\
  astropile build hsc demo/native/hsc my_trees/hsc
  astropile build desi demo/native/desi my_trees/desi --order 5 --dry-run
  astropile build hsc more_files my_trees/hsc --add
  astropile build hsc demo/native/hsc my_trees/hsc --task $SLURM_ARRAY_TASK_ID/16
"""

_TASK: Final = re.compile(r"(\d{1,9})/(\d{1,9})", re.ASCII)
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


def _count(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of workers, 1 or more")
    return int(text)


def _task(text: str) -> tuple[int, int]:
    found = _TASK.fullmatch(text.strip())
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is not a task such as 3/16")
    return int(found[1]), int(found[2])


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
    parser.add_argument(
        "native_path", metavar="NATIVE_PATH", type=local_tree, help="its native files"
    )
    parser.add_argument("tree", metavar="TREE", type=local_tree, help="the data folder to build in")
    parser.add_argument(
        "--subset", type=_subset, metavar="NAME", help="name of the subset (default: the survey's)"
    )
    parser.add_argument(
        "--release", metavar="NAME", help="release the files are of (default: the survey's)"
    )
    parser.add_argument(
        "--order", type=_order, metavar="K", help="HEALPix order of the partitions (4)"
    )
    parser.add_argument(
        "--layout",
        choices=("compact", "fast"),
        help="compressed object by object, or not compressed (compact)",
    )
    parser.add_argument(
        "--shard-size",
        type=byte_size,
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
    there = parser.add_mutually_exclusive_group()
    there.add_argument("--overwrite", action="store_true", help="replace a subset that is there")
    there.add_argument(
        "--add",
        action="store_true",
        help="add the units that a subset does not have yet, and keep what it was as a snapshot",
    )
    who = parser.add_mutually_exclusive_group()
    who.add_argument(
        "--workers", type=_count, default=1, metavar="N", help="processes that share the work (1)"
    )
    who.add_argument(
        "--task",
        type=_task,
        metavar="I/N",
        help="this is the I-th of N tasks that build the subset together, as in a SLURM array",
    )
    parser.add_argument(
        "--changed-inputs",
        choices=("refuse", "read"),
        default="refuse",
        help="what to do if files changed since an interrupted build began (refuse)",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="estimate what would be written, and how long it takes; write nothing",
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
    if args.add:
        _check_add(args)
        report = add_to_catalog(
            args.survey,
            args.native_path,
            args.tree,
            subset=args.subset,
            duplicates=args.duplicates,
            tolerance=args.tolerance,
            progress=args.bars,
            n_workers=args.workers,
            changed_inputs=args.changed_inputs,
        )
        out.document(report)
        out.text(*report_lines(report))
        return 0
    if args.dry_run:
        plan = _plan(args)
        out.document(plan)
        out.text(*_plan_lines(plan))
        return 0
    report = build_catalog(
        args.survey,
        args.native_path,
        args.tree,
        **_shape(args),
        duplicates=args.duplicates,
        tolerance=args.tolerance,
        overwrite=args.overwrite,
        progress=args.bars,
        n_workers=args.workers,
        task=args.task,
        changed_inputs=args.changed_inputs,
    )
    out.document(report)
    out.text(*report_lines(report))
    return 0


def _shape(args: argparse.Namespace) -> dict[str, Any]:
    """Give what a subset is called and how it is laid out, where nothing is said the usual way."""
    return {
        "subset": args.subset,
        "release": args.release,
        "order": 4 if args.order is None else args.order,
        "layout": args.layout or "compact",
        "shard_nbytes": args.shard_size or SHARD_NBYTES,
    }


def _check_add(args: argparse.Namespace) -> None:
    """Refuse what follows from the subset that is added to."""
    given = {
        "--order": args.order,
        "--layout": args.layout,
        "--shard-size": args.shard_size,
        "--release": args.release,
        "--task": args.task,
        "--dry-run": args.dry_run or None,
    }
    for option, value in given.items():
        if value is not None:
            raise UsageError(f"{option} does not go with --add; see astropile build --help")


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
    """Say what a build would do: from names and sizes of its files, and some that are read."""
    plan = make_plan(
        args.survey,
        args.native_path,
        args.tree,
        **_shape(args),
    )
    if plan.final.exists() and not args.overwrite:
        raise BuildError(str(plan.final), f"it exists already{told_apart(plan)}")
    paths = {path for unit in plan.units for path in unit.paths}
    n_workers = args.task[1] if args.task else args.workers
    return {
        "path": plan.final,
        "survey": plan.survey.name,
        "subset": plan.final.name,
        "order": plan.order,
        "layout": plan.layout,
        "shard_nbytes": plan.shard_nbytes,
        "n_units": len(plan.units),
        "n_files": len(paths),
        "n_bytes": sum(path.stat().st_size for path in paths if path.is_file()),
        "exists": plan.final.exists(),
        "estimate": dataclasses.asdict(estimate_build(plan, n_workers)),
    }


def _plan_lines(plan: Mapping[str, Any]) -> list[str]:
    guess = plan["estimate"]
    hands = count_text(guess["n_workers"], "worker")
    rows = [
        ("from", f"{count_text(plan['n_units'], 'unit')} of {plan['survey']} files"),
        ("files", f"{plan['n_files']:,}, {size_text(plan['n_bytes'])}"),
        ("order", plan["order"]),
        ("layout", plan["layout"]),
        ("shards of at most", size_text(plan["shard_nbytes"])),
        ("there already", "yes, to be replaced" if plan["exists"] else "no"),
    ]
    guesses = [
        ("objects", f"{guess['n_objects']:,}"),
        ("partitions", f"{guess['n_partitions']:,}"),
        ("size", size_text(guess["n_bytes"])),
        ("space while it runs", size_text(guess["n_bytes"] + guess["spool_nbytes"])),
        ("time", f"{_time_text(guess['seconds'])} with {hands}"),
    ]
    return [
        f"would build {plan['path']}",
        *table(rows, indent="  "),
        f"estimated from {count_text(guess['n_sampled'], 'unit')}",
        *table(guesses, indent="  "),
    ]


def _time_text(seconds: float) -> str:
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 1):.0f} s"
