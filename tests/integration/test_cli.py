"""The command ``astropile``: results on standard output, errors on one line, exit statuses."""

import dataclasses
import json
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
import termios
import time
from pathlib import Path

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest

import astropile
from astropile import open_catalog
from astropile.cli import failures
from astropile.cli.build import byte_size
from astropile.cli.exit_codes import ExitCode
from astropile.cli.main import _COMMANDS, main
from astropile.cli.output import plain_json, printable
from astropile.cli.sketch import sketch_curve, sketch_image
from astropile.demo import run_demo, targets
from astropile.errors import FormatError
from astropile.schema import Rejected
from astropile.simulate import decals, desi
from astropile.simulate.galaxies import make_galaxies

SOURCE = Path(astropile.__file__).parents[1]


@pytest.fixture
def command(capsys):
    """Run the command in this process; gives exit status, standard output, standard error."""

    def run(*words):
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture(scope="session")
def sky(tmp_path_factory):
    """Native files and trees of two surveys that share ten galaxies."""
    folder = tmp_path_factory.mktemp("sky")
    galaxies = make_galaxies(12, seed=3, ra=149.4, dec=2.1)
    decals.write(folder / "native" / "decals", galaxies.select(np.arange(11)), seed=3)
    desi.write(folder / "native" / "desi", galaxies.select(np.arange(1, 12)), seed=3)
    for name in ("decals", "desi"):
        assert main(["build", name, str(folder / "native" / name), str(folder / name), "-q"]) == 0
    return folder


@pytest.fixture
def copy(sky, tmp_path):
    """A tree of one's own, to be damaged."""
    shutil.copytree(sky / "desi", tmp_path / "desi")
    return tmp_path / "desi"


