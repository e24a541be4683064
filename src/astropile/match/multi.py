"""
Match any number of surveys at once, by position, by identifier, or some by either.

One survey is the anchor: the result has one row for each of its objects, and row numbers of
the others beside it. Nothing depends on the order in which the others are named.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from astropile.errors import MatchError
from astropile.match.positions import Pairs, _coordinates, match_positions
from astropile.sky import separation_arcsec as measure

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Sky = tuple[Floats, Floats]
FindMany = Literal["nearest", "mutual", "best"]

FIND_MANY: Final = ("nearest", "mutual", "best")
JOINS_MANY: Final = ("inner", "left", "outer")

JOINS: Final[Mapping[str, tuple[bool, bool, bool]]] = {
    "inner": (True, False, False),
    "left": (True, True, False),
    "right": (True, False, True),
    "outer": (True, True, True),
    "1and2": (True, False, False),
    "all1": (True, True, False),
    "all2": (True, False, True),
    "1or2": (True, True, True),
    "1not2": (False, True, False),
    "2not1": (False, False, True),
    "1xor2": (False, True, True),
}
"""Which rows a join of two has: pairs, left rows without a pair, right rows without one."""


class Joined(NamedTuple):
    """Rows of a join of two sides."""

    left: Ints
    """Row numbers of the left side, -1 where it has no part."""

    right: Ints
    """Row numbers of the right side, -1 where it has no part."""

    separation_arcsec: Floats
    """Angle between the two [arcsec], NaN where one has no part."""


def join_pairs(pairs: Pairs, n_left: int, n_right: int, join: str) -> Joined:
    """
    Choose which rows of two matched sides to keep, matched or not.

    Parameters
    ----------
    pairs : Pairs
        Their pairs.
    n_left, n_right : int
        Rows of the sides.
    join : str
        One of `JOINS`: ``inner``, ``left``, ``right``, ``outer``, or as STILTS says it,
        ``1and2``, ``all1``, ``all2``, ``1or2``, ``1not2``, ``2not1``, ``1xor2``.

    Returns
    -------
    Joined
        Row numbers, ordered by left row, right rows without a pair behind.

    Raises
    ------
    MatchError
        If there is no such join.

    Examples
    --------
    >>> pairs = match_positions([10, 20], [0, 0], [20, 30], [0, 0], radius_arcsec=1)
    >>> rows = join_pairs(pairs, 2, 2, "1or2")
    >>> rows.left, rows.right
    (array([ 0,  1, -1]), array([-1,  0,  1]))
    """
    try:
        with_pairs, with_left, with_right = JOINS[join]
    except (KeyError, TypeError) as error:
        raise MatchError("join", f"one of {', '.join(JOINS)}", repr(join)) from error
    nothing = np.empty(0, np.int64)
    left = [pairs.left if with_pairs else nothing]
    right = [pairs.right if with_pairs else nothing]
    separation = [pairs.separation_arcsec if with_pairs else np.empty(0)]
    if with_left:
        alone = _others(n_left, pairs.left)
        left, right = [*left, alone], [*right, np.full(len(alone), -1)]
        separation.append(np.full(len(alone), np.nan))
    order = np.argsort(np.concatenate(left), kind="stable")
    left, right = [np.concatenate(left)[order]], [np.concatenate(right)[order]]
    separation = [np.concatenate(separation)[order]]
    if with_right:
        alone = _others(n_right, pairs.right)
        left, right = [*left, np.full(len(alone), -1)], [*right, alone]
        separation.append(np.full(len(alone), np.nan))
    return Joined(np.concatenate(left), np.concatenate(right), np.concatenate(separation))


def _others(n_rows: int, rows: Ints) -> Ints:
    """Give the row numbers that are not among some."""
    absent = np.ones(n_rows, bool)
    absent[rows] = False
    return np.flatnonzero(absent)


def best_pairs(pairs: Pairs) -> Pairs:
    """
    Keep the best pairs in which no row occurs twice.

    Parameters
    ----------
    pairs : Pairs
        All pairs within the radius.

    Returns
    -------
    Pairs
        The closest pair, the closest of those that share no row with it, and so on. Among
        equal separations the lowest left row comes first, then the lowest right row.

    Notes
    -----
    That is what STILTS calls ``find=best``. Mutual nearest neighbours are among these pairs;
    beyond them, a row whose nearest counterpart is nearer to another may have its second.

    Examples
    --------
    >>> ra = [0.0, 2.0], [0.9, -1.5]
    >>> everyone = match_positions(ra[0], [0, 0], ra[1], [0, 0], radius_arcsec=7200, find="all")
    >>> best = best_pairs(everyone)
    >>> best.left, best.right
    (array([0]), array([0]))
    """
    order = np.lexsort((pairs.right, pairs.left, pairs.separation_arcsec))
    left, right = pairs.left[order], pairs.right[order]
    taken: list[Ints] = []
    while len(order):
        first = np.zeros(len(order), bool)
        first[np.unique(left, return_index=True)[1]] = True
        is_first_right = np.zeros(len(order), bool)
        is_first_right[np.unique(right, return_index=True)[1]] = True
        first &= is_first_right
        taken.append(order[first])
        rest = ~(np.isin(left, left[first]) | np.isin(right, right[first]))
        order, left, right = order[rest], left[rest], right[rest]
    chosen = np.sort(np.concatenate([np.empty(0, np.int64), *taken]))
    return _chosen(pairs, chosen)


def turned(pairs: Pairs) -> Pairs:
    """
    Exchange the sides of pairs.

    Parameters
    ----------
    pairs : Pairs
        The pairs.

    Returns
    -------
    Pairs
        Left rows as right rows and the other way round, in order.
    """
    order = np.lexsort((pairs.left, pairs.separation_arcsec, pairs.right))
    return Pairs(
        pairs.right[order],
        pairs.left[order],
        pairs.separation_arcsec[order],
        pairs.n_invalid_right,
        pairs.n_invalid_left,
    )


def _chosen(pairs: Pairs, which: Any) -> Pairs:
    return Pairs(
        pairs.left[which],
        pairs.right[which],
        pairs.separation_arcsec[which],
        pairs.n_invalid_left,
        pairs.n_invalid_right,
    )


def pair_ids(ids_left: ArrayLike, ids_right: ArrayLike) -> tuple[Ints, Ints]:
    """
    Pair rows of equal identifiers.

    Parameters
    ----------
    ids_left, ids_right : array_like, shape (n,)
        Integers of any size, compared exactly, or text, compared without blanks at the end; an
        integer equals the text that writes it. What is masked, None or empty equals nothing.

    Returns
    -------
    left, right : ndarray of int64
        Row numbers of every pair, ordered by left, then right.

    Raises
    ------
    MatchError
        If identifiers are neither integers nor text. Floating-point numbers are refused: they
        cannot hold the identifiers that surveys use.

    Examples
    --------
    >>> pair_ids([2**60 + 1, 7], ["7", "1152921504606846977", "7"])
    (array([0, 1, 1]), array([1, 0, 2]))
    """
    (left, is_left), (right, is_right) = _ids(ids_left, "left"), _ids(ids_right, "right")
    if left.dtype.kind != right.dtype.kind or "U" in {left.dtype.kind, right.dtype.kind}:
        if left.dtype.kind == right.dtype.kind == "U":
            pass
        elif "U" in {left.dtype.kind, right.dtype.kind}:
            left, right = left.astype(np.str_), right.astype(np.str_)
        else:
            # Signed and unsigned would meet as float64.
            is_left, is_right = is_left & (left >= 0), is_right & (right >= 0)
            left, right = left.astype(np.uint64), right.astype(np.uint64)
    rows_left, rows_right = np.flatnonzero(is_left), np.flatnonzero(is_right)
    left, right = left[rows_left], right[rows_right]
    order = np.argsort(right, kind="stable")
    ordered = right[order]
    first = np.searchsorted(ordered, left, side="left")
    counts = np.searchsorted(ordered, left, side="right") - first
    starts = np.repeat(first - (np.cumsum(counts) - counts), counts)
    at = starts + np.arange(int(counts.sum()))
    return np.repeat(rows_left, counts), rows_right[order[at]]


def _ids(values: Any, side: str) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Give identifiers as integers or text, and which there are."""
    mask = np.ma.getmaskarray(values) if isinstance(values, np.ma.MaskedArray) else None
    array = np.asarray(values)
    if array.dtype.kind == "O":
        missing = np.array([value is None or value is np.ma.masked for value in array], bool)
        filled = ["" if gone else value for value, gone in zip(array, missing, strict=True)]
        if all(isinstance(value, int | np.integer) for value in array[~missing]):
            array = np.array(
                [0 if gone else int(v) for v, gone in zip(array, missing, strict=True)]
            )
        else:
            array = np.array([v.decode() if isinstance(v, bytes) else str(v) for v in filled])
        mask = missing if mask is None else mask | missing
    there = np.ones(len(array), bool) if mask is None else ~mask
    if array.size == 0:
        return np.empty(0, np.int64), np.empty(0, bool)
    match array.dtype.kind:
        case "i":
            return array.astype(np.int64), there
        case "u":
            return array.astype(np.uint64), there
        case "S":
            array = np.char.decode(array, "utf-8", "replace")
        case "U":
            pass
        case _:
            raise MatchError(f"ids of {side}", "integers or text", f"dtype {array.dtype}")
    array = np.char.rstrip(array)
    return array, there & (array != "")


