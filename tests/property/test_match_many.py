"""Several surveys matched at once equal what loops over all objects give."""

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from astropile.match.multi import best_pairs, join_pairs, match_many, pair_ids
from astropile.match.positions import match_positions
from astropile.sky import separation_arcsec
from hatsfolders import scatter

RADIUS = 20.0


@st.composite
def surveys(draw, n_surveys=3):
    """A few surveys of the same few crowded fields."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    names = list("abcd"[:n_surveys])
    return {
        name: scatter(rng, int(rng.integers(1, 25)), RADIUS / 2, kind="clumps") for name in names
    }


def _apart(sky, one, other):
    return separation_arcsec(
        sky[one][0][:, None], sky[one][1][:, None], sky[other][0], sky[other][1]
    )


def _nearest(apart):
    """Row of the nearest within the radius of each line, or -1."""
    return [
        int(min(range(len(line)), key=lambda i: (line[i], i)))
        if len(line) and line.min() <= RADIUS
        else -1
        for line in apart
    ]


def _lines(found):
    return list(zip(*(found.rows[name].tolist() for name in sorted(found.rows)), strict=True))


def _expected_groups(sky, alone):
    """Grow groups from the closest pairs, in plain loops."""
    nodes = [(name, row) for name in sorted(alone) for row in sorted(alone[name])]
    close = {}
    for one, other in itertools.combinations(nodes, 2):
        if one[0] != other[0]:
            apart = float(
                separation_arcsec(
                    *(c[one[1]] for c in sky[one[0]]), *(c[other[1]] for c in sky[other[0]])
                )
            )
            if apart <= RADIUS:
                close[frozenset((one, other))] = (apart, one, other)
    group = {node: {node} for node in nodes}
    for _, one, other in sorted(close.values()):
        both = group[one] | group[other]
        if group[one] is group[other] or len({name for name, _ in both}) < len(both):
            continue
        if all(frozenset(pair) in close for pair in itertools.product(group[one], group[other])):
            for node in both:
                group[node] = both
    return {frozenset(members) for members in group.values()}


@settings(max_examples=60, deadline=None)
@given(surveys(), st.sampled_from(["inner", "left", "outer"]), st.sampled_from(["a", "b", "c"]))
def test_three_surveys_equal_brute_force(sky, join, anchor):
    """One row per object of the anchor, then the groups of the others; in any order of naming."""
    others = [name for name in sky if name != anchor]
    nearest = {name: _nearest(_apart(sky, anchor, name)) for name in others}
    expected = []
    for row in range(len(sky[anchor][0])):
        line = {anchor: row, **{name: nearest[name][row] for name in others}}
        if join != "inner" or min(line.values()) >= 0:
            expected.append(tuple(line[name] for name in sorted(sky)))
    found = match_many(sky, anchor=anchor, radius_arcsec=RADIUS, join=join)
    assert _lines(found)[: len(expected)] == expected
    rest = _lines(found)[len(expected) :]
    if join == "outer":
        alone = {name: set(range(len(sky[name][0]))) - set(nearest[name]) for name in others}
        groups = {
            frozenset((n, r) for n, r in zip(sorted(sky), line, strict=True) if r >= 0)
            for line in rest
        }
        assert len(groups) == len(rest)
        assert groups == _expected_groups(sky, alone)
    else:
        assert not rest
    for name in others:
        together = (found.rows[anchor] >= 0) & (found.rows[name] >= 0)
        apart = _apart(sky, anchor, name)[found.rows[anchor][together], found.rows[name][together]]
        np.testing.assert_allclose(found.separation_arcsec[name][together], apart, atol=1e-7)
        assert np.isnan(found.separation_arcsec[name][~together]).all()
    for order in itertools.permutations(sky):
        again = match_many(
            {name: sky[name] for name in order}, anchor=anchor, radius_arcsec=RADIUS, join=join
        )
        assert _lines(again) == _lines(found)


@settings(max_examples=40, deadline=None)
@given(surveys(4), st.sampled_from(["mutual", "best"]))
def test_one_to_one_uses_no_object_twice(sky, find):
    """With mutual and best, and an outer join, every object of every survey is in one row."""
    found = match_many(sky, anchor="b", radius_arcsec=RADIUS, join="outer", find=find)
    for name, (ra, _) in sky.items():
        rows = found.rows[name][found.present[name]]
        assert sorted(rows.tolist()) == list(range(len(ra)))


@settings(max_examples=60, deadline=None)
@given(surveys(2))
def test_best_equals_taking_the_closest_again_and_again(sky):
    """Greedy over all pairs by separation, each row once."""
    everyone = match_positions(*sky["a"], *sky["b"], radius_arcsec=RADIUS, find="all")
    order = sorted(
        zip(
            everyone.separation_arcsec.tolist(),
            everyone.left.tolist(),
            everyone.right.tolist(),
            strict=True,
        )
    )
    left, right, expected = set(), set(), []
    for _, one, other in order:
        if one not in left and other not in right:
            left.add(one)
            right.add(other)
            expected.append((one, other))
    best = best_pairs(everyone)
    assert list(zip(best.left.tolist(), best.right.tolist(), strict=True)) == sorted(expected)


@settings(max_examples=40, deadline=None)
@given(surveys(2), st.sampled_from(["nearest", "all", "mutual"]))
def test_joins_of_two_split_the_rows(sky, find):
    """Every join of STILTS is a union of pairs, rows only left and rows only right."""
    pairs = match_positions(*sky["a"], *sky["b"], radius_arcsec=RADIUS, find=find)
    sizes = len(sky["a"][0]), len(sky["b"][0])
    both = set(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True))
    only_1 = {(row, -1) for row in set(range(sizes[0])) - set(pairs.left.tolist())}
    only_2 = {(-1, row) for row in set(range(sizes[1])) - set(pairs.right.tolist())}
    expected = {
        "1and2": both,
        "1or2": both | only_1 | only_2,
        "all1": both | only_1,
        "all2": both | only_2,
        "1not2": only_1,
        "2not1": only_2,
        "1xor2": only_1 | only_2,
    }
    for join, lines in expected.items():
        joined = join_pairs(pairs, *sizes, join)
        found = list(zip(joined.left.tolist(), joined.right.tolist(), strict=True))
        assert len(found) == len(set(found))
        assert set(found) == lines
        known = joined.left[joined.left >= 0]
        assert (np.diff(known) >= 0).all()
        assert (
            np.isnan(joined.separation_arcsec) == ((joined.left < 0) | (joined.right < 0))
        ).all()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 6), max_size=12), st.lists(st.integers(0, 6), max_size=12))
def test_identifiers_pair_like_loops(left, right):
    """Every two rows of equal identifiers, as numbers or as text."""
    expected = [
        (i, j) for i, one in enumerate(left) for j, other in enumerate(right) if one == other
    ]
    big = 2**62
    for make in (
        lambda values: np.array(values, np.int64) + big,
        lambda values: np.array(values, np.uint64) + np.uint64(big),
        lambda values: np.array([f"{value} " for value in values], "U4"),
        lambda values: np.array([f"{value}" for value in values], "S4"),
    ):
        found = pair_ids(make(left), make(right))
        assert list(zip(*(rows.tolist() for rows in found), strict=True)) == expected


def _is_pair(sky, ids, one, other):
    """Which rows of two surveys may belong together: equal identifiers, or near; and how far."""
    apart = _apart(sky, one, other)
    if one in ids and other in ids:
        return ids[one][:, None] == ids[other][None, :], apart
    return apart <= RADIUS, apart


def _counterparts(sky, ids, anchor, name, find):
    """Row of each anchor's nearest, or -1; with mutual only where that is so both ways."""
    allowed, apart = _is_pair(sky, ids, anchor, name)
    far = np.where(allowed, apart, np.inf)

    def nearest(line):
        best = min(range(len(line)), key=lambda i: (line[i], i))
        return best if np.isfinite(line[best]) else -1

    there = [nearest(line) for line in far]
    if find == "mutual":
        back = [nearest(line) for line in far.T]
        there = [row if row >= 0 and back[row] == i else -1 for i, row in enumerate(there)]
    return there


