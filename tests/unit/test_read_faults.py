"""Whatever happens to the files, a reader gives what was written or says what is wrong."""

import contextlib
import multiprocessing
import os
import pickle
import resource
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import toy
from astropile import build_catalog, open_catalog
from astropile.errors import FormatError
from astropile.hdf5.rows import Place, RowTable, dump_tables, load_tables
from astropile.store.local import LocalFile, run_all

NAMES = ["ID", "NAME", "FLUX", "IMAGE", "IMAGE_MASK", "LC_FLUX", "STAMP"]
N = 30


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """Both layouts of the same survey, in one partition of several shards."""
    folder = tmp_path_factory.mktemp("trees")
    batch = toy.make_batch(N, seed=1, ra=np.full(N, 10.0), dec=np.full(N, 5.0))
    toy.write_native(folder / "native/a.npz", batch)
    for layout in ("compact", "fast"):
        build_catalog(
            toy.SURVEY,
            folder / "native",
            folder / layout,
            order=0,
            shard_nbytes=200_000,
            layout=layout,
        )
    return folder


@pytest.fixture(params=["compact", "fast"])
def tree(request, trees, tmp_path):
    """A copy to damage."""
    shutil.copytree(trees / request.param, tmp_path / "toy")
    return tmp_path / "toy"


@pytest.fixture
def shards(tree):
    catalog = open_catalog(tree)
    assert len(catalog.shards) >= 3
    return [shard.path for shard in catalog.shards]


def equal(found, expected):
    for name in NAMES:
        for mine, theirs in zip(found[name], expected[name], strict=True):
            assert np.asarray(mine).tobytes() == np.asarray(theirs).tobytes()


def truth(trees, rows=None):
    return open_catalog(trees / "fast").take(np.arange(N) if rows is None else rows, NAMES)


@pytest.mark.parametrize("kept", [0, 100, 0.5, -1])
def test_truncated(tree, shards, kept):
    """A file that is too short is refused by name, with both sizes; the other shards still read."""
    size = shards[1].stat().st_size
    left = kept if kept in (0, 100) else size - 1 if kept == -1 else int(kept * size)
    os.truncate(shards[1], left)
    catalog = open_catalog(tree)
    with pytest.raises(FormatError, match=f"{size} bytes, found {left} bytes") as caught:
        catalog.take(np.arange(N), NAMES)
    assert str(shards[1]) in str(caught.value)
    assert len(catalog.take([0], NAMES)["ID"]) == 1


def test_longer(tree, shards):
    """A file that is too long is refused."""
    with shards[0].open("ab") as file:
        file.write(b"more")
    with pytest.raises(FormatError, match="bytes"):
        open_catalog(tree).take([0], NAMES)


def test_page_in_its_place(tree, shards):
    """A web page of the right size is refused."""
    page = b"<!DOCTYPE html><title>Log in</title>"
    shards[0].write_bytes(page.ljust(shards[0].stat().st_size, b" "))
    with pytest.raises(FormatError, match="another file"):
        open_catalog(tree).take([0], ["ID"])


def test_swapped_shards(tree, shards):
    """Two shards that changed places are both refused, of whatever size they are."""
    aside = shards[0].with_name("aside")
    shards[0].rename(aside)
    shards[1].rename(shards[0])
    aside.rename(shards[1])
    catalog = open_catalog(tree)
    for shard in catalog.shards[:2]:
        with pytest.raises(FormatError, match=r"another file|bytes, found") as caught:
            catalog.take([shard.start], NAMES)
        assert str(shard.path) in str(caught.value)


def test_missing_shard(tree, shards):
    """A missing file is named."""
    shards[2].unlink()
    with pytest.raises(FormatError, match="no such file") as caught:
        open_catalog(tree).take(np.arange(N), ["IMAGE"])
    assert str(shards[2]) in str(caught.value)


def test_the_whole_file_is_wrong(tree, shards):
    """A file that is missing or cut short is named with the columns and rows asked of it."""
    catalog = open_catalog(tree)
    first = catalog.shards[1]
    os.truncate(shards[1], 100)
    with pytest.raises(FormatError) as caught:
        catalog.take([first.start + 1, first.start], ["ID", "FLUX"])
    assert caught.value.where == f"{shards[1]}, columns 'ID', 'FLUX', rows 0 to 1"
    shards[1].unlink()
    with pytest.raises(FormatError) as caught:
        catalog.take([first.start], ["ID"])
    assert caught.value.where == f"{shards[1]}, column 'ID', row 0"


@pytest.mark.timeout(10)
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_not_a_file(tree, shards, make):
    """A pipe or a folder in a file's place is refused, and nobody waits for it."""
    shards[0].unlink()
    make(shards[0])
    with pytest.raises(FormatError, match="regular file"):
        open_catalog(tree).take([0], ["ID"])


