"""Matching several surveys: identifiers, radii of each, missing values, refusals."""

import numpy as np
import pytest

from astropile.errors import MatchError
from astropile.match.multi import join_pairs, match_many, pair_ids
from astropile.match.positions import match_positions


def test_identifiers_of_64_bits_stay_apart():
    """Neighbours beyond 2^53 are told apart, signed against unsigned too."""
    signed = np.array([2**60 + 1, 2**60 + 2, -5])
    unsigned = np.array([2**60 + 2, 2**64 - 5], np.uint64)
    left, right = pair_ids(signed, unsigned)
    assert (left.tolist(), right.tolist()) == ([1], [0])
    left, right = pair_ids(signed, ["1152921504606846977", "x"])
    assert (left.tolist(), right.tolist()) == ([0], [0])


def test_missing_identifiers_equal_nothing():
    """Masked, None and empty ones."""
    masked = np.ma.MaskedArray([1, 2, 2], mask=[False, True, False])
    assert [rows.tolist() for rows in pair_ids(masked, masked)] == [[0, 2], [0, 2]]
    loose = np.array([None, "", "a", b"b"], object)
    assert [rows.tolist() for rows in pair_ids(loose, loose)] == [[2, 3], [2, 3]]
    some = np.array([None, 2**60 + 1], object)
    assert [rows.tolist() for rows in pair_ids(some, [2**60 + 1])] == [[1], [0]]
    assert [rows.tolist() for rows in pair_ids([], [1])] == [[], []]


def test_floating_point_identifiers_are_refused():
    """They have lost digits already."""
    with pytest.raises(MatchError, match="ids of left: expected integers or text, found dtype"):
        pair_ids([1.0], [1])


def test_identifiers_mixed_with_positions():
    """One survey by identifier however far away, the other by position."""
    sky = {
        "desi": ([10.0, 20.0, 30.0], [0.0, 0.0, 0.0]),
        "targets": ([50.0, 10.0, 10.001], [0.0, 0.0, 0.0]),
        "hsc": ([20.0, 30.001], [0.0, 0.0]),
    }
    found = match_many(
        sky,
        anchor="desi",
        radius_arcsec={"hsc": 1.0},
        on={"desi": [2**60 + 1, 7, 8], "targets": [7, 2**60 + 1, 2**60 + 1]},
        join="outer",
    )
    assert found.rows["desi"].tolist() == [0, 1, 2, -1, -1]
    # Of two rows of one identifier the nearer one; the other is left over.
    assert found.rows["targets"].tolist() == [1, 0, -1, -1, 2]
    assert found.rows["hsc"].tolist() == [-1, 0, -1, 1, -1]
    assert found.present["hsc"].tolist() == [False, True, False, True, False]
    assert found.separation_arcsec["targets"][1] == pytest.approx(30 * 3600)


def test_each_survey_has_its_radius_and_its_invalid_rows():
    """A radius of each; rows that are no position are counted, and never grouped."""
    nan = np.nan
    sky = {
        "a": ([10.0, nan], [0.0, 0.0]),
        "b": (np.ma.MaskedArray([10.0, 10.0], mask=[False, True]), [2 / 3600, 0.0]),
        "c": ([10.0, nan, 99.0], [2 / 3600, 0.0, -999.0]),
    }
    found = match_many(sky, anchor="a", radius_arcsec={"b": 3.0, "c": 1.0}, join="outer")
    assert found.rows["b"].tolist() == [0, -1, 1, -1, -1, -1]
    assert found.rows["c"].tolist() == [-1, -1, -1, 0, 1, 2]
    assert found.n_invalid == {"a": 1, "b": 1, "c": 2}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"anchor": "x"}, "anchor: expected one of a, b, found 'x'"),
        ({"anchor": "a", "join": "right"}, "join: expected one of inner, left, outer"),
        ({"anchor": "a", "find": "all"}, "find: expected one of nearest, mutual, best"),
        ({"anchor": "a", "on": {"x": [1]}}, "on: expected names among a, b"),
        ({"anchor": "a", "on": {"b": [1]}}, "on: expected identifiers of the anchor, a"),
        ({"anchor": "a", "radius_arcsec": {"a": 1}}, "radius_arcsec: expected a radius of b"),
        ({"anchor": "a", "radius_arcsec": -1}, "radius_arcsec: expected 0 to"),
    ],
)
def test_wrong_arguments_are_refused(options, message):
    """With what was expected and what came."""
    with pytest.raises(MatchError, match=message):
        match_many({"a": ([1.0], [1.0]), "b": ([1.0], [1.0])}, **options)


def test_wrong_joins_and_lone_surveys_are_refused():
    """A join nobody knows; one survey."""
    pairs = match_positions([1.0], [1.0], [1.0], [1.0], radius_arcsec=1)
    with pytest.raises(MatchError, match=r"join: expected one of inner.*found '1nor2'"):
        join_pairs(pairs, 1, 1, "1nor2")
    with pytest.raises(MatchError, match="surveys: expected two or more, found 1"):
        match_many({"a": ([1.0], [1.0])}, anchor="a")
