"""``astropile snapshots``: what a subset was before."""

from __future__ import annotations

import argparse
from typing import Final

from astropile.cli.output import Printer, count_text, table
from astropile.cli.trees import local_tree
from astropile.snapshots import Snapshot, list_snapshots, remove_snapshots, restore_snapshot

HELP: Final = "list what a subset was before, go back to it, remove it"
DESCRIPTION: Final = """\
List the kept versions of a subset, or go back to one, or remove some.

A version is named by its snapshot, the SHA-256 of its content; how that begins is enough.
"""
EXAMPLE: Final = """\
  astropile snapshots demo/hsc
  astropile snapshots demo/hsc --restore 5e1f02
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
        "tree", metavar="TREE", type=local_tree, help="a data folder, or the folder of a subset"
    )
    parser.add_argument("--subset", metavar="NAME", help="which subset, where there are several")
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--restore", metavar="SNAPSHOT", help="make it the current one; keep the one that was"
    )
    what.add_argument(
        "--remove", metavar="SNAPSHOT", nargs="+", help="remove kept ones; who reads them cannot"
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
    if args.restore is not None:
        restore_snapshot(args.tree, args.restore, args.subset)
    elif args.remove is not None:
        remove_snapshots(args.tree, args.remove, args.subset)
    found = list_snapshots(args.tree, args.subset)
    out.document({"snapshots": found})
    out.text(*table([_row(one) for one in found], indent=""))
    return 0


def _row(one: Snapshot) -> tuple[str, str, str, str]:
    return (
        one.snapshot[:12],
        count_text(one.n_objects, "object"),
        count_text(one.n_partitions, "partition"),
        "current" if one.current else "kept",
    )
