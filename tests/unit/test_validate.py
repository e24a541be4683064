"""Whatever breaks the format is found and named."""

import json

import h5py
import numpy as np
import pytest

import toy
from astropile import build_catalog, open_catalog, validate_catalog
from astropile.errors import FormatError, FormatVersionError, TreeNotFoundError


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
    import shutil

    shutil.copytree(built, tmp_path / "toy")
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


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda f: delete(f, "ra"), "S7"),
        (lambda f: delete(f, "FLUX"), "S6"),
        (lambda f: replace(f, "EXTRA", np.zeros(len(f["ra"]))), "S6"),
        (lambda f: replace(f, "Z", np.zeros(1 + len(f["ra"]), "f4")), "S2"),
        (lambda f: replace(f, "Z", np.zeros(len(f["ra"]), ">f4")), "S1"),
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
    ],
)
def test_planted_in_a_shard(tree, change, rule):
    """Each thing wrong in a shard is found under its rule, and the manifest notices too."""
    edit(crowd(tree) / "001-of-002.hdf5", change)
    found = rules(tree)
    assert rule in found
    assert "M2" in found


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