@dataclass(frozen=True, eq=False)
class ManyPairs:
    """
    Objects of several surveys, matched.

    Rows of the anchor come in order; behind them, in an outer join, those without one.
    """

    anchor: str
    """Name of the survey with whose objects the others were matched."""

    rows: Mapping[str, Ints]
    """Row numbers in each survey, -1 where it has no part; shape (n,) each."""

    separation_arcsec: Mapping[str, Floats]
    """Of each other survey: angle from the anchor's object [arcsec], NaN where there is none."""

    n_invalid: Mapping[str, int]
    """Rows of each survey that are no position, where positions were compared."""

    def __len__(self) -> int:
        return len(self.rows[self.anchor])

    @property
    def present(self) -> dict[str, NDArray[np.bool_]]:
        """Which surveys have a part in each row."""
        return {name: rows >= 0 for name, rows in self.rows.items()}


def match_many(
    positions: Mapping[str, tuple[ArrayLike, ArrayLike]],
    *,
    anchor: str,
    radius_arcsec: float | Mapping[str, float] = 1.0,
    join: str = "left",
    find: FindMany = "nearest",
    on: Mapping[str, ArrayLike] | None = None,
) -> ManyPairs:
    """
    Match the positions of several surveys.

    Parameters
    ----------
    positions : mapping of str to (ra, dec)
        Each survey's positions [deg, ICRS], as for `match_positions`.
    anchor : str
        The survey whose objects the others are matched with.
    radius_arcsec : float or mapping of str to float
        Largest accepted separation from the anchor's object [arcsec], inclusive; or that of
        each survey matched by position.
    join : {'left', 'inner', 'outer'}
        ``left``: a row for each object of the anchor. ``inner``: for each that all surveys
        have. ``outer``: as ``left``, and behind it rows for the objects of the others that
        are in none of those.
    find : {'nearest', 'mutual', 'best'}
        ``nearest``: each object of the anchor gets its nearest, so that an object of
        another survey can be in several rows. ``mutual``: only if it is the nearest of that
        one too. ``best``: as `best_pairs`. In the last two no object is in two rows.
    on : mapping of str to array_like, optional
        Identifiers of the anchor and of the surveys to be matched by them, as in `pair_ids`;
        `find` then decides among several of one identifier. The others are matched by position.

    Returns
    -------
    ManyPairs
        Row numbers, separations, which survey has a part in which row.

    Raises
    ------
    MatchError
        If a name is not known, or another argument is not what it must be.

    Notes
    -----
    Rows without an object of the anchor are groups of objects, one of a survey at most, of
    which every two are a pair: within the smaller radius of the two surveys, or of equal
    identifiers where both have some. Groups grow from the closest pairs: pair after pair, by
    separation, the groups of its two are joined where the result is such a group. Among equal
    separations names decide in alphabetical order, then row numbers. The order in which
    surveys are given plays no part in anything.

    Examples
    --------
    >>> sky = {
    ...     "hsc": ([10.0, 20.0], [0.0, 0.0]),
    ...     "desi": ([20.0, 30.0], [0.0, 0.0]),
    ...     "sdss": ([30.0], [0.0]),
    ... }
    >>> found = match_many(sky, anchor="hsc", join="outer")
    >>> found.rows["hsc"], found.rows["desi"], found.rows["sdss"]
    (array([ 0,  1, -1]), array([-1,  0,  1]), array([-1, -1,  0]))
    """
    sky = {name: _coordinates(ra, dec, name) for name, (ra, dec) in positions.items()}

    def pairs_of(name: str, radius: float, find: str) -> Pairs:
        way: Any = "all" if find == "best" else find
        return match_positions(*sky[anchor], *sky[name], radius_arcsec=radius, find=way)

    def positions_of(name: str, rows: Ints) -> Sky:
        ra, dec = sky[name]
        return ra[rows], dec[rows]

    return join_many(
        {name: len(ra) for name, (ra, _) in sky.items()},
        anchor=anchor,
        radius_arcsec=radius_arcsec,
        join=join,
        find=find,
        on=on,
        pairs_of=pairs_of,
        positions_of=positions_of,
    )


