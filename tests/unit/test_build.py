"""Native files to a tree: every object in its place, nothing lost, nothing half made."""

import dataclasses
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

import toy
from astropile import build_catalog, open_catalog, validate_catalog
from astropile.build.ingest import inputs_of
from astropile.errors import BuildError, NativeFileError, SchemaError
from astropile.healpix import ang2pix
from astropile.schema import Column, Ragged, Unit
from astropile.testing import read_all


def hashes(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def same(found, expected):
    if isinstance(found, Ragged):
        assert len(found) == len(expected)
        for mine, theirs in zip(found, expected, strict=True):
            assert mine.dtype == theirs.dtype
            assert mine.shape == theirs.shape
            assert mine.tobytes() == np.ascontiguousarray(theirs).tobytes()
    else:
        assert found.dtype == expected.dtype
        assert found.shape == expected.shape
        assert found.tobytes() == expected.tobytes()


@pytest.fixture
def native(tmp_path):
    toy.write_native(tmp_path / "native/a.npz", toy.make_batch(20, seed=1))
    crowd = toy.make_batch(30, seed=2, first_id=100, ra=np.full(30, 10.0), dec=np.full(30, 5.0))
    toy.write_native(tmp_path / "native/b.npz", crowd)
    return tmp_path / "native"


def test_round_trip(native, tmp_path):
    """Every value of every native column comes back bit for bit, from shards > 1 too."""
    report = build_catalog(toy.SURVEY, native, tmp_path / "toy", shard_nbytes=200_000)
    assert (report.n_read, report.n_written, report.n_rejected) == (50, 50, 0)
    catalog = open_catalog(tmp_path / "toy")
    assert report.n_shards > report.n_partitions
    expected, _ = read_all(toy.SURVEY, native)
    found = catalog.take(np.arange(len(catalog)))
    order = np.array([expected["ID"].tolist().index(i) for i in found["ID"]])
    assert sorted(order) == list(range(50))
    for column in toy.SURVEY.columns:
        values = expected[column.name]
        if column.shared:
            same(found[column.name], values)
        elif isinstance(values, list):
            same(found[column.name], [values[i] for i in order])
        else:
            same(found[column.name], values[order])


def test_rows_in_any_order(native, tmp_path):
    """Rows come in the order asked for, repeated or not, from the end or by booleans."""
    build_catalog(toy.SURVEY, native, tmp_path / "toy", shard_nbytes=200_000)
    catalog = open_catalog(tmp_path / "toy")
    every = catalog.take(np.arange(50))
    rows = [49, 3, 3, 0, 17, -1]
    some = catalog.take(rows, ["ID", "IMAGE", "LC_TIME", "STAMP", "WAVE", "object_id"])
    for name in ("ID", "IMAGE"):
        same(some[name], every[name][rows])
    for name in ("LC_TIME", "STAMP"):
        same(some[name], [every[name][row] for row in rows])
    assert len(some["WAVE"]) == toy.N_WAVE
    picked = np.zeros(50, bool)
    picked[[5, 7]] = True
    assert catalog.take(picked, ["ID"])["ID"].tolist() == every["ID"][[5, 7]].tolist()
    assert catalog.take([], ["ID", "STAMP"])["ID"].tolist() == []
    with pytest.raises(IndexError, match="row 50 of 50"):
        catalog.take([50])
    with pytest.raises(IndexError, match="3 booleans for 50 rows"):
        catalog.take([True, False, True])
    with pytest.raises(TypeError, match="integers"):
        catalog.take([0.5])


def test_every_object_in_its_pixel(native, tmp_path):
    """An object lies in the partition that its folder names, at whatever order."""
    for order in (0, 5, 9):
        tree = tmp_path / f"toy{order}"
        build_catalog(toy.SURVEY, native, tree, order=order)
        for path in tree.rglob("*.hdf5"):
            ipix = int(path.parent.name.split("=")[1])
            with h5py.File(path) as file:
                assert file.attrs["healpix_order"] == order
                assert (ang2pix(file["ra"][()], file["dec"][()], order) == ipix).all()
                assert (file["healpix"][()] == ipix).all()
        assert validate_catalog(tree).problems == ()


def test_same_input_same_bytes(native, tmp_path):
    """The same input gives the same bytes."""
    build_catalog(toy.SURVEY, native, tmp_path / "one/toy")
    build_catalog(toy.SURVEY, native, tmp_path / "two/toy")
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")
    assert len(hashes(tmp_path / "one")) > 50


def test_plain_h5py_reads_it(native, tmp_path):
    """Someone without this code finds values, units and meanings with h5py alone."""
    build_catalog(toy.SURVEY, native, tmp_path / "toy")
    path = next(iter(sorted((tmp_path / "toy/main").glob("healpix=*/001-of-001.hdf5"))))
    with h5py.File(path) as file:
        assert file.attrs["survey"] == b"toy"
        assert file.attrs["healpix_scheme"] == b"nested"
        assert file["FLUX"].attrs["unit"] == b"1e-17 erg / (s cm2 Angstrom)"
        assert file["IMAGE"].attrs["description"] == b"Image of each band."
        assert json.loads(file["IMAGE_MASK"].attrs["bits"]) == {"BAD": 0, "SAT": 1, "COSMIC": 5}
        assert json.loads(file.attrs["aliases"])["z"] == "Z"
        n = file.attrs["n_objects"]
        assert {file[name].shape[0] for name in file if name not in ("shared", "ragged")} == {n}
        offsets = file["ragged/epoch.offsets"][()]
        assert len(offsets) == n + 1
        assert offsets[-1] == len(file["ragged/LC_TIME"])


def test_release_of_the_files(native, tmp_path):
    """Files of another release than the declared one say so in every example and file."""
    build_catalog(toy.SURVEY, native, tmp_path / "toy", release="DR0")
    catalog = open_catalog(tmp_path / "toy")
    assert catalog.standard([0], ["provenance"])["provenance"][0].as_py()["release"] == "DR0"
    with h5py.File(catalog.shards[0].path) as file:
        assert file.attrs["release"] == b"DR0"


def test_rejections_are_counted(tmp_path):
    """Rows in = rows out + rejected, each with its reason; the others keep their places."""
    batch = toy.make_batch(12, seed=3)
    batch["RA"][[0, 1, 2]] = [np.nan, 360.5, -1.0]
    batch["DEC"][[3, 4]] = [np.inf, 91.0]
    batch["ID"][6] = batch["ID"][5]
    batch["RA"][7] = 360.0
    toy.write_native(tmp_path / "native/a.npz", batch, lost=2)
    report = build_catalog(toy.SURVEY, tmp_path / "native", tmp_path / "toy", tolerance=0.6)
    assert (report.n_read, report.n_written, report.n_rejected) == (14, 6, 8)
    assert report.reasons == {
        "position is not on the sky": 3,
        "position is not finite": 2,
        "toy says so": 2,
        "observation_id is repeated": 1,
    }
    lines = (tmp_path / "toy/main/manifest/rejected.jsonl").read_text().splitlines()
    assert sum(json.loads(line)["count"] for line in lines) == 8
    catalog = open_catalog(tmp_path / "toy")
    found = catalog.take(np.arange(6), ["ID", "ra", "IMAGE"])
    for number, row in enumerate(batch["ID"].tolist().index(i) for i in found["ID"]):
        same(found["IMAGE"][number], batch["IMAGE"][row])
        assert found["ra"][number] == batch["RA"][row] % 360


def test_too_many_rejected(tmp_path):
    """A build that would lose more than its tolerance is refused, and says why."""
    batch = toy.make_batch(10, seed=3)
    batch["RA"][:2] = np.nan
    toy.write_native(tmp_path / "native/a.npz", batch)
    with pytest.raises(BuildError, match=r"2 of 10 objects.*position is not finite \(2\)"):
        build_catalog(toy.SURVEY, tmp_path / "native", tmp_path / "toy")
    assert not (tmp_path / "toy/main").exists()
    build_catalog(toy.SURVEY, tmp_path / "native", tmp_path / "toy", tolerance=0.2)
    assert not (tmp_path / "toy/.main.build").exists()


def test_duplicates_as_an_error(tmp_path):
    """A repeated identifier can stop the build instead."""
    toy.write_native(tmp_path / "native/a.npz", toy.make_batch(5, seed=1))
    toy.write_native(tmp_path / "native/b.npz", toy.make_batch(5, seed=2, first_id=4))
    with pytest.raises(BuildError, match="1 objects repeat an observation_id"):
        build_catalog(toy.SURVEY, tmp_path / "native", tmp_path / "toy", duplicates="error")


def test_broken_file_is_one_rejection(native, tmp_path):
    """A file that cannot be read is named and counted; a mended one is read the next time."""
    good = (native / "a.npz").read_bytes()
    (native / "a.npz").write_bytes(good[:1000])
    with pytest.raises(BuildError, match="unusable input"):
        build_catalog(toy.SURVEY, native, tmp_path / "toy", tolerance=0)
    report = build_catalog(toy.SURVEY, native, tmp_path / "toy", tolerance=0.5)
    assert (report.n_written, report.n_rejected) == (30, 1)
    (native / "a.npz").write_bytes(good)
    report = build_catalog(toy.SURVEY, native, tmp_path / "toy", overwrite=True)
    assert (report.n_written, report.n_rejected) == (50, 0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda b: b.pop("Z"), "column 'Z' in a.npz: expected float32, found no such column"),
        (lambda b: b.update(X=b["Z"]), "'X'.*not declared"),
        (lambda b: b.update(Z=b["Z"].astype("f8")), "'Z'.*expected float32, found float64"),
        (lambda b: b.update(FLUX=b["FLUX"][:, :7]), r"'FLUX'.*\(2000,\) per object, found.*\(7,\)"),
        (lambda b: b.update(Z=b["Z"][:3]), "'Z'.*expected 5 objects as in the batch, found 3"),
        (lambda b: b["LC_FLUX"].__setitem__(2, np.zeros(99, "f4")), "'LC_FLUX'.*epoch of length"),
    ],
)
def test_schema_errors(tmp_path, change, said):
    """What a survey does not declare stops the build, naming column, expected, found, file."""
    batch = toy.make_batch(5, seed=1)
    change(batch)
    for name in ("LC_TIME", "LC_FLUX", "STAMP"):
        batch.setdefault(name, [])
    toy.write_native(tmp_path / "native/a.npz", batch)
    with pytest.raises(SchemaError, match=said):
        build_catalog(toy.SURVEY, tmp_path / "native", tmp_path / "toy")
    assert not (tmp_path / "toy/main").exists()


