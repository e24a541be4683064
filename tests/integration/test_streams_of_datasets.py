"""`load_dataset(streaming=True)` in training: ranks, resume, formats."""

import datasets
import numpy as np
import pytest
from datasets.distributed import split_dataset_by_node

import astropile
from hftrees import N_LEFT, trees  # noqa: F401


@pytest.fixture(scope="module")
def tree(trees):  # noqa: F811
    return trees.left


def opened(tree, columns=("object_id", "spectrum")):
    return astropile.load_dataset(tree, columns=list(columns), streaming=True)


def ids_of(stream):
    return [int(row["object_id"]) for row in stream]


@pytest.mark.parametrize("world_size", [1, 2, 3, 5, 7])
def test_ranks_have_every_row_once(tree, world_size):
    """`split_dataset_by_node` over any number of ranks, whether or not it divides the shards."""
    stream = opened(tree)
    seen = [
        one
        for rank in range(world_size)
        for one in ids_of(split_dataset_by_node(stream, rank, world_size))
    ]
    assert len(seen) == N_LEFT
    assert sorted(seen) == sorted(ids_of(stream))


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_a_rank_goes_on_where_it_was(tree, world_size):
    """From its state after any row, the same rank of as many gives the rows that are left."""
    for rank in range(world_size):
        stream = split_dataset_by_node(opened(tree), rank, world_size)
        whole = ids_of(stream)
        for done in (0, 1, len(whole) // 2, len(whole) - 1):
            rows = iter(stream)
            first = [int(next(rows)["object_id"]) for _ in range(done)]
            again = split_dataset_by_node(opened(tree), rank, world_size)
            again.load_state_dict(stream.state_dict() if done else again.state_dict())
            assert first + ids_of(again) == whole


def test_a_shuffled_dataset_forgets_its_buffer(tree):
    """What the page on training says: shuffled by `datasets`, a stream is not resumed exactly."""
    stream = opened(tree).shuffle(seed=2, buffer_size=7)
    rows = iter(stream)
    first = [int(next(rows)["object_id"]) for _ in range(N_LEFT // 2)]
    again = opened(tree).shuffle(seed=2, buffer_size=7)
    again.load_state_dict(stream.state_dict())
    rest = ids_of(again)
    assert sorted(first + rest) != sorted(ids_of(opened(tree)))


def test_formats_of_a_stream(tree):
    """`"astropile"` keeps the stored dtypes; `"numpy"` of datasets gives the same values."""
    row = next(iter(opened(tree).with_format("astropile")))
    assert row["spectrum"]["lambda"].dtype == np.float64
    assert row["spectrum"]["flux"].dtype == np.float32
    other = next(iter(opened(tree).with_format("numpy")))
    assert np.array_equal(other["spectrum"]["flux"], row["spectrum"]["flux"])
    torch = pytest.importorskip("torch")
    tensors = next(iter(opened(tree).with_format("astropile-torch")))
    assert tensors["spectrum"]["lambda"].dtype == torch.float64
    assert np.array_equal(tensors["spectrum"]["lambda"].numpy(), row["spectrum"]["lambda"])


def test_interleaved_streams(trees):  # noqa: F811
    """Two surveys by probability, until all rows of both came."""
    left, right = (opened(path, ["object_id"]) for path in (trees.left, trees.right))
    mixed = datasets.interleave_datasets(
        [left, right],
        probabilities=[0.5, 0.5],
        seed=1,
        stopping_strategy="all_exhausted_without_replacement",
    )
    assert sorted(ids_of(mixed)) == sorted([*ids_of(left), *ids_of(right)])
