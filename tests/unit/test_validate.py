"""Whatever breaks the format is found and named."""

import json
import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import toy
from astropile import build_catalog, open_catalog, validate_catalog
from astropile.card import card_text
from astropile.errors import FormatError, FormatVersionError, TreeNotFoundError
from astropile.hdf5.check import check_shard
from astropile.hdf5.writer import ShardPlace
from astropile.manifest import snapshot_of


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("validate")
    toy.write_native(folder / "native/a.npz", toy.make_batch(8, seed=1))
    crowd = toy.make_batch(8, seed=2, first_id=100, ra=np.full(8, 10.0), dec=np.full(8, 5.0))
    toy.write_native(folder / "native/b.npz", crowd)
    build_catalog(toy.SURVEY, folder / "native", folder / "toy", shard_nbytes=100_000)
    return folder / "toy"


@pytest.fixture
def tree(built, tmp_path):
    shutil.copytree(built, tmp_path / "toy")
    return tmp_path / "toy"


@pytest.fixture
def small(tmp_path):
    """A tree of five objects."""
    shutil.copytree(Path(__file__).parents[1] / "golden/1.0/compact/toy", tmp_path / "toy")
    return tmp_path / "toy"


def crowd(tree):
    """The partition at (10, 5), which has two shards."""
    return min((tree / "main").glob("healpix=*/001-of-002.hdf5")).parent


def rules(tree):
    return {problem.rule for problem in validate_catalog(tree).problems}


def test_whole_tree(tree):
    """A tree as it was built has no problem."""
    report = validate_catalog(tree)
    assert report.ok
    assert report.n_objects == 16


def edit(path, change):
    with h5py.File(path, "r+") as file:
        change(file)


def set_attr(file, column, name, value):
    file[column].attrs[name] = value


def delete(file, name):
    del file[name]


def replace(file, name, values):
    if name in file:
        del file[name]
    file[name] = values


def make(file, name, **storage):
    """An empty column in place of one that is there."""
    del file[name]
    file.create_dataset(name, shape=len(file["ra"]), **storage)


def store(file, name, **storage):
    """The same values, stored otherwise."""
    values, attributes = file[name][()], dict(file[name].attrs)
    del file[name]
    dataset = file.create_dataset(name, data=values, **storage)
    dataset.attrs.update(attributes)


def retype(file, name, dtype):
    values, attributes = file[name][()], dict(file[name].attrs)
    del file[name]
    dataset = file.create_dataset(name, data=values.astype(dtype))
    dataset.attrs.update(attributes)


def named(file):
    file["type"] = np.dtype("f4")
    return file["type"]


def make_virtual(file, name):
    layout = h5py.VirtualLayout(shape=file[name].shape, dtype="f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", shape=file[name].shape)
    del file[name]
    file.create_virtual_dataset(name, layout)


def make_padded(file, name):
    """Text padded with blanks, as Fortran does."""
    values, space, kind = file[name][:], file[name].id.get_space(), h5py.h5t.C_S1.copy()
    kind.set_size(12)
    kind.set_strpad(h5py.h5t.STR_SPACEPAD)
    del file[name]
    h5py.h5d.create(file.id, name.encode(), kind, space)
    file[name][:] = values


