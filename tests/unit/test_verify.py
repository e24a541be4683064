"""Comparing a tree with its manifests names what is wrong; mending fetches no more than that."""

import json
import os
import shutil

import h5py
import numpy as np
import pytest

import toy
from astropile.build import build_catalog
from astropile.catalog import open_catalog
from astropile.cli.main import main
from astropile.errors import DownloadError, FormatError, TreeNotFoundError
from astropile.hdf5.rows import Place, RowTable
from astropile.hdf5.touched import Touched, touched_rows
from astropile.journal import Journal
from astropile.manifest import BLOCK_NBYTES
from astropile.repair import repair_tree
from astropile.testing.server import serve
from astropile.verify import Damage, verify_tree


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """One partition of a shard of several blocks, and some small ones."""
    folder = tmp_path_factory.mktemp("sound")
    rng = np.random.default_rng(3)
    ra = np.concatenate([rng.uniform(150, 150.1, 400), rng.uniform(0, 360, 8)])
    dec = np.concatenate([rng.uniform(2, 2.1, 400), rng.uniform(-60, 60, 8)])
    toy.write_native(folder / "native/a.npz", toy.make_batch(408, seed=1, ra=ra, dec=dec))
    build_catalog(toy.SURVEY, folder / "native", folder / "tree", order=1, layout="fast")
    return folder / "tree/main"


@pytest.fixture
def copy(sound, tmp_path):
    shutil.copytree(sound, tmp_path / "main")
    return tmp_path / "main"


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


def big(folder):
    return max(folder.glob("healpix=*/*.hdf5"), key=lambda path: path.stat().st_size)


def flip(path, at):
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1]))


def test_sound(sound, cache):
    """A sound tree is sound; every file but the root and the manifests was hashed, none is kept."""
    before = {path: path.stat().st_mtime_ns for path in sound.rglob("*")}
    report = verify_tree(sound)
    assert report.ok
    hashed = [p for p in sound.rglob("*") if p.is_file() and p.suffix != ".json"]
    assert report.n_files == len(hashed)
    assert report.n_bytes == sum(path.stat().st_size for path in hashed)
    assert report.unhashed == ()
    assert {path: path.stat().st_mtime_ns for path in sound.rglob("*")} == before
    assert [path for path in cache.rglob("*") if path.is_file()] == []


def test_three_kinds(copy):
    """Missing, extra and differing files are told apart."""
    small = [path for path in sorted(copy.glob("healpix=*/*.hdf5")) if path != big(copy)]
    small[0].unlink()
    (small[1].parent / "more.txt").write_text("?")
    (copy / "catalog/more.csv").write_text("?")
    (copy / "healpix=47").mkdir(exist_ok=True)
    flip(copy / "catalog/partition_info.csv", 3)
    (copy / "rows" / f"{small[2].parent.name}.arrow").write_bytes(b"")
    (copy / ".hidden").write_text("allowed")
    found = verify_tree(copy)
    names = {kind: [d.file for d in found.of_kind(kind)] for kind in ("missing", "extra")}
    assert names["missing"] == [small[0].relative_to(copy).as_posix()]
    extra = {"catalog/more.csv", f"{small[1].parent.name}/more.txt"}
    assert extra <= set(names["extra"])
    assert {d.file for d in found.of_kind("differing")} == {
        "catalog/partition_info.csv",
        f"rows/{small[2].parent.name}.arrow",
    }


@pytest.mark.parametrize(("column", "row"), [("FLUX", 7), ("IMAGE", 399), ("LC_TIME", 123)])
def test_names_columns_and_rows(copy, column, row):
    """A flipped bit is found in the block that holds it, among the rows it was flipped in."""
    path = big(copy)
    with h5py.File(path) as file:
        if column == "LC_TIME":
            dataset = file[f"ragged/{column}"]
            offsets = file["ragged/epoch.offsets"][()]
            row = int(np.flatnonzero(np.diff(offsets) > 0)[row])
            at = dataset.id.get_offset() + int(offsets[row]) * 8
        else:
            dataset = file[column]
            width = dataset.dtype.itemsize * int(np.prod(dataset.shape[1:]))
            at = dataset.id.get_offset() + row * width
    flip(path, at)
    (damage,) = verify_tree(copy).damages
    assert damage.kind == "differing"
    assert damage.block == at // BLOCK_NBYTES
    assert damage.start <= at < damage.stop
    (touched,) = [t for t in damage.touched if t.column == column]
    assert touched.first <= row <= touched.last
    assert str(damage).startswith(f"differing {path.parent.name}/{path.name}, block {damage.block}")


