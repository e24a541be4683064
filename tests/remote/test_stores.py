"""Trees in stores that fsspec knows: memory stands for all of them."""

import pickle
from datetime import timedelta

import fsspec
import numpy as np
import pytest

import toy
from astropile import build_catalog, open_catalog
from astropile.errors import (
    BuildError,
    FormatError,
    MissingExtraError,
    StoreError,
    TreeNotFoundError,
)
from astropile.match import cross_match
from astropile.rewrite import rewrite_catalog
from astropile.store.protocol import RemoteOptions, plan_fetch, tree_path
from astropile.testing.server import Fault, serve
from astropile.validate import validate_catalog


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("stores")
    toy.write_native(root / "native/a.npz", toy.make_batch(30, seed=1))
    for subset in ("main", "other"):
        build_catalog(toy.SURVEY, root / "native", root / "toy", subset=subset, order=0)
    return root / "toy"


@pytest.fixture
def memory(folder):
    fs = fsspec.filesystem("memory")
    fs.put(str(folder), "/toy", recursive=True)
    yield fs
    fs.rm("/toy", recursive=True)


def test_any_store(memory, folder):
    """Rows, light columns and matches are those of the disk."""
    local, remote = open_catalog(folder, "main"), open_catalog("memory://toy", "main")
    rows = [7, 3, 29, 3]
    for name, values in local.take(rows).items():
        found = remote.take(rows, [name])[name]
        assert all(np.array_equal(a, b) for a, b in zip(found, values, strict=True))
    assert remote.light().equals(local.light())
    assert len(cross_match(local, remote, radius_arcsec=0.1)) == 30


def test_listing(memory):
    """Where folders can be listed, a tree of several subsets names them, one of one opens."""
    with pytest.raises(TreeNotFoundError, match="main, other"):
        open_catalog("memory://toy")
    memory.rm("/toy/other", recursive=True)
    assert open_catalog("memory://toy").subset == "main"
    with pytest.raises(TreeNotFoundError, match="no subset"):
        open_catalog("memory://nothing")


def test_replaced(memory):
    """A shard replaced while the tree is open is noticed (D20)."""
    remote = open_catalog("memory://toy", "main")
    remote.take([0], ["FLUX"])
    path = f"/{remote.shards[0].path.key}"
    path = f"/toy{path}"
    content = memory.cat_file(path)
    memory.pipe_file(path, content)
    with pytest.raises(StoreError, match=r"column 'FLUX', row \d+: expected .* replaced"):
        remote.take([1], ["FLUX"])
    memory.pipe_file(path, content[:-1])
    with pytest.raises(StoreError, match="bytes, found"):
        open_catalog("memory://toy", "main").take([0], ["FLUX"])
    memory.rm(path)
    with pytest.raises(StoreError, match="no such object"):
        open_catalog("memory://toy", "main").take([0], ["FLUX"])


def test_replaced_tree(memory, folder):
    """A tree replaced in a store while it is open is noticed (D20)."""
    remote = open_catalog("memory://toy", "main")
    remote.take([0], ["FLUX"])
    path = "/toy/main/astropile.json"
    memory.pipe_file(path, memory.cat_file(path))
    other = next(row for row in range(30) if remote.shards[-1].start <= row)
    with pytest.raises(FormatError, match="the tree was replaced since it was opened"):
        remote.take([other], ["FLUX"])


def test_other_names(memory, folder):
    """Padded folders are found where a store lists them, and suffixes that the manifest names."""
    expected = open_catalog(folder, "main").take(np.arange(30), ["FLUX"])["FLUX"]
    for path in memory.glob("/toy/main/healpix=*"):
        head, _, pixel = path.rpartition("=")
        memory.mv(path, f"{head}={int(pixel):04d}", recursive=True)
    found = open_catalog("memory://toy", "main").take(np.arange(30), ["FLUX"])["FLUX"]
    np.testing.assert_array_equal(found, expected)
    for path in memory.glob("/toy/main/healpix=*/*.hdf5"):
        memory.mv(path, path.replace(".hdf5", ".h5"))
    with pytest.raises(StoreError, match="no such object"):
        open_catalog("memory://toy", "main").take([0], ["FLUX"])
    for path in memory.glob("/toy/main/manifest/*.json"):
        memory.pipe_file(path, memory.cat_file(path).replace(b".hdf5", b".h5"))
    remote = open_catalog("memory://toy", "main")
    np.testing.assert_array_equal(remote.take(np.arange(30), ["FLUX"])["FLUX"], expected)
    np.testing.assert_array_equal(remote.take([3], ["FLUX"])["FLUX"], expected[3:4])


def cloud(server, bucket="toy", **changes):
    """The server stands in for S3: buckets are its folders, and nothing is signed."""
    settings = {
        "endpoint": server.url,
        "skip_signature": True,
        "virtual_hosted_style_request": False,
        "region": "us-east-1",
        "client_options": {"allow_http": True},
        "retry_config": {"max_retries": 2, "backoff": {"init_backoff": timedelta(seconds=0.01)}},
    }
    options = RemoteOptions(storage_options=settings, **changes)
    return open_catalog(f"s3://{bucket}", "main", remote=options)


def test_s3(folder):
    """Rows and light columns of a tree in a bucket are those of the disk, for as few requests."""
    local = open_catalog(folder, "main")
    with serve(folder.parent) as server:
        remote = cloud(server)
        rows = [7, 3, 29, 3]
        for name, values in local.take(rows).items():
            found = remote.take(rows, [name])[name]
            assert all(np.array_equal(a, b) for a, b in zip(found, values, strict=True))
        assert remote.light(["Z"]).equals(local.light(["Z"]))
        server.clear()
        remote.take(rows, ["FLUX"])
        assert len(server.asked) <= len(rows)
        assert server.asked[0].headers["if-match"].startswith('"')
        again = pickle.loads(pickle.dumps(remote))
        assert np.array_equal(again.take([5], ["FLUX"])["FLUX"], local.take([5], ["FLUX"])["FLUX"])