def skip_filter(file, name):
    """A chunk as it is, marked as not compressed."""
    dataset = file[name]
    dataset.id.write_direct_chunk((0, 0, 0, 0), dataset[0].tobytes(), filter_mask=3)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda f: delete(f, "ra"), "S7"),
        (lambda f: delete(f, "FLUX"), "S6"),
        (lambda f: replace(f, "EXTRA", np.zeros(len(f["ra"]))), "S6"),
        (lambda f: replace(f, "Z", np.zeros(1 + len(f["ra"]), "f4")), "S2"),
        (lambda f: replace(f, "Z", np.zeros(len(f["ra"]), ">f4")), "S5"),
        (lambda f: replace(f, "NAME", np.array([b"caf\xe9"] * len(f["ra"]), "S12")), "S5"),
        (lambda f: replace(f, "Z", np.zeros(len(f["ra"]), "f8")), "S6"),
        (lambda f: f["dec"].__setitem__(0, np.nan), "S7"),
        (lambda f: f["ra"].__setitem__(0, 200.0), "T2"),
        (lambda f: f["healpix"].__setitem__(0, 5), "S7"),
        (lambda f: set_attr(f, "Z", "unit", "fortnights per parsnip"), "S8"),
        (lambda f: f.attrs.__setitem__("release", "DR2"), "S9"),
        (lambda f: f.attrs.__delitem__("healpix_order"), "S9"),
        (lambda f: f.attrs.__setitem__("aliases", "{}"), "A1"),
        (lambda f: f["ragged/epoch.offsets"].__setitem__(0, 3), "R1"),
        (lambda f: f["ragged/row.col.shape"].__setitem__((0, 0), 99), "R2"),
        (lambda f: f["observation_id"].__setitem__(0, f["observation_id"][1]), "T6"),
        (lambda f: f["A_R"].__setitem__(0, 42.0), "M4"),
        (lambda f: f.__setitem__("far", h5py.ExternalLink("other.h5", "/x")), "S1"),
        (lambda f: f.create_dataset("vlen", data=["a"] * len(f["ra"])), "S1"),
        (lambda f: f.create_group("other"), "S1"),
        (lambda f: f["object_id"].__setitem__(0, 5), "S7"),
    ],
)
def test_planted_in_a_shard(tree, change, rule):
    """Each thing wrong in a shard is found under its rule, and the manifest notices too."""
    edit(crowd(tree) / "001-of-002.hdf5", change)
    found = rules(tree)
    assert rule in found
    assert "M2" in found


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda f: make_padded(f, "NAME"), "S5"),
        (lambda f: replace(f, "Z", np.zeros(len(f["ra"]), "f2")), "S5"),
        (lambda f: f.__setitem__("near", h5py.SoftLink("/ra")), "S1"),
        (lambda f: f["ragged"].__setitem__("near", h5py.SoftLink("/nowhere")), "S1"),
        (lambda f: replace(f, "shared", np.zeros(3)), "S1"),
        (lambda f: replace(f, "shared", h5py.SoftLink("/ragged")), "S1"),
        (lambda f: replace(f, "shared", h5py.ExternalLink("other.h5", "/x")), "S1"),
        (lambda f: replace(f, "named", np.dtype("f4")), "S1"),
        (lambda f: make(f, "Z", dtype=h5py.enum_dtype({"STAR": 0, "GALAXY": 1}, "i4")), "S1"),
        (lambda f: make(f, "Z", dtype=named(f)), "S1"),
        (lambda f: make(f, "Z", dtype=np.dtype([("a", "f4")])), "S1"),
        (lambda f: make(f, "Z", dtype="f4", compression="lzf"), "S1"),
        (lambda f: make(f, "Z", dtype="f4", external=[("far.bin", 0, 999)]), "S1"),
        (lambda f: make_virtual(f, "Z"), "S1"),
        (lambda f: retype(f, "object_id", "i4"), "S7"),
        (lambda f: retype(f, "observation_id", "u8"), "S7"),
        (lambda f: retype(f, "ra", "f4"), "S7"),
        (lambda f: retype(f, "dec", "f4"), "S7"),
        (lambda f: retype(f, "healpix", "i4"), "S7"),
        (lambda f: replace(f, "ra", np.zeros((len(f["ra"]), 2))), "S2"),
        (lambda f: set_attr(f, "Z", "unit", 5), "S8"),
        (lambda f: set_attr(f, "Z", "derived", [1, 0]), "S6"),
        (lambda f: set_attr(f, "IMAGE_MASK", "bits", "[" * 100_000), "S8"),
        (lambda f: f.attrs.__setitem__("astropile_format", "5.0"), "S9"),
        (lambda f: f.attrs.__delitem__("astropile_format"), "S9"),
        (lambda f: f.attrs.__setitem__("layout", "fast"), "S9"),
        (lambda f: f.attrs.__setitem__("layout", "odd"), "S9"),
        (lambda f: f.attrs.__setitem__("n_objects", [1, 2]), "S9"),
        (lambda f: f.attrs.__setitem__("epoch", 2000.0), "S9"),
        (lambda f: f.attrs.__setitem__("wavelength_medium", "air"), "S9"),
        (lambda f: f.attrs.__setitem__("wavelength_frame", "rest"), "S9"),
        (lambda f: f.attrs.__setitem__("time_scale", "TDB"), "S9"),
        (lambda f: store(f, "IMAGE"), "L1"),
        (lambda f: store(f, "IMAGE", chunks=(1, 2, 24, 32)), "L1"),
        (lambda f: store(f, "IMAGE", chunks=(1, 2, 24, 32), compression="gzip"), "L1"),
        (lambda f: store(f, "IMAGE", chunks=(1, 1, 24, 32), compression=4, shuffle=True), "L1"),
        (lambda f: skip_filter(f, "IMAGE"), "L1"),
        (lambda f: store(f, "ragged/LC_FLUX", chunks=(4,)), "L1"),
        (lambda f: store(f, "ra", chunks=(2,)), "L1"),
        (lambda f: store(f, "Z", chunks=(2,)), "L1"),
        (lambda f: f["ragged/STAMP"].attrs.__delitem__("dims"), "R1"),
        (lambda f: set_attr(f, "ragged/STAMP", "dims", '[3, "col", "row"]'), "R1"),
        (lambda f: retype(f, "ragged/epoch.offsets", "i4"), "R1"),
        (lambda f: retype(f, "ragged/row.col.shape", "u8"), "R2"),
    ],
)
def test_planted_in_a_file(built, tmp_path, change, rule):
    """Each thing wrong in a file by itself is found under its rule, and by no traceback."""
    path = shutil.copy(crowd(built) / "001-of-002.hdf5", tmp_path)
    assert not check(built, path)
    edit(path, change)
    assert rule in check(built, path)