def test_shared_column_is_one_for_all(native, tmp_path):
    """A wavelength grid that differs from file to file stops the build; none gets another's."""
    other = toy.make_batch(3, seed=4, first_id=500)
    other["WAVE"] = other["WAVE"] + 0.1
    toy.write_native(native / "c.npz", other)
    with pytest.raises(SchemaError, match=r"'WAVE' in c\.npz: expected one value.*that of a\.npz"):
        build_catalog(toy.SURVEY, native, tmp_path / "toy")
    # Also when the build goes on after that: what was read before counts.
    with pytest.raises(SchemaError, match=r"'WAVE' in c\.npz"):
        build_catalog(toy.SURVEY, native, tmp_path / "toy")


def test_empty_identifier(tmp_path):
    """An object without an identifier is rejected and counted."""
    aliases = {**toy.SURVEY.aliases, "observation_id": "NAME"}
    survey = dataclasses.replace(toy.SURVEY, aliases=aliases)
    batch = toy.make_batch(10, seed=1)
    batch["NAME"][3] = b""
    toy.write_native(tmp_path / "native/a.npz", batch)
    report = build_catalog(survey, tmp_path / "native", tmp_path / "toy", tolerance=0.1)
    assert report.reasons == {"observation_id is empty": 1}
    with pytest.raises(ValueError, match="'observation_id' is an integer or a string, not float32"):
        dataclasses.replace(survey, aliases={**aliases, "observation_id": "Z"})


