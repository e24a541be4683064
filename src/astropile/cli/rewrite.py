"""``astropile rewrite``: a subset anew in the other layout."""

from __future__ import annotations

import argparse
from typing import Final

from astropile.cli.output import Printer, count_text, size_text
from astropile.cli.trees import local_tree
from astropile.layout import check_subset
from astropile.rewrite import rewrite_catalog

HELP: Final = "write a tree anew, compressed or not"
DESCRIPTION: Final = """\
Write a subset anew in one of the layouts: the same objects in the same order, bit for bit.

Each file is compared with its manifest before it is read. The new subset takes its name when it
is whole. A rewrite that was stopped goes on where it was when the same command is run again.
"""
EXAMPLE: Final = """\
  astropile rewrite demo/hsc fast_trees/hsc --layout fast
  astropile rewrite demo/hsc demo/hsc --layout fast --name fast
"""


def _name(text: str) -> str:
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
    parser.add_argument(
        "tree", metavar="TREE", type=local_tree, help="a data folder, or the folder of a subset"
    )
    parser.add_argument(
        "output", metavar="OUT", type=local_tree, help="the data folder to write in"
    )
    parser.add_argument(
        "--layout",
        choices=("compact", "fast"),
        required=True,
        help="compressed object by object, or not compressed",
    )
    parser.add_argument(
        "--name", type=_name, metavar="NAME", help="name of the new subset (default: the old one)"
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace a subset that is there, were it the old one itself",
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
    report = rewrite_catalog(
        args.tree,
        args.output,
        layout=args.layout,
        name=args.name,
        overwrite=args.overwrite,
        progress=args.bars,
    )
    out.document(report)
    out.text(
        f"wrote {report.path} in layout {report.layout}: "
        f"{count_text(report.n_objects, 'object')} in {count_text(report.n_shards, 'shard')}",
        f"  {size_text(report.n_bytes)}, before {size_text(report.n_bytes_before)}",
    )
    return 0
