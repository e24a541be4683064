"""``astropile repair``: mend a subset from another copy of it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from astropile.cli.exit_codes import ExitCode
from astropile.cli.output import Printer, count_text, printable, size_text
from astropile.cli.trees import local_tree
from astropile.layout import ROOT_FILE

HELP: Final = "mend a damaged tree from another copy: only bad blocks are fetched"
DESCRIPTION: Final = """\
Mend a subset from another copy of it. Only blocks that differ and files that are missing are
fetched; each is compared with the manifests before it takes its place.
"""
EXAMPLE: Final = """\
  astropile repair my_trees/hsc/pdr3_dud_22.5 --from https://example.org/trees/hsc/pdr3_dud_22.5
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """
    Declare the options.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        The command's parser.
    """
    parser.add_argument("tree", metavar="TREE", type=local_tree, help="a subset's folder")
    parser.add_argument(
        "--from",
        dest="source",
        metavar="SOURCE",
        required=True,
        help="URL or folder of the same subset",
    )
    parser.add_argument("--jobs", type=int, metavar="N", help="files looked at side by side")


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
    from astropile.catalog import list_subsets
    from astropile.repair import repair_tree

    out = Printer(args)
    tree: Path = args.tree.expanduser()
    source: str = args.source.rstrip("/")
    if tree.is_dir() and not (tree / ROOT_FILE).exists() and len(list_subsets(tree)) == 1:
        # A data folder of one subset; the source then is one too.
        (name,) = list_subsets(tree)
        tree, source = tree / name, f"{source}/{name}"
    report = repair_tree(tree, source, threads=args.jobs, progress=args.bars)
    out.document(report)
    fetched = size_text(report.n_bytes_fetched)
    if report.mended:
        files = count_text(len(report.mended), "file")
        blocks = count_text(report.n_blocks, "bad block")
        out.text(f"mended {report.path}: {files}, {blocks}, {fetched} fetched")
        out.text(*(f"  {printable(name)}" for name in report.mended))
    else:
        out.text(f"{report.path}: nothing to mend")
    out.text(*(f"  left alone: {printable(name)}, no manifest has it" for name in report.extra))
    if report.unhashed:
        out.text(f"  not looked at, no hashes are known: {', '.join(report.unhashed)}")
    return ExitCode.OK