def start(*words, **options):
    """Run the command in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    line = [sys.executable, "-m", "astropile.cli.main", *map(str, words)]
    return subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True, **options
    )


def one_line(err):
    """The error as it must be: one line, and at most one with a hint."""
    lines = err.splitlines()
    assert lines[0].startswith("astropile: error: "), err
    assert all(line.startswith("astropile: hint: ") for line in lines[1:]), err
    assert len(lines) <= 2
    return lines[0]


# --------------------------------------------------------------------------------------
# Help and usage


def test_every_help_has_an_example(command):
    """`--help` of each command shows how it is used, and succeeds."""
    for words in ([], *([name] for name in _COMMANDS)):
        code, out, err = command(*words, "--help")
        assert (code, err) == (0, "")
        assert "example:\n  astropile " in out


def test_the_version_is_printed(command):
    """`--version` is one line."""
    assert command("--version") == (0, f"astropile {astropile.__version__}\n", "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["biuld"], "did you mean 'build'? Commands: demo, surveys, build"),
        (["xyzzy"], "no command 'xyzzy'. Commands"),
        ([], "no command; see astropile --help"),
        (["--json"], "no command"),
        (["info"], "the following arguments are required: TREE"),
        (["info", "a", "--jsn"], "unrecognized arguments: --jsn"),
        (["build", "mangaa", "a", "b"], "no survey named 'mangaa'; did you mean 'manga'?"),
        (["build", "hsc", "a", "b", "--order", "30"], "'30' is not a HEALPix order, 0 to 29"),
        (["build", "hsc", "a", "b", "--shard-size", "lots"], "'lots' is not a size"),
        (["build", "hsc", "a", "b", "--tolerance", "2"], "'2' is not a share, 0 to 1"),
        (["build", "hsc", "a", "b", "--subset", "../x"], "a subset is named with letters"),
        (["match", "a", "b", "-o", "c", "--radius", "nan"], "'nan' is not a number of arcseconds"),
        (["match", "a", "b", "-o", "c", "--radius", "-1"], "'-1' is not a number of arcseconds"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_status_2(command, words, said):
    """What was wrong, and where known what was meant."""
    code, out, err = command(*words)
    assert (code, out) == (ExitCode.USAGE, "")
    assert said in one_line(err)


def test_common_flags_hold_before_and_after_the_command(command):
    """`astropile --json surveys` and `astropile surveys --json` are the same."""
    before, after = command("--json", "surveys"), command("surveys", "--json")
    assert before == after
    assert json.loads(before[1])["surveys"]


# --------------------------------------------------------------------------------------
# surveys


def test_surveys_lists_what_can_be_built(command):
    """Every survey of the table, as text and as JSON."""
    code, out, _ = command("surveys")
    assert code == 0
    assert {line.split()[0] for line in out.splitlines()[1:]} == set(astropile.list_surveys())
    listed = json.loads(command("surveys", "--json")[1])["surveys"]
    assert {one["name"]: one["holds"] for one in listed}["manga"] == ["IFU cubes"]


# --------------------------------------------------------------------------------------
# build


def test_build_counts_what_it_read(command, sky, tmp_path):
    """Objects read are objects written and rejected, with the reasons."""
    code, out, err = command("build", "desi", sky / "native" / "desi", tmp_path / "t", "--json")
    assert (code, err) == (0, "")
    report = json.loads(out)
    assert report["n_written"] == 11
    assert report["n_read"] == report["n_written"] + report["n_rejected"]
    assert sum(report["reasons"].values()) == report["n_rejected"] > 0
    assert Path(report["path"]) == tmp_path / "t" / "dr1_main"
    again = command("build", "desi", sky / "native" / "desi", tmp_path / "t")
    assert again[0] == ExitCode.REFUSED
    assert "exists already" in again[2]
    assert "--overwrite" in again[2]
    code, out, _ = command("build", "desi", sky / "native" / "desi", tmp_path / "t", "--overwrite")
    assert code == 0
    assert out.startswith(f"built {tmp_path / 't' / 'dr1_main'}: 11 objects in ")
    assert "read 1" in out


def test_build_takes_its_options(command, sky, tmp_path):
    """Order, subset and shard size reach the tree."""
    words = ("--order", "6", "--subset", "mine", "--layout", "fast", "--shard-size", "300KiB", "-q")
    code, out, _ = command("build", "decals", sky / "native" / "decals", tmp_path / "t", *words)
    assert (code, out) == (0, "")
    catalog = open_catalog(tmp_path / "t")
    assert (catalog.order, catalog.subset, catalog.root.layout) == (6, "mine", "fast")
    assert len(catalog.shards) > len(catalog.root.partitions)


def test_a_dry_run_writes_nothing(command, sky, tmp_path):
    """It says what would be read."""
    words = ("build", "decals", sky / "native" / "decals", tmp_path / "t", "--dry-run")
    code, out, _ = command(*words, "--json")
    plan = json.loads(out)
    assert code == 0
    assert plan["n_files"] == 1
    assert plan["n_bytes"] == sum(p.stat().st_size for p in sky.glob("native/decals/*/*.h5"))
    assert "would build" in command(*words)[1]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dry", [[], ["--dry-run"]], ids=["build", "dry run"])
def test_bad_native_input_is_refused(command, tmp_path, dry):
    """No folder, an empty one, a broken file: status 3, one line, nothing written."""
    tree = tmp_path / "tree"
    code, out, err = command("build", "decals", tmp_path / "nowhere", tree, *dry)
    assert (code, out) == (ExitCode.REFUSED, "")
    assert "does not exist" in one_line(err)
    (tmp_path / "empty").mkdir()
    assert command("build", "decals", tmp_path / "empty", tree, *dry)[0] == ExitCode.REFUSED
    assert not list(tree.glob("*"))


def test_a_broken_native_file_is_named(command, tmp_path, sky):
    """A truncated file gives one clear error and no tree."""
    shutil.copytree(sky / "native" / "decals", tmp_path / "native")
    path = next((tmp_path / "native").glob("*/*.h5"))
    path.write_bytes(path.read_bytes()[:5000])
    code, _, err = command("build", "decals", tmp_path / "native", tmp_path / "tree")
    assert code == ExitCode.REFUSED
    assert path.name in one_line(err)
    assert not (tmp_path / "tree" / "stein_et_al").exists()


def test_sizes_are_read_with_their_units():
    """Powers of 1,024."""
    assert [byte_size(text) for text in ("1", "10B", "2k", "3MiB", "1 GB")] == [
        1,
        10,
        2048,
        3 * 2**20,
        2**30,
    ]


# --------------------------------------------------------------------------------------
# info


def test_info_says_what_a_tree_holds(command, sky):
    """Counts, sky, units; a data folder and a subset's folder alike."""
    code, out, _ = command("info", sky / "desi", "--json")
    (facts,) = json.loads(out)["subsets"]
    assert code == 0
    assert facts["n_objects"] == 11
    assert facts["provenance"] == {"project": "DESI", "survey": "DESI", "release": "DR1"}
    assert facts["fields"]["spectrum"]["lambda"]["unit"] == "Angstrom"
    assert sum(facts["rejected"].values()) > 0
    assert sum(b["partitions"] for b in facts["objects_per_partition"]["histogram"]) == 2
    assert {column["name"] for column in facts["columns"]} >= {"TARGETID", "Z"}
    same = json.loads(command("info", sky / "desi" / "dr1_main", "--json")[1])["subsets"]
    assert same == [facts]
    text = command("info", sky / "desi")[1]
    assert re.search(r"objects +11\n", text)
    assert re.search(r"spectrum\.flux +float32 \(7781\) +1e-17 erg", text)
    assert "COADD_FIBERSTATUS" not in text
    assert "`COADD_FIBERSTATUS`" in command("info", sky / "desi", "--verbose")[1]
    assert command("info", sky / "desi", "--quiet")[1] == ""


