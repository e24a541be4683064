"""A tree behind a URL: the same values as on disk, for few requests, or a clear error."""

import dataclasses
import os
import pickle
import re
import shutil
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import toy
from astropile import build_catalog, open_catalog
from astropile.errors import FormatError, StoreError, TreeNotFoundError
from astropile.hdf5.rows import dump_tables, load_tables
from astropile.match import cross_match
from astropile.schema import Ragged
from astropile.store.protocol import RemoteOptions
from astropile.testing.server import Fault, serve

BIG = ("FLUX", "IMAGE", "IMAGE_MASK")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Trees of both layouts, with several shards in a partition."""
    root = tmp_path_factory.mktemp("remote")
    toy.write_native(root / "native/a.npz", toy.make_batch(40, seed=1))
    crowd = toy.make_batch(40, seed=2, first_id=100, ra=np.full(40, 10.0), dec=np.full(40, 5.0))
    toy.write_native(root / "native/b.npz", crowd)
    for layout in ("compact", "fast"):
        build_catalog(
            toy.SURVEY,
            root / "native",
            root / f"trees/{layout}",
            order=1,
            shard_nbytes=400_000,
            layout=layout,
        )
    return root / "trees"


@pytest.fixture(scope="module")
def server(folder):
    with serve(folder) as running:
        yield running


@pytest.fixture
def fresh(server):
    server.clear()
    server.fault = None
    yield server
    server.fault = None


def same(found, expected):
    assert list(found) == list(expected)
    for name, values in expected.items():
        if isinstance(values, Ragged):
            assert len(found[name]) == len(values)
            for mine, theirs in zip(found[name], values, strict=True):
                assert mine.dtype == theirs.dtype
                assert mine.shape == theirs.shape
                assert mine.tobytes() == theirs.tobytes()
        else:
            assert found[name].dtype == values.dtype
            assert found[name].shape == values.shape
            assert found[name].tobytes() == values.tobytes()


def options(**changes):
    return RemoteOptions(**{"attempts": 3, "timeout": 5.0, "max_wait": 1.5, **changes})


def opened(server, layout="compact", **changes):
    return open_catalog(f"{server.url}/{layout}", "main", remote=options(**changes))


# -- the same values


@pytest.mark.parametrize("layout", ["compact", "fast"])
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_take_equals_local(server, folder, layout, data):
    """Any columns of any rows in any order are bit for bit what the disk has."""
    local, remote = open_catalog(folder / layout), opened(server, layout)
    rows = data.draw(st.lists(st.integers(0, len(local) - 1), max_size=12))
    known = [*local.survey.column_names, "object_id", "healpix", "ra"]
    columns = data.draw(st.lists(st.sampled_from(known), unique=True))
    same(remote.take(rows, columns), local.take(rows, columns))


@pytest.mark.parametrize("layout", ["compact", "fast"])
def test_everything_equals_local(fresh, folder, layout):
    """Light columns, the standard view, objects by name and regions are those of the disk."""
    local, remote = open_catalog(folder / layout), opened(fresh, layout)
    assert remote.light().equals(local.light())
    assert remote.light(["Z", "ra"]).equals(local.light(["Z", "ra"]))
    assert remote.standard([5, 70, 5]).equals(local.standard([5, 70, 5]))
    wanted = local.light(["object_id"])["object_id"][33].as_py()
    assert remote.find(wanted).tolist() == local.find(wanted).tolist() == [33]
    everything = slice(None)
    assert remote.cone(10, 5, 60).tolist() == local.cone(10, 5, 60).tolist() != []
    assert remote.box(0, 90, -90, 30).tolist() == local.box(0, 90, -90, 30).tolist() != []
    assert remote.pixels(0, [4, 7]).tolist() == local.pixels(0, [4, 7]).tolist() != []
    assert remote.snapshot == local.snapshot
    same(remote.take(np.arange(len(local))[everything]), local.take(np.arange(len(local))))


def test_subset_folder_itself(fresh):
    """The URL of a subset's folder needs no name; a server that lists nothing must be told one."""
    assert len(open_catalog(f"{fresh.url}/compact/main")) == 80
    assert len(open_catalog(f"{fresh.url}/compact/main", "main")) == 80
    assert len(open_catalog(f"{fresh.url}/compact/", "main")) == 80
    with pytest.raises(TreeNotFoundError, match="name a subset"):
        open_catalog(f"{fresh.url}/compact")
    with pytest.raises(TreeNotFoundError, match="'other'"):
        open_catalog(f"{fresh.url}/compact", "other")
    with pytest.raises(ValueError, match="letters, digits"):
        open_catalog(f"{fresh.url}/compact", "../compact/main")


