"""A subset grows by snapshots: readers keep theirs, nothing is lost, going back is possible."""

import os
import pickle
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import toy
from astropile import build_catalog, open_catalog, validate_catalog
from astropile.build.additions import add_to_catalog
from astropile.cli.main import main
from astropile.errors import BuildError, TreeNotFoundError
from astropile.snapshots import list_snapshots, remove_snapshots, restore_snapshot
from treehash import hashes

LISTS = ("main/astropile.json", "main/manifest/inputs.jsonl", "main/manifest/rejected.jsonl")


def write(folder, number, *, ra, n=6):
    batch = toy.make_batch(
        n, seed=number, first_id=100 * number, ra=np.linspace(ra, ra + 9, n), dec=np.full(n, 5.0)
    )
    toy.write_native(folder / f"{number}.npz", batch)


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """A tree of two files, to which two more were added; and one built of all four."""
    base = tmp_path_factory.mktemp("grown")
    write(base / "native", 1, ra=10)
    write(base / "native", 2, ra=200)
    build_catalog(toy.SURVEY, base / "native", base / "toy", shard_nbytes=60_000)
    (base / "first").mkdir()
    shutil.copytree(base / "toy/main", base / "first/main")
    write(base / "native", 3, ra=14)  # among the first
    write(base / "native", 4, ra=300)  # elsewhere
    add_to_catalog(toy.SURVEY, base / "native", base / "toy")
    build_catalog(toy.SURVEY, base / "native", base / "whole/toy", shard_nbytes=60_000)
    return base


@pytest.fixture
def tree(grown, tmp_path):
    shutil.copytree(grown / "toy", tmp_path / "toy")
    return tmp_path / "toy"


def test_added_is_as_built_at_once(grown):
    """What was added to is, but for its lists, the tree of all inputs, byte for byte; and valid."""
    found = {k: v for k, v in hashes(grown / "toy").items() if not k.startswith(".")}
    whole = hashes(grown / "whole/toy")
    for name in LISTS[:1]:
        assert found.pop(name) != whole.pop(name)
    assert found == whole
    now, at_once = (open_catalog(grown / name) for name in ("toy", "whole/toy"))
    assert now.snapshot == at_once.snapshot
    assert now.root.parent == open_catalog(grown / "first").snapshot
    assert validate_catalog(grown / "toy").problems == ()


def test_untouched_files_are_the_same_files(grown):
    """A partition that got nothing new shares its files with the snapshot before."""
    old, new = (
        {shard.ipix: shard.path for shard in open_catalog(grown / "toy", snapshot=name).shards}
        for name in (one.snapshot for one in list_snapshots(grown / "toy")[::-1])
    )
    same = [ipix for ipix in old if old[ipix].samefile(new[ipix])]
    other = [ipix for ipix in old if not old[ipix].samefile(new[ipix])]
    light = open_catalog(grown / "toy").light(["object_id", "healpix"]).to_pydict()
    file_of = (np.array(light["object_id"]) - 2**60) // 100
    touched = set(np.array(light["healpix"])[file_of >= 3].tolist())
    assert set(other) == set(old) & touched
    assert set(same) == set(old) - touched
    assert same
    assert other


def test_readers_of_the_old_snapshot_are_not_disturbed(tmp_path):
    """Opened before, pickled before, read or not: each reader goes on with its own version."""
    write(tmp_path / "native", 1, ra=10)
    tree = tmp_path / "toy"
    build_catalog(toy.SURVEY, tmp_path / "native", tree)
    begun, fresh, carried = (open_catalog(tree) for _ in range(3))
    names = ["ID", "IMAGE", "STAMP"]
    before = begun.take(np.arange(6), names)
    pickled = tmp_path / "pickled"
    pickled.write_bytes(pickle.dumps(carried))
    write(tmp_path / "native", 2, ra=11)
    add_to_catalog(toy.SURVEY, tmp_path / "native", tree)
    assert len(open_catalog(tree)) == 12
    for catalog in (begun, fresh):
        assert len(catalog) == 6
        found = catalog.take(np.arange(6), names)
        assert found["IMAGE"].tobytes() == before["IMAGE"].tobytes()
        assert found["STAMP"].values.tobytes() == before["STAMP"].values.tobytes()
        assert catalog.light(["object_id"])["object_id"].to_pylist() == before["ID"].tolist()
        assert len(catalog.cone(14.5, 5.0, 36000)) == 6
    code = (
        "import pickle, sys; c = pickle.load(open(sys.argv[1], 'rb')); "
        "print(len(c.positions()[0]), c.take([5], ['ID'])['ID'][0])"
    )
    # In a process that has never seen the tree as it was.
    told = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(pickled)],
        capture_output=True,
        check=True,
        text=True,
    )
    assert told.stdout.split() == ["6", str(before["ID"][5])]