def test_info_lists_every_subset(command, sky, tmp_path):
    """A data folder of two subsets: both."""
    for name in ("one", "two"):
        line = ("build", "decals", sky / "native" / "decals", tmp_path, "--subset", name, "-q")
        assert command(*line)[0] == 0
    facts = json.loads(command("info", tmp_path, "--json")[1])["subsets"]
    assert [subset["subset"] for subset in facts] == ["one", "two"]
    assert command("validate", tmp_path)[1].count(", valid") == 2
    code, _, err = command("show", tmp_path, "1")
    assert code == ExitCode.REFUSED
    assert "one, two" in err


@pytest.mark.parametrize("name", ["info", "validate"])
def test_no_tree_is_refused(command, tmp_path, name):
    """A path that is not there, one that is a file, a folder without a tree."""
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "nowhere", tmp_path / "file", tmp_path):
        code, out, err = command(name, path)
        assert (code, out) == (ExitCode.REFUSED, "")
        assert "no AstroPile tree" in one_line(err)
        assert "astropile build" in err


# --------------------------------------------------------------------------------------
# show


def first_id(tree):
    return open_catalog(tree).light(["object_id"])["object_id"][0].as_py()


def test_show_prints_every_field_with_its_unit(command, sky):
    """The value of a number, the range of an array, and a sketch of the spectrum."""
    object_id = first_id(sky / "desi")
    code, out, err = command("show", sky / "desi", object_id)
    assert (code, err) == (0, "")
    assert re.search(rf"object_id +int64 +{object_id}\n", out)
    assert re.search(r"ra +float64 +deg +149\.", out)
    assert re.search(r"spectrum\.lambda +float64 \(7781\) +Angstrom +3600 … 9824", out)
    assert "█" in out
    assert "COADD_FIBERSTATUS" not in out
    assert "COADD_FIBERSTATUS" in command("show", sky / "desi", object_id, "-v")[1]


def test_identifiers_survive_json(command, sky):
    """Beyond 2^53 a reader of JSON may round numbers: identifiers are strings."""
    object_id = first_id(sky / "desi")
    assert object_id > 2**53
    out = command("show", sky / "desi", object_id, "--json")[1]
    fields = {field["field"]: field for field in json.loads(out)["fields"]}
    assert fields["object_id"]["value"] == str(object_id)
    assert fields["spectrum.flux"]["statistics"]["n"] == 7781
    assert fields["ra"]["unit"] == "deg"