def test_big_endian_and_text_are_taken(tmp_path):
    """FITS byte order and text come out as declared, with the same values."""
    batch = toy.make_batch(5, seed=1)
    swapped = dict(batch, FLUX=batch["FLUX"].astype(">f4"), NAME=np.array(["ä", "b", "", "d", "e"]))
    toy.write_native(tmp_path / "native/a.npz", swapped)
    build_catalog(toy.SURVEY, tmp_path / "native", tmp_path / "toy")
    found = open_catalog(tmp_path / "toy").take(np.arange(5), ["ID", "FLUX", "NAME"])
    order = [batch["ID"].tolist().index(i) for i in found["ID"]]
    same(found["FLUX"], batch["FLUX"][order])
    assert sorted(found["NAME"].tolist()) == sorted([b"\xc3\xa4", b"b", b"", b"d", b"e"])


def test_wrong_calls(native, tmp_path):
    """Each wrong call says in one sentence what is wrong."""
    tree = tmp_path / "toy"
    with pytest.raises(BuildError, match="does not exist"):
        build_catalog(toy.SURVEY, tmp_path / "nowhere", tree)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BuildError, match="no file of survey 'toy'"):
        build_catalog(toy.SURVEY, tmp_path / "empty", tree)
    with pytest.raises(ValueError, match="0 to 29, not 30"):
        build_catalog(toy.SURVEY, native, tree, order=30)
    with pytest.raises(BuildError, match="tolerance"):
        build_catalog(toy.SURVEY, native, tree, tolerance=2)
    build_catalog(toy.SURVEY, native, tree)
    with pytest.raises(BuildError, match="exists already"):
        build_catalog(toy.SURVEY, native, tree)
    before = hashes(tree)
    build_catalog(toy.SURVEY, native, tree, overwrite=True)
    assert hashes(tree) == before


