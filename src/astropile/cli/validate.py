"""``astropile validate``: check a tree against the format and its manifest."""

from __future__ import annotations

import argparse
from typing import Final

from astropile.catalog import list_subsets
from astropile.cli.exit_codes import ExitCode
from astropile.cli.output import Printer, count_text, printable
from astropile.cli.trees import local_tree
from astropile.layout import ROOT_FILE
from astropile.validate import ValidationReport, validate_catalog

HELP: Final = "check a tree: every file, every rule of the format"
DESCRIPTION: Final = """\
Check a tree: every file against its manifest, every rule of docs/format.md.

Prints one line per problem: the rule, the place, what is wrong. Exit status 0 if there is
none, 6 if the only problems are files that differ from their manifest, else 4.
"""
EXAMPLE: Final = """\
  astropile validate demo/hsc
  astropile validate demo/hsc/pdr3_dud_22.5 --json
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
        "tree", metavar="TREE", type=local_tree, help="a data folder or a subset's folder"
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
    tree = args.tree.expanduser()
    subsets = () if (tree / ROOT_FILE).is_file() else list_subsets(tree)
    folders = [tree / name for name in subsets] or [tree]
    reports = [validate_catalog(folder, progress=args.bars) for folder in folders]
    out.document(
        {
            "ok": all(report.ok for report in reports),
            "subsets": [
                {
                    "path": report.path,
                    "ok": report.ok,
                    "n_objects": report.n_objects,
                    "n_shards": report.n_shards,
                    "problems": report.problems,
                }
                for report in reports
            ],
        }
    )
    for report in reports:
        out.text(*_lines(report))
    return _exit_code(reports)


def _lines(report: ValidationReport) -> list[str]:
    looked_at = (
        f"{report.path}: {count_text(report.n_objects, 'object')}, "
        f"{count_text(report.n_shards, 'shard')}"
    )
    if report.ok:
        return [f"{looked_at}, valid"]
    lines = [f"{looked_at}, {count_text(len(report.problems), 'problem')}"]
    return [*lines, *(f"  {printable(problem)}" for problem in report.problems)]


def _exit_code(reports: list[ValidationReport]) -> ExitCode:
    rules = {problem.rule for report in reports for problem in report.problems}
    if not rules:
        return ExitCode.OK
    # A row table (W2) that belongs to another file follows from a file that is another (M2).
    return ExitCode.INTEGRITY if "M2" in rules and rules <= {"M2", "W2"} else ExitCode.DAMAGED
