"""Rows that never were an Arrow table: the same values, dtypes and shapes as through one."""

import importlib
import pickle

import numpy as np
import pytest

import astropile
from astropile.arrow import to_numpy
from astropile.hf.formatting import AstroPileFormatter
from astropile.hf.values import ValueTable
from astropile.simulate.galaxies import make_galaxies
from hftrees import quiet, trees  # noqa: F401

SURVEYS = ("desi", "hsc", "manga", "sdss", "decals")


def assert_same(found, expected, where=""):
    assert type(found) is type(expected), where
    if isinstance(expected, dict):
        assert list(found) == list(expected), where
        for name, value in expected.items():
            assert_same(found[name], value, f"{where}.{name}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for number, (one, other) in enumerate(zip(found, expected, strict=True)):
            assert_same(one, other, f"{where}[{number}]")
    elif isinstance(expected, np.ndarray | np.generic):
        assert found.dtype == expected.dtype, where
        assert found.shape == expected.shape, where
        if isinstance(found, np.ndarray):
            assert not found.flags.writeable or expected.flags.writeable, where
        assert found.tobytes() == expected.tobytes(), where
    else:
        assert found == expected, where


def through_arrow(dataset, rows):
    table = dataset.with_format("arrow")[rows]
    return {name: to_numpy(table[name]) for name in table.column_names}


def check_rows(dataset, rows):
    """Batches, rows and fewer columns are what Arrow tables of them give."""
    ours = dataset.with_format("astropile")
    assert isinstance(ours._data.as_values, ValueTable)
    expected = through_arrow(dataset, rows)
    assert_same(ours[rows], expected)
    for place, row in enumerate(rows):
        assert_same(ours[row], {name: values[place] for name, values in expected.items()})
    for name in dataset.column_names:
        one = dataset.select_columns([name]).with_format("astropile")
        assert_same(one[rows], {name: expected[name]})


@pytest.mark.parametrize("name", SURVEYS)
def test_surveys_as_through_arrow(name, tmp_path):
    """Every column of simulated surveys."""
    native = tmp_path / "native"
    module = importlib.import_module(f"astropile.simulate.{name}")
    module.write(native, make_galaxies(2, seed=4), seed=1)
    astropile.build_catalog(name, native, tmp_path / "tree", tolerance=1, progress=False)
    dataset = astropile.load_dataset(tmp_path / "tree")
    check_rows(dataset, [len(dataset) - 1, 0, 0])


def test_every_kind_of_column_as_through_arrow(trees):  # noqa: F811
    """Shared, ragged, text, formulas, masks, records and lists of them; chosen and shuffled."""
    dataset = astropile.load_dataset(trees.left)
    check_rows(dataset, [7, 59, 7, 0])
    check_rows(dataset, list(range(20)))
    check_rows(dataset.shuffle(seed=1).select(range(5, 25)), [3, 0, 19])
    check_rows(dataset.rename_column("image", "picture"), [2, 1])
    check_rows(pickle.loads(pickle.dumps(dataset)), [1])


def test_rows_one_after_another(trees):  # noqa: F811
    """Iteration and batches give the rows that their numbers give."""
    ours = astropile.load_dataset(trees.left).with_format("astropile")
    for number, row in enumerate(ours):
        assert_same(row, ours[number])
    assert number == len(ours) - 1
    batches = list(ours.iter(25, drop_last_batch=True))
    assert [len(batch["ra"]) for batch in batches] == [25, 25]
    assert_same(batches[1], ours[25:50])
    assert [len(batch["ra"]) for batch in ours.iter(25)] == [25, 25, 10]


def test_keys_mean_what_they_mean_to_datasets(trees):  # noqa: F811
    """Negative numbers, slices, ranges, no row; what is no row is refused as before."""
    dataset = astropile.load_dataset(trees.left)
    ours = dataset.with_format("astropile")
    for key in (
        slice(3, 9, 2),
        slice(-3, None),
        range(4),
        range(9, 2, -3),
        [],
        [-1, 5],
        slice(5, 5),
    ):
        assert_same(ours[key], through_arrow(dataset, key))
    assert_same(ours[-1], ours[len(ours) - 1])
    for bad in (len(ours), -len(ours) - 1, [0, len(ours)]):
        with pytest.raises(IndexError):
            ours[bad]
    with pytest.raises(TypeError):
        ours[True]


def test_other_columns_and_types_go_through_arrow(trees):  # noqa: F811
    """Format columns, all columns beside them, casts: the same values as without the short way."""
    import datasets

    dataset = astropile.load_dataset(trees.left)
    few = dataset.with_format("astropile", columns=["z", "image"])
    assert_same(
        few[3], {name: dataset.with_format("astropile")[3][name] for name in ("z", "image")}
    )
    assert_same([dict(row) for row in few][4], few[4])
    both = dataset.with_format("astropile", columns=["z"], output_all_columns=True)[3]
    assert set(both) == set(dataset.column_names)
    assert isinstance(both["spectrum"]["flux"], list)
    wide = dataset.cast_column("z", datasets.Value("float64")).with_format("astropile")
    assert wide._data.as_values is None
    assert wide[3]["z"].dtype == np.float64


def test_formatter_of_arrow_tables(trees):  # noqa: F811
    """The formatter still takes the Arrow tables that streams and functions of rows hand it."""
    dataset = astropile.load_dataset(trees.left)
    table = dataset.with_format("arrow")[2:4]
    ours = dataset.with_format("astropile")
    assert_same(ours[2:4], AstroPileFormatter().format_batch(table))
    assert_same(ours[2], AstroPileFormatter().format_row(table))
