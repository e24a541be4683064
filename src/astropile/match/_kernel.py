"""
The compiled half of `astropile.match.positions`; importing it imports numba.

A `SkyIndex` holds one side of a match: declination rows of one height, cut into cells of
about that width, and the points sorted by cell. A cell that holds many points has a tree of
bounding boxes of its own, so that a crowded field costs a logarithm and not a square.

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
_Function = TypeVar("_Function", bound=Callable[..., Any])

S3, S5, S7, S9 = -1.0 / 6.0, 1.0 / 120.0, -1.0 / 5040.0, 1.0 / 362880.0

LEAF = 16
"""Cells and tree leaves up to this many points are read through without further ado."""

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

# Columns of the point arrays: one row is one point, so that it is read in one piece.
RA, DEC, ROW, COS = 0, 1, 2, 3
# Columns of `node_span`.
LOW, HIGH, RIGHT = 0, 1, 2
# Values of RIGHT that are not a node.
IS_LEAF, IS_ONE_PLACE = -1, -2


class SkyIndex(NamedTuple):
    """One side of a match, sorted for searching."""

    origin: tuple[float, float, float]  # ra and dec of the corner [deg]; rows per degree
    extent: float
    padding: int
    first_cell: Ints
    cells_per_degree: Floats
    window: Floats
    start: Ints
    points: Floats
    root: Ints
    node_box: Floats
    node_span: Ints


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
    index: SkyIndex,
    ra: Floats,
    dec: Floats,
    reach: tuple[float, float],
    shift: int,
    counts: Ints,
    low: int,
    high: int,
) -> None:
    """Count rows low to high, if within the declinations of `reach`, by bucket of cells."""
    origin, first_cell, scale = index.origin, index.first_cell, index.cells_per_degree
    for i in range(low, high):
        a, d = _clean(ra[i], dec[i])
        if d >= reach[0] and d <= reach[1]:
            counts[_cell_of(a, d, origin, first_cell, scale) >> shift] += 1


@_compiled
def fill_buckets(
    index: SkyIndex,
    ra: Floats,
    dec: Floats,
    reach: tuple[float, float],
    shift: int,
    first_row: int,
    out: Floats,
    cursor: Ints,
    low: int,
    high: int,
) -> None:
    """Copy what `count_buckets` counted to its place, in the order it came."""
    origin, first_cell, scale = index.origin, index.first_cell, index.cells_per_degree
    for i in range(low, high):
        a, d = _clean(ra[i], dec[i])
        if d >= reach[0] and d <= reach[1]:
            bucket = _cell_of(a, d, origin, first_cell, scale) >> shift
            place = cursor[bucket]
            cursor[bucket] = place + 1
            out[place, RA] = a
            out[place, DEC] = d
            out[place, ROW] = first_row + i


@_compiled
def sort_buckets(
    index: SkyIndex, bucketed: Floats, ends: Ints, shift: int, bucket_0: int, bucket_1: int
) -> None:
    """Sort the points of some buckets by cell, into `index.points` and `index.start`."""
    origin, first_cell, scale = index.origin, index.first_cell, index.cells_per_degree
    start, points = index.start, index.points
    n_cells = len(start) - 1
    for bucket in range(bucket_0, bucket_1):
        low = ends[bucket - 1] if bucket > 0 else 0
        high = ends[bucket]
        for i in range(low, high):
            cell = _cell_of(bucketed[i, RA], bucketed[i, DEC], origin, first_cell, scale)
            start[cell] += 1
        total = low
        for cell in range(bucket << shift, min((bucket + 1) << shift, n_cells)):
            total += start[cell]
            start[cell] = total
        # Backwards, so that `start` counts down to where each cell begins and rows stay in order.
        for i in range(high - 1, low - 1, -1):
            ra, dec = bucketed[i, RA], bucketed[i, DEC]
            cell = _cell_of(ra, dec, origin, first_cell, scale)
            place = start[cell] - 1
            start[cell] = place
            points[place, RA] = ra
            points[place, DEC] = dec
            points[place, ROW] = bucketed[i, ROW]
            points[place, COS] = _cos_dec(dec)


@_compiled
def crowded_cells(start: Ints) -> tuple[Ints, Ints]:
    """Return the cells that need a tree, and room for the nodes of each."""
    n = 0
    for cell in range(len(start) - 1):
        n += start[cell + 1] - start[cell] > LEAF
    cells, room = np.empty(n, np.int64), np.empty(n, np.int64)
    n = 0
    for cell in range(len(start) - 1):
        size = start[cell + 1] - start[cell]
        if size > LEAF:
            cells[n] = cell
            # No leaf holds fewer than half of LEAF points, and a tree has a node less
            # than twice its leaves.
            room[n] = 2 * (size // (LEAF // 2))
            n += 1
    return cells, room


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
def grow_trees(index: SkyIndex, cells: Ints) -> None:
    """Sort the points of crowded cells into trees, from the node that `root` gives each."""
    points, node_box, node_span = index.points, index.node_box, index.node_span
    stack = np.empty((128, 3), np.int64)
    for cell in cells:
        offset = index.start[cell]
        size = index.start[cell + 1] - offset
        vectors = np.empty((size, 3))
        for i in range(size):
            point = points[offset + i]
            vectors[i, 0], vectors[i, 1], vectors[i, 2] = _vector(point[RA], point[DEC], point[COS])
        node = index.root[cell]
        stack[0, 0], stack[0, 1], stack[0, 2] = 0, size, -1
        depth = 1
        while depth > 0:
            depth -= 1
            low, high, parent = stack[depth, 0], stack[depth, 1], stack[depth, 2]
            if parent >= 0:
                node_span[parent, RIGHT] = node
            widest, axis = -1.0, 0
            for k in range(3):
                least, most = vectors[low, k], vectors[low, k]
                for i in range(low + 1, high):
                    least, most = min(least, vectors[i, k]), max(most, vectors[i, k])
                node_box[node, k], node_box[node, 3 + k] = least, most
                if most - least > widest:
                    widest, axis = most - least, k
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
def mark_cells(index: SkyIndex, ra: Floats, dec: Floats, reach_deg: float) -> NDArray[np.bool_]:
    """Tell which cells come within reach of a position."""
    first_cell, scale = index.first_cell, index.cells_per_degree
    ra_origin, dec_origin, inverse_height = index.origin
    marks = np.zeros(first_cell[-1], np.bool_)
    for i in range(len(ra)):
        a, d = _clean(ra[i], dec[i])
        if math.isnan(d):
            continue
        a = _from_origin(a, ra_origin)
        width = index.window[_row_of(d, dec_origin, inverse_height) + index.padding]
        row_0 = max(_row_of(d - reach_deg, dec_origin, inverse_height), 0)
        row_1 = min(_row_of(d + reach_deg, dec_origin, inverse_height), len(scale) - 1)
        for row in range(row_0, row_1 + 1):
            first = first_cell[row]
            c0, c1, d0, d1 = _columns(
                a, width, first_cell[row + 1] - first, scale[row], index.extent
            )
            for cell in range(first + c0, first + c1 + 1):
                marks[cell] = True
            for cell in range(first + d0, first + d1 + 1):
                marks[cell] = True
    return marks


@_compiled
def rows_in_marks(
    index: SkyIndex,
    ra: Floats,
    dec: Floats,
    reach: tuple[float, float],
    marks: NDArray[np.bool_],
    low: int,
    high: int,
) -> Ints:
    """Return which of the rows low to high have their position in a marked cell."""
    origin, first_cell, scale = index.origin, index.first_cell, index.cells_per_degree
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
def _scan(
    points: Floats,
    low: int,
    high: int,
    query: tuple[float, float, float, int],
    limits: tuple[float, float, int, bool],
    state: tuple[int, float, float],
    separations: Floats,
    rows: Ints,
    base: int,
) -> tuple[int, float, float]:
    """
    Offer some points to one query, whose pairs begin at `base`.

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
        if cos_dec < 0.0:
            cos_dec = _cos_dec(dec)
        turn = _short_way(ra - points[p, RA])
        s, t = _sine(d_dec * HALF_DEG), _sine(turn * HALF_DEG)
        across = cos_dec * points[p, COS]
        haversine = s * s + across * (t * t)
        if haversine > most_haversine:
            continue
        if haversine <= 0.5:
            separation = 2.0 * math.asin(math.sqrt(haversine)) * ARCSEC
        else:
            # By the supplement, which has the digits when the positions are nearly opposite.
            s = math.sin((dec + points[p, DEC]) * HALF_DEG)
            t = math.cos(turn * HALF_DEG)
            rest = min(s * s + across * (t * t), 1.0)
            separation = 2.0 * (HALF_SKY_ARCSEC - math.asin(math.sqrt(rest)) * ARCSEC)
        # The bound let through what rounding puts outside; that counts as on the edge.
        separation = min(separation, radius)
        row = int(points[p, ROW])
        if separation < least or (excludes_itself and row == own_row):
            continue
        i = base + n
        if wanted == 0:
            separations[i], rows[i] = separation, row
            n += 1
            continue
        if n == wanted:
            i -= 1
            if separation > separations[i] or (separation == separations[i] and row > rows[i]):
                continue
        else:
            n += 1
        while i > base and (
            separations[i - 1] > separation
            or (separations[i - 1] == separation and rows[i - 1] > row)
        ):
            separations[i], rows[i] = separations[i - 1], rows[i - 1]
            i -= 1
        separations[i], rows[i] = separation, row
        last = separations[base + n - 1]
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
    index: SkyIndex,
    depth: int,
    stack: Ints,
    stack_distance: Floats,
    query: tuple[float, float, float, int],
    limits: tuple[float, float, int, bool],
    state: tuple[int, float, float],
    separations: Floats,
    rows: Ints,
    base: int,
) -> tuple[int, float, float]:
    """Offer the points of the trees on the stack to one query, nearest first; see `_scan`."""
    points, node_box, node_span = index.points, index.node_box, index.node_span
    wanted = limits[2]
    x, y, z = _vector(query[0], query[1], query[2])
    _sort_roots(stack, stack_distance, depth, node_box, x, y, z)
    while depth > 0:
        depth -= 1
        chord = 2.0 * math.sqrt(state[1]) + CHORD_SLACK
        if stack_distance[depth] > chord * chord:
            continue
        node = stack[depth]
        far = node_span[node, RIGHT]
        if far < 0:
            low, high = node_span[node, LOW], node_span[node, HIGH]
            if far == IS_ONE_PLACE and wanted > 0:
                # Rows ascend: those after the first few lose every tie. One more, as the
                # query itself may be among them.
                high = min(high, low + wanted + 1)
            if base + state[0] + high - low + wanted > len(rows):
                return FULL, 0.0, 0.0
            state = _scan(points, low, high, query, limits, state, separations, rows, base)
            continue
        near = node + 1
        near_distance = _box_distance(node_box, near, x, y, z)
        far_distance = _box_distance(node_box, far, x, y, z)
        if far_distance < near_distance:
            near, far = far, near
            near_distance, far_distance = far_distance, near_distance
        stack[depth], stack_distance[depth] = far, far_distance
        stack[depth + 1], stack_distance[depth + 1] = near, near_distance
        depth += 2
    return state


