"""
Match surveys on the sky and give what belongs together as a dataset.

The dataset is a list of row numbers over all sides: nothing is copied until someone reads a
row or saves it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import datasets
import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from astropile.catalog import Catalog
from astropile.errors import MatchError, UnknownColumnError
from astropile.healpix import ang2pix
from astropile.hf.builder import TreeBuilder
from astropile.hf.dataset import lazy_dataset
from astropile.hf.pairs import OWN_COLUMNS, PairRows
from astropile.hf.rows import TreeRows, as_numpy
from astropile.hf.source import Rows, RowSource
from astropile.hf.views import ChosenRows, DatasetRows
from astropile.match.chance import MatchSummary, summarize_match
from astropile.match.inputs import NO_SIDE, open_side
from astropile.match.join import cross_match
from astropile.match.multi import JOINS, best_pairs, join_many, join_pairs, turned
from astropile.match.positions import FIND, Find, Pairs, match_positions
from astropile.names import COMMON_COLUMNS
from astropile.sky import unit_vectors, wrap_ra

_DEFAULT_ORDER = 4

FindPairs = Find | Literal["best", "best1", "best2"]
"""The ways to find pairs."""


class CrossMatch(NamedTuple):
    """What `cross_match_datasets` gives: unpacks into two."""

    catalog: Table
    """One line per pair: positions, separation, identifiers and row numbers of both sides."""

    dataset: datasets.Dataset
    """One example per pair, with everything both sides have; read when asked for."""


def cross_match_datasets(
    left: Any,
    right: Any,
    *others: Any,
    match_radius: float = 1.0,
    flat: bool = False,
    find: FindPairs = "nearest",
    join: str = "inner",
    anchor: str | None = None,
    on: Mapping[str, str] | None = None,
    left_columns: Sequence[str] | None = None,
    right_columns: Sequence[str] | None = None,
    summary: bool = False,
) -> CrossMatch:
    """
    Match two or more surveys on the sky.

    Parameters
    ----------
    left, right : DatasetBuilder, Dataset, Catalog, table or path
        What `load_dataset_builder`, `load_dataset` or `open_catalog` gave, the folder of a
        tree, or any map-style dataset with columns ``ra`` and ``dec`` [deg, ICRS]; or whatever
        else `astropile.match.as_positions` takes: tables of any library, files, HATS catalogues.
        The examples then have the table's rows, with ``ra`` and ``dec`` in degrees.
    *others : DatasetBuilder, Dataset, Catalog or path
        Further surveys. A number in third place is the radius.
    match_radius : float
        Largest accepted separation [arcsec], inclusive.
    flat : bool
        Give the columns of all sides side by side, each with its side's name behind it
        (``image_hsc``), instead of one record per side.
    find : {'nearest', 'all', 'mutual', 'best', 'best1', 'best2'}
        ``nearest``: the nearest right object of each left one. ``mutual``: pairs in which
        each is the nearest of the other. ``best``: the closest pair, the closest of those that
        share no object with it, and so on. Of two surveys also ``all``: every pair, and in
        the words of STILTS ``best1``: as ``nearest``, ``best2``: the nearest left object of
        each right one.
    join : str
        Which objects to keep: those with a counterpart in all surveys (``inner``), also
        those of the left side or anchor without one (``left``), also those of the others
        (``outer``); of two surveys also ``right``, or in the words of STILTS ``1and2``,
        ``1or2``, ``all1``, ``all2``, ``1not2``, ``2not1``, ``1xor2``.
    anchor : str, optional
        Name of the survey whose objects the others are matched with, if there are more than
        two surveys or `on` is given; by default the first.
    on : mapping of str to str, optional
        Match by equal identifiers, not by position: names of the surveys, the anchor among
        them, and the column of each that holds identifiers.
    left_columns, right_columns : sequence of str, optional
        Fields to keep of a side; by default all.
    summary : bool
        Also measure how much of the match is chance, for about ten times the cost of the match
        and all positions of both sides: `astropile.match.MatchSummary`, as a dict under
        ``summary`` of the catalogue's ``meta``. Of two surveys, matched by position.

    Returns
    -------
    CrossMatch
        ``catalog``: an `astropy.table.Table` with units; its ``meta`` states radius, sizes
        and provenance. ``dataset``: a `datasets.Dataset` of ``ra``, ``dec`` (mean direction
        of the two), ``healpix`` (NESTED, at the left side's order), ``separation`` and one
        record per side under its survey's name, or its name with ``_left`` and ``_right``
        where both are of one survey. A survey without a part in a row is null there, and
        masked in the catalogue. With more than two surveys, ``separation_<name>`` is the
        angle from the anchor's object; surveys of one name are told apart by ``_1``, ``_2``.

    Raises
    ------
    MatchError
        If the radius is negative, not finite or too large, a side has no positions, or the
        options do not go together.
    TypeError
        If a side or the radius is of no type that can be used.

    Notes
    -----
    Several left objects may have the same nearest right one: each gives a pair. Among right
    objects equally far the first wins. Positions are compared as they are, at their own
    epochs. Partitions, shards, the poles and right ascension 0 are no borders. With more than
    two surveys the result does not depend on the order of those beside the anchor: see
    `astropile.match.match_many`.

    Examples
    --------
    >>> hsc = load_dataset_builder("~/data/hsc")  # doctest: +SKIP
    >>> decals = load_dataset_builder("~/data/decals")  # doctest: +SKIP
    >>> catalog, dataset = cross_match_datasets(hsc, decals, match_radius=1.0)  # doctest: +SKIP
    >>> dataset.save_to_disk("hsc_meets_decals")  # doctest: +SKIP
    """
    if others and isinstance(others[-1], int | float | np.number):
        others, match_radius = others[:-1], others[-1]
    radius_arcsec = match_radius
    if isinstance(radius_arcsec, str | bytes | bool):
        raise MatchError("match_radius", "a number of arcseconds", repr(radius_arcsec))
    sides = [_Side.of(left, "left", left_columns), _Side.of(right, "right", right_columns)]
    sides += [_Side.of(other, f"{n}.", None) for n, other in enumerate(others, 3)]
    names = _names([side.source.name for side in sides])
    for name in names:
        if not flat and name in OWN_COLUMNS:
            raise MatchError("a side", "a name that is no column of a pair", repr(name))
    if others or on or anchor is not None:
        found = _many_rows(
            dict(zip(names, sides, strict=True)), radius_arcsec, join, find, anchor, on
        )
    else:
        found = _two_rows(sides, radius_arcsec, find, join)
    lines = [side.lines_where(places) for side, places in zip(sides, found.rows, strict=True)]
    ra, dec = _mean_positions(lines)
    own = {"ra": ra, "dec": dec, "healpix": ang2pix(ra, dec, sides[0].order), **found.separations}
    source = PairRows([side.kept for side in sides], names, found.rows, own, flat=flat)
    catalog = _catalog(sides, names, found, own, lines)
    catalog.meta.update(
        {
            "match_radius_arcsec": float(radius_arcsec),
            "find": find,
            "join": join,
            "healpix_order": sides[0].order,
        }
    )
    if summary:
        catalog.meta["summary"] = _summary(sides, radius_arcsec, find, on).to_dict()
    return CrossMatch(catalog, lazy_dataset(source, _info(sides, names, radius_arcsec)))


def _summary(
    sides: Sequence[_Side], radius_arcsec: float, find: FindPairs, on: Mapping[str, str] | None
) -> MatchSummary:
    if len(sides) != 2 or on or find not in FIND:
        raise MatchError(
            "summary",
            f"two surveys matched by position with find one of {', '.join(FIND)}",
            f"{len(sides)} surveys, find={find!r}, on={on!r}",
        )
    left, right = (side.positions() for side in sides)
    way: Any = find
    return summarize_match(*left, *right, radius_arcsec=radius_arcsec, find=way)


class _Found(NamedTuple):
    """Rows of a match, one array for each side, -1 where it has no part."""

    rows: tuple[Rows, ...]
    separations: Mapping[str, NDArray[np.float64]]
    n_invalid: tuple[int, ...]
    anchor: str | None = None


def _names(given: Sequence[str]) -> list[str]:
    """Tell sides of one name apart."""
    if len(given) == 2 and given[0] == given[1]:
        return [f"{given[0]}_left", f"{given[1]}_right"]
    seen: dict[str, int] = {}
    names = []
    for name in given:
        seen[name] = seen.get(name, 0) + 1
        names.append(f"{name}_{seen[name]}" if given.count(name) > 1 else name)
    return names


def _two_rows(sides: Sequence[_Side], radius_arcsec: float, find: FindPairs, join: str) -> _Found:
    if join not in JOINS:
        raise MatchError("join", f"one of {', '.join(JOINS)}", repr(join))
    pairs = _pairs(sides, radius_arcsec, find)
    joined = join_pairs(pairs, len(sides[0].source), len(sides[1].source), join)
    return _Found(
        (joined.left, joined.right),
        {"separation": joined.separation_arcsec},
        (pairs.n_invalid_left, pairs.n_invalid_right),
    )


def _many_rows(
    sides: Mapping[str, _Side],
    radius_arcsec: float,
    join: str,
    find: FindPairs,
    anchor: str | None,
    on: Mapping[str, str] | None,
) -> _Found:
    first = next(iter(sides)) if anchor is None else anchor

    def pairs_of(name: str, radius: float, find: str) -> Pairs:
        way: Any = "all" if find == "best" else find
        return _pairs([sides[first], sides[name]], radius, way)

    def positions_of(name: str, rows: Rows) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        lines = sides[name].lines(rows)
        return lines["ra"], lines["dec"]

    for name in on or {}:
        if name not in sides:
            raise MatchError("on", f"names among {', '.join(sides)}", repr(name))
    found = join_many(
        {name: len(side.source) for name, side in sides.items()},
        anchor=first,
        radius_arcsec=radius_arcsec,
        join=join,
        find=find,
        on={name: sides[name].column(column) for name, column in (on or {}).items()},
        pairs_of=pairs_of,
        positions_of=positions_of,
    )
    others = found.separation_arcsec
    separations = {f"separation_{name}": values for name, values in others.items()}
    if len(others) == 1:
        separations = {"separation": next(iter(others.values()))}
    return _Found(tuple(found.rows.values()), separations, tuple(found.n_invalid.values()), first)


def _pairs(sides: Sequence[_Side], radius_arcsec: float, find: FindPairs) -> Pairs:
    if find == "best":
        return best_pairs(_pairs(sides, radius_arcsec, "all"))
    if find == "best1":
        find = "nearest"
    elif find == "best2":
        return turned(_pairs(sides[::-1], radius_arcsec, "nearest"))
    trees = [side.whole_tree for side in sides]
    if trees[0] is not None and trees[1] is not None:
        return cross_match(trees[0], trees[1], radius_arcsec=radius_arcsec, find=find)
    left, right = (side.positions() for side in sides)
    return match_positions(*left, *right, radius_arcsec=radius_arcsec, find=find)


def _mean_positions(
    lines: Sequence[Mapping[str, NDArray[Any]]],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Average the positions of each row; opposite ones have no mean: the first one there is."""
    there = np.stack([~np.ma.getmaskarray(line["ra"]) for line in lines])
    first = np.argmax(there, axis=0), np.arange(there.shape[1])
    given = (np.stack([np.ma.getdata(line[name]) for line in lines]) for name in ("ra", "dec"))
    ra, dec = (np.where(there, values, values[first]) for values in given)
    x, y, z = np.moveaxis(np.where(there[..., None], unit_vectors(ra, dec), 0).sum(axis=0), -1, 0)
    across = np.hypot(x, y)
    known = np.hypot(across, z) > 1e-12
    mean_ra, mean_dec = wrap_ra(np.degrees(np.arctan2(y, x))), np.degrees(np.arctan2(z, across))
    return np.where(known, mean_ra, ra[first]), np.where(known, mean_dec, dec[first])


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
        try:
            opened = open_side(value)
        except MatchError as error:
            if error.what != NO_SIDE:
                raise
            raise TypeError(
                f"the {side} side is a builder or dataset of astropile, a Catalog, a table or a "
                f"path, not {type(value).__name__}"
            ) from error
        if isinstance(opened, Catalog):
            return cls(TreeRows(opened), side, names)
        info = datasets.DatasetInfo(dataset_name=opened.name)
        return cls(DatasetRows(datasets.Dataset(opened.table(), info=info)), side, names)

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

    def lines_where(self, rows: Rows) -> dict[str, NDArray[Any]]:
        """Read the same for rows that may be -1: masked there."""
        there = rows >= 0
        found = self.lines(rows[there])
        if there.all():
            return found
        lines: dict[str, NDArray[Any]] = {}
        for name, values in found.items():
            filled = np.zeros(len(rows), values.dtype)
            filled[there] = values
            lines[name] = np.ma.MaskedArray(filled, mask=~there)
        return lines

    def column(self, name: str) -> NDArray[Any]:
        """Read one light column of all rows."""
        if isinstance(self.source, TreeRows):
            return self.source.light([name])[name]
        if name not in self.source.types:
            raise UnknownColumnError(name, self.source.name, tuple(self.source.types))
        return as_numpy(self.source.column(name))


def _catalog(
    sides: Sequence[_Side],
    names: Sequence[str],
    found: _Found,
    own: Mapping[str, NDArray[Any]],
    lines: Sequence[Mapping[str, NDArray[Any]]],
) -> Table:
    table = Table(dict(own))
    for name, rows, columns in zip(names, found.rows, lines, strict=True):
        is_whole = len(rows) == 0 or rows.min() >= 0
        table[f"row_{name}"] = rows if is_whole else np.ma.MaskedArray(rows, mask=rows < 0)
        for column, values in columns.items():
            table[f"{column}_{name}"] = values
    for column in table.colnames:
        if column.startswith(("ra", "dec")):
            table[column].unit = "deg"
    for column in found.separations:
        table[column].unit = "arcsec"
    facts = [{"name": name, **side.provenance} for name, side in zip(names, sides, strict=True)]
    if len(sides) == 2:
        table.meta = {
            "n_left": len(sides[0].source),
            "n_right": len(sides[1].source),
            "n_invalid_left": found.n_invalid[0],
            "n_invalid_right": found.n_invalid[1],
            "left": facts[0],
            "right": facts[1],
        }
        return table
    sizes = zip(sides, found.n_invalid, strict=True)
    counts = [{"n_objects": len(side.source), "n_invalid": invalid} for side, invalid in sizes]
    table.meta = {
        "anchor": found.anchor,
        "sides": [fact | count for fact, count in zip(facts, counts, strict=True)],
    }
    return table


def _info(
    sides: Sequence[_Side], names: Sequence[str], radius_arcsec: float
) -> datasets.DatasetInfo:
    surveys = [side.source.survey for side in sides if isinstance(side.source, TreeRows)]
    unique = {survey.name: survey for survey in surveys}.values()
    return datasets.DatasetInfo(
        description=(
            f"Objects of {names[0]} with those of {' and '.join(names[1:])} "
            f"within {radius_arcsec:g} arcsec. " + " ".join(survey.description for survey in unique)
        ).strip(),
        citation="\n\n".join(survey.citation for survey in unique),
        license="; ".join(f"{survey.name}: {survey.licence}" for survey in unique),
        dataset_name="_".join(dict.fromkeys(side.source.name for side in sides)),
    )
