"""Orders, sharing and reading ahead: the arithmetic of streams, without any data."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astropile.errors import SampleError
from astropile.streams.ahead import read_ahead
from astropile.streams.order import BlockShuffled, InOrder, Shuffled, permute
from astropile.streams.sharing import Share

sizes = st.one_of(st.integers(1, 40), st.integers(41, 5000), st.sampled_from([65536, 65537, 70001]))
keys = st.integers(0, 2**64 - 1)


@settings(deadline=None)
@given(sizes, keys)
def test_a_permutation_is_one(n, key):
    """Every number comes out once, with few items and with many."""
    found = permute(np.arange(n), n, key)
    assert np.array_equal(np.sort(found), np.arange(n))


@settings(deadline=None)
@given(sizes, keys, st.data())
def test_a_place_does_not_depend_on_what_else_is_asked(n, key, data):
    """Any position alone gives what it gives among all."""
    position = data.draw(st.integers(0, n - 1))
    whole = permute(np.arange(n), n, key)
    assert permute(np.array([position]), n, key)[0] == whole[position]


def test_a_permutation_never_changes():
    """States written today are read by later versions: the order is as it was first made."""
    assert permute(np.arange(8), 8, 1).tolist() == SMALL
    assert permute(np.arange(4), 10**9, 1).tolist() == LARGE


@pytest.mark.parametrize("n", [200, 100_000])
def test_places_are_uniform(n):
    """
    Over many keys an item is as likely in any tenth of the epoch, its neighbour independently.

    Chi squared of 10 x 10 cells has 99 degrees of freedom: beyond 160 in 1 of 10,000 cases.
    """
    pairs = np.array([permute(np.array([3, 4]), n, key) for key in range(4000)]) * 10 // n
    counts = np.histogram2d(*pairs.T, bins=[range(11), range(11)])[0]
    expected = len(pairs) / 100
    assert np.sum((counts - expected) ** 2) / expected < 160


def test_a_long_permutation_has_no_pattern():
    """Consecutive positions of 2^20 + 1 rows differ as those of random ones: by a third of n."""
    n = 2**20 + 1
    rows = permute(np.arange(n), n, 7)
    assert abs(np.mean(np.abs(np.diff(rows))) / n - 1 / 3) < 0.002
    assert abs(np.corrcoef(rows[:-1], rows[1:])[0, 1]) < 0.005
    assert np.sum(rows == np.arange(n)) < 8


def test_a_billion_rows_take_no_memory():
    """Positions of an epoch of 10^9 rows are found at once, far apart and different."""
    order = Shuffled(10**9, key=5)
    rows = order.rows(np.arange(10**9 - 1000, 10**9))
    assert len(set(rows.tolist())) == 1000
    assert rows.min() >= 0
    assert 4e8 < rows.mean() < 6e8


@settings(deadline=None)
@given(st.integers(1, 3000), keys, st.integers(1, 400), st.integers(1, 9))
def test_blocks_hold_every_row_once(n, key, block_rows, pool_blocks):
    """Whatever the sizes of blocks and pools."""
    order = BlockShuffled(n, key, block_rows, pool_blocks)
    assert np.array_equal(np.sort(order.rows(np.arange(n))), np.arange(n))


def test_a_pool_is_a_few_runs_of_rows():
    """A pool of 4 blocks of 50 rows is 4 runs of 50 consecutive rows, in mixed order."""
    order = BlockShuffled(1000, 3, block_rows=50, pool_blocks=4)
    for pool in range(5):
        rows = order.rows(np.arange(200 * pool, 200 * (pool + 1)))
        runs = np.flatnonzero(np.diff(np.sort(rows)) != 1)
        wraps = 0 in rows and 999 in rows
        assert len(runs) + 1 <= 4 + wraps
        assert np.mean(np.diff(rows) == 1) < 0.1
    assert order.pool(199) == 0
    assert order.pool(200) == 1


def test_in_order():
    """Without a shuffle, rows are positions."""
    assert InOrder(5).rows(np.arange(5)).tolist() == [0, 1, 2, 3, 4]


@settings(deadline=None)
@given(st.integers(0, 300), st.integers(1, 20), st.integers(1, 12), st.data())
def test_ranks_share_what_is_left(n, batch_size, world_size, data):
    """From any position, `keep` deals out each once, `drop` and `pad` as much to each rank."""
    position = data.draw(st.integers(0, n))
    dealt = {}
    for last in ("keep", "drop", "pad"):
        shares = [Share(batch_size, rank, world_size, last) for rank in range(world_size)]
        steps = [list(share.steps(n, 0, position)) for share in shares]
        assert {len(own) for own in steps} == {shares[0].n_steps(n, position)}
        dealt[last] = [p for own in steps for s in own for p in range(s.first, s.last)]
        if last != "keep":
            assert {s.last - s.first for own in steps for s in own} <= {batch_size}
        else:
            for at in zip(*steps, strict=True):
                sizes = [step.last - step.first for step in at]
                assert max(sizes) - min(sizes) <= 1
        for own in steps:
            assert not own or own[-1].after == n
    assert sorted(dealt["keep"]) == list(range(position, n))
    share = Share(batch_size, 0, world_size, "drop")
    assert sorted(dealt["drop"]) == list(range(position, n - share.n_dropped(n, position)))
    share = Share(batch_size, 0, world_size, "pad")
    repeated = share.n_repeated(n, position)
    assert repeated < batch_size * world_size
    assert sorted(dealt["pad"]) == list(range(position, n + repeated))


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch_size": 0},
        {"batch_size": 1, "world_size": 0},
        {"batch_size": 1, "rank": 2, "world_size": 2},
        {"batch_size": 1, "rank": -1},
        {"batch_size": 1, "last": "skip"},
    ],
)
def test_shares_that_cannot_be(wrong):
    """A sentence says what is wrong."""
    with pytest.raises(SampleError, match=r"expected .*, found"):
        Share(**wrong)


def running():
    return [one.name for one in threading.enumerate() if one.name.startswith("astropile-stream")]


def test_read_ahead_keeps_the_order():
    """Results come in order whichever is ready first, and no room is used by two at once."""
    gates = [threading.Event() for _ in range(4)]
    gates[0].set()
    held = []

    def task(i):
        def run(number):
            if i < 4:
                gates[i].wait(10)
                if i:
                    gates[i - 1].set()
            return i, number

        return run

    gates[2].set()
    gates[3].set()
    gates[1].set()
    for i, (found, room) in enumerate(
        read_ahead([task(i) for i in range(20)], prefetch=3, threads=3)
    ):
        assert found == i
        assert room not in held[-3:]
        held.append(room)
    assert sorted(set(held)) == [0, 1, 2, 3]
    assert not running()


def test_reading_overlaps_with_training():
    """While one batch is used, the next two are read already."""
    started = [threading.Event() for _ in range(5)]

    def task(i):
        return lambda number: started[i].set() or i

    found = read_ahead([task(i) for i in range(5)], prefetch=2)
    assert next(found) == 0
    assert started[1].wait(10)
    assert started[2].wait(10)
    assert not started[3].is_set()
    assert next(found) == 1
    assert started[3].wait(10)
    found.close()
    assert not running()


def test_an_error_comes_in_its_place():
    """What was read before it is given out; then the error; then no thread is left."""

    def fail(number):
        raise ValueError("the third")

    found = read_ahead([lambda n: 1, lambda n: 2, fail, lambda n: 4], prefetch=2)
    assert [next(found), next(found)] == [1, 2]
    with pytest.raises(ValueError, match="the third"):
        next(found)
    assert not running()


SMALL = [0, 6, 7, 4, 2, 5, 1, 3]
LARGE = [741429079, 874179341, 385572611, 173357381]