def check(tree, path, layout="compact"):
    """The rules that a copy of the crowd's first shard breaks."""
    catalog = open_catalog(tree)
    shard = next(s for s in catalog.shards if s.path.parent == crowd(tree))
    place = ShardPlace(catalog.subset, catalog.order, shard.ipix, 1, 2)
    found = check_shard(Path(path), catalog.survey, place, shard.n_objects, layout)
    return {rule for rule, _, _ in found}


def test_fast_layout(tmp_path):
    """In the fast layout a column in chunks is found, and so is a file of the other layout."""
    golden = Path(__file__).parents[1] / "golden/1.0/fast/toy"
    path = shutil.copy(crowd(golden) / "001-of-002.hdf5", tmp_path)
    assert check(golden, path, "fast") == set()
    assert check(golden, path, "compact") == {"S9", "L1"}
    for name in ("IMAGE", "Z", "ragged/epoch.offsets", "shared/WAVE"):
        shutil.copy(crowd(golden) / "001-of-002.hdf5", tmp_path)
        edit(path, lambda f, name=name: store(f, name, chunks=f[name].shape))
        assert check(golden, path, "fast") == {"L2"}


def test_long_ragged_column(built, tmp_path, monkeypatch):
    """A ragged column that is longer than a chunk has to be in chunks."""
    path = shutil.copy(crowd(built) / "001-of-002.hdf5", tmp_path)
    monkeypatch.setattr("astropile.hdf5.check.RAGGED_CHUNK_NBYTES", 8)
    assert check(built, path) == {"L1"}


