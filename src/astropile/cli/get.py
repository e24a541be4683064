"""``astropile get``: fetch trees, parts of them, and single files."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from astropile.cli.exit_codes import ExitCode
from astropile.cli.failures import UsageError
from astropile.cli.output import Printer, count_text, fields_of, size_text
from astropile.download.transfer import Patience, nothing
from astropile.store.protocol import RemoteOptions

if TYPE_CHECKING:
    from astropile.download.plan import Plan
    from astropile.download.selection import Selection

HELP: Final = "fetch a tree, a part of it, or a file; checked, and resumed after any stop"
DESCRIPTION: Final = """\
Fetch a subset of a tree, or a part of it, into a folder.

Sources: any web server or bucket that holds a tree, s3:// and what fsspec knows, a folder.
What comes is checked against the manifests before it takes its name. The same command goes
on where it was, after any stop.
"""
EXAMPLE: Final = """\
  astropile get https://example.org/trees/hsc my_trees/hsc --dry-run
  astropile get https://example.org/trees/hsc my_trees/hsc --cone 150.1 2.2 600
  astropile get https://example.org/a.hdf5 a.hdf5 --sha256 HASH
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """
    Declare the options.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        The command's parser.
    """
    parser.add_argument("source", metavar="URL", help="URL or folder of a tree, a subset, a file")
    parser.add_argument("dest", metavar="DEST", type=Path, help="data folder, or file, to make")
    parser.add_argument("--subset", metavar="NAME", help="which subset of the tree")
    chosen = parser.add_argument_group("a part of the tree")
    chosen.add_argument(
        "--cone", nargs=3, type=float, metavar=("RA", "DEC", "RADIUS"), help="degrees and arcsec"
    )
    chosen.add_argument(
        "--box",
        nargs=4,
        type=float,
        metavar=("RA1", "RA2", "DEC1", "DEC2"),
        help="between meridians and parallels, degrees",
    )
    chosen.add_argument("--moc", type=Path, metavar="FILE", help="a coverage map")
    chosen.add_argument("--healpix", metavar="LIST", help="partitions, by pixel number: 1171,1172")
    chosen.add_argument("--ids", type=Path, metavar="FILE", help="object_id, one in a line")
    chosen.add_argument("--columns", metavar="LIST", help="only these columns: FLUX,IVAR")
    chosen.add_argument(
        "--rows", action="store_true", help="only the objects chosen, not whole partitions"
    )
    chosen.add_argument(
        "--listed",
        action="store_true",
        help="a tree without manifests: what its server lists, compared by size alone",
    )
    one = parser.add_argument_group("one file")
    one.add_argument("--file", action="store_true", help="URL is a file, not a tree")
    one.add_argument("--sha256", default="", metavar="HASH", help="the hash it must have")
    one.add_argument("--size", type=int, metavar="N", help="the size it must have, in bytes")
    one.add_argument("--blocks", type=Path, metavar="FILE", help="JSON list of its blocks' hashes")
    how = parser.add_argument_group("how")
    how.add_argument("-n", "--dry-run", action="store_true", help="say how much it is, and stop")
    how.add_argument("-y", "--yes", action="store_true", help="do not ask before it starts")
    how.add_argument("--overwrite", action="store_true", help="replace another snapshot")
    how.add_argument("--jobs", type=int, default=4, metavar="N", help="files at a time (4)")
    how.add_argument(
        "--timeout", type=float, default=30.0, metavar="S", help="seconds without a byte (30)"
    )
    how.add_argument(
        "--give-up", type=float, default=300.0, metavar="S", help="seconds without progress (300)"
    )
    how.add_argument("--attempts", type=int, default=6, metavar="N", help="in a row, in vain (6)")
    how.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="HOST",
        help="a server may redirect to it",
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
    try:
        remote = RemoteOptions(
            timeout=args.timeout, attempts=args.attempts, allowed_hosts=tuple(args.allow_host)
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
    if args.give_up <= 0 or args.jobs < 1:
        raise UsageError("--give-up and --jobs are more than 0")
    patience = Patience(attempts=args.attempts, give_up=args.give_up)
    if args.file or args.sha256 or args.size is not None or args.blocks:
        return _run_file(args, remote, patience)
    return _run_tree(args, remote, patience)


def _run_file(args: argparse.Namespace, remote: RemoteOptions, patience: Patience) -> int:
    from astropile.download.single import get_file, read_blocks

    for name in ("subset", "cone", "box", "moc", "healpix", "ids", "columns"):
        if getattr(args, name) is not None:
            raise UsageError(
                f"--{name} chooses from a tree, and {args.source} is fetched as a file"
            )
    out = Printer(args)
    with _bar(args, args.size) as note:
        report = get_file(
            args.source,
            args.dest,
            sha256=args.sha256,
            size=args.size,
            blocks=read_blocks(args.blocks) if args.blocks else (),
            remote=remote,
            patience=patience,
            note=note,
        )
    out.document(report)
    state = "fetched" if report.is_new else "was there"
    said = "as its hash promises" if report.is_hashed else "its hash is not known: only its size"
    out.text(f"{state} {report.path}: {size_text(report.size)}, {said}")
    return ExitCode.OK


@contextlib.contextmanager
def _bar(args: argparse.Namespace, n_bytes: int | None) -> Iterator[Callable[[int], None]]:
    """Show how much is there, where bars are shown at all."""
    if not args.bars:
        yield nothing
        return
    from tqdm import tqdm

    bar: Any = tqdm(total=n_bytes, desc="get", unit="B", unit_scale=True, leave=False)
    with bar:
        yield bar.update


def _run_tree(args: argparse.Namespace, remote: RemoteOptions, patience: Patience) -> int:
    from astropile.download.listing import get_listed
    from astropile.download.tree import get_tree

    if args.listed and (args.subset is not None or args.overwrite):
        raise UsageError("--subset and --overwrite are of trees with manifests, --listed is not")
    out = Printer(args)
    get: Any = (
        get_listed
        if args.listed
        else partial(get_tree, subset=args.subset, overwrite=args.overwrite)
    )
    with _bar(args, None) as note:
        report = get(
            args.source,
            args.dest,
            selection=_selection(args),
            dry_run=args.dry_run,
            agree=lambda plan: _agree(args, plan),
            threads=args.jobs,
            remote=remote,
            patience=patience,
            note=note,
        )
    out.document(
        {
            **fields_of(report.plan),
            "is_done": report.is_done,
            "n_bytes_fetched": report.n_bytes_fetched,
        }
    )
    if report.is_done:
        fetched = size_text(report.n_bytes_fetched)
        out.text(f"fetched {report.plan.dest}: {_what(report.plan)}, {fetched} came over")
    else:
        out.text(f"{report.plan.dest}: {_what(report.plan)}", "nothing was fetched")
    if report.plan.n_unhashed:
        files = count_text(report.plan.n_unhashed, "file")
        out.text(f"  of {files} no hashes are known: only their sizes are compared")
    return ExitCode.OK


def _selection(args: argparse.Namespace) -> Selection:
    """Make a selection of what the command line chooses."""
    from astropile.download.selection import Selection, read_ids
    from astropile.regions import Box, Cone

    if args.cone and args.box:
        raise UsageError("--cone and --box: give one of them")
    try:
        region = Cone(*args.cone) if args.cone else Box(*args.box) if args.box else None
        pixels = None
        if args.healpix is not None:
            pixels = tuple(int(word) for word in args.healpix.split(","))
    except ValueError as error:
        raise UsageError(str(error)) from error
    columns = None if args.columns is None else tuple(filter(None, args.columns.split(",")))
    return Selection(
        region=region,
        moc=args.moc,
        pixels=pixels,
        ids=None if args.ids is None else read_ids(args.ids),
        columns=columns,
        only_rows=args.rows,
    )


def _what(plan: Plan) -> str:
    about = "about " if plan.mode == "rows" else ""
    if plan.mode == "listed":
        return f"{count_text(plan.n_files, 'file')}, {size_text(plan.n_bytes)}"
    return (
        f"{count_text(plan.n_objects, 'object')} in {count_text(plan.n_partitions, 'partition')}, "
        f"{count_text(plan.n_files, 'file')}, {about}{size_text(plan.n_bytes)}"
    )


def _agree(args: argparse.Namespace, plan: Plan) -> bool:
    """Say how much it is; ask only who sits at a terminal."""
    if not args.quiet:
        print(f"astropile: {plan.dest}: {_what(plan)}", file=sys.stderr)
    if args.yes or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return True
    print("astropile: fetch it? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
