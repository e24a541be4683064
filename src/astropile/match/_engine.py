"""
How a match is carried out: which side is cut down, how fine the grid is, who sorts what.

The loops over rows are in `astropile.match._kernel`.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from astropile.match import _kernel
from astropile.match._kernel import Crowds, Grid, Points, SkyIndex, Trees

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
RowPairs = tuple[Ints, Ints, Floats]

# Measured on uniform skies of 1e5 to 1e7 rows; a factor two either way costs some per cent.
POINTS_PER_CELL = 1
ROWS_PER_BUCKET = 512
MOST_BUCKETS = 4096

LEAST_SUBCELLS = 4
"""A crowd that can be cut into fewer cells is not."""

MANY_THREADS = 4
"""So many threads are faster at sorting positions than one at leaving them as they are."""

NEAR = 30.0
"""Rows follow each other along the sky if they lie so many times their spacing apart."""

FULL_SKY_DEG2 = 41253.0
EVERYWHERE = (-90.0, 90.0)
NO_ROWS: Ints = np.empty(0, np.int64)
NO_ROWS.flags.writeable = False
NO_COSINES: Floats = np.empty(0)

LEFT_BLOCK = 1 << 22
"""Left rows handled at a time, or as many as the right side has if those are more."""

FEW = 50_000
"""So many rows take less time than starting threads or looking for shortcuts."""

MOST_MARKS = 1 << 20
"""Cells of the grid that tells near from far: as many bytes as fit a processor's cache."""

EDGE_DEG = 1e-9
"""Widening of edges on the sky [deg]: far more than rounding, far less than a cell."""


class SearchOptions(NamedTuple):
    """What is sought: lengths in arcsec, `wanted` neighbours or 0 for all."""

    radius: float
    least: float
    tolerance: float
    wanted: int
    exclude_self: bool
    threads: int

    @property
    def reach_deg(self) -> float:
        """How far from a position to look [deg]."""
        return (self.radius + self.tolerance) / 3600.0 + _kernel.SLACK_DEG


class Bounds(NamedTuple):
    """The part of the sky positions lie in [deg]; ra from `ra_low` on, across 360 if need be."""

    dec_low: float
    dec_high: float
    ra_low: float
    extent: float

    @property
    def area_deg2(self) -> float:
        """Its area [square degrees]."""
        sines = math.sin(math.radians(self.dec_high)) - math.sin(math.radians(self.dec_low))
        return self.extent * math.degrees(sines)

    def widened(self, reach_deg: float) -> Bounds:
        """Return bounds that hold everything within reach of these."""
        farthest = np.array(max(abs(self.dec_low), abs(self.dec_high)))
        half_width = float(_half_width(farthest, reach_deg)) + EDGE_DEG
        return Bounds(
            max(self.dec_low - reach_deg, -90.0),
            min(self.dec_high + reach_deg, 90.0),
            *_turn(self.ra_low - half_width, self.extent + 2.0 * half_width),
        )


WIDE = 1.5
"""Where circles hold so many times the points that are enough, narrower ones come first."""

EDGE = 1e-9
"""Separations this near to a radius, relative to it, may be on either side of it."""


class Side(NamedTuple):
    """One side of a match."""

    ra: Floats
    dec: Floats
    n_valid: int
    bounds: Bounds

    @classmethod
    def of(cls, ra: Floats, dec: Floats) -> Side:
        """Look over the positions of a side; the arrays become read-only."""
        # The compiled code is typed for read-only arrays, so that it takes any.
        ra.flags.writeable = dec.flags.writeable = False
        n_valid, dec_low, dec_high, ra_low, ra_high, far_low, far_high = _kernel.sky_bounds(ra, dec)
        # A field astride ra 0 is compact when seen from the far side.
        if far_high - far_low < ra_high - ra_low:
            ra_low, ra_high = far_low - 180.0, far_high - 180.0
        # Room for rounding: a point just below the origin would land a turn away.
        turn = _turn(ra_low - EDGE_DEG, ra_high - ra_low + 2.0 * EDGE_DEG)
        return cls(ra, dec, n_valid, Bounds(dec_low, dec_high, *turn))

    def keep(self, rows: Ints) -> Side:
        """Return the side with every other row made invalid; row numbers stay."""
        ra = np.full(len(self.ra), np.nan)
        ra[rows] = self.ra[rows]
        return Side.of(ra, self.dec)