def test_text_in_blocks(built, tmp_path, monkeypatch):
    """Text is looked at to its last value, a block at a time."""
    path = shutil.copy(crowd(built) / "001-of-002.hdf5", tmp_path)
    monkeypatch.setattr("astropile.hdf5.check._BLOCK_NBYTES", 30)
    assert check(built, path) == set()
    edit(path, lambda f: f["NAME"].__setitem__(len(f["NAME"]) - 1, b"na\xefve"))
    assert check(built, path) == {"S5"}


def test_old_superblock(built, tmp_path):
    """A file whose metadata has no checksums is found."""
    with (
        h5py.File(crowd(built) / "001-of-002.hdf5") as before,
        h5py.File(tmp_path / "old.hdf5", "w", libver="earliest") as after,
    ):
        for name in before:
            before.copy(name, after)
        after.attrs.update(before.attrs)
    assert check(built, tmp_path / "old.hdf5") == {"S1"}


@pytest.mark.timeout(30)
@pytest.mark.parametrize("name", ["far", "Z", "shared", "ragged/LC_FLUX"])
def test_links_are_not_followed(tree, tmp_path, name):
    """A link to a pipe, which would never end to be opened, is refused and not opened."""
    os.mkfifo(tmp_path / "pipe")
    path = crowd(tree) / "001-of-002.hdf5"
    edit(path, lambda f: replace(f, name, h5py.ExternalLink(str(tmp_path / "pipe"), "/x")))
    assert rules(tree) == {"S1", "M2"}
    path.unlink()
    os.mkfifo(path)
    assert rules(tree) == {"T4"}


def test_flipped_bit(tree):
    """A flipped bit is found, and the place is named."""
    path = crowd(tree) / "002-of-002.hdf5"
    content = bytearray(path.read_bytes())
    content[-100] ^= 4
    path.write_bytes(content)
    messages = [str(problem) for problem in validate_catalog(tree).problems]
    assert any(f"{path.parent.name}/002-of-002.hdf5: damaged in bytes 0 to" in m for m in messages)


def test_files_of_the_tree(tree):
    """Files missing, too many, cut short or out of place are found."""
    folder = crowd(tree)
    (folder / "003-of-003.hdf5").write_bytes(b"")
    assert "T4" in rules(tree)
    (folder / "003-of-003.hdf5").unlink()
    (tree / "main/healpix=3").mkdir()
    assert "T7" in rules(tree)
    (tree / "main/healpix=3").rmdir()
    (tree / "README.md").write_text("# something else\n")
    assert rules(tree) == {"M5"}
    path = folder / "002-of-002.hdf5"
    path.write_bytes(path.read_bytes()[:-10])
    assert "M2" in rules(tree)
    path.unlink()
    assert "T4" in rules(tree)
    with pytest.raises(FormatError, match=r"a shard of the subset, found no such file"):
        open_catalog(tree).take(np.arange(16), ["Z"])


def test_root_file(tree):
    """A root file that is not one is refused with its reason."""
    path = tree / "main/astropile.json"
    facts = json.loads(path.read_text())

    def write(**changed):
        path.write_text(json.dumps({**facts, **changed}))

    write(format="2.0")
    with pytest.raises(FormatVersionError, match="newer astropile"):
        open_catalog(tree)
    write(order=77)
    with pytest.raises(FormatError, match="77"):
        open_catalog(tree)
    write(n_objects=3)
    with pytest.raises(FormatError, match="n_objects 16"):
        open_catalog(tree)
    path.write_text('{"format": "1.0", "format": "1.0"}')
    with pytest.raises(FormatError, match="twice"):
        open_catalog(tree)
    path.write_text("<html>")
    with pytest.raises(FormatError, match="expected JSON"):
        open_catalog(tree)
    path.unlink()
    with pytest.raises(TreeNotFoundError, match=r"no AstroPile tree.*astropile\.json"):
        open_catalog(tree)


def test_no_tree(tmp_path, tree):
    """Where there is no tree, or not that subset, it says what there is."""
    with pytest.raises(TreeNotFoundError, match="no such folder"):
        open_catalog(tmp_path / "nowhere")
    with pytest.raises(TreeNotFoundError, match="no subset 'other'; its subsets: main"):
        open_catalog(tree, "other")


