"""Whatever the sky, a match equals brute force and does not depend on the order of rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from astropile.match.positions import RADIUS_TOLERANCE_ARCSEC, match_positions
from astropile.sky import separation_arcsec

Sky = tuple[np.ndarray, np.ndarray]
ROUNDING_ARCSEC = 2e-9

EXAMPLES = settings(max_examples=150, deadline=None)


@st.composite
def skies(draw: st.DrawFn) -> tuple[Sky, Sky, float]:
    """Two lists of positions, drawn by a recipe that makes them meet, and a radius."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(["uniform", "poles", "seam", "clumps", "patch", "mixed"]))
    sizes = [draw(st.sampled_from([1, 2, 17, 40, 150, 400])) for _ in range(2)]
    left, right = (_sky(kind, n, rng) for n in sizes)
    n = min(sizes)
    repeats = draw(st.sampled_from(["none", "counterparts", "duplicates", "one place"]))
    if repeats != "none":
        for a, b in zip(left, right, strict=True):
            b[:n] = a[:n]
    if repeats == "counterparts":
        right[1][:n] = np.clip(right[1][:n] + rng.normal(0, 1 / 3600, n), -90, 90)
    if repeats == "one place":
        for side in (left, right):
            for angle, other in zip(side, left, strict=True):
                angle[: len(angle) // 2] = other[0]
    radius = draw(
        st.one_of(
            st.sampled_from([0.0, 1.0, 60.0, 648000.0]),
            st.floats(-2, 5.8).map(lambda power: float(10**power)),
        )
    )
    return left, right, radius


def _sky(kind: str, n: int, rng: np.random.Generator) -> Sky:
    if kind == "uniform":
        return rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))
    if kind == "poles":
        return rng.uniform(-10, 370, n), rng.choice([-1, 1]) * (90 - 10 ** rng.uniform(-6, 1, n))
    if kind == "seam":
        return rng.normal(0, 10 ** rng.uniform(-4, 1), n), np.clip(rng.normal(50, 20, n), -90, 90)
    if kind == "clumps":
        ra, dec = rng.choice([0.0, 77.0, 359.9999], n), rng.choice([0.0, 89.999, -60.0], n)
        spread = 10 ** rng.uniform(-6, 0)
        return ra + rng.normal(0, spread, n), np.clip(dec + rng.normal(0, spread, n), -90, 90)
    if kind == "patch":
        return rng.uniform(120, 121, n), rng.uniform(-30, -29, n)
    half = _sky("uniform", n // 2, rng), _sky("clumps", n - n // 2, rng)
    return tuple(np.concatenate(angles) for angles in zip(*half, strict=True))


def apart(left: Sky, right: Sky) -> np.ndarray:
    """Return all separations [arcsec], shape (n_left, n_right)."""
    return separation_arcsec(left[0][:, None], left[1][:, None], *right)


def clear_of(separations: np.ndarray, *radii: float) -> bool:
    """Tell whether no pair is so near the edge that rounding decides."""
    edges = [radius + RADIUS_TOLERANCE_ARCSEC for radius in radii]
    return all(np.abs(separations - edge).min() > ROUNDING_ARCSEC / 4 for edge in edges)


@EXAMPLES
@given(skies(), st.floats(0, 1))
def test_all_is_every_pair_in_the_ring(sky, fraction):
    """Exactly the pairs between the radii, with their separations."""
    left, right, radius = sky
    least = radius * fraction
    separations = apart(left, right)
    assume(clear_of(separations, radius))
    assume(least == 0 or np.abs(separations - least).min() > ROUNDING_ARCSEC)
    pairs = match_positions(
        *left, *right, radius_arcsec=radius, min_radius_arcsec=least, find="all"
    )
    within = (separations <= radius + RADIUS_TOLERANCE_ARCSEC) & (separations >= least)
    expected = set(zip(*(rows.tolist() for rows in np.nonzero(within)), strict=True))
    found = list(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True))
    assert len(found) == len(expected)
    assert set(found) == expected
    np.testing.assert_allclose(
        pairs.separation_arcsec, separations[pairs.left, pairs.right], rtol=0, atol=ROUNDING_ARCSEC
    )
    order = np.lexsort((pairs.right, pairs.separation_arcsec, pairs.left))
    assert (order == np.arange(len(pairs))).all()