def test_match(fresh, folder):
    """Remote and local trees match as two local ones do, whichever side is remote."""
    local = open_catalog(folder / "compact"), open_catalog(folder / "fast")
    remote = opened(fresh, "compact"), opened(fresh, "fast")
    for find in ("nearest", "all", "mutual"):
        expected = cross_match(*local, radius_arcsec=3600, find=find)
        for left, right in ((local[0], remote[1]), (remote[0], local[1]), remote):
            found = cross_match(left, right, radius_arcsec=3600, find=find)
            assert found.left.tolist() == expected.left.tolist()
            assert found.right.tolist() == expected.right.tolist()
            assert found.separation_arcsec.tolist() == expected.separation_arcsec.tolist()


def test_questions(fresh, folder):
    """SQL gives the rows that it gives on disk."""
    pytest.importorskip("duckdb")
    local, remote = open_catalog(folder / "compact"), opened(fresh)
    asked = "Z > 0.5 and mag is not null"
    assert remote.query(asked).tolist() == local.query(asked).tolist() != []
    question = "select count(*) as n, avg(Z) as z from catalog"
    assert remote.sql(question).equals(local.sql(question))


def test_lopsided_match(fresh, folder, tmp_path, monkeypatch):
    """With few objects on one side only their surroundings on the other are read."""
    few = toy.make_batch(3, seed=9, ra=[10.0, 200.0, 10.0001], dec=[5.0, -40.0, 5.0001])
    toy.write_native(tmp_path / "native/a.npz", few)
    build_catalog(toy.SURVEY, tmp_path / "native", tmp_path / "few", order=1)
    few, local, remote = open_catalog(tmp_path / "few"), open_catalog(folder / "fast"), None
    # As if the tree were so large that its catalogue would cost more than a look into shards.
    monkeypatch.setattr("astropile.remote._SHARD_NBYTES", 0)
    monkeypatch.setattr("astropile.remote._ROW_TABLE_NBYTES", 0)
    remote = opened(fresh, "fast")
    for left, right, mine in ((few, local, (few, remote)), (local, few, (remote, few))):
        expected = cross_match(left, right, radius_arcsec=2.0, find="all")
        fresh.clear()
        found = cross_match(*mine, radius_arcsec=2.0, find="all")
        assert len(found) == 80
        assert found.left.tolist() == expected.left.tolist()
        assert found.right.tolist() == expected.right.tolist()
        assert not [ask for ask in fresh.asked if "catalog" in ask.key]
    assert remote.cone(10, 5, 60).tolist() == local.cone(10, 5, 60).tolist()
    assert remote.pixels(2, range(90, 150)).tolist() == local.pixels(2, range(90, 150)).tolist()


# -- few requests, few bytes


@pytest.mark.parametrize("rows", [[3], [0, 79, 40, 41], list(range(0, 80, 3)), list(range(80))])
def test_cost(fresh, folder, rows):
    """Rows cost one request each and one per shard, and hardly more bytes than they have."""
    local, remote = open_catalog(folder / "compact"), opened(fresh)
    which = np.unique(np.searchsorted([s.start for s in local.shards], rows, side="right"))
    stored = 0
    for shard in local.shards:
        inside = [row - shard.start for row in rows if 0 <= row - shard.start < shard.n_objects]
        places = local._table(shard).places
        stored += sum(int(places[name].sizes[inside].sum()) for name in BIG)
    fresh.clear()
    same(remote.take(rows, BIG), local.take(rows, BIG))
    assert len(fresh.asked) <= len(rows) + len(which) + 2
    assert fresh.n_bytes <= 1.05 * stored + 50_000 * len(which)
    fresh.clear()
    remote.take(rows, BIG)
    assert len(fresh.asked) <= len(rows)
    assert fresh.n_bytes <= 1.05 * stored + 20_000 * len(which)


def test_round_trips(folder):
    """However many rows and shards: a call waits for a few answers, not for one after another."""
    with serve(folder, latency=0.1) as slow:
        remote = opened(slow)
        remote.take([0], BIG)
        begin = time.monotonic()
        remote.take(range(80))
        took = time.monotonic() - begin
    assert len(slow.asked) > 40
    assert took < 1.5


def test_opening_reads_one_file(fresh):
    """Opening a tree asks for astropile.json alone; a row table is asked for once."""
    remote = opened(fresh)
    assert [ask.key for ask in fresh.asked] == ["compact/main/astropile.json"]
    remote.take([0], ["FLUX"])
    fresh.clear()
    remote.take([0], ["FLUX"])
    assert not [ask for ask in fresh.asked if "/rows/" in ask.key]


def test_light_columns_cost_their_bytes(fresh, folder):
    """A light column is read without the others, a region without the rest of the sky."""
    remote = opened(fresh)
    remote.light(["Z"])
    whole = sum(f.stat().st_size for f in (folder / "compact").rglob("Npix*.parquet"))
    read = sum(ask.end - ask.start for ask in fresh.asked if ask.key.endswith(".parquet"))
    assert 0 < read < whole / 8