def test_show_draws_a_png(command, sky, tmp_path):
    """With -o, a picture."""
    pytest.importorskip("matplotlib")
    code, out, _ = command(
        "show", sky / "decals", first_id(sky / "decals"), "-o", tmp_path / "o.png"
    )
    assert (code, out) == (0, f"wrote {tmp_path / 'o.png'}\n")
    assert (tmp_path / "o.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize("object_id", ["1", "no such", "9" * 30, "\x1b[2J"])
def test_an_unknown_object_names_some_that_are_there(command, sky, object_id):
    """Status 3; what the terminal would take for a command is printed as text."""
    code, out, err = command("show", sky / "desi", object_id)
    assert (code, out) == (ExitCode.REFUSED, "")
    assert "no object" in one_line(err)
    assert str(first_id(sky / "desi")) in err
    assert "\x1b" not in err


def test_the_first_of_several_observations_is_shown(command, sky, tmp_path):
    """Others are named on standard error."""
    tree = repeated(sky, tmp_path)
    code, out, err = command("show", tree, first_id(tree))
    assert code == 0
    assert "object_id" in out
    assert "7 observations of it; this is the first of observation_id main-bright-" in err


def repeated(sky, tmp_path):
    """A DESI tree in which all observations of a coadd are of one target."""
    survey = astropile.get_survey("desi")

    def read(unit):
        for item in survey.read(unit):
            if isinstance(item, Rejected):
                yield item
            else:
                yield {**item, "TARGETID": np.repeat(item["TARGETID"][:1], len(item["TARGETID"]))}

    twice = dataclasses.replace(survey, read=read)
    astropile.build_catalog(twice, sky / "native" / "desi", tmp_path / "t", progress=False)
    return tmp_path / "t"


def test_sketches_are_right_side_up():
    """Row 0 is at the bottom; rising values rise."""
    image = np.zeros((8, 8))
    image[0, 0] = 1
    assert sketch_image(image)[-1] == "@"
    assert sketch_curve(np.arange(4), height=2) == ["  ▃█", " ▅██"]
    assert sketch_image(np.zeros((3, 3))) == []
    assert sketch_curve(np.full(5, np.nan)) == []


# --------------------------------------------------------------------------------------
# match


def test_match_saves_pairs_that_reload(command, sky, tmp_path):
    """The catalogue as Parquet and ECSV, the dataset as `datasets` loads it."""
    datasets = pytest.importorskip("datasets")
    out_folder = tmp_path / "pairs"
    line = ("match", sky / "decals", sky / "desi", "-o", out_folder, "--radius", "1")
    code, out, _ = command(*line, "--json")
    facts = json.loads(out)
    assert code == 0
    assert facts["n_pairs"] == 10
    assert facts["separation_arcsec"]["max"] < 1
    table = pq.read_table(out_folder / "catalog.parquet")
    assert len(table) == 10
    from astropy.table import Table

    ecsv = Table.read(out_folder / "catalog.ecsv", format="ascii.ecsv")
    assert str(ecsv["separation"].unit) == "arcsec"
    assert ecsv.meta["match_radius_arcsec"] == 1.0
    loaded = datasets.load_from_disk(str(out_folder / "dataset"))
    assert len(loaded) == 10
    pair = loaded[0]
    assert pair["separation"] == ecsv["separation"][0]
    assert len(pair["decals"]["image"]) == 3
    assert len(pair["desi"]["spectrum"]["flux"]) == 7781
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pairs"]

    code, _, err = command(*line)
    assert code == ExitCode.REFUSED
    assert "exists already" in one_line(err)
    code, out, _ = command(*line, "--overwrite")
    assert code == 0
    assert out.startswith("10 pairs among 11 of decals and 11 of desi within 1 arcsec\n")


def test_a_match_without_pairs_is_a_result(command, sky, tmp_path):
    """Radius 0 finds nothing, and saves that."""
    pytest.importorskip("datasets")
    code, out, _ = command(
        "match", sky / "decals", sky / "desi", "-o", tmp_path / "none", "--radius", "0"
    )
    assert code == 0
    assert out.startswith("0 pairs")
    assert len(pq.read_table(tmp_path / "none" / "catalog.parquet")) == 0


def test_a_dry_match_writes_nothing(command, sky, tmp_path):
    """It counts the pairs."""
    pytest.importorskip("datasets")
    code, out, _ = command("match", sky / "desi", sky / "decals", "-o", tmp_path / "x", "--dry-run")
    assert code == 0
    assert out.startswith("10 pairs")
    assert "would be written" in out
    assert list(tmp_path.iterdir()) == []


def test_a_failed_save_leaves_nothing(command, sky, tmp_path, monkeypatch):
    """When the disk is full: status 7, and no folder under the final name."""
    pytest.importorskip("datasets")
    import errno

    from astropile import matched

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(matched, "_write", full)
    code, _, err = command("match", sky / "decals", sky / "desi", "-o", tmp_path / "x")
    assert code == ExitCode.DISK
    assert "No space left" in one_line(err)
    assert list(tmp_path.iterdir()) == []


# --------------------------------------------------------------------------------------
# rewrite


def test_rewrite(command, sky, tmp_path):
    """A tree is written in the other layout, valid, and said how large it was and is."""
    code, out, err = command("rewrite", sky / "desi", tmp_path / "desi", "--layout", "fast")
    assert (code, err) == (0, "")
    assert "in layout fast: 11 objects" in out
    assert open_catalog(tmp_path / "desi").root.layout == "fast"
    assert command("validate", tmp_path / "desi")[0] == 0
    words = ("rewrite", tmp_path / "desi", tmp_path / "desi", "--layout", "compact")
    code, out, err = command(*words)
    assert (code, out) == (ExitCode.REFUSED, "")
    assert "exists already" in err
    assert "--name NAME writes beside it" in err
    code, out, _ = command(*words, "--overwrite", "--json")
    report = json.loads(out)
    assert (code, report["layout"], report["n_objects"]) == (0, "compact", 11)
    assert report["n_bytes"] < report["n_bytes_before"]
    assert command("rewrite", sky / "desi", tmp_path)[0] == ExitCode.USAGE


# --------------------------------------------------------------------------------------
# validate


def test_a_good_tree_is_valid(command, sky):
    """Status 0."""
    code, out, _ = command("validate", sky / "desi")
    assert code == 0
    assert out == f"{sky / 'desi' / 'dr1_main'}: 11 objects, 2 shards, valid\n"
    assert json.loads(command("validate", sky / "desi", "--json")[1])["ok"] is True


def shard_of(tree):
    return next(iter(open_catalog(tree).shards)).path


def test_a_missing_shard_is_damage(command, copy):
    """Status 4; the file is named, and what rule it breaks."""
    path = shard_of(copy)
    path.unlink()
    code, out, _ = command("validate", copy, "--json")
    (report,) = json.loads(out)["subsets"]
    assert code == ExitCode.DAMAGED
    assert not report["ok"]
    assert any(p["rule"] == "T4" and path.name in p["where"] for p in report["problems"])
    code, out, err = command("validate", copy)
    assert (code, err) == (ExitCode.DAMAGED, "")
    assert f"  T4 {path.parent.name}/{path.name}: missing" in out


def test_a_flipped_bit_is_found_and_named(command, copy):
    """Status 6 where only the hash tells, else 4; never 0."""
    path = shard_of(copy)
    content = bytearray(path.read_bytes())
    content[len(content) * 2 // 3] ^= 16
    path.write_bytes(content)
    code, out, _ = command("validate", copy)
    assert code in {ExitCode.INTEGRITY, ExitCode.DAMAGED}
    assert "M2" in out
    assert "damaged in bytes" in out


def test_a_hash_alone_is_an_integrity_mismatch(command, copy, tmp_path):
    """The lowest bit of a number that is not compressed: values that can be, status 6."""
    assert command("rewrite", copy, tmp_path / "fast", "--layout", "fast")[0] == 0
    (path,) = sorted((tmp_path / "fast").glob("*/healpix=*/*.hdf5"))[:1]
    with h5py.File(path) as file:
        held = (d for d in file.values() if isinstance(d, h5py.Dataset))
        largest = max(held, key=lambda d: d.nbytes)
        assert largest.dtype.kind == "f"
        place = largest.id.get_offset()
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    code, out, _ = command("validate", tmp_path / "fast")
    assert (code, "M2" in out) == (ExitCode.INTEGRITY, True)


def test_a_file_with_more_behind_it_is_damaged(command, copy):
    """A byte behind the end that the file itself states: not only the hash tells."""
    with shard_of(copy).open("ab") as file:
        file.write(b"\0")
    code, out, _ = command("validate", copy)
    assert (code, "M2" in out) == (ExitCode.DAMAGED, True)


@pytest.mark.parametrize("content", [b"", b"<!DOCTYPE html><html>log in</html>", b"{", b"[]"])
def test_a_broken_root_file_is_damage(command, copy, content):
    """Every command that opens the tree says so on one line."""
    next(copy.glob("*/astropile.json")).write_bytes(content)
    for words in (["info"], ["validate"], ["show", "1"]):
        code, out, err = command(words[0], copy, *words[1:])
        assert code in {ExitCode.DAMAGED, ExitCode.REFUSED}
        assert out == ""
        assert "astropile.json" in one_line(err)


def test_a_tree_of_a_newer_format_is_refused(command, copy):
    """Status 3: it is not damaged, only unknown."""
    path = next(copy.glob("*/astropile.json"))
    path.write_text(path.read_text().replace('"format": "1.', '"format": "9.', 1))
    code, _, err = command("info", copy)
    assert code == ExitCode.REFUSED
    assert "newer astropile" in one_line(err)


# --------------------------------------------------------------------------------------
# Errors


def test_a_bug_is_status_1_and_shows_its_traceback_only_when_asked(command, monkeypatch, sky):
    """One line by default; the traceback with --debug."""

    def broken(_args):
        raise KeyError("oh\nno")

    monkeypatch.setattr(_COMMANDS["info"], "run", broken)
    code, out, err = command("info", sky / "desi")
    assert (code, out) == (ExitCode.UNEXPECTED, "")
    assert "unexpected KeyError" in one_line(err)
    assert "Traceback" not in err
    assert "--debug" in err
    assert "Traceback" in command("info", sky / "desi", "--debug")[2]


def test_every_error_raised_on_purpose_has_a_status(command, monkeypatch, sky):
    """No error of ours is status 1."""
    import argparse

    from astropile import errors

    args = argparse.Namespace(command="build", survey="hsc")
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.AstroPileError)
    ]
    assert len(kinds) > 8
    for kind in kinds:
        error = kind.__new__(kind)
        error.args = ("x", "y", "z", "w")
        for name in ("reason", "path"):
            setattr(error, name, "x")
        monkeypatch.setattr(kind, "__str__", lambda _self: "x", raising=False)
        assert failures.explain(error, args).code != ExitCode.UNEXPECTED
    damaged = failures.explain(FormatError("f", "a", "b"), args)
    assert damaged.code == ExitCode.DAMAGED
    for error, code in (
        (ConnectionResetError("gone"), ExitCode.NETWORK),
        (TimeoutError("late"), ExitCode.NETWORK),
        (PermissionError(13, "Permission denied", "x"), ExitCode.REFUSED),
        (OSError(5, "Input/output error"), ExitCode.DISK),
        (OSError(122, "Disk quota exceeded"), ExitCode.DISK),
    ):
        assert failures.explain(error, args).code == code


def test_json_holds_what_json_can():
    """Not a number is null; large integers and identifiers are strings; bytes are text."""
    values = {
        "a": np.float32("nan"),
        "b": [np.inf, 1.5],
        "c": 2**53 + 1,
        "d": np.int64(2**53),
        "object_id": 7,
        "e": b"x\xff",
        "f": Path("p"),
        "g": np.arange(3),
        "h": np.bool_(True),
        "observation_id": [1, 2],
    }
    assert plain_json(values) == {
        "a": None,
        "b": [None, 1.5],
        "c": "9007199254740993",
        "d": 2**53,
        "object_id": "7",
        "e": "x\ufffd",
        "f": "p",
        "g": [0, 1, 2],
        "h": True,
        "observation_id": ["1", "2"],
    }


def test_text_from_files_cannot_drive_a_terminal():
    """Control characters and marks that turn the direction of writing are escaped."""
    assert printable("a\x1b[31mb\u202ec\n") == "a\\x1b[31mb\\u202ec\\n"
    assert printable("näme °") == "näme °"


# --------------------------------------------------------------------------------------
# Processes


def test_results_and_nothing_else_are_on_standard_output(sky, tmp_path):
    """No bars where standard error is no terminal; JSON is one document."""
    pytest.importorskip("datasets")
    line = ("match", sky / "decals", sky / "desi", "-o", tmp_path / "m", "--json")
    out, err = start(*line).communicate(timeout=60)
    assert json.loads(out)["n_pairs"] == 10
    assert err == ""


def test_bars_are_shown_on_a_terminal(sky, tmp_path):
    """And not with --no-progress."""
    shown = {}
    for flag in ("--verbose", "--no-progress"):
        main_end, terminal = pty.openpty()
        termios.tcsetwinsize(terminal, (24, 80))
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "astropile.cli.main", "build", "decals"),
                *(str(sky / "native" / "decals"), str(tmp_path / flag), flag),
            ],
            stdout=subprocess.DEVNULL,
            stderr=terminal,
            env={**os.environ, "PYTHONPATH": str(SOURCE)},
        )
        assert process.wait(timeout=60) == 0
        os.close(terminal)
        seen = b""
        try:
            while part := os.read(main_end, 4096):
                seen += part
        except OSError:  # Linux says so when the other end is closed
            pass
        os.close(main_end)
        shown[flag] = seen
    assert b"write" in shown["--verbose"]
    assert shown["--no-progress"] == b""


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "TERM"]
)
def test_an_interrupted_build_says_how_to_go_on(sky, tmp_path, number, status):
    """Nothing under the final name; the same command then builds what it would have built."""
    native = tmp_path / "native"
    shutil.copytree(sky / "native" / "decals", native)
    first = next(native.glob("*/*.h5"))
    for copy in range(2, 40):
        shutil.copy(first, first.with_name(f"images_npix96_{copy:09d}_x.h5"))
    line = ("build", "decals", native, tmp_path / "tree", "--duplicates", "reject")
    line = (*line, "--tolerance", "1")
    process = start(*line)
    work = tmp_path / "tree" / ".stein_et_al.build"
    waited = time.monotonic()
    while not work.exists() and process.poll() is None and time.monotonic() - waited < 30:
        time.sleep(0.01)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    if process.returncode == 0:
        pytest.skip("the build was done before the signal came")
    assert process.returncode == status
    assert out == ""
    assert len(err.splitlines()) == 1
    assert "the same command goes on where it was" in err
    assert not (tmp_path / "tree" / "stein_et_al").exists()
    assert main([str(word) for word in (*line, "-q")]) == 0
    assert main(["validate", str(tmp_path / "tree"), "-q"]) == 0


