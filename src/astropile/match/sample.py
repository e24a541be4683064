"""
Match surveys and tables, two or more, and list what belongs together.

Needs no `datasets`: what comes out is row numbers of every side, a catalogue of them as an
astropy table, and all that is needed to package the rows as a tree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from astropile.errors import MatchError
from astropile.healpix import ang2pix
from astropile.match.chance import FIND_SURE
from astropile.match.join import cross_match
from astropile.match.merged import licence_flags
from astropile.match.motion import MovingPositions, match_moving
from astropile.match.multi import JOINS, best_pairs, join_many, join_pairs, turned
from astropile.match.positions import Find, Pairs, match_positions
from astropile.match.sides import Side, as_side
from astropile.match.sureness import Errors, Matched, Sureness, errors_of
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
    anchor : str
        The side that the others were matched with.
    sureness : dict of str to Sureness
        Of each other side matched by position, how sure its pairs are; empty without `summary`.
    """

    sides: Mapping[str, Side]
    rows: Mapping[str, Ints]
    separations: Mapping[str, Floats]
    ra: Floats
    dec: Floats
    catalog: Table
    anchor: str
    sureness: Mapping[str, Sureness] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ra)

    def select(self, rows: NDArray[np.int64]) -> MatchedSample:
        """
        Choose rows.

        Parameters
        ----------
        rows : ndarray of int64, shape (n,)
            Which, in any order.

        Returns
        -------
        MatchedSample
            These, of the same sides. How sure the pairs are stays in the columns of the
            catalogue; the summary is of all rows.
        """
        return replace(
            self,
            rows={name: places[rows] for name, places in self.rows.items()},
            separations={name: values[rows] for name, values in self.separations.items()},
            ra=self.ra[rows],
            dec=self.dec[rows],
            catalog=self.catalog[rows],
            sureness={},
        )

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
    errors: Mapping[str, Errors] | None = None,
    names: Sequence[str] | None = None,
    **options: Any,
) -> MatchedSample:
    """
    Match two or more surveys or tables, without `datasets`.

    Parameters
    ----------
    left, right, *others : Catalog, table, path or URL
        Trees, or whatever `as_positions` takes.
    match_radius, find, join, anchor, on, epochs, summary, errors
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
    first = found.anchor or called[0]
    sureness: Mapping[str, Sureness] = {}
    if summary:
        sureness = search.how_sure(found, first, on or {}, errors or {})
        told = {name: sure.summary.to_dict() for name, sure in sureness.items()}
        catalog.meta["summary"] = told if len(sides) > 2 else told[next(iter(told))]
        for name, sure in sureness.items():
            for column, values in sure.columns.items():
                catalog[column if len(sides) == 2 else f"{column}_{name}"] = values
    elif errors:
        raise MatchError("errors", "summary=True with them", "no summary")
    return MatchedSample(sides, found.rows, found.separations, ra, dec, catalog, first, sureness)


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
            return match_moving(*self._moving(one, other), radius_arcsec=radius, find=find)
        if left.tree is not None and right.tree is not None:
            return cross_match(
                left.tree, right.tree, radius_arcsec=radius, find=find, **self.options
            )
        here, there = left.positions(), right.positions()
        return match_positions(*here, *there, radius_arcsec=radius, find=find)

    def _moving(self, one: str, other: str) -> tuple[MovingPositions, MovingPositions]:
        left, right = (self.sides[n].table().moving(self.epochs.get(n)) for n in (one, other))
        return left, right

    def how_sure(
        self,
        found: _Found,
        anchor: str,
        on: Mapping[str, str],
        errors: Mapping[str, Errors],
    ) -> dict[str, Sureness]:
        """Say of each side matched with the anchor by position how sure its pairs are."""
        find: Any = "nearest" if self.find == "best1" else self.find
        others = [name for name in self.sides if name != anchor and name not in on]
        if find not in FIND_SURE or not others:
            raise MatchError(
                "summary",
                f"a match by position, find one of {', '.join(FIND_SURE)}; of best2, exchange the "
                "sides",
                f"find={self.find!r}, on={dict(on)!r}",
            )
        known = errors_of(self.sides, errors)
        sure = {}
        for name in others:
            both = known[anchor], known[name]
            lacking = [one for one in (anchor, name) if known[one] is None]
            if lacking and name in errors:
                raise MatchError("errors", f"those of {lacking[0]} too", "none")
            matched = Matched(
                self.sides[anchor],
                self.sides[name],
                self.radius_arcsec,
                find,
                self._moving(anchor, name) if self.epochs else None,
            )
            key = "separation" if "separation" in found.separations else f"separation_{name}"
            sure[name] = matched.how_sure(
                (found.rows[anchor], found.rows[name]),
                found.separations[key],
                None if lacking else both,
            )
        return sure


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