def join_many(
    n_rows: Mapping[str, int],
    *,
    anchor: str,
    radius_arcsec: float | Mapping[str, float],
    join: str,
    find: str,
    on: Mapping[str, ArrayLike] | None,
    pairs_of: Callable[[str, float, str], Pairs],
    positions_of: Callable[[str, Ints], Sky],
) -> ManyPairs:
    """
    Match several surveys, wherever their positions are.

    Parameters
    ----------
    n_rows : mapping of str to int
        How many rows each survey has.
    anchor, radius_arcsec, join, find, on
        As for `match_many`.
    pairs_of : callable
        Gives the pairs of the anchor with the survey of a name, within a radius, found in one
        of the ways of `match_positions`, or for ``best`` all.
    positions_of : callable
        Gives the positions of chosen rows of the survey of a name.

    Returns
    -------
    ManyPairs
        As `match_many`.

    Raises
    ------
    MatchError
        As `match_many`.
    """
    ids = dict(on or {})
    names = list(n_rows)
    _check(names, anchor, join, find, ids)
    others = sorted(name for name in names if name != anchor)
    radii = _radii(others, radius_arcsec, ids)
    found: dict[str, Pairs] = {}
    for name in others:
        if name in ids:
            found[name] = _by_id(anchor, name, ids, positions_of, find)
        else:
            pairs = pairs_of(name, radii[name], find)
            found[name] = best_pairs(pairs) if find == "best" else pairs
    rows = {anchor: np.arange(n_rows[anchor])}
    separation: dict[str, Floats] = {}
    for name in others:
        rows[name] = np.full(n_rows[anchor], -1)
        rows[name][found[name].left] = found[name].right
        separation[name] = np.full(n_rows[anchor], np.nan)
        separation[name][found[name].left] = found[name].separation_arcsec
    if join == "inner":
        whole = np.all([rows[name] >= 0 for name in others], axis=0)
        rows = {name: values[whole] for name, values in rows.items()}
        separation = {name: values[whole] for name, values in separation.items()}
    elif join == "outer":
        alone = {name: _others(n_rows[name], found[name].right) for name in others}
        groups = _groups(alone, radii, ids, positions_of)
        n_groups = len(next(iter(groups.values())))
        groups[anchor] = np.full(n_groups, -1)
        rows = {name: np.concatenate([values, groups[name]]) for name, values in rows.items()}
        separation = {
            name: np.concatenate([values, np.full(n_groups, np.nan)])
            for name, values in separation.items()
        }
    n_invalid = {name: found[name].n_invalid_right for name in others}
    n_invalid[anchor] = max(pairs.n_invalid_left for pairs in found.values())
    return ManyPairs(
        anchor,
        {name: rows[name] for name in names},
        {name: separation[name] for name in names if name != anchor},
        {name: n_invalid[name] for name in names},
    )


