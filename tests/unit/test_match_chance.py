"""How sure a match is, checked on skies whose true pairs are known."""

import json

import numpy as np
import pytest
from astropy.coordinates import SkyCoord

from astropile.errors import MatchError
from astropile.match import (
    MatchSummary,
    MovingPositions,
    best_pairs,
    chance_probability,
    local_density,
    match_moving,
    match_positions,
    match_probability,
    shift_positions,
    summarize_match,
    summarize_moving,
)
from astropile.match.positions import Pairs
from astropile.sky import separation_arcsec

FIELDS = {
    "equator": (150.0, 2.0),
    "seam": (359.99, -1.0),
    "north pole": (77.0, 89.99),
    "south pole": (10.0, -89.99),
}


def _around(place, east, north):
    """Positions at offsets [arcsec] from a place, on the tangent plane."""
    import astropy.units as u

    centre = SkyCoord(*FIELDS[place], unit="deg")
    angle = np.degrees(np.arctan2(east, north)) * u.deg
    sky = centre.directional_offset_by(angle, np.hypot(east, north) * u.arcsec)
    return np.asarray(sky.ra.deg), np.asarray(sky.dec.deg)


def _injected(seed, place="equator", n_true=1200, n_left=2000, n_right=12000, sigma=0.4):
    """Left and right positions with known pairs: left row i < n_true has right row i."""
    rng = np.random.default_rng(seed)
    left = rng.uniform(-600, 600, (2, n_left))
    right = rng.uniform(-600, 600, (2, n_right))
    right[:, :n_true] = left[:, :n_true] + rng.normal(0, sigma, (2, n_true))
    return *_around(place, *left), *_around(place, *right)


def found_as(find, sky):
    """Match within 3 arcsec."""
    if find == "best":
        return best_pairs(match_positions(*sky, radius_arcsec=3.0, find="all"))
    return match_positions(*sky, radius_arcsec=3.0, find=find)


def _n_false(pairs, n_true):
    return int(np.count_nonzero((pairs.left != pairs.right) | (pairs.left >= n_true)))


@pytest.mark.parametrize("place", FIELDS)
@pytest.mark.parametrize("find", ["nearest", "all", "mutual", "best"])
def test_false_matches_are_as_many_as_were_injected(place, find):
    """The false pairs expected are those there are, within the error stated, everywhere."""
    pulls = []
    for seed in range(6):
        sky = _injected(seed, place)
        pairs = found_as(find, sky)
        found = summarize_match(*sky, radius_arcsec=3.0, find=find, pairs=pairs)
        false = _n_false(pairs, 1200)
        assert false > 100
        pulls.append((found.n_false - false) / found.n_false_err)
    assert np.abs(pulls).max() < 3.5
    assert abs(np.mean(pulls)) < 1.3


@pytest.mark.parametrize("find", ["nearest", "mutual"])
def test_false_matches_of_moving_stars(find):
    """Of fast stars carried to the dates of the right side, false pairs are those injected."""
    pulls = []
    for seed in range(4):
        ra, dec, *right = _injected(30 + seed)
        rng = np.random.default_rng(seed)
        speed = rng.normal(0, 300.0, (2, len(ra)))
        when = rng.uniform(1999, 2001, len(right[0]))
        then = MovingPositions(ra, dec, np.append(when, when)[: len(ra)], *speed)
        left = then.at(2016.0)
        seen = MovingPositions(*right, when)
        pairs = match_moving(left, seen, radius_arcsec=3.0, find=find)
        assert np.count_nonzero(pairs.left == pairs.right) > 1000
        still = match_positions(left.ra, left.dec, *right, radius_arcsec=3.0)
        assert np.count_nonzero(still.left == still.right) < 600
        found = summarize_moving(left, seen, radius_arcsec=3.0, find=find)
        assert found.n_pairs == len(pairs)
        pulls.append((found.n_false - _n_false(pairs, 1200)) / found.n_false_err)
    assert np.abs(pulls).max() < 3.5
    assert abs(np.mean(pulls)) < 1.5


