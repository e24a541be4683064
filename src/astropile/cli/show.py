"""``astropile show``: one object, as a picture or as text."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np

from astropile.catalog import Catalog, open_catalog
from astropile.cli.failures import RefusedError, UsageError
from astropile.cli.info import is_standard, type_text
from astropile.cli.output import Printer, count_text, printable, table
from astropile.cli.sketch import sketch_curve, sketch_image
from astropile.cli.trees import any_tree, local_tree
from astropile.view import Leaf, ListOf, Node, standard_records, view_type

HELP: Final = "show one object: as a PNG, or as text"
DESCRIPTION: Final = """\
Show one object: every field with its unit, and a sketch of its image or spectrum; with
-o, as a PNG picture.
"""
EXAMPLE: Final = """\
  astropile show demo/sdss 1237650000000000007
  astropile show demo/sdss 1237650000000000007 -o object.png
"""

_SHORT: Final = 12
"""Of a longer list of numbers only the range is shown."""


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
    parser.add_argument("object_id", metavar="OBJECT_ID", help="an object_id or observation_id")
    parser.add_argument("-o", "--output", type=local_tree, metavar="PNG", help="write a picture")


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
    if args.output is not None and args.output.suffix.lower() != ".png":
        raise UsageError(f"{args.output}: a picture is saved as .png")
    if args.output is not None and not args.output.expanduser().absolute().parent.is_dir():
        raise RefusedError(f"cannot write {args.output}: there is no folder to hold it")
    catalog = open_catalog(args.tree)
    rows = catalog.find(args.object_id)
    if not len(rows):
        raise RefusedError(
            f"no object {args.object_id!r} in {catalog.path}", _some_objects(catalog)
        )
    if len(rows) > 1 and not args.quiet:
        ids = catalog.light(["observation_id"])["observation_id"]
        names = ", ".join(printable(ids[int(row)].as_py()) for row in rows[:5])
        print(
            f"astropile: {count_text(len(rows), 'observation')} of it; this is the first of "
            f"observation_id {names}",
            file=sys.stderr,
        )
    row = int(rows[0])
    example = standard_records(catalog.standard([row]))[0]
    if args.output is not None:
        from astropile.plot import Side, draw_object, has_picture, save_figure

        side = Side(catalog.survey, example)
        if not has_picture(side):
            raise RefusedError("the object has no image, spectrum, cube or light curve to draw")
        save_figure(draw_object(side), args.output.expanduser())
        out.text(f"wrote {args.output}")
        out.document({"tree": catalog.path, "row": row, "picture": args.output})
        return 0
    kinds = view_type(catalog.survey)
    fields = [
        entry for name, node in kinds.items() for entry in _entries(name, node, [example[name]])
    ]
    out.document(
        {"tree": catalog.path, "row": row, "fields": [_json_entry(*entry) for entry in fields]}
    )
    lines = [(path, type_text(leaf), leaf.unit, _value(values)) for path, leaf, values in fields]
    if not out.is_verbose:
        shown = [line for line in lines if is_standard(catalog.survey, line[0])]
        hidden = len(lines) - len(shown)
        lines = shown
        more = [f"and {hidden} native columns: --verbose shows them"] if hidden else []
    else:
        more = []
    out.text(*table(lines, head=("field", "type", "unit", "value")), *more)
    out.text(*_sketches(example))
    return 0


def _some_objects(catalog: Catalog) -> str:
    ids = catalog.light(["object_id"])["object_id"].slice(0, 3).to_pylist()
    return f"objects there are, for example: {', '.join(map(printable, ids))}"


def _entries(name: str, node: Node, values: Sequence[Any]) -> Iterator[tuple[str, Leaf, list[Any]]]:
    """List every leaf of a field with its values: one, or one per record of a list."""
    if isinstance(node, Leaf):
        yield name, node, list(values)
    elif isinstance(node, ListOf):
        items = [item for value in values if value is not None for item in value]
        yield from _entries(f"{name}[{len(items)}]", node.item, items)
    else:
        for key, kind in node.fields.items():
            inner = [None if value is None else value[key] for value in values]
            yield from _entries(f"{name}.{key}", kind, inner)


def _statistics(values: Sequence[Any]) -> dict[str, Any]:
    """Count and describe the numbers in arrays."""
    flat = [np.ravel(value) for value in values if value is not None]
    numbers = np.concatenate(flat) if flat else np.empty(0)
    if numbers.dtype.kind == "b":
        return {"n": numbers.size, "n_true": int(numbers.sum())}
    if numbers.dtype.kind not in "iuf":
        return {"n": numbers.size}
    good = numbers[np.isfinite(numbers)]
    facts: dict[str, Any] = {"n": numbers.size, "n_finite": good.size}
    if good.size:
        facts |= {"min": good.min(), "median": float(np.median(good)), "max": good.max()}
    return facts


def _is_short(values: Sequence[Any]) -> bool:
    return len(values) <= _SHORT and not any(np.ndim(value) for value in values)


def _value(values: Sequence[Any]) -> str:
    if _is_short(values):
        texts = [_scalar(value) for value in values]
        return f"{texts[0]} each" if len(texts) > 1 and len(set(texts)) == 1 else " ".join(texts)
    if not any(np.ndim(value) for value in values) and isinstance(values[0], str):
        return f"{_scalar(values[0])} … {_scalar(values[-1])}"
    facts = _statistics(values)
    if "n_true" in facts:
        return f"{facts['n_true']:,} of {facts['n']:,} true"
    if "min" not in facts:
        return f"none of {count_text(facts['n'], 'value')} finite" if facts["n"] else "empty"
    lost = facts["n"] - facts["n_finite"]
    text = f"{facts['min']:.5g} … {facts['max']:.5g}, median {facts['median']:.5g}"
    return f"{text}, {lost:,} not finite" if lost else text


def _scalar(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, float | np.floating):
        return f"{value:.10g}" if np.asarray(value).dtype == np.float64 else f"{value:.6g}"
    return printable(value)


def _json_entry(path: str, leaf: Leaf, values: list[Any]) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "field": path,
        "dtype": leaf.dtype,
        "shape": leaf.shape,
        "unit": leaf.unit,
    }
    if _is_short(values):
        # Identifiers are strings in JSON, so that no reader rounds them.
        is_id = path in {"object_id", "observation_id"}
        plain = [str(value) if is_id else value for value in values]
        return {**entry, "value": plain[0] if "[" not in path else plain}
    return {**entry, "statistics": _statistics(values)}


def _sketches(example: dict[str, Any]) -> list[str]:
    """Draw what a terminal can: one band of an image, the spectrum of an object."""
    lines: list[str] = []
    if bands := [band for band in example.get("image") or () if np.ndim(band.get("array")) == 2]:
        band = bands[len(bands) // 2]
        lines += ["", f"image, {printable(band.get('filter', ''))}", *sketch_image(band["array"])]
    spectrum = example.get("spectrum")
    if isinstance(spectrum, dict) and np.size(spectrum.get("flux", ())) > 1:
        wave = np.asarray(spectrum["lambda"], float)
        wave = wave[np.isfinite(wave) & (wave > 0)]
        span = f", {wave.min():.0f} to {wave.max():.0f} Å" if wave.size else ""
        lines += ["", f"spectrum{span}", *sketch_curve(spectrum["flux"])]
    return lines
