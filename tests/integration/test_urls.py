"""A URL wherever a tree's path is taken; where only this machine will do, one sentence says so."""

import json

import fsspec
import numpy as np
import pytest

import toy
from astropile import (
    build_catalog,
    concatenate_datasets,
    cross_match,
    cross_match_datasets,
    load_dataset,
    load_dataset_builder,
    open_catalog,
    validate_catalog,
)
from astropile.cli.main import main
from astropile.demo import run_demo
from astropile.errors import BuildError, TreeNotFoundError
from astropile.rewrite import rewrite_catalog
from astropile.testing.server import serve

datasets = pytest.importorskip("datasets")

N = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two trees of which four objects are the same."""
    root = tmp_path_factory.mktemp("urls")
    rng = np.random.default_rng(3)
    ra, dec = rng.uniform(10, 11, N), rng.uniform(5, 6, N)
    for name, seed, first in (("left", 1, 0), ("right", 2, 500)):
        shift = np.r_[np.zeros(4), np.full(N - 4, 3.0)] * (name == "right")
        batch = toy.make_batch(N, seed=seed, first_id=first, ra=ra + shift, dec=dec)
        toy.write_native(root / f"native/{name}/a.npz", batch)
        build_catalog(toy.SURVEY, root / "native" / name, root / "trees" / name, order=2)
    return root / "trees"


@pytest.fixture(scope="module", params=["http", "memory", "file"])
def place(request, folder):
    """Gives the URL of a tree by its name."""
    if request.param == "http":
        with serve(folder) as server:
            yield lambda name: f"{server.url}/{name}/main"
    elif request.param == "file":
        yield lambda name: f"file://{folder}/{name}"
    else:
        memory = fsspec.filesystem("memory")
        memory.put(f"{folder}/", "/urls/", recursive=True)
        yield lambda name: f"memory://urls/{name}"
        memory.rm("/urls", recursive=True)


def test_opening(place, folder):
    """Catalogs, datasets, builders and streams open by URL, with and without the subset's name."""
    url = place("left")
    local = load_dataset(folder / "left")
    ids = local["object_id"][:]
    assert len(open_catalog(url)) == N
    assert load_dataset(url)["object_id"][:] == ids
    assert load_dataset(url, "main")["object_id"][:] == ids
    assert load_dataset_builder(url).as_dataset("train")["object_id"][:] == ids
    stream = load_dataset(url, streaming=True, columns=["object_id"])
    assert [row["object_id"] for row in stream] == ids
    named = datasets.load_dataset("astropile", data_dir=url, split="train")
    assert named["object_id"][:] == ids
    both = concatenate_datasets([load_dataset(url), load_dataset(place("right"))])
    assert len(both) == 2 * N
    with pytest.raises(TreeNotFoundError, match="leftx"):
        open_catalog(url.replace("left", "leftx"))


def test_matching(place, folder):
    """Trees match by URL, on either side or both, as they do on disk."""
    here = [str(folder / name) for name in ("left", "right")]
    there = [place(name) for name in ("left", "right")]
    expected = cross_match(*here, radius_arcsec=1.0)
    assert len(expected) == 4
    for sides in (there, [here[0], there[1]], [there[0], here[1]]):
        pairs = cross_match(*sides, radius_arcsec=1.0)
        assert pairs.left.tolist() == expected.left.tolist()
        assert pairs.right.tolist() == expected.right.tolist()
        catalog, found = cross_match_datasets(*sides, match_radius=1.0)
        assert len(catalog) == len(found) == 4


def test_commands(place, capsys, tmp_path):
    """The commands that read trees take URLs."""
    left, right = place("left"), place("right")
    assert main(["--json", "info", left]) == 0
    assert json.loads(capsys.readouterr().out)
    assert main(["show", left, str(2**60 + 4)]) == 0
    assert main(["match", left, right, "--radius", "1", "-o", str(tmp_path / "pairs")]) == 0
    assert list(tmp_path.iterdir())
    capsys.readouterr()


def test_written_on_this_machine(place, folder, tmp_path, monkeypatch):
    """Nothing is written to a URL, and no folder is made that is called like one."""
    monkeypatch.chdir(tmp_path)
    url, native = place("left"), folder.parent / "native/left"
    for refused in (
        lambda: build_catalog(toy.SURVEY, native, url),
        lambda: build_catalog(toy.SURVEY, url, tmp_path / "new"),
        lambda: rewrite_catalog(folder / "left", url, layout="fast"),
        lambda: rewrite_catalog(url, tmp_path / "new", layout="fast"),
        lambda: run_demo(url),
    ):
        with pytest.raises(BuildError, match="this machine") as caught:
            refused()
        assert url in str(caught.value)
    with pytest.raises(TreeNotFoundError, match="on this machine"):
        validate_catalog(url)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        ["build", "hsc", "URL", "tree"],
        ["build", "hsc", "native", "URL"],
        ["demo", "URL"],
        ["demo", "tree", "--data", "URL"],
        ["surveys", "--write-docs", "URL"],
        ["match", "a", "b", "--radius", "1", "-o", "URL"],
        ["show", "a", "1", "-o", "URL"],
        ["validate", "URL"],
        ["rewrite", "URL", "tree", "--layout", "fast"],
        ["rewrite", "tree", "URL", "--layout", "fast"],
        ["repair", "URL", "--from", "b"],
    ],
    ids=" ".join,
)
def test_commands_that_need_this_machine(words, capsys, tmp_path, monkeypatch):
    """Where only a path on this machine will do, a command says so and does nothing."""
    monkeypatch.chdir(tmp_path)
    url = "https://data.example.org/hsc"
    assert main([url if word == "URL" else word for word in words]) == 2
    said = capsys.readouterr().err
    assert f"a path on this machine is needed, not a URL: {url}" in said
    assert list(tmp_path.iterdir()) == []
