"""Joins of two trees, and three trees at once, as datasets with nulls where a survey is absent."""

import dataclasses

import datasets
import numpy as np
import pytest

import astropile
import toy
from astropile.errors import MatchError, UnknownColumnError
from astropile.match.multi import JOINS, join_pairs, match_many
from hftrees import N_LEFT, N_RIGHT, build, quiet, trees  # noqa: F401


@pytest.fixture(scope="module")
def third(trees, tmp_path_factory):  # noqa: F811
    """A third survey: some objects of the left, some of the right alone, some of its own."""
    rng = np.random.default_rng(12)
    left, right = trees.batch_left, trees.batch_right
    ra = np.concatenate([left["RA"][10:40] - 0.2 / 3600, right["RA"][-8:], rng.uniform(0, 360, 6)])
    dec = np.concatenate([left["DEC"][10:40], right["DEC"][-8:], rng.uniform(-80, 80, 6)])
    batch = toy.make_batch(len(ra), seed=3, first_id=0, ra=ra % 360, dec=dec)
    survey = dataclasses.replace(toy.SURVEY, name="third", survey="THIRD")
    return build(survey, batch, tmp_path_factory.mktemp("third"), order=2)


@pytest.mark.parametrize("join", ["left", "outer", "2not1", "all2"])
def test_joins_of_two_have_nulls_where_a_side_is_absent(trees, join):  # noqa: F811
    """Rows as `join_pairs` gives them; the record of an absent side is None."""
    catalog, dataset = astropile.cross_match_datasets(trees.left, trees.right, join=join)
    catalogs = [astropile.open_catalog(tree) for tree in (trees.left, trees.right)]
    pairs = astropile.cross_match(*catalogs, radius_arcsec=1.0)
    expected = join_pairs(pairs, N_LEFT, N_RIGHT, join)
    assert len(dataset) == len(catalog) == len(expected.left)
    for name, rows in (("toy", expected.left), ("other", expected.right)):
        filled = np.ma.MaskedArray(catalog[f"row_{name}"]).filled(-1)
        np.testing.assert_array_equal(filled, rows)
    whole = {
        "toy": astropile.load_dataset(trees.left),
        "other": astropile.load_dataset(trees.right),
    }
    for row in {0, len(dataset) // 2, len(dataset) - 1}:
        example = dataset[row]
        for name, rows in (("toy", expected.left), ("other", expected.right)):
            if rows[row] < 0:
                assert example[name] is None
                assert catalog[f"object_id_{name}"][row] is np.ma.masked
            else:
                np.testing.assert_equal(example[name], whole[name][int(rows[row])])
                # A 64-bit identifier has not been a float on the way.
                assert catalog[f"object_id_{name}"][row] == example[name]["object_id"]
        assert 0 <= example["ra"] < 360
    assert catalog.meta["join"] == join
    assert set(dataset[:]["healpix"]) == set(catalog["healpix"].tolist())


def test_all_joins_are_known(trees):  # noqa: F811
    """Pairs, and rows of either side without one, as often as they are."""
    found = {
        join: len(
            astropile.cross_match_datasets(
                trees.left, trees.right, join=join, left_columns=["z"], right_columns=["z"]
            ).dataset
        )
        for join in JOINS
    }
    assert found["1and2"] == found["inner"]
    assert found["all1"] == found["left"] == found["inner"] + found["1not2"]
    assert found["1or2"] == found["outer"] == found["inner"] + found["1xor2"]
    assert found["1xor2"] == found["1not2"] + found["2not1"]


@pytest.mark.parametrize("join", ["inner", "left", "outer"])
def test_three_surveys_at_once(trees, third, join):  # noqa: F811
    """One record per survey, with rows and separations as `match_many` gives."""
    catalog, dataset = astropile.cross_match_datasets(
        trees.left, trees.right, third, match_radius=1.0, join=join
    )
    folders = {"toy": trees.left, "other": trees.right, "third": third}
    sky = {name: astropile.open_catalog(path).positions() for name, path in folders.items()}
    expected = match_many(sky, anchor="toy", radius_arcsec=1.0, join=join)
    assert len(dataset) == len(expected)
    assert list(dataset.features) == [
        *("ra", "dec", "healpix", "separation_other", "separation_third"),
        *("toy", "other", "third"),
    ]
    for name in folders:
        rows = np.ma.MaskedArray(catalog[f"row_{name}"]).filled(-1)
        np.testing.assert_array_equal(rows, expected.rows[name])
        absent = [record is None for record in dataset[name]]
        np.testing.assert_array_equal(absent, ~expected.present[name])
    np.testing.assert_array_equal(catalog["separation_third"], expected.separation_arcsec["third"])
    turned = astropile.cross_match_datasets(
        third, trees.left, trees.right, anchor="toy", match_radius=1.0, join=join
    )
    np.testing.assert_array_equal(turned.catalog["row_other"], catalog["row_other"])
    assert turned.catalog.meta["anchor"] == "toy"
    assert [side["name"] for side in catalog.meta["sides"]] == ["toy", "other", "third"]


def test_three_surveys_flat_saved_and_read_back(trees, third, tmp_path):  # noqa: F811
    """Nulls survive saving, in columns side by side as in records."""
    options = {"match_radius": 1.0, "join": "outer"}
    for flat in (False, True):
        _, dataset = astropile.cross_match_datasets(
            trees.left, trees.right, third, flat=flat, left_columns=["z", "image"], **options
        )
        dataset.save_to_disk(tmp_path / str(flat), num_shards=1)
        again = datasets.load_from_disk(tmp_path / str(flat))
        assert again.features == dataset.features
        np.testing.assert_equal(again[len(again) - 1], dataset[len(dataset) - 1])
        np.testing.assert_equal(again[3], dataset[3])


def test_identifiers_instead_of_positions(trees, third):  # noqa: F811
    """The right survey by position, the third by identifier, wherever on the sky it is."""
    catalog, dataset = astropile.cross_match_datasets(
        trees.left,
        trees.right,
        third,
        on={"toy": "ID", "third": "object_id"},
        join="left",
    )
    assert len(dataset) == N_LEFT
    matched = ~np.ma.getmaskarray(catalog["row_third"])
    assert matched.sum() == len(astropile.open_catalog(third))
    assert (catalog["object_id_toy"] == catalog["object_id_third"])[matched].all()
    assert catalog["separation_third"][matched].max() > 3600
    plain = astropile.cross_match_datasets(trees.left, trees.right, join="left").catalog
    np.testing.assert_array_equal(
        np.ma.MaskedArray(catalog["row_other"]).filled(-1),
        np.ma.MaskedArray(plain["row_other"]).filled(-1),
    )
    two = astropile.cross_match_datasets(
        trees.left, third, on={"toy": "ID", "third": "ID"}, join="inner"
    )
    assert len(two.dataset) == len(astropile.open_catalog(third))
    assert "separation" in two.catalog.colnames


def test_best_takes_each_object_once(trees):  # noqa: F811
    """A wide radius, where nearest neighbours are shared."""
    catalog, _ = astropile.cross_match_datasets(
        trees.left, trees.right, match_radius=36000.0, find="best"
    )
    for name in ("toy", "other"):
        rows = catalog[f"row_{name}"]
        assert len(set(rows.tolist())) == len(rows)


def test_best2_is_the_nearest_of_the_right(trees):  # noqa: F811
    """The same pairs as the other way round."""
    found, _ = astropile.cross_match_datasets(trees.left, trees.right, 36000.0, find="best2")
    other, _ = astropile.cross_match_datasets(trees.right, trees.left, 36000.0, find="best1")
    pairs = [
        set(zip(table["row_toy"], table["row_other"], strict=True)) for table in (found, other)
    ]
    assert pairs[0] == pairs[1]
    assert (np.diff(found["row_toy"]) >= 0).all()


def test_what_cannot_be_is_refused(trees, third):  # noqa: F811
    """With what was expected."""
    with pytest.raises(MatchError, match="join: expected one of inner"):
        astropile.cross_match_datasets(trees.left, trees.right, join="both")
    with pytest.raises(MatchError, match="join: expected one of inner, left, outer"):
        astropile.cross_match_datasets(trees.left, trees.right, third, join="1not2")
    with pytest.raises(MatchError, match="anchor: expected one of toy, other, third"):
        astropile.cross_match_datasets(trees.left, trees.right, third, anchor="x")
    with pytest.raises(MatchError, match="on: expected names among"):
        astropile.cross_match_datasets(trees.left, trees.right, on={"x": "ID"})
    with pytest.raises(UnknownColumnError, match="IDD"):
        astropile.cross_match_datasets(trees.left, trees.right, on={"toy": "IDD", "other": "ID"})
    with pytest.raises(TypeError, match=r"the 3\. side"):
        astropile.cross_match_datasets(trees.left, trees.right, object())
