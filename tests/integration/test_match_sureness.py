"""How sure pairs are, told by the match itself, checked on skies whose true pairs are known."""

import numpy as np
import pytest
from astropy.table import Table

from astropile.errors import MatchError
from astropile.match import MovingPositions, as_positions, match_surveys

N, N_TRUE = 3000, 1800


def _field(seed, n=N):
    offsets = np.random.default_rng(seed).uniform(-0.2, 0.2, (2, n))
    return offsets + np.array([[150.0], [2.0]])


def _seen(sky, sigma, seed, n_more=20_000):
    """The first 1800 positions again with errors, among unrelated ones."""
    rng = np.random.default_rng(seed)
    again = sky[:, :N_TRUE] + rng.normal(0, sigma / 3600, (2, N_TRUE))
    return np.append(again, _field(seed + 100, n_more), axis=1)


def _table(sky, **columns):
    return Table({"ra": sky[0], "dec": sky[1], **columns})


@pytest.fixture(scope="module")
def lists():
    """Three lists of one field, errors in their columns; row i < 1800 is one object in all."""
    sky = _field(1)
    one = _table(sky, raErr=np.full(N, 0.1), decErr=np.full(N, 0.1))
    right = [_seen(sky, sigma, seed) for sigma, seed in ((0.4, 2), (0.8, 3))]
    two = _table(right[0], ra_error=np.full(21_800, 400.0), dec_error=np.full(21_800, 400.0))
    three = _table(right[1], pos=np.full(21_800, 0.8))
    return [as_positions(table, name=n) for table, n in ((one, "a"), (two, "b"), (three, "c"))]


@pytest.mark.parametrize("find", ["nearest", "mutual", "best"])
def test_each_survey_has_its_own_summary(lists, find):
    """With any anchor, false pairs with each survey are as many as are there, within the error."""
    matched = match_surveys(
        *lists, match_radius=3.0, find=find, join="left", summary=True, anchor="a"
    )
    for name in ("b", "c"):
        sure = matched.sureness[name]
        row, own = matched.rows[name], matched.rows["a"]
        false = np.count_nonzero((row >= 0) & ((row != own) | (own >= N_TRUE)))
        assert abs(sure.summary.n_false - false) < 4 * sure.summary.n_false_err
        assert sure.summary.n_pairs == np.count_nonzero(row >= 0) == sure.is_matched.sum()
        assert matched.catalog.meta["summary"][name]["n_pairs"] == sure.summary.n_pairs
        chance = matched.catalog[f"chance_probability_{name}"]
        assert (np.ma.getmaskarray(chance) == (row < 0)).all()


def test_probabilities_by_errors_are_calibrated(lists):
    """Errors in columns, in milliarcseconds here, give each pair the share that is true of such."""
    shares = []
    for name in ("b", "c"):
        matched = match_surveys(
            lists[0],
            lists["abc".index(name)],
            match_radius=4.0,
            find="all",
            summary=True,
            errors={"c": "pos"} if name == "c" else None,
        )
        rows = matched.rows
        true = (rows["a"] == rows[name]) & (rows["a"] < N_TRUE)
        shares.append((np.asarray(matched.catalog["match_probability"]), true))
    probability, true = (np.concatenate(parts) for parts in zip(*shares, strict=True))
    for low, high in ((0, 0.2), (0.2, 0.5), (0.5, 0.8), (0.8, 0.95), (0.95, 1)):
        some = (probability >= low) & (probability <= high)
        assert some.sum() > 40
        p = probability[some].mean()
        assert abs(true[some].mean() - p) < 4 * np.sqrt(p * (1 - p) / some.sum()) + 0.02


def test_moving_stars_have_a_summary():
    """With epochs, what chance matches is measured where the stars were; chance is per pair too."""
    sky = _field(5)
    speed = np.random.default_rng(6).normal(0, 400.0, (2, N))
    now = MovingPositions(*sky, 2000.0, *speed).at(2016.0)
    gaia = _table((now.ra, now.dec), pmra=now.pmra, pmdec=now.pmdec)
    seen = _table(_seen(sky, 0.1, 7))
    names = {"names": ["gaia", "seen"], "match_radius": 2.0}
    matched = match_surveys(gaia, seen, summary=True, epochs={"gaia": 2016, "seen": 2000}, **names)
    still = match_surveys(gaia, seen, summary=True, **names)
    summary = matched.catalog.meta["summary"]
    rows = matched.rows
    false = np.count_nonzero((rows["gaia"] != rows["seen"]) | (rows["gaia"] >= N_TRUE))
    assert false > 50
    assert abs(summary["n_false"] - false) < 4 * summary["n_false_err"]
    assert abs(summary["completeness"][-1] - N_TRUE / N) < 0.02
    assert still.catalog.meta["summary"]["completeness"][-1] < 0.2
    assert len(matched.catalog["chance_probability"]) == len(matched)


def test_what_is_matched_by_identifier_has_no_chance(lists):
    """Of surveys matched by identifier nothing is said; of those by position it is."""
    ids = [_table(np.array(one.positions()), key=np.arange(len(one))) for one in lists[:2]]
    names = ["a", "b", "c"]
    on = {"a": "key", "b": "key"}
    matched = match_surveys(*ids, lists[2], names=names, on=on, match_radius=2.0, summary=True)
    assert list(matched.sureness) == ["c"]
    with pytest.raises(MatchError, match="a match by position"):
        match_surveys(*ids, names=names[:2], on=on, summary=True)


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"find": "best2", "summary": True}, "of best2, exchange the sides"),
        ({"errors": {"c": 1.0}}, "summary=True with them"),
        ({"errors": {"c": 0.0}, "summary": True}, "arcseconds above 0"),
        ({"errors": {"d": 1.0}, "summary": True}, "names among a, c"),
        ({"errors": {"c": "no"}, "summary": True}, "one of ra, dec, pos"),
    ],
)
def test_what_cannot_be_told_is_refused(lists, more, text):
    """Options that say nothing are refused in one sentence."""
    with pytest.raises(MatchError, match=text):
        match_surveys(lists[0], lists[2], **more)


def test_an_error_without_its_other_is_refused():
    """An error given for one side alone is refused, with the side that lacks one."""
    left, right = as_positions({"ra": [1.0], "dec": [1.0]}, name="a"), {"ra": [1.0], "dec": [1.0]}
    with pytest.raises(MatchError, match="those of a too"):
        match_surveys(left, right, errors={"table": 0.1}, summary=True)