def test_readme_in_other_words(tree, tmp_path, monkeypatch):
    """A folder may be renamed, stand where commands run, and have a README in other words."""
    shutil.copytree(tree / "main", tree / ".other.build")
    moved = tree.rename(tmp_path / "moved")
    assert rules(moved) == set()
    for folder in (moved, moved / "main"):
        monkeypatch.chdir(folder)
        assert rules(".") == set()
    text = (moved / "README.md").read_text()
    assert 'load_dataset("toy", "main")' in text
    (moved / "README.md").write_text(f"Other words.\n{text.replace('Citation', 'Please cite')}")
    assert rules(moved) == set()
    (moved / "README.md").write_text(text.replace("Redshift", "Blueshift"))
    assert rules(moved) == {"M5"}
    (moved / "README.md").unlink()
    assert rules(moved) == {"M5"}


def test_card_of_the_survey(tree):
    """The card names the survey, whatever its folder is called, and only finished subsets."""
    shutil.copytree(tree / "main", tree / ".main.build")
    text = card_text(tree)
    assert card_text(tree.rename(tree.with_name("renamed"))) == text
    assert text.count("config_name") == 1


def entry(values):
    return values["shards"][0]


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v.update(format="5.0"),
        lambda v: v.update(format=1),
        lambda v: v.update(order=5),
        lambda v: v.update(healpix=77),
        lambda v: v.update(healpix=str(v["healpix"])),
        lambda v: v.pop("block_size"),
        lambda v: v.update(block_size="4"),
        lambda v: v.update(block_size=0),
        lambda v: v.update(block_size=4),
        lambda v: v.update(shards=["001-of-002.hdf5"] * 2),
        lambda v: v.update(shards=[]),
        lambda v: v["shards"].reverse(),
        lambda v: v.pop("shards"),
        lambda v: v.update(rows=None),
        lambda v: v["rows"].pop("size"),
        lambda v: v["rows"].update(sha256="0" * 64),
        lambda v: v["rows"].update(sha256=5),
        lambda v: entry(v).pop("file"),
        lambda v: entry(v).update(file="../../secret"),
        lambda v: entry(v).pop("size"),
        lambda v: entry(v).update(size=True),
        lambda v: entry(v).update(size=-1),
        lambda v: entry(v).update(n_objects="4"),
        lambda v: entry(v).update(n_objects=entry(v)["n_objects"] + 1),
        lambda v: entry(v).pop("blocks"),
        lambda v: entry(v)["blocks"].append("0" * 64),
        lambda v: entry(v).update(blocks=[None]),
        lambda v: entry(v).update(sha256="short"),
    ],
)
def test_manifest(small, change):
    """Whatever is wrong in a manifest is found, by its rule and not by a traceback."""
    path = min((small / "main/manifest").glob("healpix=*.json"))
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))
    found = rules(small)
    assert "M2" in found
    assert "M1" in found


def test_snapshot_of_the_files(small):
    """The snapshot is that of the manifests as they lie there, whatever version wrote them."""
    manifests = sorted(
        (small / "main/manifest").glob("healpix=*.json"), key=lambda p: int(p.stem[8:])
    )
    for path in manifests:
        path.write_text(json.dumps({**json.loads(path.read_text()), "format": "1.9"}))
    assert rules(small) == {"M1"}
    root = small / "main/astropile.json"
    facts = json.loads(root.read_text())
    snapshot = snapshot_of(path.read_bytes() for path in manifests)
    root.write_text(json.dumps({**facts, "snapshot": snapshot}))
    assert rules(small) == set()
    manifests[0].write_text("no JSON")
    assert "M2" in rules(small)
    manifests[0].unlink()
    assert rules(small) == {"M2"}


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"scheme": "ring"}, "M1"),
        ({"written_by": None}, "M1"),
        ({"layout": "odd"}, "M1"),
        ({"snapshot": "0" * 64}, "M1"),
        ({"subset": "other"}, "T1"),
    ],
)
def test_facts(small, changed, rule):
    """A fact of the root file that is none is found."""
    path = small / "main/astropile.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))
    assert rule in rules(small)


