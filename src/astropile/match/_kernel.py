"""
The compiled half of `astropile.match.positions`; importing it imports numba.

A `SkyIndex` holds one side of a match: declination rows of one height, cut into cells of
about that width, and for each cell a chain of its points, which stay where they are. A cell
that holds many points is cut again, into a grid fitted to them. Where that would be finer than
the radius, or is crowded in its turn, there is a tree of bounding boxes, so that a crowd costs
a logarithm and not a square.

Compiled functions that call each other stay in this one file, because a cached function is
compiled anew when its own file changes and not when another does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Limits = tuple[float, float, int, bool]
_Function = TypeVar("_Function", bound=Callable[..., Any])

S3, S5, S7, S9 = -1.0 / 6.0, 1.0 / 120.0, -1.0 / 5040.0, 1.0 / 362880.0
A3, A5, A7 = 1.0 / 6.0, 3.0 / 40.0, 15.0 / 336.0

LEAF = 16
"""Cells and tree leaves up to this many points are read through without further ado."""

BLOCK = 1024
"""Queries that are handled together: what is noted of them stays in a processor's cache."""

MANY = 255
"""So many points of a cell are counted, which is more than are read through."""

MOST_CELLS = 4096
"""Cells that one query has to do with are fewer than these: no cell is narrower than the radius."""

POINTS_PER_CELL = 1.5
"""How many points a cell of a crowd's own grid has, about."""

DEG = math.pi / 180.0
HALF_DEG = math.pi / 360.0
ARCSEC = 180.0 * 3600.0 / math.pi
DEG_PER_ARCSEC = (1.0 + 1e-13) / 3600.0  # widened like SLACK
HALF_SKY_ARCSEC = 324000.0
SLACK_DEG = 1e-11
"""Widening of search windows [deg]: more than the rounding of a cell's edge."""

SLACK = 1.0 + 1e-13
"""Widening of a haversine bound: more than the rounding of a haversine."""

CHORD_SLACK = 1e-15
"""Widening of a chord on the unit sphere: more than the rounding of a unit vector."""

ZERO = cast("int", np.int64(0))
"""A zero that may become another number: to a plain 0 the compiler gives a type of its own."""

FULL = cast("int", np.int64(-1))
"""In place of a number found: the output has no room for the next points."""

# Columns of `SkyIndex.points`: one row is one point, so that it is read in one piece.
RA, DEC, ROW, COS = 0, 1, 2, 3
# Columns of `node_span`.
LOW, HIGH, RIGHT = 0, 1, 2
# Values of RIGHT that are not a node.
IS_LEAF, IS_ONE_PLACE = -1, -2
# Columns of `crowd_box` and of `crowd_shape`.
MIDDLE, EDGE, BOTTOM, COLUMNS_PER_DEGREE, ROWS_PER_DEGREE = 0, 1, 2, 3, 4
SUBCELL, N_COLUMNS, N_ROWS = 0, 1, 2


class Grid(NamedTuple):
    """Declination rows, cut into cells."""

    origin: tuple[float, float, float]  # ra and dec of the corner [deg]; rows per degree
    extent: float
    padding: int
    first_cell: Ints
    cells_per_degree: Floats
    window: Floats


class Points(NamedTuple):
    """Positions as they came, or roughly sorted along the sky."""

    ra: Floats
    dec: Floats
    row: Ints  # empty where point i is row i
    first_row: int  # of point 0, if so


class Crowds(NamedTuple):
    """Cells that hold many points, cut again."""

    box: Floats
    shape: Ints
    subcells: Ints  # as the cells


class Trees(NamedTuple):
    """Points of cells that are not cut further, and nodes over them."""

    points: Floats
    node_box: Floats
    node_span: Ints


class Work(NamedTuple):
    """What some queries have to do with: room for it."""

    home: Ints
    crowd_query: Ints
    crowd_number: Ints
    chain_query: Ints
    chain_point: Ints  # the next point + 1
    root_query: Ints
    root_node: Ints
    nodes: Ints
    distance: Floats
    cos_dec: Floats  # of each query, once it is known
    most: Floats  # the bound on the haversine of each query


class SkyIndex(NamedTuple):
    """One side of a match, made ready for searching."""

    grid: Grid
    points: Points
    cells: Ints  # of each its first point + 1, 0 if it is empty, or see `_crowd` and `_tree`
    following: Ints  # of each point the next one of its cell + 1, or 0
    cos_dec: Floats  # of each point; empty where a query has to do with few
    crowds: Crowds
    trees: Trees


def _compiled(function: _Function) -> _Function:
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    try:
        compiled = njit(cache=True, **options)(function)
    except RuntimeError:
        # Neither the package's directory nor the user's can be written.
        compiled = njit(**options)(function)
    return cast("_Function", compiled)


@_compiled
def _clean(ra: float, dec: float) -> tuple[float, float]:
    """Return the position with ra in [0, 360), or NaN where it is none."""
    # Written so that NaN fails both comparisons.
    if not (abs(dec) <= 90.0 and abs(ra - 180.0) <= 720.0):
        return math.nan, math.nan
    if abs(dec) == 90.0:
        return 0.0, dec  # every ra is the same place at a pole
    if ra < 0.0 or ra >= 360.0:
        ra -= 360.0 * math.floor(ra / 360.0)
        if ra >= 360.0:
            ra = 0.0
    return ra, dec


@_compiled
def _cos_dec(dec: float) -> float:
    # As a sine of the polar distance: exact at the pole, and full digits close to it.
    return math.sin((90.0 - abs(dec)) * DEG)