def search(left: Side, right: Side, options: SearchOptions) -> RowPairs:
    """Return the wanted pairs, ordered by left row, separation, right row."""
    nothing = np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
    if left.n_valid == 0 or right.n_valid == 0:
        return nothing
    if left.n_valid + right.n_valid < FEW:
        options = options._replace(threads=1)
    # Sorting costs more than a look: when one side is small, only what lies near it of the
    # other is sorted. That changes row numbers, which a row that excludes itself goes by.
    near_left = near_right = None
    if not options.exclude_self and _is_smaller(left, right):
        right, near_right = _only_near(right, left, options)
    elif not options.exclude_self and _is_smaller(right, left):
        left, near_left = _only_near(left, right, options)
    if left.n_valid == 0 or right.n_valid == 0:
        return nothing
    options = options._replace(wanted=min(options.wanted, right.n_valid))
    narrow = _narrower(left, right, options)
    if narrow is None:
        rows_left, rows_right, separation = _search_whole(left, right, options)
    else:
        rows_left, rows_right, separation = _search_twice(left, right, options, narrow)
    if near_left is not None:
        rows_left = near_left[rows_left]
    if near_right is not None:
        rows_right = near_right[rows_right]
    return rows_left, rows_right, separation


def _search_whole(left: Side, right: Side, options: SearchOptions) -> RowPairs:
    """Return the wanted pairs, found in one go."""
    index = build_index(right, options)
    n = max(LEFT_BLOCK, right.n_valid)
    return _joined(
        [_search_block(index, left, i, i + n, options) for i in range(0, len(left.ra), n)]
    )


def _narrower(left: Side, right: Side, options: SearchOptions) -> float | None:
    """Give a radius [arcsec] in which most rows have all that is wanted, if it saves a lot."""
    half = math.radians(min(options.reach_deg, 90.0) / 2.0)
    area = 4.0 * math.pi * (math.degrees(1.0) * math.sin(half)) ** 2
    expected = right.n_valid * area / max(right.bounds.area_deg2, area)
    enough = 2.0 * options.wanted + 2.0
    is_dear = left.n_valid * expected > 4 * right.n_valid
    if not options.wanted or expected < WIDE * enough or not is_dear:
        return None
    narrow = options.radius * math.sqrt(enough / expected)
    return narrow if narrow > options.least else None


def _search_twice(left: Side, right: Side, options: SearchOptions, narrow: float) -> RowPairs:
    """Search within a narrower radius, and within the whole one where that gave too few."""
    found = _search_whole(left, right, options._replace(radius=narrow, tolerance=0.0))
    # What lies on the edge of the narrower circle may have its equals just outside.
    inside = found[2] < narrow * (1.0 - EDGE)
    counts = np.bincount(found[0][inside], minlength=len(left.ra))
    is_done = counts >= options.wanted
    keep = is_done[found[0]]
    rest = left.keep(np.flatnonzero(~is_done))
    again = _search_whole(rest, right, options) if rest.n_valid else _first(found, 0)
    rows_left, rows_right, separation = (
        np.concatenate([one[keep], more]) for one, more in zip(found, again, strict=True)
    )
    order = np.argsort(rows_left, kind="stable")
    return rows_left[order], rows_right[order], separation[order]


def _first(pairs: RowPairs, n: int) -> RowPairs:
    return pairs[0][:n], pairs[1][:n], pairs[2][:n]


def keep_mutual(left: Side, right: Side, pairs: RowPairs, options: SearchOptions) -> RowPairs:
    """Return those of the nearest pairs whose left row is the nearest of their right row."""
    rows_left, rows_right, separation = pairs
    # A row without a neighbour is nobody's neighbour, so the rest can stay out of it.
    back_right, back_left, _ = search(right.keep(rows_right), left.keep(rows_left), options)
    nearest = np.full(len(right.ra), -1, np.int64)
    nearest[back_right] = back_left
    mutual = nearest[rows_right] == rows_left
    return rows_left[mutual], rows_right[mutual], separation[mutual]