@pytest.mark.parametrize("name", ["inputs.jsonl", "rejected.jsonl"])
def test_lists(small, name):
    """The lists of a build are there, and every line of them says what it must."""
    path = small / "main/manifest" / name
    good = path.read_text()
    for text in ("{", "[]\n", '{"unit": "a"}\n', '{"unit": 5, "path": "a", "size": 1}\n'):
        path.write_text(good + text)
        assert rules(small) == {"M3"}
    path.write_bytes(b"\xff\n")
    assert rules(small) == {"M3"}
    path.unlink()
    assert rules(small) == {"M3"}


@pytest.mark.parametrize(
    "name",
    ["hats.properties", "properties", "dataset/_metadata", "dataset/_common_metadata"],
)
def test_catalogue_files(small, name):
    """The catalogue is a HATS catalogue: its properties and metadata are there and its own."""
    path = small / "main/catalog" / name
    path.write_bytes(b"hats_nrows=7\n")
    assert rules(small) == {"M4"}
    path.unlink()
    assert rules(small) == {"M4"}


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("_healpix_29", lambda v: pc.add(v, 1)),
        ("_shard", lambda v: pc.add(v, 1)),
        ("_row", lambda v: pc.add(v, 1)),
        ("NAME", lambda v: pa.chunked_array([pa.nulls(len(v), v.type)])),
        ("Z", lambda v: pa.chunked_array([[[1.0]] * len(v)])),
    ],
)
def test_catalogue_values(small, name, change):
    """A column of the catalogue that is not what the shards say is found."""
    path = min((small / "main/catalog").rglob("Npix=*.parquet"))
    with pq.ParquetFile(path) as file:
        table = file.read()
    at = table.column_names.index(name)
    pq.write_table(table.set_column(at, name, change(table[name])), path)
    assert rules(small) == {"M4"}


def test_too_many_files(small):
    """Manifests and row tables of no partition are found; what starts with a dot may stay."""
    partition = min((small / "main").glob("healpix=*"))
    for name in (".DS_Store", "manifest/.DS_Store", f"{partition.name}/.DS_Store"):
        (small / "main" / name).write_bytes(b"")
    assert rules(small) == set()
    for name in ("manifest/healpix=5.json", "rows/healpix=5.arrow", "rows/healpix=0255.arrow"):
        path = small / "main" / name
        path.write_bytes(b"")
        assert rules(small) == {"T7"}
        path.unlink()
    path = partition / "notes.txt"
    path.write_bytes(b"")
    assert rules(small) == {"T4"}


def test_other_names(tree):
    """Zero padding and other suffixes are read as any; that they are there is said."""
    rows = open_catalog(tree).take(np.arange(16), ["ID", "FLUX"])
    folder = crowd(tree)
    pixel = int(folder.name.partition("=")[2])
    folder = folder.rename(folder.with_name(f"healpix={pixel:06d}"))
    assert rules(tree) == {"T3"}
    (folder / "001-of-002.hdf5").rename(folder / "001-of-002.h5")
    (folder / "002-of-002.hdf5").rename(folder / "02-of-02.hdf")
    assert rules(tree) == {"T3", "T4"}
    found = open_catalog(tree).take(np.arange(16), ["ID", "FLUX"])
    for name, values in rows.items():
        np.testing.assert_array_equal(found[name], values)
    folder.rename(folder.with_name(f"healpix={pixel}"))
    assert rules(tree) == {"T4"}


def test_of_a_url():
    """Only a tree on this machine is checked."""
    with pytest.raises(TreeNotFoundError, match="only a tree on this machine"):
        validate_catalog("https://example.org/toy")
