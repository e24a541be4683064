"""``astropile surveys``: which surveys can be built."""

from __future__ import annotations

import argparse
from typing import Final

from astropile.cli.output import Printer, count_text, table
from astropile.cli.survey_pages import kinds_of, survey_pages
from astropile.cli.trees import local_tree
from astropile.publish import publish_bytes
from astropile.surveys import get_survey, list_surveys

HELP: Final = "list the surveys that can be built"
DESCRIPTION: Final = "List the surveys that can be built, with what each holds."
EXAMPLE: Final = """\
  astropile surveys
  astropile surveys --json
  astropile surveys --write-docs docs/surveys
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
        "--write-docs",
        type=local_tree,
        metavar="DIR",
        help="write a page per survey, and an index, into a folder",
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
    if args.write_docs is not None:
        args.write_docs.mkdir(parents=True, exist_ok=True)
        pages = survey_pages()
        for name, text in pages.items():
            publish_bytes(args.write_docs / name, text.encode())
        out.text(f"wrote {count_text(len(pages), 'page')} to {args.write_docs}")
        out.document({"folder": args.write_docs, "pages": sorted(pages)})
        return 0
    found = [get_survey(name) for name in list_surveys()]
    rows = [
        (s.name, s.survey, s.release, s.subset, ", ".join(kinds_of(s)), s.licence) for s in found
    ]
    head = ("name", "survey", "release", "subset", "holds", "licence")
    out.text(*table(rows, head=head))
    out.document(
        {
            "surveys": [
                {
                    "name": s.name,
                    "title": s.title,
                    "project": s.project,
                    "survey": s.survey,
                    "release": s.release,
                    "subset": s.subset,
                    "holds": kinds_of(s),
                    "n_columns": len(s.columns),
                    "licence": s.licence,
                    "homepage": s.homepage,
                }
                for s in found
            ]
        }
    )
    return 0
