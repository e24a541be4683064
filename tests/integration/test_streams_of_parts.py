"""Streams of what splits, filters and matches of lazy datasets give."""

import datasets
import numpy as np
import pytest

import astropile
from astropile.errors import SampleError
from astropile.splits import SkySplits, split_dataset, split_match
from astropile.streams import Stream
from hftrees import trees  # noqa: F401

PLAN = SkySplits({"train": 0.5, "test": 0.5}, order=10, seed=1)


@pytest.fixture(scope="module")
def left(trees):  # noqa: F811
    return astropile.load_dataset(trees.left)


@pytest.fixture(scope="module")
def matched(trees):  # noqa: F811
    return astropile.cross_match_datasets(trees.left, trees.right, match_radius=1.0, join="left")


def together(stream, name):
    return np.concatenate([np.array(batch[name]) for batch in stream]).tolist()


def ids(dataset):
    return list(dataset["object_id"])


def test_the_parts_of_a_split(left):
    """Each part of a split is streamed without the others: its rows, in its order."""
    parts = split_dataset(left, PLAN)
    assert sum(map(len, parts.values())) == len(left)
    for part in parts.values():
        assert len(part)
        stream = Stream(part, ["object_id"], batch_size=3, shuffle=None)
        assert together(stream, "object_id") == ids(part)
        shuffled = Stream(part, ["object_id"], batch_size=3, seed=1)
        assert sorted(together(shuffled, "object_id")) == sorted(ids(part))


def test_rows_are_chosen_of_chosen_rows(left):
    """`filter`, `shuffle`, `select` and `rows=` one after another go back to rows of the tree."""
    some = left.select(range(2, 20)).shuffle(seed=3).filter(lambda row: row["ra"] > 0)
    assert len(some) > 3
    stream = Stream(some, ["object_id"], batch_size=2, shuffle=None, rows=[3, 0])
    assert together(stream, "object_id") == ids(some.select([3, 0]))


def test_columns_of_a_dataset(left):
    """Chosen columns are the stream's; all of them are all native columns, as of the tree."""
    few = left.select_columns(["object_id", "ra"])
    assert set(next(iter(Stream(few, batch_size=2)))) == {"object_id", "ra"}
    whole = next(iter(Stream(left, batch_size=2)))
    assert set(whole) == {column.name for column in left.data.source.survey.columns}


def test_other_rows_are_other_data(left, trees):  # noqa: F811
    """A whole dataset goes on where the tree's stream stood; a part of it refuses the state."""
    tree = Stream(trees.left, ["ra"], batch_size=2)
    iterator = iter(tree)
    next(iterator)
    iterator.close()
    Stream(left, ["ra"], batch_size=2).load_state_dict(tree.state_dict())
    part = Stream(left.select(range(5)), ["ra"], batch_size=2)
    with pytest.raises(SampleError, match="state"):
        part.load_state_dict(tree.state_dict())


@pytest.mark.parametrize("of_dataset", [False, True])
def test_the_parts_of_a_match(matched, of_dataset):
    """A part of a match, as it is or its dataset, has its pairs; who is absent is told."""
    parts = split_match(matched, PLAN)
    names = list(matched.sample.sides)
    columns = {name: ["object_id"] for name in names}
    for part in parts.values():
        assert len(part.sample) == len(part.dataset) == len(part.catalog)
        source = part.dataset if of_dataset else part
        stream = Stream(source, columns, batch_size=3, shuffle=None)
        for name in names:
            there = [row[name] is not None for row in part.dataset.select_columns([name])]
            assert together(stream, f"{name}.present") == there
            found = together(stream, f"{name}.object_id")
            expected = [row[name]["object_id"] for row in part.dataset if row[name]]
            assert [one for one, is_in in zip(found, there, strict=True) if is_in] == expected


def test_a_match_of_a_part(left, trees):  # noqa: F811
    """A match with some rows of a tree is streamed by those rows."""
    some = left.select(range(len(left) - 1, 0, -2))
    matched = astropile.cross_match_datasets(some, trees.right, match_radius=1.0)
    name = next(iter(matched.sample.sides))
    stream = Stream(matched, {name: ["object_id"]}, batch_size=3, shuffle=None)
    expected = [row[name]["object_id"] for row in matched.dataset]
    assert expected
    assert together(stream, f"{name}.object_id") == expected


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda d: d.rename_column("ra", "right"), "not read from there"),
        (lambda d: d.map(lambda row: {"one": 1.0 + row["ra"]}), "not read from there"),
        (lambda d: d.cast_column("ra", datasets.Value("float32")), "not read from there"),
        (lambda d: datasets.concatenate_datasets([d, d]), "not read from there"),
        (lambda d: datasets.DatasetDict(train=d), "found DatasetDict"),
        (lambda _: datasets.Dataset.from_dict({"ra": [1.0]}), "not read from there"),
    ],
)
def test_other_values_than_the_trees_are_refused(left, change, found):
    """What is not read from one tree as it is has no rows that a stream could read."""
    with pytest.raises(SampleError, match=found):
        Stream(change(left), batch_size=2)