STOPPED = """
import sys
sys.path.insert(0, sys.argv[1])
import toy
from astropile import build_catalog
build_catalog(toy.SURVEY, sys.argv[2], sys.argv[3], overwrite=True)
"""


def stopped_build(native, tree, how, after):
    """Run a build in another process that is stopped after so many units."""
    tests = str(Path(toy.__file__).parent)
    return subprocess.run(
        [sys.executable, "-c", STOPPED, tests, str(native), str(tree)],
        env={**os.environ, "TOY_STOP": f"{after} {how}"},
        capture_output=True,
        check=False,
    ).returncode


@pytest.mark.parametrize("how", ["SIGKILL", "SIGINT"])
def test_stopped_and_resumed(native, tmp_path, how):
    """A build that was stopped leaves nothing under the final name; the next gives the same."""
    build_catalog(toy.SURVEY, native, tmp_path / "whole/toy")
    tree = tmp_path / "stopped/toy"
    assert stopped_build(native, tree, how, 2) != 0
    assert not (tree / "main").exists()
    assert (tree / ".main.build").exists()
    toy.READ.clear()
    build_catalog(toy.SURVEY, native, tree)
    # Interrupted: units read to their end are kept. Killed: an open segment is read again.
    again = ["b.npz"] if how == "SIGINT" else ["a.npz", "b.npz"]
    assert again == toy.READ
    assert hashes(tree) == hashes(tmp_path / "whole/toy")


def test_resume_refuses_other_parameters(native, tmp_path):
    """A stopped build goes on neither with other parameters nor with another reader."""
    tree = tmp_path / "toy"
    assert stopped_build(native, tree, "SIGKILL", 1) < 0
    with pytest.raises(BuildError, match="order was 4"):
        build_catalog(toy.SURVEY, native, tree, order=6)

    def read(unit):
        yield from toy.read(unit)

    with pytest.raises(BuildError, match="reader was"):
        build_catalog(dataclasses.replace(toy.SURVEY, read=read), native, tree)


def test_resume_refuses_other_inputs(native, tmp_path):
    """A stopped build does not go on with other files; it says which, and reads them if told to."""
    tree = tmp_path / "toy"
    assert stopped_build(native, tree, "SIGINT", 2) != 0
    # Another time of change alone is no other content.
    os.utime(native / "a.npz", (1, 1))
    toy.write_native(native / "c.npz", toy.make_batch(2, seed=5, first_id=700))
    with pytest.raises(BuildError, match=r"other inputs \(unit c\.npz is new\)"):
        build_catalog(toy.SURVEY, native, tree)
    # Told no, the next run is another one: so stop one that began with all three.
    shutil.rmtree(tree / ".main.build")
    assert stopped_build(native, tree, "SIGINT", 2) != 0
    toy.write_native(native / "a.npz", toy.make_batch(21, seed=1))
    with pytest.raises(BuildError, match=r"a\.npz had \d+ bytes, has \d+"):
        build_catalog(toy.SURVEY, native, tree)
    report = build_catalog(toy.SURVEY, native, tree, changed_inputs="read")
    assert report.n_written == 53