def test_says_what_it_wants(fresh):
    """Requests ask for bytes as they are, and for the version first met."""
    remote = opened(fresh, headers={"X-Who": "me"})
    remote.take([0, 1, 2], ["FLUX"])
    remote.take([1], ["FLUX"])
    assert {ask.headers["accept-encoding"] for ask in fresh.asked} == {"identity"}
    assert {ask.headers["x-who"] for ask in fresh.asked} == {"me"}
    assert fresh.asked[-1].headers["if-match"].startswith('"')


# -- faults: the right bytes or an error


def on_shards(fault):
    """Commit a fault where a range of a shard is asked for; gives whether it was."""
    hits = []

    def commit(ask):
        if ask.key.endswith(".hdf5"):
            made = fault(ask)
            hits.append(made is not None)
            return made
        return None

    return commit, hits


def check_fault(fresh, folder, fault, expected=None, match=None, layout="compact", **changes):
    remote = opened(fresh, layout, **changes)
    fresh.fault, hits = on_shards(fault)
    rows = [0, 40, 41, 79]
    if expected is None:
        same(remote.take(rows), open_catalog(folder / layout).take(rows))
    else:
        with pytest.raises(expected, match=match) as caught:
            remote.take(rows)
        assert "\n" not in str(caught.value)
        assert "healpix=" in str(caught.value)
    assert any(hits)


def test_whole_instead_of_range(fresh, folder):
    """A server without ranges is refused (D04)."""
    check_fault(fresh, folder, lambda _: Fault(status=200), StoreError, "206.*found 200")


def test_shifted_content_range(fresh, folder):
    """Another range than the one asked for is refused (D06)."""

    def fault(ask):
        wrong = f"bytes {ask.start + 100}-{ask.end + 99}/9999999"
        return Fault(headers={"Content-Range": wrong})

    check_fault(fresh, folder, fault, StoreError, "Content-Range")


def test_no_content_range(fresh, folder):
    """A range that does not say which one it is is refused."""
    check_fault(
        fresh,
        folder,
        lambda _: Fault(headers={"Content-Range": ""}),
        StoreError,
        "no Content-Range",
    )


def test_wrong_length(fresh, folder):
    """A body of another length than the range is refused."""

    def fault(ask):
        return Fault(headers={"Content-Length": str(ask.end - ask.start - 1)})

    check_fault(fresh, folder, fault, StoreError, "bytes")


def test_other_size(fresh, folder):
    """A shard of another size than its row table says is refused."""

    def fault(ask):
        size = (folder / ask.key).stat().st_size
        return Fault(headers={"Content-Range": f"bytes {ask.start}-{ask.end - 1}/{size + 1}"})

    check_fault(fresh, folder, fault, StoreError, "bytes, found")


def test_encoded(fresh, folder):
    """Bytes that were encoded on the way are refused."""
    fault = Fault(headers={"Content-Encoding": "gzip"})
    check_fault(fresh, folder, lambda _: fault, StoreError, "gzip")


def test_broken_connection(fresh, folder):
    """A body that breaks off is gone on with where it broke off, and nothing is read twice."""
    check_fault(fresh, folder, lambda ask: Fault(cut=1000) if ask.number == 0 else None)
    asked = [ask for ask in fresh.asked if ask.key.endswith(".hdf5")]
    broken = {ask.key: ask.start for ask in asked if ask.number == 0}
    assert all(
        any(ask.key == key and ask.start == start + 1000 for ask in asked)
        for key, start in broken.items()
    )


def test_always_broken(fresh, folder):
    """A connection that breaks every time is given up after as many attempts as allowed."""
    check_fault(fresh, folder, lambda _: Fault(cut=0), StoreError, "within 3 attempts")


def test_busy_twice(fresh, folder):
    """503 twice is waited out as long as Retry-After says (D07)."""
    begin = time.monotonic()
    fault = Fault(status=503, headers={"Retry-After": "1"})
    rows = open_catalog(folder / "compact").take([0], ["FLUX"])
    remote = opened(fresh)
    fresh.fault, _ = on_shards(lambda ask: fault if ask.number < 1 else None)
    same(remote.take([0], ["FLUX"]), rows)
    assert 1 <= time.monotonic() - begin < 4


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_passing_faults(fresh, folder, status):
    """What servers answer when they are busy is tried again."""
    check_fault(fresh, folder, lambda ask: Fault(status=status) if ask.number < 2 else None)


def test_busy_for_ever(fresh, folder):
    """503 for ever is given up (D08)."""
    check_fault(fresh, folder, lambda _: Fault(status=503), StoreError, "503")


def test_missing_shard(fresh, folder):
    """A shard that is gone is named."""
    check_fault(fresh, folder, lambda _: Fault(status=404), StoreError, "404")


def test_forbidden(fresh, folder):
    """What may not be read is told at once."""
    check_fault(fresh, folder, lambda _: Fault(status=403), StoreError, "403")
    asked = [ask for ask in fresh.asked if ask.key.endswith(".hdf5")]
    assert all(ask.number == 0 or ask.start is not None for ask in asked)


