"""``astropile match``: two or more trees or tables matched on the sky, saved."""

from __future__ import annotations

import argparse
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from astropile.catalog import Catalog
from astropile.cli.failures import RefusedError, UsageError
from astropile.cli.output import Printer, count_text, folder_size, size_text
from astropile.cli.trees import local_tree
from astropile.errors import LicenceWarning
from astropile.match.inputs import SkyTable, as_positions, open_side
from astropile.match.multi import JOINS
from astropile.match.package import SUBSET, save_tree
from astropile.match.sample import MatchedSample, match_surveys
from astropile.matched import TABLE_FORMATS, save_match, save_table
from astropile.store.protocol import is_url, tree_path

HELP: Final = "match trees and tables on the sky and save what belongs together"
DESCRIPTION: Final = """\
Match trees and tables on the sky and save the pairs. OUT is a folder: catalog.parquet and
catalog.ecsv with one line per pair, dataset/ with everything that all sides have
(datasets.load_from_disk opens it). With --tree it is the data folder of a tree of its own. Or it
is a file, of the lines alone: .parquet, .csv, .ecsv, .fits, .vot, .xml, .hdf5 or .h5. Each takes
its name when it is whole. Of more than two inputs the first, or the one of the name that --anchor
gives, is matched with each of the others: one line per object of it.
"""
EXAMPLE: Final = """\
  astropile match demo/hsc demo/decals -o hsc_x_decals --radius 1
  astropile match demo/sdss demo/desi -o pairs --radius 0.5 --find mutual --dry-run
  astropile match demo/hsc demo/decals demo/desi -o lines.fits --join all1
  astropile match mine.csv demo/hsc -o lines.csv --join 1and2 --find best --figure lines.png
  astropile match demo/hsc demo/decals -o hsc_x_decals --tree
"""


def _radius(text: str) -> float:
    try:
        radius = float(text)
    except ValueError:
        radius = math.nan
    if not 0 <= radius <= 180 * 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of arcseconds from 0 to 648000")
    return radius


