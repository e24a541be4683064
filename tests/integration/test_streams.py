"""Streams of a tree and of a match: every row once, whoever reads, exactly resumed."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import weakref

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import astropile
import toy
from astropile.errors import FormatError, SampleError, UnknownColumnError
from astropile.match.sample import match_surveys
from astropile.streams import Mixture, Stream
from astropile.testing.server import serve
from hftrees import N_LEFT, build, trees  # noqa: F401

ORDERS = [
    {"shuffle": "full"},
    {"shuffle": "blocks", "block_rows": 5, "pool_blocks": 3},
    {"shuffle": None},
]


@pytest.fixture(scope="module")
def left(trees):  # noqa: F811
    return astropile.open_catalog(trees.left)


@pytest.fixture(scope="module")
def right(trees):  # noqa: F811
    return astropile.open_catalog(trees.right)


def ids_of(batches, name="ID"):
    """Identifiers of batches, copied before their memory is used again."""
    return [batch[name].tolist() for batch in batches]


def flat(lists):
    return [one for each in lists for one in each]


@pytest.mark.parametrize("order", ORDERS, ids=str)
@pytest.mark.parametrize("prefetch", [0, 2])
def test_every_row_once_with_its_own_values(left, order, prefetch):
    """Native, computed, shared and ragged columns of a row stand together, in any order."""
    columns = ["ID", "FLUX", "mag", "spectrum", "image.mask", "LC_TIME", "STAMP", "NAME"]
    expected = left.take(np.arange(len(left)))
    row_of = {one: row for row, one in enumerate(expected["ID"].tolist())}
    stream = Stream(left, columns, batch_size=7, prefetch=prefetch, **order)
    seen = []
    for batch in stream:
        rows = [row_of[one] for one in batch["ID"].tolist()]
        seen += rows
        assert np.array_equal(batch["FLUX"], expected["FLUX"][rows])
        assert np.array_equal(batch["spectrum.flux"], expected["FLUX"][rows])
        assert np.array_equal(batch["spectrum.lambda"], np.tile(expected["WAVE"], (len(rows), 1)))
        assert np.array_equal(batch["spectrum.extra.good"], expected["GOOD"][rows])
        assert np.array_equal(batch["image.mask"], expected["IMAGE_MASK"][rows] & 3 != 0)
        with np.errstate(invalid="ignore"):
            mag = 22.5 - 2.5 * np.log10(expected["FLUX_R"][rows]) - expected["A_R"][rows]
        assert np.allclose(batch["mag"], mag, rtol=1e-6, equal_nan=True)
        assert np.array_equal(batch["NAME"], expected["NAME"][rows])
        for name in ("LC_TIME", "STAMP"):
            for place, row in enumerate(rows):
                assert np.array_equal(batch[name][place], expected[name][row])
    assert sorted(seen) == list(range(len(left)))
    assert (seen == sorted(seen)) == (order["shuffle"] is None)
    assert (stream.epoch, stream.position) == (1, 0)


def test_default_columns_are_the_native_ones(left):
    """As `Catalog.take`."""
    batch = next(iter(Stream(left, batch_size=3)))
    assert tuple(batch) == left.survey.column_names


def test_records_with_the_standard_view(left):
    """Fields of a record are the values that the standard view gives."""
    stream = Stream(left, ["image", "lightcurve"], batch_size=len(left), shuffle=None)
    batch = next(iter(stream))
    rows = astropile.load_dataset(left.path).with_format("astropile")
    for row in range(0, len(left), 17):
        images = rows[row]["image"]
        assert len(images) == 2
        for band, image in enumerate(images):
            assert np.array_equal(batch["image.array"][row, band], image["array"])
            assert np.array_equal(batch["image.mask"][row, band], image["mask"])
            assert batch["image.filter"][row, band].decode() == image["filter"]
            assert batch["image.extinction"][row, band] == image["extinction"]
            assert batch["image.pixel_size"][row] == image["pixel_size"]
        assert np.array_equal(batch["lightcurve.time"][row], rows[row]["lightcurve"]["time"])


def test_epochs_differ_and_repeat(left):
    """Each epoch has an order of its own, which seed and epoch alone decide."""
    stream = Stream(left, ["ID"], batch_size=16, seed=3)
    first, second = flat(ids_of(stream)), flat(ids_of(stream))
    assert first != second
    assert sorted(first) == sorted(second)
    again = Stream(left, ["ID"], batch_size=5, seed=3)
    again.set_epoch(1)
    assert flat(ids_of(again)) == second
    assert flat(ids_of(Stream(left, ["ID"], batch_size=5, seed=4))) != first


def test_chosen_rows(left):
    """Only the rows of a split come, each once."""
    rows = np.arange(3, len(left), 4)
    stream = Stream(left, ["ID"], batch_size=4, rows=rows)
    assert sorted(flat(ids_of(stream))) == sorted(left.take(rows, ["ID"])["ID"].tolist())


@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_ranks_and_workers_share_every_row_once(left, data):
    """The union over ranks and workers is all rows, also of fewer rows than ranks."""
    n = data.draw(st.integers(0, N_LEFT))
    batch_size = data.draw(st.integers(1, 20))
    world_size, n_workers = data.draw(st.integers(1, 7)), data.draw(st.integers(1, 4))
    order = data.draw(st.sampled_from(ORDERS))
    stream = Stream(
        left, ["ID"], batch_size=batch_size, rows=np.arange(n), last="keep", prefetch=0, **order
    )
    seen = []
    for rank in range(world_size):
        own = stream.with_share(rank, world_size)
        whole = ids_of(own)
        assert len(whole) == len(own)
        parts = [
            [batch["ID"].tolist() for _, batch in own.part((0, 0), (worker, n_workers), fresh=True)]
            for worker in range(n_workers)
        ]
        # Taken in turn, the workers' batches are the rank's.
        assert [parts[i % n_workers][i // n_workers] for i in range(len(whole))] == whole
        seen += flat(whole)
    assert sorted(seen) == sorted(left.take(np.arange(n), ["ID"])["ID"].tolist())


@pytest.mark.parametrize("last", ["drop", "pad"])
def test_ranks_have_as_many_batches(left, last):
    """`drop` and `pad` give all ranks as many whole batches, and count what they do."""
    streams = [
        Stream(left, ["ID"], batch_size=8, rank=r, world_size=4, last=last) for r in range(4)
    ]
    found = [ids_of(stream) for stream in streams]
    assert {len(batch) for own in found for batch in own} == {8}
    assert [len(own) for own in found] == [len(stream) for stream in streams]
    seen = flat(flat(found))
    stream = streams[0]
    assert len(seen) == len(left) - stream.n_dropped + stream.n_repeated
    assert len(set(seen)) == len(left) - stream.n_dropped
    assert (stream.n_dropped > 0, stream.n_repeated > 0) == (last == "drop", last == "pad")


def test_several_ranks_pad_by_default(left):
    """So that training together does not wait for a batch that never comes."""
    assert Stream(left, ["ID"], batch_size=8, world_size=3).share.last == "pad"
    assert Stream(left, ["ID"], batch_size=8).share.last == "keep"


@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_resumed_exactly_by_other_ranks(left, data):
    """After any batch, any ranks with any batch size read on: no row twice, none left out."""
    order = data.draw(st.sampled_from(ORDERS))
    options = {"columns": ["ID"], "last": "keep", "prefetch": 0, "seed": 9, **order}
    before, after = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 5))
    size, other = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9))
    first = Stream(left, batch_size=size, **options)
    n_steps = data.draw(st.integers(0, first.with_share(0, before).share.n_steps(len(left)) - 1))
    first.set_epoch(2)
    seen, states = [], []
    for rank in range(before):
        stream = first.with_share(rank, before)
        reading = iter(stream)
        seen += flat(next(reading)["ID"].tolist() for _ in range(n_steps))
        states.append(json.dumps(stream.state_dict()))
        reading.close()
    assert len(set(states)) == 1
    assert len(seen) == n_steps * size * before
    for rank in range(after):
        stream = Stream(left, batch_size=other, rank=rank, world_size=after, **options)
        stream.load_state_dict(json.loads(states[0]))
        seen += flat(ids_of(stream))
        assert (stream.epoch, stream.position) == (3, 0)
    assert sorted(seen) == sorted(left.take(np.arange(len(left)), ["ID"])["ID"].tolist())


@pytest.mark.parametrize("order", ORDERS, ids=str)
def test_resumed_batch_by_batch(left, order):
    """From the state after any batch of two epochs, the same batches follow."""
    make = lambda: Stream(left, ["ID"], batch_size=9, prefetch=2, **order)  # noqa: E731
    stream, batches, states = make(), [], []
    states.append(stream.state_dict())
    for _ in range(2):
        for batch in stream:
            batches.append(batch["ID"].tolist())
            states.append(stream.state_dict())
    for done in (0, 1, len(batches) // 2 - 1, len(batches) // 2, len(batches) - 1):
        again = make()
        again.load_state_dict(states[done])
        found = ids_of(again)
        if again.epoch < 2:
            found += ids_of(again)
        assert found == batches[done:]


@pytest.mark.parametrize("order", ORDERS, ids=str)
def test_resumed_at_any_row(left, order):
    """From each position there is, the rows that come are those that stand there and after."""
    stream = Stream(left, ["ID"], batch_size=13, prefetch=0, **order)
    whole = flat(ids_of(stream))
    for position in range(len(left) + 1):
        stream.load_state_dict({**stream.state_dict(), "epoch": 0, "position": position})
        assert flat(ids_of(stream)) == whole[position:]


def test_iterating_anew_begins_the_epoch_anew(left):
    """A look at the first batch costs no row; a state that was loaded is used once."""
    stream = Stream(left, ["ID"], batch_size=9)
    first = next(iter(stream))["ID"].tolist()
    whole = ids_of(stream)
    assert whole[0] == first
    stream = Stream(left, ["ID"], batch_size=9)
    reading = iter(stream)
    next(reading)
    state = stream.state_dict()
    reading.close()
    stream.load_state_dict(state)
    assert next(iter(stream))["ID"].tolist() == whole[1]
    assert next(iter(stream))["ID"].tolist() == whole[0]


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 1},
        {"shuffle": None},
        {"shuffle": "blocks"},
        {"rows": [1, 2, 3]},
    ],
    ids=str,
)
def test_a_state_of_another_order_is_refused(left, other):
    """A position means another row there."""
    state = Stream(left, ["ID"], batch_size=4).state_dict()
    with pytest.raises(SampleError, match=r"state\['(order|rows)'\]: expected"):
        Stream(left, ["ID"], batch_size=4, **other).load_state_dict(state)


def test_a_state_of_other_data_is_refused(left, right):
    """The snapshot is part of the state; what is no state at all is refused too."""
    stream = Stream(left, ["ID"], batch_size=4)
    with pytest.raises(SampleError, match=r"state\['data'\]: expected"):
        stream.load_state_dict(Stream(right, ["ID"], batch_size=4).state_dict())
    with pytest.raises(SampleError, match=r"state\['version'\]"):
        stream.load_state_dict({})
    for wrong in ({"epoch": -1}, {"position": len(left) + 1}, {"position": "a"}):
        with pytest.raises(SampleError, match=f"state\\['{next(iter(wrong))}'\\]"):
            stream.load_state_dict({**stream.state_dict(), **wrong})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"batch_size": 0}, "batch_size: expected a whole number, at least 1, found 0"),
        ({"shuffle": "some"}, "shuffle: expected 'full' or 'blocks' or None, found 'some'"),
        ({"format": "tf"}, "format: expected 'numpy' or 'torch'"),
        ({"prefetch": -1}, "prefetch: expected a whole number, at least 0"),
        ({"threads": 0}, "threads: expected"),
        ({"pin_memory": True}, "pin_memory: expected format='torch'"),
        ({"rows": [0, 10**6]}, "rows: expected numbers from 0 to"),
        ({"rows": [0.5]}, "rows: expected row numbers"),
        ({"shuffle": "blocks", "block_rows": 0}, "block_rows: expected at least 1"),
        ({"columns": {"toy": ["ID"]}}, "columns: expected names of columns"),
        ({"batch_size": "4"}, "batch_size: expected a whole number, at least 1, found '4'"),
        ({"rank": "0"}, "rank: expected a whole number, at least 0, found '0'"),
        ({"seed": "a"}, "seed: expected a whole number, found 'a'"),
        ({"transform": 3}, "transform: expected a function of a batch, found 3"),
    ],
)
def test_arguments_that_cannot_be(left, wrong, message):
    """A sentence says what was expected and what came, before anything is read."""
    with pytest.raises(SampleError, match=message):
        Stream(left, **{"batch_size": 4, **wrong})


def test_columns_that_are_not_there(left):
    """The nearest name is told, of fields too."""
    with pytest.raises(UnknownColumnError, match=r"did you mean 'spectrum.flux'"):
        Stream(left, ["spectrum.flx"], batch_size=4)
    with pytest.raises(TypeError, match=r"as \['ID'\]"):
        Stream(left, "ID", batch_size=4)
    with pytest.raises(SampleError, match=r"a match, or a datasets\.Dataset of one, found int"):
        Stream(5, batch_size=4)


# --------------------------------------------------------------------------------------
# Memory


def test_memory_is_used_again(left):
    """Batches of stored columns lie in prefetch + 1 places; the present one is left alone."""
    stream = Stream(left, ["FLUX", "ID"], batch_size=5, prefetch=2)
    places, held = set(), None
    for batch in stream:
        if len(batch["ID"]) == 5:
            places.add(batch["FLUX"].ctypes.data)
        held = batch["FLUX"].copy()
        time.sleep(0.002)
        assert np.array_equal(batch["FLUX"], held)
    assert len(places) == 3


def test_batches_of_their_own(left):
    """With `copy` a batch can be kept: nothing is written into it later."""
    expected = left.take(np.arange(len(left)), ["ID", "FLUX"])
    row_of = {one: row for row, one in enumerate(expected["ID"].tolist())}
    for order in ORDERS:
        kept = list(Stream(left, ["FLUX", "ID"], batch_size=5, copy=True, **order))
        for batch in kept:
            rows = [row_of[one] for one in batch["ID"].tolist()]
            assert np.array_equal(batch["FLUX"], expected["FLUX"][rows])


class Watched:
    """A source that counts how much of what it gave is still held."""

    def __init__(self, source):
        self.source, self.in_place, self.fingerprint = source, source.in_place, source.fingerprint
        self.held, self.most = [], 0

    def __len__(self):
        return len(self.source)

    def read(self, rows, room):
        found = self.source.read(rows, room)
        self.held = [one for one in self.held if one() is not None]
        self.held.append(weakref.ref(found["FLUX"]))
        self.most = max(self.most, len(self.held))
        return found


def test_no_more_than_three_pools_are_held(left):
    """One that is given out, one behind it, one being read, however many there are."""
    stream = Stream(left, ["FLUX"], batch_size=2, shuffle="blocks", block_rows=3, pool_blocks=2)
    stream.source = Watched(stream.source)
    assert len(list(stream)) == len(left) // 2
    assert 2 <= stream.source.most <= 3


def test_transforms_are_resumed_too(left):
    """What a transform draws depends on seed, epoch and position, not on what came before."""

    def jitter(batch, *, rng):
        return {"ID": batch["ID"].copy(), "draw": rng.random(len(batch["ID"]))}

    make = lambda: Stream(left, ["ID"], batch_size=6, transform=jitter)  # noqa: E731
    stream, draws, states = make(), [], []
    for batch in stream:
        draws.append(batch["draw"].tolist())
        states.append(stream.state_dict())
    assert len({tuple(one) for one in draws}) == len(draws)
    again = make()
    again.load_state_dict(states[2])
    assert [batch["draw"].tolist() for batch in again] == draws[3:]


# --------------------------------------------------------------------------------------
# Threads


def running():
    return [one.name for one in threading.enumerate() if one.name.startswith("astropile-stream")]


@pytest.mark.parametrize("order", ORDERS, ids=str)
def test_no_thread_is_left(left, order):
    """Not after an epoch, nor after an iteration that was broken off."""
    stream = Stream(left, ["ID"], batch_size=5, **order)
    for _ in stream:
        pass
    assert not running()
    for _ in stream:
        break
    assert not running()


def test_an_error_of_the_reader_comes_out(tmp_path):
    """A shard that is gone: the batch that needs it raises, no thread is left."""
    tree = build(toy.SURVEY, toy.make_batch(40, seed=1), tmp_path)
    catalog = astropile.open_catalog(tree)
    stream = Stream(catalog, ["ID", "FLUX"], batch_size=4, shuffle=None)
    catalog.shards[-1].path.unlink()
    reading = iter(stream)
    for _ in range(catalog.shards[-1].start // 4):
        assert len(next(reading)["ID"]) == 4
    with pytest.raises(FormatError, match=catalog.shards[-1].path.name):
        next(reading)
    assert not running()


def _child(code, *arguments):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_python_ends_in_the_middle_of_an_epoch(left):
    """Threads that read are waited for: the process ends by itself, with its own status."""
    code = """