@pytest.mark.parametrize("kind", ["uniform", "poles", "seam", "clumps", "patch", "mixed"])
@pytest.mark.parametrize("radius", [1.0, 600.0, 36000.0])
def test_a_few_rows_against_many(kind, radius):
    """Sides so unequal that only what lies near the small one is searched; both ways around."""
    rng = np.random.default_rng(17)
    few, many = _sky(kind, 20, rng), _sky("uniform", 60_000, rng)
    for angle, other in zip(many, few, strict=True):
        angle[:400] = np.resize(other, 400) + rng.uniform(-2, 2, 400) * radius / 3600
    many[1].clip(-90, 90, out=many[1])
    separations = apart(few, many)
    assert clear_of(separations, radius)
    expected = set(zip(*(rows.tolist() for rows in np.nonzero(separations <= radius)), strict=True))
    assert expected
    pairs = match_positions(*few, *many, radius_arcsec=radius, find="all")
    assert set(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True)) == expected
    pairs = match_positions(*many, *few, radius_arcsec=radius, find="all")
    assert set(zip(pairs.right.tolist(), pairs.left.tolist(), strict=True)) == expected


@EXAMPLES
@given(skies(), st.sampled_from([1, 2, 3, 7, 1000]), st.booleans(), st.floats(0, 1))
def test_nearest_is_the_head_of_all(sky, n_neighbors, exclude_self, fraction):
    """The k nearest are the first k of every left row, ties and all."""
    left, right, radius = sky
    if exclude_self:
        right = left
    options = {
        "radius_arcsec": radius,
        "min_radius_arcsec": radius * fraction * (fraction > 0.5),
        "exclude_self": exclude_self,
    }
    everything = match_positions(*left, *right, find="all", **options)
    rank = np.arange(len(everything)) - np.searchsorted(everything.left, everything.left)
    head = rank < n_neighbors
    pairs = match_positions(*left, *right, n_neighbors=n_neighbors, **options)
    assert pairs.left.tolist() == everything.left[head].tolist()
    assert pairs.right.tolist() == everything.right[head].tolist()
    assert pairs.separation_arcsec.tolist() == everything.separation_arcsec[head].tolist()
    if exclude_self:
        assert not (pairs.left == pairs.right).any()


@EXAMPLES
@given(skies())
def test_mutual_is_nearest_both_ways(sky):
    """A mutual pair is in both answers, and every such pair is mutual."""
    left, right, radius = sky
    forth = match_positions(*left, *right, radius_arcsec=radius)
    back = match_positions(*right, *left, radius_arcsec=radius)
    both = set(zip(forth.left.tolist(), forth.right.tolist(), strict=True)) & set(
        zip(back.right.tolist(), back.left.tolist(), strict=True)
    )
    mutual = match_positions(*left, *right, radius_arcsec=radius, find="mutual")
    assert set(zip(mutual.left.tolist(), mutual.right.tolist(), strict=True)) == both
    assert len(set(mutual.left.tolist())) == len(set(mutual.right.tolist())) == len(mutual)


@EXAMPLES
@given(skies(), st.randoms(use_true_random=False))
def test_the_order_of_rows_plays_no_part(sky, random):
    """Shuffled rows give the same pairs under their new numbers."""
    left, right, radius = sky
    shuffles = [random.sample(range(len(side[0])), len(side[0])) for side in (left, right)]
    plain = match_positions(*left, *right, radius_arcsec=radius, find="all")
    mixed = match_positions(
        *(angle[shuffles[0]] for angle in left),
        *(angle[shuffles[1]] for angle in right),
        radius_arcsec=radius,
        find="all",
    )
    rows = np.array(shuffles[0])[mixed.left], np.array(shuffles[1])[mixed.right]
    back = np.lexsort((rows[1], mixed.separation_arcsec, rows[0]))
    assert rows[0][back].tolist() == plain.left.tolist()
    assert rows[1][back].tolist() == plain.right.tolist()
    assert mixed.separation_arcsec[back].tolist() == plain.separation_arcsec.tolist()


@EXAMPLES
@given(skies(), st.integers(0, 2**32 - 1))
def test_rows_that_are_no_position_play_no_part(sky, seed):
    """Invalid rows strewn among the others change row numbers and nothing else."""
    left, right, radius = sky
    rng = np.random.default_rng(seed)
    plain = match_positions(*left, *right, radius_arcsec=radius)
    strewn, kept = [], []
    for ra, dec in (left, right):
        rows = np.sort(rng.permutation(len(ra) + 5)[: len(ra)])
        padded = [np.full(len(ra) + 5, bad) for bad in rng.choice([np.nan, -999.0, np.inf], 2)]
        padded[0][rows], padded[1][rows] = ra, dec
        strewn.append(padded)
        kept.append(rows)
    pairs = match_positions(*strewn[0], *strewn[1], radius_arcsec=radius)
    assert pairs.left.tolist() == kept[0][plain.left].tolist()
    assert pairs.right.tolist() == kept[1][plain.right].tolist()
    assert (pairs.n_invalid_left, pairs.n_invalid_right) == (5, 5)