def test_a_reader_that_reads_all_the_while(tmp_path):
    """Reading never fails or changes while snapshots are added and brought back."""
    write(tmp_path / "native", 1, ra=10)
    tree = tmp_path / "toy"
    build_catalog(toy.SURVEY, tmp_path / "native", tree)
    expected = open_catalog(tree).take(np.arange(6), ["ID", "Z"])
    stop, failed, n_read = threading.Event(), [], []

    def read():
        catalog = open_catalog(tree)
        while not stop.is_set():
            try:
                found = pickle.loads(pickle.dumps(catalog)).take(np.arange(6), ["ID", "Z"])
                assert found["ID"].tolist() == expected["ID"].tolist()
                assert catalog.light(["Z"])["Z"].to_pylist() == pytest.approx(
                    expected["Z"].tolist()
                )
                n_read.append(1)
            except BaseException as error:
                failed.append(error)
                raise

    thread = threading.Thread(target=read)
    thread.start()
    first = open_catalog(tree).snapshot
    try:
        write(tmp_path / "native", 2, ra=11)
        add_to_catalog(toy.SURVEY, tmp_path / "native", tree)
        second = open_catalog(tree).snapshot
        for name in (first, second) * 3:
            restore_snapshot(tree, name)
    finally:
        stop.set()
        thread.join()
    assert failed == []
    assert len(n_read) > 5


def test_listing_going_back_and_removing(tree, grown):
    """Snapshots are listed newest first; an old one comes back whole; the current one stays."""
    new, old = list_snapshots(tree)
    assert (new.current, old.current) == (True, False)
    assert (new.parent, old.parent) == (old.snapshot, "")
    assert (new.n_objects, old.n_objects) == (24, 12)
    assert len(open_catalog(tree, snapshot=old.snapshot[:8])) == 12
    assert restore_snapshot(tree, old.snapshot[:10]).current
    assert hashes(tree / "main") == hashes(grown / "first/main")
    assert validate_catalog(tree).ok
    assert {one.snapshot: one.current for one in list_snapshots(tree)} == {
        old.snapshot: True,
        new.snapshot: False,
    }
    with pytest.raises(BuildError, match="is the current snapshot"):
        remove_snapshots(tree, [old.snapshot])
    remove_snapshots(tree, [new.snapshot])
    assert [one.snapshot for one in list_snapshots(tree)] == [old.snapshot]
    with pytest.raises(TreeNotFoundError, match="no snapshot"):
        restore_snapshot(tree, new.snapshot)
    assert len(open_catalog(tree)) == 12


def test_what_cannot_be_added(tree, grown, tmp_path):
    """Nothing new, a changed unit, only repeated objects: refused, and the subset stays."""
    before = hashes(tree)
    with pytest.raises(BuildError, match="nothing is new: it has all 4 units"):
        add_to_catalog(toy.SURVEY, grown / "native", tree)
    for path in (grown / "native").iterdir():
        (tmp_path / "native").mkdir(exist_ok=True)
        os.link(path, tmp_path / "native" / path.name)
    (tmp_path / "native/1.npz").unlink()
    write(tmp_path / "native", 1, ra=10, n=7)
    with pytest.raises(BuildError, match=r"unit 1\.npz is in it already, of other files"):
        add_to_catalog(toy.SURVEY, tmp_path / "native", tree)
    again = tmp_path / "again"
    again.mkdir()
    shutil.copy(grown / "native/1.npz", again / "9.npz")
    with pytest.raises(BuildError, match=r"no object is left.*observation_id is repeated \(6\)"):
        add_to_catalog(toy.SURVEY, again, tree, tolerance=1)
    with pytest.raises(BuildError, match="6 objects repeat an observation_id"):
        add_to_catalog(toy.SURVEY, again, tree, duplicates="error")
    assert {k: v for k, v in hashes(tree).items() if "build" not in k} == before


def test_repeated_objects_are_counted(tree, grown, tmp_path):
    """An object that is there already stays as it is; its double is rejected and listed."""
    batch = toy.make_batch(3, seed=77, first_id=100, ra=[50.0, 51.0, 52.0], dec=[5.0] * 3)
    batch["ID"][1:] += 50_000
    toy.write_native(tmp_path / "native/8.npz", batch)
    old = open_catalog(tree)
    report = add_to_catalog(toy.SURVEY, tmp_path / "native", tree, tolerance=0.5, n_workers=2)
    assert report.reasons == {"observation_id is repeated": 1}
    assert (report.n_read, report.n_written, report.n_units) == (27, 26, 5)
    assert validate_catalog(tree).ok
    assert len(old.take(np.arange(24), ["ID"])["ID"]) == 24


def test_hidden_versions_are_in_nobodys_way(grown):
    """Patterns of data files, as Hugging Face matches them, see the current snapshot alone."""
    found = set(Path(grown / "toy").glob("*/healpix=*/*.hdf5"))
    assert found == {shard.path for shard in open_catalog(grown / "toy").shards}


def test_added_by_the_command(tmp_path, monkeypatch, capsys):
    """`build --add` needs no more words than the first build; other parameters are refused."""
    for module in ("plan", "additions"):
        monkeypatch.setattr(f"astropile.build.{module}.get_survey", lambda _: toy.SURVEY)
    words = ["build", "toy", str(tmp_path / "native"), str(tmp_path / "toy"), "-q"]
    write(tmp_path / "native", 1, ra=10)
    assert main([*words, "--order", "3"]) == 0
    write(tmp_path / "native", 2, ra=200)
    assert main([*words, "--add"]) == 0
    (current, before) = list_snapshots(tmp_path / "toy")
    assert (current.n_objects, before.n_objects) == (12, 6)
    assert open_catalog(tmp_path / "toy").order == 3
    assert main([*words, "--add", "--order", "3"]) == 2
    assert "--order does not go with --add" in capsys.readouterr().err