@_compiled
def search(
    index: SkyIndex,
    queries: Floats,
    reach_arcsec: float,
    limits: tuple[float, float, int, bool],
    first: int,
    last: int,
) -> tuple[Ints, Ints, Floats]:
    """
    Find the points near the queries from `first` to before `last`.

    Returns rows of the queries, rows of the points and separations, query after query;
    `limits` are those of `_scan`.
    """
    size = last - first + limits[2] + 2 * LEAF
    left, right, separation = np.empty(size, np.int64), np.empty(size, np.int64), np.empty(size)
    n_pairs = ZERO
    while True:
        first, n_pairs = _search_until_full(
            index, queries, reach_arcsec, limits, first, last, left, right, separation, n_pairs
        )
        if first == last:
            return left[:n_pairs], right[:n_pairs], separation[:n_pairs]
        size *= 2
        left, right, separation = _grown(left, size), _grown(right, size), _grown(separation, size)


@_compiled
def _search_until_full(
    index: SkyIndex,
    queries: Floats,
    reach_arcsec: float,
    limits: tuple[float, float, int, bool],
    first: int,
    last: int,
    out_left: Ints,
    out_right: Ints,
    out_separation: Floats,
    n_out: int,
) -> tuple[int, int]:
    """
    Search until done or short of room; return the next query and the number of pairs.

    Arrays are replaced in `search` and not here, where each one that could change would be
    counted in and out for every query.
    """
    ra_origin, dec_origin, inverse_height = index.origin
    extent, padding, window = index.extent, index.padding, index.window
    first_cell, scale, start, points = (
        index.first_cell,
        index.cells_per_degree,
        index.start,
        index.points,
    )
    root = index.root
    last_row = len(scale) - 1
    wanted = limits[2]
    reach_deg = reach_arcsec / 3600.0
    row_reach = reach_deg + SLACK_DEG
    widest_haversine = _bound(reach_arcsec)
    stack, stack_distance = np.empty(1024, np.int64), np.empty(1024)
    for q in range(first, last):
        ra, dec = queries[q, RA], queries[q, DEC]
        a = _from_origin(ra, ra_origin)
        width = window[_row_of(dec, dec_origin, inverse_height) + padding]
        query = (ra, dec, -1.0, int(queries[q, ROW]))
        state = (ZERO, widest_haversine, reach_deg)
        n_roots = ZERO
        row_0 = max(_row_of(dec - row_reach, dec_origin, inverse_height), 0)
        row_1 = min(_row_of(dec + row_reach, dec_origin, inverse_height), last_row)
        for row in range(row_0, row_1 + 1):
            corner = first_cell[row]
            c0, c1, d0, d1 = _columns(a, width, first_cell[row + 1] - corner, scale[row], extent)
            for part in range(2):
                cell_0, cell_1 = corner + c0, corner + c1 + 1
                if part == 1:
                    cell_0, cell_1 = corner + d0, corner + d1 + 1
                if cell_0 >= cell_1 or start[cell_0] == start[cell_1]:
                    continue
                # Cells side by side hold points side by side: a few are read in one go.
                step = cell_1 - cell_0 if start[cell_1] - start[cell_0] <= LEAF else 1
                for cell in range(cell_0, cell_1):
                    low, high = start[cell], start[cell + step]
                    if high - low > LEAF:
                        stack[n_roots] = root[cell]
                        n_roots += 1
                        continue
                    if n_out + state[0] + LEAF + wanted > len(out_left):
                        return q, n_out
                    state = _scan(
                        points, low, high, query, limits, state, out_separation, out_right, n_out
                    )
                    if step > 1:
                        break
        if n_roots > 0:
            query = (ra, dec, _cos_dec(dec), query[3])
            state = _search_trees(
                index,
                n_roots,
                stack,
                stack_distance,
                query,
                limits,
                state,
                out_separation,
                out_right,
                n_out,
            )
            if state[0] == FULL:
                return q, n_out
        if wanted == 0:
            _sort_found(out_separation, out_right, n_out, state[0])
        for i in range(n_out, n_out + state[0]):
            out_left[i] = query[3]
        n_out += state[0]
    return last, n_out


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
