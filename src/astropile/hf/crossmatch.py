"""
Match two surveys on the sky and give the pairs as a dataset.

The dataset is a list of row numbers over both sides: nothing is copied until someone reads a
row or saves it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import datasets
import numpy as np
import pyarrow as pa
from astropy.table import Table
from numpy.typing import NDArray

from astropile.catalog import Catalog
from astropile.errors import MatchError
from astropile.healpix import ang2pix
from astropile.hf.builder import TreeBuilder, open_subset
from astropile.hf.features import conform_columns, empty_table
from astropile.hf.lazy import lazy_dataset
from astropile.hf.rows import DatasetRows, Rows, RowSource, TreeRows, as_numpy, hash_of
from astropile.match.join import cross_match
from astropile.match.positions import Find, Pairs, match_positions
from astropile.names import COMMON_COLUMNS
from astropile.sky import mean_position
from astropile.view import Leaf, Node, Struct

_OWN: Mapping[str, Node] = {
    "ra": Leaf("float64", unit="deg"),
    "dec": Leaf("float64", unit="deg"),
    "healpix": Leaf("int64"),
    "separation": Leaf("float64", unit="arcsec"),
}
"""Columns of a pair itself."""

_DEFAULT_ORDER = 4


class CrossMatch(NamedTuple):
    """What `cross_match_datasets` gives: unpacks into two."""

    catalog: Table
    """One line per pair: positions, separation, identifiers and row numbers of both sides."""

    dataset: datasets.Dataset
    """One example per pair, with everything both sides have; read when asked for."""


def cross_match_datasets(
    left: Any,
    right: Any,
    match_radius: float = 1.0,
    *,
    flat: bool = False,
    find: Find = "nearest",
    left_columns: Sequence[str] | None = None,
    right_columns: Sequence[str] | None = None,
) -> CrossMatch:
    """
    Match two surveys on the sky.

    Parameters
    ----------
    left, right : DatasetBuilder, Dataset, Catalog or path
        What `load_dataset_builder`, `load_dataset` or `open_catalog` gave, the folder of a
        tree, or any map-style dataset with columns ``ra`` and ``dec`` [deg, ICRS].
    match_radius : float
        Largest accepted separation [arcsec], inclusive.
    flat : bool
        Give the columns of both sides side by side, each with its side's name behind it
        (``image_hsc``), instead of one record per side.
    find : {'nearest', 'all', 'mutual'}
        ``nearest``: the nearest right object of each left one. ``all``: every pair.
        ``mutual``: pairs in which each is the nearest of the other.
    left_columns, right_columns : sequence of str, optional
        Fields to keep of a side; by default all.

    Returns
    -------
    CrossMatch
        ``catalog``: an `astropy.table.Table` with units; its ``meta`` states radius, sizes
        and provenance. ``dataset``: a `datasets.Dataset` of ``ra``, ``dec`` (mean direction
        of the two), ``healpix`` (NESTED, at the left side's order), ``separation`` and one
        record per side under its survey's name, or its name with ``_left`` and ``_right``
        where both are of one survey.

    Raises
    ------
    MatchError
        If the radius is negative, not finite or too large, or a side has no positions.
    TypeError
        If a side or the radius is of no type that can be used.

    Notes
    -----
    Several left objects may have the same nearest right one: each gives a pair. Among right
    objects equally far the first wins. Positions are compared as they are, at their own
    epochs. Partitions, shards, the poles and right ascension 0 are no borders.

    Examples
    --------
    >>> hsc = load_dataset_builder("~/data/hsc")  # doctest: +SKIP
    >>> decals = load_dataset_builder("~/data/decals")  # doctest: +SKIP
    >>> catalog, dataset = cross_match_datasets(hsc, decals, match_radius=1.0)  # doctest: +SKIP
    >>> dataset.save_to_disk("hsc_meets_decals")  # doctest: +SKIP
    """
    radius_arcsec = match_radius
    if isinstance(radius_arcsec, str | bytes | bool):
        raise MatchError("match_radius", "a number of arcseconds", repr(radius_arcsec))
    sides = _Side.of(left, "left", left_columns), _Side.of(right, "right", right_columns)
    names = [side.source.name for side in sides]
    if names[0] == names[1]:
        names = [f"{names[0]}_left", f"{names[1]}_right"]
    for name in names:
        if not flat and name in _OWN:
            raise MatchError("a side", "a name that is no column of a pair", repr(name))
    pairs = _pairs(sides, radius_arcsec, find)
    rows = (pairs.left, pairs.right)
    lines = [side.lines(places) for side, places in zip(sides, rows, strict=True)]
    ra, dec = _mean_positions(*lines)
    own = {
        "ra": ra,
        "dec": dec,
        "healpix": ang2pix(ra, dec, sides[0].order),
        "separation": pairs.separation_arcsec,
    }
    source = PairRows([side.kept for side in sides], names, rows, own, flat=flat)
    catalog = _catalog(sides, names, pairs, own, lines)
    catalog.meta.update(
        {
            "match_radius_arcsec": float(radius_arcsec),
            "find": find,
            "healpix_order": sides[0].order,
        }
    )
    return CrossMatch(catalog, lazy_dataset(source, _info(sides, names, radius_arcsec)))


def _pairs(sides: Sequence[_Side], radius_arcsec: float, find: Find) -> Pairs:
    trees = [side.whole_tree for side in sides]
    if trees[0] is not None and trees[1] is not None:
        return cross_match(trees[0], trees[1], radius_arcsec=radius_arcsec, find=find)
    left, right = (side.positions() for side in sides)
    return match_positions(*left, *right, radius_arcsec=radius_arcsec, find=find)


def _mean_positions(
    left: Mapping[str, NDArray[Any]], right: Mapping[str, NDArray[Any]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Average the two positions of each pair; opposite ones have no mean: the left one."""
    ra, dec = mean_position(
        np.stack([left["ra"], right["ra"]]), np.stack([left["dec"], right["dec"]]), axis=0
    )
    return np.where(np.isnan(ra), left["ra"], ra), np.where(np.isnan(dec), left["dec"], dec)


class _Side:
    """One side of a match."""

    def __init__(self, source: RowSource, side: str, names: Sequence[str] | None) -> None:
        self.source, self.side = source, side
        missing = [name for name in ("ra", "dec") if name not in source.schema.names]
        if missing and not isinstance(source, TreeRows):
            raise MatchError(f"the {side} side", "columns ra and dec", f"no {missing[0]}")
        self.kept = source if names is None else ChosenRows(source, list(names))

    @classmethod
    def of(cls, value: Any, side: str, names: Sequence[str] | None) -> _Side:
        """Take whatever rows come from."""
        if isinstance(value, datasets.DatasetDict):
            if len(value) != 1:
                raise TypeError(f"the {side} side: which split of {', '.join(value)}?")
            value = next(iter(value.values()))
        match value:
            case TreeBuilder():
                return cls(value.rows, side, names)
            case datasets.Dataset():
                return cls(DatasetRows(value), side, names)
            case Catalog():
                return cls(TreeRows(value), side, names)
            case str() | os.PathLike():
                return cls(TreeRows(open_subset(value, None)), side, names)
        raise TypeError(
            f"the {side} side is a builder or dataset of astropile, a Catalog or a path, "
            f"not {type(value).__name__}"
        )

    @property
    def order(self) -> int:
        """HEALPix order of the tree, where it is one."""
        return self.source.catalog.order if isinstance(self.source, TreeRows) else _DEFAULT_ORDER

    @property
    def provenance(self) -> dict[str, str]:
        """What the rows come from, where it is one survey."""
        if isinstance(self.source, TreeRows):
            catalog = self.source.catalog
            facts = {**catalog.survey.provenance, "subset": catalog.subset}
            return {**facts, "snapshot": catalog.snapshot}
        return {"dataset": self.source.name, "fingerprint": self.source.fingerprint}

    @property
    def whole_tree(self) -> Catalog | None:
        """The catalog, where the side is all of one."""
        if isinstance(self.source, TreeRows) and self.source.chosen_rows is None:
            return self.source.catalog
        return None

    def positions(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Read the positions of all rows."""
        if isinstance(self.source, TreeRows):
            found = self.source.light(["ra", "dec"])
        else:
            found = {name: as_numpy(self.source.column(name)) for name in ("ra", "dec")}
        return found["ra"], found["dec"]

    def lines(self, rows: Rows) -> dict[str, NDArray[Any]]:
        """Read the light columns that a line of the catalogue shows."""
        shown = [name for name in COMMON_COLUMNS if name != "healpix"]
        if isinstance(self.source, TreeRows):
            return self.source.light(shown, rows)
        table = self.source.read(rows, [name for name in shown if name in self.source.types])
        columns = zip(table.column_names, table.columns, strict=True)
        return {name: as_numpy(column) for name, column in columns}


def _catalog(
    sides: Sequence[_Side],
    names: Sequence[str],
    pairs: Pairs,
    own: Mapping[str, NDArray[Any]],
    lines: Sequence[Mapping[str, NDArray[Any]]],
) -> Table:
    table = Table(dict(own))
    for name, rows, columns in zip(names, (pairs.left, pairs.right), lines, strict=True):
        table[f"row_{name}"] = rows
        for column, values in columns.items():
            table[f"{column}_{name}"] = values
    for column in table.colnames:
        if column.startswith(("ra", "dec")):
            table[column].unit = "deg"
    table["separation"].unit = "arcsec"
    table.meta = {
        "n_left": len(sides[0].source),
        "n_right": len(sides[1].source),
        "n_invalid_left": pairs.n_invalid_left,
        "n_invalid_right": pairs.n_invalid_right,
        "left": {"name": names[0], **sides[0].provenance},
        "right": {"name": names[1], **sides[1].provenance},
    }
    return table


def _info(
    sides: Sequence[_Side], names: Sequence[str], radius_arcsec: float
) -> datasets.DatasetInfo:
    surveys = [side.source.survey for side in sides if isinstance(side.source, TreeRows)]
    unique = {survey.name: survey for survey in surveys}.values()
    return datasets.DatasetInfo(
        description=(
            f"Objects of {names[0]} with those of {names[1]} within {radius_arcsec:g} arcsec. "
            + " ".join(survey.description for survey in unique)
        ).strip(),
        citation="\n\n".join(survey.citation for survey in unique),
        license="; ".join(f"{survey.name}: {survey.licence}" for survey in unique),
        dataset_name="_".join(dict.fromkeys(side.source.name for side in sides)),
    )


class ChosenRows(RowSource):
    """
    Some columns of a source.

    Parameters
    ----------
    source : RowSource
        The source.
    names : list of str
        The columns, in order.
    """

    def __init__(self, source: RowSource, names: list[str]) -> None:
        source.schema_of(names)
        self._source, self._names = source, names

    @property
    def name(self) -> str:
        """The source's name."""
        return self._source.name

    @property
    def types(self) -> Mapping[str, Node]:
        """Type of each column, in order."""
        return {name: self._source.types[name] for name in self._names}

    @property
    def fingerprint(self) -> str:
        """Hash of the content."""
        return hash_of("chosen", self._source.fingerprint, self._names)

    def __len__(self) -> int:
        return len(self._source)

    def read(self, rows: Rows, names: Sequence[str]) -> pa.Table:
        """
        Read columns of chosen rows.

        Parameters
        ----------
        rows : ndarray, shape (n,), int64
            Row numbers.
        names : sequence of str
            Columns.

        Returns
        -------
        pyarrow.Table
            The rows.
        """
        return self._source.read(rows, names)


class PairRows(RowSource):
    """
    Pairs of rows of two sources.

    Parameters
    ----------
    sides : sequence of RowSource
        The two.
    names : sequence of str
        What each is called.
    rows : tuple of ndarray
        Their row numbers, pair by pair.
    own : mapping of str to ndarray
        Columns of the pairs themselves.
    flat : bool
        Columns with the side's name behind them, instead of one record per side.
    """

    def __init__(
        self,
        sides: Sequence[RowSource],
        names: Sequence[str],
        rows: tuple[Rows, Rows],
        own: Mapping[str, NDArray[Any]],
        *,
        flat: bool,
    ) -> None:
        self._sides, self._names, self._rows = list(sides), list(names), rows
        self._own, self._flat = dict(own), flat

    @property
    def name(self) -> str:
        """Both names."""
        return "_".join(dict.fromkeys(side.name for side in self._sides))

    @property
    def types(self) -> Mapping[str, Node]:
        """Type of each column, in order."""
        types = dict(_OWN)
        for side, name in zip(self._sides, self._names, strict=True):
            if self._flat:
                types.update({f"{field}_{name}": node for field, node in side.types.items()})
            else:
                types[name] = Struct(side.types)
        return types

    @cached_property
    def fingerprint(self) -> str:
        """Hash of both sides and the pairs."""
        sides = [side.fingerprint for side in self._sides]
        return hash_of(sides, self._names, self._flat, *(rows.tobytes() for rows in self._rows))

    def __len__(self) -> int:
        return len(self._rows[0])

    def read(self, rows: Rows, names: Sequence[str]) -> pa.Table:
        """
        Read columns of chosen pairs.

        Parameters
        ----------
        rows : ndarray, shape (n,), int64
            Numbers of pairs.
        names : sequence of str
            Columns.

        Returns
        -------
        pyarrow.Table
            The pairs.
        """
        schema = self.schema_of(names)
        if not len(rows):
            return empty_table(schema)
        columns: dict[str, Any] = {
            name: pa.array(self._own[name][rows]) for name in names if name in self._own
        }
        for side, name, places in zip(self._sides, self._names, self._rows, strict=True):
            if not self._flat:
                if name in names:
                    table = side.read(places[rows], side.schema.names)
                    columns[name] = table.to_struct_array()
                continue
            fields = {f"{field}_{name}": field for field in side.schema.names}
            wanted = [fields[column] for column in names if column in fields]
            if wanted:
                table = side.read(places[rows], wanted)
                columns.update({f"{field}_{name}": table.column(field) for field in wanted})
        return conform_columns([columns[n] for n in names], schema, self.kinds_of(names))
