"""Two trees matched on the sky: a catalogue and a dataset of both sides' fields."""

import copy

import datasets
import numpy as np
import pytest
from astropy import units as u
from astropy.table import Table

import astropile
from astropile.errors import MatchError
from astropile.hf.lazy import LazyTable
from digest import digest
from hftrees import N_BOTH, N_LEFT, N_RIGHT, quiet, trees  # noqa: F401

FORMAT = "astropile"


@pytest.fixture(scope="module")
def matched(trees):  # noqa: F811
    left, right = map(astropile.load_dataset_builder, (trees.left, trees.right))
    return astropile.cross_match_datasets(left, right, match_radius=1.0)


def test_result_unpacks_and_reads_by_name(matched):
    """A table with units and a dataset that has read nothing yet."""
    catalog, dataset = matched
    assert catalog is matched.catalog
    assert dataset is matched.dataset
    assert isinstance(catalog, Table)
    assert isinstance(dataset, datasets.Dataset)
    assert isinstance(dataset.data, LazyTable)
    assert len(catalog) == len(dataset) >= N_BOTH
    assert dataset.cache_files == []


def test_catalog_says_what_was_matched(trees, matched):  # noqa: F811
    """Units on every angle; radius, sizes and provenance in the meta."""
    catalog = matched.catalog
    assert catalog.colnames == [
        *("ra", "dec", "healpix", "separation"),
        *(f"{c}_toy" for c in ("row", "object_id", "observation_id", "ra", "dec")),
        *(f"{c}_other" for c in ("row", "object_id", "observation_id", "ra", "dec")),
    ]
    assert catalog["ra_toy"].unit == u.deg
    assert catalog["separation"].unit == u.arcsec
    assert catalog["object_id_toy"].dtype == np.int64
    meta = catalog.meta
    assert meta["match_radius_arcsec"] == 1.0
    assert (meta["n_left"], meta["n_right"]) == (N_LEFT, N_RIGHT)
    assert meta["left"]["survey"] == "TOY"
    assert meta["right"]["snapshot"] == astropile.open_catalog(trees.right).snapshot
    assert meta["healpix_order"] == 1


def test_both_sides_keep_all_their_fields(trees, matched):  # noqa: F811
    """Each side's record equals the row of its own dataset; the pair has mean and separation."""
    sides = [astropile.load_dataset(tree).with_format(FORMAT) for tree in (trees.left, trees.right)]
    assert list(matched.dataset.features) == ["ra", "dec", "healpix", "separation", "toy", "other"]
    assert matched.dataset.features["toy"] == sides[0].features
    rows = matched.dataset.with_format(FORMAT)
    for line in matched.catalog[[0, 7, -1]]:
        place = int(np.flatnonzero(matched.catalog["row_toy"] == line["row_toy"])[0])
        record = rows[place]
        for side, name in zip(sides, ("toy", "other"), strict=True):
            expected = side[int(line[f"row_{name}"])]
            np.testing.assert_equal(record[name], expected)
            assert record[name]["ra"] == line[f"ra_{name}"]
        assert record["separation"] == line["separation"] <= 1.0
        assert record["ra"].dtype == np.float64
        assert 0 <= record["ra"] < 360


def test_mean_position_at_the_seam(matched):
    """The mean of 359.99999 and 0.00007 is not 180."""
    close = (matched.catalog["ra"] < 0.001) | (matched.catalog["ra"] > 359.999)
    assert close.sum() >= 0
    for name in ("toy", "other"):
        from astropile.sky import separation_arcsec

        apart = separation_arcsec(
            np.asarray(matched.catalog["ra"]),
            np.asarray(matched.catalog["dec"]),
            np.asarray(matched.catalog[f"ra_{name}"]),
            np.asarray(matched.catalog[f"dec_{name}"]),
        )
        np.testing.assert_allclose(apart, matched.catalog["separation"] / 2, atol=1e-6)


def test_flat_columns(trees, matched):  # noqa: F811
    """The same values, side by side, each with its side's name."""
    flat = astropile.cross_match_datasets(trees.left, trees.right, flat=True).dataset
    nested = matched.dataset
    assert flat.column_names[:4] == nested.column_names[:4]
    assert set(flat.column_names[4:]) == {
        f"{field}_{name}" for name in ("toy", "other") for field in nested.features[name]
    }
    assert flat[3]["image_other"] == nested[3]["other"]["image"]
    assert flat.select_columns(["z_toy"])[5] == {"z_toy": nested[5]["toy"]["z"]}