@settings(max_examples=60, deadline=None)
@given(
    surveys(4),
    st.sampled_from(["inner", "left", "outer"]),
    st.sampled_from(["nearest", "mutual"]),
    st.sampled_from(["a", "b", "c", "d"]),
    st.sets(st.sampled_from(["a", "b", "c", "d"])),
    st.integers(0, 2**32 - 1),
)
def test_four_surveys_some_by_identifier(sky, join, find, anchor, named, seed):
    """Identifiers mixed with positions equal loops over all pairs, in any order of naming."""
    rng = np.random.default_rng(seed)
    named = named | {anchor} if named else set()
    ids = {name: rng.integers(0, 12, len(sky[name][0])) + 2**60 for name in named}
    others = sorted(set(sky) - {anchor})
    matched = {name: _counterparts(sky, ids, anchor, name, find) for name in others}
    lines = [
        tuple(row if name == anchor else matched[name][row] for name in sorted(sky))
        for row in range(len(sky[anchor][0]))
    ]
    expected = [line for line in lines if join != "inner" or min(line) >= 0]
    options = {"anchor": anchor, "radius_arcsec": RADIUS, "join": join, "find": find}
    found = match_many(sky, on=ids or None, **options)
    assert _lines(found)[: len(expected)] == expected
    rest = _lines(found)[len(expected) :]
    assert bool(rest) <= (join == "outer")
    alone = {(n, r) for n in others for r in range(len(sky[n][0])) if r not in matched[n]}
    members = [{(n, r) for n, r in zip(sorted(sky), line, strict=True) if r >= 0} for line in rest]
    if join == "outer":
        # Everyone who is left over is in one group, and every two of a group are a pair.
        assert sorted(itertools.chain(*members)) == sorted(alone)
        pair = {
            frozenset(((one, i), (other, j)))
            for one, other in itertools.combinations(others, 2)
            for i, j in zip(*np.nonzero(_is_pair(sky, ids, one, other)[0]), strict=True)
        }
        groups = [frozenset(group) for group in members]
        for group in groups:
            assert all(frozenset(two) in pair for two in itertools.combinations(group, 2))
        # No two groups could be one: growing went on until it could not.
        for one, other in itertools.combinations(groups, 2):
            both = one | other
            could = len({name for name, _ in both}) == len(both) and all(
                frozenset((x, y)) in pair for x in one for y in other
            )
            assert not could
    for order in itertools.islice(itertools.permutations(sky), 0, 24, 5):
        again = match_many({name: sky[name] for name in order}, on=ids or None, **options)
        assert _lines(again) == _lines(found)