def _input(text: str) -> str:
    try:
        tree_path(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def _named(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=VALUE")
    return name, value


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """
    Declare the options.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        The command's parser.
    """
    parser.add_argument(
        "inputs",
        metavar="INPUT",
        type=_input,
        nargs="+",
        help="two or more: the folder of a tree, of a HATS catalogue or of a saved match, a FITS, "
        "VOTable, CSV, ECSV or Parquet file; or the URL of one of these",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=local_tree,
        required=True,
        metavar="OUT",
        help="the folder or file to make",
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
        "2not1, 1xor2. Of more than two inputs inner, left or outer (inner)",
    )
    parser.add_argument(
        "--anchor", metavar="NAME", help="the survey whose objects the others are matched with"
    )
    for option, value, text in (
        ("--on", "NAME=COLUMN", "match these by equal identifiers, the anchor among them"),
        (
            "--epoch",
            "NAME=WHEN",
            "when positions hold, a year or a column: match objects where they were seen",
        ),
        (
            "--error",
            "NAME=ERROR",
            "standard error of positions, arcsec or columns: adds how likely pairs are one object",
        ),
        ("--columns", "NAME=RA,DEC", "columns of a table's positions, where they are not found"),
    ):
        parser.add_argument(
            option, metavar=value, type=_named, action="append", default=[], help=text
        )
    parser.add_argument(
        "--summary",
        action="store_true",
        help="measure how much is chance: false pairs by shifted positions, completeness, and in "
        "every line the probability that an unrelated object lies as near",
    )
    parser.add_argument(
        "--figure",
        type=local_tree,
        metavar="PNG",
        help="draw separations, completeness and the sky (needs the extra plot; with --summary)",
    )
    parser.add_argument(
        "--tree", action="store_true", help="make a tree of the pairs: OUT is its data folder"
    )
    parser.add_argument(
        "--subset", default=SUBSET, metavar="NAME", help=f"with --tree, the subset ({SUBSET})"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace what is there")
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
    target = _target(args)
    opened = _open(args)
    join = args.join
    if len(opened) > 2:
        join = {"1and2": "inner", "all1": "left", "1or2": "outer"}.get(join, join)
    options = {
        "match_radius": args.radius,
        "find": args.find,
        "join": join,
        "anchor": args.anchor,
        "on": dict(args.on) or None,
        "epochs": {name: _when(text) for name, text in args.epoch} or None,
        "summary": args.summary or args.figure is not None or bool(args.error),
        "errors": {name: _error(text) for name, text in args.error} or None,
    }
    matched: Any = None
    if args.tree or args.dry_run or _is_file(target):
        sample = match_surveys(*opened, **options)
    else:
        from astropile.hf import cross_match_datasets

        matched = cross_match_datasets(*opened, **options)
        sample = matched.sample
    facts = _facts(sample, opened, args)
    if not args.dry_run:
        facts["n_bytes"] = _save(sample, matched, target, args)
    facts["path"] = None if args.dry_run else target
    if args.figure is not None and not args.dry_run:
        _draw(sample, args.figure.expanduser())
        facts["figure"] = args.figure
    out.document(facts)
    _report(out, sample, facts, target, args)
    return 0


def _target(args: argparse.Namespace) -> Path:
    """Find out what is to be written, and refuse at once what cannot be."""
    if len(args.inputs) < 2:
        raise UsageError("match needs two trees or more; see astropile match --help")
    output: Path = args.output.expanduser()
    target = output / args.subset if args.tree else output
    if target.exists() and not args.overwrite:
        raise RefusedError(f"cannot write {target}: it exists already", "--overwrite replaces it")
    if re.fullmatch(r"\.[A-Za-z0-9]{2,8}", output.suffix) and (
        args.tree or output.suffix.lower() not in TABLE_FORMATS
    ):
        raise UsageError(
            f"{output.name}: no format has the suffix {output.suffix!r}; known: "
            f"{', '.join(TABLE_FORMATS)}, or a folder's name"
        )
    if args.figure is not None and args.figure.suffix.lower() != ".png":
        raise UsageError(f"{args.figure.name}: a figure is a .png")
    return target


def _is_file(target: Path) -> bool:
    return target.suffix.lower() in TABLE_FORMATS


def _when(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _error(text: str) -> float | str | tuple[str, str]:
    first, comma, second = text.partition(",")
    if comma:
        return first.strip(), second.strip()
    try:
        return float(text)
    except ValueError:
        return text


def _open(args: argparse.Namespace) -> list[Catalog | SkyTable]:
    """Open the inputs; columns of positions are told for names, as the sides will have them."""
    given = dict(args.columns)
    called = [Path(text).name.partition(".")[0] for text in args.inputs]
    for name in given:
        if name not in called:
            raise UsageError(f"--columns: no input is called {name}, but {', '.join(called)}")
    opened: list[Catalog | SkyTable] = []
    for text, name in zip(args.inputs, called, strict=True):
        value = text if is_url(text) else Path(text)
        if name in given:
            ra, comma, dec = given[name].partition(",")
            if not comma:
                raise UsageError(f"--columns {name}={ra}: expected two columns, as {name}=ra,dec")
            opened.append(as_positions(value, ra.strip(), dec.strip()))
        else:
            opened.append(open_side(value))
    return opened


def _save(sample: MatchedSample, matched: Any, target: Path, args: argparse.Namespace) -> int:
    """Write what was asked for; give its size."""
    if _is_file(target) and not args.tree:
        save_table(sample.catalog, target, overwrite=args.overwrite)
        return target.stat().st_size
    # The flags are among the facts that the command prints.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LicenceWarning)
        if args.tree:
            save_tree(sample, target.parent, subset=args.subset, overwrite=args.overwrite)
        else:
            save_match(matched, target, overwrite=args.overwrite)
    return folder_size(target)


def _draw(sample: MatchedSample, path: Path) -> None:
    from astropile.plot.match import MatchPanels, save_match_figure

    ra, dec = sample.sides[sample.anchor].positions()
    panels = [
        MatchPanels(sure.summary, (ra, dec, sure.is_matched), (sample.anchor, name))
        for name, sure in sample.sureness.items()
    ]
    save_match_figure(path, *panels)


def _facts(
    sample: MatchedSample, opened: Sequence[Catalog | SkyTable], args: argparse.Namespace
) -> dict[str, Any]:
    apart = np.concatenate(list(sample.separations.values()))
    apart = apart[np.isfinite(apart)]
    described = {}
    if len(apart):
        described = {
            "median": float(np.median(apart)),
            "p95": float(np.percentile(apart, 95)),
            "max": float(apart.max()),
        }
    sides = [_described(*one) for one in zip(args.inputs, sample.sides, opened, strict=True)]
    more: Mapping[str, Any] = sample.catalog.meta
    return {
        **({"left": sides[0], "right": sides[1]} if len(sides) == 2 else {"trees": sides}),
        "radius_arcsec": args.radius,
        "find": args.find,
        "join": args.join,
        "n_pairs": len(sample),
        "separation_arcsec": described,
        **{key: more[key] for key in ("summary", "licence_flags") if key in more},
    }


def _described(text: str, name: str, opened: Catalog | SkyTable) -> dict[str, Any]:
    if isinstance(opened, Catalog):
        facts = {"path": opened.path, "survey": opened.survey.name}
    else:
        facts = {"path": text, "table": opened.name}
    return {**facts, "name": name, "n_objects": len(opened)}


def _report(
    out: Printer,
    sample: MatchedSample,
    facts: Mapping[str, Any],
    target: Path,
    args: argparse.Namespace,
) -> None:
    sizes = [f"{len(side):,} of {side.name}" for side in sample.sides.values()]
    is_pairs = len(sizes) == 2 and args.join in {"inner", "1and2"}
    lines = count_text(len(sample), "pair" if is_pairs else "line")
    out.text(f"{lines} among {' and '.join(sizes)} within {args.radius:g} arcsec")
    if apart := facts["separation_arcsec"]:
        out.text(
            f"  separation: median {apart['median']:.3f}, 95 % below {apart['p95']:.3f}, "
            f"largest {apart['max']:.3f} arcsec"
        )
    for name, sure in sample.sureness.items():
        whose = "" if len(sample.sides) == 2 else f" with {name}"
        out.text(f"  chance{whose}: {sure.summary}")
    for flag in facts.get("licence_flags", []):
        out.text(f"  before you share it: {flag}")
    if args.dry_run:
        out.text(f"  would be written to {target}")
        return
    out.text(f"  saved in {target}, {size_text(facts['n_bytes'])}")
    if "figure" in facts:
        out.text(f"  drawn in {facts['figure']}")
