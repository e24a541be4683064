"""The command match in the words of STILTS: joins, ways to find, formats, more than two trees."""

import json

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