def test_a_reader_that_stops_reading_is_no_error(sky):
    """As in `astropile info TREE | head -1`."""
    with start("info", sky / "desi", "--verbose") as process:
        process.stdout.readline()
        process.stdout.close()
        err = process.stderr.read()
        assert process.wait(timeout=60) == 0
    assert err == ""


# --------------------------------------------------------------------------------------
# demo


@pytest.fixture
def offline(monkeypatch):
    """No connection leaves the machine."""

    def refuse(self, address):
        raise AssertionError(f"a connection to {address}")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def test_the_demo_goes_the_whole_way(command, tmp_path, offline):
    """Native files, trees, matches and pictures of five surveys, all valid; offline."""
    pytest.importorskip("datasets")
    pytest.importorskip("matplotlib")
    said = []
    report = run_demo(tmp_path / "demo", n_galaxies=6, progress=False, say=said.append)
    folder = tmp_path / "demo"
    for name in ("hsc", "decals", "sdss", "desi", "manga"):
        assert (folder / "native" / name).is_dir()
        assert (folder / name / "README.md").is_file()
    assert [tree.problems for tree in report.trees] == [()] * 5
    assert sum(match.n_pairs for match in report.matches) > 4
    for match in report.matches:
        assert (match.path / "dataset" / "state.json").is_file()
    assert len(report.figures) >= 10
    assert all(path.stat().st_size > 5000 for path in report.figures)
    assert len(report.next_commands) == 3
    assert any("valid" in line for line in said)
    for line in report.next_commands[:2]:
        words = line.split()[1:]
        assert command(*(tmp_path / w if w.endswith(".png") else w for w in words))[0] == 0

    again = run_demo(folder, n_galaxies=6, progress=False)
    assert all(tree.reused for tree in again.trees)
    assert [match.n_pairs for match in again.matches] == [m.n_pairs for m in report.matches]
    code, _, err = command("demo", folder)
    assert code == ExitCode.REFUSED
    assert "another demo" in one_line(err)