def test_touched_rows_are_those_that_change(copy):
    """No row outside those named has another value after a whole block was overwritten."""
    path = big(copy)
    with h5py.File(path) as file:
        start, shape = file["FLUX"].id.get_offset(), file["FLUX"].shape

    def flux():
        return np.fromfile(path, "<f4", count=shape[0] * shape[1], offset=start).reshape(shape)

    before = flux()
    end = min(2 * BLOCK_NBYTES, path.stat().st_size)
    with path.open("r+b") as file:
        file.seek(BLOCK_NBYTES)
        file.write(bytes(255 - byte for byte in path.read_bytes()[BLOCK_NBYTES:end]))
    damage = next(d for d in verify_tree(copy).damages if d.block == 1)
    touched = {t.column: t for t in damage.touched}
    changed = np.flatnonzero((flux().view("u4") != before.view("u4")).any(axis=1))
    named = touched.get("FLUX")
    found = (int(changed.min()), int(changed.max())) if len(changed) else None
    assert found == (None if named is None else (named.first, named.last))
    assert touched


def test_any_row_table(sound):
    """A row table that names what no survey has says nothing of it, and breaks nothing."""
    empty = np.empty(0, np.int64)
    places = {
        "healpix": Place(np.array([0])),
        "FLUX": Place(empty),
        "evil": Place(np.array([0])),
        "shared/evil": Place(np.array([0])),
        "ragged/LC_TIME": Place(np.array([0])),
    }
    table = RowTable(100, 0, 2, places, {"ragged/epoch.offsets": empty})
    survey = open_catalog(sound).survey
    assert touched_rows(survey, table, 8, 100) == (Touched("healpix", 1, 1),)


def test_cut_short(copy):
    """A file that is short says by how much."""
    path = big(copy)
    os.truncate(path, path.stat().st_size - 5)
    first = verify_tree(copy).damages[0]
    assert first.found.startswith("5 bytes short")


def test_sample(copy):
    """A sample hashes a share of the blocks, the same for the same seed."""
    half = verify_tree(copy, sample=0.5, seed=4)
    assert 0 < half.n_bytes < verify_tree(copy).n_bytes
    assert half.n_bytes == verify_tree(copy, sample=0.5, seed=4).n_bytes
    with pytest.raises(ValueError, match="share above 0"):
        verify_tree(copy, sample=0)


def test_goes_on(copy, tmp_path):
    """What a stopped run had found sound is not hashed again, unless it was touched since."""
    state = tmp_path / "state"
    rows = sorted((copy / "rows").glob("*.arrow"))
    manifests = [json.loads((copy / "manifest" / f"{p.stem}.json").read_text()) for p in rows[:2]]
    with Journal(state) as journal:
        for path, manifest in zip(rows, manifests, strict=False):
            journal.note(f"rows/{path.name}", path.stat(), manifest["rows"]["sha256"])
    with state.open("ab") as file:
        file.write(b"cut in the midd")
    os.utime(rows[1], ns=(1, 1))
    report = verify_tree(copy, state=state)
    assert report.ok
    assert report.n_remembered == 1
    assert not state.exists()


def test_behind_a_url(copy):
    """A tree behind a URL is compared as one here; only folders are not listed."""
    flip(big(copy), 100)
    with serve(copy.parent) as server:
        there = verify_tree(f"{server.url}/main")
    assert [d.block for d in there.damages] == [d.block for d in verify_tree(copy).damages] == [0]


def test_no_tree(tmp_path):
    """A folder without a root is no subset; a root that cannot be read is damaged."""
    with pytest.raises(TreeNotFoundError):
        verify_tree(tmp_path)
    (tmp_path / "astropile.json").write_text("<html>")
    with pytest.raises(FormatError):
        verify_tree(tmp_path)


