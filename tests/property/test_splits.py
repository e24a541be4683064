"""Sets by patches of sky, audits of them, and duplicates."""

import datasets
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import Table
from hypothesis import given, settings
from hypothesis import strategies as st

from astropile.errors import SampleError
from astropile.healpix import ang2pix, n_pixels, pix2ang
from astropile.sky import separation_arcsec
from astropile.splits import (
    Sample,
    SkySplits,
    audit_splits,
    find_duplicates,
    split_dataset,
)

SEEDS = st.integers(0, 2**32 - 1)


def sky(rng, n):
    """Positions over the whole sphere."""
    return rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))


def test_the_hash_is_for_ever():
    """The sets of blocks are those that were published once."""
    plan = SkySplits({"train": 0.5, "test": 0.5}, order=3, seed=7)
    assert (
        "".join(map(str, plan.of_blocks(np.arange(40))))
        == "0010011101111101110101100000011010001110"
    )
    assert plan.of_blocks(np.arange(768)).mean() == pytest.approx(0.5, abs=0.05)


@given(SEEDS, st.integers(0, 8))
def test_same_block_same_set(seed, order):
    """Positions of one block share their set, and nothing else about them counts."""
    rng = np.random.default_rng(seed)
    plan = SkySplits(order=order, seed=seed)
    ra, dec = sky(rng, 200)
    codes = plan.assign(ra, dec).codes
    blocks = ang2pix(ra, dec, order)
    np.testing.assert_array_equal(codes, plan.of_blocks(blocks))
    shuffled = rng.permutation(200)
    np.testing.assert_array_equal(plan.assign(ra[shuffled], dec[shuffled]).codes, codes[shuffled])
    np.testing.assert_array_equal(plan.assign(ra + 360, dec).codes, codes)


@pytest.mark.parametrize("order", [4, 6])
def test_shares_of_the_sky(order):
    """The sets' shares of all blocks are the fractions, within what chance allows."""
    plan = SkySplits({"train": 0.7, "validation": 0.2, "test": 0.1}, order=order, seed=3)
    n = n_pixels(order)
    shares = np.bincount(plan.of_blocks(np.arange(n))) / n
    for share, wanted in zip(shares, (0.7, 0.2, 0.1), strict=True):
        assert abs(share - wanted) < 5 * np.sqrt(wanted * (1 - wanted) / n)


@given(SEEDS, st.floats(0, 1), st.floats(0, 1))
def test_smaller_test_set_within_larger(seed, first, second):
    """With one seed the smaller test set lies within the larger one."""
    small, large = sorted((first, second))
    blocks = np.arange(300)
    inner, outer = (
        SkySplits({"train": 1 - f, "test": f}, seed=seed).of_blocks(blocks) == 1
        for f in (small, large)
    )
    assert not (inner & ~outer).any()


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.integers(3, 9), st.floats(0.01, 1))
def test_guard_band_holds(seed, order, share):
    """No two positions of different sets are nearer than the guard band, poles and seams too."""
    rng = np.random.default_rng(seed)
    guard = share * np.degrees(np.sqrt(np.pi / 3)) * 3600 / 2**order / 4
    plan = SkySplits({"a": 0.5, "b": 0.5}, order=order, seed=seed % 100, guard_arcsec=guard)
    centres = pix2ang(rng.integers(0, n_pixels(order), 12), order)
    corners = pix2ang(rng.integers(0, n_pixels(min(order + 6, 20)), 12), min(order + 6, 20))
    ra = np.repeat(np.concatenate([centres[0], corners[0], [0.0, 45.0, 90.0]]), 60)
    dec = np.repeat(np.concatenate([centres[1], corners[1], [90.0, -90.0, 41.8]]), 60)
    width = rng.choice([0.3, 3.0], len(ra)) * guard / 3600 + 20 / 2**order
    dec = np.clip(dec + rng.normal(0, 1, len(ra)) * width, -90, 90)
    ra = ra + rng.normal(0, 1, len(ra)) * width / np.maximum(np.cos(np.radians(dec)), 1e-3)
    codes = plan.assign(ra, dec).codes
    a, b = (np.flatnonzero(codes == k) for k in (0, 1))
    if len(a) and len(b):
        apart = separation_arcsec(ra[a][:, None], dec[a][:, None], ra[b], dec[b])
        assert apart.min() >= guard
    without = SkySplits({"a": 0.5, "b": 0.5}, order=order, seed=seed % 100).assign(ra, dec).codes
    np.testing.assert_array_equal(codes[codes >= 0], without[codes >= 0])


