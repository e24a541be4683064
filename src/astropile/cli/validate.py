"""``astropile validate``: check a tree against the format and its manifest, and for its meaning."""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from typing import Any, Final

from astropile.catalog import list_subsets
from astropile.cli.exit_codes import ExitCode
from astropile.cli.output import Printer, count_text, printable
from astropile.cli.trees import local_tree
from astropile.findings import Problem, ValidationReport, choose_rules
from astropile.layout import ROOT_FILE
from astropile.meaning.rules import RULES
from astropile.validate import validate_catalog

HELP: Final = "check a tree: every file, every rule of the format, what it means"
DESCRIPTION: Final = """\
Check a tree: every file against its manifest, every rule of docs/format.md, and what the values
mean (docs/how-to/validate.md).

Prints one line per problem: the rule, the place, what is wrong. Exit status 0 if there is
none, 3 if only the meaning is wrong, 6 if the only problems are files that differ from their
manifest, else 4. Warnings do not count, unless --strict.
"""
EXAMPLE: Final = """\
  astropile validate demo/hsc
  astropile validate demo/hsc/pdr3_dud_22.5 --json
  astropile validate demo/desi --only N G --sample 100 --processes 2
"""


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 on")
    return int(text)


def _rule(text: str) -> str:
    try:
        choose_rules([text])
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


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
    parser.add_argument(
        "--only",
        nargs="+",
        type=_rule,
        metavar="RULE",
        help="check these rules (N3) or series (N) alone",
    )
    parser.add_argument(
        "--skip", nargs="+", type=_rule, default=[], metavar="RULE", help="leave these rules out"
    )
    parser.add_argument(
        "--sample",
        type=_positive,
        metavar="N",
        help="look at the arrays of at most N objects of each file for their meaning (all)",
    )
    parser.add_argument(
        "--processes",
        type=_positive,
        default=1,
        metavar="N",
        help="processes that look at the files' values (1)",
    )
    parser.add_argument("--strict", action="store_true", help="take warnings for errors")


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
    rules = choose_rules(args.only, args.skip) if args.only or args.skip else None
    with _hands(args.processes) as executor:
        reports = [
            validate_catalog(
                folder, progress=args.bars, rules=rules, sample=args.sample, executor=executor
            )
            for folder in folders
        ]
    out.document(
        {
            "ok": not any(_wrong(report, strict=args.strict) for report in reports),
            "subsets": [_document(report, strict=args.strict) for report in reports],
        }
    )
    for report in reports:
        out.text(*_lines(report, verbose=out.is_verbose))
    return _exit_code(reports, strict=args.strict)


@contextlib.contextmanager
def _hands(n_processes: int) -> Iterator[Executor | None]:
    """Start processes where more than one is wanted; one that fails ends the others."""
    if n_processes == 1:
        yield None
        return
    # Not forked: a copy of a process with threads may never get going.
    pool = ProcessPoolExecutor(n_processes, multiprocessing.get_context("spawn"))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _wrong(report: ValidationReport, *, strict: bool) -> tuple[Problem, ...]:
    return (*report.problems, *report.warnings) if strict else report.problems


def _document(report: ValidationReport, *, strict: bool) -> dict[str, Any]:
    return {
        "path": report.path,
        "ok": not _wrong(report, strict=strict),
        "n_objects": report.n_objects,
        "n_shards": report.n_shards,
        "problems": report.problems,
        "warnings": report.warnings,
        "looked": report.looked,
        "not_checked": report.not_checked,
    }


def _lines(report: ValidationReport, *, verbose: bool) -> list[str]:
    looked_at = (
        f"{report.path}: {count_text(report.n_objects, 'object')}, "
        f"{count_text(report.n_shards, 'shard')}"
    )
    said = [f"  {printable(problem)}" for problem in report.problems]
    said += [f"  warning: {printable(problem)}" for problem in report.warnings]
    if verbose and report.not_checked:
        said.append(f"  nothing to check for: {' '.join(report.not_checked)}")
    if report.ok:
        warned = f", {count_text(len(report.warnings), 'warning')}" if report.warnings else ""
        return [f"{looked_at}, valid{warned}", *said]
    return [f"{looked_at}, {count_text(len(report.problems), 'problem')}", *said]


def _exit_code(reports: list[ValidationReport], *, strict: bool) -> ExitCode:
    found = {problem.rule for report in reports for problem in _wrong(report, strict=strict)}
    rules = found - set(RULES)
    if not rules:
        return ExitCode.REFUSED if found else ExitCode.OK
    # A row table (W2) that belongs to another file follows from a file that is another (M2).
    return ExitCode.INTEGRITY if "M2" in rules and rules <= {"M2", "W2"} else ExitCode.DAMAGED