def _check(names: Sequence[str], anchor: str, join: str, find: str, ids: Mapping[str, Any]) -> None:
    if len(names) < 2:
        raise MatchError("surveys", "two or more", f"{len(names)}")
    if anchor not in names:
        raise MatchError("anchor", f"one of {', '.join(names)}", repr(anchor))
    if join not in JOINS_MANY:
        raise MatchError("join", f"one of {', '.join(JOINS_MANY)}", repr(join))
    if find not in FIND_MANY:
        raise MatchError("find", f"one of {', '.join(FIND_MANY)}", repr(find))
    for name in ids:
        if name not in names:
            raise MatchError("on", f"names among {', '.join(names)}", repr(name))
    if ids and anchor not in ids:
        raise MatchError("on", f"identifiers of the anchor, {anchor}", f"those of {', '.join(ids)}")


def _radii(
    others: Sequence[str], radius_arcsec: float | Mapping[str, float], ids: Mapping[str, Any]
) -> dict[str, float]:
    if not isinstance(radius_arcsec, Mapping):
        return dict.fromkeys(others, radius_arcsec)
    for name in others:
        if name not in radius_arcsec and name not in ids:
            given = ", ".join(radius_arcsec) or "none"
            raise MatchError("radius_arcsec", f"a radius of {name}", f"those of {given}")
    # What is only known by its identifier is near nothing else.
    return {name: radius_arcsec.get(name, 0.0) for name in others}


