"""The command match in the words of STILTS: joins, ways to find, formats, more than two trees."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table

import astropile
from astropile.cli.exit_codes import ExitCode
from astropile.cli.main import main
from hftrees import N_LEFT, quiet, trees  # noqa: F401

FORMATS = {
    ".parquet": "parquet",
    ".csv": "ascii.csv",
    ".ecsv": "ascii.ecsv",
    ".fits": "fits",
    ".vot": "votable",
    ".xml": "votable",
    ".fit": "fits",
    ".hdf5": "hdf5",
}


@pytest.fixture
def command(capsys):
    """Run the command in this process; gives exit status, standard output, standard error."""

    def run(*words):
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_suffix_names_the_format(command, trees, tmp_path, suffix):  # noqa: F811
    """Every format holds the rows, masked where a side is absent, identifiers exact."""
    path = tmp_path / f"lines{suffix}"
    code, out, err = command("match", trees.left, trees.right, "-o", path, "--join", "all1")
    assert (code, err) == (0, "")
    expected, _ = astropile.cross_match_datasets(trees.left, trees.right, join="left")
    assert out.startswith(f"{len(expected)} lines among {N_LEFT} of toy and")
    table = Table.read(str(path), format=FORMATS[suffix])
    table.convert_bytestring_to_unicode()
    assert table.colnames == expected.colnames
    np.testing.assert_array_equal(table["row_toy"], expected["row_toy"])
    absent = np.ma.getmaskarray(expected["row_other"])
    assert absent.any()
    np.testing.assert_array_equal(np.ma.getmaskarray(table["row_other"]), absent)
    np.testing.assert_array_equal(
        np.asarray(table["object_id_other"])[~absent],
        np.asarray(expected["object_id_other"])[~absent],
    )
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [path.name]
    code, _, err = command("match", trees.left, trees.right, "-o", path)
    assert code == ExitCode.REFUSED
    assert "exists already" in err
    assert command("match", trees.left, trees.right, "-o", path, "--overwrite")[0] == 0


@pytest.mark.parametrize(
    ("words", "options"),
    [
        (["--join", "1not2"], {"join": "1not2"}),
        (["--join", "1or2", "--find", "best"], {"join": "outer", "find": "best"}),
        (["--find", "best2", "--radius", "36000"], {"find": "best2", "match_radius": 36000.0}),
        (["--find", "all", "--radius", "36000"], {"find": "all", "match_radius": 36000.0}),
    ],
)
def test_words_of_stilts(command, trees, tmp_path, words, options):  # noqa: F811
    """As many lines as the function gives with the same meaning."""
    expected, _ = astropile.cross_match_datasets(trees.left, trees.right, **options)
    line = ("match", trees.left, trees.right, "-o", tmp_path / "x.csv", *words)
    code, out, _ = command(*line, "--json")
    assert code == 0
    assert json.loads(out)["n_pairs"] == len(expected)


def test_three_trees(command, trees, tmp_path):  # noqa: F811
    """A folder with one record per survey; the anchor by name."""
    datasets = pytest.importorskip("datasets")
    inputs = (trees.left, trees.right, trees.left)
    line = ("match", *inputs, "-o", tmp_path / "three", "--join", "1or2", "--anchor", "other")
    code, out, _ = command(*line, "--json")
    facts = json.loads(out)
    assert code == 0
    assert [tree["survey"] for tree in facts["trees"]] == ["toy", "other", "toy"]
    loaded = datasets.load_from_disk(str(tmp_path / "three" / "dataset"))
    assert len(loaded) == facts["n_pairs"]
    assert {"toy_1", "other", "toy_2"} <= set(loaded.features)


def test_wrong_command_lines(command, trees, tmp_path):  # noqa: F811
    """One tree, an unknown anchor, a join that three trees do not have."""
    code, _, err = command("match", trees.left, "-o", tmp_path / "x")
    assert code == ExitCode.USAGE
    assert "two trees or more" in err
    code, _, err = command(
        "match", trees.left, trees.right, "-o", tmp_path / "x", "--anchor", "nobody"
    )
    assert code == ExitCode.REFUSED
    assert "anchor: expected one of toy, other" in err
    three = (trees.left, trees.right, trees.right)
    code, _, err = command("match", *three, "-o", tmp_path / "x", "--join", "1not2")
    assert code == ExitCode.REFUSED
    assert "join: expected one of inner, left, outer" in err
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def lists(trees, tmp_path):  # noqa: F811
    """Two files with some objects of the left tree, the second ones half an arcsecond north."""
    ra, dec = astropile.open_catalog(trees.left).positions()
    ra, dec = ra[10:30], np.clip(dec[10:30], -89, 89)
    one, other = tmp_path / "one.csv", tmp_path / "other.fits"
    Table({"id": np.arange(20), "RA": ra, "DEC": dec}).write(one)
    Table({"key": np.arange(20)[::-1] + 100, "X": ra, "Y": dec + 0.5 / 3600}).write(other)
    return one, other


def test_tables_without_datasets(lists, tmp_path):
    """Files are matched to a file, and to a tree, where the library `datasets` is not there."""
    program = """
