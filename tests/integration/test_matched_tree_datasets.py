"""What `cross_match_datasets` gave, saved as a tree: datasets, chosen fields, kinds of data."""

import importlib

import numpy as np
import pytest

import astropile
from astropile.errors import LicenceWarning, UnknownColumnError
from astropile.simulate.galaxies import make_galaxies
from hftrees import quiet, trees  # noqa: F401


@pytest.fixture(scope="module")
def sky(tmp_path_factory):
    """Cubes, images and spectra of a few simulated galaxies."""
    folder = tmp_path_factory.mktemp("sky")
    galaxies = make_galaxies(3, seed=4)
    for name in ("manga", "decals", "desi"):
        native = folder / "native" / name
        importlib.import_module(f"astropile.simulate.{name}").write(native, galaxies, seed=1)
        astropile.build_catalog(name, native, folder / name, tolerance=1, progress=False)
    return folder


def same_as_source(tree, side, source):
    """Compare every native value of a side with its source, to the bit; give the rows there."""
    found = tree.take(np.arange(len(tree)))
    there = np.flatnonzero(found[f"has_{side}"])
    native = source.take(found[f"row_{side}"][there])
    for column in source.survey.columns:
        values, expected = found[f"{side}.{column.name}"], native[column.name]
        if column.shared:
            assert values.tobytes() == expected.tobytes()
            continue
        for place, row in zip(there, range(len(there)), strict=True):
            one, other = np.asarray(values[int(place)]), np.asarray(expected[row])
            assert (one.shape, one.dtype) == (other.shape, other.dtype), column.name
            assert one.tobytes() == other.tobytes(), column.name
    return len(there)


def test_cubes_images_and_spectra(sky, tmp_path):
    """An IFU survey, an imaging one and a spectroscopic one in one tree, valid, to the bit."""
    names = ("manga", "decals", "desi")
    matched = astropile.cross_match_datasets(*(sky / name for name in names), join="outer")
    with pytest.warns(LicenceWarning, match="manga: licence not known; decals"):
        report = matched.save_tree(tmp_path / "three", progress=False)
    report = astropile.validate_catalog(report.path)
    assert report.ok, [str(problem) for problem in report.problems]
    tree = astropile.open_catalog(report.path)
    for name in names:
        source = astropile.open_catalog(sky / name)
        assert same_as_source(tree, name, source) >= len(source)
    row = np.flatnonzero(tree.light(["has_manga"])["has_manga"].to_numpy())[:1]
    at = tree.take(row, ["row_manga"])["row_manga"]
    source = astropile.open_catalog(sky / "manga")
    for name in set(source.survey.aliases) - {"object_id", "observation_id", "ra", "dec"}:
        mine = tree.standard(row, [f"{name}_manga"]).column(0).to_pylist()
        # As text, in which one NaN is like another.
        assert repr(mine) == repr(source.standard(at, [name]).column(0).to_pylist()), name


def view(tree):
    return set(tree.survey.aliases)


def test_rows_of_a_dataset_and_chosen_fields(trees, tmp_path):  # noqa: F811
    """A filtered dataset brings its objects' native columns; chosen fields bring only theirs."""
    some = astropile.load_dataset(trees.left).select(range(5, 25))
    matched = astropile.cross_match_datasets(
        some, trees.right, join="left", right_columns=["object_id", "image", "z"]
    )
    path = matched.save_tree(tmp_path / "some", progress=False).path
    report = astropile.validate_catalog(path)
    assert report.ok, [str(problem) for problem in report.problems]
    tree, source = astropile.open_catalog(path), astropile.open_catalog(trees.left)
    found = tree.take(np.arange(len(tree)), ["row_toy", "toy.IMAGE"])
    expected = source.take(found["row_toy"] + 5, ["IMAGE"])["IMAGE"]
    assert found["toy.IMAGE"].tobytes() == expected.tobytes()
    brought = {name for name in tree.survey.column_names if name.startswith("other.")}
    assert brought == {
        *("other.ID", "other.Z", "other.IMAGE", "other.IMAGE_MASK", "other.PSF"),
        *("other.A_G", "other.A_R"),
    }
    assert {name for name in view(tree) if name.endswith("_other")} == {
        *("object_id_other", "image_other", "z_other"),
    }
    with pytest.raises(UnknownColumnError):
        astropile.cross_match_datasets(some, trees.right, right_columns=["nothing"])


def test_epochs_of_two_datasets(tmp_path):
    """Objects are matched where they were seen, and the tree says so."""
    gaia = {"ra": [10.0, 20.0], "dec": [0.0, 0.0], "pmra": [0.0, 0.0], "pmdec": [5000.0, 0.0]}
    old = {"ra": [10.0, 20.0], "dec": [-80 / 3600, 0.0]}
    still, _ = astropile.cross_match_datasets(gaia, old)
    assert still["row_table_left"].tolist() == [1]
    matched = astropile.cross_match_datasets(
        gaia, old, epochs={"table_left": 2016.0, "table_right": 2000.0}
    )
    assert matched.catalog["row_table_left"].tolist() == [0, 1]
    assert matched.catalog.meta["epochs"] == {"table_left": 2016.0, "table_right": 2000.0}
    with pytest.warns(LicenceWarning):
        path = matched.save_tree(tmp_path / "moving", progress=False).path
    told = astropile.open_catalog(path).survey.description
    assert "moved to where they were seen: table_left of 2016.0" in told
