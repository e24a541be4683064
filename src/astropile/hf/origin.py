"""Of which tree or match the rows of a lazy dataset are, and which of its rows."""

from __future__ import annotations

from dataclasses import dataclass

import datasets
import numpy as np

from astropile.catalog import Catalog
from astropile.errors import SampleError
from astropile.hf.lazy import LazyTable
from astropile.hf.pairs import PairRows
from astropile.hf.rows import TreeRows
from astropile.hf.source import Rows, RowSource
from astropile.hf.views import ChosenRows, DatasetRows
from astropile.names import PROVENANCE
from astropile.view import view_names


@dataclass(frozen=True, eq=False)
class TreePart:
    """
    Objects of a tree, and what is wanted of them.

    Parameters
    ----------
    catalog : Catalog
        The tree.
    rows : ndarray of int64, shape (n,), or None
        Which of its rows, in order; None for all.
    columns : tuple of str, or None
        Fields of the standard view, without `provenance`, which is one for all; None for all.
    """

    catalog: Catalog
    rows: Rows | None
    columns: tuple[str, ...] | None


@dataclass(frozen=True, eq=False)
class MatchPart:
    """
    Rows of a match.

    Parameters
    ----------
    sides : dict of str to TreePart
        What each survey's rows are.
    rows : dict of str to ndarray of int64, shape (n,)
        For each row of the match the row of each side, -1 where it has no part.
    """

    sides: dict[str, TreePart]
    rows: dict[str, Rows]


def tree_rows(source: RowSource) -> TreeRows | None:
    """
    Find the objects of a tree that rows are, if they are those and nothing else.

    Parameters
    ----------
    source : RowSource
        The rows.

    Returns
    -------
    TreeRows or None
        The same rows, of the tree itself; None if columns were renamed, cast, made or put beside.
    """
    found, rows, names = _followed(source)
    if not isinstance(found, TreeRows):
        return None
    if rows is not None and found.chosen_rows is not None:
        rows = found.chosen_rows[rows]
    return TreeRows(found.catalog, names, found.chosen_rows if rows is None else rows)


def origin_of(dataset: datasets.Dataset) -> TreePart | MatchPart:
    """
    Find the trees whose rows a dataset has.

    Parameters
    ----------
    dataset : datasets.Dataset
        A lazy dataset of a tree or a match, or rows and columns chosen of one.

    Returns
    -------
    TreePart or MatchPart
        Its rows, in its order.

    Raises
    ------
    SampleError
        If it has other values than those of the trees: columns renamed, cast or made by a function,
        rows of several trees, or rows that are in memory.
    """
    source = DatasetRows(dataset)
    tree = tree_rows(source)
    if tree is not None:
        return _part(tree)
    found, rows, names = _followed(source)
    if not isinstance(found, PairRows):
        raise SampleError(
            "dataset",
            "rows of one tree or match as load_dataset and cross_match_datasets give them",
            "columns or rows that are not read from there as they are",
        )
    chosen = slice(None) if rows is None else rows
    sides, places = {}, {}
    for name, (side, where) in found.parts.items():
        own = tree_rows(side)
        if own is None:
            raise SampleError(f"side {name!r} of the match", "rows of a tree", side.name)
        if found.is_flat or name in names:
            sides[name], places[name] = _part(own), where[chosen]
    if not sides:
        raise SampleError("dataset", "at least one survey of the match", ", ".join(names))
    return MatchPart(sides, places)


def _part(tree: TreeRows) -> TreePart:
    has_all = set(view_names(tree.survey)) <= set(tree.types)
    columns = tuple(name for name in tree.types if name != PROVENANCE)
    return TreePart(tree.catalog, tree.chosen_rows, None if has_all else columns)


def _followed(source: RowSource) -> tuple[RowSource, Rows | None, list[str]]:
    """Go from rows and columns that were chosen to what they were chosen of."""
    names, rows = source.schema.names, None
    while isinstance(source, DatasetRows | ChosenRows):
        if isinstance(source, ChosenRows):
            source = source.source
            continue
        table = source.table
        if not isinstance(table, LazyTable) or not table.is_as_read:
            break
        here = table.rows if source.indices is None else table.rows[source.indices]
        rows = here if rows is None else here[rows]
        source = table.source
    if rows is not None and np.array_equal(rows, np.arange(len(source))):
        rows = None
    return source, rows, names
