"""``astropile info``: what a tree holds."""

from __future__ import annotations

import argparse
import contextlib
import json
from collections import Counter
from typing import Any, Final

import numpy as np

from astropile.card import survey_lines
from astropile.catalog import Catalog, list_subsets, open_catalog
from astropile.cli.output import Printer, folder_size, printable, size_text, table
from astropile.cli.trees import any_tree
from astropile.healpix import n_pixels
from astropile.layout import MANIFEST_DIR, REJECTED_FILE, ROOT_FILE
from astropile.names import COMMON_COLUMNS, FORMAT_VERSION
from astropile.schema import Column, Survey, column_names
from astropile.store.protocol import RemotePath, TreePath
from astropile.view import Leaf, ListOf, Node, view_type

HELP: Final = "say what a tree holds: objects, sky, columns, units, licence"
DESCRIPTION: Final = "Say what a tree holds: objects, sky, columns with units, licence, citation."
EXAMPLE: Final = """\
  astropile info demo/hsc
  astropile info demo/hsc --verbose
  astropile info demo/hsc/pdr3_dud_22.5 --json
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
        "tree",
        metavar="TREE",
        type=any_tree,
        help="a data folder or a subset's folder, or the URL of a subset's folder",
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
    tree = args.tree
    is_subset = isinstance(tree, RemotePath) or (tree / ROOT_FILE).is_file()
    subsets = () if is_subset else list_subsets(tree)
    catalogs = [open_catalog(tree, name) for name in subsets] or [open_catalog(tree)]
    facts = [_facts(catalog) for catalog in catalogs]
    out.document({"path": tree, "subsets": facts})
    for number, (catalog, known) in enumerate(zip(catalogs, facts, strict=True)):
        if number:
            out.text("")
        out.text(*_lines(catalog, known, verbose=out.is_verbose))
    return 0


def _facts(catalog: Catalog) -> dict[str, Any]:
    survey, root = catalog.survey, catalog.root
    counts = [sum(partition.n_objects) for partition in root.partitions]
    rejected = _rejected(catalog)
    return {
        "path": catalog.path,
        "survey": survey.name,
        "title": survey.title,
        "provenance": survey.provenance,
        "subset": catalog.subset,
        "format": FORMAT_VERSION,
        "layout": root.layout,
        "order": catalog.order,
        "n_objects": len(catalog),
        "n_partitions": len(counts),
        "n_shards": len(catalog.shards),
        "n_bytes": _size(catalog),
        "sky_fraction": len(counts) / n_pixels(catalog.order),
        "objects_per_partition": {
            "min": min(counts),
            "median": float(np.median(counts)),
            "max": max(counts),
            "histogram": _histogram(counts),
        },
        "rejected": rejected,
        "snapshot": catalog.snapshot,
        "frame": survey.frame,
        "epoch": survey.epoch,
        "wavelength_medium": survey.wavelength_medium,
        "wavelength_frame": survey.wavelength_frame,
        "time_scale": survey.time_scale,
        "homepage": survey.homepage,
        "licence": survey.licence,
        "citation": survey.citation,
        "acknowledgement": survey.acknowledgement,
        "fields": {name: _field(node) for name, node in view_type(survey).items()},
        "columns": [_column(column) for column in survey.columns],
        "aliases": {name: column_names(source) for name, source in survey.aliases.items()},
    }


def _histogram(counts: list[int]) -> list[dict[str, int]]:
    """Count partitions by powers of ten of their objects."""
    found = Counter(len(str(count)) - 1 for count in counts)
    return [
        {"from": 10**power, "below": 10 ** (power + 1), "partitions": number}
        for power, number in sorted(found.items())
    ]


def _size(catalog: Catalog) -> int | None:
    """Add up the files, where they can be listed."""
    path: TreePath = catalog.path
    return None if isinstance(path, RemotePath) else folder_size(path)


def _rejected(catalog: Catalog) -> dict[str, int]:
    """Say why objects were left out, and how many for each reason."""
    path = catalog.path / MANIFEST_DIR / REJECTED_FILE
    reasons: Counter[str] = Counter()
    with contextlib.suppress(FileNotFoundError):
        for line in path.read_bytes().splitlines():
            entry = json.loads(line)
            reasons[str(entry["reason"])] += int(entry["count"])
    return dict(reasons.most_common())


def _column(column: Column) -> dict[str, Any]:
    return {
        "name": column.name,
        "dtype": column.dtype,
        "shape": column.shape,
        "unit": column.unit,
        "doc": column.doc,
        "light": column.is_light,
        "shared": column.shared,
        "derived": column.derived,
        "bits": column.bits,
    }


def _field(node: Node) -> Any:
    if isinstance(node, Leaf):
        return {"dtype": node.dtype, "shape": node.shape, "unit": node.unit}
    if isinstance(node, ListOf):
        return [_field(node.item)]
    return {name: _field(item) for name, item in node.fields.items()}


def is_standard(survey: Survey, name: str) -> bool:
    """
    Tell a standard name from one that is the survey's own alone.

    Parameters
    ----------
    survey : Survey
        The survey.
    name : str
        A field of the standard view.

    Returns
    -------
    bool
        True for a standard name, also where the survey uses the same one.
    """
    return name in survey.aliases or name in COMMON_COLUMNS or name not in survey.column_names


def leaf_rows(name: str, node: Node) -> list[tuple[str, str, str]]:
    """
    List what a field of the standard view is made of.

    Parameters
    ----------
    name : str
        Its name.
    node : Leaf, Struct or ListOf
        Its type.

    Returns
    -------
    list of tuple of str
        Path, type and unit of each number, text or array; ``[]`` stands for a list.
    """
    if isinstance(node, Leaf):
        return [(name, type_text(node), node.unit)]
    if isinstance(node, ListOf):
        return leaf_rows(f"{name}[]", node.item)
    return [row for key, item in node.fields.items() for row in leaf_rows(f"{name}.{key}", item)]


def type_text(leaf: Leaf) -> str:
    """
    Write a type.

    Parameters
    ----------
    leaf : Leaf
        The type.

    Returns
    -------
    str
        Its dtype, and its shape where it is an array; ``*`` is a length that varies.
    """
    if not leaf.shape:
        return leaf.dtype
    return f"{leaf.dtype} ({' x '.join('*' if n is None else str(n) for n in leaf.shape)})"


def _lines(catalog: Catalog, facts: dict[str, Any], *, verbose: bool) -> list[str]:
    survey = catalog.survey
    per = facts["objects_per_partition"]
    pixels = n_pixels(catalog.order)
    histogram = ", ".join(
        f"{entry['partitions']} of {entry['from']:,} to {entry['below'] - 1:,}"
        for entry in per["histogram"]
    )
    rejected = sum(facts["rejected"].values())
    reasons = "; ".join(f"{reason} ({n:,})" for reason, n in facts["rejected"].items())
    about = [
        ("survey", f"{survey.survey} {survey.release} ({survey.project})"),
        ("objects", f"{len(catalog):,}"),
        ("rejected", f"{rejected:,}: {reasons}" if rejected else "0"),
        (
            "partitions",
            f"{facts['n_partitions']:,} of {pixels:,}, HEALPix order {catalog.order} NESTED",
        ),
        ("of the sky", f"{facts['sky_fraction']:.2%}"),
        ("objects in each", f"{per['min']:,} to {per['max']:,}; partitions: {histogram}"),
        ("shards", f"{facts['n_shards']:,}, layout {facts['layout']}"),
        ("on disk", "not known" if facts["n_bytes"] is None else size_text(facts["n_bytes"])),
        ("snapshot", catalog.snapshot[:16]),
        ("licence", survey.licence),
        ("cite", " ".join(survey.citation.split())),
    ]
    lines = [f"{printable(catalog.path)}: {printable(survey.title)}", *table(about, indent="  ")]
    kinds = view_type(survey)
    standard = {name: node for name, node in kinds.items() if is_standard(survey, name)}
    rows = [row for name, node in standard.items() for row in leaf_rows(name, node)]
    lines += ["", *table(rows, head=("field", "type", "unit"), indent="  ")]
    if verbose:
        return [*lines, "", *survey_lines(survey)]
    rest = len(kinds) - len(standard)
    return [*lines, f"  and {rest} native columns: --verbose describes all {len(survey.columns)}"]