def test_inputs_are_recorded(native, tmp_path):
    """Every file that was read is listed with its hash, and the list's hash is in the root."""
    build_catalog(toy.SURVEY, native, tmp_path / "toy")
    subset = tmp_path / "toy/main"
    lines = (subset / "manifest/inputs.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {
            "unit": name,
            "path": name,
            "size": (native / name).stat().st_size,
            "sha256": hashlib.sha256((native / name).read_bytes()).hexdigest(),
        }
        for name in ("a.npz", "b.npz")
    ]
    root = json.loads((subset / "astropile.json").read_text())
    listed = {path: digest for path, _, digest in root["files"]}
    assert listed == {
        name: digest
        for name, digest in hashes(subset).items()
        if name.startswith("catalog/") or name.endswith(".jsonl")
    }
    assert (root["parent"], root["built"]["n_units"]) == (None, 2)
    with (subset / "manifest/rejected.jsonl").open("a") as file:
        file.write("\n")
    assert ("M1", "manifest/rejected.jsonl") in {
        (p.rule, p.where) for p in validate_catalog(tmp_path / "toy").problems
    }


def test_what_is_there_is_told_from_what_is_asked(native, tmp_path):
    """A subset that is there is not built again; it is said whether it is the same or differs."""
    tree = tmp_path / "toy"
    build_catalog(toy.SURVEY, native, tree)
    with pytest.raises(BuildError, match="already, built of files of the same names and sizes"):
        build_catalog(toy.SURVEY, native, tree)
    toy.write_native(native / "a.npz", toy.make_batch(7, seed=1))
    said = r"built otherwise \(order was 4; a\.npz had \d+ bytes, has \d+\)"
    with pytest.raises(BuildError, match=said):
        build_catalog(toy.SURVEY, native, tree, order=5)


