"""``astropile match``: two or more trees matched on the sky, saved."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from astropile.catalog import Catalog, open_catalog
from astropile.cli.failures import RefusedError, UsageError
from astropile.cli.output import Printer, count_text, folder_size, size_text
from astropile.cli.trees import any_tree
from astropile.match.multi import JOINS
from astropile.matched import TABLE_FORMATS, save_match, save_table

HELP: Final = "match trees on the sky and save what belongs together"
DESCRIPTION: Final = """\
Match trees on the sky and save the pairs. OUT is a folder: catalog.parquet and catalog.ecsv
with one line per pair, dataset/ with everything that all sides have (datasets.load_from_disk
opens it). Or a file, of the lines alone: .parquet, .csv, .ecsv, .fits or .vot. Either takes its
name when it is whole. Of more than two trees the first, or the one of the name that --anchor
gives, is matched with each of the others: one line per object of it.
"""
EXAMPLE: Final = """\
  astropile match demo/hsc demo/decals -o hsc_x_decals --radius 1
  astropile match demo/sdss demo/desi -o pairs --radius 0.5 --find mutual --dry-run
  astropile match demo/hsc demo/decals demo/desi -o lines.fits --join all1
"""


def _radius(text: str) -> float:
    try:
        radius = float(text)
    except ValueError:
        radius = math.nan
    if not 0 <= radius <= 180 * 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of arcseconds from 0 to 648000")
    return radius


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """
    Declare the options.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        The command's parser.
    """
    parser.add_argument(
        "trees",
        metavar="TREE",
        type=any_tree,
        nargs="+",
        help="two or more trees: the folder of each, or the URL of a subset",
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="OUT", help="the folder or file to make"
    )
    parser.add_argument(
        "--radius",
        type=_radius,
        default=1.0,
        metavar="ARCSEC",
        help="largest separation of a pair (1)",
    )
    parser.add_argument(
        "--find",
        choices=("nearest", "mutual", "all", "best", "best1", "best2"),
        default="nearest",
        help="the nearest right object of each left one (nearest or best1) or the other way round "
        "(best2); only where each is the other's nearest (mutual); the closest pairs in which no "
        "object occurs twice (best); or every pair (nearest)",
    )
    parser.add_argument(
        "--join",
        choices=tuple(JOINS),
        default="inner",
        metavar="JOIN",
        help="what to keep: pairs (inner or 1and2), also what is only in the first (left, all1), "
        "only in the second (right, all2), or either (outer, 1or2); or what has no pair: 1not2, "
        "2not1, 1xor2. Of more than two trees inner, left or outer (inner)",
    )
    parser.add_argument(
        "--anchor", metavar="NAME", help="the survey whose objects the others are matched with"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a folder that is there")
    parser.add_argument("--dry-run", action="store_true", help="count the pairs and write nothing")


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
    folder = args.output.expanduser()
    if folder.exists() and not args.overwrite:
        raise RefusedError(f"cannot write {folder}: it exists already", "--overwrite replaces it")
    if len(args.trees) < 2:
        raise UsageError("match needs two trees or more; see astropile match --help")
    is_file = folder.suffix.lower() in TABLE_FORMATS
    if not is_file and re.fullmatch(r"\.[A-Za-z]{2,8}", folder.suffix):
        raise UsageError(
            f"{folder.name}: no format has the suffix {folder.suffix!r}; known: "
            f"{', '.join(TABLE_FORMATS)}, or a folder's name"
        )
    join = args.join
    if len(args.trees) > 2:
        join = {"1and2": "inner", "all1": "left", "1or2": "outer"}.get(join, join)
    catalogs = [open_catalog(tree) for tree in args.trees]
    from astropile.hf import cross_match_datasets

    matched = cross_match_datasets(
        *catalogs, match_radius=args.radius, find=args.find, join=join, anchor=args.anchor
    )
    facts = _facts(matched.catalog, catalogs, args)
    if not args.dry_run and is_file:
        save_table(matched.catalog, folder, overwrite=args.overwrite)
        facts["n_bytes"] = folder.stat().st_size
    elif not args.dry_run:
        save_match(matched, folder, overwrite=args.overwrite)
        facts["n_bytes"] = folder_size(folder)
    out.document(facts)
    sizes = [f"{len(one):,} of {one.survey.name}" for one in catalogs]
    is_pairs = len(catalogs) == 2 and join in {"inner", "1and2"}
    lines = count_text(facts["n_pairs"], "pair" if is_pairs else "line")
    out.text(f"{lines} among {' and '.join(sizes)} within {args.radius:g} arcsec")
    if apart := facts["separation_arcsec"]:
        out.text(
            f"  separation: median {apart['median']:.3f}, 95 % below {apart['p95']:.3f}, "
            f"largest {apart['max']:.3f} arcsec"
        )
    if args.dry_run:
        out.text(f"  would be written to {folder}")
    else:
        out.text(f"  saved in {folder}, {size_text(facts['n_bytes'])}")
    return 0


def _facts(table: Any, catalogs: Sequence[Catalog], args: argparse.Namespace) -> dict[str, Any]:
    names = [name for name in table.colnames if name.split("_")[0] == "separation"]
    separation = np.concatenate([np.asarray(table[name], np.float64) for name in names])
    separation = separation[np.isfinite(separation)]
    described = {}
    if len(separation):
        described = {
            "median": float(np.median(separation)),
            "p95": float(np.percentile(separation, 95)),
            "max": float(separation.max()),
        }
    trees = [
        {"path": one.path, "survey": one.survey.name, "n_objects": len(one)} for one in catalogs
    ]
    return {
        **({"left": trees[0], "right": trees[1]} if len(trees) == 2 else {"trees": trees}),
        "radius_arcsec": args.radius,
        "find": args.find,
        "join": args.join,
        "n_pairs": len(table),
        "separation_arcsec": described,
        "path": None if args.dry_run else args.output,
    }