def test_flipped_bits_in_chunks(trees, tmp_path):
    """Where a compressed value has a flipped bit, column and row are named; other rows are read."""
    shutil.copytree(trees / "compact", tmp_path / "toy")
    catalog = open_catalog(tmp_path / "toy")
    shard = catalog.shards[0]
    content = shard.path.read_bytes()
    table = load_tables((catalog.path / "rows" / "healpix=4.arrow").read_bytes(), "here")[0]
    expected = truth(trees)
    rng = np.random.default_rng(0)
    caught = 0
    for name in ("FLUX", "IMAGE", "IMAGE_MASK"):
        place = table.places[name]
        # The first 64 KiB are hashed: there, the whole file would be refused.
        for row in (shard.n_objects - 2, shard.n_objects - 1):
            at = int(place.starts[row] + rng.integers(place.sizes[row]))
            damaged = bytearray(content)
            damaged[at] ^= 1 << int(rng.integers(8))
            shard.path.write_bytes(damaged)
            fresh = open_catalog(tmp_path / "toy")
            told = ""
            try:
                equal(fresh.take(np.arange(N), NAMES), expected)
            except FormatError as error:
                told = str(error)
            caught += bool(told)
            for word in (str(shard.path), repr(name), f"row {row}"):
                assert not told or word in told
            others = np.setdiff1d(np.arange(N), [row])
            equal(fresh.take(others, NAMES), truth(trees, others))
    assert caught >= 5


def rewrite(catalog, change):
    """Write the row tables anew with one of them changed, as a faulty writer would have."""
    path = next((catalog.path / "rows").iterdir())
    tables = load_tables(path.read_bytes(), "here")
    tables[0] = change(tables[0])
    path.write_bytes(dump_tables(tables))


def moved(name, starts=None, sizes=None, rows=None):
    def change(table):
        place = table.places[name]
        places = dict(table.places)
        places[name] = Place(
            place.starts if starts is None else starts(place.starts.copy()),
            place.sizes if sizes is None or place.sizes is None else sizes(place.sizes.copy()),
            place.chunk_rows if rows is None else rows,
        )
        return RowTable(table.file_size, table.head, table.n_objects, places, table.offsets)

    return change


@pytest.mark.parametrize("name", ["ID", "FLUX", "IMAGE", "ragged/LC_FLUX", "ragged/STAMP"])
def test_table_points_outside(tree, name):
    """A row table that points outside the file is refused with file and column."""
    rewrite(open_catalog(tree), moved(name, starts=lambda starts: starts + 10**9))
    catalog = open_catalog(tree)
    with pytest.raises(FormatError, match=name.removeprefix("ragged/")) as caught:
        catalog.take(np.arange(3), [name.removeprefix("ragged/")])
    assert str(catalog.shards[0].path) in str(caught.value)


@pytest.mark.parametrize("name", ["ID", "FLUX", "ragged/STAMP"])
def test_table_without_place(tree, name):
    """A column that the row table says was not written is refused."""
    rewrite(open_catalog(tree), moved(name, starts=lambda starts: np.full_like(starts, -1)))
    with pytest.raises(FormatError, match=name.removeprefix("ragged/")):
        open_catalog(tree).take(np.arange(3), [name.removeprefix("ragged/")])


def test_table_of_wrong_chunks(trees, tmp_path):
    """Chunks at another row's place, of another size, or too few, are never taken for the row's."""
    shutil.copytree(trees / "compact", tmp_path / "toy")
    original = open_catalog(tmp_path / "toy")
    kept = next((original.path / "rows").iterdir()).read_bytes()
    changes = [
        moved("FLUX", sizes=lambda sizes: sizes - 1),
        moved("FLUX", starts=lambda starts: starts + 1),
        moved("FLUX", starts=lambda starts: starts[:-1]),
        moved("FLUX", rows=2),
    ]
    for change in changes:
        next((original.path / "rows").iterdir()).write_bytes(kept)
        rewrite(original, change)
        with pytest.raises(FormatError, match="FLUX"):
            open_catalog(tmp_path / "toy").take(np.arange(3), ["FLUX"])


def test_offsets_that_shrink(tree):
    """Offsets of a ragged column that do not grow are refused with column and row."""

    def change(table):
        offsets = {name: values.copy() for name, values in table.offsets.items()}
        offsets["ragged/epoch.offsets"][1] = 10**12
        return RowTable(table.file_size, table.head, table.n_objects, table.places, offsets)

    rewrite(open_catalog(tree), change)
    with pytest.raises(FormatError, match=r"LC_FLUX|epoch"):
        open_catalog(tree).take([0, 1, 2], ["LC_FLUX"])


def test_table_of_another_partition(tree):
    """A row table that counts other objects than the tree is refused."""

    def change(table):
        return RowTable(
            table.file_size, table.head, table.n_objects + 1, table.places, table.offsets
        )

    rewrite(open_catalog(tree), change)
    with pytest.raises(FormatError, match="row table"):
        open_catalog(tree).take([0], ["ID"])


def test_any_damaged_table(tree, trees):
    """With any bit of the row tables flipped, the values are right or the file is refused."""
    catalog = open_catalog(tree)
    path = next((catalog.path / "rows").iterdir())
    content = path.read_bytes()
    expected = truth(trees)
    rng = np.random.default_rng(2)
    caught = 0
    for place in rng.integers(0, len(content), 60):
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        told = ""
        try:
            equal(open_catalog(tree).take(np.arange(N), NAMES), expected)
        except FormatError as error:
            told = str(error)
        caught += bool(told)
        assert not told or str(catalog.path) in told
    assert caught > 20


