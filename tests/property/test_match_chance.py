"""Where on the sky a match is, and in which order its rows are, does not change its summary."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from astropile.match import (
    MatchSummary,
    chance_probability,
    local_density,
    match_positions,
    match_probability,
    summarize_match,
)

SIZES = st.integers(0, 60)


@st.composite
def fields(draw):
    """Two sides scattered over some arcseconds anywhere on the sky, some rows no position."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    ra0 = draw(st.sampled_from([0.0, 123.4, 359.9999]))
    dec0 = draw(st.sampled_from([0.0, 45.0, 89.999, -90.0]))
    sides = []
    for n in (draw(SIZES), draw(SIZES)):
        dec = np.clip(dec0 + rng.uniform(-20, 20, n) / 3600, -90, 90)
        across = np.maximum(np.cos(np.radians(dec)), 1e-4)
        ra = (ra0 + rng.uniform(-20, 20, n) / 3600 / across) % 360.0
        ra[rng.random(n) < 0.1] = np.nan
        sides += [ra, dec]
    return sides


@settings(max_examples=60, deadline=None)
@given(sky=fields(), find=st.sampled_from(["nearest", "all", "mutual"]), radius=st.floats(0, 8))
def test_summaries_add_up(sky, find, radius):
    """Counts add up, shares are shares, and JSON keeps all of it."""
    pairs = match_positions(*sky, radius_arcsec=radius, find=find)
    found = summarize_match(*sky, radius_arcsec=radius, find=find, pairs=pairs)
    assert sum(found.counts) == found.n_pairs == len(pairs)
    assert found.n_left + found.n_invalid_left == len(sky[0])
    assert found.n_left_matched <= found.n_left
    assert abs(sum(found.counts_false) - found.n_false) < 1e-9 * (1 + found.n_false)
    assert min(found.counts_false) >= 0
    assert found.n_false_err > 0 or found.n_left == 0 or find == "all"
    if find != "all":
        assert found.n_false <= found.n_pairs + 1e-9
    assert all(0 <= share <= 1 for share in found.completeness)
    assert MatchSummary.from_json(found.to_json()) == found


@settings(max_examples=40, deadline=None)
@given(sky=fields(), seed=st.integers(0, 1000), turn=st.sampled_from([0.0, 77.0, 200.5]))
def test_the_order_of_rows_and_the_seam_do_not_matter(sky, seed, turn):
    """Shuffled, and turned about the pole, a match has the same summary."""
    rng = np.random.default_rng(seed)
    ra_left, dec_left, ra_right, dec_right = sky
    i, j = rng.permutation(len(ra_left)), rng.permutation(len(ra_right))
    turned = (
        (ra_left[i] + turn) % 360,
        dec_left[i],
        (ra_right[j] + turn) % 360,
        dec_right[j],
    )
    one, other = (summarize_match(*side, radius_arcsec=4.0) for side in (sky, turned))
    assert one.n_pairs == other.n_pairs
    assert abs(one.n_false - other.n_false) < 1e-6
    np.testing.assert_allclose(one.completeness, other.completeness, atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(sky=fields(), completeness=st.floats(0, 1), sigma=st.floats(1e-3, 10))
def test_probabilities_are_probabilities(sky, completeness, sigma):
    """Probabilities lie between 0 and 1; those of the pairs of one left row add up to 1 at most."""
    pairs = match_positions(*sky, radius_arcsec=10, find="all")
    density = local_density(*sky[2:], *sky[:2])
    assert (np.isnan(density) == ~np.isfinite(sky[0] + sky[1])).all()
    chance = chance_probability(pairs.separation_arcsec, density[pairs.left])
    assert ((chance >= 0) & (chance <= 1)).all()
    farther = chance_probability(pairs.separation_arcsec + 1, density[pairs.left])
    assert (farther >= chance).all()
    sure = match_probability(pairs, density[pairs.left], sigma, sigma, completeness=completeness)
    assert ((sure >= 0) & (sure <= 1 + 1e-12)).all()
    total = np.bincount(pairs.left, sure, minlength=len(sky[0]))
    assert (total <= 1 + 1e-9).all()