@pytest.fixture(scope="module")
def successor(folder, tmp_path_factory):
    """Trees like those of `folder`, of as many objects in the same places, with other values."""
    root = tmp_path_factory.mktemp("successor")
    for number, layout in ((1, "compact"), (2, "fast")):
        for name, seed in (("a", 1), ("b", 2)):
            with np.load(folder.parent / f"native/{name}.npz", allow_pickle=True) as stored:
                batch = {key: stored[key] for key in stored.files}
            batch["FLUX"] = np.roll(batch["FLUX"], seed, axis=0)
            toy.write_native(root / f"native{number}/{name}.npz", batch)
        build_catalog(
            toy.SURVEY,
            root / f"native{number}",
            root / layout,
            order=1,
            shard_nbytes=400_000,
            layout=layout,
        )
    return root


def _far_apart(catalog):
    """Give the first and the last row: of other partitions; and a row of a third one's shard."""
    shards = catalog.shards
    assert shards[0].ipix != shards[-1].ipix
    return [0], [len(catalog) - 1]


REPLACED = "the tree was replaced since it was opened"


@pytest.mark.parametrize("layout", ["compact", "fast"])
def test_replaced_tree_on_disk(folder, successor, tmp_path, layout):
    """A tree replaced under an open one is never mixed with it; an equal one is (D20)."""
    shutil.copytree(folder / layout / "main", tmp_path / "toy/main")
    opened = open_catalog(tmp_path / "toy")
    first, last = _far_apart(opened)
    expected = opened.take(first, ["FLUX"])
    os.utime(tmp_path / "toy/main/astropile.json", (1, 1))
    opened.take([20], ["FLUX"])
    copied = pickle.loads(pickle.dumps(opened))
    (tmp_path / "toy/main").rename(tmp_path / "old")
    shutil.copytree(successor / layout / "main", tmp_path / "toy/main")
    for catalog in (opened, copied):
        assert len(open_catalog(tmp_path / "toy")) == len(catalog)
        for _ in range(2):
            with pytest.raises(FormatError, match=REPLACED):
                catalog.take(last, ["FLUX"])
            with pytest.raises(FormatError, match=REPLACED):
                catalog.light(["ra"])
    shutil.rmtree(tmp_path / "toy/main")
    (tmp_path / "old").rename(tmp_path / "toy/main")
    same(opened.take(first, ["FLUX"]), expected)


@pytest.mark.parametrize("has_tags", [True, False])
@pytest.mark.parametrize("layout", ["compact", "fast"])
def test_replaced_tree(folder, successor, tmp_path, layout, has_tags):
    """A tree replaced behind a URL is noticed, were its server one without tags (D20)."""
    shutil.copytree(folder / layout / "main", tmp_path / "toy/main")
    with serve(tmp_path) as server:
        if not has_tags:
            server.fault = lambda _: Fault(headers={"ETag": "", "Last-Modified": ""})
        remote = open_catalog(f"{server.url}/toy", "main", remote=options())
        first, last = _far_apart(remote)
        remote.take(first, ["FLUX"])
        copied = pickle.loads(pickle.dumps(remote))
        shutil.rmtree(tmp_path / "toy/main")
        shutil.copytree(successor / layout / "main", tmp_path / "toy/main")
        for catalog in (remote, copied):
            for _ in range(2):
                with pytest.raises(FormatError, match=REPLACED):
                    catalog.take(last, ["FLUX"])
                with pytest.raises(FormatError, match=REPLACED):
                    catalog.light(["ra"])
        shutil.rmtree(tmp_path / "toy")
        with pytest.raises((FormatError, StoreError)):
            copied.take(last, ["FLUX"])


def test_what_went_wrong_where(fresh):
    """A store's error names file, column and rows (H01 to H09)."""
    for layout in ("compact", "fast"):
        for name in ("FLUX", "IMAGE", "LC_FLUX", "STAMP", "ra"):
            fresh.fault = None
            remote = opened(fresh, layout)
            remote.take([3], ["FLUX"])
            fresh.fault, _ = on_shards(lambda _: Fault(status=403))
            with pytest.raises(
                StoreError, match=rf"hdf5.*, column '(ragged/)?{name}', row 0: expected 206"
            ):
                remote.take([3], [name])


FAULTS = {
    "a missing shard": (lambda _: Fault(status=404), "404"),
    "a server without ranges (D04)": (lambda _: Fault(status=200), "found 200"),
    "another range (D06)": (lambda _: Fault(headers={"Content-Range": "bytes 1-2/3"}), "1-2/3"),
    "a changed object (D05)": (lambda _: Fault(status=412), "replaced meanwhile"),
    "encoded": (lambda _: Fault(headers={"Content-Encoding": "gzip"}), "gzip"),
    "cut short (H01)": (lambda _: Fault(status=416), "416"),
}