import sys
sys.modules["datasets"] = None
from astropile.cli.main import main
line = ["match", *sys.argv[1:3], "--columns", "other=X,Y", "-o"]
sys.exit(main([*line, "x.fits", "--json"]) or main([*line, "tree", "--tree", "--json"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, lists)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, "")
    table = Table.read(tmp_path / "x.fits")
    np.testing.assert_allclose(table["separation"], 0.5, atol=1e-6)
    assert table["row_one"].tolist() == table["row_other"].tolist() == list(range(20))
    flags = json.loads("{" + done.stdout.rpartition("\n{")[2])["licence_flags"]
    assert flags == ["one: licence not known", "other: licence not known"]
    tree = astropile.open_catalog(tmp_path / "tree")
    assert sorted(tree.take(np.arange(20), ["other.key"])["other.key"]) == list(range(100, 120))


def test_summary_and_figure(command, lists, tmp_path):
    """The report tells what is chance, per pair too, and the figure is a PNG of three panels."""
    pytest.importorskip("matplotlib")
    one, other = lists
    line = ("match", one, other, "--columns", "other=X,Y", "-o", tmp_path / "x.ecsv")
    code, out, _ = command(*line, "--figure", tmp_path / "x.png")
    assert code == 0
    assert "chance: 20 pairs within 1 arcsec, 0 ±" in out
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    table = Table.read(tmp_path / "x.ecsv")
    assert table.meta["summary"]["n_pairs"] == 20
    assert (table["chance_probability"] < 1e-6).all()


def test_figure_of_three_with_epochs_and_errors(command, lists, tmp_path):
    """Each survey is told of and drawn beside the anchor, with epochs and errors too."""
    pytest.importorskip("matplotlib")
    one, other = lists
    third = tmp_path / "third.csv"
    third.write_text(Path(one).read_text())
    line = ("match", one, other, third, "--columns", "other=X,Y", "-o", tmp_path / "x.ecsv")
    when = [f"--epoch={name}=2000" for name in ("one", "other", "third")]
    errors = [f"--error={name}=0.3" for name in ("one", "other", "third")]
    code, out, _ = command(*line, *when, *errors, "--join", "all1", "--figure", tmp_path / "x.png")
    assert code == 0
    assert "chance with other: 20 pairs within 1 arcsec" in out
    assert "chance with third: " in out
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    table = Table.read(tmp_path / "x.ecsv")
    assert set(table.meta["summary"]) == {"other", "third"}
    found = np.ma.compressed(np.ma.asarray(table["match_probability_other"]))
    # Two of the objects lie at one place: either may be the other's.
    assert np.sort(found).round(2).tolist() == [0.5] * 2 + [1.0] * 18


def test_epochs_on_the_command_line(command, tmp_path):
    """A star that moves is found where it was seen, and only then."""
    moving = Table({"ra": [10.0], "dec": [0.0], "pmra": [0.0], "pmdec": [5000.0]})
    moving["pmra"].unit = moving["pmdec"].unit = "mas/yr"
    moving.write(tmp_path / "gaia.ecsv")
    Table({"ra": [10.0], "dec": [-5.0 * 16 / 3600], "when": [2000.0]}).write(tmp_path / "old.csv")
    line = ("match", tmp_path / "gaia.ecsv", tmp_path / "old.csv", "--json", "-o")
    assert json.loads(command(*line, tmp_path / "a.csv")[1])["n_pairs"] == 0
    epochs = ("--epoch", "gaia=2016", "--epoch", "old=when")
    found = json.loads(command(*line, tmp_path / "b.csv", *epochs)[1])
    assert found["n_pairs"] == 1
    assert found["separation_arcsec"]["max"] < 1e-4


def test_identifiers_on_the_command_line(command, tmp_path):
    """Rows of equal identifiers, wherever they are on the sky."""
    Table({"id": [7, 8], "ra": [1.0, 2.0], "dec": [0.0, 0.0]}).write(tmp_path / "a.csv")
    Table({"key": [8, 9], "ra": [50.0, 60.0], "dec": [0.0, 0.0]}).write(tmp_path / "b.csv")
    line = ("match", tmp_path / "a.csv", tmp_path / "b.csv", "-o", tmp_path / "x.csv")
    assert command(*line, "--on", "a=id", "--on", "b=key")[0] == 0
    table = Table.read(tmp_path / "x.csv")
    assert (table["row_a"].tolist(), table["row_b"].tolist()) == ([1], [0])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--columns", "nobody=X,Y"], "no input is called nobody"),
        (["--columns", "other=X"], "expected two columns"),
        (["--epoch", "2016"], "not of the form NAME=VALUE"),
        (["--figure", "x.pdf"], "a figure is a .png"),
        (["--tree", "-o", "x.fits"], "no format has the suffix"),
    ],
)
def test_options_that_cannot_be(command, lists, words, message):
    """Refused with status 2 and what is wrong."""
    line = ["match", *lists, "-o", lists[0].parent / "out.csv", *words]
    try:
        code, _, err = command(*line)
    except SystemExit as stopped:
        pytest.fail(f"left with {stopped.code}")
    assert code == ExitCode.USAGE
    assert message in err