@_compiled
def _sine(x: float) -> float:
    """Return sin(x), by its series where that is exact to rounding."""
    if abs(x) > 0.1:
        return math.sin(x)
    s = x * x
    return x * (1.0 + s * (S3 + s * (S5 + s * (S7 + s * S9))))


@_compiled
def _arcsine(x: float) -> float:
    """Return arcsin(x), by its series where that is exact to rounding."""
    if x > 0.01:
        return math.asin(x)
    s = x * x
    return x * (1.0 + s * (A3 + s * (A5 + s * A7)))


@_compiled
def _short_way(turn: float) -> float:
    if turn > 180.0:
        return turn - 360.0
    if turn < -180.0:
        return turn + 360.0
    return turn


@_compiled
def _bound(arcsec: float) -> float:
    """Return a haversine that no separation up to `arcsec` exceeds."""
    half = math.sin(0.5 * min(arcsec, 2.0 * HALF_SKY_ARCSEC) / ARCSEC)
    return half * half * SLACK


@_compiled
def sky_bounds(ra: Floats, dec: Floats) -> tuple[int, float, float, float, float, float, float]:
    """Count valid positions; extremes of dec, of ra, and of ra seen from the far side."""
    count = 0
    dec_low, ra_low, far_low = math.inf, math.inf, math.inf
    dec_high, ra_high, far_high = -math.inf, -math.inf, -math.inf
    for i in range(len(ra)):
        a, d = _clean(ra[i], dec[i])
        if math.isnan(d):
            continue
        far = a - 180.0 if a >= 180.0 else a + 180.0
        count += 1
        dec_low, dec_high = min(dec_low, d), max(dec_high, d)
        ra_low, ra_high = min(ra_low, a), max(ra_high, a)
        far_low, far_high = min(far_low, far), max(far_high, far)
    return count, dec_low, dec_high, ra_low, ra_high, far_low, far_high


@_compiled
def _row_of(dec: float, dec_origin: float, inverse_height: float) -> int:
    return math.floor((dec - dec_origin) * inverse_height)


@_compiled
def _from_origin(ra: float, ra_origin: float) -> float:
    a = ra - ra_origin
    return a + 360.0 if a < 0.0 else a


@_compiled
def _cell_of(
    ra: float, dec: float, origin: tuple[float, float, float], first_cell: Ints, scale: Floats
) -> int:
    """Return the cell of a position; of the nearest row and column for one outside."""
    row = min(max(_row_of(dec, origin[1], origin[2]), 0), len(scale) - 1)
    column = int(_from_origin(ra, origin[0]) * scale[row])
    return int(min(first_cell[row] + column, first_cell[row + 1] - 1))


@_compiled
def _columns(
    a: float, width: float, n: int, scale: float, extent: float
) -> tuple[int, int, int, int]:
    """Return which of the n cells of a row lie within `width` of `a` [deg], as two ranges."""
    if width >= 180.0:
        return 0, n - 1, 0, -1
    low, high = a - width, a + width
    c0 = int(max(low, 0.0) * scale)
    c1 = min(int(high * scale), n - 1)
    if low > extent:
        c0, c1 = n, n - 1
    if low < 0.0 and low + 360.0 <= extent:
        d0 = min(int((low + 360.0) * scale), n - 1)
        if d0 <= c1:
            return 0, n - 1, 0, -1
        return c0, c1, d0, n - 1
    if high >= 360.0:
        d1 = min(int((high - 360.0) * scale), n - 1)
        if c0 <= d1:
            return 0, n - 1, 0, -1
        return c0, c1, 0, d1
    return c0, c1, 0, -1


@_compiled
def count_buckets(
    grid: Grid,
    ra: Floats,
    dec: Floats,
    reach: tuple[float, float],
    shift: int,
    counts: Ints,
    low: int,
    high: int,
) -> None:
    """Count rows low to high, if within the declinations of `reach`, by bucket of cells."""
    origin, first_cell, scale = grid.origin, grid.first_cell, grid.cells_per_degree
    for i in range(low, high):
        a, d = _clean(ra[i], dec[i])
        if d >= reach[0] and d <= reach[1]:
            counts[_cell_of(a, d, origin, first_cell, scale) >> shift] += 1


@_compiled
def fill_buckets(
    grid: Grid,
    ra: Floats,
    dec: Floats,
    reach: tuple[float, float],
    shift: int,
    first_row: int,
    out: tuple[Floats, Floats, Ints],
    cursor: Ints,
    low: int,
    high: int,
) -> None:
    """Copy what `count_buckets` counted to its place, in the order it came."""
    origin, first_cell, scale = grid.origin, grid.first_cell, grid.cells_per_degree
    out_ra, out_dec, out_row = out
    for i in range(low, high):
        a, d = _clean(ra[i], dec[i])
        if d >= reach[0] and d <= reach[1]:
            bucket = _cell_of(a, d, origin, first_cell, scale) >> shift
            place = cursor[bucket]
            cursor[bucket] = place + 1
            out_ra[place] = a
            out_dec[place] = d
            out_row[place] = first_row + i


@_compiled
def _crowd(k: int) -> int:
    """Return what a cell holds instead of a point if it is crowd k."""
    return -2 * k - 1


@_compiled
def _tree(node: int) -> int:
    """Return what a cell holds instead of a point if it is the tree with this root."""
    return -2 * node - 2