def test_command(copy, capsys):
    """The command says what differs in JSON, and ends with 6; sound, with 0."""
    assert main(["verify", str(copy.parent), "--json"]) == 0
    capsys.readouterr()
    flip(big(copy), 100)
    assert main(["verify", str(copy), "--json"]) == 6
    said = json.loads(capsys.readouterr().out)
    assert said["subsets"][0]["damages"][0]["kind"] == "differing"
    (copy / "astropile.json").write_text("{}")
    assert main(["verify", str(copy)]) in (3, 4)


# -- mending


def test_mends_only_what_is_bad(sound, copy):
    """Of a file with one bad block one block is fetched."""
    path = big(copy)
    size = path.stat().st_size
    assert BLOCK_NBYTES < size < 2 * BLOCK_NBYTES
    flip(path, BLOCK_NBYTES + 100)
    with serve(sound.parent) as server:
        report = repair_tree(copy, f"{server.url}/main")
        ranges = [(a.start, a.end) for a in server.asked if a.key.endswith(".hdf5")]
    assert ranges == [(BLOCK_NBYTES, size)]
    assert report.mended == (path.relative_to(copy).as_posix(),)
    assert report.n_blocks == 1
    assert report.n_bytes_fetched == size - BLOCK_NBYTES
    assert path.read_bytes() == big(sound).read_bytes()
    assert verify_tree(copy).ok


@pytest.mark.parametrize("what", ["root", "no root", "snapshot", "manifest", "no manifest", "all"])
def test_mends_manifests(sound, copy, what):
    """Damaged and missing manifests, and the root, come back; then the files they describe."""
    root, manifest = copy / "astropile.json", min((copy / "manifest").glob("healpix=*.json"))
    if what in ("root", "all"):
        root.write_bytes(root.read_bytes()[:-20])
    if what == "no root":
        root.unlink()
    if what == "snapshot":
        facts = json.loads(root.read_text())
        root.write_text(json.dumps({**facts, "snapshot": "0" * 64}))
    if what in ("manifest", "all"):
        manifest.write_text(manifest.read_text().replace("a", "b"))
    if what == "no manifest":
        manifest.unlink()
    if what == "all":
        shutil.rmtree(copy / "catalog")
        shutil.rmtree(copy / "rows")
    repair_tree(copy, str(sound))
    for path in sound.rglob("*"):
        if path.is_file():
            assert (copy / path.relative_to(sound)).read_bytes() == path.read_bytes()
    assert open_catalog(copy).take([0])


def test_not_from_another(sound, copy, tmp_path):
    """A copy of another snapshot mends nothing and changes nothing."""
    toy.write_native(tmp_path / "native/a.npz", toy.make_batch(20, seed=9))
    build_catalog(toy.SURVEY, tmp_path / "native", tmp_path / "other", order=1)
    manifest = min((copy / "manifest").glob("healpix=*.json"))
    manifest.write_text("{}")
    with pytest.raises(DownloadError):
        repair_tree(copy, str(tmp_path / "other/main"))
    assert manifest.read_text() == "{}"


def test_repair_command(sound, copy, capsys):
    """The command mends, says what, and leaves alone what no manifest has."""
    flip(big(copy), 7)
    (copy / "rows/more").write_text("?")
    assert main(["repair", str(copy), "--from", str(sound)]) == 0
    said = capsys.readouterr().out
    assert "1 file, 1 bad block" in said
    assert "left alone: rows/more" in said
    assert main(["repair", str(copy), "--from", str(sound)]) == 0
    assert "nothing to mend" in capsys.readouterr().out


def test_many_columns_of_a_block_are_summed_up():
    """A block of hundreds of columns is one readable line; few are listed one by one."""
    many = tuple(Touched(f"C{i}", 0, 31) for i in range(300))
    few = (Touched("ivar", 5, 7), Touched("flux", 5, 7))
    damage = Damage("differing", "healpix=1/001-of-001.hdf5", "another", 0, 0, 10, (*many, *few))
    words = "300 columns, C0 to C299, rows 0-31, ivar rows 5-7, flux rows 5-7"
    assert str(damage).endswith(f"block 0 (bytes 0-9): another: {words}")