def test_guard_band_is_no_wider_than_it_must_be():
    """What is farther from other sets than 0.6 of the guard band is kept."""
    rng = np.random.default_rng(0)
    plan = SkySplits({"a": 0.5, "b": 0.5}, order=5, seed=1, guard_arcsec=600)
    ra, dec = rng.uniform(100, 110, 4000), rng.uniform(10, 20, 4000)
    codes = plan.assign(ra, dec).codes
    fine_ra, fine_dec = (
        x.ravel() for x in np.meshgrid(*[np.linspace(a, b, 500) for a, b in ((98, 112), (8, 22))])
    )
    fine = plan.of_blocks(ang2pix(fine_ra, fine_dec, 5))
    own = plan.of_blocks(ang2pix(ra, dec, 5))
    for row in np.flatnonzero(codes == -1)[:200]:
        other = fine != own[row]
        nearest = separation_arcsec(ra[row], dec[row], fine_ra[other], fine_dec[other]).min()
        assert nearest < 0.6 * 600 + 100  # the fine grid is 100 arcsec wide
    assert 0.05 < (codes == -1).mean() < 0.5


def test_match_across_a_border():
    """A match whose members lie in different sets is in none, and is counted."""
    plan = SkySplits({"a": 0.5, "b": 0.5}, order=8, seed=0)
    ra = np.linspace(10, 12, 4001)
    codes = plan.assign(ra, np.zeros(4001)).codes
    edge = int(np.flatnonzero(np.diff(codes))[0])
    left = np.ma.array([ra[edge], ra[edge], ra[edge], np.nan], mask=[0, 0, 1, 1])
    right = np.ma.array([ra[edge + 1], ra[edge], ra[edge + 1], np.nan], mask=[0, 0, 0, 1])
    zero = np.zeros(4)
    found = plan.assign_match({"hsc": (left, zero), "desi": (right, zero)})
    assert found.codes.tolist() == [-3, codes[edge], codes[edge + 1], -2]
    assert found.counts == {
        "a": 1, "b": 1, "guard band": 0, "no position": 1, "straddling": 1,
    }  # fmt: skip


def test_no_position():
    """Rows without a position are in no set."""
    ra = np.ma.array([10.0, 20.0, np.inf, 30.0], mask=[0, 1, 0, 0])
    codes = SkySplits().assign(ra, [0.0, 0.0, 0.0, 99.0]).codes
    assert (codes >= 0).tolist() == [True, False, False, False]
    assert codes[1:].tolist() == [-2, -2, -2]


def test_bad_plans():
    """A plan that cannot be is refused, with what was expected and what came."""
    for kwargs in (
        {"fractions": {"train": 0.5, "test": 0.4}},
        {"fractions": {}},
        {"fractions": {"a": 1.5, "b": -0.5}},
        {"order": 21},
        {"order": -1},
        {"guard_arcsec": -1},
        {"order": 4, "guard_arcsec": 4000},
        {"guard_arcsec": np.nan},
    ):
        with pytest.raises(SampleError, match=r"expected .* found"):
            SkySplits(**kwargs)
    with pytest.raises(SampleError, match="one of train, validation, test"):
        SkySplits().assign([1.0], [1.0]).rows("dev")
    with pytest.raises(SampleError, match="as many as ra"):
        SkySplits().assign([1.0], [1.0, 2.0])


def test_dataset_is_split_by_its_positions():
    """Each row of a dataset is in the set of its position, in order."""
    ra, dec = sky(np.random.default_rng(2), 500)
    dataset = datasets.Dataset.from_dict({"ra": ra, "dec": dec, "number": np.arange(500)})
    plan = SkySplits(seed=4)
    parts = split_dataset(dataset, plan)
    assert list(parts) == ["train", "validation", "test"]
    codes = plan.assign(ra, dec).codes
    for k, name in enumerate(parts):
        assert list(parts[name]["number"]) == np.flatnonzero(codes == k).tolist()
    audit = audit_splits(parts)
    assert audit.is_clean
    with pytest.raises(SampleError, match="columns ra and dec"):
        split_dataset(dataset.remove_columns("ra"), plan)