def test_the_demo_keeps_out_of_a_folder_that_is_not_its_own(command, tmp_path):
    """A folder with something in it is refused and left alone."""
    (tmp_path / "mine.txt").write_text("precious")
    code, _, err = command("demo", tmp_path)
    assert code == ExitCode.REFUSED
    assert "no demo made it" in one_line(err)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_the_demo_refuses_data_that_are_not_there(command, tmp_path):
    """Before anything is simulated."""
    code, _, err = command("demo", tmp_path / "demo", "--data", tmp_path / "nowhere")
    assert code == ExitCode.REFUSED
    assert "no folder of real survey files" in one_line(err)
    assert list(tmp_path.iterdir()) == []


def test_each_survey_has_its_own_targets():
    """Limits of the surveys, three nearby galaxies for MaNGA, no galaxy twice."""
    galaxies = make_galaxies(30, seed=20)
    chosen = {name: targets(name, galaxies) for name in ("hsc", "decals", "sdss", "desi", "manga")}
    assert len(chosen["manga"]) == 3
    assert set(chosen["manga"]) <= set(chosen["sdss"])
    assert galaxies.mag[chosen["sdss"], 2].max() < 17.77
    assert all(len(set(rows)) == len(rows) for rows in chosen.values())
    with pytest.raises(ValueError, match="no simulated survey"):
        targets("gaia", galaxies)


@pytest.mark.real
def test_a_real_object_is_shown(command, real_data, tmp_path):
    """MaNGA's real maps and cube, from native file to picture."""
    pytest.importorskip("matplotlib")
    tree = tmp_path / "manga"
    assert command("build", "manga", real_data / "ifu" / "manga", tree, "--tolerance", "1")[0] == 0
    # The reduced cube that is at hand was filled with random numbers, its wavelengths too.
    code, out, _ = command("validate", tree)
    assert (code, out.count("G1"), out.count("wavelengths do not increase")) == (3, 1, 1)
    code, out, _ = command("show", tree, "1-113540")
    assert code == 0
    assert re.search(r"images\[\d+\]\.data", out)
    assert command("show", tree, "1-113540", "-o", tmp_path / "maps.png")[0] == 0
    assert (tmp_path / "maps.png").stat().st_size > 20_000
