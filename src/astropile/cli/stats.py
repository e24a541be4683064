"""``astropile stats``: the statistics of a tree's fields, gathered once and kept with it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from astropile.cli.failures import UsageError
from astropile.cli.output import Printer, count_text, printable, table
from astropile.cli.trees import any_tree, local_tree
from astropile.layout import ROOT_FILE

if TYPE_CHECKING:
    from astropile.statistics import Statistic, Statistics

HELP: Final = "gather statistics of a tree's fields and keep them with it"
DESCRIPTION: Final = """\
Say of each field of numbers, and of each band of it, how many values there are, how many are
missing or masked, their mean, standard deviation, extremes and quantiles. What was gathered is
kept in the tree, as statistics/fields.json of the subset, until its data changes; what is there
is not gathered again. Run again after a stop, it goes on where it was.
"""
EXAMPLE: Final = """\
  astropile stats demo/hsc
  astropile stats demo/sdss --columns spectrum,z --workers 2
  astropile stats demo/hsc --sample 0.1 --output hsc.json
"""

_HEAD: Final = (
    *("field", "channel", "unit", "values", "missing", "masked"),
    *("mean", "std", "min", "median", "max"),
)
_QUANTILES: Final = (0.01, 0.05, 0.16, 0.25, 0.5, 0.75, 0.84, 0.95, 0.99)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """
    Declare the options.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        The command's parser.
    """
    parser.add_argument(
        "tree", metavar="TREE", type=any_tree, help="a data folder, a subset's folder or its URL"
    )
    parser.add_argument(
        "--columns",
        metavar="LIST",
        help="only these standard names, or paths in them as spectrum.flux, with commas",
    )
    parser.add_argument(
        "--sample", type=float, default=1.0, metavar="F", help="look at this share of the objects"
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="which objects those are (0)"
    )
    parser.add_argument(
        "--workers", type=int, default=1, metavar="N", help="processes that read side by side (1)"
    )
    parser.add_argument(
        "-o", "--output", type=local_tree, metavar="FILE", help="keep them there, not in the tree"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace those of another sample")


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
    from astropile.catalog import open_catalog
    from astropile.statistics import update_statistics
    from astropile.statistics.compute import paths_of

    if not 0 < args.sample <= 1:
        raise UsageError(f"--sample is above 0 and at most 1, not {args.sample}")
    if args.workers < 1:
        raise UsageError(f"--workers is at least 1, not {args.workers}")
    columns = None if args.columns is None else [c for c in args.columns.split(",") if c]
    folders = _subsets(args.tree)
    if args.output is not None and len(folders) > 1:
        raise UsageError(f"--output is for one subset: {', '.join(f.name for f in folders)}")
    shown: list[tuple[Statistics, list[str]]] = []
    for folder in folders:
        catalog = open_catalog(folder)
        found = update_statistics(
            catalog,
            columns,
            path=args.output,
            sample=args.sample,
            seed=args.seed,
            workers=args.workers,
            overwrite=args.overwrite,
            progress=args.bars,
        )
        shown.append((found, sorted(paths_of(catalog, columns))))
    out = Printer(args)
    out.document({"path": args.tree, "subsets": [_facts(*one) for one in shown]})
    for number, one in enumerate(shown):
        out.text(*([""] if number else []), *_lines(*one))
    return 0


def _subsets(tree: Any) -> list[Any]:
    """List the subsets of a data folder; the folder or URL of one is the only one."""
    from astropile.catalog import list_subsets

    if not isinstance(tree, Path) or (tree / ROOT_FILE).is_file():
        return [tree]
    return [tree / name for name in list_subsets(tree)] or [tree]


def _facts(found: Statistics, paths: list[str]) -> dict[str, Any]:
    return {
        "survey": found.survey,
        "subset": found.subset,
        "snapshot": found.snapshot,
        "n_objects": found.n_objects,
        "selection": found.selection,
        "fields": {
            path: {
                "unit": found[path].unit,
                "n_objects": found[path].n_objects,
                "n_absent": found[path].n_absent,
                "channels": {
                    name: _of_channel(one) for name, one in sorted(found[path].channels.items())
                },
            }
            for path in paths
        },
    }


def _of_channel(one: Statistic) -> dict[str, Any]:
    weighted = one.weighted if one.weighted.weight else None
    return {
        "n_values": one.n_values,
        "n_missing": one.n_missing,
        "n_masked": one.n_masked,
        "missing_fraction": one.missing_fraction,
        "mean": one.mean,
        "std": one.std,
        "weighted_mean": None if weighted is None else weighted.mean,
        "weighted_std": None if weighted is None else weighted.std,
        "min": one.minimum,
        "max": one.maximum,
        "quantiles": {f"{q:g}": one.quantile(q).item() for q in _QUANTILES},
        "rank_error": one.sketch.rank_error,
    }


def _lines(found: Statistics, paths: list[str]) -> list[str]:
    sample = found.selection["sample"]
    looked = count_text(found.n_objects, "object")
    if sample < 1:
        looked += f", a share of {sample:g} of all"
    rows = [
        _row(path, name, found[path].unit, one)
        for path in paths
        for name, one in sorted(found[path].channels.items())
    ]
    head = f"{printable(found.survey)}/{printable(found.subset)}: {looked}"
    return [head, "", *table(rows, head=_HEAD, indent="  ")]


def _row(path: str, name: str, unit: str, one: Statistic) -> tuple[str, ...]:
    numbers = (one.mean, one.std, one.minimum, one.quantile(0.5).item(), one.maximum)
    return (
        *(path, name, unit, f"{one.count:,}"),
        _share(one.n_missing, one.n_values),
        _share(one.n_masked, one.n_values),
        *("-" if number is None else f"{number:.5g}" for number in numbers),
    )


def _share(part: int, whole: int) -> str:
    return "-" if not part else f"{100 * part / whole:.2g} %"