@pytest.mark.parametrize("verify", [False, True])
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_faults_are_told_where(fresh, fault, verify):
    """Whatever a server does instead is one sentence that names file, column and rows."""
    made, word = fault
    for layout in ("compact", "fast"):
        for name in ("FLUX", "IMAGE", "LC_FLUX", "ra"):
            fresh.fault = None
            url = f"{fresh.url}/{layout}"
            remote = open_catalog(url, "main", remote=options(), verify=verify)
            remote.light(["ra"])
            fresh.fault, hits = on_shards(made)
            with pytest.raises(StoreError, match=word) as caught:
                remote.take([40, 41], [name])
            assert any(hits)
            said = str(caught.value)
            assert "\n" not in said
            shard = remote.shards[
                np.searchsorted([s.start for s in remote.shards], 40, "right") - 1
            ]
            first, last = 40 - shard.start, 41 - shard.start
            assert shard.path.name in said
            assert re.search(rf"column '(ragged/)?{name}', rows? {first}( to {last})?:", said)


def test_replaced_between_ranges(fresh, folder):
    """An object replaced after its first range was read is never mixed (D05, D20)."""

    def fault(ask):
        return Fault(headers={"ETag": '"new"'}) if ask.number else None

    remote = opened(fresh)
    fresh.fault, _ = on_shards(fault)
    remote.take([40], ["FLUX"])
    with pytest.raises(StoreError, match="replaced"):
        remote.take([41], ["FLUX"])


def test_replaced_in_the_middle_of_a_range(fresh, folder):
    """What is read after a break must be of the version that broke off (D05)."""

    def fault(ask):
        return Fault(cut=500) if ask.number == 0 else Fault(headers={"ETag": '"new"'})

    check_fault(fresh, folder, fault, StoreError, "replaced")


def test_replaced_without_a_tag(fresh, folder):
    """Where the server has no tags, the time of the last change tells versions apart."""

    def fault(ask):
        when = f"Sun, 22 Nov 2026 10:00:0{min(ask.number, 1)} GMT"
        return Fault(headers={"ETag": "", "Last-Modified": when})

    remote = opened(fresh)
    fresh.fault, _ = on_shards(fault)
    remote.take([40], ["FLUX"])
    with pytest.raises(StoreError, match="replaced"):
        remote.take([41], ["FLUX"])


@pytest.mark.parametrize("layout", ["compact", "fast"])
def test_swapped_shards(fresh, folder, layout):
    """A shard in another's place is refused, of the same size too (H07)."""
    local = open_catalog(folder / layout)
    sizes = {}
    for shard in local.shards:
        sizes.setdefault(shard.path.stat().st_size, []).append(shard)
    shard, other = max(sizes.values(), key=len)[:2] if layout == "fast" else local.shards[:2]
    remote = opened(fresh, layout)
    content = other.path.read_bytes()
    fresh.fault, hits = on_shards(lambda _: Fault(content=content))
    with pytest.raises((StoreError, FormatError)):
        remote.take([shard.start], ["FLUX", "IMAGE"])
    assert any(hits)


def _without_sums(content, where):
    """Write row tables as they were before they had checksums of chunks."""
    tables = [
        dataclasses.replace(
            table,
            places={n: dataclasses.replace(p, sums=None) for n, p in table.places.items()},
        )
        for table in load_tables(content, where)
    ]
    return dump_tables(tables)