def test_a_survey_with_itself(trees):  # noqa: F811
    """The sides are told apart by _left and _right."""
    catalog, dataset = astropile.cross_match_datasets(
        trees.left, trees.left, 0.0, left_columns=["object_id"], right_columns=["z"]
    )
    assert dataset.column_names == [
        *("ra", "dec", "healpix", "separation"),
        *("toy_left", "toy_right"),
    ]
    assert len(dataset) == N_LEFT
    assert dataset.features["toy_left"] == {"object_id": datasets.Value("int64")}
    assert set(catalog["separation"]) == {0.0}


def test_whatever_rows_come_from(trees, matched):  # noqa: F811
    """Paths, catalogs, lazy and plain datasets, even chosen rows, give the same pairs."""
    lazy = astropile.load_dataset(trees.left)
    plain = lazy.select_columns(["object_id", "ra", "dec", "z"])
    plain = datasets.Dataset(plain.with_format("arrow")[:])
    expected = matched.catalog["object_id_other"].tolist()
    for left in (trees.left, astropile.open_catalog(trees.left), lazy, plain):
        catalog, dataset = astropile.cross_match_datasets(left, str(trees.right))
        assert catalog["object_id_other"].tolist() == expected
        assert dataset[2]["other"] == matched.dataset[2]["other"]
    shuffled = lazy.shuffle(seed=1).select(range(30))
    catalog, dataset = astropile.cross_match_datasets(shuffled, trees.right, find="mutual")
    for row, object_id in zip(range(len(dataset)), catalog["object_id_toy"], strict=True):
        assert dataset[row]["toy"]["object_id"] == object_id
    again = astropile.cross_match_datasets(matched.dataset, trees.right, 2.0)
    assert len(again.dataset) == len(matched.dataset)
    assert again.dataset[0]["toy_other"]["toy"] == matched.dataset[0]["toy"]


def test_no_pairs_keep_the_whole_schema(trees, matched, tmp_path):  # noqa: F811
    """An empty result has every column and type, and is saved as such."""
    catalog, dataset = astropile.cross_match_datasets(trees.left, trees.right, 0.0)
    assert (len(catalog), len(dataset)) == (0, 0)
    assert catalog.colnames == matched.catalog.colnames
    assert catalog["ra"].unit == u.deg
    assert dataset.features == matched.dataset.features
    dataset.save_to_disk(tmp_path / "none", num_shards=1)
    assert datasets.load_from_disk(tmp_path / "none").features == dataset.features


@pytest.mark.parametrize("radius", [-1.0, float("nan"), float("inf"), "1", None, True, 1e9])
def test_a_wrong_radius_is_refused(trees, radius):  # noqa: F811
    """With what came."""
    with pytest.raises((MatchError, TypeError), match=r"radius"):
        astropile.cross_match_datasets(trees.left, trees.right, match_radius=radius)


def test_wrong_sides_are_refused(trees):  # noqa: F811
    """A side that is nothing of ours, or has no positions."""
    with pytest.raises(TypeError, match=r"the left side is a builder.*not int"):
        astropile.cross_match_datasets(3, trees.right)
    with pytest.raises(TypeError, match=r"the right side is a builder.*not IterableDataset"):
        astropile.cross_match_datasets(
            trees.left, astropile.load_dataset(trees.right, streaming=True)
        )
    no_positions = astropile.load_dataset(trees.right, columns=["z"])
    with pytest.raises(MatchError, match="the right side: expected columns ra and dec"):
        astropile.cross_match_datasets(trees.left, no_positions)


def test_matched_dataset_is_like_any_other(matched):
    """Shuffled, selected, copied and saved in pieces."""
    dataset = matched.dataset
    assert dataset.shuffle(seed=4).select([2])[0] == dataset.shuffle(seed=4)[2]
    assert copy.deepcopy(dataset)[1] == dataset[1]
    columns = dataset.select_columns(["separation", "other"]).rename_column("other", "x")
    assert columns[4]["x"] == dataset[4]["other"]
    assert digest(dataset.with_format("arrow")[:]) == digest(dataset.data.whole())


def test_lower_level_gives_row_numbers(trees, matched):  # noqa: F811
    """astropile.cross_match: rows of two catalogs and separations."""
    left, right = map(astropile.open_catalog, (trees.left, trees.right))
    pairs = astropile.cross_match(left, right, radius_arcsec=1.0)
    np.testing.assert_array_equal(pairs.left, matched.catalog["row_toy"])
    np.testing.assert_array_equal(pairs.right, matched.catalog["row_other"])
    np.testing.assert_array_equal(pairs.separation_arcsec, matched.catalog["separation"])
    everyone = astropile.cross_match(left, right, radius_arcsec=1.0, find="all")
    assert len(everyone) >= len(pairs)