def test_completeness_curve_is_the_injected_one():
    """The share of left rows with a counterpart within each radius is the true one."""
    sky = _injected(3, sigma=0.5)
    found = summarize_match(*sky, radius_arcsec=4.0)
    own = separation_arcsec(sky[0][:1200], sky[1][:1200], sky[2][:1200], sky[3][:1200])
    radii = np.array(found.edges_arcsec[1:])
    true = np.array([np.count_nonzero(own <= radius) for radius in radii]) / 2000
    assert np.abs(np.array(found.completeness) - true).max() < 0.03
    assert abs(found.completeness[-1] - 0.6) < 0.03


def test_rows_outside_the_field_change_nothing():
    """Left rows far from anything on the right add no false matches."""
    ra, dec, *right = _injected(4)
    inside = summarize_match(ra, dec, *right, radius_arcsec=3.0)
    far = np.random.default_rng(0).uniform(20, 40, (2, 20_000))
    both = summarize_match(np.append(ra, far[0]), np.append(dec, far[1]), *right, radius_arcsec=3.0)
    assert both.n_pairs == inside.n_pairs
    assert abs(both.n_false - inside.n_false) < 0.5 * inside.n_false_err


def test_a_match_without_true_pairs_is_all_chance():
    """Of two unrelated catalogues every pair is expected to be false."""
    found = summarize_match(*_injected(5, n_true=0), radius_arcsec=3.0)
    assert abs(found.n_false - found.n_pairs) < 3 * found.n_false_err
    assert max(np.abs(found.completeness)) < 0.03


def test_a_match_without_neighbours_is_certain():
    """Where nothing else is near no pair is expected to be false."""
    left = np.arange(50) * 0.1, np.zeros(50)
    found = summarize_match(*left, left[0] + 1e-5, left[1], radius_arcsec=1.0)
    assert (found.n_pairs, found.n_false) == (50, 0.0)
    assert found.completeness[-1] == 1.0
    assert found.false_rate_err < 0.01


def test_probabilities_add_up_to_the_shifted_matches():
    """The chance probabilities at the radius add up to what shifted positions match."""
    sky = _injected(7)
    density = local_density(*sky[2:], *sky[:2], has_counterpart=np.arange(2000) < 1200)
    expected = chance_probability(np.full(2000, 3.0), density).sum()
    found = summarize_match(*sky, radius_arcsec=3.0)
    measured = np.mean([shift.n_pairs for shift in found.shifts])
    assert abs(expected / measured - 1) < 0.1


def test_density_is_local():
    """Ten times denser on one side: the density there is ten times that of the other side."""
    rng = np.random.default_rng(8)
    west, east = rng.uniform(0, 0.5, (2, 5000)), rng.uniform(0, 0.5, (2, 50000))
    ra = np.append(west[0], 0.5 + east[0])
    dec = np.append(west[1], east[1])
    at = rng.uniform(0.05, 0.45, (2, 400))
    density = local_density(
        ra, dec, np.append(at[0], 0.5 + at[0]), np.append(at[1], at[1])
    ).reshape(2, -1)
    area = 0.25 * 3600**2
    np.testing.assert_allclose(density.mean(axis=1), [5000 / area, 50000 / area], rtol=0.05)
    assert (density.std(axis=1) / density.mean(axis=1) < 0.35).all()


def test_density_of_many_positions_is_shared(monkeypatch):
    """Of many positions those of one small pixel share a density, which is as good."""
    from astropile.match import density as measured

    sky = _injected(9)
    alone = local_density(*sky[2:], *sky[:2])
    monkeypatch.setattr(measured, "MOST_POSITIONS", 500)
    shared = local_density(*sky[2:], *sky[:2])
    assert len(np.unique(shared)) < 1950
    assert abs(shared.mean() / alone.mean() - 1) < 0.03