import sys, itertools
from astropile.streams import Stream
stream = Stream(sys.argv[1], ["FLUX", "ID"], batch_size=2, prefetch=4, threads=2)
reading = iter(stream)
print(next(reading)["FLUX"].shape)
sys.exit(7)
"""
    child = _child(code, left.path)
    out, err = child.communicate(timeout=60)
    assert (child.returncode, out.strip(), err) == (7, "(2, 2000)", "")


def test_interrupted(left):
    """Ctrl-C ends the loop while it waits for a batch, and nothing stays behind."""
    code = """
import sys, threading, time
from astropile.streams import Stream
def slow(batch):
    print("reading", flush=True)
    time.sleep(0.5)
    return batch
try:
    for batch in Stream(sys.argv[1], ["ID"], batch_size=2, transform=slow):
        pass
except KeyboardInterrupt:
    print([t.name for t in threading.enumerate()], flush=True)
    sys.exit(130)
"""
    child = _child(code, left.path)
    assert child.stdout.readline() == "reading\n"
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 130, err
    assert out.splitlines()[-1] == "['MainThread']"


# --------------------------------------------------------------------------------------
# Matches, trees behind URLs


@pytest.fixture(scope="module")
def outer(trees):  # noqa: F811
    return match_surveys(trees.left, trees.right, match_radius=1.0, join="outer")


@pytest.mark.parametrize("order", ORDERS[:2], ids=str)
def test_a_match(outer, left, right, order):
    """Rows of both sides stand together; where one has no part it is 0 and flagged."""
    names = list(outer.sides)
    columns = {name: ["ID", "IMAGE", "LC_TIME", "z"] for name in names}
    whole = {
        name: catalog.take(np.arange(len(catalog)))
        for name, catalog in zip(names, (left, right), strict=True)
    }
    expected = {tuple(pair) for pair in zip(*(outer.rows[n].tolist() for n in names), strict=True)}
    stream = Stream(outer, columns, batch_size=11, **order)
    seen = []
    for batch in stream:
        rows = []
        for name in names:
            found = dict(zip(whole[name]["ID"].tolist(), range(10**6), strict=False))
            there = batch[f"{name}.present"]
            rows.append(
                [
                    found[i] if t else -1
                    for i, t in zip(batch[f"{name}.ID"].tolist(), there, strict=True)
                ]
            )
            for place, row in enumerate(rows[-1]):
                image, times = batch[f"{name}.IMAGE"][place], batch[f"{name}.LC_TIME"][place]
                if row >= 0:
                    assert np.array_equal(image, whole[name]["IMAGE"][row])
                    assert np.array_equal(times, whole[name]["LC_TIME"][row])
                else:
                    assert not image.any()
                    assert batch[f"{name}.ID"][place] == 0
                    assert len(times) == 0
        seen += zip(*rows, strict=True)
    assert len(seen) == len(outer)
    assert set(seen) == expected


def test_a_match_of_other_pairs_is_other_data(outer, trees):  # noqa: F811
    """A state of one match is refused by another of the same trees."""
    inner = match_surveys(trees.left, trees.right, match_radius=1.0)
    state = Stream(outer, batch_size=2).state_dict()
    with pytest.raises(SampleError, match=r"state\['data'\]"):
        Stream(inner, batch_size=2).load_state_dict(state)
    with pytest.raises(UnknownColumnError):
        Stream(inner, {"none": ["ID"]}, batch_size=2)
    with pytest.raises(SampleError, match="a mapping of survey to columns"):
        Stream(inner, ["ID"], batch_size=2)


def test_a_tree_behind_a_url(left, trees):  # noqa: F811
    """The same batches as from the disk, with several on their way at once."""
    here = ids_of(Stream(left, ["ID"], batch_size=9, seed=2))
    with serve(trees.left.parent) as server:
        for order in ORDERS[:2]:
            url = f"{server.url}/{left.path.relative_to(trees.left.parent)}"
            stream = Stream(url, ["ID"], batch_size=9, seed=2, threads=2, **order)
            found = ids_of(stream)
            if order["shuffle"] == "full":
                assert found == here
            assert sorted(flat(found)) == sorted(flat(here))


# --------------------------------------------------------------------------------------
# Mixtures


def mixture(left, right, until="first", weights=None, **options):
    make = lambda catalog: Stream(catalog, ["ID"], batch_size=6, **options)  # noqa: E731
    return Mixture({"a": make(left), "b": make(right)}, weights, until=until)


def listed(mixed):
    return [(name, batch["ID"].tolist()) for name, batch in mixed]


def test_mixed_by_weight(left, right):
    """Three batches of one to one of the other, whoever reads."""
    names = [name for name, _ in mixture(left, right, "cycle", {"a": 3, "b": 1})]
    assert names[:8].count("a") == 6
    for n in range(1, len(names)):
        assert abs(names[:n].count("a") - 0.75 * n) <= 1


def test_mixed_until_the_first_has_ended(left, right):
    """The other goes on in the next epoch where it was: over two, nothing of it comes twice."""
    mixed = mixture(left, right, weights={"a": 1, "b": 2})
    first, second = listed(mixed), listed(mixed)
    assert [len([1 for name, _ in part if name == "b"]) for part in (first, second)] == [7, 7]
    assert mixed.epoch == 2
    of_a = flat(ids for name, ids in first + second if name == "a")
    assert len(of_a) == len(set(of_a))
    assert first[-1][0] == second[-1][0] == "b"


def test_mixed_until_all_have_ended(left, right):
    """Every row of both comes once; the longer stream ends alone."""
    mixed = mixture(left, right, "all", {"a": 1, "b": 5})
    found = listed(mixed)
    assert len(found) == len(mixed)
    for name, catalog in (("a", left), ("b", right)):
        ids = catalog.take(np.arange(len(catalog)), ["ID"])["ID"].tolist()
        assert sorted(flat(i for n, i in found if n == name)) == sorted(ids)


def test_mixed_in_cycles(left, right):
    """The shorter begins anew until the longer has ended once."""
    found = listed(mixture(left, right, "cycle", {"a": 1, "b": 5}))
    of_a = flat(ids for name, ids in found if name == "a")
    assert len(of_a) == len(set(of_a)) == len(left)
    assert len([1 for name, _ in found if name == "b"]) == pytest.approx(5 * 10, abs=5)


@pytest.mark.parametrize("until", ["first", "cycle", "all"])
def test_mixtures_resume(left, right, until):
    """From the state after any batch, the same batches follow, into the next epoch."""
    options = {"until": until, "weights": {"a": 2, "b": 3}}
    mixed, found, states = mixture(left, right, **options), [], []
    for _ in range(2):
        for name, batch in mixed:
            found.append((name, batch["ID"].tolist()))
            states.append(json.dumps(mixed.state_dict()))
    for done in (1, 5, len(found) // 2, len(found) - 2):
        again = mixture(left, right, **options)
        again.load_state_dict(json.loads(states[done - 1]))
        rest = listed(again)
        while again.epoch < 2:
            rest += listed(again)
        assert rest == found[done:]


def test_mixtures_resume_with_other_ranks(left, right):
    """Two ranks begin, three go on: every row of the epoch comes once."""
    options = {"until": "all", "weights": {"a": 2, "b": 3}, "last": "keep"}
    seen, states = [], []
    for rank in range(2):
        mixed = mixture(left, right, rank=rank, world_size=2, **options)
        reading = iter(mixed)
        for _ in range(4):
            name, batch = next(reading)
            seen += [(name, one) for one in batch["ID"].tolist()]
        states.append(mixed.state_dict())
        reading.close()
    assert states[0] == states[1]
    for rank in range(3):
        mixed = mixture(left, right, rank=rank, world_size=3, **options)
        mixed.load_state_dict(states[0])
        seen += [(name, one) for name, ids in listed(mixed) for one in ids]
    assert len(seen) == len(set(seen)) == len(left) + len(right)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=6))
def test_no_stream_is_far_from_its_share(weights):
    """At most one batch ahead, at most as many behind as there are others."""
    mixed = object.__new__(Mixture)
    total = sum(weights)
    mixed.weights = {str(i): w / total for i, w in enumerate(weights)}
    mixed.until = "first"

    class Long:
        n_rows = 10**9
        from astropile.streams.sharing import Share as _Share

        share = _Share(10**6)

    mixed.streams = dict.fromkeys(mixed.weights, Long)
    n = len(weights)
    start = (0, ((0, 0),) * n, (0.0,) * n, (False,) * n)
    counts = dict.fromkeys(mixed.weights, 0)
    for number, turn in zip(range(1, 300), mixed._turns(start), strict=False):
        counts[turn.name] += 1
        for name, weight in mixed.weights.items():
            ahead = counts[name] - weight * number
            assert -max(1, n - 1) - 1e-9 <= ahead <= 1 + 1e-9


def test_mixtures_that_cannot_be(left, right):
    """A sentence says what is wrong."""
    one = Stream(left, ["ID"], batch_size=4)
    with pytest.raises(SampleError, match="streams: expected at least one"):
        Mixture({})
    with pytest.raises(SampleError, match="a weight for each of a, found b"):
        Mixture({"a": one}, {"b": 1})
    with pytest.raises(SampleError, match=r"weights\['a'\]: expected a number above 0, found 0"):
        Mixture({"a": one}, {"a": 0})
    with pytest.raises(SampleError, match="until: expected 'first' or 'cycle' or 'all'"):
        Mixture({"a": one}, until="never")
    with pytest.raises(SampleError, match="all of one rank, found 0 of 1, 1 of 2"):
        Mixture({"a": one, "b": one.with_share(1, 2)})
    with pytest.raises(SampleError, match="stream 'b': expected at least one batch"):
        Mixture({"a": one, "b": Stream(left, ["ID"], batch_size=4, rows=[])})
    state = mixture(left, right).state_dict()
    with pytest.raises(SampleError, match=r"state\['weights'\]"):
        mixture(left, right, weights={"a": 1, "b": 1}).load_state_dict(state)
    with pytest.raises(SampleError, match=r"state\['state'\]: expected a state of 2 streams"):
        mixture(left, right).load_state_dict({**state, "state": [0, [], [], []]})