@pytest.mark.parametrize("keep_time", [True, False])
@pytest.mark.parametrize("tasks", [[None], [(1, 1)], [(2, 2), (1, 2)]], ids=["alone", "one", "two"])
def test_changed_content_takes_the_place(tmp_path, keep_time, tasks):
    """Files of other content, but of the same names, sizes and even times, are built anew."""
    batch = toy.make_batch(5, seed=1)
    path = tmp_path / "native/a.npz"
    tree = tmp_path / "toy"
    toy.write_native(path, batch)
    build_catalog(toy.SURVEY, path.parent, tree)
    before, stat = open_catalog(tree).snapshot, path.stat()
    toy.write_native(path, {**batch, "Z": batch["Z"] + 1})
    assert path.stat().st_size == stat.st_size
    if keep_time:
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    # Of two tasks the second has no unit to look at, and leaves all to the first.
    for task in tasks:
        build_catalog(toy.SURVEY, path.parent, tree, overwrite=True, task=task)
    after = open_catalog(tree)
    assert after.snapshot != before
    assert sorted(after.light(["Z"])["Z"].to_pylist()) == sorted((batch["Z"] + 1).tolist())
    listed = json.loads((tree / "main/manifest/inputs.jsonl").read_text())
    assert listed["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_overwriting_mends(native, tmp_path):
    """Built anew of the same files, a damaged subset is whole again."""
    tree = tmp_path / "toy"
    build_catalog(toy.SURVEY, native, tree)
    before = hashes(tree)
    shard = min(tree.glob("main/healpix=*/*.hdf5"))
    shard.write_bytes(shard.read_bytes()[:-1] + b"?")
    build_catalog(toy.SURVEY, native, tree, overwrite=True)
    assert hashes(tree) == before


def test_refused_then_mended(native, tmp_path):
    """A build that was refused stands in the way of no other: of mended files, or elsewhere."""
    tree = tmp_path / "toy"
    (native / "c.npz").write_bytes(b"")
    with pytest.raises(BuildError, match=r"1 of 3 files were rejected.*first: c\.npz"):
        build_catalog(toy.SURVEY, native, tree)
    (native / "c.npz").unlink()
    toy.READ.clear()
    assert build_catalog(toy.SURVEY, native, tree).n_written == 50
    assert not toy.READ
    (tmp_path / "wrong").mkdir()
    (tmp_path / "wrong/x.npz").write_bytes(b"")
    with pytest.raises(BuildError, match="no object is left"):
        build_catalog(toy.SURVEY, tmp_path / "wrong", tmp_path / "other", tolerance=1)
    assert build_catalog(toy.SURVEY, native, tmp_path / "other", order=5).n_written == 50
    (tmp_path / "file").touch()
    with pytest.raises(BuildError, match="is a file, not a folder"):
        build_catalog(toy.SURVEY, native, tmp_path / "file")


def test_changed_options_are_read_again(native, tmp_path):
    """A unit whose options changed since a stopped build is read again."""
    tree = tmp_path / "toy"
    assert stopped_build(native, tree, "SIGINT", 2) != 0

    toy.READ.clear()
    build_catalog(toy.SURVEY, native, tree)
    assert toy.READ == ["b.npz"]
    units = [Unit("a.npz", (native / "a.npz",), {"rows": 5})]
    assert inputs_of(units[0], native) != inputs_of(toy.units(native)[0], native)


def test_replacing_leaves_a_tree_at_every_moment(native, tmp_path):
    """A tree that is replaced is there until the new one is, and comes back if it never came."""
    tree = tmp_path / "toy"
    build_catalog(toy.SURVEY, native, tree)
    before = hashes(tree)
    # As a system without an exchange of names leaves it, killed between its two renames.
    (tree / "main").rename(tree / ".main.replaced")
    assert stopped_build(native, tree, "SIGKILL", 1) < 0
    assert validate_catalog(tree).ok
    shutil.rmtree(tree / ".main.build")
    assert hashes(tree) == before


def test_finished_but_not_tidied(native, tmp_path):
    """A run killed after its tree took the final name does not stand in the way of the next."""
    tree = tmp_path / "toy"
    assert stopped_build(native, tree, "SIGINT", 2) != 0
    work = tree / ".main.build"
    (work / "done").touch()
    build_catalog(toy.SURVEY, native, tree, order=6)
    assert not list(tree.glob(".main.build*"))


def test_tree_made_meanwhile_is_kept(native, tmp_path):
    """A tree that another build made meanwhile is not replaced unless that was asked for."""
    tree = tmp_path / "toy"

    build_catalog(toy.SURVEY, native, tmp_path / "other/toy")

    def read(unit):
        # As where two builds run side by side because locks do not hold.
        if not (tree / "main").exists():
            shutil.copytree(tmp_path / "other/toy/main", tree / "main")
        return toy.read(unit)

    survey = dataclasses.replace(toy.SURVEY, read=read)
    with pytest.raises(BuildError, match="another build meanwhile"):
        build_catalog(survey, native, tree, order=6)
    assert open_catalog(tree).order == 4


def test_failed_unit_leaves_no_trace(native, tmp_path):
    """What a file gave before it turned out broken counts for nothing: not its grid either."""

    def read(unit):
        if unit.key == "a.npz":
            yield {**toy.make_batch(2, seed=9), "WAVE": np.linspace(1, 2, toy.N_WAVE)}
            raise NativeFileError("a.npz", "more", "an end")
        yield from toy.read(unit)

    survey = dataclasses.replace(toy.SURVEY, read=read)
    with pytest.raises(BuildError, match=r"1 of 2 files were rejected"):
        build_catalog(survey, native, tmp_path / "toy")
    report = build_catalog(survey, native, tmp_path / "toy", tolerance=0.5)
    assert report.n_written == 30
    assert open_catalog(tmp_path / "toy").take([0], ["WAVE"])["WAVE"][0] == 3600


def test_text_is_utf8(native, tmp_path):
    """Bytes that are not UTF-8 are refused before anything is written, naming the value."""
    batch = toy.make_batch(3, seed=1)
    batch["NAME"][1] = b"\xff\xfe"
    toy.write_native(tmp_path / "other/a.npz", batch)
    with pytest.raises(SchemaError, match=r"'NAME'.*text in UTF-8, found b'\\xff\\xfe' \(value 1"):
        build_catalog(toy.SURVEY, tmp_path / "other", tmp_path / "toy")


def test_small_units_share_blocks(tmp_path):
    """Many files of one object each give the same tree as one file of all."""
    batch = toy.make_batch(9, seed=3)
    toy.write_native(tmp_path / "one/a.npz", batch)
    for row in range(9):
        part = {
            name: values if name == "WAVE" else values[row : row + 1]
            for name, values in batch.items()
        }
        toy.write_native(tmp_path / f"many/{row}.npz", part)
    for name in ("one", "many"):
        build_catalog(toy.SURVEY, tmp_path / name, tmp_path / f"tree_{name}")
    one, many = (hashes(tmp_path / f"tree_{name}") for name in ("one", "many"))
    # These two tell of the files; the data and what describes them are the same.
    for name in ("manifest/inputs.jsonl", "astropile.json"):
        assert one.pop(f"main/{name}") != many.pop(f"main/{name}")
    assert one == many


def test_declaration_is_checked_first(native, tmp_path):
    """What cannot be written is refused before anything is read."""
    toy.READ.clear()
    for column, said in (
        (Column("X", "int8", "X.", unit="bananas/s"), r"'bananas/s' of column 'X' does not parse"),
        (Column("X", "int8", "x" * 70000), "description of X.*takes 70000 bytes"),
    ):
        survey = dataclasses.replace(toy.SURVEY, columns=(*toy.SURVEY.columns, column))
        with pytest.raises(BuildError, match=said):
            build_catalog(survey, native, tmp_path / "toy")
    survey = dataclasses.replace(toy.SURVEY, epoch=float("nan"))
    with pytest.raises(BuildError, match="cannot be written"):
        build_catalog(survey, native, tmp_path / "toy")
    assert not toy.READ


def test_positions_are_icrs_degrees():
    """A survey's ra and dec are floats in degrees, ICRS: others are refused when declared."""

    def with_ra(**facts):
        columns = list(toy.SURVEY.columns)
        columns[1] = dataclasses.replace(columns[1], **facts)
        return dataclasses.replace(toy.SURVEY, columns=tuple(columns))

    for facts, said in (
        ({"unit": "hourangle"}, "'RA' is float64 in 'hourangle'"),
        ({"dtype": "S8"}, "'RA' is S8"),
        ({"shape": (2,)}, "one value for each object"),
    ):
        with pytest.raises(ValueError, match=said):
            with_ra(**facts)
    with pytest.raises(ValueError, match="not 'Galactic'"):
        dataclasses.replace(toy.SURVEY, frame="Galactic")


def test_scalar_shared_column_and_empty_batches(native, tmp_path):
    """One number for all objects is stored; batches without objects do no harm."""
    columns = (*toy.SURVEY.columns, Column("ZP", "float32", "Zero point.", shared=True))

    def read(unit):
        whole = toy.make_batch(4, seed=1)
        yield {**toy.make_batch(0, seed=1), "ZP": np.float32(27)}
        yield {**whole, "ZP": np.float32(27)}

    survey = dataclasses.replace(
        toy.SURVEY, columns=columns, read=read, units=lambda p: toy.units(p)[:1]
    )
    build_catalog(survey, native, tmp_path / "toy")
    found = open_catalog(tmp_path / "toy").take([0, 1], ["ZP", "ID"])
    assert found["ZP"].shape == ()
    assert found["ZP"] == 27
    assert validate_catalog(tmp_path / "toy").ok


def test_two_builds_at_once(native, tmp_path):
    """A second build of one subset, while the first runs, is refused."""

    def read(unit):
        with pytest.raises(BuildError, match="another build of it runs"):
            build_catalog(toy.SURVEY, native, tmp_path / "toy")
        return toy.read(unit)

    build_catalog(dataclasses.replace(toy.SURVEY, read=read), native, tmp_path / "toy")


def test_full_disk(native, tmp_path):
    """Where the disk fills, the build is an OSError and nothing has a final name."""
    code = (
        "import resource, sys; sys.path.insert(0, sys.argv[1]); import toy; "
        "from astropile import build_catalog; import signal; "
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (40000, 40000)); "
        "build_catalog(toy.SURVEY, sys.argv[2], sys.argv[3])"
    )
    tests = str(Path(toy.__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", code, tests, str(native), str(tmp_path / "toy")],
        capture_output=True,
        check=False,
        text=True,
    )
    assert done.returncode == 1
    assert "OSError" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "toy/main").exists()
    assert os.WTERMSIG(done.returncode) != signal.SIGSEGV