@_compiled
def _push(cells: Ints, counts: NDArray[np.uint8], following: Ints, cell: int, point: int) -> None:
    """Put a point before the others of a cell."""
    following[point] = cells[cell]
    cells[cell] = point + 1
    counts[cell] += counts[cell] < MANY


@_compiled
def chain_points(
    grid: Grid,
    points: Points,
    cells: Ints,
    counts: NDArray[np.uint8],
    following: Ints,
    low: int,
    high: int,
) -> None:
    """Put points low to high into the chains of their cells."""
    origin, first_cell, scale = grid.origin, grid.first_cell, grid.cells_per_degree
    ra, dec = points.ra, points.dec
    for i in range(high - 1, low - 1, -1):
        a, d = _clean(ra[i], dec[i])
        if not math.isnan(d):
            _push(cells, counts, following, _cell_of(a, d, origin, first_cell, scale), i)


@_compiled
def count_chains(cells: Ints, following: Ints, chosen: Ints) -> Ints:
    """Count the points of some cells."""
    sizes = np.zeros(len(chosen), np.int64)
    for k in range(len(chosen)):
        p = cells[chosen[k]]
        while p > 0:
            sizes[k] += 1
            p = following[p - 1]
    return sizes


@_compiled
def measure_crowds(
    index: SkyIndex,
    crowded: Ints,
    sizes: Ints,
    box: Floats,
    shape: Ints,
    reach_deg: float,
    low: int,
    high: int,
) -> None:
    """Fit grids to the points of crowded cells low to high, no finer than the reach."""
    cells, following, points, grid = index.cells, index.following, index.points, index.grid
    for k in range(low, high):
        p, size = cells[crowded[k]] - 1, sizes[k]
        left, right, bottom, top = math.inf, -math.inf, math.inf, -math.inf
        for _ in range(size):
            a, d = _clean(points.ra[p], points.dec[p])
            a = _from_origin(a, grid.origin[0])
            left, right = min(left, a), max(right, a)
            bottom, top = min(bottom, d), max(top, d)
            p = following[p] - 1
        n_cells = size / POINTS_PER_CELL
        shrink = max(_cos_dec(0.5 * (bottom + top)), 1e-9)
        across = (right - left) * shrink
        # The middle two bound the number of cells where the points lie on a line.
        height = max(
            math.sqrt(across * (top - bottom) / n_cells),
            (top - bottom) / n_cells,
            across / n_cells,
            reach_deg,
        )
        # As far as a circle around any of these points reaches in ra.
        row_0 = _row_of(bottom, grid.origin[1], grid.origin[2]) + grid.padding
        row_1 = _row_of(top, grid.origin[1], grid.origin[2]) + grid.padding
        width = max(height / shrink, grid.window[row_0], grid.window[row_1])
        box[k, MIDDLE], box[k, EDGE], box[k, BOTTOM] = 0.5 * (left + right), left, bottom
        box[k, COLUMNS_PER_DEGREE], box[k, ROWS_PER_DEGREE] = 1.0 / width, 1.0 / height
        shape[k, N_COLUMNS] = int((right - left) / width) + 1
        shape[k, N_ROWS] = int((top - bottom) / height) + 1


@_compiled
def cut_crowds(
    index: SkyIndex, crowded: Ints, counts: NDArray[np.uint8], low: int, high: int
) -> None:
    """Move the points of crowded cells low to high to the cells of their crowd."""
    cells, following, points = index.cells, index.following, index.points
    box, shape, subcells = index.crowds.box, index.crowds.shape, index.crowds.subcells
    for k in range(low, high):
        p = cells[crowded[k]]
        last_column, last_row = shape[k, N_COLUMNS] - 1, shape[k, N_ROWS] - 1
        while p > 0:
            after = following[p - 1]
            a, d = _clean(points.ra[p - 1], points.dec[p - 1])
            a = _from_origin(a, index.grid.origin[0])
            column = min(int((a - box[k, EDGE]) * box[k, COLUMNS_PER_DEGREE]), last_column)
            row = min(int((d - box[k, BOTTOM]) * box[k, ROWS_PER_DEGREE]), last_row)
            cell = shape[k, SUBCELL] + row * (last_column + 1) + column
            _push(subcells, counts, following, cell, p - 1)
            p = after
        cells[crowded[k]] = _crowd(k)


@_compiled
def _row_number(points: Points, p: int) -> int:
    return points.row[p] if len(points.row) > 0 else points.first_row + p


@_compiled
def _vector(ra: float, dec: float, cos_dec: float) -> tuple[float, float, float]:
    return (
        cos_dec * math.cos(ra * DEG),
        cos_dec * math.sin(ra * DEG),
        math.sin(dec * DEG),
    )


@_compiled
def _swap(points: Floats, vectors: Floats, i: int, j: int, offset: int) -> None:
    for axis in range(3):
        vectors[i, axis], vectors[j, axis] = vectors[j, axis], vectors[i, axis]
    i, j = i + offset, j + offset
    for column in range(4):
        points[i, column], points[j, column] = points[j, column], points[i, column]