def build_index(side: Side, options: SearchOptions) -> SkyIndex:
    """Put one side into a grid as fine as its points are close, but not finer than the radius."""
    n = side.n_valid
    grid = _fit_grid(side.bounds, max(n // POINTS_PER_CELL, 1), options.reach_deg)
    n_cells = int(grid.first_cell[-1])
    edges = np.array([0, len(side.ra)])
    points = Points(side.ra, side.dec, NO_ROWS, 0)
    if not _is_in_order(side.ra, side.dec, n) or options.threads >= MANY_THREADS:
        shift = _bucket_shift(n_cells, n)
        points, ends = _bucket(grid, side.ra, side.dec, 0, EVERYWHERE, shift, options.threads)
        # Threads take whole buckets, so that no two have to do with one cell.
        edges = np.unique([0, *(ends[i - 1] for _, i in _slices(len(ends), options.threads) if i)])
    kind = np.int32 if len(points.ra) < 1 << 31 else np.int64
    index = SkyIndex(
        grid,
        points,
        cells=np.zeros(n_cells, kind),
        following=np.empty(len(points.ra), kind),
        cos_dec=_kernel.cosines(points.dec) if _are_many_near(side, options) else NO_COSINES,
        crowds=Crowds(np.empty((0, 5)), np.empty((0, 3), np.int64), np.zeros(0, kind)),
        trees=Trees(np.empty((0, 4)), np.empty((0, 6)), np.empty((0, 3), np.int64)),
    )
    counts = np.zeros(n_cells, np.uint8)
    chain = partial(_kernel.chain_points, grid, points, index.cells, counts, index.following)
    _run([partial(chain, *piece) for piece in pairwise(edges.tolist())])
    crowded = np.flatnonzero(counts > _kernel.LEAF)
    return _with_crowds(index, crowded, options) if len(crowded) else index


def _with_crowds(index: SkyIndex, crowded: Ints, options: SearchOptions) -> SkyIndex:
    """Cut cells that hold many points into grids of their own, or grow trees for them."""
    sizes = _kernel.count_chains(index.cells, index.following, crowded)
    box, shape = np.empty((len(crowded), 5)), np.zeros((len(crowded), 3), np.int64)
    measure = partial(_kernel.measure_crowds, index, crowded, sizes, box, shape, options.reach_deg)
    _run([partial(measure, *piece) for piece in _slices(len(crowded), options.threads)])
    n_subcells = shape[:, _kernel.N_COLUMNS] * shape[:, _kernel.N_ROWS]
    is_cut = n_subcells >= LEAST_SUBCELLS
    cut, box, shape, n_subcells = crowded[is_cut], box[is_cut], shape[is_cut], n_subcells[is_cut]
    shape[:, _kernel.SUBCELL] = np.cumsum(n_subcells) - n_subcells
    subcells = np.zeros(int(n_subcells.sum()), index.cells.dtype)
    index = index._replace(crowds=Crowds(box, shape, subcells))
    counts = np.zeros(len(subcells), np.uint8)
    divide = partial(_kernel.cut_crowds, index, cut, counts)
    _run([partial(divide, *piece) for piece in _slices(len(cut), options.threads)])
    dense = np.flatnonzero(counts > _kernel.LEAF)
    return _with_trees(index, crowded[~is_cut], sizes[~is_cut], dense, options.threads)


def _with_trees(index: SkyIndex, crowded: Ints, sizes: Ints, dense: Ints, threads: int) -> SkyIndex:
    """Grow a tree for each of some cells and of some cells of crowds."""
    subcells = index.crowds.subcells
    sizes = np.append(sizes, _kernel.count_chains(subcells, index.following, dense))
    if not len(sizes):
        return index
    # No leaf holds fewer than half of LEAF points, and a tree has a node less than twice its
    # leaves.
    room = 2 * (sizes // (_kernel.LEAF // 2))
    offsets, roots = np.cumsum(sizes) - sizes, np.cumsum(room) - room
    n_nodes = int(room.sum())
    points, node_box = np.empty((int(sizes.sum()), 4)), np.empty((n_nodes, 6))
    index = index._replace(trees=Trees(points, node_box, np.empty((n_nodes, 3), np.int64)))
    n = len(crowded)
    for cells, chosen, part in (
        (index.cells, crowded, slice(n)),
        (subcells, dense, slice(n, None)),
    ):
        where = sizes[part], offsets[part], roots[part]
        grow = partial(_kernel.grow_trees, index, cells, chosen, *where)
        _run([partial(grow, *piece) for piece in _slices(len(chosen), threads)])
    return index


def _are_many_near(side: Side, options: SearchOptions) -> bool:
    """Tell whether more than one point lies within reach of a place, on average."""
    area = max(side.bounds.area_deg2, options.reach_deg**2)
    return side.n_valid * math.pi * options.reach_deg**2 > area


def _is_in_order(ra: Floats, dec: Floats, n_valid: int) -> bool:
    """Tell whether rows that follow each other lie near each other on the sky, mostly."""
    if len(ra) < FEW:
        return True
    rows = np.linspace(0, len(ra) - 2, 1000).astype(np.int64)
    with np.errstate(invalid="ignore"):
        d_dec = dec[rows + 1] - dec[rows]
        turn = (ra[rows + 1] - ra[rows] + 180.0) % 360.0 - 180.0
        apart = np.hypot(turn * np.cos(np.radians(dec[rows])), d_dec)
    apart = apart[np.isfinite(apart)]
    near = apart < NEAR * math.sqrt(FULL_SKY_DEG2 / n_valid)
    return bool(np.count_nonzero(near) >= 0.9 * len(near))


def _fit_grid(bounds: Bounds, n_cells: int, reach_deg: float) -> Grid:
    """Lay a grid of about `n_cells` cells, none narrower than `reach_deg`, over some sky."""
    dec_low, dec_high, ra_low, extent = bounds
    span = dec_high - dec_low
    # The last two bound the number of cells where the points lie on a line, the constant
    # where they lie at one place.
    height = max(
        math.sqrt(max(bounds.area_deg2, 0.0) / n_cells),
        reach_deg,
        2.0 * span / n_cells,
        2.0 * extent * float(_widest_cos(dec_low, dec_high)) / n_cells,
        1e-9,
    )
    n_rows = int(span / height) + 1
    edges = dec_low + height * np.arange(n_rows + 1)
    columns = (extent * _widest_cos(edges[:-1], edges[1:]) / height).astype(np.int64)
    columns = np.maximum(columns, 1)

    # How far in ra a circle around a position reaches, for each row of the positions, which
    # may lie outside the grid as far as the radius.
    padding = int(reach_deg / height) + 2
    edges = dec_low + height * np.arange(-padding, n_rows + padding + 1)
    farthest = np.maximum(abs(edges[:-1]), abs(edges[1:]))
    return Grid(
        origin=(ra_low, dec_low, 1.0 / height),
        extent=extent,
        padding=padding,
        first_cell=np.concatenate([[0], np.cumsum(columns)]),
        cells_per_degree=columns / extent,
        window=_half_width(farthest, reach_deg),
    )


def _turn(ra_low: float, extent: float) -> tuple[float, float]:
    """Bring a range of ra into one turn; nearly all of a turn becomes all of it."""
    return (ra_low % 360.0, extent) if extent < 350.0 else (0.0, 360.0)


def _half_width(dec: Floats, reach_deg: float) -> Floats:
    """Return how far in ra a circle around a position reaches [deg]."""
    # From a little nearer the pole, where the width changes without bound.
    polar = np.maximum(90.0 - np.abs(dec) - EDGE_DEG, 0.0)
    ratio = math.sin(math.radians(min(reach_deg, 90.0))) / np.maximum(
        np.sin(np.radians(polar)), 1e-300
    )
    half_width = np.degrees(np.arcsin(np.minimum(ratio, 1.0))) + _kernel.SLACK_DEG
    return np.where(polar <= reach_deg + EDGE_DEG, 180.0, half_width)


def _widest_cos(dec_low: Any, dec_high: Any) -> Floats:
    """Return the largest cosine of a declination in a range [deg]."""
    nearest = np.where(
        np.multiply(dec_low, dec_high) <= 0.0, 0.0, np.minimum(np.abs(dec_low), np.abs(dec_high))
    )
    cosine: Floats = np.cos(np.radians(np.minimum(nearest, 90.0)))
    return cosine


def _is_smaller(one: Side, other: Side) -> bool:
    """Tell whether it pays to cut down the other side to what lies near the one."""
    return other.n_valid > FEW and (
        one.n_valid * 8 < other.n_valid or one.bounds.area_deg2 * 4 < other.bounds.area_deg2
    )


def _only_near(side: Side, other: Side, options: SearchOptions) -> tuple[Side, Ints]:
    """Drop rows of a side that are far from all of the other; return it and the rows left."""
    bounds = other.bounds.widened(options.reach_deg)
    grid = _fit_grid(bounds, MOST_MARKS, options.reach_deg)
    marks = _kernel.mark_cells(grid, other.ra, other.dec, options.reach_deg)
    reach = bounds.dec_low, bounds.dec_high
    look = partial(_kernel.rows_in_marks, grid, side.ra, side.dec, reach, marks)
    rows = np.concatenate(
        _run([partial(look, *piece) for piece in _slices(len(side.ra), options.threads)])
    )
    return Side.of(side.ra[rows], side.dec[rows]), rows


def _search_block(
    index: SkyIndex, left: Side, first: int, last: int, options: SearchOptions
) -> RowPairs:
    """Search for the left rows from `first` to before `last`."""
    ra, dec = left.ra[first:last], left.dec[first:last]
    # Searching in the order of the sky keeps the index in cache, if it is not there as it is.
    in_order = len(index.following) < FEW or _is_in_order(ra, dec, left.n_valid)
    queries = Points(ra, dec, NO_ROWS, first)
    if not in_order:
        _, dec_low, rows_per_degree = index.grid.origin
        dec_high = dec_low + len(index.grid.cells_per_degree) / rows_per_degree
        reach = dec_low - options.reach_deg, dec_high + options.reach_deg
        shift = _bucket_shift(int(index.grid.first_cell[-1]), len(ra))
        queries, _ = _bucket(index.grid, ra, dec, first, reach, shift, options.threads)
    limits = options.radius, options.least, options.wanted, options.exclude_self
    look = partial(_kernel.search, index, queries, options.radius + options.tolerance, limits)
    parts = _run([partial(look, *piece) for piece in _slices(len(queries.ra), options.threads)])
    del queries, look
    if in_order:
        return _joined(parts)
    counts = np.zeros(len(ra), np.int64)
    for part in parts:
        _kernel.count_rows(part[0], first, counts)
    rows_left = np.repeat(np.arange(first, first + len(ra)), counts)
    rows_right, separation = np.empty(len(rows_left), np.int64), np.empty(len(rows_left))
    cursor = np.cumsum(counts) - counts
    while parts:
        _kernel.place_pairs(parts.pop(), first, cursor, rows_right, separation)
    return rows_left, rows_right, separation


def _bucket(
    grid: Grid,
    ra: Floats,
    dec: Floats,
    first_row: int,
    reach: tuple[float, float],
    shift: int,
    threads: int,
) -> tuple[Points, Ints]:
    """Sort positions roughly, by bucket of ``2**shift`` cells; return them and where each ends."""
    slices = _slices(len(ra), threads)
    n_buckets = (int(grid.first_cell[-1] - 1) >> shift) + 1
    counts = np.zeros((len(slices), n_buckets), np.int64)
    count = partial(_kernel.count_buckets, grid, ra, dec, reach, shift)
    _run([partial(count, row, *piece) for row, piece in zip(counts, slices, strict=True)])
    # Bucket after bucket, and within a bucket slice after slice, so that rows stay in order.
    cursor = (np.cumsum(counts.T) - counts.T.ravel()).reshape(n_buckets, len(slices)).T.copy()
    n = int(counts.sum())
    out = np.empty(n), np.empty(n), np.empty(n, np.int64)
    fill = partial(_kernel.fill_buckets, grid, ra, dec, reach, shift, first_row, out)
    _run([partial(fill, row, *piece) for row, piece in zip(cursor, slices, strict=True)])
    for column in out:
        column.flags.writeable = False
    return Points(*out, first_row=0), np.cumsum(counts.sum(axis=0))


def _bucket_shift(n_cells: int, n_rows: int) -> int:
    n_buckets = min(max(n_rows // ROWS_PER_BUCKET, 1), MOST_BUCKETS)
    return max(math.ceil(math.log2(n_cells / n_buckets)), 0)


def _slices(n: int, threads: int) -> list[tuple[int, int]]:
    """Cut n rows into one range for each thread, or for none."""
    edges = [n * i // threads for i in range(threads + 1)]
    return [piece for piece in pairwise(edges) if piece[0] < piece[1]] or [(0, 0)]


def _run(tasks: list[partial[Any]]) -> list[Any]:
    """Call the tasks, each in a thread, and return their results in order."""
    if len(tasks) == 1:
        return [tasks[0]()]
    # The compiled code lets go of the interpreter, so that threads run side by side.
    with ThreadPoolExecutor(len(tasks)) as pool:
        return [future.result() for future in [pool.submit(task) for task in tasks]]


def _joined(parts: list[RowPairs]) -> RowPairs:
    if len(parts) == 1:
        return parts[0]
    left, right, separation = zip(*parts, strict=True)
    return np.concatenate(left), np.concatenate(right), np.concatenate(separation)
