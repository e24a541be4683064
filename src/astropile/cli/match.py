"""``astropile match``: two trees matched on the sky, saved."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any, Final

import numpy as np

from astropile.catalog import Catalog, open_catalog
from astropile.cli.failures import RefusedError
from astropile.cli.output import Printer, count_text, folder_size, size_text
from astropile.matched import save_match
from astropile.store.protocol import tree_path

HELP: Final = "match two trees on the sky and save the pairs"
DESCRIPTION: Final = """\
Match two trees on the sky and save the pairs: catalog.parquet and catalog.ecsv with one line
per pair, dataset/ with everything that both sides have (datasets.load_from_disk opens it).
The folder takes its name when it is whole.
"""
EXAMPLE: Final = """\
  astropile match demo/hsc demo/decals -o hsc_x_decals --radius 1
  astropile match demo/sdss demo/desi -o pairs --radius 0.5 --find mutual --dry-run
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
        "left", metavar="LEFT", type=tree_path, help="a tree: its folder, or the URL of a subset"
    )
    parser.add_argument("right", metavar="RIGHT", type=tree_path, help="another tree")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="OUT", help="the folder to make"
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
        choices=("nearest", "mutual", "all"),
        default="nearest",
        help="the nearest right object of each left one; only where each is the other's nearest; "
        "or every pair (nearest)",
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
    left, right = open_catalog(args.left), open_catalog(args.right)
    from astropile.hf import cross_match_datasets

    matched = cross_match_datasets(left, right, match_radius=args.radius, find=args.find)
    facts = _facts(matched.catalog, left, right, args)
    if not args.dry_run:
        save_match(matched, folder, overwrite=args.overwrite)
        facts["n_bytes"] = folder_size(folder)
    out.document(facts)
    sizes = [f"{len(one):,} of {one.survey.name}" for one in (left, right)]
    pairs = count_text(facts["n_pairs"], "pair")
    out.text(f"{pairs} among {' and '.join(sizes)} within {args.radius:g} arcsec")
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


def _facts(table: Any, left: Catalog, right: Catalog, args: argparse.Namespace) -> dict[str, Any]:
    separation = np.asarray(table["separation"])
    described = {}
    if len(separation):
        described = {
            "median": float(np.median(separation)),
            "p95": float(np.percentile(separation, 95)),
            "max": float(separation.max()),
        }
    return {
        "left": {"path": left.path, "survey": left.survey.name, "n_objects": len(left)},
        "right": {"path": right.path, "survey": right.survey.name, "n_objects": len(right)},
        "radius_arcsec": args.radius,
        "find": args.find,
        "n_pairs": len(separation),
        "separation_arcsec": described,
        "path": None if args.dry_run else args.output,
    }