@_compiled
def _split(points: Floats, vectors: Floats, low: int, high: int, offset: int, axis: int) -> int:
    """Move the lower half along `axis` to the front, by quickselect; return the middle."""
    middle = (low + high) // 2
    last = high - 1
    while low < last:
        # The median of three that no usual order of rows makes the worst choice.
        span = last - low
        x = vectors[low + span // 8, axis]
        y = vectors[low + span // 2, axis]
        z = vectors[last - span // 8, axis]
        pivot = max(min(x, y), min(max(x, y), z))
        i, j = low, last
        while i <= j:
            while vectors[i, axis] < pivot:
                i += 1
            while vectors[j, axis] > pivot:
                j -= 1
            if i <= j:
                _swap(points, vectors, i, j, offset)
                i += 1
                j -= 1
        if middle <= j:
            last = j
        elif middle >= i:
            low = i
        else:
            break
    return middle


@_compiled
def _sort_found(separation: Floats, row: Ints, base: int, n: int) -> None:
    """Sort n pairs from `base` on by separation, then row: Shell's method, in place."""
    gap = n
    while gap > 1:
        gap = max(gap * 5 // 11, 1)
        for i in range(base + gap, base + n):
            s, r = separation[i], row[i]
            j = i
            while j >= base + gap and (
                separation[j - gap] > s or (separation[j - gap] == s and row[j - gap] > r)
            ):
                separation[j], row[j] = separation[j - gap], row[j - gap]
                j -= gap
            separation[j], row[j] = s, r


@_compiled
def _sort_rows(points: Floats, low: int, high: int) -> None:
    """Sort points that differ in nothing but their row."""
    rows = np.empty(high - low, np.int64)
    for i in range(low, high):
        rows[i - low] = points[i, ROW]
    _sort_found(np.zeros(high - low), rows, ZERO, high - low)
    for i in range(low, high):
        points[i, ROW] = rows[i - low]


@_compiled
def grow_trees(
    index: SkyIndex,
    cells: Ints,
    crowded: Ints,
    sizes: Ints,
    offsets: Ints,
    roots: Ints,
    low: int,
    high: int,
) -> None:
    """Copy the points of some of the cells, low to high, and sort the copies into trees."""
    points, node_box, node_span = index.trees
    stack = np.empty((128, 3), np.int64)
    for k in range(low, high):
        offset, node = offsets[k], roots[k]
        p, size = cells[crowded[k]] - 1, sizes[k]
        vectors = np.empty((size, 3))
        for i in range(size):
            a, d = _clean(index.points.ra[p], index.points.dec[p])
            cos_dec = _cos_dec(d)
            points[offset + i, RA], points[offset + i, DEC] = a, d
            points[offset + i, ROW], points[offset + i, COS] = _row_number(index.points, p), cos_dec
            vectors[i, 0], vectors[i, 1], vectors[i, 2] = _vector(a, d, cos_dec)
            p = index.following[p] - 1
        cells[crowded[k]] = _tree(node)
        stack[0, 0], stack[0, 1], stack[0, 2] = 0, size, -1
        depth = 1
        while depth > 0:
            depth -= 1
            low, high, parent = stack[depth, 0], stack[depth, 1], stack[depth, 2]
            if parent >= 0:
                node_span[parent, RIGHT] = node
            widest, axis = -1.0, 0
            for xyz in range(3):
                least, most = vectors[low, xyz], vectors[low, xyz]
                for i in range(low + 1, high):
                    least, most = min(least, vectors[i, xyz]), max(most, vectors[i, xyz])
                node_box[node, xyz], node_box[node, 3 + xyz] = least, most
                if most - least > widest:
                    widest, axis = most - least, xyz
            node_span[node, LOW], node_span[node, HIGH] = low + offset, high + offset
            node_span[node, RIGHT] = IS_LEAF
            if high - low > LEAF:
                one_place = widest == 0.0
                for i in range(low + offset + 1, high + offset):
                    if not one_place:
                        break
                    one_place = (
                        points[i, RA] == points[i - 1, RA] and points[i, DEC] == points[i - 1, DEC]
                    )
                if one_place:
                    # Many rows at one place: in order of row, the first few answer for all.
                    node_span[node, RIGHT] = IS_ONE_PLACE
                    _sort_rows(points, low + offset, high + offset)
                else:
                    middle = _split(points, vectors, low, high, offset, axis)
                    stack[depth, 0], stack[depth, 1], stack[depth, 2] = middle, high, node
                    stack[depth + 1, 0], stack[depth + 1, 1] = low, middle
                    stack[depth + 1, 2] = -1
                    depth += 2
            node += 1


@_compiled
def mark_cells(grid: Grid, ra: Floats, dec: Floats, reach_deg: float) -> NDArray[np.bool_]:
    """Tell which cells come within reach of a position."""
    first_cell, scale = grid.first_cell, grid.cells_per_degree
    ra_origin, dec_origin, inverse_height = grid.origin
    marks = np.zeros(first_cell[-1], np.bool_)
    for i in range(len(ra)):
        a, d = _clean(ra[i], dec[i])
        if math.isnan(d):
            continue
        a = _from_origin(a, ra_origin)
        width = grid.window[_row_of(d, dec_origin, inverse_height) + grid.padding]
        row_0 = max(_row_of(d - reach_deg, dec_origin, inverse_height), 0)
        row_1 = min(_row_of(d + reach_deg, dec_origin, inverse_height), len(scale) - 1)
        for row in range(row_0, row_1 + 1):
            first = first_cell[row]
            c0, c1, d0, d1 = _columns(
                a, width, first_cell[row + 1] - first, scale[row], grid.extent
            )
            for cell in range(first + c0, first + c1 + 1):
                marks[cell] = True
            for cell in range(first + d0, first + d1 + 1):
                marks[cell] = True
    return marks


@_compiled
def rows_in_marks(
    grid: Grid,
    ra: Floats,
    dec: Floats,
    reach: tuple[float, float],
    marks: NDArray[np.bool_],
    low: int,
    high: int,
) -> Ints:
    """Return which of the rows low to high have their position in a marked cell."""
    origin, first_cell, scale = grid.origin, grid.first_cell, grid.cells_per_degree
    rows = np.empty(high - low, np.int64)
    n = 0
    for i in range(low, high):
        a, d = _clean(ra[i], dec[i])
        if d >= reach[0] and d <= reach[1] and marks[_cell_of(a, d, origin, first_cell, scale)]:
            rows[n] = i
            n += 1
    return rows[:n].copy()


@_compiled
def _grown(array: Any, size: int) -> Any:
    larger = np.empty(size, array.dtype)
    for i in range(len(array)):
        larger[i] = array[i]
    return larger


@_compiled
def _haversine(d_dec: float, turn: float, across: float) -> float:
    """Return the haversine of a separation; `across` is the product of the cosines of dec."""
    s, t = _sine(d_dec * HALF_DEG), _sine(turn * HALF_DEG)
    return s * s + across * (t * t)


@_compiled
def _separation(haversine: float, dec_sum: float, turn: float, across: float) -> float:
    """Return the separation that has a haversine [arcsec]."""
    if haversine <= 0.5:
        return 2.0 * _arcsine(math.sqrt(haversine)) * ARCSEC
    # By the supplement, which has the digits when the positions are nearly opposite.
    s, t = math.sin(dec_sum * HALF_DEG), math.cos(turn * HALF_DEG)
    rest = min(s * s + across * (t * t), 1.0)
    return 2.0 * (HALF_SKY_ARCSEC - math.asin(math.sqrt(rest)) * ARCSEC)


@_compiled
def _scan_leaf(
    points: Floats,
    low: int,
    high: int,
    query: tuple[float, float, float, int],
    limits: Limits,
    state: tuple[int, float, float],
    found_row: Ints,
    found_separation: Floats,
    base: int,
) -> tuple[int, float, float]:
    """
    Offer some points of a tree to one query, whose pairs begin at `base`.

    `limits` are radius, least radius, neighbours wanted (0 for all) and whether a row
    excludes itself; `state` the number found and the bounds on haversine and on the
    difference in declination that a further point has to keep.
    """
    ra, dec, cos_dec, own_row = query
    radius, least, wanted, excludes_itself = limits
    n, most_haversine, most_dec = state
    for p in range(low, high):
        d_dec = dec - points[p, DEC]
        if abs(d_dec) > most_dec:
            continue
        turn, across = _short_way(ra - points[p, RA]), cos_dec * points[p, COS]
        haversine = _haversine(d_dec, turn, across)
        if haversine > most_haversine:
            continue
        # The bound let through what rounding puts outside; that counts as on the edge.
        separation = min(_separation(haversine, dec + points[p, DEC], turn, across), radius)
        row = int(points[p, ROW])
        if separation < least or (excludes_itself and row == own_row):
            continue
        i = base + n
        if wanted == 0:
            found_separation[i], found_row[i] = separation, row
            n += 1
            continue
        if n == wanted:
            i -= 1
            last = found_separation[i]
            if separation > last or (separation == last and row > found_row[i]):
                continue
        else:
            n += 1
        while i > base and (
            found_separation[i - 1] > separation
            or (found_separation[i - 1] == separation and found_row[i - 1] > row)
        ):
            found_separation[i], found_row[i] = found_separation[i - 1], found_row[i - 1]
            i -= 1
        found_separation[i], found_row[i] = separation, row
        last = found_separation[base + n - 1]
        if n == wanted and last < radius:
            # A sine can be had for nothing in the usual case, one neighbour wanted.
            bound = haversine * SLACK if wanted == 1 else _bound(last)
            most_haversine = min(most_haversine, bound)
            most_dec = min(most_dec, last * DEG_PER_ARCSEC)
    return n, most_haversine, most_dec


@_compiled
def _box_distance(box: Floats, node: int, x: float, y: float, z: float) -> float:
    """Return the square of the chord from a point to the box of a node."""
    dx = max(box[node, 0] - x, 0.0, x - box[node, 3])
    dy = max(box[node, 1] - y, 0.0, y - box[node, 4])
    dz = max(box[node, 2] - z, 0.0, z - box[node, 5])
    return float(dx * dx + dy * dy + dz * dz)


@_compiled
def _sort_roots(
    stack: Ints, distance: Floats, n: int, box: Floats, x: float, y: float, z: float
) -> None:
    """Bring the nearest of the first nodes to the top of the stack."""
    for k in range(n):
        node = stack[k]
        d = _box_distance(box, node, x, y, z)
        i = k
        while i > 0 and distance[i - 1] < d:
            stack[i], distance[i] = stack[i - 1], distance[i - 1]
            i -= 1
        stack[i], distance[i] = node, d


@_compiled
def _search_trees(
    trees: Trees,
    depth: int,
    nodes: Ints,
    distance: Floats,
    query: tuple[float, float, float, int],
    limits: Limits,
    state: tuple[int, float, float],
    found_row: Ints,
    found_separation: Floats,
    base: int,
) -> int:
    """Offer the points of the trees in `nodes` to one query, nearest first; see `_scan_leaf`."""
    points, node_box, node_span = trees
    wanted = limits[2]
    x, y, z = _vector(query[0], query[1], query[2])
    _sort_roots(nodes, distance, depth, node_box, x, y, z)
    while depth > 0:
        depth -= 1
        chord = 2.0 * math.sqrt(state[1]) + CHORD_SLACK
        if distance[depth] > chord * chord:
            continue
        node = nodes[depth]
        far = node_span[node, RIGHT]
        if far < 0:
            low, high = node_span[node, LOW], node_span[node, HIGH]
            if far == IS_ONE_PLACE and wanted > 0:
                # Rows ascend: those after the first few lose every tie. One more, as the
                # query itself may be among them.
                high = min(high, low + wanted + 1)
            if base + state[0] + high - low + wanted > len(found_row):
                return FULL
            state = _scan_leaf(
                points, low, high, query, limits, state, found_row, found_separation, base
            )
            continue
        near = node + 1
        near_distance = _box_distance(node_box, near, x, y, z)
        far_distance = _box_distance(node_box, far, x, y, z)
        if far_distance < near_distance:
            near, far = far, near
            near_distance, far_distance = far_distance, near_distance
        nodes[depth], distance[depth] = far, far_distance
        nodes[depth + 1], distance[depth + 1] = near, near_distance
        depth += 2
    return state[0]


@_compiled
def _home_cells(
    index: SkyIndex, queries: Points, reach_deg: float, first: int, last: int, home: Ints
) -> None:
    """Give the cell of each query that has to do with no other; -1 for the rest."""
    (ra_origin, dec_origin, inverse_height), _, padding, first_cell, scale, window = index.grid
    query_ra, query_dec, _, _ = queries
    n_rows = len(scale)
    for q in range(first, last):
        ra, dec = query_ra[q], query_dec[q]
        home[q - first] = -1
        if not (ra >= 0.0 and ra < 360.0 and abs(dec) < 90.0):
            continue
        row = _row_of(dec, dec_origin, inverse_height)
        if row < 0 or row >= n_rows:
            continue
        a = _from_origin(ra, ra_origin)
        width = window[row + padding]
        column = int(a * scale[row])
        inside = (
            (_row_of(dec - reach_deg, dec_origin, inverse_height) == row)
            & (_row_of(dec + reach_deg, dec_origin, inverse_height) == row)
            & ((a - width) * scale[row] >= column)
            & ((a + width) * scale[row] < column + 1)
            & (a + width < 360.0)
            & (first_cell[row] + column < first_cell[row + 1])
        )
        home[q - first] = first_cell[row] + column if inside else -1


@_compiled
def _list_crowds(
    index: SkyIndex,
    queries: Points,
    reach_deg: float,
    work: Work,
    n_chains: int,
    n_roots: int,
    n_crowds: int,
) -> tuple[int, int]:
    """Add what the queries have to do with in crowds to the lists; see `_list_work`."""
    (ra_origin, dec_origin, inverse_height), _, padding, _, _, window = index.grid
    box, shape, subcells = index.crowds
    query_ra, query_dec, _, _ = queries
    crowd_query, crowd_number = work.crowd_query, work.crowd_number
    chain_query, chain_point = work.chain_query, work.chain_point
    root_query, root_node = work.root_query, work.root_node
    for i in range(n_crowds):
        if max(n_chains, n_roots, n_crowds) > len(chain_query) - MOST_CELLS:
            return FULL, ZERO
        q, k = crowd_query[i], crowd_number[i]
        ra, dec = _clean(query_ra[q], query_dec[q])
        width = window[_row_of(dec, dec_origin, inverse_height) + padding]
        # From the edge of the crowd, the short way round to its middle.
        half = box[k, MIDDLE] - box[k, EDGE]
        a = _short_way(_from_origin(ra, ra_origin) - box[k, MIDDLE]) + half
        n_columns = shape[k, N_COLUMNS]
        column_0 = int(max(a - width, 0.0) * box[k, COLUMNS_PER_DEGREE])
        column_1 = min(int((a + width) * box[k, COLUMNS_PER_DEGREE]), n_columns - 1)
        if width + half >= 180.0:
            column_0, column_1 = 0, n_columns - 1
        elif a + width < 0.0:
            continue
        d = dec - box[k, BOTTOM]
        if d + reach_deg < 0.0:
            continue
        row_0 = int(max(d - reach_deg, 0.0) * box[k, ROWS_PER_DEGREE])
        row_1 = min(int((d + reach_deg) * box[k, ROWS_PER_DEGREE]), shape[k, N_ROWS] - 1)
        for row in range(row_0, row_1 + 1):
            corner = shape[k, SUBCELL] + row * n_columns
            for cell in range(corner + column_0, corner + column_1 + 1):
                p = subcells[cell]
                # Written always and kept if there is a point: a jump saved is time saved.
                chain_query[n_chains], chain_point[n_chains] = q, p
                n_chains += p > 0
                if p < 0:
                    root_query[n_roots], root_node[n_roots] = q, (-p - 1) >> 1
                    n_roots += 1
    return n_chains, n_roots


@_compiled
def _list_work(
    index: SkyIndex, queries: Points, reach_deg: float, first: int, last: int, work: Work
) -> tuple[int, int]:
    """
    List the chains of points and the trees near the queries from `first` to before `last`.

    Returns how many of both there are.
    """
    grid, cells = index.grid, index.cells
    (ra_origin, dec_origin, inverse_height), extent, padding, first_cell, scale, window = grid
    query_ra, query_dec, _, _ = queries
    home, crowd_query, crowd_number = work.home, work.crowd_query, work.crowd_number
    chain_query, chain_point = work.chain_query, work.chain_point
    root_query, root_node = work.root_query, work.root_node
    last_row = len(scale) - 1
    dec_low = dec_origin - reach_deg
    dec_high = dec_origin + (last_row + 1) / inverse_height + reach_deg
    n_chains = n_roots = n_crowds = ZERO
    _home_cells(index, queries, reach_deg, first, last, home)
    for q in range(first, last):
        cell = home[q - first]
        p = cells[cell] if cell >= 0 else -1
        if p >= 0:
            # Written always and kept if there is a point: a jump saved is time saved.
            chain_query[n_chains], chain_point[n_chains] = q, p
            n_chains += p > 0
            continue
        ra, dec = _clean(query_ra[q], query_dec[q])
        if not (dec >= dec_low and dec <= dec_high):
            continue
        if max(n_chains, n_roots) > len(chain_query) - MOST_CELLS - last + first:
            return FULL, ZERO
        a = _from_origin(ra, ra_origin)
        width = window[_row_of(dec, dec_origin, inverse_height) + padding]
        row_0 = max(_row_of(dec - reach_deg, dec_origin, inverse_height), 0)
        row_1 = min(_row_of(dec + reach_deg, dec_origin, inverse_height), last_row)
        for row in range(row_0, row_1 + 1):
            corner = first_cell[row]
            c0, c1, d0, d1 = _columns(a, width, first_cell[row + 1] - corner, scale[row], extent)
            # The second range, where there is one, comes after or before the first.
            n_first = max(c1 - c0 + 1, 0)
            for i in range(n_first + d1 - d0 + 1):
                cell = corner + (c0 + i if i < n_first else d0 + i - n_first)
                p = cells[cell]
                if p > 0:
                    chain_query[n_chains], chain_point[n_chains] = q, p
                    n_chains += 1
                elif p < 0 and p % 2 == 0:
                    root_query[n_roots], root_node[n_roots] = q, (-p - 1) >> 1
                    n_roots += 1
                elif p < 0:
                    crowd_query[n_crowds], crowd_number[n_crowds] = q, (-p - 1) >> 1
                    n_crowds += 1
    return _list_crowds(index, queries, reach_deg, work, n_chains, n_roots, n_crowds)


@_compiled
def _follow_chains(
    query_dec: Floats,
    point_dec: Floats,
    following: Ints,
    reach_deg: float,
    n: int,
    work: Work,
    near_query: Ints,
    near_point: Ints,
) -> int:
    """
    Go along n chains side by side; note points of about the declination of their query.

    Loads of one chain have to wait for each other, those of different chains do not.
    """
    chain_query, chain_point = work.chain_query, work.chain_point
    n_near = 0
    while n > 0:
        if n_near + n > len(near_query):
            return int(FULL)
        n_left = 0
        for i in range(n):
            q, p = chain_query[i], chain_point[i] - 1
            near_query[n_near], near_point[n_near] = q, p
            n_near += abs(query_dec[q] - point_dec[p]) <= reach_deg
            after = following[p]
            chain_query[n_left], chain_point[n_left] = q, after
            n_left += after > 0
        n = n_left
    return n_near


@_compiled
def _measure(
    index: SkyIndex,
    queries: Points,
    reach_arcsec: float,
    limits: Limits,
    first: int,
    last: int,
    n_near: int,
    work: Work,
    found_query: Ints,
    found_row: Ints,
    found_separation: Floats,
) -> int:
    """Keep of the first pairs of query and point those within reach, with their separation."""
    point_ra, point_dec, point_row, first_row = index.points
    query_ra, query_dec, query_row, first_query = queries
    radius, least, wanted, excludes_itself = limits
    known, cos_query, most = index.cos_dec, work.cos_dec, work.most
    cos_query[: last - first] = -1.0
    most[: last - first] = _bound(reach_arcsec)
    n = 0
    for i in range(n_near):
        q, p = found_query[i], found_row[i]
        ra, dec = _clean(query_ra[q], query_dec[q])
        ra_p, dec_p = _clean(point_ra[p], point_dec[p])
        k = q - first
        if cos_query[k] < 0.0:
            cos_query[k] = _cos_dec(dec)
        turn = _short_way(ra - ra_p)
        across = cos_query[k] * (known[p] if len(known) > 0 else _cos_dec(dec_p))
        haversine = _haversine(dec - dec_p, turn, across)
        if haversine > most[k]:
            continue
        # The bound let through what rounding puts outside; that counts as on the edge.
        separation = min(_separation(haversine, dec + dec_p, turn, across), radius)
        row = point_row[p] if len(point_row) > 0 else first_row + p
        own_row = query_row[q] if len(query_row) > 0 else first_query + q
        if separation < least or (excludes_itself and row == own_row):
            continue
        found_query[n], found_row[n], found_separation[n] = q, row, separation
        n += 1
        if wanted == 1:
            most[k] = min(most[k], haversine * SLACK)
    return n


@_compiled
def cosines(dec: Floats) -> Floats:
    """Return the cosines of declinations, as they are taken elsewhere."""
    cos_dec = np.empty(len(dec))
    for i in range(len(dec)):
        cos_dec[i] = _cos_dec(dec[i])
    return cos_dec


@_compiled
def _find(
    index: SkyIndex,
    queries: Points,
    reach_arcsec: float,
    limits: Limits,
    first: int,
    last: int,
    work: Work,
    found_query: Ints,
    found_row: Ints,
    found_separation: Floats,
) -> int:
    """Find the points near some queries, in no order; give their number, or FULL."""
    reach_deg = reach_arcsec / 3600.0
    n_chains, n_roots = _list_work(index, queries, reach_deg + SLACK_DEG, first, last, work)
    if n_chains == FULL:
        return int(FULL)
    n = _follow_chains(
        queries.dec, index.points.dec, index.following, reach_deg, n_chains,
        work, found_query, found_row,
    )  # fmt: skip
    if n == FULL:
        return int(FULL)
    n = _measure(
        index, queries, reach_arcsec, limits, first, last, n, work,
        found_query, found_row, found_separation,
    )  # fmt: skip
    state = (ZERO, _bound(reach_arcsec), reach_deg)
    i = 0
    while i < n_roots:
        q, depth = work.root_query[i], 0
        while i < n_roots and work.root_query[i] == q:
            work.nodes[depth] = work.root_node[i]
            depth += 1
            i += 1
        ra, dec = _clean(queries.ra[q], queries.dec[q])
        query = (ra, dec, _cos_dec(dec), _row_number(queries, q))
        n_found = _search_trees(
            index.trees, depth, work.nodes, work.distance,
            query, limits, state, found_row, found_separation, n,
        )  # fmt: skip
        if n_found == FULL:
            return int(FULL)
        for k in range(n, n + n_found):
            found_query[k] = q
        n += n_found
    return n


@_compiled
def _arrange(
    found_query: Ints,
    found_row: Ints,
    found_separation: Floats,
    n: int,
    first: int,
    last: int,
    wanted: int,
    cursor: Ints,
    out: tuple[Ints, Ints, Floats],
    n_out: int,
) -> int:
    """Put what was found in order of query, separation and row, no more than wanted of each."""
    out_left, out_right, out_separation = out
    cursor[: last - first + 1] = 0
    for i in range(n):
        cursor[found_query[i] - first + 1] += 1
    for k in range(last - first):
        cursor[k + 1] += cursor[k]
    for i in range(n):
        k = found_query[i] - first
        place = n_out + cursor[k]
        cursor[k] += 1
        out_left[place], out_right[place] = found_query[i], found_row[i]
        out_separation[place] = found_separation[i]
    end, low = n_out, n_out
    while low < n_out + n:
        high = low + 1
        while high < n_out + n and out_left[high] == out_left[low]:
            high += 1
        if high > low + 1:
            _sort_found(out_separation, out_right, low, high - low)
        keep = high - low if wanted == 0 else min(high - low, wanted)
        if end < low:
            for i in range(keep):
                out_left[end + i], out_right[end + i] = out_left[low + i], out_right[low + i]
                out_separation[end + i] = out_separation[low + i]
        end += keep
        low = high
    return end


@_compiled
def search(
    index: SkyIndex,
    queries: Points,
    reach_arcsec: float,
    limits: Limits,
    first: int,
    last: int,
) -> tuple[Ints, Ints, Floats]:
    """
    Find the points near the queries from `first` to before `last`.

    Returns rows of the queries, rows of the points and separations, query after query;
    `limits` are those of `_scan_leaf`.
    """
    size = last - first
    left, right, separation = np.empty(size, np.int64), np.empty(size, np.int64), np.empty(size)
    room = 8 * BLOCK + MOST_CELLS + limits[2]
    work = Work(
        np.empty(BLOCK, np.int64),
        np.empty(room, np.int64), np.empty(room, np.int64),
        np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.int64),
        np.empty(room, np.int64), np.empty(MOST_CELLS, np.int64), np.empty(MOST_CELLS),
        np.empty(BLOCK), np.empty(BLOCK),
    )  # fmt: skip
    found_query, found_row = np.empty(room, np.int64), np.empty(room, np.int64)
    found_separation = np.empty(room)
    cursor = np.empty(BLOCK + 1, np.int64)
    n_out, step = 0, BLOCK
    while first < last:
        after = min(first + step, last)
        n = _find(
            index, queries, reach_arcsec, limits, first, after, work,
            found_query, found_row, found_separation,
        )  # fmt: skip
        if n == FULL:
            if step > 1:
                step //= 2
            else:
                room *= 2
                found_query, found_row = np.empty(room, np.int64), np.empty(room, np.int64)
                found_separation = np.empty(room)
            continue
        if n_out + n > size:
            size = max(2 * size, n_out + n)
            left, right = _grown(left, size), _grown(right, size)
            separation = _grown(separation, size)
        n_out = _arrange(
            found_query, found_row, found_separation, n, first, after, limits[2], cursor,
            (left, right, separation), n_out,
        )  # fmt: skip
        first, step = after, min(2 * step, BLOCK)
    left = left[:n_out]
    if len(queries.row) > 0:
        for i in range(n_out):
            left[i] = queries.row[left[i]]
    else:
        left += queries.first_row
    return left, right[:n_out], separation[:n_out]


@_compiled
def count_rows(rows: Ints, first_row: int, counts: Ints) -> None:
    """Count how often each row occurs, from `first_row` on."""
    for i in range(len(rows)):
        counts[rows[i] - first_row] += 1


@_compiled
def place_pairs(
    pairs: tuple[Ints, Ints, Floats],
    first_row: int,
    cursor: Ints,
    right: Ints,
    separation: Floats,
) -> None:
    """Copy pairs to where `cursor` puts the pairs of their row, keeping their order."""
    for i in range(len(pairs[0])):
        row = pairs[0][i] - first_row
        place = cursor[row]
        cursor[row] = place + 1
        right[place], separation[place] = pairs[1][i], pairs[2][i]