def test_s3_faults(folder):
    """What a bucket gives otherwise than asked for is an error, never other bytes."""
    faults = [
        Fault(status=200),
        Fault(headers={"Content-Range": "bytes 5-9/10"}),
        Fault(headers={"ETag": '"new"'}),
        Fault(status=404),
        Fault(status=403),
        Fault(status=503),
        Fault(cut=100),
    ]
    for fault in faults:
        with serve(folder.parent) as server:
            remote = cloud(server)
            remote.take([0], ["IMAGE"])
            server.fault = lambda ask, fault=fault: fault if ask.key.endswith("hdf5") else None
            with pytest.raises(StoreError, match="s3://toy/main/healpix="):
                remote.take([0], ["FLUX"])
    with serve(folder.parent) as server, pytest.raises(TreeNotFoundError):
        cloud(server, "nothing")


def test_unknown_kinds():
    """A URL of no known kind is refused; a missing package is named."""
    with pytest.raises(ValueError, match="nosuch"):
        open_catalog("nosuch://bucket/x")
    with pytest.raises(MissingExtraError, match=r"astropile\[remote\]"):
        open_catalog("dropbox://x/y")
    with pytest.raises(ValueError, match="host"):
        tree_path("http:///x")
    with pytest.raises(ValueError, match="connections"):
        RemoteOptions(connections=0)


def test_missing_client(monkeypatch):
    """Without the client a URL asks for the extra."""
    monkeypatch.setitem(__import__("sys").modules, "urllib3", None)
    with pytest.raises(MissingExtraError, match=r"astropile\[remote\]"):
        open_catalog("http://127.0.0.1:9/x")


def test_plan():
    """Near pieces are joined, unless that brings many bytes that nobody wants."""
    starts, lengths = plan_fetch(np.array([0, 40_000]), np.array([1_000_000, 10]), 1)
    assert (starts.tolist(), lengths.tolist()) == ([0], [1_000_000])
    # Rows of one column with others between them: one range each, no byte too many.
    places = 50_000 * np.arange(20)
    starts, lengths = plan_fetch(places, np.full(20, 10_000), 20)
    assert (starts.tolist(), lengths.tolist()) == (places.tolist(), [10_000] * 20)
    # Many small columns of a few rows: few requests.
    starts, lengths = plan_fetch(30_000 * np.arange(40), np.full(40, 8), 2)
    assert len(starts) == 1
    starts, lengths = plan_fetch(np.array([5, 6]), np.array([0, 0]), 1)
    assert len(starts) == 0


def test_spelt_otherwise(memory, folder):
    """Schemes are read in any case, and chains of fsspec's file systems too."""
    expected = open_catalog(folder, "main").take([3], ["FLUX"])["FLUX"]
    for url in ("MEMORY://toy", "simplecache::memory://toy"):
        remote = open_catalog(url, "main")
        np.testing.assert_array_equal(remote.take([3], ["FLUX"])["FLUX"], expected)


def test_errors_below(memory, monkeypatch):
    """Whatever a file system raises becomes an error of the store, by its first line."""

    class StrangeError(Exception):
        pass

    def fail(*_args, **_kwargs):
        raise StrangeError("no credentials\nDebug source: x")

    remote = open_catalog("memory://toy", "main")
    for name in ("cat_file", "info"):
        with monkeypatch.context() as patch:
            patch.setattr(type(memory), name, fail)
            with pytest.raises(StoreError, match=r"StrangeError: no credentials$"):
                remote.take([3], ["FLUX"])
            with pytest.raises(StoreError, match=r"StrangeError: no credentials$"):
                open_catalog("memory://toy", "main")


@pytest.mark.parametrize("command", ["info", "show", "match", "validate", "rewrite"])
def test_urls_on_the_command_line(command, capsys, tmp_path):
    """A URL that cannot be read is refused with the reason, in one line."""
    from astropile.cli.main import main

    more = {"show": ["1"], "match": ["x", "-o", "y"], "rewrite": [str(tmp_path), "--layout=fast"]}
    for url in ("nosuch://bucket/x", "s3://"):
        assert main([command, url, *more.get(command, [])]) == 2
        said = capsys.readouterr().err
        local = command in ("validate", "rewrite")
        assert ("not a URL" if local else f"{url}: ") in said
        assert "tree_path" not in said
        assert "Debug" not in said


def test_store_failure_on_the_command_line(memory, monkeypatch, capsys):
    """A store that fails ends a command with the exit status of networks."""
    from astropile.cli.main import main

    def fail(*_args, **_kwargs):
        raise RuntimeError("gone")

    monkeypatch.setattr(type(memory), "cat_file", fail)
    assert main(["info", "memory://toy/main"]) == 5
    assert "RuntimeError: gone" in capsys.readouterr().err


def test_only_trees_on_this_machine(memory, tmp_path):
    """What is not there is named; checks and rewrites of trees behind URLs are refused in words."""
    positions = {"ra": [1.0], "dec": [2.0]}
    with pytest.raises(TreeNotFoundError, match=r"a\.parquet: there is no such file"):
        cross_match(positions, "memory://toy/a.parquet", radius_arcsec=1.0)
    with pytest.raises(TreeNotFoundError, match="on this machine"):
        validate_catalog("memory://toy/main")
    with pytest.raises(BuildError, match="on this machine"):
        rewrite_catalog("memory://toy/main", tmp_path, layout="fast")
