"""``astropile demo``: the whole way, on a small sky."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Final

from astropile.cli.exit_codes import ExitCode
from astropile.cli.failures import RefusedError
from astropile.cli.output import Printer, count_text, folder_size, size_text
from astropile.cli.trees import local_tree
from astropile.demo import run_demo

DATA_VARIABLE: Final = "ASTROPILE_TEST_DATA"

HELP: Final = "simulate a small sky, build, validate, match and draw it"
DESCRIPTION: Final = f"""\
Simulate a small sky as five surveys would have published it; build a tree of each, validate,
match, save, and draw the matched objects. Works offline. With --data (or the variable
{DATA_VARIABLE}), real survey files go the same way, into DIR/real.

Run again on the same folder, it uses what is finished.
"""
EXAMPLE: Final = """\
  astropile demo demo/
  astropile demo demo/ --data ~/survey_files
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """
    Declare the options.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        The command's parser.
    """
    parser.add_argument("folder", metavar="DIR", type=local_tree, help="where everything goes")
    parser.add_argument(
        "--data", type=local_tree, metavar="PATH", help="folder of real survey files"
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
    data = args.data
    if data is None and os.environ.get(DATA_VARIABLE):
        data = Path(os.environ[DATA_VARIABLE])
    if data is not None and not data.expanduser().is_dir():
        raise RefusedError(f"no folder of real survey files at {data}")
    report = run_demo(args.folder, real_data=data, progress=args.bars, say=out.text)
    out.document(report)
    out.text(
        f"{count_text(len(report.figures), 'picture')} in {report.folder}/figures, "
        f"{size_text(folder_size(report.folder))} in all, {report.seconds:.0f} s",
        "",
        "next:",
        *(f"  {command}" for command in report.next_commands),
    )
    for tree in report.trees:
        out.text(*(f"{tree.path}, as its files are: {remark}" for remark in tree.remarks))
    broken = [tree for tree in report.trees if tree.problems]
    for tree in broken:
        out.text(f"{tree.path} has {count_text(len(tree.problems), 'problem')}:")
        out.text(*(f"  {problem}" for problem in tree.problems))
    return ExitCode.DAMAGED if broken else ExitCode.OK
