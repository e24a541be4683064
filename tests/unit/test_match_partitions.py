"""Matching catalogues on disk: executors, resuming, stopping, output, refusals."""

import json
import threading
from concurrent.futures import CancelledError, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from astropile.errors import FormatError, MatchError
from astropile.match import partitions
from astropile.match.files import PositionFiles
from astropile.match.partitions import PairsFile, match_files, read_pairs
from astropile.match.positions import match_positions
from hatsfolders import make_hats, scatter

RADIUS = 60.0


@pytest.fixture(scope="module")
def sides(tmp_path_factory):
    """Two catalogues of crowded spots, in many files."""
    folder = tmp_path_factory.mktemp("sides")
    rng = np.random.default_rng(8)
    return [
        make_hats(folder / name, *scatter(rng, n, RADIUS, kind="clumps"), group_rows=64)
        for name, n in (("a", 1500), ("b", 1200))
    ]


@pytest.fixture
def small_units(monkeypatch):
    """Let units be of a hundred rows."""
    monkeypatch.setattr(partitions, "LEAST_MEMORY_BYTES", 1)
    monkeypatch.setattr(partitions, "_unit_rows", lambda job, *_: job.left_rows)
    return 64_000


def _same(found, expected):
    for name in ("left", "right", "separation_arcsec"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def _whole(sides, **options):
    return match_positions(*sides[0][1:], *sides[1][1:], radius_arcsec=RADIUS, **options)


@pytest.mark.parametrize("find", ["nearest", "all", "mutual"])
def test_threads_and_processes_give_the_same(sides, small_units, find):
    """Any executor of the standard library gives the pairs of one thread."""
    memory_bytes = small_units * 8 if find == "all" else small_units
    options = {"radius_arcsec": RADIUS, "find": find, "memory_bytes": memory_bytes}
    expected = _whole(sides, find=find)
    _same(match_files(sides[0][0], sides[1][0], **options), expected)
    with ThreadPoolExecutor(3) as executor:
        _same(match_files(sides[0][0], sides[1][0], executor=executor, **options), expected)
    if find == "mutual":
        with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as executor:
            _same(match_files(sides[0][0], sides[1][0], executor=executor, **options), expected)


@pytest.mark.filterwarnings("default")
def test_a_dask_cluster_gives_the_same(sides, small_units, two_workers):
    """Two Dask workers, by client or by its executor."""
    options = {"radius_arcsec": RADIUS, "find": "nearest", "memory_bytes": small_units}
    for executor in (two_workers, two_workers.get_executor(pure=False)):
        found = match_files(sides[0][0], sides[1][0], executor=executor, **options)
        _same(found, _whole(sides))


def test_output_is_written_whole_with_its_facts(sides, small_units, tmp_path):
    """A Parquet file of pairs with what was asked; nothing else is left beside it."""
    path = tmp_path / "pairs.parquet"
    done = match_files(
        sides[0][0],
        sides[1][0],
        radius_arcsec=RADIUS,
        find="all",
        memory_bytes=8 * small_units,
        output=path,
        metadata={"left": "a"},
    )
    expected = _whole(sides, find="all")
    assert done == PairsFile(path, len(expected), 0, 0)
    _same(read_pairs(path), expected)
    facts = json.loads(pq.read_schema(path).metadata[b"astropile"])
    assert facts["radius_arcsec"] == RADIUS
    assert (facts["find"], facts["n_left"], facts["left"]) == ("all", 1500, "a")
    assert [entry.name for entry in tmp_path.iterdir()] == ["pairs.parquet"]
    pq.write_table(pa.table({"a": [1]}), tmp_path / "no.parquet")
    with pytest.raises(FormatError, match="pairs of a match"):
        read_pairs(tmp_path / "no.parquet")


class _StopAfter:
    """Set once it was asked so many times."""

    def __init__(self, n):
        self.n = n

    def is_set(self):
        self.n -= 1
        return self.n < 0


def test_a_stopped_match_goes_on_where_it_was(sides, small_units, tmp_path, monkeypatch):
    """Finished units are not done again, even if memory and executor are others."""
    options = {"radius_arcsec": RADIUS, "output": tmp_path / "pairs.parquet"}
    with pytest.raises(CancelledError, match="kept"):
        match_files(
            *(side[0] for side in sides), memory_bytes=small_units, stop=_StopAfter(4), **options
        )
    assert not options["output"].exists()
    asked = []
    real = partitions.match_unit

    def counted(job, first, last):
        asked.append((first, last))
        return real(job, first, last)

    monkeypatch.setattr(partitions, "match_unit", counted)
    with ThreadPoolExecutor(2) as executor:
        match_files(
            *(side[0] for side in sides),
            memory_bytes=2 * small_units,
            executor=executor,
            **options,
        )
    assert (
        min(first for first, _ in asked)
        == 4 * partitions.Job("", "", 1, memory_bytes=64_000).left_rows
    )
    _same(read_pairs(options["output"]), _whole(sides))


def test_stopping_with_an_executor_keeps_what_is_finished(sides, small_units, tmp_path):
    """An event set from elsewhere ends the match; the rest is done the next time."""
    stop = threading.Event()
    stop.set()
    with ThreadPoolExecutor(2) as executor, pytest.raises(CancelledError):
        match_files(
            *(side[0] for side in sides),
            radius_arcsec=RADIUS,
            memory_bytes=small_units,
            executor=executor,
            work_dir=tmp_path,
            stop=stop,
        )


def test_work_of_other_inputs_is_not_taken(sides, small_units, tmp_path):
    """Another radius or another catalogue begins anew in the same work folder."""
    for radius in (RADIUS, 2 * RADIUS):
        found = match_files(
            *(side[0] for side in sides),
            radius_arcsec=radius,
            memory_bytes=small_units,
            work_dir=tmp_path,
        )
        _same(found, match_positions(*sides[0][1:], *sides[1][1:], radius_arcsec=radius))
    assert len(list(tmp_path.iterdir())) == 2
    turned = match_files(
        sides[1][0], sides[0][0], radius_arcsec=RADIUS, memory_bytes=small_units, work_dir=tmp_path
    )
    _same(turned, match_positions(*sides[1][1:], *sides[0][1:], radius_arcsec=RADIUS))


def test_a_crowd_of_pairs_does_not_fill_the_memory(tmp_path, small_units, monkeypatch):
    """Where every row meets every row, no block holds more pairs than there is room for."""
    rng = np.random.default_rng(2)
    folder, ra, dec = make_hats(tmp_path / "a", *scatter(rng, 150, 1.0, kind="clump"))
    held = []
    real = partitions.match_positions

    def watched(*args, **options):
        pairs = real(*args, **options)
        held.append(len(pairs))
        return pairs

    monkeypatch.setattr(partitions, "match_positions", watched)
    pieces = []
    monkeypatch.setattr(
        partitions._InMemory,
        "add",
        lambda self, first, found: (
            pieces.append(len(found.left)),
            self._found.__setitem__(first, found[:3]),
        ),
    )
    found = match_files(folder, folder, radius_arcsec=60, find="all", memory_bytes=small_units)
    assert len(found) == 150 * 150
    room = partitions.Job("", "", 1.0, memory_bytes=small_units).pair_rows
    assert max(held) <= max(room, 150)
    assert max(pieces) <= 3 * max(room, 150)
    _same(found, real(ra, dec, ra, dec, radius_arcsec=60, find="all"))


def test_only_what_is_near_is_read(tmp_path):
    """A small field against the whole sky reads few row groups of either."""
    rng = np.random.default_rng(4)
    sky, *_ = make_hats(tmp_path / "sky", *scatter(rng, 4000, 1.0, kind="sky"), file_rows=200)
    field, *_ = make_hats(tmp_path / "field", *scatter(rng, 50, 10.0, kind="clump"))
    read = []
    real = PositionFiles._read

    def watched(self, number, **options):
        read.append((self.folder.name, number))
        return real(self, number, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PositionFiles, "_read", watched)
        match_files(sky, field, radius_arcsec=1)
        match_files(field, sky, radius_arcsec=1)
    assert len({number for name, number in read if name == "sky"}) <= 20


def test_an_empty_or_distant_side_gives_nothing(tmp_path):
    """No overlap gives no pairs, of the right types."""
    one, *_ = make_hats(tmp_path / "one", [10.0], [0.0])
    other, *_ = make_hats(tmp_path / "other", [200.0], [50.0])
    pairs = match_files(one, other, radius_arcsec=5)
    assert (len(pairs), pairs.left.dtype, pairs.separation_arcsec.dtype) == (
        0,
        np.int64,
        np.float64,
    )
    done = match_files(one, other, radius_arcsec=5, output=tmp_path / "none.parquet")
    assert done.n_pairs == len(read_pairs(done.path)) == 0


def test_a_foreign_catalogue_may_hold_what_is_no_position(tmp_path):
    """Rows with fill values never match and are counted, as in memory."""
    ra, dec = np.array([10.0, 10.0, 20.0, 30.0]), np.array([0.0, 0.0, 1.0, 2.0])
    folder, ra, dec = make_hats(tmp_path / "a", ra, dec, group_rows=2)
    part = next((folder / "dataset").rglob("Npix*.parquet"))
    table = pq.read_table(part)
    spoiled = np.array([np.nan, *table["ra"].to_numpy()[1:]])
    pq.write_table(table.set_column(1, "ra", pa.array(spoiled)), part, row_group_size=2)
    text = (folder / "hats.properties").read_text()
    (folder / "hats.properties").write_text(text.replace("astropile", "another"))
    pairs = match_files(folder, folder, radius_arcsec=1)
    assert (pairs.n_invalid_left, pairs.n_invalid_right) == (1, 1)
    assert 0 not in pairs.left


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"radius_arcsec": -1}, "radius_arcsec: expected 0 to 648000"),
        ({"radius_arcsec": 1, "find": "first"}, "find: expected one of"),
        ({"radius_arcsec": 1, "memory_bytes": 5}, "memory_bytes: expected at least"),
        ({"radius_arcsec": 1, "exclude_self": True}, "two sides of one length"),
        ({"radius_arcsec": 1, "executor": object()}, "executor: expected a concurrent"),
    ],
)
def test_wrong_arguments_are_refused(sides, options, message):
    """Before any work, with what was expected and what came."""
    with pytest.raises(MatchError, match=message):
        match_files(sides[0][0], sides[1][0], **options)


def test_a_catalogue_that_lost_a_file_is_refused(tmp_path):
    """By name."""
    folder, *_ = make_hats(tmp_path / "a", [10.0, 200.0], [0.0, 50.0])
    lost = next((folder / "dataset").rglob("Npix*.parquet"))
    lost.unlink()
    with pytest.raises(FormatError, match=lost.name):
        match_files(folder, folder, radius_arcsec=1)


def test_an_error_in_a_unit_says_which(sides, small_units, monkeypatch):
    """The rows that were being matched are a note on the error."""

    def broken(*_):
        raise OSError("the disk is gone")

    monkeypatch.setattr(partitions, "match_unit", broken)
    with ThreadPoolExecutor(1) as executor, pytest.raises(OSError, match="gone") as caught:
        match_files(
            *(side[0] for side in sides),
            radius_arcsec=1,
            memory_bytes=small_units,
            executor=executor,
        )
    assert "matching left rows 0 to" in caught.value.__notes__[0]
