"""
Match surveys and tables, two or more, and list what belongs together.

Needs no `datasets`: what comes out is row numbers of every side, a catalogue of them as an
astropy table, and all that is needed to package the rows as a tree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from astropile.errors import MatchError
from astropile.healpix import ang2pix
from astropile.match.chance import MatchSummary, chance_probability, local_density, summarize_match
from astropile.match.join import cross_match
from astropile.match.merged import licence_flags
from astropile.match.motion import match_moving
from astropile.match.multi import JOINS, best_pairs, join_many, join_pairs, turned
from astropile.match.positions import FIND, Find, Pairs, match_positions
from astropile.match.sides import Side, as_side
from astropile.sky import unit_vectors, wrap_ra

if TYPE_CHECKING:
    from astropy.table import Table

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Lines = Mapping[str, NDArray[Any]]

FindPairs = Find | Literal["best", "best1", "best2"]
"""The ways to find pairs."""


@dataclass(frozen=True, eq=False)
class MatchedSample:
    """
    What a match of surveys found.

    Attributes
    ----------
    sides : dict of str to Side
        What was matched, by the name it has here.
    rows : dict of str to ndarray of int64
        Row numbers of each side, -1 where it has no part.
    separations : dict of str to ndarray of float64
        ``separation`` of two, or ``separation_<name>`` of each but the anchor [arcsec].
    ra, dec : ndarray of float64
        Mean direction of the objects of each row [deg, ICRS].
    catalog : astropy.table.Table
        A line for each row, with what was matched and how in its ``meta``.
    """

    sides: Mapping[str, Side]
    rows: Mapping[str, Ints]
    separations: Mapping[str, Floats]
    ra: Floats
    dec: Floats
    catalog: Table

    def __len__(self) -> int:
        return len(self.ra)

    @property
    def order(self) -> int:
        """HEALPix order of the first side."""
        return next(iter(self.sides.values())).order


def match_surveys(
    left: Any,
    right: Any,
    *others: Any,
    match_radius: float = 1.0,
    find: FindPairs = "nearest",
    join: str = "inner",
    anchor: str | None = None,
    on: Mapping[str, str] | None = None,
    epochs: Mapping[str, float | str] | None = None,
    summary: bool = False,
    names: Sequence[str] | None = None,
    **options: Any,
) -> MatchedSample:
    """
    Match two or more surveys or tables, without `datasets`.

    Parameters
    ----------
    left, right, *others : Catalog, table, path or URL
        Trees, or whatever `as_positions` takes.
    match_radius, find, join, anchor, on, epochs, summary
        As for `cross_match_datasets`.
    names : sequence of str, optional
        What the sides are called; by default what they call themselves, told apart.
    **options : object
        `memory_bytes`, `executor`, `progress` of `cross_match`, for sides that are all trees.

    Returns
    -------
    MatchedSample
        Row numbers, separations and a catalogue; `save_tree` makes a tree of it.

    Raises
    ------
    MatchError
        If the radius is not one, a side has no positions, or the options do not go together.

    Examples
    --------
    >>> a = {"ra": [10.0, 20.0], "dec": [0.0, 0.0]}
    >>> b = {"ra": [20.0001, 30.0], "dec": [0.0, 0.0]}
    >>> found = match_surveys(a, b, match_radius=1.0, join="left")
    >>> found.rows["table_right"]
    array([-1,  0])
    """
    if isinstance(match_radius, str | bytes | bool):
        raise MatchError("match_radius", "a number of arcseconds", repr(match_radius))
    opened = [as_side(value) for value in (left, right, *others)]
    called = list(names) if names is not None else tell_apart([side.name for side in opened])
    if len(called) != len(opened) or len(set(called)) < len(called):
        raise MatchError("names", f"{len(opened)} that differ", ", ".join(called))
    sides = dict(zip(called, opened, strict=True))
    search = _Search(sides, match_radius, find, join, epochs or {}, options)
    is_many = bool(others or on) or anchor is not None
    found = search.many(anchor, on) if is_many else search.two()
    lines = {name: side.lines_where(found.rows[name]) for name, side in sides.items()}
    ra, dec = _mean_positions(list(lines.values()))
    catalog = _catalog(sides, found, (ra, dec), lines)
    catalog.meta.update(
        {
            "match_radius_arcsec": float(match_radius),
            "find": find,
            "join": join,
            "healpix_order": opened[0].order,
        }
    )
    licences = {name: side.licence for name, side in sides.items()}
    more = {"on": dict(on or {}), "epochs": dict(epochs or {}), "licences": licences}
    more["licence_flags"] = list(licence_flags(licences))
    catalog.meta.update({key: value for key, value in more.items() if value})
    separations = dict(found.separations)
    if summary:
        if is_many or len(sides) != 2 or find not in FIND or epochs:
            raise MatchError(
                "summary",
                f"two surveys matched by position as they stand, find one of {', '.join(FIND)}",
                f"{len(sides)} surveys, find={find!r}, on={on!r}, epochs={epochs!r}",
            )
        catalog.meta["summary"] = _summary(opened, match_radius, find).to_dict()
        chance = _chance(opened[1], lines[called[0]], found.separations["separation"])
        catalog["chance_probability"] = chance
    return MatchedSample(sides, found.rows, separations, ra, dec, catalog)


def tell_apart(given: Sequence[str]) -> list[str]:
    """
    Give sides of one name names that differ.

    Parameters
    ----------
    given : sequence of str
        What they are called.

    Returns
    -------
    list of str
        Of two of one name ``<name>_left`` and ``<name>_right``, of more ``<name>_1`` and so on.
    """
    if len(given) == 2 and given[0] == given[1]:
        return [f"{given[0]}_left", f"{given[1]}_right"]
    seen: dict[str, int] = {}
    names = []
    for name in given:
        seen[name] = seen.get(name, 0) + 1
        names.append(f"{name}_{seen[name]}" if given.count(name) > 1 else name)
    return names


@dataclass(frozen=True)
class _Found:
    """Rows of a match, one array for each side, -1 where it has no part."""

    rows: Mapping[str, Ints]
    separations: Mapping[str, Floats]
    n_invalid: Mapping[str, int]
    anchor: str | None = None


@dataclass(frozen=True)
class _Search:
    """What is matched, and how."""

    sides: Mapping[str, Side]
    radius_arcsec: float
    find: FindPairs
    join: str
    epochs: Mapping[str, float | str]
    options: Mapping[str, Any]

    def __post_init__(self) -> None:
        for name in self.epochs:
            if name not in self.sides:
                raise MatchError("epochs", f"names among {', '.join(self.sides)}", repr(name))
        no_tree = [name for name, side in self.sides.items() if side.tree is None]
        given = [name for name, value in self.options.items() if value]
        if given and (no_tree or self.epochs):
            why = f"{no_tree[0]} is a table in memory" if no_tree else "epochs"
            raise MatchError(", ".join(given), "whole trees, without epochs", why)

    def two(self) -> _Found:
        if self.join not in JOINS:
            raise MatchError("join", f"one of {', '.join(JOINS)}", repr(self.join))
        one, other = self.sides
        pairs = self._pairs(one, other, self.radius_arcsec, self.find)
        sizes = len(self.sides[one]), len(self.sides[other])
        joined = join_pairs(pairs, *sizes, self.join)
        return _Found(
            {one: joined.left, other: joined.right},
            {"separation": joined.separation_arcsec},
            {one: pairs.n_invalid_left, other: pairs.n_invalid_right},
        )

    def many(self, anchor: str | None, on: Mapping[str, str] | None) -> _Found:
        first = next(iter(self.sides)) if anchor is None else anchor

        def pairs_of(name: str, radius: float, find: str) -> Pairs:
            way: Any = "all" if find == "best" else find
            return self._pairs(first, name, radius, way)

        def positions_of(name: str, rows: Ints) -> tuple[Floats, Floats]:
            lines = self.sides[name].lines(rows)
            return lines["ra"], lines["dec"]

        for name in on or {}:
            if name not in self.sides:
                raise MatchError("on", f"names among {', '.join(self.sides)}", repr(name))
        found = join_many(
            {name: len(side) for name, side in self.sides.items()},
            anchor=first,
            radius_arcsec=self.radius_arcsec,
            join=self.join,
            find=self.find,
            on={name: self.sides[name].column(column) for name, column in (on or {}).items()},
            pairs_of=pairs_of,
            positions_of=positions_of,
        )
        others = found.separation_arcsec
        separations = {f"separation_{name}": values for name, values in others.items()}
        if len(others) == 1:
            separations = {"separation": next(iter(others.values()))}
        return _Found(found.rows, separations, found.n_invalid, first)

    def _pairs(self, one: str, other: str, radius: float, find: FindPairs) -> Pairs:
        if find == "best":
            return best_pairs(self._pairs(one, other, radius, "all"))
        if find == "best1":
            find = "nearest"
        elif find == "best2":
            return turned(self._pairs(other, one, radius, "nearest"))
        left, right = self.sides[one], self.sides[other]
        if self.epochs:
            moving = [self.sides[n].table().moving(self.epochs.get(n)) for n in (one, other)]
            return match_moving(*moving, radius_arcsec=radius, find=find)
        if left.tree is not None and right.tree is not None:
            return cross_match(
                left.tree, right.tree, radius_arcsec=radius, find=find, **self.options
            )
        here, there = left.positions(), right.positions()
        return match_positions(*here, *there, radius_arcsec=radius, find=find)


def _summary(sides: Sequence[Side], radius_arcsec: float, find: Any) -> MatchSummary:
    here, there = (side.positions() for side in sides)
    return summarize_match(*here, *there, radius_arcsec=radius_arcsec, find=find)


def _chance(right: Side, lines: Lines, separation: Floats) -> Any:
    """Give of each pair how likely an unrelated object lies as near; masked where there is none."""
    is_pair = np.isfinite(separation)
    here = (np.ma.getdata(lines[name])[is_pair] for name in ("ra", "dec"))
    matched = np.ones(np.count_nonzero(is_pair), bool)
    density = local_density(*right.positions(), *here, has_counterpart=matched)
    chance = np.full(len(separation), np.nan)
    chance[is_pair] = chance_probability(separation[is_pair], density)
    return chance if is_pair.all() else np.ma.MaskedArray(chance, mask=~is_pair)


def _mean_positions(lines: Sequence[Lines]) -> tuple[Floats, Floats]:
    """Average the positions of each row; opposite ones have no mean: the first one there is."""
    there = np.stack(
        [~np.ma.getmaskarray(line["ra"]) & np.isfinite(np.ma.getdata(line["ra"])) for line in lines]
    )
    first = np.argmax(there, axis=0), np.arange(there.shape[1])
    given = (np.stack([np.ma.getdata(line[name]) for line in lines]) for name in ("ra", "dec"))
    ra, dec = (np.where(there, values, values[first]) for values in given)
    x, y, z = np.moveaxis(np.where(there[..., None], unit_vectors(ra, dec), 0).sum(axis=0), -1, 0)
    across = np.hypot(x, y)
    known = np.hypot(across, z) > 1e-12
    mean_ra, mean_dec = wrap_ra(np.degrees(np.arctan2(y, x))), np.degrees(np.arctan2(z, across))
    return np.where(known, mean_ra, ra[first]), np.where(known, mean_dec, dec[first])


def _catalog(
    sides: Mapping[str, Side],
    found: _Found,
    means: tuple[Floats, Floats],
    lines: Mapping[str, Lines],
) -> Table:
    from astropy.table import Table

    ra, dec = means
    pixels = ang2pix(ra, dec, next(iter(sides.values())).order)
    table = Table({"ra": ra, "dec": dec, "healpix": pixels, **found.separations})
    for name, rows in found.rows.items():
        is_whole = len(rows) == 0 or rows.min() >= 0
        table[f"row_{name}"] = rows if is_whole else np.ma.MaskedArray(rows, mask=rows < 0)
        for column, values in lines[name].items():
            table[f"{column}_{name}"] = values
    for column in table.colnames:
        if column.startswith(("ra", "dec")):
            table[column].unit = "deg"
    for column in found.separations:
        table[column].unit = "arcsec"
    facts = [{"name": name, **side.provenance} for name, side in sides.items()]
    if len(sides) == 2:
        (one, left), (other, right) = sides.items()
        table.meta = {
            "n_left": len(left),
            "n_right": len(right),
            "n_invalid_left": found.n_invalid[one],
            "n_invalid_right": found.n_invalid[other],
            "left": facts[0],
            "right": facts[1],
        }
        return table
    counts = [
        {"n_objects": len(side), "n_invalid": found.n_invalid[name]} for name, side in sides.items()
    ]
    table.meta = {
        "anchor": found.anchor,
        "sides": [fact | count for fact, count in zip(facts, counts, strict=True)],
    }
    return table