def _by_id(
    anchor: str,
    name: str,
    ids: Mapping[str, ArrayLike],
    positions_of: Callable[[str, Ints], Sky],
    find: str,
) -> Pairs:
    left, right = pair_ids(ids[anchor], ids[name])
    separation = measure(*positions_of(anchor, left), *positions_of(name, right))
    order = np.lexsort((right, separation, left))
    pairs = Pairs(left[order], right[order], separation[order], 0, 0)
    if find == "best":
        return best_pairs(pairs)
    nearest = _firsts(pairs.left)
    if find == "mutual":
        back = np.lexsort((pairs.left, pairs.separation_arcsec, pairs.right))
        nearest = np.intersect1d(nearest, back[_firsts(pairs.right[back])])
    return _chosen(pairs, nearest)


def _firsts(values: Ints) -> Ints:
    """Give the places where runs of equal values begin."""
    return np.flatnonzero(np.concatenate(([True], values[1:] != values[:-1]))[: len(values)])


def _groups(
    alone: Mapping[str, Ints],
    radii: Mapping[str, float],
    ids: Mapping[str, ArrayLike],
    positions_of: Callable[[str, Ints], Sky],
) -> dict[str, Ints]:
    """Group objects of several surveys; give their rows, -1 where a survey has no part."""
    names = sorted(alone)
    starts = dict(zip(names, np.cumsum([0, *(len(alone[n]) for n in names)]), strict=False))
    sky = {name: positions_of(name, alone[name]) for name in names}
    parts = []
    for one, other in combinations(names, 2):
        if one in ids and other in ids:
            chosen = [_take(ids[name], alone[name]) for name in (one, other)]
            left, right = pair_ids(*chosen)
            apart = measure(*(c[left] for c in sky[one]), *(c[right] for c in sky[other]))
        else:
            radius = min(radii[one], radii[other])
            pairs = match_positions(*sky[one], *sky[other], radius_arcsec=radius, find="all")
            left, right, apart = pairs.left, pairs.right, pairs.separation_arcsec
        parts.append((left + starts[one], right + starts[other], apart))
    empty = np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
    first, second, apart = (np.concatenate(column) for column in zip(empty, *parts, strict=True))
    total = sum(len(rows) for rows in alone.values())
    survey = np.repeat(np.arange(len(names)), [len(alone[name]) for name in names])
    group = _grow_groups(first, second, apart, survey, total)
    labels, group = np.unique(group, return_inverse=True)
    out = {name: np.full(len(labels), -1) for name in names}
    for name in names:
        out[name][group[starts[name] : starts[name] + len(alone[name])]] = alone[name]
    # By row number of the first survey by name, then of the next.
    big = np.iinfo(np.int64).max
    order = np.lexsort([np.where(out[name] < 0, big, out[name]) for name in reversed(names)])
    return {name: rows[order] for name, rows in out.items()}


def _take(values: Any, rows: Ints) -> Any:
    if isinstance(values, np.ma.MaskedArray):
        return values[rows]
    return np.asarray(values)[rows]


def _grow_groups(first: Ints, second: Ints, apart: Floats, survey: Ints, total: int) -> Ints:
    """Join objects pair by pair; give the label of each one's group."""
    group = np.arange(total)
    order = np.lexsort((second, first, apart))
    first, second = first[order], second[order]
    # Two objects that have no other pair are a group; usually most are.
    degree = np.bincount(first, minlength=total) + np.bincount(second, minlength=total)
    simple = (degree[first] == 1) & (degree[second] == 1)
    group[second[simple]] = first[simple]
    left, right = first[~simple].tolist(), second[~simple].tolist()
    is_pair = set(zip(left, right, strict=True))
    members: dict[int, list[int]] = {}
    label: dict[int, int] = {}
    for one, other in zip(left, right, strict=True):
        a, b = label.get(one, one), label.get(other, other)
        if a == b:
            continue
        here, there = members.get(a, [a]), members.get(b, [b])
        if {int(survey[i]) for i in here} & {int(survey[i]) for i in there}:
            continue
        if all((min(i, j), max(i, j)) in is_pair for i in here for j in there):
            members[a] = here + there
            label.update(dict.fromkeys(members[a], a))
    for node, name in label.items():
        group[node] = name
    return group