def test_chance_of_what_is_no_position_is_unknown():
    """Fill values have no density, and no objects mean no chance."""
    density = local_density([1.0], [1.0], [np.nan, -999.0], [0.0, -999.0])
    assert np.isnan(density).all()
    assert local_density([], [], [1.0], [1.0]).tolist() == [0.0]
    assert chance_probability([5.0], [0.0]).tolist() == [0.0]
    # Objects in one place.
    assert np.isfinite(local_density([1.0] * 50, [1.0] * 50, [1.0], [1.0])).all()


def test_probability_from_errors_is_calibrated():
    """Of pairs given a probability about p, a share p are true."""
    shares = []
    for seed in range(4):
        sky = _injected(20 + seed, n_right=40_000, sigma=0.5)
        pairs = match_positions(*sky, radius_arcsec=3.0, find="all")
        density = local_density(*sky[2:], *sky[:2], has_counterpart=np.arange(2000) < 1200)
        probability = match_probability(
            pairs, density[pairs.left], 0.4, np.full(40_000, 0.3), completeness=0.6
        )
        true = (pairs.left == pairs.right) & (pairs.left < 1200)
        shares.append((probability, true))
    probability, true = (np.concatenate(values) for values in zip(*shares, strict=True))
    for low, high in ((0, 0.05), (0.05, 0.3), (0.3, 0.6), (0.6, 0.8), (0.8, 0.95), (0.95, 1)):
        some = (probability >= low) & (probability <= high)
        assert some.sum() > 100
        p = probability[some].mean()
        noise = np.sqrt(p * (1 - p) / some.sum())
        assert abs(true[some].mean() - p) < 4 * noise + 0.02


def test_probability_without_an_error_is_unknown():
    """A pair whose error is not known, or not positive, has no probability."""
    pairs = Pairs(np.array([0, 1]), np.array([0, 1]), np.array([0.1, 0.1]), 0, 0)
    found = match_probability(pairs, [1e-4, 1e-4], [0.2, np.nan], [0.2, 0.2], completeness=0.5)
    assert found[0] > 0.99
    assert np.isnan(found[1])
    with pytest.raises(MatchError, match="share from 0 to 1"):
        match_probability(pairs, [1e-4, 1e-4], 0.2, 0.2, completeness=2.0)


def test_summary_survives_json():
    """A summary read back from its JSON is the same summary."""
    found = summarize_match(*_injected(1), radius_arcsec=2.0)
    again = MatchSummary.from_json(found.to_json())
    assert again == found
    assert json.loads(found.to_json())["false_rate"] == found.false_rate
    assert "pairs within 2 arcsec" in str(found)


@pytest.mark.parametrize("find", ["nearest", "all", "mutual", "best"])
def test_summary_of_empty_sides(find):
    """Empty sides have a summary, of nothing."""
    for sides in (([], [], [], []), ([1.0], [1.0], [], []), ([], [], [1.0], [1.0])):
        found = summarize_match(*sides, radius_arcsec=1.0, find=find)
        assert (found.n_pairs, found.n_false, found.median_separation_arcsec) == (0, 0.0, None)
        assert MatchSummary.from_json(found.to_json()) == found


def test_radius_zero_and_bad_offsets():
    """Radius 0 has a summary; an offset that true pairs would reach is refused."""
    assert summarize_match([1.0], [1.0], [1.0], [1.0], radius_arcsec=0).n_pairs == 1
    with pytest.raises(MatchError, match="offset_arcsec"):
        summarize_match([1.0], [1.0], [1.0], [1.0], radius_arcsec=5, offset_arcsec=9)


@pytest.mark.parametrize("bearing", [0.0, 45.0, 200.0])
def test_shifts_are_of_one_length_everywhere(bearing):
    """Shifted positions are as far away as asked, at the poles and the seam too."""
    ra = np.array([0.0, 359.9999, 12.0, 12.0, 100.0])
    dec = np.array([0.0, 30.0, 90.0, -89.9999, -45.0])
    moved = shift_positions(ra, dec, 40.0, bearing)
    np.testing.assert_allclose(separation_arcsec(ra, dec, *moved), 40.0, atol=1e-6)
    assert ((moved[0] >= 0) & (moved[0] < 360)).all()