@settings(deadline=None)
@given(SEEDS)
def test_audit_finds_the_smallest_separation(seed):
    """The separation reported is the smallest of all pairs; every shared identifier is found."""
    rng = np.random.default_rng(seed)
    points = {name: sky(rng, int(rng.integers(1, 40))) for name in ("train", "test")}
    ids = {name: rng.integers(0, 50, len(p[0])) for name, p in points.items()}
    audit = audit_splits({n: Sample("x", *points[n], ids[n]) for n in points})
    apart = separation_arcsec(
        points["train"][0][:, None], points["train"][1][:, None], *points["test"]
    )
    assert audit.separation_arcsec == pytest.approx(apart.min(), rel=1e-12)
    shared = set(ids["train"].tolist()) & set(ids["test"].tolist())
    assert audit.overlaps[0].n_shared == {"x": len(shared)}
    assert set(audit.overlaps[0].shared["x"]) <= shared
    assert audit.is_clean == (not shared and apart.min() > 1)


def test_audit_of_a_random_split_shows_the_leak():
    """Duplicates thrown into both sets are seen, by position across surveys and by identifier."""
    train = Table({"ra": [10.0, 20.0], "dec": [0.0, 0.0], "object_id": [1, 2]})
    test = Table({"ra": [20.0001, 50.0], "dec": [0.0, 0.0], "object_id": [3, 1]})
    audit = audit_splits({"train": train, "test": test})
    assert not audit.is_clean
    assert audit.overlaps[0].n_near == 1
    assert audit.overlaps[0].shared == {"": [1]}
    assert audit.separation_arcsec == pytest.approx(0.36, abs=1e-9)
    empty = audit_splits({"train": train, "test": test[:0]})
    assert empty.separation_arcsec == np.inf
    for bad in ({"train": train}, {"train": train, "test": 3}, {"a": train, "b": train["ra",]}):
        with pytest.raises(SampleError):
            audit_splits(bad)


@settings(deadline=None, max_examples=40)
@given(SEEDS)
def test_groups_are_friends_of_friends(seed):
    """Rows are in one group exactly if a chain of separations within the radius joins them."""
    rng = np.random.default_rng(seed)
    n = 40
    ra, dec = rng.uniform(359.99, 360.01, n), rng.uniform(-0.01, 0.01, n)
    found = find_duplicates({"a": (ra[:25], dec[:25]), "b": (ra[25:], dec[25:])}, radius_arcsec=9)
    place = SkyCoord(ra, dec, unit="deg")
    joined = place[:, None].separation(place).arcsec <= 9
    for _ in range(6):
        joined = joined @ joined
    lowest = joined.argmax(axis=1)
    expected = np.unique(lowest, return_inverse=True)[1]
    np.testing.assert_array_equal(np.concatenate([found.groups["a"], found.groups["b"]]), expected)
    assert found.sizes.tolist() == np.bincount(expected).tolist()
    assert found.shared("a", "b") == len(set(expected[:25]) & set(expected[25:]))
    firsts = found.first_rows("a")
    assert sorted(found.groups["a"][firsts]) == sorted(set(expected[:25]))
    repeated = {tuple(rows.tolist()) for rows in found.repeated("a")}
    assert repeated == {
        tuple(np.flatnonzero(expected[:25] == g)) for g in set(expected[:25])
        if (expected[:25] == g).sum() > 1
    }  # fmt: skip


def test_groups_by_identifier():
    """Equal identifiers of a survey are one object wherever they are, and without a position."""
    found = find_duplicates(
        {"a": ([1.0, 50.0, np.nan, 90.0], [0.0, 0.0, 0.0, 0.0]), "b": ([50.0], [0.0])},
        object_ids={"a": ["x", "y", "x", "z"]},
    )
    assert found.groups["a"].tolist() == [0, 1, 0, 2]
    assert found.groups["b"].tolist() == [1]
    with pytest.raises(SampleError, match="4 identifiers"):
        find_duplicates({"a": ([1.0] * 4, [0.0] * 4)}, object_ids={"a": [1, 2]})
    with pytest.raises(SampleError, match="names among a"):
        find_duplicates({"a": ([1.0], [0.0])}, object_ids={"c": [1]})
    with pytest.raises(SampleError, match="one survey or more"):
        find_duplicates({})