# -- the file changes while it is read


def test_replaced_between_reads(tree, shards):
    """A file that another one replaced since it was read is refused until the tree is reopened."""
    catalog = open_catalog(tree)
    catalog.take([0], NAMES)
    copy = shards[0].with_name("copy")
    shutil.copy(shards[0], copy)
    copy.rename(shards[0])
    with pytest.raises(FormatError, match="open the tree again") as caught:
        catalog.take([0], NAMES)
    assert str(shards[0]) in str(caught.value)
    assert len(open_catalog(tree).take([0], NAMES)["ID"]) == 1


def test_replaced_while_read(tree, shards, monkeypatch):
    """A file replaced by name during a read is read on as it was: nothing is mixed."""
    expected = open_catalog(tree).take(np.arange(3), NAMES)
    replaced = []

    def replace_first(self, starts, lengths):
        if not replaced:
            replaced.append(True)
            other = shards[0].with_name("other")
            other.write_bytes(bytes(shards[0].stat().st_size))
            other.rename(shards[0])

    monkeypatch.setattr(LocalFile, "expect", replace_first)
    equal(open_catalog(tree).take(np.arange(3), NAMES), expected)
    assert replaced


@pytest.mark.parametrize("columns", [["IMAGE"], ["ID"], ["LC_FLUX"], ["STAMP"]])
def test_changed_while_read(tree, shards, monkeypatch, columns):
    """A file written to during a read is refused, even if what was read is as it was."""

    def write_first(self, starts, lengths):
        with self.path.open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            last = file.read(1)
            file.seek(-1, os.SEEK_END)
            file.write(last)
        os.utime(self.path, ns=(1, 1))

    monkeypatch.setattr(LocalFile, "expect", write_first)
    with pytest.raises(FormatError, match="changed since"):
        open_catalog(tree).take([0], columns)


@pytest.mark.parametrize("columns", [["IMAGE"], ["ID"], ["FLUX", "IMAGE"], ["STAMP"]])
def test_truncated_while_read(tree, shards, monkeypatch, columns):
    """A file cut short during a read is refused with file, column and how much was missing."""
    monkeypatch.setattr(
        LocalFile, "expect", lambda self, starts, lengths: os.truncate(self.path, int(starts[0]))
    )
    with pytest.raises(FormatError, match="an end after") as caught:
        open_catalog(tree).take([1, 2], columns)
    assert any(name in str(caught.value) for name in columns)
    assert str(shards[0]) in str(caught.value)


# -- threads and processes


def test_threads(tree, trees):
    """Many threads read the same catalog at once, and each gets what it asked for."""
    catalog = open_catalog(tree)
    expected = truth(trees)

    def read(seed):
        rows = np.random.default_rng(seed).integers(0, N, 8)
        found = catalog.take(rows, NAMES)
        equal(found, {name: [expected[name][row] for row in rows] for name in NAMES})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(read, range(64)))


def digest(catalog):
    """Read all of a catalog, in another process."""
    found = catalog.take(np.arange(N), NAMES)
    return b"".join(np.asarray(value).tobytes() for name in NAMES for value in found[name])


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes(tree, method, monkeypatch):
    """A catalog that was read from works in child processes, forked or spawned."""
    monkeypatch.setattr("astropile.store.local.THREADS_FROM_NBYTES", 0)
    catalog = open_catalog(tree)
    expected = digest(catalog)
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map(digest, [catalog, catalog, catalog]) == [expected] * 3
    assert digest(catalog) == expected
    assert digest(pickle.loads(pickle.dumps(catalog))) == expected


def test_few_handles(tree, trees):
    """Reading leaves no file open, and needs no more at once than are allowed."""
    catalog = open_catalog(tree)
    expected = truth(trees)
    before = len(list(Path("/proc/self/fd").iterdir()))
    equal(catalog.take(np.arange(N), NAMES), expected)
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 1
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before + 70, hard))
    try:
        equal(open_catalog(tree).take(np.arange(N), NAMES), expected)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_first_error_ends_all():
    """When a task fails, no other begins, and none runs any more when the error comes out."""
    done = []

    def fail():
        raise FormatError("here", "this", "that")

    with pytest.raises(FormatError, match="here"):
        run_all([fail, *[lambda: done.append(1)] * 1000], 2**30)
    n_done = len(done)
    assert n_done < 1000
    assert len(done) == n_done


def test_memory_is_not_shared(tree, trees):
    """Arrays that are kept never change, however much is read after them."""
    catalog = open_catalog(tree)
    rows = np.tile(np.arange(N), 8)
    kept = catalog.take(rows, ["IMAGE"])["IMAGE"]
    view = kept[5:7]
    expected, part = kept.copy(), view.copy()
    for _ in range(5):
        catalog.take(rows[::-1], ["IMAGE"])
    assert (kept == expected).all()
    del kept
    for _ in range(5):
        with contextlib.suppress(IndexError):
            catalog.take(rows[::-1], ["IMAGE"])
    assert (view == part).all()