def _chunk_of_size(size, n_bytes):
    """Give a whole chunk of some values, as many bytes long as that of others."""
    for n in range(256):
        packer = zlib.compressobj()
        start = packer.compress(np.random.default_rng(n).bytes(n) + bytes(n_bytes - n))
        start += packer.flush(zlib.Z_SYNC_FLUSH)
        end = packer.flush()
        left = size - len(start) - len(end)
        if left % 5 == 0:
            return start + b"\0\0\0\xff\xff" * (left // 5) + end
    raise AssertionError(size)


@pytest.mark.parametrize("is_old", [False, True])
def test_swapped_twins(fresh, folder, is_old):
    """A shard's chunks in those of another, at the same places, are refused in any tree (H07)."""
    local = open_catalog(folder / "compact")
    shard = local.shards[0]
    place = local._table(shard).places["IMAGE"]
    content = bytearray(shard.path.read_bytes())
    start, size = int(place.starts[0]), int(place.sizes[0])
    content[start : start + size] = _chunk_of_size(size, 2 * 24 * 32 * 4)
    content[64] ^= 1  # The head of another file says other things, too.
    old = {}
    for path in (folder / "compact/main/rows").iterdir():
        old[path.name] = _without_sums(path.read_bytes(), path.name)

    def fault(ask):
        if is_old and "/rows/" in ask.key:
            return Fault(content=old[ask.key.rpartition("/")[2]])
        return Fault(content=bytes(content)) if ask.key.endswith(".hdf5") else None

    remote = opened(fresh)
    fresh.fault = fault
    with pytest.raises(FormatError, match="row table describes"):
        remote.take([0], ["IMAGE"])


def test_old_row_tables(fresh, folder):
    """A tree whose row tables have no checksums is read for one look at each shard's head."""
    local, remote = open_catalog(folder / "compact"), opened(fresh)
    old = {
        path.name: _without_sums(path.read_bytes(), path.name)
        for path in (folder / "compact/main/rows").iterdir()
    }
    fresh.fault = lambda ask: (
        Fault(content=old[ask.key.rpartition("/")[2]]) if "/rows/" in ask.key else None
    )
    for _ in range(2):
        fresh.clear()
        same(remote.take([0, 41], BIG), local.take([0, 41], BIG))
    assert not [ask for ask in fresh.asked if ask.start == 0]


def test_flipped_bit(fresh, folder):
    """A bit that flips on the way in a compressed chunk is found (H05)."""
    local = open_catalog(folder / "compact")
    shard = local.shards[0]
    content = bytearray(shard.path.read_bytes())
    place = local._table(shard).places["IMAGE"]
    content[int(place.starts[0]) + int(place.sizes[0]) // 2] ^= 4
    remote = opened(fresh)
    fresh.fault, _ = on_shards(lambda _: Fault(content=bytes(content)))
    with pytest.raises(FormatError, match="IMAGE"):
        remote.take([0], ["IMAGE"])


def test_html_instead_of_a_tree(fresh):
    """A login page in place of astropile.json is not a tree (D09)."""
    fresh.fault = lambda _: Fault(content=b"<html>please log in</html>")
    with pytest.raises(FormatError, match=r"astropile\.json: expected JSON"):
        opened(fresh)


def test_cut_root(fresh):
    """A small file that breaks off is gone on with; one that never ends is given up."""
    fresh.fault = lambda ask: Fault(cut=100) if ask.number == 0 else None
    assert len(opened(fresh)) == 80
    assert fresh.asked[1].start == 100
    fresh.fault = lambda _: Fault(cut=0)
    with pytest.raises(StoreError, match="within 3 attempts"):
        opened(fresh)


def test_missing_row_table(fresh):
    """A remote tree without row tables says so."""
    remote = opened(fresh)
    fresh.fault = lambda ask: Fault(status=404) if "/rows/" in ask.key else None
    with pytest.raises(FormatError, match="row tables"):
        remote.take([0])


def test_broken_row_table(fresh, folder):
    """Row tables that were cut or belong to another partition are refused."""
    files = sorted((folder / "compact/main/rows").iterdir())
    remote = opened(fresh)
    fresh.fault = lambda ask: Fault(content=b"ARROW1") if "/rows/" in ask.key else None
    with pytest.raises(FormatError, match="row tables"):
        remote.take([0])
    other = files[-1].read_bytes()
    fresh.fault = lambda ask: Fault(content=other) if "/rows/" in ask.key else None
    with pytest.raises((FormatError, StoreError)):
        opened(fresh).take([0], BIG)


def test_broken_catalogue(fresh):
    """A catalogue whose footers or files are not what they were is refused."""
    for name in ("_metadata", ".parquet"):
        remote = opened(fresh)
        junk = Fault(content=b"PAR1" + bytes(4_000_000))
        fresh.fault = lambda ask, name=name, junk=junk: junk if name in ask.key else None
        with pytest.raises((FormatError, StoreError)):
            remote.light(["ra"])


def _metadata(folder):
    return (folder / "compact/main/catalog/dataset/_metadata").read_bytes()


def test_damaged_footers(fresh, folder):
    """Footers with a bit flipped, or cut short, are refused before anything is made of them."""
    content = _metadata(folder)
    rng = np.random.default_rng(4)
    damaged = [b"", b"P", content[: len(content) // 2], content[:-1], content[40:]]
    for place in [*range(4, 60, 4), *rng.integers(60, len(content), 12).tolist()]:
        damaged.append(bytearray(content))
        damaged[-1][place] ^= 1 << int(rng.integers(8))
    remote = opened(fresh)
    for footers in damaged:
        answer = Fault(content=bytes(footers))
        fresh.fault = lambda ask, made=answer: made if "_metadata" in ask.key else None
        # The mark itself is not under the hash: without it they are those of an older tree.
        if bytes(footers[4:12]) != content[4:12] and bytes(footers[44:]) == content[44:]:
            assert opened(fresh).light(["ra"]).equals(remote.light(["ra"]))
            continue
        for ask in (lambda tree: tree.light(["ra"]), lambda tree: tree.query("z > 0.5")):
            with pytest.raises(FormatError, match=r"_metadata: expected the footers") as caught:
                ask(opened(fresh))
            assert "\n" not in str(caught.value)


def test_footers_without_a_hash(fresh, folder):
    """The footers of older trees, which have no hash, are read; those that lead nowhere refused."""
    content = _metadata(folder)
    local, old = open_catalog(folder / "compact"), content[:4] + content[44:]
    fresh.fault = lambda ask: Fault(content=old) if "_metadata" in ask.key else None
    assert opened(fresh).light(["ra", "Z"]).equals(local.light(["ra", "Z"]))
    name = b"Norder=0/Dir=0/Npix="
    wrong = [old.replace(name, other) for other in (b"Norder=0/Dir=1/Npix=", b"\xff" + name[1:])]
    wrong.append(old.replace(name, b"../../../a/b/c/d/e/f"))
    for footers in wrong:
        assert footers != old
        fresh.fault = lambda ask, it=footers: Fault(content=it) if "_metadata" in ask.key else None
        with pytest.raises((FormatError, StoreError)) as caught:
            opened(fresh).light(["ra"])
        assert "catalog" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_redirects(fresh):
    """A redirect is followed on the same host, and to another only if that was allowed."""
    with serve(fresh.folder) as other:
        target = f"{other.url}/compact/main/astropile.json"
        host = target.split("/")[2]
        fresh.fault = lambda _: Fault(status=302, headers={"Location": target})
        with pytest.raises(StoreError, match=f"redirect to http://{host}"):
            opened(fresh)
        remote = opened(fresh, allowed_hosts=(host,), headers={"Authorization": "secret"})
        assert len(remote) == 80
        assert "authorization" not in other.asked[-1].headers
        assert fresh.asked[-1].headers["authorization"] == "secret"
    for location in ("file:///etc/passwd", "ftp://127.0.0.1/x"):
        fresh.fault = lambda _, at=location: Fault(status=302, headers={"Location": at})
        with pytest.raises(StoreError, match="redirect"):
            opened(fresh)
    here = f"{fresh.url}/compact/main/astropile.json"
    fresh.fault = lambda _: Fault(status=302, headers={"Location": here})
    with pytest.raises(StoreError, match="redirects"):
        opened(fresh)


def test_nobody_there(folder):
    """A server that is not there is told after the attempts allowed."""
    with serve(folder) as gone:
        url = gone.url
    with pytest.raises(StoreError, match="within 2 attempts"):
        open_catalog(f"{url}/compact", "main", remote=options(attempts=2))


def test_stalls(folder):
    """A server that says nothing is given up after the timeout."""
    with (
        serve(folder, latency=3.0) as slow,
        pytest.raises(StoreError, match="within 2 attempts"),
    ):
        open_catalog(f"{slow.url}/compact", "main", remote=options(attempts=2, timeout=0.3))


def test_secrets_stay_out_of_messages(fresh):
    """A password or signature in the URL is sent, and stands in no message."""
    host = fresh.url.removeprefix("http://")
    remote = open_catalog(f"http://me:pass%20word@{host}/compact?sig=abc", "main")
    assert fresh.asked[-1].headers["authorization"] == "Basic bWU6cGFzcyB3b3Jk"
    fresh.fault = lambda _: Fault(status=403)
    with pytest.raises(StoreError) as caught:
        remote.light(["ra"])
    assert "word" not in str(caught.value) + str(remote.path)
    assert "abc" not in str(caught.value) + str(remote.path)


# -- limits, cache, processes


def test_limits(fresh):
    """More requests or bytes than allowed are not made."""
    remote = opened(fresh, max_requests=5)
    with pytest.raises(StoreError, match="at most 5 requests"):
        remote.take(range(80))
    assert len(fresh.asked) <= 5
    remote = opened(fresh, max_bytes=50_000)
    with pytest.raises(StoreError, match="at most 50000 bytes in all"):
        remote.take(range(80))


def test_limits_of_copies(fresh):
    """A copy of an opened tree does not start with its limits unused."""
    remote = opened(fresh, max_requests=30, max_bytes=10_000_000)
    remote.take([0], BIG)
    spent = remote.path.store.n_requests, remote.path.store.n_bytes
    copied = pickle.loads(pickle.dumps(remote))
    assert (copied.path.store.n_requests, copied.path.store.n_bytes) == spent
    assert min(spent) > 0
    fresh.clear()
    with pytest.raises(StoreError, match="at most 30 requests"):
        copied.take(range(80))
    assert len(fresh.asked) <= 30 - spent[0]


def test_cache(fresh, folder, tmp_path):
    """What the cache holds is not asked for again, by no other process either."""
    columns, local = ["Z", "NAME"], open_catalog(folder / "compact")
    for _ in range(2):
        fresh.clear()
        remote = opened(fresh, cache_dir=tmp_path / "cache")
        assert remote.light(columns).equals(local.light(columns))
        same(remote.take([3, 50], BIG), local.take([3, 50], BIG))
    asked = [ask.key.removeprefix("compact/main/") for ask in fresh.asked]
    # It is asked whether the tree is still the same, a byte each time.
    others = [key for key in asked if not key.startswith("healpix=")]
    assert set(others) == {"astropile.json"}
    assert len(others) <= 3


def test_damaged_cache(fresh, folder, tmp_path):
    """What was damaged in the cache is fetched again."""
    local = open_catalog(folder / "compact")
    for _ in range(2):
        remote = opened(fresh, cache_dir=tmp_path / "cache")
        same(remote.take([3], BIG), local.take([3], BIG))
        assert remote.light(["Z"]).equals(local.light(["Z"]))
        for path in (tmp_path / "cache").iterdir():
            content = bytearray(path.read_bytes())
            content[-1] ^= 1
            path.write_bytes(content)


def test_bounded_cache(fresh, tmp_path):
    """The cache holds no more than it may; what was used longest ago goes first."""
    from astropile.store.cache import Cache

    cache = Cache(tmp_path / "cache", 3000)
    for number in range(5):
        cache.put(f"{number}", bytes([number]) * 900)
        os.utime(cache._path(f"{number}"), (number, number))
    assert [cache.get(f"{number}") is not None for number in range(5)] == [False] * 2 + [True] * 3
    cache.put("huge", bytes(5000))
    assert cache.get("huge") is None
    remote = opened(fresh, cache_dir=tmp_path / "small", cache_bytes=20_000)
    remote.light()
    remote.take(range(80), ["FLUX"])
    files = list((tmp_path / "small").iterdir())
    assert 0 < sum(path.stat().st_size for path in files) <= 20_000


def test_cache_believes_the_manifest(fresh, tmp_path):
    """Row tables that are not those of the manifest do not get into the cache."""
    remote = opened(fresh, cache_dir=tmp_path / "cache")
    right = fresh.folder / "compact/main/rows"
    other = max(right.iterdir()).read_bytes()
    fresh.fault = lambda ask: Fault(content=other) if "/rows/" in ask.key else None
    with pytest.raises(StoreError, match="SHA-256"):
        remote.take([0])
    fresh.fault = None
    opened(fresh, cache_dir=tmp_path / "cache").take([0])


def test_threads(fresh, folder):
    """One catalog serves several threads."""
    local, remote = open_catalog(folder / "compact"), opened(fresh)
    wanted = [np.arange(start, 80, 7) for start in range(8)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda rows: remote.take(rows, BIG), wanted))
    for rows, values in zip(wanted, found, strict=True):
        same(values, local.take(rows, BIG))


def _sum_of(catalog):
    return float(catalog.take([0, 41], ["IMAGE"])["IMAGE"].sum())


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_other_processes(fresh, method):
    """A catalog goes to another process, opened or used before (C01)."""
    remote = opened(fresh)
    expected = _sum_of(remote)
    with get_context(method).Pool(1) as pool:
        assert pool.apply(_sum_of, (remote,)) == expected
    assert _sum_of(pickle.loads(pickle.dumps(remote))) == expected


def test_hugging_face(fresh, folder):
    """A URL stands wherever a folder does: builder, dataset, stream and match."""
    datasets = pytest.importorskip("datasets")
    from astropile import cross_match_datasets, load_dataset_builder

    builder = load_dataset_builder(f"{fresh.url}/compact", "main", remote=options(connections=4))
    assert builder.catalog.path.store.options.connections == 4
    dataset = builder.as_dataset("train")
    assert isinstance(dataset, datasets.Dataset)
    local = load_dataset_builder(folder / "compact").as_dataset("train")
    assert dataset[41] == local[41]
    assert dataset[[3, 1]]["object_id"] == local[[3, 1]]["object_id"]
    assert pickle.loads(pickle.dumps(dataset))[7] == local[7]
    assert next(iter(builder.as_streaming_dataset("train"))) == local[0]
    catalog, pairs = cross_match_datasets(builder, f"{fresh.url}/fast/main", match_radius=1.0)
    assert len(pairs) == len(catalog) == 80
    assert pairs[5]["toy_left"] == local[int(catalog["row_toy_left"][5])]


def test_lopsided_hugging_face_match(fresh, folder, tmp_path, monkeypatch):
    """Pairs with a large remote tree are those with the same tree on disk; its catalogue stays
    unread."""
    pytest.importorskip("datasets")
    from astropile import cross_match_datasets

    few = toy.make_batch(2, seed=9, ra=[10.0, 200.0], dec=[5.0, -40.0])
    toy.write_native(tmp_path / "native/a.npz", few)
    build_catalog(toy.SURVEY, tmp_path / "native", tmp_path / "few", order=1)
    monkeypatch.setattr("astropile.remote._SHARD_NBYTES", 0)
    monkeypatch.setattr("astropile.remote._ROW_TABLE_NBYTES", 0)
    monkeypatch.setattr("astropile.hf.rows.REMOTE_LIGHT_NBYTES", 0, raising=False)
    expected = cross_match_datasets(tmp_path / "few", folder / "compact", match_radius=1.0)
    fresh.clear()
    remote = opened(fresh)
    found = cross_match_datasets(tmp_path / "few", remote, match_radius=1.0)
    assert len(found.catalog) == 1
    assert found.catalog.as_array().tolist() == expected.catalog.as_array().tolist()
    assert found.catalog.meta == expected.catalog.meta
    assert found.dataset[0] == expected.dataset[0]
    assert not [ask for ask in fresh.asked if ask.key.endswith(".parquet")]
